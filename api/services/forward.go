package services

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httptrace"
	"net/http/httputil"
	"net/netip"
	"net/textproto"
	"net/url"
	"strings"
	"sync/atomic"
	"time"

	"github.com/google/uuid"

	"github.com/useargus/argus"
)

// Door sends calls on. Its fields are set before the first call.
type Door struct {
	Keys      *Keys
	PublicURL *url.URL // of ARGUS, as people and services reach it
}

// Call is a call to be sent on.
type Call struct {
	Match   *Match
	Request *http.Request // as the caller sent it
	Body    *Body
	Memory  Share  // for the answer that is held
	Claims  Claims // who calls, and under which id; Send fills the rest
	IP      netip.Addr
	TraceID string
	Effects bool

	// Stream is called for the answer of a route that streams, when its headers are there. It commits the row and returns
	// where the answer goes, without having sent anything. Its error ends the call.
	Stream func(status int, h http.Header, release string) (http.ResponseWriter, error)
}

// Answer is an answer that was held whole. Its headers may be passed on as they are.
type Answer struct {
	Status  int
	Header  http.Header
	Body    []byte
	Trailer http.Header
	Release string

	memory Share
	taken  int64
}

// Free gives the answer's memory back.
func (a *Answer) Free() {
	a.memory.give(a.taken)
	a.taken = 0
}

// ErrStreamed is Send's when the whole answer went through Call.Stream.
var ErrStreamed = errors.New("services: the answer was streamed")

// BrokenStream is Send's when the service broke off inside a stream.
type BrokenStream struct{ Cause error }

func (b *BrokenStream) Error() string {
	return "the service broke off inside its answer: " + b.Cause.Error()
}

// Unwrap returns the cause.
func (b *BrokenStream) Unwrap() error { return b.Cause }

var (
	errHeadersLate = errors.New("services: no headers in time")
	errBodyLate    = errors.New("services: the answer did not end in time")
	errHeld        = errors.New("services: held")
)

// Enter takes a place among the calls of the service; leave gives it back.
func (s *Running) Enter(ctx context.Context) (leave func(), err error) {
	return s.places.enter(ctx, s.Name)
}

// Send sends a call on, once, and returns the answer held whole, or ErrStreamed. Every other error is what the caller
// gets, by the failure table of docs/api.md; cancel ends the call with its cause.
func (d *Door) Send(ctx context.Context, cancel context.CancelCauseFunc, c *Call) (*Answer, error) {
	s := c.Match.Running
	s.client.begin()
	defer s.client.done()
	e := &exchange{door: d, call: c, service: s.Service, cancel: cancel}
	e.timer = time.AfterFunc(time.Duration(s.Timeout), func() { cancel(errHeadersLate) })
	defer e.timer.Stop()
	request, err := e.request(ctx)
	if err != nil {
		return nil, err
	}
	proxy := &httputil.ReverseProxy{
		Rewrite:        func(p *httputil.ProxyRequest) { e.rewrite(p) },
		Transport:      e,
		FlushInterval:  -1, // of a stream, the only kind that passes through it
		ErrorLog:       quiet,
		ModifyResponse: e.answered,
		ErrorHandler:   func(_ http.ResponseWriter, _ *http.Request, err error) { e.err = err },
	}
	broke := e.serve(proxy, request)
	switch {
	case errors.Is(e.err, errHeld):
		return e.answer, nil
	case e.streaming && broke != nil:
		return nil, broke
	case e.streaming:
		return nil, ErrStreamed
	}
	return nil, e.problem(ctx)
}

// maxInterim is how many interim answers (1xx) a service may send before its answer.
const maxInterim = 16

// quiet takes what ReverseProxy would log: the call's own error says it.
var quiet = log.New(io.Discard, "", 0)

