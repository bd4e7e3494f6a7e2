package main

import (
	"context"
	"fmt"
	"time"

	"github.com/ClickHouse/clickhouse-go/v2"
	"github.com/jackc/pgx/v5"
	"github.com/spf13/cobra"
)

// monthsAhead is how many months of partitions maintenance keeps in front of the clock.
const monthsAhead = 24

func newMaintainCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "maintain",
		Short: "Create partitions ahead and drop months past retention, in both stores",
		Long: `Create partitions 24 months ahead, and drop whole months that ended more than 365 days ago, in both stores and in
the rollups. Each drop is recorded in argus.audit_admin. Run it daily; running it twice, or two at once, is safe.`,
		Example: "  ARGUS_POSTGRES_URL=postgres://argus_maintenance:…@db/argus argusd maintain",
		Args:    cobra.NoArgs,
		RunE: func(command *cobra.Command, _ []string) error {
			config, err := load[maintainConfig](nil)
			if err != nil {
				return err
			}
			return maintain(command.Context(), config)
		},
	}
}

// maintain drops in Postgres first: what ClickHouse drops is exactly what Postgres no longer has, so that a
// clock that jumps, or a month held back, never makes the copy forget what the system of record keeps.
func maintain(ctx context.Context, config maintainConfig) error {
	conn, err := pgx.Connect(ctx, config.PostgresURL)
	if err != nil {
		return err
	}
	defer conn.Close(context.WithoutCancel(ctx))
	var made int
	if err := conn.QueryRow(ctx, "SELECT argus.create_months_ahead($1)", monthsAhead).Scan(&made); err != nil {
		return fmt.Errorf("create partitions: %w", err)
	}
	rows, err := conn.Query(ctx, "SELECT argus.drop_expired_months()")
	if err != nil {
		return fmt.Errorf("drop months: %w", err)
	}
	dropped, err := pgx.CollectRows(rows, pgx.RowTo[time.Time])
	if err != nil {
		return fmt.Errorf("drop months: %w", err)
	}
	fmt.Printf("Postgres: %d partitions created, %d months dropped.\n", made, len(dropped))
	if config.ClickHouseURL == "" {
		return nil
	}
	var oldest *time.Time
	if err := conn.QueryRow(ctx, "SELECT min(month) FROM argus.audit_months").Scan(&oldest); err != nil {
		return err
	}
	if oldest == nil {
		return fmt.Errorf("argus.argus_audit_log has no partitions: nothing is dropped from ClickHouse")
	}
	n, err := dropClickHouseBefore(ctx, config.ClickHouseURL, *oldest)
	if err != nil {
		return fmt.Errorf("ClickHouse: %w", err)
	}
	fmt.Printf("ClickHouse: %d partitions dropped.\n", n)
	return nil
}

// dropClickHouseBefore drops every partition of the copy and its rollups that lies wholly before the month.
// Partition ids are the months or days themselves: 202611, 20261122.
func dropClickHouseBefore(ctx context.Context, url string, month time.Time) (int, error) {
	options, err := clickhouse.ParseDSN(url)
	if err != nil {
		return 0, err
	}
	conn, err := clickhouse.Open(options)
	if err != nil {
		return 0, err
	}
	defer conn.Close()
	var parts []struct {
		Table     string `ch:"table"`
		Partition string `ch:"partition_id"`
	}
	err = conn.Select(ctx, &parts, `
		SELECT DISTINCT table, partition_id FROM system.parts
		 WHERE active AND database = currentDatabase() AND table != 'audit_orphans'
		   AND match(partition_id, '^[0-9]{6}([0-9]{2})?$') AND substring(partition_id, 1, 6) < {month:String}
		 ORDER BY partition_id, table`, clickhouse.Named("month", month.Format("200601")))
	if err != nil {
		return 0, err
	}
	for i, p := range parts {
		if err := conn.Exec(ctx, fmt.Sprintf("ALTER TABLE `%s` DROP PARTITION ID '%s'", p.Table, p.Partition)); err != nil {
			return i, err
		}
	}
	return len(parts), nil
}
