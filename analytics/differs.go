package analytics

import (
	"cmp"
	"context"
	"math"
	"slices"
	"strings"
	"time"

	"github.com/ClickHouse/ch-go/proto"

	"github.com/useargus/argus"
)

// maxDiffers bounds the values that are told apart, of both sides and all dimensions.
const maxDiffers = 200_000

// interruptedStatus is the status of calls that have none.
const interruptedStatus = string(argus.Interrupted)

// differDimensions are the dimensions in the order of argus.DifferDimensions, as texts.
var differDimensions = []dimension{byActor, byActorKind, byClient, byAgent, byTenant, byRoute, byStatus, byErrorCode, byService, byRelease}

// differs is a question being answered.
type differs struct {
	span       window // of both sides
	conditions []argus.Condition
	region     argus.Region
	before     bool // calls from the region's beginning on that are not in it are on neither side

	sides [2]map[differKey]*side // of the baseline, of the region
}

type differKey struct {
	which int // of differDimensions
	value string
}

// side is the calls of one side that have a value.
type side struct {
	latencies
	calls uint64 // interrupted ones included
}

func (s *side) add(o *side) {
	s.calls += o.calls
	for i, n := range o.counts {
		if n > 0 {
			s.latencies.add(o.first+int16(i), n)
		}
	}
	s.max = max(s.max, o.max)
}

// count counts calls of one side that have a value.
func (d *differs) count(region bool, which int, value string, calls uint64, slowest int64, buckets []int16, counts []uint64) {
	sides := d.sides[0]
	if region {
		sides = d.sides[1]
	}
	k := differKey{which, value}
	s := sides[k]
	if s == nil {
		s = &side{}
		sides[differKey{which, strings.Clone(value)}] = s
	}
	s.calls += calls
	s.max = max(s.max, slowest)
	for i, b := range buckets {
		if b != bucketInterrupted {
			s.latencies.add(b, counts[i])
		}
	}
}

// Differs answers how the calls of a region differ from the others of the filter, of all rows committed when it was asked.
// The window, and with it the region, ends now when it is open or ends later.
// Errors: CodeInvalidParameter, CodeQueryTooLarge, CodeUnavailable.
func (a *Analytics) Differs(ctx context.Context, req argus.DiffersRequest) (res argus.DiffersResult, err error) {
	defer a.metrics.observe("differs", time.Now(), &res.Source, &err)
	limit := cmp.Or(req.Limit, argus.DefaultDifferValues)
	if limit < 1 || limit > argus.MaxDifferValues {
		return res, argus.Errorf(argus.CodeInvalidParameter, "limit must be 1 to %d.", argus.MaxDifferValues)
	}
	return ask(ctx, a, "differs", func(ctx context.Context, on *attempt) (argus.DiffersResult, error) {
		return a.differs(ctx, on, req, limit)
	})
}

