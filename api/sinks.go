package api

import (
	"context"
	"errors"
	"net/http"
	"time"

	"github.com/useargus/argus"
)

// sinks are where argusd ship gives the log to. The API shows them, and asks the shipper for a pause, a test or a backfill. It
// can declare none and change none: where the log goes to is said on the shipper's host alone.
func (a *API) sinkRoutes() []route {
	return []route{
		{Method: http.MethodGet, Path: "/v1/sinks", Scope: argus.ScopeLogsRead, Handle: a.listSinks},
		{Method: http.MethodGet, Path: "/v1/sinks/:name", Scope: argus.ScopeLogsRead, Handle: a.showSink},
		{Method: http.MethodPost, Path: "/v1/sinks/:name/test", Scope: argus.ScopeSinksWrite, Effects: true, Handle: a.testSink},
		{Method: http.MethodPost, Path: "/v1/sinks/:name/pause", Scope: argus.ScopeSinksWrite, Effects: true, Handle: a.pauseSink},
		{Method: http.MethodPost, Path: "/v1/sinks/:name/resume", Scope: argus.ScopeSinksWrite, Effects: true, Handle: a.resumeSink},
		{Method: http.MethodPost, Path: "/v1/sinks/:name/backfill", Scope: argus.ScopeSinksWrite, Effects: true, Handle: a.backfillSink},
	}
}

// sinkJSON is a sink as the API shows it.
type sinkJSON struct {
	Sink   string `json:"sink"`
	Type   string `json:"type"`
	Target string `json:"target"`
	Format string `json:"format"`
	Filter string `json:"filter"` // as a query; "" for all rows

	State          string          `json:"state"` // shipping, idle, retrying, paused; down: no process ships it; undeclared: no file names it any more
	Host           *string         `json:"host"`
	LagRows        int64           `json:"lag_rows"`
	LagSeconds     float64         `json:"lag_seconds"`
	RowsPerSecond  float64         `json:"rows_per_second"`
	Rows           int64           `json:"rows"` // acknowledged, ever
	AcknowledgedAt argus.JSONTime  `json:"acknowledged_at"`
	LastError      *string         `json:"last_error"`
	ErrorAt        argus.JSONTime  `json:"error_at"`
	NextRetryAt    argus.JSONTime  `json:"next_retry_at"`
	RetentionAt    argus.JSONTime  `json:"retention_at"` // when the oldest row that was not shipped may leave Postgres
	RejectedRows   int64           `json:"rejected_rows"`
	PausedBy       *string         `json:"paused_by"`
	PausedAt       argus.JSONTime  `json:"paused_at"`
	Newest         *argus.Manifest `json:"newest"` // the newest batch that was acknowledged, without its rows; null before the first
	Backfills      []backfillJSON  `json:"backfills"`
}

// backfillJSON is a backfill and how far it is.
type backfillJSON struct {
	ID         int64          `json:"id"`
	Since      argus.JSONTime `json:"since"`
	State      string         `json:"state"` // asked, running, done, failed
	Rows       *int64         `json:"rows"`  // that it looks at; null until it runs
	Shipped    int64          `json:"shipped"`
	Error      *string        `json:"error"`
	AskedBy    string         `json:"asked_by"`
	AskedAt    argus.JSONTime `json:"asked_at"`
	FinishedAt argus.JSONTime `json:"finished_at"`
}

func noSink(name string) error {
	return argus.Errorf(argus.CodeNotFound, "There is no sink %q. GET /v1/sinks lists them; they are declared on the host of argusd ship.", argus.Text(name, 40))
}

func (a *API) listSinks(c *call) (answer, error) {
	ctx, cancel := context.WithTimeout(c.Context(), lookupTimeout)
	defer cancel()
	sinks, err := readSinks(ctx, a.pool, "")
	if err != nil {
		return answer{}, nothingHappened(err)
	}
	return reply(struct {
		Sinks []sinkJSON `json:"sinks"`
	}{sinks})
}

func (a *API) showSink(c *call) (answer, error) {
	ctx, cancel := context.WithTimeout(c.Context(), lookupTimeout)
	defer cancel()
	sinks, err := readSinks(ctx, a.pool, c.Param("name"))
	switch {
	case err != nil:
		return answer{}, nothingHappened(err)
	case len(sinks) == 0:
		return answer{}, noSink(c.Param("name"))
	}
	return reply(sinks[0])
}

// changed gives the sink after a change.
func (a *API) changedSink(c *call, change func(ctx context.Context, tx Tx, name string) error) (answer, error) {
	var shown sinkJSON
	name := c.Param("name")
	err := c.InTx(func(ctx context.Context, tx Tx) error {
		if err := change(ctx, tx, name); err != nil {
			return err
		}
		sinks, err := readSinks(ctx, tx, name)
		if err == nil && len(sinks) == 0 {
			err = noSink(name)
		}
		if err == nil {
			shown = sinks[0]
		}
		return err
	})
	if err != nil {
		return answer{}, err
	}
	return reply(shown)
}

func (a *API) pauseSink(c *call) (answer, error) {
	return a.changedSink(c, func(ctx context.Context, tx Tx, name string) error { return pauseSink(ctx, tx, name, c.by()) })
}

func (a *API) resumeSink(c *call) (answer, error) {
	return a.changedSink(c, resumeSink)
}

func (a *API) backfillSink(c *call) (answer, error) {
	var body struct {
		Since string `json:"since"`
	}
	if err := c.Bind(&body); err != nil {
		return answer{}, err
	}
	since, err := argus.ParseTime(body.Since, c.arrival)
	if err != nil {
		return answer{}, err
	}
	return a.changedSink(c, func(ctx context.Context, tx Tx, name string) error {
		_, err := orderOfSink(ctx, tx, name, "backfill", &since, c.by())
		return err
	})
}

// testWait is how long a test of a sink is waited for. The shipper gives it 15 seconds.
const testWait = 17 * time.Second

// testSink asks the shipper to reach the receiver, and waits for what came of it.
func (a *API) testSink(c *call) (answer, error) {
	var id int64
	err := c.InTx(func(ctx context.Context, tx Tx) (err error) {
		id, err = orderOfSink(ctx, tx, c.Param("name"), "test", nil, c.by())
		return err
	})
	if err != nil {
		return answer{}, err
	}
	ctx, cancel := context.WithTimeout(c.Context(), testWait)
	defer cancel()
	told := struct {
		Sink  string  `json:"sink"`
		State string  `json:"state"` // done; failed; asked: no process has taken it up yet
		Error *string `json:"problem"`
	}{Sink: c.Param("name"), State: "asked"}
	for tick := time.NewTicker(200 * time.Millisecond); ; {
		select {
		case <-tick.C:
		case <-ctx.Done():
			tick.Stop()
			if errors.Is(c.Context().Err(), context.Canceled) {
				return answer{}, c.Context().Err()
			}
			return reply(told)
		}
		state, said, err := outcomeOfOrder(ctx, a.pool, id)
		if err == nil && (state == "done" || state == "failed") {
			tick.Stop()
			told.State, told.Error = state, said
			return reply(told)
		}
	}
}
