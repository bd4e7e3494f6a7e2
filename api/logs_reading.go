package api

import (
	"context"
	"errors"
	"maps"
	"net/http"
	"sync"
	"time"

	"github.com/useargus/argus"
)

// reading is an export or a stream, as argus.audit_admin tells of it beside the call's own row. Before the first row
// leaves, it has the question. At the end it has how many rows left, the first and the last of them.
type reading struct {
	a      *API
	c      *call
	export bool
	asked  map[string]any

	mu          sync.Mutex
	rows        int64
	first, last argus.RowKey
}

// startReading records what is asked for. Its error is the answer: nothing is read that is not on record.
func (c *call) startReading(export bool, filter *argus.Filter, more map[string]any) (*reading, error) {
	r := &reading{a: c.api, c: c, export: export, asked: map[string]any{"filter": filter.Query()}}
	maps.Copy(r.asked, more)
	if c.request.Method == http.MethodHead {
		return r, nil // no row leaves
	}
	return r, c.api.recordReading(c.Context(), c.Record.ID, export, false, r.asked)
}

// left notes rows that have left.
func (r *reading) left(rows ...argus.Record) {
	if len(rows) == 0 {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.rows == 0 {
		r.first = rows[0].Key()
	}
	r.last = rows[len(rows)-1].Key()
	r.rows += int64(len(rows))
}

// ended records the end. err is why it ended, nil when it came to its own end. Then the record is there before the caller
// hears of the end, who may ask for the manifest. While Postgres is away, and in any other case, it is made in the
// background for a while: the caller has what it came for.
func (r *reading) ended(err error) {
	if r.c.request.Method == http.MethodHead {
		return
	}
	r.mu.Lock()
	detail := maps.Clone(r.asked)
	detail["rows"] = r.rows
	if r.rows > 0 {
		detail["first"], detail["last"] = r.first.String(), r.last.String()
	}
	r.mu.Unlock()
	if r.export {
		detail["complete"] = err == nil
	}
	detail["ended"] = r.why(err)
	if err == nil && r.a.recordReading(context.WithoutCancel(r.c.Context()), r.c.Record.ID, r.export, true, detail) == nil {
		return
	}
	r.a.inBackground(func(ctx context.Context) {
		// The API may be closing: this much is still written.
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 10*time.Second)
		defer cancel()
		var err error
		for ctx.Err() == nil {
			if err = r.a.recordReading(ctx, r.c.Record.ID, r.export, true, detail); err == nil {
				return
			}
			select {
			case <-ctx.Done():
			case <-r.a.ctx.Done():
				cancel()
			case <-time.After(500 * time.Millisecond):
			}
		}
		r.a.log.Error("the end of an export or a stream was not recorded", "audit_id", r.c.Record.ID, "rows", detail["rows"],
			"first", detail["first"], "last", detail["last"], "cause", err)
	})
}

// why says in one word how the reading ended.
func (r *reading) why(err error) string {
	var behind argus.BehindError
	var denied *argus.Error
	cause := context.Cause(r.c.Context())
	switch {
	case err == nil:
		return "complete"
	case errors.As(cause, &denied):
		return "denied"
	case errors.Is(cause, errShutdown):
		return "shutdown"
	case r.c.request.Context().Err() != nil:
		return "caller left"
	case errors.As(err, &behind):
		return "behind"
	}
	return "failed"
}
