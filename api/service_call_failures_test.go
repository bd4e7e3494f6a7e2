package api

import (
	"bufio"
	"crypto/sha256"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/google/uuid"

	"github.com/useargus/argus"
)

// misdeed is one way of a service to fail. It gets a connection whose request's headers were read.
type misdeed struct {
	name string
	do   func(conn net.Conn)
	// Of a held answer: what the caller and the row get. code "" is the service's own answer.
	status int
	code   argus.Code
	// Of a stream: as above, when it is something else; cut: the row has the status, and then the connection breaks.
	streamStatus int
	streamCode   argus.Code
	cut          bool
}

func says(text string) func(net.Conn) {
	return func(conn net.Conn) { io.WriteString(conn, text) }
}

// hang waits until the other side is gone.
func hang(conn net.Conn) {
	_, _ = io.Copy(io.Discard, bufio.NewReader(conn))
}

var misdeeds = []misdeed{
	{name: "closes at once", do: func(net.Conn) {}, status: 502, code: argus.CodeServiceBroken},
	{name: "resets", do: func(c net.Conn) { c.(*net.TCPConn).SetLinger(0) }, status: 502, code: argus.CodeServiceBroken},
	{name: "hangs", do: hang, status: 504, code: argus.CodeServiceTimeout},
	{name: "no HTTP", do: says("SSH-2.0-OpenSSH_9.9\r\n\r\n"), status: 502, code: argus.CodeServiceBroken},
	{name: "half a header", do: says("HTTP/1.1 200 OK\r\nContent-Le"), status: 502, code: argus.CodeServiceBroken},
	{name: "endless headers", do: func(c net.Conn) {
		io.WriteString(c, "HTTP/1.1 200 OK\r\n")
		for i := 0; i < 40_000; i++ {
			if _, err := fmt.Fprintf(c, "X-%d: y\r\n", i); err != nil {
				return
			}
		}
	}, status: 502, code: argus.CodeServiceBroken},
	{name: "endless 1xx", do: func(c net.Conn) {
		for range 40_000 {
			if _, err := io.WriteString(c, "HTTP/1.1 102 Processing\r\nX-A: b\r\n\r\n"); err != nil {
				return
			}
		}
	}, status: 502, code: argus.CodeServiceBroken},
	{name: "a strange status", do: says("HTTP/1.1 999 Beyond\r\nContent-Length: 2\r\n\r\nok"), status: 502, code: argus.CodeServiceBroken},
	{name: "switches unasked", do: says("HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\nhello"), status: 502, code: argus.CodeServiceBroken},
	{name: "claims more than it sends", do: says("HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nshort"), status: 502, code: argus.CodeServiceBroken, streamStatus: 200, cut: true},
	{name: "breaks off a chunk", do: says("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhel"), status: 502, code: argus.CodeServiceBroken, streamStatus: 200, cut: true},
	{name: "bad chunks", do: says("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\nhello\r\n0\r\n\r\n"), status: 502, code: argus.CodeServiceBroken, streamStatus: 200, cut: true},
	{name: "hangs inside its answer", do: func(c net.Conn) {
		io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nshort")
		hang(c)
	}, status: 504, code: argus.CodeServiceTimeout, streamStatus: -1},
	{name: "claims too much", do: func(c net.Conn) {
		io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 99999999999\r\n\r\nx")
	}, status: 502, code: argus.CodeServiceAnswerTooLarge, streamStatus: 200, cut: true},
	{name: "sends too much", do: func(c net.Conn) {
		io.WriteString(c, "HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n")
		for range 300 {
			if _, err := c.Write(make([]byte, 8<<10)); err != nil {
				return
			}
		}
	}, status: 502, code: argus.CodeServiceAnswerTooLarge, streamStatus: 200},
	{name: "claims less than it sends", do: says("HTTP/1.1 201 Created\r\nContent-Length: 2\r\n\r\nokHTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\npoison"), status: 201},
	{name: "1xx first", do: says("HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"), status: 200},
	{name: "no content", do: says("HTTP/1.1 204 No Content\r\n\r\n"), status: 204},
	{name: "its own 502", do: says("HTTP/1.1 502 Bad Gateway\r\nContent-Length: 0\r\n\r\n"), status: 502},
	{name: "two lengths", do: says("HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\nabc"), status: 502, code: argus.CodeServiceBroken},
}

