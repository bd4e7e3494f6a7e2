package migrations_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/useargus/argus"
	"github.com/useargus/argus/internal/engines/enginetest"
)

// The log's table and its copies begin with the columns of the root package's list, in its order, of its kinds, with its
// nulls. What a migration adds behind them (columns that ClickHouse derives) is no part of the record.
func TestColumns(t *testing.T) {
	postgres := map[argus.ColumnKind]string{
		argus.ColumnInt64: "bigint", argus.ColumnInt16: "smallint", argus.ColumnUUID: "uuid", argus.ColumnText: "text",
		argus.ColumnTime: "timestamp with time zone", argus.ColumnPairs: "jsonb", argus.ColumnAddress: "inet", argus.ColumnDigest: "bytea",
	}
	clickhouse := map[argus.ColumnKind]string{
		argus.ColumnInt64: "Int64", argus.ColumnInt16: "Int16", argus.ColumnUUID: "UUID", argus.ColumnText: "String",
		argus.ColumnTime: "DateTime64(6, 'UTC')", argus.ColumnPairs: "Map(LowCardinality(String), String)",
		argus.ColumnAddress: "IPv6", argus.ColumnDigest: "FixedString(32)",
	}
	var inPostgres, inClickHouse []string
	for _, c := range argus.Columns() {
		inPostgres = append(inPostgres, fmt.Sprintf("%s %s %t", c.Name, postgres[c.Kind], c.Nullable))
		typ := clickhouse[c.Kind]
		if c.Nullable && c.Kind != argus.ColumnPairs { // a map has no nulls there: an empty one is null
			typ = "Nullable(" + typ + ")"
		}
		inClickHouse = append(inClickHouse, c.Name+" "+typ)
	}

	pg, ch := enginetest.NewPostgres(t), enginetest.NewClickHouse(t)
	rows, err := pg.Pool(t, pg.OwnerURL).Query(t.Context(), `SELECT format('%s %s %s', attname, format_type(atttypid, atttypmod), (NOT attnotnull)::text)
		FROM pg_attribute WHERE attrelid = 'argus.argus_audit_log'::regclass AND attnum > 0 AND NOT attisdropped ORDER BY attnum`)
	if err != nil {
		t.Fatal(err)
	}
	got, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		t.Fatal(err)
	}
	if !slices.Equal(got, inPostgres) {
		t.Errorf("Postgres has the columns\n%s\nthe record has\n%s", strings.Join(got, "\n"), strings.Join(inPostgres, "\n"))
	}

	for _, table := range []string{"audit_log", "audit_orphans"} {
		rows, err := ch.Conn(t, ch.MigrateURL).Query(t.Context(), `SELECT name || ' ' || if(startsWith(type, 'LowCardinality('), substring(type, 16, length(type) - 16), type)
			FROM system.columns WHERE database = currentDatabase() AND table = $1 AND default_kind NOT IN ('MATERIALIZED', 'ALIAS') ORDER BY position`, table)
		if err != nil {
			t.Fatal(err)
		}
		var got []string
		for rows.Next() {
			var line string
			if err := rows.Scan(&line); err != nil {
				t.Fatal(err)
			}
			got = append(got, line)
		}
		if err := rows.Err(); err != nil {
			t.Fatal(err)
		}
		if len(got) < len(inClickHouse) || !slices.Equal(got[:len(inClickHouse)], inClickHouse) {
			t.Errorf("%s of ClickHouse has the columns\n%s\nthe record has\n%s", table, strings.Join(got, "\n"), strings.Join(inClickHouse, "\n"))
		}
	}
}
