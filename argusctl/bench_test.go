//go:build bench

package main

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/useargus/argus"
)

// TestBenchFiguresArgusctl measures the released binary: its start, its size, and how fast rows pass through it.
func TestBenchFiguresArgusctl(t *testing.T) {
	binary := filepath.Join(t.TempDir(), "argusctl")
	build := exec.Command("go", "build", "-trimpath", "-ldflags", "-s -w", "-o", binary, ".")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	info, err := os.Stat(binary)
	if err != nil {
		t.Fatal(err)
	}
	figure := func(name, ours, reference, ratio, target string, ok bool) {
		verdict := "ok"
		if !ok {
			verdict = "MISS"
			t.Errorf("%s: %s, target %s", name, ours, target)
		}
		fmt.Printf("FIGURE\t%s\t%s\t%s\t%s\t%s\t%s\n", name, ours, reference, ratio, target, verdict)
	}

	ours, reference := firstByte(t, binary, "--help"), firstByte(t, "/bin/ls", "--help")
	figure("argusctl: start to first byte of --help", formatMS(ms(ours)), formatMS(ms(reference))+" (ls --help)",
		fmt.Sprintf("%.1f×", float64(ours)/float64(reference)), "≤ 20 ms", ours <= 20*time.Millisecond)

	const rows = 500_000
	server := exportServer(rows)
	defer server.Close()
	env := []string{"ARGUS_URL=" + server.URL, "ARGUS_TOKEN=" + callers[0].token, "ARGUS_CONFIG_DIR=" + t.TempDir()}
	rate := func(env []string, name string, args ...string) float64 {
		best := time.Hour
		for range 3 {
			cmd := exec.Command(name, args...)
			cmd.Env = env
			out, err := cmd.StdoutPipe()
			if err != nil {
				t.Fatal(err)
			}
			began := time.Now()
			if err := cmd.Start(); err != nil {
				t.Fatal(err)
			}
			lines := countLines(out)
			if err := cmd.Wait(); err != nil || lines != rows {
				t.Fatalf("%s: %d lines, %v", name, lines, err)
			}
			best = min(best, time.Since(began))
		}
		return rows / best.Seconds()
	}
	through := rate(env, binary, "logs", "tail", "--since", "7d", "--json")
	told, ratio := "curl is not installed", "–"
	if curl, err := exec.LookPath("curl"); err == nil {
		bare := rate(nil, curl, "-s", "-H", "Authorization: Bearer "+callers[0].token, server.URL+"/v1/audit-log/export")
		told, ratio = fmt.Sprintf("%.0f rows/s (curl, the same rows)", bare), fmt.Sprintf("%.2f×", through/bare)
	}
	figure("argusctl: logs tail --json", fmt.Sprintf("%.0f rows/s", through), told, ratio, "≥ 100000 rows/s", through >= 100_000)
	figure("argusctl: size of the binary", formatBytes(info.Size()), "–", "–", "≤ 16 MB", info.Size() <= 16_000_000)
}

func ms(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }

// firstByte is the median time from starting a program to the first byte of its output.
func firstByte(t *testing.T, name string, args ...string) time.Duration {
	var times []time.Duration
	for range 41 {
		cmd := exec.Command(name, args...)
		out, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		began := time.Now()
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		if _, err := out.Read(make([]byte, 1)); err != nil {
			t.Fatal(err)
		}
		times = append(times, time.Since(began))
		_, _ = io.Copy(io.Discard, out)
		if err := cmd.Wait(); err != nil {
			t.Fatal(err)
		}
	}
	slices.Sort(times)
	return times[len(times)/2]
}

func countLines(r io.Reader) int {
	n := 0
	b := make([]byte, 256<<10)
	for {
		k, err := r.Read(b)
		n += bytes.Count(b[:k], []byte{'\n'})
		if err != nil {
			return n
		}
	}
}

// exportServer answers an export with so many rows, as fast as it can write them.
func exportServer(rows int) *httptest.Server {
	var block bytes.Buffer
	canned := cannedRows()
	for i := range 1000 {
		r := canned[i%len(canned)]
		line, _ := json.Marshal(r)
		block.Write(append(line, '\n'))
	}
	return httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Trailer", exportRowsTrailer+", "+exportCompleteTrailer)
		w.Header().Set(exportCursorHeader, "c")
		w.Header().Set(argus.AuditIDHeader, "019c1000-0000-7000-8000-000000000001")
		out := bufio.NewWriterSize(w, 256<<10)
		for range rows / 1000 {
			if _, err := out.Write(block.Bytes()); err != nil {
				return
			}
		}
		out.Flush()
		w.Header().Set(exportRowsTrailer, strconv.Itoa(rows))
		w.Header().Set(exportCompleteTrailer, "true")
	}))
}
