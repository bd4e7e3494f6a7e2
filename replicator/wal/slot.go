package wal

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
)

// Querier is a connection, a pool or a transaction.
type Querier interface {
	QueryRow(ctx context.Context, sql string, args ...any) pgx.Row
}

// SlotState is what pg_replication_slots says of our slot.
type SlotState struct {
	Exists    bool   `json:"exists"`
	Active    bool   `json:"active"`
	WALStatus string `json:"wal_status"` // reserved, extended, unreserved, lost
	// SafeWALBytes may be written before the slot may be lost; null without such a limit.
	SafeWALBytes *int64 `json:"safe_wal_bytes"`
	// RetainedBytes of WAL are kept for the slot.
	RetainedBytes int64 `json:"retained_bytes"`

	Confirmed  LSN       `json:"-"` // what committed before it is durable, as Postgres was told
	Flushed    LSN       `json:"-"` // where the server's log ends
	Now        time.Time `json:"-"` // by the server's clock
	Usable     bool      `json:"-"`
	Unusable   string    `json:"-"` // why it is not usable
	OtherOwner string    `json:"-"` // why the slot is not ours; "" when it is
}

// ReadSlot reads the slot's state. A slot that was invalidated, or is not ours, is not usable.
func ReadSlot(ctx context.Context, q Querier, slot string) (SlotState, error) {
	var s SlotState
	var plugin, database, here string
	var confirmed, restart, flushed *string
	err := q.QueryRow(ctx, `
		SELECT current_database(), clock_timestamp(), pg_current_wal_flush_lsn()::text, coalesce(plugin, ''), coalesce(database, ''),
		       s.slot_name IS NOT NULL, coalesce(active, false), coalesce(wal_status, ''), safe_wal_size,
		       confirmed_flush_lsn::text, restart_lsn::text,
		       coalesce(pg_wal_lsn_diff(pg_current_wal_flush_lsn(), restart_lsn), 0)::bigint
		  FROM (SELECT 1) one LEFT JOIN pg_replication_slots s ON s.slot_name = $1`, slot).
		Scan(&here, &s.Now, &flushed, &plugin, &database, &s.Exists, &s.Active, &s.WALStatus, &s.SafeWALBytes,
			&confirmed, &restart, &s.RetainedBytes)
	if err != nil {
		return s, err
	}
	if flushed != nil {
		if s.Flushed, err = ParseLSN(*flushed); err != nil {
			return s, err
		}
	}
	if !s.Exists {
		return s, nil
	}
	switch {
	case plugin != "pgoutput" || database != here:
		s.OtherOwner = fmt.Sprintf("the slot %q belongs to the database %q and the plugin %q: name another one", slot, database, plugin)
	case s.WALStatus == "lost":
		s.Unusable = "the slot was invalidated"
	case confirmed == nil || restart == nil:
		s.Unusable = "the slot was invalidated, or was never made completely"
	default:
		s.Usable = true
		s.Confirmed, err = ParseLSN(*confirmed)
	}
	return s, err
}

// FreeSlot ends the connection that uses the slot: that of a replicator which has lost its lease. It waits at most
// 15 s until the slot is free.
func FreeSlot(ctx context.Context, q Querier, slot string) error {
	ctx, cancel := context.WithTimeout(ctx, senderTimeout+5*time.Second)
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
		select {
		case <-time.After(pause):
		case <-ctx.Done():
			return fmt.Errorf("the slot %q stays in use: %w", slot, ctx.Err())
		}
	}
}
