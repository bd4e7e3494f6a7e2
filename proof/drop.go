package proof

import (
	"encoding/json"
)

// detail is the detail of a row of audit_admin. Its keys count as they are written: a struct would take Rows for rows.
type detail map[string]json.RawMessage

func parseDetail(text string) (d detail, ok bool) {
	return d, json.Unmarshal([]byte(text), &d) == nil
}

// number reads a key that must be there.
func (d detail) number(key string, into *int64) bool {
	var n *int64
	if json.Unmarshal(d[key], &n) != nil || n == nil {
		return false
	}
	*into = *n
	return true
}

// parseDrop reads the detail of a month_dropped row.
func parseDrop(text string) (drop, bool) {
	var p drop
	var name string
	d, ok := parseDetail(text)
	if !ok || json.Unmarshal(d["month"], &name) != nil || !d.number("rows", &p.counts[Call]) ||
		!d.number("compute_control_rows", &p.counts[ComputeStep]) || !d.number("remote_support_rows", &p.counts[SupportStep]) {
		return drop{}, false
	}
	month, err := ParseMonth(name)
	p.month = month
	return p, err == nil
}

// parseRange reads the leaves that a row of audit_admin names, from from_leaf to before to_leaf.
func parseRange(text string) (LeafRange, bool) {
	var from, to int64
	d, ok := parseDetail(text)
	if !ok || !d.number("from_leaf", &from) || !d.number("to_leaf", &to) || to <= from {
		return LeafRange{}, false
	}
	return LeafRange{from, to - 1}, true
}
