package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"github.com/spf13/cobra"

	"github.com/useargus/argus"
	"github.com/useargus/argus/analytics"
	"github.com/useargus/argus/api"
	"github.com/useargus/argus/connect"
	"github.com/useargus/argus/migrations"
	"github.com/useargus/argus/writer"
)

func newAPICommand() *cobra.Command {
	return &cobra.Command{
		Use:     "api",
		Short:   "Serve the ops API and the console",
		Example: "  argusd api",
		Args:    cobra.NoArgs,
		RunE: func(command *cobra.Command, _ []string) error {
			config, err := load[apiConfig](nil)
			if err != nil {
				return err
			}
			return serveAPI(command.Context(), config, devAPI{})
		},
	}
}

// devAPI is what the API of argusd dev has and no other: argusd api leaves it zero, and no variable can set it.
type devAPI struct {
	localIssuer bool   // a session issuer over http on loopback is taken
	workersDir  string // the provider "local" starts processes of this machine
}

// serveAPI joins the stages of one API process, and ends in order when ctx does:
//
//	listener ▸ api ─┬▸ writer ────▸ Postgres (argus_api)
//	                ├▸ analytics ─▸ ClickHouse (argus_reader), Postgres for the tail
//	                ├▸ pool ──────▸ Postgres: credentials, state of workers and tenants
//	                └▸ services ──▸ the fleet's own APIs, by ARGUS_SERVICES_FILE
//
// On the way down no part loses what it needs. Readiness fails while calls are still taken, so that balancers turn
// away. Then the listener drains its calls, the API's own work ends, the writer drains, and connections close.
func serveAPI(ctx context.Context, config apiConfig, dev devAPI) error {
	log := config.logger()
	registry := newRegistry()
	start, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()

	pool, err := openPool(start, config.PostgresURL)
	if err != nil {
		return err
	}
	defer pool.Close()
	if err := rejectMightyRole(start, pool); err != nil {
		return err
	}
	if err := migrations.CheckPostgres(start, config.PostgresURL); err != nil {
		return err
	}

	w, err := writer.New(writer.Config{URL: config.PostgresURL, Lanes: config.WriterLanes, Logger: log, Registerer: registry})
	if err != nil {
		return err
	}
	questions, err := analytics.New(analytics.Config{ClickHouseURL: config.ClickHouseURL, HedgeAfter: config.HedgeAfter, Postgres: pool,
		CursorKey: config.cursorKey(), Logger: log, Registerer: registry})
	if err != nil {
		return err
	}
	ac, err := config.api(dev)
	if err != nil {
		return err
	}
	stopServices, err := config.serveServices(&ac, log)
	if err != nil {
		return err
	}
	defer stopServices()
	ac.Pool, ac.Audit, ac.Log, ac.Logger, ac.Registerer = pool, w, questions, log, registry
	a, err := api.New(ac)
	if err != nil {
		return err
	}

	if err := w.Start(start); err != nil {
		return fmt.Errorf("start the writer: %w", err)
	}
	if err := questions.Start(start); err != nil {
		return fmt.Errorf("start analytics: %w", err)
	}
	if err := a.Start(start); err != nil {
		return fmt.Errorf("start the API: %w", err)
	}
	stopMetrics, err := serveMetrics(config.MetricsListen, registry)
	if err != nil {
		return err
	}
	defer stopMetrics()

	listener, err := net.Listen("tcp", config.Listen)
	if err != nil {
		return err
	}
	server := api.NewServer(config.Listen, a.Handler())
	server.ErrorLog = slog.NewLogLogger(log.Handler(), slog.LevelWarn)
	server.RegisterOnShutdown(a.Drain)
	served := make(chan error, 1)
	go func() { served <- server.Serve(a.Listener(listener)) }()
	log.Info("serving", "address", listener.Addr().String(), "version", argus.Version)

	select {
	case err := <-served:
		return err
	case <-ctx.Done():
	}
	a.Leave()
	log.Info("stopping: not ready any more", "calls_taken_for", config.ShutdownDelay)
	select {
	case err := <-served:
		return err
	case <-time.After(config.ShutdownDelay):
	}
	log.Info("stopping: calls under way are finished")
	end, cancelEnd := context.WithTimeout(context.Background(), 12*time.Second)
	defer cancelEnd()
	err = errors.Join(server.Shutdown(end), a.Close(end), w.Close(end))
	if closeErr := questions.Close(end); closeErr != nil {
		err = errors.Join(err, closeErr)
	}
	return err
}

