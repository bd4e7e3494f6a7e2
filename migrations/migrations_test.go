package migrations_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/ClickHouse/clickhouse-go/v2"

	stores "github.com/useargus/argus/connect"
	"github.com/useargus/argus/internal/engines/enginetest"
	"github.com/useargus/argus/migrations"
)

func TestMain(m *testing.M) { os.Exit(enginetest.Run(m)) }

// Several that start at once apply each file once; a rerun applies nothing.
func TestPostgresOnce(t *testing.T) {
	pg := enginetest.NewEmptyPostgres(t)
	var pending *migrations.PendingError
	if err := migrations.CheckPostgres(t.Context(), pg.SuperuserURL); !errors.As(err, &pending) || pending.Have != 0 {
		t.Fatalf("before any migration: %v", err)
	}
	want, _, err := migrations.Versions()
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	applied := make([]int, 4)
	for i := range applied {
		wg.Go(func() {
			n, err := migrations.Postgres(t.Context(), pg.SuperuserURL)
			if err != nil {
				t.Error(err)
			}
			applied[i] = n
		})
	}
	wg.Wait()
	sum := 0
	for _, n := range applied {
		sum += n
	}
	if sum == 0 || int64(sum) > want {
		t.Errorf("%d files applied by four at once, newest is %d", sum, want)
	}
	if n, err := migrations.Postgres(t.Context(), pg.SuperuserURL); n != 0 || err != nil {
		t.Errorf("a rerun applied %d files: %v", n, err)
	}
	// Every role may ask, and so know whether to start.
	for _, url := range []string{pg.APIURL, pg.ReplicatorURL, pg.AuditorURL} {
		if err := migrations.CheckPostgres(t.Context(), url); err != nil {
			t.Error(err)
		}
	}
}

func TestPendingIsSaid(t *testing.T) {
	pg := enginetest.NewPostgres(t)
	conn := pg.Pool(t, pg.SuperuserURL)
	if _, err := conn.Exec(t.Context(), "DELETE FROM public.argus_schema_migrations WHERE version_id = (SELECT max(version_id) FROM public.argus_schema_migrations)"); err != nil {
		t.Fatal(err)
	}
	err := migrations.CheckPostgres(t.Context(), pg.APIURL)
	var pending *migrations.PendingError
	if !errors.As(err, &pending) || !strings.Contains(err.Error(), "argusd migrate") {
		t.Errorf("an older schema: %v", err)
	}
}

