package replicator

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/useargus/argus/replicator/wal"
)

// watch asks Postgres each second, each other one while no row comes, how the writers stand, how the slot is, where the log ends, and whether the
// publication is the one that the lease term began with. It ends the term when it is not.
func (s *session) watch(ctx context.Context) error {
	warned, copied := "", int64(-1)
	for {
		err := s.look(ctx, &warned)
		if errors.Is(err, errThinned) || errors.Is(err, errPublicationChanged) || errors.Is(err, errTimeline) {
			return err
		}
		if err != nil && ctx.Err() == nil {
			// The stream and the lease notice by themselves when Postgres is away.
			s.r.log.Debug("asking Postgres for the state of the slot", "error", err)
		}
		pause := lookEvery
		if rows := s.r.health.count(); rows == copied && len(s.suspects) == 0 {
			pause *= 2
		} else {
			copied = rows
		}
		if sleep(ctx, pause) != nil {
			return nil
		}
	}
}

var lookEvery = time.Second // tests shorten it

// confirm reads where the log ends, and then whether the publication is still the one the lease term began with, or was
// arranged anew for later writers. What committed before that end was decoded under it then: a change shows for good.
func (s *session) confirm(ctx context.Context) error {
	at, err := s.r.barrier(ctx, s.published.Load().timeline)
	if err != nil {
		return err
	}
	publication, err := readPublication(ctx, s.r.pool, s.r.config.Publication)
	if err != nil {
		return err
	}
	if err := s.r.whole(publication); err != nil {
		return err
	}
	if unchanged, err := s.r.unchanged(ctx, s.print.Load(), publication.print); err != nil {
		return err
	} else if !unchanged {
		return errPublicationChanged
	}
	s.print.Store(publication.print)
	s.confirmed.Store(uint64(at))
	return nil
}

// errTimeline ends a lease term: Postgres failed over under it.
var errTimeline = errors.New("Postgres is on another timeline than the stream")

// barrier returns a position of the log, of which the synchronous standbys have all that is before it. Postgres decodes what
// is flushed on the primary, and does not ask the standbys first. Rows that a failover takes back must not be
// taken for rows. A commit of our own waits for the standbys, as each call's does, and they have all that is before it.
//
// The timeline is that of the stream: what another server has says nothing of this one.
func (r *Replicator) barrier(ctx context.Context, timeline uint32) (wal.LSN, error) {
	var text string
	var own int64
	if err := r.pool.QueryRow(ctx, `
		SELECT CASE WHEN current_setting('synchronous_standby_names') <> '' THEN pg_logical_emit_message(true, 'argus', 'barrier')
		            ELSE pg_current_wal_flush_lsn() END::text,
		       ('x' || left(pg_walfile_name(pg_current_wal_insert_lsn()), 8))::bit(32)::bigint`).Scan(&text, &own); err != nil {
		return 0, err
	}
	if own != int64(timeline) {
		return 0, fmt.Errorf("%w: %d, not %d", errTimeline, own, timeline)
	}
	return wal.ParseLSN(text)
}

// secure waits until the synchronous standbys have all that committed at or before the position.
func (s *session) secure(ctx context.Context, at wal.LSN) error {
	s.held.Store(time.Now().UnixMicro())
	defer s.held.Store(0)
	for told := false; s.secured <= at; {
		asking, cancel := context.WithTimeout(ctx, 2*time.Second)
		passed, err := s.r.barrier(asking, s.t.mark.timeline)
		cancel()
		switch {
		case err == nil:
			s.secured = passed
			continue
		case ctx.Err() != nil:
			return ctx.Err()
		case errors.Is(err, errTimeline):
			return err
		case !told:
			told = true
			s.r.log.Warn("rows wait for the synchronous standbys before they are copied", "error", err)
		}
		if err := sleep(ctx, 100*time.Millisecond); err != nil {
			return err
		}
	}
	return nil
}

// errPublicationChanged ends a lease term. The next one makes a new slot and heals, since what the old slot holds was
// decoded under other facts.
var errPublicationChanged = errors.New("the publication was changed")

func (s *session) look(ctx context.Context, warned *string) error {
	asking, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	r := s.r
	slot, err := wal.ReadSlot(asking, r.pool, r.config.Slot)
	if err != nil {
		return err
	}
	s.flushed.Store(uint64(slot.Flushed))
	r.slotSeen(slot)
	if text := slot.WALStatus; text != *warned {
		*warned = text
		if text == "unreserved" || text == "lost" {
			r.log.Error("the slot is about to lose its log: ClickHouse will be healed from the tables",
				"wal_status", text, "retained_bytes", slot.RetainedBytes)
		}
	}
	s.tellLag(slot)
	if err := s.confirm(asking); err != nil {
		return err
	}
	w := s.published.Load()
	reading, err := r.writersNow(asking, w.position)
	if err != nil {
		return fmt.Errorf("reading the writers: %w", err)
	}
	s.writers.CompareAndSwap(nil, &reading)
	s.judge(writerDamage(w.position, reading))
	return nil
}

