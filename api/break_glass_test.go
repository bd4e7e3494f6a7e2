package api

import (
	"context"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/useargus/argus"
	"github.com/useargus/argus/api/credential"
	"github.com/useargus/argus/internal/engines/enginetest"
	"github.com/useargus/argus/internal/localissuer"
)

// glassConn connects as the role argus_break_glass.
func (h *harness) glassConn() *pgx.Conn {
	h.t.Helper()
	conn, err := pgx.Connect(context.Background(), h.pg.BreakGlassURL)
	h.must(err)
	h.t.Cleanup(func() { conn.Close(context.Background()) })
	return conn
}

func (h *harness) breakGlass(scopes ...argus.Scope) string {
	h.t.Helper()
	_, secret, err := credential.IssueBreakGlass(context.Background(), h.glassConn(), credential.NewBreakGlass{ActorID: "user_2ada", By: "grace@ops1", Reason: "Clerk is down", Scopes: scopes})
	h.must(err)
	return secret
}

// foreign is another Clerk instance.
func (h *harness) foreign() *localissuer.Issuer {
	h.t.Helper()
	other, err := localissuer.New(localissuer.Config{URL: h.clerk.Issuer, SecretKey: "x", Organization: testOrganization,
		Consoles: []string{testConsole}, Operators: testOperators})
	h.must(err)
	return other
}

