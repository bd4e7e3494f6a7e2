package replicator

import (
	"maps"

	"github.com/useargus/argus/replicator/chcolumn"
	"github.com/useargus/argus/replicator/wal"
)

// batch is what is inserted between two watermarks. The decoder fills one while the one before is inserted.
type batch struct {
	tables [tableCount]*rows // nil until a relation is known
	rows   int
	bytes  int // of the messages, about what it takes in memory

	// first and last are the commit positions of the first and last transaction with a row in here.
	first, last wal.LSN
	// end: everything that committed before it is in this batch or was durable before. It stays behind the
	// rows while the last transaction goes on in the next batch.
	end     wal.LSN
	days    map[int32]struct{} // of the audit log's rows, counted from 1970
	lastDay int32

	// runs are the rows of the audit log in the order they came; a batch of healthy writers has one for each. newest
	// is the last run of each writer, run the one that the last row went to.
	runs   []seqRun
	newest map[int64]int
	run    int

	altered                   int   // rows whose row_hash is not that of their columns
	alteredWriter, alteredSeq int64 // the first of them
}

// seqRun is rows of a writer that follow one another: the seqs first to last.
type seqRun struct{ writer, first, last int64 }

func newBatch() *batch {
	return &batch{newest: map[int64]int{}, days: map[int32]struct{}{}, lastDay: -1 << 31}
}

func (b *batch) reset() {
	for _, r := range b.tables {
		if r != nil {
			r.reset()
		}
	}
	clear(b.newest)
	clear(b.days)
	*b = batch{tables: b.tables, runs: b.runs[:0], newest: b.newest, days: b.days, lastDay: -1 << 31}
}

// follow adds a row of the audit log to the runs.
func (b *batch) follow(writer, seq int64) {
	if b.run < len(b.runs) {
		if r := &b.runs[b.run]; r.writer == writer && r.last+1 == seq {
			r.last = seq
			return
		}
	}
	if i, ok := b.newest[writer]; ok && b.runs[i].last+1 == seq {
		b.runs[i].last = seq
		b.run = i
		return
	}
	b.run = len(b.runs)
	b.newest[writer] = b.run
	b.runs = append(b.runs, seqRun{writer, seq, seq})
}

// daysInto adds the days of the batch.
func (b *batch) daysInto(days map[int32]struct{}) { maps.Copy(days, b.days) }

// rowReader turns tuples into rows of a batch. Both the stream and the first copy read through it.
type rowReader struct {
	values [][]byte
	text   []bool
	hash   chcolumn.Hasher
}

// insert adds a row of the stream.
func (rr *rowReader) insert(b *batch, t int, tup wal.Tuple, commit wal.LSN, size int) error {
	n := tup.Left
	if err := rr.size(n); err != nil {
		return err
	}
	for i := range n {
		kind, v, err := tup.Next()
		if err != nil {
			return err
		}
		rr.values[i], rr.text[i] = v, kind == wal.ValueText
	}
	if b.rows == 0 {
		b.first = commit
	}
	b.last = commit
	return rr.add(b, t, size)
}

// copied adds a row of a binary COPY: a count of values, then each preceded by its length, −1 for null.
func (rr *rowReader) copied(b *batch, t int, row []byte) error {
	c := wal.NewCursor(row)
	n := int(c.U16())
	if err := rr.size(n); err != nil {
		return err
	}
	for i := range n {
		rr.text[i], rr.values[i] = false, nil
		if size := int32(c.U32()); size >= 0 {
			v := c.Take(int(size))
			if v == nil {
				v = []byte{}
			}
			rr.values[i] = v
		}
	}
	if c.Bad {
		return wal.ErrMalformed
	}
	return rr.add(b, t, len(row))
}

func (rr *rowReader) size(n int) error {
	if n > 1600 { // the most columns a Postgres table has
		return wal.ErrMalformed
	}
	for len(rr.values) < n {
		rr.values, rr.text = append(rr.values, nil), append(rr.text, false)
	}
	rr.values, rr.text = rr.values[:n], rr.text[:n]
	return nil
}

func (rr *rowReader) add(b *batch, t int, size int) error {
	r := b.tables[t]
	if err := r.append(rr.values, rr.text); err != nil {
		return err
	}
	b.rows++
	b.bytes += size
	if t != auditTable {
		return nil
	}
	writer, seq, err := r.identity(rr.values)
	if err != nil {
		return err
	}
	b.follow(writer, seq)
	if day := r.day(rr.values); day != b.lastDay {
		b.days[day] = struct{}{}
		b.lastDay = day
	}
	if r.layout.audited > 0 {
		if !rr.hash.Intact(rr.values, r.columns) {
			if b.altered == 0 {
				b.alteredWriter, b.alteredSeq = writer, seq
			}
			b.altered++
		}
	}
	return nil
}
