package replicator

import (
	"context"
	"errors"
	"fmt"
	"math"
	"sync"
	"sync/atomic"
	"time"

	"github.com/useargus/argus/replicator/wal"
)

// Pace of the stream. The first two bound how long a row that trickles in waits for its insert; a row alone
// does not wait at all.
const (
	minInterval   = 40 * time.Millisecond
	maxInterval   = 150 * time.Millisecond
	behindBytes   = 8 << 20         // of log not received yet: more to come, so batches are filled
	fillPatience  = 3 * time.Second // for a batch to fill then
	ceilingAhead  = 32 << 20        // bytes of log that may be inserted before the next watermark
	shutdownGrace = 15 * time.Second
	pruneEvery    = time.Hour // of watermarks without a use
)

// idlePublish is how often a watermark is published when nothing happens; tests shorten it.
var idlePublish = 5 * time.Second

// never is a position no log reaches.
const never = wal.LSN(math.MaxUint64)

// session streams within a lease term, from a watermark on.
type session struct {
	r      *Replicator
	t      *term
	in     *intake
	stream *wal.Stream
	share  share // as of the lease term's beginning

	suspects map[Finding]int // of the goroutine that watches: how many looks in a row have shown each

	// Of the goroutine that inserts:
	tracker tracker
	doubt   wal.LSN // what committed before it may be in ClickHouse already; 0 when all of that has come
	days    map[int32]struct{}
	last    wal.LSN       // commit position of the last row given to ClickHouse
	end     wal.LSN       // what committed before it is in ClickHouse, as far as the stream brought it
	secured wal.LSN       // what committed before it is on the synchronous standbys, if there are any
	insert  time.Duration // how long the last one took

	until     wal.LSN       // where doubt was at first
	reconcile chan struct{} // soon

	suspicious bool // of the goroutine that compares: damage was seen
	reconciled time.Time
	writers    atomic.Pointer[writersReading]
	published  atomic.Pointer[watermark]
	received   atomic.Uint64
	durable    atomic.Uint64
	flushed    atomic.Uint64 // where Postgres's log ends, as last asked
	held       atomic.Int64  // since when a batch waits for synchronous standbys, µs since 1970; 0 when none does
	confirmed  atomic.Uint64 // what committed before it was decoded under the publication of that print
	print      atomic.Uint64
	ack        chan struct{} // acknowledge now
}

// stream copies from the lease term's watermark on until an error, or until stop closes. Then it finishes the batch
// in hand, publishes a watermark that leaves no doubt, and returns nil. Rows up to doubt may be in ClickHouse
// already.
func (r *Replicator) stream(ctx context.Context, t *term, source *wal.Stream, of share, doubt wal.LSN, stop <-chan struct{}) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	defer context.AfterFunc(ctx, source.Close)()
	s := &session{
		r: r, t: t, stream: source, share: of, doubt: doubt, days: map[int32]struct{}{}, ack: make(chan struct{}, 1), reconcile: make(chan struct{}, 1),
		tracker: tracker{t.mark.position.Clone()},
	}
	if doubt <= t.mark.lsn {
		s.doubt = 0
	} else {
		s.until = doubt
		r.metrics.doubts.Inc()
		r.log.Info("rows may be in doubt: reading back what is there", "from", t.mark.lsn, "to", doubt)
	}
	s.setDurable()
	s.received.Store(uint64(t.mark.lsn))
	s.confirmed.Store(uint64(t.mark.lsn))
	s.print.Store(t.mark.publication)
	s.in = newIntake(source, t.mark.lsn, batchLimit{r.config.BatchRows, r.config.BatchBytes})
	s.in.log, s.in.metrics = r.log, r.metrics
	s.in.reply = s.acknowledgeSoon
	s.in.columns = func(table int) ([]chColumn, error) { return r.clickhouse.columns(ctx, tables[table].clickhouse) }

	var running sync.WaitGroup
	start := func(f func() error) {
		running.Go(func() {
			if err := f(); err != nil {
				cancel(err)
			}
		})
	}
	start(s.in.run)
	start(func() error { return s.acknowledge(ctx) })
	start(func() error { return s.watch(ctx) })
	if of.first() {
		start(func() error { return s.copyLedger(ctx) })
	}
	start(func() error { return s.inspect(ctx) })
	start(func() error { return s.watchSteps(ctx) })
	stopping, stopTaking := context.WithCancel(ctx)
	running.Go(func() {
		select {
		case <-stop:
			stopTaking()
			// What hangs now must not hold up the end.
			if sleep(ctx, shutdownGrace) == nil {
				cancel(errors.New("shutting down took too long"))
			}
		case <-ctx.Done():
		}
	})
	err := s.copyBatches(ctx, stopping)
	stopTaking()
	if cause := context.Cause(ctx); cause != nil {
		err = cause
	}
	cancel(nil)
	s.in.close()
	source.Close()
	running.Wait()
	if errors.Is(err, context.Canceled) {
		return nil
	}
	return err
}

