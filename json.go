package argus

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"time"
	"unicode/utf8"

	"github.com/google/uuid"
)

// AppendJSON appends r as one JSON object whose keys are the column names, in their order: times in
// TimeFormat, digests in lower-case hex, nulls present. It is what the API, --json and exports show.
func (r *Record) AppendJSON(b []byte) []byte {
	b = append(b, `{"writer_id":`...)
	b = strconv.AppendInt(b, r.WriterID, 10)
	b = append(b, `,"seq":`...)
	b = strconv.AppendInt(b, r.Seq, 10)
	b = append(b, `,"id":"`...)
	b = appendUUID(b, r.ID)
	b = append(b, `","occurred_at":"`...)
	b = r.OccurredAt.UTC().AppendFormat(b, TimeFormat)
	b = append(b, `","recorded_at":"`...)
	b = r.RecordedAt.UTC().AppendFormat(b, TimeFormat)
	b = append(b, `","actor_id":`...)
	b = AppendJSONString(b, r.ActorID)
	b = append(b, `,"impersonator_id":`...)
	b = appendOptString(b, r.ImpersonatorID)
	b = append(b, `,"actor_kind":`...)
	b = AppendJSONString(b, string(r.ActorKind))
	b = append(b, `,"pat_id":`...)
	b = appendJSONUUID(b, r.PATID)
	b = append(b, `,"break_glass_id":`...)
	b = appendJSONUUID(b, r.BreakGlassID)
	b = append(b, `,"scope":`...)
	b = AppendJSONString(b, r.Scope)
	b = append(b, `,"route":`...)
	b = AppendJSONString(b, r.Route)
	b = append(b, `,"path_params":`...)
	b = r.AppendPathParams(b)
	b = append(b, `,"method":`...)
	b = AppendJSONString(b, r.Method)
	if r.Outcome == Interrupted {
		b = append(b, `,"status":null,"outcome":`...)
	} else {
		b = append(b, `,"status":`...)
		b = strconv.AppendInt(b, int64(r.Status), 10)
		b = append(b, `,"outcome":`...)
	}
	b = AppendJSONString(b, string(r.Outcome))
	if r.Outcome == Interrupted {
		b = append(b, `,"latency_us":null`...)
	} else {
		b = append(b, `,"latency_us":`...)
		b = strconv.AppendInt(b, r.LatencyUS, 10)
	}
	b = append(b, `,"client_ip":"`...)
	b = r.ClientIP.AppendTo(b)
	b = append(b, `","user_agent":`...)
	b = AppendJSONString(b, r.UserAgent)
	if r.BodyHashed {
		b = append(b, `,"body_sha256":"`...)
		b = hex.AppendEncode(b, r.BodySHA256[:])
		b = append(b, '"')
	} else {
		b = append(b, `,"body_sha256":null`...)
	}
	b = append(b, `,"body_bytes":`...)
	b = strconv.AppendInt(b, r.BodyBytes, 10)
	b = append(b, `,"client_request_id":`...)
	b = appendOptString(b, r.ClientRequestID)
	b = append(b, `,"trace_id":`...)
	b = appendOptString(b, r.TraceID)
	b = append(b, `,"service":`...)
	b = AppendJSONString(b, r.Service)
	b = append(b, `,"release":`...)
	b = appendOptString(b, r.Release)
	b = append(b, `,"error_code":`...)
	b = appendOptString(b, r.ErrorCode)
	b = append(b, `,"reason":`...)
	b = appendOptString(b, r.Reason)
	b = append(b, `,"agent":`...)
	b = appendOptString(b, r.Agent)
	b = append(b, `,"workload":`...)
	if len(r.Workload) == 0 {
		b = append(b, "null"...)
	} else {
		b = r.AppendWorkload(b)
	}
	b = append(b, `,"row_hash":"`...)
	b = hex.AppendEncode(b, r.RowHash[:])
	return append(b, `"}`...)
}

// AppendPathParams appends the path parameters as a JSON object: the text of the column path_params.
func (r *Record) AppendPathParams(b []byte) []byte { return appendObject(b, r.PathParams) }

