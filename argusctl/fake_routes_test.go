package main

import (
	"encoding/json"
	"fmt"
	"maps"
	"math"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/google/uuid"

	"github.com/useargus/argus"
)

type handler func(x *exchange)

// route finds the template, its parameters, the scope and the handler of a request.
func (f *fake) route(r *http.Request) (route string, params []argus.PathParam, scope string, h handler) {
	for _, e := range []struct {
		route, scope string
		h            handler
	}{
		{"GET /v1/health", "any", f.health},
		{"GET /v1/operators/me", "any", func(x *exchange) { x.reply(200, x.who.me) }},
		{"GET /v1/services", "any", f.serviceList},
		{"GET /v1/tenants", "tenants:read", f.tenantList},
		{"PUT /v1/tenants/:id", "tenants:write", f.tenantPut},
		{"PUT /v1/tenants/:id/consent", "tenants:write", f.tenantConsent},
		{"DELETE /v1/tenants/:id", "tenants:write", f.tenantRetire},
		{"GET /v1/tenants/:id", "tenants:read", f.tenantShow},
		{"POST /v1/tenants/:id/arm", "remote_support:arm", f.arm},
		{"POST /v1/tenants/:id/disarm", "remote_support:arm", f.arm},
		{"POST /v1/tenants/:id/sessions", "remote_support", f.sessionStart},
		{"POST /v1/tenants/:id/sessions/:session/end", "remote_support", f.sessionEnd},
		{"GET /compute/ops/workers", "compute:read", f.workerList},
		{"POST /compute/ops/launch", "compute:write", f.launch},
		{"POST /compute/ops/workers/:id/stop", "compute:write", f.workerVerb},
		{"POST /compute/ops/workers/:id/resume", "compute:write", f.workerVerb},
		{"POST /compute/ops/workers/:id/terminate", "compute:write", f.workerVerb},
		{"GET /v1/access-review", "tokens:admin", f.accessReview},
		{"GET /v1/tokens", "any", f.tokenList},
		{"POST /v1/tokens", "tokens:write", f.tokenCreate},
		{"POST /v1/tokens/revoke", "tokens:admin", f.tokensRevoke},
		{"GET /v1/tokens/:id", "any", f.tokenShow},
		{"DELETE /v1/tokens/:id", "any", f.tokenRevoke},
		{"GET /v1/audit-log/stream", "logs:read", f.stream},
		{"GET /v1/audit-log/export", "logs:read", f.export},
		{"GET /v1/audit-log/exports/:id", "logs:read", f.exportManifest},
		{"GET /v1/audit-log/facets", "logs:read", f.facets},
		{"GET /v1/audit-log", "logs:read", f.search},
		{"GET /v1/audit-log/:id", "logs:read", f.show},
		{"GET /v1/views", "logs:read", f.viewList},
		{"POST /v1/views", "views:write", f.viewSave},
		{"PATCH /v1/views/:id", "views:write", f.viewChange},
		{"DELETE /v1/views/:id", "views:write", f.viewChange},
		{"GET /v1/perf", "logs:read", f.perf},
		{"GET /v1/perf/series", "logs:read", f.series},
		{"GET /v1/perf/differs", "logs:read", f.differs},
	} {
		method, template, _ := strings.Cut(e.route, " ")
		want, have := strings.Split(template, "/"), strings.Split(r.URL.Path, "/")
		if method != r.Method || len(want) != len(have) {
			continue
		}
		params = nil
		matches := true
		for i := range want {
			if name, ok := strings.CutPrefix(want[i], ":"); ok {
				params = append(params, argus.PathParam{Name: name, Value: have[i]})
			} else if want[i] != have[i] {
				matches = false
			}
		}
		if matches {
			return e.route, params, e.scope, e.h
		}
	}
	return r.Method + " " + argus.UnmatchedRoute, nil, argus.ScopeNone, nil
}

// part is the nth segment of the path, from 0.
func (x *exchange) part(n int) string { return strings.Split(x.r.URL.Path, "/")[n+1] }

func (x *exchange) in() map[string]any {
	var v map[string]any
	_ = json.Unmarshal(x.body, &v)
	return v
}

