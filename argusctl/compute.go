package main

import (
	"context"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/spf13/cobra"
)

func newCmdCompute(f *factory) *cobra.Command {
	return newCmdNoun("compute", "Workers: what runs, and starting and ending it",
		"  argusctl compute list\n  argusctl compute launch --provider local --reason \"ride-along\"",
		newCmdComputeList(f), newCmdComputeLaunch(f), newCmdWorkerVerb(f, stopVerb), newCmdWorkerVerb(f, resumeVerb),
		newCmdWorkerVerb(f, terminateVerb))
}

// worker is an object of GET /compute/ops/workers.
type worker struct {
	ID            string    `json:"id"`
	Provider      string    `json:"provider"`
	State         string    `json:"state"`
	Orphan        bool      `json:"orphan"`
	Reason        string    `json:"reason"`
	LaunchedBy    string    `json:"launched_by"`
	LaunchedAt    time.Time `json:"launched_at"`
	UptimeSeconds float64   `json:"uptime_seconds"`
	CostPerHour   *float64  `json:"cost_per_hour"`
	ProviderRef   any       `json:"provider_ref"`
}

type computeListOptions struct{ all bool }

func newCmdComputeList(f *factory) *cobra.Command {
	o := &computeListOptions{}
	cmd := &cobra.Command{
		Use:     "list",
		Aliases: []string{"ls"},
		Short:   "List the workers",
		Example: "  argusctl compute list\n  argusctl compute list --all --output csv",
		Args:    atMost(0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			return f.whileRead(cmd.Context(), func(ctx context.Context) error { return computeListRun(ctx, f, o) })
		},
	}
	cmd.Flags().BoolVar(&o.all, "all", false, "terminated ones, too")
	return cmd
}

func computeListRun(ctx context.Context, f *factory, o *computeListOptions) error {
	c, err := f.client()
	if err != nil {
		return err
	}
	query := url.Values{}
	if o.all {
		query.Set("all", "true")
	}
	workers, err := list[worker](ctx, c, "/compute/ops/workers", query, "workers")
	if err != nil {
		return err
	}
	how, _ := f.format()
	if how == asJSON {
		for _, w := range workers {
			if err := f.jsonLine(w.raw); err != nil {
				return err
			}
		}
		return nil
	}
	if len(workers) == 0 && how != asCSV {
		f.notice("No workers.")
		return nil
	}
	t := &table{columns: []column{{head: "WORKER"}, {head: "PROVIDER"}, {head: "STATE"}, {head: "UPTIME", right: true, key: "uptime_seconds"},
		{head: "$/HR", right: true, key: "cost_per_hour", spare: true}, {head: "LAUNCHED BY", flex: true, min: 8, spare: true},
		{head: "REASON", flex: true, min: 8, spare: true}, {head: "LAUNCHED AT", wide: true}, {head: "ORPHAN", wide: true},
		{head: "PROVIDER REF", wide: true}}}
	for _, it := range workers {
		w := it.value
		cost := txt("")
		if w.CostPerHour != nil {
			s := fmt.Sprintf("%.2f", *w.CostPerHour)
			cost = val(s, fmt.Sprint(*w.CostPerHour))
		}
		uptime := time.Duration(w.UptimeSeconds * float64(time.Second))
		t.rows = append(t.rows, []cell{txt(w.ID), txt(w.Provider), w.state(), val(formatDuration(uptime), fmt.Sprint(w.UptimeSeconds)),
			cost, txt(w.LaunchedBy), txt(w.Reason), f.timeCell(w.LaunchedAt), txt(fmt.Sprint(w.Orphan)), txt(w.ref())})
	}
	return t.print(f, how)
}

func (w *worker) state() cell {
	if w.Orphan {
		return val(w.State+" orphan", w.State).in(yellow)
	}
	switch w.State {
	case "running":
		return txt(w.State).in(green)
	case "failed":
		return txt(w.State).in(red)
	case "stopped", "terminated":
		return txt(w.State).in(dim)
	}
	return txt(w.State).in(yellow)
}

type computeLaunchOptions struct {
	mutationOptions
	provider string
	reason   string
}

