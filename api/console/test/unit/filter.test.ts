import assert from 'node:assert/strict';
import { test } from 'node:test';
import { addTerm, filterOf, valueProblem, withFilter } from '../../src/lib/filter';

test('a filter goes through a query unchanged', () => {
  const filter = {
    terms: [
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

test('names that are none stay out, wrong moments too', () => {
  const f = filterOf(new URLSearchParams('row=x&frob=1&not_status=404&since=never&param.=1&status=404&status=404'));
  assert.deepEqual(f, {
    terms: [
      { name: 'status', not: true, value: '404' },
      { name: 'status', not: false, value: '404' },
    ],
    since: '',
    until: '',
  });
});

test('the newer sign of a condition wins', () => {
  const f = filterOf(new URLSearchParams('status=404&actor=a'));
  assert.deepEqual(addTerm(f, { name: 'status', not: true, value: '404' }).terms, [
    { name: 'actor', not: false, value: 'a' },
    { name: 'status', not: true, value: '404' },
  ]);
});

test('values are held to what the server takes', () => {
  const good: [string, string][] = [
    ['status', '403'], ['status', '5xx'], ['status', '<=299'], ['latency_min', '1s500ms'], ['client_ip', '::1'],
    ['client_ip', '192.0.2.0/24'], ['user_agent', ''], ['param.id', ''], ['outcome', 'interrupted'],
  ];
  const bad: [string, string][] = [
    ['status', '099'], ['status', '20'], ['status', '=500'], ['latency_min', '1'], ['latency_min', '1s1s'],
    ['client_ip', 'host'], ['actor', ''], ['pat', 'x'], ['actor_kind', 'user'], ['user_agent', 'x'.repeat(1025)],
  ];
  for (const [name, value] of good) assert.equal(valueProblem(name, value), null, `${name}=${value}`);
  for (const [name, value] of bad) assert.notEqual(valueProblem(name, value), null, `${name}=${value}`);
});
