package analytics

import (
	"context"
	"fmt"
	"maps"
	"math"
	"math/rand/v2"
	"net/url"
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/useargus/argus"
)

// exactly computes what Perf should say of the rows, the slow way.
func exactly(rows []argus.Record, by argus.GroupBy) map[string]*exactGroup {
	groups := map[string]*exactGroup{}
	for i := range rows {
		r := &rows[i]
		name := ""
		switch by {
		case argus.GroupByRoute:
			name = r.Route
		case argus.GroupByActor:
			name = r.ActorID
		case argus.GroupByTenant:
			name = r.Tenant()
		case argus.GroupByMethod:
			name = r.Method
		case argus.GroupByActorKind:
			name = string(r.ActorKind)
		case argus.GroupByClient:
			name = argus.ClientName(r.UserAgent)
		case argus.GroupByService:
			name = r.Service
		case argus.GroupByRelease:
			name = argus.ReleaseGroup(r.Service, r.Release)
		case argus.GroupByStatusClass:
			name = "interrupted"
			if r.Outcome == argus.Completed {
				name = strconv.Itoa(int(r.Status)/100) + "xx"
			}
		}
		g := groups[name]
		if g == nil {
			g = &exactGroup{}
			groups[name] = g
		}
		if r.Outcome == argus.Interrupted {
			g.interrupted++
			continue
		}
		g.latencies = append(g.latencies, r.LatencyUS)
		if r.Status/100 == 5 {
			g.errors++
		}
		if r.Status/100 == 4 {
			g.clientErrors++
		}
	}
	for _, g := range groups {
		slices.Sort(g.latencies)
	}
	return groups
}

type exactGroup struct {
	latencies                         []int64
	interrupted, errors, clientErrors int
}

func (g *exactGroup) quantile(q float64) float64 {
	if len(g.latencies) == 0 {
		return math.NaN()
	}
	return float64(g.latencies[max(1, int(math.Ceil(q*float64(len(g.latencies)))))-1]) / 1000
}

// wrong says how a row is not what it should be.
func (g *exactGroup) wrong(row argus.PerfRow, minutes float64) string {
	n := float64(len(g.latencies))
	share := func(k int) float64 {
		if n == 0 {
			return 0
		}
		return float64(k) / n
	}
	if row.Count != int64(len(g.latencies)) || row.Interrupted != int64(g.interrupted) {
		return fmt.Sprintf("%d completed, %d interrupted; want %d, %d", row.Count, row.Interrupted, len(g.latencies), g.interrupted)
	}
	for _, c := range []struct {
		name      string
		got, want float64
		within    float64
	}{
		{"rpm", row.RPM, n / minutes, 1e-9}, {"error_rate", row.ErrorRate, share(g.errors), 1e-12},
		{"client_error_rate", row.ClientErrorRate, share(g.clientErrors), 1e-12},
		{"p50", row.P50, g.quantile(0.5), 0.01}, {"p95", row.P95, g.quantile(0.95), 0.01}, {"p99", row.P99, g.quantile(0.99), 0.01},
		{"max", row.Max, g.quantile(1), 0},
	} {
		if math.IsNaN(c.got) && math.IsNaN(c.want) {
			continue
		}
		if !(math.Abs(c.got-c.want) <= c.within*math.Abs(c.want)) {
			return fmt.Sprintf("%s is %v, want %v", c.name, c.got, c.want)
		}
	}
	return ""
}

func checkPerf(t *testing.T, what string, rows []argus.Record, by argus.GroupBy, res argus.PerfResult) {
	t.Helper()
	want := exactly(rows, by)
	minutes := res.Until.Sub(res.Since).Minutes()
	got := map[string]bool{}
	last := int64(math.MaxInt64)
	for _, row := range res.Rows {
		g := want[row.Group]
		if g == nil {
			t.Fatalf("%s: there is no %q", what, row.Group)
		}
		if s := g.wrong(row, minutes); s != "" {
			t.Fatalf("%s: %s: %s", what, row.Group, s)
		}
		if got[row.Group] || row.Count > last {
			t.Fatalf("%s: rows out of order or twice", what)
		}
		got[row.Group], last = true, row.Count
	}
	if len(got) != len(want) {
		t.Fatalf("%s: %d groups, want %d", what, len(got), len(want))
	}
}

