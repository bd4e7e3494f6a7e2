import assert from 'node:assert/strict';
import { test } from 'node:test';
import golden from '../../../../testdata/proofs.json';
import type { Row } from '../../src/lib/types';

// The setting is read when the module is.
const kept = new Map<string, string>();
Object.assign(globalThis, {
  localStorage: { getItem: (k: string) => kept.get(k) ?? null, setItem: (k: string, v: string) => kept.set(k, v), removeItem: (k: string) => kept.delete(k) },
});
const { checkProof, parseKey } = await import('../../src/lib/proof');

const cases = Object.entries(golden.files as Record<string, string>).map(([row, file]) => [JSON.parse(row) as Row, file] as const);

test('proofs that the server’s own code accepts are verified, each hash computed here', async () => {
  assert.ok(cases.length > 10);
  for (const [row, file] of cases) {
    const found = await checkProof(row, file, golden.key);
    assert.equal(found.outcome, 'verified', JSON.stringify([row, found]));
    assert.equal((await checkProof(row, file, null)).outcome, 'unsigned', 'without a pinned key nothing is verified');
  }
});

test('another row, way, root, signature or key is never verified', async () => {
  const [row, file] = cases[3]!;
  for (const change of [
    { method: 'PUT' },
    { status: (row.status ?? 0) + 1 },
    { row_hash: `0${row.row_hash.slice(1)}` === row.row_hash ? `1${row.row_hash.slice(1)}` : `0${row.row_hash.slice(1)}` },
    { user_agent: `${row.user_agent}x` },
    { seq: row.seq + 1 },
  ]) {
    assert.equal((await checkProof({ ...row, ...change }, file, golden.key)).outcome, 'wrong', JSON.stringify(change));
  }
  assert.equal((await checkProof(cases[4]![0], file, golden.key)).outcome, 'wrong');
  const lines = file.split('\n');
  for (let i = 0; i < lines.length; i++) {
    if (lines[i] === '') continue;
    const at = Math.min(9, lines[i]!.length - 1);
    const other = lines[i]![at] === 'A' ? 'B' : 'A';
    const altered = lines.map((l, j) => (j === i ? l.slice(0, at) + other + l.slice(at + 1) : l)).join('\n');
    const found = await checkProof(row, altered, golden.key);
    assert.notEqual(found.outcome, 'verified', `line ${i}: ${lines[i]}`);
  }
  assert.equal(await parseKey(golden.key.replace('+', '+0')), null);
  assert.notEqual(await parseKey(golden.key), null);
  assert.equal((await checkProof(row, file, golden.key.replace('argus', 'other'))).outcome, 'unsigned');
});
