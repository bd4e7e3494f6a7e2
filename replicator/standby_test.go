package replicator

import (
	"context"
	"syscall"
	"testing"
	"time"

	"github.com/useargus/argus/internal/engines"
	"github.com/useargus/argus/replicator/wal"
)

// TestZombie freezes the active replicator at points where it has decided to write, lets another take over, and
// wakes it: nothing it does then may show. At "ceiling" it is about to insert, at "rebuilding" about to replace
// a partition of a rollup, at "inserted" to publish.
func TestZombie(t *testing.T) {
	w := newOwnWorld(t, engines.PostgresConfig{})
	w.change = func(c *Config) { c.LeaseTTL = time.Second }
	stopFirst := w.start()
	w.caughtUp()
	stopFirst()
	stop := w.load(2, time.Now)
	for _, point := range []string{"ceiling", "inserted", "rebuilding"} {
		if point == "rebuilding" {
			w.startChild("inserted", 1).wait() // something to rebuild
		}
		zombie := w.startFrozen(point)
		zombie.frozen()
		next := w.startChild("", 0)
		w.progresses()
		zombie.signal(syscall.SIGCONT)
		w.progresses()
		next.stop()
		zombie.stop() // it stands by, or is active: either way it ends in order
	}
	last := w.startChild("", 0)
	stop()
	w.verify()
	last.stop()
}

// TestTwoAtOnce: two replicators of a slot, each killed or stopped in turn; the other goes on within seconds.
func TestTwoAtOnce(t *testing.T) {
	w := newOwnWorld(t, engines.PostgresConfig{})
	w.change = func(c *Config) { c.LeaseTTL = 2 * time.Second }
	a := w.startChild("", 0)
	w.caughtUp()
	b := w.startChild("", 0)
	stop := w.load(2, time.Now)
	w.progresses()
	a.kill()
	w.progresses()
	a = w.startChild("", 0)
	time.Sleep(300 * time.Millisecond)
	b.stop()
	w.progresses()
	stop()
	w.verify()
	a.stop()
}

// progresses waits until the watermark has moved on some way.
func (w *world) progresses() {
	w.t.Helper()
	s, err := openClickHouse(w.ch.MigrateURL)
	w.must(err)
	defer s.close()
	read := func() (n wal.LSN) {
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		mark, _, _ := s.watermark(ctx)
		return mark.lsn
	}
	from := read()
	for deadline := time.Now().Add(60 * time.Second); read() < from+100_000; time.Sleep(20 * time.Millisecond) {
		if time.Now().After(deadline) {
			w.t.Fatal("the watermark does not move")
		}
	}
}
