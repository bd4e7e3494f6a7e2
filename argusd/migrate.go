package main

import (
	"fmt"

	"github.com/spf13/cobra"

	"github.com/useargus/argus/migrations"
)

func newMigrateCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "migrate",
		Short: "Bring Postgres and ClickHouse to this binary's schema",
		Long: `Bring Postgres and ClickHouse to this binary's schema. Running it again changes nothing; several at once take
turns. Run it before the processes of a new release start.`,
		Example: "  ARGUS_POSTGRES_URL=postgres://… ARGUS_CLICKHOUSE_URL=clickhouse://… argusd migrate",
		Args:    cobra.NoArgs,
		RunE: func(command *cobra.Command, _ []string) error {
			config, err := load[migrateConfig](nil)
			if err != nil {
				return err
			}
			n, err := migrations.Postgres(command.Context(), config.PostgresURL)
			if err != nil {
				return fmt.Errorf("Postgres: %w", err)
			}
			fmt.Printf("Postgres: %d migrations applied.\n", n)
			if config.ClickHouseURL == "" {
				return nil
			}
			n, err = migrations.ClickHouse(command.Context(), config.ClickHouseURL, config.PostgresURL)
			if err != nil {
				return fmt.Errorf("ClickHouse: %w", err)
			}
			fmt.Printf("ClickHouse: %d migrations applied.\n", n)
			return nil
		},
	}
}
