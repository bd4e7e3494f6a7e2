package api

import (
	"context"
	"net/http"
	"net/netip"
	"strings"
	"sync"
	"testing"

	"github.com/useargus/argus"
)

func TestClientAddress(t *testing.T) {
	trusted := []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8"), netip.MustParsePrefix("fd00::/8")}
	for _, c := range []struct{ remote, forwarded, want string }{
		{"192.0.2.1:1", "", "192.0.2.1"},
		{"192.0.2.1:1", "203.0.113.9", "192.0.2.1"}, // not a proxy of ours
		{"10.0.0.1:1", "", "10.0.0.1"},
		{"10.0.0.1:1", "203.0.113.9", "203.0.113.9"},
		{"10.0.0.1:1", "1.1.1.1, 203.0.113.9", "203.0.113.9"}, // the left one is anybody's word
		{"10.0.0.1:1", "203.0.113.9, 10.0.0.2, 10.0.0.3", "203.0.113.9"},
		{"10.0.0.1:1", "198.51.100.1|203.0.113.9|10.0.0.2", "203.0.113.9"}, // three header lines
		{"10.0.0.1:1", "10.0.0.9", "10.0.0.9"},
		{"10.0.0.1:1", "evil, 10.0.0.2", "10.0.0.2"},
		{"10.0.0.1:1", "203.0.113.9, evil", "10.0.0.1"},
		{"10.0.0.1:1", "203.0.113.9:4711", "203.0.113.9"},
		{"10.0.0.1:1", "[2001:db8::1]:4711", "2001:db8::1"},
		{"10.0.0.1:1", "2001:db8::1", "2001:db8::1"},
		{"[::ffff:10.0.0.1]:1", "::ffff:203.0.113.9", "203.0.113.9"},
		{"[fd00::1]:1", "fe80::1%eth0", "fe80::1"},
		{"10.0.0.1:1", ",,", "10.0.0.1"},
		{"@", "", "invalid IP"},
	} {
		r := &http.Request{RemoteAddr: c.remote, Header: http.Header{}}
		for _, line := range strings.Split(c.forwarded, "|") {
			if line != "" {
				r.Header.Add("X-Forwarded-For", line)
			}
		}
		if got := clientAddr(r, trusted).String(); got != c.want {
			t.Errorf("%s forwarded %q: %s, want %s", c.remote, c.forwarded, got, c.want)
		}
	}
}

// TestLimits: 429 says when to come back; with its row when authenticated, without when not.
func TestLimits(t *testing.T) {
	h := newHarness(t, func(c *Config) {
		c.Limits = Limits{PerSecond: 0.5, Burst: 3, FailPerSecond: 0.1, FailBurst: 2}
	})
	h.listening()
	token, other := h.token("user_2ada"), h.token("user_2ada")
	var last *response
	for i := range 4 {
		last = h.do(token, "GET", "/v1/operators/me", nil)
		if want := map[bool]int{true: 200, false: 429}[i < 3]; last.status != want {
			t.Fatalf("call %d: %d", i+1, last.status)
		}
	}
	if last.code() != argus.CodeRateLimited || last.header.Get("Retry-After") == "" {
		t.Errorf("%s %v", last.body, last.header)
	}
	if rows := h.audit.taken(); len(rows) != 4 || rows[3].Status != 429 {
		t.Errorf("%d rows", len(rows))
	}
	if resp := h.do(other, "GET", "/v1/operators/me", nil); resp.status != 200 {
		t.Errorf("another credential: %d", resp.status)
	}
	h.audit.taken()

	session := h.issuer.Token("user_2ada")
	for range 2 {
		if resp := h.do("argus_pat_x", "GET", "/v1/operators/me", nil); resp.status != 401 {
			t.Errorf("%d", resp.status)
		}
	}
	resp := h.do("argus_pat_x", "GET", "/v1/operators/me", nil)
	if resp.status != 429 || resp.header.Get("Retry-After") != "10" || resp.header.Get(argus.AuditIDHeader) != "" {
		t.Errorf("the third bad one: %d %v", resp.status, resp.header)
	}
	h.noRow()
	// Good credentials of that address still work: those that are known, and those that cost no question.
	if resp := h.do(session, "GET", "/v1/operators/me", nil); resp.status != 200 {
		t.Errorf("a session from the same address: %d %s", resp.status, resp.body)
	}
	if resp := h.do(other, "GET", "/v1/operators/me", nil); resp.status != 200 {
		t.Errorf("a remembered token from the same address: %d %s", resp.status, resp.body)
	}
	h.audit.taken()
	// Coming without any credential is no guess.
	if resp := h.do("", "GET", "/v1/operators/me", nil); resp.status != 401 {
		t.Errorf("none: %d", resp.status)
	}
}

func TestConcurrencyBound(t *testing.T) {
	entered, leave := make(chan struct{}, 2), make(chan struct{})
	h := newHarness(t, withRoutes(route{Method: "GET", Path: "/test/wait", Scope: scopeAny, Handle: func(*call) (answer, error) {
		entered <- struct{}{}
		<-leave
		return reply("done")
	}}), func(c *Config) { c.Limits.Calls, c.Limits.Streams = 2, 1 })
	token := h.token("user_2ada")
	var calls sync.WaitGroup
	for range 2 {
		calls.Go(func() { h.try(token, "GET", "/test/wait", nil) })
		<-entered
	}
	resp := h.do(token, "GET", "/v1/operators/me", nil)
	if resp.status != 503 || resp.code() != argus.CodeUnavailable || resp.header.Get("Retry-After") == "" {
		t.Errorf("%d %s", resp.status, resp.body)
	}
	close(leave)
	calls.Wait()
	h.audit.taken()
	// A stream takes a stream's place and leaves the calls' alone; a second one finds none.
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	req, _ := http.NewRequestWithContext(ctx, "GET", h.url+"/v1/audit-log/stream", nil)
	req.Header.Set("Authorization", "Bearer "+token)
	stream, err := h.client.Do(req)
	h.must(err)
	defer stream.Body.Close()
	resp = h.do(token, "GET", "/v1/audit-log/stream", nil)
	if rows := h.audit.taken(); resp.status != 503 || len(rows) != 2 || rows[1].Status != 503 {
		t.Errorf("second stream: %d, rows %+v", resp.status, rows)
	}
	h.api.limits.config.Streams, h.api.limits.config.StreamsEach = -1, 1
	if resp := h.do(token, "GET", "/v1/audit-log/stream", nil); resp.status != 429 || resp.header.Get("Retry-After") == "" {
		t.Errorf("second stream of one credential: %d", resp.status)
	}
	h.row()
	for range 3 {
		if resp := h.do(token, "GET", "/v1/operators/me", nil); resp.status != 200 {
			t.Errorf("a call beside the stream: %d", resp.status)
		}
	}
}