// TestDoorFailures: the failure table, for calls without effects, with them, and streams. Each call has one row; the
// service hears each call once; one with effects had its intent.
func TestDoorFailures(t *testing.T) {
	var now atomic.Pointer[misdeed]
	var heardCalls atomic.Int64
	address := rawService(t, func(_ int, conn net.Conn) {
		for {
			head := readHead(conn)
			if head == "" {
				return
			}
			heardCalls.Add(1)
			m := now.Load()
			m.do(conn)
			if m.code != "" || m.cut || m.name == "claims less than it sends" { // the connection is of no use any more
				return
			}
		}
	})
	d := newDoorTo(t, address, "    timeout: 2m\n    answer_limit: 1MiB", nil)
	token := d.admin()
	// Those that are waited for come last, and not for long. The others get the time that a busy machine needs.
	late := func(m misdeed) bool { return m.code == argus.CodeServiceTimeout }
	in := slices.DeleteFunc(slices.Clone(misdeeds), late)
	in = append(in, slices.DeleteFunc(slices.Clone(misdeeds), func(m misdeed) bool { return !late(m) })...)
	short := false
	good := &misdeed{do: says("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")}
	for i := range in {
		m := &in[i]
		if late(*m) && !short {
			short = true
			d.write(t, fmt.Sprintf(doorFile, address, "    timeout: 1s\n    answer_limit: 1MiB", ""))
			d.must(d.config.Services.Reload())
		}
		for _, call := range []struct{ method, path string }{{"GET", "/svc/billing/v1/invoices"}, {"POST", "/svc/billing/v1/invoices"}, {"GET", "/svc/billing/v1/events"}} {
			stream := strings.HasSuffix(call.path, "events")
			if stream && m.streamStatus < 0 {
				continue // a stream may be silent for as long as it likes
			}
			t.Run(m.name+" "+call.method+call.path[len("/svc/billing"):], func(t *testing.T) {
				// On a connection that served a call before, net/http would repeat one that looks idempotent.
				now.Store(good)
				d.do(token, "GET", "/svc/billing/v1/invoices", nil)
				d.row()
				now.Store(m)
				heardCalls.Store(0)
				var body any
				if call.method == "POST" {
					body = "hello"
				}
				resp, err := d.try(token, call.method, call.path, body, "Idempotency-Key", uuid.NewString())
				for n := 0; late(*m) && heardCalls.Load() == 0 && n < 20; n++ { // the machine was too busy to make the call in time
					d.row()
					resp, err = d.try(token, call.method, call.path, body, "Idempotency-Key", uuid.NewString())
				}
				status, code := m.status, m.code
				if stream && m.streamStatus > 0 {
					status, code = m.streamStatus, m.streamCode
				}
				if (err != nil) != (stream && m.cut) {
					t.Fatalf("error %v", err)
				}
				if resp != nil && (resp.status != status || resp.code() != code) {
					t.Errorf("%d %s %s, want %d %s", resp.status, resp.code(), resp.body, status, code)
				}
				row := d.row()
				if int(row.Status) != status || row.ErrorCode != string(code) || row.Outcome != argus.Completed || row.Service != "billing" {
					t.Errorf("row %d %q %+v", row.Status, row.ErrorCode, row)
				}
				if resp != nil && resp.header.Get(argus.AuditIDHeader) != row.ID.String() {
					t.Error("another audit id was answered")
				}
				if n := heardCalls.Load(); n != 1 {
					t.Errorf("the service heard the call %d times", n)
				}
				if d.audit.wasIntended(row.ID) != (call.method == "POST") {
					t.Error("intent")
				}
				if code != "" && call.method == "POST" && !strings.Contains(string(resp.body), "may have happened") {
					t.Errorf("the text does not say that it may have happened: %s", resp.body)
				}
				if call.method == "POST" && row.BodySHA256 != sha256.Sum256([]byte("hello")) {
					t.Error("digest")
				}
			})
		}
	}
}

// TestDoorUnreachable: what cannot be reached heard nothing, and the text does not say that something may have happened.
func TestDoorUnreachable(t *testing.T) {
	closed := rawService(t, func(int, net.Conn) {})
	gone := "http://127.0.0.1:1" // where nothing listens
	for name, address := range map[string]string{
		"refused": gone, "no address": "http://localhost.invalid:1\n    plain_http: true",
		"no TLS": "https" + strings.TrimPrefix(closed, "http"),
	} {
		t.Run(name, func(t *testing.T) {
			d := newDoorTo(t, address, "", nil)
			token := d.admin()
			for _, method := range []string{"GET", "POST"} {
				resp := d.do(token, method, "/svc/billing/v1/invoices", nil)
				row := d.row()
				if resp.status != 502 || resp.code() != argus.CodeServiceUnavailable || row.Status != 502 || row.ErrorCode != "service_unavailable" ||
					!strings.Contains(string(resp.body), "received nothing") {
					t.Errorf("%s: %d %s, row %d %s", method, resp.status, resp.body, row.Status, row.ErrorCode)
				}
			}
			resp := d.do(token, "GET", "/svc/billing/v1/events", nil)
			if row := d.row(); resp.status != 502 || row.Status != 502 {
				t.Errorf("stream: %d, row %d", resp.status, row.Status)
			}
		})
	}
}

