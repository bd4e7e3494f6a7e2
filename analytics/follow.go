package analytics

import (
	"cmp"
	"context"
	"slices"
	"time"

	"github.com/useargus/argus"
)

// heartbeatEvery is how often a follower hears of a position that moved past rows his filter leaves out.
const heartbeatEvery = time.Second

// Follow calls emit for each row of the filter that is not in req.From, in order of arrival. Without req.From it
// begins with the rows that are not committed yet. It also calls emit every second for a position that moved
// otherwise. Records and positions given to emit are shared: they must not be changed. It returns when ctx ends, with
// emit's error, with an argus.BehindError when emit took longer than the source keeps rows, or with CodeUnavailable.
//
// Nothing is skipped or repeated. Rows between req.From and the shared source's position, when the follower joins it,
// are read from Postgres. Then come the source's own rows. Rows that req.From already holds are left out, since it
// may be ahead of the source.
func (a *Analytics) Follow(ctx context.Context, req argus.FollowRequest, emit func(argus.FollowEvent) error) (err error) {
	f := follower{a: a, filter: req.Filter, emit: emit}
	if req.From != nil {
		f.at = at(req.From.Clone())
	} else {
		c, err := a.readCut(ctx, everything, nil)
		if err != nil {
			return postgresFailure(ctx, err)
		}
		f.at = at(c.Snapshot)
	}
	if f.live, err = a.live.join(ctx); err != nil {
		return err
	}
	defer f.live.leave()
	a.metrics.followers.Inc()
	defer a.metrics.followers.Dec()
	return f.run(ctx)
}

type follower struct {
	a       *Analytics
	live    *liveRun
	filter  argus.Filter
	emit    func(argus.FollowEvent) error
	at      *mark     // everything up to it was given, or left out by the filter
	bounded bool      // at was compared with what Postgres has
	told    time.Time // when emit was last called
	moved   bool      // at moved since
}

func (f *follower) run(ctx context.Context) error {
	f.told = time.Now()
	next, ahead, err := f.catchUp(ctx)
	if err != nil {
		return err
	}
	heartbeat := time.NewTicker(heartbeatEvery)
	defer heartbeat.Stop()
	buf := make([]liveEntry, 64)
	version := int64(-1)
	for {
		n, state, ok, err := f.live.read(next, buf)
		if err != nil {
			return err
		}
		if !ok {
			f.a.metrics.behind.Inc()
			place, err := f.at.place(f.a.config.CursorKey)
			if err != nil {
				return err
			}
			return argus.BehindError{Resume: place}
		}
		for _, e := range buf[:n] {
			if ahead.Contains(e.record.WriterID, e.record.Seq) {
				continue
			}
			f.moveTo(e.at, &ahead)
			if f.filter.Match(e.record) {
				if err := f.give(e.record); err != nil {
					return err
				}
			}
			if ctx.Err() != nil {
				return ctx.Err()
			}
		}
		next += int64(n)
		if n > 0 {
			continue
		}
		if state.version != version {
			f.moveTo(state.at, &ahead)
			version = state.version
		}
		select {
		case <-state.moved:
		case <-heartbeat.C:
			if err := f.beat(); err != nil {
				return err
			}
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// walkWriters is how many writers are caught up with at once. Each is named in the positions given meanwhile.
const walkWriters = 64

// catchUp gives the rows between the follower's position and the source's. It returns the number of the source's
// entry to go on with, and what the follower has seen of the rows from there on (the zero position: nothing).
func (f *follower) catchUp(ctx context.Context) (next int64, ahead argus.Position, err error) {
	for {
		next, target := f.live.now()
		c, err := f.a.readCut(ctx, f.at.Position, &target.Position)
		if err != nil {
			return 0, ahead, postgresFailure(ctx, err)
		}
		if !f.bounded {
			f.at, f.bounded = at(c.within(f.at.Position)), true
		}
		slices.SortFunc(c.Tail, func(x, y seqRange) int { return cmp.Compare(x.Writer, y.Writer) })
		for some := range slices.Chunk(c.Tail, walkWriters) {
			if err := f.walk(ctx, some); err != nil {
				return 0, ahead, err
			}
			f.completeThrough(some[len(some)-1].Writer, target.Position)
		}
		if !target.Covers(f.at.Position) {
			ahead = f.at.Position
		}
		f.moveTo(target, &ahead)
		// Catching up may have taken longer than the source keeps rows: then once more from here.
		if f.live.has(next) {
			return next, ahead, nil
		}
	}
}

// walk gives the rows of the ranges.
func (f *follower) walk(ctx context.Context, some seqRanges) error {
	w := f.a.clamp(window{f.filter.Since, f.filter.Until})
	walk := newWalk(f.a, f.at, some, f.filter.Conditions, w)
	for {
		entries, err := walk.next(ctx)
		if err != nil {
			return postgresFailure(ctx, err)
		}
		for _, e := range entries {
			f.at = e.at
			if err := f.give(e.record); err != nil {
				return err
			}
		}
		f.at, f.moved = walk.at, true
		if err := f.beat(); err != nil {
			return err
		}
		if entries == nil {
			return nil
		}
	}
}

// completeThrough says the same as the follower's position in fewer words. All rows of target by writers up to this
// one were given. So the position need name only those of them that target names.
func (f *follower) completeThrough(writer int64, target argus.Position) {
	if writer <= f.at.ClosedThrough || writer > target.ClosedThrough {
		return
	}
	p := argus.Position{ClosedThrough: writer, Writers: map[int64]int64{}}
	for w, seq := range f.at.Writers {
		if _, listed := target.Writers[w]; listed || w > writer {
			p.Writers[w] = seq
		}
	}
	for w, seq := range target.Writers {
		if _, listed := p.Writers[w]; !listed && w <= writer && w > f.at.ClosedThrough {
			p.Writers[w] = seq // without a row
		}
	}
	f.at = at(p)
}

// beat tells of a position that moved without a row, every second at most.
func (f *follower) beat() error {
	if !f.moved || time.Since(f.told) < heartbeatEvery {
		return nil
	}
	return f.give(nil)
}

func (f *follower) give(r *argus.Record) error {
	place, err := f.at.place(f.a.config.CursorKey)
	if err != nil {
		return err
	}
	if err := f.emit(argus.FollowEvent{Record: r, Place: place}); err != nil {
		return err
	}
	f.told, f.moved = time.Now(), false
	return nil
}

// moveTo follows the source to p. As long as the follower is ahead of it, his position is of both; then ahead
// becomes the zero position.
func (f *follower) moveTo(m *mark, ahead *argus.Position) {
	if ahead.ClosedThrough != 0 || len(ahead.Writers) > 0 {
		if m.Covers(*ahead) {
			*ahead = argus.Position{}
		} else {
			m = at(m.Union(*ahead))
		}
	}
	f.at, f.moved = m, true
}
