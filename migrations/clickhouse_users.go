package migrations

import (
	"crypto/rand"
	"crypto/sha256"
	"fmt"
	"strings"
	"text/template"

	"github.com/useargus/argus/connect"
)

// ClickHouseUser states what one of our ClickHouse users may do. The statement is rendered twice: as SQL on
// a server with SQL-driven access control (see ClickHouse), and as the XML of the embedded server, which
// has none (see internal/engines).
type ClickHouseUser struct {
	Name string
	// Grants are what stands between GRANT and TO: "SELECT ON {{.Database}}.audit_log". Whole is the database that asks all shards.
	Grants []string
	// Settings the user starts with.
	Settings []ClickHouseSetting
	// QueriesPerHour is the quota; 0 is none.
	QueriesPerHour int64
}

// ClickHouseSetting is one setting of a user: the value that he starts with, and what a query may make of it. Of a user
// that only reads (readonly = 1) a query may change what has a Min and a Max, within them, and what is Free. It may
// change nothing else, settings of later versions included.
//
// A setting that bounds has a Min: 0 would mean none.
type ClickHouseSetting struct {
	Name, Value, Min, Max string
	Free                  bool
}

// expiring are the tables whose partitions leave with their month. Orphans (…_orphans) stay: only a person
// may decide to delete them.
var expiring = []string{
	"audit_log", "compute_control_audit", "remote_support_audit",
	"audit_rollup_hours", "audit_rollup_days",
}

// ClickHouseUsers are the users of the copy, besides the administrator who migrates (argus_migrate in
// development and tests).
func ClickHouseUsers() []ClickHouseUser {
	maintenance := ClickHouseUser{
		// Drops partitions. ClickHouse has no grant for expired ones alone, nor for partitions without rows: ALTER DELETE is
		// the narrowest that drops one (see SECURITY.md).
		Name: "argus_maintenance",
		Grants: []string{
			"SELECT ON {{.Database}}.argus_schema_migrations",
			"SELECT ON {{.Database}}.argus_schema_files",
			"SELECT ON {{.Database}}.replicator_identity",
			"SELECT ON system.one",
			"SELECT ON system.parts",
			"SELECT ON system.settings",
		},
		Settings: []ClickHouseSetting{
			{Name: "max_execution_time", Value: "600", Min: "1", Max: "3600"},
			{Name: "max_memory_usage", Value: "1073741824", Min: "1", Max: "1073741824"},
		},
		QueriesPerHour: 100_000,
	}
	for _, table := range expiring {
		maintenance.Grants = append(maintenance.Grants, "ALTER DELETE ON {{.Database}}."+table)
	}
	reader := ClickHouseUser{
		// The only one the API holds.
		Name: "argus_reader",
		Grants: []string{
			"SELECT ON {{.Database}}.*",
			"SELECT ON {{.Whole}}.*",
			"SELECT ON system.one",
			"SELECT ON system.settings",
		},
		Settings: []ClickHouseSetting{
			// 1: reads only, and changes no setting but those below that say so.
			{Name: "readonly", Value: "1"},
			{Name: "allow_introspection_functions", Value: "0"},
			{Name: "max_execution_time", Value: "60", Min: "0.001", Max: "3600"},
			{Name: "max_memory_usage", Value: "1073741824", Min: "1", Max: "2147483648"},
			{Name: "max_query_size", Value: "262144", Min: "1", Max: "4194304"},
			{Name: "max_ast_elements", Value: "50000", Min: "1", Max: "200000"},
			{Name: "max_expanded_ast_elements", Value: "500000", Min: "1", Max: "500000"},
			{Name: "max_block_size", Value: "65409", Min: "1", Max: "65536"},
			{Name: "max_concurrent_queries_for_user", Value: "100"},
			// How a query is run.
			{Name: "optimize_read_in_order", Value: "1", Free: true},
			{Name: "read_in_order_use_buffering", Value: "1", Free: true},
		},
		QueriesPerHour: 1_000_000,
	}
	// Every session states these. Stated here as well, they hold against the server's profiles.
	for _, s := range connect.ClickHouseMeaning {
		reader.Settings = append(reader.Settings, ClickHouseSetting{Name: s.Name, Value: s.Value, Free: true})
	}
	for _, s := range connect.ClickHouseWhole {
		reader.Settings = append(reader.Settings, ClickHouseSetting{Name: s.Name, Value: s.Value})
	}
	return []ClickHouseUser{
		{
			// Inserts, reads back what is there, and rebuilds rollup partitions; nothing outside the database.
			Name: "argus_replicator",
			Grants: []string{
				"SELECT, INSERT, ALTER, CREATE TABLE, DROP TABLE, TRUNCATE, OPTIMIZE ON {{.Database}}.*",
				"CREATE TEMPORARY TABLE ON *.*",
				// The fresh table a rollup's partition is rebuilt in has the engine of the rollup.
				"TABLE ENGINE ON MergeTree", "TABLE ENGINE ON SummingMergeTree", "TABLE ENGINE ON AggregatingMergeTree",
				"KILL QUERY ON *.*",
				"SELECT ON system.processes",
				"SELECT ON system.parts",
				"SELECT ON system.mutations",
				"SELECT ON system.tables",
				"SELECT ON system.columns",
				"SELECT ON system.one",
				"SELECT ON system.settings",
			},
		},
		maintenance,
		reader,
	}
}

