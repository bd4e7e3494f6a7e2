package ship

import "github.com/prometheus/client_golang/prometheus"

type metrics struct {
	active       *prometheus.GaugeVec
	lagRows      *prometheus.GaugeVec
	lagSeconds   *prometheus.GaugeVec
	paused       *prometheus.GaugeVec
	setAside     *prometheus.GaugeVec
	retention    *prometheus.GaugeVec
	acknowledged *prometheus.GaugeVec
	rows         *prometheus.CounterVec
	bytes        *prometheus.CounterVec
	batches      *prometheus.CounterVec
	errors       *prometheus.CounterVec
	rejected     *prometheus.CounterVec
	sendSeconds  *prometheus.HistogramVec
}

func newMetrics(registerer prometheus.Registerer) *metrics {
	var all []prometheus.Collector
	gauge := func(name, help string) *prometheus.GaugeVec {
		g := prometheus.NewGaugeVec(prometheus.GaugeOpts{Namespace: "argus", Subsystem: "ship", Name: name, Help: help}, []string{"sink"})
		all = append(all, g)
		return g
	}
	counter := func(name, help string, labels ...string) *prometheus.CounterVec {
		c := prometheus.NewCounterVec(prometheus.CounterOpts{Namespace: "argus", Subsystem: "ship", Name: name, Help: help}, append([]string{"sink"}, labels...))
		all = append(all, c)
		return c
	}
	m := &metrics{
		active:       gauge("active", "1 while this process ships to the sink, 0 while it stands by."),
		lagRows:      gauge("lag_rows", "Rows of the log that the receiver has not acknowledged."),
		lagSeconds:   gauge("lag_seconds", "How long the oldest row that the receiver has not acknowledged has waited."),
		paused:       gauge("paused", "1 while an operator has paused the sink."),
		setAside:     gauge("set_aside_rows", "Rows that the sink will never have: the receiver rejected them, or Postgres had lost them."),
		retention:    gauge("retention_timestamp_seconds", "When the oldest row that was not shipped may leave Postgres; absent without one."),
		acknowledged: gauge("acknowledged_timestamp_seconds", "When the receiver last acknowledged a batch of this process."),
		rows:         counter("rows_total", "Rows that the receiver acknowledged."),
		bytes:        counter("bytes_total", "Bytes of acknowledged rows, as the format writes them."),
		batches:      counter("batches_total", "Batches that the receiver acknowledged."),
		errors:       counter("errors_total", "Batches that the receiver did not acknowledge, and failures of Postgres."),
		rejected:     counter("rejected_rows_total", "Rows set aside by this process, by reason.", "reason"),
	}
	m.sendSeconds = prometheus.NewHistogramVec(prometheus.HistogramOpts{Namespace: "argus", Subsystem: "ship", Name: "send_seconds",
		Help: "Time of a batch, from sending to its acknowledgement.", Buckets: prometheus.ExponentialBuckets(0.002, 2, 14)}, []string{"sink"})
	all = append(all, m.sendSeconds)
	if registerer != nil {
		registerer.MustRegister(all...)
	}
	return m
}
