package argus

import (
	"bytes"
	"encoding/json"
	"errors"
	"os"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

// TestShownColumns: every column of the row can be chosen, and the console reads the same list.
func TestShownColumns(t *testing.T) {
	var names []string
	for _, c := range ShownColumns() {
		names = append(names, c.Name)
		if c.Title == "" {
			t.Errorf("%s has no title", c.Name)
		}
	}
	if n := len(ColumnNames()); !slices.Equal(names[:n], ColumnNames()) {
		t.Errorf("shown are %v", names[:n])
	}
	var published []ShownColumn
	if b, err := os.ReadFile("testdata/columns.json"); err != nil || json.Unmarshal(b, &published) != nil || !slices.Equal(published, ShownColumns()) {
		t.Errorf("testdata/columns.json is not the list of ShownColumns: %v", err)
	}
	got, err := ParseColumns([]string{"occurred_at, route", "reason"})
	if err != nil || !slices.Equal(got, []string{"occurred_at", "route", "reason"}) {
		t.Errorf("%v %v", got, err)
	}
	for text, says := range map[string]string{"stauts": "Did you mean status?", "actor": "Did you mean actor_id?", "Time": "Did you mean occurred_at?", "ACTOR_ID": "Did you mean actor_id?",
		"xyzzy-plugh": "There are writer_id, seq,", "": "There are writer_id", "route,route": "twice", "route,": "There are writer_id", "=1+1": "There are"} {
		_, err := ParseColumns([]string{text})
		var e *Error
		if !errors.As(err, &e) || e.Code != CodeInvalidParameter || !strings.Contains(e.Message, says) {
			t.Errorf("%q: %v", text, err)
		}
	}
}

// anyRecord is a row with any texts.
func anyRecord(t *rapid.T) Record {
	text := func(name string) string {
		return rapid.OneOf(rapid.String(), rapid.StringOf(rapid.SampledFrom([]rune("a'\"=;,\r\n\t\x00\u2028é {}\\<")))).Draw(t, name)
	}
	r := sample()
	r.ActorID, r.ImpersonatorID, r.UserAgent, r.Reason, r.Agent, r.Release, r.Route = text("actor"), text("impersonator"), text("user agent"), text("reason"), text("agent"), text("release"), text("route")
	r.PathParams = []PathParam{{text("name"), text("value")}, {"id", text("id")}}
	if rapid.Bool().Draw(t, "claims") {
		r.Workload = []Claim{{text("claim"), text("claim's value")}}
	}
	if rapid.Bool().Draw(t, "interrupted") {
		r.Outcome = Interrupted
	}
	r.BodyHashed = rapid.Bool().Draw(t, "hashed")
	r.MakeStorable()
	r.RowHash = r.ComputeHash()
	return r
}

// TestRecordOfCSV: a line of CSV gives the row back, and with it its hash. One byte more, less or other is an error or
// another hash: no two files have the same rows.
func TestRecordOfCSV(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		r := anyRecord(t)
		line := AppendCSV(nil, r.CSV(), rapid.SampledFrom([]string{"\n", "\r\n"}).Draw(t, "line end"))
		read := func(line []byte) (Record, error) {
			cells, err := ParseCSV(line)
			if err != nil {
				return Record{}, err
			}
			return RecordOfCSV(cells)
		}
		back, err := read(line)
		if err != nil || back.ComputeHash() != r.RowHash || !bytes.Equal(back.AppendJSON(nil), r.AppendJSON(nil)) {
			t.Fatalf("%v\n%s\n%s", err, line, back.AppendJSON(nil))
		}
		at := rapid.IntRange(0, len(line)-1).Draw(t, "at")
		other := bytes.Clone(line)
		switch rapid.IntRange(0, 2).Draw(t, "change") {
		case 0:
			other[at] ^= byte(rapid.IntRange(1, 255).Draw(t, "bits"))
		case 1:
			other = append(other[:at], other[at+1:]...)
		case 2:
			other = slices.Insert(other, at, rapid.Byte().Draw(t, "byte"))
		}
		if bytes.Equal(bytes.TrimRight(other, "\r\n"), bytes.TrimRight(line, "\r\n")) {
			return // the other line end
		}
		if back, err := read(other); err == nil && back.ComputeHash() == back.RowHash {
			t.Fatalf("taken for a row:\n%q\n%q", line, other)
		}
	})
	for _, line := range []string{"", "\n", "a", "a\n\n", "\"a\"\n", "\"a\nb", "\"a,\n", "a,\"b\"c\n", "\"a\"\"\n", "a\r", "a,b\rc\n"} {
		if cells, err := ParseCSV([]byte(line)); err == nil {
			t.Errorf("%q became %q", line, cells)
		}
	}
}

// TestBeside: what stands beside a row ends its JSON, and is read back in exactly that form.
func TestBeside(t *testing.T) {
	r := sample()
	worker, text := "w-1", "a <b> \u2028 \"c\""
	b := Beside{Leaf: 7, Steps: []Step{{Table: "compute_control_audit", AuditID: r.ID, Step: 1, ActorID: "user_ada", Action: "stop", WorkerID: &worker, Reason: &text, Result: "requested", At: JSONTime(r.OccurredAt)}},
		ActorName: "Ada =1", Tenant: "UTD_1", TenantName: "'Corner"}
	object := AppendBeside(r.AppendJSON(nil), &b, true, true)
	var got struct {
		Steps          []Step
		ActorName      string  `json:"actor_name"`
		Impersonator   *string `json:"impersonator_name"`
		Tenant, Reason string
		TenantName     string `json:"tenant_name"`
	}
	if err := json.Unmarshal(object, &got); err != nil || got.ActorName != "Ada =1" || got.Impersonator != nil || got.Tenant != "UTD_1" || got.TenantName != "'Corner" || *got.Steps[0].Reason != text {
		t.Fatalf("%v %s", err, object)
	}
	var back Record
	if err := back.UnmarshalJSON(object); err != nil || string(back.AppendJSON(nil)) != string(r.AppendJSON(nil)) {
		t.Errorf("the row beside them: %v", err)
	}
	if plain := AppendBeside(r.AppendJSON(nil), &b, false, false); string(plain) != string(r.AppendJSON(nil)) {
		t.Errorf("without either the row is %s", plain)
	}
	steps := appendSteps(nil, b.Steps)
	if back, err := ParseSteps(steps); err != nil || len(back) != 1 {
		t.Errorf("%v", err)
	}
	for _, bad := range []string{"", "null", "[null]", "[{}]", "[", " []", string(steps) + " ", strings.Replace(string(steps), `"step":1`, `"step":1,"step":2`, 1),
		strings.Replace(string(steps), `"step":1`, `"STEP":1`, 1), strings.Replace(string(steps), "compute", "\\u0063ompute", 1)} {
		if _, err := ParseSteps([]byte(bad)); err == nil {
			t.Errorf("taken for steps: %s", bad)
		}
	}
	names := ExportColumns(true, true)
	cells := r.CSVOf(names, &b)
	if n := len(columns); !slices.Equal(cells[:n], r.CSV()) || cells[n+1] != "Ada =1" || cells[n+4] != "''Corner" || len(cells) != len(names) || cells[n] != string(steps) {
		t.Errorf("%q", cells)
	}
	if cells := r.CSVOf([]string{"leaf", "status"}, &b); !slices.Equal(cells, []string{"7", "200"}) {
		t.Errorf("%q", cells)
	}
}
