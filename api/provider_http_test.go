//go:build linux

package api

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/getkin/kin-openapi/openapi3"
	"github.com/getkin/kin-openapi/openapi3filter"
	legacy "github.com/getkin/kin-openapi/routers/legacy"

	"github.com/useargus/argus"
	"github.com/useargus/argus/api/provider"
	"github.com/useargus/argus/api/services"
	"github.com/useargus/argus/internal/sample"
)

// localFleet lets a controller run the instances of the local provider, so that one table tests both.
type localFleet struct {
	provider.Provider
	mu sync.Mutex // launches once for one worker
}

func (f *localFleet) instance(in provider.Instance) sample.Instance {
	out := sample.Instance{Handle: in.Handle, WorkerID: in.WorkerID, State: string(in.State), StartedAt: in.StartedAt, CostPerHour: in.CostPerHour}
	_ = json.Unmarshal(in.Ref, &out.Detail)
	return out
}

func (f *localFleet) find(ctx context.Context, has func(provider.Instance) bool) (provider.Instance, error) {
	all, err := f.Provider.List(ctx)
	if err != nil {
		return provider.Instance{}, err
	}
	if i := slices.IndexFunc(all, has); i >= 0 {
		return all[i], nil
	}
	return provider.Instance{}, sample.ErrUnknown
}

func (f *localFleet) Launch(ctx context.Context, workerID string) (sample.Instance, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	in, err := f.find(ctx, func(in provider.Instance) bool { return in.WorkerID == workerID })
	if err == sample.ErrUnknown {
		in, err = f.Provider.Launch(ctx, workerID)
	}
	return f.instance(in), err
}

func (f *localFleet) SetState(ctx context.Context, handle, state string) (sample.Instance, error) {
	in, err := f.find(ctx, func(in provider.Instance) bool { return in.Handle == handle })
	if err != nil {
		return sample.Instance{}, err
	}
	set := f.Resume
	if state == "stopped" {
		set = f.Stop
	}
	in.State = provider.State(state)
	return f.instance(in), set(ctx, in.Ref)
}

func (f *localFleet) Terminate(ctx context.Context, handle string) error {
	in, err := f.find(ctx, func(in provider.Instance) bool { return in.Handle == handle })
	if err != nil {
		return err
	}
	return f.Provider.Terminate(ctx, in.Ref)
}

func (f *localFleet) List(ctx context.Context) ([]sample.Instance, error) {
	all, err := f.Provider.List(ctx)
	out := []sample.Instance{}
	for _, in := range all {
		out = append(out, f.instance(in))
	}
	return out, err
}

// remote is a controller of the local provider's instances, and what can go wrong on the way to it.
type remote struct {
	url, front string // the controller's own address, and the one with faults before it
	mu         sync.Mutex
	fault      func(w http.ResponseWriter, r *http.Request, pass func() *http.Response) bool
	heard      []string // assertions that the controller was sent
}

