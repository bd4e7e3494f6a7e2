package analytics

import (
	"cmp"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/useargus/argus"
)

// differValue is a call's value of a dimension, read from the record.
func differValue(r *argus.Record, d argus.DifferDimension) string {
	switch d {
	case "actor":
		return r.ActorID
	case "actor_kind":
		return string(r.ActorKind)
	case "client":
		return argus.ClientName(r.UserAgent)
	case "agent":
		return r.Agent
	case "tenant":
		return r.Tenant()
	case "route":
		return r.Route
	case "status":
		if r.Outcome == argus.Interrupted {
			return "interrupted"
		}
		return strconv.Itoa(int(r.Status))
	case "error_code":
		return r.ErrorCode
	case "service":
		return r.Service
	case "release":
		return r.Release
	}
	panic(d)
}

// inRegion is the definition of a region, which both stores' SQL is held to.
func inRegion(r *argus.Record, in argus.Region) bool {
	done := r.Outcome == argus.Completed
	took := time.Duration(r.LatencyUS) * time.Microsecond
	switch {
	case r.OccurredAt.Before(in.Since) || !r.OccurredAt.Before(in.Until),
		in.Kind == argus.RegionFailed && !(done && r.Status/100 == 5),
		in.Kind == argus.RegionInterrupted && done,
		in.LatencyMin > 0 && !(done && took >= in.LatencyMin),
		in.LatencyMax > 0 && !(done && took < in.LatencyMax):
		return false
	}
	return true
}

// Of every region, baseline and filter, each value has the calls, shares and quantiles that the rows have: from ClickHouse,
// from the tail, and from Postgres alone. What is left out is in "other", so that each dimension sums up to all calls.
func TestDiffersIsExact(t *testing.T) {
	w := newWorld(t)
	rng := rand.New(rand.NewPCG(81, 82))
	now := time.Now()
	records := randomRecords(rng, 1500, now)
	id := w.openWriter()
	w.write(id, records[:1200]...)
	w.replicate()
	w.write(w.openWriter(), records[1200:]...)
	w.copyRows(w.committed[1250:1300]) // beyond the watermark
	a := w.analytics(func(c *Config) { c.now = func() time.Time { return now } })
	regions := append([]argus.RegionKind{"", ""}, argus.RegionKinds()...)
	departing := 0
	for i := range 60 {
		away := i%6 == 5
		req := argus.DiffersRequest{Filter: randomFilter(t, rng, w.committed, now), Baseline: argus.Baselines()[i%2], Limit: 1 + rng.IntN(12)}
		if i%3 > 0 {
			req.Filter.Conditions = nil
		}
		req.Filter.Since, req.Filter.Until = argus.Micros(now.Add(-time.Hour)), time.Time{}
		req.Region.Kind = regions[i%len(regions)]
		if i%4 > 0 {
			req.Region.Since = argus.Micros(now.Add(-time.Duration(rng.Int64N(int64(50 * time.Minute)))))
			req.Region.Until = argus.Micros(req.Region.Since.Add(10 * time.Minute))
		} else if req.Region.Kind == "" {
			req.Region.LatencyMin, req.Region.LatencyMax = time.Millisecond, time.Minute
		}
		what := fmt.Sprintf("%d: %s, %+v against %s", i, req.Filter.Query().Encode(), req.Region, req.Baseline)
		a.copies.all[0].ch.down.Store(away)
		res, err := a.Differs(ctx(t), req)
		if err != nil {
			t.Fatalf("%s: %v", what, err)
		}
		if (res.Source == argus.SourcePostgres) != away {
			t.Fatalf("%s: from %s", what, res.Source)
		}
		if res.Departing() {
			departing++
		}
		span := req.Filter
		span.Since, span.Until = res.BaselineSince, res.BaselineUntil
		if res.Baseline == argus.BaselineBefore {
			span.Until = res.Region.Until
		}
		var sides [2][]argus.Record
		for _, r := range w.match(span, w.now(), true) {
			switch {
			case inRegion(&r, res.Region):
				sides[1] = append(sides[1], r)
			case res.Baseline == argus.BaselineRest || r.OccurredAt.Before(res.Region.Since):
				sides[0] = append(sides[0], r)
			}
		}
		if res.Region.Kind == argus.RegionSlow {
			checkSlow(t, what, w.match(span, w.now(), true), res)
		}
		checkDiffers(t, what, sides, res, req.Limit)
	}
	if departing == 0 {
		t.Error("no value ever departed") // slow calls and failed ones have statuses of their own
	}
}

