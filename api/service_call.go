package api

import (
	"bufio"
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"net"
	"net/http"
	"net/url"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/gin-gonic/gin"

	"github.com/useargus/argus"
	"github.com/useargus/argus/api/services"
)

// door is the way of a call to a service: one more handler behind the middleware (middleware.go). Its route is made of what
// the services file declares at the moment the call comes.
type door struct {
	registry *services.Registry
	send     *services.Door
	memory   *services.Memory
	metrics  *metrics
}

// match finds what a request that none of our own routes has is for; nil when it is under no service's mount.
func (d *door) match(r *http.Request) (*route, gin.Params) {
	if d == nil {
		return nil, nil
	}
	m := d.registry.Find(r.Method, r.URL.EscapedPath())
	if m == nil {
		return nil, nil
	}
	if m.Route == nil {
		return &route{Path: argus.UnmatchedRoute, Scope: argus.Scope(argus.ScopeNone), Service: m.Name, Handle: undeclared(m)}, nil
	}
	var params gin.Params
	for _, p := range m.Params {
		params = append(params, gin.Param{Key: p.Name, Value: url.PathEscape(p.Value)})
	}
	return &route{Method: m.Route.Method, Path: m.Mount + m.Route.Template, Scope: m.Route.Scope, Service: m.Name,
		Effects: m.Route.Effects(), Stream: m.Route.Stream, match: m, Handle: d.forward}, params
}

// undeclared answers a path under a mount that no route of the service has.
func undeclared(m *services.Match) func(c *call) (answer, error) {
	return func(c *call) (answer, error) {
		if len(m.Allowed) > 0 {
			c.SetHeader("Allow", strings.Join(m.Allowed, ", "))
			return answer{}, argus.Errorf(argus.CodeMethodNotAllowed, "The service %s declares for this path only %s.", m.Name, strings.Join(m.Allowed, ", "))
		}
		return answer{}, argus.Errorf(argus.CodeNotFound, "The service %s declares no route for this path. GET /v1/services lists its routes.", m.Name)
	}
}

// readForwarded reads the body of a call to a service as far as it is held. When that is all of it, it records the digest.
func (c *call) readForwarded() error {
	limit := int64(c.route.match.BodyLimit)
	tooLarge := argus.Errorf(argus.CodeBodyTooLarge, "The body is larger than the %s that the service %s takes. Send less, or have its body_limit raised.", c.route.match.BodyLimit, c.route.Service)
	memory := c.held()
	c.forwarded, _ = services.ReadBody(nil, limit, memory)
	if c.request.ContentLength > limit {
		return tooLarge
	}
	if c.request.Body == nil || c.request.Body == http.NoBody {
		c.recordBody()
		clearReadDeadline(c.response)
		return nil
	}
	from := &body{Reader: c.request.Body, control: http.NewResponseController(c.response), begun: time.Now(), grace: c.api.config.bodyGrace,
		most: max(bodyTimeout, time.Duration(c.route.match.Timeout))}
	read, err := services.ReadBody(from, limit, memory)
	c.forwarded = read
	c.atEnd(read.Release)
	c.recordBody()
	switch {
	case errors.Is(err, services.ErrBodyTooLarge):
		return tooLarge
	case errors.Is(err, services.ErrBodyMemory):
		return argus.Errorf(argus.CodeServiceBusy, "ARGUS is at its limit of bytes held for you or for the service %s. Nothing was done. Try again.", c.route.Service).WithRetryAfter(time.Second)
	case errors.Is(err, os.ErrDeadlineExceeded):
		return argus.Errorf(argus.CodeBodyIncomplete, "The body came too slowly. Send it at once.").WithCause(err)
	case err != nil:
		return argus.Errorf(argus.CodeBodyIncomplete, "The body ended before it was complete. Send it again.").WithCause(err)
	}
	if !read.Streamed() {
		clearReadDeadline(c.response)
	}
	return nil
}

// recordBody records what was read of the body: its digest when that is all of it.
func (c *call) recordBody() {
	if c.forwarded.Streamed() && !c.sent {
		_, c.Record.BodyBytes = c.forwarded.SoFar()
		return // the digest is known when it was sent
	}
	c.Record.BodySHA256, c.Record.BodyHashed, c.Record.BodyBytes = c.forwarded.Sum()
}

// held is the memory that the call may take of.
func (c *call) held() services.Share {
	return c.api.door.memory.Share(c.route.Service, c.credential.Person())
}

// atEnd has f done when the call is over.
func (c *call) atEnd(f func()) { c.ends = append(c.ends, f) }

