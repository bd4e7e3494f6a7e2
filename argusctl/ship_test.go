package main

import (
	"bufio"
	"bytes"
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/useargus/argus"
	"github.com/useargus/argus/proof"
)

// TestShipVerify: what a receiver kept is hole-free, or the missing rows are named. With tiles the ledger proves each row: one
// that was made up, hash and digests and all, is found by nothing else. argusd reads buckets and Parquet.
func TestShipVerify(t *testing.T) {
	dir := t.TempDir()
	tiles, export := filepath.Join(dir, "tiles"), filepath.Join(dir, "export.ndjson")
	const rows, batches = 600, 4
	key := writeSealedExport(t, rows, export, tiles)
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	text, err := os.ReadFile(export)
	must(err)
	lines := strings.Split(strings.TrimSpace(string(text)), "\n")
	position := argus.Position{Writers: map[int64]int64{}}
	// write puts a batch of the rows into a file; change may change each row, which gets the hash of what it is then.
	write := func(path string, n int, change func(*argus.Record)) {
		t.Helper()
		var body bytes.Buffer
		from, to := (n-1)*rows/batches, n*rows/batches
		for _, line := range lines[from:to] {
			var r argus.Record
			must(json.Unmarshal([]byte(line), &r))
			if change != nil {
				change(&r)
				r.RowHash = r.ComputeHash()
			}
			fmt.Fprintf(&body, "%s\n", r.AppendJSON(nil))
		}
		sum := sha256.Sum256(body.Bytes())
		position.Writers[1] = int64(to)
		m := argus.Manifest{Sink: "siem", Batch: fmt.Sprintf("%012d-%016x", n, n), Ranges: []argus.ManifestRange{{WriterID: 1, From: int64(from) + 1, To: int64(to)}},
			Rows: int64(to - from), SHA256: hex.EncodeToString(sum[:]), Position: position.String(), Format: "argus", Stream: argus.ManifestStream{From: int64(from) + 1, To: int64(to)}}
		if n > 1 {
			m.Previous = fmt.Sprintf("%012d-%016x", n-1, n-1)
		}
		manifest, err := json.Marshal(m)
		must(err)
		must(os.WriteFile(path, append(append(manifest, '\n'), body.Bytes()...), 0o600))
	}
	shipped := filepath.Join(dir, "shipped")
	must(os.Mkdir(shipped, 0o700))
	file := func(n int) string { return filepath.Join(shipped, fmt.Sprintf("%d.ndjson", n)) }
	for n := 1; n <= batches; n++ {
		write(file(n), n, nil)
	}
	verify := func(want int, says string, args ...string) {
		t.Helper()
		code, out, errOut := runArgusctl(t, nil, append([]string{"ship", "verify", "--offline"}, args...)...)
		if code != want || !strings.Contains(out+errOut, says) {
			t.Errorf("%q: ends with %d, not %d, and does not say %q\n%s%s", args, code, want, says, out, errOut)
		}
	}
	proven := []string{shipped, "--tiles", tiles, "--key", key}
	verify(0, "Hole-free: 600 rows in 4 batches", shipped)
	verify(0, "The ledger has a leaf of each of the 600 rows, in its tree of 600 leaves.", proven...)
	verify(0, `"ledger":{"proven":true,"disproved":false,"rows":600,"leaves":600`, append(proven, "--json")...)
	verify(2, "--tiles", shipped, "--key", key)
	verify(9, "There is no batch here", filepath.Join(dir, "nothing"), "--tiles", tiles, "--key", key)
	// A forger writes a row anew, and its hash, and its batch's digest.
	write(file(2), 2, func(r *argus.Record) {
		if r.Seq == 200 {
			r.ActorID = "user_2eve"
		}
	})
	verify(0, "Hole-free", shipped)
	verify(9, "is not the row of this leaf", proven...)
	must(os.Remove(file(2)))
	verify(9, "rows 151 to 300 are missing", proven...)
	write(file(2), 2, nil)
	verify(10, "the tree has no leaf of", shipped, "--tiles", tiles+"-small", "--key", writeSealedExport(t, 450, filepath.Join(dir, "small"), tiles+"-small"))

	// argusd reads buckets, and Parquet.
	t.Setenv("PATH", dir)
	verify(1, "or s3://audit/x argusctl needs argusd", "s3://audit/x")
	must(os.WriteFile(filepath.Join(dir, "argusd"), []byte("#!/bin/sh\n[ \"$1 $2 $3\" = \"ship read --\" ] || exit 3\n[ \"$4\" = s3://audit/x ] || [ \"$4\" = "+
		filepath.Join(dir, "columns")+" ] || exit 4\nfor n in 1 2 3 4; do while IFS= read -r l; do echo \"$l\"; done <"+shipped+"/$n.ndjson; done\n"), 0o700))
	verify(0, "The ledger has a leaf of each of the 600 rows", "s3://audit/x", "--tiles", tiles, "--key", key)
	verify(1, "eading s3://audit/y with argusd: exit status 4", "s3://audit/y")
	must(os.Mkdir(filepath.Join(dir, "columns"), 0o700))
	must(os.WriteFile(filepath.Join(dir, "columns", "1.parquet"), []byte("PAR1"), 0o600))
	verify(0, "Hole-free: 600 rows", filepath.Join(dir, "columns"))
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
