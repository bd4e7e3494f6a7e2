-- The publications of a copy that is shared out among several servers: one for each, which carries the rows of its writers.
-- Postgres filters. docs/scaling.md explains.

-- +goose Up
SET ROLE argus_owner;

-- Stands for a publication and all its parts, and differs after every change, one that was taken back included: xmin names
-- the transaction that wrote a row of the catalog last. 0 when there is no publication.
CREATE FUNCTION argus.publication_print(publication text) RETURNS bigint
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
  SELECT coalesce((SELECT ('x' || substr(md5(concat_ws(',', p.oid, p.xmin,
      (SELECT string_agg(concat_ws('/', r.oid, r.xmin), ',' ORDER BY r.oid) FROM pg_publication_rel r WHERE r.prpubid = p.oid),
      (SELECT string_agg(concat_ws('/', n.oid, n.xmin), ',' ORDER BY n.oid) FROM pg_publication_namespace n WHERE n.pnpubid = p.oid)
    )), 1, 15))::bit(60)::bigint | 1 FROM pg_publication p WHERE p.pubname = publication_print.publication), 0)
$$;

-- How each shard's publication came to be what it is. A replicator that finds it changed looks here: a change that leads from
-- what it knows to what is there took no row away. Of any other change that is not known.
CREATE TABLE argus.shard_publications (
  number      bigint      GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  publication text        NOT NULL,
  copy        text        NOT NULL,
  shard       int         NOT NULL,
  filter      text        NOT NULL, -- a condition on writer_id
  before      bigint      NOT NULL, -- the publication's print
  after       bigint      NOT NULL,
  at          timestamptz NOT NULL DEFAULT clock_timestamp()
);
CREATE INDEX shard_publications_newest ON argus.shard_publications (publication, number);
GRANT SELECT ON argus.shard_publications TO argus_replicator, argus_auditor;
GRANT EXECUTE ON FUNCTION argus.publication_print(text) TO argus_replicator;

-- Makes the publications of the copy's shards, and gives later writers to those shards that are taking any. Run by argusd
-- migrate, as the owner; running it again changes nothing.
--
-- Nothing is lost and nothing is there twice, also of what is written meanwhile:
--   1. The new shard has its publication first, which carries no row, as it is of no writer.
--   2. Its replicator makes its slot with it. From here on a row that the publication carries waits for it.
--   3. Now the shard is taking. One transaction gives it numbers that no writer has, and changes all publications. No writer
--      is opened meanwhile: its opener waits for the lock. So what writes rows under such a number began after the commit,
--      and is decoded under the new publications. Of every other writer the old ones and the new ones say the same.
-- A shard that took numbers before its slot were there would not lose rows either: its replicator's first copy has them. But
-- readers would turn to Postgres until then.
-- +goose StatementBegin
CREATE FUNCTION argus.arrange_shards(copy text, shards int, taking int[]) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
  newest_writer bigint;
  wanted int[];
  name text;
  condition text;
  print bigint;
  known argus.shard_publications;
BEGIN
  IF shards NOT BETWEEN 2 AND 64 OR coalesce(cardinality(taking), 0) = 0 OR NOT taking <@ ARRAY(SELECT generate_series(1, shards)) THEN
    RAISE EXCEPTION 'copy %: % shards, of which % take writers', copy, shards, taking USING ERRCODE = 'check_violation';
  END IF;
  PERFORM FROM argus.locks l WHERE l.name = 'writers' FOR UPDATE;
  IF EXISTS (SELECT FROM argus.shard_map m WHERE m.copy = arrange_shards.copy AND arrange_shards.shards < ANY (m.shards)) THEN
    RAISE EXCEPTION 'copy % has rows on more than % shards: a server can be added, and none taken away', copy, shards
      USING ERRCODE = 'check_violation';
  END IF;
  SELECT max(w.writer_id) INTO newest_writer FROM argus.audit_writers w;
  wanted := ARRAY(SELECT taking[v % cardinality(taking) + 1] FROM generate_series(0, 63) v ORDER BY v);
  IF wanted IS DISTINCT FROM (SELECT m.shards FROM argus.shard_map m WHERE m.copy = arrange_shards.copy ORDER BY m.from_writer DESC LIMIT 1) THEN
    DELETE FROM argus.shard_map m WHERE m.copy = arrange_shards.copy AND m.from_writer > coalesce(newest_writer, -1); -- of no writer yet
    INSERT INTO argus.shard_map (copy, from_writer, shards) VALUES (arrange_shards.copy, coalesce(newest_writer + 1, 0), wanted);
  END IF;
  FOR shard IN 1 .. shards LOOP
    name := 'argus_' || copy || '_' || shard;
    SELECT string_agg(e.condition, ' OR ' ORDER BY e.lo) INTO condition FROM (
      SELECT m.from_writer AS lo, concat_ws(' AND ', 'writer_id >= ' || m.from_writer,
               'writer_id < ' || lead(m.from_writer) OVER (ORDER BY m.from_writer),
               CASE WHEN cardinality(v.slots) < 64 THEN 'writer_id % 64 IN (' || array_to_string(v.slots, ', ') || ')' END) AS condition, v.slots
        FROM argus.shard_map m
        CROSS JOIN LATERAL (SELECT ARRAY(SELECT s - 1 FROM generate_series(1, 64) s WHERE m.shards[s] = shard ORDER BY s) AS slots) v
       WHERE m.copy = arrange_shards.copy
      UNION ALL
      SELECT -1, 'writer_id < ' || min(m.from_writer), ARRAY[0] FROM argus.shard_map m
       WHERE m.copy = arrange_shards.copy AND shard = 1 HAVING min(m.from_writer) > 0
    ) e WHERE cardinality(e.slots) > 0;
    condition := coalesce(condition, 'writer_id < 0');
    print := argus.publication_print(name);
    SELECT * INTO known FROM argus.shard_publications p WHERE p.publication = name ORDER BY p.number DESC LIMIT 1;
    CONTINUE WHEN known.filter = condition AND known.after = print;
    EXECUTE CASE WHEN print = 0 THEN format('CREATE PUBLICATION %I FOR TABLE', name) ELSE format('ALTER PUBLICATION %I SET TABLE', name) END
      || format(' argus.argus_audit_log WHERE (%s)', condition)
      -- What has no writer is on the first shard.
      || CASE WHEN shard = 1 THEN ', argus.compute_control_audit, argus.remote_support_audit' ELSE '' END
      || CASE WHEN print = 0 THEN ' WITH (publish = ''insert'', publish_via_partition_root = true)' ELSE '' END;
    IF NOT EXISTS (SELECT FROM pg_publication p WHERE p.pubname = name AND p.pubinsert AND p.pubviaroot
                      AND NOT (p.pubupdate OR p.pubdelete OR p.pubtruncate)) THEN
      EXECUTE format('ALTER PUBLICATION %I SET (publish = ''insert'', publish_via_partition_root = true)', name);
    END IF;
    INSERT INTO argus.shard_publications (publication, copy, shard, filter, before, after)
      VALUES (name, arrange_shards.copy, shard, condition, print, argus.publication_print(name));
  END LOOP;
END
$$;
-- +goose StatementEnd

RESET ROLE;
