package replicator

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/useargus/argus"
)

// term is one attempt from its beginning: it takes over, finds out where it stands, heals what needs healing,
// and streams. It returns nil after stop has closed, an error otherwise.
//
// By hand (resync) it ends after healing.
func (r *Replicator) term(ctx context.Context, stop <-chan struct{}, byHand bool) error {
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
	if err != nil || byHand {
		return err
	}
	wal, err := startStream(ctx, conn, r.config.Slot, r.config.Publication, t.mark.lsn)
	if err != nil {
		return r.brokenSlot(fmt.Errorf("starting the stream: %w", err))
	}
	r.health.update(func(s *Status) { s.State = "streaming" })
	r.log.Info("streaming", "from", t.mark.lsn, "epoch", t.epoch)
	return r.brokenSlot(r.stream(ctx, t, wal, until, stop))
}

// brokenSlot notices that the catalog shows the slot as valid, and the log behind it is gone (files restored
// without it, or invalidated this moment): the next term makes a new one.
func (r *Replicator) brokenSlot(err error) error {
	var answer *pgconn.PgError
	if errors.As(err, &answer) && (answer.Code == "58P01" || answer.Code == "55000") {
		r.mu.Lock()
		r.distrusted = answer.Message
		r.mu.Unlock()
	}
	return err
}

// resume makes t.mark a watermark to stream from, healing first where it must, and returns where doubt ends.
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
	r.mu.Lock()
	if r.distrusted != "" && slot.usable {
		slot.usable, slot.unusable = false, r.distrusted
	}
	r.mu.Unlock()
	mark, known, err := r.store.watermark(ctx)
	if err != nil {
		return 0, fmt.Errorf("reading the watermark: %w", err)
	}
	reason, err := r.reason(ctx, sys, slot, mark, known)
	if err != nil {
		return 0, err
	}
	if reason == healRestored {
		// Of the position nothing is sure: rows may have been written anew under the same numbers.
		mark.position, mark.lsn, mark.ceiling = argus.Position{}, 0, 0
	}
	mark.system, mark.timeline = sys.id, sys.timeline
	t.mark = mark
	if reason == "" {
		// What an earlier term gave to ClickHouse had been flushed by Postgres before it was sent.
		return min(mark.ceiling, max(sys.flushed, slot.flushed)), nil
	}
	snap := snapshot{}
	if slot.usable {
		var release func()
		if snap, release, err = takeSnapshot(ctx, r.pool); err != nil {
			return 0, err
		}
		defer release()
		// The slot does not send again what it was told is durable.
		t.mark.lsn = max(mark.lsn, slot.confirmed)
	} else {
		if snap, err = r.newSlot(ctx, conn, slot); err != nil {
			return 0, err
		}
		t.mark.lsn, t.mark.ceiling = snap.at, snap.at
	}
	if err := r.heal(ctx, t, snap, reason); err != nil {
		return 0, err
	}
	r.mu.Lock()
	r.wanted, r.distrusted = "", ""
	r.mu.Unlock()
	return min(t.mark.ceiling, max(sys.flushed, slot.flushed, snap.at)), nil
}

// newSlot makes the slot, in the place of one that is of no use, and returns the snapshot that it starts from.
func (r *Replicator) newSlot(ctx context.Context, conn *pgconn.PgConn, old slotState) (s snapshot, err error) {
	if old.Exists {
		r.log.Error("the replication slot is of no use any more; making a new one", "slot", r.config.Slot, "cause", old.unusable)
		if _, err := r.pool.Exec(ctx, "SELECT pg_drop_replication_slot($1)", r.config.Slot); err != nil {
			return s, fmt.Errorf("dropping the slot: %w", err)
		}
	}
	// From PostgreSQL 17 on a standby can keep the slot, so that it outlives the primary.
	var version int
	if err := r.pool.QueryRow(ctx, "SELECT current_setting('server_version_num')::int").Scan(&version); err != nil {
		return s, err
	}
	s.at, s.name, err = createSlot(ctx, conn, r.config.Slot, version >= 170000)
	boundary("slot")
	return s, err
}

// reason says why ClickHouse must be compared with Postgres before streaming; "" when it need not.
func (r *Replicator) reason(ctx context.Context, sys system, slot slotState, mark watermark, known bool) (string, error) {
	r.mu.Lock()
	wanted := r.wanted
	r.mu.Unlock()
	switch {
	case !known && !slot.Exists:
		return healFirstCopy, nil
	case !known:
		return healLostMark, nil
	case mark.system != 0 && (mark.system != sys.id || mark.timeline != sys.timeline),
		max(sys.flushed, slot.flushed) < mark.lsn:
		return healRestored, nil
	}
	// Rows are streamed when they are flushed, and may be visible a moment later: look twice.
	for try := 0; ; try++ {
		greatest, states, err := readWriters(ctx, r.pool, mark.position)
		if err != nil {
			return "", fmt.Errorf("reading the writers: %w", err)
		}
		lost := regressed(mark.position, greatest, states)
		if len(lost) == 0 {
			break
		}
		if try == 3 {
			r.log.Error("Postgres has fewer rows than the copy: it was restored to an earlier moment", "writers", lost)
			return healRestored, nil
		}
		if err := sleep(ctx, 500*time.Millisecond); err != nil {
			return "", err
		}
	}
	switch {
	case mark.healing:
		return healUnfinished, nil
	case !slot.usable:
		return healSlotLost, nil
	case slot.confirmed > mark.lsn:
		return healSlotMoved, nil
	}
	return wanted, nil
}