func checkFacets(t *testing.T, what string, rows []argus.Record, res argus.FacetsResult) {
	t.Helper()
	want := map[argus.FilterName]map[string]int64{}
	bars := map[int64]argus.HistogramBar{}
	count := func(f argus.FilterName, v string) {
		if _, asked := res.Fields[f]; !asked {
			return
		}
		if want[f] == nil {
			want[f] = map[string]int64{}
		}
		want[f][v]++
	}
	some := func(f argus.FilterName, v string) {
		if v != "" {
			count(f, v)
		}
	}
	for i := range rows {
		r := &rows[i]
		count(argus.FilterActor, r.ActorID)
		count(argus.FilterRoute, r.Route)
		count(argus.FilterMethod, r.Method)
		count(argus.FilterClient, argus.ClientName(r.UserAgent))
		count(argus.FilterActorKind, string(r.ActorKind))
		count(argus.FilterService, r.Service)
		some(argus.FilterRelease, r.Release)
		some(argus.FilterErrorCode, r.ErrorCode)
		some(argus.FilterAgent, r.Agent)
		if r.ActorKind == argus.KindPAT {
			count(argus.FilterPAT, r.PATID.String())
		}
		if r.ActorKind == argus.KindBreakGlass {
			count(argus.FilterBreakGlass, r.BreakGlassID.String())
		}
		at := floorTo(r.OccurredAt, res.Step)
		bar := bars[at]
		bar.Count++
		if r.Outcome == argus.Interrupted {
			bar.Interrupted++
		} else {
			count(argus.FilterStatus, strconv.Itoa(int(r.Status)))
			switch r.Status / 100 {
			case 4:
				bar.ClientErrors++
			case 5:
				bar.Errors++
			}
		}
		bars[at] = bar
	}
	if res.Total != int64(len(rows)) {
		t.Fatalf("%s: total %d, want %d", what, res.Total, len(rows))
	}
	for f, values := range res.Fields {
		got := map[string]int64{}
		for _, v := range values {
			got[v.Value] = v.Count
		}
		if !maps.Equal(got, want[f]) && len(got)+len(want[f]) > 0 {
			t.Fatalf("%s: %s\n got %v\nwant %v", what, f, got, want[f])
		}
	}
	for _, bar := range res.Histogram {
		w := bars[bar.At.Unix()]
		if w.At = bar.At; bar != w {
			t.Fatalf("%s: %s\n got %+v\nwant %+v", what, bar.At, bar, w)
		}
		delete(bars, bar.At.Unix())
	}
	if len(bars) > 0 {
		t.Fatalf("%s: bars are missing: %v", what, bars)
	}
}

// floorTo is the beginning of the step that t is in, all counted from 1970.
func floorTo(t time.Time, step time.Duration) int64 {
	seconds := int64(step / time.Second)
	return t.Unix() / seconds * seconds
}

func checkSeries(t *testing.T, what string, rows []argus.Record, res argus.SeriesResult) {
	t.Helper()
	type cell struct {
		group string
		at    int64
	}
	cells := map[cell][]argus.Record{}
	for i := range rows {
		for name := range exactly(rows[i:i+1], res.GroupBy) {
			k := cell{name, floorTo(rows[i].OccurredAt, res.Step)}
			cells[k] = append(cells[k], rows[i])
		}
	}
	for _, s := range res.Series {
		for _, p := range s.Points {
			k := cell{s.Group, p.At.Unix()}
			g := exactly(cells[k], "")[""]
			if g == nil {
				g = &exactGroup{}
			}
			from, to := p.At, p.At.Add(res.Step)
			if from.Before(res.Since) {
				from = res.Since
			}
			if to.After(res.Until) {
				to = res.Until
			}
			if s := g.wrong(p.PerfRow, to.Sub(from).Minutes()); s != "" {
				t.Fatalf("%s: %q at %s: %s", what, k.group, p.At, s)
			}
			delete(cells, k)
		}
	}
	if len(cells) > 0 && len(res.Series) < maxSeries {
		t.Fatalf("%s: %d points are missing", what, len(cells))
	}
}

