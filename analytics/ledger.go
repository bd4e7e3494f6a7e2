package analytics

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/ClickHouse/ch-go/proto"

	"github.com/useargus/argus"
)

// ledgerPart is how many rows emit gets at a time, about.
const ledgerPart = 8192

// ledgerRanges bounds the ranges of one query.
const ledgerRanges = 200

// LedgerRows calls emit with the rows of these ranges as one store has them, in any order. emit's error ends it.
func (a *Analytics) LedgerRows(ctx context.Context, req argus.LedgerRequest, emit func([]argus.Record) error) (err error) {
	source := req.Source
	defer a.metrics.observe("ledger", time.Now(), &source, &err)
	for len(req.Ranges) > 0 {
		some := req
		some.Ranges = req.Ranges[:min(len(req.Ranges), ledgerRanges)]
		req.Ranges = req.Ranges[len(some.Ranges):]
		if req.Source == argus.SourceClickHouse {
			err = a.clickhouseLedgerRows(ctx, some, emit)
		} else {
			err = a.postgresLedgerRows(ctx, some, emit)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func (a *Analytics) postgresLedgerRows(ctx context.Context, req argus.LedgerRequest, emit func([]argus.Record) error) error {
	var writers, from, to []int64
	for _, r := range req.Ranges {
		writers, from, to = append(writers, r.WriterID), append(from, r.From), append(to, r.To)
	}
	// OFFSET 0 has the planner walk the index by writer, one range after the other.
	rows, err := a.pg.slow.Query(ctx, `SELECT `+recordColumns+` FROM unnest($1::bigint[], $2::bigint[], $3::bigint[]) w (w, a, b),
		LATERAL (SELECT * FROM argus.argus_audit_log l WHERE l.writer_id = w.w AND l.seq BETWEEN w.a AND w.b
		AND l.occurred_at >= $4 AND l.occurred_at < $5 OFFSET 0) l`, writers, from, to, req.Since, req.Until)
	if err != nil {
		return postgresFailure(ctx, err)
	}
	records, err := scanRecords(rows, nil)
	if err != nil {
		return postgresFailure(ctx, err)
	}
	return emit(records)
}

func (a *Analytics) clickhouseLedgerRows(ctx context.Context, req argus.LedgerRequest, emit func([]argus.Record) error) error {
	var where strings.Builder
	for i, r := range req.Ranges {
		if i > 0 {
			where.WriteString(" OR ")
		}
		fmt.Fprintf(&where, "(writer_id = %d AND seq BETWEEN %d AND %d)", r.WriterID, r.From, r.To)
	}
	q := statement{text: fmt.Sprintf("SELECT %s FROM audit_log WHERE %s AND (%s)", recordSelect, ledgerWindow(req.Since, req.Until), where.String())}
	failure := error(nil)
	c, err := a.copies.named(req.Copy)
	if err != nil {
		return err
	}
	err = c.ch.with(ctx, func(conn *clickhouseConn) error {
		b := newRecordBlock()
		return conn.query(ctx, q, bounds{time: 60 * time.Second, memory: 1 << 30, all: true}, b.results(), func(n int) error {
			for records := b.appendTo(nil, n); len(records) > 0; {
				some := records[:min(len(records), ledgerPart)]
				records = records[len(some):]
				if failure = emit(some); failure != nil {
					return failure
				}
			}
			return nil
		})
	})
	switch {
	case failure != nil:
		return failure
	case err != nil && ctx.Err() != nil:
		return context.Cause(ctx)
	case err != nil:
		return argus.Errorf(argus.CodeUnavailable, "ClickHouse did not answer. Try again, or verify Postgres.").WithCause(err)
	}
	return nil
}

func ledgerWindow(since, until time.Time) string {
	const form = "2006-01-02 15:04:05"
	return fmt.Sprintf("occurred_at >= toDateTime64('%s', 6, 'UTC') AND occurred_at < toDateTime64('%s', 6, 'UTC')",
		since.UTC().Format(form), until.UTC().Format(form))
}

// LedgerWatermark is what a copy has whole, as its replicator published it. Rows beyond it are on their way. Without a name any
// copy that answers will do. Leaves are those of the newest checkpoint that was copied: a checkpoint is after all steps that had
// committed before it, of which the watermark says nothing.
func (a *Analytics) LedgerWatermark(ctx context.Context, name string) (argus.LedgerMark, error) {
	c, err := a.copies.named(name)
	if err != nil {
		return argus.LedgerMark{}, err
	}
	for tried := []*logCopy{}; ; {
		var wm watermark
		var leaves proto.ColInt64
		err := c.ch.with(ctx, func(conn *clickhouseConn) (err error) {
			if wm, err = c.readWatermark(ctx, conn); err != nil {
				return err
			}
			return conn.query(ctx, statement{text: "SELECT max(size) AS leaves FROM ledger_checkpoints"}, bounds{time: quickTime, memory: 64 << 20},
				proto.Results{{Name: "leaves", Data: &leaves}}, func(int) error { return nil })
		})
		switch {
		case err == nil:
			return argus.LedgerMark{Position: wm.Position, Leaves: leaves[0], Copy: c.name}, nil
		case ctx.Err() != nil:
			return argus.LedgerMark{}, context.Cause(ctx)
		}
		if tried = append(tried, c); name == "" {
			c = a.copies.next(tried...)
		}
		if name != "" || c == nil {
			return argus.LedgerMark{}, argus.Errorf(argus.CodeUnavailable, "ClickHouse did not answer. Try again, or verify Postgres.").WithCause(err)
		}
	}
}

// LedgerCounts counts each writer's rows in a store, and those outside of what sealed holds of the writer (nothing, for a
// writer that it does not name).
func (a *Analytics) LedgerCounts(ctx context.Context, req argus.LedgerRequest, sealed map[int64]argus.SeqRange) ([]argus.LedgerCount, error) {
	var counts []argus.LedgerCount
	if req.Source != argus.SourceClickHouse {
		rows, err := a.pg.slow.Query(ctx, `SELECT l.writer_id, l.rows, w.seq IS NULL OR w.seq < l.seq FROM (
			SELECT writer_id, count(*) AS rows, max(seq) AS seq FROM argus.argus_audit_log WHERE occurred_at >= $1 AND occurred_at < $2 GROUP BY 1) l
			LEFT JOIN argus.audit_writers w ON w.writer_id = l.writer_id ORDER BY 1`, req.Since, req.Until)
		if err != nil {
			return nil, postgresFailure(ctx, err)
		}
		defer rows.Close()
		for rows.Next() {
			var c argus.LedgerCount
			if err := rows.Scan(&c.WriterID, &c.Rows, &c.Unknown); err != nil {
				return nil, postgresFailure(ctx, err)
			}
			counts = append(counts, c)
		}
		if err := rows.Err(); err != nil {
			return nil, postgresFailure(ctx, err)
		}
		for i := range counts {
			c := &counts[i]
			var seq *int64
			var oldest *time.Time
			s := sealed[c.WriterID]
			if c.Rows == s.To-s.From+1 && req.Since.Unix() <= 0 {
				continue // each of its numbers is there once, or the caller has counted otherwise
			}
			if err := a.pg.slow.QueryRow(ctx, `SELECT count(*) FILTER (WHERE seq < $2), count(*) FILTER (WHERE seq > $3), min(seq), min(recorded_at)
				FROM argus.argus_audit_log WHERE writer_id = $1 AND (seq < $2 OR seq > $3) AND occurred_at >= $4 AND occurred_at < $5`,
				c.WriterID, s.From, s.To, req.Since, req.Until).Scan(&c.Below, &c.Above, &seq, &oldest); err != nil {
				return nil, postgresFailure(ctx, err)
			}
			if seq != nil && oldest != nil {
				at := argus.JSONTime(*oldest)
				c.Seq, c.Oldest = *seq, &at
			}
		}
		return counts, nil
	}
	c, err := a.copies.named(req.Copy)
	if err != nil {
		return nil, err
	}
	err = c.ch.with(ctx, func(conn *clickhouseConn) error {
		var writer, seq, oldest proto.ColInt64
		var n, below, above proto.ColUInt64
		// Few writers have rows that are not sealed, so those are asked for one by one.
		counts = nil
		if err := conn.query(ctx, statement{text: "SELECT writer_id, count() AS n FROM audit_log WHERE " + ledgerWindow(req.Since, req.Until) +
			" GROUP BY writer_id ORDER BY writer_id"}, bounds{time: 60 * time.Second, memory: 1 << 30, all: true},
			proto.Results{{Name: "writer_id", Data: &writer}, {Name: "n", Data: &n}}, func(rows int) error {
				for i := range rows {
					counts = append(counts, argus.LedgerCount{WriterID: writer[i], Rows: int64(n[i])})
				}
				return nil
			}); err != nil {
			return err
		}
		for i := range counts {
			c := &counts[i]
			s := sealed[c.WriterID]
			if c.Rows == s.To-s.From+1 && req.Since.Unix() <= 0 {
				continue
			}
			if err := conn.query(ctx, statement{text: fmt.Sprintf(`SELECT countIf(seq < %[2]d) AS below, countIf(seq > %[3]d) AS above, min(seq) AS s,
				toUnixTimestamp64Micro(min(recorded_at)) AS at FROM audit_log WHERE writer_id = %[1]d AND (seq < %[2]d OR seq > %[3]d) AND %[4]s`,
				c.WriterID, s.From, s.To, ledgerWindow(req.Since, req.Until))}, bounds{time: 60 * time.Second, memory: 1 << 30, all: true},
				proto.Results{{Name: "below", Data: &below}, {Name: "above", Data: &above}, {Name: "s", Data: &seq}, {Name: "at", Data: &oldest}},
				func(int) error {
					c.Below, c.Above, c.Seq = int64(below[0]), int64(above[0]), seq[0]
					at := argus.JSONTime(time.UnixMicro(oldest[0]))
					c.Oldest = &at
					return nil
				}); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil && ctx.Err() == nil {
		err = argus.Errorf(argus.CodeUnavailable, "ClickHouse did not answer. Try again, or verify Postgres.").WithCause(err)
	}
	return counts, err
}
