package api

import (
	"context"
	"encoding/json"
	"log/slog"
	"net/http"
	"slices"
	"sync"
	"time"

	"github.com/google/uuid"

	"github.com/useargus/argus"
	"github.com/useargus/argus/api/credential"
)

// logs answers questions of the audit log.
type logs struct {
	auditLog    Log
	credentials *credential.Verifier // for names
	pool        *Pool                // for names of tokens
	ledger      *ledgerStore         // for leaves of exported rows
	log         *slog.Logger
	served      func() []string // routes, as they stand in the log
	services    func() []string // that are declared

	mu   sync.Mutex
	held map[string]bool // values of filters that calls had: see holds
}

const followPath = "/v1/audit-log/stream"

func (l *logs) routes() []route {
	get := func(path string, stream bool, handle func(*call) (answer, error)) route {
		return route{Method: http.MethodGet, Path: path, Scope: argus.ScopeLogsRead, Stream: stream, Handle: handle}
	}
	return []route{
		get("/v1/audit-log", false, l.search),
		get("/v1/audit-log/facets", false, l.facets),
		get(followPath, true, l.follow),
		get("/v1/audit-log/export", true, l.export),
		get("/v1/audit-log/exports/:id", false, l.manifest),
		get("/v1/audit-log/:id", false, l.showCall),
		get("/v1/perf", false, l.perf),
		get("/v1/perf/series", false, l.series),
		get("/v1/perf/differs", false, l.differs),
	}
}

// search answers one page of the log.
func (l *logs) search(c *call) (answer, error) {
	q := c.Query()
	var req argus.SearchRequest
	follows, err := boolOf(q, "follow")
	if err != nil {
		return answer{}, err
	}
	var awaited []string
	if req.Filter, awaited, err = l.followedFilterOf(c, follows, "limit", "cursor", "order", "follow", "steps"); err != nil {
		return answer{}, err
	}
	withSteps, err := boolOf(q, "steps")
	if err != nil {
		return answer{}, err
	}
	if req.Limit, err = numberOf(q, "limit", argus.MaxLimit); err != nil {
		return answer{}, err
	}
	if req.Cursor, err = one(q, "cursor"); err != nil {
		return answer{}, err
	}
	if req.Ascending, err = orderOf(q, false); err != nil {
		return answer{}, err
	}
	page, err := l.auditLog.Search(c.Context(), req)
	if err != nil {
		return answer{}, err
	}
	var steps map[uuid.UUID][]argus.Step
	if withSteps {
		if steps, err = l.stepsOf(c.Context(), page.Rows...); err != nil {
			return answer{}, err
		}
	}
	b := make([]byte, 0, 512+1024*len(page.Rows))
	b = append(b, `{"rows":[`...)
	for i := range page.Rows {
		if i > 0 {
			b = append(b, ",\n"...)
		}
		b = page.Rows[i].AppendJSON(b)
		if withSteps {
			b = argus.AppendBeside(b, &argus.Beside{Steps: steps[page.Rows[i].ID]}, true, false)
		}
	}
	b = append(b, "]"...)
	b = appendField(b, "next_cursor", argus.OrNull(page.NextCursor))
	b = appendField(b, "snapshot", page.Snapshot.Token)
	b = appendField(b, "since", argus.JSONTime(page.Since))
	b = appendField(b, "until", argus.JSONTime(page.Until))
	b = appendField(b, "source", page.Source)
	b = appendField(b, "replicated_through", argus.JSONTime(page.ReplicatedThrough))
	b = appendField(b, "actors", namesOf(c.Context(), l.credentials, page.Rows))
	b = appendField(b, "break_glass", l.reasonsOf(c.Context(), page.Rows))
	if follows {
		b = appendField(b, "awaited", append([]string{}, awaited...))
	}
	return answer{Status: http.StatusOK, JSON: append(b, "}\n"...)}, nil
}

