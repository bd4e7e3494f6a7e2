package api

import (
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/google/uuid"

	"github.com/useargus/argus"
	"github.com/useargus/argus/api/credential"
	"github.com/useargus/argus/internal/localissuer"
)

// TestAgentTokens: what an agent's token may have, by the API's word and, around it, by Postgres's; and what its calls
// carry.
func TestAgentTokens(t *testing.T) {
	h := newHarness(t)
	ada := h.issuer.Token("user_2ada")
	make := func(with string, body map[string]any) (*response, madeToken) {
		t.Helper()
		resp := h.do(with, http.MethodPost, "/v1/tokens", body)
		var made madeToken
		if resp.status == 201 {
			resp.json(t, &made)
		}
		h.audit.taken()
		return resp, made
	}
	readOnly := []argus.Scope{argus.ScopeLogsRead, argus.ScopeTenantsRead, argus.ScopeComputeRead}
	acting := slices.DeleteFunc(argus.AllScopes(), func(s argus.Scope) bool { return strings.HasPrefix(string(s), "tokens:") })
	for name, c := range map[string]struct {
		body   map[string]any
		status int
		scopes []argus.Scope
	}{
		"read-only":          {map[string]any{"agent": " claude-code ", "scopes": []string{"logs:read", "tenants:read", "compute:read"}}, 201, readOnly},
		"a preset of reads":  {map[string]any{"agent": "a", "preset": "support-readonly"}, 201, readOnly},
		"everything, reads":  {map[string]any{"agent": "a", "preset": "admin-full"}, 201, argus.ForAgents(argus.AllScopes(), false)},
		"everything":         {map[string]any{"agent": "a", "preset": "admin-full", "agent_actions": true}, 201, acting},
		"acting":             {map[string]any{"agent": "a", "scopes": []string{"compute:write"}, "agent_actions": true}, 201, []argus.Scope{argus.ScopeComputeWrite}},
		"acting unasked":     {map[string]any{"agent": "a", "scopes": []string{"logs:read", "compute:write"}}, 422, nil},
		"emitting unasked":   {map[string]any{"agent": "a", "scopes": []string{"events:emit"}}, 422, nil},
		"tokens":             {map[string]any{"agent": "a", "scopes": []string{"tokens:write"}, "agent_actions": true}, 422, nil},
		"all tokens":         {map[string]any{"agent": "a", "scopes": []string{"logs:read", "tokens:admin"}, "agent_actions": true}, 422, nil},
		"actions of no one":  {map[string]any{"name": "a", "scopes": []string{"logs:read"}, "agent_actions": true}, 400, nil},
		"a blank agent":      {map[string]any{"agent": " ", "name": "a", "scopes": []string{"logs:read"}}, 400, nil},
		"a hidden character": {map[string]any{"agent": "a\u202eb", "scopes": []string{"logs:read"}}, 400, nil},
		"a long agent":       {map[string]any{"agent": strings.Repeat("é", 65), "scopes": []string{"logs:read"}}, 400, nil},
	} {
		resp, made := make(ada, c.body)
		if resp.status != c.status || !slices.Equal(made.Token.Scopes, c.scopes) {
			t.Errorf("%s: %d %s", name, resp.status, resp.body)
		}
		if resp.status == 201 && (made.Token.Agent == nil || made.Token.Name != *made.Token.Agent) {
			t.Errorf("%s: %s", name, resp.body)
		}
	}

	// Never wider than its owner, nor than the token it is made with; and it makes none.
	maker := h.token("user_2ada", argus.ScopeTokensWrite, argus.ScopeLogsRead)
	if resp, _ := make(maker, map[string]any{"agent": "a", "scopes": []string{"tenants:read"}}); resp.status != 403 {
		t.Errorf("wider than its maker: %d %s", resp.status, resp.body)
	}
	_, made := make(maker, map[string]any{"agent": "claude-code", "scopes": []string{"logs:read"}})
	if resp, _ := make(made.Secret, map[string]any{"name": "a", "scopes": []string{"logs:read"}}); resp.status != 403 {
		t.Errorf("an agent's token made another: %d %s", resp.status, resp.body)
	}

	// Its calls carry its name, not the one that the caller says. Of others the header is a claim, cut and made storable.
	for _, c := range []struct{ token, header, agent string }{
		{made.Secret, "", "claude-code"}, {made.Secret, "another program", "claude-code"},
		{ada, "", ""}, {ada, " cursor/1.2 ", "cursor/1.2"}, {maker, "cursor\xff", "cursor\ufffd"}, {h.breakGlass(argus.ScopeLogsRead), "codex", "codex"},
		{ada, strings.Repeat("é", 100), strings.Repeat("é", 64)},
	} {
		resp := h.do(c.token, http.MethodGet, "/v1/operators/me", nil, argus.AgentHeader, c.header)
		row := h.row()
		if row.Agent != c.agent {
			t.Errorf("the header %q: the row says %q, want %q", c.header, row.Agent, c.agent)
		}
		if (c.token == made.Secret) != strings.Contains(string(resp.body), `"agent":"claude-code"`) {
			t.Errorf("whoami: %s", resp.body)
		}
	}

	// Around the API: the table and its triggers say the same, to any role and any statement.
	parent := "NULL"
	for name, c := range map[string]struct {
		agent, actions, scopes, parent string
		ok                             bool
	}{
		"reads":                 {"'a'", "false", "{logs:read,billing:read}", parent, true},
		"acts":                  {"'a'", "true", "{logs:read,billing:void}", parent, true},
		"acts unasked":          {"'a'", "false", "{logs:read,billing:void}", parent, false},
		"acts first":            {"'a'", "false", "{billing:void,logs:read}", parent, false},
		"read in the middle":    {"'a'", "false", "{billing:read:void}", parent, false},
		"a comma":               {"'a'", "false", `{"compute:write,logs:read"}`, parent, false},
		"tokens:write":          {"'a'", "true", "{logs:read,tokens:write}", parent, false},
		"tokens:admin":          {"'a'", "true", "{tokens:admin}", parent, false},
		"a null":                {"'a'", "false", "{logs:read,NULL}", parent, false},
		"actions of no agent":   {"NULL", "true", "{logs:read}", parent, false},
		"no name":               {"''", "false", "{logs:read}", parent, false},
		"a child of an agent's": {"'a'", "false", "{logs:read}", "'" + made.Token.ID.String() + "'", false},
		"and without an agent":  {"NULL", "false", "{logs:read}", "'" + made.Token.ID.String() + "'", false},
	} {
		_, err := h.pg.Pool(t, h.pg.OwnerURL).Exec(t.Context(), `INSERT INTO argus.personal_access_tokens (id, actor_id, name, digest, last_four, scopes, agent, agent_actions,
			parent_id, expires_at) VALUES (gen_random_uuid(), 'user_2ada', 'x', sha256(gen_random_uuid()::text::bytea), 'xxxx', $1::text[], `+c.agent+`, `+c.actions+`, `+c.parent+`,
			now() + interval '1 minute')`, c.scopes)
		if (err == nil) != c.ok {
			t.Errorf("inserting %s: %v", name, err)
		}
	}
	for _, set := range []string{"agent = 'other'", "agent = NULL", "agent_actions = true", "scopes = '{logs:read,tokens:write}'"} {
		if _, err := h.pg.Pool(t, h.pg.OwnerURL).Exec(t.Context(), "UPDATE argus.personal_access_tokens SET "+set+" WHERE id = $1", made.Token.ID); err == nil {
			t.Errorf("the token took %s", set)
		}
	}
}

