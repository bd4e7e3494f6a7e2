package main

import (
	"fmt"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/ClickHouse/clickhouse-go/v2"

	"github.com/useargus/argus/internal/engines"
	"github.com/useargus/argus/internal/engines/enginetest"
)

// TestTwoCopies goes through "Two copies" of docs/high-availability.md under load. Replicators are killed, one copy is emptied, and
// the URLs are swapped. At every end both copies have what Postgres has.
func TestTwoCopies(t *testing.T) {
	s := newSite(t, engines.PostgresConfig{})
	config := s.ch.Config()
	config.Dir, config.TCPPort, config.HTTPPort, config.AdminPassword = filepath.Join(s.dir, "west"), 0, 0, ""
	west, err := engines.StartClickHouse(t.Context(), config)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { west.Kill(syscall.SIGKILL) })
	addr := enginetest.FreeAddress(t)
	s.startAPI(addr)
	calls := s.callers(addr)
	stopCalling := calls.startCalling(3)
	plain := s.start("replicator")
	s.wait("the only copy streams", func() error { return s.streams("argus") })
	plain.stop()

	for _, process := range []string{"migrate", "replicator", "maintain"} {
		east := s.env[process]["ARGUS_CLICKHOUSE_URL"]
		other := strings.Replace(east, fmt.Sprintf(":%d/", s.ch.TCPPort()), fmt.Sprintf(":%d/", west.TCPPort()), 1)
		if process == "migrate" {
			other = west.AdminURL("argus")
		}
		s.env[process]["ARGUS_CLICKHOUSE_URL"] = "east=" + east + " west=" + other
	}
	page := func(block, process string) string { return s.step("docs/high-availability.md", block, process, nil) }
	if out := page("copies", "migrate"); !strings.Contains(out, "ClickHouse east: 0 migrations") || strings.Contains(out, "ClickHouse west: 0 migrations") {
		t.Errorf("migrated: %s", out)
	}
	page("rename", "replicator")
	run := func(name string) *server {
		s.env["replicator"]["ARGUS_COPY"] = name
		defer delete(s.env["replicator"], "ARGUS_COPY")
		return s.start("replicator")
	}
	running := map[string]*server{"east": run("east"), "west": run("west")}
	// both waits until both copies stream, and holds them to Postgres as the page does.
	both := func() {
		t.Helper()
		for name := range running {
			s.wait(name+" streams", func() error { return s.streams("argus_" + name) })
		}
		page("compare", "replicator")
	}
	stopCalling()
	both()
	stopCalling = calls.startCalling(3)
	if out := s.must(s.command("maintain")); !strings.Contains(out, "ClickHouse east: 0 months") || !strings.Contains(out, "ClickHouse west: 0 months") {
		t.Errorf("maintained: %s", out)
	}
	for name, r := range running { // each dies in the middle of its work
		r.kill()
		running[name] = run(name)
	}
	stopCalling()
	both()

	// One replicator is dead, and health says which.
	running["west"].kill()
	s.wait("health names the copy without a replicator", func() error {
		var health struct {
			Stages []struct {
				Name, Status string
				Facts        map[string]any
			}
		}
		s.get(addr, "/v1/health", &health)
		down := map[string]bool{}
		for _, stage := range health.Stages {
			if stage.Name == "replicator" {
				down[fmt.Sprint(stage.Facts["slot"])] = stage.Status == "down"
			}
		}
		if !down["argus_west"] || down["argus_east"] {
			return fmt.Errorf("%+v", health.Stages)
		}
		return nil
	})

	// Its server loses everything. Migrated again, it is filled.
	options, err := clickhouse.ParseDSN(west.AdminURL("system"))
	if err != nil {
		t.Fatal(err)
	}
	admin, err := clickhouse.Open(options)
	if err != nil {
		t.Fatal(err)
	}
	defer admin.Close()
	if err := admin.Exec(t.Context(), "DROP DATABASE argus SYNC"); err != nil {
		t.Fatal(err)
	}
	page("copies", "migrate")
	running["west"] = run("west")
	both()

	// Swapped URLs are refused, by both, and write nothing.
	for _, r := range running {
		r.stop()
	}
	right := s.env["replicator"]["ARGUS_CLICKHOUSE_URL"]
	parts := strings.Fields(strings.NewReplacer("east=", "", "west=", "").Replace(right))
	s.env["replicator"]["ARGUS_CLICKHOUSE_URL"] = "east=" + parts[1] + " west=" + parts[0]
	for name := range running {
		running[name] = run(name)
		s.wait(name+" refuses", func() error {
			var text string
			s.ask("SELECT coalesce((SELECT status->>'last_error' FROM argus.replicator_status WHERE slot = 'argus_"+name+"'), '')", &text)
			if !strings.Contains(text, "is fed by the slot") {
				return fmt.Errorf("it says %q", text)
			}
			return nil
		})
		running[name].stop()
	}
	s.env["replicator"]["ARGUS_CLICKHOUSE_URL"] = right
	for name := range running {
		running[name] = run(name)
	}
	both()
	running["west"].stop()
	page("retire", "replicator")
	var left int
	s.ask("SELECT (SELECT count(*) FROM pg_replication_slots WHERE slot_name = 'argus_west') + (SELECT count(*) FROM argus.replicator_servers WHERE slot = 'argus_west')", &left)
	if left != 0 {
		t.Error("the retired copy has its slot still")
	}
}

// streams tells whether the slot's replicator streams, and is not far behind.
func (s *site) streams(slot string) error {
	var state string
	s.ask(`SELECT coalesce((SELECT status->>'state' FROM argus.replicator_status WHERE slot = '`+slot+`' AND updated_at > now() - interval '3 seconds'), 'silent')`, &state)
	if state != "streaming" {
		return fmt.Errorf("%s is %s", slot, state)
	}
	return nil
}
