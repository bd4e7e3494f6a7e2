package analytics

import (
	"slices"
	"strings"
	"time"

	"github.com/useargus/argus"
)

// dimension is something calls are grouped by, a text. Its name is that of a filter's column or close to it.
type dimension string

const (
	byRoute      dimension = "route"
	byMethod     dimension = "method"
	byActor      dimension = "actor_id"
	byActorKind  dimension = "actor_kind"
	byPAT        dimension = "pat_id"
	byBreakGlass dimension = "break_glass_id"
	byClient     dimension = "client"
	byAgent      dimension = "agent"
	byService    dimension = "service"
	byRelease    dimension = "release"
	byErrorCode  dimension = "error_code"
	byTenant     dimension = "tenant" // in no rollup
	byStatus     dimension = "status" // as a text; rollups have it as a number
)

// Expressions of the dimensions that are not columns of that name.
var (
	clickhouseDimension = map[dimension]string{
		byPAT: "ifNull(toString(pat_id), '')", byBreakGlass: "ifNull(toString(break_glass_id), '')",
		byAgent: "ifNull(agent, '')", byRelease: "ifNull(release, '')", byErrorCode: "ifNull(error_code, '')",
		byStatus: "ifNull(toString(status), '" + interruptedStatus + "')",
	}
	postgresDimension = map[dimension]string{
		byPAT: "coalesce(pat_id::text, '')", byBreakGlass: "coalesce(break_glass_id::text, '')", byClient: postgresProduct,
		byAgent: "coalesce(agent, '')", byRelease: "coalesce(release, '')", byErrorCode: "coalesce(error_code, '')",
		byStatus: "coalesce(status::text, '" + interruptedStatus + "')",
		byTenant: "coalesce(CASE WHEN path_params ? 'tenant' THEN path_params ->> 'tenant' WHEN starts_with(" + postgresPath + ", '" +
			argus.TenantRoute + "') THEN path_params ->> 'id' END, '')",
	}
)

// rollup describes the rows of both tables of migrations/clickhouse/0002_rollups.sql that answer one kind of question.
type rollup struct {
	prefix     string // of the names of its grains
	dimensions []dimension
	exact      bool // status is exact; else only its class is known
	latencies  bool
	anyStatus  bool                 // its months are also counted over all statuses
	grains     []grain              // ascending
	values     map[dimension]string // expressions over the rollup's columns
	filters    []argus.FilterName   // what else than status it can filter by
}

const zeroID = "toUUID('00000000-0000-0000-0000-000000000000')"

// rollups are in the order of their sizes: the first that can answer does.
var rollups = []*rollup{
	{
		prefix: "actor_", dimensions: []dimension{byActor, byActorKind, byPAT, byBreakGlass, byClient, byAgent},
		grains: []grain{grainHour, grainDay, grainMonth},
		values: map[dimension]string{
			byPAT:        "if(pat_id = " + zeroID + ", '', toString(pat_id))",
			byBreakGlass: "if(break_glass_id = " + zeroID + ", '', toString(break_glass_id))",
		},
		filters: []argus.FilterName{argus.FilterActor, argus.FilterActorKind, argus.FilterClient, argus.FilterAgent, argus.FilterOutcome},
	},
	{
		prefix: "client_", dimensions: []dimension{byActorKind, byClient, byMethod}, latencies: true,
		grains:  []grain{grainHour, grainDay, grainMonth},
		filters: []argus.FilterName{argus.FilterActorKind, argus.FilterClient, argus.FilterMethod, argus.FilterOutcome},
	},
	{
		dimensions: []dimension{byRoute, byMethod, byService, byRelease, byErrorCode}, exact: true, latencies: true, anyStatus: true,
		grains: []grain{grainMinute, grainHour, grainDay, grainOctet, grainMonth},
		filters: []argus.FilterName{argus.FilterRoute, argus.FilterMethod, argus.FilterOutcome, argus.FilterService,
			argus.FilterRelease, argus.FilterErrorCode},
	},
}

// answers reports whether the rollup holds all that the question needs.
func (r *rollup) answers(q *countQuestion) bool {
	for _, d := range q.by {
		if !slices.Contains(r.dimensions, d) {
			return false
		}
	}
	if q.latencies && !r.latencies || q.exactStatus && !r.exact {
		return false
	}
	for i := range q.conditions {
		t := &q.conditions[i]
		if t.Name == argus.FilterStatus {
			if !r.exact && !wholeClasses(t) {
				return false
			}
		} else if !slices.Contains(r.filters, t.Name) {
			return false
		}
	}
	return len(r.grainsWithin(q)) > 0
}

