package writer

import (
	"context"
	"fmt"
	"os"
	"strconv"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/useargus/argus/internal/engines"
	"github.com/useargus/argus/internal/engines/enginetest"
)

// quick are shorter times, so that a fault and its end fit into a test.
var quick = tuning{
	roundTrip: 400 * time.Millisecond, connect: 400 * time.Millisecond, retry: 20 * time.Millisecond, grace: 50 * time.Millisecond,
	heartbeat: 200 * time.Millisecond, dead: 6 * time.Second, afterOutage: 500 * time.Millisecond,
}

// rounds is how often a fault happens: once in a while, or often with ARGUS_CRASH_ROUNDS (make crash).
func rounds(t testing.TB, usual int) int {
	n, err := strconv.Atoi(os.Getenv("ARGUS_CRASH_ROUNDS"))
	if err != nil {
		return usual
	}
	return max(n, usual)
}

// load keeps callers calling until stopped.
type load struct {
	ledger *ledger
	stop   func() // ends the callers and waits for their answers
}

func startLoad(w *Writer, pool *pgxpool.Pool, l *ledger, callers int) *load {
	var wg sync.WaitGroup
	var over atomic.Bool
	for c := range callers {
		wg.Go(func() {
			for n := c; !over.Load(); n++ {
				if l.call(w, pool, n) != nil {
					time.Sleep(20 * time.Millisecond)
				}
			}
		})
	}
	return &load{ledger: l, stop: func() {
		over.Store(true)
		wg.Wait()
	}}
}

// more waits until n further calls were acknowledged: the writer works.
func (l *load) more(t testing.TB, n int) {
	t.Helper()
	from, _ := l.ledger.count()
	eventually(t, "more acknowledged calls", func() bool { now, _ := l.ledger.count(); return now >= from+n })
}

// noIntentsLeft waits until no intent is left, which is when every call with effects has its row.
func noIntentsLeft(t testing.TB, pool *pgxpool.Pool) {
	t.Helper()
	eventually(t, "every intent resolved", func() bool {
		var n int64
		err := pool.QueryRow(context.Background(), `SELECT count(*) FROM argus.audit_intents`).Scan(&n)
		return err == nil && n == 0
	})
}

// TestNetworkFaults breaks the network at each statement of the writer in each way, under load, and holds the
// ledger against the log.
func TestNetworkFaults(t *testing.T) {
	t.Parallel()
	statements := []struct{ name, text string }{
		{"batch", batchText},
		{"connect", "application_name"},
		{"terminate the old backend", "pg_terminate_backend"},
		{"close the old writer", "coalesce(closed_at"},
		{"look up a batch in doubt", "SELECT EXISTS (SELECT FROM argus.argus_audit_log"},
		{"register", "INSERT INTO argus.audit_processes"},
		{"heartbeat", "UPDATE argus.audit_processes"},
		{"open", "argus.open_audit_writer"},
		{"prepare rows", "FROM STDIN"},
		{"prepare advance", "SELECT argus.advance_audit_writer"},
	}
	pg := enginetest.NewPostgres(t)
	pool := pg.Pool(t, pg.APIURL)
	l := newLedger()
	t.Run("at", func(t *testing.T) {
		for _, s := range statements {
			t.Run(s.name, func(t *testing.T) {
				t.Parallel()
				network := &faultNet{}
				w := start(t, Config{URL: pg.APIURL, tuning: quick, dial: network.dial, Wait: 600 * time.Millisecond})
				load := startLoad(w, pool, l, 3)
				load.more(t, 20)
				for range rounds(t, 1) {
					for f := range fault(faultsOfTheNet) {
						network.arm(s.text, f, 1)
						if s.text != batchText { // those statements are for when something is broken already
							killBackends(t, pg, "lane")
						}
						eventually(t, fmt.Sprintf("%s at %q", f, s.name), func() bool {
							if s.name == "register" {
								exec(t, pool, `DELETE FROM argus.audit_processes`)
							}
							return network.times() > 0
						})
						load.more(t, 20)
					}
				}
				load.stop()
			})
		}
	})
	start(t, Config{URL: pg.APIURL, tuning: quick}) // sweeps what the others could not write before they ended
	noIntentsLeft(t, pool)
	l.check(t, pool)
	acknowledged, failed := l.count()
	t.Logf("%d acknowledged, %d failed", acknowledged, failed)
}

// killBackends ends connections of writers in the database whose names hold the text.
func killBackends(t testing.TB, pg *enginetest.Postgres, text string) {
	t.Helper()
	conn, err := pgx.Connect(context.Background(), pg.SuperuserURL)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(context.Background())
	_, err = conn.Exec(context.Background(), `SELECT pg_terminate_backend(pid) FROM pg_stat_activity
		WHERE datname = current_database() AND application_name LIKE 'argus writer%' || $1 || '%'`, text)
	if err != nil {
		t.Fatal(err)
	}
}

