package api

import (
	"net/url"
	"time"

	"github.com/useargus/argus"
)

// differParameters are those beside the filter.
var differParameters = []string{"region", "region_since", "region_until", "region_latency_min", "region_latency_max", "baseline", "limit"}

// differs answers how the calls of a region differ from others.
func (l *logs) differs(c *call) (answer, error) {
	q := c.Query()
	var req argus.DiffersRequest
	var err error
	if req.Filter, err = l.filterOf(c, differParameters...); err != nil {
		return answer{}, err
	}
	if req.Region, err = regionOf(q, c.arrival); err != nil {
		return answer{}, err
	}
	if req.Baseline, err = oneOf(q, "baseline", argus.Baselines()); err != nil {
		return answer{}, err
	}
	if req.Limit, err = numberOf(q, "limit", argus.MaxDifferValues); err != nil {
		return answer{}, err
	}
	c.sinceAnHour(&req.Filter)
	result, err := l.auditLog.Differs(c.Context(), req)
	if err != nil {
		return answer{}, err
	}
	type value struct {
		Value string  `json:"value"`
		Name  *string `json:"name"`
		figures
		Score   float64 `json:"score"`
		Departs *string `json:"departs"`
	}
	type other struct {
		Values int `json:"values"`
		figures
	}
	type dimension struct {
		Dimension argus.DifferDimension `json:"dimension"`
		Values    []value               `json:"values"`
		Other     other                 `json:"other"`
	}
	dimensions := make([]dimension, len(result.Dimensions))
	for i, d := range result.Dimensions {
		list := make([]argus.FacetValue, len(d.Values))
		for j, v := range d.Values {
			list[j].Value = v.Value
		}
		names := l.facetNames(c.Context(), argus.FilterName(d.Dimension), list)
		dimensions[i] = dimension{d.Dimension, make([]value, len(d.Values)), other{d.Others, figuresOf(d.Other)}}
		for j, v := range d.Values {
			dimensions[i].Values[j] = value{v.Value, argus.OrNull(names[v.Value]), figuresOf(v.DifferFigures), v.Score, argus.OrNull(string(v.Departs))}
		}
	}
	type region struct {
		Since      argus.JSONTime `json:"since"`
		Until      argus.JSONTime `json:"until"`
		Kind       *string        `json:"kind"`
		LatencyMin *float64       `json:"latency_min_ms"`
		LatencyMax *float64       `json:"latency_max_ms"`
	}
	type window struct {
		Kind  argus.Baseline `json:"kind"`
		Since argus.JSONTime `json:"since"`
		Until argus.JSONTime `json:"until"`
	}
	r := result.Region
	return reply(struct {
		Since             argus.JSONTime `json:"since"`
		Until             argus.JSONTime `json:"until"`
		Region            region         `json:"region"`
		Baseline          window         `json:"baseline"`
		Calls             figures        `json:"calls"`
		Dimensions        []dimension    `json:"dimensions"`
		Source            argus.Source   `json:"source"`
		ReplicatedThrough argus.JSONTime `json:"replicated_through"`
	}{argus.JSONTime(result.Since), argus.JSONTime(result.Until),
		region{argus.JSONTime(r.Since), argus.JSONTime(r.Until), argus.OrNull(string(r.Kind)), milliseconds(r.LatencyMin), milliseconds(r.LatencyMax)},
		window{result.Baseline, argus.JSONTime(result.BaselineSince), argus.JSONTime(result.BaselineUntil)},
		figuresOf(result.Calls), dimensions, result.Source, argus.JSONTime(result.ReplicatedThrough)})
}

// figures are argus.DifferFigures as JSON has them.
type figures struct {
	Calls         int64    `json:"calls"`
	BaselineCalls int64    `json:"baseline_calls"`
	Share         float64  `json:"share"`
	BaselineShare float64  `json:"baseline_share"`
	P50           *float64 `json:"p50_ms"`
	BaselineP50   *float64 `json:"baseline_p50_ms"`
	P99           *float64 `json:"p99_ms"`
	BaselineP99   *float64 `json:"baseline_p99_ms"`
}

func figuresOf(f argus.DifferFigures) figures {
	return figures{f.Calls, f.BaselineCalls, f.Share, f.BaselineShare, numberOrNull(f.P50), numberOrNull(f.BaselineP50),
		numberOrNull(f.P99), numberOrNull(f.BaselineP99)}
}

// milliseconds is null in JSON for no bound.
func milliseconds(d time.Duration) *float64 {
	if d == 0 {
		return nil
	}
	ms := float64(d.Microseconds()) / 1000
	return &ms
}

// regionOf reads a region.
func regionOf(q url.Values, now time.Time) (r argus.Region, err error) {
	if r.Kind, err = oneOf(q, "region", argus.RegionKinds()); err != nil {
		return r, err
	}
	for name, at := range map[string]*time.Time{"region_since": &r.Since, "region_until": &r.Until} {
		s, err := one(q, name)
		if err != nil {
			return r, err
		}
		if s != "" {
			if *at, err = argus.ParseTime(s, now); err != nil {
				return r, err
			}
		}
	}
	for name, d := range map[string]*time.Duration{"region_latency_min": &r.LatencyMin, "region_latency_max": &r.LatencyMax} {
		s, err := one(q, name)
		if err != nil {
			return r, err
		}
		if s != "" {
			if *d, err = argus.ParseDuration(s); err != nil || *d < time.Microsecond {
				return r, argus.Errorf(argus.CodeInvalidParameter, "%s: write a length of time like 500ms or 2s.", name)
			}
		}
	}
	switch {
	case !r.Since.IsZero() && !r.Until.IsZero() && !r.Since.Before(r.Until):
		return r, argus.Errorf(argus.CodeInvalidParameter, "region_until must lie behind region_since.")
	case r.LatencyMax > 0 && r.LatencyMin >= r.LatencyMax:
		return r, argus.Errorf(argus.CodeInvalidParameter, "region_latency_max must be longer than region_latency_min.")
	case r.Kind == argus.RegionInterrupted && (r.LatencyMin > 0 || r.LatencyMax > 0):
		return r, argus.Errorf(argus.CodeInvalidParameter, "Interrupted calls have no latency. Leave out region_latency_min and region_latency_max.")
	}
	return r, nil
}
