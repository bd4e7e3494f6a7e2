package replicator

import (
	"crypto/sha256"
	"encoding/binary"

	"github.com/useargus/argus/replicator/wal"
)

// canonicalColumns are the columns of the audit log under the canonical encoding, version 1, in its order but
// for the head (see the root package's canonical.go), with their Postgres types; row_hash follows them.
var canonicalColumns = []canonicalColumn{
	{"writer_id", oidInt8}, {"seq", oidInt8}, {"id", oidUUID}, {"occurred_at", oidTimestamptz},
	{"recorded_at", oidTimestamptz}, {"actor_id", oidText}, {"impersonator_id", oidText}, {"actor_kind", oidText},
	{"pat_id", oidUUID}, {"break_glass_id", oidUUID}, {"scope", oidText}, {"route", oidText},
	{"path_params", oidJSONB}, {"method", oidText}, {"status", oidInt2}, {"outcome", oidText},
	{"latency_us", oidInt8}, {"client_ip", oidInet}, {"user_agent", oidText}, {"body_sha256", oidBytea},
	{"body_bytes", oidInt8}, {"client_request_id", oidText}, {"trace_id", oidText},
}

type canonicalColumn struct {
	Name string
	OID  uint32
}

const (
	canonWriter, canonSeq, canonID, canonOccurred, canonRecorded = 0, 1, 2, 3, 4
	canonParams, canonIP, canonHash                              = 12, 17, 23
)

func canonicalNames() []string {
	var names []string
	for _, c := range canonicalColumns {
		names = append(names, c.Name)
	}
	return append(names, "row_hash")
}

func hasCanonicalColumns(source []wal.Column) bool {
	if len(source) <= canonHash || source[canonHash] != (wal.Column{Name: "row_hash", OID: oidBytea}) {
		return false
	}
	for i, c := range canonicalColumns {
		if source[i] != wal.Column(c) {
			return false
		}
	}
	return true
}

// hasher recomputes row hashes from rows as Postgres sends them in binary, without an argus.Record between.
// A test holds it to argus.Record.ComputeHash.
type hasher struct{ b []byte }

// intact tells whether the row's hash is that of its other columns. params are its path parameters, sorted.
func (h *hasher) intact(values [][]byte, params []mapEntry) bool {
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
	for i := canonRecorded + 1; i < canonHash; i++ {
		v := values[i]
		switch i {
		case canonParams:
			b = be.AppendUint32(b, uint32(len(params)))
			for _, p := range params {
				b = appendSized(b, p.key)
				b = appendSized(b, p.value)
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
		case 6, 8, 9, 14, 16, 19, 21, 22: // may be null
			if v == nil {
				b = append(b, 0)
				continue
			}
			b = append(b, 1)
		}
		if canonicalColumns[i].OID == oidText {
			b = appendSized(b, v)
		} else {
			b = append(b, v...)
		}
	}
	h.b = b
	return sha256.Sum256(b) == [32]byte(padded(values[canonHash]))
}

// padded makes a hash of a wrong length one that equals none.
func padded(v []byte) []byte {
	if len(v) != 32 {
		return zeros[:32]
	}
	return v
}

func appendSized(b, v []byte) []byte {
	b = binary.BigEndian.AppendUint32(b, uint32(len(v)))
	return append(b, v...)
}
