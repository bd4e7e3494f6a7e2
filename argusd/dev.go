package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/spf13/cobra"

	"github.com/useargus/argus/api/provider"
	"github.com/useargus/argus/connect"
	"github.com/useargus/argus/internal/engines"
	"github.com/useargus/argus/ledger"
	"github.com/useargus/argus/migrations"
)

// argusd dev is ARGUS on one machine, every part of it real:
//
//	argusd dev ─┬─ postgres      (internal/engines)
//	            ├─ clickhouse    (internal/engines)
//	            ├─ argusd dev-sample    a service behind the door (internal/sample)
//	            ├─ local issuers in this process: play Clerk, a second issuer of people and a CI's, loopback only
//	            ├─ argusd dev-api       a child with the API's credentials only
//	            ├─ argusd replicator    a child with the replicator's credentials only
//	            └─ argusd ledger seal   a child with the ledger's credentials and its key
//
// What dies is started again; a signal ends all of it, children first.
type dev struct {
	dir, addr  string
	executable string
	state      *devState
	log        *slog.Logger
	issuer     *issuerServer

	postgres, clickhouse, api, replicator, ledger, sample *unit

	apiMetrics, replicatorMetrics, ledgerMetrics atomic.Value // the URLs, as strings; new ones with each start

	ledgerAddr string // where checkpoints and tiles are served

	envFiles sync.Mutex // one writer of the env files at a time
}

const devDatabase = "argus"

func newDevCommand() *cobra.Command {
	var load float64
	var history string
	command := &cobra.Command{
		Use:   "dev",
		Short: "Run all of ARGUS on this machine: engines, API, replicator, console",
		Long: `Run all of ARGUS on this machine: real Postgres, real ClickHouse, API, replicator and console, on loopback.
Data lives in $ARGUS_DEV_DIR (default .argus) and survives a restart. ARGUS_DEV_ADDR is the API's address
(default 127.0.0.1:8420). Ctrl-C stops everything it started.

A new folder gets a history of made-up calls, with a slow route and an outage in it to be found. It is written while the
console is already up.`,
		Example: "  argusd dev\n  ARGUS_DEV_ADDR=127.0.0.1:9000 argusd dev --load 50",
		Args:    cobra.NoArgs,
		RunE: func(command *cobra.Command, _ []string) error {
			days, err := historyDays(history)
			if err != nil {
				return err
			}
			return runDev(command.Context(), load, days)
		},
	}
	command.AddCommand(newDevCIToken())
	command.Flags().Float64Var(&load, "load", 0, "keep making this many calls a second, as the demonstration's operators")
	command.Flags().StringVar(&history, "history", "30d", "length of the made-up history of a new folder, 1d to 300d; 0 for none")
	return command
}

func runDev(ctx context.Context, load float64, history time.Duration) error {
	d, unlock, err := newDev()
	if err != nil {
		return err
	}
	d.planHistory(history)
	defer unlock()

	// Stopping takes its own time: it must not end with the signal that asked for it.
	defer d.stop()
	if err := d.startAll(ctx); err != nil {
		if ctx.Err() != nil {
			return nil // stopped while starting
		}
		return err
	}
	if err := d.seed(ctx); err != nil && ctx.Err() == nil {
		return fmt.Errorf("the demonstration could not be made: %w", err)
	}
	if err := d.writeEnvFiles(); err != nil {
		return err
	}
	d.welcome()

	var keepers sync.WaitGroup
	for _, u := range d.units() {
		keepers.Go(func() { u.keep(ctx) })
	}
	keepers.Go(func() {
		if err := d.makeHistory(ctx); err != nil && ctx.Err() == nil {
			d.log.Error("the history could not be made; it goes on at the next start", "error", err)
		}
	})
	if load > 0 {
		keepers.Go(func() { d.makeLoad(ctx, load) })
	}
	<-ctx.Done()
	fmt.Println("\nStopping.")
	keepers.Wait()
	return nil
}

