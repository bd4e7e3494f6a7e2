package api

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/useargus/argus"
	"github.com/useargus/argus/proof"
)

// ledgerStore reads the ledger as argus_api. It implements proof.Store for the tiler.
type ledgerStore struct {
	pool  *Pool
	tiler proof.Tiler
}

// errNotSealed: no checkpoint holds what was asked for.
var errNotSealed = errors.New("not sealed")

// newest is the newest checkpoint of at most that many leaves and, if so wanted, cosigned.
func (s *ledgerStore) newest(ctx context.Context, most int64, cosigned bool) (proof.Sealed, error) {
	return s.checkpoint(ctx, `WHERE c.size <= $1 AND (NOT $2 OR EXISTS (SELECT FROM argus.ledger_cosignatures s WHERE s.size = c.size))
		ORDER BY c.size DESC LIMIT 1`, most, cosigned)
}

// covered is the number of leaves, from the first on, whose calls are all in the position. A call that was lost with a
// restore is in no copy and counts as covered.
func (s *ledgerStore) covered(ctx context.Context, p argus.Position) (leaves int64, err error) {
	writers := slices.AppendSeq([]int64{}, maps.Keys(p.Writers)) // not nil, which Postgres takes for unknown
	through := make([]int64, len(writers))
	for i, id := range writers {
		through[i] = p.Writers[id]
	}
	err = s.pool.QueryRow(ctx, `WITH listed AS (SELECT * FROM unnest($2::bigint[], $3::bigint[]) w (id, through))
		SELECT coalesce(min(leaf), $4) FROM (
		  SELECT (SELECT r.first_leaf + greatest(w.through + 1 - r.first_seq, 0) FROM argus.ledger_runs r
		           WHERE r.kind = 1 AND r.writer_id = w.id AND r.first_seq > w.through - 8192 AND r.first_seq + r.leaves - 1 > w.through
		             AND NOT EXISTS (SELECT FROM argus.ledger_losses l WHERE r.first_leaf >= l.from_leaf AND r.first_leaf < l.to_leaf)
		           ORDER BY r.first_seq LIMIT 1) AS leaf FROM listed w
		  UNION ALL
		  SELECT min(r.first_leaf) FROM argus.ledger_runs r WHERE r.kind = 1 AND r.writer_id > $1 AND NOT r.writer_id = ANY ($2)
		     AND NOT EXISTS (SELECT FROM argus.ledger_losses l WHERE r.first_leaf >= l.from_leaf AND r.first_leaf < l.to_leaf)) f`,
		p.ClosedThrough, writers, through, int64(proof.MaxSize)).Scan(&leaves)
	return leaves, err
}

func (s *ledgerStore) checkpoint(ctx context.Context, where string, args ...any) (c proof.Sealed, err error) {
	var size int64
	var root []byte
	err = s.pool.QueryRow(ctx, "SELECT c.size, c.root, c.note, c.sealed_at FROM argus.ledger_checkpoints c "+where, args...).
		Scan(&size, &root, &c.Note, &c.SealedAt)
	if errors.Is(err, pgx.ErrNoRows) {
		return c, errNotSealed
	}
	if err != nil {
		return c, err
	}
	if c.Checkpoint, err = proof.CheckpointOf([]byte(c.Note)); err == nil && (c.Size != size || string(c.Root[:]) != string(root)) {
		err = fmt.Errorf("%w: the columns of checkpoint %d are not its note's", proof.ErrDisproved, size)
	}
	return c, err
}

// olderCheckpoint is a row of ledger_checkpoints as it stands: its note may say something else.
type olderCheckpoint struct {
	Size int64  `json:"size"`
	Root []byte `json:"root"`
	Note string `json:"note"`
}

// older are the checkpoints of more than from leaves, and of at most to.
func (s *ledgerStore) older(ctx context.Context, from, to int64) ([]olderCheckpoint, error) {
	rows, err := s.pool.Query(ctx, "SELECT size, root, note FROM argus.ledger_checkpoints WHERE size > $1 AND size <= $2 ORDER BY size", from, to)
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, pgx.RowToStructByPos[olderCheckpoint])
}

