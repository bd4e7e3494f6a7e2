package ship

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"net/url"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/useargus/argus"
	"github.com/useargus/argus/pgread"
	"github.com/useargus/argus/ship/format"
	"github.com/useargus/argus/ship/sink"
)

// built is a batch in memory, and the positions that it lies between.
type built struct {
	batch    *sink.Batch
	position argus.Position // before it: what it holds begins here
	from, to argus.Position // the rows that were looked at for it
	keys     []rowKey       // of each row
	ends     []int          // of each row's line
	tips     []tip          // what was read for it
	full     bool           // more rows are there already
}

// tip is the last row of a writer that was read. A tip without a seq is the newest writer.
type tip struct {
	writer, seq int64
	at          time.Time
	hash        [32]byte
}

type rowKey struct{ writer, seq int64 }

// limits of a batch. A batch has one row at least.
type limits struct {
	rows  int
	bytes int
}

// maxLook is how many rows a filter looks at in one statement.
const maxLook = 20_000

// missingError: Postgres does not have rows that a writer's seq says are there.
type missingError struct {
	pgread.Range
	first bool // they are the next rows of the writer
}

func (e *missingError) Error() string {
	return fmt.Sprintf("Postgres has no rows %d to %d of writer %d", e.Lo+1, e.Hi, e.Writer)
}

// next builds the batch after the state, of what a snapshot of Postgres shows. It has no row when there is none that the
// filter lets pass; its position to may have moved even so.
func (s *stream) next(ctx context.Context, st *state, lim limits) (b *built, err error) {
	position, looked := st.position.Clone(), st.looked.Clone()
	var newest []tip
	// One snapshot for the writers and their rows: behind a balancer two statements may reach two standbys.
	err = pgx.BeginTxFunc(ctx, s.r.ship.rows, pgx.TxOptions{IsoLevel: pgx.RepeatableRead, AccessMode: pgx.ReadOnly}, func(tx pgx.Tx) error {
		var tail pgread.Ranges
		if st.until != nil {
			tail = between(looked, *st.until)
		} else {
			c, err := pgread.ReadCut(ctx, tx, looked, nil)
			if err != nil {
				return err
			}
			before := position.ClosedThrough
			settle(&position, &looked, c)
			if position.ClosedThrough > before {
				newest = []tip{{writer: position.ClosedThrough}}
			}
			tail = c.Tail
			slices.SortFunc(tail, func(a, b pgread.Range) int { return cmp.Compare(a.Writer, b.Writer) }) // as again reads them
		}
		look := int64(lim.rows)
		if s.r.filter != "" {
			look = max(look, maxLook)
		}
		b, err = s.collect(ctx, tx, reading{position: position, from: looked, ranges: share(tail, look), filter: s.r.declaration.Parsed(), query: s.r.filter,
			format: s.r.format, formatName: s.r.declaration.Format, limits: lim, streamSeq: st.streamSeq})
		if b != nil {
			b.full, b.tips = b.full || tail.Rows() > look, append(b.tips, newest...)
		}
		return err
	})
	if err != nil {
		return nil, err
	}
	s.seal(st, b)
	return b, nil
}

// again builds the pending batch from the log: the same rows in the same order.
func (s *stream) again(ctx context.Context, st *state) (*built, error) {
	p := st.pending
	from, err := argus.ParsePosition(p.From)
	if err != nil {
		return nil, err
	}
	to, err := argus.ParsePosition(p.To)
	if err != nil {
		return nil, err
	}
	query, err := url.ParseQuery(p.Filter)
	if err != nil {
		return nil, err
	}
	filter, err := argus.ParseFilter(query, time.Now())
	if err != nil {
		return nil, err
	}
	f, err := format.Named(p.Format)
	if err != nil {
		return nil, err
	}
	b, err := s.collect(ctx, s.r.ship.rows, reading{position: st.position, from: from, ranges: between(from, to), filter: filter, query: p.Filter,
		format: f, formatName: p.Format, streamSeq: st.streamSeq, limits: limits{1 << 30, 1 << 30}, exact: true})
	if err != nil {
		return nil, err
	}
	b.to = to
	if s.r.ship.config.ReadURL != s.r.ship.config.PostgresURL {
		if err := confirm(ctx, s.r.ship.primary, b.tips); err != nil {
			return nil, err
		}
	}
	s.seal(st, b)
	if b.batch.Batch != p.Batch {
		return nil, fmt.Errorf("the pending batch %s is %s when it is built again", p.Batch, b.batch.Batch)
	}
	return b, nil
}

// reading is what collect reads.
type reading struct {
	position, from argus.Position
	ranges         pgread.Ranges
	filter         argus.Filter
	query          string // the filter's
	format         sink.Format
	formatName     string
	limits         limits
	streamSeq      int64
	exact          bool // the whole of ranges, or an error
}

