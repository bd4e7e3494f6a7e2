package check

import (
	"context"
	"net/url"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/useargus/argus/internal/engines"
	"github.com/useargus/argus/internal/engines/enginetest"
)

// TestHA begins with a standby and nothing else of docs/high-availability.md. Each mistake is named, and what the check says to
// run is run: then it is gone.
func TestHA(t *testing.T) {
	pg := enginetest.StartOwnPostgres(t, engines.PostgresConfig{})
	primary := pg.Engine()
	standby, err := primary.Standby(t.Context(), t.TempDir(), "pg2")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { standby.StopImmediate() })
	u, err := url.Parse(primary.SuperuserURL(pg.Database))
	if err != nil {
		t.Fatal(err)
	}
	alone := HA{PostgresURL: u.String(), Slots: []string{"argus"}}
	u.Host += ",127.0.0.1:" + strconv.Itoa(standby.Port())
	both := HA{PostgresURL: u.String(), Slots: []string{"argus"}}
	run := func(on *engines.Postgres, statements ...string) {
		t.Helper()
		conn, err := pgx.Connect(t.Context(), on.SuperuserURL(pg.Database))
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close(context.Background())
		for _, s := range statements {
			if _, err := conn.Exec(t.Context(), s); err != nil {
				t.Fatalf("%s: %v", s, err)
			}
		}
	}
	// says waits until the check fails so often, and says so. A change of settings takes a moment.
	says := func(what string, c HA, failed int, words ...string) (said string) {
		t.Helper()
		for deadline := time.Now().Add(time.Minute); ; time.Sleep(100 * time.Millisecond) {
			var out strings.Builder
			r := &Report{Out: &out}
			c.Check(t.Context(), r)
			missing := ""
			for _, word := range words {
				if !strings.Contains(out.String(), word) {
					missing = word
				}
			}
			if r.Failed == failed && missing == "" {
				return out.String()
			}
			if time.Now().After(deadline) {
				t.Fatalf("%s: %d checks failed, not %d, without %q:\n%s", what, r.Failed, failed, missing, out.String())
			}
		}
	}
	at := func(pg *engines.Postgres) string { return "127.0.0.1:" + strconv.Itoa(pg.Port()) }
	settings := regexp.MustCompile(`ALTER SYSTEM SET \w+ = '[^']*'; SELECT pg_reload_conf\(\);`)
	// obey runs the settings that the lines of a check name.
	obey := func(said, check string, on ...*engines.Postgres) {
		t.Helper()
		_, said, _ = strings.Cut(said, "FAIL  "+check+":")
		said, _, _ = strings.Cut(said, "\nok ")
		said, _, _ = strings.Cut(said, "\nFAIL ")
		all := settings.FindAllString(said, -1)
		if len(all) == 0 {
			t.Fatalf("%s says no setting: %s", check, said)
		}
		for _, statement := range all {
			for _, node := range on {
				set, reload, _ := strings.Cut(statement, "; ")
				run(node, set, reload)
			}
		}
	}

	says("one node", alone, 4, "the URL names one node", "synchronous_standby_names is empty", `has no slot "argus"`)
	said := says("nothing is done", both, 3, at(primary)+": settings: hot_standby_feedback is off", "sync_replication_slots is off", "wal_retrieve_retry_interval is 5s",
		"calls are answered that one machine alone has", `the primary has no slot "argus"`)
	obey(said, at(primary)+": settings", primary)
	obey(said, "an answered call is on two machines", primary, standby)
	run(primary, "SELECT pg_create_logical_replication_slot('argus', 'pgoutput')")
	says("a slot that ends with its primary", both, 1, "is not made for failover", "FAILOVER true")
	run(primary, "SELECT pg_drop_replication_slot('argus')", "SELECT pg_create_logical_replication_slot('argus', 'pgoutput', false, false, true)")
	if err := primary.Streams(t.Context(), standby, "pg2", "argus"); err != nil {
		t.Fatal(err)
	}
	says("all is done", both, 0, "one standby alone is synchronous")

	run(standby, "ALTER SYSTEM SET hot_standby_feedback = off", "ALTER SYSTEM SET wal_retrieve_retry_interval = '5s'", "SELECT pg_reload_conf()")
	said = says("a standby's settings", both, 1, at(standby)+": settings: hot_standby_feedback is off", "wal_retrieve_retry_interval is 5s")
	obey(said, at(standby)+": settings", standby)
	says("they are mended", both, 0)
	run(primary, "ALTER SYSTEM SET synchronous_standby_names = 'pg9'", "SELECT pg_reload_conf()")
	said = says("a name that no standby has", both, 2, "no standby is synchronous, so no call is answered", `synchronous_standby_names is "ANY 1 (pg2)", and "pg9" on the primary`)
	obey(said, "an answered call is on two machines", primary, standby)
	says("it is mended", both, 0)
	// Its worker would keep the slot at any moment, so it is ended first.
	run(standby, "ALTER SYSTEM SET sync_replication_slots = off", "SELECT pg_reload_conf()")
	says("no slots are kept", both, 1, at(standby)+": settings: sync_replication_slots is off")
	for working := 1; working > 0; time.Sleep(20 * time.Millisecond) {
		conn, err := pgx.Connect(t.Context(), standby.SuperuserURL(pg.Database))
		if err == nil {
			err = conn.QueryRow(t.Context(), "SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'slotsync worker'").Scan(&working)
			conn.Close(context.Background())
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	run(primary, "SELECT pg_create_logical_replication_slot('other', 'pgoutput', false, false, true)")
	said = says("a slot that the standby does not keep", both, 2, at(standby)+": it keeps the slots of the copy: other is not here")
	run(primary, "SELECT pg_drop_replication_slot('other')")
	obey(said, at(standby)+": settings", standby)
	says("it is mended", both, 0)

	// The standby's receiver is frozen, and the primary's log goes on for 12 MB, then for 20. The primary gives it all time.
	run(primary, "ALTER SYSTEM SET wal_sender_timeout = 0", "SELECT pg_reload_conf()")
	receiver := 0
	conn, err := pgx.Connect(t.Context(), standby.SuperuserURL(pg.Database))
	if err == nil {
		err = conn.QueryRow(t.Context(), "SELECT pid FROM pg_stat_wal_receiver").Scan(&receiver)
		conn.Close(context.Background())
	}
	if err == nil {
		err = syscall.Kill(receiver, syscall.SIGSTOP)
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = syscall.Kill(receiver, syscall.SIGCONT) })
	run(primary, "SET synchronous_commit = local", "SELECT pg_logical_emit_message(true, 'lag', repeat('x', 12 << 20))")
	if said := says("a standby lags by 12 MB", both, 0); strings.Contains(said, "lags by") {
		t.Errorf("a standby lags by 12 MB:\n%s", said)
	}
	run(primary, "SET synchronous_commit = local", "SELECT pg_logical_emit_message(true, 'lag', repeat('x', 8 << 20))")
	says("a standby lags by 20 MB", both, 0, "pg2 lags by 2", "it is not the one to promote")
	if err := syscall.Kill(receiver, syscall.SIGCONT); err != nil {
		t.Fatal(err)
	}
	for deadline := time.Now().Add(time.Minute); strings.Contains(says("it catches up", both, 0), "lags by"); time.Sleep(100 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("the standby's receiver goes on, and the check warns of its lag")
		}
	}

	if err := standby.StopImmediate(); err != nil {
		t.Fatal(err)
	}
	says("the standby is away", both, 3, at(standby)+": it answers", "of 1 standby 0 stream", "no standby is synchronous")
	if standby, err = engines.StartPostgres(t.Context(), standby.Config()); err != nil {
		t.Fatal(err)
	}
	if err := standby.Promote(t.Context()); err != nil {
		t.Fatal(err)
	}
	var out strings.Builder
	both.Check(t.Context(), &Report{Out: &out})
	if !strings.Contains(out.String(), "FAIL  one primary: two hosts take writes: "+at(primary)) || !strings.Contains(out.String(), "stop the one of the lower timeline") {
		t.Errorf("two primaries:\n%s", out.String())
	}
}
