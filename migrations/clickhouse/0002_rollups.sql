-- Rollups: counts of calls by time, so that a question about a year does not read a year of rows.
--
-- Each table is fed by one materialized view that reads the audit log directly, and can be made again from the
-- rows one partition at a time: the tables of days hold buckets of a day or less and are partitioned by day, the
-- tables of months hold buckets of a month or less and are partitioned by month, so no bucket crosses a partition.
-- A "week" begins on day 1, 9, 17 or 25 of its month, for the same reason.
--
--   audit_route_…   by route and exact status, with latencies
--   audit_client_…  by kind of actor and client, with latencies
--   audit_actor_…   by who called
--
-- A latency of x µs counts in the bucket floor(51 · ln x + ½), of 0 µs in the bucket -1. Buckets are 1.98 % wide, so
-- a bucket's middle is within 1 % of everything in it, and counts stay exact however they are added up (package
-- analytics, latency.go, is the other end of this). Interrupted calls have status 0 and the bucket -2.
--
-- Short buckets hold few calls each, so the tables of days have a row for each latency bucket, which is cheap to
-- insert; long ones hold many, so the tables of months have the latency buckets in arrays, which is cheap to read.
-- Inserts are fsynced like those of the audit log: a rollup must not lose what the audit log has kept.

-- +goose Up

-- +goose StatementBegin
CREATE TABLE IF NOT EXISTS audit_route_days (
  grain   Enum8('minute' = 1, 'hour' = 2, 'day' = 3),
  at      DateTime('UTC') CODEC(Delta, ZSTD(1)),
  route   LowCardinality(String),
  method  LowCardinality(String),
  status  Int16 CODEC(ZSTD(1)),
  bucket  Int16 CODEC(Delta, ZSTD(1)),
  n       SimpleAggregateFunction(sum, UInt64) CODEC(T64, ZSTD(1)),
  max_us  SimpleAggregateFunction(max, Int64) CODEC(T64, ZSTD(1))
) ENGINE = AggregatingMergeTree
PARTITION BY toYYYYMMDD(at)
ORDER BY (grain, at, route, method, status, bucket)
SETTINGS fsync_after_insert = 1, fsync_part_directory = 1, non_replicated_deduplication_window = 0;
-- +goose StatementEnd

-- +goose StatementBegin
CREATE MATERIALIZED VIEW IF NOT EXISTS audit_route_days_view TO audit_route_days AS
SELECT
  grain,
  multiIf(grain = 'minute', toStartOfMinute(occurred_at), grain = 'hour', toStartOfHour(occurred_at), toStartOfDay(occurred_at)) AS at,
  route,
  method,
  ifNull(audit_log.status, 0) AS status,
  multiIf(isNull(latency_us), -2, latency_us > 0, toInt16(floor(51 * log(latency_us) + 0.5)), -1) AS bucket,
  count() AS n,
  max(ifNull(latency_us, 0)) AS max_us
FROM audit_log
ARRAY JOIN ['minute', 'hour', 'day']::Array(Enum8('minute' = 1, 'hour' = 2, 'day' = 3)) AS grain
GROUP BY grain, at, route, method, ifNull(audit_log.status, 0), bucket;
-- +goose StatementEnd

-- +goose StatementBegin
CREATE TABLE IF NOT EXISTS audit_route_months (
  grain   Enum8('week' = 4, 'month' = 5),
  at      DateTime('UTC') CODEC(Delta, ZSTD(1)),
  route   LowCardinality(String),
  method  LowCardinality(String),
  status  Int16 CODEC(ZSTD(1)),
  n       SimpleAggregateFunction(sum, UInt64) CODEC(T64, ZSTD(1)),
  max_us  SimpleAggregateFunction(max, Int64) CODEC(T64, ZSTD(1)),
  latency SimpleAggregateFunction(sumMap, Tuple(Array(Int16), Array(UInt64))) CODEC(ZSTD(1))
) ENGINE = AggregatingMergeTree
PARTITION BY toYYYYMM(at)
ORDER BY (grain, at, route, method, status)
SETTINGS fsync_after_insert = 1, fsync_part_directory = 1, non_replicated_deduplication_window = 0;
-- +goose StatementEnd

