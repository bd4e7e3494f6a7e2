package proof

import "testing"

// TestDropKeys: a record of a drop counts only with each of its keys, as they are written. Another case, a null, a text or
// another value under a like name is no record.
func TestDropKeys(t *testing.T) {
	const whole = `{"month": "2026-10", "rows": 3, "compute_control_rows": 2, "remote_support_rows": 1, "Rows": 9, "ROWS": 8, "Month": "2020-01"}`
	d, ok := parseDrop(whole)
	if want := (drop{month: d.month, counts: [AdminRow]int64{Call: 3, ComputeStep: 2, SupportStep: 1}}); !ok || d != want || d.month.String() != "2026-10" {
		t.Errorf("%s is read as %+v, %v", whole, d, ok)
	}
	for _, text := range []string{
		"", "null", "[]", "{}", `{"month": "2026-10", "Rows": 3, "compute_control_rows": 2, "remote_support_rows": 1}`,
		`{"month": "2026-10", "rows": null, "compute_control_rows": 2, "remote_support_rows": 1}`,
		`{"month": "2026-10", "rows": "3", "compute_control_rows": 2, "remote_support_rows": 1}`,
		`{"month": null, "rows": 3, "compute_control_rows": 2, "remote_support_rows": 1}`,
		`{"month": "2026-10", "rows": 3, "compute_control_rows": 2}`, `{"month": "2026-13", "rows": 3, "compute_control_rows": 2, "remote_support_rows": 1}`,
	} {
		if d, ok := parseDrop(text); ok {
			t.Errorf("%s is read as %+v", text, d)
		}
	}
	if l, ok := parseRange(`{"from_leaf": 3, "to_leaf": 9, "From_Leaf": 0, "TO_LEAF": 100}`); !ok || l != (LeafRange{3, 8}) {
		t.Errorf("a range is read as %+v, %v", l, ok)
	}
	for _, text := range []string{`{"from_leaf": 3}`, `{"from_leaf": 3, "to_leaf": 3}`, `{"from_leaf": null, "to_leaf": 3}`, `{"From_leaf": 0, "to_leaf": 3}`, "null"} {
		if l, ok := parseRange(text); ok {
			t.Errorf("%s is read as %+v", text, l)
		}
	}
}
