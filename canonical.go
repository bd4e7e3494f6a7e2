package argus

import (
	"crypto/sha256"
	"encoding/binary"

	"github.com/google/uuid"
)

// Canonical encoding, version 1: the bytes under row_hash = SHA-256(head ‖ body).
//
//	head: 0x01 · i64 writer_id · i64 seq · i64 recorded_at
//	body: 16 bytes id · i64 occurred_at · text actor_id · opt text impersonator_id · text actor_kind ·
//	      opt 16 bytes pat_id · opt 16 bytes break_glass_id · text scope · text route ·
//	      u32 count of path_params, each text name · text value, ascending by name's bytes ·
//	      text method · opt i16 status · text outcome · opt i64 latency_us ·
//	      client_ip: 0x04 · 4 bytes or 0x06 · 16 bytes · text user_agent · opt 32 bytes body_sha256 ·
//	      i64 body_bytes · opt text client_request_id · opt text trace_id ·
//	      text service · opt text release · opt text error_code · opt text reason · opt text agent ·
//	      workload: nothing when it is null, else as path_params
//
// Integers are big-endian, two's complement; times are microseconds since 1970-01-01 UTC; text is its length
// in bytes as u32 followed by its UTF-8; opt is 0x00 for null, or 0x01 followed by the value. Each field is
// either of fixed length or preceded by its length, and workload comes last, so two different rows never encode alike.
//
// The head holds what is known only when a batch is built; the body is encoded before, by the caller.
const canonicalVersion = 0x01

// CanonicalHeadSize is the length of the encoding's head in bytes.
const CanonicalHeadSize = 1 + 8 + 8 + 8

// AppendCanonicalBody appends the body of r's canonical encoding to b. r must be storable (MakeStorable).
func (r *Record) AppendCanonicalBody(b []byte) []byte {
	be := binary.BigEndian
	b = append(b, r.ID[:]...)
	b = be.AppendUint64(b, uint64(r.OccurredAt.UnixMicro()))
	b = appendText(b, r.ActorID)
	b = appendOptText(b, r.ImpersonatorID)
	b = appendText(b, string(r.ActorKind))
	b = appendOptUUID(b, r.PATID)
	b = appendOptUUID(b, r.BreakGlassID)
	b = appendText(b, r.Scope)
	b = appendText(b, r.Route)
	b = appendPairs(b, r.PathParams)
	b = appendText(b, r.Method)
	if r.Outcome == Interrupted {
		b = append(b, 0)
	} else {
		b = append(b, 1)
		b = be.AppendUint16(b, uint16(r.Status))
	}
	b = appendText(b, string(r.Outcome))
	if r.Outcome == Interrupted {
		b = append(b, 0)
	} else {
		b = append(b, 1)
		b = be.AppendUint64(b, uint64(r.LatencyUS))
	}
	if r.ClientIP.Is4() {
		a := r.ClientIP.As4()
		b = append(b, 4)
		b = append(b, a[:]...)
	} else {
		a := r.ClientIP.As16()
		b = append(b, 6)
		b = append(b, a[:]...)
	}
	b = appendText(b, r.UserAgent)
	if r.BodyHashed {
		b = append(b, 1)
		b = append(b, r.BodySHA256[:]...)
	} else {
		b = append(b, 0)
	}
	b = be.AppendUint64(b, uint64(r.BodyBytes))
	b = appendOptText(b, r.ClientRequestID)
	b = appendOptText(b, r.TraceID)
	b = appendText(b, r.Service)
	b = appendOptText(b, r.Release)
	b = appendOptText(b, r.ErrorCode)
	b = appendOptText(b, r.Reason)
	b = appendOptText(b, r.Agent)
	if len(r.Workload) == 0 {
		return b
	}
	return appendPairs(b, r.Workload)
}

// PutCanonicalHead writes the head of r's canonical encoding to b, which must hold CanonicalHeadSize bytes.
// WriterID, Seq and RecordedAt must be set.
func (r *Record) PutCanonicalHead(b []byte) {
	b[0] = canonicalVersion
	binary.BigEndian.PutUint64(b[1:], uint64(r.WriterID))
	binary.BigEndian.PutUint64(b[9:], uint64(r.Seq))
	binary.BigEndian.PutUint64(b[17:], uint64(r.RecordedAt.UnixMicro()))
}

// ComputeHash returns the row hash that r's other fields call for. A row is intact when it equals r.RowHash.
func (r *Record) ComputeHash() [32]byte {
	b := make([]byte, CanonicalHeadSize, 512)
	r.PutCanonicalHead(b)
	return sha256.Sum256(r.AppendCanonicalBody(b))
}

func appendText(b []byte, s string) []byte {
	b = binary.BigEndian.AppendUint32(b, uint32(len(s)))
	return append(b, s...)
}

func appendPairs(b []byte, pairs []PathParam) []byte {
	b = binary.BigEndian.AppendUint32(b, uint32(len(pairs)))
	for _, p := range pairs {
		b = appendText(b, p.Name)
		b = appendText(b, p.Value)
	}
	return b
}

func appendOptText(b []byte, s string) []byte {
	if s == "" {
		return append(b, 0)
	}
	return appendText(append(b, 1), s)
}

func appendOptUUID(b []byte, u uuid.UUID) []byte {
	if u == uuid.Nil {
		return append(b, 0)
	}
	return append(append(b, 1), u[:]...)
}
