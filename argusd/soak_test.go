package main

import (
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"os"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
)

// TestSoak makes mixed calls while processes are killed at random, then asks the oracle. It lasts ARGUS_SOAK
// (a duration; half a minute when unset), or until ARGUS_CRASH_ROUNDS kills (10 when unset) were survived,
// whichever takes longer.
func TestSoak(t *testing.T) {
	d := startDev(t)
	lasts := 30 * time.Second
	if s := os.Getenv("ARGUS_SOAK"); s != "" {
		var err error
		if lasts, err = time.ParseDuration(s); err != nil {
			t.Fatal(err)
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

	load := d.startLoad(16)
	memory := d.residentMemory()
	began := time.Now()
	survived := map[string]int{}
	for n := 0; n < kills || time.Since(began) < lasts; n++ {
		// Mostly the API, whose death is what can lose a row.
		victim := []string{"API", "API", "API", "REPLICATOR", "CLICKHOUSE", "POSTGRES"}[random.IntN(6)]
		time.Sleep(time.Duration(random.IntN(1500)) * time.Millisecond)
		before := d.pid(victim)
		syscall.Kill(before, syscall.SIGKILL)
		survived[victim]++
		if err := eventually(60*time.Second, func() error {
			if d.pid(victim) == before {
				return fmt.Errorf("%s was not started again", victim)
			}
			if status, _ := d.call(context.Background(), load.token, "GET", "/v1/operators/me", ""); status != 200 {
				return fmt.Errorf("after the death of %s a call answers %d", victim, status)
			}
			return nil
		}); err != nil {
			t.Fatalf("kill %d: %v", n, err)
		}
	}
	acknowledged := load.stop()
	held := float64(len(acknowledged)) / time.Since(began).Seconds()

	sum := oraclePostgres(t, d.env("env", "ARGUS_POSTGRES_URL"), acknowledged)
	d.oracleClickHouse(sum)
	t.Logf("%s: %d calls acknowledged (%.0f/s), %d unanswered or 5xx, kills survived %v, %d rows, resident MiB before %v, after %v",
		time.Since(began).Round(time.Second), len(acknowledged), held, load.failed.Load(), survived, sum.rows, memory, d.residentMemory())
}

// traffic is callers at work. Acknowledged are the calls that were answered below 500: those have their rows. A
// 5xx may have one as well; it promises nothing.
type traffic struct {
	token  string
	cancel context.CancelFunc
	done   sync.WaitGroup
	failed atomic.Int64

	mu           sync.Mutex
	acknowledged map[string]int
}

func (d *devServer) startLoad(callers int) *traffic {
	ctx, cancel := context.WithCancel(context.Background())
	l := &traffic{token: d.env("env", "ARGUS_TOKEN"), cancel: cancel, acknowledged: map[string]int{}}
	tenants := d.env("env", "ARGUS_TOKEN_TENANTS")
	transport := &http.Transport{MaxIdleConnsPerHost: callers}
	client := &http.Client{Transport: transport, Timeout: 20 * time.Second}
	for n := range callers {
		l.done.Go(func() {
			random := rand.New(rand.NewPCG(uint64(n), 1))
			for ctx.Err() == nil {
				method, path, body, token := "GET", "/v1/tenants", "", l.token
				switch random.IntN(12) {
				case 0:
					path = "/v1/operators/me"
				case 1:
					path = "/v1/audit-log?since=5m&limit=10"
				case 2:
					path, token = "/v1/audit-log", tenants // 403
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
					if random.IntN(10) == 0 {
						method, path, body = "POST", "/compute/ops/launch", `{"provider":"local","reason":"soak"}`
					}
				}
				request, _ := http.NewRequestWithContext(ctx, method, "http://"+d.addr+path, strings.NewReader(body))
				request.Header.Set("Authorization", "Bearer "+token)
				request.Header.Set("User-Agent", "soak/1")
				response, err := client.Do(request)
				if err == nil {
					_, err = io.Copy(io.Discard, response.Body)
					response.Body.Close()
				}
				if err != nil || response.StatusCode >= 500 {
					if ctx.Err() == nil {
						l.failed.Add(1)
						time.Sleep(5 * time.Millisecond)
					}
					continue
				}
				id := response.Header.Get("Argus-Audit-Id")
				l.mu.Lock()
				l.acknowledged[id] = response.StatusCode
				l.mu.Unlock()
			}
		})
	}
	return l
}

func (l *traffic) stop() map[string]int {
	l.cancel()
	l.done.Wait()
	return l.acknowledged
}

// residentMemory in MiB of each process.
func (d *devServer) residentMemory() map[string]int {
	m := map[string]int{}
	for _, name := range []string{"API", "REPLICATOR", "CLICKHOUSE", "DEV"} {
		data, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", d.pid(name)))
		if err != nil {
			continue
		}
		_, rest, _ := strings.Cut(string(data), "VmRSS:")
		kb, _ := strconv.Atoi(strings.Fields(rest)[0])
		m[name] = kb >> 10
	}
	return m
}
