package analytics

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/ClickHouse/ch-go/proto"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/useargus/argus"
	"github.com/useargus/argus/internal/audittest"
	"github.com/useargus/argus/internal/engines"
	"github.com/useargus/argus/internal/engines/enginetest"
	"github.com/useargus/argus/migrations"
)

// until waits for a condition.
func until(t testing.TB, what string, is func() bool) {
	t.Helper()
	for deadline := time.Now().Add(time.Minute); !is(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("a minute has passed, and still not: %s", what)
		}
	}
}

// prefer makes a copy the one that is asked first.
func (a *Analytics) prefer(c *logCopy) {
	a.copies.mu.Lock()
	defer a.copies.mu.Unlock()
	a.copies.preferred = c
}

// twoCopies is a world whose copy west is on the shared server, and another copy of it, east, on a server of its own.
func twoCopies(t *testing.T) (w *world, east *replica, ask func(change ...func(*Config)) *Analytics) {
	w = newWorld(t)
	east = w.replicaIn(enginetest.StartOwnClickHouse(t, engines.ClickHouseConfig{}))
	return w, east, func(change ...func(*Config)) *Analytics {
		return w.analytics(append([]func(*Config){func(c *Config) {
			c.ClickHouseURL = "east=" + east.ch.ReaderURL + "  west=" + w.ch.ReaderURL
			c.stall = 3 * time.Second
		}}, change...)...)
	}
}

// everyAnswer asks every kind of question, of rows that do not change, and writes the answers down. Who gave them, and how
// far the copy was, are no part of it.
func everyAnswer(t testing.TB, a *Analytics, from, to time.Time, fromPostgres bool) string {
	t.Helper()
	return strings.Join(everyAnswerOf(t, a, from, to, fromPostgres), "\n")
}

// everyAnswerOf gives the answers one by one, each with its question before it.
func everyAnswerOf(t testing.TB, a *Analytics, from, to time.Time, fromPostgres bool) (answers []string) {
	t.Helper()
	f := argus.Filter{Since: from, Until: to}
	some := argus.Filter{Since: from, Until: to, Conditions: mustFilterOf(t, "status", "5xx").Conditions}
	// A copy that is only slow may be away for a moment, and Postgres answers meanwhile.
	ask := func(what string, question func() (argus.Source, []any, error)) {
		t.Helper()
		until(t, fmt.Sprintf("%s comes from Postgres: %v", what, fromPostgres), func() bool {
			source, answer, err := question()
			if err != nil {
				t.Fatalf("%s: %v", what, err)
			}
			is := (source == argus.SourcePostgres) == fromPostgres
			if is {
				answers = append(answers, fmt.Sprintf("%s: %+v", what, answer))
			}
			return is
		})
	}
	for _, filter := range []argus.Filter{f, some} {
		ask("search", func() (argus.Source, []any, error) {
			page, err := a.Search(ctx(t), argus.SearchRequest{Filter: filter, Limit: argus.MaxLimit})
			answer := []any{page.Since, page.Until}
			for i := range page.Rows {
				answer = append(answer, "\n"+string(page.Rows[i].AppendJSON(nil)))
			}
			return page.Source, answer, err
		})
		for _, by := range []argus.GroupBy{argus.GroupByRoute, argus.GroupByActor, argus.GroupByTenant} {
			ask("perf by "+string(by), func() (argus.Source, []any, error) {
				perf, err := a.Perf(ctx(t), argus.PerfRequest{Filter: filter, GroupBy: by})
				return perf.Source, []any{perf.Since, perf.Until, perf.Rows}, err
			})
		}
		ask("facets", func() (argus.Source, []any, error) {
			facets, err := a.Facets(ctx(t), argus.FacetsRequest{Filter: filter})
			return facets.Source, []any{facets.Total, facets.Fields, facets.Histogram}, err
		})
	}
	ask("series", func() (argus.Source, []any, error) {
		series, err := a.Series(ctx(t), argus.SeriesRequest{Filter: f, GroupBy: argus.GroupByMethod, Compare: true})
		return series.Source, []any{series.Series}, err
	})
	ask("differs", func() (argus.Source, []any, error) {
		differs, err := a.Differs(ctx(t), argus.DiffersRequest{Filter: f, Region: argus.Region{Kind: argus.RegionSlow}})
		return differs.Source, []any{differs.Region, differs.Calls, differs.Dimensions}, err
	})
	var access argus.AccessResult
	ask("access", func() (source argus.Source, answer []any, err error) {
		access, err = a.Access(ctx(t), argus.AccessRequest{Since: from, Until: to})
		return access.Source, []any{access.Uses}, err
	})
	var subjects []argus.AccessSubject
	for _, u := range access.Uses {
		subjects = append(subjects, u.Subject)
	}
	seen, err := a.AccessSeen(ctx(t), argus.AccessRequest{Since: from, Until: to}, subjects)
	if err != nil {
		t.Fatal(err)
	}
	var lines strings.Builder
	for _, s := range subjects {
		fmt.Fprintf(&lines, "seen: %+v %+v\n", s, seen[s])
	}
	return append(answers, lines.String())
}

