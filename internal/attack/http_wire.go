package attack

import (
	"errors"
	"fmt"
	"net/http"
	"strings"
)

// paths asks for protected routes by other spellings of their paths and methods. Without a credential none is served;
// with one, none answers what the canonical path would have.
func (g *group) paths() {
	l := g.ledger()
	defer l.close()
	token := g.env["ARGUS_TOKEN_TENANTS"]
	spell := map[string]func(string) string{
		"//": func(p string) string { return "/" + p }, "/./": func(p string) string { return "/." + p }, "/x/../": func(p string) string { return "/x/.." + p },
		"%2e": func(p string) string { return "/%2e" + p }, "%2e%2e": func(p string) string { return "/x/%2e%2e" + p }, "public/..": func(p string) string { return "/livez/.." + p },
		"assets/..": func(p string) string { return "/assets/.." + p }, "assets/%2e%2e": func(p string) string { return "/assets/%2e%2e" + p }, "assets/..%2f": func(p string) string { return "/assets/..%2f" + p[1:] },
		"encoded slash": func(p string) string { return "/v1%2f" + strings.TrimPrefix(p, "/v1/") }, "trailing slash": func(p string) string { return p + "/" },
		"trailing dot": func(p string) string { return p + "." }, "trailing blank": func(p string) string { return p + "%20" }, "NUL": func(p string) string { return p + "%00" },
		"semicolon": func(p string) string { return p + ";x=1" }, "semicolon before": func(p string) string { return "/;x" + p }, "upper case": strings.ToUpper,
		"backslash": func(p string) string { return "/" + strings.ReplaceAll(p[1:], "/", "%5c") }, "encoded letter": func(p string) string { return strings.Replace(p, "e", "%65", 1) + "%2f" },
		"double encoding": func(p string) string { return "/" + strings.Replace(p[1:], "/", "%252f", 1) }, "suffix": func(p string) string { return p + ".json" },
		"overlong": func(p string) string { return "/%c0%ae%c0%ae" + p }, "full width": func(p string) string { return "/%ef%bc%8f" + p[1:] }, "tab": func(p string) string { return p + "%09" },
		"newline": func(p string) string { return p + "%0d%0aX-Injected:%201" }, "a file's way": func(p string) string { return "/../../../../etc/passwd" + strings.Repeat("/..", 0) + "?" + p[1:] },
	}
	for _, r := range g.protected() {
		if r.method != http.MethodGet || strings.Contains(r.path, "{") && g.config.Short {
			continue
		}
		for name, f := range spell {
			path := f(r.concrete())
			l.call("GET "+r.path+" spelt with "+name, request{method: http.MethodGet, path: path, from: g.source()}, func(a *answer) error {
				if strings.HasPrefix(path, "/assets/") && a.status == http.StatusNotFound { // public, and there is no such file
					return nil
				}
				return unauthenticated(a)
			})
			if g.config.Short {
				continue
			}
			if strings.Contains(r.path, "{id}") && name != "//" && name != "upper case" {
				continue // a parameter takes any text
			}
			l.call("GET "+r.path+" with a credential, spelt with "+name, request{method: http.MethodGet, path: path, token: token},
				func(a *answer) error {
					if a.header.Get("X-Injected") != "" {
						return errors.New("a header was injected")
					}
					return a.expectOneOf(403, 404, 405)
				})
		}
		for _, method := range []string{"OPTIONS", "TRACE", "CONNECT", "PROPFIND", "HEAD", "get", "BREW", "PUT", "PATCH", "DELETE"} {
			l.call(method+" "+r.path, request{method: method, path: r.concrete(), from: g.source()}, func(a *answer) error {
				if method == "HEAD" {
					return a.expectOneOf(http.StatusUnauthorized)
				}
				if a.status == http.StatusBadRequest { // the server itself rejects what is no HTTP
					return nil
				}
				return unauthenticated(a)
			})
		}
	}
	for _, path := range []string{"/metrics", "/debug/pprof/", "/debug/vars", "/admin", "/.git/config", "/.env", "/server-status", "/v1", "/v1/", "/v2/tenants", "/graphql", "/actuator", "/v1/../metrics",
		"/assets/", "/assets/../index.html", "/assets/%2e%2e%2f%2e%2e%2fetc/passwd", "/assets/..%5c..%5cetc", "/assets/.", "/assets//", "/index.html", "/favicon.ico/..", "/console-config.json/", "/livez/x"} {
		l.call("GET "+path, request{method: http.MethodGet, path: path, from: g.source()}, func(a *answer) error {
			if a.status == http.StatusNotFound || a.status == http.StatusBadRequest { // a file that is not there
				return nil
			}
			return unauthenticated(a)
		})
	}
	for _, path := range []string{"/livez", "/readyz", "/openapi.json", "/console-config.json"} {
		g.control("GET "+path, func() error {
			a, err := g.do(g.ctx, request{method: http.MethodGet, path: path})
			if err != nil {
				return err
			}
			return a.expect(200, "")
		})
	}
}

