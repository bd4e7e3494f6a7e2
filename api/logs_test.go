package api

import (
	"context"
	"encoding/json"
	"math"
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/useargus/argus"
	"github.com/useargus/argus/api/credential"
)

func mustAddr(s string) netip.Addr { return netip.MustParseAddr(s) }

func nan() float64 { return math.NaN() }

// TestSearchAnswer: the page as wire shapes say, names and reasons beside it.
func TestSearchAnswer(t *testing.T) {
	h := newHarness(t)
	glass, _, err := credential.IssueBreakGlass(t.Context(), h.glassConn(), credential.NewBreakGlass{ActorID: "user_2grace", By: "grace@ops1", Reason: "Clerk is down"})
	h.must(err)
	rec := exampleRecord(1)
	byGlass := exampleRecord(2)
	byGlass.ActorKind, byGlass.BreakGlassID, byGlass.ActorID, byGlass.ImpersonatorID = argus.KindBreakGlass, glass.ID, "user_2grace", "user_2unknown"
	var asked argus.SearchRequest
	h.auditLog.search = func(_ context.Context, r argus.SearchRequest) (argus.SearchPage, error) {
		asked = r
		return argus.SearchPage{Rows: []argus.Record{*rec, *byGlass}, Source: argus.SourcePostgres,
			Snapshot: placeOf(8), Since: rec.OccurredAt}, nil
	}
	resp := h.do(h.token("user_2ada"), http.MethodGet, "/v1/audit-log?since=2026-03-01T00:00:00Z&route=/v1/tenants/:id&not_status=5xx&limit=7&order=asc&cursor=abc", nil)
	if row := h.row(); row.Route != "GET /v1/audit-log" || row.Scope != "logs:read" {
		t.Errorf("reading the log is a call like any other: %+v", row)
	}
	if asked.Limit != 7 || !asked.Ascending || asked.Cursor != "abc" || len(asked.Filter.Conditions) != 2 || asked.Filter.Since.IsZero() {
		t.Errorf("asked %+v", asked)
	}
	var page struct {
		Rows              []argus.Record
		NextCursor        *string `json:"next_cursor"`
		Snapshot          string
		Since, Until      *string
		Source            string
		ReplicatedThrough *string `json:"replicated_through"`
		Actors            map[string]string
		BreakGlass        map[string]string `json:"break_glass"`
	}
	resp.json(t, &page)
	if len(page.Rows) != 2 || page.Rows[0].ID != rec.ID || page.Rows[1].RowHash != byGlass.RowHash || page.NextCursor != nil ||
		page.Snapshot != "place-8" || *page.Since != "2026-03-01T12:00:01.123456Z" || page.Until != nil || page.Source != "postgres" || page.ReplicatedThrough != nil {
		t.Errorf("page %s", resp.body)
	}
	if page.Actors["user_2ada"] != "Ada Okafor" || page.Actors["user_2grace"] != "Grace Lindqvist" || len(page.Actors) != 2 {
		t.Errorf("actors %v", page.Actors)
	}
	if page.BreakGlass[glass.ID.String()] != "Clerk is down" {
		t.Errorf("break_glass %v", page.BreakGlass)
	}
	// Names are a convenience: Clerk away or slow, the page comes all the same.
	h.issuer.SetDelay(time.Hour)
	h.age(personMaxAge)
	if resp := h.do(h.token("user_2ada"), http.MethodGet, "/v1/audit-log", nil); resp.status != 200 {
		t.Errorf("names missing: %d", resp.status)
	}
	h.issuer.SetDelay(0)
}

func TestCallDetail(t *testing.T) {
	h := newHarness(t)
	rec := exampleRecord(1)
	h.fill(rec)
	resp := h.do(h.token("user_2ada"), http.MethodGet, "/v1/audit-log/"+rec.ID.String(), nil)
	var d struct {
		argus.Record
	}
	resp.json(t, &d)
	var more struct {
		Steps  []argus.Step
		Source string
		Actors map[string]string
		Reason *string `json:"break_glass_reason"`

		Sentence string
	}
	resp.json(t, &more)
	if want := rec.Sentence(more.Actors); more.Sentence != want || want == "" {
		t.Errorf("the sentence %q is not %q", more.Sentence, want)
	}
	if d.ID != rec.ID || d.RowHash != rec.RowHash || len(more.Steps) != 1 || more.Source != "clickhouse" || more.Reason != nil ||
		more.Actors["user_2ada"] == "" || more.Actors["user_2grace"] == "" {
		t.Errorf("%s", resp.body)
	}
	if row := h.row(); row.PathParam("id") != rec.ID.String() {
		t.Errorf("row %+v", row)
	}
}

