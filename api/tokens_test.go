package api

import (
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/useargus/argus"
	"github.com/useargus/argus/api/credential"
	"github.com/useargus/argus/internal/localissuer"
)

type madeToken struct {
	Token  credential.Token
	Secret string
}

func TestTokens(t *testing.T) {
	h := newHarness(t)
	ada := h.issuer.Token("user_2ada")
	var made madeToken
	for _, name := range []string{"", " \t", "\u200b\u200b", "\u3164", "a\u202eb", "a\x00b", "a\ufffdb", strings.Repeat("x", 101)} {
		got := h.do(ada, http.MethodPost, "/v1/tokens", map[string]any{"name": name, "preset": "support-readonly"})
		if got.status != http.StatusBadRequest || got.code() != argus.CodeInvalidParameter {
			t.Errorf("the name %+q: %d %s", name, got.status, got.body)
		}
		h.row()
	}
	resp := h.do(ada, http.MethodPost, "/v1/tokens", map[string]any{"name": " laptop ", "preset": "support-readonly", "expires_in": "30d"})
	resp.json(t, &made)
	h.row()
	if resp.status != 201 || made.Token.Name != "laptop" || *made.Token.Preset != "support-readonly" || len(made.Token.Scopes) != 3 ||
		made.Token.LastFour != argus.LastFour(made.Secret) || time.Time(made.Token.ExpiresAt).Sub(time.Time(made.Token.CreatedAt)) != 30*24*time.Hour {
		t.Fatalf("%d %s", resp.status, resp.body)
	}
	if _, _, ok := argus.ParseSecret(made.Secret); !ok {
		t.Errorf("secret %q", made.Secret)
	}
	if resp := h.do(made.Secret, http.MethodGet, "/v1/audit-log", nil); resp.status != 200 {
		t.Errorf("using it: %d", resp.status)
	}
	row := h.row()
	if row.PATID != made.Token.ID || row.ActorID != "user_2ada" {
		t.Errorf("row %+v", row)
	}
	// The list holds no secret, only the owner's own, and their last use soon.
	h.must(h.api.Close(t.Context())) // uses are written down at the end
	h.start()
	var list struct{ Tokens []credential.Token }
	resp = h.do(ada, http.MethodGet, "/v1/tokens", nil)
	resp.json(t, &list)
	if len(list.Tokens) != 1 || list.Tokens[0].ID != made.Token.ID || time.Time(list.Tokens[0].LastUsedAt).IsZero() || strings.Contains(string(resp.body), made.Secret[12:40]) {
		t.Errorf("%s", resp.body)
	}
	resp = h.do(h.issuer.Token("user_2grace"), http.MethodGet, "/v1/tokens", nil)
	if !strings.Contains(string(resp.body), `"tokens":[]`) {
		t.Errorf("another's list: %s", resp.body)
	}
	// No operator revokes another's.
	if resp := h.do(h.issuer.Token("user_2grace"), http.MethodDelete, "/v1/tokens/"+made.Token.ID.String(), nil); resp.status != 404 {
		t.Errorf("another's token: %d", resp.status)
	}
	h.audit.taken()
	// A token may revoke itself; its row is written, and then it is no more.
	resp = h.do(made.Secret, http.MethodDelete, "/v1/tokens/"+made.Token.ID.String(), nil)
	var revoked credential.Token
	resp.json(t, &revoked)
	if row := h.row(); resp.status != 200 || time.Time(revoked.RevokedAt).IsZero() || !h.audit.wasIntended(row.ID) {
		t.Errorf("%d %s", resp.status, resp.body)
	}
	h.expect("revoked", made.Secret, 401, argus.CodeUnauthenticated)
	if resp := h.do(ada, http.MethodDelete, "/v1/tokens/"+made.Token.ID.String(), nil); resp.status != 200 {
		t.Errorf("again: %d", resp.status)
	}
	h.audit.taken()
	// Only a digest is stored.
	var n int
	h.must(h.pool.QueryRow(t.Context(), `SELECT count(*) FROM argus.personal_access_tokens t WHERE t::text LIKE '%' || $1 || '%'`, made.Secret[10:30]).Scan(&n))
	if n != 0 {
		t.Error("the secret is in the database")
	}
}

