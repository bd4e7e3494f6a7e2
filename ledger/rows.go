package ledger

import (
	"context"
	"encoding/binary"
	"fmt"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/useargus/argus/proof"
)

// maxRound is the most rows that a round seals.
const maxRound = 1 << 16

// span is rows of a writer that have no leaf yet: the seqs after, exclusive, to through.
type span struct{ writer, after, through int64 }

// waiting counts the rows without a leaf.
func (s *state) waiting(writers []writerState) (n int64) {
	for _, w := range writers {
		if sealed, listed := s.position.Writers[w.id]; listed || w.id > s.position.ClosedThrough {
			n += max(w.seq-sealed, 0)
		}
	}
	return n
}

// due shares the limit among the writers, so that one with a long backlog does not keep the others waiting. Spans are in
// the order of their writers.
func (s *state) due(writers []writerState, limit int64) (spans []span, backlog int64) {
	for _, w := range writers {
		sealed, listed := s.position.Writers[w.id]
		if !listed && w.id <= s.position.ClosedThrough || w.seq <= sealed {
			continue
		}
		spans = append(spans, span{w.id, sealed, w.seq})
		backlog += w.seq - sealed
	}
	if backlog <= limit {
		return spans, backlog
	}
	share := max(limit/int64(len(spans)), 1)
	left := limit
	for _, sp := range spans {
		left -= min(sp.through-sp.after, share)
	}
	kept := spans[:0]
	room := limit
	for _, sp := range spans {
		n := min(sp.through-sp.after, share)
		more := min(sp.through-sp.after-n, max(left, 0))
		left -= more
		if n = min(n+more, room); n == 0 {
			break
		}
		room -= n
		sp.through = sp.after + n
		kept = append(kept, sp)
	}
	return kept, backlog
}

// readRuns gives the runs of the spans' rows, from that leaf on. A row that is missing or there twice is an error, and
// stops the sealer: the log has a hole.
//
// The rows of a writer come in the order of its index, so nothing is sorted. (An ORDER BY inside string_agg would sort.) Rows are sought in the months around now first: a partitioned log has an index to look into for each month.
func readRuns(ctx context.Context, db Querier, spans []span, leaf int64, now time.Time) ([]proof.Run, error) {
	recent := time.Date(now.Year(), now.Month()-1, 1, 0, 0, 0, 0, time.UTC)
	runs := make([]proof.Run, 0, len(spans)+8)
	short, err := readSpans(ctx, db, spans, recent, now.AddDate(0, 0, 2))
	if err != nil {
		return nil, err
	}
	for i, sp := range spans {
		got := short[i]
		if got.n != sp.through-sp.after {
			again, err := readSpans(ctx, db, []span{sp}, time.Date(1, 1, 1, 0, 0, 0, 0, time.UTC), time.Date(200_000, 1, 1, 0, 0, 0, 0, time.UTC))
			if err != nil {
				return nil, err
			}
			got = again[0]
		}
		if err := got.whole(sp); err != nil {
			return nil, err
		}
		first := proof.MonthOf(got.earliest)
		months := func(int) proof.Month { return first }
		if first != proof.MonthOf(got.latest) {
			each, err := readMonths(ctx, db, sp)
			if err != nil {
				return nil, err
			}
			if len(each) != int(got.n) {
				return nil, fmt.Errorf("rows of writer %d changed while they were read", sp.writer)
			}
			months = func(i int) proof.Month { return each[i] }
		}
		for at := 0; at < int(got.n); {
			end := at + 1
			for end < int(got.n) && months(end) == months(at) {
				end++
			}
			run := proof.Run{Kind: proof.Call, Month: months(at), WriterID: sp.writer, FirstSeq: sp.after + 1 + int64(at),
				Digests: got.digests[at*proof.HashSize : end*proof.HashSize]}
			runs, leaf = cut(runs, run, leaf)
			at = end
		}
	}
	return runs, nil
}

// cut appends the run in pieces that are no longer than a run may be and cross no boundary.
func cut(runs []proof.Run, run proof.Run, leaf int64) ([]proof.Run, int64) {
	for n := run.Leaves(); n > 0; n = run.Leaves() {
		size := min(n, proof.MaxRunLeaves, int(proof.RunBoundary-leaf%proof.RunBoundary))
		piece := run.Slice(0, size)
		piece.FirstLeaf = leaf
		runs = append(runs, piece)
		leaf += int64(size)
		if size == n {
			break
		}
		run = run.Slice(size, n)
	}
	return runs, leaf
}

// spanRows are the rows that Postgres has of a span.
type spanRows struct {
	n                int64
	seqs, digests    []byte
	earliest, latest time.Time
}