// AppendWorkload appends the claims as a JSON object: the text of the column workload where it is not null.
func (r *Record) AppendWorkload(b []byte) []byte { return appendObject(b, r.Workload) }

func appendObject(b []byte, pairs []PathParam) []byte {
	b = append(b, '{')
	for i, p := range pairs {
		if i > 0 {
			b = append(b, ',')
		}
		b = AppendJSONString(b, p.Name)
		b = append(b, ':')
		b = AppendJSONString(b, p.Value)
	}
	return append(b, '}')
}

// MarshalJSON implements json.Marshaler by AppendJSON.
func (r Record) MarshalJSON() ([]byte, error) { return r.AppendJSON(make([]byte, 0, 1024)), nil }

// UnmarshalJSON implements json.Unmarshaler: it reads what AppendJSON writes and ignores other keys, so that
// a newer server's rows can be read. A key that is given twice, or is not written as AppendJSON writes keys, is an
// error: another reader of the same text could take another value from it.
func (r *Record) UnmarshalJSON(data []byte) error {
	var w struct {
		WriterID        int64             `json:"writer_id"`
		Seq             int64             `json:"seq"`
		ID              uuid.UUID         `json:"id"`
		OccurredAt      time.Time         `json:"occurred_at"`
		RecordedAt      time.Time         `json:"recorded_at"`
		ActorID         string            `json:"actor_id"`
		ImpersonatorID  string            `json:"impersonator_id"`
		ActorKind       ActorKind         `json:"actor_kind"`
		PATID           uuid.UUID         `json:"pat_id"`
		BreakGlassID    uuid.UUID         `json:"break_glass_id"`
		Scope           string            `json:"scope"`
		Route           string            `json:"route"`
		PathParams      map[string]string `json:"path_params"`
		Method          string            `json:"method"`
		Status          int16             `json:"status"`
		Outcome         Outcome           `json:"outcome"`
		LatencyUS       int64             `json:"latency_us"`
		ClientIP        netip.Addr        `json:"client_ip"`
		UserAgent       string            `json:"user_agent"`
		BodySHA256      *string           `json:"body_sha256"`
		BodyBytes       int64             `json:"body_bytes"`
		ClientRequestID string            `json:"client_request_id"`
		TraceID         string            `json:"trace_id"`
		Service         string            `json:"service"`
		Release         string            `json:"release"`
		ErrorCode       string            `json:"error_code"`
		Reason          string            `json:"reason"`
		Agent           string            `json:"agent"`
		Workload        map[string]string `json:"workload"`
		RowHash         string            `json:"row_hash"`
	}
	if err := json.Unmarshal(data, &w); err != nil {
		return err
	}
	if key := oddKey(data); key != "" {
		return fmt.Errorf("the key %s of a row is given twice, or in another case", key)
	}
	*r = Record{
		WriterID: w.WriterID, Seq: w.Seq, ID: w.ID, OccurredAt: w.OccurredAt.UTC(), RecordedAt: w.RecordedAt.UTC(),
		ActorID: w.ActorID, ImpersonatorID: w.ImpersonatorID, ActorKind: w.ActorKind,
		PATID: w.PATID, BreakGlassID: w.BreakGlassID, Scope: w.Scope, Route: w.Route,
		Method: w.Method, Status: w.Status, Outcome: w.Outcome, LatencyUS: w.LatencyUS,
		ClientIP: w.ClientIP, UserAgent: w.UserAgent, BodyBytes: w.BodyBytes,
		ClientRequestID: w.ClientRequestID, TraceID: w.TraceID,
		Service: w.Service, Release: w.Release, ErrorCode: w.ErrorCode, Reason: w.Reason, Agent: w.Agent,
	}
	for name, value := range w.PathParams {
		r.PathParams = append(r.PathParams, PathParam{name, value})
	}
	for name, value := range w.Workload {
		r.Workload = append(r.Workload, Claim{name, value})
	}
	r.SortPathParams()
	r.SortWorkload()
	if w.BodySHA256 != nil {
		if err := unhex(&r.BodySHA256, "body_sha256", *w.BodySHA256); err != nil {
			return err
		}
		r.BodyHashed = true
	}
	if w.RowHash != "" {
		return unhex(&r.RowHash, "row_hash", w.RowHash)
	}
	return nil
}

