//go:build bench && linux

package main

import (
	"context"
	"fmt"
	"io"
	"maps"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
)

// The figures of all processes together. They are processor time, which a loaded machine changes least.

// spent is the processor time of every process of the deployment so far, in microseconds, by what it is. A process counts
// with its descendants. Of Postgres each kind of process counts by itself, as its title names it.
func (d *devServer) spent() map[string]float64 {
	type process struct {
		parent int
		micros float64
		title  string
	}
	all := map[int]process{}
	stats, _ := filepath.Glob("/proc/[0-9]*/stat")
	for _, path := range stats {
		stat, err := os.ReadFile(path)
		if err != nil {
			continue // it has ended
		}
		pid, _ := strconv.Atoi(filepath.Base(filepath.Dir(path)))
		fields := strings.Fields(string(stat[strings.LastIndexByte(string(stat), ')')+1:]))
		parent, _ := strconv.Atoi(fields[1])
		user, _ := strconv.Atoi(fields[11])
		system, _ := strconv.Atoi(fields[12])
		title, _ := os.ReadFile(filepath.Dir(path) + "/cmdline")
		all[pid] = process{parent, float64(user+system) * 10_000, strings.Trim(strings.ReplaceAll(string(title), "\x00", " "), " ")}
	}
	roots := map[int]string{}
	for _, name := range []string{"API", "REPLICATOR", "LEDGER", "SHIP", "POSTGRES", "CLICKHOUSE"} {
		roots[d.pid(name)] = strings.ToLower(name)
	}
	by := map[string]float64{}
	for pid, p := range all {
		name := ""
		for at := pid; at > 1 && name == ""; at = all[at].parent {
			name = roots[at]
		}
		if name == "postgres" {
			// postgres: argus_api argus 127.0.0.1(43210) idle
			words := strings.Fields(strings.TrimPrefix(p.title, "postgres: "))
			switch {
			case !strings.HasPrefix(p.title, "postgres: "):
				name += " postmaster"
			case words[0] == "walsender":
				name += " walsender of " + words[1]
			case strings.HasPrefix(words[0], "argus"):
				name += " for " + words[0]
			default:
				name += " " + strings.Join(words[:min(2, len(words))], " ")
			}
		}
		if name != "" {
			by[name] += p.micros
		}
	}
	return by
}

// named lists the largest first, those that matter.
func named(by map[string]float64, least float64, format string) string {
	names := slices.SortedFunc(maps.Keys(by), func(x, y string) int { return int(1000 * (by[y] - by[x])) })
	var parts []string
	for _, n := range names {
		if by[n] >= least {
			parts = append(parts, fmt.Sprintf("%s "+format, n, by[n]))
		}
	}
	return strings.Join(parts, ", ")
}

// during is the processor time that all processes spend while f runs, in microseconds.
func (d *devServer) during(f func()) map[string]float64 {
	before := d.spent()
	f()
	after := d.spent()
	for name := range after {
		after[name] -= before[name] // of one that ended meanwhile nothing is known
	}
	return after
}

func sum(by map[string]float64) (total float64) {
	for _, v := range by {
		total += v
	}
	return total
}

var replicatedThrough = regexp.MustCompile(`"replicated_through":\s*"([^"]+)"`)

// copied waits until ClickHouse has every row that was there when it was called. Each look makes a row of its own.
func (d *devServer) copied(t *testing.T) {
	t.Helper()
	began := time.Now()
	if err := eventually(2*time.Minute, func() error {
		out, _, _ := d.shell("argusctl health --json")
		if m := replicatedThrough.FindStringSubmatch(out); m != nil {
			if at, err := time.Parse(time.RFC3339Nano, m[1]); err == nil && at.After(began) {
				return nil
			}
		}
		return fmt.Errorf("not everything is copied: %s", out)
	}); err != nil {
		t.Fatal(err)
	}
}

const idleTime = 40 * time.Second

// TestBenchIdle: no call comes. Processor time counts against one processor.
func TestBenchIdle(t *testing.T) {
	d := startDev(t)
	time.Sleep(15 * time.Second) // what a start leaves to do
	by := d.during(func() { time.Sleep(idleTime) })
	for name := range by {
		by[name] = by[name] / float64(idleTime.Microseconds()) * 100
	}
	own := sum(by) - by["clickhouse"]
	fmt.Printf("FIGURE\tidle: processor time of all processes\t%.2f %% (%s)\t\t\t≤ 0.3 %%\t%s\n", sum(by), named(by, 0.01, "%.2f"), verdictOf(sum(by) <= 0.3))
	fmt.Printf("FIGURE\tidle: processor time of all but ClickHouse\t%.2f %%\t\t\t\t\n", own)
}

