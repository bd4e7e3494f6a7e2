import { useEffect, useState } from 'preact/hooks';
import { cut, quoted } from './quote';
import { Store } from './store';

const UNITS: [string, number][] = [
  ['w', 604_800_000],
  ['d', 86_400_000],
  ['h', 3_600_000],
  ['m', 60_000],
  ['s', 1000],
  ['ms', 1],
];

/** Milliseconds of a length of time such as 500ms, 90s, 1h30m or 7d; null when it is none. */
export function parseDuration(text: string): number | null {
  if (!/^(\d+(us|ms|s|m|h|d|w))+$/.test(text)) return null;
  let total = 0;
  const seen = new Set<string>();
  for (const [, digits, unit] of text.matchAll(/(\d+)(us|ms|s|m|h|d|w)/g)) {
    if (seen.has(unit!)) return null;
    seen.add(unit!);
    total += Number(digits) * (unit === 'us' ? 0.001 : UNITS.find(([name]) => name === unit)![1]);
  }
  return total > 0 && total <= 3650 * 86_400_000 ? total : null;
}

/** A length of time in its two largest units: 1h30m, 45s, 250ms. */
export function formatDuration(ms: number): string {
  let rest = Math.max(0, Math.round(ms));
  const parts: string[] = [];
  for (const [name, size] of UNITS) {
    if (name === 'w' || (name === 'ms' && parts.length > 0)) continue;
    const n = Math.floor(rest / size);
    rest -= n * size;
    if (n > 0) parts.push(`${n}${name}`);
    if (parts.length === 2) break;
  }
  return parts.join(' ') || '0s';
}

const RFC3339 = /^(\d{4}-\d\d-\d\d)[Tt ]((?:[01]\d|2[0-3]):[0-5]\d:[0-5]\d)(\.\d+)?(?:[Zz]|([+ -])((?:[01]\d|2[0-3]):[0-5]\d))$/;

/** The moment in milliseconds since 1970 of an RFC 3339 time, as argus.ParseTime reads it; null when it is none. */
export function parseTime(text: string): number | null {
  const m = RFC3339.exec(text);
  if (!m) return null;
  const day = Date.parse(`${m[1]}T00:00:00Z`);
  // Date.parse takes the 30th of February for the 2nd of March.
  if (Number.isNaN(day) || new Date(day).toISOString().slice(0, 10) !== m[1]) return null;
  // What + becomes in a link that was not escaped is a blank; nothing else can stand there.
  const offset = m[5] ? (m[4] === '-' ? '-' : '+') + m[5] : 'Z';
  return Date.parse(`${m[1]}T${m[2]}${(m[3] ?? '').slice(0, 4)}${offset}`);
}

const FIRST = Date.UTC(1970, 0);
const LAST = Date.UTC(2201, 0);

/** Why a text is no time that a query may use, in the server's words; null when it is one. */
export function momentProblem(text: string): string | null {
  if (parseDuration(text) !== null) return null;
  const time = parseTime(text);
  const shown = quoted(cut(text, 40));
  if (time === null) return `${shown} is no time; write RFC 3339 (2026-01-31T12:00:00Z) or a length of time before now (90s, 5m, 1h, 7d).`;
  return time < FIRST || time >= LAST ? `${shown} lies outside the years 1970 to 2200.` : null;
}

/** Why a text is no length of time, in the server's words; null when it is one. */
export function durationProblem(text: string): string | null {
  return parseDuration(text) !== null ? null : `${quoted(cut(text, 40))} is no length of time; write it like 90s, 5m, 1h or 7d.`;
}

/** The moment a since or until means, in milliseconds since 1970. */
export function momentMs(text: string, now: number): number | null {
  const duration = parseDuration(text);
  return duration === null ? parseTime(text) : now - duration;
}

/** RFC 3339 in UTC, without digits that say nothing. */
export function toRFC3339(ms: number): string {
  return new Date(ms).toISOString().replace('.000Z', 'Z');
}

/** The time one microsecond after a time with six digits. */
export function microAfter(time: string): string {
  const micros = Number(time.slice(20, 26)) + 1;
  if (micros < 1_000_000) return `${time.slice(0, 20)}${String(micros).padStart(6, '0')}Z`;
  return `${new Date(Date.parse(`${time.slice(0, 19)}Z`) + 1000).toISOString().slice(0, 19)}.000000Z`;
}

/** "2026-01-31" and "12:00:00.123" of a time as the API writes it: no time zone but UTC, no rounding. */
export function utcParts(time: string): { date: string; clock: string } {
  return { date: time.slice(0, 10), clock: time.slice(11, 23) };
}

/** "2026-01-31 12:00:00 UTC", to the digits asked for. */
export function utcText(time: string, digits = 0): string {
  return `${time.slice(0, 10)} ${time.slice(11, digits > 0 ? 20 + digits : 19)} UTC`;
}

export function utcOf(ms: number, digits = 0): string {
  return utcText(new Date(ms).toISOString(), digits);
}

/** How long ago a moment was, in one unit: "12s ago". */
export function ago(ms: number, now: number): string {
  const past = now - ms;
  // A moment ahead is no more than two clocks that differ.
  if (past < 1000 && past > -5000) return 'now';
  const duration = Math.abs(past);
  for (const [name, size] of UNITS) {
    if (name === 'w' || duration < size) continue;
    const text = `${Math.floor(duration / size)}${name}`;
    return past > 0 ? `${text} ago` : `in ${text}`;
  }
  return 'now';
}

let offset = 0;

/** Learns the difference between this machine's clock and the server's from a Date header. */
export function learnClock(header: string | null): void {
  const server = header ? Date.parse(header) : NaN;
  if (Number.isNaN(server)) return;
  const gap = server + 500 - Date.now(); // the header has whole seconds
  offset = Math.abs(gap) < 2000 ? 0 : gap;
}

/** The server's time in milliseconds since 1970, within a second. */
export function now(): number {
  return Date.now() + offset;
}

let tick: Store<number> | undefined;

/** The time as it is, seen anew every `every` seconds: for "3m ago" and countdowns. */
export function useNow(every = 1): number {
  if (!tick) {
    const store = (tick = new Store(now()));
    setInterval(() => {
      if (!document.hidden) store.set(now());
    }, 1000);
  }
  // State that changes only every so often, so that the second in between renders nothing.
  const [time, setTime] = useState(now());
  const store = tick;
  useEffect(() => store.watch(() => setTime((t) => (store.get() - t >= every * 1000 - 100 ? store.get() : t))), [store, every]);
  return time;
}
