package analytics

import (
	"cmp"
	"context"
	"math"
	"slices"
	"strconv"
	"time"

	"github.com/useargus/argus"
)

// tally is the calls of one group.
type tally struct {
	latencies
	interrupted, clientErrors, errors uint64
}

func (t *tally) add(r *countRow) {
	if r.exact != nil {
		t.exact, t.n = slices.Clone(r.exact), t.n+r.completed
	}
	switch r.status {
	case anyStatus:
		t.addRow(r, func(b int16, n uint64) {
			if b <= bucketClass {
				t.addClass(bucketClass-b, n)
			}
		})
	case 0:
		t.interrupted += r.calls
		return
	default:
		t.addClass(r.status/100, r.calls)
		t.addRow(r, func(int16, uint64) {}) // calls with a status have latencies
	}
	t.max = max(t.max, r.slowest)
}

// merge adds the calls of another group.
func (t *tally) merge(o *tally) {
	for i, n := range o.counts {
		if n > 0 {
			t.latencies.add(o.first+int16(i), n)
		}
	}
	t.max = max(t.max, o.max)
	t.interrupted, t.clientErrors, t.errors = t.interrupted+o.interrupted, t.clientErrors+o.clientErrors, t.errors+o.errors
}

// addClass counts calls by the hundreds of their status.
func (t *tally) addClass(class int16, n uint64) {
	switch class {
	case 0:
		t.interrupted += n
	case 4:
		t.clientErrors += n
	case 5:
		t.errors += n
	}
}

// row is what is shown of the group, over so many minutes.
func (t *tally) row(by argus.GroupBy, group string, minutes float64) argus.PerfRow {
	row := argus.PerfRow{
		GroupBy: by, Group: group, Count: int64(t.n), Interrupted: int64(t.interrupted),
		P50: t.quantile(0.5) / 1000, P95: t.quantile(0.95) / 1000, P99: t.quantile(0.99) / 1000, Max: math.NaN(),
	}
	if minutes > 0 {
		row.RPM = float64(t.n) / minutes
	}
	if t.n > 0 {
		row.ErrorRate, row.ClientErrorRate = float64(t.errors)/float64(t.n), float64(t.clientErrors)/float64(t.n)
		row.Max = float64(t.max) / 1000
	}
	return row
}

// grouping is how calls fall into the groups of a GroupBy.
type grouping struct {
	by    []dimension
	group func(*countRow) string
}

func groupingOf(by argus.GroupBy) (grouping, error) {
	first := func(r *countRow) string { return r.by[0] }
	switch by {
	case argus.GroupByRoute:
		return grouping{[]dimension{byRoute}, first}, nil
	case argus.GroupByActor:
		return grouping{[]dimension{byActor}, first}, nil
	case argus.GroupByTenant:
		return grouping{[]dimension{byTenant}, first}, nil
	case argus.GroupByMethod:
		return grouping{[]dimension{byMethod}, first}, nil
	case argus.GroupByActorKind:
		return grouping{[]dimension{byActorKind}, first}, nil
	case argus.GroupByClient:
		return grouping{[]dimension{byClient}, first}, nil
	case argus.GroupByService:
		return grouping{[]dimension{byService}, first}, nil
	case argus.GroupByRelease:
		return grouping{[]dimension{byService, byRelease}, func(r *countRow) string { return argus.ReleaseGroup(r.by[0], r.by[1]) }}, nil
	case argus.GroupByStatusClass:
		return grouping{nil, func(r *countRow) string { return statusClass(r.status) }}, nil
	}
	return grouping{}, argus.Errorf(argus.CodeInvalidParameter,
		"group_by must be %s.", argus.Listed(argus.GroupBys(), "or"))
}

// statusClass is 4xx for 404; calls without a status are interrupted.
func statusClass(status int16) string {
	if status == 0 {
		return string(argus.Interrupted)
	}
	return strconv.Itoa(int(status)/100) + "xx"
}

// tallies counts a question's rows by group.
type tallies struct {
	question countQuestion
	groups   map[string]*tally
}

func newTallies(w window, conditions []argus.Condition, g grouping) *tallies {
	t := &tallies{}
	t.question = countQuestion{
		window: w, conditions: conditions, by: g.by, latencies: true, anyStatus: len(g.by) > 0, // by the status itself otherwise
		quantiles: len(g.by) <= 1, // a group may be several pairs
		begin:     func() { t.groups = map[string]*tally{} },
		row: func(r *countRow) {
			name := g.group(r)
			group := t.groups[name]
			if group == nil {
				group = &tally{}
				t.groups[name] = group
			}
			group.add(r)
		},
	}
	return t
}

// Perf answers how fast and how healthy calls were, of all rows committed when it was asked. An open window, and one
// that ends in the future, ends now: rates are over time that has come. Errors: CodeInvalidParameter, CodeQueryTooLarge, CodeUnavailable.
func (a *Analytics) Perf(ctx context.Context, req argus.PerfRequest) (res argus.PerfResult, err error) {
	defer a.metrics.observe("perf", time.Now(), &res.Source, &err)
	if req.GroupBy == "" {
		req.GroupBy = argus.GroupByRoute
	}
	g, err := groupingOf(req.GroupBy)
	if err != nil {
		return res, err
	}
	return shared(ctx, &a.sharing, "perf", req, func(ctx context.Context, taken func()) (argus.PerfResult, error) {
		return ask(ctx, a, "perf", func(ctx context.Context, on *attempt) (argus.PerfResult, error) {
			return a.perf(ctx, on, req, g, taken)
		})
	})
}

func (a *Analytics) perf(ctx context.Context, on *attempt, req argus.PerfRequest, g grouping, taken func()) (res argus.PerfResult, err error) {
	w := a.resolve(&req.Filter)
	until := w.end(a.config.now())
	now := newTallies(w, req.Filter.Conditions, g)
	now.question.end = func(at time.Time) { until = w.end(at) }
	questions := []*countQuestion{&now.question}
	var before *tallies
	if req.Compare {
		now.question.quantiles = false // the bounds of a quantile take all latencies
		earlier := a.clamp(window{w.since.Add(-until.Sub(w.since)), w.since})
		before = newTallies(earlier, req.Filter.Conditions, g)
		before.question.quantiles = false
		questions = append(questions, &before.question)
	}
	got, err := a.count(ctx, on, questions, taken)
	if err != nil {
		return res, err
	}
	length := until.Sub(w.since)
	res = argus.PerfResult{
		GroupBy: req.GroupBy, Since: w.since, Until: until, Source: got.source, ReplicatedThrough: got.replicated,
	}
	for name, t := range now.groups {
		row := t.row(req.GroupBy, name, length.Minutes())
		if before != nil {
			compare(&row, t, before, name, length)
		}
		res.Rows = append(res.Rows, row)
	}
	if before != nil {
		// What was called before and is no more.
		for name := range before.groups {
			if now.groups[name] == nil {
				t := &tally{}
				row := t.row(req.GroupBy, name, length.Minutes())
				compare(&row, t, before, name, length)
				res.Rows = append(res.Rows, row)
			}
		}
	}
	slices.SortFunc(res.Rows, func(x, y argus.PerfRow) int {
		return cmp.Or(cmp.Compare(y.Count, x.Count), cmp.Compare(x.Group, y.Group))
	})
	return res, nil
}
