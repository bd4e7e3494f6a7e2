package replicator

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5"
)

// Publication is what Postgres's catalog says of the publication, as far as it decides what the stream carries.
type Publication struct {
	// Thins says, in words, what the stream would lack: rows or columns of the tables that are copied. Nothing is copied
	// while there is any.
	Thins []string
	// Notes say what is not as argusd migrate made it, and loses nothing.
	Notes []string

	share share // what it is to carry

	// print stands for the publication and all its parts. It differs after every change, one that was taken back
	// included; what a slot holds of before was decoded under other facts. 0 when there is no publication.
	print uint64
}

// PublicationSQL makes the publication what it must be, as argus_owner. It is one transaction, so that no moment is
// without one. Those of shards are made by argusd migrate alone.
func PublicationSQL(name string) string {
	if ofShard.MatchString(name) {
		return "run argusd migrate"
	}
	var names []string
	for _, t := range tables {
		names = append(names, t.postgres)
	}
	return fmt.Sprintf("BEGIN; DROP PUBLICATION IF EXISTS %[1]s; CREATE PUBLICATION %[1]s FOR TABLE %[2]s "+
		"WITH (publish = 'insert', publish_via_partition_root = true); COMMIT;", name, strings.Join(names, ", "))
}

// InspectPublication reads the catalog. The reading takes about a millisecond.
func InspectPublication(ctx context.Context, conn *pgx.Conn, name string) (Publication, error) {
	return readPublication(ctx, conn, name)
}

func readPublication(ctx context.Context, q querier, name string) (p Publication, err error) {
	var owner string
	var inserts, others, root bool
	var print, arranged int64
	err = q.QueryRow(ctx, `
		SELECT pg_get_userbyid(p.pubowner), p.pubinsert, p.pubupdate OR p.pubdelete OR p.pubtruncate, p.pubviaroot,
		       argus.publication_print(p.pubname), coalesce(s.shard, 0), coalesce(s.filter, ''), coalesce(s.after, 0)
		  FROM pg_publication p
		  LEFT JOIN LATERAL (SELECT * FROM argus.shard_publications s WHERE s.publication = p.pubname ORDER BY s.number DESC LIMIT 1) s ON true
		 WHERE p.pubname = $1`, name).Scan(&owner, &inserts, &others, &root, &print, &p.share.shard, &p.share.filter, &arranged)
	if errors.Is(err, pgx.ErrNoRows) {
		p.Thins = []string{"there is no publication " + name}
		return p, nil
	}
	if err != nil {
		return p, fmt.Errorf("reading the publication: %w", err)
	}
	p.print = uint64(print)
	if ofShard.MatchString(name) && arranged != print {
		p.thins("it is of a shard, and not as argusd migrate arranged it")
	}
	if !inserts {
		p.thins("it does not publish inserts")
	}
	if !root {
		p.thins("it publishes partitions instead of their tables (publish_via_partition_root is off)")
	}
	if others {
		p.notes("it publishes more than inserts")
	}
	if owner != "argus_owner" {
		p.notes("it belongs to %s and not to argus_owner", owner)
	}
	if inserts && root {
		for _, t := range tables {
			if err := p.readTable(ctx, q, name, t); err != nil {
				return p, fmt.Errorf("reading the publication of %s: %w", t.postgres, err)
			}
		}
	}
	return p, nil
}

func (p *Publication) thins(format string, args ...any) {
	p.Thins = append(p.Thins, fmt.Sprintf(format, args...))
}
func (p *Publication) notes(format string, args ...any) {
	p.Notes = append(p.Notes, fmt.Sprintf(format, args...))
}

func (p *Publication) readTable(ctx context.Context, q querier, name string, t table) error {
	var there, published bool
	var filter *string
	var sent, all, unlogged []string
	schema, relation, _ := strings.Cut(t.postgres, ".")
	err := q.QueryRow(ctx, `
		SELECT c.oid IS NOT NULL, pt.tablename IS NOT NULL, pt.rowfilter, pt.attnames::text[],
		       ARRAY(SELECT a.attname::text FROM pg_attribute a
		              WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped AND a.attgenerated = ''),
		       ARRAY(SELECT l.relid::regclass::text FROM pg_partition_tree(c.oid) l JOIN pg_class k ON k.oid = l.relid
		              WHERE k.relpersistence <> 'p' OR k.relkind NOT IN ('r', 'p') ORDER BY 1)
		  FROM (SELECT to_regclass($2 || '.' || $3) AS oid) c
		  LEFT JOIN pg_publication_tables pt ON pt.pubname = $1 AND pt.schemaname = $2 AND pt.tablename = $3`,
		name, schema, relation).Scan(&there, &published, &filter, &sent, &all, &unlogged)
	switch {
	case err != nil:
		return err
	case !there:
		p.thins("there is no table %s", t.postgres)
		return nil
	case !published:
		if t.postgres == tables[auditTable].postgres || p.share.first() {
			p.thins("it lacks the table %s", t.postgres)
		}
		return nil
	}
	if filter != nil && p.share.filter == "" { // that of a shard was arranged with all the rest
		p.thins("it filters the rows of %s: %s", t.postgres, *filter)
	}
	if sent == nil {
		sent = all // no list of columns, as Postgres before 15.2 says it
	}
	wanted := slices.Concat(t.columns, all)
	slices.Sort(wanted)
	if left := slices.DeleteFunc(slices.Compact(wanted), func(c string) bool { return slices.Contains(sent, c) && slices.Contains(all, c) }); len(left) > 0 {
		p.thins("it leaves out columns of %s: %s", t.postgres, strings.Join(left, ", "))
	}
	if len(unlogged) > 0 {
		p.thins("rows of partitions of %s are not in the write-ahead log: %s", t.postgres, strings.Join(unlogged, ", "))
	}
	return nil
}

// errThinned: the stream would lack rows or columns.
var errThinned = errors.New("the publication does not carry the whole log")

// whole is an error while the publication thins the stream.
func (r *Replicator) whole(p Publication) error {
	name := r.config.Publication
	if len(p.Thins) == 0 {
		r.metrics.publication.Set(1)
		return nil
	}
	r.metrics.publication.Set(0)
	return fmt.Errorf("%w: %s; nothing is copied until the owner mends it: %s", errThinned, strings.Join(p.Thins, "; "), PublicationSQL(name))
}
