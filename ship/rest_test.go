package ship

import (
	"testing"
	"time"

	"github.com/useargus/argus/connect"
)

// A shipper that rests takes up rows and orders when they are announced. Its own looks are hours apart here.
func TestNoticesEndRests(t *testing.T) {
	w := newWorld(t)
	w.run(folderSink, func(c *Config) { c.Poll, c.Status = time.Hour, time.Hour })
	writer := w.open()
	announced := func(channel, what string, f func() bool) {
		t.Helper()
		w.until(what, func() bool {
			must(t, connect.Announce(t.Context(), w.api, channel)) // again, since the shipper may not listen yet
			return f()
		})
	}
	for n := range int64(3) {
		w.write(writer, 1)
		announced(connect.RowsCommitted, "an announced row is shipped", func() bool {
			return w.number("SELECT coalesce((SELECT rows FROM argus.sink_positions WHERE stream = ''), 0)") == n+1
		})
	}
	for range 2 {
		var id int64
		must(t, w.api.QueryRow(t.Context(), "INSERT INTO argus.sink_orders (sink, kind, asked_by) VALUES ('archive', 'test', 'user_2ada') RETURNING id").Scan(&id))
		announced(connect.SinksChanged, "an announced order is done", func() bool {
			return w.number("SELECT count(*) FROM argus.sink_orders WHERE id = $1 AND state <> 'asked'", id) == 1
		})
	}
}
