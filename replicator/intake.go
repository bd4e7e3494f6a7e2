package replicator

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/useargus/argus"
	"github.com/useargus/argus/replicator/wal"
)

// intake is where what Postgres streams becomes batches. One goroutine fills (run), one takes (take). They share two
// batches, so that the next is decoded while the one before is inserted. Memory is bounded: a full batch stops the
// reading, and Postgres keeps the rest.
type intake struct {
	stream  *wal.Stream
	log     *slog.Logger
	metrics *metrics
	from    wal.LSN // transactions that committed before it are in ClickHouse
	limit   batchLimit
	columns func(table int) ([]chColumn, error) // of ClickHouse, read when a relation is seen

	wake   chan struct{} // something to take, maybe
	ledger chan struct{} // leaves or checkpoints, which are copied beside the rows
	behind atomic.Bool   // much is to come

	mu      sync.Mutex
	room    *sync.Cond // the batch was taken, or closed is set
	closed  bool
	current *batch
	since   time.Time // when the current batch got its first row
	// received: everything that committed before it has been decoded.
	received  wal.LSN
	committed int64 // when the newest whole transaction committed, Postgres's clock, µs since 1970
	layouts   [tableCount]*layout

	// Of the goroutine that fills:
	relations map[uint32]int // table by relation id, or one of the following
	tx        wal.Begin
	inside    bool // of a transaction
	skip      bool // which is in ClickHouse already
	reader    rowReader
	reply     func() // called when the server wants an acknowledgement
}

// Relations whose rows are no rows of a batch.
const (
	noTable     = -1 // added to the publication
	ledgerTable = -2
)

// batchLimit bounds a batch; two of them are in memory at a time.
type batchLimit struct{ rows, bytes int }

func (l batchLimit) full(b *batch) bool { return b.rows >= l.rows || b.bytes >= l.bytes }

func newIntake(stream *wal.Stream, from wal.LSN, limit batchLimit) *intake {
	in := &intake{
		stream: stream, from: from, limit: limit, received: from, relations: map[uint32]int{},
		wake: make(chan struct{}, 1), ledger: make(chan struct{}, 1), current: newBatch(),
	}
	in.room = sync.NewCond(&in.mu)
	in.current.end = from
	return in
}

// run decodes until the stream fails or close is called.
func (in *intake) run() error {
	for {
		m, err := in.stream.Next() // may wait; the batch can be taken meanwhile
		if err != nil {
			return err
		}
		in.mu.Lock()
		for {
			if err = in.handle(m); err != nil || !in.stream.Ready() {
				break
			}
			if m, err = in.stream.Next(); err != nil {
				break
			}
		}
		in.mu.Unlock()
		if err != nil {
			return err
		}
		in.poke()
		in.stream.Gather(in.behind.Load())
	}
}

func (in *intake) poke() {
	select {
	case in.wake <- struct{}{}:
	default:
	}
}

// close ends a wait for room.
func (in *intake) close() {
	in.mu.Lock()
	defer in.mu.Unlock()
	in.closed = true
	in.room.Broadcast()
}

// handle takes one message; in.mu is held.
func (in *intake) handle(m wal.Message) error {
	if m.Data == nil {
		// Within a transaction a keepalive speaks of what is before it.
		if !in.inside && m.End > in.received {
			in.received = m.End
			in.current.end = m.End
		}
		if m.Reply {
			in.reply()
		}
		return nil
	}
	var err error
	switch m.Data[0] {
	case wal.MessageBegin:
		if in.tx, err = wal.ParseBegin(m.Data); err != nil {
			return err
		}
		in.inside, in.skip = true, in.tx.Commit < in.from
	case wal.MessageCommit:
		_, end, err := wal.ParseCommit(m.Data)
		if err != nil {
			return err
		}
		in.inside = false
		if end > in.received {
			in.received = end
			in.current.end = end
			in.committed = in.tx.Committed + wal.PostgresEpoch
		}
	case wal.MessageRelation:
		return in.relation(m.Data)
	case wal.MessageInsert:
		if !in.inside {
			return wal.ErrMalformed
		}
		if in.skip {
			return nil
		}
		return in.insert(m.Data)
	}
	return nil
}

