// Package sample is a small real service, as a fleet has them behind ARGUS. It keeps items in a file, streams events as they
// change, and is a controller of made-up instances. argusd dev runs it behind the door, so that the tour and tests have one to call. It
// serves no call that did not come through the door.
//
// It imports nothing of ARGUS, as a service would not. docs/services.md shows assertion.go as it is.
package sample

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"time"
)

// Release is what the service calls itself in X-Release.
const Release = "sample-1.4.2"

// Config is what a service is made of.
type Config struct {
	Dir      string // where items.json and instances.json are kept; it exists
	Issuer   string // ARGUS's public URL
	Upstream string // how ARGUS reaches this service: http://127.0.0.1:9000
}

// Item is what the service keeps.
type Item struct {
	ID        string    `json:"id"`
	Name      string    `json:"name"`
	State     string    `json:"state"` // in_stock or retired
	ChangedAt time.Time `json:"changed_at"`
	ChangedBy string    `json:"changed_by"`
	AuditID   string    `json:"audit_id"` // of the call that changed it
}

// Service is the items and their followers.
type Service struct {
	verifier *Verifier
	fleet    http.Handler
	file     string

	mu      sync.Mutex
	items   []Item
	changed chan struct{} // closed and replaced with each change
	last    Item          // the one that changed
}

// Open reads the service's state, and makes the first items of a new folder.
func Open(config Config) (*Service, error) {
	s := &Service{file: filepath.Join(config.Dir, "items.json"), changed: make(chan struct{}),
		verifier: &Verifier{Issuer: config.Issuer, Audience: "sample", Upstream: config.Upstream}}
	for i, name := range []string{"foo", "bar", "baz"} {
		s.items = append(s.items, Item{ID: strconv.Itoa(i + 1), Name: name, State: "in_stock", ChangedAt: time.Now().UTC(), ChangedBy: "make dev"})
	}
	if err := load(s.file, &s.items); err != nil {
		return nil, err
	}
	madeUp, err := OpenMadeUp(config.Dir)
	if err != nil {
		return nil, err
	}
	controller := &Controller{Verifier: &Verifier{Issuer: config.Issuer, Audience: "fleet", Upstream: config.Upstream}, Fleet: madeUp}
	s.fleet = controller.Handler("/fleet")
	return s, nil
}

// Handler serves the routes.
func (s *Service) Handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) {
		answer(w, http.StatusOK, map[string]string{"status": "ok"})
	})
	mux.Handle("/fleet/", s.fleet)
	mux.HandleFunc("GET /v1/items", s.checked(func(w http.ResponseWriter, _ *http.Request, _ []byte, _ *Claims) {
		s.mu.Lock()
		defer s.mu.Unlock()
		answer(w, http.StatusOK, map[string]any{"items": s.items})
	}))
	mux.HandleFunc("GET /v1/items/{id}", s.checked(func(w http.ResponseWriter, r *http.Request, _ []byte, _ *Claims) {
		s.mu.Lock()
		defer s.mu.Unlock()
		if item := s.find(r.PathValue("id")); item != nil {
			answer(w, http.StatusOK, item)
			return
		}
		reject(w, http.StatusNotFound, "no_such_item", "There is no item of this id.")
	}))
	mux.HandleFunc("POST /v1/items", s.checked(s.create))
	mux.HandleFunc("POST /v1/items/{id}/retire", s.checked(s.retire))
	mux.HandleFunc("GET /v1/events", s.checked(s.events))
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("X-Release", Release)
		mux.ServeHTTP(w, r)
	})
}

// checked serves only what came through ARGUS.
func (s *Service) checked(serve func(http.ResponseWriter, *http.Request, []byte, *Claims)) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, 1<<20))
		if err != nil {
			reject(w, http.StatusBadRequest, "bad_body", err.Error())
			return
		}
		claims, err := s.verifier.Verify(r, body)
		if err != nil {
			reject(w, http.StatusUnauthorized, "unauthenticated", err.Error())
			return
		}
		serve(w, r, body, claims)
	}
}

func (s *Service) find(id string) *Item {
	for i := range s.items {
		if s.items[i].ID == id {
			return &s.items[i]
		}
	}
	return nil
}

// maxItems bounds the file.
const maxItems = 1000

func (s *Service) create(w http.ResponseWriter, _ *http.Request, body []byte, claims *Claims) {
	var in struct {
		Name string `json:"name"`
	}
	if err := json.Unmarshal(body, &in); err != nil || strings.TrimSpace(in.Name) == "" || len(in.Name) > 100 {
		reject(w, http.StatusUnprocessableEntity, "no_name", "An item has a name of 1 to 100 bytes.")
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.items) >= maxItems {
		reject(w, http.StatusConflict, "full", fmt.Sprintf("There are %d items already.", maxItems))
		return
	}
	s.items = append(s.items, Item{ID: strconv.Itoa(len(s.items) + 1), Name: in.Name})
	s.change(w, http.StatusCreated, &s.items[len(s.items)-1], "in_stock", claims)
}

func (s *Service) retire(w http.ResponseWriter, r *http.Request, _ []byte, claims *Claims) {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch item := s.find(r.PathValue("id")); {
	case item == nil:
		reject(w, http.StatusNotFound, "no_such_item", "There is no item of this id.")
	case item.State == "retired":
		reject(w, http.StatusConflict, "retired", "The item is retired already.")
	default:
		s.change(w, http.StatusOK, item, "retired", claims)
	}
}

// change gives an item its new state, tells those who follow, and answers.
func (s *Service) change(w http.ResponseWriter, status int, item *Item, state string, claims *Claims) {
	item.State, item.ChangedAt, item.ChangedBy, item.AuditID = state, time.Now().UTC(), claims.Sub, claims.Jti
	if err := save(s.file, s.items); err != nil {
		reject(w, http.StatusInternalServerError, "not_saved", err.Error())
		return
	}
	s.last = *item
	close(s.changed)
	s.changed = make(chan struct{})
	answer(w, status, item)
}

// events follows the items until the caller goes away.
func (s *Service) events(w http.ResponseWriter, r *http.Request, _ []byte, _ *Claims) {
	w.Header().Set("Content-Type", "text/event-stream")
	control := http.NewResponseController(w)
	fmt.Fprint(w, ": following\n\n")
	s.mu.Lock()
	changed := s.changed
	s.mu.Unlock()
	ping := time.NewTicker(10 * time.Second)
	defer ping.Stop()
	for {
		if err := control.Flush(); err != nil {
			return
		}
		select {
		case <-r.Context().Done():
			return
		case <-ping.C:
			fmt.Fprint(w, ": ping\n\n")
		case <-changed:
			s.mu.Lock()
			item, _ := json.Marshal(s.last)
			changed = s.changed
			s.mu.Unlock()
			fmt.Fprintf(w, "event: item\ndata: %s\n\n", item)
		}
	}
}

// Serve serves until ctx ends.
func Serve(ctx context.Context, address string, handler http.Handler) error {
	server := &http.Server{Addr: address, Handler: handler, ReadHeaderTimeout: 10 * time.Second}
	served := make(chan error, 1)
	go func() { served <- server.ListenAndServe() }()
	select {
	case err := <-served:
		return err
	case <-ctx.Done():
	}
	end, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
	defer cancel()
	if err := server.Shutdown(end); err != nil {
		err = server.Close() // streams do not end by themselves
		<-served
		return err
	}
	if err := <-served; !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}

func answer(w http.ResponseWriter, status int, value any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(value)
}

func reject(w http.ResponseWriter, status int, code, message string) {
	answer(w, status, map[string]any{"error": map[string]string{"code": code, "message": message}})
}
