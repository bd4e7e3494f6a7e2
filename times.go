package argus

import (
	"regexp"
	"strconv"
	"strings"
	"time"
)

// ParseDuration reads a length of time such as 250ms, 90s, 5m, 1h, 7d, 2w, 1h30m or 1d12h. It is whole numbers, each
// followed by a unit: us, ms, s, m, h, d (24 h) or w (7 d). No unit comes twice. It must be positive and at most ten
// years.
func ParseDuration(s string) (time.Duration, error) {
	units := []struct {
		name string
		d    time.Duration
	}{{"us", time.Microsecond}, {"ms", time.Millisecond}, {"s", time.Second}, {"m", time.Minute},
		{"h", time.Hour}, {"d", 24 * time.Hour}, {"w", 7 * 24 * time.Hour}}
	const limit = 10 * 365 * 24 * time.Hour
	bad := Errorf(CodeInvalidParameter, "%q is no length of time; write it like 90s, 5m, 1h or 7d.", Text(s, 40))
	var total time.Duration
	seen := map[string]bool{}
	rest := s
	for rest != "" {
		i := strings.IndexFunc(rest, func(r rune) bool { return r < '0' || r > '9' })
		if i <= 0 {
			return 0, bad
		}
		n, err := strconv.ParseInt(rest[:i], 10, 64)
		rest = rest[i:]
		j := strings.IndexFunc(rest, func(r rune) bool { return r >= '0' && r <= '9' })
		if j < 0 {
			j = len(rest)
		}
		unit := time.Duration(0)
		for _, u := range units {
			if u.name == rest[:j] {
				unit = u.d
			}
		}
		if err != nil || unit == 0 || seen[rest[:j]] || n > int64(limit/unit) {
			return 0, bad
		}
		seen[rest[:j]] = true
		total += time.Duration(n) * unit
		rest = rest[j:]
		if total > limit {
			return 0, bad
		}
	}
	if total <= 0 {
		return 0, bad
	}
	return total, nil
}

// rfc3339 is a date, a time and an offset. Its sign may be a blank: that is what + becomes in a query that was not
// escaped, and nothing else can stand there.
var rfc3339 = regexp.MustCompile(`^(\d{4}-\d\d-\d\d)[Tt ](\d\d:\d\d:\d\d(?:\.\d+)?)(?:[Zz]|([+ -])((?:[01]\d|2[0-3]):[0-5]\d))$`)

// ParseTime reads a moment: RFC 3339, or a length of time (ParseDuration) before now. The result is in UTC, cut to
// microseconds, between the years 1970 and 2200. The console reads the same: testdata/grammar.json holds both to it.
func ParseTime(s string, now time.Time) (time.Time, error) {
	if m := rfc3339.FindStringSubmatch(s); m != nil {
		offset := "Z"
		if m[4] != "" {
			offset = strings.Replace(m[3], " ", "+", 1) + m[4]
		}
		if t, err := time.Parse(time.RFC3339Nano, m[1]+"T"+m[2]+offset); err == nil {
			if y := t.UTC().Year(); y < 1970 || y > 2200 {
				return time.Time{}, Errorf(CodeInvalidParameter, "%q lies outside the years 1970 to 2200.", Text(s, 40))
			}
			return Micros(t), nil
		}
	}
	d, err := ParseDuration(s)
	if err != nil {
		return time.Time{}, Errorf(CodeInvalidParameter,
			"%q is no time; write RFC 3339 (2026-01-31T12:00:00Z) or a length of time before now (90s, 5m, 1h, 7d).", Text(s, 40))
	}
	return Micros(now.Add(-d)), nil
}
