package main

import (
	"encoding/json"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/clipperhouse/displaywidth"
	"github.com/google/uuid"

	"github.com/useargus/argus"
)

// rowPrinter prints rows of the log one by one, in whichever format. On a terminal the widths of the columns are
// fixed before the first row, by the rows that are known then (plan): those to come are not.
type rowPrinter struct {
	f       *factory
	how     format
	columns []logColumn
	started bool
	follows bool              // rows of other days may come
	same    map[string]string // by id, what a call shares with another; nil: no such column
	chosen  []string          // the columns of --columns; nil: none were chosen
	names   map[string]string // of actors, by id
	reasons map[string]string // of break-glass tokens, by id
}

// logColumn is a column of the log. Width 0 takes what is left, or as much as it needs.
type logColumn struct {
	head  string
	width int
	right bool
	value func(p *rowPrinter, r *argus.Record) cell
}

func newRowPrinter(f *factory, how format) *rowPrinter {
	p := &rowPrinter{f: f, how: how, names: map[string]string{}, reasons: map[string]string{}}
	switch how {
	case wide:
		p.columns = p.wideColumns()
	case short:
		p.columns = p.shortColumns(nil)
	}
	return p
}

// learn takes the names that came with a page.
func (p *rowPrinter) learn(pg *page) {
	for id, name := range pg.Actors {
		p.names[id] = name
	}
	for id, reason := range pg.BreakGlass {
		p.reasons[id] = reason
	}
}

// marks adds a column of what each call shares with another, by id.
func (p *rowPrinter) marks(same map[string]string) {
	p.same = same
	if p.how == wide {
		p.columns = p.wideColumns()
	} else {
		p.columns = p.shortColumns(nil)
	}
}

// sameColumn is that column, after the time.
func (p *rowPrinter) sameColumn() logColumn {
	c := logColumn{head: "SAME", width: len("SAME"), value: func(p *rowPrinter, r *argus.Record) cell {
		if p.same[r.ID.String()] == "this" {
			return txt("this").in(bold)
		}
		return txt(p.same[r.ID.String()])
	}}
	for _, mark := range p.same {
		c.width = max(c.width, len(mark))
	}
	return c
}

// plan fits the columns to the first rows, before any is printed. Rows that come later fit as well as they do.
func (p *rowPrinter) plan(raws []json.RawMessage) error {
	if p.chosen != nil && !p.started {
		return p.planChosen(raws)
	}
	if p.started || p.how != short || p.f.io.width() == 0 {
		return nil
	}
	rows := make([]argus.Record, len(raws))
	for i, raw := range raws {
		if err := unmarshal(raw, &rows[i]); err != nil {
			return badAnswer(err)
		}
	}
	p.columns = p.shortColumns(rows)
	return nil
}

const (
	leastActor = 8   // of a name, where a tenant needs the room
	mostActor  = 12  // of a name, where an id behind the tenant does
	fromWidth  = 120 // a terminal of this width shows where a call came from
)

