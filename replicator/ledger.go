package replicator

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/ClickHouse/ch-go/proto"
	"github.com/jackc/pgx/v5"

	"github.com/useargus/argus/replicator/wal"
)

// The ledger is copied beside the rows. It is one sequence without holes, so nothing has to be remembered about it: what
// ClickHouse has ends at a leaf, and the runs from there on follow. A lease term's inserts come one after another, each in
// one part, and a part is there whole or not at all. So each run is there exactly once across every crash. The stream says
// only that there is something.
//
// What ClickHouse has is evidence. When Postgres was restored it has leaves that Postgres lacks, and they stay. Where
// Postgres has another leaf or root, that is a conflict: both are kept, and it is told.

// ledgerPiece bounds what is read and inserted at once, in bytes of digests.
const ledgerPiece = 8 << 20

// ledgerPartition is the number of leaves in a partition of ClickHouse's ledger_runs: an insert stays within one.
const ledgerPartition = 1 << 24

// ledgerCopy is of one goroutine.
type ledgerCopy struct {
	r *Replicator
	t *term // with a connection of its own
	// leaves are how many ClickHouse has, and size that of its newest checkpoint.
	leaves, size int64
	// seen are Postgres's leaves up to which they were copied or compared.
	seen     int64
	compared int64                                       // checkpoints up to that size were compared
	passed   func(ctx context.Context, at wal.LSN) error // waits until the watermark is there
}

// ledgerRun is a row of argus.ledger_runs, in either store.
type ledgerRun struct {
	first, leaves    int64
	kind, month      int16
	writer, firstSeq *int64
	keys, digests    []byte
}

// leaf gives the entry of a leaf as bytes that are equal exactly when the leaves are.
func (l *ledgerRun) leaf(at int64) string {
	i := at - l.first
	key := ""
	if l.kind == 1 {
		key = fmt.Sprint(*l.writer, "/", *l.firstSeq+i)
	} else {
		size := int64(len(l.keys)) / l.leaves
		key = string(l.keys[i*size : (i+1)*size])
	}
	return fmt.Sprint(l.kind, " ", l.month, " ", key, " ") + string(l.digests[i*32:(i+1)*32])
}

// from is the run without the leaves before at.
func (l ledgerRun) from(at int64) ledgerRun {
	n := at - l.first
	if n <= 0 {
		return l
	}
	size := int64(len(l.keys)) / l.leaves
	l.keys, l.digests = l.keys[n*size:], l.digests[n*32:]
	if l.kind == 1 {
		seq := *l.firstSeq + n
		l.firstSeq = &seq
	}
	l.first, l.leaves = at, l.leaves-n
	return l
}

// copyLedger copies the ledger until ctx ends. A failure ends the lease term, as one of the rows' does.
func (s *session) copyLedger(ctx context.Context) error {
	t, err := s.t.another(ctx)
	if err != nil {
		return err
	}
	defer t.close()
	c := &ledgerCopy{r: s.r, t: t, passed: s.passed}
	if err := c.begin(ctx); err != nil {
		return fmt.Errorf("comparing the ledger: %w", err)
	}
	for {
		switch err := c.copy(ctx); {
		case ctx.Err() != nil:
			return nil
		case errors.Is(err, errLedger): // the rows' copy does not wait for a person
			s.r.log.Error("the ledger is not copied any more", "error", err)
			s.r.findings.add(Finding{LedgerConflict, 0, err.Error()})
			s.r.tellFindings()
			return nil
		case err != nil:
			return fmt.Errorf("copying the ledger: %w", err)
		}
		timer := time.NewTimer(2 * time.Second)
		select {
		case <-s.in.ledger:
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			return nil
		}
		timer.Stop()
	}
}

// errLedger: one of the stores has a hole in the ledger.
var errLedger = errors.New("the ledger has a hole")

const ledgerTail = 1 << 16

// begin finds out how far ClickHouse is, and compares the end of what both have.
func (c *ledgerCopy) begin(ctx context.Context) error {
	leaves, err := c.r.clickhouse.number(ctx, "SELECT toUInt64(max(first_leaf + leaves)) FROM ledger_runs")
	if err != nil {
		return err
	}
	size, err := c.r.clickhouse.number(ctx, "SELECT toUInt64(max(size)) FROM ledger_checkpoints")
	if err != nil {
		return err
	}
	c.leaves, c.size = int64(leaves), int64(size)
	there, err := c.r.ledgerSize(ctx)
	if err != nil {
		return err
	}
	both := min(there, c.leaves)
	c.seen, c.compared = max(0, both-ledgerTail), 0
	if there < c.leaves {
		c.r.log.Warn("ClickHouse has leaves of the ledger that Postgres lacks; they are kept", "postgres", there, "clickhouse", c.leaves)
	}
	return nil
}

