package replicator

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5"

	"github.com/useargus/argus/replicator/chcolumn"
)

// alteredRow is a row of Postgres whose columns do not make its row_hash. Which of the two is wrong cannot be told.
type alteredRow struct {
	stored [32]byte
	mark   [32]byte // what it is compared by then, in both stores: SHA-256 of row_hash and of what the columns make
}

// altered are such rows, by writer and seq.
type altered map[rowKey]alteredRow

// alteredIn recomputes the row_hash of the rows that Postgres has there, from its columns.
func alteredIn(ctx context.Context, tx pgx.Tx, l *layout, from, where string) (altered, error) {
	found := altered{}
	w := &copyWriter{table: l.table, batch: newBatch(), limit: batchLimit{1, 1 << 30}}
	w.batch.tables[l.table] = newRows(l)
	w.flush = func(b *batch) error {
		defer b.reset()
		if b.altered == 0 || len(found) >= maxFindings {
			return nil
		}
		key := rowKey{writer: b.alteredWriter, b: b.alteredSeq}
		var row alteredRow
		copy(row.stored[:], w.reader.values[chcolumn.RowHashAt])
		made := w.reader.hash.Made()
		row.mark = sha256.Sum256(slices.Concat(row.stored[:], made[:]))
		found[key] = row
		return nil
	}
	if l.audited == 0 {
		return found, nil
	}
	return found, copyOut(ctx, tx, l, from, where, w)
}

// alteredOf looks at the rows of a range of which ClickHouse says that the columns do not make the row_hash.
func (r *Replicator) alteredOf(ctx context.Context, tx pgx.Tx, l *layout, rg rowRange) (altered, error) {
	var runs []runOfKeys
	err := r.clickhouse.each(ctx, func(scan func(...any) error) error {
		var k rowKey
		err := scan(&k.writer, &k.b)
		runs = append(runs, runOfKeys{k, k})
		return err
	}, fmt.Sprintf("SELECT writer_id, seq FROM audit_log WHERE %s AND row_hash != %s ORDER BY writer_id, seq LIMIT %d",
		rg.clickhouseWhere(), chcolumn.RowHashSQL(), 10*maxFindings))
	if err != nil {
		return nil, err
	}
	all := altered{}
	for chunk := range slices.Chunk(runs, 500) {
		some, err := alteredIn(ctx, tx, l, runCondition(rg.table, chunk), rg.postgresWhere())
		if err != nil {
			return nil, err
		}
		for k, row := range some {
			all[k] = row
		}
	}
	return all, nil
}

// adjust puts the marks of altered rows in the place of their hashes.
func (a altered) adjust(digests map[int64]digest) {
	prefix := func(h [32]byte) uint64 { return binary.BigEndian.Uint64(h[:]) >> 4 }
	for k, row := range a {
		d := digests[k.writer]
		d.sum += prefix(row.mark) - prefix(row.stored)
		digests[k.writer] = d
	}
}

// findings name the rows, some hundreds of one writer as one.
func (a altered) findings() (found []Finding) {
	seqs := map[int64][]int64{}
	for k := range a {
		seqs[k.writer] = append(seqs[k.writer], k.b)
	}
	for writer, of := range seqs {
		slices.Sort(of)
		text := fmt.Sprintf("the columns of row %d of writer %d do not make its row_hash", of[0], writer)
		if len(of) > 1 {
			text = fmt.Sprintf("the columns of rows %s of writer %d do not make their row_hash",
				strings.ReplaceAll(joinInts(of[:min(len(of), 20)]), ",", ", "), writer)
		}
		found = append(found, Finding{RowsAltered, writer, text})
	}
	slices.SortFunc(found, func(x, y Finding) int { return int(x.WriterID - y.WriterID) })
	return found
}
