import { cut, quoted } from './quote';
import { momentMs, momentProblem, parseDuration } from './time';

/** The names a filter may use, as argus.FilterNames, with what they mean. */
export const FILTERS: { name: string; label: string; hint: string; facet?: boolean }[] = [
  { name: 'actor', label: 'Actor', hint: 'the operator, user_…', facet: true },
  { name: 'route', label: 'Route', hint: '"GET /v1/tenants/:id", a path, or a prefix ending in *', facet: true },
  { name: 'status', label: 'Status', hint: '403, 4xx or >=500', facet: true },
  { name: 'method', label: 'Method', hint: 'GET, POST, DELETE', facet: true },
  { name: 'actor_kind', label: 'Kind', hint: 'clerk_session, oidc_session, pat, break_glass or workload', facet: true },
  { name: 'client', label: 'Client', hint: 'the agent’s product name, argusctl', facet: true },
  { name: 'pat', label: 'Token', hint: 'the id of a personal access token', facet: true },
  { name: 'break_glass', label: 'Break-glass token', hint: 'the id of a break-glass token', facet: true },
  { name: 'service', label: 'Service', hint: 'argus, or a service behind it', facet: true },
  { name: 'release', label: 'Release', hint: 'the version of what answered', facet: true },
  { name: 'error_code', label: 'Error', hint: 'the code of the answer’s error', facet: true },
  { name: 'reason', label: 'Reason', hint: 'a part of what the operator gave' },
  { name: 'agent', label: 'Agent', hint: 'the program that acts for the operator', facet: true },
  { name: 'tenant', label: 'Tenant', hint: 'UTD_7ELEVEN_001' },
  { name: 'latency_min', label: 'Latency at least', hint: '500ms, 2s' },
  { name: 'outcome', label: 'Outcome', hint: 'completed or interrupted' },
  { name: 'client_ip', label: 'Client address', hint: '192.0.2.7 or 192.0.2.0/24' },
  { name: 'user_agent', label: 'User agent', hint: 'a part of it' },
  { name: 'param', label: 'Path parameter', hint: 'param.id:… , the name as in the route' },
  { name: 'id', label: 'Call', hint: 'the id of the call (Argus-Audit-Id)' },
  { name: 'request_id', label: 'Request id', hint: 'the caller’s X-Request-Id' },
  { name: 'trace_id', label: 'Trace', hint: '32 hex digits' },
  { name: 'scope', label: 'Scope', hint: 'the scope that was needed' },
  { name: 'impersonator', label: 'Impersonator', hint: 'who acted as another, user_…' },
];

/** As argus.MaxFilterValues. */
const MAX_VALUES = 1000;

const NAMES = new Set(FILTERS.map((f) => f.name));

/** One condition; conditions of one name (and sign) are alternatives, different names must all hold. */
export interface Condition {
  /** a name of FILTERS, or param.<name> */
  name: string;
  not: boolean;
  value: string;
}

export interface Filter {
  conditions: Condition[];
  /** RFC 3339 or a length of time before now; '' is the page's default */
  since: string;
  until: string;
}

/** Whether a filter may be called this: a name of FILTERS or param.<name>. */
export function isFilterName(name: string): boolean {
  if (name.startsWith('param.')) return name.length > 6 && new TextEncoder().encode(name).length <= 70 && !name.includes('\0');
  return name !== 'param' && NAMES.has(name);
}

export function labelOf(name: string): string {
  if (name.startsWith('param.')) return `:${name.slice(6)}`;
  return FILTERS.find((f) => f.name === name)?.label ?? name;
}

export function sameCondition(a: Condition, b: Condition): boolean {
  return a.name === b.name && a.not === b.not && a.value === b.value;
}

const UUID = /^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$/i;
const TRACE = /^[0-9a-f]{32}$/i;
const STATUS = /^([1-9]xx|[1-9]\d\d|(>=|<=|>|<)[1-9]\d\d)$/;

function isNetwork(text: string): boolean {
  const [, address = '', bits] = /^([^/]*)(?:\/(\d|[1-9]\d{1,2}))?$/.exec(text) ?? [];
  const four = address.split('.');
  if (four.length === 4 && four.every((n) => /^(0|[1-9]\d{0,2})$/.test(n) && Number(n) < 256)) return Number(bits ?? 0) <= 32;
  const six = bits === undefined ? address.replace(/%.+$/, '') : address;
  if (!six.includes(':') || !/^[0-9a-f:.]+$/i.test(six) || !URL.canParse(`http://[${six}]/`)) return false;
  const mapped = new URL(`http://[${six}]/`).hostname.startsWith('[::ffff:') && new URL(`http://[${six}]/`).hostname.split(':').length === 5;
  return Number(bits ?? 128) <= 128 && (!mapped || Number(bits ?? 128) >= 96);
}

