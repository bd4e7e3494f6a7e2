package migrations

import (
	"context"
	"fmt"
	"slices"

	"github.com/jackc/pgx/v5"

	"github.com/useargus/argus/connect"
)

// Shards makes, in Postgres, the publications of copies with several servers, and gives later writers to those servers whose
// replicator has its slot. Where no writer was ever opened, all servers take writers from the first on. It returns a sentence
// for each server that takes none yet. Any number may run at once, and running it again changes nothing. The order that it
// follows is told in postgres/0011_shards.sql.
func Shards(ctx context.Context, postgresURL string, copies []connect.Copy) (waiting []string, err error) {
	config, err := connect.Postgres(postgresURL, "argus-migrate")
	if err != nil {
		return nil, err
	}
	config.RuntimeParams["lock_timeout"] = "5s" // calls do not queue behind a statement that waits
	conn, err := connect.Open(ctx, config)
	if err != nil {
		return nil, err
	}
	defer conn.Close(context.WithoutCancel(ctx))
	for _, c := range copies {
		if len(c.Shards) < 2 {
			continue
		}
		var taking []int32
		if err := conn.QueryRow(ctx, `
			SELECT coalesce(array_agg(s.shard ORDER BY s.shard), '{1}')::int[] FROM generate_series(1, $1) AS s (shard)
			 WHERE NOT EXISTS (SELECT FROM argus.audit_writers)
			    OR EXISTS (SELECT FROM argus.replicator_status p JOIN pg_replication_slots r ON r.slot_name = p.slot
			                WHERE p.status->>'copy' = $2 AND p.status->>'shard' = s.shard::text AND p.status->>'shards' <> '1')
			    OR s.shard = ANY ((SELECT m.shards FROM argus.shard_map m WHERE m.copy = $2 ORDER BY m.from_writer DESC LIMIT 1)::int[])`,
			len(c.Shards), c.Name).Scan(&taking); err != nil {
			return nil, fmt.Errorf("the shards of %s: %w", c.Name, err)
		}
		if err := pgx.BeginFunc(ctx, conn, func(tx pgx.Tx) error {
			_, err := tx.Exec(ctx, "SET LOCAL ROLE argus_owner")
			if err == nil {
				_, err = tx.Exec(ctx, "SELECT argus.arrange_shards($1, $2, $3)", c.Name, len(c.Shards), taking)
			}
			return err
		}); err != nil {
			return nil, fmt.Errorf("the shards of %s: %w", c.Name, err)
		}
		for _, server := range c.Servers() {
			if !slices.Contains(taking, int32(server.Number)) {
				waiting = append(waiting, fmt.Sprintf("%s takes no rows yet: its replicator has not made its slot. "+
					"Start argusd replicator --copy %s, then run argusd migrate again.", server, server.Name()))
			}
		}
	}
	return waiting, nil
}
