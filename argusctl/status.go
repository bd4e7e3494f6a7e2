package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/spf13/cobra"

	"github.com/useargus/argus"
)

type statusOptions struct {
	watch    bool
	interval time.Duration
}

func newCmdStatus(f *factory) *cobra.Command {
	o := &statusOptions{}
	cmd := &cobra.Command{
		Use:   "status",
		Short: "Everything on one screen",
		Long: `Shows on one screen the health of each stage and the lag of the copy. Then come the busiest and the worst routes of the
hour, armed tenants, workers, and break-glass tokens in use in the last day. A part that needs another scope is marked
as not shown.`,
		Example: "  argusctl status\n  argusctl status --watch",
		Args:    atMost(0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			return f.whileRead(cmd.Context(), func(ctx context.Context) error { return statusRun(ctx, f, o) })
		},
	}
	cmd.Flags().BoolVarP(&o.watch, "watch", "w", false, "show it again and again until q; needs a terminal")
	cmd.Flags().DurationVar(&o.interval, "interval", 15*time.Second, "with --watch: again after this `time`")
	return cmd
}

// overview is what status is made of: the parts, asked for at once, each with what it came to.
type overview struct {
	health  health
	perf    *perfAnswer
	tenants []item[tenant]
	names   map[string]string // of those who armed them
	workers []item[worker]
	glass   page

	raw                                                  json.RawMessage // of health
	healthErr, perfErr, tenantsErr, workersErr, glassErr error
}

func statusRun(ctx context.Context, f *factory, o *statusOptions) error {
	how, _ := f.format()
	switch {
	case how == asCSV:
		return usageErrorf("CSV is not available for status. Use --json.")
	case o.watch && (!f.io.outTerminal || !f.io.inTerminal || how == asJSON):
		return usageErrorf("--watch redraws a screen, which takes a terminal.")
	case o.interval < time.Second:
		return usageErrorf("--interval: a second or more.")
	}
	c, err := f.client()
	if err != nil {
		return err
	}
	if o.watch {
		return f.watch(ctx, o.interval, func(ctx context.Context) ([]string, error) {
			s, err := askOverview(ctx, c)
			if err != nil && outageOf(err) == nil {
				return nil, err
			}
			return s.lines(f, c), nil
		})
	}
	s, err := askOverview(ctx, c)
	if err != nil && outageOf(err) == nil {
		return err
	}
	if how == asJSON {
		return errors.Join(err, s.printJSON(f))
	}
	_, failed := f.io.out.WriteString(strings.Join(s.lines(f, c), "\n") + "\n")
	return errors.Join(err, failed)
}

// askOverview asks for all parts at once. Without health there is no status; other parts may be missing. Of a server that
// can answer no call it returns what that tells of itself, with the error.
func askOverview(ctx context.Context, c *client) (*overview, error) {
	s := &overview{}
	var all sync.WaitGroup
	all.Go(func() {
		var a *answer
		if a, s.healthErr = c.get(ctx, "/v1/health", nil, &s.health); a != nil {
			s.raw = a.body
		}
	})
	all.Go(func() {
		s.perf, s.perfErr = askPerf(ctx, c, url.Values{"since": {"1h"}, "group_by": {string(argus.GroupByRoute)}}, "rpm")
	})
	all.Go(func() { s.tenants, s.names, s.tenantsErr = listNamed[tenant](ctx, c, "/v1/tenants", nil, "tenants") })
	all.Go(func() { s.workers, s.workersErr = list[worker](ctx, c, "/compute/ops/workers", nil, "workers") })
	all.Go(func() {
		_, s.glassErr = c.get(ctx, "/v1/audit-log", url.Values{"since": {"24h"}, "limit": {"1000"},
			"actor_kind": {string(argus.KindBreakGlass)}}, &s.glass)
	})
	all.Wait()
	if outage := outageOf(s.healthErr); outage != nil {
		s.health, s.raw = *outage, outage.raw
		return s, s.healthErr
	}
	for _, err := range []error{s.healthErr, s.perfErr, s.tenantsErr, s.workersErr, s.glassErr} {
		if code := exitCode(err); err == s.healthErr && err != nil || code == exitUnauthenticated || code == exitRateLimited {
			return nil, err
		}
	}
	return s, nil
}

