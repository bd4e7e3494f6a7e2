package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"strings"
	"time"

	"github.com/caarlos0/env/v11"
	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/useargus/argus/connect"
	"github.com/useargus/argus/migrations"
	"github.com/useargus/argus/replicator"
)

func newReplicatorCommand() *cobra.Command {
	var check, resync bool
	var since, copied, retire string
	command := &cobra.Command{
		Use:   "replicator",
		Short: "Copy the audit tables from Postgres to ClickHouse, exactly once",
		Long: `Copy the audit tables from Postgres to ClickHouse, exactly once. Several may run: one is active, the others stand
by. Where ARGUS_CLICKHOUSE_URL names several servers, each has replicators and a slot of its own, and --copy says whose
this one is. --check compares both stores and the rollups. It ends with 0 when they are equal, 9 when they differ or
the log in Postgres is damaged, and 3 when nothing could be compared. --resync compares, and copies what is missing.

--retire takes a copy out: it drops the slot, for which Postgres would keep write-ahead log, and forgets which server it fed.`,
		Example: "  argusd replicator\n  argusd replicator --check --since 7d\n  argusd replicator --resync\n  argusd replicator --copy east",
		Args:    cobra.NoArgs,
		RunE: func(command *cobra.Command, _ []string) error {
			if retire != "" {
				return retireCopy(command.Context(), retire)
			}
			config, err := load[replicatorConfig](withCopy(copied))
			if err != nil {
				return err
			}
			server, err := connect.FindServer(config.ClickHouseURL, config.Copy)
			if err != nil {
				return err
			}
			ctx := command.Context()
			if err := rejectOldSchemas(ctx, config.PostgresURL, server.URL); err != nil {
				return err
			}
			registry := newRegistry()
			log := config.logger()
			r, err := replicator.New(replicator.Config{
				PostgresURL: config.PostgresURL, ClickHouseURL: server.URL, Slot: server.Slot(config.Slot), Publication: server.Publication(),
				SlotBase: config.Slot, Slots: slotsOf(config.ClickHouseURL, config.Slot),
				Copy: server.Copy, Shard: server.Number, Shards: server.Of,
				Logger: log, Registerer: registry, Progress: progress(log),
			})
			if err != nil {
				return err
			}
			switch {
			case check:
				return runCheck(ctx, r, since)
			case resync:
				return r.Resync(ctx)
			}
			stopMetrics, err := serveMetrics(config.MetricsListen, registry)
			if err != nil {
				return err
			}
			defer stopMetrics()
			if err := r.Run(ctx); err != nil && !errors.Is(err, context.Canceled) {
				return err
			}
			return nil
		},
	}
	command.Flags().BoolVar(&check, "check", false, "compare both stores and the rollups, then end")
	command.Flags().StringVar(&since, "since", "", "with --check: only what happened since (1h or 7d ago, yesterday, or RFC 3339; days are UTC)")
	command.Flags().StringVar(&copied, "copy", "", "which server of ARGUS_CLICKHOUSE_URL: `NAME`, or NAME/2 for a shard; ARGUS_COPY when empty")
	command.Flags().BoolVar(&resync, "resync", false, "compare, copy what is missing, then end")
	command.Flags().StringVar(&retire, "retire", "", "drop the replication slot of the copy `NAME` and all that Postgres remembers of it, then end")
	command.MarkFlagsMutuallyExclusive("check", "resync", "retire")
	return command
}

// retireCopy needs no ClickHouse: the copy may be gone, and out of the configuration.
func retireCopy(ctx context.Context, name string) error {
	config, err := load[retireConfig](nil)
	if err != nil {
		return err
	}
	slots, err := replicator.Retire(ctx, config.PostgresURL, config.Slot, name)
	if err != nil {
		return err
	}
	fmt.Printf("Retired %s. Take the copy out of ARGUS_CLICKHOUSE_URL of every process.\n", strings.Join(slots, ", "))
	return nil
}

// retireConfig is what of the replicator's configuration retiring a copy needs.
type retireConfig struct {
	PostgresURL string `env:"ARGUS_POSTGRES_URL,required,notEmpty" secret:"true"`
	Slot        string `env:"ARGUS_REPLICATION_SLOT" envDefault:"argus"`
}

func (retireConfig) problems() []string { return nil }

// withCopy is the process's environment, with the server that the flag names.
func withCopy(name string) map[string]string {
	environ := env.ToMap(os.Environ())
	if name != "" {
		environ["ARGUS_COPY"] = name
	}
	return environ
}

// rejectOldSchemas: what a store that cannot be asked has is found out later, by trying.
func rejectOldSchemas(ctx context.Context, postgres, clickhouse string) error {
	for _, asked := range []func(context.Context) error{
		func(ctx context.Context) error { return migrations.CheckPostgres(ctx, postgres) },
		func(ctx context.Context) error { return migrations.CheckClickHouse(ctx, clickhouse) },
	} {
		bounded, cancel := context.WithTimeout(ctx, 10*time.Second) // each its own: a store that hangs says nothing of the other
		err := asked(bounded)
		cancel()
		if old := (*migrations.PendingError)(nil); errors.As(err, &old) {
			return err
		}
	}
	return nil
}

// progress of long copies goes to the terminal, or into the log where there is none.
func progress(log *slog.Logger) io.Writer {
	if term.IsTerminal(int(os.Stderr.Fd())) {
		return os.Stderr
	}
	return logWriter{log}
}

type logWriter struct{ log *slog.Logger }

func (w logWriter) Write(line []byte) (int, error) {
	w.log.Info(strings.TrimSuffix(string(line), "\n"))
	return len(line), nil
}

// runCheck prints the first difference.
func runCheck(ctx context.Context, r *replicator.Replicator, since string) error {
	var from time.Time
	if since != "" {
		var err error
		if from, err = typedTime("--since", since, false); err != nil {
			return err
		}
	}
	result, err := r.Check(ctx, from)
	if err != nil {
		return &exitError{3, fmt.Errorf("nothing could be compared: %w", err)}
	}
	fmt.Fprintln(os.Stdout, result)
	if len(result.Differences) == 0 && len(result.Findings) > 0 {
		return &exitError{9, errors.New("the log in Postgres is damaged: no copying mends it, see deploy/observability/RUNBOOKS.md#arguslogdamaged")}
	}
	if !result.Equal() {
		return &exitError{9, errors.New("the copy differs from the system of record; argusd replicator --resync mends it")}
	}
	return nil
}
