package argus

import (
	"net/netip"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/google/uuid"
)

// FilterName is the name of a query parameter that narrows a search, a stream, an export or a chart.
type FilterName string

const (
	FilterActor      FilterName = "actor"
	FilterActorKind  FilterName = "actor_kind"
	FilterPAT        FilterName = "pat"
	FilterBreakGlass FilterName = "break_glass"
	FilterRoute      FilterName = "route"
	FilterMethod     FilterName = "method"
	FilterStatus     FilterName = "status"
	FilterOutcome    FilterName = "outcome"
	FilterClient     FilterName = "client"
	FilterUserAgent  FilterName = "user_agent"
	FilterClientIP   FilterName = "client_ip"
	FilterTenant     FilterName = "tenant"
	FilterParam      FilterName = "param" // in a query: param.<name>
	FilterID         FilterName = "id"
	FilterRequestID  FilterName = "request_id"
	FilterLatencyMin FilterName = "latency_min"

	FilterService      FilterName = "service"
	FilterRelease      FilterName = "release"
	FilterErrorCode    FilterName = "error_code"
	FilterReason       FilterName = "reason"
	FilterAgent        FilterName = "agent"
	FilterScope        FilterName = "scope"
	FilterImpersonator FilterName = "impersonator"
	FilterTraceID      FilterName = "trace_id"
)

// FilterNames lists the names a query may use, besides since and until. param stands for param.<name>.
func FilterNames() []FilterName {
	return []FilterName{FilterActor, FilterActorKind, FilterPAT, FilterBreakGlass, FilterRoute, FilterMethod,
		FilterStatus, FilterOutcome, FilterService, FilterRelease, FilterErrorCode, FilterReason, FilterTenant, FilterParam,
		FilterClient, FilterAgent, FilterUserAgent, FilterClientIP, FilterImpersonator, FilterScope,
		FilterID, FilterRequestID, FilterTraceID, FilterLatencyMin}
}

// TenantRoute is the template prefix of the routes whose parameter id is a tenant.
const TenantRoute = "/v1/tenants/:id"

// MaxFilterValues bounds how many values one filter may hold, over all its conditions.
const MaxFilterValues = 1000

// Filter says which calls are meant: all conditions must hold, and the call must have arrived at Since or later and
// before Until. The zero value means every call.
type Filter struct {
	Since, Until time.Time   // zero: unbounded
	Conditions   []Condition // sorted by Name, Param, Not; at most one each
}

// Condition holds for a call when one of its Values does, or, negated, when none does.
type Condition struct {
	Name   FilterName
	Param  string // the parameter's name when Name is FilterParam
	Not    bool
	Values []FilterValue // sorted by Text, distinct, at least one
}

// FilterValue is one value of a condition, as written and as understood. Which of the fields beside Text holds is
// decided by the condition's name.
type FilterValue struct {
	Text string // as in the query, normalized

	Route    RoutePattern  // FilterRoute
	StatusLo int16         // FilterStatus: lowest and highest status that match
	StatusHi int16         //
	Prefix   netip.Prefix  // FilterClientIP; an address is a prefix of full length
	ID       uuid.UUID     // FilterPAT, FilterBreakGlass, FilterID
	Duration time.Duration // FilterLatencyMin: latency at least this
}

// RoutePattern matches a normalized route template, never a literal URL.
type RoutePattern struct {
	Text      string // without the trailing *
	AnyMethod bool   // Text is compared with the route behind its method
	Prefix    bool   // Text is a prefix
}

// Match reports whether the route ("GET /v1/tenants/:id") is meant.
func (p RoutePattern) Match(route string) bool {
	if p.AnyMethod {
		_, route, _ = strings.Cut(route, " ")
	}
	if p.Prefix {
		return strings.HasPrefix(route, p.Text)
	}
	return route == p.Text
}

