package api

import "github.com/prometheus/client_golang/prometheus"

// metrics is what the API tells Prometheus.
type metrics struct {
	calls      *prometheus.CounterVec
	refused    *prometheus.CounterVec
	auditWait  prometheus.Histogram
	panics     prometheus.Counter
	breakGlass prometheus.Counter

	credentials *prometheus.CounterVec
	channelUp   prometheus.Gauge
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
		credentials: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "argus_api_credentials_refused_total",
			Help: "Credentials that were not accepted, by kind and reason."}, []string{"kind", "reason"}),
		channelUp: prometheus.NewGauge(prometheus.GaugeOpts{Name: "argus_api_revocation_channel_up",
			Help: "1 while revocations are heard at once and tokens may be remembered."}),
	}
	if r != nil {
		r.MustRegister(m.calls, m.refused, m.auditWait, m.panics, m.breakGlass, m.credentials, m.channelUp)
	}
	return m
}
