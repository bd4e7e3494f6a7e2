package analytics

import (
	"context"
	"errors"
	"regexp"
	"slices"
	"sync"
	"time"

	"github.com/ClickHouse/ch-go"
	"github.com/ClickHouse/ch-go/proto"

	"github.com/useargus/argus"
)

// attempt is one try at a question. All of ClickHouse that it reads, the watermark first, is of one copy.
type attempt struct {
	a    *Analytics
	copy *logCopy // nil: Postgres answers alone
	// A second attempt beside one that is slow has the place of the first.
	placed bool

	kind  string // of question, see ask
	slow  func() // called once, when the copy has not answered for long; nil: never
	timer *time.Timer
	begun time.Time // when the copy was first asked
}

// copyError says that a copy did not answer, so that another store may.
type copyError struct {
	copy  *logCopy
	cause error
}

func (e *copyError) Error() string { return e.copy.String() + " did not answer: " + e.cause.Error() }
func (e *copyError) Unwrap() error { return e.cause }

// errOvertaken: another copy has answered the question meanwhile.
var errOvertaken = errors.New("another copy answered first")

// ask has f answer the question of a copy, of the next one when that did not answer, and of Postgres alone when none did.
// Nothing of an attempt that failed is kept: the next one begins with its own watermark. f must keep all that it finds in
// what it returns, since two attempts may run at once. An error of f that is no copyError is the answer.
//
// kind names questions that take about as long as each other. A question with a kind is hedged: when its copy has not
// answered for long, another one is asked beside it, and the first answer counts. Without a kind it never is.
func ask[T any](ctx context.Context, a *Analytics, kind string, f func(ctx context.Context, on *attempt) (T, error)) (T, error) {
	var tried []*logCopy
	for c := a.copies.next(); c != nil; c = a.copies.next(tried...) {
		got, also, err := askCopy(ctx, a, kind, c, tried, f)
		var away *copyError
		switch {
		case !errors.As(err, &away):
			return got, err
		case ctx.Err() != nil:
			return got, ctx.Err()
		}
		if tried = append(tried, c); also != nil {
			tried = append(tried, also)
		}
	}
	return f(ctx, &attempt{a: a})
}

// askCopy has f answer the question of the copy, and when that is slow, of another one beside it, also.
func askCopy[T any](ctx context.Context, a *Analytics, kind string, c *logCopy, tried []*logCopy,
	f func(context.Context, *attempt) (T, error)) (got T, also *logCopy, err error) {
	on := &attempt{a: a, copy: c, kind: kind}
	if kind == "" || a.config.HedgeAfter <= 0 || len(a.copies.all) == 1 {
		got, err = f(ctx, on)
		return got, nil, err
	}
	first, overtake := context.WithCancelCause(ctx)
	defer overtake(nil)
	second, giveUp := context.WithCancel(ctx)
	defer giveUp()
	var (
		beside sync.WaitGroup
		mu     sync.Mutex
		over   bool // the first attempt has ended
		other  T
		failed error
	)
	if len(tried) == 0 {
		a.hedges.earn()
	}
	on.slow = func() {
		mu.Lock()
		defer mu.Unlock()
		o := a.copies.next(append(slices.Clone(tried), c)...)
		if over || o == nil || !o.sound() {
			return
		}
		if tail, known := o.health.behind(); known && tail > a.config.tailLimit || !a.hedges.spend() {
			return
		}
		also = o
		a.metrics.hedges.WithLabelValues(c.name).Inc()
		beside.Go(func() {
			it := &attempt{a: a, copy: o, kind: kind, placed: true}
			if other, failed = f(second, it); failed == nil {
				a.hedges.took(it)
				overtake(errOvertaken)
			}
		})
	}
	got, err = f(first, on)
	on.stop()
	mu.Lock()
	over = true
	mu.Unlock()
	if err == nil {
		a.hedges.took(on)
	}
	if also == nil {
		return got, nil, err
	}
	var away *copyError
	overtaken := context.Cause(first) == errOvertaken
	if err == nil || !overtaken && !errors.As(err, &away) {
		giveUp()
		beside.Wait()
		return got, also, err
	}
	beside.Wait()
	if overtaken || failed == nil {
		c.suspect()
		a.metrics.overtaken.WithLabelValues(c.name).Inc()
		return other, also, nil
	}
	if !errors.As(failed, &away) {
		return other, also, failed
	}
	return got, also, err
}

// acquire takes a place for the attempt. Scans take longer than other questions of their kind.
func (on *attempt) acquire(ctx context.Context, places chan struct{}) (release func(), err error) {
	if places == on.a.heavy && on.kind != "" && on.begun.IsZero() {
		on.kind += " scan"
	}
	if on.placed {
		return func() {}, nil
	}
	return acquire(ctx, places)
}