// copyBatches is the loop of inserting, publishing and acknowledging.
func (s *session) copyBatches(ctx, stopping context.Context) error {
	spare := newBatch()
	var started time.Time
	published, pruned := time.Now(), time.Now()
	for {
		b, received, err := s.in.take(stopping, spare, started, published.Add(idlePublish), s.enough(), s.pace)
		if stopping.Err() != nil && ctx.Err() == nil {
			return s.finish(ctx)
		}
		if err != nil {
			return err
		}
		end := received
		if b != nil {
			started = time.Now()
			if err := s.insertBatch(ctx, b); err != nil {
				return err
			}
			end = b.end
			b.reset()
			spare = b
		}
		s.received.Store(uint64(received))
		if s.doubt != 0 {
			if end < s.doubt {
				published = time.Now() // nothing can be published before the doubt ends
				continue
			}
			if err := s.endDoubt(ctx); err != nil {
				return err
			}
		}
		if err := s.publish(ctx, end); err != nil {
			return err
		}
		published = time.Now()
		if time.Since(pruned) > pruneEvery {
			if err := s.t.prune(ctx); err != nil {
				return fmt.Errorf("removing old watermarks: %w", err)
			}
			pruned = time.Now()
		}
	}
}

// enough is how far to receive before a doubt can end without further rows.
func (s *session) enough() wal.LSN {
	if s.doubt != 0 {
		return s.doubt
	}
	return never
}

func (s *session) pace(received wal.LSN) (pace, bool) {
	behind := s.flushed.Load() > uint64(received)+behindBytes
	s.in.behind.Store(behind)
	return pace{interval: min(max(2*s.insert, minInterval), maxInterval), patience: fillPatience}, behind
}

// insertBatch gives ClickHouse a batch. The watermark's ceiling is raised first where the batch goes past it.
func (s *session) insertBatch(ctx context.Context, b *batch) error {
	failpoint("taken")
	if err := s.secure(ctx, b.last); err != nil {
		return err
	}
	if b.last >= s.t.mark.ceiling {
		w := s.t.mark
		w.ceiling = b.last + ceilingAhead
		if err := s.t.publish(ctx, w); err != nil {
			return err
		}
	}
	failpoint("ceiling")
	doubt := b.first < s.doubt
	if err := s.prove(ctx, b, doubt); err != nil {
		return err
	}
	s.last = max(s.last, b.last)
	began := time.Now()
	if err := s.t.insertBatch(ctx, b, doubt); err != nil {
		return err
	}
	s.insert = time.Since(began)
	failpoint("inserted")
	s.tracker.advance(b.runs)
	if doubt {
		b.daysInto(s.days)
	}
	m := s.r.metrics
	m.insertSeconds.Observe(s.insert.Seconds())
	m.batchRows.Observe(float64(b.rows))
	for i, rows := range b.tables {
		if rows != nil && rows.count > 0 {
			m.rows.WithLabelValues(tables[i].clickhouse).Add(float64(rows.count))
		}
	}
	s.r.health.copied(b.rows)
	if b.altered > 0 {
		m.altered.Add(float64(b.altered))
		s.r.findings.add(Finding{RowsAltered, b.alteredWriter, fmt.Sprintf(
			"%d rows came whose columns do not make their row_hash, the first is row %d of writer %d", b.altered, b.alteredSeq, b.alteredWriter)})
		s.r.tellFindings()
	}
	return nil
}

// errGap ends a lease term, so that the next one heals: the stream left out rows that Postgres has.
var errGap = errors.New("the stream left out rows")

// prove holds a batch, before any of it is inserted, to the position: each writer's rows must follow on what is here,
// or be in doubt. So no watermark ever promises a row that the stream left out, for any reason.
func (s *session) prove(ctx context.Context, b *batch, doubt bool) error {
	gaps, late := s.tracker.irregular(b.runs)
	if err := s.own(ctx, b.runs); err != nil {
		return err
	}
	if err := s.explain(ctx, gaps); err != nil {
		return err
	}
	if len(late) > 0 && !doubt {
		for _, run := range late {
			s.r.findings.add(Finding{RowsLate, run.writer, fmt.Sprintf(
				"rows %d to %d of writer %d were written after row %d", run.first, run.last, run.writer, s.tracker.position.Through(run.writer))})
		}
		s.r.tellFindings()
		s.reconcileSoon()
	}
	return nil
}

