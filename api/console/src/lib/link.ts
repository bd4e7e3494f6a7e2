// What a link may hold behind its page. A part that cannot be read is said, and the page shows nothing else instead:
// another window or another filter than the link's would be a wrong answer.

import { type Problem, readFilter } from './filter';
import { cut, quoted } from './quote';
import { durationProblem, parseDuration, parseTime } from './time';
import { PRESETS, SCOPES } from './types';

/** What is wrong with a value, as a sentence; null when it is good. */
type Check = (value: string, name: string) => string | null;

export interface Link {
  /** the names of a filter, since and until as well */
  filter?: boolean;
  /** the page's own names, each given once */
  names?: Record<string, Check>;
  /** what its parts have to do with each other */
  whole?: (query: URLSearchParams) => Problem | null;
}

/** The parts of a link's query, as it stands in the address, that its page cannot read. */
export function linkProblems(raw: string, link: Link, now: number): Problem[] {
  const problems = encodingProblems(raw);
  if (problems.length > 0) return problems;
  const query = new URLSearchParams(raw);
  const names = link.names ?? {};
  for (const [name, value] of query) {
    const check = Object.hasOwn(names, name) ? names[name]! : null;
    let message: string | null = null;
    if (check) message = query.getAll(name).length > 1 ? `Give ${name} once.` : check(value, name);
    else if (!link.filter) message = `There is no parameter ${quoted(cut(name, 64))} here.`;
    if (message) problems.push({ part: `${name}=${value}`, message });
  }
  if (link.filter) problems.push(...readFilter(query, now, names).problems);
  const whole = problems.length === 0 ? link.whole?.(query) : null;
  return whole ? [whole] : problems;
}

function encodingProblems(raw: string): Problem[] {
  const problems: Problem[] = [];
  for (const part of raw.split('&')) {
    if (/%(?![0-9a-f]{2})/i.test(part)) problems.push({ part, message: 'The query cannot be read; escape % as %25.' });
  }
  return problems;
}

const oneOf =
  (...values: string[]): Check =>
  (value, name) =>
    values.includes(value) ? null : `${name} must be ${values.slice(0, -1).join(', ')}${values.length > 1 ? ' or ' : ''}${values.at(-1)}.`;

const text =
  (limit: number): Check =>
  (value, name) => {
    const length = [...value.trim()].length;
    return length >= 1 && length <= limit ? null : `${name} must have 1 to ${limit} characters.`;
  };

/** A range of a chart stays where it is, so its ends are times, not so long ago. */
const moment: Check = (value, name) => (parseTime(value) === null ? `${name} must be a time like 2026-01-31T12:00:00Z.` : null);

const auditId: Check = (value) =>
  /^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/i.test(value) ? null : 'An audit id has 36 characters, like 01976d3e-7c2a-7b1e-9f00-0123456789ab.';

const scopes: Check = (value) => {
  const known = SCOPES.map(([name]) => name);
  const unknown = value.split(',').find((name) => !known.includes(name));
  return unknown === undefined ? null : `There is no scope ${quoted(cut(unknown, 64))}; the scopes are ${known.join(', ')}.`;
};

const lifetime: Check = (value) => durationProblem(value) ?? (parseDuration(value)! > 365 * 86_400_000 ? 'expires_in is 365d at most.' : null);

/** Of a page that has no state in its address. */
export const NO_LINK: Link = {};

export const AUDIT_LINK: Link = {
  filter: true,
  names: { row: auditId, order: oneOf('asc', 'desc'), live: oneOf('1'), polling: oneOf('1') },
  whole: (query) => {
    const against = ['until', 'order'].find((name) => query.has(name) && query.get(name) !== 'desc');
    return query.has('live') && against
      ? { part: `${against}=${query.get(against)}`, message: `live=1 goes on from now, newest first: it excludes ${against}.` }
      : null;
  },
};

export const PERFORMANCE_LINK: Link = {
  filter: true,
  names: {
    by: oneOf('route', 'service', 'release', 'actor', 'tenant', 'method', 'actor_kind', 'client', 'status_class'),
    sort: oneOf('group', 'count', 'rpm', 'error_rate', 'client_error_rate', 'p50', 'p95', 'p99', 'max', 'regression'),
    dir: oneOf('asc', 'desc'),
  },
};

export const ROUTE_LINK: Link = {
  filter: true,
  names: {
    from: moment,
    to: moment,
    differs: oneOf('slow', 'failed', 'interrupted', 'all'),
    beside: oneOf('rest', 'before'),
    before: oneOf('1'),
  },
  whole: (query) => {
    if (query.getAll('route').length !== 1) return { part: `route=${query.get('route') ?? ''}`, message: 'This page is about one route: give route once.' };
    const [from, to] = [query.get('from'), query.get('to')];
    if ((from === null) !== (to === null)) return { part: from === null ? `to=${to}` : `from=${from}`, message: 'A range has both from and to.' };
    return from !== null && parseTime(to!)! <= parseTime(from)! ? { part: `to=${to}`, message: 'to must lie behind from.' } : null;
  },
};

export const COMPUTE_LINK: Link = { names: { all: oneOf('1'), worker: text(256) } };

export const TENANTS_LINK: Link = { names: { tenant: text(256), retired: oneOf('1') } };

export const SERVICES_LINK: Link = { names: { service: text(64) } };

export const SINKS_LINK: Link = { names: { sink: text(64) } };

export const TOKENS_LINK: Link = {
  names: {
    new: oneOf('1'),
    name: text(100),
    preset: oneOf(...Object.keys(PRESETS)),
    scopes,
    expires_in: lifetime,
    owner: text(200),
    unused_since: durationProblem,
    ended: oneOf('1'),
    agent: text(100),
  },
  whole: (query) => (query.has('preset') && query.has('scopes') ? { part: `preset=${query.get('preset')}`, message: 'Give either preset or scopes.' } : null),
};

export const ACCESS_LINK: Link = {
  names: { since: durationProblem, kind: oneOf('person', 'impersonation', 'token', 'workload', 'break_glass'), unused: oneOf('1') },
};
