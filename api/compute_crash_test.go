//go:build linux

package api

import (
	"context"
	"fmt"
	"net/http"
	"runtime"
	"slices"
	"testing"

	"github.com/google/uuid"

	"github.com/useargus/argus"
	"github.com/useargus/argus/api/provider"
)

// vanish ends the goroutine that serves a call as a crash would: nothing behind it is run, nothing is answered.
func vanish() error {
	runtime.Goexit()
	return nil
}

func panics() error { panic("broken on purpose") }

// crashPoints are the places at which a call can be interrupted, in order.
var crashPoints = []struct {
	name       string
	set        func(c *control)
	began      bool // the intent was committed
	effect     bool // the provider has acted
	answered   bool // the process lived, and answered with an error
	reconciled bool // the outcome was written down before
	row        bool // the row as well
}{
	{name: "announcing", set: func(c *control) { c.audit.dieAnnouncing = true }},
	{name: "before the effect", began: true, set: func(c *control) { c.provider.before = onlyOnce(vanish) }},
	{name: "panic before the effect", began: true, answered: true, set: func(c *control) { c.provider.before = onlyOnce(panics) }},
	{name: "after the effect", began: true, effect: true, set: func(c *control) { c.provider.after = onlyOnce(vanish) }},
	{name: "panic after the effect", began: true, effect: true, answered: true, set: func(c *control) { c.provider.after = onlyOnce(panics) }},
	{name: "reconciling rejected", began: true, effect: true, answered: true, set: func(c *control) { c.breakReconciling(true) }},
	{name: "before the row", began: true, effect: true, reconciled: true, set: func(c *control) { c.audit.dieBefore = true }},
	{name: "after the row", began: true, effect: true, reconciled: true, row: true, set: func(c *control) { c.audit.dieAfter = true }},
}

// breakReconciling makes Postgres reject the end of operations.
func (c *control) breakReconciling(on bool) {
	c.t.Helper()
	sql := `DROP TRIGGER broken ON argus.workers`
	if on {
		sql = `CREATE OR REPLACE FUNCTION argus.broken() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'broken on purpose'; END $$;
			CREATE TRIGGER broken BEFORE UPDATE ON argus.workers FOR EACH ROW
			WHEN (OLD.op_audit_id IS NOT NULL AND NEW.op_audit_id IS NULL) EXECUTE FUNCTION argus.broken()`
	}
	_, err := c.owner.Exec(context.Background(), sql)
	c.must(err)
}

// A call may be interrupted anywhere. As soon as another API process has looked, the call has one row, and its steps say
// what is true. The worker is shown as it is. A repetition with the same key gets the answer.
func TestComputeCrashPoints(t *testing.T) { forEachProvider(t, testComputeCrashPoints) }

