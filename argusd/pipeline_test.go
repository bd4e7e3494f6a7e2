package main

import (
	"context"
	"encoding/json"
	"fmt"
	"math"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/ClickHouse/clickhouse-go/v2"
	"github.com/jackc/pgx/v5"
	"github.com/rogpeppe/go-internal/testscript"

	"github.com/useargus/argus"
)

// TestPipeline walks the way of a record with argusctl, Postgres and ClickHouse, as the product page has it.
func TestPipeline(t *testing.T) {
	d := startDev(t)
	t.Run("ReadyIsWell", d.testReadyIsWell)
	t.Run("OwnCallsAppear", d.testOwnCallsAppear)
	t.Run("SameRowsEverywhere", d.testSameRowsEverywhere)
	t.Run("ExitCodes", d.testExitCodes)
	t.Run("Perf", d.testPerf)
	t.Run("BadInput", d.testBadInput)
	t.Run("Control", d.testControl)
	t.Run("Services", d.testServices)
	t.Run("Argusctl", d.testArgusctl)
	t.Run("Proof", d.testProof)
	t.Run("Identity", d.testIdentity)
	t.Run("Agents", d.testAgents)
	t.Run("EnvFiles", d.testEnvFiles)
	t.Run("ChildrenComeBack", d.testChildrenComeBack)
	t.Run("PostgresAway", d.testPostgresAway)
	t.Run("Restart", d.testRestart)
}

// short runs a test's rounds at the number given, or fewer where many would tell no more.
const ownCallTries = 40

// testReadyIsWell: when argusd dev says that ARGUS is ready, every stage says that it is well.
func (d *devServer) testReadyIsWell(t *testing.T) {
	d.t = t
	if out, errOut, code := d.shell("argusctl health --check"); code != 0 {
		t.Errorf("exit %d: %s%s", code, out, errOut)
	}
}

func (d *devServer) testOwnCallsAppear(t *testing.T) {
	d.t = t
	for i := range ownCallTries {
		out, errOut, code := d.shell(`argusctl health >/dev/null && argusctl compute list >/dev/null && argusctl logs tail --since 5m --actor user_2ada --limit 2 --json`)
		if code != 0 {
			t.Fatalf("try %d: exit %d: %s", i, code, errOut)
		}
		var routes []string
		for line := range strings.Lines(out) {
			var r argus.Record
			if err := json.Unmarshal([]byte(line), &r); err != nil {
				t.Fatalf("try %d: %v: %s", i, err, line)
			}
			if r.ActorID != "user_2ada" || r.ActorKind != argus.KindPAT || !strings.HasPrefix(r.UserAgent, "argusctl/") {
				t.Errorf("try %d: attributed to %s by %s, %s", i, r.ActorID, r.ActorKind, r.UserAgent)
			}
			routes = append(routes, r.Route)
		}
		if got := strings.Join(routes, ", "); got != "GET /v1/health, GET /compute/ops/workers" {
			t.Fatalf("try %d: the newest two calls are %s", i, got)
		}
	}
}

func (d *devServer) testSameRowsEverywhere(t *testing.T) {
	d.t = t
	ctx := context.Background()
	_, id := d.call(ctx, d.env("env", "ARGUS_TOKEN"), "GET", "/v1/tenants/UTD_7ELEVEN_001", "")
	pg, err := pgx.Connect(ctx, d.env("env", "ARGUS_POSTGRES_URL"))
	if err != nil {
		t.Fatal(err)
	}
	defer pg.Close(ctx)
	var hash []byte
	var param string
	if err := pg.QueryRow(ctx, `SELECT row_hash, path_params->>'id' FROM argus.argus_audit_log WHERE id = $1`, id).Scan(&hash, &param); err != nil {
		t.Fatal(err)
	}
	if param != "UTD_7ELEVEN_001" {
		t.Errorf("path_params holds %q", param)
	}
	options, err := clickhouse.ParseDSN(d.env("env", "ARGUS_CLICKHOUSE_URL"))
	if err != nil {
		t.Fatal(err)
	}
	ch, err := clickhouse.Open(options)
	if err != nil {
		t.Fatal(err)
	}
	defer ch.Close()
	err = eventually(bound, func() error {
		var copied string
		if err := ch.QueryRow(ctx, "SELECT hex(row_hash) FROM argus.audit_log WHERE id = {id:UUID}", clickhouse.Named("id", id)).Scan(&copied); err != nil {
			return err
		}
		if !strings.EqualFold(copied, fmt.Sprintf("%x", hash)) {
			return fmt.Errorf("hash %s in ClickHouse, %x in Postgres", copied, hash)
		}
		return nil
	})
	if err != nil {
		t.Error(err)
	}
}

