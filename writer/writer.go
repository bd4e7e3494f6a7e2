// Package writer makes audit rows durable in Postgres: no authenticated call is answered before its row is
// committed.
//
//	Append ─▶ queue ─▶ lane 0 ─┐   one batch, one round trip, one commit
//	Append ─▶       ─▶ lane 1 ─┴─▶ argus.argus_audit_log + argus.audit_writers − argus.audit_intents
//	                   heartbeat ▶ argus.audit_processes, readiness
//	                   sweeper ──▶ intents and writers of dead processes
//
// Callers share commits: a lane takes all rows that wait, so a lone caller waits for one commit and a thousand
// fill batches, without a timer. Each lane numbers the rows of its writer 1, 2, 3 … and moves the writer's
// row in argus.audit_writers by compare-and-set in the same transaction as the rows. That row decides every
// doubt: a commit whose answer was lost, a backend that commits late, two lanes that take themselves for one.
package writer

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/useargus/argus"
)

// Writer appends audit rows. Its methods may be called by any number of goroutines.
type Writer struct {
	config  Config
	queue   *queue
	health  health
	metrics *metrics
	lanes   []*lane
	opening chan struct{} // holds one token: only one lane at a time connects, so a returning Postgres is not stormed

	news      chan struct{} // holds a token while rows are to be announced
	announced atomic.Int64  // when the last ones were, in nanoseconds

	process   identity
	servers   servers
	control   control
	heartbeat heartbeat
	months    atomic.Pointer[[]month] // nil before the first look
	state     atomic.Int32
	life      context.Context // bounds every round trip to Postgres; ends when Close gives up or has finished
	end       context.CancelFunc
	closing   chan struct{} // closed when the lanes have ended: the heartbeat and the sweeper end too
	laneEnds  sync.WaitGroup
	loopEnds  sync.WaitGroup
}

const (
	stateNew int32 = iota
	stateRunning
	stateClosing
)

// New makes a writer that does nothing before Start, except that its metrics are registered.
func New(config Config) (*Writer, error) {
	config, err := config.withDefaults()
	if err != nil {
		return nil, err
	}
	w := &Writer{config: config, queue: new(queue), opening: make(chan struct{}, 1), closing: make(chan struct{}), news: make(chan struct{}, 1)}
	w.health = health{log: config.Logger, grace: config.tuning.grace, cause: errors.New("not connected yet")}
	w.life, w.end = context.WithCancel(context.Background())
	for n := range config.Lanes {
		w.lanes = append(w.lanes, &lane{w: w, n: n, wake: make(chan struct{}, 1)})
	}
	w.metrics = newMetrics(w)
	if err := w.metrics.register(config.Registerer); err != nil {
		return nil, fmt.Errorf("writer: registering metrics: %w", err)
	}
	return w, nil
}

// Start begins writing. It returns when the first lane is open, has failed to open, or ctx ends. A Postgres
// that is away is no error: calls fail until it comes (see Available).
func (w *Writer) Start(ctx context.Context) error {
	if !w.state.CompareAndSwap(stateNew, stateRunning) {
		return errors.New("writer: started twice, or after Close")
	}
	w.process.id = uuid.New()
	w.health.begin()
	first := make(chan struct{})
	tried := sync.OnceFunc(func() { close(first) })
	for _, l := range w.lanes {
		w.laneEnds.Go(func() { l.run(tried) })
	}
	w.loopEnds.Go(w.sendHeartbeats)
	w.loopEnds.Go(w.sweepLoop)
	select {
	case <-first:
	case <-ctx.Done():
	}
	return nil
}

// Close rejects further rows, commits those that wait, closes the writers in Postgres and removes this
// process from argus.audit_processes. When ctx ends before, what is left is answered as not written or
// unconfirmed, and an error says how much.
func (w *Writer) Close(ctx context.Context) error {
	switch w.state.Swap(stateClosing) {
	case stateNew:
		w.end()
		return nil
	case stateClosing:
		w.laneEnds.Wait()
		w.loopEnds.Wait()
		return nil
	}
	w.queue.close()
	drained := make(chan struct{})
	go func() {
		w.laneEnds.Wait()
		close(drained)
	}()
	var err error
	select {
	case <-drained:
	case <-ctx.Done():
		err = fmt.Errorf("writer: %d rows were left unwritten: %w", w.queue.depth.Load(), ctx.Err())
		w.end()
		<-drained
	}
	w.queue.fail(errClosing)
	close(w.closing)
	w.loopEnds.Wait()
	if err == nil {
		if err = w.leave(); err != nil {
			err = fmt.Errorf("writer: leaving in order: %w", err)
		}
	}
	w.control.close()
	w.end()
	return err
}

