-- The system of record: the audit log, its writers and intents, the two domain tables, the record of
-- what administrators did, and the roles that may touch each.
--
-- Run by a superuser, or by a role that may create roles and is a member of argus_owner. Everything
-- ends up owned by argus_owner, which is NOLOGIN in production.

-- +goose Up

-- Roles belong to the whole server, so another database (or another migration at this moment) may
-- have made them already.
-- +goose StatementBegin
DO $$
DECLARE
  r text;
BEGIN
  FOREACH r IN ARRAY ARRAY['argus_owner', 'argus_api', 'argus_replicator', 'argus_auditor',
                           'argus_maintenance', 'argus_hold', 'argus_break_glass', 'argus_consent'] LOOP
    BEGIN
      IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = r) THEN
        EXECUTE format('CREATE ROLE %I NOLOGIN', r);
      END IF;
    EXCEPTION WHEN duplicate_object OR unique_violation THEN
      NULL;
    END;
  END LOOP;
  -- Changed only when wrong: concurrent ALTER ROLEs of the same role fail ("tuple concurrently updated").
  IF NOT (SELECT rolreplication FROM pg_roles WHERE rolname = 'argus_replicator') THEN
    ALTER ROLE argus_replicator REPLICATION;
  END IF;
END
$$;
-- +goose StatementEnd

CREATE SCHEMA argus AUTHORIZATION argus_owner;
GRANT USAGE ON SCHEMA argus TO argus_api, argus_replicator, argus_auditor, argus_maintenance, argus_hold, argus_break_glass, argus_consent;
REVOKE CREATE ON SCHEMA public FROM PUBLIC;
-- Large objects belong to no schema: any login could fill the disk with them. Only a superuser's migration can say so.
REVOKE EXECUTE ON FUNCTION pg_catalog.lo_creat(integer), pg_catalog.lo_create(oid), pg_catalog.lo_from_bytea(oid, bytea) FROM PUBLIC;

-- A publication needs CREATE on the database, which has no literal name here. No role of ours needs temporary
-- tables: what a session makes there could stand in for a type or a table in a function that runs as another role.
-- The auditor's limits are defaults, which the auditor may change for a session: an auditor's transaction that stays
-- open keeps Postgres from cleaning up behind the writers. Set them by a proxy if you do not trust your auditors.
-- +goose StatementBegin
DO $$
BEGIN
  EXECUTE format('GRANT CREATE ON DATABASE %I TO argus_owner', current_database());
  EXECUTE format('REVOKE TEMPORARY ON DATABASE %I FROM PUBLIC', current_database());
  EXECUTE format('ALTER ROLE argus_auditor IN DATABASE %I SET statement_timeout = ''1h''', current_database());
  EXECUTE format('ALTER ROLE argus_auditor IN DATABASE %I SET idle_in_transaction_session_timeout = ''5min''', current_database());
  EXECUTE format('ALTER DATABASE %I SET search_path = argus, public', current_database());
  EXECUTE format('ALTER DATABASE %I SET timezone = ''UTC''', current_database());
END
$$;
-- +goose StatementEnd

SET ROLE argus_owner;

-- Every function of this schema states who may run it (a grant to a role, none to PUBLIC) and where its names are looked
-- up: SET search_path = pg_catalog, pg_temp. Named last, pg_temp cannot stand in for a type or a table of ours, which it
-- does when it is not named; and all names of this schema are written out. TestDefinerFunctions holds both.
ALTER DEFAULT PRIVILEGES REVOKE EXECUTE ON FUNCTIONS FROM PUBLIC;

-- ── locks ───────────────────────────────────────────────────────────────────────────────────────────
-- What must go on is never made to wait for a lock that others may take. Any role that logs in may take any advisory
-- lock, so there are none here: these rows are locked by functions that run as the owner, and no role may touch them.
CREATE TABLE argus.locks (name text PRIMARY KEY);
INSERT INTO argus.locks VALUES ('writers'), ('months'), ('maintenance'), ('logins');
INSERT INTO argus.locks SELECT 'key ' || n FROM generate_series(0, 1023) n;

