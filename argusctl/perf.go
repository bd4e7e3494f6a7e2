package main

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"math"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/useargus/argus"
)

type perfOptions struct {
	filter   *filterFlags
	differs  *differFlags
	sort     string
	groupBy  string
	compare  bool
	watch    bool
	interval time.Duration
	slowest  string
	limit    int
}

var (
	perfSorts  = []string{"count", "rpm", "errors", "p50", "p95", "p99", "max", "regression"}
	perfGroups = textsOf(argus.GroupBys())
)

func textsOf[T ~string](names []T) []string {
	out := make([]string, len(names))
	for i, name := range names {
		out[i] = string(name)
	}
	return out
}

func newCmdPerf(f *factory) *cobra.Command {
	o := &perfOptions{}
	cmd := &cobra.Command{
		Use:   "perf",
		Short: "How fast and how healthy each route is",
		Long: `Shows calls, calls per minute, and the share of 5xx and of 4xx answers. P50, P95 and P99 are the latency that 50, 95 and
99 of 100 calls stay within. It has one line for each route, or for each value of --group-by. The figures come from the
audit log itself. The window is the last hour unless --since says otherwise.

--compare sets each figure beside that of the window before; what differs by more than noise is coloured.
--sort regression does too, and puts first what grew most: a latency, or the share of 5xx answers, that is coloured.
--slowest ROUTE lists the calls behind that route's p99.

--differs answers for whom: it compares a region, some of the calls, with the others. It shows the actors, clients, tenants
and statuses whose share or latency departs by more than chance, the greatest first. The region is what the --region flags
say, all together. Without any it is the whole window, beside the time before.`,
		Example: `  argusctl perf --since 24h --sort p99
  argusctl perf --since 1h --compare
  argusctl perf --since 1h --sort regression
  argusctl perf --service sample --group-by release --since 24h
  argusctl perf --route '/v1/tenants*' --group-by actor
  argusctl perf --slowest 'GET /v1/audit-log' --since 24h
  argusctl perf --differs --since 1h
  argusctl perf --differs --since 1h --region failed --route 'GET /v1/audit-log'
  argusctl perf --watch --sort errors`,
		Args: atMost(0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			return f.whileRead(cmd.Context(), func(ctx context.Context) error { return perfRun(ctx, f, o) })
		},
	}
	o.filter = addFilterFlags(f, cmd)
	flags := cmd.Flags()
	flags.StringVar(&o.sort, "sort", "count", "greatest first `by` count, rpm, errors, p50, p95, p99, max or regression")
	flags.StringVar(&o.groupBy, "group-by", "route", "one line `each` route, service, release, actor, tenant, method, actor_kind, client or status_class")
	flags.BoolVar(&o.compare, "compare", false, "compare with the window before")
	flags.BoolVarP(&o.watch, "watch", "w", false, "show it again and again until q; needs a terminal")
	flags.DurationVar(&o.interval, "interval", 5*time.Second, "with --watch: again after this `time`")
	flags.StringVar(&o.slowest, "slowest", "", "list the slowest calls of this `route`")
	flags.IntVarP(&o.limit, "limit", "n", 20, "with --slowest: this `number` of calls")
	o.differs = addDifferFlags(cmd)
	_ = cmd.RegisterFlagCompletionFunc("sort", fixed(perfSorts...))
	_ = cmd.RegisterFlagCompletionFunc("group-by", fixed(perfGroups...))
	_ = cmd.RegisterFlagCompletionFunc("slowest", f.completeFacet(argus.FilterRoute))
	return cmd
}

// perfAnswer is the answer of GET /v1/perf.
type perfAnswer struct {
	GroupBy           string            `json:"group_by"`
	Since             time.Time         `json:"since"`
	Until             time.Time         `json:"until"`
	Source            argus.Source      `json:"source"`
	ReplicatedThrough time.Time         `json:"replicated_through"`
	Rows              []json.RawMessage `json:"rows"`

	rows  []perfRow
	names map[string]string // of actors
}

