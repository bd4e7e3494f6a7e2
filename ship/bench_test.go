//go:build bench

package ship

import (
	"bufio"
	"bytes"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/useargus/argus"
	"github.com/useargus/argus/internal/engines"
	"github.com/useargus/argus/internal/engines/enginetest"
)

// figure prints a line of make bench's table.
func figure(name, ours, reference, ratio, target string, ok bool) {
	verdict := "ok"
	if !ok {
		verdict = "MISS"
	}
	fmt.Printf("FIGURE\t%s\t%s\t%s\t%s\t%s\t%s\n", name, ours, reference, ratio, target, verdict)
}

// taker is a receiver over TLS that takes everything, of https and of S3, and looks at nothing.
func taker(t *testing.T, dir string, each func(body io.Reader)) (address string) {
	server := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		each(r.Body)
		io.Copy(io.Discard, r.Body)
		w.Header().Set("ETag", `"d41d8cd98f00b204e9800998ecf8427e"`)
	}))
	t.Cleanup(server.Close)
	must(t, os.WriteFile(filepath.Join(dir, "ca.pem"), pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw}), 0o600))
	must(t, os.WriteFile(filepath.Join(dir, "secret"), []byte("shared\n"), 0o600))
	return server.Listener.Addr().String()
}

const (
	benchHTTPS = "sinks:\n- name: siem\n  https: {url: 'https://%s/', private: true, secret: {file: secret}, tls: {ca: ca.pem, server_name: example.com}%s}\n"
	benchS3    = "sinks:\n- name: lake\n  s3: {endpoint: 'https://%s', bucket: audit, access_key: {file: secret}, secret_key: {file: secret}, private: true, tls: {ca: ca.pem, server_name: example.com}%s}\n"
)

func benchWorld(t *testing.T) *world {
	return worldOn(t, enginetest.StartOwnPostgres(t, engines.PostgresConfig{}))
}

// TestBenchRate: the log is there when the shipper, a process of its own, starts. Postgres, the shipper and the receiver share
// the machine.
func TestBenchRate(t *testing.T) {
	rows := 400_000
	if scale, err := strconv.ParseFloat(os.Getenv("ARGUS_BENCH_SCALE"), 64); err == nil && scale > 0 {
		rows = max(int(float64(rows)*scale), 100_000)
	}
	w := benchWorld(t)
	writers := make([]int64, 8)
	for i := range writers {
		writers[i] = w.open()
	}
	for w.written < rows {
		w.write(writers[w.written/5000%len(writers)], 5000)
	}
	w.exec("ANALYZE argus.argus_audit_log")
	address := taker(t, w.dir, func(io.Reader) {})
	for _, sink := range []struct{ name, what, file string }{
		{"siem", "https, gzip", fmt.Sprintf(benchHTTPS, address, "")},
		{"lake", "S3, zstd", fmt.Sprintf(benchS3, address, ", compression: zstd")},
		{"lake", "S3, Parquet", fmt.Sprintf(benchS3, address, ", objects: parquet")},
	} {
		w.exec("TRUNCATE argus.sink_leases; DELETE FROM argus.sink_positions")
		child := w.child(w.file(sink.file), "", 0)
		shipped := func() int64 {
			return w.number("SELECT coalesce((SELECT rows FROM argus.sink_positions WHERE sink = $1 AND stream = ''), 0)", sink.name)
		}
		w.until("it ships", func() bool { return shipped() > 0 })
		first, began := shipped(), time.Now()
		for deadline := began.Add(10 * time.Minute); shipped() < int64(w.written); time.Sleep(20 * time.Millisecond) {
			if time.Now().After(deadline) {
				t.Fatalf("%s: %d rows of %d are shipped", sink.what, shipped(), w.written)
			}
		}
		rate := float64(int64(w.written)-first) / time.Since(began).Seconds()
		status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", child.Process.Pid))
		must(t, err)
		peak, _ := strconv.ParseFloat(string(regexp.MustCompile(`VmHWM:\s+(\d+)`).FindSubmatch(status)[1]), 64)
		child.Process.Kill()
		child.Wait()
		figure(fmt.Sprintf("ship: rows/s of a backlog, %s", sink.what), fmt.Sprintf("%.0f", rate), "", "", "≥ 50000", rate >= 50_000)
		figure(fmt.Sprintf("ship: memory at its highest, %s", sink.what), fmt.Sprintf("%.0f MB", peak*1024/1e6), "", "", "≤ 128 MB", peak*1024 <= 128e6)
	}
}

