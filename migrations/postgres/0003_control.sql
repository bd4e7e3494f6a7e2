-- What operators control: compute workers and tenants' remote support. These are state tables: they say how
-- things stand now and may change; what happened is in argus.compute_control_audit and
-- argus.remote_support_audit, which may not. Beside them the keys that keep a repeated request from acting
-- twice, and the limits per operator.

-- +goose Up

SET ROLE argus_owner;

-- ── compute ─────────────────────────────────────────────────────────────────────────────────────────
-- A state that ends in -ing is a wanted state: a call asked, the provider has not answered yet. Then, and
-- only then, the op_ columns say whose call asked. A call is over when its intent is gone. Any API process
-- reconciles the state it left with what the provider says.
CREATE TABLE argus.workers (
  id            text             PRIMARY KEY CHECK (id <> '' AND length(id) <= 200),
  provider      text             NOT NULL CHECK (provider <> ''),
  state         text             NOT NULL CHECK (state IN ('launching', 'running', 'stopping', 'stopped',
                                                           'resuming', 'terminating', 'terminated', 'failed')),
  orphan        boolean          NOT NULL DEFAULT false, -- found at the provider, launched by no call
  reason        text,                                    -- of the launch; null for an orphan
  launched_by   text,                                    -- null for an orphan
  launched_at   timestamptz      NOT NULL DEFAULT clock_timestamp(),
  ended_at      timestamptz,
  cost_per_hour double precision NOT NULL DEFAULT 0 CHECK (cost_per_hour >= 0),
  handle        text,                                    -- the provider's own name for it, never used twice
  provider_ref  jsonb,
  op_audit_id   uuid,
  op_action     text             CHECK (op_action IN ('launch', 'stop', 'resume', 'terminate')),
  op_from_state text,
  op_reason     text,
  op_at         timestamptz,
  CONSTRAINT workers_operation CHECK ((op_audit_id IS NOT NULL) = (state IN ('launching', 'stopping', 'resuming', 'terminating'))),
  CONSTRAINT workers_operation_whole CHECK (
    (op_audit_id IS NULL) = (op_action IS NULL) AND (op_audit_id IS NULL) = (op_at IS NULL)
    AND (op_audit_id IS NOT NULL OR (op_from_state IS NULL AND op_reason IS NULL))),
  CONSTRAINT workers_orphan CHECK (orphan = (launched_by IS NULL)),
  CONSTRAINT workers_ended CHECK ((ended_at IS NOT NULL) = (state IN ('terminated', 'failed')))
);
CREATE INDEX workers_present ON argus.workers (launched_at) WHERE state <> 'terminated';
CREATE INDEX workers_unreconciled ON argus.workers (op_audit_id) WHERE op_audit_id IS NOT NULL;
-- One living row for one thing at the provider: two operators cannot both take an orphan.
CREATE UNIQUE INDEX workers_handle ON argus.workers (provider, handle) WHERE state NOT IN ('terminated', 'failed');

-- Terminated is final: an id never comes back to life.
-- +goose StatementBegin
CREATE FUNCTION argus.worker_stays_terminated() RETURNS trigger LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
  RAISE EXCEPTION 'worker % is terminated and stays so', OLD.id USING ERRCODE = 'check_violation';
END
$$;
-- +goose StatementEnd
CREATE TRIGGER terminated_is_final BEFORE UPDATE ON argus.workers
  FOR EACH ROW WHEN (OLD.state = 'terminated') EXECUTE FUNCTION argus.worker_stays_terminated();

