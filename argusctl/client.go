package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/useargus/argus"
)

// client talks to one server with one credential.
type client struct {
	base   *url.URL // no query, no fragment, no trailing slash in its path
	source source   // of the token; nil sends none

	mu      sync.Mutex // of source and sent
	sent    string     // the token that was sent last
	why     error      // why it was not renewed
	http    *http.Client
	timeout time.Duration // of a call whose answer is read whole, retries included
	tries   int           // in all
}

// request is one call to the API.
type request struct {
	method string
	path   string // escaped, below the server's address: "/v1/tenants"
	query  url.Values
	raw    string // a query as it was written, before query
	body   []byte
	key    string // Idempotency-Key: the call changes something, and may be repeated under this key
	header http.Header
}

// answer is a response read whole.
type answer struct {
	body    []byte
	auditID string
	header  http.Header
}

// maxAnswer bounds an answer read whole, in bytes: a page of 1000 rows is at most about 5 MB.
const maxAnswer = 64 << 20

// Retries: up to maxTries in all, none begun later than retryWithin after the first. An answer is asked for again only
// where that can help: see again.
const (
	maxTries    = 3
	retryWithin = 5 * time.Second
	longestWait = 2 * time.Second        // a server that asks for more patience gets it from the person, not from us
	atOnce      = 500 * time.Millisecond // a server that took longer to say no has itself waited for what is away
)

// segment escapes one path segment. Segments that would change the path's shape are wrong usage.
func segment(what, s string) (string, error) {
	if s == "" || s == "." || s == ".." || len(s) > 256 {
		return "", usageErrorf("%q is no %s.", s, what)
	}
	return url.PathEscape(s), nil
}

// call makes a request and reads its answer.
func (c *client) call(ctx context.Context, r request) (*answer, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, c.timeout, &netError{
		Message: fmt.Sprintf("%s did not answer within %s.", c.base.Host, formatDuration(c.timeout)),
		Hint:    r.unknownHint("Give it longer with --timeout.")})
	defer cancel()
	started := time.Now()
	for try := 1; ; try++ {
		asked := time.Now()
		a, err := c.callOnce(ctx, r)
		if err == nil {
			return a, nil
		}
		wait, again := r.again(err, try, time.Since(asked))
		if !again || try >= c.tries || time.Since(started) > retryWithin {
			return nil, r.explain(err)
		}
		select {
		case <-ctx.Done():
			return nil, r.explain(err)
		case <-time.After(wait):
		}
	}
}

func (c *client) callOnce(ctx context.Context, r request) (*answer, error) {
	resp, err := c.open(ctx, r)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer+1))
	if err != nil {
		return nil, c.netError(ctx, err)
	}
	if len(body) > maxAnswer {
		return nil, fmt.Errorf("the answer of %s is longer than %s", c.base.Host, formatBytes(maxAnswer))
	}
	if !json.Valid(body) {
		return nil, badAnswer(errors.New("it is no JSON"))
	}
	return &answer{body, resp.Header.Get(argus.AuditIDHeader), resp.Header}, nil
}

// rawQuery is the whole query.
func (r request) rawQuery() string {
	added := r.query.Encode()
	if r.raw != "" && added != "" {
		return r.raw + "&" + added
	}
	return r.raw + added
}

// newRequest makes the request with its credential.
func (c *client) newRequest(ctx context.Context, r request) (*http.Request, error) {
	if c.source == nil {
		return nil, errNoToken
	}
	token, err := c.bearer(ctx)
	if err != nil {
		return nil, err
	}
	target := *c.base
	raw := c.base.EscapedPath() + r.path
	path, err := url.PathUnescape(raw)
	if err != nil {
		return nil, err
	}
	target.Path, target.RawPath, target.RawQuery = path, raw, r.rawQuery()
	var body io.Reader
	if r.body != nil {
		body = bytes.NewReader(r.body)
	}
	req, err := http.NewRequestWithContext(ctx, r.method, target.String(), body)
	if err != nil {
		return nil, err
	}
	req.Header = r.header.Clone()
	if req.Header == nil {
		req.Header = http.Header{}
	}
	req.Header.Set("Authorization", "Bearer "+token)
	if req.Header.Get("User-Agent") == "" {
		req.Header.Set("User-Agent", "argusctl/"+argus.Version)
	}
	if req.Header.Get("Accept") == "" {
		req.Header.Set("Accept", "application/json")
	}
	if r.body != nil && req.Header.Get("Content-Type") == "" {
		req.Header.Set("Content-Type", "application/json")
	}
	if r.key != "" {
		req.Header.Set("Idempotency-Key", r.key)
	}
	return req, nil
}

