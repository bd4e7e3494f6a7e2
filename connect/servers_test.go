package connect_test

import (
	"context"
	"errors"
	"net/url"
	"os"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/useargus/argus/connect"
	"github.com/useargus/argus/internal/engines"
	"github.com/useargus/argus/internal/engines/enginetest"
)

func TestMain(m *testing.M) { os.Exit(enginetest.Run(m)) }

// TestServers: of several hosts, connections lead to the primary of the highest timeline. One that hangs holds up no caller, what
// was open on it ends, and when it comes back nothing leads to it, also when it is the only one.
func TestServers(t *testing.T) {
	old := enginetest.StartOwnPostgres(t, engines.PostgresConfig{})
	standby, err := old.Engine().Standby(t.Context(), t.TempDir(), "pg2")
	if err != nil {
		t.Fatal(err)
	}
	defer standby.StopImmediate()
	proxy, through := enginetest.ProxyURL(t, old.APIURL)
	u, err := url.Parse(through)
	if err != nil {
		t.Fatal(err)
	}
	u.Host += ",127.0.0.1:" + strconv.Itoa(standby.Port())
	u.RawQuery = "sslmode=disable&target_session_attrs=read-write"

	config, err := connect.PostgresPool(u.String(), "test")
	if err != nil {
		t.Fatal(err)
	}
	config.ConnConfig.RuntimeParams["default_transaction_read_only"] = "on" // as the questions have it
	config.MaxConns = 8
	pool, err := pgxpool.NewWithConfig(t.Context(), config)
	if err != nil {
		t.Fatal(err)
	}
	defer pool.Close()
	port := func(within time.Duration) (port int, err error) {
		ctx, cancel := context.WithTimeout(t.Context(), within)
		defer cancel()
		err = pool.QueryRow(ctx, "SELECT current_setting('port')::int").Scan(&port)
		return port, err
	}
	for range 3 {
		if at, err := port(time.Minute); err != nil || at != old.Engine().Port() {
			t.Fatalf("the pool leads to %d, %v", at, err)
		}
	}
	asleep := make(chan error, 1)
	go func() {
		_, err := pool.Exec(t.Context(), "SELECT pg_sleep(600)")
		asleep <- err
	}()

	if err := old.Engine().Streams(t.Context(), standby, "pg2"); err != nil {
		t.Fatal(err)
	}
	proxy.Freeze()
	if err := standby.Promote(t.Context()); err != nil {
		t.Fatal(err)
	}
	failed := 0
	eventually(t, "the pool leads to the new primary", func() bool {
		at, err := port(time.Second)
		if err != nil {
			failed++
		}
		return err == nil && at == standby.Port()
	})
	t.Logf("%d questions failed", failed)
	select {
	case err := <-asleep:
		if err == nil {
			t.Error("a statement on the hung primary has ended well")
		}
	case <-time.After(90 * time.Second):
		t.Fatal("a statement on the hung primary goes on")
	}

	proxy.Heal()
	eventually(t, "two primaries are told", func() bool {
		told := strings.Join(connect.Primaries(), "\n")
		return strings.Contains(told, proxy.Addr()) && strings.Contains(told, "127.0.0.1:"+strconv.Itoa(standby.Port()))
	})
	single, err := connect.Postgres(u.String(), "test")
	if err != nil {
		t.Fatal(err)
	}
	conn, err := connect.Open(t.Context(), single)
	if err != nil {
		t.Fatal(err)
	}
	server, err := connect.Identify(t.Context(), conn)
	if err != nil || !server.Primary || server.Timeline != 2 || int(conn.Config().Port) != standby.Port() {
		t.Errorf("with two primaries it is %v, %v", server, err)
	}
	conn.Close(t.Context())

	standby.Kill(syscall.SIGKILL)
	eventually(t, "the old primary alone is turned away", func() bool {
		_, err := connect.Open(t.Context(), single)
		var none *connect.NoPrimaryError
		return errors.As(err, &none) && none.Deposed
	})
	if len(connect.Primaries()) != 0 {
		t.Errorf("two primaries: %q", connect.Primaries())
	}
}

func eventually(t *testing.T, what string, try func() bool) {
	t.Helper()
	for deadline := time.Now().Add(60 * time.Second); !try(); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("never: %s", what)
		}
	}
}
