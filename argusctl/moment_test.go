package main

import (
	"testing"
	"time"
)

// TestMoments: a time of the command line is what the person at this terminal means by it. Clock times are the last ones,
// and with --until those of today. Other forms go to the server as they were written.
func TestMoments(t *testing.T) {
	local := time.Local
	t.Cleanup(func() { time.Local = local })
	time.Local, _ = time.LoadLocation("Europe/Berlin")
	f := &factory{now: func() time.Time { return time.Date(2026, 3, 29, 7, 0, 0, 0, time.UTC) }} // 09:00, the day that summer begins
	for _, c := range []struct{ flag, given, utc, local string }{
		{"--since", "08:30", "2026-03-29T06:30:00Z", ""},
		{"--since", "8:30:15", "2026-03-29T06:30:15Z", ""},
		{"--since", "01:30", "2026-03-29T00:30:00Z", ""},
		{"--since", "22:00", "2026-03-28T21:00:00Z", ""},
		{"--region-until", "22:00", "2026-03-29T20:00:00Z", ""},
		{"--until", "22:00", "2026-03-29T20:00:00Z", "2026-03-29T22:00:00Z"},
		{"--since", "2026-01-31", "2026-01-30T23:00:00Z", "2026-01-31T00:00:00Z"},
		{"--since", "2025-07-31 10:00", "2025-07-31T08:00:00Z", "2025-07-31T10:00:00Z"},
		{"--since", "2025-07-31T10:00:09", "2025-07-31T08:00:09Z", ""},
		{"--since", "2025-07-31T10:00:09Z", "2025-07-31T10:00:09Z", "2025-07-31T10:00:09Z"},
		{"--since", "1h30m", "1h30m", "1h30m"},
		{"--since", "yesterday", "2026-03-27T23:00:00Z", "2026-03-28T00:00:00Z"},
		{"--unused-since", "Monday 08:00", "2026-03-23T07:00:00Z", "2026-03-23T08:00:00Z"},
		{"--until", "tomorrow", "2026-03-29T22:00:00Z", "2026-03-30T00:00:00Z"},
	} {
		f.utc = false
		if got, err := f.moment(c.flag, c.given); got != c.utc || err != nil {
			t.Errorf("%s %s: %s, %v, want %s", c.flag, c.given, got, err, c.utc)
		}
		f.utc = true
		if got, err := f.moment(c.flag, c.given); c.local != "" && (got != c.local || err != nil) {
			t.Errorf("%s %s --utc: %s, %v, want %s", c.flag, c.given, got, err, c.local)
		}
	}
	for _, bad := range []string{"yesteday", "tomorrow", "25:00", "10:60", "2026-02-30", "2026-01-31 25:00", "10", "9999-01-01"} {
		if got, err := f.moment("--since", bad); err == nil {
			t.Errorf("%q is %s", bad, got)
		}
	}
}
