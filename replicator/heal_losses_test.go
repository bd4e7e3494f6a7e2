package replicator

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/useargus/argus"
	"github.com/useargus/argus/internal/engines"
)

// filled is a world whose log goes back some months, copied, with no replicator running.
func filled(t *testing.T, w *world) *lane {
	t.Helper()
	w.months(4)
	l := w.openLane()
	for i := range 20 {
		w.must(l.commit(40, ago(4*i), func(tx pgx.Tx, records []argus.Record) error { return insertSteps(tx, &records[3]) }))
	}
	stop := w.start()
	w.caughtUp()
	stop()
	return l
}

// TestHeal loses or forges things in ClickHouse and Postgres. The replicator must find, name and mend them. First come many
// in one go, each in months and rows of its own. Then comes each loss that stops or moves the stream.
func TestHeal(t *testing.T) {
	w := newWorld(t)
	l := filled(t, w)
	id := fmt.Sprint(l.id)
	const sync = " SETTINGS mutations_sync = 2"
	exec := func(query string) {
		t.Helper()
		w.must(w.copy.Exec(w.ctx(), query))
	}
	losses := map[string]string{
		"audit_log, " + monthOf(ago(35)).String():            fmt.Sprintf("ALTER TABLE audit_log DROP PARTITION ID '%d'", monthOf(ago(35))),
		"audit_log, " + monthOf(ago(0)).String():             "INSERT INTO audit_log SELECT * FROM audit_log WHERE seq <= 9 AND writer_id = " + id,
		"audit_log, " + monthOf(ago(68)).String():            "ALTER TABLE audit_log DELETE WHERE seq = 720" + sync,
		"Postgres has no such row":                           "INSERT INTO audit_log (writer_id, seq, occurred_at) VALUES (" + id + ", 12345, now64(6)), (77, 1, now64(6))",
		"do not make the row_hash":                           "ALTER TABLE audit_log UPDATE actor_id = 'user_nobody' WHERE seq = 17" + sync,
		"compute_control_audit, " + monthOf(ago(4)).String(): "ALTER TABLE compute_control_audit DELETE WHERE step = 2" + sync,
		"remote_support_audit, " + monthOf(ago(70)).String(): "ALTER TABLE remote_support_audit UPDATE reason = 'another' WHERE step = 1" + sync,
		"test_by_day, " + monthOf(ago(4)).String():           "INSERT INTO test_by_day SELECT * FROM test_by_day",
		"test_by_minute, " + monthOf(ago(70)).String():       "ALTER TABLE test_by_minute DELETE WHERE 1" + sync,
		// Days are made of hours: of the one month the days are lost, of the other the hours.
		"audit_rollup_days, " + monthOf(ago(4)).String():   fmt.Sprintf("ALTER TABLE audit_rollup_days DELETE WHERE toYYYYMM(at) = %d", monthOf(ago(4))) + sync,
		"audit_rollup_hours, " + monthOf(ago(70)).String(): fmt.Sprintf("ALTER TABLE audit_rollup_hours DELETE WHERE toYYYYMM(at) = %d", monthOf(ago(70))) + sync,
	}
	for _, loss := range losses {
		exec(loss)
	}
	// Forged, hash and all.
	exec("ALTER TABLE audit_log UPDATE row_hash = reverse(row_hash) WHERE seq = 25" + sync)
	result := w.verifyCheck(false)
	for words := range losses {
		if !strings.Contains(strings.Join(result.Differences, "\n"), words) {
			t.Errorf("Check has not found %q", words)
		}
	}
	t.Log(strings.Join(result.Differences, "\n"))
	w.resync()
	stop := w.start()
	w.verify()
	stop()
	// The two rows of no writer, the altered and the forged one, and the altered steps of step 1.
	if got := w.orphans(); got != 2+1+1+20 {
		t.Errorf("%d orphans were moved, want 24", got)
	}
	if w.admin("resync", healResync) != 1 {
		t.Error("the resync was not recorded")
	}
	w.verifyCheck(true)

	for reason, loss := range map[string]func(){
		healLostMark: func() {
			for _, table := range []string{"audit_log", "compute_control_audit", "remote_support_audit", "audit_watermark",
				"replicator_epoch", "test_by_minute", "test_by_day"} {
				exec("TRUNCATE TABLE " + table)
			}
		},
		healSlotLost: func() {
			w.dropSlot()
			l.write(50, time.Now())
		},
		healSlotMoved: func() {
			l.write(50, time.Now())
			_, err := w.pg.Pool(t, w.pg.SuperuserURL).Exec(w.ctx(), "SELECT pg_replication_slot_advance($1, pg_current_wal_lsn())", w.slot())
			w.must(err)
		},
	} {
		loss()
		l.write(30, time.Now())
		stop := w.start()
		w.awaitAdmin(reason)
		w.verify()
		stop()
	}
	w.verifyCheck(true)
}

