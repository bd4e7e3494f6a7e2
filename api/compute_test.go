//go:build linux

package api

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/useargus/argus"
	"github.com/useargus/argus/api/provider"
)

func TestComputeLifecycle(t *testing.T) { forEachProvider(t, testComputeLifecycle) }

func testComputeLifecycle(t *testing.T, c *control) {
	c.want(c.post(ada, "/compute/ops/launch", launchBody{provider.LocalName, "ride\x00along"}), http.StatusBadRequest, argus.CodeInvalidParameter)
	r := c.post(ada, "/compute/ops/launch", launchBody{provider.LocalName, "  ride\n along "})
	w := c.worker(r, http.StatusCreated)
	c.wantSteps(r, "1 user_2ada launch "+w.ID+" local >launching requested", "2 user_2ada launch "+w.ID+" local launching>running succeeded")
	if *w.Reason != "ride along" || *w.LaunchedBy != ada || w.State != WorkerRunning || w.Orphan || w.Provider != provider.LocalName {
		t.Errorf("launched %s", r.body)
	}
	pid := pidOf(t, w.Ref)
	path := "/compute/ops/workers/" + w.ID

	act := func(action string, want WorkerState, steps ...string) {
		t.Helper()
		r := c.post(grace, path+"/"+action, because)
		if got := c.worker(r, http.StatusOK); got.State != want || got.ID != w.ID {
			t.Errorf("%s answered %s", action, r.body)
		}
		c.wantSteps(r, steps...)
		if got, listed := c.list("")[w.ID]; want == WorkerTerminated && listed || want != WorkerTerminated && got.State != want {
			t.Errorf("after %s the list shows %+v", action, got)
		}
	}
	conflict := func(action string, state WorkerState) {
		t.Helper()
		r := c.post(ada, path+"/"+action, because)
		c.want(r, http.StatusConflict, argus.CodeConflict)
		c.wantSteps(r, fmt.Sprintf("1 user_2ada %s %s local %s> denied conflict: ", action, w.ID, state))
	}
	conflict("resume", WorkerRunning)
	act("stop", WorkerStopped, "1 user_2grace stop "+w.ID+" local running>stopping requested", "2 user_2grace stop "+w.ID+" local stopping>stopped succeeded")
	if s := procState(pid); s != 'T' {
		t.Errorf("the stopped process is in state %c", s)
	}
	conflict("stop", WorkerStopped)
	act("resume", WorkerRunning, "1 user_2grace resume "+w.ID+" local stopped>resuming requested", "2 user_2grace resume "+w.ID+" local resuming>running succeeded")
	if s := procState(pid); s == 'T' || s == 0 {
		t.Errorf("the resumed process is in state %q", s)
	}
	act("terminate", WorkerTerminated, "1 user_2grace terminate "+w.ID+" local running>terminating requested", "2 user_2grace terminate "+w.ID+" local terminating>terminated succeeded")
	if procState(pid) != 0 {
		t.Error("the terminated process lives")
	}
	for _, action := range []string{"stop", "resume", "terminate"} {
		conflict(action, WorkerTerminated)
	}
	if got := c.list("?all=true")[w.ID]; got.State != WorkerTerminated {
		t.Errorf("?all=true shows %+v", got)
	}

	// What is no action on a worker leaves its call's row and no step.
	none := func(r *response, status int, code argus.Code) {
		t.Helper()
		c.want(r, status, code)
		c.wantSteps(r)
	}
	none(c.post(ada, "/compute/ops/workers/wk_none/stop", because), http.StatusNotFound, argus.CodeNotFound)
	none(c.post(ada, "/compute/ops/workers/%00%ff/terminate", because), http.StatusNotFound, argus.CodeNotFound)
	none(c.post(ada, "/compute/ops/launch", launchBody{"mars", "ride-along"}), http.StatusBadRequest, argus.CodeInvalidParameter)
	for _, reason := range []string{"", "  ab ", strings.Repeat("é", 501)} {
		none(c.post(ada, "/compute/ops/launch", launchBody{provider.LocalName, reason}), http.StatusBadRequest, argus.CodeInvalidParameter)
		none(c.post(ada, path+"/stop", reasonBody{reason}), http.StatusBadRequest, argus.CodeInvalidParameter)
	}
	c.want(c.post(ada, path+"/stop", reasonBody{strings.Repeat("é", 500)}), http.StatusConflict, argus.CodeConflict)
	none(c.do(c.tokens[ada], http.MethodGet, "/compute/ops/workers?all=perhaps", nil), http.StatusBadRequest, argus.CodeInvalidParameter)
	none(c.do(c.token(ada, argus.ScopeComputeRead), http.MethodPost, path+"/stop", because), http.StatusForbidden, argus.CodeForbidden)
	c.checkRows()
}

