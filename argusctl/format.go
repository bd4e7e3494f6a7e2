package main

import (
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"
)

// formatMS shows milliseconds with three digits that matter: 0.42ms, 12.3ms, 1.24s.
func formatMS(ms float64) string {
	switch {
	case math.IsNaN(ms):
		return "-"
	case ms >= 99_950:
		return fmt.Sprintf("%.0fs", ms/1000)
	case ms >= 9_995:
		return fmt.Sprintf("%.1fs", ms/1000)
	case ms >= 999.5:
		return fmt.Sprintf("%.2fs", ms/1000)
	case ms >= 99.95:
		return fmt.Sprintf("%.0fms", ms)
	case ms >= 9.995:
		return fmt.Sprintf("%.1fms", ms)
	}
	return fmt.Sprintf("%.2fms", ms)
}

// latencyStyle colours what keeps people waiting.
func latencyStyle(ms float64) style {
	switch {
	case ms >= 1000:
		return red
	case ms >= 250:
		return yellow
	}
	return plain
}

func statusStyle(status int16) style {
	switch {
	case status >= 500:
		return red
	case status >= 400:
		return yellow
	}
	return plain
}

// formatRate shows a fraction of 1 as a percentage.
func formatRate(r float64) string {
	switch {
	case r == 0:
		return "0%"
	case r < 0.0001:
		return "<0.01%"
	case r < 0.1:
		return fmt.Sprintf("%.2f%%", r*100)
	}
	return fmt.Sprintf("%.1f%%", r*100)
}

func formatRPM(rpm float64) string {
	switch {
	case rpm == 0:
		return "0"
	case rpm < 0.01:
		return "<0.01"
	case rpm < 10:
		return fmt.Sprintf("%.2f", rpm)
	case rpm < 1000:
		return fmt.Sprintf("%.1f", rpm)
	}
	return fmt.Sprintf("%.0f", rpm)
}

// formatDuration shows a length of time in one or two units: 0.8s, 42s, 3m, 2h 5m, 4d 3h.
func formatDuration(d time.Duration) string {
	if d < 0 {
		d = 0
	}
	two := func(a int64, ua string, b int64, ub string) string {
		if b == 0 {
			return fmt.Sprintf("%d%s", a, ua)
		}
		return fmt.Sprintf("%d%s %d%s", a, ua, b, ub)
	}
	s := int64(d / time.Second)
	switch {
	case d < 10*time.Second:
		return strings.TrimSuffix(strconv.FormatFloat(d.Seconds(), 'f', 1, 64), ".0") + "s"
	case s < 60:
		return fmt.Sprintf("%ds", s)
	case s < 3600:
		return two(s/60, "m", s%60, "s")
	case s < 86400:
		return two(s/3600, "h", s%3600/60, "m")
	}
	return two(s/86400, "d", s%86400/3600, "h")
}

// ago says how long before now t was; "-" when there is no t.
func (f *factory) ago(t time.Time) string {
	if t.IsZero() {
		return "-"
	}
	return formatDuration(f.now().Sub(t)) + " ago"
}

func formatBytes(n int64) string {
	const units = "kMGTPE"
	if n < 1000 {
		return fmt.Sprintf("%d B", n)
	}
	v, i := float64(n)/1000, 0
	for v >= 999.5 && i < len(units)-1 {
		v /= 1000
		i++
	}
	return fmt.Sprintf("%.1f %cB", v, units[i])
}

// sparkline draws values as blocks of eight heights, the greatest filling one; all zero is a flat line.
func sparkline(values []float64) string {
	blocks := []rune("▁▂▃▄▅▆▇█")
	top := 0.0
	for _, v := range values {
		top = max(top, v)
	}
	var b strings.Builder
	for _, v := range values {
		i := 0
		if top > 0 {
			i = min(int(v/top*float64(len(blocks)-1)+0.5), len(blocks)-1)
		}
		b.WriteRune(blocks[i])
	}
	return b.String()
}

// sentence gives a library's message the form of ours.
func sentence(s string) string {
	r, size := utf8.DecodeRuneInString(s)
	if size == 0 {
		return s
	}
	s = string(unicode.ToUpper(r)) + s[size:]
	if !strings.ContainsAny(s[len(s)-1:], ".!?:\n") {
		s += "."
	}
	return s
}