func (a *Analytics) differs(ctx context.Context, on *attempt, req argus.DiffersRequest, limit int) (res argus.DiffersResult, err error) {
	w := a.resolve(&req.Filter)
	w.until = w.end(a.config.now())
	d := &differs{span: w, conditions: req.Filter.Conditions, region: req.Region}
	r := &d.region
	if r.Since.IsZero() || r.Since.Before(w.since) {
		r.Since = w.since
	}
	if r.Until.IsZero() || r.Until.After(w.until) {
		r.Until = w.until
	}
	if r.Until.Before(r.Since) {
		r.Until = r.Since
	}
	whole := r.Since.Equal(w.since) && r.Until.Equal(w.until)
	all := r.Kind == "" && r.LatencyMin == 0 && r.LatencyMax == 0
	switch {
	case req.Baseline == "" && whole && all:
		req.Baseline = argus.BaselineBefore
	case req.Baseline == "":
		req.Baseline = argus.BaselineRest
	case req.Baseline == argus.BaselineRest && whole && all:
		return res, argus.Errorf(argus.CodeInvalidParameter,
			"The region is the whole window, so the rest has no calls. Narrow the region, or compare with the time before: baseline=before.")
	}
	res = argus.DiffersResult{Since: w.since, Until: w.until, Baseline: req.Baseline, BaselineSince: w.since, BaselineUntil: w.until}
	if req.Baseline == argus.BaselineBefore {
		d.before = true
		d.span = a.clamp(window{r.Since.Add(-r.Until.Sub(r.Since)), r.Until})
		res.BaselineSince, res.BaselineUntil = d.span.since, r.Since
	}
	if r.Kind == argus.RegionSlow && r.LatencyMin == 0 {
		if r.LatencyMin, err = a.slow(ctx, on, d, window{res.BaselineSince, res.BaselineUntil}); err != nil {
			return res, err
		}
	}
	res.Region = *r
	res.Source, res.ReplicatedThrough, err = a.overRows(ctx, on, rowQuestion{
		columns: tailColumns + ", outcome",
		begin:   func() { d.sides = [2]map[differKey]*side{{}, {}} },
		postgres: func(ctx context.Context, from func(*postgresArgs, []string) string) error {
			return a.postgresDiffers(ctx, d, from)
		},
		clickhouse: func(ctx context.Context, conn *clickhouseConn, wm argus.Position, left time.Duration) error {
			return a.clickhouseDiffers(ctx, conn, d, wm, left)
		},
	})
	if err != nil {
		return argus.DiffersResult{}, err
	}
	d.answer(&res, limit)
	return res, nil
}

// slow is the latency from which on calls are slow: the p95 of those outside the region's time, or of all where that has
// none. It is at least a microsecond.
func (a *Analytics) slow(ctx context.Context, on *attempt, d *differs, baseline window) (time.Duration, error) {
	one := grouping{group: func(*countRow) string { return "" }}
	var parts []*tallies
	var questions []*countQuestion
	for _, w := range []window{{baseline.since, d.region.Since}, {d.region.Until, baseline.until}, {d.region.Since, d.region.Until}} {
		if w.since.Before(w.until) {
			t := newTallies(w, d.conditions, one)
			parts, questions = append(parts, t), append(questions, &t.question)
		}
	}
	if len(questions) == 0 {
		return time.Microsecond, nil
	}
	if _, err := a.count(ctx, on, questions, func() {}); err != nil {
		return 0, err
	}
	var outside, inside latencies
	for _, t := range parts {
		g := t.groups[""]
		if g == nil {
			continue
		}
		sum := &outside
		if t.question.window.since.Equal(d.region.Since) {
			sum = &inside
		}
		for i, n := range g.counts {
			if n > 0 {
				sum.add(g.first+int16(i), n)
			}
		}
		sum.max = max(sum.max, g.max)
	}
	if outside.n == 0 {
		outside = inside
	}
	if outside.n == 0 {
		return time.Microsecond, nil
	}
	return max(1, time.Duration(math.Floor(outside.quantile(0.95)))) * time.Microsecond, nil
}

