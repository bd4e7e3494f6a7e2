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
	busy := argus.Errorf(argus.CodeServiceBusy, "The service %s is at its limit of calls at once. Nothing was done. Try again.", service).
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

// Memory is a bound of bytes that all calls of a process share. What a service or a person may hold is in proportion to
// what is free after it, so that neither can hold it all. Both shares shrink as others fill the memory, and some stays
// free. A service alone may hold three quarters, a person alone three fifths: more than the largest body_limit and
// answer_limit together hold.
type Memory struct {
	most int64

	mu       sync.Mutex
	used     int64
	services map[string]int64 // held for calls to a service; mu
	persons  map[string]int64 // and for calls of a person; mu
}

// NewMemory makes a bound of so many bytes.
func NewMemory(most int64) *Memory {
	return &Memory{most: most, services: map[string]int64{}, persons: map[string]int64{}}
}

// Used is how many bytes are held.
func (m *Memory) Used() int64 {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.used
}

// Share is the memory as one call has it.
type Share struct {
	memory          *Memory
	service, person string
}

// Share is what the calls of a person to a service take from.
func (m *Memory) Share(service, person string) Share { return Share{m, service, person} }

// take takes n bytes, or says that there are none for this service or this person.
func (s Share) take(n int64) bool {
	m := s.memory
	m.mu.Lock()
	defer m.mu.Unlock()
	service, person, free := m.services[s.service]+n, m.persons[s.person]+n, m.most-m.used-n
	if free < 0 || service > 3*free || 2*person > 3*free {
		return false
	}
	m.used, m.services[s.service], m.persons[s.person] = m.used+n, service, person
	return true
}

// give gives back what was taken.
func (s Share) give(n int64) {
	if n == 0 {
		return
	}
	m := s.memory
	m.mu.Lock()
	defer m.mu.Unlock()
	m.used -= n
	lessen(m.services, s.service, n)
	lessen(m.persons, s.person, n)
}

// lessen keeps no name that holds nothing.
func lessen(held map[string]int64, name string, n int64) {
	if held[name] -= n; held[name] <= 0 {
		delete(held, name)
	}
}
