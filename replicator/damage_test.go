package replicator

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/url"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/useargus/argus"
	"github.com/useargus/argus/internal/engines"
	"github.com/useargus/argus/internal/engines/enginetest"
)

// found are the kinds of the findings of a check, with their writers.
func found(all []Finding) (kinds []string) {
	for _, f := range all {
		kinds = append(kinds, f.Kind)
	}
	slices.Sort(kinds)
	return slices.Compact(kinds)
}

// TestDamageIsNamed damages what the writers say and what they wrote, wherever it could come from. Both stores agree
// throughout; the damage is named by --check, by the metric and in the status, and it stops neither the stream nor a resync.
func TestDamageIsNamed(t *testing.T) {
	w := newWorld(t)
	w.change = func(c *Config) { c.CheckEvery = 500 * time.Millisecond }
	super, err := pgx.Connect(w.ctx(), w.pg.SuperuserURL)
	w.must(err)
	defer super.Close(context.Background())
	exec := func(q string, args ...any) {
		t.Helper()
		_, err := super.Exec(w.ctx(), q, args...)
		w.must(err)
	}
	exec("SET session_replication_role = replica") // past every trigger, as a superuser may be
	lanes := map[string]*lane{}
	for _, name := range []string{"well", "lowered", "raised", "reopened", "lost", "holed", "doubled", "late", "altered"} {
		l := w.openLane()
		w.must(l.commit(20, time.Now(), func(tx pgx.Tx, r []argus.Record) error { return insertSteps(tx, &r[3]) }))
		lanes[name] = l
	}
	lanes["reopened"].close()
	lanes["holed"].close()
	registry := prometheus.NewRegistry()
	config := w.config()
	config.Registerer, config.Logger = registry, w.logger()
	stop := w.startWith(config)
	w.verify()
	w.eventually("a reconciliation", func() bool { return w.status().State == "streaming" })
	w.verifyCheck(true)
	if s := w.status(); s.FindingCount != 0 {
		t.Fatalf("a log that is whole has findings: %+v", s.Findings)
	}
	id := func(name string) int64 { return lanes[name].id }
	// Rows are copied from one to another where they must exist: only their identity matters.
	insert := "INSERT INTO argus.argus_audit_log SELECT (jsonb_populate_record(l, $3::jsonb)).* FROM argus.argus_audit_log l WHERE l.writer_id = $1 AND l.seq = $2"
	steps := []struct {
		kind string
		do   func()
	}{
		{RowsBeyond, func() { exec("UPDATE argus.audit_writers SET seq = 7 WHERE writer_id = $1", id("lowered")) }},
		{RowsMissing, func() { exec("UPDATE argus.audit_writers SET seq = 1000000000 WHERE writer_id = $1", id("raised")) }},
		{WriterReopened, func() { exec("UPDATE argus.audit_writers SET closed_at = NULL WHERE writer_id = $1", id("reopened")) }},
		{WriterMissing, func() { exec("DELETE FROM argus.audit_writers WHERE writer_id = $1", id("lost")) }},
		{WriterAhead, func() {
			exec("INSERT INTO argus.audit_writers (writer_id, process_id, lane, closed_at) VALUES ($1, gen_random_uuid(), 0, now())", time.Now().Add(48*time.Hour).UnixMilli())
		}},
		{RowsDoubled, func() { exec(insert, id("doubled"), 5, `{"occurred_at": "`+time.Now().UTC().Format(time.RFC3339)+`"}`) }},
		{RowsLate, func() {
			exec("UPDATE argus.audit_writers SET seq = 30 WHERE writer_id = $1", id("late"))
			exec(insert, id("late"), 20, `{"seq": 30}`)
			w.caughtUp()
			exec(insert, id("late"), 20, `{"seq": 25}`)
		}},
		{RowsAltered, func() {
			exec(insert, id("altered"), 20, `{"seq": 21, "actor_id": "user_nobody"}`)
			exec("UPDATE argus.audit_writers SET seq = 21 WHERE writer_id = $1", id("altered"))
		}},
		{StepsMissing, func() {
			exec("DELETE FROM argus.compute_control_audit WHERE step = 1 AND audit_id = (SELECT min(audit_id::text)::uuid FROM argus.compute_control_audit)")
		}},
	}
	metric := func(kind string) float64 {
		families, err := registry.Gather()
		w.must(err)
		for _, f := range families {
			for _, m := range f.GetMetric() {
				if f.GetName() == "argus_replicator_findings" && m.GetLabel()[0].GetValue() == kind {
					return m.GetGauge().GetValue()
				}
			}
		}
		t.Fatalf("no metric of %s", kind)
		return 0
	}
	shown := steps[:len(steps)-1] // missing steps show by --check, and in the daily reconciliation
	for _, s := range shown {
		s.do()
	}
	for _, s := range shown { // one comparison may name them all
		w.eventually(s.kind, func() bool { return metric(s.kind) > 0 })
	}
	lanes["well"].write(5, time.Now())
	w.caughtUp()
	steps[len(steps)-1].do()
	// A hole in the middle of a writer that was closed long ago, in both stores.
	exec("DELETE FROM argus.argus_audit_log WHERE writer_id = $1 AND seq BETWEEN 4 AND 6", id("holed"))
	stop()
	w.resync()
	kinds := found(w.verifyCheck(false).Findings)
	if want := []string{RowsAltered, RowsBeyond, RowsDoubled, RowsMissing, StepsMissing, WriterAhead, WriterMissing}; !slices.Equal(kinds, want) {
		t.Errorf("--check finds %v, want %v", kinds, want)
	}
	result := w.verifyCheck(false)
	if len(result.Differences) > 0 {
		t.Errorf("after a resync both stores should hold the same: %s", result)
	}
	for _, words := range []string{fmt.Sprintf("lacks rows 4 to 6 of writer %d", id("holed")), fmt.Sprintf("lacks rows 21 to 1000000000 of writer %d", id("raised")),
		fmt.Sprintf("row 21 of writer %d do not make", id("altered"))} {
		if !strings.Contains(result.String(), words) {
			t.Errorf("--check does not say that %s: %s", words, result)
		}
	}
	// No lease term heals for it, and none thinks that Postgres was restored.
	stop = w.start()
	lanes["well"].write(5, time.Now())
	w.caughtUp()
	stop()
	if result := w.verifyCheck(false); len(result.Differences) > 0 {
		t.Errorf("the copy is not what Postgres holds: %s", result)
	}
	if n := w.admin("heal", healRestored); n > 0 {
		t.Errorf("%d healings took damage for a restored Postgres", n)
	}
}

