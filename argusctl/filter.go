package main

import (
	"context"
	"net/url"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/useargus/argus"
)

// filterFlags are the flags that say which calls are meant: the filters of the API, each with its negation, and
// the window.
type filterFlags struct {
	f            *factory
	since, until string
	view         string
	values       map[string]*[]string // by query parameter: actor, not_actor, …
}

// flagOf is the flag of a filter: actor_kind is --actor-kind.
func flagOf(name argus.FilterName) string { return strings.ReplaceAll(string(name), "_", "-") }

// filterHelp describes each filter; the word in backquotes is its value.
var filterHelp = map[argus.FilterName]string{
	argus.FilterActor:      "the `person` who called: an id, a name, an address, or me",
	argus.FilterActorKind:  "the `kind` of credential: clerk_session, oidc_session, pat, break_glass or workload",
	argus.FilterPAT:        "the `id` of the personal access token used",
	argus.FilterBreakGlass: "the `id` of the break-glass token used",
	argus.FilterRoute:      "the `template`: 'GET /v1/tenants/:id', '/v1/tenants/:id', or a prefix ending in *",
	argus.FilterMethod:     "the HTTP `method`",
	argus.FilterStatus:     "the `status`: 403, 4xx or '>=500'",
	argus.FilterOutcome:    "the `outcome`: completed or interrupted",
	argus.FilterClient:     "the caller's `program` (argusctl)",
	argus.FilterUserAgent:  "a `part` of the user agent",
	argus.FilterClientIP:   "the caller's `address` or network (192.0.2.0/24)",
	argus.FilterTenant:     "the `tenant` that was acted on: its id or name",
	argus.FilterParam:      "a path parameter, `name=value`",
	argus.FilterID:         "the call's `id` (its audit id)",
	argus.FilterRequestID:  "the `id` that the caller sent as X-Request-Id",
	argus.FilterLatencyMin: "took at least this `time` (500ms)",

	argus.FilterService:      "the `service` that answered; argus for its own routes",
	argus.FilterRelease:      "the `version` of what answered",
	argus.FilterErrorCode:    "the `code` of the answer's error (insufficient_scope)",
	argus.FilterReason:       "a `part` of the reason that the operator gave",
	argus.FilterAgent:        "the `program` that acts for the operator",
	argus.FilterScope:        "the `scope` that was needed",
	argus.FilterImpersonator: "the `user` who acts as another",
	argus.FilterTraceID:      "the `id` of the trace, 32 hex digits",
}

func addFilterFlags(f *factory, cmd *cobra.Command) *filterFlags {
	ff := &filterFlags{f: f, values: map[string]*[]string{}}
	flags := cmd.Flags()
	flags.SortFlags = false
	flags.StringVar(&ff.since, "since", "", "from this `time` on: 5m, 1h or 7d ago, 10:00, yesterday, monday, 2026-01-31, or RFC 3339")
	flags.StringVar(&ff.until, "until", "", "before this `time`, written as for --since")
	flags.StringVar(&ff.view, "view", "", "the filter of this saved `view`; other filters replace its own")
	_ = cmd.RegisterFlagCompletionFunc("view", func(cmd *cobra.Command, _ []string, text string) ([]string, cobra.ShellCompDirective) {
		return f.completeViews(cmd, nil, text)
	})
	for _, negated := range []bool{false, true} {
		for _, name := range argus.FilterNames() {
			flag, key, usage, group := flagOf(name), string(name), filterHelp[name], groupFilters
			if negated {
				flag, key, usage, group = "not-"+flag, "not_"+key, "not: "+usage, groupHidden
			}
			ff.values[key] = flags.StringArray(flag, nil, usage)
			setGroup(flags, group, flag)
			if complete := f.filterCompletion(name); complete != nil {
				_ = cmd.RegisterFlagCompletionFunc(flag, complete)
			}
		}
	}
	return ff
}

// query gives the filter as the API takes it. It is read here first, by the same parser as the server's, so that
// a mistake costs no call. Lengths of time stay as written: the server resolves them by its own clock. --view costs a call.
func (ff *filterFlags) query(ctx context.Context) (url.Values, error) {
	now := ff.f.now()
	q := url.Values{}
	for name, given := range map[string]string{"since": ff.since, "until": ff.until} {
		if given == "" {
			continue
		}
		moment, err := ff.f.moment("--"+name, given)
		if err != nil {
			return nil, err
		}
		q.Set(name, moment)
	}
	for key, values := range ff.values {
		flag := "--" + strings.ReplaceAll(key, "_", "-")
		for _, v := range *values {
			k := key
			if name := strings.TrimPrefix(key, "not_"); name == string(argus.FilterParam) {
				param, value, ok := strings.Cut(v, "=")
				if !ok || param == "" {
					return nil, usageErrorf("%s %q: write name=value.", flag, v)
				}
				k, v = key+"."+param, value
			}
			if k == string(argus.FilterActorKind) || k == "not_actor_kind" {
				v = strings.ReplaceAll(v, "-", "_") // as flags are written
			}
			if _, err := argus.ParseFilter(url.Values{k: {v}}, now); err != nil {
				return nil, badParameter(flag, err)
			}
			q.Add(k, v)
		}
	}
	if _, err := argus.ParseFilter(q, now); err != nil {
		return nil, badParameter("", err)
	}
	if ff.view != "" {
		return ff.withView(ctx, q)
	}
	return q, nil
}

// moment reads a time of the command line, in the zone in which times are shown on this terminal, and gives it as the API
// takes it.
func (f *factory) moment(flag, s string) (string, error) {
	if s == "" {
		return "", nil
	}
	zone := time.Local
	if f.utc {
		zone = time.UTC
	}
	text, err := argus.TypedTime(s, f.now(), zone, strings.HasSuffix(flag, "until"))
	if err != nil {
		return "", badParameter(flag, err)
	}
	return text, nil
}