// checkBefore checks the points of the window before, of the groups that the window has.
func checkBefore(t *testing.T, what string, w *world, f argus.Filter, res argus.SeriesResult) {
	t.Helper()
	before := argus.SeriesResult{GroupBy: res.GroupBy, Since: res.Since.Add(-res.Until.Sub(res.Since)), Until: res.Since, Step: res.Step}
	if oldest := time.Now().Add(-argus.Retention); before.Since.Before(oldest.Add(time.Minute)) || !res.Until.Equal(f.Until) {
		return // it moves with the clock
	}
	groups := map[string]bool{}
	for _, s := range res.Series {
		groups[s.Group] = true
		before.Series = append(before.Series, argus.Series{Group: s.Group, Points: s.Before})
	}
	f.Since, f.Until = before.Since, before.Until
	rows := slices.DeleteFunc(w.match(f, w.now(), true), func(r argus.Record) bool {
		for name := range exactly([]argus.Record{r}, res.GroupBy) {
			return res.GroupBy != "" && !groups[name]
		}
		return true
	})
	checkSeries(t, what+", before", rows, before)
}

// For every window, filter and grouping, counts are exact and quantiles within 1 %, from rollups, from rows, from the
// tail, and from Postgres alone.
func TestCountsAreExact(t *testing.T) {
	w := newWorld(t)
	rng := rand.New(rand.NewPCG(3, 4))
	now := time.Now()
	records := randomRecords(rng, 1500, now)
	id := w.openWriter()
	w.write(id, records[:1200]...)
	w.replicate()
	w.write(w.openWriter(), records[1200:]...)
	w.copyRows(w.committed[1250:1300]) // beyond the watermark
	a := w.analytics()
	for i := range 150 {
		away := i%10 == 9
		a.config.fewRows = []int64{-1, -1, math.MaxInt64}[i%3] // counted with rollups, or rather one by one
		a.config.raw = rawForm(i / 3 % 4)
		f := randomFilter(t, rng, w.committed, now)
		if i%2 == 0 { // such as rollups know
			conditions := f.Conditions[:0]
			for _, condition := range f.Conditions {
				switch condition.Name {
				case argus.FilterRoute, argus.FilterMethod, argus.FilterStatus, argus.FilterOutcome, argus.FilterService,
					argus.FilterRelease, argus.FilterErrorCode:
					conditions = append(conditions, condition)
				}
			}
			f.Conditions = conditions
		}
		if i%3 == 0 {
			f.Since = now.Add(-time.Duration(rng.Int64N(int64(360 * 24 * time.Hour))))
			f.Until = time.Time{}
			if rng.IntN(2) == 0 {
				f.Until = f.Since.Add(time.Duration(rng.Int64N(int64(now.Sub(f.Since)))))
			}
			f.Since, f.Until = argus.Micros(f.Since), argus.Micros(f.Until)
		}
		if f.Until.IsZero() {
			f.Until = time.Time{}
		}
		rows := w.match(f, w.now(), true)
		by := argus.GroupBys()[rng.IntN(len(argus.GroupBys()))]
		what := fmt.Sprintf("%d: %s by %s", i, f.Query().Encode(), by)
		a.copies.all[0].ch.down.Store(away)
		perf, err := a.Perf(ctx(t), argus.PerfRequest{Filter: f, GroupBy: by})
		if err != nil {
			t.Fatalf("%s: %v", what, err)
		}
		checkPerf(t, what, rows, by, perf)
		if (perf.Source == argus.SourcePostgres) != away {
			t.Fatalf("%s: from %s", what, perf.Source)
		}
		a.copies.all[0].ch.down.Store(away)
		facets, err := a.Facets(ctx(t), argus.FacetsRequest{Filter: f, Limit: 1000})
		if err != nil {
			t.Fatalf("%s: %v", what, err)
		}
		checkFacets(t, what, rows, facets)
		if (facets.Source == argus.SourcePostgres) != away {
			t.Fatalf("%s: from %s", what, facets.Source)
		}
		a.copies.all[0].ch.down.Store(away)
		if rng.IntN(3) == 0 {
			by = ""
		}
		series, err := a.Series(context.Background(), argus.SeriesRequest{Filter: f, GroupBy: by, Compare: i%2 == 0})
		if err != nil {
			t.Fatalf("%s: %v", what, err)
		}
		checkSeries(t, what, rows, series)
		if i%2 == 0 {
			checkBefore(t, what, w, f, series)
		}
		if (series.Source == argus.SourcePostgres) != away {
			t.Fatalf("%s: from %s", what, series.Source)
		}
	}
}

