package attack

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"sync"
	"time"
)

// flood opens connections that send a text each, and holds them until stop is called. dribble, unless empty, is sent
// every half second after it, a byte at a time.
func (g *group) flood(n int, from func(i int) string, text func(i int) string, dribble string) (held int, stop func()) {
	ctx, cancel := context.WithCancel(g.ctx)
	var mu sync.Mutex
	var conns []net.Conn
	var all sync.WaitGroup
	places := make(chan struct{}, 64)
	for i := range n {
		all.Go(func() {
			places <- struct{}{}
			defer func() { <-places }()
			dial, done := context.WithTimeout(ctx, 2*time.Second)
			defer done()
			conn, err := g.dial(dial, from(i))
			if err != nil {
				return
			}
			_ = conn.SetDeadline(time.Now().Add(time.Minute))
			if _, err := io.WriteString(conn, text(i)); err != nil {
				conn.Close()
				return
			}
			mu.Lock()
			conns = append(conns, conn)
			mu.Unlock()
		})
	}
	all.Wait()
	if dribble != "" {
		all.Go(func() {
			for i := 0; ctx.Err() == nil; i++ {
				mu.Lock()
				for _, c := range conns {
					_ = c.SetWriteDeadline(time.Now().Add(10 * time.Millisecond))
					_, _ = io.WriteString(c, dribble[i%len(dribble):i%len(dribble)+1])
				}
				mu.Unlock()
				select {
				case <-ctx.Done():
				case <-time.After(500 * time.Millisecond):
				}
			}
		})
	}
	return len(conns), func() {
		cancel()
		all.Wait()
		for _, c := range conns {
			c.Close()
		}
	}
}

// goodCaller makes calls with another principal, from another address, and wants each answered.
func (g *group) goodCaller(path string) error {
	for i := range 8 {
		ctx, cancel := context.WithTimeout(g.ctx, 20*time.Second)
		a, err := g.do(ctx, request{method: http.MethodGet, path: path, token: g.env["ARGUS_TOKEN"], from: "127.0.0.1"})
		cancel()
		if err == nil {
			err = a.expect(http.StatusOK, "")
		}
		if err != nil {
			return fmt.Errorf("call %d of a good caller: %w", i+1, err)
		}
	}
	return nil
}

// exhaustion holds with one credential, or with none, what others need, and looks whether a good caller is answered.
func (g *group) exhaustion() {
	n := 1100
	if g.config.Short {
		n = 300
	}
	g.control("a good caller when nothing is held", func() error { return g.goodCaller("/v1/tenants") })
	token := g.env["ARGUS_TOKEN_TENANTS"]
	from := func(int) string { return "127.0.0.9" }
	head := func(method, path, rest string) func(int) string {
		return func(int) string {
			return method + " " + path + " HTTP/1.1\r\nHost: " + g.address() + "\r\nAuthorization: Bearer " + token + "\r\nX-Request-Id: " + g.nextID() + "\r\n" + rest + "\r\n"
		}
	}
	for _, c := range []struct {
		name    string
		text    func(int) string
		dribble string
	}{
		{"bodies that never come", head("POST", "/compute/ops/workers/attack-none/stop", "Content-Length: 100\r\n"), ""},
		{"bodies that trickle", head("POST", "/compute/ops/workers/attack-none/stop", "Content-Length: 1000\r\n"), `{"reason": "x`},
		{"chunks that never come", head("POST", "/v1/tokens", "Transfer-Encoding: chunked\r\n"), ""},
		{"bodies of a GET that never come", head("GET", "/v1/tenants", "Content-Length: 100\r\n"), ""},
		{"bodies waiting to be asked for", head("POST", "/v1/tokens", "Expect: 100-continue\r\nContent-Length: 100\r\n"), ""},
	} {
		held, stop := g.flood(n, from, c.text, c.dribble)
		if held < n/2 { // the server closed what it would not hold: that is a rejection, and the good caller tells
			held = n
		}
		time.Sleep(200 * time.Millisecond)
		g.try(fmt.Sprintf("%d connections of one token with %s", n, c.name), func() error { return g.goodCaller("/v1/tenants") })
		stop()
		// Their bucket fills again before the next kind, so that it is the places that are tried and not the rate.
		select {
		case <-time.After(map[bool]time.Duration{true: 100 * time.Millisecond, false: 5 * time.Second}[g.config.Short]):
		case <-g.ctx.Done():
		}
	}
	plain := func(text string) func(int) string { return func(int) string { return text } }
	for _, c := range []struct {
		name    string
		text    string
		dribble string
	}{
		{"that send nothing", "", ""},
		{"whose headers trickle", "GET /v1/tenants HTTP/1.1\r\nHost: x\r\n", "X-A: bbbbbbbbb\r\n"},
		{"idle after a public page", "GET /livez HTTP/1.1\r\nHost: x\r\n\r\n", ""},
		{"idle after a rejection", "GET /v1/tenants HTTP/1.1\r\nHost: x\r\n\r\n", ""},
	} {
		_, stop := g.flood(n, func(int) string { return "127.0.0.10" }, plain(c.text), c.dribble)
		g.try(fmt.Sprintf("%d connections without a credential %s", n, c.name), func() error { return g.goodCaller("/v1/tenants") })
		stop()
	}

	// Streams: the places of one credential, and what a crafted position costs everybody.
	crafted := invented(4080, 1)
	id, follower := g.mint(g.env["ARGUS_TOKEN"], "1h", "logs:read")
	defer g.revoke(g.env["ARGUS_TOKEN"], id)
	stream := func(cursor string) func(int) string {
		return func(int) string {
			return "GET /v1/audit-log/stream HTTP/1.1\r\nHost: " + g.address() + "\r\nAuthorization: Bearer " + follower + "\r\nX-Request-Id: " + g.nextID() + "\r\n" + cursor + "\r\n"
		}
	}
	for name, cursor := range map[string]string{"from now": "", "from a crafted position": "Last-Event-ID: " + crafted + "\r\n"} {
		_, stop := g.flood(120, func(int) string { return "127.0.0.11" }, stream(cursor), "")
		g.try("120 streams of one token "+name, func() error {
			return errors.Join(g.goodCaller("/v1/tenants"), g.goodCaller("/v1/audit-log?since=1m&limit=5"))
		})
		stop()
	}

	if g.config.Short {
		return
	}
	// As many idle connections as the server takes at all, from one address.
	const most = 16_500
	held, stop := g.flood(most, func(i int) string { return fmt.Sprintf("127.0.0.%d", 20+i%2) }, plain("GET /livez HTTP/1.1\r\nHost: x\r\n\r\n"), "")
	g.try(fmt.Sprintf("%d idle connections of two addresses", most), func() error {
		err := g.goodCaller("/v1/tenants")
		if err == nil && held < 100 {
			err = fmt.Errorf("only %d connections came to be", held)
		}
		return err
	})
	stop()
	g.control("a good caller when all is over", func() error {
		return g.eventually(30*time.Second, func() error { return g.goodCaller("/v1/tenants") })
	})
}
