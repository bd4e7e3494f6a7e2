package replicator

import (
	"encoding/json"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/useargus/argus"
	"github.com/useargus/argus/internal/audittest"
	"github.com/useargus/argus/internal/engines"
	"github.com/useargus/argus/internal/engines/enginetest"
)

// TestStream follows ordinary and extraordinary writing with one replicator. Lanes open and close, rows are late by months,
// and a batch lies across a month. There are steps, a large transaction, and columns that one side does not have.
func TestStream(t *testing.T) {
	w := newWorld(t)
	w.months(3)
	w.start()
	w.caughtUp()
	stop := w.load(3, time.Now)

	boundary := monthOf(time.Now()).from()
	l := w.openLane()
	w.must(l.commit(400, boundary.Add(-7*time.Millisecond), nil)) // 37 µs apart: half of them before
	l.write(10, ago(40))
	l.write(10, time.Now())

	large := 100_000
	if rounds() >= 100 {
		large = 1_000_000
	}
	w.openLane().write(large, time.Now())

	stop()
	w.verify()
	w.verifyCheck(true)
}

// TestNewColumn: a column that only Postgres has is left out, one that both have is copied, and a change in the
// middle of a stream holds up nothing.
func TestNewColumn(t *testing.T) {
	w := newWorld(t)
	l := w.openLane()
	l.write(5, time.Now())
	w.start()
	w.caughtUp()
	l.write(5, time.Now())
	w.must(w.copy.Exec(w.ctx(), "ALTER TABLE audit_log ADD COLUMN note Nullable(String), ADD COLUMN weight Int64"))
	owner := w.pg.Pool(t, w.pg.OwnerURL)
	for _, q := range []string{
		"ALTER TABLE argus.argus_audit_log ADD COLUMN only_here point",
		"ALTER TABLE argus.argus_audit_log ADD COLUMN note text, ADD COLUMN weight int",
	} {
		_, err := owner.Exec(w.ctx(), q)
		w.must(err)
		l.write(7, time.Now())
	}
	l.seq++
	rec := l.record(time.Now())
	rec.Seq = l.seq
	rec.RowHash = rec.ComputeHash()
	_, err := w.api.Exec(w.ctx(), "UPDATE argus.audit_writers SET seq = $2 WHERE writer_id = $1", l.id, l.seq)
	w.must(err)
	_, err = w.api.CopyFrom(w.ctx(), pgx.Identifier{"argus", "argus_audit_log"}, append(argus.ColumnNames(), "note", "weight"),
		pgx.CopyFromRows([][]any{append(audittest.Values(&rec), "hello", 42)}))
	w.must(err)
	w.verify()
	var note string
	var weight int64
	w.must(w.copy.QueryRow(w.ctx(), "SELECT assumeNotNull(note), weight FROM audit_log WHERE seq = "+joinInts([]int64{l.seq})).Scan(&note, &weight))
	if note != "hello" || weight != 42 {
		t.Errorf("the new columns hold %q and %d", note, weight)
	}
	log, err := os.ReadFile(w.logs)
	w.must(err)
	if !strings.Contains(string(log), "only_here") || strings.Contains(string(log), "column=note") {
		t.Error("the column that is left out was not said, or another was")
	}
}

// TestIdle: a database where nothing is audited does not hold back the log of the whole server. The watermark shows life.
// The status is there for the API.
func TestIdle(t *testing.T) {
	w := newWorld(t)
	w.start()
	w.caughtUp()
	super := w.pg.Pool(t, w.pg.SuperuserURL)
	_, err := super.Exec(w.ctx(), "CREATE TABLE public.noise AS SELECT g, repeat('x', 500) FROM generate_series(1, 20000) g")
	w.must(err)
	var end string
	w.must(super.QueryRow(w.ctx(), "SELECT pg_current_wal_lsn()::text").Scan(&end))
	for deadline := time.Now().Add(90 * time.Second); ; time.Sleep(50 * time.Millisecond) {
		var passed bool
		w.must(super.QueryRow(w.ctx(), "SELECT confirmed_flush_lsn >= $1::pg_lsn FROM pg_replication_slots WHERE slot_name = $2",
			end, w.slot()).Scan(&passed))
		if passed {
			break
		}
		if time.Now().After(deadline) {
			t.Fatal("the slot does not move while nothing is audited")
		}
	}
	for deadline := time.Now().Add(90 * time.Second); ; time.Sleep(50 * time.Millisecond) {
		var data []byte
		var age float64
		var s Status
		w.must(w.api.QueryRow(w.ctx(), "SELECT status, extract(epoch FROM clock_timestamp() - updated_at)::float8 FROM argus.replicator_status").Scan(&data, &age))
		w.must(json.Unmarshal(data, &s))
		if s.State == "streaming" && s.LagSeconds == 0 && s.Slot.WALStatus == "reserved" && s.WatermarkAt != nil && age < 5 {
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("the status is %s, %.1f s old", data, age)
		}
	}
}

// TestPostgres15 does with the oldest Postgres what most tests do with the newest.
func TestPostgres15(t *testing.T) {
	w := newOwnWorld(t, engines.PostgresConfig{BinDir: enginetest.Postgres15()})
	l := w.openLane()
	w.must(l.commit(300, time.Now(), func(tx pgx.Tx, r []argus.Record) error { return insertSteps(tx, &r[7]) }))
	w.startChild("inserted", 3).waitWhile(w.load(2, time.Now))
	w.must(w.pg.Engine().StopImmediate())
	w.pg.Restart(t)
	w.api.Reset()
	stop := w.load(2, time.Now)
	w.start()
	time.Sleep(300 * time.Millisecond)
	stop()
	w.verify()
	w.verifyCheck(true)
}

// waitWhile waits for the child's own end and stops the load then.
func (c *child) waitWhile(stop func() int64) {
	c.t.Helper()
	c.wait()
	stop()
}

// TestMetrics: the names are there, once.
func TestMetrics(t *testing.T) {
	registry := prometheus.NewRegistry()
	newMetrics(registry, "argus").rows.WithLabelValues("audit_log").Inc()
	families, err := registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		if !strings.HasPrefix(f.GetName(), "argus_replicator_") || f.GetHelp() == "" {
			t.Errorf("the metric %s has another stage's name, or no help", f.GetName())
		}
	}
}
