package api

import (
	"context"
	"errors"
	"os"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/useargus/argus"
	"github.com/useargus/argus/connect"
)

// insertTenant adds a tenant; added is false when one of this id is there, also a retired one.
func insertTenant(ctx context.Context, tx Tx, id, name string) (added bool, err error) {
	tag, err := tx.Exec(ctx, `INSERT INTO argus.tenants (id, name) VALUES ($1, $2) ON CONFLICT (id) DO NOTHING`, id, name)
	return err == nil && tag.RowsAffected() == 1, err
}

// changeTenant sets what is told of a tenant, and brings it back when it is retired.
func changeTenant(ctx context.Context, tx Tx, id, name string, agents int) error {
	_, err := tx.Exec(ctx, `UPDATE argus.tenants SET name = $2, agents = $3,
		retired = false, retired_at = NULL, retired_by = NULL, retired_reason = NULL WHERE id = $1`, id, name, agents)
	return err
}

func retireTenant(ctx context.Context, tx Tx, id, actor, reason string) error {
	_, err := tx.Exec(ctx, `UPDATE argus.tenants
		SET retired = true, retired_at = clock_timestamp(), retired_by = $2, retired_reason = $3 WHERE id = $1`, id, actor, reason)
	return err
}

// tenantNames gives the names of all tenants by their ids.
func tenantNames(ctx context.Context, pool *Pool) (map[string]string, error) {
	ctx, cancel := context.WithTimeout(ctx, lookupTimeout)
	defer cancel()
	names := map[string]string{}
	rows, err := pool.Query(ctx, "SELECT id, name FROM argus.tenants")
	if err != nil {
		return nil, err
	}
	var id, name string
	_, err = pgx.ForEachRow(rows, []any{&id, &name}, func() error { names[id] = name; return nil })
	return names, err
}

// openIDPeople gives the ids of those who signed in at an issuer of OpenID Connect.
func openIDPeople(ctx context.Context, pool *Pool) ([]string, error) {
	ctx, cancel := context.WithTimeout(ctx, lookupTimeout)
	defer cancel()
	rows, err := pool.Query(ctx, "SELECT actor_id FROM argus.openid_people ORDER BY shown_at DESC LIMIT 1000")
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, pgx.RowTo[string])
}

// consentTimeout bounds the recording of a consent, the connection included.
const consentTimeout = 5 * time.Second

// recordConsentOfCall records a consent under the call that asked for it, on a connection of its own as argus_consent.
// CodeAuditUnconfirmed says that it is not known whether it was recorded.
func recordConsentOfCall(ctx context.Context, url, tenant, document, by string, audit uuid.UUID) error {
	ctx, cancel := context.WithTimeout(ctx, consentTimeout)
	defer cancel()
	config, err := connect.Postgres(url, "argus-api-consent")
	if err != nil {
		return err
	}
	conn, err := connect.Open(ctx, config)
	if err != nil {
		return err
	}
	defer conn.Close(context.WithoutCancel(ctx))
	err = insertConsent(ctx, conn, tenant, document, by, &audit)
	var rejected *pgconn.PgError
	var known *argus.Error
	if err != nil && !errors.As(err, &rejected) && !errors.As(err, &known) && !pgconn.SafeToRetry(err) {
		return doubtful(err) // it was sent
	}
	return err
}

// insertConsent records a document as the tenant's consent. document and by are as they are kept.
func insertConsent(ctx context.Context, conn *pgx.Conn, tenant, document, by string, audit *uuid.UUID) error {
	host, _ := os.Hostname() // for information
	_, err := conn.Exec(ctx, `INSERT INTO argus.tenant_consents (tenant_id, document_id, recorded_by, host, audit_id) VALUES ($1, $2, $3, $4, $5)`,
		argus.Text(tenant, 200), document, by, argus.Text(host, 200), audit)
	switch violated(err) {
	case "tenant_consents_tenant_id_fkey":
		return argus.Errorf(argus.CodeNotFound, "There is no tenant %q.", argus.Text(tenant, 64))
	case "tenant_consents_pkey":
		return argus.Errorf(argus.CodeConflict, "Document %s was recorded for tenant %s before. An id counts once: record the new document under an id of its own.", document, tenant)
	case "retired_gives_no_consent":
		return argus.Errorf(argus.CodeConflict, "Tenant %s is retired. Bring it back first, with reinstate.", tenant)
	case "consent_by_another":
		return argus.Errorf(argus.CodeConflict, "%s armed tenant %s. So another person must record its consent, or disarm it first.", by, tenant)
	}
	return err
}

// abandonedConsents are the calls that asked for a consent and are over without an end of it: their process died, or lost
// the answer. A consent takes its call's step "succeeded" with it, so none was recorded. After the step that is written here
// none can be, since a consent wants "requested" to be the last step. since bounds the search, by the time in the ids.
func endAbandonedConsents(ctx context.Context, tx Tx, since uuid.UUID) error {
	rows, err := tx.Query(ctx, `
		SELECT audit_id FROM argus.remote_support_audit s
		 WHERE audit_id >= $1 AND action = 'consent' AND result = 'requested'
		   AND NOT EXISTS (SELECT FROM argus.remote_support_audit later WHERE later.audit_id = s.audit_id AND later.step > s.step)
		   AND NOT EXISTS (SELECT FROM argus.audit_intents i WHERE i.id = s.audit_id) ORDER BY audit_id LIMIT $2`, since, expireBatch)
	if err != nil {
		return err
	}
	calls, err := pgx.CollectRows(rows, pgx.RowTo[uuid.UUID])
	if err != nil {
		return err
	}
	for _, call := range calls {
		var batch pgx.Batch
		batch.Queue(lockSteps, call.String())
		batch.Queue(`
			INSERT INTO argus.remote_support_audit (audit_id, step, at, actor_id, action, tenant_id, reason, result, error)
			SELECT audit_id, step + 1, clock_timestamp(), $2, action, tenant_id, reason, $3, 'the call was interrupted before the consent was recorded'
			  FROM argus.remote_support_audit
			 WHERE audit_id = $1 AND result = $4 AND step = (SELECT max(step) FROM argus.remote_support_audit WHERE audit_id = $1)`,
			call, systemActor, resultFailed, resultRequested)
		if err := tx.SendBatch(ctx, &batch).Close(); err != nil {
			return err
		}
	}
	return nil
}
