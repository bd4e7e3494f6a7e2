package api

import (
	"bufio"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/useargus/argus"
)

// withRoutes adds routes to an API under test.
func withRoutes(routes ...route) func(*Config) {
	return func(c *Config) { c.extra = routes }
}

// raw sends bytes over a connection of its own and returns it for reading answers.
func (h *harness) raw(text string) (net.Conn, *bufio.Reader) {
	h.t.Helper()
	conn, err := net.Dial("tcp", strings.TrimPrefix(h.url, "http://"))
	h.must(err)
	h.t.Cleanup(func() { conn.Close() })
	_, err = io.WriteString(conn, text)
	h.must(err)
	return conn, bufio.NewReader(conn)
}

// TestRow: what a call's row holds.
func TestRow(t *testing.T) {
	h := newHarness(t)
	token := h.token("user_2ada")
	body := `{"name":"x","preset":"admin-full"}`
	before := time.Now()
	resp := h.do(token, http.MethodPost, "/v1/tokens", body, "User-Agent", "argusctl/1.2", "X-Request-Id", "req-7",
		"Traceparent", "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01", "X-Forwarded-For", "203.0.113.9")
	row := h.row()
	if resp.status != 201 || resp.header.Get(argus.AuditIDHeader) != row.ID.String() {
		t.Fatalf("%d, header %q, row %s", resp.status, resp.header.Get(argus.AuditIDHeader), row.ID)
	}
	if row.ID.Version() != 7 || row.OccurredAt.Before(argus.Micros(before)) || row.OccurredAt.After(time.Now()) {
		t.Errorf("id %s at %s", row.ID, row.OccurredAt)
	}
	if row.BodySHA256 != sha256.Sum256([]byte(body)) || !row.BodyHashed || row.BodyBytes != int64(len(body)) {
		t.Errorf("body %x %d", row.BodySHA256, row.BodyBytes)
	}
	if row.Route != "POST /v1/tokens" || row.Method != "POST" || row.Scope != "tokens:write" || row.Status != 201 || row.Outcome != argus.Completed ||
		row.LatencyUS <= 0 || row.ActorID != "user_2ada" || row.ActorKind != argus.KindPAT || row.PATID == uuid.Nil {
		t.Errorf("row %+v", row)
	}
	if row.UserAgent != "argusctl/1.2" || row.ClientRequestID != "req-7" || row.TraceID != "4bf92f3577b34da6a3ce929d0e0e4736" {
		t.Errorf("row %+v", row)
	}
	if row.ClientIP != netip.MustParseAddr("127.0.0.1") { // no proxy is trusted
		t.Errorf("client ip %s", row.ClientIP)
	}
	if !h.audit.wasIntended(row.ID) {
		t.Error("a call with effects must have had its intent")
	}
	// Templates, not paths; parameters unescaped once and cut; no query, ever.
	resp = h.do(token, http.MethodGet, "/v1/tenants/"+strings.Repeat("%20x", 200)+"%2Fa%00?secret=1", nil)
	row = h.row()
	if resp.status != 404 || row.Route != "GET /v1/tenants/:id" || len(row.PathParams) != 1 ||
		row.PathParams[0].Name != "id" || len(row.PathParams[0].Value) != 256 || !strings.HasPrefix(row.PathParams[0].Value, " x x") {
		t.Errorf("%d %+v", resp.status, row)
	}
	if h.audit.wasIntended(row.ID) {
		t.Error("reading announces nothing")
	}
	empty := sha256.Sum256(nil)
	if row.BodySHA256 != empty || !row.BodyHashed {
		t.Error("an empty body has the digest of nothing")
	}
}