// oddKey returns a key of the object, quoted as it stands there, that comes twice or has other characters than
// lower-case letters, digits and _; "" when there is none. encoding/json would take ACTOR_ID for actor_id. object is
// valid JSON.
func oddKey(object []byte) string {
	var seen [][]byte
	depth := 0
	for i := 0; i < len(object); i++ {
		switch object[i] {
		case '{', '[':
			depth++
		case '}', ']':
			depth--
		case '"':
			start, odd := i, false
			for i++; object[i] != '"'; i++ {
				c := object[i]
				odd = odd || c != '_' && (c < 'a' || c > 'z') && (c < '0' || c > '9')
				if c == '\\' {
					i++
				}
			}
			text := object[start : i+1]
			rest := bytes.TrimLeft(object[i+1:], " \t\r\n")
			if depth != 1 || len(rest) == 0 || rest[0] != ':' {
				continue // no key of this object
			}
			if odd || slices.ContainsFunc(seen, func(k []byte) bool { return bytes.Equal(k, text) }) {
				return Text(string(text), 64)
			}
			seen = append(seen, text)
		}
	}
	return ""
}

// OrNull is null, in JSON and in a statement's parameters, for the zero value.
func OrNull[T comparable](v T) *T {
	var zero T
	if v == zero {
		return nil
	}
	return &v
}

func unhex(dst *[32]byte, key, s string) error {
	b, err := hex.DecodeString(s)
	if err != nil || len(b) != len(dst) {
		return fmt.Errorf("%s is not 64 hex digits", key)
	}
	copy(dst[:], b)
	return nil
}

func appendOptString(b []byte, s string) []byte {
	if s == "" {
		return append(b, "null"...)
	}
	return AppendJSONString(b, s)
}

func appendJSONUUID(b []byte, u uuid.UUID) []byte {
	if u == uuid.Nil {
		return append(b, "null"...)
	}
	return append(appendUUID(append(b, '"'), u), '"')
}

func appendUUID(b []byte, u uuid.UUID) []byte {
	var t [36]byte
	hex.Encode(t[0:8], u[0:4])
	hex.Encode(t[9:13], u[4:6])
	hex.Encode(t[14:18], u[6:8])
	hex.Encode(t[19:23], u[8:10])
	hex.Encode(t[24:36], u[10:16])
	t[8], t[13], t[18], t[23] = '-', '-', '-', '-'
	return append(b, t[:]...)
}

// AppendJSONString appends s as a JSON string without allocating. Control characters, quotes, backslashes and
// the two line separators that JavaScript trips over are escaped; invalid bytes become U+FFFD.
func AppendJSONString(b []byte, s string) []byte {
	const digits = "0123456789abcdef"
	b = append(b, '"')
	start := 0
	for i := 0; i < len(s); {
		c := s[i]
		if c < utf8.RuneSelf {
			if c >= 0x20 && c != '"' && c != '\\' && c != 0x7f {
				i++
				continue
			}
			b = append(b, s[start:i]...)
			switch c {
			case '"', '\\':
				b = append(b, '\\', c)
			case '\n':
				b = append(b, '\\', 'n')
			case '\r':
				b = append(b, '\\', 'r')
			case '\t':
				b = append(b, '\\', 't')
			default:
				b = append(b, '\\', 'u', '0', '0', digits[c>>4], digits[c&15])
			}
			i++
			start = i
			continue
		}
		r, size := utf8.DecodeRuneInString(s[i:])
		switch {
		case r == utf8.RuneError && size == 1:
			b = append(b, s[start:i]...)
			b = append(b, `\ufffd`...)
		case r == '\u2028' || r == '\u2029':
			b = append(b, s[start:i]...)
			b = append(b, `\u202`...)
			b = append(b, digits[r&15])
		default:
			i += size
			continue
		}
		i += size
		start = i
	}
	b = append(b, s[start:]...)
	return append(b, '"')
}