// exchange is one call to a service.
type exchange struct {
	door    *Door
	call    *Call
	service *Service
	cancel  context.CancelCauseFunc
	timer   *time.Timer

	reached   atomic.Bool // there was a connection, so the service may have heard something
	answer    *Answer
	writer    streamWriter
	streaming bool // the row is committed: the answer can only be cut off
	err       error
	denied    error // Call.Stream's
}

// serve runs the proxy. It panics when a stream breaks off, which is the error here.
func (e *exchange) serve(proxy *httputil.ReverseProxy, r *http.Request) (broke error) {
	defer func() {
		switch p := recover(); {
		case p == nil:
		case p == http.ErrAbortHandler: //nolint:errorlint // it is this value
			cause := context.Cause(r.Context())
			if e.writer.failed != nil {
				cause = e.writer.failed // the caller went, not the service
			} else if cause == nil {
				broke = &BrokenStream{errors.New("its connection ended")}
				return
			}
			broke = cause
		default:
			panic(p)
		}
	}()
	proxy.ServeHTTP(&e.writer, r)
	if e.streaming && e.err != nil && !errors.Is(e.err, errHeld) {
		return &BrokenStream{e.err}
	}
	return nil
}

// request is the caller's request as far as the service may see it.
func (e *exchange) request(ctx context.Context) (*http.Request, error) {
	in := e.call.Request
	interim := 0
	r := in.Clone(httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{
		GotConn: func(httptrace.GotConnInfo) { e.reached.Store(true) },
		Got1xxResponse: func(int, textproto.MIMEHeader) error { // net/http bounds them only for who does not listen
			if interim++; interim > maxInterim {
				return errors.New("the service sends interim answers without end")
			}
			return nil
		},
	}))
	r.Trailer, r.TransferEncoding, r.Form, r.PostForm, r.MultipartForm = nil, nil, nil, nil, nil
	removeRequestHeaders(r.Header)
	// Behind a switch to another protocol than this one nothing is a message of the call any more: over h2c the caller
	// could call every other route.
	if !e.call.Match.Route.Stream || !strings.EqualFold(r.Header.Get("Upgrade"), "websocket") {
		delete(r.Header, "Upgrade")
	}
	body := e.call.Body
	switch {
	case body.Streamed():
		r.ContentLength = -1
	default:
		r.ContentLength = int64(len(body.first))
	}
	r.Body = http.NoBody // set by RoundTrip
	return r, nil
}

// rewrite makes the request that is sent. The path is the template's with its parameters, so that the service gets
// exactly what was matched and authorized.
func (e *exchange) rewrite(p *httputil.ProxyRequest) {
	out, public := p.Out, e.door.PublicURL
	u := e.service.UpstreamURL()
	u.RawQuery = p.In.URL.RawQuery
	escaped := u.Path + e.call.Match.path
	u.Path, _ = url.PathUnescape(escaped) // it was escaped by us
	u.RawPath = escaped
	out.URL, out.Host, out.RequestURI = u, "", ""
	h := out.Header
	h.Set("X-Forwarded-For", e.call.IP.String())
	h.Set("X-Forwarded-Proto", public.Scheme)
	h.Set("X-Forwarded-Host", public.Host)
	h.Set("Traceparent", traceparent(e.call.TraceID, p.In.Header.Get("Traceparent"), e.call.Claims.ID))
	h.Set(argus.AuditIDHeader, e.call.Claims.ID)
}

