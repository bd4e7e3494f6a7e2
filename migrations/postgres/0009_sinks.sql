-- Where the log is shipped to: what argusd ship declares, how far each sink has come, what a receiver rejected for good, and
-- what operators asked for. docs/ship.md explains.

-- +goose Up

-- +goose StatementBegin
DO $$
BEGIN
  IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'argus_ship') THEN
    CREATE ROLE argus_ship NOLOGIN;
  END IF;
EXCEPTION WHEN duplicate_object OR unique_violation THEN
  NULL; -- another database of this server has made it
END
$$;
-- +goose StatementEnd

SET ROLE argus_owner;

GRANT USAGE ON SCHEMA argus TO argus_ship;

-- The sinks that a process has declared, from its file. The API shows them, and may pause one. It can declare none: where
-- the log goes to is said on the host alone. Keys of status: see ship/status.go.
CREATE TABLE argus.sinks (
  sink       text        PRIMARY KEY CHECK (sink ~ '^[a-z][a-z0-9-]{0,30}$'),
  kind       text        NOT NULL,
  target     text        NOT NULL, -- for people; no secret
  format     text        NOT NULL,
  filter     text        NOT NULL, -- as a query; '' for all rows
  declared   boolean     NOT NULL DEFAULT true,
  status     jsonb       NOT NULL DEFAULT '{}',
  updated_at timestamptz,
  paused     boolean     NOT NULL DEFAULT false,
  paused_by  text,
  paused_at  timestamptz
) WITH (fillfactor = 20);

-- One row for each stream of a sink: '' is the live one, the others are backfills. position is an argus.Position: all rows
-- that the receiver has acknowledged. looked is how far beyond it the filter let no row pass, or null. pending is the batch
-- that was decided and may have been sent: it is sent again, the same, until it is acknowledged.
--
-- Two processes that ship the same stream at once do no harm. Each change names the version that it follows.
CREATE TABLE argus.sink_positions (
  sink         text        NOT NULL REFERENCES argus.sinks,
  stream       text        NOT NULL,
  version      bigint      NOT NULL DEFAULT 0,
  position     text        NOT NULL,
  looked       text,
  filter       text        NOT NULL DEFAULT '', -- under which looked was found, as a query
  until        text,                         -- of a backfill: the position at which it ends
  number       bigint      NOT NULL DEFAULT 0, -- of the newest batch that was acknowledged
  batch        text        NOT NULL DEFAULT '',
  rows         bigint      NOT NULL DEFAULT 0, -- that were acknowledged
  stream_seq   bigint      NOT NULL DEFAULT 0, -- the last number that a row of a filtered stream got
  pending      jsonb,
  started_at   timestamptz NOT NULL DEFAULT clock_timestamp(),
  acknowledged_at timestamptz,
  PRIMARY KEY (sink, stream)
) WITH (fillfactor = 20);

-- +goose StatementBegin
CREATE FUNCTION argus.sink_goes_on() RETURNS trigger LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
  IF NEW.version <> OLD.version + 1 OR NEW.number < OLD.number OR NEW.rows < OLD.rows OR NEW.stream_seq < OLD.stream_seq
     OR (NEW.sink, NEW.stream, NEW.started_at) IS DISTINCT FROM (OLD.sink, OLD.stream, OLD.started_at) THEN
    RAISE EXCEPTION 'the stream % of the sink % goes on from version %, and never back', OLD.stream, OLD.sink, OLD.version
      USING ERRCODE = 'check_violation', CONSTRAINT = 'sink_goes_on';
  END IF;
  RETURN NEW;
END
$$;
-- +goose StatementEnd
CREATE TRIGGER goes_on BEFORE UPDATE ON argus.sink_positions FOR EACH ROW EXECUTE FUNCTION argus.sink_goes_on();

-- Rows that a sink will never have: its receiver rejected them, or Postgres did not have them any more.
CREATE TABLE argus.sink_rejects (
  id        bigint      GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  at        timestamptz NOT NULL DEFAULT clock_timestamp(),
  sink      text        NOT NULL REFERENCES argus.sinks,
  stream    text        NOT NULL,
  writer_id bigint      NOT NULL,
  from_seq  bigint      NOT NULL,
  to_seq    bigint      NOT NULL CHECK (to_seq >= from_seq),
  reason    text        NOT NULL CHECK (reason IN ('rejected', 'too_large', 'missing')),
  error     text        NOT NULL
);
CREATE INDEX sink_rejects_of ON argus.sink_rejects (sink, id);
CREATE TRIGGER append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON argus.sink_rejects
  FOR EACH STATEMENT EXECUTE FUNCTION argus.reject_change();

-- One process ships a sink. The lease keeps two from sending each batch twice.
CREATE TABLE argus.sink_leases (
  sink       text        PRIMARY KEY REFERENCES argus.sinks,
  holder     uuid        NOT NULL,
  host       text        NOT NULL,
  expires_at timestamptz NOT NULL,
  backend    text        NOT NULL -- of the holder's connection: the lease ends with it
) WITH (fillfactor = 20);

-- What operators asked for, and what became of it.
CREATE TABLE argus.sink_orders (
  id          bigint      GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  sink        text        NOT NULL REFERENCES argus.sinks,
  kind        text        NOT NULL CHECK (kind IN ('test', 'backfill')),
  since       timestamptz CHECK ((kind = 'backfill') = (since IS NOT NULL)),
  asked_by    text        NOT NULL CHECK (length(asked_by) BETWEEN 1 AND 200),
  asked_at    timestamptz NOT NULL DEFAULT clock_timestamp(),
  state       text        NOT NULL DEFAULT 'asked' CHECK (state IN ('asked', 'running', 'done', 'failed')),
  rows        bigint,      -- of a backfill: how many it will send, before the filter
  error       text,
  finished_at timestamptz
);
CREATE INDEX sink_orders_open ON argus.sink_orders (sink, id) WHERE state IN ('asked', 'running');

-- ── grants ──────────────────────────────────────────────────────────────────────────────────────────
REVOKE ALL ON argus.sinks, argus.sink_positions, argus.sink_rejects, argus.sink_leases, argus.sink_orders FROM PUBLIC;

GRANT SELECT ON argus.argus_audit_log, argus.audit_writers TO argus_ship;
GRANT SELECT, INSERT (sink, kind, target, format, filter, declared), UPDATE (kind, target, format, filter, declared, status, updated_at)
  ON argus.sinks TO argus_ship;
GRANT SELECT, INSERT, UPDATE ON argus.sink_positions TO argus_ship;
GRANT SELECT, INSERT (sink, stream, writer_id, from_seq, to_seq, reason, error) ON argus.sink_rejects TO argus_ship;
GRANT SELECT, INSERT, UPDATE ON argus.sink_leases TO argus_ship;
GRANT SELECT, UPDATE (state, rows, error, finished_at) ON argus.sink_orders TO argus_ship;

GRANT SELECT ON argus.sinks, argus.sink_positions, argus.sink_rejects, argus.sink_leases, argus.sink_orders TO argus_api, argus_auditor;
GRANT UPDATE (paused, paused_by, paused_at) ON argus.sinks TO argus_api;
GRANT INSERT (sink, kind, since, asked_by) ON argus.sink_orders TO argus_api;

RESET ROLE;
