package api

import (
	"cmp"
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/url"
	"runtime/debug"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/gin-gonic/gin"
	"github.com/google/uuid"

	"github.com/useargus/argus"
	"github.com/useargus/argus/api/credential"
)

// effectsTimeout bounds a call with effects, whose caller's going away does not end it.
const effectsTimeout = 60 * time.Second

// serve is the way of every call that needs a credential:
//
//	arrival, id ▸ authenticate ▸ limits ▸ body and digest ▸ authorize ▸ handler ▸ row committed ▸ answer
//
// An unauthenticated caller is answered without a row. From there on there is exactly one row, and the
// answer leaves only when it is committed: denials, panics, bodies cut off and callers long gone included.
func (a *API) serve(g *gin.Context, r *route) {
	arrival := time.Now()
	id, err := uuid.NewV7()
	if err != nil { // the system gave no random bytes
		a.answerUnauthenticated(g, argus.Errorf(argus.CodeInternal, "Something went wrong here. Try again.").WithCause(err))
		return
	}
	release, err := a.limits.enter()
	if err != nil {
		a.answerUnauthenticated(g, err)
		return
	}
	defer release()

	if r.Path == healthPath && a.audit.Stage().Status == statusDown { // neither a row nor a look-up: this process tells what it knows
		a.answerUnauthenticated(g, argus.Errorf(argus.CodeAuditUnavailable, "No call can be answered now: no audit row can be written. Try again.").
			WithRetryAfter(time.Second))
		return
	}
	request := g.Request
	ip := clientAddr(request, a.config.TrustedProxies)
	cred, err := a.authenticate(request.Context(), request, ip)
	if err != nil {
		release()
		a.answerUnauthenticated(g, err)
		return
	}
	authenticated(request)
	method := argus.StoredMethod(request.Method)
	rec := &argus.Record{
		ID:              id,
		OccurredAt:      argus.Micros(arrival),
		ActorID:         cred.Actor.ID,
		ImpersonatorID:  cred.Actor.ImpersonatorID,
		ActorKind:       cred.Actor.Kind,
		PATID:           cred.Actor.PATID,
		BreakGlassID:    cred.Actor.BreakGlassID,
		Scope:           string(r.Scope),
		Route:           r.template(method),
		Method:          method,
		Outcome:         argus.Completed,
		ClientIP:        ip,
		UserAgent:       request.UserAgent(),
		ClientRequestID: request.Header.Get("X-Request-Id"),
		TraceID:         traceID(request.Header.Get("Traceparent")),
		Service:         r.Service,
		Agent:           agentOf(cred, request),
		Workload:        slices.Clone(cred.Actor.Workload), // MakeStorable sorts it
	}
	if r.Service == "" {
		rec.Service, rec.Release = argus.OwnService, argus.Version
	}
	c := &call{
		Actor: cred.Actor, Record: rec, IP: ip,
		api: a, route: r, request: request, response: g.Writer, params: g.Params, header: http.Header{},
		credential: cred, arrival: arrival, release: release,
	}
	if r.Path == argus.UnmatchedRoute {
		c.params = nil // gin leaves those of the last route it tried
	}
	for _, p := range c.params {
		rec.PathParams = append(rec.PathParams, argus.PathParam{Name: p.Key, Value: c.Param(p.Key)})
	}
	rec.MakeStorable() // an intent holds the record as it is now
	if cred.Actor.Kind == argus.KindBreakGlass {
		a.log.Warn("break-glass call", "route", rec.Route, "actor", rec.ActorID, "break_glass_id", rec.BreakGlassID, "audit_id", id)
		a.metrics.breakGlass.Inc()
	}

	ctx, cancel := c.bound()
	defer cancel(nil)
	c.ctx = ctx
	defer func() {
		for _, f := range slices.Backward(c.ends) {
			f()
		}
		if c.leave != nil {
			c.leave()
		}
	}()
	ans, err := a.run(c)
	a.finish(c, ans, err)
}

// agentOf names the program that acts for the actor. An agent's token was made for one program, and the caller cannot
// name another. With any other token it is the program that the caller names.
func agentOf(cred *credential.Credential, r *http.Request) string {
	return cmp.Or(cred.Actor.Agent, strings.TrimSpace(r.Header.Get(argus.AgentHeader)))
}

