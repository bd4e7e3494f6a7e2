// The shapes of the API's JSON. Keys are the server's own.

export interface Row {
  writer_id: number;
  seq: number;
  id: string;
  occurred_at: string;
  recorded_at: string;
  actor_id: string;
  impersonator_id: string | null;
  actor_kind: 'clerk_session' | 'oidc_session' | 'pat' | 'break_glass' | 'workload';
  pat_id: string | null;
  break_glass_id: string | null;
  scope: string;
  route: string;
  path_params: Record<string, string>;
  method: string;
  status: number | null;
  outcome: 'completed' | 'interrupted';
  latency_us: number | null;
  client_ip: string;
  user_agent: string;
  body_sha256: string | null;
  body_bytes: number;
  client_request_id: string | null;
  trace_id: string | null;
  service: string;
  release: string | null;
  error_code: string | null;
  reason: string | null;
  agent: string | null;
  workload: Record<string, string> | null;
  row_hash: string;
  /** when the search asked for them */
  steps?: Step[] | null;
}

export type Source = 'clickhouse' | 'clickhouse+postgres' | 'postgres';

export interface Answer {
  source: Source;
  replicated_through: string | null;
}

export interface SearchPage extends Answer {
  rows: Row[];
  next_cursor: string | null;
  snapshot: string;
  since: string | null;
  until: string | null;
  actors: Record<string, string>;
  break_glass: Record<string, string>;
  /** of a live tail: a sentence for each value of the filter that no call had */
  awaited?: string[];
}

export interface Step {
  table: string;
  step: number;
  at: string;
  actor_id: string;
  impersonator_id: string | null;
  action: string;
  worker_id: string | null;
  provider: string | null;
  from_state: string | null;
  to_state: string | null;
  tenant_id: string | null;
  session_id: string | null;
  consent_document_id: string | null;
  consent_recorded_by: string | null;
  consent_recorded_at: string | null;
  reason: string | null;
  result: string;
  error: string | null;
}

export interface CallDetail extends Row {
  steps: Step[] | null;
  source: Source;
  actors: Record<string, string>;
  break_glass_reason: string | null;
  /** What the call did, for people; made by the server. */
  sentence: string;
}

export interface FacetValue {
  value: string;
  name: string | null;
  count: number;
}

export interface Bar {
  at: string;
  count: number;
  client_errors: number;
  interrupted: number;
  errors: number;
}

export interface Facets extends Answer {
  since: string | null;
  until: string | null;
  total: number;
  fields: Record<string, FacetValue[]>;
  step_seconds: number;
  histogram: Bar[];
}

export interface PerfFigures {
  count: number;
  interrupted: number;
  rpm: number;
  error_rate: number;
  client_error_rate: number;
  p50_ms: number | null;
  p95_ms: number | null;
  p99_ms: number | null;
  max_ms: number | null;
}

export type GroupBy = 'route' | 'service' | 'release' | 'actor' | 'tenant' | 'method' | 'actor_kind' | 'client' | 'status_class';

/** A row of GET /v1/perf; the group's name is under the key that it was grouped by. */
export interface PerfRow extends PerfFigures {
  route?: string;
  actor?: string;
  tenant?: string;
  method?: string;
  actor_kind?: string;
  client?: string;
  status_class?: string;
  service?: string;
  release?: string;
  before?: PerfFigures | null;
  changed?: string[] | null;
}

export interface Perf extends Answer {
  group_by: GroupBy;
  since: string;
  until: string;
  rows: PerfRow[];
}

export interface SeriesPoint extends PerfFigures {
  at: string;
}

export interface PerfSeries extends Answer {
  since: string;
  until: string;
  step_seconds: number;
  series: PerfLine[];
}

/** A group over time. before, and the start of a regression, are there when a comparison was asked for. */
export interface PerfLine {
  group: string;
  points: SeriesPoint[];
  before: SeriesPoint[];
  started_at: string | null;
  started_by: 'latency' | 'errors' | null;
}

