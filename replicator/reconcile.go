package replicator

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/useargus/argus"
)

// writerRows is a writer as argus.audit_writers has it, and its rows.
type writerRows struct {
	id       int64
	known    bool // argus.audit_writers has it
	ours     bool // it is of the share
	seq      int64
	closed   bool
	openedAt time.Time
	count    int64
	hi       int64  // greatest seq of its rows
	sum      uint64 // of its rows' seqs
}

// readRows counts the rows of every writer. It reads an index of the whole log: some seconds for twenty million rows.
func readRows(ctx context.Context, q querier, of share) ([]writerRows, error) {
	rows, err := q.Query(ctx, `
		SELECT coalesce(w.writer_id, l.writer_id), w.writer_id IS NOT NULL, `+of.writers("coalesce(w.writer_id, l.writer_id)")+`, coalesce(w.seq, 0), w.closed_at IS NOT NULL,
		       coalesce(w.opened_at, to_timestamp(least(l.writer_id, 253402300799000) / 1000.0)),
		       coalesce(l.n, 0), coalesce(l.hi, 0), mod(coalesce(l.total, 0), 18446744073709551616)::text
		  FROM argus.audit_writers w
		  FULL JOIN (SELECT writer_id, count(*) AS n, max(seq) AS hi, sum(seq) AS total
		               FROM argus.argus_audit_log GROUP BY writer_id) l ON l.writer_id = w.writer_id
		 ORDER BY 1`)
	if err != nil {
		return nil, fmt.Errorf("counting the rows of the writers: %w", err)
	}
	return pgx.CollectRows(rows, func(row pgx.CollectableRow) (w writerRows, err error) {
		var sum string
		if err := row.Scan(&w.id, &w.known, &w.ours, &w.seq, &w.closed, &w.openedAt, &w.count, &w.hi, &sum); err != nil {
			return w, err
		}
		_, err = fmt.Sscan(sum, &w.sum)
		return w, err
	})
}

// positionOf is all that the writers of the share and their rows say, whichever says more.
func positionOf(all []writerRows) argus.Position {
	t := tracker{argus.Position{Writers: map[int64]int64{}}}
	reading := writersReading{}
	for _, w := range all {
		reading.greatest = max(reading.greatest, w.id)
		if !w.ours {
			continue
		}
		through := max(w.seq, w.hi)
		t.position.Writers[w.id] = through
		reading.states = append(reading.states, writerState{w.id, through, w.closed || !w.known})
	}
	t.advanceTo(reading)
	return t.position
}

// retentionSlack: a row belongs to the month in which its call came, and is recorded when the call ends, or when
// another process sweeps it.
const retentionSlack = 7 * 24 * time.Hour

// reconcile holds the rows of each writer to what argus.audit_writers says of it, and the steps of each call to their
// numbers. Rows that retention has dropped are not missing.
func reconcile(ctx context.Context, q querier, all []writerRows) ([]Finding, error) {
	var now, dropped time.Time
	if err := q.QueryRow(ctx, `
		SELECT clock_timestamp(), coalesce((SELECT max(to_date(detail->>'month', 'YYYY-MM') + interval '1 month')
		         FROM argus.audit_admin WHERE kind = 'month_dropped')::timestamptz, 'epoch')`).Scan(&now, &dropped); err != nil {
		return nil, err
	}
	lost := dropped.Add(retentionSlack) // what was recorded before may have been dropped
	var found []Finding
	add := func(kind string, writer int64, format string, args ...any) {
		found = append(found, Finding{kind, writer, fmt.Sprintf(format, args...)})
	}
	var uneven []int64
	for _, w := range all {
		if !w.known {
			add(WriterMissing, w.id, "argus.audit_writers has no writer %d, and the log has %d rows of it", w.id, w.count)
		}
		if w.known && w.hi > w.seq {
			add(RowsBeyond, w.id, "argus.audit_writers says seq %d of writer %d, and the log has rows up to %d", w.seq, w.id, w.hi)
		}
		if ahead(w.id, now) {
			add(WriterAhead, w.id, "the number of writer %d lies in the future", w.id)
		}
		through := max(w.seq, w.hi)
		switch {
		case w.count == through && w.sum == triangle(through):
		case w.count == 0 && w.openedAt.Before(lost):
		default:
			uneven = append(uneven, w.id)
		}
	}
	for chunk := range slices.Chunk(uneven, 100) {
		if err := findHoles(ctx, q, chunk, lost, add); err != nil {
			return nil, fmt.Errorf("looking for holes: %w", err)
		}
		if len(found) > maxFindings {
			break
		}
	}
	err := findStepHoles(ctx, q, add)
	return found, err
}

// triangle is 1 + 2 + … + n, modulo 2^64.
func triangle(n int64) uint64 {
	a, b := uint64(n), uint64(n)+1
	if a%2 == 0 {
		a /= 2
	} else {
		b /= 2
	}
	return a * b
}

// ahead: numbers of writers come from the clock in milliseconds, and each is greater than the one before.
func ahead(writer int64, now time.Time) bool {
	return writer > now.Add(time.Hour).UnixMilli()
}

