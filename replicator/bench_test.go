//go:build bench

package replicator

import (
	"context"
	"fmt"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	clickhousego "github.com/ClickHouse/clickhouse-go/v2"
	"github.com/jackc/pgx/v5"

	"github.com/useargus/argus/internal/engines"
)

// The figures of the replicator (make bench). References run beside ours, in the same run, on the same engines.
// ARGUS_BENCH_SCALE multiplies how many rows wait to be drained (1: a million).

func benchRows() int {
	scale, err := strconv.ParseFloat(os.Getenv("ARGUS_BENCH_SCALE"), 64)
	if err != nil || scale <= 0 {
		scale = 1
	}
	return int(scale * 1e6)
}

func figure(name string, ours, reference, ratio float64, target string, ok bool) {
	verdict := "ok"
	if !ok {
		verdict = "MISS"
	}
	cell := func(v float64) string {
		if v == 0 {
			return "-"
		}
		return strconv.FormatFloat(v, 'g', 4, 64)
	}
	fmt.Printf("FIGURE\t%s\t%s\t%s\t%s\t%s\t%s\n", name, cell(ours), cell(reference), cell(ratio), target, verdict)
}

// TestBenchFiguresDrain: rows wait, and are drained by pg_recvlogical to nowhere and by the replicator into
// ClickHouse, in turns.
func TestBenchFiguresDrain(t *testing.T) {
	w := newOwnWorld(t, engines.PostgresConfig{})
	w.dropTestRollups()
	recvlogical := findRecvlogical()
	const turns = 3
	n := benchRows() / turns
	w.startChild("", 0).untilCaughtUp(w).stop()
	if recvlogical != "" {
		w.recvlogical(recvlogical, "--create-slot", "-P", "pgoutput")
	}
	var ours, reference, cpu, clickhouse []float64
	var memory float64
	for turn := range turns {
		w.fill(n)
		measureOurs := func() {
			began := time.Now()
			chBefore := cpuOf(w.ch.Engine().PID())
			c := w.startChild("", 0)
			w.caughtUp()
			clickhouse = append(clickhouse, (cpuOf(w.ch.Engine().PID())-chBefore)/float64(n))
			ours = append(ours, float64(n)/time.Since(began).Seconds())
			memory = max(memory, c.peakMemory())
			c.stop()
			usage := c.cmd.ProcessState
			cpu = append(cpu, float64((usage.UserTime()+usage.SystemTime()).Microseconds())/float64(n))
		}
		measureReference := func() {
			if recvlogical == "" {
				return
			}
			var end string
			w.must(w.api.QueryRow(w.ctx(), "SELECT pg_current_wal_lsn()::text").Scan(&end))
			began := time.Now()
			w.recvlogical(recvlogical, "--start", "--no-loop", "-f", "/dev/null", "-E", end,
				"-o", "proto_version=1", "-o", "publication_names=argus", "-o", "binary=true")
			reference = append(reference, float64(n)/time.Since(began).Seconds())
		}
		if turn%2 == 0 {
			measureReference()
			measureOurs()
		} else {
			measureOurs()
			measureReference()
		}
	}
	w.verifyCheck(true)
	if len(reference) == 0 {
		fmt.Println("FIGURE\treplicator: drain of waiting rows, rows/s, against pg_recvlogical -o binary=true to nowhere\t-\tnot installed\t-\t>= 0.9\tMISS")
	} else {
		ratio := median(ours) / median(reference)
		figure("replicator: drain of waiting rows, rows/s, against pg_recvlogical -o binary=true to nowhere",
			median(ours), median(reference), ratio, ">= 0.9", ratio >= 0.9)
	}
	figure("replicator: CPU of its process a row, µs", median(cpu), 0, 0, "-", true)
	figure("replicator: CPU of ClickHouse a row, views and merges included, µs", median(clickhouse), 0, 0, "-", true)
	figure(fmt.Sprintf("replicator: peak memory with %d rows waiting, MB", n), memory, 0, 0, "<= 256", memory <= 256)
}

func median(v []float64) float64 {
	v = slices.Clone(v)
	slices.Sort(v)
	return v[len(v)/2]
}

