package chcolumn

import (
	"crypto/sha256"
	"encoding/binary"
	"slices"

	"github.com/jackc/pgx/v5/pgtype"

	"github.com/useargus/argus"
	"github.com/useargus/argus/replicator/wal"
)

// canonical are the columns of the audit log in the order of the canonical encoding but for the head (canonical.go of
// the root package).
var canonical = argus.Columns()

// oids are the types that Postgres sends the kinds of columns in.
var oids = map[argus.ColumnKind]uint32{
	argus.ColumnInt64: pgtype.Int8OID, argus.ColumnInt16: pgtype.Int2OID, argus.ColumnUUID: pgtype.UUIDOID,
	argus.ColumnTime: pgtype.TimestamptzOID, argus.ColumnText: pgtype.TextOID, argus.ColumnPairs: pgtype.JSONBOID,
	argus.ColumnAddress: pgtype.InetOID, argus.ColumnDigest: pgtype.ByteaOID,
}

// Places of columns among the values of a row that has the canonical columns.
var (
	writerAt, seqAt, idAt, occurredAt, recordedAt = placeOf("writer_id"), placeOf("seq"), placeOf("id"), placeOf("occurred_at"), placeOf("recorded_at")
	paramsAt, addressAt, workloadAt               = placeOf("path_params"), placeOf("client_ip"), placeOf("workload")

	// RowHashAt is the place of row_hash, which comes last.
	RowHashAt = placeOf("row_hash")
)

func placeOf(name string) int {
	return slices.IndexFunc(canonical, func(c argus.Column) bool { return c.Name == name })
}

// HasCanonicalColumns reports whether source begins with these columns, of these types.
func HasCanonicalColumns(source []wal.Column) bool {
	if len(source) < len(canonical) {
		return false
	}
	for i, c := range canonical {
		if source[i] != (wal.Column{Name: c.Name, OID: oids[c.Kind]}) {
			return false
		}
	}
	return true
}

// Hasher recomputes row hashes from rows as Postgres sends them in binary, without an argus.Record between.
// A test holds it to argus.Record.ComputeHash.
type Hasher struct{ b []byte }

// Intact reports whether the row's hash is that of its other columns. columns have just got the row's values. Without the
// two maps among them the row counts as intact.
func (h *Hasher) Intact(values [][]byte, columns []Column) bool {
	params, ok := columns[paramsAt].(*mapColumn)
	workload, both := columns[workloadAt].(*mapColumn)
	return !ok || !both || h.intact(values, params.entries, workload.entries)
}

// Made returns the hash of the columns of the row that Intact saw last.
func (h *Hasher) Made() [32]byte { return sha256.Sum256(h.b) }

// intact tells the same, given the path parameters and the workload's claims, sorted.
func (h *Hasher) intact(values [][]byte, params, workload []mapEntry) bool {
	for _, i := range [...]int{writerAt, seqAt, occurredAt, recordedAt} {
		if len(values[i]) != 8 {
			return false
		}
	}
	if len(values[addressAt]) < 8 {
		return false
	}
	be := binary.BigEndian
	b := append(h.b[:0], 1)
	b = append(b, values[writerAt]...)
	b = append(b, values[seqAt]...)
	b = be.AppendUint64(b, be.Uint64(values[recordedAt])+wal.PostgresEpoch)
	b = append(b, values[idAt]...)
	b = be.AppendUint64(b, be.Uint64(values[occurredAt])+wal.PostgresEpoch)
	for i := recordedAt + 1; i < RowHashAt; i++ {
		c, v := &canonical[i], values[i]
		switch {
		case i == workloadAt: // null is encoded as nothing
			if v != nil {
				b = appendPairs(b, workload)
			}
			continue
		case !c.Nullable:
		case v == nil:
			b = append(b, 0)
			continue
		default:
			b = append(b, 1)
		}
		switch {
		case c.Kind == argus.ColumnPairs:
			b = appendPairs(b, params)
		case c.Kind == argus.ColumnText:
			b = appendSized(b, v)
		case c.Kind != argus.ColumnAddress:
			b = append(b, v...)
		case len(v) == 8:
			b = append(append(b, 4), v[4:]...)
		default:
			b = append(append(b, 6), v[4:]...)
		}
	}
	h.b = b
	return h.Made() == [32]byte(padded(values[RowHashAt]))
}

// padded makes a hash of a wrong length one that equals none.
func padded(v []byte) []byte {
	if len(v) != 32 {
		return zeros[:32]
	}
	return v
}

func appendPairs(b []byte, pairs []mapEntry) []byte {
	b = binary.BigEndian.AppendUint32(b, uint32(len(pairs)))
	for _, p := range pairs {
		b = appendSized(b, p.key)
		b = appendSized(b, p.value)
	}
	return b
}

func appendSized(b, v []byte) []byte {
	b = binary.BigEndian.AppendUint32(b, uint32(len(v)))
	return append(b, v...)
}
