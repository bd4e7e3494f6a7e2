package main

import (
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/useargus/argus"
)

// fake is an ops API in memory. It has the routes and shapes of the real one over canned data, so that the CLI's side of
// each can be held to the letter. Calls are recorded as the real one records them. A path below /s/<scenario>/
// behaves badly in the way the scenario says.
type fake struct {
	*httptest.Server
	away     *httptest.Server // another host, for redirects
	now      func() time.Time // the server's clock
	still    bool             // no call of the test itself is recorded
	requests string           // file: one line a request, for scripts to look at

	mu      sync.Mutex
	rows    []argus.Record // by arrival
	tenants []tenant
	workers []map[string]any
	tokens  []map[string]any
	views   []map[string]any
	callers []*caller
	keys    map[string]stored
	exports map[string]argus.ExportManifest // by audit id
	tries   map[string]int                  // by scenario
	arrived chan struct{}                   // closed and replaced when a row arrives
	done    chan struct{}
}

type stored struct {
	request string
	status  int
	body    []byte
}

// The operators of the fake.
type caller struct {
	token  string
	me     operator
	scopes []argus.Scope
}

const adaID, graceID, linusID = "user_2adaLovelace", "user_2graceHopper", "user_2linus"

func newCaller(id, name, preset string, scopes ...argus.Scope) *caller {
	c := &caller{token: argus.NewSecret(argus.PATPrefix), scopes: scopes}
	if preset != "" {
		c.scopes, _ = argus.PresetScopes(preset)
	}
	c.me = operator{ActorID: id, ActorKind: argus.KindPAT, Name: name, Preset: preset, PATID: patOf(id).String()}
	for _, s := range c.scopes {
		c.me.Scopes = append(c.me.Scopes, string(s))
	}
	return c
}

func patOf(actor string) uuid.UUID { return uuid.NewSHA1(uuid.NameSpaceOID, []byte(actor)) }

var callers = []*caller{
	newCaller(adaID, "Ada Lovelace", argus.PresetAdminFull),
	newCaller(graceID, "Grace Hopper", argus.PresetSupportReadonly),
	newCaller(linusID, "", "", argus.ScopeTenantsRead),
}

var actorNames = map[string]string{adaID: "Ada Lovelace", graceID: "Grace Hopper", "user_2wide": "山田 太郎"}

const glassID = "019c1000-0000-7000-8000-00000000b9b9"

func newFake(t testing.TB, requests string) *fake {
	f := &fake{requests: requests, now: time.Now, keys: map[string]stored{}, exports: map[string]argus.ExportManifest{}, tries: map[string]int{}, arrived: make(chan struct{}),
		done: make(chan struct{}), rows: cannedRows(), callers: slices.Clone(callers)}
	consent := func(v *tenant, document string) {
		v.Consent.Given, v.Consent.DocumentID, v.Consent.RecordedBy = true, document, "maria"
		v.Consent.At = time.Date(2025, 1, 17, 9, 0, 0, 0, time.UTC)
	}
	seven, acme, wide := tenant{ID: "UTD_7ELEVEN_001", Name: "7-Eleven Dallas", Agents: 12}, tenant{ID: "UTD_HARBOR_021", Name: "Harbor Fuel", Agents: 31},
		tenant{ID: "UTD_KONBINI_001", Name: "コンビニ 東京 \x1b[31m", Agents: 3, Armed: true, ArmedBy: adaID, ArmedReason: "night shift",
			ArmedAt: time.Date(2026, 1, 31, 11, 0, 0, 0, time.UTC), LastActivity: time.Date(2026, 1, 31, 11, 30, 0, 0, time.UTC)}
	consent(&seven, "DOC-2025-0117")
	consent(&wide, "DOC-2025-0203")
	f.tenants = []tenant{seven, acme, wide}
	f.workers = []map[string]any{fakeWorker("w-orphan", "local", "running", true)}
	dev := fakeToken(adaID, "make dev", "admin-full", callers[0].me.Scopes, callers[0].token)
	dev["id"], dev["created_at"], dev["expires_at"] = patOf(adaID).String(), "2026-01-01T00:00:00.000000Z", "2200-01-01T00:00:00.000000Z"
	f.tokens = []map[string]any{dev}
	f.away = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		f.note("AWAY %s %s authorization=%q", r.Method, r.URL.Path, r.Header.Get("Authorization"))
		fmt.Fprint(w, `{"status":"ok","version":"stolen","stages":[]}`)
	}))
	f.Server = httptest.NewServer(f)
	t.Cleanup(func() {
		close(f.done)
		f.Server.CloseClientConnections()
		f.Server.Close()
		f.away.Close()
	})
	return f
}

