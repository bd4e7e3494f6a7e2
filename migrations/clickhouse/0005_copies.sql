-- Which server this is. The replicator's slot is paired with it.

-- +goose Up

-- One row, which argusd migrate adds when there is none. A database that was dropped and made anew has another identity, and so has
-- every other server. Two migrations at once could add two rows: the first counts.
-- +goose StatementBegin
CREATE TABLE IF NOT EXISTS replicator_identity (
  server  UUID,
  made_at DateTime64(6, 'UTC')
) ENGINE = MergeTree
ORDER BY (made_at, server)
SETTINGS fsync_after_insert = 1, fsync_part_directory = 1, non_replicated_deduplication_window = 0;
-- +goose StatementEnd