// TestNoWidening: a token can do no more than what made it, than its owner, and lives no longer.
func TestNoWidening(t *testing.T) {
	h := newHarness(t)
	create := func(with string, body map[string]any) (*response, madeToken) {
		t.Helper()
		body["name"] = "child"
		resp := h.do(with, http.MethodPost, "/v1/tokens", body)
		var made madeToken
		if resp.status == 201 {
			resp.json(t, &made)
		}
		row := h.row()
		if (resp.status == 201) != h.audit.wasIntended(row.ID) {
			t.Errorf("%d, intended %t", resp.status, h.audit.wasIntended(row.ID))
		}
		return resp, made
	}
	short, shortSecret, err := credential.IssueToken(t.Context(), h.pool, credential.NewToken{ActorID: "user_2ada", Name: "short",
		Scopes: []argus.Scope{argus.ScopeTokensWrite, argus.ScopeLogsRead}, ExpiresIn: 24 * time.Hour})
	h.must(err)

	for name, c := range map[string]struct {
		with   string
		body   map[string]any
		status int
		code   argus.Code
	}{
		"wider than its parent":          {shortSecret, map[string]any{"scopes": []string{"logs:read", "compute:write"}}, 403, argus.CodeForbidden},
		"a preset wider than its parent": {shortSecret, map[string]any{"preset": "admin-full"}, 403, argus.CodeForbidden},
		"longer than its parent":         {shortSecret, map[string]any{"scopes": []string{"logs:read"}, "expires_in": "2d"}, 422, argus.CodeUnprocessable},
		"impersonated": {h.issuer.Token("user_2ada", func(c localissuer.Claims) { c["act"] = map[string]any{"sub": "user_2grace"} }),
			map[string]any{"scopes": []string{"logs:read"}}, 403, argus.CodeForbidden},
		"break-glass":       {h.breakGlass(argus.AllScopes()...), map[string]any{"scopes": []string{"logs:read"}}, 403, argus.CodeForbidden},
		"without the scope": {h.issuer.Token("user_2grace"), map[string]any{"scopes": []string{"logs:read"}}, 403, argus.CodeForbidden},
		// Grace's token was given more than she may do now.
		"owner's live rights": {h.token("user_2grace"), map[string]any{"scopes": []string{"logs:read"}}, 403, argus.CodeForbidden},
	} {
		resp, _ := create(c.with, c.body)
		if resp.status != c.status || resp.code() != c.code {
			t.Errorf("%s: %d %s", name, resp.status, resp.body)
		}
	}
	// Without a wish it ends with its parent, exactly.
	resp, child := create(shortSecret, map[string]any{"scopes": []string{"logs:read"}})
	if resp.status != 201 || !time.Time(child.Token.ExpiresAt).Equal(time.Time(short.ExpiresAt)) {
		t.Errorf("%d %s, parent ends %v", resp.status, resp.body, time.Time(short.ExpiresAt))
	}
	_, child = create(shortSecret, map[string]any{"scopes": []string{"tokens:write"}, "expires_in": "1h"})
	_, grandchild := create(child.Secret, map[string]any{"scopes": []string{"tokens:write"}})
	if !time.Time(grandchild.Token.ExpiresAt).Equal(time.Time(child.Token.ExpiresAt)) {
		t.Errorf("grandchild ends %v, child %v", time.Time(grandchild.Token.ExpiresAt), time.Time(child.Token.ExpiresAt))
	}
	// The default and the longest life of one made by a session.
	_, made := create(h.issuer.Token("user_2ada"), map[string]any{"preset": "admin-full"})
	if got := time.Time(made.Token.ExpiresAt).Sub(time.Time(made.Token.CreatedAt)); got != credential.DefaultTokenLifetime {
		t.Errorf("default %s", got)
	}
	if resp, _ := create(h.issuer.Token("user_2ada"), map[string]any{"preset": "admin-full", "expires_in": "365d"}); resp.status != 201 {
		t.Errorf("a year: %d", resp.status)
	}
	// A bound on how many there are.
	for range maxLiveTokens {
		h.token("user_2ada")
	}
	if resp, _ := create(h.issuer.Token("user_2ada"), map[string]any{"preset": "admin-full"}); resp.status != 422 {
		t.Errorf("too many: %d %s", resp.status, resp.body)
	}
}

