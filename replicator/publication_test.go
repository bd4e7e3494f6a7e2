package replicator

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/useargus/argus"
	"github.com/useargus/argus/internal/engines"
	"github.com/useargus/argus/internal/engines/enginetest"
)

// owner runs statements as the owner of the schema.
func (w *world) owner(statements ...string) {
	w.t.Helper()
	pool := w.pg.Pool(w.t, w.pg.OwnerURL)
	for _, q := range statements {
		_, err := pool.Exec(w.ctx(), q, pgx.QueryExecModeSimpleProtocol)
		w.must(err)
	}
}

// bothServers runs the test with the newest and the oldest Postgres.
func bothServers(t *testing.T, f func(t *testing.T, w *world)) {
	for name, bin := range map[string]string{"newest": "", "15": "/usr/lib/postgresql/15/bin"} {
		t.Run(name, func(t *testing.T) { f(t, newOwnWorld(t, engines.PostgresConfig{BinDir: bin})) })
	}
}

// promises holds the watermark to ClickHouse until stopped: at no time does a position promise a row that is not
// there. It reads the watermark first, as every reader does.
func (w *world) promises() (stop func()) {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	s, err := openClickHouse(w.ch.MigrateURL)
	w.must(err)
	go func() {
		defer close(done)
		defer s.close()
		for sleep(ctx, 50*time.Millisecond) == nil {
			mark, ok, err := s.watermark(ctx)
			if err != nil || !ok {
				continue
			}
			rows, err := s.strings(ctx, "SELECT concat(toString(writer_id), '/', toString(seq)) FROM audit_log")
			if err != nil {
				continue
			}
			there := map[string]bool{}
			for _, r := range rows {
				there[r] = true
			}
			for id, through := range mark.position.Writers {
				for seq := int64(1); seq <= through; seq++ {
					if !there[fmt.Sprintf("%d/%d", id, seq)] {
						w.t.Errorf("the watermark promises row %d of writer %d, which is not there: %s", seq, id, mark.position)
						return
					}
				}
			}
		}
	}()
	return func() { cancel(); <-done }
}

// TestPublicationIsMadeAnew drops the publication and makes it again while calls are written, in two statements as in
// one transaction. The copy must become whole by itself.
func TestPublicationIsMadeAnew(t *testing.T) {
	bothServers(t, func(t *testing.T, w *world) {
		w.start()
		w.caughtUp()
		watching := w.promises()
		for _, advice := range [][]string{
			{"DROP PUBLICATION argus", "CREATE PUBLICATION argus FOR TABLE argus.argus_audit_log, argus.compute_control_audit, " +
				"argus.remote_support_audit WITH (publish = 'insert', publish_via_partition_root = true)"},
			{PublicationSQL("argus")},
		} {
			before := w.admin("heal", healPublication)
			stop := w.load(2, time.Now)
			time.Sleep(300 * time.Millisecond)
			for _, q := range advice {
				w.owner(q)
				time.Sleep(1500 * time.Millisecond)
			}
			w.eventually("a healing", func() bool { return w.admin("heal", healPublication) > before })
			stop()
			w.verify()
		}
		watching()
		w.verifyCheck(true)
	})
}

// eventually waits for a condition.
func (w *world) eventually(what string, ok func() bool) {
	w.t.Helper()
	for deadline := time.Now().Add(60 * time.Second); !ok(); time.Sleep(50 * time.Millisecond) {
		if time.Now().After(deadline) {
			w.t.Fatalf("%s did not come", what)
		}
	}
}

