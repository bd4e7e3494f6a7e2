package services

import (
	"encoding/json"
	"reflect"
	"strings"

	"github.com/useargus/argus"
)

// Schema is the JSON Schema of the services file, by which editors complete it. It comes from the structs that read the
// file. What no schema says, such as two routes that overlap, argusd check services tells.
func Schema() []byte {
	schema := schemaOf(reflect.TypeFor[File]())
	schema["$schema"] = "https://json-schema.org/draft/2020-12/schema"
	schema["title"] = "ARGUS_SERVICES_FILE"
	text, err := json.MarshalIndent(schema, "", "  ")
	if err != nil {
		panic(err) // it is made of texts
	}
	return append(text, '\n')
}

func schemaOf(t reflect.Type) map[string]any {
	switch t {
	case reflect.TypeFor[Duration]():
		return map[string]any{"type": "string", "pattern": `^[0-9.]+(ms|s|m)([0-9.]+(ms|s))*$`}
	case reflect.TypeFor[Size]():
		return map[string]any{"type": []string{"string", "integer"}, "pattern": `^[0-9]+ ?(KiB|MiB)?$`, "minimum": 0}
	case reflect.TypeFor[argus.Scope]():
		return map[string]any{"type": "string"}
	}
	switch t.Kind() {
	case reflect.Pointer:
		return schemaOf(t.Elem())
	case reflect.Slice:
		return map[string]any{"type": "array", "items": schemaOf(t.Elem())}
	case reflect.Map:
		return map[string]any{"type": "object", "additionalProperties": schemaOf(t.Elem())}
	case reflect.Bool:
		return map[string]any{"type": "boolean"}
	case reflect.Int:
		return map[string]any{"type": "integer"}
	case reflect.Struct:
		properties, required := map[string]any{}, []string{}
		for i := range t.NumField() {
			f := t.Field(i)
			key := f.Tag.Get("yaml")
			if key == "" || key == "-" {
				continue
			}
			property := schemaOf(f.Type)
			if help := f.Tag.Get("help"); help != "" {
				property["description"] = help
			}
			if pattern := f.Tag.Get("pattern"); pattern != "" {
				property["pattern"] = pattern
			}
			if values := f.Tag.Get("enum"); values != "" {
				property["enum"] = strings.Split(values, ",")
			}
			if f.Tag.Get("required") != "" {
				required = append(required, key)
			}
			properties[key] = property
		}
		schema := map[string]any{"type": "object", "additionalProperties": false, "properties": properties}
		if len(required) > 0 {
			schema["required"] = required
		}
		return schema
	}
	return map[string]any{"type": "string"}
}
