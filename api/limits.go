package api

import (
	"cmp"
	"context"
	"net/netip"
	"sync"
	"time"

	"golang.org/x/time/rate"

	"github.com/useargus/argus"
	"github.com/useargus/argus/api/credential"
)

// Limits bounds what callers may take. A zero field means its default; a negative one means no limit.
type Limits struct {
	Connections     int // open at once; 16,384
	ConnectionsEach int // of one address, trusted proxies apart; 1024

	Calls         int     // calls served at once; 1024
	CallsEach     int     // calls of one person at once; 256
	ChecksEach    int     // credentials of one address being checked at once; 256
	Streams       int     // streams and exports at once; 2048
	StreamsEach   int     // streams and exports of one person at once; 128
	PerSecond     float64 // calls of one credential per second, sustained; 200
	Burst         int     // calls of one credential at once; 1000
	FailPerSecond float64 // bad credentials of one address per second, sustained; 1
	FailBurst     int     // bad credentials of one address at once; 30
}

func (l Limits) withDefaults() Limits {
	return Limits{
		Connections: cmp.Or(l.Connections, 16_384), ConnectionsEach: cmp.Or(l.ConnectionsEach, 1024),
		Calls: cmp.Or(l.Calls, 1024), CallsEach: cmp.Or(l.CallsEach, 256), ChecksEach: cmp.Or(l.ChecksEach, 256),
		Streams: cmp.Or(l.Streams, 2048), StreamsEach: cmp.Or(l.StreamsEach, 128),
		PerSecond: cmp.Or(l.PerSecond, 200), Burst: cmp.Or(l.Burst, 1000),
		FailPerSecond: cmp.Or(l.FailPerSecond, 1), FailBurst: cmp.Or(l.FailBurst, 30),
	}
}

// limits enforces Limits.
type limits struct {
	config    Limits
	calls     chan struct{}
	held      chan struct{} // places in which flooding callers are made to wait
	principal *meter
	address   *meter

	checking *underWay // credentials, by address
	persons  *underWay // calls, by person
	streams  *underWay // by person
}

// heldCallers bounds how many flooding callers are held at once, and holdFor how long each.
const (
	heldCallers = 512
	holdFor     = time.Second
)

func newLimits(config Limits) *limits {
	config = config.withDefaults()
	l := &limits{config: config, held: make(chan struct{}, heldCallers),
		checking: newUnderWay(-1, config.ChecksEach), persons: newUnderWay(-1, config.CallsEach),
		streams: newUnderWay(config.Streams, config.StreamsEach)}
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

// check takes a place among the credentials of an address that are being checked. A check may have to wait for Clerk or
// Postgres, and the callers of one address may not keep those of others from it.
func (l *limits) check(ip netip.Addr) error {
	if _, full := l.checking.enter(addressKey(ip)); full {
		return argus.Errorf(argus.CodeRateLimited, "Too many credentials of this address are being checked. Try again.").
			WithRetryAfter(time.Second).WithCause(&credential.Unauthenticated{Reason: credential.ReasonFlood})
	}
	return nil
}

func (l *limits) checked(ip netip.Addr) { l.checking.leave(addressKey(ip)) }

// enterCall takes a place among the calls of a person; leaveCall gives it back.
func (l *limits) enterCall(person string) error {
	if n, full := l.persons.enter(person); full {
		return argus.Errorf(argus.CodeRateLimited, "You have %d calls under way. Wait for some to end.", n).WithRetryAfter(time.Second)
	}
	return nil
}

func (l *limits) leaveCall(person string) { l.persons.leave(person) }

// enterStream takes a place among the streams, and among those of the person; leaveStream gives both back.
func (l *limits) enterStream(person string) error {
	n, full := l.streams.enter(person)
	switch {
	case full && l.config.StreamsEach > 0 && n >= l.config.StreamsEach:
		return argus.Errorf(argus.CodeRateLimited, "You have %d streams and exports open. Close some.", n).WithRetryAfter(5 * time.Second)
	case full:
		return argus.Errorf(argus.CodeUnavailable, "The server is at its limit of streams. Try again.").WithRetryAfter(5 * time.Second)
	}
	return nil
}

func (l *limits) leaveStream(person string) { l.streams.leave(person) }

// underWay counts what goes on at once, in all and by key.
type underWay struct {
	most, each int // negative: no bound
	mu         sync.Mutex
	all        int
	by         map[string]int
}

func newUnderWay(most, each int) *underWay {
	return &underWay{most: most, each: each, by: map[string]int{}}
}

// enter takes a place, or says that there is none; n is how many places the key had.
func (u *underWay) enter(key string) (n int, full bool) {
	u.mu.Lock()
	defer u.mu.Unlock()
	n = u.by[key]
	if u.each >= 0 && n >= u.each || u.most >= 0 && u.all >= u.most {
		return n, true
	}
	u.all++
	u.by[key]++
	return n, false
}

func (u *underWay) leave(key string) {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.all--
	if u.by[key]--; u.by[key] == 0 {
		delete(u.by, key)
	}
}

func (u *underWay) total() int {
	u.mu.Lock()
	defer u.mu.Unlock()
	return u.all
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

// failed counts one bad credential of an address; past the limit it is the 429 to answer instead.
func (l *limits) failed(ip netip.Addr) error {
	if l.address == nil {
		return nil
	}
	if wait := l.address.take(addressKey(ip)); wait > 0 {
		return tooManyBad(wait)
	}
	return nil
}

// exhausted is the 429 to answer when an address may not have another credential looked up now.
func (l *limits) exhausted(ip netip.Addr) error {
	if l.address == nil {
		return nil
	}
	if wait := l.address.wait(addressKey(ip)); wait > 0 {
		return tooManyBad(wait)
	}
	return nil
}

func tooManyBad(wait time.Duration) error {
	return argus.Errorf(argus.CodeRateLimited, "Too many credentials of this address were rejected. Wait.").
		WithRetryAfter(wait).WithCause(&credential.Unauthenticated{Reason: credential.ReasonFlood})
}

// hold makes a flooding caller wait before it is answered, so that a guesser with few connections cannot take
// the time of other callers. Past heldCallers it is answered at once.
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

// addressKey is the address, or its network of 64 bits: a host with one address of it has all.
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