// cosignature is a line that a witness added, or a further key.
type cosignature struct {
	Key  string         `json:"key"`
	Line string         `json:"line"`
	At   argus.JSONTime `json:"at"`
}

func (s *ledgerStore) cosignatures(ctx context.Context, size int64) ([]cosignature, error) {
	rows, err := s.pool.Query(ctx, "SELECT key, line, at FROM argus.ledger_cosignatures WHERE size = $1 ORDER BY at, key LIMIT 64", size)
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, func(row pgx.CollectableRow) (c cosignature, err error) {
		var at time.Time
		err = row.Scan(&c.Key, &c.Line, &at)
		c.At = argus.JSONTime(at)
		return c, err
	})
}

// leaf is the leaf of a call's row.
func (s *ledgerStore) leaf(ctx context.Context, writer, seq int64) (leaf int64, err error) {
	err = s.pool.QueryRow(ctx, `SELECT first_leaf + $2 - first_seq FROM (SELECT first_leaf, first_seq, leaves FROM argus.ledger_runs
		WHERE kind = 1 AND writer_id = $1 AND first_seq <= $2 ORDER BY first_seq DESC LIMIT 1) r WHERE first_seq + leaves > $2`, writer, seq).Scan(&leaf)
	if errors.Is(err, pgx.ErrNoRows) {
		err = errNotSealed
	}
	return leaf, err
}

// run is a run without its digests.
type run struct{ first, leaves, seq int64 }

// sparse: rows that are so many times fewer than the numbers between them are looked up one by one.
const sparse = 8

// leaves gives the leaf of each row, NoLeaf while it has none. Rows of an export stand close together, so the runs between
// a writer's first and last are read once. A filter that few rows pass has each of them looked up.
func (s *ledgerStore) leaves(ctx context.Context, rows []argus.Record) ([]int64, error) {
	ranges := map[int64]*argus.SeqRange{}
	for i := range rows {
		r := &rows[i]
		if g := ranges[r.WriterID]; g == nil {
			ranges[r.WriterID] = &argus.SeqRange{WriterID: r.WriterID, From: r.Seq, To: r.Seq}
		} else {
			g.From, g.To = min(g.From, r.Seq), max(g.To, r.Seq)
		}
	}
	numbers := int64(0)
	var writers, from, to []int64
	for _, g := range ranges {
		numbers += g.To - g.From + 1
		writers, from, to = append(writers, g.WriterID), append(from, g.From), append(to, g.To)
	}
	if numbers > sparse*int64(len(rows)) {
		writers, from, to = writers[:0], from[:0], to[:0]
		for i := range rows {
			writers, from, to = append(writers, rows[i].WriterID), append(from, rows[i].Seq), append(to, rows[i].Seq)
		}
	}
	// The run that a range begins within, and those that begin in it.
	found, err := s.pool.Query(ctx, `SELECT r.first_leaf, r.leaves, w.w, r.first_seq FROM unnest($1::bigint[], $2::bigint[], $3::bigint[]) w (w, a, b),
		LATERAL (SELECT first_leaf, leaves, first_seq FROM argus.ledger_runs WHERE kind = 1 AND writer_id = w.w AND first_seq <= w.b
		AND first_seq >= coalesce((SELECT first_seq FROM argus.ledger_runs WHERE kind = 1 AND writer_id = w.w AND first_seq <= w.a ORDER BY first_seq DESC LIMIT 1), 0)) r`,
		writers, from, to)
	if err != nil {
		return nil, err
	}
	defer found.Close()
	runs := map[int64][]run{}
	for found.Next() {
		var r run
		var writer int64
		if err := found.Scan(&r.first, &r.leaves, &writer, &r.seq); err != nil {
			return nil, err
		}
		runs[writer] = append(runs[writer], r)
	}
	if err := found.Err(); err != nil {
		return nil, err
	}
	for _, list := range runs {
		slices.SortFunc(list, func(a, b run) int { return cmp.Compare(a.seq, b.seq) })
	}
	leaves := make([]int64, len(rows))
	for i := range rows {
		leaves[i] = proof.NoLeaf
		list := runs[rows[i].WriterID]
		at, exact := slices.BinarySearchFunc(list, rows[i].Seq, func(r run, seq int64) int { return cmp.Compare(r.seq, seq) })
		if !exact {
			at--
		}
		if at >= 0 && rows[i].Seq < list[at].seq+list[at].leaves {
			leaves[i] = list[at].first + rows[i].Seq - list[at].seq
		}
	}
	return leaves, nil
}

