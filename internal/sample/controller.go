package sample

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"
)

// Instance is one thing that a fleet runs, as docs/provider.openapi.yaml has it.
type Instance struct {
	Handle      string         `json:"handle"`
	WorkerID    string         `json:"worker_id"`
	State       string         `json:"state"` // running or stopped
	StartedAt   time.Time      `json:"started_at"`
	CostPerHour float64        `json:"cost_per_hour"`
	Detail      map[string]any `json:"detail,omitempty"`
}

// Fleet is what a Controller drives. An unknown handle is ErrUnknown.
type Fleet interface {
	// Launch returns the instance of the worker, a new one only when there is none.
	Launch(ctx context.Context, workerID string) (Instance, error)
	SetState(ctx context.Context, handle, state string) (Instance, error)
	Terminate(ctx context.Context, handle string) error
	List(ctx context.Context) ([]Instance, error)
}

// ErrUnknown says that there is no instance of a handle.
var ErrUnknown = errors.New("there is no instance of this handle")

// Controller is a fleet's controller: the four routes by which ARGUS runs workers.
type Controller struct {
	Verifier *Verifier // nil: every request is served, as a careless controller would
	Fleet    Fleet
}

// Handler serves the routes below prefix, "" for none.
func (c *Controller) Handler(prefix string) http.Handler {
	mux := http.NewServeMux()
	route := func(pattern string, do func(r *http.Request, body []byte) (any, error)) {
		method, path, _ := strings.Cut(pattern, " ")
		mux.HandleFunc(method+" "+prefix+path, func(w http.ResponseWriter, r *http.Request) {
			body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, 64<<10))
			if err == nil && c.Verifier != nil {
				_, err = c.Verifier.Verify(r, body)
			}
			if err != nil {
				reject(w, http.StatusUnauthorized, "unauthenticated", err.Error())
				return
			}
			value, err := do(r, body)
			switch {
			case errors.Is(err, ErrUnknown):
				reject(w, http.StatusNotFound, "unknown_instance", err.Error())
			case err != nil:
				reject(w, http.StatusInternalServerError, "failed", err.Error())
			default:
				answer(w, http.StatusOK, value)
			}
		})
	}
	state := func(to string) func(r *http.Request, _ []byte) (any, error) {
		return func(r *http.Request, _ []byte) (any, error) {
			return c.Fleet.SetState(r.Context(), r.PathValue("handle"), to)
		}
	}
	route("GET /instances", func(r *http.Request, _ []byte) (any, error) {
		all, err := c.Fleet.List(r.Context())
		if all == nil {
			all = []Instance{}
		}
		return map[string]any{"instances": all}, err
	})
	route("POST /instances", func(r *http.Request, body []byte) (any, error) {
		var in struct {
			WorkerID string `json:"worker_id"`
		}
		if err := json.Unmarshal(body, &in); err != nil || in.WorkerID == "" {
			return nil, errors.New("worker_id is missing")
		}
		return c.Fleet.Launch(context.WithoutCancel(r.Context()), in.WorkerID) // carried through, also when the caller hung up
	})
	route("POST /instances/{handle}/stop", state("stopped"))
	route("POST /instances/{handle}/resume", state("running"))
	route("DELETE /instances/{handle}", func(r *http.Request, _ []byte) (any, error) {
		return struct{}{}, c.Fleet.Terminate(r.Context(), r.PathValue("handle"))
	})
	return mux
}

// MadeUp is a fleet that runs nothing: a list in a file.
type MadeUp struct {
	file string
	mu   sync.Mutex
	list []Instance
	next int
}

// OpenMadeUp reads the fleet of a folder.
func OpenMadeUp(dir string) (*MadeUp, error) {
	m := &MadeUp{file: filepath.Join(dir, "instances.json")}
	return m, load(m.file, &m.list)
}

// Launch implements Fleet.
func (m *MadeUp) Launch(_ context.Context, workerID string) (Instance, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, in := range m.list {
		if in.WorkerID == workerID {
			return in, nil
		}
	}
	m.next++
	in := Instance{Handle: fmt.Sprintf("i-%d-%d", time.Now().UnixMilli(), m.next), WorkerID: workerID, State: "running",
		StartedAt: time.Now().UTC(), CostPerHour: 0.25, Detail: map[string]any{"zone": "made-up-1"}}
	m.list = append(m.list, in)
	return in, save(m.file, m.list)
}

// SetState implements Fleet.
func (m *MadeUp) SetState(_ context.Context, handle, state string) (Instance, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for i := range m.list {
		if m.list[i].Handle == handle {
			m.list[i].State = state
			return m.list[i], save(m.file, m.list)
		}
	}
	return Instance{}, ErrUnknown
}

// Terminate implements Fleet.
func (m *MadeUp) Terminate(_ context.Context, handle string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	for i := range m.list {
		if m.list[i].Handle == handle {
			m.list = append(m.list[:i], m.list[i+1:]...)
			return save(m.file, m.list)
		}
	}
	return ErrUnknown
}

// List implements Fleet.
func (m *MadeUp) List(context.Context) ([]Instance, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return append([]Instance{}, m.list...), nil
}

// load reads a file of JSON; one that is not there leaves v as it is.
func load(file string, v any) error {
	data, err := os.ReadFile(file)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	return json.Unmarshal(data, v)
}

// save replaces a file of JSON.
func save(file string, v any) error {
	data, err := json.MarshalIndent(v, "", "  ")
	if err != nil {
		return err
	}
	if err := os.WriteFile(file+".new", append(data, '\n'), 0o600); err != nil {
		return err
	}
	return os.Rename(file+".new", file)
}
