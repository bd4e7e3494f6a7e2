package ship

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/useargus/argus/pgread"
	"github.com/useargus/argus/ship/sink"
)

// failpoint names a place at which tests kill the process.
var failpoint = func(string) {}

// maxRejectsInARow is how many rows a receiver may reject, with none acknowledged between them, before the sink is held. A
// receiver that rejects every row is set up wrongly: its rows are not set aside one by one.
const maxRejectsInARow = 32

// stream is the live stream of a sink, or one of its backfills. It is run by one goroutine.
type stream struct {
	r    *runner
	sink sink.Sink
	name string // "" is the live one; backfill-7

	buffers [][]byte // of batches that are done with
	rows    int      // limit of rows while a receiver rejects; 0: as declared
	bytes   int      // the same of bytes
	small   int      // how many batches keep that limit
	rejects int      // rows set aside since the last acknowledgement
	decided time.Time
	ahead   *ahead
	poll    time.Duration // of the pause after a look that found nothing
	seen    int64         // the newest version of the state
}

// ahead is the next batch, built while the one before it is under way.
type ahead struct {
	done chan struct{}
	b    *built
	err  error
}

func (s *stream) limits() limits {
	l := limits{s.r.declaration.Rows, int(s.r.declaration.Bytes)}
	if s.rows > 0 {
		l.rows = min(l.rows, s.rows)
	}
	if s.bytes > 0 {
		l.bytes = min(l.bytes, s.bytes)
	}
	return l
}

// run ships until ctx ends, something of Postgres fails, or a backfill is through: then it returns nil.
func (s *stream) run(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	defer func() {
		cancel()
		s.drop()
	}()
	st, err := s.load(ctx)
	if err != nil {
		return err
	}
	var b *built // the pending batch, when it is in memory
	stored, lookStored := st.position.String()+st.looked.String(), time.Now()
	for {
		if s.r.paused.Load() {
			s.drop()
			return errStopped
		}
		if st.pending == nil {
			if b, err = s.decide(ctx, st); err != nil {
				var missing *missingError
				if errors.As(err, &missing) {
					err = s.skip(ctx, st, missing)
				}
				if err != nil {
					return err
				}
				continue
			}
			if b == nil {
				if st.until != nil && len(between(st.looked, *st.until)) == 0 {
					return s.store(ctx, s.r.ship.primary, st, false)
				}
				if at := st.position.String() + st.looked.String(); at != stored && time.Since(lookStored) > 5*time.Second {
					stored, lookStored = at, time.Now()
					if err := s.store(ctx, s.r.ship.primary, st, false); err != nil {
						return err
					}
				}
				continue
			}
			if err := s.store(ctx, s.r.ship.primary, st, false); err != nil {
				return err
			}
			failpoint("decided")
		}
		if b == nil {
			if b, err = s.again(ctx, st); err != nil {
				var missing *missingError
				if !errors.As(err, &missing) {
					return err
				}
				// Retention dropped rows of a batch that was decided: what is left becomes another one.
				s.r.log.Error("rows of the pending batch are gone from Postgres", "stream", s.name, "batch", st.pending.Batch, "missing", missing.Error())
				st.pending = nil
				if err := s.store(ctx, s.r.ship.primary, st, false); err != nil {
					return err
				}
				continue
			}
		}
		if b.full {
			s.lookAhead(ctx, st, b)
		}
		kind, cause, err := s.send(ctx, &b)
		if err != nil {
			return err
		}
		if b == nil { // given back while the receiver was away
			continue
		}
		if cause != nil {
			b, err = s.rejected(ctx, st, b, kind, cause)
			if err != nil {
				return err
			}
			continue
		}
		failpoint("sent")
		if b, err = s.acknowledged(ctx, st, b); err != nil {
			return err
		}
	}
}

// decide builds the next batch and makes it pending in st, which the caller stores. It returns nil when there is none yet,
// after a pause. A batch that is not full waits until the one before it is old enough.
func (s *stream) decide(ctx context.Context, st *state) (*built, error) {
	news := s.r.ship.news.next()
	b, err := s.next(ctx, st, s.limits())
	if err != nil {
		return nil, err
	}
	if rest := time.Duration(s.r.declaration.Linger) - time.Since(s.decided); len(b.batch.Rows) > 0 && !b.full && rest > 0 && st.until == nil {
		s.give(b)
		return nil, s.r.pause(ctx, min(rest, 5*time.Second))
	}
	st.position, st.looked = b.position, b.from
	st.tips = append(st.tips, b.tips...)
	if len(b.batch.Rows) == 0 {
		s.give(b)
		st.looked = b.to
		if s.r.filter == "" {
			st.position = b.to.Clone()
		}
		s.r.idle(s.name)
		if b.full {
			return nil, ctx.Err()
		}
		// A log that rests is looked at less often. Writers announce rows, once in half a second: so soon after a row the looks are
		// not far apart yet.
		s.poll = min(s.poll+s.r.ship.config.Poll, rest*s.r.ship.config.Poll)
		return nil, s.r.pauseFor(ctx, s.poll, news)
	}
	s.poll = 0
	s.decideOn(st, b)
	return b, nil
}