func (r *Replicator) ledgerSize(ctx context.Context) (size int64, err error) {
	err = r.pool.QueryRow(ctx, "SELECT coalesce((SELECT first_leaf + leaves FROM argus.ledger_runs ORDER BY first_leaf DESC LIMIT 1), 0)").Scan(&size)
	return size, err
}

// copy brings over what Postgres has now. Checkpoints are read before the runs that they are over, and inserted after. They are
// inserted after all that had committed when they were read, too: a row that a checkpoint of the copy is over, and the copy lacks, is
// not on its way. Where servers share the rows this holds of those that come to this one, all steps among them.
func (c *ledgerCopy) copy(ctx context.Context) error {
	for {
		marks, err := c.checkpoints(ctx)
		if err != nil {
			return err
		}
		at, err := insertLSN(ctx, c.r.pool)
		if err != nil {
			return err
		}
		for {
			runs, err := postgresRuns(ctx, c.r.pool, c.seen, 256)
			if err != nil {
				return err
			}
			if len(runs) == 0 {
				break
			}
			if err := c.take(ctx, runs); err != nil {
				return err
			}
		}
		if len(marks) > 0 && marks[len(marks)-1].Size > c.size {
			if err := c.passed(ctx, at); err != nil {
				return err
			}
		}
		if err := c.mark(ctx, marks); err != nil || len(marks) < maxMarks {
			return err
		}
	}
}

// postgresRuns gives runs with leaves from that one on, in order, until they are a piece.
func postgresRuns(ctx context.Context, q querier, from int64, most int) (runs []ledgerRun, err error) {
	rows, err := q.Query(ctx, `SELECT first_leaf, leaves, kind, month, writer_id, first_seq, keys, digests FROM argus.ledger_runs
		WHERE first_leaf > $1 - 8192 AND first_leaf + leaves > $1 ORDER BY first_leaf LIMIT $2`, from, most)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	bytes := 0
	for rows.Next() {
		var l ledgerRun
		if err := rows.Scan(&l.first, &l.leaves, &l.kind, &l.month, &l.writer, &l.firstSeq, &l.keys, &l.digests); err != nil {
			return nil, err
		}
		if runs = append(runs, l); bytes+len(l.digests) > ledgerPiece {
			break
		}
		bytes += len(l.digests)
	}
	return runs, rows.Err()
}

// take inserts the part of the runs that ClickHouse does not have, and compares the other.
func (c *ledgerCopy) take(ctx context.Context, runs []ledgerRun) error {
	var fresh []ledgerRun
	for _, l := range runs {
		end := l.first + l.leaves
		if l.first < c.leaves {
			if err := c.compare(ctx, l, min(end, c.leaves)); err != nil {
				return err
			}
		}
		if c.leaves == 0 && len(fresh) == 0 {
			c.leaves = l.first // what is below was pruned in Postgres
		}
		if end > c.leaves {
			fresh = append(fresh, l.from(c.leaves))
			if fresh[0].first/ledgerPartition != fresh[len(fresh)-1].first/ledgerPartition {
				last := fresh[len(fresh)-1]
				if err := c.insert(ctx, fresh[:len(fresh)-1]); err != nil {
					return err
				}
				fresh = []ledgerRun{last}
			}
			if next := fresh[len(fresh)-1]; next.first != c.leaves+sum(fresh)-next.leaves {
				return fmt.Errorf("%w: Postgres has no leaf %d, and has later ones", errLedger, next.first)
			}
		}
		c.seen = end
	}
	return c.insert(ctx, fresh)
}

func sum(runs []ledgerRun) (n int64) {
	for _, l := range runs {
		n += l.leaves
	}
	return n
}

