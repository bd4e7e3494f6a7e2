package ledger

import "time"

// During a burst the machine is the writers'. While more rows than burstRate come in a second, the sealer seals no more
// than cappedRate. That ends when the oldest waiting row is cappedAge old.
const (
	burstRate  = 30_000
	cappedRate = 20_000
	cappedAge  = 10 * time.Second
)

// pace decides how many rows a round seals. Of the goroutine that seals.
type pace struct {
	seen    []reading // oldest first
	written int64     // rows that were seen to come
	waiting int64     // of those, the ones without a leaf
	age     time.Duration
}

// reading is how many rows had come at a time.
type reading struct {
	at      time.Time
	written int64
}

// limit takes note of the rows that wait now and says how many the round may seal.
func (p *pace) limit(waiting int64, now time.Time, interval time.Duration) int64 {
	if p.seen == nil {
		p.waiting = waiting // what waits at the start has come long ago
	}
	p.written += max(waiting-p.waiting, 0)
	p.waiting = waiting
	p.seen = append(p.seen, reading{now, p.written})
	// How long the oldest of those that wait has waited: since the first reading that showed it.
	sealed := p.written - waiting
	for len(p.seen) > 2 && p.seen[1].written <= sealed && now.Sub(p.seen[1].at) > time.Second {
		p.seen = p.seen[1:]
	}
	p.age = 0
	for _, r := range p.seen {
		if r.written > sealed {
			p.age = now.Sub(r.at)
			break
		}
	}
	// The rate is of the last second or so.
	since := p.seen[0]
	for _, r := range p.seen {
		if now.Sub(r.at) < time.Second {
			break
		}
		since = r
	}
	span := now.Sub(since.at)
	if span < time.Second/2 || p.age >= cappedAge || float64(p.written-since.written) <= burstRate*span.Seconds() {
		return maxRound
	}
	return int64(cappedRate * interval.Seconds())
}

// sealed takes note of what a round has sealed.
func (p *pace) sealed(rows int64) { p.waiting -= rows }