// TestBenchLatency: rows are committed twenty at a time, 2,000 a second. Each waits from its commit for its receiver.
func TestBenchLatency(t *testing.T) {
	const rate, each, seconds = 2000, 20, 15
	w := benchWorld(t)
	var mu sync.Mutex
	arrived := map[int64]time.Time{} // by seq, of the one writer
	address := taker(t, w.dir, func(body io.Reader) {
		at := time.Now()
		lines := bufio.NewScanner(body)
		lines.Buffer(nil, 1<<20)
		mu.Lock()
		defer mu.Unlock()
		for lines.Scan() {
			if bytes.Contains(lines.Bytes(), []byte(`"batch"`)) {
				continue
			}
			var r argus.Record
			if err := json.Unmarshal(lines.Bytes(), &r); err == nil {
				arrived[r.Seq] = at
			}
		}
	})
	w.run(fmt.Sprintf(benchHTTPS, address, ", compression: none"), func(c *Config) { c.Poll, c.LeaseTTL, c.Status = 0, 0, 0 })
	writer := w.open()
	committed := map[int64]time.Time{}
	began := time.Now()
	for n := int64(0); n < rate*seconds; n += each {
		time.Sleep(time.Until(began.Add(time.Duration(n) * time.Second / rate)))
		w.write(writer, each)
		committed[w.seqs[writer]] = time.Now()
	}
	w.acknowledged("siem", w.written)
	mu.Lock()
	defer mu.Unlock()
	var late []float64
	for seq, at := range committed {
		late = append(late, arrived[seq].Sub(at).Seconds())
	}
	slices.Sort(late)
	p99 := late[len(late)*99/100]
	figure("ship: commit to receiver, p99 at 2000 rows/s", fmt.Sprintf("%.0f ms", p99*1000), "", "", "≤ 1 s", p99 <= 1)
}

// TestBenchBeside: commits of 20 rows, 2,000 rows a second, with the shipper beside them and without, in turns. Then batches of
// rows as fast as four writers can. Those leave no processor idle, so what the shipper uses is theirs.
func TestBenchBeside(t *testing.T) {
	w := benchWorld(t)
	const turns, length, rate, each = 7, 3 * time.Second, 2000, 20
	address := taker(t, w.dir, func(io.Reader) {})
	file := fmt.Sprintf(benchHTTPS, address, "")
	inTurns := func(measure func() float64) (alone, beside, ratio float64) {
		measure()
		var all [3][]float64
		for range turns {
			a := measure()
			_, stop := w.run(file, func(c *Config) { c.Poll, c.LeaseTTL, c.Status = 0, 0, 0 })
			w.acknowledged("siem", w.written) // what came without it
			b := measure()
			stop()
			for i, v := range []float64{a, b, b / a} {
				all[i] = append(all[i], v)
			}
		}
		for _, figures := range all {
			slices.Sort(figures)
		}
		return all[0][turns/2], all[1][turns/2], all[2][turns/2]
	}

	writer := w.open()
	alone, beside, ratio := inTurns(func() float64 {
		var took []float64
		began := time.Now()
		for n := time.Duration(0); n*each*time.Second/rate < length; n++ {
			time.Sleep(time.Until(began.Add(n * each * time.Second / rate)))
			start := time.Now()
			w.write(writer, each)
			took = append(took, time.Since(start).Seconds())
		}
		slices.Sort(took)
		return took[len(took)/2]
	})
	figure("ship: a commit of 20 rows beside it, p50 at 2000 rows/s", fmt.Sprintf("%.2f ms", beside*1000), fmt.Sprintf("%.2f ms without", alone*1000),
		fmt.Sprintf("%.3f", ratio), "≤ 1.05", ratio <= 1.05)

	alone, beside, ratio = inTurns(func() float64 {
		var rows atomic.Int64
		var writing sync.WaitGroup
		began := time.Now()
		for range 4 {
			writer := w.open()
			writing.Go(func() {
				for time.Since(began) < length {
					w.write(writer, 50)
					rows.Add(50)
				}
			})
		}
		writing.Wait()
		return float64(rows.Load()) / time.Since(began).Seconds()
	})
	figure("ship: rows/s of writers that leave no processor idle, with it beside them", fmt.Sprintf("%.0f", beside), fmt.Sprintf("%.0f without", alone),
		fmt.Sprintf("%.3f", ratio), "", true)
}
