package writer

import (
	"context"
	"net"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/useargus/argus/internal/engines"
	"github.com/useargus/argus/internal/engines/enginetest"
)

// TestStalledStandby: a commit that waits for a synchronous standby is not broken off, however often its lane tries to resolve it.
// Broken off, the row would be shown, and a failover would take it back. Calls fail meanwhile. When the standby is back
// the row is there once.
func TestStalledStandby(t *testing.T) {
	t.Parallel()
	pg := enginetest.StartOwnPostgres(t, engines.PostgresConfig{})
	pool := pg.Pool(t, pg.APIURL)
	w := start(t, Config{URL: pg.APIURL, Lanes: 1})
	l := newLedger()
	for n := range 3 {
		if err := l.call(w, pool, n); err != nil {
			t.Fatal(err)
		}
	}
	stall := func(names string) {
		t.Helper()
		if err := pg.Engine().Set(t.Context(), "synchronous_standby_names", names); err != nil {
			t.Fatal(err)
		}
	}
	stall("absent")
	r := exampleRecord(100)
	err := w.Append(t.Context(), r, false)
	l.note(r, false, err)
	unavailable(t, "a call without effects", err)
	super := pg.Pool(t, pg.SuperuserURL)
	eventually(t, "the lane tries to resolve it", func() bool {
		w.health.mu.Lock()
		defer w.health.mu.Unlock()
		return w.health.cause != nil && strings.Contains(w.health.cause.Error(), "resolving writer")
	})
	if n := scalar[int](t, super, "SELECT count(*)::int FROM argus.argus_audit_log WHERE id = '"+r.ID.String()+"'"); n != 0 {
		t.Error("the row is shown, and no standby has it")
	}
	stall("")
	eventually(t, "calls are answered again", func() bool {
		r := exampleRecord(101)
		err := w.Append(t.Context(), r, false)
		l.note(r, false, err)
		return err == nil
	})
	if n := scalar[int](t, super, "SELECT count(*)::int FROM argus.argus_audit_log WHERE id = '"+r.ID.String()+"'"); n != 1 {
		t.Errorf("the row is there %d times", n)
	}
	l.check(t, pool)
}

// TestOldPrimary: behind one address the new primary is lost, and the old one answers, which was not fenced. No row goes there. The
// rows of the processes say which server and timeline each writes to.
func TestOldPrimary(t *testing.T) {
	t.Parallel()
	pg := enginetest.StartOwnPostgres(t, engines.PostgresConfig{})
	standby, err := pg.Engine().Standby(t.Context(), t.TempDir(), "pg2")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { standby.StopImmediate() })
	if err := pg.Engine().Streams(t.Context(), standby, "pg2"); err != nil {
		t.Fatal(err)
	}
	if err := standby.Promote(t.Context()); err != nil {
		t.Fatal(err)
	}
	var port atomic.Int64
	port.Store(int64(standby.Port()))
	old := pg.Pool(t, pg.SuperuserURL)
	w := start(t, Config{URL: pg.APIURL, dial: func(ctx context.Context, network, _ string) (net.Conn, error) {
		return dialer.DialContext(ctx, network, "127.0.0.1:"+strconv.FormatInt(port.Load(), 10))
	}})
	if err := w.Append(t.Context(), exampleRecord(1), false); err != nil {
		t.Fatal(err)
	}
	there := pg.Pool(t, standby.SuperuserURL(pg.Database))
	if n := scalar[int](t, there, "SELECT max(timeline)::int FROM argus.audit_processes"); n != 2 {
		t.Errorf("the process writes to timeline %d", n)
	}
	there.Close()
	port.Store(int64(pg.Engine().Port()))
	if err := standby.StopImmediate(); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the old primary is turned away", func() bool {
		w.health.mu.Lock()
		defer w.health.mu.Unlock()
		return w.health.cause != nil && strings.Contains(w.health.cause.Error(), "is an old primary that came back")
	})
	unavailable(t, "with the old primary alone", w.Append(t.Context(), exampleRecord(2), false))
	if n := scalar[int](t, old, "SELECT count(*)::int FROM argus.audit_writers"); n != 0 {
		t.Errorf("%d writers were opened on the old primary", n)
	}
	if standby, err = engines.StartPostgres(t.Context(), standby.Config()); err != nil {
		t.Fatal(err)
	}
	port.Store(int64(standby.Port()))
	eventually(t, "the new primary is taken again", func() bool { return w.Append(t.Context(), exampleRecord(3), false) == nil })
}
