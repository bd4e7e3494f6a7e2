package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/useargus/argus"
)

type contextOptions struct {
	within string
	all    bool
	limit  int
}

func newCmdLogsContext(f *factory) *cobra.Command {
	o := &contextOptions{}
	cmd := &cobra.Command{
		Use:   "context <id>",
		Short: "What happened around a call",
		Long: `Shows the calls before and after a call that have its actor, its tenant or its address, in order. SAME says which of
them they share. --all shows every call of those minutes, as argus.around_call does for auditors in Postgres.

Of each side it shows the calls that are nearest. 'argusctl logs show ID' has the steps of a call.`,
		Example: `  argusctl logs context $(argusctl logs show --last --method POST -o name)
  argusctl logs context $(argusctl logs show --last -o name) --within 1h
  argusctl logs context $(argusctl logs show --last -o name) --all --limit 500`,
		Args:              exactly("id of the call"),
		ValidArgsFunction: completeCallIDs,
		RunE: func(cmd *cobra.Command, args []string) error {
			return f.whileRead(cmd.Context(), func(ctx context.Context) error { return contextRun(ctx, f, o, args[0]) })
		},
	}
	cmd.Flags().StringVar(&o.within, "within", "5m", "this `time` before and after")
	cmd.Flags().BoolVar(&o.all, "all", false, "also calls that share none of the three")
	cmd.Flags().IntVarP(&o.limit, "limit", "n", 50, "at most this `number` of calls before it, and as many after it")
	_ = cmd.RegisterFlagCompletionFunc("within", fixed("1m", "5m", "15m", "1h", "24h"))
	return cmd
}

// neighbour is a call around another, with what the two share.
type neighbour struct {
	raw  json.RawMessage
	r    argus.Record
	same []string // this, or of actor, tenant and address
}

func contextRun(ctx context.Context, f *factory, o *contextOptions, arg string) error {
	id, err := checkCallID(arg)
	if err != nil {
		return err
	}
	within, err := argus.ParseDuration(o.within)
	switch {
	case err != nil:
		return badParameter("--within", err)
	case within <= 0 || within > 7*24*time.Hour:
		return usageErrorf("--within: more than nothing, 7d at most.")
	case o.limit < 1 || o.limit > argus.MaxLimit:
		return usageErrorf("--limit: 1 to %d.", argus.MaxLimit)
	}
	c, err := f.client()
	if err != nil {
		return err
	}
	var about argus.Record
	if _, err := c.get(ctx, "/v1/audit-log/"+id, nil, &about); err != nil {
		return err
	}
	how, _ := f.format()
	p := newRowPrinter(f, how)
	calls, more, err := around(ctx, c, p, &about, within, o)
	if err != nil {
		return err
	}
	shared := map[string]string{}
	for _, n := range calls {
		shared[n.r.ID.String()] = n.mark(p)
	}
	p.marks(shared)
	raws := make([]json.RawMessage, len(calls))
	for i, n := range calls {
		raws[i] = n.raw
	}
	if err := p.plan(raws); err != nil {
		return err
	}
	for i, n := range calls {
		if how == asJSON {
			raws[i] = withSame(n.raw, n.same)
		}
		if err := p.print(raws[i]); err != nil {
			return err
		}
	}
	if err := p.end(); err != nil {
		return err
	}
	if how != asJSON && how != asCSV {
		if f.io.outTerminal {
			f.notice("SAME: a the actor, t the tenant, f the address it came from.")
		}
		if len(calls) == 1 {
			f.notice("Nothing else within %s. For more: --within 1h, or --all.", o.within)
		}
	}
	if more {
		f.notice("There is more within %s. These are the nearest: --limit %d shows more.", o.within, min(argus.MaxLimit, o.limit*10))
	}
	return nil
}

// around asks for the calls of each side that share something, the nearest first, and puts them in order. more tells
// whether it left some out.
func around(ctx context.Context, c *client, p *rowPrinter, about *argus.Record, within time.Duration, o *contextOptions) (calls []neighbour, more bool, err error) {
	at := func(t time.Time) string { return t.UTC().Format(argus.TimeFormat) }
	asked := []url.Values{{"actor": {about.ActorID}}, {"client_ip": {about.ClientIP.String()}}}
	if tenant := about.Tenant(); tenant != "" {
		asked = append(asked, url.Values{"tenant": {tenant}})
	}
	if about.ImpersonatorID != "" {
		asked = append(asked, url.Values{"actor": {about.ImpersonatorID}}, url.Values{"impersonator": {about.ImpersonatorID}})
	}
	if o.all {
		asked = []url.Values{{}}
	}
	found := map[string]neighbour{}
	for _, query := range asked {
		for _, before := range []bool{true, false} {
			q := maps.Clone(query)
			moment := about.OccurredAt
			if before {
				q["since"], q["until"] = []string{at(moment.Add(-within))}, []string{at(moment)}
			} else { // until is exclusive, the window is not
				q["since"], q["until"] = []string{at(moment)}, []string{at(moment.Add(within + time.Microsecond))}
			}
			left := o.limit + 1 // the call itself is among those after
			err := searchPages(ctx, c, q, !before, left, func(pg *page) (bool, error) {
				p.learn(pg)
				left -= len(pg.Rows)
				for _, raw := range pg.Rows {
					n := neighbour{raw: raw}
					if err := unmarshal(raw, &n.r); err != nil {
						return false, badAnswer(err)
					}
					n.same = shares(about, &n.r)
					found[n.r.ID.String()] = n
				}
				return true, nil
			})
			if api := (*apiError)(nil); errors.As(err, &api) && api.Code == argus.CodeUnknownFilterValue {
				continue // such as the tenant of a call that was answered 404: no other call has it
			}
			if err != nil {
				return nil, false, err
			}
			more = more || left <= 0
		}
	}
	calls = slices.SortedFunc(maps.Values(found), func(a, b neighbour) int { return a.r.Compare(&b.r) })
	// Of each side the nearest: one question reached farther than another.
	self := slices.IndexFunc(calls, func(n neighbour) bool { return n.r.ID == about.ID })
	if self < 0 {
		return nil, false, badAnswer(fmt.Errorf("the call %s is not among those around it", about.ID))
	}
	first, end := max(0, self-o.limit), min(len(calls), self+o.limit+1)
	return calls[first:end], more || first > 0 || end < len(calls), nil
}

// shares says what a call has in common with another.
func shares(about, r *argus.Record) []string {
	if r.ID == about.ID {
		return []string{"this"}
	}
	same := []string{}
	for _, id := range []string{r.ActorID, r.ImpersonatorID} {
		if id != "" && (id == about.ActorID || id == about.ImpersonatorID) {
			same = append(same, "actor")
			break
		}
	}
	if t := about.Tenant(); t != "" && t == r.Tenant() {
		same = append(same, "tenant")
	}
	if r.ClientIP == about.ClientIP {
		same = append(same, "address")
	}
	return same
}

// mark is what a call shares, in words, or in letters where room is dear.
func (n *neighbour) mark(p *rowPrinter) string {
	if p.f.io.width() == 0 || p.how != short || n.same == nil || len(n.same) == 1 && n.same[0] == "this" {
		return strings.Join(n.same, "+")
	}
	letters := ""
	for _, s := range n.same {
		letters += map[string]string{"actor": "a", "tenant": "t", "address": "f"}[s]
	}
	return letters
}

func withSame(raw json.RawMessage, same []string) json.RawMessage {
	list, _ := json.Marshal(same)
	raw = slices.Clone(raw)
	return append(append(append(raw[:len(raw)-1], `,"same":`...), list...), '}')
}
