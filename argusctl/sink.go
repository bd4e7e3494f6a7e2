package main

import (
	"context"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/useargus/argus"
	"github.com/useargus/argus/proof"
)

// sinkState is an object of GET /v1/sinks: where argusd ship gives the log to.
type sinkState struct {
	Sink           string    `json:"sink"`
	Type           string    `json:"type"`
	Target         string    `json:"target"`
	Format         string    `json:"format"`
	Filter         string    `json:"filter"`
	State          string    `json:"state"`
	Host           string    `json:"host"`
	LagRows        int64     `json:"lag_rows"`
	LagSeconds     float64   `json:"lag_seconds"`
	RowsPerSecond  float64   `json:"rows_per_second"`
	Rows           int64     `json:"rows"`
	AcknowledgedAt time.Time `json:"acknowledged_at"`
	LastError      string    `json:"last_error"`
	ErrorAt        time.Time `json:"error_at"`
	NextRetryAt    time.Time `json:"next_retry_at"`
	RetentionAt    time.Time `json:"retention_at"`
	RejectedRows   int64     `json:"rejected_rows"`
	PausedBy       string    `json:"paused_by"`
	PausedAt       time.Time `json:"paused_at"`
	Newest         *struct {
		Batch string `json:"batch"`
	} `json:"newest"`
	Backfills []struct {
		ID      int64     `json:"id"`
		Since   time.Time `json:"since"`
		State   string    `json:"state"`
		Rows    *int64    `json:"rows"`
		Shipped int64     `json:"shipped"`
		Error   string    `json:"error"`
		AskedBy string    `json:"asked_by"`
	} `json:"backfills"`
}

func newCmdSink(f *factory) *cobra.Command {
	return newCmdNoun("sink", "Where argusd ship gives the log to",
		"  argusctl sink ls\n  argusctl sink test shipped\n  argusctl sink backfill shipped --since 30d",
		newCmdSinkLs(f), newCmdSinkShow(f), newCmdSinkTest(f), newCmdSinkPause(f), newCmdSinkResume(f), newCmdSinkBackfill(f))
}

func newCmdSinkLs(f *factory) *cobra.Command {
	return &cobra.Command{
		Use:     "ls",
		Aliases: []string{"list"},
		Short:   "List the sinks, and how far behind each is",
		Example: "  argusctl sink ls",
		Args:    atMost(0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			return f.whileRead(cmd.Context(), func(ctx context.Context) error { return sinkLsRun(ctx, f) })
		},
	}
}

func sinkLsRun(ctx context.Context, f *factory) error {
	c, err := f.client()
	if err != nil {
		return err
	}
	sinks, err := list[sinkState](ctx, c, "/v1/sinks", nil, "sinks")
	if err != nil {
		return err
	}
	how, _ := f.format()
	t := &table{columns: []column{{head: "SINK"}, {head: "TYPE"}, {head: "STATE"}, {head: "LAG ROWS", right: true}, {head: "LAG", right: true}, {head: "ROWS/S", right: true},
		{head: "REJECTED", right: true}, {head: "TARGET", flex: true, min: 8, spare: true}, {head: "FORMAT", wide: true}, {head: "NEXT RETRY", wide: true},
		{head: "PROBLEM", flex: true, min: 10, spare: true}}}
	for _, it := range sinks {
		if how == asJSON {
			if err := f.jsonLine(it.raw); err != nil {
				return err
			}
			continue
		}
		s := it.value
		t.rows = append(t.rows, []cell{txt(s.Sink), txt(s.Type), s.state(), txt(strconv.FormatInt(s.LagRows, 10)), txt(s.lag()), txt(strconv.FormatInt(int64(s.RowsPerSecond+0.5), 10)),
			txt(strconv.FormatInt(s.RejectedRows, 10)), txt(s.Target), txt(s.Format), f.timeCell(s.NextRetryAt), txt(s.problem())})
	}
	if how == asJSON {
		return nil
	}
	return t.print(f, how)
}

func (s *sinkState) state() cell {
	switch s.State {
	case "shipping", "idle":
		return txt(s.State).in(green)
	case "retrying", "down":
		return txt(s.State).in(red)
	}
	return txt(s.State).in(dim)
}

