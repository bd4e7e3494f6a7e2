package main

import "strings"

// differs answers with what a page of an incident looks like: long and hostile values, few calls and no latencies among them.
// A region of interrupted calls has none, and one of failed calls is without any departure.
func (f *fake) differs(x *exchange) {
	q := x.r.URL.Query()
	figures := func(calls, there int, p99, thereP99 any) map[string]any {
		return map[string]any{"calls": calls, "baseline_calls": there, "share": float64(calls) / 412, "baseline_share": float64(there) / 3970,
			"p50_ms": p99, "baseline_p50_ms": thereP99, "p99_ms": p99, "baseline_p99_ms": thereP99}
	}
	value := func(v string, name any, score float64, departs any, figures map[string]any) map[string]any {
		figures["value"], figures["name"], figures["score"], figures["departs"] = v, name, score, departs
		return figures
	}
	list := func(dimension string, others int, values ...map[string]any) map[string]any {
		other := figures(9, 80, 3.1, 3.0)
		other["values"] = others
		return map[string]any{"dimension": dimension, "values": values, "other": other}
	}
	dimensions := []any{
		list("tenant", 131, value("UTD_7ELEVEN_001", nil, 0.871, "slower", figures(61, 590, 3120.5, 41.2)),
			value("UTD_HARBOR_021", nil, 0, nil, figures(40, 410, 44.0, 42.0))),
		list("actor", 2, value(adaID, "Ada Okafor", 0.412, "more", figures(301, 610, 2900.0, 44.0)),
			value("user_2grace\x1b[31m", nil, 0.102, "less", figures(0, 700, nil, 43.5)), value("", nil, 0, nil, figures(3, 30, 2.0, nil))),
		list("status", 0, value("interrupted", nil, 0.061, "more", figures(40, 0, nil, nil))),
		list("route", 0, value("POST /svc/a-service-with-a-long-name/v1/"+strings.Repeat("segment/", 8)+":id", nil, 0.05, "faster", figures(12, 130, 3.25, 9.5))),
	}
	calls := figures(412, 3970, 2950.25, 43.75)
	switch q.Get("region") {
	case "interrupted":
		calls, dimensions = figures(0, 3970, nil, 43.75), []any{}
	case "failed":
		dimensions = []any{list("tenant", 3, value("UTD_HARBOR_021", nil, 0, nil, figures(40, 410, 44.0, 42.0)))}
	}
	region := map[string]any{"since": "2026-01-31T11:00:00.000000Z", "until": "2026-01-31T12:00:00.000000Z", "kind": nil, "latency_min_ms": nil, "latency_max_ms": nil}
	if k := q.Get("region"); k != "" {
		region["kind"] = k
		if k == "slow" {
			region["latency_min_ms"] = 120.5
		}
	}
	baseline := map[string]any{"kind": "before", "since": "2026-01-31T10:00:00.000000Z", "until": "2026-01-31T11:00:00.000000Z"}
	if q.Get("baseline") == "rest" || q.Get("region") != "" {
		baseline = map[string]any{"kind": "rest", "since": "2026-01-31T11:00:00.000000Z", "until": "2026-01-31T12:00:00.000000Z"}
	}
	x.reply(200, map[string]any{"since": region["since"], "until": region["until"], "region": region, "baseline": baseline, "calls": calls,
		"dimensions": dimensions, "source": "clickhouse", "replicated_through": nil})
}
