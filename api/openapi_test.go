package api

import (
	"encoding/json"
	"go/ast"
	"go/parser"
	"go/token"
	"maps"
	"net/http"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/getkin/kin-openapi/openapi3"

	"github.com/useargus/argus"
	"github.com/useargus/argus/api/services"
)

// description is the document that an API serves, and its operations by their ids.
type description struct {
	*openapi3.T
	raw        []byte
	operations map[string]*documented
}

// documented is an operation of a description; fields of the same name say what kin-openapi's do.
type documented struct {
	*openapi3.Operation
	method, path string
	item         *openapi3.PathItem
}

// scope is the scope asked for, "" for what is public.
func (o *documented) scope() string {
	scope, _ := o.Extensions["x-argus-scope"].(string)
	return scope
}

// describe loads the document that the server serves.
func (h *harness) describe() *description {
	h.t.Helper()
	resp := h.do("", http.MethodGet, "/openapi.json", nil)
	doc, err := openapi3.NewLoader().LoadFromData(resp.body)
	h.must(err)
	d := &description{T: doc, raw: resp.body, operations: map[string]*documented{}}
	for path, item := range doc.Paths.Map() {
		for method, op := range item.Operations() {
			if d.operations[op.OperationID] != nil {
				h.t.Errorf("two operations are called %q", op.OperationID)
			}
			d.operations[op.OperationID] = &documented{op, method, path, item}
		}
	}
	return d
}

// TestDescription: openapi.json is valid OpenAPI 3.1, is as a reader needs it, and describes exactly what is
// served. That the answers are as described, TestContract shows.
func TestDescription(t *testing.T) {
	keys, err := services.ParseKeys("")
	if err != nil {
		t.Fatal(err)
	}
	h := newHarness(t, func(c *Config) { c.AssertionKeys = keys })
	d := h.describe()
	if !strings.HasPrefix(d.OpenAPI, "3.1.") {
		t.Errorf("this is OpenAPI %s", d.OpenAPI)
	}
	// Examples and defaults are held against their schemas, too.
	h.must(d.Validate(t.Context(), openapi3.EnableExamplesValidation(), openapi3.EnableSchemaDefaultsValidation()))

	scopes := map[string]argus.Scope{}
	for _, r := range h.api.table {
		scopes[r.Method+" "+braced(r.Path)] = r.Scope
	}
	served := map[string]bool{}
	for _, r := range h.api.engine.Routes() {
		served[r.Method+" "+braced(r.Path)] = true
	}
	listed := map[string]bool{}
	for _, op := range d.operations {
		name := op.method + " " + op.path
		listed[name] = true
		if op.method == http.MethodGet {
			listed[http.MethodHead+" "+op.path] = true // as the document says of every GET
		}
		if op.scope() != string(scopes[name]) {
			t.Errorf("%s is documented with scope %q and asks for %q", name, op.scope(), scopes[name])
		}
		if public := op.Security != nil && len(*op.Security) == 0; public != (scopes[name] == "") {
			t.Errorf("%s is documented as public: %t", name, public)
		}
	}
	for name := range served {
		if !listed[name] {
			t.Errorf("%s is served and not documented", name)
		}
	}
	for name := range listed {
		if !served[name] {
			t.Errorf("%s is documented and not served", name)
		}
	}
	d.lint(t)
}

// braced is a route's template as OpenAPI writes it.
func braced(path string) string {
	return regexp.MustCompile(`[:*](\w+)`).ReplaceAllString(path, "{$1}")
}

