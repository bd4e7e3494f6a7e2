package analytics

import (
	"context"
	"maps"
	"sync"
	"time"

	"github.com/useargus/argus"
)

// liveSource is what all followers of this process share. While there are any, a liveRun polls Postgres for them.
type liveSource struct {
	a *Analytics

	mu      sync.Mutex // held while a run is started, so that there is one
	current *liveRun   // nil without followers
	closed  bool
	done    sync.WaitGroup
}

// liveRun asks Postgres, ten times a second, which rows were committed since, and keeps the newest in a ring that
// each follower reads at his own pace.
//
// Order: rows of a writer by seq, those of several by recorded_at as far as they were read together. Nothing is
// read by a sequence across writers, because commits come out of such an order.
type liveRun struct {
	a    *Analytics
	stop context.CancelFunc

	mu        sync.Mutex
	followers int
	ended     error // why it ended; nil while it runs

	ring    []liveEntry // entry i at i modulo the length
	next    int64       // the number of the entry to come
	at      *mark
	version int64         // counts the changes of at
	moved   chan struct{} // closed, and made anew, when entries come or the run ends
}

// liveEntry is a row and the mark after it. Neither changes any more: all followers share them.
type liveEntry struct {
	record *argus.Record
	at     *mark
}

// unavailableAfter is how long Postgres may fail before followers are told.
const unavailableAfter = 15 * time.Second

var errStopping = argus.Errorf(argus.CodeUnavailable, "The server is stopping; connect again.")

// join adds a follower to the run, which starts with the first one. Each must leave.
func (s *liveSource) join(ctx context.Context) (*liveRun, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return nil, errStopping
	}
	if s.current != nil && s.current.enter() {
		return s.current, nil
	}
	c, err := s.a.readCut(ctx, everything, nil)
	if err != nil {
		return nil, postgresFailure(ctx, err)
	}
	polling, stop := context.WithCancel(context.Background())
	r := &liveRun{
		a: s.a, stop: stop, followers: 1, ring: make([]liveEntry, s.a.config.ringSize),
		at: at(c.Snapshot), moved: make(chan struct{}),
	}
	s.done.Go(func() { r.run(polling) })
	s.current = r
	return r, nil
}

func (s *liveSource) close() {
	s.mu.Lock()
	s.closed = true
	if s.current != nil {
		s.current.end(errStopping)
	}
	s.mu.Unlock()
	s.done.Wait()
}

// enter adds a follower unless the run has ended.
func (r *liveRun) enter() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.ended == nil {
		r.followers++
	}
	return r.ended == nil
}

// leave takes a follower away; with the last one the run ends.
func (r *liveRun) leave() {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.followers--; r.followers == 0 {
		r.endLocked(errStopping)
	}
}

// end stops the run; those who still follow get err.
func (r *liveRun) end(err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.endLocked(err)
}

func (r *liveRun) endLocked(err error) {
	if r.ended == nil {
		r.ended, r.ring = err, nil
		r.stop()
		close(r.moved)
	}
}

// now is where the run stands: the entry to come, and the mark before it.
func (r *liveRun) now() (next int64, m *mark) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.next, r.at
}

// has reports whether the ring still holds everything from entry i on.
func (r *liveRun) has(i int64) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return i >= r.next-int64(len(r.ring))
}

// liveState is where a follower that has read all entries waits.
type liveState struct {
	at      *mark // may have moved without an entry
	version int64
	moved   <-chan struct{} // closed when there may be more
}

// read copies entries from number i on into buf. ok is false when the ring no longer holds entry i; err is why the
// run ended.
func (r *liveRun) read(i int64, buf []liveEntry) (n int, state liveState, ok bool, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.ended != nil {
		return 0, state, true, r.ended
	}
	if i < r.next-int64(len(r.ring)) {
		return 0, state, false, nil
	}
	for ; n < len(buf) && i+int64(n) < r.next; n++ {
		buf[n] = r.ring[(i+int64(n))%int64(len(r.ring))]
	}
	return n, liveState{r.at, r.version, r.moved}, true, nil
}

// run polls until ctx ends.
func (r *liveRun) run(ctx context.Context) {
	ticker := time.NewTicker(r.a.config.pollEvery)
	defer ticker.Stop()
	var failing time.Time // since when; zero while it works
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
		err := r.poll(ctx)
		switch {
		case ctx.Err() != nil:
			return
		case err == nil:
			failing = time.Time{}
		case failing.IsZero():
			failing = time.Now()
			r.a.log.Warn("the live stream cannot read Postgres", "error", err)
		case time.Since(failing) > unavailableAfter:
			r.end(postgresFailure(ctx, err))
			return
		}
	}
}

// poll appends what was committed since the last one. A failure in its middle loses nothing: the position stands
// behind the last row appended.
func (r *liveRun) poll(ctx context.Context) error {
	_, from := r.now()
	c, err := r.a.readCut(ctx, from.Position, nil)
	if err != nil {
		return err
	}
	walk := newWalk(r.a, from, c.Tail, nil, window{})
	for {
		walking, cancel := context.WithTimeout(ctx, hungAfter)
		entries, err := walk.next(walking)
		cancel()
		if err != nil {
			return err
		}
		if entries == nil {
			break
		}
		r.append(entries, nil)
	}
	// Writers closed meanwhile are named no more, idle new ones are.
	r.append(nil, &c.Snapshot)
	return nil
}

// append adds the entries; a position given replaces that of the last entry.
func (r *liveRun) append(entries []liveEntry, p *argus.Position) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.ended != nil {
		return
	}
	for _, e := range entries {
		r.ring[r.next%int64(len(r.ring))] = e
		r.next++
		r.at = e.at
	}
	if p != nil && (p.ClosedThrough != r.at.ClosedThrough || !maps.Equal(p.Writers, r.at.Writers)) {
		r.at = at(*p)
		r.version++
	}
	if len(entries) > 0 {
		r.version++
		close(r.moved)
		r.moved = make(chan struct{})
	}
}
