//go:build linux

package api

import (
	"context"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"

	"github.com/useargus/argus"
)

// TestViews: a view is saved, listed, renamed, given another filter and removed, each by a call that its row names. What a
// search would not take is not saved, names are one for all, and a read-only credential changes nothing.
func TestViews(t *testing.T) {
	h := newHarness(t)
	h.auditLog.search = func(context.Context, argus.SearchRequest) (argus.SearchPage, error) { return argus.SearchPage{}, nil }
	h.auditLog.facets = func(context.Context, argus.FacetsRequest) (argus.FacetsResult, error) {
		return argus.FacetsResult{}, nil
	}
	token, reader := h.token("user_2ada"), h.token("user_2grace", argus.ScopeLogsRead)
	ask := func(token, method, path string, body any) (v savedView, r *response) {
		t.Helper()
		r = h.do(token, method, path, body)
		if r.status < 300 {
			r.json(t, &v)
		}
		return v, r
	}
	list := func() (all []savedView) {
		t.Helper()
		r := h.do(reader, http.MethodGet, "/v1/views", nil)
		var body struct{ Views []savedView }
		r.json(t, &body)
		return body.Views
	}
	type view struct {
		Name   string `json:"name,omitempty"`
		Filter string `json:"filter,omitempty"`
	}
	if got := list(); got == nil || len(got) != 0 {
		t.Errorf("none at first: %v", got)
	}
	// A view keeps what it was given: "me" and "24h" mean who uses it, and when.
	saved, r := ask(token, http.MethodPost, "/v1/views", view{" Refused\nto me ", "status=403&since=24h&actor=me&not_method=GET"})
	if r.status != 201 || saved.Name != "Refused to me" || saved.Filter != "actor=me&not_method=GET&since=24h&status=403" || saved.SavedBy != "user_2ada" ||
		saved.AuditID.String() != r.header.Get(argus.AuditIDHeader) || saved.Problem != nil {
		t.Fatalf("%d %s", r.status, r.body)
	}
	path := "/v1/views/" + saved.ID.String()
	for what, c := range map[string]struct {
		method, path string
		body         any
		status       int
		code         argus.Code
	}{
		"no name":             {http.MethodPost, "/v1/views", view{"", "status=403"}, 400, argus.CodeInvalidParameter},
		"no filter":           {http.MethodPost, "/v1/views", view{"a", ""}, 400, argus.CodeInvalidParameter},
		"an empty filter":     {http.MethodPost, "/v1/views", `{"name":"a","filter":""}`, 400, argus.CodeInvalidParameter},
		"a long name":         {http.MethodPost, "/v1/views", view{strings.Repeat("x", maxViewName+1), "status=403"}, 400, argus.CodeInvalidParameter},
		"a hidden character":  {http.MethodPost, "/v1/views", view{"a\u202eb", "status=403"}, 400, argus.CodeInvalidParameter},
		"a long filter":       {http.MethodPost, "/v1/views", view{"a", "reason=" + strings.Repeat("ü", 900)}, 400, argus.CodeInvalidParameter},
		"no query":            {http.MethodPost, "/v1/views", view{"a", "status=%zz"}, 400, argus.CodeInvalidParameter},
		"an unknown name":     {http.MethodPost, "/v1/views", view{"a", "colour=red"}, 400, argus.CodeInvalidParameter},
		"a page's own name":   {http.MethodPost, "/v1/views", view{"a", "status=403&cursor=x"}, 400, argus.CodeInvalidParameter},
		"a bad value":         {http.MethodPost, "/v1/views", view{"a", "status=red"}, 400, argus.CodeInvalidParameter},
		"a value of no call":  {http.MethodPost, "/v1/views", view{"a", "tenant=NOBODY"}, 422, argus.CodeUnknownFilterValue},
		"the name in capital": {http.MethodPost, "/v1/views", view{"REFUSED TO ME", "status=403"}, 409, argus.CodeConflict},
		"nothing to change":   {http.MethodPatch, path, "{}", 400, argus.CodeInvalidParameter},
		"a bad change":        {http.MethodPatch, path, view{"", "status=red"}, 400, argus.CodeInvalidParameter},
		"no such view":        {http.MethodPatch, "/v1/views/01976d3e-7c2a-7b1e-9f00-0123456789ab", view{"b", ""}, 404, argus.CodeNotFound},
		"no id":               {http.MethodDelete, "/v1/views/refused", nil, 404, argus.CodeNotFound},
	} {
		if _, r := ask(token, c.method, c.path, c.body); r.status != c.status || r.code() != c.code {
			t.Errorf("%s: %d %s", what, r.status, r.body)
		}
	}
	for method, at := range map[string]string{http.MethodPost: "/v1/views", http.MethodPatch: path, http.MethodDelete: path} {
		if _, r := ask(reader, method, at, view{"b", "status=403"}); r.status != 403 {
			t.Errorf("%s by a reader: %d %s", method, r.status, r.body)
		}
	}
	if got := list(); len(got) != 1 || got[0] != saved {
		t.Errorf("after all of that: %+v", got)
	}

	other := h.token("user_2ada", argus.ScopeViewsWrite) // grace may only read
	changed, r := ask(other, http.MethodPatch, path, view{Name: "Refused"})
	if r.status != 200 || changed.ID != saved.ID || changed.Name != "Refused" || changed.Filter != saved.Filter || changed.SavedBy != "user_2ada" ||
		changed.AuditID.String() != r.header.Get(argus.AuditIDHeader) {
		t.Errorf("renamed: %s", r.body)
	}
	if next, r := ask(other, http.MethodPatch, path, view{Filter: "release=v9.9.9&status=5xx"}); r.status != 200 || next.Filter != "release=v9.9.9&status=5xx" {
		t.Errorf("a release that is still to come: %s", r.body)
	}
	if changed, r = ask(other, http.MethodPatch, path, view{Filter: "status=4xx"}); r.status != 200 || changed.Name != "Refused" || changed.Filter != "status=4xx" {
		t.Errorf("another filter: %s", r.body)
	}
	// What a later release does not take any more is told, and the others stay of use.
	_, err := h.pg.Pool(t, h.pg.OwnerURL).Exec(t.Context(), `INSERT INTO argus.saved_views (id, name, filter, saved_by, audit_id) VALUES (gen_random_uuid(), 'Of old', 'colour=red', 'x', gen_random_uuid())`)
	h.must(err)
	if got := list(); len(got) != 2 || got[0].Problem == nil || !strings.Contains(*got[0].Problem, "colour") || got[1] != changed {
		t.Errorf("one of old: %+v", got)
	}
	if gone, r := ask(token, http.MethodDelete, path, nil); r.status != 200 || gone.Name != "Refused" || len(list()) != 1 {
		t.Errorf("removed: %s", r.body)
	}

	// The bound holds for many at once, and so does the name.
	_, err = h.pg.Pool(t, h.pg.OwnerURL).Exec(t.Context(), `INSERT INTO argus.saved_views (id, name, filter, saved_by, audit_id)
		SELECT gen_random_uuid(), 'v' || n, 'status=403', 'x', gen_random_uuid() FROM generate_series(1, $1) n`, maxViews-3)
	h.must(err)
	var all sync.WaitGroup
	var mu sync.Mutex
	got := map[int]int{}
	for n := range 8 {
		all.Go(func() {
			r := h.do(token, http.MethodPost, "/v1/views", view{fmt.Sprintf("at once %d", n/2), "status=403"})
			mu.Lock()
			defer mu.Unlock()
			got[r.status]++
		})
	}
	all.Wait()
	if len(list()) != maxViews || got[201] != 2 || got[201]+got[409]+got[422] != 8 {
		t.Errorf("%d views, answers %v", len(list()), got)
	}
}
