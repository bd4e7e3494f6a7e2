package replicator

import (
	"context"
	"fmt"
	"time"
)

// slotState is what pg_replication_slots says of our slot.
type slotState struct {
	Exists    bool   `json:"exists"`
	Active    bool   `json:"active"`
	WALStatus string `json:"wal_status"` // reserved, extended, unreserved, lost
	// SafeWALBytes may be written before the slot may be lost; null without such a limit.
	SafeWALBytes *int64 `json:"safe_wal_bytes"`
	// RetainedBytes of WAL are kept for the slot.
	RetainedBytes int64 `json:"retained_bytes"`

	pid        *int32
	confirmed  lsn
	flushed    lsn       // where the server's log ends
	now        time.Time // by the server's clock
	usable     bool
	unusable   string
	changed    bool // unusable because the publication was changed
	otherOwner string
}

// readSlot reads the slot's state. A slot that was invalidated, or is not ours, is not usable.
func readSlot(ctx context.Context, q querier, slot string) (slotState, error) {
	var s slotState
	var plugin, database, here string
	var confirmed, restart, flushed *string
	err := q.QueryRow(ctx, `
		SELECT current_database(), clock_timestamp(), pg_current_wal_flush_lsn()::text, coalesce(plugin, ''), coalesce(database, ''),
		       s.slot_name IS NOT NULL, coalesce(active, false), active_pid, coalesce(wal_status, ''), safe_wal_size,
		       confirmed_flush_lsn::text, restart_lsn::text,
		       coalesce(pg_wal_lsn_diff(pg_current_wal_flush_lsn(), restart_lsn), 0)::bigint
		  FROM (SELECT 1) one LEFT JOIN pg_replication_slots s ON s.slot_name = $1`, slot).
		Scan(&here, &s.now, &flushed, &plugin, &database, &s.Exists, &s.Active, &s.pid, &s.WALStatus, &s.SafeWALBytes,
			&confirmed, &restart, &s.RetainedBytes)
	if err != nil {
		return s, err
	}
	if flushed != nil {
		if s.flushed, err = parseLSN(*flushed); err != nil {
			return s, err
		}
	}
	if !s.Exists {
		return s, nil
	}
	switch {
	case plugin != "pgoutput" || database != here:
		s.otherOwner = fmt.Sprintf("the slot %q belongs to the database %q and the plugin %q: name another one", slot, database, plugin)
	case s.WALStatus == "lost":
		s.unusable = "the slot was invalidated"
	case confirmed == nil || restart == nil:
		s.unusable = "the slot was invalidated, or was never made completely"
	default:
		s.usable = true
		s.confirmed, err = parseLSN(*confirmed)
	}
	return s, err
}

// freeSlot ends the connection that uses the slot: that of a replicator which has lost its lease.
func freeSlot(ctx context.Context, q querier, slot string) error {
	ctx, cancel := context.WithTimeout(ctx, walSenderTimeout+5*time.Second)
	defer cancel()
	for pause := 5 * time.Millisecond; ; pause = min(2*pause, 250*time.Millisecond) {
		var ended int
		// A role may end the connections of its own.
		err := q.QueryRow(ctx, `
			SELECT count(pg_terminate_backend(active_pid)) FROM pg_replication_slots
			 WHERE slot_name = $1 AND active_pid IS NOT NULL`, slot).Scan(&ended)
		if err == nil && ended == 0 {
			return nil
		}
		if err != nil {
			return fmt.Errorf("freeing the slot: %w", err)
		}
		if err := sleep(ctx, pause); err != nil {
			return fmt.Errorf("the slot %q stays in use: %w", slot, err)
		}
	}
}
