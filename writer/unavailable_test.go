package writer

import (
	"context"
	"errors"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/useargus/argus"
	"github.com/useargus/argus/internal/engines/enginetest"
)

// unavailable checks that an error is the 503 it should be.
func unavailable(t testing.TB, what string, err error) {
	t.Helper()
	var e *argus.Error
	if !errors.As(err, &e) || e.Code != argus.CodeAuditUnavailable || e.RetryAfter <= 0 || e.Cause == nil {
		t.Errorf("%s: %v", what, err)
	}
}

// TestFailsClosed takes Postgres away in each way, also in the ways in which nothing ever fails. Calls get their 503 within a
// bounded time, then at once. When Postgres returns they work again.
func TestFailsClosed(t *testing.T) {
	outages := []struct {
		name  string
		begin func(p *enginetest.Proxy)
	}{
		{"connection refused", (*enginetest.Proxy).Cut},
		{"accepts and never answers", (*enginetest.Proxy).Freeze},
		{"one byte a second", func(p *enginetest.Proxy) { p.Trickle(1) }},
		{"loses every answer", (*enginetest.Proxy).DropReplies},
	}
	for _, outage := range outages {
		t.Run(outage.name, func(t *testing.T) {
			t.Parallel()
			pg := enginetest.NewPostgres(t)
			pool := pg.Pool(t, pg.APIURL) // not through the proxy
			proxy, url := enginetest.ProxyURL(t, pg.APIURL)
			var dialing, most atomic.Int32 // connections being made by lanes and heartbeat at one time
			w := start(t, Config{URL: url, dial: func(ctx context.Context, network, addr string) (net.Conn, error) {
				if n := dialing.Add(1); n > most.Load() {
					most.Store(n)
				}
				defer dialing.Add(-1)
				return dialer.DialContext(ctx, network, addr)
			}, Lanes: 4})
			l := newLedger()
			for n := range 30 {
				if err := l.call(w, pool, n); err != nil {
					t.Fatal(err)
				}
			}
			outage.begin(proxy)

			// Those who come first wait, but not for ever: ten times the bound is for a busy machine.
			var wg sync.WaitGroup
			for n := range 60 {
				wg.Go(func() {
					begin := time.Now()
					err := l.call(w, pool, n)
					if err == nil {
						t.Errorf("call %d was acknowledged during the outage", n)
					} else if n%3 != 0 {
						unavailable(t, "a call without effects", err)
					} else if argus.CodeOf(err) != argus.CodeAuditUnconfirmed {
						t.Errorf("a call with effects: %v", err)
					}
					if d := time.Since(begin); d > 10*w.config.Wait {
						t.Errorf("answered after %s", d)
					}
				})
			}
			wg.Wait()
			eventually(t, "known to be down", func() bool { return w.health.down() != nil })
			unavailable(t, "Available", w.Available())
			if s := w.Stage(); s.Status != "down" || s.Detail == "" {
				t.Errorf("stage %+v", s)
			}
			if err := w.Check(context.Background()); err == nil {
				t.Error("ready during an outage")
			}
			depth := w.queue.depth.Load()
			for n := range 1000 { // at once: nothing is queued
				unavailable(t, "while down", w.Append(context.Background(), exampleRecord(n), false))
			}
			if now := w.queue.depth.Load(); now > depth {
				t.Errorf("%d calls queued while down", now-depth)
			}

			proxy.Heal()
			eventually(t, "available again", func() bool { return w.Available() == nil })
			for n := range 30 {
				if err := l.call(w, pool, n); err != nil {
					t.Errorf("after the outage: %v", err)
				}
			}
			noIntentsLeft(t, pool)
			l.check(t, pool)
			if n := most.Load(); n > 3 {
				t.Errorf("%d connections were being made at one time; one lane and the heartbeat may", n)
			}
		})
	}
}

// TestStartsWithoutPostgres: a server that starts before its database fails calls until it comes.
func TestStartsWithoutPostgres(t *testing.T) {
	t.Parallel()
	pg := enginetest.NewPostgres(t)
	pool := pg.Pool(t, pg.APIURL)
	proxy, url := enginetest.ProxyURL(t, pg.APIURL)
	proxy.Cut()
	w, err := New(Config{URL: url, Logger: logger(t)})
	if err != nil {
		t.Fatal(err)
	}
	unavailable(t, "before Start", w.Available())
	if err := w.Start(context.Background()); err != nil {
		t.Fatal(err)
	}
	defer stop(t, w)
	eventually(t, "known to be down", func() bool { return w.Available() != nil })
	proxy.Heal()
	eventually(t, "available", func() bool { return w.Available() == nil && w.health.lanesOpen() > 0 })
	l := newLedger()
	if err := l.call(w, pool, 1); err != nil {
		t.Error(err)
	}
	l.check(t, pool)
}

