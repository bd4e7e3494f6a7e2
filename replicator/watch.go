package replicator

import (
	"context"
	"fmt"
	"time"
)

// watch asks Postgres each second how the writers stand, how the slot is, and where the log ends.
func (s *session) watch(ctx context.Context) error {
	warned := ""
	for {
		if err := s.look(ctx, &warned); err != nil && ctx.Err() == nil {
			// The stream and the lease notice by themselves when Postgres is away.
			s.r.log.Debug("asking Postgres for the state of the slot", "error", err)
		}
		if sleep(ctx, time.Second) != nil {
			return nil
		}
	}
}

func (s *session) look(ctx context.Context, warned *string) error {
	asking, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	r := s.r
	slot, err := readSlot(asking, r.pool, r.config.Slot)
	if err != nil {
		return err
	}
	s.flushed.Store(uint64(slot.flushed))
	r.slotSeen(slot)
	if text := slot.WALStatus; text != *warned {
		*warned = text
		if text == "unreserved" || text == "lost" {
			r.log.Error("the slot is about to lose its log: ClickHouse will be healed from the tables",
				"wal_status", text, "retained_bytes", slot.RetainedBytes)
		}
	}
	w := s.published.Load()
	greatest, states, err := readWriters(asking, r.pool, w.position)
	if err != nil {
		return fmt.Errorf("reading the writers: %w", err)
	}
	s.writers.Store(&writersReading{greatest, states})

	bytes := max(0, int64(slot.flushed)-int64(w.lsn))
	seconds := s.lag(slot).Seconds()
	r.metrics.lagBytes.Set(float64(bytes))
	r.metrics.lagSeconds.Set(seconds)
	r.health.update(func(h *Status) {
		h.LagBytes, h.LagSeconds = bytes, seconds
		h.WatermarkAt, h.WatermarkLSN = &w.at, w.lsn.String()
	})
	return nil
}

// lag is the age of the oldest commit that is not in ClickHouse, about: 0 when all that is decoded is there and
// nothing more is to come.
func (s *session) lag(slot slotState) time.Duration {
	s.in.mu.Lock()
	defer s.in.mu.Unlock()
	switch {
	case slot.flushed > s.in.received+behindBytes && s.in.committed > 0:
		// What is decoded now is younger than what is durable by one batch only.
		return max(0, slot.now.Sub(time.UnixMicro(s.in.committed)))
	case s.in.current.rows > 0:
		return time.Since(s.in.since)
	}
	return 0
}

func (r *Replicator) slotSeen(slot slotState) {
	r.metrics.slotSeen(slot)
	r.health.update(func(s *Status) { s.Slot = slot })
}

// watchSlot keeps the slot's metrics true while this process copies nothing, too: a slot that nobody reads is
// what fills a disk. It ends with ctx.
func (r *Replicator) watchSlot(ctx context.Context) {
	for {
		asking, cancel := context.WithTimeout(ctx, 5*time.Second)
		if slot, err := readSlot(asking, r.pool, r.config.Slot); err == nil {
			r.metrics.slotSeen(slot)
		}
		if s, err := readStrangers(asking, r.pool, r.config.Slot); err == nil {
			r.metrics.foreignSlots.Set(float64(s.slots))
			r.metrics.baseBackups.Set(float64(s.backups))
		}
		cancel()
		if sleep(ctx, 5*time.Second) != nil {
			return
		}
	}
}

func (m *metrics) slotSeen(slot slotState) {
	flag := func(b bool) float64 {
		if b {
			return 1
		}
		return 0
	}
	m.slotUsable.Set(flag(slot.usable))
	m.slotActive.Set(flag(slot.Active))
	m.slotRetained.Set(float64(slot.RetainedBytes))
	m.slotSafe.Set(-1)
	if slot.SafeWALBytes != nil {
		m.slotSafe.Set(float64(*slot.SafeWALBytes))
	}
}
