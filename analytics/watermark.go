package analytics

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/ClickHouse/ch-go/proto"

	"github.com/useargus/argus"
)

// watermark is what ClickHouse surely has, as the replicator published it last.
type watermark struct {
	argus.Position
	version uint64 // 0: nothing was published yet
}

// watermarkError: the watermark could not be read. That is no bound of the question.
type watermarkError struct{ cause error }

func (e *watermarkError) Error() string { return "reading the watermark: " + e.cause.Error() }
func (e *watermarkError) Unwrap() error { return e.cause }

// heldWatermark is the last watermark that was read of a copy. Later questions use it for a while, and save the statement: it costs
// more than reading few rows, and is asked of each server where several share the rows.
//
// Why an older one does no harm. A watermark is a lower bound, so what lies beyond it is read from Postgres, exactly. Take a
// question that reads its watermark, and is then held up for as long as the held one is old, before it reads anything else. Every
// answer must be right for such a question, and for no other reason than that the copy keeps what it promised. A question with a
// held watermark is that question. Healing publishes an empty watermark before it changes rows, but has to bear questions that
// have read the one before. What retention drops is in no window.
//
// One thing differs. A question that reads its own watermark has it from the connection that gives its rows, so from one run of one
// server. A held one came by another connection. So a question uses it only on a connection that was open to the same server
// before the reading began. While that works, the server has not ended since. A server that comes back has new connections, and is
// asked for its watermark, since it may have come back with less.
//
// Two things are left to time. For exports and comparisons, servers that share the rows ask each other by connections of their
// own. And a running server may be emptied by hand. What was held then promises too much for watermarkAge, less than a server
// takes to start. A failed question forgets it at once.
type heldWatermark struct {
	mu        sync.Mutex
	mark      watermark
	begun     time.Time       // when its reading began; zero: none is held
	on        *clickhouseConn // by which it was read
	forgotten time.Time       // readings that began before this are not kept
	renewing  bool            // one question reads a new one; the others need not
}

const (
	// watermarkAge is how old a held watermark may be. From half of that on, one question renews it.
	watermarkAge = 500 * time.Millisecond
	// heldTail is how many rows of Postgres behind it cost about what the statement costs ClickHouse.
	heldTail = 250
)

// keep holds what was read, unless it is older than what is held.
func (h *heldWatermark) keep(wm watermark, begun time.Time, on *clickhouseConn) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if begun.After(h.forgotten) && !begun.Before(h.begun) {
		h.mark, h.begun, h.on = wm, begun, on
	}
}

// forget has the next question read its own.
func (h *heldWatermark) forget() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.mark, h.begun, h.on, h.forgotten = watermark{}, time.Time{}, nil, time.Now()
}

// take is the held watermark, for a question on conn. Without one the question reads its own, and calls renewed then.
func (h *heldWatermark) take(conn *clickhouseConn, oldest time.Duration) (wm watermark, ok bool, renewed func()) {
	h.mu.Lock()
	defer h.mu.Unlock()
	age := time.Since(h.begun)
	switch {
	case h.begun.IsZero() || age > oldest || !conn.opened.Before(h.begun) || !conn.sameServer(h.on):
		return wm, false, func() {}
	case age > oldest/2 && !h.renewing:
		h.renewing = true
		return wm, false, func() {
			h.mu.Lock()
			h.renewing = false
			h.mu.Unlock()
		}
	}
	return h.mark, true, nil
}

// readCut reads what the attempt's watermark lacks. A held one that lacks many rows is given up.
func (on *attempt) readCut(ctx context.Context, wm argus.Position, of *argus.Position) (cut, error) {
	c, err := on.a.readCut(ctx, wm, of)
	if err == nil && c.Tail.Rows() > heldTail {
		on.copy.held.forget()
	}
	return c, err
}

// watermark is what the copy that conn leads to surely has: the held one, or a new one.
func (a *Analytics) watermark(ctx context.Context, c *logCopy, conn *clickhouseConn) (watermark, error) {
	wm, ok, renewed := c.held.take(conn, a.config.watermarkAge)
	if ok {
		return wm, nil
	}
	defer renewed()
	return c.readWatermark(ctx, conn)
}

// readWatermark reads it from the copy that conn leads to, and keeps it for later questions. What is read on conn afterwards is at
// least that.
//
// Where servers share the rows, each is asked for its own, and one that does not answer fails the question. One that the
// others do not know, and one that has published nothing yet, promises nothing. Then the whole does not either, so no answer is
// ever smaller for it.
func (c *logCopy) readWatermark(ctx context.Context, conn *clickhouseConn) (watermark, error) {
	begun := time.Now()
	wm, err := c.askWatermark(ctx, conn)
	if err == nil {
		c.held.keep(wm, begun, conn)
	}
	return wm, err
}

func (c *logCopy) askWatermark(ctx context.Context, conn *clickhouseConn) (watermark, error) {
	var (
		version       proto.ColUInt64
		closed        proto.ColInt64
		writers, seqs = proto.NewArray(new(proto.ColInt64)), proto.NewArray(new(proto.ColInt64))
		positions     []argus.Position
		wm            watermark
	)
	by := ""
	if c.shards > 1 {
		by = " BY _shard_num"
	}
	q := statement{text: "SELECT version, closed_through, writers, seqs FROM audit_watermark ORDER BY version DESC LIMIT 1" + by}
	err := conn.query(ctx, q, bounds{time: quickTime, memory: 64 << 20}, proto.Results{
		{Name: "version", Data: &version}, {Name: "closed_through", Data: &closed},
		{Name: "writers", Data: writers}, {Name: "seqs", Data: seqs},
	}, func(n int) error {
		for row := range n {
			ids, through := writers.Row(row), seqs.Row(row)
			if len(ids) != len(through) {
				return fmt.Errorf("watermark %d names %d writers and %d seqs", version[row], len(ids), len(through))
			}
			p := argus.Position{ClosedThrough: closed[row], Writers: make(map[int64]int64, len(ids))}
			for i, id := range ids {
				p.Writers[id] = through[i]
			}
			if positions = append(positions, p); wm.version == 0 || version[row] < wm.version {
				wm.version = version[row]
			}
		}
		return nil
	})
	switch {
	case err != nil:
		return wm, &watermarkError{err}
	case len(positions) > c.shards:
		return wm, &watermarkError{fmt.Errorf("%d servers answer for %d shards", len(positions), c.shards)}
	case len(positions) < c.shards:
		return watermark{Position: argus.Position{Writers: map[int64]int64{}}}, nil
	}
	wm.Position = argus.OfShards(positions...)
	return wm, nil
}
