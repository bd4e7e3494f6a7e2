package attack

import (
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/go-json-experiment/json"
)

// doorService is a service of the attack's own behind the door: it remembers what it hears, and answers what no service
// should.
type doorService struct {
	mu    sync.Mutex
	heard []*http.Request
}

func (s *doorService) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	s.heard = append(s.heard, r)
	s.mu.Unlock()
	h := w.Header()
	for name, value := range map[string]string{"Set-Cookie": "a=b", "Access-Control-Allow-Origin": "*", "Argus-Audit-Id": "forged", "Content-Security-Policy": "default-src *",
		"Clear-Site-Data": `"*"`, "Service-Worker-Allowed": "/", "Strict-Transport-Security": "max-age=1", "Refresh": "0; url=/", "Www-Authenticate": "Basic", "Content-Type": "text/html"} {
		h.Set(name, value)
	}
	w.WriteHeader(http.StatusOK)
	_, _ = w.Write([]byte(`<script>fetch("/v1/tokens")</script>`))
}

// taken is what was heard since.
func (s *doorService) taken() []*http.Request {
	s.mu.Lock()
	defer s.mu.Unlock()
	heard := s.heard
	s.heard = nil
	return heard
}

const doorServices = `
  - name: attacked
    upstream: http://%s
    scopes: {"attacked:call": Call it}
    presets: {admin-full: ["attacked:call"]}
    routes:
      - {route: "GET /v1/things/:id", scope: "attacked:call"}
      - {route: "POST /v1/things/:id", scope: "attacked:call"}
      - {route: "DELETE /v1/things/:id", scope: "attacked:call", reason: required, confirm: id}
`

