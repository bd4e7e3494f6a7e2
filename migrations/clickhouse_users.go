package migrations

import (
	"crypto/rand"
	"crypto/sha256"
	"fmt"
	"strings"
	"text/template"
)

// ClickHouseUser states what one of our ClickHouse users may do. The statement is rendered twice: as SQL on
// a server with SQL-driven access control (see ClickHouse), and as the XML of the embedded server, which
// has none (see internal/engines).
type ClickHouseUser struct {
	Name string
	// Grants are what stands between GRANT and TO: "SELECT ON {{.Database}}.audit_log".
	Grants []string
	// Settings the user starts with and the bounds it may move them in.
	Settings []ClickHouseSetting
	// QueriesPerHour is the quota; 0 is none.
	QueriesPerHour int64
}

// ClickHouseSetting is one setting of a user. Max, unless empty, bounds what a query may ask for.
type ClickHouseSetting struct{ Name, Value, Max string }

// ClickHouseUsers are the users of the copy, besides the administrator who migrates (argus_migrate in
// development and tests).
func ClickHouseUsers() []ClickHouseUser {
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
		{
			// The only one the API holds.
			Name: "argus_reader",
			Grants: []string{
				"SELECT ON {{.Database}}.*",
				"SELECT ON system.one",
				"SELECT ON system.settings",
			},
			Settings: []ClickHouseSetting{
				// 2: reads only, but a query may set its own bounds.
				{Name: "readonly", Value: "2", Max: "2"},
				{Name: "max_execution_time", Value: "60", Max: "3600"},
				{Name: "max_memory_usage", Value: "1073741824", Max: "2147483648"},
			},
			QueriesPerHour: 1_000_000,
		},
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
			if err := t.Execute(&b, map[string]string{"Database": quoteClickHouse(database)}); err != nil {
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
// again changes nothing. A new user has a password nobody knows and may come from nowhere, until somebody
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
			setting := s.Name + " = " + s.Value
			if s.Max != "" {
				setting += " MAX " + s.Max
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