// answer makes of the counts what is shown.
func (d *differs) answer(res *argus.DiffersResult, limit int) {
	values := make([]map[string]*[2]*side, len(differDimensions))
	for i := range values {
		values[i] = map[string]*[2]*side{}
	}
	for i, sides := range d.sides {
		for k, s := range sides {
			v := values[k.which][k.value]
			if v == nil {
				v = &[2]*side{{}, {}}
				values[k.which][k.value] = v
			}
			v[i] = s
		}
	}
	// Each call has one value of each dimension.
	total := [2]*side{{}, {}}
	for _, v := range values[0] {
		total[0].add(v[0])
		total[1].add(v[1])
	}
	res.Calls = figuresOf(total, total)
	// Of a region of latencies they depart by definition.
	latencies := d.region.Kind != argus.RegionSlow && d.region.LatencyMin == 0 && d.region.LatencyMax == 0
	for which, dimension := range argus.DifferDimensions() {
		list := make([]argus.DifferValue, 0, len(values[which]))
		for value, v := range values[which] {
			score, departs := departure(v, total, latencies)
			list = append(list, argus.DifferValue{Value: value, Score: score, Departs: departs,
				DifferFigures: argus.DifferFigures{Calls: int64(v[1].calls), BaselineCalls: int64(v[0].calls)}})
		}
		slices.SortFunc(list, func(x, y argus.DifferValue) int {
			return cmp.Or(cmp.Compare(y.Score, x.Score), cmp.Compare(y.Calls, x.Calls), cmp.Compare(y.BaselineCalls, x.BaselineCalls),
				cmp.Compare(x.Value, y.Value))
		})
		shown := list[:min(len(list), limit)]
		for i := range shown {
			shown[i].DifferFigures = figuresOf(*values[which][shown[i].Value], total)
		}
		other := [2]*side{{}, {}}
		for _, v := range list[len(shown):] {
			sides := values[which][v.Value]
			other[0].add(sides[0])
			other[1].add(sides[1])
		}
		res.Dimensions = append(res.Dimensions, argus.DifferValues{Dimension: dimension, Values: shown,
			Others: len(list) - len(shown), Other: figuresOf(other, total)})
	}
	// The dimension that tells most comes first.
	slices.SortStableFunc(res.Dimensions, func(x, y argus.DifferValues) int { return cmp.Compare(best(y), best(x)) })
}

func best(v argus.DifferValues) float64 {
	if len(v.Values) == 0 {
		return 0
	}
	return v.Values[0].Score
}

func figuresOf(v, total [2]*side) argus.DifferFigures {
	share := func(i int) float64 {
		if total[i].calls == 0 {
			return 0
		}
		return float64(v[i].calls) / float64(total[i].calls)
	}
	return argus.DifferFigures{
		Calls: int64(v[1].calls), BaselineCalls: int64(v[0].calls), Share: share(1), BaselineShare: share(0),
		P50: v[1].quantile(0.5) / 1000, BaselineP50: v[0].quantile(0.5) / 1000,
		P99: v[1].quantile(0.99) / 1000, BaselineP99: v[0].quantile(0.99) / 1000,
	}
}

// clickhouseRegion is the condition that a row is in the region. It is never null.
func (d *differs) clickhouseRegion(a *clickhouseArgs) string {
	conds := window{d.region.Since, d.region.Until}.clickhouse(a)
	switch d.region.Kind {
	case argus.RegionFailed:
		conds = append(conds, "ifNull(status BETWEEN 500 AND 599, 0)")
	case argus.RegionInterrupted:
		conds = append(conds, "outcome = '"+interruptedStatus+"'")
	}
	if d.region.LatencyMin > 0 {
		conds = append(conds, "ifNull(latency_us >= "+a.int(d.region.LatencyMin.Microseconds())+", 0)")
	}
	if d.region.LatencyMax > 0 {
		conds = append(conds, "ifNull(latency_us < "+a.int(d.region.LatencyMax.Microseconds())+", 0)")
	}
	return "(" + and(conds) + ")"
}

// postgresRegion is clickhouseRegion for Postgres.
func (d *differs) postgresRegion(a *postgresArgs) string {
	conds := window{d.region.Since, d.region.Until}.postgres(a)
	switch d.region.Kind {
	case argus.RegionFailed:
		conds = append(conds, "coalesce(status BETWEEN 500 AND 599, false)")
	case argus.RegionInterrupted:
		conds = append(conds, "outcome = '"+interruptedStatus+"'")
	}
	if d.region.LatencyMin > 0 {
		conds = append(conds, "coalesce(latency_us >= "+a.add(d.region.LatencyMin.Microseconds())+", false)")
	}
	if d.region.LatencyMax > 0 {
		conds = append(conds, "coalesce(latency_us < "+a.add(d.region.LatencyMax.Microseconds())+", false)")
	}
	return "(" + and(conds) + ")"
}