// ParseFilter reads a filter from query parameters. Times are taken relative to now. Names other than those of
// FilterNames, their not_ forms, since and until must be listed in others, and are left alone. The error is an
// *Error with CodeInvalidParameter that says which parameter is wrong and how to write it.
func ParseFilter(query url.Values, now time.Time, others ...string) (Filter, error) {
	var f Filter
	count := 0
	for key, values := range query {
		if slices.Contains(others, key) {
			continue
		}
		if key == "since" || key == "until" {
			if len(values) != 1 {
				return Filter{}, Errorf(CodeInvalidParameter, "Give %s once.", key)
			}
			t, err := ParseTime(values[0], now)
			if err != nil {
				return Filter{}, err
			}
			if key == "since" {
				f.Since = t
			} else {
				f.Until = t
			}
			continue
		}
		condition, err := parseCondition(key, values)
		if err != nil {
			return Filter{}, err
		}
		count += len(condition.Values)
		f.Conditions = append(f.Conditions, condition)
	}
	if count > MaxFilterValues {
		return Filter{}, Errorf(CodeInvalidParameter, "A filter holds %d values at most, this one %d.", MaxFilterValues, count)
	}
	if !f.Since.IsZero() && !f.Until.IsZero() && f.Until.Before(f.Since) {
		return Filter{}, Errorf(CodeInvalidParameter, "until lies before since.")
	}
	slices.SortFunc(f.Conditions, func(a, b Condition) int { return strings.Compare(a.key(), b.key()) })
	return f, nil
}

func parseCondition(key string, values []string) (Condition, error) {
	name, negated := strings.CutPrefix(key, "not_")
	t := Condition{Name: FilterName(name), Not: negated}
	if param, ok := strings.CutPrefix(name, "param."); ok {
		t.Name, t.Param = FilterParam, param
		if param == "" || len(param) > 64 || !utf8.ValidString(param) || strings.IndexByte(param, 0) >= 0 {
			return t, Errorf(CodeInvalidParameter, "Write param.<name>=<value>, the name as in the route's template.")
		}
	} else if name == string(FilterParam) || !slices.Contains(FilterNames(), t.Name) {
		return t, Errorf(CodeInvalidParameter, "There is no parameter %q here.", Text(key, 64))
	}
	for _, s := range values {
		v, err := parseFilterValue(t.Name, s)
		if err != nil {
			return t, err
		}
		t.Values = append(t.Values, v)
	}
	slices.SortFunc(t.Values, func(a, b FilterValue) int { return strings.Compare(a.Text, b.Text) })
	t.Values = slices.CompactFunc(t.Values, func(a, b FilterValue) bool { return a.Text == b.Text })
	return t, nil
}