func (d *devServer) testExitCodes(t *testing.T) {
	d.t = t
	for _, c := range []struct {
		script string
		code   int
	}{
		{`argusctl logs tail --since 1h`, 0},
		{`ARGUS_TOKEN=$ARGUS_TOKEN_SUPPORT argusctl logs tail --since 1h`, 0},
		{`ARGUS_TOKEN=$ARGUS_TOKEN_TENANTS argusctl logs tail --since 1h`, 5},
		{`ARGUS_TOKEN= argusctl logs tail --since 1h`, 4},
		{`ARGUS_TOKEN=${ARGUS_TOKEN}x argusctl logs tail --since 1h`, 4},
		{`ARGUS_URL=http://127.0.0.1:1 argusctl logs tail --since 1h`, 3},
		{`argusctl logs tail --since someday`, 2},
		{`argusctl logs tail --nonsense`, 2},
		{`argusctl tenant show UTD_NOBODY`, 6},
		{`argusctl logs show 019b76da-a800-7000-8000-000000000001`, 6},
		{`argusctl logs tail --since 1h --cursor nonsense`, 7},
		{`argusctl compute stop no-such-worker --reason "just looking"`, 6},
		{`argusctl tenant arm UTD_NORTHMART_014 --reason "no consent"`, 5},
		{`argusctl version`, 0},
		{`argusctl whoami --json`, 0},
		{`argusctl status`, 0},
	} {
		if out, errOut, code := d.shell(c.script); code != c.code {
			t.Errorf("%s: exit %d, want %d\n%s%s", c.script, code, c.code, out, errOut)
		}
	}
}

// testPerf compares perf with Postgres's own percentile_disc over the same calls.
func (d *devServer) testPerf(t *testing.T) {
	d.t = t
	ctx := context.Background()
	until := time.Now().UTC().Format(argus.TimeFormat)
	out, errOut, code := d.shell("argusctl perf --since 1h --until " + until + " --json")
	if code != 0 {
		t.Fatalf("exit %d: %s", code, errOut)
	}
	pg, err := pgx.Connect(ctx, d.env("env", "ARGUS_POSTGRES_URL"))
	if err != nil {
		t.Fatal(err)
	}
	defer pg.Close(ctx)
	routes := 0
	for line := range strings.Lines(out) {
		var row struct {
			Route     string
			Count     int64
			P50       float64 `json:"p50_ms"`
			P95       float64 `json:"p95_ms"`
			P99       float64 `json:"p99_ms"`
			Max       float64 `json:"max_ms"`
			ErrorRate float64 `json:"error_rate"`
			RPM       float64 `json:"rpm"`
		}
		if err := json.Unmarshal([]byte(line), &row); err != nil {
			t.Fatalf("%v: %s", err, line)
		}
		routes++
		var count int64
		var q [3]float64
		var largest, errorRate float64
		if err := pg.QueryRow(ctx, `
			SELECT count(*), percentile_disc(0.5) WITHIN GROUP (ORDER BY latency_us) / 1000.0,
			       percentile_disc(0.95) WITHIN GROUP (ORDER BY latency_us) / 1000.0,
			       percentile_disc(0.99) WITHIN GROUP (ORDER BY latency_us) / 1000.0, max(latency_us) / 1000.0,
			       avg((status >= 500)::int)
			  FROM argus.argus_audit_log
			 WHERE route = $1 AND outcome = 'completed' AND occurred_at < $2::timestamptz
			   AND occurred_at >= $2::timestamptz - interval '59 minutes'`, row.Route, until).
			Scan(&count, &q[0], &q[1], &q[2], &largest, &errorRate); err != nil {
			t.Fatal(err)
		}
		if count != row.Count {
			t.Errorf("%s: count %d, Postgres %d", row.Route, row.Count, count)
		}
		for i, got := range []float64{row.P50, row.P95, row.P99} {
			if math.Abs(got-q[i]) > 0.01*q[i]+0.0005 {
				t.Errorf("%s: quantile %d is %g ms, Postgres %g", row.Route, i, got, q[i])
			}
		}
		if row.Max != largest || math.Abs(row.ErrorRate-errorRate) > 1e-9 || math.Abs(row.RPM-float64(count)/60) > 0.01*row.RPM {
			t.Errorf("%s: max %g (%g), error rate %g (%g), rpm %g", row.Route, row.Max, largest, row.ErrorRate, errorRate, row.RPM)
		}
	}
	if routes < 8 {
		t.Errorf("only %d routes:\n%s", routes, out)
	}
}

