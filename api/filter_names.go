package api

import (
	"context"
	"errors"
	"maps"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"

	"github.com/useargus/argus"
	"github.com/useargus/argus/api/credential"
)

// heldTime bounds the look for one value in the log. A value that was not found by then is asked for as it stands.
const heldTime = 2 * time.Second

// maxRemembered bounds the values that are remembered as held by the log.
const maxRemembered = 10_000

// namesWindow is how far back the log is asked who called, to find a person by name: as long as rows are kept.
const namesWindow = 365 * 24 * time.Hour

// actorForm is how ids of actors look: a user of Clerk, or issuer:subject. A value of this form is never taken for a name.
var actorForm = regexp.MustCompile(`^user_[A-Za-z0-9_-]+$|^[^\s:@]+:.+$`)

// suggested bounds how many values an error suggests.
const suggested = 5

// filterOf reads the filter of a query, and turns names into the ids that the log holds. It is the one place where a name
// of a person or of a tenant means something. A value that cannot match any call is an error with CodeUnknownFilterValue:
// to answer that there are no such calls would be true and mislead. A value that the log holds, or that has the form of an
// actor's id, stays as it is: an id without calls is an honest question. Parts of a reason or a user agent, ids of calls and
// addresses are never rejected.
func (l *logs) filterOf(c *call, others ...string) (argus.Filter, error) {
	return l.lookUp(c, c.Query(), &lookUp{}, others...)
}

// viewFilter reads the filter of a view that is to be saved. It may name a release that is still to come. Other names that no
// call had are mistakes, as in a search.
func (l *logs) viewFilter(c *call, q url.Values) error {
	_, err := l.lookUp(c, q, &lookUp{releases: true})
	return err
}

// followedFilterOf reads the filter of a query. Who follows the log may wait for the first call of a value:
// the next release, a tenant that comes tomorrow. awaited says of each value that no call had what is nearest to it.
func (l *logs) followedFilterOf(c *call, follows bool, others ...string) (f argus.Filter, awaited []string, err error) {
	look := &lookUp{waits: follows}
	f, err = l.lookUp(c, c.Query(), look, others...)
	return f, look.awaited, err
}

func (l *logs) lookUp(c *call, q url.Values, look *lookUp, others ...string) (argus.Filter, error) {
	f, err := argus.ParseFilter(q, c.arrival, others...)
	if err != nil {
		return f, err
	}
	look.known = map[string]knownValues{}
	var cancel context.CancelFunc
	look.ctx, cancel = context.WithTimeout(c.Context(), c.api.config.heldTime)
	defer cancel()
	for i := range f.Conditions {
		t := &f.Conditions[i]
		for j := range t.Values {
			err := l.resolve(c, look, t, &t.Values[j])
			var none unheard
			if (look.waits || look.releases && t.Name == argus.FilterRelease) && errors.As(err, &none) {
				look.awaited = append(look.awaited, none.of.Message)
			} else if err != nil {
				return argus.Filter{}, err
			}
		}
		slices.SortFunc(t.Values, func(a, b argus.FilterValue) int { return strings.Compare(a.Text, b.Text) })
		t.Values = slices.CompactFunc(t.Values, func(a, b argus.FilterValue) bool { return a.Text == b.Text })
	}
	return f, nil
}

// lookUp is what one filter's values have in common: the time to look for them in the log, and what is known of each kind.
type lookUp struct {
	ctx      context.Context
	known    map[string]knownValues
	waits    bool     // a value that no call had is no error
	releases bool     // a release that no call had is none
	awaited  []string // what is said of each such value
}

// unheard is the error of a value that no call had, and that the next one may have.
type unheard struct{ of *argus.Error }

func (u unheard) Error() string { return u.of.Error() }
func (u unheard) Unwrap() error { return u.of }

type knownValues struct {
	list  []candidate
	whole bool // all that could be known is
}

// of gives what is known, and asks for it once.
func (look *lookUp) of(c *call, what string, ask func(*call) ([]candidate, bool, error)) (k knownValues, err error) {
	k, ok := look.known[what]
	if !ok {
		if k.list, k.whole, err = ask(c); err == nil {
			look.known[what] = k
		}
	}
	return k, err
}

