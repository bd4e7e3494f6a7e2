//go:build linux

package api

import (
	"net/http"
	"strings"
	"sync"
	"testing"

	"github.com/useargus/argus"
	"github.com/useargus/argus/api/provider"
)

func TestIdempotency(t *testing.T) {
	c := newControl(t)
	launch := func(who, key string, body any) *response {
		t.Helper()
		return c.post(who, "/compute/ops/launch", body, idempotencyHeader, key)
	}
	first := launch(ada, "k1", start)
	w := c.worker(first, http.StatusCreated)
	again := launch(ada, "k1", start)
	if c.worker(again, http.StatusCreated).ID != w.ID || string(again.body) != string(first.body) || again.header.Get(replayedHeader) != "true" || first.header.Get(replayedHeader) != "" {
		t.Errorf("first %s\nagain %s", first.body, again.body)
	}
	if auditID(again) == auditID(first) || len(c.steps(again)) != 0 || c.audit.appended[auditID(again)] != 1 {
		t.Error("the repetition has no row of its own, or steps")
	}
	c.want(launch(ada, "k1", launchBody{provider.LocalName, "another reason"}), http.StatusUnprocessableEntity, argus.CodeKeyReused)
	path := "/compute/ops/workers/" + w.ID + "/"
	c.want(c.post(ada, path+"stop", because, idempotencyHeader, "k1"), http.StatusUnprocessableEntity, argus.CodeKeyReused)
	if other := c.worker(launch(grace, "k1", start), http.StatusCreated); other.ID == w.ID {
		t.Error("keys are shared between actors")
	}

	// What was rejected was not done: the same key may do it later.
	c.want(c.post(ada, path+"resume", because, idempotencyHeader, "k2"), http.StatusConflict, argus.CodeConflict)
	c.worker(c.post(ada, path+"stop", because, idempotencyHeader, "k3"), http.StatusOK)
	c.worker(c.post(ada, path+"resume", because, idempotencyHeader, "k2"), http.StatusOK)
	c.want(c.post(ada, path+"stop", reasonBody{"no"}, idempotencyHeader, "k4"), http.StatusBadRequest, argus.CodeInvalidParameter)
	r := c.post(ada, path+"stop", because, idempotencyHeader, "k3") // done before, and not again
	if c.worker(r, http.StatusOK).State != WorkerStopped || c.list("")[w.ID].State != WorkerRunning {
		t.Errorf("replayed %s", r.body)
	}

	for _, bad := range [][]string{{idempotencyHeader, ""}, {idempotencyHeader, "a b"}, {idempotencyHeader, "ü"}, {idempotencyHeader, strings.Repeat("k", 256)},
		{idempotencyHeader, "a", idempotencyHeader, "b"}} {
		c.want(c.post(ada, "/compute/ops/launch", start, bad...), http.StatusBadRequest, argus.CodeInvalidParameter)
	}
	c.worker(launch(ada, strings.Repeat("~", 255), start), http.StatusCreated)

	// A day later a key is forgotten.
	before := len(c.list(""))
	_, err := c.owner.Exec(t.Context(), `UPDATE argus.idempotency_keys SET created_at = created_at - interval '24 hours 1 second'`)
	c.must(err)
	if c.worker(launch(ada, "k1", start), http.StatusCreated).ID == w.ID || len(c.list("")) != before+1 {
		t.Error("a key outlives its day")
	}
	c.must(c.api.deleteExpiredKeys(t.Context()))
	var kept int
	c.must(c.pool.QueryRow(t.Context(), `SELECT count(*) FROM argus.idempotency_keys`).Scan(&kept))
	if kept != 1 {
		t.Errorf("%d keys are kept, want the new one", kept)
	}
	c.checkRows()
}

// However often a launch is sent at once, and to whichever API, it happens once.
func TestRepetitionsAtOnce(t *testing.T) {
	c := newControl(t)
	urls := []string{c.url, c.serve()}
	release := make(chan struct{})
	c.provider.set(func(p *flakyProvider) { p.before = func(string) error { <-release; return nil } })
	answers := make(chan *response, 20)
	var wg sync.WaitGroup
	for i := range cap(answers) {
		wg.Go(func() { answers <- c.postTo(urls[i%2], ada, "/compute/ops/launch", start, idempotencyHeader, "k") })
	}
	for range cap(answers) - 1 { // all but the one that waits for the provider
		r := <-answers
		c.want(r, http.StatusConflict, argus.CodeConflict)
		if r.header.Get("Retry-After") == "" || len(c.steps(r)) != 0 {
			t.Errorf("%v, steps %q", r.header, c.steps(r))
		}
	}
	close(release)
	w := c.worker(<-answers, http.StatusCreated)
	wg.Wait()
	r := c.post(ada, "/compute/ops/launch", start, idempotencyHeader, "k")
	if list := c.list(""); c.worker(r, http.StatusCreated).ID != w.ID || len(list) != 1 {
		t.Errorf("listed %+v", list)
	}
	c.checkRows()
}

// No answer that holds a secret is kept, and its repetition makes no second one.
func TestKeysKeepNoSecret(t *testing.T) {
	c := newControl(t)
	body := `{"name":"ci","scopes":["logs:read"]}`
	r := c.post(ada, "/v1/tokens", body, idempotencyHeader, "k")
	c.want(r, http.StatusCreated, "")
	again := c.post(ada, "/v1/tokens", body, idempotencyHeader, "k")
	c.want(again, http.StatusConflict, argus.CodeConflict)
	if !strings.Contains(string(again.body), auditID(r).String()) {
		t.Errorf("the first call is not named: %s", again.body)
	}
	var dump string
	var tokens int
	c.must(c.pool.QueryRow(t.Context(), `SELECT (SELECT string_agg(k::text, ' ') FROM argus.idempotency_keys k),
		(SELECT count(*) FROM argus.personal_access_tokens WHERE name = 'ci')`).Scan(&dump, &tokens))
	if strings.Contains(dump, argus.PATPrefix) || tokens != 1 {
		t.Errorf("%d tokens; kept: %s", tokens, dump)
	}
	for _, route := range c.api.table {
		if route.Method == http.MethodPost && strings.HasSuffix(route.Path, "/tokens") && !route.Secret {
			t.Errorf("%s answers with a secret and is not registered so", route.Path)
		}
	}
}
