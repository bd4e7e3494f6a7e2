package ledger

import (
	"path/filepath"
	"testing"
	"time"

	"github.com/useargus/argus/connect"
)

// A sealer that rests takes up rows when they are announced. Its own rounds are hours apart here.
func TestNoticesEndRests(t *testing.T) {
	w := newWorld(t)
	anchor := filepath.Join(t.TempDir(), "anchor")
	_, stop := w.run(w.config(anchor))
	writer := w.open()
	w.mustWrite(writer, 1, 1)
	w.sealed()
	stop()
	config := w.config(anchor)
	config.Interval = time.Hour
	w.run(config)
	for seq := int64(2); seq < 5; seq++ {
		before := w.number("SELECT max(size) FROM argus.ledger_checkpoints")
		w.mustWrite(writer, seq, seq)
		for deadline := time.Now().Add(time.Minute); w.number("SELECT max(size) FROM argus.ledger_checkpoints") == before; time.Sleep(10 * time.Millisecond) {
			// Again and again, since the sealer may not listen yet.
			if err := connect.Announce(t.Context(), w.api, connect.RowsCommitted); err != nil {
				t.Fatal(err)
			}
			if time.Now().After(deadline) {
				t.Fatal("an announced row is not sealed")
			}
		}
	}
}
