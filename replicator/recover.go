package replicator

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/useargus/argus"
	"github.com/useargus/argus/replicator/wal"
)

// term is one attempt from its beginning: it takes over, finds out where it stands, heals what needs healing,
// and streams. It returns nil after stop has closed, an error otherwise.
//
// By hand (resync) it ends after healing.
func (r *Replicator) term(ctx context.Context, stop <-chan struct{}, byHand bool) error {
	r.health.update(func(s *Status) {
		s.Host = r.lease.host
		if s.State != "failing" { // it fails until it streams
			s.State = "starting"
		}
	})
	// Before anything is done to the slot or the copy: what the stream would lack, no copy may claim.
	publication, err := readPublication(ctx, r.pool, r.config.Publication)
	if err != nil {
		return err
	}
	if err := r.whole(publication); err != nil {
		return err
	}
	if len(publication.Notes) > 0 {
		r.log.Warn("the publication is not as argusd migrate made it", "notes", strings.Join(publication.Notes, "; "))
	}
	r.clickhouse.server.forget()
	if err := r.pair(ctx); err != nil {
		return err
	}
	if _, err := r.layouts(ctx, r.pool); err != nil {
		return err
	}
	if err := r.rejectDeposed(ctx, byHand); err != nil {
		return err
	}
	known, err := r.clickhouse.epoch(ctx)
	if err != nil {
		return fmt.Errorf("reading the epoch from ClickHouse: %w", err)
	}
	epoch, err := r.lease.take(ctx, true, known, false)
	if err != nil {
		return err
	}
	t, err := r.clickhouse.begin(ctx, epoch, r.config.InsertTimeout)
	if err != nil {
		return err
	}
	defer t.close()
	failpoint("begun")

	if err := wal.FreeSlot(ctx, r.pool, r.config.Slot); err != nil {
		return err
	}
	conn, err := wal.Dial(ctx, r.config.PostgresURL)
	if err != nil {
		return fmt.Errorf("connecting for replication: %w", err)
	}
	defer wal.CloseConn(conn)
	until, err := r.resume(ctx, t, conn, publication)
	if err != nil || byHand {
		return err
	}
	source, err := wal.Start(ctx, conn, r.config.Slot, r.config.Publication, t.mark.lsn)
	if err != nil {
		return r.brokenSlot(t, fmt.Errorf("starting the stream: %w", err))
	}
	r.health.update(func(s *Status) { s.State = "streaming" })
	r.log.Info("streaming", "from", t.mark.lsn, "epoch", t.epoch)
	return r.brokenSlot(t, r.stream(ctx, t, source, publication.share, until, stop))
}

