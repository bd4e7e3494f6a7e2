package api

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/useargus/argus"
	"github.com/useargus/argus/api/credential"
	"github.com/useargus/argus/internal/localissuer"
)

// mint makes a token with another credential.
func (h *harness) mint(with, name string, scopes ...argus.Scope) madeToken {
	h.t.Helper()
	if scopes == nil {
		scopes = []argus.Scope{argus.ScopeTokensWrite, argus.ScopeLogsRead}
	}
	resp := h.do(with, http.MethodPost, "/v1/tokens", map[string]any{"name": name, "scopes": scopes})
	if resp.status != 201 {
		h.t.Fatalf("minting %s: %d %s", name, resp.status, resp.body)
	}
	var made madeToken
	resp.json(h.t, &made)
	return made
}

func (h *harness) list(with, query string) (names []string) {
	h.t.Helper()
	resp := h.do(with, http.MethodGet, "/v1/tokens"+query, nil)
	if resp.status != 200 {
		h.t.Fatalf("listing %s: %d %s", query, resp.status, resp.body)
	}
	var list struct{ Tokens []credential.Token }
	resp.json(h.t, &list)
	for _, t := range list.Tokens {
		names = append(names, t.Name)
	}
	slices.Sort(names)
	return names
}

func (h *harness) family(resp *response) (t credential.Token, descendants []string) {
	h.t.Helper()
	var f tokenFamily
	resp.json(h.t, &f)
	for _, d := range f.Descendants {
		descendants = append(descendants, d.Name)
	}
	slices.Sort(descendants)
	return f.Token, descendants
}

// recorded are the entries of argus.audit_admin about tokens, oldest first.
func (h *harness) recorded(kind string) (all []map[string]any) {
	h.t.Helper()
	rows, err := h.pg.Pool(h.t, h.pg.AuditorURL).Query(h.t.Context(), `SELECT detail::text FROM argus.audit_admin WHERE kind = $1 ORDER BY id`, kind)
	h.must(err)
	defer rows.Close()
	for rows.Next() {
		var text string
		h.must(rows.Scan(&text))
		var detail map[string]any
		h.must(json.Unmarshal([]byte(text), &detail))
		all = append(all, detail)
	}
	h.must(rows.Err())
	return all
}