// What rollups tell apart in some grains only – releases, errors, agents – is counted exactly over months, too.
func TestMonthsTellApart(t *testing.T) {
	w := newWorld(t)
	now := time.Now()
	w.write(w.openWriter(), randomRecords(rand.New(rand.NewPCG(41, 42)), 1200, now)...)
	w.replicate()
	a := w.analytics()
	a.config.fewRows = -1 // all that rollups can answer they do
	since := now.AddDate(0, 0, -310).Format(argus.TimeFormat)
	for _, q := range []string{"", "service=billing", "release=v1.0", "error_code=not_found", "agent=claude/4", "service=billing&not_release=v1.1&status=4xx"} {
		for _, not := range []string{"", "not_"} {
			if q == "" && not != "" {
				continue
			}
			query, err := url.ParseQuery("since=" + since + "&" + not + q)
			w.must(err)
			if q == "" {
				query = url.Values{"since": {since}}
			}
			f, err := argus.ParseFilter(query, now)
			w.must(err)
			rows := w.match(f, w.now(), true)
			if len(rows) < 5 {
				t.Fatalf("%s finds %d rows", query.Encode(), len(rows))
			}
			for _, by := range []argus.GroupBy{argus.GroupByRoute, argus.GroupByService, argus.GroupByRelease, argus.GroupByActor, argus.GroupByTenant, argus.GroupByStatusClass} {
				perf, err := a.Perf(ctx(t), argus.PerfRequest{Filter: f, GroupBy: by})
				w.must(err)
				checkPerf(t, query.Encode(), rows, by, perf)
			}
			facets, err := a.Facets(ctx(t), argus.FacetsRequest{Filter: f, Limit: 1000})
			w.must(err)
			checkFacets(t, query.Encode(), rows, facets)
		}
	}
}

// A count is of its snapshot. Rows that are committed and copied while it is composed count once when they came before the
// snapshot, even in time that rollups answer for, and not at all when they came behind it. That holds when such rows come
// again and again.
func TestCountsAreOfTheirSnapshot(t *testing.T) {
	w := newWorld(t)
	rng := rand.New(rand.NewPCG(29, 30))
	now := time.Now()
	id := w.openWriter()
	records := randomRecords(rng, 200, now.Add(-2*time.Hour))
	w.write(id, records...)
	w.replicate()
	early := 0
	var of argus.Position
	come := func(days int) {
		w.write(id, randomRecord(rng, now.Add(-time.Duration(days)*24*time.Hour)))
		w.copyRows(w.committed)
	}
	a := w.analytics(func(c *Config) {
		c.onCompose = func(step string) {
			switch step {
			case "watermark", "counted":
				if early > 0 {
					come(3 + early)
					early--
				}
			case "cut":
				of = w.now()
			case "tail":
				come(2)
			}
		}
	})
	f := argus.Filter{Since: argus.Micros(now.AddDate(0, -6, 0))}
	answers := func(came int, ask func(what string) argus.Source) {
		early = came
		if ask(fmt.Sprintf("%d came", came)) == argus.SourcePostgres {
			t.Fatalf("%d came: from Postgres", came)
		}
		if early > 0 {
			t.Errorf("%d came: %d of them were too late", came, early)
		}
		w.replicate()
	}
	for came := range 5 {
		answers(came, func(what string) argus.Source {
			perf, err := a.Perf(ctx(t), argus.PerfRequest{Filter: f})
			w.must(err)
			checkPerf(t, what, w.match(f, of, true), argus.GroupByRoute, perf)
			return perf.Source
		})
	}
	a.config.raw, a.config.fewRows = rawLists, math.MaxInt64 // rows that are relied on as rollups are
	for came := range 5 {
		answers(came, func(what string) argus.Source {
			facets, err := a.Facets(ctx(t), argus.FacetsRequest{Filter: f, Limit: 1000})
			w.must(err)
			checkFacets(t, what, w.match(f, of, true), facets)
			return facets.Source
		})
	}
}

