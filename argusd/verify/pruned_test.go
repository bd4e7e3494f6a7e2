package verify_test

import (
	"testing"

	"github.com/useargus/argus/proof"
)

// TestPrunedAdmin: rows of audit_admin outlive their leaves when runs are pruned. The record of the pruning vouches for
// them, also when that record's own leaf is pruned later. An altered, missing or added row is still disproved.
func TestPrunedAdmin(t *testing.T) {
	w := newWorld(t)
	w.exec("INSERT INTO argus.audit_admin (kind, detail) SELECT 'hold', jsonb_build_object('n', i) FROM generate_series(1, 66000) i")
	w.seal()
	// A stored tile, which stands for the leaves when they are gone.
	w.exec("ALTER TABLE argus.ledger_tiles DISABLE TRIGGER USER")
	for _, want := range []proof.Outcome{proof.Disproved, proof.Proven} {
		w.exec("UPDATE argus.ledger_tiles SET hashes = set_bit(hashes, 777, 1 - get_bit(hashes, 777)) WHERE level = 1 AND n = 0")
		if r := w.postgres(w.options()); r.Outcome != want {
			t.Errorf("a bit of a stored tile, flipped or back: %s, not %s", explain(r), want)
		}
	}
	// prune does what argus.prune_ledger does with a whole partition, at a place that a test can reach.
	prune := func(from, to int64) {
		t.Helper()
		w.exec("ALTER TABLE argus.ledger_runs DISABLE TRIGGER USER")
		w.exec("ALTER TABLE argus.ledger_runs_000000 DISABLE TRIGGER USER")
		w.exec(`WITH leaf AS (SELECT substring(r.keys FROM 1 + i * 8 FOR 8) AS key, substring(r.digests FROM 1 + i * 32 FOR 32) AS digest
				FROM argus.ledger_runs r CROSS JOIN LATERAL generate_series(0, r.leaves - 1) i WHERE r.kind = 4 AND r.first_leaf >= $1 AND r.first_leaf < $2),
			id AS (SELECT ('x' || encode(key, 'hex'))::bit(64)::bigint AS id FROM leaf),
			gone AS (DELETE FROM argus.ledger_runs WHERE first_leaf < $2)
			INSERT INTO argus.audit_admin (kind, detail) SELECT 'ledger_pruned', jsonb_build_object('from_leaf', $1::bigint, 'to_leaf', $2::bigint,
				'admin_ids', (SELECT jsonb_agg(jsonb_build_array(a, b) ORDER BY a) FROM (SELECT min(id) AS a, max(id) AS b
					FROM (SELECT id, id - row_number() OVER (ORDER BY id) AS island FROM id) x GROUP BY island) y),
				'admin_sha256', (SELECT encode(sha256(string_agg(key || digest, ''::bytea ORDER BY key)), 'hex') FROM leaf))`, from, to)
		w.exec("ALTER TABLE argus.ledger_runs_000000 ENABLE TRIGGER USER")
		w.exec("ALTER TABLE argus.ledger_runs ENABLE TRIGGER USER")
		w.seal()
	}
	prune(0, proof.RunBoundary)
	if r := w.postgres(w.options()); r.Outcome != proof.Proven || r.Counts.Unsealed != 0 {
		t.Fatal("pruned: ", explain(r))
	}
	w.exec("INSERT INTO argus.audit_admin (kind, detail) SELECT 'hold', jsonb_build_object('n', i) FROM generate_series(1, 66000) i")
	w.seal()
	w.rows(3)
	w.seal()
	prune(proof.RunBoundary, 2*proof.RunBoundary) // with the first record
	if r := w.postgres(w.options()); r.Outcome != proof.Proven || r.Counts.Unsealed != 0 {
		t.Fatal("pruned twice: ", explain(r))
	}
	w.exec("ALTER TABLE argus.audit_admin DISABLE TRIGGER USER")
	const old = "INSERT INTO argus.audit_admin (id, at, kind, detail) OVERRIDING SYSTEM VALUE VALUES (-5, now() - interval '1 day', 'hold', '{}')"
	for name, attack := range map[string][2]string{
		"altered":            {`UPDATE argus.audit_admin SET detail = '{"n": 0}' WHERE id = 77`, `UPDATE argus.audit_admin SET detail = jsonb_build_object('n', 77 - (SELECT id - 1 FROM argus.audit_admin WHERE detail = '{"n": 1}' ORDER BY id LIMIT 1)) WHERE id = 77`},
		"added":              {old, "DELETE FROM argus.audit_admin WHERE id = -5"},
		"the record altered": {`UPDATE argus.audit_admin SET detail = detail || '{"by": "me"}' WHERE id = (SELECT min(id) FROM argus.audit_admin WHERE kind = 'ledger_pruned')`, `UPDATE argus.audit_admin SET detail = detail - 'by' WHERE detail ? 'by'`},
		"gone": {"CREATE TABLE argus.gone AS SELECT * FROM argus.audit_admin WHERE id = 77; DELETE FROM argus.audit_admin WHERE id = 77",
			"INSERT INTO argus.audit_admin OVERRIDING SYSTEM VALUE SELECT * FROM argus.gone; DROP TABLE argus.gone"},
	} {
		w.exec(attack[0])
		if r := w.postgres(w.options()); r.Outcome != proof.Disproved {
			t.Errorf("%s: %s", name, explain(r))
		}
		w.exec(attack[1])
		if r := w.postgres(w.options()); r.Outcome != proof.Proven {
			t.Fatalf("%s, put back: %s", name, explain(r))
		}
	}
}