// wholeClasses reports whether the condition of status distinguishes nothing within 1xx, 2xx and so on.
func wholeClasses(t *argus.Condition) bool {
	for _, r := range statusRanges(t) {
		if r.lo%100 != 0 || r.hi%100 != 99 {
			return false
		}
	}
	return true
}

// grainsWithin are the grains that tell apart what the question asks for, and whose buckets lie within its steps.
func (r *rollup) grainsWithin(q *countQuestion) []grain {
	releases := slices.Contains(q.by, byRelease) || slices.ContainsFunc(q.conditions, ofRelease)
	if q.step == 0 && !releases {
		return r.grains
	}
	var out []grain
	for _, g := range r.grains {
		length := map[grain]time.Duration{grainMinute: time.Minute, grainHour: time.Hour, grainDay: 24 * time.Hour}[g]
		if length > 0 && q.step%length == 0 {
			out = append(out, g)
		}
	}
	return out
}

// rollupFor chooses the rollup that answers the question, nil when none does.
func rollupFor(q *countQuestion) *rollup {
	for _, r := range rollups {
		if r.answers(q) {
			return r
		}
	}
	return nil
}

// rollupColumn is how rollups write a column of the audit log. Their status may be of whole hundreds.
func rollupColumn(name string) string {
	if name == "outcome" {
		return "if(status = 0, 'interrupted', 'completed')"
	}
	return name
}

// branches are the statements, one for each table, that give the question's columns from the pieces.
func (r *rollup) branches(q *countQuestion, pieces []piece) []statement {
	var starts [grainMonth + 1][]time.Time // of the buckets, by grain
	for _, p := range pieces {
		for at := p.from; at.Before(p.to); at = p.grain.next(at) {
			starts[p.grain] = append(starts[p.grain], at)
		}
	}
	month := grainMonth.String()
	if r.anyStatus && q.anyStatus && q.latencies && !slices.Contains(q.by, byErrorCode) && !slices.ContainsFunc(q.conditions, ofStatus) {
		month = "month_any"
	}
	var out []statement
	for _, long := range []bool{true, false} {
		a := &clickhouseArgs{column: rollupColumn}
		var or []string
		for g := grainMinute; g <= grainMonth; g++ {
			if len(starts[g]) > 0 && (g >= grainDay) == long {
				name := g.String()
				if g == grainMonth {
					name = month
				}
				or = append(or, "(grain = '"+r.prefix+name+"' AND "+a.among(starts[g], g)+")")
			}
		}
		if len(or) > 0 {
			conds := append([]string{anyOf(or, func(s string) string { return s })}, clickhouseWhere(a, q.conditions)...)
			out = append(out, statement{r.branch(a, q, long, and(conds)), a.params})
		}
	}
	return out
}

// ofStatus reports whether the condition is about the status, or the error, which goes with it.
func ofStatus(t argus.Condition) bool {
	return t.Name == argus.FilterStatus || t.Name == argus.FilterOutcome || t.Name == argus.FilterErrorCode
}

// ofRelease reports whether the condition is about the release.
func ofRelease(t argus.Condition) bool { return t.Name == argus.FilterRelease }

// branch reads one of the two tables.
func (r *rollup) branch(a *clickhouseArgs, q *countQuestion, long bool, where string) string {
	columns := q.columns(a, "at", func(d dimension) string {
		if e, ok := r.values[d]; ok {
			return e
		}
		return string(d)
	}, "status")
	table := "audit_rollup_hours"
	if long {
		table = "audit_rollup_days"
	}
	group := q.groupBy()
	switch {
	case !q.latencies:
		columns = append(columns, "toUInt64(sum(n)) AS calls")
	case !long:
		columns = append(columns, "toUInt64(sum(n)) AS calls", "toInt64(max(max_us)) AS slowest",
			"groupArray(bucket) AS buckets", "groupArray(toUInt64(n)) AS counts")
	case q.step > 0:
		columns = append(columns, "toUInt64(sum(n)) AS calls", "toInt64(max(max_us)) AS slowest",
			"groupArrayArray(latency.1) AS buckets", "groupArrayArray(latency.2) AS counts")
	default:
		// As they are: adding up here what is added up anyway costs more than to send it.
		columns = append(columns, "toUInt64(n) AS calls", "toInt64(max_us) AS slowest", "latency.1 AS buckets", "latency.2 AS counts")
		group = ""
	}
	return "SELECT " + strings.Join(columns, ", ") + " FROM " + table + " WHERE " + where + group
}
