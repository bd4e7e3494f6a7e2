import assert from 'node:assert/strict';
import { test } from 'node:test';
import table from '../../../../testdata/text.json';
import { given, shown } from '../../src/lib/text';

// The same table holds the server and the CLI, in text_test.go.
test('texts are shown as the CLI shows them', () => {
  assert.ok(table.shown.length > 80);
  for (const c of table.shown) assert.equal(shown(c.text), c.shown, JSON.stringify(c.text));
});

test('halves of surrogate pairs are shown as escapes', () => {
  assert.equal(shown('a\ud800b'), 'a\\ud800b');
  assert.equal(shown('\udc00\ud83d'), '\\udc00\\ud83d');
  assert.equal(shown('\ud83d\ude00'), '😀');
});

test('what a person gives is kept or rejected as by the server', () => {
  assert.ok(table.given.length > 50);
  for (const c of table.given as { text: string; kept?: string; error?: string }[]) {
    assert.deepEqual(given('reason', c.text, 3, 500), { kept: c.kept ?? '', error: c.error ?? null }, JSON.stringify(c.text).slice(0, 80));
  }
  assert.match(given('reason', 'abc\ud800', 3, 500).error!, /cannot be read/);
});

test('what is shown is shown as itself', () => {
  for (let code = 0; code <= 0x10ffff; code++) {
    const once = shown(`a${String.fromCodePoint(code)}b`);
    if (shown(once) !== once) assert.fail(code.toString(16));
  }
});
