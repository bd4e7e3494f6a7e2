//go:build linux

package api

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/getkin/kin-openapi/openapi3"
	"github.com/getkin/kin-openapi/openapi3filter"
	"github.com/getkin/kin-openapi/routers"

	"github.com/useargus/argus"
	"github.com/useargus/argus/analytics"
	"github.com/useargus/argus/api/provider"
	"github.com/useargus/argus/api/services"
	"github.com/useargus/argus/internal/engines/enginetest"
	"github.com/useargus/argus/writer"
)

// contract is a server as argusd joins it, with the real writer and the real questions on real engines, and the
// document it serves. Every request made of it is held against the document, and remembered.
type contract struct {
	*control
	doc     *description
	faults  *faultyAudit
	writer  *enginetest.Proxy // between the writer and Postgres
	none    string            // a token whose scope no operation asks for
	keys    *services.Keys
	sealing string // path of the key of the ledger, once there is one

	mu   sync.Mutex
	seen map[string]map[outcomeKey]bool // by operation
}

// outcomeKey is one way for an operation to end; the code is "" for one that is no error.
type outcomeKey struct {
	status int
	code   argus.Code
}

func (k outcomeKey) String() string { return strings.TrimSpace(fmt.Sprintf("%d %s", k.status, k.code)) }

// unmatchedOperation stands for what no operation describes.
const unmatchedOperation = "unmatched"

// faultyAudit is the writer, with two faults that no fault of the network brings about at the right moment.
type faultyAudit struct {
	Audit
	broken    atomic.Bool // calls panic, as a mistake in the program would make them
	announced func()      // called when an intent is written, before its transaction goes on; nil: nothing
}

func (f *faultyAudit) Available() error {
	if f.broken.Load() {
		panic("broken on purpose")
	}
	return f.Audit.Available()
}

func (f *faultyAudit) Intend(ctx context.Context, tx Tx, recs ...*argus.Record) error {
	if err := f.Audit.Intend(ctx, tx, recs...); err != nil || f.announced == nil {
		return err
	}
	f.announced()
	return nil
}

func newContract(t *testing.T) *contract {
	t.Helper()
	h := newHarnessWith(t, enginetest.NewPostgres(t))
	c := &contract{control: &control{harness: h, local: newTestLocal(t), tokens: map[string]string{}}, seen: map[string]map[outcomeKey]bool{}}
	roomy, err := url.Parse(h.pg.APIURL) // for all that is held open at once
	h.must(err)
	query := roomy.Query()
	query.Set("pool_max_conns", "30")
	roomy.RawQuery = query.Encode()
	h.pool = h.pg.Pool(t, roomy.String())
	c.owner, c.consentURL = h.pg.Pool(t, h.pg.OwnerURL), h.pg.ConsentURL
	h.must(SeedTenants(t.Context(), c.owner))
	h.clerk.RoleScopes["org:member"] = argus.AllScopes()
	c.provider = &flakyProvider{Provider: c.local}
	c.keys, err = services.ParseKeys("")
	h.must(err)

	logger := slog.New(slog.NewJSONHandler(h.logs, nil))
	proxy, writerURL := enginetest.ProxyURL(t, h.pg.APIURL)
	c.writer = proxy
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	w, err := writer.New(writer.Config{URL: writerURL, Logger: logger})
	h.must(err)
	h.must(w.Start(ctx))
	c.faults = &faultyAudit{Audit: w}
	questions, err := analytics.New(analytics.Config{ClickHouseURL: enginetest.NewClickHouse(t).ReaderURL, Postgres: h.pool,
		CursorKey: bytes.Repeat([]byte("k"), 32), Logger: logger})
	h.must(err)
	h.must(questions.Start(ctx))
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		if err := w.Close(ctx); err != nil {
			t.Errorf("closing the writer: %v", err)
		}
		if err := questions.Close(ctx); err != nil {
			t.Errorf("closing analytics: %v", err)
		}
	})
	c.start(c.joined(questions, Limits{PerSecond: -1, FailPerSecond: -1}))
	for _, who := range []string{ada, grace} {
		c.tokens[who] = c.token(who)
	}
	c.none = c.token(ada, argus.ScopeEventsRead)
	c.doc = c.describe()
	return c
}

// joined is the configuration of an API with the contract's stages.
func (c *contract) joined(log Log, limits Limits) func(*Config) {
	return func(config *Config) {
		config.Audit, config.Log = c.faults, log
		config.Providers = []provider.Provider{c.provider}
		config.ConsentURL, config.AssertionKeys = c.consentURL, c.keys
		config.Limits, config.txTimeout, config.heldTime = limits, time.Minute, time.Minute
	}
}

// beside is another API on the same database, with limits of its own.
func (c *contract) beside(limits Limits) *harness {
	h := *c.harness
	h.start(c.joined(c.config.Log, limits))
	return &h
}

// warm opens so many connections of the API's pool.
func (c *contract) warm(n int) {
	c.t.Helper()
	for range n {
		conn, err := c.pool.Acquire(c.t.Context())
		c.must(err)
		defer conn.Release()
	}
}

