package replicator

import (
	"context"
	"fmt"
	"strings"

	"github.com/ClickHouse/clickhouse-go/v2/lib/driver"

	"github.com/useargus/argus/connect"
)

// A slot feeds one server for good. argus.replicator_servers remembers which. So two copies whose URLs were swapped do not fill each
// other's place, and two names of one server are not two copies.

// paired says why the slot may not feed the server. What it reads of the server must be known.
func (r *Replicator) paired(ctx context.Context) (known connect.Pairing, err error) {
	all, err := connect.Pairings(ctx, r.pool)
	if err != nil {
		return known, err
	}
	return connect.Paired(all, r.config.Slot, r.clickhouse.server.known().identity, r.clickhouse.options.Addr[0],
		func() (bool, error) { return r.clickhouse.empty(ctx) })
}

// pair is asked before a lease term begins, and before anything is done to the server.
func (r *Replicator) pair(ctx context.Context) error {
	if err := connect.NotOne(ctx, asked{r.clickhouse}, r.clickhouse.database); err != nil {
		return err
	}
	id := r.clickhouse.server.known().identity
	address := r.clickhouse.options.Addr[0]
	r.health.update(func(s *Status) { s.Server = id })
	known, err := r.paired(ctx)
	if err != nil || known.Server == id {
		return err
	}
	// Behind a balancer the next connection may lead elsewhere: what is remembered then would be one server of several.
	if err := connect.OneServer(ctx, r.clickhouse.options); err != nil {
		return err
	}
	reason := "new"
	if known.Server != "" {
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
		r.config.Slot, id, r.config.Copy, r.config.Shard, address, known.Server, reason)
	if err != nil {
		return fmt.Errorf("remembering which server the slot feeds: %w", err)
	}
	r.log.Info("the slot is paired with a ClickHouse server", "slot", r.config.Slot, "server", id, "address", address, "was", known.Server)
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
