//go:build linux

package api

import (
	"fmt"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/useargus/argus"
	"github.com/useargus/argus/api/console"
	"github.com/useargus/argus/api/credential"
)

// TestContract: what openapi.json says of the running server is so, and all that is so. Each operation is called until every
// answer it documents has been seen, each code of it. Requests and answers are held against their schemas. An answer that
// is not documented fails.
func TestContract(t *testing.T) {
	c := newContract(t)
	c.checkPublic()
	c.checkSameErrors()
	c.checkTokens()
	c.checkTenants()
	c.checkWorkers()
	c.checkSinks()
	c.checkLog()
	c.checkViews()
	c.checkStreams()
	c.checkLedger()
	c.checkLimits()
	c.checkOutage()
	c.covered()
}

const unknownID = "019b76da-a800-7000-8000-000000000001"

func (c *contract) checkPublic() {
	c.expect("livez", wish{status: 200})
	c.expect("readyz", wish{status: 200})
	page := c.expect("console", wish{status: 200, header: []string{"Accept-Encoding", "identity"}})
	c.expect("asset", wish{status: 404})
	files := map[string]string{"description": "", "assertionKeys": "", "consoleConfig": "", "console": ""}
	if console.Built() {
		_, rest, _ := strings.Cut(string(page.body), "/assets/")
		asset, _, _ := strings.Cut(rest, `"`)
		files["asset"] = "/assets/" + asset
	} else { // a binary without its console has no such file
		c.seen["asset"][outcomeKey{200, ""}], c.seen["asset"][outcomeKey{304, ""}] = true, true
	}
	for id, path := range files {
		resp := c.expect(id, wish{status: 200, path: path})
		c.expect(id, wish{status: 304, path: path, header: []string{"If-None-Match", resp.header.Get("ETag"), "Accept-Encoding", "gzip"}})
	}
	all := c.tokens[ada]
	for _, call := range []struct {
		token, method, path string
		code                argus.Code
	}{
		{"", "GET", "/v1/nothing", argus.CodeUnauthenticated}, {all, "GET", "/v1/nothing", argus.CodeNotFound},
		{all, "PUT", "/v1/tenants", argus.CodeMethodNotAllowed}, {all, "POST", "/livez", argus.CodeMethodNotAllowed},
		{all, "OPTIONS", "/v1/tenants", argus.CodeMethodNotAllowed}, {all, "GET", "/v1/tenants/", argus.CodeNotFound},
	} {
		resp := c.do(call.token, call.method, call.path, nil)
		if resp.code() != call.code {
			c.t.Errorf("%s %s: %d %s", call.method, call.path, resp.status, resp.body)
		}
		c.answered(unmatchedOperation, call.token != "", resp)
	}
}

// checkSameErrors: what every operation rejects or denies in the same way, before it has looked at what is asked.
func (c *contract) checkSameErrors() {
	all := c.tokens[ada]
	c.each(4, func(id string, op *documented) {
		_, path, body := c.sample(id)
		c.expect(id, wish{status: 401, code: argus.CodeUnauthenticated})
		c.expect(id, wish{status: 401, code: argus.CodeUnauthenticated, token: all + "x"})
		if op.scope() != string(scopeAny) {
			c.expect(id, wish{status: 403, code: argus.CodeForbidden, token: c.none})
		}
		c.expect(id, wish{status: 400, code: argus.CodeInvalidParameter, token: all, path: path + "?%zz", wrong: true})
		c.expect(id, wish{status: 400, code: argus.CodeBodyIncomplete, token: all, raw: "Content-Length: 100\r\n\r\n{"})
		c.expect(id, wish{status: 413, code: argus.CodeBodyTooLarge, token: all,
			raw: fmt.Sprintf("Content-Length: %d\r\nExpect: 100-continue\r\n\r\n", argus.MaxBody+1)})
		if body != nil {
			c.expect(id, wish{status: 400, code: argus.CodeInvalidJSON, token: all, body: "{", wrong: true})
			c.expect(id, wish{status: 400, code: argus.CodeInvalidJSON, token: all, body: `{"unheard_of":1}`, wrong: true})
		}
		if op.method == http.MethodGet {
			for _, token := range []string{"", c.none} {
				get, head := c.do(token, http.MethodGet, path+"?%zz", nil), c.do(token, http.MethodHead, path+"?%zz", nil)
				if get.status != head.status || len(head.body) != 0 || get.header.Get("Content-Type") != head.header.Get("Content-Type") {
					c.t.Errorf("%s: HEAD answers %d, GET %d", id, head.status, get.status)
				}
			}
		} else {
			c.expect(id, wish{status: 400, code: argus.CodeInvalidParameter, token: all, header: []string{"Idempotency-Key", "two words"}, wrong: true})
		}
	})
	c.faults.broken.Store(true)
	c.each(4, func(id string, _ *documented) { c.expect(id, wish{status: 500, code: argus.CodeInternal, token: all}) })
	c.faults.broken.Store(false)
}

