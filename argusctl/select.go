package main

import (
	stdjson "encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
	"github.com/itchyny/gojq"
	"github.com/spf13/cobra"
	"github.com/theory/jsonpath"
)

// What a script takes of an answer: --jq, -o jsonpath=… and -o name. Each looks at one JSON object at a time, as --json
// prints them. So they hold for every command that has --json.

// selector hands on the lines that are printed of an object.
type selector func(object any, print func(line string) error) error

// selection is what --jq and --output ask for beside the form. Nil is the whole object.
func (f *factory) selection() (selector, error) {
	path, isPath := strings.CutPrefix(f.output, "jsonpath=")
	switch {
	case f.jq != "" && f.output != "" && f.output != "json":
		return nil, usageErrorf("--jq and --output %s exclude each other.", f.output)
	case f.jq != "":
		return parseJQ(f.jq)
	case f.json && (isPath || f.output == "name"):
		return nil, usageErrorf("--json and --output %s exclude each other.", f.output)
	case isPath:
		return parseJSONPath(path)
	case f.output == "name":
		return nameOf, nil
	}
	return nil, nil
}

// printsNoJSON are the commands from which nothing can be selected.
var printsNoJSON = []string{"login", "logout", "logs export", "completion", "mcp", "help"}

func checkSelects(cmd *cobra.Command) error {
	if slices.Contains(printsNoJSON, strings.TrimPrefix(cmd.CommandPath(), "argusctl ")) {
		return usageErrorf("%s prints no JSON: --jq and --output name or jsonpath do not apply.", cmd.CommandPath())
	}
	return nil
}

// asWritten keeps numbers as they are written: a seq is no float.
var asWritten = json.WithUnmarshalers(json.UnmarshalFromFunc(func(d *jsontext.Decoder, v *any) error {
	if d.PeekKind() != '0' {
		return errors.ErrUnsupported
	}
	number, err := d.ReadValue()
	*v = stdjson.Number(number)
	return err
}))

// selected prints what is asked for of an object, one line each.
func (f *factory) selected(object []byte) error {
	var v any
	if err := json.Unmarshal(object, &v, asWritten); err != nil {
		return badAnswer(err)
	}
	return f.selects(v, func(line string) error {
		if f.io.outTerminal {
			line = harmlessLines(line)
		}
		_, err := f.io.out.WriteString(line + "\n")
		return err
	})
}

// nameOf is the id of a thing, or the name of what has no id.
func nameOf(object any, print func(string) error) error {
	m, _ := object.(map[string]any)
	if token, ok := m["token"].(map[string]any); ok {
		m = token
	}
	for _, key := range append([]string{"id", "actor_id", "value", "name"}, perfGroups...) {
		if name, ok := m[key].(string); ok {
			return print(name)
		}
	}
	return usageErrorf("--output name is for things that have an id or a name. Take --jq here.")
}

// parseJQ compiles an expression of jq. Nothing of this machine is open to it: no environment, no files, no input.
func parseJQ(expression string) (selector, error) {
	query, err := gojq.Parse(expression)
	if err != nil {
		return nil, usageErrorf("--jq: %v.", err)
	}
	code, err := gojq.Compile(query)
	if err != nil {
		return nil, usageErrorf("--jq: %v.", err)
	}
	return func(object any, print func(string) error) error {
		for results := code.Run(object); ; {
			v, ok := results.Next()
			if !ok {
				return nil
			}
			if err, failed := v.(error); failed {
				if halt := (*gojq.HaltError)(nil); errors.As(err, &halt) && halt.Value() == nil {
					return nil
				}
				return fmt.Errorf("--jq: %w", err)
			}
			line, err := textOf(v)
			if err == nil {
				err = print(line)
			}
			if err != nil {
				return err
			}
		}
	}, nil
}

// textOf is a text as it stands and any other value as JSON.
func textOf(v any) (string, error) {
	if s, ok := v.(string); ok {
		return s, nil
	}
	b, err := gojq.Marshal(v)
	return string(b), err
}

// parseJSONPath reads a template as kubectl has them: {.path} is replaced by what the path selects, {"\n"} by the text, and
// the rest stands. The paths are those of RFC 9535. An object is looked at by itself, so there is no {range}.
func parseJSONPath(template string) (selector, error) {
	var parts []func(any) (string, error)
	literal := func(s string) { parts = append(parts, func(any) (string, error) { return s, nil }) }
	if !strings.Contains(template, "{") {
		template = "{" + template + "}"
	}
	for template != "" {
		before, rest, found := strings.Cut(template, "{")
		if literal(before); !found {
			break
		}
		end := closingBrace(rest)
		if end < 0 {
			return nil, usageErrorf("--output jsonpath: there is no } for {%s", rest)
		}
		expression := strings.TrimSpace(rest[:end])
		template = rest[end+1:]
		var quoted string
		switch {
		case strings.HasPrefix(expression, `"`) && unmarshal([]byte(expression), &quoted) == nil:
			literal(quoted)
			continue
		case strings.HasPrefix(expression, "range ") || expression == "end":
			return nil, usageErrorf("--output jsonpath: each object is looked at by itself, so write {.id} without {range}.")
		}
		expression = strings.TrimPrefix(expression, "@")
		if !strings.HasPrefix(expression, "$") {
			if expression = "$" + expression; expression == "$." {
				expression = "$"
			}
		}
		path, err := jsonpath.Parse(expression)
		if err != nil {
			return nil, usageErrorf("--output jsonpath: %s in {%s}.", strings.TrimPrefix(err.Error(), "jsonpath: "), rest[:end])
		}
		parts = append(parts, func(object any) (string, error) {
			var texts []string
			for _, v := range path.Select(object) {
				text, err := textOf(v)
				if err != nil {
					return "", err
				}
				texts = append(texts, text)
			}
			return strings.Join(texts, " "), nil
		})
	}
	return func(object any, print func(string) error) error {
		var line strings.Builder
		for _, part := range parts {
			text, err := part(object)
			if err != nil {
				return err
			}
			line.WriteString(text)
		}
		return print(strings.TrimSuffix(line.String(), "\n"))
	}, nil
}

// closingBrace is where the brace of an expression closes, outside of quotes, or -1.
func closingBrace(s string) int {
	quote := rune(0)
	for i, r := range s {
		switch {
		case quote != 0 && r == quote && (i == 0 || s[i-1] != '\\'):
			quote = 0
		case quote != 0:
		case r == '\'' || r == '"':
			quote = r
		case r == '}':
			return i
		}
	}
	return -1
}