// bound gives the call its context. Reading ends with the caller; effects are carried through; a stream ends
// with the caller, with its credential, or with the server.
func (c *call) bound() (context.Context, context.CancelCauseFunc) {
	parent := c.request.Context()
	if c.route.Effects {
		parent = context.WithoutCancel(parent)
	}
	ctx, cancel := context.WithCancelCause(parent)
	if c.route.Stream || c.route.match != nil { // a service has bounds of its own
		return ctx, cancel
	}
	ctx, stop := context.WithTimeout(ctx, effectsTimeout)
	return ctx, func(cause error) { cancel(cause); stop() }
}

// run brings the call to its handler and back. A panic becomes an error.
func (a *API) run(c *call) (ans answer, err error) {
	defer func() {
		if p := recover(); p != nil {
			a.metrics.panics.Inc()
			ans, err = answer{}, fmt.Errorf("panic: %v\n%s", p, debug.Stack())
		}
	}()
	if err := a.audit.Available(); err != nil {
		return answer{}, &unaudited{err}
	}
	// Before the body is read: a caller past its limits may not hold a place by sending none. Its row has no digest.
	if err := a.limits.call(c.credential.Principal); err != nil {
		leaveRest(c.response)
		return answer{}, err
	}
	if err := a.limits.enterCall(c.credential.Person()); err != nil {
		leaveRest(c.response)
		return answer{}, err
	}
	c.leave = sync.OnceFunc(func() { a.limits.leaveCall(c.credential.Person()) })
	if c.route.match != nil {
		err = c.readForwarded()
	} else {
		c.Body, err = readBody(c.response, c.request, c.Record, a.config.bodyGrace)
	}
	if err != nil {
		leaveRest(c.response)
		return answer{}, err
	}
	reason := c.readReason() // a denied call's row has it, too
	if s := c.route.Scope; s != scopeAny && string(s) != argus.ScopeNone && !c.Actor.Can(s) {
		return answer{}, argus.Errorf(argus.CodeForbidden, "This needs the scope %s, which your credential does not have.", s)
	}
	if reason != nil {
		return answer{}, reason
	}
	if c.query, err = url.ParseQuery(c.request.URL.RawQuery); err != nil {
		return answer{}, argus.Errorf(argus.CodeInvalidParameter, "The query cannot be read; escape %% as %%25.").WithCause(err)
	}
	if c.route.Effects { // the body may have taken its time
		if err := a.audit.Available(); err != nil {
			return answer{}, &unaudited{err}
		}
	}
	return c.route.Handle(c)
}

// unaudited is an error of a call for which no row is to be tried: the writer said so, or rejected the row.
type unaudited struct{ error }

func (e *unaudited) Unwrap() error { return e.error }

// finish commits the row and sends the answer.
func (a *API) finish(c *call, ans answer, err error) {
	if c.started {
		a.finishStream(c, err)
		return
	}
	status, body := ans.Status, []byte(nil)
	if err == nil {
		if body, err = ans.body(); err != nil {
			err = fmt.Errorf("rendering the answer: %w", err)
		}
	}
	var p *argus.Error
	if err != nil {
		p = problem(err)
		status = statusOf(p.Code)
		if !c.route.Effects && c.request.Context().Err() != nil && status >= 500 {
			status = statusClientGone
		}
		c.SetErrorCode(p.Code)
		if status == statusClientGone {
			c.SetErrorCode(codeClientGone)
		}
	}

	var skip *unaudited
	switch {
	case errors.As(err, &skip):
		a.logProblem(c, status, p)
	default:
		if p != nil {
			a.logProblem(c, status, p)
		}
		if failed := c.commit(status); failed != nil {
			p = failed
			status, c.header = statusOf(p.Code), http.Header{}
			a.logProblem(c, status, p)
		}
	}

	h := c.response.Header()
	for name, values := range c.header {
		h[name] = values
	}
	if p != nil {
		body = a.errorBody(c.route.Path, p, c.Record.ID)
		setRetryAfter(h, status, p)
	}
	c.identify(h)
	a.metrics.called(c.Record.Route, status)
	if p == nil && ans.forwarded != nil {
		for name, values := range ans.forwarded.Header {
			h[name] = values
		}
		a.sendForwarded(c, ans.forwarded)
		return
	}
	a.send(c.response, status, body)
}

// identify sets the headers that name the call's row: its id, and its hash when it is committed.
func (c *call) identify(h http.Header) {
	h.Set(argus.AuditIDHeader, c.Record.ID.String())
	if c.Record.Seq > 0 {
		h.Set(argus.RowHashHeader, hex.EncodeToString(c.Record.RowHash[:]))
	}
}