// TestBadInput: each a clear error with its code, each with its row, nothing panics.
func TestBadInput(t *testing.T) {
	h := newHarness(t)
	h.auditLog.search = func(_ context.Context, r argus.SearchRequest) (argus.SearchPage, error) {
		if r.Cursor != "" {
			return argus.SearchPage{}, argus.Errorf(argus.CodeInvalidCursor, "This cursor is of another search.")
		}
		return argus.SearchPage{}, nil
	}
	token := h.token("user_2ada")
	get := func(path string) [3]string { return [3]string{"GET", path} }
	post := func(body string) [3]string { return [3]string{"POST", "/v1/tokens", body} }
	for _, c := range []struct {
		request [3]string
		status  int
		code    argus.Code
		says    string
	}{
		{get("/v1/audit-log?since=yesterday"), 400, argus.CodeInvalidParameter, "yesterday"},
		{get("/v1/audit-log?since=1h&since=2h"), 400, argus.CodeInvalidParameter, "since once"},
		{get("/v1/audit-log?since=1m&until=1h"), 400, argus.CodeInvalidParameter, "before since"},
		{get("/v1/audit-log?sinse=1h"), 400, argus.CodeInvalidParameter, "sinse"},
		{get("/v1/audit-log?status=teapot"), 400, argus.CodeInvalidParameter, "status"},
		{get("/v1/audit-log?limit=0"), 400, argus.CodeInvalidParameter, "limit"},
		{get("/v1/audit-log?limit=1001"), 400, argus.CodeInvalidParameter, "limit"},
		{get("/v1/audit-log?limit=ten"), 400, argus.CodeInvalidParameter, "limit"},
		{get("/v1/audit-log?limit=1&limit=2"), 400, argus.CodeInvalidParameter, "once"},
		{get("/v1/audit-log?order=up"), 400, argus.CodeInvalidParameter, "order"},
		{get("/v1/audit-log?cursor=foreign"), 400, argus.CodeInvalidCursor, "another search"},
		{get("/v1/audit-log?cursor=a&cursor=b"), 400, argus.CodeInvalidParameter, "once"},
		{get("/v1/audit-log?user_agent=%00"), 400, argus.CodeInvalidParameter, "UTF-8"},
		{get("/v1/audit-log?user_agent=%ff"), 400, argus.CodeInvalidParameter, "UTF-8"},
		{get("/v1/audit-log?client=argusctl/1"), 400, argus.CodeInvalidParameter, "user_agent"},
		{get("/v1/audit-log?method=PROPFIND"), 400, argus.CodeInvalidParameter, "OTHER"},
		{get("/v1/audit-log?actor=%zz"), 400, argus.CodeInvalidParameter, "query"},
		{get("/v1/audit-log?a;b"), 400, argus.CodeInvalidParameter, "query"},
		{get("/v1/audit-log?audit=false"), 400, argus.CodeInvalidParameter, "audit"}, // no parameter skips the audit
		{get("/v1/audit-log?user_agent=" + strings.Repeat("x", 2000)), 400, argus.CodeInvalidParameter, "512"},
		{get("/v1/audit-log/not-an-id"), 400, argus.CodeInvalidParameter, "36 characters"},
		{get("/v1/audit-log/%7B01976d3e-7c2a-7b1e-9f00-0123456789ab%7D"), 400, argus.CodeInvalidParameter, "36 characters"},
		{get("/v1/audit-log/01976d3e-7c2a-7b1e-9f00-0123456789ab"), 404, argus.CodeNotFound, "no call"},
		{get("/v1/audit-log/stream?cursor=nonsense"), 400, argus.CodeInvalidCursor, "follow from"},
		{get("/v1/audit-log/stream?cursor=c0.1-2"), 400, argus.CodeInvalidCursor, "follow from"}, // invented
		{get("/v1/audit-log/stream?limit=1"), 400, argus.CodeInvalidParameter, "limit"},
		{get("/v1/audit-log/export?format=xml"), 400, argus.CodeInvalidParameter, "ndjson"},
		{get("/v1/audit-log/export?after=x"), 400, argus.CodeInvalidParameter, "after"},
		{get("/v1/audit-log/export?cursor=x&after=x"), 400, argus.CodeInvalidParameter, "after"},
		{get("/v1/audit-log/facets?fields=body"), 400, argus.CodeInvalidParameter, "body"},
		{get("/v1/audit-log/facets?step=30s"), 400, argus.CodeInvalidParameter, "step"},
		{get("/v1/perf?group_by=mood"), 400, argus.CodeInvalidParameter, "group_by"},
		{get("/v1/perf?compare=maybe"), 400, argus.CodeInvalidParameter, "compare"},
		{get("/v1/perf/series?compare=1"), 400, argus.CodeInvalidParameter, "compare"},
		{get("/v1/perf/series?step=-1m"), 400, argus.CodeInvalidParameter, "length of time"},
		{get("/v1/perf/differs?region=odd"), 400, argus.CodeInvalidParameter, "slow, failed or interrupted"},
		{get("/v1/perf/differs?region=slow&region=failed"), 400, argus.CodeInvalidParameter, "once"},
		{get("/v1/perf/differs?baseline=after"), 400, argus.CodeInvalidParameter, "rest or before"},
		{get("/v1/perf/differs?region_since=yesterday"), 400, argus.CodeInvalidParameter, "yesterday"},
		{get("/v1/perf/differs?region_since=10m&region_until=20m"), 400, argus.CodeInvalidParameter, "behind region_since"},
		{get("/v1/perf/differs?region_latency_min=2s&region_latency_max=1s"), 400, argus.CodeInvalidParameter, "longer"},
		{get("/v1/perf/differs?region_latency_min=fast"), 400, argus.CodeInvalidParameter, "500ms"},
		{get("/v1/perf/differs?region=interrupted&region_latency_min=1s"), 400, argus.CodeInvalidParameter, "no latency"},
		{get("/v1/perf/differs?limit=101"), 400, argus.CodeInvalidParameter, "100"},
		{get("/v1/perf/differs?group_by=route"), 400, argus.CodeInvalidParameter, "group_by"},
		{post(""), 400, argus.CodeInvalidJSON, "empty"},
		{post("null"), 400, argus.CodeInvalidJSON, "begins"},
		{post("[]"), 400, argus.CodeInvalidJSON, "begins"},
		{post(`{"name":`), 400, argus.CodeInvalidJSON, "early"},
		{post(`{"name":"x",}`), 400, argus.CodeInvalidJSON, "syntax"},
		{post(`{"name":"x"} {"name":"y"}`), 400, argus.CodeInvalidJSON, "behind"},
		{post(`{"name":"x"}garbage`), 400, argus.CodeInvalidJSON, "behind"},
		{post(`{"name":"x","name":"y","preset":"admin-full"}`), 400, argus.CodeInvalidJSON, "twice"},
		{post(`{"Name":"x","preset":"admin-full"}`), 400, argus.CodeInvalidJSON, "not known"},
		{post(`{"name":"x","ſcopes":["logs:read"]}`), 400, argus.CodeInvalidJSON, "not known"},                     // ſ, which folds to s
		{post(`{"name":"x","preſet":"admin-full"}`), 400, argus.CodeInvalidJSON, "not known"},                      //
		{post(`{"name":"x","\u017fcopes":["logs:read"]}`), 400, argus.CodeInvalidJSON, "not known"},                //
		{post(`{"name":"x","scopes":["logs:read"],"SCOPES":["logs:read"]}`), 400, argus.CodeInvalidJSON, "SCOPES"}, //
		{post(`{"name":"x","n\u0061me":"y","preset":"admin-full"}`), 400, argus.CodeInvalidJSON, "twice"},
		{post(`{"name":"x","preset":"admin-full"}{}`), 400, argus.CodeInvalidJSON, "behind"},
		{post(`{"name":"x","scopes":` + strings.Repeat("[", 20_000)), 400, argus.CodeInvalidJSON, ""},
		{post(`{"name":"\ud800","preset":"admin-full"}`), 400, argus.CodeInvalidJSON, ""},
		{post(`{"name":1}`), 400, argus.CodeInvalidJSON, "name"},
		{post(`{"name":"x","scope":["logs:read"]}`), 400, argus.CodeInvalidJSON, "scope"},
		{post("{\"name\":\"\xff\",\"preset\":\"admin-full\"}"), 400, argus.CodeInvalidJSON, "UTF-8"},
		{post(`{"name":"","preset":"admin-full"}`), 400, argus.CodeInvalidParameter, "name"},
		{post(`{"name":"a\u0000b","preset":"admin-full"}`), 400, argus.CodeInvalidParameter, "name"},
		{post(`{"name":"` + strings.Repeat("x", 101) + `","preset":"admin-full"}`), 400, argus.CodeInvalidParameter, "name"},
		{post(`{"name":"x"}`), 400, argus.CodeInvalidParameter, "either"},
		{post(`{"name":"x","preset":"admin-full","scopes":["logs:read"]}`), 400, argus.CodeInvalidParameter, "either"},
		{post(`{"name":"x","preset":"root"}`), 400, argus.CodeInvalidParameter, "preset"},
		{post(`{"name":"x","scopes":[]}`), 400, argus.CodeInvalidParameter, "at least one"},
		{post(`{"name":"x","scopes":["logs:write"]}`), 400, argus.CodeInvalidParameter, "logs:write"},
		{post(`{"name":"x","preset":"admin-full","expires_in":"366d"}`), 400, argus.CodeInvalidParameter, "365d"},
		{post(`{"name":"x","preset":"admin-full","expires_in":"soon"}`), 400, argus.CodeInvalidParameter, "soon"},
		{[3]string{"DELETE", "/v1/tokens/01976d3e-7c2a-7b1e-9f00-0123456789ab"}, 404, argus.CodeNotFound, "no token"},
		{[3]string{"DELETE", "/v1/tokens/x"}, 404, argus.CodeNotFound, "no token"},
	} {
		var body any
		if c.request[0] == "POST" {
			body = c.request[2]
		}
		resp := h.do(token, c.request[0], c.request[1], body)
		if resp.status != c.status || resp.code() != c.code || !strings.Contains(strings.ToLower(string(resp.body)), strings.ToLower(c.says)) {
			t.Errorf("%s: %d %s, want %d %s about %q", c.request, resp.status, resp.body, c.status, c.code, c.says)
		}
		if row := h.row(); int(row.Status) != c.status || !strings.Contains(string(resp.body), row.ID.String()) {
			t.Errorf("%s: row %+v", c.request, row)
		}
	}
	// Headers no client library sends.
	for value, want := range map[string]int{"argusctl/\xff\xfe": 200, "caf\xc3\xa9": 200, strings.Repeat("a", 20_000): 200} {
		_, r := h.raw("GET /v1/operators/me HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer " + token + "\r\nUser-Agent: " + value + "\r\nX-Request-Id: " + value + "\r\n\r\n")
		resp, err := http.ReadResponse(r, nil)
		h.must(err)
		resp.Body.Close()
		if row := h.row(); resp.StatusCode != want || len(row.UserAgent) > argus.MaxUserAgent || len(row.ClientRequestID) > argus.MaxRequestID ||
			row.UserAgent != argus.Text(value, argus.MaxUserAgent) {
			t.Errorf("%.20q: %d %+v", value, resp.StatusCode, row)
		}
	}
	for _, value := range []string{"a\x00b", "a\x01b", strings.Repeat("a", 100_000)} { // rejected before anybody is authenticated
		_, r := h.raw("GET /v1/operators/me HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer " + token + "\r\nUser-Agent: " + value + "\r\n\r\n")
		resp, err := http.ReadResponse(r, nil)
		if err != nil || (resp.StatusCode != 400 && resp.StatusCode != 431) {
			t.Errorf("%.20q: %v %v", value, resp, err)
		}
		h.noRow()
	}
}

