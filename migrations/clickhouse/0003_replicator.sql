-- The replicator's own: its lease terms, the watermark, and orphans.

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

-- The watermark: one small row after each whole batch; the greatest version counts. It is an argus.Position:
-- of a writer in `writers` the rows up to the seq beside it are here; every writer at or below closed_through
-- that is not in `writers` is closed and here completely; of any other writer nothing is promised.
-- +goose StatementBegin
CREATE TABLE IF NOT EXISTS audit_watermark (
  version        UInt64,
  epoch          UInt64,               -- the replicator's term: raised at each take-over
  published_at   DateTime64(6, 'UTC'),
  lsn            UInt64,               -- everything committed in Postgres before it is here
  closed_through Int64,
  writers        Array(Int64),
  seqs           Array(Int64),
  ceiling        UInt64,               -- no row of a transaction that committed at or behind it has been given to
                                       -- ClickHouse: what is in doubt after a crash lies between lsn and ceiling
  system_id      UInt64,               -- with timeline: the history that lsn belongs to
  timeline       UInt32,
  publication    UInt64,               -- stands for the publication that history was decoded under; 0 when unknown
  healing        Bool                  -- rows before lsn may be missing here; what writers and seqs say holds nevertheless
) ENGINE = MergeTree
ORDER BY version
SETTINGS fsync_after_insert = 1, fsync_part_directory = 1, non_replicated_deduplication_window = 0;
-- +goose StatementEnd

-- Orphans: rows found here that Postgres does not have (it was restored). Moved here with the time it happened,
-- never deleted. They are inserted before the partition without them is put into place, so they must be on disk then.
-- CREATE TABLE … AS takes no further column, hence the second statement of each.
-- +goose StatementBegin
CREATE TABLE IF NOT EXISTS audit_orphans AS audit_log
ENGINE = MergeTree PARTITION BY toYYYYMM(occurred_at) ORDER BY (occurred_at, writer_id, seq)
SETTINGS fsync_after_insert = 1, fsync_part_directory = 1;
-- +goose StatementEnd
-- +goose StatementBegin
CREATE TABLE IF NOT EXISTS compute_control_orphans AS compute_control_audit
ENGINE = MergeTree ORDER BY (audit_id, step)
SETTINGS fsync_after_insert = 1, fsync_part_directory = 1;
-- +goose StatementEnd
-- +goose StatementBegin
CREATE TABLE IF NOT EXISTS remote_support_orphans AS remote_support_audit
ENGINE = MergeTree ORDER BY (audit_id, step)
SETTINGS fsync_after_insert = 1, fsync_part_directory = 1;
-- +goose StatementEnd
-- +goose StatementBegin
ALTER TABLE audit_orphans ADD COLUMN IF NOT EXISTS orphaned_at DateTime64(6, 'UTC') DEFAULT now64(6, 'UTC');
-- +goose StatementEnd
-- +goose StatementBegin
ALTER TABLE compute_control_orphans ADD COLUMN IF NOT EXISTS orphaned_at DateTime64(6, 'UTC') DEFAULT now64(6, 'UTC');
-- +goose StatementEnd
-- +goose StatementBegin
ALTER TABLE remote_support_orphans ADD COLUMN IF NOT EXISTS orphaned_at DateTime64(6, 'UTC') DEFAULT now64(6, 'UTC');
-- +goose StatementEnd
