package api

import (
	"context"
	"errors"
	"sync"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"

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

// alone is the transaction that a statement by itself is: it is committed when Exec returns.
type alone struct {
	Tx
	conn *pgxpool.Conn
}

func (a alone) Exec(ctx context.Context, sql string, args ...any) (pgconn.CommandTag, error) {
	return a.conn.Exec(ctx, sql, args...)
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
	recs := make([]*argus.Record, len(all))
	for n, w := range all {
		recs[n] = w.rec
	}
	err = i.a.audit.Intend(ctx, alone{conn: conn}, recs...)
	var known *argus.Error // nothing was inserted: no sweep would end the intents of a process that is not registered
	var rejected *pgconn.PgError
	if err == nil || errors.As(err, &known) || errors.As(err, &rejected) && rejected.SeverityUnlocalized == "ERROR" || pgconn.SafeToRetry(err) {
		return err
	}
	return errors.Join(errDoubt, err)
}

// intend commits the call's intent. After an error the call causes no effect. When it is not known whether the intent
// stands, the call's row deletes it.
func (c *call) intend() error {
	err := c.api.intents.commit(c.Record)
	c.intended = err == nil || errors.Is(err, errDoubt)
	if err == nil {
		return nil
	}
	return nothingHappened(err)
}
