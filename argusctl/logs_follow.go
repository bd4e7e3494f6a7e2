package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"time"

	"github.com/useargus/argus"
)

// follower prints calls as they are recorded. Its position is the last place it got to; from there every
// connection continues, so that none is skipped and none is shown twice.
type follower struct {
	f        *factory
	client   *client
	query    url.Values // the filter, without a window
	position string     // "" : from now on
	rows     *rowPrinter

	last  time.Time // when the server was last heard, for the gap line
	quiet bool      // the person was told that the connection is lost

	renewed  time.Time // when a new token was taken
	renewals int       // how often in a row
}

// silence is how long a stream may say nothing before it counts as lost: the server sends a ping every 10 s.
const silence = 35 * time.Second

// run follows until ctx ends, which is no error when a person ended it, or the server says no.
func (w *follower) run(ctx context.Context) error {
	w.last = w.f.now()
	wait := firstWait
	for {
		heard, err := w.connect(ctx)
		if flushErr := w.rows.flush(); flushErr != nil {
			return flushErr
		}
		if ctx.Err() != nil {
			return unread(ctx)
		}
		if heard {
			wait = firstWait
		}
		var behind *behindError
		var api *apiError
		var net *netError
		switch {
		case errors.As(err, &behind):
			continue // it told where to go on
		case errors.As(err, &api) && api.Status == http.StatusBadRequest && api.Code == argus.CodeInvalidCursor && w.position != "":
			// The only way to miss a call: the server knows the position no more. Say so where it is missing.
			if err := w.gap(); err != nil {
				return err
			}
			w.position = ""
			continue
		case errors.As(err, &api) && api.Status == http.StatusUnauthorized && heard && w.renew(ctx):
			continue // the token ended while it was followed, and there is a new one
		case errors.As(err, &api) && api.Status < 500 && api.Status != http.StatusTooManyRequests:
			return err
		case errors.As(err, &api):
			wait = max(wait, api.RetryAfter)
		case errors.As(err, &net), errors.Is(err, errStreamEnded):
		default:
			return err
		}
		if !w.quiet && !errors.Is(err, errStreamEnded) {
			w.f.notice("Lost %s, trying again: %s", w.client.base.Host, err)
			w.quiet = true
		}
		select {
		case <-ctx.Done():
			return unread(ctx)
		case <-time.After(wait):
		}
		wait = min(wait*2, longestReconnect)
	}
}

const (
	firstWait        = 250 * time.Millisecond
	longestReconnect = 10 * time.Second
)

// errStreamEnded: the server closed the stream in good order, as it does when it restarts.
var errStreamEnded = errors.New("the stream ended")

// behindError: the server had to leave this consumer behind; the position is already taken over.
type behindError struct{}

func (*behindError) Error() string { return "fell behind" }

// mayRenew is how many tokens in a row may end within soon of their first use. Then the server means more than an end.
const (
	mayRenew = 3
	soon     = 5 * time.Second
)

// renew reports whether to go on with a new token.
func (w *follower) renew(ctx context.Context) bool {
	if time.Since(w.renewed) > soon {
		w.renewals = 0
	}
	w.renewals++
	w.renewed = time.Now()
	return w.renewals <= mayRenew && w.client.renew(ctx)
}

// connect follows on one connection until it ends. heard tells whether the server said anything.
func (w *follower) connect(ctx context.Context) (heard bool, err error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	r := request{method: http.MethodGet, path: "/v1/audit-log/stream", query: w.query,
		header: http.Header{"Accept": {"text/event-stream"}}}
	if w.position != "" {
		r.header.Set("Last-Event-ID", w.position)
	}
	resp, err := w.client.open(ctx, r)
	if err != nil {
		return false, err
	}
	defer resp.Body.Close()
	lost := &netError{Message: fmt.Sprintf("%s has said nothing for %s.", w.client.base.Host, formatDuration(silence)), Transient: true}
	timer := time.AfterFunc(silence, func() { cancel(lost) })
	defer timer.Stop()
	events := newEventReader(resp.Body)
	for {
		e, err := events.next()
		if err != nil {
			if errors.Is(err, io.EOF) && ctx.Err() == nil {
				return heard, errStreamEnded
			}
			return heard, w.client.netError(ctx, err)
		}
		timer.Reset(silence)
		heard = true
		if err := w.take(e); err != nil {
			return heard, err
		}
		if !events.buffered() {
			if err := w.rows.flush(); err != nil {
				return heard, err
			}
		}
	}
}

// take acts on one event.
func (w *follower) take(e event) error {
	w.last = w.f.now()
	if w.quiet {
		w.f.notice("Connected again; nothing was missed.")
		w.quiet = false
	}
	switch e.name {
	case "row":
		if err := w.rows.print(e.data); err != nil {
			return err
		}
	case "behind":
		var v struct {
			Resume string `json:"resume"`
		}
		if err := unmarshal(e.data, &v); err != nil || v.Resume == "" {
			return badAnswer(fmt.Errorf("a position was expected"))
		}
		w.position = v.Resume
		return &behindError{}
	case "denied":
		denied := &apiError{Status: http.StatusUnauthorized}
		denied.fill(e.data)
		if denied.Code == argus.CodeForbidden {
			denied.Status = http.StatusForbidden
		}
		if denied.Message == "" {
			denied.Message = "The credential is no longer valid."
		}
		return denied
	}
	if e.id != "" {
		w.position = e.id
	}
	return nil
}

// gap prints a line where calls may be missing: among the rows, or for formats that hold rows alone beside them.
func (w *follower) gap() error {
	now := w.f.now()
	text := fmt.Sprintf("-- gap: calls recorded between %s and %s may be missing here --",
		w.last.UTC().Format(time.RFC3339), now.UTC().Format(time.RFC3339))
	w.quiet = false
	if w.rows.how == asJSON || w.rows.how == asCSV {
		w.f.notice("%s", text)
		return nil
	}
	if _, err := w.f.io.out.WriteString(w.f.io.outStyle(yellow, text) + "\n"); err != nil {
		return err
	}
	return w.rows.flush()
}
