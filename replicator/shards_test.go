package replicator

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/useargus/argus"
	"github.com/useargus/argus/connect"
	"github.com/useargus/argus/internal/audittest"
	"github.com/useargus/argus/internal/engines/enginetest"
	"github.com/useargus/argus/migrations"
)

// newShards makes a Postgres and a database of ClickHouse for each shard. The replicators know nothing of each other.
func newShards(t *testing.T, n int) (shards []*world) {
	pg := enginetest.NewPostgres(t)
	for i := range n {
		shards = append(shards, prepare(&world{t: t, pg: pg, ch: enginetest.NewClickHouse(t), shard: i + 1}))
	}
	return shards
}

// arrange does what argusd migrate does, and tells for how many shards it waits.
func arrange(shards []*world) int {
	w := shards[0]
	w.t.Helper()
	waiting, err := migrations.Shards(w.ctx(), w.pg.SuperuserURL, []connect.Copy{{Name: "three", Shards: make([]string, len(shards))}})
	w.must(err)
	return len(waiting)
}

// verifyShards holds all shards together to Postgres, and each to the map.
func verifyShards(shards []*world) {
	w := shards[0]
	w.t.Helper()
	var positions []argus.Position
	var newest int64
	w.must(w.api.QueryRow(w.ctx(), "SELECT max(writer_id) FROM argus.audit_writers").Scan(&newest))
	for _, s := range shards {
		var p argus.Position
		s.eventually("every shard has seen the newest writer", func() bool { p = s.caughtUp(); return p.ClosedThrough >= newest })
		positions = append(positions, p)
	}
	var got []argus.Record
	of := map[int64]int{}
	for i, s := range shards {
		rows := audittest.ClickHouse(w.t, s.copy, "audit_log")
		got = append(got, rows...)
		for j := range rows {
			of[rows[j].WriterID] = i + 1
		}
		s.verifyRollups()
		if n := s.stepsHere(); i > 0 && n > 0 {
			w.t.Errorf("shard %d has %d steps", i+1, n)
		}
	}
	slices.SortFunc(got, func(a, b argus.Record) int {
		return cmp.Or(cmp.Compare(a.WriterID, b.WriterID), cmp.Compare(a.Seq, b.Seq))
	})
	want := audittest.Postgres(w.t, w.api)
	audittest.Same(w.t, "the shards", got, want)
	for writer, shard := range of {
		var mapped int
		w.must(w.api.QueryRow(w.ctx(), "SELECT argus.shard_of('three', $1)", writer).Scan(&mapped))
		if mapped != shard {
			w.t.Errorf("writer %d is on shard %d, and of %d", writer, shard, mapped)
		}
	}
	w.verifySteps()
	w.verifyPosition(argus.OfShards(positions...), true)
	for _, s := range shards {
		s.verifyCheck(true)
	}
}

func (w *world) stepsHere() (n uint64) {
	w.t.Helper()
	w.must(w.copy.QueryRow(w.ctx(), "SELECT (SELECT count() FROM compute_control_audit) + (SELECT count() FROM remote_support_audit)").Scan(&n))
	return n
}

// heals counts what the replicators have healed, but for first copies of nothing.
func (w *world) heals() (n int) {
	w.t.Helper()
	w.must(w.api.QueryRow(w.ctx(), "SELECT count(*) FROM argus.audit_admin WHERE kind = 'heal'").Scan(&n))
	return n
}

// TestShards: three servers have each row once, whichever of their replicators is killed at whichever point. A fourth is added
// while rows are written, and nothing is compared or moved for it.
func TestShards(t *testing.T) {
	shards := newShards(t, 3)
	w := shards[0]
	if arrange(shards) > 0 {
		t.Error("nothing was ever written, and a shard waits for its slot")
	}
	for _, s := range shards {
		stop := s.start()
		s.caughtUp()
		stop()
	}
	stop := w.load(3, time.Now)
	shards[1].startChild("taken", 2).wait()
	shards[2].startChild("published", 1).wait()
	points := failpoints
	if rounds() < 100 {
		points = []string{"rebuilt"} // the others in make crash
	}
	for i, point := range points {
		shards[i%3].startChild("inserted", i%3).wait() // a doubt
		shards[i%3].startChild(point, 0).wait()
	}
	var running []*child
	for _, s := range shards {
		running = append(running, s.startChild("", 0))
		s.caughtUp()
	}
	before := w.heals()

	fourth := prepare(&world{t: t, pg: w.pg, ch: enginetest.NewClickHouse(t), shard: 4})
	shards = append(shards, fourth)
	if arrange(shards) != 1 {
		t.Error("a shard without a slot takes rows")
	}
	running = append(running, fourth.startChild("", 0))
	fourth.caughtUp()
	if arrange(shards) != 0 {
		t.Error("a shard with a slot takes no rows")
	}
	w.eventually("rows on the fourth shard", func() bool {
		var n uint64
		w.must(fourth.copy.QueryRow(w.ctx(), "SELECT count() FROM audit_log").Scan(&n))
		return n > 0
	})
	rows := stop()
	verifyShards(shards)
	if n := w.heals() - before; n > 0 {
		t.Errorf("adding a shard compared the copy %d times", n)
	}
	t.Logf("%d rows", rows)
	for _, c := range running {
		c.stop()
	}
}

