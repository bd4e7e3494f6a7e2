-- Rollups: counts of calls by time, so that a question about a year does not read a year of rows.
--
-- Each table is fed by one materialized view that reads the audit log directly, and can be made again from the
-- rows one partition at a time: the tables of hours hold buckets of an hour or less and are partitioned by day, the
-- tables of days hold buckets of a day to a month and are partitioned by month, so no bucket crosses a partition.
-- An octet begins on day 1, 9, 17 or 25 of its month, for the same reason.
--
--   audit_route_…   by service, release, route, exact status and error, with latencies
--   audit_client_…  by kind of actor and client, with latencies
--   audit_actor_…   by who called, with which program
--
-- What is null in the audit log is '' here.
--
-- A route has one service, so the service makes no more rows. A release does: a service that is released twenty times a
-- day has six hundred in a month. So buckets longer than a day do not tell releases apart, their release is ''.
--
-- A latency of x µs counts in the bucket floor(51 · ln x + ½), of 0 µs in the bucket -1. Buckets are 1.98 % wide, so
-- a bucket's middle is within 1 % of everything in it, and counts stay exact however they are added up (package
-- analytics, latency.go, is the other end of this). Interrupted calls have status 0 and the bucket -2.
--
-- Minutes and hours hold few calls of a kind, so their tables have a row for each latency bucket, which is cheap to
-- insert; longer steps hold many, so their tables have the latency buckets in arrays, which is cheap to read.
--
-- A month of a route is counted twice: by status, and, as the grain month_any, over all of them, which is half as much
-- to read for a question about a year that does not ask for a status. Its rows have the status -1, no error, and count, among the
-- latencies, classes of status too: 4xx in the bucket -14, interrupted in -10.
--
-- The views of days do half the work: they count calls once by day and put their latencies into arrays once, before
-- they repeat them for each grain. A key may come in several rows of one insert (month_any has one for each status, a
-- longer grain one for each day). Merges and readers add them up.
--
-- Inserts are fsynced like those of the audit log: a rollup must not lose what the audit log has kept. A day or a month
-- that is over is merged into one part some hours later. Two or three parts would stay otherwise, and each key be read
-- as often.

-- +goose Up

-- +goose StatementBegin
CREATE TABLE IF NOT EXISTS audit_route_hours (
  grain      Enum8('minute' = 1, 'hour' = 2),
  at         DateTime('UTC') CODEC(Delta, ZSTD(1)),
  service    LowCardinality(String),
  release    LowCardinality(String),
  route      LowCardinality(String),
  method     LowCardinality(String),
  status     Int16 CODEC(ZSTD(1)),
  error_code LowCardinality(String),
  bucket     Int16 CODEC(Delta, ZSTD(1)),
  n          SimpleAggregateFunction(sum, UInt64) CODEC(T64, LZ4),
  max_us     SimpleAggregateFunction(max, Int64) CODEC(T64, LZ4)
) ENGINE = AggregatingMergeTree
PARTITION BY toYYYYMMDD(at)
ORDER BY (grain, at, service, release, route, method, status, error_code, bucket)
SETTINGS fsync_after_insert = 1, fsync_part_directory = 1, non_replicated_deduplication_window = 0,
  min_age_to_force_merge_seconds = 7200, min_age_to_force_merge_on_partition_only = 1;
-- +goose StatementEnd

-- +goose StatementBegin
CREATE MATERIALIZED VIEW IF NOT EXISTS audit_route_hours_view TO audit_route_hours AS
SELECT
  grain,
  if(grain = 'minute', toStartOfMinute(occurred_at), toStartOfHour(occurred_at)) AS at,
  service,
  ifNull(audit_log.release, '') AS release,
  route,
  method,
  ifNull(audit_log.status, 0) AS status,
  ifNull(audit_log.error_code, '') AS error_code,
  multiIf(isNull(latency_us), -2, latency_us > 0, toInt16(floor(51 * log(latency_us) + 0.5)), -1) AS bucket,
  count() AS n,
  max(ifNull(latency_us, 0)) AS max_us