// TestUnmatched: a request that no route matches is authenticated and has its row, under one of a few names.
func TestUnmatched(t *testing.T) {
	h := newHarness(t)
	token := h.token("user_2ada")
	for _, c := range []struct {
		method, path   string
		status         int
		code           argus.Code
		route, method2 string
	}{
		{"GET", "/v1/nothing", 404, argus.CodeNotFound, "GET (unmatched)", "GET"},
		{"GET", "/v1/tenants/", 404, argus.CodeNotFound, "GET (unmatched)", "GET"},
		{"GET", "/v1/tenants/a/b/c/d", 404, argus.CodeNotFound, "GET (unmatched)", "GET"},
		{"GET", "//v1/tenants", 404, argus.CodeNotFound, "GET (unmatched)", "GET"},
		{"GET", "/v1/../v1/tenants", 404, argus.CodeNotFound, "GET (unmatched)", "GET"},
		{"GET", "/V1/Tenants", 404, argus.CodeNotFound, "GET (unmatched)", "GET"},
		{"GET", "/metrics", 404, argus.CodeNotFound, "GET (unmatched)", "GET"},
		{"POST", "/v1/tenants", 405, argus.CodeMethodNotAllowed, "POST (unmatched)", "POST"},
		{"DELETE", "/v1/audit-log", 405, argus.CodeMethodNotAllowed, "DELETE (unmatched)", "DELETE"},
		{"PUT", "/v1/audit-log/01976d3e-7c2a-7b1e-9f00-0123456789ab", 405, argus.CodeMethodNotAllowed, "PUT (unmatched)", "PUT"},
		{"OPTIONS", "/v1/tenants", 405, argus.CodeMethodNotAllowed, "OPTIONS (unmatched)", "OPTIONS"},
		{"BREW", "/v1/tenants", 405, argus.CodeMethodNotAllowed, "OTHER (unmatched)", "OTHER"},
		{"propfind", "/nowhere", 404, argus.CodeNotFound, "OTHER (unmatched)", "OTHER"},
		{"POST", "/", 405, argus.CodeMethodNotAllowed, "POST (unmatched)", "POST"},
		{"POST", "/livez", 405, argus.CodeMethodNotAllowed, "POST (unmatched)", "POST"},
	} {
		resp := h.do(token, c.method, c.path, nil)
		if resp.status != c.status || resp.code() != c.code {
			t.Errorf("%s %s: %d %s, want %d %s", c.method, c.path, resp.status, resp.code(), c.status, c.code)
		}
		row := h.row()
		if row.Route != c.route || row.Method != c.method2 || row.Scope != argus.ScopeNone || int(row.Status) != c.status || len(row.PathParams) != 0 {
			t.Errorf("%s %s: row %+v", c.method, c.path, row)
		}
		if c.status == 405 && resp.header.Get("Allow") == "" {
			t.Errorf("%s %s: no Allow", c.method, c.path)
		}
		if got := h.do("", c.method, c.path, nil); got.status != 401 {
			t.Errorf("%s %s without a credential: %d", c.method, c.path, got.status)
		}
		h.noRow()
	}
	// Forms that net/http's client cannot send.
	for request, status := range map[string]string{
		"OPTIONS * HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer " + token + "\r\n\r\n":                   "404",
		"GET http://other/v1/nothing HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer " + token + "\r\n\r\n": "404",
		"CONNECT x:443 HTTP/1.1\r\nHost: x:443\r\nAuthorization: Bearer " + token + "\r\n\r\n":           "404",
	} {
		conn, r := h.raw(request)
		line, err := r.ReadString('\n')
		if err != nil || !strings.Contains(line, " "+status+" ") {
			t.Errorf("%q: %q %v", request[:20], line, err)
		}
		conn.Close()
		h.row()
	}
}

