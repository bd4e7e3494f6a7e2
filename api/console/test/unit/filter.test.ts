import assert from 'node:assert/strict';
import { test } from 'node:test';
import { addCondition, callOf, filterOf, inView, namesCalls, VIEWS, withFilter, withView } from '../../src/lib/filter';
import { agentName } from '../../src/lib/format';

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

test('programs have the names that people call them by', () => {
  const like = 'AppleWebKit/537.36 (KHTML, like Gecko)';
  for (const [agent, name] of [
    [`Mozilla/5.0 (X11; Linux x86_64) ${like} Chrome/141.0.0.0 Safari/537.36`, 'Chrome 141'],
    [`Mozilla/5.0 (X11; Linux x86_64) ${like} HeadlessChrome/140.0.0.0 Safari/537.36`, 'Chrome 140'],
    [`Mozilla/5.0 (Windows NT 10.0; Win64; x64) ${like} Chrome/141.0.0.0 Safari/537.36 Edg/141.0.1.2`, 'Edge 141'],
    [`Mozilla/5.0 (Windows NT 10.0) ${like} Chrome/130.0.0.0 Safari/537.36 OPR/115.0.0.0`, 'Opera 115'],
    ['Mozilla/5.0 (X11; Linux x86_64; rv:144.0) Gecko/20100101 Firefox/144.0', 'Firefox 144'],
    ['Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/18.1 Safari/605.1.15', 'Safari 18'],
    ['Mozilla/5.0 (iPhone) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/18.1 Mobile/15E148 Safari/604.1', 'Safari 18'],
    ['Mozilla/5.0 (compatible; somebot)', 'Mozilla'],
    ['argusctl/1.2 Chrome/9', 'argusctl'],
    ['', ''],
  ]) {
    assert.equal(agentName(agent!), name, agent);
  }
});

test('ids name calls of any time, but not when they are excluded; views replace each other', () => {
  const id = { name: 'id', not: false, value: '0199F3A0-0000-7000-8000-000000000001' };
  assert.equal(callOf([id]), id.value.toLowerCase());
  assert.equal(callOf([id, { ...id, value: '0199f3a0-0000-7000-8000-000000000002' }]), null);
  assert.equal(callOf([{ ...id, not: true }]), null);
  assert.ok(namesCalls([{ name: 'trace_id', not: false, value: 'f'.repeat(32) }]));
  assert.ok(!namesCalls([{ ...id, not: true }]));

  let filter = filterOf(new URLSearchParams('service=argus&status=500&not_method=GET'));
  assert.deepEqual(VIEWS.map(([name, view]) => (inView(filter, view) ? name : '')).join(''), '');
  for (const [name, view] of VIEWS) {
    filter = withView(filter, view);
    assert.deepEqual(
      VIEWS.filter(([, v]) => inView(filter, v)).map(([n]) => n),
      [name],
    );
    assert.ok(filter.conditions.some((t) => t.name === 'service'));
  }
});
