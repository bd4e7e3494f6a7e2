-- Several copies in ClickHouse. Each server of each copy has a slot and replicators of its own.

-- +goose Up
SET ROLE argus_owner;

-- Which server a slot feeds, by the identity that argusd migrate gave the server (replicator_identity in ClickHouse). A
-- replicator whose URL leads to another server, or to another slot's, does not begin.
CREATE TABLE argus.replicator_servers (
  slot      text        PRIMARY KEY,
  server    uuid        NOT NULL UNIQUE,
  copy      text        NOT NULL,  -- as ARGUS_CLICKHOUSE_URL names it; '' for one plain URL
  shard     smallint    NOT NULL CHECK (shard >= 1),
  address   text        NOT NULL,  -- host:port
  paired_at timestamptz NOT NULL DEFAULT clock_timestamp()
);
REVOKE ALL ON argus.replicator_servers FROM PUBLIC;
GRANT SELECT, INSERT, UPDATE, DELETE ON argus.replicator_servers TO argus_replicator;
GRANT SELECT ON argus.replicator_servers TO argus_api, argus_auditor;

-- argusd replicator --retire takes a copy out.
GRANT DELETE ON argus.replicator_lease, argus.replicator_status TO argus_replicator;

RESET ROLE;