// GrantsOn are the user's grants for copies in these databases. The names are quoted.
func (u ClickHouseUser) GrantsOn(databases ...string) ([]string, error) {
	var all []string
	seen := map[string]bool{}
	for _, database := range databases {
		for _, grant := range u.Grants {
			t, err := template.New(u.Name).Option("missingkey=error").Parse(grant)
			if err != nil {
				return nil, err
			}
			var b strings.Builder
			if err := t.Execute(&b, map[string]string{"Database": quoteClickHouse(database), "Whole": quoteClickHouse(connect.WholeDatabase(database))}); err != nil {
				return nil, err
			}
			if g := b.String(); !seen[g] {
				seen[g] = true
				all = append(all, g)
			}
		}
	}
	return all, nil
}

// statements make the user on a server with SQL-driven access control, or bring it up to date; running them
// again changes nothing. A new user has an unknown password and may come from nowhere, until an administrator
// sets both: ALTER USER … IDENTIFIED … HOST ….
func (u ClickHouseUser) statements(database string) ([]string, error) {
	grants, err := u.GrantsOn(database)
	if err != nil {
		return nil, err
	}
	secret := make([]byte, sha256.Size)
	rand.Read(secret) // never fails
	name := quoteClickHouse(u.Name)
	all := []string{fmt.Sprintf("CREATE USER IF NOT EXISTS %s IDENTIFIED WITH sha256_hash BY '%X' HOST NONE", name, secret)}
	if len(u.Settings) > 0 {
		var settings []string
		for _, s := range u.Settings {
			setting := s.Name + " = '" + s.Value + "'"
			if s.Max != "" {
				setting += " MIN " + s.Min + " MAX " + s.Max
			}
			if s.Free || s.Max != "" {
				setting += " CHANGEABLE_IN_READONLY"
			}
			settings = append(settings, setting)
		}
		all = append(all, "ALTER USER "+name+" SETTINGS "+strings.Join(settings, ", "))
	}
	if u.QueriesPerHour > 0 {
		all = append(all, fmt.Sprintf("CREATE QUOTA OR REPLACE %s FOR INTERVAL 1 hour MAX queries = %d TO %s",
			name, u.QueriesPerHour, name))
	}
	for _, grant := range grants {
		all = append(all, "GRANT "+grant+" TO "+name)
	}
	return all, nil
}

func quoteClickHouse(name string) string {
	return "`" + strings.NewReplacer("\\", "\\\\", "`", "\\`").Replace(name) + "`"
}
