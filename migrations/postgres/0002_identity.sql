-- Who may call: personal access tokens, break-glass tokens, and how both are withdrawn. Of a secret only its
-- SHA-256 is kept. By SQL no role but argus_api reads even that. The role argus_replicator can have it nevertheless:
-- who may replicate may decode every table of the database, and copy the cluster's files (see SECURITY.md).

-- +goose Up

SET ROLE argus_owner;

-- ── personal access tokens ──────────────────────────────────────────────────────────────────────────
-- What a token may do and until when is fixed when it is made; only its use and its end are added later.
CREATE TABLE argus.personal_access_tokens (
  id           uuid        PRIMARY KEY,
  actor_id     text        NOT NULL CHECK (actor_id <> '' AND length(actor_id) <= 256), -- its owner: a Clerk user, or issuer:subject
  name         text        NOT NULL CHECK (btrim(name) <> '' AND length(name) <= 400),
  digest       bytea       NOT NULL UNIQUE CHECK (length(digest) = 32),                 -- SHA-256 of the secret
  last_four    text        NOT NULL CHECK (length(last_four) = 4),
  scopes       text[]      NOT NULL CHECK (cardinality(scopes) > 0),
  agent        text        CHECK (agent <> '' AND octet_length(agent) <= 128), -- the program it is for, if it is an agent's
  agent_actions boolean    NOT NULL DEFAULT false,                       -- an agent's token that may do more than read
  parent_id    uuid        REFERENCES argus.personal_access_tokens (id), -- the token it was made with, if any
  audit_id     uuid,                                                     -- the call that made it; null: made on the host
  created_at   timestamptz NOT NULL DEFAULT now(),
  expires_at   timestamptz NOT NULL,
  last_used_at timestamptz,                                              -- within ten minutes or so
  revoked_at   timestamptz,
  revoked_by   text        CHECK (length(revoked_by) <= 200),            -- who asked for it, as the caller said
  revoked_with uuid        REFERENCES argus.personal_access_tokens (id), -- the ancestor that it ended with; null: itself
  revoked_audit_id uuid,                                                 -- the call that revoked it; null: on the host
  CHECK (expires_at <= created_at + interval '365 days'),
  CHECK ((revoked_at IS NULL) = (revoked_by IS NULL)),
  CHECK (revoked_at IS NOT NULL OR revoked_with IS NULL AND revoked_audit_id IS NULL),
  -- What argus.Scope says in Go: an agent never has a say over tokens, and only reads unless it was made to act.
  CHECK (agent IS NOT NULL OR NOT agent_actions),
  CHECK (agent IS NULL OR NOT scopes && ARRAY['tokens:write', 'tokens:admin']),
  CHECK (agent IS NULL OR agent_actions OR array_to_string(scopes, ',', '') ~ '^[^,]+:read(,[^,]+:read)*$')
) WITH (fillfactor = 80);
CREATE INDEX personal_access_tokens_actor ON argus.personal_access_tokens (actor_id, created_at, id);
CREATE INDEX personal_access_tokens_created ON argus.personal_access_tokens (created_at, id);
CREATE INDEX personal_access_tokens_live ON argus.personal_access_tokens (expires_at) WHERE revoked_at IS NULL;
CREATE INDEX personal_access_tokens_parent ON argus.personal_access_tokens (parent_id, expires_at) WHERE parent_id IS NOT NULL;
CREATE INDEX personal_access_tokens_with ON argus.personal_access_tokens (revoked_with) WHERE revoked_with IS NOT NULL;

-- A revoked token stays revoked, and nothing about a token's rights changes.
-- +goose StatementBegin
CREATE FUNCTION argus.token_is_fixed() RETURNS trigger LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
  IF (OLD.id, OLD.actor_id, OLD.name, OLD.digest, OLD.scopes, OLD.agent, OLD.agent_actions, OLD.parent_id, OLD.audit_id,
      OLD.created_at, OLD.expires_at)
     IS DISTINCT FROM
     (NEW.id, NEW.actor_id, NEW.name, NEW.digest, NEW.scopes, NEW.agent, NEW.agent_actions, NEW.parent_id, NEW.audit_id,
      NEW.created_at, NEW.expires_at) THEN
    RAISE EXCEPTION 'a token''s owner, rights and dates are fixed' USING ERRCODE = 'check_violation';
  END IF;
  IF OLD.revoked_at IS NOT NULL AND (OLD.revoked_at, OLD.revoked_by, OLD.revoked_with, OLD.revoked_audit_id)
     IS DISTINCT FROM (NEW.revoked_at, NEW.revoked_by, NEW.revoked_with, NEW.revoked_audit_id) THEN
    RAISE EXCEPTION 'token % is revoked and stays so', OLD.id USING ERRCODE = 'check_violation';
  END IF;
  RETURN NEW;
