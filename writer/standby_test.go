package writer

import (
	"strings"
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
		eventually(t, "the setting is read", func() bool { return scalar[string](t, pool, "SHOW synchronous_standby_names") == names })
	}
	stall("nobody")
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
