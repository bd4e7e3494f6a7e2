package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"

	"github.com/ClickHouse/clickhouse-go/v2"

	"github.com/useargus/argus/internal/engines"
	"github.com/useargus/argus/internal/engines/enginetest"
)

// TestShardsWalk does what docs/scaling.md says: a site begins with two servers of ClickHouse, and gets a third while calls are
// made. Each server has its rows once, and every answer has all.
func TestShardsWalk(t *testing.T) {
	s := newSite(t, engines.PostgresConfig{})
	of := map[string]*url.URL{} // the user of each process
	for _, process := range []string{"api", "replicator", "migrate"} {
		u, err := url.Parse(s.env[process]["ARGUS_CLICKHOUSE_URL"])
		if err != nil {
			t.Fatal(err)
		}
		of[process] = u
	}
	var servers []*engines.ClickHouse
	t.Cleanup(func() {
		for _, ch := range servers {
			ch.Kill(syscall.SIGKILL)
		}
	})
	// cluster has every server state the cluster, one more than before, and names them in the setting.
	cluster := func() {
		t.Helper()
		configs := []engines.ClickHouseConfig{s.ch.Config()}
		for i, ch := range servers {
			if err := ch.Stop(t.Context()); err != nil {
				t.Fatal(err)
			}
			if i > 0 {
				configs = append(configs, ch.Config())
			}
		}
		if len(servers) == 0 {
			if err := s.ch.Stop(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
		more := s.ch.Config()
		more.Dir, more.TCPPort, more.HTTPPort, more.AdminPassword = filepath.Join(s.dir, fmt.Sprint("clickhouse", len(configs)+1)), 0, 0, s.ch.Config().AdminPassword
		var err error
		if servers, err = engines.StartShards(t.Context(), append(configs, more)); err != nil {
			t.Fatal(err)
		}
		s.ch = servers[0]
		for process, u := range of {
			var urls []string
			for _, ch := range servers {
				u.Host = fmt.Sprint("127.0.0.1:", ch.TCPPort())
				urls = append(urls, u.String())
			}
			s.env[process]["ARGUS_CLICKHOUSE_URL"] = "east=" + strings.Join(urls, "|")
		}
	}
	replicate := func(i int) {
		s.env["replicator"]["ARGUS_COPY"] = fmt.Sprint("east/", i)
		s.start("replicator")
	}
	cluster()
	if out := s.must(s.command("migrate")); strings.Contains(out, "takes no rows") {
		t.Fatalf("before the first row: %s", out)
	}
	replicate(1)
	replicate(2)
	addr := enginetest.FreeAddress(t)
	api := s.startAPI(addr)
	var calls int64
	call := func(n int) {
		t.Helper()
		for range n {
			s.get(addr, "/v1/tenants", &struct{}{})
			calls++
		}
	}
	// answered has every answer be of ClickHouse, and have all rows.
	answered := func() {
		t.Helper()
		s.wait("the copy answers", func() error {
			var perf struct {
				Source string
				Rows   []struct {
					Route string
					Count int64
				}
			}
			s.get(addr, "/v1/perf?since=1h", &perf)
			for _, r := range perf.Rows {
				if r.Route == "GET /v1/tenants" && r.Count != calls {
					t.Fatalf("%d calls are counted, of %d, by %s", r.Count, calls, perf.Source)
				}
			}
			if !strings.HasPrefix(perf.Source, "clickhouse") {
				return fmt.Errorf("it comes from %s", perf.Source)
			}
			return nil
		})
	}
	call(10)
	answered()

	cluster() // step 1
	call(5)   // Postgres answers: the copy's servers are not those that are set
	if out := s.must(s.command("migrate")); !strings.Contains(out, "ClickHouse east/3 takes no rows yet") {
		t.Fatalf("a server without a replicator: %s", out)
	}
	replicate(3)
	s.wait("the third server has its slot", func() (err error) {
		var n int
		if s.ask("SELECT count(*) FROM pg_replication_slots WHERE slot_name = 'argus_east_3' AND active", &n); n != 1 {
			err = fmt.Errorf("not yet")
		}
		return err
	})
	api.stop()
	s.startAPI(addr)
	answered()
	if out := s.must(s.command("migrate")); strings.Contains(out, "takes no rows") {
		t.Fatalf("a server with its slot: %s", out)
	}
	s.exec("argus", "UPDATE argus.audit_writers SET closed_at = now() WHERE closed_at IS NULL") // an hour later
	s.wait("rows on each server", func() (err error) {
		call(1)
		var n int
		if s.ask("SELECT count(DISTINCT argus.shard_of('east', writer_id)) FROM argus.audit_writers WHERE seq > 0", &n); n < 3 {
			s.exec("argus", "UPDATE argus.audit_writers SET closed_at = now() WHERE closed_at IS NULL")
			err = fmt.Errorf("%d have some", n)
		}
		return err
	})
	call(5)
	answered()
	for i := range servers {
		s.wait("the server is equal", func() error {
			out, err := s.command("replicator", "--check", "--copy", fmt.Sprint("east/", i+1)).CombinedOutput()
			if err != nil {
				return fmt.Errorf("%w\n%s", err, out)
			}
			return nil
		})
	}
	s.verifiedOverShards(addr, servers)
}

// verifiedOverShards has the copy's rows, which three servers share, verified through the API: argusctl names the leaf of a row that
// was altered on any of them.
func (s *site) verifiedOverShards(addr string, servers []*engines.ClickHouse) {
	s.t.Helper()
	password := randomHex(16)
	s.env["migrate"]["ARGUS_POSTGRES_LEDGER_PASSWORD"] = password
	s.must(s.command("migrate"))
	key := filepath.Join(s.dir, "ledger-key")
	vkey := regexp.MustCompile(`audit\.test/argus\+[0-9a-f]{8}\+\S+`).FindString(s.must(s.command("ledger", "init", "--origin", "audit.test/argus", "--key", key)))
	s.env["ledger"] = map[string]string{"ARGUS_POSTGRES_URL": s.pg.URL("argus_ledger", password, "argus"), "ARGUS_LEDGER_ORIGIN": "audit.test/argus",
		"ARGUS_LEDGER_KEY": key, "ARGUS_LEDGER_ANCHOR": filepath.Join(s.dir, "anchor"), "ARGUS_LEDGER_LISTEN": "", "ARGUS_METRICS_LISTEN": ""}
	s.start("ledger", "seal")
	verify := func() (string, error) {
		command := exec.Command(filepath.Join(s.bin, "argusctl"), "logs", "verify", "--source", "clickhouse", "--key", vkey, "--json")
		command.Env = []string{"ARGUS_URL=http://" + addr, "ARGUS_TOKEN=" + s.token, "ARGUS_CONFIG_DIR=" + s.t.TempDir(), "ARGUS_KEYRING=off"}
		out, err := command.CombinedOutput()
		return string(out), err
	}
	s.wait("the copy is proven, whole", func() error {
		var rows int64
		s.ask("SELECT count(*) FROM argus.argus_audit_log", &rows)
		out, err := verify()
		var v struct {
			Outcome string
			Rows    int64 `json:"rows_checked"`
		}
		if json.Unmarshal([]byte(out), &v); err != nil || v.Outcome != "proven" || v.Rows < rows {
			return fmt.Errorf("of %d rows: %v: %s", rows, err, out)
		}
		return nil
	})
	for i, ch := range servers {
		options, err := clickhouse.ParseDSN(ch.AdminURL("argus"))
		if err != nil {
			s.t.Fatal(err)
		}
		conn, err := clickhouse.Open(options)
		if err != nil {
			s.t.Fatal(err)
		}
		defer conn.Close()
		var writer, seq, leaf int64
		if err := conn.QueryRow(s.t.Context(), "SELECT writer_id, seq FROM audit_log ORDER BY writer_id, seq LIMIT 1").Scan(&writer, &seq); err != nil {
			s.t.Fatal(err)
		}
		s.ask(fmt.Sprintf("SELECT first_leaf + %d - first_seq FROM argus.ledger_runs WHERE kind = 1 AND writer_id = %d AND %[1]d BETWEEN first_seq AND first_seq + leaves - 1",
			seq, writer), &leaf)
		alter := func(by string) {
			s.t.Helper()
			if err := conn.Exec(s.t.Context(), fmt.Sprintf("ALTER TABLE audit_log UPDATE body_bytes = body_bytes %s WHERE writer_id = %d AND seq = %d SETTINGS mutations_sync = 2", by, writer, seq)); err != nil {
				s.t.Fatal(err)
			}
		}
		alter("+ 1")
		out, err := verify()
		var exit *exec.ExitError
		if !errors.As(err, &exit) || exit.ExitCode() != 9 || !strings.Contains(out, fmt.Sprintf("leaf %d, call %d/%d: its columns were changed", leaf, writer, seq)) {
			s.t.Errorf("a row altered on server %d: %v: %s", i+1, err, out)
		}
		alter("- 1")
		if out, err := verify(); err != nil {
			s.t.Errorf("put back on server %d: %v: %s", i+1, err, out)
		}
	}
}
