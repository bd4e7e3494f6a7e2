package sinktest

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/useargus/argus"
	"github.com/useargus/argus/ship/format"
	"github.com/useargus/argus/ship/sink"
)

// Batch makes a batch of n rows of two writers, as the engine would. Another seed gives other rows.
func Batch(t testing.TB, seed, n int, change func(*argus.Record)) *sink.Batch {
	t.Helper()
	b := &sink.Batch{First: time.Date(2026, 11, 30, 9, 59, 59, 0, time.UTC)}
	b.Manifest = argus.Manifest{Sink: "test", Batch: fmt.Sprintf("%08d", seed), Previous: fmt.Sprintf("%08d", seed-1), Format: "argus", Rows: int64(n)}
	var ends []int
	for i := range n {
		r := AnyRecord().Example(seed*1000 + i)
		r.WriterID, r.Seq = int64(1000*seed+1+i*2/n), int64(i%((n+1)/2)+1)
		if change != nil {
			change(&r)
		}
		r.RowHash = r.ComputeHash()
		b.Lines = append(format.Argus{}.Append(b.Lines, &r, 0), '\n')
		ends = append(ends, len(b.Lines))
		b.Rows = append(b.Rows, sink.Row{Record: &r})
		if last := len(b.Ranges) - 1; last >= 0 && b.Ranges[last].WriterID == r.WriterID {
			b.Ranges[last].To = r.Seq
		} else {
			b.Ranges = append(b.Ranges, argus.ManifestRange{WriterID: r.WriterID, From: r.Seq, To: r.Seq})
		}
	}
	begin := 0
	for i, end := range ends {
		b.Rows[i].Line = b.Lines[begin : end-1]
		begin = end
	}
	sum := sha256.Sum256(b.Lines)
	b.SHA256 = hex.EncodeToString(sum[:])
	return b
}

// Declared loads a sinks file with the one sink, as argusd ship would. It lies in the folder, beside the files it names.
func Declared(t testing.TB, folder, yaml string) *sink.Declaration {
	t.Helper()
	path := filepath.Join(folder, "sinks.yaml")
	if err := os.WriteFile(path, []byte(yaml), 0o600); err != nil {
		t.Fatal(err)
	}
	f, err := sink.Load(path)
	if err != nil {
		t.Fatalf("%v in\n%s", err, yaml)
	}
	return f.Sinks[0]
}

// Write writes a file beside the sinks file.
func Write(t testing.TB, folder, name, text string) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(folder, name), []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

// Read reads a file beside the sinks file.
func Read(t testing.TB, folder, name string) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(folder, name))
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}
