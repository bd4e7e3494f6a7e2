-- The log in the words of the domain, for argus_auditor. The views hold nothing and give nothing: they run with the
-- rights of the role that asks (security_invoker). So an auditor reads through them what an auditor may read without them,
-- and no digest of a secret. They are no barrier, since their rows are no secret: a condition reaches the tables below, and
-- a bound on a view's time reads only the months that it names.
--
-- The steps' tables are split by call_id, whose leading bits are the time of the call. There the bound is
-- call_id >= argus.uuid_floor(time).

-- +goose Up

SET ROLE argus_owner;

CREATE VIEW argus.denied_calls WITH (security_invoker = true) AS
  SELECT l.occurred_at AS at, l.actor_id AS person, l.impersonator_id AS really, l.agent, l.service, l.route, l.path_params AS parameters,
         l.scope AS wanted, l.error_code, l.reason, l.client_ip AS address, l.id AS call_id
    FROM argus.argus_audit_log l
   WHERE l.status = 403;

CREATE VIEW argus.changes WITH (security_invoker = true) AS
  SELECT l.occurred_at AS at, l.actor_id AS person, l.impersonator_id AS really, l.agent, l.service, l.route, l.path_params AS parameters,
         CASE WHEN l.outcome = 'interrupted' THEN 'interrupted' WHEN l.status >= 500 THEN 'failed' WHEN l.status >= 400 THEN 'refused'
              ELSE 'done' END AS result,
         l.status, l.error_code, l.reason, l.client_ip AS address, l.id AS call_id
    FROM argus.argus_audit_log l
   WHERE l.method NOT IN ('GET', 'HEAD', 'OPTIONS');

CREATE VIEW argus.break_glass_use WITH (security_invoker = true) AS
  SELECT l.occurred_at AS at, l.actor_id AS person, l.service, l.route, l.path_params AS parameters, l.status, l.client_ip AS address,
         l.break_glass_id AS token_id, a.detail ->> 'reason' AS issued_for, a.detail ->> 'claimed_by' AS issued_by, a.at AS issued_at,
         l.id AS call_id
    FROM argus.argus_audit_log l
    LEFT JOIN argus.audit_admin a ON a.kind = 'break_glass_issued' AND a.detail ->> 'break_glass_id' = l.break_glass_id::text
   WHERE l.actor_kind = 'break_glass';

-- Of a token, what argus.audit_admin says, which no role can change: the tables of tokens lose rows that expired.
CREATE VIEW argus.tokens_given WITH (security_invoker = true) AS
  SELECT g.at, g.kind, g.token_id, g.person, g.name, g.agent, g.scopes, g.given_by, g.expires_at,
         least(e.at, CASE WHEN g.expires_at <= now() THEN g.expires_at END) AS ended_at,
         CASE WHEN e.at < g.expires_at THEN 'revoked' WHEN g.expires_at <= now() THEN 'expired' END AS ended,
         CASE WHEN e.at < g.expires_at THEN e.by END AS ended_by, g.call_id
    FROM (SELECT a.id, a.at, CASE a.kind WHEN 'token_created' THEN 'personal' ELSE 'break-glass' END AS kind,
                 coalesce(a.detail ->> 'token_id', a.detail ->> 'break_glass_id')::uuid AS token_id, a.detail ->> 'actor_id' AS person,
                 coalesce(a.detail ->> 'name', a.detail ->> 'reason') AS name, a.detail ->> 'agent' AS agent, a.detail -> 'scopes' AS scopes,
                 coalesce(a.detail ->> 'claimed_by', a.detail ->> 'actor_id') AS given_by,
                 (a.detail ->> 'expires_at')::timestamptz AS expires_at, (a.detail ->> 'audit_id')::uuid AS call_id
            FROM argus.audit_admin a WHERE a.kind IN ('token_created', 'break_glass_issued')) g
    LEFT JOIN (SELECT coalesce(a.detail ->> 'token_id', a.detail ->> 'break_glass_id')::uuid AS token_id, min(a.at) AS at,
                      (array_agg(coalesce(a.detail ->> 'by', a.detail ->> 'claimed_by', a.actor) ORDER BY a.id))[1] AS by
                 FROM argus.audit_admin a WHERE a.kind IN ('token_revoked', 'token_deleted', 'break_glass_revoked')
                GROUP BY 1) e USING (token_id);

