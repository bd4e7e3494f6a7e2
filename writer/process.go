package writer

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"math/rand/v2"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/useargus/argus/connect"
)

// identity is this process's row in argus.audit_processes. A process that was frozen, or cut off from Postgres, may
// have been declared dead by another. It has lost its row then, and goes on under a new identity. Its old writers are
// closed. Its old intents have become, or are becoming, interrupted rows.
type identity struct {
	mu         sync.Mutex // held over a heartbeat, so that two lanes do not take two identities
	id         uuid.UUID  // mu
	registered bool       // mu
	beaten     time.Time  // of the newest heartbeat that Postgres confirmed; mu
	mayDeclare time.Time  // not before this may others be declared dead; mu
	published  atomic.Pointer[uuid.UUID]
}

// current is the identity under which writers are opened and intents made; uuid.Nil before the first.
func (p *identity) current() uuid.UUID {
	if id := p.published.Load(); id != nil {
		return *id
	}
	return uuid.Nil
}

// mayDeclareDead reports whether silence of others can be held against them: not right after an outage that
// this process shared with them.
func (p *identity) mayDeclareDead() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.registered && time.Now().After(p.mayDeclare)
}

// beat says in Postgres that this process lives, registering it when its row is not there, and returns its
// identity.
func (w *Writer) beat(conn *pgx.Conn) (uuid.UUID, error) {
	p := &w.process
	p.mu.Lock()
	defer p.mu.Unlock()
	w.servers.mu.Lock()
	is := w.servers.newest
	w.servers.mu.Unlock()
	alive := false
	if p.registered {
		err := w.step(func(ctx context.Context) error {
			tag, err := conn.Exec(ctx, `UPDATE argus.audit_processes SET heartbeat_at = clock_timestamp(), server = $2, timeline = $3
				WHERE process_id = $1`, p.id, is.Name, is.Timeline)
			alive = tag.RowsAffected() == 1
			return err
		})
		if err != nil {
			return uuid.Nil, err
		}
		if !alive {
			fresh := uuid.New()
			w.config.Logger.Warn("this process was declared dead while it was frozen or cut off; it takes a new identity",
				"process_id", p.id, "new_process_id", fresh, "silent_for", time.Since(p.beaten).Round(time.Millisecond))
			p.id, p.registered = fresh, false
		}
	}
	if !alive {
		err := w.step(func(ctx context.Context) error {
			_, err := conn.Exec(ctx, `INSERT INTO argus.audit_processes (process_id, host, server, timeline) VALUES ($1, $2, $3, $4)
				ON CONFLICT (process_id) DO UPDATE SET heartbeat_at = clock_timestamp()`, p.id, w.config.Host, is.Name, is.Timeline)
			return err
		})
		if err != nil {
			return uuid.Nil, err
		}
		p.registered = true
		id := p.id
		p.published.Store(&id)
		w.queue.rouse() // idle lanes see that their writers belong to the old identity
	}
	now := time.Now()
	if !p.beaten.IsZero() && now.Sub(p.beaten) > w.config.tuning.dead/2 {
		p.mayDeclare = now.Add(w.config.tuning.afterOutage)
	}
	p.beaten = now
	return p.id, nil
}

// dialer finds out about a peer that vanished, also while nothing is asked of it.
var dialer = &net.Dialer{
	KeepAliveConfig: net.KeepAliveConfig{Enable: true, Idle: 5 * time.Second, Interval: 2 * time.Second, Count: 3},
	Control:         setUserTimeout,
}

// connect opens a connection to Postgres that ends when this process or its network does.
func (w *Writer) connect(name string) (*pgx.Conn, error) {
	config, err := connect.Postgres(w.config.URL, name)
	if err != nil {
		return nil, err
	}
	for k, v := range map[string]string{
		"statement_timeout": "5s",
		// How long a backend outlives a client that vanished without a word.
		"tcp_keepalives_idle":     "5",
		"tcp_keepalives_interval": "2",
		"tcp_keepalives_count":    "3",
	} {
		config.RuntimeParams[k] = v
	}
	config.DialFunc = w.config.dial
	config.ConnectTimeout = w.config.tuning.connect
	config.DefaultQueryExecMode = pgx.QueryExecModeExec // one round trip a statement, and none is used twice
	// The URL may name several hosts, each of which gets its time.
	ctx, cancel := context.WithTimeout(w.life, w.config.tuning.connect*time.Duration(1+len(config.Fallbacks)))
	defer cancel()
	return connect.Open(ctx, config)
}