FROM audit_log
ARRAY JOIN ['minute', 'hour']::Array(Enum8('minute' = 1, 'hour' = 2)) AS grain
GROUP BY grain, at, service, ifNull(audit_log.release, ''), route, method, ifNull(audit_log.status, 0),
  ifNull(audit_log.error_code, ''), bucket;
-- +goose StatementEnd

-- +goose StatementBegin
CREATE TABLE IF NOT EXISTS audit_route_days (
  grain      Enum8('day' = 3, 'octet' = 4, 'month' = 5, 'month_any' = 6),
  at         DateTime('UTC') CODEC(Delta, ZSTD(1)),
  service    LowCardinality(String),
  release    LowCardinality(String),
  route      LowCardinality(String),
  method     LowCardinality(String),
  status     Int16 CODEC(ZSTD(1)),
  error_code LowCardinality(String),
  n          SimpleAggregateFunction(sum, UInt64) CODEC(T64, LZ4),
  max_us     SimpleAggregateFunction(max, Int64) CODEC(T64, LZ4),
  latency    SimpleAggregateFunction(sumMap, Tuple(Array(Int16), Array(UInt64))) CODEC(LZ4)
) ENGINE = AggregatingMergeTree
PARTITION BY toYYYYMM(at)
ORDER BY (grain, at, service, release, route, method, status, error_code)
SETTINGS fsync_after_insert = 1, fsync_part_directory = 1, non_replicated_deduplication_window = 0, index_granularity = 256,
  min_age_to_force_merge_seconds = 7200, min_age_to_force_merge_on_partition_only = 1;
-- +goose StatementEnd

-- +goose StatementBegin
CREATE MATERIALIZED VIEW IF NOT EXISTS audit_route_days_view TO audit_route_days AS
SELECT
  grain,
  multiIf(grain = 'day', day,
    grain = 'octet', toDateTime(toStartOfMonth(day), 'UTC') + toIntervalDay(8 * intDiv(toDayOfMonth(day) - 1, 8)),
    toDateTime(toStartOfMonth(day), 'UTC')) AS at,
  service,
  if(grain = 'day', version, '') AS release,
  route,
  method,
  if(grain = 'month_any', -1, exact) AS status,
  if(grain = 'month_any', '', failure) AS error_code,
  calls AS n,
  longest AS max_us,
  if(grain = 'month_any',
    (arrayPushFront(buckets.1, toInt16(-10 - intDiv(exact, 100))), arrayPushFront(buckets.2, calls)), (buckets.1, buckets.2)) AS latency
FROM (
  SELECT day, service, version, route, method, exact, failure, sum(counted) AS calls, max(slowest) AS longest, arraySort(groupArray((bucket, counted))) AS buckets
  FROM (
    SELECT
      toStartOfDay(occurred_at) AS day,
      service,
      ifNull(release, '') AS version,
      route,
      method,
      ifNull(status, 0) AS exact,
      ifNull(error_code, '') AS failure,
      multiIf(isNull(latency_us), -2, latency_us > 0, toInt16(floor(51 * log(latency_us) + 0.5)), -1) AS bucket,
      count() AS counted,
      max(ifNull(latency_us, 0)) AS slowest
    FROM audit_log
    GROUP BY day, service, version, route, method, exact, failure, bucket
  )
  GROUP BY day, service, version, route, method, exact, failure
)
ARRAY JOIN ['day', 'octet', 'month', 'month_any']::Array(Enum8('day' = 3, 'octet' = 4, 'month' = 5, 'month_any' = 6)) AS grain;
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
SETTINGS fsync_after_insert = 1, fsync_part_directory = 1, non_replicated_deduplication_window = 0,
  min_age_to_force_merge_seconds = 7200, min_age_to_force_merge_on_partition_only = 1;
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
SETTINGS fsync_after_insert = 1, fsync_part_directory = 1, non_replicated_deduplication_window = 0, index_granularity = 256,
  min_age_to_force_merge_seconds = 7200, min_age_to_force_merge_on_partition_only = 1;
-- +goose StatementEnd

-- +goose StatementBegin
CREATE MATERIALIZED VIEW IF NOT EXISTS audit_client_days_view TO audit_client_days AS
SELECT
  grain,
  if(grain = 'day', day, toDateTime(toStartOfMonth(day), 'UTC')) AS at,
  actor_kind,
  client,
  method,
  class,
  calls AS n,
  longest AS max_us,
  (buckets.1, buckets.2) AS latency
