package replicator

import (
	"context"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"
	"time"

	clickhousego "github.com/ClickHouse/clickhouse-go/v2"
)

// rollup is a table that a materialized view feeds, from the audit log or from another rollup.
type rollup struct {
	source    string // what the view reads
	view      string
	target    string
	query     string // the view's SELECT
	columns   []string
	partition string // the target's partition key, an expression over its columns; "" for none
	sorting   string // the target's sorting key
}

var viewTarget = regexp.MustCompile(`(?s)^CREATE MATERIALIZED VIEW \S+ TO (\S+) `)

// rollups finds them in the catalog, so that a rollup added by a migration needs nothing here. A rollup stands behind
// the one that it is made of, so rebuilding all in this order makes each of rows.
func (s *clickhouse) rollups(ctx context.Context) ([]rollup, error) {
	found, err := s.rollupsOf(ctx, tables[auditTable].clickhouse)
	if err != nil {
		return nil, fmt.Errorf("looking for rollups: %w", err)
	}
	for i := 0; i < len(found); i++ {
		more, err := s.rollupsOf(ctx, found[i].target)
		if err != nil {
			return nil, fmt.Errorf("looking for rollups: %w", err)
		}
		found = append(found, more...)
	}
	for i := range found {
		r := &found[i]
		err := s.each(ctx, func(scan func(...any) error) error { return scan(&r.partition, &r.sorting) },
			`SELECT partition_key, sorting_key FROM system.tables WHERE database = currentDatabase() AND name = {name:String}`,
			clickhousego.Named("name", r.target))
		if err != nil {
			return nil, err
		}
		r.columns, err = s.strings(ctx, `SELECT name FROM system.columns
			WHERE database = currentDatabase() AND table = {name:String} ORDER BY position`, clickhousego.Named("name", r.view))
		if err != nil {
			return nil, err
		}
	}
	return found, nil
}

// rollupsOf are those that are made directly of the source.
func (s *clickhouse) rollupsOf(ctx context.Context, source string) (found []rollup, err error) {
	err = s.each(ctx, func(scan func(...any) error) error {
		r := rollup{source: source}
		var create string
		if err := scan(&r.view, &r.query, &create); err != nil {
			return err
		}
		m := viewTarget.FindStringSubmatch(create)
		if m == nil {
			return fmt.Errorf("the materialized view %s has no TO table: rollups need one to be rebuilt in", r.view)
		}
		r.target = strings.Trim(m[1][strings.LastIndexByte(m[1], '.')+1:], "`\"")
		found = append(found, r)
		return nil
	}, `SELECT v.name, v.as_select, v.create_table_query
	      FROM system.tables AS s ARRAY JOIN s.dependencies_table AS dependent, s.dependencies_database AS within
	      JOIN system.tables AS v ON v.name = dependent AND v.database = within
	     WHERE s.database = currentDatabase() AND v.database = currentDatabase()
	       AND s.name = {name:String} AND v.engine = 'MaterializedView'
	     ORDER BY v.name`, clickhousego.Named("name", source))
	return found, err
}

// timeRange is [from, to).
type timeRange struct{ from, to time.Time }

// filter restricts what the rollup's view reads to the time range, in every query. By the rule of rollups, the column at of one
// that another is made of is its time. So the time range must be of whole days.
func (s *clickhouse) filter(r rollup, tr timeRange) string {
	at, from, to := "at", fmt.Sprintf("toDateTime(%d, 'UTC')", tr.from.Unix()), fmt.Sprintf("toDateTime(%d, 'UTC')", tr.to.Unix())
	if r.source == tables[auditTable].clickhouse {
		at, from, to = tables[auditTable].at, micros(tr.from.UnixMicro()), micros(tr.to.UnixMicro())
	}
	expr := fmt.Sprintf("%s >= %s AND %s < %s", at, from, at, to)
	return fmt.Sprintf("additional_table_filters = {%s: %s}", literal(s.database+"."+r.source), literal(expr))
}

// dayRanges joins days, counted from 1970, into ranges.
func dayRanges(days map[int32]struct{}) []timeRange {
	var sorted []int32
	for d := range days {
		sorted = append(sorted, d)
	}
	slices.Sort(sorted)
	var ranges []timeRange
	for _, d := range sorted {
		from := time.Unix(int64(d)*86400, 0).UTC()
		if n := len(ranges); n > 0 && !ranges[n-1].to.Before(from) {
			ranges[n-1].to = from.AddDate(0, 0, 1)
			continue
		}
		ranges = append(ranges, timeRange{from, from.AddDate(0, 0, 1)})
	}
	return ranges
}

