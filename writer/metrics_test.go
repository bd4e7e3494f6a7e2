package writer

import (
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/useargus/argus/internal/engines/enginetest"
)

// TestMaintenanceIsSeen: what alerts on partitions, clocks and argusd maintain read.
func TestMaintenanceIsSeen(t *testing.T) {
	t.Parallel()
	pg := enginetest.NewPostgres(t)
	registry := prometheus.NewPedanticRegistry()
	start(t, Config{URL: pg.APIURL, Registerer: registry, tuning: tuning{heartbeat: 20 * time.Millisecond}})
	value := func(name string) float64 {
		families, err := registry.Gather()
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range families {
			if f.GetName() == "argus_writer_"+name {
				return f.GetMetric()[0].GetGauge().GetValue()
			}
		}
		t.Fatalf("no metric argus_writer_%s", name)
		return 0
	}
	super := pg.Pool(t, pg.SuperuserURL)
	months := scalar[int](t, super, `SELECT count(*)::int FROM argus.audit_months WHERE month > (now() AT TIME ZONE 'UTC')::date`)
	eventually(t, "months ahead", func() bool { return value("months_ahead") == float64(months) })
	if at, skew := value("maintained_timestamp_seconds"), value("clock_skew_seconds"); at != 0 || skew != skew {
		t.Errorf("before maintenance: maintained at %v, clock off by %v", at, skew)
	}
	if _, err := super.Exec(t.Context(), "SELECT argus.look_at_clock()"); err != nil {
		t.Fatal(err)
	}
	seen := scalar[float64](t, super, "SELECT extract(epoch FROM seen_at)::float8 FROM argus.maintenance_clock")
	eventually(t, "maintenance", func() bool { d := seen - value("maintained_timestamp_seconds"); return -0.01 < d && d < 0.01 })
}
