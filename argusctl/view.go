package main

import (
	"context"
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/useargus/argus"
)

// view is an object of GET /v1/views: a name and a filter of the log that a team shares.
type view struct {
	ID      string    `json:"id"`
	Name    string    `json:"name"`
	Filter  string    `json:"filter"`
	SavedBy string    `json:"saved_by"`
	SavedAt time.Time `json:"saved_at"`
	AuditID string    `json:"audit_id"`
	Problem string    `json:"problem"`
}

func newCmdView(f *factory) *cobra.Command {
	return newCmdNoun("view", "Saved views: filters of the log that a team shares",
		"  argusctl view ls\n  argusctl view save \"Refused today\" --status 403 --since 24h\n  argusctl logs tail --view \"Refused today\"",
		newCmdViewLs(f), newCmdViewShow(f), newCmdViewSave(f), newCmdViewRename(f), newCmdViewRm(f))
}

func newCmdViewLs(f *factory) *cobra.Command {
	return &cobra.Command{
		Use:     "ls",
		Aliases: []string{"list"},
		Short:   "List the saved views, and what each asks",
		Long: `Lists the saved views by name. The filter is shown as the flags that mean the same. These are the views of the console,
and logs, perf and export take one with --view.`,
		Example: "  argusctl view ls",
		Args:    atMost(0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			return f.whileRead(cmd.Context(), func(ctx context.Context) error { return viewLsRun(ctx, f) })
		},
	}
}

func viewLsRun(ctx context.Context, f *factory) error {
	views, names, err := f.views(ctx)
	if err != nil {
		return err
	}
	how, _ := f.format()
	t := &table{columns: []column{{head: "NAME", flex: true, min: 16}, {head: "FILTER", flex: true, min: 24}, {head: "SAVED BY", flex: true, min: 12, spare: true},
		{head: "SAVED AT", spare: true}, {head: "ID", wide: true}, {head: "PROBLEM", wide: true}}}
	for _, it := range views {
		if how == asJSON {
			if err := f.jsonLine(it.raw); err != nil {
				return err
			}
			continue
		}
		v := it.value
		filter := cell{text: v.flags(), raw: v.Filter}
		if v.Problem != "" && how == short {
			filter = cell{text: v.Problem, raw: v.Filter, style: red}
		}
		t.rows = append(t.rows, []cell{txt(v.Name), filter, val(f.who(v.SavedBy, names, how), v.SavedBy), f.timeCell(v.SavedAt), txt(v.ID), txt(v.Problem)})
	}
	if how == asJSON {
		return nil
	}
	if len(views) == 0 && how != asCSV {
		f.notice("No view is saved yet. Save one with: argusctl view save NAME --status 5xx --since 24h")
		return nil
	}
	return t.print(f, how)
}

func newCmdViewShow(f *factory) *cobra.Command {
	return &cobra.Command{
		Use:               "show <view>",
		Short:             "Show a saved view",
		Example:           "  argusctl view show \"Refused today\"",
		Args:              exactly("view"),
		ValidArgsFunction: f.completeViews,
		RunE: func(cmd *cobra.Command, args []string) error {
			return f.whileRead(cmd.Context(), func(ctx context.Context) error { return viewShowRun(ctx, f, args[0]) })
		},
	}
}

func viewShowRun(ctx context.Context, f *factory, name string) error {
	it, names, err := f.view(ctx, name)
	if err != nil {
		return err
	}
	switch how, _ := f.format(); how {
	case asJSON:
		return f.jsonLine(it.raw)
	case asCSV:
		return usageErrorf("CSV is not available for a single view. Use `argusctl view ls -o csv`, or --json.")
	}
	v := it.value
	pairs := []cell{txt("view"), txt(v.Name).in(bold), txt("filter"), txt(v.flags()), txt("saved by"), txt(f.who(v.SavedBy, names, short)),
		txt("saved at"), f.timeCell(v.SavedAt), txt("saved in call"), txt(v.AuditID), txt("id"), txt(v.ID)}
	if v.Problem != "" {
		pairs = append(pairs, txt("problem"), txt(v.Problem).in(red))
	}
	return f.fields(pairs...)
}