// shortColumns are what a person reads first. A pipe has no width: nothing is cut there. On a terminal the route with its
// tenant comes first, then the actor, then the address. What is left holds the error and the reason.
func (p *rowPrinter) shortColumns(rows []argus.Record) []logColumn {
	width := p.f.io.width()
	clock := func(layout string) func(*rowPrinter, *argus.Record) cell {
		return func(p *rowPrinter, r *argus.Record) cell { return txt(p.clock(r.OccurredAt, layout)) }
	}
	status := logColumn{head: "STATUS", width: 6, right: true, value: func(_ *rowPrinter, r *argus.Record) cell { return statusCell(r) }}
	latency := logColumn{head: "LATENCY", width: 8, right: true, value: func(_ *rowPrinter, r *argus.Record) cell { return latencyCell(r) }}
	actor := logColumn{head: "ACTOR", width: 44, value: (*rowPrinter).actor}
	route := logColumn{head: "ROUTE", value: (*rowPrinter).what}
	if width == 0 {
		columns := []logColumn{{head: "TIME", width: 27, value: clock(argus.TimeFormat)}, status, latency, actor, route}
		if p.same != nil {
			columns = slices.Insert(columns, 1, p.sameColumn())
		}
		return columns
	}
	head, layout := p.timeColumn(width, rows)
	time := logColumn{head: head, width: max(len(layout), displaywidth.String(head)), value: clock(layout)}
	latency.width = len(latency.head)
	columns := []logColumn{time, status, latency}
	if width < 64 || p.same != nil && width < 100 {
		columns = columns[:2]
	}
	if p.same != nil {
		columns = slices.Insert(columns, 1, p.sameColumn())
	}
	// 37 columns hold POST /v1/tenants/UTD_7ELEVEN_001/arm.
	rest, places, actors, addresses := width-len(columnGap), 37, 20, 15
	for _, c := range columns {
		rest -= c.width + len(columnGap)
	}
	if len(rows) > 0 {
		places, actors, addresses = 0, len(actor.head), len("FROM")
		for i := range rows {
			actors = max(actors, displaywidth.String(p.actor(&rows[i]).shown()))
			addresses = max(addresses, len(rows[i].ClientIP.String()))
		}
		room := rest
		if width >= fromWidth {
			room -= min(addresses, 15) + len(columnGap)
		}
		for i := range rows {
			places = max(places, min(p.need(&rows[i], room-mostActor), room-leastActor))
		}
	}
	from := logColumn{head: "FROM", value: func(_ *rowPrinter, r *argus.Record) cell { return txt(r.ClientIP.String()) }}
	if width >= fromWidth {
		from.width = min(addresses, max(15, rest-places-min(actors, 20)-len(columnGap)))
		rest -= from.width + len(columnGap)
	}
	most := 20
	if width >= 140 {
		most = width / 4
	}
	actor.width = max(leastActor, min(rest-places, actors, most))
	columns = append(columns, actor)
	if width >= fromWidth {
		columns = append(columns, from)
	}
	return append(columns, route)
}

// timeColumn is the head of the times and their layout: with the date unless all rows are of today.
func (p *rowPrinter) timeColumn(width int, rows []argus.Record) (head, layout string) {
	now := p.f.shownTime(p.f.now())
	today, years := len(rows) > 0 && !p.follows, map[int]bool{}
	for i := range rows {
		at := p.f.shownTime(rows[i].OccurredAt)
		today = today && at.Format(time.DateOnly) == now.Format(time.DateOnly)
		years[at.Year()] = true
	}
	switch {
	case width >= 160:
		layout = "2006-01-02 15:04:05.000"
	case width >= 110 || len(years) > 1 && width >= 64:
		layout = time.DateTime
	case today:
		layout = time.TimeOnly
	case width < 64:
		layout = "01-02 15:04"
	default:
		layout = "01-02 15:04:05"
	}
	return "TIME (" + p.f.zone() + ")", layout
}

func (p *rowPrinter) wideColumns() []logColumn {
	text := func(get func(r *argus.Record) string) func(*rowPrinter, *argus.Record) cell {
		return func(_ *rowPrinter, r *argus.Record) cell { return txt(get(r)) }
	}
	head := "TIME"
	if p.f.io.outTerminal {
		head += " (" + p.f.zone() + ")"
	}
	columns := []logColumn{
		{head: head, width: 27, value: func(p *rowPrinter, r *argus.Record) cell {
			return txt(p.clock(r.OccurredAt, "2006-01-02 15:04:05.000000"))
		}},
		{head: "ID", width: 36, value: text(func(r *argus.Record) string { return r.ID.String() })},
		{head: "STATUS", width: 6, right: true, value: func(_ *rowPrinter, r *argus.Record) cell { return statusCell(r) }},
		{head: "LATENCY", width: 8, right: true, value: func(_ *rowPrinter, r *argus.Record) cell { return latencyCell(r) }},
		{head: "KIND", width: 13, value: text(func(r *argus.Record) string { return string(r.ActorKind) })},
		{head: "ACTOR", width: 36, value: (*rowPrinter).actor},
		{head: "CLIENT IP", width: 15, value: text(func(r *argus.Record) string { return r.ClientIP.String() })},
		{head: "SCOPE", width: 18, value: text(func(r *argus.Record) string { return r.Scope })},
		{head: "ROUTE", width: 44, value: (*rowPrinter).what},
		{head: "SERVICE", width: 12, value: text(func(r *argus.Record) string { return r.Service })},
		{head: "RELEASE", width: 12, value: text(func(r *argus.Record) string { return r.Release })},
		{head: "AGENT", width: 16, value: text(func(r *argus.Record) string { return r.Agent })},
		{head: "USER AGENT", width: 0, value: text(func(r *argus.Record) string { return r.UserAgent })},
	}
	if p.same != nil {
		columns = slices.Insert(columns, 1, p.sameColumn())
	}
	return columns
}

