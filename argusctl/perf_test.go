package main

import (
	"slices"
	"strings"
	"testing"
)

// What grew by more than noise stands first; noise, more load and figures without a counterpart are no regression.
func TestRegressionSortsByGrowth(t *testing.T) {
	ms := func(v float64) *float64 { return &v }
	rows := []perfRow{
		{group: "load", RPM: 900, Before: &perfRow{RPM: 1}, Changed: []string{"rpm"}},
		{group: "noise", P99: ms(90), Before: &perfRow{P99: ms(1)}},
		{group: "new", P50: ms(90), Changed: []string{"p50"}, Before: &perfRow{}},
		{group: "from zero", P50: ms(90), Changed: []string{"p50"}, Before: &perfRow{P50: ms(0)}},
		{group: "faster", P95: ms(1), Changed: []string{"p95"}, Before: &perfRow{P95: ms(10)}},
		{group: "twice", P50: ms(2), P99: ms(9), Changed: []string{"p50"}, Before: &perfRow{P50: ms(1), P99: ms(1)}},
		{group: "thrice", P95: ms(3), Changed: []string{"p95"}, Before: &perfRow{P95: ms(1)}},
		{group: "failing", ErrorRate: 0.09, Changed: []string{"error_rate"}, Before: &perfRow{}},
		{group: "alone", P95: ms(3), Changed: []string{"p95"}},
	}
	slices.SortStableFunc(rows, func(a, b perfRow) int {
		if a.sortKey("regression") > b.sortKey("regression") {
			return -1
		} else if a.sortKey("regression") < b.sortKey("regression") {
			return 1
		}
		return 0
	})
	var got []string
	for _, r := range rows {
		got = append(got, r.group)
	}
	if want := "failing,thrice,twice,load,noise,new,from zero,faster,alone"; strings.Join(got, ",") != want {
		t.Errorf("%s, want %s", strings.Join(got, ","), want)
	}
}
