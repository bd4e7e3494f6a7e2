package api

import (
	"context"
	"encoding/json"
	"time"
)

// Provider is a place where workers run. Implementations are safe for concurrent use, also by several API
// processes at once.
//
// An error of Launch, Stop, Resume or Terminate does not say that nothing happened: whoever gets one asks
// List what is true. Calls are bounded by their context.
type Provider interface {
	// Name is the word operators write in "provider"; it never changes.
	Name() string

	// Launch starts a worker that carries workerID in such a way that List shows it even when the caller dies
	// before it hears the answer.
	Launch(ctx context.Context, workerID string) (Instance, error)

	// Stop suspends the instance so that Resume continues it.
	Stop(ctx context.Context, ref json.RawMessage) error
	Resume(ctx context.Context, ref json.RawMessage) error

	// Terminate destroys the instance; one that is gone already is no error.
	Terminate(ctx context.Context, ref json.RawMessage) error

	// List returns every instance that exists, also those that no worker row knows. A destroyed one is not
	// listed. It answers for all instances or fails.
	List(ctx context.Context) ([]Instance, error)
}

// Instance is one thing a provider runs.
type Instance struct {
	Handle      string          // the provider's own name for it: unique, never used for another, fit for a URL path
	WorkerID    string          // what it was launched as
	State       WorkerState     // WorkerRunning or WorkerStopped
	StartedAt   time.Time       //
	CostPerHour float64         // US dollars
	Ref         json.RawMessage // a JSON object by which the provider finds it again; shown to operators, so no secret
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
	listTimeout     = 5 * time.Second  // a question of somebody who only looks
)
