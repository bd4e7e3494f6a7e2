package enginetest_test

import (
	"context"
	"errors"
	"net"
	"os"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/useargus/argus/internal/engines"
	"github.com/useargus/argus/internal/engines/enginetest"
)

func TestMain(m *testing.M) { os.Exit(enginetest.Run(m)) }

func connect(t *testing.T, url string) *pgx.Conn {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), url)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		conn.Close(ctx)
	})
	return conn
}

// Each role logs in, finds the tables, and has the settings of a migrated database, though a copy of a
// database comes without them. A replication slot that is in use does not keep the database.
func TestPostgresDatabases(t *testing.T) {
	for range 2 {
		t.Run("", func(t *testing.T) {
			pg := enginetest.NewPostgres(t)
			for role, url := range map[string]string{
				"argus_owner": pg.OwnerURL, "argus_api": pg.APIURL, "argus_replicator": pg.ReplicatorURL,
				"argus_auditor": pg.AuditorURL, "argus_maintenance": pg.MaintenanceURL, "argus_hold": pg.HoldURL,
				"argus_break_glass": pg.BreakGlassURL, "argus_consent": pg.ConsentURL, "argus_ledger": pg.LedgerURL, "argus_ship": pg.ShipURL, "postgres": pg.SuperuserURL,
			} {
				var user, path, zone string
				row := connect(t, url).QueryRow(t.Context(), "SELECT current_user, current_setting('search_path'), current_setting('timezone')")
				if err := row.Scan(&user, &path, &zone); err != nil {
					t.Fatal(err)
				}
				if user != role && os.Getenv("ARGUS_TEST_POSTGRES_URL") == "" || path != "argus, public" || zone != "UTC" {
					t.Errorf("%s is %s with search_path %q and time zone %s", role, user, path, zone)
				}
			}
			var n int
			if err := connect(t, pg.AuditorURL).QueryRow(t.Context(), "SELECT count(*) FROM argus_audit_log").Scan(&n); err != nil || n != 0 {
				t.Errorf("%d rows in a fresh database: %v", n, err)
			}
			var may bool
			err := connect(t, pg.SuperuserURL).QueryRow(t.Context(),
				"SELECT has_database_privilege('argus_owner', current_database(), 'CREATE')").Scan(&may)
			if err != nil || !may {
				t.Errorf("argus_owner may create in the database: %v, %v", may, err)
			}

			replication, err := pgconn.Connect(t.Context(), pg.ReplicatorURL+"&replication=database")
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { replication.Close(context.Background()) })
			name := "slot_" + pg.Database
			if _, err := replication.Exec(t.Context(), "CREATE_REPLICATION_SLOT "+name+" LOGICAL pgoutput").ReadAll(); err != nil {
				t.Fatal(err)
			}
		})
	}
}

// Each user does what it may and no more; the names of dropped databases come again, empty.
func TestClickHouseDatabases(t *testing.T) {
	for range 2 {
		t.Run("", func(t *testing.T) {
			ch := enginetest.NewClickHouse(t)
			other := enginetest.NewClickHouse(t)
			const insert = "INSERT INTO audit_watermark (version) VALUES (7)"
			for _, url := range []string{ch.ReaderURL, ch.ReaderHTTPURL} {
				if err := ch.Conn(t, url).Exec(t.Context(), insert); err == nil {
					t.Error("the reader may insert")
				}
			}
			for _, url := range []string{ch.ReplicatorURL, ch.ReplicatorHTTPURL} {
				if err := ch.Conn(t, url).Exec(t.Context(), insert); err != nil {
					t.Error(err)
				}
			}
			for url, want := range map[string]uint64{
				ch.ReaderURL: 2, ch.ReaderHTTPURL: 2, ch.ReplicatorURL: 2, ch.MigrateURL: 2, ch.MigrateHTTPURL: 2, other.ReaderURL: 0,
			} {
				var n uint64
				if err := ch.Conn(t, url).QueryRow(t.Context(), "SELECT count() FROM audit_watermark").Scan(&n); err != nil || n != want {
					t.Errorf("%d rows, want %d: %v", n, want, err)
				}
			}
		})
	}
}

