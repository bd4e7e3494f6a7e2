package traffic

import (
	"fmt"
	"math"
	"math/rand/v2"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"

	"github.com/useargus/argus"
)

// route is one template with its habits.
type route struct {
	name, method, scope string
	service, area       string              // an area is the routes about one thing: tenants, ops …
	params              [][]argus.PathParam // sets of values to choose from; nil without parameters
	mutates             bool
	status              int16   // of success
	latency, spread     float64 // median in µs, and sigma of its logarithm
	failing, rejected   float64 // probabilities of 5xx and of 4xx
}

// incident makes the routes of an area slower and failing for a while.
type incident struct {
	from, to        time.Time
	area, route     string
	slower, failing float64
}

// episode is an operator's work with a break-glass token.
type episode struct {
	from, to     time.Time
	actor, agent string
	token        uuid.UUID
	address      netip.Addr
}

// actor is a caller, and the routes they are used to.
type actor struct {
	id, impersonator string
	kind             argus.ActorKind
	tokens           []uuid.UUID
	userAgent, agent string
	workload         []argus.Claim
	addresses        []netip.Addr
	routes           []int // most used first
	habit            picker
	clumsy           float64 // probability of a 4xx of his own making
	traced, numbered bool
}

// real are the routes of the ops API, which lead the list.
var real = []struct{ name, scope string }{
	{"GET /v1/audit-log", "logs:read"}, {"GET /v1/tenants", "tenants:read"}, {"GET /v1/tenants/:id", "tenants:read"},
	{"GET /compute/ops/workers", "compute:read"}, {"GET /v1/health", "any"}, {"GET /v1/operators/me", "any"},
	{"GET /v1/perf", "logs:read"}, {"GET /v1/audit-log/facets", "logs:read"}, {"POST /compute/ops/launch", "compute:write"},
	{"POST /v1/tenants/:id/arm", "remote_support:arm"}, {"POST /v1/tenants/:id/disarm", "remote_support:arm"},
	{"POST /v1/tenants/:id/sessions", "remote_support"}, {"POST /compute/ops/workers/:id/stop", "compute:write"},
	{"POST /compute/ops/workers/:id/resume", "compute:write"}, {"POST /compute/ops/workers/:id/terminate", "compute:write"},
	{"GET /v1/tokens", "any"}, {"POST /v1/tokens", "tokens:write"}, {"GET /v1/audit-log/:id", "logs:read"},
	{"POST /v1/tenants/:id/sessions/:session/end", "remote_support"}, {"GET /v1/perf/series", "logs:read"},
	{"GET /svc/sample/v1/items", "sample:read"}, {"GET /svc/sample/v1/items/:id", "sample:read"},
	{"POST /svc/sample/v1/items/:id/retire", "sample:write"}, {"POST /svc/sample/v1/items", "sample:write"},
}

func makeRoutes(rng *rand.Rand, n int, tenants []string) []route {
	var names, scopes, services []string
	for _, r := range real {
		_, path, _ := strings.Cut(r.name, " ")
		names, scopes, services = append(names, r.name), append(scopes, r.scope), append(services, serviceOf(path))
	}
	resources := []string{"events", "agents", "alerts", "policies", "sites", "devices", "reports", "jobs", "images", "volumes",
		"networks", "secrets", "users", "groups", "webhooks", "releases", "backups", "tickets", "metrics", "models"}
	for _, suffix := range []string{"", "/:id", "/:id/history", "/:id/members"} {
		for _, method := range []string{"GET", "POST", "PATCH", "DELETE"} {
			for i, res := range resources {
				if method == "DELETE" && suffix != "/:id" || method == "PATCH" && suffix == "" || method == "POST" && suffix == "/:id/history" {
					continue
				}
				names = append(names, method+" /v1/"+res+suffix)
				scopes, services = append(scopes, "events:read"), append(services, fleet[i%len(fleet)])
			}
		}
	}
	for i := 0; len(names) < n; i++ {
		names, scopes = append(names, fmt.Sprintf("GET /v1/extra%d", i)), append(scopes, "events:read")
		services = append(services, argus.OwnService)
	}
	routes := make([]route, 0, n)
	for i, name := range names[:n] {
		method, path, _ := strings.Cut(name, " ")
		r := route{
			name: name, method: method, scope: scopes[i], status: 200, mutates: method != "GET",
			service: services[i], area: strings.SplitN(strings.TrimPrefix(path, "/"), "/", 3)[1],
			latency: 900 * math.Exp(1.1*rng.NormFloat64()), spread: 0.25 + 0.5*rng.Float64(),
			failing: 0.0005 * rng.ExpFloat64(), rejected: 0.005 * rng.ExpFloat64(),
		}
		if r.mutates {
			r.latency *= 4
			r.status = 201
		}
		if strings.Contains(path, ":id") {
			for range 400 {
				id := fmt.Sprintf("UTD_%s_%03d", [...]string{"7ELEVEN", "ACME", "GLOBEX", "INITECH", "UMBRELLA"}[rng.IntN(5)], rng.IntN(300))
				if tenants != nil {
					id = tenants[rng.IntN(len(tenants))]
				}
				if strings.Contains(path, "workers") {
					id = fmt.Sprintf("wk-%08x", rng.Uint32())
				}
				if strings.Contains(path, "items") {
					id = fmt.Sprint(1 + rng.IntN(40))
				}
				set := []argus.PathParam{{Name: "id", Value: id}}
				if strings.Contains(path, ":session") {
					set = append(set, argus.PathParam{Name: "session", Value: idAt(rng, time.Unix(1_700_000_000, 0)).String()})
				}
				r.params = append(r.params, set)
			}
		}
		routes = append(routes, r)
	}
	return routes
}

