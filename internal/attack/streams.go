package attack

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"time"
)

// stream is an open answer of server-sent events, or of an export.
type stream struct {
	conn   net.Conn
	resp   *http.Response
	reader *bufio.Reader
	ready  string // the id of its first event
}

// open begins a stream; window bounds what the connection buffers, 0 leaves it.
func (g *group) open(path, token string, window int, header ...string) (*stream, error) {
	ctx, cancel := context.WithTimeout(g.ctx, 20*time.Second)
	defer cancel()
	conn, err := g.dial(ctx, g.source())
	if err != nil {
		return nil, err
	}
	if tcp, ok := conn.(*net.TCPConn); ok && window > 0 {
		_ = tcp.SetReadBuffer(window)
	}
	_ = conn.SetDeadline(time.Now().Add(20 * time.Second))
	text := "GET " + path + " HTTP/1.1\r\nHost: " + g.address() + "\r\nAuthorization: Bearer " + token + "\r\nX-Request-Id: " + g.nextID() + "\r\n"
	for i := 0; i+1 < len(header); i += 2 {
		text += header[i] + ": " + header[i+1] + "\r\n"
	}
	if _, err := io.WriteString(conn, text+"\r\n"); err != nil {
		conn.Close()
		return nil, err
	}
	s := &stream{conn: conn, reader: bufio.NewReader(conn)}
	if s.resp, err = http.ReadResponse(s.reader, nil); err != nil {
		conn.Close()
		return nil, err
	}
	if s.resp.StatusCode != http.StatusOK {
		body, _ := io.ReadAll(io.LimitReader(s.resp.Body, 1000))
		conn.Close()
		return nil, &answerError{s.resp.StatusCode, string(body)}
	}
	if strings.HasPrefix(s.resp.Header.Get("Content-Type"), "text/event-stream") {
		lines := bufio.NewReader(s.resp.Body)
		for {
			line, err := lines.ReadString('\n')
			if err != nil {
				conn.Close()
				return nil, err
			}
			if id, ok := strings.CutPrefix(strings.TrimSpace(line), "id: "); ok {
				s.ready = id
				break
			}
		}
	}
	return s, nil
}

type answerError struct {
	status int
	body   string
}

func (e *answerError) Error() string { return fmt.Sprintf("answered %d %.200s", e.status, e.body) }

// ended reads until the stream is over, at most for a while, and reports when it goes on.
func (s *stream) ended(within time.Duration) error {
	_ = s.conn.SetDeadline(time.Now().Add(within))
	_, err := io.Copy(io.Discard, s.resp.Body)
	var timeout net.Error
	if errors.As(err, &timeout) && timeout.Timeout() {
		return fmt.Errorf("it is open %s later", within)
	}
	return nil
}

// afterEnd is how long an open stream may outlive its credential here. It ends within a second; a slow machine gets
// more, and what ends only at the next check of its credential, every thirty seconds, does not hold.
const afterEnd = 10 * time.Second

// openStreams keeps streams and exports open past the end of the credential that opened them.
func (g *group) openStreams() {
	admin := g.env["ARGUS_TOKEN"]
	defer g.endTokens(admin)
	follow := "/v1/audit-log/stream"
	parentID, parent := g.mint(admin, "3h", "tokens:write", "logs:read", "tenants:read")
	_, child := g.mint(parent, "2h", "logs:read")
	onlyID, only := g.mint(admin, "1h", "logs:read")
	selfID, self := g.mint(admin, "1h", "logs:read")
	glassID, glass := g.breakGlass("user_2ada")
	open := map[string]*stream{}
	for name, token := range map[string]string{"revoked": only, "that revoked itself": self, "whose parent was revoked": child, "of break-glass, revoked": glass} {
		s, err := g.open(follow, token, 0)
		g.need(err)
		defer s.conn.Close()
		open["a stream of a token "+name] = s
	}
	// An export larger than what the connection holds, to a caller who does not read.
	exportID, exporter := g.mint(admin, "1h", "logs:read")
	export, err := g.open("/v1/audit-log/export?since=30d", exporter, 4096)
	g.need(err)
	defer export.conn.Close()
	for _, end := range []func() (*answer, error){
		func() (*answer, error) { return g.revoke(admin, onlyID) },
		func() (*answer, error) { return g.revoke(self, selfID) },
		func() (*answer, error) { return g.revoke(admin, parentID) },
		func() (*answer, error) { return g.revoke(admin, exportID) },
	} {
		a, err := end()
		g.need(errors.Join(err, a.expect(200, "")))
	}
	g.argusd("ARGUS_POSTGRES_BREAK_GLASS_URL", "break-glass", "revoke", glassID)
	var mu sync.Mutex
	var waiting sync.WaitGroup
	seen := map[string]error{}
	for name, s := range open { // all at once: each would end some time, with the check that comes every half minute
		waiting.Go(func() {
			err := s.ended(afterEnd)
			mu.Lock()
			defer mu.Unlock()
			seen[name] = err
		})
	}
	waiting.Wait()
	for name, err := range seen {
		g.record("keep open "+name, err)
	}
	_ = export.conn.SetDeadline(time.Now().Add(afterEnd))
	n, err := io.Copy(io.Discard, export.resp.Body)
	switch {
	case export.resp.Trailer.Get("Argus-Export-Complete") == "true" && n < 8<<20:
		g.leftOut = fmt.Sprintf("an export past its token's end: one of %d bytes is on its way before", n)
	default:
		g.try("finish an export with a token that was revoked", func() error {
			if export.resp.Trailer.Get("Argus-Export-Complete") == "true" {
				return fmt.Errorf("it was completed: %d bytes (%v)", n, err)
			}
			return nil
		})
	}

	// No other role ends a stream: the API checks a notice before it believes it.
	stayID, stay := g.mint(admin, "1h", "logs:read")
	notified := map[string]error{}
	for _, role := range g.thieves() {
		s, err := g.open(follow, stay, 0)
		g.need(err)
		defer s.conn.Close()
		_, err = g.conns[role].Exec(g.ctx, "SELECT pg_notify('argus_credentials', $1)", stayID)
		waiting.Go(func() {
			var seen error
			if err == nil && s.ended(1500*time.Millisecond) == nil {
				seen = errors.New("the stream ended")
			}
			mu.Lock()
			defer mu.Unlock()
			notified[role] = seen
		})
	}
	waiting.Wait()
	for role, seen := range notified {
		g.record(role+": end another's stream by a false notice", seen)
	}
}