// whole is an error when the rows are not exactly the span's.
func (g *spanRows) whole(sp span) error {
	if g.n == sp.through-sp.after && len(g.digests) == int(g.n)*proof.HashSize && len(g.seqs) == 8*int(g.n) {
		want := sp.after
		for seq := range slices.Chunk(g.seqs, 8) {
			if want++; int64(binary.BigEndian.Uint64(seq)) != want {
				return fmt.Errorf("the log has no row %d of writer %d, or another twice", want, sp.writer)
			}
		}
		return nil
	}
	return fmt.Errorf("the log has %d rows of writer %d between %d and %d: a hole", g.n, sp.writer, sp.after+1, sp.through)
}

func readSpans(ctx context.Context, db Querier, spans []span, from, to time.Time) ([]spanRows, error) {
	writers, after, through := make([]int64, len(spans)), make([]int64, len(spans)), make([]int64, len(spans))
	for i, sp := range spans {
		writers[i], after[i], through[i] = sp.writer, sp.after, sp.through
	}
	all := make([]spanRows, len(spans))
	if len(spans) == 0 {
		return all, nil
	}
	rows, err := db.Query(ctx, `
		SELECT w.i, d.n, d.seqs, d.digests, d.earliest, d.latest
		  FROM unnest($1::bigint[], $2::bigint[], $3::bigint[]) WITH ORDINALITY w (writer, after, through, i)
		 CROSS JOIN LATERAL (
		   SELECT count(*) AS n, string_agg(int8send(s.seq), ''::bytea) AS seqs, string_agg(s.row_hash, ''::bytea) AS digests,
		          min(s.occurred_at) AS earliest, max(s.occurred_at) AS latest
		     FROM (SELECT l.seq, l.row_hash, l.occurred_at FROM argus.argus_audit_log l
		            WHERE l.writer_id = w.writer AND l.seq > w.after AND l.seq <= w.through AND l.occurred_at >= $4 AND l.occurred_at < $5
		            ORDER BY l.seq) s) d`, writers, after, through, from, to)
	if err != nil {
		return nil, fmt.Errorf("reading hashes: %w", err)
	}
	defer rows.Close()
	for rows.Next() {
		var i int64
		var g spanRows
		var earliest, latest *time.Time
		if err := rows.Scan(&i, &g.n, &g.seqs, &g.digests, &earliest, &latest); err != nil {
			return nil, fmt.Errorf("reading hashes: %w", err)
		}
		if g.n > 0 {
			g.earliest, g.latest = *earliest, *latest
		}
		all[i-1] = g
	}
	if err := rows.Err(); err != nil {
		return nil, fmt.Errorf("reading hashes: %w", err)
	}
	return all, nil
}

// readMonths gives the month of each row: a span that crosses into another one.
func readMonths(ctx context.Context, db Querier, sp span) ([]proof.Month, error) {
	rows, err := db.Query(ctx, "SELECT occurred_at FROM argus.argus_audit_log WHERE writer_id = $1 AND seq > $2 AND seq <= $3 ORDER BY seq",
		sp.writer, sp.after, sp.through)
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, func(row pgx.CollectableRow) (proof.Month, error) {
		var at time.Time
		err := row.Scan(&at)
		return proof.MonthOf(at), err
	})
}

// takePending removes at most limit rows from what waits and gives them as runs from that leaf on, in the order of kind and
// key. It counts in the caller's transaction.
func takePending(ctx context.Context, db Querier, limit int, leaf int64) (runs []proof.Run, n int, err error) {
	rows, err := db.Query(ctx, "SELECT kind, key, month, digest FROM argus.take_ledger_pending($1)", limit)
	if err != nil {
		return nil, 0, fmt.Errorf("taking what waits: %w", err)
	}
	type waiting struct {
		Kind, Month int16
		Key, Digest []byte
	}
	all, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (w waiting, err error) {
		return w, row.Scan(&w.Kind, &w.Key, &w.Month, &w.Digest)
	})
	if err != nil {
		return nil, 0, fmt.Errorf("taking what waits: %w", err)
	}
	slices.SortFunc(all, func(a, b waiting) int {
		if a.Kind != b.Kind {
			return int(a.Kind) - int(b.Kind)
		}
		return slices.Compare(a.Key, b.Key)
	})
	for i := 0; i < len(all); {
		run := proof.Run{Kind: proof.Kind(all[i].Kind), Month: proof.Month(all[i].Month)}
		for ; i < len(all) && proof.Kind(all[i].Kind) == run.Kind && proof.Month(all[i].Month) == run.Month; i++ {
			run.Keys, run.Digests = append(run.Keys, all[i].Key...), append(run.Digests, all[i].Digest...)
		}
		if !run.Kind.Valid() || len(run.Keys) != run.Leaves()*run.Kind.KeySize() {
			return nil, 0, fmt.Errorf("what waits has %d bytes of keys of %s", len(run.Keys), run.Kind)
		}
		runs, leaf = cut(runs, run, leaf)
	}
	return runs, len(all), nil
}
