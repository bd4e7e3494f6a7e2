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

// TestHealthOfCopies: each copy in ClickHouse is a stage, one that is lost makes nothing but the whole degraded, and an outage names
// which copy is down.
func TestHealthOfCopies(t *testing.T) {
	h := newHarness(t)
	h.auditLog.set(func(f *fakeLog) {
		f.stages = []argus.Stage{{Name: "clickhouse", Status: "down", Detail: "This copy does not answer.", Facts: map[string]any{"copy": "east", "down_seconds": 90.0}},
			{Name: "clickhouse", Status: "ok", Facts: map[string]any{"copy": "west"}}}
	})
	var body struct {
		Status string
		Ready  bool
		Stages []argus.Stage
		Health healthSummary
	}
	h.must(json.Unmarshal(h.do(h.token("user_2ada"), http.MethodGet, "/v1/health", nil).body, &body))
	var copies []string
	for _, s := range body.Stages {
		if s.Name == "clickhouse" {
			copies = append(copies, s.Facts["copy"].(string)+" "+s.Status)
		}
	}
	if strings.Join(copies, ", ") != "east down, west ok" || body.Status != statusDegraded || !body.Ready {
		t.Errorf("%q of %+v", copies, body)
	}
	h.audit.set(func(f *fakeAudit) {
		f.available = argus.Errorf(argus.CodeAuditUnavailable, "away")
		f.stage = argus.Stage{Name: "writer", Status: "down"}
	})
	h.must(json.Unmarshal(h.do("", http.MethodGet, "/v1/health", nil).body, &body))
	copies = nil
	for _, s := range body.Health.Stages {
		if s.Copy != "" {
			copies = append(copies, s.Copy+" "+s.Status)
			if since := time.Time(s.Since); s.Status == statusDown && since.IsZero() {
				t.Errorf("%s is down, and it is not told since when", s.Copy)
			}
		}
	}
	if strings.Join(copies, ", ") != "east down, west ok" {
		t.Errorf("while no call is answered: %+v", body.Health)
	}
}
