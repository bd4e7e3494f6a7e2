package replicator

import (
	"context"
	"encoding/json"
	"sync"
	"time"

	"github.com/useargus/argus/replicator/wal"
)

// Status is what argus.replicator_status holds as jsonb, written each second or two by the active replicator,
// for GET /v1/health. Who finds updated_at older than ten seconds knows that none is active.
type Status struct {
	Host string `json:"host"`
	// Copy is the name of the copy in ARGUS_CLICKHOUSE_URL, "" for one plain URL. Shard of Shards is the server of it, 1 of 1
	// where it is not shared out. Address is the server's host:port. Server is its identity, "" until it was read.
	Copy    string `json:"copy"`
	Shard   int    `json:"shard"`
	Shards  int    `json:"shards"`
	Address string `json:"address"`
	Server  string `json:"server"`
	// State is starting, copying (the first copy, or healing), streaming or failing.
	State string `json:"state"`
	// LagBytes of write-ahead log are not in ClickHouse; LagSeconds is the age of the oldest commit among
	// them, 0 when all is there.
	LagBytes   int64   `json:"lag_bytes"`
	LagSeconds float64 `json:"lag_seconds"`
	// RowsPerSecond over the last ten seconds.
	RowsPerSecond float64       `json:"rows_per_second"`
	WatermarkAt   *time.Time    `json:"watermark_at"` // when the newest watermark was published; null before the first
	WatermarkLSN  string        `json:"watermark_lsn"`
	Slot          wal.SlotState `json:"slot"`
	// CopiedRows of ExpectedRows while State is copying.
	CopiedRows   int64 `json:"copied_rows"`
	ExpectedRows int64 `json:"expected_rows"`
	// FindingCount is how many findings there are, and Findings the first few. See Finding.
	FindingCount int        `json:"finding_count"`
	Findings     []Finding  `json:"findings,omitempty"`
	LastError    string     `json:"last_error"` // "" when there was none since the start
	LastErrorAt  *time.Time `json:"last_error_at"`
	StartedAt    time.Time  `json:"started_at"`
}

// health gathers the status; many goroutines write to it.
type health struct {
	mu     sync.Mutex
	status Status
	rows   int64     // copied since the start
	ring   [11]int64 // rows at the last eleven seconds
	ticks  int
}

func (h *health) update(f func(*Status)) {
	h.mu.Lock()
	defer h.mu.Unlock()
	f(&h.status)
}

func (h *health) copied(rows int) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.rows += int64(rows)
}

// count is how many rows were copied since the start.
func (h *health) count() int64 {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.rows
}

func (h *health) failed(err error) {
	if err == nil {
		return
	}
	h.update(func(s *Status) {
		now := time.Now().UTC()
		s.State, s.LastError, s.LastErrorAt = "failing", err.Error(), &now
	})
}

// tick is called once a second.
func (h *health) tick() {
	h.mu.Lock()
	defer h.mu.Unlock()
	n := len(h.ring)
	h.ring[h.ticks%n] = h.rows
	seconds := min(h.ticks, n-1)
	if seconds > 0 {
		h.status.RowsPerSecond = float64(h.rows-h.ring[(h.ticks-seconds)%n]) / float64(seconds)
	}
	h.ticks++
}

// report writes the status to Postgres while this replicator is active.
func (r *Replicator) report(ctx context.Context) {
	copied := int64(-1)
	for quiet := false; ; {
		r.health.tick()
		// While no row comes each other second is enough: GET /v1/health is two seconds old at most.
		if rows := r.health.count(); rows != copied || !quiet {
			r.writeStatus(ctx)
			quiet = rows == copied
			copied = rows
		} else {
			quiet = false
		}
		if sleep(ctx, time.Second) != nil {
			return
		}
	}
}

// writeStatus writes what is known now. Each slot has a row: two copies of one log do not overwrite each other's.
func (r *Replicator) writeStatus(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	r.health.mu.Lock()
	data, err := json.Marshal(r.health.status)
	r.health.mu.Unlock()
	if err != nil {
		return
	}
	// It waits for no synchronous standby.
	if _, err := r.pool.Exec(ctx, `
		INSERT INTO argus.replicator_status (slot, updated_at, status)
		SELECT $1, clock_timestamp(), $2::jsonb FROM set_config('synchronous_commit', 'off', true)
		ON CONFLICT (slot) DO UPDATE SET updated_at = excluded.updated_at, status = excluded.status`, r.config.Slot, data); err != nil {
		r.log.Debug("the status was not written", "error", err)
	}
}
