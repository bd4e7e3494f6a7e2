//go:build bench

package analytics

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"log/slog"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/ClickHouse/ch-go/proto"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/useargus/argus"
)

// The figures of analytics (make bench), on ARGUS_BENCH_ROWS generated rows (20 million by default) over 365 days and
// 240 routes, the same rows in both stores. $ARGUS_BENCH_DIR keeps the stores between runs. References run beside
// ours, in turns with it, and medians are compared.

func TestBenchFigures(t *testing.T) {
	b := loadBench(t, false)
	t.Run("perf", b.perf)
	t.Run("page", b.pages)
	t.Run("facets", b.facets)
	t.Run("panels", b.panels)
	t.Run("export", b.export)
	t.Run("copies", b.copies)
	t.Run("shards", b.shards)
	t.Run("size", b.sizes)
}

func figure(name, ours, reference, ratio, target string, ok bool) {
	verdict := "ok"
	if !ok {
		verdict = "MISS"
	}
	fmt.Printf("FIGURE\t%s\t%s\t%s\t%s\t%s\t%s\n", name, ours, reference, ratio, target, verdict)
}

func ms(d time.Duration) string { return fmt.Sprintf("%.1f ms", float64(d.Microseconds())/1000) }

// times runs f n times and returns the median.
func times(t testing.TB, n int, f func() error) time.Duration {
	t.Helper()
	var all []time.Duration
	for range n {
		start := time.Now()
		if err := f(); err != nil {
			t.Fatal(err)
		}
		all = append(all, time.Since(start))
	}
	slices.Sort(all)
	return all[len(all)/2]
}

// rawPerf is what perf is measured against: exact quantiles over the rows.
func (b *bench) rawPerf(w window) error {
	var (
		route     = new(proto.ColStr).LowCardinality()
		n, failed proto.ColUInt64
		quantiles = proto.NewArray[int64](new(proto.ColInt64))
		longest   proto.ColInt64
		args      clickhouseArgs
		conds     = w.clickhouse(&args)
	)
	text := "SELECT route, count() AS n, countIf(status >= 500) AS failed, quantilesExact(0.5, 0.95, 0.99)(assumeNotNull(latency_us)) AS q, " +
		"max(assumeNotNull(latency_us)) AS longest FROM audit_log WHERE outcome = 'completed' AND " + and(conds) + " GROUP BY route"
	return b.a.copies.all[0].ch.with(context.Background(), func(conn *clickhouseConn) error {
		return conn.query(context.Background(), statement{text, args.params}, bounds{time: time.Minute, memory: 2 << 30},
			proto.Results{{Name: "route", Data: route}, {Name: "n", Data: &n}, {Name: "failed", Data: &failed},
				{Name: "q", Data: quantiles}, {Name: "longest", Data: &longest}}, func(int) error { return nil })
	})
}

