package argus

import (
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
)

// TypedTime reads a moment as a person types it, and gives it as ParseTime takes it. zone is the one in which this person
// sees times. Besides ParseTime's forms it knows clock times (10:00, 3pm), days (today, yesterday, monday, 2026-01-31), a
// clock time behind a day, the start of "this week" or "last month", and "2 hours ago". A weekday or a clock time is the
// last one; for the end of a window, which may lie ahead, it is that of the day. A length of time stays as it is, so that
// the server's clock counts.
func TypedTime(s string, now time.Time, zone *time.Location, end bool) (string, error) {
	_, err := ParseTime(s, now)
	if err == nil || rfc3339.MatchString(s) {
		return s, err
	}
	words := strings.Fields(strings.ToLower(s))
	if n := len(words); n > 1 && slices.Contains([]string{"utc", "z"}, words[n-1]) {
		words, zone = words[:n-1], time.UTC
	}
	if past, ok := typedPast(words, now.In(zone)); ok {
		return past, nil
	}
	at, ok := typedDay(words, now.In(zone), end)
	if !ok {
		return "", Errorf(CodeInvalidParameter, "%q is no time; write it like 90s, 5m, 1h, 7d, 10:00, yesterday, monday, 2026-01-31 or 2026-01-31T12:00:00Z.%s",
			Text(s, 40), typedHint(words))
	}
	if !end && at.After(now) {
		return "", Errorf(CodeInvalidParameter, "%q lies ahead: no call has arrived since.", Text(s, 40))
	}
	text := at.UTC().Format(time.RFC3339Nano)
	if y := at.UTC().Year(); y < 1970 || y > 2200 {
		return "", Errorf(CodeInvalidParameter, "%q lies outside the years 1970 to 2200.", Text(s, 40))
	}
	return text, nil
}

var (
	typedDays  = []string{"today", "yesterday", "tomorrow"}
	typedWeek  = []string{"sunday", "monday", "tuesday", "wednesday", "thursday", "friday", "saturday"}
	typedUnits = map[string]string{"second": "s", "sec": "s", "minute": "m", "min": "m", "hour": "h", "hr": "h", "day": "d", "week": "w"}
	// dayAndClock is a day with its clock time as machines write both.
	dayAndClock = regexp.MustCompile(`^(\d{4}-\d\d-\d\d)t(\d.*)$`)
)

// typedHint names the word that a mistyped one resembles.
func typedHint(words []string) string {
	for _, w := range words {
		if near := Nearest(w, slices.Concat(typedDays, typedWeek), 2); near != "" && len(w) > 3 {
			return " Did you mean " + near + "?"
		}
	}
	return ""
}

// typedPast reads "now", "2 hours ago", "an hour ago", "1h ago" and "3 months ago", also without the last word.
func typedPast(words []string, now time.Time) (string, bool) {
	if n := len(words); n > 1 && words[n-1] == "ago" {
		words = words[:n-1]
	}
	switch len(words) {
	case 1:
		if words[0] == "now" {
			return Micros(now).Format(time.RFC3339Nano), true
		}
		_, err := ParseDuration(words[0])
		return words[0], err == nil
	case 2:
		if words[0] == "a" || words[0] == "an" {
			words[0] = "1"
		}
		n, err := strconv.Atoi(words[0])
		if err != nil || n < 1 || n > 10_000 {
			return "", false
		}
		switch unit := strings.TrimSuffix(words[1], "s"); unit {
		case "month":
			return Micros(now.AddDate(0, -n, 0)).Format(time.RFC3339Nano), true
		case "year":
			return Micros(now.AddDate(-n, 0, 0)).Format(time.RFC3339Nano), n < 10
		default:
			span := words[0] + typedUnits[unit]
			_, err = ParseDuration(span)
			return span, err == nil
		}
	}
	return "", false
}

// typedDay reads a day, a clock time, or both. now is in the zone of the person.
func typedDay(words []string, now time.Time, end bool) (time.Time, bool) {
	if len(words) > 0 {
		if m := dayAndClock.FindStringSubmatch(words[0]); m != nil {
			words = slices.Replace(words, 0, 1, m[1], m[2])
		}
	}
	y, m, d := now.Date()
	step := 1 // how many days back the same moment comes again; 0: never
	last := false
	if len(words) > 1 && (words[0] == "last" || words[0] == "this") {
		last = words[0] == "last"
		words = words[1:]
		if at, ok := typedStart(words[0], last, now); ok && len(words) == 1 {
			return at, true
		}
		if weekday(words[0]) < 0 {
			return time.Time{}, false
		}
	}
	if len(words) > 0 {
		day, err := time.Parse(time.DateOnly, words[0])
		w := weekday(words[0])
		switch {
		case err == nil:
			y, m, d = day.Date()
			step, words = 0, words[1:]
		case w >= 0:
			back := (int(now.Weekday()) - w + 7) % 7
			if back == 0 && last {
				back = 7
			}
			step, d, words = 7, d-back, words[1:]
		case slices.Contains(typedDays, words[0]):
			step, d, words = 0, d+[]int{0, -1, 1}[slices.Index(typedDays, words[0])], words[1:]
		}
	}
	if len(words) > 1 && words[0] == "at" {
		words = words[1:]
	}
	clock := time.Time{}
	switch text := strings.Join(words, ""); {
	case text == "" && step != 1, text == "midnight":
	case text == "noon":
		clock = clock.Add(12 * time.Hour)
	default:
		ok := false
		for _, layout := range []string{"15:04", time.TimeOnly, "3pm", "3:04pm"} {
			if at, err := time.Parse(layout, text); err == nil {
				clock, ok = at, true
			}
		}
		if !ok {
			return time.Time{}, false
		}
	}
	of := func(d int) time.Time {
		return Micros(time.Date(y, m, d, clock.Hour(), clock.Minute(), clock.Second(), clock.Nanosecond(), now.Location()))
	}
	if at := of(d); end || step == 0 || !at.After(now) {
		return at, true
	}
	return of(d - step), true // 22:00, asked in the morning, was yesterday
}

// typedStart is the start of this or the last week, month or year. Weeks start on Monday.
func typedStart(unit string, last bool, now time.Time) (time.Time, bool) {
	back := 0
	if last {
		back = 1
	}
	y, m, d := now.Date()
	switch unit {
	case "week":
		d -= (int(now.Weekday())+6)%7 + 7*back
	case "month":
		m, d = m-time.Month(back), 1
	case "year":
		y, m, d = y-back, time.January, 1
	default:
		return time.Time{}, false
	}
	return time.Date(y, m, d, 0, 0, 0, 0, now.Location()), true
}

// weekday is the number of a day of the week by its name or the first three letters or more of it; -1 when it is none.
func weekday(word string) int {
	return slices.IndexFunc(typedWeek, func(day string) bool { return len(word) >= 3 && strings.HasPrefix(day, word) })
}