func TestBodies(t *testing.T) {
	h := newHarness(t)
	token := h.token("user_2ada")
	full := strings.Repeat("x", argus.MaxBody)

	resp := h.do(token, http.MethodPost, "/v1/tokens", full)
	if row := h.row(); resp.status != 400 || resp.code() != argus.CodeInvalidJSON || row.BodyBytes != argus.MaxBody || row.BodySHA256 != sha256.Sum256([]byte(full)) {
		t.Errorf("as large as may be: %d %s, %d bytes", resp.status, resp.code(), row.BodyBytes)
	}
	resp = h.do(token, http.MethodPost, "/v1/tokens", full+"y")
	if row := h.row(); resp.status != 413 || resp.code() != argus.CodeBodyTooLarge || row.BodyHashed || row.BodyBytes != argus.MaxBody+1 || row.Status != 413 {
		t.Errorf("larger: %d %s, row %+v", resp.status, resp.code(), row)
	}
	// Chunked, without a length: the same digest.
	resp = h.do(token, http.MethodPost, "/v1/tokens", io.MultiReader(strings.NewReader(`{"na`), strings.NewReader(`me":""}`)))
	if row := h.row(); resp.status != 400 || row.BodySHA256 != sha256.Sum256([]byte(`{"name":""}`)) {
		t.Errorf("chunked: %d, %x", resp.status, row.BodySHA256)
	}
	// Read, and digested, before it is authorized, and on routes that take none.
	narrow := h.token("user_2ada", argus.ScopeLogsRead)
	resp = h.do(narrow, http.MethodPost, "/v1/tokens", "hello")
	if row := h.row(); resp.status != 403 || row.BodySHA256 != sha256.Sum256([]byte("hello")) {
		t.Errorf("forbidden: %d, %x", resp.status, row.BodySHA256)
	}
	resp = h.do(token, http.MethodDelete, "/v1/nothing", "hello")
	if row := h.row(); resp.status != 404 || row.BodySHA256 != sha256.Sum256([]byte("hello")) {
		t.Errorf("unmatched: %d, %x", resp.status, row.BodySHA256)
	}
	// Cut off in the middle.
	conn, _ := h.raw("POST /v1/tokens HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer " + token + "\r\nContent-Length: 100\r\n\r\nonly this much")
	conn.(*net.TCPConn).CloseWrite()
	eventually(t, "the row of the interrupted call", func() bool {
		h.audit.mu.Lock()
		defer h.audit.mu.Unlock()
		return len(h.audit.rows) == 1
	})
	if row := h.row(); row.Status != 400 || row.BodyHashed || row.BodyBytes != int64(len("only this much")) {
		t.Errorf("cut off: %+v", row)
	}
	// Who asks before sending is told without having to send; and with a good body, to go on.
	expect := "POST /v1/tokens HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer %s\r\nExpect: 100-continue\r\nContent-Length: %d\r\n\r\n"
	for _, c := range []struct {
		token  string
		length int
		first  string
		rows   int
	}{{token, argus.MaxBody + 1, " 413 ", 1}, {"nonsense", 10, " 401 ", 0}, {token, 5, " 100 ", 1}} {
		conn, r := h.raw(fmt.Sprintf(expect, c.token, c.length))
		line, err := r.ReadString('\n')
		if err != nil || !strings.Contains(line, c.first) {
			t.Errorf("expecting %d bytes: %q %v", c.length, line, err)
		}
		if c.first == " 100 " {
			_, _ = r.ReadString('\n')
			io.WriteString(conn, "hello")
			if line, err = r.ReadString('\n'); !strings.Contains(line, " 400 ") {
				t.Errorf("after 100: %q %v", line, err)
			}
		}
		conn.Close()
		if rows := h.audit.taken(); len(rows) != c.rows {
			t.Errorf("expecting %d bytes: %d rows", c.length, len(rows))
		}
	}
}

// TestHeadPipeliningAndHangUps: one row each.
func TestHeadPipeliningAndHangUps(t *testing.T) {
	entered, leave := make(chan struct{}, 10), make(chan struct{})
	h := newHarness(t, withRoutes(
		route{Method: "GET", Path: "/test/slow", Scope: scopeAny, Handle: func(c *call) (answer, error) {
			entered <- struct{}{}
			<-c.Context().Done()
			return answer{}, c.Context().Err()
		}},
		route{Method: "POST", Path: "/test/effect", Scope: scopeAny, Effects: true, Handle: func(c *call) (answer, error) {
			entered <- struct{}{}
			<-leave
			if err := c.Context().Err(); err != nil {
				return answer{}, err
			}
			return reply("done")
		}},
	))
	token := h.token("user_2ada")
	resp := h.do(token, http.MethodHead, "/v1/operators/me", nil)
	row := h.row()
	if resp.status != 200 || len(resp.body) != 0 || resp.header.Get("Content-Length") == "0" || row.Route != "HEAD /v1/operators/me" || row.Method != "HEAD" {
		t.Errorf("HEAD: %d %v %+v", resp.status, resp.header, row)
	}
	if resp := h.do(token, http.MethodHead, "/v1/audit-log/stream", nil); resp.status != 200 || resp.header.Get("Content-Type") != "text/event-stream" {
		t.Errorf("HEAD of a stream: %d %v", resp.status, resp.header)
	}
	h.row()

	one := "GET /v1/operators/me HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer " + token + "\r\n\r\n"
	_, r := h.raw(strings.Repeat(one, 5))
	seen := map[string]bool{}
	for range 5 {
		resp, err := http.ReadResponse(r, nil)
		h.must(err)
		io.Copy(io.Discard, resp.Body)
		seen[resp.Header.Get(argus.AuditIDHeader)] = true
	}
	if rows := h.audit.taken(); len(rows) != 5 || len(seen) != 5 {
		t.Errorf("five pipelined calls: %d rows, %d ids", len(rows), len(seen))
	}

	oneRow := func() argus.Record {
		t.Helper()
		eventually(t, "the row of a caller who hung up", func() bool {
			h.audit.mu.Lock()
			defer h.audit.mu.Unlock()
			return len(h.audit.rows) == 1
		})
		return h.row()
	}
	conn, _ := h.raw("GET /test/slow HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer " + token + "\r\n\r\n")
	<-entered
	conn.Close()
	if row := oneRow(); row.Status != statusClientGone {
		t.Errorf("reading, hung up: %+v", row)
	}
	conn, _ = h.raw("POST /test/effect HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer " + token + "\r\nContent-Length: 0\r\n\r\n")
	<-entered
	conn.Close()
	time.Sleep(20 * time.Millisecond) // the server notices
	close(leave)
	if row := oneRow(); row.Status != 200 {
		t.Errorf("an effect is carried through: %+v", row)
	}
}

