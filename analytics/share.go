package analytics

import (
	"context"
	"fmt"
	"sync"
)

// sharing lets equal questions that meet be answered once. A question never takes an answer whose snapshot was read before it
// came, since that may lack calls which were answered by then. So it joins an answer up to the moment at which that reads its
// snapshot, near its end. Later ones wait for it to end, and share the one that begins then. A hundred panels cost one answer
// or two, and none waits longer than for two.
type sharing struct {
	mu     sync.Mutex
	flying map[string]*flight // the last one of each question: it is being answered, or waits for the one before
}

// flight is one answer that several callers may wait for.
type flight struct {
	begun    bool // its snapshot is read, or just will be
	callers  int
	cancel   context.CancelFunc // when no caller is left
	done     chan struct{}
	got      any
	err      error
	panicked any // for the callers: each has a handler that survives it
}

// shared answers a question that is equal to others with the same kind and request. answer calls taken before it reads its
// snapshot. Callers must leave what they get as it is.
func shared[T any](ctx context.Context, s *sharing, kind string, request any, answer func(ctx context.Context, taken func()) (T, error)) (T, error) {
	var none T
	key := fmt.Sprintf("%s %#v", kind, request) // in Go's syntax, where no text can pass for something else
	s.mu.Lock()
	f := s.flying[key]
	if f == nil || f.begun {
		before := f
		// What the first caller's context holds is for all. That it ends is not: others may wait.
		all, cancel := context.WithCancel(context.WithoutCancel(ctx))
		f = &flight{cancel: cancel, done: make(chan struct{})}
		if s.flying == nil {
			s.flying = map[string]*flight{}
		}
		s.flying[key] = f
		go func() {
			defer cancel()
			if before != nil {
				select {
				case <-before.done:
				case <-all.Done():
				}
			}
			taken := func() {
				s.mu.Lock()
				f.begun = true // those who come from now on take the next one
				s.mu.Unlock()
			}
			defer func() {
				f.panicked = recover()
				s.mu.Lock()
				if s.flying[key] == f {
					delete(s.flying, key)
				}
				s.mu.Unlock()
				close(f.done)
			}()
			if f.err = all.Err(); f.err == nil {
				f.got, f.err = answer(all, taken)
			}
		}()
	}
	f.callers++
	s.mu.Unlock()
	select {
	case <-f.done:
	case <-ctx.Done():
		s.mu.Lock()
		if f.callers--; f.callers == 0 {
			f.cancel()
			if s.flying[key] == f && !f.begun { // it will not be answered: none may join it
				delete(s.flying, key)
			}
		}
		s.mu.Unlock()
		return none, context.Cause(ctx)
	}
	switch {
	case f.panicked != nil:
		panic(f.panicked)
	case f.err != nil:
		return none, f.err
	}
	return f.got.(T), nil
}
