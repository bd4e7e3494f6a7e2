package main

import (
	"fmt"
	"slices"
	"strings"
)

// figure is a line of docs/performance.md.
type figure struct {
	group                                                 string
	name, ours, before, reference, ratio, target, verdict string
	measured                                              string // date, commit, load
	machine                                               string
}

// document is docs/performance.md: what stands above the figures, the figures by group, and what stands behind them. Only the
// figures are generated.
type document struct {
	head, tail string
	figures    map[string][]figure
	machines   []string // figures name them by number, from 1
}

const (
	begin = "<!-- make bench writes what follows. -->\n"
	end   = "<!-- make bench wrote what stands above. -->\n"
	title = "| figure | ours | before | reference | ratio | target | | measured | on |\n| --- | --- | --- | --- | --- | --- | --- | --- | --- |\n"
)

// parse reads the page. A page without the marks has no figures yet.
func parse(text string) *document {
	d := &document{head: text, figures: map[string][]figure{}}
	head, rest, ok := strings.Cut(text, begin)
	if !ok {
		return d
	}
	d.head = head
	generated, tail, _ := strings.Cut(rest, end)
	d.tail = tail
	at := ""
	for line := range strings.Lines(generated) {
		line = strings.TrimSpace(line)
		if name, is := strings.CutPrefix(line, "### "); is {
			at = name
		}
		if machine, is := strings.CutPrefix(line, fmt.Sprintf("%d. ", len(d.machines)+1)); is {
			d.machines = append(d.machines, machine)
		}
		if strings.HasPrefix(line, "|") && !strings.HasPrefix(title, line) && !strings.HasPrefix(line, "| ---") {
			var c []string
			for cell := range strings.SplitSeq(strings.Trim(line, "|"), " |") {
				c = append(c, strings.TrimSpace(strings.ReplaceAll(cell, "&#124;", "|")))
			}
			c = append(c, make([]string, 9)...)
			d.figures[at] = append(d.figures[at], figure{group: at, name: c[0], ours: c[1], before: c[2], reference: c[3],
				ratio: c[4], target: c[5], verdict: c[6], measured: c[7], machine: c[8]})
		}
	}
	for _, of := range d.figures {
		for i := range of {
			var n int
			if _, err := fmt.Sscan(of[i].machine, &n); err == nil && n >= 1 && n <= len(d.machines) {
				of[i].machine = d.machines[n-1]
			}
		}
	}
	return d
}

// find is what was kept of a figure, nil when it is new.
func (d *document) find(f figure) *figure {
	of := d.figures[f.group]
	if i := slices.IndexFunc(of, func(k figure) bool { return k.name == f.name }); i >= 0 {
		return &of[i]
	}
	return nil
}

// take puts measured figures in the place of those before. After a whole run, figures that no benchmark has any more go,
// except those of groups that run only when asked for.
func (d *document) take(found []figure, whole bool) {
	if whole {
		for _, g := range groups {
			if !g.alone {
				d.figures[g.name] = slices.DeleteFunc(d.figures[g.name], func(k figure) bool {
					return !slices.ContainsFunc(found, func(f figure) bool { return f.group == g.name && f.name == k.name })
				})
			}
		}
	}
	for _, f := range found {
		if k := d.find(f); k != nil {
			f.before = k.ours + " (" + k.measured + ")"
			*k = f
			continue
		}
		d.figures[f.group] = append(d.figures[f.group], f)
	}
}

func (d *document) String() string {
	var b strings.Builder
	b.WriteString(d.head + begin)
	var machines []string
	on := func(machine string) string {
		if machine == "" {
			return ""
		}
		i := slices.Index(machines, machine)
		if i < 0 {
			i, machines = len(machines), append(machines, machine)
		}
		return fmt.Sprint(i + 1)
	}
	for _, g := range groups {
		if len(d.figures[g.name]) == 0 {
			continue
		}
		fmt.Fprintf(&b, "\n### %s\n\n%s\n\n%s", g.name, g.about, title)
		for _, f := range d.figures[g.name] {
			b.WriteString("|")
			for _, c := range []string{f.name, f.ours, f.before, f.reference, f.ratio, f.target, f.verdict, f.measured, on(f.machine)} {
				b.WriteString(" " + strings.ReplaceAll(c, "|", "&#124;") + " |")
			}
			b.WriteString("\n")
		}
	}
	if len(machines) > 0 {
		b.WriteString("\n### Machines\n\n")
		for i, m := range machines {
			fmt.Fprintf(&b, "%d. %s\n", i+1, m)
		}
	}
	b.WriteString("\n" + end + d.tail)
	return b.String()
}