// servers is what this process has seen of Postgres: the system and the highest timeline that its lanes wrote to.
type servers struct {
	mu     sync.Mutex
	newest connect.Server // mu
}

// recognise rejects an old primary that came back. What is written there does not count: the new primary does not have it. A
// server that cannot say what it is, is not judged.
func (w *Writer) recognise(conn *pgx.Conn) error {
	var is connect.Server
	err := w.step(func(ctx context.Context) (err error) {
		is, err = connect.Identify(ctx, conn)
		return err
	})
	if rejectionOf(err) != nil {
		return nil
	}
	if err != nil {
		return fmt.Errorf("asking Postgres which system it is: %w", err)
	}
	w.servers.mu.Lock()
	defer w.servers.mu.Unlock()
	switch was := w.servers.newest; {
	case was.System == is.System && is.Timeline < was.Timeline:
		return fmt.Errorf("%s is an old primary that came back: %s has written on timeline %d. "+
			"If it was restored on purpose, restart this process", is, was.Name, was.Timeline)
	case was.System != "" && was.System != is.System:
		w.config.Logger.Error("Postgres is another database system now", "host", is.Name, "system", is.System, "was", was.System)
	case was.System != "" && was.Timeline != is.Timeline:
		w.config.Logger.Warn("Postgres failed over, or was restored", "host", is.Name, "timeline", is.Timeline, "was", was.Timeline)
	}
	w.servers.newest = is
	return nil
}

// step bounds one round trip to Postgres.
func (w *Writer) step(f func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(w.life, w.config.tuning.connect)
	defer cancel()
	return f(ctx)
}

// drop closes a connection without waiting for a server that does not answer.
func drop(conn *pgx.Conn) {
	ctx, cancel := context.WithTimeout(context.Background(), 100*time.Millisecond)
	defer cancel()
	conn.Close(ctx)
}

// control is the connection for everything but batches, made when it is needed.
type control struct {
	mu   sync.Mutex
	conn *pgx.Conn // nil when there is none; mu
}

// use calls f with the connection. After an error the connection is closed: the next use makes a new one.
func (c *control) use(w *Writer, f func(conn *pgx.Conn) error) (err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.conn == nil {
		if c.conn, err = w.connect(fmt.Sprintf("argus writer %.8s control", w.process.current())); err != nil {
			c.conn = nil
			return err
		}
	}
	if err = f(c.conn); err != nil {
		drop(c.conn)
		c.conn = nil
	}
	return err
}

func (c *control) close() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.conn != nil {
		drop(c.conn)
		c.conn = nil
	}
}

// heartbeat holds what the last heartbeat found out, for Check and the metrics.
type heartbeat struct {
	mu      sync.Mutex
	at      time.Time // mu
	problem error     // mu

	ahead      int           // monthly partitions after the present one; mu
	counted    time.Time     // when they were; mu
	skew       time.Duration // this machine's clock less Postgres's; mu
	maintained time.Time     // when argusd maintain last ran, by Postgres's clock; zero: never; mu
}

// sendHeartbeats sends heartbeats, looks after readiness and announces rows until the lanes have ended.
func (w *Writer) sendHeartbeats() {
	quiet := &sometimes{every: 10 * time.Second}
	for {
		err := w.control.use(w, func(conn *pgx.Conn) error {
			process, err := w.beat(conn)
			if err != nil {
				return err
			}
			if err := w.closeStrays(conn, process); err != nil {
				return err
			}
			return w.look(conn)
		})
		w.metrics.countPrimaries()
		pause := w.config.tuning.heartbeat
		if err != nil {
			pause = min(pause, 500*time.Millisecond)
			if w.life.Err() == nil {
				quiet.log(w.config.Logger, slog.LevelWarn, "no heartbeat of this process reaches Postgres", "cause", err)
			}
		}
		for due := time.After(jitter(pause)); due != nil; {
			select {
			case <-due:
				due = nil
			case <-w.news:
				if w.announce() != nil {
					due = nil // the heartbeat tells what is wrong
				}
			case <-w.closing:
				return
			}
		}
	}
}

