package verify_test

import (
	"os"
	"testing"

	"github.com/useargus/argus/proof"
)

// TestRewrittenHistory: another history takes the place of the log, rows and runs of it, whole and by the rules. Who has no
// key must put an old checkpoint beside it, which speaks of other leaves. Who has the key signs it: no look at the store
// alone can tell then. A checkpoint that was kept elsewhere can.
func TestRewrittenHistory(t *testing.T) {
	w := newWorld(t)
	w.rows(10)
	w.seal()
	first := w.postgres(w.options())
	if first.Outcome != proof.Proven {
		t.Fatal("untouched: ", explain(first))
	}
	other := newWorld(t)
	key, err := os.ReadFile(w.key)
	w.must(err)
	w.must(os.WriteFile(other.key, key, 0o600))
	other.vkey = w.vkey
	other.rows(10)
	other.seal()

	o := other.options()
	if r := other.postgres(o); r.Outcome != proof.Proven {
		t.Errorf("signed by the key's holder, and no checkpoint is remembered: %s", explain(r))
	}
	o.Remembered = first.Note
	if r := other.postgres(o); r.Outcome != proof.Disproved {
		t.Errorf("signed by the key's holder, with a checkpoint kept elsewhere: %s", explain(r))
	}

	other.exec("ALTER TABLE argus.ledger_checkpoints DISABLE TRIGGER USER")
	other.exec("DELETE FROM argus.ledger_checkpoints")
	rows, err := w.owner.Query(t.Context(), "SELECT size, root, note, position::text, sealed_at FROM argus.ledger_checkpoints")
	w.must(err)
	for rows.Next() {
		values, err := rows.Values()
		w.must(err)
		other.exec("INSERT INTO argus.ledger_checkpoints (size, root, note, position, sealed_at) VALUES ($1, $2, $3, $4, $5)", values...)
	}
	w.must(rows.Err())
	if r := other.postgres(other.options()); r.Outcome != proof.Disproved {
		t.Errorf("without the key: %s", explain(r))
	}
}