func (l *logs) resolve(c *call, look *lookUp, t *argus.Condition, v *argus.FilterValue) error {
	var ask func(*call) ([]candidate, bool, error)
	var what string
	switch t.Name {
	case argus.FilterActor, argus.FilterImpersonator:
		if v.Text == "me" {
			v.Text = c.Actor.ID
			return nil
		}
		if actorForm.MatchString(v.Text) {
			return nil
		}
		what, ask = "actor", l.people
	case argus.FilterTenant:
		if what, ask = "tenant", l.tenants; !c.Actor.Can(argus.ScopeTenantsRead) {
			return l.unknownTenant(c, look, t, v)
		}
	case argus.FilterRoute:
		if slices.ContainsFunc(l.served(), v.Route.Match) {
			return nil
		}
		what, ask = "route", l.knownRoutes
	default:
		return l.resolveSeen(c, look, t, v)
	}
	known, err := look.of(c, what, ask)
	if err != nil {
		return err
	}
	for _, s := range known.list { // an exact id comes before every name
		if s.Value == v.Text || t.Name == argus.FilterRoute && v.Route.Match(s.Value) {
			return nil
		}
	}
	held, sure, err := l.holds(c, look, *t, *v)
	if err != nil || held {
		return err
	}
	var same []argus.Suggestion
	for _, s := range known.list {
		if t.Name != argus.FilterRoute && v.Text != "" &&
			(strings.EqualFold(s.Value, v.Text) || strings.EqualFold(s.Name, v.Text) || strings.EqualFold(s.email, v.Text)) {
			same = append(same, s.Suggestion)
		}
	}
	if len(same) == 0 && !sure {
		return nil
	}
	return unknownValue(t, v, what, same, known.list, known.whole)
}

// candidate is a value that a filter may mean.
type candidate struct {
	argus.Suggestion
	email string
}

// holds reports whether any call of the log matches the value. All values of a filter share a short time for it. When that
// does not suffice, it is not sure: the question is then asked as it stands. What is held stays so for as long as rows are kept.
func (l *logs) holds(c *call, look *lookUp, t argus.Condition, v argus.FilterValue) (held, sure bool, err error) {
	key := string(t.Name) + "." + t.Param + "=" + v.Text
	l.mu.Lock()
	held = l.held[key]
	l.mu.Unlock()
	if held {
		return true, true, nil
	}
	t.Not, t.Values = false, []argus.FilterValue{v}
	if slices.Contains(argus.FacetFields(), t.Name) && t.Name != argus.FilterPAT && t.Name != argus.FilterBreakGlass {
		var found argus.FacetsResult // rollups know it
		found, err = l.auditLog.Facets(look.ctx, argus.FacetsRequest{Fields: []argus.FilterName{t.Name}, Limit: 1,
			Filter: argus.Filter{Since: argus.Micros(c.arrival.Add(-namesWindow)), Conditions: []argus.Condition{t}}})
		held = found.Total > 0
	} else {
		var page argus.SearchPage
		page, err = l.auditLog.Search(look.ctx, argus.SearchRequest{Filter: argus.Filter{Conditions: []argus.Condition{t}}, Limit: 1})
		held = len(page.Rows) > 0
	}
	if err != nil {
		return false, false, c.Context().Err()
	}
	if held {
		l.mu.Lock()
		defer l.mu.Unlock()
		if len(l.held) >= maxRemembered {
			clear(l.held)
		}
		l.held[key] = true
	}
	return held, true, nil
}

// backgroundAgent is the agent of the console's polling, which its list leaves out: also where there was none yet.
const backgroundAgent = "console-background" // as in console/src/lib/background.ts

