package replicator

import (
	"context"
	"fmt"
	"slices"
)

// rollups makes the rollups of all months what the rows make of them.
func (h *healing) rollups(ctx context.Context, months []month) error {
	all, err := h.r.clickhouse.rollups(ctx)
	if err != nil {
		return err
	}
	// Months without rows, of which no rollup has anything, are not asked for one by one.
	used, err := h.t.clickhouse.strings(ctx, `SELECT DISTINCT substring(partition_id, 1, 6) FROM system.parts
		WHERE active AND database = currentDatabase() AND NOT startsWith(table, {scratch:String})`, namedString("scratch", scratchPrefix))
	if err != nil {
		return err
	}
	months = slices.DeleteFunc(slices.Clone(months), func(m month) bool { return !slices.Contains(used, fmt.Sprint(int(m))) })
	for _, r := range all {
		if r.partition == "" {
			if err := h.wholeRollup(ctx, r); err != nil {
				return err
			}
			continue
		}
		for _, m := range months {
			if err := h.rollupMonth(ctx, r, m); err != nil {
				return err
			}
		}
	}
	return nil
}

func (h *healing) rollupMonth(ctx context.Context, r rollup, m month) error {
	s := h.t.clickhouse
	stored, err := s.strings(ctx, `SELECT DISTINCT partition_id FROM system.parts WHERE active AND database = currentDatabase()
		AND table = {table:String} AND startsWith(partition_id, {month:String})`,
		namedString("table", r.target), namedString("month", fmt.Sprint(int(m))))
	if err != nil {
		return err
	}
	made, err := s.partitionsOf(ctx, r, timeRange{m.from(), m.to()})
	if err != nil {
		return err
	}
	if len(stored)+len(made) == 0 {
		return nil
	}
	if !h.touched[m] {
		difference, err := s.rollupMonthDifference(ctx, r, m, new([2]bool))
		if err != nil || difference == "" {
			return err
		}
		h.r.log.Warn("a rollup is not what its rows make", "rollup", r.target, "month", m.String(), "difference", difference)
	}
	values := append(stored, made...)
	slices.Sort(values)
	return h.t.rebuild(ctx, r, slices.Compact(values))
}

// wholeRollup is rollupMonth for a rollup that is not partitioned.
func (h *healing) wholeRollup(ctx context.Context, r rollup) error {
	if len(h.touched) == 0 {
		difference, err := h.t.clickhouse.rollupDifference(ctx, r, new([2]bool), "")
		if err != nil || difference == "" {
			return err
		}
	}
	return h.t.rebuild(ctx, r, []string{"all"})
}

// rollupMonthDifference compares the partitions of a month.
func (s *clickhouse) rollupMonthDifference(ctx context.Context, r rollup, m month, gone *[2]bool) (string, error) {
	text := fmt.Sprint(int(m))
	where := fmt.Sprintf("WHERE startsWith(toString(%s), %s)", r.partitionKey(), literal(text))
	return s.rollupDifference(ctx, r, gone, where, s.filter(r, timeRange{m.from(), m.to()}))
}
