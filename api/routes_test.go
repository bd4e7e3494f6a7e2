package api

import (
	"context"
	"encoding/json"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/useargus/argus"
)

// concrete fills a template's parameters with values that no route has a thing for.
func concrete(path string) string {
	path = strings.ReplaceAll(path, ":session", "01976d3e-7c2a-7b1e-9f00-0123456789ab")
	if strings.HasPrefix(path, "/v1/audit-log/") || strings.HasPrefix(path, "/v1/tokens/") {
		return strings.ReplaceAll(path, ":id", "01976d3e-7c2a-7b1e-9f00-0123456789ab")
	}
	return strings.ReplaceAll(path, ":id", "NOBODY_1")
}

// TestEveryRouteHasASentence: a call to a route of ours reads as what it does, not as its template.
func TestEveryRouteHasASentence(t *testing.T) {
	for _, r := range newHarness(t).api.table {
		if !argus.HasSentence(r.template(r.Method)) {
			t.Errorf("sentence.go lacks %s", r.template(r.Method))
		}
	}
}

// TestScopeMatrix: every route × every scope, from the table that serves.
func TestScopeMatrix(t *testing.T) {
	h := newHarness(t, func(c *Config) { c.Limits.PerSecond = -1 })
	h.auditLog.follow = func(context.Context, argus.FollowRequest, func(argus.FollowEvent) error) error { return nil }
	h.listening()
	tokens := map[argus.Scope]string{}
	for _, s := range argus.AllScopes() {
		tokens[s] = h.token("user_2ada", s)
	}
	if len(h.api.table) < 20 {
		t.Fatalf("only %d routes", len(h.api.table))
	}
	for _, r := range h.api.table {
		for scope, token := range tokens {
			methods := []string{r.Method}
			if r.Method == http.MethodGet {
				methods = append(methods, http.MethodHead)
			}
			for _, method := range methods {
				var body any
				if r.Effects {
					body = "{}"
				}
				resp := h.do(token, method, concrete(r.Path), body)
				row := h.row()
				allowed := r.Scope == scopeAny || r.Scope == scope
				denied := resp.status == 403 && (resp.code() == argus.CodeForbidden || method == http.MethodHead)
				if denied == allowed || resp.status == 401 || resp.status >= 500 {
					t.Errorf("%s with %s: %d %s", r.template(method), scope, resp.status, resp.body)
				}
				// Which tokens are meant may need more than any: then the row names that.
				more := r.Scope == scopeAny && strings.HasPrefix(r.Path, "/v1/tokens") && row.Scope == string(scope)
				if row.Route != r.template(method) || row.Scope != string(r.Scope) && !more || int(row.Status) != resp.status {
					t.Errorf("%s with %s: row %+v", r.template(method), scope, row)
				}
				if !allowed && h.audit.wasIntended(row.ID) {
					t.Errorf("%s with %s: announced an intent", r.template(method), scope)
				}
			}
		}
	}
}

// TestAnswersAsDescribed: answers with everything in them, which an empty log does not give, are as described.
func TestAnswersAsDescribed(t *testing.T) {
	h := newHarness(t)
	d := h.describe()
	rec := exampleRecord(7)
	h.fill(rec)
	token := h.token("user_2ada")
	check := func(path, described string, status int) {
		t.Helper()
		resp := h.do(token, http.MethodGet, path, nil)
		if resp.status != status {
			t.Fatalf("%s: %d %s", path, resp.status, resp.body)
		}
		var v any
		h.must(json.Unmarshal(resp.body, &v))
		schema := d.Paths.Find(described).Get.Responses.Status(status).Value.Content.Get("application/json").Schema
		if err := conforms(schema, v); err != nil {
			t.Errorf("%s is not as described: %v\n%s", path, err, resp.body)
		}
	}
	check("/v1/health", "/v1/health", 200)
	check("/v1/operators/me", "/v1/operators/me", 200)
	check("/v1/tokens", "/v1/tokens", 200)
	check("/v1/audit-log", "/v1/audit-log", 200)
	check("/v1/audit-log/"+rec.ID.String(), "/v1/audit-log/{id}", 200)
	check("/v1/audit-log/facets", "/v1/audit-log/facets", 200)
	check("/v1/perf?compare=true", "/v1/perf", 200)
	check("/v1/perf/series?compare=true", "/v1/perf/series", 200)
	check("/v1/perf/differs?region=slow", "/v1/perf/differs", 200)
	check("/v1/tenants", "/v1/tenants", 200)
	check("/compute/ops/workers", "/compute/ops/workers", 200)
	check("/v1/audit-log/nothing", "/v1/audit-log/{id}", 400)
	check("/console-config.json", "/console-config.json", 200)
}