// resolveSeen checks the values of the other filters: those that are declared are known, and those that any call had.
func (l *logs) resolveSeen(c *call, look *lookUp, t *argus.Condition, v *argus.FilterValue) error {
	if c.route.Path == followPath || v.Text == "" {
		return nil // of what a stream waits for, the search before it says what there is
	}
	var what string
	var declared []string
	switch t.Name {
	case argus.FilterService:
		what, declared = "service", l.services()
	case argus.FilterScope:
		what, declared = "scope", []string{argus.ScopeAny, argus.ScopeNone}
		for _, s := range argus.AllScopes() {
			declared = append(declared, string(s))
		}
	case argus.FilterAgent:
		what, declared = "agent", []string{backgroundAgent}
	case argus.FilterRelease, argus.FilterClient:
		what = string(t.Name)
	case argus.FilterErrorCode:
		what = "error code"
	case argus.FilterPAT:
		what = "personal access token"
	case argus.FilterBreakGlass:
		what = "break-glass token"
	case argus.FilterParam:
		what = "call with the parameter " + argus.Text(t.Param, 64)
	default:
		return nil
	}
	if slices.Contains(declared, v.Text) {
		return nil
	}
	issued, err := l.issued(c.Context(), t.Name, v.ID)
	if err != nil {
		return nothingHappened(err)
	}
	if issued {
		return nil
	}
	if held, sure, err := l.holds(c, look, *t, *v); err != nil || held || !sure {
		return err
	}
	if t.Name == argus.FilterParam {
		if names := parameterNames(l.served()); !slices.Contains(names, t.Param) {
			given := argus.FilterValue{Text: t.Param}
			return unknownValue(t, &given, "parameter", nil, candidatesOf(names), true)
		}
	}
	if slices.Contains(argus.FacetFields(), t.Name) && v.ID == uuid.Nil {
		if seen, err := l.seen(look.ctx, c.arrival, t.Name); err == nil { // else only what is declared is suggested
			declared = append(declared, seen...)
		}
	}
	slices.Sort(declared)
	return unknownValue(t, v, what, nil, candidatesOf(slices.Compact(declared)), true)
}

// issued reports whether a token of the id was made, used or not.
func (l *logs) issued(ctx context.Context, name argus.FilterName, id uuid.UUID) (bool, error) {
	switch name {
	case argus.FilterPAT:
		names, err := credential.TokenNames(ctx, l.pool, []uuid.UUID{id})
		return len(names) > 0, err
	case argus.FilterBreakGlass:
		reasons, err := credential.BreakGlassReasons(ctx, l.pool, []uuid.UUID{id})
		return len(reasons) > 0, err
	}
	return false, nil
}

// parameterNames are the names of parameters that routes have, and tenant, which any service may use.
func parameterNames(routes []string) []string {
	names := []string{"tenant"}
	for _, r := range routes {
		for segment := range strings.SplitSeq(r, "/") {
			if strings.HasPrefix(segment, ":") || strings.HasPrefix(segment, "*") {
				names = append(names, segment[1:])
			}
		}
	}
	slices.Sort(names)
	return slices.Compact(names)
}

func candidatesOf(values []string) []candidate {
	list := make([]candidate, len(values))
	for i, v := range values {
		list[i].Value = v
	}
	return list
}

// unknownTenant checks a tenant for someone who may not see tenants. Then a name means nothing and no name is suggested:
// an answer would tell which tenants there are.
func (l *logs) unknownTenant(c *call, look *lookUp, t *argus.Condition, v *argus.FilterValue) error {
	if held, sure, err := l.holds(c, look, *t, *v); err != nil || held || !sure {
		return err
	}
	err := unknownValue(t, v, "call on a tenant", nil, nil, true)
	var e *argus.Error
	if errors.As(err, &e) {
		e.Message += " Give the id as rows have it: names of tenants need the scope " + string(argus.ScopeTenantsRead) + "."
	}
	return err
}

// seen gives the values that a field had.
func (l *logs) seen(ctx context.Context, now time.Time, field argus.FilterName) ([]string, error) {
	res, err := l.auditLog.Facets(ctx, argus.FacetsRequest{Fields: []argus.FilterName{field}, Limit: 1000,
		Filter: argus.Filter{Since: argus.Micros(now.Add(-namesWindow))}})
	if err != nil {
		return nil, err
	}
	var values []string
	for _, v := range res.Fields[field] {
		values = append(values, v.Value)
	}
	return values, nil
}

// people gives who called, and who signed in at an issuer of OpenID Connect. whole is false when names of some are not known.
func (l *logs) people(c *call) (list []candidate, whole bool, err error) {
	ids, err := l.seen(c.Context(), c.arrival, argus.FilterActor)
	if err != nil {
		return nil, false, err
	}
	signedIn, err := openIDPeople(c.Context(), l.pool)
	if err != nil {
		return nil, false, err
	}
	whole = len(ids) < 1000
	ids = append(append(ids, signedIn...), c.Actor.ID)
	slices.Sort(ids)
	ids = slices.Compact(ids)
	persons := map[string]credential.Person{}
	for some := range slices.Chunk(ids, 100) { // Clerk is asked for so many at once
		maps.Copy(persons, l.credentials.Persons(c.Context(), some))
	}
	for _, id := range ids {
		p := persons[id]
		whole = whole && (p.Name != "" || !strings.HasPrefix(id, "user_"))
		list = append(list, candidate{argus.Suggestion{Value: id, Name: p.Name}, p.Email})
	}
	return list, whole, nil
}

