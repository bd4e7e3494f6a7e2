//go:build bench

package analytics

import (
	"context"
	"fmt"
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/ClickHouse/clickhouse-go/v2"

	"github.com/useargus/argus"
	"github.com/useargus/argus/connect"
	"github.com/useargus/argus/internal/engines"
	"github.com/useargus/argus/migrations"
)

// shards has three servers share out the rows of the one, on the same processors, and asks both the same, in turns.
func (b *bench) shards(t *testing.T) {
	ctx := context.Background()
	servers, setting := b.shareOut(t, 3)
	three, err := New(Config{ClickHouseURL: setting, Postgres: b.api, CursorKey: testKey, Logger: slog.New(slog.DiscardHandler),
		now: func() time.Time { return b.until }})
	if err == nil {
		err = three.Start(ctx)
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { three.Close(context.Background()) })
	until(t, "the shards answer", func() bool { return three.Stages()[0].Status == "ok" })

	filters := b.benchFilters(t)
	want, got := b.answers(t, b.a, filters), b.answers(t, three, filters)
	same := 0
	for name, answer := range want {
		if got[name] == answer {
			same++
		} else {
			t.Errorf("%s differs: %s", name, diff(answer, got[name]))
		}
	}
	figure("three shards and one server give the same answers, "+b.size(), fmt.Sprintf("%d of %d", same, len(want)), "–", "–", "all", same == len(want))

	perf := func(length time.Duration) func(a *Analytics) (argus.Source, error) {
		return func(a *Analytics) (argus.Source, error) {
			res, err := a.Perf(ctx, argus.PerfRequest{Filter: argus.Filter{Since: b.until.Add(-length), Until: b.until}})
			return res.Source, err
		}
	}
	page := func(query string) func(a *Analytics) (argus.Source, error) {
		f := mustFilter(t, query)
		return func(a *Analytics) (argus.Source, error) {
			res, err := a.Search(ctx, argus.SearchRequest{Filter: f})
			return res.Source, err
		}
	}
	for _, q := range []struct {
		name string
		ask  func(a *Analytics) (argus.Source, error)
	}{
		{"perf over 365 d", perf(argus.Retention - time.Minute)},
		{"perf over 30 d", perf(30 * 24 * time.Hour)},
		{"perf over 24 h", perf(24 * time.Hour)},
		{"perf over 1 h", perf(time.Hour)},
		{"a page of 100 rows", page("")},
		{"a page of 100 rows, status=5xx", page("status=5xx")},
		{"a page of 100 rows, method=DELETE and status=4xx", page("status=4xx\x00method=DELETE")},
		{"a page of 100 rows, of an actor that has none", page("actor=user_nobody")},
	} {
		b.beside(t, q.name, q.ask, three, servers)
	}
}

// beside asks one server and its shards the same in turns. It compares the medians, and the processor time of the servers.
func (b *bench) beside(t *testing.T, name string, ask func(*Analytics) (argus.Source, error), three *Analytics, servers []*engines.ClickHouse) {
	const turns, each = 10, 4
	var took [2][]time.Duration
	var spent [2]time.Duration
	shard := make([]time.Duration, len(servers))
	for turn := range turns + 1 {
		for i, a := range []*Analytics{b.a, three} {
			before := []time.Duration{processorTime(t, b.server)}
			for _, s := range servers {
				before = append(before, processorTime(t, s))
			}
			all := times(t, each, func() error {
				source, err := ask(a)
				if err == nil && source == argus.SourcePostgres {
					err = fmt.Errorf("it comes from %s", source)
				}
				return err
			})
			if turn == 0 { // plans and caches are cold
				continue
			}
			took[i] = append(took[i], all)
			if i == 0 {
				spent[0] += processorTime(t, b.server) - before[0]
				continue
			}
			for j, s := range servers {
				d := processorTime(t, s) - before[j+1]
				shard[j] += d
				spent[1] += d
			}
		}
	}
	slices.Sort(took[0])
	slices.Sort(took[1])
	one, all := took[0][turns/2], took[1][turns/2]
	ratio := float64(all) / float64(one)
	figure("three shards: "+name+", "+b.size()+", on the same processors as one server", ms(all), ms(one), fmt.Sprintf("%.1f×", ratio), "≤ 2.5×", ratio <= 2.5)
	var by []string
	for _, d := range shard {
		by = append(by, ms(d/(turns*each)))
	}
	ratio = float64(spent[1]) / float64(spent[0])
	busiest := slices.Max(shard) / (turns * each)
	figure("three shards: "+name+", "+b.size()+", processor time of all servers", fmt.Sprintf("%s (%s)", ms(spent[1]/(turns*each)), strings.Join(by, ", ")),
		ms(spent[0]/(turns*each)), fmt.Sprintf("%.1f×; the busiest %.1f×", ratio, float64(busiest*turns*each)/float64(spent[0])), "–", true)
}

