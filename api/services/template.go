package services

import (
	"errors"
	"fmt"
	"maps"
	"net/url"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/useargus/argus"
)

// maxPath bounds the path of a call in bytes, and maxSegments its parts.
const (
	maxPath     = 4096
	maxSegments = 64
)

// segment is what stands between two slashes of a template: a literal, or parameters with literals around them. The text
// before the first parameter comes first, then each parameter and the text behind it.
type segment struct {
	literal string // when there are no parameters
	params  []string
	texts   []string // len(params)+1: before, between and behind
}

// shape is what makes two segments the same, by whichever names their parameters go.
func (s *segment) shape() string {
	if len(s.params) == 0 {
		return s.literal
	}
	return strings.Join(s.texts, "\x00")
}

// text is how much of a parameter's segment is literal: the more, the more specific it is.
func (s *segment) text() int { return len(strings.Join(s.texts, "")) }

// parseRoute reads "METHOD /template". Its errors are for people.
func parseRoute(r *Route) error {
	method, template, ok := strings.Cut(r.Route, " ")
	switch {
	case !ok || !strings.HasPrefix(template, "/"):
		return errors.New("write a route as GET /v1/invoices/:id")
	case method == "HEAD":
		return errors.New("HEAD needs no route: every GET answers it")
	case !slices.Contains(methods, method):
		return fmt.Errorf("the method %q is none of %s", method, strings.Join(methods, ", "))
	}
	r.Method, r.Template = method, template
	return r.read(parseSegment)
}

// read reads the parts of the route's template.
func (r *Route) read(parse func(part string) (segment, error)) error {
	parts := strings.Split(r.Template[1:], "/")
	if len(parts) > maxSegments {
		return fmt.Errorf("a template has %d parts at most", maxSegments)
	}
	for i, part := range parts {
		if part == "" && i < len(parts)-1 {
			return errors.New("a template has no empty part")
		}
		s, err := parse(part)
		if err != nil {
			return err
		}
		for _, p := range s.params {
			if slices.Contains(r.Params, p) {
				return fmt.Errorf("the parameter %q stands twice in the template", p)
			}
			r.Params = append(r.Params, p)
		}
		r.parts = append(r.parts, s)
	}
	return nil
}

// methods are those that a route may have.
var methods = []string{"GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"}

// parseSegment reads a literal, :name, or several parameters with text between them: :base...:head, :name:cancel. A colon
// begins a parameter at the start, and behind text that follows a parameter. Elsewhere it is a literal: items:search.
func parseSegment(part string) (segment, error) {
	var s segment
	text := ""
	for rest := part; rest != ""; {
		if rest[0] == ':' && len(rest) > 1 && isNameStart(rest[1]) && (text == "") == (len(s.params) == 0) {
			end := 1
			for end < len(rest) && isName(rest[end]) {
				end++
			}
			s.params, s.texts = append(s.params, rest[1:end]), append(s.texts, text)
			text, rest = "", rest[end:]
			continue
		}
		if !isLiteral(rest[0]) {
			return s, fmt.Errorf("%q may not stand in a template; a parameter is written as :id", rest[:1])
		}
		text, rest = text+rest[:1], rest[1:]
	}
	return s.end(text)
}

// end completes a segment by the text at its end.
func (s segment) end(text string) (segment, error) {
	if len(s.params) > 0 {
		s.texts = append(s.texts, text)
		return s, nil
	}
	if s.literal = text; text == "." || text == ".." {
		return s, fmt.Errorf("%q may not stand in a template", text)
	}
	return s, nil
}

func isNameStart(b byte) bool { return b == '_' || b|0x20 >= 'a' && b|0x20 <= 'z' }
func isName(b byte) bool      { return isNameStart(b) || b >= '0' && b <= '9' }

// isLiteral: what a path may hold without being escaped, but for the semicolon, behind which servers hide parameters.
func isLiteral(b byte) bool {
	return isName(b) || strings.IndexByte("-.~!$&'()*+,=:@", b) >= 0
}

// ambiguous reports whether a path may match both routes, of which neither is the more specific one.
func ambiguous(a, b *Route) bool {
	if a.Method != b.Method || len(a.parts) != len(b.parts) {
		return false
	}
	prefersA, prefersB := false, false
	for i := range a.parts {
		x, y := &a.parts[i], &b.parts[i]
		switch {
		case len(x.params) == 0 && len(y.params) == 0:
			if x.literal != y.literal {
				return false
			}
		case len(x.params) == 0:
			if _, both := y.match(x.literal); !both {
				return false
			}
			prefersA = true
		case len(y.params) == 0:
			if _, both := x.match(y.literal); !both {
				return false
			}
			prefersB = true
		case x.shape() == y.shape():
		default:
			if apart(x.texts[0], y.texts[0], strings.HasPrefix) || apart(x.texts[len(x.texts)-1], y.texts[len(y.texts)-1], strings.HasSuffix) {
				return false
			}
			prefersA = prefersA || x.text() >= y.text()
			prefersB = prefersB || y.text() >= x.text()
		}
	}
	return prefersA == prefersB
}

// apart: no text begins, or ends, with both.
func apart(a, b string, has func(s, part string) bool) bool { return !has(a, b) && !has(b, a) }

