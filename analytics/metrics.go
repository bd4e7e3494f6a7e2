package analytics

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/useargus/argus"
)

type metrics struct {
	seconds   *prometheus.HistogramVec // by question and source
	errors    *prometheus.CounterVec   // by question and code
	breaker   prometheus.Gauge         // 1 while ClickHouse is left alone
	tailRows  prometheus.Gauge
	followers prometheus.Gauge
	behind    prometheus.Counter
	again     prometheus.Counter
}

func newMetrics(r prometheus.Registerer) *metrics {
	m := &metrics{
		seconds: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "argus_analytics_question_seconds", Help: "Time to answer a question of the log.",
			Buckets: []float64{.001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 30},
		}, []string{"question", "source"}),
		errors: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "argus_analytics_errors_total", Help: "Questions that were not answered.",
		}, []string{"question", "code"}),
		breaker: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "argus_analytics_clickhouse_away", Help: "1 while ClickHouse was found away and Postgres answers alone.",
		}),
		tailRows: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "argus_analytics_tail_rows", Help: "Rows of the log not yet in ClickHouse, when last looked at.",
		}),
		followers: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "argus_analytics_followers", Help: "Live streams being followed.",
		}),
		behind: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "argus_analytics_followers_behind_total", Help: "Live streams ended because their consumer was too slow.",
		}),
		again: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "argus_analytics_composed_again_total",
			Help: "Counts composed again because late rows were copied meanwhile.",
		}),
	}
	if r != nil {
		r.MustRegister(m.seconds, m.errors, m.breaker, m.tailRows, m.followers, m.behind, m.again)
	}
	return m
}

// observe is deferred by each question.
func (m *metrics) observe(question string, start time.Time, source *argus.Source, err *error) {
	if *err != nil {
		m.errors.WithLabelValues(question, string(argus.CodeOf(*err))).Inc()
		return
	}
	m.seconds.WithLabelValues(question, string(*source)).Observe(time.Since(start).Seconds())
}
