package attack

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"slices"
	"sort"
	"strings"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/jackc/pgx/v5"
)

// route is one of openapi.json's.
type route struct {
	method, path string // /v1/tenants/{id}
	scope        string // "" is public, "any" asks for a credential alone
}

// concrete is the path with values that exist nowhere, so that no attempt has an effect.
func (r route) concrete() string {
	return strings.NewReplacer("{id}", "attack-none", "{session}", "019b76da-a800-7000-8000-000000000001", "{file}", "none").Replace(r.path)
}

func (t *target) findRoutes(ctx context.Context) error {
	answer, err := t.do(ctx, request{method: http.MethodGet, path: "/openapi.json"})
	if err != nil {
		return err
	}
	var api struct {
		Paths map[string]map[string]struct {
			Scope string `json:"x-argus-scope"`
		} `json:"paths"`
	}
	if err := json.Unmarshal(answer.body, &api); err != nil {
		return fmt.Errorf("/openapi.json: %w", err)
	}
	for path, methods := range api.Paths {
		for method, r := range methods {
			if slices.Contains([]string{"get", "post", "put", "patch", "delete"}, method) {
				t.routes = append(t.routes, route{strings.ToUpper(method), path, r.Scope})
			}
		}
	}
	sort.Slice(t.routes, func(i, j int) bool {
		return t.routes[i].path+t.routes[i].method < t.routes[j].path+t.routes[j].method
	})
	if len(t.routes) < 20 {
		return fmt.Errorf("/openapi.json names only %d routes", len(t.routes))
	}
	return nil
}

// protected are the routes that need a credential.
func (t *target) protected() []route {
	return slices.DeleteFunc(slices.Clone(t.routes), func(r route) bool { return r.scope == "" })
}

// request is one call. token, unless empty, is sent as a bearer token; header are names and values in turn.
type request struct {
	method, path, token, body string
	header                    []string
	from                      string // a source address; empty: one of its own for calls without a good credential, see source
}

// answer is what came back, read whole.
type answer struct {
	status int
	header http.Header
	body   []byte
	id     string // of this request: X-Request-Id
}

// code is the error's code, "" when there is none.
func (a *answer) code() string {
	var e struct {
		Error struct {
			Code string `json:"code"`
		} `json:"error"`
	}
	_ = json.Unmarshal(a.body, &e)
	return e.Error.Code
}

// expect wants the status, and the code unless it is empty.
func (a *answer) expect(status int, code string) error {
	if a.status != status || code != "" && a.code() != code {
		return fmt.Errorf("answered %d %s %.200s", a.status, a.code(), a.body)
	}
	return nil
}

func (a *answer) expectOneOf(statuses ...int) error {
	if !slices.Contains(statuses, a.status) {
		return fmt.Errorf("answered %d %s %.200s", a.status, a.code(), a.body)
	}
	return nil
}

// address of the API.
func (t *target) address() string { return strings.TrimPrefix(t.env["ARGUS_URL"], "http://") }

// source is an address of loopback that no other attempt comes from: the API counts rejected credentials by address, and
// would answer 429 to the attempts that follow. Where the system has only 127.0.0.1, they wait instead.
func (t *target) source() string {
	n := t.sources.Add(1)
	return fmt.Sprintf("127.%d.%d.%d", 1+n/62500%250, 1+n/250%250, 2+n%250)
}

func dialer(from string) *net.Dialer {
	d := &net.Dialer{Timeout: 5 * time.Second}
	if from != "" {
		d.LocalAddr = &net.TCPAddr{IP: net.ParseIP(from)}
	}
	return d
}

// dial opens a connection to the API.
func (t *target) dial(ctx context.Context, from string) (net.Conn, error) {
	conn, err := dialer(from).DialContext(ctx, "tcp", t.address())
	var rejected *net.OpError
	if errors.As(err, &rejected) && strings.Contains(err.Error(), "bind") { // no such address here
		conn, err = dialer("").DialContext(ctx, "tcp", t.address())
	}
	return conn, err
}

// nextID names a request, so that its rows can be counted.
func (t *target) nextID() string { return fmt.Sprintf("%s-%d", t.run, t.requests.Add(1)) }

// do makes one call on a connection of its own.
func (t *target) do(ctx context.Context, r request) (*answer, error) {
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	u, err := url.Parse(t.env["ARGUS_URL"])
	if err != nil {
		return nil, err
	}
	path, query, _ := strings.Cut(r.path, "?")
	u.Opaque, u.RawQuery = "//"+u.Host+path, query // as it is, unnormalized
	var body io.Reader
	if r.body != "" {
		body = strings.NewReader(r.body)
	}
	req, err := http.NewRequestWithContext(ctx, r.method, t.env["ARGUS_URL"], body)
	if err != nil {
		return nil, err
	}
	req.URL = u
	id := t.nextID()
	req.Header.Set("X-Request-Id", id)
	if r.token != "" {
		req.Header.Set("Authorization", "Bearer "+r.token)
	}
	for i := 0; i+1 < len(r.header); i += 2 {
		req.Header[r.header[i]] = append(req.Header[r.header[i]], r.header[i+1])
	}
	for {
		transport := &http.Transport{DisableKeepAlives: true, DisableCompression: true,
			DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) { return t.dial(ctx, r.from) }}
		resp, err := transport.RoundTrip(req)
		if err != nil {
			return nil, err
		}
		data, err := io.ReadAll(io.LimitReader(resp.Body, 8<<20))
		resp.Body.Close()
		a := &answer{resp.StatusCode, resp.Header, data, id}
		if err != nil {
			return a, err
		}
		if a.status == http.StatusTooManyRequests && req.Body == nil && r.token == "" {
			time.Sleep(time.Second) // by address, where all come from one
			continue
		}
		return a, nil
	}
}

