package analytics

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/useargus/argus"
	"github.com/useargus/argus/internal/audittest"
)

// follow collects what a follower gets until it has got want rows or one too many. When breaks says so of the number of rows
// that it has got, it resumes from the last position.
func follow(t *testing.T, a *Analytics, f argus.Filter, from *argus.Position, want int, breaks func(int) bool) []argus.Record {
	t.Helper()
	var got []argus.Record
	enough, broken := errors.New("enough"), errors.New("broken")
	for {
		err := a.Follow(ctx(t), argus.FollowRequest{Filter: f, From: from}, func(e argus.FollowEvent) error {
			p := e.Place.Position.Clone()
			from = &p
			if e.Record == nil {
				if len(got) >= want {
					return enough
				}
				return nil
			}
			if !p.Contains(e.Record.WriterID, e.Record.Seq) || p.Contains(e.Record.WriterID, e.Record.Seq+1) {
				return fmt.Errorf("row %d/%d came with the position %s", e.Record.WriterID, e.Record.Seq, p)
			}
			if got = append(got, *e.Record); len(got) > want {
				return enough
			}
			if breaks != nil && breaks(len(got)) {
				return broken
			}
			return nil
		})
		var behind argus.BehindError
		switch {
		case errors.Is(err, enough):
			return got
		case errors.As(err, &behind):
			from = &behind.Resume.Position
		case errors.Is(err, broken):
		default:
			t.Fatal(err)
		}
	}
}

// inOrder checks that got is want, each writer's rows by seq.
func inOrder(t *testing.T, what string, got, want []argus.Record) {
	t.Helper()
	last := map[int64]int64{}
	for i := range got {
		if got[i].Seq <= last[got[i].WriterID] {
			t.Fatalf("%s: %d/%d comes behind seq %d", what, got[i].WriterID, got[i].Seq, last[got[i].WriterID])
		}
		last[got[i].WriterID] = got[i].Seq
	}
	order := func(a, b argus.Record) int { return a.Compare(&b) }
	got, want = slices.Clone(got), slices.Clone(want)
	slices.SortFunc(got, order)
	slices.SortFunc(want, order)
	audittest.Same(t, what, got, want)
}

// Followers from any position, with any filter, get each row once and in order, while writers come and go, and
// however often they are cut off.
func TestFollowersSkipAndRepeatNothing(t *testing.T) {
	w := newWorld(t)
	a := w.analytics(func(c *Config) { c.ringSize = 64 })
	rng := rand.New(rand.NewPCG(5, 6))
	now := time.Now()
	batch := func() {
		records := make([]argus.Record, 1+rng.IntN(15))
		for i := range records {
			records[i] = randomRecord(rng, now)
		}
		open := slices.Sorted(maps.Keys(w.open))
		w.write(open[rng.IntN(len(open))], records...)
	}
	w.openWriter()
	var positions []argus.Position
	for range 20 {
		batch()
		positions = append(positions, w.now())
		if rng.IntN(3) == 0 {
			w.openWriter()
		}
		if open := slices.Sorted(maps.Keys(w.open)); len(open) > 2 {
			w.closeWriter(open[rng.IntN(len(open))])
		}
	}
	positions = append(positions, argus.Position{}, w.now())
	// What the rows will be is decided before anybody follows them.
	type plan struct {
		what   string
		filter argus.Filter
		from   argus.Position
		got    chan []argus.Record
	}
	var plans []plan
	for i := range 12 {
		p := plan{from: positions[len(positions)-1-i%6], got: make(chan []argus.Record, 1)}
		if i%2 == 1 {
			p.filter = randomFilter(t, rng, w.committed, now)
			p.filter.Since, p.filter.Until = time.Time{}, time.Time{}
		}
		p.what = fmt.Sprintf("%d: %s from %s", i, p.filter.Query().Encode(), p.from)
		plans = append(plans, p)
	}
	start := len(w.committed)
	future := make([][]argus.Record, 0)
	for range 25 {
		records := make([]argus.Record, 1+rng.IntN(15))
		for i := range records {
			records[i] = randomRecord(rng, now)
		}
		future = append(future, records)
	}
	expect := func(p plan) (n int) {
		for i := range w.committed[:start] {
			if r := &w.committed[i]; p.filter.Match(r) && !p.from.Contains(r.WriterID, r.Seq) {
				n++
			}
		}
		for _, records := range future {
			for i := range records {
				if p.filter.Match(&records[i]) {
					n++
				}
			}
		}
		return n
	}
	var all sync.WaitGroup
	for i, p := range plans {
		want, seed := expect(p), uint64(i)
		all.Go(func() {
			rng := rand.New(rand.NewPCG(seed, 0))
			p.got <- follow(t, a, p.filter, &p.from, want, func(int) bool { return rng.IntN(40) == 0 })
		})
	}
	for _, records := range future {
		open := slices.Sorted(maps.Keys(w.open))
		w.write(open[rng.IntN(len(open))], records...)
		if rng.IntN(5) == 0 {
			w.closeWriter(open[0])
			w.openWriter()
		}
	}
	all.Wait()
	for _, p := range plans {
		var want []argus.Record
		for i := range w.committed {
			if r := &w.committed[i]; p.filter.Match(r) && !p.from.Contains(r.WriterID, r.Seq) {
				want = append(want, *r)
			}
		}
		inOrder(t, p.what, <-p.got, want)
	}
}

