package api

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/useargus/argus"
)

// dial opens a connection from an address of this machine.
func (h *harness) dial(from string) net.Conn {
	h.t.Helper()
	d := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(from)}}
	c, err := d.Dial("tcp", strings.TrimPrefix(h.url, "http://"))
	h.must(err)
	h.t.Cleanup(func() { c.Close() })
	return c
}

// good makes a call on a connection of its own.
func (h *harness) good(what, from, token string) {
	h.t.Helper()
	c := h.dial(from)
	h.must(c.SetDeadline(time.Now().Add(time.Minute)))
	fmt.Fprintf(c, "GET /v1/operators/me HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer %s\r\n\r\n", token)
	head := make([]byte, 12)
	if _, err := io.ReadFull(c, head); err != nil || string(head) != "HTTP/1.1 200" {
		h.t.Fatalf("%s: %q %v", what, head, err)
	}
}

// TestIdleConnectionsMakeRoom: connections that send nothing, or the beginning of a request, never keep a good caller out.
// They may be many of one address or of all, with or without a first answer.
func TestIdleConnectionsMakeRoom(t *testing.T) {
	h := newHarness(t, func(c *Config) { c.Limits.Connections, c.Limits.ConnectionsEach = 60, 40 })
	token := h.token("user_2ada")
	for i, say := range []string{"", "G", "GET /v1/operators/me HTTP/1.1\r\nHost:", "GET /livez HTTP/1.1\r\nHost: x\r\n\r\n"} {
		for n := range 50 {
			_, err := io.WriteString(h.dial("127.0.0.1"), say)
			h.must(err)
			if n%10 == 9 {
				h.good(fmt.Sprintf("%d connections saying %q", n+1, say), "127.0.0.1", token)
			}
		}
		for n := range 80 {
			_, err := io.WriteString(h.dial(fmt.Sprintf("127.0.%d.%d", i+1, n+1)), say)
			h.must(err)
		}
		h.good(fmt.Sprintf("connections of many addresses saying %q", say), "127.0.0.2", token)
	}
}

// TestServedConnectionsStay: a connection on which a call is being served makes no room, and one with an authenticated
// call only when there is no other.
func TestServedConnectionsStay(t *testing.T) {
	entered, leave := make(chan struct{}), make(chan struct{})
	h := newHarness(t, withRoutes(route{Method: "GET", Path: "/test/wait", Scope: scopeAny, Handle: func(*call) (answer, error) {
		entered <- struct{}{}
		<-leave
		return reply("done")
	}}), func(c *Config) { c.Limits.Connections, c.Limits.ConnectionsEach = 4, -1 })
	token := h.token("user_2ada")
	var calls sync.WaitGroup
	for range 3 {
		calls.Go(func() {
			if resp, err := h.try(token, "GET", "/test/wait", nil); err != nil || resp.status != 200 {
				t.Errorf("a call being served: %v", err)
			}
		})
		<-entered
	}
	for range 5 { // the fourth place, again and again
		h.good("the last place", "127.0.0.1", token)
	}
	calls.Go(func() {
		if resp, err := h.try(token, "GET", "/test/wait", nil); err != nil || resp.status != 200 {
			t.Errorf("a call being served: %v", err)
		}
	})
	<-entered
	turnedAway := h.dial("127.0.0.1") // all are being served
	h.must(turnedAway.SetDeadline(time.Now().Add(time.Minute)))
	if _, err := turnedAway.Read(make([]byte, 1)); err == nil {
		t.Error("a fifth connection is open")
	}
	close(leave)
	calls.Wait()
}

// TestStrangersHaveLittleTime: before its first authenticated call a connection may send nothing for some seconds only, even
// when it sent some before. Afterwards it has as long as any other, and so has a proxy's.
func TestStrangersHaveLittleTime(t *testing.T) {
	h := newHarness(t, func(c *Config) {
		c.TrustedProxies = []netip.Prefix{netip.MustParsePrefix("127.0.0.9/32")}
		c.Limits.ConnectionsEach = 3
	})
	token := h.token("user_2ada")
	ask := func(from, credential string) net.Conn {
		c := h.dial(from)
		fmt.Fprintf(c, "GET /v1/operators/me HTTP/1.1\r\nHost: x\r\n%s\r\n", credential)
		_, err := c.Read(make([]byte, 4096))
		h.must(err)
		return c
	}
	var proxies []net.Conn
	for range 5 {
		proxies = append(proxies, ask("127.0.0.9", ""))
	}
	known, stranger, silent := ask("127.0.0.1", "Authorization: Bearer "+token+"\r\n"), ask("127.0.0.1", ""), h.dial("127.0.0.1")
	var all sync.WaitGroup
	for what, c := range map[string]net.Conn{"answered 401": stranger, "silent": silent} {
		all.Go(func() {
			_ = c.SetReadDeadline(time.Now().Add(30 * time.Second)) // well before the server's idle time
			if _, err := c.Read(make([]byte, 1)); err != io.EOF {
				t.Errorf("%s: %v", what, err)
			}
		})
	}
	all.Wait()
	for i, c := range append(proxies, known) {
		fmt.Fprintf(c, "GET /livez HTTP/1.1\r\nHost: x\r\n\r\n")
		head := make([]byte, 12)
		if _, err := io.ReadFull(c, head); err != nil || string(head) != "HTTP/1.1 200" {
			t.Errorf("connection %d that may be idle: %q %v", i, head, err)
		}
	}
}