func (f *fake) health(x *exchange) {
	status := "ok"
	stages := []argus.Stage{{Name: "postgres", Status: "ok"}, {Name: "writer", Status: "ok", Facts: map[string]any{"queued": 0}},
		{Name: "replicator", Status: "ok", Facts: map[string]any{"lag_seconds": 0.04, "lag_bytes": 128}}, {Name: "clickhouse", Status: "ok"}, {Name: "identity", Status: "ok"}}
	if x.scenario == "degraded" {
		status = "degraded"
		stages[3].Status, stages[3].Detail = "down", "ClickHouse does not answer; the log is answered from Postgres alone."
		stages[3].Facts = map[string]any{"down_seconds": 3900.0}
	}
	if x.scenario == "copies" {
		status = "degraded"
		east := argus.Stage{Name: "clickhouse", Status: "down", Detail: "This copy does not answer; another copy does.",
			Facts: map[string]any{"copy": "east", "preferred": false, "down_seconds": 3900.0}}
		stages[3].Facts = map[string]any{"copy": "west", "preferred": true, "tail_rows": 3, "lag_seconds": 0.04}
		stages = slices.Insert(stages, 3, east)
	}
	x.reply(200, map[string]any{"status": status, "version": "1.2.0", "stages": stages})
}

func (f *fake) tenant(id string) *tenant {
	for i := range f.tenants {
		if f.tenants[i].ID == id {
			return &f.tenants[i]
		}
	}
	return nil
}

func (f *fake) tenantShow(x *exchange) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if t := f.tenant(x.part(2)); t != nil {
		named := *t
		named.Actors = actorNames
		x.reply(200, named)
	} else {
		x.fail(404, "not_found", "There is no such tenant.")
	}
}

func (f *fake) arm(x *exchange) {
	f.mu.Lock()
	defer f.mu.Unlock()
	t, in := f.tenant(x.part(2)), x.in()
	switch arming := x.part(3) == "arm"; {
	case t == nil:
		x.fail(404, "not_found", "There is no such tenant.")
	case arming && in["confirm_tenant_id"] != t.ID:
		x.fail(403, "confirmation_mismatch", "confirm_tenant_id must repeat the tenant's id.")
	case arming && !t.Consent.Given:
		x.fail(403, "tenant_consent_required", "The tenant has no consent on record.")
	case arming && in["consent_document_id"] != nil && in["consent_document_id"] != t.Consent.DocumentID:
		x.fail(403, "tenant_consent_required", "The consent of the tenant is another document.")
	default:
		t.Armed, t.ArmedBy, t.ArmedReason, t.ArmedAt = arming, x.who.me.ActorID, in["reason"].(string), f.now()
		if !arming {
			t.Sessions = nil
		}
		x.reply(200, t)
	}
}

func (f *fake) sessionStart(x *exchange) {
	f.mu.Lock()
	defer f.mu.Unlock()
	t := f.tenant(x.part(2))
	if t == nil || !t.Armed {
		x.fail(409, "conflict", "The tenant is not armed.")
		return
	}
	minutes := 30.0
	if m, ok := x.in()["minutes"].(float64); ok {
		minutes = m
	}
	s := session{ID: uuid.NewString(), TenantID: t.ID, State: "live", StartedBy: x.who.me.ActorID, StartedAt: f.now(),
		EndsAt: f.now().Add(time.Duration(minutes) * time.Minute)}
	t.Sessions = append(t.Sessions, s)
	x.reply(201, s)
}

func (f *fake) sessionEnd(x *exchange) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if t := f.tenant(x.part(2)); t != nil {
		for i, s := range t.Sessions {
			if s.ID == x.part(4) {
				t.Sessions = slices.Delete(t.Sessions, i, i+1)
				s.State, s.EndedAt = "ended", f.now()
				x.reply(200, s)
				return
			}
		}
	}
	x.fail(404, "not_found", "There is no such session.")
}

func (f *fake) workerList(x *exchange) {
	f.mu.Lock()
	defer f.mu.Unlock()
	shown := []any{}
	for _, w := range f.workers {
		if w["state"] != "terminated" || x.r.URL.Query().Get("all") == "true" {
			shown = append(shown, w)
		}
	}
	x.reply(200, map[string]any{"workers": shown})
}

func (f *fake) launch(x *exchange) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if x.in()["provider"] != "local" {
		x.fail(422, "unprocessable", "There is no such provider.")
		return
	}
	w := fakeWorker(uuid.NewString(), "local", "running", false)
	w["reason"], w["launched_by"] = x.in()["reason"], x.who.me.ActorID
	f.workers = append(f.workers, w)
	x.reply(201, w)
}

