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

With --check the exit code is 9 unless all is well. When the server can answer no call, since Postgres is away, it
still tells which part is down and since when. The exit code is 3 then.`,
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
}

type healthStage struct {
	argus.Stage
	Since argus.JSONTime `json:"since"` // of an outage alone
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
		if e := (*apiError)(nil); how != asJSON && errors.As(err, &e) && e.Health != nil {
			return errors.Join(err, e.Health.outage(f).print(f, how))
		}
		return err
	}
	if how == asJSON {
		err = f.jsonLine(a.body)
	} else {
		if how != asCSV {
			f.notice("%s is %s, version %s", c.base.Host, h.Status, h.Version)
		}
		err = h.table().print(f, how)
	}
	if err == nil && o.check && h.Status != "ok" {
		return errNegative
	}
	return err
}

func (h *health) table() *table {
	t := &table{columns: []column{{head: "STAGE"}, {head: "STATUS"}, {head: "DETAIL", flex: true, min: 12}, {head: "FACTS", flex: true, min: 10, spare: true}}}
	for _, s := range h.Stages {
		t.rows = append(t.rows, []cell{txt(s.Name), txt(s.Status).in(healthStyle(s.Status)), txt(s.Detail), txt(facts(s.Facts))})
	}
	return t
}

// outage is the table of a server that can answer no call: which part, and since when.
func (h *health) outage(f *factory) *table {
	t := &table{columns: []column{{head: "STAGE"}, {head: "STATUS"}, {head: "SINCE"}}}
	for _, s := range h.Stages {
		t.rows = append(t.rows, []cell{txt(s.Name), txt(s.Status).in(healthStyle(s.Status)), f.timeCell(time.Time(s.Since))})
	}
	return t
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

// facts shows figures as name=value, by name.
func facts(m map[string]any) string {
	var parts []string
	for _, name := range slices.Sorted(maps.Keys(m)) {
		switch v := m[name].(type) {
		case nil:
		case float64:
			parts = append(parts, name+"="+strconv.FormatFloat(v, 'f', -1, 64))
		default:
			parts = append(parts, fmt.Sprintf("%s=%v", name, v))
		}
	}
	return strings.Join(parts, " ")
}
