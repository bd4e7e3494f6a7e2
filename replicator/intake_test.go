package replicator

import (
	"bufio"
	"bytes"
	"context"
	"encoding/hex"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/useargus/argus"
	"github.com/useargus/argus/internal/engines"
	"github.com/useargus/argus/internal/engines/enginetest"
	"github.com/useargus/argus/replicator/wal"
)

var record = flag.Bool("record", false, "record golden bytes anew from real servers")

// TestGolden decodes what real servers sent: PostgreSQL 15 and 18. With -record it asks them again.
func TestGolden(t *testing.T) {
	for version, bin := range map[string]string{"15": enginetest.Postgres15(), "18": ""} {
		t.Run(version, func(t *testing.T) {
			path := filepath.Join("wal", "testdata", "pgoutput-"+version+".hex")
			if *record {
				recordStream(t, path, bin)
			}
			messages := readGolden(t, path)
			in, records := decodeAll(t, messages)
			if len(records) != 4 {
				t.Fatalf("%d rows of the audit log, want 4", len(records))
			}
			if in.current.altered != 0 {
				t.Errorf("%d rows do not match their hash", in.current.altered)
			}
			if got := in.current.tables[computeTable].count; got != 2 {
				t.Errorf("%d rows of compute_control_audit, want 2", got)
			}
			if in.current.end == 0 || in.inside {
				t.Error("the transactions are not whole")
			}
		})
	}
}

// decodeAll feeds messages to an intake that has no stream.
func decodeAll(t testing.TB, messages [][]byte) (*intake, []int64) {
	t.Helper()
	in := testIntake()
	for _, m := range messages {
		if err := in.handle(wal.Message{Data: m}); err != nil {
			t.Fatalf("%v: % x", err, m)
		}
	}
	var seqs []int64
	if r := in.current.tables[auditTable]; r != nil {
		for range r.count {
			seqs = append(seqs, 0)
		}
	}
	return in, seqs
}

func testIntake() *intake {
	in := newIntake(nil, 0, batchLimit{1 << 20, 1 << 30})
	in.metrics = newMetrics(nil, "argus")
	in.log = discard
	in.reply = func() {}
	in.columns = func(table int) ([]chColumn, error) { return goldenColumns[table], nil }
	return in
}

func readGolden(t testing.TB, path string) (messages [][]byte) {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	lines := bufio.NewScanner(bytes.NewReader(data))
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		b, err := hex.DecodeString(lines.Text())
		if err != nil {
			t.Fatal(err)
		}
		messages = append(messages, b)
	}
	return messages
}

// recordStream writes the messages of a transaction with the corner cases of all types.
func recordStream(t *testing.T, path, bin string) {
	w := newOwnWorld(t, engines.PostgresConfig{BinDir: bin})
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	conn, err := wal.Dial(ctx, w.pg.ReplicatorURL)
	w.must(err)
	start, _, err := wal.CreateSlot(ctx, conn, w.slot(), false)
	w.must(err)
	l := w.openLane()
	w.must(l.commit(3, time.Date(2026, 11, 22, 10, 0, 0, 123456000, time.UTC), func(tx pgx.Tx, r []argus.Record) error {
		return insertSteps(tx, &r[0])
	}))
	l.write(1, time.Date(2026, 11, 22, 11, 0, 0, 1000, time.UTC))
	stream, err := wal.Start(ctx, conn, w.slot(), "argus", start)
	w.must(err)
	defer stream.Close()
	var b strings.Builder
	for commits := 0; commits < 2; {
		m, err := stream.Next()
		w.must(err)
		if m.Data == nil {
			continue
		}
		fmt.Fprintf(&b, "%x\n", m.Data)
		if m.Data[0] == wal.MessageCommit {
			commits++
		}
	}
	w.must(os.MkdirAll("testdata", 0o755))
	w.must(os.WriteFile(path, []byte(b.String()), 0o644))
}

// FuzzStream feeds any bytes to the decoder, behind the relations of a real stream. Nothing may panic, and what
// is taken keeps the columns even.
func FuzzStream(f *testing.F) {
	var relations [][]byte
	for _, m := range readGolden(f, filepath.Join("wal", "testdata", "pgoutput-18.hex")) {
		if m[0] == wal.MessageRelation {
			relations = append(relations, m)
		}
		f.Add(m)
	}
	f.Add([]byte("A\x00\x00\x00\x01\x00\x00\x00\x01"))
	f.Fuzz(func(t *testing.T, data []byte) {
		in, _ := decodeAll(t, relations)
		in.inside = true
		if len(data) == 0 {
			return
		}
		if err := in.handle(wal.Message{Data: data}); err != nil {
			return
		}
		for _, r := range in.current.tables {
			if r == nil {
				continue
			}
			for _, c := range r.input {
				if c.Data.Rows() != r.count {
					t.Fatalf("%s has %d rows of %d", c.Name, c.Data.Rows(), r.count)
				}
			}
		}
	})
}

// FuzzCopy feeds any bytes, in two pieces, to the reader of binary copies.
func FuzzCopy(f *testing.F) {
	f.Add([]byte("PGCOPY\n\xff\r\n\x00\x00\x00\x00\x00\x00\x00\x00\x00\xff\xff"), 5)
	f.Fuzz(func(t *testing.T, data []byte, cut int) {
		w := &copyWriter{table: computeTable, batch: newBatch(), limit: batchLimit{4, 1 << 20}}
		in, _ := decodeAll(t, readGolden(t, filepath.Join("wal", "testdata", "pgoutput-18.hex")))
		w.batch.tables[computeTable] = newRows(in.layouts[computeTable])
		w.flush = func(b *batch) error { b.reset(); return nil }
		cut = max(0, min(cut, len(data)))
		if _, err := w.Write(data[:cut]); err == nil {
			w.Write(data[cut:])
		}
	})
}
