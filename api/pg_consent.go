package api

import (
	"context"
	"errors"
	"os"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/useargus/argus"
)

// Consent is a tenant's signed consent document, as it was recorded.
type Consent struct {
	TenantID    string
	DocumentID  string // as argus.ConsentDocumentID keeps it
	RecordedAt  time.Time
	RecordedBy  string // who is said to have recorded it
	Login       string // the database login that did
	Host        string
	WithdrawnAt time.Time // zero: not withdrawn
	WithdrawnBy string
	Effective   bool // the document that counts now
}

// RecordConsent records a tenant's signed document: from then on it is the tenant's consent, in place of the one
// before. by is who does it; conn is the role argus_consent's. An id counts once: recording it again, be it after its
// withdrawal, is CodeConflict; an unknown tenant is CodeNotFound. The database records it in argus.audit_admin by itself.
func RecordConsent(ctx context.Context, conn *pgx.Conn, tenant, document, by string) error {
	document, err := argus.ConsentDocumentID(document)
	if err != nil {
		return err
	}
	if by, err = claimedBy(by); err != nil {
		return err
	}
	return insertConsent(ctx, conn, tenant, document, by, nil)
}

// WithdrawConsent withdraws the tenant's consent and returns its document's id. An armed tenant is disarmed by that, and
// its live sessions end. document, when not empty, is the one that is expected. No consent on record is CodeNotFound,
// another document CodeConflict.
func WithdrawConsent(ctx context.Context, conn *pgx.Conn, tenant, document, by string) (string, error) {
	by, err := claimedBy(by)
	if err != nil {
		return "", err
	}
	if document != "" {
		if document, err = argus.ConsentDocumentID(document); err != nil {
			return "", err
		}
	}
	var effective *string
	err = conn.QueryRow(ctx, `SELECT consent_document_id FROM argus.tenants WHERE id = $1`, argus.Text(tenant, 200)).Scan(&effective)
	switch {
	case errors.Is(err, pgx.ErrNoRows):
		return "", argus.Errorf(argus.CodeNotFound, "There is no tenant %q.", argus.Text(tenant, 64))
	case err != nil:
		return "", err
	case effective == nil:
		return "", argus.Errorf(argus.CodeNotFound, "Tenant %s has no consent on record, so there is none to withdraw.", tenant)
	case document != "" && document != *effective:
		return "", argus.Errorf(argus.CodeConflict, "The consent of tenant %s is document %s, not %s.", tenant, *effective, document)
	}
	host, _ := os.Hostname()
	_, err = conn.Exec(ctx, `INSERT INTO argus.tenant_consent_withdrawals (tenant_id, document_id, withdrawn_by, host) VALUES ($1, $2, $3, $4)`,
		tenant, *effective, by, argus.Text(host, 200))
	switch violated(err) {
	case "tenant_consent_withdrawals_pkey", "consent_is_effective":
		return "", argus.Errorf(argus.CodeConflict, "The consent of tenant %s changed meanwhile. List it and decide again.", tenant)
	}
	return *effective, err
}

// claimedBy is who is said to do something on the host.
func claimedBy(by string) (string, error) { return argus.Given("name given with --by", by, 1, 200) }

// violated is the name of the constraint that an error is about, "" when it is about none.
func violated(err error) string {
	var pg *pgconn.PgError
	if errors.As(err, &pg) {
		return pg.ConstraintName
	}
	return ""
}

// ListConsents lists all documents that were recorded, those of one tenant when tenant is not empty: by tenant, the
// newest first.
func ListConsents(ctx context.Context, conn *pgx.Conn, tenant string) ([]Consent, error) {
	rows, err := conn.Query(ctx, `
		SELECT c.tenant_id, c.document_id, c.recorded_at, c.recorded_by, c.login, c.host, w.withdrawn_at, coalesce(w.withdrawn_by, ''),
		       coalesce(t.consent AND t.consent_document_id = c.document_id, false)
		  FROM argus.tenant_consents c JOIN argus.tenants t ON t.id = c.tenant_id
		  LEFT JOIN argus.tenant_consent_withdrawals w USING (tenant_id, document_id)
		 WHERE $1 = '' OR c.tenant_id = $1 ORDER BY c.tenant_id, c.recorded_at DESC`, argus.Text(tenant, 200))
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, func(row pgx.CollectableRow) (Consent, error) {
		var c Consent
		var withdrawn *time.Time
		err := row.Scan(&c.TenantID, &c.DocumentID, &c.RecordedAt, &c.RecordedBy, &c.Login, &c.Host, &withdrawn, &c.WithdrawnBy, &c.Effective)
		if withdrawn != nil {
			c.WithdrawnAt = *withdrawn
		}
		return c, err
	})
}