// TestPerfDefaults: an hour when nothing is said; until moves it.
func TestPerfDefaults(t *testing.T) {
	h := newHarness(t)
	var asked argus.PerfRequest
	h.auditLog.perf = func(_ context.Context, r argus.PerfRequest) (argus.PerfResult, error) {
		asked = r
		return argus.PerfResult{GroupBy: r.GroupBy}, nil
	}
	token := h.token("user_2ada")
	resp := h.do(token, http.MethodGet, "/v1/perf", nil)
	if d := time.Since(asked.Filter.Since); d < time.Hour || d > time.Hour+time.Minute || asked.GroupBy != argus.GroupByRoute || asked.Compare {
		t.Errorf("asked %+v", asked)
	}
	if !strings.Contains(string(resp.body), `"rows":[]`) {
		t.Errorf("%s", resp.body)
	}
	h.do(token, http.MethodGet, "/v1/perf?until=2026-03-01T12:00:00Z&group_by=client&compare=true&user_agent=argusctl", nil)
	if !asked.Filter.Since.Equal(time.Date(2026, 3, 1, 11, 0, 0, 0, time.UTC)) || asked.GroupBy != argus.GroupByClient || !asked.Compare || len(asked.Filter.Conditions) != 1 {
		t.Errorf("asked %+v", asked)
	}
}

