-- Rollups that cost less to feed and to read.
--
-- The rollups of days are made with half the work: calls are counted once by day, and their latencies put into arrays
-- once, before they are repeated for each grain. What each table adds up to is the same. A key may come in several rows
-- of one insert (month_any has one for each status, a longer grain one for each day): merges and readers add them up.

-- +goose Up

-- +goose StatementBegin
ALTER TABLE audit_route_days_view MODIFY QUERY
SELECT
  grain,
  multiIf(grain = 'day', day,
    grain = 'week', toDateTime(toStartOfMonth(day), 'UTC') + toIntervalDay(8 * intDiv(toDayOfMonth(day) - 1, 8)),
    toDateTime(toStartOfMonth(day), 'UTC')) AS at,
  route,
  method,
  if(grain = 'month_any', -1, exact) AS status,
  calls AS n,
  longest AS max_us,
  if(grain = 'month_any',
    (arrayPushFront(buckets.1, toInt16(-10 - intDiv(exact, 100))), arrayPushFront(buckets.2, calls)), (buckets.1, buckets.2)) AS latency
FROM (
  SELECT day, route, method, exact, sum(counted) AS calls, max(slowest) AS longest, arraySort(groupArray((bucket, counted))) AS buckets
  FROM (
    SELECT
      toStartOfDay(occurred_at) AS day,
      route,
      method,
      ifNull(status, 0) AS exact,
      multiIf(isNull(latency_us), -2, latency_us > 0, toInt16(floor(51 * log(latency_us) + 0.5)), -1) AS bucket,
      count() AS counted,
      max(ifNull(latency_us, 0)) AS slowest
    FROM audit_log
    GROUP BY day, route, method, exact, bucket
  )
  GROUP BY day, route, method, exact
)
ARRAY JOIN ['day', 'week', 'month', 'month_any']::Array(Enum8('day' = 3, 'week' = 4, 'month' = 5, 'month_any' = 6)) AS grain;
-- +goose StatementEnd

-- +goose StatementBegin
ALTER TABLE audit_client_days_view MODIFY QUERY
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

-- +goose StatementBegin
ALTER TABLE audit_actor_days_view MODIFY QUERY
SELECT
  grain,
  if(grain = 'day', day, toDateTime(toStartOfMonth(day), 'UTC')) AS at,
  actor_id,
  actor_kind,
  pat_id,
  break_glass_id,
  client,
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
    intDiv(ifNull(status, 0), 100) AS class,
    count() AS calls
  FROM audit_log
  GROUP BY day, actor_id, actor_kind, ifNull(audit_log.pat_id, toUUID('00000000-0000-0000-0000-000000000000')),
    ifNull(audit_log.break_glass_id, toUUID('00000000-0000-0000-0000-000000000000')), client, class
)
ARRAY JOIN ['day', 'month']::Array(Enum8('day' = 3, 'month' = 5)) AS grain
GROUP BY grain, at, actor_id, actor_kind, pat_id, break_glass_id, client, class;
-- +goose StatementEnd

-- A day or a month that is over is merged into one part some hours later: two or three parts would stay otherwise, and
-- each key be read as often.
-- +goose StatementBegin
ALTER TABLE audit_route_hours MODIFY SETTING min_age_to_force_merge_seconds = 7200, min_age_to_force_merge_on_partition_only = 1;
-- +goose StatementEnd
-- +goose StatementBegin
ALTER TABLE audit_route_days MODIFY SETTING min_age_to_force_merge_seconds = 7200, min_age_to_force_merge_on_partition_only = 1;
-- +goose StatementEnd
-- +goose StatementBegin
ALTER TABLE audit_client_hours MODIFY SETTING min_age_to_force_merge_seconds = 7200, min_age_to_force_merge_on_partition_only = 1;
-- +goose StatementEnd
-- +goose StatementBegin
ALTER TABLE audit_client_days MODIFY SETTING min_age_to_force_merge_seconds = 7200, min_age_to_force_merge_on_partition_only = 1;
-- +goose StatementEnd
-- +goose StatementBegin
ALTER TABLE audit_actor_hours MODIFY SETTING min_age_to_force_merge_seconds = 7200, min_age_to_force_merge_on_partition_only = 1;
-- +goose StatementEnd
-- +goose StatementBegin
ALTER TABLE audit_actor_days MODIFY SETTING min_age_to_force_merge_seconds = 7200, min_age_to_force_merge_on_partition_only = 1;
-- +goose StatementEnd