func (c *contract) checkTokens() {
	all := c.tokens[ada]
	c.expect("health", wish{status: 200, token: all})
	c.expect("me", wish{status: 200, token: all})
	c.expect("me", wish{status: 200, token: c.issuer.Token(grace)})
	key := []string{"Idempotency-Key", "used"}
	made := c.expect("createToken", wish{status: 201, token: all, header: key})
	c.expect("createToken", wish{status: 409, code: argus.CodeConflict, token: all, header: key})
	c.expect("createToken", wish{status: 422, code: argus.CodeUnprocessable, token: all,
		body: map[string]any{"name": "lasting", "scopes": []string{"logs:read"}, "expires_in": "365d"}})
	c.expect("createToken", wish{status: 400, code: argus.CodeInvalidParameter, token: all, body: map[string]any{"name": "neither"}, wrong: true})
	c.expect("listTokens", wish{status: 200, token: all, path: "/v1/tokens?owner=all&state=live&unused_since=1s&limit=1"})
	c.expect("listTokens", wish{status: 400, code: argus.CodeInvalidCursor, token: all, path: "/v1/tokens?cursor=AAEC"})
	c.expect("listTokens", wish{status: 403, code: argus.CodeForbidden, token: c.none, path: "/v1/tokens?owner=all"})

	c.expect("accessReview", wish{status: 200, token: all, path: "/v1/access-review?since=30d&limit=1"})
	c.expect("accessReview", wish{status: 400, code: argus.CodeInvalidCursor, token: all, path: "/v1/access-review?cursor=AAEC"})

	// The key is known by now, and was of another request.
	c.each(4, func(id string, op *documented) {
		if op.method != http.MethodGet {
			w := wish{status: 422, code: argus.CodeKeyReused, token: all, header: key}
			if id == "createToken" {
				w.body = map[string]any{"name": "another", "preset": "support-readonly"}
			}
			c.expect(id, w)
		}
	})

	var token struct{ Token credential.Token }
	made.json(c.t, &token)
	path := "/v1/tokens/" + token.Token.ID.String()
	c.expect("showToken", wish{status: 200, token: all, path: path})
	c.expect("showToken", wish{status: 403, code: argus.CodeForbidden, token: c.none, path: path})
	c.expect("showToken", wish{status: 404, code: argus.CodeNotFound, token: all, path: "/v1/tokens/" + unknownID})
	c.expect("revokeToken", wish{status: 403, code: argus.CodeForbidden, token: c.none, path: path})
	// An answer that could not be kept for repetitions: they are rejected, rather than carried out again.
	ctx := c.t.Context()
	_, err := c.owner.Exec(ctx, `REVOKE UPDATE ON argus.idempotency_keys FROM argus_api`)
	c.must(err)
	key = []string{"Idempotency-Key", "revoking"}
	c.expect("revokeToken", wish{status: 200, token: all, path: path, header: key})
	c.expect("revokeToken", wish{status: 409, code: argus.CodeConflict, token: all, path: path, header: key})
	_, err = c.owner.Exec(ctx, `GRANT UPDATE ON argus.idempotency_keys TO argus_api`)
	c.must(err)
	key = []string{"Idempotency-Key", "revoking-again"}
	c.expect("revokeToken", wish{status: 200, token: all, path: path, header: key})
	if again := c.expect("revokeToken", wish{status: 200, token: all, path: path, header: key}); again.header.Get(replayedHeader) != "true" {
		c.t.Error("a repetition was carried out again")
	}
	c.expect("revokeToken", wish{status: 404, code: argus.CodeNotFound, token: all, path: "/v1/tokens/" + unknownID})

	key = []string{"Idempotency-Key", "revoking-by-secret"}
	body := map[string]any{"secret": c.token(grace)}
	c.expect("revokeTokens", wish{status: 200, token: all, body: body, header: key})
	if again := c.expect("revokeTokens", wish{status: 200, token: all, body: body, header: key}); again.header.Get(replayedHeader) != "true" {
		c.t.Error("a repetition was carried out again")
	}
	c.expect("revokeTokens", wish{status: 200, token: all})
	c.expect("revokeTokens", wish{status: 404, code: argus.CodeNotFound, token: all, body: map[string]any{"secret": argus.NewSecret(argus.PATPrefix)}})
	c.expect("revokeTokens", wish{status: 400, code: argus.CodeInvalidParameter, token: all, body: map[string]any{"owner": "user_2ada", "secret": "x"}, wrong: true})
	_, err = c.owner.Exec(ctx, `REVOKE UPDATE ON argus.idempotency_keys FROM argus_api`)
	c.must(err)
	key = []string{"Idempotency-Key", "revoking-all"}
	c.expect("revokeTokens", wish{status: 200, token: all, header: key})
	c.expect("revokeTokens", wish{status: 409, code: argus.CodeConflict, token: all, header: key})
	_, err = c.owner.Exec(ctx, `GRANT UPDATE ON argus.idempotency_keys TO argus_api`)
	c.must(err)
}