-- Locks a text, for instance a call's id, until the transaction ends. Texts share 1024 places: two may wait for each
-- other without need, briefly.
-- +goose StatementBegin
CREATE FUNCTION argus.lock_key(key text) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
  PERFORM FROM argus.locks l WHERE l.name = 'key ' || (hashtextextended(key, 0) & 1023) FOR UPDATE;
END
$$;
-- +goose StatementEnd

-- ── append-only ─────────────────────────────────────────────────────────────────────────────────────
-- Privileges come first (no role below owner has UPDATE, DELETE or TRUNCATE on an audit table). This
-- trigger is the second wall: it stops the owner's slip of the hand.
-- +goose StatementBegin
CREATE FUNCTION argus.reject_change() RETURNS trigger LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
  RAISE EXCEPTION '% on %.% rejected: audit tables are append-only', TG_OP, TG_TABLE_SCHEMA, TG_TABLE_NAME
    USING ERRCODE = 'insufficient_privilege',
          HINT = 'Rows leave only by whole months past retention, through argus.drop_expired_months().';
END
$$;
-- +goose StatementEnd

-- ── the audit log ───────────────────────────────────────────────────────────────────────────────────
-- Column meanings: design of the record, one row a call. row_hash is SHA-256 over the canonical encoding
-- (package argus, canonical.go) of all columns before it.
CREATE TABLE argus.argus_audit_log (
  writer_id         bigint      NOT NULL,
  seq               bigint      NOT NULL CHECK (seq > 0),
  id                uuid        NOT NULL,
  occurred_at       timestamptz NOT NULL,
  recorded_at       timestamptz NOT NULL,
  actor_id          text        NOT NULL,
  impersonator_id   text,
  actor_kind        text        NOT NULL CHECK (actor_kind IN ('clerk_session', 'oidc_session', 'pat', 'break_glass', 'workload')),
  pat_id            uuid,
  break_glass_id    uuid,
  scope             text        NOT NULL,
  route             text        NOT NULL,
  path_params       jsonb       NOT NULL,
  method            text        NOT NULL,
  status            smallint,
  outcome           text        NOT NULL CHECK (outcome IN ('completed', 'interrupted')),
  latency_us        bigint,
  client_ip         inet        NOT NULL,
  user_agent        text        NOT NULL,
  body_sha256       bytea       CHECK (length(body_sha256) = 32),
  body_bytes        bigint      NOT NULL,
  client_request_id text,
  trace_id          text,
  service           text        NOT NULL,                             -- argus, or the service behind the API that answered
  release           text,                                             -- of what answered
  error_code        text,                                             -- of the answer's error
  reason            text,                                             -- what the operator gave
  agent             text,                                             -- the program that acts for the actor
  workload          jsonb       CHECK (workload <> '{}'),             -- the claims that admitted a workload
  row_hash          bytea       NOT NULL CHECK (length(row_hash) = 32),
  PRIMARY KEY (writer_id, seq, occurred_at),
  CHECK ((outcome = 'completed') = (status IS NOT NULL AND latency_us IS NOT NULL)),
  CHECK (outcome = 'completed' OR (status IS NULL AND latency_us IS NULL))
) PARTITION BY RANGE (occurred_at);

-- The order of the log, and the way to one call by its public id.
CREATE INDEX argus_audit_log_order ON argus.argus_audit_log (occurred_at, writer_id, seq);
CREATE INDEX argus_audit_log_id ON argus.argus_audit_log (id);

-- ── domain tables ───────────────────────────────────────────────────────────────────────────────────
-- Keyed by the call's id and a step number. audit_id is a version 7 UUID, so its leading bits are the
-- time of the call: partitioning by it keeps the key unique and still drops by month.
-- impersonator_id is who stood behind the actor, as in the call's row; null for steps that no operator takes.
CREATE TABLE argus.compute_control_audit (
  audit_id        uuid        NOT NULL,
  step            smallint    NOT NULL CHECK (step > 0),
  at              timestamptz NOT NULL,
  actor_id        text        NOT NULL,
  impersonator_id text,
  action          text        NOT NULL CHECK (action IN ('launch', 'stop', 'resume', 'terminate')),
  worker_id       text,
  provider        text,
  reason          text,
  from_state      text,
  to_state        text,
  result          text        NOT NULL CHECK (result IN ('requested', 'succeeded', 'failed', 'denied')),
  error           text,
  PRIMARY KEY (audit_id, step)
) PARTITION BY RANGE (audit_id);