// TestOverload: when more wait than can be written in time, newcomers fail at once, and those in the queue
// keep their place.
func TestOverload(t *testing.T) {
	t.Parallel()
	pg := enginetest.NewPostgres(t)
	pool := pg.Pool(t, pg.APIURL)
	block := pg.Pool(t, pg.SuperuserURL)
	w := start(t, Config{URL: pg.APIURL, Lanes: 1, Queue: 10, Wait: 5 * time.Minute, tuning: tuning{roundTrip: 5 * time.Minute}})
	l := newLedger()
	release := lockWriters(t, block)
	var wg sync.WaitGroup
	for n := range 11 { // one on its way, ten waiting
		wg.Go(func() {
			if err := l.call(w, nil, n); err != nil {
				t.Errorf("call %d: %v", n, err)
			}
		})
		if n == 0 {
			eventually(t, "a batch on its way", func() bool {
				return scalar[int64](t, block, `SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock'
					AND datname = current_database()`) == 1
			})
		}
	}
	eventually(t, "a full queue", func() bool { return w.queue.depth.Load() == 10 })
	unavailable(t, "Available", w.Available())
	unavailable(t, "Append", l.call(w, nil, 11))
	release()
	wg.Wait()
	if err := w.Available(); err != nil {
		t.Errorf("after the overload: %v", err)
	}
	l.check(t, pool)
}

// TestOldQueue: a short queue that does not move is overload as well.
func TestOldQueue(t *testing.T) {
	t.Parallel()
	pg := enginetest.NewPostgres(t)
	block := pg.Pool(t, pg.SuperuserURL)
	w := start(t, Config{URL: pg.APIURL, Lanes: 1})
	l := newLedger()
	release := lockWriters(t, block)
	defer release()
	var wg sync.WaitGroup
	for n := range 2 {
		wg.Go(func() { l.call(w, nil, n) })
	}
	eventually(t, "unavailable", func() bool { return w.Available() != nil })
	release()
	wg.Wait()
}