func (c *contract) checkTenants() {
	all := c.tokens[ada]
	tenant := func(id, verb string) string { return "/v1/tenants/" + id + verb }
	absent := func(id, verb string) {
		c.expect(id, wish{status: 404, code: argus.CodeNotFound, token: all, path: tenant("UTD_NOBODY", verb)})
	}
	c.expect("listServices", wish{status: 200, token: all})
	c.expect("listTenants", wish{status: 200, token: all})
	c.expect("showTenant", wish{status: 200, token: all})
	absent("showTenant", "")
	c.expect("startSession", wish{status: 409, code: argus.CodeConflict, token: all})
	c.expect("disarmTenant", wish{status: 409, code: argus.CodeConflict, token: all})

	absent("armTenant", "/arm")
	c.expect("armTenant", wish{status: 403, code: argus.CodeStepUpRequired, token: all,
		body: map[string]any{"reason": "ride-along", "confirm_tenant_id": "UTD_7ELEVEN_002"}})
	c.expect("armTenant", wish{status: 403, code: argus.CodeConsentRequired, token: all, path: tenant(silent, "/arm"),
		body: map[string]any{"reason": "ride-along", "confirm_tenant_id": silent, "consent_document_id": nil}})
	c.expect("armTenant", wish{status: 200, token: all})
	c.expect("armTenant", wish{status: 409, code: argus.CodeConflict, token: all})

	c.expect("startSession", wish{status: 400, code: argus.CodeInvalidParameter, token: all, body: map[string]any{"reason": "ride-along", "minutes": 999}, wrong: true})
	absent("startSession", "/sessions")
	var s sessionJSON
	c.expect("startSession", wish{status: 201, token: all}).json(c.t, &s)
	end := tenant("UTD_7ELEVEN_001", "/sessions/"+s.ID.String()+"/end")
	c.expect("endSession", wish{status: 200, token: all, path: end, body: map[string]any{}})
	c.expect("endSession", wish{status: 409, code: argus.CodeConflict, token: all, path: end})
	c.expect("endSession", wish{status: 404, code: argus.CodeNotFound, token: all})

	c.expect("retireTenant", wish{status: 409, code: argus.CodeConflict, token: all})
	absent("disarmTenant", "/disarm")
	c.expect("disarmTenant", wish{status: 200, token: all})

	added := tenant("UTD_NEW_001", "")
	c.expect("listTenants", wish{status: 200, token: all, path: "/v1/tenants?retired=true"})
	c.expect("listTenants", wish{status: 400, code: argus.CodeInvalidParameter, token: all, path: "/v1/tenants?retired=maybe", wrong: true})
	c.expect("putTenant", wish{status: 201, token: all, path: added})
	c.expect("putTenant", wish{status: 200, token: all, path: added})
	c.expect("putTenant", wish{status: 400, code: argus.CodeInvalidParameter, token: all, path: tenant(".x", "")})
	c.expect("recordConsent", wish{status: 200, token: all, path: added + "/consent", body: map[string]any{"document_id": "DOC-1", "reason": "signed"}})
	c.expect("recordConsent", wish{status: 200, token: c.tokens[grace], path: added + "/consent", body: map[string]any{"document_id": "DOC-2", "reason": "signed"}})
	c.expect("recordConsent", wish{status: 409, code: argus.CodeConflict, token: all, path: added + "/consent", body: map[string]any{"document_id": "DOC-1", "reason": "signed"}})
	absent("recordConsent", "/consent")
	c.expect("retireTenant", wish{status: 200, token: all, path: added})
	c.expect("putTenant", wish{status: 409, code: argus.CodeConflict, token: all, path: added})
	absent("retireTenant", "")
}

