package writer

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/useargus/argus"
)

// lane commits batches over one connection, under one writer at a time. Its fields belong to the goroutine that
// the lane belongs to (see queue), but where said otherwise.
//
//	open ──batch──▶ committed ─▶ open
//	     ──batch──▶ fenced    ─▶ resolve ─▶ open under a new writer     (surely nothing was written)
//	     ──batch──▶ unknown   ─▶ resolve ─▶ open under a new writer     (the old writer's row tells)
type lane struct {
	w       *Writer
	n       int
	session *session // nil: not open
	process uuid.UUID
	seq     int64        // of the writer's last committed row
	writer  atomic.Int64 // the open writer's id, 0 when not open; read by the heartbeat
	left    previous
	opens   int // counts connections, for their names
	fails   int // batches in a row that ended in doubt
	batch   []*entry
	wake    chan struct{} // given a token by the caller that gives the lane back to its goroutine
}

// previous is what a lane left behind and has to resolve before it opens again.
type previous struct {
	writer  int64    // to be closed; 0: nothing is left behind
	session string   // the connection whose backend may still be at work, "" when it is surely done
	doubt   []*entry // the batch of which it is unknown whether it was committed
}

var errSwept = errors.New("the call's intent was already turned into an interrupted row")

// run is the lane's goroutine: it opens the lane and commits batches until the queue is closed and empty, or the
// writer's life ends. tried is called after each attempt to open.
func (l *lane) run(tried func()) {
	defer tried()
	defer l.quit()
	for {
		if l.session != nil && !l.current() {
			l.leave(previous{writer: l.writer.Load()}, errors.New("this process was declared dead and has a new identity"))
		}
		if l.session == nil && !l.open(tried) {
			return
		}
		if l.turn() == 0 {
			if l.w.queue.finished() {
				return
			}
			if l.w.queue.park(l) {
				<-l.wake
			}
		}
	}
}

// turn commits one batch of what waits and returns its size. The lane is open and the caller's.
func (l *lane) turn() int {
	limit := l.w.config.tuning
	l.batch = l.w.queue.take(l.batch[:0], limit.rows, limit.bytes)
	n := len(l.batch)
	if n > 0 {
		l.write(l.apart(l.batch))
		clear(l.batch[:n])
		l.w.queue.landed(n, l.ready())
	}
	return n
}

// release ends a caller's use of the lane: it is idle, or goes on in its goroutine.
func (l *lane) release() {
	if !l.w.queue.park(l) {
		l.wake <- struct{}{}
	}
}

// ready reports whether the lane can take a batch as it is.
func (l *lane) ready() bool { return l.session != nil && l.current() }

// current reports whether the lane's writer belongs to the process's present identity.
func (l *lane) current() bool { return l.process == l.w.process.current() }

// quit answers what is still in doubt. Its writer is closed by Writer.Close.
func (l *lane) quit() {
	for _, e := range l.left.doubt {
		e.answer(errClosing)
	}
	l.left.doubt = nil
	if l.session != nil {
		l.session.close()
		l.session = nil
		l.w.health.closed()
	}
}

// apart puts back all but the first of entries with the same intent: a sweep's and, after this process was
// frozen, the call's own. The second then finds that the call has its row.
func (l *lane) apart(batch []*entry) []*entry {
	var seen map[uuid.UUID]bool
	var twins []*entry
	kept := batch[:0]
	for _, e := range batch {
		if e.intended {
			if seen[e.id] {
				twins = append(twins, e)
				continue
			}
			if seen == nil {
				seen = make(map[uuid.UUID]bool)
			}
			seen[e.id] = true
		}
		kept = append(kept, e)
	}
	l.w.queue.unshift(twins)
	return kept
}

