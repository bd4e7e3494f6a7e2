package main

import (
	"cmp"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"github.com/modelcontextprotocol/go-sdk/mcp"

	"github.com/useargus/argus"
)

// tool is something an assistant may use: one call to the API.
type tool struct {
	name, title, about string
	properties         map[string]any // of its arguments, as JSON Schema
	required           []string
	destroys           bool
	request            func(arguments) (request, error)
	shape              func(any) // see answered
}

// describe tells the client about the tool. A tool that acts is marked, so that a client asks its user before.
func (t *tool) describe() *mcp.Tool {
	schema := map[string]any{"type": "object", "additionalProperties": false, "properties": t.properties}
	if t.properties == nil {
		schema["properties"] = map[string]any{}
	}
	if len(t.required) > 0 {
		schema["required"] = t.required
	}
	reads := !slices.Contains(t.required, "reason")
	closed := false
	return &mcp.Tool{Name: t.name, Title: t.title, Description: t.about, InputSchema: schema,
		Annotations: &mcp.ToolAnnotations{Title: t.title, ReadOnlyHint: reads, IdempotentHint: reads, DestructiveHint: &t.destroys, OpenWorldHint: &closed}}
}

// arguments are those of a use, which fit the tool's schema.
type arguments map[string]any

func (a arguments) text(name string) string { s, _ := a[name].(string); return s }

func text(about string) map[string]any { return map[string]any{"type": "string", "description": about} }

// many is one text or several, of which any may hold.
func many(about string) map[string]any {
	return map[string]any{"description": about, "anyOf": []any{
		map[string]any{"type": "string"}, map[string]any{"type": "array", "items": map[string]any{"type": "string"}, "minItems": 1, "maxItems": 100}}}
}

func limited(most int) map[string]any {
	return map[string]any{"type": "integer", "minimum": 1, "maximum": most, "description": "how many at most"}
}

// filterProperties are the arguments that narrow a question: the window, each filter of the API, and under not what
// must not hold.
func filterProperties(more map[string]any) map[string]any {
	about := func(name argus.FilterName) string {
		return strings.ReplaceAll(filterHelp[name], "`", "")
	}
	filters := map[string]any{}
	for _, name := range argus.FilterNames() {
		if name == argus.FilterParam {
			filters["param"] = map[string]any{"type": "object", "description": "path parameters of the route, by name", "additionalProperties": many("")}
			continue
		}
		filters[string(name)] = many(about(name))
	}
	all := maps.Clone(filters)
	all["not"] = map[string]any{"type": "object", "additionalProperties": false, "properties": filters, "description": "leave out the calls for which one of these holds"}
	all["since"], all["until"] = text("from this time on: RFC 3339, or so long ago (90s, 5m, 1h, 7d)"), text("before this time")
	maps.Copy(all, more)
	return all
}

// filterQuery makes the query of those arguments, and of the plain ones that are named. What cannot be meant is told
// without a call, in the API's own words.
func filterQuery(f *factory, a arguments, plain ...string) (url.Values, error) {
	q := url.Values{}
	add := func(key string, v any) {
		switch v := v.(type) {
		case string:
			q.Add(key, v)
		case []any:
			for _, s := range v {
				if s, ok := s.(string); ok {
					q.Add(key, s)
				}
			}
		}
	}
	collect := func(prefix string, from map[string]any) {
		for _, name := range argus.FilterNames() {
			if params, ok := from[string(name)].(map[string]any); ok {
				for param, v := range params {
					add(prefix+string(name)+"."+param, v)
				}
				continue
			}
			add(prefix+string(name), from[string(name)])
		}
	}
	collect("", a)
	not, _ := a["not"].(map[string]any)
	collect("not_", not)
	for _, name := range []string{"since", "until"} {
		if s := a.text(name); s != "" {
			q.Set(name, s)
		}
	}
	if _, err := argus.ParseFilter(q, f.now()); err != nil {
		return nil, err
	}
	for _, name := range plain {
		switch v := a[name].(type) {
		case string:
			q.Set(name, v)
		case float64:
			q.Set(name, strconv.FormatInt(int64(v), 10))
		case bool:
			q.Set(name, strconv.FormatBool(v))
		}
	}
	return q, nil
}

// Rows a search gives when nothing else is asked for, and at most.
const (
	mcpRows    = 50
	mcpMaxRows = 200
)

