package main

import (
	"bytes"
	"context"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/useargus/argus"
	"github.com/useargus/argus/api/credential"
	"github.com/useargus/argus/internal/engines/enginetest"
)

// TestTokensOnHost: while no API runs, tokens are listed, identified and ended on the host, by a role that can neither
// mint one nor read a digest.
func TestTokensOnHost(t *testing.T) {
	pg := enginetest.NewPostgres(t)
	t.Setenv("ARGUS_POSTGRES_URL", pg.BreakGlassURL)
	t.Setenv("SUDO_USER", "mira")
	run := func(stdin string, args ...string) (string, error) {
		t.Helper()
		command := newTokenCommand()
		var out bytes.Buffer
		command.SetArgs(args)
		command.SetIn(strings.NewReader(stdin))
		command.SetOut(&out)
		command.SetErr(&out)
		command.SilenceUsage, command.SilenceErrors = true, true
		err := command.ExecuteContext(t.Context())
		return out.String(), err
	}
	ok := func(stdin string, args ...string) string {
		t.Helper()
		out, err := run(stdin, args...)
		if err != nil {
			t.Fatalf("argusd token %v: %v", args, err)
		}
		return out
	}
	pool := pg.Pool(t, pg.APIURL)
	issue := func(owner, name string) (credential.Token, string) {
		t.Helper()
		token, secret, err := credential.IssueToken(t.Context(), pool, credential.NewToken{ActorID: owner, Name: name, Scopes: argus.AllScopes()})
		if err != nil {
			t.Fatal(err)
		}
		return token, secret
	}
	ada, adas := issue("user_2ada", "ci")
	_, second := issue("user_2ada", "laptop")
	issue("user_2grace", "night shift")

	if out := ok("", "list", "--live"); strings.Count(out, "\n") != 4 || !strings.Contains(out, `"night shift"`) {
		t.Errorf("list: %s", out)
	}
	if out := ok("", "list", "--owner", "user_2ada"); strings.Count(out, "\n") != 3 {
		t.Errorf("list --owner: %s", out)
	}
	if out := ok("", "list", "--unused-since", "1d"); strings.Count(out, "\n") != 1 {
		t.Errorf("list --unused-since: %s", out)
	}
	if out := ok(" "+adas+"\n", "identify"); !strings.Contains(out, ada.ID.String()) || strings.Contains(out, adas[12:40]) {
		t.Errorf("identify: %s", out)
	}
	glass, err := pgx.Connect(t.Context(), pg.BreakGlassURL)
	if err != nil {
		t.Fatal(err)
	}
	defer glass.Close(context.Background())
	_, glassSecret, err := credential.IssueBreakGlass(t.Context(), glass, credential.NewBreakGlass{ActorID: "user_2ada", Reason: "Clerk is down", By: "mira", TTL: time.Hour})
	if err != nil {
		t.Fatal(err)
	}
	if out := ok(glassSecret, "identify"); !strings.Contains(out, "break_glass") {
		t.Errorf("identify: %s", out)
	}
	if out := ok(glassSecret, "revoke", "--secret", "-"); !strings.Contains(out, "break_glass") {
		t.Errorf("revoke --secret: %s", out)
	}
	if out := ok("", "revoke", ada.ID.String()); !strings.Contains(out, "as mira") || !strings.Contains(out, "(claimed)") || !strings.Contains(out, `"ci"`) {
		t.Errorf("revoke: %s", out)
	}
	if out := ok(second, "revoke", "--secret", "-", "--by", "grace"); !strings.Contains(out, `"laptop"`) || !strings.Contains(out, "as grace (claimed)") {
		t.Errorf("revoke --secret: %s", out)
	}
	if out := ok("", "revoke", "--owner", "user_2grace"); !strings.Contains(out, `"night shift"`) {
		t.Errorf("revoke --owner: %s", out)
	}
	if out := ok("", "list", "--live"); strings.Count(out, "\n") != 1 {
		t.Errorf("after all were revoked: %s", out)
	}
	if out := ok("", "revoke", "--owner", "user_2grace"); !strings.Contains(out, "Nothing was left") {
		t.Errorf("again: %s", out)
	}
	var entries int
	if err := pg.Pool(t, pg.AuditorURL).QueryRow(t.Context(), `SELECT count(*) FROM argus.audit_admin WHERE kind = 'token_revoked'
		AND actor = $1 AND detail ->> 'by' LIKE '% (claimed)' AND detail -> 'audit_id' = 'null'`, glass.Config().User).Scan(&entries); err != nil || entries != 3 {
		t.Errorf("%d entries, %v", entries, err)
	}

	for _, c := range []struct {
		stdin string
		args  []string
	}{
		{"", []string{"revoke"}}, {"", []string{"revoke", "x"}}, {"", []string{"revoke", "01976d3e-7c2a-7b1e-9f00-0123456789ab"}},
		{"", []string{"revoke", ada.ID.String(), "--owner", "user_2ada"}}, {"", []string{"revoke", "--secret", adas}},
		{adas[:40], []string{"identify"}}, {argus.NewSecret(argus.PATPrefix), []string{"identify"}}, {"", []string{"revoke", adas}},
	} {
		if out, err := run(c.stdin, c.args...); err == nil || strings.Contains(out+err.Error(), adas[12:40]) {
			t.Errorf("argusd token %v: %s %v", c.args, out, err)
		}
	}
	for _, sql := range []string{
		"SELECT digest FROM argus.personal_access_tokens", "SELECT digest FROM argus.break_glass_tokens",
		"UPDATE argus.personal_access_tokens SET revoked_at = NULL, revoked_by = NULL", "DELETE FROM argus.personal_access_tokens",
		`INSERT INTO argus.personal_access_tokens (id, actor_id, name, digest, last_four, scopes, expires_at)
		 VALUES (gen_random_uuid(), 'user_2ada', 'x', sha256('x'), 'xxxx', '{logs:read}', now() + interval '1 day')`,
	} {
		if _, err := glass.Exec(t.Context(), sql); err == nil || !strings.Contains(err.Error(), "permission denied") {
			t.Errorf("argus_break_glass: %s: %v", sql, err)
		}
	}
}
