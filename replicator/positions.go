package replicator

import (
	"context"
	"maps"
	"slices"

	"github.com/jackc/pgx/v5"

	"github.com/useargus/argus"
)

func sortedWriters(p argus.Position) []int64 { return slices.Sorted(maps.Keys(p.Writers)) }

// writerState is a row of argus.audit_writers.
type writerState struct {
	id, seq int64
	closed  bool
}

// querier is a connection, a pool or a transaction.
type querier interface {
	Query(ctx context.Context, sql string, args ...any) (pgx.Rows, error)
	QueryRow(ctx context.Context, sql string, args ...any) pgx.Row
}

// readWriters returns, as of one snapshot, the greatest writer there is and the state of every writer that the
// position does not already hold as closed and complete.
func readWriters(ctx context.Context, q querier, p argus.Position) (greatest int64, states []writerState, err error) {
	rows, err := q.Query(ctx, `
		SELECT (SELECT coalesce(max(writer_id), 0) FROM argus.audit_writers), w.writer_id, w.seq, w.closed_at IS NOT NULL
		  FROM (SELECT 1) one LEFT JOIN argus.audit_writers w
		    ON w.closed_at IS NULL OR w.writer_id > $1 OR w.writer_id = ANY($2)`, p.ClosedThrough, sortedWriters(p))
	if err != nil {
		return 0, nil, err
	}
	defer rows.Close()
	for rows.Next() {
		var id, seq *int64
		var closed *bool
		if err := rows.Scan(&greatest, &id, &seq, &closed); err != nil {
			return 0, nil, err
		}
		if id != nil {
			states = append(states, writerState{*id, *seq, *closed})
		}
	}
	return greatest, states, rows.Err()
}

// tracker follows how far each writer has been copied. Postgres commits the rows of a writer in the order of
// seq, and the stream brings transactions in the order of commits, so what has arrived of a writer is always
// a prefix.
//
// It belongs to the goroutine that inserts.
type tracker struct{ position argus.Position }

// advance takes note that the rows of a batch are in ClickHouse.
func (t *tracker) advance(seqs map[int64]int64) {
	if t.position.Writers == nil {
		t.position.Writers = map[int64]int64{}
	}
	for id, seq := range seqs {
		t.position.Writers[id] = max(t.position.Writers[id], seq)
	}
}

// settle takes the state of the writers, read at any moment, into the position: a closed writer that is here
// completely is left out, every other is listed, so that all at or below the greatest are spoken for. Openers
// of writers take turns (argus.open_audit_writer), so no writer below the greatest appears later.
func (t *tracker) settle(greatest int64, states []writerState) {
	if t.position.Writers == nil {
		t.position.Writers = map[int64]int64{}
	}
	for _, s := range states {
		copied, listed := t.position.Writers[s.id]
		switch {
		case !listed && s.id <= t.position.ClosedThrough:
			// An earlier reading has shown it closed, and it was complete; this one was asked for before that.
		case s.closed && copied >= s.seq:
			delete(t.position.Writers, s.id)
		default:
			t.position.Writers[s.id] = copied
		}
	}
	t.position.ClosedThrough = max(t.position.ClosedThrough, greatest)
}

// regressed returns the writers of which the position holds more than Postgres has: Postgres has lost rows
// (it was restored to an earlier moment, or failed over to a standby that lagged).
func regressed(p argus.Position, greatest int64, states []writerState) []int64 {
	var ids []int64
	known := map[int64]bool{}
	for _, s := range states {
		known[s.id] = true
		held, listed := p.Writers[s.id]
		switch {
		case listed && held > s.seq:
			ids = append(ids, s.id)
		case !listed && s.id <= p.ClosedThrough && !s.closed:
			// It was closed and complete, and is open again.
			ids = append(ids, s.id)
		}
	}
	for id := range p.Writers {
		if !known[id] {
			ids = append(ids, id)
		}
	}
	if greatest < p.ClosedThrough {
		ids = append(ids, p.ClosedThrough)
	}
	return ids
}
