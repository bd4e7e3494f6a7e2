package analytics

import (
	"context"
	"fmt"
	"math"
	"math/rand/v2"
	"net/url"
	"testing"
	"time"

	"github.com/useargus/argus"
)

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