// Rates are over time that has come: a window that ends in the future, or is open, ends when its rows were read, also
// when they were waited for. One that begins in the future is empty.
func TestRatesAreOverTimeThatHasCome(t *testing.T) {
	w := newWorld(t)
	rng := rand.New(rand.NewPCG(31, 32))
	start := time.Now()
	clock := start
	id := w.openWriter()
	w.write(id, randomRecords(rng, 100, start)...)
	w.replicate()
	var meanwhile func()
	a := w.analytics(func(c *Config) {
		c.now = func() time.Time { return clock }
		c.onCompose = func(step string) {
			if step == "watermark" && meanwhile != nil {
				meanwhile()
				meanwhile = nil
			}
		}
	})
	q := func(since, until time.Time) argus.Filter {
		return argus.Filter{Since: argus.Micros(since), Until: argus.Micros(until)}
	}
	open := q(start.Add(-time.Hour), time.Time{})
	open.Until = time.Time{}
	for what, f := range map[string]argus.Filter{
		"open": open, "until tomorrow": q(start.Add(-time.Hour), start.Add(24*time.Hour)),
		"from tomorrow on":       q(start.Add(24*time.Hour), start.Add(48*time.Hour)),
		"empty":                  q(start.Add(-time.Hour), start.Add(-time.Hour)),
		"since before retention": q(start.Add(-2*argus.Retention), start.Add(24*time.Hour)),
	} {
		for _, away := range []bool{false, true} {
			// The question waits for its turn, and a call is made meanwhile.
			meanwhile = func() {
				clock = clock.Add(20 * time.Minute)
				w.write(id, randomRecord(rng, clock.Add(-time.Minute)))
			}
			a.copies.all[0].ch.down.Store(away)
			perf, err := a.Perf(ctx(t), argus.PerfRequest{Filter: f, Compare: true})
			if err != nil {
				t.Fatal(err)
			}
			checkPerf(t, what, w.match(f, w.now(), true), argus.GroupByRoute, perf)
			a.copies.all[0].ch.down.Store(away)
			series, err := a.Series(ctx(t), argus.SeriesRequest{Filter: f})
			if err != nil {
				t.Fatal(err)
			}
			checkSeries(t, what, w.match(f, w.now(), true), series)
			a.copies.all[0].ch.down.Store(away)
			facets, err := a.Facets(ctx(t), argus.FacetsRequest{Filter: f, Limit: 1000})
			if err != nil {
				t.Fatal(err)
			}
			checkFacets(t, what, w.match(f, w.now(), true), facets)
			for name, end := range map[string][2]time.Time{"perf": {perf.Since, perf.Until}, "series": {series.Since, series.Until},
				"facets": {facets.Since, facets.Until}} {
				if end[1].Before(end[0]) || end[1].After(argus.Micros(clock)) && !end[1].Equal(end[0]) {
					t.Errorf("%s, %s: from %s to %s; it is %s", what, name, end[0], end[1], clock)
				}
				if end[1].Before(argus.Micros(clock)) && (f.Until.IsZero() || f.Until.After(clock)) {
					t.Errorf("%s, %s: to %s; it is %s", what, name, end[1], clock)
				}
			}
			for _, row := range perf.Rows {
				if bad := row.RPM; math.IsNaN(bad) || math.IsInf(bad, 0) || math.IsNaN(row.Before.RPM) || math.IsInf(row.Before.RPM, 0) {
					t.Errorf("%s: %+v", what, row)
				}
			}
			if n := len(facets.Histogram); n > 0 && facets.Histogram[n-1].At.After(clock) {
				t.Errorf("%s: a bar at %s", what, facets.Histogram[n-1].At)
			}
		}
	}
}
