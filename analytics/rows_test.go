package analytics

import (
	"math/rand/v2"
	"testing"
	"time"

	"github.com/useargus/argus"
)

// Stretches are the window without gap or overlap, in the order of reading. Each costs a statement, so none begins in the
// future but where the window does.
func TestStretches(t *testing.T) {
	rng := rand.New(rand.NewPCG(7, 8))
	for range 20_000 {
		now := time.Date(2026, time.Month(1+rng.IntN(12)), 1+rng.IntN(28), rng.IntN(24), 0, 0, 0, time.UTC)
		some := func() time.Time { return now.Add(time.Duration((rng.Float64()*1.1 - 1) * float64(argus.Retention))) }
		q := rowsQuery{window: window{since: some()}, ascending: rng.IntN(2) == 0}
		if rng.IntN(2) == 0 {
			q.window.until = q.window.since.Add(time.Duration(rng.Float64() * float64(argus.Retention)))
		}
		if rng.IntN(2) == 0 {
			q.after = &argus.RowKey{OccurredAt: some()}
		}
		begin, stretches := q.window.since, q.stretches(now)
		if q.after != nil && q.ascending && q.after.OccurredAt.After(begin) {
			begin = q.after.OccurredAt
		}
		last := len(stretches) - 1
		for i := range stretches {
			s := stretches[i]
			if !q.ascending {
				s = stretches[last-i]
			}
			if !s.since.Equal(begin) || i > 0 && s.since.After(now) {
				t.Fatalf("at %s the window %v has stretches %v", now, q.window, stretches)
			}
			begin = s.until
		}
		if !begin.Equal(q.window.until) {
			t.Fatalf("at %s the window %v ends at %s", now, q.window, begin)
		}
	}
}