func fakeWorker(id, provider, state string, orphan bool) map[string]any {
	return map[string]any{"id": id, "provider": provider, "state": state, "orphan": orphan, "reason": "ride-along", "launched_by": adaID,
		"launched_at": "2026-01-31T11:00:00.000000Z", "uptime_seconds": 3723, "cost_per_hour": 0.42, "provider_ref": map[string]any{"pid": 4711}}
}

func (f *fake) note(format string, args ...any) {
	f.mu.Lock()
	defer f.mu.Unlock()
	file, err := os.OpenFile(f.requests, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o644)
	if err != nil {
		panic(err)
	}
	fmt.Fprintf(file, format+"\n", args...)
	file.Close()
}

func (f *fake) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	arrived := f.now()
	body, _ := io.ReadAll(r.Body)
	f.note("%s %s agent=%s key=%t last-event-id=%q body=%s", r.Method, r.URL.RequestURI(), r.UserAgent(), r.Header.Get("Idempotency-Key") != "",
		r.Header.Get("Last-Event-ID"), bytes.TrimSuffix(body, []byte("\n")))
	scenario := ""
	if rest, ok := strings.CutPrefix(r.URL.Path, "/s/"); ok {
		name, path, _ := strings.Cut(rest, "/")
		scenario, r.URL.Path = name, "/"+path
	}
	f.mu.Lock()
	f.tries[scenario]++
	try := f.tries[scenario]
	f.mu.Unlock()
	if scenario != "" && f.misbehave(w, r, scenario, try) || f.service(w, r, body) {
		return
	}
	var who *caller
	f.mu.Lock()
	for _, c := range f.callers {
		if r.Header.Get("Authorization") == "Bearer "+c.token {
			who = c
		}
	}
	f.mu.Unlock()
	if who == nil {
		fail(w, 401, "unauthenticated", "The token is not known, has expired or was revoked.", "")
		return
	}
	id := uuid.Must(uuid.NewV7())
	route, params, scope, handle := f.route(r)
	w.Header().Set(argus.AuditIDHeader, id.String())
	rec := argus.Record{ID: id, OccurredAt: argus.Micros(arrived), ActorID: who.me.ActorID, ActorKind: argus.KindPAT, PATID: uuid.MustParse(who.me.PATID),
		Scope: scope, Route: route, PathParams: params, Method: r.Method, Outcome: argus.Completed, ClientIP: netip.MustParseAddr("127.0.0.1"),
		UserAgent: r.UserAgent(), BodySHA256: sha256.Sum256(body), BodyHashed: true, BodyBytes: int64(len(body)), LatencyUS: 1500, Service: argus.OwnService, Release: "0.1.0"}
	rec.MakeStorable()
	if handle == nil {
		f.record(rec, 404)
		fail(w, 404, "not_found", "There is no such route.", id.String())
		return
	}
	if scope != argus.ScopeAny && !slices.Contains(who.scopes, argus.Scope(scope)) {
		f.record(rec, 403)
		fail(w, 403, "insufficient_scope", "This needs the scope "+scope+".", id.String())
		return
	}
	if strings.HasSuffix(route, "/stream") || strings.HasSuffix(route, "/export") {
		f.record(rec, 200)
		handle(&exchange{w: w, r: r, scenario: scenario, try: try})
		return
	}
	x := &exchange{r: r, body: body, who: who, id: id, w: httptest.NewRecorder(), scenario: scenario, try: try}
	key := r.Header.Get("Idempotency-Key")
	request := who.me.ActorID + r.Method + r.URL.Path + string(body)
	f.mu.Lock()
	old, known := f.keys[key]
	f.mu.Unlock()
	switch {
	case key != "" && known && old.request != request:
		x.fail(422, "idempotency_key_reused", "This key was used for another request.")
	case key != "" && known:
		x.w.Header().Set("Idempotent-Replayed", "true")
		x.status, x.answer = old.status, old.body
	default:
		handle(x)
		if key != "" {
			f.mu.Lock()
			f.keys[key] = stored{request, x.status, x.answer}
			f.mu.Unlock()
		}
	}
	f.record(rec, int16(x.status))
	if scenario == "lost" && try == 1 {
		panic(http.ErrAbortHandler) // it happened, and the answer is lost
	}
	for name, values := range x.w.Header() {
		w.Header()[name] = values
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(x.status)
	w.Write(x.answer)
}

