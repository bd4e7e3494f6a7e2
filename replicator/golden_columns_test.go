package replicator

import "log/slog"

var discard = slog.New(slog.DiscardHandler)

// goldenColumns are the tables of migrations/clickhouse, as system.columns shows them.
var goldenColumns = [tableCount][]chColumn{
	computeTable: {
		{"audit_id", "UUID"},
		{"step", "Int16"},
		{"at", "DateTime64(6, 'UTC')"},
		{"actor_id", "LowCardinality(String)"},
		{"action", "LowCardinality(String)"},
		{"worker_id", "Nullable(String)"},
		{"provider", "LowCardinality(Nullable(String))"},
		{"reason", "Nullable(String)"},
		{"from_state", "LowCardinality(Nullable(String))"},
		{"to_state", "LowCardinality(Nullable(String))"},
		{"result", "LowCardinality(String)"},
		{"error", "Nullable(String)"},
	},
	supportTable: {
		{"audit_id", "UUID"},
		{"step", "Int16"},
		{"at", "DateTime64(6, 'UTC')"},
		{"actor_id", "LowCardinality(String)"},
		{"action", "LowCardinality(String)"},
		{"tenant_id", "String"},
		{"session_id", "Nullable(UUID)"},
		{"reason", "Nullable(String)"},
		{"consent_document_id", "Nullable(String)"},
		{"result", "LowCardinality(String)"},
		{"error", "Nullable(String)"},
	},
	auditTable: {
		{"writer_id", "Int64"},
		{"seq", "Int64"},
		{"id", "UUID"},
		{"occurred_at", "DateTime64(6, 'UTC')"},
		{"recorded_at", "DateTime64(6, 'UTC')"},
		{"actor_id", "LowCardinality(String)"},
		{"impersonator_id", "LowCardinality(Nullable(String))"},
		{"actor_kind", "LowCardinality(String)"},
		{"pat_id", "Nullable(UUID)"},
		{"break_glass_id", "Nullable(UUID)"},
		{"scope", "LowCardinality(String)"},
		{"route", "LowCardinality(String)"},
		{"path_params", "Map(LowCardinality(String), String)"},
		{"method", "LowCardinality(String)"},
		{"status", "Nullable(Int16)"},
		{"outcome", "LowCardinality(String)"},
		{"latency_us", "Nullable(Int64)"},
		{"client_ip", "IPv6"},
		{"user_agent", "LowCardinality(String)"},
		{"body_sha256", "Nullable(FixedString(32))"},
		{"body_bytes", "Int64"},
		{"client_request_id", "Nullable(String)"},
		{"trace_id", "Nullable(String)"},
		{"row_hash", "FixedString(32)"},
	},
}