func mustFilterOf(t testing.TB, name, value string) argus.Filter {
	t.Helper()
	f, err := argus.ParseFilter(map[string][]string{name: {value}}, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	return f
}

// diff is where two texts begin to differ.
func diff(a, b string) string {
	x, y := strings.Split(a, "\n"), strings.Split(b, "\n")
	for i := range min(len(x), len(y)) {
		if x[i] != y[i] {
			return fmt.Sprintf("line %d\n%.2000s\n%.2000s", i, x[i], y[i])
		}
	}
	return "one is longer"
}

// following collects the rows of a stream.
type following struct {
	mu   sync.Mutex
	rows map[rowID]int
}

func (f *following) has(rows []argus.Record) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	for i := range rows {
		if f.rows[idOf(&rows[i])] != 1 {
			return false
		}
	}
	return true
}

// A copy is frozen, killed, emptied, behind, or lacks a table or its database, in the middle of pages, exports and streams.
// The other one goes on, no row is missing or twice, and every answer is the one that the other copy, the first one alone,
// and Postgres alone give.
func TestACopyIsLost(t *testing.T) {
	w, east, open := twoCopies(t)
	rng := rand.New(rand.NewPCG(61, 62))
	start := argus.Micros(time.Now())
	from, to := start.Add(-300*24*time.Hour), start
	id := w.openWriter()
	w.write(id, randomRecords(rng, 1500, start)...)
	a := open(func(c *Config) { c.HedgeAfter = 50 * time.Millisecond })
	alone := w.analytics(func(c *Config) { c.ClickHouseURL = "clickhouse://argus_reader:x@127.0.0.1:1/argus" })
	both := func() {
		t.Helper()
		w.replicate()
		east.replicate()
	}
	both()
	stream := &following{rows: map[rowID]int{}}
	ends, end := context.WithCancel(ctx(t))
	ended := make(chan error, 1)
	origin := w.now()
	go func() {
		ended <- a.Follow(ends, argus.FollowRequest{From: &origin}, func(e argus.FollowEvent) error {
			if e.Record != nil {
				stream.mu.Lock()
				stream.rows[idOf(e.Record)]++
				stream.mu.Unlock()
			}
			return nil
		})
	}()

	engine := func() *engines.ClickHouse { return east.ch.Engine() }
	admin := func(statements ...string) {
		t.Helper()
		conn := east.ch.Conn(t, strings.Replace(east.ch.MigrateURL, "/"+east.ch.Database, "/system", 1))
		for _, s := range statements {
			w.must(conn.Exec(ctx(t), strings.ReplaceAll(s, "DB", east.ch.Database)))
		}
	}
	migrate := func() {
		t.Helper()
		_, err := migrations.ClickHouse(ctx(t), east.ch.MigrateURL, "")
		w.must(err)
		fresh := w.replicaIn(east.ch)
		east.copied, east.published, east.copier = fresh.copied, fresh.published, fresh.copier
	}
	state := func(i int) argus.Stage { return a.Stages()[i] }
	faults := []struct {
		name, status string
		begin, mend  func()
	}{
		{"frozen", "down", func() { w.must(engine().Kill(syscall.SIGSTOP)) }, func() { w.must(engine().Kill(syscall.SIGCONT)) }},
		{"killed", "down", func() { w.must(engine().Kill(syscall.SIGKILL)) }, func() { east.ch.Restart(t) }},
		{"without the log's table", "degraded", func() { admin("DETACH TABLE DB.audit_log SYNC") }, func() { admin("ATTACH TABLE DB.audit_log") }},
		{"without a rollup", "degraded", func() { admin("DETACH TABLE DB.audit_rollup_hours SYNC") }, func() { admin("ATTACH TABLE DB.audit_rollup_hours") }},
		{"without its database", "down", func() { admin("DROP DATABASE DB SYNC") }, migrate},
		{"emptied", "degraded", func() { admin("DROP DATABASE DB SYNC"); migrate() }, func() {}},
		{"an hour behind", "ok", func() {
			w.write(id, randomRecords(rng, maxBehind+100, start.Add(time.Hour))...)
			w.replicate()
		}, func() {}},
	}
	want := everyAnswer(t, alone, from, to, true)
	for _, name := range []string{"east=" + east.ch.ReaderURL, w.ch.ReaderURL} {
		one := w.analytics(func(c *Config) { c.ClickHouseURL = name })
		if got := everyAnswer(t, one, from, to, false); got != want {
			t.Fatalf("of one copy alone: %s", diff(got, want))
		}
	}
	for _, fault := range faults {
		until(t, "the copy is well before "+fault.name, func() bool { return state(0).Status == "ok" && state(1).Status == "ok" })
		a.prefer(a.copies.all[0])
		if got := everyAnswer(t, a, from, to, false); got != want {
			t.Fatalf("before %s: %s", fault.name, diff(got, want))
		}
		first, err := a.Search(ctx(t), argus.SearchRequest{Limit: 700})
		w.must(err)
		began, of := false, w.now()
		var exported []argus.Record
		token, err := a.StartExport(ctx(t), argus.ExportRequest{})
		w.must(err)
		w.must(a.Export(ctx(t), argus.ExportRequest{Cursor: token.Cursor}, func(rows []argus.Record) error {
			if exported = append(exported, rows...); !began {
				began = true
				fault.begin()
				w.write(id, randomRecords(rng, 3, start)...)
				w.replicate()
			}
			return nil
		}))
		audittest.Same(t, fault.name+": the export", exported, w.match(argus.Filter{}, of, false))
		shown := first.Rows
		for cursor := first.NextCursor; cursor != ""; {
			page, err := a.Search(ctx(t), argus.SearchRequest{Limit: argus.MaxLimit, Cursor: cursor})
			w.must(err)
			shown, cursor = append(shown, page.Rows...), page.NextCursor
		}
		audittest.Same(t, fault.name+": the pages", shown, w.match(argus.Filter{}, first.Snapshot.Position, false))
		want = everyAnswer(t, alone, from, to, true)
		if got := everyAnswer(t, a, from, to, false); got != want {
			t.Fatalf("%s: %s", fault.name, diff(got, want))
		}
		until(t, fault.name+" is told, and the other copy preferred", func() bool {
			return state(0).Status == fault.status && state(0).Facts["preferred"] == false && state(1).Facts["preferred"] == true
		})
		if m, err := a.LedgerWatermark(ctx(t), ""); err != nil || m.Copy != "west" || !m.Position.Covers(w.published) {
			t.Errorf("%s: the ledger is read at %+v: %v", fault.name, m, err)
		}
		if fault.status == "down" {
			if _, err := a.LedgerWatermark(ctx(t), "east"); argus.CodeOf(err) != argus.CodeUnavailable {
				t.Errorf("%s: the copy that was named is read: %v", fault.name, err)
			}
			if s := state(0); s.Facts["down_seconds"].(float64) <= 0 || !strings.Contains(s.Detail, "another copy does") {
				t.Errorf("%s: %+v", fault.name, s)
			}
		}
		until(t, "the stream has all rows", func() bool { return stream.has(w.committed[1500:]) })
		fault.mend()
		both()
	}
	if _, err := a.LedgerWatermark(ctx(t), "north"); argus.CodeOf(err) != argus.CodeInvalidParameter || !strings.Contains(err.Error(), "east and west") {
		t.Errorf("a copy that is none: %v", err)
	}
	end()
	if err := <-ended; !errors.Is(err, context.Canceled) {
		t.Errorf("the stream ended with %v", err)
	}
}

