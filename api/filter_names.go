package api

import (
	"context"
	"maps"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/useargus/argus"
	"github.com/useargus/argus/api/credential"
)

// namesWindow is how far back the log is asked who called, to find a person by name: as long as rows are kept.
const namesWindow = 365 * 24 * time.Hour

// actorForm is how ids of actors look: a user of Clerk, or issuer:subject. A value of this form is never taken for a name.
var actorForm = regexp.MustCompile(`^user_[A-Za-z0-9_-]+$|^[^\s:@]+:.+$`)

// suggested bounds how many values an error suggests.
const suggested = 5

// filterOf reads the filter of a query, and turns names into the ids that the log holds. It is the one place where a name
// of a person or of a tenant means something. A value that cannot match any call is an error with CodeUnknownFilterValue:
// to answer that there are no such calls would be true and mislead. A value that the log holds, or that has the form of an
// actor's id, stays as it is: an id without calls is an honest question.
func (l *logs) filterOf(c *call, others ...string) (argus.Filter, error) {
	return l.filterFrom(c, c.Query(), others...)
}

// filterFrom does the same with another query than the call's own.
func (l *logs) filterFrom(c *call, q url.Values, others ...string) (argus.Filter, error) {
	f, err := argus.ParseFilter(q, c.arrival, others...)
	if err != nil {
		return f, err
	}
	for i := range f.Conditions {
		t := &f.Conditions[i]
		for j := range t.Values {
			if err := l.resolve(c, t, &t.Values[j]); err != nil {
				return argus.Filter{}, err
			}
		}
		slices.SortFunc(t.Values, func(a, b argus.FilterValue) int { return strings.Compare(a.Text, b.Text) })
		t.Values = slices.CompactFunc(t.Values, func(a, b argus.FilterValue) bool { return a.Text == b.Text })
	}
	return f, nil
}

func (l *logs) resolve(c *call, t *argus.Condition, v *argus.FilterValue) error {
	var known func(*call) ([]candidate, bool, error)
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
		what, known = "actor", l.people
	case argus.FilterTenant:
		what, known = "tenant", l.tenants
	case argus.FilterRoute:
		if slices.ContainsFunc(l.served(), v.Route.Match) {
			return nil
		}
		what, known = "route", l.knownRoutes
	default:
		return nil
	}
	candidates, whole, err := known(c)
	if err != nil {
		return err
	}
	for _, s := range candidates { // an exact id comes before every name
		if s.Value == v.Text || t.Name == argus.FilterRoute && v.Route.Match(s.Value) {
			return nil
		}
	}
	if held, err := l.holds(c.Context(), *t, *v); err != nil || held {
		return err
	}
	var same []argus.Suggestion
	for _, s := range candidates {
		if t.Name != argus.FilterRoute && v.Text != "" &&
			(strings.EqualFold(s.Value, v.Text) || strings.EqualFold(s.Name, v.Text) || strings.EqualFold(s.email, v.Text)) {
			same = append(same, s.Suggestion)
		}
	}
	return unknownValue(t, v, what, same, candidates, whole)
}

// candidate is a value that a filter may mean.
type candidate struct {
	argus.Suggestion
	email string
}

// holds reports whether any call of the log matches the value.
func (l *logs) holds(ctx context.Context, t argus.Condition, v argus.FilterValue) (bool, error) {
	t.Not, t.Values = false, []argus.FilterValue{v}
	page, err := l.auditLog.Search(ctx, argus.SearchRequest{Filter: argus.Filter{Conditions: []argus.Condition{t}}, Limit: 1})
	return len(page.Rows) > 0, err
}

// seen gives the values that a field had.
func (l *logs) seen(c *call, field argus.FilterName) ([]string, error) {
	res, err := l.auditLog.Facets(c.Context(), argus.FacetsRequest{Fields: []argus.FilterName{field}, Limit: 1000,
		Filter: argus.Filter{Since: argus.Micros(c.arrival.Add(-namesWindow))}})
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
	ids, err := l.seen(c, argus.FilterActor)
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
	seen, err := l.seen(c, argus.FilterRoute)
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
