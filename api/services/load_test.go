package services

import (
	"os"
	"path/filepath"
	"testing"
	"time"
)

// write puts a file into a folder and returns its path.
func write(t testing.TB, dir, name, text string) string {
	t.Helper()
	path := filepath.Join(dir, name)
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

const billing = `services:
  - name: billing                        # [a-z][a-z0-9-]{0,30}; the row's column service
    upstream: https://billing.internal:8443
    mount: /svc/billing
    timeout: 30s
    body_limit: 10MiB
    answer_limit: 8MiB
    concurrency: 64
    release_header: X-Release
    health: /healthz
    scopes: {billing:read: See invoices, billing:write: Change invoices}
    presets: {support-readonly: [billing:read], admin-full: [billing:read, billing:write]}
    default_scopes: {read: billing:read, write: billing:write}
    openapi: billing.openapi.yaml
    routes:
      - {route: "GET /v1/invoices/:id", scope: billing:read}
      - {route: "POST /v1/invoices/:id/void", scope: billing:write, reason: required, confirm: id}
      - {route: "GET /v1/events", scope: billing:read, stream: true}
`

const billingDocument = `openapi: 3.0.3
info: {title: Billing, version: "1"}
paths:
  /v1/invoices:
    get: {responses: {"200": {description: ok}}}
    post: {responses: {"200": {description: ok}}}
  /v1/invoices/{id}:
    get: {x-argus-scope: billing:write, responses: {"200": {description: ok}}}
    delete: {x-argus-reason: required, x-argus-confirm: id, responses: {"200": {description: ok}}}
`

func TestLoad(t *testing.T) {
	dir := t.TempDir()
	write(t, dir, "billing.openapi.yaml", billingDocument)
	f, err := Load(write(t, dir, "services.yaml", billing))
	if err != nil {
		t.Fatal(err)
	}
	s := f.Services[0]
	if time.Duration(s.Timeout) != 30*time.Second || s.BodyLimit != 10<<20 || s.Mount != "/svc/billing" || len(s.Routes) != 6 || len(f.Scopes()) != 2 {
		t.Fatalf("%+v", s)
	}
	m := s.find("DELETE", "/v1/invoices/in%20voice")
	if m.Route == nil || m.Route.Reason != "required" || m.Route.Confirm != "id" || m.Params[0].Value != "in voice" || m.path != "/v1/invoices/in%20voice" {
		t.Errorf("%+v", m)
	}
	if m = s.find("GET", "/v1/invoices/7"); m.Route.Scope != "billing:read" { // the file's, not the document's
		t.Errorf("%+v", m.Route)
	}
}