func newCmdViewSave(f *factory) *cobra.Command {
	o := &mutationOptions{}
	var replace bool
	cmd := &cobra.Command{
		Use:   "save <view>",
		Short: "Save a filter as a view for the team",
		Long: `Saves the filter that the flags say. All who read the log may use the view, here and in the console. "me" is then
the person who uses it. A length of time like 24h stays one, while yesterday or 10:00 is kept as the moment that it is now. --release may name a release that is still to come.

A name is there once, in any case of its letters. --replace gives the view of this name the new filter.`,
		Example: `  argusctl view save "Refused today" --status 403 --since 24h
  argusctl view save "My changes" --actor me --not-method GET --replace`,
		Args:              exactly("view"),
		ValidArgsFunction: f.completeViews,
	}
	filter := addFilterFlags(f, cmd)
	cmd.Flags().BoolVar(&replace, "replace", false, "change the view of this name, if there is one")
	o.addFlags(cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		query, err := filter.query(cmd.Context())
		if err != nil {
			return err
		}
		if len(query) == 0 {
			return usageErrorf("Say what the view asks, like --status 5xx --since 24h.")
		}
		change := wantedView{Filter: query.Encode()}
		if replace {
			views, _, err := f.views(cmd.Context())
			if err != nil {
				return err
			}
			if old, ok := viewNamed(views, args[0]); ok {
				return f.changeView(cmd.Context(), *o, http.MethodPatch, viewPath(old.value.ID), change, "Changed the view %s.")
			}
		}
		change.Name = args[0]
		return f.changeView(cmd.Context(), *o, http.MethodPost, "/v1/views", change, "Saved the view %s.")
	}
	return cmd
}

func newCmdViewRename(f *factory) *cobra.Command {
	o := &mutationOptions{}
	cmd := &cobra.Command{
		Use:               "rename <view> <new-name>",
		Short:             "Give a saved view another name",
		Example:           "  argusctl view rename \"Refused today\" Refused",
		Args:              exactly("view", "new name"),
		ValidArgsFunction: f.completeViews,
		RunE: func(cmd *cobra.Command, args []string) error {
			it, _, err := f.view(cmd.Context(), args[0])
			if err != nil {
				return err
			}
			return f.changeView(cmd.Context(), *o, http.MethodPatch, viewPath(it.value.ID), wantedView{Name: args[1]}, "The view is called %s now.")
		},
	}
	o.addFlags(cmd)
	return cmd
}

func newCmdViewRm(f *factory) *cobra.Command {
	o := &mutationOptions{}
	cmd := &cobra.Command{
		Use:               "rm <view>",
		Aliases:           []string{"delete"},
		Short:             "Delete a saved view for everyone",
		Example:           "  argusctl view rm \"Refused today\"",
		Args:              exactly("view"),
		ValidArgsFunction: f.completeViews,
		RunE: func(cmd *cobra.Command, args []string) error {
			it, _, err := f.view(cmd.Context(), args[0])
			if err != nil {
				return err
			}
			return f.changeView(cmd.Context(), *o, http.MethodDelete, viewPath(it.value.ID), nil, "Deleted the view %s.")
		},
	}
	o.addFlags(cmd)
	return cmd
}

// wantedView is a body of a change: what is empty stays as it is.
type wantedView struct {
	Name   string `json:"name,omitempty"`
	Filter string `json:"filter,omitempty"`
}

func viewPath(id string) string { return "/v1/views/" + url.PathEscape(id) }

func (f *factory) changeView(ctx context.Context, o mutationOptions, method, path string, body any, done string) error {
	a, err := f.mutate(ctx, o, method, path, body)
	if err != nil || a == nil {
		return err
	}
	v, err := decode[view](a)
	if err != nil {
		return err
	}
	f.said(a, done, v.Name)
	if how, _ := f.format(); how == asJSON {
		return f.jsonLine(a.body)
	}
	return nil
}