/** As argus.MaxUserAgent, argus.MaxReasonBytes and argus.MaxRoute, in bytes. */
const MAX_USER_AGENT = 512;
const MAX_REASON = 2000;
const MAX_ROUTE = 512;
/** The kinds of credential, as argus.ActorKinds. */
export const KINDS = ['clerk_session', 'oidc_session', 'pat', 'break_glass', 'workload'];
const METHODS = ['GET', 'HEAD', 'POST', 'PUT', 'PATCH', 'DELETE', 'OPTIONS', 'CONNECT', 'TRACE', 'OTHER'];
const UNKNOWN_METHOD = 'write a method of HTTP, or OTHER: the log has OTHER in the place of any other method.';

function bytes(text: string): number {
  return new TextEncoder().encode(text).length;
}

function routeProblem(route: string): string | null {
  if (bytes(route) > MAX_ROUTE) return `a route is no longer than ${MAX_ROUTE} bytes.`;
  if (route.includes('\0')) return 'the value is not valid UTF-8 text.';
  const [method = '', path] = route.replace(/\*$/, '').split(' ', 2);
  return path === undefined || METHODS.includes(method.toUpperCase()) ? null : UNKNOWN_METHOD;
}

/** What is wrong with a part of a text that is searched for. */
function partProblem(part: string, most: number, what: string): string | null {
  if (bytes(part) > most) return `the log keeps ${most} bytes of a ${what}; write no more than these.`;
  return part.includes('\0') ? `the value is not valid UTF-8 text; where a ${what} was not, the log has U+FFFD.` : null;
}

/** How a value is to be written, as a sentence of argus.ParseFilter; null when the server will take it. */
export function valueProblem(name: string, value: string): string | null {
  if (value === '' && !['client', 'user_agent'].includes(name) && !name.startsWith('param.')) return 'the value is empty.';
  switch (name) {
    case 'request_id':
      return /^[ \t]*$/.test(value) ? 'the value is empty.' : null;
    case 'client':
      return /[/ ]/.test(value) ? "write the program's name alone, as before the first slash or blank of its user agent; user_agent finds the rest." : null;
    case 'user_agent':
      return partProblem(value, MAX_USER_AGENT, 'user agent');
    case 'reason':
      return partProblem(value, MAX_REASON, 'reason');
    case 'trace_id':
      return TRACE.test(value) ? null : 'write the trace id, 32 hex digits.';
    case 'route':
      return routeProblem(value);
    case 'method':
      return METHODS.includes(value.toUpperCase()) ? null : UNKNOWN_METHOD;
    case 'status':
      return STATUS.test(value) ? null : 'write a status (403), a class (4xx) or a bound (>=500).';
    case 'actor_kind':
      return KINDS.includes(value) ? null : 'write clerk_session, oidc_session, pat, break_glass or workload.';
    case 'outcome':
      return ['completed', 'interrupted'].includes(value) ? null : 'write completed or interrupted.';
    case 'latency_min':
      return parseDuration(value) !== null ? null : 'write a length of time like 500ms or 2s.';
    case 'pat':
    case 'break_glass':
    case 'id':
      return UUID.test(value) && !/^[0-]*$/.test(value) ? null : 'write the id as shown, 36 characters.';
    case 'client_ip':
      return isNetwork(value) ? null : 'write an address (192.0.2.7) or a network (192.0.2.0/24).';
  }
  return null;
}