// dropTestRollups leaves those of the migrations.
func (w *world) dropTestRollups() {
	for _, name := range []string{"test_by_minute_view", "test_by_minute", "test_by_day_view", "test_by_day"} {
		w.must(w.copy.Exec(w.ctx(), "DROP TABLE "+name))
	}
}

// fill commits n rows in batches as the writer makes them under load.
func (w *world) fill(n int) {
	var lanes sync.WaitGroup
	const width = 2
	for range width {
		l := w.openLane()
		lanes.Go(func() {
			for done := 0; done < n/width; done += 250 {
				l.write(250, time.Now())
			}
		})
	}
	lanes.Wait()
}

func (c *child) untilCaughtUp(w *world) *child {
	w.caughtUp()
	return c
}

// peakMemory in MB, resident.
func (c *child) peakMemory() float64 {
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", c.cmd.Process.Pid))
	if err != nil {
		return 0
	}
	_, rest, _ := strings.Cut(string(data), "VmHWM:")
	kb, _ := strconv.ParseFloat(strings.Fields(rest)[0], 64)
	return kb / 1024
}

// cpuOf is the CPU time a process has used, in µs.
func cpuOf(pid int) float64 {
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0
	}
	_, rest, _ := strings.Cut(string(data), ") ")
	f := strings.Fields(rest)
	user, _ := strconv.ParseFloat(f[11], 64)
	system, _ := strconv.ParseFloat(f[12], 64)
	return (user + system) * 10_000 // ticks of 10 ms
}

func findRecvlogical() string {
	if path, err := exec.LookPath("pg_recvlogical"); err == nil {
		return path
	}
	all, _ := filepath.Glob("/usr/lib/postgresql/*/bin/pg_recvlogical")
	if len(all) == 0 {
		return ""
	}
	return all[len(all)-1]
}

func (w *world) recvlogical(path string, args ...string) {
	w.t.Helper()
	u, err := url.Parse(w.pg.ReplicatorURL)
	w.must(err)
	password, _ := u.User.Password()
	cmd := exec.Command(path, append([]string{"-S", "reference_" + w.slot(), "-d", w.pg.Database, "-h", u.Hostname(), "-p", u.Port(),
		"-U", u.User.Username()}, args...)...)
	cmd.Env = append(os.Environ(), "PGPASSWORD="+password, "PGSSLMODE=disable")
	if out, err := cmd.CombinedOutput(); err != nil {
		w.t.Fatalf("pg_recvlogical: %v\n%s", err, out)
	}
}

// TestBenchFiguresVisible: how long after its commit a row shows in ClickHouse, at 2 000 rows a second.
func TestBenchFiguresVisible(t *testing.T) {
	w := newOwnWorld(t, engines.PostgresConfig{})
	w.dropTestRollups()
	c := w.startChild("", 0)
	w.caughtUp()
	l := w.openLane()
	ours := w.visible(func(n int) {
		l.write(n, time.Now())
	}, fmt.Sprintf("SELECT toInt64(max(seq)) FROM audit_log WHERE writer_id = %d", l.id))
	w.caughtUp()
	c.stop()
	c.kill()

	reference := w.materialized()
	name := "replicator: p99 from commit to visible in ClickHouse at 2000 rows/s, ms, against MaterializedPostgreSQL"
	if reference == nil {
		figure(name, quantile(ours, 0.99), 0, 0, "<= 105 ms, >= 4x better", false)
		return
	}
	a, b := quantile(ours, 0.99), quantile(reference, 0.99)
	figure(name, a, b, b/a, "<= 105 ms, >= 4x better", a <= 105 && b/a >= 4)
	fmt.Printf("replicator: median from commit to visible: %.0f ms, MaterializedPostgreSQL %.0f ms\n", quantile(ours, 0.5), quantile(reference, 0.5))
}

func quantile(ms []float64, q float64) float64 {
	slices.Sort(ms)
	return ms[min(len(ms)-1, int(q*float64(len(ms))))]
}

const visibleTime = 15 * time.Second

