import { isMoment, parseSpan } from './time';

/** The names a filter may use, as argus.FilterNames, with what they mean. */
export const FILTERS: { name: string; label: string; hint: string; facet?: boolean }[] = [
  { name: 'actor', label: 'Actor', hint: 'the operator, user_…', facet: true },
  { name: 'route', label: 'Route', hint: '"GET /v1/tenants/:id", a path, or a prefix ending in *', facet: true },
  { name: 'status', label: 'Status', hint: '403, 4xx or >=500', facet: true },
  { name: 'method', label: 'Method', hint: 'GET, POST, DELETE', facet: true },
  { name: 'actor_kind', label: 'Kind', hint: 'clerk_session, pat or break_glass', facet: true },
  { name: 'client', label: 'Client', hint: 'the agent’s product name, argusctl', facet: true },
  { name: 'pat', label: 'Token', hint: 'the id of a personal access token', facet: true },
  { name: 'break_glass', label: 'Break-glass', hint: 'the id of a break-glass token', facet: true },
  { name: 'tenant', label: 'Tenant', hint: 'UTD_7ELEVEN_001' },
  { name: 'latency_min', label: 'Latency at least', hint: '500ms, 2s' },
  { name: 'outcome', label: 'Outcome', hint: 'completed or interrupted' },
  { name: 'client_ip', label: 'Client address', hint: '192.0.2.7 or 192.0.2.0/24' },
  { name: 'user_agent', label: 'User agent', hint: 'a part of it' },
  { name: 'param', label: 'Path parameter', hint: 'param.id:… , the name as in the route' },
  { name: 'id', label: 'Call', hint: 'the id of the call (Argus-Audit-Id)' },
  { name: 'request_id', label: 'Request id', hint: 'the caller’s X-Request-Id' },
];

const NAMES = new Set(FILTERS.map((f) => f.name));

/** One condition; terms of one name (and sign) are alternatives, different names must all hold. */
export interface Term {
  /** a name of FILTERS, or param.<name> */
  name: string;
  not: boolean;
  value: string;
}

export interface Filter {
  terms: Term[];
  /** RFC 3339 or a length of time before now; '' is the page's default */
  since: string;
  until: string;
}

/** Whether a filter may be called this: a name of FILTERS or param.<name>. */
export function isFilterName(name: string): boolean {
  if (name.startsWith('param.')) return name.length > 6 && name.length <= 70;
  return name !== 'param' && NAMES.has(name);
}

export function labelOf(name: string): string {
  if (name.startsWith('param.')) return `:${name.slice(6)}`;
  return FILTERS.find((f) => f.name === name)?.label ?? name;
}

export function sameTerm(a: Term, b: Term): boolean {
  return a.name === b.name && a.not === b.not && a.value === b.value;
}

const UUID = /^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$/i;
const STATUS = /^([1-9]xx|[1-9]\d\d|(>=|<=|>|<)[1-9]\d\d)$/;

/** What is wrong with a value, as a sentence; null when the server will take it. */
export function valueProblem(name: string, value: string): string | null {
  if (value === '' && !['client', 'user_agent'].includes(name) && !name.startsWith('param.')) return `${name} needs a value`;
  switch (name) {
    case 'status':
      return STATUS.test(value) ? null : 'a status is written 403, 4xx or >=500';
    case 'actor_kind':
      return ['clerk_session', 'pat', 'break_glass'].includes(value) ? null : 'the kind is clerk_session, pat or break_glass';
    case 'outcome':
      return ['completed', 'interrupted'].includes(value) ? null : 'the outcome is completed or interrupted';
    case 'latency_min':
      return parseSpan(value) !== null ? null : 'a latency is written 500ms or 2s';
    case 'pat':
    case 'break_glass':
    case 'id':
      return UUID.test(value) ? null : 'an id is written as shown, 36 characters';
    case 'client_ip':
      return /^[0-9a-f.:]+(\/\d{1,3})?$/i.test(value) && /[.:]/.test(value) ? null : 'an address is written 192.0.2.7 or 192.0.2.0/24';
  }
  return value.length > 1024 ? 'the value is longer than 1024 characters' : null;
}

/** The name a bare word most likely belongs to; null when nothing fits. */
export function guessName(word: string): string | null {
  if (UUID.test(word)) return 'id';
  if (STATUS.test(word)) return 'status';
  if (/^user_\w+$/.test(word)) return 'actor';
  if (/^(GET|HEAD|POST|PUT|PATCH|DELETE|OPTIONS)$/.test(word)) return 'method';
  if (word.startsWith('/') || /^[A-Z]+ [/(]/.test(word)) return 'route';
  if (/^\d{1,3}(\.\d{1,3}){3}(\/\d+)?$/.test(word)) return 'client_ip';
  if (/^[A-Z][A-Z0-9]*_[A-Z0-9_]+$/.test(word)) return 'tenant';
  return null;
}

/** Reads a filter out of a query; names that are none are left alone. */
export function filterOf(query: URLSearchParams): Filter {
  const terms: Term[] = [];
  for (const [key, value] of query) {
    const not = key.startsWith('not_');
    const name = not ? key.slice(4) : key;
    if (!isFilterName(name)) continue;
    const term = { name, not, value };
    if (!terms.some((t) => sameTerm(t, term))) terms.push(term);
  }
  const moment = (name: string) => {
    const text = query.get(name) ?? '';
    return isMoment(text) ? text : '';
  };
  return { terms, since: moment('since'), until: moment('until') };
}

/** Puts a filter into a query in place of the one there, as the API reads it too. */
export function withFilter(query: URLSearchParams, filter: Filter): URLSearchParams {
  const next = new URLSearchParams();
  for (const [key, value] of query) {
    if (key === 'since' || key === 'until' || isFilterName(key.replace(/^not_/, ''))) continue;
    next.append(key, value);
  }
  for (const t of filter.terms) next.append((t.not ? 'not_' : '') + t.name, t.value);
  if (filter.since) next.set('since', filter.since);
  if (filter.until) next.set('until', filter.until);
  return next;
}

export function addTerm(filter: Filter, term: Term): Filter {
  // The same condition with the other sign would leave nothing; the newer one is meant.
  const terms = filter.terms.filter((t) => !(t.name === term.name && t.value === term.value));
  return { ...filter, terms: [...terms, term] };
}
