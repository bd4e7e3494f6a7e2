package analytics

import (
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/ClickHouse/ch-go/proto"

	"github.com/useargus/argus"
)

func TestBuckets(t *testing.T) {
	for us := int64(0); us < 300_000; us++ {
		b := bucketOf(us)
		if math.Abs(bucketMiddle(b)-float64(us)) > 0.00981*float64(us) {
			t.Fatalf("%d µs is shown as %v", us, bucketMiddle(b))
		}
		if us < 48 && bucketMiddle(b) != float64(us) {
			t.Fatalf("%d µs is shown as %v: small ones are exact", us, bucketMiddle(b))
		}
		// All three compute the logarithm for themselves, so no whole number may lie near a bucket's edge as long as
		// buckets are so narrow that it mattered.
		if x := bucketsPerE*math.Log(float64(us)) + 0.5; us > 0 && us < 100_000 && math.Abs(x-math.Round(x)) < 1e-9 {
			t.Fatalf("%d µs lies on an edge: %v", us, x)
		}
	}
	for us := int64(1); us > 0 && us < 1<<62; us = us*3 + 1 {
		if math.Abs(bucketMiddle(bucketOf(us))-float64(us)) > 0.00981*float64(us) {
			t.Fatalf("%d µs is shown as %v", us, bucketMiddle(bucketOf(us)))
		}
	}
}

// Both stores and this package put a latency in the same bucket.
func TestBucketsAreTheSameEverywhere(t *testing.T) {
	w := newWorld(t)
	a := w.analytics()
	const sample = 200_000
	want := make([]int16, sample)
	us := func(i int) int64 {
		if i < sample/2 {
			return int64(i)
		}
		return int64(math.Exp(float64(i) / sample * 40))
	}
	for i := range want {
		want[i] = bucketOf(us(i))
	}
	series := fmt.Sprintf("if(number < %d, toInt64(number), toInt64(exp(number / %d * 40)))", sample/2, sample)
	var got proto.ColInt16
	var exact proto.ColInt64
	n := 0
	w.must(a.copies.all[0].ch.with(ctx(t), func(conn *clickhouseConn) error {
		q := statement{text: fmt.Sprintf("SELECT %s AS latency_us, toInt16(%s) AS b FROM numbers(%d)", series, clickhouseBucket, sample)}
		return conn.query(ctx(t), q, bounds{time: scanTime, memory: queryMemory},
			proto.Results{{Name: "latency_us", Data: &exact}, {Name: "b", Data: &got}}, func(rows int) error {
				for i := range rows {
					if got[i] != bucketOf(exact[i]) {
						return fmt.Errorf("ClickHouse puts %d into %d, not %d", exact[i], got[i], bucketOf(exact[i]))
					}
				}
				n += rows
				return nil
			})
	}))
	if n != sample {
		t.Fatalf("%d of %d", n, sample)
	}
	rows, err := w.writer.Query(ctx(t), "SELECT latency_us, "+postgresBucket+" FROM unnest($1::bigint[]) latency_us", func() []int64 {
		all := make([]int64, sample)
		for i := range all {
			all[i] = us(i)
		}
		return all
	}())
	w.must(err)
	defer rows.Close()
	for rows.Next() {
		var us int64
		var b int32
		w.must(rows.Scan(&us, &b))
		if int16(b) != bucketOf(us) {
			t.Fatalf("Postgres puts %d into %d, not %d", us, b, bucketOf(us))
		}
	}
}