// lockWriters keeps every batch from committing until released.
func lockWriters(t testing.TB, pool *pgxpool.Pool) (release func()) {
	t.Helper()
	tx, err := pool.Begin(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := tx.Exec(context.Background(), `SELECT FROM argus.audit_writers FOR UPDATE`); err != nil {
		t.Fatal(err)
	}
	return sync.OnceFunc(func() { tx.Rollback(context.Background()) })
}

// TestCallerHangsUp: the row does not depend on the caller's patience.
func TestCallerHangsUp(t *testing.T) {
	t.Parallel()
	pg := enginetest.NewPostgres(t)
	pool := pg.Pool(t, pg.APIURL)
	w := start(t, Config{URL: pg.APIURL})
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	r := exampleRecord(1)
	if err := w.Append(ctx, r, false); err != nil {
		t.Fatal(err)
	}
	l := newLedger()
	l.note(r, false, nil)
	l.check(t, pool)
}

// TestDeadline: a caller with less time than the writer has is answered when it is over, also while its commit waits.
func TestDeadline(t *testing.T) {
	t.Parallel()
	pg := enginetest.NewPostgres(t)
	pool := pg.Pool(t, pg.APIURL)
	w := start(t, Config{URL: pg.APIURL, Wait: 5 * time.Minute, tuning: tuning{roundTrip: 5 * time.Minute}})
	release := lockWriters(t, pg.Pool(t, pg.SuperuserURL))
	defer release()
	l := newLedger()
	for life := time.Second; ; life *= 2 { // until its commit has begun by then
		ctx, cancel := context.WithTimeout(context.Background(), life)
		r := exampleRecord(1)
		err := w.Append(ctx, r, false)
		over, _ := ctx.Deadline()
		cancel()
		unavailable(t, "a call whose time is over", err)
		l.note(r, false, err)
		if n := scalar[int64](t, pool, `SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()
			AND wait_event_type = 'Lock' AND usename = 'argus_api' AND xact_start < $1`, over); n > 0 {
			break
		}
		if life > 30*time.Second {
			t.Fatal("it was answered when its commit had ended")
		}
	}
	release()
	last := exampleRecord(2)
	if err := w.Append(context.Background(), last, false); err != nil {
		t.Fatal(err)
	}
	l.note(last, false, nil)
	l.check(t, pool)
}

// TestShutdown closes a writer under load: no answer without its row, no row without an answer to come, and nothing
// is left in Postgres.
func TestShutdown(t *testing.T) {
	t.Parallel()
	pg := enginetest.NewPostgres(t)
	pool := pg.Pool(t, pg.APIURL)
	l := newLedger()
	for range rounds(t, 3) {
		w := start(t, Config{URL: pg.APIURL})
		load := startLoad(w, nil, l, 32)
		load.more(t, 50)
		if err := w.Close(context.Background()); err != nil {
			t.Error(err)
		}
		unavailable(t, "after Close", w.Append(context.Background(), exampleRecord(1), false))
		if err := w.Append(context.Background(), exampleRecord(1), true); argus.CodeOf(err) != argus.CodeAuditUnconfirmed {
			t.Errorf("a call with effects after Close: %v", err)
		}
		load.stop()
		if n := scalar[int64](t, pool, `SELECT (SELECT count(*) FROM argus.audit_writers WHERE closed_at IS NULL)
			+ (SELECT count(*) FROM argus.audit_processes)`); n != 0 {
			t.Errorf("%d open writers and processes are left", n)
		}
	}
	l.check(t, pool)
}

// TestShutdownWithoutPostgres: Close gives up when its context ends, and every caller is answered.
func TestShutdownWithoutPostgres(t *testing.T) {
	t.Parallel()
	pg := enginetest.NewPostgres(t)
	pool := pg.Pool(t, pg.APIURL)
	proxy, url := enginetest.ProxyURL(t, pg.APIURL)
	w := start(t, Config{URL: url, Wait: time.Minute})
	l := newLedger()
	load := startLoad(w, pool, l, 6)
	load.more(t, 20)
	proxy.Freeze()
	ctx, cancel := context.WithTimeout(context.Background(), 300*time.Millisecond)
	defer cancel()
	if err := w.Close(ctx); err == nil {
		t.Error("closed in order without Postgres")
	}
	load.stop()
	proxy.Heal()
	start(t, Config{URL: pg.APIURL, tuning: quick}) // sweeps
	noIntentsLeft(t, pool)
	l.check(t, pool)
}

// TestUnready: what will keep rows from being written is told before it does.
func TestUnready(t *testing.T) {
	t.Parallel()
	now := time.Now()
	for _, c := range []struct {
		skew  time.Duration
		ahead int
		want  string
	}{
		{0, 2, ""}, {-59 * time.Second, 24, ""}, {61 * time.Second, 24, "clock"}, {-61 * time.Second, 24, "clock"}, {0, 1, "partitions"},
	} {
		err := unready(now.Add(c.skew), now, c.ahead)
		if (err == nil) != (c.want == "") || err != nil && !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s off, %d months ahead: %v", c.skew, c.ahead, err)
		}
	}

	pg := enginetest.NewPostgres(t)
	w := start(t, Config{URL: pg.APIURL, tuning: quick})
	eventually(t, "ready", func() bool { return w.Check(context.Background()) == nil })
	exec(t, pg.Pool(t, pg.SuperuserURL), `DO $$ DECLARE p text; BEGIN
		FOR p IN SELECT partition FROM argus.audit_months WHERE month > now() + interval '25 days' LOOP
			EXECUTE format('ALTER TABLE argus.argus_audit_log DETACH PARTITION argus.%I', p);
		END LOOP; END $$`)
	eventually(t, "not ready", func() bool {
		err := w.Check(context.Background())
		return err != nil && strings.Contains(err.Error(), "partitions")
	})
}

// TestMetrics: the names are an interface to dashboards and alerts.
func TestMetrics(t *testing.T) {
	t.Parallel()
	pg := enginetest.NewPostgres(t)
	registry := prometheus.NewPedanticRegistry()
	w := start(t, Config{URL: pg.APIURL, Registerer: registry})
	l := newLedger()
	for n := range 3 {
		if err := l.call(w, nil, n); err != nil {
			t.Fatal(err)
		}
	}
	families, err := registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	have := map[string]bool{}
	for _, f := range families {
		have[f.GetName()] = true
		if n := f.GetMetric()[0].GetCounter().GetValue(); f.GetName() == "argus_writer_rows_total" && n != 3 {
			t.Errorf("argus_writer_rows_total is %v", n)
		}
	}
	for _, name := range []string{"rows_total", "commit_seconds", "batch_rows", "append_seconds", "failed_total", "fenced_total",
		"doubts_total", "interrupted_total", "opened_total", "queue_depth", "queue_age_seconds", "lanes_open", "down_seconds"} {
		if !have["argus_writer_"+name] {
			t.Errorf("no metric argus_writer_%s", name)
		}
	}
	if _, err := New(Config{URL: pg.APIURL, Registerer: registry}); err == nil {
		t.Error("two writers share their metrics")
	}
}
