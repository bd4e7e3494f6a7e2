package migrations

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/ClickHouse/clickhouse-go/v2"

	"github.com/useargus/argus/connect"
)

// joined are the tables that are asked on all shards. What has no writer is on the first, and the others are empty.
const joined = `SELECT name FROM system.tables WHERE database = currentDatabase() AND engine LIKE '%MergeTree'
	AND NOT startsWith(name, 'argus_schema_') AND name != 'replicator_epoch' AND NOT startsWith(name, 'replicator_tmp_') ORDER BY name`

// JoinShards makes, on each server of a copy that is shared out, the database that asks all of them. Its tables have the names
// of the server's own. The servers were migrated before. Running it again changes nothing, or brings tables up to date.
//
// The servers must know each other as the cluster connect.Cluster, with a secret. By it a server believes another's word
// for which user asks, and reads as that user. That is proven first: each server must have the setting's servers, in its order,
// and must ask them as the user.
func JoinShards(ctx context.Context, c connect.Copy) error {
	var ids []string
	var servers []clickhouse.Conn
	database := ""
	for i, url := range c.Shards {
		options, err := connect.ClickHouse(url)
		if err != nil {
			return err
		}
		if options.Auth.Database == "" {
			options.Auth.Database = "default"
		}
		if database == "" {
			database = options.Auth.Database
		}
		if options.Auth.Database != database {
			return fmt.Errorf("the shards of %s have databases of different names: %s and %s", c.Name, database, options.Auth.Database)
		}
		conn, err := clickhouse.Open(options)
		if err != nil {
			return err
		}
		defer conn.Close()
		var id string
		if err := conn.QueryRow(ctx, "SELECT toString(argMin(server, (made_at, server))) FROM replicator_identity").Scan(&id); err != nil {
			return fmt.Errorf("shard %d of %s: %w", i+1, c.Name, err)
		}
		if j := slices.Index(ids, id); j >= 0 {
			return fmt.Errorf("shards %d and %d of %s are one server", j+1, i+1, c.Name)
		}
		ids, servers = append(ids, id), append(servers, conn)
	}
	for i, conn := range servers {
		if err := joinShard(ctx, conn, database, ids); err != nil {
			return fmt.Errorf("shard %d of %s: %w", i+1, c.Name, err)
		}
	}
	return nil
}

// errCluster says what an administrator of the servers has to do.
var errCluster = errors.New("each server of the copy must state the cluster " + connect.Cluster + " in its configuration (remote_servers): " +
	"a shard for each server, in the order of ARGUS_CLICKHOUSE_URL, and a secret. docs/scaling.md has an example")

func joinShard(ctx context.Context, conn clickhouse.Conn, database string, ids []string) error {
	var known uint64
	if err := conn.QueryRow(ctx, "SELECT count() FROM system.clusters WHERE cluster = $1", connect.Cluster).Scan(&known); err != nil {
		return err
	}
	if known != uint64(len(ids)) {
		return fmt.Errorf("%w; it knows %d servers there, and the copy has %d", errCluster, known, len(ids))
	}
	var there, users []string
	if err := conn.QueryRow(ctx, `SELECT arrayMap(p -> p.2, arraySort(groupArray((shard, id)))) FROM (
		SELECT _shard_num AS shard, toString(argMin(server, (made_at, server))) AS id
		  FROM cluster(`+connect.Cluster+`, currentDatabase(), replicator_identity) GROUP BY shard)`).Scan(&there); err != nil {
		return fmt.Errorf("%w: %w", errCluster, err)
	}
	if err := conn.QueryRow(ctx, `SELECT groupUniqArray(user) FROM cluster(`+connect.Cluster+`, system.processes)
		WHERE initial_query_id = queryID()`).Scan(&users); err != nil {
		return fmt.Errorf("%w: %w", errCluster, err)
	}
	if !slices.Equal(there, ids) {
		return fmt.Errorf("%w; it knows other servers there, or in another order: %q, and the copy has %q", errCluster, there, ids)
	}
	if len(users) != 1 {
		return fmt.Errorf("%w; it asks them as other users: %q", errCluster, users)
	}
	whole := quoteClickHouse(connect.WholeDatabase(database))
	if err := conn.Exec(ctx, "CREATE DATABASE IF NOT EXISTS "+whole); err != nil {
		return err
	}
	rows, err := conn.Query(ctx, joined)
	if err != nil {
		return err
	}
	defer rows.Close()
	for rows.Next() {
		var table string
		if err := rows.Scan(&table); err != nil {
			return err
		}
		const columns = "(SELECT groupArray((name, type, default_kind)) FROM (SELECT * FROM system.columns WHERE database = $%d AND table = $1 ORDER BY position))"
		var same bool
		if err := conn.QueryRow(ctx, "SELECT "+fmt.Sprintf(columns, 2)+" = "+fmt.Sprintf(columns, 3), table, database, connect.WholeDatabase(database)).Scan(&same); err != nil {
			return err
		}
		if same {
			continue
		}
		name := quoteClickHouse(table)
		if err := conn.Exec(ctx, fmt.Sprintf("CREATE OR REPLACE TABLE %s.%s AS %s.%s ENGINE = Distributed(%s, %[3]s, %[2]s)",
			whole, name, quoteClickHouse(database), name, connect.Cluster)); err != nil {
			return err
		}
	}
	return rows.Err()
}
