package replicator

import "maps"

// batch is what is inserted between two watermarks. The decoder fills one while the one before is inserted.
type batch struct {
	tables [tableCount]*rows // nil until a relation is known
	rows   int
	bytes  int // of the messages, about what it takes in memory

	// first and last are the commit positions of the first and last transaction with a row in here.
	first, last lsn
	// end: everything that committed before it is in this batch or was durable before. It stays behind the
	// rows while the last transaction goes on in the next batch.
	end     lsn
	writers map[int64]int64    // greatest seq of each writer in here
	days    map[int32]struct{} // of the audit log's rows, counted from 1970
	lastDay int32
	lastTo  int64 // the writer and seq not yet in writers: rows of one writer come in runs
	lastSeq int64

	altered                   int   // rows whose row_hash is not that of their columns
	alteredWriter, alteredSeq int64 // the first of them
}

func newBatch() *batch {
	return &batch{writers: map[int64]int64{}, days: map[int32]struct{}{}, lastDay: -1 << 31}
}

func (b *batch) reset() {
	for _, r := range b.tables {
		if r != nil {
			r.reset()
		}
	}
	clear(b.writers)
	clear(b.days)
	*b = batch{tables: b.tables, writers: b.writers, days: b.days, lastDay: -1 << 31}
}

// seqs returns the greatest seq of each writer.
func (b *batch) seqs() map[int64]int64 {
	b.settle()
	return b.writers
}

func (b *batch) settle() {
	if b.lastTo != 0 {
		b.writers[b.lastTo] = max(b.writers[b.lastTo], b.lastSeq)
	}
}

// merge takes the days of another batch.
func (b *batch) daysInto(days map[int32]struct{}) { maps.Copy(days, b.days) }

// rowReader turns tuples into rows of a batch. Both the stream and the first copy read through it.
type rowReader struct {
	values [][]byte
	text   []bool
	hash   hasher
}

// insert adds a row of the stream.
func (rr *rowReader) insert(b *batch, t int, tup tuple, commit lsn, size int) error {
	n := tup.left
	if err := rr.size(n); err != nil {
		return err
	}
	for i := range n {
		kind, v, err := tup.next()
		if err != nil {
			return err
		}
		rr.values[i], rr.text[i] = v, kind == valueText
	}
	if b.rows == 0 {
		b.first = commit
	}
	b.last = commit
	return rr.add(b, t, size)
}

// copied adds a row of a binary COPY: a count of values, then each preceded by its length, −1 for null.
func (rr *rowReader) copied(b *batch, t int, row []byte) error {
	c := cursor{b: row}
	n := int(c.u16())
	if err := rr.size(n); err != nil {
		return err
	}
	for i := range n {
		rr.text[i], rr.values[i] = false, nil
		if size := int32(c.u32()); size >= 0 {
			v := c.take(int(size))
			if v == nil {
				v = zeros[:0]
			}
			rr.values[i] = v
		}
	}
	if c.bad {
		return errMalformed
	}
	return rr.add(b, t, len(row))
}

func (rr *rowReader) size(n int) error {
	if n > 1600 { // the most columns a Postgres table has
		return errMalformed
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
	if writer != b.lastTo {
		b.settle()
		b.lastTo, b.lastSeq = writer, seq
	} else {
		b.lastSeq = max(b.lastSeq, seq)
	}
	if day := r.day(rr.values); day != b.lastDay {
		b.days[day] = struct{}{}
		b.lastDay = day
	}
	if r.layout.audited > 0 {
		params, ok := r.columns[canonParams].(*mapColumn)
		if ok && !rr.hash.intact(rr.values, params.entries) {
			if b.altered == 0 {
				b.alteredWriter, b.alteredSeq = writer, seq
			}
			b.altered++
		}
	}
	return nil
}