func (p *rowPrinter) clock(t time.Time, layout string) string {
	if !p.f.io.outTerminal {
		return t.UTC().Format(argus.TimeFormat)
	}
	return p.f.shownTime(t).Format(layout)
}

func statusCell(r *argus.Record) cell {
	if r.Outcome == argus.Interrupted {
		return txt("-").in(red)
	}
	return txt(strconv.Itoa(int(r.Status))).in(statusStyle(r.Status))
}

func latencyCell(r *argus.Record) cell {
	if r.Outcome == argus.Interrupted {
		return txt("-").in(red)
	}
	ms := float64(r.LatencyUS) / 1000
	return txt(formatMS(ms)).in(latencyStyle(ms))
}

// actor shows who called, and the impersonator behind them.
func (p *rowPrinter) actor(r *argus.Record) cell {
	who := p.who(r.ActorID)
	switch {
	case r.ActorKind == argus.KindBreakGlass && p.how == short && p.f.io.width() > 0: // the person is cut last
		return txt(who + " (break-glass)").in(red)
	case r.ActorKind == argus.KindBreakGlass:
		return txt("break-glass " + who).in(red)
	case r.ImpersonatorID != "":
		return txt(p.who(r.ImpersonatorID) + " as " + who).in(yellow)
	}
	return txt(who)
}

func (p *rowPrinter) who(id string) string {
	return p.f.who(id, p.names, p.how)
}

// place is the route with the values of its parameters in their places: POST /v1/tenants/UTD_7ELEVEN_001/arm. It has only
// the start of a UUID, except on a wide terminal.
func (p *rowPrinter) place(r *argus.Record) string {
	brief := p.f.io.width() < 160
	method, path, _ := strings.Cut(r.Route, " ")
	segments := strings.Split(path, "/")
	used := 0
	for i, s := range segments {
		if s == "" || s[0] != ':' && s[0] != '*' {
			continue
		}
		at := slices.IndexFunc(r.PathParams, func(v argus.PathParam) bool { return v.Name == s[1:] })
		if at >= 0 && r.PathParams[at].Value != "" {
			value := r.PathParams[at].Value
			if _, err := uuid.Parse(value); err == nil && brief {
				value = value[:8] + "…"
			}
			segments[i] = strings.NewReplacer("/", "%2F", " ", "%20").Replace(value)
			used++
		}
	}
	if used < len(r.PathParams) {
		return r.Route + params(r)
	}
	return method + " " + strings.Join(segments, "/")
}

// need is how many columns a terminal takes for a call's place, and for the sign that there is more. A place that is longer
// than most takes what shows the last value in it that has a meaning: the tenant is seen, and the ids behind it are not.
func (p *rowPrinter) need(r *argus.Record, most int) int {
	whole, place := p.what(r).shown(), harmless(p.place(r))
	if whole != place {
		place += " …"
	}
	if w := displaywidth.String(place); w <= most {
		return w
	}
	end := 0
	for _, v := range r.PathParams {
		if at := strings.LastIndex(place, harmless(v.Value)); at >= 0 && uuid.Validate(v.Value) != nil {
			end = max(end, at+len(harmless(v.Value)))
		}
	}
	return max(most, displaywidth.String(place[:end])+1)
}

