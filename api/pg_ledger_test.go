package api

import (
	"testing"

	"github.com/jackc/pgx/v5/pgxpool"

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