func (f *fake) workerVerb(x *exchange) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, w := range f.workers {
		if w["id"] != x.part(3) {
			continue
		}
		state := map[string]string{"stop": "stopped", "resume": "running", "terminate": "terminated"}[x.part(4)]
		if w["state"] == state || w["orphan"] == true && state != "terminated" {
			x.fail(409, "conflict", "The worker is "+w["state"].(string)+".")
			return
		}
		w["state"] = state
		x.reply(200, w)
		return
	}
	x.fail(404, "not_found", "There is no such worker.")
}

// tokenList gives a page of tokens, newest first; with owner those of others, for a caller with tokens:admin.
func (f *fake) tokenList(x *exchange) {
	f.mu.Lock()
	defer f.mu.Unlock()
	q := x.r.URL.Query()
	owner := q.Get("owner")
	if owner == "" {
		owner = x.who.me.ActorID
	} else if !slices.Contains(x.who.scopes, argus.ScopeTokensAdmin) {
		x.fail(403, "insufficient_scope", "Listing the tokens of others needs the scope tokens:admin, which your credential does not have.")
		return
	}
	family := []any{x.who.me.PATID}
	for _, k := range f.below(x.who.me.PATID) {
		family = append(family, k["id"])
	}
	matching := []map[string]any{}
	for _, k := range slices.Backward(f.tokens) {
		if !slices.Contains(x.who.scopes, argus.ScopeTokensWrite) && q.Get("owner") == "" && !slices.Contains(family, k["id"]) {
			continue
		}
		if (owner == "all" || k["actor_id"] == owner) && (q.Get("state") != "live" || k["revoked_at"] == nil) &&
			(q.Get("unused_since") == "" || k["last_used_at"] == nil) {
			matching = append(matching, k)
		}
	}
	from, _ := strconv.Atoi(q.Get("cursor"))
	limit, _ := strconv.Atoi(q.Get("limit"))
	if limit == 0 {
		limit = argus.DefaultLimit
	}
	if x.scenario == "pages" {
		limit = 1
	}
	page := map[string]any{"tokens": matching[from:min(from+limit, len(matching))], "next_cursor": nil, "actors": map[string]string{adaID: "Ada Okafor"}}
	if from+limit < len(matching) {
		page["next_cursor"] = strconv.Itoa(from + limit)
	}
	x.reply(200, page)
}

func (f *fake) tokenCreate(x *exchange) {
	f.mu.Lock()
	defer f.mu.Unlock()
	in, secret := x.in(), argus.NewSecret(argus.PATPrefix)
	preset, _ := in["preset"].(string)
	scopes, _ := argus.PresetScopes(preset)
	if names, ok := in["scopes"].([]any); ok {
		for _, name := range names {
			scopes = append(scopes, argus.Scope(name.(string)))
		}
	}
	k := fakeToken(x.who.me.ActorID, in["name"], in["preset"], scopes, secret)
	if x.who.me.PATID != "" {
		k["parent_id"] = x.who.me.PATID
	}
	agent, _ := in["agent"].(string)
	if agent != "" {
		if k["agent"], k["agent_actions"] = agent, in["agent_actions"] == true; in["name"] == nil {
			k["name"] = agent
		}
	}
	f.tokens = append(f.tokens, k)
	c := &caller{token: secret, me: x.who.me, scopes: scopes}
	c.me.PATID, c.me.Preset, c.me.Agent, c.me.Scopes = k["id"].(string), preset, agent, nil
	for _, s := range scopes {
		c.me.Scopes = append(c.me.Scopes, string(s))
	}
	f.callers = append(f.callers, c)
	x.reply(201, map[string]any{"token": k, "secret": secret})
}

// fakeToken is a token as the API shows it.
func fakeToken(owner string, name, preset, scopes any, secret string) map[string]any {
	now := time.Now().UTC()
	return map[string]any{"id": uuid.NewString(), "kind": "pat", "actor_id": owner, "name": name, "preset": preset, "scopes": scopes,
		"agent": nil, "agent_actions": false, "parent_id": nil, "audit_id": uuid.NewString(), "created_at": now.Format(argus.TimeFormat),
		"expires_at": now.Add(90 * 24 * time.Hour).Format(argus.TimeFormat), "last_used_at": nil, "revoked_at": nil, "revoked_by": nil,
		"revoked_with": nil, "revoked_audit_id": nil, "last_four": argus.LastFour(secret)}
}