// open makes a request once and returns the response as soon as its header is there. A status of 400 or more is
// an *apiError, no response a *netError.
//
// A token that is answered 401 is replaced once, where there is another: nothing was done with it.
func (c *client) open(ctx context.Context, r request) (*http.Response, error) {
	resp, err := c.openOnce(ctx, r)
	var api *apiError
	if errors.As(err, &api) && api.Status == http.StatusUnauthorized {
		if c.renew(ctx) {
			return c.openOnce(ctx, r)
		}
		if why := c.notRenewed(); errors.Is(why, errNoToken) {
			return resp, fmt.Errorf("%s: %w", strings.TrimSuffix(api.Message, "."), why)
		}
	}
	return resp, err
}

// bearer is the token of the next request.
func (c *client) bearer(ctx context.Context) (string, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	token, err := c.source.token(ctx, "")
	if err == nil {
		c.sent = token
	}
	return token, err
}

// last is the token that was sent last.
func (c *client) last() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.sent
}

// renew reports whether there is another token than the one that was sent last and is no good any more.
func (c *client) renew(ctx context.Context) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	token, err := c.source.token(ctx, c.sent)
	c.why = err
	return err == nil && token != c.sent
}

// notRenewed is why there was no other token, nil where none can be had.
func (c *client) notRenewed() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.why
}

func (c *client) openOnce(ctx context.Context, r request) (*http.Response, error) {
	req, err := c.newRequest(ctx, r)
	if err != nil {
		return nil, err
	}
	resp, err := c.http.Do(req)
	if err != nil {
		return nil, c.netError(ctx, err)
	}
	if resp.StatusCode >= 400 || resp.StatusCode < 200 || resp.StatusCode >= 300 {
		defer resp.Body.Close()
		body, _ := io.ReadAll(io.LimitReader(resp.Body, 64<<10))
		return nil, c.apiError(resp, r, body)
	}
	return resp, nil
}

// apiError makes an error of an answer that says no, with the body. The API, a service behind it or a proxy in between
// gave it.
func (c *client) apiError(resp *http.Response, r request, body []byte) *apiError {
	e := &apiError{Status: resp.StatusCode, AuditID: resp.Header.Get(argus.AuditIDHeader), Mutation: r.key != ""}
	if s, err := strconv.Atoi(resp.Header.Get("Retry-After")); err == nil && s > 0 {
		e.RetryAfter = time.Duration(s) * time.Second
	}
	e.fill(body)
	if e.Message == "" && e.AuditID != "" && e.Code == "" { // ARGUS has a code for all that it says itself
		e.Service = true
		e.Message = fmt.Sprintf("The service answered %s.", strings.TrimSpace(fmt.Sprint(resp.StatusCode, " ", http.StatusText(resp.StatusCode))))
	}
	if e.Message == "" {
		e.Message = fmt.Sprintf("%s answered %s without saying why.", c.base.Host,
			strings.TrimSpace(fmt.Sprint(resp.StatusCode, " ", http.StatusText(resp.StatusCode))))
	}
	if e.Status == http.StatusUnauthorized && !e.Service && mistyped(c.last()) {
		e.Message = "Invalid token: the checksum does not match. Was it copied completely?"
	}
	return e
}

// fill takes code, message and audit id from {"error": {…}}, when body is that.
func (e *apiError) fill(body []byte) {
	var w struct {
		Error struct {
			Code    argus.Code `json:"code"`
			Message string     `json:"message"`
			AuditID string     `json:"audit_id"`
		} `json:"error"`
		Health json.RawMessage `json:"health"`
	}
	if unmarshal(body, &w) == nil {
		e.Code, e.Message = w.Error.Code, w.Error.Message
		if h := (health{raw: w.Health}); len(w.Health) > 0 && unmarshal(w.Health, &h) == nil {
			e.Health = &h
		}
		if w.Error.AuditID != "" {
			e.AuditID = w.Error.AuditID
		}
	}
}