// TestDoorGate: what is asked of a call before the service hears of it. The service hears nothing of what is denied.
func TestDoorGate(t *testing.T) {
	d := newDoor(t, "    body_limit: 2MiB")
	token := d.admin()
	narrow := d.token("user_2ada", "billing:read")
	void := "/svc/billing/v1/invoices/7/void"
	for _, c := range []struct {
		name, token, method, path string
		body                      any
		header                    []string
		status                    int
		code                      argus.Code
		route                     string
	}{
		{"no credential", "", "GET", "/svc/billing/v1/invoices", nil, nil, 401, argus.CodeUnauthenticated, ""},
		{"no scope", narrow, "POST", "/svc/billing/v1/invoices", "x", nil, 403, argus.CodeForbidden, "POST /svc/billing/v1/invoices"},
		{"no reason", token, "POST", void, nil, []string{"Argus-Confirm", "7"}, 400, argus.CodeReasonRequired, "POST /svc/billing/v1/invoices/:id/void"},
		{"a reason too short", token, "POST", void, nil, []string{"Argus-Confirm", "7", "Argus-Reason", "x"}, 400, argus.CodeInvalidParameter, "POST /svc/billing/v1/invoices/:id/void"},
		{"a reason in the body", token, "POST", void, `{"reason":"because"}`, []string{"Argus-Confirm", "7"}, 400, argus.CodeReasonRequired, "POST /svc/billing/v1/invoices/:id/void"},
		{"not confirmed", token, "POST", void, nil, []string{"Argus-Reason", "because"}, 403, argus.CodeStepUpRequired, "POST /svc/billing/v1/invoices/:id/void"},
		{"another confirmed", token, "POST", void, nil, []string{"Argus-Reason", "because", "Argus-Confirm", "8"}, 403, argus.CodeStepUpRequired, "POST /svc/billing/v1/invoices/:id/void"},
		{"confirmed twice", token, "POST", void, nil, []string{"Argus-Reason", "because", "Argus-Confirm", "7", "Argus-Confirm", "7"}, 403, argus.CodeStepUpRequired, "POST /svc/billing/v1/invoices/:id/void"},
		{"undeclared", token, "GET", "/svc/billing/v1/admin", nil, nil, 404, argus.CodeNotFound, "GET (unmatched)"},
		{"the mount itself", token, "GET", "/svc/billing", nil, nil, 404, argus.CodeNotFound, "GET (unmatched)"},
		{"another method", token, "PATCH", "/svc/billing/v1/invoices", nil, nil, 405, argus.CodeMethodNotAllowed, "PATCH (unmatched)"},
		{"a body too large", token, "POST", "/svc/billing/v1/invoices", strings.Repeat("x", 2<<20+1), nil, 413, argus.CodeBodyTooLarge, "POST /svc/billing/v1/invoices"},
		{"a query that cannot be read", token, "GET", "/svc/billing/v1/invoices?a=%zz", nil, nil, 400, argus.CodeInvalidParameter, "GET /svc/billing/v1/invoices"},
		{"a query with a semicolon", token, "GET", "/svc/billing/v1/invoices?a=1;b=2", nil, nil, 400, argus.CodeInvalidParameter, "GET /svc/billing/v1/invoices"},
	} {
		t.Run(c.name, func(t *testing.T) {
			resp := d.do(c.token, c.method, c.path, c.body, c.header...)
			if resp.status != c.status || resp.code() != c.code {
				t.Errorf("%d %s, want %d %s", resp.status, resp.body, c.status, c.code)
			}
			if c.token == "" {
				d.noRow()
			} else if row := d.row(); row.Route != c.route || row.Service != "billing" || int(row.Status) != c.status || row.ErrorCode != string(c.code) || d.audit.wasIntended(row.ID) {
				t.Errorf("row %+v", row)
			}
			if heard := d.up.taken(); len(heard) > 0 {
				t.Errorf("the service heard %+v", heard)
			}
		})
	}
	// Not under the mount: another 404, ARGUS's own.
	if d.do(token, "GET", "/svc/billingx/v1/invoices", nil); d.row().Service != argus.OwnService {
		t.Error("a path beside the mount is the service's")
	}
	// Without an intent the service hears nothing.
	d.audit.set(func(f *fakeAudit) { f.available = argus.Errorf(argus.CodeAuditUnavailable, "away") })
	if resp := d.do(token, "POST", "/svc/billing/v1/invoices", nil); resp.status != http.StatusServiceUnavailable || len(d.up.taken()) > 0 {
		t.Errorf("%d while the log is away", resp.status)
	}
}
