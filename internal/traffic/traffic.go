// Package traffic makes up the audit log of a busy installation: the same rows for the same seed. It feeds
// `argusd dev --load` and the benches.
//
// Calls come in the order of time, by a rhythm of days and weeks. Routes are chosen by Zipf's law, for the most part
// among those an actor is used to; actors are people in a console, people with argusctl, and automation. Each route
// has its own latency and errors, now and then made worse by an incident, and there are episodes in which an operator
// works with a break-glass token.
package traffic

import (
	"math"
	"math/rand/v2"
	"net/netip"
	"time"

	"github.com/google/uuid"

	"github.com/useargus/argus"
)

// Config says what to make up. Since and Until are required.
type Config struct {
	Seed         uint64
	Since, Until time.Time
	Rows         int // calls between them, about; the generator ends with Until
	Routes       int // 240 when 0
	Actors       int // 400 when 0

	// A demonstration has people who exist, tenants that can be opened, and troubles to be found. With Cast the
	// routes are those of the ops API, and nothing happens by chance but what calls bring with them.
	Cast         []Member
	Tenants      []string
	Disturbances []Disturbance
}

// Member is an actor of a given cast.
type Member struct {
	ID, UserAgent string
	Agent         string // the program that acts for the member, "" for none
	Kind          argus.ActorKind
	PATID         uuid.UUID // of a PAT
	Address       netip.Addr
}

// Disturbance makes a route, or every route of an area (tenants, ops …), slower and failing for a while.
type Disturbance struct {
	From, To        time.Time
	Route, Area     string
	Slower, Failing float64 // latencies are multiplied; the probability of a 5xx is added
}

// Generator yields the calls of a Config. It is for one goroutine.
type Generator struct {
	config    Config
	rng       *rand.Rand
	routes    []route
	actors    []actor
	popular   picker // routes
	present   picker // actors
	incidents []incident
	episodes  []episode

	hour     time.Time // the one being made
	weight   float64   // calls per unit of the rhythm
	carry    float64   // fraction of a call left over from the hours before
	left     int       // calls still to make in the hour
	made     int       // calls made in the hour
	during   []incident
	breaking *episode
}

// New prepares a generator.
func New(config Config) *Generator {
	if config.Routes == 0 {
		config.Routes = 240
	}
	if config.Cast != nil {
		config.Routes = len(real)
	}
	if config.Actors == 0 {
		config.Actors = 400
	}
	g := &Generator{config: config, rng: rand.New(rand.NewPCG(config.Seed, 0x617267757321))}
	g.routes = makeRoutes(g.rng, config.Routes, config.Tenants)
	g.popular = zipf(len(g.routes), 1.05)
	if config.Cast == nil {
		for range config.Actors {
			g.actors = append(g.actors, g.makeActor())
		}
		g.makeDisturbances()
	}
	for _, m := range config.Cast {
		g.actors = append(g.actors, g.playMember(m))
	}
	for _, d := range config.Disturbances {
		g.incidents = append(g.incidents, incident{d.From, d.To, d.Area, d.Route, d.Slower, d.Failing})
	}
	g.present = zipf(len(g.actors), 0.7)

	g.hour = config.Since.UTC().Truncate(time.Hour)
	var total float64
	for h := g.hour; h.Before(config.Until); h = h.Add(time.Hour) {
		total += rhythm(h) * g.part(h)
	}
	if total > 0 {
		g.weight = float64(config.Rows) / total
	}
	g.hour = g.hour.Add(-time.Hour) // next begins with the following
	return g
}

// part is how much of the hour lies within the window.
func (g *Generator) part(hour time.Time) float64 {
	from, to := hour, hour.Add(time.Hour)
	if from.Before(g.config.Since) {
		from = g.config.Since
	}
	if to.After(g.config.Until) {
		to = g.config.Until
	}
	return max(0, to.Sub(from).Hours())
}

// rhythm is how busy an hour is: most on weekday afternoons, automation all night.
func rhythm(h time.Time) float64 {
	day := 0.25 + 0.75*math.Exp(-math.Pow(float64(h.Hour())-14, 2)/18)
	if wd := h.Weekday(); wd == time.Saturday || wd == time.Sunday {
		day = 0.2 + 0.15*day
	}
	return day
}

// Next makes the next call, in place of what r held, without identity, recorded_at and hash. It returns false at
// the end.
func (g *Generator) Next(r *argus.Record) bool {
	for g.left == 0 {
		g.hour = g.hour.Add(time.Hour)
		if !g.hour.Before(g.config.Until) {
			return false
		}
		g.startHour()
	}
	part := time.Duration(g.part(g.hour) * float64(time.Hour))
	from := g.hour
	if from.Before(g.config.Since) {
		from = g.config.Since
	}
	n := g.made + g.left
	at := from.Add(time.Duration((float64(g.made) + g.rng.Float64()) / float64(n) * float64(part)))
	g.left--
	g.made++
	g.call(r, argus.Micros(at))
	return true
}

func (g *Generator) startHour() {
	want := rhythm(g.hour)*g.part(g.hour)*g.weight + g.carry
	g.left, g.made = int(want), 0
	g.carry = want - float64(g.left)
	g.during = g.during[:0]
	end := g.hour.Add(time.Hour)
	for _, in := range g.incidents {
		if in.from.Before(end) && in.to.After(g.hour) {
			g.during = append(g.during, in)
		}
	}
	g.breaking = nil
	for i, e := range g.episodes {
		if e.from.Before(end) && e.to.After(g.hour) {
			g.breaking = &g.episodes[i]
		}
	}
}

