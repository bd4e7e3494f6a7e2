package replicator

import (
	"testing"
	"time"
)

func TestStream(t *testing.T) {
	w := newWorld(t)
	w.start()
	w.settle()
	stop := w.load(3, time.Now)
	time.Sleep(2 * time.Second)
	n := stop()
	w.verify()
	t.Logf("%d rows", n)
}
