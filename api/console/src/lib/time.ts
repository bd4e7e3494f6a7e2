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

export type Zone = 'utc' | 'local';

const ZONE_KEY = 'argus.zone';

/** In which zone pages show times. What is copied, exported, sent and linked stays UTC. */
export const zone = new Store<Zone>(globalThis.localStorage?.getItem(ZONE_KEY) === 'local' ? 'local' : 'utc');

export function setZone(next: Zone): void {
  if (next === 'local') localStorage.setItem(ZONE_KEY, next);
  else localStorage.removeItem(ZONE_KEY);
  zone.set(next);
}

/** How far the clock of a zone is ahead of UTC at a moment, in minutes. */
function ahead(ms: number, of: Zone): number {
  return of === 'local' ? -new Date(ms).getTimezoneOffset() : 0;
}

/** What a zone's times have behind them at a moment: UTC, UTC+1, UTC-3:30. */
export function zoneName(ms: number, of: Zone = zone.get()): string {
  const minutes = ahead(ms, of);
  if (minutes === 0) return 'UTC';
  const rest = Math.abs(minutes) % 60;
  return `UTC${minutes < 0 ? '-' : '+'}${Math.floor(Math.abs(minutes) / 60)}${rest > 0 ? `:${String(rest).padStart(2, '0')}` : ''}`;
}

/** A moment as RFC 3339 writes it, but in the zone shown and without its offset. */
export function isoShown(ms: number): string {
  return new Date(ms + ahead(ms, zone.get()) * 60_000).toISOString().slice(0, 23);
}

/** "2026-01-31" and "12:00:00.123" of a time as the API writes it, in the zone shown, without rounding. */
export function timeParts(time: string): { date: string; clock: string } {
  const ms = zone.get() === 'utc' ? null : parseTime(time);
  const shown = ms === null ? time : isoShown(ms).slice(0, 19) + time.slice(19);
  return { date: shown.slice(0, 10), clock: shown.slice(11, 23) };
}

/** "2026-01-31 12:00:00 UTC", to the digits asked for. */
export function utcText(time: string, digits = 0): string {
  return `${time.slice(0, 10)} ${time.slice(11, digits > 0 ? 20 + digits : 19)} UTC`;
}

export function utcOf(ms: number, digits = 0): string {
  return utcText(new Date(ms).toISOString(), digits);
}

/** As utcText, in the zone shown. */
export function timeText(time: string, digits = 0): string {
  const ms = zone.get() === 'utc' ? null : parseTime(time);
  if (ms === null) return utcText(time, digits);
  return `${utcText(isoShown(ms).slice(0, 19) + time.slice(19), digits).slice(0, -4)} ${zoneName(ms)}`;
}

export function timeOf(ms: number, digits = 0): string {
  return timeText(new Date(ms).toISOString(), digits);
}

const WEEK = ['sunday', 'monday', 'tuesday', 'wednesday', 'thursday', 'friday', 'saturday'];

/**
 * The moment that a time means in the zone shown: "2026-01-31 12:00:00" or a part of it, yesterday, monday 9:00, or 1h for an
 * hour ago. It is null when it is no time. "UTC" behind it counts. argus.TypedTime reads the same and more.
 */
export function readShown(text: string, at = now(), end = false): number | null {
  text = text.trim().toLowerCase();
  if (text === 'now') return at;
  const m = /^([a-z]*)(?: |\b)((\d)?\d:\d\d(:\d\d)?)?$/.exec(text);
  if (!m || text === '') return parseDuration(text) === null ? readDate(text) : momentMs(text, at);
  const [, word = '', clock = '00:00', tens] = m;
  const today = Date.parse(`${isoShown(at).slice(0, 10)}T00:00Z`);
  const day = word.length > 2 ? WEEK.findIndex((name) => name.startsWith(word)) : -1;
  const back = word === '' ? 0 : day >= 0 ? (new Date(today).getUTCDay() - day + 7) % 7 : { today: 0, yesterday: 1, tomorrow: -1 }[word];
  if (back === undefined) return null;
  const of = (days: number) => readDate(`${toRFC3339(today - days * 86_400_000).slice(0, 10)} ${m[2] && !tens ? '0' : ''}${clock}`);
  const found = of(back);
  // A weekday or a clock time is the last one, but not where a window ends.
  return found === null || end || found <= at ? found : day >= 0 ? of(back + 7) : word === '' ? of(1) : found;
}

function readDate(text: string): number | null {
  const match = /^(\d{4}-\d\d-\d\d)(?:[ t](\d\d:\d\d)(:\d\d)?(\.\d+)?)?( ?utc|z)?$/.exec(text);
  if (!match) return null;
  const utc = parseTime(`${match[1]}T${match[2] ?? '00:00'}${match[3] ?? ':00'}${match[4] ?? ''}Z`);
  if (utc === null || match[5]) return utc;
  // The offset of the moment itself counts, which is another one where the clocks change in between.
  const near = utc - ahead(utc, zone.get()) * 60_000;
  return utc - ahead(near, zone.get()) * 60_000;
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