// TestServerFaults lets Postgres itself fail at the end of a batch, in ways that tell that nothing was written, and
// in ways that do not tell.
func TestServerFaults(t *testing.T) {
	advance := func(body string) string {
		return `CREATE OR REPLACE FUNCTION argus.advance_audit_writer(writer bigint, from_seq bigint, to_seq bigint, intents uuid[])
			RETURNS void LANGUAGE plpgsql AS $$ BEGIN ` + body + ` END $$`
	}
	faults := []struct{ name, sql string }{
		{"an error", advance(`RAISE EXCEPTION 'no' USING ERRCODE = 'XX000';`)},
		{"disk full", advance(`RAISE EXCEPTION 'no' USING ERRCODE = '53100';`)},
		{"read only", advance(`SET LOCAL transaction_read_only = on; UPDATE argus.audit_writers SET closed_at = now() WHERE false;`)},
		{"deadlock", advance(`RAISE EXCEPTION 'no' USING ERRCODE = '40P01';`)},
		{"fenced", advance(`RAISE EXCEPTION 'no' USING ERRCODE = 'AR001';`)},
		{"a row rejected", advance(`RAISE EXCEPTION 'no' USING ERRCODE = '23514';`)},
		{"swept, but not saying which", advance(`RAISE EXCEPTION 'no' USING ERRCODE = 'AR002';`)},
		{"its own end", advance(`PERFORM pg_terminate_backend(pg_backend_pid());`)},
		{"never done", advance(`PERFORM pg_sleep(3600);`)},
		{"no privilege", `REVOKE EXECUTE ON FUNCTION argus.advance_audit_writer FROM argus_api`},
		{"no table", `ALTER TABLE argus.argus_audit_log RENAME TO gone`},
		{"no partition", `DO $$ BEGIN EXECUTE format('ALTER TABLE argus.argus_audit_log DETACH PARTITION argus.%I',
			(SELECT partition FROM argus.audit_months WHERE month = date_trunc('month', now())::date)); END $$`},
	}
	t.Parallel()
	pg := enginetest.NewPostgres(t)
	enginetest.WithinMonth(t, 5*time.Minute)
	pool := pg.Pool(t, pg.APIURL)
	owner := pg.Pool(t, pg.SuperuserURL)
	w := start(t, Config{URL: pg.APIURL, tuning: quick, Wait: 600 * time.Millisecond})
	l := newLedger()
	load := startLoad(w, pool, l, 6)
	// What undoes the faults, read from the catalog before.
	function := scalar[string](t, owner, `SELECT pg_get_functiondef('argus.advance_audit_writer'::regproc)`)
	month := scalar[string](t, owner, `SELECT partition FROM argus.audit_months WHERE month = date_trunc('month', now())::date`)
	for range rounds(t, 1) {
		for _, f := range faults {
			load.more(t, 20)
			exec(t, owner, f.sql)
			before := failedSoFar(l)
			eventually(t, f.name+": calls fail", func() bool { return failedSoFar(l) > before+6 })
			switch f.name {
			case "no table":
				exec(t, owner, `ALTER TABLE argus.gone RENAME TO argus_audit_log`)
			case "no partition":
				exec(t, owner, fmt.Sprintf(`ALTER TABLE argus.argus_audit_log ATTACH PARTITION argus.%s FOR VALUES FROM (%s) TO (%s)`, month,
					`date_trunc('month', now(), 'UTC')`, `date_trunc('month', now(), 'UTC') + interval '1 month'`))
			case "no privilege":
				exec(t, owner, `GRANT EXECUTE ON FUNCTION argus.advance_audit_writer TO argus_api`)
			default:
				exec(t, owner, function)
			}
		}
	}
	load.more(t, 50)
	load.stop()
	stop(t, w)
	// What could not be written while the writer lived, another sweeps.
	start(t, Config{URL: pg.APIURL, tuning: quick})
	noIntentsLeft(t, pool)
	l.check(t, pool)
}

func failedSoFar(l *ledger) int { _, failed := l.count(); return failed }

func exec(t testing.TB, pool *pgxpool.Pool, sql string, args ...any) {
	t.Helper()
	if _, err := pool.Exec(context.Background(), sql, args...); err != nil {
		t.Fatalf("%s: %v", sql, err)
	}
}

// TestPostgresCrashes kills Postgres under load: its lanes' backends one by one, a backend by SIGKILL (upon which
// Postgres restarts itself), an immediate shutdown, and a kill of the postmaster.
func TestPostgresCrashes(t *testing.T) {
	t.Parallel()
	pg := enginetest.StartOwnPostgres(t, engines.PostgresConfig{})
	pool := pg.Pool(t, pg.APIURL)
	w := start(t, Config{URL: pg.APIURL})
	l := newLedger()
	load := startLoad(w, pool, l, 16)
	random := seeded(t)
	for range rounds(t, 2) {
		for _, crash := range []struct {
			name string
			do   func()
		}{
			{"backends ended", func() { killBackends(t, pg, "lane") }},
			{"one backend killed", func() {
				var pid int
				conn, err := pgx.Connect(context.Background(), pg.SuperuserURL)
				if err != nil {
					t.Fatal(err)
				}
				defer conn.Close(context.Background())
				err = conn.QueryRow(context.Background(), `SELECT pid FROM pg_stat_activity WHERE application_name LIKE 'argus writer%lane%' LIMIT 1`).Scan(&pid)
				if err != nil {
					t.Fatal(err)
				}
				if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
					t.Fatal(err)
				}
			}},
			{"immediate shutdown", func() {
				if err := pg.Engine().StopImmediate(); err != nil {
					t.Fatal(err)
				}
				pg.Restart(t)
			}},
			{"postmaster killed", func() {
				if err := pg.Engine().Kill(syscall.SIGKILL); err != nil {
					t.Fatal(err)
				}
				pg.Restart(t)
			}},
		} {
			load.more(t, 200+random.IntN(200))
			crash.do()
			load.more(t, 1)
			t.Logf("after %s: %v", crash.name, w.Stage())
		}
	}
	load.more(t, 100)
	load.stop()
	noIntentsLeft(t, pool)
	if err := w.Close(context.Background()); err != nil {
		t.Error(err)
	}
	l.check(t, pool)
	acknowledged, failed := l.count()
	t.Logf("%d acknowledged, %d failed", acknowledged, failed)
}