// visible commits 40 rows each 20 ms and asks ClickHouse all the time how many it shows.
func (w *world) visible(commit func(n int), shown string) (ms []float64) {
	type due struct {
		total int64
		at    time.Time
	}
	var mu sync.Mutex
	var waiting []due
	ctx, cancel := context.WithCancel(context.Background())
	var asking sync.WaitGroup
	asking.Go(func() {
		for ctx.Err() == nil {
			var n int64
			if err := w.copy.QueryRow(ctx, shown).Scan(&n); err != nil && ctx.Err() == nil {
				w.t.Errorf("%s: %v", shown, err)
				return
			}
			now := time.Now()
			mu.Lock()
			for len(waiting) > 0 && waiting[0].total <= n {
				ms = append(ms, float64(now.Sub(waiting[0].at).Microseconds())/1000)
				waiting = waiting[1:]
			}
			mu.Unlock()
			sleep(ctx, 5*time.Millisecond)
		}
	})
	total := int64(0)
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for began := time.Now(); time.Since(began) < visibleTime; <-tick.C {
		commit(40)
		total += 40
		mu.Lock()
		waiting = append(waiting, due{total, time.Now()})
		mu.Unlock()
	}
	for deadline := time.Now().Add(20 * time.Second); time.Now().Before(deadline); time.Sleep(20 * time.Millisecond) {
		mu.Lock()
		left := len(waiting)
		mu.Unlock()
		if left == 0 {
			break
		}
	}
	cancel()
	asking.Wait()
	if len(ms) == 0 {
		w.t.Fatalf("%s never showed a row", shown)
	}
	return ms[min(len(ms)/10, len(ms)-1):] // warm
}

// materialized measures the same of ClickHouse's own replication, from a plain table of the same columns: it does
// not know partitioned ones. nil when it does not work here.
func (w *world) materialized() []float64 {
	super, err := pgx.Connect(w.ctx(), w.pg.SuperuserURL)
	w.must(err)
	defer super.Close(w.ctx())
	for _, q := range []string{
		"CREATE TABLE public.reference (n bigint PRIMARY KEY, actor_id text, route text, user_agent text, latency_us bigint, at timestamp, body bytea)",
	} {
		_, err := super.Exec(w.ctx(), q)
		w.must(err)
	}
	u, err := url.Parse(w.pg.SuperuserURL)
	w.must(err)
	password, _ := u.User.Password()
	err = w.copy.Exec(w.ctx(), fmt.Sprintf(`CREATE DATABASE reference ENGINE = MaterializedPostgreSQL('%s', '%s', '%s', '%s')
		SETTINGS materialized_postgresql_tables_list = 'reference', materialized_postgresql_schema = 'public'`,
		u.Host, w.pg.Database, u.User.Username(), password))
	if err != nil {
		err = w.copy.Exec(withExperimental(w.ctx()), fmt.Sprintf(`CREATE DATABASE reference ENGINE = MaterializedPostgreSQL('%s', '%s', '%s', '%s')
			SETTINGS materialized_postgresql_tables_list = 'reference', materialized_postgresql_schema = 'public'`,
			u.Host, w.pg.Database, u.User.Username(), password))
	}
	if err != nil {
		fmt.Println("MaterializedPostgreSQL does not work here:", err)
		return nil
	}
	defer w.copy.Exec(w.ctx(), "DROP DATABASE reference SYNC")
	for range 100 {
		if err = w.copy.Exec(w.ctx(), "SELECT count() FROM reference.reference"); err == nil {
			break
		}
		time.Sleep(100 * time.Millisecond)
	}
	if err != nil {
		fmt.Println("MaterializedPostgreSQL does not work here:", err)
		return nil
	}
	next := 0
	return w.visible(func(n int) {
		_, err := super.Exec(w.ctx(), `INSERT INTO public.reference SELECT g, 'user_' || g % 20, 'GET /v1/tenants/:id', 'argusctl/1.2 (linux)',
			g % 1000000, clock_timestamp(), decode(md5(g::text), 'hex') FROM generate_series($1::int + 1, $1::int + $2::int) g`, next, n)
		w.must(err)
		next += n
	}, "SELECT toInt64(max(n)) FROM reference.reference")
}

func withExperimental(ctx context.Context) context.Context {
	return clickhousego.Context(ctx, clickhousego.WithSettings(clickhousego.Settings{"allow_experimental_database_materialized_postgresql": 1}))
}
