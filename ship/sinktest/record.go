// Package sinktest has what the tests of formats and sinks share: any record, and a receiver's faults.
package sinktest

import (
	"net/netip"
	"strings"
	"time"

	"github.com/google/uuid"
	"pgregory.net/rapid"

	"github.com/useargus/argus"
)

// AnyRecord draws a row as the log may hold it: every kind of actor, outcome and method, any texts, with its hash.
func AnyRecord() *rapid.Generator[argus.Record] {
	return rapid.Custom(func(t *rapid.T) argus.Record {
		text := func(name string) string {
			return rapid.OneOf(
				rapid.StringN(0, 20, 64),
				rapid.SampledFrom([]string{"", "", "a\x00b", "\xff\xfe", "\"\\", "\u2028", "\x7f\x1b[2J", "{}", "null", "<13>1 - ", "\r\n", strings.Repeat("é", 3000)}),
			).Draw(t, name)
		}
		bytes := func(name string, n int) []byte { return rapid.SliceOfN(rapid.Byte(), n, n).Draw(t, name) }
		id := func(name string) uuid.UUID { return uuid.UUID(bytes(name, 16)) }
		pairs := func(name string) (p []argus.PathParam) {
			for range rapid.IntRange(0, 3).Draw(t, name) {
				p = append(p, argus.PathParam{Name: text(name), Value: text(name)})
			}
			return p
		}
		at := time.UnixMicro(rapid.Int64Range(0, 4e15).Draw(t, "occurred_at")).UTC()
		r := argus.Record{
			WriterID: rapid.Int64Range(1, 1<<53).Draw(t, "writer_id"), Seq: rapid.Int64Range(1, 1<<53).Draw(t, "seq"),
			ID: id("id"), OccurredAt: at, RecordedAt: at.Add(time.Duration(rapid.Int64Range(0, 1e12).Draw(t, "recorded_at"))).Truncate(time.Microsecond),
			ActorID: "a" + text("actor_id"), ImpersonatorID: text("impersonator_id"),
			ActorKind: rapid.SampledFrom(argus.ActorKinds()).Draw(t, "actor_kind"),
			Scope:     rapid.OneOf(rapid.SampledFrom([]string{argus.ScopeAny, argus.ScopeNone, "tenants:read"}), rapid.Just(text("scope"))).Draw(t, "scope"),
			Route:     rapid.SampledFrom([]string{"GET /v1/tenants/:id", "POST /v1/tokens", "GET " + argus.UnmatchedRoute, "PUT " + text("route")}).Draw(t, "route"),
			Method:    argus.StoredMethod(rapid.SampledFrom([]string{"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "CONNECT", "TRACE", "BREW"}).Draw(t, "method")),
			Outcome:   rapid.SampledFrom([]argus.Outcome{argus.Completed, argus.Completed, argus.Interrupted}).Draw(t, "outcome"),
			Status:    rapid.SampledFrom([]int16{200, 201, 204, 302, 400, 401, 403, 404, 409, 422, 429, 500, 503}).Draw(t, "status"),
			LatencyUS: rapid.Int64Range(0, 1e10).Draw(t, "latency_us"), UserAgent: text("user_agent"), BodyHashed: rapid.Bool().Draw(t, "hashed"),
			BodyBytes: rapid.Int64Range(0, 1<<40).Draw(t, "body_bytes"), ClientRequestID: text("client_request_id"), TraceID: text("trace_id"),
			Service: rapid.SampledFrom([]string{argus.OwnService, "billing", text("service")}).Draw(t, "service"), Release: text("release"),
			ErrorCode: text("error_code"), Reason: text("reason"), Agent: text("agent"), PathParams: pairs("path_params"), Workload: pairs("workload"),
		}
		copy(r.BodySHA256[:], bytes("body_sha256", 32))
		switch r.ActorKind {
		case argus.KindPAT:
			r.PATID = id("pat_id")
		case argus.KindBreakGlass:
			r.BreakGlassID = id("break_glass_id")
		}
		if rapid.Bool().Draw(t, "v4") {
			r.ClientIP = netip.AddrFrom4([4]byte(bytes("client_ip", 4)))
		} else {
			r.ClientIP = netip.AddrFrom16([16]byte(bytes("client_ip", 16)))
		}
		r.MakeStorable()
		r.RowHash = r.ComputeHash()
		return r
	})
}
