// A log in memory for the mock server: rows like real ones, and the filters of argus/filter.go.
import { createHash, randomUUID } from 'node:crypto';

let seed = 42;
export function random() {
  seed = (seed * 48271) % 2147483647;
  return seed / 2147483647;
}
const pick = (list) => list[Math.floor(random() * list.length)];

export const OPERATORS = [
  { id: 'user_2aAnnaKowalski7Qx', name: 'Anna Kowalski', email: 'anna@argus.example', role: 'org:admin' },
  { id: 'user_2bBenOkafor9Rt', name: 'Ben Okafor', email: 'ben@argus.example', role: 'org:support' },
  { id: 'user_2cChiyoTanaka3Lm', name: 'Chiyo Tanaka', email: 'chiyo@argus.example', role: 'org:support' },
  { id: 'user_2dDiegoRuiz5Pk', name: 'Diego Ruiz', email: 'diego@argus.example', role: 'org:admin' },
];
export const TENANTS = ['UTD_7ELEVEN_001', 'UTD_7ELEVEN_002', 'UTD_NORTHMART_014', 'UTD_QUICKSTOP_003', 'UTD_HARBOR_021', 'UTD_LAKESIDE_008'];
const ROUTES = [
  ['GET', '/v1/tenants', 'tenants:read', 30, 6],
  ['GET', '/v1/tenants/:id', 'tenants:read', 18, 4],
  ['GET', '/v1/operators/me', 'any', 14, 2],
  ['GET', '/v1/health', 'any', 10, 3],
  ['GET', '/compute/ops/workers', 'compute:read', 16, 22],
  ['GET', '/v1/audit-log', 'logs:read', 22, 18],
  ['GET', '/v1/audit-log/facets', 'logs:read', 10, 15],
  ['GET', '/v1/perf', 'logs:read', 8, 24],
  ['POST', '/v1/tenants/:id/arm', 'remote_support:arm', 2, 14],
  ['POST', '/v1/tenants/:id/disarm', 'remote_support:arm', 2, 12],
  ['POST', '/v1/tenants/:id/sessions', 'remote_support', 2, 13],
  ['POST', '/compute/ops/launch', 'compute:write', 1, 900],
  ['POST', '/compute/ops/workers/:id/stop', 'compute:write', 1, 400],
  ['POST', '/v1/tokens', 'tokens:write', 1, 9],
  ['DELETE', '/v1/tokens/:id', 'any', 1, 8],
  ['GET', '/svc/billing/v1/invoices/:id', 'billing:read', 9, 26],
  ['POST', '/svc/billing/v1/invoices/:id/void', 'billing:write', 2, 70],
  ['POST', '/svc/deploys/v1/rollouts', 'deploys:write', 1, 240],
  ['GET', '(unmatched)', 'none', 1, 0.4],
];
const RELEASES = { argus: '1.4.0', billing: '2026.11.2', deploys: null };
const ERRORS = { 403: 'insufficient_scope', 404: 'not_found', 429: 'rate_limited', 500: 'internal', 503: 'audit_unavailable' };
const REASONS = ['ride-along', 'Rollback of 2026.11.1, INC-4711', 'Customer reported stock drift', 'Duplicate invoice, ticket 88213'];
const TOTAL = ROUTES.reduce((n, r) => n + r[3], 0);
const AGENTS = [
  'argusctl/1.4.0 (linux; amd64)',
  'argusctl/1.3.2 (darwin; arm64)',
  'Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 Chrome/156.0 Safari/537.36',
  'Mozilla/5.0 (Macintosh) Firefox/141.0',
  'python-requests/2.32',
  'curl/8.9.1',
];
const IPS = ['203.0.113.17', '203.0.113.44', '198.51.100.9', '2001:db8:40::7', '10.20.0.5'];
export const PATS = OPERATORS.map((o, i) => ({
  id: `0190a1b2-c3d4-7e5f-8a9b-00000000000${i}`,
  actor: o.id,
  name: ['ci pipeline', 'ben laptop', 'night shift', 'terraform'][i],
}));
const BREAK_GLASS = '0190ffff-0000-7000-8000-00000000bead';
export const BREAK_GLASS_REASON = 'Clerk is down, INC-4711';

let seq = 0;
const EMPTY = createHash('sha256').update('').digest('hex');