// tiles reads tiles within ctx.
func (s *ledgerStore) tiles(ctx context.Context) proof.ReadTile {
	return func(t proof.Tile) ([]byte, error) { return s.tiler.Tile(boundStore{ctx, s}, t) }
}

type boundStore struct {
	ctx context.Context
	s   *ledgerStore
}

// Runs implements proof.Store.
func (b boundStore) Runs(from, to int64) ([]proof.Run, error) { return b.s.runs(b.ctx, from, to) }

// FullTile implements proof.Store.
func (b boundStore) FullTile(level int, n int64) (hashes []byte, err error) {
	err = b.s.pool.QueryRow(b.ctx, "SELECT hashes FROM argus.ledger_tiles WHERE level = $1 AND n = $2", level, n).Scan(&hashes)
	return hashes, err
}

// runs gives the leaves [from, to) as runs. Of the first and the last only the slices that are needed are read.
func (s *ledgerStore) runs(ctx context.Context, from, to int64) ([]proof.Run, error) {
	rows, err := s.pool.Query(ctx, `
		SELECT first_leaf + a, kind, month, coalesce(writer_id, 0), CASE WHEN kind = 1 THEN first_seq + a ELSE 0 END,
		       substring(keys FROM 1 + a * k FOR (b - a) * k), substring(digests FROM 1 + a * 32 FOR (b - a) * 32)
		  FROM (SELECT *, CASE kind WHEN 4 THEN 8 ELSE 18 END AS k, greatest(0, $1 - first_leaf)::int AS a, least(leaves, $2 - first_leaf)::int AS b
		          FROM argus.ledger_runs WHERE first_leaf > $1 - 8192 AND first_leaf < $2) r
		 WHERE b > a ORDER BY first_leaf`, from, to)
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, func(row pgx.CollectableRow) (r proof.Run, err error) {
		var kind, month int16
		err = row.Scan(&r.FirstLeaf, &kind, &month, &r.WriterID, &r.FirstSeq, &r.Keys, &r.Digests)
		r.Kind, r.Month = proof.Kind(kind), proof.Month(month)
		return r, err
	})
}

// firstLeaf is the first leaf whose run was not pruned.
func (s *ledgerStore) firstLeaf(ctx context.Context) (first int64, err error) {
	err = s.pool.QueryRow(ctx, "SELECT coalesce(min(first_leaf), 0) FROM argus.ledger_runs").Scan(&first)
	return first, err
}

// steps are the rows of a domain table of these calls.
func (s *ledgerStore) steps(ctx context.Context, kind proof.Kind, ids []uuid.UUID) ([]argus.Step, error) {
	table, columns := "compute_control_audit", `worker_id, provider, from_state, to_state, NULL, NULL, NULL, NULL, NULL`
	if kind == proof.SupportStep {
		table, columns = "remote_support_audit", `NULL, NULL, NULL, NULL, tenant_id, session_id, consent_document_id, consent_recorded_by, consent_recorded_at`
	}
	rows, err := s.pool.Query(ctx, "SELECT audit_id, step, at, actor_id, impersonator_id, action, reason, result, error, "+columns+
		" FROM argus."+table+" WHERE audit_id = ANY ($1)", ids)
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, func(row pgx.CollectableRow) (argus.Step, error) {
		t := argus.Step{Table: table}
		var at time.Time
		var consented *time.Time
		err := row.Scan(&t.AuditID, &t.Step, &at, &t.ActorID, &t.ImpersonatorID, &t.Action, &t.Reason, &t.Result, &t.Error,
			&t.WorkerID, &t.Provider, &t.FromState, &t.ToState, &t.TenantID, &t.SessionID, &t.ConsentDocumentID, &t.ConsentRecordedBy, &consented)
		t.At = argus.JSONTime(at)
		if consented != nil {
			t.ConsentRecordedAt = argus.JSONTime(*consented)
		}
		return t, err
	})
}

