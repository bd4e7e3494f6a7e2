-- Rollups: counts of calls by time, so that a question about a year does not read a year of rows.
--
-- Two tables, because every table that an insert feeds, and every view's statement, costs it milliseconds. One view reads the
-- audit log and feeds audit_rollup_hours. Another reads what that view made, and feeds audit_rollup_days. Either table can be
-- made again from what its view reads, one partition at a time: hours hold buckets of an hour or less and are partitioned by
-- day, days hold buckets of a day to a month and are partitioned by month, so no bucket crosses a partition. A view that
-- reads a rollup knows its time by the column at. An octet begins on day 1, 9, 17 or 25 of its month, for the same reason.
--
-- The grain tells the kind of a row, which other columns it has, and the length of its bucket:
--
--   minute, hour, day, octet, month, month_any   by service, release, route, method, exact status and error, with latencies
--   client_…                                     by kind of actor, client, method and class of status, with latencies
--   actor_…                                      by who called, with which program, and class of status
--
-- What a kind does not have is '' or 0, and so is what is null in the audit log. A class is a status of whole hundreds: 400 is
-- 4xx, 0 interrupted. A zero id is null.
--
-- A route has one service, so the service makes no more rows. A release does: a service that is released twenty times a
-- day has six hundred in a month. So buckets longer than a day do not tell releases apart, their release is ''.
--
-- A latency of x µs counts in the bucket floor(51 · ln x + ½), of 0 µs in the bucket -1. Buckets are 1.98 % wide, so
-- a bucket's middle is within 1 % of everything in it, and counts stay exact however they are added up (package
-- analytics, latency.go, is the other end of this). Interrupted calls have status 0 and the bucket -2.
--
-- Minutes and hours hold few calls of a kind, so their table has a row for each latency bucket, which is cheap to
-- insert; longer steps hold many, so their table has the latency buckets in arrays, which is cheap to read.
--
-- A month of a route is counted twice: by status, and, as the grain month_any, over all of them, which is half as much
-- to read for a question about a year that does not ask for a status. Its rows have the status -1, no error, and count, among the
-- latencies, classes of status too: 4xx in the bucket -14, interrupted in -10.
--
-- The view of days counts calls once by day and puts their latencies into arrays once, before it repeats them for each
-- grain. A key may come in several rows of one insert (month_any has one for each status, a longer grain one for each
-- day). Merges and readers add them up.
--
-- Inserts are fsynced like those of the audit log: a rollup must not lose what the audit log has kept. A day or a month
-- that is over is merged into one part some hours later. Two or three parts would stay otherwise, and each key be read
-- as often.

-- +goose Up

-- +goose StatementBegin
CREATE TABLE IF NOT EXISTS audit_rollup_hours (
  grain          Enum8('minute' = 1, 'hour' = 2, 'client_hour' = 3, 'actor_hour' = 4),
  at             DateTime('UTC') CODEC(Delta, ZSTD(1)),
  actor_id       LowCardinality(String),
  actor_kind     LowCardinality(String),
  client         LowCardinality(String),
  service        LowCardinality(String),
  release        LowCardinality(String),
  route          LowCardinality(String),
  method         LowCardinality(String),
  status         Int16 CODEC(ZSTD(1)),
  error_code     LowCardinality(String),
  pat_id         UUID CODEC(ZSTD(1)),
  break_glass_id UUID CODEC(ZSTD(1)),
  agent          LowCardinality(String),
  bucket         Int16 CODEC(Delta, ZSTD(1)),
  n              SimpleAggregateFunction(sum, UInt64) CODEC(T64, LZ4),
  max_us         SimpleAggregateFunction(max, Int64) CODEC(T64, LZ4)
) ENGINE = AggregatingMergeTree
PARTITION BY toYYYYMMDD(at)
PRIMARY KEY (grain, at, actor_id, actor_kind, client, service, release, route, method)
ORDER BY (grain, at, actor_id, actor_kind, client, service, release, route, method, status, error_code, pat_id, break_glass_id, agent, bucket)
SETTINGS fsync_after_insert = 1, fsync_part_directory = 1, non_replicated_deduplication_window = 0,
  min_age_to_force_merge_seconds = 7200, min_age_to_force_merge_on_partition_only = 1;
-- +goose StatementEnd

-- +goose StatementBegin
CREATE MATERIALIZED VIEW IF NOT EXISTS audit_rollup_hours_view TO audit_rollup_hours AS
SELECT
  multiIf(grouping(minute) = 0, 'minute', grouping(route) = 0, 'hour', grouping(actor_id) = 0, 'actor_hour', 'client_hour')::Enum8('minute' = 1, 'hour' = 2, 'client_hour' = 3, 'actor_hour' = 4) AS grain,
  greatest(minute, hour) AS at,
  actor_id,
  actor_kind,
  client,
  service,
  version AS release,
  route,
  method,
  toInt16(exact + class) AS status,
  failure AS error_code,
  pat AS pat_id,
  glass AS break_glass_id,
  program AS agent,
  bucket,
  count() AS n,
  if(grouping(actor_id) = 0, 0, max(ifNull(latency_us, 0))) AS max_us