// forward is the handler of every service's route:
//
//	reason, confirm ▸ a place among the service's calls ▸ [intent] ▸ the service ▸ its answer
func (d *door) forward(c *call) (answer, error) {
	m := c.route.match
	if m.Route.Reason == "required" && c.Record.Reason == "" {
		leaveRest(c.response)
		return answer{}, argus.Errorf(argus.CodeReasonRequired, "Say why: this route needs the header %s with 3 to %d characters (argusctl api … --reason).",
			argus.ReasonHeader, argus.MaxReason)
	}
	if err := c.confirmed(m.Route.Confirm); err != nil {
		leaveRest(c.response)
		return answer{}, err
	}
	// The call is bounded by its service's places from here on. Those of all calls are for callers of services that answer.
	c.release()
	leave, err := m.Enter(c.ctx)
	if err != nil {
		leaveRest(c.response)
		return answer{}, err
	}
	defer leave()
	if c.route.Stream && c.route.Effects { // before the service acts, so that "try again" is true
		if err := c.enterStream(); err != nil {
			leaveRest(c.response)
			return answer{}, err
		}
	}
	if c.Record.TraceID == "" {
		c.Record.TraceID = newTraceID()
	}
	if c.route.Effects {
		if err := c.intend(); err != nil {
			leaveRest(c.response)
			return answer{}, err
		}
	}
	ctx, cancel := context.WithCancelCause(c.ctx)
	defer cancel(nil)
	stop := context.AfterFunc(c.api.cutting, func() {
		cancel(argus.Errorf(argus.CodeServiceTimeout, "ARGUS stops, and the service %s had not answered. What you asked for may have happened: look before you repeat it.", m.Name))
	})
	defer stop()
	if c.forwarded.Streamed() {
		_ = http.NewResponseController(c.response).EnableFullDuplex()
	}
	begun := time.Now()
	ans, err := d.send.Send(ctx, cancel, &services.Call{
		Match: m, Request: c.request, Body: c.forwarded, Memory: c.held(), IP: c.Record.ClientIP, TraceID: c.Record.TraceID, Effects: c.route.Effects,
		Claims: c.claims(),
		Stream: func(status int, _ http.Header, release string) (http.ResponseWriter, error) {
			c.sent = true
			c.recordBody()
			c.SetRelease(release)
			if c.route.Effects { // carried through up to here; a stream goes on only for a caller
				c.atEnd(afterFunc(c.request.Context(), func() { cancel(context.Canceled) }))
			}
			return c.startForwarded(ctx, cancel, status)
		},
	})
	d.metrics.serviceSeconds.WithLabelValues(m.Name).Observe(time.Since(begun).Seconds())
	if !c.started {
		c.sent = true
		c.recordBody()
	}
	var broken *services.BrokenStream
	switch {
	case err == nil:
	case errors.Is(err, services.ErrStreamed):
		return answer{}, nil
	case errors.As(err, &broken):
		d.metrics.brokenStreams.WithLabelValues(m.Name).Inc()
		return answer{}, err
	default:
		if !c.started {
			d.metrics.serviceFailures.WithLabelValues(m.Name, string(problem(err).Code)).Inc()
		}
		return answer{}, err
	}
	c.atEnd(ans.Free)
	c.SetRelease(ans.Release)
	return answer{Status: ans.Status, forwarded: ans}, nil
}

// confirmed checks that the caller repeated the parameter that the route wants confirmed.
func (c *call) confirmed(parameter string) error {
	if parameter == "" {
		return nil
	}
	values := c.request.Header.Values(argus.ConfirmHeader)
	if len(values) != 1 {
		return argus.Errorf(argus.CodeStepUpRequired, "Confirm this: give the header %s once, with the value of %s (argusctl api … --confirm).",
			argus.ConfirmHeader, parameter)
	}
	if given, err := argus.ParseHeaderText(values[0]); err != nil || given != c.Param(parameter) {
		return argus.Errorf(argus.CodeStepUpRequired, "%s is not the value of %s in the path, so nothing was done.", argus.ConfirmHeader, parameter)
	}
	return nil
}

// claims are what a service is told of who calls.
func (c *call) claims() services.Claims {
	claims := services.Claims{Subject: c.Record.ActorID, ActorKind: c.Record.ActorKind, ID: c.Record.ID.String()}
	if c.Record.ImpersonatorID != "" || c.Record.Agent != "" {
		claims.Act = &services.Act{Subject: c.Record.ImpersonatorID, Agent: c.Record.Agent}
	}
	return claims
}

// afterFunc has f done when ctx ends, until the returned function is called.
func afterFunc(ctx context.Context, f func()) func() {
	stop := context.AfterFunc(ctx, f)
	return func() { stop() }
}

