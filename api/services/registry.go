package services

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"log/slog"
	"maps"
	"os"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/useargus/argus"
)

// Config is what a Registry is made of.
type Config struct {
	Path string       // the services file; empty: no services
	Log  *slog.Logger // nil: slog.Default

	checkEvery  time.Duration // shortened by tests
	healthEvery time.Duration // shortened by tests
}

// Registry is what the services file declares now. It takes up a change whole or not at all: a call sees one state of the
// file from its beginning to its end.
type Registry struct {
	config  Config
	current atomic.Pointer[state]
	problem atomic.Pointer[Problem]

	mu    sync.Mutex        // serializes reloads
	read  map[string]string // the files that the last attempt read, by path: digest
	looks looks
	told  func(err error)
}

// state is what one reading of the file gave.
type state struct {
	file   *File
	loaded time.Time
	byName []*Running
	mounts []*Running // the longest mount first
}

// Running is a service as this process sends calls to it. It outlives reloads that do not change the service.
type Running struct {
	*Service
	client *client
	places *places

	releases releases
	health   atomic.Pointer[Health]
}

// Health is what the last look at a service's health path found.
type Health struct {
	Status    string    // ok, failing, or unknown: there is no health path, or it was not asked yet
	Detail    string    // why it is failing
	CheckedAt time.Time // zero when it was not asked yet
	Latency   time.Duration
}

// What a service's health can be.
const (
	HealthOK      = "ok"
	HealthFailing = "failing"
	HealthUnknown = "unknown"
)

// Problem is a change of the file that was not taken up.
type Problem struct {
	Err   error
	Since time.Time
}

// New reads the file and declares its scopes. Nothing runs before Run.
func New(config Config) (*Registry, error) {
	if config.Log == nil {
		config.Log = slog.Default()
	}
	if config.checkEvery == 0 {
		config.checkEvery = 2 * time.Second
	}
	if config.healthEvery == 0 {
		config.healthEvery = 10 * time.Second
	}
	f, names, err := load(config.Path)
	if err != nil {
		return nil, err
	}
	r := &Registry{config: config, read: names, looks: looks{}}
	r.current.Store(&state{})
	r.take(f)
	return r, nil
}

// File is the services file as it holds now.
func (r *Registry) File() *File { return r.current.Load().file }

// Services are those of the file, by name.
func (r *Registry) Services() []*Running { return slices.Clone(r.current.Load().byName) }

// Providers are those of the file, in its order.
func (r *Registry) Providers() []*Provider { return slices.Clone(r.current.Load().file.Providers) }

// Loaded is when the file that holds was read; Problem is the later change that was not taken up, nil when there is none.
func (r *Registry) Loaded() time.Time { return r.current.Load().loaded }

// Problem is a change of the file that was rejected whole, nil when there is none.
func (r *Registry) Problem() *Problem { return r.problem.Load() }

// LastHealth is what the last look found.
func (s *Running) LastHealth() Health {
	if h := s.health.Load(); h != nil {
		return *h
	}
	return Health{Status: HealthUnknown}
}

// UnderWay is how many calls the service has now.
func (s *Running) UnderWay() int { return s.places.taken() }

// Find tells what a call is for, by its method and its path as it was sent. It is nil when the path is under no mount.
func (r *Registry) Find(method, escapedPath string) *Match {
	for _, s := range r.current.Load().mounts {
		rest, ok := strings.CutPrefix(escapedPath, s.Mount)
		if !ok || rest != "" && rest[0] != '/' {
			continue
		}
		m := s.find(method, rest)
		m.Running = s
		return m
	}
	return nil
}

// OnReload has f told of each attempt to take up a changed file: nil, or why the old one stays. It is set once, before the
// first.
func (r *Registry) OnReload(f func(err error)) { r.told = f }

