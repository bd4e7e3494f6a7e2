package analytics

import (
	"context"
	"time"

	"github.com/useargus/argus"
	"github.com/useargus/argus/pgread"
)

// cut is the snapshot an answer is of, and the part of it that a watermark lacks.
type cut struct{ pgread.Cut }

// readCut reads it from Postgres in one statement. A Postgres that hangs ends no statement by itself. So the first read of a
// question has its time, and a caller is told soon.
func (a *Analytics) readCut(ctx context.Context, wm argus.Position, of *argus.Position) (cut, error) {
	ctx, cancel := context.WithTimeout(ctx, hungAfter)
	defer cancel()
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
