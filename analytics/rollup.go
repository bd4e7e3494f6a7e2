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
)

// Expressions of the dimensions that are not columns of that name.
var (
	clickhouseDimension = map[dimension]string{
		byPAT: "ifNull(toString(pat_id), '')", byBreakGlass: "ifNull(toString(break_glass_id), '')",
	}
	postgresDimension = map[dimension]string{
		byPAT: "coalesce(pat_id::text, '')", byBreakGlass: "coalesce(break_glass_id::text, '')", byClient: postgresProduct,
	}
)

// rollup describes the two tables of migrations/clickhouse/0002_rollups.sql that answer one kind of question.
type rollup struct {
	name       string
	dimensions []dimension
	exact      bool // status is exact; else only its class is known
	latencies  bool
	grains     []grain              // ascending
	columns    map[string]string    // of the audit log, as expressions over the rollup's
	values     map[dimension]string // likewise
	filters    []argus.FilterName   // what else than status it can filter by
}

const zeroID = "toUUID('00000000-0000-0000-0000-000000000000')"

// rollups are in the order of their sizes: the first that can answer does.
var rollups = []*rollup{
	{
		name: "audit_actor", dimensions: []dimension{byActor, byActorKind, byPAT, byBreakGlass, byClient},
		grains:  []grain{grainHour, grainDay, grainMonth},
		columns: map[string]string{"outcome": "if(class = 0, 'interrupted', 'completed')", "status": "(class * 100)"},
		values: map[dimension]string{
			byPAT:        "if(pat_id = " + zeroID + ", '', toString(pat_id))",
			byBreakGlass: "if(break_glass_id = " + zeroID + ", '', toString(break_glass_id))",
		},
		filters: []argus.FilterName{argus.FilterActor, argus.FilterActorKind, argus.FilterClient, argus.FilterOutcome},
	},
	{
		name: "audit_client", dimensions: []dimension{byActorKind, byClient, byMethod}, latencies: true,
		grains:  []grain{grainHour, grainDay, grainMonth},
		columns: map[string]string{"outcome": "if(class = 0, 'interrupted', 'completed')", "status": "(class * 100)"},
		filters: []argus.FilterName{argus.FilterActorKind, argus.FilterClient, argus.FilterMethod, argus.FilterOutcome},
	},
	{
		name: "audit_route", dimensions: []dimension{byRoute, byMethod}, exact: true, latencies: true,
		grains:  []grain{grainMinute, grainHour, grainDay, grainWeek, grainMonth},
		columns: map[string]string{"outcome": "if(status = 0, 'interrupted', 'completed')"},
		filters: []argus.FilterName{argus.FilterRoute, argus.FilterMethod, argus.FilterOutcome},
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
	for i := range q.terms {
		t := &q.terms[i]
		if t.Name == argus.FilterStatus {
			if !r.exact && !wholeClasses(t) {
				return false
			}
		} else if !slices.Contains(r.filters, t.Name) {
			return false
		}
	}
	return len(r.grainsWithin(q.step)) > 0
}

// wholeClasses reports whether the term of status distinguishes nothing within 1xx, 2xx and so on.
func wholeClasses(t *argus.Term) bool {
	for _, r := range statusRanges(t) {
		if r.lo%100 != 0 || r.hi%100 != 99 {
			return false
		}
	}
	return true
}

// grainsWithin are the grains whose buckets lie within steps.
func (r *rollup) grainsWithin(step time.Duration) []grain {
	if step == 0 {
		return r.grains
	}
	var out []grain
	for _, g := range r.grains {
		length := map[grain]time.Duration{grainMinute: time.Minute, grainHour: time.Hour, grainDay: 24 * time.Hour}[g]
		if length > 0 && step%length == 0 {
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

// column is how the rollup writes a column of the audit log.
func (r *rollup) column(name string) string {
	if e, ok := r.columns[name]; ok {
		return e
	}
	return name
}

// branches are the SELECTs, one for each table, that give the question's columns from the pieces.
func (r *rollup) branches(a *clickhouseArgs, q *countQuestion, pieces []piece) []string {
	byTable := map[string]map[grain][]time.Time{} // the beginnings of the buckets
	for _, p := range pieces {
		table := r.name + "_days"
		if p.grain >= grainWeek {
			table = r.name + "_months"
		}
		if byTable[table] == nil {
			byTable[table] = map[grain][]time.Time{}
		}
		for at := p.from; at.Before(p.to); at = p.grain.next(at) {
			byTable[table][p.grain] = append(byTable[table][p.grain], at)
		}
	}
	a.column = r.column
	defer func() { a.column = nil }()
	var out []string
	for _, table := range []string{r.name + "_months", r.name + "_days"} {
		grains := byTable[table]
		if grains == nil {
			continue
		}
		// Sets, not ranges: the index is searched for hundreds of buckets at no cost.
		var or []string
		for g := grainMinute; g <= grainMonth; g++ {
			if len(grains[g]) > 0 {
				or = append(or, "(grain = '"+g.String()+"' AND at IN "+a.seconds(grains[g])+")")
			}
		}
		conds := append([]string{"(" + strings.Join(or, " OR ") + ")"}, clickhouseWhere(a, q.terms)...)
		columns := q.columns(a, "at", func(d dimension) string {
			if e, ok := r.values[d]; ok {
				return e
			}
			return string(d)
		}, r.column("status"))
		columns = append(columns, "toUInt64(sum(n)) AS calls")
		if q.latencies {
			columns = append(columns, "toInt64(max(max_us)) AS slowest")
			if strings.HasSuffix(table, "_months") {
				columns = append(columns, "groupArrayArray(latency.1) AS buckets", "groupArrayArray(latency.2) AS counts")
			} else {
				columns = append(columns, "groupArray(bucket) AS buckets", "groupArray(toUInt64(n)) AS counts")
			}
		}
		out = append(out, "SELECT "+strings.Join(columns, ", ")+" FROM "+table+" WHERE "+and(conds)+q.groupBy())
	}
	return out
}