// A position that the shared source has not reached yet: what it holds does not come again.
func TestFollowAheadOfTheSource(t *testing.T) {
	w := newWorld(t)
	a := w.analytics(func(c *Config) { c.pollEvery = 700 * time.Millisecond })
	rng := rand.New(rand.NewPCG(7, 8))
	id := w.openWriter()
	first, stop := context.WithCancel(ctx(t))
	started := make(chan struct{})
	done := make(chan error)
	go func() {
		var once sync.Once
		done <- a.Follow(first, argus.FollowRequest{}, func(argus.FollowEvent) error {
			once.Do(func() { close(started) })
			return nil
		})
	}()
	w.write(id, randomRecord(rng, time.Now()))
	<-started // the source stands here
	w.write(id, randomRecord(rng, time.Now()), randomRecord(rng, time.Now()))
	page, err := a.Search(ctx(t), argus.SearchRequest{})
	w.must(err)
	other := w.openWriter()
	w.write(other, randomRecord(rng, time.Now()))
	w.write(id, randomRecord(rng, time.Now()))
	got := follow(t, a, argus.Filter{}, &page.Snapshot.Position, 2, nil)
	inOrder(t, "behind a search", got, w.committed[len(w.committed)-2:])
	stop()
	if err := <-done; !errors.Is(err, context.Canceled) {
		t.Fatal(err)
	}
}

// A follower that takes its events too slowly is told where to go on, and misses nothing. No other follower notices.
func TestSlowFollowerIsToldWhereToResume(t *testing.T) {
	w := newWorld(t)
	a := w.analytics(func(c *Config) { c.ringSize = 8 })
	rng := rand.New(rand.NewPCG(9, 10))
	id := w.openWriter()
	start := w.now()
	first, blocked, release := make(chan struct{}), make(chan struct{}), make(chan struct{})
	var got []argus.Record
	done := make(chan error)
	go func() {
		done <- a.Follow(ctx(t), argus.FollowRequest{From: &start}, func(e argus.FollowEvent) error {
			if e.Record == nil {
				return nil
			}
			got = append(got, *e.Record)
			switch len(got) {
			case 1: // perhaps from Postgres, while he was catching up; from now on he reads the source
				close(first)
			case 2:
				close(blocked)
				<-release
			}
			return nil
		})
	}()
	quick := make(chan []argus.Record)
	go func() { quick <- follow(t, a, argus.Filter{}, &start, 61, nil) }()
	w.write(id, randomRecord(rng, time.Now()))
	<-first
	w.write(id, randomRecord(rng, time.Now()))
	<-blocked
	for range 59 {
		w.write(id, randomRecord(rng, time.Now()))
	}
	inOrder(t, "the quick one", <-quick, w.committed)
	close(release)
	err := <-done
	var behind argus.BehindError
	if !errors.As(err, &behind) || argus.CodeOf(err) != argus.CodeUnavailable {
		t.Fatalf("got %v", err)
	}
	got = append(got, follow(t, a, argus.Filter{}, &behind.Resume.Position, 61-len(got), nil)...)
	inOrder(t, "the slow one", got, w.committed)
}

// Hundreds of followers share one source, which ends with the last of them.
func TestManyFollowersShareOneSource(t *testing.T) {
	w := newWorld(t)
	a := w.analytics()
	rng := rand.New(rand.NewPCG(11, 12))
	id := w.openWriter()
	start := w.now()
	const followers, rows = 300, 100
	var all sync.WaitGroup
	results := make([][]argus.Record, followers)
	for i := range followers {
		all.Go(func() { results[i] = follow(t, a, argus.Filter{}, &start, rows, nil) })
	}
	for range rows / 10 {
		records := randomRecords(rng, 10, time.Now())
		w.write(id, records...)
	}
	all.Wait()
	for i := range results {
		inOrder(t, fmt.Sprint(i), results[i], w.committed)
	}
	a.live.done.Wait()
	if n := a.pg.quick.Stat().TotalConns(); n > 12 {
		t.Errorf("%d connections", n)
	}
}
