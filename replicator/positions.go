package replicator

import (
	"context"
	"maps"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/useargus/argus"
	"github.com/useargus/argus/replicator/wal"
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

// writersReading is how the writers stood at a moment.
type writersReading struct {
	greatest int64 // writer there is
	states   []writerState
	at       wal.LSN // all that the states show had committed before it
	now      time.Time
}

// readWriters returns, as of one snapshot, the greatest writer there is and the state of every writer of the share that the
// position does not already hold as closed and complete. Of writers that are another shard's a position says nothing that
// this one must have: it is complete up to the greatest.
func readWriters(ctx context.Context, q querier, of share, p argus.Position) (r writersReading, err error) {
	rows, err := q.Query(ctx, `
		SELECT pg_current_wal_insert_lsn()::text, clock_timestamp(),
		       (SELECT coalesce(max(writer_id), 0) FROM argus.audit_writers), w.writer_id, w.seq, w.closed_at IS NOT NULL
		  FROM (SELECT 1) one LEFT JOIN argus.audit_writers w
		    ON (w.closed_at IS NULL OR w.writer_id > $1 OR w.writer_id = ANY($2)) AND `+of.writers("w.writer_id"), p.ClosedThrough, sortedWriters(p))
	if err != nil {
		return r, err
	}
	defer rows.Close()
	for rows.Next() {
		var at string
		var id, seq *int64
		var closed *bool
		if err := rows.Scan(&at, &r.now, &r.greatest, &id, &seq, &closed); err != nil {
			return r, err
		}
		if r.at, err = wal.ParseLSN(at); err != nil {
			return r, err
		}
		if id != nil {
			r.states = append(r.states, writerState{*id, *seq, *closed})
		}
	}
	return r, rows.Err()
}

// tracker follows how far each writer has been copied. It takes nothing for granted: rows that do not follow on
// those before are told by irregular, rows that never came by owed.
//
// It belongs to the goroutine that inserts.
type tracker struct{ position argus.Position }

// irregular returns what does not follow on the position. Gaps are the rows that were left out before a run. Late are
// the runs, or beginnings of them, that the position holds already. Postgres commits the rows of a writer in the
// order of seq, without holes, and the stream brings transactions in the order of commits. So gaps are rows that the
// stream lacks, or Postgres itself. Rows come late when the stream repeats what is in doubt, and otherwise only when
// they were written under an old number.
func (t *tracker) irregular(runs []seqRun) (gaps, late []seqRun) {
	through := map[int64]int64{}
	for _, run := range runs {
		have, ok := through[run.writer]
		if !ok {
			have = t.position.Through(run.writer)
		}
		switch {
		case run.first <= have:
			late = append(late, seqRun{run.writer, run.first, min(run.last, have)})
		case run.first > have+1:
			gaps = append(gaps, seqRun{run.writer, have + 1, run.first - 1})
		}
		through[run.writer] = max(have, run.last)
	}
	return gaps, late
}

// advance takes note that the rows of a batch are in ClickHouse.
func (t *tracker) advance(runs []seqRun) {
	if t.position.Writers == nil {
		t.position.Writers = map[int64]int64{}
	}
	for _, run := range runs {
		if t.position.Through(run.writer) < run.last {
			t.position.Writers[run.writer] = run.last
		}
	}
}

// owed returns the rows that a reading shows and the position lacks. When everything that committed before the
// reading has been streamed there can be none, unless the stream left them out or Postgres lacks them itself.
func (t *tracker) owed(states []writerState) (gaps []seqRun) {
	for _, s := range states {
		if have := t.position.Through(s.id); have < s.seq {
			gaps = append(gaps, seqRun{s.id, have + 1, s.seq})
		}
	}
	return gaps
}

// advanceTo takes the state of the writers, read at any moment, into the position. It leaves out a closed writer that
// is here completely, and lists every other. So the position speaks for all writers at or below the greatest. Openers
// of writers take turns (argus.open_audit_writer), so no writer below the greatest appears later.
func (t *tracker) advanceTo(r writersReading) {
	if t.position.Writers == nil {
		t.position.Writers = map[int64]int64{}
	}
	for _, s := range r.states {
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
	t.position.ClosedThrough = max(t.position.ClosedThrough, r.greatest)
}

// regressed returns the writers of which the position holds more than Postgres has. Postgres has lost rows: it was
// restored to an earlier moment, or failed over to a standby that lagged.
func regressed(p argus.Position, r writersReading) []int64 {
	var ids []int64
	known := map[int64]bool{}
	for _, s := range r.states {
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
	if r.greatest < p.ClosedThrough {
		ids = append(ids, p.ClosedThrough)
	}
	return ids
}