func newTraceID() string {
	var id [16]byte
	_, _ = rand.Read(id[:]) // never fails
	return hex.EncodeToString(id[:])
}

// stages tells how the services do: one stage, when there are any.
func (d *door) stages() []argus.Stage {
	if d == nil {
		return nil
	}
	all := d.registry.Services()
	var failing []string
	underWay := 0
	for _, s := range all {
		underWay += s.UnderWay()
		if s.LastHealth().Status == services.HealthFailing {
			failing = append(failing, s.Name)
		}
	}
	s := argus.Stage{Name: "services", Status: statusOK, Facts: map[string]any{
		"services": len(all), "failing": len(failing), "calls_under_way": underWay, "held_bytes": d.memory.Used()}}
	if len(failing) > 0 {
		s.Status, s.Detail = statusDegraded, "Not healthy: "+argus.Text(strings.Join(failing, ", "), 200)+"."
	}
	if p := d.registry.Problem(); p != nil {
		s.Status, s.Detail = statusDegraded, "The services file changed and has mistakes, so what held before stays: argusd check services names them."
	}
	return []argus.Stage{s}
}

// jobs are the door's background work.
func (d *door) jobs(reload <-chan struct{}) []func(ctx context.Context) {
	if d == nil {
		return nil
	}
	return []func(ctx context.Context){
		func(ctx context.Context) { d.registry.Watch(ctx, reload) },
		d.registry.PollHealth,
	}
}

// sendForwarded sends a service's answer: the same, but for what headers.go of package services takes out and adds.
func (a *API) sendForwarded(c *call, ans *services.Answer) {
	w := c.response
	_ = http.NewResponseController(w).SetWriteDeadline(time.Now().Add(answerTimeout))
	h := w.Header()
	length := h.Get("Content-Length")
	delete(h, "Content-Length")
	bodyless := ans.Status == http.StatusNoContent || ans.Status == http.StatusNotModified
	switch {
	case c.request.Method == http.MethodHead && length != "":
		h.Set("Content-Length", length)
	case len(ans.Trailer) > 0 && !bodyless:
		for name := range ans.Trailer {
			h.Add("Trailer", name)
		}
	case !bodyless && c.request.Method != http.MethodHead:
		h.Set("Content-Length", strconv.Itoa(len(ans.Body)))
	}
	if h.Get("Content-Type") == "" && len(ans.Body) > 0 {
		h.Set("Content-Type", "application/octet-stream") // net/http would guess it
	}
	w.WriteHeader(ans.Status)
	_, _ = w.Write(ans.Body) // a caller who hung up has its row
	if len(ans.Trailer) > 0 {
		_ = http.NewResponseController(w).Flush()
		for name, values := range ans.Trailer {
			h[name] = values
		}
	}
}

// startForwarded commits the row of a stream and says where it goes.
func (c *call) startForwarded(ctx context.Context, cancel context.CancelCauseFunc, status int) (http.ResponseWriter, error) {
	if err := c.open(status); err != nil {
		return nil, err
	}
	c.identify(c.response.Header())
	c.follow(ctx, cancel)
	return forwardedStream{c.response, http.NewResponseController(c.response), ctx}, nil
}

// forwardedStream is where a service's stream goes. A caller that does not read ends it.
type forwardedStream struct {
	http.ResponseWriter
	control *http.ResponseController
	ctx     context.Context
}

func (s forwardedStream) WriteHeader(status int) {
	_ = s.control.SetWriteDeadline(time.Now().Add(answerTimeout))
	s.ResponseWriter.WriteHeader(status)
	_ = s.control.Flush() // the caller has the headers while the service is silent
}

func (s forwardedStream) Write(p []byte) (int, error) {
	_ = s.control.SetWriteDeadline(time.Now().Add(answerTimeout))
	return s.ResponseWriter.Write(p)
}

// Unwrap lets the stream be flushed.
func (s forwardedStream) Unwrap() http.ResponseWriter { return s.ResponseWriter }

// Hijack gives the caller's connection away for an upgrade. It ends with the stream's context: a caller that neither reads
// nor sends would keep ReverseProxy waiting for it.
func (s forwardedStream) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	conn, rw, err := s.control.Hijack()
	if err != nil {
		return nil, nil, err
	}
	context.AfterFunc(s.ctx, func() { _ = conn.Close() })
	conn = takenOver{conn}
	rw.Writer.Reset(conn)
	return conn, rw, nil
}

// takenOver is a caller's connection after an upgrade. As with every stream, a caller that does not read ends it.
type takenOver struct{ net.Conn }

func (t takenOver) Write(p []byte) (int, error) {
	_ = t.SetWriteDeadline(time.Now().Add(answerTimeout))
	return t.Conn.Write(p)
}