// checkSlow checks the bound of slow calls: the p95 of those outside the region's time.
func checkSlow(t *testing.T, what string, rows []argus.Record, res argus.DiffersResult) {
	t.Helper()
	outside := slices.DeleteFunc(slices.Clone(rows), func(r argus.Record) bool {
		return !r.OccurredAt.Before(res.Region.Since) && r.OccurredAt.Before(res.Region.Until)
	})
	g := exactly(outside, "")[""]
	if g == nil || len(g.latencies) == 0 {
		g = exactly(rows, "")[""]
	}
	if g == nil || len(g.latencies) == 0 {
		return
	}
	want := g.quantile(0.95)
	if got := float64(res.Region.LatencyMin.Microseconds()) / 1000; math.Abs(got-want) > 0.011*want+0.001 {
		t.Fatalf("%s: slow from %v ms on, want %v", what, got, want)
	}
}

func checkDiffers(t *testing.T, what string, sides [2][]argus.Record, res argus.DiffersResult, limit int) {
	t.Helper()
	share := func(n, of int) float64 {
		if of == 0 {
			return 0
		}
		return float64(n) / float64(of)
	}
	check := func(name string, got argus.DifferFigures, region, baseline []argus.Record) {
		t.Helper()
		g, b := exactly(region, "")[""], exactly(baseline, "")[""]
		if g == nil {
			g = &exactGroup{}
		}
		if b == nil {
			b = &exactGroup{}
		}
		if got.Calls != int64(len(region)) || got.BaselineCalls != int64(len(baseline)) {
			t.Fatalf("%s: %s: %d and %d calls, want %d and %d", what, name, got.Calls, got.BaselineCalls, len(region), len(baseline))
		}
		if got.Share != share(len(region), len(sides[1])) || got.BaselineShare != share(len(baseline), len(sides[0])) {
			t.Fatalf("%s: %s: shares %v and %v", what, name, got.Share, got.BaselineShare)
		}
		for _, q := range [][2]float64{{got.P50, g.quantile(0.5)}, {got.P99, g.quantile(0.99)}, {got.BaselineP50, b.quantile(0.5)}, {got.BaselineP99, b.quantile(0.99)}} {
			if math.IsNaN(q[0]) != math.IsNaN(q[1]) || math.Abs(q[0]-q[1]) > 0.01*q[1] {
				t.Fatalf("%s: %s: a quantile is %v, want %v", what, name, q[0], q[1])
			}
		}
	}
	check("all", res.Calls, sides[1], sides[0])
	for _, d := range res.Dimensions {
		var by [2]map[string][]argus.Record
		all := map[string]bool{}
		for i, rows := range sides {
			by[i] = map[string][]argus.Record{}
			for _, r := range rows {
				v := differValue(&r, d.Dimension)
				by[i][v], all[v] = append(by[i][v], r), true
			}
		}
		if len(d.Values) != min(limit, len(all)) || d.Others != len(all)-len(d.Values) {
			t.Fatalf("%s: %s: %d values and %d others of %d, limit %d", what, d.Dimension, len(d.Values), d.Others, len(all), limit)
		}
		for i, v := range d.Values {
			check(fmt.Sprintf("%s=%q", d.Dimension, v.Value), v.DifferFigures, by[1][v.Value], by[0][v.Value])
			delete(by[0], v.Value)
			delete(by[1], v.Value)
			if !(v.Score >= 0 && v.Score <= 1) || (v.Score > 0) != (v.Departs != "") {
				t.Fatalf("%s: %s=%q: score %v, departs %q", what, d.Dimension, v.Value, v.Score, v.Departs)
			}
			if i > 0 && cmp.Or(cmp.Compare(d.Values[i-1].Score, v.Score), cmp.Compare(d.Values[i-1].Calls, v.Calls)) < 0 {
				t.Fatalf("%s: %s: out of order", what, d.Dimension)
			}
		}
		var rest [2][]argus.Record
		for i := range by {
			for _, rows := range by[i] {
				rest[i] = append(rest[i], rows...)
			}
		}
		check(fmt.Sprintf("the others of %s", d.Dimension), d.Other, rest[1], rest[0])
	}
}

