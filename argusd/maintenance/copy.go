package maintenance

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/ClickHouse/clickhouse-go/v2"
	"github.com/jackc/pgx/v5"

	"github.com/useargus/argus/connect"
)

// Copy is what a run did to a server of ClickHouse. Err keeps the run from no other server.
type Copy struct {
	Server  connect.Shard
	Dropped []CopyDropped
	Err     error
}

// CopyDropped is a month that left ClickHouse, with the rows that each table and rollup had of it.
type CopyDropped struct {
	Month time.Time
	Rows  map[string]uint64
}

// copyStore is the copy in ClickHouse.
type copyStore struct{ conn clickhouse.Conn }

func openCopy(ctx context.Context, url string) (*copyStore, error) {
	options, err := connect.ClickHouse(url)
	if err != nil {
		return nil, err
	}
	options.ClientInfo.Products = append(options.ClientInfo.Products, struct{ Name, Version string }{"argus-maintain", ""})
	conn, err := clickhouse.Open(options)
	if err != nil {
		return nil, err
	}
	if err := conn.Ping(ctx); err != nil {
		conn.Close()
		return nil, err
	}
	return &copyStore{conn}, nil
}

func (c *copyStore) close() { c.conn.Close() }

func (c *copyStore) clock(ctx context.Context) (t time.Time, err error) {
	err = c.conn.QueryRow(ctx, "SELECT now64(6, 'UTC')").Scan(&t)
	return t, err
}

// dropAfter drops from the copy and its rollups the months that Postgres has recorded as dropped and does not
// have. Orphans stay: only a person may decide to delete them.
func (c *copyStore) dropAfter(ctx context.Context, conn *pgx.Conn, name string) ([]CopyDropped, error) {
	rows, err := conn.Query(ctx, `
		SELECT to_char(to_date(detail->>'month', 'YYYY-MM'), 'YYYYMM') FROM argus.audit_admin WHERE kind = 'month_dropped'
		EXCEPT SELECT to_char(month, 'YYYYMM') FROM argus.audit_months`)
	if err != nil {
		return nil, err
	}
	gone, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil || len(gone) == 0 {
		return nil, err
	}
	// Partitions are months or days and their ids just that: 202611, 20261122.
	var parts []struct {
		Table     string `ch:"table"`
		Partition string `ch:"partition_id"`
		Rows      uint64 `ch:"rows"`
	}
	err = c.conn.Select(ctx, &parts, `
		SELECT table, partition_id, sum(rows) AS rows FROM system.parts
		 WHERE active AND database = currentDatabase() AND NOT endsWith(table, '_orphans')
		   AND match(partition_id, '^[0-9]{6}([0-9]{2})?$') AND substring(partition_id, 1, 6) IN ({gone:Array(String)})
		 GROUP BY table, partition_id ORDER BY partition_id, table`, clickhouse.Named("gone", gone))
	if err != nil {
		return nil, err
	}
	months := map[string]map[string]uint64{}
	for _, p := range parts {
		if months[p.Partition[:6]] == nil {
			months[p.Partition[:6]] = map[string]uint64{}
		}
		months[p.Partition[:6]][p.Table] += p.Rows
	}
	var all []CopyDropped
	for _, text := range slices.Sorted(maps.Keys(months)) {
		month, err := time.Parse("200601", text)
		if err != nil {
			return all, err
		}
		counts, err := json.Marshal(months[text])
		if err != nil {
			return all, err
		}
		// Recorded first: after a crash between the two, the next run records once more what is left.
		if _, err := conn.Exec(ctx, "SELECT argus.record_copy_dropped($1, $2, $3)", month, counts, name); err != nil {
			return all, fmt.Errorf("recording the drop of %s: %w", text, err)
		}
		for _, p := range parts {
			if p.Partition[:6] != text {
				continue
			}
			if err := c.dropPartition(ctx, p.Table, p.Partition); err != nil {
				return all, fmt.Errorf("%s of %s: %w", p.Partition, p.Table, err)
			}
		}
		all = append(all, CopyDropped{month, months[text]})
	}
	return all, nil
}

func (c *copyStore) dropPartition(ctx context.Context, table, partition string) error {
	// The server's bound on how much may be dropped at once guards against slips of the hand.
	ctx = clickhouse.Context(ctx, clickhouse.WithSettings(clickhouse.Settings{"max_partition_size_to_drop": 0}))
	name := strings.NewReplacer("\\", "\\\\", "`", "\\`").Replace(table)
	return c.conn.Exec(ctx, fmt.Sprintf("ALTER TABLE `%s` DROP PARTITION ID '%s'", name, partition))
}