// TestOnePersonLeavesRoom: a body that never comes holds a place of its caller's, with any token, and none
// of others'. What is past a limit is answered before its body, with a row that has no digest.
func TestOnePersonLeavesRoom(t *testing.T) {
	h := newHarness(t, func(c *Config) {
		c.Limits.Calls, c.Limits.CallsEach = 50, 4
		c.bodyGrace = time.Hour // only the places count here
	})
	token, child, other := h.token("user_2ada"), h.token("user_2ada", argus.ScopeTenantsRead), h.token("user_2grace")
	var held []net.Conn
	for i := range 40 {
		c := h.dial("127.0.0.1")
		fmt.Fprintf(c, "GET /v1/tenants HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\nAuthorization: Bearer %s\r\n\r\n", []string{token, child}[i%2])
		held = append(held, c)
	}
	rows := 0
	eventually(t, "36 of them are past the limit", func() bool {
		for _, row := range h.audit.taken() {
			rows++
			if row.Status != 429 || row.BodyHashed || row.BodyBytes != 0 {
				t.Errorf("row %+v", row)
			}
		}
		return rows == 36
	})
	resp := h.do(child, "GET", "/v1/operators/me", nil)
	if resp.status != 429 || resp.code() != argus.CodeRateLimited || resp.header.Get("Retry-After") == "" {
		t.Errorf("the person: %d %s", resp.status, resp.body)
	}
	if resp := h.do(other, "GET", "/v1/operators/me", nil); resp.status != 200 {
		t.Errorf("another person: %d %s", resp.status, resp.body)
	}
	if resp := h.do(h.breakGlass(), "GET", "/v1/operators/me", nil); resp.status != 200 {
		t.Errorf("the person's break-glass token: %d %s", resp.status, resp.body)
	}
	for _, c := range held {
		c.Close()
	}
	eventually(t, "the places are free again", func() bool { return h.do(child, "GET", "/v1/operators/me", nil).status == 200 })
}

// TestTrickledBody: a body has to come at some rate; one whose bytes come one by one is not waited for.
func TestTrickledBody(t *testing.T) {
	h := newHarness(t, func(c *Config) { c.bodyGrace = time.Second })
	token := h.token("user_2ada")
	c := h.dial("127.0.0.1")
	h.must(c.SetDeadline(time.Now().Add(time.Minute)))
	fmt.Fprintf(c, "GET /v1/tenants HTTP/1.1\r\nHost: x\r\nContent-Length: 8000\r\nAuthorization: Bearer %s\r\n\r\n", token)
	ctx, stop := context.WithCancel(t.Context())
	go func() {
		for {
			select {
			case <-ctx.Done():
				return
			case <-time.After(50 * time.Millisecond):
				_, _ = c.Write([]byte("x"))
			}
		}
	}()
	head := make([]byte, 12)
	_, err := io.ReadFull(c, head)
	stop()
	row := h.row()
	if err != nil || string(head) != "HTTP/1.1 400" || int(row.Status) != http.StatusBadRequest || row.BodyHashed || row.BodyBytes >= 8000 {
		t.Errorf("%q %v, row %+v", head, err, row)
	}
	// One that comes at a good rate is taken though it takes longer than that. A machine that stalls makes any body slow: once is
	// enough.
	var rows []argus.Record
	for range 20 {
		c = h.dial("127.0.0.1")
		h.must(c.SetDeadline(time.Now().Add(time.Minute)))
		fmt.Fprintf(c, "GET /v1/tenants HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\nAuthorization: Bearer %s\r\n\r\n", 25*8<<10, token)
		for range 25 {
			if _, err := c.Write(make([]byte, 8<<10)); err != nil {
				break
			}
			time.Sleep(50 * time.Millisecond)
		}
		_, err := io.ReadFull(c, head)
		row := h.row()
		if err == nil && string(head) == "HTTP/1.1 200" && row.BodyHashed && row.BodyBytes == 25*8<<10 {
			return
		}
		rows = append(rows, row)
	}
	t.Errorf("the rows of twenty bodies that came at a good rate: %+v", rows)
}