CREATE TABLE argus.remote_support_audit (
  audit_id            uuid        NOT NULL,
  step                smallint    NOT NULL CHECK (step > 0),
  at                  timestamptz NOT NULL,
  actor_id            text        NOT NULL,
  impersonator_id     text,
  action              text        NOT NULL CHECK (action IN ('arm', 'disarm', 'start', 'end', 'add', 'change', 'consent', 'retire')),
  tenant_id           text        NOT NULL,
  session_id          uuid,
  reason              text,
  consent_document_id text,        -- of the consent that was effective, who recorded it and when
  consent_recorded_by text,
  consent_recorded_at timestamptz,
  result              text        NOT NULL CHECK (result IN ('requested', 'succeeded', 'failed', 'denied')),
  error               text,
  PRIMARY KEY (audit_id, step)
) PARTITION BY RANGE (audit_id);

-- A step is dated by Postgres's clock.
-- +goose StatementBegin
CREATE FUNCTION argus.reject_date() RETURNS trigger LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
  RAISE EXCEPTION 'a step of call % is dated off the clock of Postgres', NEW.audit_id
    USING ERRCODE = 'check_violation', CONSTRAINT = 'steps_near_clock';
END
$$;
-- +goose StatementEnd
CREATE TRIGGER near_clock AFTER INSERT ON argus.compute_control_audit FOR EACH ROW
  WHEN (NEW.at NOT BETWEEN clock_timestamp() - interval '1 hour' AND clock_timestamp() + interval '1 hour')
  EXECUTE FUNCTION argus.reject_date();
CREATE TRIGGER near_clock AFTER INSERT ON argus.remote_support_audit FOR EACH ROW
  WHEN (NEW.at NOT BETWEEN clock_timestamp() - interval '1 hour' AND clock_timestamp() + interval '1 hour')
  EXECUTE FUNCTION argus.reject_date();

-- ── what administrators did ─────────────────────────────────────────────────────────────────────────
CREATE TABLE argus.audit_admin (
  id     bigint      GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  at     timestamptz NOT NULL DEFAULT clock_timestamp(),
  actor  text        NOT NULL DEFAULT session_user,
  kind   text        NOT NULL, -- break_glass_issued, consent_recorded, month_dropped, hold, resync, heal …
  detail jsonb       NOT NULL
);
CREATE TRIGGER append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON argus.audit_admin
  FOR EACH STATEMENT EXECUTE FUNCTION argus.reject_change();

-- ── writers and intents ─────────────────────────────────────────────────────────────────────────────
-- One row for one lifetime of one API process; heartbeat_at is Postgres's clock, so that processes with
-- wrong clocks agree on who is dead.
CREATE TABLE argus.audit_processes (
  process_id   uuid        PRIMARY KEY,
  host         text        NOT NULL,
  started_at   timestamptz NOT NULL DEFAULT clock_timestamp(),
  heartbeat_at timestamptz NOT NULL DEFAULT clock_timestamp(),
  server       text,  -- the host of its URL that its lanes write to
  timeline     bigint -- of that server: the highest that the process has seen
) WITH (fillfactor = 50);

-- One row for one lifetime of one writer lane. An insert into the log moves seq by compare-and-set (rows_follow_writer);
-- a lane that finds another value there (or closed_at) has been fenced.
CREATE TABLE argus.audit_writers (
  writer_id  bigint      PRIMARY KEY,
  process_id uuid        NOT NULL,
  lane       int         NOT NULL,
  seq        bigint      NOT NULL DEFAULT 0,
  opened_at  timestamptz NOT NULL DEFAULT clock_timestamp(),
  closed_at  timestamptz
) WITH (fillfactor = 20); -- room for the heap-only updates of every batch
CREATE INDEX audit_writers_open ON argus.audit_writers (writer_id) WHERE closed_at IS NULL;