// perfRow is one of its rows. A latency is nil when no call completed.
type perfRow struct {
	raw         json.RawMessage
	group       string
	Count       int64    `json:"count"`
	Interrupted int64    `json:"interrupted"`
	RPM         float64  `json:"rpm"`
	ErrorRate   float64  `json:"error_rate"`
	ClientError float64  `json:"client_error_rate"`
	P50         *float64 `json:"p50_ms"`
	P95         *float64 `json:"p95_ms"`
	P99         *float64 `json:"p99_ms"`
	Max         *float64 `json:"max_ms"`
	Before      *perfRow `json:"before"`
	Changed     []string `json:"changed"`
}

func perfRun(ctx context.Context, f *factory, o *perfOptions) error {
	query, err := o.query(ctx, f)
	if err != nil {
		return err
	}
	how, _ := f.format()
	if o.watch && (!f.io.outTerminal || !f.io.inTerminal || how == asJSON || how == asCSV) {
		return usageErrorf("--watch redraws a table, which takes a terminal.")
	}
	c, err := f.client()
	if err != nil {
		return err
	}
	switch {
	case o.differs.on:
		return differsRun(ctx, f, c, query, how)
	case o.slowest != "":
		return slowestRun(ctx, f, c, o, query)
	case o.watch:
		return f.watch(ctx, o.interval, func(ctx context.Context) ([]string, error) {
			p, err := askPerf(ctx, c, query, o.sort)
			if err != nil {
				return nil, err
			}
			p.names = askNames(ctx, c, query)
			t := p.table(f, o, askTrends(ctx, c, query))
			return append([]string{p.about(f), ""}, t.lines(f.io.width(), how, f.io.outColor)...), nil
		})
	}
	p, err := askPerf(ctx, c, query, o.sort)
	if err != nil {
		return err
	}
	if how == asJSON {
		for _, r := range p.rows {
			if err := f.jsonLine(r.raw); err != nil {
				return err
			}
		}
		return nil
	}
	if how != asCSV {
		f.notice("%s", p.about(f))
		if len(p.rows) == 0 {
			return nil
		}
	}
	var trends map[string]trend
	if how == wide || how == short && f.io.outTerminal {
		trends = askTrends(ctx, c, query)
	}
	if how != asCSV {
		p.names = askNames(ctx, c, query)
	}
	if err := p.table(f, o, trends).print(f, how); err != nil || how == asCSV {
		return err
	}
	if worst := p.rows[0]; o.sort == "regression" && p.GroupBy == "route" && worst.regression() > 1 {
		if err := f.io.out.Flush(); err != nil {
			return err
		}
		if at := trends[worst.group].started; !at.IsZero() {
			f.notice("%s is worse since %s.", worst.group, f.clock(at, p.Until))
		}
		f.notice("For whom: argusctl perf --differs %s", p.same(query, worst.group))
	}
	return nil
}

// same are the flags that ask for the same calls, of one route. A window that ends now keeps its length, other moments are
// whole seconds.
func (p *perfAnswer) same(query url.Values, route string) string {
	q := maps.Clone(query)
	for _, other := range []string{"group_by", "compare"} {
		q.Del(other)
	}
	if _, err := argus.ParseDuration(q.Get("since")); err != nil || q.Has("until") {
		q.Set("since", p.Since.Format(time.RFC3339))
	}
	if q.Has("until") {
		q.Set("until", p.Until.Add(time.Second-1).Truncate(time.Second).Format(time.RFC3339))
	}
	q.Set("route", route)
	return asFlags(q)
}