// raw writes bytes to a connection of its own and returns every answer that came within a while. A connection that was
// closed without an answer gives none.
func (t *target) raw(ctx context.Context, text string) ([]*answer, error) {
	conn, err := t.dial(ctx, t.source())
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(1500 * time.Millisecond))
	if _, err := io.WriteString(conn, text); err != nil && !strings.Contains(err.Error(), "reset") && !strings.Contains(err.Error(), "broken pipe") {
		return nil, err
	}
	var all []*answer
	reader := bufio.NewReader(conn)
	for {
		resp, err := http.ReadResponse(reader, nil)
		if err != nil {
			return all, nil
		}
		body, _ := io.ReadAll(io.LimitReader(resp.Body, 1<<20))
		all = append(all, &answer{resp.StatusCode, resp.Header, bytes.TrimSpace(body), ""})
		if resp.Close || resp.StatusCode == http.StatusSwitchingProtocols {
			return all, nil
		}
		_ = conn.SetReadDeadline(time.Now().Add(400 * time.Millisecond)) // for one that was not to be answered
	}
}

// ledger holds attempts whose rows are counted when all were made: each call that was authenticated has one row, and
// each other has none.
type ledger struct {
	g       *group
	entries []entry
}

type entry struct {
	attempt string
	id      string // the request's
	rows    int    // expected
	auditID string // expected, when the answer named one
	seen    error  // what the answer already told
}

func (g *group) ledger() *ledger { return &ledger{g: g} }

// add notes an attempt.
func (l *ledger) add(attempt, id string, rows int, auditID string, seen error) {
	l.entries = append(l.entries, entry{attempt, id, rows, auditID, seen})
}

// call makes a call and notes it: check says what is wrong with the answer; every answer that is neither 401 nor a
// rejection before authentication has one row, whose id it names.
func (l *ledger) call(attempt string, r request, check func(*answer) error) {
	a, err := l.g.do(l.g.ctx, r)
	if err != nil {
		l.add(attempt, "", 0, "", err)
		return
	}
	auditID := a.header.Get("Argus-Audit-Id")
	rows := 0
	if auditID != "" {
		rows = 1
	}
	seen := check(a)
	if seen == nil && a.status == http.StatusUnauthorized && auditID != "" {
		seen = errors.New("a call that was not authenticated has an audit id")
	}
	l.add(attempt, a.id, rows, auditID, seen)
}

// close counts the rows and records all attempts.
func (l *ledger) close() {
	g := l.g
	ids := make([]string, len(l.entries))
	for i, e := range l.entries {
		ids[i] = e.id
	}
	rows, err := g.super.Query(g.ctx, `SELECT client_request_id, id::text FROM argus.argus_audit_log
		WHERE client_request_id = ANY ($1) AND occurred_at > now() - interval '1 hour'`, ids)
	g.need(err)
	found := map[string][]string{}
	var request, id string
	_, err = pgx.ForEachRow(rows, []any{&request, &id}, func() error {
		found[request] = append(found[request], id)
		return nil
	})
	g.need(err)
	for _, e := range l.entries {
		seen := e.seen
		switch have := found[e.id]; {
		case seen != nil:
		case e.id != "" && len(have) != e.rows:
			seen = fmt.Errorf("it has %d rows in the log, not %d", len(have), e.rows)
		case e.auditID != "" && have[0] != e.auditID:
			seen = fmt.Errorf("its row is %s, its answer says %s", have[0], e.auditID)
		}
		g.record(e.attempt, seen)
	}
	l.entries = nil
}

// whoami returns the call's answer of GET /v1/operators/me.
func (t *target) whoami(ctx context.Context, token string) (*answer, error) {
	return t.do(ctx, request{method: http.MethodGet, path: "/v1/operators/me", token: token})
}

// mint makes a token with another and returns its id and secret. The name marks it for endTokens.
func (g *group) mint(with string, expires string, scopes ...string) (id, secret string) {
	list, _ := json.Marshal(scopes)
	a, err := g.do(g.ctx, request{method: http.MethodPost, path: "/v1/tokens", token: with,
		body: fmt.Sprintf(`{"name":%q,"scopes":%s,"expires_in":%q}`, g.run, list, expires)})
	g.need(err)
	var made struct {
		Token struct {
			ID string `json:"id"`
		} `json:"token"`
		Secret string `json:"secret"`
	}
	g.need(errors.Join(a.expect(201, ""), json.Unmarshal(a.body, &made)))
	return made.Token.ID, made.Secret
}

// revoke ends a token with another.
func (g *group) revoke(with, id string) (*answer, error) {
	return g.do(g.ctx, request{method: http.MethodDelete, path: "/v1/tokens/" + id, token: with})
}

// endTokens revokes every token that this run made for the owner of the credential.
func (g *group) endTokens(with string) {
	for _, id := range g.column("SELECT id::text FROM argus.personal_access_tokens WHERE name = $1 AND revoked_at IS NULL", g.run) {
		_, _ = g.revoke(with, id)
	}
}
