package analytics

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/useargus/argus"
)

// await waits for a condition that other goroutines bring about.
func await(t *testing.T, what string, is func() bool) {
	t.Helper()
	for deadline := time.Now().Add(time.Minute); !is(); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("in a minute there was no " + what)
		}
	}
}

// waiting is how many callers wait for the last flight of the only question.
func (s *sharing) waiting() (callers int, begun bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, f := range s.flying {
		return f.callers, f.begun
	}
	return 0, false
}

// Questions that come before an equal one reads its snapshot share its answer. Those that come later share the next one. All
// have every call that was committed before they came.
func TestEqualQuestionsShareAnAnswer(t *testing.T) {
	w := newWorld(t)
	now := time.Now()
	rng := rand.New(rand.NewPCG(51, 52))
	id := w.openWriter()
	w.write(id, randomRecords(rng, 300, now)...)
	w.replicate()
	early, counted, hold, held := make(chan struct{}), make(chan struct{}), make(chan struct{}), make(chan struct{})
	var answers, cuts, counts atomic.Int64
	a := w.analytics(func(c *Config) {
		c.now = func() time.Time { return now }
		c.onCompose = func(step string) {
			switch {
			case step == "watermark":
				answers.Add(1)
			case step == "counted" && counts.Add(1) == 1: // by ClickHouse, and the first is about to take its snapshot
				close(counted)
				<-early
			case step == "cut" && cuts.Add(1) == 1:
				close(held)
				<-hold
			}
		}
	})
	req := argus.PerfRequest{Filter: argus.Filter{Since: argus.Micros(now.AddDate(0, -11, 0)), Until: argus.Micros(now.Add(time.Hour))}}
	calls := func(res argus.PerfResult) (n int64) {
		for _, r := range res.Rows {
			n += r.Count + r.Interrupted
		}
		return n
	}
	// The newest rows are not counted by rollups, so no answer has to count again for them.
	fresh := func(n int) []argus.Record {
		records := randomRecords(rng, n, now)
		for i := range records {
			records[i].OccurredAt = argus.Micros(now)
		}
		return records
	}
	var all sync.WaitGroup
	ask := func(ctx context.Context, req argus.PerfRequest, want int64) {
		res, err := a.Perf(ctx, req)
		if err != nil || calls(res) != want {
			t.Errorf("%d calls, want %d, %v", calls(res), want, err)
		}
	}
	all.Go(func() { ask(ctx(t), req, 303) })
	<-counted
	w.write(id, fresh(3)...)
	for range 50 {
		all.Go(func() { ask(ctx(t), req, 303) })
	}
	await(t, "fifty who join", func() bool { n, begun := a.sharing.waiting(); return n == 51 && !begun })
	close(early)
	<-held
	w.write(id, fresh(7)...)
	for range 50 {
		all.Go(func() { ask(ctx(t), req, 310) })
	}
	await(t, "fifty who wait", func() bool { n, begun := a.sharing.waiting(); return n == 50 && !begun })
	other := req
	other.GroupBy = argus.GroupByMethod
	ask(ctx(t), other, 310) // another question does not wait
	close(hold)
	all.Wait()
	if n := answers.Load(); n != 3 {
		t.Errorf("%d answers to three questions that a hundred and two asked", n)
	}
	if n, _ := a.sharing.waiting(); n != 0 || len(a.sharing.flying) != 0 {
		t.Errorf("%d questions are kept", len(a.sharing.flying))
	}
}

// A caller that leaves ends no answer that another waits for. The last one that leaves does, also before it began. An error
// and a panic reach every caller.
func TestSharedAnswersEnd(t *testing.T) {
	var s sharing
	type result struct {
		n   int
		err any
	}
	start := func(ctx context.Context, f func(context.Context) (int, error)) chan result {
		out := make(chan result, 1)
		go func() {
			var r result
			defer func() {
				if p := recover(); p != nil {
					r.err = p
				}
				out <- r
			}()
			var err error
			if r.n, err = shared(ctx, &s, "n", 1, func(ctx context.Context, taken func()) (int, error) {
				taken()
				return f(ctx)
			}); err != nil {
				r.err = err
			}
		}()
		return out
	}
	hold := make(chan struct{})
	slow := func(n int) func(context.Context) (int, error) {
		return func(ctx context.Context) (int, error) {
			select {
			case <-hold:
				return n, nil
			case <-ctx.Done():
				return 0, ctx.Err()
			}
		}
	}
	never := func(context.Context) (int, error) { panic("none is left to hear it") }
	leaving, leave := context.WithCancel(context.Background())
	first := start(leaving, slow(1))
	await(t, "answer that has begun", func() bool { n, begun := s.waiting(); return n == 1 && begun })
	second := start(leaving, never)
	await(t, "answer that waits", func() bool { n, begun := s.waiting(); return n == 1 && !begun })
	leave()
	for _, r := range []result{<-first, <-second} {
		if err, is := r.err.(error); !is || !errors.Is(err, context.Canceled) {
			t.Errorf("%+v", r)
		}
	}
	await(t, "end of what none waits for", func() bool { n, _ := s.waiting(); return n == 0 })

	leaving, leave = context.WithCancel(context.Background())
	first = start(context.Background(), slow(1))
	await(t, "answer that has begun", func() bool { n, begun := s.waiting(); return n == 1 && begun })
	second = start(leaving, slow(2))
	await(t, "answer that waits", func() bool { n, begun := s.waiting(); return n == 1 && !begun })
	third := start(context.Background(), never) // joins the second
	await(t, "answer that two wait for", func() bool { n, begun := s.waiting(); return n == 2 && !begun })
	leave()
	<-second
	close(hold)
	if a, b := <-first, <-third; a != (result{n: 1}) || b != (result{n: 2}) {
		t.Errorf("%+v, %+v", a, b)
	}

	fault := fmt.Errorf("no answer")
	hold = make(chan struct{})
	for want, f := range map[any]func(context.Context) (int, error){
		fault:     func(context.Context) (int, error) { <-hold; return 0, fault },
		"a panic": func(context.Context) (int, error) { <-hold; panic("a panic") },
	} {
		first = start(context.Background(), slow(1))
		await(t, "answer that has begun", func() bool { n, begun := s.waiting(); return n == 1 && begun })
		second = start(context.Background(), f)
		await(t, "answer that waits", func() bool { n, begun := s.waiting(); return n == 1 && !begun })
		third = start(context.Background(), f)
		await(t, "answer that two wait for", func() bool { n, begun := s.waiting(); return n == 2 && !begun })
		close(hold)
		<-first
		if a, b := <-second, <-third; a.err != want || b.err != want {
			t.Errorf("%+v, %+v, want %v", a, b, want)
		}
		hold = make(chan struct{})
	}
}