// testBadInput: each a clear error, each (once authenticated) with its row.
func (d *devServer) testBadInput(t *testing.T) {
	d.t = t
	ctx := context.Background()
	token := d.env("env", "ARGUS_TOKEN")
	acknowledged := map[string]int{}
	for _, c := range []struct {
		token, method, path, body string
		header                    []string
		status                    int
	}{
		{token, "GET", "/v1/nothing/here", "", nil, 404},
		{token, "BREW", "/v1/tenants", "", nil, 405},
		{token, "GET", "/v1/audit-log?cursor=nonsense", "", nil, 400},
		{token, "GET", "/v1/audit-log?since=yesterday", "", nil, 400},
		{token, "GET", "/v1/audit-log?nonsense=1", "", nil, 400},
		{token, "POST", "/compute/ops/launch", "{", nil, 400},
		{token, "POST", "/compute/ops/launch", strings.Repeat("x", argus.MaxBody+1), nil, 413},
		{token, "GET", "/v1/tenants", "", []string{"User-Agent", "broken \xff\xfe agent"}, 200},
		{token, "GET", "/v1/tenants/%00%ff", "", nil, 404},
		{token, "GET", "/v1/tenants", "", []string{"X-Request-Id", strings.Repeat("ü", 300)}, 200},
		{token[:len(token)-1], "GET", "/v1/tenants", "", nil, 401},
		{token + "0", "GET", "/v1/tenants", "", nil, 401},
		{"argus_pat_nonsense", "GET", "/v1/tenants", "", nil, 401},
		{d.env("env", "ARGUS_TOKEN_TENANTS"), "GET", "/v1/audit-log", "", nil, 403},
	} {
		status, id := d.call(ctx, c.token, c.method, c.path, c.body, c.header...)
		if status != c.status {
			t.Errorf("%s %.60s: %d, want %d", c.method, c.path, status, c.status)
		}
		if (id != "") != (status != 401) {
			t.Errorf("%s %.60s: answered %d with audit id %q", c.method, c.path, status, id)
		}
		if id != "" {
			acknowledged[id] = status
		}
	}
	d.oracleClickHouse(oraclePostgres(t, d.env("env", "ARGUS_POSTGRES_URL"), acknowledged))
}

// testControl: what operators do has real effects, and both rows.
func (d *devServer) testControl(t *testing.T) {
	d.t = t
	ctx := context.Background()
	out, errOut, code := d.shell(`argusctl compute launch --provider local --reason "ride-along" --json`)
	var worker struct {
		ID  string            `json:"id"`
		Ref struct{ PID int } `json:"provider_ref"`
	}
	if err := json.Unmarshal([]byte(out), &worker); code != 0 || err != nil || worker.Ref.PID == 0 {
		t.Fatalf("launch: exit %d, %v: %s%s", code, err, out, errOut)
	}
	state := func() string {
		data, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", worker.Ref.PID))
		if err != nil {
			return "gone"
		}
		_, rest, _ := strings.Cut(string(data), ") ")
		return rest[:1]
	}
	expect := func(script, wanted string) {
		t.Helper()
		if out, errOut, code := d.shell(script); code != 0 {
			t.Errorf("%s: exit %d: %s%s", script, code, out, errOut)
		}
		if err := eventually(bound, func() error {
			if s := state(); !strings.Contains(wanted, s) {
				return fmt.Errorf("%s: the process is %s, not %s", script, s, wanted)
			}
			return nil
		}); err != nil {
			t.Error(err)
		}
	}
	expect("true", "SR")
	expect(`argusctl compute stop `+worker.ID+` --reason "ride-along"`, "T")
	expect(`argusctl compute resume `+worker.ID+` --reason "ride-along"`, "SR")
	expect(`argusctl compute terminate `+worker.ID+` --reason "ride-along" --yes`, "gone Z")
	expect(`argusctl tenant arm UTD_7ELEVEN_001 --reason "ride-along"`, "gone Z")
	expect(`argusctl tenant disarm UTD_7ELEVEN_001 --reason "done"`, "gone Z")

	pg, err := pgx.Connect(ctx, d.env("env", "ARGUS_POSTGRES_URL"))
	if err != nil {
		t.Fatal(err)
	}
	defer pg.Close(ctx)
	for query, want := range map[string]string{
		`SELECT string_agg(action || ' ' || result, ', ' ORDER BY d.at, d.step) FROM argus.compute_control_audit d
		  JOIN argus.argus_audit_log l ON l.id = d.audit_id WHERE worker_id = '` + worker.ID + `'`: "launch requested, launch succeeded, stop requested, stop succeeded, resume requested, resume succeeded, terminate requested, terminate succeeded",
		`SELECT string_agg(DISTINCT action, ', ' ORDER BY action) FROM argus.remote_support_audit d
		  JOIN argus.argus_audit_log l ON l.id = d.audit_id WHERE tenant_id = 'UTD_7ELEVEN_001' AND d.reason IN ('ride-along', 'done')`: "arm, disarm",
	} {
		var got string
		if err := pg.QueryRow(ctx, query).Scan(&got); err != nil || got != want {
			t.Errorf("%s\n got %s (%v)\nwant %s", query, got, err, want)
		}
	}
}