// TestAgentsRights: a table without its rules, as an old backup may be, gives an agent no more than they would.
func TestAgentsRights(t *testing.T) {
	h := newHarness(t)
	for _, c := range []string{"agent", "agent_actions"} { // all constraints that speak of an agent go
		_, err := h.pg.Pool(t, h.pg.OwnerURL).Exec(t.Context(), `DO $$ DECLARE c text; BEGIN
			FOR c IN SELECT conname FROM pg_constraint WHERE conrelid = 'argus.personal_access_tokens'::regclass AND contype = 'c'
				AND pg_get_constraintdef(oid) LIKE '%`+c+`%' LOOP
				EXECUTE format('ALTER TABLE argus.personal_access_tokens DROP CONSTRAINT %I', c); END LOOP; END $$`)
		h.must(err)
	}
	for _, actions := range []bool{false, true} {
		_, secret, err := credential.IssueToken(t.Context(), h.pool, credential.NewToken{ActorID: "user_2ada", Name: "x", Agent: "x", Actions: actions,
			Scopes: argus.AllScopes()})
		h.must(err)
		var me struct{ Scopes []argus.Scope }
		h.do(secret, http.MethodGet, "/v1/operators/me", nil).json(t, &me)
		if want := argus.ForAgents(argus.AllScopes(), actions); !slices.Equal(me.Scopes, want) {
			t.Errorf("actions %t: %v, want %v", actions, me.Scopes, want)
		}
		if resp := h.do(secret, http.MethodPost, "/v1/tokens", map[string]any{"name": "y", "scopes": []string{"logs:read"}}); resp.status != 403 {
			t.Errorf("actions %t: it made a token: %d", actions, resp.status)
		}
	}
}

