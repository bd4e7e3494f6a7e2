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
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/spf13/cobra"

	"github.com/useargus/argus"
	"github.com/useargus/argus/api/provider"
	"github.com/useargus/argus/connect"
	"github.com/useargus/argus/internal/engines"
	"github.com/useargus/argus/internal/ports"
	"github.com/useargus/argus/migrations"
)

// argusd dev is ARGUS on one machine, every part of it real:
//
//	argusd dev ─┬─ postgres      (internal/engines); with ARGUS_DEV_STANDBYS also standbys
//	            ├─ clickhouse    (internal/engines); several with ARGUS_DEV_COPIES and ARGUS_DEV_SHARDS, and a replicator for each
//	            ├─ argusd dev-sample    a service behind the door (internal/sample)
//	            ├─ local issuers in this process: play Clerk, a second issuer of people and a CI's, loopback only
//	            ├─ argusd dev-api       a child with the API's credentials only
//	            ├─ argusd replicator    a child with the replicator's credentials only
//	            ├─ argusd ledger seal   a child with the ledger's credentials and its key
//	            └─ argusd ship          a child that ships to the folder shipped
//
// What dies is started again; a signal ends all of it, children first.
type dev struct {
	dir, addr  string
	executable string
	state      *devState
	log        *slog.Logger
	issuer     *issuerServer

	postgres, api, ledger, ship, sample *unit
	nodes                               []*unit // postgres, and its standbys
	primaryDir                          string
	clickhouses, replicators            []*unit // one each, or as many as there are servers

	apiMetrics, replicatorMetrics, ledgerMetrics, shipMetrics atomic.Value // the URLs, as strings; new ones with each start

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
(default 127.0.0.1:8420); port 0 is a free one. With ARGUS_DEV_COPIES=2 there are two copies in ClickHouse, east
and west. With ARGUS_DEV_SHARDS=3 three servers of ClickHouse share the rows of each copy. With
ARGUS_DEV_STANDBYS=2 Postgres has two standbys, of which a call waits for one (docs/high-availability.md loses
the primary). Ctrl-C stops everything it started.

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
	if d.awaitHealth(ctx); ctx.Err() != nil {
		return nil
	}
	d.welcome()

	var keepers sync.WaitGroup
	for _, u := range d.units() {
		if len(d.nodes) > 1 && slices.Contains(d.nodes, u) {
			keepers.Go(func() { u.mourn(ctx) })
			continue
		}
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
	if err != nil || !address.Addr().IsLoopback() {
		return nil, nil, fmt.Errorf("ARGUS_DEV_ADDR=%q must be a loopback address with a port, like 127.0.0.1:8420", d.addr)
	}
	if address.Port() == 0 {
		if d.addr, err = ports.FreeAddress(); err != nil {
			return nil, nil, err
		}
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
	nodes, err := standbys(os.Getenv("ARGUS_DEV_STANDBYS"))
	if err != nil {
		unlock()
		return nil, nil, err
	}
	d.planNodes(nodes)
	if err := d.state.servers(os.Getenv("ARGUS_DEV_COPIES"), os.Getenv("ARGUS_DEV_SHARDS")); err != nil {
		unlock()
		return nil, nil, fmt.Errorf("%s: %w", d.dir, err)
	}
	for i := range d.state.Copies * d.state.Shards {
		d.clickhouses = append(d.clickhouses, d.unit(d.state.serverName("clickhouse", i), func(ctx context.Context) (process, error) { return d.startClickHouse(ctx, i) }))
		d.replicators = append(d.replicators, d.unit(d.state.serverName("replicator", i), func(context.Context) (process, error) { return d.startReplicator(i) }))
	}
	d.api = d.unit("api", d.startAPI)
	d.ledger = d.unit("ledger", d.startLedger)
	d.ship = d.unit("ship", d.startShip)
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
	return slices.Concat(d.nodes, d.clickhouses, d.replicators, []*unit{d.ledger, d.ship, d.sample, d.api})
}

func (d *dev) startAll(ctx context.Context) error {
	fmt.Println("Starting Postgres and ClickHouse.")
	if err := engines.Install(ctx); err != nil {
		return err
	}
	var pgErr, chErr error
	var both sync.WaitGroup
	both.Go(func() { pgErr = d.postgres.begin(ctx) })
	both.Go(func() { chErr = d.startClickHouses(ctx) })
	both.Wait()
	if err := errors.Join(pgErr, chErr); err != nil {
		return err
	}
	if err := d.migrate(ctx); err != nil {
		return err
	}
	if err := d.startStandbys(ctx); err != nil {
		return err
	}
	issuer, err := startIssuer(d.state, d.dir, d.addr)
	if err != nil {
		return err
	}
	d.issuer = issuer
	began := time.Now()
	for _, replicator := range d.replicators {
		if err := replicator.begin(ctx); err != nil {
			return err
		}
	}
	if err := d.waitCopying(ctx, began); err != nil {
		return err
	}
	if err := d.awaitSlots(ctx); err != nil {
		return err
	}
	if err := d.ledger.begin(ctx); err != nil {
		return err
	}
	if err := d.ship.begin(ctx); err != nil {
		return err
	}
	if err := d.writeServicesFile(); err != nil {
		return err
	}
	if err := d.sample.begin(ctx); err != nil {
		return err
	}
	if err := listens(ctx, d.sampleAddress(), d.sample.process()); err != nil { // or the API takes it for down
		return fmt.Errorf("the sample service: %w; its log is %s", err, filepath.Join(d.dir, "sample.log"))
	}
	if err := d.api.begin(ctx); err != nil {
		return err
	}
	return d.waitReady(ctx)
}

func (d *dev) startPostgres(ctx context.Context) (process, error) {
	config := engines.PostgresConfig{Dir: d.primaryDir}
	if len(d.nodes) > 1 { // after a failover a standby does as the primary did
		config.Settings = map[string]string{"hot_standby_feedback": "on", "sync_replication_slots": "on", "wal_retrieve_retry_interval": "500ms"}
	}
	if before, ok := d.postgres.process().(*engines.Postgres); ok {
		config = before.Config() // the same port
	}
	pg, err := engines.StartPostgres(ctx, config)
	if err != nil {
		return nil, err
	}
	// No standby streams yet, or any more.
	if told, _ := os.ReadFile(filepath.Join(config.Dir, "data/postgresql.auto.conf")); strings.Contains(string(told), "synchronous_standby_names") {
		if err := pg.Set(ctx, "synchronous_standby_names", ""); err != nil {
			return nil, errors.Join(err, pg.Stop(ctx))
		}
	}
	return pg, nil
}

func (d *dev) pg() *engines.Postgres { return d.postgres.process().(*engines.Postgres) }

// roleURL is how a Postgres role logs in.
func (d *dev) roleURL(role string) string {
	return d.overNodes(d.pg().URL(role, d.state.Passwords[role], devDatabase))
}

// migrate brings both stores to this binary's schema and lets the roles log in.
func (d *dev) migrate(ctx context.Context) error {
	super := d.pg().SuperuserURL("postgres")
	session, err := connect.Postgres(super, "argus-dev")
	if err != nil {
		return err
	}
	conn, err := connect.Open(ctx, session)
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
		err = d.migrateClickHouses(ctx, superURL)
	}
	var other *migrations.OtherFilesError
	if errors.As(err, &other) {
		return fmt.Errorf("another build made the data in %s, with another schema in %s. Remove that directory and start again", d.dir, other.Store)
	}
	if err != nil {
		return err
	}
	for _, role := range []string{"argus_owner", "argus_api", "argus_replicator", "argus_auditor", "argus_maintenance", "argus_hold",
		"argus_break_glass", "argus_consent", "argus_ledger", "argus_ship"} {
		if err := engines.SetPostgresPassword(ctx, superURL, role, d.state.Passwords[role]); err != nil {
			return err
		}
	}
	return nil
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

// listens returns when something takes connections at the address, and an error when the process ends or a minute is over.
func listens(ctx context.Context, address string, p process) error {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	for {
		conn, err := new(net.Dialer).DialContext(ctx, "tcp", address)
		if err == nil {
			return conn.Close()
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("it does not listen: %w", err)
		case <-p.Done():
			return errors.New("it ended at once")
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// awaitHealth returns when every stage says that it is well, or after half a minute: then it tells what does not.
func (d *dev) awaitHealth(ctx context.Context) {
	bounded, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	ada := d.caller("ARGUS_TOKEN", "argusctl/"+argus.Version)
	for {
		var health struct {
			Status string        `json:"status"`
			Stages []argus.Stage `json:"stages"`
		}
		if _, err := ada.do(bounded, http.MethodGet, "/v1/health", nil, &health); err == nil && health.Status == "ok" {
			return
		}
		select {
		case <-bounded.Done():
			for _, s := range health.Stages {
				if s.Status != "ok" && ctx.Err() == nil {
					d.log.Warn("a stage is not well yet; see argusctl health", "stage", s.Name, "status", s.Status, "detail", s.Detail)
				}
			}
			return
		case <-time.After(200 * time.Millisecond):
		}
	}
}

// waitCopying returns when every replicator has said that it copies, or after a quarter of a minute: then health says
// what it does instead.
func (d *dev) waitCopying(ctx context.Context, since time.Time) error {
	config, err := connect.Postgres(d.roleURL("argus_owner"), "argusd dev")
	if err != nil {
		return err
	}
	conn, err := connect.Open(ctx, config)
	if err != nil {
		return err
	}
	defer conn.Close(context.WithoutCancel(ctx))
	for copying, deadline := false, time.Now().Add(15*time.Second); !copying && time.Now().Before(deadline); {
		if err := conn.QueryRow(ctx, `SELECT count(*) >= $2 FROM argus.replicator_status
			WHERE updated_at > $1 AND status->>'state' = 'streaming'`, since, len(d.replicators)).Scan(&copying); err != nil {
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

func newLocalWorkerCommand() *cobra.Command {
	return &cobra.Command{
		Use:                "local-worker",
		Short:              "What the provider local runs; not for use by itself",
		Hidden:             true,
		DisableFlagParsing: true,
		RunE:               func(_ *cobra.Command, args []string) error { return provider.RunLocalWorker(args) },
	}
}