// testArgusctl runs the CLI's own scripts against the real server.
func (d *devServer) testArgusctl(t *testing.T) {
	d.t = t
	testscript.Run(t, testscript.Params{
		Dir: "../argusctl/testdata/script",
		Setup: func(e *testscript.Env) error {
			e.Setenv("PATH", d.bin+string(os.PathListSeparator)+os.Getenv("PATH"))
			for _, name := range []string{"ARGUS_URL", "ARGUS_TOKEN", "ARGUS_TOKEN_SUPPORT", "ARGUS_TOKEN_TENANTS"} {
				e.Setenv(name, d.env("env", name))
			}
			e.Setenv("HOME", e.WorkDir)
			e.Setenv("ARGUS_CONFIG_DIR", filepath.Join(e.WorkDir, "config"))
			e.Setenv("ARGUS_KEYRING", "off")
			return nil
		},
	})
}

func (d *devServer) testEnvFiles(t *testing.T) {
	d.t = t
	for file, names := range map[string][]string{
		"env": {"ARGUS_URL", "ARGUS_TOKEN", "ARGUS_TOKEN_SUPPORT", "ARGUS_TOKEN_TENANTS", "ARGUS_POSTGRES_URL",
			"ARGUS_CLICKHOUSE_URL", "ARGUS_CLICKHOUSE_HTTP_URL"},
		"admin.env": {"ARGUS_POSTGRES_ADMIN_URL", "ARGUS_POSTGRES_API_URL", "ARGUS_POSTGRES_BREAK_GLASS_URL", "ARGUS_METRICS_URL_API", "ARGUS_METRICS_URL_REPLICATOR", "ARGUS_PID_DEV", "ARGUS_PID_API",
			"ARGUS_PID_REPLICATOR", "ARGUS_PID_LEDGER", "ARGUS_PID_POSTGRES", "ARGUS_PID_CLICKHOUSE", "ARGUS_POSTGRES_LEDGER_URL", "ARGUS_LEDGER_URL"},
	} {
		info, err := os.Stat(filepath.Join(d.dir, file))
		if err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("%s: mode %v, %v", file, info.Mode(), err)
		}
		for _, name := range names {
			d.env(file, name)
		}
	}
	response, err := http.Post(d.env("env", "ARGUS_CLICKHOUSE_HTTP_URL"), "", strings.NewReader("SELECT count() > 0 FROM argus.audit_log"))
	if err != nil || response.StatusCode != 200 {
		t.Errorf("ClickHouse over HTTP: %v %v", response, err)
	} else {
		response.Body.Close()
	}
	// No role's process holds another's secrets.
	for process, foreign := range map[string][]string{"API": {"argus_replicator", "argus_owner", "argus_migrate", "argus_auditor"},
		"REPLICATOR": {"argus_api", "argus_owner", "argus_reader", "ARGUS_CLERK", "ARGUS_CURSOR_KEY"},
		"LEDGER":     {"argus_api", "argus_owner", "argus_replicator", "argus_auditor", "ARGUS_CLERK", "ARGUS_CURSOR_KEY"}} {
		environ, err := os.ReadFile(fmt.Sprintf("/proc/%d/environ", d.pid(process)))
		if err != nil {
			t.Fatal(err)
		}
		for _, word := range foreign {
			if strings.Contains(string(environ), word) {
				t.Errorf("the environment of %s holds %s", process, word)
			}
		}
	}
	for _, name := range []string{"api.log", "replicator.log"} {
		log, _ := os.ReadFile(filepath.Join(d.dir, name))
		for _, secret := range []string{"argus_pat_", "argus_bg_", "sk_test_", "Bearer "} {
			if strings.Contains(string(log), secret) {
				t.Errorf("%s holds %s…", name, secret)
			}
		}
	}
}

