// Plays the API for work on the console without the engines: the shapes are the server's, the data is made up.
// The browser tests run against a real server; this one is for iterating and for what a real one cannot be made
// to do on demand.
import { createHash, randomUUID } from 'node:crypto';
import { readFile } from 'node:fs/promises';
import { createServer } from 'node:http';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { gzipSync } from 'node:zlib';
import { BREAK_GLASS_REASON, clientOf, filterOf, iso, makeLog, makeRow, OPERATORS, order, PATS, TENANTS } from './log.mjs';

const DIST = fileURLToPath(new URL('../../dist', import.meta.url));
const ALL = [
  'logs:read',
  'views:write',
  'tenants:read',
  'tenants:write',
  'compute:read',
  'compute:write',
  'remote_support',
  'remote_support:arm',
  'tokens:write',
  'tokens:admin',
  'events:read',
  'events:emit',
];
const READ = ['logs:read', 'tenants:read', 'compute:read'];
const TYPES = { '.html': 'text/html; charset=utf-8', '.js': 'text/javascript', '.css': 'text/css', '.svg': 'image/svg+xml', '.md': 'text/plain' };
const nowUs = () => Math.floor((performance.timeOrigin + performance.now()) * 1000);

/** Starts a mock; rows is how many calls its log has at first. */
export async function startMock({ rows = 20_000, port = 0, auth = 'local', clerkKey = null } = {}) {
  const log = makeLog(rows);
  const followers = new Set();
  const knobs = { postgres: false, lag: 0, down: false, rate429: 0 };
  const tokens = new Map([
    ['argus_pat_admin', { scopes: ALL, preset: 'admin-full', who: OPERATORS[0], pat: PATS[0].id }],
    ['argus_pat_support', { scopes: READ, preset: 'support-readonly', who: OPERATORS[1], pat: PATS[1].id }],
    ['argus_pat_tenants', { scopes: ['tenants:read'], preset: null, who: OPERATORS[2], pat: PATS[2].id }],
  ]);
  const sessions = new Map();
  const pat = (p) => ({
    kind: 'pat',
    agent: null,
    agent_actions: false,
    parent_id: null,
    audit_id: null,
    created_at: iso(nowUs()),
    last_used_at: null,
    revoked_at: null,
    revoked_by: null,
    revoked_with: null,
    revoked_audit_id: null,
    last_four: 'x9Fq',
    ...p,
  });
  const pats = PATS.map((p, i) =>
    pat({
      id: p.id,
      name: p.name,
      preset: i === 0 ? 'admin-full' : 'support-readonly',
      scopes: i === 0 ? ALL : READ,
      actor_id: p.actor,
      created_at: iso(nowUs() - 40 * 864e8),
      expires_at: iso(nowUs() + (50 - i * 12) * 864e8),
      last_used_at: i === 3 ? null : iso(nowUs() - i * 6e8),
    }),
  );
  // The first made two more, one of which made another; one has ended with its parent.
  for (const [i, name, parent, ended] of [
    [1, 'nightly export', 0],
    [2, 'ci', 0],
    [3, 'ci, one job', 2],
    [4, 'old laptop', null, true],
    [5, 'its script', 4, true],
  ]) {
    const over = ended && { revoked_at: iso(nowUs() - 3 * 864e8), revoked_by: OPERATORS[1].id, revoked_audit_id: randomUUID() };
    pats.unshift(
      pat({
        id: `01a2${String(i).repeat(4)}-0000-7000-8000-000000000000`,
        name,
        preset: null,
        scopes: ['logs:read', 'tokens:write'],
        actor_id: PATS[0].actor,
        audit_id: log[i].id,
        last_four: `k${i}Za`,
        created_at: iso(nowUs() - (30 - i) * 864e8),
        expires_at: iso(nowUs() + 20 * 864e8),
        last_used_at: i % 2 ? iso(nowUs() - i * 7e9) : null,
        parent_id: parent === null ? null : parent === 0 ? PATS[0].id : `01a2${String(parent).repeat(4)}-0000-7000-8000-000000000000`,
        ...over,
        ...(ended && parent && { revoked_with: `01a2${String(parent).repeat(4)}-0000-7000-8000-000000000000` }),
      }),
    );
  }
  const isLive = (p) => p.revoked_at === null;
  const below = (id) => pats.filter((p) => p.parent_id === id && isLive(p)).flatMap((p) => [p, ...below(p.id)]);
  const end = (ids, by) => {
    const ended = [];
    for (const id of ids) {
      const root = pats.find((p) => p.id === id && isLive(p));
      for (const p of root ? [root, ...below(id)] : []) {
        Object.assign(p, { revoked_at: iso(nowUs()), revoked_by: by, revoked_with: p.id === id ? null : id });
        for (const [secret, t] of tokens) if (t.pat === p.id) tokens.delete(secret);
        ended.push(p);
      }
    }
    return ended;
  };
  const reachable = (c) => {
    const p = pats.find((x) => x.id === c.params[0] && (x.actor_id === c.who.id || c.scopes.includes('tokens:admin')));
    if (!p) throw fail(404, 'not_found', 'You have no token of this id.');
    return p;
  };
  const tenants = TENANTS.map((id, i) => ({
    id,
    name: [
      '7-Eleven, Store 001',
      '7-Eleven, Store 002',
      'Northmart, Store 014',
      'Quickstop, Store 003',
      'Harbor Fuel, Station 021',
      'Lakeside Grocers, Store 008',
    ][i],
    retired: false,
    retired_at: null,
    retired_by: null,
    retired_reason: null,
    armed: i === 1 || i === 3,
    armed_at: i === 1 || i === 3 ? iso(nowUs() - 25 * 6e7) : null,
    armed_by: i === 1 || i === 3 ? OPERATORS[i % 4].id : null,
    armed_reason: i === 1 || i === 3 ? 'ride-along with store staff' : null,
    consent: {
      given: i !== 2 && i !== 4,
      at: i !== 2 && i !== 4 ? iso(nowUs() - 90 * 864e8) : null,
      document_id: i !== 2 && i !== 4 ? `DOC-2026-011${i}` : null,
      recorded_by: i !== 2 && i !== 4 ? 'maria@example.com' : null,
    },
    agents: [12, 9, 7, 15, 4, 21][i],
    last_activity: iso(nowUs() - [18e7, 246e7, 72e8, 72e7, 936e8, 9e7][i]),
    sessions:
      i === 3
        ? [
            {
              id: randomUUID(),
              tenant_id: id,
              state: 'live',
              started_by: OPERATORS[1].id,
              started_at: iso(nowUs() - 12 * 6e7),
              ends_at: iso(nowUs() + 18 * 6e7),
              ended_at: null,
              end_reason: null,
            },
          ]
        : [],
  }));
  const workers = [0, 1, 2, 3].map((i) => ({
    id: `wkr_0190c3${i}`,
    provider: 'local',
    state: ['running', 'running', 'stopped', 'running'][i],
    orphan: i === 3,
    reason: i === 3 ? null : ['nightly backfill', 'model eval', 'ticket 8812'][i],
    launched_by: i === 3 ? null : OPERATORS[i].id,
    launched_at: iso(nowUs() - (i + 1) * 5e9),
    uptime_seconds: (i + 1) * 5000,
    cost_per_hour: [1.2, 0.45, 0, 2.8][i],
    provider_ref: { pid: 4000 + i },
  }));
  const steps = new Map();
  const idempotent = new Map();

  const append = (row) => {
    log.push(row);
    for (const f of followers) if (f.match(row)) f.queue(row);
    return row;
  };
  const sorted = () => {
    for (let i = log.length - 1; i > 0 && order(log[i - 1], log[i]) > 0; i--) [log[i - 1], log[i]] = [log[i], log[i - 1]];
    return log;
  };
  const actorsOf = (list) => Object.fromEntries(list.map((r) => [r.actor_id, OPERATORS.find((o) => o.id === r.actor_id)?.name]).filter(([, n]) => n));
  const answerOf = () => ({
    source: knobs.postgres ? 'postgres' : knobs.lag ? 'clickhouse+postgres' : 'clickhouse',
    replicated_through: knobs.postgres ? null : iso(nowUs() - knobs.lag * 1e6),
  });

  const fail = (status, code, message, retry) => Object.assign(new Error(message), { status, code, retry });

  const figures = (rows, minutes) => {
    const done = rows.filter((r) => r.outcome === 'completed');
    const ms = done.map((r) => r.latency_us / 1000).sort((a, b) => a - b);
    const q = (p) => (ms.length === 0 ? null : ms[Math.ceil(p * ms.length) - 1]);
    return {
      count: done.length,
      interrupted: rows.length - done.length,
      rpm: done.length / minutes,
      error_rate: done.filter((r) => r.status >= 500).length / (done.length || 1),
      client_error_rate: done.filter((r) => r.status >= 400 && r.status < 500).length / (done.length || 1),
      p50_ms: q(0.5),
      p95_ms: q(0.95),
      p99_ms: q(0.99),
      max_ms: ms.at(-1) ?? null,
    };
  };
  const groupKey = (by) => (r) =>
    ({
      route: r.route,
      actor: r.actor_id,
      tenant: r.path_params?.tenant ?? (/^\S+ \/v1\/tenants\/:id/.test(r.route) ? (r.path_params?.id ?? '') : ''),
      method: r.method,
      actor_kind: r.actor_kind,
      client: clientOf(r.user_agent),
      service: r.service,
      release: r.release === null ? r.service : `${r.service} ${r.release}`,
      status_class: r.status === null ? 'interrupted' : `${Math.floor(r.status / 100)}xx`,
    })[by];
  const groups = (rows, by) => {
    const map = new Map();
    for (const r of rows) {
      const k = groupKey(by)(r);
      if (!map.has(k)) map.set(k, []);
      map.get(k).push(r);
    }
    return map;
  };
  const windowed = (query, fallback) => {
    const q = new URLSearchParams(query);
    if (!q.get('since')) q.set('since', fallback);
    const f = filterOf(q);
    f.end = f.until ?? iso(nowUs());
    f.rows = log.filter(f.match);
    return f;
  };
  const stepOf = (query, f, most) => {
    const asked = /^(\d+)m$/.exec(query.get('step') ?? '');
    if (asked) return Number(asked[1]) * 60;
    const span = (Date.parse(f.end) - Date.parse(f.since)) / 1000;
    return [60, 120, 300, 600, 900, 1800, 3600, 7200, 10800, 21600, 43200, 86400, 172800, 604800].find((s) => span / s <= most) ?? 604800;
  };
  const buckets = (f, step) => {
    const out = [];
    for (let t = Math.floor(Date.parse(f.since) / 1000 / step) * step; t < Date.parse(f.end) / 1000; t += step) out.push(t);
    return out;
  };

  const routes = {
    'GET /v1/operators/me any': (c) => ({
      actor_id: c.who.id,
      actor_kind: c.kind,
      impersonator_id: null,
      name: c.who.name,
      email: c.who.email,
      pat_id: c.pat,
      break_glass_id: null,
      agent: null,
      preset: c.preset,
      scopes: c.scopes,
    }),
    'GET /v1/health any': () => ({
      status: knobs.postgres ? 'degraded' : 'ok',
      version: 'v0.0.0-mock',
      stages: [
        { name: 'postgres', status: 'ok', detail: '', facts: { partitions_ahead: 24, clock_skew_seconds: 0.002 } },
        { name: 'writer', status: 'ok', detail: '', facts: { lanes: 2, queue: 0, commits_per_second: 38.2 } },
        {
          name: 'replicator',
          status: knobs.lag ? 'degraded' : 'ok',
          detail: knobs.lag ? `The copy is ${knobs.lag} s behind.` : '',
          facts: { lag_seconds: knobs.lag || 0.12, slot: 'active', wal_behind_bytes: 0 },
        },
        { name: 'clickhouse', status: knobs.postgres ? 'down' : 'ok', detail: knobs.postgres ? 'ClickHouse does not answer; Postgres does.' : '', facts: {} },
        { name: 'identity', status: 'ok', detail: '', facts: { keys_age_seconds: 120 } },
      ],
    }),
    'GET /v1/ledger logs:read': () => {
      const root = createHash('sha256').update(`${log.length}`).digest('base64');
      const sealed = nowUs() - 4e5;
      return {
        origin: 'mock/argus',
        size: log.length,
        root,
        checkpoint: `mock/argus\n${log.length}\n${root}\n\n— mock/argus ${Buffer.alloc(68).toString('base64')}\n`,
        sealed_at: iso(sealed),
        age_seconds: 0.4,
        consistency: [],
        cosignatures: [],
      };
    },
    'GET /v1/services any': (c) => ({
      services: [
        { name: 'argus', mount: '/', health: { state: 'ok', at: iso(nowUs()), error: null }, release: '1.2.0', routes: [] },
        {
          name: 'billing',
          mount: '/svc/billing',
          health: { state: 'failing', at: iso(nowUs() - 4e6), error: '127.0.0.1:9001 refuses the connection' },
          release: 'billing-2.4.1',
          routes: [
            { route: 'GET /svc/billing/v1/invoices', scope: 'billing:read', effects: false, stream: false, reason_required: false, confirm: null },
            { route: 'POST /svc/billing/v1/invoices/:id/void', scope: 'billing:write', effects: true, stream: false, reason_required: true, confirm: 'id' },
          ],
        },
        {
          name: 'sample',
          mount: '/svc/sample',
          health: { state: 'ok', at: iso(nowUs() - 4e6), error: null },
          release: 'sample-1.4.2',
          routes: [{ route: 'GET /svc/sample/v1/events', scope: 'sample:read', effects: false, stream: true, reason_required: false, confirm: null }],
        },
      ].filter(() => c),
    }),
    'PUT /v1/tenants/:id tenants:write': (c) => {
      let t = tenants.find((x) => x.id === c.params[0]);
      if (!t) {
        t = { ...tenants[4], id: c.params[0], sessions: [], consent: { given: false, at: null, document_id: null, recorded_by: null } };
        tenants.push(t);
      }
      return Object.assign(t, {
        name: c.body.name,
        agents: c.body.agents ?? t.agents,
        retired: false,
        retired_at: null,
        retired_by: null,
        retired_reason: null,
      });
    },
    'PUT /v1/tenants/:id/consent tenants:write': (c) => {
      const t = tenantOf(c.params[0]);
      t.consent = { given: true, at: iso(nowUs()), document_id: c.body.document_id, recorded_by: c.who.id };
      return t;
    },
    'DELETE /v1/tenants/:id tenants:write': (c) =>
      Object.assign(tenantOf(c.params[0]), { retired: true, retired_at: iso(nowUs()), retired_by: c.who.id, retired_reason: c.body.reason }),
    'GET /v1/tenants tenants:read': (c) => ({
      tenants: tenants.filter((t) => !t.retired || c.query.get('retired') === 'true'),
      actors: Object.fromEntries(OPERATORS.map((o) => [o.id, o.name])),
    }),
    'GET /v1/tenants/:id tenants:read': (c) => tenantOf(c.params[0]),
    'POST /v1/tenants/:id/arm remote_support:arm': (c) => {
      const t = tenantOf(c.params[0]);
      if (knobs.rate429) throw fail(429, 'rate_limited', 'You arm too often.', knobs.rate429);
      if (c.body.confirm_tenant_id !== t.id) throw fail(403, 'confirmation_mismatch', 'confirm_tenant_id must repeat the tenant’s id.');
      if (!t.consent.given) throw fail(403, 'tenant_consent_required', `Tenant ${t.id} has no consent to remote support on record.`);
      if ((c.body.consent_document_id ?? t.consent.document_id) !== t.consent.document_id)
        throw fail(403, 'tenant_consent_required', `The consent of tenant ${t.id} is document ${t.consent.document_id}, not ${c.body.consent_document_id}.`);
      Object.assign(t, { armed: true, armed_at: iso(nowUs()), armed_by: c.who.id, armed_reason: c.body.reason });
      step(c, 'remote_support_audit', 'arm', {
        tenant_id: t.id,
        consent_document_id: t.consent.document_id,
        consent_recorded_by: t.consent.recorded_by,
        consent_recorded_at: t.consent.at,
      });
      return t;
    },
    'POST /v1/tenants/:id/disarm remote_support:arm': (c) => {
      const t = tenantOf(c.params[0]);
      Object.assign(t, { armed: false, armed_at: null, armed_by: null, armed_reason: null, sessions: [] });
      step(c, 'remote_support_audit', 'disarm', { tenant_id: t.id });
      return t;
    },
    'POST /v1/tenants/:id/sessions remote_support': (c) => {
      const t = tenantOf(c.params[0]);
      if (!t.armed) throw fail(409, 'conflict', 'The tenant is not armed.');
      const s = {
        id: randomUUID(),
        tenant_id: t.id,
        state: 'live',
        started_by: c.who.id,
        started_at: iso(nowUs()),
        ends_at: iso(nowUs() + (c.body.minutes ?? 30) * 6e7),
        ended_at: null,
        end_reason: null,
      };
      t.sessions.push(s);
      c.status = 201;
      return s;
    },
    'POST /v1/tenants/:id/sessions/:session/end remote_support': (c) => {
      const t = tenantOf(c.params[0]);
      const s = t.sessions.find((x) => x.id === c.params[1]);
      if (!s) throw fail(404, 'not_found', 'There is no such session.');
      t.sessions = t.sessions.filter((x) => x !== s);
      return { ...s, state: 'ended', ended_at: iso(nowUs()), end_reason: 'ended' };
    },
    'GET /compute/ops/workers compute:read': (c) => ({ workers: workers.filter((w) => c.query.get('all') === 'true' || w.state !== 'terminated') }),
    'POST /compute/ops/launch compute:write': (c) => {
      if (c.body.provider !== 'local') throw fail(400, 'invalid_parameter', `There is no provider "${c.body.provider}" here; there is local.`);
      const w = {
        id: `wkr_${randomUUID().slice(0, 8)}`,
        provider: 'local',
        state: 'running',
        orphan: false,
        reason: c.body.reason,
        launched_by: c.who.id,
        launched_at: iso(nowUs()),
        uptime_seconds: 0,
        cost_per_hour: 0.6,
        provider_ref: { pid: 5001 },
      };
      workers.unshift(w);
      c.status = 201;
      step(c, 'compute_control_audit', 'launch', { worker_id: w.id, provider: 'local', to_state: 'running' });
      return w;
    },
    'POST /compute/ops/workers/:id/:verb compute:write': (c) => {
      const w = workers.find((x) => x.id === c.params[0]);
      if (!w) throw fail(404, 'not_found', 'There is no such worker.');
      const to = { stop: 'stopped', resume: 'running', terminate: 'terminated' }[c.params[1]];
      step(c, 'compute_control_audit', c.params[1], { worker_id: w.id, provider: 'local', from_state: w.state, to_state: to });
      w.state = to;
      return w;
    },
    'GET /v1/access-review tokens:admin': (c) => {
      const empty = {
        impersonator_id: null,
        agent: null,
        denied: 0,
        created_at: null,
        expires_at: null,
        more_addresses: false,
        agents: [],
        more_agents: false,
      };
      const address = [{ value: '192.0.2.7', last_at: iso(nowUs()) }];
      const used = (scope, calls, denied = 0) => ({ scope, calls, denied, last_used_at: iso(nowUs()) });
      const subjects = [
        ...OPERATORS.map((o, i) => ({
          ...empty,
          kind: 'person',
          id: o.id,
          actor_id: o.id,
          name: o.name,
          state: i === 2 ? 'gone' : 'live',
          granted: i === 2 ? [] : i === 0 ? ALL : READ,
          used: [used('logs:read', 120), ...(i === 1 ? [used('tokens:admin', 3, 3)] : [])],
          unused: i === 2 ? [] : (i === 0 ? ALL : READ).filter((s) => s !== 'logs:read'),
          calls: 140 + i,
          denied: i === 1 ? 3 : 0,
          last_used_at: iso(nowUs() - i * 864e8),
          addresses: i === 0 ? ['192.0.2.7', '198.51.100.20', '2001:db8::1f', '203.0.113.9'].map((value) => ({ ...address[0], value })) : address,
        })),
        ...pats.map((p, i) => ({
          ...empty,
          kind: 'token',
          id: p.id,
          actor_id: p.actor_id,
          name: p.name,
          agent: i === 1 ? 'claude-code' : null,
          state: isLive(p) ? 'live' : 'revoked',
          granted: p.scopes,
          used: [used('logs:read', 5)],
          unused: isLive(p) ? p.scopes.filter((s) => s !== 'logs:read') : [],
          calls: i * 7,
          last_used_at: p.last_used_at,
          addresses: i ? address : [],
        })),
        {
          ...empty,
          kind: 'workload',
          id: 'github:deploy-bot',
          actor_id: 'github:deploy-bot',
          name: null,
          state: 'live',
          granted: ['compute:read', 'compute:write'],
          used: [used('compute:write', 12)],
          unused: ['compute:read'],
          calls: 12,
          last_used_at: iso(nowUs()),
          addresses: address,
        },
      ];
      const kind = c.query.get('kind');
      return {
        since: iso(nowUs() - 90 * 864e8),
        until: iso(nowUs()),
        subjects: subjects.filter((s) => !kind || s.kind === kind),
        next_cursor: null,
        actors: Object.fromEntries(OPERATORS.map((o) => [o.id, o.name])),
        source: 'clickhouse',
        replicated_through: null,
      };
    },
    'GET /v1/tokens any': (c) => {
      const owner = c.query.get('owner') ?? c.who.id;
      if (owner !== c.who.id && !c.scopes.includes('tokens:admin'))
        throw fail(403, 'insufficient_scope', 'Listing the tokens of others needs the scope tokens:admin, which your credential does not have.');
      const days = parseInt(c.query.get('unused_since') ?? '0', 10);
      const found = pats.filter(
        (p) =>
          (owner === 'all' || p.actor_id === owner) &&
          (!c.query.has('state') || isLive(p) === (c.query.get('state') === 'live')) &&
          (!days || Date.parse(p.last_used_at ?? p.created_at) < Date.now() - days * 864e5),
      );
      const from = Number(c.query.get('cursor') ?? 0);
      const to = from + Number(c.query.get('limit') ?? 100);
      return {
        tokens: found.slice(from, to),
        next_cursor: to < found.length ? String(to) : null,
        actors: Object.fromEntries(OPERATORS.map((o) => [o.id, o.name])),
      };
    },
    'POST /v1/tokens tokens:write': (c) => {
      const asked = c.body.preset ? (c.body.preset === 'admin-full' ? ALL : READ) : c.body.scopes;
      const scopes = c.body.agent && !c.body.agent_actions ? asked.filter((scope) => scope.endsWith(':read')) : asked;
      const p = pat({
        id: randomUUID(),
        name: c.body.name ?? c.body.agent,
        agent: c.body.agent ?? null,
        agent_actions: c.body.agent_actions ?? false,
        preset: c.body.preset ?? null,
        scopes,
        actor_id: c.who.id,
        parent_id: c.pat,
        audit_id: c.row.id,
        expires_at: iso(nowUs() + parseInt(c.body.expires_in, 10) * 864e8),
        last_four: 'k3Za',
      });
      pats.unshift(p);
      c.status = 201;
      const secret = `argus_pat_${createHash('sha256').update(p.id).digest('hex').slice(0, 45)}k3Za`;
      tokens.set(secret, { scopes, preset: p.preset, who: c.who, pat: p.id });
      return { token: p, secret };
    },
    'GET /v1/tokens/:id any': (c) => ({ ...reachable(c), descendants: below(c.params[0]) }),
    'DELETE /v1/tokens/:id any': (c) => {
      const p = reachable(c);
      return { ...p, descendants: end([p.id], c.who.id).slice(1) };
    },
    'POST /v1/tokens/revoke tokens:admin': (c) => {
      if (c.body.owner)
        return {
          token: null,
          revoked: end(
            pats.filter((p) => p.actor_id === c.body.owner).map((p) => p.id),
            c.who.id,
          ),
        };
      const id = tokens.get(c.body.secret)?.pat;
      if (!id) throw fail(404, 'not_found', 'No token of this ARGUS has that secret.');
      return { token: pats.find((p) => p.id === id), revoked: end([id], c.who.id) };
    },
    'GET /v1/audit-log logs:read': (c) => {
      const limit = Number(c.query.get('limit') ?? 100);
      const asc = c.query.get('order') === 'asc';
      const f = filterOf(c.query);
      let at = null;
      let top = log.length;
      if (c.query.get('cursor')) [at, top, f.since, f.until] = JSON.parse(Buffer.from(c.query.get('cursor'), 'base64url').toString());
      const all = sorted();
      const snapshot = c.snapshot;
      const rows = [];
      let more = false;
      for (let i = asc ? 0 : all.length - 1; asc ? i < all.length : i >= 0; i += asc ? 1 : -1) {
        const r = all[i];
        if (r.seq > (at === null ? snapshot : top) || !f.match(r)) continue;
        if (at !== null && (asc ? order(r, at) <= 0 : order(r, at) >= 0)) continue;
        if (rows.length === limit) {
          more = true;
          break;
        }
        rows.push(r);
      }
      const last = rows.at(-1);
      const key = last && { occurred_at: last.occurred_at, writer_id: last.writer_id, seq: last.seq };
      return {
        rows,
        next_cursor: more ? Buffer.from(JSON.stringify([key, at === null ? snapshot : top, f.since, f.until])).toString('base64url') : null,
        snapshot: `c6.7-${snapshot.toString(36)}`,
        since: f.since,
        until: f.until,
        ...answerOf(),
        actors: actorsOf(rows),
        break_glass: rows.some((r) => r.break_glass_id) ? { [rows.find((r) => r.break_glass_id).break_glass_id]: BREAK_GLASS_REASON } : {},
      };
    },
    'GET /v1/audit-log/facets logs:read': (c) => {
      const f = windowed(c.query, '365d');
      const fields = (c.query.get('fields') ?? 'actor,route,status,actor_kind,pat,client,method,service,release,error_code,agent').split(',').filter(Boolean);
      const get = {
        actor: (r) => r.actor_id,
        route: (r) => r.route,
        status: (r) => r.status && String(r.status),
        actor_kind: (r) => r.actor_kind,
        pat: (r) => r.pat_id,
        client: (r) => clientOf(r.user_agent),
        method: (r) => r.method,
        break_glass: (r) => r.break_glass_id,
        service: (r) => r.service,
        release: (r) => r.release,
        error_code: (r) => r.error_code,
        agent: (r) => r.agent,
      };
      const name = (field, v) =>
        (field === 'actor' ? OPERATORS.find((o) => o.id === v)?.name : field === 'pat' ? pats.find((p) => p.id === v)?.name : null) ?? null;
      const out = {};
      for (const field of fields) {
        const counts = new Map();
        for (const r of f.rows) {
          const v = get[field]?.(r);
          if (v !== null && v !== undefined) counts.set(v, (counts.get(v) ?? 0) + 1);
        }
        out[field] = [...counts]
          .sort((a, b) => b[1] - a[1])
          .slice(0, 100)
          .map(([value, count]) => ({ value, name: name(field, value), count }));
      }
      const step = stepOf(c.query, f, 120);
      const bars = new Map(buckets(f, step).map((t) => [t, { at: iso(t * 1e6), count: 0, client_errors: 0, errors: 0, interrupted: 0 }]));
      for (const r of f.rows) {
        const b = bars.get(Math.floor(Date.parse(r.occurred_at) / 1000 / step) * step);
        if (!b) continue;
        b.count++;
        if (r.status === null) b.interrupted++;
        else if (r.status >= 500) b.errors++;
        else if (r.status >= 400) b.client_errors++;
      }
      return { since: f.since, until: f.end, total: f.rows.length, fields: out, step_seconds: step, histogram: [...bars.values()], ...answerOf() };
    },
    'GET /v1/audit-log/:id logs:read': (c) => {
      const r = log.find((x) => x.id === c.params[0]);
      if (!r) throw fail(404, 'not_found', 'There is no such call.');
      let own = steps.get(r.id) ?? [];
      if (own.length === 0 && /\/(arm|disarm|stop)$/.test(r.route)) {
        const base = {
          audit_id: r.id,
          actor_id: r.actor_id,
          worker_id: null,
          provider: null,
          from_state: null,
          to_state: null,
          tenant_id: null,
          session_id: null,
          consent_document_id: null,
          reason: 'ride-along',
          error: null,
        };
        const table = r.route.includes('compute') ? 'compute_control_audit' : 'remote_support_audit';
        const more =
          table === 'compute_control_audit'
            ? { worker_id: r.path_params.id, provider: 'local', from_state: 'running', to_state: 'stopped' }
            : { tenant_id: r.path_params.id, consent_document_id: 'DOC-2026-0117' };
        const action = r.route.split('/').pop();
        own = [
          { ...base, ...more, table, step: 1, at: r.occurred_at, action, result: 'requested' },
          {
            ...base,
            ...more,
            table,
            step: 2,
            at: r.recorded_at,
            action,
            result: r.status < 300 ? 'succeeded' : 'denied',
            error: r.status < 300 ? null : 'rate_limited: You arm too often.',
          },
        ];
      }
      return {
        ...r,
        steps: own,
        source: 'clickhouse',
        actors: actorsOf([r]),
        break_glass_reason: r.break_glass_id ? BREAK_GLASS_REASON : null,
        sentence: `${actorsOf([r])[r.actor_id] ?? r.actor_id} called ${r.route}${r.reason ? `: ${r.reason}` : ''}`,
      };
    },
    'GET /v1/perf logs:read': (c) => {
      const by = c.query.get('group_by') ?? 'route';
      const f = windowed(c.query, '1h');
      const span = Date.parse(f.end) - Date.parse(f.since);
      const before = groups(
        log.filter((r) => {
          const t = Date.parse(r.occurred_at);
          return t < Date.parse(f.since) && t >= Date.parse(f.since) - span;
        }),
        by,
      );
      return {
        group_by: by,
        since: f.since,
        until: f.end,
        ...answerOf(),
        rows: [...groups(f.rows, by)]
          .map(([g, rows]) => {
            const now = figures(rows, span / 60e3);
            const was = figures(before.get(g) ?? [], span / 60e3);
            const changed = ['p50', 'p95', 'p99'].filter((q) => was[`${q}_ms`] && Math.abs(now[`${q}_ms`] - was[`${q}_ms`]) / was[`${q}_ms`] > 0.2);
            if (Math.abs(now.error_rate - was.error_rate) > 0.01) changed.push('error_rate');
            if (was.rpm && Math.abs(now.rpm - was.rpm) / was.rpm > 0.2) changed.push('rpm');
            return { [by]: g, ...now, ...(c.query.get('compare') === 'true' && { before: { [by]: g, ...was }, changed }) };
          })
          .sort((a, b) => b.count - a.count),
      };
    },
    'GET /v1/perf/series logs:read': (c) => {
      const by = c.query.get('group_by');
      const f = windowed(c.query, '1h');
      const step = stepOf(c.query, f, 120);
      const times = buckets(f, step);
      const series = [...(by ? groups(f.rows, by) : new Map([['', f.rows]]))].map(([group, rows]) => {
        const parts = new Map(times.map((t) => [t, []]));
        for (const r of rows) parts.get(Math.floor(Date.parse(r.occurred_at) / 1000 / step) * step)?.push(r);
        const points = times.map((t) => ({ at: iso(t * 1e6), ...figures(parts.get(t), step / 60) }));
        if (c.query.get('compare') !== 'true') return { group, points, before: [], started_at: null, started_by: null };
        // The window before is made up of this one, twice as fast; a start is where the third quarter begins.
        const before = points.map((p) => ({
          ...p,
          at: iso((Date.parse(p.at) - (Date.parse(f.end) - Date.parse(f.since))) * 1000),
          p99_ms: p.p99_ms && p.p99_ms / 2,
        }));
        return { group, points, before, started_at: points[Math.floor((points.length * 3) / 4)]?.at ?? null, started_by: 'latency' };
      });
      return { group_by: by, since: f.since, until: f.end, step_seconds: step, series, ...answerOf() };
    },
    'GET /v1/perf/differs logs:read': (c) => {
      const q = new URLSearchParams(c.query);
      const own = ['region', 'region_since', 'region_until', 'region_latency_min', 'region_latency_max', 'baseline', 'limit'];
      const [kind, since, until] = own.map((name) => q.get(name));
      const beside = q.get('baseline') ?? (since || kind ? 'rest' : 'before');
      for (const name of own) q.delete(name);
      const f = windowed(q, '1h');
      const [from, to] = [since ?? f.since, until ?? f.end];
      const slow = 60_000;
      const inside = (r) =>
        Date.parse(r.occurred_at) >= Date.parse(from) &&
        Date.parse(r.occurred_at) < Date.parse(to) &&
        (kind !== 'slow' || r.latency_us >= slow) &&
        (kind !== 'failed' || r.status >= 500) &&
        (kind !== 'interrupted' || r.outcome === 'interrupted');
      const region = f.rows.filter(inside);
      const rest = beside === 'rest' ? f.rows.filter((r) => !inside(r)) : log.filter((r) => Date.parse(r.occurred_at) < Date.parse(from)).slice(0, 400);
      const quantile = (rows, at) => figures(rows, 1)[at];
      const sides = (a, b) => ({
        calls: a.length,
        baseline_calls: b.length,
        share: region.length ? a.length / region.length : 0,
        baseline_share: rest.length ? b.length / rest.length : 0,
        p50_ms: quantile(a, 'p50_ms'),
        baseline_p50_ms: quantile(b, 'p50_ms'),
        p99_ms: quantile(a, 'p99_ms'),
        baseline_p99_ms: quantile(b, 'p99_ms'),
      });
      const dimensions = Object.entries({
        tenant: (r) => r.path_params?.id ?? '',
        actor: (r) => r.actor_id,
        client: (r) => r.user_agent.split(/[/ ]/)[0],
        status: (r) => (r.status === null ? 'interrupted' : String(r.status)),
        service: (r) => r.service,
        release: (r) => r.release ?? '',
      }).map(([dimension, of]) => {
        const values = [...new Set([...region, ...rest].map(of))]
          .map((value) => {
            const v = sides(
              region.filter((r) => of(r) === value),
              rest.filter((r) => of(r) === value),
            );
            const score = Math.max(0, Math.abs(v.share - v.baseline_share) - 0.05);
            const departs = score === 0 ? null : v.share > v.baseline_share ? 'more' : 'less';
            const name = dimension === 'actor' ? (OPERATORS.find((o) => o.id === value)?.name ?? null) : null;
            return { value, name, ...v, score, departs };
          })
          .sort((a, b) => b.score - a.score || b.calls - a.calls);
        return { dimension, values: values.slice(0, 10), other: { values: Math.max(0, values.length - 10), ...sides([], []) } };
      });
      return {
        since: f.since,
        until: f.end,
        region: { since: from, until: to, kind, latency_min_ms: kind === 'slow' ? slow / 1000 : null, latency_max_ms: null },
        baseline: { kind: beside, since: f.since, until: f.end },
        calls: sides(region, rest),
        dimensions: dimensions.sort((a, b) => b.values[0].score - a.values[0].score),
        ...answerOf(),
      };
    },
  };

  const tenantOf = (id) => {
    const t = tenants.find((x) => x.id === id);
    if (!t) throw fail(404, 'not_found', 'There is no such tenant.');
    return t;
  };
  const step = (c, table, action, more) => {
    const base = {
      audit_id: c.row.id,
      actor_id: c.who.id,
      worker_id: null,
      provider: null,
      from_state: null,
      to_state: null,
      tenant_id: null,
      session_id: null,
      impersonator_id: null,
      consent_document_id: null,
      consent_recorded_by: null,
      consent_recorded_at: null,
      reason: c.body.reason,
      error: null,
      ...more,
    };
    steps.set(
      c.row.id,
      ['requested', 'succeeded'].map((result, i) => ({ ...base, table, step: i + 1, at: iso(nowUs()), action, result })),
    );
  };

  const compiled = Object.entries(routes).map(([key, handle]) => {
    const [method, template, scope] = key.split(' ');
    return { method, template, scope, handle, test: new RegExp(`^${template.replace(/:\w+/g, '([^/]+)')}$`) };
  });
  compiled.push({ method: 'GET', template: '/v1/audit-log/stream', scope: 'logs:read', test: /^\/v1\/audit-log\/stream$/, raw: stream });
  compiled.push({ method: 'GET', template: '/v1/audit-log/export', scope: 'logs:read', test: /^\/v1\/audit-log\/export$/, raw: exportRows });
  compiled.sort((a, b) => (a.template.includes(':') ? 1 : 0) - (b.template.includes(':') ? 1 : 0));

  function stream(c, res) {
    const q = new URLSearchParams(c.query);
    const f = filterOf(q);
    res.writeHead(200, { 'Content-Type': 'text/event-stream', 'Cache-Control': 'no-store' });
    const from = c.req.headers['last-event-id'] ?? q.get('cursor');
    const position = from ? parseInt(/-(\w+)$/.exec(from)?.[1] ?? '0', 36) : c.snapshot;
    const send = (event, data, id) => res.write(`event: ${event}\n${id ? `id: c6.7-${id.toString(36)}\n` : ''}data: ${JSON.stringify(data)}\n\n`);
    send('ready', {}, position);
    for (const r of log.filter((x) => x.seq > position && f.match(x)).sort((a, b) => a.seq - b.seq)) send('row', r, r.seq);
    const follower = { match: f.match, queue: (row) => send('row', row, row.seq) };
    followers.add(follower);
    const ping = setInterval(() => send('ping', {}), 10_000);
    res.on('close', () => {
      clearInterval(ping);
      followers.delete(follower);
    });
  }

  function exportRows(c, res) {
    const f = filterOf(c.query);
    const list = sorted().filter((r) => r.seq <= c.snapshot && f.match(r));
    if (c.query.get('order') === 'desc') list.reverse();
    const csv = c.query.get('format') === 'csv';
    res.writeHead(200, { 'Content-Type': csv ? 'text/csv' : 'application/x-ndjson', 'Argus-Export-Cursor': 'mock' });
    const keys = list[0] ? Object.keys(list[0]) : [];
    const cell = (v) => {
      let s = v === null ? '' : typeof v === 'object' ? JSON.stringify(v) : String(v);
      if (/^[=+\-@]/.test(s)) s = `'${s}`;
      return /[",\n\r]/.test(s) ? `"${s.replaceAll('"', '""')}"` : s;
    };
    if (csv) res.write(`${keys.join(',')}\n`);
    for (const r of list) res.write(csv ? `${keys.map((k) => cell(r[k])).join(',')}\n` : `${JSON.stringify(r)}\n`);
    res.end();
  }

  const json = (res, status, value, headers = {}) => {
    const body = gzipSync(JSON.stringify(value), { level: 1 });
    res.writeHead(status, { 'Content-Type': 'application/json', 'Content-Encoding': 'gzip', ...headers });
    res.end(body);
  };

  const server = createServer(async (req, res) => {
    const started = nowUs();
    const url = new URL(req.url, base());
    const body = Buffer.concat(await readAll(req));
    if (url.pathname.startsWith('/__mock')) return control(url, body, res);
    if (url.pathname.startsWith('/__issuer')) return issuer(req, url, body, res);
    if (url.pathname === '/console-config.json') {
      return json(res, 200, {
        version: 'mock',
        auth,
        clerk_publishable_key: clerkKey,
        clerk_frontend_api: null,
        local_sign_in_url: auth === 'local' ? `${base()}/__issuer/sign-in` : null,
        issuers: [],
      });
    }
    const route = compiled.find((r) => r.method === req.method && r.test.test(url.pathname));
    if (!route) return file(url, res);
    if (knobs.down) return req.socket.destroy();
    const secret = /^Bearer (.+)$/.exec(req.headers.authorization ?? '')?.[1];
    const session = sessions.get(secret);
    const cred = tokens.get(secret) ?? (session && session.until > Date.now() ? session : null);
    if (!cred) return json(res, 401, { error: { code: 'unauthenticated', message: 'The credential is not accepted.', audit_id: null } });
    const snapshot = log.reduce((n, r) => Math.max(n, r.seq), 0);
    const row = makeRow(started, {
      actor_id: cred.who.id,
      actor_kind: cred.pat ? 'pat' : 'clerk_session',
      pat_id: cred.pat ?? null,
      break_glass_id: null,
      scope: route.scope,
      route: `${req.method} ${route.template}`,
      method: req.method,
      client_ip: '127.0.0.1',
      user_agent: req.headers['user-agent'] ?? '',
      outcome: 'completed',
      path_params: {},
      body_sha256: createHash('sha256').update(body).digest('hex'),
      body_bytes: body.length,
      client_request_id: null,
    });
    const params = route.test.exec(url.pathname).slice(1).map(decodeURIComponent);
    for (const [i, [, name]] of [...route.template.matchAll(/:(\w+)/g)].entries()) row.path_params[name] = params[i];
    const c = {
      req,
      query: url.searchParams,
      params,
      who: cred.who,
      kind: cred.pat ? 'pat' : 'clerk_session',
      pat: cred.pat ?? null,
      preset: cred.preset,
      scopes: cred.scopes,
      row,
      snapshot,
      status: 200,
      body: {},
    };
    const answered = (status) => append(Object.assign(row, { status, latency_us: nowUs() - started, recorded_at: iso(nowUs() + 300) }));
    try {
      if (route.scope !== 'any' && !cred.scopes.includes(route.scope)) throw fail(403, 'insufficient_scope', `This call needs the scope ${route.scope}.`);
      if (body.length) c.body = JSON.parse(body.toString());
      if (route.raw) {
        answered(200);
        return route.raw(c, res);
      }
      const key = req.headers['idempotency-key'];
      const kept = key && idempotent.get(`${cred.who.id}${key}`);
      if (kept && kept.what !== `${url.pathname}${body}`) throw fail(422, 'idempotency_key_reused', 'The key was used for another request.');
      const answer = kept ? kept.answer : await route.handle(c);
      if (key && !kept) idempotent.set(`${cred.who.id}${key}`, { what: `${url.pathname}${body}`, answer });
      answered(c.status);
      json(res, c.status, answer, { 'Argus-Audit-Id': row.id });
    } catch (cause) {
      const status = cause.status ?? (typeof cause === 'string' ? 400 : 500);
      if (status === 500) console.error(cause);
      answered(status);
      json(
        res,
        status,
        { error: { code: cause.code ?? 'invalid_parameter', message: String(cause.message ?? cause), audit_id: row.id } },
        { 'Argus-Audit-Id': row.id, ...(cause.retry && { 'Retry-After': String(cause.retry) }) },
      );
    }
  });

  async function readAll(req) {
    const parts = [];
    for await (const part of req) parts.push(part);
    return parts;
  }

  /** Turns knobs, and makes calls come in. */
  function control(url, body, res) {
    const q = url.searchParams;
    if (url.pathname === '/__mock/knobs') {
      for (const [k, v] of q) knobs[k] = v === 'true' ? true : v === 'false' ? false : Number(v);
    } else if (url.pathname === '/__mock/append') {
      for (let i = 0; i < Number(q.get('n') ?? 1); i++) append(makeRow(nowUs(), body.length ? JSON.parse(body.toString()) : {}));
    } else if (url.pathname === '/__mock/cut') {
      server.closeAllConnections();
    } else if (url.pathname === '/__mock/expire') {
      for (const s of sessions.values()) s.until = 0;
      sessions.ended = true;
    }
    json(res, 200, knobs);
  }

  /** The local issuer's sign-in, as internal/localissuer. */
  function issuer(req, url, body, res) {
    const sign = (who) => {
      const admin = who.role === 'org:admin';
      const exp = Math.floor(Date.now() / 1000) + 60;
      const token = `h.${Buffer.from(JSON.stringify({ sub: who.id, org_id: 'org_2argusdev', org_role: who.role, exp, jti: randomUUID() })).toString('base64url')}.s`;
      sessions.set(token, { scopes: admin ? ALL : READ, preset: admin ? 'admin-full' : 'support-readonly', who, until: exp * 1000 });
      return token;
    };
    if (url.pathname.endsWith('/sign-in') && req.method === 'GET') {
      res.writeHead(200, { 'Content-Type': 'text/html' });
      const hidden = ['redirect_url', 'state'].map((n) => `<input type=hidden name=${n} value="${url.searchParams.get(n)}">`).join('');
      return res.end(
        `<form method=post action=/__issuer/sign-in>${hidden}${OPERATORS.map((o) => `<button name=operator value=${o.id}>${o.name}</button>`).join('')}</form>`,
      );
    }
    if (url.pathname.endsWith('/sign-in')) {
      const form = new URLSearchParams(body.toString());
      const who = OPERATORS.find((o) => o.id === form.get('operator'));
      sessions.ended = false;
      const fragment = new URLSearchParams({ session_token: sign(who), refresh_token: `refresh.${who.id}`, state: form.get('state') });
      res.writeHead(303, { Location: `${form.get('redirect_url')}#${fragment}` });
      return res.end();
    }
    const who = OPERATORS.find((o) => req.headers.authorization === `Bearer refresh.${o.id}`);
    if (!who || sessions.ended) return json(res, 401, {});
    if (url.pathname.endsWith('/token')) return json(res, 200, { session_token: sign(who), expires_in: 60 });
    sessions.ended = true;
    res.writeHead(204);
    return res.end();
  }

  async function file(url, res) {
    try {
      const name = url.pathname === '/' ? 'index.html' : path.normalize(url.pathname).slice(1);
      const data = await readFile(path.join(DIST, name));
      res.writeHead(200, {
        'Content-Type': TYPES[path.extname(name)] ?? 'application/octet-stream',
        'Content-Security-Policy': `default-src 'none'; script-src 'self'; style-src 'self'; font-src 'self'; img-src 'self'; connect-src 'self'${auth === 'clerk' ? ' https://clerk.argus.example' : ''}; worker-src ${auth === 'clerk' ? "'self' blob:" : "'none'"}; manifest-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'`,
        'Cache-Control': 'no-cache',
      });
      res.end(data);
    } catch {
      json(res, 404, { error: { code: 'not_found', message: 'There is nothing here.', audit_id: null } });
    }
  }

  const base = () => `http://127.0.0.1:${server.address().port}`;
  await new Promise((resolve) => server.listen(port, '127.0.0.1', resolve));
  return {
    url: base(),
    close: () => {
      server.closeAllConnections();
      server.close();
    },
  };
}