// below are the live tokens that descend from one.
func (f *fake) below(id any) []map[string]any {
	all := []map[string]any{}
	for _, k := range f.tokens {
		if k["parent_id"] == id && k["revoked_at"] == nil {
			all = append(append(all, k), f.below(k["id"])...)
		}
	}
	return all
}

func (f *fake) tokenShow(x *exchange) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, k := range f.tokens {
		if k["id"] == x.part(2) {
			shown := maps.Clone(k)
			shown["descendants"] = f.below(k["id"])
			x.reply(200, shown)
			return
		}
	}
	x.fail(404, "not_found", "You have no token of this id.")
}

func (f *fake) revoke(k map[string]any) []map[string]any {
	if k["revoked_at"] != nil {
		return []map[string]any{}
	}
	ended := append([]map[string]any{k}, f.below(k["id"])...)
	for _, t := range ended {
		t["revoked_at"] = f.now().UTC().Format(argus.TimeFormat)
		f.callers = slices.DeleteFunc(f.callers, func(c *caller) bool { return c.me.PATID == t["id"] })
	}
	return ended
}

func (f *fake) tokenRevoke(x *exchange) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, k := range f.tokens {
		if k["id"] == x.part(2) {
			ended := f.revoke(k)
			told := maps.Clone(k)
			told["descendants"] = ended[min(1, len(ended)):]
			x.reply(200, told)
			return
		}
	}
	x.fail(404, "not_found", "You have no token of this id.")
}

func (f *fake) tokensRevoke(x *exchange) {
	f.mu.Lock()
	defer f.mu.Unlock()
	in := x.in()
	told := map[string]any{"token": nil, "revoked": []map[string]any{}}
	for _, k := range f.tokens {
		secret, _ := in["secret"].(string)
		if k["actor_id"] == in["owner"] {
			told["revoked"] = append(told["revoked"].([]map[string]any), f.revoke(k)...)
		}
		if secret != "" && k["last_four"] == argus.LastFour(secret) {
			told["token"], told["revoked"] = k, f.revoke(k)
		}
	}
	if in["secret"] != nil && told["token"] == nil {
		x.fail(404, "not_found", "No token of this ARGUS has that secret.")
		return
	}
	x.reply(200, told)
}

