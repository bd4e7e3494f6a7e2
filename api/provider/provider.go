// Package provider is where workers run: the interface of a compute provider, its instances, and the providers.
//
// A worker is the api's: a row with a state and its steps. An instance is the provider's: what runs.
package provider

import (
	"context"
	"encoding/json"
	"time"
)

// Provider is a place where workers run. Implementations are safe for concurrent use, also by several API
// processes at once.
//
// An error of Launch, Stop, Resume or Terminate does not say that nothing happened. The caller then asks List what
// is true. Calls are bounded by their context.
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
	State       State           // Running or Stopped
	StartedAt   time.Time       //
	CostPerHour float64         // US dollars
	Ref         json.RawMessage // a JSON object by which the provider finds it again; shown to operators, so no secret
}

// State is where an instance stands.
type State string

const (
	Running State = "running"
	Stopped State = "stopped" // Resume continues it
)