-- ── remote support ──────────────────────────────────────────────────────────────────────────────────
-- A consent is a signed document that the role argus_consent has recorded (below). The consent columns say which one
-- counts now; only that record sets them. tenant_consent_required is the gate itself, not a copy of it: there is no
-- statement, and no role, that arms a tenant around it.
CREATE TABLE argus.tenants (
  id                  text        PRIMARY KEY CHECK (id ~ '^[A-Za-z0-9][A-Za-z0-9_.-]{0,99}$'),
  name                text        NOT NULL,
  consent             boolean     NOT NULL DEFAULT false,
  consent_at          timestamptz, -- when it was recorded
  consent_document_id text,
  consent_recorded_by text,
  armed               boolean     NOT NULL DEFAULT false,
  armed_at            timestamptz,
  armed_by            text,
  armed_reason        text,
  armed_audit_id      uuid,        -- the call that armed it: what a disarming without a call is filed under
  agents              int         NOT NULL DEFAULT 0 CHECK (agents >= 0),
  last_activity       timestamptz,
  retired             boolean     NOT NULL DEFAULT false, -- a flag: what was done to a tenant stays told by its id
  retired_at          timestamptz,
  retired_by          text,
  retired_reason      text,
  CONSTRAINT tenants_retired CHECK (
    retired = (retired_at IS NOT NULL) AND retired = (retired_by IS NOT NULL) AND retired = (retired_reason IS NOT NULL)),
  CONSTRAINT retired_is_unarmed CHECK (NOT (retired AND armed)),
  -- Who recorded the consent does not arm on it.
  CONSTRAINT consent_by_another CHECK (NOT armed OR consent_recorded_by <> armed_by),
  CONSTRAINT tenant_consent_required CHECK (
    NOT armed OR (consent AND consent_at IS NOT NULL AND consent_document_id IS NOT NULL AND consent_recorded_by IS NOT NULL)),
  CONSTRAINT tenants_armed CHECK (
    armed = (armed_at IS NOT NULL) AND armed = (armed_by IS NOT NULL) AND armed = (armed_reason IS NOT NULL)
    AND armed = (armed_audit_id IS NOT NULL))
);

-- Consents as they were recorded, and withdrawn: on the host, or by an API process that was given the login of
-- argus_consent. Who did it is what argusd was told, or the operator of the call audit_id (by), and the login it had
-- (login). A document counts once: withdrawn or replaced, its id makes no consent again.
CREATE TABLE argus.tenant_consents (
  tenant_id   text        NOT NULL REFERENCES argus.tenants (id),
  document_id text        NOT NULL CHECK (length(btrim(document_id)) BETWEEN 1 AND 800),
  recorded_at timestamptz NOT NULL DEFAULT clock_timestamp(),
  recorded_by text        NOT NULL CHECK (length(btrim(recorded_by)) BETWEEN 1 AND 800),
  login       text        NOT NULL DEFAULT session_user,
  host        text        NOT NULL DEFAULT '' CHECK (length(host) <= 255),
  audit_id    uuid, -- the call that recorded it; null: the host
  PRIMARY KEY (tenant_id, document_id)
);
CREATE TABLE argus.tenant_consent_withdrawals (
  tenant_id    text        NOT NULL,
  document_id  text        NOT NULL,
  withdrawn_at timestamptz NOT NULL DEFAULT clock_timestamp(),
  withdrawn_by text        NOT NULL CHECK (length(btrim(withdrawn_by)) BETWEEN 1 AND 800),
  login        text        NOT NULL DEFAULT session_user,
  host         text        NOT NULL DEFAULT '' CHECK (length(host) <= 255),
  PRIMARY KEY (tenant_id, document_id),
  FOREIGN KEY (tenant_id, document_id) REFERENCES argus.tenant_consents (tenant_id, document_id)
);
ALTER TABLE argus.tenants ADD CONSTRAINT tenants_consent_recorded
  FOREIGN KEY (id, consent_document_id) REFERENCES argus.tenant_consents (tenant_id, document_id);

CREATE TRIGGER append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON argus.tenant_consents
  FOR EACH STATEMENT EXECUTE FUNCTION argus.reject_change();
CREATE TRIGGER append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON argus.tenant_consent_withdrawals
  FOR EACH STATEMENT EXECUTE FUNCTION argus.reject_change();

