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
	var trusted []netip.Prefix
	for _, s := range []string{"10.0.0.0/8", "fd00::/8", "::ffff:127.0.0.1"} {
		p, err := argus.ParseNetwork(s)
		if err != nil {
			t.Fatal(err)
		}
		trusted = append(trusted, p)
	}
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
		{"10.0.0.1:1", "203.0.113.9,, 10.0.0.2, ,", "203.0.113.9"}, // empty elements count for nothing
		{"10.0.0.1:1", "\t203.0.113.9\t", "203.0.113.9"},
		{"10.0.0.1:1", `"203.0.113.9"`, "203.0.113.9"},
		{"10.0.0.1:1", `"[2001:db8::1]:4711"`, "2001:db8::1"},
		{"10.0.0.1:1", `"203.0.113.9`, "10.0.0.1"},
		{"10.0.0.1:1", "[2001:db8::1]", "2001:db8::1"},
		{"10.0.0.1:1", "[[2001:db8::1]]", "10.0.0.1"},
		{"10.0.0.1:1", "[203.0.113.9]", "10.0.0.1"},
		{"10.0.0.1:1", "203.0.113.9:port", "10.0.0.1"},
		{"10.0.0.1:1", "203.0.113.9:65536", "10.0.0.1"},
		{"10.0.0.1:1", "203.0.113.9:", "10.0.0.1"},
		{"10.0.0.1:1", "unknown", "10.0.0.1"},
		{"10.0.0.1:1", "_hidden, 10.0.0.2", "10.0.0.2"},
		{"10.0.0.1:1", "unknown:80", "10.0.0.1"},
		{"10.0.0.1:1", "for=203.0.113.9", "10.0.0.1"}, // the grammar of Forwarded
		{"10.0.0.1:1", "203.0.113.009", "10.0.0.1"},
		{"10.0.0.1:1", "::ffff:10.0.0.2, ::ffff:0a00:3", "10.0.0.2"}, // the same proxies, mapped
		{"10.0.0.1:1", "203.0.113.9, [::ffff:10.0.0.2%eth0]:80", "203.0.113.9"},
		{"[::ffff:7f00:1]:1", "203.0.113.9", "203.0.113.9"},
		{"127.0.0.1:1", "203.0.113.9", "203.0.113.9"},
		{"[::127.0.0.1]:1", "203.0.113.9", "::7f00:1"}, // compatible, not mapped
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

// TestAddressKey: limits count an IPv4 address alone in every form, and an IPv6 address with its network of 64 bits.
func TestAddressKey(t *testing.T) {
	for written, want := range map[string]string{
		"203.0.113.9": "203.0.113.9", "::ffff:203.0.113.9": "203.0.113.9", "::ffff:203.0.113.9%eth0": "203.0.113.9",
		"2001:db8::1": "2001:db8::/64", "2001:db8::ffff:1": "2001:db8::/64", "fe80::1%eth0": "fe80::/64", "::203.0.113.9": "::/64",
	} {
		if got := addressKey(netip.MustParseAddr(written)); got != want {
			t.Errorf("%s: %s, want %s", written, got, want)
		}
	}
}

// FuzzForwarded: for every header the address is in the one form, and a peer that is not trusted counts
// as itself.
func FuzzForwarded(f *testing.F) {
	trusted := []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")}
	for _, seed := range []string{"", "203.0.113.9, 10.0.0.2", `"[2001:db8::1]:80"`, "::ffff:10.0.0.1", "unknown,,_x", "[::1%25eth0]:0"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, header string) {
		r := &http.Request{RemoteAddr: "10.0.0.1:1", Header: http.Header{"X-Forwarded-For": {header}}}
		if got := clientAddr(r, trusted); !got.IsValid() || got != argus.Address(got) {
			t.Fatalf("%q: %v", header, got)
		}
		r.RemoteAddr = "192.0.2.1:1"
		if got := clientAddr(r, trusted).String(); got != "192.0.2.1" {
			t.Fatalf("%q: %v", header, got)
		}
	})
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