// compare holds a run of Postgres, up to a leaf, against what ClickHouse has there, however it is cut.
func (c *ledgerCopy) compare(ctx context.Context, l ledgerRun, to int64) error {
	here, err := c.r.clickhouse.runs(ctx, l.first, to)
	if err != nil {
		return err
	}
	at := l.first
	for _, h := range here {
		for at >= h.first && at < min(to, h.first+h.leaves) {
			if h.leaf(at) != l.leaf(at) {
				return c.conflict(ctx, "ledger_runs", at, l.leaf(at))
			}
			at++
		}
	}
	if at < to {
		return fmt.Errorf("%w: ClickHouse has no leaf %d, and has later ones: copy its ledger_runs back from a backup", errLedger, at)
	}
	return nil
}

// runs gives ClickHouse's runs with leaves in [from, to), in order.
func (s *clickhouse) runs(ctx context.Context, from, to int64) (runs []ledgerRun, err error) {
	err = s.each(ctx, func(scan func(...any) error) error {
		var l ledgerRun
		var leaves int32
		var keys *string
		var digests string
		if err := scan(&l.first, &leaves, &l.kind, &l.month, &l.writer, &l.firstSeq, &keys, &digests); err != nil {
			return err
		}
		l.leaves, l.digests = int64(leaves), []byte(digests)
		if keys != nil {
			l.keys = []byte(*keys)
		}
		if l.leaves < 1 || int64(len(l.digests)) != 32*l.leaves || (l.kind == 1) != (l.writer != nil && l.firstSeq != nil) {
			return fmt.Errorf("ClickHouse's run at leaf %d is damaged", l.first)
		}
		runs = append(runs, l)
		return nil
	}, fmt.Sprintf(`SELECT first_leaf, leaves, kind, month, writer_id, first_seq, keys, digests FROM ledger_runs
		WHERE first_leaf > %d - 8192 AND first_leaf < %d AND first_leaf + leaves > %[1]d ORDER BY first_leaf`, from, to))
	return runs, err
}

func (c *ledgerCopy) insert(ctx context.Context, runs []ledgerRun) error {
	if len(runs) == 0 {
		return nil
	}
	var first, writer, seq proto.ColInt64
	var leaves proto.ColInt32
	var kind, month proto.ColInt16
	var keys, digests proto.ColStr
	writers, seqs, nullKeys := proto.NewColNullable(&writer), proto.NewColNullable(&seq), proto.NewColNullable(&keys)
	for _, l := range runs {
		first.Append(l.first)
		leaves.Append(int32(l.leaves))
		kind.Append(l.kind)
		month.Append(l.month)
		digests.AppendBytes(l.digests)
		if l.kind == 1 {
			writers.Append(proto.NewNullable(*l.writer))
			seqs.Append(proto.NewNullable(*l.firstSeq))
			nullKeys.Append(proto.Null[string]())
		} else {
			writers.Append(proto.Null[int64]())
			seqs.Append(proto.Null[int64]())
			nullKeys.Append(proto.NewNullable(string(l.keys)))
		}
	}
	if err := c.insertInto(ctx, "ledger_runs", proto.Input{{Name: "first_leaf", Data: first}, {Name: "leaves", Data: leaves}, {Name: "kind", Data: kind},
		{Name: "month", Data: month}, {Name: "writer_id", Data: writers}, {Name: "first_seq", Data: seqs}, {Name: "keys", Data: nullKeys}, {Name: "digests", Data: digests}}); err != nil {
		return err
	}
	failpoint("ledger")
	c.leaves += sum(runs)
	c.r.metrics.ledgerLeaves.Set(float64(c.leaves))
	return nil
}

func (c *ledgerCopy) insertInto(ctx context.Context, table string, input proto.Input) error {
	names, structure := make([]string, len(input)), make([]string, len(input))
	for i, column := range input {
		names[i] = identifier(column.Name)
		structure[i] = identifier(column.Name) + " " + string(column.Data.Type())
	}
	list := strings.Join(names, ", ")
	err := asFenced(c.t.w.do(ctx, c.t.insertTimeout, fmt.Sprintf("INSERT INTO %s (%s) SELECT %s FROM input(%s) WHERE %s FORMAT Native",
		table, list, list, literal(strings.Join(structure, ", ")), c.t.guard()), input))
	if err != nil {
		return fmt.Errorf("inserting into %s: %w", table, err)
	}
	return nil
}

// ledgerMark is a row of argus.ledger_checkpoints.
type ledgerMark struct {
	Size           int64
	Root           []byte
	Note, Position string
	SealedAt       time.Time
}

