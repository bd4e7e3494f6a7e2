package services

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"
)

// fill takes pieces until there are no more, and returns how much that was.
func fill(s Share) (taken int64) {
	for s.take(chunk) {
		taken += chunk
	}
	return taken
}

// TestMemoryShares: neither a person nor a service, nor many of them, hold all of the memory.
func TestMemoryShares(t *testing.T) {
	const useful = int64(8 << 20) // the default answer_limit
	m := NewMemory(HeldMemory)
	for _, first := range []int64{1, chunk, int64(held) + 1 + int64(maxBody)} {
		s := m.Share("billing", "ada")
		if !s.take(first) {
			t.Errorf("a call alone may not hold %d bytes", first)
		}
		s.give(first)
	}
	held := map[Share]int64{}
	hog := func(service, person string) int64 {
		s := m.Share(service, person)
		n := fill(s)
		held[s] += n
		return n
	}
	if hog("billing", "ada"); hog("deploys", "ada") > chunk {
		t.Error("one person has a share of its own at each service")
	}
	if n := hog("billing", "sam"); n < useful {
		t.Errorf("beside one person another has %d bytes at the same service", n)
	}
	for n := range 20 { // many persons together
		hog("billing", fmt.Sprint("someone", n))
	}
	if n := hog("deploys", "kim"); n < useful {
		t.Errorf("beside one service another has %d bytes", n)
	}
	for n := range 3 {
		if hog(fmt.Sprint("slow", n), fmt.Sprint("caller", n)) == 0 {
			t.Errorf("nothing is left for the service slow%d", n)
		}
	}
	if used := m.Used(); used > HeldMemory {
		t.Errorf("%d bytes are held", used)
	}
	for s, n := range held {
		s.give(n)
	}
	if m.Used() != 0 || len(m.services) != 0 || len(m.persons) != 0 {
		t.Errorf("%d bytes are held still, %v, %v", m.Used(), m.services, m.persons)
	}
}

// TestMemorySharesAtOnce: many calls at once never hold more than there is, and give all back.
func TestMemorySharesAtOnce(t *testing.T) {
	m := NewMemory(1 << 20)
	var all sync.WaitGroup
	for n := range 32 {
		all.Go(func() {
			s := m.Share(fmt.Sprint("service", n%3), fmt.Sprint("person", n%7))
			for range 50 {
				n := fill(s)
				if used := m.Used(); used > 1<<20 {
					t.Errorf("%d bytes are held", used)
				}
				s.give(n)
			}
		})
	}
	all.Wait()
	if m.Used() != 0 || len(m.services)+len(m.persons) != 0 {
		t.Errorf("%d bytes are held still", m.Used())
	}
}

// TestReleases: a service that names another release in each answer has a bounded number in the log.
func TestReleases(t *testing.T) {
	var r releases
	now, seen := time.Now(), map[string]bool{}
	for n := range 10_000 {
		seen[r.name(fmt.Sprintf("%d%s", n, strings.Repeat("x", 100)), now)] = true
	}
	if len(seen) != maxReleases+1 || !seen[OtherRelease] || len(r.last) != maxReleases {
		t.Errorf("%d releases", len(seen))
	}
	if r.name("", now) != "" {
		t.Error("no release is one")
	}
	first := "0" + strings.Repeat("x", 63)
	if got := r.name(first, now); got != first {
		t.Errorf("a known release is %q", got)
	}
	// An hour later those that are not named any more make room.
	now = now.Add(releaseIdle - time.Second)
	r.name(first, now)
	now = now.Add(time.Second)
	for _, release := range []string{"2.0", first, "2.1"} {
		if got := r.name(release, now); got != release {
			t.Errorf("%q is %q", release, got)
		}
	}
}

// TestHalfWrittenFile: what an editor or a script leaves behind for a moment, or for good, takes no service away. A list
// without services does.
func TestHalfWrittenFile(t *testing.T) {
	dir := t.TempDir()
	write(t, dir, "billing.openapi.yaml", billingDocument)
	path := write(t, dir, "services.yaml", billing)
	r, err := New(Config{Path: path, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	for _, text := range []string{"", "\n", "# services:\n", "---\n", "null\n", "services:\n", "{}\n", billing[:len(billing)/2], "\x00\x00\x00"} {
		write(t, dir, "services.yaml", text)
		if err := r.Reload(); err == nil || r.Problem() == nil || len(r.Services()) != 1 {
			t.Errorf("%q: %v, %d services", text, err, len(r.Services()))
		}
	}
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	if err := r.Reload(); err == nil || len(r.Services()) != 1 {
		t.Errorf("a file that is gone: %v, %d services", err, len(r.Services()))
	}
	write(t, dir, "services.yaml", "services: []\n")
	if err := r.Reload(); err != nil || r.Problem() != nil || len(r.Services()) != 0 {
		t.Errorf("an empty list: %v, %d services", err, len(r.Services()))
	}
}

// TestHalfWrittenFileIsNotSeen: a part of a file that is a good file by itself is not taken up while it grows.
func TestHalfWrittenFileIsNotSeen(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "services.yaml")
	one := func(name string) string {
		return fmt.Sprintf("  - name: %s\n    upstream: http://127.0.0.1:1\n    scopes: {\"%[1]s:read\": Look}\n    routes: [{route: \"GET /\", scope: \"%[1]s:read\"}]\n", name)
	}
	write(t, dir, "services.yaml", "services:\n"+one("a")+one("b"))
	r, err := New(Config{Path: path, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	text, seen := "services:\n", ""
	for n := range 4 {
		text += one(fmt.Sprint("grown", n))
		write(t, dir, "services.yaml", text)
		if seen = r.lookAfter(seen); len(r.Services()) != 2 {
			t.Fatalf("a part of the file was taken up: %d services", len(r.Services()))
		}
	}
	if seen = r.lookAfter(seen); seen != "" || len(r.Services()) != 4 {
		t.Errorf("a file that grows no more: %d services", len(r.Services()))
	}
	// A file that is there again as it was is no change.
	write(t, dir, "services.yaml", "services:\n")
	seen = r.lookAfter(seen)
	write(t, dir, "services.yaml", text+"#")
	write(t, dir, "services.yaml", text)
	if seen = r.lookAfter(seen); seen != "" || r.Problem() != nil || len(r.Services()) != 4 {
		t.Errorf("%q, %v, %d services", seen, r.Problem(), len(r.Services()))
	}
}

// TestReloadWhenTold: a reload that is asked for is made at once, without a look.
func TestReloadWhenTold(t *testing.T) {
	dir := t.TempDir()
	write(t, dir, "billing.openapi.yaml", billingDocument)
	r, err := New(Config{Path: write(t, dir, "services.yaml", billing), Log: slog.New(slog.DiscardHandler), checkEvery: time.Hour})
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	told, reload := make(chan error), make(chan struct{}, 1)
	r.OnReload(func(err error) { told <- err })
	ctx, cancel := context.WithCancel(t.Context())
	var watching sync.WaitGroup
	watching.Go(func() { r.Watch(ctx, reload) })
	for _, want := range []struct {
		text     string
		services int
		wrong    bool
	}{{"services: []\n", 0, false}, {"services: nothing\n", 0, true}, {billing, 1, false}, {"", 1, true}} {
		write(t, dir, "services.yaml", want.text)
		reload <- struct{}{}
		if err := <-told; (err != nil) != want.wrong || (r.Problem() != nil) != want.wrong || len(r.Services()) != want.services {
			t.Errorf("%.30q: %v, %d services", want.text, err, len(r.Services()))
		}
	}
	cancel()
	watching.Wait()
}
