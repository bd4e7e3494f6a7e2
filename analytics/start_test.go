package analytics

import (
	"math/rand/v2"
	"testing"

	"github.com/useargus/argus"
)

// bucketsOf are tallies of so many buckets: of each about 40 calls, of which slow(i) take four times as long and failed(i) fail.
func bucketsOf(rng *rand.Rand, n, from int, slow, failed func(i int) float64) []*tally {
	out := make([]*tally, n)
	for i := range out {
		t := &tally{}
		calls := rng.IntN(80)
		for range calls {
			us := 8000 + rng.Int64N(4000)
			if rng.Float64() < slow(from+i) {
				us *= 4
			}
			t.latencies.add(bucketOf(us), 1)
			if rng.Float64() < failed(from+i) {
				t.errors++
			}
		}
		out[i] = t
	}
	return out
}

// A regression's start is found within two buckets, whether it lasts or is over, and an incident's by its errors. Where nothing
// changed, got faster, or there is no history, no start is told.
func TestStart(t *testing.T) {
	never := func(int) float64 { return 0.02 }
	from := func(first, last int, share float64) func(int) float64 {
		return func(i int) float64 {
			if i >= first && i < last {
				return share
			}
			return 0.02
		}
	}
	for what, c := range map[string]struct {
		slow, failed func(int) float64
		at           int
		by           argus.StartedBy
	}{
		"lasts": {from(90, 120, 1), never, 90, argus.StartedLatency}, "for some": {from(75, 120, 0.3), never, 75, argus.StartedLatency},
		"is over": {from(80, 95, 1), never, 80, argus.StartedLatency}, "fails": {never, from(100, 120, 0.5), 100, argus.StartedErrors},
		"fails more than it is slow":   {from(110, 120, 0.3), from(66, 120, 0.9), 66, argus.StartedErrors},
		"before the window":            {from(50, 120, 1), never, 50, argus.StartedLatency},
		"fails early, and again later": {never, func(i int) float64 { return max(from(0, 5, 1)(i), from(100, 120, 0.25)(i)) }, 100, argus.StartedErrors},
		"faster":                       {from(0, 60, 0.5), never, 0, ""}, "nothing": {never, never, 0, ""},
	} {
		for seed := range uint64(25) {
			rng := rand.New(rand.NewPCG(seed, 91))
			before, now := bucketsOf(rng, 60, 0, c.slow, c.failed), bucketsOf(rng, 60, 60, c.slow, c.failed)
			if at, by := startOf(before, now); by != c.by || max(at-c.at, c.at-at) > 2 {
				t.Errorf("%s, %d: at %d by %q, want %d by %q", what, seed, at, by, c.at, c.by)
			}
			if at, by := startOf(bucketsOf(rng, 60, 0, c.slow, c.failed)[:0], now); by != "" {
				t.Errorf("%s, %d: without history at %d by %q", what, seed, at, by)
			}
		}
	}
	// Two calls of each bucket, now and then a slow one: chance.
	for seed := range uint64(200) {
		rng := rand.New(rand.NewPCG(seed, 92))
		thin := func() []*tally {
			out := make([]*tally, 60)
			for i := range out {
				out[i] = &tally{}
				for range rng.IntN(3) {
					out[i].latencies.add(bucketOf(1000+rng.Int64N(9)*rng.Int64N(90_000)), 1)
				}
			}
			return out
		}
		if at, by := startOf(thin(), thin()); by != "" {
			t.Errorf("thin, %d: at %d by %q", seed, at, by)
		}
	}
	// Many calls make a growth sure that is too small to be told.
	steady := func(errors, slow uint64) []*tally {
		out := make([]*tally, 60)
		for i := range out {
			out[i] = &tally{errors: errors}
			out[i].latencies.add(bucketOf(9000), 1000-slow)
			out[i].latencies.add(bucketOf(90_000), slow)
		}
		return out
	}
	if at, by := startOf(steady(0, 0), steady(5, 0)); by != "" {
		t.Errorf("half a percent of errors: at %d by %q", at, by)
	}
	if at, by := startOf(steady(0, 0), steady(20, 0)); by != argus.StartedErrors || at != 60 {
		t.Errorf("two percent of errors: at %d by %q", at, by)
	}
	if at, by := startOf(steady(0, 30), steady(0, 80)); by != "" {
		t.Errorf("eight percent of slow calls: at %d by %q", at, by)
	}
	if at, by := startOf(steady(0, 30), steady(0, 150)); by != argus.StartedLatency || at != 60 {
		t.Errorf("fifteen percent of slow calls: at %d by %q", at, by)
	}
	// Calls that fail together are one event: bursts of them are chance.
	for seed := range uint64(100) {
		rng := rand.New(rand.NewPCG(seed, 93))
		burst := func() []*tally {
			out := make([]*tally, 60)
			for i := range out {
				out[i] = &tally{}
				for range 6 {
					out[i].latencies.add(bucketOf(9000), 4)
					if rng.Float64() < 0.03 {
						out[i].errors += 4
					}
				}
			}
			return out
		}
		if at, by := startOf(burst(), burst()); by != "" {
			t.Errorf("bursts, %d: at %d by %q", seed, at, by)
		}
	}
}