var errClosing = errors.New("the server is shutting down")

// Append commits the row of a call and returns when it is durable, with WriterID, Seq, RecordedAt and RowHash
// set. intended says that the call's intent may have been committed (see Intend): the same transaction deletes
// it.
//
// ctx gives values, and a deadline if it has one. A caller that hangs up loses no row: cancelling ctx does not cancel
// the append. Only its deadline counts, and Config.Wait. The error is an *argus.Error. CodeAuditUnavailable: the call
// had no effects (intended is false) and got no row in time. The row may still appear, never twice.
// CodeAuditUnconfirmed: the call may have had effects. Its row, completed or interrupted, will appear, but was not
// seen to be committed.
//
// rec is made storable (argus.Record.MakeStorable) and not kept.
func (w *Writer) Append(ctx context.Context, rec *argus.Record, intended bool) error {
	rec.MakeStorable()
	if err := malformed(rec); err != nil {
		return w.fail(ctx, rec, intended, failedUnstorable, err)
	}
	if !intended {
		if reason, err := w.unavailable(); err != nil {
			return w.fail(ctx, rec, intended, reason, err)
		}
	}
	start := time.Now()
	e := newEntry(rec, intended)
	if w.config.KeepRecordedAt {
		e.keptAt = argus.Micros(rec.RecordedAt)
	}
	l, ok := w.queue.push(e)
	if !ok {
		e.recycle()
		return w.fail(ctx, rec, intended, failedClosing, errClosing)
	}
	deadline := start.Add(w.config.Wait)
	earlier, bounded := ctx.Deadline()
	if bounded && earlier.Before(deadline) {
		deadline = earlier
	}
	switch {
	case l == nil:
	case bounded: // who commits waits for Postgres as long as it takes
		l.wake <- struct{}{}
	default: // idle until now: commit it ourselves, with all rows that came meanwhile
		l.turn()
		l.release()
	}
	if !e.await(deadline) {
		return w.fail(ctx, rec, intended, failedTimeout, fmt.Errorf("not committed within %s", deadline.Sub(start)))
	}
	err := e.err
	if err == nil {
		rec.WriterID, rec.Seq, rec.RecordedAt, rec.RowHash = e.writerID, e.seq, e.recordedAt, e.hash
	}
	e.recycle()
	switch {
	case err == nil:
		w.metrics.wait.Observe(time.Since(start).Seconds())
		return nil
	case errors.Is(err, errClosing):
		return w.fail(ctx, rec, intended, failedClosing, err)
	case errors.Is(err, errSwept):
		return w.fail(ctx, rec, true, failedSwept, err)
	default:
		return w.fail(ctx, rec, intended, failedRow, err)
	}
}

// Available returns nil when a call made now can expect its row to be committed. Otherwise it returns the
// *argus.Error to answer at once, before anything is done: Postgres is known to be away, too many calls wait
// already, or the server is shutting down.
func (w *Writer) Available() error {
	reason, err := w.unavailable()
	if err == nil {
		return nil
	}
	w.metrics.failed.WithLabelValues(reason).Inc()
	return errUnavailable.WithCause(err)
}

func (w *Writer) unavailable() (reason string, err error) {
	switch w.state.Load() {
	case stateNew:
		return failedDown, errors.New("not started")
	case stateClosing:
		return failedClosing, errClosing
	}
	if err := w.health.down(); err != nil {
		return failedDown, err
	}
	if n := w.queue.depth.Load(); n >= int64(w.config.Queue) {
		return failedOverload, fmt.Errorf("%d calls wait for their row", n)
	}
	// A queue whose head has used up a third of its time would answer late: failing newcomers keeps the
	// latency of those who are in.
	if age := w.queue.age(); age > w.config.Wait/3 {
		return failedOverload, fmt.Errorf("calls have waited %s for their row", age.Round(time.Millisecond))
	}
	return "", nil
}

var (
	errUnavailable = argus.Errorf(argus.CodeAuditUnavailable,
		"The call was not made, because its audit row cannot be written right now. Nothing was changed. Try again.").
		WithRetryAfter(time.Second)
	errUnconfirmed = argus.Errorf(argus.CodeAuditUnconfirmed,
		"The call may have taken effect, but its audit row is not confirmed. Do not repeat it before you have looked "+
			"at what it changed; its row will appear in the audit log.")
)

