-- The replicator's own: who is active, and how it goes. Nothing here is needed to be exactly once; that rests
-- on the slot and on what ClickHouse holds.

-- +goose Up
SET ROLE argus_owner;

-- Who copies. The active one renews it; another takes it when it has run out by Postgres's clock.
CREATE TABLE argus.replicator_lease (
  slot       text        PRIMARY KEY,
  holder     uuid        NOT NULL,
  host       text        NOT NULL,
  epoch      bigint      NOT NULL, -- raised whenever the copy begins anew
  expires_at timestamptz NOT NULL,
  backend    text        NOT NULL  -- of the holder's connection: the lease ends with it
) WITH (fillfactor = 20);
GRANT SELECT, INSERT, UPDATE ON argus.replicator_lease TO argus_replicator;
GRANT SELECT ON argus.replicator_lease TO argus_auditor;

-- The state of health of each slot's active replicator, for GET /v1/health. Keys of status: see replicator/status.go.
CREATE TABLE argus.replicator_status (
  slot       text        PRIMARY KEY,
  updated_at timestamptz NOT NULL,
  status     jsonb       NOT NULL
) WITH (fillfactor = 20);
GRANT SELECT, INSERT, UPDATE ON argus.replicator_status TO argus_replicator;
GRANT SELECT ON argus.replicator_status TO argus_api, argus_auditor;

-- What a healing did, which server a slot was paired with, and which copy was taken out. The role may write no row of argus.audit_admin itself: not another kind, actor or time.
-- +goose StatementBegin
CREATE FUNCTION argus.record_healing(kind text, detail jsonb) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
  IF kind NOT IN ('heal', 'resync', 'copy_paired', 'copy_retired') THEN
    RAISE EXCEPTION 'the replicator records heal, resync, copy_paired and copy_retired, not %', kind USING ERRCODE = 'check_violation';
  END IF;
  INSERT INTO argus.audit_admin (kind, detail) VALUES (record_healing.kind, record_healing.detail);
END
$$;
-- +goose StatementEnd
GRANT EXECUTE ON FUNCTION argus.record_healing(text, jsonb) TO argus_replicator;

RESET ROLE;
