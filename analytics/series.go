package analytics

import (
	"cmp"
	"context"
	"maps"
	"slices"
	"time"

	"github.com/useargus/argus"
)

// maxPoints bounds the points of a series, maxSeries how many groups have one: the most frequent.
const (
	maxPoints = 2_000
	maxSeries = 50
)

// steps are what the server chooses from.
var steps = []time.Duration{
	time.Minute, 2 * time.Minute, 5 * time.Minute, 10 * time.Minute, 15 * time.Minute, 30 * time.Minute,
	time.Hour, 2 * time.Hour, 3 * time.Hour, 6 * time.Hour, 12 * time.Hour,
	24 * time.Hour, 2 * 24 * time.Hour, 4 * 24 * time.Hour,
}

// stepFor is the step asked for, or the least that gives about 120 points at most.
func stepFor(step, length time.Duration) (time.Duration, error) {
	if step == 0 {
		for _, s := range steps {
			if length/s <= 120 {
				return s, nil
			}
		}
		return steps[len(steps)-1], nil
	}
	if step < time.Minute || step%time.Minute != 0 || step > argus.Retention {
		return 0, argus.Errorf(argus.CodeInvalidParameter, "step is a number of whole minutes: 1m, 15m, 1h, 1d.")
	}
	if length/step > maxPoints {
		return 0, argus.Errorf(argus.CodeInvalidParameter, "The step gives more than %d points; take a longer one.", maxPoints)
	}
	return step, nil
}

// timeline is the buckets of a window: aligned to the step, the first and the last may reach over its ends.
type timeline struct {
	window interval
	step   time.Duration
	first  int64 // bucket, counted from 1970
	n      int
}

func timelineOf(since, until time.Time, step time.Duration) timeline {
	seconds := int64(step / time.Second)
	t := timeline{window: interval{since, until}, step: step, first: since.Unix() / seconds}
	if since.Before(until) {
		t.n = int((until.Add(-time.Microsecond)).Unix()/seconds-t.first) + 1
	}
	return t
}

// at is where bucket i begins.
func (t *timeline) at(i int) time.Time {
	return time.Unix((t.first+int64(i))*int64(t.step/time.Second), 0).UTC()
}

// minutes is how much of bucket i lies in the window.
func (t *timeline) minutes(i int) float64 {
	from := t.at(i)
	to := from.Add(t.step)
	if from.Before(t.window.from) {
		from = t.window.from
	}
	if to.After(t.window.to) {
		to = t.window.to
	}
	return to.Sub(from).Minutes()
}

// index is the bucket's; calls later than the window's end, which is open, belong to the last one.
func (t *timeline) index(step int64) int { return max(0, min(int(step-t.first), t.n-1)) }

// overTime counts a question's calls by group and bucket.
type overTime struct {
	question countQuestion
	line     timeline
	counted  map[string]map[int64]*tally // by bucket, counted from 1970
	groups   map[string][]*tally         // by bucket of the line, which is known at the end
}

func newOverTime(w window, conditions []argus.Condition, g grouping, step time.Duration) *overTime {
	o := &overTime{question: newTallies(w, conditions, g).question}
	o.question.step, o.question.quantiles = step, false // points may have to be put together
	o.question.begin = func() { o.counted = map[string]map[int64]*tally{} }
	o.question.row = func(r *countRow) {
		name := g.group(r)
		steps := o.counted[name]
		if steps == nil {
			steps = map[int64]*tally{}
			o.counted[name] = steps
		}
		t := steps[r.step]
		if t == nil {
			t = &tally{}
			steps[r.step] = t
		}
		t.add(r)
	}
	o.question.end = func(at time.Time) {
		o.line, o.groups = timelineOf(w.since, w.end(at), step), map[string][]*tally{}
		if o.line.n == 0 {
			return
		}
		for name, steps := range o.counted {
			points := make([]*tally, o.line.n)
			for n, t := range steps {
				if i := o.line.index(n); points[i] == nil {
					points[i] = t
				} else {
					points[i].merge(t)
				}
			}
			o.groups[name] = points
		}
	}
	return o
}

// of are the group's tallies, one a bucket.
func (o *overTime) of(name string) []*tally {
	out := make([]*tally, o.line.n)
	copy(out, o.groups[name])
	for i, t := range out {
		if t == nil {
			out[i] = &tally{}
		}
	}
	return out
}

func (o *overTime) points(by argus.GroupBy, tallies []*tally) []argus.SeriesPoint {
	points := make([]argus.SeriesPoint, len(tallies))
	for i, t := range tallies {
		points[i] = argus.SeriesPoint{At: o.line.at(i), PerfRow: t.row(by, "", o.line.minutes(i))}
	}
	return points
}

// Series answers performance over time. Groups are the 50 with the most calls. Errors: as Perf.
func (a *Analytics) Series(ctx context.Context, req argus.SeriesRequest) (res argus.SeriesResult, err error) {
	defer a.metrics.observe("series", time.Now(), &res.Source, &err)
	g := grouping{group: func(*countRow) string { return "" }}
	if req.GroupBy != "" {
		if g, err = groupingOf(req.GroupBy); err != nil {
			return res, err
		}
	}
	return shared(ctx, &a.sharing, "series", req, func(ctx context.Context, taken func()) (argus.SeriesResult, error) {
		return ask(ctx, a, "series", func(ctx context.Context, on *attempt) (argus.SeriesResult, error) {
			return a.series(ctx, on, req, g, taken)
		})
	})
}

func (a *Analytics) series(ctx context.Context, on *attempt, req argus.SeriesRequest, g grouping, taken func()) (res argus.SeriesResult, err error) {
	w := a.resolve(&req.Filter)
	length := w.end(a.config.now()).Sub(w.since)
	step, err := stepFor(req.Step, length)
	if err != nil {
		return res, err
	}
	now := newOverTime(w, req.Filter.Conditions, g, step)
	questions := []*countQuestion{&now.question}
	var before *overTime
	if req.Compare {
		before = newOverTime(a.clamp(window{w.since.Add(-length), w.since}), req.Filter.Conditions, g, step)
		questions = append(questions, &before.question)
	}
	got, err := a.count(ctx, on, questions, taken)
	if err != nil {
		return res, err
	}
	res = argus.SeriesResult{
		GroupBy: req.GroupBy, Since: w.since, Until: now.line.window.to, Step: step,
		Source: got.source, ReplicatedThrough: got.replicated,
	}
	if req.GroupBy == "" && now.groups[""] == nil {
		now.groups[""] = nil
	}
	totals := map[string]uint64{}
	for name := range now.groups {
		for _, t := range now.of(name) {
			totals[name] += t.n + t.interrupted
		}
	}
	names := slices.SortedFunc(maps.Keys(now.groups), func(x, y string) int {
		return cmp.Or(cmp.Compare(totals[y], totals[x]), cmp.Compare(x, y))
	})
	for _, name := range names[:min(len(names), maxSeries)] {
		tallies := now.of(name)
		s := argus.Series{Group: name, Points: now.points(req.GroupBy, tallies)}
		if before != nil {
			earlier := before.of(name)
			s.Before = before.points(req.GroupBy, earlier)
			if i, by := startOf(earlier, tallies); by != "" {
				s.StartedBy = by
				if s.StartedAt = w.since; i < len(earlier) {
					s.StartedAt = before.line.at(i)
				} else if i > len(earlier) {
					s.StartedAt = now.line.at(i - len(earlier))
				}
			}
		}
		res.Series = append(res.Series, s)
	}
	return res, nil
}
