package api

import (
	"context"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/useargus/argus"
)

// TestFilterNames: names mean ids, whichever question is asked; exact ids stay; what means nothing says so.
func TestFilterNames(t *testing.T) {
	h := newHarness(t)
	_, err := h.pg.Pool(t, h.pg.OwnerURL).Exec(t.Context(), `INSERT INTO argus.tenants (id, name) VALUES ('UTD_7ELEVEN_001', 'Corner shop'), ('TWIN_1', 'Twin'), ('TWIN_2', 'Twin')`)
	h.must(err)
	var asked []argus.Filter
	h.auditLog.search = func(_ context.Context, r argus.SearchRequest) (argus.SearchPage, error) {
		asked = append(asked, r.Filter)
		var page argus.SearchPage
		if c := r.Filter.Conditions; len(c) == 1 && c[0].Values[0].Text == "OF_OLD" {
			page.Rows = []argus.Record{*exampleRecord(1)}
		}
		return page, nil
	}
	var counted []argus.Filter
	h.auditLog.facets = func(_ context.Context, r argus.FacetsRequest) (argus.FacetsResult, error) {
		if c := r.Filter.Conditions; len(c) == 1 && len(r.Fields) == 1 { // is the value in the log?
			counted = append(counted, r.Filter)
			return argus.FacetsResult{Total: map[string]int64{"v1.4.0": 3, "argusctl": 1, "claude/4": 1, "not_found": 9, "retired": 2}[c[0].Values[0].Text]}, nil
		}
		return argus.FacetsResult{Fields: map[argus.FilterName][]argus.FacetValue{
			argus.FilterActor: {{Value: "user_2grace", Count: 1}, {Value: "user_2ada", Count: 1}}, argus.FilterRoute: {{Value: "GET /gone", Count: 1}},
			argus.FilterRelease: {{Value: "v1.4.0", Count: 3}}, argus.FilterClient: {{Value: "argusctl", Count: 1}}, argus.FilterErrorCode: {{Value: "not_found", Count: 9}}}}, nil
	}
	token := h.token("user_2ada")
	for _, c := range []struct{ key, value, becomes, says string }{
		{"actor", "Grace Lindqvist", "user_2grace", ""},
		{"not_actor", "grace lindqvist", "user_2grace", ""},
		{"impersonator", "me", "user_2ada", ""},
		{"actor", "user_2nobody", "user_2nobody", ""}, // an id without calls
		{"actor", "okta:absent", "okta:absent", ""},
		{"actor", "gra", "", "No actor 'gra'. Did you mean Grace Lindqvist, user_2grace?"},
		{"not_actor", "absent@example.com", "", "No actor 'absent@example.com'."},
		{"tenant", "UTD_7ELEVEN_001", "UTD_7ELEVEN_001", ""},
		{"tenant", "corner shop", "UTD_7ELEVEN_001", ""},
		{"tenant", "OF_OLD", "OF_OLD", ""}, // the log has it
		{"tenant", "7ELEVEN", "", "No tenant '7ELEVEN'. Did you mean Corner shop, UTD_7ELEVEN_001?"},
		{"tenant", "Twin", "", "Several tenants are called 'Twin'. Give the id: Twin, TWIN_1; Twin, TWIN_2."},
		{"route", "GET /gone", "GET /gone", ""},
		{"route", "GET /v1/tenants*", "GET /v1/tenants*", ""},
		{"route", "arm", "", "POST /v1/tenants/:id/arm"},
		{"service", "argus", "argus", ""},
		{"service", "retired", "retired", ""}, // the log has it
		{"service", "argsu", "", "No service 'argsu'. Did you mean argus?"},
		{"release", "v1.4.0", "v1.4.0", ""},
		{"not_agent", "console-background", "console-background", ""}, // the console's list asks so from the first call on
		{"not_release", "v1.4.1", "", "No release 'v1.4.1'. Did you mean v1.4.0?"},
		{"client", "argusctl", "argusctl", ""},
		{"client", "argusclt", "", "Did you mean argusctl?"},
		{"agent", "claude/4", "claude/4", ""},
		{"agent", "claud", "", "No agent 'claud'."},
		{"error_code", "not_fuond", "", "No error code 'not_fuond'. Did you mean not_found?"},
		{"scope", "tenants:read", "tenants:read", ""},
		{"scope", "none", "none", ""},
		{"scope", "tenants:reed", "", "No scope 'tenants:reed'. Did you mean tenants:read?"},
		{"pat", "01a20533-046b-75ae-a815-7563773d4d12", "", "No personal access token '01a20533-046b-75ae-a815-7563773d4d12'."},
		{"break_glass", "01a20533-046b-75ae-a815-7563773d4d12", "", "No break-glass token"},
		{"param.id", "OF_OLD", "OF_OLD", ""},
		{"param.id", "w-none", "", "No call with the parameter id 'w-none'."},
		{"not_param.idd", "w-1", "", "No parameter 'idd'. Did you mean id?"},
		{"param.gone", "OF_OLD", "OF_OLD", ""}, // of a route that is gone, and the log has it
		{"user_agent", "unheard of", "unheard of", ""},
		{"reason", "unheard of", "unheard of", ""},
		{"request_id", "unheard-of", "unheard-of", ""},
		{"client_ip", "203.0.113.9/32", "203.0.113.9/32", ""},
		{"not_route", "/v1/tenants/UTD_7ELEVEN_001", "", "GET /v1/tenants/:id"},
	} {
		asked = nil
		resp := h.do(token, http.MethodGet, "/v1/audit-log?"+url.Values{c.key: {c.value}}.Encode(), nil)
		if c.says == "" {
			if resp.status != 200 || len(asked) == 0 || asked[len(asked)-1].Query().Get(c.key) != c.becomes {
				t.Errorf("%s=%s: %d, %v, %s", c.key, c.value, resp.status, asked, resp.body)
			}
			continue
		}
		var p struct {
			Error struct {
				Code, Message, Parameter string
				Suggestions              []argus.Suggestion
			}
		}
		resp.json(t, &p)
		if resp.status != 422 || p.Error.Code != string(argus.CodeUnknownFilterValue) || p.Error.Parameter != c.key || !strings.Contains(p.Error.Message, c.says) || p.Error.Suggestions == nil {
			t.Errorf("%s=%s: %d %s", c.key, c.value, resp.status, resp.body)
		}
	}
	for _, path := range []string{"/facets", "/stream", "/export"} {
		if resp := h.do(token, http.MethodGet, "/v1/audit-log"+path+"?tenant=Twin", nil); resp.status != 422 {
			t.Errorf("%s: %d", path, resp.status)
		}
	}
	// Who may not see tenants hears nothing of them: what is no call's tenant is one answer, whether the tenant is there or not.
	reader := h.token("user_2ada", argus.ScopeLogsRead)
	for _, value := range []string{"Corner shop", "UTD_7ELEVEN_001", "UTD_7ELEVEN_0", "TWIN_1", "Twin"} {
		resp := h.do(reader, http.MethodGet, "/v1/audit-log?"+url.Values{"tenant": {value}}.Encode(), nil)
		if resp.status != 422 || !strings.Contains(string(resp.body), "No call on a tenant '"+value+"'.") || !strings.Contains(string(resp.body), `"suggestions":[]`) {
			t.Errorf("tenant=%s without tenants:read: %d %s", value, resp.status, resp.body)
		}
	}
	if resp := h.do(reader, http.MethodGet, "/v1/audit-log?tenant=OF_OLD", nil); resp.status != 200 {
		t.Errorf("a tenant of the log: %d %s", resp.status, resp.body)
	}
	// A value that the log was seen to hold is not looked for again. What cannot be found out in
	// time is asked for as it stands.
	counted = nil
	h.do(token, http.MethodGet, "/v1/audit-log?release=v1.4.0&client=argusctl", nil)
	if len(counted) > 0 {
		t.Errorf("looked for again: %v", counted)
	}
	// The search before a stream waits as the stream does, and says what no call had. What no call can ever have stays an error.
	for _, c := range []struct{ key, value, says string }{
		{"client", "argusclt", "No client 'argusclt'. Did you mean argusctl?"},
		{"not_release", "v9", "No release 'v9'."},
		{"service", "tomorrow", "No service 'tomorrow'."},
		{"agent", "claud", "No agent 'claud'."},
		{"error_code", "brand_new", "No error code 'brand_new'."},
		{"scope", "tenants:reed", "No scope 'tenants:reed'. Did you mean tenants:read?"},
		{"pat", "01a20533-046b-75ae-a815-7563773d4d12", "No personal access token '01a20533-046b-75ae-a815-7563773d4d12'."},
		{"param.idd", "w-1", "No parameter 'idd'. Did you mean id?"},
		{"route", "GET /v2/new", "No route 'GET /v2/new'."},
		{"tenant", "UTD_NEXT_9", "No tenant 'UTD_NEXT_9'."},
		{"tenant", "Corner shop", ""},
		{"release", "v1.4.0", ""},
		{"actor", "gra", "422"},
		{"impersonator", "gra", "422"},
		{"tenant", "Twin", "422"},
	} {
		query := url.Values{c.key: {c.value}, "follow": {"true"}}.Encode()
		resp := h.do(token, http.MethodGet, "/v1/audit-log?"+query, nil)
		facets := h.do(token, http.MethodGet, "/v1/audit-log/facets?"+query, nil)
		stream := h.open(t.Context(), token, "/v1/audit-log/stream?"+url.Values{c.key: {c.value}}.Encode())
		stream.Body.Close()
		if facets.status != resp.status || stream.StatusCode != resp.status || (resp.status == 422) != (c.says == "422") {
			t.Errorf("%s=%s, followed: search %d, facets %d, stream %d: %s", c.key, c.value, resp.status, facets.status, stream.StatusCode, resp.body)
			continue
		}
		if resp.status != 200 {
			continue
		}
		var page struct{ Awaited []string }
		resp.json(t, &page)
		if page.Awaited == nil || strings.Join(page.Awaited, " ") != c.says {
			t.Errorf("%s=%s: awaited %q", c.key, c.value, page.Awaited)
		}
	}
	for _, value := range []string{"UTD_7ELEVEN_001", "UTD_NEXT_9"} { // without tenants:read these are one answer
		resp := h.do(reader, http.MethodGet, "/v1/audit-log?follow=true&tenant="+value, nil)
		if resp.status != 200 || !strings.Contains(string(resp.body), `"awaited":["No call on a tenant '`+value+`'. Give the id`) {
			t.Errorf("tenant=%s, followed without tenants:read: %d %s", value, resp.status, resp.body)
		}
	}
	h.api.config.heldTime = time.Second
	h.auditLog.set(func(f *fakeLog) {
		f.facets = func(ctx context.Context, _ argus.FacetsRequest) (argus.FacetsResult, error) {
			<-ctx.Done()
			return argus.FacetsResult{}, argus.Errorf(argus.CodeQueryTooLarge, "too large")
		}
	})
	if resp := h.do(token, http.MethodGet, "/v1/audit-log?release=v2", nil); resp.status != 200 {
		t.Errorf("a release that cannot be looked up: %d %s", resp.status, resp.body)
	}
	// One of a list is enough, and two words for one are one value.
	asked = nil
	h.do(token, http.MethodGet, "/v1/audit-log?tenant=Corner+shop&tenant=UTD_7ELEVEN_001", nil)
	if f := asked[len(asked)-1]; !slices.Equal(f.Query()["tenant"], []string{"UTD_7ELEVEN_001"}) {
		t.Errorf("%v", f)
	}
}
