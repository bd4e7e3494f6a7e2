import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { PerfRow } from '../../src/lib/types.ts';
import { conditionOf } from '../../src/perf/condition.ts';
import { regressionOf } from '../../src/perf/regression.ts';

const plain: PerfRow = { count: 9, interrupted: 0, rpm: 1, error_rate: 0, client_error_rate: 0, p50_ms: 10, p95_ms: 20, p99_ms: 40, max_ms: 50 };
const row = (now: Partial<PerfRow>, before: Partial<PerfRow>, changed: string[]): PerfRow => ({ ...plain, ...now, before: { ...plain, ...before }, changed });

test('the regression of a row is what grew most beyond noise, as argusctl sorts it', () => {
  for (const [what, found, want] of [
    ['load', row({ rpm: 900 }, {}, ['rpm']), null],
    ['noise', row({ p99_ms: 900 }, {}, []), null],
    ['faster', row({ p95_ms: 2 }, {}, ['p95']), null],
    ['from nothing', row({ p50_ms: 90 }, { p50_ms: null }, ['p50']), null],
    ['from zero', row({ p50_ms: 90 }, { p50_ms: 0 }, ['p50']), null],
    ['alone', { ...plain, changed: ['p95'] }, null],
    ['twice and thrice', row({ p50_ms: 20, p99_ms: 120 }, {}, ['p50', 'p99']), 'p99 ×3.0'],
    ['much', row({ p95_ms: 400 }, {}, ['p95']), 'p95 ×20'],
    ['failing', row({ error_rate: 0.09, p50_ms: 20 }, {}, ['error_rate', 'p50']), '5xx +9.0 %'],
  ] as [string, PerfRow, string | null][])
    assert.equal(regressionOf(found)?.text ?? null, want, what);
});

test('a value that departs becomes the filter that finds it, or none', () => {
  assert.deepEqual(conditionOf('status', 'interrupted'), { name: 'outcome', not: false, value: 'interrupted' });
  assert.deepEqual(conditionOf('status', '503'), { name: 'status', not: false, value: '503' });
  assert.deepEqual(conditionOf('client', ''), { name: 'client', not: false, value: '' });
  for (const dimension of ['tenant', 'agent', 'release', 'error_code']) assert.equal(conditionOf(dimension, ''), null);
});
