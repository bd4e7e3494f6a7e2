package writer

import (
	"context"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/useargus/argus"
	"github.com/useargus/argus/internal/engines/enginetest"
)

// die ends a writer as kill -9 ends its process: nothing is drained, closed or signed off.
func die(w *Writer) {
	w.state.Store(stateClosing)
	w.queue.close()
	w.end()
	w.laneEnds.Wait()
	w.queue.fail(errClosing)
	close(w.closing)
	w.loopEnds.Wait()
	w.control.close()
}

func byID(rows []argus.Record) map[uuid.UUID]argus.Record {
	m := map[uuid.UUID]argus.Record{}
	for _, r := range rows {
		m[r.ID] = r
	}
	return m
}

// intents commits n intents of calls that never end.
func intents(t testing.TB, w *Writer, pool *pgxpool.Pool, l *ledger, n int) []*argus.Record {
	t.Helper()
	var records []*argus.Record
	for i := range n {
		r := exampleRecord(i)
		l.intended[r.ID] = true
		records = append(records, r)
	}
	for some := range slices.Chunk(records, 7) { // one statement each
		if err := intend(w, pool, some...); err != nil {
			t.Fatal(err)
		}
	}
	return records
}

// TestSweep lets a process die with intents and open writers, and three others sweep at once.
func TestSweep(t *testing.T) {
	t.Parallel()
	pg := enginetest.NewPostgres(t)
	pool := pg.Pool(t, pg.APIURL)
	l := newLedger()
	dead := start(t, Config{URL: pg.APIURL, tuning: quick})
	for n := range 10 {
		if err := l.call(dead, pool, n); err != nil {
			t.Fatal(err)
		}
	}
	cut := intents(t, dead, pool, l, 600) // more than one sweep takes
	var sweepers []*Writer
	for range 3 {
		sweepers = append(sweepers, start(t, Config{URL: pg.APIURL, tuning: quick}))
	}
	alive := intents(t, sweepers[0], pool, l, 1)[0]
	// One of a release that knew no column behind trace_id.
	old := exampleRecord(0)
	old.Service, old.Release, old.ErrorCode, old.Reason, old.Agent, old.Workload = "", "", "", "", "", nil
	exec(t, pool, `INSERT INTO argus.audit_intents (id, process_id, record)
		SELECT $1, process_id, $2::jsonb - '{service,release,error_code,reason,agent,workload}'::text[] FROM argus.audit_intents LIMIT 1`,
		old.ID, string(old.AppendJSON(nil)))
	old.Service = argus.OwnService
	l.intended[old.ID], cut = true, append(cut, old)
	die(dead)
	eventually(t, "the dead process's intents swept", func() bool {
		return scalar[int64](t, pool, `SELECT count(*) FROM argus.audit_intents`) == 1
	})
	eventually(t, "the dead process's writers closed", func() bool {
		return scalar[int64](t, pool, `SELECT count(*) FROM argus.audit_writers w WHERE closed_at IS NULL AND NOT EXISTS (
			SELECT FROM argus.audit_processes p WHERE p.process_id = w.process_id)`) == 0
	})
	if n := scalar[int64](t, pool, `SELECT count(*) FROM argus.audit_processes`); n != 3 {
		t.Errorf("%d processes are registered", n)
	}
	if err := sweepers[0].Append(context.Background(), alive, true); err != nil {
		t.Errorf("a living process's call: %v", err)
	}
	rows := byID(l.check(t, pool))
	for _, want := range cut {
		got := rows[want.ID]
		if got.Outcome != argus.Interrupted || got.Status != 0 || got.LatencyUS != 0 {
			t.Fatalf("an interrupted call has the row %+v", got)
		}
		// Everything else is as it was announced.
		got.WriterID, got.Seq, got.RecordedAt, got.RowHash = 0, 0, time.Time{}, [32]byte{}
		announced := *want
		announced.Outcome, announced.Status, announced.LatencyUS = argus.Interrupted, 0, 0
		if string(got.AppendJSON(nil)) != string(announced.AppendJSON(nil)) {
			t.Fatalf("announced %s\nwritten   %s", announced.AppendJSON(nil), got.AppendJSON(nil))
		}
	}
	if got := rows[alive.ID]; got.Outcome != argus.Completed {
		t.Errorf("a living process's call is %s", got.Outcome)
	}
}

