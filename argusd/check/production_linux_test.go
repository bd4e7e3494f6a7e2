package check

import (
	"bytes"
	"context"
	"encoding/pem"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/useargus/argus/argusd/logins"
	"github.com/useargus/argus/internal/engines"
	"github.com/useargus/argus/internal/engines/enginetest"
	"github.com/useargus/argus/migrations"
)

// TestIntoProduction goes the way of deploy/README.md with the binaries of a release, the settings of deploy/systemd, and
// untouched stores. It migrates, checks, starts api and replicator, makes a first token and a call, runs maintenance, and
// ends it all.
func TestIntoProduction(t *testing.T) {
	pg := enginetest.StartOwnPostgres(t, engines.PostgresConfig{})
	if _, err := pg.Pool(t, pg.SuperuserURL).Exec(t.Context(), "CREATE DATABASE argus"); err != nil {
		t.Fatal(err)
	}
	ch := enginetest.StartOwnClickHouse(t, engines.ClickHouseConfig{})
	postgres := func(role, password string) string {
		u := parse(t, strings.Replace(pg.SuperuserURL, "/"+pg.Database, "/argus", 1))
		if role != "" {
			u.User = url.UserPassword(role, password)
		}
		return u.String()
	}
	// The embedded ClickHouse has its users and their passwords from a file, for databases of these names.
	clickHouse := func(of string) string { return strings.Replace(of, "/"+ch.Database, "/argus_9", 1) }
	certificate, clerk := startTLSIssuer(t)
	listen := enginetest.FreeAddress(t)

	settings := map[string]map[string]string{}
	for _, process := range []string{"migrate", "api", "replicator", "ship", "maintain"} {
		settings[process] = example(t, process)
		settings[process]["SSL_CERT_FILE"] = certificate
	}
	fill := func(process string, values map[string]string) {
		for name, value := range values {
			if _, ok := settings[process][name]; !ok {
				t.Errorf("deploy/systemd/%s.env does not set %s", process, name)
			}
			settings[process][name] = value
		}
	}
	fill("migrate", map[string]string{"ARGUS_POSTGRES_URL": postgres("", ""), "ARGUS_CLICKHOUSE_URL": clickHouse(ch.MigrateURL),
		"ARGUS_POSTGRES_API_PASSWORD": "api-password", "ARGUS_POSTGRES_REPLICATOR_PASSWORD": "replicator-password",
		"ARGUS_POSTGRES_MAINTENANCE_PASSWORD": "maintenance-password", "ARGUS_POSTGRES_BREAK_GLASS_PASSWORD": "break-glass-password",
		"ARGUS_POSTGRES_HOLD_PASSWORD": "hold-password-1", "ARGUS_POSTGRES_LEDGER_PASSWORD": "ledger-password", "ARGUS_POSTGRES_SHIP_PASSWORD": "ship-password-1",
		"ARGUS_POSTGRES_CONSENT_PASSWORD": "consent-password", "ARGUS_POSTGRES_AUDITOR_PASSWORD": "auditor-password", "ARGUS_CLICKHOUSE_REPLICATOR_PASSWORD": "", "ARGUS_CLICKHOUSE_MAINTENANCE_PASSWORD": "", "ARGUS_CLICKHOUSE_READER_PASSWORD": ""})
	fill("api", map[string]string{"ARGUS_POSTGRES_URL": postgres("argus_api", "api-password"), "ARGUS_CLICKHOUSE_URL": clickHouse(ch.ReaderURL),
		"ARGUS_CURSOR_KEY": "5c1f0e9a7d42b83690e7c45af21d68b3704be9d15a2f8c6613d09e47ab85f2c1", "ARGUS_LISTEN": listen,
		"ARGUS_CLERK_ISSUER": strings.TrimSuffix(clerk.APIURL, "/v1"), "ARGUS_CLERK_SECRET_KEY": clerk.SecretKey, "ARGUS_CLERK_ORGANIZATION": clerk.Organization})
	settings["api"]["ARGUS_CLERK_API_URL"] = clerk.APIURL
	settings["api"]["ARGUS_METRICS_LISTEN"] = ""
	fill("replicator", map[string]string{"ARGUS_POSTGRES_URL": postgres("argus_replicator", "replicator-password"), "ARGUS_CLICKHOUSE_URL": clickHouse(ch.ReplicatorURL)})
	settings["replicator"]["ARGUS_METRICS_LISTEN"] = ""
	fill("maintain", map[string]string{"ARGUS_POSTGRES_URL": postgres("argus_maintenance", "maintenance-password"), "ARGUS_CLICKHOUSE_URL": clickHouse(ch.MaintenanceURL)})

	folder := filepath.Join(t.TempDir(), "shipped")
	sinks := filepath.Join(t.TempDir(), "sinks.yaml")
	if err := os.WriteFile(sinks, fmt.Appendf(nil, "sinks:\n- name: archive\n  folder: {path: %q}\n", folder), 0o600); err != nil {
		t.Fatal(err)
	}
	fill("ship", map[string]string{"ARGUS_POSTGRES_URL": postgres("argus_ship", "ship-password-1")})
	delete(settings["ship"], "sinks.yaml") // a file of the unit's, which names it
	settings["ship"]["ARGUS_SINKS_FILE"], settings["ship"]["ARGUS_METRICS_LISTEN"] = sinks, ""
	settings["ship"]["ARGUS_POSTGRES_READ_URL"] = settings["ship"]["ARGUS_POSTGRES_URL"]

	bin := buildRelease(t)
	run := func(environ map[string]string, command ...string) string {
		t.Helper()
		cmd := process(t.Context(), bin, environ, command...)
		var out, errOut bytes.Buffer
		cmd.Stdout, cmd.Stderr = &out, &errOut
		if err := cmd.Run(); err != nil {
			t.Fatalf("%q: %v\n%s%s", command, err, &out, &errOut)
		}
		return out.String()
	}
	run(settings["migrate"], "argusd", "migrate")
	if again := run(settings["migrate"], "argusd", "migrate"); !strings.Contains(again, "Postgres: 0 migrations") || !strings.Contains(again, "passwords set of argus_api") {
		t.Errorf("migrating again: %s", again)
	}
	settings["hold"] = map[string]string{"ARGUS_POSTGRES_URL": postgres("argus_hold", "hold-password-1")}
	for _, name := range []string{"api", "replicator", "ship", "maintain", "hold"} {
		run(settings[name], "argusd", "check", name)
	}
	run(settings["hold"], "argusd", "maintain", "hold", "add", "--from", "30d", "--reason", "a case", "--by", "ada")
	if held := run(settings["maintain"], "argusd", "maintain", "hold", "list"); !strings.Contains(held, "ada ") || !strings.Contains(held, "argus_hold") {
		t.Errorf("holds: %s", held)
	}

	api := start(t, process(t.Context(), bin, settings["api"], "argusd", "api"))
	replicator := start(t, process(t.Context(), bin, settings["replicator"], "argusd", "replicator"))
	shipper := start(t, process(t.Context(), bin, settings["ship"], "argusd", "ship"))
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	until(t, "ready", func() bool {
		response, err := client.Get("http://" + listen + "/readyz")
		if err != nil {
			return false
		}
		defer response.Body.Close()
		return response.StatusCode == http.StatusOK
	})
	token := strings.TrimSpace(run(map[string]string{"ARGUS_POSTGRES_URL": postgres("argus_break_glass", "break-glass-password")},
		"argusd", "break-glass", "issue", "--for", "user_2ada", "--reason", "the first call", "--ttl", "10m"))
	operator := map[string]string{"ARGUS_URL": "http://" + listen, "ARGUS_TOKEN": token, "HOME": t.TempDir()}
	until(t, "all stages well", func() bool {
		cmd := process(t.Context(), bin, operator, "argusctl", "health")
		return cmd.Run() == nil
	})
	if rows := run(operator, "argusctl", "logs", "tail", "--since", "5m", "--json"); !strings.Contains(rows, "GET /v1/health") {
		t.Errorf("the log has no call: %s", rows)
	}
	until(t, "shipped, without a hole", func() bool {
		return process(t.Context(), bin, map[string]string{"HOME": t.TempDir()}, "argusctl", "ship", "verify", "--offline", folder).Run() == nil
	})
	until(t, "the copy equal", func() bool {
		return process(t.Context(), bin, settings["replicator"], "argusd", "replicator", "--check", "--since", "1h").Run() == nil
	})
	if did := run(settings["maintain"], "argusd", "maintain"); !strings.Contains(did, "0 partitions created, 0 months dropped") {
		t.Errorf("maintenance: %s", did)
	}
	run(settings["hold"], "argusd", "maintain", "hold", "add", "--from", "30d", "--reason", "case 4711")
	run(settings["hold"], "argusd", "maintain", "hold", "release", "1", "--reason", "closed")
	if holds := run(settings["maintain"], "argusd", "maintain", "hold", "list"); !strings.Contains(holds, "no end") || !strings.Contains(holds, ": closed") {
		t.Errorf("holds:\n%s", holds)
	}
	stop(t, api)
	stop(t, replicator)
	stop(t, shipper)
}

