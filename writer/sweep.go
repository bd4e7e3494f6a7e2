package writer

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/useargus/argus"
)

// The sweep. A process is dead from the moment its row in argus.audit_processes is deleted, not before, and for good.
// It deletes the row itself when it ends in order. Else another process does, after 15 s without a heartbeat. Any
// other process then sweeps what the dead one left:
//
//   - its intents become interrupted rows, under the sweeper's own writer, by ordinary batches: the row and the
//     intent's deletion are one transaction, so of several sweepers, and the dead one's own late batch, only one
//     succeeds;
//   - its writers are closed, so that readers need not wait for more of their rows.
//
// A living process leaves an intent behind, too, when the intent's transaction was given up and its row written, and
// then it commits after all. Any sweep deletes it.

// sweepRows is how many intents one sweep takes at most; more are left to the next.
const sweepRows = 500

func (w *Writer) sweepLoop() {
	quiet := &sometimes{every: 10 * time.Second}
	for {
		swept, err := w.sweep()
		if err != nil && w.life.Err() == nil {
			quiet.log(w.config.Logger, slog.LevelWarn, "sweeping what dead processes left failed", "cause", err)
		}
		pause := jitter(w.config.tuning.heartbeat)
		if swept == sweepRows {
			pause = 0
		}
		select {
		case <-time.After(pause):
		case <-w.closing:
			return
		}
	}
}

// orphan is an intent of a dead process.
type orphan struct {
	id     uuid.UUID
	record []byte
}

// sweep does one round and returns how many intents it took up.
func (w *Writer) sweep() (int, error) {
	if w.state.Load() != stateRunning || w.health.down() != nil {
		return 0, nil
	}
	var orphans []orphan
	err := w.control.use(w, func(conn *pgx.Conn) (err error) {
		if w.process.mayDeclareDead() {
			if err := w.declareDead(conn); err != nil {
				return err
			}
		}
		if err := w.closeOrphanedWriters(conn); err != nil {
			return err
		}
		if err := w.deleteLateIntents(conn); err != nil {
			return err
		}
		orphans, err = w.orphans(conn)
		return err
	})
	if err != nil || len(orphans) == 0 {
		return 0, err
	}
	return len(orphans), w.interrupt(orphans)
}

// declareDead deletes the rows of processes that were silent for too long. When Postgres itself was away
// no heartbeat could arrive, so its start is waited out.
func (w *Writer) declareDead(conn *pgx.Conn) error {
	t := w.config.tuning
	return w.step(func(ctx context.Context) error {
		rows, err := conn.Query(ctx, `
			DELETE FROM argus.audit_processes WHERE process_id IN (
				SELECT process_id FROM argus.audit_processes
				 WHERE heartbeat_at < clock_timestamp() - make_interval(secs => $1)
				   AND pg_postmaster_start_time() < clock_timestamp() - make_interval(secs => $2)
				   FOR UPDATE SKIP LOCKED)
			RETURNING process_id, host, heartbeat_at`, t.dead.Seconds(), t.afterOutage.Seconds())
		if err != nil {
			return err
		}
		var id uuid.UUID
		var host string
		var heartbeat time.Time
		_, err = pgx.ForEachRow(rows, []any{&id, &host, &heartbeat}, func() error {
			w.config.Logger.Warn("a process is declared dead", "process_id", id, "host", host, "last_heartbeat", heartbeat)
			return nil
		})
		return err
	})
}

// closeOrphanedWriters skips rows that are locked: a dead process's backend may be about to commit its last
// batch. They are closed by the next sweep.
func (w *Writer) closeOrphanedWriters(conn *pgx.Conn) error {
	return w.step(func(ctx context.Context) error {
		_, err := conn.Exec(ctx, `
			UPDATE argus.audit_writers SET closed_at = clock_timestamp() WHERE writer_id IN (
				SELECT w.writer_id FROM argus.audit_writers w
				 WHERE w.closed_at IS NULL
				   AND NOT EXISTS (SELECT FROM argus.audit_processes p WHERE p.process_id = w.process_id)
				   FOR UPDATE SKIP LOCKED)`)
		return err
	})
}

// deleteLateIntents deletes intents of calls that have their row. The younger ones are in all likelihood just being
// deleted with it.
func (w *Writer) deleteLateIntents(conn *pgx.Conn) error {
	return w.step(func(ctx context.Context) error {
		_, err := conn.Exec(ctx, `
			SELECT argus.delete_recorded_intents(make_interval(secs => $1))`, w.config.tuning.dead.Seconds())
		return err
	})
}

// orphans reads the intents of dead processes. One whose call has a row already – its transaction committed
// late, after its call was given up and written without it – is deleted.
func (w *Writer) orphans(conn *pgx.Conn) (found []orphan, err error) {
	err = w.step(func(ctx context.Context) error {
		rows, err := conn.Query(ctx, `
			SELECT i.id, i.record::text FROM argus.audit_intents i
			 WHERE NOT EXISTS (SELECT FROM argus.audit_processes p WHERE p.process_id = i.process_id)
			 ORDER BY i.at LIMIT $1`, sweepRows)
		if err != nil {
			return err
		}
		found, err = pgx.CollectRows(rows, func(row pgx.CollectableRow) (o orphan, err error) {
			err = row.Scan(&o.id, &o.record)
			return o, err
		})
		return err
	})
	if err != nil || len(found) == 0 {
		return nil, err
	}
	ids := make([]string, len(found))
	for i, o := range found {
		ids[i] = o.id.String()
	}
	gone := map[uuid.UUID]bool{}
	err = w.step(func(ctx context.Context) error {
		rows, err := conn.Query(ctx, `
SELECT argus.delete_recorded_intents('0', $1::uuid[])`, ids)
		if err != nil {
			return err
		}
		var id uuid.UUID
		_, err = pgx.ForEachRow(rows, []any{&id}, func() error {
			gone[id] = true
			return nil
		})
		return err
	})
	kept := found[:0]
	for _, o := range found {
		if !gone[o.id] {
			kept = append(kept, o)
		}
	}
	return kept, err
}

// interrupt writes the interrupted rows and waits for them: as long as it takes, so that the next sweep does
// not take up the same intents again.
func (w *Writer) interrupt(orphans []orphan) error {
	var failed error
	records := make([]*argus.Record, 0, len(orphans))
	pushed := make([]*entry, 0, len(orphans))
	for _, o := range orphans {
		r := new(argus.Record)
		err := r.UnmarshalJSON(o.record)
		if err == nil {
			r.Outcome = argus.Interrupted
			r.MakeStorable()
			err = malformed(r)
		}
		if err == nil && r.ID != o.id {
			err = fmt.Errorf("its record is that of %s", r.ID)
		}
		if err != nil {
			failed = errors.Join(failed, fmt.Errorf("the intent %s: %w", o.id, err))
			continue
		}
		e := newEntry(r, true)
		l, ok := w.queue.push(e)
		if !ok {
			e.recycle()
			break
		}
		if l != nil {
			l.wake <- struct{}{}
		}
		records, pushed = append(records, r), append(pushed, e)
	}
	for i, e := range pushed {
		<-e.done
		err, r := e.err, records[i]
		e.recycle()
		switch {
		case err == nil:
			w.metrics.interrupted.Inc()
			w.config.Logger.Warn("a call was interrupted by its process's death; its interrupted row is written",
				"audit_id", r.ID, "actor_id", r.ActorID, "route", r.Route)
		case errors.Is(err, errSwept), errors.Is(err, errClosing):
		default:
			failed = errors.Join(failed, fmt.Errorf("the intent %s: %w", r.ID, err))
		}
	}
	return failed
}
