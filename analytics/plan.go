package analytics

import "math"

// What counting costs ClickHouse, measured in rows of the audit log that are read one by one: 75 ns each with a latency, on
// two processors. Such a row is the unit because it is what a plan without rollups pays.
const (
	defaultFewRows = 30_000 // to plan one more statement
	shortRowCost   = 0.8    // of a table of hours: one latency bucket of a route in a minute or an hour
	longRowCost    = 8      // of a table of days: one route in a day, an octet or a month
	longListCost   = 0.3    // for each latency bucket in such a row
	countedCost    = 0.3    // of a row whose latency is not asked for
	quantileCost   = 0.4    // of a row of whose latencies ClickHouse gives the quantiles, see rawLists
	// How many rows a bucket has when its calls are many.
	shortKeys, longKeys, longLists = 10_000, 800, 36_000
	rawHours                       = 31 * 24 // beyond, the calls of the last day say too little of how many rows there are
)

// divide divides the question's window between the rollup, which may be nil, and the rows.
func (a *Analytics) divide(q *countQuestion, r *rollup, dirty dirtyTime, hourly float64) (pieces []piece, raw []interval) {
	if r == nil {
		return nil, []interval{{q.window.since, q.window.until}}
	}
	clean, raw := dirty.split(q.window)
	pieces, edges := a.planFor(q, r, clean, raw, hourly)
	if len(pieces) == 0 {
		return nil, []interval{{q.window.since, q.window.until}}
	}
	return pieces, append(raw, edges...)
}

// planFor divides the clean intervals between the rollup and the rows, as it costs least: with the rollup's grains, without
// the finest of them, or with none. dirty intervals are counted by rows anyhow. It is an estimate, from how many calls an
// hour the last day had. A wrong one costs time, and no exactness.
func (a *Analytics) planFor(q *countQuestion, r *rollup, clean, dirty []interval, hourly float64) (pieces []piece, edges []interval) {
	grains := r.grainsWithin(q)
	if a.config.fewRows < 0 || math.IsInf(hourly, 1) {
		return coverAll(clean, grains)
	}
	least := math.Inf(1)
	for i := range len(grains) + 1 {
		p, e := coverAll(clean, grains[i:])
		if i == len(grains) && a.hours(clean)+a.hours(dirty) > rawHours {
			break
		}
		if cost := a.cost(q, p, a.hours(e)+a.hours(dirty), hourly); cost < least {
			least, pieces, edges = cost, p, e
		}
	}
	return pieces, edges
}

// cost is that of the statements for the pieces and for so many hours of rows.
func (a *Analytics) cost(q *countQuestion, pieces []piece, rawHours, hourly float64) float64 {
	row, short, long := 1.0, 0.0, 0.0
	switch {
	case !q.latencies:
		row = countedCost
	case q.quantiles && len(pieces) == 0:
		row = quantileCost
	}
	for _, p := range pieces {
		hours := p.to.Sub(p.from).Hours()
		each := map[grain]float64{grainMinute: 1.0 / 60, grainHour: 1, grainDay: 24, grainOctet: 8 * 24, grainMonth: 30 * 24}[p.grain]
		calls := hourly * each // of one bucket
		if p.grain < grainDay {
			short += hours / each * min(calls, shortKeys) * shortRowCost
			continue
		}
		bucket := min(calls, longKeys) * longRowCost
		if q.latencies {
			bucket += min(calls, longLists) * longListCost
		}
		long += hours / each * bucket
	}
	statements := 0.0
	for _, part := range []float64{short, long, rawHours} {
		if part > 0 {
			statements++
		}
	}
	return statements*float64(a.config.fewRows) + hourly*rawHours*row + short*row + long
}

// coverAll covers each of the intervals.
func coverAll(in []interval, grains []grain) (pieces []piece, edges []interval) {
	for _, i := range in {
		p, e := cover(i, grains)
		pieces, edges = append(pieces, p...), append(edges, e...)
	}
	return pieces, edges
}

// hours is how long the intervals are together. One that is open ends now.
func (a *Analytics) hours(in []interval) (hours float64) {
	for _, in := range in {
		if in.to.IsZero() {
			in.to = a.config.now()
		}
		hours += max(0, in.to.Sub(in.from).Hours())
	}
	return hours
}
