import assert from 'node:assert/strict';
import { test } from 'node:test';
import { addCondition, filterOf, withFilter } from '../../src/lib/filter';

test('a filter goes through a query unchanged', () => {
  const filter = {
    conditions: [
      { name: 'actor', not: false, value: 'user_A' },
      { name: 'actor', not: false, value: 'user_B' },
      { name: 'route', not: true, value: 'GET /v1/tenants/:id' },
      { name: 'param.id', not: false, value: 'a=b&c' },
      { name: 'user_agent', not: true, value: '<b>"x"</b>' },
    ],
    since: '7d',
    until: '2026-01-31T12:00:00Z',
  };
  const query = withFilter(new URLSearchParams('live=1&status=404&since=1h'), filter);
  assert.equal(query.get('live'), '1');
  assert.equal(query.get('status'), null);
  assert.deepEqual(filterOf(new URLSearchParams(query.toString())), filter);
});

test('the newer sign of a condition wins', () => {
  const f = filterOf(new URLSearchParams('status=404&actor=a'));
  assert.deepEqual(addCondition(f, { name: 'status', not: true, value: '404' }).conditions, [
    { name: 'actor', not: false, value: 'a' },
    { name: 'status', not: true, value: '404' },
  ]);
});
