package check

import (
	"bytes"
	"cmp"
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/useargus/argus"
	"github.com/useargus/argus/api/provider"
	"github.com/useargus/argus/api/services"
)

// Provider is a fleet's controller, which is tried against docs/provider.openapi.yaml. The trial launches one instance and
// destroys it again.
type Provider struct {
	Declared *services.Provider
	Provider provider.Provider
	Assert   func(provider.Request) (string, error)

	settling time.Duration // shortened by tests
}

// settling is how long a controller may take until its list shows what it answered.
const settling = 10 * time.Second

// Check runs the trial. What it launched is destroyed, also when it fails.
func (c Provider) Check(ctx context.Context, r *Report) {
	name := c.Declared.Name
	u, err := url.Parse(c.Declared.URL)
	if err != nil || !endpoint(ctx, r, name, u, c.Declared.TLSConfig()) {
		return
	}
	before, err := c.Provider.List(ctx)
	r.Line(name+": list the instances", err, "GET /instances answers 200 with {\"instances\": [...]}, each with handle, worker_id, state, started_at, cost_per_hour")
	if err != nil {
		return
	}
	c.credentials(ctx, r)
	c.unknown(ctx, r)

	id := "argus-check-" + token()
	mine := func(all []provider.Instance) (found []provider.Instance) {
		for _, in := range all {
			if in.WorkerID == id {
				found = append(found, in)
			}
		}
		return found
	}
	defer func() { // after any failure too
		end, cancel := context.WithTimeout(context.WithoutCancel(ctx), 20*time.Second)
		defer cancel()
		all, err := c.Provider.List(end)
		for _, in := range mine(all) {
			err = errors.Join(err, c.Provider.Terminate(end, in.Ref))
		}
		if err != nil {
			r.Warn(fmt.Sprintf("%s: an instance of worker %s may be left: %v", name, id, err))
		}
	}()

	// One worker, asked for by two at once and then again, has one instance.
	var launched [3]provider.Instance
	var failed [3]error
	var both sync.WaitGroup
	for i := range 2 {
		both.Go(func() { launched[i], failed[i] = c.Provider.Launch(ctx, id) })
	}
	both.Wait()
	launched[2], failed[2] = c.Provider.Launch(ctx, id)
	err = errors.Join(failed[:]...)
	r.Line(name+": launch", err, "POST /instances answers 200 or 201 with the instance of the worker_id, however often it is asked for")
	if err != nil {
		return
	}
	in := launched[0]
	if launched[1].Handle != in.Handle || launched[2].Handle != in.Handle {
		err = fmt.Errorf("three launches of one worker_id answered the handles %s, %s and %s", in.Handle, launched[1].Handle, launched[2].Handle)
	}
	r.Line(name+": launch is idempotent", err, "keep the worker_id with the instance, under a unique key, and answer with the instance that is there")
	if err != nil {
		return
	}
	all, err := c.listed(ctx, func(all []provider.Instance) bool { return len(mine(all)) == 1 })
	if err == nil && len(mine(all)) != 1 {
		err = fmt.Errorf("%s with the name of the worker", argus.Counted(len(mine(all)), "instance"))
	}
	for _, old := range before {
		if err == nil && !slices.ContainsFunc(all, func(in provider.Instance) bool { return in.Handle == old.Handle }) {
			r.note(fmt.Sprintf("%s: instance %s was listed before and is not now; if it was not destroyed meanwhile, the list is not whole", name, old.Handle))
		}
	}
	r.Line(name+": the list has it, with its worker_id", err, "GET /instances lists every instance from the moment its launch was accepted; where there are pages, join them")
	if err != nil {
		return
	}
	step := func(what string, do func() error, want provider.State, mend string) {
		err := do()
		if err == nil {
			err = do() // again: as it is
		}
		if err == nil {
			all, err = c.listed(ctx, func(all []provider.Instance) bool { f := mine(all); return len(f) == 1 && f[0].State == want })
			if f := mine(all); err == nil && (len(f) != 1 || f[0].State != want) {
				err = fmt.Errorf("the list does not show it %s", want)
			}
		}
		r.Line(name+": "+what, err, mend)
	}
	step("stop, twice", func() error { return c.Provider.Stop(ctx, in.Ref) }, provider.Stopped, "POST /instances/HANDLE/stop suspends it, and is no error when it is suspended already")
	step("resume, twice", func() error { return c.Provider.Resume(ctx, in.Ref) }, provider.Running, "POST /instances/HANDLE/resume continues it, and is no error when it runs")
	err = c.Provider.Terminate(ctx, in.Ref)
	if err == nil {
		err = c.Provider.Terminate(ctx, in.Ref)
	}
	if err == nil {
		all, err = c.listed(ctx, func(all []provider.Instance) bool { return len(mine(all)) == 0 })
		if err == nil && len(mine(all)) > 0 {
			err = errors.New("a destroyed instance is listed")
		}
	}
	r.Line(name+": destroy, twice", err, "DELETE /instances/HANDLE destroys it; one that is gone is answered 404 with the code unknown_instance, or 200, and is listed no more")
}

