package ship

import (
	"context"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/useargus/argus"
	"github.com/useargus/argus/internal/engines"
	"github.com/useargus/argus/internal/engines/enginetest"
)

// TestFailover: the standby is away, so no call is answered, and rows whose wait for it was broken off are visible on the
// primary alone. Two shippers have seen them. One was stopped while it stored its decision, and its successor finds the
// decision. The other has built them ahead, while the batch before is under way. Then Postgres fails over, and the writer
// writes other rows under the same numbers. The receivers have those, and not one of the rows that the failover took back.
func TestFailover(t *testing.T) {
	w := worldOn(t, enginetest.StartOwnPostgres(t, engines.PostgresConfig{}))
	old := w.pg.Engine()
	standby, err := old.Standby(t.Context(), t.TempDir(), "pg2")
	must(t, err)
	t.Cleanup(func() { old.StopImmediate(); standby.StopImmediate() })
	both, err := url.Parse(w.pg.ShipURL)
	must(t, err)
	both.Host += ",127.0.0.1:" + strconv.Itoa(standby.Port())
	on := func(c *Config) { c.PostgresURL = both.String() }
	super := w.pg.Pool(t, w.pg.SuperuserURL)
	waiting := func(role, what string) func() bool { // for the standby
		return func() (is bool) {
			must(t, super.QueryRow(t.Context(), "SELECT EXISTS (SELECT FROM pg_stat_activity WHERE wait_event = 'SyncRep' AND usename = $1 AND query ILIKE '%'||$2||'%')", role, what).Scan(&is))
			return is
		}
	}
	must(t, old.Streams(t.Context(), standby, "pg2"))
	must(t, old.Set(t.Context(), "synchronous_standby_names", "pg2"))
	w.until("the setting is read", func() bool {
		return w.number("SELECT count(*) FROM pg_settings WHERE name = 'synchronous_standby_names' AND setting = 'pg2'") == 1
	})

	// Both have the writer's rows up to 51, or hold the first batch of them.
	siem, slow := newReceiver(t), newReceiver(t)
	writer := w.open()
	w.write(writer, 51)
	_, stopSIEM := w.run(siem.sinks(w.dir, ""), on)
	w.acknowledged("siem", 51)
	var armed atomic.Bool
	held, release, ahead := make(chan struct{}), make(chan struct{}), make(chan struct{})
	built, letGo := sync.OnceFunc(func() { close(ahead) }), sync.OnceFunc(func() { close(release) })
	failedOver := make(chan struct{})
	answer := sync.OnceFunc(func() { close(failedOver) })
	defer letGo()
	defer answer()
	before := failpoint
	defer func() { failpoint = before }()
	stopSIEM()
	failpoint = func(place string) {
		switch {
		case place == "decided" && armed.CompareAndSwap(true, false):
			close(held)
			<-release
		case place == "ahead":
			built()
		}
	}
	_, stopSIEM = w.run(siem.sinks(w.dir, ""), on)
	slow.fail = func(n int, _ http.ResponseWriter, _ received) bool {
		if n == 1 {
			<-failedOver
		}
		return false
	}
	armed.Store(true)
	// Its timeout is longer than a failover takes.
	// Neither its lease nor its request runs out while Postgres fails over.
	w.run(strings.NewReplacer("name: siem", "name: slow", "batch_rows: 40", "batch_rows: 50", "timeout: 1s", "timeout: 5m").Replace(slow.sinks(w.dir, "")), on,
		func(c *Config) { c.LeaseTTL = time.Minute })
	<-held

	// Rows that the primary alone has.
	must(t, standby.StopImmediate())
	ctx, breakOff := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() {
		defer close(done)
		if err := w.tryWrite(ctx, writer, 59, func(r *argus.Record) { r.UserAgent = "taken back" }); err == nil {
			t.Error("a commit did not wait for the standby")
		}
	}()
	w.until("the rows wait", waiting("argus_api", "copy"))
	breakOff()
	<-done
	w.until("the rows are visible", func() bool { return w.number("SELECT count(*) FROM argus.argus_audit_log") == 110 })
	w.until("the decision waits", waiting("argus_ship", "sink_positions"))
	stopSIEM()
	w.until("the decision is visible", func() bool {
		return w.number("SELECT count(*) FROM argus.sink_positions WHERE sink = 'siem' AND pending IS NOT NULL") == 1
	})
	w.run(siem.sinks(w.dir, ""), on)
	w.until("its successor waits, or sends", func() bool { return waiting("argus_ship", "barrier")() || siem.rows() > 51 })
	letGo()
	<-ahead

	must(t, old.Kill(syscall.SIGKILL))
	standby, err = engines.StartPostgres(t.Context(), standby.Config())
	must(t, err)
	must(t, standby.Promote(t.Context()))
	w.pg.MoveTo(t, standby)
	w.owner, w.api = w.pg.Pool(t, w.pg.OwnerURL), w.pg.Pool(t, w.pg.APIURL)
	if n := w.number("SELECT count(*) FROM argus.argus_audit_log"); n != 51 {
		t.Fatalf("the standby has %d rows: the test shows nothing", n)
	}
	w.seqs[writer], w.written = 51, 51
	w.write(writer, 70, func(r *argus.Record) { r.UserAgent = "anew" })
	answer()
	for name, r := range map[string]*receiver{"siem": siem, "slow": slow} {
		w.acknowledged(name, w.written)
		w.check(r.batches(), nil)
		if report := r.verify(); !report.HoleFree() || report.Rows != int64(w.written) {
			t.Errorf("%s: %+v", name, report)
		}
	}
}

// TestReadsAnotherPrimary: rows are read from a server that does not follow the primary, and has others under the same numbers.
// None of them is shipped, neither of a new batch nor of one that was decided before.
func TestReadsAnotherPrimary(t *testing.T) {
	w, fork := newWorld(t), newWorld(t)
	r := newReceiver(t)
	writer := w.open()
	var row string
	must(t, w.owner.QueryRow(t.Context(), "SELECT to_jsonb(a) FROM argus.audit_writers a").Scan(&row))
	_, err := fork.pg.Pool(t, fork.pg.LoaderURL(t)).Exec(t.Context(), "INSERT INTO argus.audit_writers SELECT * FROM jsonb_populate_record(NULL::argus.audit_writers, $1)", row)
	must(t, err)
	w.write(writer, 30)
	fork.write(writer, 30, func(r *argus.Record) { r.UserAgent = "of the fork" })
	forked := func(c *Config) { c.ReadURL = fork.pg.ShipURL }
	told := func() {
		t.Helper()
		w.exec("UPDATE argus.sinks SET status = '{}'")
		_, stop := w.run(r.sinks(w.dir, ""), forked)
		w.until("it is told", func() bool {
			return w.number("SELECT count(*) FROM argus.sinks WHERE status ->> 'last_error' ~ 'lacks rows|other rows'") == 1
		})
		stop()
	}
	told()
	// Decided, and not sent.
	child := w.child(w.file(r.sinks(w.dir, "")), "decided", 0)
	child.Wait()
	told()
	if n := r.rows(); n != 0 {
		t.Errorf("%d rows were shipped", n)
	}
	_, stop := w.run(r.sinks(w.dir, ""))
	w.acknowledged("siem", 30)
	stop()
	w.check(r.batches(), nil)
}