// match reads the segment's parameters out of a part of a path, decoded.
func (s *segment) match(part string) ([]string, bool) {
	rest, ok := strings.CutPrefix(part, s.texts[0])
	if !ok {
		return nil, false
	}
	values := make([]string, 0, len(s.params))
	for i := range s.params {
		text, last := s.texts[i+1], i == len(s.params)-1
		end := len(rest)
		switch {
		case last && !strings.HasSuffix(rest, text):
			return nil, false
		case last:
			end -= len(text)
		default:
			end = strings.Index(rest, text)
		}
		if end < 1 {
			return nil, false
		}
		values = append(values, rest[:end])
		rest = rest[end+len(text):]
	}
	return values, true
}

// node is a place in the tree of a service's templates.
type node struct {
	literals map[string]*node
	params   []*edge // the more specific first
	routes   map[string]*Route
}

type edge struct {
	segment segment
	next    *node
}

func newNode() *node { return &node{literals: map[string]*node{}, routes: map[string]*Route{}} }

// add puts a route into the tree; the route that has its place already is returned.
func (n *node) add(r *Route) (taken *Route) {
	for _, s := range r.parts {
		if len(s.params) == 0 {
			if n.literals[s.literal] == nil {
				n.literals[s.literal] = newNode()
			}
			n = n.literals[s.literal]
			continue
		}
		i := slices.IndexFunc(n.params, func(e *edge) bool { return e.segment.shape() == s.shape() })
		if i < 0 {
			i = len(n.params)
			n.params = append(n.params, &edge{s, newNode()})
		}
		next := n.params[i].next
		slices.SortStableFunc(n.params, func(a, b *edge) int { return b.segment.text() - a.segment.text() })
		n = next
	}
	if n.routes[r.Method] != nil {
		return n.routes[r.Method]
	}
	n.routes[r.Method] = r
	return nil
}

// Match is what a call's path was found to be.
type Match struct {
	*Running
	Route   *Route   // nil: the path is under the service's mount, and no route has it
	Allowed []string // the methods of the path's routes, when Route is nil and there are any
	Params  []argus.PathParam

	path string // escaped, as the service gets it
}

// find matches the rest of an escaped path behind the mount. A part of the path must mean the same to every server that
// could read it. So dot segments, empty parts, escaped separators and broken UTF-8 match nothing.
func (s *Service) find(method, rest string) *Match {
	m := &Match{}
	if method == "HEAD" {
		method = "GET"
	}
	if len(rest) > maxPath || !strings.HasPrefix(rest, "/") {
		return m
	}
	parts := strings.Split(rest[1:], "/")
	if len(parts) > maxSegments {
		return m
	}
	allowed := map[string]bool{}
	f := finder{method: method, parts: parts, decoded: make([]string, len(parts)), allowed: allowed}
	for i, part := range parts {
		value, err := url.PathUnescape(part)
		if err != nil || !plain(value) || part == "" && i < len(parts)-1 {
			return m
		}
		f.decoded[i] = value
	}
	r := f.find(s.tree, 0)
	if r == nil {
		m.Allowed = slices.Sorted(maps.Keys(allowed))
		return m
	}
	m.Route, m.path = r, f.path(r)
	for i, name := range r.Params {
		m.Params = append(m.Params, argus.PathParam{Name: name, Value: f.values[i]})
	}
	return m
}

// plain: a part of a path, decoded, in which no server can see anything but one part of a path.
func plain(value string) bool {
	if value == "." || value == ".." || !utf8.ValidString(value) {
		return false
	}
	for _, r := range value {
		if r < 0x20 || r == 0x7f || strings.ContainsRune("/\\;?#%", r) {
			return false
		}
	}
	return true
}

type finder struct {
	method         string
	parts, decoded []string
	values         []string
	allowed        map[string]bool
}

func (f *finder) find(n *node, i int) *Route {
	if i == len(f.parts) {
		if r := n.routes[f.method]; r != nil {
			return r
		}
		for method := range n.routes {
			f.allowed[method] = true
		}
		return nil
	}
	// A literal counts only as it is written: escaped or in another case it is no literal of ours.
	if next := n.literals[f.parts[i]]; next != nil {
		if r := f.find(next, i+1); r != nil {
			return r
		}
	}
	if f.parts[i] == "" {
		return nil
	}
	for literal := range n.literals {
		// To a service that ignores case or unescapes first, it is the literal's route.
		if literal != f.parts[i] && strings.EqualFold(literal, f.decoded[i]) {
			return nil
		}
	}
	for _, e := range n.params {
		values, ok := e.segment.match(f.decoded[i])
		if !ok {
			continue
		}
		had := len(f.values)
		f.values = append(f.values, values...)
		if r := f.find(e.next, i+1); r != nil {
			return r
		}
		f.values = f.values[:had]
	}
	return nil
}

// path is what the service gets: the template's own text with each value escaped anew, so that it is what was matched.
func (f *finder) path(r *Route) string {
	var b strings.Builder
	i := 0
	for _, s := range r.parts {
		b.WriteByte('/')
		if len(s.params) == 0 {
			b.WriteString(s.literal)
			continue
		}
		b.WriteString(s.texts[0])
		for k := range s.params {
			b.WriteString(strings.ReplaceAll(url.PathEscape(f.values[i]), ":", "%3A"))
			b.WriteString(s.texts[k+1])
			i++
		}
	}
	return b.String()
}