// tenants gives all tenants, retired ones as well.
func (l *logs) tenants(c *call) (list []candidate, whole bool, err error) {
	names, err := tenantNames(c.Context(), l.pool)
	for id, name := range names {
		list = append(list, candidate{Suggestion: argus.Suggestion{Value: id, Name: name}})
	}
	slices.SortFunc(list, func(a, b candidate) int { return strings.Compare(a.Value, b.Value) })
	return list, true, err
}

// knownRoutes gives the routes that are served, and those that the log has.
func (l *logs) knownRoutes(c *call) (list []candidate, whole bool, err error) {
	seen, err := l.seen(c.Context(), c.arrival, argus.FilterRoute)
	routes := append(l.served(), seen...)
	slices.Sort(routes)
	for _, r := range slices.Compact(routes) {
		list = append(list, candidate{Suggestion: argus.Suggestion{Value: r}})
	}
	return list, true, err
}

// unknownValue is what to answer when same has one value, which v then becomes; or several, or none.
func unknownValue(t *argus.Condition, v *argus.FilterValue, what string, same []argus.Suggestion, known []candidate, whole bool) error {
	if len(same) == 1 {
		v.Text = same[0].Value
		return nil
	}
	text := argus.Text(v.Text, 64)
	if t.Name == argus.FilterRoute {
		text = argus.Text(v.Route.Text, 64)
	}
	e := argus.Errorf(argus.CodeUnknownFilterValue, "No %s '%s'.", what, text)
	if len(same) > 1 {
		e.Message, e.Suggestions = "Several "+what+"s are called '"+text+"'. Give the id:", same[:min(len(same), suggested)]
	} else {
		e.Suggestions = nearest(text, known)
		if !whole {
			e.Message += " Not every name is known at the moment: give the id."
		}
		if len(e.Suggestions) > 0 {
			e.Message += " Did you mean"
		}
	}
	e.Parameter = string(t.Name)
	if t.Name == argus.FilterParam {
		e.Parameter += "." + t.Param
	}
	if t.Not {
		e.Parameter = "not_" + e.Parameter
	}
	for i, s := range e.Suggestions {
		if i > 0 {
			e.Message += ";"
		}
		e.Message += " " + strings.TrimPrefix(s.Name+", "+s.Value, ", ")
	}
	if len(same) > 1 {
		e.Message += "."
	} else if len(e.Suggestions) > 0 {
		e.Message += "?"
	}
	if len(same) == 0 && t.Name != argus.FilterActor && t.Name != argus.FilterImpersonator { // whose ids have another form
		return unheard{e}
	}
	return e
}

// nearest gives the candidates that hold the text, and else those of which a word is at most two letters away.
func nearest(text string, known []candidate) []argus.Suggestion {
	text = strings.ToLower(text)
	var near []argus.Suggestion
	for _, k := range known {
		if strings.Contains(strings.ToLower(k.Value+"\n"+k.Name+"\n"+k.email), text) {
			near = append(near, k.Suggestion)
		}
	}
	if len(near) == 0 && len(text) <= 64 {
		for _, k := range known {
			words := append(strings.FieldsFunc(strings.ToLower(k.Value+" "+k.Name), func(r rune) bool { return strings.ContainsRune(" /:_", r) }),
				strings.ToLower(k.Value), strings.ToLower(k.Name))
			if argus.Nearest(text, words, min(2, len(text)/3)) != "" {
				near = append(near, k.Suggestion)
			}
		}
	}
	var meant []argus.Suggestion // a literal path means its templates
	for _, k := range known {
		if strings.Contains(k.Value, "/:") && templateMeans(k.Value, text) {
			meant = append(meant, k.Suggestion)
		}
	}
	near = append(meant, near...)
	return near[:min(len(near), suggested)]
}

// templateMeans reports whether a route's template stands for the path, which may have a method before it. All in lower case.
func templateMeans(template, path string) bool {
	method, template, _ := strings.Cut(strings.ToLower(template), " ")
	if given, rest, ok := strings.Cut(path, " "); ok {
		if given != method {
			return false
		}
		path = rest
	}
	a, b := strings.Split(template, "/"), strings.Split(path, "/")
	if len(a) != len(b) {
		return false
	}
	for i := range a {
		if a[i] != b[i] && !strings.HasPrefix(a[i], ":") {
			return false
		}
	}
	return true
}