// answers asks everything over four windows, and for a page of each filter.
func (b *bench) answers(t *testing.T, a *Analytics, filters []string) map[string]string {
	answers := map[string]string{}
	for _, length := range []time.Duration{argus.Retention - time.Minute, 30 * 24 * time.Hour, 24 * time.Hour, time.Hour} {
		for i, answer := range everyAnswerOf(t, a, b.until.Add(-length), b.until, false) {
			answers[fmt.Sprint("answer ", i, " over ", length)] = answer
		}
	}
	for _, query := range filters {
		page, err := a.Search(context.Background(), argus.SearchRequest{Filter: mustFilter(t, query)})
		if err != nil {
			t.Fatal(err)
		}
		var rows strings.Builder
		for i := range page.Rows {
			rows.Write(append(page.Rows[i].AppendJSON(nil), '\n'))
		}
		answers["page "+query] = rows.String()
	}
	return answers
}

// shareOut copies the rows of the one server to n that share them, and gives the setting by which they are read.
func (b *bench) shareOut(t *testing.T, n int) ([]*engines.ClickHouse, string) {
	ctx := context.Background()
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	dir, err := os.MkdirTemp("", "argus-bench-")
	must(err)
	t.Cleanup(func() { os.RemoveAll(dir) })
	must(os.Chmod(dir, 0o711))
	var configs []engines.ClickHouseConfig
	for i := range n {
		config := b.server.Config()
		config.Dir, config.TCPPort, config.HTTPPort, config.MaxMemory = filepath.Join(dir, strconv.Itoa(i)), 0, 0, 2<<30
		configs = append(configs, config)
	}
	servers, err := engines.StartShards(ctx, configs)
	must(err)
	t.Cleanup(func() {
		for _, s := range servers {
			s.Stop(context.Background())
		}
	})
	c, read := connect.Copy{Name: "three"}, []string{}
	for _, s := range servers {
		c.Shards = append(c.Shards, s.AdminURL("argus"))
		read = append(read, s.NativeURL("argus_reader", benchPassword, "argus"))
		_, err := migrations.ClickHouse(ctx, s.AdminURL("argus"), "")
		must(err)
	}
	must(migrations.JoinShards(ctx, c))
	writers := [benchWriters]int64(slices.Sorted(maps.Keys(b.snapshot.Writers)))
	var batches []chan []argus.Record
	var copying sync.WaitGroup
	for i, s := range servers {
		batches = append(batches, make(chan []argus.Record, 2))
		copying.Go(func() {
			if err := copyToClickHouse(ctx, s.AdminURL("argus"), batches[i]); err != nil {
				t.Error(err)
			}
		})
	}
	b.generate(writers, func(rows []argus.Record) {
		parts := make([][]argus.Record, n)
		for i := range rows {
			s := slices.Index(writers[:], rows[i].WriterID) % n
			parts[s] = append(parts[s], rows[i])
		}
		for s, part := range parts {
			batches[s] <- part
		}
	})
	for _, c := range batches {
		close(c)
	}
	copying.Wait()
	for i, s := range servers {
		o, err := clickhouse.ParseDSN(s.AdminURL("argus"))
		must(err)
		admin, err := clickhouse.Open(o)
		must(err)
		defer admin.Close()
		var own, seqs []int64
		for j, writer := range writers {
			if j%n == i {
				own, seqs = append(own, writer), append(seqs, b.snapshot.Writers[writer])
			}
		}
		must(admin.Exec(ctx, "INSERT INTO audit_watermark (version, epoch, published_at, lsn, closed_through, writers, seqs) VALUES (1, 1, now64(6), 0, ?, ?, ?)",
			writers[benchWriters-1], own, seqs))
		b.merge(t, admin)
	}
	return servers, "three=" + strings.Join(read, "|")
}

// processorTime is what a server has spent since it began.
func processorTime(t *testing.T, s *engines.ClickHouse) time.Duration {
	t.Helper()
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", s.PID()))
	if err != nil {
		t.Fatal("processor time is read from Linux's /proc: ", err)
	}
	fields := strings.Fields(string(stat[strings.LastIndexByte(string(stat), ')')+2:]))
	user, _ := strconv.ParseInt(fields[11], 10, 64)
	system, _ := strconv.ParseInt(fields[12], 10, 64)
	return time.Duration(user+system) * 10 * time.Millisecond // USER_HZ
}
