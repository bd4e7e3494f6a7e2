package logins

import (
	"net/url"
	"os"
	"strings"
	"sync"
	"testing"

	"github.com/ClickHouse/clickhouse-go/v2"
	"github.com/jackc/pgx/v5"

	"github.com/useargus/argus/internal/engines/enginetest"
)

func TestMain(m *testing.M) { os.Exit(enginetest.Run(m)) }

// A role logs in with what it was given, several times at once, and with nothing else.
func TestPostgres(t *testing.T) {
	pg := enginetest.NewPostgres(t)
	const password = `it's \ a "pass" word`
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			if err := Postgres(t.Context(), pg.SuperuserURL, map[string]string{"argus_api": password, "argus_auditor": password + "2"}); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	for role, good := range map[string]string{"argus_api": password, "argus_auditor": password + "2"} {
		for _, try := range []string{good, "something else"} {
			u, err := url.Parse(pg.APIURL)
			if err != nil {
				t.Fatal(err)
			}
			u.User = url.UserPassword(role, try)
			conn, err := pgx.Connect(t.Context(), u.String())
			if (err == nil) != (try == good) {
				t.Errorf("%s with %q: %v", role, try, err)
			}
			if err == nil {
				conn.Close(t.Context())
			}
		}
	}
	var kept string
	row := pg.Pool(t, pg.SuperuserURL).QueryRow(t.Context(), "SELECT rolpassword FROM pg_authid WHERE rolname = 'argus_api'")
	if err := row.Scan(&kept); err != nil || !strings.HasPrefix(kept, "SCRAM-SHA-256$4096:") {
		t.Errorf("Postgres keeps %q, %v", kept, err)
	}
}

// The embedded server keeps no users by SQL: it says so, and understands the statement at least.
func TestClickHouse(t *testing.T) {
	ch := enginetest.NewClickHouse(t)
	err := ClickHouse(t.Context(), ch.MigrateURL, map[string]string{"argus_reader": "a good password"})
	if err == nil || !strings.Contains(err.Error(), "configuration files") {
		t.Errorf("got %v", err)
	}
	var formatted string
	row := ch.Conn(t, ch.MigrateURL).QueryRow(t.Context(), "SELECT formatQuery({q:String})",
		clickhouse.Named("q", clickHouseStatement("argus_reader", "a good password")))
	if err := row.Scan(&formatted); err != nil {
		t.Error(err)
	}
}

func TestCheckPassword(t *testing.T) {
	for password, good := range map[string]bool{"0123456789ab": true, "short": false, "with a space in it": false, "ünïcödé-is-not-it": false} {
		if err := CheckPassword("X", password); (err == nil) != good {
			t.Errorf("%q: %v", password, err)
		}
	}
}
