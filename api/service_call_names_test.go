package api

import (
	"fmt"
	"net/http"
	"strconv"
	"testing"

	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/useargus/argus/api/services"
)

// TestDoorNames: a service that answers every status and names a release in each answer makes few series and few releases.
// The row has the status as it was.
func TestDoorNames(t *testing.T) {
	d := newDoor(t, "", func(c *Config) { c.Limits = Limits{PerSecond: -1} })
	token := d.admin()
	d.up.set(func(w http.ResponseWriter, r *http.Request) {
		status, _ := strconv.Atoi(r.URL.Query().Get("status"))
		w.Header().Set("X-Release", fmt.Sprint("build ", status))
		w.WriteHeader(status)
	})
	releases := map[string]bool{}
	for status := 200; status < 600; status++ {
		resp := d.do(token, "GET", fmt.Sprintf("/svc/billing/v1/invoices?status=%d", status), nil)
		row := d.row()
		if resp.status != status || int(row.Status) != status {
			t.Errorf("%d is answered as %d, row %d", status, resp.status, row.Status)
		}
		releases[row.Release] = true
	}
	if n := testutil.CollectAndCount(d.api.metrics.calls); n > 70 {
		t.Errorf("one route has %d series", n)
	}
	if got := testutil.ToFloat64(d.api.metrics.calls.WithLabelValues("GET /svc/billing/v1/invoices", "5xx")); got < 50 {
		t.Errorf("%v calls in the class", got)
	}
	if len(releases) != 33 || !releases[services.OtherRelease] {
		t.Errorf("%d releases", len(releases))
	}
}
