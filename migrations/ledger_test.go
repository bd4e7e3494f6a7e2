package migrations_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"pgregory.net/rapid"

	"github.com/useargus/argus/internal/engines/enginetest"
	"github.com/useargus/argus/proof"
)

// TestCanonicalSteps compares the canonical forms of Go and of SQL, and the digests that the triggers leave to be sealed.
func TestCanonicalSteps(t *testing.T) {
	pg := enginetest.NewPostgres(t)
	owner := connect(t, pg.OwnerURL)
	ctx := context.Background()
	step := int16(0)
	text := rapid.StringOfN(rapid.RuneFrom([]rune("aZ9 \"\\\n\t'é€𝄞\u2028{}[]:,")), 0, 40, -1)
	maybe := func(t *rapid.T) *string {
		if rapid.Bool().Draw(t, "null") {
			return nil
		}
		s := text.Draw(t, "text")
		return &s
	}
	rapid.Check(t, func(rt *rapid.T) {
		step++
		at := time.Now().UTC().Add(time.Duration(rapid.Int64Range(-3e9, 3e9).Draw(rt, "at")) * time.Microsecond / 1000).Truncate(time.Microsecond)
		id, err := uuid.NewV7()
		if err != nil {
			rt.Fatal(err)
		}
		c := proof.ComputeControl{AuditID: id, Step: step, At: at, ActorID: text.Draw(rt, "actor"), ImpersonatorID: maybe(rt),
			Action: "launch", WorkerID: maybe(rt), Provider: maybe(rt), Reason: maybe(rt), From: maybe(rt), To: maybe(rt), Result: "failed", Error: maybe(rt)}
		s := proof.RemoteSupport{AuditID: id, Step: step, At: at, ActorID: text.Draw(rt, "actor"), ImpersonatorID: maybe(rt),
			Action: "arm", TenantID: text.Draw(rt, "tenant"), Reason: maybe(rt), ConsentDocumentID: maybe(rt), ConsentRecordedBy: maybe(rt), Result: "failed", Error: maybe(rt)}
		if rapid.Bool().Draw(rt, "session") {
			session := uuid.New()
			consent := time.UnixMicro(rapid.Int64Range(-1e15, 4e15).Draw(rt, "consent")).UTC()
			s.SessionID, s.ConsentRecordedAt = &session, &consent
		}
		a := proof.Admin{Kind: text.Draw(rt, "kind")}
		detail := fmt.Sprintf(`{"b": %d, "a": [1.50, %q, null]}`, rapid.Int64().Draw(rt, "n"), rapid.StringMatching(`[a-zé ]{0,9}`).Draw(rt, "s"))
		if err := pgx.BeginFunc(ctx, owner, func(tx pgx.Tx) error {
			if _, err := tx.Exec(ctx, `INSERT INTO argus.compute_control_audit (audit_id, step, at, actor_id, impersonator_id, action, worker_id, provider, reason,
				from_state, to_state, result, error) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13)`, c.AuditID, c.Step, c.At, c.ActorID,
				c.ImpersonatorID, c.Action, c.WorkerID, c.Provider, c.Reason, c.From, c.To, c.Result, c.Error); err != nil {
				return err
			}
			if _, err := tx.Exec(ctx, `INSERT INTO argus.remote_support_audit (audit_id, step, at, actor_id, impersonator_id, action, tenant_id, session_id, reason,
				consent_document_id, consent_recorded_by, consent_recorded_at, result, error) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14)`,
				s.AuditID, s.Step, s.At, s.ActorID, s.ImpersonatorID, s.Action, s.TenantID, s.SessionID, s.Reason, s.ConsentDocumentID, s.ConsentRecordedBy,
				s.ConsentRecordedAt, s.Result, s.Error); err != nil {
				return err
			}
			if err := tx.QueryRow(ctx, "INSERT INTO argus.audit_admin (kind, detail) VALUES ($1, $2) RETURNING id, at, actor, detail::text", a.Kind, detail).
				Scan(&a.ID, &a.At, &a.Actor, &a.Detail); err != nil {
				return err
			}
			for _, want := range []struct {
				kind  int
				bytes []byte
				sql   string
			}{
				{2, c.Canonical(), "SELECT argus.ledger_canonical_compute_step(s) FROM argus.compute_control_audit s WHERE step = $1"},
				{3, s.Canonical(), "SELECT argus.ledger_canonical_support_step(s) FROM argus.remote_support_audit s WHERE step = $1"},
				{4, a.Canonical(), "SELECT argus.ledger_canonical_admin(s) FROM argus.audit_admin s WHERE $1::int2 > 0 ORDER BY id DESC LIMIT 1"},
			} {
				var form, digest []byte
				if err := tx.QueryRow(ctx, want.sql, step).Scan(&form); err != nil {
					return err
				}
				if !bytes.Equal(form, want.bytes) {
					rt.Fatalf("kind %d: Postgres has %x, Go %x", want.kind, form, want.bytes)
				}
				var month int16
				if err := tx.QueryRow(ctx, "SELECT digest, month FROM argus.ledger_pending WHERE kind = $1 ORDER BY key DESC LIMIT 1", want.kind).Scan(&digest, &month); err != nil {
					return err
				}
				if sum := sha256.Sum256(want.bytes); !bytes.Equal(digest, sum[:]) || int(month) != int(proof.MonthOf(time.Now())) {
					rt.Fatalf("kind %d waits as %x of month %d", want.kind, digest, month)
				}
			}
			return tx.Commit(ctx)
		}); err != nil && err != pgx.ErrTxClosed {
			rt.Fatal(err)
		}
	})
}

