package replicator

import (
	"context"
	"fmt"
	"strings"

	"github.com/ClickHouse/clickhouse-go/v2/lib/driver"

	"github.com/useargus/argus/connect"
)

// A slot feeds one server for good. argus.replicator_servers remembers which, by the identity that argusd migrate gave the server.
// So two copies whose URLs were swapped do not fill each other's place, and two names of one server are not two copies.
//
// A server without a row of ours takes any slot: it is a new one, or one that was emptied, and is filled. So does any server when the
// slot is remembered with none.

// pairing is what Postgres remembers of a slot, and of the server.
type pairing struct {
	server, address string // of the slot; "" when it is remembered with none
	slot            string // another one that is remembered with the server
}

// pair is asked before a lease term begins, and before anything is done to the server.
func (r *Replicator) pair(ctx context.Context) error {
	if err := connect.NotOne(ctx, asked{r.clickhouse}, r.clickhouse.database); err != nil {
		return err
	}
	id := r.clickhouse.server.known().identity
	address := r.clickhouse.options.Addr[0]
	r.health.update(func(s *Status) { s.Server = id })
	var known pairing
	err := r.pool.QueryRow(ctx, `
		SELECT coalesce((SELECT server::text FROM argus.replicator_servers WHERE slot = $1), ''),
		       coalesce((SELECT address FROM argus.replicator_servers WHERE slot = $1), ''),
		       coalesce((SELECT slot FROM argus.replicator_servers WHERE server = $2::uuid AND slot <> $1), '')`,
		r.config.Slot, id).Scan(&known.server, &known.address, &known.slot)
	if err != nil {
		return fmt.Errorf("reading which server the slot feeds: %w", err)
	}
	if known.slot != "" {
		return fmt.Errorf("the ClickHouse server at %s is fed by the slot %s, and not by %s. If the URLs of two copies are swapped, or lead to one server, "+
			"mend ARGUS_CLICKHOUSE_URL. If %[2]s is of a copy that is no more, run argusd replicator --retire %[2]s", address, known.slot, r.config.Slot)
	}
	if known.server == id {
		return nil
	}
	if known.server != "" {
		empty, err := r.clickhouse.empty(ctx)
		if err != nil {
			return err
		}
		if !empty {
			return fmt.Errorf("the slot %s feeds the ClickHouse server %s at %s, and the URL leads to another with rows of its own: %s at %s. "+
				"If the URL is wrong, mend ARGUS_CLICKHOUSE_URL. If this server takes the other's place, run argusd replicator --retire %[1]s first",
				r.config.Slot, known.server, known.address, id, address)
		}
	}
	// Behind a balancer the next connection may lead elsewhere: what is remembered then would be one server of several.
	if err := connect.OneServer(ctx, r.clickhouse.options); err != nil {
		return err
	}
	reason := "new"
	if known.server != "" {
		reason = "emptied"
	}
	_, err = r.pool.Exec(ctx, `
		WITH paired AS (
		  INSERT INTO argus.replicator_servers (slot, server, copy, shard, address) VALUES ($1, $2, $3, $4, $5)
		  ON CONFLICT (slot) DO UPDATE SET server = excluded.server, copy = excluded.copy, shard = excluded.shard,
		     address = excluded.address, paired_at = clock_timestamp()
		  RETURNING *)
		SELECT argus.record_healing('copy_paired', jsonb_build_object('slot', slot, 'server', server, 'copy', copy, 'shard', shard,
		       'address', address, 'was', $6::text, 'reason', $7::text)) FROM paired`,
		r.config.Slot, id, r.config.Copy, r.config.Shard, address, known.server, reason)
	if err != nil {
		return fmt.Errorf("remembering which server the slot feeds: %w", err)
	}
	r.log.Info("the slot is paired with a ClickHouse server", "slot", r.config.Slot, "server", id, "address", address, "was", known.server)
	return nil
}

// empty: there is no row of the log, and no watermark that says there is.
func (s *clickhouse) empty(ctx context.Context) (bool, error) {
	counts := []string{"(SELECT count() FROM audit_watermark)"}
	for _, t := range tables {
		counts = append(counts, "(SELECT count() FROM "+t.clickhouse+")")
	}
	n, err := s.number(ctx, "SELECT toUInt64("+strings.Join(counts, " + ")+")")
	if err != nil {
		return false, fmt.Errorf("looking whether the ClickHouse server is empty: %w", err)
	}
	return n == 0, nil
}

// asked gives connect the proven connections.
type asked struct{ *clickhouse }

type askedRows struct {
	driver.Rows
	done func()
}

func (r askedRows) Close() error { r.done(); return nil }

func (a asked) Query(ctx context.Context, query string, args ...any) (driver.Rows, error) {
	rows, done, err := a.clickhouse.query(ctx, query, args...)
	if err != nil {
		return nil, err
	}
	return askedRows{rows, done}, nil
}