// A ClickHouse migration that was cut off at any statement runs through when it runs again: here all files
// run on a database that has everything already.
func TestClickHouseAgain(t *testing.T) {
	ch := enginetest.NewClickHouse(t)
	pg := enginetest.NewEmptyPostgres(t)
	if n, err := migrations.ClickHouse(t.Context(), ch.MigrateURL, pg.SuperuserURL); n != 0 || err != nil {
		t.Errorf("a rerun applied %d files: %v", n, err)
	}
	for _, url := range []string{ch.MigrateURL, ch.ReplicatorURL, ch.ReaderURL} {
		if err := migrations.CheckClickHouse(t.Context(), url); err != nil {
			t.Error(err)
		}
	}
	conn := ch.Conn(t, ch.MigrateURL)
	if err := conn.Exec(t.Context(), "TRUNCATE TABLE argus_schema_migrations"); err != nil {
		t.Fatal(err)
	}
	var pending *migrations.PendingError
	if err := migrations.CheckClickHouse(t.Context(), ch.ReaderURL); !errors.As(err, &pending) {
		t.Errorf("an older schema: %v", err)
	}
	var wg sync.WaitGroup
	for range 3 {
		wg.Go(func() {
			if _, err := migrations.ClickHouse(context.Background(), ch.MigrateURL, pg.SuperuserURL); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if err := migrations.CheckClickHouse(t.Context(), ch.ReaderURL); err != nil {
		t.Error(err)
	}
}

// A store that other files made, those of a build from before the first release for instance, is rejected by name: by
// argusd migrate, and by every process that starts.
func TestOtherFiles(t *testing.T) {
	pg, ch := enginetest.NewPostgres(t), enginetest.NewClickHouse(t)
	super, copy := pg.Pool(t, pg.SuperuserURL), ch.Conn(t, ch.MigrateURL)
	rejected := func(what string, errs ...error) {
		t.Helper()
		for _, err := range errs {
			var other *migrations.OtherFilesError
			if !errors.As(err, &other) || !strings.Contains(err.Error(), "Begin with an empty database") {
				t.Errorf("%s: %v", what, err)
			}
		}
	}
	both := func() (migrated, checked error) {
		_, migrated = migrations.Postgres(t.Context(), pg.SuperuserURL)
		return migrated, migrations.CheckPostgres(t.Context(), pg.APIURL)
	}
	for _, sql := range []string{
		"UPDATE public.argus_schema_files SET sha256 = 'x' WHERE version_id = 2",
		"DELETE FROM public.argus_schema_files WHERE version_id = 2",
		"INSERT INTO public.argus_schema_migrations (version_id, is_applied) VALUES (99, true)", // more files than ours
		"DROP TABLE public.argus_schema_files",
	} {
		if _, err := super.Exec(t.Context(), sql); err != nil {
			t.Fatal(err)
		}
		migrated, checked := both()
		rejected(sql, migrated, checked)
	}
	bothOfClickHouse := func() (migrated, checked error) {
		_, migrated = migrations.ClickHouse(t.Context(), ch.MigrateURL, "")
		return migrated, migrations.CheckClickHouse(t.Context(), ch.ReaderURL)
	}
	if err := errors.Join(bothOfClickHouse()); err != nil {
		t.Fatal(err)
	}
	for _, sql := range []string{
		"INSERT INTO argus_schema_files (version_id, sha256) VALUES (2, 'x')",
		"DROP TABLE argus_schema_files SYNC",
	} {
		if err := copy.Exec(t.Context(), sql); err != nil {
			t.Fatal(err)
		}
		migrated, checked := bothOfClickHouse()
		rejected(sql, migrated, checked)
	}
}

// The embedded server cannot run access statements; that ClickHouse understands ours is what can be tested.
func TestClickHouseUserStatements(t *testing.T) {
	ch := enginetest.NewClickHouse(t)
	conn := ch.Conn(t, ch.MigrateURL)
	for _, u := range migrations.ClickHouseUsers() {
		statements, err := migrations.Statements(u, "odd`name")
		if err != nil {
			t.Fatal(err)
		}
		if len(statements) < 1+len(u.Grants) {
			t.Errorf("%s: %d statements", u.Name, len(statements))
		}
		for _, statement := range statements {
			var formatted string
			row := conn.QueryRow(t.Context(), "SELECT formatQuery({q:String})", clickhouse.Named("q", statement))
			if err := row.Scan(&formatted); err != nil {
				t.Errorf("%s: %v", statement, err)
			}
		}
	}
}

// TestNotOneServer: what several servers share is refused before anything is made there.
func TestNotOneServer(t *testing.T) {
	ch := enginetest.NewClickHouse(t)
	admin := ch.Conn(t, ch.MigrateURL)
	var tables []string
	if err := admin.QueryRow(t.Context(), `SELECT arraySort(groupArray(name)) FROM system.tables
		WHERE database = currentDatabase() AND endsWith(engine, 'MergeTree')`).Scan(&tables); err != nil {
		t.Fatal(err)
	}
	if known := slices.Sorted(slices.Values(stores.ClickHouseTables)); !slices.Equal(tables, known) {
		t.Errorf("stores.ClickHouseTables has %v, the migrations make %v", known, tables)
	}
	for _, refused := range []struct{ name, make, url, says string }{
		{"several hosts", "", strings.Replace(ch.MigrateURL, "/"+ch.Database, ",127.0.0.1:1/"+ch.Database, 1), "several hosts"},
		{"ClickHouse Cloud", "", ch.MigrateURL + "?cloud_mode=1", "ClickHouse Cloud"},
		{"another database engine", "CREATE DATABASE %s ENGINE = Memory", "", "is Memory, not Atomic"},
		{"another table engine", "CREATE TABLE %[1]s.audit_log (a Int64) ENGINE = ReplacingMergeTree ORDER BY a", "", "is ReplacingMergeTree"},
		{"a table over others", "CREATE TABLE %[1]s.audit_log (a Int64) ENGINE = Merge(%[1]s, 'x')", "", "is Merge"},
		{"a view in a table's place", "CREATE VIEW %[1]s.audit_watermark AS SELECT 1 AS a", "", "is View"},
	} {
		t.Run(refused.name, func(t *testing.T) {
			database, url := ch.Database, refused.url
			if refused.make != "" {
				database = "argus_refused"
				url = strings.Replace(ch.MigrateURL, "/"+ch.Database, "/"+database, 1)
				if !strings.HasPrefix(refused.make, "CREATE DATABASE") {
					refused.make = "CREATE DATABASE %[1]s; " + refused.make
				}
				for statement := range strings.SplitSeq(fmt.Sprintf(refused.make, database), "; ") {
					if err := admin.Exec(t.Context(), statement); err != nil {
						t.Fatal(err)
					}
				}
				defer admin.Exec(context.Background(), "DROP DATABASE IF EXISTS "+database+" SYNC")
			}
			count := func() (n uint64) {
				if err := admin.QueryRow(t.Context(), "SELECT count() FROM system.tables WHERE database = '"+database+"'").Scan(&n); err != nil {
					t.Fatal(err)
				}
				return n
			}
			before := count()
			if _, err := migrations.ClickHouse(t.Context(), url, ""); !errors.Is(err, stores.ErrNotOne) || !strings.Contains(err.Error(), refused.says) {
				t.Errorf("want %q: %v", refused.says, err)
			}
			if after := count(); after != before {
				t.Errorf("%d tables were made", after-before)
			}
		})
	}
}
