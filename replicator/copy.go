package replicator

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"strings"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/useargus/argus/replicator/wal"
)

// snapshot is a moment of Postgres that several connections can look at.
type snapshot struct {
	name string
	at   wal.LSN // of what it shows, all committed before at
}

// takeSnapshot opens one that lasts until release.
func takeSnapshot(ctx context.Context, pool *pgxpool.Pool) (s snapshot, release func(), err error) {
	tx, err := pool.BeginTx(ctx, pgx.TxOptions{IsoLevel: pgx.RepeatableRead, AccessMode: pgx.ReadOnly})
	if err != nil {
		return s, nil, err
	}
	release = func() { tx.Rollback(context.WithoutCancel(ctx)) }
	if _, err = tx.Exec(ctx, "SET LOCAL idle_in_transaction_session_timeout = 0"); err == nil {
		err = tx.QueryRow(ctx, "SELECT pg_export_snapshot()").Scan(&s.name)
	}
	if err == nil {
		s.at, err = insertLSN(ctx, tx)
	}
	if err != nil {
		release()
		return s, nil, fmt.Errorf("taking a snapshot of Postgres: %w", err)
	}
	return s, release, nil
}

// insertLSN is a position before which all has committed that is visible now.
func insertLSN(ctx context.Context, q querier) (wal.LSN, error) {
	var text string
	if err := q.QueryRow(ctx, "SELECT pg_current_wal_insert_lsn()::text").Scan(&text); err != nil {
		return 0, err
	}
	return wal.ParseLSN(text)
}

// within runs f in a read-only transaction that sees the snapshot.
func (r *Replicator) within(ctx context.Context, s snapshot, f func(tx pgx.Tx) error) error {
	tx, err := r.pool.BeginTx(ctx, pgx.TxOptions{IsoLevel: pgx.RepeatableRead, AccessMode: pgx.ReadOnly})
	if err != nil {
		return err
	}
	defer tx.Rollback(context.WithoutCancel(ctx))
	if _, err := tx.Exec(ctx, "SET TRANSACTION SNAPSHOT '"+strings.ReplaceAll(s.name, "'", "''")+"'"); err != nil {
		return fmt.Errorf("looking at the snapshot: %w", err)
	}
	return f(tx)
}

// copyRows copies rows of the table that the condition on l selects into ClickHouse, where none of them is.
func (t *term) copyRows(ctx context.Context, tx pgx.Tx, l *layout, from, where string, limit batchLimit, copied func(int)) error {
	w := &copyWriter{table: l.table, batch: newBatch()}
	w.batch.tables[l.table] = newRows(l)
	w.flush = func(b *batch) error {
		if err := t.insertBatch(ctx, b, false); err != nil {
			return err
		}
		failpoint("copied")
		copied(b.rows)
		b.reset()
		return nil
	}
	w.limit = limit
	if err := copyOut(ctx, tx, l, from, where, w); err != nil || w.batch.rows == 0 {
		return err
	}
	return w.flush(w.batch)
}

// copyOut gives w the rows of the table that the condition on l selects, with the columns in the layout's order.
func copyOut(ctx context.Context, tx pgx.Tx, l *layout, from, where string, w *copyWriter) error {
	var columns []string
	for _, c := range l.source {
		columns = append(columns, "l."+pgx.Identifier{c.Name}.Sanitize())
	}
	_, err := tx.Conn().PgConn().CopyTo(ctx, w, fmt.Sprintf("COPY (SELECT %s FROM %s WHERE %s) TO STDOUT (FORMAT binary)",
		strings.Join(columns, ", "), from, where))
	if w.err != nil {
		err = w.err // the cause, not that the copy was given up
	}
	if err == nil && !w.ended {
		err = fmt.Errorf("copying %s: %w", tables[l.table].postgres, wal.ErrMalformed)
	}
	return err
}

// copyWriter reads what COPY … (FORMAT binary) sends, in pieces of any size, into batches.
type copyWriter struct {
	table  int
	batch  *batch
	limit  batchLimit
	flush  func(*batch) error
	reader rowReader

	pending []byte // the beginning of a piece not complete yet
	begun   bool   // the header has come
	ended   bool   // the trailer has come
	err     error
}

var copySignature = []byte("PGCOPY\n\xff\r\n\x00")

// errShort: more bytes must come.
var errShort = errors.New("incomplete")

func (w *copyWriter) Write(p []byte) (int, error) {
	n := len(p)
	if w.err != nil {
		return 0, w.err
	}
	if len(w.pending) > 0 {
		w.pending = append(w.pending, p...)
		p = w.pending
	}
	for len(p) > 0 {
		size, err := w.piece(p)
		if errors.Is(err, errShort) {
			break
		}
		if err != nil {
			w.err = err
			return 0, err
		}
		p = p[size:]
	}
	w.pending = append(w.pending[:0], p...)
	return n, nil
}

// piece reads the header, a row or the trailer, and returns its size.
func (w *copyWriter) piece(p []byte) (int, error) {
	if !w.begun {
		const head = 11 + 4 + 4
		if len(p) < head {
			return 0, errShort
		}
		extension := int(binary.BigEndian.Uint32(p[15:]))
		if string(p[:11]) != string(copySignature) || extension > 1<<20 {
			return 0, wal.ErrMalformed
		}
		if len(p) < head+extension {
			return 0, errShort
		}
		w.begun = true
		return head + extension, nil
	}
	if w.ended {
		return 0, wal.ErrMalformed
	}
	if len(p) < 2 {
		return 0, errShort
	}
	count := int(int16(binary.BigEndian.Uint16(p)))
	if count == -1 {
		w.ended = true
		return 2, nil
	}
	size := 2
	for range count {
		if len(p) < size+4 {
			return 0, errShort
		}
		length := int32(binary.BigEndian.Uint32(p[size:]))
		size += 4
		if length > 0 {
			size += int(length)
		}
		if len(p) < size {
			return 0, errShort
		}
	}
	if err := w.reader.copied(w.batch, w.table, p[:size]); err != nil {
		return 0, err
	}
	if w.limit.full(w.batch) {
		return size, w.flush(w.batch)
	}
	return size, nil
}

// runCondition selects the rows of runs, from the table as l and the runs as k.
func runCondition(table int, runs []runOfKeys) (from string) {
	var b strings.Builder
	for i, run := range runs {
		if i > 0 {
			b.WriteString(", ")
		}
		if table == auditTable {
			fmt.Fprintf(&b, "(%d::bigint, %d::bigint, %d::bigint)", run.first.writer, run.first.b, run.last.b)
		} else {
			fmt.Fprintf(&b, "('%s'::uuid, %d::bigint, '%s'::uuid, %d::bigint)", run.first.call, run.first.b, run.last.call, run.last.b)
		}
	}
	if table == auditTable {
		return fmt.Sprintf("(VALUES %s) k (w, a, b) JOIN %s l ON l.writer_id = k.w AND l.seq BETWEEN k.a AND k.b", &b, tables[table].postgres)
	}
	return fmt.Sprintf("(VALUES %s) k (a, i, b, j) JOIN %s l ON (l.audit_id, l.step) >= (k.a, k.i) AND (l.audit_id, l.step) <= (k.b, k.j)",
		&b, tables[table].postgres)
}
