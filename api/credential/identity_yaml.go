package credential

import (
	"fmt"
	"slices"
	"strings"

	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/parser"
	"github.com/goccy/go-yaml/token"
)

// document walks a YAML file and collects what is wrong with it, by line. It takes mappings, lists and plain values: no
// anchors, aliases, tags or merges, which make one place of a file mean another.
type document struct{ found []problemAt }

type problemAt struct {
	line int
	text string
}

func (d *document) add(n ast.Node, format string, args ...any) {
	d.found = append(d.found, problemAt{lineOf(n), fmt.Sprintf(format, args...)})
}

// problems are sorted by line: "line 4: …".
func (d *document) problems() []string {
	slices.SortStableFunc(d.found, func(a, b problemAt) int { return a.line - b.line })
	var lines []string
	for _, p := range d.found {
		lines = append(lines, fmt.Sprintf("line %d: %s", p.line, p.text))
	}
	return slices.Compact(lines)
}

func lineOf(n ast.Node) int {
	if m, ok := n.(*ast.MappingNode); ok && len(m.Values) > 0 {
		n = m.Values[0].Key
	}
	if n != nil && n.GetToken() != nil && n.GetToken().Position != nil {
		return n.GetToken().Position.Line
	}
	return 1
}

// parse reads the one document of a file.
func (d *document) parse(data []byte) (body ast.Node) {
	defer func() {
		if recover() != nil { // the parser met something that it does not foresee
			d.found, body = append(d.found, problemAt{1, "is no YAML"}), nil
		}
	}()
	file, err := parser.ParseBytes(data, 0, parser.AllowDuplicateMapKey())
	if err != nil {
		line, text := 1, strings.SplitN(err.Error(), "\n", 2)[0]
		_, _ = fmt.Sscanf(text, "[%d:", &line)
		if _, after, ok := strings.Cut(text, "] "); ok {
			text = after
		}
		d.found = append(d.found, problemAt{line, "is no YAML: " + text})
		return nil
	}
	for i, doc := range file.Docs {
		if i == 0 {
			body = doc.Body
		} else if doc.Body != nil {
			d.add(doc.Body, "begins a second document: a file has one")
		}
	}
	if body == nil {
		d.found = append(d.found, problemAt{1, "the file is empty"})
	}
	return body
}

// field is one key of a mapping with its value.
type field struct {
	name       string
	key, value ast.Node
}

// fields reads a mapping whose keys are all different; what names it in a sentence.
func (d *document) fields(n ast.Node, what string) []field {
	var pairs []*ast.MappingValueNode
	switch m := n.(type) {
	case *ast.MappingNode:
		pairs = m.Values
	case *ast.MappingValueNode:
		pairs = []*ast.MappingValueNode{m}
	default:
		d.add(n, "%s must be a mapping (key: value)", what)
		return nil
	}
	var all []field
	for _, pair := range pairs {
		name, ok := scalar(pair.Key)
		switch {
		case !ok:
			d.add(pair.Key, "a key of %s is no plain text", what)
		case slices.ContainsFunc(all, func(f field) bool { return f.name == name }):
			d.add(pair.Key, "%s stands twice in %s", name, what)
		default:
			all = append(all, field{name, pair.Key, pair.Value})
		}
	}
	return all
}

// known reads a mapping whose keys are all among names.
func (d *document) known(n ast.Node, what string, names ...string) map[string]field {
	all := map[string]field{}
	for _, f := range d.fields(n, what) {
		if !slices.Contains(names, f.name) {
			d.add(f.key, "%s knows no %q; it has %s", what, f.name, strings.Join(names, ", "))
			continue
		}
		all[f.name] = f
	}
	return all
}

// text reads a plain value, "" when it is none.
func (d *document) text(f field) string {
	text, ok := scalar(f.value)
	switch {
	case !ok:
		d.add(or(f.value, f.key), "%s must be a text", f.name)
	case strings.TrimSpace(text) == "":
		d.add(or(f.value, f.key), "%s is empty", f.name)
	case strings.ContainsFunc(text, func(r rune) bool { return r < ' ' || r == 0x7f }):
		d.add(or(f.value, f.key), "%s holds a control character", f.name)
	default:
		return text
	}
	return ""
}

// list reads a list of plain values, or one.
func (d *document) list(f field) []string {
	if _, ok := scalar(f.value); ok {
		return slices.DeleteFunc([]string{d.text(f)}, func(s string) bool { return s == "" })
	}
	s, ok := f.value.(*ast.SequenceNode)
	if !ok || len(s.Values) == 0 {
		d.add(or(f.value, f.key), "%s must be a list of texts", f.name)
		return nil
	}
	var all []string
	for _, n := range s.Values {
		if text := d.text(field{f.name, f.key, n}); slices.Contains(all, text) {
			d.add(n, "%s names %q twice", f.name, text)
		} else if text != "" {
			all = append(all, text)
		}
	}
	return all
}

func or(n, otherwise ast.Node) ast.Node {
	if n == nil || n.GetToken() == nil {
		return otherwise
	}
	return n
}

// scalar is the text of a plain value as it is written: 012 and true stay what they are.
func scalar(n ast.Node) (string, bool) {
	switch v := n.(type) {
	case *ast.StringNode:
		return v.Value, true
	case *ast.LiteralNode:
		return strings.TrimRight(v.Value.Value, "\n"), true
	case *ast.IntegerNode, *ast.FloatNode, *ast.BoolNode:
		return v.GetToken().Value, true
	case *ast.MappingKeyNode:
		return scalar(v.Value)
	case *ast.MappingNode:
		if len(v.Values) == 1 && !v.IsFlowStyle {
			return adjacent(v.Values[0])
		}
	case *ast.MappingValueNode:
		return adjacent(v)
	}
	return "", false
}

// adjacent is the text of a plain value with a colon in it, such as logs:read: inside {…[logs:read]…} the parser takes
// it for a mapping, which YAML wants a blank for.
func adjacent(pair *ast.MappingValueNode) (string, bool) {
	key, isText := pair.Key.(*ast.StringNode)
	if !isText || key.Token.Type != token.StringType || pair.Value == nil || lineOf(key) != lineOf(pair.Value) {
		return "", false
	}
	rest, ok := scalar(pair.Value)
	first := pair.Value.GetToken()
	if m, is := pair.Value.(*ast.MappingNode); is && len(m.Values) > 0 {
		first = m.Values[0].Key.GetToken()
	}
	return key.Value + ":" + rest, ok && first.Type != token.LiteralType && first.Position.Column == pair.Start.Position.Column+1
}
