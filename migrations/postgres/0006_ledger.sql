-- The ledger: every row of the audit log, every step and every record of what administrators did is a leaf of one
-- signed Merkle tree. argusd ledger seals them, with a role that reads hashes and no content. docs/ledger.md explains.

-- +goose Up

-- +goose StatementBegin
DO $$
BEGIN
  IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'argus_ledger') THEN
    CREATE ROLE argus_ledger NOLOGIN;
  END IF;
EXCEPTION WHEN duplicate_object OR unique_violation THEN
  NULL; -- another database of this server has made it
END
$$;
-- +goose StatementEnd

SET ROLE argus_owner;

GRANT USAGE ON SCHEMA argus TO argus_ledger;
INSERT INTO argus.locks VALUES ('ledger');

-- ── leaves ──────────────────────────────────────────────────────────────────────────────────────────
-- A run is leaves that follow one another, of one kind and month: 1 calls, 2 compute steps, 3 support steps, 4 records
-- of administrators. Of calls the keys follow from writer and seq. month counts from 1970-01, by the time of the row
-- that its partition goes by. A leaf's hash is SHA-256(0x00 ‖ kind ‖ month ‖ key ‖ digest), see package proof.
CREATE TABLE argus.ledger_runs (
  first_leaf bigint   NOT NULL CHECK (first_leaf >= 0),
  leaves     int      NOT NULL CHECK (leaves BETWEEN 1 AND 8192),
  kind       smallint NOT NULL CHECK (kind BETWEEN 1 AND 4),
  month      smallint NOT NULL,
  writer_id  bigint,
  first_seq  bigint,
  keys       bytea,                 -- of kinds 2 to 4, all of one length
  digests    bytea    NOT NULL CHECK (length(digests) = 32 * leaves),
  PRIMARY KEY (first_leaf),
  CHECK (first_leaf / 65536 = (first_leaf + leaves - 1) / 65536),
  CHECK ((kind = 1) = (writer_id IS NOT NULL AND first_seq IS NOT NULL AND keys IS NULL)),
  CHECK (length(keys) = leaves * CASE kind WHEN 4 THEN 8 ELSE 18 END)
) PARTITION BY RANGE (first_leaf);  -- 2^24 leaves, 512 MiB: the grain of pruning
-- Hashes do not compress, and a tile needs a slice of them.
ALTER TABLE argus.ledger_runs ALTER digests SET STORAGE EXTERNAL, ALTER keys SET STORAGE EXTERNAL;
CREATE INDEX ledger_runs_calls ON argus.ledger_runs (writer_id, first_seq) WHERE kind = 1;
CREATE INDEX ledger_runs_keyed ON argus.ledger_runs (kind, month) WHERE kind > 1;

-- The run before must end where this one begins. Two sealers at one size meet at the primary key.
-- +goose StatementBegin
CREATE FUNCTION argus.run_follows() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
  size bigint;
BEGIN
  SELECT r.first_leaf + r.leaves INTO size FROM argus.ledger_runs r
   WHERE r.first_leaf < NEW.first_leaf AND r.first_leaf >= NEW.first_leaf - 8192 ORDER BY r.first_leaf DESC LIMIT 1;
  IF coalesce(size, 0) <> NEW.first_leaf THEN
    RAISE EXCEPTION 'the run at leaf % does not follow the one before', NEW.first_leaf
      USING ERRCODE = 'check_violation', CONSTRAINT = 'run_follows';
  END IF;
  RETURN NEW;
END
$$;
-- +goose StatementEnd
CREATE TRIGGER run_follows BEFORE INSERT ON argus.ledger_runs FOR EACH ROW EXECUTE FUNCTION argus.run_follows();
CREATE TRIGGER append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON argus.ledger_runs
  FOR EACH STATEMENT EXECUTE FUNCTION argus.reject_change();

-- Makes the partition that the next leaf belongs to and the one after it, as create_month makes a month.
-- +goose StatementBegin
CREATE FUNCTION argus.create_ledger_partitions() RETURNS int
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
  size bigint;
  part text;
  made int := 0;