// RoundTrip implements http.RoundTripper: it signs the request as it is about to be sent, and sends it once.
func (e *exchange) RoundTrip(r *http.Request) (*http.Response, error) {
	claims := e.call.Claims
	claims.Issuer, claims.Audience, claims.Scope = strings.TrimSuffix(e.door.PublicURL.String(), "/"), e.service.Name, e.call.Match.Route.Scope
	claims.Method, claims.URL = r.Method, r.URL.String()
	body := e.call.Body
	if body.Streamed() {
		r.Trailer = http.Header{BodyAssertionTrailer: nil}
		r.ContentLength = -1
		r.Body = body.reader(func(sum [32]byte) error {
			claims := claims
			claims.BodySHA256 = hex.EncodeToString(sum[:])
			token, err := e.door.Keys.Sign(claims, time.Now())
			r.Trailer.Set(BodyAssertionTrailer, token)
			return err
		})
	} else {
		sum, _, _ := body.Sum()
		claims.BodySHA256 = hex.EncodeToString(sum[:])
		r.Body, r.ContentLength = http.NoBody, 0
		if n := len(body.first); n > 0 {
			r.Body, r.ContentLength = body.reader(nil), int64(n)
		}
	}
	token, err := e.door.Keys.Sign(claims, time.Now())
	if err != nil {
		return nil, err
	}
	r.Header.Set(AssertionHeader, token)
	once(r)
	return e.call.Match.client.RoundTrip(r)
}

// answered takes an answer whose headers are there. The error that it returns ends the exchange.
func (e *exchange) answered(resp *http.Response) error {
	if !e.timer.Stop() {
		return errHeadersLate
	}
	release := ""
	if name := e.service.ReleaseHeader; name != "" {
		release = e.call.Match.Running.releases.name(resp.Header.Get(name), time.Now())
	}
	route, switched := e.call.Match.Route, resp.StatusCode == http.StatusSwitchingProtocols
	switch {
	case resp.StatusCode < 200 && !switched || resp.StatusCode > 599:
		return fmt.Errorf("the service answered with the status %d", resp.StatusCode)
	case switched && (!route.Stream || !strings.EqualFold(resp.Request.Header.Get("Upgrade"), resp.Header.Get("Upgrade")) || resp.Header.Get("Upgrade") == ""):
		return errors.New("the service switched protocols, for which it was not asked")
	}
	upgrade := resp.Header.Get("Upgrade")
	removeAnswerHeaders(resp.Header)
	guard(resp.Header)
	if switched {
		resp.Header.Set("Connection", "Upgrade")
		resp.Header.Set("Upgrade", upgrade)
	}
	if !route.Stream {
		return e.hold(resp, release)
	}
	removeAnswerHeaders(resp.Trailer)
	if !switched {
		resp.Body = &filteredTrailers{resp.Body, resp}
	}
	if len(resp.Trailer) > 0 && resp.Request.Method != http.MethodHead {
		delete(resp.Header, "Content-Length") // with it HTTP/1 has no place for trailers
	}
	to, err := e.call.Stream(resp.StatusCode, resp.Header, release)
	if err != nil {
		e.denied = err
		return err
	}
	e.streaming = true
	e.writer.to = to
	return nil
}

// hold reads the answer whole, within the timeout again.
func (e *exchange) hold(resp *http.Response, release string) error {
	late := time.AfterFunc(time.Duration(e.service.Timeout), func() { e.cancel(errBodyLate) })
	defer late.Stop()
	a := &Answer{Status: resp.StatusCode, Header: resp.Header, Release: release, memory: e.call.Memory}
	length := resp.ContentLength
	if resp.Request.Method == http.MethodHead {
		length = 0
	}
	var err error
	a.Body, a.taken, err = hold(resp.Body, length, int64(e.service.AnswerLimit), e.call.Memory)
	if err != nil {
		a.Free()
		return err
	}
	if len(resp.Trailer) > 0 {
		removeAnswerHeaders(resp.Trailer)
		a.Trailer = resp.Trailer
	}
	e.answer = a
	return errHeld
}