FROM audit_log
GROUP BY GROUPING SETS (
  (toStartOfMinute(occurred_at) AS minute, service, ifNull(audit_log.release, '') AS version, route, method,
    ifNull(audit_log.status, 0) AS exact, ifNull(audit_log.error_code, '') AS failure,
    assumeNotNull(multiIf(isNull(latency_us), -2, latency_us > 0, toInt16(floor(51 * log(latency_us) + 0.5)), -1)) AS bucket),
  (toStartOfHour(occurred_at) AS hour, service, version, route, method, exact, failure, bucket),
  (hour, actor_kind, client, method, toInt16(100 * intDiv(ifNull(audit_log.status, 0), 100)) AS class, bucket),
  (hour, actor_id, actor_kind, client, ifNull(audit_log.pat_id, toUUID('00000000-0000-0000-0000-000000000000')) AS pat,
    ifNull(audit_log.break_glass_id, toUUID('00000000-0000-0000-0000-000000000000')) AS glass, ifNull(audit_log.agent, '') AS program, class));
-- +goose StatementEnd

-- +goose StatementBegin
CREATE TABLE IF NOT EXISTS audit_rollup_days (
  grain          Enum8('day' = 5, 'octet' = 6, 'month' = 7, 'month_any' = 8, 'client_day' = 9, 'client_month' = 10, 'actor_day' = 11, 'actor_month' = 12),
  at             DateTime('UTC') CODEC(Delta, ZSTD(1)),
  actor_id       LowCardinality(String),
  actor_kind     LowCardinality(String),
  client         LowCardinality(String),
  service        LowCardinality(String),
  release        LowCardinality(String),
  route          LowCardinality(String),
  method         LowCardinality(String),
  status         Int16 CODEC(ZSTD(1)),
  error_code     LowCardinality(String),
  pat_id         UUID CODEC(ZSTD(1)),
  break_glass_id UUID CODEC(ZSTD(1)),
  agent          LowCardinality(String),
  n              SimpleAggregateFunction(sum, UInt64) CODEC(T64, LZ4),
  max_us         SimpleAggregateFunction(max, Int64) CODEC(T64, LZ4),
  latency        SimpleAggregateFunction(sumMap, Tuple(Array(Int16), Array(UInt64))) CODEC(LZ4)
) ENGINE = AggregatingMergeTree
PARTITION BY toYYYYMM(at)
PRIMARY KEY (grain, at, actor_id, actor_kind, client, service, release, route, method)
ORDER BY (grain, at, actor_id, actor_kind, client, service, release, route, method, status, error_code, pat_id, break_glass_id, agent)
SETTINGS fsync_after_insert = 1, fsync_part_directory = 1, non_replicated_deduplication_window = 0, index_granularity = 1024,
  min_age_to_force_merge_seconds = 7200, min_age_to_force_merge_on_partition_only = 1;
-- +goose StatementEnd

-- +goose StatementBegin
CREATE MATERIALIZED VIEW IF NOT EXISTS audit_rollup_days_view TO audit_rollup_days AS
SELECT
  length AS grain,
  multiIf(length IN ('day', 'client_day', 'actor_day'), day,
    length = 'octet', toDateTime(toStartOfMonth(day), 'UTC') + toIntervalDay(8 * intDiv(toDayOfMonth(day) - 1, 8)),
    toDateTime(toStartOfMonth(day), 'UTC')) AS at,
  actor_id,
  actor_kind,
  client,
  service,
  if(length = 'day', version, '') AS release,
  route,
  method,
  if(length = 'month_any', -1, code) AS status,
  if(length = 'month_any', '', failure) AS error_code,
  pat_id,
  break_glass_id,
  agent,
  calls AS n,
  longest AS max_us,
  if(length = 'month_any',
    (arrayPushFront(buckets.1, toInt16(-10 - intDiv(code, 100))), arrayPushFront(buckets.2, calls)), (buckets.1, buckets.2)) AS latency
FROM (
  SELECT
    grain AS kind,
    toStartOfDay(at) AS day,
    actor_id,
    actor_kind,
    client,
    service,
    release AS version,
    route,
    method,
    status AS code,
    error_code AS failure,
    pat_id,
    break_glass_id,
    agent,
    sum(n) AS calls,
    max(max_us) AS longest,
    sumMapIf([bucket], [toUInt64(n)], grain != 'actor_hour') AS buckets
  FROM audit_rollup_hours
  WHERE grain != 'minute'
  GROUP BY kind, day, actor_id, actor_kind, client, service, version, route, method, code, failure, pat_id, break_glass_id, agent
)
ARRAY JOIN multiIf(kind = 'hour', ['day', 'octet', 'month', 'month_any'], kind = 'client_hour', ['client_day', 'client_month'],
  ['actor_day', 'actor_month'])::Array(Enum8('day' = 5, 'octet' = 6, 'month' = 7, 'month_any' = 8, 'client_day' = 9, 'client_month' = 10, 'actor_day' = 11, 'actor_month' = 12)) AS length;
-- +goose StatementEnd
