package replicator

import (
	"path/filepath"
	"testing"

	"github.com/ClickHouse/ch-go/proto"

	"github.com/useargus/argus/replicator/wal"
)

// BenchmarkDecode is the way of a row from the stream's bytes into columns; it allocates nothing.
func BenchmarkDecode(b *testing.B) {
	in, _ := decodeAll(b, readGolden(b, filepath.Join("wal", "testdata", "pgoutput-18.hex")))
	var inserts [][]byte
	for _, m := range readGolden(b, filepath.Join("wal", "testdata", "pgoutput-18.hex")) {
		if m[0] == wal.MessageInsert && in.relations[uint32(m[1])<<24|uint32(m[2])<<16|uint32(m[3])<<8|uint32(m[4])] == auditTable {
			inserts = append(inserts, m)
		}
	}
	in.inside = true
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		if in.current.rows == 1<<16 {
			in.current.reset()
		}
		if err := in.handle(wal.Message{Data: inserts[i%len(inserts)]}); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkEncode is the way of a batch's columns onto the wire.
func BenchmarkEncode(b *testing.B) {
	in, _ := decodeAll(b, readGolden(b, filepath.Join("wal", "testdata", "pgoutput-18.hex")))
	var buf proto.Buffer
	block := proto.Block{Rows: in.current.tables[auditTable].count, Columns: len(in.current.tables[auditTable].input)}
	for b.Loop() {
		buf.Reset()
		if err := block.EncodeBlock(&buf, proto.Version, in.current.tables[auditTable].input); err != nil {
			b.Fatal(err)
		}
	}
}
