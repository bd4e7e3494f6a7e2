package proof_test

import (
	"bytes"
	"encoding/json"
	"flag"
	"os"
	"testing"

	"github.com/useargus/argus/proof"
)

var update = flag.Bool("update", false, "rewrite testdata/proofs.json")

// TestGolden keeps the proofs that the console's own code is tested with, and that this package must go on to accept.
func TestGolden(t *testing.T) {
	type golden struct {
		Key   string            `json:"key"`
		Files map[string]string `json:"files"` // by the row
	}
	const name = "../testdata/proofs.json"
	if *update {
		l := sample(300)
		g := golden{l.key.String(), map[string]string{}}
		leaf := map[[2]int64]int64{}
		for _, run := range l.runs {
			for i := range run.Leaves() {
				if e := run.Entry(i); e.Kind == proof.Call {
					leaf[[2]int64{e.WriterID, e.Seq}] = run.FirstLeaf + int64(i)
				}
			}
		}
		for n := 0; n < 300; n += 19 {
			row := l.rows[n]
			g.Files[string(row.AppendJSON(nil))] = string(l.file(t, leaf[[2]int64{row.WriterID, row.Seq}], row).Marshal())
		}
		b, err := json.MarshalIndent(g, "", " ")
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(name, append(b, '\n'), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	b, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	var g golden
	if err := json.NewDecoder(bytes.NewReader(b)).Decode(&g); err != nil {
		t.Fatal(err)
	}
	key, err := proof.ParseKey(g.Key)
	if err != nil || len(g.Files) < 10 {
		t.Fatal(len(g.Files), err)
	}
	for row, file := range g.Files {
		f, err := proof.ParseFile([]byte(file))
		if err == nil {
			_, _, err = f.Check(func(note []byte) (proof.Checkpoint, error) { return proof.OpenCheckpoint(note, key) })
		}
		if err != nil || string(f.Row) != row {
			t.Errorf("%.200s: %v", row, err)
		}
	}
}