FROM (
  SELECT day, actor_kind, client, method, class, sum(counted) AS calls, max(slowest) AS longest, arraySort(groupArray((bucket, counted))) AS buckets
  FROM (
    SELECT
      toStartOfDay(occurred_at) AS day,
      actor_kind,
      client,
      method,
      intDiv(ifNull(status, 0), 100) AS class,
      multiIf(isNull(latency_us), -2, latency_us > 0, toInt16(floor(51 * log(latency_us) + 0.5)), -1) AS bucket,
      count() AS counted,
      max(ifNull(latency_us, 0)) AS slowest
    FROM audit_log
    GROUP BY day, actor_kind, client, method, class, bucket
  )
  GROUP BY day, actor_kind, client, method, class
)
ARRAY JOIN ['day', 'month']::Array(Enum8('day' = 3, 'month' = 5)) AS grain;
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
  agent          LowCardinality(String),
  class          Int16 CODEC(ZSTD(1)),
  n              SimpleAggregateFunction(sum, UInt64) CODEC(T64, LZ4)
) ENGINE = AggregatingMergeTree
PARTITION BY toYYYYMMDD(at)
ORDER BY (grain, at, actor_id, actor_kind, pat_id, break_glass_id, client, agent, class)
SETTINGS fsync_after_insert = 1, fsync_part_directory = 1, non_replicated_deduplication_window = 0,
  min_age_to_force_merge_seconds = 7200, min_age_to_force_merge_on_partition_only = 1;
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
  ifNull(audit_log.agent, '') AS agent,
  intDiv(ifNull(status, 0), 100) AS class,
  count() AS n
FROM audit_log
GROUP BY at, actor_id, actor_kind, ifNull(audit_log.pat_id, toUUID('00000000-0000-0000-0000-000000000000')),
  ifNull(audit_log.break_glass_id, toUUID('00000000-0000-0000-0000-000000000000')), client, ifNull(audit_log.agent, ''), class;
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
  agent          LowCardinality(String),
  class          Int16 CODEC(ZSTD(1)),
  n              SimpleAggregateFunction(sum, UInt64) CODEC(T64, LZ4)
) ENGINE = AggregatingMergeTree
PARTITION BY toYYYYMM(at)
ORDER BY (grain, at, actor_id, actor_kind, pat_id, break_glass_id, client, agent, class)
SETTINGS fsync_after_insert = 1, fsync_part_directory = 1, non_replicated_deduplication_window = 0,
  min_age_to_force_merge_seconds = 7200, min_age_to_force_merge_on_partition_only = 1;
-- +goose StatementEnd

-- +goose StatementBegin
CREATE MATERIALIZED VIEW IF NOT EXISTS audit_actor_days_view TO audit_actor_days AS
SELECT
  grain,
  if(grain = 'day', day, toDateTime(toStartOfMonth(day), 'UTC')) AS at,
  actor_id,
  actor_kind,
  pat_id,
  break_glass_id,
  client,
  agent,
  class,
  sum(calls) AS n
FROM (
  SELECT
    toStartOfDay(occurred_at) AS day,
    actor_id,
    actor_kind,
    ifNull(audit_log.pat_id, toUUID('00000000-0000-0000-0000-000000000000')) AS pat_id,
    ifNull(audit_log.break_glass_id, toUUID('00000000-0000-0000-0000-000000000000')) AS break_glass_id,
    client,
    ifNull(audit_log.agent, '') AS agent,
    intDiv(ifNull(status, 0), 100) AS class,
    count() AS calls
  FROM audit_log
  GROUP BY day, actor_id, actor_kind, ifNull(audit_log.pat_id, toUUID('00000000-0000-0000-0000-000000000000')),
    ifNull(audit_log.break_glass_id, toUUID('00000000-0000-0000-0000-000000000000')), client, ifNull(audit_log.agent, ''), class
)
ARRAY JOIN ['day', 'month']::Array(Enum8('day' = 3, 'month' = 5)) AS grain
GROUP BY grain, at, actor_id, actor_kind, pat_id, break_glass_id, client, agent, class;
-- +goose StatementEnd