// overHTTP is the provider "local" behind a controller: same instances, same name.
func (c *control) overHTTP(timeout time.Duration) (provider.Provider, *remote) {
	c.t.Helper()
	keys, err := services.ParseKeys("")
	c.must(err)
	issuer := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.Write(keys.JWKS()) }))
	c.t.Cleanup(issuer.Close)
	public, _ := url.Parse(issuer.URL)
	r := &remote{}
	verifier := &sample.Verifier{Issuer: issuer.URL, Audience: provider.LocalName}
	controller := httptest.NewServer((&sample.Controller{Verifier: verifier, Fleet: &localFleet{Provider: c.local}}).Handler(""))
	c.t.Cleanup(controller.Close)
	r.url = controller.URL
	target, _ := url.Parse(controller.URL)
	front := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, request *http.Request) {
		r.mu.Lock()
		fault := r.fault
		r.heard = append(r.heard, request.Header.Get("Argus-Assertion"))
		r.mu.Unlock()
		if fault != nil {
			body, _ := io.ReadAll(request.Body)
			pass := func() *http.Response {
				out := request.Clone(context.WithoutCancel(request.Context()))
				out.URL.Scheme, out.URL.Host, out.RequestURI = "http", target.Host, ""
				out.Body = io.NopCloser(strings.NewReader(string(body)))
				resp, err := http.DefaultTransport.RoundTrip(out)
				if err != nil {
					c.t.Error(err)
					return &http.Response{}
				}
				return resp
			}
			if fault(w, request, pass) {
				return
			}
			request.Body = io.NopCloser(strings.NewReader(string(body)))
		}
		(&httputil.ReverseProxy{Rewrite: func(p *httputil.ProxyRequest) { p.SetURL(target) }}).ServeHTTP(w, request)
	}))
	c.t.Cleanup(front.Close)
	verifier.Upstream, r.front = front.URL, front.URL
	p := provider.NewHTTP(provider.HTTPConfig{Name: provider.LocalName, URL: front.URL, Timeout: timeout, Assert: ProviderAssertions(keys, public)})
	c.t.Cleanup(p.(interface{ CloseIdleConnections() }).CloseIdleConnections)
	return p, r
}

// forEachProvider runs a test with the local provider, and with the same one behind a controller that is asked over HTTP.
func forEachProvider(t *testing.T, test func(*testing.T, *control)) {
	t.Run("local", func(t *testing.T) { test(t, newControl(t)) })
	t.Run("http", func(t *testing.T) {
		c := newControl(t)
		p, _ := c.overHTTP(time.Minute)
		c.provider.set(func(f *flakyProvider) { f.Provider = p })
		test(t, c)
	})
}

func (r *remote) set(fault func(http.ResponseWriter, *http.Request, func() *http.Response) bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.fault = fault
}

func hangUp(http.ResponseWriter, *http.Request, func() *http.Response) bool {
	panic(http.ErrAbortHandler)
}

// impatient gives an action up once its request hangs, which is told by hung. A clock would cut off others on a busy machine.
type impatient struct {
	provider.Provider
	hung <-chan struct{}
}

func (p impatient) act(ctx context.Context, do func(context.Context) error) error {
	ctx, giveUp := context.WithCancel(ctx)
	defer giveUp()
	go func() {
		select {
		case <-p.hung:
			giveUp()
		case <-ctx.Done():
		}
	}()
	return do(ctx)
}

func (p impatient) Launch(ctx context.Context, id string) (in provider.Instance, err error) {
	err = p.act(ctx, func(ctx context.Context) (err error) { in, err = p.Provider.Launch(ctx, id); return err })
	return in, err
}

func (p impatient) Stop(ctx context.Context, ref json.RawMessage) error {
	return p.act(ctx, func(ctx context.Context) error { return p.Provider.Stop(ctx, ref) })
}

func (p impatient) Resume(ctx context.Context, ref json.RawMessage) error {
	return p.act(ctx, func(ctx context.Context) error { return p.Provider.Resume(ctx, ref) })
}

func (p impatient) Terminate(ctx context.Context, ref json.RawMessage) error {
	return p.act(ctx, func(ctx context.Context) error { return p.Provider.Terminate(ctx, ref) })
}