// exampleRecord is a row as the log gives it, different for every n.
func exampleRecord(n int) *argus.Record {
	at := time.Date(2026, 3, 1, 12, 0, 0, 123456000, time.UTC).Add(time.Duration(n) * time.Second)
	id := uuid.MustParse("01976d3e-7c2a-7b1e-9f00-0123456789ab")
	id[15] = byte(n)
	r := &argus.Record{WriterID: 3, Seq: int64(n + 1), ID: id, OccurredAt: at, RecordedAt: at.Add(time.Millisecond),
		ActorID: "user_2ada", ActorKind: argus.KindPAT, PATID: uuid.MustParse("01976d3e-7c2a-7b1e-9f00-000000000001"),
		Scope: "tenants:read", Route: "GET /v1/tenants/:id", PathParams: []argus.PathParam{{Name: "id", Value: "UTD_1"}},
		Method: "GET", Status: 200, Outcome: argus.Completed, LatencyUS: 1500 + int64(n), ClientIP: mustAddr("192.0.2.7"),
		UserAgent: "argusctl/1.0", BodyHashed: true}
	r.MakeStorable()
	r.RowHash = r.ComputeHash()
	return r
}

// fill makes the log answer with the record everywhere.
func (h *harness) fill(rec *argus.Record) {
	reason := "ride-along"
	h.auditLog.search = func(context.Context, argus.SearchRequest) (argus.SearchPage, error) {
		return argus.SearchPage{Rows: []argus.Record{*rec, *exampleRecord(9)}, NextCursor: "more", Source: argus.SourceBoth,
			Snapshot: placeOf(8), Since: rec.OccurredAt, ReplicatedThrough: rec.RecordedAt}, nil
	}
	h.auditLog.get = func(_ context.Context, id uuid.UUID) (argus.CallDetail, error) {
		if id != rec.ID {
			return argus.CallDetail{}, argus.Errorf(argus.CodeNotFound, "There is no call of this id.")
		}
		return argus.CallDetail{Record: *rec, Source: argus.SourceClickHouse, Steps: []argus.Step{{Table: "remote_support_audit", AuditID: id,
			Step: 1, At: argus.JSONTime(rec.OccurredAt), ActorID: "user_2grace", Action: "arm", Reason: &reason, Result: "requested"}}}, nil
	}
	h.auditLog.facets = func(context.Context, argus.FacetsRequest) (argus.FacetsResult, error) {
		return argus.FacetsResult{Since: rec.OccurredAt, Total: 2, Step: time.Minute, Source: argus.SourceClickHouse,
			Fields:    map[argus.FilterName][]argus.FacetValue{argus.FilterActor: {{Value: "user_2ada", Count: 2}}, argus.FilterPAT: {{Value: rec.PATID.String(), Count: 1}}},
			Histogram: []argus.HistogramBar{{At: rec.OccurredAt, Count: 2}}}, nil
	}
	figures := argus.PerfRow{GroupBy: argus.GroupByRoute, Group: rec.Route, Count: 2, RPM: 1, P50: 1, P95: 2, P99: 3, Max: 4, Changed: []string{"p50"}}
	before := figures
	before.P50, before.Changed = nan(), nil
	h.auditLog.perf = func(_ context.Context, r argus.PerfRequest) (argus.PerfResult, error) {
		row := figures
		if r.Compare {
			row.Before = &before
		}
		return argus.PerfResult{GroupBy: r.GroupBy, Since: r.Filter.Since, Until: rec.OccurredAt, Rows: []argus.PerfRow{row}, Source: argus.SourceClickHouse}, nil
	}
	h.auditLog.differs = func(_ context.Context, r argus.DiffersRequest) (argus.DiffersResult, error) {
		figures := argus.DifferFigures{Calls: 9, BaselineCalls: 90, Share: 0.9, BaselineShare: 0.1, P50: 10, BaselineP50: nan(), P99: 20, BaselineP99: nan()}
		r.Region.Since, r.Region.Until, r.Region.LatencyMin = r.Filter.Since, rec.OccurredAt, 15*time.Millisecond
		return argus.DiffersResult{Since: r.Filter.Since, Until: rec.OccurredAt, Region: r.Region, Baseline: argus.BaselineRest, BaselineSince: r.Filter.Since,
			BaselineUntil: rec.OccurredAt, Calls: figures, Source: argus.SourceClickHouse,
			Dimensions: []argus.DifferValues{{Dimension: "actor", Others: 3, Other: figures, Values: []argus.DifferValue{
				{Value: "user_2ada", DifferFigures: figures, Score: 0.5, Departs: argus.DepartsMore}, {Value: "user_2bob", DifferFigures: figures}}}}}, nil
	}
	h.auditLog.series = func(_ context.Context, r argus.SeriesRequest) (argus.SeriesResult, error) {
		return argus.SeriesResult{Since: r.Filter.Since, Until: rec.OccurredAt, Step: time.Minute, Source: argus.SourceClickHouse,
			Series: []argus.Series{{Points: []argus.SeriesPoint{{At: rec.OccurredAt, PerfRow: figures}, {At: rec.OccurredAt, PerfRow: before}},
				Before: []argus.SeriesPoint{{At: rec.OccurredAt, PerfRow: before}}, StartedAt: rec.OccurredAt, StartedBy: argus.StartedErrors}}}, nil
	}
}
