package chcolumn

import (
	"encoding/json"
	"testing"
	"unicode/utf8"
)

// FuzzMapColumn holds the quick reader of flat objects against encoding/json: what it takes, it takes alike.
func FuzzMapColumn(f *testing.F) {
	for _, seed := range []string{
		`{}`, `{"id": "UTD_7ELEVEN_001"}`, `{"a":"","b":"x"}`, `{"id": "a\"b\\c\/d\b\f\n\r\te", "k\"": "\\"}`, `{"id": "\u0001"}`,
		`{"id": "\ud83d\ude00"}`, `{"id": 7}`, `{"id": {"x": "y"}}`, `{"id": "x"} `, `{"id": "x",}`, `["x"]`, `{"id": "`, `{"id": "\`,
		`{"first": "a\nb", "second": "c\nd", "third": "plain"}`,
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, v []byte) {
		c := newMapColumn("Map(LowCardinality(String), String)")
		if err := c.AppendText(v); err != nil {
			t.Fatal(err)
		}
		c.entries = c.entries[:0]
		var want map[string]string
		if json.Unmarshal(v, &want) != nil || want == nil || !utf8.Valid(v) {
			c.parseFlat(v) // Postgres sends no such thing: only that it ends matters
			return
		}
		if !c.parseFlat(v) {
			return
		}
		got := map[string]string{}
		for _, e := range c.entries {
			got[string(e.key)] = string(e.value) // of equal keys the last counts, in both
		}
		if len(got) != len(want) {
			t.Fatalf("%s: %q, want %q", v, got, want)
		}
		for k, x := range want {
			if got[k] != x {
				t.Fatalf("%s: %q is %q, want %q", v, k, got[k], x)
			}
		}
	})
}
