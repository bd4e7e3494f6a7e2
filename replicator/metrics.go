package replicator

import "github.com/prometheus/client_golang/prometheus"

type metrics struct {
	active         prometheus.Gauge
	rows           *prometheus.CounterVec
	batchRows      prometheus.Histogram
	insertSeconds  prometheus.Histogram
	publishSeconds prometheus.Histogram
	lagBytes       prometheus.Gauge
	lagSeconds     prometheus.Gauge
	watermarkTime  prometheus.Gauge
	doubts         prometheus.Counter
	rebuilt        prometheus.Counter
	heals          *prometheus.CounterVec
	healedRows     prometheus.Counter
	orphans        prometheus.Counter
	copyRows       prometheus.Gauge
	copyExpected   prometheus.Gauge
	errors         prometheus.Counter
	altered        prometheus.Counter
	ignoredColumns *prometheus.GaugeVec
	findings       *prometheus.GaugeVec
	publication    prometheus.Gauge
	slotUsable     *prometheus.GaugeVec
	slotActive     *prometheus.GaugeVec
	slotRetained   *prometheus.GaugeVec
	slotSafe       *prometheus.GaugeVec
	slotOrphan     *prometheus.GaugeVec
	foreignSlots   prometheus.Gauge
	baseBackups    prometheus.Gauge
	ledgerLeaves   prometheus.Gauge
}

// newMetrics: each has the label slot, so that a copy that goes well hides none that does not.
func newMetrics(registerer prometheus.Registerer, slot string) *metrics {
	var all []prometheus.Collector
	of := prometheus.Labels{"slot": slot}
	gauge := func(name, help string) prometheus.Gauge {
		g := prometheus.NewGauge(prometheus.GaugeOpts{Namespace: "argus", Subsystem: "replicator", Name: name, Help: help, ConstLabels: of})
		all = append(all, g)
		return g
	}
	counter := func(name, help string) prometheus.Counter {
		c := prometheus.NewCounter(prometheus.CounterOpts{Namespace: "argus", Subsystem: "replicator", Name: name, Help: help, ConstLabels: of})
		all = append(all, c)
		return c
	}
	histogram := func(name, help string, buckets []float64) prometheus.Histogram {
		h := prometheus.NewHistogram(prometheus.HistogramOpts{
			Namespace: "argus", Subsystem: "replicator", Name: name, Help: help, Buckets: buckets, ConstLabels: of,
		})
		all = append(all, h)
		return h
	}
	slots := func(name, help string) *prometheus.GaugeVec {
		g := prometheus.NewGaugeVec(prometheus.GaugeOpts{Namespace: "argus", Subsystem: "replicator", Name: name, Help: help}, []string{"slot"})
		all = append(all, g)
		return g
	}
	m := &metrics{
		active:         gauge("active", "1 while this process copies, 0 while it stands by."),
		batchRows:      histogram("batch_rows", "Rows of a batch.", prometheus.ExponentialBuckets(1, 4, 10)),
		insertSeconds:  histogram("insert_seconds", "Time ClickHouse took for a batch's rows.", prometheus.ExponentialBuckets(0.002, 2, 14)),
		publishSeconds: histogram("publish_seconds", "Time ClickHouse took for a watermark.", prometheus.ExponentialBuckets(0.001, 2, 12)),
		lagBytes:       gauge("lag_bytes", "Write-ahead log between its end and the watermark."),
		lagSeconds:     gauge("lag_seconds", "Age of the oldest commit that is not in ClickHouse; 0 when there is none."),
		watermarkTime:  gauge("watermark_timestamp_seconds", "When the newest watermark was published."),
		doubts:         counter("doubts_total", "Times that rows were in doubt and were read back."),
		rebuilt:        counter("rollup_partitions_rebuilt_total", "Partitions of rollups rebuilt from rows."),
		healedRows:     counter("healed_rows_total", "Rows that were missing in ClickHouse and were copied by healing; the first copy included."),
		orphans:        counter("orphans_total", "Orphans: rows moved out because Postgres does not have them."),
		copyRows:       gauge("copy_rows", "Rows copied by the first copy or the healing that is going on."),
		copyExpected:   gauge("copy_rows_expected", "Rows that the first copy or the healing that is going on has to copy."),
		errors:         counter("errors_total", "Failures after which copying began anew."),
		altered:        counter("altered_rows_total", "Rows whose row_hash is not that of their columns."),
		publication:    gauge("publication_whole", "0 while the publication leaves out rows or columns, so that nothing is copied."),
		// Every replicator looks at the slots of all copies: a copy without a replicator is told by the others.
		slotUsable:   slots("slot_usable", "1 while the replication slot exists and is valid."),
		slotActive:   slots("slot_active", "1 while something reads the replication slot."),
		slotRetained: slots("slot_retained_bytes", "Write-ahead log kept for the slot."),
		slotSafe:     slots("slot_safe_bytes", "What may be written before the slot is lost; -1 without a limit."),
		slotOrphan:   slots("slot_orphan", "1 for a slot of a copy that ARGUS_CLICKHOUSE_URL does not name."),
		foreignSlots: gauge("foreign_slots", "Replication slots of this database, or read by this role, that are not the replicator's."),
		baseBackups:  gauge("base_backups", "Connections of the replicator's role that copy the cluster's files, or its log without a slot."),
		ledgerLeaves: gauge("ledger_leaves", "Leaves of the ledger that ClickHouse has."),
	}
	m.rows = prometheus.NewCounterVec(prometheus.CounterOpts{
		Namespace: "argus", Subsystem: "replicator", Name: "rows_total", Help: "Rows streamed into ClickHouse.", ConstLabels: of,
	}, []string{"table"})
	m.heals = prometheus.NewCounterVec(prometheus.CounterOpts{
		Namespace: "argus", Subsystem: "replicator", Name: "heals_total", Help: "Comparisons of both stores that repaired ClickHouse, by reason.", ConstLabels: of,
	}, []string{"reason"})
	m.ignoredColumns = prometheus.NewGaugeVec(prometheus.GaugeOpts{
		Namespace: "argus", Subsystem: "replicator", Name: "ignored_column", Help: "1 for a column of Postgres that is not copied.", ConstLabels: of,
	}, []string{"table", "column"})
	m.publication.Set(1)
	m.findings = prometheus.NewGaugeVec(prometheus.GaugeOpts{
		Namespace: "argus", Subsystem: "replicator", Name: "findings", Help: "Damage of the log itself that is known now, by kind.", ConstLabels: of,
	}, []string{"kind"})
	for _, kind := range findingKinds {
		m.findings.WithLabelValues(kind)
	}
	all = append(all, m.rows, m.heals, m.ignoredColumns, m.findings)
	if registerer != nil {
		registerer.MustRegister(all...)
	}
	return m
}