// write commits a batch. Every entry is answered, put back into the queue, or left in doubt for open to resolve.
func (l *lane) write(batch []*entry) {
	for len(batch) > 0 {
		if l.session == nil {
			l.w.queue.unshift(batch)
			return
		}
		start := time.Now()
		err := l.session.commit(l.writer.Load(), l.seq, batch, argus.Micros(start), start.Add(l.w.config.tuning.roundTrip))
		rejection := rejectionOf(err)
		switch {
		case err == nil:
			l.w.metrics.commit.Observe(time.Since(start).Seconds())
			l.w.metrics.batch.Observe(float64(len(batch)))
			l.w.metrics.rows.Add(float64(len(batch)))
			l.seq += int64(len(batch))
			l.fails = 0
			for _, e := range batch {
				e.answer(nil)
			}
			l.w.committed(start)
			return

		case rejection != nil && (rejection.Code == stateFenced || rejection.Code == uniqueViolation):
			// Someone else moved or closed the writer, or wrote under its numbers.
			l.w.metrics.fenced.Inc()
			l.w.queue.unshift(batch)
			l.leave(previous{writer: l.writer.Load()}, err)
			return

		case rejection != nil && l.session.shun(rejection):
			l.w.config.Logger.Warn("a partition rejected a batch, which now goes into the log itself", "lane", l.n,
				"rows", len(batch), "cause", err)

		case rejection != nil && rejection.Code == stateSwept && sweptIn(rejection, batch):
			swept := strings.Split(rejection.Detail, ",")
			batch = slices.DeleteFunc(batch, func(e *entry) bool {
				if e.intended && slices.Contains(swept, e.id.String()) {
					e.answer(errSwept)
					return true
				}
				return false
			})

		case rejection != nil && (rejection.Code[:2] == "22" || rejection.Code[:2] == "23"):
			// A row Postgres does not take. The others of its batch must not suffer: halve until it is alone.
			if len(batch) == 1 {
				batch[0].answer(err)
				return
			}
			half := len(batch) / 2
			l.write(batch[:half])
			batch = batch[half:]

		default:
			l.fails++
			l.leave(previous{l.writer.Load(), l.session.name, slices.Clone(batch)}, err)
			return
		}
	}
}

const uniqueViolation = "23505"

// rejectionOf returns the server's error when it says that surely nothing was committed: one of severity ERROR,
// after which the connection went on. A FATAL one may have come after the commit.
func rejectionOf(err error) *pgconn.PgError {
	var pgErr *pgconn.PgError
	if errors.Is(err, errConnectionLost) || !errors.As(err, &pgErr) || len(pgErr.Code) != 5 ||
		pgErr.SeverityUnlocalized != "ERROR" {
		return nil
	}
	return pgErr
}

// sweptIn reports whether the rejection names an entry of the batch: without one, trying again would not end.
func sweptIn(rejection *pgconn.PgError, batch []*entry) bool {
	return slices.ContainsFunc(batch, func(e *entry) bool {
		return e.intended && strings.Contains(rejection.Detail, e.id.String())
	})
}

// leave gives up the session. What is left behind is resolved by the next open.
func (l *lane) leave(left previous, cause error) {
	l.session.close()
	l.session = nil
	l.writer.Store(0)
	l.left = left
	l.w.config.Logger.Warn("a lane closed and will open again", "lane", l.n, "writer_id", left.writer,
		"rows_in_doubt", len(left.doubt), "cause", cause)
	l.w.health.closed()
	l.w.health.failed(fmt.Errorf("lane %d: %w", l.n, cause))
}

// open tries until the lane is open. It returns false when there is nothing left to open it for: the queue is
// closed and empty, with nothing in doubt, or the writer's life has ended.
func (l *lane) open(tried func()) bool {
	pause := time.Duration(0)
	if l.fails > 1 { // connecting works, committing does not: not in a tight loop
		pause = l.w.config.tuning.retry << min(l.fails-2, 3)
	}
	for {
		if l.w.life.Err() != nil || l.left.doubt == nil && l.w.queue.finished() {
			return false
		}
		if pause > 0 {
			select {
			case <-time.After(pause):
			case <-l.w.life.Done():
				return false
			}
		}
		err := l.tryOpen()
		tried()
		if err == nil {
			l.w.health.opened()
			return true
		}
		l.w.health.failed(fmt.Errorf("opening lane %d: %w", l.n, err))
		pause = l.w.config.tuning.retry
	}
}

