import assert from 'node:assert/strict';
import { test } from 'node:test';
import { formatMs, formatPercent, formatRate, formatShort, shortId, splitRoute } from '../../src/lib/format';
import { ago, formatDuration, microAfter, momentMs, parseDuration, parseTime, toRFC3339, utcParts, utcText } from '../../src/lib/time';

test('lengths of time', () => {
  assert.equal(parseDuration('90s'), 90_000);
  assert.equal(parseDuration('1h30m'), 5_400_000);
  assert.equal(parseDuration('7d'), 604_800_000);
  assert.equal(parseDuration('250ms'), 250);
  for (const bad of ['', '5', 'h', '1h1h', '-1h', '1.5h', '0s', '1y', '9999w']) assert.equal(parseDuration(bad), null, bad);
  assert.equal(formatDuration(5_400_000), '1h 30m');
  assert.equal(formatDuration(45_000), '45s');
  assert.equal(formatDuration(0), '0s');
  assert.equal(formatDuration(90_061_000), '1d 1h');
});

test('moments', () => {
  assert.equal(parseTime('2026-01-31T12:00:00.000000Z'), Date.UTC(2026, 0, 31, 12));
  assert.equal(parseTime('2026-01-31T12:00:00+02:00'), Date.UTC(2026, 0, 31, 10));
  assert.equal(parseTime('2026-01-31'), null);
  assert.equal(parseTime('2026-13-31T12:00:00Z'), null);
  assert.equal(momentMs('1h', 3_600_000), 0);
  assert.equal(toRFC3339(Date.UTC(2026, 0, 31, 12)), '2026-01-31T12:00:00Z');
  assert.equal(toRFC3339(Date.UTC(2026, 0, 31, 12, 0, 0, 250)), '2026-01-31T12:00:00.250Z');
});

test('a microsecond later', () => {
  assert.equal(microAfter('2026-01-31T12:00:00.000000Z'), '2026-01-31T12:00:00.000001Z');
  assert.equal(microAfter('2026-01-31T12:00:00.099999Z'), '2026-01-31T12:00:00.100000Z');
  assert.equal(microAfter('2025-12-31T23:59:59.999999Z'), '2026-01-01T00:00:00.000000Z');
});

test('times are shown as they are written', () => {
  assert.deepEqual(utcParts('2026-01-31T12:00:00.123456Z'), { date: '2026-01-31', clock: '12:00:00.123' });
  assert.equal(utcText('2026-01-31T12:00:00.123456Z'), '2026-01-31 12:00:00 UTC');
  assert.equal(utcText('2026-01-31T12:00:00.123456Z', 6), '2026-01-31 12:00:00.123456 UTC');
  assert.equal(ago(0, 65_000), '1m ago');
  assert.equal(ago(65_000, 0), 'in 1m');
  assert.equal(ago(0, 500), 'now');
  assert.equal(ago(3000, 0), 'now');
});

test('figures', () => {
  assert.deepEqual([null, 0.84, 12.34, 440, 1240, 65_000].map(formatMs), ['–', '0.84 ms', '12.3 ms', '440 ms', '1.24 s', '65.0 s']);
  assert.deepEqual([0, 0.00004, 0.004, 0.125, 1].map(formatPercent), ['0 %', '< 0.01 %', '0.40 %', '12.5 %', '100 %']);
  assert.deepEqual([0, 0.001, 0.05, 12, 12_345].map(formatRate), ['0', '< 0.01', '0.05', '12.0', '12,345']);
  assert.deepEqual([7, 999, 1200, 45_000, 3_400_000].map(formatShort), ['7', '999', '1.2k', '45k', '3.4M']);
  assert.equal(shortId('user_2abcdefghijklmnop'), 'user_2…klmnop');
  assert.deepEqual(splitRoute('GET /v1/x'), { method: 'GET', path: '/v1/x' });
});