func (s *stream) decideOn(st *state, b *built) {
	s.decided = time.Now()
	st.pending = &pending{Batch: b.batch.Batch, From: b.from.String(), To: b.to.String(), Filter: b.batch.Filter, Format: b.batch.Format}
}

// lookAhead begins to build the batch after b, as if b were acknowledged.
func (s *stream) lookAhead(ctx context.Context, st *state, b *built) {
	if s.ahead != nil || s.rows > 0 || st.until != nil {
		return
	}
	next := after(st, b)
	a := &ahead{done: make(chan struct{})}
	s.ahead = a
	lim := s.limits()
	go func() {
		defer close(a.done)
		a.b, a.err = s.next(ctx, next, lim)
		failpoint("ahead")
	}()
}

// after is the state when b is acknowledged.
func after(st *state, b *built) *state {
	next := &state{version: st.version, position: b.to.Clone(), looked: b.to.Clone(), until: st.until,
		number: st.number + 1, rows: st.rows + b.batch.Manifest.Rows, streamSeq: b.batch.Stream.To, batch: b.batch.Batch}
	return next
}

// acknowledged moves the position behind b. If the next full batch is at hand it is decided in the same statement.
func (s *stream) acknowledged(ctx context.Context, st *state, b *built) (*built, error) {
	*st = *after(st, b)
	s.rejects = 0
	s.rows = grow(s.rows, s.r.declaration.Rows)
	if s.small--; s.small <= 0 {
		s.small, s.bytes = 0, grow(s.bytes, int(s.r.declaration.Bytes))
	}
	s.r.shipped(s.name, b, st)
	s.give(b)
	var next *built
	if a := s.ahead; a != nil {
		s.ahead = nil
		<-a.done
		switch {
		case a.err == nil && a.b.full && len(a.b.batch.Rows) > 0 && !s.r.paused.Load():
			next = a.b
			st.position, st.looked = next.position, next.from
			st.tips = append(st.tips, next.tips...)
			s.decideOn(st, next)
		case a.b != nil:
			s.give(a.b)
		}
	}
	if err := s.store(ctx, s.r.ship.primary, st, true); err != nil {
		return nil, err
	}
	failpoint("moved")
	if next != nil {
		failpoint("decided")
	}
	return next, nil
}

// grow doubles a limit that was lowered; 0 when it is as declared again.
func grow(limit, declared int) int {
	if limit = 2 * limit; limit >= declared {
		return 0
	}
	return limit
}

// send gives the batch to the receiver until it acknowledges or rejects it. When the receiver stays away, the batch leaves
// memory and *b is nil: it is built again.
func (s *stream) send(ctx context.Context, b **built) (kind sink.Kind, rejected error, err error) {
	backoff := s.r.ship.config.Backoff
	for {
		began := time.Now()
		err := s.sink.Send(ctx, (*b).batch)
		if ctx.Err() != nil {
			return 0, nil, ctx.Err()
		}
		if err == nil {
			s.r.ship.metrics.sendSeconds.WithLabelValues(s.r.declaration.Name).Observe(time.Since(began).Seconds())
			return 0, nil, nil
		}
		s.r.ship.metrics.errors.WithLabelValues(s.r.declaration.Name).Inc()
		kind, asked := sink.KindOf(err)
		held := kind != sink.KindRetry && len((*b).batch.Rows) == 1 && s.rejects >= maxRejectsInARow
		if kind != sink.KindRetry && !held {
			return kind, err, nil
		}
		if held {
			err = fmt.Errorf("the receiver rejected %d rows in a row, so the sink is held: see that its URL, format and rights are right. It said: %w", s.rejects+1, err)
			asked = time.Minute
		}
		pause := max(asked, time.Duration((0.75+rand.Float64()/2)*float64(backoff)))
		backoff = min(2*backoff, time.Minute)
		s.r.retrying(s.name, err, time.Now().Add(pause))
		if pause > 2*time.Second {
			s.drop()
			s.give(*b)
			*b = nil
		}
		if err := s.r.pause(ctx, pause); err != nil {
			return 0, nil, err
		}
		if *b == nil || s.r.paused.Load() {
			if *b != nil {
				s.give(*b)
				*b = nil
			}
			return 0, nil, nil
		}
	}
}