// TestDescendants: what a token minted ends with it, at any depth, everywhere, and is shown before and after.
func TestDescendants(t *testing.T) {
	h := newHarness(t)
	first := h.url
	h.start()
	second := h.url
	h.listening()
	h.url = first
	session := h.issuer.Token("user_2ada")
	parent := h.mint(session, "parent")
	left, right := h.mint(parent.Secret, "left"), h.mint(parent.Secret, "right")
	deep := left
	secrets := []string{parent.Secret, left.Secret, right.Secret}
	for i := range 12 {
		deep = h.mint(deep.Secret, fmt.Sprintf("deep%02d", i))
		secrets = append(secrets, deep.Secret)
	}
	other := h.mint(session, "other")
	h.mint(other.Secret, "others")
	h.audit.taken()

	// parent_id and audit_id say where a token comes from.
	resp := h.do(session, http.MethodGet, "/v1/tokens/"+left.Token.ID.String(), nil)
	show, below := h.family(resp)
	if *show.ParentID != parent.Token.ID || show.AuditID == nil || len(below) != 12 || show.ActorID != "user_2ada" || show.RevokedBy != nil {
		t.Fatalf("%s", resp.body)
	}
	h.url = second
	for _, s := range secrets { // both processes remember them
		h.answers(s, 200)
	}
	h.url = first
	h.audit.taken()
	resp = h.do(session, http.MethodDelete, "/v1/tokens/"+parent.Token.ID.String(), nil)
	call := h.row()
	revoked, below := h.family(resp)
	if resp.status != 200 || len(below) != 14 || *revoked.RevokedBy != "user_2ada" || *revoked.RevokedAuditID != call.ID || revoked.RevokedWith != nil || !h.audit.wasIntended(call.ID) {
		t.Fatalf("%d %s", resp.status, resp.body)
	}
	for _, s := range secrets {
		h.answers(s, 401)
	}
	h.url = second
	for i, s := range secrets {
		eventually(t, fmt.Sprintf("token %d is denied by the other process", i), func() bool { return h.do(s, http.MethodGet, "/v1/operators/me", nil).status == 401 })
	}
	h.answers(other.Secret, 200)
	h.url = first
	h.answers(other.Secret, 200)
	if live := h.list(session, "?state=live"); !slices.Equal(live, []string{"other", "others"}) {
		t.Errorf("live: %v", live)
	}
	if ended := h.list(session, "?state=ended"); len(ended) != 15 {
		t.Errorf("ended: %v", ended)
	}
	// Again, it changes nothing and tells the same.
	h.audit.taken()
	again := h.do(session, http.MethodDelete, "/v1/tokens/"+parent.Token.ID.String(), nil)
	if token, below := h.family(again); again.status != 200 || len(below) != 14 || *token.RevokedAuditID != call.ID {
		t.Errorf("%d %s", again.status, again.body)
	}
	// The record has each, with what it ended with, and no digest.
	all := h.recorded("token_revoked")
	with := 0
	for _, d := range all {
		if d["with"] == parent.Token.ID.String() && d["by"] == "user_2ada" && d["audit_id"] == call.ID.String() && d["parent_id"] != nil {
			with++
		}
	}
	if len(all) != 15 || with != 14 || all[0]["token_id"] != parent.Token.ID.String() || all[0]["with"] != nil {
		t.Errorf("%d entries, %d with the parent: %v", len(all), with, all)
	}
	made := h.recorded("token_created")
	if len(made) != 17 || made[1]["parent_id"] != parent.Token.ID.String() || made[1]["audit_id"] != left.Token.AuditID.String() {
		t.Errorf("%d created: %v", len(made), made)
	}
	if text := fmt.Sprint(made, all); strings.Contains(text, "digest") || strings.Contains(text, parent.Secret[10:30]) {
		t.Error("the record holds a digest or a secret")
	}
}

