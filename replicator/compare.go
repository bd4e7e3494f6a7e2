package replicator

import (
	"context"
	"fmt"
	"math/big"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgtype"

	"github.com/useargus/argus"
	"github.com/useargus/argus/replicator/chcolumn"
	"github.com/useargus/argus/replicator/wal"
)

// month is a calendar month in UTC, as 202611.
type month int

func monthOf(t time.Time) month { return month(t.UTC().Year()*100 + int(t.UTC().Month())) }

func (m month) from() time.Time {
	return time.Date(int(m)/100, time.Month(int(m)%100), 1, 0, 0, 0, 0, time.UTC)
}
func (m month) to() time.Time  { return m.from().AddDate(0, 1, 0) }
func (m month) String() string { return m.from().Format("2006-01") }

// digest stands for a set of rows: how many they are, and the sum of the first 60 bits of their hashes. Two
// sets that differ by accident have the same digest about never.
type digest struct {
	count int64
	sum   uint64
}

// rowRange says which rows of a table are compared: those of a time range, and of seq ranges where held is set.
type rowRange struct {
	table int
	month month
	share share           // rows of Postgres that are another shard's are not compared
	since time.Time       // later than the month's start, or zero
	until time.Time       // of the domain tables alone, or zero
	held  *argus.Position // of the audit log alone: only rows in it; nil for all
	// beyond: only rows not in held.
	beyond bool
	// recompute: a row of ClickHouse counts by row_hash only if that is what its columns make.
	recompute bool
	// altered rows of Postgres are compared by their marks, when recompute is set.
	altered altered
}

// What a row is compared by: row_hash, or for the domain tables a hash of all columns as text. Both are
// computed by both stores alike.
func (l *layout) postgresHash() string {
	if l.table == auditTable {
		return "row_hash"
	}
	var parts []string
	for _, c := range l.shared() {
		name := c.Name
		text := name + "::text"
		if isTime(c) {
			text = "(extract(epoch FROM " + name + ") * 1000000)::bigint::text"
		}
		parts = append(parts, "coalesce('=' || "+text+", '~')")
	}
	return "decode(md5(concat_ws(chr(31), " + strings.Join(parts, ", ") + ")), 'hex')"
}

func (l *layout) clickhouseHash(rg rowRange) string {
	switch {
	case l.table == auditTable && rg.recompute:
		made := chcolumn.RowHashSQL()
		return fmt.Sprintf("if(row_hash = %s, row_hash, SHA256(concat(row_hash, %s)))", made, made)
	case l.table == auditTable:
		return "row_hash"
	}
	var parts []string
	for _, c := range l.shared() {
		name := c.Name
		text := "toString(" + name + ")"
		if isTime(c) {
			text = "toString(toUnixTimestamp64Micro(" + name + "))"
		}
		parts = append(parts, "ifNull(concat('=', "+text+"), '~')")
	}
	return "MD5(concatWithSeparator(char(31), " + strings.Join(parts, ", ") + "))"
}

// shared are the columns both stores have.
func (l *layout) shared() []wal.Column {
	var columns []wal.Column
	for i, c := range l.source {
		if l.types[i] != "" {
			columns = append(columns, c)
		}
	}
	return columns
}

// isTime reports whether the column holds a moment, which the stores write as text in two ways.
func isTime(c wal.Column) bool { return c.OID == pgtype.TimestamptzOID || c.OID == pgtype.TimestampOID }

// postgresWhere restricts a query on the root table, named l, to the range.
func (rg rowRange) postgresWhere() string {
	from, to := rg.month.from(), rg.month.to()
	if rg.table != auditTable {
		where := fmt.Sprintf("l.audit_id >= %s AND l.audit_id < %s AND %s", uuidFloor(from), uuidFloor(to), rg.share.steps())
		if rg.since.After(from) {
			where += fmt.Sprintf(" AND l.at >= '%s'", rg.since.UTC().Format(time.RFC3339Nano))
		}
		if !rg.until.IsZero() {
			where += fmt.Sprintf(" AND l.at < '%s'", rg.until.UTC().Format(time.RFC3339Nano))
		}
		return where
	}
	if rg.since.After(from) {
		from = rg.since
	}
	where := fmt.Sprintf("l.occurred_at >= '%s' AND l.occurred_at < '%s'", from.UTC().Format(time.RFC3339Nano), to.Format(time.RFC3339Nano)) +
		" AND " + rg.share.writers("l.writer_id")
	if rg.held != nil {
		where += " AND " + heldIn(*rg.held, "l.", func(ids, seqs string) string {
			return fmt.Sprintf("l.seq <= (ARRAY[%s]::bigint[])[array_position(ARRAY[%s]::bigint[], l.writer_id)]", seqs, ids)
		})
	}
	return where
}