func (a *Analytics) clickhouseDiffers(ctx context.Context, conn *clickhouseConn, d *differs, wm argus.Position, left time.Duration) error {
	var args clickhouseArgs
	region := d.clickhouseRegion(&args)
	conds := append(d.span.clickhouse(&args), clickhouseIn(&args, wm))
	conds = append(conds, clickhouseWhere(&args, d.conditions)...)
	if d.before {
		conds = append(conds, "("+region+" OR occurred_at < "+args.moment(d.region.Since)+")")
	}
	var texts []string
	for _, dim := range differDimensions {
		e := string(dim)
		if known, ok := clickhouseDimension[dim]; ok {
			e = known
		}
		texts = append(texts, "CAST("+e+", 'String')")
	}
	text := `SELECT inside, which, value, sum(n) AS calls, max(longest) AS slowest, groupArray(bucket) AS buckets, groupArray(n) AS counts
		FROM (SELECT inside, which, value, bucket, count() AS n, max(latency) AS longest
			FROM (SELECT toUInt8(` + region + `) AS inside, assumeNotNull(` + clickhouseBucket + `) AS bucket, ifNull(latency_us, 0) AS latency,
				[` + strings.Join(texts, ", ") + `] AS texts FROM audit_log WHERE ` + and(conds) + `)
			ARRAY JOIN texts AS value, arrayMap(i -> toUInt8(i), arrayEnumerate(texts)) AS which
			GROUP BY inside, which, value, bucket)
		GROUP BY inside, which, value LIMIT ` + args.int(maxDiffers+1)
	var inside, which proto.ColUInt8
	var value proto.ColStr
	var calls proto.ColUInt64
	var slowest proto.ColInt64
	var flat16 proto.ColInt16
	var flat64 proto.ColUInt64
	buckets, counts := proto.NewArray[int16](&flat16), proto.NewArray[uint64](&flat64)
	n := 0
	return conn.query(ctx, statement{text, args.params}, bounds{time: left, memory: queryMemory}, proto.Results{
		{Name: "inside", Data: &inside}, {Name: "which", Data: &which}, {Name: "value", Data: &value}, {Name: "calls", Data: &calls},
		{Name: "slowest", Data: &slowest}, {Name: "buckets", Data: buckets}, {Name: "counts", Data: counts},
	}, func(rows int) error {
		if n += rows; n > maxDiffers {
			return errOutOfTime
		}
		for i := range rows {
			d.count(inside[i] == 1, int(which[i])-1, value.Row(i), calls[i], slowest[i],
				slice(flat16, buckets.Offsets, i), slice(flat64, counts.Offsets, i))
		}
		return nil
	})
}

func (a *Analytics) postgresDiffers(ctx context.Context, d *differs, from func(*postgresArgs, []string) string) error {
	var args postgresArgs
	region := d.postgresRegion(&args)
	conds := append(d.span.postgres(&args), postgresWhere(&args, d.conditions)...)
	if d.before {
		conds = append(conds, "("+region+" OR occurred_at < "+args.add(d.region.Since)+")")
	}
	var texts []string
	for _, dim := range differDimensions {
		e := string(dim)
		if known, ok := postgresDimension[dim]; ok {
			e = known
		}
		texts = append(texts, e)
	}
	text := `SELECT inside, which, value, bucket, count(*), max(latency)
		FROM (SELECT ` + region + ` AS inside, ` + postgresBucket + ` AS bucket, coalesce(latency_us, 0) AS latency,
			ARRAY[` + strings.Join(texts, ", ") + `] AS texts` + from(&args, conds) + `) rows, unnest(texts) WITH ORDINALITY AS t (value, which)
		GROUP BY 1, 2, 3, 4`
	rows, err := a.pg.slow.Query(ctx, text, args.values...)
	if err != nil {
		return err
	}
	defer rows.Close()
	for rows.Next() {
		var inside bool
		var which, calls, slowest int64
		var value string
		var bucket int32
		if err := rows.Scan(&inside, &which, &value, &bucket, &calls, &slowest); err != nil {
			return err
		}
		if len(d.sides[0])+len(d.sides[1]) > maxDiffers {
			return errOutOfTime
		}
		d.count(inside, int(which)-1, value, uint64(calls), slowest, []int16{int16(bucket)}, []uint64{uint64(calls)})
	}
	return rows.Err()
}