// stepsOf gives what the calls of the rows did to workers and tenants.
func (l *logs) stepsOf(ctx context.Context, rows ...argus.Record) (map[uuid.UUID][]argus.Step, error) {
	var ids []uuid.UUID
	for i := range rows {
		if rows[i].Method != http.MethodGet && rows[i].Method != http.MethodHead { // which take none
			ids = append(ids, rows[i].ID)
		}
	}
	if len(ids) == 0 {
		return nil, nil
	}
	return l.auditLog.Steps(ctx, ids)
}

// showCall answers everything about one call.
func (l *logs) showCall(c *call) (answer, error) {
	id, err := uuid.Parse(c.Param("id"))
	if err != nil || len(c.Param("id")) != 36 {
		return answer{}, argus.Errorf(argus.CodeInvalidParameter, "An audit id has 36 characters, like 01976d3e-7c2a-7b1e-9f00-0123456789ab.")
	}
	detail, err := l.auditLog.Get(c.Context(), id)
	if err != nil {
		return answer{}, err
	}
	rows := []argus.Record{detail.Record}
	names := namesOf(c.Context(), l.credentials, rows, actorsOf(detail.Steps)...)
	reason := argus.OrNull(l.reasonsOf(c.Context(), rows)[detail.Record.BreakGlassID])
	if detail.Steps == nil {
		detail.Steps = []argus.Step{}
	}
	b := detail.Record.AppendJSON(make([]byte, 0, 2048))
	b = b[:len(b)-1] // its closing brace
	b = appendField(b, "steps", detail.Steps)
	b = appendField(b, "source", detail.Source)
	b = appendField(b, "actors", names)
	b = appendField(b, "break_glass_reason", reason)
	b = appendField(b, "sentence", detail.Record.Sentence(names))
	return answer{Status: http.StatusOK, JSON: append(b, "}\n"...)}, nil
}

func actorsOf(steps []argus.Step) []string {
	var ids []string
	for _, s := range steps {
		ids = append(ids, s.ActorID)
		if s.ImpersonatorID != nil {
			ids = append(ids, *s.ImpersonatorID)
		}
	}
	return ids
}

// appendField appends ,"name":value. Values here are plain and always have a JSON form.
func appendField(b []byte, name string, value any) []byte {
	b = append(b, ',')
	b = argus.AppendJSONString(b, name)
	b = append(b, ':')
	v, err := json.Marshal(value)
	if err != nil {
		return append(b, "null"...)
	}
	return append(b, v...)
}

// namesOf gives the names of those who appear in rows, as far as they are known: a name is a convenience and is
// not waited for long.
func namesOf(ctx context.Context, credentials *credential.Verifier, rows []argus.Record, more ...string) map[string]string {
	ids := slices.Clone(more)
	for i := range rows {
		ids = append(ids, rows[i].ActorID)
		if s := rows[i].ImpersonatorID; s != "" {
			ids = append(ids, s)
		}
	}
	slices.Sort(ids)
	names := map[string]string{}
	for id, p := range credentials.Persons(ctx, slices.Compact(ids)) {
		if p.Name != "" {
			names[id] = p.Name
		}
	}
	return names
}

// reasonsOf gives why the break-glass tokens that appear in rows were issued.
func (l *logs) reasonsOf(ctx context.Context, rows []argus.Record) map[uuid.UUID]string {
	var ids []uuid.UUID
	for i := range rows {
		if id := rows[i].BreakGlassID; id != uuid.Nil && !slices.Contains(ids, id) {
			ids = append(ids, id)
		}
	}
	reasons, err := credential.BreakGlassReasons(ctx, l.pool, ids)
	if err != nil {
		l.log.Warn("reasons of break-glass tokens not read", "cause", err)
	}
	if reasons == nil {
		reasons = map[uuid.UUID]string{}
	}
	return reasons
}

