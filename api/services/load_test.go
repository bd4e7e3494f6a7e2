package services

import (
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/useargus/argus/yamlfile"
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

// TestMistakes: every mistake is told at once, each at its line, and nothing of the file is taken.
func TestMistakes(t *testing.T) {
	dir := t.TempDir()
	write(t, dir, "bad.pem", "no certificate")
	write(t, dir, "bad.yaml", "openapi: 3.0.3\ninfo: {title: x, version: '1'}\npaths: {/a: {get: {responses: {}}}, '/b/{x}{y}': {get: {responses: {}}}}\n")
	_, err := Load(write(t, dir, "services.yaml", `services:
  - name: Billing
    upstream: http://billing.internal
    nmae: x
    timeout: 10m
    body_limit: 1GiB
    answer_limit: 65MiB
    concurrency: 0
    tls: {ca: missing.pem}
    scopes: {logs:read: Ours, Bad: Case, a:b: ""}
    presets: {no-role: [a:b], admin-full: [c:d]}
    routes:
      - {route: "GET /v1/x", scope: nowhere:read}
      - {route: "GET /v1/:a", scope: a:b}
      - {route: "GET /v1/:b", scope: a:b}
      - {route: "HEAD /v1/x", scope: a:b}
      - {route: "GET v1", scope: a:b}
      - {route: "GET /v1/../x", scope: a:b}
      - {route: "GET /v1/;x", scope: a:b}
      - {route: "POST /v1/:a", scope: a:b, reason: maybe, confirm: b}
      - {route: "PUT /v1/:a/:a", scope: a:b}
      - {route: "GET /v1/:a/c", scope: a:b}
      - {route: "GET /v1/b/:c", scope: logs:read}
      - {route: "PUT /v1/x"}
    stream: true
  - name: argus
    upstream: https://user:secret@x/
    mount: /v1/x
    tls: {cert: bad.pem}
    routes: [{route: "GET /", scope: logs:read}]
  - name: two
    upstream: https://x/../y
    mount: /svc
    tls: {ca: bad.pem}
    openapi: bad.yaml
    default_scopes: {read: e:f}
  - name: two
    mount: /svc/two
    upstream: https://x
    routes: []
    timeout: 30s
    timeout: 31s
providers:
  - {name: Fleet, url: "http://fleet.internal"}
`))
	var all *yamlfile.Mistakes
	if !errors.As(err, &all) {
		t.Fatal(err)
	}
	told := map[int]int{}
	for _, m := range all.List {
		told[m.Line]++
	}
	for _, line := range []int{2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 13, 15, 16, 17, 18, 19, 20, 21, 23, 24, 25, 26, 27, 28, 29, 32, 33, 34, 35, 36, 37, 38, 42, 44} {
		if told[line] == 0 {
			t.Errorf("line %d is not told", line)
		}
	}
	for line, least := range map[int]int{10: 3, 11: 2, 20: 2, 35: 2, 37: 2, 44: 2} {
		if told[line] < least {
			t.Errorf("line %d has %d mistakes, of which %d are told", line, least, told[line])
		}
	}
	for _, text := range []string{"add it to scopes", "write reason: required", "a parameter is written as :id", "say scope: NAME", "written there as :b"} {
		if !strings.Contains(err.Error(), text) {
			t.Errorf("%q is not said", text)
		}
	}
	if strings.Contains(err.Error(), "secret") {
		t.Error("a password is told")
	}
	if t.Failed() {
		t.Log(err)
	}
	for _, line := range []int{1, 12, 14, 22, 30, 31, 39, 40, 41, 43} {
		if told[line] > 0 {
			t.Errorf("line %d has no mistake, and one is told", line)
		}
	}
}

// TestRealDocuments: OpenAPI documents that were written for something else load, and their operations are routes.
func TestRealDocuments(t *testing.T) {
	out, err := exec.Command("go", "list", "-m", "-f", "{{.Dir}}", "github.com/getkin/kin-openapi").Output()
	if err != nil {
		t.Fatal(err)
	}
	testdata := filepath.Join(strings.TrimSpace(string(out)), "openapi3", "testdata")
	for file, want := range map[string]struct {
		routes int
		one    string
	}{
		"lxkns.yaml":            {3, "GET /processes"},
		"link-example.yaml":     {6, "GET /2.0/repositories/:username/:slug/pullrequests/:pid"},
		"oai_v3_stoplight.json": {334, "DELETE /whitelabel/domains/:id/ips/:ip"}, // SendGrid's
	} {
		dir := t.TempDir()
		f, err := Load(write(t, dir, "services.yaml", fmt.Sprintf(`services:
  - name: real
    upstream: https://real.internal
    scopes: {real:read: Read, real:write: Write}
    default_scopes: {read: real:read, write: real:write}
    openapi: %s
`, filepath.Join(testdata, file))))
		if err != nil {
			t.Errorf("%s: %v", file, err)
			continue
		}
		var routes []string
		for _, r := range f.Services[0].Routes {
			routes = append(routes, r.Route)
			if want := map[bool]string{true: "real:write", false: "real:read"}[r.Effects()]; string(r.Scope) != want {
				t.Errorf("%s: %s asks for %s", file, r.Route, r.Scope)
			}
		}
		if len(routes) != want.routes || want.one != "" && !slices.Contains(routes, want.one) {
			t.Errorf("%s: %d routes: %v", file, len(routes), routes)
		}
	}
}

// TestSchema holds docs/services.schema.json, by which editors complete the file, to the structs that read it.
func TestSchema(t *testing.T) {
	const path = "../../docs/services.schema.json"
	schema := Schema()
	if *update {
		if err := os.WriteFile(path, schema, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if committed, err := os.ReadFile(path); err != nil || string(committed) != string(schema) {
		t.Errorf("%s is not what the structs say: run go test ./api/services -run Schema -update (%v)", path, err)
	}
}

var update = flag.Bool("update", false, "write generated files")

// TestReadingScopesOnlyRead: a route with effects asks for no scope that ends in :read, whose holders, agents above all,
// may change nothing.
func TestReadingScopesOnlyRead(t *testing.T) {
	for what, change := range map[string][2]string{
		"a route":           {`scope: billing:write, reason`, `scope: billing:read, reason`},
		"an operation":      {`delete: {`, `delete: {x-argus-scope: billing:read, `},
		"a default":         {`write: billing:write}`, `write: billing:read}`},
		"ARGUS's own scope": {`scope: billing:write, reason`, `scope: logs:read, reason`},
	} {
		dir := t.TempDir()
		write(t, dir, "billing.openapi.yaml", strings.Replace(billingDocument, change[0], change[1], 1))
		_, err := Load(write(t, dir, "services.yaml", strings.Replace(billing, change[0], change[1], 1)))
		if err == nil || !strings.Contains(err.Error(), "only reads") {
			t.Errorf("%s: %v", what, err)
		}
	}
}
