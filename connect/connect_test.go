package connect_test

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/useargus/argus/connect"
)

// TestEveryConnection: a connection that is opened past this package has the defaults of a database, a role or a profile.
func TestEveryConnection(t *testing.T) {
	past := regexp.MustCompile(`\b(pgx\.(Connect|ConnectConfig|ParseConfig)|pgxpool\.(New|ParseConfig)|pgconn\.(Connect|ConnectConfig|ParseConfig)|clickhouse\.ParseDSN)\(|stdlib\.OpenDB\([^,)]*\)`)
	err := filepath.WalkDir("..", func(path string, d os.DirEntry, err error) error {
		if err != nil || d.IsDir() && (d.Name() == "node_modules" || d.Name() == "internal" || d.Name() == "connect") {
			if d != nil && d.IsDir() && err == nil {
				return filepath.SkipDir
			}
			return err
		}
		if !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go") {
			return nil
		}
		text, err := os.ReadFile(path)
		if found := past.Find(text); found != nil {
			t.Errorf("%s has %s: connections come from package connect", path, found)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}

// An error about a URL never shows it.
func TestURL(t *testing.T) {
	const secret = "hunter2hunter2"
	for _, url := range []string{"postgres://a:" + secret + "@h:port/x", "://" + secret, "postgres://a:" + secret + "%zz@h/x", "clickhouse://a:" + secret + "@h:9000/x?dial_timeout=never", "clickhouse://a:" + secret + "%zz@h"} {
		_, one := connect.Postgres(url, "")
		_, two := connect.PostgresPool(url, "")
		_, three := connect.Replication(url, "")
		_, four := connect.ClickHouse(url)
		for _, err := range []error{one, two, three, four} {
			if err != nil && strings.Contains(err.Error(), secret) {
				t.Errorf("%v", err)
			}
		}
	}
}