func (rg rowRange) clickhouseWhere() string {
	from, to := rg.month.from(), rg.month.to()
	if rg.table != auditTable {
		where := fmt.Sprintf("%s = %d", callMonth, rg.month)
		if rg.since.After(from) {
			where += fmt.Sprintf(" AND at >= %s", micros(rg.since.UnixMicro()))
		}
		if !rg.until.IsZero() {
			where += fmt.Sprintf(" AND at < %s", micros(rg.until.UnixMicro()))
		}
		return where
	}
	if rg.since.After(from) {
		from = rg.since
	}
	where := fmt.Sprintf("occurred_at >= %s AND occurred_at < %s", micros(from.UnixMicro()), micros(to.UnixMicro()))
	if rg.held != nil {
		where += " AND " + not(rg.beyond) + heldIn(*rg.held, "", func(ids, seqs string) string {
			return fmt.Sprintf("seq <= [%s][indexOf([%s], writer_id)]", seqs, ids)
		})
	}
	return where
}

func not(beyond bool) string {
	if beyond {
		return "NOT "
	}
	return ""
}

// heldIn is the condition that a row is in the position.
func heldIn(p argus.Position, prefix string, through func(ids, seqs string) string) string {
	ids := sortedWriters(p)
	if len(ids) == 0 {
		return fmt.Sprintf("(%swriter_id <= %d)", prefix, p.ClosedThrough)
	}
	seqs := make([]int64, len(ids))
	for i, id := range ids {
		seqs[i] = p.Writers[id]
	}
	list := joinInts(ids)
	return fmt.Sprintf("(CASE WHEN %swriter_id IN (%s) THEN %s ELSE %swriter_id <= %d END)",
		prefix, list, through(list, joinInts(seqs)), prefix, p.ClosedThrough)
}

func uuidFloor(t time.Time) string {
	hex := fmt.Sprintf("%012x", t.UnixMilli())
	return fmt.Sprintf("'%s-%s-0000-0000-000000000000'", hex[:8], hex[8:])
}

// group is what digests are kept by: the writer; 0 for the domain tables.
func (rg rowRange) group() string {
	if rg.table == auditTable {
		return "writer_id"
	}
	return "0::bigint"
}

// postgresDigests of the range, by writer.
//
// Of altered rows the marks count.
func postgresDigests(ctx context.Context, q querier, l *layout, rg rowRange) (map[int64]digest, error) {
	rows, err := q.Query(ctx, fmt.Sprintf(`
		SELECT %s, count(*), sum(('x' || substr(encode(h, 'hex'), 1, 15))::bit(60)::bigint)::text
		  FROM (SELECT *, %s AS h FROM %s l WHERE %s) t GROUP BY 1`,
		rg.group(), l.postgresHash(), tables[rg.table].postgres, rg.postgresWhere()))
	if err != nil {
		return nil, err
	}
	out := map[int64]digest{}
	var writer, count int64
	var sum string
	_, err = pgx.ForEachRow(rows, []any{&writer, &count, &sum}, func() error {
		n, ok := new(big.Int).SetString(sum, 10)
		if !ok {
			return fmt.Errorf("a sum of hashes is %q", sum)
		}
		out[writer] = digest{count, n.And(n, maxUint64).Uint64()} // ClickHouse's sum wraps around
		return nil
	})
	rg.altered.adjust(out)
	return out, err
}

var maxUint64 = new(big.Int).SetUint64(^uint64(0))

