package argus

import (
	"encoding/csv"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

// TestCSVText: what a spreadsheet would take for a formula is guarded, with any text before its sign.
func TestCSVText(t *testing.T) {
	for _, s := range []string{"=1+1", "+1", "-1", "@SUM(A1)", "\t=1", "\r=1", "\n=1", "\tx", ";=1+1", ";x", "＝1", "＋1", "－1", "＠x", "；=1", "﹦1", "﹢1", "﹣1", "﹫x",
		" =1", "  +1", "\u00a0=1", "\u3000=1", "\u200b=1", "\ufeff=1", "\u00ad\u200b =1", " ;=1", "\x00=1", "'", "'=1", "' x", " \t"} {
		if got := CSVText(s); got != "'"+s {
			t.Errorf("%q became %q", s, got)
		}
	}
	for _, s := range []string{"", " ", "argusctl/1.0", "a=1", "a;b", " a", "\u200ba", "GET /v1/tenants", `{"id":"-"}`, "\"=1\"", "5-3"} {
		if got := CSVText(s); got != s {
			t.Errorf("%q became %q", s, got)
		}
	}
}

// TestCSVOfCalls: a caller, an operator or a service may write any text into a row. No cell of the row's CSV is a formula, and
// the row's JSON gives the text back.
func TestCSVOfCalls(t *testing.T) {
	const formula = "=HYPERLINK(\"http://evil.example\")\n+1"
	r := Record{ActorID: formula, ImpersonatorID: formula, ActorKind: formula, Scope: formula, Route: formula, Method: formula, UserAgent: formula,
		Outcome: Completed, ClientRequestID: formula, TraceID: formula, Service: formula, Release: formula, ErrorCode: formula, Reason: formula,
		Agent: formula, PathParams: []PathParam{{formula, formula}}, Workload: []Claim{{formula, formula}}}
	r.MakeStorable()
	for i, cell := range r.CSV() {
		if strings.HasPrefix(cell, "=") || strings.HasPrefix(cell, "{") && strings.ContainsAny(cell, "\r\n\t") {
			t.Errorf("%s is %q", ColumnNames()[i], cell)
		}
	}
	var back Record
	if err := back.UnmarshalJSON(r.AppendJSON(nil)); err != nil || string(back.AppendJSON(nil)) != string(r.AppendJSON(nil)) {
		t.Errorf("%v: %s", err, back.AppendJSON(nil))
	}
}

func TestAppendCSV(t *testing.T) {
	for want, cells := range map[string][]string{
		"a,b,\n":                             {"a", "b", ""},
		"\"\"\n":                             {""},
		"\"a;b\",\"a\tb\",\"a\"\"b\"\n":      {"a;b", "a\tb", `a"b`},
		"\"a,b\",\"a\r\nb\",\" a\",\"a \"\n": {"a,b", "a\r\nb", " a", "a "},
		"\"'=cmd|' /C calc'!A0;x\",é\n":      {"'=cmd|' /C calc'!A0;x", "é"},
		"\"\"\"\",\"\"\"\"\"\"\n":            {`"`, `""`},
	} {
		if got := string(AppendCSV(nil, cells, "\n")); got != want {
			t.Errorf("%q became %q, want %q", cells, got, want)
		}
	}
	// Any reader of CSV gets the cells back, and from a guarded text the original.
	rapid.Check(t, func(t *rapid.T) {
		texts := rapid.SliceOfN(rapid.OneOf(rapid.String(), rapid.StringMatching(`[ ;,"'=+\t\n@a-]{0,6}`)), 1, 5).Draw(t, "texts")
		var cells []string
		for _, s := range texts {
			cells = append(cells, CSVText(s))
		}
		got, err := csv.NewReader(strings.NewReader(string(AppendCSV(nil, cells, "\r\n")))).ReadAll()
		if err != nil || len(got) != 1 {
			t.Fatalf("%q: %q, %v", texts, got, err)
		}
		for i := range texts {
			texts[i] = strings.ReplaceAll(texts[i], "\r\n", "\n") // as the reader has it
			got[0][i] = strings.TrimPrefix(got[0][i], "'")
		}
		if !slices.Equal(got[0], texts) {
			t.Fatalf("%q became %q", texts, got[0])
		}
	})
}