func newDev() (d *dev, unlock func(), err error) {
	d = &dev{
		dir:  cmp.Or(os.Getenv("ARGUS_DEV_DIR"), ".argus"),
		addr: cmp.Or(os.Getenv("ARGUS_DEV_ADDR"), "127.0.0.1:8420"),
		log:  newLogger(slog.LevelInfo, "text"),
	}
	if d.dir, err = filepath.Abs(d.dir); err != nil {
		return nil, nil, err
	}
	address, err := netip.ParseAddrPort(d.addr)
	if err != nil || !address.Addr().IsLoopback() || address.Port() == 0 {
		return nil, nil, fmt.Errorf("ARGUS_DEV_ADDR=%q must be a loopback address with a port, like 127.0.0.1:8420", d.addr)
	}
	probe, err := net.Listen("tcp", d.addr)
	if err != nil {
		return nil, nil, fmt.Errorf("%s is not free (%w); choose another with ARGUS_DEV_ADDR", d.addr, err)
	}
	probe.Close()
	if d.executable, err = os.Executable(); err != nil {
		return nil, nil, err
	}
	// Postgres runs as another user when we are root, so others may pass through the folder; each secret in
	// it is 0600 itself.
	if err := os.MkdirAll(d.dir, 0o711); err != nil {
		return nil, nil, err
	}
	if unlock, err = lockDir(d.dir); err != nil {
		return nil, nil, err
	}
	if err := os.MkdirAll(d.workersDir(), 0o700); err != nil {
		unlock()
		return nil, nil, err
	}
	if d.state, err = loadDevState(d.dir); err != nil {
		unlock()
		return nil, nil, err
	}
	d.postgres = d.unit("postgres", d.startPostgres)
	d.clickhouse = d.unit("clickhouse", d.startClickHouse)
	d.api = d.unit("api", d.startAPI)
	d.replicator = d.unit("replicator", d.startReplicator)
	d.ledger = d.unit("ledger", d.startLedger)
	d.sample = d.unit("sample", d.startSample)
	return d, unlock, nil
}

func (d *dev) unit(name string, start func(context.Context) (process, error)) *unit {
	return &unit{name: name, start: start, log: d.log, changed: func() {
		if err := d.writeEnvFiles(); err != nil {
			d.log.Error("the env files could not be written", "error", err)
		}
	}}
}

// units in the order they are started; they are stopped in the opposite order.
func (d *dev) units() []*unit {
	return []*unit{d.postgres, d.clickhouse, d.replicator, d.ledger, d.sample, d.api}
}

func (d *dev) startAll(ctx context.Context) error {
	fmt.Println("Starting Postgres and ClickHouse.")
	if err := engines.Install(ctx); err != nil {
		return err
	}
	var pgErr, chErr error
	var both sync.WaitGroup
	both.Go(func() { pgErr = d.postgres.begin(ctx) })
	both.Go(func() { chErr = d.clickhouse.begin(ctx) })
	both.Wait()
	if err := errors.Join(pgErr, chErr); err != nil {
		return err
	}
	if err := d.migrate(ctx); err != nil {
		return err
	}
	issuer, err := startIssuer(d.state, d.dir, d.addr)
	if err != nil {
		return err
	}
	d.issuer = issuer
	began := time.Now()
	if err := d.replicator.begin(ctx); err != nil {
		return err
	}
	if err := d.waitCopying(ctx, began); err != nil {
		return err
	}
	if err := d.ledger.begin(ctx); err != nil {
		return err
	}
	if err := d.writeServicesFile(); err != nil {
		return err
	}
	if err := d.sample.begin(ctx); err != nil {
		return err
	}
	if err := d.api.begin(ctx); err != nil {
		return err
	}
	return d.waitReady(ctx)
}