END
$$;
-- +goose StatementEnd
CREATE TRIGGER token_is_fixed BEFORE UPDATE ON argus.personal_access_tokens
  FOR EACH ROW EXECUTE FUNCTION argus.token_is_fixed();

-- What a token mints is its owner's, can do no more than it, and lives no longer. An agent's token mints none. The lock
-- on the parent makes its revocation wait for this transaction and then find the child, or this one wait and then find
-- the parent revoked.
-- +goose StatementBegin
CREATE FUNCTION argus.token_is_within_parent() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
  parent argus.personal_access_tokens;
BEGIN
  IF NEW.parent_id IS NULL THEN
    RETURN NEW;
  END IF;
  SELECT * INTO parent FROM argus.personal_access_tokens p WHERE p.id = NEW.parent_id FOR SHARE;
  IF parent.revoked_at IS NOT NULL OR parent.expires_at <= clock_timestamp() THEN
    RAISE EXCEPTION 'token % has ended', NEW.parent_id USING ERRCODE = 'object_not_in_prerequisite_state';
  END IF;
  IF parent.agent IS NOT NULL THEN
    RAISE EXCEPTION 'an agent''s token makes no others' USING ERRCODE = 'check_violation';
  END IF;
  IF parent.actor_id <> NEW.actor_id OR NOT NEW.scopes <@ parent.scopes OR NEW.expires_at > parent.expires_at THEN
    RAISE EXCEPTION 'a token has its parent''s owner, can do no more than it, and lives no longer' USING ERRCODE = 'check_violation';
  END IF;
  RETURN NEW;
END
$$;
-- +goose StatementEnd
CREATE TRIGGER token_is_within_parent BEFORE INSERT ON argus.personal_access_tokens
  FOR EACH ROW EXECUTE FUNCTION argus.token_is_within_parent();

-- Every making and end of a token stands in argus.audit_admin, by any role and any statement; never its digest. With a
-- token all that descends from it ends, in the same transaction. Every process that remembers a credential listens on
-- argus_credentials, and forgets the one that is named.
-- +goose StatementBegin
CREATE FUNCTION argus.record_token() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
  t argus.personal_access_tokens := CASE WHEN TG_OP = 'DELETE' THEN OLD ELSE NEW END;
  which jsonb := jsonb_build_object('token_id', t.id, 'actor_id', t.actor_id, 'name', t.name, 'last_four', t.last_four,
                                    'parent_id', t.parent_id);
BEGIN
  IF TG_OP = 'INSERT' THEN
    INSERT INTO argus.audit_admin (kind, detail) VALUES ('token_created', which || jsonb_build_object(
      'scopes', t.scopes, 'agent', t.agent, 'expires_at', t.expires_at, 'audit_id', t.audit_id));
    RETURN NULL;
  END IF;
  PERFORM pg_notify('argus_credentials', t.id::text);
  IF TG_OP = 'DELETE' THEN
    INSERT INTO argus.audit_admin (kind, detail) VALUES ('token_deleted', which);
    RETURN NULL;
  END IF;
  -- Another isolation would not see a child that was committed while this statement waited for its parent.
  IF current_setting('transaction_isolation') <> 'read committed' THEN
    RAISE EXCEPTION 'tokens are revoked at the isolation level READ COMMITTED' USING ERRCODE = 'feature_not_supported';
  END IF;
  INSERT INTO argus.audit_admin (kind, detail) VALUES ('token_revoked', which || jsonb_build_object(
    'by', t.revoked_by, 'with', t.revoked_with, 'audit_id', t.revoked_audit_id));
  WITH RECURSIVE below (id) AS (
    SELECT c.id FROM argus.personal_access_tokens c WHERE c.parent_id = t.id AND c.expires_at > clock_timestamp()
    UNION
    SELECT c.id FROM argus.personal_access_tokens c JOIN below b ON c.parent_id = b.id WHERE c.expires_at > clock_timestamp()
  )
  UPDATE argus.personal_access_tokens c
     SET revoked_at = t.revoked_at, revoked_by = t.revoked_by, revoked_with = coalesce(t.revoked_with, t.id),
         revoked_audit_id = t.revoked_audit_id
    FROM below b WHERE c.id = b.id AND c.revoked_at IS NULL;
  RETURN NULL;
END
$$;
-- +goose StatementEnd
CREATE TRIGGER recorded AFTER INSERT OR DELETE ON argus.personal_access_tokens
  FOR EACH ROW EXECUTE FUNCTION argus.record_token();
