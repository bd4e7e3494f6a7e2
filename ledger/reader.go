package ledger

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/useargus/argus/proof"
)

// Querier is a connection, a pool or a transaction on Postgres.
type Querier interface {
	Query(ctx context.Context, sql string, args ...any) (pgx.Rows, error)
	QueryRow(ctx context.Context, sql string, args ...any) pgx.Row
}

// ErrNone: there is no such leaf, run, tile or checkpoint.
var ErrNone = errors.New("the ledger has none")

// Checkpoint is a row of argus.ledger_checkpoints.
type Checkpoint struct {
	proof.Checkpoint        // Origin is that of the note
	Note             string // as it is served, without cosignatures
	Position         string // an argus.Position, for people
	SealedAt         time.Time
}

// Reader reads the ledger out of Postgres, as any role that may select it. It may be used by several goroutines, as far as
// what it reads from may.
type Reader struct {
	db    Querier
	tiler proof.Tiler
}

// NewReader reads from db.
func NewReader(db Querier) *Reader { return &Reader{db: db} }

const checkpointColumns = "SELECT size, root, note, position, sealed_at FROM argus.ledger_checkpoints "

func (r *Reader) checkpoint(ctx context.Context, where string, args ...any) (c Checkpoint, err error) {
	var root []byte
	err = r.db.QueryRow(ctx, checkpointColumns+where, args...).Scan(&c.Size, &root, &c.Note, &c.Position, &c.SealedAt)
	if errors.Is(err, pgx.ErrNoRows) {
		return c, ErrNone
	}
	if err != nil {
		return c, fmt.Errorf("reading a checkpoint: %w", err)
	}
	signed, err := proof.CheckpointOf([]byte(c.Note))
	if err != nil || signed.Size != c.Size || string(signed.Root[:]) != string(root) {
		return c, fmt.Errorf("%w: the note of checkpoint %d says another size or root", proof.ErrDisproved, c.Size)
	}
	c.Checkpoint = signed
	return c, nil
}

// Newest is the greatest checkpoint, or ErrNone.
func (r *Reader) Newest(ctx context.Context) (Checkpoint, error) {
	return r.checkpoint(ctx, "ORDER BY size DESC LIMIT 1")
}

// Covering is the smallest checkpoint that holds the leaf, or ErrNone while none does.
func (r *Reader) Covering(ctx context.Context, leaf int64) (Checkpoint, error) {
	return r.checkpoint(ctx, "WHERE size > $1 ORDER BY size LIMIT 1", leaf)
}

// At is the checkpoint of that size, or ErrNone.
func (r *Reader) At(ctx context.Context, size int64) (Checkpoint, error) {
	return r.checkpoint(ctx, "WHERE size = $1", size)
}

// Cosigned is the newest checkpoint that has a cosignature and was sealed at most that long before the newest, or ErrNone.
func (r *Reader) Cosigned(ctx context.Context, within time.Duration) (Checkpoint, error) {
	return r.checkpoint(ctx, `c WHERE sealed_at > (SELECT max(sealed_at) FROM argus.ledger_checkpoints) - $1::interval
		AND EXISTS (SELECT FROM argus.ledger_cosignatures s WHERE s.size = c.size) ORDER BY size DESC LIMIT 1`, within)
}

// Cosignatures are the first 64 lines that witnesses and further keys added to the checkpoint of that size, in the order they came.
func (r *Reader) Cosignatures(ctx context.Context, size int64) ([]string, error) {
	rows, err := r.db.Query(ctx, "SELECT line FROM argus.ledger_cosignatures WHERE size = $1 ORDER BY at, key LIMIT 64", size)
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, pgx.RowTo[string])
}

// Size is the number of leaves, signed or not.
func (r *Reader) Size(ctx context.Context) (size int64, err error) {
	err = r.db.QueryRow(ctx, "SELECT coalesce((SELECT first_leaf + leaves FROM argus.ledger_runs ORDER BY first_leaf DESC LIMIT 1), 0)").Scan(&size)
	return size, err
}

// CallLeaf is the leaf of the call's row (writer, seq), or ErrNone while it has none.
func (r *Reader) CallLeaf(ctx context.Context, writer, seq int64) (leaf int64, err error) {
	err = r.db.QueryRow(ctx, `SELECT first_leaf + $2 - first_seq FROM (SELECT first_leaf, first_seq, leaves FROM argus.ledger_runs
		WHERE kind = 1 AND writer_id = $1 AND first_seq <= $2 ORDER BY first_seq DESC LIMIT 1) r WHERE first_seq + leaves > $2`, writer, seq).Scan(&leaf)
	if errors.Is(err, pgx.ErrNoRows) {
		err = ErrNone
	}
	return leaf, err
}