// Private engines go on after a kill with what they had.
func TestOwnEngines(t *testing.T) {
	pg := enginetest.StartOwnPostgres(t, engines.PostgresConfig{})
	before := pg.Engine().PID()
	if err := pg.Engine().Kill(syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	pg.Restart(t)
	if pg.Engine().PID() == before {
		t.Error("not restarted")
	}
	var n int
	if err := connect(t, pg.APIURL).QueryRow(t.Context(), "SELECT count(*) FROM argus_audit_log").Scan(&n); err != nil {
		t.Error(err)
	}
	ch := enginetest.StartOwnClickHouse(t, engines.ClickHouseConfig{})
	if err := ch.Conn(t, ch.ReplicatorURL).Exec(t.Context(), "INSERT INTO audit_watermark (version) VALUES (7)"); err != nil {
		t.Fatal(err)
	}
	for _, end := range []func() error{
		func() error { return ch.Engine().Kill(syscall.SIGKILL) },
		func() error { return nil }, // Restart ends it in order
	} {
		if err := end(); err != nil {
			t.Fatal(err)
		}
		ch.Restart(t)
		var rows uint64
		if err := ch.Conn(t, ch.ReaderURL).QueryRow(t.Context(), "SELECT count() FROM audit_watermark").Scan(&rows); err != nil || rows != 1 {
			t.Errorf("%d rows: %v", rows, err)
		}
	}
}

func TestProxy(t *testing.T) {
	pg := enginetest.NewPostgres(t)
	proxy, url := enginetest.ProxyURL(t, pg.SuperuserURL)
	direct := connect(t, pg.SuperuserURL)
	if _, err := direct.Exec(t.Context(), "CREATE TABLE done (n int)"); err != nil {
		t.Fatal(err)
	}
	done := func() (n int) {
		t.Helper()
		if err := direct.QueryRow(t.Context(), "SELECT count(*) FROM done").Scan(&n); err != nil {
			t.Fatal(err)
		}
		return n
	}
	transact := func() error {
		conn := connect(t, url)
		return pgx.BeginFunc(t.Context(), conn, func(tx pgx.Tx) error {
			_, err := tx.Exec(t.Context(), "INSERT INTO done VALUES (1)")
			return err
		})
	}
	if err := transact(); err != nil || done() != 1 {
		t.Fatalf("an open proxy: %v, %d rows", err, done())
	}
	proxy.DropReplyTo("commit")
	if err := transact(); err == nil {
		t.Error("the COMMIT's answer came")
	}
	// The row is there although the client was told nothing; the engine may need a moment more than we.
	for deadline := time.Now().Add(time.Minute); done() != 2 && time.Now().Before(deadline); {
		time.Sleep(10 * time.Millisecond)
	}
	if done() != 2 {
		t.Error("the COMMIT was not forwarded")
	}
	proxy.DropRequest("commit")
	if err := transact(); err == nil || done() != 2 {
		t.Errorf("a COMMIT that was not forwarded: %v, %d rows", err, done())
	}
	if err := transact(); err != nil || done() != 3 {
		t.Errorf("it did not heal by itself: %v, %d rows", err, done())
	}

	held := connect(t, url)
	proxy.Freeze()
	var wg sync.WaitGroup
	answered := make(chan error, 1)
	wg.Go(func() {
		_, err := held.Exec(t.Context(), "INSERT INTO done VALUES (1)")
		answered <- err
	})
	short, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	if _, err := pgx.Connect(short, url); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("connecting through a frozen proxy: %v", err)
	}
	if len(answered) != 0 || done() != 3 {
		t.Error("a frozen proxy forwards")
	}
	proxy.Heal()
	if err := <-answered; err != nil || done() != 4 {
		t.Errorf("after a freeze: %v, %d rows", err, done())
	}
	wg.Wait()

	proxy.DropReplies()
	if _, err := held.Exec(t.Context(), "INSERT INTO done VALUES (1)"); err == nil {
		t.Error("a reply came")
	}
	proxy.Cut()
	if _, err := net.Dial("tcp", proxy.Addr()); !errors.Is(err, syscall.ECONNREFUSED) {
		t.Errorf("connecting to a cut proxy: %v", err)
	}
	proxy.Heal()
	proxy.Trickle(100_000)
	proxy.Delay(time.Millisecond)
	if err := transact(); err != nil {
		t.Error(err)
	}
}