// checkSinks: what a shipper declared, and its answer to a test.
func (c *contract) checkSinks() {
	all := c.tokens[ada]
	if _, err := c.owner.Exec(c.t.Context(), `INSERT INTO argus.sinks (sink, kind, target, format, filter, status, updated_at)
		VALUES ('siem', 'https', 'https://siem.example.com/in', 'argus', '', '{"state": "idle", "lag_rows": 0}', clock_timestamp())`); err != nil {
		c.t.Fatal(err)
	}
	if _, err := c.owner.Exec(c.t.Context(), `INSERT INTO argus.sink_positions (sink, stream, position, batch) VALUES ('siem', '', 'c0', '000000000001-00')`); err != nil {
		c.t.Fatal(err)
	}
	for id, path := range map[string]string{"showSink": "", "testSink": "/test", "pauseSink": "/pause", "resumeSink": "/resume", "backfillSink": "/backfill"} {
		c.expect(id, wish{status: 404, code: argus.CodeNotFound, token: all, path: "/v1/sinks/nobody" + path})
	}
	c.expect("listSinks", wish{status: 200, token: all})
	c.expect("pauseSink", wish{status: 200, token: all})
	c.expect("resumeSink", wish{status: 200, token: all})
	c.expect("backfillSink", wish{status: 200, token: all})
	c.expect("backfillSink", wish{status: 400, code: argus.CodeInvalidParameter, token: all, body: map[string]any{"since": "the day before"}})
	c.expect("showSink", wish{status: 200, token: all})
	go func() { // the shipper, to the end of the test
		for c.t.Context().Err() == nil {
			c.owner.Exec(c.t.Context(), "UPDATE argus.sink_orders SET state = 'done', finished_at = clock_timestamp() WHERE kind = 'test' AND state = 'asked'")
			time.Sleep(20 * time.Millisecond)
		}
	}()
	c.expect("testSink", wish{status: 200, token: all})
}