// TestThinnedStream takes rows or columns out of the stream in every way that Postgres has, writes, and takes it back.
// While it is so nothing may be promised that is not there, and the replicator says what is wrong; afterwards nothing
// is missing.
func TestThinnedStream(t *testing.T) {
	const list = "argus.argus_audit_log, argus.compute_control_audit, argus.remote_support_audit"
	again := PublicationSQL("argus")
	steps := "id, step, at, actor_id, action, result"
	for _, test := range []struct {
		name, thin, mend, says string
	}{
		{"a table dropped", "ALTER PUBLICATION argus DROP TABLE argus.argus_audit_log",
			"ALTER PUBLICATION argus ADD TABLE argus.argus_audit_log", "it lacks the table argus.argus_audit_log"},
		{"steps dropped", "ALTER PUBLICATION argus DROP TABLE argus.compute_control_audit",
			"ALTER PUBLICATION argus ADD TABLE argus.compute_control_audit", "it lacks the table argus.compute_control_audit"},
		{"a row filter", "ALTER PUBLICATION argus SET TABLE argus.argus_audit_log WHERE (seq % 2 = 0), argus.compute_control_audit, argus.remote_support_audit",
			"ALTER PUBLICATION argus SET TABLE " + list, "it filters the rows of argus.argus_audit_log"},
		{"a list of columns", "ALTER PUBLICATION argus SET TABLE argus.argus_audit_log, argus.compute_control_audit (audit_" + steps + "), argus.remote_support_audit",
			"ALTER PUBLICATION argus SET TABLE " + list, "it leaves out columns of argus.compute_control_audit: error, from_state"},
		{"no inserts", "ALTER PUBLICATION argus SET (publish = 'update')", "ALTER PUBLICATION argus SET (publish = 'insert')", "it does not publish inserts"},
		{"partitions by themselves", "ALTER PUBLICATION argus SET (publish_via_partition_root = false)",
			"ALTER PUBLICATION argus SET (publish_via_partition_root = true)", "publish_via_partition_root is off"},
		{"no publication", "DROP PUBLICATION argus", again, "there is no publication argus"},
		{"renamed away", "ALTER PUBLICATION argus RENAME TO theirs", "ALTER PUBLICATION theirs RENAME TO argus", "there is no publication argus"},
		{"one partition alone", "DO $$ BEGIN EXECUTE 'DROP PUBLICATION argus; CREATE PUBLICATION argus FOR TABLE argus.compute_control_audit, argus.remote_support_audit, argus.argus_audit_log'" +
			" || to_char(now() - interval '1 month', '\"_y\"YYYY\"m\"MM') || ' WITH (publish = ''insert'', publish_via_partition_root = true)'; END $$",
			again, "it lacks the table argus.argus_audit_log"},
		{"a partition that is not logged", "DO $$ BEGIN EXECUTE 'ALTER TABLE argus.argus_audit_log' || to_char(now(), '\"_y\"YYYY\"m\"MM') || ' SET UNLOGGED'; END $$",
			"DO $$ BEGIN EXECUTE 'ALTER TABLE argus.argus_audit_log' || to_char(now(), '\"_y\"YYYY\"m\"MM') || ' SET LOGGED'; END $$", "not in the write-ahead log"},
	} {
		t.Run(test.name, func(t *testing.T) {
			w := newWorld(t)
			enginetest.WithinMonth(t, 2*time.Minute)
			stepsEvery = 300 * time.Millisecond
			l, random := w.openLane(), w.openLane().random
			w.start()
			w.caughtUp()
			watching := w.promises()
			write := func() {
				t.Helper()
				w.must(l.commit(5, time.Now(), func(tx pgx.Tx, r []argus.Record) error { return insertSteps(tx, &r[random.IntN(5)]) }))
			}
			write()
			w.caughtUp()
			// Quickly: the replicator may not look in between.
			w.owner(test.thin)
			write()
			w.owner(test.mend)
			write()
			w.verify()
			// Slowly: it says what is wrong, also to argusd check.
			w.owner(test.thin)
			write()
			if thins := w.thins(); !strings.Contains(strings.Join(thins, "; "), test.says) {
				t.Errorf("the publication is said to be %q, want %q", thins, test.says)
			}
			w.eventually("the reason", func() bool { return strings.Contains(w.status().LastError, test.says) && w.status().State == "failing" })
			write()
			w.owner(test.mend)
			write()
			w.verify()
			watching()
			w.verifyCheck(true)
			if thins := w.thins(); len(thins) > 0 {
				t.Errorf("mended, it is said to be %q", thins)
			}
		})
	}
}

