package replicator

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/useargus/argus"
	"github.com/useargus/argus/connect"
	"github.com/useargus/argus/replicator/wal"
)

// A failover. The new primary's history says where the timeline of the watermark ended. All that committed before is in both,
// and nothing behind it is in the new one. So with a slot that came along the copy goes on from there. What it has been
// given behind the switch, if anything, is found by the numbers of the rows: a writer's rows beyond what Postgres has of
// it. No number is given twice, because a lane that connects anew opens a new writer.
//
//	old timeline  ────────────┬── switch ──▷ lost tail: orphans, if ClickHouse was given them
//	new timeline              └──────────────────▶
//	watermark           lsn ──┘ (or behind the switch, when only idle log was lost)

// errDeposed: the server is an old primary that came back. Followed, it would lead the copy into a history that ended.
var errDeposed = errors.New("Postgres is on a lower timeline than the copy")

// rejectDeposed is asked before a lease term is begun: its beginning would fence the replicator that follows the new primary.
func (r *Replicator) rejectDeposed(ctx context.Context, byHand bool) error {
	mark, known, err := r.clickhouse.watermark(ctx)
	if err != nil {
		return fmt.Errorf("reading the watermark: %w", err)
	}
	if !known || byHand {
		return nil
	}
	conn, err := r.pool.Acquire(ctx)
	if err != nil {
		return err
	}
	defer conn.Release()
	server, err := connect.Identify(ctx, conn.Conn())
	if err != nil {
		return fmt.Errorf("asking Postgres which system it is: %w", err)
	}
	if server.System == fmt.Sprint(mark.system) && server.Timeline < int64(mark.timeline) {
		return fmt.Errorf("%w: %s, the copy has followed timeline %d. It is an old primary that came back: fence it. "+
			"If it was restored on purpose, run argusd replicator --resync", errDeposed, server, mark.timeline)
	}
	return nil
}

// follow makes the watermark one of the new timeline, when Postgres failed over from the watermark's. The tail is nil
// otherwise. It is not followed when the copy cannot go on without comparing all of it, because the slot did not come along.
func (r *Replicator) follow(ctx context.Context, conn *pgconn.PgConn, sys wal.System, slot wal.SlotState, mark watermark) (watermark, *lostTail, error) {
	if mark.system != sys.ID || mark.timeline >= sys.Timeline {
		return mark, nil, nil
	}
	end, ours, err := wal.Switched(ctx, conn, sys.Timeline, mark.timeline)
	if err != nil || !ours {
		return mark, nil, err
	}
	tail := &lostTail{r: r, since: mark.at.Add(-time.Hour)}
	from := min(mark.lsn, end)
	if mark.healing || !slot.Usable || slot.Confirmed > from || max(sys.Flushed, slot.Flushed) < from {
		r.log.Warn("Postgres failed over, and the slot did not come along", "timeline", sys.Timeline, "was", mark.timeline,
			"switched_at", end, "watermark", mark.lsn, "slot_usable", slot.Usable, "slot_confirmed", slot.Confirmed)
		return mark, tail, nil
	}
	kept, all, err := tail.cut(ctx, mark.position)
	if err != nil {
		return mark, nil, err
	}
	if err := tail.find(ctx, all); err != nil {
		return mark, nil, err
	}
	r.log.Warn("Postgres failed over, and the copy goes on from its slot", "timeline", sys.Timeline, "was", mark.timeline,
		"switched_at", end, "watermark", mark.lsn, "lost_rows", tail.rows)
	mark.lsn, mark.position, mark.timeline = from, kept, sys.Timeline
	tail.followed = true
	return mark, tail, nil
}

// lostTail is what ClickHouse was given of a timeline behind its end.
type lostTail struct {
	r        *Replicator
	since    time.Time // what is older was on the standby: a lag of an hour is no failover but a restore
	rows     int
	followed bool    // the copy goes on
	months   []month // that the rows are in
}

