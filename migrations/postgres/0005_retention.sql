-- Retention: whole months past it leave both stores, unless they are held. What leaves is recorded, a clock that
-- jumps makes nothing leave early, and neither making nor dropping a month keeps a writer waiting.

-- +goose Up

SET ROLE argus_owner;

-- ── holds ───────────────────────────────────────────────────────────────────────────────────────────
-- A legal hold keeps every month that its range touches. It is added and released, never changed or deleted. Only
-- argus_hold may do either: argus_maintenance, which drops months, can release none. Postgres writes the times and the
-- login. Persons share that login, so added_by and released_by are what they say.
CREATE TABLE argus.retention_holds (
  id             bigint      GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  from_at        timestamptz NOT NULL,
  to_at          timestamptz NOT NULL, -- exclusive; infinity: no end
  reason         text        NOT NULL CHECK (length(btrim(reason)) BETWEEN 3 AND 2000),
  added_at       timestamptz NOT NULL DEFAULT clock_timestamp(),
  added_login    text        NOT NULL DEFAULT session_user,
  added_by       text        NOT NULL CHECK (length(btrim(added_by)) BETWEEN 1 AND 200),
  released_at    timestamptz,
  released_login text,
  released_by    text        CHECK (length(btrim(released_by)) BETWEEN 1 AND 200),
  release_reason text        CHECK (length(btrim(release_reason)) BETWEEN 3 AND 2000),
  CHECK (from_at < to_at),
  CHECK (num_nulls(released_at, released_login, released_by, release_reason) IN (0, 4))
);
CREATE TRIGGER append_only BEFORE DELETE OR TRUNCATE ON argus.retention_holds
  FOR EACH STATEMENT EXECUTE FUNCTION argus.reject_change();

-- +goose StatementBegin
CREATE FUNCTION argus.hold_is_fixed() RETURNS trigger LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
  IF OLD.released_at IS NOT NULL OR (OLD.id, OLD.from_at, OLD.to_at, OLD.reason, OLD.added_at, OLD.added_login, OLD.added_by)
     IS DISTINCT FROM (NEW.id, NEW.from_at, NEW.to_at, NEW.reason, NEW.added_at, NEW.added_login, NEW.added_by) THEN
    RAISE EXCEPTION 'hold % cannot be changed, only released once', OLD.id USING ERRCODE = 'check_violation';
  END IF;
  RETURN NEW;
END
$$;
-- +goose StatementEnd
CREATE TRIGGER hold_is_fixed BEFORE UPDATE ON argus.retention_holds
  FOR EACH ROW EXECUTE FUNCTION argus.hold_is_fixed();

-- The lock is drop_expired_months': when the function has returned and committed, nothing of the range leaves.
-- +goose StatementBegin
CREATE FUNCTION argus.add_retention_hold(from_at timestamptz, to_at timestamptz, reason text, added_by text) RETURNS bigint
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
  hold argus.retention_holds;
BEGIN
  PERFORM FROM argus.locks l WHERE l.name = 'months' FOR UPDATE;
  INSERT INTO argus.retention_holds AS h (from_at, to_at, reason, added_by)
  VALUES (add_retention_hold.from_at, add_retention_hold.to_at, add_retention_hold.reason, add_retention_hold.added_by)
  RETURNING h.* INTO hold;
  INSERT INTO argus.audit_admin (kind, detail) VALUES ('hold_added', jsonb_build_object(
    'hold', hold.id, 'from', hold.from_at, 'to', hold.to_at, 'reason', hold.reason, 'claimed_by', hold.added_by));
  RETURN hold.id;
END
$$;
-- +goose StatementEnd

-- Returns false when there is no such hold, or it was released before.
-- +goose StatementBegin
CREATE FUNCTION argus.release_retention_hold(hold bigint, reason text, released_by text) RETURNS boolean
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
  UPDATE argus.retention_holds h
     SET released_at = clock_timestamp(), released_login = session_user,
         released_by = release_retention_hold.released_by, release_reason = release_retention_hold.reason
   WHERE h.id = hold AND h.released_at IS NULL;
  IF NOT FOUND THEN
    RETURN false;
  END IF;
  INSERT INTO argus.audit_admin (kind, detail) VALUES ('hold_released', jsonb_build_object(
    'hold', hold, 'reason', release_retention_hold.reason, 'claimed_by', release_retention_hold.released_by));
  RETURN true;
END
$$;
-- +goose StatementEnd

-- ── one run at a time ───────────────────────────────────────────────────────────────────────────────
-- Maintenance holds this to the end of a transaction that lasts as long as its run.
-- +goose StatementBegin
CREATE FUNCTION argus.lock_maintenance() RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
  PERFORM FROM argus.locks l WHERE l.name = 'maintenance' FOR UPDATE;
END
$$;
-- +goose StatementEnd

