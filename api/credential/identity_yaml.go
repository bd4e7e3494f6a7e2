package credential

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"
)

// document walks a YAML file and collects what is wrong with it, by line. It takes mappings, lists and plain values: no
// anchors, aliases, tags or merges, which make one place of a file mean another.
type document struct{ found []problemAt }

type problemAt struct {
	line int
	text string
}

func (d *document) add(n *yaml.Node, format string, args ...any) {
	d.found = append(d.found, problemAt{n.Line, fmt.Sprintf(format, args...)})
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

var yamlLine = regexp.MustCompile(`^yaml: line ([0-9]+): `)

// parse reads the one document of a file.
func (d *document) parse(data []byte) *yaml.Node {
	decoder := yaml.NewDecoder(bytes.NewReader(data))
	var first, second yaml.Node
	switch err := decoder.Decode(&first); {
	case errors.Is(err, io.EOF):
		d.found = append(d.found, problemAt{1, "the file is empty"})
		return nil
	case err != nil:
		line, text := 1, err.Error()
		if m := yamlLine.FindStringSubmatch(text); m != nil {
			line, _ = strconv.Atoi(m[1])
			text = strings.TrimPrefix(text, m[0])
		}
		d.found = append(d.found, problemAt{line, "is no YAML: " + strings.TrimPrefix(text, "yaml: ")})
		return nil
	}
	if err := decoder.Decode(&second); err == nil {
		d.add(&second, "begins a second document: a file has one")
	}
	if len(first.Content) == 0 {
		d.found = append(d.found, problemAt{1, "the file is empty"})
		return nil
	}
	return first.Content[0]
}

// field is one key of a mapping with its value.
type field struct {
	name       string
	key, value *yaml.Node
}

// fields reads a mapping whose keys are all different; what names it in a sentence.
func (d *document) fields(n *yaml.Node, what string) []field {
	if n.Kind != yaml.MappingNode || n.Anchor != "" {
		d.add(n, "%s must be a mapping (key: value), without anchors", what)
		return nil
	}
	var all []field
	for i := 0; i+1 < len(n.Content); i += 2 {
		key, value := n.Content[i], n.Content[i+1]
		name, ok := scalar(key)
		switch {
		case !ok:
			d.add(key, "a key of %s is no plain text", what)
		case slices.ContainsFunc(all, func(f field) bool { return f.name == name }):
			d.add(key, "%s stands twice in %s", name, what)
		default:
			all = append(all, field{name, key, value})
		}
	}
	return all
}

// known reads a mapping whose keys are all among names.
func (d *document) known(n *yaml.Node, what string, names ...string) map[string]field {
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
		d.add(f.value, "%s must be a text", f.name)
	case strings.TrimSpace(text) == "":
		d.add(f.value, "%s is empty", f.name)
	case strings.ContainsFunc(text, func(r rune) bool { return r < ' ' || r == 0x7f }):
		d.add(f.value, "%s holds a control character", f.name)
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
	if f.value.Kind != yaml.SequenceNode || f.value.Anchor != "" || len(f.value.Content) == 0 {
		d.add(f.value, "%s must be a list of texts", f.name)
		return nil
	}
	var all []string
	for _, n := range f.value.Content {
		if text := d.text(field{f.name, f.key, n}); slices.Contains(all, text) {
			d.add(n, "%s names %q twice", f.name, text)
		} else if text != "" {
			all = append(all, text)
		}
	}
	return all
}

// scalar is the text of a plain value as it is written: 012 and true stay what they are.
func scalar(n *yaml.Node) (string, bool) {
	if n.Kind != yaml.ScalarNode || n.Anchor != "" || n.Style&yaml.TaggedStyle != 0 || n.Tag == "!!null" || n.Tag == "!!merge" {
		return "", n.Kind == yaml.ScalarNode && n.Tag == "!!null" && n.Anchor == ""
	}
	return n.Value, true
}