func (c *contract) checkWorkers() {
	all := c.tokens[ada]
	key := []string{"Idempotency-Key", "launching"}
	// The same launch twice, the second while the first is being carried out.
	started, goOn := make(chan struct{}), make(chan struct{})
	c.provider.set(func(p *flakyProvider) {
		p.before = onlyOnce(func() error { close(started); <-goOn; return nil })
	})
	var launched *response
	var first sync.WaitGroup
	first.Go(func() { launched = c.expect("launchWorker", wish{status: 201, token: all, header: key}) })
	<-started
	c.expect("launchWorker", wish{status: 409, code: argus.CodeConflict, token: all, header: key})
	close(goOn)
	first.Wait()
	var w workerJSON
	launched.json(c.t, &w)
	path := func(verb string) string { return "/compute/ops/workers/" + w.ID + "/" + verb }
	failing := func(fails bool) {
		c.provider.set(func(p *flakyProvider) {
			p.before = nil
			if fails {
				p.before = func(string) error { return errBroken }
			}
		})
	}
	failing(true)
	c.expect("launchWorker", wish{status: 502, code: argus.CodeProviderFailed, token: all})
	for _, verb := range []string{"stop", "resume", "terminate"} {
		id := verb + "Worker"
		failing(true)
		c.expect(id, wish{status: 502, code: argus.CodeProviderFailed, token: all, path: path(verb)})
		failing(false)
		c.expect(id, wish{status: 200, token: all, path: path(verb)})
		c.expect(id, wish{status: 409, code: argus.CodeConflict, token: all, path: path(verb)})
		c.expect(id, wish{status: 404, code: argus.CodeNotFound, token: all})
	}
	c.expect("listWorkers", wish{status: 200, token: all})
	c.expect("listWorkers", wish{status: 200, token: all, path: "/compute/ops/workers?all=true"})
	c.expect("listWorkers", wish{status: 400, code: argus.CodeInvalidParameter, token: all, path: "/compute/ops/workers?all=maybe", wrong: true})
}

// checkLimits: every operation, of a caller who calls too often, and of a server that is busy.
func (c *contract) checkLimits() {
	const places = 32
	strict := c.beside(Limits{Calls: places, PerSecond: 0.001, Burst: 1, FailPerSecond: -1})
	c.expect("me", wish{status: 200, token: c.none, url: strict.url})
	c.each(1, func(id string, _ *documented) {
		c.expect(id, wish{status: 429, code: argus.CodeRateLimited, token: c.none, url: strict.url})
	})
	busy := c.beside(Limits{Calls: places, CallsEach: -1, PerSecond: -1, FailPerSecond: -1})
	// Each takes a place with a body that does not come, however long the calls below take.
	busy.api.config.bodyGrace = time.Hour
	for range places {
		conn, err := net.Dial("tcp", strings.TrimPrefix(busy.url, "http://"))
		c.must(err)
		defer conn.Close()
		fmt.Fprintf(conn, "POST /v1/tokens HTTP/1.1\r\nHost: ops\r\nAuthorization: Bearer %s\r\nContent-Length: 9\r\n\r\n", c.tokens[grace])
	}
	eventually(c.t, "every place is taken", func() bool { return len(busy.api.limits.calls) == places })
	c.each(4, func(id string, _ *documented) {
		c.expect(id, wish{status: 503, code: argus.CodeUnavailable, token: c.tokens[ada], url: busy.url})
	})
}