// listed asks for the list until ok, or for as long as a controller may take.
func (c Provider) listed(ctx context.Context, ok func([]provider.Instance) bool) (all []provider.Instance, err error) {
	for deadline := time.Now().Add(cmp.Or(c.settling, settling)); ; {
		if all, err = c.Provider.List(ctx); err != nil || ok(all) || time.Now().After(deadline) {
			return all, err
		}
		select {
		case <-ctx.Done():
			return all, ctx.Err()
		case <-time.After(200 * time.Millisecond):
		}
	}
}

// credentials sends requests that the controller must reject.
func (c Provider) credentials(ctx context.Context, r *Report) {
	base := strings.TrimSuffix(c.Declared.URL, "/")
	list := provider.Request{Provider: c.Declared.Name, Method: http.MethodGet, URL: base + "/instances"}
	sign := func(edit func(*provider.Request)) string {
		request := list
		edit(&request)
		assertion, err := c.Assert(request)
		if err != nil {
			return ""
		}
		return assertion
	}
	good := sign(func(*provider.Request) {})
	forged := good[:max(0, len(good)-8)] + "AAAAAAAA"
	client := &http.Client{Timeout: 10 * time.Second, Transport: &http.Transport{TLSClientConfig: c.Declared.TLSConfig(), DisableKeepAlives: true},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	var taken []string
	for _, attempt := range []struct{ what, assertion string }{
		{"no assertion", ""},
		{"an assertion with another signature", forged},
		{"an assertion for another provider", sign(func(r *provider.Request) { r.Provider = "another" })},
		{"an assertion for another route", sign(func(r *provider.Request) { r.URL += "/x/stop" })},
		{"an assertion for another method", sign(func(r *provider.Request) { r.Method = http.MethodDelete })},
		{"an assertion for another body", sign(func(r *provider.Request) { r.Body = []byte("x") })},
	} {
		if status, err := c.send(ctx, client, list.URL, attempt.assertion); err == nil && status < 400 {
			taken = append(taken, attempt.what)
		}
	}
	if first, err := c.send(ctx, client, list.URL, good); err == nil && first < 300 {
		if again, err := c.send(ctx, client, list.URL, good); err == nil && again < 400 {
			taken = append(taken, "an assertion that was used before")
		}
	}
	var err error
	if len(taken) > 0 {
		err = fmt.Errorf("it answers a request with %s", strings.Join(taken, ", and one with "))
	}
	r.Line(c.Declared.Name+": assertions", err, "check Argus-Assertion as docs/services.md shows, and reject with 401")
}

func (c Provider) send(ctx context.Context, client *http.Client, url, assertion string) (int, error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, bytes.NewReader(nil))
	if err != nil {
		return 0, err
	}
	if assertion != "" {
		request.Header.Set("Argus-Assertion", assertion)
	}
	resp, err := client.Do(request)
	if err != nil {
		return 0, err
	}
	resp.Body.Close()
	return resp.StatusCode, nil
}

// unknown asks for an instance that never was.
func (c Provider) unknown(ctx context.Context, r *Report) {
	ref := fmt.Appendf(nil, `{"handle":"argus-check-%s"}`, token())
	var taken []string
	if c.Provider.Stop(ctx, ref) == nil {
		taken = append(taken, "stop")
	}
	if c.Provider.Resume(ctx, ref) == nil {
		taken = append(taken, "resume")
	}
	var err error
	if len(taken) > 0 {
		err = fmt.Errorf("%s of a handle that never was is answered as done", strings.Join(taken, " and "))
	} else if gone := c.Provider.Terminate(ctx, ref); gone != nil {
		err = fmt.Errorf("destroying what is gone is an error: %w", gone)
	}
	r.Line(c.Declared.Name+": an unknown handle", err, "answer 404 with {\"error\": {\"code\": \"unknown_instance\", \"message\": …}}")
}

func token() string {
	var b [6]byte
	_, _ = rand.Read(b[:]) // never fails
	return hex.EncodeToString(b[:])
}
