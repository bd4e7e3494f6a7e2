package check

import (
	"bytes"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/useargus/argus"
	"github.com/useargus/argus/api/credential"
	"github.com/useargus/argus/internal/localissuer"
)

// TestIssuers: each mistake at an issuer is named by the check that is for it. The check explains a token as the API judges
// it, and does not repeat the token.
func TestIssuers(t *testing.T) {
	var people, ci *localissuer.OpenID
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if strings.HasPrefix(r.URL.Path, "/people") {
			people.ServeHTTP(w, r)
			return
		}
		ci.ServeHTTP(w, r)
	}))
	defer server.Close()
	var err error
	if people, err = localissuer.NewOpenID(localissuer.OpenIDConfig{URL: server.URL + "/people", Audience: "argus", ClientID: "console",
		People: []localissuer.Identity{{Subject: "1", Groups: []string{"sre"}}, {Subject: "2"}}}); err != nil {
		t.Fatal(err)
	}
	if ci, err = localissuer.NewOpenID(localissuer.OpenIDConfig{URL: server.URL + "/ci", Audience: "argus"}); err != nil {
		t.Fatal(err)
	}
	all := []credential.Issuer{
		{Name: "okta", Issuer: server.URL + "/people", Audience: "argus", Kind: credential.People, SignIn: &credential.SignIn{ClientID: "console"},
			Claims: credential.ClaimNames{Subject: "sub", Name: "name", Email: "email", Groups: "groups"}, Scopes: map[string][]argus.Scope{"sre": {argus.ScopeLogsRead}}},
		{Name: "github", Issuer: server.URL + "/ci", Audience: "argus", Kind: credential.Workloads, Keep: []string{"run_id"}, Rules: []credential.Rule{
			{When: map[string]string{"repository": "acme/fleet", "ref": "refs/heads/main"}, Actor: "deploy-bot", Scopes: []argus.Scope{argus.ScopeComputeWrite}},
			{When: map[string]string{"repository": "acme/*"}, Actor: "ci", Scopes: []argus.Scope{argus.ScopeLogsRead}}}},
	}
	job := func(repository, ref string) string {
		return ci.Token("x", func(c localissuer.Claims) { c["repository"], c["ref"], c["run_id"] = repository, ref, "4711" })
	}
	foreign, _ := localissuer.NewOpenID(localissuer.OpenIDConfig{URL: server.URL + "/people", Audience: "argus"})
	for name, c := range map[string]struct {
		edit   func()
		token  string
		ahead  time.Duration
		failed int
		says   []string
	}{
		"all well": {says: []string{"ok    issuer okta: discovery", "ok    issuer okta: 1 key", "ok    issuer okta: clock", "ok    issuer okta: sign-in", "ok    issuer github: discovery"}},
		"another issuer": {edit: func() { all[0].Issuer += "/" }, failed: 1, says: []string{"FAIL  issuer okta: discovery",
			"describes itself as the issuer \"" + server.URL + "/people\"", "to the letter"}},
		"not there":            {edit: func() { all[0].Issuer = "http://127.0.0.1:1" }, failed: 1, says: []string{"FAIL  issuer okta: discovery", "see that this machine reaches http://127.0.0.1:1/"}},
		"no sign-in there":     {edit: func() { all[1].SignIn = &credential.SignIn{ClientID: "x"} }, failed: 1, says: []string{"FAIL  issuer github: sign-in", "offers no device grant"}},
		"this machine's clock": {ahead: time.Minute, failed: 2, says: []string{"FAIL  issuer okta: clock", "run NTP"}},

		"a person":             {token: people.Token("1"), says: []string{"ok    token of okta: oidc_session okta:1\n      scopes: logs:read"}},
		"a person of no group": {token: people.Token("2"), failed: 1, says: []string{"FAIL  token of okta: oidc_session okta:2", "it has no scope"}},
		"a job":                {token: job("acme/fleet", "refs/heads/main"), says: []string{"note  rule 1 matches", "workload github:deploy-bot", "run_id = 4711", "scopes: compute:write"}},
		"the second rule": {token: job("acme/fleet", "refs/heads/x"), says: []string{
			`rule 1 (deploy-bot) does not match: the claim ref is "refs/heads/x", not "refs/heads/main"`, "note  rule 2 matches", "github:ci"}},
		"no rule":          {token: job("evil/fleet", "refs/heads/main"), failed: 1, says: []string{`the claim repository is "evil/fleet", not "acme/*"`, "FAIL  token of github: claims that no rule has so: repository"}},
		"another audience": {token: people.Token("1", func(c localissuer.Claims) { c["aud"] = "x" }), failed: 1, says: []string{"FAIL  token of okta: for another audience (aud)"}},
		"expired":          {token: people.Token("1", func(c localissuer.Claims) { c["exp"] = 1 }), failed: 1, says: []string{"it has expired (exp)"}},
		"another's key":    {token: foreign.Token("1"), failed: 1, says: []string{"signed with the unknown key"}},
		"a stranger's":     {token: people.Token("1", func(c localissuer.Claims) { c["iss"] = "https://x.example.com" }), failed: 1, says: []string{`no issuer is configured for its iss "https://x.example.com"`}},
		"no JWT":           {token: "hello", failed: 1, says: []string{"FAIL  token"}},
	} {
		t.Run(name, func(t *testing.T) {
			before := append([]credential.Issuer(nil), all...)
			defer func() { all = before }()
			if c.edit != nil {
				c.edit()
			}
			var out bytes.Buffer
			r := &Report{Out: &out, now: func() time.Time { return time.Now().Add(c.ahead) }}
			Issuers{All: all, Token: c.token}.check(t.Context(), r)
			for _, s := range c.says {
				if !strings.Contains(out.String(), s) {
					t.Errorf("does not say %q:\n%s", s, out.String())
				}
			}
			if r.Failed != c.failed || strings.Contains(out.String(), "eyJ") {
				t.Errorf("%d failed, want %d:\n%s", r.Failed, c.failed, out.String())
			}
		})
	}
}