// openPool connects to Postgres for everything but the writer and the questions, which have their own.
func openPool(ctx context.Context, url string) (*pgxpool.Pool, error) {
	config, err := connect.PostgresPool(url, "argus-api")
	if err != nil {
		return nil, err
	}
	config.MaxConns = 24
	config.ConnConfig.ConnectTimeout = time.Second
	pool, err := pgxpool.NewWithConfig(ctx, config)
	if err != nil {
		return nil, err
	}
	for {
		err := pool.Ping(ctx)
		if err == nil {
			return pool, nil
		}
		if ctx.Err() != nil || !later(err) {
			pool.Close()
			return nil, fmt.Errorf("connecting to Postgres: %w", err)
		}
		select { // one that is starting refuses at once
		case <-ctx.Done():
		case <-time.After(100 * time.Millisecond):
		}
	}
}

// later tells whether Postgres may only be slow, or just starting. A second, which is what a call gives a connection, can be too
// short on a busy machine, and the start of a process has more.
func later(err error) bool {
	var rejected *pgconn.PgError
	if errors.As(err, &rejected) {
		return rejected.Code == "57P03" // cannot_connect_now
	}
	return pgconn.Timeout(err) || errors.Is(err, context.DeadlineExceeded)
}

// rejectMightyRole: an API that could change the log would make its append-only promise worthless.
func rejectMightyRole(ctx context.Context, pool *pgxpool.Pool) error {
	var super, owner bool
	var name string
	if err := pool.QueryRow(ctx, `SELECT current_user, rolsuper,
		pg_has_role(current_user, 'argus_owner', 'MEMBER') FROM pg_roles WHERE rolname = current_user`).
		Scan(&name, &super, &owner); err != nil {
		return fmt.Errorf("look at the own Postgres role: %w", err)
	}
	if super || owner {
		return fmt.Errorf("argusd api logged in to Postgres as %s, who could change the audit log; "+
			"give it ARGUS_POSTGRES_URL of argus_api", name)
	}
	return nil
}

func newRegistry() *prometheus.Registry {
	registry := prometheus.NewRegistry()
	registry.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	return registry
}

// serveMetrics serves /metrics on a listener of its own; an empty address turns it off.
func serveMetrics(address string, registry *prometheus.Registry) (stop func(), err error) {
	if address == "" {
		return func() {}, nil
	}
	listener, err := net.Listen("tcp", address)
	if err != nil {
		return nil, fmt.Errorf("metrics: %w", err)
	}
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", promhttp.HandlerFor(registry, promhttp.HandlerOpts{Registry: registry}))
	server := &http.Server{Handler: mux, ReadHeaderTimeout: 5 * time.Second}
	go server.Serve(listener)
	return func() { server.Close() }, nil
}

func newDevAPICommand() *cobra.Command {
	return &cobra.Command{
		Use:    "dev-api",
		Short:  "The API as argusd dev runs it; not for use by itself",
		Hidden: true,
		Args:   cobra.NoArgs,
		RunE: func(command *cobra.Command, _ []string) error {
			config, err := load[devAPIConfig](nil)
			if err != nil {
				return err
			}
			return serveAPI(command.Context(), config.API, devAPI{localIssuer: true, workersDir: config.WorkersDir})
		},
	}
}

type devAPIConfig struct {
	API        apiConfig
	WorkersDir string `env:"ARGUS_DEV_WORKERS_DIR,required"`
}

func (c devAPIConfig) problems() []string { return c.API.check(true) }
