package analytics

import (
	"fmt"
	"maps"
	"math"
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
