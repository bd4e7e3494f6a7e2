package writer

import (
	"context"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/useargus/argus/connect"
	"github.com/useargus/argus/internal/engines/enginetest"
)

// Rows are announced to the readers that rest, also after a time in which many were announced as one.
func TestRowsAreAnnounced(t *testing.T) {
	pg := enginetest.NewPostgres(t)
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	conn, err := pgx.Connect(ctx, pg.ShipURL)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(context.Background())
	if err := connect.Listen(ctx, conn, connect.RowsCommitted); err != nil {
		t.Fatal(err)
	}
	w := start(t, Config{URL: pg.APIURL})
	for range 3 {
		w.announced.Store(0) // half a second went by
		for range 5 {
			if err := w.Append(ctx, exampleRecord(1), false); err != nil {
				t.Fatal(err)
			}
		}
		heard := false
		for !heard {
			if err := connect.Hear(ctx, conn, 50*time.Millisecond, func(channel string) { heard = heard || channel == connect.RowsCommitted }); err != nil {
				t.Fatalf("no row was announced: %v", err)
			}
		}
	}
}
