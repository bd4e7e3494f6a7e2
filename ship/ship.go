package ship

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"sync"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/useargus/argus/connect"
	"github.com/useargus/argus/ship/sink"
)

// Config says what is shipped where. PostgresURL and Sinks are required.
type Config struct {
	PostgresURL   string // of the role argus_ship, the primary
	ReadURL       string // of the role argus_ship, where rows are read: a standby; "" reads from the primary
	Sinks         *sink.File
	RetentionDays int // how long maintenance keeps rows; 365
	Logger        *slog.Logger
	Registerer    prometheus.Registerer // nil registers nothing

	Poll     time.Duration // between looks for new rows; 100 ms. A log that rests is looked at less often, up to a tenth as often
	LeaseTTL time.Duration // 4 s
	Status   time.Duration // between reports to Postgres; 1 s. One that says the same as the last comes after five times that
	Backoff  time.Duration // the first pause after a failure, doubled up to a minute; 500 ms
}

func (c *Config) setDefaults() {
	if c.ReadURL == "" {
		c.ReadURL = c.PostgresURL
	}
	if c.RetentionDays == 0 {
		c.RetentionDays = 365
	}
	if c.Logger == nil {
		c.Logger = slog.Default()
	}
	for _, d := range []struct {
		p *time.Duration
		v time.Duration
	}{{&c.Poll, 100 * time.Millisecond}, {&c.LeaseTTL, 4 * time.Second}, {&c.Status, time.Second}, {&c.Backoff, 500 * time.Millisecond}} {
		if *d.p <= 0 {
			*d.p = d.v
		}
	}
}

// Ship ships the log to the sinks that it holds the lease of, and stands by for the others.
type Ship struct {
	config  Config
	log     *slog.Logger
	metrics *metrics
	primary *pgxpool.Pool // positions, leases and orders
	rows    *pgxpool.Pool // the log
	leases  *leases
	runners []*runner
	news    notice // rows were committed
	orders  notice // operators asked for something
}

// New checks that every sink can be made, and connects to nothing yet. Close releases what it holds.
func New(config Config) (*Ship, error) {
	config.setDefaults()
	s := &Ship{config: config, log: config.Logger.With("stage", "ship"), metrics: newMetrics(config.Registerer)}
	for _, d := range config.Sinks.Sinks {
		r, err := newRunner(s, d)
		if err != nil {
			return nil, err
		}
		s.runners = append(s.runners, r)
	}
	host, _ := os.Hostname()
	s.leases = &leases{url: config.PostgresURL, holder: uuid.New(), ttl: config.LeaseTTL, host: fmt.Sprintf("%s/%d", host, os.Getpid())}
	open := func(url string, params map[string]string) (*pgxpool.Pool, error) {
		pc, err := connect.PostgresPool(url, "argus_ship")
		if err != nil {
			return nil, err
		}
		for name, value := range params {
			pc.ConnConfig.RuntimeParams[name] = value
		}
		pc.ConnConfig.ConnectTimeout = 5 * time.Second
		pc.MaxConns = int32(4 + 2*len(s.runners))
		return pgxpool.NewWithConfig(context.Background(), pc)
	}
	var err error
	if s.primary, err = open(config.PostgresURL, map[string]string{"jit": "off", "plan_cache_mode": "force_generic_plan"}); err != nil {
		return nil, err
	}
	// What is read has an index, with any statistics of a young table. The plan does not depend on the values, and planning
	// over the log's partitions takes longer than reading a few rows.
	if s.rows, err = open(config.ReadURL, map[string]string{"jit": "off", "plan_cache_mode": "force_generic_plan", "enable_seqscan": "off",
		"enable_bitmapscan": "off", "enable_sort": "off", "max_parallel_workers_per_gather": "0", "default_transaction_read_only": "on"}); err != nil {
		s.primary.Close()
		return nil, err
	}
	return s, nil
}

// Close releases connections. Run must have returned.
func (s *Ship) Close() {
	for _, r := range s.runners {
		r.Close()
	}
	s.leases.close()
	s.primary.Close()
	s.rows.Close()
}