// views asks for all saved views, and the names of those who saved them.
func (f *factory) views(ctx context.Context) ([]item[view], map[string]string, error) {
	c, err := f.client()
	if err != nil {
		return nil, nil, err
	}
	return listNamed[view](ctx, c, "/v1/views", nil, "views")
}

// view finds a view by its name, in any case of its letters, or by its id.
func (f *factory) view(ctx context.Context, name string) (item[view], map[string]string, error) {
	views, names, err := f.views(ctx)
	if err != nil {
		return item[view]{}, nil, err
	}
	if it, ok := viewNamed(views, name); ok {
		return it, names, nil
	}
	missing := &apiError{Status: http.StatusNotFound, Code: argus.CodeNotFound, Message: fmt.Sprintf("No view '%s'.", argus.Text(name, 64))}
	known := map[string]string{}
	for _, it := range views {
		known[argus.Folded(it.value.Name)] = it.value.Name
	}
	if near := nearView(argus.Folded(name), known); near != "" {
		missing.Message += " Did you mean '" + near + "'?"
	} else if len(views) > 0 {
		missing.Message += " `argusctl view ls` lists them."
	}
	return item[view]{}, nil, missing
}

func viewNamed(views []item[view], name string) (item[view], bool) {
	i := slices.IndexFunc(views, func(it item[view]) bool { return strings.EqualFold(it.value.Name, strings.TrimSpace(name)) })
	if i < 0 {
		i = slices.IndexFunc(views, func(it item[view]) bool { return it.value.ID == name })
	}
	if i < 0 {
		return item[view]{}, false
	}
	return views[i], true
}

// nearView is the name that holds the text, or else the one that differs by two letters at most.
func nearView(text string, known map[string]string) string {
	folded := slices.Sorted(maps.Keys(known))
	for _, name := range folded {
		if text != "" && strings.Contains(name, text) {
			return known[name]
		}
	}
	return known[argus.Nearest(text, folded, 2)]
}

// withView puts the filter of a view under that of the flags: a filter of a flag replaces the view's of the same name, and
// --since or --until the view's whole window.
func (ff *filterFlags) withView(ctx context.Context, given url.Values) (url.Values, error) {
	it, _, err := ff.f.view(ctx, ff.view)
	if err != nil {
		return nil, err
	}
	v := it.value
	if v.Problem != "" {
		return nil, &apiError{Status: http.StatusUnprocessableEntity, Message: fmt.Sprintf("The view '%s' cannot be used any more: %s", v.Name, v.Problem)}
	}
	q, err := url.ParseQuery(v.Filter)
	if err != nil {
		return nil, badAnswer(err)
	}
	if given.Has("since") || given.Has("until") {
		q.Del("since")
		q.Del("until")
	}
	for key, values := range given {
		q[key] = values
	}
	return q, nil
}

// flags writes a view's filter as the flags of the command line that mean the same.
func (v *view) flags() string {
	q, err := url.ParseQuery(v.Filter)
	if err != nil {
		return v.Filter
	}
	return asFlags(q)
}

// asFlags writes a filter as flags: the window first, then what must hold, then what must not.
func asFlags(q url.Values) string {
	rank := func(key string) string {
		switch {
		case key == "since" || key == "until":
			return "0" + key
		case strings.HasPrefix(key, "not_"):
			return "2" + key
		}
		return "1" + key
	}
	var flags []string
	for _, key := range slices.SortedFunc(maps.Keys(q), func(a, b string) int { return strings.Compare(rank(a), rank(b)) }) {
		for _, value := range q[key] {
			name, param, ok := strings.Cut(key, ".")
			if ok {
				value = param + "=" + value
			}
			flags = append(flags, "--"+strings.ReplaceAll(name, "_", "-")+" "+worded(value))
		}
	}
	return strings.Join(flags, " ")
}

func (f *factory) completeViews(_ *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
	if len(args) > 0 {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	return f.live(func(ctx context.Context, c *client) ([]string, error) {
		views, err := list[view](ctx, c, "/v1/views", nil, "views")
		var words []string
		for _, v := range views {
			words = append(words, word(v.value.Name, v.value.flags()))
		}
		return words, err
	})
}