// TestMigrateWithoutSuperuser does what deploy/README.md says is enough.
func TestMigrateWithoutSuperuser(t *testing.T) {
	dir, err := os.MkdirTemp("", "argus-check-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	os.Chmod(dir, 0o711) // Postgres may run as another user
	server, err := engines.StartPostgres(t.Context(), engines.PostgresConfig{Dir: filepath.Join(dir, "postgres")})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { server.StopImmediate() })
	exec := func(url string, statements ...string) {
		t.Helper()
		conn, err := pgx.Connect(t.Context(), url)
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close(context.Background())
		for _, sql := range statements {
			if _, err := conn.Exec(t.Context(), sql); err != nil {
				t.Fatalf("%s: %v", sql, err)
			}
		}
	}
	readme, err := os.ReadFile("../../deploy/README.md")
	if err != nil {
		t.Fatal(err)
	}
	_, block, _ := strings.Cut(string(readme), "```sql\n-- as a superuser: ")
	superuser, rest, _ := strings.Cut(block, "\n")
	deployer, _, _ := strings.Cut(rest, "```")
	split := func(text string) []string {
		return slices.DeleteFunc(strings.Split(strings.ReplaceAll(strings.TrimSpace(text), "…", "deployer-password"), ";"),
			func(s string) bool { return strings.TrimSpace(s) == "" })
	}
	exec(server.SuperuserURL("postgres"), split(superuser)...)
	url := server.URL("deployer", "deployer-password", "argus")
	exec(url, split(deployer)...)
	for range 2 {
		if _, err := migrations.Postgres(t.Context(), url); err != nil {
			t.Fatal(err)
		}
		if err := logins.Postgres(t.Context(), url, map[string]string{"argus_api": "api-password", "argus_replicator": "replicator-password"}); err != nil {
			t.Fatal(err)
		}
	}
	var out bytes.Buffer
	r := &Report{Out: &out}
	Replicator{PostgresURL: server.URL("argus_replicator", "replicator-password", "argus"), Slot: "argus"}.Check(t.Context(), r)
	if strings.Contains(out.String(), "FAIL  Postgres") || !strings.Contains(out.String(), "ok    Postgres: a replication connection") {
		t.Errorf("what was migrated is not whole:\n%s", &out)
	}
}

