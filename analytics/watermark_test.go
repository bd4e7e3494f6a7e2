package analytics

import (
	"math/rand/v2"
	"testing"
	"time"

	"github.com/useargus/argus"
	"github.com/useargus/argus/internal/audittest"
	"github.com/useargus/argus/internal/engines/enginetest"
)

// A question takes the watermark that an earlier one read, until many rows are behind it, a question has failed, or the server has
// other connections than at the time. Every answer has all rows.
func TestAHeldWatermark(t *testing.T) {
	w := newWorld(t)
	proxy, through := enginetest.ProxyURL(t, w.ch.ReaderURL)
	a := w.analytics(func(c *Config) { c.ClickHouseURL, c.watermarkAge = through, time.Hour })
	a.cancel() // a probe reads watermarks too
	a.background.Wait()
	rng := rand.New(rand.NewPCG(81, 82))
	now := argus.Micros(time.Now())
	id := w.openWriter()
	ask := func(when string, want argus.Source) {
		t.Helper()
		rows := w.match(argus.Filter{}, w.now(), false)
		page, err := a.Search(ctx(t), argus.SearchRequest{Limit: argus.MaxLimit})
		w.must(err)
		audittest.Same(t, when, page.Rows, rows)
		perf, err := a.Perf(ctx(t), argus.PerfRequest{GroupBy: argus.GroupByMethod})
		w.must(err)
		checkPerf(t, when, rows, argus.GroupByMethod, perf)
		if page.Source != want {
			t.Errorf("%s: the page is from %s, want %s", when, page.Source, want)
		}
	}
	add := func(n int) {
		w.write(id, randomRecords(rng, n, now)...)
		w.replicate()
	}
	add(50)
	ask("with one of its own", argus.SourceClickHouse)
	add(10)
	ask("with a held one", argus.SourceBoth)
	add(heldTail)
	ask("with a held one that lacks many rows", argus.SourceBoth)
	ask("after that", argus.SourceClickHouse)
	add(10)
	ask("with a held one again", argus.SourceBoth)
	proxy.CloseAll()
	w.empty()
	ask("of a server that came back empty", argus.SourceBoth)
	w.replicate()
	a.copies.all[0].held.forget()
	ask("after a failure", argus.SourceClickHouse)
	w.publish(argus.Position{Writers: map[int64]int64{}}) // healing begins
	ask("of a watermark that was withdrawn", argus.SourceClickHouse)
}
