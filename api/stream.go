package api

import (
	"context"
	"errors"
	"net/http"
	"time"
)

const (
	// answerTimeout bounds the sending of an answer, and of each piece of a stream.
	answerTimeout = 30 * time.Second
)

// errHeadOnly ends a stream that was asked for by HEAD.
var errHeadOnly = errors.New("api: only the headers were asked for")

// errShutdown ends streams when the server is about to.
var errShutdown = errors.New("api: shutting down")

// stream is the body of an answer that goes on.
type stream struct {
	c       *call
	control *http.ResponseController
}

// Start commits the row with status 200, latency up to now, and fixes the headers set so far. They leave with the first
// Flush. From Start on the answer can only be cut off, never changed. The handler returns the error of Start too.
//
// The call's context ends when the credential is no longer good, context.Cause then being the *argus.Error that
// a new call would be answered with.
func (c *call) Start() (*stream, error) {
	if !c.route.Stream {
		return nil, errors.New("api: Start in a route registered without Stream")
	}
	if err := c.open(http.StatusOK); err != nil {
		return nil, err
	}
	h := c.response.Header()
	for name, values := range c.header {
		h[name] = values
	}
	c.identify(h)
	h.Set("Cache-Control", "no-store")
	h.Set("X-Content-Type-Options", "nosniff")
	s := &stream{c, http.NewResponseController(c.response)}
	_ = s.control.SetWriteDeadline(time.Now().Add(answerTimeout))
	c.response.WriteHeader(http.StatusOK)
	if c.request.Method == http.MethodHead {
		return nil, errHeadOnly
	}
	ctx, cancel := context.WithCancelCause(c.ctx)
	c.follow(ctx, cancel)
	return s, nil
}

// open takes a place among the streams and commits the row. From then on the answer can only be cut off.
func (c *call) open(status int) error {
	if err := c.enterStream(); err != nil {
		return err
	}
	if failed := c.commit(status); failed != nil {
		return &unaudited{failed}
	}
	c.started = true
	return nil
}

// enterStream takes the call's place among the streams, once. It is given back when the call is over.
func (c *call) enterStream() error {
	if c.streams {
		return nil
	}
	if err := c.api.limits.enterStream(c.credential.Person()); err != nil {
		return err
	}
	c.streams = true
	c.atEnd(func() { c.api.limits.leaveStream(c.credential.Person()) })
	return nil
}

// follow has the stream's credential watched: cancel ends ctx when it is no longer good.
func (c *call) follow(ctx context.Context, cancel context.CancelCauseFunc) {
	c.leave()
	c.release() // a stream is counted among the streams, no longer among the calls
	c.ctx, c.cancel = ctx, cancel
	c.look = make(chan struct{}, 1)
	c.api.watched.add(c)
	c.api.inBackground(func(context.Context) { c.api.watch(ctx, cancel, c) })
}

// Write sends p, waiting at most answerTimeout for a slow caller.
func (s *stream) Write(p []byte) (int, error) {
	_ = s.control.SetWriteDeadline(time.Now().Add(answerTimeout))
	return s.c.response.Write(p)
}

// Flush sends what is buffered.
func (s *stream) Flush() error { return s.control.Flush() }

// finishStream ends an answer whose headers are out.
func (a *API) finishStream(c *call, err error) {
	if c.cancel != nil {
		c.cancel(nil)
		a.watched.remove(c)
	}
	a.metrics.called(c.Record.Route, int(c.Record.Status))
	if err == nil || errors.Is(err, errHeadOnly) {
		return
	}
	if c.request.Context().Err() == nil {
		a.log.Warn("stream cut off", "route", c.Record.Route, "audit_id", c.Record.ID, "cause", err)
	}
	// Ends the connection without the mark of a complete body, so that the caller cannot take it for one.
	panic(http.ErrAbortHandler)
}
