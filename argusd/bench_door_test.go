//go:build bench

package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
)

// The figures of calls to a service behind the door. The reference is nginx as a plain reverse proxy to the same service.

const doorRate = 1000 // calls a second, where the others have benchRate

const benchService = `
  - name: bench
    upstream: %s
    timeout: 5m
    concurrency: 2048
    scopes: {"bench:call": Call it}
    presets: {support-readonly: ["bench:call"], admin-full: ["bench:call"]}
    routes:
      - {route: "GET /v1/thing", scope: "bench:call"}
      - {route: "POST /v1/thing", scope: "bench:call"}
      - {route: "GET /v1/hang", scope: "bench:call"}
`

func TestBenchDoor(t *testing.T) {
	going, hanging := make(chan struct{}), atomic.Int64{}
	service := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		if r.URL.Path == "/v1/hang" {
			hanging.Add(1)
			<-going
		}
		w.Header().Set("Content-Type", "application/json")
		io.WriteString(w, `{"thing":"a small answer"}`)
	}))
	t.Cleanup(service.Close)
	d := startDev(t)
	path := filepath.Join(d.dir, "services.yaml")
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, fmt.Appendf(text, benchService, service.URL), 0o600); err != nil {
		t.Fatal(err)
	}
	var tokens []string // of a session: a token made before knows nothing of the service
	for session := d.signIn("user_2ada"); len(tokens) < 150; {
		token := mintToken(t, d, session)
		if status, _ := d.call(t.Context(), token, "GET", "/svc/bench/v1/thing", ""); status != 200 {
			time.Sleep(200 * time.Millisecond) // the file is about to be taken up
			session = d.signIn("user_2ada")
			continue
		}
		tokens = append(tokens, token)
	}
	t.Setenv("ARGUS_SERVICES_FILE", path) // what break-glass tokens may have
	var persons []string                  // one person has 256 calls at once
	for n := range 5 {
		persons = append(persons, d.breakGlass(fmt.Sprintf("user_2bench%d", n), "--scopes", "admin-full"))
	}
	for _, child := range []string{"REPLICATOR", "CLICKHOUSE"} {
		pid := d.pid(child)
		if err := syscall.Kill(pid, syscall.SIGSTOP); err != nil {
			t.Fatal(err)
		}
		defer syscall.Kill(pid, syscall.SIGCONT)
	}
	clients := make([]*http.Client, benchClients)
	for n := range clients {
		clients[n] = &http.Client{Transport: &http.Transport{}}
		defer clients[n].CloseIdleConnections()
	}
	door := "http://" + d.addr
	var turn atomic.Int64 // calls go round the tokens: one alone has 1,000 calls, then 200 a second
	call := func(method, url string) func(int) error {
		return func(n int) error {
			return benchCall(clients[n], method, url, tokens[int(turn.Add(1))%len(tokens)])
		}
	}
	get, me, post := call("GET", door+"/svc/bench/v1/thing"), call("GET", door+"/v1/operators/me"), call("POST", door+"/svc/bench/v1/thing")
	direct := call("GET", service.URL+"/v1/thing")
	inserters := benchInserters(t, d)
	insert := func(n int) error { return inserters[n].insert() }
	proxy := startNginx(t, service.Listener.Addr().String())

	var doorMedian, nginxMedian, insertMedian, doorP99, directP99, insertP99, posts, mes, meMedian []float64
	cpu := map[string]float64{} // of the API in microseconds a call: what a loaded machine changes least
	costed := func(name string, call func(int) error) float64 {
		before := processorTime(t, d)
		rate := perSecond(t, call)
		cpu[name] += (processorTime(t, d) - before) / (rate * benchTime.Seconds()) / benchTurns
		return rate
	}
	for range benchTurns {
		doorMedian = append(doorMedian, median(oneByOne(t, get)))
		insertMedian = append(insertMedian, median(oneByOne(t, insert)))
		if proxy != "" {
			nginxMedian = append(nginxMedian, median(oneByOne(t, call("GET", proxy+"/v1/thing"))))
		}
		doorP99 = append(doorP99, quantile(atRateOf(t, doorRate, get), 0.99))
		directP99 = append(directP99, quantile(atRateOf(t, doorRate, direct), 0.99))
		insertP99 = append(insertP99, quantile(atRateOf(t, doorRate, insert), 0.99))
		posts = append(posts, costed("POST", post))
		mes = append(mes, costed("operators/me", me))
		costed("GET", get)
		meMedian = append(meMedian, median(oneByOne(t, me)))
	}
	if proxy == "" {
		fmt.Printf("FIGURE\tdoor: median of a GET, 1 connection, against nginx and one INSERT + commit (µs)\t%.0f\tnginx is missing\t\t≤ 1.2×\t\n", median(doorMedian))
	} else {
		benchFigure("door: median of a GET, 1 connection, against nginx and one INSERT + commit (µs)", median(doorMedian), median(nginxMedian)+median(insertMedian), 1.2)
	}
	benchFigure(fmt.Sprintf("door: p99 added at %d calls/s, against INSERT + commit (µs)", doorRate), median(doorP99)-median(directP99), median(insertP99), 2)
	ratio, verdict := median(posts)/median(mes), "ok"
	if ratio < 0.5 {
		verdict = "MISS"
	}
	fmt.Printf("FIGURE\tdoor: calls/s with effects over %d connections, against operators/me\t%.0f\t%.0f\t%.2f\t≥ 0.5×\t%s\n",
		benchClients, median(posts), median(mes), ratio, verdict)

	fmt.Printf("FIGURE\tdoor: median of operators/me, which forwards nothing, 1 connection (µs)\t%.0f\t\t\t\t\n", median(meMedian))
	fmt.Printf("FIGURE\tdoor: processor time of the API for a POST and for a GET, against operators/me (µs)\t%.0f, %.0f\t%.0f\t\t\t\n",
		cpu["POST"], cpu["GET"], cpu["operators/me"])

	idle := resident(t, d)
	var all sync.WaitGroup
	for n := range 1000 {
		all.Go(func() {
			// One address has 1,024 connections.
			from := &net.Dialer{LocalAddr: &net.TCPAddr{IP: net.IPv4(127, 0, 0, byte(2+n%4))}}
			client := &http.Client{Transport: &http.Transport{DialContext: from.DialContext}}
			defer client.CloseIdleConnections()
			if err := benchCall(client, "GET", door+"/svc/bench/v1/hang", persons[n%len(persons)]); err != nil {
				t.Error(err)
			}
		})
	}
	for range 600 {
		if hanging.Load() == 1000 {
			break
		}
		time.Sleep(50 * time.Millisecond)
	}
	with := resident(t, d)
	beside := median(oneByOne(t, me))
	close(going)
	all.Wait()
	verdict = "ok"
	if with-idle > 64 || hanging.Load() != 1000 {
		verdict = "MISS"
	}
	fmt.Printf("FIGURE\tdoor: memory with 1000 calls hanging in a service, above idle (MiB)\t%d\t%d idle\t\t≤ 64\t%s\n", with-idle, idle, verdict)
	t.Logf("beside them operators/me has a median of %.0f µs", beside)
}

