package verify_test

import (
	"crypto/ed25519"
	"crypto/rand"
	"encoding/base64"
	"encoding/binary"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"golang.org/x/mod/sumdb/note"

	"github.com/useargus/argus/argusd/verify"
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

// TestOlderCheckpoints: a checkpoint that is not the newest speaks of another history. The key's holder signed it, or its row
// was altered in note and columns alike. The store's own tree is held against it, and it is named.
func TestOlderCheckpoints(t *testing.T) {
	w := newWorld(t)
	for range 3 {
		w.rows(7)
		w.seal()
	}
	rows, err := w.owner.Query(t.Context(), "SELECT size FROM argus.ledger_checkpoints ORDER BY size")
	w.must(err)
	sizes, err := pgx.CollectRows(rows, pgx.RowTo[int64])
	w.must(err)
	w.exec("ALTER TABLE argus.ledger_checkpoints DISABLE TRIGGER USER")
	look := func(what string, want proof.Outcome, size int64) {
		t.Helper()
		w.must(w.copied.Exec(t.Context(), "TRUNCATE TABLE ledger_checkpoints"))
		w.copy("ledger_checkpoints")
		for store, verified := range map[string]func(verify.Options) verify.Result{"Postgres": w.postgres, "ClickHouse": w.clickhouse} {
			r := verified(w.options())
			if r.Outcome != want || size >= 0 && !strings.HasPrefix(r.Reasons[0], fmt.Sprintf("a fork: checkpoint %d has the root", size)) {
				t.Errorf("%s in %s: %s", what, store, explain(r))
			}
		}
	}
	w.copyAll()
	look("untouched", proof.Proven, -1)
	skey, err := os.ReadFile(w.key)
	w.must(err)
	signer, err := note.NewSigner(strings.TrimSpace(string(skey)))
	w.must(err)
	stranger, _, err := note.GenerateKey(rand.Reader, origin)
	w.must(err)
	another, err := note.NewSigner(stranger)
	w.must(err)
	forged := proof.Checkpoint{Origin: origin, Root: proof.Hash{1, 2, 3}}
	for _, by := range []note.Signer{signer, another} {
		for _, at := range []int64{1, sizes[0], sizes[len(sizes)-2]} {
			w.exec("CREATE TABLE argus.kept AS SELECT * FROM argus.ledger_checkpoints")
			forged.Size = at
			signed, err := forged.Sign(by)
			w.must(err)
			w.exec(`INSERT INTO argus.ledger_checkpoints (size, root, note, position) VALUES ($1, $2, $3, '')
				ON CONFLICT (size) DO UPDATE SET root = $2, note = $3`, at, forged.Root[:], string(signed))
			look(fmt.Sprintf("forged at %d leaves", at), proof.Disproved, at)
			w.exec("DELETE FROM argus.ledger_checkpoints; INSERT INTO argus.ledger_checkpoints SELECT * FROM argus.kept; DROP TABLE argus.kept")
		}
	}
	look("put back", proof.Proven, -1)
}

// TestWitnesses: with a policy, a store is held against the newest checkpoint that the witnesses have cosigned. What they have
// not cosigned is left undecided, and a cosignature that was changed is disproved.
func TestWitnesses(t *testing.T) {
	w := newWorld(t)
	private := ed25519.NewKeyFromSeed(make([]byte, 32))
	witness := proof.NewCosigner("witness.test/w1", private.Public().(ed25519.PublicKey))
	policy, err := proof.ParsePolicy(fmt.Appendf(nil, "log %s\nwitness w1 %s\nquorum w1\n", w.vkey, witness))
	w.must(err)
	o := verify.Options{MaxAge: 10 * time.Minute, Open: policy.Open, Signed: policy.Signed, Time: policy.Time}
	check := func(when string, want proof.Outcome, size int64) {
		t.Helper()
		w.copyAll()
		for _, r := range []verify.Result{w.postgres(o), w.clickhouse(o)} {
			if r.Outcome != want || r.Checkpoint.Size != size {
				t.Errorf("%s, of %d leaves: %s", when, r.Checkpoint.Size, explain(r))
			}
		}
		for _, table := range []string{"audit_log", "ledger_runs", "ledger_checkpoints"} {
			w.must(w.copied.Exec(t.Context(), "TRUNCATE TABLE "+table))
		}
	}
	cosign := func(at time.Time) (size int64) {
		t.Helper()
		var note string
		w.must(w.owner.QueryRow(t.Context(), "SELECT size, note FROM argus.ledger_checkpoints ORDER BY size DESC LIMIT 1").Scan(&size, &note))
		text, _, _ := strings.Cut(note, "\n\n")
		line := binary.BigEndian.AppendUint32(nil, witness.ID())
		line = binary.BigEndian.AppendUint64(line, uint64(at.Unix()))
		line = append(line, ed25519.Sign(private, fmt.Appendf(nil, "cosignature/v1\ntime %d\n%s\n", at.Unix(), text))...)
		w.exec("INSERT INTO argus.ledger_cosignatures (size, key, line) VALUES ($1, $2, $3)", size, witness.Name(), "— "+witness.Name()+" "+base64.StdEncoding.EncodeToString(line)+"\n")
		return size
	}
	w.rows(10)
	w.seal()
	check("no cosignature", proof.Undecided, 0)
	size := cosign(time.Now())
	check("cosigned", proof.Proven, size)
	w.rows(5)
	w.seal()
	check("cosigned a checkpoint ago", proof.Proven, size)
	size = cosign(time.Now())
	check("cosigned again", proof.Proven, size)
	w.rows(5)
	w.seal()
	size = cosign(time.Now().Add(-time.Hour))
	check("cosigned an hour ago", proof.Undecided, size)
	w.exec("ALTER TABLE argus.ledger_cosignatures DISABLE TRIGGER USER")
	w.exec("UPDATE argus.ledger_cosignatures SET line = left(line, -20) || CASE substring(line FROM length(line) - 19 FOR 1) WHEN 'A' THEN 'B' ELSE 'A' END || right(line, 19)")
	if r := w.postgres(o); r.Outcome != proof.Disproved {
		t.Errorf("changed cosignatures: %s", explain(r))
	}
}