/** The name a bare word most likely belongs to; null when nothing fits. */
export function guessName(word: string): string | null {
  if (UUID.test(word)) return 'id';
  if (TRACE.test(word)) return 'trace_id';
  if (STATUS.test(word)) return 'status';
  if (/^user_\w+$/.test(word)) return 'actor';
  if (/^(GET|HEAD|POST|PUT|PATCH|DELETE|OPTIONS)$/.test(word)) return 'method';
  if (word.startsWith('/') || /^[A-Z]+ [/(]/.test(word)) return 'route';
  if (/^\d{1,3}(\.\d{1,3}){3}(\/\d+)?$/.test(word)) return 'client_ip';
  if (/^[A-Z][A-Z0-9]*_[A-Z0-9_]+$/.test(word)) return 'tenant';
  return null;
}

/** A part of a query that cannot be read, and the sentence about it: the server's own. */
export interface Problem {
  /** as written: since=yesterday */
  part: string;
  message: string;
}

export interface FilterRead {
  filter: Filter;
  problems: Problem[];
}

/** Reads a filter out of a query as argus.ParseFilter does. Names that others holds are left alone. */
export function readFilter(query: URLSearchParams, now: number, others: Record<string, unknown> = {}): FilterRead {
  const conditions: Condition[] = [];
  const problems: Problem[] = [];
  const moments: Record<string, string> = { since: '', until: '' };
  for (const [key, value] of query) {
    if (Object.hasOwn(others, key)) continue;
    const wrong = (message: string) => problems.push({ part: `${key}=${value}`, message });
    const name = key.replace(/^not_/, '');
    if (Object.hasOwn(moments, key)) {
      const problem = query.getAll(key).length > 1 ? `Give ${key} once.` : momentProblem(value);
      if (problem) wrong(problem);
      else moments[key] = value;
    } else if (name.startsWith('param.') && !isFilterName(name)) {
      wrong("Write param.<name>=<value>, the name as in the route's template.");
    } else if (!isFilterName(name)) {
      wrong(`There is no parameter ${quoted(cut(key, 64))} here.`);
    } else {
      const how = valueProblem(name, value);
      const condition = { name, not: key !== name, value };
      if (how) wrong(`${name.replace(/^param\..*/s, 'param')}=${quoted(cut(value, 64))}: ${how}`);
      else if (!conditions.some((t) => sameCondition(t, condition))) conditions.push(condition);
    }
  }
  const { since = '', until = '' } = moments;
  if (since && until && momentMs(until, now)! < momentMs(since, now)!) problems.push({ part: `until=${until}`, message: 'until lies before since.' });
  if (conditions.length > MAX_VALUES) problems.push({ part: '', message: `A filter holds ${MAX_VALUES} values at most, this one ${conditions.length}.` });
  return { filter: { conditions, since, until }, problems };
}

/** The filter of a query whose problems have been looked at. */
export function filterOf(query: URLSearchParams): Filter {
  return readFilter(query, 0).filter;
}

/** The longest window there is: every call of the log. */
export const WHOLE_LOG = '3650d';

/** Whether a filter asks for what an id names. An id says what it means at any time, so the window does not count. */
export function namesCalls(conditions: Condition[]): boolean {
  return conditions.some((t) => !t.not && ['id', 'request_id', 'trace_id'].includes(t.name));
}

/** The id of the call that a filter asks for; null when it asks for more than one. */
export function callOf(conditions: Condition[]): string | null {
  const ids = conditions.filter((t) => !t.not && t.name === 'id');
  return ids.length === 1 ? ids[0]!.value.toLowerCase() : null;
}

/** The usual views of the log. Each is a set of conditions on status and method. */
export const VIEWS: [string, Condition[]][] = [
  ['All', []],
  ['Changes', ['GET', 'HEAD', 'OPTIONS'].map((value) => ({ name: 'method', not: true, value }))],
  ['Refused', ['401', '403'].map((value) => ({ name: 'status', not: false, value }))],
  ['Errors', [{ name: 'status', not: false, value: '5xx' }]],
];

const ofViews = (t: Condition): boolean => t.name === 'status' || t.name === 'method';

/** Whether a view is in force: the filter has its conditions, and no others on status and method. */
export function inView(filter: Filter, view: Condition[]): boolean {
  const own = filter.conditions.filter(ofViews);
  return own.length === view.length && view.every((v) => own.some((t) => sameCondition(t, v)));
}

/** The filter in a view. Its other conditions stay. */
export function withView(filter: Filter, view: Condition[]): Filter {
  return { ...filter, conditions: [...filter.conditions.filter((t) => !ofViews(t)), ...view] };
}

/** Puts a filter into a query in place of the one there, as the API reads it too. */
export function withFilter(query: URLSearchParams, filter: Filter): URLSearchParams {
  const next = new URLSearchParams();
  for (const [key, value] of query) {
    if (key === 'since' || key === 'until' || isFilterName(key.replace(/^not_/, ''))) continue;
    next.append(key, value);
  }
  for (const t of filter.conditions) next.append((t.not ? 'not_' : '') + t.name, t.value);
  if (filter.since) next.set('since', filter.since);
  if (filter.until) next.set('until', filter.until);
  return next;
}

export function addCondition(filter: Filter, condition: Condition): Filter {
  // The same condition with the other sign would leave nothing; the newer one is meant.
  const conditions = filter.conditions.filter((t) => !(t.name === condition.name && t.value === condition.value));
  return { ...filter, conditions: [...conditions, condition] };
}
