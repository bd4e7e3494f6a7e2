package analytics

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/url"
	"sync"
	"testing"
	"time"

	"github.com/ClickHouse/ch-go/proto"

	"github.com/useargus/argus"
	"github.com/useargus/argus/internal/audittest"
	"github.com/useargus/argus/internal/engines/enginetest"
)

// ClickHouse takes no connection, falls silent, and comes back: answers stay right, say where they come from, and do not wait once
// it is known to be away.
func TestClickHouseGoesAwayAndComesBack(t *testing.T) {
	w := newWorld(t)
	rng := rand.New(rand.NewPCG(31, 32))
	id := w.openWriter()
	records := randomRecords(rng, 50, time.Now())
	w.write(id, records...)
	w.replicate()
	proxy, through := enginetest.ProxyURL(t, w.ch.ReaderURL)
	a := w.analytics(func(c *Config) { c.ClickHouseURL, c.stall = through, time.Second })
	ask := func() argus.Source {
		page, err := a.Search(ctx(t), argus.SearchRequest{Limit: 1000})
		w.must(err)
		audittest.Same(t, string(page.Source), page.Rows, w.match(argus.Filter{}, w.now(), false))
		return page.Source
	}
	back := func() {
		proxy.Heal()
		for ask() == argus.SourcePostgres {
			time.Sleep(20 * time.Millisecond)
		}
		if s := a.Stages()[0]; s.Status != "ok" {
			t.Errorf("back, it is %+v", s)
		}
	}
	back()
	for mode, away := range map[string]func(){"cut": proxy.Cut, "frozen": proxy.Freeze} {
		left := time.Now()
		away()
		if s := ask(); s != argus.SourcePostgres {
			t.Errorf("%s: from %s", mode, s)
		}
		if err := a.copies.all[0].ch.with(ctx(t), func(*clickhouseConn) error { return nil }); !errors.Is(err, errBreakerOpen) {
			t.Errorf("%s: the next one asks it again: %v", mode, err)
		}
		if s := a.Stages()[0]; s.Status != "down" || s.Facts["down_seconds"].(float64) <= 0 || s.Facts["down_seconds"].(float64) > time.Since(left).Seconds() {
			t.Errorf("%s: it is %+v", mode, s)
		}
		w.write(id, randomRecord(rng, time.Now()))
		ask()
		back()
	}
	// It freezes between the watermark and the rows.
	a.config.onCompose = func(step string) {
		if step == "cut" {
			proxy.Freeze()
		}
	}
	if s := ask(); s != argus.SourcePostgres {
		t.Errorf("from %s", s)
	}
	a.config.onCompose = nil
	back()
}

// The widest filters there may be are answered, or rejected with a code, and no other caller has to wait for them.
func TestHostileFilters(t *testing.T) {
	w := newWorld(t)
	rng := rand.New(rand.NewPCG(33, 34))
	id := w.openWriter()
	records := randomRecords(rng, 300, time.Now())
	w.write(id, records[:200]...)
	w.replicate()
	w.write(id, records[200:]...)
	a := w.analytics()
	many := func(n int, f func(i int) string) []string {
		out := make([]string, n)
		for i := range out {
			out[i] = f(i)
		}
		return out
	}
	hostile := []url.Values{
		{"user_agent": many(1000, func(i int) string { return fmt.Sprintf("%d'%%_\\", i) })},
		{"not_route": many(1000, func(i int) string { return fmt.Sprintf("GET /%d*", i) })},
		{"route": many(500, func(i int) string { return fmt.Sprintf("/%d*", i) }), "not_actor": many(500, func(i int) string { return nastyTexts[i%len(nastyTexts)] + fmt.Sprint(i) })},
		{"client_ip": many(1000, func(i int) string { return fmt.Sprintf("10.%d.%d.0/24", i/256, i%256) })},
		{"not_client_ip": many(1000, func(i int) string { return fmt.Sprintf("2001:db8:%x::/48", i) })},
		{"status": many(450, func(i int) string { return fmt.Sprint(100 + 2*i) })},
		{"id": many(1000, func(int) string { return idAt(rng, time.Now()).String() })},
		{"param.id": many(1000, func(i int) string { return nastyTexts[i%len(nastyTexts)] + fmt.Sprint(i) }), "since": {"360d"}},
		{"param.a'b": many(1000, func(i int) string { return fmt.Sprint("é", i) })},
	}
	var all sync.WaitGroup
	for _, q := range hostile {
		f, err := argus.ParseFilter(q, time.Now())
		w.must(err)
		want := w.match(f, w.now(), false)
		all.Go(func() {
			page, err := a.Search(ctx(t), argus.SearchRequest{Filter: f, Limit: 1000})
			if err != nil {
				t.Errorf("%.60s: %v", f.Query().Encode(), err)
				return
			}
			if len(page.Rows) != len(want) || page.Source == argus.SourcePostgres {
				t.Errorf("%.60s: %d rows from %s, want %d", f.Query().Encode(), len(page.Rows), page.Source, len(want))
			}
			perf, err := a.Perf(ctx(t), argus.PerfRequest{Filter: f, Compare: true})
			if err != nil || perf.Source == argus.SourcePostgres {
				t.Errorf("%.60s: from %s: %v", f.Query().Encode(), perf.Source, err)
			}
		})
	}
	all.Wait()
}

