package main

import (
	"encoding/json"
	"fmt"
	"io"
	"net/url"
	"regexp"
	"strings"
	"unicode/utf8"
)

// object is the JSON object that fields make.
type object map[string]any

// fieldInput reads the files that fields name. Standard input is read once.
type fieldInput struct {
	f     *factory
	taken bool
}

var wholeNumber = regexp.MustCompile(`^-?(0|[1-9][0-9]*)$`)

// typed is a value as -F means it.
func (in *fieldInput) typed(s string) (any, error) {
	switch {
	case s == "true", s == "false":
		return s == "true", nil
	case s == "null":
		return nil, nil
	case wholeNumber.MatchString(s):
		return json.Number(s), nil
	case !strings.HasPrefix(s, "@"):
		return s, nil
	}
	name := s[1:]
	if name == "-" && in.taken {
		return nil, usageErrorf("Standard input can be read once.")
	}
	in.taken = in.taken || name == "-"
	r, err := in.f.openInput(name)
	if err != nil {
		return nil, usageErrorf("-F %s: %v", s, err)
	}
	defer r.Close()
	text, err := io.ReadAll(r)
	if err != nil {
		return nil, fmt.Errorf("-F %s: %w", s, err)
	}
	if !utf8.Valid(text) {
		return nil, usageErrorf("-F %s: the file is no text in UTF-8. Send it with --input.", s)
	}
	return string(text), nil
}

// none is the value of a field without one: "a[]" makes an empty list.
type none struct{}

// add sets the field key=value.
func (o object) add(field string, read func(string) (any, error)) error {
	key, text, given := strings.Cut(field, "=")
	path, err := fieldPath(key)
	if err != nil {
		return err
	}
	var value any = none{}
	if given {
		if value, err = read(text); err != nil {
			return err
		}
	} else if path[len(path)-1] != "" {
		return usageErrorf("%q has no value: write %s=value.", field, key)
	}
	_, err = o.set(map[string]any(o), path, value, key)
	return err
}

// fieldPath splits "a[b][]" into a, b and "", which adds to a list.
func fieldPath(key string) ([]string, error) {
	name, rest, _ := strings.Cut(key, "[")
	path := []string{name}
	for rest != "" {
		part, after, ok := strings.Cut(rest, "]")
		if !ok || strings.Contains(part, "[") || after != "" && after[0] != '[' {
			name = ""
			break
		}
		path = append(path, part)
		rest = strings.TrimPrefix(after, "[")
		if after == "[" {
			name = ""
		}
	}
	if name == "" || strings.HasSuffix(key, "[") || !utf8.ValidString(key) {
		return nil, usageErrorf("%q is no key: write key, a[key] or a[].", key)
	}
	return path, nil
}

// set puts a value at the path below what is there, and returns what is there then.
func (o object) set(there any, path []string, value any, key string) (any, error) {
	twice := usageErrorf("The field %s contradicts another of its name.", key)
	if len(path) == 0 {
		if there != nil {
			return nil, twice
		}
		if value == nil {
			return null, nil
		}
		return value, nil
	}
	if path[0] == "" {
		list, ok := there.([]any)
		if there != nil && !ok {
			return nil, twice
		}
		if _, empty := value.(none); empty && len(path) == 1 {
			return append([]any{}, list...), nil
		}
		// A further key of the list's last object, until one comes twice.
		if n := len(list); n > 0 && len(path) > 1 && path[1] != "" {
			if last, ok := list[n-1].(map[string]any); ok && last[path[1]] == nil {
				_, err := o.set(last, path[1:], value, key)
				return list, err
			}
		}
		element, err := o.set(nil, path[1:], value, key)
		return append(list, element), err
	}
	m, ok := there.(map[string]any)
	if there != nil && !ok {
		return nil, twice
	}
	if m == nil {
		m = map[string]any{}
	}
	var err error
	m[path[0]], err = o.set(m[path[0]], path[1:], value, key)
	return m, err
}

// null is a value that was given as null, where nil says that there is none.
var null = json.RawMessage("null")

// query adds the fields to a query. It has texts and lists of texts.
func (o object) query(q url.Values) error {
	text := func(v any) (string, bool) {
		switch v := v.(type) {
		case string:
			return v, true
		case json.RawMessage:
			return string(v), true
		case json.Number, bool:
			return fmt.Sprint(v), true
		}
		return "", false
	}
	for key, value := range o {
		list, ok := value.([]any)
		if !ok {
			list = []any{value}
		}
		for _, v := range list {
			s, ok := text(v)
			if !ok {
				return usageErrorf("The field %s is an object, which no query can hold.", key)
			}
			q.Add(key, s)
		}
	}
	return nil
}