// collect reads the rows of the ranges, which are ascending by writer. It ends a writer's rows before a gap. A gap before
// the writer's next row is a missingError.
func (s *stream) collect(ctx context.Context, db pgread.Querier, in reading) (*built, error) {
	b := &built{position: in.position, from: in.from, to: in.from.Clone(), batch: &sink.Batch{Lines: s.buffer()}}
	b.batch.Format, b.batch.Filter = in.formatName, in.query
	if b.to.Writers == nil {
		b.to.Writers = map[int64]int64{}
	}
	if len(in.ranges) == 0 {
		return b, nil
	}
	var args []any
	add := func(v any) string {
		args = append(args, v)
		return fmt.Sprintf("$%d", len(args))
	}
	rows, err := db.Query(ctx, "SELECT "+pgread.Columns+in.ranges.InOrder(add, pgread.Columns), args...)
	if err != nil {
		return nil, fmt.Errorf("reading rows: %w", err)
	}
	defer rows.Close()
	var missing *missingError
	gap := func(r pgread.Range) {
		if first := r.Lo == in.from.Through(r.Writer); missing == nil || first && !missing.first {
			missing = &missingError{r, first}
		}
	}
	var scanner pgread.Scanner
	var one argus.Record
	at, next := 0, in.ranges[0].Lo+1 // the row that must come
	whole := true
	done := func(through int) { // the ranges before through have no more rows
		for ; at < through; at++ {
			if r := in.ranges[at]; next <= r.Hi {
				gap(pgread.Range{Writer: r.Writer, Lo: next - 1, Hi: r.Hi})
			}
			if at+1 < len(in.ranges) {
				next = in.ranges[at+1].Lo + 1
			}
		}
	}
	skip := int64(-1) // a writer whose rows ended at a gap
	for rows.Next() {
		r := &one
		if s.r.records {
			r = new(argus.Record)
		}
		if err := scanner.Scan(rows, r); err != nil {
			return nil, fmt.Errorf("reading rows: %w", err)
		}
		if r.WriterID == skip {
			continue
		}
		for at < len(in.ranges) && in.ranges[at].Writer != r.WriterID {
			done(at + 1)
		}
		if at == len(in.ranges) || r.Seq < next {
			return nil, fmt.Errorf("row %d of writer %d came out of order, or twice", r.Seq, r.WriterID)
		}
		if r.Seq > next {
			gap(pgread.Range{Writer: r.WriterID, Lo: next - 1, Hi: r.Seq - 1})
			skip = r.WriterID
			at++
			if at < len(in.ranges) {
				next = in.ranges[at].Lo + 1
			}
			continue
		}
		if pass := in.filter.Match(r); pass {
			n := len(b.batch.Rows)
			if n > 0 && (n >= in.limits.rows || len(b.batch.Lines) >= in.limits.bytes) {
				b.full, whole = true, false
				break
			}
			s.append(b, r, in)
		}
		next = r.Seq + 1
		b.to.Writers[r.WriterID] = r.Seq
		if n := len(b.tips); n == 0 || b.tips[n-1].writer != r.WriterID {
			b.tips = append(b.tips, tip{})
		}
		b.tips[len(b.tips)-1] = tip{r.WriterID, r.Seq, r.OccurredAt, r.RowHash}
	}
	rows.Close()
	if err := rows.Err(); err != nil {
		return nil, fmt.Errorf("reading rows: %w", err)
	}
	if whole {
		done(len(in.ranges))
	}
	if missing != nil && (in.exact || missing.first || len(b.batch.Rows) == 0) {
		return nil, missing
	}
	return b, nil
}

// append writes the row.
func (s *stream) append(b *built, r *argus.Record, in reading) {
	if len(b.batch.Rows) == 0 {
		b.batch.First = r.RecordedAt
	}
	b.batch.Last = r.RecordedAt
	row := sink.Row{}
	if len(in.filter.Conditions) > 0 {
		row.StreamSeq = in.streamSeq + int64(len(b.batch.Rows)) + 1
	}
	b.batch.Lines = in.format.Append(b.batch.Lines, r, row.StreamSeq)
	b.batch.Lines = append(b.batch.Lines, '\n')
	if s.r.records {
		row.Record = r
	}
	b.batch.Rows = append(b.batch.Rows, row)
	b.keys = append(b.keys, rowKey{r.WriterID, r.Seq})
	b.ends = append(b.ends, len(b.batch.Lines))
}

// seal names the batch and fills its manifest. All of it follows from the rows and from what was acknowledged before, so a
// batch that is built again has the same name.
func (s *stream) seal(st *state, b *built) {
	m := &b.batch.Manifest
	if len(b.batch.Rows) == 0 {
		return
	}
	start := 0
	for i, end := range b.ends {
		b.batch.Rows[i].Line = b.batch.Lines[start : end-1 : end-1]
		start = end
	}
	m.Sink, m.Previous, m.Rows, m.Position = s.r.declaration.Name, st.batch, int64(len(b.batch.Rows)), b.to.String()
	m.Ranges = nil
	digest := sha256.New()
	var word [8]byte
	for _, r := range between(b.position, b.to) {
		m.Ranges = append(m.Ranges, argus.ManifestRange{WriterID: r.Writer, From: r.Lo + 1, To: r.Hi})
		for _, n := range []int64{r.Writer, r.Lo + 1, r.Hi} {
			binary.BigEndian.PutUint64(word[:], uint64(n))
			digest.Write(word[:])
		}
	}
	m.Stream = argus.ManifestStream{From: st.streamSeq + 1, To: st.streamSeq + m.Rows}
	m.Batch = fmt.Sprintf("%s%012d-%x", s.prefix(), st.number+1, digest.Sum(nil)[:8])
	sum := sha256.Sum256(b.batch.Lines)
	m.SHA256 = hex.EncodeToString(sum[:])
}

// half is the first n rows of the batch, as a batch of its own.
func (s *stream) half(st *state, b *built, n int) *built {
	h := &built{position: b.position, from: b.from, to: b.from.Clone(), keys: b.keys[:n], ends: b.ends[:n], full: true}
	h.batch = &sink.Batch{Rows: b.batch.Rows[:n], Lines: b.batch.Lines[:b.ends[n-1]], First: b.batch.First, Last: b.batch.Last}
	h.batch.Format, h.batch.Filter = b.batch.Format, b.batch.Filter
	for _, k := range h.keys {
		h.to.Writers[k.writer] = k.seq
	}
	s.seal(st, h)
	return h
}

func (s *stream) prefix() string {
	if s.name == "" {
		return ""
	}
	return s.name + "-"
}
