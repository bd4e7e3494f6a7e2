package api

import (
	"context"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/useargus/argus"
	"github.com/useargus/argus/api/credential"
)

type reviewAnswer struct {
	Subjects   []*reviewed
	NextCursor *string `json:"next_cursor"`
}

// TestAccessReview: what was granted, beside what the record says was used. The record here is a list; that the real one
// is counted exactly, analytics shows.
func TestAccessReview(t *testing.T) {
	h := newHarness(t, func(c *Config) { // roles may name presets, which follow the services' file
		c.Clerk.RoleScopes = map[string][]argus.Scope{"org:admin": {argus.PresetAdminFull}, "org:member": {argus.PresetSupportReadonly}}
	})
	now := time.Now()
	issue := func(n credential.NewToken) credential.Token {
		t.Helper()
		made, _, err := credential.IssueToken(t.Context(), h.pool, n)
		h.must(err)
		return made
	}
	admin := h.issuer.Token("user_2ada")
	ci := issue(credential.NewToken{ActorID: "user_2ada", Name: "=ci()", Scopes: []argus.Scope{argus.ScopeLogsRead, argus.ScopeComputeWrite, argus.ScopeTokensWrite}})
	unused := issue(credential.NewToken{ActorID: "user_2grace", Name: "unused", Scopes: []argus.Scope{argus.ScopeTenantsRead}})
	agent := issue(credential.NewToken{ActorID: "user_2ada", Name: "agent", Agent: "claude-code", Scopes: []argus.Scope{argus.ScopeLogsRead}})
	ended := issue(credential.NewToken{ActorID: "user_2ada", Name: "ended", Scopes: []argus.Scope{argus.ScopeLogsRead, argus.ScopeComputeRead}})
	long := issue(credential.NewToken{ActorID: "user_2ada", Name: "ended long ago", Scopes: []argus.Scope{argus.ScopeLogsRead}})
	eve := issue(credential.NewToken{ActorID: "user_2eve", Name: "of one who left", Scopes: []argus.Scope{argus.ScopeLogsRead}})
	owner := h.pg.Pool(t, h.pg.OwnerURL)
	for id, at := range map[uuid.UUID]time.Time{ended.ID: now.Add(-time.Hour), long.ID: now.Add(-100 * 24 * time.Hour)} {
		_, err := owner.Exec(t.Context(), `UPDATE argus.personal_access_tokens SET revoked_at = $2, revoked_by = 'user_2ada' WHERE id = $1`, id, at)
		h.must(err)
	}
	glassSecret := h.breakGlass(argus.ScopeLogsRead, argus.ScopeTenantsRead)
	var me struct {
		ID uuid.UUID `json:"break_glass_id"`
	}
	h.do(glassSecret, http.MethodGet, "/v1/operators/me", nil).json(t, &me)
	deleted := uuid.New()

	use := func(kind argus.ActorKind, actor, impersonator string, token uuid.UUID, scope string, calls, denied int64) argus.AccessUse {
		return argus.AccessUse{Subject: argus.AccessSubject{ActorKind: kind, ActorID: actor, ImpersonatorID: impersonator, TokenID: token}, Scope: scope,
			Calls: calls, Denied: denied, LastAt: now.Add(-time.Duration(calls) * time.Minute)}
	}
	var asked argus.AccessRequest
	h.auditLog.set(func(f *fakeLog) {
		f.access = func(_ context.Context, r argus.AccessRequest) (argus.AccessResult, error) {
			asked = r
			return argus.AccessResult{Source: argus.SourceClickHouse, Uses: []argus.AccessUse{
				use(argus.KindClerkSession, "user_2ada", "", uuid.Nil, "logs:read", 5, 0),
				use(argus.KindClerkSession, "user_2ada", "", uuid.Nil, "any", 7, 0),
				use(argus.KindClerkSession, "user_2ada", "", uuid.Nil, "none", 1, 0),
				use(argus.KindClerkSession, "user_2ada", "", uuid.Nil, "billing:read", 3, 0), // of a service that is no more
				use(argus.KindClerkSession, "user_2ada", "user_2grace", uuid.Nil, "compute:write", 2, 0),
				use(argus.KindClerkSession, "user_2grace", "", uuid.Nil, "tokens:admin", 4, 4),
				use(argus.KindPAT, "user_2ada", "", ci.ID, "logs:read", 9, 0),
				use(argus.KindPAT, "user_2ada", "", ci.ID, "compute:write", 2, 2), // held, and its owner did not
				use(argus.KindPAT, "user_2ada", "", agent.ID, "logs:read", 1, 0),
				use(argus.KindPAT, "user_2ada", "", ended.ID, "logs:read", 1, 0),
				use(argus.KindPAT, "user_2grace", "", deleted, "tenants:read", 1, 0),
				use(argus.KindBreakGlass, "user_2ada", "", me.ID, "logs:read", 6, 0),
				use(argus.KindWorkload, "github:deploy-bot", "", uuid.Nil, "compute:write", 8, 1),
			}}, nil
		}
	})
	show := func(r *reviewed) string {
		var used []string
		for _, u := range r.Used {
			used = append(used, fmt.Sprintf("%s %d/%d", u.Scope, u.Calls, u.Denied))
		}
		return fmt.Sprintf("%s %s as %s %s granted %v used %v unused %v calls %d/%d agent %q", r.Kind, r.ActorID, deref(r.ImpersonatorID), r.State, r.Granted, used, r.Unused,
			r.Calls, r.Denied, deref(r.Agent))
	}
	all, support := argus.AllScopes(), []argus.Scope{argus.ScopeLogsRead, argus.ScopeTenantsRead, argus.ScopeComputeRead}
	but := func(scopes []argus.Scope, one argus.Scope) []argus.Scope {
		return slices.DeleteFunc(slices.Clone(scopes), func(s argus.Scope) bool { return s == one })
	}
	want := map[string]string{
		"person user_2ada":              fmt.Sprintf("person user_2ada as  live granted %v used [logs:read 5/0 billing:read 3/0] unused %v calls 16/0 agent %q", all, but(all, "logs:read"), ""),
		"person user_2grace":            fmt.Sprintf("person user_2grace as  live granted %v used [tokens:admin 4/4] unused %v calls 4/4 agent %q", support, support, ""),
		"person user_2eve":              `person user_2eve as  gone granted [] used [] unused [] calls 0/0 agent ""`,
		"impersonation user_2ada":       `impersonation user_2ada as user_2grace unknown granted [] used [compute:write 2/0] unused [] calls 2/0 agent ""`,
		"token " + ci.ID.String():       `token user_2ada as  live granted [logs:read compute:write tokens:write] used [logs:read 9/0 compute:write 2/2] unused [compute:write tokens:write] calls 11/2 agent ""`,
		"token " + unused.ID.String():   `token user_2grace as  live granted [tenants:read] used [] unused [tenants:read] calls 0/0 agent ""`,
		"token " + agent.ID.String():    `token user_2ada as  live granted [logs:read] used [logs:read 1/0] unused [] calls 1/0 agent "claude-code"`,
		"token " + ended.ID.String():    `token user_2ada as  revoked granted [logs:read compute:read] used [logs:read 1/0] unused [] calls 1/0 agent ""`,
		"token " + eve.ID.String():      `token user_2eve as  gone granted [logs:read] used [] unused [] calls 0/0 agent ""`,
		"token " + deleted.String():     `token user_2grace as  unknown granted [] used [tenants:read 1/0] unused [] calls 1/0 agent ""`,
		"break_glass " + me.ID.String(): `break_glass user_2ada as  live granted [logs:read tenants:read] used [logs:read 6/0] unused [tenants:read] calls 6/0 agent ""`,
		"workload github:deploy-bot":    `workload github:deploy-bot as  unknown granted [] used [compute:write 8/1] unused [] calls 8/1 agent ""`,
	}
	check := func(what string, list []*reviewed) {
		t.Helper()
		if len(list) != len(want) {
			t.Errorf("%s: %d subjects, want %d", what, len(list), len(want))
		}
		seen := map[string]bool{}
		for _, r := range list {
			key := r.Kind + " " + r.ID
			if seen[key] || show(r) != want[key] {
				t.Errorf("%s: %s (again: %t)\n got %s\nwant %s", what, key, seen[key], show(r), want[key])
			}
			seen[key] = true
			if (r.Granted == nil) != slices.Contains([]string{accessImpersonation, accessWorkload}, r.Kind) && r.ID != deleted.String() {
				t.Errorf("%s: %s: granted %v", what, key, r.Granted)
			}
			if called := r.Calls > 0; called != (len(r.Addresses) == 1) || called != (len(r.Agents) == 1) {
				t.Errorf("%s: %s: from %v", what, key, r.Addresses)
			}
		}
	}
	get := func(query url.Values) (all []*reviewed, pages int) {
		t.Helper()
		for {
			resp := h.do(admin, http.MethodGet, "/v1/access-review?"+query.Encode(), nil)
			var page reviewAnswer
			resp.json(t, &page)
			if resp.status != 200 {
				t.Fatalf("%v: %d %s", query, resp.status, resp.body)
			}
			all, pages = append(all, page.Subjects...), pages+1
			if page.NextCursor == nil {
				return all, pages
			}
			query.Set("cursor", *page.NextCursor)
		}
	}
	list, _ := get(url.Values{})
	check("whole", list)
	if d := asked.Until.Sub(asked.Since); d != 90*24*time.Hour {
		t.Errorf("asked for %s", d)
	}
	until := asked.Until
	list, pages := get(url.Values{"since": {"30d"}, "limit": {"5"}})
	if check("in pages", list); pages != 3 || !asked.Until.After(until) {
		t.Errorf("%d pages", pages)
	}
	if list, _ = get(url.Values{"owner": {"user_2grace"}}); len(list) != 3 {
		t.Errorf("of Grace: %d", len(list))
	}
	if list, _ = get(url.Values{"kind": {"token"}}); len(list) != 6 {
		t.Errorf("tokens: %d", len(list))
	}
	for query, code := range map[string]argus.Code{"since=soon": argus.CodeInvalidParameter, "kind=people": argus.CodeInvalidParameter, "limit=0": argus.CodeInvalidParameter,
		"cursor=AAEC": argus.CodeInvalidCursor, "what=1": argus.CodeInvalidParameter, "since=2200-01-01T00:00:00Z": argus.CodeInvalidParameter} {
		if resp := h.do(admin, http.MethodGet, "/v1/access-review?"+query, nil); resp.code() != code {
			t.Errorf("%s: %d %s", query, resp.status, resp.body)
		}
	}
	// An owner of whom Clerk cannot be asked.
	issue(credential.NewToken{ActorID: "user_2new", Name: "new", Scopes: []argus.Scope{argus.ScopeLogsRead}})
	h.issuer.SetDown(true)
	if list, _ = get(url.Values{"owner": {"user_2new"}, "kind": {"person"}}); len(list) != 1 || list[0].State != "unknown" || list[0].Granted != nil {
		t.Errorf("not known: %+v", list)
	}
	h.issuer.SetDown(false)
	// It takes the scope of those who may take rights away: no agent has it, and no session of a member.
	for _, token := range []string{h.issuer.Token("user_2grace"), h.token("user_2ada", argus.ScopeLogsRead)} {
		if resp := h.do(token, http.MethodGet, "/v1/access-review", nil); resp.status != 403 {
			t.Errorf("without the scope: %d", resp.status)
		}
	}
}