-- ── the clock ───────────────────────────────────────────────────────────────────────────────────────
-- When maintenance last looked, and from when on its clock is believed. Maintenance runs daily, so a clock
-- that went back, or more than three days on, has jumped, or maintenance was off; the two look the same, so
-- nothing is dropped for three days. A smaller jump is within the three days that every month is kept longer.
CREATE TABLE argus.maintenance_clock (
  one           boolean     PRIMARY KEY DEFAULT true CHECK (one),
  seen_at       timestamptz NOT NULL,
  believed_from timestamptz NOT NULL
);

-- +goose StatementBegin
CREATE FUNCTION argus.look_at_clock() RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
  t timestamptz := clock_timestamp();
BEGIN
  INSERT INTO argus.maintenance_clock AS c (seen_at, believed_from) VALUES (t, '-infinity')
  ON CONFLICT (one) DO UPDATE SET
    believed_from = CASE WHEN t NOT BETWEEN c.seen_at - interval '1 minute' AND c.seen_at + interval '3 days'
                         THEN t + interval '3 days' ELSE c.believed_from END,
    seen_at = t;
END
$$;
-- +goose StatementEnd

-- ── months past retention ───────────────────────────────────────────────────────────────────────────
-- Which partition, of any of the three tables, holds rows of which month.
CREATE FUNCTION argus.parts_of_months() RETURNS TABLE (month date, part regclass)
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
  SELECT m.month, m.part
    FROM unnest(ARRAY['argus.argus_audit_log', 'argus.compute_control_audit', 'argus.remote_support_audit']::regclass[]) root (oid)
    CROSS JOIN LATERAL argus.months_of(root.oid) m
$$;

-- The months that are past retention, oldest first, and why each is kept; null: it may go. A partition leaves whole, so a
-- month stays with those that share a partition with it.
-- +goose StatementBegin
CREATE FUNCTION argus.expired_months(retention_days int DEFAULT 365) RETURNS TABLE (month date, kept text)
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET timezone = 'UTC' AS $$
DECLARE
  newest timestamptz;
  believed timestamptz;
  months date[];
  reasons text[];
  shared record;
BEGIN
  IF retention_days < 365 THEN
    RAISE EXCEPTION 'retention is at least 365 days, not %', retention_days;
  END IF;
  SELECT max(l.occurred_at) INTO newest FROM argus.argus_audit_log l;
  SELECT c.believed_from INTO believed FROM argus.maintenance_clock c;
  SELECT array_agg(e.month ORDER BY e.month), array_agg(e.kept ORDER BY e.month) INTO months, reasons FROM (
    SELECT m.month, CASE
        WHEN held.id IS NOT NULL THEN format('hold %s: %s', held.id, held.reason)
        WHEN clock_timestamp() < believed THEN format(
          'the clock jumped, or maintenance had not run for days: months leave again from %s on, if it runs daily until then',
          to_char(believed, 'YYYY-MM-DD HH24:MI'))
        -- A clock that runs ahead of the log proves nothing.
        WHEN newest IS NULL OR newest < due.at THEN format(
          'the log itself has no row of %s or later', to_char(due.at, 'YYYY-MM-DD'))
        WHEN argus.unsealed(m.month) THEN 'it has rows that the ledger has not sealed yet: see that argusd ledger seal runs'
      END AS kept
      FROM argus.audit_months m
      CROSS JOIN LATERAL (SELECT (m.month + interval '1 month')::timestamptz + make_interval(days => retention_days)) due (at)
      LEFT JOIN LATERAL (
        SELECT h.id, h.reason FROM argus.retention_holds h
         WHERE h.released_at IS NULL AND h.from_at < m.month + interval '1 month' AND h.to_at > m.month
         ORDER BY h.id LIMIT 1) held ON true
     WHERE clock_timestamp() >= due.at + interval '3 days') e;
  LOOP
    SELECT going.i, other.part, other.month INTO shared
      FROM unnest(months, reasons) WITH ORDINALITY going (month, kept, i)
      JOIN argus.parts_of_months() mine ON mine.month = going.month
      JOIN argus.parts_of_months() other ON other.part = mine.part AND other.month <> mine.month
      LEFT JOIN unnest(months, reasons) too (month, kept) ON too.month = other.month
     WHERE going.kept IS NULL AND (too.month IS NULL OR too.kept IS NOT NULL)
     ORDER BY going.i, other.month LIMIT 1;
    EXIT WHEN NOT FOUND;
    reasons[shared.i] := format('its partition %s also holds %s, which stays', shared.part, to_char(shared.month, 'YYYY-MM'));
  END LOOP;
  RETURN QUERY SELECT e.month, e.kept FROM unnest(months, reasons) e (month, kept) ORDER BY e.month;
END
$$;
-- +goose StatementEnd

