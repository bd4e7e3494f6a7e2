package api

import (
	"context"
	"crypto/rand"
	"encoding/base32"
	"encoding/json"
	"log/slog"
	"maps"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/useargus/argus"
)

// compute launches, stops, resumes and terminates workers, and keeps their rows true.
type compute struct {
	pool      *Pool
	log       *slog.Logger
	providers *providers
}

func (o *compute) routes() []route {
	return []route{
		{Method: http.MethodGet, Path: "/compute/ops/workers", Scope: argus.ScopeComputeRead, Handle: o.list},
		{Method: http.MethodPost, Path: "/compute/ops/launch", Scope: argus.ScopeComputeWrite, Effects: true, Handle: o.launch},
		{Method: http.MethodPost, Path: "/compute/ops/workers/:id/stop", Scope: argus.ScopeComputeWrite, Effects: true, Handle: o.change("stop")},
		{Method: http.MethodPost, Path: "/compute/ops/workers/:id/resume", Scope: argus.ScopeComputeWrite, Effects: true, Handle: o.change("resume")},
		{Method: http.MethodPost, Path: "/compute/ops/workers/:id/terminate", Scope: argus.ScopeComputeWrite, Effects: true, Handle: o.change("terminate")},
	}
}

// WorkerState is where a worker stands. States that end in -ing are wanted: a call asked, and what the provider
// made of it is not written down yet.
type WorkerState string

const (
	WorkerLaunching   WorkerState = "launching"
	WorkerRunning     WorkerState = "running"
	WorkerStopping    WorkerState = "stopping"
	WorkerStopped     WorkerState = "stopped"
	WorkerResuming    WorkerState = "resuming"
	WorkerTerminating WorkerState = "terminating"
	WorkerTerminated  WorkerState = "terminated" // final
	WorkerFailed      WorkerState = "failed"     // its launch failed; there is nothing at the provider
)

// How long a provider is waited for.
const (
	providerTimeout = 20 * time.Second // an action, or finding out what became of one
	listTimeout     = 5 * time.Second  // a question of a caller who only looks
)

// transition is what an action does to a worker: from one of these states, through the wanted one, to done.
type transition struct {
	from         []WorkerState
	wanted, done WorkerState
}

var transitions = map[string]transition{
	"launch":    {nil, WorkerLaunching, WorkerRunning},
	"stop":      {[]WorkerState{WorkerRunning}, WorkerStopping, WorkerStopped},
	"resume":    {[]WorkerState{WorkerStopped}, WorkerResuming, WorkerRunning},
	"terminate": {[]WorkerState{WorkerRunning, WorkerStopped, WorkerFailed}, WorkerTerminating, WorkerTerminated},
}

// workerJSON is a worker as the API shows it.
type workerJSON struct {
	ID            string          `json:"id"`
	Provider      string          `json:"provider"`
	State         WorkerState     `json:"state"`
	Orphan        bool            `json:"orphan"`
	Reason        *string         `json:"reason"`
	LaunchedBy    *string         `json:"launched_by"`
	LaunchedAt    argus.JSONTime  `json:"launched_at"`
	UptimeSeconds int64           `json:"uptime_seconds"`
	CostPerHour   float64         `json:"cost_per_hour"`
	Ref           json.RawMessage `json:"provider_ref"`
}

func (w *worker) json() workerJSON {
	return workerJSON{
		ID: w.ID, Provider: w.Provider, State: w.State, Orphan: w.Orphan, Reason: w.Reason, LaunchedBy: w.LaunchedBy,
		LaunchedAt: argus.JSONTime(w.LaunchedAt), UptimeSeconds: int64(w.Uptime), CostPerHour: w.CostPerHour, Ref: w.ref(),
	}
}

// list shows the workers, and the instances at the providers that no row knows.
func (o *compute) list(c *call) (answer, error) {
	var all bool
	switch v := c.Query().Get("all"); v {
	case "", "false":
	case "true":
		all = true
	default:
		return answer{}, argus.Errorf(argus.CodeInvalidParameter, "all is true or false, not %q.", argus.Text(v, 40))
	}
	// Providers first: an instance's row is always older than the instance.
	instances, err := o.instances(c.Context())
	if err != nil {
		o.log.Error("orphans may be missing", "cause", err)
	}
	ctx, cancel := context.WithTimeout(c.Context(), lookupTimeout)
	defer cancel()
	workers, err := listWorkers(ctx, o.pool, all)
	if err != nil {
		return answer{}, nothingHappened(err)
	}
	list := []workerJSON{}
	for i := range workers {
		list = append(list, workers[i].json())
	}
	orphans, err := o.orphans(ctx, instances)
	if err != nil {
		return answer{}, nothingHappened(err)
	}
	for _, orphan := range orphans {
		list = append(list, workerJSON{
			ID: orphan.Handle, Provider: orphan.provider, State: WorkerState(orphan.State), Orphan: true, LaunchedAt: argus.JSONTime(argus.Micros(orphan.StartedAt)),
			UptimeSeconds: int64(max(0, time.Since(orphan.StartedAt).Seconds())), CostPerHour: orphan.CostPerHour, Ref: orphan.Ref,
		})
	}
	return reply(struct {
		Workers []workerJSON `json:"workers"`
	}{list})
}

