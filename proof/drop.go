package proof

import (
	"encoding/json"
)

// parseDrop reads the detail of a month_dropped row.
func parseDrop(detail string) (drop, bool) {
	var d struct {
		Month   string `json:"month"`
		Rows    *int64 `json:"rows"`
		Compute *int64 `json:"compute_control_rows"`
		Support *int64 `json:"remote_support_rows"`
	}
	if err := json.Unmarshal([]byte(detail), &d); err != nil || d.Rows == nil || d.Compute == nil || d.Support == nil {
		return drop{}, false
	}
	month, err := ParseMonth(d.Month)
	return drop{month: month, counts: [AdminRow]int64{Call: *d.Rows, ComputeStep: *d.Compute, SupportStep: *d.Support}}, err == nil
}

// parseRange reads the leaves that a row of audit_admin names, from from_leaf to before to_leaf.
func parseRange(detail string) (LeafRange, bool) {
	var d struct {
		From *int64 `json:"from_leaf"`
		To   *int64 `json:"to_leaf"`
	}
	if err := json.Unmarshal([]byte(detail), &d); err != nil || d.From == nil || d.To == nil || *d.To <= *d.From {
		return LeafRange{}, false
	}
	return LeafRange{*d.From, *d.To - 1}, true
}