// adminRow is a row of audit_admin; Detail is the text that Postgres writes, which is what was hashed.
type adminRow struct {
	ID     int64          `json:"id"`
	At     argus.JSONTime `json:"at"`
	Actor  string         `json:"actor"`
	Kind   string         `json:"kind"`
	Detail string         `json:"detail"`
}

func (s *ledgerStore) adminRows(ctx context.Context, ids []int64) ([]adminRow, error) {
	return s.admins(ctx, "SELECT id, at, actor, kind, detail::text FROM argus.audit_admin WHERE id = ANY ($1)", ids)
}

func (s *ledgerStore) admins(ctx context.Context, query string, args ...any) ([]adminRow, error) {
	rows, err := s.pool.Query(ctx, query, args...)
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, func(row pgx.CollectableRow) (a adminRow, err error) {
		var at time.Time
		err = row.Scan(&a.ID, &at, &a.Actor, &a.Kind, &a.Detail)
		a.At = argus.JSONTime(at)
		return a, err
	})
}

// sealedWriters is what the leaves below size hold of each writer.
func (s *ledgerStore) sealedWriters(ctx context.Context, size int64) (map[int64]argus.SeqRange, error) {
	sealed := map[int64]argus.SeqRange{}
	rows, err := s.pool.Query(ctx, `SELECT writer_id, min(first_seq), max(first_seq + least(leaves, $1 - first_leaf) - 1)
		FROM argus.ledger_runs WHERE kind = 1 AND first_leaf < $1 GROUP BY 1`, size)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	for rows.Next() {
		var r argus.SeqRange
		if err := rows.Scan(&r.WriterID, &r.From, &r.To); err != nil {
			return nil, err
		}
		sealed[r.WriterID] = r
	}
	return sealed, rows.Err()
}

// leafless gives the rows of audit_admin that neither have a leaf nor wait for one. After a pruning there may be such rows:
// the record of it vouches for them.
func (s *ledgerStore) leafless(ctx context.Context) ([]adminRow, error) {
	return s.admins(ctx, `SELECT id, at, actor, kind, detail::text FROM argus.audit_admin a
		WHERE NOT EXISTS (SELECT FROM argus.ledger_pending p WHERE p.kind = 4 AND p.key = int8send(a.id))
		  AND int8send(a.id) NOT IN (SELECT substring(r.keys FROM 1 + i * 8 FOR 8) FROM argus.ledger_runs r
		    CROSS JOIN LATERAL generate_series(0, r.leaves - 1) i WHERE r.kind = 4) ORDER BY id`)
}

// looseRows counts, of each kind but calls and each month, rows that neither have a leaf nor wait for one. With pruned
// leaves it counts no row of audit_admin: leafless gives these.
func (s *ledgerStore) looseRows(ctx context.Context, pruned bool) ([]looseRows, error) {
	rows, err := s.pool.Query(ctx, `
		WITH there AS (
		  SELECT 2::smallint AS kind, argus.month_of_call(audit_id) AS month, count(*) AS n FROM argus.compute_control_audit GROUP BY 2
		  UNION ALL SELECT 3, argus.month_of_call(audit_id), count(*) FROM argus.remote_support_audit GROUP BY 2
		  UNION ALL SELECT 4, argus.month_number(at), count(*) FROM argus.audit_admin WHERE NOT $1 GROUP BY 2),
		sealed AS (
		  SELECT kind, month, sum(n) AS n FROM (SELECT kind, month, leaves AS n FROM argus.ledger_runs WHERE kind > 1
		    UNION ALL SELECT kind, month, 1 FROM argus.ledger_pending) s GROUP BY 1, 2)
		SELECT t.kind, t.month, t.n - coalesce(s.n, 0) FROM there t LEFT JOIN sealed s USING (kind, month) WHERE t.n > coalesce(s.n, 0)`, pruned)
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, func(row pgx.CollectableRow) (l looseRows, err error) {
		var kind, month int16
		err = row.Scan(&kind, &month, &l.Rows)
		l.Kind, l.Month = proof.Kind(kind), proof.Month(month).String()
		return l, err
	})
}

type looseRows struct {
	Kind  proof.Kind `json:"kind"`
	Month string     `json:"month"`
	Rows  int64      `json:"rows"`
}