// launch starts a worker.
func (o *compute) launch(c *call) (answer, error) {
	var body struct {
		Provider string `json:"provider"`
		Reason   string `json:"reason"`
	}
	if err := c.Bind(&body); err != nil {
		return answer{}, err
	}
	reason, err := argus.Reason(body.Reason)
	if err != nil {
		return answer{}, err
	}
	if o.providers.named(body.Provider) == nil {
		return answer{}, o.unknownProvider(body.Provider)
	}
	id := newWorkerID()
	var w worker
	err = c.InTx(func(ctx context.Context, tx Tx) error {
		w, err = insertLaunching(ctx, tx, id, body.Provider, c.Actor.ID, reason, c.Record.ID)
		if err != nil {
			return err
		}
		return addComputeStep(ctx, tx, computeStep{stepBy: c.takes(), AuditID: c.Record.ID, Action: "launch", WorkerID: w.ID,
			Provider: w.Provider, Reason: reason, To: WorkerLaunching, Result: resultRequested})
	})
	if err != nil {
		return answer{}, err
	}
	return o.carryOut(c, w)
}

// change stops, resumes or terminates a worker.
func (o *compute) change(action string) func(*call) (answer, error) {
	return func(c *call) (answer, error) {
		var body struct {
			Reason string `json:"reason"`
		}
		if err := c.Bind(&body); err != nil {
			return answer{}, err
		}
		reason, err := argus.Reason(body.Reason)
		if err != nil {
			return answer{}, err
		}
		id := c.Param("id")
		orphan, err := o.findOrphan(c, id)
		if err != nil {
			return answer{}, err
		}
		var w worker
		var denied *argus.Error
		err = c.InTx(func(ctx context.Context, tx Tx) error {
			w, denied, err = o.wantChange(ctx, tx, c, id, action, reason, orphan)
			return err
		})
		if err != nil {
			return answer{}, err
		}
		if denied != nil {
			return answer{}, denied
		}
		return o.carryOut(c, w)
	}
}

// wantChange writes down what is wanted of a worker, or that it was denied.
func (o *compute) wantChange(ctx context.Context, tx Tx, c *call, id, action, reason string, orphan *foundOrphan) (worker, *argus.Error, error) {
	t := transitions[action]
	step := computeStep{stepBy: c.takes(), AuditID: c.Record.ID, Action: action, WorkerID: id, Reason: reason}
	var w worker
	var ok bool
	var err error
	if orphan != nil && action == "terminate" {
		w, ok, err = insertOrphan(ctx, tx, orphan.provider, orphan.Instance, reason, c.Record.ID)
		if err == nil && ok {
			step.Provider, step.From, step.To, step.Result = w.Provider, WorkerState(orphan.State), t.wanted, resultRequested
			return w, nil, addComputeStep(ctx, tx, step)
		}
	}
	if err == nil {
		w, ok, err = lockWorker(ctx, tx, id)
	}
	if err != nil {
		return w, nil, err
	}
	var denied *argus.Error
	switch {
	case !ok && orphan == nil:
		return w, nil, unknownWorker()
	case !ok && action != "terminate":
		step.Provider, step.From = orphan.provider, WorkerState(orphan.State)
		denied = argus.Errorf(argus.CodeConflict, "Worker %s is an orphan: it can only be terminated.", id)
	case !ok:
		step.Provider, step.From = orphan.provider, WorkerState(orphan.State)
		denied = argus.Errorf(argus.CodeConflict, "Worker %s is in another worker's hands by now. List the workers again.", id)
	case w.Orphan && action != "terminate":
		denied = argus.Errorf(argus.CodeConflict, "Worker %s is an orphan: it can only be terminated.", id)
	case !slices.Contains(t.from, w.State):
		denied = argus.Errorf(argus.CodeConflict, "Worker %s is %s; %s needs one that is %s.", id, w.State, action, orList(t.from))
	case o.providers.named(w.Provider) == nil:
		denied = argus.Errorf(argus.CodeConflict, "Worker %s runs at the provider %s, which this server is not configured for.", id, w.Provider)
	}
	if ok {
		step.Provider, step.From = w.Provider, w.State
	}
	if denied != nil {
		step.Result, step.Error = resultDenied, denied.Error()
		if err := c.releaseKey(ctx, tx); err != nil {
			return w, nil, err
		}
		return w, denied, addComputeStep(ctx, tx, step)
	}
	if w, err = wantWorker(ctx, tx, id, t.wanted, action, reason, c.Record.ID); err != nil {
		return w, nil, err
	}
	step.To, step.Result = t.wanted, resultRequested
	return w, nil, addComputeStep(ctx, tx, step)
}

// newWorkerID makes an id that is never used twice: 60 random bits, easy to read aloud.
func newWorkerID() string {
	var b [8]byte
	rand.Read(b[:]) // never fails
	const crockford = "0123456789abcdefghjkmnpqrstvwxyz"
	return "wk_" + base32.NewEncoding(crockford).EncodeToString(b[:])[:12]
}

func unknownWorker() error {
	return argus.Errorf(argus.CodeNotFound, "There is no worker of this id. List the workers for their ids.")
}

func (o *compute) unknownProvider(name string) error {
	known := slices.Sorted(maps.Keys(o.providers.all()))
	if len(known) == 0 {
		return argus.Errorf(argus.CodeInvalidParameter, "This server is configured for no compute provider. Its administrator can add one.")
	}
	return argus.Errorf(argus.CodeInvalidParameter, "There is no provider %q here; there is %s.", argus.Text(name, 64), strings.Join(known, ", "))
}

func orList(states []WorkerState) string {
	words := make([]string, len(states))
	for i, s := range states {
		words[i] = string(s)
	}
	return strings.Join(words, " or ")
}

// stepOf is the step that ends an operation.
func stepOf(w *worker, op operation, by stepBy) computeStep {
	s := computeStep{stepBy: by, AuditID: op.AuditID, Action: op.Action, WorkerID: w.ID, Provider: w.Provider, From: w.State}
	if op.Reason != nil {
		s.Reason = *op.Reason
	}
	return s
}
