package main

import (
	"context"
	"encoding/json"
	"net/url"
	"os"
	"os/signal"
	"slices"
	"syscall"

	"github.com/spf13/cobra"

	"github.com/useargus/argus"
)

type tailOptions struct {
	filter *filterFlags
	follow bool
	limit  int  // 0: the whole window
	asked  bool // for a window or a limit; else the newest are enough
	cursor string
	paging bool // --cursor was given, be it empty

	columns []string
}

func newCmdLogsTail(f *factory) *cobra.Command {
	o := &tailOptions{}
	cmd := &cobra.Command{
		Use:   "tail",
		Short: "Print the log, oldest first, and go on with --follow",
		Long: `Prints the newest 100 calls, oldest first. Your own calls up to this one are always among them.

With --since, --until, --id or --request-id it prints every call of the window. --limit N prints the newest N.
--follow goes on with calls as they are recorded, exactly where the window ended, until Ctrl-C. It reconnects
without a gap. A client, release or other value that no call had yet is told, and its first call is waited for.

A terminal shows the route with its parameters in place, and from 120 columns on the address. What does not fit is
cut: the reason first, then what follows the tenant in a route, then the actor. --output wide cuts nothing and shows ids.
--columns chooses the columns of a table and of CSV; steps are what each call did to workers and tenants.

Routes are templates: 'GET /v1/tenants/:id' means every tenant.`,
		Example: `  argusctl logs tail --since 1h
  argusctl logs tail --since 1h --actor "Ada Okafor" --not-method GET
  argusctl logs tail --since 24h --route '/v1/tenants/:id/arm' --status 4xx --json
  argusctl logs tail --since 1h --columns occurred_at,actor_name,tenant,reason
  argusctl logs tail --limit 20 --follow`,
		Args: atMost(0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if cmd.Flags().Changed("limit") && o.limit < 1 {
				return usageErrorf("--limit: 1 or more.")
			}
			o.paging = cmd.Flags().Changed("cursor")
			return f.whileRead(cmd.Context(), func(ctx context.Context) error { return tailRun(ctx, f, o) })
		},
	}
	o.filter = addFilterFlags(f, cmd)
	cmd.Flags().BoolVarP(&o.follow, "follow", "f", false, "go on with calls as they are recorded")
	cmd.Flags().IntVarP(&o.limit, "limit", "n", 0, "only the newest `N`")
	cmd.Flags().StringVar(&o.cursor, "cursor", "", "start from this `cursor` (\"\" is the newest page). The next cursor is printed to stderr")
	addColumnsFlag(cmd, &o.columns, "show these `columns`, separated by commas", tailNames())
	return cmd
}

func tailRun(ctx context.Context, f *factory, o *tailOptions) error {
	query, err := o.filter.query(ctx)
	if err != nil {
		return err
	}
	if o.follow && (query.Has("until") || o.paging) {
		return usageErrorf("--follow goes on from now: it excludes --until and --cursor.")
	}
	for _, window := range []string{"since", "until", "id", "request_id"} {
		o.asked = o.asked || query.Has(window)
	}
	if o.asked = o.asked || o.limit > 0 || o.paging; !o.asked {
		o.limit = argus.DefaultLimit
	}
	chosen, err := chosenColumns(o.columns, tailNames())
	if err != nil {
		return err
	}
	how, _ := f.format()
	p := newRowPrinter(f, how)
	p.follows = o.follow
	if err := p.choose(chosen); err != nil {
		return err
	}
	if argus.NeedsBeside(chosen, argus.BesideSteps) {
		query.Set("steps", "true")
	}
	c, err := f.client()
	if err != nil {
		return err
	}
	if o.follow {
		var stop context.CancelFunc
		ctx, stop = signal.NotifyContext(ctx, os.Interrupt, syscall.SIGTERM)
		defer stop()
	}
	if o.follow {
		query.Set("follow", "true") // a value that no call has yet may come
	}
	snapshot, err := tailWindow(ctx, c, p, o, query)
	if o.follow && ctx.Err() != nil && unread(ctx) == nil {
		return p.end() // Ctrl-C
	}
	if err != nil {
		_ = p.flush() // what came before the failure is true
		return err
	}
	if err := p.end(); err != nil || !o.follow {
		return err
	}
	query.Del("follow")
	query.Del("since") // every call recorded from now on is in the window
	return (&follower{f: f, client: c, query: query, position: snapshot, rows: p}).run(ctx)
}

// tailWindow prints the window and returns the position at which it was looked at.
func tailWindow(ctx context.Context, c *client, p *rowPrinter, o *tailOptions, query url.Values) (snapshot string, err error) {
	switch {
	case o.limit > 0 || o.paging:
		return tailNewest(ctx, c, p, o, query)
	case (p.how == asJSON || p.how == asCSV) && !o.follow && !argus.NeedsBeside(p.chosen, argus.BesideNames):
		// One stream instead of many pages: nothing of a row is looked at on its way. Names come with pages.
		return "", exportRows(ctx, c, query, &exportState{}, func(row []byte, _ *exportState) error { return p.print(row) })
	}
	count := 0
	var first page
	err = searchPages(ctx, c, query, true, 1<<62, func(pg *page) (bool, error) {
		if snapshot == "" {
			snapshot, first = pg.Snapshot, *pg
		}
		count += len(pg.Rows)
		p.learn(pg)
		if err := p.plan(pg.Rows); err != nil {
			return false, err
		}
		for _, row := range pg.Rows {
			if err := p.print(row); err != nil {
				return false, err
			}
		}
		return true, p.flush()
	})
	if err == nil {
		p.f.aboutWindow(&first, count, o.follow)
	}
	return snapshot, err
}

// tailNewest collects the newest rows, newest first as they come, and prints them oldest first.
func tailNewest(ctx context.Context, c *client, p *rowPrinter, o *tailOptions, query url.Values) (snapshot string, err error) {
	limit := o.limit
	if limit == 0 {
		limit = 1 << 62
	}
	if o.cursor != "" {
		query.Set("cursor", o.cursor)
	}
	var rows []json.RawMessage
	var first page
	cursor := ""
	err = searchPages(ctx, c, query, false, limit, func(pg *page) (bool, error) {
		if snapshot == "" {
			snapshot, first = pg.Snapshot, *pg
		}
		p.learn(pg)
		rows = append(rows, pg.Rows...)
		cursor = pg.NextCursor
		return true, nil
	})
	query.Del("cursor")
	if err != nil {
		return "", err
	}
	slices.Reverse(rows)
	if err := p.plan(rows); err != nil {
		return "", err
	}
	for _, row := range rows {
		if err := p.print(row); err != nil {
			return "", err
		}
	}
	p.f.aboutWindow(&first, len(rows), o.follow)
	if cursor != "" && !o.asked {
		if err := p.flush(); err != nil {
			return "", err
		}
		p.f.notice("The newest %s. More: --limit 1000. All of a window: --since 24h.", argus.Counted(len(rows), "call"))
	}
	if cursor != "" && o.paging {
		p.f.notice("Older calls: --cursor %s", cursor)
	}
	return snapshot, nil
}

// aboutWindow says what the rows alone do not.
func (f *factory) aboutWindow(first *page, count int, follow bool) {
	if first.Source == argus.SourcePostgres {
		f.notice("Answered by Postgres alone: ClickHouse is away or slow.")
	}
	for _, awaited := range first.Awaited {
		f.notice("%s Waiting for the first such call.", awaited)
	}
	switch {
	case count > 0 || len(first.Awaited) > 0:
	case follow:
		f.notice("No such calls yet.")
	default:
		f.notice("No such calls.")
	}
}
