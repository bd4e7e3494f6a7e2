package replicator

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/useargus/argus"
	"github.com/useargus/argus/replicator/chcolumn"
	"github.com/useargus/argus/replicator/wal"
)

// Result is what Check has found.
type Result struct {
	Rows    int64 // of the audit log, in both stores
	Steps   int64 // of the domain tables
	Rollups int   // months of rollups recomputed
	Leaves  int64 // of the ledger, in both stores
	// Pending rows of Postgres are not promised by the watermark yet, so they were not looked for.
	Pending int64
	// Differences, one a month and table or rollup: the first row each, in words.
	Differences []string
	// Findings are damage of the log itself, which no copying mends; at most a thousand.
	Findings []Finding
}

// Equal reports whether nothing differed, and the log is whole.
func (r Result) Equal() bool { return len(r.Differences)+len(r.Findings) == 0 }

// String says what was compared, the first difference, and the first findings.
func (r Result) String() string {
	s := fmt.Sprintf("compared %s, %s, %s of rollups and %s of the ledger", argus.Counted(r.Rows, "row"), argus.Counted(r.Steps, "step"),
		argus.Counted(r.Rollups, "month"), argus.Counted(r.Leaves, "leaf"))
	if r.Pending > 0 {
		s += fmt.Sprintf("; not copied yet: %s", argus.Counted(r.Pending, "row"))
	}
	if r.Equal() {
		return s + ": equal"
	}
	if len(r.Differences) > 0 {
		s = fmt.Sprintf("%s: %s, the first:\n%s", s, argus.Counted(len(r.Differences), "difference"), r.Differences[0])
	} else {
		s += ": the copies agree"
	}
	if len(r.Findings) > 0 {
		s = fmt.Sprintf("%s\nthe log in Postgres is damaged, %s:", s, argus.Counted(len(r.Findings), "finding"))
		for _, f := range r.Findings[:min(len(r.Findings), 20)] {
			s += fmt.Sprintf("\n%s: %s", f.Kind, f.Text)
		}
	}
	return s
}

// ErrNothingCompared: there was nothing to compare, or no way to.
var ErrNothingCompared = errors.New("nothing was compared")

// Check compares what occurred since a time (zero for all) in both stores. It compares the rows that the watermark
// promises by identity and row_hash, which it recomputes from ClickHouse's columns. It compares the domain tables by
// all columns, and every rollup with what its rows make. It holds all rows of each writer to argus.audit_writers,
// whenever they occurred, and recomputes the row_hash of Postgres's rows too. It changes nothing, and copying may go
// on meanwhile.
//
// An error means that nothing, or not all, could be compared.
func (r *Replicator) Check(ctx context.Context, since time.Time) (Result, error) {
	c := &checking{r: r, since: since, saidHash: map[month]bool{}}
	err := c.run(ctx)
	if err == nil && c.result.Rows+c.result.Steps == 0 && c.result.Equal() {
		err = fmt.Errorf("%w: no rows since then", ErrNothingCompared)
	}
	return c.result, err
}

type checking struct {
	r      *Replicator
	since  time.Time
	late   bool // no replicator copies: of the domain tables what is young may be missing
	mark   watermark
	share  share
	result Result

	saidHash map[month]bool
}

