package analytics

import (
	"math"

	"github.com/useargus/argus"
)

// leastCalls is how many calls, of both sides together, a value has at least to depart.
const leastCalls = 5

// departure scores how a value of a dimension departs in the region (1) from the baseline (0). The score is what the counts
// bear out at the level of noise, so a value of few calls scores little however much it seems to depart. Calls come in
// bursts, so the variance of a share is taken to be four times as large, as changedRate does.
func departure(v *[2]*side, total [2]*side, withLatencies bool) (score float64, departs argus.Departure) {
	if v[0].calls+v[1].calls < leastCalls || total[0].calls == 0 || total[1].calls == 0 {
		return 0, ""
	}
	if d := leastDifference(v[1].calls, total[1].calls, v[0].calls, total[0].calls); d > 0 {
		score, departs = d, argus.DepartsMore
	} else if d < 0 {
		score, departs = -d, argus.DepartsLess
	}
	if withLatencies {
		f := leastFactor(&v[1].latencies, &v[0].latencies, &total[1].latencies, &total[0].latencies)
		if f > 1+leastChange && 1-1/f > score {
			score, departs = 1-1/f, argus.DepartsSlower
		}
		if f < 1/(1+leastChange) && 1-f > score {
			score, departs = 1-f, argus.DepartsFaster
		}
	}
	return score, departs
}

// leastDifference is the least difference between the shares k/n and l/m that the counts bear out: the end nearer to zero
// of the interval in which the true difference lies, and 0 when zero lies in it.
func leastDifference(k, n, l, m uint64) float64 {
	low, high := newcombe(k, n, l, m, noise, bursts)
	return max(0, low) + min(0, high)
}

// newcombe is the interval in which the true difference between the shares k/n and l/m lies: method 10 of Newcombe,
// "Interval estimation for the difference between independent proportions", Statistics in Medicine 17 (1998), 873–890. It is
// made of Wilson's intervals of both shares, which hold for few calls and for shares near 0 and 1. The level is z standard
// deviations. The variance is so many times as large as that of calls that come by themselves.
func newcombe(k, n, l, m uint64, z, variance float64) (low, high float64) {
	p, q := float64(k)/float64(n), float64(l)/float64(m)
	lowP, highP := wilson(p, float64(n)/variance, z)
	lowQ, highQ := wilson(q, float64(m)/variance, z)
	return p - q - math.Hypot(p-lowP, highQ-q), p - q + math.Hypot(highP-p, q-lowQ)
}

// wilson is the score interval of a share p seen in n calls: Wilson, "Probable inference, the law of succession, and
// statistical inference", Journal of the American Statistical Association 22 (1927), 209–212.
func wilson(p, n, z float64) (low, high float64) {
	middle := (p + z*z/(2*n)) / (1 + z*z/n)
	half := z / (1 + z*z/n) * math.Sqrt(p*(1-p)/n+z*z/(4*n*n))
	return middle - half, middle + half
}

// leastFactor is the least factor by which a value's latency grew beyond that of the other calls, as the counts bear it
// out: below 1 it shrank, and 1 is neither. It looks at p50, p95 and p99, each where both sides have calls enough for an
// interval, and takes the one that departs most. A slowdown that all calls share is no departure of any value.
func leastFactor(now, before, allNow, allBefore *latencies) float64 {
	most := 1.0
	if now.n == 0 || before.n == 0 || now.n == allNow.n || before.n == allBefore.n {
		return most
	}
	var others, othersBefore latencies
	for _, q := range []float64{0.5, 0.95, 0.99} {
		low, high, ok := quantileBounds(now, q)
		lowBefore, highBefore, okBefore := quantileBounds(before, q)
		if !ok || !okBefore {
			continue
		}
		if others.n == 0 {
			others, othersBefore = allNow.without(now), allBefore.without(before)
		}
		lowOthers, highOthers, ok := quantileBounds(&others, q)
		lowOthersBefore, highOthersBefore, okBefore := quantileBounds(&othersBefore, q)
		if !ok || !okBefore {
			continue
		}
		ratio := func(x, y float64) float64 { return max(x, 1) / max(y, 1) } // of microseconds
		if f := ratio(low, highBefore) / max(1, ratio(highOthers, lowOthersBefore)); f > max(most, 1/most) {
			most = f
		}
		if f := ratio(high, lowBefore) / min(1, ratio(lowOthers, highOthersBefore)); f < min(most, 1/most) {
			most = f
		}
	}
	return most
}

// without is the latencies but for some of them.
func (l *latencies) without(some *latencies) latencies {
	rest := latencies{first: l.first, counts: append([]uint64(nil), l.counts...), n: l.n - some.n, max: l.max}
	for i, n := range some.counts {
		if n > 0 {
			rest.counts[int(some.first)+i-int(l.first)] -= n
		}
	}
	return rest
}
