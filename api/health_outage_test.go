package api

import (
	"encoding/json"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/useargus/argus"
)

// TestHealthOfAnOutage: while no row can be written, health names the part and since when, to anyone, and leaves no row.
func TestHealthOfAnOutage(t *testing.T) {
	h := newHarness(t)
	token := h.token("user_2ada")
	h.audit.set(func(f *fakeAudit) {
		f.available = argus.Errorf(argus.CodeAuditUnavailable, "away")
		f.stage = argus.Stage{Name: "writer", Status: "down", Detail: "secret detail", Facts: map[string]any{"down_seconds": 90.0}}
	})
	for _, who := range []string{"", "argus_pat_nonsense", token} {
		resp := h.do(who, http.MethodGet, "/v1/health", nil)
		var body struct{ Health healthSummary }
		h.must(json.Unmarshal(resp.body, &body))
		since := map[string]time.Duration{}
		for _, s := range body.Health.Stages {
			if s.Status == statusDown {
				since[s.Name] = time.Since(time.Time(s.Since)).Round(time.Minute)
			}
		}
		if resp.status != 503 || resp.code() != argus.CodeAuditUnavailable || body.Health.Status != statusDown || since["postgres"] != 2*time.Minute ||
			since["writer"] != 2*time.Minute || strings.Contains(string(resp.body), "secret") || strings.Contains(string(resp.body), "facts") {
			t.Errorf("%q: %d %s", who, resp.status, resp.body)
		}
		h.noRow()
	}
	if resp := h.do("", http.MethodGet, "/v1/operators/me", nil); resp.status != 401 || strings.Contains(string(resp.body), "health") {
		t.Errorf("another route: %d %s", resp.status, resp.body)
	}
	h.audit.set(func(f *fakeAudit) { f.available, f.stage = nil, argus.Stage{} })
	if resp := h.do("", http.MethodGet, "/v1/health", nil); resp.status != 401 {
		t.Errorf("well, and not authenticated: %d", resp.status)
	}
}