// tryOpen connects, resolves what the lane left behind, and opens a new writer.
func (l *lane) tryOpen() (err error) {
	select {
	case l.w.opening <- struct{}{}:
		defer func() { <-l.w.opening }()
	case <-l.w.life.Done():
		return l.w.life.Err()
	}
	l.opens++
	name := fmt.Sprintf("argus writer %.8s lane %d.%d", l.w.process.current(), l.n, l.opens)
	conn, err := l.w.connect(name)
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			drop(conn)
		}
	}()
	if err := l.w.recognise(conn); err != nil {
		return err
	}
	if err := l.resolve(conn); err != nil {
		return fmt.Errorf("resolving writer %d: %w", l.left.writer, err)
	}
	process, err := l.w.beat(conn)
	if err != nil {
		return fmt.Errorf("registering this process: %w", err)
	}
	var writer int64
	err = l.w.step(func(ctx context.Context) error {
		return conn.QueryRow(ctx, "SELECT argus.open_audit_writer($1::uuid, $2::int)", process, l.n).Scan(&writer)
	})
	if err != nil {
		return fmt.Errorf("opening a writer: %w", err)
	}
	l.left = previous{writer: writer} // to be closed, should one of the next steps fail
	var s *session
	err = l.w.step(func(ctx context.Context) error {
		s, err = newSession(ctx, l.w.life, conn, name, &l.w.months)
		return err
	})
	if err != nil {
		return fmt.Errorf("preparing the session: %w", err)
	}
	// A batch of no rows: whether this connection can commit at all is found out before calls depend on it.
	now := time.Now()
	if err := s.commit(writer, 0, nil, argus.Micros(now), now.Add(l.w.config.tuning.roundTrip)); err != nil {
		s.close()
		return fmt.Errorf("committing an empty batch: %w", err)
	}
	l.session, l.process, l.seq, l.left = s, process, 0, previous{}
	l.writer.Store(writer)
	l.w.metrics.opened.Inc()
	return nil
}

// resolve closes the writer the lane left behind and finds out what became of its batch in doubt.
//
// Closing takes the writer's row lock, so it waits for a backend that is just committing the batch. A backend that
// comes later finds the writer closed, and rolls back. From then on either the batch's last row is there, and so is
// the whole batch, or it never will be. Closing is a commit of its own, behind the batch's: the synchronous standbys that
// have the one have the other.
func (l *lane) resolve(conn *pgx.Conn) error {
	if l.left.writer == 0 {
		return nil
	}
	if l.left.session != "" {
		// The backend may be stuck with the row lock: its network is gone, or its client was frozen. One that waits for
		// the synchronous standbys is left alone. Ended, it would show rows that a failover takes back.
		err := l.w.step(func(ctx context.Context) error {
			_, err := conn.Exec(ctx, `SELECT pg_terminate_backend(pid) FROM pg_stat_activity
				WHERE application_name = $1 AND usename = current_user AND pid <> pg_backend_pid()
				  AND wait_event IS DISTINCT FROM 'SyncRep'`, l.left.session)
			return err
		})
		if err != nil {
			return err
		}
	}
	err := l.w.step(func(ctx context.Context) error {
		_, err := conn.Exec(ctx, `UPDATE argus.audit_writers SET closed_at = coalesce(closed_at, clock_timestamp())
			WHERE writer_id = $1`, l.left.writer)
		return err
	})
	if err != nil {
		return err
	}
	if len(l.left.doubt) > 0 {
		last := l.left.doubt[len(l.left.doubt)-1]
		var committed bool
		err := l.w.step(func(ctx context.Context) error {
			return conn.QueryRow(ctx, `SELECT EXISTS (SELECT FROM argus.argus_audit_log
				WHERE writer_id = $1 AND seq = $2 AND occurred_at = $3 AND id = $4)`,
				last.writerID, last.seq, last.occurredAt, last.id).Scan(&committed)
		})
		if err != nil {
			return err
		}
		l.w.config.Logger.Info("a batch in doubt is resolved", "writer_id", l.left.writer, "rows", len(l.left.doubt),
			"committed", committed)
		if committed {
			l.w.metrics.doubts.WithLabelValues("committed").Inc()
			l.w.metrics.rows.Add(float64(len(l.left.doubt)))
			for _, e := range l.left.doubt {
				e.answer(nil)
			}
			l.w.committed(time.Now())
		} else {
			l.w.metrics.doubts.WithLabelValues("absent").Inc()
			l.w.queue.unshift(l.left.doubt)
		}
	}
	l.left = previous{}
	return nil
}