func TestBreakGlass(t *testing.T) {
	h := newHarness(t)
	ctx := t.Context()
	conn := h.glassConn()
	issued, secret, err := credential.IssueBreakGlass(ctx, conn, credential.NewBreakGlass{ActorID: "user_2ada", By: "grace@ops1", Reason: "Clerk is down"})
	h.must(err)
	if argus.PresetOf(issued.Scopes) != argus.PresetSupportReadonly || issued.IssuedBy != "argus_break_glass" ||
		issued.ExpiresAt.Sub(issued.IssuedAt).Round(time.Second) != credential.DefaultBreakGlassLifetime {
		t.Errorf("issued %+v", issued)
	}
	h.issuer.SetDown(true) // never asked
	resp := h.do(secret, http.MethodGet, "/v1/audit-log", nil)
	row := h.row()
	if resp.status != 200 || row.ActorKind != argus.KindBreakGlass || row.BreakGlassID != issued.ID || row.ActorID != "user_2ada" || row.PATID != uuid.Nil {
		t.Errorf("%d, row %+v", resp.status, row)
	}
	if logs := h.logs.String(); !strings.Contains(logs, "break-glass call") || strings.Contains(logs, secret) {
		t.Error("a break-glass call must be loud, and must not log its secret")
	}
	// It may not make tokens, with any scopes.
	_, full, err := credential.IssueBreakGlass(ctx, conn, credential.NewBreakGlass{ActorID: "user_2ada", By: "grace@ops1", Reason: "Clerk is down", Scopes: argus.AllScopes(), TTL: credential.MaxBreakGlassLifetime})
	h.must(err)
	if resp := h.do(full, http.MethodPost, "/v1/tokens", map[string]any{"name": "x", "preset": "admin-full"}); resp.status != 403 {
		t.Errorf("a token made by break-glass: %d %s", resp.status, resp.body)
	}
	h.row()

	h.must(credential.RevokeBreakGlass(ctx, conn, issued.ID, "grace@ops1"))
	h.must(credential.RevokeBreakGlass(ctx, conn, issued.ID, "grace@ops1")) // again changes nothing
	eventually(t, "the revocation is heard", func() bool { return h.do(secret, http.MethodGet, "/v1/audit-log", nil).status == 401 })
	if err := credential.RevokeBreakGlass(ctx, conn, uuid.New(), "grace@ops1"); argus.CodeOf(err) != argus.CodeNotFound {
		t.Errorf("revoking nothing: %v", err)
	}
	list, err := credential.ListBreakGlass(ctx, conn, time.Now().Add(-time.Hour))
	h.must(err)
	if len(list) != 2 || list[1].ID != issued.ID || list[1].RevokedAt.IsZero() || !list[0].RevokedAt.IsZero() {
		t.Errorf("list %+v", list)
	}
	// Every issue and revocation is on record, once.
	if list[1].ClaimedBy != "grace@ops1" || list[1].IssuedBy != "argus_break_glass" {
		t.Errorf("issued by %q, claimed by %q", list[1].IssuedBy, list[1].ClaimedBy)
	}
	var made, ended int
	h.must(h.pool.QueryRow(ctx, `SELECT count(*) FILTER (WHERE kind = 'break_glass_issued' AND detail->>'reason' = 'Clerk is down'),
		count(*) FILTER (WHERE kind = 'break_glass_revoked') FROM argus.audit_admin`).Scan(&made, &ended))
	if made != 2 || ended != 1 {
		t.Errorf("%d issued and %d revoked on record", made, ended)
	}
	for name, n := range map[string]credential.NewBreakGlass{
		"no reason":   {ActorID: "user_2ada"},
		"short":       {ActorID: "user_2ada", Reason: "xx"},
		"too long":    {ActorID: "user_2ada", Reason: "Clerk is down", TTL: credential.MaxBreakGlassLifetime + time.Second},
		"no user":     {ActorID: "ada", Reason: "Clerk is down"},
		"odd scopes":  {ActorID: "user_2ada", Reason: "Clerk is down", Scopes: []argus.Scope{"root"}},
		"no scopes":   {ActorID: "user_2ada", Reason: "Clerk is down", Scopes: []argus.Scope{}},
		"NUL":         {ActorID: "user_2ada", Reason: "Clerk\x00down"},
		"long reason": {ActorID: "user_2ada", Reason: strings.Repeat("x", 501)},
		"no claim":    {ActorID: "user_2ada", Reason: "Clerk is down"},
		"blank":       {ActorID: "user_2ada", Reason: "Clerk is down", By: " "},
		"two lines":   {ActorID: "user_2ada", Reason: "Clerk is down", By: "grace\nada"},
		"long name":   {ActorID: "user_2ada", Reason: "Clerk is down", By: strings.Repeat("x", 201)},
	} {
		if _, _, err := credential.IssueBreakGlass(ctx, conn, n); argus.CodeOf(err) != argus.CodeInvalidParameter {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestBreakGlassRole: the role can issue, list and revoke, and nothing else.
func TestBreakGlassRole(t *testing.T) {
	h := newHarnessWith(t, enginetest.NewPostgres(t))
	conn := h.glassConn()
	_, _, err := credential.IssueBreakGlass(t.Context(), conn, credential.NewBreakGlass{ActorID: "user_2ada", By: "grace@ops1", Reason: "Clerk is down"})
	h.must(err)
	for _, sql := range []string{
		`SELECT digest FROM argus.break_glass_tokens`,
		`UPDATE argus.break_glass_tokens SET expires_at = now() + interval '1 day'`,
		`DELETE FROM argus.break_glass_tokens`,
		`TRUNCATE argus.break_glass_revocations`,
		`INSERT INTO argus.break_glass_tokens (id, actor_id, reason, digest, last_four, scopes, expires_at)
		 VALUES (gen_random_uuid(), 'user_x', 'because', sha256('x'), 'abcd', '{logs:read}', now() + interval '1 hour')`, // without a claim
		`INSERT INTO argus.break_glass_tokens (id, actor_id, reason, digest, last_four, scopes, claimed_by, issued_by, expires_at)
		 VALUES (gen_random_uuid(), 'user_x', 'because', sha256('x'), 'abcd', '{logs:read}', 'me', 'argus_api', now() + interval '1 hour')`,
		`INSERT INTO argus.break_glass_tokens (id, actor_id, reason, digest, last_four, scopes, claimed_by, issued_at, expires_at)
		 VALUES (gen_random_uuid(), 'user_x', 'because', sha256('x'), 'abcd', '{logs:read}', 'me', now() + interval '1 day', now() + interval '1 day')`,
		`INSERT INTO argus.break_glass_tokens (id, actor_id, reason, digest, last_four, scopes, claimed_by, expires_at)
		 VALUES (gen_random_uuid(), 'user_x', 'because', sha256('x'), 'abcd', '{logs:read}', 'me', now() + interval '5 hours')`,
		`SELECT * FROM argus.argus_audit_log`,
		`SELECT * FROM argus.personal_access_tokens`,
		`INSERT INTO argus.audit_admin (kind, detail) VALUES ('x', '{}')`,
		`SELECT argus.record_reading(gen_random_uuid(), true, true, '{}')`,
		`SELECT argus.drop_expired_months(365)`,
	} {
		if _, err := conn.Exec(t.Context(), sql); err == nil {
			t.Errorf("argus_break_glass could: %s", sql)
		}
	}
	// The API may read break-glass tokens and make none; the owner may not change them.
	owner := h.pg.Pool(t, h.pg.OwnerURL)
	for _, sql := range []string{
		`UPDATE argus.break_glass_tokens SET expires_at = expires_at + interval '1 hour'`,
		`DELETE FROM argus.break_glass_tokens`, `TRUNCATE argus.break_glass_tokens CASCADE`,
	} {
		if _, err := owner.Exec(t.Context(), sql); err == nil {
			t.Errorf("the owner could: %s", sql)
		}
	}
	for _, sql := range []string{
		`INSERT INTO argus.break_glass_tokens (id, actor_id, reason, digest, last_four, scopes, claimed_by, expires_at)
		 VALUES (gen_random_uuid(), 'user_x', 'because', sha256('x'), 'abcd', '{logs:read}', 'me', now() + interval '1 hour')`,
		`DELETE FROM argus.personal_access_tokens`,
		`UPDATE argus.personal_access_tokens SET scopes = '{logs:read}'`,
		`UPDATE argus.personal_access_tokens SET expires_at = now()`,
		`INSERT INTO argus.audit_admin (kind, detail) VALUES ('x', '{}')`,
	} {
		if _, err := h.pool.Exec(t.Context(), sql); err == nil {
			t.Errorf("argus_api could: %s", sql)
		}
	}
	// The auditor sees who holds tokens, never a digest.
	auditor := h.pg.Pool(t, h.pg.AuditorURL)
	for sql, allowed := range map[string]bool{
		`SELECT id, actor_id, last_four, scopes, expires_at FROM argus.personal_access_tokens`: true,
		`SELECT id, actor_id, reason, issued_by, host FROM argus.break_glass_tokens`:           true,
		`SELECT * FROM argus.break_glass_revocations`:                                          true,
		`SELECT digest FROM argus.personal_access_tokens`:                                      false,
		`SELECT digest FROM argus.break_glass_tokens`:                                          false,
	} {
		if _, err := auditor.Exec(t.Context(), sql); (err == nil) != allowed {
			t.Errorf("argus_auditor, %s: %v", sql, err)
		}
	}
}