func (b *bench) perf(t *testing.T) {
	ctx := context.Background()
	ask := b.askPerf
	windows := []struct {
		name string
		w    window
	}{
		{"365 d", window{b.until.Add(-argus.Retention + time.Minute), b.until}},
		{"30 d", window{b.until.Add(-30 * 24 * time.Hour), b.until}},
		{"24 h", window{b.until.Add(-24 * time.Hour), b.until}},
		{"1 h", window{b.until.Add(-time.Hour), b.until}},
		{"an unaligned window of 91 d", window{b.until.Add(-100*24*time.Hour - 13*time.Hour - 1234567*time.Microsecond), b.until.Add(-9*24*time.Hour - 7654321*time.Microsecond)}},
	}
	for _, win := range windows {
		if err := ask(win.w)(); err != nil {
			t.Fatal(err)
		}
		var ours, raw []time.Duration
		for range 5 {
			ours = append(ours, times(t, 3, ask(win.w)))
			raw = append(raw, times(t, 1, func() error { return b.rawPerf(win.w) }))
		}
		slices.Sort(ours)
		slices.Sort(raw)
		o, r := ours[2], raw[2]
		ratio := float64(r) / float64(o)
		if win.name == "365 d" {
			figure("perf over 365 d, 240 routes, "+b.size()+", against quantilesExact over the rows", ms(o), ms(r),
				fmt.Sprintf("%.1f×", ratio), "≥ 30×", ratio >= 30)
			continue
		}
		target, most := "≤ reference + 2 ms", r+2*time.Millisecond
		if win.name == "1 h" {
			target, most = "≤ 6 ms", 6*time.Millisecond
		}
		figure("perf over "+win.name+", "+b.size()+", against the same", ms(o), ms(r), fmt.Sprintf("%.1f×", ratio), target, o <= most)
	}

	b.sweep(t)

	// Postgres has the last word on what the quantiles are.
	year := windows[0].w
	res, err := b.a.Perf(ctx, argus.PerfRequest{Filter: argus.Filter{Since: year.since, Until: year.until}})
	if err != nil {
		t.Fatal(err)
	}
	ours := times(t, 5, ask(year))
	start := time.Now()
	rows, err := b.pg.Query(ctx, `SELECT route, count(*), percentile_disc(ARRAY[0.5, 0.95, 0.99]) WITHIN GROUP (ORDER BY latency_us), max(latency_us)
		FROM argus.argus_audit_log WHERE outcome = 'completed' AND occurred_at >= $1 AND occurred_at < $2 GROUP BY route`, year.since, year.until)
	if err != nil {
		t.Fatal(err)
	}
	defer rows.Close()
	worst, wrong := 0.0, 0
	for rows.Next() {
		var route string
		var n, most int64
		var q []int64
		if err := rows.Scan(&route, &n, &q, &most); err != nil {
			t.Fatal(err)
		}
		i := slices.IndexFunc(res.Rows, func(r argus.PerfRow) bool { return r.Group == route })
		if i < 0 || res.Rows[i].Count != n || res.Rows[i].Max != float64(most)/1000 {
			wrong++
			continue
		}
		for j, got := range []float64{res.Rows[i].P50, res.Rows[i].P95, res.Rows[i].P99} {
			worst = max(worst, math.Abs(got*1000-float64(q[j]))/float64(max(1, q[j])))
		}
	}
	if rows.Err() != nil {
		t.Fatal(rows.Err())
	}
	reference := time.Since(start)
	ratio := float64(reference) / float64(ours)
	figure("perf over 365 d, "+b.size()+", against Postgres percentile_disc", ms(ours), ms(reference), fmt.Sprintf("%.0f×", ratio), "≥ 500×", ratio >= 500)
	figure("perf quantiles, greatest error of 720 (counts and maxima exact)", fmt.Sprintf("%.2f %%", worst*100), "exact",
		fmt.Sprintf("%d wrong", wrong), "within 1 %", worst <= 0.01 && wrong == 0)
}

func (b *bench) facets(t *testing.T) {
	ctx := context.Background()
	for _, c := range []struct {
		name string
		d    time.Duration
	}{{"a day", 24 * time.Hour}, {"a month", 30 * 24 * time.Hour}, {"a year", argus.Retention - time.Minute}} {
		w := window{b.until.Add(-c.d), b.until}
		ask := func() error {
			res, err := b.a.Facets(ctx, argus.FacetsRequest{Filter: argus.Filter{Since: w.since, Until: w.until},
				Fields: []argus.FilterName{argus.FilterActor, argus.FilterRoute, argus.FilterStatus}})
			if err == nil && res.Source == argus.SourcePostgres {
				err = fmt.Errorf("from %s", res.Source)
			}
			return err
		}
		reference := func() error {
			for _, column := range []string{"actor_id", "route", "status"} {
				rows, err := b.pg.Query(ctx, "SELECT "+column+", count(*) FROM argus.argus_audit_log WHERE occurred_at >= $1 AND occurred_at < $2 GROUP BY 1", w.since, w.until)
				if err != nil {
					return err
				}
				for rows.Next() {
				}
				rows.Close()
				if rows.Err() != nil {
					return rows.Err()
				}
			}
			return nil
		}
		if err := ask(); err != nil {
			t.Fatal(err)
		}
		ours, theirs := times(t, 7, ask), times(t, 3, reference)
		ratio := float64(theirs) / float64(ours)
		target, least := "≥ 5×", 5.0
		if c.name == "a day" {
			target, least = "≥ 3×", 3
		}
		figure("facets of "+c.name+", "+b.size()+" (actor, route, status, and the histogram), against indexed Postgres without one",
			ms(ours), ms(theirs), fmt.Sprintf("%.1f×", ratio), target, ratio >= least)
	}
}