// TestProviderDoubts: a request to a controller may fail in any way. The call's answer, its steps, the worker's state and
// the instances still agree on what is true.
func TestProviderDoubts(t *testing.T) {
	c := newControl(t)
	p, way := c.overHTTP(time.Minute)
	hung := make(chan struct{})
	c.provider.set(func(f *flakyProvider) { f.Provider = impatient{p, hung} })
	answers := func(status int, header, body string) func(http.ResponseWriter, *http.Request, func() *http.Response) bool {
		return func(w http.ResponseWriter, _ *http.Request, pass func() *http.Response) bool {
			pass().Body.Close()
			if header != "" {
				w.Header().Set("Location", header)
			}
			w.WriteHeader(status)
			io.WriteString(w, body)
			return true
		}
	}
	hang := func(pass bool) func(http.ResponseWriter, *http.Request, func() *http.Response) bool {
		return func(_ http.ResponseWriter, r *http.Request, do func() *http.Response) bool {
			if pass {
				do().Body.Close()
			}
			hung <- struct{}{}
			<-r.Context().Done()
			return true
		}
	}
	for _, fault := range []struct {
		name string
		done bool // the controller did it
		do   func(http.ResponseWriter, *http.Request, func() *http.Response) bool
	}{
		{"hangs up before it", false, hangUp},
		{"never hears", false, hang(false)},
		{"answers too late", true, hang(true)},
		{"loses the answer", true, func(_ http.ResponseWriter, _ *http.Request, pass func() *http.Response) bool {
			pass().Body.Close()
			panic(http.ErrAbortHandler)
		}},
		{"breaks off inside the answer", true, func(w http.ResponseWriter, _ *http.Request, pass func() *http.Response) bool {
			pass().Body.Close()
			w.Header().Set("Content-Length", "500")
			io.WriteString(w, `{"handle":`)
			return true
		}},
		{"says 500 after it", true, answers(500, "", `{"error":{"code":"oops","message":"half done"}}`)},
		{"answers a page", true, answers(502, "", "<html>")},
		{"redirects", true, answers(302, "http://127.0.0.1:1/", "")},
	} {
		for _, action := range []string{"launch", "stop", "resume", "terminate"} {
			t.Run(action+"/"+fault.name, func(t *testing.T) {
				path, body, from, w := "/compute/ops/launch", any(start), WorkerFailed, workerJSON{}
				if action != "launch" {
					w = c.launch(ada)
					if from = WorkerRunning; action == "resume" {
						c.worker(c.post(ada, "/compute/ops/workers/"+w.ID+"/stop", because), http.StatusOK)
						from = WorkerStopped
					}
					path, body = "/compute/ops/workers/"+w.ID+"/"+action, because
				}
				way.set(func(w http.ResponseWriter, r *http.Request, pass func() *http.Response) bool {
					return r.Method != http.MethodGet && fault.do(w, r, pass)
				})
				r := c.post(ada, path, body)
				way.set(nil)
				want := from
				if fault.done {
					want = transitions[action].done
				}
				if ok := r.status/100 == 2; ok != fault.done || !ok && (r.status != http.StatusBadGateway || r.code() != argus.CodeProviderFailed) {
					t.Fatalf("answered %d %s", r.status, r.body)
				}
				steps := c.steps(r)
				if len(steps) != 2 || fault.done != strings.Contains(steps[1], "succeeded") {
					t.Errorf("steps %q", steps)
				}
				id := w.ID
				if action == "launch" {
					id = strings.Fields(steps[0])[3]
				}
				if got := c.list("?all=true")[id]; got.State != want {
					t.Errorf("the worker is %s, want %s", got.State, want)
				}
				instances, err := c.local.List(t.Context())
				c.must(err)
				there := slices.ContainsFunc(instances, func(in provider.Instance) bool { return in.WorkerID == id && WorkerState(in.State) == want })
				if there != (want == WorkerRunning || want == WorkerStopped) || len(instances) > 1 {
					t.Errorf("the controller shows %+v, want %s", instances, want)
				}
				if want != WorkerTerminated {
					c.worker(c.post(ada, "/compute/ops/workers/"+id+"/terminate", because), http.StatusOK)
				}
				c.checkRows()
			})
		}
	}
	// While the controller tells nothing at all, ARGUS guesses nothing; afterwards any API finds out.
	way.set(hangUp)
	r := c.post(ada, "/compute/ops/launch", start)
	c.want(r, http.StatusBadGateway, argus.CodeProviderFailed)
	if steps := c.steps(r); len(steps) != 1 {
		t.Errorf("steps %q while nothing is known", steps)
	}
	way.set(nil)
	c.must(c.api.compute.reconcileOnce(t.Context()))
	if steps := c.steps(r); len(steps) != 2 || !strings.Contains(steps[1], "system launch") || !strings.Contains(steps[1], "failed") {
		t.Errorf("steps %q afterwards", steps)
	}
	c.checkRows()

	// No assertion was used twice, and none but the way's own was taken.
	way.mu.Lock()
	defer way.mu.Unlock()
	if slices.Sort(way.heard); len(way.heard) == 0 || len(slices.Compact(slices.Clone(way.heard))) != len(way.heard) {
		t.Error("an assertion was sent twice")
	}
	for _, header := range []string{"", way.heard[0]} {
		request, _ := http.NewRequest(http.MethodGet, way.url+"/instances", nil)
		request.Header.Set("Argus-Assertion", header)
		resp, err := http.DefaultClient.Do(request)
		c.must(err)
		resp.Body.Close()
		if resp.StatusCode != http.StatusUnauthorized {
			t.Errorf("the controller answered %d with the assertion %.10q", resp.StatusCode, header)
		}
	}
}