func (s *overview) lines(f *factory, c *client) []string {
	width := f.io.width()
	var lines []string
	head := func(title, rest string) {
		if len(lines) > 0 {
			lines = append(lines, "")
		}
		lines = append(lines, strings.TrimRight(f.io.outStyle(bold, title)+"  "+rest, " "))
	}
	put := func(t *table) {
		for _, line := range t.lines(max(width-2, 0), short, f.io.outColor) {
			lines = append(lines, "  "+line)
		}
	}
	missing := func(title string, err error) bool {
		if err != nil {
			head(title, f.io.outStyle(dim, absent(err)))
		}
		return err != nil
	}
	head("PIPELINE", f.io.outStyle(healthStyle(s.health.Status), harmless(s.health.Status))+
		"  "+harmless(strings.TrimSuffix(c.base.Host+", version "+s.health.Version, ", version ")))
	put(s.health.table(f))
	for _, line := range s.health.sentences(f, short, width-2) {
		lines = append(lines, "  "+line)
	}
	if s.healthErr != nil { // nothing else is answered
		return lines
	}
	if !missing("CALLS", s.perfErr) {
		head("CALLS", s.calls(f))
		if len(s.perf.rows) > 0 {
			put(s.routes())
		}
	}
	if !missing("TENANTS", s.tenantsErr) {
		armed := slices.DeleteFunc(slices.Clone(s.tenants), func(t item[tenant]) bool { return !t.value.Armed })
		head("TENANTS", fmt.Sprintf("%d, %d armed", len(s.tenants), len(armed)))
		t := &table{columns: []column{{head: "ARMED"}, {head: "NAME", flex: true, min: 8}, {head: "BY", flex: true, min: 8, spare: true},
			{head: "SINCE"}, {head: "SESSIONS", right: true}, {head: "REASON", flex: true, min: 8, spare: true}}}
		for _, it := range armed {
			v := it.value
			t.rows = append(t.rows, []cell{txt(v.ID).in(yellow), txt(v.Name), txt(f.who(v.ArmedBy, s.names, short)), txt(f.ago(v.ArmedAt)),
				txt(fmt.Sprint(len(v.Sessions))), txt(v.ArmedReason)})
		}
		if len(armed) > 0 {
			put(t)
		}
	}
	if !missing("WORKERS", s.workersErr) {
		head("WORKERS", s.workerCounts())
	}
	if !missing("BREAK-GLASS", s.glassErr) {
		s.glassLines(f, head, put)
	}
	return lines
}

// absent says why a part is not shown.
func absent(err error) string {
	var api *apiError
	if errors.As(err, &api) && api.Status == 403 {
		if _, needed, ok := strings.Cut(api.Message, "needs the scope "); ok {
			scope, _, _ := strings.Cut(strings.TrimSuffix(needed, "."), ",")
			return "not shown (needs scope " + harmless(scope) + ")"
		}
		return "not shown (this credential may not read it)"
	}
	return "not available: " + harmless(sentence(err.Error()))
}

// calls says how many calls the last hour had.
func (s *overview) calls(f *factory) string {
	var count, interrupted int64
	for _, r := range s.perf.rows {
		count += r.Count
		interrupted += r.Interrupted
	}
	text := argus.Counted(count, "call") + " in the last hour"
	if interrupted > 0 {
		text += fmt.Sprintf(", %d interrupted", interrupted)
	}
	if !s.perf.ReplicatedThrough.IsZero() {
		text += ", copied up to " + f.ago(s.perf.ReplicatedThrough)
	}
	return text
}

// routes picks the three busiest, and the three worst beside them.
func (s *overview) routes() *table {
	t := &table{columns: []column{{head: ""}, {head: "ROUTE", flex: true, min: 30}, {head: "RPM", right: true},
		{head: "5XX", right: true}, {head: "4XX", right: true, spare: true}, {head: "P50", right: true, spare: true}, {head: "P99", right: true}}}
	add := func(label string, r *perfRow) {
		failing := txt(formatRate(r.ErrorRate))
		if r.ErrorRate > 0 {
			failing = failing.in(red)
		}
		p99 := txt(shownMS(r.P99))
		if r.P99 != nil {
			p99 = p99.in(latencyStyle(*r.P99))
		}
		t.rows = append(t.rows, []cell{{text: label}, txt(r.group), txt(formatRPM(r.RPM)), failing, txt(formatRate(r.ClientError)),
			txt(shownMS(r.P50)), p99})
	}
	pick := func(label, by string) {
		rows := slices.Clone(s.perf.rows)
		slices.SortStableFunc(rows, func(a, b perfRow) int {
			switch x, y := a.sortKey(by), b.sortKey(by); {
			case x > y:
				return -1
			case x < y:
				return 1
			}
			return 0
		})
		for i := range rows[:min(3, len(rows))] {
			if by == "errors" && rows[i].ErrorRate == 0 {
				break
			}
			add(label, &rows[i])
			label = ""
		}
	}
	pick("busiest", "rpm")
	pick("failing", "errors")
	pick("slowest", "p99")
	return t
}