const maxMarks = 1000

// checkpoints gives the next ones of Postgres.
func (c *ledgerCopy) checkpoints(ctx context.Context) ([]ledgerMark, error) {
	rows, err := c.r.pool.Query(ctx, "SELECT size, root, note, position, sealed_at FROM argus.ledger_checkpoints WHERE size > $1 ORDER BY size LIMIT $2",
		c.compared, maxMarks)
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, pgx.RowToStructByPos[ledgerMark])
}

// mark inserts checkpoints beyond ClickHouse's newest, and compares the others with those of the same size.
func (c *ledgerCopy) mark(ctx context.Context, marks []ledgerMark) error {
	if len(marks) == 0 {
		return nil
	}
	here := map[int64]string{}
	if marks[0].Size <= c.size {
		if err := c.r.clickhouse.each(ctx, func(scan func(...any) error) error {
			var size int64
			var root string
			err := scan(&size, &root)
			here[size] = root
			return err
		}, fmt.Sprintf("SELECT size, hex(root) FROM ledger_checkpoints WHERE size BETWEEN %d AND %d", marks[0].Size, marks[len(marks)-1].Size)); err != nil {
			return err
		}
	}
	var size proto.ColInt64
	var root proto.ColFixedStr
	root.SetSize(32)
	var note, position proto.ColStr
	at := new(proto.ColDateTime64).WithPrecision(proto.PrecisionMicro).WithLocation(time.UTC)
	for _, m := range marks {
		if m.Size <= c.size {
			if theirs, ok := here[m.Size]; ok && theirs != strings.ToUpper(hex.EncodeToString(m.Root)) {
				if err := c.conflict(ctx, "ledger_checkpoints", m.Size, m.Note); err != nil {
					return err
				}
			}
			continue
		}
		size.Append(m.Size)
		root.Append(m.Root)
		note.Append(m.Note)
		position.Append(m.Position)
		at.Append(m.SealedAt)
	}
	newest := marks[len(marks)-1].Size
	if size.Rows() > 0 {
		if err := c.insertInto(ctx, "ledger_checkpoints", proto.Input{{Name: "size", Data: size}, {Name: "root", Data: root}, {Name: "note", Data: note},
			{Name: "position", Data: position}, {Name: "sealed_at", Data: at}}); err != nil {
			return err
		}
		c.size = newest
	}
	c.compared = newest
	return nil
}

// conflict keeps what Postgres has beside what ClickHouse has, once, and tells it.
func (c *ledgerCopy) conflict(ctx context.Context, table string, place int64, theirs string) error {
	c.r.log.Error("the ledger in Postgres is not the one that was copied: both are kept", "table", table, "place", place)
	c.r.findings.add(Finding{LedgerConflict, 0, fmt.Sprintf("%s of Postgres differs from ClickHouse's copy at %d", table, place)})
	c.r.tellFindings()
	text := literal(strings.ToLower(hex.EncodeToString([]byte(theirs))))
	return c.t.exec(ctx, fmt.Sprintf(`INSERT INTO ledger_conflicts (table, place, postgres) SELECT %s, %d, %s WHERE %s
		AND NOT (SELECT count() > 0 FROM ledger_conflicts WHERE table = %[1]s AND place = %[2]d AND postgres = %[3]s)`, literal(table), place, text, c.t.guard()))
}

// lacking tells what ClickHouse should have of the ledger, and gives how many leaves it has. A replicator brings a checkpoint within
// seconds after it has brought the rows. One that is behind with the rows is behind with the ledger, which is no difference.
func (c *checking) lacking(ctx context.Context, tx pgx.Tx) (here int64, err error) {
	var due int64
	if err := tx.QueryRow(ctx, "SELECT coalesce(max(size), 0) FROM argus.ledger_checkpoints WHERE sealed_at < clock_timestamp() - interval '1 minute'").Scan(&due); err != nil {
		return here, err
	}
	var marked int64
	look := func() error {
		n, err := c.r.clickhouse.number(ctx, "SELECT toUInt64(max(first_leaf + leaves)) FROM ledger_runs")
		if err != nil {
			return err
		}
		m, err := c.r.clickhouse.number(ctx, "SELECT toUInt64(max(size)) FROM ledger_checkpoints")
		here, marked = int64(n), int64(m)
		return err
	}
	if err := look(); err != nil || min(here, marked) >= due {
		return here, err
	}
	at, err := insertLSN(ctx, c.r.pool)
	if err != nil {
		return here, err
	}
	copied, err := c.reached(ctx, at)
	if err != nil {
		return here, err
	}
	for try := 0; ; try++ {
		if err := look(); err != nil || min(here, marked) >= due {
			return here, err
		}
		if !copied || try == 100 {
			break
		}
		if err := sleep(ctx, 100*time.Millisecond); err != nil {
			return here, err
		}
	}
	if !copied {
		mark, _, err := c.r.clickhouse.watermark(ctx)
		if err != nil || mark.lsn > c.mark.lsn {
			return here, err
		}
	}
	if here < due {
		c.differs("ClickHouse has %d leaves of the ledger, and Postgres has had %d for more than a minute", here, due)
	}
	if marked < due {
		c.differs("ClickHouse's newest checkpoint of the ledger has %d leaves, and Postgres has had one of %d for more than a minute", marked, due)
	}
	return here, nil
}