-- Of both tables argus_api may write closed_at and heartbeat_at alone, and these triggers write Postgres's clock in their
-- stead. What is closed stays closed. Neither fires when a batch moves seq.
-- +goose StatementBegin
CREATE FUNCTION argus.close_writer_now() RETURNS trigger LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
  NEW.closed_at := coalesce(OLD.closed_at, clock_timestamp());
  RETURN NEW;
END
$$;
-- +goose StatementEnd
CREATE TRIGGER close_now BEFORE UPDATE OF closed_at ON argus.audit_writers
  FOR EACH ROW EXECUTE FUNCTION argus.close_writer_now();

-- +goose StatementBegin
CREATE FUNCTION argus.beat_now() RETURNS trigger LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
  NEW.heartbeat_at := clock_timestamp();
  RETURN NEW;
END
$$;
-- +goose StatementEnd
CREATE TRIGGER beat_now BEFORE UPDATE OF heartbeat_at ON argus.audit_processes
  FOR EACH ROW EXECUTE FUNCTION argus.beat_now();

-- Which server of a copy has a writer's rows, where a copy is shared out among several (shards, counted from 1). The rows of a
-- writer stay together. Its number modulo 64 is its virtual slot, and shards has the shard of each virtual slot, from the writer
-- from_writer on, up to the next row's. So another map is for later writers, and no row ever moves. Writers before the first
-- row are of shard 1. argus.arrange_shards alone writes here.
CREATE TABLE argus.shard_map (
  copy        text        NOT NULL,
  from_writer bigint      NOT NULL,
  shards      int[]       NOT NULL CHECK (cardinality(shards) = 64),
  at          timestamptz NOT NULL DEFAULT clock_timestamp(),
  PRIMARY KEY (copy, from_writer)
);

-- The shard of a copy that has the writer's rows.
CREATE FUNCTION argus.shard_of(copy text, writer bigint) RETURNS int
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
  SELECT coalesce((SELECT m.shards[shard_of.writer % 64 + 1] FROM argus.shard_map m
                    WHERE m.copy = shard_of.copy AND m.from_writer <= shard_of.writer ORDER BY m.from_writer DESC LIMIT 1), 1)
$$;

-- Numbers come from here, never from a sequence: readers rely on "every writer at or below the greatest
-- visible number is visible", which two transactions committing out of order would break. They start
-- from the clock in milliseconds, so that a database restored to an earlier moment never gives a number
-- twice while the columnar copy still holds rows of the first.
--
-- Where copies have shards, the number is one of the next 64: the first whose shards have the fewest open writers. Without a
-- map it is the next.
-- +goose StatementBegin
CREATE FUNCTION argus.open_audit_writer(process uuid, lane int) RETURNS bigint
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
  n bigint;
BEGIN
  -- Openers take turns until their commit.
  PERFORM FROM argus.locks l WHERE l.name = 'writers' FOR UPDATE;
  SELECT greatest(coalesce(max(w.writer_id), 0) + 1, (extract(epoch FROM clock_timestamp()) * 1000)::bigint)
    INTO n FROM argus.audit_writers w;
  IF EXISTS (SELECT FROM argus.shard_map) THEN
    WITH copies AS (SELECT DISTINCT m.copy FROM argus.shard_map m),
    load AS (
      SELECT c.copy, argus.shard_of(c.copy, w.writer_id) AS shard, count(*) AS writers
        FROM argus.audit_writers w CROSS JOIN copies c WHERE w.closed_at IS NULL GROUP BY 1, 2)
    SELECT next.number INTO n
      FROM generate_series(n, n + 63) AS next (number) CROSS JOIN copies c
      LEFT JOIN load ON load.copy = c.copy AND load.shard = argus.shard_of(c.copy, next.number)
     GROUP BY next.number ORDER BY sum(coalesce(load.writers, 0)), next.number LIMIT 1;
  END IF;
  INSERT INTO argus.audit_writers (writer_id, process_id, lane) VALUES (n, process, lane);
  RETURN n;
END
$$;
-- +goose StatementEnd