func (in *intake) relation(data []byte) error {
	rel, err := wal.ParseRelation(data)
	if err != nil {
		return err
	}
	t, ok := tableOf(rel.Schema, rel.Name)
	if !ok {
		in.relations[rel.ID] = noTable
		if rel.Schema == "argus" && (rel.Name == "ledger_runs" || rel.Name == "ledger_checkpoints") {
			in.relations[rel.ID] = ledgerTable
		}
		return nil
	}
	in.relations[rel.ID] = t
	if l := in.layouts[t]; l != nil && slices.Equal(l.source, rel.Columns) {
		return nil
	}
	target, err := in.columns(t)
	if err != nil {
		return err
	}
	l, err := newLayout(t, rel.Columns, target)
	if err != nil {
		return err
	}
	for _, name := range l.left {
		name = argus.Text(name, 64)
		in.metrics.ignoredColumns.WithLabelValues(tables[t].clickhouse, name).Set(1)
		in.log.Warn("a column of Postgres is not copied: ClickHouse has none of its name and type",
			"table", tables[t].postgres, "column", name)
	}
	in.layouts[t] = l
	return nil
}

func (in *intake) insert(data []byte) error {
	id, tup, err := wal.ParseInsert(data)
	if err != nil {
		return err
	}
	t, ok := in.relations[id]
	if !ok {
		return fmt.Errorf("%w: a row of a relation that was not described", wal.ErrMalformed)
	}
	if t < 0 {
		if t == ledgerTable {
			select {
			case in.ledger <- struct{}{}:
			default:
			}
		}
		return nil
	}
	for {
		r := in.current.tables[t]
		if r == nil || (r.layout != in.layouts[t] && r.count == 0) {
			r = newRows(in.layouts[t])
			in.current.tables[t] = r
		}
		// Rows of before a change of the columns go first, in a batch of their own.
		if r.layout == in.layouts[t] && !in.limit.full(in.current) {
			break
		}
		if in.waitForRoom(); in.closed {
			return errClosed
		}
	}
	if in.current.rows == 0 {
		in.since = time.Now()
	}
	return in.reader.insert(in.current, t, tup, in.tx.Commit, len(data))
}

var errClosed = fmt.Errorf("the intake is closed")

// waitForRoom waits until the batch has been taken. Other messages wait with it: nothing is read meanwhile.
func (in *intake) waitForRoom() {
	in.since = time.Time{} // long due
	taken := in.current
	in.poke()
	for in.current == taken && !in.closed {
		in.room.Wait()
	}
}

// pace decides when a batch is worth an insert.
type pace struct {
	interval time.Duration // between the starts of inserts while rows trickle
	patience time.Duration // to wait for a full batch while there is more to come
}

// take waits until the current batch is worth an insert that starts not long after the one at started, and
// puts next, empty, in its place. Without rows it returns nil when until has come, or when enough has been
// received: then everything committed before received is in batches taken earlier.
func (in *intake) take(ctx context.Context, next *batch, started, until time.Time, enough wal.LSN,
	p func(received wal.LSN) (pace, bool)) (b *batch, received wal.LSN, err error) {
	for {
		now := time.Now()
		in.mu.Lock()
		b, received = in.current, in.received
		due := until
		if b.rows == 0 {
			if received >= enough || !now.Before(until) {
				in.mu.Unlock()
				return nil, received, nil
			}
		} else {
			pc, behind := p(received)
			due = started.Add(pc.interval)
			if behind {
				due = in.since.Add(pc.patience)
			}
			if in.limit.full(b) || in.since.IsZero() || !now.Before(due) {
				next.end = b.end
				in.current = next
				in.room.Broadcast()
				in.mu.Unlock()
				return b, received, nil
			}
		}
		in.mu.Unlock()
		timer := time.NewTimer(due.Sub(now))
		select {
		case <-in.wake:
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			return nil, received, ctx.Err()
		}
		timer.Stop()
	}
}
