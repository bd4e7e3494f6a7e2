-- Who may call: personal access tokens, break-glass tokens, and how both are withdrawn. Of a secret only its
-- SHA-256 is kept; no role but argus_api may read even that.

-- +goose Up

SET ROLE argus_owner;

-- ── personal access tokens ──────────────────────────────────────────────────────────────────────────
-- What a token may do and until when is fixed when it is made; only its use and its end are added later.
CREATE TABLE argus.personal_access_tokens (
  id           uuid        PRIMARY KEY,
  actor_id     text        NOT NULL CHECK (actor_id <> '' AND length(actor_id) <= 200), -- its owner, a Clerk user
  name         text        NOT NULL CHECK (btrim(name) <> '' AND length(name) <= 400),
  digest       bytea       NOT NULL UNIQUE CHECK (length(digest) = 32),                 -- SHA-256 of the secret
  last_four    text        NOT NULL CHECK (length(last_four) = 4),
  scopes       text[]      NOT NULL CHECK (cardinality(scopes) > 0),
  parent_id    uuid        REFERENCES argus.personal_access_tokens (id), -- the token it was made with, if any
  audit_id     uuid,                                                     -- the call that made it; null: made on the host
  created_at   timestamptz NOT NULL DEFAULT now(),
  expires_at   timestamptz NOT NULL,
  last_used_at timestamptz,                                              -- within ten minutes or so
  revoked_at   timestamptz,
  revoked_by   text,
  CHECK (expires_at <= created_at + interval '365 days'),
  CHECK ((revoked_at IS NULL) = (revoked_by IS NULL))
) WITH (fillfactor = 80);
CREATE INDEX personal_access_tokens_actor ON argus.personal_access_tokens (actor_id, created_at);

-- A revoked token stays revoked, and nothing about a token's rights changes.
-- +goose StatementBegin
CREATE FUNCTION argus.token_is_fixed() RETURNS trigger LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
  IF (OLD.id, OLD.actor_id, OLD.digest, OLD.scopes, OLD.parent_id, OLD.audit_id, OLD.created_at, OLD.expires_at)
     IS DISTINCT FROM
     (NEW.id, NEW.actor_id, NEW.digest, NEW.scopes, NEW.parent_id, NEW.audit_id, NEW.created_at, NEW.expires_at) THEN
    RAISE EXCEPTION 'a token''s owner, rights and dates are fixed' USING ERRCODE = 'check_violation';
  END IF;
  IF OLD.revoked_at IS NOT NULL AND (OLD.revoked_at, OLD.revoked_by) IS DISTINCT FROM (NEW.revoked_at, NEW.revoked_by) THEN
    RAISE EXCEPTION 'token % is revoked and stays so', OLD.id USING ERRCODE = 'check_violation';
  END IF;
  RETURN NEW;
END
$$;
-- +goose StatementEnd
CREATE TRIGGER token_is_fixed BEFORE UPDATE ON argus.personal_access_tokens
  FOR EACH ROW EXECUTE FUNCTION argus.token_is_fixed();

-- Every process that remembers a credential listens here, and forgets the one that is named.
-- +goose StatementBegin
CREATE FUNCTION argus.tell_credential_revoked() RETURNS trigger LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
  PERFORM pg_notify('argus_credentials', OLD.id::text);
  RETURN NULL;
END
$$;
-- +goose StatementEnd
CREATE TRIGGER token_revoked AFTER UPDATE OF revoked_at ON argus.personal_access_tokens
  FOR EACH ROW WHEN (OLD.revoked_at IS DISTINCT FROM NEW.revoked_at)
  EXECUTE FUNCTION argus.tell_credential_revoked();
CREATE TRIGGER token_deleted AFTER DELETE ON argus.personal_access_tokens
  FOR EACH ROW EXECUTE FUNCTION argus.tell_credential_revoked();

-- ── break-glass tokens ──────────────────────────────────────────────────────────────────────────────
-- For when Clerk is down. Issued on the host by the role argus_break_glass, which can do only that. Postgres writes
-- issued_at and issued_by (the login). The person who issues or revokes says who they are in claimed_by.
CREATE TABLE argus.break_glass_tokens (
  id         uuid        PRIMARY KEY,
  actor_id   text        NOT NULL CHECK (actor_id <> '' AND length(actor_id) <= 200), -- the Clerk user it is for
  reason     text        NOT NULL CHECK (length(btrim(reason)) BETWEEN 3 AND 2000),
  digest     bytea       NOT NULL UNIQUE CHECK (length(digest) = 32),
  last_four  text        NOT NULL CHECK (length(last_four) = 4),
  scopes     text[]      NOT NULL CHECK (cardinality(scopes) > 0),
  issued_at  timestamptz NOT NULL DEFAULT clock_timestamp(),
  issued_by  text        NOT NULL DEFAULT session_user,
  claimed_by text        NOT NULL CHECK (length(btrim(claimed_by)) BETWEEN 1 AND 200),
  host       text        NOT NULL DEFAULT '',
  expires_at timestamptz NOT NULL,
  CHECK (expires_at <= issued_at + interval '4 hours')
);
CREATE INDEX break_glass_tokens_issued ON argus.break_glass_tokens (issued_at);

