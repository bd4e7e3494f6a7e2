package api

import (
	"context"
	"errors"
	"fmt"
	"net/http"

	"github.com/useargus/argus"
	"github.com/useargus/argus/api/provider"
)

// A change of a worker goes through three commits, and may be interrupted between any two:
//
//  1. the wanted state, the step "requested", the call's intent, its idempotency key
//  2. (the provider acts)
//  3. the state as it is, the step "succeeded" or "failed", the answer for repetitions
//  4. the call's row; the intent is deleted
//
// Cut off before 1, nothing has happened. Between 1 and 4 the intent makes sure of the call's row. Between 1 and 3
// the worker is left in a wanted state. Once the intent is gone the call is over. Then reconcileOnce of any API
// process asks the provider what is true, and commits 3 in its stead.

// carryOut does what the call has announced of w, and writes down what became of it.
func (o *compute) carryOut(c *call, w worker) (answer, error) {
	op := *w.Op
	ctx, cancel := context.WithTimeout(provider.WithCaller(c.Context(), c.caller()), providerTimeout)
	launched, failure := o.act(ctx, w)
	cancel()

	out, known := finding{state: transitions[op.Action].done, seen: launched, ok: true}, true
	if launched != nil {
		out.state = WorkerState(launched.State)
	}
	if failure != nil {
		o.log.Error("provider failed", "provider", w.Provider, "action", op.Action, "worker", w.ID, "audit_id", op.AuditID, "cause", failure)
		out, known = o.askWhatIsTrue(c.Context(), w)
	}
	if !known {
		return answer{}, argus.Errorf(argus.CodeProviderFailed,
			"The provider %s does not answer. Worker %s stays %s until it does; what became of it will be recorded with this call.",
			w.Provider, w.ID, w.State).WithCause(failure)
	}
	var ans answer
	var problem *argus.Error
	err := c.InTx(func(ctx context.Context, tx Tx) (err error) {
		ans, problem, err = o.reconcile(ctx, tx, w, out, c.takes(), failure)
		return err
	})
	if c.key != nil {
		c.key.kept = true // by reconcile: now, or by the process that does it in our stead
	}
	switch {
	case errors.Is(err, errReconciled):
		o.tooLate(c, w, launched)
		return answer{}, argus.Errorf(argus.CodeAuditUnconfirmed,
			"This call took so long that it was given up. Look at worker %s before repeating it.", w.ID).WithCause(err)
	case err != nil:
		return answer{}, argus.Errorf(argus.CodeAuditUnconfirmed,
			"The provider was asked, but what became of it is not written down yet. Look at worker %s before repeating this.", w.ID).WithCause(err)
	case problem != nil:
		return answer{}, problem
	}
	return ans, nil
}

// act lets the provider do what is wanted. The instance is that of a launch.
func (o *compute) act(ctx context.Context, w worker) (*provider.Instance, error) {
	p := o.providers.named(w.Provider)
	if p == nil {
		return nil, errNoProvider
	}
	if w.Op.Action == "launch" {
		in, err := p.Launch(ctx, w.ID)
		if err != nil {
			return nil, err
		}
		return &in, nil
	}
	ref := w.ref()
	if ref == nil { // its launch failed: an instance that came of it late is found by its id
		all, err := p.List(ctx)
		if err != nil {
			return nil, err
		}
		in := instanceOf(&w, all)
		if in == nil {
			return nil, nil
		}
		ref = in.Ref
	}
	switch w.Op.Action {
	case "stop":
		return nil, p.Stop(ctx, ref)
	case "resume":
		return nil, p.Resume(ctx, ref)
	case "terminate":
		return nil, p.Terminate(ctx, ref)
	}
	return nil, fmt.Errorf("no such action: %s", w.Op.Action)
}

// finding is what became of an operation.
type finding struct {
	state WorkerState
	seen  *provider.Instance // nil: not looked at, or not there
	ok    bool               // what was wanted has come true
}

// askWhatIsTrue finds out from the provider what became of the operation on w; known is false when it does not
// tell.
func (o *compute) askWhatIsTrue(ctx context.Context, w worker) (out finding, known bool) {
	ctx, cancel := context.WithTimeout(ctx, providerTimeout)
	defer cancel()
	p := o.providers.named(w.Provider)
	if p == nil {
		return finding{}, false
	}
	all, err := p.List(ctx)
	if err != nil {
		o.log.Error("provider cannot be asked", "provider", w.Provider, "worker", w.ID, "cause", err)
		return finding{}, false
	}
	return judge(w.Op.Action, instanceOf(&w, all)), true
}

// judge judges an action by what the provider shows after it.
func judge(action string, seen *provider.Instance) finding {
	if seen == nil {
		switch action {
		case "launch":
			return finding{state: WorkerFailed}
		case "terminate":
			return finding{state: WorkerTerminated, ok: true}
		}
		return finding{state: WorkerTerminated}
	}
	out := finding{state: WorkerState(seen.State), seen: seen, ok: WorkerState(seen.State) == transitions[action].done}
	if action == "launch" {
		out.ok = true // and stopped by another since
	}
	return out
}

