package api

import (
	"fmt"
	"net/http"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/useargus/argus"
	"github.com/useargus/argus/internal/localissuer"
)

// age makes everything that is known of Clerk older by d.
func (h *harness) age(d time.Duration) { h.aged.Add(int64(d)) }

// Ages at which Clerk is asked again (api/credential).
const (
	ownerMaxAge  = time.Minute
	personMaxAge = 10 * time.Minute
	keysRefresh  = 5 * time.Minute
	keysMaxAge   = 10 * time.Minute
	keysPause    = 10 * time.Second
)

// pauses is how often an issuer may be asked again since then: on a slow machine calls that are made at once take long.
func pauses(begun time.Time) int { return int(time.Since(begun) / keysPause) }

// expect makes a call and checks its status and code; a row must be there unless the call is unauthenticated.
func (h *harness) expect(what, token string, status int, code argus.Code) {
	h.t.Helper()
	got := h.do(token, http.MethodGet, "/v1/operators/me", nil)
	if got.status != status || got.code() != code {
		h.t.Fatalf("%s: %d %s, want %d %s\n%s", what, got.status, got.code(), status, code, got.body)
	}
	if status == 200 {
		h.row()
	} else {
		h.noRow()
	}
}

func TestSessionRights(t *testing.T) {
	h := newHarness(t)
	who := func(token string) (me struct {
		ActorID        string        `json:"actor_id"`
		ActorKind      string        `json:"actor_kind"`
		ImpersonatorID *string       `json:"impersonator_id"`
		Name, Email    *string       `json:",omitempty"`
		Preset         *string       `json:"preset"`
		Scopes         []argus.Scope `json:"scopes"`
	}) {
		t.Helper()
		resp := h.do(token, http.MethodGet, "/v1/operators/me", nil)
		if resp.status != 200 {
			t.Fatalf("%d %s", resp.status, resp.body)
		}
		resp.json(t, &me)
		return me
	}
	support, _ := argus.PresetScopes(argus.PresetSupportReadonly)

	if me := who(h.issuer.Token("user_2ada")); len(me.Scopes) != len(argus.AllScopes()) || *me.Preset != "admin-full" ||
		*me.Name != "Ada Okafor" || *me.Email != "ada@example.test" || me.ImpersonatorID != nil {
		t.Errorf("admin: %+v", me)
	}
	if me := who(h.issuer.Token("user_2grace")); !slices.Equal(me.Scopes, support) || *me.Preset != "support-readonly" {
		t.Errorf("member: %+v", me)
	}
	// A role without a mapping gives nothing, and still is a credential.
	if me := who(h.issuer.Token("user_2ada", func(c localissuer.Claims) { c["org_role"] = "org:guest" })); len(me.Scopes) != 0 || me.Preset != nil {
		t.Errorf("unmapped role: %+v", me)
	}
	// The newer form of the organization's claims.
	if me := who(h.issuer.Token("user_2ada", func(c localissuer.Claims) {
		delete(c, "org_id")
		delete(c, "org_role")
		c["v"], c["o"] = 2, map[string]any{"id": testOrganization, "rol": "member", "slg": "argus"}
	})); !slices.Equal(me.Scopes, support) {
		t.Errorf("v2 claims: %+v", me)
	}
	h.audit.taken()
	// Impersonation: both are recorded.
	me := who(h.issuer.Token("user_2grace", func(c localissuer.Claims) { c["act"] = map[string]any{"sub": "user_2ada"} }))
	if me.ImpersonatorID == nil || *me.ImpersonatorID != "user_2ada" || me.ActorID != "user_2grace" {
		t.Errorf("impersonated: %+v", me)
	}
	if row := h.row(); row.ActorID != "user_2grace" || row.ImpersonatorID != "user_2ada" || row.ActorKind != argus.KindClerkSession {
		t.Errorf("row %+v", row)
	}
}

// TestPermissions: permissions of the organization map to scopes as roles do.
func TestPermissions(t *testing.T) {
	h := newHarness(t, func(c *Config) {
		c.Clerk.RoleScopes = map[string][]argus.Scope{"org:logs:read": {argus.ScopeLogsRead}, "org:pods:run": {argus.ScopeComputeWrite, argus.ScopeComputeRead}}
	})
	h.issuer.SetOperator(localissuer.Operator{ID: "user_2perm", Name: "P", Role: "org:custom", Permissions: []string{"org:pods:run", "org:unknown:x"}})
	want := []argus.Scope{argus.ScopeComputeRead, argus.ScopeComputeWrite}
	for _, token := range []string{h.issuer.Token("user_2perm"), h.token("user_2perm")} {
		var me struct{ Scopes []argus.Scope }
		h.do(token, http.MethodGet, "/v1/operators/me", nil).json(t, &me)
		if !slices.Equal(me.Scopes, want) {
			t.Errorf("scopes %v, want %v", me.Scopes, want)
		}
	}
}

