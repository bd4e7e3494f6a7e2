package writer

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/useargus/argus"
	"github.com/useargus/argus/internal/engines/enginetest"
)

// TestMonths: rows go into the month's partition where there is one that takes them, and otherwise into the log. An owner changes
// partitions under load: calls are answered, and the log is whole.
func TestMonths(t *testing.T) {
	t.Parallel()
	pg := enginetest.NewPostgres(t)
	enginetest.WithinMonth(t, 5*time.Minute)
	pool, owner := pg.Pool(t, pg.APIURL), pg.Pool(t, pg.SuperuserURL)
	// A slow answer is no fault here: each fault would open a lane anew.
	w := start(t, Config{URL: pg.APIURL, Wait: time.Minute, tuning: tuning{heartbeat: 50 * time.Millisecond, roundTrip: time.Minute, dead: time.Hour}})
	l := newLedger()
	month := scalar[string](t, owner, `SELECT partition FROM argus.audit_months WHERE month = date_trunc('month', now())::date`)
	found := func() bool { return monthNow(w) == "argus."+month }
	eventually(t, "the heartbeat finds the month", found)
	look := func() { // at the next heartbeat
		w.heartbeat.mu.Lock()
		defer w.heartbeat.mu.Unlock()
		w.heartbeat.counted = time.Time{}
	}
	eventually(t, "both lanes are open", func() bool { return w.health.lanesOpen() == 2 })
	writers := func() int { return scalar[int](t, pool, `SELECT count(*)::int FROM argus.audit_writers`) }
	call := func(what string) {
		t.Helper()
		before := writers()
		for n := range 6 { // two have intents
			if err := l.call(w, pool, n); err != nil {
				t.Fatalf("%s: %v", what, err)
			}
		}
		if n := writers() - before; n != 0 {
			t.Errorf("%s: lanes opened %d times", what, n)
		}
	}
	const closed = `CREATE FUNCTION argus.shut() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'shut'; END $$;
		CREATE TRIGGER shut BEFORE INSERT ON argus.%s FOR EACH STATEMENT EXECUTE FUNCTION argus.shut()`
	const open = `DROP FUNCTION argus.shut() CASCADE`
	exec(t, owner, fmt.Sprintf(closed, "argus_audit_log"))
	call("while the log itself takes nothing")
	exec(t, owner, open)

	// A batch of this month, and one over its beginning, which no partition holds.
	conn, err := pgx.Connect(t.Context(), pg.APIURL)
	if err != nil {
		t.Fatal(err)
	}
	writer := scalar[int64](t, pool, `SELECT argus.open_audit_writer($1, 9)`, w.process.current()) // of a process that lives
	s, err := newSession(t.Context(), context.Background(), conn, "a batch", &w.months)
	if err != nil {
		t.Fatal(err)
	}
	defer s.close()
	r := &rival{s}
	present, before := exampleRecord(1), exampleRecord(2)
	before.OccurredAt = before.OccurredAt.UTC().AddDate(0, 0, -before.OccurredAt.UTC().Day())
	for seq, batch := range [][]*argus.Record{{present}, {exampleRecord(3), before}} {
		err := r.commit(writer, int64(seq), batch...)
		if into := s.into; err != nil || (into == nil) != (len(batch) == 2) {
			t.Errorf("a batch of %d went into %v: %v", len(batch), into, err)
		}
		for _, rec := range batch {
			l.note(rec, false, err)
		}
	}

	for _, c := range []struct{ what, do, undo string }{
		{"no right to insert into the month", "REVOKE INSERT ON argus.%s FROM argus_api", "GRANT INSERT ON argus.%s TO argus_api"},
		{"the month has another name", "ALTER TABLE argus.%s RENAME TO november", "ALTER TABLE argus.november RENAME TO %s"},
	} {
		look()
		eventually(t, "the month is found again", found)
		exec(t, owner, fmt.Sprintf(c.do, month))
		call(c.what)
		exec(t, owner, fmt.Sprintf(c.undo, month))
	}
	// Without its trigger a partition is not used.
	exec(t, owner, "DROP TRIGGER rows_follow_writer ON argus."+month)
	look()
	eventually(t, "the month is left out", func() bool { return monthNow(w) == "" })
	call("without the trigger")
	l.check(t, pool)
}

// monthNow is the partition for a row of this moment that the heartbeat has found.
func monthNow(w *Writer) string {
	if months := w.months.Load(); months != nil {
		for _, m := range *months {
			if m.holds([]*entry{{occurredAt: time.Now()}}) {
				return m.table
			}
		}
	}
	return ""
}

// TestMonthLock: a batch with intents waits for what alters the log before it locks a partition. Otherwise each would wait for
// the other.
func TestMonthLock(t *testing.T) {
	t.Parallel()
	pg := enginetest.NewPostgres(t)
	pool, owner := pg.Pool(t, pg.APIURL), pg.Pool(t, pg.SuperuserURL)
	w := start(t, Config{URL: pg.APIURL, Lanes: 1, Wait: time.Minute, tuning: tuning{roundTrip: time.Minute}})
	eventually(t, "the heartbeat finds the month", func() bool { return monthNow(w) != "" })
	r := exampleRecord(1)
	if err := intend(w, pool, r); err != nil {
		t.Fatal(err)
	}
	ctx := context.Background()
	tx, err := owner.Begin(ctx)
	if err != nil {
		t.Fatal(err)
	}
	defer tx.Rollback(ctx)
	lock := func(table string) {
		t.Helper()
		if _, err := tx.Exec(ctx, "LOCK TABLE ONLY "+table+" IN ACCESS EXCLUSIVE MODE NOWAIT"); err != nil {
			t.Errorf("locking %s: %v", table, err)
		}
	}
	lock(auditLog)
	done := make(chan error, 1)
	go func() { done <- w.Append(ctx, r, true) }()
	eventually(t, "the batch waits for the log", func() bool {
		return scalar[bool](t, owner, `SELECT EXISTS (SELECT FROM pg_locks WHERE relation = 'argus.argus_audit_log'::regclass AND NOT granted)`)
	})
	lock(monthNow(w))
	if err := tx.Rollback(ctx); err != nil && err != pgx.ErrTxClosed {
		t.Error(err)
	}
	if err := <-done; err != nil {
		t.Error(err)
	}
}