func parseFilterValue(name FilterName, s string) (FilterValue, error) {
	v := FilterValue{Text: s}
	bad := func(how string) (FilterValue, error) {
		return v, Errorf(CodeInvalidParameter, "%s=%q: %s", name, Text(s, 64), how)
	}
	if s == "" && name != FilterClient && name != FilterUserAgent && name != FilterParam {
		return bad("the value is empty.")
	}
	// A value takes the form in which the column holds it: the log may keep less than the caller sent. Where no form of
	// the value can be compared exactly, an error says so, since finding nothing would be a false answer.
	switch name {
	case FilterActor:
		v.Text = Text(s, MaxActorID)
	case FilterTenant, FilterParam:
		v.Text = Text(s, MaxPathParam)
	case FilterImpersonator:
		v.Text = Text(s, MaxActorID)
	case FilterService:
		v.Text = Text(s, MaxService)
	case FilterRelease:
		v.Text = Text(s, MaxRelease)
	case FilterErrorCode:
		v.Text = Text(s, MaxErrorCode)
	case FilterAgent:
		v.Text = Text(s, MaxAgent)
	case FilterScope:
		v.Text = Text(s, MaxScope)
	case FilterTraceID:
		if v.Text = strings.ToLower(s); len(s) != 32 || strings.Trim(v.Text, "0123456789abcdef") != "" {
			return bad("write the trace id, 32 hex digits.")
		}
	case FilterRequestID:
		if v.Text = Text(strings.Trim(s, " \t"), MaxRequestID); v.Text == "" { // HTTP trims a header's value, too
			return bad("the value is empty.")
		}
	case FilterClient:
		if strings.ContainsAny(s, "/ ") {
			return bad("write the program's name alone, as before the first slash or blank of its user agent; user_agent finds the rest.")
		}
		v.Text = Text(s, MaxUserAgent)
	case FilterUserAgent, FilterReason:
		most, what := MaxUserAgent, "user agent"
		if name == FilterReason {
			most, what = MaxReasonBytes, "reason"
		}
		switch {
		case len(s) > most:
			return bad("the log keeps " + strconv.Itoa(most) + " bytes of a " + what + "; write no more than these.")
		case Text(s, len(s)) != s:
			return bad("the value is not valid UTF-8 text; where a " + what + " was not, the log has U+FFFD.")
		}
	case FilterRoute:
		return parseRoute(v, bad)
	case FilterActorKind:
		if !slices.Contains(ActorKinds(), ActorKind(s)) {
			return bad("write clerk_session, oidc_session, pat, break_glass or workload.")
		}
	case FilterOutcome:
		if Outcome(s) != Completed && Outcome(s) != Interrupted {
			return bad("write completed or interrupted.")
		}
	case FilterMethod:
		if v.Text = strings.ToUpper(s); v.Text != OtherMethod && StoredMethod(v.Text) == OtherMethod {
			return bad(unknownMethod)
		}
	case FilterStatus:
		lo, hi, ok := parseStatus(s)
		if !ok {
			return bad("write a status (403), a class (4xx) or a bound (>=500).")
		}
		v.StatusLo, v.StatusHi = lo, hi
	case FilterClientIP:
		p, err := ParseNetwork(s)
		if err != nil {
			return bad("write an address (192.0.2.7) or a network (192.0.2.0/24).")
		}
		v.Prefix = p.Masked()
		v.Text = v.Prefix.String()
	case FilterPAT, FilterBreakGlass, FilterID:
		id, err := uuid.Parse(s)
		if err != nil || id == uuid.Nil || len(s) != 36 {
			return bad("write the id as shown, 36 characters.")
		}
		v.ID, v.Text = id, id.String()
	case FilterLatencyMin:
		d, err := ParseDuration(s)
		if err != nil {
			return bad("write a length of time like 500ms or 2s.")
		}
		v.Duration = d
	}
	return v, nil
}

const unknownMethod = "write a method of HTTP, or OTHER: the log has OTHER in the place of any other method."

// parseRoute reads a template with or without its method, or a prefix of one. Methods are taken in any case.
func parseRoute(v FilterValue, bad func(how string) (FilterValue, error)) (FilterValue, error) {
	s := v.Text
	if len(s) > MaxRoute {
		return bad("a route is no longer than " + strconv.Itoa(MaxRoute) + " bytes.")
	}
	if Text(s, len(s)) != s {
		return bad("the value is not valid UTF-8 text.")
	}
	r := &v.Route
	r.Text, r.Prefix = strings.CutSuffix(s, "*")
	method, path, whole := strings.Cut(r.Text, " ")
	r.AnyMethod = !whole && (strings.HasPrefix(s, "/") || strings.HasPrefix(s, "("))
	if r.AnyMethod {
		return v, nil
	}
	method = strings.ToUpper(method)
	r.Text = method
	if whole {
		if method != OtherMethod && StoredMethod(method) == OtherMethod {
			return bad(unknownMethod)
		}
		r.Text += " " + path
	}
	v.Text = r.Text
	if r.Prefix {
		v.Text += "*"
	}
	return v, nil
}