// announceEvery is how often at most a process announces rows. Readers look often for longer than that after each row.
const announceEvery = 500 * time.Millisecond

// committed has rows announced, unless some were a moment ago.
func (w *Writer) committed(now time.Time) {
	last := w.announced.Load()
	at := now.UnixNano() // which may go back
	if (at-last > int64(announceEvery) || at < last) && w.announced.CompareAndSwap(last, at) {
		select {
		case w.news <- struct{}{}:
		default:
		}
	}
}

// announce wakes the readers of the log that rest. It is no part of a batch: commits with a notice wait for each other.
func (w *Writer) announce() error {
	return w.control.use(w, func(conn *pgx.Conn) error {
		return w.step(func(ctx context.Context) error { return connect.AnnounceSoon(ctx, conn, connect.RowsCommitted) })
	})
}

// jitter keeps processes that were started together from acting together.
func jitter(d time.Duration) time.Duration {
	return d - d/8 + time.Duration(rand.Int64N(int64(d/4)+1))
}

// closeStrays closes writers that were opened for this process without the answer arriving.
func (w *Writer) closeStrays(conn *pgx.Conn, process uuid.UUID) error {
	own := make([]int64, 0, len(w.lanes))
	for _, l := range w.lanes {
		own = append(own, l.writer.Load())
	}
	return w.step(func(ctx context.Context) error {
		_, err := conn.Exec(ctx, `UPDATE argus.audit_writers SET closed_at = clock_timestamp()
			WHERE process_id = $1 AND closed_at IS NULL AND writer_id <> ALL ($2)
			  AND opened_at < clock_timestamp() - interval '1 minute'`, process, own)
		return err
	})
}

const (
	monthsAhead = 2           // fewer partitions ahead of the present month make the server unready
	clockSkew   = time.Minute // as does a clock that differs from Postgres's by more
	monthsEvery = 20          // heartbeats between two looks at partitions
)

// look finds out what will keep rows from being written, though they can be now.
func (w *Writer) look(conn *pgx.Conn) error {
	h := &w.heartbeat
	h.mu.Lock()
	ahead := h.ahead
	// Months go by slowly, and to count them reads the catalog. While there are too few, maintenance is waited for.
	count := ahead < monthsAhead || time.Since(h.counted) > monthsEvery*w.config.tuning.heartbeat
	h.mu.Unlock()
	var theirs time.Time
	var maintained *time.Time
	sent := time.Now()
	err := w.step(func(ctx context.Context) error {
		return conn.QueryRow(ctx, "SELECT clock_timestamp(), (SELECT seen_at FROM argus.maintenance_clock)").Scan(&theirs, &maintained)
	})
	ours := sent.Add(time.Since(sent) / 2)
	if err == nil && count {
		err = w.step(func(ctx context.Context) error {
			return conn.QueryRow(ctx, "SELECT count(*) FROM argus.audit_months WHERE month > (now() AT TIME ZONE 'UTC')::date").Scan(&ahead)
		})
		if err == nil {
			err = w.findMonths(conn)
		}
	}
	if err != nil {
		return err
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	h.at, h.problem = time.Now(), unready(ours, theirs, ahead)
	h.ahead, h.skew = ahead, ours.Sub(theirs)
	if count {
		h.counted = h.at
	}
	if maintained != nil {
		h.maintained = *maintained
	}
	return nil
}

// findMonths looks for the partitions that rows of these days belong to. Those are left out that this role may not insert
// into, or where the trigger is missing: the log itself takes their rows.
func (w *Writer) findMonths(conn *pgx.Conn) error {
	return w.step(func(ctx context.Context) error {
		rows, err := conn.Query(ctx, `
			SELECT format('%I.%I', n.nspname, c.relname), p.lo, p.hi
			  FROM argus.partitions_of('argus.argus_audit_log'::regclass) p
			  JOIN pg_class c ON c.oid = p.part
			  JOIN pg_namespace n ON n.oid = c.relnamespace
			 WHERE p.lo <= now() + interval '1 day' AND p.hi > now() - interval '1 day' AND isfinite(p.lo) AND isfinite(p.hi)
			   AND c.relkind = 'r' AND has_table_privilege(c.oid, 'INSERT')
			   AND EXISTS (SELECT FROM pg_trigger t WHERE t.tgrelid = c.oid AND t.tgenabled IN ('O', 'A')
			                AND t.tgfoid = 'argus.rows_follow_writer'::regproc)`)
		if err != nil {
			return err
		}
		months, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (m month, err error) {
			return m, row.Scan(&m.table, &m.lo, &m.hi)
		})
		if err == nil {
			w.months.Store(&months)
		}
		return err
	})
}

