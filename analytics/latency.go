package analytics

import (
	"math"
	"slices"
)

// Latencies are counted by logarithmic bucket: x µs in floor(51 · ln x + ½). Counts of the same buckets add up
// exactly across minutes, days and stores. So a quantile is the element of rank ⌈q·n⌉, but for its place within the
// bucket. A bucket reaches from e^((b-½)/51) to e^((b+½)/51), a factor of 1.0198. It is shown as 2·lo·hi/(lo+hi),
// which is off by less than 0.981 % of any latency in it. Small values have buckets of their own and are exact, and
// so is the maximum, which is kept beside.
const (
	bucketsPerE       = 51
	bucketZero        = -1 // 0 µs
	bucketInterrupted = -2 // no latency
	bucketClass       = -10
)

// anyStatus is that of rows that count calls of all statuses. Their buckets also tell how many calls there were of which
// class of status: those of 4xx are in bucketClass-4, the interrupted ones in bucketClass.
const anyStatus = -1

// The bucket of a row, in either store's SQL.
const (
	clickhouseBucket = "multiIf(isNull(latency_us), -2, latency_us > 0, toInt16(floor(51 * log(latency_us) + 0.5)), -1)"
	postgresBucket   = "CASE WHEN latency_us IS NULL THEN -2 WHEN latency_us > 0 THEN floor(51 * ln(latency_us::float8) + 0.5)::int ELSE -1 END"
)

// bucketOf is the bucket of a latency in microseconds.
func bucketOf(us int64) int16 {
	if us <= 0 {
		return bucketZero
	}
	return int16(math.Floor(bucketsPerE*math.Log(float64(us)) + 0.5))
}

// bucketMiddle is what a latency in the bucket is shown as, in microseconds.
func bucketMiddle(b int16) float64 {
	if b < 0 {
		return 0
	}
	lo := math.Ceil(math.Exp((float64(b) - 0.5) / bucketsPerE))
	hi := math.Ceil(math.Exp((float64(b)+0.5)/bucketsPerE)) - 1
	if lo > hi { // no whole number lies in it
		return math.Exp(float64(b) / bucketsPerE)
	}
	return 2 * lo * hi / (lo + hi)
}

// latencies is how many calls took how long.
type latencies struct {
	first  int16    // bucket of counts[0]
	counts []uint64 // from the least bucket seen to the greatest, and some room
	n      uint64
	max    int64 // µs, exact

	exact []int64 // µs: the quantiles of quantileLevels, in the place of counts
}

// quantileLevels are the quantiles that are shown.
var quantileLevels = []float64{0.5, 0.95, 0.99}

// add counts n calls in the bucket.
func (l *latencies) add(b int16, n uint64) {
	const room = 24
	l.n += n
	if len(l.counts) == 0 {
		l.first, l.counts = b, make([]uint64, 1, room)
	}
	i := int(b) - int(l.first)
	switch {
	case i < 0:
		grown := make([]uint64, len(l.counts)-i+room)
		copy(grown[room-i:], l.counts)
		l.first, l.counts = b-room, grown
		i = room
	case i >= len(l.counts):
		l.counts = append(l.counts, make([]uint64, i+1-len(l.counts))...)
	}
	l.counts[i] += n
}

// addRow counts the calls of a row by bucket. What its buckets tell beside latencies it gives to other. A year has 800,000 buckets,
// so most are counted without a call.
func (l *latencies) addRow(r *countRow, other func(bucket int16, n uint64)) {
	for i, b := range r.buckets {
		n := uint64(1)
		if len(r.counts) > 0 {
			n = r.counts[i]
		}
		switch at := int(b) - int(l.first); {
		case b < bucketZero:
			other(b, n)
		case at >= 0 && at < len(l.counts):
			l.counts[at] += n
			l.n += n
		default:
			l.add(b, n)
		}
	}
	for _, us := range r.micros {
		l.add(bucketOf(us), 1)
	}
}

// rank is the rank of the q-quantile: ⌈q·n⌉, counted from 1, as percentile_disc has it.
func (l *latencies) rank(q float64) uint64 {
	return max(1, uint64(math.Ceil(q*float64(l.n))))
}

// bucket is that of the call of the rank; there must be one.
func (l *latencies) bucket(rank uint64) int16 {
	for i, n := range l.counts {
		if n >= rank {
			return l.first + int16(i)
		}
		rank -= n
	}
	return l.first + int16(len(l.counts))
}

// at is the latency of the rank, in microseconds; NaN without a call.
func (l *latencies) at(rank uint64) float64 {
	if l.n == 0 {
		return math.NaN()
	}
	for i, n := range l.counts {
		if n >= rank {
			return min(bucketMiddle(l.first+int16(i)), float64(l.max))
		}
		rank -= n
	}
	return float64(l.max)
}

// quantile is in microseconds.
func (l *latencies) quantile(q float64) float64 {
	if i := slices.Index(quantileLevels, q); l.n > 0 && l.exact != nil && i >= 0 {
		return float64(l.exact[i])
	}
	return l.at(l.rank(q))
}
