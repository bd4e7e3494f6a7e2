package replicator

import (
	"context"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// TestSlotIsWatchedByStandbys: the slot's metrics hold for a replicator that cannot copy: ClickHouse is away.
func TestSlotIsWatchedByStandbys(t *testing.T) {
	w := newWorld(t)
	stop := w.start()
	w.caughtUp()
	stop()
	registry := prometheus.NewRegistry()
	c := w.config()
	c.Registerer, c.Logger = registry, w.logger()
	c.ClickHouseURL = "clickhouse://argus_replicator:none@127.0.0.1:1/argus"
	r, err := New(c)
	w.must(err)
	defer r.Close()
	ctx, cancel := context.WithCancel(w.ctx())
	var running sync.WaitGroup
	running.Go(func() { w.must(r.Run(ctx)) })
	defer running.Wait()
	defer cancel()
	value := func(name string) float64 {
		families, err := registry.Gather()
		w.must(err)
		for _, f := range families {
			if strings.TrimPrefix(f.GetName(), "argus_replicator_") == name {
				return f.GetMetric()[0].GetGauge().GetValue()
			}
		}
		return -1 // no slot was looked at yet
	}
	for deadline := time.Now().Add(90 * time.Second); value("slot_usable") != 1; time.Sleep(20 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("the slot is not seen")
		}
	}
	if value("slot_active") != 0 {
		t.Error("another process reads the slot")
	}
}