// misbehave answers badly, and reports whether that was all.
func (f *fake) misbehave(w http.ResponseWriter, r *http.Request, scenario string, try int) bool {
	id := "019c2222-0000-7000-8000-000000000001"
	switch scenario {
	case "cut":
		if try < 3 {
			panic(http.ErrAbortHandler)
		}
		return false
	case "away503":
		w.Header().Set("Retry-After", "60")
		fail(w, 503, "audit_unavailable", "The audit log cannot be written, so nothing was done.", id)
	case "dark503": // health of a server that has lost Postgres
		w.Header().Set("Content-Type", "application/json")
		w.Header().Set("Retry-After", "60")
		w.WriteHeader(503)
		fmt.Fprintln(w, `{"error":{"code":"audit_unavailable","message":"The call was not made.","audit_id":null},"health":{"status":"down","stages":[`+
			`{"name":"identity","status":"ok","since":null},{"name":"postgres","status":"down","since":"2026-01-31T12:00:00Z"}]}}`)
	case "slow503": // as when Postgres is away: the server itself has waited
		select {
		case <-r.Context().Done():
		case <-time.After(atOnce + 100*time.Millisecond):
		}
		w.Header().Set("Retry-After", "1")
		fail(w, 503, "audit_unavailable", "The audit log cannot be written, so nothing was done.", id)
	case "brief503":
		if try > 1 {
			return false
		}
		w.Header().Set("Retry-After", "1")
		fail(w, 503, "unavailable", "A store did not answer in time.", id)
	case "internal":
		fail(w, 500, "internal", "Something went wrong.\x1b]0;owned\x07", id)
	case "unconfirmed":
		fail(w, 500, "audit_unconfirmed", "The change may have happened; its row is not confirmed.", id)
	case "provider":
		fail(w, 502, "provider_failed", "The provider said no.", id)
	case "conflict":
		fail(w, 409, "conflict", "The worker is not running.", id)
	case "large":
		fail(w, 413, "body_too_large", "The body is too large.", id)
	case "limited":
		w.Header().Set("Retry-After", "7")
		fail(w, 429, "rate_limited", "Too many arms.", id)
	case "teapot":
		w.WriteHeader(418)
	case "proxy502":
		w.Header().Set("Content-Type", "text/html")
		w.WriteHeader(502)
		fmt.Fprint(w, "<html>bad gateway</html>")
	case "html":
		w.Header().Set("Content-Type", "text/html")
		fmt.Fprint(w, "<!doctype html>")
	case "redirect":
		http.Redirect(w, r, f.away.URL+r.URL.Path, http.StatusTemporaryRedirect)
	case "moved":
		http.Redirect(w, r, r.URL.Path, http.StatusTemporaryRedirect)
	case "found":
		http.Redirect(w, r, r.URL.Path, http.StatusFound)
	case "silent":
		select {
		case <-r.Context().Done():
		case <-f.done:
		}
	default:
		return false
	}
	return true
}

func fail(w http.ResponseWriter, status int, code, message, auditID string) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	w.Write(failBody(code, message, auditID))
}

func failBody(code, message, auditID string) []byte {
	b, _ := json.Marshal(map[string]any{"error": map[string]any{"code": code, "message": message, "audit_id": optional(auditID)}})
	return append(b, '\n')
}

// exchange is one call on its way through a handler.
type exchange struct {
	w        http.ResponseWriter
	r        *http.Request
	body     []byte
	who      *caller
	id       uuid.UUID
	scenario string
	try      int
	status   int
	answer   []byte
}

func (x *exchange) reply(status int, v any) {
	x.status = status
	x.answer, _ = json.Marshal(v)
	x.answer = append(x.answer, '\n')
}

func (x *exchange) fail(status int, code, message string) {
	x.status, x.answer = status, failBody(code, message, x.id.String())
}

