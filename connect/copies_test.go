package connect

import (
	"slices"
	"strings"
	"testing"
)

func TestCopies(t *testing.T) {
	for text, want := range map[string][]string{
		"": nil,
		"clickhouse://u:p@h:9000/argus?secure=true":                                  {"argus"},
		"east=clickhouse://u:p@h:9000/argus?a=b  west=clickhouse://u:p@i:9000/argus": {"argus_east", "argus_west"},
		"east=clickhouse://u@h:1/a|clickhouse://u@i:1/a w=clickhouse://u@j:1/a":      {"argus_east_1", "argus_east_2", "argus_w"},
	} {
		copies, err := Copies(text)
		if err != nil {
			t.Errorf("%q: %v", text, err)
		}
		var slots []string
		for _, c := range copies {
			for i := range c.Shards {
				slots = append(slots, c.Slot("argus", i+1))
			}
		}
		if !slices.Equal(slots, want) {
			t.Errorf("%q: slots %v, want %v", text, slots, want)
		}
	}
	for _, text := range []string{
		"clickhouse://u:secret@h:1/a clickhouse://u:secret@i:1/a", "east=clickhouse://u:secret@h:1/a east=clickhouse://u@i:1/a",
		"clickhouse://u:secret@h:1,i:1/a", "east=clickhouse://u:secret@h:1,i:1/a", "East=clickhouse://u:secret@h:1/a", "east_2=clickhouse://u:secret@h:1/a",
		"=clickhouse://u:secret@h:1/a", "east=", "east=secret", "east=clickhouse://u:secret@h:1/a|", "clickhouse://u:secret@h:1/a|clickhouse://u@i:1/a", "secret",
	} {
		if copies, err := Copies(text); err == nil || strings.Contains(err.Error(), "secret") {
			t.Errorf("%q: %v, %v", text, copies, err)
		}
	}
}
