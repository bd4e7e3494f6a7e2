package main

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"math"
	"net/url"
	"slices"
	"time"

	"github.com/useargus/argus"
)

// slowestRun lists the slowest calls of a route. The log is sorted by time, so it asks for the calls behind the
// p99 by their latency. While they are more than a page, it takes the p99 of those in turn.
func slowestRun(ctx context.Context, f *factory, c *client, o *perfOptions, query url.Values) error {
	p, err := askPerf(ctx, c, query, "count")
	if err != nil {
		return err
	}
	how, _ := f.format()
	if len(p.rows) == 0 {
		f.notice("%s", p.about(f))
		f.notice("No such calls.")
		return nil
	}
	// The window must not move between the questions.
	query = maps.Clone(query)
	query.Set("since", p.Since.Format(argus.TimeFormat))
	query.Set("until", p.Until.Format(argus.TimeFormat))
	var count int64
	p99 := 0.0
	for _, r := range p.rows { // one route may be several when the pattern has no method
		count += r.Count
		if r.P99 != nil {
			p99 = max(p99, *r.P99)
		}
	}
	bound := thresholdOf(p99)
	behind := count
	for range 4 {
		narrowed := maps.Clone(query)
		narrowed.Set("latency_min", bound.String())
		slow, err := askPerf(ctx, c, narrowed, "count")
		if err != nil {
			return err
		}
		behind = 0
		next := bound
		for _, r := range slow.rows {
			behind += r.Count
			if r.P99 != nil {
				next = max(next, thresholdOf(*r.P99))
			}
		}
		if behind <= argus.MaxLimit || next <= bound {
			break
		}
		bound = next
	}
	query.Set("latency_min", bound.String())
	rows := newRowPrinter(f, how)
	type call struct {
		raw     json.RawMessage
		latency int64
	}
	var calls []call
	err = searchPages(ctx, c, query, false, argus.MaxLimit, func(pg *page) (bool, error) {
		rows.learn(pg)
		for _, raw := range pg.Rows {
			var v struct {
				LatencyUS int64 `json:"latency_us"`
			}
			if err := unmarshal(raw, &v); err != nil {
				return false, badAnswer(err)
			}
			calls = append(calls, call{raw, v.LatencyUS})
		}
		return true, nil
	})
	if err != nil {
		return err
	}
	slices.SortStableFunc(calls, func(a, b call) int { return int(b.latency - a.latency) })
	if how != asJSON && how != asCSV {
		f.notice("%s", p.about(f))
		f.notice("%s: p99 is %s; the slowest %d of %s at or above %s", o.slowest, formatMS(p99),
			min(len(calls), o.limit), argus.Counted(behind, "call"), formatMS(float64(bound)/float64(time.Millisecond)))
	}
	calls = calls[:min(len(calls), o.limit)]
	raws := make([]json.RawMessage, len(calls))
	for i := range calls {
		raws[i] = calls[i].raw
	}
	if err := rows.plan(raws); err != nil {
		return err
	}
	for _, call := range calls {
		if err := rows.print(call.raw); err != nil {
			return err
		}
	}
	return rows.end()
}

// thresholdOf turns a quantile in milliseconds, which may be off by 1 %, into a bound that misses no call behind
// it. It is written as package argus reads it: whole microseconds.
func thresholdOf(ms float64) threshold {
	return threshold(max(time.Duration(math.Floor(ms*0.99*1000)), 1) * time.Microsecond)
}

// threshold is a latency that a filter can hold.
type threshold time.Duration

func (t threshold) String() string { return fmt.Sprintf("%dus", time.Duration(t).Microseconds()) }