// reconcile ends the operation of w: the state, the step, the answer for repetitions. problem is what the caller is
// answered when what was wanted has not come true.
func (o *compute) reconcile(ctx context.Context, tx Tx, w worker, out finding, by stepBy, failure error) (ans answer, problem *argus.Error, err error) {
	op := *w.Op
	step := stepOf(&w, op, by)
	step.To, step.Result = out.state, resultSucceeded
	if !out.ok {
		step.Result, step.Error = resultFailed, "the provider shows that it was not done"
		if failure != nil {
			step.Error = failure.Error()
		}
	}
	if w, err = reconcileWorker(ctx, tx, w.ID, op.AuditID, out.state, out.seen); err != nil {
		return answer{}, nil, err
	}
	if err := addComputeStep(ctx, tx, step); err != nil {
		return answer{}, nil, err
	}
	if out.ok {
		ans.Status, ans.Value = http.StatusOK, w.json()
		if op.Action == "launch" {
			ans.Status = http.StatusCreated
		}
	} else {
		problem = argus.Errorf(argus.CodeProviderFailed, "The provider %s did not %s worker %s, which is %s now. Its error is recorded with this call.",
			w.Provider, op.Action, w.ID, w.State).WithCause(failure)
		ans = problemAnswer(problem, op.AuditID)
	}
	body, err := ans.body()
	if err != nil {
		return answer{}, nil, err
	}
	return ans, problem, storeAnswer(ctx, tx, op.AuditID, ans.Status, body)
}

// tooLate undoes a launch that came after its call had been given up (this process stood still for long), and
// says so in one more step. What it cannot undo shows as an orphan; other actions show in the worker's state.
func (o *compute) tooLate(c *call, w worker, launched *provider.Instance) {
	if launched == nil {
		return
	}
	step := stepOf(&w, *w.Op, bySystem)
	step.To, step.Result, step.Error = WorkerTerminated, resultFailed, "launched after the call had been given up, and terminated again"
	ctx, cancel := context.WithTimeout(c.Context(), providerTimeout)
	defer cancel()
	now, found, err := findWorker(ctx, o.pool, w.ID)
	if err == nil && found && now.Handle != nil && *now.Handle == launched.Handle {
		return // it was seen, and is the worker's
	}
	if p := o.providers.named(w.Provider); err == nil && p != nil {
		err = p.Terminate(ctx, launched.Ref)
	} else if err == nil {
		err = errNoProvider
	}
	if err == nil {
		err = inTx(ctx, o.pool, func(ctx context.Context, tx Tx) error { return addComputeStep(ctx, tx, step) })
	}
	if err != nil {
		o.log.Error("late launch not undone", "worker", w.ID, "instance", launched.Handle, "cause", err)
	}
}

// reconcileOnce reconciles the operations of calls that are over: their intents are gone, because they were answered
// without being able to write, or were swept after their process died.
func (o *compute) reconcileOnce(ctx context.Context) error {
	read, cancel := context.WithTimeout(ctx, txTimeout)
	defer cancel()
	workers, err := abandonedWorkers(read, o.pool)
	if err != nil {
		return err
	}
	shown := map[string][]provider.Instance{}
	for _, w := range workers {
		p := o.providers.named(w.Provider)
		if p == nil {
			continue // some other API's
		}
		if _, asked := shown[w.Provider]; !asked {
			ask, cancel := context.WithTimeout(ctx, providerTimeout)
			instances, listErr := p.List(ask)
			cancel()
			if listErr != nil { // nothing is known: reconciled when it answers again
				err = errors.Join(err, fmt.Errorf("provider %s: %w", w.Provider, listErr))
				continue
			}
			shown[w.Provider] = instances
		}
		out := judge(w.Op.Action, instanceOf(&w, shown[w.Provider]))
		reconcileErr := inTx(ctx, o.pool, func(ctx context.Context, tx Tx) error {
			_, _, err := o.reconcile(ctx, tx, w, out, bySystem, errAbandoned)
			return err
		})
		switch {
		case errors.Is(reconcileErr, errReconciled): // another API was faster
		case reconcileErr != nil:
			err = errors.Join(err, fmt.Errorf("worker %s: %w", w.ID, reconcileErr))
		default:
			o.log.Warn("reconciled what a call had left", "worker", w.ID, "action", w.Op.Action, "state", out.state, "done", out.ok, "audit_id", w.Op.AuditID)
		}
	}
	return err
}

// errNoProvider: the services file was read anew meanwhile, and declares the provider no more.
var errNoProvider = errors.New("this process is configured for the provider no more")

// errAbandoned is the error of a step whose call did not live to write it and whose effect is not there.
var errAbandoned = errors.New("the call was interrupted; the provider shows that it was not done")
