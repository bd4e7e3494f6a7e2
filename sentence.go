package argus

import (
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"unicode"
)

// deed is what a call to a route does, in two forms: "Ada armed UTD_1" and "Ada tried to arm UTD_1". A parameter of the
// route stands in braces.
type deed struct{ did, do string }

// deeds has every route of ARGUS's own API. TestEveryRouteHasASentence holds that in package api.
var deeds = map[string]deed{
	"GET /compute/ops/workers":                {"listed the workers", "list the workers"},
	"POST /compute/ops/launch":                {"launched a worker", "launch a worker"},
	"POST /compute/ops/workers/:id/stop":      {"stopped worker {id}", "stop worker {id}"},
	"POST /compute/ops/workers/:id/resume":    {"resumed worker {id}", "resume worker {id}"},
	"POST /compute/ops/workers/:id/terminate": {"terminated worker {id}", "terminate worker {id}"},

	"GET /v1/tenants":                            {"listed the tenants", "list the tenants"},
	"GET /v1/tenants/:id":                        {"looked at tenant {id}", "look at tenant {id}"},
	"PUT /v1/tenants/:id":                        {"changed tenant {id}", "change tenant {id}"},
	"PUT /v1/tenants/:id/consent":                {"recorded a consent of {id}", "record a consent of {id}"},
	"DELETE /v1/tenants/:id":                     {"retired tenant {id}", "retire tenant {id}"},
	"POST /v1/tenants/:id/arm":                   {"armed {id}", "arm {id}"},
	"POST /v1/tenants/:id/disarm":                {"disarmed {id}", "disarm {id}"},
	"POST /v1/tenants/:id/sessions":              {"started a support session with {id}", "start a support session with {id}"},
	"POST /v1/tenants/:id/sessions/:session/end": {"ended support session {session} with {id}", "end support session {session} with {id}"},

	"GET /v1/tokens":         {"listed tokens", "list tokens"},
	"POST /v1/tokens":        {"issued a token", "issue a token"},
	"GET /v1/tokens/:id":     {"looked at token {id}", "look at token {id}"},
	"DELETE /v1/tokens/:id":  {"revoked token {id}", "revoke token {id}"},
	"POST /v1/tokens/revoke": {"revoked tokens", "revoke tokens"},
	"GET /v1/access-review":  {"read the access review", "read the access review"},
	"GET /v1/operators/me":   {"asked who they are", "ask who they are"},
	"GET /v1/services":       {"listed the services", "list the services"},
	"GET /v1/health":         {"read the health of ARGUS", "read the health of ARGUS"},

	"GET /v1/audit-log":             {"searched the audit log", "search the audit log"},
	"GET /v1/audit-log/facets":      {"counted calls of the audit log", "count calls of the audit log"},
	"GET /v1/audit-log/stream":      {"followed the audit log", "follow the audit log"},
	"GET /v1/audit-log/export":      {"exported the audit log", "export the audit log"},
	"GET /v1/audit-log/exports/:id": {"asked what export {id} was", "ask what export {id} was"},
	"GET /v1/audit-log/:id":         {"looked at call {id}", "look at call {id}"},
	"GET /v1/audit-log/:id/proof":   {"asked for the proof of call {id}", "ask for the proof of call {id}"},
	"GET /v1/ledger":                {"looked at the ledger", "look at the ledger"},
	"GET /v1/ledger/entries":        {"read the entries of the ledger", "read the entries of the ledger"},
	"GET /v1/views":                 {"listed the saved views", "list the saved views"},
	"POST /v1/views":                {"saved a view", "save a view"},
	"PATCH /v1/views/:id":           {"changed the saved view {id}", "change the saved view {id}"},
	"DELETE /v1/views/:id":          {"removed the saved view {id}", "remove the saved view {id}"},
	"GET /v1/sinks":                 {"listed the sinks", "list the sinks"},
	"GET /v1/sinks/:name":           {"looked at the sink {name}", "look at the sink {name}"},
	"POST /v1/sinks/:name/test":     {"tested the sink {name}", "test the sink {name}"},
	"POST /v1/sinks/:name/pause":    {"paused the sink {name}", "pause the sink {name}"},
	"POST /v1/sinks/:name/resume":   {"resumed the sink {name}", "resume the sink {name}"},
	"POST /v1/sinks/:name/backfill": {"asked for a backfill of the sink {name}", "ask for a backfill of the sink {name}"},
	"GET /v1/perf":                  {"read the performance of routes", "read the performance of routes"},
	"GET /v1/perf/series":           {"read the performance over time", "read the performance over time"},
	"GET /v1/perf/differs":          {"compared calls with others", "compare calls with others"},
}