// explain looks for the rows that were left out. Postgres has some: the stream lacks them. It has none: the hole is
// Postgres's own, which is told, and no copying mends. Their writer's later rows had to wait for the commit of those
// before them, so they are visible if they are there.
func (s *session) explain(ctx context.Context, gaps []seqRun) error {
	if len(gaps) == 0 {
		return nil
	}
	any, err := s.r.rowsIn(ctx, gaps)
	if err != nil {
		return err
	}
	g := gaps[0]
	if any {
		s.r.want(healGap)
		return fmt.Errorf("%w: of %d writers, the first is %d, rows %d to %d", errGap, len(gaps), g.writer, g.first, g.last)
	}
	for _, g := range gaps {
		s.r.findings.add(Finding{RowsMissing, g.writer, fmt.Sprintf("the log lacks rows %d to %d of writer %d", g.first, g.last, g.writer)})
	}
	s.r.tellFindings()
	s.reconcileSoon()
	return nil
}

// reconcileSoon has all rows of all writers looked at.
func (s *session) reconcileSoon() {
	select {
	case s.reconcile <- struct{}{}:
	default:
	}
}

// endDoubt makes the rollups right. By now every row that was in doubt is in its table, exactly once. But a view may have
// counted it never or twice.
func (s *session) endDoubt(ctx context.Context) error {
	failpoint("doubt")
	before := s.t.rebuilt
	if err := s.t.rebuildDays(ctx, s.days); err != nil {
		return err
	}
	s.r.metrics.rebuilt.Add(float64(s.t.rebuilt - before))
	s.doubt = 0
	clear(s.days)
	failpoint("rebuilt")
	return nil
}

// publish says that everything that committed before end is in ClickHouse. Rows of the log prove by themselves that none
// was left out. Steps do not: their part of the promise ends where the publication was last seen to be whole.
func (s *session) publish(ctx context.Context, end wal.LSN) error {
	w := s.t.mark
	s.end = max(s.end, end)
	w.lsn = max(w.lsn, min(s.end, wal.LSN(s.confirmed.Load())))
	// All that a reading shows has come by the time the stream has passed it. It waits until then.
	if reading := s.writers.Load(); reading != nil && w.lsn >= reading.at {
		s.writers.Store(nil)
		gaps := s.tracker.owed(reading.states)
		if err := s.explain(ctx, gaps); err != nil {
			return err
		}
		s.tracker.advance(gaps) // of Postgres's own holes there is no more to come
		s.tracker.advanceTo(*reading)
	}
	w.ceiling = max(w.lsn, s.last) + ceilingAhead
	w.publication = s.print.Load()
	w.position = s.tracker.position.Clone()
	began := time.Now()
	if err := s.t.publish(ctx, w); err != nil {
		return err
	}
	s.r.metrics.publishSeconds.Observe(time.Since(began).Seconds())
	s.r.metrics.watermarkTime.SetToCurrentTime()
	failpoint("published")
	s.setDurable()
	s.acknowledgeSoon()
	return nil
}

func (s *session) setDurable() {
	w := s.t.mark
	s.published.Store(&w)
	s.durable.Store(uint64(w.lsn))
}

// finish publishes that nothing is in doubt, for a start without reading back.
func (s *session) finish(ctx context.Context) error {
	if s.doubt != 0 {
		return nil // the doubt stays for the next one to resolve
	}
	asking, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	if err := s.confirm(asking); err != nil {
		return err
	}
	w := s.t.mark
	w.lsn = max(w.lsn, min(s.end, wal.LSN(s.confirmed.Load())))
	// Rows of a transaction that goes on past the last batch stay in doubt.
	w.ceiling = max(w.lsn, s.last+1)
	if s.last < w.lsn {
		w.ceiling = w.lsn
	}
	w.publication = s.print.Load()
	w.position = s.tracker.position.Clone()
	if err := s.t.publish(ctx, w); err != nil {
		return err
	}
	return s.stream.Acknowledge(w.lsn, w.lsn, false)
}

func (s *session) acknowledgeSoon() {
	select {
	case s.ack <- struct{}{}:
	default:
	}
}

// acknowledge tells Postgres what is durable, when that changes and each second, and so keeps the connection
// alive while ClickHouse is slow.
func (s *session) acknowledge(ctx context.Context) error {
	for {
		wait := time.Second
		reply := wal.LSN(s.durable.Load()) < s.until
		if reply {
			wait = 50 * time.Millisecond // until what was in doubt has come, also when nothing happens
		}
		timer := time.NewTimer(wait)
		select {
		case <-s.ack:
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			return nil
		}
		timer.Stop()
		received, durable := wal.LSN(s.received.Load()), wal.LSN(s.durable.Load())
		if err := s.stream.Acknowledge(max(received, durable), durable, reply); err != nil {
			return fmt.Errorf("acknowledging to Postgres: %w", err)
		}
		failpoint("acknowledged")
	}
}
