package api

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/useargus/argus"
)

// FuzzAuthorization: with any text in the header only the one good token gets in, nothing panics, and an unauthenticated
// caller leaves no row.
func FuzzAuthorization(f *testing.F) {
	h := newHarness(f, func(c *Config) { c.Limits.FailPerSecond, c.Limits.PerSecond = -1, -1 })
	h.listening()
	good := h.token("user_2ada")
	jwt := h.issuer.Token("user_2ada")
	for _, seed := range []string{"", "Bearer", "Bearer ", "Bearer  x", "Bearer   " + good, " Bearer " + good + " ", "bearer " + good, "BEARER " + good, "Bearer\t" + good,
		"Bearer " + good + "\n", "Bearer " + good[:40], "Bearer " + flip(good), "Bearer " + argus.NewSecret(argus.PATPrefix),
		"Bearer " + argus.NewSecret(argus.BreakGlassPrefix), "Bearer argus_bg_" + good[10:], "Bearer " + flip(jwt), "Bearer a.b.c",
		"Bearer ..", "Bearer eyJhbGciOiJub25lIn0.e30.", "Bearer eyJhbGciOiJSUzI1NiIsImtpZCI6bnVsbH0.e30.AAAA",
		"Bearer eyJhbGciOiJSUzI1NiIsImtpZCI6IngiLCJjcml0IjpbImI2NCJdLCJiNjQiOmZhbHNlfQ.e30.AAAA",
		"Bearer {\"payload\":\"e30\"}", "Basic YTpi", "Bearer \x00", "Bearer " + strings.Repeat("A", 9000)} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, header string) {
		r := httptest.NewRequest(http.MethodGet, "/v1/operators/me", nil)
		r.Header["Authorization"] = []string{header}
		w := httptest.NewRecorder()
		h.api.Handler().ServeHTTP(w, r)
		scheme, token, _ := strings.Cut(strings.Trim(header, " \t"), " ")
		in := strings.EqualFold(scheme, "Bearer") && strings.TrimLeft(token, " ") == good
		rows := h.audit.taken()
		switch {
		case in && (w.Code != 200 || len(rows) != 1):
			t.Errorf("the good token: %d, %d rows", w.Code, len(rows))
		case !in && (w.Code != 401 || len(rows) != 0):
			t.Errorf("%q: %d, %d rows", header, w.Code, len(rows))
		}
	})
}
