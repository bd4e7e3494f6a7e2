package main

import (
	"context"
	"encoding/json"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/useargus/argus"
)

type facetsOptions struct {
	filter *filterFlags
	limit  int
}

func newCmdLogsFacets(f *factory) *cobra.Command {
	o := &facetsOptions{}
	var fields []string
	for _, name := range argus.FacetFields() {
		fields = append(fields, flagOf(name))
	}
	cmd := &cobra.Command{
		Use:   "facets [filter]...",
		Short: "Which values a filter has, and how many calls each",
		Long: `Shows which values occur in the calls of a window, the most frequent first, with the number of calls and their share.
Each value can be given to the filter of its name. The window is the last 24 hours unless --since says otherwise.

Without a name it shows the first values of each of them: ` + strings.Join(fields, ", ") + `.`,
		Example: `  argusctl logs facets
  argusctl logs facets actor --status 4xx --since 7d
  argusctl logs facets route client --limit 50
  argusctl logs facets actor --output name`,
		RunE: func(cmd *cobra.Command, args []string) error {
			limit := o.limit
			if !cmd.Flags().Changed("limit") && len(args) == 0 {
				limit = 5
			}
			return f.whileRead(cmd.Context(), func(ctx context.Context) error { return facetsRun(ctx, f, o, args, limit) })
		},
		ValidArgsFunction: func(_ *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
			left := slices.DeleteFunc(slices.Clone(fields), func(name string) bool { return slices.Contains(args, name) })
			return left, cobra.ShellCompDirectiveNoFileComp | cobra.ShellCompDirectiveKeepOrder
		},
	}
	o.filter = addFilterFlags(f, cmd)
	cmd.Flags().IntVarP(&o.limit, "limit", "n", 20, "at most this `number` of values of each; 5 when no filter is named")
	return cmd
}

// facet is a value of a filter.
type facet struct {
	Filter argus.FilterName `json:"filter"`
	Value  string           `json:"value"`
	Name   *string          `json:"name"`
	Count  int64            `json:"count"`
}

func facetsRun(ctx context.Context, f *factory, o *facetsOptions, names []string, limit int) error {
	query, err := o.filter.query(ctx)
	if err != nil {
		return err
	}
	if limit < 1 || limit > argus.MaxLimit {
		return usageErrorf("--limit: 1 to %d.", argus.MaxLimit)
	}
	fields := argus.FacetFields()
	if len(names) > 0 {
		fields = nil
	}
	for _, name := range names {
		field := argus.FilterName(strings.ReplaceAll(name, "-", "_"))
		if !slices.Contains(argus.FacetFields(), field) {
			return usageErrorf("There are no facets of %q. There are of %s.", name, strings.ReplaceAll(argus.Listed(argus.FacetFields(), "and"), "_", "-"))
		}
		if !slices.Contains(fields, field) {
			fields = append(fields, field)
		}
	}
	if !query.Has("since") && !query.Has("until") {
		query.Set("since", "24h")
	}
	query.Set("limit", strconv.Itoa(limit))
	c, err := f.client()
	if err != nil {
		return err
	}
	answer, err := askFacets(ctx, c, query, fields...)
	if err != nil {
		return err
	}
	how, _ := f.format()
	if how != asJSON && how != asCSV {
		f.notice("%s", answer.about(f))
	}
	t := &table{columns: []column{{head: "FILTER"}, {head: "VALUE", flex: true, min: 16}, {head: "NAME", flex: true, min: 8, spare: true},
		{head: "CALLS", key: "count", right: true}, {head: "SHARE", right: true}}}
	for _, field := range fields {
		for i, v := range answer.Fields[field] {
			if v.Filter = field; how == asJSON {
				object, err := json.Marshal(v)
				if err != nil {
					return err
				}
				if err := f.jsonLine(object); err != nil {
					return err
				}
				continue
			}
			first := txt(flagOf(field)).in(bold)
			if i > 0 && f.io.outTerminal && how != asCSV {
				first = cell{}
			}
			name := ""
			if v.Name != nil {
				name = *v.Name
			}
			share := float64(v.Count) / float64(max(answer.Total, 1))
			t.rows = append(t.rows, []cell{first, txt(v.Value), txt(name), txt(strconv.FormatInt(v.Count, 10)), val(formatRate(share), rawFloat(&share))})
		}
	}
	if how == asJSON || len(t.rows) == 0 && how != asCSV {
		return nil
	}
	return t.print(f, how)
}

// facetsAnswer is the answer of GET /v1/audit-log/facets.
type facetsAnswer struct {
	Since  time.Time                    `json:"since"`
	Until  time.Time                    `json:"until"`
	Total  int64                        `json:"total"`
	Fields map[argus.FilterName][]facet `json:"fields"`
	Source argus.Source                 `json:"source"`
}

func askFacets(ctx context.Context, c *client, query url.Values, fields ...argus.FilterName) (*facetsAnswer, error) {
	query["fields"] = nil
	for _, field := range fields {
		query.Add("fields", string(field))
	}
	var answer facetsAnswer
	_, err := c.get(ctx, "/v1/audit-log/facets", query, &answer)
	return &answer, err
}

func (a *facetsAnswer) about(f *factory) string {
	text := f.window(a.Since, a.Until) + ": " + argus.Counted(a.Total, "call")
	if a.Source == argus.SourcePostgres {
		text += ", from Postgres alone: ClickHouse is away or slow"
	}
	return text
}
