package main

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"
	vegeta "github.com/tsenart/vegeta/v12/lib"
)

// TestSoak makes mixed calls at a rate the machine holds, and kills processes at random. It does so for ARGUS_SOAK (a
// duration; half a minute when unset) and at least ARGUS_CRASH_ROUNDS times (10 when unset). Then the load goes on
// without kills for a fifth of that time. If that is a minute or more, nothing may grow in it. At the end it asks the
// oracle.
func TestSoak(t *testing.T) {
	d := startDev(t)
	lasts, pause := 30*time.Second, 1500*time.Millisecond
	if s := os.Getenv("ARGUS_SOAK"); s != "" {
		var err error
		if lasts, err = time.ParseDuration(s); err != nil {
			t.Fatal(err)
		}
		if lasts >= 5*time.Minute {
			pause = 5 * time.Second
		}
	}
	kills := 10
	if s := os.Getenv("ARGUS_CRASH_ROUNDS"); s != "" {
		var err error
		if kills, err = strconv.Atoi(s); err != nil {
			t.Fatal(err)
		}
	}
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	random := rand.New(rand.NewPCG(seed, 0))

	l := d.newAttackers(16)
	l.start(vegeta.Rate{}, 3*time.Second)() // as fast as callers are answered
	most := l.metrics().Rate
	rate := vegeta.Rate{Freq: max(20, int(most/2)), Per: time.Second}
	began := time.Now()
	stop := l.start(rate, 0)

	survived := map[string]int{}
	for n := 0; n < kills || time.Since(began) < lasts*4/5; n++ {
		// Mostly the API, whose death is what can lose a row.
		victim := []string{"API", "API", "API", "REPLICATOR", "LEDGER", "CLICKHOUSE", "POSTGRES"}[random.IntN(7)]
		time.Sleep(time.Duration(random.Int64N(int64(pause))))
		before := d.pid(victim)
		syscall.Kill(before, syscall.SIGKILL)
		survived[victim]++
		if err := eventually(bound, func() error {
			if d.pid(victim) == before {
				return fmt.Errorf("%s was not started again", victim)
			}
			if status, _ := d.call(context.Background(), l.tokens[0], "GET", "/v1/operators/me", ""); status != 200 {
				return fmt.Errorf("after the death of %s a call answers %d", victim, status)
			}
			return nil
		}); err != nil {
			stop()
			t.Fatalf("kill %d: %v", n, err)
		}
	}

	calm := lasts / 5
	time.Sleep(calm / 4) // caches and pools fill
	before := d.usage()
	time.Sleep(calm * 3 / 4)
	after := d.usage()
	stop()
	lasted := time.Since(began)

	m := l.metrics()
	sum := oraclePostgres(t, d.env("env", "ARGUS_POSTGRES_URL"), l.acknowledged)
	d.oracleClickHouse(sum)
	t.Logf("load: %.0f calls/s for %s (alone the machine took %.0f/s), %d calls, %d acknowledged, %d failed or unanswered; latency p50 %s p99 %s",
		rate.Rate(time.Second), lasted.Round(time.Second), most, m.Requests, len(l.acknowledged), m.Requests-uint64(len(l.acknowledged)),
		m.Latencies.P50.Round(10*time.Microsecond), m.Latencies.P99.Round(10*time.Microsecond))
	total := 0
	for _, n := range survived {
		total += n
	}
	t.Logf("faults survived: %d, kill -9 of %v", total, survived)
	if !t.Failed() {
		t.Logf("rows lost: 0; %d rows in Postgres, in ClickHouse and in the rollups", sum.rows)
	}
	for name, u := range after {
		b := before[name]
		t.Logf("%-10s resident %d → %d MiB, goroutines %d → %d, file descriptors %d → %d, over %s of load without kills",
			name, b.resident, u.resident, b.goroutines, u.goroutines, b.files, u.files, (calm * 3 / 4).Round(time.Second))
		if name == "CLICKHOUSE" {
			continue // keeps what it read in caches of a configured size
		}
		// In a few seconds after a kill pools still fill.
		if calm < time.Minute {
			continue
		}
		if u.resident > b.resident*3/2+64 || u.goroutines > b.goroutines*3/2+64 || u.files > b.files*3/2+64 {
			t.Errorf("%s grows under a steady load", name)
		}
	}
}

// attackers are callers at work, by vegeta. Acknowledged are the calls that were answered below 500: those have their rows.
// A 5xx may have one as well; it promises nothing.
type attackers struct {
	t       testing.TB
	url     string
	tokens  []string // each is limited by itself
	tenants string   // a token that may do little

	mu           sync.Mutex
	random       *rand.Rand
	launches     int
	acknowledged map[string]int
	all          vegeta.Metrics
}

