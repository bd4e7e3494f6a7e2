package analytics

import (
	"maps"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/useargus/argus"
)

// A filter becomes SQL twice, once for each store, and argus.Filter.Match is what both are tested against.
// Values travel as parameters only. A column that is null matches no value, so a negated term holds for it:
// where a condition could be null, its negation says so explicitly.

// clickhouseWhere returns conditions, to be joined by AND, for a row of audit_log; the window is not among them.
func clickhouseWhere(a *clickhouseArgs, terms []argus.Term) []string {
	var out []string
	for i := range terms {
		t := &terms[i]
		cond := clickhouseTerm(a, t)
		if t.Not {
			cond = "NOT " + cond
		}
		out = append(out, cond)
	}
	return out
}

func clickhouseTerm(a *clickhouseArgs, t *argus.Term) string {
	in := func(column, kind string) string {
		column = a.col(column)
		if len(t.Values) == 1 && kind == "String" {
			return "(" + column + " = " + a.text(t.Values[0].Text) + ")"
		}
		return "(" + column + " IN " + a.texts(kind, texts(t)) + ")"
	}
	// Null matches no value. Only a negation has to say so, and indexes understand what is not wrapped.
	notNull := func(cond string) string {
		if t.Not {
			return "ifNull(" + cond + ", 0)"
		}
		return "(" + cond + ")"
	}
	switch t.Name {
	case argus.FilterActor:
		return in("actor_id", "String")
	case argus.FilterActorKind:
		return in("actor_kind", "String")
	case argus.FilterMethod:
		return in("method", "String")
	case argus.FilterOutcome:
		return in("outcome", "String")
	case argus.FilterClient:
		return in("client", "String")
	case argus.FilterID:
		// An id of version 7 begins with its time, by which few granules hold it: the second half, which the first
		// implies, is what the index knows.
		ids := a.texts("UUID", texts(t))
		return "(id IN " + ids + " AND UUIDv7ToDateTime(id) IN arrayMap(x -> UUIDv7ToDateTime(x), " + ids + "))"
	case argus.FilterPAT:
		return notNull("pat_id IN " + a.texts("UUID", texts(t)))
	case argus.FilterBreakGlass:
		return notNull("break_glass_id IN " + a.texts("UUID", texts(t)))
	case argus.FilterRequestID:
		return notNull("client_request_id IN " + a.texts("String", texts(t)))
	case argus.FilterTenant:
		return "(param_id IN " + a.texts("String", texts(t)) + " AND startsWith(" + clickhousePath + ", " + a.text(argus.TenantRoute) + "))"
	case argus.FilterParam:
		if t.Param == "id" && !slices.Contains(texts(t), "") {
			return "(param_id IN " + a.texts("String", texts(t)) + ")"
		}
		name := a.text(t.Param)
		return "(mapContains(path_params, " + name + ") AND path_params[" + name + "] IN " + a.texts("String", texts(t)) + ")"
	case argus.FilterLatencyMin:
		return notNull("latency_us >= " + a.int(leastSpan(t)))
	case argus.FilterStatus:
		return notNull(statusCondition(a.col("status"), t))
	case argus.FilterRoute:
		whole, paths, prefixes := routePatterns(t)
		var or []string
		if len(whole) > 0 {
			or = append(or, "route IN "+a.texts("String", whole))
		}
		if len(paths) > 0 {
			or = append(or, clickhousePath+" IN "+a.texts("String", paths))
		}
		// A set for each length of prefix: a thousand conditions take seconds to plan.
		for column, byLength := range prefixesByLength(prefixes) {
			for _, length := range slices.Sorted(maps.Keys(byLength)) {
				or = append(or, "substring("+column+", 1, "+strconv.Itoa(length)+") IN "+a.texts("String", byLength[length]))
			}
		}
		return "(" + strings.Join(or, " OR ") + ")"
	case argus.FilterUserAgent:
		const most = 255 // needles of multiSearchAny
		var or []string
		for chunk := range slices.Chunk(texts(t), most) {
			if slices.Contains(chunk, "") {
				return "(1 = 1)"
			}
			or = append(or, "multiSearchAny(user_agent, "+a.texts("String", chunk)+")")
		}
		return "(" + strings.Join(or, " OR ") + ")"
	case argus.FilterClientIP:
		// Likewise. Addresses of IPv4 are kept as ::ffff:a.b.c.d and are in no network of IPv6.
		sets := map[netip.Prefix][]string{} // by a prefix that stands for its family and length
		for _, v := range t.Values {
			kind := netip.PrefixFrom(netip.IPv6Unspecified(), v.Prefix.Bits())
			if v.Prefix.Addr().Is4() {
				kind = netip.PrefixFrom(netip.IPv4Unspecified(), v.Prefix.Bits())
			}
			sets[kind] = append(sets[kind], netip.AddrFrom16(v.Prefix.Addr().As16()).String())
		}
		var or []string
		for _, kind := range slices.SortedFunc(maps.Keys(sets), netip.Prefix.Compare) {
			first := "client_ip"
			bits := kind.Bits()
			if kind.Addr().Is4() {
				bits += 96
			}
			if bits < 128 {
				first = "IPv6CIDRToRange(client_ip, " + strconv.Itoa(bits) + ").1"
			}
			cond := first + " IN " + a.texts("IPv6", sets[kind])
			if kind.Addr().Is6() {
				cond += " AND NOT client_ip BETWEEN toIPv6('::ffff:0.0.0.0') AND toIPv6('::ffff:255.255.255.255')"
			}
			or = append(or, cond)
		}
		return anyOf(or, func(s string) string { return "(" + s + ")" })
	}
	return "(1 = 0)"
}