// example reads the settings that stand in deploy/systemd for a process.
func example(t *testing.T, process string) map[string]string {
	t.Helper()
	data, err := os.ReadFile("../../deploy/systemd/" + process + ".env")
	if err != nil {
		t.Fatal(err)
	}
	all := map[string]string{}
	for line := range strings.Lines(string(data)) {
		if name, value, ok := strings.Cut(strings.TrimSpace(line), "="); ok && !strings.HasPrefix(line, "#") {
			all[name] = value
		}
	}
	files, err := filepath.Glob("../../deploy/systemd/credentials/" + process + "/*")
	if err != nil || len(files) == 0 {
		t.Fatal("no credentials", err)
	}
	for _, file := range files {
		all[filepath.Base(file)] = "CHANGEME"
	}
	return all
}

func buildRelease(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	build := exec.Command("go", "build", "-tags", "noengines", "-trimpath", "-ldflags", "-s -w", "-o", dir+"/", "./argusd", "./argusctl")
	build.Dir = "../.."
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	return dir
}

// process is one with this environment and no other.
func process(ctx context.Context, bin string, environ map[string]string, command ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, filepath.Join(bin, command[0]), command[1:]...)
	cmd.Env = []string{}
	for name, value := range environ {
		cmd.Env = append(cmd.Env, name+"="+value)
	}
	return cmd
}

type running struct {
	cmd  *exec.Cmd
	log  bytes.Buffer
	done chan error
}

func start(t *testing.T, cmd *exec.Cmd) *running {
	t.Helper()
	r := &running{cmd: cmd, done: make(chan error, 1)}
	cmd.Stdout, cmd.Stderr = &r.log, &r.log
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() { r.done <- cmd.Wait() }()
	t.Cleanup(func() {
		cmd.Process.Kill()
		<-r.done
		if t.Failed() {
			t.Logf("%q said:\n%s", cmd.Args, r.log.String()[max(0, r.log.Len()-4000):])
		}
	})
	return r
}

// stop asks in order, as systemd, compose and Kubernetes do.
func stop(t *testing.T, r *running) {
	t.Helper()
	r.cmd.Process.Signal(syscall.SIGTERM)
	err := <-r.done
	r.done <- err
	if err != nil {
		t.Errorf("%q ended with %v", r.cmd.Args, err)
	}
}

// startTLSIssuer is the local issuer behind TLS, as argusd api insists.
func startTLSIssuer(t *testing.T) (certificateFile string, c Clerk) {
	t.Helper()
	c = startIssuer(t)
	target := parse(t, strings.TrimSuffix(c.APIURL, "/v1"))
	transport := &http.Transport{}
	server := httptest.NewTLSServer(&httputil.ReverseProxy{Transport: transport, Rewrite: func(r *httputil.ProxyRequest) { r.SetURL(target) }})
	t.Cleanup(func() { server.Close(); transport.CloseIdleConnections() })
	certificateFile = filepath.Join(t.TempDir(), "ca.pem")
	data := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw})
	if err := os.WriteFile(certificateFile, data, 0o600); err != nil {
		t.Fatal(err)
	}
	c.APIURL = server.URL + "/v1"
	return certificateFile, c
}

func until(t *testing.T, what string, holds func() bool) {
	t.Helper()
	for deadline := time.Now().Add(90 * time.Second); !holds(); time.Sleep(100 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal(fmt.Errorf("still not %s", what))
		}
	}
}

func parse(t *testing.T, text string) *url.URL {
	t.Helper()
	u, err := url.Parse(text)
	if err != nil {
		t.Fatal(err)
	}
	return u
}
