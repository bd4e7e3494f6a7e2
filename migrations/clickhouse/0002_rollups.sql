-- Rollups: counts of calls by time, so that a question about a year does not read a year of rows.
--
-- Each table is fed by one materialized view that reads the audit log directly, and can be made again from the
-- rows one partition at a time: the tables of hours hold buckets of an hour or less and are partitioned by day, the
-- tables of days hold buckets of a day to a month and are partitioned by month, so no bucket crosses a partition.
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
-- Minutes and hours hold few calls of a kind, so their tables have a row for each latency bucket, which is cheap to
-- insert; longer spans hold many, so their tables have the latency buckets in arrays, which is cheap to read.
--
-- A month of a route is counted twice: by status, and, as the grain month_any, over all of them, which is half as much
-- to read for a question about a year that does not ask for a status. Its rows have the status -1 and count, among the
-- latencies, classes of status too: 4xx in the bucket -14, interrupted in -10.
--
-- Inserts are fsynced like those of the audit log: a rollup must not lose what the audit log has kept.

-- +goose Up

-- Indexes of the audit log for filters that few rows pass. Calls come in the order of time, so a granule holds some
-- hours of them: most actors and routes in it are seen again, an address, a token or an id hardly ever.
-- +goose StatementBegin
ALTER TABLE audit_log
  -- Most parameters are called id; a map is read as a whole.
  ADD COLUMN IF NOT EXISTS param_id LowCardinality(String) MATERIALIZED path_params['id'],
  ADD INDEX IF NOT EXISTS by_id UUIDv7ToDateTime(id) TYPE minmax GRANULARITY 1,
  ADD INDEX IF NOT EXISTS by_actor actor_id TYPE bloom_filter(0.01) GRANULARITY 1,
  ADD INDEX IF NOT EXISTS by_route route TYPE bloom_filter(0.01) GRANULARITY 1,
  ADD INDEX IF NOT EXISTS by_pat pat_id TYPE bloom_filter(0.01) GRANULARITY 1,
  ADD INDEX IF NOT EXISTS by_break_glass break_glass_id TYPE bloom_filter(0.01) GRANULARITY 1,
  ADD INDEX IF NOT EXISTS by_address client_ip TYPE bloom_filter(0.01) GRANULARITY 1,
  ADD INDEX IF NOT EXISTS by_param mapValues(path_params) TYPE bloom_filter(0.01) GRANULARITY 1,
  ADD INDEX IF NOT EXISTS by_request client_request_id TYPE bloom_filter(0.01) GRANULARITY 1,
  ADD INDEX IF NOT EXISTS by_outcome outcome TYPE set(2) GRANULARITY 1,
  ADD INDEX IF NOT EXISTS by_kind actor_kind TYPE set(4) GRANULARITY 1,
  ADD INDEX IF NOT EXISTS by_latency latency_us TYPE minmax GRANULARITY 1;
-- +goose StatementEnd

-- +goose StatementBegin
CREATE TABLE IF NOT EXISTS audit_route_hours (
  grain   Enum8('minute' = 1, 'hour' = 2),
  at      DateTime('UTC') CODEC(Delta, ZSTD(1)),
  route   LowCardinality(String),
  method  LowCardinality(String),
  status  Int16 CODEC(ZSTD(1)),
  bucket  Int16 CODEC(Delta, ZSTD(1)),
  n       SimpleAggregateFunction(sum, UInt64) CODEC(T64, LZ4),
  max_us  SimpleAggregateFunction(max, Int64) CODEC(T64, LZ4)
) ENGINE = AggregatingMergeTree
PARTITION BY toYYYYMMDD(at)
ORDER BY (grain, at, route, method, status, bucket)
SETTINGS fsync_after_insert = 1, fsync_part_directory = 1, non_replicated_deduplication_window = 0;
-- +goose StatementEnd

-- +goose StatementBegin
CREATE MATERIALIZED VIEW IF NOT EXISTS audit_route_hours_view TO audit_route_hours AS
SELECT
  grain,
  if(grain = 'minute', toStartOfMinute(occurred_at), toStartOfHour(occurred_at)) AS at,
  route,
  method,
  ifNull(audit_log.status, 0) AS status,
  multiIf(isNull(latency_us), -2, latency_us > 0, toInt16(floor(51 * log(latency_us) + 0.5)), -1) AS bucket,
  count() AS n,
  max(ifNull(latency_us, 0)) AS max_us
FROM audit_log
ARRAY JOIN ['minute', 'hour']::Array(Enum8('minute' = 1, 'hour' = 2)) AS grain
GROUP BY grain, at, route, method, ifNull(audit_log.status, 0), bucket;
-- +goose StatementEnd

