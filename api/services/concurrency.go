package services

import (
	"context"
	"sync"
	"sync/atomic"
	"time"

	"github.com/useargus/argus"
)

// placeWait is how long a call waits for a place among its service's calls.
const placeWait = time.Second

// places bound the calls that a service has under way. As many more may wait for a place. Any beyond them are told at once.
// So a slow service holds a bounded number of callers.
type places struct {
	calls   chan struct{}
	waiting atomic.Int64
}

func newPlaces(n int) *places { return &places{calls: make(chan struct{}, n)} }

func (p *places) taken() int { return len(p.calls) }

// enter takes a place; leave gives it back, once however often it is called.
func (p *places) enter(ctx context.Context, service string) (leave func(), err error) {
	taken := sync.OnceFunc(func() { <-p.calls })
	select {
	case p.calls <- struct{}{}:
		return taken, nil
	default:
	}
	busy := argus.Errorf(argus.CodeServiceBusy, "The service %s has as many calls under way as it takes. Nothing was done. Try again.", service).
		WithRetryAfter(time.Second)
	if p.waiting.Add(1) > int64(cap(p.calls)) {
		p.waiting.Add(-1)
		return nil, busy
	}
	defer p.waiting.Add(-1)
	timer := time.NewTimer(placeWait)
	defer timer.Stop()
	select {
	case p.calls <- struct{}{}:
		return taken, nil
	case <-timer.C:
		return nil, busy
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// HeldMemory bounds what a process holds of bodies and answers at once, in bytes.
const HeldMemory = 128 << 20

// Memory is a bound of bytes that all calls of a process share.
type Memory struct {
	most int64
	used atomic.Int64
}

// NewMemory makes a bound of so many bytes.
func NewMemory(most int64) *Memory { return &Memory{most: most} }

// Used is how many bytes are held.
func (m *Memory) Used() int64 { return m.used.Load() }

// take takes n bytes, or says that there are none.
func (m *Memory) take(n int64) bool {
	if m.used.Add(n) > m.most {
		m.used.Add(-n)
		return false
	}
	return true
}

func (m *Memory) give(n int64) { m.used.Add(-n) }