export function iso(us) {
  const ms = Math.floor(us / 1000);
  return `${new Date(ms).toISOString().slice(0, 20) + String(us - Math.floor(us / 1e6) * 1e6).padStart(6, '0')}Z`;
}

export function makeRow(us, over = {}) {
  let n = random() * TOTAL;
  const route = ROUTES.find((r) => (n -= r[3]) < 0) ?? ROUTES[0];
  const [method, path, scope, , typical] = route;
  const who = pick(OPERATORS);
  const roll = random();
  const kind = roll < 0.5 ? 'pat' : roll < 0.996 ? 'clerk_session' : 'break_glass';
  const bad = random();
  const status =
    path === '(unmatched)'
      ? 404
      : bad < 0.008
        ? 500
        : bad < 0.012
          ? 503
          : bad < 0.03
            ? 403
            : bad < 0.036
              ? 429
              : method === 'POST' && (path.endsWith('launch') || path.endsWith('tokens'))
                ? 201
                : 200;
  const interrupted = random() < 0.0004 && method !== 'GET';
  const latency = Math.max(80, Math.round(typical * 1000 * Math.exp((random() + random() + random() - 1.5) * 1.1) * (random() < 0.01 ? 12 : 1)));
  const reason = method === 'GET' ? null : pick(REASONS);
  const body = method === 'POST' ? JSON.stringify({ reason }) : '';
  const service = /^\/svc\/([^/]+)/.exec(path)?.[1] ?? 'argus';
  const failure = interrupted
    ? null
    : service === 'argus'
      ? (ERRORS[status] ?? null)
      : status >= 500
        ? 'service_timeout'
        : status === 403
          ? 'insufficient_scope'
          : null;
  seq++;
  return {
    writer_id: 7,
    seq,
    id: randomUUID(),
    occurred_at: iso(us),
    recorded_at: iso(us + latency + 900),
    actor_id: who.id,
    impersonator_id: null,
    actor_kind: kind,
    pat_id: kind === 'pat' ? PATS.find((p) => p.actor === who.id).id : null,
    break_glass_id: kind === 'break_glass' ? BREAK_GLASS : null,
    scope,
    route: `${method} ${path}`,
    path_params: path.includes(':id')
      ? { id: path.includes('workers') ? `wkr_${Math.floor(random() * 9)}` : path.includes('tokens') ? PATS[0].id : pick(TENANTS) }
      : {},
    method,
    status: interrupted ? null : status,
    outcome: interrupted ? 'interrupted' : 'completed',
    latency_us: interrupted ? null : latency,
    client_ip: pick(IPS),
    user_agent: kind === 'clerk_session' ? AGENTS[2 + Math.floor(random() * 2)] : pick(AGENTS),
    body_sha256: body ? createHash('sha256').update(body).digest('hex') : EMPTY,
    body_bytes: body.length,
    client_request_id: random() < 0.2 ? randomUUID() : null,
    trace_id: random() < 0.1 ? createHash('md5').update(String(seq)).digest('hex') : null,
    service,
    release: RELEASES[service],
    error_code: failure,
    reason,
    agent: kind === 'pat' && who === OPERATORS[3] ? 'claude/4' : null,
    workload: null,
    row_hash: createHash('sha256').update(String(seq)).digest('hex'),
    ...over,
  };
}

/** Rows of the last days, newest last: more by day, a burst of errors an hour ago. */
export function makeLog(count, days = 3) {
  const end = Date.now() * 1000;
  const duration = days * 86_400e6;
  const times = [];
  while (times.length < count) {
    const t = end - duration * random() ** 2;
    const hour = new Date(t / 1000).getUTCHours();
    if (random() < 0.35 + 0.65 * Math.sin((hour / 24) * Math.PI)) times.push(Math.floor(t));
  }
  times.sort((a, b) => a - b);
  return times.map((t) => {
    const row = makeRow(t);
    const minutes = (end - t) / 60e6;
    if (minutes > 52 && minutes < 58 && random() < 0.5) row.status = 503;
    return row;
  });
}

export function clientOf(agent) {
  return /^[^/ ]*/.exec(agent)[0];
}

function durationMs(text) {
  if (!/^(\d+(us|ms|s|m|h|d|w))+$/.test(text)) return null;
  const size = { us: 0.001, ms: 1, s: 1e3, m: 60e3, h: 3600e3, d: 86400e3, w: 604800e3 };
  let total = 0;
  for (const [, n, u] of text.matchAll(/(\d+)(us|ms|s|m|h|d|w)/g)) total += n * size[u];
  return total;
}

