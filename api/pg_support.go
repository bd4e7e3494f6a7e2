package api

import (
	"context"
	"errors"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/useargus/argus"
)

// A session is live until its end, whether or not the timer has come round to it.
const sessionColumns = ` id, tenant_id, CASE WHEN state = 'live' AND ends_at > clock_timestamp() THEN 'live' ELSE 'ended' END,
	started_by, started_at, ends_at, ended_at, end_reason `

func scanSession(row pgx.CollectableRow) (sessionJSON, error) {
	var s sessionJSON
	var started, ends time.Time
	var ended *time.Time
	err := row.Scan(&s.ID, &s.TenantID, &s.State, &s.StartedBy, &started, &ends, &ended, &s.EndReason)
	s.StartedAt, s.EndsAt, s.EndedAt = argus.JSONTime(started), argus.JSONTime(ends), jsonTime(ended)
	return s, err
}

func jsonTime(t *time.Time) argus.JSONTime {
	if t == nil {
		return argus.JSONTime{}
	}
	return argus.JSONTime(*t)
}

// listTenants returns all tenants, the retired ones when asked for, or the one of the given id, with their live sessions.
func listTenants(ctx context.Context, q querier, id string, retired bool) ([]tenantJSON, error) {
	rows, err := q.Query(ctx, `
		SELECT id, name, armed, armed_at, armed_by, armed_reason,
		       consent, consent_at, consent_document_id, consent_recorded_by, agents, last_activity,
		       retired, retired_at, retired_by, retired_reason
		  FROM argus.tenants WHERE id = $1 OR $1 = '' AND (NOT retired OR $2) ORDER BY id`, id, retired)
	if err != nil {
		return nil, err
	}
	tenants, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (tenantJSON, error) {
		var t tenantJSON
		var armed, consent, activity, ended *time.Time
		err := row.Scan(&t.ID, &t.Name, &t.Armed, &armed, &t.ArmedBy, &t.ArmedReason, &t.Consent.Given, &consent,
			&t.Consent.DocumentID, &t.Consent.RecordedBy, &t.Agents, &activity,
			&t.Retired, &ended, &t.RetiredBy, &t.RetiredReason)
		t.ArmedAt, t.Consent.At, t.LastActivity, t.RetiredAt = jsonTime(armed), jsonTime(consent), jsonTime(activity), jsonTime(ended)
		t.Sessions = []sessionJSON{}
		return t, err
	})
	if err != nil {
		return nil, err
	}
	rows, err = q.Query(ctx, `SELECT`+sessionColumns+`FROM argus.support_sessions
		WHERE state = 'live' AND ends_at > clock_timestamp() AND ($1 = '' OR tenant_id = $1) ORDER BY started_at, id`, id)
	if err != nil {
		return nil, err
	}
	sessions, err := pgx.CollectRows(rows, scanSession)
	if err != nil {
		return nil, err
	}
	place := make(map[string]int, len(tenants))
	for i := range tenants {
		place[tenants[i].ID] = i
	}
	for _, s := range sessions {
		if i, ok := place[s.TenantID]; ok {
			tenants[i].Sessions = append(tenants[i].Sessions, s)
		}
	}
	return tenants, nil
}

// findTenant returns one tenant; found is false when there is none of this id.
func findTenant(ctx context.Context, q querier, id string) (t tenantJSON, found bool, err error) {
	if id == "" || argus.Text(id, maxTenantID) != id {
		return t, false, nil // no id of a tenant, nor a text that Postgres takes
	}
	tenants, err := listTenants(ctx, q, id, true)
	if err != nil || len(tenants) == 0 {
		return t, false, err
	}
	return tenants[0], true, nil
}

const maxTenantID = 100

// lockTenant is findTenant for a transaction that is about to change the tenant.
func lockTenant(ctx context.Context, tx Tx, id string) (t tenantJSON, found bool, err error) {
	if argus.Text(id, maxTenantID) != id {
		return t, false, nil
	}
	if _, err := tx.Exec(ctx, `SELECT FROM argus.tenants WHERE id = $1 FOR NO KEY UPDATE`, id); err != nil {
		return t, false, err
	}
	return findTenant(ctx, tx, id)
}

// tenantArmed reads whether the tenant is armed, and keeps it from being disarmed until the transaction's end.
func tenantArmed(ctx context.Context, tx Tx, id string) (armed, found bool, err error) {
	if argus.Text(id, maxTenantID) != id {
		return false, false, nil
	}
	err = tx.QueryRow(ctx, `SELECT armed FROM argus.tenants WHERE id = $1 FOR SHARE`, id).Scan(&armed)
	if errors.Is(err, pgx.ErrNoRows) {
		return false, false, nil
	}
	return armed, err == nil, err
}

// armTenant arms the tenant. consented is false, and nothing changed, when the database's CHECK rejects it.
func armTenant(ctx context.Context, tx Tx, id, actor, reason string, audit uuid.UUID) (consented bool, err error) {
	err = pgx.BeginFunc(ctx, tx, func(savepoint pgx.Tx) error {
		_, err := savepoint.Exec(ctx, `
			UPDATE argus.tenants
			   SET armed = true, armed_at = clock_timestamp(), armed_by = $2, armed_reason = $3, armed_audit_id = $4
			 WHERE id = $1`, id, actor, reason, audit)
		return err
	})
	var rejected *pgconn.PgError
	if errors.As(err, &rejected) && rejected.Code == "23514" && rejected.ConstraintName == "tenant_consent_required" {
		return false, nil
	}
	return err == nil, err
}

func disarmTenant(ctx context.Context, tx Tx, id string) error {
	_, err := tx.Exec(ctx, `UPDATE argus.tenants SET armed = false, armed_at = NULL, armed_by = NULL, armed_reason = NULL,
		armed_audit_id = NULL WHERE id = $1`, id)
	return err
}

