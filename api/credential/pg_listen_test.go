package credential

import (
	"errors"
	"os"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/useargus/argus/internal/engines/enginetest"
)

func TestMain(m *testing.M) { os.Exit(enginetest.Run(m)) }

// TestPooledChannel: an echo by another backend than the one that listens proves nothing, also when it is heard. A pooler that
// lends sessions for a transaction gives such echoes, and drops revocations in between.
func TestPooledChannel(t *testing.T) {
	pg := enginetest.NewPostgres(t)
	conn, err := pgx.Connect(t.Context(), pg.APIURL)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(t.Context())
	if _, err := conn.Exec(t.Context(), "LISTEN "+credentialChannel); err != nil {
		t.Fatal(err)
	}
	v := &Verifier{}
	if err := v.echo(t.Context(), conn, conn.PgConn().PID(), "echo one"); err != nil {
		t.Errorf("by the backend that listens: %v", err)
	}
	if err := v.echo(t.Context(), conn, conn.PgConn().PID()+1, "echo two"); !errors.Is(err, errPooled) {
		t.Errorf("by another one: %v", err)
	}
}
