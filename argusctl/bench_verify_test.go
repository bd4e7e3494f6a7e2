//go:build bench

package main

import (
	"bufio"
	"crypto/ed25519"
	"encoding/binary"
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

// writeSealedExport writes calls of one writer as an export, and the tiles of their tree as a mirror has them. It returns
// the public key of the checkpoint.
func writeSealedExport(t *testing.T, rows int64, export, tiles string) (vkey string) {
	t.Helper()
	must := func(err error) {
		if err != nil {
			t.Fatal(err)
		}
	}
	write := func(tile proof.Tile, data []byte) error {
		path := filepath.Join(tiles, filepath.FromSlash(tile.Path()))
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			return err
		}
		return os.WriteFile(path, data, 0o644)
	}
	file, err := os.Create(export)
	must(err)
	defer file.Close()
	out := bufio.NewWriterSize(file, 1<<20)
	tree := proof.Builder{Full: write}
	canned := cannedRows()
	began := canned[0].OccurredAt
	var line []byte
	for first := int64(0); first < rows; first += proof.TileWidth {
		tile := proof.TileOf(proof.Bundle, first, rows)
		run := proof.Run{FirstLeaf: first, Kind: proof.Call, Month: proof.MonthOf(began), WriterID: 1, FirstSeq: first + 1}
		for leaf := first; leaf < first+int64(tile.Width); leaf++ {
			r := canned[leaf%int64(len(canned))]
			r.WriterID, r.Seq = 1, leaf+1
			binary.BigEndian.PutUint64(r.ID[8:], 1<<63|uint64(leaf))
			r.OccurredAt = began.Add(time.Duration(leaf) * 100 * time.Microsecond)
			r.RecordedAt = r.OccurredAt.Add(3 * time.Millisecond)
			r.RowHash = r.ComputeHash()
			run.Digests = append(run.Digests, r.RowHash[:]...)
			line = r.AppendJSON(line[:0])
			line = strconv.AppendInt(append(line[:len(line)-1], `,"leaf":`...), leaf, 10)
			_, err := out.Write(append(line, "}\n"...))
			must(err)
		}
		must(write(tile, run.AppendBundle(nil)))
		must(tree.Add(run.AppendLeaves(nil)))
	}
	must(out.Flush())
	for _, tile := range proof.Tiles(rows) {
		if edge, data := tree.Edge(tile.Level); !tile.Full() && edge == tile {
			must(write(tile, data))
		}
	}
	private := ed25519.NewKeyFromSeed(make([]byte, ed25519.SeedSize))
	key := proof.NewKey("audit.test/argus", private.Public().(ed25519.PublicKey))
	note, err := proof.Checkpoint{Origin: key.Name(), Size: rows, Root: tree.Root()}.Sign(
		proof.NewSigner(key, func(m []byte) ([]byte, error) { return ed25519.Sign(private, m), nil }))
	must(err)
	must(os.WriteFile(filepath.Join(tiles, "checkpoint"), note, 0o644))
	return key.String()
}
