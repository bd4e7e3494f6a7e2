// Package replicator copies the audit tables from Postgres into ClickHouse, each row exactly once, rollups
// included, and says how far it has got.
//
// What it knows after a crash is one row of ClickHouse, the watermark. All that committed before its lsn is
// in ClickHouse. What committed between its lsn and its ceiling may be there wholly, partly, or half (in a
// table and not in its rollups). Nothing that committed behind its ceiling is there. So after any restart, time-out or take-over, of
// either side, the same thing happens (see Replicator.term):
//
//	lease in Postgres ─▸ lease term in ClickHouse: no other replicator writes, old inserts have ended
//	  ─▸ is the history the one we know? else heal (see heal.go)
//	  ─▸ stream from lsn ─▸ up to ceiling insert only what is not there ─▸ rebuild the rollups it touched
//	  ─▸ watermark ─▸ acknowledge to the slot ─▸ stream on, batch by batch:
//
//	          decode          insert             publish            acknowledge
//	  WAL ───▸ intake ──────▸ ClickHouse ──────▸ watermark ───────▸ slot
//	        (two batches)   row tables, views   (position, lsn)    (lsn, never what is only received)
package replicator

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"regexp"
	"slices"
	"sync"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/useargus/argus/connect"
	"github.com/useargus/argus/replicator/wal"
)

// Config says what to copy from where to where. Only the URLs are required.
type Config struct {
	PostgresURL   string   // of the role argus_replicator, the primary
	ClickHouseURL string   // of the user argus_replicator, native protocol; one server
	Copy          string   // the name of the copy that the server is, or is a shard of; "" for one plain URL
	Shard, Shards int      // which of how many servers of the copy; 1 of 1
	Slot          string   // "argus"; one per Postgres server, so two databases need two names
	SlotBase      string   // of the slots of all copies: what their names begin with; Slot when empty
	Slots         []string // of every server that the configuration names; only Slot when empty
	Publication   string   // "argus"
	Logger        *slog.Logger
	Registerer    prometheus.Registerer // nil registers nothing
	// Progress gets a line now and then during the first copy and other long repairs; nil for none.
	Progress io.Writer

	LeaseTTL      time.Duration // after so long without a sign of life another takes over; 4 s
	InsertTimeout time.Duration // of one statement in ClickHouse; 60 s
	CheckEvery    time.Duration // how often counts of recent months are compared; 10 min, negative for never
	BatchRows     int           // at most so many rows an insert; 131 072
	BatchBytes    int           // and so many bytes of messages; 48 MiB
	CopyWorkers   int           // months copied at once by the first copy; 3
}

func (c *Config) setDefaults() error {
	if c.Slot == "" {
		c.Slot = "argus"
	}
	if c.Publication == "" {
		c.Publication = "argus"
	}
	if c.SlotBase == "" {
		c.SlotBase = c.Slot
	}
	if !slices.Contains(c.Slots, c.Slot) {
		c.Slots = append(slices.Clone(c.Slots), c.Slot)
	}
	if c.Shards == 0 {
		c.Shard, c.Shards = 1, 1
	}
	name := regexp.MustCompile(`^[a-z0-9_]{1,63}$`)
	if !name.MatchString(c.Slot) || !name.MatchString(c.Publication) {
		return errors.New("names of slots and publications are lower-case letters, digits and underscores, 63 at most")
	}
	if c.Logger == nil {
		c.Logger = slog.Default()
	}
	set := func(d *time.Duration, v time.Duration) {
		if *d == 0 {
			*d = v
		}
	}
	set(&c.LeaseTTL, 4*time.Second)
	set(&c.InsertTimeout, time.Minute)
	set(&c.CheckEvery, 10*time.Minute)
	for _, n := range []struct {
		p *int
		v int
	}{{&c.BatchRows, 1 << 17}, {&c.BatchBytes, 48 << 20}, {&c.CopyWorkers, 3}} {
		if *n.p <= 0 {
			*n.p = n.v
		}
	}
	return nil
}

// Replicator copies. Its methods may be called by several goroutines; Run by one.
type Replicator struct {
	config     Config
	log        *slog.Logger
	metrics    *metrics
	clickhouse *clickhouse
	pool       *pgxpool.Pool
	lease      *lease
	health     health
	copying    bool // a first copy was begun; of the goroutine that leads

	mu     sync.Mutex
	wanted string // a reason to heal at the next lease term, from within or by hand; "" for none
	// distrusted is why the slot is of no use although the catalog shows it as valid; "" when it is not.
	distrusted string
	// stuckAt is the position at which the stream has failed stuck times in a row.
	stuckAt wal.LSN
	stuck   int
	told    map[Finding]bool // findings that the log has told

	orphanSlots map[string]bool // as last seen

	findings findings
}