// fail counts and logs why a call gets no confirmed row, and makes its answer.
func (w *Writer) fail(ctx context.Context, rec *argus.Record, intended bool, reason string, cause error) error {
	w.metrics.failed.WithLabelValues(reason).Inc()
	if !intended {
		if reason == failedUnstorable || reason == failedRow {
			w.config.Logger.ErrorContext(ctx, "no row can be written for a call", "audit_id", rec.ID, "route", rec.Route,
				"cause", cause)
		}
		return errUnavailable.WithCause(cause)
	}
	// Rare and grave, so each is logged.
	w.config.Logger.ErrorContext(ctx, "a call with effects has no confirmed row", "audit_id", rec.ID,
		"actor_id", rec.ActorID, "route", rec.Route, "reason", reason, "cause", cause)
	return errUnconfirmed.WithCause(cause)
}

// malformed tells what makes a storable record one that the table's constraints reject: its maker's mistake,
// found here so that it does not break up a batch.
func malformed(r *argus.Record) error {
	switch {
	case r.ID == uuid.Nil:
		return errors.New("the record has no id")
	case !slices.Contains(argus.ActorKinds(), r.ActorKind):
		return fmt.Errorf("the record's actor kind is %q", r.ActorKind)
	case r.Outcome != argus.Completed && r.Outcome != argus.Interrupted:
		return fmt.Errorf("the record's outcome is %q", r.Outcome)
	}
	return nil
}

// Stage is the writer's health: ok, degraded while some lane is not open, down while calls fail.
func (w *Writer) Stage() argus.Stage {
	open := w.health.lanesOpen()
	s := argus.Stage{Name: "writer", Status: "ok", Facts: map[string]any{
		"lanes": len(w.lanes), "lanes_open": open, "queue": w.queue.depth.Load(),
	}}
	if reason, err := w.unavailable(); err != nil {
		s.Status = "down"
		s.Detail = "Calls fail: " + map[string]string{
			failedDown:     "Postgres cannot be written to.",
			failedOverload: "more calls wait for their audit row than can be written in time.",
			failedClosing:  "the server is shutting down.",
		}[reason]
		s.Facts["down_seconds"] = w.health.downFor().Seconds()
	} else if open < len(w.lanes) {
		s.Status, s.Detail = "degraded", fmt.Sprintf("%d of %d lanes to Postgres are open.", open, len(w.lanes))
	}
	return s
}

// Intend inserts the call's intent in the transaction of its first write: it must be called before a
// state-changing handler has any effect outside tx. Should this process die before the call's row is
// committed, another makes the intent an interrupted row. The caller of Intend passes intended = true to
// Append, also when the outcome of the transaction's commit is unknown.
//
// rec is made storable and must already hold all that is known of the call; its outcome, status and latency are
// ignored. An *argus.Error with CodeAuditUnavailable means that this process may promise nothing at the moment:
// roll back. Other errors are the transaction's own. The intents of several calls are one statement: all or none.
func (w *Writer) Intend(ctx context.Context, tx pgx.Tx, recs ...*argus.Record) error {
	ids, drafts := make([][16]byte, 0, len(recs)), make([]string, 0, len(recs))
	for _, rec := range recs {
		rec.MakeStorable()
		if err := malformed(&argus.Record{ID: rec.ID, ActorKind: rec.ActorKind, Outcome: argus.Interrupted}); err != nil {
			return w.fail(ctx, rec, false, failedUnstorable, err)
		}
		draft := *rec
		draft.Outcome, draft.Status, draft.LatencyUS = argus.Interrupted, 0, 0
		ids, drafts = append(ids, rec.ID), append(drafts, string(draft.AppendJSON(nil)))
	}
	tag, err := tx.Exec(ctx, `
		INSERT INTO argus.audit_intents (id, process_id, record)
		SELECT u.id, p.process_id, u.record::jsonb
		  FROM argus.audit_processes p, unnest($1::uuid[], $3::text[]) AS u (id, record) WHERE p.process_id = $2`,
		ids, w.process.current(), drafts)
	if err != nil {
		return fmt.Errorf("writing the intents of %d calls: %w", len(recs), err)
	}
	if len(recs) > 0 && tag.RowsAffected() == 0 {
		return w.fail(ctx, recs[0], false, failedIntentState, errors.New("this process is not in argus.audit_processes"))
	}
	return nil
}
