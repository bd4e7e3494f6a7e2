package ship

import (
	"math/rand/v2"
	"testing"
	"time"
)

// TestKill kills the shipper at each boundary of a batch, and at random, while rows are written. The receiver has every row
// that was committed, in the order of each writer, and no batch twice with other bytes.
func TestKill(t *testing.T) {
	w := newWorld(t)
	path := w.file(folderSink)
	a, b := w.open(), w.open()
	w.write(a, 120)
	for i, point := range []string{"decided", "sent", "moved", "decided", "sent", "moved"} {
		child := w.child(path, point, i%3)
		w.write(b, 90)
		w.write(a, 130)
		child.Wait()
	}
	for range 6 {
		child := w.child(path, "", 0)
		kill := time.AfterFunc(time.Duration(rand.IntN(400))*time.Millisecond, func() { child.Process.Kill() })
		w.write(a, 200)
		w.write(b, 110)
		child.Wait()
		kill.Stop()
	}
	w.exec("UPDATE argus.audit_writers SET closed_at = now() WHERE writer_id = $1", a) // a writer that ends
	c := w.open()
	w.write(c, 10)
	_, stop := w.run(folderSink)
	w.acknowledged("archive", w.written)
	stop()
	w.check(w.files(), nil)
	if n := w.number("SELECT count(*) FROM argus.sink_rejects"); n != 0 {
		t.Errorf("%d rows were set aside", n)
	}
}
