package api

import (
	"context"
	"errors"
	"sync"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/useargus/argus"
)

// intents commits the intents of calls whose effects are none of Postgres's. Callers that arrive at the same moment share
// a commit, as the writer's do: while two batches are on their way, the next one fills.
type intents struct {
	a       *API
	mu      sync.Mutex
	waiting []*waitingIntent
	lanes   int
}

const (
	intentLanes = 2
	maxIntents  = 256 // of one batch
)

type waitingIntent struct {
	rec  *argus.Record
	done chan error
}

// queued is a transaction that only takes statements: they are sent together.
type queued struct {
	Tx
	batch *pgx.Batch
}

func (q queued) Exec(_ context.Context, sql string, args ...any) (pgconn.CommandTag, error) {
	q.batch.Queue(sql, args...)
	return pgconn.NewCommandTag("INSERT 0 1"), nil // checked when it is sent
}

// commit returns when the intent is committed. The error of one that may be committed nevertheless is errDoubt.
func (i *intents) commit(rec *argus.Record) error {
	w := &waitingIntent{rec, make(chan error, 1)}
	i.mu.Lock()
	i.waiting = append(i.waiting, w)
	if i.lanes < intentLanes {
		i.lanes++
		go i.run()
	}
	i.mu.Unlock()
	return <-w.done
}

// run sends batches until none waits.
func (i *intents) run() {
	for {
		i.mu.Lock()
		n := min(len(i.waiting), maxIntents)
		if n == 0 {
			i.lanes--
			i.mu.Unlock()
			return
		}
		batch := i.waiting[:n:n]
		i.waiting = i.waiting[n:]
		i.mu.Unlock()
		err := i.send(batch)
		for _, w := range batch {
			w.done <- err
		}
	}
}

// send commits a batch as one transaction in one round trip.
func (i *intents) send(all []*waitingIntent) error {
	ctx, cancel := context.WithTimeout(context.Background(), beginTimeout)
	defer cancel()
	conn, err := i.a.pool.Acquire(ctx)
	if err != nil {
		return err
	}
	defer conn.Release()
	batch := &pgx.Batch{}
	for _, w := range all {
		if err := i.a.audit.Intend(ctx, queued{batch: batch}, w.rec); err != nil {
			return err
		}
	}
	results := conn.SendBatch(ctx, batch)
	for range batch.Len() {
		tag, failed := results.Exec()
		if failed != nil {
			err = failed
			break
		}
		if tag.RowsAffected() == 0 && err == nil {
			err = errNoProcess
		}
	}
	if closed := results.Close(); err == nil {
		err = closed
	}
	var rejected *pgconn.PgError
	if err == nil || errors.Is(err, errNoProcess) || errors.As(err, &rejected) || pgconn.SafeToRetry(err) {
		return err
	}
	return errors.Join(errDoubt, err)
}

// errNoProcess: the writer's process is not registered at the moment, so no sweep would end its intents.
var errNoProcess = errors.New("the intent of a process that is not in argus.audit_processes")

// intend commits the call's intent. After an error the call causes no effect. When it is not known whether the intent
// stands, the call's row deletes it.
func (c *call) intend() error {
	err := c.api.intents.commit(c.Record)
	c.intended = err == nil || errors.Is(err, errDoubt)
	switch {
	case err == nil:
		return nil
	case errors.Is(err, errNoProcess):
		return argus.Errorf(argus.CodeAuditUnavailable, "The audit log cannot be written at the moment, so nothing was done. Try again.").WithCause(err)
	}
	return nothingHappened(err)
}
