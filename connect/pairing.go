package connect

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"
)

// Pairing is what Postgres remembers of a slot: the one server of ClickHouse that it feeds for good, by the identity that
// argusd migrate gave the server.
type Pairing struct{ Slot, Server, Address string }

// Pairings are those of all slots.
func Pairings(ctx context.Context, q interface {
	Query(ctx context.Context, sql string, args ...any) (pgx.Rows, error)
}) ([]Pairing, error) {
	rows, err := q.Query(ctx, "SELECT slot, server::text, address FROM argus.replicator_servers ORDER BY slot")
	if err == nil {
		var all []Pairing
		if all, err = pgx.CollectRows(rows, pgx.RowToStructByPos[Pairing]); err == nil {
			return all, nil
		}
	}
	return nil, fmt.Errorf("reading which server each slot feeds: %w", err)
}

// Paired says why the slot may not feed the server at the address. A server without a row of ours takes any slot: it is a new
// one, or one that was emptied, and is filled. So does any server when no server is remembered with the slot. known is what is
// remembered with the slot.
func Paired(all []Pairing, slot, server, address string, empty func() (bool, error)) (known Pairing, err error) {
	for _, p := range all {
		switch {
		case p.Slot == slot:
			known = p
		case p.Server == server:
			return known, fmt.Errorf("the ClickHouse server at %s is fed by the slot %s, and not by %s. If the URLs of two copies are swapped, or lead to one server, "+
				"mend ARGUS_CLICKHOUSE_URL. If %[2]s is of a copy that is no more, run argusd replicator --retire %[2]s", address, p.Slot, slot)
		}
	}
	if known.Server == "" || known.Server == server {
		return known, nil
	}
	if is, err := empty(); err != nil || is {
		return known, err
	}
	return known, fmt.Errorf("the slot %s feeds the ClickHouse server %s at %s, and the URL leads to another with rows of its own: %s at %s. "+
		"If the URL is wrong, mend ARGUS_CLICKHOUSE_URL. If this server takes the other's place, run argusd replicator --retire %[1]s first",
		slot, known.Server, known.Address, server, address)
}
