package main

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/clipperhouse/displaywidth"
	"github.com/spf13/cobra"

	"github.com/useargus/argus"
)

type healthOptions struct{ check bool }

func newCmdHealth(f *factory) *cobra.Command {
	o := &healthOptions{}
	cmd := &cobra.Command{
		Use:   "health",
		Short: "Is each stage of the pipeline well?",
		Long: `Shows each stage a record passes through: Postgres, the writer, the replicator, ClickHouse, identity.

SINCE tells since when a stage is not well. Each of several copies in ClickHouse has a row of its own. With --check the exit code is 9 unless all is well. When the server can
answer no call, since Postgres is away, it still tells which part is down and since when, with --json as well. The
exit code is 3 then.`,
		Example: "  argusctl health\n  argusctl health --check --json",
		Args:    atMost(0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			return f.whileRead(cmd.Context(), func(ctx context.Context) error { return healthRun(ctx, f, o) })
		},
	}
	cmd.Flags().BoolVar(&o.check, "check", false, "exit 9 unless the status is ok")
	return cmd
}

// health is the answer of GET /v1/health.
type health struct {
	Status  string        `json:"status"`
	Version string        `json:"version"`
	Stages  []healthStage `json:"stages"`

	raw []byte // as the server sent it
}

type healthStage struct {
	argus.Stage
	Copy  string         `json:"copy"`  // of ClickHouse, while calls are answered 503
	Since argus.JSONTime `json:"since"` // likewise
}

// outageOf is what a server tells of itself while it can answer no call, nil when err is another error.
func outageOf(err error) *health {
	var e *apiError
	if errors.As(err, &e) && e.Health != nil {
		return e.Health
	}
	return nil
}

func healthRun(ctx context.Context, f *factory, o *healthOptions) error {
	c, err := f.client()
	if err != nil {
		return err
	}
	var h health
	a, err := c.get(ctx, "/v1/health", nil, &h)
	how, _ := f.format()
	if err != nil {
		outage := outageOf(err)
		switch {
		case outage == nil:
			return err
		case how == asJSON:
			return errors.Join(err, f.jsonLine(outage.raw))
		}
		return errors.Join(err, outage.table(f).print(f, how), f.details(outage, how))
	}
	if how == asJSON {
		err = f.jsonLine(a.body)
	} else {
		if how != asCSV {
			f.notice("%s is %s, version %s", c.base.Host, h.Status, h.Version)
		}
		if err = h.table(f).print(f, how); err == nil {
			err = f.details(&h, how)
		}
	}
	if err == nil && o.check && h.Status != "ok" {
		return errNegative
	}
	return err
}

// table has a row a stage. A terminal that is too narrow for the details has them below the table: see details.
func (h *health) table(f *factory) *table {
	t := &table{columns: []column{{head: "STAGE"}, {head: "STATUS"}, {head: "SINCE"}, {head: "DETAIL"}, {head: "FACTS", flex: true, min: 10, spare: true}}}
	if h.below(f) {
		t.columns[3].wide = true
	}
	for _, s := range h.Stages {
		t.rows = append(t.rows, []cell{txt(s.label()), txt(s.Status).in(healthStyle(s.Status)), f.timeCell(s.since(f.now())), txt(s.Detail), txt(facts(s.shown()))})
	}
	return t
}

// below reports whether the details stand below the table: they are sentences, and half of one says nothing.
func (h *health) below(f *factory) bool {
	const others = 52 // columns, of the others at their narrowest
	for _, s := range h.Stages {
		if w := f.io.width(); w > 0 && displaywidth.String(s.Detail) > w-others {
			return true
		}
	}
	return false
}

// details prints the sentences that the table has no room for.
func (f *factory) details(h *health, how format) error {
	for _, line := range h.sentences(f, how, f.io.width()) {
		if _, err := f.io.out.WriteString(line + "\n"); err != nil {
			return err
		}
	}
	return nil
}

func (h *health) sentences(f *factory, how format, width int) []string {
	if how != short || !h.below(f) {
		return nil
	}
	var lines []string
	for _, s := range h.Stages {
		if s.Detail != "" {
			lines = append(lines, wrapped(harmless(s.label()+": "+s.Detail), width)...)
		}
	}
	return lines
}

// label names the stage, and of several copies in ClickHouse which one it is.
func (s *healthStage) label() string {
	name := s.Copy
	if of, ok := s.Facts["copy"].(string); ok {
		name = of
	}
	return strings.TrimSuffix(s.Name+" "+name, " ")
}

// shown are the facts that the label does not tell.
func (s *healthStage) shown() map[string]any {
	shown := maps.Clone(s.Facts)
	delete(shown, "copy")
	return shown
}

// since is since when a stage is not well, as far as the server knows.
func (s *healthStage) since(now time.Time) time.Time {
	if t := time.Time(s.Since); !t.IsZero() || s.Status == "ok" {
		return t
	}
	for _, name := range []string{"down_seconds", "refused_seconds", "lag_seconds"} {
		if lost, ok := s.Facts[name].(float64); ok && lost > 0 {
			return now.Add(-time.Duration(lost * float64(time.Second)))
		}
	}
	return time.Time{}
}

func healthStyle(status string) style {
	switch status {
	case "ok":
		return green
	case "degraded":
		return yellow
	}
	return red
}

// facts shows figures as name=value, by name; of several under one name as name.key=value.
func facts(m map[string]any) string {
	var parts []string
	for _, name := range slices.Sorted(maps.Keys(m)) {
		switch v := m[name].(type) {
		case nil:
		case float64:
			parts = append(parts, name+"="+strconv.FormatFloat(v, 'f', -1, 64))
		case map[string]any:
			under := map[string]any{}
			for key, value := range v {
				under[name+"."+key] = value
			}
			parts = append(parts, facts(under))
		default:
			parts = append(parts, fmt.Sprintf("%s=%v", name, v))
		}
	}
	return strings.Join(slices.DeleteFunc(parts, func(s string) bool { return s == "" }), " ")
}