func (w *world) orphans() (n uint64) {
	w.t.Helper()
	for _, table := range tables {
		var k uint64
		w.must(w.copy.QueryRow(w.ctx(), "SELECT count() FROM "+table.orphans).Scan(&k))
		n += k
	}
	return n
}

// TestPeriodicComparison: what is lost while the replicator runs is noticed by itself.
func TestPeriodicComparison(t *testing.T) {
	w := newWorld(t)
	w.change = func(c *Config) { c.CheckEvery = 300 * time.Millisecond }
	l := filled(t, w)
	w.start()
	l.write(100, time.Now())
	w.caughtUp()
	w.must(w.copy.Exec(w.ctx(), "ALTER TABLE audit_log DELETE WHERE seq > 800 SETTINGS mutations_sync = 2"))
	w.awaitAdmin(healDifference)
	w.verify()
}

// awaitAdmin waits until a healing for the reason has been recorded.
func (w *world) awaitAdmin(reason string) {
	w.t.Helper()
	for deadline := time.Now().Add(60 * time.Second); w.admin("heal", reason) == 0; time.Sleep(50 * time.Millisecond) {
		if time.Now().After(deadline) {
			w.t.Fatalf("no healing (%s) took place", reason)
		}
	}
}

// TestRestoredPostgres brings Postgres back to an earlier moment, as a restored backup of its files does, and
// goes on writing there.
func TestRestoredPostgres(t *testing.T) {
	for _, keepSlot := range []bool{false, true} {
		t.Run(fmt.Sprintf("slot-%t", keepSlot), func(t *testing.T) {
			w := newOwnWorld(t, engines.PostgresConfig{})
			w.months(4)
			l := w.openLane()
			l.write(500, ago(20))
			stop := w.start()
			w.caughtUp()
			stop()
			engine := w.pg.Engine()
			data := filepath.Join(engine.Config().Dir, "data")
			backup := filepath.Join(t.TempDir(), "data")
			w.api.Reset()
			w.must(engine.Stop(w.ctx()))
			copyTree(t, data, backup)
			w.pg.Restart(t)

			// What the restored one will not know: more rows of a lane it knows, and a lane it does not.
			l.write(70, time.Now())
			lost := w.openLane()
			w.must(lost.commit(60, ago(10), func(tx pgx.Tx, r []argus.Record) error { return insertSteps(tx, &r[0]) }))
			stop = w.start()
			w.verify()
			stop()

			w.api.Reset()
			w.must(w.pg.Engine().Kill(syscall.SIGKILL))
			w.must(os.RemoveAll(data))
			copyTree(t, backup, data)
			if !keepSlot {
				w.must(os.RemoveAll(filepath.Join(data, "pg_replslot", w.slot())))
			}
			w.pg.Restart(t)
			again := &lane{w: w, id: l.id, seq: 500, random: l.random}
			again.write(90, time.Now()) // the same numbers, other rows
			w.openLane().write(40, time.Now())
			w.start()
			w.awaitAdmin(healRestored)
			w.verify()
			if got := w.orphans(); got != 70+60+3 {
				t.Errorf("%d orphans were moved, want %d", got, 70+60+3)
			}
			if w.admin("heal", healRestored) != 1 {
				t.Error("the restored Postgres was not noticed")
			}
		})
	}
}

func copyTree(t *testing.T, from, to string) {
	t.Helper()
	if out, err := exec.Command("cp", "-a", from, to).CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
}