// lint holds the document to what its readers, people and generators, need beyond validity.
func (d *description) lint(t *testing.T) {
	tags := map[string]bool{}
	for _, tag := range d.Tags {
		tags[tag.Name] = tag.Description != ""
	}
	parameter := func(where string, p *openapi3.Parameter) {
		if p.Description == "" || p.Example == nil {
			t.Errorf("%s: the parameter %s has no description or no example", where, p.Name)
		}
	}
	codes := map[argus.Code]bool{}
	for id, op := range d.operations {
		switch {
		case op.Summary == "" || op.Description == "":
			t.Errorf("%s has no summary or no description", id)
		case strings.HasSuffix(op.Summary, ".") || !strings.HasSuffix(op.Description, "."):
			t.Errorf("%s: a summary is a line, a description has sentences", id)
		case len(op.Tags) != 1 || !tags[op.Tags[0]]:
			t.Errorf("%s has the tags %v", id, op.Tags)
		}
		for _, p := range op.Parameters {
			parameter(id, p.Value)
		}
		if body := op.RequestBody; body != nil && body.Value.Content.Get("application/json").Example == nil {
			t.Errorf("%s: its body has no example", id)
		}
		for status, response := range op.Responses.Map() {
			for _, code := range d.lintResponse(t, id, status, response.Value) {
				codes[code] = true
			}
		}
	}
	for status, response := range d.unmatched(t) {
		for _, code := range d.lintResponse(t, "unmatched", status, response) {
			codes[code] = true
		}
	}
	for status, response := range d.services(t) {
		for _, code := range d.lintResponse(t, "services", status, response) {
			codes[code] = true
		}
	}
	for _, code := range allCodes(t) {
		if !codes[code] {
			t.Errorf("no operation answers %s", code)
		}
		delete(codes, code)
	}
	for code := range codes {
		t.Errorf("there is no code %s", code)
	}

	for name, schema := range d.Components.Schemas {
		if schema.Value.Description == "" {
			t.Errorf("the schema %s has no description", name)
		}
	}
	var components map[string]map[string]any
	var whole struct {
		Components *map[string]map[string]any `json:"components"`
	}
	whole.Components = &components
	if err := json.Unmarshal(d.raw, &whole); err != nil {
		t.Fatal(err)
	}
	delete(components, "securitySchemes") // named, not referred to
	for kind, all := range components {
		for name := range all {
			if !strings.Contains(string(d.raw), `"#/components/`+kind+`/`+name+`"`) {
				t.Errorf("%s/%s is not used", kind, name)
			}
		}
	}
}

// lintResponse returns the codes that a response of an operation may have.
func (d *description) lintResponse(t *testing.T, id, status string, r *openapi3.Response) []argus.Code {
	n, err := strconv.Atoi(status)
	if err != nil {
		t.Errorf("%s: the answer %s is none", id, status)
	}
	for kind, media := range r.Content {
		if len(media.Examples) == 0 {
			t.Errorf("%s %s: no example of %s", id, status, kind)
		}
	}
	for name, header := range r.Headers {
		if header.Value.Description == "" || header.Value.Schema == nil || len(header.Value.Schema.Value.Examples) == 0 {
			t.Errorf("%s %s: the header %s has no description or no example", id, status, name)
		}
	}
	codes := codesOf(r)
	if len(codes) == 0 {
		return nil
	}
	media := r.Content.Get("application/json")
	if examples := slices.Sorted(maps.Keys(media.Examples)); !slices.Equal(examples, slices.Sorted(slices.Values(texts(codes)))) {
		t.Errorf("%s %s: examples of %v for the codes %v", id, status, examples, codes)
	}
	for _, code := range codes {
		if statusOf(code) != n {
			t.Errorf("%s: %s is answered with %d, not %s", id, code, statusOf(code), status)
		}
	}
	for name, example := range media.Examples {
		if body, _ := json.Marshal(example.Value.Value); (&response{body: body}).code() != argus.Code(name) {
			t.Errorf("%s %s: the example of %s is of another code", id, status, name)
		}
	}
	return codes
}