// TestLedgerPartitions: the sealer makes room for leaves in the transaction that fills a partition. Pruning drops whole
// partitions of months that have left, and nothing that is young, held by rows, or at the tree's edge.
func TestLedgerPartitions(t *testing.T) {
	pg := enginetest.NewPostgres(t)
	super, sealer, maintenance := connect(t, pg.SuperuserURL), connect(t, pg.LedgerURL), connect(t, pg.MaintenanceURL)
	exec := func(conn *pgx.Conn, sql string) {
		t.Helper()
		if _, err := conn.Exec(t.Context(), sql); err != nil {
			t.Fatalf("%s: %v", sql, err)
		}
	}
	const run = "INSERT INTO argus.ledger_runs (first_leaf, leaves, kind, month, writer_id, first_seq, digests) VALUES (%d, 1, 1, %d, 7, 1, sha256('x'))"
	exec(super, "SET session_replication_role = replica")
	const admins = "INSERT INTO argus.ledger_runs (first_leaf, leaves, kind, month, keys, digests) VALUES (%d, 3, 4, 600, int8send(41) || int8send(44) || int8send(42), sha256('41') || sha256('44') || sha256('42'))"
	exec(super, fmt.Sprintf(admins, 1<<24-5))
	exec(super, fmt.Sprintf(run, 1<<24-2, 600)) // January 2020
	exec(super, "SET session_replication_role = origin")
	if err := pgx.BeginFunc(t.Context(), sealer, func(tx pgx.Tx) error {
		if _, err := tx.Exec(t.Context(), fmt.Sprintf(run, 1<<24-1, 600)); err != nil {
			return err
		}
		var made int
		if err := tx.QueryRow(t.Context(), "SELECT argus.create_ledger_partitions()").Scan(&made); err != nil {
			return err
		}
		if made != 1 {
			t.Errorf("%d partitions were made", made)
		}
		_, err := tx.Exec(t.Context(), fmt.Sprintf(run, 1<<24, 600))
		return err
	}); err != nil {
		t.Fatal(err)
	}
	for _, sql := range []string{fmt.Sprintf(run, 1<<24, 600), fmt.Sprintf(run, 1<<24+5, 600), fmt.Sprintf(run, 77, 600)} {
		if _, err := sealer.Exec(t.Context(), sql); err == nil {
			t.Errorf("%s was taken", sql)
		}
	}
	left := func() (first int64) {
		t.Helper()
		if err := maintenance.QueryRow(t.Context(), "SELECT argus.prune_ledger(13)").Scan(&first); err != nil {
			t.Fatal(err)
		}
		return first
	}
	if first := left(); first != 1<<24-5 {
		t.Errorf("without a checkpoint the runs begin at %d", first)
	}
	exec(sealer, fmt.Sprintf("INSERT INTO argus.ledger_checkpoints (size, root, note, position) VALUES (%d, sha256('x'), 'x', 'c0')", 1<<24+1))
	if first := left(); first != 1<<24-5 {
		t.Errorf("at the tree's edge the runs begin at %d", first)
	}
	exec(sealer, fmt.Sprintf("INSERT INTO argus.ledger_checkpoints (size, root, note, position) VALUES (%d, sha256('x'), 'x', 'c0')", 1<<24+1<<17))
	if first := left(); first != 1<<24 {
		t.Errorf("after pruning the runs begin at %d", first)
	}
	if _, err := maintenance.Exec(t.Context(), "SELECT argus.prune_ledger(3)"); err == nil {
		t.Error("runs of three months ago were pruned")
	}
	if n := column[int64](t, super, "SELECT (detail->>'to_leaf')::bigint FROM argus.audit_admin WHERE kind = 'ledger_pruned'"); len(n) != 1 || n[0] != 1<<24 {
		t.Errorf("the pruning is recorded as %v", n)
	}
	// Rows of administrators outlive their leaves, so the record vouches for them.
	digest := sha256.New()
	for _, id := range []uint64{41, 42, 44} {
		of := sha256.Sum256([]byte(fmt.Sprint(id)))
		digest.Write(append(binary.BigEndian.AppendUint64(nil, id), of[:]...))
	}
	want := fmt.Sprintf("[[41, 42], [44, 44]] %x", digest.Sum(nil))
	if got := column[string](t, super, "SELECT concat(detail->'admin_ids', ' ', detail->>'admin_sha256') FROM argus.audit_admin WHERE kind = 'ledger_pruned'"); len(got) != 1 || got[0] != want {
		t.Errorf("the pruning vouches for %v, not %s", got, want)
	}
	// Checkpoints of the last two days stay: even a superuser cannot delete them.
	if _, err := super.Exec(t.Context(), "DELETE FROM argus.ledger_checkpoints"); err == nil {
		t.Error("young checkpoints were deleted")
	}
}