// wire sends what no client library sends. A request hidden in another's body must not be served; %s is where an
// attempt puts its credential and its name.
func (g *group) wire() {
	l := g.ledger()
	defer l.close()
	token := g.env["ARGUS_TOKEN_TENANTS"]
	lines := func(id string) string {
		return "Host: " + g.address() + "\r\nAuthorization: Bearer " + token + "\r\nX-Request-Id: " + id + "\r\n"
	}
	hidden := func(id string) string { return "GET /v1/tenants HTTP/1.1\r\n" + lines(id) + "\r\n" }

	smuggle := map[string]func(id, inner string) string{
		"CL.TE": func(id, inner string) string {
			body := "0\r\n\r\n" + inner
			return "POST /compute/ops/workers/attack-none/stop HTTP/1.1\r\n" + lines(id) + fmt.Sprintf("Content-Length: %d\r\nTransfer-Encoding: chunked\r\n\r\n%s", len(body), body)
		},
		"TE.CL": func(id, inner string) string {
			return "POST /compute/ops/workers/attack-none/stop HTTP/1.1\r\n" + lines(id) + fmt.Sprintf("Transfer-Encoding: chunked\r\nContent-Length: 4\r\n\r\n%x\r\n%s\r\n0\r\n\r\n", len(inner), inner)
		},
		"two lengths": func(id, inner string) string {
			return "POST /compute/ops/workers/attack-none/stop HTTP/1.1\r\n" + lines(id) + fmt.Sprintf("Content-Length: 0\r\nContent-Length: %d\r\n\r\n%s", len(inner), inner)
		},
		"a list of lengths": func(id, inner string) string {
			return "POST /compute/ops/workers/attack-none/stop HTTP/1.1\r\n" + lines(id) + fmt.Sprintf("Content-Length: 0, %d\r\n\r\n%s", len(inner), inner)
		},
		"a signed length": func(id, inner string) string {
			return "POST /compute/ops/workers/attack-none/stop HTTP/1.1\r\n" + lines(id) + fmt.Sprintf("Content-Length: +%d\r\n\r\n%s", len(inner), inner)
		},
		"a negative length": func(id, inner string) string {
			return "POST /compute/ops/workers/attack-none/stop HTTP/1.1\r\n" + lines(id) + "Content-Length: -1\r\n\r\n" + inner
		},
		"a length in hex": func(id, inner string) string {
			return "POST /compute/ops/workers/attack-none/stop HTTP/1.1\r\n" + lines(id) + fmt.Sprintf("Content-Length: 0x%x\r\n\r\n%s", len(inner), inner)
		},
		"a length beyond int64": func(id, inner string) string {
			return "POST /compute/ops/workers/attack-none/stop HTTP/1.1\r\n" + lines(id) + "Content-Length: 99999999999999999999\r\n\r\n" + inner
		},
		"a length with a blank before the colon": func(id, inner string) string {
			return "POST /compute/ops/workers/attack-none/stop HTTP/1.1\r\n" + lines(id) + fmt.Sprintf("Content-Length : %d\r\n\r\n%s", len(inner), inner)
		},
		"a folded length": func(id, inner string) string {
			return "POST /compute/ops/workers/attack-none/stop HTTP/1.1\r\n" + lines(id) + fmt.Sprintf("Content-Length:\r\n %d\r\nX-A: b\r\n c\r\n\r\n%s", len(inner), inner)
		},
		"a chunk's size negative": func(id, inner string) string {
			return "POST /compute/ops/workers/attack-none/stop HTTP/1.1\r\n" + lines(id) + "Transfer-Encoding: chunked\r\n\r\n-1\r\n\r\n" + inner
		},
		"a chunk's size of seventeen digits": func(id, inner string) string {
			return "POST /compute/ops/workers/attack-none/stop HTTP/1.1\r\n" + lines(id) + "Transfer-Encoding: chunked\r\n\r\n10000000000000000\r\n" + inner
		},
		"a chunk's size with a sign": func(id, inner string) string {
			return "POST /compute/ops/workers/attack-none/stop HTTP/1.1\r\n" + lines(id) + "Transfer-Encoding: chunked\r\n\r\n+0\r\n\r\n" + inner
		},
		"a chunk's size in 0x": func(id, inner string) string {
			return "POST /compute/ops/workers/attack-none/stop HTTP/1.1\r\n" + lines(id) + "Transfer-Encoding: chunked\r\n\r\n0x0\r\n\r\n" + inner
		},
		"a chunk without its end": func(id, inner string) string {
			return "POST /compute/ops/workers/attack-none/stop HTTP/1.1\r\n" + lines(id) + "Transfer-Encoding: chunked\r\n\r\n2\r\n{}XX0\r\n\r\n" + inner
		},
		"chunks ended by LF": func(id, inner string) string {
			return "POST /compute/ops/workers/attack-none/stop HTTP/1.1\r\n" + lines(id) + "Transfer-Encoding: chunked\r\n\r\n2;a\nxx\r\n" + "zz\r\n" + inner
		},
	}
	for _, coding := range []string{"xchunked", "chunked, identity", "identity", "chunked, chunked", "gzip, chunked", "chunked;q=1", "\x0bchunked", "\"chunked\"", "chun ked", "cow"} {
		smuggle["Transfer-Encoding "+coding] = func(id, inner string) string {
			body := "0\r\n\r\n" + inner
			return "POST /compute/ops/workers/attack-none/stop HTTP/1.1\r\n" + lines(id) + fmt.Sprintf("Transfer-Encoding: %s\r\nContent-Length: %d\r\n\r\n%s", coding, len(body), body)
		}
	}
	smuggle["two Transfer-Encodings"] = func(id, inner string) string {
		return "POST /compute/ops/workers/attack-none/stop HTTP/1.1\r\n" + lines(id) + "Transfer-Encoding: identity\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n" + inner
	}
	smuggle["a blank before the colon of Transfer-Encoding"] = func(id, inner string) string {
		body := "0\r\n\r\n" + inner
		return "POST /compute/ops/workers/attack-none/stop HTTP/1.1\r\n" + lines(id) + fmt.Sprintf("Transfer-Encoding : chunked\r\nContent-Length: %d\r\n\r\n%s", len(body), body)
	}
	smuggle["HTTP/1.0 with chunks"] = func(id, inner string) string {
		return "POST /compute/ops/workers/attack-none/stop HTTP/1.0\r\n" + lines(id) + "Connection: keep-alive\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n" + inner
	}
	smuggle["a body of a GET"] = func(id, inner string) string {
		return "GET /v1/nothing HTTP/1.1\r\n" + lines(id) + fmt.Sprintf("Content-Length: %d\r\n\r\n%s", len(inner), inner)
	}
	smuggle["a body asked for by Expect"] = func(id, inner string) string {
		return "POST /compute/ops/workers/attack-none/stop HTTP/1.1\r\n" + lines(id) + fmt.Sprintf("Expect: 100-continue\r\nContent-Length: %d\r\n\r\n%s", len(inner), inner)
	}
	smuggle["a body too large"] = func(id, inner string) string {
		return "POST /compute/ops/workers/attack-none/stop HTTP/1.1\r\n" + lines(id) + fmt.Sprintf("Content-Length: %d\r\n\r\n%s%s", 2<<20, strings.Repeat("x", 1<<20+1), inner)
	}
	smuggle["an upgrade to h2c"] = func(id, inner string) string {
		return "GET /v1/nothing HTTP/1.1\r\n" + lines(id) + fmt.Sprintf("Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAAP__\r\nContent-Length: %d\r\n\r\n%s", len(inner), inner)
	}
	for name, f := range smuggle {
		outer, inner := g.nextID(), g.nextID()
		answers, err := g.raw(g.ctx, f(outer, hidden(inner)))
		for _, a := range answers {
			if err == nil && a.status == http.StatusOK {
				err = fmt.Errorf("the hidden request was answered %.100s", a.body)
			}
			if err == nil && a.status == http.StatusSwitchingProtocols {
				err = errors.New("the protocol was switched")
			}
		}
		l.add("hide a request by "+name, inner, 0, "", err)
	}
	g.control("a request behind another is served", func() error {
		answers, err := g.raw(g.ctx, hidden(g.nextID())+hidden(g.nextID()))
		if err == nil && len(answers) != 2 {
			err = fmt.Errorf("%d answers to two requests", len(answers))
		}
		return err
	})

	// Broken requests: rejected, or answered as the one call they are.
	broken := map[string]string{
		"no Host": "GET /v1/tenants HTTP/1.1\r\n\r\n", "two Hosts": "GET /v1/tenants HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", "a Host of blanks": "GET /v1/tenants HTTP/1.1\r\nHost: a b\r\n\r\n",
		"NUL in a header": "GET /v1/tenants HTTP/1.1\r\nHost: x\r\nX-A: a\x00b\r\n\r\n", "a bare CR": "GET /v1/tenants HTTP/1.1\r\nHost: x\r\nX-A: a\rb\r\n\r\n",
		"a name with a blank": "GET /v1/tenants HTTP/1.1\r\nHost: x\r\nX A: b\r\n\r\n", "no name": "GET /v1/tenants HTTP/1.1\r\nHost: x\r\n: b\r\n\r\n", "a name alone": "GET /v1/tenants HTTP/1.1\r\nHost: x\r\nX-A\r\n\r\n",
		"HTTP/0.9": "GET /v1/tenants\r\n\r\n", "HTTP/2.0": "GET /v1/tenants HTTP/2.0\r\nHost: x\r\n\r\n", "HTTP/9.9": "GET /v1/tenants HTTP/9.9\r\nHost: x\r\n\r\n", "http/1.1": "GET /v1/tenants http/1.1\r\nHost: x\r\n\r\n",
		"an HTTP/2 preface": "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", "a fragment": "GET /v1/tenants#x HTTP/1.1\r\nHost: x\r\n\r\n", "a control in the path": "GET /v1/ten\x01ants HTTP/1.1\r\nHost: x\r\n\r\n",
		"a bad escape": "GET /v1/%zz HTTP/1.1\r\nHost: x\r\n\r\n", "no path": "GET  HTTP/1.1\r\nHost: x\r\n\r\n", "a relative path": "GET v1/tenants HTTP/1.1\r\nHost: x\r\n\r\n",
		"absolute form": "GET http://" + g.address() + "/v1/tenants HTTP/1.1\r\nHost: x\r\n\r\n", "absolute form elsewhere": "GET http://evil.example/v1/tenants HTTP/1.1\r\nHost: " + g.address() + "\r\n\r\n",
		"absolute form with a user": "GET http://a:b@" + g.address() + "/v1/tenants HTTP/1.1\r\nHost: x\r\n\r\n", "a file's URL": "GET file:///etc/passwd HTTP/1.1\r\nHost: x\r\n\r\n",
		"CONNECT": "CONNECT 127.0.0.1:1 HTTP/1.1\r\nHost: 127.0.0.1:1\r\n\r\n", "CONNECT by absolute form": "CONNECT http://" + g.address() + "/v1/tenants HTTP/1.1\r\nHost: x\r\n\r\n",
		"OPTIONS *": "OPTIONS * HTTP/1.1\r\nHost: x\r\n\r\n", "GET *": "GET * HTTP/1.1\r\nHost: x\r\n\r\n", "a method of NUL": "G\x00T /v1/tenants HTTP/1.1\r\nHost: x\r\n\r\n",
		"binary": "\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", "TLS alert": "\x15\x03\x01\x00\x02\x02\x28", "newlines": strings.Repeat("\r\n", 1000) + "GET /v1/tenants HTTP/1.1\r\nHost: x\r\n\r\n",
	}
	for name, text := range broken {
		g.try("send "+name, func() error {
			answers, err := g.raw(g.ctx, text)
			for _, a := range answers {
				if err == nil && a.status != 401 && (a.status < 400 || a.status >= 500 && a.status != 501 && a.status != 505) {
					err = fmt.Errorf("answered %d %.100s", a.status, a.body)
				}
			}
			return err
		})
	}
}