func (o *perfOptions) query(ctx context.Context, f *factory) (url.Values, error) {
	query, err := o.filter.query(ctx)
	if err != nil {
		return nil, err
	}
	switch {
	case !slices.Contains(perfSorts, o.sort):
		return nil, usageErrorf("--sort %q: write one of %s.", o.sort, strings.Join(perfSorts, ", "))
	case !slices.Contains(perfGroups, o.groupBy):
		return nil, usageErrorf("--group-by %q: write one of %s.", o.groupBy, strings.Join(perfGroups, ", "))
	case o.watch && o.interval < time.Second:
		return nil, usageErrorf("--interval: a second or more.")
	case o.slowest != "" && (o.watch || o.compare || query.Has("route")):
		return nil, usageErrorf("--slowest names the route and lists calls: it excludes --route, --compare and --watch.")
	case o.limit < 1 || o.limit > argus.MaxLimit:
		return nil, usageErrorf("--limit: 1 to %d.", argus.MaxLimit)
	}
	if !query.Has("since") && !query.Has("until") { // the server's hour ends at --until
		query.Set("since", "1h")
	}
	if err := o.differs.query(f, o, query); err != nil || o.differs.on {
		return query, err
	}
	if o.slowest != "" {
		query.Set("route", o.slowest)
		return query, nil
	}
	query.Set("group_by", o.groupBy)
	if o.compare || o.sort == "regression" {
		query.Set("compare", "true")
	}
	return query, nil
}

// askPerf asks and sorts.
func askPerf(ctx context.Context, c *client, query url.Values, by string) (*perfAnswer, error) {
	var p perfAnswer
	if _, err := c.get(ctx, "/v1/perf", query, &p); err != nil {
		return nil, err
	}
	for _, raw := range p.Rows {
		r := perfRow{raw: raw}
		var keys map[string]json.RawMessage
		if err := unmarshal(raw, &r); err != nil {
			return nil, badAnswer(err)
		}
		if err := unmarshal(raw, &keys); err != nil {
			return nil, badAnswer(err)
		}
		if err := unmarshal(keys[p.GroupBy], &r.group); err != nil {
			return nil, badAnswer(fmt.Errorf("a row has no %q", p.GroupBy))
		}
		p.rows = append(p.rows, r)
	}
	slices.SortStableFunc(p.rows, func(a, b perfRow) int {
		if d := cmp.Compare(b.sortKey(by), a.sortKey(by)); d != 0 {
			return d
		}
		if d := cmp.Compare(b.Count, a.Count); d != 0 {
			return d
		}
		return cmp.Compare(a.group, b.group)
	})
	return &p, nil
}

// sortKey is what a row is sorted by; rows without the figure come last. errors are counted, not rated: one bad
// call of one is not the worst there is.
func (r *perfRow) sortKey(by string) float64 {
	or := func(v *float64) float64 {
		if v == nil {
			return -1
		}
		return *v
	}
	switch by {
	case "rpm":
		return r.RPM
	case "errors":
		return r.ErrorRate*float64(r.Count) + r.ClientError/1e6
	case "p50":
		return or(r.P50)
	case "p95":
		return or(r.P95)
	case "p99":
		return or(r.P99)
	case "max":
		return or(r.Max)
	case "regression":
		return r.regression()
	}
	return float64(r.Count)
}

// regression is the greatest growth of a figure that changed by more than noise, as a factor; 1 without one. A percentage
// point is added to both shares of errors, so that the first errors there are do not outgrow everything.
func (r *perfRow) regression() float64 {
	worst := 1.0
	if r.Before == nil {
		return worst
	}
	for _, name := range r.Changed {
		now, before := r.ErrorRate+0.01, r.Before.ErrorRate+0.01
		if name != "error_rate" {
			pair := map[string][2]*float64{"p50": {r.P50, r.Before.P50}, "p95": {r.P95, r.Before.P95}, "p99": {r.P99, r.Before.P99}}[name]
			if pair[0] == nil || pair[1] == nil || *pair[1] <= 0 {
				continue
			}
			now, before = *pair[0], *pair[1]
		}
		worst = max(worst, now/before)
	}
	return worst
}