// readingTools are the tools that change nothing.
func readingTools(f *factory) []tool {
	ask := func(path string, plain ...string) func(arguments) (request, error) {
		return func(a arguments) (request, error) {
			q, err := filterQuery(f, a, plain...)
			return request{method: http.MethodGet, path: path, query: q}, err
		}
	}
	rows := func(a arguments) (request, error) {
		if a["limit"] == nil {
			a["limit"] = float64(mcpRows)
		}
		return ask("/v1/audit-log", "limit", "cursor")(a)
	}
	plainGet := func(path string) func(arguments) (request, error) {
		return func(arguments) (request, error) { return request{method: http.MethodGet, path: path}, nil }
	}
	return []tool{
		{name: "search_calls", title: "Search calls", about: "Calls to the API, newest first: who did what, when, from where, why, and how it ended. " +
			"Several values of one argument mean any of them, several arguments all of them. Arming remote support is the route POST /v1/tenants/:id/arm.",
			properties: filterProperties(map[string]any{"limit": limited(mcpMaxRows), "cursor": text("data.next_cursor of the page before, with the same other arguments")}),
			request:    rows, shape: shapeRows},
		{name: "show_call", title: "Show a call", about: "Everything about one call: its row, and the steps of what it did.",
			properties: map[string]any{"id": text("the call's id")}, required: []string{"id"},
			request: func(a arguments) (request, error) {
				id, err := segment("call id", a.text("id"))
				return request{method: http.MethodGet, path: "/v1/audit-log/" + id}, err
			}},
		{name: "facets", title: "Count values", about: "Which values occur among calls and how often, such as actors, routes and statuses, and calls over time.",
			properties: filterProperties(map[string]any{"limit": limited(mcpMaxRows),
				"fields": map[string]any{"type": "array", "items": map[string]any{"type": "string"}, "description": "only these: actor, route, status, actor_kind, pat, break_glass, client, method, …"}}),
			request: func(a arguments) (request, error) {
				if a["limit"] == nil {
					a["limit"] = float64(20)
				}
				r, err := ask("/v1/audit-log/facets", "limit")(a)
				if fields, ok := a["fields"].([]any); ok && err == nil {
					for _, name := range fields {
						if s, ok := name.(string); ok {
							r.query.Add("fields", s)
						}
					}
				}
				return r, err
			}},
		{name: "perf", title: "Measure routes", about: "How fast and how healthy calls were: count, error rate, p50, p95, p99 and max in milliseconds, for each route or another group.",
			properties: filterProperties(map[string]any{"group_by": text("route (without it), actor, tenant, method, actor_kind, client, status_class, …"),
				"compare": map[string]any{"type": "boolean", "description": "beside the window of the same length before"}}),
			request: func(a arguments) (request, error) {
				if a.text("since") == "" {
					a["since"] = "1h"
				}
				return ask("/v1/perf", "group_by", "compare")(a)
			}},
		{name: "what_differs", title: "For whom", about: "For whom calls are slow or fail: sets the calls of a region beside others, and gives for actors, clients, tenants, statuses and so on " +
			"the values whose share or latency departs by more than chance. Without a region it is the whole window, beside the time before.",
			properties: filterProperties(map[string]any{"region": text("the kind of calls: slow, failed or interrupted"), "region_since": text("calls from this time on"),
				"region_until": text("calls before this time"), "region_latency_min": text("calls that took at least this time, like 500ms"),
				"region_latency_max": text("calls that took less than this time"), "baseline": text("beside what: rest, the other calls of the window, or before, the time before")}),
			request: func(a arguments) (request, error) {
				if a.text("since") == "" && a.text("until") == "" {
					a["since"] = "1h"
				}
				return ask("/v1/perf/differs", "region", "region_since", "region_until", "region_latency_min", "region_latency_max", "baseline")(a)
			}},
		{name: "slowest_calls", title: "Slowest calls", about: "Calls that took at least latency_min, the slowest of them first. Ask perf for a route's p99, which is a good latency_min.",
			properties: filterProperties(map[string]any{"limit": limited(mcpMaxRows)}), required: []string{"latency_min"},
			request: rows, shape: func(v any) {
				shapeRows(v)
				if m, ok := v.(map[string]any); ok {
					list, _ := m["rows"].([]any)
					slices.SortStableFunc(list, func(x, y any) int { return cmp.Compare(latencyOf(y), latencyOf(x)) })
				}
			}},
		{name: "health", title: "Health", about: "Whether ARGUS and its stages are healthy, and what is wrong.", request: plainGet("/v1/health")},
		{name: "list_services", title: "List services", about: "The services behind ARGUS, their health, and the routes that the credential may use.", request: plainGet("/v1/services")},
	}
}

func latencyOf(row any) float64 {
	m, _ := row.(map[string]any)
	us, _ := m["latency_us"].(float64)
	return us
}

// shapeRows leaves out of the rows of a page what says nothing to an assistant; show_call has it.
func shapeRows(v any) {
	m, _ := v.(map[string]any)
	list, _ := m["rows"].([]any)
	for _, row := range list {
		row, _ := row.(map[string]any)
		for k, x := range row {
			if x == nil || slices.Contains([]string{"writer_id", "seq", "recorded_at", "row_hash", "body_sha256", "body_bytes"}, k) {
				delete(row, k)
			}
		}
	}
	delete(m, "snapshot")
}