// TestAlteredRowIsNoDifference: a row that was altered in Postgres is named, with its copy as it is; one that was
// altered in ClickHouse is mended.
func TestAlteredRowIsNoDifference(t *testing.T) {
	w := newWorld(t)
	l := w.openLane()
	l.write(50, time.Now())
	_, err := w.pg.Pool(t, w.pg.SuperuserURL).Exec(w.ctx(), `DO $$ BEGIN
		SET LOCAL session_replication_role = replica;
		UPDATE argus.argus_audit_log SET actor_id = 'user_nobody' WHERE seq IN (7, 9);
		UPDATE argus.argus_audit_log SET row_hash = sha256('x') WHERE seq = 8; END $$`)
	w.must(err)
	stop := w.start()
	w.caughtUp()
	stop()
	// One whose original was copied before it was altered, and one altered here too, otherwise.
	_, err = w.pg.Pool(t, w.pg.SuperuserURL).Exec(w.ctx(), `DO $$ BEGIN
		SET LOCAL session_replication_role = replica;
		UPDATE argus.argus_audit_log SET route = 'GET /v1/nothing' WHERE seq = 33; END $$`)
	w.must(err)
	w.must(w.copy.Exec(w.ctx(), "ALTER TABLE audit_log UPDATE actor_id = 'user_other' WHERE seq IN (9, 40) SETTINGS mutations_sync = 2"))
	r, err := New(w.config())
	w.must(err)
	result, err := r.Check(w.ctx(), time.Time{})
	r.Close()
	w.must(err)
	text := result.String()
	if result.Equal() || !strings.Contains(result.Differences[0], "seq 9") || !strings.Contains(text, fmt.Sprintf("rows 7, 8, 9, 33 of writer %d", l.id)) {
		t.Errorf("--check says %s", text)
	}
	w.resync()
	result = w.verifyCheck(false)
	if len(result.Differences) > 0 || len(result.Findings) != 1 {
		t.Errorf("after the resync --check says %s", result)
	}
	if got := w.orphans(); got != 2 {
		t.Errorf("%d orphans were moved, want the two that were altered in ClickHouse", got)
	}
}

