package api

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/useargus/argus"
)

// TestDoorReload: the file is taken up whole or not at all. Calls under way keep the file they began with. Scopes come and
// go with it.
func TestDoorReload(t *testing.T) {
	d := newDoor(t, "    health: /healthz")
	d.clerkScopes()
	token := d.token("user_2ada")
	other := newUpstream(t)
	stage := func() argus.Stage {
		var health struct{ Stages []argus.Stage }
		d.do(token, "GET", "/v1/health", nil).json(t, &health)
		for _, s := range health.Stages {
			if s.Name == "services" {
				return s
			}
		}
		t.Fatal("health has no stage services")
		return argus.Stage{}
	}
	// A call that began before the change ends with the old service.
	arrived, going := make(chan struct{}), make(chan struct{})
	d.up.set(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/v1/invoices" {
			close(arrived)
			<-going
		}
		w.Write([]byte("old"))
	})
	other.set(func(w http.ResponseWriter, r *http.Request) { w.Write([]byte("new")) })
	answered := make(chan *response)
	go func() {
		resp, err := d.try(token, "GET", "/svc/billing/v1/invoices", nil)
		if err != nil {
			t.Error(err)
		}
		answered <- resp
	}()
	<-arrived
	audit := fmt.Sprintf(`  - name: audit
    upstream: %s
    scopes: {audit:read: Look}
    presets: {admin-full: [audit:read]}
    routes: [{route: "GET /v1/things", scope: audit:read}]
`, other.server.URL)
	d.write(t, fmt.Sprintf(doorFile, other.server.URL, "", audit))
	eventually(t, "the change is noticed", func() bool { return len(d.config.Services.Services()) == 2 })
	if resp := d.do(token, "GET", "/svc/billing/v1/invoices/7", nil); string(resp.body) != "new" {
		t.Errorf("%d %s", resp.status, resp.body)
	}
	close(going)
	if resp := <-answered; resp == nil || string(resp.body) != "old" {
		t.Errorf("the call that was under way: %+v", resp)
	}
	// The new scope: not in a token that was made before, in one that is made now.
	if resp := d.do(token, "GET", "/svc/audit/v1/things", nil); resp.status != 403 {
		t.Errorf("a token of before: %d", resp.status)
	}
	now := d.token("user_2ada")
	if resp := d.do(now, "GET", "/svc/audit/v1/things", nil); resp.status != 200 {
		t.Errorf("a token of now: %d %s", resp.status, resp.body)
	}
	// A bad file is rejected whole: nothing changes, and it is told.
	d.write(t, "services:\n  - {name: broken, upstream: nowhere}\n")
	eventually(t, "the mistake is noticed", func() bool { return d.config.Services.Problem() != nil })
	if resp := d.do(now, "GET", "/svc/audit/v1/things", nil); resp.status != 200 {
		t.Errorf("after a bad file: %d", resp.status)
	}
	if s := stage(); s.Status != "degraded" || !strings.Contains(s.Detail, "argusd check services") {
		t.Errorf("%+v", s)
	}
	if testutil.ToFloat64(d.api.metrics.fileRejected) != 1 {
		t.Error("no metric")
	}
	// The service goes, and its scope with it; the token stays good for the rest. Back, it is what it was.
	d.write(t, fmt.Sprintf(doorFile, other.server.URL, "    health: /healthz", ""))
	eventually(t, "the service is gone", func() bool { return len(d.config.Services.Services()) == 1 && d.config.Services.Problem() == nil })
	if resp := d.do(now, "GET", "/svc/audit/v1/things", nil); resp.status != 404 {
		t.Errorf("a service that is gone: %d", resp.status)
	}
	var me struct{ Scopes []string }
	d.do(now, "GET", "/v1/operators/me", nil).json(t, &me)
	if strings.Contains(strings.Join(me.Scopes, " "), "audit:read") || !strings.Contains(strings.Join(me.Scopes, " "), "billing:read") {
		t.Errorf("scopes %v", me.Scopes)
	}
	if resp := d.do(now, "POST", "/v1/tokens", map[string]any{"name": "x", "scopes": []string{"audit:read"}}); resp.status != 400 {
		t.Errorf("a token of a scope that is gone: %d %s", resp.status, resp.body)
	}
	d.write(t, fmt.Sprintf(doorFile, other.server.URL, "", audit))
	eventually(t, "the service is back", func() bool { return d.do(now, "GET", "/svc/audit/v1/things", nil).status == 200 })
	if testutil.ToFloat64(d.api.metrics.fileRejected) != 0 {
		t.Error("the metric stays")
	}
}

// TestDoorReloadUnderLoad: reloads between two services lose no call: acknowledged calls = rows = heard ones.
func TestDoorReloadUnderLoad(t *testing.T) {
	var heardBy [2]atomic.Int64
	var servers [2]*httptest.Server
	for i := range servers {
		servers[i] = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			heardBy[i].Add(1)
			w.Write([]byte("ok"))
		}))
		t.Cleanup(servers[i].Close)
	}
	d := newDoorTo(t, servers[0].URL, "", nil, func(c *Config) { c.Limits = Limits{PerSecond: -1} })
	d.clerkScopes()
	token := d.token("user_2ada")
	stop := make(chan struct{})
	var all sync.WaitGroup
	var answered atomic.Int64
	for n := range 8 {
		all.Go(func() {
			method := []string{"GET", "POST"}[n%2]
			for {
				select {
				case <-stop:
					return
				default:
				}
				resp, err := d.try(token, method, "/svc/billing/v1/invoices", nil)
				if err != nil || resp.status != 200 {
					t.Errorf("%v %+v", err, resp)
					return
				}
				answered.Add(1)
			}
		})
	}
	for i := 0; i < 30 || i < 4000 && (heardBy[0].Load() == 0 || heardBy[1].Load() == 0); i++ { // a busy machine lets callers wait
		d.write(t, fmt.Sprintf(doorFile, servers[(i+1)%2].URL, fmt.Sprintf("    concurrency: %d", 16+i%30), ""))
		if err := d.config.Services.Reload(); err != nil {
			t.Error(err)
		}
		time.Sleep(15 * time.Millisecond)
	}
	close(stop)
	all.Wait()
	rows := int64(len(d.audit.taken()))
	if heard := heardBy[0].Load() + heardBy[1].Load(); rows != answered.Load() || heard != rows || heardBy[0].Load() == 0 || heardBy[1].Load() == 0 {
		t.Errorf("%d answered, %d rows, %d heard", answered.Load(), rows, heard)
	}
}
