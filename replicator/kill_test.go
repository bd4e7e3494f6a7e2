package replicator

import (
	"testing"
	"time"

	"github.com/useargus/argus/internal/engines"
)

// failpoints of the way of a batch, in its order, and of its recovery.
var failpoints = []string{"begun", "taken", "ceiling", "inserted", "published", "acknowledged", "doubt", "rebuilding", "rebuilt"}

// TestKillAtEachFailpoint kills the replicator at each point, under load, and then holds both stores to each
// other. The points of recovery come when the one before it was killed with rows in doubt.
func TestKillAtEachFailpoint(t *testing.T) {
	w := newOwnWorld(t, engines.PostgresConfig{})
	stopFirst := w.start()
	w.caughtUp()
	stopFirst()
	stop := w.load(3, time.Now)
	for i, point := range failpoints {
		passes := i % 3
		if i > 5 || point == "begun" {
			passes = 0 // once a lease term
		}
		began := time.Now()
		// A doubt to resolve, for the points that need one.
		w.startChild("inserted", 2+i%4).wait()
		mid := time.Since(began)
		w.startChild(point, passes).wait()
		t.Log(point, mid, time.Since(began)-mid)
	}
	last := w.startChild("", 0)
	time.Sleep(300 * time.Millisecond)
	rows := stop()
	w.verify()
	last.stop()
	t.Logf("%d rows", rows)
}

// wait waits for the child's own end.
func (c *child) wait() {
	c.t.Helper()
	select {
	case <-c.done:
	case <-time.After(90 * time.Second):
		c.kill()
		c.t.Error("the replicator did not come to where it was to be killed")
	}
}