func (s *sinkState) lag() string {
	return time.Duration(s.LagSeconds * float64(time.Second)).Round(100 * time.Millisecond).String()
}

// problem is the newest error while it lasts.
func (s *sinkState) problem() string {
	switch s.State {
	case "retrying":
		return s.LastError
	case "down":
		return "no process ships to it"
	}
	return ""
}

func sinkPath(name, verb string) string { return "/v1/sinks/" + url.PathEscape(name) + verb }

func newCmdSinkShow(f *factory) *cobra.Command {
	return &cobra.Command{
		Use:               "show <sink>",
		Short:             "Show a sink: how far it is, its last error and its backfills",
		Example:           "  argusctl sink show shipped",
		Args:              exactly("sink"),
		ValidArgsFunction: f.completeSinks,
		RunE: func(cmd *cobra.Command, args []string) error {
			return f.whileRead(cmd.Context(), func(ctx context.Context) error {
				c, err := f.client()
				if err != nil {
					return err
				}
				a, err := c.get(ctx, sinkPath(args[0], ""), nil, nil)
				if err != nil {
					return err
				}
				return f.printSink(a)
			})
		},
	}
}

func (f *factory) printSink(a *answer) error {
	if how, _ := f.format(); how == asJSON {
		return f.jsonLine(a.body)
	}
	s, err := decode[sinkState](a)
	if err != nil {
		return err
	}
	pairs := []cell{txt("sink"), txt(s.Sink).in(bold), txt("type"), txt(s.Type), txt("target"), txt(s.Target), txt("format"), txt(s.Format), txt("filter"), txt(s.Filter),
		txt("state"), s.state(), txt("host"), txt(s.Host), txt("lag"), txt(argus.Counted(s.LagRows, "row") + ", " + s.lag()),
		txt("shipped"), txt(argus.Counted(s.Rows, "row")), txt("acknowledged"), f.timeCell(s.AcknowledgedAt), txt("rejected"), txt(argus.Counted(s.RejectedRows, "row"))}
	if s.Newest != nil {
		pairs = append(pairs, txt("newest batch"), txt(s.Newest.Batch))
	}
	if s.PausedBy != "" {
		pairs = append(pairs, txt("paused by"), txt(s.PausedBy), txt("paused at"), f.timeCell(s.PausedAt))
	}
	if s.LastError != "" {
		pairs = append(pairs, txt("last error"), txt(s.LastError), txt("at"), f.timeCell(s.ErrorAt))
	}
	if !s.NextRetryAt.IsZero() {
		pairs = append(pairs, txt("next retry"), f.timeCell(s.NextRetryAt))
	}
	if !s.RetentionAt.IsZero() {
		pairs = append(pairs, txt("rows leave from"), f.timeCell(s.RetentionAt))
	}
	for _, b := range s.Backfills {
		text := b.State
		if b.Rows != nil {
			text += fmt.Sprintf(", %d of %s", b.Shipped, argus.Counted(*b.Rows, "row"))
		}
		if b.Error != "" {
			text += ": " + b.Error
		}
		pairs = append(pairs, txt(fmt.Sprintf("backfill %d", b.ID)), txt(text))
	}
	return f.fields(pairs...)
}

// changeSink sends a change and prints the sink.
func (f *factory) changeSink(ctx context.Context, o mutationOptions, name, verb string, body any, done string) error {
	a, err := f.mutate(ctx, o, http.MethodPost, sinkPath(name, verb), body)
	if err != nil || a == nil {
		return err
	}
	f.said(a, done, name)
	if how, _ := f.format(); how == asJSON {
		return f.jsonLine(a.body)
	}
	return nil
}

func newCmdSinkPause(f *factory) *cobra.Command {
	o := &mutationOptions{}
	cmd := &cobra.Command{
		Use:   "pause <sink>",
		Short: "Pause a sink; what comes meanwhile is kept for it",
		Long: `Pauses a sink. Its position stays, so nothing is lost while Postgres keeps the rows. Two weeks before retention would drop
rows that the sink has not taken, argusd ship warns.`,
		Example:           "  argusctl sink pause shipped",
		Args:              exactly("sink"),
		ValidArgsFunction: f.completeSinks,
		RunE: func(cmd *cobra.Command, args []string) error {
			return f.changeSink(cmd.Context(), *o, args[0], "/pause", nil, "The sink %s is paused.")
		},
	}
	o.addFlags(cmd)
	return cmd
}

