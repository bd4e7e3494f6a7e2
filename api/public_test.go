package api

import (
	"compress/gzip"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"pgregory.net/rapid"

	"github.com/useargus/argus"
	"github.com/useargus/argus/api/credential"
)

// TestPublic: what needs no credential leaves no row, tells nothing of the log, and is held to strict headers.
func TestPublic(t *testing.T) {
	h := newHarness(t, func(c *Config) { c.Clerk.LocalSignInURL = "http://127.0.0.1:8421/sign-in" })
	get := func(path string, header ...string) *response { return h.do("", http.MethodGet, path, nil, header...) }
	for path, status := range map[string]int{"/livez": 200, "/readyz": 200, "/": 200, "/console-config.json": 200, "/openapi.json": 200,
		"/assets/nothing.js": 404, "/assets/../../etc/passwd": 404, "/assets/%2e%2e/index.html": 404} {
		if resp := get(path); resp.status != status {
			t.Errorf("%s: %d, want %d", path, resp.status, status)
		}
		if resp := h.do("", http.MethodHead, path, nil); resp.status != status || len(resp.body) != 0 {
			t.Errorf("HEAD %s: %d", path, resp.status)
		}
	}
	h.noRow()
	page := get("/")
	policy := page.header.Get("Content-Security-Policy")
	for _, part := range []string{"default-src 'none'", "script-src 'self'", "frame-ancestors 'none'", "base-uri 'none'", "form-action 'none'", "connect-src 'self' http://127.0.0.1:8421;"} {
		if !strings.Contains(policy+";", part) {
			t.Errorf("policy %q lacks %q", policy, part)
		}
	}
	if strings.Contains(policy, "unsafe") || strings.Contains(policy, "*") {
		t.Errorf("policy %q", policy)
	}
	for name, want := range map[string]string{"X-Frame-Options": "DENY", "X-Content-Type-Options": "nosniff", "Referrer-Policy": "no-referrer", "Cache-Control": "no-cache"} {
		if got := page.header.Get(name); got != want {
			t.Errorf("%s: %q", name, got)
		}
	}
	for _, resp := range []*response{page, get("/v1/operators/me"), get("/console-config.json")} {
		for name := range resp.header {
			if strings.HasPrefix(name, "Access-Control-") || name == "Set-Cookie" {
				t.Errorf("header %s", name)
			}
		}
	}
	if resp := get("/", "If-None-Match", get("/").header.Get("Etag")); resp.status != 200 && resp.status != 304 {
		t.Errorf("conditional: %d", resp.status)
	}
	var config map[string]any
	get("/console-config.json").json(t, &config)
	if config["auth"] != "local" || config["local_sign_in_url"] != "http://127.0.0.1:8421/sign-in" || config["clerk_publishable_key"] != nil || config["version"] == nil {
		t.Errorf("%v", config)
	}

	// Not ready: rows cannot be written; shutting down.
	h.audit.set(func(f *fakeAudit) { f.available = argus.Errorf(argus.CodeAuditUnavailable, "away") })
	if resp := get("/readyz"); resp.status != 503 || strings.Contains(string(resp.body), "away") {
		t.Errorf("%d %s", resp.status, resp.body)
	}
	h.audit.set(func(f *fakeAudit) { f.available = nil })
	h.api.Leave()
	if resp := get("/readyz"); resp.status != 503 {
		t.Errorf("leaving: %d", resp.status)
	}
	if resp := get("/"); resp.status != 200 || !resp.closes {
		t.Errorf("leaving: %d, the connection is closed: %t", resp.status, resp.closes)
	}
	h.api.Drain()
	if resp := get("/readyz"); resp.status != 503 {
		t.Errorf("draining: %d", resp.status)
	}
	if resp := get("/livez"); resp.status != 200 {
		t.Errorf("draining: %d", resp.status)
	}
}

func TestConsoleFiles(t *testing.T) {
	h := newHarness(t)
	script := strings.Repeat("console.log(1);", 1000)
	files, err := h.api.consoleFiles(fstest.MapFS{"index.html": {Data: []byte("<!doctype html>")}, "assets/app-1a2b.js": {Data: []byte(script)}})
	h.must(err)
	f := files["assets/app-1a2b.js"]
	if f.kind != "text/javascript; charset=utf-8" || f.zipped == nil || len(f.zipped) > len(script)/10 {
		t.Errorf("%s, %d bytes zipped", f.kind, len(f.zipped))
	}
	r, err := gzip.NewReader(strings.NewReader(string(f.zipped)))
	h.must(err)
	if back, err := io.ReadAll(r); err != nil || string(back) != script {
		t.Errorf("%v", err)
	}
	if _, err := h.api.consoleFiles(fstest.MapFS{"assets/x.js": {}}); err == nil {
		t.Error("a console without a page")
	}
	for header, want := range map[string]bool{"gzip": true, "br, gzip;q=0.5": true, "": false, "br": false, "gzip;q=0": false, "GZIP": true, "xgzip": false} {
		if acceptsGzip(header) != want {
			t.Errorf("%q: %t", header, !want)
		}
	}
}

