package replicator

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/useargus/argus/connect"
)

// Retire takes a copy out. It drops the slots of its servers, which would keep write-ahead log for ever, and forgets which servers
// they fed, their status and their leases. The name is a copy's, NAME/2 for one shard, or a slot's whole name. It returns the slots.
// It may be run again after a crash.
func Retire(ctx context.Context, postgresURL, base, name string) ([]string, error) {
	config, err := connect.Postgres(postgresURL, "argus_replicator")
	if err != nil {
		return nil, err
	}
	conn, err := connect.Open(ctx, config)
	if err != nil {
		return nil, fmt.Errorf("connecting to Postgres: %w", err)
	}
	defer conn.Close(context.WithoutCancel(ctx))
	slots, known, err := slotsNamed(ctx, conn, base, strings.ReplaceAll(name, "/", "_"))
	switch {
	case err != nil:
		return nil, fmt.Errorf("looking for the slots of %s: %w", name, err)
	case len(slots) == 0:
		return nil, fmt.Errorf("there is no slot of a copy %q; there are %q", name, known)
	}
	for _, slot := range slots {
		if err := awaitEnd(ctx, conn, slot); err != nil {
			return nil, err
		}
	}
	var failed []error
	for _, slot := range slots {
		if err := retireSlot(ctx, conn, slot); err != nil {
			failed = append(failed, fmt.Errorf("the slot %s: %w", slot, err))
		}
	}
	return slots, errors.Join(failed...)
}

// awaitEnd waits, 15 seconds at most, until nothing reads the slot and its lease has ended. Of a process that has just stopped,
// Postgres may have the connection for a moment, and of one that was killed the lease. One that fails again and again takes the
// lease every five seconds, and it may run out a second before that.
func awaitEnd(ctx context.Context, conn *pgx.Conn, slot string) error {
	for range 150 {
		var running bool
		if err := conn.QueryRow(ctx, `SELECT EXISTS (SELECT FROM pg_replication_slots WHERE slot_name = $1 AND active)
			OR EXISTS (SELECT FROM argus.replicator_lease WHERE slot = $1 AND expires_at > clock_timestamp() - interval '3 seconds')`, slot).Scan(&running); err != nil || !running {
			return err
		}
		if err := sleep(ctx, 100*time.Millisecond); err != nil {
			return err
		}
	}
	return fmt.Errorf("a replicator of the slot %s is running: stop it, and all that stand by for it, and run this again", slot)
}

// slotsNamed gives those of the name, and all that are known of any copy.
func slotsNamed(ctx context.Context, conn *pgx.Conn, base, name string) (slots, known []string, err error) {
	rows, err := conn.Query(ctx, `SELECT s.slot_name FROM pg_replication_slots s WHERE `+ourSlot+`
		UNION SELECT slot FROM argus.replicator_servers UNION SELECT slot FROM argus.replicator_status
		UNION SELECT slot FROM argus.replicator_lease ORDER BY 1`, base)
	if err != nil {
		return nil, nil, err
	}
	if known, err = pgx.CollectRows(rows, pgx.RowTo[string]); err != nil {
		return nil, nil, err
	}
	for _, slot := range known {
		if slot == name {
			return []string{slot}, known, nil
		}
		rest, of := strings.CutPrefix(slot, base+"_"+name)
		if of && (rest == "" || rest[0] == '_' && strings.Trim(rest[1:], "0123456789") == "" && len(rest) > 1) {
			slots = append(slots, slot)
		}
	}
	return slots, known, nil
}

// retireSlot drops the slot first: after a crash the rows still lead to what is left.
func retireSlot(ctx context.Context, conn *pgx.Conn, slot string) error {
	if _, err := conn.Exec(ctx, `SELECT pg_drop_replication_slot(s.slot_name) FROM pg_replication_slots s
		WHERE s.slot_name = $1 AND s.plugin = 'pgoutput' AND s.database = current_database()`, slot); err != nil {
		return err
	}
	return pgx.BeginFunc(ctx, conn, func(tx pgx.Tx) error {
		for _, statement := range []string{
			`SELECT argus.record_healing('copy_retired', jsonb_build_object('slot', $1::text, 'server', (SELECT to_jsonb(s) FROM argus.replicator_servers s WHERE slot = $1)))`,
			"DELETE FROM argus.replicator_servers WHERE slot = $1",
			"DELETE FROM argus.replicator_status WHERE slot = $1",
			"DELETE FROM argus.replicator_lease WHERE slot = $1",
		} {
			if _, err := tx.Exec(ctx, statement, slot); err != nil {
				return err
			}
		}
		return nil
	})
}
