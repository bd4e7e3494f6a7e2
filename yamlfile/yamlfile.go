// Package yamlfile decodes a YAML file strictly: an unknown key, a key given twice and a value of the wrong type are
// mistakes. It tells all of them at once, each with its line.
package yamlfile

import (
	"bytes"
	"encoding"
	"errors"
	"fmt"
	"io"
	"maps"
	"reflect"
	"slices"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"

	"github.com/useargus/argus"
)

// maxDepth bounds how deep a file may nest.
const maxDepth = 32

// Mistake is one thing that is wrong in a file. Line is 0 when it belongs to no line.
type Mistake struct {
	Line int
	Text string
}

// Mistakes are all that is wrong in a file, in the order of its lines.
type Mistakes struct {
	File string
	List []Mistake
}

func (m *Mistakes) Error() string { return strings.Join(m.Texts(), "\n") }

// Texts are the mistakes, one text each: "services.yaml:4: …".
func (m *Mistakes) Texts() []string {
	var lines []string
	for _, one := range m.List {
		if one.Line > 0 {
			lines = append(lines, fmt.Sprintf("%s:%d: %s", m.File, one.Line, one.Text))
		} else {
			lines = append(lines, m.File+": "+one.Text)
		}
	}
	return lines
}

// Decoded is a file that was read: where its values stand, and what is wrong with them.
type Decoded struct {
	file  string
	lines map[string]int // by path: services[0].routes[2].scope
	list  []Mistake
}

// Texts is a list of texts. One text alone may stand for a list of one.
type Texts []string

// Decode reads data into the struct that v points to. Its fields are named by their yaml tags, and may be structs, slices,
// maps with text keys, texts, whole numbers, bools, and types that unmarshal a text. What is wrong is kept in Decoded.
func Decode(file string, data []byte, v any) *Decoded {
	d := &Decoded{file: file, lines: map[string]int{}}
	reader := yaml.NewDecoder(bytes.NewReader(data))
	var document, more yaml.Node
	if err := reader.Decode(&document); err != nil {
		if !errors.Is(err, io.EOF) { // an empty file declares nothing
			d.syntax(err)
		}
		return d
	}
	if err := reader.Decode(&more); err == nil {
		d.at(more.Line, "a second document begins here; write one")
	} else if !errors.Is(err, io.EOF) {
		d.syntax(err)
	}
	if len(document.Content) == 1 {
		d.decode("", document.Content[0], reflect.ValueOf(v).Elem(), 0)
	}
	return d
}

// syntax notes the parser's own error: "yaml: line 3: …".
func (d *Decoded) syntax(err error) {
	text, line := strings.TrimPrefix(err.Error(), "yaml: "), 0
	if rest, ok := strings.CutPrefix(text, "line "); ok {
		if number, what, ok := strings.Cut(rest, ": "); ok {
			line, _ = strconv.Atoi(number)
			text = what
		}
	}
	switch {
	case strings.Contains(text, "tab character"), strings.Contains(text, "cannot start any token"):
		text += ": indent with blanks, not tabs, and quote a text that begins with a sign"
	case strings.Contains(text, "mapping values are not allowed"):
		text += `: indent like the line above, and quote a text with ": " in it`
	}
	d.at(line, "%s", text)
}

// Wrong notes a mistake at the line where path stands, or where the nearest part of it that is in the file does.
func (d *Decoded) Wrong(path, format string, args ...any) { d.at(d.Line(path), format, args...) }

// Line is where path stands in the file, or the nearest part of it that does; 0 when there is none.
func (d *Decoded) Line(path string) int {
	for path != "" {
		if line, ok := d.lines[path]; ok {
			return line
		}
		path = path[:max(0, strings.LastIndexAny(path, ".["))]
	}
	return 0
}

// Has reports whether path stands in the file.
func (d *Decoded) Has(path string) bool {
	_, ok := d.lines[path]
	return ok
}

// Err is all that is wrong; nil when nothing is.
func (d *Decoded) Err() error {
	if len(d.list) == 0 {
		return nil
	}
	slices.SortStableFunc(d.list, func(a, b Mistake) int { return a.Line - b.Line })
	return &Mistakes{File: d.file, List: slices.Compact(d.list)}
}

func (d *Decoded) at(line int, format string, args ...any) {
	d.list = append(d.list, Mistake{line, argus.Text(fmt.Sprintf(format, args...), 400)})
}