func (d *dev) startPostgres(ctx context.Context) (process, error) {
	config := engines.PostgresConfig{Dir: filepath.Join(d.dir, "postgres")}
	if before, ok := d.postgres.process().(*engines.Postgres); ok {
		config = before.Config() // the same port
	}
	pg, err := engines.StartPostgres(ctx, config)
	if err != nil {
		return nil, err
	}
	return pg, nil
}

func (d *dev) startClickHouse(ctx context.Context) (process, error) {
	config := engines.ClickHouseConfig{Dir: filepath.Join(d.dir, "clickhouse"), Databases: []string{devDatabase}}
	for _, user := range migrations.ClickHouseUsers() {
		config.Users = append(config.Users, engines.ClickHouseLogin{ClickHouseUser: user,
			Password: d.state.Passwords["clickhouse/"+user.Name]})
	}
	if before, ok := d.clickhouse.process().(*engines.ClickHouse); ok {
		config = before.Config()
	}
	ch, err := engines.StartClickHouse(ctx, config)
	if err != nil {
		return nil, err
	}
	return ch, nil
}

func (d *dev) pg() *engines.Postgres   { return d.postgres.process().(*engines.Postgres) }
func (d *dev) ch() *engines.ClickHouse { return d.clickhouse.process().(*engines.ClickHouse) }

// roleURL is how a Postgres role logs in.
func (d *dev) roleURL(role string) string {
	return d.pg().URL(role, d.state.Passwords[role], devDatabase)
}

// migrate brings both stores to this binary's schema and lets the roles log in.
func (d *dev) migrate(ctx context.Context) error {
	super := d.pg().SuperuserURL("postgres")
	session, err := connect.Postgres(super, "argus-dev")
	if err != nil {
		return err
	}
	conn, err := pgx.ConnectConfig(ctx, session)
	if err != nil {
		return err
	}
	defer conn.Close(context.WithoutCancel(ctx))
	var exists bool
	if err := conn.QueryRow(ctx, "SELECT EXISTS (SELECT FROM pg_database WHERE datname = $1)", devDatabase).Scan(&exists); err != nil {
		return err
	}
	if !exists {
		if _, err := conn.Exec(ctx, "CREATE DATABASE "+pgx.Identifier{devDatabase}.Sanitize()); err != nil {
			return err
		}
	}
	superURL := d.pg().SuperuserURL(devDatabase)
	_, err = migrations.Postgres(ctx, superURL)
	if err == nil {
		_, err = migrations.ClickHouse(ctx, d.ch().AdminURL(devDatabase), superURL)
	}
	var other *migrations.OtherFilesError
	if errors.As(err, &other) {
		return fmt.Errorf("another build made the data in %s, with another schema in %s. Remove that directory and start again", d.dir, other.Store)
	}
	if err != nil {
		return err
	}
	for _, role := range []string{"argus_owner", "argus_api", "argus_replicator", "argus_auditor", "argus_maintenance", "argus_hold",
		"argus_break_glass", "argus_consent", "argus_ledger"} {
		if err := engines.SetPostgresPassword(ctx, superURL, role, d.state.Passwords[role]); err != nil {
			return err
		}
	}
	return nil
}