-- Every insert into the log. Its rows are the next ones of open writers and move their seq, so no row is beyond its
-- writer's seq or in a closed writer, and no seq is without its rows. AR001: another has fenced the writer. The time a
-- row was recorded is held near Postgres's clock, so that a row which tells of the past shows when it was told.
--
-- A statement trigger fires for the table that the statement names. So each month that argus_api may insert into has it
-- too (create_month). A month that was detached takes no rows: they would move seq without being in the log. Whether it is
-- attached is looked up as it is now, also by a transaction whose snapshot is older.
-- +goose StatementBegin
CREATE FUNCTION argus.rows_follow_writer() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
  batch record;
BEGIN
  IF pg_partition_root(TG_RELID) IS DISTINCT FROM 'argus.argus_audit_log'::regclass THEN
    RAISE EXCEPTION '% is no partition of the audit log', TG_TABLE_NAME USING ERRCODE = 'insufficient_privilege';
  END IF;
  FOR batch IN
    SELECT i.writer_id, min(i.seq) AS first, max(i.seq) AS last, count(*) AS rows, min(i.recorded_at) AS earliest,
           greatest(max(i.recorded_at), max(i.occurred_at)) AS latest
      FROM inserted i GROUP BY i.writer_id ORDER BY i.writer_id
  LOOP
    -- The owner, who could switch this off, may tell of the past: the demonstration of make dev does.
    IF (batch.earliest < clock_timestamp() - interval '1 hour' OR batch.latest > clock_timestamp() + interval '1 hour')
       AND NOT pg_has_role(session_user, 'argus_owner', 'USAGE') THEN
      RAISE EXCEPTION 'rows of writer % are dated more than an hour off the clock of Postgres', batch.writer_id
        USING ERRCODE = 'check_violation', CONSTRAINT = 'rows_near_clock';
    END IF;
    UPDATE argus.audit_writers w SET seq = batch.last
     WHERE w.writer_id = batch.writer_id AND w.seq = batch.first - 1 AND w.closed_at IS NULL;
    IF NOT FOUND THEN
      RAISE EXCEPTION 'writer % has been fenced', batch.writer_id USING ERRCODE = 'AR001';
    END IF;
    -- With as many rows as numbers, a number that is there twice (at different times) leaves another out.
    IF batch.rows <> batch.last - batch.first + 1
       OR batch.rows > 1 AND batch.rows <> (SELECT count(DISTINCT i.seq) FROM inserted i WHERE i.writer_id = batch.writer_id) THEN
      RAISE EXCEPTION 'rows of writer % have holes or come twice', batch.writer_id
        USING ERRCODE = 'check_violation', CONSTRAINT = 'rows_follow_writer';
    END IF;
  END LOOP;
  RETURN NULL;
END
$$;
-- +goose StatementEnd
CREATE TRIGGER rows_follow_writer AFTER INSERT ON argus.argus_audit_log REFERENCING NEW TABLE AS inserted
  FOR EACH STATEMENT EXECUTE FUNCTION argus.rows_follow_writer();

-- A state-changing call announces itself here, committed with its first write. The audit batch that holds
-- its row deletes it in the same transaction; what a dead process leaves is turned into interrupted rows.
CREATE TABLE argus.audit_intents (
  id         uuid        PRIMARY KEY,           -- the call's public id
  process_id uuid        NOT NULL,
  at         timestamptz NOT NULL DEFAULT clock_timestamp(),
  record     jsonb       NOT NULL               -- the row as far as it is known, JSON keys = column names
);
CREATE INDEX audit_intents_process ON argus.audit_intents (process_id);