// New connects to nothing yet. Close releases what it holds.
func New(config Config) (*Replicator, error) {
	if err := config.setDefaults(); err != nil {
		return nil, err
	}
	pc, err := connect.PostgresPool(config.PostgresURL, "argus_replicator")
	if err != nil {
		return nil, err
	}
	pc.MaxConns = int32(config.CopyWorkers) + 6
	pc.ConnConfig.ConnectTimeout = 5 * time.Second
	pool, err := pgxpool.NewWithConfig(context.Background(), pc)
	if err != nil {
		return nil, err
	}
	ch, err := openClickHouse(config.ClickHouseURL)
	if err != nil {
		pool.Close()
		return nil, err
	}
	host, _ := os.Hostname()
	r := &Replicator{
		config: config, log: config.Logger.With("stage", "replicator"), metrics: newMetrics(config.Registerer, config.Slot),
		clickhouse: ch, pool: pool,
		lease: &lease{url: config.PostgresURL, slot: config.Slot, holder: uuid.New(), ttl: config.LeaseTTL,
			host: fmt.Sprintf("%s/%d", host, os.Getpid())},
	}
	r.health.status = Status{StartedAt: time.Now().UTC(), Copy: config.Copy, Shard: config.Shard, Shards: config.Shards, Address: ch.options.Addr[0]}
	return r, nil
}

// Close releases connections. Run must have returned.
func (r *Replicator) Close() {
	r.lease.close()
	r.pool.Close()
	r.clickhouse.close()
}

// Run copies until ctx ends, and returns nil then. While another replicator of the slot is active it stands
// by. Failures of either engine do not end it: it tries again, with pauses of up to five seconds.
func (r *Replicator) Run(ctx context.Context) error {
	var watching sync.WaitGroup
	watching.Go(func() { r.watchSlots(ctx) })
	defer watching.Wait()
	pause := time.Duration(0)
	for ctx.Err() == nil {
		if err := r.standBy(ctx); err != nil {
			break
		}
		began := time.Now()
		err := r.lead(ctx, false)
		if ctx.Err() != nil {
			break
		}
		r.failed(err)
		if !errors.Is(err, errLeaseLost) && !errors.Is(err, errFenced) {
			r.writeStatus(ctx) // no other process reports until the next try
		}
		if time.Since(began) > 30*time.Second {
			pause = 0
		}
		pause = min(max(2*pause, 50*time.Millisecond), 5*time.Second)
		sleep(ctx, pause)
	}
	r.lease.release(r.log) // it may have ended between two tries
	r.metrics.active.Set(0)
	return nil
}

// standBy returns when this replicator holds the lease, or ctx has ended.
func (r *Replicator) standBy(ctx context.Context) error {
	var said string
	for {
		_, err := r.lease.take(ctx, false, 0, false)
		if err == nil {
			return nil
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if text := err.Error(); text != said {
			said = text
			if errors.Is(err, errLeaseLost) {
				r.log.Info("standing by: another replicator is active")
			} else {
				r.failed(err)
			}
		}
		if err := sleep(ctx, r.config.LeaseTTL/8); err != nil {
			return err
		}
	}
}

// lead copies for as long as the lease is ours and nothing fails.
func (r *Replicator) lead(ctx context.Context, byHand bool) error {
	r.metrics.active.Set(1)
	defer r.metrics.active.Set(0)
	inner, cancel := context.WithCancelCause(context.WithoutCancel(ctx))
	defer cancel(nil)
	var keeping sync.WaitGroup
	keeping.Go(func() { r.lease.keep(inner, cancel) })
	keeping.Go(func() { r.report(inner) })
	err := r.term(inner, ctx.Done(), byHand)
	if cause := context.Cause(inner); cause != nil {
		err = cause
	}
	cancel(nil)
	keeping.Wait()
	if ctx.Err() != nil || byHand {
		r.lease.release(r.log)
	}
	return err
}

// Resync compares all of both stores, copies what ClickHouse lacks, moves the orphans of ClickHouse out, and
// rebuilds rollups that are not what their rows make. A replicator that runs meanwhile stands by until it is done.
func (r *Replicator) Resync(ctx context.Context) error {
	r.want(healResync)
	if _, err := r.lease.take(ctx, true, 0, true); err != nil {
		return err
	}
	return r.lead(ctx, true)
}

// want makes the next lease term heal.
func (r *Replicator) want(reason string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.wanted = reason
}

func (r *Replicator) failed(err error) {
	r.metrics.errors.Inc()
	r.health.failed(err)
	switch {
	case errors.Is(err, errLeaseLost), errors.Is(err, errFenced):
		r.log.Warn("copying has passed to another replicator", "error", err)
	default:
		r.log.Error("copying was interrupted; trying again", "error", err)
	}
}