// startAPI runs the API as a child that holds only its own credentials.
func (d *dev) startAPI(context.Context) (process, error) {
	metrics, err := metricsAddress(&d.apiMetrics)
	if err != nil {
		return nil, err
	}
	return d.startChild("api", []string{"dev-api"}, []variable{
		{"ARGUS_LISTEN", d.addr},
		{"ARGUS_METRICS_LISTEN", metrics},
		{"ARGUS_SHUTDOWN_DELAY", "0s"}, // no balancer asks /readyz
		{"ARGUS_POSTGRES_URL", d.roleURL("argus_api")},
		{"ARGUS_POSTGRES_CONSENT_URL", d.roleURL("argus_consent")},
		{"ARGUS_CLICKHOUSE_URL", d.ch().NativeURL("argus_reader", d.state.Passwords["clickhouse/argus_reader"], devDatabase)},
		{"ARGUS_CURSOR_KEY", d.state.CursorKey},
		{"ARGUS_CLERK_ISSUER", d.issuer.URL},
		{"ARGUS_CLERK_API_URL", d.issuer.APIURL},
		{"ARGUS_CLERK_SECRET_KEY", d.state.ClerkKey},
		{"ARGUS_CLERK_AUTHORIZED_PARTIES", "http://" + d.addr},
		{"ARGUS_CLERK_ORGANIZATION", issuerOrganization},
		{"ARGUS_IDENTITY_FILE", d.issuer.IdentityFile},
		{"ARGUS_DEV_WORKERS_DIR", d.workersDir()},
		{"ARGUS_SERVICES_FILE", d.servicesFile()},
		{"ARGUS_PUBLIC_URL", "http://" + d.addr},
		{"ARGUS_ASSERTION_KEYS", d.state.AssertionKey},
	})
}

func (d *dev) startReplicator(context.Context) (process, error) {
	metrics, err := metricsAddress(&d.replicatorMetrics)
	if err != nil {
		return nil, err
	}
	return d.startChild("replicator", []string{"replicator"}, []variable{
		{"ARGUS_METRICS_LISTEN", metrics},
		{"ARGUS_POSTGRES_URL", d.roleURL("argus_replicator")},
		{"ARGUS_CLICKHOUSE_URL", d.ch().NativeURL("argus_replicator", d.state.Passwords["clickhouse/argus_replicator"], devDatabase)},
	})
}

// startLedger runs the ledger with a key of its own, as a child that holds only its own credentials.
func (d *dev) startLedger(context.Context) (process, error) {
	key, anchor := filepath.Join(d.dir, "ledger.key"), filepath.Join(d.dir, "ledger.anchor")
	if d.state.LedgerKey == "" {
		public, err := ledger.NewKeyFile(key, devOrigin)
		if err != nil {
			return nil, err
		}
		d.state.LedgerKey = public.String()
		if err := d.state.save(); err != nil {
			return nil, err
		}
	}
	metrics, err := metricsAddress(&d.ledgerMetrics)
	if err != nil {
		return nil, err
	}
	if d.ledgerAddr == "" {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			return nil, err
		}
		l.Close()
		d.ledgerAddr = l.Addr().String()
	}
	return d.startChild("ledger", []string{"ledger", "seal"}, []variable{
		{"ARGUS_METRICS_LISTEN", metrics},
		{"ARGUS_LEDGER_LISTEN", d.ledgerAddr},
		{"ARGUS_LEDGER_ORIGIN", devOrigin},
		{"ARGUS_LEDGER_KEY", key},
		{"ARGUS_LEDGER_ANCHOR", anchor},
		{"ARGUS_POSTGRES_URL", d.roleURL("argus_ledger")},
		{"ARGUS_CLICKHOUSE_URL", d.ch().NativeURL("argus_reader", d.state.Passwords["clickhouse/argus_reader"], devDatabase)},
	})
}

// devOrigin is the name of the log that argusd dev seals.
const devOrigin = "localhost/argus-dev"

// metricsAddress finds a free port of loopback for a child's /metrics.
func metricsAddress(url *atomic.Value) (string, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	defer l.Close()
	url.Store("http://" + l.Addr().String() + "/metrics")
	return l.Addr().String(), nil
}

// childProcess is a child of argusd's own kind; it drains when asked to stop.
type childProcess struct{ *engines.Child }

func (c childProcess) Stop(ctx context.Context) error { return c.Child.Stop(ctx, 15*time.Second) }