// processorTime is what the API has used of the processors, in microseconds.
func processorTime(t *testing.T, d *devServer) float64 {
	t.Helper()
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", d.pid("API")))
	if err != nil {
		t.Fatal(err)
	}
	fields := strings.Fields(string(stat[strings.LastIndexByte(string(stat), ')'):])) // behind the name, which may hold blanks
	user, _ := strconv.Atoi(fields[11])
	system, _ := strconv.Atoi(fields[12])
	return float64(user+system) * 10_000 // of 100 ticks a second
}

// resident is the memory of the API in MiB.
func resident(t *testing.T, d *devServer) int {
	t.Helper()
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", d.pid("API")))
	if err != nil {
		t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(status), "VmRSS:")
	kb, _ := strconv.Atoi(strings.Fields(rest)[0])
	return kb >> 10
}

func mintToken(t *testing.T, d *devServer, session string) string {
	t.Helper()
	request, err := http.NewRequestWithContext(t.Context(), "POST", "http://"+d.addr+"/v1/tokens", strings.NewReader(`{"name":"bench","preset":"admin-full"}`))
	if err != nil {
		t.Fatal(err)
	}
	request.Header.Set("Authorization", "Bearer "+session)
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	var made struct{ Secret string }
	if err := json.NewDecoder(response.Body).Decode(&made); err != nil || made.Secret == "" {
		t.Fatal(response.Status, err)
	}
	return made.Secret
}

