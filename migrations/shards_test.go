package migrations_test

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/jackc/pgx/v5"

	stores "github.com/useargus/argus/connect"
	"github.com/useargus/argus/internal/engines/enginetest"
	"github.com/useargus/argus/migrations"
)

func publication(of stores.Copy, i int) string { return of.Servers()[i].Publication() }

// TestShards: writers are given evenly to the shards of every copy, those that are open keep theirs when one is added, and at
// any time each number is of exactly one publication, which is what argus.shard_of says.
func TestShards(t *testing.T) {
	pg := enginetest.NewPostgres(t)
	api, super := connect(t, pg.APIURL), connect(t, pg.SuperuserURL)
	east := stores.Copy{Name: "east", Shards: make([]string, 3)}
	west := stores.Copy{Name: "west", Shards: make([]string, 2)}
	one := stores.Copy{Name: "one", Shards: make([]string, 1)}
	arrange := func(copies ...stores.Copy) []string {
		t.Helper()
		waiting, err := migrations.Shards(t.Context(), pg.SuperuserURL, copies)
		if err != nil {
			t.Fatal(err)
		}
		return waiting
	}
	rows := func(sql string, args ...any) []int64 {
		t.Helper()
		r, err := super.Query(t.Context(), sql, args...)
		if err != nil {
			t.Fatal(err)
		}
		out, err := pgx.CollectRows(r, pgx.RowTo[int64])
		if err != nil {
			t.Fatal(err)
		}
		return out
	}
	open := func() (id int64) {
		t.Helper()
		if err := api.QueryRow(t.Context(), "SELECT argus.open_audit_writer(gen_random_uuid(), 0)").Scan(&id); err != nil {
			t.Fatal(err)
		}
		return id
	}
	load := func(of string) []int64 {
		t.Helper()
		return rows(`SELECT count(*) FROM argus.audit_writers w WHERE closed_at IS NULL GROUP BY argus.shard_of($1, writer_id) ORDER BY argus.shard_of($1, writer_id)`, of)
	}
	even := func(of string, shards int, within int64) {
		t.Helper()
		if n := load(of); len(n) != shards || slices.Max(n)-slices.Min(n) > within {
			t.Errorf("open writers by shard of %s: %v", of, n)
		}
	}
	// filters holds what Postgres published of each number to the map.
	filters := func(of stores.Copy) {
		t.Helper()
		numbers := `(SELECT w.writer_id FROM argus.audit_writers w UNION SELECT m.from_writer + d FROM argus.shard_map m, generate_series(-70, 70) d
			UNION SELECT generate_series(0, 70) UNION SELECT 9223372036854775807)`
		for i := range of.Shards {
			var catalog string
			if err := super.QueryRow(t.Context(), "SELECT rowfilter FROM pg_publication_tables WHERE pubname = $1 AND tablename = 'argus_audit_log'",
				publication(of, i)).Scan(&catalog); err != nil {
				t.Fatal(publication(of, i), err)
			}
			if wrong := rows(fmt.Sprintf("SELECT writer_id FROM %s n WHERE writer_id >= 0 AND (%s) <> (argus.shard_of($1, writer_id) = $2)", numbers, catalog), of.Name, i+1); len(wrong) > 0 {
				t.Errorf("%s carries or lacks %v", publication(of, i), wrong)
			}
			steps := rows("SELECT count(*) FROM pg_publication_tables WHERE pubname = $1 AND tablename <> 'argus_audit_log'", publication(of, i))[0]
			if want := map[bool]int64{true: 2}[i == 0]; steps != want {
				t.Errorf("%s has %d tables of steps, want %d", publication(of, i), steps, want)
			}
		}
	}

	arrange(one)
	if n := rows("SELECT count(*) FROM argus.shard_map"); n[0] != 0 {
		t.Error("a copy of one server has a map")
	}
	if waiting := arrange(east, west, one); len(waiting) > 0 {
		t.Errorf("nothing was ever written, and %q", waiting)
	}
	before := rows("SELECT after FROM argus.shard_publications ORDER BY number")
	var running sync.WaitGroup
	for range 3 {
		running.Go(func() { arrange(east, west, one) })
	}
	running.Wait()
	if after := rows("SELECT argus.publication_print(publication) FROM argus.shard_publications ORDER BY number"); !slices.Equal(before, after) {
		t.Errorf("once more changed the publications: %v, %v", before, after)
	}
	var early []int64
	for range 30 {
		early = append(early, open())
	}
	even("east", 3, 1)
	even("west", 2, 1)
	for i, id := range early {
		if i > 0 && (id <= early[i-1] || id > early[i-1]+64 && id > rows("SELECT (extract(epoch FROM clock_timestamp()) * 1000)::bigint + 64")[0]) {
			t.Errorf("writer %d follows on %d", id, early[i-1])
		}
	}
	// Writers end on one shard: the next ones go there.
	if _, err := super.Exec(t.Context(), "UPDATE argus.audit_writers SET closed_at = now() WHERE argus.shard_of('east', writer_id) = 2"); err != nil {
		t.Fatal(err)
	}
	for range 10 {
		open()
	}
	even("east", 3, 1)

	// A server is added.
	where := rows("SELECT argus.shard_of('east', writer_id) FROM argus.audit_writers ORDER BY writer_id")
	east.Shards = make([]string, 4)
	if waiting := arrange(east, west); len(waiting) != 1 || !strings.Contains(waiting[0], "east/4") {
		t.Errorf("a shard without a slot: %q", waiting)
	}
	filters(east)
	if id := open(); rows("SELECT argus.shard_of('east', $1)", id)[0] == 4 {
		t.Error("a shard without a slot was given a writer")
	}
	if _, err := super.Exec(t.Context(), `WITH s AS (SELECT slot_name FROM pg_create_logical_replication_slot($1, 'pgoutput'))
		INSERT INTO argus.replicator_status (slot, updated_at, status) SELECT slot_name, now(), '{"copy": "east", "shard": 4, "shards": 4}' FROM s`, east.Slot(pg.Database, 4)); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		super.Exec(context.Background(), "SELECT pg_drop_replication_slot($1)", east.Slot(pg.Database, 4))
	})
	if waiting := arrange(east, west); len(waiting) > 0 {
		t.Errorf("a shard with a slot: %q", waiting)
	}
	if now := rows("SELECT argus.shard_of('east', writer_id) FROM argus.audit_writers ORDER BY writer_id"); !slices.Equal(now[:len(where)], where) {
		t.Errorf("writers moved: %v, %v", where, now)
	}
	for range 30 { // the other copy is to stay even, too
		open()
	}
	even("east", 4, 6) // of sixty; old writers weigh on the other copy
	filters(east)
	filters(west)

	// What a person did to a publication is undone, and not taken for a change of ours.
	if _, err := super.Exec(t.Context(), "ALTER PUBLICATION argus_east_2 SET (publish = 'delete'); ALTER PUBLICATION argus_east_2 SET TABLE argus.argus_audit_log", pgx.QueryExecModeSimpleProtocol); err != nil {
		t.Fatal(err)
	}
	arrange(east, west)
	filters(east)
	if n := rows(`SELECT count(*) FROM argus.shard_publications p WHERE publication = 'argus_east_2' AND before <> 0
		AND NOT EXISTS (SELECT FROM argus.shard_publications q WHERE q.publication = p.publication AND q.after = p.before)`); n[0] != 1 {
		t.Error("a change by hand is taken for one of ours")
	}

	east.Shards = make([]string, 2)
	if _, err := migrations.Shards(t.Context(), pg.SuperuserURL, []stores.Copy{east}); err == nil {
		t.Error("a server with rows was taken away")
	}
}
