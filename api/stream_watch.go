package api

import (
	"context"
	"sync"
	"time"

	"github.com/google/uuid"

	"github.com/useargus/argus/api/credential"
)

const (
	// recheckEvery is how often a stream's credential is checked again when nothing was heard of it.
	recheckEvery = 30 * time.Second
	// recheckGrace is how long past its second check a stream goes on while its credential cannot be checked.
	recheckGrace = 30 * time.Second
	// sweepEvery is how often the tokens of streams are looked up while revocations cannot be heard.
	sweepEvery = time.Second
)

// watch ends a stream when its credential is no longer good, or when the server is about to shut down. It checks the
// credential when something of it was heard, when it expires, and every recheckEvery. A credential that cannot be checked
// at the moment is tried again sooner. Past recheckGrace the stream ends. It ends at once when the credential may have.
func (a *API) watch(ctx context.Context, cancel context.CancelCauseFunc, c *call) {
	wait, checked := time.Duration(0), time.Now() // at once: something may have been heard just before the stream was watched
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		if left := time.Until(c.credential.Expires); left > 0 {
			wait = min(wait, left+time.Millisecond)
		}
		timer.Reset(wait)
		heard := false
		select {
		case <-ctx.Done():
			return
		case <-a.draining:
			cancel(errShutdown)
			return
		case <-c.look:
			heard = true
		case <-timer.C:
		}
		wait = a.config.recheckEvery
		err := a.recheck(ctx, c, heard)
		switch {
		case err == nil:
			checked = time.Now()
		case ctx.Err() != nil:
			return
		case statusOf(problem(err).Code) >= 500 && !heard && time.Since(checked) < 2*recheckEvery+recheckGrace:
			wait = time.Second
		default:
			cancel(problem(err))
			return
		}
	}
}

// watched are the streams under way, by what may end them: their token, their person, their session. The zero value is
// ready for use.
type watched struct {
	mu sync.Mutex
	by map[string]map[*call]bool
}

func (w *watched) add(c *call) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.by == nil {
		w.by = map[string]map[*call]bool{}
	}
	for _, key := range c.credential.Keys() {
		if w.by[key] == nil {
			w.by[key] = map[*call]bool{}
		}
		w.by[key][c] = true
	}
}

func (w *watched) remove(c *call) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, key := range c.credential.Keys() {
		if delete(w.by[key], c); len(w.by[key]) == 0 {
			delete(w.by, key)
		}
	}
}

// heard has the streams' credentials checked now: something of what they rest on was learned.
func (w *watched) heard(key string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for c := range w.by[key] {
		select {
		case c.look <- struct{}{}:
		default: // about to look
		}
	}
}

// tokens are those that streams rest on.
func (w *watched) tokens() []uuid.UUID {
	w.mu.Lock()
	defer w.mu.Unlock()
	seen := map[uuid.UUID]bool{}
	var ids []uuid.UUID
	for _, calls := range w.by {
		for c := range calls {
			for _, id := range []uuid.UUID{c.Actor.PATID, c.Actor.BreakGlassID} {
				if id != uuid.Nil && !seen[id] {
					seen[id] = true
					ids = append(ids, id)
				}
			}
		}
	}
	return ids
}

// sweep looks up the tokens of streams while their revocations cannot be heard. It does so once more after each loss of the
// channel, since it may have missed some.
func (a *API) sweep(ctx context.Context) {
	tick := time.NewTicker(sweepEvery)
	defer tick.Stop()
	swept := uint64(0) // the losses before the last sweep
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		listening, losses := a.credentials.Channel()
		if listening && losses == swept {
			continue
		}
		ended, err := a.credentials.Ended(ctx, a.watched.tokens())
		if err != nil {
			continue // Postgres is away; the streams' own checks go on
		}
		for _, id := range ended {
			a.watched.heard(credential.TokenKey(id))
		}
		if listening {
			swept = losses
		}
	}
}