// parseStatus reads 403, 4xx, >=500, >499, <=299 or <300.
func parseStatus(s string) (lo, hi int16, ok bool) {
	const first, last = 100, 999
	number := func(digits string) (int16, bool) {
		n, err := strconv.ParseUint(digits, 10, 16)
		return int16(n), err == nil && len(digits) == 3 && n >= first
	}
	var n int16
	switch {
	case len(s) == 3 && s[1:] == "xx" && s[0] >= '1' && s[0] <= '9':
		lo = int16(s[0]-'0') * 100
		return lo, lo + 99, true
	case strings.HasPrefix(s, ">="):
		n, ok = number(s[2:])
		return n, last, ok
	case strings.HasPrefix(s, "<="):
		n, ok = number(s[2:])
		return first, n, ok
	case strings.HasPrefix(s, ">"):
		n, ok = number(s[1:])
		return n + 1, last, ok
	case strings.HasPrefix(s, "<"):
		n, ok = number(s[1:])
		return first, n - 1, ok
	}
	n, ok = number(s)
	return n, n, ok
}

// Match reports whether the call is one the filter means. It is the definition that the SQL of both stores is
// tested against.
func (f *Filter) Match(r *Record) bool {
	if !f.Since.IsZero() && r.OccurredAt.Before(f.Since) || !f.Until.IsZero() && !r.OccurredAt.Before(f.Until) {
		return false
	}
	for i := range f.Conditions {
		if !f.Conditions[i].Match(r) {
			return false
		}
	}
	return true
}

// Match reports whether the condition holds for the call. A null column matches no value, so a negated condition holds.
func (t *Condition) Match(r *Record) bool {
	for i := range t.Values {
		if t.matchValue(&t.Values[i], r) {
			return !t.Not
		}
	}
	return t.Not
}

func (t *Condition) matchValue(v *FilterValue, r *Record) bool {
	switch t.Name {
	case FilterActor:
		return r.ActorID == v.Text
	case FilterActorKind:
		return string(r.ActorKind) == v.Text
	case FilterPAT:
		return r.PATID == v.ID
	case FilterBreakGlass:
		return r.BreakGlassID == v.ID
	case FilterRoute:
		return v.Route.Match(r.Route)
	case FilterMethod:
		return r.Method == v.Text
	case FilterStatus:
		return r.Outcome == Completed && r.Status >= v.StatusLo && r.Status <= v.StatusHi
	case FilterOutcome:
		return string(r.Outcome) == v.Text
	case FilterClient:
		return ClientName(r.UserAgent) == v.Text
	case FilterUserAgent:
		return holds(r.UserAgent, v.Text)
	case FilterClientIP:
		return v.Prefix.Contains(r.ClientIP)
	case FilterTenant:
		return r.Tenant() == v.Text
	case FilterParam:
		for _, p := range r.PathParams {
			if p.Name == t.Param {
				return p.Value == v.Text
			}
		}
		return false
	case FilterID:
		return r.ID == v.ID
	case FilterRequestID:
		return r.ClientRequestID == v.Text
	case FilterLatencyMin:
		return r.Outcome == Completed && r.LatencyUS >= v.Duration.Microseconds()
	case FilterService:
		return r.Service == v.Text
	case FilterRelease:
		return r.Release == v.Text
	case FilterErrorCode:
		return r.ErrorCode == v.Text
	case FilterReason:
		return holds(r.Reason, v.Text)
	case FilterAgent:
		return r.Agent == v.Text
	case FilterScope:
		return r.Scope == v.Text
	case FilterImpersonator:
		return r.ImpersonatorID == v.Text
	case FilterTraceID:
		return r.TraceID == v.Text
	}
	return false
}

// key is the condition's query parameter.
func (t *Condition) key() string {
	k := string(t.Name)
	if t.Name == FilterParam {
		k += "." + t.Param
	}
	if t.Not {
		k = "not_" + k
	}
	return k
}

// Query gives the filter back as query parameters, times as RFC 3339: what ParseFilter reads to the same filter.
func (f *Filter) Query() url.Values {
	q := url.Values{}
	if !f.Since.IsZero() {
		q.Set("since", f.Since.Format(TimeFormat))
	}
	if !f.Until.IsZero() {
		q.Set("until", f.Until.Format(TimeFormat))
	}
	for i := range f.Conditions {
		for _, v := range f.Conditions[i].Values {
			q.Add(f.Conditions[i].key(), v.Text)
		}
	}
	return q
}