// ledger compares the ledger of both stores, whole: each leaf that both have, and each checkpoint. What ClickHouse lacks and
// Postgres had some seconds ago is a difference too, while a replicator copies.
func (c *checking) ledger(ctx context.Context, tx pgx.Tx) error {
	here, err := c.lacking(ctx, tx)
	if err != nil {
		return err
	}
	there, err := c.r.ledgerSize(ctx) // after what was copied of it
	if err != nil {
		return err
	}
	if here > there {
		c.differs("ClickHouse has %d leaves of the ledger, and Postgres %d: Postgres was restored", here, there)
	}
	for at, both := int64(0), min(here, there); at < both; {
		runs, err := postgresRuns(ctx, tx, at, 256)
		if err != nil || len(runs) == 0 {
			return err // pruned there
		}
		if at == 0 {
			at = runs[0].first // what is below was pruned
		}
		end := min(both, runs[len(runs)-1].first+runs[len(runs)-1].leaves)
		copied, err := c.r.clickhouse.runs(ctx, at, end)
		if err != nil {
			return err
		}
		i := 0
		for at < end {
			l := runs[0]
			if at >= l.first+l.leaves {
				runs = runs[1:]
				continue
			}
			if at < l.first {
				c.differs("Postgres lacks leaf %d of the ledger, and has later ones", at)
				return nil
			}
			for i < len(copied) && at >= copied[i].first+copied[i].leaves {
				i++
			}
			if i == len(copied) || at < copied[i].first {
				c.differs("ClickHouse lacks leaf %d of the ledger", at)
				return nil
			}
			if i+1 < len(copied) && copied[i+1].first < copied[i].first+copied[i].leaves {
				c.differs("ClickHouse has leaf %d of the ledger twice", copied[i+1].first)
				return nil
			}
			h := copied[i]
			if l.first == h.first && l.leaves == h.leaves && at == l.first && l.kind == h.kind && l.month == h.month && equalTo(l.writer, h.writer) &&
				equalTo(l.firstSeq, h.firstSeq) && string(l.keys) == string(h.keys) && string(l.digests) == string(h.digests) {
				c.result.Leaves += l.leaves
				at += l.leaves
				continue
			}
			if l.leaf(at) != h.leaf(at) {
				c.differs("leaf %d of the ledger differs", at)
				return nil
			}
			c.result.Leaves++
			at++
		}
	}
	roots := map[int64]string{}
	if err := c.r.clickhouse.each(ctx, func(scan func(...any) error) error {
		var size int64
		var root string
		err := scan(&size, &root)
		roots[size] = root
		return err
	}, "SELECT size, lower(hex(root)) FROM ledger_checkpoints"); err != nil {
		return err
	}
	rows, err := tx.Query(ctx, "SELECT size, encode(root, 'hex') FROM argus.ledger_checkpoints ORDER BY size")
	if err != nil {
		return err
	}
	var size int64
	var root string
	_, err = pgx.ForEachRow(rows, []any{&size, &root}, func() error {
		if theirs, ok := roots[size]; ok && theirs != root {
			c.differs("checkpoint %d of the ledger has the root %s in Postgres, and %s in ClickHouse", size, root, theirs)
		}
		return nil
	})
	return err
}

func equalTo(a, b *int64) bool { return a == nil && b == nil || a != nil && b != nil && *a == *b }
