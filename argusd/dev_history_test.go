package main

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
)

// TestHistory stops argusd dev inside the history of a new folder and starts it again. Each call is there once, in both
// stores. The tour finds what it looks for.
func TestHistory(t *testing.T) {
	d := startDev(t, "--history", "20d")
	count := func() (n int) {
		conn, err := pgx.Connect(context.Background(), d.env("admin.env", "ARGUS_POSTGRES_ADMIN_URL"))
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close(context.Background())
		if err := conn.QueryRow(context.Background(),
			"SELECT count(*) FROM argus.argus_audit_log WHERE occurred_at < now() - interval '5 minutes'").Scan(&n); err != nil {
			t.Fatal(err)
		}
		return n
	}
	begun := func() error {
		if n := count(); n == 0 {
			return fmt.Errorf("the history has not begun")
		}
		return nil
	}
	if err := eventually(bound, begun); err != nil {
		t.Fatal(err)
	}
	d.stop()
	d.start()
	done := func() error {
		if !strings.Contains(d.output(), "made-up calls") {
			return fmt.Errorf("the history is not written:\n%s", d.output())
		}
		return nil
	}
	if err := eventually(3*time.Minute, done); err != nil {
		t.Fatal(err)
	}
	if n := count(); n < 39_000 || n > 41_000 {
		t.Errorf("%d calls in the history of 20 days, want about 40,000", n)
	}
	d.testSameRowsEverywhere(t)

	out, errOut, code := d.shell("argusctl perf --since 24h --compare --json")
	if code != 0 {
		t.Fatalf("perf: exit %d: %s", code, errOut)
	}
	slower := map[string]float64{}
	for line := range strings.Lines(out) {
		var row struct {
			Route    string  `json:"route"`
			P50      float64 `json:"p50_ms"`
			Previous struct {
				P50 float64 `json:"p50_ms"`
			} `json:"previous"`
		}
		if err := json.Unmarshal([]byte(line), &row); err != nil {
			t.Fatalf("%v: %s", err, line)
		}
		slower[row.Route] = row.P50 / row.Previous.P50
	}
	if f := slower["GET /v1/tenants/:id"]; f < 3 {
		t.Errorf("GET /v1/tenants/:id is %.1f times as slow as the day before, want about 6: %s", f, out)
	}
	if out, _, _ := d.shell("argusctl logs tail --since 7d --route '/compute/ops/*' --status '>=500' --json"); strings.Count(out, "\n") < 10 {
		t.Errorf("the outage of compute has left %d failed calls, want at least 10", strings.Count(out, "\n"))
	}
}