// facets answers which values occur in a window and how calls spread over time.
func (l *logs) facets(c *call) (answer, error) {
	q := c.Query()
	var req argus.FacetsRequest
	follows, err := boolOf(q, "follow")
	if err != nil {
		return answer{}, err
	}
	if req.Filter, _, err = l.followedFilterOf(c, follows, "fields", "step", "limit", "follow"); err != nil {
		return answer{}, err
	}
	if req.Fields, err = fieldsOf(q); err != nil {
		return answer{}, err
	}
	if req.Step, err = bucketOf(q); err != nil {
		return answer{}, err
	}
	if req.Limit, err = numberOf(q, "limit", 1000); err != nil {
		return answer{}, err
	}
	result, err := l.auditLog.Facets(c.Context(), req)
	if err != nil {
		return answer{}, err
	}
	type value struct {
		Value string  `json:"value"`
		Name  *string `json:"name"`
		Count int64   `json:"count"`
	}
	type bar struct {
		At           argus.JSONTime `json:"at"`
		Count        int64          `json:"count"`
		ClientErrors int64          `json:"client_errors"`
		Errors       int64          `json:"errors"`
		Interrupted  int64          `json:"interrupted"`
	}
	fields := map[argus.FilterName][]value{}
	for field, values := range result.Fields {
		names := l.facetNames(c.Context(), field, values)
		fields[field] = make([]value, len(values))
		for i, v := range values {
			fields[field][i] = value{v.Value, argus.OrNull(names[v.Value]), v.Count}
		}
	}
	histogram := make([]bar, len(result.Histogram))
	for i, h := range result.Histogram {
		histogram[i] = bar{argus.JSONTime(h.At), h.Count, h.ClientErrors, h.Errors, h.Interrupted}
	}
	return reply(struct {
		Since             argus.JSONTime               `json:"since"`
		Until             argus.JSONTime               `json:"until"`
		Total             int64                        `json:"total"`
		Fields            map[argus.FilterName][]value `json:"fields"`
		StepSeconds       float64                      `json:"step_seconds"`
		Histogram         []bar                        `json:"histogram"`
		Source            argus.Source                 `json:"source"`
		ReplicatedThrough argus.JSONTime               `json:"replicated_through"`
	}{argus.JSONTime(result.Since), argus.JSONTime(result.Until), result.Total, fields, result.Step.Seconds(), histogram,
		result.Source, argus.JSONTime(result.ReplicatedThrough)})
}

// facetNames gives names for the values of the fields that have them: people and tokens.
func (l *logs) facetNames(ctx context.Context, field argus.FilterName, values []argus.FacetValue) map[string]string {
	names := map[string]string{}
	switch field {
	case argus.FilterActor:
		var ids []string
		for _, v := range values {
			ids = append(ids, v.Value)
		}
		for id, p := range l.credentials.Persons(ctx, ids) {
			names[id] = p.Name
		}
	case argus.FilterPAT:
		var ids []uuid.UUID
		for _, v := range values {
			if id, err := uuid.Parse(v.Value); err == nil {
				ids = append(ids, id)
			}
		}
		found, err := credential.TokenNames(ctx, l.pool, ids)
		if err != nil {
			l.log.Warn("names of tokens not read", "cause", err)
		}
		for id, name := range found {
			names[id.String()] = name
		}
	}
	return names
}

// perfWindow is how far back performance is shown when since is not given.
const perfWindow = time.Hour

// perf answers how fast and how healthy calls were.
func (l *logs) perf(c *call) (answer, error) {
	q := c.Query()
	var req argus.PerfRequest
	var err error
	if req.Filter, err = l.filterOf(c, "group_by", "compare"); err != nil {
		return answer{}, err
	}
	if req.GroupBy, err = groupOf(q); err != nil {
		return answer{}, err
	}
	if req.Compare, err = boolOf(q, "compare"); err != nil {
		return answer{}, err
	}
	if req.GroupBy == "" {
		req.GroupBy = argus.GroupByRoute
	}
	c.sinceAnHour(&req.Filter)
	result, err := l.auditLog.Perf(c.Context(), req)
	if err != nil {
		return answer{}, err
	}
	if result.Rows == nil {
		result.Rows = []argus.PerfRow{}
	}
	return reply(struct {
		GroupBy           argus.GroupBy   `json:"group_by"`
		Since             argus.JSONTime  `json:"since"`
		Until             argus.JSONTime  `json:"until"`
		Rows              []argus.PerfRow `json:"rows"`
		Source            argus.Source    `json:"source"`
		ReplicatedThrough argus.JSONTime  `json:"replicated_through"`
	}{result.GroupBy, argus.JSONTime(result.Since), argus.JSONTime(result.Until), result.Rows, result.Source,
		argus.JSONTime(result.ReplicatedThrough)})
}