// TestMintingMeetsRevocation: a child that is minted while its parent is revoked does not survive, whichever comes
// first, and at whichever depth.
func TestMintingMeetsRevocation(t *testing.T) {
	h := newHarness(t)
	ctx := t.Context()
	session := h.issuer.Token("user_2ada")
	child := func(parent credential.Token) credential.NewToken {
		return credential.NewToken{ActorID: "user_2ada", Name: "child", Scopes: []argus.Scope{argus.ScopeLogsRead}, ParentID: parent.ID, NotAfter: time.Time(parent.ExpiresAt)}
	}
	blocked := func(what string) {
		t.Helper()
		owner := h.pg.Pool(t, h.pg.SuperuserURL)
		eventually(t, what, func() bool {
			var n int
			h.must(owner.QueryRow(ctx, `SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()`).Scan(&n))
			return n > 0
		})
	}
	for name, depth := range map[string]int{"a child": 0, "a grandchild": 1, "deeper": 3} {
		root := h.mint(session, "root")
		parent := root
		for range depth {
			parent = h.mint(parent.Secret, "between")
		}
		// Minted first: the revocation waits for it, and finds it.
		tx, err := h.pool.Begin(ctx)
		h.must(err)
		made, _, err := credential.InsertToken(ctx, tx, child(parent.Token))
		h.must(err)
		done := make(chan *response, 1)
		go func() { done <- h.do(session, http.MethodDelete, "/v1/tokens/"+root.Token.ID.String(), nil) }()
		blocked("the revocation waits for the minting")
		h.must(tx.Commit(ctx))
		resp := <-done
		if _, below := h.family(resp); resp.status != 200 || !slices.Contains(below, "child") || len(below) != depth+1 {
			t.Errorf("%s: %d, ended %v", name, resp.status, below)
		}
		if got, _, err := credential.FindToken(ctx, h.pool, made.ID, uuid.Nil); err != nil || got.RevokedWith == nil || *got.RevokedWith != root.Token.ID {
			t.Errorf("%s, minted while its ancestor was revoked, survived: %+v %v", name, got, err)
		}

		// Revoked first: the minting waits, and is denied.
		root = h.mint(session, "root")
		parent = root
		for range depth {
			parent = h.mint(parent.Secret, "between")
		}
		tx, err = h.pool.Begin(ctx)
		h.must(err)
		_, err = credential.RevokeTokens(ctx, tx, []uuid.UUID{root.Token.ID}, "user_2ada", uuid.Nil)
		h.must(err)
		go func() {
			done <- h.do(parent.Secret, http.MethodPost, "/v1/tokens", map[string]any{"name": "late", "scopes": []string{"logs:read"}})
		}()
		blocked("the minting waits for the revocation")
		h.must(tx.Commit(ctx))
		if resp := <-done; resp.status != 403 || !strings.Contains(string(resp.body), "ended meanwhile") {
			t.Errorf("%s: minting with a token that was being revoked: %d %s", name, resp.status, resp.body)
		}
	}
	if live := h.list(session, "?state=live"); len(live) != 0 {
		t.Errorf("%v outlived their parents", live)
	}
	// An isolation that would not see such a child is denied.
	last := h.mint(session, "last")
	tx, err := h.pool.Begin(ctx)
	h.must(err)
	defer func() { _ = tx.Rollback(context.WithoutCancel(ctx)) }()
	_, err = tx.Exec(ctx, "SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
	h.must(err)
	if _, err := credential.RevokeTokens(ctx, tx, []uuid.UUID{last.Token.ID}, "x", uuid.Nil); err == nil || !strings.Contains(err.Error(), "READ COMMITTED") {
		t.Errorf("revoked at REPEATABLE READ: %v", err)
	}
}

// TestMintedWithin: the database holds what minting promises, against every request of a process.
func TestMintedWithin(t *testing.T) {
	h := newHarness(t)
	parent, _, err := credential.IssueToken(t.Context(), h.pool, credential.NewToken{ActorID: "user_2ada", Name: "parent", Scopes: []argus.Scope{argus.ScopeLogsRead}, ExpiresIn: time.Hour})
	h.must(err)
	for what, edit := range map[string]func(*credential.NewToken){
		"of another owner": func(n *credential.NewToken) { n.ActorID = "user_2grace" },
		"wider":            func(n *credential.NewToken) { n.Scopes = []argus.Scope{argus.ScopeLogsRead, argus.ScopeComputeWrite} },
		"longer": func(n *credential.NewToken) {
			n.NotAfter = time.Time(parent.ExpiresAt).Add(time.Second)
			n.ExpiresIn = 2 * time.Hour
		},
		"of a parent that is none": func(n *credential.NewToken) { n.ParentID = uuid.New() },
	} {
		n := credential.NewToken{ActorID: "user_2ada", Name: what, Scopes: parent.Scopes, ParentID: parent.ID, NotAfter: time.Time(parent.ExpiresAt)}
		edit(&n)
		if made, _, err := credential.IssueToken(t.Context(), h.pool, n); err == nil {
			t.Errorf("a child %s was made: %+v", what, made)
		}
	}
	short, _, err := credential.IssueToken(t.Context(), h.pool, credential.NewToken{ActorID: "user_2ada", Name: "short", Scopes: parent.Scopes, ExpiresIn: time.Millisecond})
	h.must(err)
	time.Sleep(2 * time.Millisecond)
	if _, _, err := credential.IssueToken(t.Context(), h.pool, credential.NewToken{ActorID: "user_2ada", Name: "late", Scopes: parent.Scopes, ParentID: short.ID, NotAfter: time.Time(short.ExpiresAt)}); err == nil {
		t.Error("an expired parent made a child")
	}
	// The API's role says neither when a token was made nor that it is revoked.
	for _, sql := range []string{
		`UPDATE argus.personal_access_tokens SET revoked_at = now(), revoked_by = 'x'`,
		`UPDATE argus.personal_access_tokens SET revoked_by = 'another'`,
		`INSERT INTO argus.personal_access_tokens (id, actor_id, name, digest, last_four, scopes, created_at, expires_at)
		 VALUES (gen_random_uuid(), 'user_2ada', 'x', sha256('x'), 'xxxx', '{logs:read}', now() + interval '9 years', now() + interval '9 years')`,
	} {
		if _, err := h.pool.Exec(t.Context(), sql); err == nil || !strings.Contains(err.Error(), "permission denied") {
			t.Errorf("argus_api: %s: %v", sql, err)
		}
	}
}

// TestWhoseTokens: what each kind of credential lists and ends.
func TestWhoseTokens(t *testing.T) {
	h := newHarness(t)
	session := h.issuer.Token("user_2ada")
	graces := h.token("user_2grace")
	gracesID := h.me(graces)
	reader := h.mint(session, "reader", argus.ScopeLogsRead)
	maker := h.mint(session, "maker", argus.ScopeTokensWrite, argus.ScopeLogsRead)
	made := h.mint(maker.Secret, "made", argus.ScopeLogsRead)
	madeToo := h.mint(maker.Secret, "made too", argus.ScopeTokensWrite, argus.ScopeLogsRead)
	admin := h.mint(session, "admin", argus.ScopeTokensAdmin)
	glass := h.breakGlass(argus.ScopeLogsRead)
	glassAdmin := h.breakGlass(argus.AllScopes()...)
	impersonated := h.issuer.Token("user_2ada", func(c localissuer.Claims) { c["act"] = map[string]any{"sub": "user_2grace"} })
	all := []string{"admin", "made", "made too", "maker", "reader"}
	path := func(id uuid.UUID) string { return "/v1/tokens/" + id.String() }

	for name, c := range map[string]struct {
		with string
		want []string
	}{
		"a session": {session, all}, "an impersonated session": {impersonated, all}, "a token": {reader.Secret, []string{"reader"}},
		"a token that may make others": {maker.Secret, all}, "what it made": {made.Secret, []string{"made"}},
		"a token that may list all": {admin.Secret, []string{"admin"}}, "break-glass": {glass, nil},
	} {
		if got := h.list(c.with, ""); !slices.Equal(got, c.want) {
			t.Errorf("%s lists %v, want %v", name, got, c.want)
		}
	}
	if got := h.list(admin.Secret, "?owner=all"); !slices.Equal(got, []string{"admin", "made", "made too", "maker", "reader", "test"}) {
		t.Errorf("all: %v", got)
	}
	if got := h.list(admin.Secret, "?owner=user_2grace"); !slices.Equal(got, []string{"test"}) {
		t.Errorf("Grace's: %v", got)
	}
	for _, query := range []string{"?owner=all", "?owner=user_2grace"} {
		for name, with := range map[string]string{"reader": reader.Secret, "maker": maker.Secret, "member": h.issuer.Token("user_2mira2"), "break-glass": glass} {
			if resp := h.do(with, http.MethodGet, "/v1/tokens"+query, nil); resp.status == 200 {
				t.Errorf("%s lists %s: %s", name, query, resp.body)
			}
		}
	}
	h.audit.taken()
	h.list(admin.Secret, "?owner=all")
	if row := h.row(); row.Scope != "tokens:admin" {
		t.Errorf("the row says %s", row.Scope)
	}

	for name, c := range map[string]struct {
		with   string
		id     uuid.UUID
		status int
		says   string
	}{
		"a token, its sister":                 {reader.Secret, maker.Token.ID, 403, "sign in"},
		"a token, its parent":                 {made.Secret, maker.Token.ID, 403, "tokens:write"},
		"a token, a stranger's":               {reader.Secret, gracesID, 404, "no token"},
		"a token that does not exist":         {reader.Secret, uuid.New(), 404, "no token"},
		"a token that may make, a stranger's": {maker.Secret, gracesID, 404, "no token"},
		"a session, a stranger's":             {session, uuid.New(), 404, "no token"},
		"break-glass, its person's":           {glass, reader.Token.ID, 403, "tokens:write"},
		"break-glass, a stranger's":           {glass, gracesID, 404, "no token"},
	} {
		for _, method := range []string{http.MethodGet, http.MethodDelete} {
			resp := h.do(c.with, method, path(c.id), nil)
			if row := h.audit.taken(); resp.status != c.status || !strings.Contains(string(resp.body), c.says) || h.audit.wasIntended(row[0].ID) {
				t.Errorf("%s: %s: %d %s", name, method, resp.status, resp.body)
			}
		}
	}
	for _, with := range []string{reader.Secret, h.breakGlass(argus.ScopeLogsRead)} {
		if resp := h.do(with, http.MethodGet, "/v1/tokens?owner=user_2ada", nil); resp.status != 403 || !strings.Contains(string(resp.body), "sign in") {
			t.Errorf("a token lists its owner's: %d %s", resp.status, resp.body)
		}
	}
	// A stranger's and one that does not exist differ in nothing but the audit id.
	mask := func(id uuid.UUID) string {
		resp := h.do(reader.Secret, http.MethodDelete, path(id), nil)
		return strings.ReplaceAll(string(resp.body), resp.header.Get(argus.AuditIDHeader), "")
	}
	if mask(gracesID) != mask(uuid.New()) {
		t.Error("a stranger's token can be told from none")
	}

	// What is allowed: itself, what it made, its owner's with tokens:write, anybody's with tokens:admin.
	h.audit.taken()
	for _, c := range []struct {
		what  string
		with  string
		id    uuid.UUID
		scope argus.Scope
	}{
		{"itself", reader.Secret, reader.Token.ID, scopeAny},
		{"what it made", maker.Secret, made.Token.ID, scopeAny},
		{"its parent, by tokens:write", madeToo.Secret, maker.Token.ID, argus.ScopeTokensWrite},
		{"another's", admin.Secret, gracesID, argus.ScopeTokensAdmin},
		{"its person's, by break-glass", glassAdmin, admin.Token.ID, argus.ScopeTokensWrite},
	} {
		resp := h.do(c.with, http.MethodDelete, path(c.id), nil)
		if row := h.row(); resp.status != 200 || row.Scope != string(c.scope) {
			t.Errorf("%s: %d %s, scope %s", c.what, resp.status, resp.body, row.Scope)
		}
	}
	h.answers(madeToo.Secret, 401) // it ended with its parent
	// An owner who lost tokens:write lists and ends their own by a session, and a token of theirs no more than itself.
	last := h.mint(session, "last", argus.ScopeTokensWrite, argus.ScopeLogsRead)
	child := h.mint(last.Secret, "its child", argus.ScopeLogsRead)
	sister := h.mint(session, "sister", argus.ScopeLogsRead)
	h.issuer.SetOperator(localissuer.Operator{ID: "user_2ada", Name: "Ada Okafor", Role: "org:member"})
	h.age(ownerMaxAge)
	if resp := h.do(last.Secret, http.MethodDelete, path(sister.Token.ID), nil); resp.status != 403 {
		t.Errorf("a token whose owner lost tokens:write ends a sister: %d", resp.status)
	}
	if resp := h.do(last.Secret, http.MethodDelete, path(child.Token.ID), nil); resp.status != 200 {
		t.Errorf("… and its child: %d %s", resp.status, resp.body)
	}
	if resp := h.do(h.issuer.Token("user_2ada"), http.MethodDelete, path(last.Token.ID), nil); resp.status != 200 {
		t.Errorf("a session of such an owner: %d %s", resp.status, resp.body)
	}
}

func (h *harness) me(token string) uuid.UUID {
	h.t.Helper()
	var me struct {
		PATID uuid.UUID `json:"pat_id"`
	}
	h.do(token, http.MethodGet, "/v1/operators/me", nil).json(h.t, &me)
	return me.PATID
}

// TestRevokeTokens: all of an owner, and one by its secret, of either kind.
func TestRevokeTokens(t *testing.T) {
	h := newHarness(t)
	admin := h.token("user_2ada", argus.ScopeTokensAdmin)
	revoke := func(body any) (*response, []string) {
		t.Helper()
		resp := h.do(admin, http.MethodPost, "/v1/tokens/revoke", body)
		var told struct{ Revoked []credential.Token }
		resp.json(t, &told)
		names := []string{}
		for _, r := range told.Revoked {
			names = append(names, r.Name)
		}
		return resp, names
	}
	secret := func(s string) map[string]any { return map[string]any{"secret": s} }

	one := h.token("user_2grace")
	glass := h.breakGlass(argus.ScopeLogsRead)
	for _, s := range []string{one, " " + glass + "\n"} {
		h.answers(strings.TrimSpace(s), 200)
		if resp, names := revoke(secret(s)); resp.status != 200 || len(names) != 1 || strings.Contains(string(resp.body), strings.TrimSpace(s)[12:40]) {
			t.Errorf("%d %s", resp.status, resp.body)
		}
		h.answers(strings.TrimSpace(s), 401)
		if resp, names := revoke(secret(s)); resp.status != 200 || len(names) != 0 || !strings.Contains(string(resp.body), `"token":{`) {
			t.Errorf("again: %d %s", resp.status, resp.body)
		}
	}
	if got := h.recorded("break_glass_revoked"); len(got) != 1 {
		t.Errorf("recorded: %v", got)
	}
	for what, c := range map[string]struct {
		body   any
		status int
	}{
		"unknown":   {secret(argus.NewSecret(argus.PATPrefix)), 404},
		"mistyped":  {secret(one[:len(one)-1] + "_"), 400},
		"cut off":   {secret(one[:30]), 400},
		"no secret": {secret("hunter2"), 400},
		"neither":   {map[string]any{}, 400},
		"both":      {map[string]any{"owner": "user_2ada", "secret": one}, 400},
		"as a key":  {map[string]any{one: "x"}, 400},
	} {
		resp, _ := revoke(c.body)
		if resp.status != c.status || strings.Contains(string(resp.body), one[12:25]) {
			t.Errorf("%s: %d %s", what, resp.status, resp.body)
		}
	}

	// Where a secret does not belong it is not kept.
	h.audit.taken()
	for _, path := range []string{"/v1/tokens/" + one, "/v1/tokens/" + one + "/" + one, "/v1/audit-log?pat=" + one, "/v1/tokens?owner=" + one} {
		resp := h.do(admin, http.MethodGet, path, nil, "User-Agent", one, "X-Request-Id", one)
		row := h.row()
		if text := string(row.AppendJSON(nil)) + string(resp.body); resp.status < 400 && !strings.Contains(path, "owner") || strings.Contains(text, one[12:25]) {
			t.Errorf("%s: %d %s", path, resp.status, text)
		}
	}

	session := h.issuer.Token("user_2ada")
	a, b := h.mint(session, "a"), h.mint(session, "b")
	h.mint(a.Secret, "c")
	h.audit.taken()
	resp, names := revoke(map[string]any{"owner": "user_2ada"})
	row := h.row()
	if resp.status != 200 || !slices.Equal(names, []string{"test", "a", "b", "c"}) || !h.audit.wasIntended(row.ID) || row.Scope != "tokens:admin" {
		t.Errorf("%d %s", resp.status, resp.body)
	}
	for _, s := range []string{a.Secret, b.Secret, admin} {
		h.answers(s, 401)
	}
	resp = h.do(h.token("user_2ada", argus.ScopeTokensWrite), http.MethodPost, "/v1/tokens/revoke", map[string]any{"owner": "user_2ada"})
	if resp.status != 403 {
		t.Errorf("without the scope: %d", resp.status)
	}
}

// TestTokenPages: a long list comes in pages, each token once, for every question.
func TestTokenPages(t *testing.T) {
	h := newHarness(t)
	owner := h.pg.Pool(t, h.pg.OwnerURL)
	// A year of tokens, many of the same moment, most of them over.
	_, err := owner.Exec(t.Context(), `INSERT INTO argus.personal_access_tokens (id, actor_id, name, digest, last_four, scopes, created_at, expires_at, last_used_at)
		SELECT gen_random_uuid(), CASE n % 3 WHEN 0 THEN 'user_2ada' ELSE 'user_2grace' END, 'n' || n, sha256(n::text::bytea), 'xxxx', '{logs:read}',
		       date_trunc('day', now()) - (n / 10) * interval '1 day', now() - (n / 10) * interval '1 day' + interval '30 days',
		       CASE WHEN n % 2 = 0 THEN now() - (n / 10) * interval '1 day' + interval '1 hour' END
		  FROM generate_series(1, 3600) n`)
	h.must(err)
	admin := h.token("user_2ada", argus.ScopeTokensAdmin)
	count := func(query string) (n, pages int) {
		t.Helper()
		seen := map[uuid.UUID]bool{}
		cursor := ""
		var last time.Time
		for {
			resp := h.do(admin, http.MethodGet, "/v1/tokens?"+query+cursor, nil)
			var page struct {
				Tokens     []credential.Token
				NextCursor *string `json:"next_cursor"`
			}
			if resp.json(t, &page); resp.status != 200 {
				t.Fatalf("%d %s", resp.status, resp.body)
			}
			pages++
			for _, token := range page.Tokens {
				if seen[token.ID] || !last.IsZero() && time.Time(token.CreatedAt).After(last) {
					t.Fatalf("%s: %v is twice or out of order", query, token)
				}
				seen[token.ID], last = true, time.Time(token.CreatedAt)
			}
			if page.NextCursor == nil {
				return len(seen), pages
			}
			cursor = "&cursor=" + url.QueryEscape(*page.NextCursor)
		}
	}
	for query, want := range map[string][2]int{
		"owner=all&limit=1000": {3601, 4}, "owner=user_2ada&limit=101": {1201, 12}, "owner=all&state=live&limit=7": {300, 43},
		"owner=all": {3601, 37}, "owner=all&state=ended&limit=1000": {3301, 4},
	} {
		if n, pages := count(query); n != want[0] && !strings.Contains(query, "state") || pages != want[1] && !strings.Contains(query, "state") {
			t.Errorf("%s: %d tokens in %d pages, want %v", query, n, pages, want)
		}
	}
	live, _ := count("owner=all&state=live&limit=1000")
	ended, _ := count("owner=all&state=ended&limit=1000")
	stale, _ := count("owner=all&unused_since=90d&limit=1000")
	if live+ended != 3601 || live < 290 || live > 310 || stale < 2690 || stale > 2710 {
		t.Errorf("%d live, %d ended, %d unused", live, ended, stale)
	}
	for _, query := range []string{"limit=0", "limit=1001", "state=valid", "unused_since=soon", "cursor=x", "cursor=AAAA", "owner=a&owner=b", "owners=all", "secret=x"} {
		if resp := h.do(admin, http.MethodGet, "/v1/tokens?"+query, nil); resp.status != 400 {
			t.Errorf("%s: %d %s", query, resp.status, resp.body)
		}
	}
}