// A copy that is silent is overtaken by another one long before it counts as stalled. The second question is a whole one: it
// has its own watermark. Exports are never asked twice, and other questions no more often than the share says.
func TestHedging(t *testing.T) {
	w, east, open := twoCopies(t)
	rng := rand.New(rand.NewPCG(63, 64))
	now := argus.Micros(time.Now())
	id := w.openWriter()
	w.write(id, randomRecords(rng, 300, now)...)
	east.replicate() // west has nothing yet
	a := open(func(c *Config) { c.HedgeAfter, c.stall = 20*time.Millisecond, time.Hour })
	frozen := a.copies.all[0]
	until(t, "both were looked at", func() bool {
		_, e := frozen.health.behind()
		tail, v := a.copies.all[1].health.behind()
		return e && v && tail == 300
	})
	a.cancel() // no probe finds out what a question should
	a.background.Wait()
	count := func() float64 { return testutil.ToFloat64(a.metrics.hedges.WithLabelValues("east")) }
	freeze := func() {
		a.prefer(frozen)
		w.must(east.ch.Engine().Kill(syscall.SIGSTOP))
	}
	thaw := func() {
		t.Helper()
		w.must(east.ch.Engine().Kill(syscall.SIGCONT))
		until(t, "the copy is back", func() bool { return a.probe(ctx(t), frozen) == nil })
		if !frozen.sound() {
			t.Fatal("the copy is still suspected")
		}
	}
	// It freezes behind its watermark, which claims all rows. The copy that answers claims none.
	var once sync.Once
	a.config.onCompose = func(step string) {
		if step == "watermark" {
			once.Do(freeze)
		}
	}
	page, err := a.Search(ctx(t), argus.SearchRequest{Limit: argus.MaxLimit})
	w.must(err)
	a.config.onCompose = nil
	audittest.Same(t, "the page", page.Rows, w.match(argus.Filter{}, w.now(), false))
	if count() < 1 || page.Source != argus.SourceBoth {
		t.Errorf("asked twice %v times, from %s", count(), page.Source)
	}
	thaw()
	w.replicate()
	for what, question := range map[string]func() error{
		"perf":   func() error { _, err := a.Perf(ctx(t), argus.PerfRequest{}); return err },
		"scan":   func() error { _, err := a.Perf(ctx(t), argus.PerfRequest{GroupBy: argus.GroupByTenant}); return err },
		"facets": func() error { _, err := a.Facets(ctx(t), argus.FacetsRequest{}); return err },
		"series": func() error {
			_, err := a.Series(ctx(t), argus.SeriesRequest{Filter: argus.Filter{Since: now.Add(-time.Hour)}})
			return err
		},
		"access": func() error { _, err := a.Access(ctx(t), argus.AccessRequest{}); return err },
		"differs": func() error {
			_, err := a.Differs(ctx(t), argus.DiffersRequest{Region: argus.Region{Kind: argus.RegionFailed}})
			return err
		},
	} {
		before := testutil.ToFloat64(a.metrics.overtaken.WithLabelValues("east"))
		freeze()
		w.must(question())
		if after := testutil.ToFloat64(a.metrics.overtaken.WithLabelValues("east")); after != before+1 {
			t.Errorf("%s was overtaken %v times", what, after-before)
		}
		thaw()
	}
	// While a probe waits for the copy, it is still suspected.
	freeze()
	frozen.suspect()
	probed := make(chan error, 1)
	go func() { probed <- a.probe(ctx(t), frozen) }()
	for waiting := true; waiting; {
		select {
		case err := <-probed:
			if waiting = false; err == nil {
				t.Error("a frozen copy passed its probe")
			}
		case <-time.After(time.Millisecond):
			if frozen.sound() {
				t.Fatal("a probe that has no answer ended the suspicion")
			}
		}
	}
	thaw()
	// An export waits for its copy.
	before := count()
	freeze()
	exported := make(chan int, 1)
	go func() {
		n := 0
		w.must(a.Export(ctx(t), argus.ExportRequest{}, func(rows []argus.Record) error { n += len(rows); return nil }))
		exported <- n
	}()
	until(t, "the export has asked", func() bool { return len(frozen.ch.slots) > 0 })
	_, err = a.Search(ctx(t), argus.SearchRequest{}) // has waited for longer than an export would
	w.must(err)
	if n := count(); n != before+1 {
		t.Errorf("asked twice %v times, once by the search", n-before)
	}
	thaw()
	if n := <-exported; n != len(w.committed) {
		t.Errorf("%d rows, want %d", n, len(w.committed))
	}
}

