import assert from 'node:assert/strict';
import { test } from 'node:test';
import { formatMs, formatPercent, formatRate, formatShort, shortId, splitRoute } from '../../src/lib/format';
import {
  ago,
  formatDuration,
  microAfter,
  momentMs,
  parseDuration,
  parseTime,
  readShown,
  timeParts,
  timeText,
  toRFC3339,
  utcText,
  zone,
  zoneName,
} from '../../src/lib/time';

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
  assert.deepEqual(timeParts('2026-01-31T12:00:00.123456Z'), { date: '2026-01-31', clock: '12:00:00.123' });
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

test('times are shown and read in the zone chosen, also where clocks change; UTC stays UTC', () => {
  const before = process.env.TZ;
  process.env.TZ = 'Europe/Berlin'; // clocks go forward on 29 March 2026 at 01:00 UTC
  try {
    const time = '2026-03-28T23:30:00.123456Z';
    assert.equal(timeText(time, 6), '2026-03-28 23:30:00.123456 UTC');
    zone.set('local');
    assert.equal(timeText(time, 6), '2026-03-29 00:30:00.123456 UTC+1');
    assert.deepEqual(timeParts(time), { date: '2026-03-29', clock: '00:30:00.123' });
    assert.equal(timeText('2026-03-29T01:00:00.000000Z'), '2026-03-29 03:00:00 UTC+2');
    assert.equal(utcText(time), '2026-03-28 23:30:00 UTC');
    for (const moment of [
      '2026-03-28T23:30:00Z',
      '2026-03-29T00:59:59Z',
      '2026-03-29T01:00:00Z',
      '2026-07-01T12:00:00Z',
      '2026-10-25T00:30:00Z',
      '2026-10-25T01:30:00Z',
    ]) {
      const ms = Date.parse(moment);
      const read = readShown(timeText(moment).slice(0, 19));
      // The hour that comes twice in October may mean either.
      assert.ok(read === ms || (moment.startsWith('2026-10-25') && Math.abs(read! - ms) === 3_600_000), moment);
    }
    assert.equal(readShown('2026-07-01 12:00 UTC'), Date.parse('2026-07-01T12:00:00Z'));
    assert.equal(readShown('2026-07-01'), Date.parse('2026-06-30T22:00:00Z'));
    assert.equal(readShown('2026-02-30'), null);
    process.env.TZ = 'Asia/Kolkata';
    assert.equal(zoneName(0), 'UTC+5:30');
    process.env.TZ = 'America/St_Johns';
    assert.equal(zoneName(Date.parse('2026-01-01T00:00:00Z')), 'UTC-3:30');
  } finally {
    zone.set('utc');
    if (before === undefined) delete process.env.TZ;
    else process.env.TZ = before;
  }
  assert.equal(zoneName(0), 'UTC');
});