-- +goose StatementBegin
CREATE MATERIALIZED VIEW IF NOT EXISTS audit_route_months_view TO audit_route_months AS
SELECT
  grain,
  toDateTime(toStartOfMonth(occurred_at), 'UTC') + if(grain = 'week', toIntervalDay(8 * intDiv(toDayOfMonth(occurred_at) - 1, 8)), toIntervalDay(0)) AS at,
  route,
  method,
  ifNull(audit_log.status, 0) AS status,
  count() AS n,
  max(ifNull(latency_us, 0)) AS max_us,
  sumMap([multiIf(isNull(latency_us), -2, latency_us > 0, toInt16(floor(51 * log(latency_us) + 0.5)), -1)], [toUInt64(1)]) AS latency
FROM audit_log
ARRAY JOIN ['week', 'month']::Array(Enum8('week' = 4, 'month' = 5)) AS grain
GROUP BY grain, at, route, method, ifNull(audit_log.status, 0);
-- +goose StatementEnd

-- class is the status by hundreds: 4 is 4xx, 0 interrupted.
-- +goose StatementBegin
CREATE TABLE IF NOT EXISTS audit_client_days (
  grain      Enum8('hour' = 2, 'day' = 3),
  at         DateTime('UTC') CODEC(Delta, ZSTD(1)),
  actor_kind LowCardinality(String),
  client     LowCardinality(String),
  method     LowCardinality(String),
  class      Int16 CODEC(ZSTD(1)),
  bucket     Int16 CODEC(Delta, ZSTD(1)),
  n          SimpleAggregateFunction(sum, UInt64) CODEC(T64, ZSTD(1)),
  max_us     SimpleAggregateFunction(max, Int64) CODEC(T64, ZSTD(1))
) ENGINE = AggregatingMergeTree
PARTITION BY toYYYYMMDD(at)
ORDER BY (grain, at, actor_kind, client, method, class, bucket)
SETTINGS fsync_after_insert = 1, fsync_part_directory = 1, non_replicated_deduplication_window = 0;
-- +goose StatementEnd

-- +goose StatementBegin
CREATE MATERIALIZED VIEW IF NOT EXISTS audit_client_days_view TO audit_client_days AS
SELECT
  grain,
  if(grain = 'hour', toStartOfHour(occurred_at), toStartOfDay(occurred_at)) AS at,
  actor_kind,
  client,
  method,
  intDiv(ifNull(status, 0), 100) AS class,
  multiIf(isNull(latency_us), -2, latency_us > 0, toInt16(floor(51 * log(latency_us) + 0.5)), -1) AS bucket,
  count() AS n,
  max(ifNull(latency_us, 0)) AS max_us
FROM audit_log
ARRAY JOIN ['hour', 'day']::Array(Enum8('hour' = 2, 'day' = 3)) AS grain
GROUP BY grain, at, actor_kind, client, method, class, bucket;
-- +goose StatementEnd

-- +goose StatementBegin
CREATE TABLE IF NOT EXISTS audit_client_months (
  grain      Enum8('month' = 5),
  at         DateTime('UTC') CODEC(Delta, ZSTD(1)),
  actor_kind LowCardinality(String),
  client     LowCardinality(String),
  method     LowCardinality(String),
  class      Int16 CODEC(ZSTD(1)),
  n          SimpleAggregateFunction(sum, UInt64) CODEC(T64, ZSTD(1)),
  max_us     SimpleAggregateFunction(max, Int64) CODEC(T64, ZSTD(1)),
  latency    SimpleAggregateFunction(sumMap, Tuple(Array(Int16), Array(UInt64))) CODEC(ZSTD(1))
) ENGINE = AggregatingMergeTree
PARTITION BY toYYYYMM(at)
ORDER BY (grain, at, actor_kind, client, method, class)
SETTINGS fsync_after_insert = 1, fsync_part_directory = 1, non_replicated_deduplication_window = 0;
-- +goose StatementEnd

-- +goose StatementBegin
CREATE MATERIALIZED VIEW IF NOT EXISTS audit_client_months_view TO audit_client_months AS
SELECT
  'month'::Enum8('month' = 5) AS grain,
  toDateTime(toStartOfMonth(occurred_at), 'UTC') AS at,
  actor_kind,
  client,
  method,
  intDiv(ifNull(status, 0), 100) AS class,
  count() AS n,
  max(ifNull(latency_us, 0)) AS max_us,
  sumMap([multiIf(isNull(latency_us), -2, latency_us > 0, toInt16(floor(51 * log(latency_us) + 0.5)), -1)], [toUInt64(1)]) AS latency