func mistyped(token string) bool {
	if !strings.HasPrefix(token, argus.PATPrefix) && !strings.HasPrefix(token, argus.BreakGlassPrefix) {
		return false
	}
	_, _, ok := argus.ParseSecret(token)
	return !ok
}

// again decides whether a call that failed after so long may be repeated, and after how long a wait. Reading may
// always be. A change may be only under its idempotency key, and where nothing says that it must not be repeated blindly.
// After a connection that was refused or cut, the next finds a server that restarts, or another one. A busy server and a
// proxy without one say so at once. A server that waited for its stores before it said no would only wait again.
func (r request) again(err error, try int, took time.Duration) (time.Duration, bool) {
	if r.method != http.MethodGet && r.key == "" {
		return 0, false
	}
	wait := 100 * time.Millisecond << (2 * (try - 1))
	var net *netError
	if errors.As(err, &net) {
		return wait, net.Transient
	}
	var api *apiError
	if !errors.As(err, &api) || api.RetryAfter > longestWait || took > atOnce {
		return 0, false
	}
	wait = max(wait, api.RetryAfter)
	switch {
	case api.Status == http.StatusServiceUnavailable && api.Code != "":
		return wait, try == 1 && api.RetryAfter > 0 // nothing happened
	case api.Status == http.StatusBadGateway, api.Status == http.StatusServiceUnavailable, api.Status == http.StatusGatewayTimeout:
		return wait, api.Code == "" // a proxy's word; the API's own is final
	case api.Status == http.StatusConflict:
		// The first try's answer was lost and the server is still at it.
		return wait, r.key != "" && try > 1
	}
	return 0, false
}

// explain adds to the error of a change what its caller can do when it may have happened.
func (r request) explain(err error) error {
	var net *netError
	if errors.As(err, &net) && r.key != "" && net.Sent {
		c := *net
		c.Hint = r.unknownHint(c.Hint)
		return &c
	}
	return err
}

func (r request) unknownHint(otherwise string) string {
	if r.key == "" {
		return otherwise
	}
	return "Whether it happened is not known. It is safe to repeat with --idempotency-key " + r.key + " ."
}

func badAnswer(err error) error {
	return fmt.Errorf("the answer is not understood (%w): is this the address of an ARGUS server?", err)
}

// get asks for a path and decodes the answer into out.
func (c *client) get(ctx context.Context, path string, query url.Values, out any) (*answer, error) {
	a, err := c.call(ctx, request{method: http.MethodGet, path: path, query: query})
	if err != nil {
		return nil, err
	}
	if out != nil {
		if err := unmarshal(a.body, out); err != nil {
			return nil, badAnswer(err)
		}
	}
	return a, nil
}

// item is one object of a list: as it came, and decoded.
type item[T any] struct {
	raw   json.RawMessage
	value T
}

// list asks for a path whose answer is {key: [objects]}.
func list[T any](ctx context.Context, c *client, path string, query url.Values, key string) ([]item[T], error) {
	a, err := c.get(ctx, path, query, nil)
	if err != nil {
		return nil, err
	}
	return items[T](a.body, key)
}

// listNamed is list, with the names of the people in it by their ids.
func listNamed[T any](ctx context.Context, c *client, path string, query url.Values, key string) ([]item[T], map[string]string, error) {
	var names struct {
		Actors map[string]string `json:"actors"`
	}
	a, err := c.get(ctx, path, query, &names)
	if err != nil {
		return nil, nil, err
	}
	all, err := items[T](a.body, key)
	return all, names.Actors, err
}

// items reads the list under a key of an answer.
func items[T any](body []byte, key string) ([]item[T], error) {
	var w map[string]json.RawMessage
	if err := unmarshal(body, &w); err != nil {
		return nil, badAnswer(err)
	}
	var raws []json.RawMessage
	if err := unmarshal(w[key], &raws); err != nil {
		return nil, badAnswer(err)
	}
	items := make([]item[T], len(raws))
	for i, raw := range raws {
		items[i].raw = raw
		if err := unmarshal(raw, &items[i].value); err != nil {
			return nil, badAnswer(err)
		}
	}
	return items, nil
}