// about says what the figures are made of: window, sample, source, lag.
func (p *perfAnswer) about(f *factory) string {
	var count, interrupted int64
	for _, r := range p.rows {
		count += r.Count
		interrupted += r.Interrupted
	}
	text := f.window(p.Since, p.Until) + ": " + argus.Counted(count, "call")
	if interrupted > 0 {
		text += fmt.Sprintf(", %d interrupted", interrupted)
	}
	text += ", from " + string(p.Source)
	if !p.ReplicatedThrough.IsZero() {
		text += ", copied up to " + f.ago(p.ReplicatedThrough)
	}
	return text
}

// trend is a group over time.
type trend struct {
	rpm     []float64
	started time.Time // where a regression started; zero without one
}

// askTrends asks for calls per minute over the window, by group, and with a comparison where a regression started. It is an
// ornament: without an answer it is left out.
func askTrends(ctx context.Context, c *client, query url.Values) map[string]trend {
	var answer struct {
		Series []struct {
			Group     string    `json:"group"`
			StartedAt time.Time `json:"started_at"`
			Points    []struct {
				RPM float64 `json:"rpm"`
			} `json:"points"`
		} `json:"series"`
	}
	if _, err := c.get(ctx, "/v1/perf/series", query, &answer); err != nil {
		return nil
	}
	trends := map[string]trend{}
	for _, s := range answer.Series {
		values := make([]float64, len(s.Points))
		for i, point := range s.Points {
			values[i] = point.RPM
		}
		trends[s.Group] = trend{resample(values, trendWidth), s.StartedAt}
	}
	return trends
}

// askNames gives the names of the actors that figures are shown of. Without them the ids stand alone.
func askNames(ctx context.Context, c *client, query url.Values) map[string]string {
	if query.Get("group_by") != string(argus.GroupByActor) {
		return nil
	}
	q := maps.Clone(query)
	q.Del("group_by")
	q.Del("compare")
	q.Set("limit", strconv.Itoa(argus.MaxLimit))
	answer, err := askFacets(ctx, c, q, argus.FilterActor)
	if err != nil {
		return nil
	}
	names := map[string]string{}
	for _, v := range answer.Fields[argus.FilterActor] {
		if v.Name != nil {
			names[v.Value] = *v.Name
		}
	}
	return names
}

const trendWidth = 20

// resample averages values into at most n.
func resample(values []float64, n int) []float64 {
	if len(values) <= n {
		return values
	}
	out := make([]float64, n)
	for i := range out {
		from, to := i*len(values)/n, (i+1)*len(values)/n
		for _, v := range values[from:to] {
			out[i] += v
		}
		out[i] /= float64(to - from)
	}
	return out
}

// clock shows a moment of a table whose window ends at until: without its day where that is the same.
func (f *factory) clock(at, until time.Time) string {
	shown := f.shownTime(at)
	if shown.Format(time.DateOnly) == f.shownTime(until).Format(time.DateOnly) {
		return shown.Format("15:04")
	}
	return shown.Format("2006-01-02 15:04")
}

// quoted is a word for a shell.
// bare is what a shell takes as it stands.
var bare = regexp.MustCompile(`^[A-Za-z0-9_./:@=,+-]+$`)

// worded quotes a text for a shell where it needs that.
func worded(s string) string {
	if bare.MatchString(s) {
		return s
	}
	return quoted(s)
}

