package main

import (
	"io"
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
	logger := slog.New(newHandler(os.Stderr, level, format))
	takeStandardLog(logger)
	return logger
}

// maxAttribute is the longest text of an attribute. A peer chooses some: net/http's error of an answer that is no HTTP holds
// its first line, of up to 64 KiB. The stack of a panic fits in its upper part.
const maxAttribute = 8 << 10

func newHandler(to io.Writer, level slog.Level, format string) slog.Handler {
	options := &slog.HandlerOptions{Level: level, ReplaceAttr: func(_ []string, a slog.Attr) slog.Attr {
		switch a.Value.Kind() {
		case slog.KindString:
			a.Value = slog.StringValue(argus.Text(a.Value.String(), maxAttribute))
		case slog.KindAny:
			if err, ok := a.Value.Any().(error); ok && err != nil {
				a.Value = slog.StringValue(argus.Text(err.Error(), maxAttribute))
			}
		}
		return a
	}}
	if format == "text" {
		return slog.NewTextHandler(to, options)
	}
	return slog.NewJSONHandler(to, options)
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