// params are the values of a route's parameters, each behind a blank.
func params(r *argus.Record) string {
	var b strings.Builder
	for _, param := range r.PathParams {
		b.WriteString(" " + param.Name + "=" + param.Value)
	}
	return b.String()
}

// what shows the route, the values of its parameters, and what else must not be missed.
func (p *rowPrinter) what(r *argus.Record) cell {
	var b strings.Builder
	if p.how == wide || p.f.io.width() == 0 {
		b.WriteString(r.Route + params(r))
	} else {
		b.WriteString(p.place(r))
	}
	if r.Outcome == argus.Interrupted {
		b.WriteString(" interrupted")
	}
	if r.ActorKind == argus.KindBreakGlass {
		if reason := p.reasons[r.BreakGlassID.String()]; reason != "" {
			b.WriteString(" break-glass reason: " + reason)
		}
	}
	if r.ErrorCode != "" {
		b.WriteString(" " + r.ErrorCode)
	}
	if r.Reason != "" {
		b.WriteString(" reason: " + r.Reason)
	}
	return txt(b.String())
}

// begin prints what stands above the rows, once: the CSV header always, the table's only on a terminal. A log in
// a pipe has none, so that each of its lines is a call.
func (p *rowPrinter) begin() error {
	if p.started {
		return nil
	}
	p.started = true
	switch {
	case p.how == asCSV:
		heads := argus.ColumnNames()
		if p.chosen != nil {
			heads = p.chosen
		}
		if p.same != nil {
			heads = append(slices.Clone(heads), "same")
		}
		return p.f.csvRecord(heads)
	case p.how != asJSON && p.f.io.outTerminal:
		heads := make([]cell, len(p.columns))
		for i, c := range p.columns {
			heads[i] = txt(c.head).in(bold)
		}
		return p.line(heads)
	}
	return nil
}

// print prints one row.
func (p *rowPrinter) print(raw []byte) error {
	if p.how == asJSON {
		return p.f.jsonLine(raw)
	}
	if err := p.begin(); err != nil {
		return err
	}
	var r argus.Record
	if err := unmarshal(raw, &r); err != nil {
		return badAnswer(err)
	}
	if p.how == asCSV {
		values := r.CSV()
		if p.chosen != nil {
			beside, err := p.beside(&r, raw)
			if err != nil {
				return err
			}
			values = r.CSVOf(p.chosen, beside)
		}
		if p.same != nil {
			values = append(values, p.same[r.ID.String()])
		}
		return p.f.csvRecord(values)
	}
	if p.chosen != nil {
		cells, err := p.chosenCells(&r, raw)
		if err != nil {
			return err
		}
		return p.line(cells)
	}
	cells := make([]cell, len(p.columns))
	for i, c := range p.columns {
		cells[i] = c.value(p, &r)
	}
	return p.line(cells)
}

// line prints cells. On a terminal each is cut to its column, so that the next one starts where its head does.
func (p *rowPrinter) line(cells []cell) error {
	terminal := p.f.io.width()
	if p.how == wide {
		terminal = 0
	}
	var b strings.Builder
	column, pending := 0, 0
	for i, c := range p.columns {
		text := cells[i].shown()
		last := i == len(p.columns)-1
		room := c.width
		if last && terminal > 0 {
			room = max(terminal-column, 8)
		}
		if terminal > 0 {
			text = displaywidth.TruncateString(text, room, "…")
		}
		size := displaywidth.String(text)
		if c.right {
			pending += max(0, room-size)
		}
		b.WriteString(strings.Repeat(" ", pending))
		b.WriteString(paint(p.f.io.outColor, cells[i].style, text))
		pending = len(columnGap)
		if !c.right {
			pending += max(0, room-size)
		}
		column += max(room, size) + len(columnGap)
	}
	b.WriteByte('\n')
	_, err := p.f.io.out.WriteString(b.String())
	return err
}

// end hands everything on. CSV has its header without rows, too.
func (p *rowPrinter) end() error {
	if p.how == asCSV {
		if err := p.begin(); err != nil {
			return err
		}
	}
	return p.flush()
}

func (p *rowPrinter) flush() error {
	return p.f.io.out.Flush()
}