// Quantiles of nasty distributions, against Postgres's percentile_disc over the rows.
func TestQuantilesAgainstPercentileDisc(t *testing.T) {
	w := newWorld(t)
	rng := rand.New(rand.NewPCG(25, 26))
	now := time.Now().Add(-5 * time.Minute).UTC()
	for name, f := range map[string]struct {
		n  int
		us func(i int) int64
	}{
		"constant":     {500, func(int) int64 { return 123_457 }},
		"zero":         {100, func(int) int64 { return 0 }},
		"one":          {1, func(int) int64 { return 98_765 }},
		"ten":          {10, func(i int) int64 { return int64(1000 + 777*i) }},
		"two apart":    {2, func(i int) int64 { return []int64{3, 60_000_000}[i] }},
		"bimodal":      {1000, func(i int) int64 { return []int64{400, 900_000}[i%2] + int64(i) }},
		"heavy tail":   {3000, func(int) int64 { return int64(500 / math.Pow(1-rng.Float64(), 1.5)) }},
		"small":        {400, func(i int) int64 { return int64(i % 7) }},
		"uniform":      {2000, func(int) int64 { return rng.Int64N(1_000_000) }},
		"mostly zero":  {300, func(i int) int64 { return int64(i/290) * 5_000_000 }},
		"lognormal":    {4000, func(int) int64 { return int64(2000 * math.Exp(0.6*rng.NormFloat64())) }},
		"interrupted":  {0, nil},
		"nineteen one": {20, func(i int) int64 { return int64(i/19)*1_000_000 + 10 }},
	} {
		id := w.openWriter()
		records := make([]argus.Record, max(f.n, 1))
		for i := range records {
			r := randomRecord(rng, now)
			r.Route, r.Outcome, r.Status = "GET /"+name, argus.Completed, 200
			if f.n == 0 {
				r.Outcome = argus.Interrupted
			} else {
				r.LatencyUS = f.us(i)
			}
			records[i] = r
		}
		w.write(id, records...)
	}
	w.replicate()
	a := w.analytics()
	perf, err := a.Perf(ctx(t), argus.PerfRequest{Filter: argus.Filter{Since: now.AddDate(0, -11, 0)}})
	w.must(err)
	rows, err := w.writer.Query(ctx(t), `SELECT route, percentile_disc(ARRAY[0.5, 0.95, 0.99]) WITHIN GROUP (ORDER BY latency_us),
		max(latency_us) FROM argus.argus_audit_log GROUP BY route`)
	w.must(err)
	defer rows.Close()
	for rows.Next() {
		var route string
		var q []int64
		var most *int64
		w.must(rows.Scan(&route, &q, &most))
		i := slices.IndexFunc(perf.Rows, func(r argus.PerfRow) bool { return r.Group == route })
		row := perf.Rows[i]
		if most == nil {
			if !math.IsNaN(row.P50) || !math.IsNaN(row.Max) || row.Interrupted != 1 || row.Count != 0 {
				t.Errorf("%s: %+v", route, row)
			}
			continue
		}
		for j, got := range []float64{row.P50, row.P95, row.P99} {
			if want := float64(q[j]) / 1000; math.Abs(got-want) > 0.00981*want {
				t.Errorf("%s: quantile %d is %v, want %v", route, j, got, want)
			}
		}
		if row.Max != float64(*most)/1000 {
			t.Errorf("%s: the longest is %v, want %v", route, row.Max, float64(*most)/1000)
		}
	}
}

// Unchanged traffic is rarely marked as changed, changed traffic is.
func TestCompareMarksMoreThanNoise(t *testing.T) {
	rng := rand.New(rand.NewPCG(27, 28))
	sample := func(n int, slower, failing float64) *tally {
		s := &tally{}
		for range n {
			r := countRow{status: 200, calls: 1, slowest: int64(2000 * slower * math.Exp(0.6*rng.NormFloat64())), counts: []uint64{1}}
			if rng.Float64() < failing {
				r.status = 500
			}
			r.buckets = []int16{bucketOf(r.slowest)}
			s.add(&r)
		}
		return s
	}
	hour := time.Hour
	w := window{time.Now().Add(-2 * hour), time.Now().Add(-hour)}
	marks := func(now, before *tally) []string {
		earlier := &tallies{groups: map[string]*tally{"x": before}}
		earlier.question.window = w
		row := now.row(argus.GroupByRoute, "x", 60)
		compare(&row, now, earlier, "x", hour)
		return row.Changed
	}
	marked := 0
	for range 600 {
		n := 1 + rng.IntN(2000)
		marked += len(marks(sample(n, 1, 0.02), sample(n+rng.IntN(1+n/20), 1, 0.02)))
	}
	if marked > 3 {
		t.Errorf("%d of 3000 figures were marked though nothing had changed", marked)
	}
	for _, c := range []struct {
		now, before *tally
		want        string
	}{
		{sample(2000, 1.5, 0.02), sample(2000, 1, 0.02), "[p50 p95 p99]"},
		{sample(2000, 1, 0.2), sample(2000, 1, 0.02), "[error_rate]"},
		{sample(12, 1, 1), sample(2000, 1, 0.001), "[rpm error_rate]"},
		{sample(4000, 1, 0), sample(1000, 1, 0), "[rpm]"},
		{&tally{}, sample(1000, 1, 0), "[rpm]"},
		{sample(1000, 1, 0), &tally{}, "[rpm]"},
		{sample(3, 5, 0), sample(3, 1, 0), "[]"},
		{sample(100_000, 1.02, 0.02), sample(100_000, 1, 0.02), "[]"},
	} {
		if got := fmt.Sprint(marks(c.now, c.before)); got != c.want {
			t.Errorf("%d and %d calls: %s, want %s", c.now.n, c.before.n, got, c.want)
		}
	}
}