// HasSentence reports whether Sentence says what a call to the route of ARGUS does, and does not just name the route.
func HasSentence(route string) bool { return deeds[readRoute(route)].did != "" }

// readRoute is the template whose GET stands for its HEAD.
func readRoute(route string) string {
	if path, ok := strings.CutPrefix(route, "HEAD "); ok {
		return "GET " + path
	}
	return route
}

// Sentence says what the call did, for people: "Ada Okafor armed UTD_7ELEVEN_001: printer offline". names gives the names
// of actors by their ids. A call that was answered 4xx was refused. One that was answered 5xx failed.
//
// Names, parameters and the reason come from outside. The sentence shows them by Shown. It quotes a name or a
// parameter that could be read as other words of the sentence. The reason stands last, where it can pose as nothing else.
func (r *Record) Sentence(names map[string]string) string {
	d := r.deed()
	var b strings.Builder
	name := func(id string) string {
		if names[id] != "" {
			return word(names[id])
		}
		return word(id)
	}
	if r.ImpersonatorID != "" {
		b.WriteString(name(r.ImpersonatorID) + " as ")
	}
	b.WriteString(name(r.ActorID))
	if r.Agent != "" {
		b.WriteString(", through " + word(r.Agent) + ",")
	}
	if r.ActorKind == KindBreakGlass {
		b.WriteString(" broke the glass and")
	}
	code := strconv.Itoa(int(r.Status))
	if r.ErrorCode != "" {
		code += " " + word(r.ErrorCode)
	}
	switch {
	case r.Outcome == Interrupted:
		b.WriteString(" tried to " + d.do + " and was interrupted")
	case r.Status >= 500:
		b.WriteString(" tried to " + d.do + " and failed (" + code + ")")
	case r.Status >= 400:
		b.WriteString(" tried to " + d.do + " and was refused (" + code + ")")
	default:
		b.WriteString(" " + d.did)
	}
	if r.Reason != "" {
		b.WriteString(": " + Shown(r.Reason))
	}
	return b.String()
}

// deed is what the call did or tried to do, with its parameters.
func (r *Record) deed() deed {
	d, ok := deeds[readRoute(r.Route)]
	if !ok || r.Service != OwnService && r.Service != "" {
		what := " " + r.template()
		if r.Service != OwnService && r.Service != "" {
			what += " of " + word(r.Service)
		}
		for i, p := range r.PathParams {
			what += fmt.Sprintf("%s %s %s", map[bool]string{true: " with", false: " and"}[i == 0], word(p.Name), word(p.Value))
		}
		return deed{"called" + what, "call" + what}
	}
	with := func(text string) string {
		var b strings.Builder
		for {
			before, rest, found := strings.Cut(text, "{")
			b.WriteString(before)
			if !found {
				return b.String()
			}
			param, after, _ := strings.Cut(rest, "}")
			b.WriteString(word(r.PathParam(param)))
			text = after
		}
	}
	return deed{with(d.did), with(d.do)}
}

// template is the route for a sentence. A path that no route has was never stored.
func (r *Record) template() string {
	if method, path, _ := strings.Cut(r.Route, " "); path == UnmatchedRoute {
		return "a path that does not exist (" + word(method) + ")"
	}
	if routeText.MatchString(r.Route) {
		return r.Route
	}
	return quoted(r.Route)
}

var (
	routeText = regexp.MustCompile(`^[A-Z]+ [A-Za-z0-9._~:*/{}@+-]+$`)
	plainWord = regexp.MustCompile(`^[A-Za-z0-9._@/+-][A-Za-z0-9._@:/+-]*$`)
)

// maxNameWords is how many words a name has that stands without quotes.
const maxNameWords = 4

// word shows a text as a part of a sentence: an id or a person's name as it is, anything else in quotes.
func word(s string) string {
	if plainWord.MatchString(s) && !strings.HasSuffix(s, ":") {
		return s
	}
	for _, r := range s {
		if !unicode.IsLetter(r) && !unicode.IsMark(r) && r != ' ' && r != '-' && r != '\'' && r != '’' && r != '.' {
			return quoted(s)
		}
	}
	if fields := strings.Fields(s); len(fields) == 0 || len(fields) > maxNameWords || strings.Join(fields, " ") != s || Shown(s) != s {
		return quoted(s)
	}
	return s
}

func quoted(s string) string { return `"` + strings.ReplaceAll(Shown(s), `"`, `\"`) + `"` }