// A tenant whose calls got slow and an actor who fails stand first in what differs, chance does not, and a slowdown that
// all share tells none apart.
func TestWhatDiffers(t *testing.T) {
	w := newWorld(t)
	rng := rand.New(rand.NewPCG(83, 84))
	now := argus.Micros(time.Now())
	middle := now.Add(-30 * time.Minute)
	var records []argus.Record
	for i := range 3000 {
		r := randomRecord(rng, now)
		r.OccurredAt = now.Add(-time.Duration(i) * time.Hour / 3000)
		r.Route, r.Method, r.Outcome, r.Status, r.ErrorCode = "GET /v1/tenants/:id", "GET", argus.Completed, 200, ""
		r.PathParams = []argus.PathParam{{Name: "id", Value: "UTD_" + strconv.Itoa(i%7)}}
		r.ActorID, r.Service, r.Release, r.Agent, r.UserAgent = "user_"+strconv.Itoa(rng.IntN(5)), "argus", "", "", "argusctl/1.0"
		r.LatencyUS = 8000 + rng.Int64N(4000)
		late := !r.OccurredAt.Before(middle)
		if late {
			r.LatencyUS *= 2 // for all
			if i%7 == 3 {
				r.LatencyUS *= 10
			}
			if r.ActorID == "user_2" && i%3 == 0 {
				r.Status, r.ErrorCode = 503, "unavailable"
			}
		}
		records = append(records, r)
	}
	w.write(w.openWriter(), records...)
	w.replicate()
	a := w.analytics(func(c *Config) { c.now = func() time.Time { return now } })
	route := argus.Filter{Since: now.Add(-time.Hour), Conditions: []argus.Condition{
		{Name: argus.FilterRoute, Values: []argus.FilterValue{{Text: "GET /v1/tenants/:id", Route: argus.RoutePattern{Text: "GET /v1/tenants/:id"}}}}}}
	ask := func(req argus.DiffersRequest) map[argus.DifferDimension][]argus.DifferValue {
		t.Helper()
		res, err := a.Differs(ctx(t), req)
		w.must(err)
		departing := map[argus.DifferDimension][]argus.DifferValue{}
		for _, d := range res.Dimensions {
			for _, v := range d.Values {
				if v.Score > 0 {
					departing[d.Dimension] = append(departing[d.Dimension], v)
				}
			}
		}
		return departing
	}
	names := func(values []argus.DifferValue) string {
		s := ""
		for _, v := range values {
			s += fmt.Sprintf("%s %s; ", v.Value, v.Departs)
		}
		return s
	}
	late := route
	late.Since = middle
	for what, c := range map[string]struct {
		req  argus.DiffersRequest
		want map[argus.DifferDimension]string
	}{
		"since then":   {argus.DiffersRequest{Filter: late}, map[argus.DifferDimension]string{"tenant": "UTD_3 slower; "}},
		"then":         {argus.DiffersRequest{Filter: route, Region: argus.Region{Since: middle}}, map[argus.DifferDimension]string{"tenant": "UTD_3 slower; "}},
		"failed calls": {argus.DiffersRequest{Filter: route, Region: argus.Region{Kind: argus.RegionFailed}}, map[argus.DifferDimension]string{"actor": "user_2 more; "}},
		"slow calls":   {argus.DiffersRequest{Filter: late, Region: argus.Region{Kind: argus.RegionSlow}}, map[argus.DifferDimension]string{"tenant": "UTD_3 more; "}},
		"before it began": {argus.DiffersRequest{Filter: argus.Filter{Since: now.Add(-time.Hour), Until: middle, Conditions: route.Conditions},
			Region: argus.Region{Since: middle.Add(-10 * time.Minute)}}, map[argus.DifferDimension]string{}},
	} {
		got := ask(c.req)
		for _, d := range []argus.DifferDimension{"actor", "tenant", "client", "service", "route"} {
			list := got[d]
			if what == "failed calls" || what == "slow calls" { // the others become rarer by as much
				list = list[:min(1, len(list))]
			}
			if names(list) != c.want[d] {
				t.Errorf("%s: of %s %q departs, want %q", what, d, names(list), c.want[d])
			}
		}
	}
	if _, err := a.Differs(ctx(t), argus.DiffersRequest{Filter: route, Baseline: argus.BaselineRest}); err == nil {
		t.Error("the whole window has a rest")
	}
}