func quoted(s string) string { return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'" }

// table lays the figures out. With a comparison, each stands beside how it changed.
func (p *perfAnswer) table(f *factory, o *perfOptions, trends map[string]trend) *table {
	how, _ := f.format()
	least := 36 // of a route: 20 are all of /v1/tenants/:id/…
	if o.compare || o.sort == "regression" {
		least = 22
	}
	t := &table{columns: []column{{head: strings.ToUpper(strings.ReplaceAll(p.GroupBy, "_", " ")), key: p.GroupBy, flex: true, min: least},
		{head: "COUNT", right: true}, {head: "RPM", right: true}, {head: "5XX", key: "error_rate", right: true},
		{head: "4XX", key: "client_error_rate", right: true, spare: true}, {head: "P50", key: "p50_ms", right: true, spare: true},
		{head: "P95", key: "p95_ms", right: true}, {head: "P99", key: "p99_ms", right: true}, {head: "MAX", key: "max_ms", right: true, spare: true},
		{head: "INTERRUPTED", key: "interrupted", right: true, wide: true}}}
	started := false
	for _, r := range p.rows {
		started = started || r.regression() > 1 && !trends[r.group].started.IsZero()
	}
	if started {
		t.columns = append(t.columns, column{head: "SINCE", spare: true})
	}
	if trends != nil {
		t.columns = append(t.columns, column{head: "TREND", spare: true})
	}
	for _, r := range p.rows {
		was := r.Before
		row := []cell{val(f.who(r.group, p.names, how), r.group), txt(strconv.FormatInt(r.Count, 10)),
			r.figure("rpm", formatRPM(r.RPM), &r.RPM, func(b *perfRow) *float64 { return &b.RPM }),
			r.figure("error_rate", formatRate(r.ErrorRate), &r.ErrorRate, func(b *perfRow) *float64 { return &b.ErrorRate }),
			val(formatRate(r.ClientError), rawFloat(&r.ClientError))}
		if was == nil && r.ErrorRate > 0 {
			row[3] = row[3].in(red)
		}
		row = append(row,
			r.figure("p50", shownMS(r.P50), r.P50, func(b *perfRow) *float64 { return b.P50 }),
			r.figure("p95", shownMS(r.P95), r.P95, func(b *perfRow) *float64 { return b.P95 }),
			r.figure("p99", shownMS(r.P99), r.P99, func(b *perfRow) *float64 { return b.P99 }),
			val(shownMS(r.Max), rawFloat(r.Max)), txt(strconv.FormatInt(r.Interrupted, 10)))
		if started {
			since := cell{none: true}
			if at := trends[r.group].started; r.regression() > 1 && !at.IsZero() {
				since = val(f.clock(at, p.Until), at.Format(argus.TimeFormat)).in(red)
			}
			row = append(row, since)
		}
		if trends != nil {
			row = append(row, txt(sparkline(trends[r.group].rpm)).in(cyan))
		}
		t.rows = append(t.rows, row)
	}
	return t
}

// figure shows a figure, and after it how it changed from the window before, coloured when that is no noise:
// more load is no fault, more errors or latency are.
func (r *perfRow) figure(name, shown string, now *float64, of func(*perfRow) *float64) cell {
	c := val(shown, rawFloat(now))
	if r.Before == nil {
		if now != nil && strings.HasPrefix(name, "p") {
			c.style = latencyStyle(*now)
		}
		return c
	}
	before := of(r.Before)
	if now == nil || before == nil {
		return c
	}
	c.text += " " + change(name, *before, *now)
	if slices.Contains(r.Changed, name) {
		switch {
		case name == "rpm":
			c.style = cyan
		case *now > *before:
			c.style = red
		default:
			c.style = green
		}
	}
	return c
}

// change is "+12%"; for rates, the difference in percentage points. Next to nothing is "=".
func change(name string, before, now float64) string {
	switch {
	case math.Abs(now-before) < 0.0005 || name != "error_rate" && math.Abs(now-before) < 0.005*before:
		return "="
	case name == "error_rate":
		return fmt.Sprintf("%+.1fpp", (now-before)*100)
	case before == 0:
		return "new"
	}
	percent := (now - before) / before * 100
	if math.Abs(percent) >= 1000 {
		return fmt.Sprintf("×%.0f", now/before)
	}
	return fmt.Sprintf("%+.0f%%", percent)
}

func shownMS(v *float64) string {
	if v == nil {
		return "-"
	}
	return formatMS(*v)
}

func rawFloat(v *float64) string {
	if v == nil {
		return ""
	}
	return strconv.FormatFloat(*v, 'g', -1, 64)
}
