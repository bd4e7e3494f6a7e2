package writer

import (
	"fmt"
	"log/slog"
	"sync"
	"time"
)

// health knows which lanes can commit, and since when none can.
type health struct {
	log   *slog.Logger
	grace time.Duration

	mu     sync.Mutex
	open   int       // lanes that can commit; mu
	since  time.Time // when the last one ceased to, zero while one can; mu
	cause  error     // of the newest failure; mu
	logged time.Time // when it was last written to the log; mu
}

// begin starts the clock: no lane is open yet.
func (h *health) begin() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.since = time.Now()
}

// opened is called by a lane that was not open.
func (h *health) opened() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.open++
	if h.open == 1 && !h.since.IsZero() {
		if !h.logged.IsZero() {
			h.log.Info("audit rows can be written again", "after", time.Since(h.since).Round(time.Millisecond))
		}
		h.since, h.cause, h.logged = time.Time{}, nil, time.Time{}
	}
}

// closed is called by a lane that was open.
func (h *health) closed() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.open--
	if h.open == 0 {
		h.since = time.Now()
	}
}

// failed notes why a lane is not open. While none is, that is logged every ten seconds.
func (h *health) failed(err error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.cause = err
	if h.open > 0 || time.Since(h.since) < h.grace || time.Since(h.logged) < 10*time.Second {
		return
	}
	h.logged = time.Now()
	h.log.Error("audit rows cannot be written; authenticated calls fail",
		"for", time.Since(h.since).Round(time.Millisecond), "cause", err)
}

// down returns what keeps every lane from committing, when that has lasted longer than the grace.
func (h *health) down() error {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.open > 0 || time.Since(h.since) < h.grace {
		return nil
	}
	return fmt.Errorf("no lane to Postgres for %s: %w", time.Since(h.since).Round(time.Millisecond), h.cause)
}

func (h *health) lanesOpen() int {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.open
}

func (h *health) downFor() time.Duration {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.open > 0 || h.since.IsZero() {
		return 0
	}
	return time.Since(h.since)
}
