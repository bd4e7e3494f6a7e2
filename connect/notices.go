package connect

import (
	"context"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

// Channels of notices between the processes. Any login may send one, and a pooler or a failover may lose one. So a notice only
// wakes a process that rests, and such a process looks by itself every second or so.
const (
	RowsCommitted = "argus_rows"  // rows of calls, when none was announced a moment ago
	SinksChanged  = "argus_sinks" // an operator asked something of a sink
)

// Announce sends a notice that stands for no more than itself. In a transaction it is sent when that has committed. By itself it is a
// commit, too, and waits for the disk and for synchronous standbys: AnnounceSoon does not.
func Announce(ctx context.Context, conn interface {
	Exec(context.Context, string, ...any) (pgconn.CommandTag, error)
}, channel string) error {
	_, err := conn.Exec(ctx, "SELECT pg_notify($1, '')", channel)
	return err
}

// AnnounceSoon is Announce for a connection that is in no transaction: it does not wait for its commit to be durable.
func AnnounceSoon(ctx context.Context, conn *pgx.Conn, channel string) error {
	_, err := conn.Exec(ctx, "SELECT pg_notify($1, '') FROM set_config('synchronous_commit', 'off', true)", channel)
	return err
}

// Listen has the connection receive the notices of the channels.
func Listen(ctx context.Context, conn *pgx.Conn, channels ...string) error {
	for _, channel := range channels {
		if _, err := conn.Exec(ctx, "LISTEN "+pgx.Identifier{channel}.Sanitize()); err != nil {
			return err
		}
	}
	return nil
}

// hearEvery bounds how often a flood of notices wakes a process. Right after a notice it looks often by itself.
const hearEvery = 20 * time.Millisecond

// Hear waits that long on a connection that listens, and calls heard for a notice. It returns an error when ctx or the
// connection ended. Nothing else may use the connection meanwhile.
func Hear(ctx context.Context, conn *pgx.Conn, d time.Duration, heard func(channel string)) error {
	quiet, stop := context.WithTimeout(ctx, d)
	defer stop()
	last := map[string]time.Time{}
	for {
		n, err := conn.WaitForNotification(quiet)
		switch {
		case err == nil && time.Since(last[n.Channel]) < hearEvery:
		case err == nil:
			last[n.Channel] = time.Now()
			heard(n.Channel)
		case ctx.Err() != nil:
			return ctx.Err()
		case quiet.Err() != nil && !conn.IsClosed():
			return nil
		default:
			return err
		}
	}
}