// findHoles walks the seqs of some writers in order.
func findHoles(ctx context.Context, q querier, writers []int64, lost time.Time, add func(kind string, writer int64, format string, args ...any)) error {
	rows, err := q.Query(ctx, `
		SELECT t.writer_id, t.before, t.seq, coalesce(t.before_at, w.opened_at, to_timestamp(least(t.writer_id, 253402300799000) / 1000.0))
		  FROM (SELECT l.writer_id, l.seq, lag(l.seq, 1, 0::bigint) OVER r AS before, lag(l.recorded_at) OVER r AS before_at
		          FROM argus.argus_audit_log l WHERE l.writer_id = ANY($1)
		        WINDOW r AS (PARTITION BY l.writer_id ORDER BY l.seq)
		        UNION ALL
		        SELECT w.writer_id, w.seq + 1, coalesce(e.seq, 0), e.recorded_at FROM argus.audit_writers w
		          LEFT JOIN LATERAL (SELECT l.seq, l.recorded_at FROM argus.argus_audit_log l
		                              WHERE l.writer_id = w.writer_id ORDER BY l.seq DESC LIMIT 1) e ON true
		         WHERE w.writer_id = ANY($1) AND w.seq > coalesce(e.seq, 0)) t
		  LEFT JOIN argus.audit_writers w ON w.writer_id = t.writer_id
		 WHERE t.seq <> t.before + 1 ORDER BY 1, 3 LIMIT 1000`, writers)
	if err != nil {
		return err
	}
	var writer, before, seq int64
	var at time.Time
	_, err = pgx.ForEachRow(rows, []any{&writer, &before, &seq, &at}, func() error {
		switch {
		case seq <= before:
			add(RowsDoubled, writer, "two rows have seq %d of writer %d", seq, writer)
		case at.Before(lost):
		case seq-1 == before+1:
			add(RowsMissing, writer, "the log lacks row %d of writer %d", before+1, writer)
		default:
			add(RowsMissing, writer, "the log lacks rows %d to %d of writer %d", before+1, seq-1, writer)
		}
		return nil
	})
	return err
}

// findStepHoles: the steps of a call are numbered from 1, and a call's steps leave together.
func findStepHoles(ctx context.Context, q querier, add func(kind string, writer int64, format string, args ...any)) error {
	for t := range tables {
		if t == auditTable {
			continue
		}
		rows, err := q.Query(ctx, fmt.Sprintf(`SELECT audit_id::text, count(*), max(step)::bigint FROM %s GROUP BY audit_id
			HAVING count(*) <> max(step) ORDER BY 1 LIMIT 100`, tables[t].postgres))
		if err != nil {
			return err
		}
		var id string
		var n, last int64
		if _, err := pgx.ForEachRow(rows, []any{&id, &n, &last}, func() error {
			add(StepsMissing, 0, "%s has %d of the %d steps of call %s", tables[t].postgres, n, last, id)
			return nil
		}); err != nil {
			return err
		}
	}
	return nil
}

// writerDamage holds what argus.audit_writers says now to the position that was published before.
func writerDamage(p argus.Position, r writersReading) (found []Finding) {
	known := map[int64]bool{}
	for _, s := range r.states {
		known[s.id] = true
		held, listed := p.Writers[s.id]
		switch {
		case listed && held > s.seq:
			found = append(found, Finding{RowsBeyond, s.id, fmt.Sprintf(
				"argus.audit_writers says seq %d of writer %d, and rows up to %d were copied", s.seq, s.id, held)})
		case !listed && s.id <= p.ClosedThrough && !s.closed:
			found = append(found, Finding{WriterReopened, s.id, fmt.Sprintf("writer %d was closed, and is open again", s.id)})
		}
	}
	if ahead(r.greatest, r.now) {
		found = append(found, Finding{WriterAhead, r.greatest, fmt.Sprintf("the number of writer %d lies in the future", r.greatest)})
	}
	for _, id := range sortedWriters(p) {
		if !known[id] {
			found = append(found, Finding{WriterMissing, id, fmt.Sprintf(
				"argus.audit_writers has no writer %d, of which %d rows were copied", id, p.Writers[id])})
		}
	}
	return found
}

// rowsIn tells whether Postgres has any row in the seq ranges.
func (r *Replicator) rowsIn(ctx context.Context, ranges []seqRun) (any bool, err error) {
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	var writers, from, to []int64
	for _, g := range ranges {
		writers, from, to = append(writers, g.writer), append(from, g.first), append(to, g.last)
	}
	err = r.pool.QueryRow(ctx, `SELECT EXISTS (SELECT FROM unnest($1::bigint[], $2::bigint[], $3::bigint[]) k (w, a, b)
		WHERE EXISTS (SELECT FROM argus.argus_audit_log l WHERE l.writer_id = k.w AND l.seq BETWEEN k.a AND k.b))`,
		writers, from, to).Scan(&any)
	if err != nil {
		return false, fmt.Errorf("looking for rows that the stream left out: %w", err)
	}
	return any, nil
}
