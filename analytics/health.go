package analytics

import (
	"context"
	"math"
	"sync"
	"time"

	"github.com/ClickHouse/ch-go/proto"

	"github.com/useargus/argus"
)

// healthState is what the probe saw last.
type healthState struct {
	mu      sync.Mutex
	asked   bool
	reason  error // of the last probe
	took    time.Duration
	version uint64 // of the watermark
	tail    int64
	through time.Time
	at      time.Time

	hourly     float64 // calls an hour, of the last day
	hourlyRead time.Time
}

// probeEvery is how often health is looked at; while ClickHouse is away, probeAway.
const (
	probeEvery = 2 * time.Second
	probeAway  = 250 * time.Millisecond
)

// watchHealth probes ClickHouse until ctx ends. It is what closes the breaker again: no question waits for a server
// that may not be there.
func (a *Analytics) watchHealth(ctx context.Context) {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-a.ch.tripped:
			a.log.Warn("ClickHouse is away; Postgres answers alone until it is back")
		case <-timer.C:
		}
		err := a.probe(ctx)
		if ctx.Err() != nil {
			return
		}
		switch was := a.ch.setDown(err != nil); {
		case err == nil && was:
			a.log.Info("ClickHouse is back")
		case err != nil && !was:
			a.log.Warn("ClickHouse is away; Postgres answers alone until it is back", "error", err)
		}
		a.metrics.breaker.Set(0)
		next := probeEvery
		if err != nil {
			a.metrics.breaker.Set(1)
			next = probeAway
		}
		timer.Reset(next)
	}
}

// probe reads the watermark on a connection of its own and compares it with Postgres. Only ClickHouse's failures
// are returned.
func (a *Analytics) probe(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, quickTime)
	defer cancel()
	start := time.Now()
	wm, err := a.probeWatermark(ctx)
	took := time.Since(start)
	a.health.mu.Lock()
	a.health.asked, a.health.reason, a.health.took, a.health.at = true, err, took, time.Now()
	if err == nil {
		a.health.version = wm.version
	}
	a.health.mu.Unlock()
	if err != nil {
		return err
	}
	c, err := a.readCut(ctx, wm.Position, nil)
	if err != nil {
		return nil
	}
	through, err := a.replicatedThrough(ctx, c)
	if err != nil {
		return nil
	}
	a.metrics.tailRows.Set(float64(c.Tail.Rows()))
	a.health.mu.Lock()
	a.health.tail, a.health.through = c.Tail.Rows(), through
	a.health.mu.Unlock()
	return nil
}

func (a *Analytics) probeWatermark(ctx context.Context) (watermark, error) {
	conn, err := a.ch.dial(ctx)
	if err != nil {
		return watermark{}, err
	}
	defer conn.client.Close()
	wm, err := a.readWatermark(ctx, conn)
	if err == nil && time.Since(a.health.hourlyRead) > time.Minute {
		err = a.probeRate(ctx, conn)
	}
	return wm, err
}

// probeRate counts the calls of the last day: what plans of counts go by. An error in it costs time, not exactness.
func (a *Analytics) probeRate(ctx context.Context, conn *clickhouseConn) error {
	var args clickhouseArgs
	var n proto.ColUInt64
	w := window{since: a.config.now().Add(-24 * time.Hour)}
	q := "SELECT count() AS n FROM audit_log WHERE " + and(w.clickhouse(&args))
	err := a.ch.query(ctx, conn, statement{q, args.params}, bounds{time: quickTime, memory: 64 << 20},
		proto.Results{{Name: "n", Data: &n}}, func(int) error {
			a.health.mu.Lock()
			defer a.health.mu.Unlock()
			a.health.hourly, a.health.hourlyRead = float64(n[0])/24, time.Now()
			return nil
		})
	return err
}

// callsPerHour is how many calls the last day had, by the hour; infinite as long as that was not read: what is not
// known to be few is many.
func (h *healthState) callsPerHour() float64 {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.hourlyRead.IsZero() {
		return math.Inf(1)
	}
	return h.hourly
}

// replicated is the last time known by which all that was recorded is in ClickHouse; zero when unknown.
func (h *healthState) replicated() time.Time {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.through
}

// Stage tells how ClickHouse answers, as of the last probe.
func (a *Analytics) Stage() argus.Stage {
	h := &a.health
	h.mu.Lock()
	defer h.mu.Unlock()
	s := argus.Stage{Name: "clickhouse", Status: "ok", Facts: map[string]any{
		"watermark_version": h.version, "tail_rows": h.tail, "probe_ms": float64(h.took.Microseconds()) / 1000,
	}}
	if !h.through.IsZero() {
		s.Facts["replicated_through"] = h.through.UTC().Format(argus.TimeFormat)
		s.Facts["lag_seconds"] = max(0, h.at.Sub(h.through).Seconds())
	}
	switch {
	case !h.asked:
		s.Status, s.Detail = "degraded", "ClickHouse was not asked yet."
	case a.ch.down.Load():
		s.Status, s.Detail = "down", "ClickHouse does not answer; the audit log is read from Postgres, wide windows slowly or not at all."
		s.Facts["down_seconds"] = a.ch.downFor().Seconds()
	case h.version == 0:
		s.Status, s.Detail = "degraded", "Nothing was copied to ClickHouse yet."
	case h.tail > a.config.tailLimit:
		s.Status, s.Detail = "degraded", "The copy in ClickHouse is far behind; answers come from Postgres, slower."
	}
	return s
}
