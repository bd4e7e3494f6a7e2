package analytics

import (
	"fmt"
	"math"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/useargus/argus"
)

// ClickHouse computes the quantiles of groups that the tail has no rows of, and those are exact. Rows of the tail count once in
// whichever groups they are, copied or not, also when they come behind the guess of which groups those are.
func TestQuantilesBesideATail(t *testing.T) {
	w := newWorld(t)
	rng := rand.New(rand.NewPCG(51, 52))
	now := time.Now()
	id := w.openWriter()
	recent := func(n int) (out []argus.Record) {
		for range n {
			r := randomRecord(rng, now)
			r.OccurredAt = argus.Micros(now.Add(-time.Duration(rng.Int64N(int64(20 * time.Hour)))))
			out = append(out, r)
		}
		return out
	}
	w.write(id, recent(900)...)
	w.replicate()
	came := 0 // rows that come before each count ends
	var of argus.Position
	again := 0
	a := w.analytics(func(c *Config) {
		c.onCompose = func(step string) {
			switch step {
			case "counted":
				again++
				if came > 0 {
					came--
					w.write(id, recent(1)...)
					w.copyRows(w.committed)
				}
			case "cut":
				of = w.now()
			}
		}
	})
	a.config.fewRows, a.config.raw = math.MaxInt64, rawLists
	for math.IsInf(a.copies.all[0].health.callsPerHour(), 1) { // rollups do all they can until it is known
		time.Sleep(10 * time.Millisecond)
	}
	for _, until := range []time.Time{{}, now.Add(-time.Hour)} {
		for tail := range 4 {
			for _, by := range []argus.GroupBy{argus.GroupByRoute, argus.GroupByActor, argus.GroupByTenant, argus.GroupByMethod,
				argus.GroupByClient, argus.GroupByRelease, argus.GroupByStatusClass} {
				w.replicate()
				rows := recent(tail % 3) // 0 to 2 that the guess can know
				w.write(id, rows...)
				w.copyRows(rows)
				came, again = tail, 0
				f := argus.Filter{Since: argus.Micros(now.Add(-24 * time.Hour)), Until: argus.Micros(until)}
				if until.IsZero() {
					f.Until = until
				}
				res, err := a.Perf(ctx(t), argus.PerfRequest{Filter: f, GroupBy: by})
				w.must(err)
				all := w.match(f, of, true)
				what := fmt.Sprintf("until %s, %d in the tail, by %s", until, tail, by)
				checkPerf(t, what, all, by, res)
				exact, want := 0, exactly(all, by)
				for _, row := range res.Rows {
					if g := want[row.Group]; row.P50 == g.quantile(0.5) && row.P95 == g.quantile(0.95) && row.P99 == g.quantile(0.99) {
						exact++
					}
				}
				t.Logf("%s: %d of %d groups are exact, counted %d times", what, exact, len(res.Rows), again)
				if tail == 0 && by != argus.GroupByRelease && exact+countEmpty(want) < len(res.Rows) {
					t.Errorf("%s: %d of %d groups are exact", what, exact, len(res.Rows))
				}
			}
		}
	}
}

// countEmpty counts the groups without a latency.
func countEmpty(groups map[string]*exactGroup) (n int) {
	for _, g := range groups {
		if len(g.latencies) == 0 {
			n++
		}
	}
	return n
}
