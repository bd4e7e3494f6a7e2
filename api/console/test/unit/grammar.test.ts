import assert from 'node:assert/strict';
import { test } from 'node:test';
import table from '../../../../testdata/grammar.json';
import { AUDIT_LINK, COMPUTE_LINK, type Link, linkProblems, NO_LINK, PERFORMANCE_LINK, ROUTE_LINK, TENANTS_LINK, TOKENS_LINK } from '../../src/lib/link';
import { durationProblem, momentMs, momentProblem, parseDuration, readShown, zone } from '../../src/lib/time';

const now = Date.parse(table.now);
const said = (query: string, link: Link) => linkProblems(query, link, now).map((p) => p.message);

// The same table holds the server, in grammar_test.go.
test('times are the server’s', () => {
  for (const c of table.times as { text: string; at?: string; error?: string }[]) {
    assert.equal(momentProblem(c.text), c.error ?? null, c.text);
    if (c.at) assert.equal(momentMs(c.text, now), Date.parse(c.at), c.text);
  }
});

test('what a person types in the time picker is read as argusctl reads it', () => {
  const before = process.env.TZ;
  process.env.TZ = 'Europe/Berlin';
  try {
    for (const c of table.typed as { text: string; at?: string; end?: boolean; local?: boolean; server?: boolean }[]) {
      zone.set(c.local ? 'local' : 'utc');
      if (!c.server && !/9999|1960/.test(c.text)) assert.equal(readShown(c.text, now, c.end), c.at ? Date.parse(c.at) : null, c.text);
    }
  } finally {
    zone.set('utc');
    process.env.TZ = before;
  }
});

test('lengths of time are the server’s', () => {
  for (const c of table.durations as { text: string; us?: number; error?: string }[]) {
    assert.equal(durationProblem(c.text), c.error ?? null, c.text);
    if (c.us) assert.equal(parseDuration(c.text), c.us / 1000, c.text);
  }
});

test('queries are the server’s, and so is what is said of them', () => {
  for (const c of table.queries as { query: string; error?: string }[]) {
    for (const link of [AUDIT_LINK, PERFORMANCE_LINK])
      assert.deepEqual(said(c.query, link), c.error ? Array(said(c.query, link).length || 1).fill(c.error) : [], c.query);
  }
});

test('each page reads its own names and no others', () => {
  const id = '0198c9a2-5f44-7aaa-8bbb-0123456789ab';
  const good: [Link, string][] = [
    [AUDIT_LINK, `row=${id}&order=asc&status=4xx`],
    [AUDIT_LINK, 'live=1&since=1h'],
    [AUDIT_LINK, 'live=1&order=desc'],
    [PERFORMANCE_LINK, 'by=client&sort=p99&dir=asc&since=24h'],
    [ROUTE_LINK, 'route=GET+/v1/tenants&since=1h&not_actor=x'],
    [ROUTE_LINK, 'route=a&from=2026-01-31T12:00:00Z&to=2026-01-31T12:00:01Z&differs=slow&beside=before&before=1'],
    [COMPUTE_LINK, 'all=1&worker=wkr_1'],
    [TENANTS_LINK, 'tenant=UTD_7ELEVEN_001'],
    [NO_LINK, ''],
    [TOKENS_LINK, 'new=1&name=from%20a%20link&scopes=logs:read,tenants:read&expires_in=7d'],
    [TOKENS_LINK, 'new=1&preset=admin-full'],
  ];
  for (const [link, query] of good) assert.deepEqual(said(query, link), [], query);
  const bad: [Link, string, string][] = [
    [AUDIT_LINK, 'row=1', 'An audit id has 36 characters, like 01976d3e-7c2a-7b1e-9f00-0123456789ab.'],
    [AUDIT_LINK, `row=${id}&row=${id}`, 'Give row once.'],
    [AUDIT_LINK, 'order=down', 'order must be asc or desc.'],
    [AUDIT_LINK, 'live=yes', 'live must be 1.'],
    [AUDIT_LINK, 'live=1&until=1h', 'live=1 goes on from now, newest first: it excludes until.'],
    [AUDIT_LINK, 'live=1&order=asc', 'live=1 goes on from now, newest first: it excludes order.'],
    [AUDIT_LINK, 'limit=10', 'There is no parameter "limit" here.'],
    [AUDIT_LINK, 'snapshot=1', 'There is no parameter "snapshot" here.'],
    [AUDIT_LINK, 'cursor=x', 'There is no parameter "cursor" here.'],
    [AUDIT_LINK, 'constructor=x', 'There is no parameter "constructor" here.'],
    [PERFORMANCE_LINK, 'by=colour', 'by must be route, service, release, actor, tenant, method, actor_kind, client or status_class.'],
    [PERFORMANCE_LINK, 'sort=p42', 'sort must be group, count, rpm, error_rate, client_error_rate, p50, p95, p99, max or regression.'],
    [PERFORMANCE_LINK, 'dir=up', 'dir must be asc or desc.'],
    [PERFORMANCE_LINK, `row=${id}`, 'There is no parameter "row" here.'],
    [ROUTE_LINK, 'since=1h', 'This page is about one route: give route once.'],
    [ROUTE_LINK, 'route=a&route=b', 'This page is about one route: give route once.'],
    [ROUTE_LINK, 'route=a&differs=odd', 'differs must be slow, failed, interrupted or all.'],
    [ROUTE_LINK, 'route=a&from=2026-01-31T12:00:00Z', 'A range has both from and to.'],
    [ROUTE_LINK, 'route=a&from=1h&to=1m', 'from must be a time like 2026-01-31T12:00:00Z.'],
    [ROUTE_LINK, 'route=a&from=2026-01-31T12:00:00Z&to=2026-01-31T12:00:00Z', 'to must lie behind from.'],
    [COMPUTE_LINK, 'all=true', 'all must be 1.'],
    [COMPUTE_LINK, 'worker=', 'worker must have 1 to 256 characters.'],
    [TENANTS_LINK, 'since=1h', 'There is no parameter "since" here.'],
    [TENANTS_LINK, 'tenant=a&tenant=b', 'Give tenant once.'],
    [TOKENS_LINK, 'new=1&preset=root', 'preset must be support-readonly or admin-full.'],
    [TOKENS_LINK, 'new=1&preset=admin-full&scopes=logs:read', 'Give either preset or scopes.'],
    [TOKENS_LINK, 'new=1&expires_in=forever', '"forever" is no length of time; write it like 90s, 5m, 1h or 7d.'],
    [TOKENS_LINK, 'new=1&expires_in=366d', 'expires_in is 365d at most.'],
    [NO_LINK, 'since=1h', 'There is no parameter "since" here.'],
  ];
  for (const [link, query, message] of bad) assert.ok(said(query, link).includes(message), `${query}: ${said(query, link)}`);
  assert.match(said('scopes=logs:read,all', TOKENS_LINK)[0]!, /^There is no scope "all"; the scopes are logs:read, /);
});

test('a problem names the part of the link, and every part is looked at', () => {
  assert.deepEqual(
    linkProblems('since=yesterday&status=5xx&colour=red&row=x', AUDIT_LINK, now).map((p) => p.part),
    ['row=x', 'since=yesterday', 'colour=red'],
  );
});