// sinceAnHour fills in since, an hour before until or now, whichever is earlier.
func (c *call) sinceAnHour(f *argus.Filter) {
	if !f.Since.IsZero() {
		return
	}
	end := f.Until
	if end.IsZero() || end.After(c.arrival) {
		end = c.arrival
	}
	f.Since = argus.Micros(end.Add(-perfWindow))
}

// series answers performance over time.
func (l *logs) series(c *call) (answer, error) {
	q := c.Query()
	var req argus.SeriesRequest
	var err error
	if req.Filter, err = l.filterOf(c, "group_by", "step", "compare"); err != nil {
		return answer{}, err
	}
	if req.Compare, err = boolOf(q, "compare"); err != nil {
		return answer{}, err
	}
	if req.GroupBy, err = groupOf(q); err != nil {
		return answer{}, err
	}
	if req.Step, err = bucketOf(q); err != nil {
		return answer{}, err
	}
	c.sinceAnHour(&req.Filter)
	result, err := l.auditLog.Series(c.Context(), req)
	if err != nil {
		return answer{}, err
	}
	type point struct {
		At              argus.JSONTime `json:"at"`
		Count           int64          `json:"count"`
		Interrupted     int64          `json:"interrupted"`
		RPM             float64        `json:"rpm"`
		ErrorRate       float64        `json:"error_rate"`
		ClientErrorRate float64        `json:"client_error_rate"`
		P50             *float64       `json:"p50_ms"`
		P95             *float64       `json:"p95_ms"`
		P99             *float64       `json:"p99_ms"`
		Max             *float64       `json:"max_ms"`
	}
	type line struct {
		Group     string         `json:"group"`
		Points    []point        `json:"points"`
		Before    []point        `json:"before"`
		StartedAt argus.JSONTime `json:"started_at"`
		StartedBy *string        `json:"started_by"`
	}
	shown := func(points []argus.SeriesPoint) []point {
		out := make([]point, len(points))
		for i, p := range points {
			out[i] = point{argus.JSONTime(p.At), p.Count, p.Interrupted, finite(p.RPM), finite(p.ErrorRate),
				finite(p.ClientErrorRate), numberOrNull(p.P50), numberOrNull(p.P95), numberOrNull(p.P99), numberOrNull(p.Max)}
		}
		return out
	}
	lines := make([]line, len(result.Series))
	for i, s := range result.Series {
		lines[i] = line{s.Group, shown(s.Points), shown(s.Before), argus.JSONTime(s.StartedAt), argus.OrNull(string(s.StartedBy))}
	}
	return reply(struct {
		GroupBy           *argus.GroupBy `json:"group_by"`
		Since             argus.JSONTime `json:"since"`
		Until             argus.JSONTime `json:"until"`
		StepSeconds       float64        `json:"step_seconds"`
		Series            []line         `json:"series"`
		Source            argus.Source   `json:"source"`
		ReplicatedThrough argus.JSONTime `json:"replicated_through"`
	}{argus.OrNull(result.GroupBy), argus.JSONTime(result.Since), argus.JSONTime(result.Until), result.Step.Seconds(), lines,
		result.Source, argus.JSONTime(result.ReplicatedThrough)})
}

// numberOrNull is null in JSON for what is no number: a quantile over nothing.
func numberOrNull(f float64) *float64 {
	if f != f || f-f != 0 {
		return nil
	}
	return &f
}

// finite is 0 for what is no number: a rate over nothing.
func finite(f float64) float64 {
	if f != f || f-f != 0 {
		return 0
	}
	return f
}
