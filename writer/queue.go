package writer

import (
	"sync"
	"sync/atomic"
	"time"

	"github.com/google/uuid"

	"github.com/useargus/argus"
)

// entry is one call's row on its way: encoded by the caller, numbered, hashed and committed by a lane.
//
// Two parties hold it, the caller and a lane; who lets go last recycles it. state decides: the caller moves it
// from waiting to abandoned when its bounded wait ends, the lane from waiting to answered. Only one can.
type entry struct {
	canonical  []byte // CanonicalHeadSize bytes for the lane to fill, then the body
	columns    []byte // see appendColumns
	id         uuid.UUID
	occurredAt time.Time
	keptAt     time.Time // recorded_at of a demonstration; zero: the lane gives it
	intended   bool      // an intent was committed: it is to be deleted with this row's insert
	queuedAt   time.Time // since when it waits for a lane: put back, it starts anew; the queue's mu

	state atomic.Int32
	done  chan struct{} // holds one token once state is answered
	timer *time.Timer

	// Written by the lane before it answers, read by the caller after.
	writerID, seq int64
	recordedAt    time.Time
	hash          [32]byte
	err           error // nil: committed
}

const (
	waiting int32 = iota
	abandoned
	answered
)

var entries = sync.Pool{New: func() any {
	t := time.NewTimer(time.Hour)
	t.Stop()
	return &entry{done: make(chan struct{}, 1), timer: t, canonical: make([]byte, argus.CanonicalHeadSize, 512)}
}}

// newEntry encodes a storable record. The entry keeps nothing of it.
func newEntry(r *argus.Record, intended bool) *entry {
	e := entries.Get().(*entry)
	e.canonical = r.AppendCanonicalBody(e.canonical[:argus.CanonicalHeadSize])
	e.columns = appendColumns(e.columns[:0], r)
	e.id, e.occurredAt, e.intended = r.ID, r.OccurredAt, intended
	e.keptAt = time.Time{}
	e.state.Store(waiting)
	e.err = nil
	return e
}

// recycle is called by the last holder.
func (e *entry) recycle() { entries.Put(e) }

// answer gives the caller its result, or recycles the entry when the caller has gone.
func (e *entry) answer(err error) {
	e.err = err
	if e.state.CompareAndSwap(waiting, answered) {
		e.done <- struct{}{}
		return
	}
	e.recycle()
}

// await waits until the entry is answered, at most until the deadline. When it returns false the entry belongs to the
// lane.
func (e *entry) await(deadline time.Time) bool {
	select {
	case <-e.done:
		return true
	default:
	}
	e.timer.Reset(time.Until(deadline))
	select {
	case <-e.done:
	case <-e.timer.C:
		if e.abandon() {
			return false
		}
		<-e.done
	}
	e.timer.Stop()
	return true
}

// abandon reports whether the caller may leave: from then on the entry belongs to the lane.
func (e *entry) abandon() bool { return e.state.CompareAndSwap(waiting, abandoned) }

// idle reports that the row is not needed any more: its caller was told that nothing was written, and no intent
// waits for it.
func (e *entry) idle() bool { return !e.intended && e.state.Load() == abandoned }

// size is about what the entry adds to a batch, in bytes.
func (e *entry) size() int { return len(e.columns) + 80 }

// queue holds the entries that no lane has taken yet, in the order of arrival, and the lanes that have nothing to do.
// A lane belongs to the goroutine that runs it. That is its own, or a caller's that found it idle and commits its row
// itself. This spares a lone caller two changes of goroutine. An idle lane belongs to none.
type queue struct {
	mu      sync.Mutex
	entries []*entry // entries[head:] wait; mu
	head    int
	idle    []*lane // mu
	flying  int     // rows in batches on their way; mu
	closed  bool    // no more entries come; mu

	depth  atomic.Int64 // entries waiting
	oldest atomic.Int64 // queuedAt of the first waiting entry in nanoseconds, 0 when none
}

// push adds an entry. ok is false when the queue is closed. The caller has to run the lane it is given, if any,
// and release it.
func (q *queue) push(e *entry) (l *lane, ok bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.closed {
		return nil, false
	}
	if len(q.entries) == cap(q.entries) && q.head > len(q.entries)/2 {
		// A queue that is never empty must not grow for ever.
		n := copy(q.entries, q.entries[q.head:])
		clear(q.entries[n:])
		q.entries, q.head = q.entries[:n], 0
	}
	e.queuedAt = time.Now()
	q.entries = append(q.entries, e)
	q.measure()
	return q.engage(), true
}

