package analytics

import (
	"math/bits"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/ClickHouse/ch-go/proto"

	"github.com/useargus/argus"
)

// manyStatement gives each row of the intervals to all questions, which ask for the same rows and for no latencies. wm nil leaves
// out none.
func manyStatement(questions []*countQuestion, raw []interval, wm *argus.Position) (s countStatement, ok bool) {
	j := join(questions)
	step := j.q.step
	j.q.step = 0 // computed here
	var args clickhouseArgs
	conds, ok := j.q.rawWhere(&args, raw)
	columns := j.q.rowColumns(&args, "status")
	if step > 0 {
		columns = append(columns, "occurred_at")
	}
	if wm != nil {
		columns = append(columns, "writer_id", "seq")
	}
	s.block = func() countedBlock { return newManyBlock(questions, j, step, wm) }
	s.text = "SELECT " + strings.Join(columns, ", ") + " FROM audit_log WHERE " + and(conds)
	s.params = args.params
	return s, ok
}

// manyBlock is of manyStatement. ClickHouse groups nothing, and the rows are counted here by the numbers that stand for their texts:
// grouping 55 000 rows takes ClickHouse twice as long as to send them.
type manyBlock struct {
	questions []*countQuestion
	from      [][]int // where each question's dimensions are among the columns
	timed     bool    // some question has a step
	wm        *argus.Position

	by          []*proto.ColLowCardinalityRaw
	status      *proto.ColNullable[int16]
	at          proto.ColDateTime64
	writer, seq proto.ColInt64

	// Memory that is used again.
	kept    []bool   // rows up to the watermark
	groups  []uint64 // of each row
	values  []int64
	numbers []uint32
	first   []int    // of each group: one of its rows
	calls   []uint64 // of each group
}

func newManyBlock(questions []*countQuestion, j joined, step time.Duration, wm *argus.Position) *manyBlock {
	b := &manyBlock{questions: questions, from: j.from, timed: step > 0, wm: wm, status: new(proto.ColInt16).Nullable()}
	for range j.q.by {
		b.by = append(b.by, &proto.ColLowCardinalityRaw{Index: new(proto.ColStr)})
	}
	return b
}

func (b *manyBlock) results() proto.Results {
	var out proto.Results
	for i, c := range b.by {
		out = append(out, proto.ResultColumn{Name: "by" + strconv.Itoa(i), Data: c})
	}
	out = append(out, proto.ResultColumn{Name: "code", Data: b.status})
	if b.timed {
		out = append(out, proto.ResultColumn{Name: "occurred_at", Data: &b.at})
	}
	if b.wm != nil {
		out = append(out, proto.ResultColumn{Name: "writer_id", Data: &b.writer}, proto.ResultColumn{Name: "seq", Data: &b.seq})
	}
	return out
}

func (b *manyBlock) each(rows int) error {
	if rows == 0 {
		return nil
	}
	b.kept = resized(b.kept, rows)
	for i := range b.kept {
		b.kept[i] = b.wm == nil || b.wm.Contains(b.writer[i], b.seq[i])
	}
	for k := range b.questions {
		b.count(k, rows)
	}
	return nil
}

// count gives question k the rows, by group.
func (b *manyBlock) count(k, rows int) {
	q := b.questions[k]
	b.groups = resized(b.groups, rows)
	clear(b.groups)
	size := uint64(1) // groups are below
	for _, j := range b.from[k] {
		size = b.divide(size, keysOf(b.by[j]))
	}
	status := *b.status.Values.(*proto.ColInt16) // 0 when it is null
	if q.exactStatus {
		size = b.divide(size, func(i int) int64 { return int64(status[i]) })
	} else {
		size = b.divide(size, func(i int) int64 { return int64(status[i] / 100) })
	}
	length := q.step.Microseconds()
	if length > 0 {
		size = b.divide(size, func(i int) int64 { return int64(b.at.Data[i]) / length })
	}
	n := b.number(size)
	b.calls = resized(b.calls, n)
	clear(b.calls)
	for i, g := range b.groups {
		if b.kept[i] {
			b.calls[g]++
		}
	}
	r := countRow{by: make([]string, len(b.from[k]))}
	for g, i := range b.first {
		if b.calls[g] == 0 {
			continue
		}
		for d, j := range b.from[k] {
			r.by[d] = b.by[j].Index.(*proto.ColStr).Row(int(keysOf(b.by[j])(i)))
		}
		if r.status, r.calls = status[i], b.calls[g]; !q.exactStatus {
			r.status = r.status / 100 * 100
		}
		if length > 0 {
			r.step = int64(b.at.Data[i]) / length
		}
		q.row(&r)
	}
}

// maxGroups is up to how many groups are looked up by their number.
const maxGroups = 1 << 18

// divide divides the groups, numbers below size, by a value of each row.
func (b *manyBlock) divide(size uint64, value func(i int) int64) uint64 {
	b.values = resized(b.values, len(b.groups))
	least, most := value(0), value(0)
	for i := range b.values {
		v := value(i)
		b.values[i] = v
		least, most = min(least, v), max(most, v)
	}
	n := uint64(most-least) + 1
	if high, low := bits.Mul64(size, n); high > 0 || low > maxGroups {
		size = uint64(b.number(size)) // no more than there are rows
	}
	for i, v := range b.values {
		b.groups[i] = b.groups[i]*n + uint64(v-least)
	}
	return size * n
}

// number numbers the groups that have a row, from 0.
func (b *manyBlock) number(size uint64) int {
	b.first = b.first[:0]
	if size > maxGroups {
		numbers := map[uint64]uint64{}
		for i, g := range b.groups {
			n, ok := numbers[g]
			if !ok {
				n = uint64(len(b.first))
				numbers[g], b.first = n, append(b.first, i)
			}
			b.groups[i] = n
		}
		return len(b.first)
	}
	b.numbers = resized(b.numbers, int(size)) // 0: has none yet
	clear(b.numbers)
	for i, g := range b.groups {
		if b.numbers[g] == 0 {
			b.first = append(b.first, i)
			b.numbers[g] = uint32(len(b.first))
		}
		b.groups[i] = uint64(b.numbers[g] - 1)
	}
	return len(b.first)
}

// keysOf are the numbers of a column's texts.
func keysOf(c *proto.ColLowCardinalityRaw) func(i int) int64 {
	switch c.Key {
	case proto.KeyUInt8:
		return func(i int) int64 { return int64(c.Keys8[i]) }
	case proto.KeyUInt16:
		return func(i int) int64 { return int64(c.Keys16[i]) }
	case proto.KeyUInt32:
		return func(i int) int64 { return int64(c.Keys32[i]) }
	}
	return func(i int) int64 { return int64(c.Keys64[i]) }
}

// resized is a slice of the length, in the memory of the given one where it suffices.
func resized[T any](s []T, n int) []T { return slices.Grow(s[:0], n)[:n] }