// TestOwnersWhoLeave: within a minute of a person's leaving their tokens are unauthenticated. argus.audit_admin says so once,
// even when many processes hear of it. When the person comes back, it says that too.
func TestOwnersWhoLeave(t *testing.T) {
	h := newHarness(t)
	token, other := h.token("user_2grace"), h.token("user_2grace")
	var first struct {
		ID uuid.UUID `json:"pat_id"`
	}
	h.do(token, http.MethodGet, "/v1/operators/me", nil).json(t, &first)
	h.answers(other, http.StatusOK)
	h.start() // a second process, which hears of it as well
	h.answers(token, http.StatusOK)
	said := func() (all []string) {
		t.Helper()
		rows, err := h.pool.Query(t.Context(), `SELECT kind || ' ' || (detail->>'why') || ' ' || jsonb_array_length(detail->'tokens') FROM argus.audit_admin
			WHERE kind LIKE 'owner%' AND detail->>'actor_id' = 'user_2grace' ORDER BY id`)
		h.must(err)
		defer rows.Close()
		for rows.Next() {
			var s string
			h.must(rows.Scan(&s))
			all = append(all, s)
		}
		return all
	}
	if got := said(); len(got) != 0 {
		t.Fatalf("before: %q", got)
	}
	var want []string
	for _, c := range []struct {
		operator localissuer.Operator
		status   int
		record   string
	}{
		{localissuer.Operator{ID: "user_2grace", Name: "Grace Lindqvist"}, 401, "owner_gone the user is not in the organization 2"},
		{localissuer.Operator{ID: "user_2grace", Name: "Grace Lindqvist", Role: "org:member"}, 200, "owner_back  2"},
		{localissuer.Operator{ID: "user_2grace", Name: "Grace Lindqvist", Role: "org:member", Banned: true}, 401, "owner_gone the user is banned 2"},
	} {
		h.issuer.SetOperator(c.operator)
		h.age(ownerMaxAge)
		h.answers(token, c.status)
		h.answers(other, c.status)
		want = append(want, c.record)
		eventually(t, "the record says "+c.record, func() bool { return slices.Equal(said(), want) })
	}
	h.start() // a third, to which it is new
	h.answers(token, 401)
	eventually(t, "the third process has heard", func() bool { return strings.Count(h.logs.String(), "an owner of tokens left") >= 3 })
	if got := said(); !slices.Equal(got, want) {
		t.Errorf("told again: %q", got)
	}
	// The person comes back while no process runs that knew them gone.
	h.issuer.SetOperator(localissuer.Operator{ID: "user_2grace", Name: "Grace Lindqvist", Role: "org:member"})
	h.start()
	h.answers(token, 200)
	want = append(want, "owner_back  2")
	eventually(t, "the return across a restart is recorded", func() bool { return slices.Equal(said(), want) })
	h.start()
	h.answers(token, 200)
	if got := said(); !slices.Equal(got, want) {
		t.Errorf("told again: %q", got)
	}
	h.audit.taken()
}