// clickhousePath is the route behind its method.
const clickhousePath = "if(position(route, ' ') = 0, '', substring(route, position(route, ' ') + 1))"

// clickhouseIn is the condition that a row is in the position.
func clickhouseIn(a *clickhouseArgs, p argus.Position) string {
	rest := "if(writer_id <= " + a.int(p.ClosedThrough) + ", toInt64(9223372036854775807), toInt64(0))"
	if len(p.Writers) == 0 {
		return "seq <= " + rest
	}
	writers, seqs := columnsOf(p)
	return "seq <= transform(writer_id, " + a.ints(writers) + ", " + a.ints(seqs) + ", " + rest + ")"
}

// postgresArgs collects parameters; add returns what to write in the text.
type postgresArgs struct{ values []any }

func (a *postgresArgs) add(v any) string {
	a.values = append(a.values, v)
	return "$" + strconv.Itoa(len(a.values))
}

// postgresWhere is clickhouseWhere for a row of argus.argus_audit_log.
func postgresWhere(a *postgresArgs, terms []argus.Term) []string {
	var out []string
	for i := range terms {
		t := &terms[i]
		cond := postgresTerm(a, t)
		if t.Not {
			cond = "NOT coalesce(" + cond + ", false)"
		}
		out = append(out, cond)
	}
	return out
}

func postgresTerm(a *postgresArgs, t *argus.Term) string {
	any := func(column string) string { return "(" + column + " = ANY(" + a.add(texts(t)) + "::text[]))" }
	anyID := func(column string) string { return "(" + column + " = ANY(" + a.add(texts(t)) + "::uuid[]))" }
	switch t.Name {
	case argus.FilterActor:
		return any("actor_id")
	case argus.FilterActorKind:
		return any("actor_kind")
	case argus.FilterMethod:
		return any("method")
	case argus.FilterOutcome:
		return any("outcome")
	case argus.FilterClient:
		return any(postgresProduct)
	case argus.FilterRequestID:
		return any("client_request_id")
	case argus.FilterID:
		return anyID("id")
	case argus.FilterPAT:
		return anyID("pat_id")
	case argus.FilterBreakGlass:
		return anyID("break_glass_id")
	case argus.FilterTenant:
		return "(starts_with(" + postgresPath + ", " + a.add(argus.TenantRoute) + ") AND " + any("path_params ->> 'id'") + ")"
	case argus.FilterParam:
		return any("path_params ->> " + a.add(t.Param) + "::text")
	case argus.FilterLatencyMin:
		return "(latency_us >= " + a.add(leastSpan(t)) + ")"
	case argus.FilterStatus:
		return statusCondition("status", t)
	case argus.FilterRoute:
		whole, paths, prefixes := routePatterns(t)
		var or []string
		if len(whole) > 0 {
			or = append(or, "route = ANY("+a.add(whole)+"::text[])")
		}
		if len(paths) > 0 {
			or = append(or, postgresPath+" = ANY("+a.add(paths)+"::text[])")
		}
		var ofRoutes, ofPaths []string
		for _, p := range prefixes {
			if p.AnyMethod {
				ofPaths = append(ofPaths, p.Text)
			} else {
				ofRoutes = append(ofRoutes, p.Text)
			}
		}
		if len(ofRoutes) > 0 {
			or = append(or, "EXISTS (SELECT FROM unnest("+a.add(ofRoutes)+"::text[]) p WHERE starts_with(route, p))")
		}
		if len(ofPaths) > 0 {
			or = append(or, "EXISTS (SELECT FROM unnest("+a.add(ofPaths)+"::text[]) p WHERE starts_with("+postgresPath+", p))")
		}
		return "(" + strings.Join(or, " OR ") + ")"
	case argus.FilterUserAgent:
		return "EXISTS (SELECT FROM unnest(" + a.add(texts(t)) + "::text[]) n WHERE strpos(user_agent, n) > 0)"
	case argus.FilterClientIP:
		var networks []netip.Prefix
		for _, v := range t.Values {
			networks = append(networks, v.Prefix)
		}
		return "(client_ip <<= ANY(" + a.add(networks) + "::inet[]))"
	}
	return "false"
}

