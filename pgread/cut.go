package pgread

import (
	"context"
	"maps"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/useargus/argus"
)

// Querier is a connection, a pool or a transaction.
type Querier interface {
	Query(ctx context.Context, sql string, args ...any) (pgx.Rows, error)
}

// Cut is the snapshot an answer is of, and the part of it that a position lacks.
type Cut struct {
	Snapshot argus.Position
	Tail     Ranges    // rows of the snapshot beyond the position
	At       time.Time // of Postgres's clock, when it was read

	Newest int64           // the greatest writer_id
	Seqs   map[int64]int64 // of the writers that the position names, lacks, or that are open: how far each has come
	Closed map[int64]bool  // which of them are closed
}

// ReadCut reads it in one statement. Without a snapshot given it takes one now: the greatest writer_id, and each open
// writer's seq. Writers' numbers are given one transaction after the other, so every lesser one is visible too. A seq moves
// in the transactions that insert its writer's rows.
//
// A writer may say less than the position, or be open although the position has it as closed and complete. Then it was
// tampered with, or Postgres was restored to an earlier moment. The writer's rows decide: an answer counts those that are
// there, and none of another history. The damage itself is for the replicator to tell.
func ReadCut(ctx context.Context, db Querier, wm argus.Position, of *argus.Position) (Cut, error) {
	ids := slices.Collect(maps.Keys(wm.Writers))
	seqs := make([]int64, len(ids))
	for i, id := range ids {
		seqs[i] = wm.Writers[id]
	}
	rows, err := db.Query(ctx, `
		SELECT clock_timestamp(), newest.writer_id, w.writer_id,
		       CASE WHEN w.seq < ($3::bigint[])[array_position($2::bigint[], w.writer_id)]
		              OR w.closed_at IS NULL AND w.writer_id <= $1 AND NOT w.writer_id = ANY($2::bigint[])
		            THEN greatest(w.seq, (SELECT max(l.seq) FROM argus.argus_audit_log l WHERE l.writer_id = w.writer_id))
		            ELSE w.seq END,
		       w.closed_at IS NULL
		  FROM (SELECT coalesce(max(writer_id), 0) AS writer_id FROM argus.audit_writers) newest
		  LEFT JOIN argus.audit_writers w
		    ON w.writer_id > $1 OR w.writer_id = ANY($2::bigint[]) OR w.closed_at IS NULL`,
		wm.ClosedThrough, ids, seqs)
	if err != nil {
		return Cut{}, err
	}
	defer rows.Close()
	c := Cut{Snapshot: argus.Position{Writers: map[int64]int64{}}, Seqs: map[int64]int64{}, Closed: map[int64]bool{}}
	if of != nil {
		c.Snapshot = *of
	}
	for rows.Next() {
		var writer, seq *int64
		var open *bool
		if err := rows.Scan(&c.At, &c.Newest, &writer, &seq, &open); err != nil {
			return Cut{}, err
		}
		if of == nil {
			c.Snapshot.ClosedThrough = c.Newest
		}
		if writer == nil {
			continue // no writer at all
		}
		c.Seqs[*writer] = *seq
		if !*open {
			c.Closed[*writer] = true
		}
		if of == nil && *open {
			c.Snapshot.Writers[*writer] = *seq
		}
		hi, listed := c.Snapshot.Writers[*writer]
		if !listed && *writer <= c.Snapshot.ClosedThrough {
			hi = *seq // closed, so it never moves again
		}
		if lo := wm.Through(*writer); hi > lo {
			c.Tail = append(c.Tail, Range{*writer, lo, hi})
		}
	}
	c.At = c.At.UTC()
	return c, rows.Err()
}
