package ship

import (
	"context"
	"fmt"
	"log/slog"
	"net/http"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/useargus/argus"
	"github.com/useargus/argus/internal/audittest"
)

// dated dates rows that long before now.
func dated(ago time.Duration) func(*argus.Record) {
	return func(r *argus.Record) {
		r.OccurredAt, r.RecordedAt = r.OccurredAt.Add(-ago), r.RecordedAt.Add(-ago)
	}
}

func (w *world) status(key string) (text string) {
	w.t.Helper()
	must(w.t, w.owner.QueryRow(context.Background(), "SELECT coalesce((SELECT status ->> $1 FROM argus.sinks WHERE sink = 'siem'), '')", key).Scan(&text))
	return text
}

// order asks for something, as the API does.
func (w *world) order(kind string, since *time.Time) (id int64) {
	w.t.Helper()
	must(w.t, w.api.QueryRow(context.Background(), "INSERT INTO argus.sink_orders (sink, kind, since, asked_by) VALUES ('siem', $1, $2, 'user_2ada') RETURNING id", kind, since).Scan(&id))
	return id
}

// TestAway: a receiver that was away for a day, and asked for an hour's patience, is back. An operator's test lets the sink go
// on at once. The day's rows arrive, in their order, and no other sink waited for it.
func TestAway(t *testing.T) {
	w := newWorld(t)
	w.api = w.owner // it may date rows
	r := newReceiver(t)
	var away atomic.Bool
	away.Store(true)
	r.fail = func(_ int, out http.ResponseWriter, b received) bool {
		if !away.Load() {
			return b.Batch == "test"
		}
		out.Header().Set("Retry-After", "3600")
		out.WriteHeader(http.StatusServiceUnavailable)
		return true
	}
	a, b := w.open(), w.open()
	for hours := range 24 {
		w.write(a, 60, dated(time.Duration(24-hours)*time.Hour))
		w.write(b, 7, dated(time.Duration(24-hours)*time.Hour))
		if hours == 12 {
			w.exec("UPDATE argus.audit_writers SET closed_at = now() WHERE writer_id = $1", b)
			b = w.open()
		}
	}
	_, stop := w.run(strings.Replace(folderSink, "name: archive", "name: archive", 1) + strings.TrimPrefix(r.sinks(w.dir, ""), "sinks:\n"))
	w.acknowledged("archive", w.written)
	w.until("the sink waits for an hour", func() bool {
		next, _ := time.Parse(time.RFC3339, w.status("next_retry_at"))
		return w.status("state") == "retrying" && time.Until(next) > 50*time.Minute
	})
	if lag := w.number("SELECT (status ->> 'lag_seconds')::float8::bigint FROM argus.sinks WHERE sink = 'siem'"); lag < 23*3600 {
		t.Errorf("the sink is %d s behind", lag)
	}
	if rows := w.status("lag_rows"); rows != fmt.Sprint(w.written) {
		t.Errorf("it is %s rows behind, of %d", rows, w.written)
	}
	away.Store(false)
	id := w.order("test", nil)
	w.acknowledged("siem", w.written)
	w.until("the test is answered, and nothing is behind", func() bool {
		return w.number("SELECT count(*) FROM argus.sink_orders WHERE id = $1 AND state = 'done'", id) == 1 && w.status("lag_rows") == "0" && w.status("next_retry_at") == ""
	})
	stop()
	w.check(r.batches(), nil)
	if report := r.verify(); !report.HoleFree() || report.Rows != int64(w.written) {
		t.Errorf("%+v", report)
	}
}

// TestRetention: rows that a paused sink has not seen come near their end, and leave with their month. It is told before: in the
// log as an error, in the state, and by the metric of the alert. Afterwards the rows are named as missing, and all others arrive.
func TestRetention(t *testing.T) {
	w := newWorld(t)
	w.api = w.owner
	r := newReceiver(t)
	said, registry := &audittest.Buffer{}, prometheus.NewRegistry()
	s, stop := w.run(r.sinks(w.dir, ""), func(c *Config) { c.Logger, c.Registerer = slog.New(slog.NewTextHandler(said, nil)), registry })
	writer := w.open()
	w.write(writer, 10)
	w.acknowledged("siem", 10)
	w.exec("UPDATE argus.sinks SET paused = true, paused_by = 'user_2ada', paused_at = now()")
	w.until("it is paused", func() bool { return w.status("state") == "paused" })
	now := time.Now().UTC()
	old := time.Date(now.Year(), now.Month()-14, 15, 0, 0, 0, 0, time.UTC)
	w.exec("SELECT argus.create_month($1)", old)
	w.write(writer, 25, func(r *argus.Record) { r.OccurredAt, r.RecordedAt = old, old })
	w.write(writer, 15)
	w.until("it is told", func() bool {
		return said.Has("level=ERROR msg=\"rows that the sink has not taken may leave Postgres soon") && w.status("retention_at") != ""
	})
	at, err := time.Parse(time.RFC3339, w.status("retention_at"))
	must(t, err)
	if n := testutil.ToFloat64(s.metrics.retention.WithLabelValues("siem")); n != float64(at.Unix()) || time.Until(at) > retentionWarning {
		t.Errorf("the metric is %v, and the state says %s", n, at)
	}
	if n := w.number("SELECT count(*) FROM argus.drop_expired_months()"); n != 1 {
		t.Fatalf("%d months left", n)
	}
	w.exec("UPDATE argus.sinks SET paused = false, paused_by = NULL, paused_at = NULL")
	w.acknowledged("siem", 25)
	w.until("it is told what is missing", func() bool { return w.status("rejected_rows") == "25" && w.status("retention_at") == "" })
	stop()
	if n := w.number("SELECT count(*) FROM argus.sink_rejects WHERE reason = 'missing' AND writer_id = $1 AND from_seq = 11 AND to_seq = 35", writer); n != 1 || !said.Has("rows that the sink has not seen are gone") {
		t.Error("the missing rows are not named")
	}
	report := r.verify()
	if len(report.Missing) != 1 || report.Missing[0].From != 11 || report.Missing[0].To != 35 || report.Rows != 25 {
		t.Errorf("%+v", report)
	}
}