-- +goose StatementBegin
CREATE TABLE IF NOT EXISTS audit_route_days (
  grain   Enum8('day' = 3, 'week' = 4, 'month' = 5, 'month_any' = 6),
  at      DateTime('UTC') CODEC(Delta, ZSTD(1)),
  route   LowCardinality(String),
  method  LowCardinality(String),
  status  Int16 CODEC(ZSTD(1)),
  n       SimpleAggregateFunction(sum, UInt64) CODEC(T64, LZ4),
  max_us  SimpleAggregateFunction(max, Int64) CODEC(T64, LZ4),
  latency SimpleAggregateFunction(sumMap, Tuple(Array(Int16), Array(UInt64))) CODEC(LZ4)
) ENGINE = AggregatingMergeTree
PARTITION BY toYYYYMM(at)
ORDER BY (grain, at, route, method, status)
SETTINGS fsync_after_insert = 1, fsync_part_directory = 1, non_replicated_deduplication_window = 0, index_granularity = 256;
-- +goose StatementEnd

-- +goose StatementBegin
CREATE MATERIALIZED VIEW IF NOT EXISTS audit_route_days_view TO audit_route_days AS
SELECT
  grain,
  multiIf(grain = 'day', toStartOfDay(occurred_at),
    grain = 'week', toDateTime(toStartOfMonth(occurred_at), 'UTC') + toIntervalDay(8 * intDiv(toDayOfMonth(occurred_at) - 1, 8)),
    toDateTime(toStartOfMonth(occurred_at), 'UTC')) AS at,
  route,
  method,
  if(grain = 'month_any', -1, ifNull(audit_log.status, 0)) AS status,
  count() AS n,
  max(ifNull(latency_us, 0)) AS max_us,
  sumMap(arrayConcat(
    [multiIf(isNull(latency_us), -2, latency_us > 0, toInt16(floor(51 * log(latency_us) + 0.5)), -1)],
    if(grain = 'month_any', [toInt16(-10 - intDiv(ifNull(audit_log.status, 0), 100))], [])),
    if(grain = 'month_any', [toUInt64(1), 1], [toUInt64(1)])) AS latency
FROM audit_log
ARRAY JOIN ['day', 'week', 'month', 'month_any']::Array(Enum8('day' = 3, 'week' = 4, 'month' = 5, 'month_any' = 6)) AS grain
GROUP BY grain, at, route, method, if(grain = 'month_any', -1, ifNull(audit_log.status, 0));
-- +goose StatementEnd

-- class is the status by hundreds: 4 is 4xx, 0 interrupted.
-- +goose StatementBegin
CREATE TABLE IF NOT EXISTS audit_client_hours (
  grain      Enum8('hour' = 2),
  at         DateTime('UTC') CODEC(Delta, ZSTD(1)),
  actor_kind LowCardinality(String),
  client     LowCardinality(String),
  method     LowCardinality(String),
  class      Int16 CODEC(ZSTD(1)),
  bucket     Int16 CODEC(Delta, ZSTD(1)),
  n          SimpleAggregateFunction(sum, UInt64) CODEC(T64, LZ4),
  max_us     SimpleAggregateFunction(max, Int64) CODEC(T64, LZ4)
) ENGINE = AggregatingMergeTree
PARTITION BY toYYYYMMDD(at)
ORDER BY (grain, at, actor_kind, client, method, class, bucket)
SETTINGS fsync_after_insert = 1, fsync_part_directory = 1, non_replicated_deduplication_window = 0;
-- +goose StatementEnd

-- +goose StatementBegin
CREATE MATERIALIZED VIEW IF NOT EXISTS audit_client_hours_view TO audit_client_hours AS
SELECT
  'hour'::Enum8('hour' = 2) AS grain,
  toStartOfHour(occurred_at) AS at,
  actor_kind,
  client,
  method,
  intDiv(ifNull(status, 0), 100) AS class,
  multiIf(isNull(latency_us), -2, latency_us > 0, toInt16(floor(51 * log(latency_us) + 0.5)), -1) AS bucket,
  count() AS n,
  max(ifNull(latency_us, 0)) AS max_us
FROM audit_log
GROUP BY at, actor_kind, client, method, class, bucket;
-- +goose StatementEnd

-- +goose StatementBegin
CREATE TABLE IF NOT EXISTS audit_client_days (
  grain      Enum8('day' = 3, 'month' = 5),
  at         DateTime('UTC') CODEC(Delta, ZSTD(1)),
  actor_kind LowCardinality(String),
  client     LowCardinality(String),
  method     LowCardinality(String),
  class      Int16 CODEC(ZSTD(1)),
  n          SimpleAggregateFunction(sum, UInt64) CODEC(T64, LZ4),
  max_us     SimpleAggregateFunction(max, Int64) CODEC(T64, LZ4),
  latency    SimpleAggregateFunction(sumMap, Tuple(Array(Int16), Array(UInt64))) CODEC(LZ4)
) ENGINE = AggregatingMergeTree
PARTITION BY toYYYYMM(at)
ORDER BY (grain, at, actor_kind, client, method, class)
SETTINGS fsync_after_insert = 1, fsync_part_directory = 1, non_replicated_deduplication_window = 0, index_granularity = 256;
-- +goose StatementEnd