FROM audit_log
GROUP BY at, actor_kind, client, method, class;
-- +goose StatementEnd

-- +goose StatementBegin
CREATE TABLE IF NOT EXISTS audit_actor_days (
  grain          Enum8('hour' = 2, 'day' = 3),
  at             DateTime('UTC') CODEC(Delta, ZSTD(1)),
  actor_id       LowCardinality(String),
  actor_kind     LowCardinality(String),
  pat_id         UUID CODEC(ZSTD(1)), -- zero is null
  break_glass_id UUID CODEC(ZSTD(1)), -- zero is null
  client         LowCardinality(String),
  class          Int16 CODEC(ZSTD(1)),
  n              SimpleAggregateFunction(sum, UInt64) CODEC(T64, ZSTD(1))
) ENGINE = AggregatingMergeTree
PARTITION BY toYYYYMMDD(at)
ORDER BY (grain, at, actor_id, actor_kind, pat_id, break_glass_id, client, class)
SETTINGS fsync_after_insert = 1, fsync_part_directory = 1, non_replicated_deduplication_window = 0;
-- +goose StatementEnd

-- +goose StatementBegin
CREATE MATERIALIZED VIEW IF NOT EXISTS audit_actor_days_view TO audit_actor_days AS
SELECT
  grain,
  if(grain = 'hour', toStartOfHour(occurred_at), toStartOfDay(occurred_at)) AS at,
  actor_id,
  actor_kind,
  ifNull(audit_log.pat_id, toUUID('00000000-0000-0000-0000-000000000000')) AS pat_id,
  ifNull(audit_log.break_glass_id, toUUID('00000000-0000-0000-0000-000000000000')) AS break_glass_id,
  client,
  intDiv(ifNull(status, 0), 100) AS class,
  count() AS n
FROM audit_log
ARRAY JOIN ['hour', 'day']::Array(Enum8('hour' = 2, 'day' = 3)) AS grain
GROUP BY grain, at, actor_id, actor_kind, ifNull(audit_log.pat_id, toUUID('00000000-0000-0000-0000-000000000000')),
  ifNull(audit_log.break_glass_id, toUUID('00000000-0000-0000-0000-000000000000')), client, class;
-- +goose StatementEnd

-- +goose StatementBegin
CREATE TABLE IF NOT EXISTS audit_actor_months (
  grain          Enum8('month' = 5),
  at             DateTime('UTC') CODEC(Delta, ZSTD(1)),
  actor_id       LowCardinality(String),
  actor_kind     LowCardinality(String),
  pat_id         UUID CODEC(ZSTD(1)),
  break_glass_id UUID CODEC(ZSTD(1)),
  client         LowCardinality(String),
  class          Int16 CODEC(ZSTD(1)),
  n              SimpleAggregateFunction(sum, UInt64) CODEC(T64, ZSTD(1))
) ENGINE = AggregatingMergeTree
PARTITION BY toYYYYMM(at)
ORDER BY (grain, at, actor_id, actor_kind, pat_id, break_glass_id, client, class)
SETTINGS fsync_after_insert = 1, fsync_part_directory = 1, non_replicated_deduplication_window = 0;
-- +goose StatementEnd

-- +goose StatementBegin
CREATE MATERIALIZED VIEW IF NOT EXISTS audit_actor_months_view TO audit_actor_months AS
SELECT
  'month'::Enum8('month' = 5) AS grain,
  toDateTime(toStartOfMonth(occurred_at), 'UTC') AS at,
  actor_id,
  actor_kind,
  ifNull(audit_log.pat_id, toUUID('00000000-0000-0000-0000-000000000000')) AS pat_id,
  ifNull(audit_log.break_glass_id, toUUID('00000000-0000-0000-0000-000000000000')) AS break_glass_id,
  client,
  intDiv(ifNull(status, 0), 100) AS class,
  count() AS n
FROM audit_log
GROUP BY at, actor_id, actor_kind, ifNull(audit_log.pat_id, toUUID('00000000-0000-0000-0000-000000000000')),
  ifNull(audit_log.break_glass_id, toUUID('00000000-0000-0000-0000-000000000000')), client, class;
-- +goose StatementEnd