// clickhouseDigests of the range, by writer.
func (s *clickhouse) digests(ctx context.Context, l *layout, rg rowRange) (map[int64]digest, error) {
	group := "writer_id"
	if rg.table != auditTable {
		group = "toInt64(0)"
	}
	out := map[int64]digest{}
	err := s.each(ctx, func(scan func(...any) error) error {
		var writer int64
		var count, sum uint64
		err := scan(&writer, &count, &sum)
		out[writer] = digest{int64(count), sum}
		return err
	}, fmt.Sprintf(`SELECT %s AS writer, count(), sum(bitShiftRight(reinterpretAsUInt64(reverse(substring(%s, 1, 8))), 4))
		FROM %s WHERE %s GROUP BY writer`, group, l.clickhouseHash(rg), tables[rg.table].clickhouse, rg.clickhouseWhere()))
	return out, err
}

// monthsOf are the months that have rows, or could have, of the table in either store; here are those of them
// that ClickHouse has rows of.
func (r *Replicator) monthsOf(ctx context.Context, q querier, table int) (all []month, here map[month]bool, err error) {
	collect := func(query string) ([]month, error) {
		rows, err := q.Query(ctx, query)
		if err != nil {
			return nil, err
		}
		return pgx.CollectRows(rows, func(row pgx.CollectableRow) (m month, err error) { return m, row.Scan(&m) })
	}
	// A month is known by the bounds of its partitions, not by their names. Rows outside of bounds are asked.
	root := tables[table].postgres
	at := "l.occurred_at"
	if table != auditTable {
		at = "to_timestamp(('x' || left(replace(l.audit_id::text, '-', ''), 12))::bit(48)::bigint / 1000.0)"
	}
	if all, err = collect("SELECT DISTINCT to_char(month, 'YYYYMM')::int FROM argus.months_of('" + root + "')"); err != nil {
		return nil, nil, err
	}
	beyond, err := collect(fmt.Sprintf(`SELECT DISTINCT to_char(%s AT TIME ZONE 'UTC', 'YYYYMM')::int FROM %s l
		WHERE EXISTS (SELECT FROM argus.partitions_of('%s') WHERE lo IS NULL OR hi IS NULL)
		  AND l.tableoid IN (SELECT t.relid FROM argus.partitions_of('%[3]s') p, pg_partition_tree(p.part) t WHERE p.lo IS NULL OR p.hi IS NULL)`,
		at, root, root))
	if err != nil {
		return nil, nil, err
	}
	for _, m := range beyond {
		if !slices.Contains(all, m) {
			all = append(all, m)
		}
	}
	// What retention has dropped in Postgres, and not yet here, is not missing there.
	dropped, err := collect("SELECT replace(detail->>'month', '-', '')::int FROM argus.audit_admin WHERE kind = 'month_dropped'")
	if err != nil {
		return nil, nil, err
	}
	expr := "toYYYYMM(occurred_at)"
	if table != auditTable {
		expr = callMonth
	}
	names, err := r.clickhouse.strings(ctx, fmt.Sprintf("SELECT DISTINCT toString(%s) FROM %s", expr, tables[table].clickhouse))
	if err != nil {
		return nil, nil, err
	}
	here = map[month]bool{}
	for _, text := range names {
		n, err := strconv.Atoi(text)
		if err != nil {
			return nil, nil, err
		}
		m := month(n)
		here[m] = true
		if !slices.Contains(all, m) && !slices.Contains(dropped, m) {
			all = append(all, m)
		}
	}
	slices.Sort(all)
	return all, here, nil
}

// callMonth is the month that the first 48 bits of a call's id say, as Postgres's partitions have it.
const callMonth = "toYYYYMM(fromUnixTimestamp64Milli(toInt64(bitShiftRight(toUInt128(audit_id), 80)), 'UTC'))"

// layouts reads the columns of both stores and matches them.
func (r *Replicator) layouts(ctx context.Context, q querier) (ls [tableCount]*layout, err error) {
	for t := range tables {
		rows, err := q.Query(ctx, `SELECT attname::text, atttypid FROM pg_attribute
			WHERE attrelid = $1::regclass AND attnum > 0 AND NOT attisdropped AND attgenerated = '' ORDER BY attnum`, tables[t].postgres)
		if err != nil {
			return ls, err
		}
		source, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (c wal.Column, err error) {
			return c, row.Scan(&c.Name, &c.OID)
		})
		if err != nil {
			return ls, err
		}
		target, err := r.clickhouse.columns(ctx, tables[t].clickhouse)
		if err != nil {
			return ls, err
		}
		if ls[t], err = newLayout(t, source, target); err != nil {
			return ls, err
		}
	}
	return ls, nil
}
