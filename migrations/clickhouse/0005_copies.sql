-- Which server this is. The replicator's slot is paired with it.

-- +goose Up

-- One row. A database that was dropped and made anew has another identity, and so has every other server. Of several rows, which only
-- two migrations at once could make, the first counts.
-- +goose StatementBegin
CREATE TABLE IF NOT EXISTS replicator_identity (
  server  UUID,
  made_at DateTime64(6, 'UTC')
) ENGINE = MergeTree
ORDER BY (made_at, server)
SETTINGS fsync_after_insert = 1, fsync_part_directory = 1, non_replicated_deduplication_window = 0;
-- +goose StatementEnd
-- +goose StatementBegin
INSERT INTO replicator_identity SELECT generateUUIDv4(), now64(6, 'UTC') WHERE (SELECT count() FROM replicator_identity) = 0;
-- +goose StatementEnd