CREATE TABLE argus.support_sessions (
  id         uuid        PRIMARY KEY,
  tenant_id  text        NOT NULL REFERENCES argus.tenants (id),
  state      text        NOT NULL DEFAULT 'live' CHECK (state IN ('live', 'ended')),
  started_by text        NOT NULL,
  started_at timestamptz NOT NULL,
  ends_at    timestamptz NOT NULL,
  ended_at   timestamptz,
  end_reason text        CHECK (end_reason IN ('ended', 'disarmed', 'expired')),
  audit_id   uuid        NOT NULL, -- the call that started it: what its timer's step is filed under
  CONSTRAINT support_sessions_length CHECK (ends_at > started_at AND ends_at <= started_at + interval '120 minutes'),
  CONSTRAINT support_sessions_ended CHECK ((state = 'ended') = (ended_at IS NOT NULL)
                                           AND (state = 'ended') = (end_reason IS NOT NULL))
);
CREATE INDEX support_sessions_live ON argus.support_sessions (ends_at) WHERE state = 'live';
CREATE INDEX support_sessions_tenant ON argus.support_sessions (tenant_id) WHERE state = 'live';

-- A session is live only on an armed tenant. Both directions, so that neither a slip in the API nor two
-- calls at once can leave one behind: the row lock on the tenant puts them in order.
-- +goose StatementBegin
CREATE FUNCTION argus.session_needs_armed_tenant() RETURNS trigger LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
  is_armed boolean;
BEGIN
  SELECT armed INTO is_armed FROM argus.tenants WHERE id = NEW.tenant_id FOR SHARE;
  IF NOT coalesce(is_armed, false) THEN
    RAISE EXCEPTION 'tenant % is not armed', NEW.tenant_id
      USING ERRCODE = 'check_violation', CONSTRAINT = 'session_needs_armed_tenant';
  END IF;
  RETURN NEW;
END
$$;
-- +goose StatementEnd
CREATE TRIGGER needs_armed_tenant BEFORE INSERT OR UPDATE ON argus.support_sessions
  FOR EACH ROW WHEN (NEW.state = 'live') EXECUTE FUNCTION argus.session_needs_armed_tenant();

-- +goose StatementBegin
CREATE FUNCTION argus.disarm_ends_sessions() RETURNS trigger LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
  IF EXISTS (SELECT FROM argus.support_sessions WHERE tenant_id = NEW.id AND state = 'live') THEN
    RAISE EXCEPTION 'tenant % still has a live support session', NEW.id
      USING ERRCODE = 'check_violation', CONSTRAINT = 'disarm_ends_sessions';
  END IF;
  RETURN NEW;
END
$$;
-- +goose StatementEnd
CREATE TRIGGER ends_sessions BEFORE UPDATE ON argus.tenants
  FOR EACH ROW WHEN (OLD.armed AND NOT NEW.armed) EXECUTE FUNCTION argus.disarm_ends_sessions();

-- A document that is recorded is the tenant's consent from then on, in place of the one before. One that a call
-- recorded takes the call's step "succeeded" with it: the step is there exactly when the consent is.
-- +goose StatementBegin
CREATE FUNCTION argus.consent_recorded() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
  replaced text;
  is_retired boolean;
BEGIN
  SELECT consent_document_id, retired INTO replaced, is_retired FROM argus.tenants WHERE id = NEW.tenant_id FOR NO KEY UPDATE;
  IF is_retired THEN
    RAISE EXCEPTION 'tenant % is retired', NEW.tenant_id USING ERRCODE = 'check_violation', CONSTRAINT = 'retired_gives_no_consent';
  END IF;
  UPDATE argus.tenants SET consent = true, consent_at = NEW.recorded_at, consent_document_id = NEW.document_id,
         consent_recorded_by = NEW.recorded_by WHERE id = NEW.tenant_id;
  IF NEW.audit_id IS NOT NULL THEN
    PERFORM argus.lock_key('steps ' || NEW.audit_id::text); -- as the API does
    INSERT INTO argus.remote_support_audit (audit_id, step, at, actor_id, impersonator_id, action, tenant_id, reason,
                                            consent_document_id, consent_recorded_by, consent_recorded_at, result)
    SELECT audit_id, step + 1, clock_timestamp(), actor_id, impersonator_id, action, tenant_id, reason,
           NEW.document_id, NEW.recorded_by, NEW.recorded_at, 'succeeded'
      FROM argus.remote_support_audit s
     WHERE audit_id = NEW.audit_id AND action = 'consent' AND tenant_id = NEW.tenant_id AND result = 'requested'
       AND step = (SELECT max(step) FROM argus.remote_support_audit WHERE audit_id = NEW.audit_id);
    IF NOT FOUND THEN
      RAISE EXCEPTION 'call % did not ask for this consent', NEW.audit_id USING ERRCODE = 'check_violation', CONSTRAINT = 'consent_was_asked_for';
    END IF;
  END IF;
  INSERT INTO argus.audit_admin (kind, detail) VALUES ('consent_recorded', jsonb_strip_nulls(jsonb_build_object(
    'tenant_id', NEW.tenant_id, 'document_id', NEW.document_id, 'claimed_by', NEW.recorded_by, 'host', NEW.host, 'replaces', replaced,
    'audit_id', NEW.audit_id)));
  RETURN NULL;
