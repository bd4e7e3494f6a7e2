//go:build bench

package main

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"github.com/useargus/argus/proof"
)

// TestBenchVerifyFile: argusctl checks an export against tiles, with no server. ARGUS_BENCH_EXPORT_ROWS says how many rows
// the export has, 5 M when it is not set. The verdict must count each of them.
func TestBenchVerifyFile(t *testing.T) {
	rows := int64(5_000_000)
	if n, err := strconv.ParseInt(os.Getenv("ARGUS_BENCH_EXPORT_ROWS"), 10, 64); err == nil && n > 0 {
		rows = n
	}
	dir := t.TempDir()
	program, export, tiles := filepath.Join(dir, "argusctl"), filepath.Join(dir, "export.ndjson"), filepath.Join(dir, "tiles")
	if out, err := exec.Command("go", "build", "-trimpath", "-o", program, ".").CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	key := writeSealedExport(t, rows, export, tiles)
	began := time.Now()
	out, err := exec.Command(program, "logs", "verify", export, "--tiles", tiles, "--key", key, "--json").CombinedOutput()
	took := time.Since(began)
	if err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	var verdict struct {
		proof.Counts
	}
	if err := json.Unmarshal(out, &verdict); err != nil || verdict.Rows != rows {
		t.Fatalf("%v: %s", err, out)
	}
	rate := float64(rows) / took.Seconds()
	word := map[bool]string{true: "ok", false: "MISS"}[rate >= 500_000]
	fmt.Printf("FIGURE\tverify an export of %.1f M rows offline\t%.0f rows/s\t–\t–\t≥ 0.5 M rows/s\t%s\n", float64(rows)/1e6, rate, word)
}
