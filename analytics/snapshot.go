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
//
// Where servers share the rows, each is asked for its own, and one that does not answer fails the question. One that the
// others do not know, and one that has published nothing yet, promises nothing. Then the whole does not either, so no answer is
// ever smaller for it.
func (c *logCopy) readWatermark(ctx context.Context, conn *clickhouseConn) (watermark, error) {
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

// checkShards proves that the copy's servers know each other as they are set: as many as there are shards, each another.
func (c *logCopy) checkShards(ctx context.Context, conn *clickhouseConn) error {
	if c.shards < 2 {
		return nil
	}
	var known, servers proto.ColUInt64
	q := statement{text: "SELECT count() AS known, uniqExact(server) AS servers FROM (SELECT argMin(server, (made_at, server)) AS server FROM replicator_identity GROUP BY _shard_num)"}
	return conn.query(ctx, q, bounds{time: quickTime, memory: 64 << 20}, proto.Results{{Name: "known", Data: &known}, {Name: "servers", Data: &servers}},
		func(int) error {
			if known[0] != uint64(c.shards) || servers[0] != known[0] {
				return fmt.Errorf("%s has %d shards, and its first server knows %d of them, on %d servers: run argusd migrate", c, c.shards, known[0], servers[0])
			}
			return nil
		})
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
