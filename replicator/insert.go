package replicator

import (
	"context"
	"fmt"
	"strconv"
	"strings"

	"github.com/ClickHouse/ch-go"
)

// insert gives ClickHouse the rows. With doubt it inserts only the rows that are not there yet. The server reads the
// identities of the rows that may be there before it takes the first of ours. No other insert runs meanwhile (see
// term).
func (t *term) insert(ctx context.Context, r *rows, doubt bool) error {
	if r == nil || r.count == 0 {
		return nil
	}
	info := tables[r.layout.table]
	names, structure := make([]string, len(r.input)), make([]string, len(r.input))
	for i, c := range r.input {
		names[i] = identifier(c.Name)
		structure[i] = identifier(c.Name) + " " + string(c.Data.Type())
	}
	list := strings.Join(names, ", ")
	var b strings.Builder
	fmt.Fprintf(&b, "INSERT INTO %s (%s) SELECT %s FROM input(%s) WHERE %s",
		info.clickhouse, list, list, literal(strings.Join(structure, ", ")), t.guard())
	if doubt {
		b.WriteString(" AND " + r.absent())
	}
	b.WriteString(" FORMAT Native")
	var settings []ch.Setting
	if r.count < granule {
		settings = append(settings, withoutSkipIndexes)
	}
	if err := asFenced(t.w.do(ctx, t.insertTimeout, b.String(), r.input, settings...)); err != nil {
		return fmt.Errorf("inserting %d rows into %s: %w", r.count, info.clickhouse, err)
	}
	return nil
}

// granule is how many rows a skip index tells apart: ClickHouse's index_granularity.
const granule = 8192

// withoutSkipIndexes has the part of an insert go without them. They are two thirds of the files that a part of audit_log has,
// each written and synced, and of fewer rows than a granule they could leave out no more than the part. The merge that takes the
// part up makes them.
var withoutSkipIndexes = ch.Setting{Key: "materialize_skip_indexes_on_insert", Value: "0", Important: true}

// absent is the condition that a row of r is not in its table. The time is part of it because the tables lie
// in its order; it never changes for an identity.
func (r *rows) absent() string {
	info := tables[r.layout.table]
	key := fmt.Sprintf("(%s, %s, %s)", info.at, info.key[0], info.key[1])
	var b strings.Builder
	fmt.Fprintf(&b, "%s NOT IN (SELECT %s, %s, %s FROM %s WHERE %s BETWEEN %s AND %s",
		key, info.at, info.key[0], info.key[1], info.clickhouse, info.at, micros(r.minAt), micros(r.maxAt))
	if r.layout.table == auditTable {
		fmt.Fprintf(&b, " AND seq BETWEEN %d AND %d", r.minSeq, r.maxSeq)
		if !r.wide {
			b.WriteString(" AND writer_id IN (" + joinInts(r.writers) + ")")
		}
	}
	b.WriteString(")")
	return b.String()
}

func joinInts[T ~int | ~int64](ids []T) string {
	var b []byte
	for i, id := range ids {
		if i > 0 {
			b = append(b, ',')
		}
		b = strconv.AppendInt(b, int64(id), 10)
	}
	return string(b)
}

// insertBatch gives ClickHouse the rows of all tables.
func (t *term) insertBatch(ctx context.Context, b *batch, doubt bool) error {
	for _, r := range b.tables {
		if err := t.insert(ctx, r, doubt); err != nil {
			return err
		}
	}
	return nil
}
