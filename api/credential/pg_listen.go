package credential

import (
	"context"
	"errors"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/useargus/argus/connect"
)

const (
	credentialChannel = "argus_credentials"
	echoEvery         = 300 * time.Millisecond
	echoTimeout       = 700 * time.Millisecond
)

// errPooled: nothing that was revoked is sure to be heard.
var errPooled = errors.New("a pooler changes the backend under the connection: ARGUS needs Postgres itself, or a pooler in session mode")

// listen keeps a connection on the channel of revocations for as long as ctx lives. An open connection does not keep
// remembered tokens alive. Only its own notices do, when they come back. So it also detects a half dead connection, a
// hung server, and a pooler that only pretends to LISTEN.
func (v *Verifier) listen(ctx context.Context) {
	wait := 100 * time.Millisecond
	for ctx.Err() == nil {
		began := time.Now()
		err := v.listenOnce(ctx)
		v.secrets.lost()
		if ctx.Err() != nil {
			return
		}
		if time.Since(began) > 5*time.Second {
			wait = 100 * time.Millisecond
		}
		v.log.Warn("revocation channel lost; every token is looked up until it is back", "cause", err, "retry_in", wait)
		v.config.Listening(false)
		select {
		case <-ctx.Done():
		case <-time.After(wait):
		}
		wait = min(2*wait, 2*time.Second)
	}
}

func (v *Verifier) listenOnce(ctx context.Context) error {
	start, cancel := context.WithTimeout(ctx, 3*time.Second)
	defer cancel()
	conn, err := connect.Open(start, v.pool.Config().ConnConfig.Copy())
	if err != nil {
		return err
	}
	defer func() {
		end, done := context.WithTimeout(context.WithoutCancel(ctx), 200*time.Millisecond)
		defer done()
		_ = conn.Close(end)
	}()
	if _, err := conn.Exec(start, "LISTEN "+credentialChannel); err != nil {
		return err
	}
	var listener uint32
	if err := conn.QueryRow(start, "SELECT pg_backend_pid()").Scan(&listener); err != nil {
		return err
	}
	nonce := "echo " + uuid.NewString()
	for {
		sent := time.Now()
		if err := v.echo(ctx, conn, listener, nonce); err != nil {
			return err
		}
		v.secrets.heard(sent)
		v.config.Listening(true)
		for rest := echoEvery; rest > 0; rest = echoEvery - time.Since(sent) {
			quiet, stop := context.WithTimeout(ctx, rest)
			n, err := conn.WaitForNotification(quiet)
			timedOut := quiet.Err() != nil
			stop()
			if err != nil {
				if timedOut && ctx.Err() == nil && !conn.IsClosed() {
					break
				}
				return err
			}
			v.revoked(n.Payload)
		}
	}
}

// echo sends a notice and waits until it is back. The server delivers notices in the order of their commits, so
// everything that was revoked before has been heard then. A pooler that lends a session for a transaction is told by its
// backends, which change: what one of them listens to reaches us only while we happen to have it.
func (v *Verifier) echo(ctx context.Context, conn *pgx.Conn, listener uint32, nonce string) error {
	ctx, cancel := context.WithTimeout(ctx, echoTimeout)
	defer cancel()
	var backend uint32
	if err := conn.QueryRow(ctx, "SELECT pg_backend_pid(), pg_notify($1, $2)::text", credentialChannel, nonce).Scan(&backend, nil); err != nil {
		return err
	}
	if backend != listener {
		return errPooled
	}
	for {
		n, err := conn.WaitForNotification(ctx)
		if err != nil {
			return err
		}
		if n.Payload == nonce {
			return nil
		}
		v.revoked(n.Payload)
	}
}

func (v *Verifier) revoked(payload string) {
	if strings.HasPrefix(payload, "echo ") { // another process's
		return
	}
	if id, err := uuid.Parse(payload); err == nil {
		v.secrets.forget(id)
		v.config.Heard(TokenKey(id))
	}
}
