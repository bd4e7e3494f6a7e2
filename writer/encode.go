package writer

import (
	"crypto/sha256"
	"encoding/binary"
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"

	"github.com/useargus/argus"
)

// A row travels as a tuple of binary COPY. Columns that are known only when the batch is built come first (writer_id,
// seq, recorded_at) and last (row_hash). The caller's goroutine encodes all between, so that the lane copies bytes
// and computes one SHA-256 a row.
var copyColumns = "writer_id, seq, recorded_at, " + strings.Join(slices.DeleteFunc(argus.ColumnNames(), func(name string) bool {
	return name == "writer_id" || name == "seq" || name == "recorded_at"
}), ", ")

var copyColumnCount = len(argus.ColumnNames())

// copyHeader starts, copyTrailer ends the data of a binary COPY: signature, flags, no extension; and -1
// where a tuple's count of fields would be.
const (
	copyHeader  = "PGCOPY\n\xff\r\n\x00\x00\x00\x00\x00\x00\x00\x00\x00"
	copyTrailer = "\xff\xff"
)

// postgresEpoch is 2000-01-01 in microseconds since 1970: the zero of Postgres's binary times.
var postgresEpoch = time.Date(2000, 1, 1, 0, 0, 0, 0, time.UTC).UnixMicro()

// appendColumns appends the columns of r that its caller knows, in the order of copyColumns. r is storable.
func appendColumns(b []byte, r *argus.Record) []byte {
	be := binary.BigEndian
	b = appendUUID(b, r.ID)
	b = appendInt64(b, r.OccurredAt.UnixMicro()-postgresEpoch)
	b = appendText(b, r.ActorID)
	b = appendOptText(b, r.ImpersonatorID)
	b = appendText(b, string(r.ActorKind))
	b = appendOptUUID(b, r.PATID)
	b = appendOptUUID(b, r.BreakGlassID)
	b = appendText(b, r.Scope)
	b = appendText(b, r.Route)
	b = appendJSONB(b, r.AppendPathParams)
	b = appendText(b, r.Method)
	if r.Outcome == argus.Interrupted {
		b = appendNull(b)
	} else {
		b = be.AppendUint32(b, 2)
		b = be.AppendUint16(b, uint16(r.Status))
	}
	b = appendText(b, string(r.Outcome))
	if r.Outcome == argus.Interrupted {
		b = appendNull(b)
	} else {
		b = appendInt64(b, r.LatencyUS)
	}
	b = appendInet(b, r)
	b = appendText(b, r.UserAgent)
	if r.BodyHashed {
		b = be.AppendUint32(b, uint32(len(r.BodySHA256)))
		b = append(b, r.BodySHA256[:]...)
	} else {
		b = appendNull(b)
	}
	b = appendInt64(b, r.BodyBytes)
	b = appendOptText(b, r.ClientRequestID)
	b = appendOptText(b, r.TraceID)
	b = appendText(b, r.Service)
	b = appendOptText(b, r.Release)
	b = appendOptText(b, r.ErrorCode)
	b = appendOptText(b, r.Reason)
	b = appendOptText(b, r.Agent)
	if len(r.Workload) == 0 {
		return appendNull(b)
	}
	return appendJSONB(b, r.AppendWorkload)
}

// appendTuple appends the whole tuple of an entry whose writer, seq and time are given, and returns its hash.
func appendTuple(b []byte, e *entry, writerID, seq int64, recordedAt time.Time) []byte {
	be := binary.BigEndian
	if !e.keptAt.IsZero() {
		recordedAt = e.keptAt
	}
	head := argus.Record{WriterID: writerID, Seq: seq, RecordedAt: recordedAt}
	head.PutCanonicalHead(e.canonical[:argus.CanonicalHeadSize])
	hash := sha256.Sum256(e.canonical)
	e.writerID, e.seq, e.recordedAt, e.hash = writerID, seq, recordedAt, hash

	b = be.AppendUint16(b, uint16(copyColumnCount))
	b = appendInt64(b, writerID)
	b = appendInt64(b, seq)
	b = appendInt64(b, recordedAt.UnixMicro()-postgresEpoch)
	b = append(b, e.columns...)
	b = be.AppendUint32(b, uint32(len(hash)))
	return append(b, hash[:]...)
}

func appendNull(b []byte) []byte { return append(b, 0xff, 0xff, 0xff, 0xff) }

func appendInt64(b []byte, n int64) []byte {
	b = append(b, 0, 0, 0, 8)
	return binary.BigEndian.AppendUint64(b, uint64(n))
}

func appendText(b []byte, s string) []byte {
	b = binary.BigEndian.AppendUint32(b, uint32(len(s)))
	return append(b, s...)
}

func appendOptText(b []byte, s string) []byte {
	if s == "" {
		return appendNull(b)
	}
	return appendText(b, s)
}

func appendUUID(b []byte, u uuid.UUID) []byte {
	b = append(b, 0, 0, 0, 16)
	return append(b, u[:]...)
}

func appendOptUUID(b []byte, u uuid.UUID) []byte {
	if u == uuid.Nil {
		return appendNull(b)
	}
	return appendUUID(b, u)
}

// appendJSONB appends a jsonb: a version byte and the text.
func appendJSONB(b []byte, object func([]byte) []byte) []byte {
	at := len(b)
	b = append(b, 0, 0, 0, 0, 1)
	b = object(b)
	binary.BigEndian.PutUint32(b[at:], uint32(len(b)-at-4))
	return b
}

// appendInet appends an inet: family (2 or 3), bits, whether it is a cidr, length, address.
func appendInet(b []byte, r *argus.Record) []byte {
	if r.ClientIP.Is4() {
		a := r.ClientIP.As4()
		b = append(b, 0, 0, 0, 8, 2, 32, 0, 4)
		return append(b, a[:]...)
	}
	a := r.ClientIP.As16()
	b = append(b, 0, 0, 0, 20, 3, 128, 0, 16)
	return append(b, a[:]...)
}
