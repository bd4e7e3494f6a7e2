package interop

import (
	"bytes"
	"encoding/json"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/klauspost/compress/zstd"
	"github.com/santhosh-tekuri/jsonschema/v6"
	_ "github.com/valllabh/ocsf-schema-golang/ocsfvalidate/1.2" // ships the schemas that schema.ocsf.io publishes
	"pgregory.net/rapid"

	"github.com/useargus/argus/ship/format"
	"github.com/useargus/argus/ship/sinktest"
)

// publishedSchema compiles schema.ocsf.io's own JSON schema of API Activity, of version 1.2.0: the newest that a
// registry of modules has. It is made strict: a schema of OCSF rejects what it does not know, and the JSON schema does not say so.
// What later versions of the schema changed is stated here, and nothing else.
func publishedSchema(t *testing.T) *jsonschema.Schema {
	dir, err := exec.Command("go", "list", "-m", "-f", "{{.Dir}}", "github.com/valllabh/ocsf-schema-golang").Output()
	if err != nil {
		t.Fatal(err)
	}
	file, err := os.Open(filepath.Join(strings.TrimSpace(string(dir)), "ocsfvalidate/1.2/jsonschema/classes_api_activity.json.zst"))
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	plain, err := zstd.NewReader(file)
	if err != nil {
		t.Fatal(err)
	}
	defer plain.Close()
	text, err := io.ReadAll(plain)
	if err != nil {
		t.Fatal(err)
	}
	var schema map[string]any
	if err := json.Unmarshal(text, &schema); err != nil {
		t.Fatal(err)
	}
	object := func(name string) map[string]any { return schema["$defs"].(map[string]any)[name].(map[string]any) }
	integer := map[string]any{"type": "integer"}
	// 1.3: the attribute cloud belongs to the profile cloud. http_response belongs to the class, and bodies have a length.
	schema["required"] = without(schema["required"].([]any), "cloud")
	schema["properties"].(map[string]any)["http_response"] = map[string]any{"type": "object", "required": []any{"code"}, "additionalProperties": false,
		"properties": map[string]any{"code": integer, "latency": integer}}
	object("http_request")["properties"].(map[string]any)["body_length"] = integer
	// Later lists of methods have PATCH.
	method := object("http_request")["properties"].(map[string]any)["http_method"].(map[string]any)
	method["enum"] = append(method["enum"].([]any), "PATCH")
	// 1.5: type 4 of a user is a service account.
	kind := object("user")["properties"].(map[string]any)["type_id"].(map[string]any)
	kind["enum"] = append(kind["enum"].([]any), 4)

	schema["additionalProperties"] = false
	for name, def := range schema["$defs"].(map[string]any) {
		if name != "object" { // unmapped: what the schema has no attribute for
			def.(map[string]any)["additionalProperties"] = false
		}
	}
	text, err = json.Marshal(schema)
	if err != nil {
		t.Fatal(err)
	}
	document, err := jsonschema.UnmarshalJSON(bytes.NewReader(text))
	if err != nil {
		t.Fatal(err)
	}
	compiler := jsonschema.NewCompiler()
	if err := compiler.AddResource("api_activity.json", document); err != nil {
		t.Fatal(err)
	}
	compiled, err := compiler.Compile("api_activity.json")
	if err != nil {
		t.Fatal(err)
	}
	return compiled
}

func without(values []any, value any) []any {
	var rest []any
	for _, v := range values {
		if v != value {
			rest = append(rest, v)
		}
	}
	return rest
}

// TestEventsAreOCSF: the event of any row is valid by the published schema, and each of its attributes is in there.
func TestEventsAreOCSF(t *testing.T) {
	schema := publishedSchema(t)
	if out := os.Getenv("OCSF_EVENTS"); out != "" { // for a validator that no registry has: one event a file
		for i := range 500 {
			r := sinktest.AnyRecord().Example(i)
			if err := os.WriteFile(filepath.Join(out, r.ID.String()+".json"), format.OCSF{}.Append(nil, &r, int64(i%2)), 0o600); err != nil {
				t.Fatal(err)
			}
		}
	}
	rapid.Check(t, func(t *rapid.T) {
		r := sinktest.AnyRecord().Draw(t, "record")
		event := format.OCSF{}.Append(nil, &r, rapid.Int64Range(0, 1<<40).Draw(t, "stream_seq"))
		document, err := jsonschema.UnmarshalJSON(bytes.NewReader(event))
		if err != nil {
			t.Fatalf("%v in %s", err, event)
		}
		if err := schema.Validate(document); err != nil {
			t.Fatalf("%v\n%s", err, event)
		}
	})
}
