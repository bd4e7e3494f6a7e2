package api

import "github.com/prometheus/client_golang/prometheus"

// metrics is what the API tells Prometheus.
type metrics struct {
	calls      *prometheus.CounterVec
	refused    *prometheus.CounterVec
	auditWait  prometheus.Histogram
	panics     prometheus.Counter
	breakGlass prometheus.Counter
}

func newMetrics(r prometheus.Registerer) *metrics {
	m := &metrics{
		calls: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "argus_api_calls_total",
			Help: "Authenticated calls answered, by route and status."}, []string{"route", "status"}),
		refused: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "argus_api_refused_total",
			Help: "Requests answered without being authenticated, by error code."}, []string{"code"}),
		auditWait: prometheus.NewHistogram(prometheus.HistogramOpts{Name: "argus_api_audit_wait_seconds",
			Help:    "How long answers waited for their audit row to be committed.",
			Buckets: prometheus.ExponentialBuckets(0.0002, 2, 14)}),
		panics: prometheus.NewCounter(prometheus.CounterOpts{Name: "argus_api_panics_total",
			Help: "Handlers that panicked."}),
		breakGlass: prometheus.NewCounter(prometheus.CounterOpts{Name: "argus_api_break_glass_calls_total",
			Help: "Calls made with break-glass tokens. Alert on any."}),
	}
	if r != nil {
		r.MustRegister(m.calls, m.refused, m.auditWait, m.panics, m.breakGlass)
	}
	return m
}
