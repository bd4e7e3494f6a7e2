package analytics

import (
	"context"
	"sync"
	"sync/atomic"
	"time"

	"github.com/ClickHouse/ch-go/proto"
	"golang.org/x/sync/errgroup"
)

// countStatement is part of a question, asked of ClickHouse by itself.
type countStatement struct {
	statement
	block func() countedBlock // a new one for each server that is asked
}

// countedBlock holds the columns of a statement as the server sends them.
type countedBlock interface {
	results() proto.Results
	each(rows int) error // gives the block's rows to the question
}

// maxAtOnce is how many statements of one count run at once.
const maxAtOnce = 4

// runCounts runs the statements and gives their rows to their questions, one block at a time. Most of a small
// statement's time is planning, on one core of the server. So several run at once, on further connections to the same
// server where some are free. They run one after the other where none is. deadline is that of all.
//
// Servers that share the rows are each asked for their own. Counts add up.
func (a *Analytics) runCounts(ctx context.Context, conn *clickhouseConn, statements []countStatement, alone bool, deadline time.Time) error {
	var (
		next = make([]atomic.Int64, max(1, len(conn.parts))) // of each server
		rows sync.Mutex
	)
	ask := func(ctx context.Context, server int, conn *clickhouseConn) error {
		for {
			i := int(next[server].Add(1)) - 1
			if i >= len(statements) {
				return nil
			}
			s := statements[i]
			b := s.block()
			left := min(scanTime, time.Until(deadline))
			if left <= 0 {
				return errOutOfTime
			}
			err := conn.query(ctx, s.statement, bounds{time: left, memory: queryMemory}, b.results(), func(n int) error {
				rows.Lock()
				defer rows.Unlock()
				return b.each(n)
			})
			if err != nil {
				return err
			}
		}
	}
	work := func(ctx context.Context, conn *clickhouseConn) error { return conn.eachServer(ctx, ask) }
	if alone || len(statements) < 2 {
		return work(ctx, conn)
	}
	// The first failure ends the others, and with them their connections.
	g, all := errgroup.WithContext(ctx)
	for range min(maxAtOnce, len(statements)) - 1 {
		g.Go(func() error { return conn.of.beside(all, conn, func(c *clickhouseConn) error { return work(all, c) }) })
	}
	g.Go(func() error { return work(all, conn) })
	return g.Wait()
}