func TestOwnersLiveRights(t *testing.T) {
	h := newHarness(t)
	token := h.token("user_2grace", argus.ScopeLogsRead, argus.ScopeComputeWrite)
	scopes := func() []argus.Scope {
		t.Helper()
		var me struct{ Scopes []argus.Scope }
		resp := h.do(token, http.MethodGet, "/v1/operators/me", nil)
		h.row()
		resp.json(t, &me)
		return me.Scopes
	}
	// Never more than the owner may at this moment, never more than the token was given.
	if got := scopes(); !slices.Equal(got, []argus.Scope{argus.ScopeLogsRead}) {
		t.Fatalf("member: %v", got)
	}
	asked := h.issuer.Requests("/v1/users/user_2grace")
	for range 5 {
		scopes()
	}
	if n := h.issuer.Requests("/v1/users/user_2grace"); n != asked {
		t.Errorf("Clerk was asked %d times within a minute", n-asked)
	}
	h.issuer.SetOperator(localissuer.Operator{ID: "user_2grace", Name: "Grace Lindqvist", Role: "org:admin"})
	h.age(ownerMaxAge)
	if got := scopes(); !slices.Equal(got, []argus.Scope{argus.ScopeLogsRead, argus.ScopeComputeWrite}) {
		t.Fatalf("promoted: %v", got)
	}
	h.issuer.SetOperator(localissuer.Operator{ID: "user_2grace", Name: "Grace Lindqvist", Role: "org:guest"})
	h.age(ownerMaxAge)
	if got := scopes(); len(got) != 0 {
		t.Fatalf("demoted: %v", got)
	}
	for _, c := range []struct {
		name   string
		change func()
	}{
		{"banned", func() {
			h.issuer.SetOperator(localissuer.Operator{ID: "user_2grace", Name: "G", Role: "org:admin", Banned: true})
		}},
		{"out of the organization", func() { h.issuer.SetOperator(localissuer.Operator{ID: "user_2grace", Name: "G"}) }},
		{"deleted", func() { h.issuer.RemoveOperator("user_2grace") }},
	} {
		c.change()
		h.age(ownerMaxAge)
		h.expect(c.name, token, 401, argus.CodeUnauthenticated)
	}
	h.issuer.SetOperator(localissuer.Operator{ID: "user_2grace", Name: "Grace Lindqvist", Role: "org:member"})
	h.age(ownerMaxAge)
	h.expect("back again", token, 200, "")
}

// TestClerkAway: what is known goes on working for its stated time and not longer; break-glass works throughout.
func TestClerkAway(t *testing.T) {
	h := newHarness(t)
	pat, stranger, session := h.token("user_2ada"), h.token("user_2grace"), h.issuer.Token("user_2ada")
	glass := h.breakGlass()
	h.expect("token before", pat, 200, "")
	h.expect("session before", session, 200, "")

	h.issuer.SetDown(true)
	h.age(10 * time.Minute) // past every age at which Clerk would be asked
	for range 3 {
		h.expect("token, owner known", pat, 200, "")
		h.expect("session, key known", session, 200, "")
	}
	h.expect("token, owner not known", stranger, 503, argus.CodeUnavailable)
	h.expect("session, another's key", h.foreign().Token("user_2ada"), 401, argus.CodeUnauthenticated)
	h.expect("break-glass", glass, 200, "")

	h.age(time.Hour) // past the grace
	h.expect("token after an hour", pat, 503, argus.CodeUnavailable)
	h.expect("session after an hour", session, 503, argus.CodeUnavailable)
	h.expect("break-glass after an hour", glass, 200, "")

	h.issuer.SetDown(false)
	h.age(keysPause)
	h.expect("token again", pat, 200, "")
	h.expect("session again", session, 200, "")
}

// TestClerkSlow: a Clerk that accepts and does not answer is waited for once, and not by everybody.
func TestClerkSlow(t *testing.T) {
	h := newHarness(t)
	pat, session := h.token("user_2ada"), h.issuer.Token("user_2ada", func(c localissuer.Claims) { c["exp"] = time.Now().Add(time.Hour).Unix() })
	h.expect("token before", pat, 200, "")
	h.expect("session before", session, 200, "")
	h.issuer.SetDelay(time.Hour)
	h.age(keysMaxAge + time.Second)
	before, begun := h.issuer.Requests("/v1/"), time.Now()
	var calls sync.WaitGroup
	for range 20 {
		calls.Go(func() {
			for _, token := range []string{pat, session} {
				if resp, err := h.try(token, http.MethodGet, "/v1/operators/me", nil); err != nil || resp.status != 200 {
					t.Errorf("%v %+v", err, resp)
				}
			}
		})
	}
	calls.Wait()
	for range 20 {
		h.try(pat, http.MethodGet, "/v1/operators/me", nil)
	}
	if n := h.issuer.Requests("/v1/") - before; n > 8+4*pauses(begun) {
		t.Errorf("a hanging Clerk was asked %d times for 60 calls", n)
	}
	h.audit.taken()
	h.issuer.SetDelay(0)
}

