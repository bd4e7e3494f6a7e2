package enginetest

import (
	"testing"
	"time"
)

// WithinMonth waits while the month of UTC ends sooner than the test needs. A test that names the present month's partition would
// go on with one that takes no new rows.
func WithinMonth(t testing.TB, need time.Duration) {
	t.Helper()
	if wait := untilNextMonth(time.Now(), need); wait > 0 {
		t.Logf("the month ends in %s: the test waits for the next one", wait.Round(time.Second))
		time.Sleep(wait)
	}
}

// untilNextMonth is how long a test waits that needs so much time in one month; 0 when there is as much.
func untilNextMonth(now time.Time, need time.Duration) time.Duration {
	now = now.UTC()
	left := time.Date(now.Year(), now.Month()+1, 1, 0, 0, 0, 0, time.UTC).Sub(now)
	if left > need {
		return 0
	}
	return left + time.Second // clocks of two processes
}
