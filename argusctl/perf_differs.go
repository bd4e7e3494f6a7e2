package main

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/useargus/argus"
)

// differFlags are the flags that say which calls are set beside which others.
type differFlags struct {
	on                     bool
	kind, baseline         string
	since, until           string
	latencyMin, latencyMax string
}

var (
	regionKinds = textsOf(argus.RegionKinds())
	baselines   = textsOf(argus.Baselines())
)

func addDifferFlags(cmd *cobra.Command) *differFlags {
	d := &differFlags{}
	flags := cmd.Flags()
	flags.BoolVar(&d.on, "differs", false, "show for whom the calls of a region differ from others")
	flags.StringVar(&d.kind, "region", "", "with --differs: the `kind` of calls, slow, failed or interrupted")
	flags.StringVar(&d.since, "region-since", "", "with --differs: calls from this `time` on")
	flags.StringVar(&d.until, "region-until", "", "with --differs: calls before this `time`")
	flags.StringVar(&d.latencyMin, "region-latency-min", "", "with --differs: calls that took at least this `time` (500ms)")
	flags.StringVar(&d.latencyMax, "region-latency-max", "", "with --differs: calls that took less than this `time`")
	flags.StringVar(&d.baseline, "baseline", "", "with --differs: beside `what`: rest (of the window) or before (as long a time before)")
	_ = cmd.RegisterFlagCompletionFunc("region", fixed(regionKinds...))
	_ = cmd.RegisterFlagCompletionFunc("baseline", fixed(baselines...))
	return d
}

// query adds the region to the filter's query.
func (d *differFlags) query(f *factory, o *perfOptions, query url.Values) error {
	flags := map[string]string{"region": d.kind, "region_since": d.since, "region_until": d.until,
		"region_latency_min": d.latencyMin, "region_latency_max": d.latencyMax, "baseline": d.baseline}
	for name, value := range flags {
		if value == "" {
			continue
		}
		if !d.on {
			return usageErrorf("--%s is for --differs.", strings.ReplaceAll(name, "_", "-"))
		}
		query.Set(name, value)
	}
	if !d.on {
		return nil
	}
	if err := oneOf("--region", d.kind, regionKinds); err != nil {
		return err
	}
	if err := oneOf("--baseline", d.baseline, baselines); err != nil {
		return err
	}
	for _, flag := range []string{"region-since", "region-until"} {
		name := strings.ReplaceAll(flag, "-", "_")
		if !query.Has(name) {
			continue
		}
		moment, err := f.moment("--"+flag, query.Get(name))
		if err != nil {
			return err
		}
		query.Set(name, moment)
	}
	for flag, s := range map[string]string{"--region-latency-min": d.latencyMin, "--region-latency-max": d.latencyMax} {
		if took, err := argus.ParseDuration(s); s != "" && (err != nil || took < time.Microsecond) {
			return usageErrorf("%s %q: write a length of time like 500ms or 2s.", flag, s)
		}
	}
	if o.watch || o.compare || o.slowest != "" || o.sort != "count" || o.groupBy != "route" {
		return usageErrorf("--differs compares by itself: it excludes --watch, --compare, --slowest, --sort and --group-by.")
	}
	return nil
}

func oneOf(flag, s string, words []string) error {
	for _, w := range words {
		if s == w {
			return nil
		}
	}
	if s == "" {
		return nil
	}
	return usageErrorf("%s %q: write one of %s.", flag, s, strings.Join(words, ", "))
}

// differAnswer is the answer of GET /v1/perf/differs.
type differAnswer struct {
	Region struct {
		Since      time.Time `json:"since"`
		Until      time.Time `json:"until"`
		Kind       *string   `json:"kind"`
		LatencyMin *float64  `json:"latency_min_ms"`
		LatencyMax *float64  `json:"latency_max_ms"`
	} `json:"region"`
	Baseline struct {
		Kind  argus.Baseline `json:"kind"`
		Since time.Time      `json:"since"`
		Until time.Time      `json:"until"`
	} `json:"baseline"`
	Calls      differFigures `json:"calls"`
	Dimensions []struct {
		Dimension string            `json:"dimension"`
		Values    []json.RawMessage `json:"values"`
		Other     struct {
			Values int64 `json:"values"`
		} `json:"other"`
	} `json:"dimensions"`
	Source            argus.Source `json:"source"`
	ReplicatedThrough time.Time    `json:"replicated_through"`
}

type differFigures struct {
	Calls         int64    `json:"calls"`
	BaselineCalls int64    `json:"baseline_calls"`
	Share         float64  `json:"share"`
	BaselineShare float64  `json:"baseline_share"`
	P99           *float64 `json:"p99_ms"`
	BaselineP99   *float64 `json:"baseline_p99_ms"`
}

type differValue struct {
	dimension string
	raw       json.RawMessage
	Value     string  `json:"value"`
	Name      *string `json:"name"`
	differFigures
	Score   float64 `json:"score"`
	Departs *string `json:"departs"`
}

