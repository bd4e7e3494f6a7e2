package main

import (
	"strconv"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// flagGroup is the annotation by which --help puts a flag under a heading of its own; negations are said of in
// that heading instead of being listed.
const (
	flagGroup    = "group"
	groupFilters = "Filters (repeat one = or, several = and; --not-… negates each)"
	groupHidden  = "-" // left out of --help; completion and the reference have it
)

func setGroup(flags *pflag.FlagSet, group string, names ...string) {
	for _, name := range names {
		_ = flags.SetAnnotation(name, flagGroup, []string{group})
	}
}

// widestHelp is how wide help grows: longer lines are hard to read.
const widestHelp = 120

// help prints a command's help as wide as the terminal: its usage, what it is for, commands, examples, and flags.
func (f *factory) help(cmd *cobra.Command, _ []string) {
	width := f.io.width()
	if width == 0 {
		width = 80 // of a pipe: people read help in pagers
		if n, err := strconv.Atoi(f.io.columns); err == nil && n >= 40 {
			width = n
		}
	}
	width = min(width, widestHelp)
	var b strings.Builder
	head := func(title string) {
		if b.Len() > 0 {
			b.WriteByte('\n')
		}
		b.WriteString(f.io.outStyle(bold, title) + "\n")
	}
	head("Usage")
	usage := cmd.UseLine()
	if cmd.HasAvailableSubCommands() {
		usage = cmd.CommandPath() + " <command> [flags]"
	}
	hang(&b, "  ", usage, width)
	text := cmd.Long
	if text == "" {
		text = cmd.Short + "."
	}
	for _, paragraph := range strings.Split(text, "\n\n") {
		b.WriteByte('\n')
		if strings.HasPrefix(paragraph, " ") || strings.Contains(paragraph, "\n ") { // a table of its own
			b.WriteString(paragraph + "\n")
			continue
		}
		hang(&b, "", strings.ReplaceAll(paragraph, "\n", " "), width)
	}
	groups := cmd.Groups()
	if len(groups) == 0 {
		groups = []*cobra.Group{{Title: "Commands"}}
	}
	for _, g := range groups {
		first := true
		for _, c := range cmd.Commands() {
			if c.IsAvailableCommand() && c.GroupID == g.ID {
				if first {
					head(g.Title)
				}
				first = false
				hang(&b, "  "+c.Name()+strings.Repeat(" ", max(1, 12-len(c.Name()))), c.Short, width)
			}
		}
	}
	if cmd.Example != "" {
		head("Examples")
		for line := range strings.Lines(cmd.Example) {
			example(&b, strings.TrimSpace(line), width)
		}
	}
	var order []string
	sets := map[string]*pflag.FlagSet{}
	cmd.LocalFlags().VisitAll(func(flag *pflag.Flag) {
		group := "Flags"
		if a := flag.Annotations[flagGroup]; len(a) > 0 {
			group = a[0]
		}
		if cmd.PersistentFlags().Lookup(flag.Name) != nil {
			return
		}
		roundDefault(flag)
		if sets[group] == nil {
			sets[group] = pflag.NewFlagSet("", pflag.ContinueOnError)
			sets[group].SortFlags = false
			order = append(order, group)
		}
		sets[group].AddFlag(flag)
	})
	usages := func(title string, set *pflag.FlagSet) {
		if set != nil && set.HasAvailableFlags() {
			head(title)
			b.WriteString(set.FlagUsagesWrapped(width))
		}
	}
	usages("Flags", sets["Flags"])
	for _, group := range order {
		if group != "Flags" && group != groupHidden {
			usages(group, sets[group])
		}
	}
	if cmd.HasParent() {
		usages("Everywhere", cmd.InheritedFlags())
	} else {
		usages("Everywhere", cmd.PersistentFlags())
		b.WriteString("\n`argusctl <command> --help` says more of each.\n")
	}
	_, _ = f.io.out.WriteString(b.String()) // an error stays with the writer and shows at its flush
}

// roundDefault has a default of minutes say 10m, and not 10m0s.
func roundDefault(flag *pflag.Flag) {
	if flag.Value.Type() != "duration" {
		return
	}
	for _, none := range []string{"m0s", "h0m"} {
		if strings.HasSuffix(flag.DefValue, none) {
			flag.DefValue = flag.DefValue[:len(flag.DefValue)-2]
		}
	}
}

// hang writes a text behind a head, and its further lines below its first.
func hang(b *strings.Builder, head, text string, width int) {
	for i, line := range wrapped(text, width-len(head)) {
		if i > 0 {
			head = strings.Repeat(" ", len(head))
		}
		b.WriteString(head + line + "\n")
	}
}

// example writes a command line. A shell takes it as it stands: a long one goes on behind a backslash, never inside
// quotes or parentheses.
func example(b *strings.Builder, line string, width int) {
	const first, further = "  ", "      "
	indent := first
	for len(indent)+len(line) > width {
		at, quote, depth := -1, rune(0), 0
		for i, r := range line {
			if i+len(indent)+2 > width {
				break
			}
			switch {
			case quote != 0:
				if r == quote {
					quote = 0
				}
			case r == '\'' || r == '"':
				quote = r
			case r == '(':
				depth++
			case r == ')':
				depth--
			case r == ' ' && depth == 0 && strings.ContainsRune("-|$'", rune(line[i+1])):
				word := line[strings.LastIndexByte(line[:i], ' ')+1 : i]
				if line[i+1] == '-' || line[i+1] == '|' || !strings.HasPrefix(word, "-") { // not between a flag and its value
					at = i
				}
			}
		}
		if at < 0 {
			break
		}
		b.WriteString(indent + line[:at] + " \\\n")
		line, indent = line[at+1:], further
	}
	b.WriteString(indent + line + "\n")
}