// TestHostileController: an answer that is not of the contract is an error, never a row or a panic.
func TestHostileController(t *testing.T) {
	answer := ""
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, answer) }))
	defer server.Close()
	p := provider.NewHTTP(provider.HTTPConfig{Name: "fleet", URL: server.URL, Timeout: time.Minute,
		Assert: func(provider.Request) (string, error) { return "x", nil }})
	defer p.(interface{ CloseIdleConnections() }).CloseIdleConnections()
	silent := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		io.Copy(io.Discard, r.Body) // or the server does not see that the caller has gone
		<-r.Context().Done()
	}))
	defer silent.Close()
	late := provider.NewHTTP(provider.HTTPConfig{Name: "fleet", URL: silent.URL, Timeout: 300 * time.Millisecond,
		Assert: func(provider.Request) (string, error) { return "x", nil }})
	defer late.(interface{ CloseIdleConnections() }).CloseIdleConnections()
	if in, err := late.Launch(t.Context(), "w"); err == nil {
		t.Errorf("a controller that says nothing launched %+v", in)
	}
	good := `{"handle":"i-1","worker_id":"w","state":"running","started_at":"2026-01-02T03:04:05Z","cost_per_hour":1,"detail":{"zone":"a"}}`
	answer = good
	in, err := p.Launch(t.Context(), "w")
	if err != nil || in.Handle != "i-1" || string(in.Ref) != `{"handle":"i-1","zone":"a"}` {
		t.Fatalf("a good answer: %+v, %v", in, err)
	}
	for _, bad := range []string{"", "null", "[]", `{}`, strings.Replace(good, "i-1", "../x", 1), strings.Replace(good, "i-1", "", 1), strings.Replace(good, "i-1", "a/b", 1),
		strings.Replace(good, "i-1", "..", 1), strings.Replace(good, "i-1", `a\u0000`, 1), strings.Replace(good, "running", "RUNNING", 1),
		strings.Replace(good, "2026-01-02T03:04:05Z", "yesterday", 1), strings.Replace(good, `_hour":1`, `_hour":-1`, 1), strings.Replace(good, `_hour":1`, `_hour":1e300`, 1),
		strings.Replace(good, `"w"`, `"other"`, 1), strings.Replace(good, `"a"`, `"\u0000"`, 1), strings.Replace(good, `{"zone":"a"}`, `"text"`, 1),
		strings.Replace(good, `"a"`, `"`+strings.Repeat("x", 20<<10)+`"`, 1), good[:50], good + good, `{"handle":"i-1","handle":"i-2"}`} {
		answer = bad
		if in, err := p.Launch(t.Context(), "w"); err == nil {
			t.Errorf("%.80s was taken as %+v", bad, in)
		}
		answer = `{"instances":[` + bad + `]}`
		if bad != "" && !strings.Contains(bad, `"other"`) {
			if all, err := p.List(t.Context()); err == nil {
				t.Errorf("%.80s was listed as %+v", answer, all)
			}
		}
	}
	for _, bad := range []string{`{"instances":[` + good + `,` + good + `]}`, `{"instances":null}`, `{"list":[]}`, `[` + good + `]`} {
		answer = bad
		if all, err := p.List(t.Context()); err == nil {
			t.Errorf("%.80s was listed as %+v", bad, all)
		}
	}
	// A list that is small as text and large as anything else.
	answer = `{"instances":[` + strings.Repeat("{},", 3<<20) + `{}]}`
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	_, err = p.List(t.Context())
	runtime.ReadMemStats(&after)
	if took := (after.TotalAlloc - before.TotalAlloc) >> 20; err == nil || took > 200 {
		t.Errorf("a list of nothing took %d MiB: %v", took, err)
	}
	for _, ref := range []string{`{}`, `{"handle":"../x"}`, `null`, ``, `{"handle":"a/b"}`} {
		if p.Stop(t.Context(), json.RawMessage(ref)) == nil || p.Terminate(t.Context(), json.RawMessage(ref)) == nil {
			t.Errorf("the reference %q was used", ref)
		}
	}
}

