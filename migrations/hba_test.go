package migrations_test

import (
	"bytes"
	"context"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/useargus/argus/internal/engines"
	"github.com/useargus/argus/internal/engines/enginetest"
)

// TestReplicatorsLines puts the lines of SECURITY.md at the head of pg_hba.conf: the replicator gets in from its
// machine, to its database, and from nowhere else and to nothing else.
func TestReplicatorsLines(t *testing.T) {
	page, err := os.ReadFile("../SECURITY.md")
	if err != nil {
		t.Fatal(err)
	}
	_, lines, ok := strings.Cut(string(page), "# tested: replicator\n")
	lines, _, end := strings.Cut(lines, "```")
	if !ok || !end || strings.Count(lines, "argus_replicator") != 3 {
		t.Fatal("SECURITY.md has no lines")
	}
	pg := enginetest.StartOwnPostgres(t, engines.PostgresConfig{})
	// The machine is 127.0.0.1 here, without TLS, and the database has the test's name.
	lines = strings.NewReplacer("hostssl argus  ", "host "+pg.Database, "10.0.0.12/32", "127.0.0.1/32").Replace(lines)
	path := filepath.Join(pg.Engine().Config().Dir, "data", "pg_hba.conf")
	before, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_TRUNC, 0) // its owner stays
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.Write(bytes.Join([][]byte{[]byte(lines), before}, []byte("\n"))); err != nil {
		t.Fatal(err)
	}
	f.Close()
	super := pg.Pool(t, pg.SuperuserURL)
	var wrong int
	if _, err := super.Exec(t.Context(), "SELECT pg_reload_conf()"); err != nil {
		t.Fatal(err)
	}
	if err := super.QueryRow(t.Context(), "SELECT count(*) FROM pg_hba_file_rules WHERE error IS NOT NULL").Scan(&wrong); err != nil || wrong > 0 {
		t.Fatalf("%d lines are wrong: %v\n%s", wrong, err, lines)
	}
	try := func(from, database, replication string) (*pgconn.PgConn, error) {
		config, err := pgconn.ParseConfig(pg.ReplicatorURL)
		if err != nil {
			t.Fatal(err)
		}
		config.DialFunc = (&net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(from)}}).DialContext
		config.Database = database
		if replication != "" {
			config.RuntimeParams["replication"] = replication
		}
		conn, err := pgconn.ConnectConfig(t.Context(), config)
		if err == nil {
			t.Cleanup(func() { conn.Close(context.Background()) })
		}
		return conn, err
	}
	for _, c := range []struct {
		from, database, replication string
		in                          bool
	}{
		{"127.0.0.1", pg.Database, "", true}, {"127.0.0.1", pg.Database, "database", true},
		{"127.0.0.1", pg.Database, "true", false}, {"127.0.0.1", "postgres", "", false}, {"127.0.0.1", "postgres", "database", false},
		{"127.0.0.1", "template1", "", false},
		{"127.0.0.2", pg.Database, "", false}, {"127.0.0.2", pg.Database, "database", false}, {"127.0.0.2", pg.Database, "true", false},
	} {
		conn, err := try(c.from, c.database, c.replication)
		if (err == nil) != c.in {
			t.Errorf("%+v: %v", c, err)
		}
		if c.replication == "database" && conn != nil { // what the lines cannot deny, as the page says
			if !conn.Exec(t.Context(), "BASE_BACKUP (MAX_RATE 32, CHECKPOINT 'fast')").NextResult() {
				t.Error("a base backup is denied: SECURITY.md says otherwise")
			}
			conn.Conn().Close()
		}
	}
}