func (c *checking) run(ctx context.Context) error {
	// The watermark first: a snapshot taken later has all that it promises.
	mark, known, err := c.r.clickhouse.watermark(ctx)
	if err != nil {
		return fmt.Errorf("%w: reading the watermark: %w", ErrNothingCompared, err)
	}
	// Another slot's server may be equal, and says nothing of this copy.
	if _, err := c.r.paired(ctx); err != nil {
		return fmt.Errorf("%w: %w", ErrNothingCompared, err)
	}
	if !known {
		return fmt.Errorf("%w: ClickHouse has no watermark; nothing was ever copied", ErrNothingCompared)
	}
	snap, release, err := takeSnapshot(ctx, c.r.pool)
	if err != nil {
		return fmt.Errorf("%w: %w", ErrNothingCompared, err)
	}
	defer release()
	c.mark = mark
	return c.r.within(ctx, snap, func(tx pgx.Tx) error {
		layouts, err := c.r.layouts(ctx, tx)
		if err != nil {
			return err
		}
		if c.share, err = c.r.readShare(ctx, tx); err != nil {
			return err
		}
		all, err := readRows(ctx, tx, c.share)
		if err != nil {
			return err
		}
		if c.result.Findings, err = reconcile(ctx, tx, all); err != nil {
			return err
		}
		if err := c.writers(ctx, tx); err != nil {
			return err
		}
		if c.share.first() {
			if err := c.ledger(ctx, tx); err != nil {
				return fmt.Errorf("comparing the ledger: %w", err)
			}
		}
		for t := range tables {
			months, here, err := c.r.monthsOf(ctx, tx, t)
			if err != nil {
				return err
			}
			months = slices.DeleteFunc(months, func(m month) bool { return !m.to().After(c.since) })
			if t != auditTable && !c.late {
				// Nothing else says which rows of the domain tables are promised.
				copied, err := c.reached(ctx, snap.at)
				if err != nil {
					return err
				}
				c.late = !copied
			}
			for _, m := range months {
				rg := rowRange{table: t, month: m, share: c.share, since: c.since}
				if t == auditTable {
					rg.held = &mark.position
					err = c.auditMonth(ctx, tx, layouts[t], rg)
				} else {
					err = c.stepsMonth(ctx, tx, layouts[t], rg)
				}
				if err != nil {
					return fmt.Errorf("comparing %s of %s: %w", m, tables[t].clickhouse, err)
				}
			}
			if t == auditTable {
				if err := c.rollups(ctx, slices.DeleteFunc(months, func(m month) bool { return !here[m] })); err != nil {
					return err
				}
			}
		}
		return nil
	})
}

func (c *checking) differs(format string, args ...any) {
	c.result.Differences = append(c.result.Differences, fmt.Sprintf(format, args...))
}

func (c *checking) auditMonth(ctx context.Context, tx pgx.Tx, l *layout, rg rowRange) error {
	there, err := postgresDigests(ctx, tx, l, rg)
	if err != nil {
		return err
	}
	here, err := c.r.clickhouse.digests(ctx, l, rg)
	if err != nil {
		return err
	}
	all := rg
	all.held = nil
	var pending int64
	if err := tx.QueryRow(ctx, fmt.Sprintf("SELECT count(*) FROM %s l WHERE %s", tables[rg.table].postgres, all.postgresWhere())).Scan(&pending); err != nil {
		return err
	}
	var differ []int64
	for writer, d := range there {
		c.result.Rows += d.count
		pending -= d.count
		if here[writer] != d {
			differ = append(differ, writer)
		}
	}
	c.result.Pending += pending
	for writer := range here {
		if _, ok := there[writer]; !ok {
			differ = append(differ, writer)
		}
	}
	if len(differ) > 0 {
		slices.Sort(differ)
		if err := c.firstDifference(ctx, tx, l, rg, differ[:min(len(differ), 1000)]); err != nil {
			return err
		}
	}
	if err := c.beyond(ctx, rg); err != nil {
		return err
	}
	return c.hashes(ctx, tx, l, rg)
}

// writers holds what argus.audit_writers says to what the watermark promises.
func (c *checking) writers(ctx context.Context, tx pgx.Tx) error {
	reading, err := readWriters(ctx, tx, c.share, c.mark.position)
	if err != nil {
		return err
	}
	for _, f := range writerDamage(c.mark.position, reading) {
		if !slices.ContainsFunc(c.result.Findings, func(g Finding) bool { return g.Kind == f.Kind && g.WriterID == f.WriterID }) {
			c.result.Findings = append(c.result.Findings, f)
		}
	}
	return nil
}

