package main

import (
	"log"
	"log/slog"
	"os"
	"strings"

	"golang.org/x/time/rate"

	"github.com/useargus/argus"
)

// newLogger writes JSON lines to stderr, or text when format is "text". Handlers never see secrets: they are
// kept out of attributes where these are made. It becomes the process's default, for libraries that log by themselves.
func newLogger(level slog.Level, format string) *slog.Logger {
	options := &slog.HandlerOptions{Level: level}
	var handler slog.Handler = slog.NewJSONHandler(os.Stderr, options)
	if format == "text" {
		handler = slog.NewTextHandler(os.Stderr, options)
	}
	logger := slog.New(handler)
	takeStandardLog(logger)
	return logger
}

// takeStandardLog has what goes to the standard logger, and to slog's default, written by logger. Libraries of connections
// write there what a peer did: net/http, of a service that answers without having been asked, even what it sent. So a
// line is cut, and a peer cannot flood the log.
func takeStandardLog(logger *slog.Logger) {
	slog.SetDefault(logger) // sets the standard logger's output too
	log.SetFlags(0)
	log.SetOutput(&standardLog{logger: logger, limit: rate.NewLimiter(standardLines, standardLines)})
}

// Bounds of the standard logger's lines.
const (
	standardLines  = 5 // a second
	standardLength = 300
)

// standardLog is the standard logger's output. The logger calls it with one message at a time.
type standardLog struct {
	logger  *slog.Logger
	limit   *rate.Limiter
	skipped int
}

func (s *standardLog) Write(line []byte) (int, error) {
	if !s.limit.Allow() {
		s.skipped++
		return len(line), nil
	}
	text := argus.Text(strings.TrimSpace(string(line)), standardLength)
	s.logger.Warn("a library reports", "text", text, "not_shown_before", s.skipped)
	s.skipped = 0
	return len(line), nil
}
