package writer

import (
	"github.com/prometheus/client_golang/prometheus"

	"github.com/useargus/argus/connect"
)

// Why a call failed: the label of argus_writer_failed_total.
const (
	failedDown        = "postgres_away"   // a known outage, answered without waiting
	failedOverload    = "overload"        // the queue is full, or its head is too old
	failedClosing     = "shutting_down"   //
	failedTimeout     = "timeout"         // the bounded wait ended; the row may or may not be committed
	failedRow         = "rejected_row"    // Postgres does not take this row
	failedSwept       = "already_swept"   // the call's intent was turned into an interrupted row
	failedUnstorable  = "malformed"       // a record that no row can be made of: a bug of its maker
	failedIntentState = "intent_rejected" // this process was declared dead: it may promise nothing
)

type metrics struct {
	rows         prometheus.Counter
	commit       prometheus.Histogram
	batch        prometheus.Histogram
	wait         prometheus.Histogram
	failed       *prometheus.CounterVec
	fenced       prometheus.Counter
	doubts       *prometheus.CounterVec
	interrupted  prometheus.Counter
	opened       prometheus.Counter
	primaries    *prometheus.GaugeVec
	unregistered []prometheus.Collector
}

func newMetrics(w *Writer) *metrics {
	counter := func(name, help string) prometheus.Counter {
		return prometheus.NewCounter(prometheus.CounterOpts{Namespace: "argus", Subsystem: "writer", Name: name, Help: help})
	}
	m := &metrics{
		rows: counter("rows_total", "Rows committed."),
		commit: prometheus.NewHistogram(prometheus.HistogramOpts{Namespace: "argus", Subsystem: "writer",
			Name: "commit_seconds", Help: "Time of one batch, from sending it to the answer of its commit.",
			Buckets: prometheus.ExponentialBuckets(0.00025, 2, 14)}),
		batch: prometheus.NewHistogram(prometheus.HistogramOpts{Namespace: "argus", Subsystem: "writer",
			Name: "batch_rows", Help: "Rows in one batch.", Buckets: prometheus.ExponentialBuckets(1, 2, 11)}),
		wait: prometheus.NewHistogram(prometheus.HistogramOpts{Namespace: "argus", Subsystem: "writer",
			Name: "append_seconds", Help: "Time a call waited for its row to be committed.",
			Buckets: prometheus.ExponentialBuckets(0.00025, 2, 14)}),
		failed: prometheus.NewCounterVec(prometheus.CounterOpts{Namespace: "argus", Subsystem: "writer",
			Name: "failed_total", Help: "Calls that got no confirmed row, by reason."}, []string{"reason"}),
		fenced: counter("fenced_total", "Lanes that found their writer moved or closed by another."),
		doubts: prometheus.NewCounterVec(prometheus.CounterOpts{Namespace: "argus", Subsystem: "writer",
			Name: "doubts_total", Help: "Batches whose commit was not answered, by what was found later."}, []string{"found"}),
		interrupted: counter("interrupted_total", "Intents of dead processes turned into interrupted rows by this process."),
		opened:      counter("opened_total", "Writers opened."),
		primaries: prometheus.NewGaugeVec(prometheus.GaugeOpts{Namespace: "argus", Subsystem: "writer",
			Name: "two_primaries", Help: "1 while several hosts of the Postgres URL take writes, by what they say."}, []string{"servers"}),
	}
	for _, reason := range []string{failedDown, failedOverload, failedClosing, failedTimeout, failedRow,
		failedSwept, failedUnstorable, failedIntentState} {
		m.failed.WithLabelValues(reason)
	}
	m.doubts.WithLabelValues("committed")
	m.doubts.WithLabelValues("absent")
	gauge := func(name, help string, f func() float64) prometheus.Collector {
		return prometheus.NewGaugeFunc(prometheus.GaugeOpts{Namespace: "argus", Subsystem: "writer", Name: name, Help: help}, f)
	}
	m.unregistered = []prometheus.Collector{
		m.rows, m.commit, m.batch, m.wait, m.failed, m.fenced, m.doubts, m.interrupted, m.opened, m.primaries,
		gauge("queue_depth", "Calls waiting for a lane.", func() float64 { return float64(w.queue.depth.Load()) }),
		gauge("queue_age_seconds", "How long the first waiting call has waited.", func() float64 { return w.queue.age().Seconds() }),
		gauge("lanes_open", "Lanes that can commit.", func() float64 { return float64(w.health.lanesOpen()) }),
		gauge("down_seconds", "How long no lane could commit; 0 when one can.", func() float64 { return w.health.downFor().Seconds() }),
		gauge("months_ahead", "Monthly partitions after the present one; fewer than two make this process unready.", w.heartbeat.monthsAhead),
		gauge("clock_skew_seconds", "This machine's clock less Postgres's.", w.heartbeat.clockSkew),
		gauge("maintained_timestamp_seconds", "When argusd maintain last ran; 0 when it never did.", w.heartbeat.maintainedAt),
	}
	return m
}

// countPrimaries tells of two primaries, by their names.
func (m *metrics) countPrimaries() {
	m.primaries.Reset()
	for _, servers := range connect.Primaries() {
		m.primaries.WithLabelValues(servers).Set(1)
	}
}

// register registers all, or none.
func (m *metrics) register(r prometheus.Registerer) error {
	if r == nil {
		return nil
	}
	for i, c := range m.unregistered {
		if err := r.Register(c); err != nil {
			for _, done := range m.unregistered[:i] {
				r.Unregister(done)
			}
			return err
		}
	}
	return nil
}