// TestNoAnswerBeforeTheRow: not a byte leaves before the row is committed.
func TestNoAnswerBeforeTheRow(t *testing.T) {
	h := newHarness(t)
	token := h.token("user_2ada")
	for _, path := range []string{"/v1/operators/me", "/v1/nothing", "/v1/audit-log/stream", "/v1/audit-log/export"} {
		gate := make(chan struct{})
		h.audit.set(func(f *fakeAudit) { f.gate = gate })
		conn, r := h.raw("GET " + path + " HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer " + token + "\r\n\r\n")
		conn.SetReadDeadline(time.Now().Add(300 * time.Millisecond))
		if b, err := r.Peek(1); err == nil {
			t.Errorf("%s: %q left before the row", path, b)
		}
		conn.SetReadDeadline(time.Time{})
		close(gate)
		if _, err := r.Peek(1); err != nil {
			t.Errorf("%s: no answer after the row: %v", path, err)
		}
		conn.Close()
		h.row()
	}
	h.audit.set(func(f *fakeAudit) { f.gate = nil })
}

func TestPanics(t *testing.T) {
	h := newHarness(t, withRoutes(
		route{Method: "GET", Path: "/test/panic", Scope: scopeAny, Handle: func(*call) (answer, error) { panic("secret detail") }},
		route{Method: "GET", Path: "/test/nil", Scope: scopeAny, Handle: func(c *call) (answer, error) { return reply([]int{}[c.Record.BodyBytes]) }},
		route{Method: "GET", Path: "/test/abort", Scope: scopeAny, Handle: func(*call) (answer, error) { panic(http.ErrAbortHandler) }},
		route{Method: "GET", Path: "/test/unrenderable", Scope: scopeAny, Handle: func(*call) (answer, error) { return reply(func() {}) }},
		route{Method: "GET", Path: "/test/error", Scope: scopeAny, Handle: func(*call) (answer, error) { return answer{}, errors.New("secret detail") }},
		route{Method: "POST", Path: "/test/after", Scope: scopeAny, Effects: true, Handle: func(c *call) (answer, error) {
			if err := c.InTx(func(context.Context, Tx) error { return nil }); err != nil {
				return answer{}, err
			}
			panic("after the intent")
		}},
	))
	token := h.token("user_2ada")
	for _, path := range []string{"/test/panic", "/test/nil", "/test/abort", "/test/unrenderable", "/test/error"} {
		resp := h.do(token, http.MethodGet, path, nil)
		row := h.row()
		if resp.status != 500 || resp.code() != argus.CodeInternal || row.Status != 500 || strings.Contains(string(resp.body), "secret detail") ||
			!strings.Contains(string(resp.body), row.ID.String()) {
			t.Errorf("%s: %d %s", path, resp.status, resp.body)
		}
		if resp.header.Get("X-Leak") != "" {
			t.Error("headers of a failed answer leaked")
		}
	}
	resp := h.do(token, http.MethodPost, "/test/after", nil)
	if row := h.row(); resp.status != 500 || !h.audit.wasIntended(row.ID) {
		t.Errorf("after the intent: %d, intended %t", resp.status, h.audit.wasIntended(row.ID))
	}
	if logs := h.logs.String(); !strings.Contains(logs, "secret detail") {
		t.Error("the cause belongs into the log")
	}
}