// Of many slow questions one in twenty is asked twice, after the reserve. What is slow is judged by questions of the kind.
func TestHedgesAreFew(t *testing.T) {
	h := newHedges()
	twice := 0
	for range 10_000 {
		h.earn()
		if h.spend() {
			twice++
		}
	}
	if twice > 500+hedgeReserve || twice < 500 {
		t.Errorf("%d of 10000", twice)
	}
	for range 200 {
		h.took(&attempt{kind: "perf scan", begun: time.Now().Add(-time.Second)})
	}
	if d := h.delay("perf scan", 100*time.Millisecond); d < 3*time.Second || d > time.Minute {
		t.Errorf("a second one is asked after %s", d)
	}
	if d := h.delay("search", 100*time.Millisecond); d != 100*time.Millisecond {
		t.Errorf("of another kind after %s", d)
	}
}

// The ledger's questions are about one copy, and all of an answer is of the one whose watermark was read: the other is not asked,
// also when another one is preferred meanwhile.
func TestLedgerReadsOneCopy(t *testing.T) {
	w := newWorld(t)
	west := w.replicaIn(enginetest.NewClickHouse(t))
	rng := rand.New(rand.NewPCG(65, 66))
	id := w.openWriter()
	w.write(id, randomRecords(rng, 20, time.Now())...)
	w.replicate()
	a := w.analytics(func(c *Config) { c.ClickHouseURL = "east=" + w.ch.ReaderURL + " west=" + west.ch.ReaderURL })
	req := argus.LedgerRequest{Source: argus.SourceClickHouse, Since: time.Unix(0, 0), Until: time.Now().Add(time.Hour),
		Ranges: []argus.SeqRange{{WriterID: id, From: 1, To: 20}}}
	for name, want := range map[string]int{"east": 20, "west": 0} {
		m, err := a.LedgerWatermark(ctx(t), name)
		w.must(err)
		if m.Copy != name || m.Position.Through(id) != int64(want) {
			t.Errorf("%s: the watermark is %+v", name, m)
		}
		for _, preferred := range a.copies.all {
			a.prefer(preferred)
			rows, counted := 0, int64(0)
			req.Copy = m.Copy
			w.must(a.LedgerRows(ctx(t), req, func(some []argus.Record) error { rows += len(some); return nil }))
			counts, err := a.LedgerCounts(ctx(t), req, map[int64]argus.SeqRange{id: {WriterID: id, From: 1, To: 20}})
			w.must(err)
			for _, c := range counts {
				counted += c.Rows
			}
			if rows != want || counted != int64(want) {
				t.Errorf("%s, while %s is preferred: %d rows, %d counted, want %d", name, preferred, rows, counted, want)
			}
		}
	}
}