// actingTools are the actions that the scopes allow. Each asks for a reason, and arming for the tenant once more.
func actingTools(scopes []string) []tool {
	reason := text("why, in 3 to 500 characters: it is kept with the row, under the operator's name")
	id := func(what, name string) map[string]any { return map[string]any{name: text(what), "reason": reason} }
	act := func(path func(arguments) (string, error), body func(arguments) any) func(arguments) (request, error) {
		return func(a arguments) (request, error) {
			r := request{method: http.MethodPost}
			if _, err := argus.Reason(a.text("reason")); err != nil {
				return r, err
			}
			var err error
			if r.path, err = path(a); err != nil {
				return r, err
			}
			r.body, err = encodeBody(body(a))
			return r, err
		}
	}
	at := func(before, what, name, after string) func(arguments) (string, error) {
		return func(a arguments) (string, error) {
			s, err := segment(what, a.text(name))
			return before + s + after, err
		}
	}
	onlyReason := func(a arguments) any { return reasonBody{a.text("reason")} }
	worker := func(verb, title, about string, destroys bool) tool {
		return tool{name: verb + "_worker", title: title, about: about, properties: id("the worker's id", "worker_id"), required: []string{"worker_id", "reason"},
			destroys: destroys, request: act(at("/compute/ops/workers/", "worker id", "worker_id", "/"+verb), onlyReason)}
	}
	armed := id("the tenant's id", "tenant_id")
	armed["confirm"] = text("the tenant's id once more")
	armed["consent_document_id"] = text("arm only if the consent on record is this document")
	session := id("the tenant's id", "tenant_id")
	session["session_id"] = text("the session's id")
	all := map[argus.Scope][]tool{
		argus.ScopeRemoteSupportArm: {
			{name: "arm_tenant", title: "Arm a tenant", about: "Lets remote support reach a tenant, which must have given its consent.", destroys: true,
				properties: armed, required: []string{"tenant_id", "confirm", "reason"},
				request: act(at("/v1/tenants/", "tenant id", "tenant_id", "/arm"), func(a arguments) any {
					return struct {
						Reason  string `json:"reason"`
						Consent string `json:"consent_document_id,omitempty"`
						Confirm string `json:"confirm_tenant_id"`
					}{a.text("reason"), a.text("consent_document_id"), a.text("confirm")}
				})},
			{name: "disarm_tenant", title: "Disarm a tenant", about: "Closes a tenant to remote support and ends its live sessions.", destroys: true,
				properties: id("the tenant's id", "tenant_id"), required: []string{"tenant_id", "reason"},
				request: act(at("/v1/tenants/", "tenant id", "tenant_id", "/disarm"), onlyReason)},
		},
		argus.ScopeRemoteSupport: {
			{name: "start_session", title: "Start a support session", about: "Starts a remote support session with an armed tenant.",
				properties: id("the tenant's id", "tenant_id"), required: []string{"tenant_id", "reason"},
				request: act(at("/v1/tenants/", "tenant id", "tenant_id", "/sessions"), onlyReason)},
			{name: "end_session", title: "End a support session", about: "Ends a remote support session.", properties: session,
				required: []string{"tenant_id", "session_id", "reason"},
				request: act(func(a arguments) (string, error) {
					tenant, err := at("/v1/tenants/", "tenant id", "tenant_id", "/sessions/")(a)
					if err != nil {
						return "", err
					}
					return at(tenant, "session id", "session_id", "/end")(a)
				}, onlyReason)},
		},
		argus.ScopeComputeWrite: {
			{name: "launch_worker", title: "Launch a worker", about: "Launches a compute worker, which costs money while it runs.",
				properties: map[string]any{"provider": text("the provider to launch it with"), "reason": reason}, required: []string{"provider", "reason"},
				request: act(func(arguments) (string, error) { return "/compute/ops/launch", nil }, func(a arguments) any {
					return struct {
						Provider string `json:"provider"`
						Reason   string `json:"reason"`
					}{a.text("provider"), a.text("reason")}
				})},
			worker("stop", "Stop a worker", "Stops a worker. Its disk stays, so it can be resumed.", true),
			worker("resume", "Resume a worker", "Resumes a stopped worker.", false),
			worker("terminate", "Terminate a worker", "Destroys a worker and its disk, which nothing undoes.", true),
		},
	}
	var out []tool
	for _, s := range argus.AllScopes() {
		if slices.Contains(scopes, string(s)) {
			out = append(out, all[s]...)
		}
	}
	return out
}