// Run ships until ctx ends, and returns nil then. Failures of Postgres and of receivers do not end it.
func (s *Ship) Run(ctx context.Context) error {
	pause := time.Duration(0)
	for {
		err := s.declare(ctx)
		if err == nil {
			break
		}
		if ctx.Err() != nil {
			return nil
		}
		s.log.Error("the sinks could not be declared; trying again", "error", err)
		pause = min(max(2*pause, 50*time.Millisecond), 5*time.Second)
		if wait(ctx, pause) != nil {
			return nil
		}
	}
	var running sync.WaitGroup
	defer func() {
		for _, r := range s.runners {
			r.stop()
		}
		running.Wait()
		s.leases.close()
	}()
	renewed := time.Now()
	for {
		asked := time.Now()
		names := make([]string, 0, len(s.runners))
		for _, r := range s.runners {
			names = append(names, r.declaration.Name)
		}
		held, err := s.leases.take(ctx, names)
		switch {
		case ctx.Err() != nil:
			return nil
		case err == nil:
			renewed = asked
			for _, r := range s.runners {
				if held[r.declaration.Name] {
					r.start(ctx, &running)
				} else {
					r.stop()
				}
			}
		default:
			s.log.Warn("the leases could not be renewed", "error", err)
			if err := s.declare(ctx); err != nil && ctx.Err() == nil {
				s.log.Warn("the sinks could not be declared again", "error", err)
			}
			if time.Since(renewed) > s.config.LeaseTTL {
				for _, r := range s.runners {
					r.stop()
				}
			}
		}
		if s.leases.rest(ctx, s.heard) != nil {
			return nil
		}
	}
}

// heard wakes what rests.
func (s *Ship) heard(channel string) {
	if channel == connect.RowsCommitted {
		s.news.tell()
	} else {
		s.orders.tell()
	}
}

// notice is told to all that wait for it.
type notice struct {
	mu   sync.Mutex
	told chan struct{} // closed, and made anew, by tell; mu
}

// next is closed by the next tell.
func (n *notice) next() <-chan struct{} {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.told == nil {
		n.told = make(chan struct{})
	}
	return n.told
}

func (n *notice) tell() {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.told != nil {
		close(n.told)
		n.told = nil
	}
}

// rest is how many times longer than usual what finds nothing waits for its next look. A notice ends the wait.
const rest = 10

// declare says in Postgres which sinks there are. One that is in no file any more stays there, with its position. It waits for
// no synchronous standby: what a failover takes back is declared again when the leases cannot be renewed.
func (s *Ship) declare(ctx context.Context) error {
	return s.unwaited(ctx, func(tx pgx.Tx) error {
		var names []string
		for _, r := range s.runners {
			d := r.declaration
			names = append(names, d.Name)
			if _, err := tx.Exec(ctx, `INSERT INTO argus.sinks (sink, kind, target, format, filter, declared) VALUES ($1, $2, $3, $4, $5, true)
				ON CONFLICT (sink) DO UPDATE SET kind = excluded.kind, target = excluded.target, format = excluded.format, filter = excluded.filter, declared = true`,
				d.Name, d.Type(), d.Target(), d.Format, r.filter); err != nil {
				return fmt.Errorf("declaring the sink %s: %w", d.Name, err)
			}
		}
		_, err := tx.Exec(ctx, `UPDATE argus.sinks s SET declared = false WHERE declared AND NOT sink = ANY($1::text[])
			AND NOT EXISTS (SELECT FROM argus.sink_leases l WHERE l.sink = s.sink AND l.expires_at > clock_timestamp())`, names)
		return err
	})
}

// unwaited commits without a wait for synchronous standbys: what sinks say of themselves is told while a standby is away.
func (s *Ship) unwaited(ctx context.Context, f func(pgx.Tx) error) error {
	return pgx.BeginFunc(ctx, s.primary, func(tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, "SET LOCAL synchronous_commit = off"); err != nil {
			return err
		}
		return f(tx)
	})
}

func wait(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// errStopped: the stream ended because its process stops, lost the lease, or paused.
var errStopped = errors.New("stopped")