// differsRun shows the values that depart. JSON and CSV have all of them.
func differsRun(ctx context.Context, f *factory, c *client, query url.Values, how format) error {
	var p differAnswer
	if _, err := c.get(ctx, "/v1/perf/differs", query, &p); err != nil {
		return err
	}
	var departing, others []differValue
	var more int64
	for _, d := range p.Dimensions {
		more += d.Other.Values
		for _, raw := range d.Values {
			v := differValue{dimension: d.Dimension}
			if err := unmarshal(raw, &v); err != nil {
				return badAnswer(err)
			}
			// The line says by itself what it is about.
			dimension, _ := json.Marshal(d.Dimension)
			v.raw = append([]byte(`{"dimension":`+string(dimension)+","), raw[1:]...)
			if v.Departs != nil {
				departing = append(departing, v)
			} else {
				others = append(others, v)
			}
		}
	}
	sortByScore(departing)
	switch how {
	case asJSON:
		for _, v := range append(departing, others...) {
			if err := f.jsonLine(v.raw); err != nil {
				return err
			}
		}
		return nil
	case asCSV:
		return differTable(append(departing, others...), p.Baseline.Kind).print(f, how)
	}
	f.notice("%s", p.about(f))
	switch {
	case p.Calls.Calls == 0 || p.Calls.BaselineCalls == 0:
		f.notice("There is nothing to compare: choose other times with --since, --region-since and --baseline.")
		return nil
	case len(departing) == 0:
		f.notice("Nothing departs by more than chance, of %s.", argus.Counted(int64(len(others))+more, "value"))
		return nil
	}
	if err := differTable(departing, p.Baseline.Kind).print(f, how); err != nil {
		return err
	}
	if n := int64(len(others)) + more; n > 0 {
		if err := f.io.out.Flush(); err != nil {
			return err
		}
		f.notice("No other value departs by more than chance, of %d.", n)
	}
	return nil
}

// sortByScore puts first what departs most, of all filters together.
func sortByScore(values []differValue) {
	slices.SortStableFunc(values, func(a, b differValue) int { return cmp.Compare(b.Score, a.Score) })
}

// about says which calls are set beside which, and how fast both were.
func (p *differAnswer) about(f *factory) string {
	calls := "calls"
	if p.Calls.Calls == 1 {
		calls = "call"
	}
	if p.Region.Kind != nil {
		calls = *p.Region.Kind + " " + calls
	}
	var bounds string
	if p.Region.LatencyMin != nil {
		bounds += " of " + formatMS(*p.Region.LatencyMin) + " or more"
	}
	if p.Region.LatencyMax != nil {
		bounds += " below " + formatMS(*p.Region.LatencyMax)
	}
	beside := fmt.Sprintf("the other %d from %s to %s", p.Calls.BaselineCalls, f.localTime(p.Baseline.Since), f.localTime(p.Baseline.Until))
	if p.Baseline.Kind == argus.BaselineBefore {
		beside = fmt.Sprintf("%d in the %s before", p.Calls.BaselineCalls, formatDuration(p.Baseline.Until.Sub(p.Baseline.Since)))
	}
	text := fmt.Sprintf("%s to %s: %d %s%s, beside %s", f.localTime(p.Region.Since), f.localTime(p.Region.Until), p.Calls.Calls, calls, bounds, beside)
	text += "\nFrom " + string(p.Source)
	if !p.ReplicatedThrough.IsZero() {
		text += ", copied up to " + f.ago(p.ReplicatedThrough)
	}
	if p.Calls.P99 != nil && p.Calls.BaselineP99 != nil {
		text += fmt.Sprintf("; p99 is %s, there %s", formatMS(*p.Calls.P99), formatMS(*p.Calls.BaselineP99))
	}
	return text
}

// differTable lays the values out: what departs how, and the figures of both sides beside each other.
func differTable(values []differValue, baseline argus.Baseline) *table {
	there := strings.ToUpper(string(baseline))
	t := &table{columns: []column{{head: "FIELD", key: "dimension"}, {head: "VALUE", flex: true, min: 26}, {head: "DEPARTS"}, {head: "SHARE", right: true},
		{head: there, key: "baseline_share", right: true}, {head: "P99", key: "p99_ms", right: true}, {head: there, key: "baseline_p99_ms", right: true},
		{head: "CALLS", right: true, spare: true}, {head: there, key: "baseline_calls", right: true, spare: true},
		{head: "SCORE", right: true, spare: true}, {head: "NAME", wide: true}}}
	for _, v := range values {
		value, name := v.Value, ""
		if v.Name != nil {
			value, name = *v.Name, *v.Name
		}
		if value == "" {
			value = "(none)"
		}
		departs := cell{none: true}
		if v.Departs != nil {
			departs = txt(*v.Departs)
			switch argus.Departure(*v.Departs) {
			case argus.DepartsMore, argus.DepartsSlower:
				departs = departs.in(red)
			default:
				departs = departs.in(green)
			}
		}
		t.rows = append(t.rows, []cell{txt(v.dimension), {text: value, raw: v.Value}, departs,
			val(formatRate(v.Share), rawFloat(&v.Share)), val(formatRate(v.BaselineShare), rawFloat(&v.BaselineShare)),
			val(shownMS(v.P99), rawFloat(v.P99)), val(shownMS(v.BaselineP99), rawFloat(v.BaselineP99)),
			txt(strconv.FormatInt(v.Calls, 10)), txt(strconv.FormatInt(v.BaselineCalls, 10)),
			val(strconv.FormatFloat(v.Score, 'f', 2, 64), rawFloat(&v.Score)), txt(name)})
	}
	return t
}