// matching returns the rows of a filter in the order of the log, of those that arrived by the position.
func (f *fake) matching(q url.Values, at *argus.Position) ([]argus.Record, argus.Filter, error) {
	filter, err := argus.ParseFilter(q, f.now(), "limit", "cursor", "order", "format", "after", "group_by", "compare", "fields", "step", "steps", "names", "follow")
	if err != nil {
		return nil, filter, err
	}
	for _, c := range filter.Conditions { // the little of names that scripts ask for
		switch v := &c.Values[0]; {
		case c.Name == argus.FilterActor && v.Text == "me":
			v.Text = adaID
		case c.Name == argus.FilterTenant && v.Text == "7ELEVEN":
			return nil, filter, argus.Errorf(argus.CodeUnknownFilterValue, "No tenant '7ELEVEN'. Did you mean 7-Eleven Dallas, UTD_7ELEVEN_001?")
		case c.Name == argus.FilterTenant && strings.HasPrefix(v.Text, "東京"): // of a call that was answered 404
			return nil, filter, argus.Errorf(argus.CodeUnknownFilterValue, "No tenant '%s'.", v.Text)
		case c.Name == argus.FilterRelease && v.Text == "2.0.0" && q.Get("follow") != "true":
			return nil, filter, argus.Errorf(argus.CodeUnknownFilterValue, "No release '2.0.0'.")
		case c.Name == argus.FilterRoute && strings.Contains(v.Text, "/UTD_"):
			return nil, filter, argus.Errorf(argus.CodeUnknownFilterValue, "No route '%s'. Did you mean GET /v1/tenants/:id?", v.Text)
		}
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	var rows []argus.Record
	for _, r := range f.rows {
		if filter.Match(&r) && (at == nil || at.Contains(r.WriterID, r.Seq)) {
			rows = append(rows, r)
		}
	}
	slices.SortFunc(rows, func(a, b argus.Record) int { return a.Compare(&b) })
	return rows, filter, nil
}

func (f *fake) position() argus.Position {
	f.mu.Lock()
	defer f.mu.Unlock()
	p := argus.Position{ClosedThrough: 2, Writers: map[int64]int64{2: 0}}
	for _, r := range f.rows {
		p.Writers[r.WriterID] = max(p.Writers[r.WriterID], r.Seq)
	}
	return p
}

// parsePosition reads what argus.Position's String wrote: the fake's tokens, which argusctl may not look into.
func parsePosition(s string) (p argus.Position, err error) {
	p.Writers = map[int64]int64{}
	head, rest, more := strings.Cut(s, ".")
	number := func(s string) (n int64) {
		if err == nil {
			n, err = strconv.ParseInt(s, 36, 64)
		}
		return n
	}
	p.ClosedThrough = number(strings.TrimPrefix(head, "c"))
	for writer := int64(0); more; {
		var item string
		item, rest, more = strings.Cut(rest, ".")
		step, seq, _ := strings.Cut(item, "-")
		writer += number(step)
		p.Writers[writer] = number(seq)
	}
	return p, err
}

func badQuery(x *exchange, err error) {
	status := 400
	if argus.CodeOf(err) == argus.CodeUnknownFilterValue {
		status = 422
	}
	x.fail(status, string(argus.CodeOf(err)), badParameter("", err).message)
}

// search pages by "<snapshot> <rows passed>", which is as opaque as it needs to be here.
func (f *fake) search(x *exchange) {
	q := x.r.URL.Query()
	at, passed := f.position(), 0
	if c := q.Get("cursor"); c != "" {
		snapshot, n, ok := strings.Cut(c, " ")
		p, err := parsePosition(snapshot)
		if passed, _ = strconv.Atoi(n); err != nil || !ok {
			x.fail(400, "invalid_cursor", "The cursor is not one of this search.")
			return
		}
		at = p
	}
	rows, filter, err := f.matching(q, &at)
	if err != nil {
		badQuery(x, err)
		return
	}
	if x.scenario == "crowded" { // 150 calls before all others
		many := slices.Repeat([]argus.Record{cannedRows()[0]}, 150)
		for i := range many {
			many[i].ID, many[i].OccurredAt = uuid.NewSHA1(uuid.Nil, []byte{byte(i)}), many[i].OccurredAt.Add(time.Duration(i-200)*time.Second)
		}
		rows = append(many, rows...)
	}
	if q.Get("order") != "asc" {
		slices.Reverse(rows)
	}
	limit, _ := strconv.Atoi(q.Get("limit"))
	if limit == 0 {
		limit = argus.DefaultLimit
	}
	if x.scenario == "smallpages" {
		limit = min(limit, 3)
	}
	rows = rows[min(passed, len(rows)):]
	var next any
	if len(rows) > limit {
		rows = rows[:limit]
		next = fmt.Sprintf("%s %d", at, passed+limit)
	}
	page := []json.RawMessage{}
	for i := range rows {
		row := rows[i].AppendJSON(nil)
		if q.Has("steps") {
			row = argus.AppendBeside(row, &argus.Beside{Steps: cannedSteps(&rows[i])}, true, false)
		}
		page = append(page, row)
	}
	source := argus.SourceBoth
	if x.scenario == "degraded" {
		source = argus.SourcePostgres
	}
	awaited := []string{}
	if q.Get("release") == "2.0.0" {
		awaited = append(awaited, "No release '2.0.0'. Did you mean 1.2.0?")
	}
	x.reply(200, map[string]any{"awaited": awaited, "rows": page, "next_cursor": next, "snapshot": at.String(), "since": argus.JSONTime(filter.Since), "until": argus.JSONTime(filter.Until),
		"source": source, "replicated_through": argus.JSONTime(f.now()), "actors": actorNames, "break_glass": map[string]string{glassID: "Clerk is down"}})
}

func (f *fake) show(x *exchange) {
	rows, _, _ := f.matching(url.Values{"id": {x.part(2)}}, nil)
	if len(rows) == 0 {
		x.fail(404, "not_found", "There is no call of that id.")
		return
	}
	b := rows[0].AppendJSON(nil)
	steps := []argus.Step{}
	document, recorder := "DOC-2025-0117", "user_2graceHopper"
	reason, tenantID, worker, from, to := "ride-along", "UTD_7ELEVEN_001", "w-1", "running", "stopped"
	if rows[0].ID.String() == "019c1000-0000-7000-8000-000000000004" {
		steps = append(steps, argus.Step{Table: "remote_support_audit", AuditID: rows[0].ID, Step: 1, At: argus.JSONTime(rows[0].OccurredAt), ActorID: adaID,
			Action: "arm", TenantID: &tenantID, Reason: &reason, Result: "succeeded", ConsentDocumentID: &document, ConsentRecordedBy: &recorder,
			ConsentRecordedAt: argus.JSONTime(time.Date(2025, 1, 17, 9, 0, 0, 0, time.UTC))})
	}
	if rows[0].Route == "POST /compute/ops/launch" {
		steps = append(steps, argus.Step{Table: "compute_control_audit", AuditID: rows[0].ID, Step: 1, At: argus.JSONTime(rows[0].OccurredAt), ActorID: adaID,
			Action: "launch", WorkerID: &worker, FromState: &from, ToState: &to, Reason: &reason, Result: "failed", Error: &reason})
	}
	more, _ := json.Marshal(map[string]any{"steps": steps, "source": "clickhouse", "actors": actorNames, "break_glass_reason": nil, "sentence": rows[0].Sentence(actorNames)})
	if rows[0].BreakGlassID != uuid.Nil {
		more, _ = json.Marshal(map[string]any{"steps": steps, "source": "clickhouse", "actors": actorNames, "break_glass_reason": "Clerk is down",
			"sentence": rows[0].Sentence(actorNames)})
	}
	x.status, x.answer = 200, append(append(b[:len(b)-1], ','), more[1:]...)
}

func (f *fake) facets(x *exchange) {
	rows, _, err := f.matching(x.r.URL.Query(), nil)
	if err != nil {
		badQuery(x, err)
		return
	}
	q := x.r.URL.Query()
	limit, _ := strconv.Atoi(q.Get("limit"))
	if limit == 0 { // for completion: what occurred today
		rows, limit = append(rows, cannedRows()...), argus.DefaultLimit
	}
	fields := map[string]any{}
	for _, field := range q["fields"] {
		values := facetsOf(rows, field)
		fields[field] = values[:min(limit, len(values))]
	}
	filter, _ := argus.ParseFilter(url.Values{"since": q["since"], "until": q["until"]}, f.now())
	if filter.Until.IsZero() {
		filter.Until = f.now()
	}
	x.reply(200, map[string]any{"since": argus.JSONTime(filter.Since), "until": argus.JSONTime(filter.Until), "total": len(rows), "fields": fields,
		"histogram": []any{}, "source": "clickhouse"})
}

func facetsOf(rows []argus.Record, field string) []map[string]any {
	values := []map[string]any{}
	for _, r := range rows {
		value := map[string]string{"actor": r.ActorID, "actor_kind": string(r.ActorKind), "route": r.Route, "client": argus.ClientName(r.UserAgent),
			"method": r.Method, "status": strconv.Itoa(int(r.Status)), "error_code": r.ErrorCode, "agent": r.Agent, "service": r.Service,
			"release": r.Release}[field]
		if value == "" || value == "0" { // an interrupted call has no status
			continue
		}
		i := slices.IndexFunc(values, func(v map[string]any) bool { return v["value"] == value })
		if i < 0 {
			name := any(nil)
			if n := actorNames[value]; n != "" {
				name = n
			}
			values, i = append(values, map[string]any{"value": value, "name": name, "count": 0}), len(values)
		}
		values[i]["count"] = values[i]["count"].(int) + 1
	}
	slices.SortStableFunc(values, func(a, b map[string]any) int { return b["count"].(int) - a["count"].(int) })
	return values
}

func groupOf(r *argus.Record, by string) string {
	switch by {
	case "method":
		return r.Method
	case "actor":
		return r.ActorID
	case "tenant":
		return r.Tenant()
	case "client":
		return argus.ClientName(r.UserAgent)
	case "actor_kind":
		return string(r.ActorKind)
	case "status_class":
		return fmt.Sprintf("%dxx", r.Status/100)
	}
	return r.Route
}

func (f *fake) perf(x *exchange) {
	q := x.r.URL.Query()
	rows, filter, err := f.matching(q, nil)
	if err != nil {
		badQuery(x, err)
		return
	}
	by := q.Get("group_by")
	if by == "" {
		by = "route"
	}
	until := filter.Until
	if until.IsZero() {
		until = argus.Micros(f.now())
	}
	groups := map[string][]argus.Record{}
	for _, r := range rows {
		groups[groupOf(&r, by)] = append(groups[groupOf(&r, by)], r)
	}
	out := []argus.PerfRow{}
	for group, rows := range groups {
		p := argus.PerfRow{GroupBy: argus.GroupBy(by), Group: group}
		var ms []float64
		for _, r := range rows {
			switch {
			case r.Outcome == argus.Interrupted:
				p.Interrupted++
				continue
			case r.Status >= 500:
				p.ErrorRate++
			case r.Status >= 400:
				p.ClientErrorRate++
			}
			p.Count++
			ms = append(ms, float64(r.LatencyUS)/1000)
		}
		slices.Sort(ms)
		quantile := func(q float64) float64 {
			if len(ms) == 0 {
				return math.NaN()
			}
			return ms[max(int(math.Ceil(q*float64(len(ms)))), 1)-1]
		}
		p.P50, p.P95, p.P99, p.Max = quantile(.5), quantile(.95), quantile(.99), quantile(1)
		n := float64(max(p.Count, 1))
		p.ErrorRate, p.ClientErrorRate, p.RPM = p.ErrorRate/n, p.ClientErrorRate/n, float64(p.Count)/until.Sub(filter.Since).Minutes()
		if q.Get("compare") == "true" {
			before := p
			before.P99, before.RPM, before.ErrorRate = p.P99/2, p.RPM*2, 0
			p.Before = &before
			if p.ErrorRate > 0 {
				p.Changed = []string{"error_rate", "p99"}
			}
		}
		out = append(out, p)
	}
	slices.SortFunc(out, func(a, b argus.PerfRow) int { return strings.Compare(a.Group, b.Group) })
	x.reply(200, map[string]any{"group_by": by, "since": argus.JSONTime(filter.Since), "until": argus.JSONTime(until), "rows": out, "source": "clickhouse",
		"replicated_through": argus.JSONTime(f.now())})
}

func (f *fake) series(x *exchange) {
	rows, _, err := f.matching(x.r.URL.Query(), nil)
	if err != nil {
		badQuery(x, err)
		return
	}
	counts := map[string]float64{}
	for _, r := range rows {
		counts[r.Route]++
	}
	series := []any{}
	var started any
	if x.r.URL.Query().Get("compare") == "true" {
		started = "2026-01-31T12:20:00.000000Z"
	}
	for route, n := range counts {
		series = append(series, map[string]any{"group": route, "started_at": started, "points": []any{map[string]any{"rpm": 0}, map[string]any{"rpm": n}, map[string]any{"rpm": n / 2}}})
	}
	x.reply(200, map[string]any{"group_by": "route", "step_seconds": 60, "series": series})
}

// accessReview gives two pages: a person, and a token that uses half of its scopes.
func (f *fake) accessReview(x *exchange) {
	if x.r.URL.Query().Get("owner") == "user_2nobody" {
		x.reply(200, map[string]any{"subjects": []any{}, "next_cursor": nil, "actors": map[string]any{}})
		return
	}
	subject := func(kind, id, name string, granted, unused []string) map[string]any {
		return map[string]any{"kind": kind, "id": id, "actor_id": adaID, "impersonator_id": nil, "name": name, "state": "live", "agent": nil, "granted": granted,
			"used":   []any{map[string]any{"scope": "logs:read", "calls": 3, "denied": 0, "last_used_at": "2026-01-31T11:00:00.000000Z"}},
			"unused": unused, "calls": 4, "denied": 0, "last_used_at": "2026-01-31T11:00:00.000000Z", "created_at": nil, "expires_at": nil,
			"addresses": []any{map[string]any{"value": "192.0.2.1", "last_at": "2026-01-31T11:00:00.000000Z"}}, "more_addresses": true, "agents": []any{}, "more_agents": false}
	}
	page := map[string]any{"actors": actorNames, "next_cursor": "next", "subjects": []any{subject("person", adaID, "Ada Lovelace", []string{"logs:read"}, []string{})}}
	if x.r.URL.Query().Get("cursor") == "next" {
		page["next_cursor"], page["subjects"] = nil, []any{subject("token", patOf(adaID).String(), "=cmd|'x'!A0", []string{"logs:read", "compute:write"}, []string{"compute:write"})}
	}
	x.reply(200, page)
}
