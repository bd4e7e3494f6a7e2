package main

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/useargus/argus"
	"github.com/useargus/argus/argusd/logins"
	"github.com/useargus/argus/connect"
	"github.com/useargus/argus/migrations"
)

func newMigrateCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "migrate",
		Short: "Bring Postgres and ClickHouse to this binary's schema",
		Long: `Bring Postgres and ClickHouse to this binary's schema. Running it again changes nothing; several at once take
turns. Run it before the processes of a new release start. Where ARGUS_CLICKHOUSE_URL names several servers, each is
migrated. A server that fails does not stop the others, and the command then ends with an error.

The roles and users it makes cannot log in until they have a password. Those that the environment gives
(ARGUS_POSTGRES_API_PASSWORD and so on) are set each time, so that a new one takes effect.`,
		Example: "  ARGUS_POSTGRES_URL=postgres://… ARGUS_CLICKHOUSE_URL=clickhouse://… argusd migrate",
		Args:    cobra.NoArgs,
		RunE: func(command *cobra.Command, _ []string) error {
			config, err := load[migrateConfig](nil)
			if err != nil {
				return err
			}
			n, err := migrations.Postgres(command.Context(), config.PostgresURL)
			if err != nil {
				return fmt.Errorf("migrating Postgres: %w", err)
			}
			fmt.Printf("Postgres: %s applied.\n", argus.Counted(n, "migration"))
			roles, users := config.logins()
			if err := logins.Postgres(command.Context(), config.PostgresURL, roles); err != nil {
				return fmt.Errorf("setting passwords in Postgres: %w", err)
			}
			told("Postgres", roles)
			copies, err := connect.Copies(config.ClickHouseURL)
			if err != nil {
				return err
			}
			servers, err := connect.Servers(config.ClickHouseURL)
			if err != nil {
				return err
			}
			waiting, err := migrations.Shards(command.Context(), config.PostgresURL, copies)
			if err != nil {
				return err
			}
			for _, line := range waiting {
				fmt.Println(line)
			}
			err = onEach(servers, func(server connect.Shard) error {
				n, err := migrations.ClickHouse(command.Context(), server.URL, config.PostgresURL)
				if err != nil {
					return err
				}
				fmt.Printf("%s: %s applied.\n", server, argus.Counted(n, "migration"))
				if err := logins.ClickHouse(command.Context(), server.URL, users); err != nil {
					return fmt.Errorf("setting passwords: %w", err)
				}
				told(server.String(), users)
				return nil
			})
			if err != nil {
				return err
			}
			for _, c := range copies {
				if len(c.Shards) > 1 {
					if err := migrations.JoinShards(command.Context(), c); err != nil {
						return err
					}
				}
			}
			return nil
		},
	}
}

// onEach does the same with every server. What fails with one is told at the end and keeps it from no other.
func onEach(servers []connect.Shard, do func(connect.Shard) error) error {
	var failed []error
	for _, server := range servers {
		if err := do(server); err != nil {
			failed = append(failed, fmt.Errorf("%s: %w", server, err))
		}
	}
	return errors.Join(failed...)
}

func told(store string, passwords map[string]string) {
	if len(passwords) > 0 {
		fmt.Printf("%s: passwords set of %s.\n", store, strings.Join(slices.Sorted(maps.Keys(passwords)), ", "))
	}
}