// emptyBody is SHA-256 of nothing.
var emptyBody = [32]byte{0xe3, 0xb0, 0xc4, 0x42, 0x98, 0xfc, 0x1c, 0x14, 0x9a, 0xfb, 0xf4, 0xc8, 0x99, 0x6f, 0xb9, 0x24,
	0x27, 0xae, 0x41, 0xe4, 0x64, 0x9b, 0x93, 0x4c, 0xa4, 0x95, 0x99, 0x1b, 0x78, 0x52, 0xb8, 0x55}

func (g *Generator) call(r *argus.Record, at time.Time) {
	rng := g.rng
	a := &g.actors[g.present.pick(rng)]
	ri := a.habit.pick(rng)
	if rng.Uint32()%5 == 0 && a.agent == "" {
		ri = g.popular.pick(rng)
	} else {
		ri = a.routes[ri]
	}
	rt := &g.routes[ri]
	*r = argus.Record{
		ID: idAt(rng, at), OccurredAt: at, ActorID: a.id, ActorKind: a.kind, Scope: rt.scope, Route: rt.name,
		Method: rt.method, Outcome: argus.Completed, ClientIP: a.addresses[rng.IntN(len(a.addresses))],
		UserAgent: a.userAgent, BodyHashed: true, BodySHA256: emptyBody, Service: rt.service, Release: g.release(rt.service, at),
		Agent: a.agent, Workload: a.workload, Reason: reason(rng, rt),
	}
	if a.kind == argus.KindPAT {
		r.PATID = a.tokens[rng.IntN(len(a.tokens))]
	}
	if e := g.breaking; e != nil && at.After(e.from) && at.Before(e.to) && rng.Uint32()%4 == 0 {
		r.ActorID, r.ActorKind, r.PATID, r.BreakGlassID = e.actor, argus.KindBreakGlass, uuid.Nil, e.token
		r.Agent, r.Workload = "", nil
		r.UserAgent, r.ClientIP = e.agent, e.address
	}
	if a.impersonator != "" && r.ActorKind == argus.KindClerkSession && rng.Uint32()%8 == 0 {
		r.ImpersonatorID = a.impersonator
	}
	if rt.params != nil {
		r.PathParams = rt.params[rng.IntN(len(rt.params))]
	}
	latency := rt.latency * math.Exp(rt.spread*rng.NormFloat64())
	if rng.Uint32()%200 == 0 { // a pause of something behind it
		latency += 50_000 * rng.ExpFloat64()
	}
	failing := rt.failing
	for i := range g.during {
		if in := &g.during[i]; (rt.area == in.area || rt.name == in.route) && at.After(in.from) && at.Before(in.to) {
			latency *= in.slower
			failing += in.failing
		}
	}
	r.LatencyUS = int64(latency)
	switch u := rng.Float64(); {
	case u < failing:
		statuses := failingStatuses(rt)
		r.Status = statuses[rng.IntN(len(statuses))]
	case u < failing+a.clumsy+rt.rejected:
		r.Status = [...]int16{400, 403, 403, 404, 404, 404, 409, 422, 429}[rng.IntN(9)]
		r.LatencyUS = int64(float64(r.LatencyUS) * 0.3)
	default:
		r.Status = rt.status
	}
	if r.Status >= 400 {
		r.ErrorCode = string(failure(rng, rt, r.Status))
	}
	if rt.mutates {
		r.BodyBytes = 40 + rng.Int64N(900)
		for i := 0; i < 32; i += 8 {
			putUint64(r.BodySHA256[i:], rng.Uint64())
		}
		if rng.Uint32()%20_000 == 0 {
			r.Outcome, r.Status, r.LatencyUS, r.ErrorCode = argus.Interrupted, 0, 0, ""
		}
	}
	if a.traced {
		r.TraceID = hex32(rng)
	}
	if a.numbered {
		r.ClientRequestID = "req-" + hex32(rng)[:16]
	}
}

func putUint64(b []byte, v uint64) {
	for i := range 8 {
		b[i] = byte(v >> (8 * i))
	}
}

func hex32(rng *rand.Rand) string {
	const digits = "0123456789abcdef"
	var b [32]byte
	for i := 0; i < 32; i += 16 {
		v := rng.Uint64()
		for j := range 16 {
			b[i+j] = digits[v>>(4*j)&15]
		}
	}
	return string(b[:])
}

// idAt is a version 7 UUID of the moment.
func idAt(rng *rand.Rand, at time.Time) (u uuid.UUID) {
	ms := uint64(at.UnixMilli())
	lo, hi := rng.Uint64(), rng.Uint64()
	putUint64(u[8:], hi)
	u[0], u[1], u[2], u[3], u[4], u[5] = byte(ms>>40), byte(ms>>32), byte(ms>>24), byte(ms>>16), byte(ms>>8), byte(ms)
	u[6], u[7] = 0x70|byte(lo)&0x0f, byte(lo>>8)
	u[8] = u[8]&0x3f | 0x80
	return u
}

// picker chooses an index by weight with one random number.
type picker struct{ upTo []float64 }

// zipf weighs index i by 1/(i+1)^s.
func zipf(n int, s float64) picker {
	p := picker{make([]float64, n)}
	total := 0.0
	for i := range n {
		total += 1 / math.Pow(float64(i+1), s)
		p.upTo[i] = total
	}
	for i := range n {
		p.upTo[i] /= total
	}
	return p
}

func (p picker) pick(rng *rand.Rand) int {
	u := rng.Float64()
	lo, hi := 0, len(p.upTo)-1
	for lo < hi {
		if mid := (lo + hi) / 2; p.upTo[mid] < u {
			lo = mid + 1
		} else {
			hi = mid
		}
	}
	return lo
}
