package main

import (
	"context"
	"log/slog"
	"sync"
	"time"
)

// process is a child that argusd dev keeps running: an engine, the API, the replicator.
type process interface {
	PID() int
	Done() <-chan struct{}
	Stop(ctx context.Context) error
}

// unit starts its process again whenever it ends.
type unit struct {
	name    string
	start   func(ctx context.Context) (process, error)
	changed func() // called after each restart
	log     *slog.Logger

	mu      sync.Mutex
	current process // nil before the first start
}

// begin starts the process for the first time.
func (u *unit) begin(ctx context.Context) error {
	p, err := u.start(ctx)
	if err != nil {
		return err
	}
	u.mu.Lock()
	u.current = p
	u.mu.Unlock()
	return nil
}

// adopt takes a process that was started beside others.
func (u *unit) adopt(p process) {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.current = p
}

func (u *unit) pid() int {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.current == nil {
		return 0
	}
	return u.current.PID()
}

func (u *unit) process() process {
	u.mu.Lock()
	defer u.mu.Unlock()
	return u.current
}

// keep restarts the process until ctx ends: at once after a first death, then more slowly while it keeps
// dying young.
func (u *unit) keep(ctx context.Context) {
	const slowest = 5 * time.Second
	wait := time.Duration(0)
	started := time.Now()
	for {
		select {
		case <-ctx.Done():
			return
		case <-u.process().Done():
		}
		if ctx.Err() != nil {
			return
		}
		if time.Since(started) > 10*time.Second {
			wait = 0
		}
		for {
			u.log.Warn("it ended; starting it again", "process", u.name, "wait", wait)
			select {
			case <-ctx.Done():
				return
			case <-time.After(wait):
			}
			wait = min(max(2*wait, 100*time.Millisecond), slowest)
			started = time.Now()
			err := u.begin(ctx)
			if err == nil {
				break
			}
			u.log.Error("it did not start", "process", u.name, "error", err)
		}
		u.changed()
	}
}

// end stops the process, if it ever ran.
func (u *unit) end(ctx context.Context) {
	p := u.process()
	if p == nil {
		return
	}
	if err := p.Stop(ctx); err != nil {
		u.log.Error("it did not stop in order", "process", u.name, "error", err)
	}
}
