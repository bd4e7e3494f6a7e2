package analytics

import (
	"context"
	"fmt"
	"time"

	"github.com/ClickHouse/ch-go/proto"

	"github.com/useargus/argus"
	"github.com/useargus/argus/pgread"
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

// readWatermark reads it from the copy that conn leads to. What is read on conn afterwards is at least that.
func (c *logCopy) readWatermark(ctx context.Context, conn *clickhouseConn) (watermark, error) {
	var (
		version       proto.ColUInt64
		closed        proto.ColInt64
		writers, seqs = proto.NewArray(new(proto.ColInt64)), proto.NewArray(new(proto.ColInt64))
		wm            watermark
	)
	q := statement{text: "SELECT version, closed_through, writers, seqs FROM audit_watermark ORDER BY version DESC LIMIT 1"}
	err := conn.query(ctx, q, bounds{time: quickTime, memory: 64 << 20}, proto.Results{
		{Name: "version", Data: &version}, {Name: "closed_through", Data: &closed},
		{Name: "writers", Data: writers}, {Name: "seqs", Data: seqs},
	}, func(int) error {
		ids, through := writers.Row(0), seqs.Row(0)
		if len(ids) != len(through) {
			return fmt.Errorf("watermark %d names %d writers and %d seqs", version[0], len(ids), len(through))
		}
		wm.version, wm.ClosedThrough = version[0], closed[0]
		wm.Writers = make(map[int64]int64, len(ids))
		for i, id := range ids {
			wm.Writers[id] = through[i]
		}
		return nil
	})
	if err != nil {
		return wm, &watermarkError{err}
	}
	return wm, nil
}

// cut is the snapshot an answer is of, and the part of it that a watermark lacks.
type cut struct{ pgread.Cut }

// readCut reads it from Postgres in one statement.
func (a *Analytics) readCut(ctx context.Context, wm argus.Position, of *argus.Position) (cut, error) {
	c, err := pgread.ReadCut(ctx, a.pg.quick, wm, of)
	return cut{c}, err
}

// replicatedThrough is the time by which all that was recorded is in ClickHouse. Without a tail it is the cut's time,
// else a moment before the first row of the tail.
func (a *Analytics) replicatedThrough(ctx context.Context, c cut) (time.Time, error) {
	if len(c.Tail) == 0 {
		return c.At, nil
	}
	first := make(seqRanges, len(c.Tail))
	for i, s := range c.Tail {
		first[i] = seqRange{Writer: s.Writer, Lo: s.Lo, Hi: s.Lo + 1}
	}
	var args postgresArgs
	var oldest *time.Time
	q := "SELECT min(recorded_at)" + first.From(args.add, "recorded_at", nil)
	if err := a.pg.quick.QueryRow(ctx, q, args.values...).Scan(&oldest); err != nil {
		return time.Time{}, err
	}
	if oldest == nil {
		return c.At, nil // past retention, dropped
	}
	return oldest.UTC().Add(-time.Microsecond), nil
}
