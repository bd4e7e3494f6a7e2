-- Views of the log that a team shares: a name and a filter. They are no part of the record. What was done to them is in
-- the log, and audit_id names the call that made a view what it is now.

-- +goose Up

SET ROLE argus_owner;

CREATE TABLE argus.saved_views (
  id       uuid        PRIMARY KEY,
  name     text        NOT NULL CHECK (length(btrim(name)) BETWEEN 1 AND 240),
  filter   text        NOT NULL CHECK (octet_length(filter) BETWEEN 1 AND 4000), -- a query of GET /v1/audit-log
  saved_by text        NOT NULL CHECK (saved_by <> ''),
  saved_at timestamptz NOT NULL DEFAULT clock_timestamp(),
  audit_id uuid        NOT NULL
);
CREATE UNIQUE INDEX saved_views_name ON argus.saved_views (lower(name));

COMMENT ON TABLE argus.saved_views IS 'Views of the log that a team shares, one row each. State: what was done to them is in the log.';
COMMENT ON COLUMN argus.saved_views.filter IS 'What the view asks of GET /v1/audit-log, as the query of a URL.';
COMMENT ON COLUMN argus.saved_views.saved_by IS 'Who saved it as it is now: the actor''s id.';
COMMENT ON COLUMN argus.saved_views.saved_at IS 'When it was saved as it is now, UTC.';
COMMENT ON COLUMN argus.saved_views.audit_id IS 'The call that saved it as it is now: id of argus.argus_audit_log.';

REVOKE ALL ON argus.saved_views FROM PUBLIC;
GRANT SELECT, INSERT, DELETE ON argus.saved_views TO argus_api;
GRANT UPDATE (name, filter, saved_by, saved_at, audit_id) ON argus.saved_views TO argus_api;
GRANT SELECT ON argus.saved_views TO argus_auditor;

RESET ROLE;
