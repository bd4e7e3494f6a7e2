package argus

import (
	"cmp"
	"fmt"
	"maps"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"
)

// RowKey is a row's place in the order of the log.
type RowKey struct {
	OccurredAt    time.Time
	WriterID, Seq int64
}

// Key is the row's place in the order of the log.
func (r *Record) Key() RowKey { return RowKey{r.OccurredAt, r.WriterID, r.Seq} }

// Compare orders keys as the log is.
func (k RowKey) Compare(o RowKey) int {
	return cmp.Or(k.OccurredAt.Compare(o.OccurredAt), cmp.Compare(k.WriterID, o.WriterID), cmp.Compare(k.Seq, o.Seq))
}

// String gives the key as "<occurred_at>/<writer_id>/<seq>", the time in TimeFormat.
func (k RowKey) String() string {
	return fmt.Sprintf("%s/%d/%d", k.OccurredAt.UTC().Format(TimeFormat), k.WriterID, k.Seq)
}

// ParseRowKey reads what String wrote.
func ParseRowKey(s string) (RowKey, error) {
	at, rest, _ := strings.Cut(s, "/")
	writer, seq, _ := strings.Cut(rest, "/")
	t, err1 := time.Parse(TimeFormat, at)
	w, err2 := strconv.ParseInt(writer, 10, 64)
	n, err3 := strconv.ParseInt(seq, 10, 64)
	if err1 != nil || err2 != nil || err3 != nil {
		return RowKey{}, fmt.Errorf("malformed row key %q", Text(s, 80))
	}
	return RowKey{t, w, n}, nil
}

// Position is a version vector: a set of rows that is a prefix of each writer's rows. A search's snapshot, the
// replicator's watermark and a follower's place are positions.
//
// Of a writer in Writers it holds the rows up to the seq beside it. Every writer at or below ClosedThrough that
// is not in Writers is closed and held completely. Of any other writer it holds nothing. The zero value is
// empty.
type Position struct {
	ClosedThrough int64
	Writers       map[int64]int64
}

// Contains reports whether the row (writerID, seq) is in p.
func (p Position) Contains(writerID, seq int64) bool {
	if through, ok := p.Writers[writerID]; ok {
		return seq <= through
	}
	return writerID <= p.ClosedThrough
}

// Through is the greatest seq of the writer up to which p holds all rows. It is math.MaxInt64 when p holds the writer
// completely, and 0 when p holds none of it.
func (p Position) Through(writerID int64) int64 {
	if seq, ok := p.Writers[writerID]; ok {
		return seq
	}
	if writerID <= p.ClosedThrough {
		return math.MaxInt64
	}
	return 0
}

// Covers reports whether every row of q is in p.
func (p Position) Covers(q Position) bool {
	listed := int64(0) // of the writers that q may hold completely and p does not
	for w, seq := range q.Writers {
		if p.Through(w) < seq {
			return false
		}
		if w > p.ClosedThrough && w <= q.ClosedThrough {
			listed++
		}
	}
	if q.ClosedThrough-p.ClosedThrough > listed {
		return false
	}
	for w := range p.Writers { // p ends somewhere within w; so must q
		if _, listed := q.Writers[w]; !listed && w <= q.ClosedThrough {
			return false
		}
	}
	return true
}

// Union holds the rows of both. It shares nothing with them.
func (p Position) Union(q Position) Position {
	u := Position{ClosedThrough: max(p.ClosedThrough, q.ClosedThrough), Writers: maps.Clone(p.Writers)}
	if u.Writers == nil {
		u.Writers = map[int64]int64{}
	}
	maps.Copy(u.Writers, q.Writers)
	for w := range u.Writers {
		seq := max(p.Through(w), q.Through(w))
		if seq == math.MaxInt64 { // complete in one of them
			delete(u.Writers, w)
			continue
		}
		u.Writers[w] = seq
	}
	return u
}

// OfShards is what servers hold together among which the writers are shared out. Each position lists the server's own writers
// that are not complete, and says of the others nothing. So a writer that none lists is held by all, completely, up to where
// every position reaches.
func OfShards(shards ...Position) Position {
	u := Position{Writers: map[int64]int64{}}
	for i, p := range shards {
		if i == 0 || p.ClosedThrough < u.ClosedThrough {
			u.ClosedThrough = p.ClosedThrough
		}
		for w, seq := range p.Writers {
			u.Writers[w] = max(u.Writers[w], seq)
		}
	}
	return u
}

// Clone returns a copy that shares nothing with p.
func (p Position) Clone() Position {
	return Position{p.ClosedThrough, maps.Clone(p.Writers)}
}

// String gives p as text for people: "c<closed through>", followed by ".<writer>-<seq>" for each writer, ascending.
// Numbers are in base 36, and each writer is the distance to the one before. What clients resume by is a Place's
// token.
func (p Position) String() string {
	b := append(make([]byte, 0, 32), 'c')
	b = strconv.AppendInt(b, p.ClosedThrough, 36)
	before := int64(0)
	for _, w := range slices.Sorted(maps.Keys(p.Writers)) {
		b = append(b, '.')
		b = strconv.AppendInt(b, w-before, 36)
		b = append(b, '-')
		b = strconv.AppendInt(b, p.Writers[w], 36)
		before = w
	}
	return string(b)
}

// ParsePosition reads what Position.String wrote.
func ParsePosition(text string) (Position, error) {
	p := Position{Writers: map[int64]int64{}}
	malformed := fmt.Errorf("malformed position %q", Text(text, 40))
	head, rest, _ := strings.Cut(text, ".")
	var err error
	if p.ClosedThrough, err = strconv.ParseInt(strings.TrimPrefix(head, "c"), 36, 64); err != nil {
		return p, malformed
	}
	before := int64(0)
	for part := range strings.SplitSeq(rest, ".") {
		if part == "" {
			continue
		}
		at := strings.LastIndexByte(part, '-')
		if at <= 0 {
			return p, malformed
		}
		distance, err1 := strconv.ParseInt(part[:at], 36, 64)
		seq, err2 := strconv.ParseInt(part[at+1:], 36, 64)
		if err1 != nil || err2 != nil {
			return p, malformed
		}
		before += distance
		p.Writers[before] = seq
	}
	if p.String() != text {
		return p, malformed
	}
	return p, nil
}

// Place is where a stream stands, and the token by which a client goes on from there. A token is opaque text that only
// a server with the same key can make, so what it names was once a position of this log.
type Place struct {
	Position
	Token string
}