func (d *dev) startChild(name string, args []string, variables []variable) (process, error) {
	logFile, err := os.OpenFile(filepath.Join(d.dir, name+".log"), os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return nil, err
	}
	defer logFile.Close() // the child has its own
	command := exec.Command(d.executable, args...)
	command.Stdout, command.Stderr = logFile, logFile
	command.Dir = d.dir
	command.Env = []string{"TZ=UTC", "HOME=" + d.dir, "PATH=" + os.Getenv("PATH"), "TMPDIR=" + os.TempDir()}
	for _, v := range variables {
		command.Env = append(command.Env, v.name+"="+v.value)
	}
	child, err := engines.StartChild(command, syscall.SIGTERM)
	if err != nil {
		return nil, err
	}
	return childProcess{child}, nil
}

// waitReady returns when the API says it is ready, or what its log ended with when it does not within a minute.
func (d *dev) waitReady(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for {
		request, _ := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+d.addr+"/readyz", nil)
		if response, err := http.DefaultClient.Do(request); err == nil {
			response.Body.Close()
			if response.StatusCode == http.StatusOK {
				return nil
			}
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("the API did not become ready within a minute; its log is %s", filepath.Join(d.dir, "api.log"))
		case <-d.api.process().Done():
			return fmt.Errorf("the API ended at once; its log is %s", filepath.Join(d.dir, "api.log"))
		case <-tick.C:
		}
	}
}

// waitCopying returns when the replicator has said that it copies, or after a quarter of a minute: then health says
// what it does instead.
func (d *dev) waitCopying(ctx context.Context, since time.Time) error {
	config, err := connect.Postgres(d.roleURL("argus_owner"), "argusd dev")
	if err != nil {
		return err
	}
	conn, err := pgx.ConnectConfig(ctx, config)
	if err != nil {
		return err
	}
	defer conn.Close(context.WithoutCancel(ctx))
	for copying, deadline := false, time.Now().Add(15*time.Second); !copying && time.Now().Before(deadline); {
		if err := conn.QueryRow(ctx, `SELECT EXISTS (SELECT FROM argus.replicator_status
			WHERE updated_at > $1 AND status->>'state' = 'streaming')`, since).Scan(&copying); err != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(50 * time.Millisecond):
		}
	}
	return nil
}

func (d *dev) stop() {
	ctx, cancel := context.WithTimeout(context.Background(), 45*time.Second)
	defer cancel()
	for _, u := range slices.Backward(d.units()) {
		u.end(ctx)
		if u == d.api {
			// What "compute launch" started on this machine ends with the machine's ARGUS.
			if _, err := provider.StopLocalWorkers(d.workersDir()); err != nil {
				d.log.Error("local workers could not be stopped", "error", err)
			}
		}
	}
	if d.issuer != nil {
		d.issuer.Close()
	}
}

func (d *dev) workersDir() string { return filepath.Join(d.dir, "workers") }