// TestPerfUntilInTheFuture: the hour that is shown ends now, not when nothing was called yet.
func TestPerfUntilInTheFuture(t *testing.T) {
	h := newHarness(t)
	var asked argus.PerfRequest
	h.auditLog.perf = func(_ context.Context, r argus.PerfRequest) (argus.PerfResult, error) {
		asked = r
		return argus.PerfResult{GroupBy: r.GroupBy}, nil
	}
	before := time.Now()
	h.do(h.token("user_2ada"), http.MethodGet, "/v1/perf?until="+before.Add(2*time.Hour).UTC().Format(argus.TimeFormat), nil)
	if asked.Filter.Since.After(time.Now().Add(-time.Hour)) || asked.Filter.Since.Before(argus.Micros(before.Add(-time.Hour))) {
		t.Errorf("since %s", asked.Filter.Since)
	}
}

func TestFacetsAnswer(t *testing.T) {
	h := newHarness(t)
	made, _, err := credential.IssueToken(t.Context(), h.pool, credential.NewToken{ActorID: "user_2ada", Name: "nightly", Scopes: argus.AllScopes()})
	h.must(err)
	var asked argus.FacetsRequest
	h.auditLog.facets = func(_ context.Context, r argus.FacetsRequest) (argus.FacetsResult, error) {
		asked = r
		return argus.FacetsResult{Total: 3, Step: 5 * time.Minute, Source: argus.SourceClickHouse, Fields: map[argus.FilterName][]argus.FacetValue{
			argus.FilterActor: {{Value: "user_2ada", Count: 2}, {Value: "user_2gone", Count: 1}},
			argus.FilterPAT:   {{Value: made.ID.String(), Count: 2}},
			argus.FilterRoute: {{Value: "GET /v1/tenants", Count: 3}}}}, nil
	}
	resp := h.do(h.token("user_2ada"), http.MethodGet, "/v1/audit-log/facets?fields=actor,pat&fields=route&step=5m&limit=5", nil)
	if !slices.Equal(asked.Fields, []argus.FilterName{argus.FilterActor, argus.FilterPAT, argus.FilterRoute}) || asked.Step != 5*time.Minute || asked.Limit != 5 {
		t.Errorf("asked %+v", asked)
	}
	var got struct {
		Fields map[string][]struct {
			Value string
			Name  *string
			Count int
		}
		StepSeconds float64 `json:"step_seconds"`
	}
	h.must(json.Unmarshal(resp.body, &got))
	actor := got.Fields["actor"]
	if got.StepSeconds != 300 || len(actor) != 2 || *actor[0].Name != "Ada Okafor" || actor[1].Name != nil ||
		*got.Fields["pat"][0].Name != "nightly" || got.Fields["route"][0].Name != nil {
		t.Errorf("%s", resp.body)
	}
}