func TestContentPolicy(t *testing.T) {
	policy, err := contentPolicy(credential.ClerkConfig{PublishableKey: "pk_live_Y2xlcmsuZXhhbXBsZS5jb20k"}, nil)
	if err != nil || !strings.Contains(policy, "connect-src 'self' https://clerk.example.com;") || strings.Contains(policy, "unsafe") {
		t.Errorf("%s %v", policy, err)
	}
	for _, key := range []string{"x", "pk_live_", "pk_live_!!", "pk_live_Y2xlcmsuZXhhbXBsZS5jb20=", "pk_test_J3NlbGYnOyAqJA=="} {
		if _, err := contentPolicy(credential.ClerkConfig{PublishableKey: key}, nil); err == nil {
			t.Errorf("%s: taken", key)
		}
	}
}

func TestHealth(t *testing.T) {
	h := newHarness(t)
	h.listening()
	token := h.token("user_2ada")
	type health struct {
		Status, Version string
		Stages          []argus.Stage
	}
	read := func() (v health, by map[string]argus.Stage) {
		t.Helper()
		resp := h.do(token, http.MethodGet, "/v1/health", nil)
		if resp.status != 200 {
			t.Fatalf("%d %s", resp.status, resp.body)
		}
		h.must(json.Unmarshal(resp.body, &v))
		by = map[string]argus.Stage{}
		for _, s := range v.Stages {
			by[s.Name] = s
		}
		return v, by
	}
	v, by := read()
	if len(v.Stages) != 5 || v.Version != argus.Version || v.Status != statusDegraded || by["replicator"].Status != statusDown ||
		by["postgres"].Status != statusOK || by["postgres"].Facts["months_ahead"].(float64) < 24 {
		t.Errorf("%+v", v)
	}
	replicator := h.pg.Pool(t, h.pg.ReplicatorURL)
	tell := func(sql string) {
		t.Helper()
		_, err := replicator.Exec(context.Background(), sql)
		h.must(err)
	}
	tell(`INSERT INTO argus.replicator_status (slot, updated_at, status) VALUES ('argus', now(), '{"state": "streaming", "lag_seconds": 0.1, "slot": {"wal_status": "reserved"}}')`)
	if v, by := read(); v.Status != statusOK || by["replicator"].Facts["lag_seconds"] != 0.1 || by["identity"].Status != statusOK {
		t.Errorf("%+v", v)
	}
	for status, want := range map[string]string{
		`{"state": "failing", "last_error": "postgres://somewhere"}`: statusDown, `{"state": "copying", "copied_rows": 5}`: statusDegraded,
		`{"state": "streaming", "lag_seconds": 99}`: statusDegraded, `{"state": "streaming", "slot": {"wal_status": "lost"}}`: statusDegraded,
		`{"state": 1}`: statusDegraded, `{"state": "streaming", "finding_count": 2}`: statusDegraded, `{"state": "streaming"}`: statusOK,
	} {
		tell(`UPDATE argus.replicator_status SET updated_at = now(), status = '` + status + `'`)
		if _, by := read(); by["replicator"].Status != want || strings.Contains(by["replicator"].Detail, "somewhere") {
			t.Errorf("%s: %+v", status, by["replicator"])
		}
	}
	tell(`UPDATE argus.replicator_status SET updated_at = now() - interval '1 minute', status = '{"state": "streaming"}'`)
	if v, by := read(); v.Status != statusDegraded || by["replicator"].Status != statusDown {
		t.Errorf("silent: %+v", v)
	}
	// The ledger is a stage as soon as a sealer has said anything, good or bad.
	if _, by := read(); by["ledger"].Name != "" {
		t.Errorf("%+v", by["ledger"])
	}
	sealer := h.pg.Pool(t, h.pg.LedgerURL)
	for status, want := range map[string]string{`{"state": "sealing", "size": 7}`: statusOK, `{"state": "forked", "problem": "at db.internal"}`: statusDown,
		`{"state": "failing"}`: statusDegraded, `{"state": 1}`: statusDegraded, `[]`: statusDegraded, `{"state": "sealing", "backlog_seconds": 99}`: statusDegraded} {
		if _, err := sealer.Exec(context.Background(), `INSERT INTO argus.ledger_status (updated_at, status) VALUES (now(), $1)
			ON CONFLICT (one) DO UPDATE SET updated_at = excluded.updated_at, status = excluded.status`, status); err != nil {
			t.Fatal(err)
		}
		if _, by := read(); by["ledger"].Status != want || strings.Contains(by["ledger"].Detail, "internal") || by["postgres"].Status != statusOK {
			t.Errorf("%s: %+v", status, by["ledger"])
		}
	}
	// So is what is shipped, as soon as a sink is declared. What a receiver said is for people who may read the log.
	if _, by := read(); by["ship"].Name != "" {
		t.Errorf("%+v", by["ship"])
	}
	for change, want := range map[string]string{
		`status = '{"state": "idle"}'`: statusOK, `status = '{"state": "retrying", "last_error": "at siem.internal"}'`: statusDegraded,
		`status = '{"state": "shipping", "lag_seconds": 1e4}'`: statusDegraded, `status = '{"state": 1}'`: statusDegraded, `status = '[]'`: statusDegraded,
		`updated_at = now() - interval '1 minute'`: statusDegraded, `updated_at = NULL`: statusDegraded, `status = '{"state": "idle", "retention_at": "2020-01-01T00:00:00Z"}'`: statusDegraded,
		`paused = true, status = '{"state": "paused", "lag_seconds": 1e9}'`: statusOK, `declared = false, updated_at = NULL`: "",
	} {
		owner := h.pg.Pool(t, h.pg.OwnerURL)
		for _, sql := range []string{`INSERT INTO argus.sinks (sink, kind, target, format, filter, status, updated_at) VALUES ('siem', 'https', 'siem.example.com', 'argus', '', '{"state": "idle"}', now())
			ON CONFLICT (sink) DO UPDATE SET declared = true, paused = false, status = excluded.status, updated_at = excluded.updated_at`, "UPDATE argus.sinks SET " + change} {
			if _, err := owner.Exec(context.Background(), sql); err != nil {
				t.Fatal(err)
			}
		}
		if _, by := read(); by["ship"].Status != want || strings.Contains(by["ship"].Detail, "internal") || by["postgres"].Status != statusOK {
			t.Errorf("%s: %+v", change, by["ship"])
		}
	}
	// Two copies of one log: a dead one is not hidden behind one that is well, and a slot that was dropped is no news.
	stages := replicatorStages([]replicatorWord{
		{Slot: "argus_a", UpdatedAt: time.Now(), Status: []byte(`{"state": "streaming"}`), Here: true},
		{Slot: "argus_b", UpdatedAt: time.Now().Add(-time.Minute), Status: []byte(`{"state": "streaming"}`), Here: true},
		{Slot: "argus_c", UpdatedAt: time.Now(), Status: []byte(`{"state": "failing"}`)},
	}, time.Now())
	if len(stages) != 2 || stages[0].Status != statusOK || stages[0].Facts["slot"] != "argus_a" ||
		stages[1].Status != statusDown || stages[1].Facts["slot"] != "argus_b" || stages[1].Name != "replicator" {
		t.Errorf("two slots: %+v", stages)
	}
	h.issuer.SetDown(true)
	h.age(keysMaxAge)
	h.do(h.issuer.Token("user_2ada"), http.MethodGet, "/v1/operators/me", nil)
	if _, by := read(); by["identity"].Status != statusDegraded {
		t.Errorf("Clerk away: %+v", by["identity"])
	}
}