-- An end is filed under its own call, under the call that armed or started, or under neither when it is a timer's: never
-- under a call of the day before.
CREATE VIEW argus.armings WITH (security_invoker = true) AS
  SELECT s.at, s.tenant_id AS tenant, s.actor_id AS person, s.impersonator_id AS really, s.reason, s.consent_document_id AS consent,
         s.consent_recorded_by, s.consent_recorded_at, d.at AS disarmed_at, d.actor_id AS disarmed_by, d.reason AS disarm_reason,
         s.audit_id AS call_id
    FROM argus.remote_support_audit s
    LEFT JOIN LATERAL (SELECT e.at, e.actor_id, e.reason FROM argus.remote_support_audit e
                        WHERE e.tenant_id = s.tenant_id AND e.action = 'disarm' AND e.result = 'succeeded'
                          AND e.audit_id >= argus.uuid_floor(s.at - interval '1 day') AND (e.at, e.audit_id, e.step) > (s.at, s.audit_id, s.step)
                        ORDER BY e.at LIMIT 1) d ON true
   WHERE s.action = 'arm' AND s.result = 'succeeded';

CREATE VIEW argus.sessions WITH (security_invoker = true) AS
  SELECT s.at, s.tenant_id AS tenant, s.session_id AS session, s.actor_id AS person, s.impersonator_id AS really, s.reason,
         s.consent_document_id AS consent, d.at AS ended_at, d.actor_id AS ended_by, d.at - s.at AS lasted, s.audit_id AS call_id
    FROM argus.remote_support_audit s
    LEFT JOIN LATERAL (SELECT e.at, e.actor_id FROM argus.remote_support_audit e
                        WHERE e.session_id = s.session_id AND e.action = 'end' AND e.result = 'succeeded'
                          AND e.audit_id >= argus.uuid_floor(s.at - interval '1 day')
                        ORDER BY e.at LIMIT 1) d ON true
   WHERE s.action = 'start' AND s.result = 'succeeded';

-- ── what happened around a call ─────────────────────────────────────────────────────────────────────
-- The bounds are known before the query runs, so it reads the months around the call alone. A step may be
-- filed under a call of long before, never under one of later.
-- +goose StatementBegin
CREATE FUNCTION argus.around_call(call uuid, within interval DEFAULT '5 minutes')
RETURNS TABLE (at timestamptz, kind text, person text, what text, subject text, result text, reason text, call_id uuid)
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
  moment timestamptz;
  lo     timestamptz;
  hi     timestamptz;
  last   uuid;
BEGIN
  SELECT l.occurred_at INTO moment FROM argus.argus_audit_log l WHERE l.id = call LIMIT 1;
  IF moment IS NULL THEN
    RAISE EXCEPTION 'the log has no call %', call USING ERRCODE = 'no_data_found';
  END IF;
  lo := moment - within;
  hi := moment + within;
  last := argus.uuid_floor(hi + interval '1 day');
  RETURN QUERY
    SELECT l.occurred_at, 'call', l.actor_id, l.route, nullif(l.path_params, '{}')::text, coalesce(l.status::text, l.outcome), l.reason, l.id
      FROM argus.argus_audit_log l WHERE l.occurred_at BETWEEN lo AND hi
    UNION ALL
    SELECT s.at, 'step', s.actor_id, s.action, s.worker_id, s.result, coalesce(s.reason, s.error), s.audit_id
      FROM argus.compute_control_audit s WHERE s.at BETWEEN lo AND hi AND s.audit_id < last
    UNION ALL
    SELECT s.at, 'step', s.actor_id, s.action, s.tenant_id, s.result, coalesce(s.reason, s.error), s.audit_id
      FROM argus.remote_support_audit s WHERE s.at BETWEEN lo AND hi AND s.audit_id < last
    UNION ALL
    SELECT a.at, 'record', coalesce(a.detail ->> 'claimed_by', a.detail ->> 'by', a.actor), a.kind,
           coalesce(a.detail ->> 'tenant_id', a.detail ->> 'token_id', a.detail ->> 'break_glass_id'), NULL, a.detail ->> 'reason',
           (a.detail ->> 'audit_id')::uuid
      FROM argus.audit_admin a WHERE a.at BETWEEN lo AND hi
    ORDER BY 1, 2;
END
$$;
-- +goose StatementEnd