// problem is the failure table.
func (e *exchange) problem(ctx context.Context) error {
	name, cause, err := e.service.Name, context.Cause(ctx), e.err
	if err == nil {
		err = errors.New("no answer")
	}
	may := ""
	if e.call.Effects && e.reached.Load() {
		may = " What you asked for may have happened: look before you repeat it."
	}
	var known *argus.Error
	switch failed := e.call.Body.Failed(); {
	case e.denied != nil:
		return e.denied
	case errors.Is(failed, ErrBodyTooLarge):
		return argus.Errorf(argus.CodeBodyTooLarge, "The body is larger than the %s that the service %s takes. It received only the beginning.", e.service.BodyLimit, name)
	case failed != nil:
		return argus.Errorf(argus.CodeBodyIncomplete, "The body ended before it was complete, or came too slowly. The service %s received only the beginning.", name).WithCause(failed)
	case !e.reached.Load() && (errors.Is(cause, errHeadersLate) || ctx.Err() == nil):
		return argus.Errorf(argus.CodeServiceUnavailable, "The service %s cannot be reached. It received nothing. Try again.", name).WithCause(err)
	case errors.As(cause, &known):
		return known
	case errors.Is(cause, errHeadersLate), errors.Is(err, errHeadersLate):
		return argus.Errorf(argus.CodeServiceTimeout, "The service %s did not answer within %s.%s", name, time.Duration(e.service.Timeout), may).WithCause(err)
	case errors.Is(cause, errBodyLate):
		return argus.Errorf(argus.CodeServiceTimeout, "The service %s did not end its answer within %s.%s", name, time.Duration(e.service.Timeout), may).WithCause(err)
	case errors.Is(err, errAnswerTooLarge):
		return argus.Errorf(argus.CodeServiceAnswerTooLarge, "The answer of the service %s is larger than its answer_limit, %s.%s", name, e.service.AnswerLimit, may)
	case errors.Is(err, ErrBodyMemory):
		return argus.Errorf(argus.CodeServiceBusy, "ARGUS is at its limit of bytes held for you or for the service %s. Try again.%s", name, may).WithRetryAfter(time.Second)
	case ctx.Err() != nil:
		return ctx.Err() // the caller went away
	}
	return argus.Errorf(argus.CodeServiceBroken, "The service %s broke off before its answer was complete.%s", name, may).WithCause(err)
}

// streamWriter is where ReverseProxy writes to: nothing before the row is committed. Interim answers (1xx) go nowhere,
// since they would leave before the row.
type streamWriter struct {
	to     http.ResponseWriter
	header http.Header
	failed error // of a write: the caller went away or does not read
}

func (w *streamWriter) Header() http.Header {
	if w.to != nil {
		return w.to.Header()
	}
	if w.header == nil {
		w.header = http.Header{}
	}
	return w.header
}

func (w *streamWriter) WriteHeader(status int) {
	if w.to != nil && status >= 200 {
		w.to.WriteHeader(status)
	}
}

func (w *streamWriter) Write(p []byte) (int, error) {
	if w.to == nil {
		return len(p), nil
	}
	n, err := w.to.Write(p)
	if err != nil {
		w.failed = err
	}
	return n, err
}

// Unwrap lets ReverseProxy flush, and take over the connection of an upgrade.
func (w *streamWriter) Unwrap() http.ResponseWriter { return w.to }

// filteredTrailers takes out of an answer's trailers, which are there when it is closed, what its headers may not have.
type filteredTrailers struct {
	io.ReadCloser
	resp *http.Response
}

func (f *filteredTrailers) Close() error {
	err := f.ReadCloser.Close()
	removeAnswerHeaders(f.resp.Trailer)
	return err
}

// traceparent continues the caller's trace, or begins one, by a span of its own for the service.
func traceparent(traceID, parent, auditID string) string {
	flags := "01"
	if parts := strings.Split(parent, "-"); len(parts) >= 4 && parts[1] == traceID && len(parts[3]) == 2 && isHex(parts[3]) {
		flags = parts[3]
	}
	id, err := uuid.Parse(auditID)
	if err != nil || traceID == "" {
		return ""
	}
	return "00-" + traceID + "-" + hex.EncodeToString(id[8:]) + "-" + flags
}

func isHex(s string) bool {
	_, err := hex.DecodeString(s)
	return err == nil && strings.ToLower(s) == s
}
