package analytics

import (
	"net/netip"
	"strconv"
	"strings"

	"github.com/useargus/argus"
)

// postgresArgs collects parameters; add returns what to write in the text.
type postgresArgs struct{ values []any }

func (a *postgresArgs) add(v any) string {
	a.values = append(a.values, v)
	return "$" + strconv.Itoa(len(a.values))
}

// postgresWhere is clickhouseWhere for a row of argus.argus_audit_log.
func postgresWhere(a *postgresArgs, conditions []argus.Condition) []string {
	var out []string
	for i := range conditions {
		t := &conditions[i]
		cond := postgresCondition(a, t)
		if t.Not {
			cond = "NOT coalesce(" + cond + ", false)"
		}
		out = append(out, cond)
	}
	return out
}

func postgresCondition(a *postgresArgs, t *argus.Condition) string {
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
		return any("CASE WHEN path_params ? 'tenant' THEN path_params ->> 'tenant' WHEN starts_with(" + postgresPath + ", " +
			a.add(argus.TenantRoute) + ") THEN path_params ->> 'id' END")
	case argus.FilterService:
		return any("service")
	case argus.FilterRelease:
		return any("release")
	case argus.FilterErrorCode:
		return any("error_code")
	case argus.FilterAgent:
		return any("agent")
	case argus.FilterScope:
		return any("scope")
	case argus.FilterImpersonator:
		return any("impersonator_id")
	case argus.FilterTraceID:
		return any("trace_id")
	case argus.FilterParam:
		return any("path_params ->> " + a.add(t.Param) + "::text")
	case argus.FilterLatencyMin:
		return "(latency_us >= " + a.add(leastLatency(t)) + ")"
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
		return anyPart(a, "user_agent", t)
	case argus.FilterReason:
		return anyPart(a, "reason", t)
	case argus.FilterClientIP:
		var networks []netip.Prefix
		for _, v := range t.Values {
			networks = append(networks, v.Prefix)
		}
		return "(client_ip <<= ANY(" + a.add(networks) + "::inet[]))"
	}
	return "false"
}

// anyPart is the condition that the text holds one of the condition's values. By the collation "C", lower is of ASCII, as
// argus.Folded.
func anyPart(a *postgresArgs, column string, t *argus.Condition) string {
	return "EXISTS (SELECT FROM unnest(" + a.add(parts(t)) + "::text[]) n WHERE strpos(lower(" + column + ` COLLATE "C"), n) > 0)`
}

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

// postgres returns the conditions on occurred_at.
func (w window) postgres(a *postgresArgs) []string {
	cond := []string{"occurred_at >= " + a.add(w.since)}
	if !w.until.IsZero() {
		cond = append(cond, "occurred_at < "+a.add(w.until))
	}
	return cond
}