// close completes the record.
func (c *call) close(status int) {
	c.Record.Status = int16(status)
	c.Record.Outcome = argus.Completed
	took := time.Since(c.arrival)
	c.Record.LatencyUS = took.Microseconds()
	c.api.metrics.latency.WithLabelValues(c.Record.Route).Observe(took.Seconds())
	c.Record.MakeStorable()
}

// commit completes the record and waits until its row is committed.
func (c *call) commit(status int) *argus.Error {
	c.close(status)
	begin := time.Now()
	err := c.append()
	c.api.metrics.auditWait.Observe(time.Since(begin).Seconds())
	if err == nil {
		return nil
	}
	p := problem(err)
	if c.intended && p.Code == argus.CodeAuditUnavailable {
		// Something may have happened: the caller must not take this for an invitation to repeat it.
		p = argus.Errorf(argus.CodeAuditUnconfirmed,
			"This call may have taken effect, but its audit row is not confirmed. Look it up by its audit id before repeating it.").WithCause(err)
	}
	return p
}

// unavailableTimeout bounds a call that is answered 503, its row included: W3's two seconds, with room.
const unavailableTimeout = 1800 * time.Millisecond

// append waits for the row. A call that a hung Postgres has already cost its patience, and that had no effects or never
// learned whether it did, waits a shorter time: its answer must come within two seconds or little more. Its row is written
// if the batch that it is in still commits. A row that deletes an intent is owed until then.
func (c *call) append() error {
	ctx := context.WithoutCancel(c.request.Context())
	if !c.intended && c.Record.Status == http.StatusServiceUnavailable || c.doubtful {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, max(300*time.Millisecond, unavailableTimeout-time.Since(c.arrival)))
		defer cancel()
	}
	return c.api.audit.Append(ctx, c.Record, c.intended)
}

// answerUnauthenticated answers a request that was not authenticated: no row, no audit id.
func (a *API) answerUnauthenticated(g *gin.Context, err error) {
	p := problem(err)
	status := statusOf(p.Code)
	h := g.Writer.Header()
	if status == http.StatusUnauthorized {
		h.Set("WWW-Authenticate", `Bearer realm="argus"`)
	}
	setRetryAfter(h, status, p)
	if status == http.StatusTooManyRequests {
		a.limits.hold(g.Request.Context())
	}
	if status >= 500 {
		a.outage.Do(func() { a.log.Error("requests not served", "status", status, "code", p.Code, "cause", p.Cause) })
	}
	a.metrics.unauthenticated.WithLabelValues(string(p.Code)).Inc()
	a.send(g.Writer, status, a.errorBody(g.FullPath(), p, uuid.Nil))
}

// send writes a whole answer within a bound: a caller who does not read cannot hold it.
func (a *API) send(w http.ResponseWriter, status int, body []byte) {
	_ = http.NewResponseController(w).SetWriteDeadline(time.Now().Add(answerTimeout))
	h := w.Header()
	if h.Get("Content-Type") == "" {
		h.Set("Content-Type", "application/json; charset=utf-8")
	}
	h.Set("Cache-Control", "no-store")
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Content-Length", strconv.Itoa(len(body)))
	w.WriteHeader(status)
	_, _ = w.Write(body) // a caller who hung up has its row
}

// logProblem logs what the answer does not tell. Rejections are the row's business; failures are the operator's. Of
// an outage, which fails every call, one is logged a second; argus_api_calls_total and argus_api_unauthenticated_total
// count them all.
func (a *API) logProblem(c *call, status int, p *argus.Error) {
	log := func(level slog.Level) {
		a.log.Log(context.Background(), level, "call not completed", "route", c.Record.Route, "status", status, "code", p.Code,
			"message", p.Message, "cause", p.Cause, "actor", c.Record.ActorID, "audit_id", c.Record.ID)
	}
	switch {
	case status == http.StatusServiceUnavailable: // all calls at once
		a.outage.Do(func() { log(slog.LevelError) })
	case status >= 500:
		log(slog.LevelError)
	default:
		log(slog.LevelDebug)
	}
}

// traceID takes the trace id out of a W3C traceparent, "" when there is none.
func traceID(parent string) string {
	parts := strings.Split(parent, "-")
	if len(parts) < 4 || len(parts[0]) != 2 || parts[0] == "ff" || len(parts[1]) != 32 || parts[1] == strings.Repeat("0", 32) {
		return ""
	}
	for _, r := range parts[1] {
		if (r < '0' || r > '9') && (r < 'a' || r > 'f') {
			return ""
		}
	}
	return parts[1]
}
