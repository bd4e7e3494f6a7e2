import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { Condition } from '../../src/lib/filter';
import { format, parse, quote, wordAt, words } from '../../src/lib/syntax';

const condition = (name: string, value: string, not = false): Condition => ({ name, value, not });

test('the example of the design', () => {
  const p = parse('actor:user_ABC route:"GET /v1/tenants/:id" status:5xx -client:argusctl latency_min:500ms');
  assert.deepEqual(p.problems, []);
  assert.deepEqual(p.conditions, [
    condition('actor', 'user_ABC'),
    condition('route', 'GET /v1/tenants/:id'),
    condition('status', '5xx'),
    condition('client', 'argusctl', true),
    condition('latency_min', '500ms'),
  ]);
});

test('since and until set the window', () => {
  const p = parse('since:1h until:2026-01-31T12:00:00Z');
  assert.deepEqual([p.since, p.until, p.conditions.length, p.problems.length], ['1h', '2026-01-31T12:00:00Z', 0, 0]);
  assert.match(parse('since:yesterday').since ?? '', /^\d{4}-\d\d-\d\dT/);
  assert.match(parse('since:10:00').since ?? '', /T10:00:00/);
  assert.equal(parse('since:whenever').problems.length, 1);
  assert.equal(parse('-since:yesterday').problems.length, 1);
  assert.equal(parse('-since:1h').problems.length, 1);
});

test('bare words are taken for what they look like', () => {
  const guess = (text: string) => parse(text).conditions[0];
  assert.deepEqual(guess('user_2abcDEF'), condition('actor', 'user_2abcDEF'));
  assert.deepEqual(guess('5xx'), condition('status', '5xx'));
  assert.deepEqual(guess('>=500'), condition('status', '>=500'));
  assert.deepEqual(guess('-404'), condition('status', '404', true));
  assert.deepEqual(guess('/v1/tenants/:id'), condition('route', '/v1/tenants/:id'));
  assert.deepEqual(guess('/v1/*'), condition('route', '/v1/*'));
  assert.deepEqual(guess('"GET /v1/health"'), condition('route', 'GET /v1/health'));
  assert.deepEqual(guess('POST'), condition('method', 'POST'));
  assert.deepEqual(guess('192.0.2.7'), condition('client_ip', '192.0.2.7'));
  assert.deepEqual(guess('10.0.0.0/8'), condition('client_ip', '10.0.0.0/8'));
  assert.deepEqual(guess('UTD_7ELEVEN_001'), condition('tenant', 'UTD_7ELEVEN_001'));
  assert.deepEqual(guess('0198c9a2-5f44-7aaa-8bbb-0123456789ab'), condition('id', '0198c9a2-5f44-7aaa-8bbb-0123456789ab'));
});

test('what is not understood is said, and the rest counts', () => {
  const p = parse('status:banana frobnicate status:403 colour:red');
  assert.deepEqual(p.conditions, [condition('status', '403')]);
  assert.deepEqual(
    p.problems.map((x) => [x.start, x.end]),
    [
      [0, 13],
      [14, 24],
      [36, 46],
    ],
  );
  assert.match(p.problems[0]!.message, /\(403\), a class/);
  assert.match(p.problems[1]!.message, /user_agent:frobnicate/);
  assert.match(p.problems[2]!.message, /colour/);
});

test('quotes, escapes, and a quote left open', () => {
  assert.deepEqual(parse(String.raw`user_agent:"say \"hi\" \\ there"`).conditions, [condition('user_agent', String.raw`say "hi" \ there`)]);
  assert.equal(parse('route:"GET /v1').problems[0]!.message, 'A quote is not closed.');
  assert.deepEqual(parse('user_agent:""').conditions, [condition('user_agent', '')]);
  assert.equal(parse('actor:').problems.length, 1);
});

test('values keep colons, commas and equal signs', () => {
  assert.deepEqual(parse('user_agent:a:b,c=d client_ip:2001:db8::/32').conditions, [
    condition('user_agent', 'a:b,c=d'),
    condition('client_ip', '2001:db8::/32'),
  ]);
});

test('path parameters by name', () => {
  assert.deepEqual(parse('param.id:W-1 -param.session_2:x').conditions, [condition('param.id', 'W-1'), condition('param.session_2', 'x', true)]);
  assert.equal(parse('param:x').problems.length, 1);
});

test('methods are upper-cased, as the server does', () => {
  assert.deepEqual(parse('method:post').conditions, [condition('method', 'POST')]);
});

test('format is the inverse of parse', () => {
  const values = ['', 'plain', 'two words', 'quo"te', 'back\\slash', '\\"', ':', '-', '"', 'tab\there', '日本語', '>=500', '<script>'];
  for (const value of values) {
    for (const not of [false, true]) {
      const t = condition('user_agent', value, not);
      assert.deepEqual(parse(format(t)).conditions, [t], format(t));
    }
  }
  assert.equal(quote('a b'), '"a b"');
});

test('no text breaks the parser', () => {
  let seed = 7;
  const random = () => (seed = (seed * 48271) % 2147483647) / 2147483647;
  const alphabet = 'ab:"\\- .\t<>=5x_/é😀'.split('');
  for (let n = 0; n < 20_000; n++) {
    const text = Array.from({ length: Math.floor(random() * 24) }, () => alphabet[Math.floor(random() * alphabet.length)]).join('');
    const p = parse(text);
    let end = 0;
    for (const w of words(text)) {
      assert.ok(w.start >= end && w.end > w.start && w.end <= text.length, text);
      end = w.end;
    }
    for (const t of p.conditions) assert.deepEqual(parse(format(t)).conditions, [t], text);
  }
});

test('the word at the caret', () => {
  const text = 'status:5xx  -actor:us';
  assert.equal(wordAt(text, 3)!.name, 'status');
  assert.equal(wordAt(text, 11), null);
  const w = wordAt(text, text.length)!;
  assert.deepEqual([w.name, w.value, w.not, w.start, w.valueStart], ['actor', 'us', true, 12, 19]);
  assert.equal(wordAt('', 0), null);
});