// door sends calls to services that were not declared, not authorized or not as they look; then it goes around the door
// with assertions that are forged, altered and replayed.
func (g *group) door() {
	path := filepath.Join(g.config.Dir, "services.yaml")
	text, err := os.ReadFile(path)
	g.need(err)
	upstream := regexp.MustCompile(`(?m)^    upstream: (http://\S+)$`).FindStringSubmatch(string(text))
	if upstream == nil {
		g.need(errors.New("services.yaml is not argusd dev's"))
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	g.need(err)
	service := &doorService{}
	server := &http.Server{Handler: service, ReadHeaderTimeout: 5 * time.Second}
	go func() { _ = server.Serve(listener) }()
	defer server.Close()
	g.need(os.WriteFile(path, fmt.Appendf(slices.Clone(text), doorServices, listener.Addr()), 0o600))
	defer func() {
		g.need(os.WriteFile(path, text, 0o600))
		// A group that follows must not see this service's scope in a preset: wait until the API has taken the old file up.
		g.need(g.eventually(20*time.Second, func() error {
			a, err := g.do(g.ctx, request{method: http.MethodGet, path: "/v1/services", token: g.session("user_2ada")})
			if err != nil {
				return err
			}
			if strings.Contains(string(a.body), `"attacked"`) {
				return errors.New("the service is still declared")
			}
			return a.expect(200, "")
		}))
	}()

	defer g.endTokens(g.env["ARGUS_TOKEN"])
	var token string
	g.need(g.eventually(20*time.Second, func() error {
		a, err := g.do(g.ctx, request{method: http.MethodPost, path: "/v1/tokens", token: g.session("user_2ada"),
			body: fmt.Sprintf(`{"name":%q,"scopes":["attacked:call","sample:read","sample:write"],"expires_in":"1h"}`, g.run)})
		if err != nil {
			return err
		}
		var made struct {
			Secret string `json:"secret"`
		}
		if err := a.expect(201, ""); err != nil {
			return err
		}
		err = json.Unmarshal(a.body, &made)
		token = made.Secret
		return err
	}))
	l := g.ledger()
	defer l.close()
	g.control("a declared route is served", func() error {
		a, err := g.do(g.ctx, request{method: http.MethodGet, path: "/svc/attacked/v1/things/7", token: token})
		if err != nil {
			return err
		}
		if n := len(service.taken()); n != 1 {
			return fmt.Errorf("the service heard %d calls", n)
		}
		return a.expect(200, "")
	})
	unheard := func(a *answer) error {
		if heard := service.taken(); len(heard) > 0 {
			return fmt.Errorf("answered %d, and the service heard %s %s", a.status, heard[0].Method, heard[0].RequestURI)
		}
		return a.expectOneOf(400, 401, 403, 404, 405)
	}
	for name, spelt := range map[string]string{"dot segments": "/svc/attacked/v1/things/../../admin", "encoded dots": "/svc/attacked/v1/things/%2e%2e", "encoded dots and slash": "/svc/attacked/v1/things/..%2f..%2fadmin",
		"another mount": "/svc/attacked/../sample/v1/items", "another mount, encoded": "/svc/attacked/%2e%2e/sample/v1/items", "our own routes": "/svc/attacked/../../v1/tenants", "double slash": "/svc/attacked//v1/things/7",
		"double slash before": "//svc/attacked/v1/things/7", "case of the mount": "/svc/Attacked/v1/things/7", "case": "/svc/attacked/V1/things/7", "encoded letter": "/svc/attacked/%76%31/things/7",
		"encoded mount": "/svc/%61ttacked/v1/things/7", "encoded slash": "/svc/attacked/v1/things%2f7", "encoded slash in the mount": "/svc%2fattacked/v1/things/7", "semicolon": "/svc/attacked/v1/things/7;x=1",
		"semicolon and dots": "/svc/attacked/v1/things/..;/admin", "encoded semicolon": "/svc/attacked/v1/things/7%3bx", "trailing slash": "/svc/attacked/v1/things/7/", "deeper": "/svc/attacked/v1/things/7/8", "the mount": "/svc/attacked",
		"the mount with a slash": "/svc/attacked/", "backslash": "/svc/attacked/v1/things/..%5c..%5cadmin", "NUL": "/svc/attacked/v1/things/7%00", "newline": "/svc/attacked/v1/things/7%0d%0aX-A:b", "double encoding": "/svc/attacked/v1/things/%252e%252e",
		"overlong": "/svc/attacked/v1/things/%c0%ae%c0%ae", "encoded question mark": "/svc/attacked/v1/things/7%3fadmin=1", "encoded hash": "/svc/attacked/v1/things/7%23x", "long": "/svc/attacked/v1/things/" + strings.Repeat("a", 5000),
		"a semicolon in the query": "/svc/attacked/v1/things/7?a=1;b=2", "a query that cannot be read": "/svc/attacked/v1/things/7?a=%zz"} {
		l.call("GET by "+name, request{method: http.MethodGet, path: spelt, token: token}, unheard)
	}
	for _, method := range []string{"PUT", "PATCH", "OPTIONS", "TRACE", "PROPFIND", "BREW", "get"} {
		l.call(method+" of a route that is not declared", request{method: method, path: "/svc/attacked/v1/things/7", token: token}, unheard)
	}
	l.call("no scope", request{method: http.MethodGet, path: "/svc/attacked/v1/things/7", token: g.env["ARGUS_TOKEN_TENANTS"]}, unheard)
	l.call("no credential", request{method: http.MethodGet, path: "/svc/attacked/v1/things/7", from: g.source()}, unheard)
	l.call("a credential in the query", request{method: http.MethodGet, path: "/svc/attacked/v1/things/7?access_token=" + token, from: g.source()}, unheard)
	for name, header := range map[string][]string{"none": nil, "no reason": {"Argus-Confirm", "7"}, "no confirmation": {"Argus-Reason", "because"}, "a blank reason": {"Argus-Confirm", "7", "Argus-Reason", "\u200b\u200b\u200b"},
		"another thing confirmed": {"Argus-Confirm", "8", "Argus-Reason", "because"}, "confirmed twice": {"Argus-Confirm", "7", "Argus-Confirm", "7", "Argus-Reason", "because"}, "a folded confirmation": {"Argus_Confirm", "7", "Argus-Reason", "because"}} {
		l.call("DELETE with "+name, request{method: http.MethodDelete, path: "/svc/attacked/v1/things/7", token: token, header: header}, unheard)
	}
	g.doorHeaders(l, service, token)
	g.doorAround(service, token, upstream[1])
}

// doorHeaders forges what a service hears of a caller, and looks at what a caller hears of a service.
func (g *group) doorHeaders(l *ledger, service *doorService, token string) {
	for _, name := range []string{"Argus-Assertion", "Argus_Assertion", "argus-assertion", "Argus.Assertion", "Argus-Audit-Id", "ARGUS_AUDIT_ID", "Argus-Anything", "X-Forwarded-For", "X_Forwarded_For", "X-Forwarded-Host",
		"X-Forwarded-Proto", "X-Forwarded-Prefix", "X-Forwarded-User", "Forwarded", "X-Real-Ip", "X-HTTP-Method-Override", "X-Method-Override", "X-Original-Url", "X-Rewrite-Url", "Cookie", "Proxy-Authorization", "Te", "Upgrade", "Trailer"} {
		l.call("tell the service "+name, request{method: http.MethodPost, path: "/svc/attacked/v1/things/7", token: token, body: "x", header: []string{name, "forged"}}, func(a *answer) error {
			heard := service.taken()
			if len(heard) != 1 {
				return fmt.Errorf("answered %d, and the service heard %d calls", a.status, len(heard))
			}
			for name, values := range heard[0].Header {
				if strings.Contains(strings.Join(values, " "), "forged") || name == "Authorization" || name == "Cookie" {
					return fmt.Errorf("the service heard %s: %q", name, values)
				}
			}
			return a.expect(200, "")
		})
	}
	l.call("have ARGUS's own headers dropped as hop-by-hop", request{method: http.MethodPost, path: "/svc/attacked/v1/things/7", token: token, body: "x",
		header: []string{"Connection", "Argus-Assertion, Argus-Audit-Id, X-Forwarded-For"}}, func(a *answer) error {
		heard := service.taken()
		if len(heard) != 1 || heard[0].Header.Get("Argus-Assertion") == "" || heard[0].Header.Get("Argus-Audit-Id") == "" || heard[0].Header.Get("X-Forwarded-For") == "" {
			return errors.New("the service heard a call without them")
		}
		return a.expect(200, "")
	})
	for _, name := range []string{"Set-Cookie", "Access-Control-Allow-Origin", "Clear-Site-Data", "Service-Worker-Allowed", "Strict-Transport-Security", "Refresh", "Www-Authenticate"} {
		l.call("answer with "+name, request{method: http.MethodGet, path: "/svc/attacked/v1/things/7", token: token}, func(a *answer) error {
			if a.header.Get(name) != "" || a.header.Get("Content-Security-Policy") != "sandbox" || a.header.Get("X-Content-Type-Options") != "nosniff" || a.header.Get("Cache-Control") != "no-store" {
				return fmt.Errorf("answered %v", a.header)
			}
			return a.expect(200, "")
		})
	}
	service.taken()
	inner := "GET /v1/things/smuggled HTTP/1.1\r\nHost: x\r\n\r\n"
	for name, framing := range map[string]string{"CL.TE": fmt.Sprintf("Content-Length: %d\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n%s", 5+len(inner), inner),
		"TE.CL":       fmt.Sprintf("Transfer-Encoding: chunked\r\nContent-Length: 4\r\n\r\n%x\r\n%s\r\n0\r\n\r\n", len(inner), inner),
		"two lengths": fmt.Sprintf("Content-Length: 0\r\nContent-Length: %d\r\n\r\n%s", len(inner), inner),
		"TE twice":    fmt.Sprintf("Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n\r\n0\r\n\r\n%s", inner)} {
		g.try("smuggle a request to the service by "+name, func() error {
			_, err := g.raw(g.ctx, "POST /svc/attacked/v1/things/7 HTTP/1.1\r\nHost: "+g.address()+"\r\nAuthorization: Bearer "+token+"\r\n"+framing)
			for _, heard := range service.taken() {
				if strings.Contains(heard.RequestURI, "smuggled") {
					err = errors.New("the service heard the hidden request")
				}
			}
			return err
		})
	}
}

// doorAround calls the sample, which checks assertions, without going through the door.
func (g *group) doorAround(service *doorService, token, sample string) {
	service.taken()
	if _, err := g.do(g.ctx, request{method: http.MethodGet, path: "/svc/attacked/v1/things/7", token: token}); err != nil {
		g.need(err)
	}
	heard := service.taken()
	if len(heard) != 1 {
		g.need(errors.New("no assertion was heard"))
	}
	genuine := heard[0].Header.Get("Argus-Assertion")
	parts := strings.Split(genuine, ".")
	forged := map[string]string{"none": "", "no assertion": "x", "another service's": genuine, "no signature": parts[0] + "." + parts[1] + ".",
		"alg none":                 "eyJhbGciOiJub25lIn0." + parts[1] + ".",
		"another signature":        parts[0] + "." + parts[1] + "." + strings.Repeat("A", len(parts[2])),
		"another service's claims": parts[0] + "." + strings.Replace(parts[1], "YXR0YWNrZWQ", "c2FtcGxl", 1) + "x." + parts[2],
		"a token":                  token}
	for name, assertion := range forged {
		for _, call := range []string{"GET /v1/items", "POST /v1/items/1/retire"} {
			g.try("around the door: "+call+" with "+name, func() error {
				method, path, _ := strings.Cut(call, " ")
				req, err := http.NewRequestWithContext(g.ctx, method, sample+path, nil)
				if err != nil {
					return err
				}
				if assertion != "" {
					req.Header.Set("Argus-Assertion", assertion)
				}
				resp, err := http.DefaultClient.Do(req)
				if err != nil {
					return err
				}
				defer resp.Body.Close()
				if resp.StatusCode != http.StatusUnauthorized {
					return fmt.Errorf("the service answered %d", resp.StatusCode)
				}
				return nil
			})
		}
	}
}
