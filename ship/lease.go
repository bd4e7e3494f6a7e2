package ship

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/useargus/argus/connect"
)

// leases say which process ships a sink. A lease runs out by Postgres's clock, or at once with its holder's connection.
// Correctness does not rest on it: two that ship one sink send the same batches, and meet at the position's version.
type leases struct {
	url    string
	holder uuid.UUID
	host   string
	ttl    time.Duration

	mu   sync.Mutex
	conn *pgx.Conn // of its own: it stands for the holder's life
}

// take takes or renews the leases of the sinks, and gives those that this process has now.
func (l *leases) take(ctx context.Context, sinks []string) (map[string]bool, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	ctx, cancel := context.WithTimeout(ctx, l.ttl/2)
	defer cancel()
	if l.conn == nil || l.conn.IsClosed() {
		config, err := connect.Postgres(l.url, "argus_ship_lease")
		if err != nil {
			return nil, err
		}
		config.RuntimeParams["synchronous_commit"] = "off" // a lost renewal is no loss
		if l.conn, err = connect.Open(ctx, config); err != nil {
			return nil, fmt.Errorf("connecting to Postgres: %w", err)
		}
		if err := connect.Listen(ctx, l.conn, connect.RowsCommitted, connect.SinksChanged); err != nil {
			l.conn.Close(context.WithoutCancel(ctx))
			return nil, fmt.Errorf("listening for rows: %w", err)
		}
	}
	// Of a backend that another role owns, pg_stat_activity shows no start.
	rows, err := l.conn.Query(ctx, `
		INSERT INTO argus.sink_leases AS l (sink, holder, host, expires_at, backend)
		SELECT s.sink, $2, $3, clock_timestamp() + $4, a.pid || '@' || extract(epoch FROM a.backend_start)
		  FROM unnest($1::text[]) s (sink), pg_stat_activity a WHERE a.pid = pg_backend_pid()
		ON CONFLICT (sink) DO UPDATE
		   SET holder = excluded.holder, host = excluded.host, expires_at = excluded.expires_at, backend = excluded.backend
		 WHERE l.holder = excluded.holder OR l.expires_at < clock_timestamp()
		    OR NOT EXISTS (SELECT FROM pg_stat_activity a WHERE a.pid || '@' || extract(epoch FROM a.backend_start) = l.backend
		                      OR a.backend_start IS NULL AND a.pid::text = split_part(l.backend, '@', 1))
		RETURNING sink`, sinks, l.holder, l.host, l.ttl)
	var held []string
	if err == nil {
		held, err = pgx.CollectRows(rows, pgx.RowTo[string])
	}
	if err != nil {
		l.conn.Close(context.WithoutCancel(ctx))
		return nil, fmt.Errorf("renewing the leases: %w", err)
	}
	set := make(map[string]bool, len(held))
	for _, sink := range held {
		set[sink] = true
	}
	return set, nil
}

// rest waits until the leases are to be renewed, and calls heard for each notice. A lost connection is for take to make anew.
func (l *leases) rest(ctx context.Context, heard func(channel string)) error {
	began := time.Now()
	if l.conn != nil && !l.conn.IsClosed() {
		_ = connect.Hear(ctx, l.conn, l.ttl/4, heard)
	}
	return wait(ctx, l.ttl/4-time.Since(began))
}

// close ends the connection, and the leases with it.
func (l *leases) close() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.conn != nil {
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		l.conn.Close(ctx)
		l.conn = nil
	}
}
