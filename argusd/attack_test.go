package main

import (
	"os"
	"testing"

	"github.com/useargus/argus/internal/attack"
)

// TestAttack runs the short form of make attack against an argusd dev of its own: every group but the browser's, with a
// sample where many attempts tell the same.
func TestAttack(t *testing.T) {
	d := startDev(t)
	report, err := attack.Run(t.Context(), attack.Config{Dir: d.dir, Bin: d.bin, Short: true, Out: os.Stdout})
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range report.Failures {
		t.Errorf("%s", f)
	}
	for _, l := range report.LeftOut {
		t.Logf("left out: %s", l)
	}
	if tried, _ := report.Totals(); tried < 1000 {
		t.Errorf("only %d attempts", tried)
	}
}