// writeEnvFiles writes what a terminal sources: env for users, admin.env for who plays with the engines.
func (d *dev) writeEnvFiles() error {
	d.envFiles.Lock()
	defer d.envFiles.Unlock()
	reader := d.state.Passwords["clickhouse/argus_reader"]
	clickhouseHTTP := fmt.Sprintf("http://argus_reader:%s@127.0.0.1:%d/?database=%s", reader, d.ch().HTTPPort(), devDatabase)
	user := []variable{
		{"ARGUS_URL", "http://" + d.addr},
		{"ARGUS_TOKEN", d.state.Tokens["ARGUS_TOKEN"]},
		{"ARGUS_TOKEN_SUPPORT", d.state.Tokens["ARGUS_TOKEN_SUPPORT"]},
		{"ARGUS_TOKEN_TENANTS", d.state.Tokens["ARGUS_TOKEN_TENANTS"]},
		{"ARGUS_POSTGRES_URL", d.roleURL("argus_auditor")},
		{"ARGUS_CLICKHOUSE_URL", d.ch().NativeURL("argus_reader", reader, devDatabase)},
		{"ARGUS_CLICKHOUSE_HTTP_URL", clickhouseHTTP},
	}
	admin := []variable{
		{"ARGUS_POSTGRES_ADMIN_URL", d.roleURL("argus_owner")},
		{"ARGUS_POSTGRES_API_URL", d.roleURL("argus_api")},
		{"ARGUS_POSTGRES_BREAK_GLASS_URL", d.roleURL("argus_break_glass")},
		{"ARGUS_POSTGRES_CONSENT_URL", d.roleURL("argus_consent")},
		{"ARGUS_METRICS_URL_API", fmt.Sprint(d.apiMetrics.Load())},
		{"ARGUS_METRICS_URL_REPLICATOR", fmt.Sprint(d.replicatorMetrics.Load())},
		{"ARGUS_SERVICES_FILE", d.servicesFile()},
		{"ARGUS_PID_DEV", fmt.Sprint(os.Getpid())},
		{"ARGUS_PID_API", fmt.Sprint(d.api.pid())},
		{"ARGUS_PID_REPLICATOR", fmt.Sprint(d.replicator.pid())},
		{"ARGUS_POSTGRES_LEDGER_URL", d.roleURL("argus_ledger")},
		{"ARGUS_METRICS_URL_LEDGER", fmt.Sprint(d.ledgerMetrics.Load())},
		{"ARGUS_LEDGER_URL", "http://" + d.ledgerAddr},
		{"ARGUS_PID_LEDGER", fmt.Sprint(d.ledger.pid())},
		{"ARGUS_PID_POSTGRES", fmt.Sprint(d.postgres.pid())},
		{"ARGUS_PID_CLICKHOUSE", fmt.Sprint(d.clickhouse.pid())},
	}
	door := []variable{ // of argusd check services, argusd check provider fleet
		{"ARGUS_SERVICES_FILE", d.servicesFile()},
		{"ARGUS_PUBLIC_URL", "http://" + d.addr},
		{"ARGUS_ASSERTION_KEYS", d.state.AssertionKey},
		{"ARGUS_POSTGRES_URL", d.roleURL("argus_api")},
		{"ARGUS_CLICKHOUSE_URL", user[5].value},
	}
	job := []variable{
		{"ARGUS_URL", "http://" + d.addr},
		{"ARGUS_TOKEN", ""},
		{"GITHUB_ACTIONS", "true"},
		{"ACTIONS_ID_TOKEN_REQUEST_URL", d.issuer.MintURL() + "?job=1"},
		{"ACTIONS_ID_TOKEN_REQUEST_TOKEN", "local"},
	}
	return errors.Join(
		writeEnvFile(filepath.Join(d.dir, "services.env"), "", door),
		writeEnvFile(filepath.Join(d.dir, "env"), filepath.Dir(d.executable), user),
		writeEnvFile(filepath.Join(d.dir, "ci.env"), filepath.Dir(d.executable), job),
		writeEnvFile(filepath.Join(d.dir, "admin.env"), "", admin))
}

func (d *dev) welcome() {
	env := filepath.Join(d.dir, "env")
	if relative, err := filepath.Rel(mustGetwd(), env); err == nil && len(relative) < len(env) {
		env = relative
	}
	fmt.Printf(`
ARGUS is ready.

  Console   http://%s/
  Ledger    http://%s/checkpoint
            --key '%s'
  Terminal  source %s
            argusctl health
            argusctl compute list
            argusctl service ls
            argusctl logs tail --since 5m
            argusctl perf
  CI job    source %s    # a terminal as a CI job has it; see argusd dev ci-token, too

Logs are in %s. Ctrl-C stops everything.
`, d.addr, d.ledgerAddr, d.state.LedgerKey, shellWord(env), shellWord(strings.TrimSuffix(env, "env")+"ci.env"), d.dir)
}

func newLocalWorkerCommand() *cobra.Command {
	return &cobra.Command{
		Use:                "local-worker",
		Short:              "What the provider local runs; not for use by itself",
		Hidden:             true,
		DisableFlagParsing: true,
		RunE:               func(_ *cobra.Command, args []string) error { return provider.RunLocalWorker(args) },
	}
}
