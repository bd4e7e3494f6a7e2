package main

import (
	"strconv"
	"strings"
	"time"

	"github.com/clipperhouse/displaywidth"

	"github.com/useargus/argus"
)

// rowPrinter prints rows of the log one by one, in whichever format. On a terminal the widths of the columns are
// fixed before the first row, since the rows to come are not known.
type rowPrinter struct {
	f       *factory
	how     format
	columns []logColumn
	started bool
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
		p.columns = p.shortColumns(f.io.width())
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

// shortColumns are what a person reads first. width 0 is a pipe: nothing is cut there.
func (p *rowPrinter) shortColumns(width int) []logColumn {
	clock, layout := 27, argus.TimeFormat
	actor := 44
	switch {
	case width == 0:
	case width < 64:
		clock, layout, actor = 8, "15:04:05", 10
	case width < 110:
		clock, layout, actor = 14, "01-02 15:04:05", max(12, width/4)
	default:
		clock, layout, actor = 23, "2006-01-02 15:04:05.000", min(width/4, 44)
	}
	latency := logColumn{"LATENCY", 8, true, func(_ *rowPrinter, r *argus.Record) cell { return latencyCell(r) }}
	columns := []logColumn{
		{"TIME", clock, false, func(p *rowPrinter, r *argus.Record) cell { return txt(p.clock(r.OccurredAt, layout)) }},
		{"STATUS", 6, true, func(_ *rowPrinter, r *argus.Record) cell { return statusCell(r) }},
		latency,
		{"ACTOR", actor, false, (*rowPrinter).actor},
		{"ROUTE", 0, false, (*rowPrinter).what},
	}
	if width > 0 && width < 64 {
		columns = append(columns[:2], columns[3:]...)
	}
	return columns
}

func (p *rowPrinter) wideColumns() []logColumn {
	text := func(get func(r *argus.Record) string) func(*rowPrinter, *argus.Record) cell {
		return func(_ *rowPrinter, r *argus.Record) cell { return txt(get(r)) }
	}
	return []logColumn{
		{"TIME", 27, false, func(p *rowPrinter, r *argus.Record) cell {
			return txt(p.clock(r.OccurredAt, "2006-01-02 15:04:05.000000"))
		}},
		{"ID", 36, false, text(func(r *argus.Record) string { return r.ID.String() })},
		{"STATUS", 6, true, func(_ *rowPrinter, r *argus.Record) cell { return statusCell(r) }},
		{"LATENCY", 8, true, func(_ *rowPrinter, r *argus.Record) cell { return latencyCell(r) }},
		{"KIND", 13, false, text(func(r *argus.Record) string { return string(r.ActorKind) })},
		{"ACTOR", 36, false, (*rowPrinter).actor},
		{"CLIENT IP", 15, false, text(func(r *argus.Record) string { return r.ClientIP.String() })},
		{"SCOPE", 18, false, text(func(r *argus.Record) string { return r.Scope })},
		{"ROUTE", 44, false, (*rowPrinter).what},
		{"SERVICE", 12, false, text(func(r *argus.Record) string { return r.Service })},
		{"RELEASE", 12, false, text(func(r *argus.Record) string { return r.Release })},
		{"AGENT", 16, false, text(func(r *argus.Record) string { return r.Agent })},
		{"USER AGENT", 0, false, text(func(r *argus.Record) string { return r.UserAgent })},
	}
}

func (p *rowPrinter) clock(t time.Time, layout string) string {
	if !p.f.io.outTerminal {
		return t.UTC().Format(argus.TimeFormat)
	}
	if p.f.utc {
		return t.UTC().Format(layout)
	}
	return t.Local().Format(layout)
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

// actor shows who called, the name beside the id, and the impersonator behind them.
func (p *rowPrinter) actor(r *argus.Record) cell {
	who := nameAndID(p.names[r.ActorID], r.ActorID)
	switch {
	case r.ActorKind == argus.KindBreakGlass:
		return txt("break-glass " + who).in(red)
	case r.ImpersonatorID != "":
		return txt(nameAndID(p.names[r.ImpersonatorID], r.ImpersonatorID) + " as " + who).in(yellow)
	}
	return txt(who)
}

// what shows the route, the values of its parameters, and what else must not be missed.
func (p *rowPrinter) what(r *argus.Record) cell {
	var b strings.Builder
	b.WriteString(r.Route)
	for _, param := range r.PathParams {
		b.WriteString(" " + param.Name + "=" + param.Value)
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
		return p.f.csvRecord(argus.ColumnNames())
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
		return p.f.csvRecord(r.CSV())
	}
	cells := make([]cell, len(p.columns))
	for i, c := range p.columns {
		cells[i] = c.value(p, &r)
	}
	return p.line(cells)
}

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
			pending += max(0, c.width-size)
		}
		b.WriteString(strings.Repeat(" ", pending))
		b.WriteString(paint(p.f.io.outColor, cells[i].style, text))
		pending = len(columnGap)
		if !c.right {
			pending += max(0, c.width-size)
		}
		column += max(c.width, size) + len(columnGap)
	}
	b.WriteByte('\n')
	_, err := p.f.io.out.WriteString(b.String())
	return err
}

// end prints what stands after the rows and hands everything on.
func (p *rowPrinter) end() error {
	if err := p.begin(); err != nil {
		return err
	}
	return p.flush()
}

func (p *rowPrinter) flush() error {
	return p.f.io.out.Flush()
}