func (d *devServer) testChildrenComeBack(t *testing.T) {
	d.t = t
	for _, name := range []string{"API", "REPLICATOR", "LEDGER", "CLICKHOUSE", "POSTGRES"} {
		before := d.pid(name)
		syscall.Kill(before, syscall.SIGKILL)
		if err := eventually(bound, func() error {
			if d.pid(name) == before {
				return fmt.Errorf("%s was not started again, or admin.env not rewritten", name)
			}
			if status, _ := d.call(context.Background(), d.env("env", "ARGUS_TOKEN"), "GET", "/v1/tenants", ""); status != 200 {
				return fmt.Errorf("after the death of %s a call answers %d", name, status)
			}
			return nil
		}); err != nil {
			t.Error(err)
		}
	}
	d.oracleClickHouse(oraclePostgres(t, d.env("env", "ARGUS_POSTGRES_URL"), nil))
}

// testPostgresAway: hung or dead, every authenticated call answers 503 audit_unavailable after a bounded wait,
// and all is well when it is back.
func (d *devServer) testPostgresAway(t *testing.T) {
	d.t = t
	ctx := context.Background()
	token := d.env("env", "ARGUS_TOKEN")
	pid := d.pid("POSTGRES")
	stopPostgres(t, pid)
	for _, c := range [][2]string{{"GET", "/v1/tenants"}, {"GET", "/v1/health"}, {"POST", "/compute/ops/launch"}, {"GET", "/v1/audit-log"}} {
		status, _ := d.call(ctx, token, c[0], c[1], `{"provider":"local","reason":"must not start"}`)
		if status != 503 {
			t.Errorf("%s %s with Postgres hung answers %d", c[0], c[1], status)
		}
	}
	out, errOut, code := d.shell(`argusctl compute list`)
	if code != 3 || !strings.Contains(errOut, "audit_unavailable") {
		t.Errorf("argusctl with Postgres hung: exit %d: %s%s", code, out, errOut)
	}
	for _, p := range postgresProcesses(t, pid) {
		syscall.Kill(p, syscall.SIGCONT)
	}
	if err := eventually(bound, func() error {
		if status, _ := d.call(ctx, token, "GET", "/v1/tenants", ""); status != 200 {
			return fmt.Errorf("with Postgres back a call answers %d", status)
		}
		return nil
	}); err != nil {
		t.Error(err)
	}
	d.oracleClickHouse(oraclePostgres(t, d.env("env", "ARGUS_POSTGRES_URL"), nil))
}

// stopPostgres freezes the postmaster first, which then has no child that the list lacks.
func stopPostgres(t *testing.T, postmaster int) {
	syscall.Kill(postmaster, syscall.SIGSTOP)
	for _, pid := range postgresProcesses(t, postmaster) {
		syscall.Kill(pid, syscall.SIGSTOP)
	}
}

// postgresProcesses are the postmaster and its children.
func postgresProcesses(t *testing.T, postmaster int) []int {
	pids := []int{postmaster}
	all, err := filepath.Glob("/proc/[0-9]*/stat")
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range all {
		data, err := os.ReadFile(path)
		if err != nil {
			continue
		}
		var pid, parent int
		var state string
		head, rest, _ := strings.Cut(string(data), ") ")
		fmt.Sscanf(head, "%d", &pid)
		fmt.Sscanf(rest, "%s %d", &state, &parent)
		if parent == postmaster {
			pids = append(pids, pid)
		}
	}
	return pids
}

func (d *devServer) testRestart(t *testing.T) {
	d.t = t
	before := oraclePostgres(t, d.env("env", "ARGUS_POSTGRES_URL"), nil)
	pids := []int{d.pid("API"), d.pid("REPLICATOR"), d.pid("POSTGRES"), d.pid("CLICKHOUSE")}
	d.stop()
	for _, pid := range pids {
		if syscall.Kill(pid, 0) == nil {
			t.Errorf("process %d outlived argusd dev", pid)
		}
	}
	d.start()
	after := oraclePostgres(t, d.env("env", "ARGUS_POSTGRES_URL"), nil)
	if after.rows < before.rows {
		t.Errorf("%d rows before the restart, %d after", before.rows, after.rows)
	}
	d.oracleClickHouse(after)
}