// TestRepeatedCreation: a repeated creation makes no second token, and gives no secret twice.
func TestRepeatedCreation(t *testing.T) {
	h := newHarness(t)
	ada := h.token("user_2ada")
	body := map[string]any{"name": "once", "scopes": []string{"logs:read"}}
	first := h.do(ada, http.MethodPost, "/v1/tokens", body, "Idempotency-Key", "k1")
	again := h.do(ada, http.MethodPost, "/v1/tokens", body, "Idempotency-Key", "k1")
	if first.status != 201 || again.status != 409 || strings.Contains(string(again.body), "argus_pat_") {
		t.Errorf("%d, then %d %s", first.status, again.status, again.body)
	}
	var list struct{ Tokens []credential.Token }
	h.do(ada, http.MethodGet, "/v1/tokens", nil).json(t, &list)
	if n := len(slices.DeleteFunc(list.Tokens, func(t credential.Token) bool { return t.Name != "once" })); n != 1 {
		t.Errorf("%d tokens", n)
	}
	if rows := h.audit.taken(); len(rows) != 3 {
		t.Errorf("%d rows", len(rows))
	}
	var kept string
	h.must(h.pool.QueryRow(t.Context(), `SELECT coalesce(string_agg(k::text, ' '), '') FROM argus.idempotency_keys k`).Scan(&kept))
	if strings.Contains(kept, "argus_pat_") {
		t.Error("a secret was kept for repetitions")
	}
}

// TestRevocationEverywhere: a token revoked at one API is soon not taken by another, though that one remembers it for longer.
func TestRevocationEverywhere(t *testing.T) {
	h := newHarness(t)
	first := h.url
	h.start()
	second := h.url
	h.listening()
	made, secret, err := credential.IssueToken(t.Context(), h.pool, credential.NewToken{ActorID: "user_2ada", Name: "x", Scopes: argus.AllScopes()})
	h.must(err)
	admin := h.token("user_2ada")
	h.url = second
	eventually(t, "the second API remembers the token", func() bool {
		h.do(secret, http.MethodGet, "/v1/operators/me", nil)
		return h.remembers(secret)
	})
	h.url = first
	if resp := h.do(admin, http.MethodDelete, "/v1/tokens/"+made.ID.String(), nil); resp.status != 200 {
		t.Fatalf("%d %s", resp.status, resp.body)
	}
	if resp := h.do(secret, http.MethodGet, "/v1/operators/me", nil); resp.status != 401 {
		t.Errorf("the first API still takes it: %d", resp.status)
	}
	h.url = second
	eventually(t, "the second API does not take it", func() bool { return h.do(secret, http.MethodGet, "/v1/operators/me", nil).status == 401 })
	// An owner who revokes by plain SQL is heard too.
	other, secret2, err := credential.IssueToken(t.Context(), h.pool, credential.NewToken{ActorID: "user_2ada", Name: "x", Scopes: argus.AllScopes()})
	h.must(err)
	h.answers(secret2, 200)
	dba := h.pg.Pool(t, h.pg.OwnerURL)
	_, err = dba.Exec(t.Context(), `UPDATE argus.personal_access_tokens SET revoked_at = now(), revoked_by = 'dba' WHERE id = $1`, other.ID)
	h.must(err)
	eventually(t, "it is not taken", func() bool { return h.do(secret2, http.MethodGet, "/v1/operators/me", nil).status == 401 })
	// And stays revoked.
	if _, err := dba.Exec(t.Context(), `UPDATE argus.personal_access_tokens SET revoked_at = NULL, revoked_by = NULL WHERE id = $1`, other.ID); err == nil {
		t.Error("a revocation was taken back")
	}
}

// remembers reports whether the API takes a token while no lookup is possible.
func (h *harness) remembers(secret string) bool {
	h.t.Helper()
	tx, err := h.pg.Pool(h.t, h.pg.OwnerURL).Begin(h.t.Context())
	h.must(err)
	defer func() { h.must(tx.Rollback(h.t.Context())) }()
	_, err = tx.Exec(h.t.Context(), "LOCK TABLE argus.personal_access_tokens IN ACCESS EXCLUSIVE MODE")
	h.must(err)
	return h.do(secret, http.MethodGet, "/v1/operators/me", nil).status == 200
}

func (h *harness) answers(token string, status int) {
	h.t.Helper()
	if resp := h.do(token, http.MethodGet, "/v1/operators/me", nil); resp.status != status {
		h.t.Fatalf("%d %s, want %d", resp.status, resp.body, status)
	}
}