func (d *devServer) newAttackers(credentials int) *attackers {
	l := &attackers{t: d.t, url: "http://" + d.addr, random: rand.New(rand.NewPCG(1, 1)), acknowledged: map[string]int{},
		tenants: d.env("env", "ARGUS_TOKEN_TENANTS")}
	for n := range credentials {
		l.tokens = append(l.tokens, d.newToken(fmt.Sprint("load", n), "admin-full"))
	}
	return l
}

// next makes up the next call.
func (l *attackers) next(target *vegeta.Target) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	method, path, body, token := "GET", "/v1/tenants", "", l.tokens[l.random.IntN(len(l.tokens))]
	switch l.random.IntN(12) {
	case 0:
		path = "/v1/operators/me"
	case 1:
		path = "/v1/audit-log?since=5m&limit=10"
	case 2:
		path, token = "/v1/audit-log", l.tenants // 403
	case 3:
		path = "/v1/nothing"
	case 4:
		path = "/compute/ops/workers"
	case 5:
		method, path, body = "POST", "/v1/tenants/UTD_7ELEVEN_002/sessions", `{"reason":"soak"}`
	case 6:
		method, path, body = "POST", "/v1/tenants/UTD_7ELEVEN_002/disarm", `{"reason":"soak"}`
	case 7:
		method, path, body = "POST", "/v1/tenants/UTD_7ELEVEN_002/arm", `{"reason":"soak","confirm_tenant_id":"UTD_7ELEVEN_002"}`
	case 8:
		if l.launches < 40 && l.random.IntN(10) == 0 { // each is a real process
			l.launches++
			method, path, body = "POST", "/compute/ops/launch", `{"provider":"local","reason":"soak"}`
		}
	}
	*target = vegeta.Target{Method: method, URL: l.url + path, Body: []byte(body), Header: http.Header{
		"Authorization": {"Bearer " + token}, "User-Agent": {"soak/1"},
	}}
	return nil
}

// start calls at the rate for so long, zero for until stopped. A zero rate is as fast as callers are answered. stop
// waits for the last answers.
func (l *attackers) start(rate vegeta.Rate, lasts time.Duration) (stop func()) {
	attacker := vegeta.NewAttacker(vegeta.Workers(16), vegeta.MaxWorkers(64), vegeta.Connections(64),
		vegeta.Timeout(20*time.Second), vegeta.MaxBody(0), vegeta.HTTP2(false))
	done := make(chan struct{})
	go func() {
		defer close(done)
		for result := range attacker.Attack(l.next, rate, lasts, "load") {
			l.mu.Lock()
			l.all.Add(result)
			if result.Code != 0 && result.Code < 500 {
				l.acknowledged[result.Headers.Get("Argus-Audit-Id")] = int(result.Code)
			}
			l.mu.Unlock()
		}
	}()
	return func() {
		if lasts == 0 {
			attacker.Stop()
		}
		<-done
	}
}

func (l *attackers) metrics() vegeta.Metrics {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.all.Close()
	return l.all
}

// usage is what a process holds at a moment.
type usage struct {
	resident          int // MiB
	goroutines, files int // goroutines are 0 where they are not known
}

func (d *devServer) usage() map[string]usage {
	m := map[string]usage{}
	for _, name := range []string{"API", "REPLICATOR", "CLICKHOUSE", "DEV"} {
		proc := fmt.Sprintf("/proc/%d/", d.pid(name))
		status, err := os.ReadFile(proc + "status")
		if err != nil {
			continue // not Linux
		}
		var u usage
		_, rest, _ := strings.Cut(string(status), "VmRSS:")
		kb, _ := strconv.Atoi(strings.Fields(rest)[0])
		u.resident = kb >> 10
		files, _ := filepath.Glob(proc + "fd/*")
		u.files = len(files)
		if name == "API" || name == "REPLICATOR" {
			u.goroutines = int(d.metric(name, "go_goroutines"))
		}
		m[name] = u
	}
	return m
}

// metric reads a value without labels from a process's /metrics, 0 when it is not there.
func (d *devServer) metric(process, name string) float64 {
	response, err := http.Get(d.env("admin.env", "ARGUS_METRICS_URL_"+process))
	if err != nil {
		return 0
	}
	defer response.Body.Close()
	parser := expfmt.NewTextParser(model.UTF8Validation)
	families, err := parser.TextToMetricFamilies(response.Body)
	if err != nil || families[name] == nil {
		return 0
	}
	return families[name].Metric[0].GetGauge().GetValue()
}