func benchCall(client *http.Client, method, url, token string) error {
	request, err := http.NewRequest(method, url, nil)
	if err != nil {
		return err
	}
	request.Header.Set("Authorization", "Bearer "+token)
	response, err := client.Do(request)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	if _, err := io.Copy(io.Discard, response.Body); err != nil {
		return err
	}
	if response.StatusCode != 200 {
		return fmt.Errorf("%s: %s", url, response.Status)
	}
	return nil
}

// oneByOne calls again and again over one connection, and returns the latencies in microseconds.
func oneByOne(t *testing.T, call func(int) error) (all []float64) {
	t.Helper()
	for begin := time.Now(); time.Since(begin) < benchTime; {
		from := time.Now()
		if err := call(0); err != nil {
			t.Fatal(err)
		}
		all = append(all, float64(time.Since(from).Nanoseconds())/1000)
		time.Sleep(5 * time.Millisecond) // a credential has its limit
	}
	return all
}

// perSecond has all clients call as fast as they are answered.
func perSecond(t *testing.T, call func(int) error) float64 {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), benchTime)
	defer cancel()
	var n atomic.Int64
	var all sync.WaitGroup
	for c := range benchClients {
		all.Go(func() {
			for ctx.Err() == nil {
				if err := call(c); err != nil {
					t.Error(err)
					return
				}
				n.Add(1)
			}
		})
	}
	all.Wait()
	return float64(n.Load()) / benchTime.Seconds()
}

// startNginx runs nginx as a plain reverse proxy, and returns its URL, "" when it is not installed.
func startNginx(t *testing.T, upstream string) string {
	t.Helper()
	program, err := exec.LookPath("nginx")
	if err != nil {
		if program = "/usr/sbin/nginx"; func() bool { _, err := os.Stat(program); return err != nil }() {
			return ""
		}
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	addr := listener.Addr().String()
	listener.Close()
	dir := t.TempDir()
	config := fmt.Sprintf(`daemon off; worker_processes auto; pid %[1]s/pid; error_log %[1]s/error.log;
events { worker_connections 1024; }
http {
  access_log %[1]s/access.log; client_body_temp_path %[1]s/b; proxy_temp_path %[1]s/p; fastcgi_temp_path %[1]s/f; uwsgi_temp_path %[1]s/u; scgi_temp_path %[1]s/s;
  upstream service { server %[2]s; keepalive 64; }
  server { listen %[3]s; location / { proxy_pass http://service; proxy_http_version 1.1; proxy_set_header Connection ""; } }
}`, dir, upstream, addr)
	file := filepath.Join(dir, "nginx.conf")
	if err := os.WriteFile(file, []byte(config), 0o600); err != nil {
		t.Fatal(err)
	}
	_ = os.Chmod(dir, 0o777) // of root's nginx the workers are another user
	command := exec.Command(program, "-p", dir, "-c", file, "-e", filepath.Join(dir, "error.log"))
	if err := command.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = command.Process.Signal(syscall.SIGQUIT)
		_ = command.Wait()
	})
	for range 200 {
		if conn, err := net.Dial("tcp", addr); err == nil {
			conn.Close()
			return "http://" + addr
		}
		time.Sleep(20 * time.Millisecond)
	}
	t.Fatal("nginx does not listen")
	return ""
}
