package main

import (
	"encoding/hex"
	"strconv"
	"time"

	"github.com/google/uuid"

	"github.com/useargus/argus"
)

// csvValues are a row's columns in the order of csvColumns, nulls empty.
func csvValues(r *argus.Record) []string {
	number := func(n int64) string { return strconv.FormatInt(n, 10) }
	moment := func(t time.Time) string { return t.UTC().Format(argus.TimeFormat) }
	id := func(u uuid.UUID) string {
		if u == uuid.Nil {
			return ""
		}
		return u.String()
	}
	status, latency, digest := "", "", ""
	if r.Outcome != argus.Interrupted {
		status, latency = number(int64(r.Status)), number(r.LatencyUS)
	}
	if r.BodyHashed {
		digest = hex.EncodeToString(r.BodySHA256[:])
	}
	return []string{number(r.WriterID), number(r.Seq), r.ID.String(), moment(r.OccurredAt), moment(r.RecordedAt),
		csvText(r.ActorID), csvText(r.ImpersonatorID), csvText(string(r.ActorKind)), id(r.PATID), id(r.BreakGlassID),
		csvText(r.Scope), csvText(r.Route), csvText(string(r.AppendPathParams(nil))), csvText(r.Method), status,
		csvText(string(r.Outcome)), latency, r.ClientIP.String(), csvText(r.UserAgent), digest, number(r.BodyBytes),
		csvText(r.ClientRequestID), csvText(r.TraceID), hex.EncodeToString(r.RowHash[:])}
}
