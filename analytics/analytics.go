// Package analytics answers the questions asked of the audit log: searches, single calls, exports, live streams,
// performance, facets.
//
//	            ┌─ watermark ──┐                       ┌─ rows and counts up to the snapshot ── ClickHouse
//	question ──▶│              ├──▶ what is missing ──▶│                                                  ├──▶ answer
//	            └─ snapshot ───┘    in ClickHouse      └─ exactly the rows beyond the watermark ─ Postgres
//
// Every answer is of one snapshot: all rows that were committed in Postgres when the question came, and no others.
// ClickHouse is a copy that lags; its watermark says which rows it surely has. What lies between watermark and
// snapshot, the tail, is read from Postgres, and rows that are in both count once because they have an identity,
// (writer_id, seq). There may be several copies, each with a watermark of its own: a question is given to one of them, and
// as a whole to the next when that one is away, frozen or rejects it. When none answers, or the tail is too long, Postgres
// answers alone.
//
// A question may be asked from many goroutines. It is bounded in time, memory and rows, and ends when its context
// does. Errors are *argus.Error.
package analytics

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/useargus/argus"
)

// Config is what Analytics is made of.
type Config struct {
	// ClickHouseURL is native, clickhouse://user:password@host:port/database, of a user that may only read but
	// may set its own bounds (readonly = 2). Several copies are name=url, separated by blanks: see connect.Copies.
	ClickHouseURL string
	// HedgeAfter is how long a copy may take before another is asked as well, or three times what 95 % of such questions
	// take if that is longer. Zero asks no second one.
	HedgeAfter time.Duration
	// Postgres is a pool of the primary as the role argus_api. Only its configuration is taken: analytics opens
	// connections of its own, so that no question can take those that rows are written with.
	Postgres *pgxpool.Pool
	// CursorKey, at least 16 bytes, authenticates cursors. All processes of a deployment share it.
	CursorKey []byte

	Logger     *slog.Logger          // nil: slog.Default
	Registerer prometheus.Registerer // nil: metrics are kept but not shown

	// Set by tests; zero takes the default.
	stall time.Duration // how long ClickHouse may send nothing
	dial  time.Duration // how long a connection to it may take
	// How old a watermark may be that an earlier question read; negative: each question reads its own.
	watermarkAge time.Duration
	tailLimit    int64         // rows that may be read from Postgres beside ClickHouse
	fewRows      int64         // rows that cost what planning one more statement does; negative: rollups do all they can
	raw          rawForm       // of statements over rows
	pollEvery    time.Duration // of the live stream
	ringSize     int           // rows the live stream keeps
	now          func() time.Time
	onCompose    func(step string) // called between the steps of an answer
}

// Analytics answers questions. Make it with New.
type Analytics struct {
	config  Config
	log     *slog.Logger
	metrics *metrics
	copies  *copies
	hedges  *hedges
	pg      *postgresClient

	sharing      sharing
	light, heavy chan struct{} // how many searches, and how many scans, run at once
	live         *liveSource

	cancel     context.CancelFunc
	background sync.WaitGroup
}

// Defaults and bounds.
const (
	defaultStall     = 1500 * time.Millisecond
	dialTimeout      = time.Second
	defaultTailLimit = 50_000

	maxLight = 16 // pages and the like at once
	maxHeavy = 3  // scans at once: exports' chunks, performance and facets from raw rows

	searchTime   = 8 * time.Second // of ClickHouse, for a page
	scanTime     = 20 * time.Second
	queryMemory  = 512 << 20
	fallbackTime = 10 * time.Second        // of Postgres, for what ClickHouse should have answered
	quickTime    = 2 * time.Second         // of Postgres, for a lookup by key
	hungAfter    = quickTime + time.Second // then Postgres, which would have ended it, does not answer
)

// New checks the configuration. Nothing runs and nothing is connected before Start.
func New(config Config) (*Analytics, error) {
	if config.Postgres == nil {
		return nil, errors.New("analytics: Postgres is required")
	}
	if len(config.CursorKey) < 16 {
		return nil, errors.New("analytics: CursorKey must have 16 bytes or more")
	}
	setDefault(&config.stall, defaultStall)
	setDefault(&config.dial, dialTimeout)
	setDefault(&config.watermarkAge, watermarkAge)
	setDefault(&config.tailLimit, defaultTailLimit)
	setDefault(&config.fewRows, defaultFewRows)
	setDefault(&config.pollEvery, 100*time.Millisecond)
	setDefault(&config.ringSize, 16_384)
	if config.now == nil {
		config.now = time.Now
	}
	if config.Logger == nil {
		config.Logger = slog.Default()
	}
	copies, err := newCopies(config.ClickHouseURL, config.dial, config.stall)
	if err != nil {
		return nil, fmt.Errorf("analytics: %w", err)
	}
	pg, err := newPostgresClient(config.Postgres.Config())
	if err != nil {
		return nil, fmt.Errorf("analytics: %w", err)
	}
	a := &Analytics{
		config: config, log: config.Logger.With("stage", "analytics"), metrics: newMetrics(config.Registerer),
		copies: copies, hedges: newHedges(), pg: pg,
		light: make(chan struct{}, maxLight), heavy: make(chan struct{}, maxHeavy),
	}
	a.live = &liveSource{a: a}
	return a, nil
}

func setDefault[T comparable](v *T, d T) {
	var zero T
	if *v == zero {
		*v = d
	}
}

// Start begins the background work: the probe of each copy's health. ctx bounds the starting alone.
func (a *Analytics) Start(ctx context.Context) error {
	ctx, a.cancel = context.WithCancel(context.WithoutCancel(ctx))
	for _, c := range a.copies.all {
		a.background.Go(func() { a.watchHealth(ctx, c) })
	}
	return nil
}

// Close ends the background work, the streams still being followed, and the connections.
func (a *Analytics) Close(ctx context.Context) error {
	if a.cancel != nil {
		a.cancel()
	}
	a.live.close()
	done := make(chan struct{})
	go func() {
		a.background.Wait()
		a.copies.close()
		a.pg.close()
		close(done)
	}()
	select {
	case <-done:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// acquire takes a place among those that run at once; release gives it back.
func acquire(ctx context.Context, places chan struct{}) (release func(), err error) {
	select {
	case places <- struct{}{}:
		return func() { <-places }, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// resolve makes the window that a filter's times and the retention give.
func (a *Analytics) resolve(f *argus.Filter) window {
	return a.clamp(window{f.Since, f.Until})
}

// clamp leaves out what is past retention.
func (a *Analytics) clamp(w window) window {
	if oldest := argus.Micros(a.config.now().Add(-argus.Retention)); w.since.Before(oldest) {
		w.since = oldest
	}
	if !w.until.IsZero() && w.until.Before(w.since) {
		w.until = w.since
	}
	return w
}
