package analytics

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/ClickHouse/ch-go/proto"

	"github.com/useargus/argus"
)

// watermark is what ClickHouse surely has, as the replicator published it last.
type watermark struct {
	argus.Position
	version uint64 // 0: nothing was published yet
}

// readWatermark reads it from the replica that conn is of. What is read on conn afterwards is at least that.
func (a *Analytics) readWatermark(ctx context.Context, conn *clickhouseConn) (watermark, error) {
	var (
		version       proto.ColUInt64
		closed        proto.ColInt64
		writers, seqs = proto.NewArray(new(proto.ColInt64)), proto.NewArray(new(proto.ColInt64))
		wm            watermark
	)
	q := statement{text: "SELECT version, closed_through, writers, seqs FROM audit_watermark ORDER BY version DESC LIMIT 1"}
	err := a.ch.query(ctx, conn, q, bounds{time: quickTime, memory: 64 << 20}, proto.Results{
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
	return wm, err
}

// cut is the snapshot an answer is of, and the part of it that a watermark lacks.
type cut struct {
	snapshot argus.Position
	tail     seqRanges // rows of the snapshot beyond the watermark
	at       time.Time // of Postgres's clock, when it was read

	newest int64           // the greatest writer_id
	seqs   map[int64]int64 // of the writers that the watermark names, lacks, or that are open: how far each has come
}

// readCut reads it from Postgres in one statement. Without a snapshot given it takes one now: the greatest writer_id,
// and each open writer's seq. Writers' numbers are given one transaction after the other, so every lesser one is
// visible too. A seq moves in the transactions that insert its writer's rows.
//
// A writer may say less than the watermark, or be open although the watermark has it as closed and complete. Then it
// was tampered with, or Postgres was restored to an earlier moment. The writer's rows decide: an answer counts those
// that are there, and none of another history. The damage itself is for the replicator to tell.
func (a *Analytics) readCut(ctx context.Context, wm argus.Position, of *argus.Position) (cut, error) {
	ids := slices.Collect(maps.Keys(wm.Writers))
	seqs := make([]int64, len(ids))
	for i, id := range ids {
		seqs[i] = wm.Writers[id]
	}
	rows, err := a.pg.quick.Query(ctx, `
		SELECT clock_timestamp(), newest.writer_id, w.writer_id,
		       CASE WHEN w.seq < ($3::bigint[])[array_position($2::bigint[], w.writer_id)]
		              OR w.closed_at IS NULL AND w.writer_id <= $1 AND NOT w.writer_id = ANY($2::bigint[])
		            THEN greatest(w.seq, (SELECT max(l.seq) FROM argus.argus_audit_log l WHERE l.writer_id = w.writer_id))
		            ELSE w.seq END,
		       w.closed_at IS NULL
		  FROM (SELECT coalesce(max(writer_id), 0) AS writer_id FROM argus.audit_writers) newest
		  LEFT JOIN argus.audit_writers w
		    ON w.writer_id > $1 OR w.writer_id = ANY($2::bigint[]) OR w.closed_at IS NULL`,
		wm.ClosedThrough, ids, seqs)
	if err != nil {
		return cut{}, err
	}
	defer rows.Close()
	c := cut{snapshot: argus.Position{Writers: map[int64]int64{}}, seqs: map[int64]int64{}}
	if of != nil {
		c.snapshot = *of
	}
	for rows.Next() {
		var writer, seq *int64
		var open *bool
		if err := rows.Scan(&c.at, &c.newest, &writer, &seq, &open); err != nil {
			return cut{}, err
		}
		if of == nil {
			c.snapshot.ClosedThrough = c.newest
		}
		if writer == nil {
			continue // no writer at all
		}
		c.seqs[*writer] = *seq
		if of == nil && *open {
			c.snapshot.Writers[*writer] = *seq
		}
		hi, listed := c.snapshot.Writers[*writer]
		if !listed && *writer <= c.snapshot.ClosedThrough {
			hi = *seq // closed, so it never moves again
		}
		if lo := wm.Through(*writer); hi > lo {
			c.tail = append(c.tail, seqRange{*writer, lo, hi})
		}
	}
	c.at = c.at.UTC()
	return c, rows.Err()
}

// replicatedThrough is the time by which all that was recorded is in ClickHouse. Without a tail it is the cut's time,
// else a moment before the first row of the tail.
func (a *Analytics) replicatedThrough(ctx context.Context, c cut) (time.Time, error) {
	if len(c.tail) == 0 {
		return c.at, nil
	}
	first := make(seqRanges, len(c.tail))
	for i, s := range c.tail {
		first[i] = seqRange{s.writer, s.lo, s.lo + 1}
	}
	var args postgresArgs
	var oldest *time.Time
	q := "SELECT min(recorded_at)" + first.from(&args, "recorded_at", nil)
	if err := a.pg.quick.QueryRow(ctx, q, args.values...).Scan(&oldest); err != nil {
		return time.Time{}, err
	}
	if oldest == nil {
		return c.at, nil // past retention, dropped
	}
	return oldest.UTC().Add(-time.Microsecond), nil
}