// A query that takes too long or too much is rejected as such, without Postgres being asked the same.
func TestQueriesAreBounded(t *testing.T) {
	w := newWorld(t)
	a := w.analytics()
	run := func(ctx context.Context, text string, b bounds) error {
		var n proto.ColUInt64
		return a.copies.all[0].ch.with(ctx, func(conn *clickhouseConn) error {
			return conn.query(ctx, statement{text: text}, b, proto.Results{{Name: "n", Data: &n}}, func(int) error { return nil })
		})
	}
	for name, err := range map[string]error{
		"time":   run(ctx(t), "SELECT count() AS n FROM numbers(1000000000000) WHERE NOT ignore(sipHash64(number))", bounds{time: 300 * time.Millisecond, memory: queryMemory}),
		"memory": run(ctx(t), "SELECT length(groupArray(number)) AS n FROM numbers(100000000)", bounds{time: scanTime, memory: 50 << 20}),
	} {
		if err := a.clickhouseFailure(ctx(t), a.copies.all[0], err); argus.CodeOf(err) != argus.CodeQueryTooLarge {
			t.Errorf("%s: %v", name, err)
		}
	}
	if a.copies.all[0].ch.down.Load() {
		t.Error("a rejected question opened the breaker")
	}

	// A caller who goes away takes his query with him, in both stores.
	going, leave := context.WithCancel(ctx(t))
	ended := make(chan error, 2)
	go func() {
		ended <- run(going, "SELECT count() AS n FROM numbers(1000000000000) WHERE NOT ignore(sipHash64(number))", bounds{time: time.Minute, memory: queryMemory})
	}()
	go func() {
		_, err := a.pg.slow.Exec(going, "SELECT pg_sleep(60)")
		ended <- err
	}()
	admin := w.ch.Conn(t, w.ch.MigrateURL)
	super := w.pg.Pool(t, w.pg.SuperuserURL)
	running := func() (n uint64) {
		w.must(admin.QueryRow(ctx(t), "SELECT count() FROM system.processes WHERE user = 'argus_reader' AND query LIKE '%numbers(1000000000000)%' AND current_database = ?", w.ch.Database).Scan(&n))
		var m uint64
		w.must(super.QueryRow(ctx(t), "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND state = 'active' AND query LIKE '%pg_sleep%' AND pid <> pg_backend_pid()").Scan(&m))
		return n + m
	}
	for running() < 2 {
		time.Sleep(5 * time.Millisecond)
	}
	leave()
	for range 2 {
		if err := <-ended; !errors.Is(err, context.Canceled) {
			t.Errorf("ended with %v", err)
		}
	}
	for running() > 0 {
		time.Sleep(5 * time.Millisecond)
	}
	if a.copies.all[0].ch.down.Load() {
		t.Error("a caller who left opened the breaker")
	}
}
