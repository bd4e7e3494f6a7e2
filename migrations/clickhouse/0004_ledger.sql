-- The copy of the ledger: hashes and sizes, the evidence and the source of recovery when Postgres is restored. The
-- replicator adds to it and takes nothing out.

-- +goose Up

-- +goose StatementBegin
CREATE TABLE IF NOT EXISTS ledger_runs (
  first_leaf Int64 CODEC(Delta, ZSTD(1)),
  leaves     Int32 CODEC(ZSTD(1)),
  kind       Int16 CODEC(ZSTD(1)),
  month      Int16 CODEC(ZSTD(1)),
  writer_id  Nullable(Int64) CODEC(ZSTD(1)),
  first_seq  Nullable(Int64) CODEC(ZSTD(1)),
  keys       Nullable(String) CODEC(ZSTD(1)),
  digests    String CODEC(NONE)
) ENGINE = MergeTree
PARTITION BY intDiv(first_leaf, 16777216)
ORDER BY first_leaf
SETTINGS index_granularity = 64, fsync_after_insert = 1, fsync_part_directory = 1, non_replicated_deduplication_window = 0;
-- +goose StatementEnd

-- +goose StatementBegin
CREATE TABLE IF NOT EXISTS ledger_checkpoints (
  size      Int64 CODEC(Delta, ZSTD(1)),
  root      FixedString(32) CODEC(NONE),
  note      String CODEC(ZSTD(1)),
  position  String CODEC(ZSTD(1)),
  sealed_at DateTime64(6, 'UTC') CODEC(Delta, ZSTD(1))
) ENGINE = MergeTree
ORDER BY size
SETTINGS fsync_after_insert = 1, fsync_part_directory = 1, non_replicated_deduplication_window = 0;
-- +goose StatementEnd

-- What Postgres has in the place of a run or a checkpoint that is here in another form. Both are evidence: neither leaves.
-- +goose StatementBegin
CREATE TABLE IF NOT EXISTS ledger_conflicts (
  seen_at  DateTime64(6, 'UTC') DEFAULT now64(6, 'UTC'),
  table    LowCardinality(String), -- ledger_runs or ledger_checkpoints
  place    Int64,                  -- first_leaf or size
  postgres String                  -- the columns as Postgres has them, in hex of their canonical text
) ENGINE = MergeTree
ORDER BY (table, place, seen_at)
SETTINGS fsync_after_insert = 1, fsync_part_directory = 1;
-- +goose StatementEnd
