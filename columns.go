package argus

import "slices"

// ColumnKind says what a column of the log holds. Each store, format and encoding has one form for a kind.
type ColumnKind int8

const (
	ColumnInt64   ColumnKind = iota // bigint
	ColumnInt16                     // smallint
	ColumnUUID                      // uuid
	ColumnTime                      // timestamptz, in microseconds
	ColumnText                      // text
	ColumnPairs                     // jsonb: an object of texts, names ascending
	ColumnAddress                   // inet, without a prefix
	ColumnDigest                    // bytea of 32 bytes
)

// Column is a column of argus.argus_audit_log and of its copy.
type Column struct {
	Name     string
	Kind     ColumnKind
	Nullable bool
}

// columns are the one list of the record's columns, in their order: that of Record's fields, of both stores, of JSON, of
// CSV and of the canonical encoding. What spells the columns out derives from it, or a test compares it with this list.
var columns = []Column{
	{"writer_id", ColumnInt64, false},
	{"seq", ColumnInt64, false},
	{"id", ColumnUUID, false},
	{"occurred_at", ColumnTime, false},
	{"recorded_at", ColumnTime, false},
	{"actor_id", ColumnText, false},
	{"impersonator_id", ColumnText, true},
	{"actor_kind", ColumnText, false},
	{"pat_id", ColumnUUID, true},
	{"break_glass_id", ColumnUUID, true},
	{"scope", ColumnText, false},
	{"route", ColumnText, false},
	{"path_params", ColumnPairs, false},
	{"method", ColumnText, false},
	{"status", ColumnInt16, true},
	{"outcome", ColumnText, false},
	{"latency_us", ColumnInt64, true},
	{"client_ip", ColumnAddress, false},
	{"user_agent", ColumnText, false},
	{"body_sha256", ColumnDigest, true},
	{"body_bytes", ColumnInt64, false},
	{"client_request_id", ColumnText, true},
	{"trace_id", ColumnText, true},
	{"service", ColumnText, false},
	{"release", ColumnText, true},
	{"error_code", ColumnText, true},
	{"reason", ColumnText, true},
	{"agent", ColumnText, true},
	{"workload", ColumnPairs, true}, // null is an empty map in ClickHouse
	{"row_hash", ColumnDigest, false},
}

// Columns returns the columns of the log, in their order.
func Columns() []Column { return slices.Clone(columns) }

// ColumnNames returns the names of the columns of the log, in their order.
func ColumnNames() []string {
	names := make([]string, len(columns))
	for i, c := range columns {
		names[i] = c.Name
	}
	return names
}
