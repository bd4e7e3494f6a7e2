package main

import (
	"strings"

	"github.com/clipperhouse/displaywidth"

	"github.com/useargus/argus"
)

// column is one column of a table.
type column struct {
	head  string // "LAST ACTIVITY"; the CSV header is last_activity unless key says otherwise
	key   string
	right bool // numbers
	flex  bool // may be cut down to min to fit a terminal
	min   int
	spare bool // left out on a terminal that is too narrow, the last spare column first
	wide  bool // in --output wide and csv only
}

// cell is one value: as shown, and raw for CSV when that differs.
type cell struct {
	text  string
	raw   string
	zone  string // of a moment on a terminal
	none  bool   // no value: "-" in tables, nothing in CSV
	style style
}

// txt is a cell of a text; an empty one is no value.
func txt(s string) cell { return cell{text: s, raw: s, none: s == ""} }

// val is a cell that is shown one way and written to CSV another.
func val(shown, raw string) cell { return cell{text: shown, raw: raw, none: raw == ""} }

func (c cell) in(st style) cell { c.style = st; return c }

func (c cell) shown() string {
	if c.none {
		return "-"
	}
	return harmless(c.text)
}

func (c column) csvKey() string {
	if c.key != "" {
		return c.key
	}
	return strings.ReplaceAll(strings.ToLower(c.head), " ", "_")
}

// table is columns and rows; each row has a cell a column.
type table struct {
	columns []column
	rows    [][]cell
}

const columnGap = "  "

// widestPad is how wide a column grows, in terminal columns, where nothing is cut. That is in a pipe, with --output wide,
// and on a terminal too narrow for the table. A longer value moves the rest of its own row and no other.
const widestPad = 80

// print writes the table to standard output in the given format (short, wide or CSV).
func (t *table) print(f *factory, how format) error {
	if how == asCSV {
		return t.printCSV(f)
	}
	for _, line := range t.lines(f.io.width(), how, f.io.outColor) {
		if _, err := f.io.out.WriteString(line + "\n"); err != nil {
			return err
		}
	}
	return nil
}

func (t *table) printCSV(f *factory) error {
	values := make([]string, len(t.columns))
	for i, c := range t.columns {
		values[i] = c.csvKey()
	}
	if err := f.csvRecord(values); err != nil {
		return err
	}
	for _, row := range t.rows {
		for i, c := range row {
			if values[i] = c.raw; !t.columns[i].right {
				values[i] = argus.CSVText(c.raw)
			}
		}
		if err := f.csvRecord(values); err != nil {
			return err
		}
	}
	return nil
}

// lines lays the table out for a width (0: as much as it takes).
func (t *table) lines(width int, how format, color bool) []string {
	if how == wide {
		width = 0
	}
	shown := make([]bool, len(t.columns))
	size := make([]int, len(t.columns))
	padded := make([]int, len(t.columns)) // size without the values that are wider than widestPad
	heads := t.heads()
	for i, c := range t.columns {
		shown[i] = !c.wide || how == wide
		size[i] = displaywidth.String(heads[i])
		padded[i] = size[i]
	}
	texts := make([][]string, len(t.rows))
	for r, row := range t.rows {
		texts[r] = make([]string, len(row))
		for i, c := range row {
			texts[r][i] = c.shown()
			w := displaywidth.String(texts[r][i])
			size[i] = max(size[i], w)
			if w <= widestPad {
				padded[i] = max(padded[i], w)
			}
		}
	}
	cut := width > 0
	if !cut {
		size = padded
	} else if !t.fit(width, size, shown) {
		for i, c := range t.columns {
			if !c.flex {
				size[i] = padded[i]
			}
		}
	}
	lines := make([]string, 0, len(t.rows)+1)
	lines = append(lines, t.line(heads, nil, size, shown, cut, color))
	for r, row := range t.rows {
		lines = append(lines, t.line(texts[r], row, size, shown, cut, color))
	}
	return lines
}

// heads are the heads of the columns, those of times with their zone.
func (t *table) heads() []string {
	heads := make([]string, len(t.columns))
	for i, c := range t.columns {
		heads[i] = c.head
		for _, row := range t.rows {
			if row[i].zone != "" {
				heads[i] += " (" + row[i].zone + ")"
				break
			}
		}
	}
	return heads
}

// fit cuts the widest flexible column until the line fits, then leaves out spare columns. It reports whether the
// line fits then; else the terminal will wrap it.
func (t *table) fit(width int, size []int, shown []bool) bool {
	full := append([]int(nil), size...)
	for {
		total := -len(columnGap)
		for i := range size {
			if shown[i] {
				total += size[i] + len(columnGap)
			}
		}
		excess := total - width
		if excess <= 0 {
			return true
		}
		widest := -1
		for i, c := range t.columns {
			if shown[i] && c.flex && size[i] > max(c.min, 4) && (widest < 0 || size[i] > size[widest]) {
				widest = i
			}
		}
		if widest >= 0 {
			size[widest]--
			continue
		}
		spare := -1
		for i, c := range t.columns {
			if shown[i] && c.spare {
				spare = i
			}
		}
		if spare < 0 {
			return false
		}
		shown[spare] = false
		copy(size, full)
	}
}

// line lays out one row. Values of flexible columns are cut to their column when cut is set; no others are.
func (t *table) line(texts []string, cells []cell, size []int, shown []bool, cut, color bool) string {
	var b strings.Builder
	pending := 0
	first := true
	for i, c := range t.columns {
		if !shown[i] {
			continue
		}
		if !first {
			pending += len(columnGap)
		}
		first = false
		text := texts[i]
		if cut && c.flex {
			text = displaywidth.TruncateString(text, size[i], "…")
		}
		pad := max(0, size[i]-displaywidth.String(text))
		st := bold
		if cells != nil {
			st = cells[i].style
		}
		if c.right {
			pending += pad
			pad = 0
		}
		if text != "" { // no blanks at the end of a line
			b.WriteString(strings.Repeat(" ", pending))
			b.WriteString(paint(color, st, text))
			pending = 0
		}
		pending += pad
	}
	return b.String()
}

// wrapped breaks a text at its blanks into lines of a width. A word that is longer has a line of its own. A width below 20
// breaks nothing.
func wrapped(text string, width int) []string {
	if width < 20 || displaywidth.String(text) <= width {
		return []string{text}
	}
	var lines []string
	line := ""
	for _, word := range strings.Split(text, " ") {
		if line != "" && displaywidth.String(line)+1+displaywidth.String(word) > width {
			lines, line = append(lines, line), word
			continue
		}
		if line != "" || len(lines) > 0 && word == "" {
			line += " "
		}
		line += word
	}
	return append(lines, line)
}

// fields prints label and value pairs, one a line. Empty values are shown as "-".
func (f *factory) fields(pairs ...cell) error {
	width := 0
	for i := 0; i < len(pairs); i += 2 {
		width = max(width, displaywidth.String(pairs[i].text))
	}
	for i := 0; i+1 < len(pairs); i += 2 {
		label, value := pairs[i].text, pairs[i+1].shown()
		if zone := pairs[i+1].zone; zone != "" {
			value += " " + zone
		}
		pad := strings.Repeat(" ", width-displaywidth.String(label))
		for n, part := range wrapped(value, f.io.width()-width-len(columnGap)) {
			if n > 0 {
				label, pad = "", strings.Repeat(" ", width)
			}
			line := f.io.outStyle(dim, label) + pad + columnGap + paint(f.io.outColor, pairs[i+1].style, part) + "\n"
			if _, err := f.io.out.WriteString(line); err != nil {
				return err
			}
		}
	}
	return nil
}