// TestShardIsLost: one shard is emptied, two are set back to a backup, of which one has the steps. Later one is given rows and
// steps of another. Each is healed alone, by its own replicator.
func TestShardIsLost(t *testing.T) {
	shards := newShards(t, 3)
	w := shards[0]
	arrange(shards)
	var stops []func()
	start := func() {
		stops = nil
		for _, s := range shards {
			stops = append(stops, s.start())
		}
	}
	halt := func() {
		for _, s := range shards {
			s.caughtUp()
		}
		for _, stop := range stops {
			stop()
		}
	}
	write := func(d time.Duration) {
		stop := w.load(4, time.Now)
		sleep(context.Background(), d)
		stop()
		w.openLane().write(5, time.Now()) // rows there are
	}
	exec := func(w *world, statements ...string) {
		t.Helper()
		for _, q := range statements {
			w.must(w.copy.Exec(w.ctx(), q))
		}
	}
	start()
	write(200 * time.Millisecond)
	halt()
	// Rollups come by the views when rows are put back.
	kept := []string{"compute_control_audit", "remote_support_audit", "replicator_epoch", "audit_watermark", "audit_log"}
	restored := []*world{shards[0], shards[2]}
	for _, s := range restored {
		for _, name := range kept {
			exec(s, "CREATE TABLE old_"+name+" AS "+name, "INSERT INTO old_"+name+" SELECT * FROM "+name)
		}
	}
	start()
	write(200 * time.Millisecond)
	halt()
	lacked := shards[0].stepsHere()
	for _, s := range shards {
		reader, err := openClickHouse(s.ch.MigrateURL)
		w.must(err)
		names, err := reader.strings(w.ctx(), "SELECT name FROM system.tables WHERE database = currentDatabase() AND engine LIKE '%MergeTree' AND name NOT LIKE 'argus_schema%' AND name NOT LIKE 'old_%' AND name != 'replicator_identity'")
		reader.close()
		w.must(err)
		for _, name := range names {
			exec(s, "TRUNCATE TABLE "+name)
		}
	}
	for _, s := range restored {
		for _, name := range kept {
			exec(s, "INSERT INTO "+name+" SELECT * FROM old_"+name, "DROP TABLE old_"+name+" SYNC")
		}
	}
	if n := shards[0].stepsHere(); n == 0 || n >= lacked {
		t.Fatalf("the backup has %d of %d steps", n, lacked)
	}
	start()
	// Each knows its loss from where its slot stands. No row is written meanwhile: the next one would show the gap anyway.
	for i, s := range shards {
		reason := healSlotMoved
		if i == 1 {
			reason = healLostMark
		}
		s.eventually("a healing of "+s.slot()+", "+reason, func() bool { return s.healedFor(reason) })
	}
	write(100 * time.Millisecond)
	verifyShards(shards)
	halt()

	// Rows and steps of the first shard on the second, as if a server had been split.
	columns := strings.Join(argus.ColumnNames(), ", ")
	exec(shards[1], fmt.Sprintf("INSERT INTO audit_log (%s) SELECT %s FROM %s.audit_log", columns, columns, shards[0].ch.Database),
		fmt.Sprintf("INSERT INTO compute_control_audit SELECT * FROM %s.compute_control_audit", shards[0].ch.Database))
	if result := shards[1].verifyCheck(false); len(result.Differences) == 0 {
		t.Error("rows of another shard are not told")
	}
	shards[1].resync()
	start()
	write(50 * time.Millisecond)
	verifyShards(shards)
}

// TestShardIsNotFiltered: a publication of a shard that argusd migrate did not arrange copies nothing.
func TestShardIsNotFiltered(t *testing.T) {
	shards := newShards(t, 2)
	w := shards[1]
	refused := func(says string) {
		t.Helper()
		w.eventually("the reason", func() bool { return strings.Contains(w.status().LastError, says) })
		if n := w.rowsHere(); n > 0 {
			t.Errorf("%d rows were copied", n)
		}
	}
	w.owner("CREATE PUBLICATION argus_three_2 FOR TABLE argus.argus_audit_log, argus.compute_control_audit, argus.remote_support_audit WITH (publish = 'insert', publish_via_partition_root = true)")
	w.openLane().write(5, time.Now())
	w.start()
	refused("not as argusd migrate arranged it")
	arrange(shards)
	w.caughtUp()
	w.owner("ALTER PUBLICATION argus_three_2 SET TABLE argus.argus_audit_log")
	refused("not as argusd migrate arranged it")
	arrange(shards)
	shards[0].start()
	w.openLane().write(5, time.Now())
	w.openLane().write(5, time.Now())
	verifyShards(shards)
}

// TestForeignRows: a stream that brings rows of another shard, as an old Postgres may after a change, copies none of them.
func TestForeignRows(t *testing.T) {
	shards := newShards(t, 2)
	w := shards[1]
	arrange(shards)
	w.start()
	w.caughtUp()
	// The publication goes on as it was, and is noted as one that carries nothing.
	w.owner(`INSERT INTO argus.shard_publications (publication, copy, shard, filter, before, after)
		SELECT 'argus_three_2', 'three', 2, 'writer_id < 0', argus.publication_print('argus_three_2'), argus.publication_print('argus_three_2')`)
	lanes := []*lane{w.openLane(), w.openLane()} // one of each shard
	for _, l := range lanes {
		l.write(5, time.Now())
	}
	w.eventually("the reason", func() bool { return strings.Contains(w.status().LastError, errForeign.Error()) })
	if n := w.rowsHere(); n > 0 {
		t.Errorf("%d rows of another shard were copied", n)
	}
	w.owner("DELETE FROM argus.shard_publications WHERE filter = 'writer_id < 0'")
	shards[0].start()
	verifyShards(shards)
}

func (w *world) rowsHere() (n uint64) {
	w.t.Helper()
	w.must(w.copy.QueryRow(w.ctx(), "SELECT count() FROM audit_log").Scan(&n))
	return n
}