// TestTakeOver: the holder of the lease is killed, and another frozen until its lease has run out, while rows are written. Each
// time a standby takes over. The frozen one finds itself deposed, and has done no harm.
func TestTakeOver(t *testing.T) {
	w := newWorld(t)
	path := w.file(folderSink)
	holder := func() (host string) {
		w.owner.QueryRow(t.Context(), "SELECT host FROM argus.sink_leases WHERE expires_at > clock_timestamp()").Scan(&host)
		return host
	}
	rows := func() int64 { return w.number("SELECT coalesce(sum(rows), 0)::bigint FROM argus.sink_positions") }
	pid := func(host string) string { return host[strings.LastIndex(host, "/")+1:] }
	a, b := w.open(), w.open()
	first := w.child(path, "", 0)
	w.until("the first holds the lease", func() bool { return holder() != "" })
	standby := w.child(path, "", 0)
	done, ended := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(ended)
		for {
			select {
			case <-done:
				return
			default:
				w.write(a, 30)
				w.write(b, 20)
			}
		}
	}()
	taken := func(from string) {
		t.Helper()
		w.until("another one holds the lease, and ships", func() bool { return holder() != "" && holder() != from })
		at := rows()
		w.until("it ships", func() bool { return rows() > at })
	}
	was := holder()
	must(t, first.Process.Kill())
	first.Wait()
	taken(was)
	w.until("the standby holds the lease", func() bool { was = holder(); return pid(was) == fmt.Sprint(standby.Process.Pid) })
	third := w.child(path, "", 0)
	must(t, standby.Process.Signal(syscall.SIGSTOP))
	taken(was)
	must(t, standby.Process.Signal(syscall.SIGCONT))
	at := rows()
	w.until("both have gone on", func() bool { return rows() > at+500 })
	close(done)
	<-ended
	w.acknowledged("archive", w.written)
	for _, c := range []interface{ Kill() error }{standby.Process, third.Process} {
		must(t, c.Kill())
	}
	standby.Wait()
	third.Wait()
	w.check(w.files(), nil)
}

// TestBackfill: an operator asks for what happened before a sink began, while rows are written and the shipper is killed. The
// backfill and the live stream have batches of their own. Together the receiver has each row since then, once or as whole batches.
func TestBackfill(t *testing.T) {
	w := newWorld(t)
	w.api = w.owner
	r := newReceiver(t)
	path := w.file(r.sinks(w.dir, "    start: now\n"))
	a, b, c := w.open(), w.open(), w.open()
	w.write(c, 30, dated(5*24*time.Hour))
	w.exec("UPDATE argus.audit_writers SET closed_at = now() - interval '4 days' WHERE writer_id = $1", c)
	w.write(a, 150, dated(5*24*time.Hour))
	w.write(a, 210, dated(24*time.Hour))
	w.write(b, 130, dated(2*24*time.Hour))
	began := map[int64]int64{a: w.seqs[a], b: w.seqs[b], c: w.seqs[c]}
	first := w.child(path, "decided", 2)
	w.until("the sink has begun", func() bool { return w.number("SELECT count(*) FROM argus.sink_positions") == 1 })
	since := time.Now().Add(-3 * 24 * time.Hour)
	id := w.order("backfill", &since)
	for i, point := range []string{"sent", "moved", "decided", ""} {
		w.write(b, 40)
		w.write(a, 45)
		first.Wait()
		if point != "" {
			first = w.child(path, point, i)
		}
	}
	_, stop := w.run(r.sinks(w.dir, "    start: now\n"))
	w.acknowledged("siem", 4*85)
	w.until("the backfill is through", func() bool {
		return w.number("SELECT count(*) FROM argus.sink_orders WHERE id = $1 AND state = 'done'", id) == 1
	})
	stop()
	var text string
	must(t, w.owner.QueryRow(t.Context(), "SELECT until FROM argus.sink_positions WHERE stream = $1", backfillName(id)).Scan(&text))
	until, err := argus.ParsePosition(text)
	must(t, err)
	var live, backfill []received
	for _, batch := range r.batches() {
		if strings.HasPrefix(batch.Batch, backfillName(id)+"-") {
			backfill = append(backfill, batch)
		} else {
			live = append(live, batch)
		}
	}
	w.check(live, func(r *argus.Record) bool { return r.Seq > began[r.WriterID] })
	w.check(backfill, func(r *argus.Record) bool { return r.Seq <= until.Through(r.WriterID) && !r.OccurredAt.Before(since) })
	if n := w.number("SELECT o.rows - p.rows FROM argus.sink_orders o, argus.sink_positions p WHERE o.id = $1 AND p.stream = $2", id, backfillName(id)); n != 0 || until.Through(a) < began[a] {
		t.Errorf("the backfill lacks %d rows, up to %s", n, text)
	}
	if report := r.verify(); !report.HoleFree() {
		t.Errorf("%+v", report)
	}
}