END
$$;
-- +goose StatementEnd
CREATE TRIGGER recorded AFTER INSERT ON argus.tenant_consents
  FOR EACH ROW EXECUTE FUNCTION argus.consent_recorded();

-- A tenant that withdraws its consent is disarmed by that, and its live sessions end: in the same transaction, with
-- steps of the actor system under the calls that armed it and that started them. A month that retention has dropped
-- takes no step; argus.audit_admin has the withdrawal in any case.
-- +goose StatementBegin
CREATE FUNCTION argus.consent_withdrawn() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
  t     argus.tenants;
  s     record;
  ended int := 0;
BEGIN
  SELECT * INTO t FROM argus.tenants WHERE id = NEW.tenant_id FOR NO KEY UPDATE;
  IF t.consent_document_id IS DISTINCT FROM NEW.document_id THEN
    RAISE EXCEPTION 'document % is not the consent of tenant %', NEW.document_id, NEW.tenant_id
      USING ERRCODE = 'check_violation', CONSTRAINT = 'consent_is_effective';
  END IF;
  FOR s IN UPDATE argus.support_sessions SET state = 'ended', ended_at = clock_timestamp(), end_reason = 'disarmed'
            WHERE tenant_id = NEW.tenant_id AND state = 'live' RETURNING id, audit_id LOOP
    PERFORM argus.add_consent_step(s.audit_id, 'end', t, s.id);
    ended := ended + 1;
  END LOOP;
  IF t.armed THEN
    PERFORM argus.add_consent_step(t.armed_audit_id, 'disarm', t, NULL);
  END IF;
  UPDATE argus.tenants SET consent = false, consent_at = NULL, consent_document_id = NULL, consent_recorded_by = NULL,
         armed = false, armed_at = NULL, armed_by = NULL, armed_reason = NULL, armed_audit_id = NULL
   WHERE id = NEW.tenant_id;
  INSERT INTO argus.audit_admin (kind, detail) VALUES ('consent_withdrawn', jsonb_build_object(
    'tenant_id', NEW.tenant_id, 'document_id', NEW.document_id, 'claimed_by', NEW.withdrawn_by, 'host', NEW.host,
    'disarmed', t.armed, 'sessions_ended', ended));
  RETURN NULL;
END
$$;
-- +goose StatementEnd

-- +goose StatementBegin
CREATE FUNCTION argus.add_consent_step(call uuid, what text, t argus.tenants, session uuid) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
  PERFORM argus.lock_key('steps ' || call::text); -- as the API does
  INSERT INTO argus.remote_support_audit (audit_id, step, at, actor_id, action, tenant_id, session_id, reason,
                                          consent_document_id, consent_recorded_by, consent_recorded_at, result)
  SELECT call, coalesce(max(step), 0) + 1, clock_timestamp(), 'system', what, t.id, session,
         'the tenant withdrew its consent', t.consent_document_id, t.consent_recorded_by, t.consent_at, 'succeeded'
    FROM argus.remote_support_audit WHERE audit_id = call;
