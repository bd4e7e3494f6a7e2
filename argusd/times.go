package main

import (
	"fmt"
	"time"

	"github.com/useargus/argus"
)

// typedTime reads the time of a flag as argus.TypedTime does. Its days and clock times are UTC, as all that argusd prints.
func typedTime(flag, s string, end bool) (time.Time, error) {
	now := time.Now()
	text, err := argus.TypedTime(s, now, time.UTC, end)
	if err != nil {
		return time.Time{}, fmt.Errorf("%s: %w", flag, err)
	}
	return argus.ParseTime(text, now)
}
