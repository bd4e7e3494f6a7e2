package main

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"runtime/debug"
	"strings"

	"github.com/spf13/cobra"

	"github.com/useargus/argus/ship"
	"github.com/useargus/argus/ship/s3"
	"github.com/useargus/argus/ship/sink"
)

type shipConfig struct {
	LogConfig
	MetricsListen string `env:"ARGUS_METRICS_LISTEN" whenUnset:"127.0.0.1:9423" help:"address of /metrics; empty turns it off"`
	PostgresURL   string `env:"ARGUS_POSTGRES_URL,required,notEmpty" help:"as argus_ship, the primary" secret:"true"`
	ReadURL       string `env:"ARGUS_POSTGRES_READ_URL" help:"as argus_ship, where rows are read: a standby; empty reads them from the primary" secret:"true"`
	SinksFile     string `env:"ARGUS_SINKS_FILE,required,notEmpty" help:"file of the sinks, docs/ship.md; read at start"`
	RetentionDays int    `env:"ARGUS_RETENTION_DAYS" envDefault:"365" help:"as maintenance has it: ship warns before rows leave that a sink has not taken"`
}

func (c shipConfig) problems() []string {
	var p problems
	c.LogConfig.check(&p)
	checkStores(&p, c.PostgresURL, "")
	if c.ReadURL != "" {
		checkStores(&p, c.ReadURL, "")
	}
	if c.MetricsListen != "" {
		checkAddress(&p, "ARGUS_METRICS_LISTEN", c.MetricsListen)
	}
	if c.RetentionDays < 365 {
		p.add("ARGUS_RETENTION_DAYS is %d, and at least 365", c.RetentionDays)
	}
	if c.SinksFile != "" {
		if _, err := sink.Load(c.SinksFile); err != nil {
			for line := range strings.SplitSeq(err.Error(), "\n") {
				p.add("ARGUS_SINKS_FILE: %s", line)
			}
		}
	}
	return p
}

// shipMemory is what the Go runtime keeps a shipper's memory below, however far behind it is.
const shipMemory = 112 << 20

func newShipCommand() *cobra.Command {
	command := &cobra.Command{
		Use:   "ship",
		Short: "Give the log to other systems: the sinks of ARGUS_SINKS_FILE",
		Long: `Give every row of the log to the sinks that ARGUS_SINKS_FILE declares, at least once and in the order of each
writer. It announces every hole. Several may run: for each sink one is active, the others stand by. argusctl ship verify
proves to a receiver that it got everything. docs/ship.md explains.`,
		Example: "  ARGUS_SINKS_FILE=/etc/argus/sinks.yaml argusd ship",
		Args:    cobra.NoArgs,
		RunE: func(command *cobra.Command, _ []string) error {
			config, err := load[shipConfig](nil)
			if err != nil {
				return err
			}
			return runShip(command.Context(), config)
		},
	}
	command.AddCommand(&cobra.Command{
		Use:   "read <s3://bucket/prefix, folder or file>...",
		Short: "Write batches of a bucket, or of Parquet files, as lines for argusctl ship verify",
		Long: `Write the batches of a bucket, or of files of Parquet, as the lines that argusctl ship verify reads. argusctl calls this itself
when it is given such a place. Keys, region and endpoint are those of AWS's own tools: AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY,
AWS_REGION, AWS_ENDPOINT_URL, and the file of shared credentials.`,
		Example: "  argusd ship read s3://audit/argus/ | argusctl ship verify -",
		Args:    cobra.MinimumNArgs(1),
		RunE: func(command *cobra.Command, args []string) error {
			out := bufio.NewWriterSize(os.Stdout, 1<<20)
			for _, place := range args {
				if err := s3.Read(command.Context(), place, out); err != nil {
					return err
				}
			}
			return out.Flush()
		},
	})
	return command
}

func runShip(ctx context.Context, config shipConfig) error {
	debug.SetMemoryLimit(shipMemory)
	sinks, err := sink.Load(config.SinksFile)
	if err != nil {
		return fmt.Errorf("ARGUS_SINKS_FILE: %w", err)
	}
	registry := newRegistry()
	s, err := ship.New(ship.Config{PostgresURL: config.PostgresURL, ReadURL: config.ReadURL, Sinks: sinks, RetentionDays: config.RetentionDays,
		Logger: config.logger(), Registerer: registry})
	if err != nil {
		return err
	}
	defer s.Close()
	stopMetrics, err := serveMetrics(config.MetricsListen, registry)
	if err != nil {
		return err
	}
	defer stopMetrics()
	return s.Run(ctx)
}