// record appends a call's row.
func (f *fake) record(rec argus.Record, status int16) {
	if f.still {
		return
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	rec.WriterID, rec.Seq, rec.Status = 2, 1, status
	for _, r := range f.rows {
		if r.WriterID == 2 {
			rec.Seq = r.Seq + 1
		}
	}
	rec.RecordedAt = argus.Micros(f.now())
	f.rows = append(f.rows, rec)
	close(f.arrived)
	f.arrived = make(chan struct{})
}

// cannedRows are ten calls of a January morning, with what must not reach a terminal raw.
func cannedRows() []argus.Record {
	at := time.Date(2026, 1, 31, 12, 0, 0, 123456000, time.UTC)
	var rows []argus.Record
	add := func(actor string, status int16, latency time.Duration, route, agent string, params ...string) *argus.Record {
		n := int64(len(rows) + 1)
		method, _, _ := strings.Cut(route, " ")
		r := argus.Record{WriterID: 1, Seq: n, ID: uuid.MustParse(fmt.Sprintf("019c1000-0000-7000-8000-%012d", n)),
			OccurredAt: at.Add(time.Duration(n) * 61 * time.Second), RecordedAt: at.Add(time.Duration(n)*61*time.Second + 3*time.Millisecond),
			ActorID: actor, ActorKind: argus.KindPAT, PATID: patOf(actor), Scope: "any", Route: route, Method: method, Status: status,
			Outcome: argus.Completed, LatencyUS: latency.Microseconds(), ClientIP: netip.MustParseAddr("192.0.2.7"), UserAgent: agent,
			BodySHA256: sha256.Sum256(nil), BodyHashed: true, Service: argus.OwnService, Release: "1.2.0"}
		for i := 0; i+1 < len(params); i += 2 {
			r.PathParams = append(r.PathParams, argus.PathParam{Name: params[i], Value: params[i+1]})
		}
		rows = append(rows, r)
		return &rows[n-1]
	}
	const cli, browser = "argusctl/1.2.0", "Mozilla/5.0 (X11; Linux x86_64)"
	add(adaID, 200, 4200*time.Microsecond, "GET /v1/health", cli)
	add(adaID, 200, 12345*time.Microsecond, "GET /v1/tenants/:id", cli, "id", "UTD_7ELEVEN_001")
	add(graceID, 403, 900*time.Microsecond, "POST /v1/tenants/:id/arm", browser, "id", "UTD_7ELEVEN_001")
	rows[2].ErrorCode = "insufficient_scope"
	body := []byte("{\"reason\":\"ride-along\",\"confirm_tenant_id\":\"UTD_7ELEVEN_001\"}\n")
	arm := add(adaID, 200, 38*time.Millisecond, "POST /v1/tenants/:id/arm", cli, "id", "UTD_7ELEVEN_001")
	arm.Reason, arm.Agent = "ride-along", "claude/4"
	arm.BodySHA256, arm.BodyBytes = sha256.Sum256(body), int64(len(body))
	add("user_2wide", 200, 7*time.Millisecond, "GET /v1/tenants/:id", "evil\x1b[2J\x1b]0;owned\x07 \u202egnp", "id", "東京_\x1b[31m001")
	add(linusID, 500, 1234*time.Millisecond, "GET /v1/audit-log", "curl/8.14.1")
	cut := add(adaID, 0, 0, "POST /compute/ops/launch", cli)
	cut.Outcome, cut.Status, cut.LatencyUS = argus.Interrupted, 0, 0
	glass := add(graceID, 200, 5*time.Millisecond, "GET /v1/audit-log", cli)
	glass.ActorKind, glass.PATID, glass.BreakGlassID = argus.KindBreakGlass, uuid.Nil, uuid.MustParse(glassID)
	large := add(linusID, 413, 2*time.Millisecond, "POST /v1/tokens", "=cmd|' /C calc'!A0")
	large.BodyHashed, large.BodySHA256, large.BodyBytes = false, [32]byte{}, argus.MaxBody+1
	as := add(adaID, 204, 321*time.Millisecond, "DELETE /v1/tokens/:id", browser, "id", patOf(adaID).String())
	as.ImpersonatorID, as.ActorKind, as.PATID = "user_2support", argus.KindClerkSession, uuid.Nil
	for i := range rows {
		rows[i].RowHash = rows[i].ComputeHash()
	}
	return rows
}
