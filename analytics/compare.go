package analytics

import (
	"math"
	"time"

	"github.com/useargus/argus"
)

// A difference from the window before is marked only when it is more than noise. At this level one unchanged figure
// in ten thousand is marked (z = 3.9, two-sided). A table of 240 routes has some twelve hundred figures, and people
// soon overlook marks that are usually chance. What was measured must also matter: a difference of less than 5 % of a
// latency or a rate is not marked however sure it is.
const (
	noise        = 3.9
	leastChange  = 0.05
	leastFailing = 0.001 // of an error rate: a tenth of a percentage point
	bursts       = 4     // how much larger the variance of counts is than of calls that come by themselves
)

// compare fills Before and Changed of the group's row.
func compare(row *argus.PerfRow, now *tally, earlier *tallies, name string, length time.Duration) {
	before := earlier.groups[name]
	if before == nil {
		before = &tally{}
	}
	lengthBefore := earlier.question.window.until.Sub(earlier.question.window.since)
	b := before.row(row.GroupBy, name, lengthBefore.Minutes())
	row.Before = &b
	if lengthBefore <= 0 {
		return // past retention: there is nothing to compare with
	}
	if changedRate(float64(now.n), length.Minutes(), float64(before.n), lengthBefore.Minutes()) {
		row.Changed = append(row.Changed, "rpm")
	}
	if changedShare(now.errors, now.n, before.errors, before.n) {
		row.Changed = append(row.Changed, "error_rate")
	}
	for _, q := range []struct {
		name string
		q    float64
	}{{"p50", 0.5}, {"p95", 0.95}, {"p99", 0.99}} {
		if changedQuantile(&now.latencies, &before.latencies, q.q) {
			row.Changed = append(row.Changed, q.name)
		}
	}
}

// changedRate compares two counts over so many minutes, taken for Poisson's: given their sum, the one is binomial.
// Calls come in bursts, by which counts vary more than that.
func changedRate(n, minutes, before, minutesBefore float64) bool {
	total := n + before
	if total == 0 {
		return false
	}
	share := minutes / (minutes + minutesBefore)
	z := (n - total*share) / math.Sqrt(bursts*total*share*(1-share))
	return math.Abs(z) > noise && differ(n/minutes, before/minutesBefore)
}

// changedShare compares two shares: by the z-test of two proportions, or, where too few cases are expected for it,
// by Fisher's exact test.
func changedShare(k, n, before, nBefore uint64) bool {
	if n == 0 || nBefore == 0 {
		return false
	}
	p, q := float64(k)/float64(n), float64(before)/float64(nBefore)
	if math.Abs(p-q) < leastFailing {
		return false
	}
	if n > nBefore {
		k, n, before, nBefore = before, nBefore, k, n
	}
	pooled := float64(k+before) / float64(n+nBefore)
	if pooled*float64(n) < 5 || (1-pooled)*float64(n) < 5 {
		return unlikely(int64(k), int64(n), int64(k+before), int64(n+nBefore))
	}
	spread := math.Sqrt(pooled * (1 - pooled) * (1/float64(n) + 1/float64(nBefore)))
	return math.Abs(p-q)/spread > noise
}

// unlikely draws n calls from total, of which cases are such. It reports whether k or more such calls, or k or fewer,
// are rarer than a difference of noise standard deviations.
func unlikely(k, n, cases, total int64) bool {
	level := math.Erfc(noise/math.Sqrt2) / 2
	least, most := max(0, n-(total-cases)), min(n, cases)
	tail := func(from, to, step int64) bool {
		sum := 0.0
		for x := from; x != to+step; x += step {
			p := math.Exp(choose(cases, x) + choose(total-cases, n-x) - choose(total, n))
			if sum += p; sum > level {
				return false
			}
		}
		return true
	}
	return tail(k, most, 1) || tail(k, least, -1)
}

// choose is the logarithm of n over k.
func choose(n, k int64) float64 {
	a, _ := math.Lgamma(float64(n + 1))
	b, _ := math.Lgamma(float64(k + 1))
	c, _ := math.Lgamma(float64(n - k + 1))
	return a - b - c
}

// changedQuantile reports whether the intervals in which the true quantiles lie are apart. They are given by order
// statistics, which holds for any distribution: the rank of the q-quantile among n is binomial.
func changedQuantile(now, before *latencies, q float64) bool {
	lo, hi, ok := quantileBounds(now, q)
	loBefore, hiBefore, okBefore := quantileBounds(before, q)
	if !ok || !okBefore {
		return false
	}
	return (lo > hiBefore || hi < loBefore) && differ(now.quantile(q), before.quantile(q))
}

// quantileBounds is the interval; ok is false when there are too few calls for one. Two such intervals that do not
// overlap differ by more than the noise of both together, so each may be narrower by √2.
func quantileBounds(l *latencies, q float64) (lo, hi float64, ok bool) {
	n := float64(l.n)
	spread := noise / math.Sqrt2 * math.Sqrt(n*q*(1-q))
	first, last := math.Floor(n*q-spread), math.Ceil(n*q+spread)+1
	if first < 1 || last > n {
		return 0, 0, false
	}
	return l.at(uint64(first)), l.at(uint64(last)), true
}

// differ reports whether two figures are far enough apart to matter.
func differ(x, y float64) bool { return math.Abs(x-y) > leastChange*min(math.Abs(x), math.Abs(y)) }