// TestAuditFails: what callers see when the row cannot be written.
func TestAuditFails(t *testing.T) {
	ran := 0
	h := newHarness(t, withRoutes(
		route{Method: "POST", Path: "/test/effect", Scope: scopeAny, Effects: true, Handle: func(c *call) (answer, error) {
			ran++
			c.SetHeader("X-Leak", "1")
			if err := c.InTx(func(context.Context, Tx) error { return nil }); err != nil {
				return answer{}, err
			}
			return reply("done")
		}},
		route{Method: "GET", Path: "/test/read", Scope: scopeAny, Handle: func(c *call) (answer, error) {
			c.SetHeader("X-Leak", "1")
			return reply("read")
		}},
	))
	token := h.token("user_2ada")
	check := func(what, method, path string, status int, code argus.Code) {
		t.Helper()
		resp := h.do(token, method, path, nil)
		if resp.status != status || resp.code() != code || resp.header.Get("X-Leak") != "" {
			t.Errorf("%s: %d %s %v, want %d %s", what, resp.status, resp.body, resp.header, status, code)
		}
		if status == 503 && resp.header.Get("Retry-After") != "1" {
			t.Errorf("%s: Retry-After %q", what, resp.header.Get("Retry-After"))
		}
		if resp.header.Get(argus.AuditIDHeader) == "" {
			t.Errorf("%s: no audit id", what)
		}
		h.noRow()
	}
	away := argus.Errorf(argus.CodeAuditUnavailable, "away")
	h.audit.set(func(f *fakeAudit) { f.available = away })
	check("known outage, reading", "GET", "/test/read", 503, argus.CodeAuditUnavailable)
	check("known outage, effects", "POST", "/test/effect", 503, argus.CodeAuditUnavailable)
	check("known outage, stream", "GET", "/v1/audit-log/stream", 503, argus.CodeAuditUnavailable)
	if ran != 0 {
		t.Error("a handler with effects ran while no row could be written")
	}
	h.audit.set(func(f *fakeAudit) { f.available, f.appendErr = nil, away })
	check("row rejected, reading", "GET", "/test/read", 503, argus.CodeAuditUnavailable)
	check("row rejected, not found", "GET", "/v1/nothing", 503, argus.CodeAuditUnavailable)
	check("row rejected, stream", "GET", "/v1/audit-log/stream", 503, argus.CodeAuditUnavailable)
	check("row rejected, export", "GET", "/v1/audit-log/export", 503, argus.CodeAuditUnavailable)
	check("row rejected, after effects", "POST", "/test/effect", 500, argus.CodeAuditUnconfirmed)
	h.audit.set(func(f *fakeAudit) { f.appendErr = argus.Errorf(argus.CodeAuditUnconfirmed, "unknown") })
	check("row unconfirmed", "POST", "/test/effect", 500, argus.CodeAuditUnconfirmed)
	h.audit.set(func(f *fakeAudit) { f.appendErr = errBroken })
	check("anything else", "GET", "/test/read", 500, argus.CodeInternal)
	h.audit.set(func(f *fakeAudit) { f.appendErr = nil })
	if resp := h.do(token, "GET", "/test/read", nil); resp.status != 200 {
		t.Errorf("back again: %d", resp.status)
	}
	h.row()
}

// TestRegistration: a route that would break a promise does not start.
func TestRegistration(t *testing.T) {
	handle := func(*call) (answer, error) { return reply(nil) }
	for name, r := range map[string]route{
		"a mutation without effects": {Method: "POST", Path: "/x", Scope: scopeAny, Handle: handle},
		"a deletion without effects": {Method: "DELETE", Path: "/x", Scope: scopeAny, Handle: handle},
		"a GET with effects":         {Method: "GET", Path: "/x", Scope: scopeAny, Effects: true, Handle: handle},
		"a stream with effects":      {Method: "POST", Path: "/x", Scope: scopeAny, Effects: true, Stream: true, Handle: handle},
		"no scope":                   {Method: "GET", Path: "/x", Handle: handle},
		"no handler":                 {Method: "GET", Path: "/x", Scope: scopeAny},
		"no path":                    {Method: "GET", Path: "x", Scope: scopeAny, Handle: handle},
		"HEAD of its own":            {Method: "HEAD", Path: "/x", Scope: scopeAny, Effects: true, Handle: handle},
		"a scope that no caller has": {Method: "GET", Path: "/x", Scope: "logs:raed", Handle: handle},
	} {
		if checkRoutes([]route{r}) == nil {
			t.Errorf("%s: taken", name)
		}
	}
	get := route{Method: "GET", Path: "/x", Scope: scopeAny, Handle: handle}
	if checkRoutes([]route{get, get}) == nil {
		t.Error("twice: taken")
	}
	// InTx is for routes with effects alone, Start for streams.
	c := &call{route: &get}
	if c.InTx(func(context.Context, Tx) error { return nil }) == nil {
		t.Error("InTx without effects")
	}
	if _, err := c.Start(); err == nil {
		t.Error("Start without a stream")
	}
}
