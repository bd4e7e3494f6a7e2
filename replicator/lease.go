package replicator

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/useargus/argus/connect"
)

// lease says which replicator of a slot is active, so that the others stand by instead of taking the slot
// from one another. It runs out by Postgres's clock, or at once with the connection of its holder: one that was
// killed is succeeded within a moment, one that hangs after ttl.
//
// Nothing depends on its exclusiveness (see term): a holder that was frozen, and wakes after another took it,
// does no harm before it notices.
type lease struct {
	url    string
	slot   string
	holder uuid.UUID
	host   string
	ttl    time.Duration

	mu   sync.Mutex
	conn *pgx.Conn // of its own, because it stands for the holder's life; nil when there is none
}

// errLeaseLost: another replicator holds the lease.
var errLeaseLost = errors.New("another replicator holds the lease")

// take takes or renews the lease. With anew it also raises the epoch, past atLeast, and returns it. While
// another holds the lease it returns errLeaseLost, unless by force.
func (l *lease) take(ctx context.Context, anew bool, atLeast uint64, force bool) (epoch uint64, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	ctx, cancel := context.WithTimeout(ctx, l.ttl/2)
	defer cancel()
	if l.conn == nil || l.conn.IsClosed() {
		config, err := connect.Postgres(l.url, "argus_replicator_lease")
		if err != nil {
			return 0, err
		}
		// A small commit each second is no loss after a crash, so it need not be flushed.
		config.RuntimeParams["synchronous_commit"] = "off"
		if l.conn, err = connect.Open(ctx, config); err != nil {
			return 0, fmt.Errorf("connecting to Postgres: %w", err)
		}
	}
	var e int64
	// A backend is named by its process and its start, because processes' numbers come again. The start
	// of another role's backend is hidden; while one of its number lives, the lease runs out by its time.
	err = l.conn.QueryRow(ctx, `
		INSERT INTO argus.replicator_lease AS l (slot, holder, host, epoch, expires_at, backend)
		SELECT $1, $2, $3, $4 + 1, clock_timestamp() + $5, a.pid || '@' || extract(epoch FROM a.backend_start)
		  FROM pg_stat_activity a WHERE a.pid = pg_backend_pid()
		ON CONFLICT (slot) DO UPDATE
		   SET holder = excluded.holder, host = excluded.host, expires_at = excluded.expires_at, backend = excluded.backend,
		       epoch = CASE WHEN $6 THEN greatest(l.epoch, $4) + 1 ELSE l.epoch END
		 WHERE l.holder = excluded.holder OR l.expires_at < clock_timestamp() OR $7
		    OR NOT EXISTS (SELECT FROM pg_stat_activity a WHERE a.pid || '@' || extract(epoch FROM a.backend_start) = l.backend
		                      OR a.backend_start IS NULL AND a.pid::text = split_part(l.backend, '@', 1))
		RETURNING epoch`, l.slot, l.holder, l.host, int64(atLeast), l.ttl, anew, force).Scan(&e)
	switch {
	case errors.Is(err, pgx.ErrNoRows):
		return 0, errLeaseLost
	case err != nil:
		l.conn.Close(context.WithoutCancel(ctx))
		return 0, fmt.Errorf("renewing the lease: %w", err)
	}
	return uint64(e), nil
}

// keep renews the lease until ctx ends, and calls lost when it is another's, or could not be renewed for so
// long that another may have it.
func (l *lease) keep(ctx context.Context, lost func(error)) {
	renewed := time.Now()
	for sleep(ctx, l.ttl/4) == nil {
		asked := time.Now()
		_, err := l.take(ctx, false, 0, false)
		switch {
		case err == nil:
			renewed = asked
		case ctx.Err() != nil:
			return
		case errors.Is(err, errLeaseLost):
			lost(err)
			return
		case time.Since(renewed) > l.ttl:
			lost(fmt.Errorf("the lease could not be renewed: %w", err))
			return
		}
	}
}

// release lets another take the lease at once.
func (l *lease) release(log *slog.Logger) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.conn == nil || l.conn.IsClosed() {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
	defer cancel()
	if _, err := l.conn.Exec(ctx, `UPDATE argus.replicator_lease SET expires_at = '-infinity'
		WHERE slot = $1 AND holder = $2`, l.slot, l.holder); err != nil {
		log.Debug("the lease was not released", "error", err)
	}
}

// close ends the connection, and the lease with it.
func (l *lease) close() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.conn != nil {
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		l.conn.Close(ctx)
		l.conn = nil
	}
}