func (d *Decoded) decode(path string, n *yaml.Node, into reflect.Value, depth int) {
	if _, set := d.lines[path]; !set {
		d.lines[path] = n.Line
	}
	name := path
	if name == "" {
		name = "the file"
	}
	wrong := func(want string) { d.at(n.Line, "%s must be %s", name, want) }
	switch {
	case n.Kind == yaml.AliasNode || n.Anchor != "" || n.Style&yaml.TaggedStyle != 0:
		d.at(n.Line, "%s: anchors, aliases and tags are not taken", name)
		return
	case n.ShortTag() == "!!null":
		d.at(n.Line, "%s has no value", name)
		return
	case depth > maxDepth:
		d.at(n.Line, "%s is nested too deeply", name)
		return
	}
	scalar := n.Kind == yaml.ScalarNode
	if u, ok := into.Addr().Interface().(encoding.TextUnmarshaler); ok {
		if !scalar {
			wrong("a text")
		} else if err := u.UnmarshalText([]byte(n.Value)); err != nil {
			d.at(n.Line, "%s: %s", name, err)
		}
		return
	}
	switch into.Kind() {
	case reflect.Struct, reflect.Map:
		d.mapping(path, name, n, into, depth)
	case reflect.Slice:
		if scalar && into.Type() == reflect.TypeFor[Texts]() {
			into.Set(reflect.ValueOf(Texts{n.Value}))
			return
		}
		if n.Kind != yaml.SequenceNode {
			wrong("a list")
			return
		}
		into.Set(reflect.MakeSlice(into.Type(), len(n.Content), len(n.Content)))
		for i, item := range n.Content {
			d.decode(fmt.Sprintf("%s[%d]", path, i), item, into.Index(i), depth+1)
		}
	case reflect.Pointer:
		into.Set(reflect.New(into.Type().Elem()))
		d.decode(path, n, into.Elem(), depth)
	case reflect.String:
		if !scalar {
			wrong("a text")
			return
		}
		into.SetString(n.Value)
	case reflect.Bool:
		if !scalar || n.ShortTag() != "!!bool" {
			wrong("true or false")
			return
		}
		into.SetBool(strings.EqualFold(n.Value, "true"))
	case reflect.Int, reflect.Int64:
		number, err := strconv.ParseInt(n.Value, 10, 64)
		if !scalar || err != nil {
			wrong("a whole number")
			return
		}
		into.SetInt(number)
	default:
		panic("yamlfile: a field of kind " + into.Kind().String())
	}
}

// mapping reads a mapping into a struct or a map.
func (d *Decoded) mapping(path, name string, n *yaml.Node, into reflect.Value, depth int) {
	if n.Kind != yaml.MappingNode {
		d.at(n.Line, "%s must be a mapping of keys to values", name)
		return
	}
	fields := map[string]int{}
	if into.Kind() == reflect.Struct {
		for i := range into.NumField() {
			if tag, _, _ := strings.Cut(into.Type().Field(i).Tag.Get("yaml"), ","); tag != "" && tag != "-" {
				fields[tag] = i
			}
		}
	} else {
		into.Set(reflect.MakeMap(into.Type()))
	}
	first := map[string]int{}
	for i := 0; i+1 < len(n.Content); i += 2 {
		key, value := n.Content[i], n.Content[i+1]
		if key.Kind != yaml.ScalarNode || key.Anchor != "" || key.ShortTag() == "!!merge" {
			d.at(key.Line, "%s: a key must be a plain text", name)
			continue
		}
		if at, twice := first[key.Value]; twice {
			d.at(key.Line, "%s has the key %q twice; the first is in line %d", name, key.Value, at)
			continue
		}
		first[key.Value] = key.Line
		below := strings.TrimPrefix(path+"."+key.Value, ".")
		d.lines[below] = key.Line
		if into.Kind() == reflect.Map {
			v := reflect.New(into.Type().Elem()).Elem()
			d.decode(below, value, v, depth+1)
			into.SetMapIndex(reflect.ValueOf(key.Value).Convert(into.Type().Key()), v)
			continue
		}
		field, known := fields[key.Value]
		if !known {
			d.at(key.Line, "%s has no key %q; its keys are %s", name, key.Value, strings.Join(slices.Sorted(maps.Keys(fields)), ", "))
			continue
		}
		d.decode(below, value, into.Field(field), depth+1)
	}
}
