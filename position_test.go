package argus

import (
	"math"
	"testing"

	"pgregory.net/rapid"
)

// positions draws positions over few writers, so that they meet.
func positions() *rapid.Generator[Position] {
	return rapid.Custom(func(t *rapid.T) Position {
		return Position{
			ClosedThrough: rapid.Int64Range(0, 8).Draw(t, "closed through"),
			Writers:       rapid.MapOf(rapid.Int64Range(1, 9), rapid.Int64Range(0, 4)).Draw(t, "writers"),
		}
	})
}

// TestPositionAlgebra holds Through, Covers and Union against what they mean: sets of rows.
func TestPositionAlgebra(t *testing.T) {
	const writers, rows = 10, 6 // beyond what positions draws: closed writers have rows after their last one listed
	rapid.Check(t, func(t *rapid.T) {
		p, q := positions().Draw(t, "p"), positions().Draw(t, "q")
		before := p.String() + q.String()
		u := p.Union(q)
		covered := true
		for w := int64(1); w <= writers; w++ {
			through := int64(0)
			for seq := int64(1); seq <= rows; seq++ {
				inP, inQ := p.Contains(w, seq), q.Contains(w, seq)
				if u.Contains(w, seq) != (inP || inQ) {
					t.Fatalf("%v ∪ %v = %v, wrong about row %d of writer %d", p, q, u, seq, w)
				}
				covered = covered && (inP || !inQ)
				if inP {
					through = seq
				}
			}
			if through == rows {
				through = math.MaxInt64
			}
			if got := p.Through(w); got != through {
				t.Fatalf("%v holds writer %d through %d, want %d", p, w, got, through)
			}
		}
		if got := p.Covers(q); got != covered {
			t.Fatalf("%v covers %v: %t, want %t", p, q, got, covered)
		}
		if !u.Covers(p) || !u.Covers(q) || !p.Covers(p) {
			t.Fatalf("%v ∪ %v = %v does not cover them", p, q, u)
		}
		if after := p.String() + q.String(); after != before {
			t.Fatalf("positions changed: %s, then %s", before, after)
		}
	})
}
