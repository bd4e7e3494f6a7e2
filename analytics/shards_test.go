package analytics

import (
	"math"
	"math/rand/v2"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/useargus/argus"
	"github.com/useargus/argus/connect"
	"github.com/useargus/argus/internal/engines/enginetest"
	"github.com/useargus/argus/migrations"
)

// shardsOf shares out a world's writers among servers.
type shardsOf struct {
	w       *world
	servers []*replica
}

// replicate copies everything to all but the servers that lag, which stay as they are.
func (s *shardsOf) replicate(lag ...int) {
	s.w.t.Helper()
	behind := map[int]bool{}
	for _, i := range lag {
		behind[i] = true
	}
	for i, server := range s.servers {
		if behind[i] {
			continue
		}
		own := func(writer int64) bool { return int(writer%int64(len(s.servers))) == i }
		var rows []argus.Record
		for j := range s.w.committed {
			if own(s.w.committed[j].WriterID) {
				rows = append(rows, s.w.committed[j])
			}
		}
		server.copyRows(rows)
		p := s.w.now()
		for writer := range p.Writers {
			if !own(writer) {
				delete(p.Writers, writer)
			}
		}
		server.publish(p)
	}
}

// setting is ARGUS_CLICKHOUSE_URL with these servers as one copy.
func (s *shardsOf) setting(url func(*enginetest.ClickHouse) string, servers ...int) string {
	var urls []string
	for _, i := range servers {
		urls = append(urls, url(s.servers[i].ch))
	}
	return "three=" + strings.Join(urls, "|")
}

// TestShards: every question is answered alike by one server and by three that share its rows, with rows on their way, closed
// writers and a server that lags. While a server is away, frozen or not known to the others, Postgres answers, and no answer is
// smaller.
func TestShards(t *testing.T) {
	w := newWorld(t)
	s := &shardsOf{w: w}
	for _, ch := range enginetest.StartOwnShards(t, 3, map[string]string{"skip_unavailable_shards": "1", "distributed_group_by_no_merge": "1"}) {
		s.servers = append(s.servers, w.replicaIn(ch))
	}
	rng := rand.New(rand.NewPCG(71, 72))
	start := argus.Micros(time.Now())
	from, to := start.Add(-300*24*time.Hour), start
	var writers []int64
	for range 7 {
		id := w.openWriter()
		writers = append(writers, id)
		w.write(id, randomRecords(rng, 150, start)...)
	}
	w.closeWriter(writers[2])
	reader := func(ch *enginetest.ClickHouse) string { return ch.ReaderURL }
	migrate := func(ch *enginetest.ClickHouse) string { return ch.MigrateURL }
	open := func(setting string) *Analytics {
		return w.analytics(func(c *Config) { c.ClickHouseURL, c.stall = setting, 3*time.Second })
	}
	one, three := w.analytics(), open(s.setting(reader, 0, 1, 2))
	same := func(when string, fromPostgres bool) {
		t.Helper()
		want, got := everyAnswer(t, one, from, to, false), everyAnswer(t, three, from, to, fromPostgres)
		if got != want {
			t.Fatalf("%s, three servers answer otherwise than one: %s", when, diff(want, got))
		}
	}
	well := func() {
		t.Helper()
		until(t, "all shards answer", func() bool { return three.Stages()[0].Status == "ok" })
	}

	w.replicate()
	s.servers[0].publish(argus.Position{ClosedThrough: writers[6], Writers: map[int64]int64{}}) // the others have published nothing
	until(t, "the shards were asked", func() bool { return three.Stages()[0].Status != "down" && three.copies.all[0].usable() })
	wm := three.watermarkNow(t)
	if wm.ClosedThrough != 0 || len(wm.Writers) > 0 {
		t.Fatalf("with one watermark of three, %s is promised", wm)
	}
	s.replicate()
	well()
	same("with all rows copied", false)
	rows, err := three.Search(ctx(t), argus.SearchRequest{Limit: 10})
	w.must(err)
	for page, n := rows, len(rows.Rows); page.NextCursor != ""; n += len(page.Rows) {
		page, err = three.Search(ctx(t), argus.SearchRequest{Cursor: page.NextCursor, Limit: argus.MaxLimit})
		w.must(err)
		if page.NextCursor == "" && n+len(page.Rows) != len(w.committed) {
			t.Errorf("pages have %d rows of %d", n+len(page.Rows), len(w.committed))
		}
	}

	for _, id := range writers[3:] { // rows on their way, a writer that is new, and a server that lags
		w.write(id, randomRecords(rng, 20, start)...)
	}
	w.closeWriter(writers[4])
	w.write(w.openWriter(), randomRecords(rng, 30, start)...)
	s.replicate(1)
	same("with a shard that lags", false)
	w.write(w.openWriter(), randomRecords(rng, 30, start)...)
	same("with rows on their way", false)
	few := three.config.fewRows
	three.config.raw, three.config.fewRows = rawLists, math.MaxInt64
	same("with all counted by rows", false)
	three.config.raw, three.config.fewRows = rawByEstimate, few
	s.replicate()

	// which server it is stands in what a person reads
	away := func(server string) func() bool {
		return func() bool {
			stage := three.Stages()[0]
			return stage.Status == "down" && strings.Contains(stage.Detail, "no answer came from "+server+";")
		}
	}
	for name, fault := range map[string][2]func(){
		"killed": {func() { w.must(s.servers[2].ch.Engine().Kill(syscall.SIGKILL)) }, func() { s.servers[2].ch.Restart(t) }},
		"frozen": {func() { w.must(s.servers[1].ch.Engine().Kill(syscall.SIGSTOP)) }, func() { w.must(s.servers[1].ch.Engine().Kill(syscall.SIGCONT)) }},
	} {
		well()
		fault[0]()
		same("with a shard "+name, true)
		until(t, "the shard is missed", away(map[string]string{"killed": "three/3", "frozen": "three/2"}[name]))
		fault[1]()
	}
	well()
	same("with all shards back", false)

	// Servers that are set otherwise than they know each other.
	two := open(s.setting(reader, 0, 1))
	until(t, "the two are asked", func() bool { return two.Stages()[0].Status == "down" })
	if got := everyAnswer(t, two, from, to, true); got != everyAnswer(t, one, from, to, false) {
		t.Error("two of three servers give another answer")
	}
	twice := open(s.setting(reader, 0, 1, 1))
	until(t, "the one that is named twice is asked", func() bool { return twice.Stages()[0].Status == "down" })
	if got := everyAnswer(t, twice, from, to, true); got != everyAnswer(t, one, from, to, false) {
		t.Error("a server that is named twice gives another answer")
	}
	for _, servers := range [][]int{{0, 1}, {0, 2, 1}, {0, 1, 1}} {
		copies, err := connect.Copies(s.setting(migrate, servers...))
		w.must(err)
		if err := migrations.JoinShards(ctx(t), copies[0]); err == nil {
			t.Errorf("the servers %v were joined", servers)
		}
	}
}

// watermarkNow is what the copy promises.
func (a *Analytics) watermarkNow(t *testing.T) argus.Position {
	t.Helper()
	c := a.copies.all[0]
	conn, err := c.ch.dial(ctx(t))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.close()
	wm, err := c.readWatermark(ctx(t), conn)
	if err != nil {
		t.Fatal(err)
	}
	return wm.Position
}
