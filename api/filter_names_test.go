package api

import (
	"context"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"

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
	h.auditLog.facets = func(_ context.Context, r argus.FacetsRequest) (argus.FacetsResult, error) {
		return argus.FacetsResult{Fields: map[argus.FilterName][]argus.FacetValue{
			argus.FilterActor: {{Value: "user_2grace", Count: 1}, {Value: "user_2ada", Count: 1}}, argus.FilterRoute: {{Value: "GET /gone", Count: 1}}}}, nil
	}
	token := h.token("user_2ada")
	for _, c := range []struct{ key, value, becomes, says string }{
		{"actor", "Grace Lindqvist", "user_2grace", ""},
		{"not_actor", "grace lindqvist", "user_2grace", ""},
		{"impersonator", "me", "user_2ada", ""},
		{"actor", "user_2nobody", "user_2nobody", ""}, // an id without calls
		{"actor", "okta:nobody", "okta:nobody", ""},
		{"actor", "gra", "", "No actor 'gra'. Did you mean Grace Lindqvist, user_2grace?"},
		{"not_actor", "nobody@example.com", "", "No actor 'nobody@example.com'."},
		{"tenant", "UTD_7ELEVEN_001", "UTD_7ELEVEN_001", ""},
		{"tenant", "corner shop", "UTD_7ELEVEN_001", ""},
		{"tenant", "OF_OLD", "OF_OLD", ""}, // the log has it
		{"tenant", "7ELEVEN", "", "No tenant '7ELEVEN'. Did you mean Corner shop, UTD_7ELEVEN_001?"},
		{"tenant", "Twin", "", "Several tenants are called 'Twin'. Give the id: Twin, TWIN_1; Twin, TWIN_2."},
		{"route", "GET /gone", "GET /gone", ""},
		{"route", "GET /v1/tenants*", "GET /v1/tenants*", ""},
		{"route", "arm", "", "POST /v1/tenants/:id/arm"},
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
	// One of a list is enough, and two words for one are one value.
	asked = nil
	h.do(token, http.MethodGet, "/v1/audit-log?tenant=Corner+shop&tenant=UTD_7ELEVEN_001", nil)
	if f := asked[len(asked)-1]; !slices.Equal(f.Query()["tenant"], []string{"UTD_7ELEVEN_001"}) {
		t.Errorf("%v", f)
	}
}