// Reload reads the file again. When anything in it is wrong, all that held before stays.
func (r *Registry) Reload() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	f, names, err := load(r.config.Path)
	r.read = names
	if err != nil {
		if old := r.problem.Load(); old == nil || old.Err.Error() != err.Error() {
			r.problem.Store(&Problem{err, time.Now()})
			r.config.Log.Error("the services file was not taken up; what held before stays", "file", r.config.Path, "cause", err)
		}
	} else {
		r.problem.Store(nil)
		r.take(f)
		r.config.Log.Info("the services file was taken up", "file", r.config.Path, "services", len(f.Services))
	}
	if r.told != nil {
		r.told(err)
	}
	return err
}

// take puts a file in the place of the one before. Services that did not change keep their connections, their calls
// under way and their health. Of the others the old connections drain: calls under way keep theirs to their end.
func (r *Registry) take(f *File) {
	old := r.current.Load()
	next := &state{file: f, loaded: time.Now()}
	kept := map[*Running]bool{}
	for _, s := range f.Services {
		i := slices.IndexFunc(old.byName, func(o *Running) bool { return o.Name == s.Name && o.digest == s.digest })
		if i >= 0 {
			kept[old.byName[i]] = true
			next.byName = append(next.byName, old.byName[i])
			continue
		}
		next.byName = append(next.byName, &Running{Service: s, client: newClient(s), places: newPlaces(s.Concurrency)})
	}
	slices.SortFunc(next.byName, func(a, b *Running) int { return strings.Compare(a.Name, b.Name) })
	next.mounts = slices.Clone(next.byName)
	slices.SortFunc(next.mounts, func(a, b *Running) int { return len(b.Mount) - len(a.Mount) })
	argus.DeclareScopes(f.Scopes()) // first: a route that can be called has a scope that exists
	r.current.Store(next)
	for _, s := range old.byName {
		if !kept[s] {
			s.client.retire()
		}
	}
}

// Watch reloads when the file changes, when a file that it names does, and when reload is sent to, until ctx ends. A change
// is taken up when two looks in a row find the same: a file that is written in place is cut off at first.
func (r *Registry) Watch(ctx context.Context, reload <-chan struct{}) {
	tick := time.NewTicker(r.config.checkEvery / 2)
	defer tick.Stop()
	seen := ""
	for {
		select {
		case <-ctx.Done():
			return
		case <-reload:
			_ = r.Reload()
			seen = ""
		case <-tick.C:
			seen = r.lookAfter(seen)
		}
	}
}

// lookAfter takes a change up when the look before saw the same, and returns what it saw.
func (r *Registry) lookAfter(seen string) string {
	now := r.changed()
	if now != "" && now == seen {
		_ = r.Reload()
		return ""
	}
	return now
}

// changed names the files that are others than when they were read last, for a reload that was rejected too, with the
// digests that they have now. It is empty when there is none.
func (r *Registry) changed() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	found := ""
	for _, path := range slices.Sorted(maps.Keys(r.read)) {
		if digest := r.looks.digest(path); digest != r.read[path] {
			found += path + " " + digest + "\n"
		}
	}
	return found
}

// looks remember the digests of files by what a look at their folder tells, so that a file is read only when it changed.
type looks map[string]look

type look struct {
	size     int64
	modified time.Time
	digest   string
}

// digest is that of a file's contents, "" when it cannot be read.
func (l looks) digest(path string) string {
	info, err := os.Stat(path)
	if err != nil {
		return ""
	}
	last, ok := l[path]
	if ok && last.size == info.Size() && last.modified.Equal(info.ModTime()) {
		return last.digest
	}
	last = look{size: info.Size(), modified: info.ModTime()}
	if data, err := readFile(path, maxDocument); err == nil {
		sum := sha256.Sum256(data)
		last.digest = hex.EncodeToString(sum[:])
	}
	l[path] = last
	return last.digest
}

// Close ends idle connections. Calls under way keep theirs.
func (r *Registry) Close() {
	for _, s := range r.current.Load().byName {
		s.client.retire()
	}
}
