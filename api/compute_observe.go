package api

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"

	"github.com/useargus/argus"
	"github.com/useargus/argus/api/provider"
)

const maxWorkerID = 200

// instanceOf returns the instance that is w's, nil when there is none: the one its row names or, before the
// launch is reconciled, the one that carries its id. All others of its id are orphans.
func instanceOf(w *worker, all []provider.Instance) *provider.Instance {
	for i := range all {
		if w.Handle != nil && *w.Handle == all[i].Handle || w.Handle == nil && w.ID == all[i].WorkerID {
			return &all[i]
		}
	}
	return nil
}

// foundOrphan is an instance that no worker row knows.
type foundOrphan struct {
	provider.Instance
	provider string
}

// instances asks every provider what it runs. One that does not answer is left out, and its error returned.
func (o *compute) instances(ctx context.Context) (all map[string][]provider.Instance, err error) {
	ctx, cancel := context.WithTimeout(ctx, listTimeout)
	defer cancel()
	all = map[string][]provider.Instance{}
	var asked sync.WaitGroup
	var mu sync.Mutex
	for name, p := range o.providers.all() {
		asked.Go(func() { // one that hangs takes no other's time
			list, failed := p.List(ctx)
			mu.Lock()
			defer mu.Unlock()
			if failed != nil {
				err = errors.Join(err, fmt.Errorf("provider %s: %w", name, failed))
				return
			}
			all[name] = list
		})
	}
	asked.Wait()
	return all, err
}

// orphans returns those of the instances that no living row accounts for. The instances must have been listed before
// this is called, and are looked at once more afterwards. So neither a launch nor a termination that happens at this
// moment looks like an orphan.
func (o *compute) orphans(ctx context.Context, instances map[string][]provider.Instance) ([]foundOrphan, error) {
	workers, err := listWorkers(ctx, o.pool, false)
	if err != nil {
		return nil, err
	}
	owned := map[string]bool{}
	for i := range workers {
		if w := &workers[i]; w.State != WorkerFailed {
			if in := instanceOf(w, instances[w.Provider]); in != nil {
				owned[w.Provider+"/"+in.Handle] = true
			}
		}
	}
	var found []foundOrphan
	for name, list := range instances {
		for _, in := range list {
			if !owned[name+"/"+in.Handle] {
				found = append(found, foundOrphan{in, name})
			}
		}
	}
	if len(found) == 0 {
		return nil, nil
	}
	again, _ := o.instances(ctx)
	found = slices.DeleteFunc(found, func(f foundOrphan) bool {
		return !slices.ContainsFunc(again[f.provider], func(in provider.Instance) bool { return in.Handle == f.Handle })
	})
	slices.SortFunc(found, func(x, y foundOrphan) int { return x.StartedAt.Compare(y.StartedAt) })
	return found, nil
}

// findOrphan returns the orphan of this id; nil when a row has the id or nothing does.
func (o *compute) findOrphan(c *call, id string) (*foundOrphan, error) {
	if argus.Text(id, maxWorkerID) != id {
		return nil, unknownWorker() // nor a text that Postgres takes
	}
	ctx, cancel := context.WithTimeout(c.Context(), listTimeout)
	defer cancel()
	_, known, err := findWorker(ctx, o.pool, id)
	if err != nil {
		return nil, nothingHappened(err)
	}
	if known {
		return nil, nil
	}
	instances, err := o.instances(ctx)
	if err != nil {
		o.log.Error("orphans may be missing", "cause", err)
	}
	orphans, err := o.orphans(ctx, instances)
	if err != nil {
		return nil, nothingHappened(err)
	}
	for i := range orphans {
		if orphans[i].Handle == id {
			return &orphans[i], nil
		}
	}
	return nil, unknownWorker()
}

// observeOnce keeps the states of workers true that change without a call: a process that ended by itself, a
// machine that was restarted. No step is written, because no operator acted.
func (o *compute) observeOnce(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, providerTimeout)
	defer cancel()
	// Rows first: what a row names and the provider does not show any more has ended.
	workers, err := standingWorkers(ctx, o.pool)
	if err != nil || len(workers) == 0 {
		return err
	}
	shown, unanswered := o.instances(ctx)
	for i := range workers {
		w := &workers[i]
		list, answered := shown[w.Provider]
		if !answered {
			continue
		}
		state := WorkerTerminated
		if in := instanceOf(w, list); in != nil {
			state = WorkerState(in.State)
		}
		if state == w.State {
			continue
		}
		changed, err := o.observeWorker(ctx, *w, state)
		if err != nil {
			return fmt.Errorf("worker %s: %w", w.ID, err)
		}
		if changed {
			o.log.Warn("worker changed without a call", "worker", w.ID, "from", w.State, "to", state)
		}
	}
	return unanswered
}
