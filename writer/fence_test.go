package writer

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/useargus/argus"
	"github.com/useargus/argus/internal/engines/enginetest"
)

// rival commits rows under a writer that another lane owns, as a process would that takes itself for the owner.
type rival struct{ session *session }

func newRival(t testing.TB, url string) *rival {
	t.Helper()
	conn, err := pgx.Connect(context.Background(), url)
	if err != nil {
		t.Fatal(err)
	}
	s, err := newSession(context.Background(), context.Background(), conn, "rival", new(atomic.Pointer[[]month]))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.close)
	return &rival{session: s}
}

func (r *rival) commit(writer, from int64, records ...*argus.Record) error {
	batch := make([]*entry, len(records))
	for i, rec := range records {
		batch[i] = newEntry(rec, false)
	}
	now := time.Now()
	err := r.session.commit(writer, from, batch, argus.Micros(now), now.Add(time.Minute))
	for i, e := range batch {
		records[i].WriterID, records[i].Seq, records[i].RecordedAt, records[i].RowHash = e.writerID, e.seq, e.recordedAt, e.hash
	}
	return err
}

// TestRivals lets several that believe they own the same lane commit at once: each batch is one's or the other's.
func TestRivals(t *testing.T) {
	t.Parallel()
	pg := enginetest.NewPostgres(t)
	pool := pg.Pool(t, pg.APIURL)
	w := start(t, Config{URL: pg.APIURL})
	l := newLedger()
	load := startLoad(w, pool, l, 4)
	load.more(t, 20)
	var wg sync.WaitGroup
	var won, lost int
	var mu sync.Mutex
	for range 3 {
		r := newRival(t, pg.APIURL)
		wg.Go(func() {
			contested := func() bool {
				mu.Lock()
				defer mu.Unlock()
				return won > 0 && lost > 0
			}
			for n, began := 0, time.Now(); n < 40 || !contested() && time.Since(began) < time.Minute; n++ {
				var writer, seq int64
				err := pool.QueryRow(context.Background(), `SELECT writer_id, seq FROM argus.audit_writers WHERE closed_at IS NULL
					ORDER BY random() LIMIT 1`).Scan(&writer, &seq)
				if err != nil {
					continue // none open at this moment
				}
				// Sometimes as many rows as the owner's next batch may have, so that both aim at the same seq.
				records := []*argus.Record{exampleRecord(n), exampleRecord(n)}[:1+n%2]
				err = r.commit(writer, seq, records...)
				for _, rec := range records {
					l.note(rec, false, err)
				}
				mu.Lock()
				if err == nil {
					won++
				} else {
					lost++
				}
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	load.more(t, 50)
	load.stop()
	l.check(t, pool)
	t.Logf("rivals won %d and lost %d times", won, lost)
	if won == 0 || lost == 0 {
		t.Errorf("the rivals won %d and lost %d times: nothing was contested", won, lost)
	}
}

// TestLateBackend lets a batch reach Postgres after its lane has given it up, resolved it and written its rows
// elsewhere: the late one must change nothing. The backend that brings it is spared the end that resolving gives it.
func TestLateBackend(t *testing.T) {
	t.Parallel()
	pg := enginetest.NewPostgres(t)
	pool := pg.Pool(t, pg.APIURL)
	w := start(t, Config{URL: pg.APIURL, Lanes: 1})
	l := newLedger()
	if err := l.call(w, pool, 1); err != nil {
		t.Fatal(err)
	}
	late := newRival(t, pg.APIURL)
	r := exampleRecord(2)
	old := w.lanes[0].writer.Load()
	killBackends(t, pg, "lane") // the lane's own connection; its next batch is in doubt
	err := w.Append(context.Background(), r, false)
	l.note(r, false, err)
	if err != nil {
		t.Fatal(err)
	}
	again := *r
	err = late.commit(old, 1, &again)
	if rejection := rejectionOf(err); rejection == nil || rejection.Code != stateFenced {
		t.Errorf("the late batch: %v", err)
	}
	l.check(t, pool)
}

// TestRestoredDatabase takes the database back to an earlier moment under live writers. Rows acknowledged since are lost with
// it. But what is written from then on is whole, under numbers that were never used.
func TestRestoredDatabase(t *testing.T) {
	t.Parallel()
	pg := enginetest.NewPostgres(t)
	pool := pg.Pool(t, pg.APIURL)
	super := pg.Pool(t, pg.SuperuserURL)
	w := start(t, Config{URL: pg.APIURL})
	l := newLedger()
	load := startLoad(w, nil, l, 8)
	for _, restore := range []struct{ name, sql string }{
		{"a moment ago", `DELETE FROM argus.argus_audit_log l USING argus.audit_writers w
			WHERE l.writer_id = w.writer_id AND w.closed_at IS NULL AND l.seq > w.seq - 5 RETURNING l.id`},
		{"before this process", `DELETE FROM argus.argus_audit_log l RETURNING l.id`},
	} {
		load.more(t, 100)
		ctx := context.Background()
		lost := map[uuid.UUID]bool{}
		greatest := scalar[int64](t, pool, `SELECT max(writer_id) FROM argus.audit_writers`)
		err := pgx.BeginFunc(ctx, super, func(tx pgx.Tx) error {
			if _, err := tx.Exec(ctx, `SET LOCAL session_replication_role = replica`); err != nil { // no triggers
				return err
			}
			// In the order in which batches take them.
			if _, err := tx.Exec(ctx, `LOCK argus.argus_audit_log, argus.audit_writers IN ACCESS EXCLUSIVE MODE`); err != nil {
				return err
			}
			rows, err := tx.Query(ctx, restore.sql)
			if err != nil {
				return err
			}
			var id uuid.UUID
			if _, err := pgx.ForEachRow(rows, []any{&id}, func() error { lost[id] = true; return nil }); err != nil {
				return err
			}
			if restore.name == "before this process" {
				_, err = tx.Exec(ctx, `DELETE FROM argus.audit_writers`)
				if err == nil {
					_, err = tx.Exec(ctx, `DELETE FROM argus.audit_processes`)
				}
				return err
			}
			_, err = tx.Exec(ctx, `UPDATE argus.audit_writers w SET seq = greatest(seq - 5, 0) WHERE closed_at IS NULL`)
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
		if len(lost) == 0 {
			t.Fatalf("%s: nothing was lost by it", restore.name)
		}
		load.more(t, 100)
		load.stop()
		l.mu.Lock()
		for id := range lost {
			delete(l.acknowledged, id)
		}
		l.mu.Unlock()
		l.check(t, pool)
		if least := scalar[int64](t, pool, fmt.Sprintf(`SELECT count(*) FROM argus.audit_writers WHERE writer_id > %d`, greatest)); least == 0 {
			t.Errorf("%s: no new writer", restore.name)
		}
		load = startLoad(w, nil, l, 8)
	}
	load.stop()
}