/** The calls of a region beside those of the baseline. */
export interface DifferFigures {
  calls: number;
  baseline_calls: number;
  share: number;
  baseline_share: number;
  p50_ms: number | null;
  baseline_p50_ms: number | null;
  p99_ms: number | null;
  baseline_p99_ms: number | null;
}

export interface DifferValue extends DifferFigures {
  value: string;
  name: string | null;
  score: number;
  departs: 'more' | 'less' | 'slower' | 'faster' | null;
}

export interface Differs extends Answer {
  since: string;
  until: string;
  region: { since: string; until: string; kind: string | null; latency_min_ms: number | null; latency_max_ms: number | null };
  baseline: { kind: 'rest' | 'before'; since: string; until: string };
  calls: DifferFigures;
  dimensions: { dimension: string; values: DifferValue[]; other: DifferFigures & { values: number } }[];
}

export interface SupportSession {
  id: string;
  tenant_id: string;
  state: 'live' | 'ended';
  started_by: string;
  started_at: string;
  ends_at: string;
  ended_at: string | null;
  end_reason: string | null;
}

export interface Tenant {
  id: string;
  name: string;
  armed: boolean;
  armed_at: string | null;
  armed_by: string | null;
  armed_reason: string | null;
  consent: { given: boolean; at: string | null; document_id: string | null; recorded_by: string | null };
  agents: number;
  last_activity: string | null;
  sessions: SupportSession[] | null;
  retired: boolean;
  retired_at: string | null;
  retired_by: string | null;
  retired_reason: string | null;
}

export interface ServiceRoute {
  route: string;
  scope: string;
  effects: boolean;
  stream: boolean;
  reason_required: boolean;
  confirm: string | null;
}

export interface Backfill {
  id: number;
  since: string;
  state: 'asked' | 'running' | 'done' | 'failed';
  rows: number | null;
  shipped: number;
  error: string | null;
  asked_by: string;
  asked_at: string;
  finished_at: string | null;
}

/** Where argusd ship gives the log to. */
export interface Sink {
  sink: string;
  type: string;
  target: string;
  format: string;
  filter: string;
  state: 'shipping' | 'idle' | 'retrying' | 'paused' | 'down' | 'undeclared';
  host: string | null;
  lag_rows: number;
  lag_seconds: number;
  rows_per_second: number;
  rows: number;
  acknowledged_at: string | null;
  last_error: string | null;
  error_at: string | null;
  next_retry_at: string | null;
  retention_at: string | null;
  rejected_rows: number;
  paused_by: string | null;
  paused_at: string | null;
  newest: { batch: string } | null;
  backfills: Backfill[];
}

export interface Service {
  name: string;
  mount: string;
  health: { state: 'ok' | 'failing' | 'unknown'; at: string | null; error: string | null };
  release: string | null;
  routes: ServiceRoute[];
}

export interface Worker {
  id: string;
  provider: string;
  state: 'running' | 'stopped' | 'terminated' | 'launching' | 'stopping' | 'resuming' | 'terminating' | 'failed';
  orphan: boolean;
  reason: string | null;
  launched_by: string | null;
  launched_at: string | null;
  uptime_seconds: number | null;
  cost_per_hour: number | null;
  provider_ref: Record<string, unknown> | null;
}

export interface Token {
  id: string;
  kind: 'pat' | 'break_glass';
  actor_id: string;
  name: string;
  preset: string | null;
  scopes: string[];
  agent: string | null;
  agent_actions: boolean;
  parent_id: string | null;
  audit_id: string | null;
  created_at: string;
  expires_at: string;
  last_used_at: string | null;
  revoked_at: string | null;
  revoked_by: string | null;
  revoked_with: string | null;
  revoked_audit_id: string | null;
  last_four: string;
}

export interface SeenValue {
  value: string;
  last_at: string;
}

