package api

import (
	"context"
	"time"
)

// jobs are the background work by which any API process ends what others began.
func (a *API) jobs() []func(ctx context.Context) {
	return []func(ctx context.Context){
		a.repeatedly(reconcileEvery, "abandoned operations not reconciled", a.compute.reconcileOnce),
		a.repeatedly(observeEvery, "workers not observed", a.compute.observeOnce),
		a.repeatedly(expireEvery, "sessions whose time is up not ended", a.support.expireAll),
		a.repeatedly(consentsEvery, "consents that were interrupted not ended", a.support.reconcileConsents),
		a.repeatedly(forgetEvery, "expired idempotency keys not deleted", a.deleteExpiredKeys),
		a.sweep,
	}
}

// How often an API process looks for what is to be done by any of them.
const (
	reconcileEvery = time.Second // operations whose call is over
	observeEvery   = 2 * time.Second
	expireEvery    = time.Second     // sessions: this much longer than their time they may last
	consentsEvery  = 5 * time.Second // consents whose call was interrupted
	forgetEvery    = time.Minute     // idempotency keys
)

// repeatedly returns background work that does f at once and then after each pause. Of the errors that follow
// each other one in ten seconds is logged.
func (a *API) repeatedly(pause time.Duration, failure string, f func(context.Context) error) func(context.Context) {
	return func(ctx context.Context) {
		var quiet time.Time
		timer := time.NewTimer(0)
		defer timer.Stop()
		for {
			select {
			case <-ctx.Done():
				return
			case <-timer.C:
			}
			if err := f(ctx); err != nil && ctx.Err() == nil && time.Now().After(quiet) {
				a.log.Error(failure, "cause", err)
				quiet = time.Now().Add(10 * time.Second)
			}
			timer.Reset(pause)
		}
	}
}