// wish is a request, and how it is to end.
type wish struct {
	status int
	code   argus.Code
	token  string // "" for none
	path   string // with the query; "" for the example's
	body   any    // nil: the example's
	header []string
	wrong  bool   // the request is not as described
	raw    string // headers and body sent as they are: what Go's client would not send
	url    string // of another server than the contract's
}

// noBody, as the body of a wish, sends a request without one.
type noBody struct{}

// sample is an operation's request as its examples have it.
func (c *contract) sample(id string) (method, path string, body any) {
	c.t.Helper()
	op, ok := c.doc.operations[id]
	if !ok {
		c.t.Fatalf("there is no operation %q", id)
	}
	path = op.path
	for _, p := range op.Parameters {
		if p.Value.In == openapi3.ParameterInPath {
			path = strings.ReplaceAll(path, "{"+p.Value.Name+"}", p.Value.Example.(string))
		}
	}
	if op.RequestBody != nil {
		body = op.RequestBody.Value.Content.Get("application/json").Example
	}
	return op.method, path, body
}

// expect makes a request of an operation, and holds it and its answer against the description.
func (c *contract) expect(id string, w wish) *response {
	c.t.Helper()
	method, path, body := c.sample(id)
	if w.path != "" {
		path = w.path
	}
	if w.body != nil {
		body = w.body
	}
	if _, none := body.(noBody); none {
		body = nil
	}
	header := w.header
	if body != nil {
		header = append(slices.Clone(header), "Content-Type", "application/json")
	}
	h := *c.harness
	if w.url != "" {
		h.url = w.url
	}
	var resp *response
	var err error
	if w.raw != "" {
		resp, err = h.sendRaw(method, path, w.token, w.raw)
	} else {
		resp, err = h.try(w.token, method, path, body, header...)
	}
	if err != nil {
		c.t.Errorf("%s: %v", id, err)
		return &response{header: http.Header{}}
	}
	if resp.status != w.status || resp.code() != w.code {
		c.t.Errorf("%s %s: answered %d %s, want %d %s\n%s", method, path, resp.status, resp.code(), w.status, w.code, argus.Text(string(resp.body), 500))
		return resp
	}
	if !w.wrong && w.raw == "" {
		if err := c.requestConforms(id, method, path, w.token, body, header); err != nil {
			c.t.Errorf("%s: the request is not as described: %v", id, err)
		}
	}
	c.answered(id, w.token != "" && w.code != argus.CodeUnauthenticated, resp)
	return resp
}

// requestConforms holds a request against the description.
func (c *contract) requestConforms(id, method, path, token string, body any, header []string) error {
	data, err := json.Marshal(body)
	if err != nil {
		return err
	}
	if text, ok := body.(string); ok {
		data = []byte(text)
	}
	if body == nil {
		data = nil
	}
	r, err := http.NewRequest(method, "http://ops.example.com"+path, bytes.NewReader(data))
	if err != nil {
		return err
	}
	r.Header.Set("Authorization", "Bearer "+token)
	for i := 0; i+1 < len(header); i += 2 {
		r.Header.Add(header[i], header[i+1])
	}
	op := c.doc.operations[id]
	parameters := map[string]string{}
	given := strings.Split(r.URL.Path, "/")
	for i, part := range strings.Split(op.path, "/") {
		if name, ok := strings.CutPrefix(part, "{"); ok {
			parameters[strings.TrimSuffix(name, "}")] = strings.Join(given[i:i+1], "/")
		}
	}
	known := map[string]bool{}
	for _, p := range op.Parameters {
		known[p.Value.Name] = p.Value.In == openapi3.ParameterInQuery
	}
	for name := range r.URL.Query() {
		if !known[name] {
			return fmt.Errorf("the parameter %s is not documented", name)
		}
	}
	return openapi3filter.ValidateRequest(context.Background(), &openapi3filter.RequestValidationInput{
		Request: r, PathParams: parameters,
		Route:   &routers.Route{Spec: c.doc.T, Path: op.path, PathItem: op.item, Method: method, Operation: op.Operation},
		Options: &openapi3filter.Options{AuthenticationFunc: openapi3filter.NoopAuthenticationFunc},
	})
}

// plainHeaders are not part of the contract, or the same on every answer.
var plainHeaders = []string{"Date", "Content-Length", "Content-Type", "Content-Encoding", "Connection", "Cache-Control", "Vary", "Trailer",
	"X-Content-Type-Options", "X-Frame-Options", "Referrer-Policy", "Permissions-Policy", "Content-Security-Policy",
	"Cross-Origin-Opener-Policy", "Cross-Origin-Resource-Policy"}