func (s *overview) workerCounts() string {
	counts := map[string]int{}
	orphans := 0
	for _, w := range s.workers {
		counts[w.value.State]++
		if w.value.Orphan {
			orphans++
		}
	}
	var parts []string
	for _, state := range []string{"running", "launching", "stopping", "stopped", "resuming", "terminating", "failed"} {
		if n := counts[state]; n > 0 {
			parts = append(parts, fmt.Sprintf("%d %s", n, state))
		}
	}
	if orphans > 0 {
		parts = append(parts, argus.Counted(orphans, "orphan"))
	}
	if len(parts) == 0 {
		return "none"
	}
	return strings.Join(parts, ", ")
}

// glassUse is how one break-glass token was used.
type glassUse struct {
	ID     string    `json:"break_glass_id"`
	Actor  string    `json:"actor_id"`
	Reason string    `json:"reason"`
	Calls  int64     `json:"calls"`
	Last   time.Time `json:"last_used_at"`
}

// glassUses sums the rows up by token, the one used last first.
func (s *overview) glassUses() []glassUse {
	byID := map[string]*glassUse{}
	uses := []glassUse{}
	var order []string
	for _, raw := range s.glass.Rows {
		var r struct {
			ID         string    `json:"break_glass_id"`
			Actor      string    `json:"actor_id"`
			OccurredAt time.Time `json:"occurred_at"`
		}
		if unmarshal(raw, &r) != nil {
			continue
		}
		u := byID[r.ID]
		if u == nil {
			u = &glassUse{ID: r.ID, Actor: r.Actor, Reason: s.glass.BreakGlass[r.ID], Last: r.OccurredAt}
			byID[r.ID] = u
			order = append(order, r.ID)
		}
		u.Calls++
	}
	for _, id := range order {
		uses = append(uses, *byID[id])
	}
	return uses
}

func (s *overview) glassLines(f *factory, head func(title, rest string), put func(*table)) {
	uses := s.glassUses()
	if len(uses) == 0 {
		head("BREAK-GLASS", "none in 24 h")
		return
	}
	head("BREAK-GLASS", f.io.outStyle(red, fmt.Sprintf("%d in use within 24 h", len(uses))))
	t := &table{columns: []column{{head: "LAST USED"}, {head: "CALLS", right: true}, {head: "FOR", flex: true, min: 8}, {head: "REASON", flex: true, min: 24}, {head: "ID", spare: true}}}
	for _, u := range uses {
		calls := fmt.Sprint(u.Calls)
		if s.glass.NextCursor != "" {
			calls += "+"
		}
		t.rows = append(t.rows, []cell{txt(f.ago(u.Last)), txt(calls), txt(f.who(u.Actor, s.glass.Actors, short)), txt(u.Reason), txt(u.ID)})
	}
	put(t)
}

// printJSON prints one object; a part that is not there is null, and missing says why.
func (s *overview) printJSON(f *factory) error {
	missing := map[string]string{}
	raws := func(err error, name string, n int, raw func(int) json.RawMessage) []json.RawMessage {
		if err != nil {
			missing[name] = absent(err)
			return nil
		}
		out := make([]json.RawMessage, n)
		for i := range out {
			out[i] = raw(i)
		}
		return out
	}
	v := struct {
		Health     json.RawMessage   `json:"health"`
		Perf       []json.RawMessage `json:"perf"`
		Tenants    []json.RawMessage `json:"tenants"`
		Workers    []json.RawMessage `json:"workers"`
		BreakGlass []glassUse        `json:"break_glass"`
		Missing    map[string]string `json:"missing"`
	}{
		Health:  s.raw,
		Perf:    raws(s.perfErr, "perf", perfLen(s.perf), func(i int) json.RawMessage { return s.perf.rows[i].raw }),
		Tenants: raws(s.tenantsErr, "tenants", len(s.tenants), func(i int) json.RawMessage { return s.tenants[i].raw }),
		Workers: raws(s.workersErr, "workers", len(s.workers), func(i int) json.RawMessage { return s.workers[i].raw }),
		Missing: missing,
	}
	if s.glassErr != nil {
		missing["break_glass"] = absent(s.glassErr)
	} else {
		v.BreakGlass = s.glassUses()
	}
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	if err := e.Encode(v); err != nil {
		return err
	}
	return f.jsonLine(bytes.TrimSuffix(b.Bytes(), []byte("\n")))
}

func perfLen(p *perfAnswer) int {
	if p == nil {
		return 0
	}
	return len(p.rows)
}
