package analytics

import (
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/useargus/argus"
)

func texts(t *argus.Condition) []string {
	out := make([]string, len(t.Values))
	for i, v := range t.Values {
		out[i] = v.Text
	}
	return out
}

// parts are the condition's values as they are searched for in a text.
func parts(t *argus.Condition) []string {
	out := texts(t)
	for i := range out {
		out[i] = argus.Folded(out[i])
	}
	return out
}

// leastLatency is, in microseconds, the bound that decides: a call as slow as any of the values is as slow as the
// least of them.
func leastLatency(t *argus.Condition) int64 {
	least := t.Values[0].Duration
	for _, v := range t.Values {
		least = min(least, v.Duration)
	}
	return least.Microseconds()
}

// statusRange is an inclusive range of status codes.
type statusRange struct{ lo, hi int }

// statusRanges are the statuses of the condition as few disjoint ranges, ascending.
func statusRanges(t *argus.Condition) []statusRange {
	var all []statusRange
	for _, v := range t.Values {
		if v.StatusLo <= v.StatusHi {
			all = append(all, statusRange{int(v.StatusLo), int(v.StatusHi)})
		}
	}
	slices.SortFunc(all, func(a, b statusRange) int { return a.lo - b.lo })
	var out []statusRange
	for _, r := range all {
		if n := len(out); n > 0 && r.lo <= out[n-1].hi+1 {
			out[n-1].hi = max(out[n-1].hi, r.hi)
			continue
		}
		out = append(out, r)
	}
	return out
}

// routePatterns sorts the condition's values into whole routes, whole paths of any method, and prefixes of either.
func routePatterns(t *argus.Condition) (whole, paths []string, prefixes []argus.RoutePattern) {
	for _, v := range t.Values {
		switch {
		case v.Route.Prefix:
			prefixes = append(prefixes, v.Route)
		case v.Route.AnyMethod:
			paths = append(paths, v.Route.Text)
		default:
			whole = append(whole, v.Route.Text)
		}
	}
	return whole, paths, prefixes
}

// statusCondition is the same in both stores.
func statusCondition(column string, t *argus.Condition) string {
	ranges := statusRanges(t)
	if len(ranges) > 3 {
		var codes []string
		for _, r := range ranges {
			for code := r.lo; code <= r.hi; code++ {
				codes = append(codes, strconv.Itoa(code))
			}
		}
		return "(" + column + " IN (" + strings.Join(codes, ", ") + "))"
	}
	return anyOf(ranges, func(r statusRange) string {
		return column + " BETWEEN " + strconv.Itoa(r.lo) + " AND " + strconv.Itoa(r.hi)
	})
}

// anyOf joins the conditions of values by OR; none is false.
func anyOf[T any](values []T, cond func(T) string) string {
	if len(values) == 0 {
		return "(1 = 0)"
	}
	or := make([]string, len(values))
	for i, v := range values {
		or[i] = cond(v)
	}
	return "(" + strings.Join(or, " OR ") + ")"
}

// window is the time a question is about; until is zero when it is open.
type window struct{ since, until time.Time }

// end is where the time ends that rates and charts are over: at now when the window is open or ends later, never
// before it begins.
func (w window) end(now time.Time) time.Time {
	end := argus.Micros(now)
	if !w.until.IsZero() && w.until.Before(end) {
		end = w.until
	}
	if end.Before(w.since) {
		return w.since
	}
	return end
}

func and(conds []string) string { return strings.Join(conds, " AND ") }