// Two operators at once, at two API processes: one wins, and both have their rows.
func TestTwoOperatorsAtOnce(t *testing.T) { forEachProvider(t, testTwoOperatorsAtOnce) }

func testTwoOperatorsAtOnce(t *testing.T, c *control) {
	urls := map[string]string{ada: c.url, grace: c.serve()}
	w := c.launch(ada)
	path := "/compute/ops/workers/" + w.ID + "/"
	both := func(action string) {
		t.Helper()
		var wg sync.WaitGroup
		answers := map[string]*response{ada: nil, grace: nil}
		var mu sync.Mutex
		for who := range urls {
			wg.Go(func() {
				r := c.postTo(urls[who], who, path+action, because)
				mu.Lock()
				defer mu.Unlock()
				answers[who] = r
			})
		}
		wg.Wait()
		won := 0
		for who, r := range answers {
			if r.status == http.StatusOK {
				won++
				c.wantSteps(r, "1 "+who, "2 "+who)
				continue
			}
			c.want(r, http.StatusConflict, argus.CodeConflict)
			c.wantSteps(r, "1 "+who+" "+action+" "+w.ID+" local ")
		}
		if won != 1 {
			t.Fatalf("%d of two won", won)
		}
	}
	for i := range 50 {
		both([]string{"stop", "resume"}[i%2])
	}
	both("terminate")
	c.checkRows()
}

func TestProviderFailures(t *testing.T) { forEachProvider(t, testProviderFailures) }

func testProviderFailures(t *testing.T, c *control) {
	broken := errors.New("no capacity in zone b")
	fail := func(p *flakyProvider) { p.before = onlyOnce(func() error { return broken }) }

	// Nothing was done.
	c.provider.set(fail)
	r := c.post(ada, "/compute/ops/launch", start, idempotencyHeader, "again")
	c.want(r, http.StatusBadGateway, argus.CodeProviderFailed)
	c.want(c.post(ada, "/compute/ops/launch", start, idempotencyHeader, "again"), http.StatusBadGateway, argus.CodeProviderFailed) // kept
	if strings.Contains(string(r.body), broken.Error()) {
		t.Errorf("the caller is told the cause: %s", r.body)
	}
	var failed workerJSON
	for _, failed = range c.list("") {
	}
	c.wantSteps(r, "1 user_2ada launch "+failed.ID+" local >launching requested", "2 user_2ada launch "+failed.ID+" local launching>failed failed no capacity in zone b")
	if failed.State != WorkerFailed {
		t.Errorf("listed %+v", failed)
	}
	c.worker(c.post(ada, "/compute/ops/workers/"+failed.ID+"/terminate", because), http.StatusOK)

	w := c.launch(ada)
	path := "/compute/ops/workers/" + w.ID + "/"
	c.provider.set(fail)
	r = c.post(ada, path+"stop", because)
	c.want(r, http.StatusBadGateway, argus.CodeProviderFailed)
	c.wantSteps(r, "1 user_2ada stop "+w.ID+" local running>stopping requested", "2 user_2ada stop "+w.ID+" local stopping>running failed no capacity in zone b")

	// The provider says no, but it was done.
	c.provider.set(func(p *flakyProvider) { p.before, p.after = nil, onlyOnce(func() error { return broken }) })
	r = c.post(ada, path+"stop", because)
	c.worker(r, http.StatusOK)
	c.wantSteps(r, "1 user_2ada stop", "2 user_2ada stop "+w.ID+" local stopping>stopped succeeded")

	// The outcome is unknown: it stays wanted until the provider answers, and is reconciled then.
	c.provider.set(func(p *flakyProvider) {
		p.before, p.after, p.list = nil, onlyOnce(func() error { return broken }), errors.New("provider away")
	})
	r = c.post(ada, path+"resume", because)
	c.want(r, http.StatusBadGateway, argus.CodeProviderFailed)
	c.wantSteps(r, "1 user_2ada resume")
	if got := c.list("")[w.ID]; got.State != WorkerResuming {
		t.Errorf("listed %+v", got)
	}
	c.want(c.post(ada, path+"terminate", because), http.StatusConflict, argus.CodeConflict)
	c.provider.set(func(p *flakyProvider) { p.list = nil })
	eventually(t, "reconciled", func() bool { return c.list("")[w.ID].State == WorkerRunning })
	c.wantSteps(r, "1 user_2ada resume", "2 system resume "+w.ID+" local resuming>running succeeded")

	// The worker ends on its own while it is being stopped.
	c.provider.set(func(p *flakyProvider) {
		p.after, p.before = nil, onlyOnce(func() error { return syscall.Kill(pidOf(t, w.Ref), syscall.SIGKILL) })
	})
	r = c.post(ada, path+"stop", because)
	c.want(r, http.StatusBadGateway, argus.CodeProviderFailed)
	c.wantSteps(r, "1 user_2ada stop", "2 user_2ada stop "+w.ID+" local stopping>terminated failed")

	// A worker that ends without any call.
	w = c.launch(grace)
	c.must(syscall.Kill(pidOf(t, w.Ref), syscall.SIGSTOP))
	eventually(t, "seen to be stopped", func() bool { return c.list("")[w.ID].State == WorkerStopped })
	c.must(syscall.Kill(pidOf(t, w.Ref), syscall.SIGKILL))
	eventually(t, "seen to have ended", func() bool { _, there := c.list("")[w.ID]; return !there })
	c.checkRows()
}