// codesOf returns the error codes a response may have, nil for one that is no error.
func codesOf(response *openapi3.Response) []argus.Code {
	media := response.Content.Get("application/json")
	if media == nil || media.Schema.Value.Properties["error"] == nil {
		return nil
	}
	code := media.Schema.Value.Properties["error"].Value.Properties["code"]
	var codes []argus.Code
	for _, v := range code.Value.Enum {
		codes = append(codes, argus.Code(v.(string)))
	}
	return codes
}

func texts[T ~string](list []T) []string {
	var out []string
	for _, s := range list {
		out = append(out, string(s))
	}
	return out
}

// unmatched are the answers to what no operation describes.
func (d *description) unmatched(t testing.TB) map[string]*openapi3.Response {
	t.Helper()
	return d.extension(t, "x-argus-unmatched")
}

// services are the answers of ARGUS to calls that go to a service behind it.
func (d *description) services(t testing.TB) map[string]*openapi3.Response {
	t.Helper()
	return d.extension(t, "x-argus-services")
}

func (d *description) extension(t testing.TB, name string) map[string]*openapi3.Response {
	t.Helper()
	refs, _ := d.Extensions[name].(map[string]any)
	all := map[string]*openapi3.Response{}
	for status, v := range refs {
		ref, _ := v.(map[string]any)["$ref"].(string)
		response, ok := d.Components.Responses[strings.TrimPrefix(ref, "#/components/responses/")]
		if !ok {
			t.Fatalf("%s refers to %q", name, ref)
		}
		all[status] = response.Value
	}
	return all
}

// allCodes reads the codes out of the root package's source: no list of them exists that could be forgotten.
func allCodes(t testing.TB) []argus.Code {
	t.Helper()
	file, err := parser.ParseFile(token.NewFileSet(), "../errors.go", nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	var codes []argus.Code
	ast.Inspect(file, func(n ast.Node) bool {
		if spec, ok := n.(*ast.ValueSpec); ok && len(spec.Values) == 1 {
			if kind, ok := spec.Type.(*ast.Ident); ok && kind.Name == "Code" {
				text, _ := strconv.Unquote(spec.Values[0].(*ast.BasicLit).Value)
				codes = append(codes, argus.Code(text))
			}
		}
		return true
	})
	if len(codes) < 20 {
		t.Fatalf("only %d codes in errors.go", len(codes))
	}
	return codes
}

// conforms tells how a value is not as its schema says, properties that the schema does not name included: a
// caller's generator would drop those.
func conforms(schema *openapi3.SchemaRef, value any) error {
	if err := schema.Value.VisitJSON(value, openapi3.EnableJSONSchema2020()); err != nil {
		return err
	}
	if name := undocumented(schema, value); name != "" {
		return argus.Errorf(argus.CodeInternal, "the property %s is not documented", name)
	}
	return nil
}

// undocumented returns a property of value that no part of its schema names, "" when there is none.
func undocumented(schema *openapi3.SchemaRef, value any) string {
	switch v := value.(type) {
	case []any:
		if schema.Value.Items != nil {
			for _, item := range v {
				if name := undocumented(schema.Value.Items, item); name != "" {
					return name
				}
			}
		}
	case map[string]any:
		known := map[string]*openapi3.SchemaRef{}
		free := properties(schema, known)
		for name, item := range v {
			switch p := known[name]; {
			case p != nil:
				if inner := undocumented(p, item); inner != "" {
					return name + "." + inner
				}
			case !free:
				return name
			}
		}
	}
	return ""
}

// properties gathers what a schema and its parts name; free says that others may come.
func properties(schema *openapi3.SchemaRef, known map[string]*openapi3.SchemaRef) (free bool) {
	s := schema.Value
	for _, part := range slices.Concat(s.AllOf, s.OneOf, s.AnyOf) {
		free = properties(part, known) || free
	}
	for name, p := range s.Properties {
		if known[name] == nil {
			known[name] = p
		}
	}
	open := s.AdditionalProperties.Schema != nil || s.AdditionalProperties.Has != nil && *s.AdditionalProperties.Has
	return free || open || len(known) == 0
}
