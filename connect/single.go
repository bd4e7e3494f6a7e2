package connect

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/ClickHouse/clickhouse-go/v2"
	"github.com/ClickHouse/clickhouse-go/v2/lib/driver"
)

// Servers that are not one: a service of ClickHouse Cloud, Replicated databases and tables, or a balancer in front of servers. A
// watermark read from one of them says nothing of the rows of another. A statement that is killed on one runs on in another.
// So ARGUS has nothing to do with them.

// ErrNotOne is why a database is not taken for a copy.
var ErrNotOne = errors.New("the copy must be one ClickHouse server with plain tables")

// ClickHouseTables are the tables that argusd migrate makes. A test of package migrations holds the list.
var ClickHouseTables = []string{
	"audit_log", "compute_control_audit", "remote_support_audit",
	"audit_rollup_hours", "audit_rollup_days",
	"replicator_epoch", "audit_watermark", "replicator_identity", "audit_orphans", "compute_control_orphans", "remote_support_orphans",
	"ledger_runs", "ledger_checkpoints", "ledger_conflicts", "argus_schema_migrations", "argus_schema_files",
}

// several asks for what makes a database more than one server's. A table of ours is exactly what its migration made.
func several(database string) string {
	quote := func(s string) string { return "'" + strings.NewReplacer(`\`, `\\`, `'`, `\'`).Replace(s) + "'" }
	ours := make([]string, len(ClickHouseTables))
	for i, name := range ClickHouseTables {
		ours[i] = quote(name)
	}
	return `SELECT 'cloud_mode is 1: this is a service of ClickHouse Cloud, whose servers share their tables' AS why
	          FROM system.settings WHERE name = 'cloud_mode' AND value NOT IN ('0', '')
	  UNION ALL SELECT concat('the engine of the database ', name, ' is ', engine, ', not Atomic')
	          FROM system.databases WHERE name = ` + quote(database) + ` AND engine != 'Atomic'
	  UNION ALL SELECT concat('the engine of the table ', name, ' is ', engine, ', not MergeTree or AggregatingMergeTree')
	          FROM system.tables WHERE database = ` + quote(database) + `
	           AND (startsWith(engine, 'Replicated') OR startsWith(engine, 'Shared')
	             OR name IN (` + strings.Join(ours, ", ") + `) AND engine NOT IN ('MergeTree', 'AggregatingMergeTree'))`
}

// NotOne wraps ErrNotOne when the server, or the database on it, is not one server's. A database that is not there yet is fine.
// The connection may be to another database, such as system.
func NotOne(ctx context.Context, conn interface {
	Query(ctx context.Context, query string, args ...any) (driver.Rows, error)
}, database string) error {
	rows, err := conn.Query(ctx, several(database))
	if err != nil {
		return fmt.Errorf("asking whether ClickHouse is one server: %w", err)
	}
	defer rows.Close()
	var found []string
	for rows.Next() {
		var why string
		if err := rows.Scan(&why); err != nil {
			return err
		}
		found = append(found, why)
	}
	if err := rows.Err(); err != nil || len(found) == 0 {
		return err
	}
	slices.Sort(found)
	return fmt.Errorf("%w: %s. See docs/high-availability.md, Servers that are not one", ErrNotOne, strings.Join(found[:min(len(found), 3)], "; "))
}

// OneServer dials several times, and wraps ErrNotOne when not all connections lead to one server: a name with several addresses,
// or a balancer.
func OneServer(ctx context.Context, options *clickhouse.Options) error {
	if len(options.Addr) > 1 {
		return fmt.Errorf("%w: the URL names several hosts", ErrNotOne)
	}
	elsewhere := *options
	elsewhere.Auth.Database = "system" // is always there
	database := "`" + strings.NewReplacer(`\`, `\\`, "`", "\\`").Replace(options.Auth.Database) + "`"
	servers, databases, gone := map[string]bool{}, map[string]bool{}, false
	for range 6 {
		conn, err := clickhouse.Open(&elsewhere)
		if err != nil {
			return err
		}
		// Of the disk, which a copied image shares, and of the database. That has none until it was migrated, and never loses it.
		var server string
		var identities []string
		err = conn.QueryRow(ctx, "SELECT toString(serverUUID())").Scan(&server)
		if err == nil {
			err = conn.QueryRow(ctx, "SELECT arrayFilter(s -> s != '', [if(count() = 0, '', toString(argMin(server, (made_at, server))))]) FROM "+database+".replicator_identity").Scan(&identities)
			var rejected *clickhouse.Exception
			if errors.As(err, &rejected) && (rejected.Code == 60 || rejected.Code == 81) { // no table, no database
				err = nil
			}
		}
		conn.Close()
		if err != nil {
			return err
		}
		servers[server] = true
		for _, id := range identities {
			databases[id] = true
		}
		gone = gone || len(identities) == 0 && len(databases) > 0
	}
	if n := max(len(servers), len(databases)); n > 1 || gone {
		return fmt.Errorf("%w: the URL leads to more than one server (%d)", ErrNotOne, max(n, 2))
	}
	return nil
}