// hashes recomputes row_hash from the columns of either store.
func (c *checking) hashes(ctx context.Context, tx pgx.Tx, l *layout, rg rowRange) error {
	bad, err := alteredIn(ctx, tx, l, tables[rg.table].postgres+" l", rg.postgresWhere())
	if err != nil {
		return err
	}
	c.result.Findings = append(c.result.Findings, bad.findings()...)
	return c.r.clickhouse.each(ctx, func(scan func(...any) error) error {
		var writer, seq int64
		var mark string
		if err := scan(&writer, &seq, &mark); err != nil {
			return err
		}
		// What is wrong in Postgres too, and in the same way, was copied as it is.
		if row, ok := bad[rowKey{writer: writer, b: seq}]; !ok || fmt.Sprintf("%X", row.mark) != mark {
			if !c.saidHash[rg.month] {
				c.differs("%s: the columns in ClickHouse do not make the row_hash of writer %d, seq %d", rg.month, writer, seq)
			}
			c.saidHash[rg.month] = true
		}
		return nil
	}, fmt.Sprintf("SELECT writer_id, seq, hex(SHA256(concat(row_hash, %s))) FROM audit_log WHERE %s AND row_hash != %[1]s ORDER BY writer_id, seq LIMIT %[3]d",
		chcolumn.RowHashSQL(), rg.clickhouseWhere(), maxFindings))
}

func (c *checking) stepsMonth(ctx context.Context, tx pgx.Tx, l *layout, rg rowRange) error {
	if c.late {
		// The watermark says nothing of single steps; what is a minute older than it had committed by then.
		rg.until = c.mark.at.Add(-time.Minute)
	}
	there, err := postgresDigests(ctx, tx, l, rg)
	if err != nil {
		return err
	}
	here, err := c.r.clickhouse.digests(ctx, l, rg)
	if err != nil {
		return err
	}
	c.result.Steps += there[0].count
	if there[0] == here[0] {
		return nil
	}
	return c.firstDifference(ctx, tx, l, rg, nil)
}

// beyond looks at rows that the watermark does not promise yet: those that are in ClickHouse nevertheless are in
// Postgres, which had them first.
func (c *checking) beyond(ctx context.Context, rg rowRange) error {
	rg.beyond = true
	type row struct {
		writer, seq int64
		hash        string
	}
	var rows []row
	if err := c.r.clickhouse.each(ctx, func(scan func(...any) error) error {
		var k row
		err := scan(&k.writer, &k.seq, &k.hash)
		rows = append(rows, k)
		return err
	}, "SELECT writer_id, seq, hex(row_hash) FROM audit_log WHERE "+rg.clickhouseWhere()+" ORDER BY writer_id, seq LIMIT 100000"); err != nil {
		return err
	}
	for chunk := range slices.Chunk(rows, 10_000) {
		writers, seqs, hashes := make([]int64, len(chunk)), make([]int64, len(chunk)), make([]string, len(chunk))
		for i, k := range chunk {
			writers[i], seqs[i], hashes[i] = k.writer, k.seq, k.hash
		}
		var writer, seq int64
		err := c.r.pool.QueryRow(ctx, `SELECT w, s FROM unnest($1::bigint[], $2::bigint[], $3::text[]) k (w, s, h)
			WHERE NOT EXISTS (SELECT FROM argus.argus_audit_log l WHERE l.writer_id = w AND l.seq = s AND l.row_hash = decode(h, 'hex'))
			ORDER BY 1, 2 LIMIT 1`, writers, seqs, hashes).Scan(&writer, &seq)
		switch {
		case errors.Is(err, pgx.ErrNoRows):
		case err != nil:
			return err
		default:
			c.differs("%s, %s: Postgres has no such row as ClickHouse's writer %d, seq %d", tables[rg.table].clickhouse, rg.month, writer, seq)
			return nil
		}
	}
	return nil
}