// monthsAhead, clockSkew and maintainedAt are what look saw last; NaN before it has seen anything.
func (h *heartbeat) monthsAhead() float64 {
	return h.seen(func() float64 { return float64(h.ahead) })
}

func (h *heartbeat) clockSkew() float64 { return h.seen(func() float64 { return h.skew.Seconds() }) }

func (h *heartbeat) maintainedAt() float64 {
	return h.seen(func() float64 {
		if h.maintained.IsZero() {
			return 0
		}
		return float64(h.maintained.UnixMilli()) / 1000
	})
}

func (h *heartbeat) seen(f func() float64) float64 {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.at.IsZero() {
		return math.NaN()
	}
	return f()
}

func unready(ours, theirs time.Time, monthsThere int) (problem error) {
	if skew := ours.Sub(theirs).Abs(); skew > clockSkew {
		problem = fmt.Errorf("this machine's clock and Postgres's differ by %s", skew.Round(time.Second))
	}
	if monthsThere < monthsAhead {
		problem = errors.Join(problem, fmt.Errorf("only %d monthly partitions ahead: run argusd maintain", monthsThere))
	}
	return problem
}

// Check returns nil when this process may receive calls. Rows can be written now, and nothing in sight will stop
// that: there are two months of partitions ahead, and the clock is less than a minute off Postgres's. It does not ask
// Postgres itself and returns at once.
func (w *Writer) Check(context.Context) error {
	if _, err := w.unavailable(); err != nil {
		return err
	}
	w.heartbeat.mu.Lock()
	defer w.heartbeat.mu.Unlock()
	if w.heartbeat.at.IsZero() {
		return errors.New("partitions and clock are not checked yet")
	}
	return w.heartbeat.problem
}

// leave closes this process's writers and removes its row, after the lanes have ended. An intent that is left
// will be swept by another process, or this one's successor. So is everything, should this fail.
func (w *Writer) leave() (err error) {
	id := w.process.current()
	if id == uuid.Nil {
		return nil
	}
	for range 3 { // the connection may have ended since it was last used
		if err = w.signOff(id); err == nil {
			return nil
		}
	}
	return err
}

func (w *Writer) signOff(id uuid.UUID) error {
	return w.control.use(w, func(conn *pgx.Conn) error {
		err := w.step(func(ctx context.Context) error {
			_, err := conn.Exec(ctx, `UPDATE argus.audit_writers SET closed_at = clock_timestamp()
				WHERE process_id = $1 AND closed_at IS NULL`, id)
			return err
		})
		if err != nil {
			return err
		}
		return w.step(func(ctx context.Context) error {
			_, err := conn.Exec(ctx, `DELETE FROM argus.audit_processes WHERE process_id = $1`, id)
			return err
		})
	})
}

// sometimes limits a log line.
type sometimes struct {
	every time.Duration
	last  time.Time
	count int
}

func (s *sometimes) log(logger *slog.Logger, level slog.Level, msg string, args ...any) {
	s.count++
	if time.Since(s.last) < s.every {
		return
	}
	logger.Log(context.Background(), level, msg, append(args, "times", s.count)...)
	s.last, s.count = time.Now(), 0
}
