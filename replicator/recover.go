package replicator

import (
	"context"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5/pgconn"
)

// term is one attempt from its beginning: it takes over, finds out where it stands, heals what needs healing,
// and streams. It returns nil after stop has closed, an error otherwise.
func (r *Replicator) term(ctx context.Context, stop <-chan struct{}) error {
	r.health.update(func(s *Status) { s.State = "starting"; s.Host = r.lease.host })
	known, err := r.store.epoch(ctx)
	if err != nil {
		return fmt.Errorf("reading the epoch from ClickHouse: %w", err)
	}
	epoch, err := r.lease.take(ctx, true, known, false)
	if err != nil {
		return err
	}
	t, err := r.store.begin(ctx, epoch, r.config.InsertTimeout)
	if err != nil {
		return err
	}
	defer t.close()
	boundary("begun")

	if err := freeSlot(ctx, r.pool, r.config.Slot); err != nil {
		return err
	}
	conn, err := dialReplication(ctx, r.config.PostgresURL)
	if err != nil {
		return fmt.Errorf("connecting for replication: %w", err)
	}
	defer closeReplication(conn)
	until, err := r.resume(ctx, t, conn)
	if err != nil {
		return err
	}
	wal, err := startStream(ctx, conn, r.config.Slot, r.config.Publication, t.mark.lsn)
	if err != nil {
		return fmt.Errorf("starting the stream: %w", err)
	}
	r.health.update(func(s *Status) { s.State = "streaming" })
	r.log.Info("streaming", "from", t.mark.lsn, "epoch", t.epoch)
	return r.stream(ctx, t, wal, until, stop)
}

// resume makes t.mark a watermark to stream from, and returns where doubt ends.
func (r *Replicator) resume(ctx context.Context, t *term, conn *pgconn.PgConn) (doubt lsn, err error) {
	sys, err := identifySystem(ctx, conn)
	if err != nil {
		return 0, fmt.Errorf("asking Postgres which system it is: %w", err)
	}
	slot, err := readSlot(ctx, r.pool, r.config.Slot)
	if err != nil {
		return 0, fmt.Errorf("reading the slot: %w", err)
	}
	if slot.otherOwner != "" {
		return 0, errors.New(slot.otherOwner)
	}
	mark, known, err := r.store.watermark(ctx)
	if err != nil {
		return 0, fmt.Errorf("reading the watermark: %w", err)
	}
	if !slot.Exists {
		start, _, err := createSlot(ctx, conn, r.config.Slot, false)
		if err != nil {
			return 0, err
		}
		mark = watermark{lsn: start, ceiling: start}
		known = true
	}
	if !known {
		mark = watermark{lsn: slot.confirmed, ceiling: slot.flushed}
	}
	mark.system, mark.timeline = sys.id, sys.timeline
	t.mark = mark
	// What an earlier term has given to ClickHouse had been flushed by Postgres before it was sent.
	return min(mark.ceiling, max(sys.flushed, slot.flushed)), nil
}
