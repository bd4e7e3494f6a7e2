package analytics

import (
	"maps"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/ClickHouse/ch-go/proto"

	"github.com/useargus/argus"
)

// A filter becomes SQL twice, once for each store, and argus.Filter.Match is what both are tested against.
// Values travel as parameters only. A column that is null matches no value, so a negated condition holds for it:
// where a condition could be null, its negation says so explicitly.

const (
	postgresPath    = "CASE WHEN strpos(route, ' ') = 0 THEN '' ELSE substr(route, strpos(route, ' ') + 1) END"
	postgresProduct = "substring(user_agent from '^[^/ ]*')"
)

// statement is a query's text with its parameters. Values of a request are never part of the text.
type statement struct {
	text   string
	params []proto.Parameter
}

// clickhouseArgs collects parameters; each method returns what to write in the text.
type clickhouseArgs struct {
	params []proto.Parameter
	column func(name string) string // how conditions write a column; nil: as it is named
}

func (a *clickhouseArgs) col(name string) string {
	if a.column == nil {
		return name
	}
	return a.column(name)
}

func (a *clickhouseArgs) add(kind, value string) string {
	key := "p" + strconv.Itoa(len(a.params))
	a.params = append(a.params, proto.Parameter{Key: key, Value: "'" + quotes.Replace(value) + "'"})
	return "{" + key + ":" + kind + "}"
}

// A parameter travels as a quoted literal. What is inside is read as tab-separated text, or, of an array, as
// quoted literals again.
var (
	quotes = strings.NewReplacer(`\`, `\\`, `'`, `\'`)
	tabbed = strings.NewReplacer(`\`, `\\`, "\t", `\t`, "\n", `\n`, "\r", `\r`, "\b", `\b`, "\f", `\f`, "\x00", `\0`)
)

func (a *clickhouseArgs) text(s string) string { return a.add("String", tabbed.Replace(s)) }

func (a *clickhouseArgs) int(n int64) string { return a.add("Int64", strconv.FormatInt(n, 10)) }

// moment is compared with columns of type DateTime64(6).
func (a *clickhouseArgs) moment(t time.Time) string {
	return "fromUnixTimestamp64Micro(" + a.int(t.UnixMicro()) + ", 'UTC')"
}

// among is the condition that the column at, a DateTime, is one of the ascending beginnings of buckets. It is a range
// when they have no gap, since the index is searched for a range fastest, and a set when they do.
func (a *clickhouseArgs) among(times []time.Time, g grain) string {
	second := func(t time.Time) string { return "toDateTime(" + a.int(t.Unix()) + ", 'UTC')" }
	if gapless(times, g) {
		return "at >= " + second(times[0]) + " AND at < " + second(g.next(times[len(times)-1]))
	}
	texts := make([]string, len(times))
	for i, t := range times {
		texts[i] = t.UTC().Format(time.DateTime)
	}
	return "at IN " + a.texts("DateTime('UTC')", texts)
}

func (a *clickhouseArgs) texts(kind string, values []string) string {
	var b strings.Builder
	b.WriteByte('[')
	for i, v := range values {
		if i > 0 {
			b.WriteByte(',')
		}
		b.WriteByte('\'')
		b.WriteString(quotes.Replace(v))
		b.WriteByte('\'')
	}
	b.WriteByte(']')
	return a.add("Array("+kind+")", b.String())
}

func (a *clickhouseArgs) ints(values []int64) string {
	b := []byte{'['}
	for i, v := range values {
		if i > 0 {
			b = append(b, ',')
		}
		b = strconv.AppendInt(b, v, 10)
	}
	return a.add("Array(Int64)", string(append(b, ']')))
}

// clickhouseWhere returns conditions, to be joined by AND, for a row of audit_log; the window is not among them.
func clickhouseWhere(a *clickhouseArgs, conditions []argus.Condition) []string {
	var out []string
	for i := range conditions {
		t := &conditions[i]
		cond := clickhouseCondition(a, t)
		if t.Not {
			cond = "NOT " + cond
		}
		out = append(out, cond)
	}
	return out
}

func clickhouseCondition(a *clickhouseArgs, t *argus.Condition) string {
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
		return in("tenant", "String")
	case argus.FilterService:
		return in("service", "String")
	case argus.FilterScope:
		return in("scope", "String")
	case argus.FilterRelease:
		return notNull("release IN " + a.texts("String", texts(t)))
	case argus.FilterErrorCode:
		return notNull("error_code IN " + a.texts("String", texts(t)))
	case argus.FilterAgent:
		return notNull("agent IN " + a.texts("String", texts(t)))
	case argus.FilterImpersonator:
		return notNull("impersonator_id IN " + a.texts("String", texts(t)))
	case argus.FilterTraceID:
		return notNull("trace_id IN " + a.texts("String", texts(t)))
	case argus.FilterParam:
		// The index knows the values of all parameters. A hint is looked up there, and no row is asked for it.
		values := a.texts("String", texts(t))
		hint := ""
		if !t.Not {
			hint = " AND indexHint(hasAny(mapValues(path_params), " + values + "))"
		}
		if t.Param == "id" && !slices.Contains(texts(t), "") {
			return "(param_id IN " + values + hint + ")"
		}
		name := a.text(t.Param)
		return "(mapContains(path_params, " + name + ") AND path_params[" + name + "] IN " + values + hint + ")"
	case argus.FilterLatencyMin:
		return notNull("latency_us >= " + a.int(leastLatency(t)))
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
		return a.anyPart("user_agent", t)
	case argus.FilterReason:
		return a.anyPart("ifNull(reason, '')", t)
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

// anyPart is the condition that the text holds one of the condition's values. ClickHouse's lower is of ASCII, as argus.Folded.
func (a *clickhouseArgs) anyPart(text string, t *argus.Condition) string {
	const most = 255 // needles of multiSearchAny
	var or []string
	for chunk := range slices.Chunk(parts(t), most) {
		if slices.Contains(chunk, "") {
			return "(1 = 1)"
		}
		or = append(or, "multiSearchAny(lower("+text+"), "+a.texts("String", chunk)+")")
	}
	return "(" + strings.Join(or, " OR ") + ")"
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

// clickhouse returns the conditions on occurred_at.
func (w window) clickhouse(a *clickhouseArgs) []string {
	cond := []string{"occurred_at >= " + a.moment(w.since)}
	if !w.until.IsZero() {
		cond = append(cond, "occurred_at < "+a.moment(w.until))
	}
	return cond
}
