package replicator

import (
	"bytes"
	"context"
	"encoding/hex"
	"fmt"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
)

// rowKey is a row's identity and what it is compared by. a is the writer or, as its bytes, the call's id; b the
// seq or step.
type rowKey struct {
	writer int64
	call   uuid.UUID
	b      int64
	hash   [32]byte
}

func (k *rowKey) compare(o *rowKey) int {
	switch {
	case k.writer != o.writer:
		if k.writer < o.writer {
			return -1
		}
		return 1
	}
	if c := bytes.Compare(k.call[:], o.call[:]); c != 0 {
		return c
	}
	switch {
	case k.b < o.b:
		return -1
	case k.b > o.b:
		return 1
	}
	return 0
}

// runOfKeys are keys that follow one another in Postgres, first to last, with no other row between them within
// the range.
type runOfKeys struct{ first, last rowKey }

// difference is what comparing row by row has found.
type difference struct {
	missing []runOfKeys // in ClickHouse
	rows    int64       // in missing
	// orphans: rows of ClickHouse that Postgres does not have, or not so; again: those that are there twice or more.
	orphans int64
	again   int64
}

// diff compares the range row by row, both stores in the order of the identity, and calls orphan for every row of
// ClickHouse that Postgres does not have. writers restricts it to some; nil for all.
func (r *Replicator) diff(ctx context.Context, q querier, l *layout, rg rowRange, writers []int64, orphan func(rowKey) error) (d difference, err error) {
	pgWhere, chWhere := rg.postgresWhere(), rg.clickhouseWhere()
	if writers != nil {
		pgWhere += " AND l.writer_id IN (" + joinInts(writers) + ")"
		chWhere += " AND writer_id IN (" + joinInts(writers) + ")"
	}
	info := tables[rg.table]
	pgKey, pgOrder := "l.writer_id, '00000000-0000-0000-0000-000000000000'::uuid, l.seq", "l.writer_id, l.seq"
	chKey, chOrder := "writer_id, toUUID('00000000-0000-0000-0000-000000000000'), seq", "writer_id, seq"
	if rg.table != auditTable {
		pgKey, pgOrder = "0::bigint, l.audit_id, l.step::bigint", "l.audit_id, l.step"
		chKey, chOrder = "toInt64(0), audit_id, toInt64(step)", "toUInt128(audit_id), step" // as Postgres orders them
	}
	pgRows, err := q.Query(ctx, fmt.Sprintf("SELECT %s, h FROM (SELECT *, %s AS h FROM %s l WHERE %s) l ORDER BY %s",
		pgKey, l.postgresHash(), info.postgres, pgWhere, pgOrder), pgx.QueryResultFormats{pgx.BinaryFormatCode})
	if err != nil {
		return d, err
	}
	defer pgRows.Close()
	chRows, done, err := r.clickhouse.query(ctx, fmt.Sprintf("SELECT %s, hex(%s) AS h FROM %s WHERE %s ORDER BY %s, h",
		chKey, l.clickhouseHash(rg), info.clickhouse, chWhere, chOrder))
	if err != nil {
		return d, err
	}
	defer done()

	nextPG := func() (k rowKey, ok bool, err error) {
		if !pgRows.Next() {
			return k, false, pgRows.Err()
		}
		var hash []byte
		err = pgRows.Scan(&k.writer, &k.call, &k.b, &hash)
		copy(k.hash[:], hash)
		if row, ok := rg.altered[rowKey{writer: k.writer, b: k.b}]; ok {
			k.hash = row.mark
		}
		return k, true, err
	}
	nextCH := func() (k rowKey, ok bool, err error) {
		if !chRows.Next() {
			return k, false, chRows.Err()
		}
		var digits string
		if err := chRows.Scan(&k.writer, &k.call, &k.b, &digits); err != nil {
			return k, false, err
		}
		_, err = hex.Decode(k.hash[:], []byte(digits[:min(len(digits), 64)]))
		return k, true, err
	}
	p, pOK, err := nextPG()
	if err != nil {
		return d, err
	}
	c, cOK, err := nextCH()
	if err != nil {
		return d, err
	}
	open := false // the last run of d.missing may go on
	for pOK {
		found := false
		for cOK && c.compare(&p) <= 0 {
			switch {
			case c.compare(&p) < 0 || c.hash != p.hash:
				d.orphans++
				if err := orphan(c); err != nil {
					return d, err
				}
			case found:
				d.again++
			default:
				found = true
			}
			if c, cOK, err = nextCH(); err != nil {
				return d, err
			}
		}
		if found {
			open = false
		} else {
			d.rows++
			if n := len(d.missing); open && d.missing[n-1].last.writer == p.writer {
				d.missing[n-1].last = p
			} else {
				d.missing = append(d.missing, runOfKeys{p, p})
			}
			open = true
		}
		if p, pOK, err = nextPG(); err != nil {
			return d, err
		}
	}
	for cOK {
		d.orphans++
		if err := orphan(c); err != nil {
			return d, err
		}
		if c, cOK, err = nextCH(); err != nil {
			return d, err
		}
	}
	return d, nil
}
