package main

// What is printed, and how. These rules hold for every command.
//
//   - Standard output carries the answer and nothing else. Notices, progress, questions and errors go to
//     standard error.
//   - On a terminal: tables that fit its width, colour (unless NO_COLOR is set or TERM is dumb), local time
//     (--utc for UTC), with the
//     zone in the head of the column. In a pipe: the same columns in full, no colour, times in RFC 3339 and UTC.
//   - In a pipe two spaces or more separate columns, and no value is cut. A value wider than widestPad moves the rest
//     of its row. So a script splits a line where two spaces stand (awk -F '  +'), never at a position; texts that
//     people wrote may hold two spaces themselves, and for those there are csv and json.
//   - --json (--output json) prints one object a line, the server's own bytes. --output csv prints a header and
//     one record a line, raw values. --output wide adds columns and cuts none. --jq, --output name and --output
//     jsonpath=… print what they select of each object.
//   - Data is never trusted: control and format characters in it are shown as escapes (\x1b), in tables
//     everywhere, and on a terminal also in CSV and in JSON, where \u escapes keep its meaning.
//   - When the reader of standard output goes away, the program ends quietly, at once and with 141, as other tools
//     do. A change that is under way is carried through.

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/term"

	"github.com/useargus/argus"
)

type format int

const (
	short format = iota
	wide
	asJSON
	asCSV
)

// format is what --output, --json and --jq ask for. What a script selects, it selects of JSON.
func (f *factory) format() (format, error) {
	if f.jq != "" || f.output == "name" || strings.HasPrefix(f.output, "jsonpath=") {
		return asJSON, nil
	}
	if f.json {
		if f.output != "" && f.output != "json" {
			return 0, usageErrorf("--json and --output %s exclude each other.", f.output)
		}
		return asJSON, nil
	}
	switch f.output {
	case "", "short":
		return short, nil
	case "wide":
		return wide, nil
	case "json":
		return asJSON, nil
	case "csv":
		return asCSV, nil
	}
	return 0, usageErrorf("--output %q: write wide, short, json, csv, name or jsonpath=TEMPLATE.", f.output)
}

// streams are the three standard streams and what is known about them.
type streams struct {
	in  *os.File
	out *bufio.Writer // over standard output; a closed reader is errStdoutClosed
	err io.Writer

	inTerminal, outTerminal, errTerminal bool
	outColor, errColor                   bool

	outFile *os.File
	columns string // of the environment, for terminals that do not say how wide they are
}

func newStreams(in, out, errOut *os.File, env func(string) string) *streams {
	// A write to a closed pipe is then an error like others instead of a death by signal.
	signal.Ignore(syscall.SIGPIPE)
	s := &streams{
		in: in, out: bufio.NewWriterSize(stdout{out}, 64<<10), err: errOut, outFile: out, columns: env("COLUMNS"),
		inTerminal:  term.IsTerminal(int(in.Fd())),
		outTerminal: term.IsTerminal(int(out.Fd())),
		errTerminal: term.IsTerminal(int(errOut.Fd())),
	}
	color := env("NO_COLOR") == "" && env("TERM") != "dumb"
	s.outColor, s.errColor = color && s.outTerminal, color && s.errTerminal
	return s
}

type stdout struct{ *os.File }

func (s stdout) Write(b []byte) (int, error) {
	n, err := s.File.Write(b)
	if errors.Is(err, syscall.EPIPE) {
		err = errStdoutClosed
	} else if err != nil {
		err = fmt.Errorf("standard output: %w", err)
	}
	return n, err
}

// width is how many columns standard output has; 0 means as many as it takes.
func (s *streams) width() int {
	w, _ := s.size()
	return w
}

func (s *streams) size() (columns, lines int) {
	if !s.outTerminal {
		return 0, 0
	}
	columns, lines, err := term.GetSize(int(s.outFile.Fd()))
	if err != nil || columns <= 0 {
		columns = 80
		if n, err := strconv.Atoi(s.columns); err == nil && n > 0 {
			columns = n
		}
	}
	if lines <= 0 {
		lines = 24
	}
	return columns, lines
}

// canAsk reports whether there is a person to ask.
func (s *streams) canAsk() bool { return s.inTerminal && s.errTerminal }

// style is how a text looks on a terminal.
type style uint8

const (
	plain style = iota
	bold
	dim
	red
	yellow
	green
	cyan
)

var styleCodes = [...]string{bold: "1", dim: "2", red: "31", yellow: "33", green: "32", cyan: "36"}