// leastDifference is Newcombe's interval: beside the values of his table II, method 10, at his level.
func TestLeastDifference(t *testing.T) {
	for _, c := range []struct {
		k, n, l, m uint64
		low, high  float64 // of the interval at 95 %
	}{{56, 70, 48, 80, .0524, .3339}, {9, 10, 3, 10, .1705, .8090}, {6, 7, 2, 7, .0582, .8062}, {5, 56, 0, 29, -.0381, .1926},
		{0, 10, 0, 20, -.1611, .2775}, {10, 10, 0, 20, .6791, 1}, {10, 10, 0, 10, .6075, 1}} {
		low, high := newcombe(c.k, c.n, c.l, c.m, 1.959964, 1)
		if math.Abs(low-c.low) > 5e-5 || math.Abs(high-c.high) > 5e-5 {
			t.Errorf("%d/%d and %d/%d: %.4f to %.4f, want %.4f to %.4f", c.k, c.n, c.l, c.m, low, high, c.low, c.high)
		}
	}
	// Few calls bear out little, the same shares of many calls more.
	few, many := leastDifference(6, 6, 1, 10), leastDifference(600, 600, 100, 1000)
	if few >= 0.3 || many < 0.7 || leastDifference(2, 2, 1, 3) != 0 {
		t.Errorf("%v and %v, and of two calls %v", few, many, leastDifference(2, 2, 1, 3))
	}
}

// TestLeastChange: a latency that departs by less than 5 % is none, however sure it is. A bucket is 1.98 %, so two are just
// below and three just above. What all calls grow by is taken off first.
func TestLeastChange(t *testing.T) {
	const usual = 700 // about a second
	of := func(bucket int16, calls uint64) *side {
		s := &side{calls: calls, latencies: latencies{max: math.MaxInt64}}
		s.latencies.add(bucket, calls)
		return s
	}
	for _, c := range []struct {
		grew, othersGrew int16 // buckets
		want             argus.Departure
	}{
		{0, 0, ""}, {2, 0, ""}, {3, 0, argus.DepartsSlower}, {-2, 0, ""}, {-3, 0, argus.DepartsFaster},
		{40, 40, ""}, {42, 40, ""}, {43, 40, argus.DepartsSlower}, {-42, -40, ""}, {-43, -40, argus.DepartsFaster},
	} {
		value := [2]*side{of(usual, 100_000), of(usual+c.grew, 100_000)}
		total := [2]*side{of(usual, 1_000_000), of(usual+c.othersGrew, 1_000_000)}
		for i := range total {
			total[i].add(value[i])
		}
		if score, departs := departure(&value, total, true); departs != c.want || score > 0 != (c.want != "") {
			t.Errorf("%d buckets, the others %d: %s, %.4f, want %q", c.grew, c.othersGrew, departs, score, c.want)
		}
	}
}