// TestReadinessAndHealthAgree: for all facts, health is down exactly when the process is not ready, some stage then
// says why, and no status is better than any stage's.
func TestReadinessAndHealthAgree(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		f := facts{starting: rapid.Bool().Draw(t, "starting"), leaving: rapid.Bool().Draw(t, "leaving"),
			unwritable: rapid.SampledFrom([]error{nil, errors.New("only 1 monthly partitions ahead: run argusd maintain"),
				fmt.Errorf("wrapped: %w", errors.New("password"))}).Draw(t, "unwritable")}
		worst := statusOK
		for _, name := range []string{"writer", "postgres", "replicator", "clickhouse", "identity"} {
			s := argus.Stage{Name: name, Status: rapid.SampledFrom([]string{statusOK, statusDegraded, statusDown}).Draw(t, name)}
			if s.Status != statusOK {
				worst = s.Status
			}
			f.stages = append(f.stages, s)
		}
		status, stages := f.status()
		ready := f.unready() == ""
		if ready != (status != statusDown) {
			t.Fatalf("ready is %v and the status %s: %+v", ready, status, f)
		}
		if status == statusOK && worst != statusOK {
			t.Fatalf("ok with a stage that is %s: %+v", worst, f)
		}
		blamed := false
		for _, s := range stages {
			blamed = blamed || s.Status == statusDown
			if strings.Contains(s.Detail, "password") {
				t.Fatalf("a cause is shown: %+v", s)
			}
		}
		if status == statusDown && !blamed {
			t.Fatalf("down with no stage that is: %+v", stages)
		}
	})
}

func TestReadinessAndHealthAreServedAlike(t *testing.T) {
	h := newHarness(t)
	token := h.token("user_2ada")
	for _, unwritable := range []error{nil, errors.New("partitions and clock are not checked yet"), nil} {
		h.audit.set(func(f *fakeAudit) { f.check = unwritable })
		var v struct {
			Status string
			Ready  bool
			Stages []argus.Stage
		}
		h.must(json.Unmarshal(h.do(token, http.MethodGet, "/v1/health", nil).body, &v))
		probe := h.do("", http.MethodGet, "/readyz", nil).status
		if want := unwritable == nil; v.Ready != want || (probe == 200) != want || (v.Status == statusDown) == want {
			t.Errorf("%v: /readyz %d, health %+v", unwritable, probe, v)
		}
		if unwritable != nil && !strings.Contains(fmt.Sprint(v.Stages), "not checked yet") {
			t.Errorf("no stage says why: %+v", v.Stages)
		}
	}
}