func verdictOf(ok bool) string { return map[bool]string{true: "ok", false: "MISS"}[ok] }

// TestBenchRow: calls at a fixed rate until their rows are in the rollups. What the deployment spends without a call in the
// same time is taken off.
func TestBenchRow(t *testing.T) {
	d := startDev(t)
	var tokens []string
	for n := range 16 {
		tokens = append(tokens, d.newToken(fmt.Sprint("bench", n), "support-readonly"))
	}
	clients := make([]*http.Client, benchClients)
	for n := range clients {
		clients[n] = &http.Client{Transport: &http.Transport{}}
		defer clients[n].CloseIdleConnections()
	}
	call := func(n int) error {
		return benchGet(clients[n], "http://"+d.addr+"/v1/operators/me", tokens[n%len(tokens)], 200)
	}
	time.Sleep(10 * time.Second)
	const rate, turns = 1000, 4
	var began time.Time
	conn, err := pgx.Connect(context.Background(), d.env("admin.env", "ARGUS_POSTGRES_ADMIN_URL"))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(context.Background())
	count := func() float64 {
		var n int64
		if err := conn.QueryRow(context.Background(), "SELECT count(*) FROM argus.argus_audit_log").Scan(&n); err != nil {
			t.Fatal(err)
		}
		return float64(n)
	}
	atRateOf(t, rate, call)
	d.copied(t)
	rows := count()
	began = time.Now()
	by := d.during(func() {
		for range turns {
			atRateOf(t, rate, call)
		}
		d.copied(t)
		time.Sleep(3 * time.Second) // merges of the last parts
	})
	took := time.Since(began)
	rows = count() - rows
	idle := d.during(func() { time.Sleep(took) })
	for name := range by {
		by[name] = (by[name] - idle[name]) / rows
	}
	fmt.Printf("FIGURE\tcpu: processor time of a row at %d calls/s, from call to rollup\t%.0f µs (%s)\t\t\t\t\n", rate, sum(by), named(by, 0.5, "%.0f"))
}

// TestBenchCLI: argusctl from its start to its end, against a log of 30 days.
func TestBenchCLI(t *testing.T) {
	d := startDev(t, "--history", "30d")
	if err := eventually(2*time.Minute, func() error {
		if !strings.Contains(d.output(), "made-up calls") {
			return fmt.Errorf("the history is not written:\n%s", d.output())
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	d.copied(t)
	token := d.newToken("bench", "support-readonly")
	for _, c := range []struct {
		args []string
		most time.Duration
	}{{[]string{"perf", "--since", "1h"}, 25 * time.Millisecond}, {[]string{"logs", "tail", "--since", "1h"}, 40 * time.Millisecond}} {
		var took, used []time.Duration
		asked, waited := d.spentIn("argus_analytics_question_seconds"), d.spentIn("argus_api_audit_wait_seconds")
		const times = 31
		for range times {
			command := exec.Command(filepath.Join(d.bin, "argusctl"), c.args...)
			command.Env = []string{"ARGUS_URL=http://" + d.addr, "ARGUS_TOKEN=" + token, "HOME=" + d.dir}
			began := time.Now()
			if out, err := command.CombinedOutput(); err != nil {
				t.Fatalf("%v: %s", err, out)
			}
			took = append(took, time.Since(began))
			used = append(used, command.ProcessState.UserTime()+command.ProcessState.SystemTime())
		}
		slices.Sort(took)
		slices.Sort(used)
		asked, waited = d.spentIn("argus_analytics_question_seconds")-asked, d.spentIn("argus_api_audit_wait_seconds")-waited
		fmt.Printf("FIGURE\targusctl %s, whole process\t%.1f ms (%.1f ms of a processor in argusctl; the question %.1f ms, the commit %.1f ms)\t\t\t≤ %d ms\t%s\n",
			strings.Join(c.args, " "), took[times/2].Seconds()*1000, used[times/2].Seconds()*1000, asked/times*1000, waited/times*1000,
			c.most.Milliseconds(), verdictOf(took[times/2] <= c.most))
	}
}

// spentIn is the sum of a histogram of the API, in seconds, over all its labels.
func (d *devServer) spentIn(histogram string) (sum float64) {
	d.t.Helper()
	response, err := http.Get(d.env("admin.env", "ARGUS_METRICS_URL_API"))
	if err != nil {
		d.t.Fatal(err)
	}
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	if err != nil {
		d.t.Fatal(err)
	}
	for line := range strings.Lines(string(text)) {
		if strings.HasPrefix(line, histogram+"_sum") {
			value, err := strconv.ParseFloat(strings.TrimSpace(line[strings.LastIndexByte(line, ' '):]), 64)
			if err != nil {
				d.t.Fatal(err)
			}
			sum += value
		}
	}
	return sum
}
