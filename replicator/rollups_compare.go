package replicator

import (
	"context"
	"fmt"
	"strings"

	clickhousego "github.com/ClickHouse/clickhouse-go/v2"

	"github.com/useargus/argus/replicator/chcolumn"
)

// rollupDifference compares a rollup with what its view makes of the rows now, both merged and finalized, and
// describes the first difference; "" when they are equal. settings restrict what is read, as in rollup.filter.
//
// A rollup may have more than its rows make, or less. The way of differing that is gone is left out, and one that is not
// found is noted as gone: so repeated looks tell a difference that lasts from rows on their way.
func (s *clickhouse) rollupDifference(ctx context.Context, r rollup, gone *[2]bool, where string, settings ...string) (string, error) {
	type column struct{ name, typ string }
	var columns []column
	err := s.each(ctx, func(scan func(...any) error) error {
		var c column
		err := scan(&c.name, &c.typ)
		columns = append(columns, c)
		return err
	}, `SELECT name, type FROM system.columns WHERE database = currentDatabase() AND table = {name:String}
	     AND default_kind IN ('', 'DEFAULT') ORDER BY position`, clickhousego.Named("name", r.target))
	if err != nil {
		return "", err
	}
	keys := map[string]bool{}
	for _, k := range strings.Split(r.sorting, ",") {
		keys[strings.Trim(strings.TrimSpace(k), "`")] = true
	}
	var group, list, from []string
	for _, c := range columns {
		name := identifier(c.name)
		from = append(from, name)
		if keys[c.name] {
			group, list = append(group, name), append(list, name)
			continue
		}
		list = append(list, finalized(name, c.typ))
	}
	merged := func(source string) string {
		return fmt.Sprintf("SELECT %s FROM (SELECT %s FROM %s) %s GROUP BY %s",
			strings.Join(list, ", "), strings.Join(from, ", "), source, where, strings.Join(group, ", "))
	}
	stored, made := merged(identifier(r.target)), merged("("+r.query+")")
	first := ""
	for i, q := range []struct{ text, a, b string }{
		{"the rows do not make", stored, made}, {"the rollup lacks", made, stored},
	} {
		if gone[i] {
			continue
		}
		query := fmt.Sprintf("SELECT toString(tuple(*)) AS difference FROM (%s EXCEPT %s) ORDER BY difference LIMIT 1", q.a, q.b)
		if len(settings) > 0 {
			query += " SETTINGS " + strings.Join(settings, ", ")
		}
		found, err := s.strings(ctx, query)
		if err != nil {
			return "", fmt.Errorf("comparing the rollup %s: %w", r.target, err)
		}
		if gone[i] = len(found) == 0; !gone[i] && first == "" {
			first = q.text + " " + found[0]
		}
	}
	return first, nil
}

// finalized is the value of a rollup's column over all rows of a key that are not merged yet.
func finalized(name, typ string) string {
	if inner, ok := chcolumn.Unwrap(typ, "SimpleAggregateFunction"); ok {
		function, _, _ := strings.Cut(inner, ",")
		return fmt.Sprintf("%s(%s)", function, name)
	}
	inner, ok := chcolumn.Unwrap(typ, "AggregateFunction")
	if !ok {
		return fmt.Sprintf("sum(%s)", name)
	}
	// A name, maybe with parameters in parentheses, up to the first comma outside them.
	depth, end := 0, len(inner)
	for i, c := range inner {
		switch {
		case c == '(':
			depth++
		case c == ')':
			depth--
		case c == ',' && depth == 0 && end == len(inner):
			end = i
		}
	}
	function, parameters := inner[:end], ""
	if i := strings.IndexByte(function, '('); i >= 0 {
		function, parameters = function[:i], function[i:]
	}
	return fmt.Sprintf("%sMerge%s(%s)", function, parameters, name)
}