// brokenSlot notices a slot whose history cannot be decoded, although the catalog shows it as valid: the next lease
// term makes a new one and heals. The publication was whole when the lease term began, so what the new one holds can be.
func (r *Replicator) brokenSlot(t *term, err error) error {
	var answer *pgconn.PgError
	useless := errors.Is(err, errThinnedHistory)
	if errors.As(err, &answer) {
		switch answer.Code {
		case "58P01", // files restored without the log behind the slot
			"55000", // invalidated this moment
			"42704": // it has a time without the publication
			useless = true
		}
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	// What fails again and again at the same place, and is no outage, will not decode tomorrow.
	if useless || answer != nil && !outage(answer.Code) || errors.Is(err, wal.ErrMalformed) {
		if r.stuckAt != t.mark.lsn {
			r.stuckAt, r.stuck = t.mark.lsn, 0
		}
		r.stuck++
		if useless || r.stuck >= 5 {
			r.distrusted, r.stuck = err.Error(), 0
		}
	}
	return err
}

// outage tells errors of Postgres that pass, or that its operator mends: connections, resources, shutdown, conflicts,
// rights and configuration.
func outage(code string) bool {
	switch code[:min(2, len(code))] {
	case "08", "25", "28", "3D", "40", "53", "57":
		return true
	}
	return code == "42501"
}

// publicationChanged is why a slot is not usable, like those that wal.ReadSlot gives.
const publicationChanged = "the publication was changed: what the slot holds may lack rows"

// resume makes t.mark a watermark to stream from, healing first where it must, and returns where doubt ends.
func (r *Replicator) resume(ctx context.Context, t *term, conn *pgconn.PgConn, publication Publication) (doubt wal.LSN, err error) {
	sys, err := wal.IdentifySystem(ctx, conn)
	if err != nil {
		return 0, fmt.Errorf("asking Postgres which system it is: %w", err)
	}
	slot, err := wal.ReadSlot(ctx, r.pool, r.config.Slot)
	if err != nil {
		return 0, fmt.Errorf("reading the slot: %w", err)
	}
	if slot.OtherOwner != "" {
		return 0, errors.New(slot.OtherOwner)
	}
	r.mu.Lock()
	if r.distrusted != "" && slot.Usable {
		slot.Usable, slot.Unusable = false, r.distrusted
	}
	r.mu.Unlock()
	mark, known, err := r.clickhouse.watermark(ctx)
	if err != nil {
		return 0, fmt.Errorf("reading the watermark: %w", err)
	}
	if known && slot.Exists && mark.publication != 0 {
		unchanged, err := r.unchanged(ctx, mark.publication, publication.print)
		if err != nil {
			return 0, err
		}
		if !unchanged {
			slot.Usable, slot.Unusable = false, publicationChanged
		}
	}
	// Before the first watermark of this term the newest one counts, and without any the beginning of the copying.
	if known {
		r.metrics.watermarkTime.Set(float64(mark.at.UnixMilli()) / 1000)
	} else if !r.copying {
		r.copying = true
		r.metrics.watermarkTime.SetToCurrentTime()
	}
	mark, tail, err := r.follow(ctx, conn, sys, slot, mark)
	if err != nil {
		return 0, err
	}
	reason, err := r.reason(ctx, sys, slot, mark, known)
	if err != nil {
		return 0, err
	}
	var only []month
	switch {
	case tail == nil:
	case reason == "" && tail.rows > 0:
		reason, only = healFailover, tail.months
	case reason == healRestored && !tail.followed:
		reason = healFailover
	}
	if reason == healRestored || reason == healFailover && only == nil {
		// Of the position nothing is sure: rows may have been written anew under the same numbers.
		mark.position, mark.lsn, mark.ceiling = argus.Position{}, 0, 0
	}
	mark.system, mark.timeline, mark.publication = sys.ID, sys.Timeline, publication.print
	t.mark = mark
	if reason == "" {
		// What an earlier lease term gave to ClickHouse had been flushed by Postgres before it was sent.
		return min(mark.ceiling, max(sys.Flushed, slot.Flushed)), nil
	}
	snap := snapshot{}
	if slot.Usable {
		var release func()
		if snap, release, err = takeSnapshot(ctx, r.pool); err != nil {
			return 0, err
		}
		defer release()
		// The slot does not send again what it was told is durable.
		t.mark.lsn = max(mark.lsn, slot.Confirmed)
	} else {
		if snap, err = r.newSlot(ctx, conn, slot); err != nil {
			return 0, err
		}
		t.mark.lsn, t.mark.ceiling = snap.at, snap.at
	}
	if err := r.heal(ctx, t, snap, reason, only); err != nil {
		return 0, err
	}
	r.mu.Lock()
	r.wanted, r.distrusted = "", ""
	r.mu.Unlock()
	return min(t.mark.ceiling, max(sys.Flushed, slot.Flushed, snap.at)), nil
}

// newSlot makes the slot, in the place of one that is of no use, and returns the snapshot that it starts from.
func (r *Replicator) newSlot(ctx context.Context, conn *pgconn.PgConn, old wal.SlotState) (s snapshot, err error) {
	if old.Exists {
		r.log.Error("the replication slot is of no use any more; making a new one", "slot", r.config.Slot, "cause", old.Unusable)
		if _, err := r.pool.Exec(ctx, "SELECT pg_drop_replication_slot($1)", r.config.Slot); err != nil {
			return s, fmt.Errorf("dropping the slot: %w", err)
		}
	}
	// From PostgreSQL 17 on a standby can keep the slot, so that it outlives the primary.
	var version int
	if err := r.pool.QueryRow(ctx, "SELECT current_setting('server_version_num')::int").Scan(&version); err != nil {
		return s, err
	}
	s.at, s.name, err = wal.CreateSlot(ctx, conn, r.config.Slot, version >= 170000)
	failpoint("slot")
	return s, err
}

// reason says why ClickHouse must be compared with Postgres before streaming; "" when it need not.
func (r *Replicator) reason(ctx context.Context, sys wal.System, slot wal.SlotState, mark watermark, known bool) (string, error) {
	r.mu.Lock()
	wanted := r.wanted
	r.mu.Unlock()
	switch {
	case !known && !slot.Exists:
		return healFirstCopy, nil
	case !known:
		return healLostMark, nil
	case mark.system != 0 && (mark.system != sys.ID || mark.timeline != sys.Timeline),
		max(sys.Flushed, slot.Flushed) < mark.lsn:
		return healRestored, nil
	}
	restored, err := r.restored(ctx, mark.position)
	switch {
	case err != nil:
		return "", err
	case restored:
		return healRestored, nil
	}
	switch {
	case mark.healing:
		return healUnfinished, nil
	case slot.Unusable == publicationChanged:
		return healPublication, nil
	case !slot.Usable:
		return healSlotLost, nil
	case slot.Confirmed > mark.lsn:
		return healSlotMoved, nil
	}
	return wanted, nil
}

// restored tells whether Postgres has fewer rows than the copy: it was restored to an earlier moment, or failed over to
// a standby that lagged. Writers that say less while their rows are there are damaged, which is told and not healed.
func (r *Replicator) restored(ctx context.Context, p argus.Position) (bool, error) {
	// Rows are streamed when they are flushed, and may be visible a moment later: look again.
	for try := 0; ; try++ {
		reading, err := r.writersNow(ctx, p)
		if err != nil {
			return false, fmt.Errorf("reading the writers: %w", err)
		}
		lost := regressed(p, reading)
		if len(lost) == 0 {
			return false, nil
		}
		if try == 3 {
			return r.lacks(ctx, p, lost)
		}
		if err := sleep(ctx, 500*time.Millisecond); err != nil {
			return false, err
		}
	}
}

// lacks tells whether Postgres lacks the newest row that the copy has of one of the writers.
func (r *Replicator) lacks(ctx context.Context, p argus.Position, writers []int64) (bool, error) {
	for chunk := range slices.Chunk(writers, 1000) {
		type row struct {
			seq  int64
			hash string
		}
		newest := map[int64]row{}
		if err := r.clickhouse.each(ctx, func(scan func(...any) error) error {
			var id int64
			var n row
			err := scan(&id, &n.seq, &n.hash)
			newest[id] = n
			return err
		}, "SELECT writer_id, max(seq), hex(argMax(row_hash, seq)) FROM audit_log WHERE writer_id IN ("+joinInts(chunk)+") GROUP BY writer_id"); err != nil {
			return false, err
		}
		for _, id := range chunk {
			var there bool
			if n, ok := newest[id]; ok {
				err := r.pool.QueryRow(ctx, `SELECT EXISTS (SELECT FROM argus.argus_audit_log
					WHERE writer_id = $1 AND seq = $2 AND row_hash = decode($3, 'hex'))`, id, n.seq, n.hash).Scan(&there)
				if err != nil {
					return false, err
				}
			}
			if !there {
				r.log.Error("Postgres has fewer rows than the copy: it was restored to an earlier moment", "writers", len(writers), "writer_id", id)
				return true, nil
			}
		}
	}
	return false, nil
}
