package services

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/useargus/argus"
)

// TestHealthTellsNoPlace: callers see why a service is failing, and not where it answers.
func TestHealthTellsNoPlace(t *testing.T) {
	const address = "127.0.0.1:1" // where nothing listens
	path := filepath.Join(t.TempDir(), "services.yaml")
	err := os.WriteFile(path, fmt.Appendf(nil, `services:
  - name: gone
    upstream: http://%s
    health: /healthz
    scopes: {gone:read: Look}
    routes: [{route: GET /x, scope: gone:read}]
`, address), 0o600)
	if err != nil {
		t.Fatal(err)
	}
	r, err := New(Config{Path: path})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { argus.DeclareScopes(nil) })
	s := r.Services()[0]
	s.look(t.Context())
	h := s.LastHealth()
	if h.Status != HealthFailing || !strings.Contains(h.Detail, "refused") || strings.Contains(h.Detail, "127.0.0.1") {
		t.Errorf("%+v", h)
	}
}