// rejected makes the first half of the batch the pending one, or sets its only row aside.
func (s *stream) rejected(ctx context.Context, st *state, b *built, kind sink.Kind, cause error) (*built, error) {
	s.drop()
	n := len(b.batch.Rows)
	if n > 1 {
		s.rows = max(n/2, 1)
		if kind == sink.KindTooLarge {
			s.bytes, s.small = max(len(b.batch.Lines)/2, 1), 100
		}
		s.r.log.Warn("the receiver rejected a batch; sending its first half", "stream", s.name, "batch", b.batch.Batch, "rows", n, "error", cause)
		s.r.retrying(s.name, cause, time.Time{})
		h := s.half(st, b, n/2)
		s.decideOn(st, h)
		if err := s.store(ctx, s.r.ship.primary, st, false); err != nil {
			return nil, err
		}
		failpoint("halved")
		return h, nil
	}
	reason := "rejected"
	if kind == sink.KindTooLarge {
		reason = "too_large"
	}
	key := b.keys[0]
	s.rejects++
	s.r.log.Error("the receiver rejected a row for good: it is set aside in argus.sink_rejects", "stream", s.name, "writer_id", key.writer, "seq", key.seq, "error", cause)
	st.position, st.looked, st.pending = b.to.Clone(), b.to.Clone(), nil
	st.streamSeq = b.batch.Stream.To
	s.give(b)
	if err := s.setAside(ctx, st, pgread.Range{Writer: key.writer, Lo: key.seq - 1, Hi: key.seq}, reason, cause); err != nil {
		return nil, err
	}
	failpoint("rejected")
	return nil, nil
}

// setAside records rows that the receiver will not have, and moves the position past them, in one transaction.
func (s *stream) setAside(ctx context.Context, st *state, rows pgread.Range, reason string, cause error) error {
	name := s.r.declaration.Name
	err := pgx.BeginFunc(ctx, s.r.ship.primary, func(tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, `INSERT INTO argus.sink_rejects (sink, stream, writer_id, from_seq, to_seq, reason, error)
			VALUES ($1, $2, $3, $4, $5, $6, $7)`, name, s.name, rows.Writer, rows.Lo+1, rows.Hi, reason, clip(cause)); err != nil {
			return fmt.Errorf("setting rows aside: %w", err)
		}
		return s.store(ctx, tx, st, false)
	})
	if err != nil {
		return err
	}
	s.r.ship.metrics.rejected.WithLabelValues(name, reason).Add(float64(rows.Hi - rows.Lo))
	s.r.setAside(rows.Hi - rows.Lo)
	return nil
}

// skip passes rows that Postgres does not have. The primary is asked, since a standby may be behind.
func (s *stream) skip(ctx context.Context, st *state, missing *missingError) error {
	var first *int64
	if err := s.r.ship.primary.QueryRow(ctx, "SELECT (SELECT seq FROM argus.argus_audit_log WHERE writer_id = $1 AND seq > $2 AND seq <= $3 ORDER BY seq LIMIT 1)",
		missing.Writer, missing.Lo, missing.Hi).Scan(&first); err != nil {
		return fmt.Errorf("looking for missing rows: %w", err)
	}
	gone := missing.Range
	if first != nil {
		if gone.Hi = *first - 1; gone.Hi == gone.Lo {
			return fmt.Errorf("the Postgres that is read is behind the primary, which has row %d of writer %d", *first, missing.Writer)
		}
	}
	s.r.log.Error("rows that the sink has not seen are gone from Postgres: they left with their month, or the log has a hole", "stream", s.name,
		"writer_id", gone.Writer, "from", gone.Lo+1, "to", gone.Hi)
	for _, p := range []map[int64]int64{st.position.Writers, st.looked.Writers} {
		p[gone.Writer] = gone.Hi
	}
	return s.setAside(ctx, st, gone, "missing", &missingError{gone, true})
}

// drop gives up the batch that was built ahead.
func (s *stream) drop() {
	if a := s.ahead; a != nil {
		s.ahead = nil
		<-a.done
		if a.b != nil {
			s.give(a.b)
		}
	}
}

// buffer and give recycle the memory of batches: at most two are in memory.
func (s *stream) buffer() []byte {
	s.r.mu.Lock()
	defer s.r.mu.Unlock()
	if n := len(s.buffers); n > 0 {
		b := s.buffers[n-1]
		s.buffers = s.buffers[:n-1]
		return b[:0]
	}
	return nil
}

func (s *stream) give(b *built) {
	s.r.mu.Lock()
	defer s.r.mu.Unlock()
	if len(s.buffers) < 2 && cap(b.batch.Lines) > 0 {
		s.buffers = append(s.buffers, b.batch.Lines)
	}
	b.batch = nil
}
