package analytics

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/useargus/argus"
)

type metrics struct {
	seconds   *prometheus.HistogramVec // by question and source
	errors    *prometheus.CounterVec   // by question and code
	breaker   *prometheus.GaugeVec     // by copy; 1 while it is left alone
	tailRows  *prometheus.GaugeVec     // by copy
	preferred *prometheus.GaugeVec     // by copy
	refusing  *prometheus.GaugeVec     // by copy
	failovers *prometheus.CounterVec   // by copy and reason
	hedges    *prometheus.CounterVec   // by copy
	overtaken *prometheus.CounterVec   // by copy
	followers prometheus.Gauge
	behind    prometheus.Counter
	again     prometheus.Counter
}

func newMetrics(r prometheus.Registerer) *metrics {
	gauges := func(name, help string) *prometheus.GaugeVec {
		return prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: name, Help: help}, []string{"copy"})
	}
	m := &metrics{
		seconds: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "argus_analytics_question_seconds", Help: "Time to answer a question of the log.",
			Buckets: []float64{.001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 30},
		}, []string{"question", "source"}),
		errors: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "argus_analytics_errors_total", Help: "Questions that were not answered.",
		}, []string{"question", "code"}),
		breaker:   gauges("argus_analytics_clickhouse_away", "1 while the copy in ClickHouse was found away and is left alone."),
		tailRows:  gauges("argus_analytics_tail_rows", "Rows of the log not yet in the copy, when last looked at."),
		preferred: gauges("argus_analytics_copy_preferred", "1 for the copy that questions are given to first."),
		refusing:  gauges("argus_analytics_copy_refusing", "1 while the copy rejects questions, as when a table is missing."),
		failovers: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "argus_analytics_failovers_total",
			Help: "Questions that the copy did not answer and that another store was asked: stalled, away or refused.",
		}, []string{"copy", "reason"}),
		hedges: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "argus_analytics_hedges_total", Help: "Questions that another copy was asked as well, since the copy was slow.",
		}, []string{"copy"}),
		overtaken: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "argus_analytics_overtaken_total", Help: "Questions that another copy answered before the copy that was asked first.",
		}, []string{"copy"}),
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
		r.MustRegister(m.seconds, m.errors, m.breaker, m.tailRows, m.preferred, m.refusing, m.failovers, m.hedges, m.overtaken, m.followers, m.behind, m.again)
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