// KeyedLeaf is the leaf of the entry, which is of a kind other than call, or ErrNone. It looks through the runs of the
// entry's month.
func (r *Reader) KeyedLeaf(ctx context.Context, e proof.Entry) (leaf int64, err error) {
	key := e.AppendKey(nil)
	rows, err := r.db.Query(ctx, "SELECT first_leaf, keys FROM argus.ledger_runs WHERE kind = $1 AND month = $2 AND position($3::bytea IN keys) > 0",
		int16(e.Kind), int16(e.Month), key)
	if err != nil {
		return 0, err
	}
	defer rows.Close()
	for rows.Next() {
		var keys []byte
		if err := rows.Scan(&leaf, &keys); err != nil {
			return 0, err
		}
		for i := 0; i+len(key) <= len(keys); i += len(key) {
			if string(keys[i:i+len(key)]) == string(key) {
				return leaf + int64(i/len(key)), nil
			}
		}
	}
	if err := rows.Err(); err != nil {
		return 0, err
	}
	return 0, ErrNone
}

// StepLeaf is KeyedLeaf of a step.
func (r *Reader) StepLeaf(ctx context.Context, kind proof.Kind, id uuid.UUID, step int16) (int64, error) {
	return r.KeyedLeaf(ctx, proof.Entry{Kind: kind, Month: proof.MonthOfUUID(id), AuditID: id, Step: step})
}

// Runs calls f with the runs of the leaves [from, to) in order, the first and the last cut to that range. What f gets is
// its own. A leaf that is missing is an error.
func (r *Reader) Runs(ctx context.Context, from, to int64, f func(proof.Run) error) error {
	next := from
	rows, err := r.db.Query(ctx, `
		SELECT first_leaf, kind, month, coalesce(writer_id, 0), coalesce(first_seq, 0), a,
		       substring(keys FROM 1 + a * k FOR (b - a) * k), substring(digests FROM 1 + a * 32 FOR (b - a) * 32)
		  FROM (SELECT *, CASE kind WHEN 4 THEN 8 ELSE 18 END AS k,
		               greatest(0, $1 - first_leaf)::int AS a, least(leaves, $2 - first_leaf)::int AS b
		          FROM argus.ledger_runs WHERE first_leaf > $1 - 8192 AND first_leaf < $2 AND first_leaf + leaves > $1) r
		 ORDER BY first_leaf`, from, to)
	if err != nil {
		return fmt.Errorf("reading runs: %w", err)
	}
	defer rows.Close()
	for rows.Next() {
		var run proof.Run
		var kind, month int16
		var cut int64
		if err := rows.Scan(&run.FirstLeaf, &kind, &month, &run.WriterID, &run.FirstSeq, &cut, &run.Keys, &run.Digests); err != nil {
			return fmt.Errorf("reading runs: %w", err)
		}
		run.Kind, run.Month = proof.Kind(kind), proof.Month(month)
		run.FirstLeaf += cut
		if run.Kind == proof.Call {
			run.FirstSeq += cut
		}
		if err := run.Check(); err != nil {
			return err
		}
		if run.FirstLeaf != next {
			return fmt.Errorf("%w: the run at leaf %d does not follow leaf %d", proof.ErrDisproved, run.FirstLeaf, next-1)
		}
		next += int64(run.Leaves())
		if err := f(run); err != nil {
			return err
		}
	}
	if err := rows.Err(); err != nil {
		return fmt.Errorf("reading runs: %w", err)
	}
	if next < to {
		return fmt.Errorf("%w: leaves %d to %d", ErrNone, next, to-1)
	}
	return nil
}

// Tile is any tile or bundle of the tree. A tree of fewer leaves than it needs has none, which is ErrNone.
func (r *Reader) Tile(ctx context.Context, t proof.Tile) ([]byte, error) {
	return r.tiler.Tile(tileStore{ctx, r}, t)
}

// TileReader is Tile for the functions of package proof.
func (r *Reader) TileReader(ctx context.Context) proof.ReadTile {
	return func(t proof.Tile) ([]byte, error) { return r.Tile(ctx, t) }
}

// tileStore is where tiles are derived from within one question.
type tileStore struct {
	ctx context.Context
	r   *Reader
}

func (s tileStore) Runs(from, to int64) (runs []proof.Run, err error) {
	err = s.r.Runs(s.ctx, from, to, func(run proof.Run) error {
		runs = append(runs, run)
		return nil
	})
	return runs, err
}

func (s tileStore) FullTile(level int, n int64) (hashes []byte, err error) {
	err = s.r.db.QueryRow(s.ctx, "SELECT hashes FROM argus.ledger_tiles WHERE level = $1 AND n = $2", level, n).Scan(&hashes)
	if errors.Is(err, pgx.ErrNoRows) {
		err = fmt.Errorf("%w: tile %d of level %d", ErrNone, n, level)
	}
	return hashes, err
}