// TestSweptWhileFrozen: a process that was declared dead while it was frozen comes back with calls whose intents
// were swept. They keep their interrupted rows; others in the same batches, and its later calls, are not hurt.
func TestSweptWhileFrozen(t *testing.T) {
	t.Parallel()
	pg := enginetest.NewPostgres(t)
	pool := pg.Pool(t, pg.APIURL)
	l := newLedger()
	frozen := start(t, Config{URL: pg.APIURL, Lanes: 1})
	before := frozen.process.current()
	swept := intents(t, frozen, pool, l, 40)
	exec(t, pool, `DELETE FROM argus.audit_processes`) // declared dead
	start(t, Config{URL: pg.APIURL})                   // sweeps
	eventually(t, "intents swept", func() bool {
		return scalar[int64](t, pool, `SELECT count(*) FROM argus.audit_intents`) == 0
	})
	var wg sync.WaitGroup
	for _, r := range swept {
		wg.Go(func() {
			if err := frozen.Append(context.Background(), r, true); argus.CodeOf(err) != argus.CodeAuditUnconfirmed {
				t.Errorf("a swept call was answered %v", err)
			}
		})
	}
	for n := range 40 {
		wg.Go(func() {
			r := exampleRecord(n)
			err := frozen.Append(context.Background(), r, false)
			l.note(r, false, err)
			if err != nil {
				t.Errorf("another call: %v", err)
			}
		})
	}
	wg.Wait()
	eventually(t, "a new identity", func() bool { return frozen.process.current() != before })
	l.call(frozen, pool, 3)
	noIntentsLeft(t, pool)
	rows := byID(l.check(t, pool))
	for _, r := range swept {
		if rows[r.ID].Outcome != argus.Interrupted {
			t.Errorf("%s is %s", r.ID, rows[r.ID].Outcome)
		}
	}
}

// TestReturnDuringSweep lets a returning process write the rows of its calls while another sweeps their intents.
func TestReturnDuringSweep(t *testing.T) {
	t.Parallel()
	pg := enginetest.NewPostgres(t)
	pool := pg.Pool(t, pg.APIURL)
	l := newLedger()
	frozen := start(t, Config{URL: pg.APIURL, tuning: quick})
	sweepers := []*Writer{start(t, Config{URL: pg.APIURL, tuning: quick}), start(t, Config{URL: pg.APIURL, tuning: quick})}
	var interrupted, completed int
	for range rounds(t, 3) {
		calls := intents(t, frozen, pool, l, 120)
		exec(t, pool, `DELETE FROM argus.audit_processes`)
		var wg sync.WaitGroup
		for _, s := range sweepers {
			wg.Go(func() {
				for range 10 {
					s.sweep()
				}
			})
		}
		wg.Go(func() {
			for len(calls) > 0 { // the newest first: the sweepers begin with the oldest
				for range 10 {
					r := calls[len(calls)-1]
					calls = calls[:len(calls)-1]
					wg.Go(func() { l.note(r, true, frozen.Append(context.Background(), r, true)) })
				}
				time.Sleep(3 * time.Millisecond)
			}
		})
		wg.Wait()
	}
	noIntentsLeft(t, pool)
	for _, r := range l.check(t, pool) {
		if r.Outcome == argus.Interrupted {
			interrupted++
		} else {
			completed++
		}
	}
	t.Logf("%d interrupted, %d completed", interrupted, completed)
}

// TestIntentNeverCommitted: the transaction of a call's intent was rolled back, or its commit is in doubt. The call still
// says "intended" and has its row. Twice said is once written.
func TestIntentNeverCommitted(t *testing.T) {
	t.Parallel()
	pg := enginetest.NewPostgres(t)
	pool := pg.Pool(t, pg.APIURL)
	w := start(t, Config{URL: pg.APIURL, tuning: quick})
	l := newLedger()
	r := exampleRecord(1)
	err := w.Append(context.Background(), r, true)
	l.note(r, true, err)
	if err != nil {
		t.Fatal(err)
	}
	again := *r
	if err := w.Append(context.Background(), &again, true); argus.CodeOf(err) != argus.CodeAuditUnconfirmed {
		t.Errorf("the second time: %v", err)
	}
	// Its transaction commits after all, and nothing is left of it.
	if err := intend(w, pool, &again); err != nil {
		t.Fatal(err)
	}
	noIntentsLeft(t, pool)
	// The same, and the process dies: no second row.
	if err := intend(w, pool, &again); err != nil {
		t.Fatal(err)
	}
	die(w)
	exec(t, pool, `DELETE FROM argus.audit_processes`)
	start(t, Config{URL: pg.APIURL})
	noIntentsLeft(t, pool)
	l.check(t, pool)
}

// TestNoPromiseFromTheDead: a process that was declared dead and does not know it may not announce calls.
func TestNoPromiseFromTheDead(t *testing.T) {
	t.Parallel()
	pg := enginetest.NewPostgres(t)
	pool := pg.Pool(t, pg.APIURL)
	w := start(t, Config{URL: pg.APIURL, Lanes: 1, tuning: tuning{heartbeat: time.Hour}})
	exec(t, pool, `DELETE FROM argus.audit_processes`)
	if err := intend(w, pool, exampleRecord(1)); argus.CodeOf(err) != argus.CodeAuditUnavailable {
		t.Errorf("an intent of a dead process: %v", err)
	}
}

// TestSweptInTime uses the real times, by which it takes less than thirty seconds. noIntentsLeft gives a busy machine more.
func TestSweptInTime(t *testing.T) {
	t.Parallel()
	pg := enginetest.NewPostgres(t)
	pool := pg.Pool(t, pg.APIURL)
	l := newLedger()
	start(t, Config{URL: pg.APIURL})
	dead := start(t, Config{URL: pg.APIURL})
	intents(t, dead, pool, l, 5)
	die(dead)
	died := time.Now()
	noIntentsLeft(t, pool)
	t.Logf("swept after %s", time.Since(died))
	l.check(t, pool)
}