// headers forges where a call comes from and what is written of it.
func (g *group) headers() {
	l := g.ledger()
	defer l.close()
	token := g.env["ARGUS_TOKEN_TENANTS"]
	var ids []string
	for _, name := range []string{"X-Forwarded-For", "X-Real-Ip", "Forwarded", "True-Client-Ip", "Cf-Connecting-Ip", "X-Client-Ip", "X-Cluster-Client-Ip", "X-Original-Forwarded-For", "X-Forwarded", "Forwarded-For", "X-Appengine-User-Ip", "Fly-Client-Ip", "Via"} {
		for _, value := range []string{"198.51.100.7", "198.51.100.7, 127.0.0.1", "for=198.51.100.7", "::ffff:198.51.100.7", "127.0.0.1, 198.51.100.7"} {
			from := g.source()
			a, err := g.do(g.ctx, request{method: http.MethodGet, path: "/v1/tenants", token: token, from: from, header: []string{name, value}})
			g.need(err)
			ids = append(ids, a.id)
			seen := a.expect(200, "")
			if seen == nil {
				var ip string
				if seen = g.super.QueryRow(g.ctx, "SELECT host(client_ip) FROM argus.argus_audit_log WHERE client_request_id = $1", a.id).Scan(&ip); seen == nil && !strings.HasPrefix(ip, "127.") {
					seen = fmt.Errorf("the row says that the call came from %s", ip)
				}
			}
			l.add(fmt.Sprintf("%s: %s", name, value), a.id, 1, a.header.Get("Argus-Audit-Id"), seen)
		}
	}
	_ = ids
	for name, header := range map[string][]string{
		"X-Forwarded-Host": {"X-Forwarded-Host", "evil.example"}, "X-Forwarded-Proto": {"X-Forwarded-Proto", "javascript"}, "X-Original-Url": {"X-Original-Url", "/livez"}, "X-Rewrite-Url": {"X-Rewrite-Url", "/livez"},
		"X-Forwarded-Prefix": {"X-Forwarded-Prefix", "//evil.example"}, "Origin": {"Origin", "https://evil.example"}, "Origin null": {"Origin", "null"}, "Referer": {"Referer", "https://evil.example"},
		"preflight headers": {"Origin", "https://evil.example", "Access-Control-Request-Method", "POST", "Access-Control-Request-Headers", "authorization"},
		"Range":             {"Range", "bytes=0-0"}, "many ranges": {"Range", "bytes=" + strings.Repeat("0-,", 500) + "0-"}, "Accept-Encoding": {"Accept-Encoding", "gzip;q=0, " + strings.Repeat("x,", 2000)},
		"If-None-Match": {"If-None-Match", "*"}, "a long User-Agent": {"User-Agent", strings.Repeat("a", 30_000)},
		"a long traceparent": {"Traceparent", "00-" + strings.Repeat("a", 5000) + "-b-01"}, "a traceparent of zeros": {"Traceparent", "00-00000000000000000000000000000000-0000000000000000-00"},
		"hop-by-hop Authorization": {"Connection", "authorization"}, "Te": {"Te", "trailers"}, "an impersonator": {"Impersonator", "user_2mira", "X-Impersonate-User", "user_2mira", "Argus-Audit-Id", "019b76da-a800-7000-8000-000000000001"},
	} {
		l.call("a header: "+name, request{method: http.MethodGet, path: "/v1/tenants", token: token, header: header}, func(a *answer) error {
			for name, values := range a.header {
				if strings.HasPrefix(name, "Access-Control-") || strings.Contains(strings.Join(values, ""), "evil.example") {
					return fmt.Errorf("the answer has %s: %s", name, values)
				}
			}
			if a.status == http.StatusPartialContent {
				return errors.New("a part was answered")
			}
			return a.expectOneOf(200, 400)
		})
	}
	many := []string{}
	for i := range 900 {
		many = append(many, fmt.Sprintf("X-A-%d", i), strings.Repeat("b", 20))
	}
	l.call("nine hundred headers", request{method: http.MethodGet, path: "/v1/tenants", header: many, from: g.source()}, func(a *answer) error { return a.expectOneOf(401, 431) })
	for what, text := range map[string]string{"a header of 100 kB": "GET /v1/tenants HTTP/1.1\r\nHost: x\r\nX-A: " + strings.Repeat("b", 100_000) + "\r\n\r\n",
		"a path of 100 kB": "GET /v1/tenants/" + strings.Repeat("b", 100_000) + " HTTP/1.1\r\nHost: x\r\n\r\n"} {
		g.try(what, func() error { // rejected, or hung up on
			answers, err := g.raw(g.ctx, text)
			if err == nil && len(answers) > 0 {
				err = answers[0].expectOneOf(414, 431)
			}
			return err
		})
	}

	for name, value := range map[string]string{"CR LF": "a%0d%0aX-Injected: 1", "LF": "a%0aX-Injected: 1", "unicode newlines": "a%e2%80%a8X-Injected: 1"} {
		for _, path := range []string{"/v1/tenants/%s", "/v1/tenants?limit=%s", "/v1/audit-log/export?format=%s", "/assets/%s"} {
			l.call("inject by "+name+" into "+path, request{method: http.MethodGet, path: fmt.Sprintf(path, strings.ReplaceAll(value, " ", "%20")), token: token}, func(a *answer) error {
				if a.header.Get("X-Injected") != "" {
					return errors.New("a header was injected")
				}
				return a.expectOneOf(200, 400, 403, 404)
			})
		}
	}
	// What a page of the console must carry for every client.
	g.try("frame the console", func() error {
		a, err := g.do(g.ctx, request{method: http.MethodGet, path: "/"})
		if err != nil {
			return err
		}
		policy := a.header.Get("Content-Security-Policy")
		for _, part := range []string{"default-src 'none'", "frame-ancestors 'none'", "base-uri 'none'", "form-action 'none'"} {
			if !strings.Contains(policy, part) {
				return fmt.Errorf("its policy lacks %s: %s", part, policy)
			}
		}
		if strings.Contains(policy, "unsafe-inline") || strings.Contains(policy, "unsafe-eval") || strings.Contains(policy, "*") {
			return fmt.Errorf("its policy is %s", policy)
		}
		return nil
	})
	for _, path := range []string{"/", "/openapi.json", "/console-config.json", "/v1/tenants", "/v1/nothing"} {
		g.try("sniff "+path, func() error {
			a, err := g.do(g.ctx, request{method: http.MethodGet, path: path, token: token})
			if err == nil && a.header.Get("X-Content-Type-Options") != "nosniff" {
				err = errors.New("X-Content-Type-Options is missing")
			}
			return err
		})
	}
}
