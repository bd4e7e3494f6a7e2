package analytics

import (
	"fmt"
	"slices"
	"strings"

	"github.com/ClickHouse/ch-go/proto"

	"github.com/useargus/argus"
)

// setsStatement counts the rows of the intervals up to the watermark once for all questions. They ask for the same rows, and for no
// latencies. Each question is a grouping set. ok is false when two of them are the same set.
func setsStatement(questions []*countQuestion, raw []interval, wm argus.Position) (s countStatement, ok bool) {
	b := &setsBlock{joined: join(questions)}
	var args clickhouseArgs
	conds, ok := b.q.rawWhere(&args, raw)
	if !ok {
		return s, false
	}
	conds = append(conds, clickhouseIn(&args, wm))
	keys := b.q.keys()
	var sets []string
	for k, q := range questions {
		var set []string
		lacks := uint64(0)
		for i, key := range keys {
			by := i // among the dimensions, which stand behind the step
			if b.q.step > 0 {
				by--
			}
			lacks <<= 1
			switch {
			case key == "code", key == "step" && q.step > 0, key != "step" && slices.Contains(b.from[k], by):
				set = append(set, key)
			default:
				lacks |= 1
			}
		}
		if slices.Contains(b.sets, lacks) {
			return s, false
		}
		b.sets, sets = append(b.sets, lacks), append(sets, "("+strings.Join(set, ", ")+")")
	}
	s.block = func() countedBlock { return &setsBlock{joined: join(questions), sets: b.sets} }
	s.text = "SELECT grouping(" + strings.Join(keys, ", ") + ") AS lacks, count() AS calls, " + b.q.rawColumns(&args, "status", "") +
		" FROM audit_log WHERE " + and(conds) + " GROUP BY GROUPING SETS (" + strings.Join(sets, ", ") + ")"
	s.params = args.params
	return s, true
}

// setsBlock is of setsStatement. A row belongs to the question whose set lacks the same keys.
type setsBlock struct {
	joined
	sets         []uint64 // for each question, a bit for each key that its set lacks; the first key has the highest
	lacks, calls proto.ColUInt64
}

func (b *setsBlock) results() proto.Results {
	return append(proto.Results{{Name: "lacks", Data: &b.lacks}, {Name: "calls", Data: &b.calls}}, b.rowColumns.results()...)
}

func (b *setsBlock) each(rows int) error {
	for i := range rows {
		k := slices.Index(b.sets, b.lacks[i])
		if k < 0 {
			return fmt.Errorf("ClickHouse counted a set that it was not asked for: %b", b.lacks[i])
		}
		r := b.of(k, b.fill(i))
		r.calls = b.calls[i]
		b.questions[k].row(r)
	}
	return nil
}