func newCmdComputeLaunch(f *factory) *cobra.Command {
	o := &computeLaunchOptions{}
	cmd := &cobra.Command{
		Use:     "launch",
		Short:   "Launch a worker",
		Long:    `Launches a worker and prints its id.`,
		Example: `  argusctl compute launch --provider local --reason "ride-along"`,
		Args:    atMost(0),
		RunE:    func(cmd *cobra.Command, _ []string) error { return computeLaunchRun(cmd.Context(), f, o) },
	}
	cmd.Flags().StringVar(&o.provider, "provider", "", "the `provider` to launch it with")
	_ = cmd.RegisterFlagCompletionFunc("provider", f.completeProviders)
	addReasonFlag(cmd, &o.reason, "why: a `text` of 3 to 500 characters")
	o.addFlags(cmd)
	return cmd
}

func computeLaunchRun(ctx context.Context, f *factory, o *computeLaunchOptions) error {
	if o.provider == "" {
		return usageErrorf("Give a --provider.")
	}
	if err := checkReason(o.reason); err != nil {
		return err
	}
	body := struct {
		Provider string `json:"provider"`
		Reason   string `json:"reason"`
	}{o.provider, o.reason}
	a, err := f.mutate(ctx, o.mutationOptions, http.MethodPost, "/compute/ops/launch", body)
	return f.printWorker(a, err)
}

// printWorker tells of a worker that was acted on, and prints its id, which is what a script goes on with.
func (f *factory) printWorker(a *answer, err error) error {
	if err != nil || a == nil {
		return err
	}
	w, err := decode[worker](a)
	if err != nil {
		return err
	}
	f.said(a, "Worker %s is %s.", w.ID, w.State)
	if how, _ := f.format(); how == asJSON {
		return f.jsonLine(a.body)
	}
	_, err = f.io.out.WriteString(harmless(w.ID) + "\n")
	return err
}

// ref shows what the provider knows the worker by.
func (w *worker) ref() string {
	if m, ok := w.ProviderRef.(map[string]any); ok {
		return facts(m)
	}
	return ""
}

// workerVerb is something done to a worker.
type workerVerb struct{ name, short, long string }

var (
	stopVerb      = workerVerb{"stop", "Stop a worker; it can be resumed", "Stops a worker. Its disk stays: it can be resumed."}
	resumeVerb    = workerVerb{"resume", "Resume a stopped worker", "Resumes a worker that was stopped."}
	terminateVerb = workerVerb{"terminate", "Terminate a worker: it and its disk are gone",
		"Terminates a worker. It and its disk are destroyed, which nothing undoes: it takes --yes, or on a terminal\nthe worker's id typed once more."}
)

type workerOptions struct {
	mutationOptions
	reason string
	yes    bool
}

func newCmdWorkerVerb(f *factory, verb workerVerb) *cobra.Command {
	o := &workerOptions{}
	destroys := verb == terminateVerb
	example := "  argusctl compute " + verb.name + ` $(argusctl compute list -o name | head -n 1) --reason "end of shift"`
	if destroys {
		example += " --yes"
	}
	cmd := &cobra.Command{
		Use:               verb.name + " <worker>",
		Short:             verb.short,
		Long:              verb.long,
		Example:           example,
		Args:              exactly("worker"),
		ValidArgsFunction: f.completeWorkers,
		RunE: func(cmd *cobra.Command, args []string) error {
			return workerRun(cmd.Context(), f, o, verb, args[0])
		},
	}
	addReasonFlag(cmd, &o.reason, "why: a `text` of 3 to 500 characters")
	if destroys {
		cmd.Flags().BoolVarP(&o.yes, "yes", "y", false, "do it without asking")
	}
	o.addFlags(cmd)
	return cmd
}

func workerRun(ctx context.Context, f *factory, o *workerOptions, verb workerVerb, id string) error {
	s, err := segment("worker id", id)
	if err != nil {
		return err
	}
	if err := checkReason(o.reason); err != nil {
		return err
	}
	if verb == terminateVerb && !o.yes && !o.dryRun {
		if err := f.confirm(fmt.Sprintf("Terminating %s destroys the worker and its disk.", strings.ToValidUTF8(id, "?")), id, "--yes"); err != nil {
			return err
		}
	}
	a, err := f.mutate(ctx, o.mutationOptions, http.MethodPost, "/compute/ops/workers/"+s+"/"+verb.name, reasonBody{o.reason})
	return f.printWorker(a, err)
}