// answered holds an answer against the description and remembers it.
func (c *contract) answered(id string, authenticated bool, resp *response) {
	c.t.Helper()
	var described *openapi3.Response
	if id == unmatchedOperation {
		described = c.doc.unmatched(c.t)[strconv.Itoa(resp.status)]
	} else if r := c.doc.operations[id].Responses.Status(resp.status); r != nil {
		described = r.Value
	}
	if described == nil {
		c.t.Errorf("%s: the answer %d is not documented", id, resp.status)
		return
	}
	c.headersConform(id, described, resp)
	if kind := resp.header.Get("Content-Type"); len(described.Content) > 0 {
		media := described.Content.Get(kind)
		if media == nil {
			c.t.Errorf("%s %d: the type %q is not documented", id, resp.status, kind)
			return
		}
		if strings.HasPrefix(kind, "application/json") {
			var v any
			resp.json(c.t, &v)
			if err := conforms(media.Schema, v); err != nil {
				c.t.Errorf("%s: the answer %d is not as described: %v\n%s", id, resp.status, err, argus.Text(string(resp.body), 500))
			}
		}
	} else if len(resp.body) > 0 {
		c.t.Errorf("%s %d: a body is not documented", id, resp.status)
	}
	if resp.code() != "" {
		var e struct{ Error struct{ Audit_id *string } }
		resp.json(c.t, &e)
		if told := resp.header.Get(argus.AuditIDHeader); told != "" && (e.Error.Audit_id == nil || *e.Error.Audit_id != told) ||
			(told != "") != (authenticated && resp.code() != argus.CodeUnavailable && (id != "health" || resp.status != 503)) { // health of an outage does not ask who calls
			c.t.Errorf("%s %d %s: header %s, body %s", id, resp.status, resp.code(), told, resp.body)
		}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.seen[id] == nil {
		c.seen[id] = map[outcomeKey]bool{}
	}
	c.seen[id][outcomeKey{resp.status, resp.code()}] = true
}

func (c *contract) headersConform(id string, described *openapi3.Response, resp *response) {
	c.t.Helper()
	documented := map[string]bool{}
	for name, header := range described.Headers {
		documented[http.CanonicalHeaderKey(name)] = true
		text := resp.header.Get(name)
		if text == "" {
			if header.Value.Required {
				c.t.Errorf("%s %d: without the header %s", id, resp.status, name)
			}
			continue
		}
		var value any = text
		if header.Value.Schema.Value.Type.Is("integer") {
			value, _ = strconv.ParseFloat(text, 64)
		}
		if err := conforms(header.Value.Schema, value); err != nil {
			c.t.Errorf("%s %d: the header %s: %s is not as described: %v", id, resp.status, name, text, err)
		}
	}
	for name := range resp.header {
		if !documented[name] && !slices.Contains(plainHeaders, name) {
			c.t.Errorf("%s %d: the header %s is not documented", id, resp.status, name)
		}
	}
}

// sendRaw sends a request whose headers and body are text, and ends its side of the connection.
func (h *harness) sendRaw(method, path, token, text string) (*response, error) {
	conn, err := net.Dial("tcp", strings.TrimPrefix(h.url, "http://"))
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	fmt.Fprintf(conn, "%s %s HTTP/1.1\r\nHost: ops\r\nAuthorization: Bearer %s\r\n%s", method, path, token, text)
	if err := conn.(*net.TCPConn).CloseWrite(); err != nil {
		return nil, err
	}
	resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	data, err := io.ReadAll(resp.Body)
	return &response{status: resp.StatusCode, header: resp.Header, body: data}, err
}

// each does f for the operations that need a credential, some at once.
func (c *contract) each(atOnce int, f func(id string, op *documented)) {
	places := make(chan struct{}, atOnce)
	var all sync.WaitGroup
	for _, id := range slices.Sorted(maps.Keys(c.doc.operations)) {
		if op := c.doc.operations[id]; op.scope() != "" {
			places <- struct{}{}
			all.Go(func() { f(id, op); <-places })
		}
	}
	all.Wait()
}

// covered holds the answers that came against those that are documented: all of them came, and no other.
func (c *contract) covered() {
	c.t.Helper()
	check := func(id string, responses map[string]*openapi3.Response) {
		for status, r := range responses {
			n, _ := strconv.Atoi(status)
			codes := codesOf(r)
			if codes == nil {
				codes = []argus.Code{""}
			}
			for _, code := range codes {
				if key := (outcomeKey{n, code}); !c.seen[id][key] {
					c.t.Errorf("%s: %s is documented, and was not seen", id, key)
				}
			}
		}
	}
	for id, op := range c.doc.operations {
		responses := map[string]*openapi3.Response{}
		for status, r := range op.Responses.Map() {
			responses[status] = r.Value
		}
		check(id, responses)
	}
	check(unmatchedOperation, c.doc.unmatched(c.t))
	codes := map[argus.Code]bool{}
	for _, keys := range c.seen {
		for key := range keys {
			codes[key.code] = true
		}
	}
	for _, r := range c.doc.services(c.t) {
		for _, code := range codesOf(r) {
			codes[code] = true // TestDoorFailures, TestDoorGate and TestDoorBusy see these
		}
	}
	for _, code := range allCodes(c.t) {
		if !codes[code] {
			c.t.Errorf("no request was answered %s", code)
		}
	}
}
