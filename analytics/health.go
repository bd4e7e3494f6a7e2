package analytics

import (
	"context"
	"math"
	"strconv"
	"sync"
	"time"

	"github.com/ClickHouse/ch-go/proto"

	"github.com/useargus/argus"
	"github.com/useargus/argus/connect"
)

// healthState is what the probe saw last of a copy.
type healthState struct {
	mu       sync.Mutex
	asked    bool
	reason   error // of the last probe
	took     time.Duration
	version  uint64 // of the watermark
	measured bool   // tail and through are known
	tail     int64
	through  time.Time
	at       time.Time
	refused  time.Time // since when it rejects questions
	away     []string  // shards that do not answer
	awayAt   time.Time // when they were asked; zero while the copy answers

	hourly     float64 // calls an hour, of the last day
	hourlyRead time.Time
}

// probeEvery is how often health is looked at; while ClickHouse is away, probeAway.
const (
	probeEvery = 2 * time.Second
	probeAway  = 250 * time.Millisecond
)

// watchHealth probes a copy until ctx ends. It is what closes the breaker again: no question waits for a server that may
// not be there.
func (a *Analytics) watchHealth(ctx context.Context, c *logCopy) {
	timer := time.NewTimer(0)
	defer timer.Stop()
	defer c.endProbing()
	for {
		select {
		case <-ctx.Done():
			return
		case <-c.wake:
		case <-c.ch.tripped:
			a.log.Warn("ClickHouse is away; it is left alone until it is back", "copy", c.name)
		case <-timer.C:
		}
		err := a.probe(ctx, c)
		if ctx.Err() != nil {
			return
		}
		switch was := c.ch.setDown(err != nil); {
		case err == nil && was:
			a.log.Info("ClickHouse is back", "copy", c.name)
		case err != nil && !was:
			a.log.Warn("ClickHouse is away; it is left alone until it is back", "copy", c.name, "error", err)
		}
		next := probeEvery
		if err != nil {
			next = probeAway
		}
		a.metrics.breaker.WithLabelValues(c.name).Set(oneIf(err != nil))
		a.metrics.refusing.WithLabelValues(c.name).Set(oneIf(c.refused.Load()))
		if moved := a.copies.choose(); moved != nil {
			a.log.Info("another copy is asked first from now on", "copy", moved.name)
		}
		for _, o := range a.copies.all {
			a.metrics.preferred.WithLabelValues(o.name).Set(oneIf(a.copies.prefers(o)))
		}
		timer.Reset(next)
	}
}

func oneIf(is bool) float64 {
	if is {
		return 1
	}
	return 0
}

// probe reads the copy's watermark on a connection of its own and compares it with Postgres. Only ClickHouse's failures
// are returned.
func (a *Analytics) probe(ctx context.Context, c *logCopy) error {
	parent := ctx
	ctx, cancel := context.WithTimeout(ctx, quickTime)
	defer cancel()
	h := &c.health
	start := time.Now()
	suspicions := c.suspicions.Load()
	wm, err := a.probeWatermark(ctx, c)
	took := time.Since(start)
	h.mu.Lock()
	h.asked, h.reason, h.took, h.at = true, err, took, time.Now()
	if err == nil {
		h.version, h.away, h.awayAt = wm.version, nil, time.Time{}
	}
	h.mu.Unlock()
	if err != nil {
		c.findAway(parent)
		return err
	}
	c.suspicions.CompareAndSwap(suspicions, 0) // one that came meanwhile is about a later moment
	read, err := a.readCut(ctx, wm.Position, nil)
	if err != nil {
		return nil
	}
	through, err := a.replicatedThrough(ctx, read)
	if err != nil {
		return nil
	}
	tail := read.Tail.Rows()
	a.metrics.tailRows.WithLabelValues(c.name).Set(float64(tail))
	h.mu.Lock()
	h.measured, h.tail, h.through = true, tail, through
	h.mu.Unlock()
	return nil
}