func (g *Generator) makeActor() actor {
	rng := g.rng
	const letters = "ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz23456789"
	var id strings.Builder
	id.WriteString("user_2")
	for range 26 {
		id.WriteByte(letters[rng.IntN(len(letters))])
	}
	a := actor{id: id.String(), clumsy: 0.01 * rng.ExpFloat64()}
	for range 1 + rng.IntN(3) {
		a.addresses = append(a.addresses, address(rng))
	}
	count := 8 + rng.IntN(40)
	switch rng.IntN(10) {
	case 0, 1, 2: // a console in a browser
		a.kind = argus.KindClerkSession
		a.userAgent = fmt.Sprintf("Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/%d.0.0.0 Safari/537.36", 128+rng.IntN(8))
		if rng.IntN(4) == 0 {
			a.userAgent = fmt.Sprintf("Mozilla/5.0 (Macintosh; Intel Mac OS X 10.15; rv:%d.0) Gecko/20100101 Firefox/%[1]d.0", 128+rng.IntN(8))
		}
		if rng.IntN(12) == 0 {
			a.impersonator = "user_2support000000000000000000"
		}
	case 3, 4, 5, 6: // a person with argusctl
		a.kind, a.userAgent, a.numbered = argus.KindPAT, fmt.Sprintf("argusctl/1.%d.%d", rng.IntN(8), rng.IntN(4)), rng.IntN(2) == 0
	default: // automation: few routes, many calls
		a.kind, a.traced = argus.KindPAT, rng.IntN(2) == 0
		if rng.IntN(4) == 0 {
			a.kind, a.workload = argus.KindWorkload, workloadClaims(rng)
		}
		a.userAgent = [...]string{"argus-ci/2.3", "Terraform/1.9.8 (+https://www.terraform.io)", "python-requests/2.32.3",
			"Go-http-client/1.1", "curl/8.9.1"}[rng.IntN(5)]
		count = 3 + rng.IntN(8)
	}
	if a.kind == argus.KindPAT {
		for range 1 + rng.IntN(3) {
			a.tokens = append(a.tokens, idAt(rng, g.config.Since))
		}
	}
	seen := map[int]bool{}
	for len(a.routes) < min(count, len(g.routes)) {
		r := g.popular.pick(rng)
		if rng.IntN(3) == 0 {
			r = rng.IntN(len(g.routes))
		}
		if !seen[r] {
			seen[r] = true
			a.routes = append(a.routes, r)
		}
	}
	a.habit = zipf(len(a.routes), 1.1)
	return a
}

// playMember gives a member of the cast habits: programs know few routes, people most of them.
func (g *Generator) playMember(m Member) actor {
	a := actor{id: m.ID, kind: m.Kind, userAgent: m.UserAgent, agent: m.Agent, addresses: []netip.Addr{m.Address}, clumsy: 0.008}
	if m.Kind == argus.KindPAT {
		a.tokens = []uuid.UUID{m.PATID}
	}
	a.routes = g.rng.Perm(len(g.routes))
	slices.SortStableFunc(a.routes, func(i, j int) int { return btoi(g.routes[i].mutates) - btoi(g.routes[j].mutates) })
	if m.Agent != "" { // it only reads
		a.routes = slices.DeleteFunc(a.routes, func(i int) bool { return g.routes[i].mutates })
	}
	a.habit = zipf(len(a.routes), 1.1)
	return a
}

func btoi(b bool) int {
	if b {
		return 1
	}
	return 0
}

func address(rng *rand.Rand) netip.Addr {
	if rng.IntN(6) == 0 {
		b := [16]byte{0x20, 0x01, 0x0d, 0xb8}
		putUint64(b[8:], rng.Uint64())
		return netip.AddrFrom16(b)
	}
	return netip.AddrFrom4([4]byte{10, byte(rng.IntN(4)), byte(rng.IntN(256)), byte(rng.IntN(256))})
}

// makeDisturbances spreads incidents and episodes over the window: about forty and twelve a year.
func (g *Generator) makeDisturbances() {
	rng, length := g.rng, g.config.Until.Sub(g.config.Since)
	year := length.Hours() / 8760
	for range int(math.Ceil(40 * year)) {
		from := g.config.Since.Add(time.Duration(rng.Int64N(max(1, int64(length)))))
		g.incidents = append(g.incidents, incident{
			from: from, to: from.Add(5*time.Minute + time.Duration(rng.ExpFloat64()*float64(40*time.Minute))),
			area: g.routes[g.popular.pick(rng)].area, slower: 2 + 15*rng.Float64(), failing: 0.5 * rng.Float64(),
		})
	}
	for range int(math.Ceil(12 * year)) {
		from := g.config.Since.Add(time.Duration(rng.Int64N(max(1, int64(length)))))
		g.episodes = append(g.episodes, episode{
			from: from, to: from.Add(30*time.Minute + time.Duration(rng.Int64N(int64(90*time.Minute)))),
			actor: g.actors[rng.IntN(len(g.actors))].id, agent: "argusctl/1.7.2", token: idAt(rng, from), address: address(rng),
		})
	}
}
