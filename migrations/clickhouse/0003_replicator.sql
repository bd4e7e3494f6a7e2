-- The replicator's own: terms, what a watermark says beside the position, and rows set aside.

-- +goose Up

-- One row for each term of a replicator. Every statement by which a replicator writes asks, at its start,
-- whether the newest term is still its own; the newest is the greatest (epoch, holder).
-- +goose StatementBegin
CREATE TABLE IF NOT EXISTS replicator_epoch (
  epoch     UInt64,
  holder    String,
  raised_at DateTime64(6, 'UTC')
) ENGINE = MergeTree
ORDER BY (epoch, holder)
SETTINGS fsync_after_insert = 1, fsync_part_directory = 1, non_replicated_deduplication_window = 0;
-- +goose StatementEnd

-- ceiling: no row of a transaction that committed at or behind it has been given to ClickHouse, so what is in
-- doubt after a crash lies between lsn and ceiling. system_id and timeline: the history that lsn belongs to.
-- healing: rows before lsn may be missing here; what writers and seqs say holds nevertheless.
-- +goose StatementBegin
ALTER TABLE audit_watermark
  ADD COLUMN IF NOT EXISTS ceiling   UInt64,
  ADD COLUMN IF NOT EXISTS system_id UInt64,
  ADD COLUMN IF NOT EXISTS timeline  UInt32,
  ADD COLUMN IF NOT EXISTS healing   Bool;
-- +goose StatementEnd

-- Rows set aside, with the time it happened.
-- +goose StatementBegin
ALTER TABLE audit_orphans ADD COLUMN IF NOT EXISTS set_aside_at DateTime64(6, 'UTC') DEFAULT now64(6, 'UTC');
-- +goose StatementEnd

-- +goose StatementBegin
CREATE TABLE IF NOT EXISTS compute_control_orphans AS compute_control_audit
ENGINE = MergeTree ORDER BY (audit_id, step);
-- +goose StatementEnd
-- +goose StatementBegin
ALTER TABLE compute_control_orphans ADD COLUMN IF NOT EXISTS set_aside_at DateTime64(6, 'UTC') DEFAULT now64(6, 'UTC');
-- +goose StatementEnd

-- +goose StatementBegin
CREATE TABLE IF NOT EXISTS remote_support_orphans AS remote_support_audit
ENGINE = MergeTree ORDER BY (audit_id, step);
-- +goose StatementEnd
-- +goose StatementBegin
ALTER TABLE remote_support_orphans ADD COLUMN IF NOT EXISTS set_aside_at DateTime64(6, 'UTC') DEFAULT now64(6, 'UTC');
-- +goose StatementEnd

-- Rows set aside are inserted before the partition without them is put into place: they must be on disk then.
-- +goose StatementBegin
ALTER TABLE audit_orphans MODIFY SETTING fsync_after_insert = 1, fsync_part_directory = 1;
-- +goose StatementEnd
-- +goose StatementBegin
ALTER TABLE compute_control_orphans MODIFY SETTING fsync_after_insert = 1, fsync_part_directory = 1;
-- +goose StatementEnd
-- +goose StatementBegin
ALTER TABLE remote_support_orphans MODIFY SETTING fsync_after_insert = 1, fsync_part_directory = 1;
-- +goose StatementEnd