func (w *world) thins() []string {
	w.t.Helper()
	conn, err := pgx.Connect(w.ctx(), w.pg.ReplicatorURL)
	w.must(err)
	defer conn.Close(w.ctx())
	p, err := InspectPublication(w.ctx(), conn, "argus")
	w.must(err)
	return p.Thins
}

// TestHarmlessPublications lose nothing, and are not rejected.
func TestHarmlessPublications(t *testing.T) {
	w := newWorld(t)
	l := w.openLane()
	w.start()
	w.caughtUp()
	for _, q := range []string{
		"DROP PUBLICATION argus; CREATE PUBLICATION argus FOR TABLES IN SCHEMA argus WITH (publish_via_partition_root = true)",
		"DROP PUBLICATION argus; CREATE PUBLICATION argus FOR ALL TABLES WITH (publish = 'insert, delete', publish_via_partition_root = true)",
	} {
		_, err := w.pg.Pool(t, w.pg.SuperuserURL).Exec(w.ctx(), q)
		w.must(err)
		w.must(l.commit(5, time.Now(), func(tx pgx.Tx, r []argus.Record) error { return insertSteps(tx, &r[1]) }))
		if thins := w.thins(); len(thins) > 0 {
			t.Errorf("%s is rejected: %q", q, thins)
		}
		w.verify()
	}
	_, err := w.pg.Pool(t, w.pg.SuperuserURL).Exec(w.ctx(), PublicationSQL("argus"), pgx.QueryExecModeSimpleProtocol)
	w.must(err)
}

// TestColumnsAreCopied: both stores have the same columns, the listed ones among them.
func TestColumnsAreCopied(t *testing.T) {
	w := newWorld(t)
	r, err := New(w.config())
	w.must(err)
	defer r.Close()
	layouts, err := r.layouts(w.ctx(), r.pool)
	w.must(err)
	for i, l := range layouts {
		if len(l.left) > 0 || len(l.shared()) < len(tables[i].columns) {
			t.Errorf("%s has the columns %v, and %v are left out", tables[i].postgres, l.shared(), l.left)
		}
	}
}

// TestSlotIsMoved: another program moved, replaced or restored the slot while nothing read it.
func TestSlotIsMoved(t *testing.T) {
	w := newWorld(t)
	l := w.openLane()
	stop := w.start()
	w.caughtUp()
	super := w.pg.Pool(t, w.pg.SuperuserURL)
	for _, q := range []string{
		"SELECT pg_replication_slot_advance($1, pg_current_wal_lsn())",
		"SELECT pg_drop_replication_slot($1), pg_create_logical_replication_slot($1, 'pgoutput')",
		"SELECT pg_copy_logical_replication_slot($1, 'theirs_' || $1), pg_drop_replication_slot($1), pg_copy_logical_replication_slot('theirs_' || $1, $1), pg_drop_replication_slot('theirs_' || $1)",
	} {
		stop()
		w.eventually("a free slot", func() bool {
			var active bool
			w.must(super.QueryRow(w.ctx(), "SELECT active FROM pg_replication_slots WHERE slot_name = $1", w.slot()).Scan(&active))
			return !active
		})
		w.must(l.commit(5, time.Now(), func(tx pgx.Tx, r []argus.Record) error { return insertSteps(tx, &r[1]) }))
		_, err := super.Exec(w.ctx(), strings.ReplaceAll(q, "$1", "'"+w.slot()+"'"))
		w.must(err)
		stop = w.start()
		watching := w.promises()
		l.write(5, time.Now())
		w.verify()
		watching()
	}
}
