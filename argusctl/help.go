package main

import (
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

// help prints a command's help: what it is for, its usage, examples, and flags.
func (f *factory) help(cmd *cobra.Command, _ []string) {
	var b strings.Builder
	head := func(title string) { b.WriteString("\n" + f.io.outStyle(bold, title) + "\n") }
	text := cmd.Long
	if text == "" {
		text = cmd.Short + "."
	}
	b.WriteString(text + "\n")
	head("Usage")
	if cmd.HasAvailableSubCommands() {
		b.WriteString("  " + cmd.CommandPath() + " <command> [flags]\n")
	} else {
		b.WriteString("  " + cmd.UseLine() + "\n")
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
				b.WriteString("  " + c.Name() + strings.Repeat(" ", max(1, 12-len(c.Name()))) + c.Short + "\n")
			}
		}
	}
	if cmd.Example != "" {
		head("Examples")
		b.WriteString(cmd.Example + "\n")
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
			b.WriteString(set.FlagUsagesWrapped(f.io.width()))
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
