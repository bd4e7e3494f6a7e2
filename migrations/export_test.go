package migrations

// Statements are what brings a user up to date on a server with SQL-driven access control.
func Statements(u ClickHouseUser, database string) ([]string, error) { return u.statements(database) }
