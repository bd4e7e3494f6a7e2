package writer

import (
	"fmt"
	"log/slog"
	"os"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/useargus/argus/connect"
)

// Config says how to write. Only URL is required.
type Config struct {
	// URL of Postgres, for the role argus_api.
	URL string
	// Lanes is the number of connections that commit batches side by side, 1 to 16. 0 takes 2: one batch fills while
	// another is on its way to disk. More lanes did not pay, because rows cost less the fewer commits they share. So
	// a lane begins a batch beside others only when it is as large as what is on its way.
	Lanes int
	// Wait bounds a call's wait for its row, from Append to its answer. 0 takes 1.5 s; at least 100 ms.
	Wait time.Duration
	// Queue is the number of rows that may wait for a lane; calls beyond it fail at once. 0 takes 8192.
	Queue int
	// Host names this machine in argus.audit_processes; the machine's own name when empty.
	Host string
	// Logger is slog's default when nil.
	Logger *slog.Logger
	// KeepRecordedAt leaves recorded_at as the records bring it. It is for a demonstration of the past alone: the
	// API never sets it, and recorded_at is when a batch was built.
	KeepRecordedAt bool
	// Registerer takes the metrics argus_writer_*; nil registers none.
	Registerer prometheus.Registerer

	tuning tuning
	dial   pgconn.DialFunc // tests break connections here
}

// tuning is what tests shorten.
type tuning struct {
	roundTrip   time.Duration // of a batch; after it the batch is in doubt
	connect     time.Duration // of one attempt to open a lane, each of its steps included
	retry       time.Duration // between two attempts
	grace       time.Duration // of an outage, before calls fail without waiting
	heartbeat   time.Duration // between two heartbeats, and between two sweeps
	dead        time.Duration // without a heartbeat a process is dead after this
	afterOutage time.Duration // no process is declared dead this soon after an outage of Postgres

	// A batch is at most this large, which bounds a lane's memory and the time of one commit.
	rows, bytes int
}

func (c Config) withDefaults() (Config, error) {
	if c.Lanes == 0 {
		c.Lanes = 2
	}
	if c.Wait == 0 {
		c.Wait = 1500 * time.Millisecond
	}
	if c.Queue == 0 {
		c.Queue = 8192
	}
	if c.Lanes < 1 || c.Lanes > 16 {
		return c, fmt.Errorf("writer: %d lanes; 1 to 16 make sense", c.Lanes)
	}
	if c.Wait < 100*time.Millisecond {
		return c, fmt.Errorf("writer: a wait of %s is too short to commit anything; give it at least 100ms", c.Wait)
	}
	if c.Queue < 1 {
		return c, fmt.Errorf("writer: a queue of %d rows", c.Queue)
	}
	if _, err := connect.Postgres(c.URL, ""); err != nil {
		return c, fmt.Errorf("writer: the Postgres URL: %w", err)
	}
	if c.Host == "" {
		c.Host, _ = os.Hostname()
	}
	if c.Logger == nil {
		c.Logger = slog.Default()
	}
	c.Logger = c.Logger.With("stage", "writer")
	if c.dial == nil {
		c.dial = dialer.DialContext
	}
	t := &c.tuning
	for _, d := range []struct {
		v *time.Duration
		d time.Duration
	}{
		{&t.roundTrip, min(c.Wait*2/3, 5*time.Second)}, {&t.connect, 750 * time.Millisecond}, {&t.retry, 100 * time.Millisecond},
		{&t.grace, 250 * time.Millisecond}, {&t.heartbeat, 3 * time.Second}, {&t.dead, 15 * time.Second},
		{&t.afterOutage, 5 * time.Second},
	} {
		if *d.v == 0 {
			*d.v = d.d
		}
	}
	if t.rows == 0 {
		t.rows = 1024
	}
	if t.bytes == 0 {
		t.bytes = 1 << 20
	}
	return c, nil
}