// tellLag is for the metrics and the health. It is told before anything waits for a standby.
func (s *session) tellLag(slot wal.SlotState) {
	w := s.published.Load()
	bytes := max(0, int64(slot.Flushed)-int64(w.lsn))
	seconds := s.lag(slot).Seconds()
	s.r.metrics.lagBytes.Set(float64(bytes))
	s.r.metrics.lagSeconds.Set(seconds)
	s.r.health.update(func(h *Status) {
		h.LagBytes, h.LagSeconds = bytes, seconds
		h.WatermarkAt, h.WatermarkLSN = &w.at, w.lsn.String()
	})
}

// judge takes note of damage of the writers that stays. A row is streamed when it is flushed and may be visible a
// moment later, so that one look alone proves nothing.
func (s *session) judge(found []Finding) {
	var stays []Finding
	before := s.suspects
	s.suspects = map[Finding]int{}
	for _, f := range found {
		key := Finding{Kind: f.Kind, WriterID: f.WriterID}
		if s.suspects[key] = before[key] + 1; s.suspects[key] >= 3 {
			stays = append(stays, f)
		}
		if s.suspects[key] == 3 {
			s.reconcileSoon()
		}
	}
	s.r.findings.set(&s.r.findings.writers, stays)
	s.r.tellFindings()
}

// lag is the age of the oldest commit that is not in ClickHouse, about: 0 when all that is decoded is there and
// nothing more is to come.
func (s *session) lag(slot wal.SlotState) time.Duration {
	s.in.mu.Lock()
	defer s.in.mu.Unlock()
	switch {
	case slot.Flushed > s.in.received+behindBytes && s.in.committed > 0:
		// What is decoded now is younger than what is durable by one batch only.
		return max(0, slot.Now.Sub(time.UnixMicro(s.in.committed)))
	case s.held.Load() != 0:
		return time.Since(time.UnixMicro(s.held.Load()))
	case s.in.current.rows > 0:
		return time.Since(s.in.since)
	}
	return 0
}

func (r *Replicator) slotSeen(slot wal.SlotState) {
	r.metrics.slotSeen(r.config.Slot, slot)
	r.health.update(func(s *Status) { s.Slot = slot })
}

// watchSlots keeps the slots' metrics true while this process copies nothing, too: a slot without a reader is what
// fills a disk. It looks at those of all copies, since a copy whose replicators are gone says nothing of itself. It ends with ctx.
func (r *Replicator) watchSlots(ctx context.Context) {
	for {
		asking, cancel := context.WithTimeout(ctx, 5*time.Second)
		if err := r.lookAtSlots(asking); err != nil && ctx.Err() == nil {
			r.log.Debug("asking Postgres for the slots of all copies", "error", err)
		}
		cancel()
		if sleep(ctx, 5*time.Second) != nil {
			return
		}
	}
}

func (r *Replicator) lookAtSlots(ctx context.Context) error {
	rows, err := r.pool.Query(ctx, "SELECT slot_name FROM pg_replication_slots s WHERE "+ourSlot, r.config.SlotBase)
	if err != nil {
		return err
	}
	there, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		return err
	}
	orphans := map[string]bool{}
	for _, name := range there {
		if !slices.Contains(r.config.Slots, name) {
			orphans[name] = true
		}
	}
	r.mu.Lock()
	for name := range r.orphanSlots {
		if !orphans[name] {
			r.metrics.forgetSlot(name)
		}
	}
	r.orphanSlots = orphans
	r.mu.Unlock()
	for _, name := range slices.Concat(r.config.Slots, slices.Collect(maps.Keys(orphans))) {
		slot, err := wal.ReadSlot(ctx, r.pool, name)
		if err != nil {
			return err
		}
		r.metrics.slotSeen(name, slot)
		r.metrics.slotOrphan.WithLabelValues(name).Set(oneIf(orphans[name]))
	}
	s, err := readForeignUse(ctx, r.pool, r.config.SlotBase)
	if err != nil {
		return err
	}
	r.metrics.foreignSlots.Set(float64(s.slots))
	r.metrics.baseBackups.Set(float64(s.backups))
	return nil
}

func oneIf(b bool) float64 {
	if b {
		return 1
	}
	return 0
}

func (m *metrics) slotSeen(name string, slot wal.SlotState) {
	m.slotUsable.WithLabelValues(name).Set(oneIf(slot.Usable))
	m.slotActive.WithLabelValues(name).Set(oneIf(slot.Active))
	m.slotRetained.WithLabelValues(name).Set(float64(slot.RetainedBytes))
	safe := -1.0
	if slot.SafeWALBytes != nil {
		safe = float64(*slot.SafeWALBytes)
	}
	m.slotSafe.WithLabelValues(name).Set(safe)
}

func (m *metrics) forgetSlot(name string) {
	for _, g := range []*prometheus.GaugeVec{m.slotUsable, m.slotActive, m.slotRetained, m.slotSafe, m.slotOrphan} {
		g.DeleteLabelValues(name)
	}
}