/** A subject of GET /v1/access-review. */
export interface AccessSubject {
  kind: 'person' | 'impersonation' | 'token' | 'workload' | 'break_glass';
  id: string;
  actor_id: string;
  impersonator_id: string | null;
  name: string | null;
  state: 'live' | 'revoked' | 'expired' | 'gone' | 'unknown';
  agent: string | null;
  granted: string[] | null;
  used: { scope: string; calls: number; denied: number; last_used_at: string }[];
  unused: string[] | null;
  calls: number;
  denied: number;
  last_used_at: string | null;
  created_at: string | null;
  expires_at: string | null;
  addresses: SeenValue[];
  more_addresses: boolean;
  agents: SeenValue[];
  more_agents: boolean;
}

export interface AccessReview extends Answer {
  since: string;
  until: string;
  subjects: AccessSubject[];
  next_cursor: string | null;
  actors: Record<string, string>;
}

export interface TokenList {
  tokens: Token[];
  next_cursor: string | null;
  actors: Record<string, string>;
}

export interface Operator {
  actor_id: string;
  actor_kind: 'clerk_session' | 'oidc_session' | 'pat' | 'break_glass' | 'workload';
  impersonator_id: string | null;
  name: string | null;
  email: string | null;
  /** When the credential ends; null for one that does not say. */
  expires_at?: string | null;
  pat_id: string | null;
  break_glass_id: string | null;
  agent: string | null;
  preset: string | null;
  scopes: string[];
}

export interface Stage {
  name: string;
  status: 'ok' | 'degraded' | 'down';
  detail: string;
  facts: Record<string, unknown> | null;
}

export interface Health {
  status: 'ok' | 'degraded' | 'down';
  version: string;
  stages: Stage[];
}

/** A view of the log that a team shares. */
export interface SavedView {
  id: string;
  name: string;
  /** the query of a search */
  filter: string;
  saved_by: string;
  saved_at: string;
  audit_id: string;
  /** why the filter cannot be used any more; null: it can */
  problem: string | null;
}

/** What GET /v1/health tells anyone while calls are answered 503. */
export interface HealthSummary {
  status: 'degraded' | 'down';
  /** copy names one of several copies in ClickHouse */
  stages: { name: string; copy?: string; status: Stage['status']; since: string | null }[];
}

/** A value that a filter may mean, and the name of the person or the tenant. */
export interface Meant {
  value: string;
  name?: string;
}

export interface Config {
  version: string;
  /** oidc: only the issuers */
  auth: 'clerk' | 'local' | 'oidc';
  clerk_publishable_key: string | null;
  clerk_frontend_api: string | null;
  local_sign_in_url: string | null;
  issuers: Issuer[];
}

/** An OpenID Connect issuer at which people sign in. */
export interface Issuer {
  name: string;
  issuer: string;
  client_id: string;
  scopes: string[];
  /** which token the API takes */
  token: 'access_token' | 'id_token';
  /** null while the server has not reached the issuer */
  authorization_endpoint: string | null;
  token_endpoint: string | null;
  revocation_endpoint: string | null;
}

/** Every scope, in the order they are shown; see argus.AllScopes. */
export const SCOPES: [string, string][] = [
  ['logs:read', 'Read, follow and export the audit log; performance'],
  ['views:write', 'Save, change and remove the team’s views of the log'],
  ['tenants:read', 'See tenants and live sessions'],
  ['tenants:write', 'Add, change and retire tenants, record consents'],
  ['compute:read', 'See workers'],
  ['compute:write', 'Launch, stop, resume and terminate workers'],
  ['remote_support', 'Start and end support sessions'],
  ['remote_support:arm', 'Arm and disarm remote support'],
  ['tokens:write', 'Create personal access tokens'],
  ['tokens:admin', 'List and revoke everybody’s tokens'],
  ['events:read', 'Read events'],
  ['events:emit', 'Emit events'],
  ['sinks:write', 'Pause, test and backfill sinks'],
];

export const PRESETS: Record<string, string[]> = {
  'support-readonly': ['logs:read', 'tenants:read', 'compute:read'],
  'admin-full': SCOPES.map(([name]) => name),
};

/** Those of scopes that an agent's token may have, as the API says. */
export function forAgents(scopes: string[], actions: boolean): string[] {
  return scopes.filter((s) => s.endsWith(':read') || (actions && s !== 'tokens:write' && s !== 'tokens:admin'));
}