-- ── comments ────────────────────────────────────────────────────────────────────────────────────────
COMMENT ON VIEW argus.denied_calls IS 'Calls that were answered 403, one row each. Bound it by at.';
COMMENT ON VIEW argus.changes IS 'Calls that wanted to change something (no GET, HEAD or OPTIONS), one row each. Bound it by at.';
COMMENT ON VIEW argus.break_glass_use IS 'Calls with a break-glass token, one row each. Bound it by at.';
COMMENT ON VIEW argus.tokens_given IS 'Tokens of both kinds as they were given, and their end, one row each. No secret and no digest.';
COMMENT ON VIEW argus.armings IS 'Times that a tenant was armed, one row each. Bound it by call_id >= argus.uuid_floor(time).';
COMMENT ON VIEW argus.sessions IS 'Support sessions that started, one row each. Bound it by call_id >= argus.uuid_floor(time).';
COMMENT ON FUNCTION argus.around_call(uuid, interval) IS 'Calls, their steps and the records of administrators within this time of a call, in order.';
COMMENT ON FUNCTION argus.uuid_floor(timestamptz) IS 'The smallest id that a call of this moment can have: a bound for call_id and audit_id.';

-- A column means the same in each view that has it. What means another thing follows.
-- +goose StatementBegin
DO $$
DECLARE
  c record;
BEGIN
  FOR c IN
    SELECT v.relname, a.attname, m.meaning
      FROM pg_attribute a JOIN pg_class v ON v.oid = a.attrelid
      JOIN (VALUES
        ('at', 'When it happened, UTC.'), ('person', 'Who did it: the actor''s id.'),
        ('really', 'Who acted as this person, if another did.'), ('agent', 'The program that acted for the person.'),
        ('service', 'argus, or the service behind it that was called.'), ('route', 'Method and path, without parameters'' values.'),
        ('parameters', 'The values of the path''s parameters.'), ('wanted', 'The scope that the route asks for.'),
        ('status', 'The HTTP status of the answer; null: interrupted.'), ('error_code', 'The code of the answer''s error; null: the service''s own.'),
        ('result', 'done, refused, failed or interrupted. An interrupted call may have had its effect: see its steps.'),
        ('reason', 'What the person gave as the reason.'), ('address', 'The address that the call came from.'),
        ('call_id', 'The call: id of argus.argus_audit_log. Null: done on the host.'), ('token_id', 'The token.'),
        ('issued_for', 'The reason that the token was issued for.'), ('issued_by', 'Who said they issued it.'), ('issued_at', 'When it was issued.'),
        ('kind', 'personal or break-glass.'), ('name', 'The token''s name; of a break-glass token the reason.'),
        ('scopes', 'What the token may do.'), ('given_by', 'Who made it, as they said.'), ('expires_at', 'When it ends by itself.'),
        ('ended_at', 'When it ended; null: it has not.'), ('ended', 'revoked or expired; null: it has not ended.'),
        ('ended_by', 'Who ended it.'), ('tenant', 'The tenant''s id.'), ('session', 'The session''s id.'),
        ('consent', 'The document of consent that counted then.'), ('consent_recorded_by', 'Who recorded that consent.'),
        ('consent_recorded_at', 'When that consent was recorded.'), ('disarmed_at', 'When it was disarmed; null: it is armed.'),
        ('disarmed_by', 'Who disarmed it; system: a timer, or the tenant''s withdrawal.'), ('disarm_reason', 'Why it was disarmed.'),
        ('lasted', 'How long it lasted; null: it is live.')) m (name, meaning) ON m.name = a.attname
     WHERE v.relnamespace = 'argus'::regnamespace AND a.attnum > 0
       AND v.relname IN ('denied_calls', 'changes', 'break_glass_use', 'tokens_given', 'armings', 'sessions')
  LOOP
    EXECUTE format('COMMENT ON COLUMN argus.%I.%I IS %L', c.relname, c.attname, c.meaning);
  END LOOP;
END
$$;
-- +goose StatementEnd
COMMENT ON COLUMN argus.tokens_given.person IS 'Whose token it is: the actor''s id.';
COMMENT ON COLUMN argus.tokens_given.at IS 'When it was given, UTC.';

-- ── grants ──────────────────────────────────────────────────────────────────────────────────────────
REVOKE ALL ON argus.denied_calls, argus.changes, argus.break_glass_use, argus.tokens_given, argus.armings, argus.sessions FROM PUBLIC;
GRANT SELECT ON argus.denied_calls, argus.changes, argus.break_glass_use, argus.tokens_given, argus.armings, argus.sessions TO argus_auditor;
GRANT EXECUTE ON FUNCTION argus.around_call(uuid, interval), argus.uuid_floor(timestamptz) TO argus_auditor;

RESET ROLE;
