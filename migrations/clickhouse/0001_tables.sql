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
  row_hash          FixedString(32) CODEC(NONE),
  -- The agent's product name: what stands before the first slash or space.
  client            LowCardinality(String) MATERIALIZED extract(user_agent, '^[^/ ]*')
) ENGINE = MergeTree
PARTITION BY toYYYYMM(occurred_at)
ORDER BY (occurred_at, writer_id, seq)
SETTINGS fsync_after_insert = 1, fsync_part_directory = 1, non_replicated_deduplication_window = 0;
-- +goose StatementEnd

-- +goose StatementBegin
CREATE TABLE IF NOT EXISTS compute_control_audit (
  audit_id   UUID,
  step       Int16,
  at         DateTime64(6, 'UTC'),
  actor_id   LowCardinality(String),
  action     LowCardinality(String),
  worker_id  Nullable(String),
  provider   LowCardinality(Nullable(String)),
  reason     Nullable(String),
  from_state LowCardinality(Nullable(String)),
  to_state   LowCardinality(Nullable(String)),
  result     LowCardinality(String),
  error      Nullable(String)
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
  action              LowCardinality(String),
  tenant_id           String,
  session_id          Nullable(UUID),
  reason              Nullable(String),
  consent_document_id Nullable(String),
  result              LowCardinality(String),
  error               Nullable(String)
) ENGINE = MergeTree
PARTITION BY toYYYYMM(UUIDv7ToDateTime(audit_id, 'UTC'))
ORDER BY (audit_id, step)
SETTINGS fsync_after_insert = 1, fsync_part_directory = 1, non_replicated_deduplication_window = 0;
-- +goose StatementEnd

-- The watermark: one small row after each whole batch; the greatest version counts. It is an argus.Position:
-- of a writer in `writers` the rows up to the seq beside it are here; every writer at or below closed_through
-- that is not in `writers` is closed and here completely; of any other writer nothing is promised.
-- +goose StatementBegin
CREATE TABLE IF NOT EXISTS audit_watermark (
  version        UInt64,
  epoch          UInt64,               -- the replicator's term: raised at each take-over
  published_at   DateTime64(6, 'UTC'),
  lsn            UInt64,               -- everything committed in Postgres before it is here
  closed_through Int64,
  writers        Array(Int64),
  seqs           Array(Int64)
) ENGINE = MergeTree
ORDER BY version
SETTINGS fsync_after_insert = 1, fsync_part_directory = 1, non_replicated_deduplication_window = 0;
-- +goose StatementEnd

-- Rows found here that the system of record does not have (a restored Postgres): set aside, never deleted.
-- +goose StatementBegin
CREATE TABLE IF NOT EXISTS audit_orphans AS audit_log
ENGINE = MergeTree
PARTITION BY toYYYYMM(occurred_at)
ORDER BY (occurred_at, writer_id, seq);
-- +goose StatementEnd
