package analytics

import (
	"math"

	"github.com/useargus/argus"
)

// What a start must reach to be told, besides being no chance.
const (
	leastSlow    = 0.10 // share of calls slower than the p95 of the window before, of which 5 % are by definition
	leastErrors  = 0.01 // growth of the share of 5xx answers
	leastHistory = 20   // calls of the window before
)

// startOf is the bucket from which on a group's calls were slower or failed more: the one where the two sides of a split
// explain the calls best. Buckets are those of the window before, and then those of the window. by is "" without a start.
//
// It is the change point of a sequence of binomial variables, by maximum likelihood: Hinkley and Hinkley, "Inference about
// the change-point in a sequence of binomial variables", Biometrika 57 (1970), 477–488. A call is a case when it took longer
// than the p95 of the window before, and in another run when it was answered 5xx. Only a growth is looked for. The start is
// told when the likelihood is larger than chance makes it at the level of noise, of any of so many splits (Bonferroni). Calls
// come in bursts, as departure says.
func startOf(before, now []*tally) (at int, by argus.StartedBy) {
	all := make([]*tally, 0, len(before)+len(now))
	all = append(append(all, before...), now...)
	var history latencies
	for _, t := range before {
		for i, n := range t.counts {
			if n > 0 {
				history.add(t.first+int16(i), n)
			}
		}
	}
	calls, errors := make([]float64, len(all)), make([]float64, len(all))
	for i, t := range all {
		calls[i], errors[i] = float64(t.n), float64(t.errors)
	}
	if history.n < leastHistory {
		return 0, ""
	}
	slow := make([]float64, len(all))
	bound := history.bucket(history.rank(0.95))
	for i, t := range all {
		for j, n := range t.counts {
			if t.first+int16(j) > bound {
				slow[i] += float64(n)
			}
		}
	}
	most := (noise*noise)/2 + math.Log(float64(len(all)))
	for _, c := range []struct {
		by    argus.StartedBy
		cases []float64
		told  func(before, after float64) bool
	}{
		{argus.StartedLatency, slow, func(_, after float64) bool { return after >= leastSlow }},
		{argus.StartedErrors, errors, func(before, after float64) bool { return after-before >= leastErrors }},
	} {
		i, gain, shareBefore, shareAfter := changePoint(calls, c.cases)
		if gain/bursts > most && c.told(shareBefore, shareAfter) {
			most, at, by = gain/bursts, i, c.by
		}
	}
	return at, by
}

// changePoint is the split before which cases were rarer than from it on that explains them best, and by how much better
// than no split: the logarithm of the ratio of the likelihoods.
func changePoint(calls, cases []float64) (at int, gain, shareBefore, shareAfter float64) {
	var n, k float64
	for i := range calls {
		n, k = n+calls[i], k+cases[i]
	}
	likelihood := func(k, n float64) float64 {
		if k <= 0 || k >= n {
			return 0
		}
		return k*math.Log(k/n) + (n-k)*math.Log(1-k/n)
	}
	none := likelihood(k, n)
	var m, j float64 // before the split
	for i := 1; i < len(calls); i++ {
		m, j = m+calls[i-1], j+cases[i-1]
		if m == 0 || m == n || (k-j)/(n-m) <= j/m {
			continue
		}
		if g := likelihood(j, m) + likelihood(k-j, n-m) - none; g > gain {
			at, gain, shareBefore, shareAfter = i, g, j/m, (k-j)/(n-m)
		}
	}
	return at, gain, shareBefore, shareAfter
}