// with calls f with a connection to the copy. It fails with a copyError when another store may do better, and with the
// answer when none would.
func (on *attempt) with(ctx context.Context, f func(*clickhouseConn) error) error {
	if on.begun.IsZero() {
		on.begun = time.Now()
		if on.slow != nil {
			on.timer = time.AfterFunc(on.a.hedges.delay(on.kind, on.a.config.HedgeAfter), on.slow)
		}
	}
	return on.a.clickhouseFailure(ctx, on.copy, on.copy.ch.with(ctx, f))
}

func (on *attempt) stop() {
	if on.timer != nil {
		on.timer.Stop()
	}
}

// clickhouseFailure is what a failure of the copy means for the question. It is a copyError unless no other store would do
// better: the question itself is too large, or its caller has left.
func (a *Analytics) clickhouseFailure(ctx context.Context, c *logCopy, err error) error {
	switch {
	case err == nil:
		return nil
	case ctx.Err() != nil:
		return ctx.Err()
	case isBound(err):
		a.log.Info("a question went past its bounds", "error", err)
		return errOutOfTime.WithCause(err)
	case errors.Is(err, errOutOfTime):
		return err
	}
	c.held.forget()
	reason := "away"
	switch {
	case isRejection(err):
		reason = "refused"
		c.refuse()
	case errors.Is(err, errStalled):
		reason = "stalled"
	}
	if !errors.Is(err, errBreakerOpen) {
		a.metrics.failovers.WithLabelValues(c.name, reason).Inc()
		a.log.Warn("ClickHouse did not answer a question; the next store is asked", "copy", c.name, "error", err)
	}
	return &copyError{c, err}
}

// isBound tells whether the question went past its own bounds. The watermark is no part of the question. Neither is memory that
// the server lacks, or the API's user there, since other questions have it: the code is the same, and only the message differs.
func isBound(err error) bool {
	var watermark *watermarkError
	var said *ch.Exception
	if errors.As(err, &watermark) || !errors.As(err, &said) {
		return false
	}
	if said.Code == proto.ErrMemoryLimitExceeded {
		return ownMemory.MatchString(said.Message)
	}
	return said.IsCode(proto.ErrTimeoutExceeded, proto.ErrTooSlow, proto.ErrTooManyRows, proto.ErrTooManyBytes)
}

// ownMemory is what ClickHouse says of a question's own bound: "Query memory limit exceeded: …", before 25.9 "Memory limit (for
// query) exceeded: …".
var ownMemory = regexp.MustCompile(`(?i)query memory limit exceeded|memory limit \(for query\) exceeded`)

// errOutOfTime: the parts of a question took longer than it may.
var errOutOfTime = argus.Errorf(argus.CodeQueryTooLarge,
	"The question takes too much time or memory; narrow its window or its filter.")

// hedges says when a copy is slow, and how many questions may be asked twice for that.
type hedges struct {
	mu     sync.Mutex
	credit float64
	paces  map[string]*pace // by kind of question
}

// pace is how long the newest answers took.
type pace struct {
	took [128]time.Duration
	n    int // answers so far
	p95  time.Duration
}

// Of a hundred questions hedgeShare·100 may be asked twice, and hedgeReserve at any time: as many as may be under way when
// a copy freezes.
const (
	hedgeShare   = 0.05
	hedgeReserve = maxLight + maxHeavy
)

func newHedges() *hedges {
	return &hedges{credit: hedgeReserve, paces: map[string]*pace{}}
}

// earn counts a question.
func (h *hedges) earn() {
	h.mu.Lock()
	h.credit = min(h.credit+hedgeShare, hedgeReserve)
	h.mu.Unlock()
}

// spend takes the leave to ask a question twice.
func (h *hedges) spend() bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.credit < 1 {
		return false
	}
	h.credit--
	return true
}

// delay is how long a copy may take for a question of the kind before another is asked.
func (h *hedges) delay(kind string, least time.Duration) time.Duration {
	h.mu.Lock()
	defer h.mu.Unlock()
	if p := h.paces[kind]; p != nil {
		return max(least, 3*p.p95)
	}
	return least
}

// took notes how long an answer took.
func (h *hedges) took(on *attempt) {
	if on.begun.IsZero() {
		return
	}
	d := time.Since(on.begun)
	h.mu.Lock()
	defer h.mu.Unlock()
	p := h.paces[on.kind]
	if p == nil {
		p = &pace{}
		h.paces[on.kind] = p
	}
	p.took[p.n%len(p.took)] = d
	if p.n++; p.n%16 == 0 { // few answers say nothing, and sorting for each would cost
		sorted := slices.Sorted(slices.Values(p.took[:min(p.n, len(p.took))]))
		p.p95 = sorted[len(sorted)*95/100]
	}
}