// takeFromBucket takes one token of the operator's bucket for the action. wait is zero when there was one, else the
// time until there is. Two calls of one operator take turns until the end of their transactions.
func takeFromBucket(ctx context.Context, tx Tx, actor, action string, burst, perMinute float64) (wait time.Duration, err error) {
	var tokens float64
	err = tx.QueryRow(ctx, `
		INSERT INTO argus.rate_limits AS l (actor_id, action, tokens, at) VALUES ($1, $2, $3, clock_timestamp())
		ON CONFLICT (actor_id, action) DO UPDATE
		   SET tokens = least($3, l.tokens + greatest(0, extract(epoch FROM clock_timestamp() - l.at)::float8) * $4 / 60),
		       at = clock_timestamp()
		RETURNING tokens`, actor, action, burst, perMinute).Scan(&tokens)
	if err != nil {
		return 0, err
	}
	if tokens < 1 {
		return time.Duration((1 - tokens) * float64(time.Minute) / perMinute), nil
	}
	_, err = tx.Exec(ctx, `UPDATE argus.rate_limits SET tokens = tokens - 1 WHERE actor_id = $1 AND action = $2`, actor, action)
	return 0, err
}

func insertSession(ctx context.Context, tx Tx, id uuid.UUID, tenant, actor string, minutes int, audit uuid.UUID) (sessionJSON, error) {
	return querySession(ctx, tx, `
		INSERT INTO argus.support_sessions (id, tenant_id, started_by, started_at, ends_at, audit_id)
		SELECT $1, $2, $3, t, t + make_interval(mins => $4), $5 FROM clock_timestamp() t
		RETURNING`+sessionColumns, id, tenant, actor, minutes, audit)
}

// lockSession returns a session of a tenant for a transaction that is about to end it.
func lockSession(ctx context.Context, tx Tx, tenant string, id uuid.UUID) (live, found bool, err error) {
	if argus.Text(tenant, maxTenantID) != tenant {
		return false, false, nil
	}
	s, err := querySession(ctx, tx, `SELECT`+sessionColumns+`FROM argus.support_sessions
		WHERE id = $1 AND tenant_id = $2 FOR UPDATE`, id, tenant)
	if errors.Is(err, pgx.ErrNoRows) {
		return false, false, nil
	}
	return s.State == "live", err == nil, err
}

func endSession(ctx context.Context, tx Tx, id uuid.UUID) (sessionJSON, error) {
	return querySession(ctx, tx, `
		UPDATE argus.support_sessions SET state = 'ended', ended_at = clock_timestamp(), end_reason = $2
		 WHERE id = $1 RETURNING`+sessionColumns, id, endedByOperator)
}

func querySession(ctx context.Context, tx Tx, sql string, args ...any) (sessionJSON, error) {
	rows, err := tx.Query(ctx, sql, args...)
	if err != nil {
		return sessionJSON{}, err
	}
	return pgx.CollectExactlyOneRow(rows, scanSession)
}

// endSessions ends every live session of a tenant that is being disarmed, those included whose time is up and
// whom the timer has not come round to.
func endSessions(ctx context.Context, tx Tx, tenant string) ([]uuid.UUID, error) {
	rows, err := tx.Query(ctx, `
		UPDATE argus.support_sessions SET state = 'ended', ended_at = clock_timestamp(), end_reason = $2
		 WHERE tenant_id = $1 AND state = 'live' RETURNING id`, tenant, endedByDisarm)
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, pgx.RowTo[uuid.UUID])
}

// dueSession is a session whose time was up.
type dueSession struct {
	ID       uuid.UUID
	TenantID string
	AuditID  uuid.UUID // the call that started it
}

// sessionsDue tells whether any session's time is up: most looks find none, and need no transaction.
func sessionsDue(ctx context.Context, pool *Pool) (due bool, err error) {
	ctx, cancel := context.WithTimeout(ctx, txTimeout)
	defer cancel()
	err = pool.QueryRow(ctx, "SELECT EXISTS (SELECT FROM argus.support_sessions WHERE state = 'live' AND ends_at <= clock_timestamp())").Scan(&due)
	return due, err
}

// endDueSessions ends sessions whose time is up; those that another process is ending are left to it.
func endDueSessions(ctx context.Context, tx Tx, limit int) ([]dueSession, error) {
	rows, err := tx.Query(ctx, `
		UPDATE argus.support_sessions s SET state = 'ended', ended_at = clock_timestamp(), end_reason = $2
		  FROM (SELECT id FROM argus.support_sessions WHERE state = 'live' AND ends_at <= clock_timestamp()
		         ORDER BY ends_at LIMIT $1 FOR UPDATE SKIP LOCKED) due
		 WHERE s.id = due.id
		RETURNING s.id, s.tenant_id, s.audit_id`, limit, endedByTimer)
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, pgx.RowToStructByPos[dueSession])
}

func seedTenant(ctx context.Context, pool *Pool, t demoTenant) error {
	_, err := pool.Exec(ctx, `
		INSERT INTO argus.tenants (id, name, agents, last_activity)
		SELECT $1, $2, $3, clock_timestamp() - make_interval(secs => $4) ON CONFLICT (id) DO NOTHING`,
		t.id, t.name, t.agents, t.idle.Seconds())
	if err != nil || t.document == "" {
		return err
	}
	_, err = pool.Exec(ctx, `
		INSERT INTO argus.tenant_consents (tenant_id, document_id, recorded_at, recorded_by)
		SELECT $1, $2, clock_timestamp() - interval '90 days', 'argusd dev' ON CONFLICT DO NOTHING`, t.id, t.document)
	return err
}