func TestOrphans(t *testing.T) { forEachProvider(t, testOrphans) }

func testOrphans(t *testing.T, c *control) {
	w := c.launch(ada)
	// One that no row knows, one that carries the id of another's row.
	lost, err := c.local.Launch(t.Context(), "wk_lost")
	c.must(err)
	twin, err := c.local.Launch(t.Context(), w.ID)
	c.must(err)
	list := c.list("")
	if len(list) != 3 || list[w.ID].Orphan || !list[lost.Handle].Orphan || !list[twin.Handle].Orphan || list[lost.Handle].State != WorkerRunning {
		t.Fatalf("listed %+v", list)
	}
	for _, action := range []string{"stop", "resume"} {
		r := c.post(ada, "/compute/ops/workers/"+lost.Handle+"/"+action, because)
		c.want(r, http.StatusConflict, argus.CodeConflict)
		c.wantSteps(r, "1 user_2ada "+action+" "+lost.Handle+" local running> denied")
	}
	urls := []string{c.url, c.serve()}
	for _, orphan := range []provider.Instance{lost, twin} {
		var wg sync.WaitGroup
		answers := make([]*response, len(urls))
		for i, url := range urls {
			wg.Go(func() {
				answers[i] = c.postTo(url, []string{ada, grace}[i], "/compute/ops/workers/"+orphan.Handle+"/terminate", because)
			})
		}
		wg.Wait()
		won := 0
		for _, r := range answers {
			if r.status == http.StatusOK {
				won++
				c.wantSteps(r, "1 ", "2 ")
			} else if r.status != http.StatusNotFound { // it was gone before this one looked
				c.want(r, http.StatusConflict, argus.CodeConflict)
			}
		}
		if won != 1 || procState(pidOf(t, orphan.Ref)) != 0 {
			t.Errorf("%d of two terminated %s, which is in state %q", won, orphan.Handle, procState(pidOf(t, orphan.Ref)))
		}
	}
	if list := c.list(""); len(list) != 1 || list[w.ID].State != WorkerRunning {
		t.Errorf("listed %+v", list)
	}
	// A denied termination of an orphan is not the end of it.
	lost, err = c.local.Launch(t.Context(), "wk_lost")
	c.must(err)
	c.provider.set(func(p *flakyProvider) { p.before = onlyOnce(func() error { return errBroken }) })
	c.want(c.post(ada, "/compute/ops/workers/"+lost.Handle+"/terminate", because), http.StatusBadGateway, argus.CodeProviderFailed)
	if got := c.list("")[lost.Handle]; !got.Orphan || got.State != WorkerRunning {
		t.Errorf("listed %+v", got)
	}
	c.want(c.post(ada, "/compute/ops/workers/"+lost.Handle+"/stop", because), http.StatusConflict, argus.CodeConflict)
	c.worker(c.post(ada, "/compute/ops/workers/"+lost.Handle+"/terminate", because), http.StatusOK)
	c.checkRows()
}

// The API's own role cannot rewrite what it has written about a worker.
func TestWorkersGrants(t *testing.T) {
	c := newControl(t)
	w := c.launch(ada)
	c.worker(c.post(ada, "/compute/ops/workers/"+w.ID+"/terminate", because), http.StatusOK)
	for _, sql := range []string{
		`UPDATE argus.workers SET launched_by = 'user_2grace'`,
		`UPDATE argus.workers SET state = 'running', ended_at = NULL`, // terminated is final
		`UPDATE argus.workers SET reason = 'another'`,
		`DELETE FROM argus.workers`,
		`TRUNCATE argus.workers`,
		`UPDATE argus.compute_control_audit SET reason = 'another'`,
		`INSERT INTO argus.workers (id, provider, state, launched_by) VALUES ('wk_x', 'local', 'launching', 'user_2ada')`, // whose call?
	} {
		if _, err := c.pool.Exec(context.Background(), sql); err == nil {
			t.Errorf("allowed: %s", sql)
		}
	}
}
