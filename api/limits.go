package api

import (
	"context"
	"net/netip"
	"sync"
	"time"

	"golang.org/x/time/rate"

	"github.com/useargus/argus"
)

// Limits bounds what callers may take. A zero field means its default; a negative one means no limit.
type Limits struct {
	Calls         int     // calls served at once; 1024
	Streams       int     // streams and exports at once; 2048
	StreamsEach   int     // streams and exports of one credential at once; 128
	PerSecond     float64 // calls of one credential per second, sustained; 200
	Burst         int     // calls of one credential at once; 1000
	FailPerSecond float64 // refused credentials of one address per second, sustained; 1
	FailBurst     int     // refused credentials of one address at once; 30
}

func (l Limits) withDefaults() Limits {
	if l.Calls == 0 {
		l.Calls = 1024
	}
	if l.Streams == 0 {
		l.Streams = 2048
	}
	if l.StreamsEach == 0 {
		l.StreamsEach = 128
	}
	if l.PerSecond == 0 {
		l.PerSecond = 200
	}
	if l.Burst == 0 {
		l.Burst = 1000
	}
	if l.FailPerSecond == 0 {
		l.FailPerSecond = 1
	}
	if l.FailBurst == 0 {
		l.FailBurst = 30
	}
	return l
}

// limits enforces Limits.
type limits struct {
	config    Limits
	calls     chan struct{}
	held      chan struct{} // places in which flooding callers are made to wait
	principal *meter
	address   *meter

	mu        sync.Mutex
	all       int            // streams open
	following map[string]int // by credential
}

// heldCallers bounds how many flooding callers are held at once, and holdFor how long each.
const (
	heldCallers = 512
	holdFor     = time.Second
)

func newLimits(config Limits) *limits {
	config = config.withDefaults()
	l := &limits{config: config, held: make(chan struct{}, heldCallers), following: map[string]int{}}
	if config.Calls > 0 {
		l.calls = make(chan struct{}, config.Calls)
	}
	if config.PerSecond > 0 {
		l.principal = newMeter(config.PerSecond, config.Burst)
	}
	if config.FailPerSecond > 0 {
		l.address = newMeter(config.FailPerSecond, config.FailBurst)
	}
	return l
}

// enter takes a place among the calls served at once; release gives it back, once however often it is called.
func (l *limits) enter() (release func(), err error) {
	if l.calls == nil {
		return func() {}, nil
	}
	select {
	case l.calls <- struct{}{}:
	default:
		return nil, argus.Errorf(argus.CodeUnavailable, "The server is busy. Try again.").WithRetryAfter(time.Second)
	}
	done := false // by the one goroutine that serves the call
	return func() {
		if !done {
			done = true
			<-l.calls
		}
	}, nil
}

// enterStream takes a place among the streams, and among those of the credential; leaveStream gives both back.
func (l *limits) enterStream(principal string) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.config.StreamsEach > 0 && l.following[principal] >= l.config.StreamsEach {
		return argus.Errorf(argus.CodeRateLimited, "This credential has %d streams and exports open. Close some.", l.following[principal]).
			WithRetryAfter(5 * time.Second)
	}
	if l.config.Streams > 0 && l.all >= l.config.Streams {
		return argus.Errorf(argus.CodeUnavailable, "The server has as many streams as it takes. Try again.").WithRetryAfter(5 * time.Second)
	}
	l.all++
	l.following[principal]++
	return nil
}

func (l *limits) leaveStream(principal string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.all--
	if l.following[principal]--; l.following[principal] == 0 {
		delete(l.following, principal)
	}
}

// streams counts those open.
func (l *limits) streams() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.all
}

// call counts one call of a credential; past the limit it is the 429 to answer.
func (l *limits) call(principal string) error {
	if l.principal == nil {
		return nil
	}
	if wait := l.principal.take(principal); wait > 0 {
		return argus.Errorf(argus.CodeRateLimited, "Too many calls with this credential. Slow down.").WithRetryAfter(wait)
	}
	return nil
}

// failed counts one refused credential of an address; past the limit it is the 429 to answer instead.
func (l *limits) failed(ip netip.Addr) error {
	if l.address == nil {
		return nil
	}
	if wait := l.address.take(addressKey(ip)); wait > 0 {
		return tooManyRefused(wait)
	}
	return nil
}

// exhausted is the 429 to answer when an address may not have another credential looked up now.
func (l *limits) exhausted(ip netip.Addr) error {
	if l.address == nil {
		return nil
	}
	if wait := l.address.wait(addressKey(ip)); wait > 0 {
		return tooManyRefused(wait)
	}
	return nil
}

func tooManyRefused(wait time.Duration) error {
	return argus.Errorf(argus.CodeRateLimited, "Too many credentials of this address were refused. Wait.").
		WithRetryAfter(wait).WithCause(&refusal{reasonFlood, nil})
}

// hold makes a flooding caller wait before it is answered, so that whoever guesses over few connections cannot
// take the time of those who do not. Past heldCallers it is answered at once.
func (l *limits) hold(ctx context.Context) {
	select {
	case l.held <- struct{}{}:
	default:
		return
	}
	defer func() { <-l.held }()
	timer := time.NewTimer(holdFor)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	}
}

// addressKey is the address, or its network of 64 bits: whoever has one address of it has all.
func addressKey(ip netip.Addr) string {
	ip = argus.Address(ip)
	if ip.Is6() {
		if p, err := ip.Prefix(64); err == nil {
			return p.String()
		}
	}
	return ip.String()
}

// meter holds a token bucket for each key. Full buckets are forgotten, which loses nothing; past maxBuckets all
// are, which is generous to those who flood from very many addresses and keeps memory bounded.
type meter struct {
	limit   rate.Limit
	burst   int
	mu      sync.Mutex
	buckets map[string]*rate.Limiter
	swept   time.Time
}

const maxBuckets = 50_000

func newMeter(perSecond float64, burst int) *meter {
	return &meter{limit: rate.Limit(perSecond), burst: max(1, burst), buckets: map[string]*rate.Limiter{}, swept: time.Now()}
}

// take takes one token; when there is none it returns how long until there is.
func (m *meter) take(key string) time.Duration {
	m.mu.Lock()
	defer m.mu.Unlock()
	now := time.Now()
	if now.Sub(m.swept) > time.Minute || len(m.buckets) >= maxBuckets {
		m.sweep(now)
	}
	b := m.buckets[key]
	if b == nil {
		b = rate.NewLimiter(m.limit, m.burst)
		m.buckets[key] = b
	}
	if b.AllowN(now, 1) {
		return 0
	}
	return m.until(b, now)
}

// wait returns how long until key may take a token, without taking it.
func (m *meter) wait(key string) time.Duration {
	m.mu.Lock()
	defer m.mu.Unlock()
	now := time.Now()
	if b := m.buckets[key]; b != nil && b.TokensAt(now) < 1 {
		return m.until(b, now)
	}
	return 0
}

func (m *meter) until(b *rate.Limiter, now time.Time) time.Duration {
	missing := 1 - b.TokensAt(now)
	return max(time.Millisecond, time.Duration(missing/float64(m.limit)*float64(time.Second)))
}

func (m *meter) sweep(now time.Time) {
	m.swept = now
	for key, b := range m.buckets {
		if b.TokensAt(now) >= float64(m.burst) {
			delete(m.buckets, key)
		}
	}
	if len(m.buckets) >= maxBuckets {
		clear(m.buckets)
	}
}
