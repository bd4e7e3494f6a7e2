package replicator

import (
	"testing"
	"time"
)

// TestCheckAwaitsTheSuccessor: a replicator was killed when a rollup had a batch and the rows did not. Its lease still stands.
// Check looks at the lease until a successor has ended the batch, and finds nothing.
func TestCheckAwaitsTheSuccessor(t *testing.T) {
	w := newWorld(t)
	l := filled(t, w)
	l.write(30, time.Now())
	super := w.pg.Pool(t, w.pg.SuperuserURL)
	_, err := super.Exec(w.ctx(), "UPDATE argus.replicator_lease SET expires_at = now() + interval '1 hour' WHERE slot = $1", w.slot())
	w.must(err)
	w.must(w.copy.Exec(w.ctx(), "INSERT INTO test_by_day (day, actor_id, n) VALUES (toStartOfDay(now()), 'half', 1)"))
	tx, err := super.Begin(w.ctx())
	w.must(err)
	_, err = tx.Exec(w.ctx(), "LOCK TABLE argus.replicator_lease IN ACCESS EXCLUSIVE MODE")
	w.must(err)
	r, err := New(w.config())
	w.must(err)
	defer r.Close()
	c := &checking{r: r}
	done := make(chan error, 1)
	go func() { done <- c.rollups(w.ctx(), []month{monthOf(time.Now())}) }()
	w.eventually("Check waits to look at the lease, or ends", func() (waits bool) {
		w.must(super.QueryRow(w.ctx(), "SELECT EXISTS (SELECT FROM pg_locks WHERE relation = 'argus.replicator_lease'::regclass AND NOT granted)").Scan(&waits))
		return waits || len(done) > 0
	})
	w.must(w.copy.Exec(w.ctx(), "ALTER TABLE test_by_day DELETE WHERE actor_id = 'half' SETTINGS mutations_sync = 2"))
	w.must(tx.Rollback(w.ctx()))
	stop := w.start()
	defer stop()
	w.must(<-done)
	if len(c.result.Differences) > 0 || c.result.Rollups < len(testRollups)/2 {
		t.Errorf("Check says: %s", c.result)
	}
}
