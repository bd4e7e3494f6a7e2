package api

import (
	"testing"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/useargus/argus"
	"github.com/useargus/argus/internal/engines/enginetest"
	"github.com/useargus/argus/proof"
)

// TestLeafless: once leaves were pruned, rows of administrators go out whole, so that the caller holds them against the
// record of the pruning. Those with a leaf, and those that wait for one, do not.
func TestLeafless(t *testing.T) {
	pg := enginetest.NewPostgres(t)
	owner, reader := pg.Pool(t, pg.OwnerURL), pg.Pool(t, pg.APIURL)
	exec := func(sql string) {
		t.Helper()
		if _, err := owner.Exec(t.Context(), sql); err != nil {
			t.Fatalf("%s: %v", sql, err)
		}
	}
	exec("TRUNCATE argus.ledger_pending")
	exec("ALTER TABLE argus.audit_admin DISABLE TRIGGER USER")
	exec("INSERT INTO argus.audit_admin (id, kind, detail) OVERRIDING SYSTEM VALUE SELECT 9000 + i, 'hold', '{}' FROM generate_series(1, 3) i")
	exec("INSERT INTO argus.ledger_pending VALUES (4, int8send(9002), 600, sha256('x'))")
	exec("INSERT INTO argus.ledger_runs (first_leaf, leaves, kind, month, keys, digests) SELECT 0, count(*), 4, 600, string_agg(int8send(id), ''), string_agg(sha256('x'), '') FROM argus.audit_admin WHERE id < 9002")
	s := &ledgerStore{pool: (*pgxpool.Pool)(reader)}
	rows, err := s.leafless(t.Context())
	if err != nil || len(rows) != 1 || rows[0].ID != 9003 || rows[0].Kind != "hold" || rows[0].Detail != "{}" {
		t.Errorf("without a leaf: %+v, %v", rows, err)
	}
	for pruned, want := range map[bool]int64{false: 1, true: 0} {
		loose, err := s.looseRows(t.Context(), pruned)
		n := int64(0)
		for _, l := range loose {
			if l.Kind == proof.AdminRow {
				n += l.Rows
			}
		}
		if err != nil || n < want || pruned && n != 0 {
			t.Errorf("pruned %v: %d loose rows, %v", pruned, n, err)
		}
	}
}

// TestCovered: the copy is verified up to the first leaf whose call it lacks, by its watermark, to the leaf.
func TestCovered(t *testing.T) {
	pg := enginetest.NewPostgres(t)
	owner, reader := pg.Pool(t, pg.OwnerURL), pg.Pool(t, pg.APIURL)
	exec := func(sql string) {
		t.Helper()
		if _, err := owner.Exec(t.Context(), sql); err != nil {
			t.Fatalf("%s: %v", sql, err)
		}
	}
	for _, run := range []string{"0, 10, 1, 600, 7, 1, NULL::bytea", "10, 10, 1, 600, 9, 1, NULL::bytea", "20, 2, 4, 600, NULL::bigint, NULL::bigint, decode(repeat('00', 16), 'hex')", "22, 10, 1, 600, 7, 11, NULL::bytea"} {
		exec("INSERT INTO argus.ledger_runs (first_leaf, leaves, kind, month, writer_id, first_seq, keys, digests) SELECT r.*, decode(repeat('ab', 32 * leaves), 'hex') FROM (SELECT " +
			run + ") r (first_leaf, leaves, kind, month, writer_id, first_seq, keys)")
	}
	s := &ledgerStore{pool: (*pgxpool.Pool)(reader)}
	check := func(want, closed int64, writers map[int64]int64) {
		t.Helper()
		got, err := s.covered(t.Context(), argus.Position{ClosedThrough: closed, Writers: writers})
		if err != nil || got != want {
			t.Errorf("a copy that has %d and %v is whole up to leaf %d, not %d: %v", closed, writers, want, got, err)
		}
	}
	check(0, 0, nil)
	check(0, 0, map[int64]int64{9: 10})
	check(4, 0, map[int64]int64{7: 4, 9: 10})
	check(10, 0, map[int64]int64{7: 20})
	check(13, 0, map[int64]int64{7: 20, 9: 3})
	check(22, 0, map[int64]int64{7: 10, 9: 10})
	check(27, 0, map[int64]int64{7: 15, 9: 10})
	check(27, 9, map[int64]int64{7: 15})
	check(10, 8, nil)
	check(proof.MaxSize, 0, map[int64]int64{7: 20, 9: 10})
	check(proof.MaxSize, 9, nil)
	exec("ALTER TABLE argus.ledger_losses DISABLE TRIGGER USER")
	exec("INSERT INTO argus.ledger_losses (from_leaf, to_leaf, claimed_by, reason) VALUES (22, 32, 'ada', 'restored')")
	check(proof.MaxSize, 0, map[int64]int64{7: 10, 9: 10}) // lost with a restore
	check(4, 0, map[int64]int64{7: 4, 9: 10})
}