func anyResult() proto.Results { return proto.Results{{Name: "n", Data: &proto.ColUInt64{}}} }

// A question that is too large is so for every copy: no other is asked. A watermark that takes too long is no such question, and
// neither is one for which a server has no memory left: others use that too.
func TestABoundIsNoFailover(t *testing.T) {
	w := newWorld(t)
	other := w.replicaIn(enginetest.StartOwnClickHouse(t, engines.ClickHouseConfig{MaxMemory: 1 << 30}))
	a := w.analytics(func(c *Config) { c.ClickHouseURL = "east=" + other.ch.ReaderURL + " west=" + w.ch.ReaderURL })
	const large = "SELECT length(groupArray(number)) AS n FROM numbers(1000000000)"
	endless := "SELECT count() AS n FROM numbers(1000000000000) WHERE NOT ignore(sipHash64(number))"
	for _, c := range []struct {
		what, text string
		within     bounds
		watermark  bool
		asked      string
		code       argus.Code
	}{
		{"too much memory for a question", large, bounds{time: scanTime, memory: 50 << 20}, false, "[east]", argus.CodeQueryTooLarge},
		{"too much time for a question", endless, bounds{time: 100 * time.Millisecond, memory: 50 << 20}, false, "[east]", argus.CodeQueryTooLarge},
		{"a slow watermark", endless, bounds{time: 100 * time.Millisecond, memory: 50 << 20}, true, "[east west postgres]", ""},
		{"no memory left on the server", large, bounds{time: scanTime, memory: 2 << 30}, false, "[east west]", ""},
	} {
		until(t, "the copy is sound before "+c.what, a.copies.all[0].sound)
		a.prefer(a.copies.all[0])
		var asked []string
		_, err := ask(ctx(t), a, "", func(ctx context.Context, on *attempt) (int, error) {
			if on.copy == nil {
				asked = append(asked, "postgres")
				return 0, nil
			}
			asked = append(asked, on.copy.name)
			return 0, on.with(ctx, func(conn *clickhouseConn) error {
				text := c.text
				if !c.watermark && on.copy.name == "west" {
					text = "SELECT 1::UInt64 AS n"
				}
				err := conn.query(ctx, statement{text: text}, c.within, anyResult(), func(int) error { return nil })
				if c.watermark {
					err = &watermarkError{err}
				}
				t.Logf("%s: %s said %v", c.what, on.copy, err)
				return err
			})
		})
		if fmt.Sprint(asked) != c.asked || (c.code == "") != (err == nil) || err != nil && argus.CodeOf(err) != c.code {
			t.Errorf("%s: asked %v: %v", c.what, asked, err)
		}
	}
}
