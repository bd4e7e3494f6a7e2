package api

import (
	"context"
	"errors"
	"net"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/useargus/argus"
	"github.com/useargus/argus/connect"
)

// Tx is a transaction on the API's pool. Files named pg_*.go are the only ones that speak SQL.
type Tx = pgx.Tx

// Pool is the API's pool of connections, as the role argus_api.
type Pool = pgxpool.Pool

// errNoRow is what a query for one row returns when there is none.
var errNoRow = pgx.ErrNoRows

// How long Postgres is waited for. The sum of what a call without effects may wait for stays below two seconds,
// the bound of W3.
const (
	lookupTimeout = 1200 * time.Millisecond // one small read, such as a credential's
	beginTimeout  = 1200 * time.Millisecond // a connection, BEGIN and the intent
	txTimeout     = 5 * time.Second         // the whole transaction, lock waits included
	commitTimeout = 1200 * time.Millisecond // its COMMIT, which waits for synchronous standbys
	doubtTimeout  = 600 * time.Millisecond  // resolving a lost answer to COMMIT while the caller waits
)

// errDoubt says that the answer to a COMMIT was lost and could not be found out in time.
var errDoubt = errors.New("the outcome of a commit is not known")

// unreachable reports whether err means that Postgres could not be asked or broke off, rather than that it
// rejected what was asked.
func unreachable(err error) bool {
	var pg *pgconn.PgError
	if errors.As(err, &pg) {
		switch pg.Code[:min(2, len(pg.Code))] {
		case "08", "53", "57", "58": // connection, resources, operator intervention, system
			return true
		}
		return pg.Code == "25006" // read-only: a standby, or a primary that is being demoted
	}
	var network net.Error
	var connect *pgconn.ConnectError
	return errors.As(err, &network) || errors.As(err, &connect) || errors.Is(err, context.DeadlineExceeded) ||
		pgconn.SafeToRetry(err) || errors.Is(err, net.ErrClosed) || isEOF(err) || isClosed(err)
}

func isClosed(err error) bool { return err.Error() == "closed pool" || err.Error() == "conn closed" }

// inTx runs f in a transaction; the first of a call announces the call's intent before it. It returns after
// the commit, or with certainty that nothing was committed, or errDoubt in the chain.
func (c *call) inTx(f func(ctx context.Context, tx Tx) error) error {
	a := c.api
	ctx, cancel := context.WithTimeout(c.ctx, a.config.txTimeout)
	defer cancel()

	// The head of the transaction has a shorter bound of its own: this is where a dead Postgres shows.
	head, stop := context.WithTimeout(ctx, beginTimeout)
	defer stop()
	conn, err := a.pool.Acquire(head)
	if err != nil {
		return nothingHappened(err)
	}
	defer conn.Release()
	tx, err := conn.Begin(head)
	if err != nil {
		return nothingHappened(err)
	}
	// A rollback may not wait for a server that does not answer; closing the connection does as well.
	defer func() {
		end, done := context.WithTimeout(context.WithoutCancel(ctx), 200*time.Millisecond)
		defer done()
		_ = tx.Rollback(end) // after a commit this does nothing
	}()
	var id txID
	if err := tx.QueryRow(head, "SELECT pg_current_xact_id()::text, "+incarnation).Scan(&id.xid, &id.of); err != nil {
		return nothingHappened(err)
	}
	if !c.intended {
		if err := a.audit.Intend(head, tx, c.Record); err != nil {
			return nothingHappened(err)
		}
		if err := c.reserveKey(ctx, tx); err != nil {
			return nothingHappened(err)
		}
	}
	if err := f(ctx, tx); err != nil {
		var known *argus.Error
		if errors.As(err, &known) {
			return err
		}
		return nothingHappened(err)
	}
	commit, stopCommit := context.WithTimeout(ctx, commitTimeout)
	err = tx.Commit(commit)
	stopCommit()
	var rejected *pgconn.PgError
	switch {
	case err == nil:
	case errors.As(err, &rejected) && !unreachable(err), errors.Is(err, pgx.ErrTxCommitRollback):
		return nothingHappened(err)
	default:
		conn.Release() // of no use any more; the pool may have only this one
		committed, found := a.resolve(c.ctx, id, doubtTimeout)
		switch {
		case !found:
			// The intent may stand, or may yet appear: the row is written as one that deletes it.
			c.intended, c.doubtful = true, true
			return doubtful(err)
		case !committed:
			return nothingHappened(err)
		}
	}
	c.intended = true
	return nil
}

// doubtful is the error of a call that may or may not have taken effect.
func doubtful(cause error) error {
	return argus.Errorf(argus.CodeAuditUnconfirmed,
		"It is not known whether this call took effect. Look at what it would have changed, and at its audit id, before repeating it.").
		WithCause(errors.Join(errDoubt, cause))
}

// nothingHappened is the error of a transaction that was surely not committed.
func nothingHappened(err error) error {
	var known *argus.Error
	if errors.As(err, &known) {
		return err
	}
	if unreachable(err) {
		return argus.Errorf(argus.CodeAuditUnavailable, "The audit log cannot be written at the moment, so nothing was done. Try again.").
			WithCause(err).WithRetryAfter(time.Second)
	}
	return err
}

// txID names a transaction of one life of a server. Numbers that were given and not on disk, or on no standby, are given
// anew after a crash or a failover.
type txID struct{ xid, of string }

const incarnation = "left(pg_walfile_name(pg_current_wal_lsn()), 8) || ' ' || pg_postmaster_start_time()::text"

// resolve asks Postgres what became of a transaction whose COMMIT was not answered, again and again until wait
// is over. A backend that is still at it counts as unknown: it may yet commit.
//
// A commit whose wait for the synchronous standbys was broken off, as a time-out breaks it off, is visible and may be on
// this machine alone. A failover would undo it under the effects of its call. So it counts once a later commit is on the
// standbys: they have all of the log before it.
func (a *API) resolve(ctx context.Context, id txID, wait time.Duration) (committed, found bool) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), wait)
	defer cancel()
	for {
		var status *string
		var of string
		err := a.pool.QueryRow(ctx, "SELECT pg_xact_status($1::text::xid8), "+incarnation, id.xid).Scan(&status, &of)
		if err == nil && status != nil {
			switch *status {
			case "committed":
				if of != id.of {
					return false, false
				}
				err := connect.Barrier(ctx, a.pool)
				return err == nil, err == nil
			case "aborted":
				return false, true
			}
		}
		select {
		case <-ctx.Done():
			return false, false
		case <-time.After(50 * time.Millisecond):
		}
	}
}

// inTx runs f in a transaction that belongs to no call.
func inTx(ctx context.Context, pool *Pool, f func(ctx context.Context, tx Tx) error) error {
	ctx, cancel := context.WithTimeout(ctx, txTimeout)
	defer cancel()
	return pgx.BeginFunc(ctx, pool, func(tx pgx.Tx) error { return f(ctx, tx) })
}