-- Drops the months that expired_months lets go and returns them. Each drop is recorded with its counts and a
-- hash of its row hashes: SHA-256 over the minutes' SHA-256s, each over its rows' hashes, in the order of the
-- log. That is made under a lock on the old partitions alone; the log itself is locked only for the drop, and not
-- waited for longer than half a second, so that calls never queue behind a long query: then 55P03 is raised,
-- and nothing has happened.
-- +goose StatementBegin
CREATE FUNCTION argus.drop_expired_months(retention_days int DEFAULT 365) RETURNS SETOF date
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET timezone = 'UTC' AS $$
DECLARE
  months date[];
  m date;
  part regclass;
  parts regclass[];
  details jsonb[] := '{}';
  n bigint;
  n_compute bigint;
  n_support bigint;
  h bytea;
BEGIN
  PERFORM FROM argus.locks l WHERE l.name = 'months' FOR UPDATE;
  PERFORM argus.look_at_clock();
  SELECT array_agg(e.month ORDER BY e.month) INTO months FROM argus.expired_months(retention_days) e WHERE e.kept IS NULL;
  IF months IS NULL THEN
    RETURN;
  END IF;
  SELECT array_agg(DISTINCT p.part) INTO parts FROM argus.parts_of_months() p WHERE p.month = ANY (months);
  FOREACH part IN ARRAY parts LOOP
    EXECUTE format('LOCK TABLE %s IN SHARE MODE', part);
  END LOOP;
  FOREACH m IN ARRAY months LOOP
    IF argus.unsealed(m) THEN -- they came before the lock
      RAISE EXCEPTION '% has rows that the ledger has not sealed yet', to_char(m, 'YYYY-MM') USING ERRCODE = 'object_in_use';
    END IF;
    SELECT count(*) INTO n_compute FROM argus.compute_control_audit c
     WHERE c.audit_id >= argus.uuid_floor(m::timestamptz) AND c.audit_id < argus.uuid_floor(m + interval '1 month');
    SELECT count(*) INTO n_support FROM argus.remote_support_audit r
     WHERE r.audit_id >= argus.uuid_floor(m::timestamptz) AND r.audit_id < argus.uuid_floor(m + interval '1 month');
    SELECT coalesce(sum(t.n), 0), sha256(coalesce(string_agg(t.d, ''::bytea ORDER BY t.minute), ''::bytea)) INTO n, h FROM (
      SELECT date_trunc('minute', l.occurred_at) AS minute, count(*) AS n,
             sha256(string_agg(l.row_hash, ''::bytea ORDER BY l.occurred_at, l.writer_id, l.seq)) AS d
        FROM argus.argus_audit_log l
       WHERE l.occurred_at >= m::timestamptz AND l.occurred_at < m + interval '1 month' GROUP BY 1) t;
    details := details || jsonb_build_object('month', to_char(m, 'YYYY-MM'),
      'rows', n, 'rows_sha256', encode(h, 'hex'), 'compute_control_rows', n_compute, 'remote_support_rows', n_support);
  END LOOP;
  PERFORM set_config('lock_timeout', '500ms', true);
  EXECUTE 'DROP TABLE ' || array_to_string(parts, ', ');
  INSERT INTO argus.audit_admin (kind, detail) SELECT 'month_dropped', d FROM unnest(details) d;
  RETURN QUERY SELECT unnest(months);
END
$$;
-- +goose StatementEnd

-- What was dropped from a copy after it: tables and rows by name. The copy is named as ARGUS_CLICKHOUSE_URL names it, '' for one plain URL.
-- +goose StatementBegin
CREATE FUNCTION argus.record_copy_dropped(month date, rows jsonb, copy text) RETURNS void
LANGUAGE sql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
  INSERT INTO argus.audit_admin (kind, detail) VALUES ('month_dropped_from_copy',
    jsonb_build_object('month', to_char(month, 'YYYY-MM'), 'rows', rows, 'copy', copy))
$$;
-- +goose StatementEnd

-- ── grants ──────────────────────────────────────────────────────────────────────────────────────────
REVOKE ALL ON argus.retention_holds, argus.maintenance_clock FROM PUBLIC;

GRANT SELECT ON argus.retention_holds TO argus_maintenance, argus_hold, argus_auditor;
GRANT SELECT ON argus.maintenance_clock TO argus_maintenance, argus_auditor;
GRANT SELECT ON argus.maintenance_clock TO argus_api; -- when maintenance last ran is a metric of the API's processes
GRANT SELECT ON argus.audit_admin TO argus_hold;      -- which months of a range have left already

GRANT EXECUTE ON FUNCTION argus.add_retention_hold(timestamptz, timestamptz, text, text),
                          argus.release_retention_hold(bigint, text, text) TO argus_hold;
GRANT EXECUTE ON FUNCTION argus.lock_maintenance(), argus.look_at_clock(), argus.expired_months(int),
                          argus.drop_expired_months(int), argus.record_copy_dropped(date, jsonb, text) TO argus_maintenance;

RESET ROLE;