// rebuildDays rebuilds, from rows, every partition of every rollup that rows of the audit log's days count in.
// Nothing may be inserted meanwhile.
func (t *term) rebuildDays(ctx context.Context, days map[int32]struct{}) error {
	ranges := dayRanges(days)
	if len(ranges) == 0 {
		return nil
	}
	all, err := t.clickhouse.rollups(ctx)
	if err != nil {
		return err
	}
	for _, r := range all {
		values := map[string]bool{}
		for _, tr := range ranges {
			found, err := t.clickhouse.partitionsOf(ctx, r, tr)
			if err != nil {
				return err
			}
			for _, v := range found {
				values[v] = true
			}
		}
		if err := t.rebuild(ctx, r, slices.Sorted(maps.Keys(values))); err != nil {
			return err
		}
	}
	return nil
}

// partitionsOf are the values of the partition key under which the rows of a time range count.
func (s *clickhouse) partitionsOf(ctx context.Context, r rollup, tr timeRange) ([]string, error) {
	found, err := s.strings(ctx, fmt.Sprintf("SELECT DISTINCT toString(%s) FROM (%s) SETTINGS %s",
		r.partitionKey(), r.query, s.filter(r, tr)))
	if err != nil {
		return nil, fmt.Errorf("looking for the partitions of %s: %w", r.target, err)
	}
	return found, nil
}

// partitionKey is an expression; a table without partitions is one partition.
func (r rollup) partitionKey() string {
	if r.partition == "" {
		return "'all'"
	}
	return "(" + r.partition + ")"
}

// rebuild replaces partitions by what the view's query makes of the rows. Readers see the old one, then the new
// one, and never neither. values are the partition key's, as text.
func (t *term) rebuild(ctx context.Context, r rollup, values []string) error {
	if len(values) == 0 {
		return nil
	}
	fresh := t.scratch(r.target)
	if err := t.makeLike(ctx, fresh, r.target); err != nil {
		return err
	}
	var names, wanted []string
	for _, c := range r.columns {
		names = append(names, identifier(c))
	}
	for _, v := range values {
		wanted = append(wanted, literal(v))
	}
	list := strings.Join(names, ", ")
	insert := fmt.Sprintf("INSERT INTO %s (%s) SELECT %s FROM (%s) WHERE toString(%s) IN (%s) AND %s",
		fresh, list, list, r.query, r.partitionKey(), strings.Join(wanted, ", "), t.guard())
	first, ok1 := r.sourceRange(values[0])
	last, ok2 := r.sourceRange(values[len(values)-1]) // they are sorted
	if ok1 && ok2 {
		insert += " SETTINGS " + t.clickhouse.filter(r, timeRange{first.from, last.to})
	}
	if err := t.rewrite(ctx, insert); err != nil {
		return fmt.Errorf("rebuilding %s: %w", r.target, err)
	}
	for _, v := range values {
		failpoint("rebuilding")
		if err := t.replacePartition(ctx, r.target, v, fresh); err != nil {
			return err
		}
		t.rebuilt++
	}
	return t.exec(ctx, "DROP TABLE IF EXISTS "+fresh+" SYNC")
}

// makeLike makes an empty table of this lease term with the columns, engine and settings of another.
func (t *term) makeLike(ctx context.Context, fresh, like string) error {
	if err := t.exec(ctx, "DROP TABLE IF EXISTS "+fresh+" SYNC"); err != nil {
		return err
	}
	if err := t.exec(ctx, "CREATE TABLE "+fresh+" AS "+identifier(like)); err != nil {
		return fmt.Errorf("making a table like %s: %w", like, err)
	}
	return nil
}

// replacePartition puts fresh's partition in the place of the table's; where fresh has none, nothing stays.
func (t *term) replacePartition(ctx context.Context, table, value, fresh string) error {
	id := "ID " + literal(value)
	if err := t.exec(ctx, fmt.Sprintf("ALTER TABLE %s REPLACE PARTITION %s FROM %s", identifier(table), id, fresh)); err != nil {
		return fmt.Errorf("replacing the partition %s of %s: %w", value, table, err)
	}
	return nil
}

// sourceRange bounds the rows that count in a partition, which is a month (202611) or a day (20261122). By the rule
// of rollups no bucket crosses the end of its partition.
func (r rollup) sourceRange(value string) (timeRange, bool) {
	month, day := strings.HasPrefix(r.partition, "toYYYYMM("), strings.HasPrefix(r.partition, "toYYYYMMDD(")
	switch {
	case month && len(value) == 6:
		from, err := time.Parse("200601", value)
		return timeRange{from, from.AddDate(0, 1, 0)}, err == nil
	case day && len(value) == 8:
		from, err := time.Parse("20060102", value)
		return timeRange{from, from.AddDate(0, 0, 1)}, err == nil
	}
	return timeRange{}, false
}