// TestProviderContract holds what ARGUS asks of a controller, and what the sample answers, against the document that
// others implement.
func TestProviderContract(t *testing.T) {
	loader := openapi3.NewLoader()
	doc, err := loader.LoadFromFile("../docs/provider.openapi.yaml")
	if err != nil {
		t.Fatal(err)
	}
	if err := doc.Validate(t.Context()); err != nil {
		t.Fatal(err)
	}
	doc.Servers = nil
	router, err := legacy.NewRouter(doc)
	if err != nil {
		t.Fatal(err)
	}
	c := newControl(t)
	p, way := c.overHTTP(time.Minute)
	asked := map[string]bool{}
	way.set(func(w http.ResponseWriter, r *http.Request, pass func() *http.Response) bool {
		resp := pass()
		defer resp.Body.Close()
		body, _ := io.ReadAll(resp.Body)
		defer func() {
			w.WriteHeader(resp.StatusCode)
			w.Write(body)
		}()
		route, params, err := router.FindRoute(r)
		if err != nil {
			t.Errorf("%s %s is not in the document: %v", r.Method, r.URL, err)
			return true
		}
		asked[route.Operation.OperationID+" "+strconv.Itoa(resp.StatusCode)] = true
		in := &openapi3filter.RequestValidationInput{Request: r, PathParams: params, Route: route,
			Options: &openapi3filter.Options{ExcludeRequestBody: true}}
		out := &openapi3filter.ResponseValidationInput{RequestValidationInput: in, Status: resp.StatusCode, Header: resp.Header}
		if err := errors.Join(openapi3filter.ValidateRequest(r.Context(), in), openapi3filter.ValidateResponse(r.Context(), out.SetBodyBytes(body))); err != nil {
			t.Errorf("%s %s: %v", r.Method, r.URL, err)
		}
		return true
	})
	in, err := p.Launch(t.Context(), "wk_contract")
	c.must(err)
	c.must(p.Stop(t.Context(), in.Ref))
	c.must(p.Resume(t.Context(), in.Ref))
	_, err = p.List(t.Context())
	c.must(err)
	c.must(p.Terminate(t.Context(), in.Ref))
	c.must(p.Terminate(t.Context(), in.Ref))
	if p.Stop(t.Context(), in.Ref) == nil {
		t.Error("what is gone was stopped")
	}
	for _, want := range []string{"launchInstance 200", "stopInstance 200", "resumeInstance 200", "listInstances 200", "terminateInstance 200", "terminateInstance 404", "stopInstance 404"} {
		if !asked[want] {
			t.Errorf("%s was not seen", want)
		}
	}
}