// findAway asks each shard by itself, every few seconds, after the copy did not answer: a person is told which one is away.
func (c *logCopy) findAway(ctx context.Context) {
	h := &c.health
	h.mu.Lock()
	due := len(c.each) > 0 && time.Since(h.awayAt) > 5*time.Second
	h.mu.Unlock()
	if !due {
		return
	}
	failed := make([]bool, len(c.each))
	var asking sync.WaitGroup
	for i, server := range c.each {
		asking.Go(func() {
			conn, err := server.dial(ctx)
			if failed[i] = err != nil; err == nil {
				conn.close()
			}
		})
	}
	asking.Wait()
	var away []string
	for i := range failed {
		if failed[i] {
			away = append(away, connect.Shard{Copy: c.name, Number: i + 1, Of: c.shards}.Name())
		}
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	h.away, h.awayAt = away, time.Now()
}

// probesOnOne is how many probes have the same connection: that new ones are taken is looked at twice a minute.
const probesOnOne = 15

// probeConn is the connection of the next probe.
func (c *logCopy) probeConn(ctx context.Context) (conn *clickhouseConn, err error) {
	if c.probes >= probesOnOne {
		c.endProbing()
	}
	if c.probing == nil {
		if c.probing, err = c.ch.dial(ctx); err != nil {
			c.probing = nil
			return nil, err
		}
	}
	c.probes++
	return c.probing, nil
}

func (c *logCopy) endProbing() {
	if c.probing != nil {
		c.probing.close()
	}
	c.probing, c.probes = nil, 0
}

func (c *logCopy) probeOn(ctx context.Context, conn *clickhouseConn) (watermark, error) {
	if err := conn.checkParts(ctx); err != nil {
		return watermark{}, err
	}
	return c.readWatermark(ctx, conn)
}

// probeWatermark also looks, once a minute and while the copy refuses questions, whether it has all tables.
func (a *Analytics) probeWatermark(ctx context.Context, c *logCopy) (watermark, error) {
	var wm watermark
	conn, err := c.probeConn(ctx)
	if err == nil {
		wm, err = c.probeOn(ctx, conn)
	}
	if err != nil && c.probes > 1 { // a connection that waited may have been ended, and says nothing of the server
		c.endProbing()
		if conn, err = c.probeConn(ctx); err == nil {
			wm, err = c.probeOn(ctx, conn)
		}
	}
	if err != nil {
		c.endProbing()
		return wm, err
	}
	if c.health.hourlyAge() < time.Minute && !c.refused.Load() {
		return wm, nil
	}
	if err = c.checkTables(ctx, conn); err == nil {
		err = a.probeRate(ctx, c, conn)
	}
	switch {
	case err == nil && c.refused.Swap(false):
		a.log.Info("ClickHouse has all tables again", "copy", c.name)
	case isBound(err): // a busy server; it is asked again in a moment
		err = nil
	case isRejection(err):
		if !c.refused.Load() {
			a.log.Warn("ClickHouse rejects questions; the next store is asked", "copy", c.name, "error", err)
		}
		c.refuse()
		err = nil
	}
	return wm, err
}

// probeRate counts the calls of the last day: what plans of counts go by. An error in it costs time, not exactness.
func (a *Analytics) probeRate(ctx context.Context, c *logCopy, conn *clickhouseConn) error {
	h := &c.health
	var args clickhouseArgs
	var n proto.ColUInt64
	w := window{since: a.config.now().Add(-24 * time.Hour)}
	q := "SELECT count() AS n FROM audit_log WHERE " + and(w.clickhouse(&args))
	err := conn.query(ctx, statement{q, args.params}, bounds{time: quickTime, memory: 64 << 20},
		proto.Results{{Name: "n", Data: &n}}, func(int) error {
			h.mu.Lock()
			defer h.mu.Unlock()
			h.hourly, h.hourlyRead = float64(n[0])/24, time.Now()
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

// behind is how many rows of Postgres the copy lacked when last looked at.
func (h *healthState) behind() (tail int64, known bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.tail, h.measured
}

func (h *healthState) refusedSince(at time.Time) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.refused = at
}

// hourlyAge is how long ago callsPerHour was read.
func (h *healthState) hourlyAge() time.Duration {
	h.mu.Lock()
	defer h.mu.Unlock()
	return time.Since(h.hourlyRead)
}

// Stages tells how each copy in ClickHouse answers, as of its last probe. A copy with a name has it in its facts.
func (a *Analytics) Stages() []argus.Stage {
	others := map[*logCopy]bool{} // that would answer in its stead
	for _, c := range a.copies.all {
		others[c] = a.copies.next(c) != nil
	}
	var stages []argus.Stage
	for _, c := range a.copies.all {
		stages = append(stages, a.stage(c, others[c]))
	}
	return stages
}

func (a *Analytics) stage(c *logCopy, others bool) argus.Stage {
	h := &c.health
	h.mu.Lock()
	defer h.mu.Unlock()
	s := argus.Stage{Name: "clickhouse", Status: "ok", Facts: map[string]any{
		"watermark_version": h.version, "tail_rows": h.tail, "probe_ms": float64(h.took.Microseconds()) / 1000,
	}}
	if c.name != "" {
		s.Facts["copy"], s.Facts["preferred"] = c.name, a.copies.prefers(c)
	}
	if c.shards > 1 {
		s.Facts["shards"] = c.shards
	}
	if !h.through.IsZero() {
		s.Facts["replicated_through"] = h.through.UTC().Format(argus.TimeFormat)
		s.Facts["lag_seconds"] = max(0, h.at.Sub(h.through).Seconds())
	}
	instead := "answers come from Postgres, slower."
	if others {
		instead = "another copy answers."
	}
	switch {
	case !h.asked:
		s.Status, s.Detail = "degraded", "ClickHouse was not asked yet."
	case c.ch.down.Load():
		s.Status, s.Detail = "down", "ClickHouse does not answer; the audit log is read from Postgres, wide windows slowly or not at all."
		if others {
			s.Detail = "This copy does not answer; another copy does."
		}
		if !h.awayAt.IsZero() {
			which := "Its servers answer, and not together: see the log of the API"
			if len(h.away) > 0 {
				which = "Of its " + strconv.Itoa(c.shards) + " servers no answer came from " + argus.Listed(h.away, "and")
			}
			s.Detail = which + "; " + instead
		}
		s.Facts["down_seconds"] = c.ch.downFor().Seconds()
	case c.refused.Load():
		s.Status, s.Detail = "degraded", "ClickHouse rejects questions, as when a table is missing; "+instead
		s.Facts["refused_seconds"] = time.Since(h.refused).Seconds()
	case h.version == 0:
		s.Status, s.Detail = "degraded", "Nothing was copied to ClickHouse yet."
	case h.tail > a.config.tailLimit:
		s.Status, s.Detail = "degraded", "The copy in ClickHouse is far behind; "+instead
	}
	return s
}
