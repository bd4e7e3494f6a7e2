package replicator

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/useargus/argus/internal/engines/enginetest"
)

// refused runs a replicator until it says why it does not copy.
func (w *world) refused(c Config, says ...string) {
	w.t.Helper()
	c.Logger = w.logger()
	stop := w.startWith(c)
	defer stop()
	var last string
	defer func() {
		if w.t.Failed() {
			w.t.Logf("wanted %q, the last error: %s", says, last)
		}
	}()
	w.eventually("the refusal", func() bool {
		s := w.statusOf(c.Slot)
		last = s.LastError
		for _, text := range says {
			if !strings.Contains(last, text) {
				return false
			}
		}
		return s.State == "failing"
	})
}

// checked: argusd replicator --check compares nothing, and says why.
func (w *world) checked(c Config, says string) {
	w.t.Helper()
	r, err := New(c)
	w.must(err)
	defer r.Close()
	if result, err := r.Check(w.ctx(), time.Time{}); !errors.Is(err, ErrNothingCompared) || !strings.Contains(err.Error(), says) {
		w.t.Errorf("--check says %v and %v, without %q", result, err, says)
	}
}

// on is the world with another copy.
func (w *world) on(ch *enginetest.ClickHouse) *world {
	other := *w
	other.ch, other.copy = ch, w.ch.Conn(w.t, ch.MigrateURL)
	return &other
}

func (w *world) epoch() (n uint64) {
	w.t.Helper()
	w.must(w.copy.QueryRow(w.ctx(), "SELECT max(epoch) FROM replicator_epoch").Scan(&n))
	return n
}

func (w *world) rows() (n uint64) {
	w.t.Helper()
	w.must(w.copy.QueryRow(w.ctx(), "SELECT count() FROM audit_log").Scan(&n))
	return n
}

// TestPairing: a slot feeds one server for good. Swapped URLs and two names of one server are refused, and write nothing. A
// server that is empty is filled, and so is the one that was emptied.
func TestPairing(t *testing.T) {
	w := newWorld(t)
	east, west := w.ch, enginetest.NewClickHouse(t)
	w.on(west).makeRollups()
	copies := map[string]*enginetest.ClickHouse{"_east": east, "_west": west}
	config := func(slot, server string) Config {
		c := w.config()
		c.Slot, c.ClickHouseURL, c.Copy = w.slot()+slot, copies[server].ReplicatorURL, slot[1:]
		return c
	}
	l := w.openLane()
	l.write(300, time.Now().Add(-time.Hour))
	var stops []func()
	for name := range copies {
		c := config(name, name)
		c.Logger = w.logger()
		stops = append(stops, w.startWith(c))
	}
	both := func() {
		t.Helper()
		for _, at := range copies {
			w.on(at).verify()
		}
	}
	both()
	l.write(300, time.Now())
	both()
	for _, stop := range stops {
		stop()
	}
	before := w.on(east).epoch() + w.on(west).epoch()
	w.refused(config("_east", "_west"), "is fed by the slot "+w.slot()+"_west", "swapped", "--retire")
	w.refused(config("_north", "_west"), "is fed by the slot "+w.slot()+"_west")
	w.checked(config("_east", "_west"), "is fed by the slot "+w.slot()+"_west")
	_, err := w.pg.Pool(t, w.pg.SuperuserURL).Exec(w.ctx(), "DELETE FROM argus.replicator_servers WHERE slot = $1", w.slot()+"_west")
	w.must(err)
	w.refused(config("_east", "_west"), "leads to another with rows of its own", "mend ARGUS_CLICKHOUSE_URL", "--retire "+w.slot()+"_east")
	w.checked(config("_east", "_west"), "leads to another with rows of its own")
	if after := w.on(east).epoch() + w.on(west).epoch(); after != before {
		t.Errorf("a refused replicator began a term: %d, not %d", after, before)
	}
	// Emptied while its replicator runs: the guard fences the term, and the next one fills the server.
	c := config("_west", "_west")
	c.Logger = w.logger()
	stop := w.startWith(c)
	w.on(west).verify()
	for _, table := range []string{"replicator_identity", "audit_watermark", "audit_log", "compute_control_audit", "remote_support_audit"} {
		w.must(w.on(west).copy.Exec(w.ctx(), "TRUNCATE TABLE "+table))
	}
	w.must(w.on(west).copy.Exec(w.ctx(), "INSERT INTO replicator_identity SELECT generateUUIDv4(), now64(6)"))
	w.eventually("the second pairing", func() bool { return w.admin("copy_paired", "emptied") > 0 })
	l.write(100, time.Now())
	w.on(west).verify()
	var recorded int
	w.must(w.super.QueryRow(w.ctx(), "SELECT count(*) FROM argus.audit_admin WHERE kind = 'heal' AND detail->>'slot' = $1", c.Slot).Scan(&recorded))
	if recorded < 2 {
		t.Errorf("%d healings of the slot are recorded, not the first copy and the second", recorded)
	}
	stop()
	// The database becomes another server's with rows, under a replicator that runs: nothing more is written.
	stop = w.startWith(c)
	defer stop()
	w.on(west).verify()
	w.must(w.on(west).copy.Exec(w.ctx(), "TRUNCATE TABLE replicator_identity"))
	w.must(w.on(west).copy.Exec(w.ctx(), "INSERT INTO replicator_identity SELECT generateUUIDv4(), now64(6)"))
	rows := w.on(west).rows()
	l.write(10, time.Now())
	w.eventually("the refusal", func() bool { return strings.Contains(w.statusOf(c.Slot).LastError, "rows of its own") })
	if n := w.on(west).rows(); n != rows {
		t.Errorf("%d rows were written to another server", n-rows)
	}
	// Retired, the slot and all that was remembered are gone. It may then be paired with any server.
	if _, err := Retire(w.ctx(), w.pg.ReplicatorURL, w.slot(), "west"); err == nil || !strings.Contains(err.Error(), "is running") {
		t.Errorf("retired under a replicator that runs: %v", err)
	}
	stop()
	for _, name := range []string{"wes", "west/2", "argus"} {
		if _, err := Retire(w.ctx(), w.pg.ReplicatorURL, w.slot(), name); err == nil || !strings.Contains(err.Error(), "no slot of a copy") {
			t.Errorf("%s: %v", name, err)
		}
	}
	// The lease of one that was killed a moment ago runs out by itself.
	_, err = w.super.Exec(w.ctx(), "UPDATE argus.replicator_lease SET expires_at = clock_timestamp() + interval '1 second' WHERE slot = $1", c.Slot)
	w.must(err)
	slots, err := Retire(w.ctx(), w.pg.ReplicatorURL, w.slot(), "west")
	if err != nil || len(slots) != 1 || slots[0] != c.Slot {
		t.Errorf("retired %v: %v", slots, err)
	}
	var left int
	w.must(w.super.QueryRow(w.ctx(), `SELECT (SELECT count(*) FROM pg_replication_slots WHERE slot_name = $1) + (SELECT count(*) FROM argus.replicator_servers WHERE slot = $1)
		+ (SELECT count(*) FROM argus.replicator_status WHERE slot = $1) + (SELECT count(*) FROM argus.replicator_lease WHERE slot = $1)`, c.Slot).Scan(&left))
	if left != 0 {
		t.Errorf("%d rows are left of the retired copy", left)
	}
	stop = w.startWith(c)
	defer stop()
	w.on(west).verify()
}

