package engines

import (
	"context"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
)

// TestStandby: a standby follows and keeps the failover slots. It becomes the primary of the next timeline, and the old one follows it.
func TestStandby(t *testing.T) {
	dir, err := os.MkdirTemp("", "argus-standby-")
	if err != nil {
		t.Fatal(err)
	}
	os.Chmod(dir, 0o711)
	t.Cleanup(func() { os.RemoveAll(dir) })
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	pg, err := StartPostgres(ctx, PostgresConfig{Dir: filepath.Join(dir, "one")})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { pg.StopImmediate() }()
	exec := func(on *Postgres, sql string) (text string) {
		t.Helper()
		conn, err := pgx.Connect(ctx, on.SuperuserURL(Superuser))
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close(context.Background())
		if err := conn.QueryRow(ctx, sql).Scan(&text); err != nil {
			t.Fatalf("%s: %v", sql, err)
		}
		return text
	}
	standby, err := pg.Standby(ctx, filepath.Join(dir, "two"), "two")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { standby.StopImmediate() }()
	exec(pg, "SELECT slot_name::text FROM pg_create_logical_replication_slot('argus', 'pgoutput', false, false, true)")
	streams := func(primary, standby *Postgres, name string, slots ...string) {
		t.Helper()
		short, cancel := context.WithTimeout(ctx, 60*time.Second)
		defer cancel()
		if err := primary.Streams(short, standby, name, slots...); err != nil {
			log, _ := os.ReadFile(standby.config.LogPath)
			t.Fatalf("%v\n%s", err, log)
		}
	}
	streams(pg, standby, "two", "argus")
	if err := pg.Kill(syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	if err := standby.Promote(ctx); err != nil {
		t.Fatal(err)
	}
	if at := exec(standby, "SELECT left(pg_walfile_name(pg_current_wal_lsn()), 8)"); at != "00000002" {
		t.Errorf("it is on timeline %s", at)
	}
	exec(standby, "SELECT pg_logical_emit_message(true, 'test', 'after')::text")
	if pg, err = pg.Rejoin(ctx, standby, "one"); err != nil {
		t.Fatal(err)
	}
	streams(standby, pg, "one")
}