CREATE TABLE argus.break_glass_revocations (
  id         uuid        PRIMARY KEY REFERENCES argus.break_glass_tokens (id),
  at         timestamptz NOT NULL DEFAULT clock_timestamp(),
  revoked_by text        NOT NULL DEFAULT session_user,
  claimed_by text        NOT NULL CHECK (length(btrim(claimed_by)) BETWEEN 1 AND 200),
  host       text        NOT NULL DEFAULT ''
);

CREATE TRIGGER append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON argus.break_glass_tokens
  FOR EACH STATEMENT EXECUTE FUNCTION argus.refuse_change();
CREATE TRIGGER append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON argus.break_glass_revocations
  FOR EACH STATEMENT EXECUTE FUNCTION argus.refuse_change();

-- No token without its record, whoever inserts it and however.
-- +goose StatementBegin
CREATE FUNCTION argus.record_break_glass() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
  IF TG_TABLE_NAME = 'break_glass_tokens' THEN
    INSERT INTO argus.audit_admin (kind, detail) VALUES ('break_glass_issued', jsonb_build_object(
      'break_glass_id', NEW.id, 'actor_id', NEW.actor_id, 'reason', NEW.reason, 'scopes', NEW.scopes,
      'expires_at', NEW.expires_at, 'claimed_by', NEW.claimed_by, 'host', NEW.host));
  ELSE
    INSERT INTO argus.audit_admin (kind, detail) VALUES ('break_glass_revoked', jsonb_build_object(
      'break_glass_id', NEW.id, 'claimed_by', NEW.claimed_by, 'host', NEW.host));
    PERFORM pg_notify('argus_credentials', NEW.id::text);
  END IF;
  RETURN NULL;
END
$$;
-- +goose StatementEnd
CREATE TRIGGER recorded AFTER INSERT ON argus.break_glass_tokens
  FOR EACH ROW EXECUTE FUNCTION argus.record_break_glass();
CREATE TRIGGER recorded AFTER INSERT ON argus.break_glass_revocations
  FOR EACH ROW EXECUTE FUNCTION argus.record_break_glass();

-- ── exports ─────────────────────────────────────────────────────────────────────────────────────────
-- An export's row is committed before its first byte leaves, so how much left is written here at its end.
-- The function is all that argus_api may do to argus.audit_admin.
-- +goose StatementBegin
CREATE FUNCTION argus.record_export(audit_id uuid, rows bigint, complete boolean) RETURNS void
LANGUAGE sql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
  INSERT INTO argus.audit_admin (kind, detail) VALUES ('export_finished',
    jsonb_build_object('audit_id', audit_id, 'rows', rows, 'complete', complete))
$$;
-- +goose StatementEnd

-- ── grants ──────────────────────────────────────────────────────────────────────────────────────────
REVOKE ALL ON argus.personal_access_tokens, argus.break_glass_tokens, argus.break_glass_revocations FROM PUBLIC;

GRANT SELECT, INSERT ON argus.personal_access_tokens TO argus_api;
GRANT UPDATE (last_used_at, revoked_at, revoked_by) ON argus.personal_access_tokens TO argus_api;
GRANT SELECT ON argus.break_glass_tokens, argus.break_glass_revocations TO argus_api;
GRANT EXECUTE ON FUNCTION argus.record_export(uuid, bigint, boolean) TO argus_api;

GRANT SELECT (id, actor_id, name, last_four, scopes, parent_id, audit_id, created_at, expires_at, last_used_at,
              revoked_at, revoked_by) ON argus.personal_access_tokens TO argus_auditor;
GRANT SELECT (id, actor_id, reason, last_four, scopes, issued_at, issued_by, claimed_by, host, expires_at)
  ON argus.break_glass_tokens TO argus_auditor, argus_break_glass;
GRANT SELECT ON argus.break_glass_revocations TO argus_auditor, argus_break_glass;

GRANT INSERT (id, actor_id, reason, digest, last_four, scopes, claimed_by, host, expires_at)
  ON argus.break_glass_tokens TO argus_break_glass;
GRANT INSERT (id, claimed_by, host) ON argus.break_glass_revocations TO argus_break_glass;

RESET ROLE;