// checkOutage: the writer loses Postgres while calls have announced their effects, and then for all.
func (c *contract) checkOutage() {
	token := c.tokens[grace]
	arm := func(id string) wish {
		return wish{status: 200, token: token, path: "/v1/tenants/" + id + "/arm", body: map[string]any{"reason": "ride-along", "confirm_tenant_id": id}}
	}
	c.expect("armTenant", arm("UTD_7ELEVEN_002"))
	c.expect("armTenant", arm("UTD_LAKESIDE_008"))
	var s sessionJSON
	c.expect("startSession", wish{status: 201, token: token, path: "/v1/tenants/UTD_7ELEVEN_002/sessions"}).json(c.t, &s)
	var made struct{ Token credential.Token }
	c.expect("createToken", wish{status: 201, token: token}).json(c.t, &made)
	workers := map[string]string{}
	for _, verb := range []string{"stop", "resume", "terminate"} {
		var w workerJSON
		c.expect("launchWorker", wish{status: 201, token: token}).json(c.t, &w)
		workers[verb] = "/compute/ops/workers/" + w.ID + "/"
	}
	c.expect("stopWorker", wish{status: 200, token: token, path: workers["resume"] + "stop"})

	calls := map[string]wish{
		"armTenant":       arm("UTD_QUICKSTOP_003"),
		"disarmTenant":    {path: "/v1/tenants/UTD_LAKESIDE_008/disarm"},
		"startSession":    {path: "/v1/tenants/UTD_7ELEVEN_002/sessions"},
		"endSession":      {path: "/v1/tenants/UTD_7ELEVEN_002/sessions/" + s.ID.String() + "/end"},
		"launchWorker":    {},
		"stopWorker":      {path: workers["stop"] + "stop"},
		"resumeWorker":    {path: workers["resume"] + "resume"},
		"terminateWorker": {path: workers["terminate"] + "terminate"},
		"putTenant":       {path: "/v1/tenants/UTD_NEW_002"},
		"retireTenant":    {path: "/v1/tenants/UTD_HARBOR_021"},
		"recordConsent":   {path: "/v1/tenants/UTD_NORTHMART_014/consent"},
		"createToken":     {},
		"revokeToken":     {path: "/v1/tokens/" + made.Token.ID.String()},
		"revokeTokens":    {},
		"testSink":        {},
		"pauseSink":       {},
		"resumeSink":      {},
		"backfillSink":    {},
		"saveView":        {body: map[string]any{"name": "During an outage", "filter": "status=5xx"}},
		"changeView":      {path: c.view("Changed in an outage")},
		"removeView":      {path: c.view("Removed in an outage")},
	}
	// All announce themselves; then the writer is cut off; then they have their effects. A call that fails before
	// it does so does not keep the others waiting for good.
	c.warm(len(calls))
	var left atomic.Int64
	left.Store(int64(len(calls)))
	severed := make(chan struct{})
	c.faults.announced = func() {
		if left.Add(-1) == 0 {
			c.writer.Cut()
			close(severed)
		}
		select {
		case <-severed:
		case <-time.After(time.Minute):
		}
	}
	var all sync.WaitGroup
	var mu sync.Mutex
	var unconfirmed []string
	for id, w := range calls {
		w.status, w.code, w.token = 500, argus.CodeAuditUnconfirmed, token
		all.Go(func() {
			resp := c.expect(id, w)
			mu.Lock()
			defer mu.Unlock()
			unconfirmed = append(unconfirmed, resp.header.Get(argus.AuditIDHeader))
		})
	}
	all.Wait()
	c.faults.announced = nil
	c.each(4, func(id string, _ *documented) {
		c.expect(id, wish{status: 503, code: argus.CodeAuditUnavailable, token: token})
	})
	c.expect("readyz", wish{status: 503})

	// Back again, the writer writes what it owes.
	c.writer.Heal()
	eventually(c.t, "rows can be written again", func() bool { return c.do("", http.MethodGet, "/readyz", nil).status == 200 })
	for _, id := range unconfirmed {
		if _, err := uuid.Parse(id); err != nil {
			c.t.Errorf("an unconfirmed call has the id %q", id)
			continue
		}
		eventually(c.t, "the unconfirmed call has its row", func() bool {
			return c.do(token, http.MethodGet, "/v1/audit-log/"+id, nil).status == 200
		})
	}
}