func testComputeCrashPoints(t *testing.T, c *control) {
	c.client.Transport.(*http.Transport).DisableKeepAlives = true // or net/http itself repeats what was cut off
	doomed := *c.harness                                          // the process whose calls are interrupted
	c.serve()
	for _, action := range []string{"launch", "stop", "resume", "terminate"} {
		for i, point := range crashPoints {
			t.Run(action+"/"+point.name, func(t *testing.T) {
				path, body := "/compute/ops/launch", any(start)
				var w workerJSON
				from := WorkerFailed
				if action != "launch" {
					w = c.launch(ada)
					if from = WorkerRunning; action == "resume" {
						c.worker(c.post(ada, "/compute/ops/workers/"+w.ID+"/stop", because), http.StatusOK)
						from = WorkerStopped
					}
					path, body = "/compute/ops/workers/"+w.ID+"/"+action, because
				}
				key := []string{idempotencyHeader, fmt.Sprintf("%s/%d", action, i)}

				c.audit.mu.Lock()
				c.provider.set(func(*flakyProvider) { point.set(c) })
				c.audit.mu.Unlock()
				before := c.calls()
				r, err := doomed.try(c.tokens[ada], http.MethodPost, path, body, key...)
				c.provider.set(func(p *flakyProvider) { p.before, p.after = nil, nil })
				if point.answered != (err == nil) || err == nil && r.status != http.StatusInternalServerError {
					t.Fatalf("answered %+v, %v", r, err)
				}
				if point.began && !point.reconciled && !point.answered {
					// Its process may be alive: no other process touches it.
					c.must(c.api.compute.reconcileOnce(t.Context()))
					var unreconciled int
					c.must(c.pool.QueryRow(t.Context(), `SELECT count(*) FROM argus.workers WHERE op_audit_id IS NOT NULL`).Scan(&unreconciled))
					if unreconciled != 1 {
						t.Fatalf("%d workers are unreconciled while the intent stands", unreconciled)
					}
					c.want(c.post(ada, path, body, key...), http.StatusConflict, argus.CodeConflict)
				}
				if point.name == "reconciling rejected" {
					c.breakReconciling(false)
				}
				// Its process is dead; the other one takes over.
				c.audit.sweep(t)
				c.must(c.api.compute.reconcileOnce(t.Context()))
				c.checkRows()

				again := c.post(ada, path, body, key...)
				replayed := again.header.Get("Idempotent-Replayed") == "true"
				first := c.stepsOf(c.newest(before, auditID(again)))
				switch {
				case !point.began:
					if replayed || len(first) != 0 || again.status/100 != 2 {
						t.Errorf("nothing had begun, but a repetition answers %d (replayed %t), and there are steps %q", again.status, replayed, first)
					}
				case !point.effect:
					if !replayed || again.status != http.StatusBadGateway || len(first) != 2 {
						t.Errorf("nothing was done, but a repetition answers %d (replayed %t), and there are steps %q", again.status, replayed, first)
					}
				default:
					if !replayed || again.status/100 != 2 || len(first) != 2 {
						t.Errorf("it was done, but a repetition answers %d (replayed %t), and there are steps %q", again.status, replayed, first)
					}
				}
				if again.status/100 == 2 {
					again.json(t, &w)
				} else if action == "launch" {
					for _, w = range c.list("") {
					}
				}
				want := from
				if again.status/100 == 2 {
					want = transitions[action].done
				}
				all := c.list("?all=true")
				if got := all[w.ID]; got.State != want {
					t.Errorf("the worker is %s, want %s", got.State, want)
				}
				instances, err := c.local.List(t.Context())
				c.must(err)
				there := slices.ContainsFunc(instances, func(in provider.Instance) bool { return in.WorkerID == w.ID && WorkerState(in.State) == want })
				if there != (want == WorkerRunning || want == WorkerStopped) || len(instances) > 1 {
					t.Errorf("the provider shows %+v, want %s", instances, want)
				}
				if want != WorkerTerminated {
					c.worker(c.post(grace, "/compute/ops/workers/"+w.ID+"/terminate", because), http.StatusOK)
				}
				c.checkRows()
			})
		}
	}
}

// newest is the one call with steps that was not there before, other than the given one.
func (c *control) newest(before map[string]bool, except uuid.UUID) (id uuid.UUID) {
	for text := range c.calls() {
		if !before[text] && text != except.String() {
			if id != uuid.Nil {
				c.t.Errorf("more than one call was made")
			}
			id = uuid.MustParse(text)
		}
	}
	return id
}

// calls are the ids of all calls that have steps.
func (c *control) calls() map[string]bool {
	c.t.Helper()
	ids := map[string]bool{}
	rows, err := c.pool.Query(context.Background(), `SELECT DISTINCT audit_id::text FROM argus.compute_control_audit`)
	c.must(err)
	defer rows.Close()
	for rows.Next() {
		var id string
		c.must(rows.Scan(&id))
		ids[id] = true
	}
	return ids
}

// A process that stood still for so long that its call was given up does not leave what it did afterwards.
func TestLateLaunch(t *testing.T) { forEachProvider(t, testLateLaunch) }

func testLateLaunch(t *testing.T, c *control) {
	for _, early := range []bool{true, false} {
		reached, release := make(chan struct{}), make(chan struct{})
		hold := onlyOnce(func() error { close(reached); <-release; return nil })
		c.provider.set(func(p *flakyProvider) {
			if p.before, p.after = hold, nil; !early {
				p.before, p.after = nil, hold
			}
		})
		answers := make(chan *response, 1)
		before := c.calls()
		go func() { answers <- c.postTo(c.url, ada, "/compute/ops/launch", start) }()
		<-reached
		c.audit.sweep(t)
		c.must(c.api.compute.reconcileOnce(t.Context()))
		close(release)
		r := <-answers
		c.want(r, http.StatusInternalServerError, argus.CodeAuditUnconfirmed)
		steps := c.stepsOf(c.newest(before, uuid.Nil))
		instances, err := c.local.List(t.Context())
		c.must(err)
		if early { // launched after it was given up
			if len(steps) != 3 || len(instances) != 0 || c.audit.appended[auditID(r)] != 1 {
				t.Errorf("steps %q, instances %+v", steps, instances)
			}
			continue
		}
		if len(steps) != 2 || len(instances) != 1 || len(c.list("")) != 2 { // with the failed one
			t.Errorf("steps %q, instances %+v", steps, instances)
		}
	}
}