-- +goose StatementBegin
CREATE MATERIALIZED VIEW IF NOT EXISTS audit_client_days_view TO audit_client_days AS
SELECT
  grain,
  if(grain = 'day', toStartOfDay(occurred_at), toDateTime(toStartOfMonth(occurred_at), 'UTC')) AS at,
  actor_kind,
  client,
  method,
  intDiv(ifNull(status, 0), 100) AS class,
  count() AS n,
  max(ifNull(latency_us, 0)) AS max_us,
  sumMap([multiIf(isNull(latency_us), -2, latency_us > 0, toInt16(floor(51 * log(latency_us) + 0.5)), -1)], [toUInt64(1)]) AS latency
FROM audit_log
ARRAY JOIN ['day', 'month']::Array(Enum8('day' = 3, 'month' = 5)) AS grain
GROUP BY grain, at, actor_kind, client, method, class;
-- +goose StatementEnd

-- A zero id is null.
-- +goose StatementBegin
CREATE TABLE IF NOT EXISTS audit_actor_hours (
  grain          Enum8('hour' = 2),
  at             DateTime('UTC') CODEC(Delta, ZSTD(1)),
  actor_id       LowCardinality(String),
  actor_kind     LowCardinality(String),
  pat_id         UUID CODEC(ZSTD(1)),
  break_glass_id UUID CODEC(ZSTD(1)),
  client         LowCardinality(String),
  class          Int16 CODEC(ZSTD(1)),
  n              SimpleAggregateFunction(sum, UInt64) CODEC(T64, LZ4)
) ENGINE = AggregatingMergeTree
PARTITION BY toYYYYMMDD(at)
ORDER BY (grain, at, actor_id, actor_kind, pat_id, break_glass_id, client, class)
SETTINGS fsync_after_insert = 1, fsync_part_directory = 1, non_replicated_deduplication_window = 0;
-- +goose StatementEnd

-- +goose StatementBegin
CREATE MATERIALIZED VIEW IF NOT EXISTS audit_actor_hours_view TO audit_actor_hours AS
SELECT
  'hour'::Enum8('hour' = 2) AS grain,
  toStartOfHour(occurred_at) AS at,
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

-- +goose StatementBegin
CREATE TABLE IF NOT EXISTS audit_actor_days (
  grain          Enum8('day' = 3, 'month' = 5),
  at             DateTime('UTC') CODEC(Delta, ZSTD(1)),
  actor_id       LowCardinality(String),
  actor_kind     LowCardinality(String),
  pat_id         UUID CODEC(ZSTD(1)),
  break_glass_id UUID CODEC(ZSTD(1)),
  client         LowCardinality(String),
  class          Int16 CODEC(ZSTD(1)),
  n              SimpleAggregateFunction(sum, UInt64) CODEC(T64, LZ4)
) ENGINE = AggregatingMergeTree
PARTITION BY toYYYYMM(at)
ORDER BY (grain, at, actor_id, actor_kind, pat_id, break_glass_id, client, class)
SETTINGS fsync_after_insert = 1, fsync_part_directory = 1, non_replicated_deduplication_window = 0;
-- +goose StatementEnd

-- +goose StatementBegin
CREATE MATERIALIZED VIEW IF NOT EXISTS audit_actor_days_view TO audit_actor_days AS
SELECT
  grain,
  if(grain = 'day', toStartOfDay(occurred_at), toDateTime(toStartOfMonth(occurred_at), 'UTC')) AS at,
  actor_id,
  actor_kind,
  ifNull(audit_log.pat_id, toUUID('00000000-0000-0000-0000-000000000000')) AS pat_id,
  ifNull(audit_log.break_glass_id, toUUID('00000000-0000-0000-0000-000000000000')) AS break_glass_id,
  client,
  intDiv(ifNull(status, 0), 100) AS class,
  count() AS n
FROM audit_log
ARRAY JOIN ['day', 'month']::Array(Enum8('day' = 3, 'month' = 5)) AS grain
GROUP BY grain, at, actor_id, actor_kind, ifNull(audit_log.pat_id, toUUID('00000000-0000-0000-0000-000000000000')),
  ifNull(audit_log.break_glass_id, toUUID('00000000-0000-0000-0000-000000000000')), client, class;
-- +goose StatementEnd
