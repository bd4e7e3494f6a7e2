-- The columnar copy: plain MergeTree tables with the columns of Postgres, under the same names. Names are
-- unqualified: they live in the database the migration is connected to.

-- +goose Up

-- Ordered as the log is. Inserts are fsynced, because the replication slot is acknowledged after them.
-- Deduplication by token is off: it is not a proof (a kill between its log and the part's rename loses the
-- row while the replay is "deduplicated"); the replicator reads identities back instead.
-- +goose StatementBegin
CREATE TABLE IF NOT EXISTS audit_log (
  writer_id         Int64 CODEC(Delta, ZSTD(1)),
  seq               Int64 CODEC(Delta, ZSTD(1)),
  id                UUID CODEC(ZSTD(1)),
  occurred_at       DateTime64(6, 'UTC') CODEC(Delta, ZSTD(1)),
  recorded_at       DateTime64(6, 'UTC') CODEC(Delta, ZSTD(1)),
  actor_id          LowCardinality(String),
  impersonator_id   LowCardinality(Nullable(String)),
  actor_kind        LowCardinality(String),
  pat_id            Nullable(UUID) CODEC(ZSTD(1)),
  break_glass_id    Nullable(UUID) CODEC(ZSTD(1)),
  scope             LowCardinality(String),
  route             LowCardinality(String),
  path_params       Map(LowCardinality(String), String) CODEC(ZSTD(1)),
  method            LowCardinality(String),
  status            Nullable(Int16) CODEC(ZSTD(1)),
  outcome           LowCardinality(String),
  latency_us        Nullable(Int64) CODEC(ZSTD(1)),
  client_ip         IPv6 CODEC(ZSTD(1)), -- IPv4 as ::ffff:a.b.c.d
  user_agent        LowCardinality(String) CODEC(ZSTD(1)),
  body_sha256       Nullable(FixedString(32)) CODEC(ZSTD(1)),
  body_bytes        Int64 CODEC(ZSTD(1)),
  client_request_id Nullable(String) CODEC(ZSTD(1)),
  trace_id          Nullable(String) CODEC(ZSTD(1)),
  service           LowCardinality(String),
  release           LowCardinality(Nullable(String)),
  error_code        LowCardinality(Nullable(String)),
  reason            Nullable(String) CODEC(ZSTD(1)),
  agent             LowCardinality(Nullable(String)),
  workload          Map(LowCardinality(String), String) CODEC(ZSTD(1)), -- empty where Postgres has null
  row_hash          FixedString(32) CODEC(NONE),
  -- The agent's product name: what stands before the first slash or space.
  client            LowCardinality(String) MATERIALIZED extract(user_agent, '^[^/ ]*'),
  -- Most parameters are called id; a map is read as a whole.
  param_id          LowCardinality(String) MATERIALIZED path_params['id'],
  -- argus.Record.Tenant.
  tenant            LowCardinality(String) MATERIALIZED multiIf(mapContains(path_params, 'tenant'), path_params['tenant'],
    startsWith(if(position(route, ' ') = 0, '', substring(route, position(route, ' ') + 1)), '/v1/tenants/:id'), path_params['id'], ''),
  -- For filters that few rows pass. Calls come in the order of time, so a granule holds some hours of them: most
  -- actors and routes in it are seen again, an address, a token or an id hardly ever.
  INDEX by_id UUIDv7ToDateTime(id) TYPE minmax GRANULARITY 1,
  INDEX by_actor actor_id TYPE bloom_filter(0.01) GRANULARITY 1,
  INDEX by_route route TYPE bloom_filter(0.01) GRANULARITY 1,
  INDEX by_pat pat_id TYPE bloom_filter(0.01) GRANULARITY 1,
  INDEX by_break_glass break_glass_id TYPE bloom_filter(0.01) GRANULARITY 1,
  INDEX by_address client_ip TYPE bloom_filter(0.01) GRANULARITY 1,
  INDEX by_param mapValues(path_params) TYPE bloom_filter(0.01) GRANULARITY 1,
  INDEX by_request client_request_id TYPE bloom_filter(0.01) GRANULARITY 1,
  INDEX by_trace trace_id TYPE bloom_filter(0.01) GRANULARITY 1,
  INDEX by_reason lower(ifNull(reason, '')) TYPE ngrambf_v1(4, 8192, 2, 0) GRANULARITY 1, -- parts of a reason, in any case
  -- Four digits are in many granules, the number of a ticket with its prefix in few. A shorter part leaves this one out.
  INDEX by_long_reason lower(ifNull(reason, '')) TYPE ngrambf_v1(6, 8192, 2, 0) GRANULARITY 1,
  INDEX by_outcome outcome TYPE set(2) GRANULARITY 1,
  INDEX by_kind actor_kind TYPE set(8) GRANULARITY 1,
  -- A set holds the pairs of values that a granule has. So two values that are common and do not meet leave it out.
  INDEX by_status (client, status) TYPE set(256) GRANULARITY 1,
  INDEX by_agent (user_agent, client) TYPE set(512) GRANULARITY 1,
  INDEX by_release release TYPE bloom_filter(0.01) GRANULARITY 1,
  INDEX by_error error_code TYPE bloom_filter(0.01) GRANULARITY 1,
  INDEX by_latency latency_us TYPE minmax GRANULARITY 1
) ENGINE = MergeTree
PARTITION BY toYYYYMM(occurred_at)
ORDER BY (occurred_at, writer_id, seq)
SETTINGS fsync_after_insert = 1, fsync_part_directory = 1, non_replicated_deduplication_window = 0;
-- +goose StatementEnd

-- +goose StatementBegin
CREATE TABLE IF NOT EXISTS compute_control_audit (
  audit_id        UUID,
  step            Int16,
  at              DateTime64(6, 'UTC'),
  actor_id        LowCardinality(String),
  impersonator_id LowCardinality(Nullable(String)),
  action          LowCardinality(String),
  worker_id       Nullable(String),
  provider        LowCardinality(Nullable(String)),
  reason          Nullable(String),
  from_state      LowCardinality(Nullable(String)),
  to_state        LowCardinality(Nullable(String)),
  result          LowCardinality(String),
  error           Nullable(String)
) ENGINE = MergeTree
PARTITION BY toYYYYMM(UUIDv7ToDateTime(audit_id, 'UTC'))
ORDER BY (audit_id, step)
SETTINGS fsync_after_insert = 1, fsync_part_directory = 1, non_replicated_deduplication_window = 0;
-- +goose StatementEnd

-- +goose StatementBegin
CREATE TABLE IF NOT EXISTS remote_support_audit (
  audit_id            UUID,
  step                Int16,
  at                  DateTime64(6, 'UTC'),
  actor_id            LowCardinality(String),
  impersonator_id     LowCardinality(Nullable(String)),
  action              LowCardinality(String),
  tenant_id           String,
  session_id          Nullable(UUID),
  reason              Nullable(String),
  consent_document_id Nullable(String),
  consent_recorded_by Nullable(String),
  consent_recorded_at Nullable(DateTime64(6, 'UTC')),
  result              LowCardinality(String),
  error               Nullable(String)
) ENGINE = MergeTree
PARTITION BY toYYYYMM(UUIDv7ToDateTime(audit_id, 'UTC'))
ORDER BY (audit_id, step)
SETTINGS fsync_after_insert = 1, fsync_part_directory = 1, non_replicated_deduplication_window = 0;
-- +goose StatementEnd