// TestMonthsByBounds: partitions have any name and any bounds; months are known by what they hold.
func TestMonthsByBounds(t *testing.T) {
	w := newWorld(t)
	enginetest.WithinMonth(t, 3*time.Minute)
	w.months(6)
	name := func(root string, months int) string {
		return root + monthOf(ago(0)).from().AddDate(0, -months, 0).Format("_y2006m01")
	}
	month := func(months int) string { return monthOf(ago(0)).from().AddDate(0, -months, 0).Format("2006-01-02") }
	var attach []string
	for _, root := range []string{"argus_audit_log", "compute_control_audit", "remote_support_audit"} {
		bound := func(months int) string {
			if root == "argus_audit_log" {
				return "'" + month(months) + "'"
			}
			return "argus.uuid_floor('" + month(months) + "')"
		}
		p1, p2, p3, p4 := name(root, 1), name(root, 2), name(root, 3), name(root, 4)
		attach = append(attach,
			// Another name; what was detached keeps the old one.
			fmt.Sprintf("ALTER TABLE argus.%s DETACH PARTITION argus.%s; CREATE TABLE argus.m_copy_%s (LIKE argus.%[2]s INCLUDING ALL); ALTER TABLE argus.%[1]s ATTACH PARTITION argus.m_copy_%[3]s FOR VALUES FROM (%s) TO (%s)", root, p1, root, bound(1), bound(0)),
			// Two months in one, which is partitioned itself.
			fmt.Sprintf("DROP TABLE argus.%s, argus.%s; CREATE TABLE argus.two_%s PARTITION OF argus.%[3]s FOR VALUES FROM (%s) TO (%s) PARTITION BY HASH (%s); CREATE TABLE argus.two_%[3]s_0 PARTITION OF argus.two_%[3]s FOR VALUES WITH (MODULUS 1, REMAINDER 0)",
				p2, p3, root, bound(3), bound(1), map[bool]string{true: "writer_id", false: "audit_id"}[root == "argus_audit_log"]),
			// None, and a default for it.
			fmt.Sprintf("DROP TABLE argus.%s; CREATE TABLE argus.rest_%s PARTITION OF argus.%[2]s DEFAULT", p4, root))
	}
	w.owner("SET datestyle = 'SQL, DMY'; " + strings.Join(attach, "; "))
	l := w.openLane()
	fill := func() {
		t.Helper()
		for i := range 5 {
			w.must(l.commit(10, monthOf(ago(0)).from().AddDate(0, -i, 3), func(tx pgx.Tx, r []argus.Record) error { return insertSteps(tx, &r[2]) }))
		}
	}
	fill()
	stop := w.start()
	w.verify()
	fill()
	w.verify()
	stop()
	w.verifyCheck(true)
	w.must(w.copy.Exec(w.ctx(), "ALTER TABLE audit_log DELETE WHERE seq % 7 = 0 SETTINGS mutations_sync = 2"))
	w.must(w.copy.Exec(w.ctx(), "ALTER TABLE compute_control_audit DELETE WHERE step = 2 SETTINGS mutations_sync = 2"))
	w.resync()
	w.verifyCheck(true)

	owner := w.pg.Pool(t, w.pg.OwnerURL)
	var made int
	w.must(owner.QueryRow(w.ctx(), "SELECT argus.create_month($1::date) + argus.create_month($2::date) + argus.create_month($3::date)", month(1), month(2), month(3)).Scan(&made))
	if made != 0 {
		t.Errorf("%d partitions were made of months that are there", made)
	}
	var months []string
	rows, err := w.api.Query(w.ctx(), "SELECT to_char(month, 'YYYY-MM-DD') FROM argus.audit_months WHERE month <= $1::date", month(0))
	w.must(err)
	months, err = pgx.CollectRows(rows, pgx.RowTo[string])
	w.must(err)
	if want := []string{month(5), month(3), month(2), month(1), month(0)}; !slices.Equal(months, want) {
		t.Errorf("the months are %v, want %v", months, want)
	}
	// The detached one is in the way of a name, and of nothing else.
	w.owner("DROP TABLE argus.m_copy_argus_audit_log")
	w.must(owner.QueryRow(w.ctx(), "SELECT argus.create_month($1::date)", month(1)).Scan(&made))
	if made != 1 {
		t.Error("the month was not made, since a table that is no partition has its name")
	}
}

// TestOneServer: a URL that leads to several servers, by name or by a balancer, is rejected before anything is copied,
// and when it begins to lead elsewhere.
func TestOneServer(t *testing.T) {
	// Two servers that take the same password, each with a database of the same name.
	alike := engines.ClickHouseConfig{AdminPassword: "the same on both"}
	w := prepare(&world{t: t, pg: enginetest.NewPostgres(t), ch: enginetest.StartOwnClickHouse(t, alike)})
	other := enginetest.StartOwnClickHouse(t, alike)
	w.clickhouseURL = w.ch.MigrateURL
	u, err := url.Parse(w.clickhouseURL)
	w.must(err)
	elsewhere, err := url.Parse(other.MigrateURL)
	w.must(err)
	c := w.config()
	c.ClickHouseURL = strings.Replace(w.clickhouseURL, u.Host, u.Host+","+elsewhere.Host, 1)
	if _, err := New(c); err == nil || !strings.Contains(err.Error(), "several hosts") {
		t.Errorf("two hosts are taken: %v", err)
	}
	var turns, both atomic.Int64
	proxy := balancer(t, func() string {
		if n := turns.Add(1); both.Load() > 0 && n%2 == 0 {
			return elsewhere.Host
		}
		return u.Host
	})
	w.clickhouseURL = strings.Replace(w.clickhouseURL, u.Host, proxy, 1)
	l := w.openLane()
	stop := w.start()
	l.write(20, time.Now())
	w.caughtUp()
	both.Store(1)
	stop()
	stop = w.start()
	w.eventually("the reason", func() bool {
		s := w.status()
		return s.State == "failing" && strings.Contains(s.LastError, "more than one server")
	})
	l.write(20, time.Now())
	both.Store(0)
	w.verify()
	stop()
}

// balancer passes each connection to the address that next says.
func balancer(t *testing.T, next func() string) string {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { listener.Close() })
	go func() {
		for {
			from, err := listener.Accept()
			if err != nil {
				return
			}
			to, err := net.Dial("tcp", next())
			if err != nil {
				from.Close()
				continue
			}
			go pipe(from, to)
			go pipe(to, from)
		}
	}()
	return listener.Addr().String()
}

func pipe(to, from net.Conn) {
	defer to.Close()
	defer from.Close()
	io.Copy(to, from)
}