// TestSlotsOfAllCopies: a replicator tells of the slots of all copies, and of those that no copy has.
func TestSlotsOfAllCopies(t *testing.T) {
	w := newWorld(t)
	super := w.pg.Pool(t, w.pg.SuperuserURL)
	for _, name := range []string{"_east", "_north"} {
		_, err := super.Exec(w.ctx(), "SELECT pg_create_logical_replication_slot($1, 'pgoutput')", w.slot()+name)
		w.must(err)
	}
	registry := prometheus.NewRegistry()
	c := w.config()
	c.SlotBase, c.Slot, c.Slots, c.Registerer = w.slot(), w.slot()+"_east", []string{w.slot() + "_east", w.slot() + "_west"}, registry
	r, err := New(c)
	w.must(err)
	defer r.Close()
	seen := func() map[string]float64 {
		t.Helper()
		w.must(r.lookAtSlots(w.ctx()))
		families, err := registry.Gather()
		w.must(err)
		values := map[string]float64{}
		for _, f := range families {
			for _, m := range f.GetMetric() {
				slot := ""
				for _, l := range m.GetLabel() {
					if l.GetName() == "slot" {
						slot = strings.TrimPrefix(l.GetValue(), w.slot())
					}
				}
				values[strings.TrimPrefix(f.GetName(), "argus_replicator_")+slot] = m.GetGauge().GetValue()
			}
		}
		return values
	}
	want := map[string]float64{"slot_usable_east": 1, "slot_usable_west": 0, "slot_usable_north": 1, "slot_active_east": 0, "slot_active_west": 0,
		"slot_orphan_east": 0, "slot_orphan_west": 0, "slot_orphan_north": 1, "foreign_slots_east": 0, "active_east": 0}
	got := seen()
	for name, value := range want {
		if v, ok := got[name]; !ok || v != value {
			t.Errorf("%s is %v (%v), not %v", name, v, ok, value)
		}
	}
	if _, err := Retire(w.ctx(), w.pg.ReplicatorURL, w.slot(), "north"); err != nil {
		t.Error(err)
	}
	for name := range seen() {
		if strings.HasSuffix(name, "_north") {
			t.Errorf("%s is told after the slot was retired", name)
		}
	}
}

// TestNotOneServer: what a copy on several servers would be is refused at each lease term.
func TestNotOneServer(t *testing.T) {
	w := newWorld(t)
	c := w.config()
	c.ClickHouseURL += "?cloud_mode=1"
	w.refused(c, "ClickHouse Cloud")
	for _, engine := range []string{"ReplacingMergeTree ORDER BY (audit_id, step)", "Merge(currentDatabase(), '^remote_support_orphans$')", "Null"} {
		w.must(w.copy.Exec(w.ctx(), "RENAME TABLE remote_support_audit TO aside"))
		w.must(w.copy.Exec(w.ctx(), "CREATE TABLE remote_support_audit AS aside ENGINE = "+engine))
		name, _, _ := strings.Cut(strings.Fields(engine)[0], "(")
		w.refused(w.config(), "the engine of the table remote_support_audit is "+name)
		w.must(w.copy.Exec(w.ctx(), "DROP TABLE remote_support_audit SYNC"))
		w.must(w.copy.Exec(w.ctx(), "RENAME TABLE aside TO remote_support_audit"))
	}
	if n := w.epoch(); n != 0 {
		t.Errorf("a term began: %d", n)
	}
	stop := w.start()
	w.openLane().write(10, time.Now())
	w.verify()
	stop()
}
