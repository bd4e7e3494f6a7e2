package api

import (
	"net/http"
	"strconv"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/useargus/argus/api/credential"
)

// metrics is what the API tells Prometheus.
type metrics struct {
	calls           *prometheus.CounterVec
	unauthenticated *prometheus.CounterVec
	latency         *prometheus.HistogramVec
	auditWait       prometheus.Histogram
	panics          prometheus.Counter
	breakGlass      prometheus.Counter

	credentials *prometheus.CounterVec
	connections *prometheus.CounterVec
	channelUp   prometheus.Gauge

	serviceSeconds  *prometheus.HistogramVec
	serviceFailures *prometheus.CounterVec
	brokenStreams   *prometheus.CounterVec
	serviceReloads  *prometheus.CounterVec
	fileRejected    prometheus.Gauge
}

func newMetrics(r prometheus.Registerer, l *limits) *metrics {
	m := &metrics{
		calls: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "argus_api_calls_total",
			Help: "Authenticated calls answered, by route and status."}, []string{"route", "status"}),
		unauthenticated: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "argus_api_unauthenticated_total",
			Help: "Requests answered without being authenticated, by error code."}, []string{"code"}),
		latency: prometheus.NewHistogramVec(prometheus.HistogramOpts{Name: "argus_api_call_seconds",
			Help:    "From a call's arrival to its answer being ready, without the audit commit, by route.",
			Buckets: prometheus.ExponentialBuckets(0.0005, 2.5, 11)}, []string{"route"}),
		auditWait: prometheus.NewHistogram(prometheus.HistogramOpts{Name: "argus_api_audit_wait_seconds",
			Help:    "How long answers waited for their audit row to be committed.",
			Buckets: prometheus.ExponentialBuckets(0.0002, 2, 14)}),
		panics: prometheus.NewCounter(prometheus.CounterOpts{Name: "argus_api_panics_total",
			Help: "Handlers that panicked."}),
		breakGlass: prometheus.NewCounter(prometheus.CounterOpts{Name: "argus_api_break_glass_calls_total",
			Help: "Calls made with break-glass tokens. Alert on any."}),
		credentials: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "argus_api_credentials_rejected_total",
			Help: "Credentials that were not accepted, by kind and reason."}, []string{"kind", "reason"}),
		connections: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "argus_api_connections_closed_total",
			Help: "Connections closed to make room for others, by the bound that was reached: address or all."}, []string{"bound"}),
		channelUp: prometheus.NewGauge(prometheus.GaugeOpts{Name: "argus_api_revocation_channel_up",
			Help: "1 while revocations are heard at once and tokens may be remembered."}),
		serviceSeconds: prometheus.NewHistogramVec(prometheus.HistogramOpts{Name: "argus_api_service_seconds",
			Help:    "From a call being sent to a service to its answer being there, of a stream to its end, by service.",
			Buckets: prometheus.ExponentialBuckets(0.001, 2.5, 12)}, []string{"service"}),
		serviceFailures: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "argus_api_service_failures_total",
			Help: "Calls to a service that got no whole answer, by service and error code."}, []string{"service", "code"}),
		serviceReloads: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "argus_api_services_reloads_total",
			Help: "Attempts to take up a changed services file, by result: ok or failed."}, []string{"result"}),
		fileRejected: prometheus.NewGauge(prometheus.GaugeOpts{Name: "argus_api_services_file_rejected",
			Help: "1 while the services file has mistakes, so that what held before stays."}),
		brokenStreams: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "argus_api_service_broken_streams_total",
			Help: "Streams in which the service broke off, by service."}, []string{"service"}),
	}
	if r != nil {
		r.MustRegister(m.calls, m.unauthenticated, m.latency,
			prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: "argus_api_calls_in_flight", Help: "Calls being served."},
				func() float64 { return float64(len(l.calls)) }),
			prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: "argus_api_streams", Help: "Streams and exports being served."},
				func() float64 { return float64(l.streams.total()) }),
			prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: "argus_api_held_callers", Help: "Flooding callers made to wait."},
				func() float64 { return float64(len(l.held)) }),
			m.auditWait, m.panics, m.breakGlass, m.credentials, m.connections, m.channelUp,
			m.serviceSeconds, m.serviceFailures, m.brokenStreams, m.serviceReloads, m.fileRejected)
	}
	return m
}

// called counts a call. A service may answer any status, so those that HTTP does not know share one label of their class:
// its routes would otherwise have 400 series each.
func (m *metrics) called(route string, status int) {
	label := strconv.Itoa(status)
	if http.StatusText(status) == "" && status != statusClientGone {
		label = label[:1] + "xx"
	}
	m.calls.WithLabelValues(route, label).Inc()
}

// issuersUp shows whether the keys of each issuer were there when they were fetched last.
type issuersUp struct{ verifier *credential.Verifier }

var issuerUp = prometheus.NewDesc("argus_api_issuer_up",
	"1 while the issuer's signing keys could be fetched when they were asked for last.", []string{"issuer"}, nil)

func (i issuersUp) Describe(to chan<- *prometheus.Desc) { to <- issuerUp }

func (i issuersUp) Collect(to chan<- prometheus.Metric) {
	for name, keys := range i.verifier.Keys() {
		up := 1.0
		if keys.Err != nil {
			up = 0
		}
		to <- prometheus.MustNewConstMetric(issuerUp, prometheus.GaugeValue, up, name)
	}
}

// reloaded shows what became of a changed services file.
func (m *metrics) reloaded(err error) {
	result, rejected := "ok", 0.0
	if err != nil {
		result, rejected = "failed", 1
	}
	m.serviceReloads.WithLabelValues(result).Inc()
	m.fileRejected.Set(rejected)
}

// listening shows whether revocations are heard.
func (m *metrics) listening(up bool) {
	if up {
		m.channelUp.Set(1)
	} else {
		m.channelUp.Set(0)
	}
}