const (
	postgresPath    = "CASE WHEN strpos(route, ' ') = 0 THEN '' ELSE substr(route, strpos(route, ' ') + 1) END"
	postgresProduct = "substring(user_agent from '^[^/ ]*')"
)

// postgresIn is the condition that a row is in the position.
func postgresIn(a *postgresArgs, p argus.Position) string {
	writers, seqs := columnsOf(p)
	return "seq <= coalesce((" + a.add(seqs) + "::bigint[])[array_position(" + a.add(writers) +
		"::bigint[], writer_id)], CASE WHEN writer_id <= " + a.add(p.ClosedThrough) +
		" THEN 9223372036854775807 ELSE 0 END)"
}

func columnsOf(p argus.Position) (writers, seqs []int64) {
	writers, seqs = make([]int64, 0, len(p.Writers)), make([]int64, 0, len(p.Writers))
	for w, s := range p.Writers {
		writers, seqs = append(writers, w), append(seqs, s)
	}
	return writers, seqs
}

func texts(t *argus.Term) []string {
	out := make([]string, len(t.Values))
	for i, v := range t.Values {
		out[i] = v.Text
	}
	return out
}

// leastSpan is, in microseconds, the bound that decides: a call as slow as any of the values is as slow as the
// least of them.
func leastSpan(t *argus.Term) int64 {
	least := t.Values[0].Span
	for _, v := range t.Values {
		least = min(least, v.Span)
	}
	return least.Microseconds()
}

// statusRange is an inclusive range of status codes.
type statusRange struct{ lo, hi int }

// statusRanges are the statuses of the term as few disjoint ranges, ascending.
func statusRanges(t *argus.Term) []statusRange {
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

// routePatterns sorts the term's values into whole routes, whole paths of any method, and prefixes of either.
func routePatterns(t *argus.Term) (whole, paths []string, prefixes []argus.RoutePattern) {
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

// prefixesByLength sorts prefixes by what they are prefixes of, and by their length in bytes.
func prefixesByLength(prefixes []argus.RoutePattern) map[string]map[int][]string {
	out := map[string]map[int][]string{}
	for _, p := range prefixes {
		column := "route"
		if p.AnyMethod {
			column = clickhousePath
		}
		if out[column] == nil {
			out[column] = map[int][]string{}
		}
		out[column][len(p.Text)] = append(out[column][len(p.Text)], p.Text)
	}
	return out
}

// statusCondition is the same in both stores.
func statusCondition(column string, t *argus.Term) string {
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

// clickhouse returns the conditions on occurred_at.
func (w window) clickhouse(a *clickhouseArgs) []string {
	cond := []string{"occurred_at >= " + a.moment(w.since)}
	if !w.until.IsZero() {
		cond = append(cond, "occurred_at < "+a.moment(w.until))
	}
	return cond
}

// postgres returns the conditions on occurred_at.
func (w window) postgres(a *postgresArgs) []string {
	cond := []string{"occurred_at >= " + a.add(w.since)}
	if !w.until.IsZero() {
		cond = append(cond, "occurred_at < "+a.add(w.until))
	}
	return cond
}

func and(conds []string) string { return strings.Join(conds, " AND ") }