func newCmdSinkResume(f *factory) *cobra.Command {
	o := &mutationOptions{}
	cmd := &cobra.Command{
		Use:               "resume <sink>",
		Short:             "Let a paused sink go on from where it stands",
		Example:           "  argusctl sink resume shipped",
		Args:              exactly("sink"),
		ValidArgsFunction: f.completeSinks,
		RunE: func(cmd *cobra.Command, args []string) error {
			return f.changeSink(cmd.Context(), *o, args[0], "/resume", nil, "The sink %s goes on.")
		},
	}
	o.addFlags(cmd)
	return cmd
}

func newCmdSinkBackfill(f *factory) *cobra.Command {
	var since string
	o := &mutationOptions{}
	cmd := &cobra.Command{
		Use:   "backfill <sink>",
		Short: "Send again what happened since then, beside the live stream",
		Long: `Sends the sink all calls that happened since then and that it has had already, in batches of their own, beside the live stream.
"sink show" has the progress. One backfill of a sink runs at a time.`,
		Example:           "  argusctl sink backfill shipped --since 30d",
		Args:              exactly("sink"),
		ValidArgsFunction: f.completeSinks,
		RunE: func(cmd *cobra.Command, args []string) error {
			from, err := f.moment("--since", since)
			if err != nil {
				return err
			}
			at, err := argus.ParseTime(from, f.now())
			if err != nil {
				return badParameter("--since", err)
			}
			body := struct {
				Since string `json:"since"`
			}{at.UTC().Format(argus.TimeFormat)}
			return f.changeSink(cmd.Context(), *o, args[0], "/backfill", body, "A backfill of %s is asked for. `argusctl sink show` has its progress.")
		},
	}
	cmd.Flags().StringVar(&since, "since", "", "from this `time` on: 30d, 12h, yesterday, or a date")
	_ = cmd.MarkFlagRequired("since")
	_ = cmd.RegisterFlagCompletionFunc("since", cobra.NoFileCompletions)
	o.addFlags(cmd)
	return cmd
}

func newCmdSinkTest(f *factory) *cobra.Command {
	o := &mutationOptions{}
	cmd := &cobra.Command{
		Use:   "test <sink>",
		Short: "Ask a sink's receiver whether it would take batches",
		Long: `Lets the shipper reach the receiver as it does for a batch, without a row of the log. A good answer also ends the pause
before the next retry. Ends with 9 when the receiver would take none, and with 10 when no process has answered.`,
		Example:           "  argusctl sink test shipped",
		Args:              exactly("sink"),
		ValidArgsFunction: f.completeSinks,
		RunE:              func(cmd *cobra.Command, args []string) error { return sinkTestRun(cmd.Context(), f, o, args[0]) },
	}
	o.addFlags(cmd)
	return cmd
}

func sinkTestRun(ctx context.Context, f *factory, o *mutationOptions, name string) error {
	a, err := f.mutate(ctx, *o, http.MethodPost, sinkPath(name, "/test"), nil)
	if err != nil || a == nil {
		return err
	}
	got, err := decode[struct {
		State string `json:"state"`
		Error string `json:"problem"`
	}](a)
	if err != nil {
		return err
	}
	if how, _ := f.format(); how == asJSON {
		if err := f.jsonLine(a.body); err != nil {
			return err
		}
	}
	switch got.State {
	case "done":
		f.said(a, "The receiver of %s takes batches.", name)
		return nil
	case "failed":
		f.said(a, "The receiver of %s takes none: %s", name, strings.TrimRight(got.Error, "."))
		return errNegative
	}
	f.said(a, "No process has answered for %s. See that argusd ship runs.", name)
	return &verdictError{proof.Undecided}
}

func (f *factory) completeSinks(_ *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
	if len(args) > 0 {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	return f.live(func(ctx context.Context, c *client) ([]string, error) {
		sinks, err := list[sinkState](ctx, c, "/v1/sinks", nil, "sinks")
		var words []string
		for _, s := range sinks {
			words = append(words, word(s.value.Sink, s.value.Type+", "+s.value.State))
		}
		return words, err
	})
}