-- The end of every batch, after its rows: deletes the intents of the calls whose rows the same transaction has just
-- inserted as from_seq + 1 … to_seq. Nothing of the batch stays when it raises:
--   AR001  the writer does not stand at to_seq or is closed: another has fenced it
--   AR002  some of the calls already have a row (a dead process's intents become interrupted rows); DETAIL
--          names them. An intent that is gone without a row was never committed, and is no obstacle.
-- Intents are locked in one order, so that two batches which sweep the same ones cannot deadlock.
-- +goose StatementBegin
CREATE FUNCTION argus.advance_audit_writer(writer bigint, from_seq bigint, to_seq bigint, intents uuid[]) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
  deleted int;
  swept text;
BEGIN
  IF NOT EXISTS (SELECT FROM argus.audit_writers w WHERE w.writer_id = writer AND w.seq = to_seq AND w.closed_at IS NULL) THEN
    RAISE EXCEPTION 'writer % has been fenced', writer USING ERRCODE = 'AR001';
  END IF;
  IF intents IS NULL THEN
    RETURN;
  END IF;
  PERFORM FROM argus.audit_intents i WHERE i.id = ANY (intents) ORDER BY i.id FOR UPDATE;
  DELETE FROM argus.audit_intents i WHERE i.id = ANY (intents)
     AND i.id IN (SELECT l.id FROM argus.argus_audit_log l WHERE l.writer_id = writer AND l.seq > from_seq AND l.seq <= to_seq);
  GET DIAGNOSTICS deleted = ROW_COUNT;
  IF deleted < cardinality(intents) THEN
    SELECT string_agg(u.id::text, ',') INTO swept FROM unnest(intents) AS u(id)
     WHERE EXISTS (SELECT FROM argus.argus_audit_log l
                    WHERE l.id = u.id AND NOT (l.writer_id = writer AND l.seq > from_seq));
    IF swept IS NOT NULL THEN
      RAISE EXCEPTION 'calls already have a row' USING ERRCODE = 'AR002', DETAIL = swept;
    END IF;
  END IF;
END
$$;
-- +goose StatementEnd

-- Deletes intents of calls that have their row: those older than min_age, and of the given ones any. No other intent can
-- be deleted but by the batch that writes its row.
-- +goose StatementBegin
CREATE FUNCTION argus.delete_recorded_intents(min_age interval, intents uuid[] DEFAULT NULL) RETURNS SETOF uuid
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
  RETURN QUERY
    DELETE FROM argus.audit_intents i
     WHERE (i.id = ANY (intents) OR intents IS NULL AND i.at < clock_timestamp() - min_age)
       AND EXISTS (SELECT FROM argus.argus_audit_log l WHERE l.id = i.id)
    RETURNING i.id;
END
$$;
-- +goose StatementEnd

-- ── partitions ──────────────────────────────────────────────────────────────────────────────────────
-- The smallest version 7 UUID of a moment: the bound of a domain table's partition.
CREATE FUNCTION argus.uuid_floor(at timestamptz) RETURNS uuid
LANGUAGE sql IMMUTABLE STRICT SET search_path = pg_catalog, pg_temp AS $$
  SELECT (lpad(to_hex((extract(epoch FROM at) * 1000)::bigint), 12, '0') || repeat('0', 20))::uuid
$$;

-- The partitions directly below a table, by their bounds: a name is the choice of the role that attached it. lo is inclusive,
-- hi exclusive; of a domain table they are the times in the leading bits of the UUIDs. Null is an open bound; of a DEFAULT
-- partition both are. What is being detached is no partition. The settings make bounds read as they were written.
CREATE FUNCTION argus.partitions_of(root regclass) RETURNS TABLE (part regclass, lo timestamptz, hi timestamptz)
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp SET timezone = 'UTC' SET datestyle = 'ISO' AS $$
  SELECT p.part,
         CASE WHEN p.lo ~ '^[0-9a-f]{8}-' THEN to_timestamp(('x' || left(replace(p.lo, '-', ''), 12))::bit(48)::bigint / 1000.0)
              ELSE p.lo::timestamptz END,
         CASE WHEN p.hi ~ '^[0-9a-f]{8}-' THEN to_timestamp(('x' || left(replace(p.hi, '-', ''), 12))::bit(48)::bigint / 1000.0)
              ELSE p.hi::timestamptz END
    FROM (SELECT i.inhrelid::regclass AS part, substring(b.bound FROM 'FROM \(''([^'']+)''\)') AS lo,
                 substring(b.bound FROM 'TO \(''([^'']+)''\)') AS hi
            FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid
            CROSS JOIN LATERAL (SELECT pg_get_expr(c.relpartbound, c.oid) AS bound) b
           WHERE i.inhparent = partitions_of.root AND NOT i.inhdetachpending) p
$$;

-- The months that a table has partitions for, as parts of them: a partition may hold several months, and several
-- partitions one month. An open upper bound counts for ten years from now on; rows below an open lower bound, and in a
-- DEFAULT partition, are of no month here.
CREATE FUNCTION argus.months_of(root regclass) RETURNS TABLE (month date, part regclass, whole boolean)
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp SET timezone = 'UTC' SET datestyle = 'ISO' AS $$
  SELECT m.month::date, p.part,
         sum(least(p.hi, m.month + interval '1 month') - greatest(p.lo, m.month)) OVER (PARTITION BY m.month)
           = m.month + interval '1 month' - m.month
    FROM (SELECT o.part, o.lo::timestamp AS lo, coalesce(o.hi, date_trunc('month', now()) + interval '10 years')::timestamp AS hi
            FROM argus.partitions_of(months_of.root) o WHERE o.lo IS NOT NULL) p
    CROSS JOIN LATERAL generate_series(date_trunc('month', p.lo), p.hi - interval '1 microsecond', interval '1 month') m (month)
$$;

-- Creates the partitions of one month (any moment in it, UTC) where they are missing, with their triggers, since
-- statement triggers on the root do not reach partitions. argus_api may insert into a month of the log itself, which Postgres
-- does by pages. Into the log it does so row by row, because of the transition table. A month that is there under another name, or in a partition of
-- several months, is left as it is. A month is attached when it is whole: CREATE TABLE …
-- PARTITION OF would lock the log against everything, and calls would queue behind it while it waits for an
-- auditor's long query. Attaching waits for no reader and no writer. Runs as the owner; search_path pinned.
-- +goose StatementBegin
CREATE FUNCTION argus.create_month(month timestamptz) RETURNS int
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
  lo timestamptz := date_trunc('month', month, 'UTC');
  hi timestamptz := date_trunc('month', lo + interval '32 days', 'UTC');
  suffix text := to_char(lo AT TIME ZONE 'UTC', '"_y"YYYY"m"MM');
  root text;
  part text;
  whole boolean;
  made int := 0;
BEGIN
  PERFORM FROM argus.locks l WHERE l.name = 'months' FOR UPDATE;
  FOREACH root IN ARRAY ARRAY['argus_audit_log', 'compute_control_audit', 'remote_support_audit'] LOOP
    SELECT bool_and(m.whole) INTO whole FROM argus.months_of(('argus.' || root)::regclass) m
     WHERE m.month = (lo AT TIME ZONE 'UTC')::date;
    IF NOT whole THEN
      RAISE WARNING 'partitions of % hold parts of % only: attach what is missing of it', root, to_char(lo AT TIME ZONE 'UTC', 'YYYY-MM');
    END IF;
    CONTINUE WHEN whole IS NOT NULL;
    part := root || suffix;
    WHILE to_regclass('argus.' || part) IS NOT NULL LOOP -- of a month that was detached, say
      part := part || '_new';
    END LOOP;
    EXECUTE format('CREATE TABLE argus.%I (LIKE argus.%I INCLUDING DEFAULTS INCLUDING CONSTRAINTS INCLUDING STORAGE)', part, root);
    EXECUTE format('CREATE TRIGGER append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON argus.%I
                    FOR EACH STATEMENT EXECUTE FUNCTION argus.reject_change()', part);
    EXECUTE format('REVOKE ALL ON argus.%I FROM PUBLIC', part);
    EXECUTE format('GRANT SELECT ON argus.%I TO argus_api, argus_replicator, argus_auditor', part);
    IF root = 'argus_audit_log' THEN
      EXECUTE format('CREATE TRIGGER rows_follow_writer AFTER INSERT ON argus.%I REFERENCING NEW TABLE AS inserted
                      FOR EACH STATEMENT EXECUTE FUNCTION argus.rows_follow_writer()', part);
      EXECUTE format('GRANT INSERT ON argus.%I TO argus_api', part);
      EXECUTE format('ALTER TABLE argus.%I ATTACH PARTITION argus.%I FOR VALUES FROM (%L) TO (%L)', root, part, lo, hi);
    ELSE
      EXECUTE format('ALTER TABLE argus.%I ATTACH PARTITION argus.%I FOR VALUES FROM (%L) TO (%L)', root, part,
                     argus.uuid_floor(lo), argus.uuid_floor(hi));
    END IF;
    made := made + 1;
  END LOOP;
  RETURN made;
END
$$;
-- +goose StatementEnd

-- Creates the current month, the one before it, and `ahead` months after it. Returns the tables made.
-- +goose StatementBegin
CREATE FUNCTION argus.create_months_ahead(ahead int DEFAULT 24) RETURNS int
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
  made int := 0;
  i int;
BEGIN
  IF ahead NOT BETWEEN 0 AND 120 THEN
    RAISE EXCEPTION 'months ahead must be 0 to 120, not %', ahead;
  END IF;
  FOR i IN -1 .. ahead LOOP
    made := made + argus.create_month(date_trunc('month', now(), 'UTC') + make_interval(months => i));
  END LOOP;
  RETURN made;
END
$$;
-- +goose StatementEnd

-- The months that the log has partitions for, whole, oldest first: what readiness and maintenance look at.
CREATE VIEW argus.audit_months AS
  SELECT m.month, min(c.relname::text)::name AS partition
    FROM argus.months_of('argus.argus_audit_log'::regclass) m
    JOIN pg_catalog.pg_class c ON c.oid = m.part
   WHERE m.whole
   GROUP BY m.month
   ORDER BY m.month;

CREATE TRIGGER append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON argus.argus_audit_log
  FOR EACH STATEMENT EXECUTE FUNCTION argus.reject_change();
CREATE TRIGGER append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON argus.compute_control_audit
  FOR EACH STATEMENT EXECUTE FUNCTION argus.reject_change();
CREATE TRIGGER append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON argus.remote_support_audit
  FOR EACH STATEMENT EXECUTE FUNCTION argus.reject_change();

-- ── the grant matrix ────────────────────────────────────────────────────────────────────────────────
REVOKE ALL ON ALL TABLES IN SCHEMA argus FROM PUBLIC;

GRANT SELECT, INSERT ON argus.argus_audit_log, argus.compute_control_audit, argus.remote_support_audit TO argus_api;
GRANT SELECT ON argus.audit_writers, argus.audit_processes, argus.audit_intents TO argus_api;
GRANT UPDATE (closed_at) ON argus.audit_writers TO argus_api;
GRANT INSERT (process_id, host, server, timeline), UPDATE (heartbeat_at, server, timeline), DELETE ON argus.audit_processes TO argus_api;
GRANT INSERT (id, process_id, record) ON argus.audit_intents TO argus_api;
GRANT SELECT ON argus.audit_months, argus.audit_admin TO argus_api;
GRANT EXECUTE ON FUNCTION argus.open_audit_writer(uuid, int), argus.advance_audit_writer(bigint, bigint, bigint, uuid[]),
                          argus.delete_recorded_intents(interval, uuid[]), argus.lock_key(text) TO argus_api;

GRANT SELECT ON argus.argus_audit_log, argus.compute_control_audit, argus.remote_support_audit,
                argus.audit_writers, argus.audit_months, argus.shard_map TO argus_replicator;
GRANT SELECT ON argus.audit_admin TO argus_replicator;

GRANT SELECT ON argus.argus_audit_log, argus.compute_control_audit, argus.remote_support_audit,
                argus.audit_admin, argus.audit_writers, argus.audit_processes, argus.audit_intents,
                argus.audit_months, argus.shard_map TO argus_auditor;

GRANT EXECUTE ON FUNCTION argus.partitions_of(regclass), argus.months_of(regclass)
  TO argus_api, argus_replicator, argus_auditor, argus_maintenance; -- by those who may read audit_months
GRANT EXECUTE ON FUNCTION argus.shard_of(text, bigint) TO argus_replicator, argus_auditor;
GRANT EXECUTE ON FUNCTION argus.create_months_ahead(int) TO argus_maintenance;
GRANT SELECT ON argus.audit_months, argus.audit_admin TO argus_maintenance;

SELECT argus.create_months_ahead(24);

-- ── what the replicator reads ───────────────────────────────────────────────────────────────────────
CREATE PUBLICATION argus FOR TABLE argus.argus_audit_log, argus.compute_control_audit, argus.remote_support_audit
  WITH (publish = 'insert', publish_via_partition_root = true);

RESET ROLE;