EXCEPTION WHEN check_violation THEN
  NULL; -- no partition for its month any more
END
$$;
-- +goose StatementEnd
CREATE TRIGGER withdrawn AFTER INSERT ON argus.tenant_consent_withdrawals
  FOR EACH ROW EXECUTE FUNCTION argus.consent_withdrawn();

-- ── limits per operator ─────────────────────────────────────────────────────────────────────────────
-- A token bucket for each operator and action. It lives here so that it holds over all API processes;
-- its clock is Postgres's.
CREATE TABLE argus.rate_limits (
  actor_id text             NOT NULL,
  action   text             NOT NULL,
  tokens   double precision NOT NULL,
  at       timestamptz      NOT NULL,
  PRIMARY KEY (actor_id, action)
) WITH (fillfactor = 50);

-- ── idempotency keys ────────────────────────────────────────────────────────────────────────────────
-- Committed together with the call's intent: a key is here exactly when its call may have had an effect.
-- status null: not answered yet. body null beside a status: the answer is not kept, because it held a secret.
CREATE TABLE argus.idempotency_keys (
  actor_id       text        NOT NULL,
  key            text        NOT NULL CHECK (length(key) BETWEEN 1 AND 255),
  audit_id       uuid        NOT NULL UNIQUE, -- the call that had it first
  request_sha256 bytea       NOT NULL CHECK (length(request_sha256) = 32),
  created_at     timestamptz NOT NULL DEFAULT clock_timestamp(),
  status         smallint,
  body           text,
  PRIMARY KEY (actor_id, key),
  CHECK (status IS NOT NULL OR body IS NULL)
);
CREATE INDEX idempotency_keys_created ON argus.idempotency_keys (created_at);

-- ── grants ──────────────────────────────────────────────────────────────────────────────────────────
-- Who launched what, when and why is written once; only how it stands may change, and nothing is deleted
-- but what has expired.
REVOKE ALL ON argus.workers, argus.tenants, argus.support_sessions, argus.rate_limits, argus.idempotency_keys FROM PUBLIC;
REVOKE ALL ON argus.tenant_consents, argus.tenant_consent_withdrawals FROM PUBLIC;

GRANT SELECT, INSERT ON argus.workers TO argus_api;
GRANT UPDATE (state, ended_at, cost_per_hour, handle, provider_ref,
              op_audit_id, op_action, op_from_state, op_reason, op_at) ON argus.workers TO argus_api;

GRANT SELECT ON argus.tenants TO argus_api;
GRANT INSERT (id, name, agents), UPDATE (name, agents, armed, armed_at, armed_by, armed_reason, armed_audit_id, last_activity,
              retired, retired_at, retired_by, retired_reason) ON argus.tenants TO argus_api;

-- Who consented is not argus_api's to say: the role argus_consent records it, and can do nothing else.
GRANT SELECT (id, name, consent, consent_at, consent_document_id, consent_recorded_by, armed) ON argus.tenants TO argus_consent;
GRANT SELECT, INSERT (tenant_id, document_id, recorded_by, host, audit_id) ON argus.tenant_consents TO argus_consent;
GRANT SELECT, INSERT (tenant_id, document_id, withdrawn_by, host) ON argus.tenant_consent_withdrawals TO argus_consent;

GRANT SELECT, INSERT ON argus.support_sessions TO argus_api;
GRANT UPDATE (state, ended_at, end_reason) ON argus.support_sessions TO argus_api;

GRANT SELECT, INSERT ON argus.rate_limits TO argus_api;
GRANT UPDATE (tokens, at) ON argus.rate_limits TO argus_api;

GRANT SELECT, INSERT, DELETE ON argus.idempotency_keys TO argus_api;
GRANT UPDATE (status, body) ON argus.idempotency_keys TO argus_api;

GRANT SELECT ON argus.workers, argus.tenants, argus.tenant_consents, argus.tenant_consent_withdrawals, argus.support_sessions, argus.rate_limits, argus.idempotency_keys TO argus_auditor;

RESET ROLE;
