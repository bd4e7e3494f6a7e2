package services

import (
	"errors"
	"fmt"
	"maps"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/getkin/kin-openapi/openapi3"

	"github.com/useargus/argus"
)

// maxDocument bounds an OpenAPI document in bytes.
const maxDocument = 64 << 20

// operations reads the routes of an OpenAPI document, each operation one. Paths are relative to the upstream: the
// document's own servers are not looked at. x-argus-scope, x-argus-reason, x-argus-confirm and x-argus-stream, of the
// operation or of its path, say what a route's keys do. used is told each file that is read.
func operations(file string, defaults DefaultScopes, used func(path string, data []byte)) ([]*Route, error) {
	loader := openapi3.NewLoader()
	loader.IsExternalRefsAllowed = true
	loader.ReadFromURIFunc = func(_ *openapi3.Loader, at *url.URL) ([]byte, error) {
		if at.Scheme != "" && at.Scheme != "file" || at.Host != "" {
			return nil, fmt.Errorf("it refers to %s, and only files are read", at)
		}
		data, err := readFile(filepath.FromSlash(at.Path), maxDocument)
		if err == nil {
			used(at.Path, data)
		}
		return data, err
	}
	document, err := loadDocument(loader, file)
	if err != nil {
		return nil, err
	}
	if document.Paths == nil || document.Paths.Len() == 0 {
		return nil, errors.New("it has no paths")
	}
	var routes []*Route
	var wrong []error
	for _, path := range slices.Sorted(maps.Keys(document.Paths.Map())) {
		item := document.Paths.Value(path)
		for _, method := range methods {
			operation := item.GetOperation(method)
			if operation == nil {
				continue
			}
			r, err := route(method, path, defaults, operation.Extensions, item.Extensions)
			if err != nil {
				wrong = append(wrong, fmt.Errorf("%s %s: %w", method, path, err))
				continue
			}
			routes = append(routes, r)
		}
	}
	return routes, errors.Join(wrong...)
}

// loadDocument reads a document. One that the library cannot cope with is a mistake like any other.
func loadDocument(loader *openapi3.Loader, file string) (document *openapi3.T, err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("it cannot be read: %v", p)
		}
	}()
	return loader.LoadFromFile(file)
}

// route makes a route of an operation.
func route(method, path string, defaults DefaultScopes, extensions ...map[string]any) (*Route, error) {
	if !strings.HasPrefix(path, "/") {
		return nil, errors.New("a path begins with a slash")
	}
	r := &Route{Method: method, Template: path}
	var template []string
	err := r.read(func(part string) (segment, error) {
		s, err := bracedSegment(part)
		if err == nil {
			template = append(template, s.template())
		}
		return s, err
	})
	if err != nil {
		return nil, err
	}
	r.Template = "/" + strings.Join(template, "/")
	r.Route = method + " " + r.Template
	r.Scope = defaults.Write
	if !r.Effects() {
		r.Scope = defaults.Read
	}
	var scope string
	for key, into := range map[string]any{"x-argus-scope": &scope, "x-argus-reason": &r.Reason, "x-argus-confirm": &r.Confirm, "x-argus-stream": &r.Stream} {
		for _, of := range extensions {
			value, set := of[key]
			if !set {
				continue
			}
			switch v := into.(type) {
			case *string:
				text, ok := value.(string)
				if !ok {
					return nil, fmt.Errorf("%s must be a text", key)
				}
				*v = text
			case *bool:
				on, ok := value.(bool)
				if !ok {
					return nil, fmt.Errorf("%s must be true or false", key)
				}
				*v = on
			}
			break
		}
	}
	if scope != "" {
		r.Scope = argus.Scope(scope)
	}
	return r, nil
}

// bracedSegment reads a part of an OpenAPI path: {id}, v{version}, {base}...{head}. What a name may not hold here becomes _.
func bracedSegment(part string) (segment, error) {
	var s segment
	text := ""
	for rest := part; rest != ""; {
		if rest[0] == '{' {
			name, behind, ok := strings.Cut(rest[1:], "}")
			if !ok || name == "" || len(s.params) > 0 && text == "" {
				return s, fmt.Errorf("%q cannot be read", part)
			}
			clean := []byte(name)
			for i, b := range clean {
				if !isName(b) {
					clean[i] = '_'
				}
			}
			if !isNameStart(clean[0]) {
				clean = append([]byte{'_'}, clean...)
			}
			s.params, s.texts = append(s.params, string(clean)), append(s.texts, text)
			text, rest = "", behind
			continue
		}
		if !isLiteral(rest[0]) {
			return s, fmt.Errorf("%q may not stand in a path", rest[:1])
		}
		text, rest = text+rest[:1], rest[1:]
	}
	return s.end(text)
}

// template writes the segment as people read it.
func (s *segment) template() string {
	if len(s.params) == 0 {
		return s.literal
	}
	text := s.texts[0]
	for i, p := range s.params {
		text += ":" + p + s.texts[i+1]
	}
	return text
}

// readFile reads a file of at most limit bytes.
func readFile(path string, limit int64) ([]byte, error) {
	info, err := os.Stat(path)
	switch {
	case err != nil:
		return nil, plainError(err)
	case !info.Mode().IsRegular():
		return nil, errors.New("it is no file")
	case info.Size() > limit:
		return nil, fmt.Errorf("it is larger than %d MiB", limit>>20)
	}
	data, err := os.ReadFile(path)
	return data, plainError(err)
}

// plainError leaves the path out of an error: the mistake names it already.
func plainError(err error) error {
	var path *os.PathError
	if errors.As(err, &path) {
		return path.Err
	}
	return err
}