export function moment(text) {
  const duration = durationMs(text);
  if (duration !== null) return iso(Math.floor((Date.now() - duration) * 1000));
  const t = Date.parse(text);
  if (Number.isNaN(t)) return null;
  const digits = /\.(\d+)/.exec(text)?.[1] ?? '';
  return `${new Date(t).toISOString().slice(0, 20) + digits.padEnd(6, '0').slice(0, 6)}Z`;
}

const NAMES = [
  'actor',
  'actor_kind',
  'pat',
  'break_glass',
  'route',
  'method',
  'status',
  'outcome',
  'client',
  'user_agent',
  'client_ip',
  'tenant',
  'id',
  'request_id',
  'latency_min',
  'service',
  'release',
  'error_code',
  'reason',
  'agent',
  'scope',
  'impersonator',
  'trace_id',
];

function matchValue(name, value, r) {
  switch (name) {
    case 'actor':
      return r.actor_id === value;
    case 'actor_kind':
      return r.actor_kind === value;
    case 'pat':
      return r.pat_id === value;
    case 'break_glass':
      return r.break_glass_id === value;
    case 'method':
      return r.method === value.toUpperCase();
    case 'outcome':
      return r.outcome === value;
    case 'client':
      return clientOf(r.user_agent) === value;
    case 'user_agent':
      return r.user_agent.toLowerCase().includes(value.toLowerCase());
    case 'reason':
      return (r.reason ?? '').toLowerCase().includes(value.toLowerCase());
    case 'service':
    case 'release':
    case 'error_code':
    case 'agent':
    case 'scope':
      return r[name] === value;
    case 'impersonator':
      return r.impersonator_id === value;
    case 'trace_id':
      return r.trace_id === value.toLowerCase();
    case 'client_ip':
      return r.client_ip === value;
    case 'id':
      return r.id === value;
    case 'request_id':
      return r.client_request_id === value;
    case 'tenant':
      return r.route.split(' ')[1]?.startsWith('/v1/tenants/:id') && r.path_params.id === value;
    case 'latency_min':
      return r.latency_us !== null && r.latency_us >= durationMs(value) * 1000;
    case 'route': {
      const prefix = value.endsWith('*');
      const text = prefix ? value.slice(0, -1) : value;
      const route = !text.includes(' ') && /^[/(]/.test(text) ? r.route.slice(r.route.indexOf(' ') + 1) : r.route;
      return prefix ? route.startsWith(text) : route === text;
    }
    case 'status': {
      if (r.status === null) return false;
      if (/xx$/.test(value)) return Math.floor(r.status / 100) === Number(value[0]);
      const bound = /^(>=|<=|>|<)(\d+)$/.exec(value);
      if (bound) return { '>=': r.status >= +bound[2], '<=': r.status <= +bound[2], '>': r.status > +bound[2], '<': r.status < +bound[2] }[bound[1]];
      return r.status === Number(value);
    }
  }
  return name.startsWith('param.') && r.path_params[name.slice(6)] === value;
}

/** A predicate for the query, and its window; throws a string when a parameter is wrong. */
export function filterOf(query) {
  const conditions = new Map();
  let since = null;
  let until = null;
  for (const [key, value] of query) {
    if (key === 'since' || key === 'until') {
      const t = moment(value);
      if (!t) throw `"${value}" is no time.`;
      if (key === 'since') since = t;
      else until = t;
      continue;
    }
    const name = key.replace(/^not_/, '');
    if (!NAMES.includes(name) && !name.startsWith('param.')) continue;
    conditions.set(key, [...(conditions.get(key) ?? []), value]);
  }
  const list = [...conditions].map(([key, values]) => ({ name: key.replace(/^not_/, ''), not: key.startsWith('not_'), values }));
  return {
    since,
    until,
    match: (r) =>
      (!since || r.occurred_at >= since) && (!until || r.occurred_at < until) && list.every((t) => t.values.some((v) => matchValue(t.name, v, r)) !== t.not),
  };
}

export function order(a, b) {
  if (a.occurred_at !== b.occurred_at) return a.occurred_at < b.occurred_at ? -1 : 1;
  return a.writer_id - b.writer_id || a.seq - b.seq;
}
