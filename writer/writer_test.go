package writer

import (
	"context"
	"sync"
	"testing"

	"github.com/useargus/argus/internal/engines/enginetest"
)

func TestAppendManyCallers(t *testing.T) {
	pg := enginetest.NewPostgres(t)
	pool := pg.Pool(t, pg.APIURL)
	w := start(t, Config{URL: pg.APIURL})
	l := newLedger()
	var wg sync.WaitGroup
	for c := range 64 {
		wg.Go(func() {
			for n := range 20 {
				if err := l.call(w, pool, c*1000+n); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	if a, _ := l.count(); a != 64*20 {
		t.Errorf("%d acknowledged", a)
	}
	l.check(t, pool)
	if n := scalar[int64](t, pool, `SELECT count(*) FROM argus.audit_intents`); n != 0 {
		t.Errorf("%d intents left", n)
	}
	if err := w.Close(context.Background()); err != nil {
		t.Fatal(err)
	}
	if n := scalar[int64](t, pool, `SELECT count(*) FROM argus.audit_writers WHERE closed_at IS NULL`); n != 0 {
		t.Errorf("%d writers left open", n)
	}
	if n := scalar[int64](t, pool, `SELECT count(*) FROM argus.audit_processes`); n != 0 {
		t.Errorf("%d processes left", n)
	}
}

// TestSynchronousCommit: an acknowledged row is on disk, against any default of the role.
func TestSynchronousCommit(t *testing.T) {
	pg := enginetest.NewPostgres(t)
	exec(t, pg.Pool(t, pg.SuperuserURL), `DO $$ BEGIN EXECUTE format('ALTER ROLE argus_api IN DATABASE %I SET synchronous_commit = off', current_database()); END $$`)
	w := start(t, Config{URL: pg.APIURL})
	conn, err := w.connect("a look at its settings")
	if err != nil {
		t.Fatal(err)
	}
	defer drop(conn)
	var v string
	if err := conn.QueryRow(context.Background(), `SHOW synchronous_commit`).Scan(&v); err != nil || v != "on" {
		t.Errorf("synchronous_commit is %q (%v)", v, err)
	}
}
