package analytics

import (
	"context"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/ClickHouse/ch-go/proto"

	"github.com/useargus/argus"
)

// tailGroups are the groups of a question that the tail has rows of. nil says that they are not known.
type tailGroups map[string]bool

// mostTailGroups are worth telling ClickHouse.
const mostTailGroups = 500

// add reports whether the group was thought to have no rows in the tail.
func (g tailGroups) add(group string) bool {
	if g == nil || g[group] {
		return false
	}
	g[group] = true
	return true
}

// group is which one of a question whose quantiles suffice the row is of.
func (q *countQuestion) group(r *countRow) string {
	if len(q.by) > 0 {
		return r.by[0]
	}
	return strconv.Itoa(int(r.status))
}

// guessTails guesses for each question which groups the tail will have rows of, by what it has now. The groups stay unknown where
// that is of no use. A tail has hardly any rows of a window that ended before the recent time.
func (a *Analytics) guessTails(ctx context.Context, on *attempt, questions []*countQuestion, used []*rollup, wm argus.Position, dirty dirtyTime, hourly float64) ([]tailGroups, error) {
	tails := make([]tailGroups, len(questions))
	var c *cut
	for i, q := range questions {
		if !q.quantiles {
			continue
		}
		if pieces, raw := a.divide(q, used[i], dirty, hourly); len(pieces) > 0 || a.rawForm(raw, hourly, true) != rawLists {
			continue
		}
		tails[i] = tailGroups{}
		if !q.window.until.IsZero() && !q.window.until.After(dirty.from) {
			continue
		}
		if c == nil {
			now, err := on.readCut(ctx, wm, nil)
			if err != nil {
				return tails, err
			}
			c = &now
		}
		if len(c.Tail) == 0 {
			continue
		}
		if err := a.eachOfTail(ctx, q, c.Tail, func(r countRow) { tails[i].add(q.group(&r)) }); err != nil {
			return tails, err
		}
		if len(tails[i]) > mostTailGroups {
			tails[i] = nil
		}
	}
	return tails, nil
}

// clickhouseQuantiles are those of quantileLevels, and the longest. quantilesExact takes the element of index ⌊level·n⌋, counted from
// 0. A level a little below q gives that of rank ⌈q·n⌉, counted from 1, for any n up to 10⁸: a q·n that is not whole lies at
// least 0.01 above a whole number.
const clickhouseQuantiles = "quantilesExact(0.4999999999, 0.9499999999, 0.9899999999, 1)(latency_us) AS quantiles"

// listText is the statement of rawLists. Of a question whose quantiles suffice it gives those, and the latencies of groups in the tail.
func (q *countQuestion) listText(a *clickhouseArgs, conds []string, tail tailGroups) string {
	status := "status"
	if q.latencies && !q.exactStatus {
		status = "toNullable(toInt16(intDiv(ifNull(status, 0), 100) * 100))"
	}
	columns, keys := q.rowColumns(a, status), q.keys()
	if q.listsAnyStatus() {
		columns[len(columns)-1] = "countIf(isNull(status)) AS interrupted, countIf(status >= 400 AND status < 500) AS client_errors, " +
			"countIf(status >= 500 AND status < 600) AS errors"
		keys = keys[:len(keys)-1]
	}
	switch groups := slices.Sorted(maps.Keys(tail)); {
	case !q.latencies:
	case tail == nil:
		columns = append(columns, "groupArray(latency_us) AS latencies")
	case len(groups) == 0:
		columns = append(columns, clickhouseQuantiles)
	case len(q.by) > 0:
		columns = append(columns, clickhouseQuantiles, "groupArrayIf(latency_us, by0 IN "+a.texts("String", groups)+") AS latencies")
	default:
		columns = append(columns, clickhouseQuantiles, "groupArrayIf(latency_us, toString(code) IN "+a.texts("String", groups)+") AS latencies")
	}
	return "SELECT count() AS calls, " + strings.Join(columns, ", ") + " FROM audit_log WHERE " + and(conds) + " GROUP BY " + strings.Join(keys, ", ")
}

// listsAnyStatus reports whether a row of rawLists is of all statuses.
func (q *countQuestion) listsAnyStatus() bool { return q.latencies && q.anyStatus }

// listBlock is of rawLists.
type listBlock struct {
	rowColumns
	tail                              tailGroups
	calls                             proto.ColUInt64
	interrupted, clientErrors, errors proto.ColUInt64 // of listsAnyStatus
	quantiles, latencies              *proto.ColArr[int64]
	flatQuantiles, flatLatencies      proto.ColInt64
}

func newListBlock(q *countQuestion, tail tailGroups) *listBlock {
	b := &listBlock{rowColumns: newRowColumns(q), tail: tail}
	b.quantiles, b.latencies = proto.NewArray[int64](&b.flatQuantiles), proto.NewArray[int64](&b.flatLatencies)
	return b
}

func (b *listBlock) results() proto.Results {
	out := append(proto.Results{{Name: "calls", Data: &b.calls}}, b.rowColumns.results()...)
	if b.q.listsAnyStatus() {
		out = append(out[:len(out)-1], proto.ResultColumn{Name: "interrupted", Data: &b.interrupted},
			proto.ResultColumn{Name: "client_errors", Data: &b.clientErrors}, proto.ResultColumn{Name: "errors", Data: &b.errors})
	}
	if b.q.latencies && b.tail != nil {
		out = append(out, proto.ResultColumn{Name: "quantiles", Data: b.quantiles})
	}
	if b.q.latencies && (b.tail == nil || len(b.tail) > 0) {
		out = append(out, proto.ResultColumn{Name: "latencies", Data: b.latencies})
	}
	return out
}

func (b *listBlock) each(rows int) error {
	for i := range rows {
		r := b.fill(i)
		r.calls, r.completed, r.micros, r.exact, r.slowest = b.calls[i], b.calls[i], nil, nil, 0
		switch {
		case b.q.listsAnyStatus():
			r.status, r.completed = anyStatus, r.calls-b.interrupted[i]
			r.buckets = append(r.buckets[:0], bucketClass, bucketClass-4, bucketClass-5)
			r.counts = append(r.counts[:0], b.interrupted[i], b.clientErrors[i], b.errors[i])
		case r.status == 0:
			r.completed = 0
		}
		switch {
		case !b.q.latencies || r.completed == 0:
		case b.tail == nil || b.tail[b.q.group(r)]:
			r.micros = slice(b.flatLatencies, b.latencies.Offsets, i)
			r.slowest = slices.Max(r.micros)
		default:
			r.exact = slice(b.flatQuantiles, b.quantiles.Offsets, i)
			r.slowest = r.exact[len(quantileLevels)]
		}
		b.q.row(r)
	}
	return nil
}
