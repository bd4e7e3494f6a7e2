package enginetest

import (
	"testing"
	"time"
)

func TestWithinMonth(t *testing.T) {
	for _, c := range []struct {
		now  string
		wait time.Duration
	}{
		{"2026-11-30T23:56:59Z", 0},
		{"2026-11-30T23:57:00Z", 3*time.Minute + time.Second},
		{"2026-12-31T23:59:59Z", 2 * time.Second},
		{"2027-01-01T00:00:00Z", 0},
		{"2028-02-29T18:58:30-05:00", 91 * time.Second},
		{"2028-02-28T23:59:59Z", 0},
	} {
		now, err := time.Parse(time.RFC3339, c.now)
		if err != nil {
			t.Fatal(err)
		}
		if wait := untilNextMonth(now, 3*time.Minute); wait != c.wait {
			t.Errorf("at %s a test waits %s, want %s", c.now, wait, c.wait)
		}
	}
}