BEGIN
  PERFORM FROM argus.locks l WHERE l.name = 'ledger' FOR UPDATE;
  SELECT coalesce((SELECT r.first_leaf + r.leaves FROM argus.ledger_runs r ORDER BY r.first_leaf DESC LIMIT 1), 0) INTO size;
  FOR n IN size >> 24 .. (size >> 24) + 1 LOOP
    part := 'ledger_runs_' || to_char(n, 'FM000000');
    CONTINUE WHEN to_regclass('argus.' || part) IS NOT NULL;
    EXECUTE format('CREATE TABLE argus.%I (LIKE argus.ledger_runs INCLUDING DEFAULTS INCLUDING CONSTRAINTS INCLUDING STORAGE)', part);
    EXECUTE format('CREATE TRIGGER append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON argus.%I
                    FOR EACH STATEMENT EXECUTE FUNCTION argus.reject_change()', part);
    EXECUTE format('REVOKE ALL ON argus.%I FROM PUBLIC', part);
    EXECUTE format('ALTER TABLE argus.ledger_runs ATTACH PARTITION argus.%I FOR VALUES FROM (%s) TO (%s)', part, n << 24, (n + 1) << 24);
    made := made + 1;
  END LOOP;
  RETURN made;
END
$$;
-- +goose StatementEnd
SELECT argus.create_ledger_partitions();

-- Full tiles of level 1 and above, 256 hashes each. Level 0 and every partial tile follow from runs and full tiles.
CREATE TABLE argus.ledger_tiles (
  level  smallint NOT NULL CHECK (level >= 1),
  n      bigint   NOT NULL CHECK (n >= 0),
  hashes bytea    NOT NULL CHECK (length(hashes) = 8192),
  PRIMARY KEY (level, n)
);
ALTER TABLE argus.ledger_tiles ALTER hashes SET STORAGE EXTERNAL;
CREATE TRIGGER append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON argus.ledger_tiles
  FOR EACH STATEMENT EXECUTE FUNCTION argus.reject_change();

-- ── checkpoints ─────────────────────────────────────────────────────────────────────────────────────
-- note is the signed checkpoint as it is served. position is an argus.Position: the calls that are leaves below size.
CREATE TABLE argus.ledger_checkpoints (
  size      bigint      PRIMARY KEY CHECK (size > 0),
  root      bytea       NOT NULL CHECK (length(root) = 32),
  note      text        NOT NULL,
  position  text        NOT NULL,
  sealed_at timestamptz NOT NULL DEFAULT clock_timestamp()
);
CREATE INDEX ledger_checkpoints_at ON argus.ledger_checkpoints (sealed_at);
CREATE TRIGGER append_only BEFORE UPDATE OR TRUNCATE ON argus.ledger_checkpoints
  FOR EACH STATEMENT EXECUTE FUNCTION argus.reject_change();

-- Lines of witnesses and of keys that sign beside the first.
CREATE TABLE argus.ledger_cosignatures (
  size bigint      NOT NULL REFERENCES argus.ledger_checkpoints,
  key  text        NOT NULL,
  line text        NOT NULL,
  at   timestamptz NOT NULL DEFAULT clock_timestamp(),
  PRIMARY KEY (size, key, line)
);
CREATE TRIGGER append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON argus.ledger_cosignatures
  FOR EACH STATEMENT EXECUTE FUNCTION argus.reject_change();

-- Checkpoints older than 48 hours thin out to one a minute and those with cosignatures. The newest of all stays.
-- +goose StatementBegin
CREATE FUNCTION argus.checkpoint_is_young() RETURNS trigger LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
  IF OLD.sealed_at > clock_timestamp() - interval '48 hours' THEN
    RAISE EXCEPTION 'checkpoint % rejected: it is kept for 48 hours', OLD.size USING ERRCODE = 'insufficient_privilege';
  END IF;
  RETURN OLD;
END
$$;
-- +goose StatementEnd
CREATE TRIGGER young_stays BEFORE DELETE ON argus.ledger_checkpoints FOR EACH ROW EXECUTE FUNCTION argus.checkpoint_is_young();

-- +goose StatementBegin
CREATE FUNCTION argus.thin_ledger_checkpoints() RETURNS bigint
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET timezone = 'UTC' AS $$
DECLARE
  n bigint;
BEGIN
  DELETE FROM argus.ledger_checkpoints c
   WHERE c.sealed_at < clock_timestamp() - interval '49 hours'
     AND EXISTS (SELECT FROM argus.ledger_checkpoints l WHERE l.size > c.size AND l.sealed_at >= c.sealed_at
                    AND l.sealed_at < date_trunc('minute', c.sealed_at) + interval '1 minute')
     AND NOT EXISTS (SELECT FROM argus.ledger_cosignatures s WHERE s.size = c.size);
  GET DIAGNOSTICS n = ROW_COUNT;
  RETURN n;
END
$$;
-- +goose StatementEnd

-- Leaves whose rows a restore of Postgres has lost, as the operator who recovered the ledger declared them.
CREATE TABLE argus.ledger_losses (
  from_leaf   bigint      PRIMARY KEY CHECK (from_leaf >= 0),
  to_leaf     bigint      NOT NULL, -- exclusive
  declared_at timestamptz NOT NULL DEFAULT clock_timestamp(),
  reason      text        NOT NULL CHECK (length(btrim(reason)) BETWEEN 3 AND 2000),
  claimed_by  text        NOT NULL CHECK (length(btrim(claimed_by)) BETWEEN 1 AND 200),
  CHECK (to_leaf > from_leaf)
);
CREATE TRIGGER append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON argus.ledger_losses
  FOR EACH STATEMENT EXECUTE FUNCTION argus.reject_change();

-- What the ledger's process did. As of a healing, the role may write no row of argus.audit_admin itself.
-- +goose StatementBegin
CREATE FUNCTION argus.record_ledger(kind text, detail jsonb) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
  IF kind NOT IN ('ledger_started', 'ledger_idle', 'ledger_key_added', 'ledger_key_retired') THEN
    RAISE EXCEPTION 'the ledger writes no record of the kind %', kind USING ERRCODE = 'check_violation';
  END IF;
  INSERT INTO argus.audit_admin (kind, detail) VALUES (record_ledger.kind, record_ledger.detail);
END
$$;
-- +goose StatementEnd

-- What waits and is a leaf of that range is done with: the restored Postgres still had it waiting.
-- +goose StatementBegin
CREATE FUNCTION argus.declare_ledger_loss(from_leaf bigint, to_leaf bigint, reason text, claimed_by text) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
  DELETE FROM argus.ledger_pending p USING (
    SELECT r.kind, substring(r.keys FROM 1 + i * k.size FOR k.size) AS key, substring(r.digests FROM 1 + i * 32 FOR 32) AS digest
      FROM argus.ledger_runs r CROSS JOIN LATERAL (SELECT CASE r.kind WHEN 4 THEN 8 ELSE 18 END AS size) k
      CROSS JOIN LATERAL generate_series(0, r.leaves - 1) i
     WHERE r.kind > 1 AND r.first_leaf < declare_ledger_loss.to_leaf AND r.first_leaf + r.leaves > declare_ledger_loss.from_leaf) sealed
   WHERE p.kind = sealed.kind AND p.key = sealed.key AND p.digest = sealed.digest;
  INSERT INTO argus.ledger_losses (from_leaf, to_leaf, reason, claimed_by)
  VALUES (declare_ledger_loss.from_leaf, declare_ledger_loss.to_leaf, declare_ledger_loss.reason, declare_ledger_loss.claimed_by);
  INSERT INTO argus.audit_admin (kind, detail) VALUES ('ledger_recovered', jsonb_build_object(
    'from_leaf', declare_ledger_loss.from_leaf, 'to_leaf', declare_ledger_loss.to_leaf,
    'reason', declare_ledger_loss.reason, 'claimed_by', declare_ledger_loss.claimed_by));
END
$$;
-- +goose StatementEnd

-- ── who seals, and how it stands ────────────────────────────────────────────────────────────────────
-- Correctness rests on the primary key of ledger_runs. The lease keeps two sealers from colliding each round.
CREATE TABLE argus.ledger_lease (
  one        boolean     PRIMARY KEY DEFAULT true CHECK (one),
  holder     uuid        NOT NULL,
  host       text        NOT NULL,
  expires_at timestamptz NOT NULL,
  backend    text        NOT NULL -- of the holder's connection: the lease ends with it
) WITH (fillfactor = 20);

-- For GET /v1/health. Keys of status: see ledger/status.go.
CREATE TABLE argus.ledger_status (
  one        boolean     PRIMARY KEY DEFAULT true CHECK (one),
  updated_at timestamptz NOT NULL,
  status     jsonb       NOT NULL
) WITH (fillfactor = 20);

-- ── what waits for its leaf ─────────────────────────────────────────────────────────────────────────
-- Steps and records come without an order of commits that a cursor could follow. So a trigger puts each of them here, in
-- its own transaction, and the sealer takes what it seals in the transaction that seals it. It does so by a function: the
-- right to delete would be the right to lock the table, and every step would wait.
CREATE TABLE argus.ledger_pending (
  kind   smallint NOT NULL,
  key    bytea    NOT NULL,
  month  smallint NOT NULL,
  digest bytea    NOT NULL CHECK (length(digest) = 32),
  PRIMARY KEY (kind, key)
);

-- +goose StatementBegin
CREATE FUNCTION argus.take_ledger_pending(most int) RETURNS TABLE (kind smallint, key bytea, month smallint, digest bytea)
LANGUAGE sql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
  DELETE FROM argus.ledger_pending p USING (SELECT f.kind, f.key FROM argus.ledger_pending f ORDER BY f.kind, f.key LIMIT most) f
   WHERE p.kind = f.kind AND p.key = f.key RETURNING p.kind, p.key, p.month, p.digest
$$;
-- +goose StatementEnd

CREATE FUNCTION argus.month_number(at timestamptz) RETURNS smallint
LANGUAGE sql IMMUTABLE STRICT SET search_path = pg_catalog, pg_temp AS $$
  SELECT ((extract(year FROM at AT TIME ZONE 'UTC') - 1970) * 12 + extract(month FROM at AT TIME ZONE 'UTC') - 1)::smallint
$$;

-- The parts of canonical forms, as canonical.go has them.
CREATE FUNCTION argus.canonical_text(t text) RETURNS bytea
LANGUAGE sql STABLE STRICT SET search_path = pg_catalog, pg_temp AS $$
  SELECT int4send(length(b)) || b FROM (SELECT convert_to(t, 'UTF8')) x (b)
$$;
CREATE FUNCTION argus.canonical_opt(encoded bytea) RETURNS bytea
LANGUAGE sql IMMUTABLE SET search_path = pg_catalog, pg_temp AS $$
  SELECT CASE WHEN encoded IS NULL THEN '\x00'::bytea ELSE '\x01'::bytea || encoded END
$$;
CREATE FUNCTION argus.canonical_time(at timestamptz) RETURNS bytea
LANGUAGE sql IMMUTABLE STRICT SET search_path = pg_catalog, pg_temp AS $$
  SELECT int8send((extract(epoch FROM at) * 1000000)::bigint)
$$;

-- Canonical forms, version 1: the bytes under the digests of kinds 2 to 4. proof/canonical.go defines them too, and a test
-- compares both.
-- +goose StatementBegin
CREATE FUNCTION argus.ledger_canonical_compute_step(s argus.compute_control_audit) RETURNS bytea
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
  SELECT '\x0102'::bytea || uuid_send(s.audit_id) || int2send(s.step) || argus.canonical_time(s.at) || argus.canonical_text(s.actor_id)
      || argus.canonical_opt(argus.canonical_text(s.impersonator_id)) || argus.canonical_text(s.action)
      || argus.canonical_opt(argus.canonical_text(s.worker_id)) || argus.canonical_opt(argus.canonical_text(s.provider))
      || argus.canonical_opt(argus.canonical_text(s.reason)) || argus.canonical_opt(argus.canonical_text(s.from_state))
      || argus.canonical_opt(argus.canonical_text(s.to_state)) || argus.canonical_text(s.result)
      || argus.canonical_opt(argus.canonical_text(s.error))
$$;
-- +goose StatementEnd
-- +goose StatementBegin
CREATE FUNCTION argus.ledger_canonical_support_step(s argus.remote_support_audit) RETURNS bytea
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
  SELECT '\x0103'::bytea || uuid_send(s.audit_id) || int2send(s.step) || argus.canonical_time(s.at) || argus.canonical_text(s.actor_id)
      || argus.canonical_opt(argus.canonical_text(s.impersonator_id)) || argus.canonical_text(s.action)
      || argus.canonical_text(s.tenant_id) || argus.canonical_opt(uuid_send(s.session_id))
      || argus.canonical_opt(argus.canonical_text(s.reason)) || argus.canonical_opt(argus.canonical_text(s.consent_document_id))
      || argus.canonical_opt(argus.canonical_text(s.consent_recorded_by)) || argus.canonical_opt(argus.canonical_time(s.consent_recorded_at))
      || argus.canonical_text(s.result) || argus.canonical_opt(argus.canonical_text(s.error))
$$;
-- +goose StatementEnd
-- Of detail the text that Postgres writes, which is the same for equal values.
-- +goose StatementBegin
CREATE FUNCTION argus.ledger_canonical_admin(s argus.audit_admin) RETURNS bytea
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
  SELECT '\x0104'::bytea || int8send(s.id) || argus.canonical_time(s.at) || argus.canonical_text(s.actor) || argus.canonical_text(s.kind)
      || argus.canonical_text(s.detail::text)
$$;
-- +goose StatementEnd

-- The month in the leading bits of a call's id.
CREATE FUNCTION argus.month_of_call(id uuid) RETURNS smallint
LANGUAGE sql IMMUTABLE STRICT SET search_path = pg_catalog, pg_temp AS $$
  SELECT argus.month_number(to_timestamp(('x' || left(replace(id::text, '-', ''), 12))::bit(48)::bigint / 1000.0))
$$;

-- +goose StatementBegin
CREATE FUNCTION argus.pend_compute_step() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
  INSERT INTO argus.ledger_pending (kind, key, month, digest)
  SELECT 2, uuid_send(s.audit_id) || int2send(s.step), argus.month_of_call(s.audit_id), sha256(argus.ledger_canonical_compute_step(s))
    FROM argus.compute_control_audit s WHERE s.audit_id = NEW.audit_id AND s.step = NEW.step;
  RETURN NULL;
END
$$;
-- +goose StatementEnd
-- +goose StatementBegin
CREATE FUNCTION argus.pend_support_step() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
  INSERT INTO argus.ledger_pending (kind, key, month, digest)
  SELECT 3, uuid_send(s.audit_id) || int2send(s.step), argus.month_of_call(s.audit_id), sha256(argus.ledger_canonical_support_step(s))
    FROM argus.remote_support_audit s WHERE s.audit_id = NEW.audit_id AND s.step = NEW.step;
  RETURN NULL;
END
$$;
-- +goose StatementEnd
-- +goose StatementBegin
CREATE FUNCTION argus.pend_admin() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
  INSERT INTO argus.ledger_pending (kind, key, month, digest)
  VALUES (4, int8send(NEW.id), argus.month_number(NEW.at), sha256(argus.ledger_canonical_admin(NEW)));
  RETURN NULL;
END
$$;
-- +goose StatementEnd
CREATE TRIGGER to_be_sealed AFTER INSERT ON argus.compute_control_audit FOR EACH ROW EXECUTE FUNCTION argus.pend_compute_step();
CREATE TRIGGER to_be_sealed AFTER INSERT ON argus.remote_support_audit FOR EACH ROW EXECUTE FUNCTION argus.pend_support_step();
CREATE TRIGGER to_be_sealed AFTER INSERT ON argus.audit_admin FOR EACH ROW EXECUTE FUNCTION argus.pend_admin();

INSERT INTO argus.ledger_pending (kind, key, month, digest)
SELECT 2, uuid_send(s.audit_id) || int2send(s.step), argus.month_of_call(s.audit_id), sha256(argus.ledger_canonical_compute_step(s)) FROM argus.compute_control_audit s
UNION ALL
SELECT 3, uuid_send(s.audit_id) || int2send(s.step), argus.month_of_call(s.audit_id), sha256(argus.ledger_canonical_support_step(s)) FROM argus.remote_support_audit s
UNION ALL
SELECT 4, int8send(s.id), argus.month_number(s.at), sha256(argus.ledger_canonical_admin(s)) FROM argus.audit_admin s;

-- ── retention ───────────────────────────────────────────────────────────────────────────────────────
-- Whether a month has rows without a leaf. Once there is a ledger, such a month stays: its rows would be a hole.
-- +goose StatementBegin
CREATE FUNCTION argus.unsealed(month date) RETURNS boolean
LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET timezone = 'UTC' AS $$
BEGIN
  IF NOT EXISTS (SELECT FROM argus.ledger_checkpoints) THEN
    RETURN false;
  END IF;
  RETURN EXISTS (SELECT FROM argus.ledger_pending p WHERE p.kind IN (2, 3) AND p.month = argus.month_number(unsealed.month::timestamptz))
    OR EXISTS (
      SELECT FROM (SELECT l.writer_id, max(l.seq) AS seq FROM argus.argus_audit_log l
                    WHERE l.occurred_at >= unsealed.month::timestamptz AND l.occurred_at < unsealed.month + interval '1 month'
                    GROUP BY l.writer_id) w
       WHERE NOT EXISTS (SELECT FROM argus.ledger_runs r WHERE r.kind = 1 AND r.writer_id = w.writer_id
                            AND r.first_seq <= w.seq AND r.first_seq + r.leaves > w.seq));
END
$$;
-- +goose StatementEnd

-- Drops whole partitions of runs whose months are all older than `months`, oldest first, and of which Postgres has no row
-- any more. Level 1 and above stay, and with them roots and consistency. Returns the first leaf that has its entry.
-- +goose StatementBegin
CREATE FUNCTION argus.prune_ledger(months int) RETURNS bigint
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET timezone = 'UTC' AS $$
DECLARE
  p record;
  newest smallint;
  oldest_row smallint;
  size bigint;
  first bigint;
  admin jsonb;
  digest text;
BEGIN
  IF months < 13 THEN
    RAISE EXCEPTION 'runs are kept for at least 13 months, not %', months USING ERRCODE = 'check_violation';
  END IF;
  PERFORM FROM argus.locks l WHERE l.name = 'ledger' FOR UPDATE;
  SELECT argus.month_number(min(m.month)::timestamptz) INTO oldest_row FROM argus.audit_months m;
  SELECT c.size INTO size FROM argus.ledger_checkpoints c ORDER BY c.size DESC LIMIT 1;
  FOR p IN SELECT c.oid::regclass AS part, substring(pg_get_expr(c.relpartbound, c.oid) FROM 'TO \(''(\d+)''\)')::bigint AS hi
             FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid WHERE i.inhparent = 'argus.ledger_runs'::regclass ORDER BY 2 LOOP
    EXECUTE format('SELECT max(month), min(first_leaf) FROM %s', p.part) INTO newest, first;
    EXIT WHEN newest IS NULL OR newest >= oldest_row OR newest >= argus.month_number(clock_timestamp()) - months
           OR size IS NULL OR p.hi + 65536 > size;
    -- Rows of argus.audit_admin stay for ever, so the record vouches for those whose leaves go: ranges of their ids, and
    -- SHA-256 over id and digest of each, ascending by id. The digests are the leaves', not the rows'.
    EXECUTE format($q$
      WITH leaf AS (SELECT ('x' || encode(substring(r.keys FROM 1 + i * 8 FOR 8), 'hex'))::bit(64)::bigint AS id, substring(r.digests FROM 1 + i * 32 FOR 32) AS digest
                      FROM %s r CROSS JOIN LATERAL generate_series(0, r.leaves - 1) i WHERE r.kind = 4),
      ranges AS (SELECT min(id) AS a, max(id) AS b FROM (SELECT id, id - row_number() OVER (ORDER BY id) AS island FROM leaf) l GROUP BY island)
      SELECT (SELECT coalesce(jsonb_agg(jsonb_build_array(a, b) ORDER BY a), '[]') FROM ranges),
             (SELECT encode(sha256(coalesce(string_agg(int8send(id) || digest, ''::bytea ORDER BY id), ''::bytea)), 'hex') FROM leaf)$q$, p.part)
      INTO admin, digest;
    PERFORM set_config('lock_timeout', '500ms', true);
    EXECUTE format('DROP TABLE %s', p.part);
    INSERT INTO argus.audit_admin (kind, detail) VALUES ('ledger_pruned', jsonb_build_object('from_leaf', first, 'to_leaf', p.hi,
      'admin_ids', admin, 'admin_sha256', digest));
  END LOOP;
  RETURN coalesce((SELECT min(r.first_leaf) FROM argus.ledger_runs r), 0);
END
$$;
-- +goose StatementEnd

-- ── grants ──────────────────────────────────────────────────────────────────────────────────────────
REVOKE ALL ON argus.ledger_runs, argus.ledger_tiles, argus.ledger_checkpoints, argus.ledger_cosignatures, argus.ledger_losses,
              argus.ledger_pending, argus.ledger_lease, argus.ledger_status FROM PUBLIC;

GRANT SELECT (writer_id, seq, occurred_at, row_hash) ON argus.argus_audit_log TO argus_ledger;
GRANT SELECT ON argus.audit_writers TO argus_ledger;
GRANT SELECT ON argus.ledger_pending TO argus_ledger;
GRANT SELECT, INSERT ON argus.ledger_runs, argus.ledger_tiles TO argus_ledger;
GRANT SELECT, INSERT (size, root, note, position) ON argus.ledger_checkpoints TO argus_ledger;
GRANT SELECT, INSERT (size, key, line) ON argus.ledger_cosignatures TO argus_ledger;
GRANT SELECT ON argus.ledger_losses TO argus_ledger;
GRANT SELECT, INSERT, UPDATE ON argus.ledger_lease, argus.ledger_status TO argus_ledger;
GRANT EXECUTE ON FUNCTION argus.create_ledger_partitions(), argus.thin_ledger_checkpoints(), argus.record_ledger(text, jsonb),
                          argus.take_ledger_pending(int), argus.declare_ledger_loss(bigint, bigint, text, text) TO argus_ledger;

GRANT SELECT ON argus.ledger_runs, argus.ledger_tiles, argus.ledger_checkpoints, argus.ledger_cosignatures, argus.ledger_losses,
                argus.ledger_status TO argus_api, argus_replicator, argus_auditor;
GRANT SELECT ON argus.ledger_pending TO argus_api; -- verification counts what waits
GRANT EXECUTE ON FUNCTION argus.month_of_call(uuid), argus.month_number(timestamptz) TO argus_api;
GRANT SELECT ON argus.ledger_pending, argus.ledger_lease TO argus_auditor;
GRANT EXECUTE ON FUNCTION argus.prune_ledger(int) TO argus_maintenance;

ALTER PUBLICATION argus ADD TABLE argus.ledger_runs, argus.ledger_checkpoints;

RESET ROLE;
