package argus

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"os"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/uuid"
)

// fullAndBare are a row without nulls, and one with all of them that a row can have.
func fullAndBare() (full, bare Record) {
	full = sample()
	full.ImpersonatorID, full.BreakGlassID, full.TraceID = "user_boss", uuid.New(), "0af7651916cd43dd8448eb211c80319c"
	full.ErrorCode, full.Reason, full.Agent, full.Workload = "not_found", "looks", "claude/4", []Claim{{"ref", "main"}}
	full.RowHash = full.ComputeHash()
	bare = Record{Outcome: Interrupted, ID: full.ID}
	bare.MakeStorable()
	return full, bare
}

// keysOf are the keys of a JSON object with their values, in order.
func keysOf(t *testing.T, object []byte) (names []string, values []json.RawMessage) {
	t.Helper()
	d := json.NewDecoder(bytes.NewReader(object))
	if _, err := d.Token(); err != nil {
		t.Fatal(err)
	}
	for d.More() {
		name, err := d.Token()
		if err != nil {
			t.Fatal(err)
		}
		var v json.RawMessage
		if err := d.Decode(&v); err != nil {
			t.Fatal(err)
		}
		names, values = append(names, name.(string)), append(values, v)
	}
	return names, values
}

// The list of columns is that of the fields of Record, of JSON and of CSV. Each column can be null where the list says so,
// and nowhere else. No column is outside the hash.
func TestColumns(t *testing.T) {
	full, bare := fullAndBare()
	names, values := keysOf(t, full.AppendJSON(nil))
	bareNames, bareValues := keysOf(t, bare.AppendJSON(nil))
	if !slices.Equal(names, ColumnNames()) || !slices.Equal(bareNames, ColumnNames()) {
		t.Fatalf("JSON has the keys %v, the columns are %v", names, ColumnNames())
	}
	cells, bareCells := full.CSV(), bare.CSV()
	if len(cells) != len(columns) || len(bareCells) != len(columns) {
		t.Fatalf("CSV has %d cells, there are %d columns", len(cells), len(columns))
	}
	var fields []string // of Record: one a column, and BodyHashed beside BodySHA256
	for f := range reflect.TypeFor[Record]().Fields() {
		if f.Name != "BodyHashed" {
			fields = append(fields, strings.ToLower(f.Name))
		}
	}
	for i, c := range Columns() {
		if fields[i] != strings.ReplaceAll(c.Name, "_", "") {
			t.Errorf("the column %s is the field %s of Record", c.Name, fields[i])
		}
		text := string(values[i])
		if values[i][0] == '"' {
			if err := json.Unmarshal(values[i], &text); err != nil {
				t.Fatal(err)
			}
		}
		if CSVText(text) != cells[i] {
			t.Errorf("%s is %s in JSON and %q in CSV", c.Name, values[i], cells[i])
		}
		if null := string(bareValues[i]) == "null"; null != c.Nullable || string(values[i]) == "null" {
			t.Errorf("%s: nullable is %t; JSON has %s and %s", c.Name, c.Nullable, values[i], bareValues[i])
		} else if null && bareCells[i] != "" {
			t.Errorf("%s is null in JSON and %q in CSV", c.Name, bareCells[i])
		}
		if c.Kind == ColumnDigest && c.Nullable || c.Kind == ColumnDigest && len(text) == 64 {
			if _, err := hex.DecodeString(text); err != nil {
				t.Errorf("%s is no digest: %s", c.Name, text)
			}
		}
	}
	var again Record
	if err := json.Unmarshal(full.AppendJSON(nil), &again); err != nil || !reflect.DeepEqual(again, full) {
		t.Errorf("what AppendJSON wrote reads as\n%+v, %v; it was\n%+v", again, err, full)
	}
	for i, c := range columns[:len(columns)-1] {
		other := full
		changed := strings.Replace(string(full.AppendJSON(nil)), `"`+c.Name+`":`+string(values[i]), `"`+c.Name+`":`+string(bareValues[i]), 1)
		if string(bareValues[i]) == string(values[i]) { // alike in both, as body_bytes and service
			changed = strings.Replace(changed, `"`+c.Name+`":`+string(values[i]), `"`+c.Name+`":`+another(c, values[i]), 1)
		}
		if err := json.Unmarshal([]byte(changed), &other); err != nil {
			t.Errorf("%s: %v", c.Name, err)
		} else if other.ComputeHash() == full.RowHash {
			t.Errorf("%s is not under the row's hash", c.Name)
		}
	}
}

func another(c Column, value json.RawMessage) string {
	switch c.Kind {
	case ColumnInt64, ColumnInt16:
		return "7" + string(value)
	case ColumnUUID:
		return `"` + uuid.NewString() + `"`
	default:
		return `"another"`
	}
}

// What the API describes and what the console reads are these columns too.
func TestColumnsAreDescribed(t *testing.T) {
	read := func(path string) []byte {
		b, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	var described struct {
		Components struct {
			Schemas struct {
				Row struct {
					Properties json.RawMessage
					Required   []string
				}
			}
		}
	}
	if err := json.Unmarshal(read("api/openapi.json"), &described); err != nil {
		t.Fatal(err)
	}
	row := described.Components.Schemas.Row
	keys, values := keysOf(t, row.Properties)
	var names []string
	var schemas []json.RawMessage
	for i, name := range keys {
		if slices.Contains(row.Required, name) { // another, such as an export's leaf, is no column
			names, schemas = append(names, name), append(schemas, values[i])
		}
	}
	if !slices.Equal(names, ColumnNames()) || !slices.Equal(row.Required, ColumnNames()) {
		t.Errorf("openapi.json: Row has\n%v and requires\n%v; the columns are\n%v", names, row.Required, ColumnNames())
	}
	types := regexp.MustCompile(`(?s)export interface Row \{(.*?)\n\}`).FindSubmatch(read("api/console/src/lib/types.ts"))[1]
	lines := regexp.MustCompile(`(?m)^  (\w+): (.*);$`).FindAllStringSubmatch(string(types), -1)
	for i, c := range Columns() {
		if i < len(schemas) && bytes.Contains(schemas[i], []byte(`"null"`)) != c.Nullable {
			t.Errorf("openapi.json: %s is %s, nullable is %t", c.Name, schemas[i], c.Nullable)
		}
		if i >= len(lines) || lines[i][1] != c.Name || strings.HasSuffix(lines[i][2], " | null") != c.Nullable {
			t.Fatalf("types.ts: Row's key %d is not %s, with null: %t", i, c.Name, c.Nullable)
		}
	}
	if len(lines) != len(columns) {
		t.Errorf("types.ts: Row has %d keys, there are %d columns", len(lines), len(columns))
	}
}
