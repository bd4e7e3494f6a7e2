package chcolumn

import (
	"crypto/sha256"
	"encoding/binary"

	"github.com/jackc/pgx/v5/pgtype"

	"github.com/useargus/argus/replicator/wal"
)

// canonicalColumns are the columns of the audit log under the canonical encoding, version 1, in its order but
// for the head (see the root package's canonical.go), with their Postgres types; row_hash follows them.
var canonicalColumns = []canonicalColumn{
	{"writer_id", pgtype.Int8OID}, {"seq", pgtype.Int8OID}, {"id", pgtype.UUIDOID}, {"occurred_at", pgtype.TimestamptzOID},
	{"recorded_at", pgtype.TimestamptzOID}, {"actor_id", pgtype.TextOID}, {"impersonator_id", pgtype.TextOID}, {"actor_kind", pgtype.TextOID},
	{"pat_id", pgtype.UUIDOID}, {"break_glass_id", pgtype.UUIDOID}, {"scope", pgtype.TextOID}, {"route", pgtype.TextOID},
	{"path_params", pgtype.JSONBOID}, {"method", pgtype.TextOID}, {"status", pgtype.Int2OID}, {"outcome", pgtype.TextOID},
	{"latency_us", pgtype.Int8OID}, {"client_ip", pgtype.InetOID}, {"user_agent", pgtype.TextOID}, {"body_sha256", pgtype.ByteaOID},
	{"body_bytes", pgtype.Int8OID}, {"client_request_id", pgtype.TextOID}, {"trace_id", pgtype.TextOID},
	{"service", pgtype.TextOID}, {"release", pgtype.TextOID}, {"error_code", pgtype.TextOID}, {"reason", pgtype.TextOID},
	{"agent", pgtype.TextOID}, {"workload", pgtype.JSONBOID},
}

type canonicalColumn struct {
	Name string
	OID  uint32
}

const (
	canonWriter, canonSeq, canonID, canonOccurred, canonRecorded = 0, 1, 2, 3, 4
	canonParams, canonIP, canonWorkload                          = 12, 17, 28
)

// RowHashAt is where row_hash stands among the values of a row that has the canonical columns.
const RowHashAt = 29

// CanonicalNames returns the names of the columns of the canonical encoding, in its order, and row_hash.
func CanonicalNames() []string {
	var names []string
	for _, c := range canonicalColumns {
		names = append(names, c.Name)
	}
	return append(names, "row_hash")
}

// HasCanonicalColumns reports whether source begins with these columns, of these types.
func HasCanonicalColumns(source []wal.Column) bool {
	if len(source) <= RowHashAt || source[RowHashAt] != (wal.Column{Name: "row_hash", OID: pgtype.ByteaOID}) {
		return false
	}
	for i, c := range canonicalColumns {
		if source[i] != wal.Column(c) {
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
	params, ok := columns[canonParams].(*mapColumn)
	workload, both := columns[canonWorkload].(*mapColumn)
	return !ok || !both || h.intact(values, params.entries, workload.entries)
}

// Made returns the hash of the columns of the row that Intact saw last.
func (h *Hasher) Made() [32]byte { return sha256.Sum256(h.b) }

// intact tells the same, given the path parameters and the workload's claims, sorted.
func (h *Hasher) intact(values [][]byte, params, workload []mapEntry) bool {
	for _, i := range [...]int{canonWriter, canonSeq, canonOccurred, canonRecorded} {
		if len(values[i]) != 8 {
			return false
		}
	}
	if len(values[canonIP]) < 8 {
		return false
	}
	be := binary.BigEndian
	b := append(h.b[:0], 1)
	b = append(b, values[canonWriter]...)
	b = append(b, values[canonSeq]...)
	b = be.AppendUint64(b, be.Uint64(values[canonRecorded])+wal.PostgresEpoch)
	b = append(b, values[canonID]...)
	b = be.AppendUint64(b, be.Uint64(values[canonOccurred])+wal.PostgresEpoch)
	for i := canonRecorded + 1; i < RowHashAt; i++ {
		v := values[i]
		switch i {
		case canonParams:
			b = appendPairs(b, params)
			continue
		case canonWorkload:
			if v != nil {
				b = appendPairs(b, workload)
			}
			continue
		case canonIP:
			if len(v) == 8 {
				b = append(append(b, 4), v[4:]...)
			} else {
				b = append(append(b, 6), v[4:]...)
			}
			continue
		}
		switch i {
		case 6, 8, 9, 14, 16, 19, 21, 22, 24, 25, 26, 27: // may be null
			if v == nil {
				b = append(b, 0)
				continue
			}
			b = append(b, 1)
		}
		if canonicalColumns[i].OID == pgtype.TextOID {
			b = appendSized(b, v)
		} else {
			b = append(b, v...)
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
