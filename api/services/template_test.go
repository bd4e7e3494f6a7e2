package services

import (
	"fmt"
	"net/url"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

// treeOf makes a service of routes.
func treeOf(t testing.TB, routes ...string) *Service {
	t.Helper()
	s := &Service{Name: "x", Mount: "/svc/x", tree: newNode()}
	for _, text := range routes {
		r := &Route{Route: text}
		if err := parseRoute(r); err != nil {
			t.Fatalf("%s: %v", text, err)
		}
		if taken := s.tree.add(r); taken != nil {
			t.Fatalf("%s overlaps %s", text, taken.Route)
		}
	}
	return s
}

// TestPaths: what a path leads to, and that nothing but a declared route is reached, however the path is written.
func TestPaths(t *testing.T) {
	s := treeOf(t, "GET /", "GET /v1/items", "GET /v1/items/", "GET /v1/items/:id", "GET /v1/items/search", "POST /v1/items/search", "DELETE /v1/items/:id",
		"GET /v1/items/:id/parts/:part", "POST /v1/:name:cancel", "GET /v1/compare/:base...:head", "GET /v1/files/:name.json", "GET /v1/files/:name")
	for _, c := range []struct{ method, path, route, sent, params string }{
		{"GET", "/", "GET /", "/", ""},
		{"GET", "/v1/items", "GET /v1/items", "/v1/items", ""},
		{"HEAD", "/v1/items", "GET /v1/items", "/v1/items", ""},
		{"GET", "/v1/items/", "GET /v1/items/", "/v1/items/", ""},
		{"GET", "/v1/items/7", "GET /v1/items/:id", "/v1/items/7", "id=7"},
		{"GET", "/v1/items/search", "GET /v1/items/search", "/v1/items/search", ""},
		{"DELETE", "/v1/items/search", "DELETE /v1/items/:id", "/v1/items/search", "id=search"},
		{"GET", "/v1/items/a%20b", "GET /v1/items/:id", "/v1/items/a%20b", "id=a b"},
		{"GET", "/v1/items/%41", "GET /v1/items/:id", "/v1/items/A", "id=A"}, // sent as it was matched
		{"GET", "/v1/items/a:b", "GET /v1/items/:id", "/v1/items/a%3Ab", "id=a:b"},
		{"GET", "/v1/items/%C3%A4", "GET /v1/items/:id", "/v1/items/%C3%A4", "id=ä"},
		{"GET", "/v1/items/...", "GET /v1/items/:id", "/v1/items/...", "id=..."},
		{"GET", "/v1/items/7/parts/8", "GET /v1/items/:id/parts/:part", "/v1/items/7/parts/8", "id=7 part=8"},
		{"POST", "/v1/job:cancel", "POST /v1/:name:cancel", "/v1/job:cancel", "name=job"},
		{"GET", "/v1/compare/a.b...c", "GET /v1/compare/:base...:head", "/v1/compare/a.b...c", "base=a.b head=c"},
		{"GET", "/v1/files/x.json", "GET /v1/files/:name.json", "/v1/files/x.json", "name=x"},
		{"GET", "/v1/files/x.txt", "GET /v1/files/:name", "/v1/files/x.txt", "name=x.txt"},
	} {
		m := s.find(c.method, c.path)
		if m.Route == nil {
			t.Errorf("%s %s reaches nothing", c.method, c.path)
			continue
		}
		var params []string
		for _, p := range m.Params {
			params = append(params, p.Name+"="+p.Value)
		}
		if m.Route.Route != c.route || m.path != c.sent || strings.Join(params, " ") != c.params {
			t.Errorf("%s %s reaches %s by %s with %v", c.method, c.path, m.Route.Route, m.path, params)
		}
	}
	for _, path := range []string{"", "/v1", "/v1/", "/V1/items", "/v1/ITEMS", "/v1/%69tems", "//v1/items", "/v1//items", "/./v1/items", "/v1/./items",
		"/v1/x/../items", "/v1/items/..", "/v1/items/.", "/v1/items/%2e%2e", "/v1/items/%2E.", "/v1/items/.%2e", "/v1/items/..%2f..%2fadmin", "/v1/items/a%2fb",
		"/v1/items/a%5cb", "/v1/items/a\\b", "/v1/items/..;/admin", "/v1/items/7;x=1", "/v1/items/7%3bx", "/v1/items/%00", "/v1/items/a%0d%0aX:%20y", "/v1/items/%c0%ae%c0%ae",
		"/v1/items/%252e%252e", "/v1/items/%25%32%66", "/v1/items/7%3fa=1", "/v1/items/7%23a", "/v1/items/%zz", "/v1/items/%", "/v1/items/SEARCH", "/v1/items/%73earch",
		"/v1/items/7/", "/v1/items/7/parts/", "/v1/items/7/parts", "/v1/items//parts/8", "/v1/items/7/parts/8/9", "/v1/files/.json/x", "/v1/:cancel", "/v1/compare/...c",
		"/v1/items/" + strings.Repeat("a", maxPath), strings.Repeat("/a", 2000)} {
		if m := s.find("GET", path); m.Route != nil {
			t.Errorf("%q reaches %s by %s", path, m.Route.Route, m.path)
		}
	}
	if m := s.find("PUT", "/v1/items/search"); m.Route != nil || fmt.Sprint(m.Allowed) != "[DELETE GET POST]" {
		t.Errorf("allowed %v", m.Allowed)
	}
}

// TestPathsAreSentAsMatched: any path is sent on in a form that matches the same route with the same parameters again.
// Cleaning and unescaping that form gives one reading only.
func TestPathsAreSentAsMatched(t *testing.T) {
	s := treeOf(t, "GET /v1/items", "GET /v1/items/:id", "GET /v1/items/search", "GET /v1/items/:id/parts/:part", "GET /admin/:x", "GET /:a.:b/c")
	piece := rapid.SampledFrom([]string{"/", "v1", "items", "search", "parts", "admin", ".", "..", "%2e", "%2f", "%5c", ";", "%3b", "a", "B", ":", "%41", "%c3%a4", "%", "?", "#", " ", "\x00", "ä", "=", "%25", "//"})
	rapid.Check(t, func(t *rapid.T) {
		path := "/" + strings.Join(rapid.SliceOfN(piece, 0, 12).Draw(t, "path"), "")
		m := s.find("GET", path)
		if m.Route == nil {
			return
		}
		again := s.find("GET", m.path)
		if again.Route != m.Route || fmt.Sprint(again.Params) != fmt.Sprint(m.Params) || again.path != m.path {
			t.Fatalf("%q is sent as %q, which is %+v", path, m.path, again)
		}
		u, err := url.Parse("http://h" + m.path)
		if err != nil || u.EscapedPath() != m.path || u.RawQuery != "" || u.Fragment != "" || u.JoinPath().Path != u.Path {
			t.Fatalf("%q is sent as %q, which a server may read as %+v", path, m.path, u)
		}
		decoded := strings.Split(u.Path, "/")
		if len(decoded) != strings.Count(m.Route.Template, "/")+1 {
			t.Fatalf("%q is sent as %q, which unescapes to other parts", path, m.path)
		}
	})
}

func FuzzFind(f *testing.F) {
	s := treeOf(f, "GET /v1/items/:id", "GET /v1/:base...:head")
	f.Add("/v1/items/7")
	f.Fuzz(func(t *testing.T, path string) {
		if m := s.find("GET", path); m.Route != nil && s.find("GET", m.path).Route != m.Route {
			t.Errorf("%q is sent as %q", path, m.path)
		}
	})
}