// firstDifference looks row by row. Rows of the domain tables that came after the snapshot are none.
func (c *checking) firstDifference(ctx context.Context, tx pgx.Tx, l *layout, rg rowRange, writers []int64) error {
	var orphans []rowKey
	d, err := c.r.diff(ctx, tx, l, rg, writers, func(k rowKey) error {
		if len(orphans) < 1000 {
			orphans = append(orphans, k)
		}
		return nil
	})
	if err != nil {
		return err
	}
	what := fmt.Sprintf("%s, %s", tables[rg.table].clickhouse, rg.month)
	switch {
	case d.rows > 0:
		c.differs("%s: ClickHouse lacks %s, the first %s", what, argus.Counted(d.rows, "row"), d.missing[0].first.name(rg.table))
	case d.again > 0:
		c.differs("%s: ClickHouse has %s twice", what, argus.Counted(d.again, "row"))
	}
	for _, k := range orphans {
		if rg.table != auditTable {
			var now bool
			if err := c.r.pool.QueryRow(ctx, fmt.Sprintf("SELECT EXISTS (SELECT FROM %s l WHERE l.audit_id = $1 AND l.step = $2 AND %s = $3)",
				tables[rg.table].postgres, l.postgresHash()), k.call, k.b, k.hash[:16]).Scan(&now); err != nil {
				return err
			}
			if now {
				continue
			}
		}
		c.differs("%s: Postgres has no such row as ClickHouse's %s", what, k.name(rg.table))
		break
	}
	return nil
}

func (k *rowKey) name(table int) string {
	if table == auditTable {
		return fmt.Sprintf("writer %d, seq %d", k.writer, k.b)
	}
	return fmt.Sprintf("audit_id %s, step %d", k.call, k.b)
}

// reached tells whether the copy has all that had committed before at. It waits for that as long as a replicator copies,
// or may have a successor: a lease that was not given back ran out less than ten seconds ago. It waits a minute at most.
func (c *checking) reached(ctx context.Context, at wal.LSN) (bool, error) {
	for range 600 {
		mark, _, err := c.r.clickhouse.watermark(ctx)
		if err != nil || mark.lsn >= at {
			return err == nil, err
		}
		var active bool
		if err := c.r.pool.QueryRow(ctx, `SELECT coalesce((SELECT expires_at > clock_timestamp() - interval '10 seconds' FROM argus.replicator_lease
			WHERE slot = $1), false)`, c.r.config.Slot).Scan(&active); err != nil {
			return false, err
		}
		if !active {
			break
		}
		if err := sleep(ctx, 100*time.Millisecond); err != nil {
			return false, err
		}
	}
	return false, nil
}

// rollups recomputes them. A row and what it counts in become visible one after the other, and a replicator that is killed
// between the two leaves the second to its successor. So a difference counts only when it stays, and stays when the copy
// has all that had committed when it was seen.
func (c *checking) rollups(ctx context.Context, months []month) error {
	all, err := c.r.clickhouse.rollups(ctx)
	if err != nil {
		return err
	}
	for _, r := range all {
		for _, m := range months {
			difference, err := c.lasting(ctx, r, m)
			if err != nil {
				return err
			}
			if difference != "" {
				at, err := insertLSN(ctx, c.r.pool)
				if err != nil {
					return err
				}
				if _, err = c.reached(ctx, at); err != nil {
					return err
				}
				if difference, err = c.lasting(ctx, r, m); err != nil {
					return err
				}
			}
			c.result.Rollups++
			if difference != "" {
				c.differs("%s, %s: %s", r.target, m, difference)
			}
		}
	}
	return nil
}

// lasting is the difference of a rollup's month that twenty looks within two seconds have found. While rows keep coming, most
// looks of a busy machine find one of them on its way. So each way of differing, more or less than the rows make, need not be
// found once.
func (c *checking) lasting(ctx context.Context, r rollup, m month) (difference string, err error) {
	var gone [2]bool
	for try := range 20 {
		if try > 0 {
			if err := sleep(ctx, 100*time.Millisecond); err != nil {
				return "", err
			}
		}
		if difference, err = c.r.clickhouse.rollupMonthDifference(ctx, r, m, &gone); err != nil || difference == "" {
			return "", err
		}
	}
	return difference, nil
}
