package ledger

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/useargus/argus/connect"
)

// lease says which sealer is active. It runs out by Postgres's clock, or at once with its holder's connection. Two that
// seal at once do no harm: they meet at the primary key of the runs.
type lease struct {
	url    string
	holder uuid.UUID
	host   string
	ttl    time.Duration

	mu   sync.Mutex
	conn *pgx.Conn // of its own: it stands for the holder's life
}

// errStandby: another sealer holds the lease.
var errStandby = errors.New("another sealer holds the lease")

// take takes or renews the lease, or returns errStandby.
func (l *lease) take(ctx context.Context) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	ctx, cancel := context.WithTimeout(ctx, l.ttl/2)
	defer cancel()
	if l.conn == nil || l.conn.IsClosed() {
		config, err := connect.Postgres(l.url, "argus_ledger_lease")
		if err != nil {
			return err
		}
		config.RuntimeParams["synchronous_commit"] = "off" // a lost renewal is no loss
		if l.conn, err = connect.Open(ctx, config); err != nil {
			return fmt.Errorf("connecting to Postgres: %w", err)
		}
		if err := connect.Listen(ctx, l.conn, connect.RowsCommitted); err != nil {
			l.conn.Close(context.WithoutCancel(ctx))
			return fmt.Errorf("listening for rows: %w", err)
		}
	}
	tag, err := l.conn.Exec(ctx, `
		INSERT INTO argus.ledger_lease AS l (holder, host, expires_at, backend)
		SELECT $1, $2, clock_timestamp() + $3, a.pid || '@' || extract(epoch FROM a.backend_start)
		  FROM pg_stat_activity a WHERE a.pid = pg_backend_pid()
		ON CONFLICT (one) DO UPDATE
		   SET holder = excluded.holder, host = excluded.host, expires_at = excluded.expires_at, backend = excluded.backend
		 WHERE l.holder = excluded.holder OR l.expires_at < clock_timestamp()
		    OR NOT EXISTS (SELECT FROM pg_stat_activity a WHERE a.pid || '@' || extract(epoch FROM a.backend_start) = l.backend
		                      OR a.backend_start IS NULL AND a.pid::text = split_part(l.backend, '@', 1))`, l.holder, l.host, l.ttl)
	if err != nil {
		l.conn.Close(context.WithoutCancel(ctx))
		return fmt.Errorf("renewing the lease: %w", err)
	}
	if tag.RowsAffected() == 0 {
		return errStandby
	}
	return nil
}

// keep renews the lease until ctx ends, and calls lost when another may have it. Meanwhile it calls news when there are rows.
func (l *lease) keep(ctx context.Context, lost func(error), news func()) {
	renewed := time.Now()
	for l.rest(ctx, news) == nil {
		asked := time.Now()
		err := l.take(ctx)
		switch {
		case err == nil:
			renewed = asked
		case ctx.Err() != nil:
			return
		case errors.Is(err, errStandby), time.Since(renewed) > l.ttl:
			lost(err)
			return
		}
	}
}

// rest waits until the lease is to be renewed. A lost connection is for take to make anew.
func (l *lease) rest(ctx context.Context, news func()) error {
	began := time.Now()
	if l.conn != nil && !l.conn.IsClosed() {
		_ = connect.Hear(ctx, l.conn, l.ttl/4, func(string) { news() })
	}
	return sleep(ctx, l.ttl/4-time.Since(began))
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

func sleep(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
