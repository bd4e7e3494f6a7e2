//go:build bench && linux

package replicator

import (
	"fmt"
	"runtime"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/useargus/argus/internal/engines"
	"github.com/useargus/argus/internal/engines/enginetest"
)

// TestBenchFiguresCopies drains waiting rows into one copy and then into the other, and more rows into both at once.
func TestBenchFiguresCopies(t *testing.T) {
	w := newOwnWorld(t, engines.PostgresConfig{})
	w.dropTestRollups()
	copies := []*world{w.as("east", w.ch), w.as("west", enginetest.StartOwnClickHouse(t, engines.ClickHouseConfig{}))}
	for _, c := range copies {
		c.startChild("", 0).untilCaughtUp(c).stop()
	}
	const turns = 2
	n := benchRows() / 3
	var alone, beside, together, sender []float64
	for range turns {
		w.fill(n)
		var one float64
		for _, c := range copies {
			rate, cpu := c.drain(n)
			sender = append(sender, cpu)
			one += rate / float64(len(copies))
		}
		w.fill(n)
		var both sync.WaitGroup
		rates := make([]float64, len(copies))
		for i, c := range copies {
			both.Go(func() { rates[i], _ = c.drain(n) })
		}
		both.Wait()
		alone = append(alone, one)
		beside = append(beside, min(rates[0], rates[1]))
		together = append(together, (rates[0]+rates[1])/one)
	}
	for _, c := range copies {
		c.verifyCheck(true)
	}
	// Of each copy the replicator, the walsender and ClickHouse want a processor.
	const enough = 6
	ratio := median(beside) / median(alone)
	verdict := map[bool]string{true: "ok", false: "MISS"}[ratio >= 0.8]
	if ratio < 0.8 && runtime.NumCPU() < enough {
		verdict = ""
	}
	fmt.Printf("FIGURE\tcopies: drain of %d waiting rows into the slower of two copies at once, rows/s, against one alone\t%.0f\t%.0f\t%.2f\t≥ 0.8 with %d processors or more\t%s\n",
		n, median(beside), median(alone), ratio, enough, verdict)
	fmt.Printf("FIGURE\tcopies: rows/s of both copies together, against one alone\t%.2f\t1\t\t\t\n", median(together))
	fmt.Printf("FIGURE\tcopies: a second copy's cost for the primary in bulk, processor time of its walsender\t%.1f µs a row\t\t\t\t\n", median(sender))
}

// as is the world with another copy, under a name of its own.
func (w *world) as(name string, ch *enginetest.ClickHouse) *world {
	other := w.on(ch)
	if ch != w.ch {
		other.makeRollups()
		other.dropTestRollups()
	}
	other.clickhouseURL = ch.ReplicatorURL
	other.change = func(c *Config) { c.Slot, c.Copy = w.slot()+"_"+name, name }
	return other
}

// drain has a replicator copy what waits, and returns rows a second and the walsender's µs a row.
func (w *world) drain(n int) (rate, sender float64) {
	began := time.Now()
	c := w.startChild("", 0)
	w.caughtUp()
	rate = float64(n) / time.Since(began).Seconds()
	var pid int
	w.must(w.api.QueryRow(w.ctx(), "SELECT coalesce((SELECT active_pid FROM pg_replication_slots WHERE slot_name = $1), 0)", w.config().Slot).Scan(&pid))
	sender = cpuOf(pid) / float64(n)
	c.stop()
	return rate, sender
}

// TestBenchFiguresFailover loses a primary whose standby has the replicator's slot. How long the log is must not count.
func TestBenchFiguresFailover(t *testing.T) {
	p := newPair(t, "")
	p.dropTestRollups()
	c := p.startChild("", 0)
	p.caughtUp()
	p.must(p.old.Streams(p.ctx(), p.standby, "pg2", p.slot()))
	p.must(p.old.Set(p.ctx(), "synchronous_standby_names", "pg2"))
	n := 2 * benchRows()
	for range 10 {
		p.fill(n / 10)
		p.caughtUp()
	}
	p.must(p.old.Streams(p.ctx(), p.standby, "pg2", p.slot()))
	p.must(p.old.Kill(syscall.SIGKILL))
	p.must(p.standby.Promote(p.ctx()))
	promoted := time.Now()
	p.must(p.standby.Set(p.ctx(), "synchronous_standby_names", ""))
	p.pg.MoveTo(t, p.standby)
	p.api = p.pg.Pool(t, p.pg.LoaderURL(t))
	l := p.openLane()
	l.write(1, time.Now())
	p.until("the copy has a row of the new primary", func() bool { return p.has(l, 1) })
	took := time.Since(promoted)
	if !p.said("the copy goes on from its slot") {
		t.Error("the copy did not go on from its slot")
	}
	if n := p.orphans(); n > 0 {
		t.Errorf("%d orphans", n)
	}
	p.verifyCheck(true)
	c.stop()
	verdict := map[bool]string{true: "ok", false: "MISS"}[took <= 15*time.Second]
	fmt.Printf("FIGURE\tfailover: from the promotion until the copy has a row of the new primary, %.1f M rows in the log\t%.1f s\t\t\t≤ 15 s\t%s\n",
		float64(n)/1e6, took.Seconds(), verdict)
}
