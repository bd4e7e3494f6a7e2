package analytics

import (
	"slices"
	"time"
)

// grain is the length of a rollup's buckets.
type grain int8

const (
	grainMinute grain = iota + 1
	grainHour
	grainDay
	grainOctet // from day 1, 9, 17 or 25 of a month to the next of these
	grainMonth
)

func (g grain) String() string {
	return [...]string{"", "minute", "hour", "day", "octet", "month"}[g]
}

// floor is the beginning of the bucket that t is in.
func (g grain) floor(t time.Time) time.Time {
	t = t.UTC()
	switch g {
	case grainMinute:
		return t.Truncate(time.Minute)
	case grainHour:
		return t.Truncate(time.Hour)
	case grainDay:
		return t.Truncate(24 * time.Hour)
	case grainOctet:
		return time.Date(t.Year(), t.Month(), 1+(t.Day()-1)/8*8, 0, 0, 0, 0, time.UTC)
	}
	return time.Date(t.Year(), t.Month(), 1, 0, 0, 0, 0, time.UTC)
}

// next is the beginning of the bucket behind the one that begins at t.
func (g grain) next(t time.Time) time.Time {
	switch g {
	case grainMinute:
		return t.Add(time.Minute)
	case grainHour:
		return t.Add(time.Hour)
	case grainDay:
		return t.AddDate(0, 0, 1)
	case grainOctet:
		if t.Day() < 25 {
			return t.AddDate(0, 0, 8)
		}
	}
	return time.Date(t.Year(), t.Month()+1, 1, 0, 0, 0, 0, time.UTC)
}

// ceil is the beginning of the first bucket that does not begin before t.
func (g grain) ceil(t time.Time) time.Time {
	f := g.floor(t)
	if f.Equal(t) {
		return f
	}
	return g.next(f)
}

// interval is from inclusive, to exclusive; a zero to is open.
type interval struct{ from, to time.Time }

// piece is an interval made of whole buckets of a grain.
type piece struct {
	grain grain
	interval
}

// cover divides an interval into whole buckets, the longest that fit, and what is left at the edges. grains ascend.
func cover(in interval, grains []grain) (pieces []piece, edges []interval) {
	if !in.from.Before(in.to) {
		return nil, nil
	}
	if len(grains) == 0 {
		return nil, []interval{in}
	}
	g, finer := grains[len(grains)-1], grains[:len(grains)-1]
	from, to := g.ceil(in.from), g.floor(in.to)
	if !from.Before(to) {
		return cover(in, finer)
	}
	pieces = append(pieces, piece{g, interval{from, to}})
	for _, rest := range []interval{{in.from, from}, {to, in.to}} {
		p, e := cover(rest, finer)
		pieces, edges = append(pieces, p...), append(edges, e...)
	}
	return pieces, edges
}

// maxDirty is how many intervals are kept apart; beyond, neighbours are joined over the clean time between them.
const maxDirty = 40

// dirtyTime is the time in which rollups may hold rows that must not be counted, or not yet those that must.
type dirtyTime struct {
	minutes []time.Time
	from    time.Time // everything since then
}

// split divides a window into the intervals that rollups may answer and those that they may not.
func (d dirtyTime) split(w window) (clean, dirty []interval) {
	end := d.from
	if !w.until.IsZero() && w.until.Before(end) {
		end = w.until
	}
	minutes := slices.Clone(d.minutes)
	slices.SortFunc(minutes, time.Time.Compare)
	for _, m := range minutes {
		in := interval{m, m.Add(time.Minute)}
		if in.from.Before(w.since) {
			in.from = w.since
		}
		if in.to.After(end) {
			in.to = end
		}
		if !in.from.Before(in.to) {
			continue
		}
		if n := len(dirty); n > 0 && !dirty[n-1].to.Before(in.from) {
			dirty[n-1].to = in.to
			continue
		}
		dirty = append(dirty, in)
	}
	for len(dirty) > maxDirty {
		// Join the two with the least time between them.
		least := 1
		for i := 2; i < len(dirty); i++ {
			if dirty[i].from.Sub(dirty[i-1].to) < dirty[least].from.Sub(dirty[least-1].to) {
				least = i
			}
		}
		dirty[least-1].to = dirty[least].to
		dirty = slices.Delete(dirty, least, least+1)
	}
	at := w.since
	for _, in := range dirty {
		if at.Before(in.from) {
			clean = append(clean, interval{at, in.from})
		}
		at = in.to
	}
	if at.Before(end) {
		clean = append(clean, interval{at, end})
		at = end
	}
	if w.until.IsZero() || at.Before(w.until) {
		dirty = append(dirty, interval{at, w.until})
	}
	return clean, dirty
}

// gapless reports whether the beginnings of buckets, all of one grain, have none missing between them.
func gapless(starts []time.Time, g grain) bool {
	for i := 1; i < len(starts); i++ {
		if !g.next(starts[i-1]).Equal(starts[i]) {
			return false
		}
	}
	return true
}
