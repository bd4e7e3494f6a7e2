package analytics

import (
	"cmp"
	"context"
	"slices"
	"strconv"
	"time"

	"github.com/useargus/argus"
)

// Values a field of facets.
const (
	defaultFacets = 100
	maxFacets     = 1000
)

// facetFields are the fields of facets, and the dimension each shows; status has none.
var facetFields = map[argus.FilterName]dimension{
	argus.FilterActor: byActor, argus.FilterRoute: byRoute, argus.FilterStatus: "", argus.FilterActorKind: byActorKind,
	argus.FilterPAT: byPAT, argus.FilterBreakGlass: byBreakGlass, argus.FilterClient: byClient, argus.FilterMethod: byMethod,
	argus.FilterService: byService, argus.FilterRelease: byRelease, argus.FilterErrorCode: byErrorCode, argus.FilterAgent: byAgent,
}

// Facets answers which values occur among the calls of a filter, how often, and how the calls spread over time.
// Errors: CodeInvalidParameter, CodeQueryTooLarge, CodeUnavailable.
func (a *Analytics) Facets(ctx context.Context, req argus.FacetsRequest) (res argus.FacetsResult, err error) {
	defer a.metrics.observe("facets", time.Now(), &res.Source, &err)
	fields := req.Fields
	if len(fields) == 0 {
		fields = argus.FacetFields()
	}
	for _, f := range fields {
		if _, ok := facetFields[f]; !ok {
			return res, argus.Errorf(argus.CodeInvalidParameter,
				"There are no facets of %q; there are of %s.", f, argus.Listed(argus.FacetFields(), "and"))
		}
	}
	limit := req.Limit
	if limit == 0 {
		limit = defaultFacets
	}
	if limit < 1 || limit > maxFacets {
		return res, argus.Errorf(argus.CodeInvalidParameter, "limit must be 1 to %d.", maxFacets)
	}
	return shared(ctx, &a.sharing, "facets", req, func(ctx context.Context, taken func()) (argus.FacetsResult, error) {
		return ask(ctx, a, "facets", func(ctx context.Context, on *attempt) (argus.FacetsResult, error) {
			return a.facets(ctx, on, req, fields, limit, taken)
		})
	})
}

func (a *Analytics) facets(ctx context.Context, on *attempt, req argus.FacetsRequest, fields []argus.FilterName, limit int, taken func()) (res argus.FacetsResult, err error) {
	w := a.resolve(&req.Filter)
	step, err := stepFor(req.Step, w.end(a.config.now()).Sub(w.since))
	if err != nil {
		return res, err
	}
	var line timeline
	counts := map[argus.FilterName]map[string]int64{}
	var questions []*countQuestion
	// What was called, and by whom: two questions, because the pairs of both would be many. Releases are a third: rollups
	// tell them apart only within a day.
	for _, some := range [][]argus.FilterName{
		{argus.FilterService, argus.FilterRoute, argus.FilterMethod, argus.FilterStatus, argus.FilterErrorCode},
		{argus.FilterActor, argus.FilterActorKind, argus.FilterPAT, argus.FilterBreakGlass, argus.FilterClient, argus.FilterAgent},
		{argus.FilterRelease},
	} {
		some = slices.DeleteFunc(some, func(f argus.FilterName) bool { return !slices.Contains(fields, f) })
		if len(some) > 0 {
			questions = append(questions, facetQuestion(w, req.Filter.Conditions, some, counts))
		}
	}
	var bars []argus.HistogramBar
	steps := map[int64]*argus.HistogramBar{}
	questions = append(questions, &countQuestion{
		window: w, conditions: req.Filter.Conditions, step: step,
		begin: func() {
			res.Total = 0
			clear(steps)
		},
		row: func(r *countRow) {
			res.Total += int64(r.calls)
			bar := steps[r.step]
			if bar == nil {
				bar = &argus.HistogramBar{}
				steps[r.step] = bar
			}
			bar.Count += int64(r.calls)
			switch r.status / 100 {
			case 0:
				bar.Interrupted += int64(r.calls)
			case 4:
				bar.ClientErrors += int64(r.calls)
			case 5:
				bar.Errors += int64(r.calls)
			}
		},
		end: func(at time.Time) {
			line = timelineOf(w.since, w.end(at), step)
			bars = make([]argus.HistogramBar, line.n)
			for i := range bars {
				bars[i].At = line.at(i)
			}
			for n, counted := range steps {
				if line.n == 0 {
					break
				}
				bar := &bars[line.index(n)]
				bar.Count, bar.Interrupted = bar.Count+counted.Count, bar.Interrupted+counted.Interrupted
				bar.ClientErrors, bar.Errors = bar.ClientErrors+counted.ClientErrors, bar.Errors+counted.Errors
			}
		},
	})
	got, err := a.count(ctx, on, questions, taken)
	if err != nil {
		return argus.FacetsResult{}, err
	}
	res.Since, res.Until, res.Step, res.Histogram = w.since, line.window.to, step, bars
	res.Source, res.ReplicatedThrough = got.source, got.replicated
	res.Fields = map[argus.FilterName][]argus.FacetValue{}
	for _, f := range fields {
		values := make([]argus.FacetValue, 0, len(counts[f]))
		for v, n := range counts[f] {
			values = append(values, argus.FacetValue{Value: v, Count: n})
		}
		slices.SortFunc(values, func(x, y argus.FacetValue) int {
			return cmp.Or(cmp.Compare(y.Count, x.Count), cmp.Compare(x.Value, y.Value))
		})
		res.Fields[f] = values[:min(len(values), limit)]
	}
	return res, nil
}

// facetQuestion counts the values of the fields into counts. Nulls are no values.
func facetQuestion(w window, conditions []argus.Condition, fields []argus.FilterName, counts map[argus.FilterName]map[string]int64) *countQuestion {
	q := &countQuestion{window: w, conditions: conditions}
	status := false
	var shown []argus.FilterName // of q.by
	for _, f := range fields {
		if f == argus.FilterStatus {
			status, q.exactStatus = true, true
			continue
		}
		q.by, shown = append(q.by, facetFields[f]), append(shown, f)
	}
	q.begin = func() {
		for _, f := range fields {
			counts[f] = map[string]int64{}
		}
	}
	q.row = func(r *countRow) {
		for i, f := range shown {
			if r.by[i] != "" || f == argus.FilterClient || f == argus.FilterActor {
				counts[f][r.by[i]] += int64(r.calls)
			}
		}
		if status && r.status != 0 {
			counts[argus.FilterStatus][strconv.Itoa(int(r.status))] += int64(r.calls)
		}
	}
	return q
}
