package services

import (
	"net/http"
	"net/textproto"
	"strings"
)

// What a caller may not tell a service, by plain name. Servers fold a header's name in several ways: CGI and its kin take
// X_Forwarded_For for X-Forwarded-For. So names are compared without case and with every other sign as a dash.
var removedFromRequests = map[string]bool{
	"authorization": true, "cookie": true, "forwarded": true, "expect": true, "trailer": true,
	"x-real-ip": true, "x-client-ip": true, "x-cluster-client-ip": true, "true-client-ip": true, "cf-connecting-ip": true,
	// By these some frameworks take another method or path than the request's, and so another route than the one that
	// was authorized.
	"x-http-method-override": true, "x-http-method": true, "x-method-override": true,
	"x-original-url": true, "x-rewrite-url": true, "x-original-uri": true, "x-original-method": true,
}

// What a service may not tell a browser that has the console open under the same origin, nor a caller of ARGUS.
var removedFromAnswers = map[string]bool{
	"set-cookie": true, "set-cookie2": true, "www-authenticate": true, "authentication-info": true, "refresh": true,
	"clear-site-data": true, "strict-transport-security": true, "public-key-pins": true, "alt-svc": true, "service-worker-allowed": true,
	"report-to": true, "reporting-endpoints": true, "nel": true, "expect-ct": true, "content-security-policy": true,
	"content-security-policy-report-only": true, "timing-allow-origin": true, "sourcemap": true, "x-sourcemap": true, "origin-agent-cluster": true,
	"cross-origin-opener-policy": true, "cross-origin-embedder-policy": true, "cross-origin-resource-policy": true,
	"x-content-type-options": true, "cache-control": true, "trailer": true,
}

// hopByHop are of one connection, and end there.
var hopByHop = []string{"Connection", "Proxy-Connection", "Keep-Alive", "Proxy-Authenticate", "Proxy-Authorization", "Te", "Trailer",
	"Transfer-Encoding", "Upgrade"}

// plainName is a header's name as any server may read it.
func plainName(name string) string {
	return strings.Map(func(r rune) rune {
		switch {
		case r >= 'A' && r <= 'Z':
			return r + 'a' - 'A'
		case r >= 'a' && r <= 'z', r >= '0' && r <= '9':
			return r
		}
		return '-'
	}, name)
}

// removeRequestHeaders takes out of a caller's headers what a service may not hear from it. ReverseProxy takes the
// hop-by-hop ones out.
func removeRequestHeaders(h http.Header) {
	for name := range h {
		switch plain := plainName(name); {
		case removedFromRequests[plain], strings.HasPrefix(plain, "argus-"), strings.HasPrefix(plain, "x-forwarded-"):
			delete(h, name)
		}
	}
}

// removeAnswerHeaders takes out of a service's headers what a caller may not hear from it.
func removeAnswerHeaders(h http.Header) {
	for _, listed := range h["Connection"] {
		for name := range strings.SplitSeq(listed, ",") {
			delete(h, textproto.CanonicalMIMEHeaderKey(strings.TrimSpace(name)))
		}
	}
	for _, name := range hopByHop {
		delete(h, name)
	}
	for name := range h {
		switch plain := plainName(name); {
		case removedFromAnswers[plain], strings.HasPrefix(plain, "argus-"), strings.HasPrefix(plain, "access-control-"):
			delete(h, name)
		}
	}
}

// guard adds what holds a browser to taking a service's answer for nothing but data: the console shares its origin.
func guard(h http.Header) {
	h.Set("Content-Security-Policy", "sandbox")
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Cross-Origin-Resource-Policy", "same-origin")
	h.Set("Cache-Control", "no-store") // a copy in a shared cache would be an answer without a row
}