func paint(on bool, st style, text string) string {
	if !on || st == plain || text == "" {
		return text
	}
	return "\x1b[" + styleCodes[st] + "m" + text + "\x1b[0m"
}

func (s *streams) outStyle(st style, text string) string { return paint(s.outColor, st, text) }
func (s *streams) errStyle(st style, text string) string { return paint(s.errColor, st, text) }

// notice tells a person something beside the answer.
func (f *factory) notice(format string, args ...any) {
	fmt.Fprintln(f.io.err, harmlessLines(fmt.Sprintf(format, args...)))
}

// jsonLine prints one JSON object as a line of its own, or what a script selects of it.
func (f *factory) jsonLine(object []byte) error {
	if f.selects != nil {
		return f.selected(object)
	}
	if bytes.IndexByte(object, '\n') >= 0 {
		var b bytes.Buffer
		if err := json.Compact(&b, object); err != nil {
			return badAnswer(err)
		}
		object = b.Bytes()
	}
	if f.io.outTerminal {
		object = harmlessJSON(object)
	}
	if _, err := f.io.out.Write(object); err != nil {
		return err
	}
	return f.io.out.WriteByte('\n')
}

// csvRecord prints one line of CSV to standard output.
func (f *factory) csvRecord(cells []string) error {
	if f.io.outTerminal {
		for i, c := range cells {
			cells[i] = harmless(c)
		}
	}
	_, err := f.io.out.Write(argus.AppendCSV(nil, cells, "\n"))
	return err
}

// shownTime is a moment in the zone in which everything is shown: that of now on this machine, or UTC. A zone may have
// another offset at another time of the year. One screen has one.
func (f *factory) shownTime(t time.Time) time.Time {
	if f.utc || !f.io.outTerminal {
		return t.UTC()
	}
	return t.In(time.FixedZone(f.now().Local().Zone()))
}

// zone is the name of that zone, as the head of a column tells it: CET, or +02:00 where it has no name.
func (f *factory) zone() string {
	name, _ := f.shownTime(f.now()).Zone()
	if name == "" || name[0] == '+' || name[0] == '-' {
		name = f.shownTime(f.now()).Format("-07:00")
	}
	return name
}

// localTime shows a moment with its zone: for people on a terminal, in RFC 3339 and UTC elsewhere. "-" when there is none.
func (f *factory) localTime(t time.Time) string {
	switch {
	case t.IsZero():
		return "-"
	case !f.io.outTerminal:
		return t.UTC().Format(argus.TimeFormat)
	}
	return f.shownTime(t).Format(time.DateTime) + " " + f.zone()
}

// exactTime shows a moment to the microsecond.
func (f *factory) exactTime(t time.Time) string {
	if t.IsZero() || !f.io.outTerminal {
		return t.UTC().Format(argus.TimeFormat)
	}
	return f.shownTime(t).Format("2006-01-02 15:04:05.000000 ") + f.zone()
}

// exactCell is exactTime in a column, whose head has the zone.
func (f *factory) exactCell(t time.Time) cell {
	c := f.timeCell(t)
	if c.zone != "" {
		c.text = f.shownTime(t).Format("2006-01-02 15:04:05.000000")
	}
	return c
}

// nearCell shows a moment by how far it is from now on a terminal, and else as timeCell does.
func (f *factory) nearCell(t time.Time, how format) cell {
	c := f.timeCell(t)
	if c.none || how != short || !f.io.outTerminal {
		return c
	}
	c.zone = ""
	switch d := t.Sub(f.now()); {
	case d.Abs() > 2*365*24*time.Hour:
		c.text = f.shownTime(t).Format(time.DateOnly)
	case d < 0:
		c.text = f.ago(t)
	default:
		c.text = "in " + formatDuration(d)
	}
	return c
}

// window shows from when to when, and how long that is.
func (f *factory) window(since, until time.Time) string {
	from := f.localTime(since)
	if f.io.outTerminal {
		from = f.shownTime(since).Format(time.DateTime)
	}
	return fmt.Sprintf("%s to %s (%s)", from, f.localTime(until), formatDuration(until.Sub(since)))
}

// timeCell shows a moment; CSV has it in RFC 3339. On a terminal the head of its column has the zone.
func (f *factory) timeCell(t time.Time) cell {
	if t.IsZero() {
		return txt("")
	}
	raw := t.UTC().Format(argus.TimeFormat)
	if !f.io.outTerminal {
		return val(raw, raw)
	}
	c := val(f.shownTime(t).Format(time.DateTime), raw)
	c.zone = f.zone()
	return c
}