func (b *bench) export(t *testing.T) {
	rows := 0
	out := bufio.NewWriterSize(io.Discard, 64<<10)
	start := time.Now()
	buf := make([]byte, 0, 64<<10)
	f := argus.Filter{Since: b.until.Add(-60 * 24 * time.Hour)}
	err := b.a.Export(context.Background(), argus.ExportRequest{Filter: f, Ascending: true}, func(records []argus.Record) error {
		for i := range records {
			buf = append(records[i].AppendJSON(buf[:0]), '\n')
			if _, err := out.Write(buf); err != nil {
				return err
			}
		}
		rows += len(records)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	rate := float64(rows) / time.Since(start).Seconds()
	figure("export of 60 d as NDJSON, of "+b.size(), fmt.Sprintf("%.0f rows/s (%d rows)", rate, rows), "–", "–", "≥ 200 000 rows/s", rate >= 200_000)
}

func (b *bench) sizes(t *testing.T) {
	size := func(like string) float64 {
		var n uint64
		err := b.admin.QueryRow(context.Background(), "SELECT sum(bytes_on_disk) FROM system.parts WHERE active AND database = currentDatabase() AND table LIKE ?", like).Scan(&n)
		if err != nil {
			t.Fatal(err)
		}
		return float64(n) / float64(b.rows)
	}
	var table, indexes int64
	err := b.pg.QueryRow(context.Background(), `SELECT sum(pg_table_size(inhrelid))::bigint, sum(pg_indexes_size(inhrelid))::bigint
		FROM pg_inherits WHERE inhparent = 'argus.argus_audit_log'::regclass`).Scan(&table, &indexes)
	if err != nil {
		t.Fatal(err)
	}
	rows, all := size("audit\\_log"), size("audit\\_%")
	heap, index := float64(table)/float64(b.rows), float64(indexes)/float64(b.rows)
	figure("bytes a row: ClickHouse's table, against Postgres's", fmt.Sprintf("%.0f", rows), fmt.Sprintf("%.0f", heap),
		fmt.Sprintf("%.1f×", heap/rows), "–", true)
	figure("bytes a row with rollups, against with all indexes", fmt.Sprintf("%.0f", all), fmt.Sprintf("%.0f", heap+index),
		fmt.Sprintf("%.1f×", (heap+index)/all), "–", true)
}

func mustFilter(t testing.TB, query string) argus.Filter {
	q := map[string][]string{}
	for _, pair := range strings.Split(query, "\x00") { // a value may hold any other
		if name, value, ok := strings.Cut(pair, "="); ok {
			q[name] = append(q[name], value)
		}
	}
	f, err := argus.ParseFilter(q, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	return f
}

func (b *bench) size() string {
	return strconv.FormatFloat(float64(benchRows())/1e6, 'f', -1, 64) + " M rows"
}

func benchRows() int {
	if n, err := strconv.Atoi(os.Getenv("ARGUS_BENCH_ROWS")); err == nil && n > 0 {
		return n
	}
	return 20_000_000
}

func benchDir(t *testing.T) (dir string, kept bool) {
	if dir := os.Getenv("ARGUS_BENCH_DIR"); dir != "" {
		return filepath.Join(dir, "analytics"), true
	}
	dir, err := os.MkdirTemp("", "argus-bench-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	return dir, false
}

func (b *bench) start(t *testing.T, clickhouseURL string, pool *pgxpool.Pool) {
	b.url, b.api = clickhouseURL, pool
	a, err := New(Config{
		ClickHouseURL: clickhouseURL, Postgres: pool, CursorKey: testKey, Logger: slog.New(slog.DiscardHandler),
		now: func() time.Time { return b.until }, // data that was kept is as old as it is
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := a.Start(context.Background()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { a.Close(context.Background()) })
	b.a = a
}
