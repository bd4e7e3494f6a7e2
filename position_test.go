package argus

import (
	"math"
	"math/rand/v2"
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

// TestOfShards: what servers hold together is what each holds of its own writers, and nothing of a writer that one of them has
// not seen yet.
func TestOfShards(t *testing.T) {
	rng := rand.New(rand.NewPCG(81, 82))
	for range 2000 {
		n := int64(1 + rng.IntN(4))
		const writers = 12
		rows := map[int64]int64{} // of each writer, all closed
		shards := make([]Position, n)
		for w := int64(1); w <= writers; w++ {
			rows[w] = rng.Int64N(4)
		}
		held := map[int64]int64{}
		for i := range shards {
			shards[i] = Position{ClosedThrough: rng.Int64N(writers + 1), Writers: map[int64]int64{}}
		}
		for w := int64(1); w <= writers; w++ {
			p := shards[w%n]
			switch {
			case w > p.ClosedThrough && rng.IntN(2) == 0: // not seen yet
			case rng.IntN(2) == 0:
				held[w] = rng.Int64N(rows[w] + 1)
				p.Writers[w] = held[w]
			case w <= p.ClosedThrough:
				held[w] = rows[w]
			}
		}
		all := OfShards(shards...)
		for w := int64(1); w <= writers; w++ {
			for seq := int64(1); seq <= rows[w]; seq++ {
				_, listed := all.Writers[w]
				complete := !listed && w <= all.ClosedThrough
				if got := all.Contains(w, seq); got && seq > held[w] {
					t.Fatalf("%v together promise row %d of writer %d", shards, seq, w)
				} else if !got && seq <= held[w] && (listed || complete) {
					t.Fatalf("%v together lack row %d of writer %d", shards, seq, w)
				}
			}
		}
	}
}
