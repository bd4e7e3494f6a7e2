package main

import (
	"container/heap"
	"math/rand/v2"
	"slices"
	"time"
)

// measuredRow is what one more row costs a batch: the inverse of the rows a second that `make bench` measures. It measures
// 68 000 with 256 callers on two cores, Postgres beside it. There rows and not commits are the bound.
const measuredRow = time.Second / 68_000

// patience and maxRows are the writer's (writer/queue.go, writer/config.go); a test compares them.
const (
	patience = 25 * time.Millisecond
	maxRows  = 1024
	queue    = 8192
)

// Config is one API process and its Postgres.
type Config struct {
	Rate   float64       // calls a second, independent of each other (Poisson)
	Lanes  int           // batches on their way at once
	Commit time.Duration // of an empty batch: round trip, flush of the log, synchronous standbys
	Row    time.Duration // one more row; rows of all lanes share the one machine that this was measured on
	Rows   int           // calls to simulate
	Seed   uint64
}

// Result is what callers see.
type Result struct {
	Throughput float64 // rows a second
	Batch      float64 // rows, mean
	Commits    float64 // a second
	P50, P99   time.Duration
	Behind     bool // the queue overran: calls failed
}

// Simulate runs the writer's rule. An idle lane takes the waiting rows when they are at least as many as are on their way, or
// when the first has waited for patience. A lane that lands takes on. Time is the simulation's own, so it takes no time.
func Simulate(c Config) Result {
	rng := rand.New(rand.NewPCG(c.Seed, 0x7363616c65))
	var (
		arrivals = make([]float64, 0, c.Rows) // seconds, in order
		waits    = make([]time.Duration, 0, c.Rows)
		now      float64
		head     int // arrivals before it were taken
		idle     = c.Lanes
		flying   int
		landings lands
		cpuFree  float64 // when the machine has worked off the rows given to it
		commits  int
		behind   bool
	)
	for range c.Rows {
		now += rng.ExpFloat64() / c.Rate
		arrivals = append(arrivals, now)
	}
	tail := 0 // arrivals before it have come
	now = 0
	for len(waits) < c.Rows {
		// What happens next: an arrival, a landing, or the end of a patience.
		next := 1e300
		if tail < c.Rows {
			next = arrivals[tail]
		}
		if len(landings) > 0 {
			next = min(next, landings[0].at)
		}
		if idle > 0 && head < tail {
			next = min(next, max(now, arrivals[head]+patience.Seconds()))
		}
		now = next
		for tail < c.Rows && arrivals[tail] <= now {
			tail++
		}
		for len(landings) > 0 && landings[0].at <= now {
			l := heap.Pop(&landings).(landing)
			idle++
			flying -= l.to - l.from
			for _, came := range arrivals[l.from:l.to] {
				waits = append(waits, time.Duration((now-came)*float64(time.Second)))
			}
		}
		behind = behind || tail-head > queue
		for idle > 0 && head < tail && (tail-head >= flying || now >= arrivals[head]+patience.Seconds()) {
			to := min(tail, head+maxRows)
			cpuFree = max(cpuFree, now) + float64(to-head)*c.Row.Seconds()
			heap.Push(&landings, landing{cpuFree + c.Commit.Seconds(), head, to})
			flying += to - head
			head = to
			idle--
			commits++
		}
	}
	slices.Sort(waits)
	return Result{
		Throughput: float64(c.Rows) / now, Batch: float64(c.Rows) / float64(commits), Commits: float64(commits) / now,
		P50: waits[len(waits)/2], P99: waits[len(waits)*99/100], Behind: behind,
	}
}

// landing is the end of a batch of arrivals[from:to].
type landing struct {
	at       float64
	from, to int
}

type lands []landing

func (l lands) Len() int           { return len(l) }
func (l lands) Less(i, j int) bool { return l[i].at < l[j].at }
func (l lands) Swap(i, j int)      { l[i], l[j] = l[j], l[i] }
func (l *lands) Push(x any)        { *l = append(*l, x.(landing)) }
func (l *lands) Pop() any {
	old := *l
	last := old[len(old)-1]
	*l = old[:len(old)-1]
	return last
}