// cut takes back of the position what Postgres does not have. A writer that was closed and complete may be neither now, or
// may not be there at all. The second position lists those as well, with no row.
func (l *lostTail) cut(ctx context.Context, p argus.Position) (kept, all argus.Position, err error) {
	listed := sortedWriters(p)
	if err := l.r.clickhouse.each(ctx, func(scan func(...any) error) error {
		var id int64
		err := scan(&id)
		listed = append(listed, id)
		return err
	}, fmt.Sprintf("SELECT DISTINCT writer_id FROM audit_log WHERE occurred_at >= fromUnixTimestamp64Milli(%d, 'UTC')", l.since.UnixMilli())); err != nil {
		return p, p, err
	}
	of, err := l.r.readShare(ctx, l.r.pool)
	if err != nil {
		return p, p, err
	}
	rows, err := l.r.pool.Query(ctx, `
		SELECT w.writer_id, coalesce(w.seq, 0), g.greatest FROM (SELECT coalesce(max(writer_id), 0) AS greatest FROM argus.audit_writers) g
		  LEFT JOIN argus.audit_writers w ON (w.closed_at IS NULL OR w.closed_at >= $1 OR w.writer_id = ANY ($2)) AND `+of.writers("w.writer_id"), l.since, listed)
	if err != nil {
		return p, p, fmt.Errorf("reading the writers: %w", err)
	}
	defer rows.Close()
	kept.Writers = map[int64]int64{}
	for rows.Next() {
		var writer *int64
		var seq, greatest int64
		if err := rows.Scan(&writer, &seq, &greatest); err != nil {
			return p, p, err
		}
		kept.ClosedThrough = min(p.ClosedThrough, greatest)
		if writer == nil {
			continue // of this shard none
		}
		id := *writer
		if held, ok := p.Writers[id]; ok {
			kept.Writers[id] = min(held, seq)
		} else if id <= p.ClosedThrough { // complete, as the old timeline had it
			kept.Writers[id] = seq
		}
	}
	all = kept.Clone()
	for _, id := range listed {
		if _, ok := all.Writers[id]; !ok {
			all.Writers[id] = 0
		}
	}
	return kept, all, rows.Err()
}

// find looks for rows beyond the position that Postgres does not have either: rows of the log by their identity and hash,
// steps of recent calls by their key.
func (l *lostTail) find(ctx context.Context, p argus.Position) error {
	ids := sortedWriters(p)
	seqs := make([]int64, len(ids))
	for i, id := range ids {
		seqs[i] = p.Writers[id]
	}
	beyond := fmt.Sprintf("writer_id > %d", p.ClosedThrough)
	if len(ids) > 0 {
		list := joinInts(ids)
		beyond = fmt.Sprintf("writer_id > %d AND writer_id NOT IN (%s) OR writer_id IN (%s) AND seq > transform(writer_id, [%s], [%s], toInt64(0))",
			p.ClosedThrough, list, list, list, joinInts(seqs))
	}
	if err := l.absent(ctx, "SELECT toInt32(toYYYYMM(occurred_at)), toString(writer_id), seq, hex(row_hash) FROM audit_log WHERE "+beyond,
		`argus.argus_audit_log a ON a.writer_id = u.k::bigint AND a.seq = u.n AND a.row_hash = decode(u.h, 'hex')`); err != nil {
		return err
	}
	for t, info := range tables {
		if t == auditTable {
			continue
		}
		recent := fmt.Sprintf("bitShiftRight(toUInt128(audit_id), 80) >= %d", l.since.UnixMilli())
		if err := l.absent(ctx, "SELECT toInt32("+callMonth+"), toString(audit_id), toInt64(step), '' FROM "+info.clickhouse+" WHERE "+recent,
			info.postgres+` a ON a.audit_id = u.k::uuid AND a.step = u.n`); err != nil {
			return err
		}
	}
	return nil
}

// absent counts the rows of the question to ClickHouse that Postgres, joined so, does not have.
func (l *lostTail) absent(ctx context.Context, question, join string) error {
	var keys, hashes []string
	var numbers []int64
	var months []int32
	ask := func() error {
		rows, err := l.r.pool.Query(ctx, `SELECT u.i FROM unnest($1::text[], $2::bigint[], $3::text[]) WITH ORDINALITY AS u (k, n, h, i)
			LEFT JOIN `+join+` WHERE a IS NULL`, keys, numbers, hashes)
		if err != nil {
			return fmt.Errorf("looking for rows in Postgres: %w", err)
		}
		defer rows.Close()
		for rows.Next() {
			var i int
			if err := rows.Scan(&i); err != nil {
				return err
			}
			l.rows++
			if m := month(months[i-1]); !slices.Contains(l.months, m) {
				l.months = append(l.months, m)
			}
		}
		keys, numbers, hashes, months = keys[:0], numbers[:0], hashes[:0], months[:0]
		return rows.Err()
	}
	err := l.r.clickhouse.each(ctx, func(scan func(...any) error) error {
		var m int32
		var key, hash string
		var number int64
		if err := scan(&m, &key, &number, &hash); err != nil {
			return err
		}
		keys, numbers, hashes, months = append(keys, key), append(numbers, number), append(hashes, strings.ToLower(hash)), append(months, m)
		if len(keys) < 10_000 {
			return nil
		}
		return ask()
	}, question)
	if err != nil {
		return err
	}
	return ask()
}