// due reports whether what waits is worth a commit now; mu is held. While batches are on their way, the next one
// is only when it is as large: otherwise it grows until one of them has landed. But one that takes long, or hangs,
// is not waited for.
func (q *queue) due() bool {
	n := len(q.entries) - q.head
	return n > 0 && (n >= q.flying || q.closed || time.Since(q.entries[q.head].queuedAt) > patience)
}

const patience = 25 * time.Millisecond

// engage takes an idle lane for what waits; mu is held.
func (q *queue) engage() *lane {
	n := len(q.idle)
	if n == 0 || !q.due() {
		return nil
	}
	l := q.idle[n-1]
	q.idle = q.idle[:n-1]
	return l
}

// unshift puts entries that were surely not written back in front. The time they spent with a lane says nothing of
// how long the queue is, so it must not make newcomers fail.
func (q *queue) unshift(batch []*entry) {
	if len(batch) == 0 {
		return
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	now := time.Now()
	for _, e := range batch {
		e.queuedAt = now
	}
	rest := q.entries[q.head:]
	all := make([]*entry, 0, len(batch)+len(rest))
	q.entries, q.head = append(append(all, batch...), rest...), 0
	q.measure()
	if l := q.engage(); l != nil {
		l.wake <- struct{}{}
	}
}

// take moves up to rows entries, or bytes of them, to batch. They count as on their way until landed.
func (q *queue) take(batch []*entry, rows, bytes int) []*entry {
	q.mu.Lock()
	defer q.mu.Unlock()
	if !q.due() {
		return batch
	}
	for q.head < len(q.entries) && len(batch) < rows && bytes > 0 {
		e := q.entries[q.head]
		q.entries[q.head] = nil
		q.head++
		if e.idle() {
			e.recycle()
			continue
		}
		bytes -= e.size()
		batch = append(batch, e)
	}
	if q.head == len(q.entries) {
		q.entries, q.head = q.entries[:0], 0
	}
	q.measure()
	q.flying += len(batch)
	if l := q.engage(); l != nil { // more than this batch could hold
		l.wake <- struct{}{}
	}
	return batch
}

// landed says that n rows are no longer on their way, committed or not. The lane that held them goes on
// with what waits, if it can.
func (q *queue) landed(n int, goesOn bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.flying -= n
	if goesOn {
		return
	}
	if l := q.engage(); l != nil {
		l.wake <- struct{}{}
	}
}

// park makes the lane idle, unless it has something to do: then it returns false and the lane is still its
// caller's. An idle lane's goroutine waits on wake until the lane is its own again.
func (q *queue) park(l *lane) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.closed || q.due() || !l.ready() {
		return false
	}
	q.idle = append(q.idle, l)
	return true
}

// rouse gives every idle lane back to its goroutine.
func (q *queue) rouse() {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.rouseAll()
}

func (q *queue) rouseAll() {
	for _, l := range q.idle {
		l.wake <- struct{}{}
	}
	q.idle = q.idle[:0]
}

// close rejects further entries; those that wait are still taken.
func (q *queue) close() {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.closed = true
	q.rouseAll()
}

// finished reports whether nothing waits and nothing more will come.
func (q *queue) finished() bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.closed && q.head == len(q.entries)
}

// fail answers every waiting entry with err.
func (q *queue) fail(err error) {
	q.mu.Lock()
	left := q.entries[q.head:]
	q.entries, q.head = nil, 0
	q.measure()
	q.mu.Unlock()
	for _, e := range left {
		e.answer(err)
	}
}

// measure publishes depth and oldest; mu is held.
func (q *queue) measure() {
	n := len(q.entries) - q.head
	q.depth.Store(int64(n))
	if n == 0 {
		q.oldest.Store(0)
	} else {
		q.oldest.Store(q.entries[q.head].queuedAt.UnixNano())
	}
}

// age is how long the first waiting entry has waited.
func (q *queue) age() time.Duration {
	at := q.oldest.Load()
	if at == 0 {
		return 0
	}
	return time.Duration(time.Now().UnixNano() - at)
}
