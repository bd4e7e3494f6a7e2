package ledger

import "github.com/prometheus/client_golang/prometheus"

type metrics struct {
	active           prometheus.Gauge
	forked           prometheus.Gauge
	size             prometheus.Gauge
	checkpointTime   prometheus.Gauge
	backlog          prometheus.Gauge
	backlogSeconds   prometheus.Gauge
	leaves           prometheus.Counter
	checkpoints      prometheus.Counter
	errors           prometheus.Counter
	roundSeconds     prometheus.Histogram
	copyAsked        *prometheus.CounterVec
	witnessTime      *prometheus.GaugeVec
	witnessErrors    *prometheus.CounterVec
	witnessQuorum    prometheus.Gauge
	servedUnwatched  prometheus.Counter
	servedTiles      prometheus.Counter
	servedTileErrors prometheus.Counter
}

func newMetrics(registerer prometheus.Registerer) *metrics {
	var all []prometheus.Collector
	gauge := func(name, help string) prometheus.Gauge {
		g := prometheus.NewGauge(prometheus.GaugeOpts{Namespace: "argus", Subsystem: "ledger", Name: name, Help: help})
		all = append(all, g)
		return g
	}
	counter := func(name, help string) prometheus.Counter {
		c := prometheus.NewCounter(prometheus.CounterOpts{Namespace: "argus", Subsystem: "ledger", Name: name, Help: help})
		all = append(all, c)
		return c
	}
	m := &metrics{
		active:           gauge("active", "1 while this process seals, 0 while it stands by or is forked."),
		forked:           gauge("forked", "1 while Postgres is not the database that the checkpoints were made over: nothing is signed."),
		size:             gauge("size_leaves", "Leaves of the newest checkpoint."),
		checkpointTime:   gauge("checkpoint_timestamp_seconds", "When this process signed its newest checkpoint."),
		backlog:          gauge("backlog_rows", "Rows of the audit log that have no leaf yet."),
		backlogSeconds:   gauge("backlog_seconds", "How long the oldest row without a leaf has waited."),
		leaves:           counter("leaves_total", "Leaves that this process has added."),
		checkpoints:      counter("checkpoints_total", "Checkpoints that this process has signed."),
		errors:           counter("errors_total", "Failures that interrupted sealing or standing by."),
		witnessQuorum:    gauge("witness_quorum", "1 while the checkpoint that is served satisfies the policy, 0 while it does not."),
		servedUnwatched:  counter("served_unwitnessed_total", "Checkpoints served without the cosignatures that the policy wants."),
		servedTiles:      counter("served_tiles_total", "Tiles and bundles served."),
		servedTileErrors: counter("served_tile_errors_total", "Tiles and bundles that could not be read."),
	}
	m.roundSeconds = prometheus.NewHistogram(prometheus.HistogramOpts{Namespace: "argus", Subsystem: "ledger", Name: "round_seconds",
		Help: "Time of a round that added leaves, to its commit.", Buckets: prometheus.ExponentialBuckets(0.002, 2, 12)})
	m.copyAsked = prometheus.NewCounterVec(prometheus.CounterOpts{Namespace: "argus", Subsystem: "ledger", Name: "copy_asked_total",
		Help: "How often ClickHouse was asked for its newest checkpoint, by whether it answered."}, []string{"result"})
	m.witnessTime = prometheus.NewGaugeVec(prometheus.GaugeOpts{Namespace: "argus", Subsystem: "ledger", Name: "witness_timestamp_seconds",
		Help: "When the witness last cosigned."}, []string{"witness"})
	m.witnessErrors = prometheus.NewCounterVec(prometheus.CounterOpts{Namespace: "argus", Subsystem: "ledger", Name: "witness_errors_total",
		Help: "Submissions that the witness did not cosign."}, []string{"witness"})
	all = append(all, m.roundSeconds, m.copyAsked, m.witnessTime, m.witnessErrors)
	if registerer != nil {
		registerer.MustRegister(all...)
	}
	return m
}
