package replicator

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/useargus/argus/internal/engines"
	"github.com/useargus/argus/internal/engines/enginetest"
)

// eventually: Postgres notices within seconds that a client has gone.
func eventually(t *testing.T, done func() bool) {
	t.Helper()
	for deadline := time.Now().Add(90 * time.Second); !done(); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("it did not come about")
		}
	}
}

// TestForeignUse: what the role of the replicator can do beside replicating, which Postgres cannot deny it, is counted
// by any session of that role, without a further grant.
func TestForeignUse(t *testing.T) {
	pg := enginetest.StartOwnPostgres(t, engines.PostgresConfig{})
	ours := pg.Pool(t, pg.ReplicatorURL)
	count := func(want foreignUse) {
		t.Helper()
		if got, err := readForeignUse(t.Context(), ours, "argus"); err != nil || got != want {
			t.Errorf("%+v, want %+v: %v", got, want, err)
		}
	}
	dial := func(mode string) *pgconn.PgConn {
		t.Helper()
		conn, err := pgconn.Connect(t.Context(), pg.ReplicatorURL+"&replication="+mode)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { conn.Close(context.Background()) })
		return conn
	}
	run := func(conn *pgconn.PgConn, sql string) string {
		t.Helper()
		results, err := conn.Exec(t.Context(), sql).ReadAll()
		if err != nil {
			t.Fatalf("%s: %v", sql, err)
		}
		var text strings.Builder
		for _, r := range results {
			for _, row := range r.Rows {
				for _, v := range row {
					text.Write(v)
				}
			}
		}
		return text.String()
	}
	run(dial("database"), "CREATE_REPLICATION_SLOT argus LOGICAL pgoutput")
	count(foreignUse{})

	// A slot of another plugin shows tables that the role may not SELECT, digests of tokens included.
	if _, err := ours.Exec(t.Context(), "SELECT digest FROM argus.personal_access_tokens"); err == nil {
		t.Error("the replicator may SELECT tokens")
	}
	run(dial("database"), "CREATE_REPLICATION_SLOT stolen LOGICAL test_decoding")
	count(foreignUse{slots: 1})
	super := pg.Pool(t, pg.SuperuserURL)
	if _, err := super.Exec(t.Context(), `INSERT INTO argus.personal_access_tokens (id, actor_id, name, digest, last_four, scopes, audit_id, expires_at)
		SELECT gen_random_uuid(), 'user_2ada', 'x', decode(repeat('c5', 32), 'hex'), 'abcd', ARRAY['tenants:read'], gen_random_uuid(), now() + interval '1 day'`); err != nil {
		t.Fatal(err)
	}
	var decoded string
	if err := ours.QueryRow(t.Context(), "SELECT coalesce(string_agg(data, ' '), '') FROM pg_logical_slot_get_changes('stolen', NULL, NULL)").Scan(&decoded); err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(decoded, strings.Repeat("c5", 32)) {
		t.Errorf("SECURITY.md says that the role reads digests; it decoded: %.300s", decoded)
	}
	run(dial("database"), "DROP_REPLICATION_SLOT stolen")
	count(foreignUse{})

	// A base backup, which is every file of the cluster: on a connection to the database as well.
	for _, mode := range []string{"database", "true"} {
		backup := dial(mode)
		results := backup.Exec(t.Context(), "BASE_BACKUP (LABEL 'stolen', MAX_RATE 32, CHECKPOINT 'fast')")
		seen := results.NextResult()
		got, err := readForeignUse(t.Context(), ours, "argus")
		if !seen || err != nil || got != (foreignUse{backups: 1}) {
			t.Errorf("%s: %v, %+v, %v", mode, seen, got, err)
		}
		backup.Conn().Close() // results.Close would wait for the rest
		eventually(t, func() bool {
			s, err := readForeignUse(t.Context(), ours, "argus")
			return err == nil && s == (foreignUse{})
		})
	}
}