func TestRotatingKeys(t *testing.T) {
	h := newHarness(t)
	hour := func(c localissuer.Claims) { c["exp"] = time.Now().Add(time.Hour).Unix() }
	old := h.issuer.Token("user_2ada", hour)
	h.expect("first key", old, 200, "")

	h.must(h.issuer.Rotate(true))
	h.age(keysPause)
	h.expect("new key", h.issuer.Token("user_2ada", hour), 200, "")
	h.expect("old key, still published", old, 200, "")

	h.must(h.issuer.Rotate(false))
	h.age(keysPause)
	h.expect("newest key", h.issuer.Token("user_2ada", hour), 200, "")
	h.expect("withdrawn key", old, 401, argus.CodeUnauthenticated)

	// Withdrawn while no caller brings a new one: gone when the set is ten minutes old, however often it is used.
	used := h.issuer.Token("user_2ada", hour)
	h.must(h.issuer.Rotate(false))
	for range 3 {
		h.age(keysRefresh / 2)
		_ = h.do(used, http.MethodGet, "/v1/operators/me", nil)
	}
	h.audit.taken()
	h.age(keysMaxAge)
	h.expect("withdrawn and old", used, 401, argus.CodeUnauthenticated)
}

// TestUnknownKeyFlood: tokens with ever new key ids cost one question to Clerk, not one each.
func TestUnknownKeyFlood(t *testing.T) {
	h := newHarness(t, func(c *Config) { c.Limits.FailPerSecond = -1 })
	h.expect("warm", h.issuer.Token("user_2ada"), 200, "")
	h.age(keysPause)
	before, begun := h.issuer.Requests("/v1/jwks"), time.Now()
	var flood sync.WaitGroup
	for worker := range 8 {
		flood.Go(func() {
			for i := range 50 {
				token := h.issuer.Sign(map[string]any{"kid": fmt.Sprintf("ins_%d_%d", worker, i)}, h.issuer.Claims("user_2ada", "sess_x"))
				if resp, err := h.try(token, http.MethodGet, "/v1/operators/me", nil); err != nil || resp.status != 401 {
					t.Errorf("%v %+v", err, resp)
				}
			}
		})
	}
	flood.Wait()
	if n := h.issuer.Requests("/v1/jwks") - before; n < 1 || n > 1+pauses(begun) {
		t.Errorf("400 unknown keys asked Clerk %d times, want once", n)
	}
	h.expect("after the flood", h.issuer.Token("user_2ada"), 200, "")
}

// TestClaimsAreExact: a claim counts only under its name. An instance may add claims of its own, whose values its users
// choose; encoding/json, by which the SDK reads, takes "Org_Role" and "\u017fub" for claims that decide.
func TestClaimsAreExact(t *testing.T) {
	h := newHarness(t)
	for name, c := range map[string]struct {
		edit   func(localissuer.Claims)
		status int
	}{
		"the user":         {func(c localissuer.Claims) { c["\u017fub"] = "user_2ada" }, 200},
		"the role":         {func(c localissuer.Claims) { delete(c, "org_role"); c["Org_Role"] = "org:admin" }, 200},
		"the permissions":  {func(c localissuer.Claims) { c["org_permi\u017f\u017fions"] = []string{"org:admin"} }, 200},
		"the organization": {func(c localissuer.Claims) { delete(c, "org_id"); c["Org_ID"] = testOrganization }, 401},
		"the session":      {func(c localissuer.Claims) { delete(c, "sid"); c["\u017fid"] = "sess_x" }, 401},
		"the party":        {func(c localissuer.Claims) { delete(c, "azp"); c["AZP"] = testConsole }, 401},
		"the end":          {func(c localissuer.Claims) { delete(c, "exp"); c["EXP"] = time.Now().Add(time.Hour).Unix() }, 401},
		"the issuer":       {func(c localissuer.Claims) { iss := c["iss"]; delete(c, "iss"); c["Iss"] = iss }, 401},
		"the version":      {func(c localissuer.Claims) { c["V"], c["o"] = 2, map[string]any{"id": testOrganization, "rol": "admin"} }, 200},
		"who impersonates": {func(c localissuer.Claims) { c["act"] = map[string]any{"Sub": "user_2mira"} }, 401},
		"who else":         {func(c localissuer.Claims) { c["act"] = map[string]any{"sub": "user_2mira", "\u017fub": "user_2ada"} }, 200},
	} {
		resp := h.do(h.issuer.Token("user_2grace", c.edit), http.MethodGet, "/v1/operators/me", nil)
		if resp.status != c.status {
			t.Errorf("%s: %d %s, want %d", name, resp.status, resp.body, c.status)
			continue
		}
		if c.status != 200 {
			continue
		}
		var me struct {
			ActorID        string        `json:"actor_id"`
			ImpersonatorID *string       `json:"impersonator_id"`
			Scopes         []argus.Scope `json:"scopes"`
		}
		resp.json(t, &me)
		if me.ActorID != "user_2grace" || slices.Contains(me.Scopes, argus.ScopeTokensWrite) || me.ImpersonatorID != nil && *me.ImpersonatorID != "user_2mira" {
			t.Errorf("%s: %+v", name, me)
		}
	}
	h.audit.taken()
}
