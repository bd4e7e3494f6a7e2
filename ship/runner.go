package ship

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/useargus/argus/ship/format"
	"github.com/useargus/argus/ship/sink"
)

// runner is one sink, as this process has it.
type runner struct {
	ship        *Ship
	declaration *sink.Declaration
	opened
	format sink.Format
	filter string // as a query
	log    *slog.Logger

	paused      atomic.Bool
	backfilling atomic.Bool
	nudge       chan struct{} // closed, and made anew, when what a retry waits for may have changed
	mu          sync.Mutex
	status      status
	cancel      context.CancelFunc // nil while it stands by
	done        chan struct{}
}

func newRunner(s *Ship, d *sink.Declaration) (*runner, error) {
	f, err := format.Named(d.Format)
	if err != nil {
		return nil, err
	}
	parsed := d.Parsed()
	r := &runner{ship: s, declaration: d, format: f, filter: parsed.Query().Encode(), log: s.log.With("sink", d.Name), nudge: make(chan struct{})}
	if r.opened, err = open(d); err != nil {
		return nil, fmt.Errorf("the sink %s: %w", d.Name, err)
	}
	return r, nil
}

// start begins to ship, unless it does already, or is still ending.
func (r *runner) start(ctx context.Context, running *sync.WaitGroup) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.done != nil {
		select {
		case <-r.done:
		default:
			return
		}
	}
	ctx, r.cancel = context.WithCancel(ctx)
	done := make(chan struct{})
	r.done = done
	r.log.Info("shipping", "kind", r.declaration.Type(), "target", r.declaration.Target())
	running.Go(func() {
		defer close(done)
		r.run(ctx)
	})
}

// stop ends it, and does not wait.
func (r *runner) stop() {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.cancel != nil {
		r.cancel()
		r.cancel = nil
	}
}

func (r *runner) run(ctx context.Context) {
	r.ship.metrics.active.WithLabelValues(r.declaration.Name).Set(1)
	defer r.ship.metrics.active.WithLabelValues(r.declaration.Name).Set(0)
	r.begin()
	var beside sync.WaitGroup
	defer beside.Wait()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	beside.Go(func() { r.report(ctx) })
	beside.Go(func() { r.obey(ctx, &beside) })
	live := &stream{r: r, sink: r.Sink}
	live.keep(ctx)
}

// changed lets retries go on at once.
func (r *runner) changed() {
	r.mu.Lock()
	defer r.mu.Unlock()
	close(r.nudge)
	r.nudge = make(chan struct{})
}

// pause waits that long, or until something changed.
func (r *runner) pause(ctx context.Context, d time.Duration) error { return r.pauseFor(ctx, d, nil) }

// pauseFor waits for the notice as well.
func (r *runner) pauseFor(ctx context.Context, d time.Duration, told <-chan struct{}) error {
	r.mu.Lock()
	nudge := r.nudge
	r.mu.Unlock()
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
	case <-nudge:
	case <-told:
	case <-ctx.Done():
		return ctx.Err()
	}
	return nil
}

// keep runs the stream, from what Postgres says again after each failure, until ctx ends or the stream is through.
func (s *stream) keep(ctx context.Context) {
	pause := time.Duration(0)
	for {
		began := time.Now()
		err := s.run(ctx)
		if err == nil || ctx.Err() != nil {
			return
		}
		if time.Since(began) > 30*time.Second {
			pause = 0
		}
		pause = min(max(2*pause, 100*time.Millisecond), 5*time.Second)
		if errors.Is(err, errStopped) {
			pause = rest * s.r.ship.config.Poll // resuming ends it
		} else {
			s.r.failed(err, time.Now().Add(pause))
			s.r.ship.metrics.errors.WithLabelValues(s.r.declaration.Name).Inc()
			s.r.log.Error("shipping was interrupted; trying again", "stream", s.name, "error", err)
		}
		if s.r.pause(ctx, pause) != nil {
			return
		}
	}
}