CREATE TRIGGER revoked AFTER UPDATE ON argus.personal_access_tokens
  FOR EACH ROW WHEN (OLD.revoked_at IS NULL AND NEW.revoked_at IS NOT NULL) EXECUTE FUNCTION argus.record_token();

-- ── break-glass tokens ──────────────────────────────────────────────────────────────────────────────
-- For when Clerk is down. Issued on the host by the role argus_break_glass, which can do only that. Postgres writes
-- issued_at and issued_by (the login). The person who issues or revokes says who they are in claimed_by.
CREATE TABLE argus.break_glass_tokens (
  id         uuid        PRIMARY KEY,
  actor_id   text        NOT NULL CHECK (actor_id <> '' AND length(actor_id) <= 256), -- the person it is for
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
  FOR EACH STATEMENT EXECUTE FUNCTION argus.reject_change();
CREATE TRIGGER append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON argus.break_glass_revocations
  FOR EACH STATEMENT EXECUTE FUNCTION argus.reject_change();

-- No token without its record, by any role and any statement.
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

-- ── revoking ────────────────────────────────────────────────────────────────────────────────────────
-- Ends credentials of either kind, and what descends from them. Returns those it ended. `by` is what the caller says;
-- argus.audit_admin also has the login. Ancestors are locked first, as every revocation does, so that two that meet
-- wait for each other in one order.
-- +goose StatementBegin
CREATE FUNCTION argus.revoke_credentials(ids uuid[], by text, audit_id uuid) RETURNS SETOF uuid
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
  t timestamptz;
  family uuid[];
BEGIN
  WITH RECURSIVE below (id) AS (
    SELECT unnest(ids)
    UNION
    SELECT c.id FROM argus.personal_access_tokens c JOIN below b ON c.parent_id = b.id WHERE c.expires_at > clock_timestamp()
  )
  SELECT array_agg(b.id) INTO family FROM below b;
  PERFORM FROM argus.personal_access_tokens p WHERE p.id = ANY (family) AND p.revoked_at IS NULL
    ORDER BY p.created_at, p.id FOR NO KEY UPDATE;
  t := clock_timestamp();
  UPDATE argus.personal_access_tokens p
     SET revoked_at = t, revoked_by = by, revoked_audit_id = revoke_credentials.audit_id
   WHERE p.id = ANY (ids) AND p.revoked_at IS NULL;
  RETURN QUERY
    SELECT p.id FROM argus.personal_access_tokens p
     WHERE (p.id = ANY (ids) OR p.revoked_with = ANY (ids)) AND p.revoked_at = t;
  RETURN QUERY
    INSERT INTO argus.break_glass_revocations AS r (id, claimed_by)
    SELECT g.id, by FROM argus.break_glass_tokens g WHERE g.id = ANY (ids)
    ON CONFLICT DO NOTHING RETURNING r.id;
END
$$;
-- +goose StatementEnd

-- Which credential has the secret of this digest; no row when none has. It lets a role tell a secret that it was given
-- without reading any digest.
-- +goose StatementBegin
CREATE FUNCTION argus.identify_credential(digest bytea) RETURNS TABLE (kind text, id uuid)
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
  SELECT 'pat', p.id FROM argus.personal_access_tokens p WHERE p.digest = identify_credential.digest
  UNION ALL
  SELECT 'break_glass', g.id FROM argus.break_glass_tokens g WHERE g.digest = identify_credential.digest
$$;
-- +goose StatementEnd

-- ── exports and streams ─────────────────────────────────────────────────────────────────────────────
-- The row of an export or a stream is committed before its first byte leaves. So what was asked for is written here
-- beside it, before that byte too, and how much left at its end. A start without an end: the process died in between.
-- This and record_owner are all that argus_api may do to argus.audit_admin.
-- +goose StatementBegin
CREATE FUNCTION argus.record_reading(audit_id uuid, export boolean, finished boolean, detail jsonb) RETURNS void
LANGUAGE sql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
  INSERT INTO argus.audit_admin (kind, detail) VALUES (
    CASE WHEN $2 THEN 'export_' ELSE 'stream_' END || CASE WHEN $3 THEN 'finished' ELSE 'started' END,
    $4 || jsonb_build_object('audit_id', $1))
$$;
-- +goose StatementEnd

-- An export's manifest is read by the id of its call.
CREATE INDEX audit_admin_export ON argus.audit_admin ((detail ->> 'audit_id')) WHERE kind IN ('export_started', 'export_finished');

-- ── people of OpenID Connect issuers ────────────────────────────────────────────────────────────────
-- What the last sign-in of each showed. Their tokens go by it for as long as the configuration says (rights).
CREATE TABLE argus.openid_people (
  actor_id text        PRIMARY KEY CHECK (actor_id LIKE '%_:_%' AND length(actor_id) <= 256), -- issuer:subject
  name     text        NOT NULL CHECK (length(name) <= 200),
  email    text        NOT NULL CHECK (length(email) <= 200),
  groups   text[]      NOT NULL,                                -- those that the configuration mapped to scopes then
  shown_at timestamptz NOT NULL                                 -- when the token that showed them was made (iat)
);
CREATE INDEX openid_people_shown ON argus.openid_people (shown_at);

-- ── owners who leave ────────────────────────────────────────────────────────────────────────────────
-- The issuer says that the owner of tokens may not sign in any more, or may again: from then on the tokens are
-- unauthenticated, or work. Several processes hear of it, and the first one's word is kept: owner_gone and owner_back
-- take turns. An issuer's mistake must be mendable, so no token is revoked by it.
CREATE INDEX audit_admin_owner ON argus.audit_admin ((detail ->> 'actor_id'), id) WHERE kind IN ('owner_gone', 'owner_back');
-- +goose StatementBegin
CREATE FUNCTION argus.record_owner(owner text, why text) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
  is_gone  boolean := why <> '';
  was_gone boolean;
  tokens   jsonb;
BEGIN
  PERFORM argus.lock_key('owner ' || owner);
  SELECT a.kind = 'owner_gone' INTO was_gone FROM argus.audit_admin a
    WHERE a.kind IN ('owner_gone', 'owner_back') AND a.detail ->> 'actor_id' = owner ORDER BY a.id DESC LIMIT 1;
  IF coalesce(was_gone, false) = is_gone THEN
    RETURN;
  END IF;
  SELECT jsonb_agg(t.id ORDER BY t.created_at, t.id) INTO tokens FROM argus.personal_access_tokens t
    WHERE t.actor_id = owner AND t.revoked_at IS NULL AND t.expires_at > clock_timestamp();
  IF tokens IS NOT NULL OR NOT is_gone THEN
    INSERT INTO argus.audit_admin (kind, detail) VALUES (CASE WHEN is_gone THEN 'owner_gone' ELSE 'owner_back' END,
      jsonb_build_object('actor_id', left(owner, 200), 'why', left(why, 200), 'tokens', coalesce(tokens, '[]')));
  END IF;
END
$$;
-- +goose StatementEnd

-- ── grants ──────────────────────────────────────────────────────────────────────────────────────────
REVOKE ALL ON argus.personal_access_tokens, argus.break_glass_tokens, argus.break_glass_revocations, argus.openid_people FROM PUBLIC;

GRANT SELECT ON argus.personal_access_tokens TO argus_api;
GRANT INSERT (id, actor_id, name, digest, last_four, scopes, agent, agent_actions, parent_id, audit_id, expires_at)
  ON argus.personal_access_tokens TO argus_api;
GRANT UPDATE (last_used_at) ON argus.personal_access_tokens TO argus_api;
-- On the host, when the API is down, tokens are listed and ended by the role that may issue break-glass tokens: one of
-- those with tokens:admin could do the same, so this adds nothing to what it can do if stolen, and no secret to guard.
GRANT EXECUTE ON FUNCTION argus.revoke_credentials(uuid[], text, uuid), argus.identify_credential(bytea)
  TO argus_api, argus_break_glass;
GRANT SELECT ON argus.break_glass_tokens, argus.break_glass_revocations TO argus_api;
-- A thief of this login can make tokens of anybody's, so giving people groups adds nothing to what it can do.
GRANT SELECT, INSERT, UPDATE (name, email, groups, shown_at), DELETE ON argus.openid_people TO argus_api;
GRANT EXECUTE ON FUNCTION argus.record_reading(uuid, boolean, boolean, jsonb), argus.record_owner(text, text) TO argus_api;

GRANT SELECT (id, actor_id, name, last_four, scopes, agent, agent_actions, parent_id, audit_id, created_at, expires_at, last_used_at,
              revoked_at, revoked_by, revoked_with, revoked_audit_id)
  ON argus.personal_access_tokens TO argus_auditor, argus_break_glass;
GRANT SELECT (id, actor_id, reason, last_four, scopes, issued_at, issued_by, claimed_by, host, expires_at)
  ON argus.break_glass_tokens TO argus_auditor, argus_break_glass;
GRANT SELECT ON argus.break_glass_revocations TO argus_auditor, argus_break_glass;
GRANT SELECT ON argus.openid_people TO argus_auditor;

GRANT INSERT (id, actor_id, reason, digest, last_four, scopes, claimed_by, host, expires_at)
  ON argus.break_glass_tokens TO argus_break_glass;
GRANT INSERT (id, claimed_by, host) ON argus.break_glass_revocations TO argus_break_glass;

RESET ROLE;
