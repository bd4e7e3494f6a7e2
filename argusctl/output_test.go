package main

import (
	"bytes"
	"encoding/json"
	"io"
	"log"
	"net/url"
	"reflect"
	"regexp"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/clipperhouse/displaywidth"
	"pgregory.net/rapid"

	"github.com/useargus/argus"
)

func quiet() *log.Logger { return log.New(io.Discard, "", 0) }

func anyText() *rapid.Generator[string] {
	return rapid.OneOf(rapid.String(), rapid.Custom(func(t *rapid.T) string { return string(rapid.SliceOf(rapid.Byte()).Draw(t, "bytes")) }),
		rapid.SampledFrom([]string{"", "\x1b[2J", "\u009b31m", "a\u202eb", "東京", "👩‍👩‍👧", "e\u0301", "\u2028", "\U000e0041", "\xff\xfe", "=1+1", "-", "\u200b"}))
}

// TestHarmless: nothing that is shown can steer a terminal, and what is harmless already is left alone.
func TestHarmless(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s := anyText().Draw(t, "s")
		shown := harmless(s)
		clean := utf8.ValidString(s)
		for c := range argus.Characters(shown) {
			if c.Hidden {
				t.Fatalf("%q is shown as %q", s, shown)
			}
		}
		for c := range argus.Characters(s) {
			clean = clean && !c.Hidden
		}
		if !utf8.ValidString(shown) || clean != (shown == s) {
			t.Fatalf("%q is shown as %q", s, shown)
		}
	})
}

// TestHarmlessJSON: escaping changes nothing of what a JSON text says.
func TestHarmlessJSON(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		v := map[string]any{"k": anyText().Draw(t, "k"), anyText().Draw(t, "name"): []any{anyText().Draw(t, "v"), 1.5, nil}}
		var b bytes.Buffer
		e := json.NewEncoder(&b)
		e.SetEscapeHTML(false)
		if err := e.Encode(v); err != nil {
			t.Fatal(err)
		}
		text := bytes.TrimSuffix(b.Bytes(), []byte("\n"))
		shown := harmlessJSON(bytes.Clone(text))
		for c := range argus.Characters(string(shown)) {
			if c.Hidden {
				t.Fatalf("%q is shown as %q", text, shown)
			}
		}
		var before, after any
		if err := json.Unmarshal(text, &before); err != nil {
			t.Fatal(err)
		}
		if err := json.Unmarshal(shown, &after); err != nil || !reflect.DeepEqual(before, after) {
			t.Fatalf("%q became %q: %v", text, shown, err)
		}
	})
}

// TestBodiesArePrintedAsSent: what --dry-run prints of a body is the body, on a terminal, too.
func TestBodiesArePrintedAsSent(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		reason := anyText().Draw(t, "reason")
		body, err := encodeBody(reasonBody{reason})
		if err != nil {
			t.Fatal(err)
		}
		if n := bytes.Count(body, []byte("\n")); n != 1 || body[len(body)-1] != '\n' || harmlessLines(string(body)) != string(body) {
			t.Fatalf("%q", body)
		}
		var back reasonBody
		if err := json.Unmarshal(body, &back); err != nil || back.Reason != strings.ToValidUTF8(reason, "\ufffd") && utf8.ValidString(reason) {
			t.Fatalf("%q became %q: %v", reason, body, err)
		}
	})
}

// TestTablesFit: on a terminal no line of a table whose columns give way is wider than it, and in a pipe nothing
// is cut.
func TestTablesFit(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		tab := &table{columns: []column{{head: "ID", flex: true}, {head: "NAME", flex: true, min: 6, spare: true}, {head: "N", right: true}, {head: "MORE", spare: true}}}
		for range rapid.IntRange(0, 4).Draw(t, "rows") {
			tab.rows = append(tab.rows, []cell{txt(anyText().Draw(t, "id")), txt(anyText().Draw(t, "name")), txt("7"), txt(anyText().Draw(t, "more"))})
		}
		width := rapid.IntRange(10, 200).Draw(t, "width")
		for _, line := range tab.lines(width, short, false) {
			if w := displaywidth.String(line); w > width || strings.HasSuffix(line, " ") && strings.TrimSpace(line) == "" {
				t.Fatalf("%d columns for a width of %d: %q", w, width, line)
			}
		}
		full := strings.Join(tab.lines(0, short, false), "\n")
		for _, row := range tab.rows {
			for _, c := range row {
				if !strings.Contains(full, c.shown()) {
					t.Fatalf("%q is missing in\n%s", c.shown(), full)
				}
			}
		}
	})
}

// TestLongValues: one value of 512 characters makes its own row long and no other, in a pipe, in --output wide and on a
// terminal too narrow for the table. It is whole in the first two, and every row still splits where two spaces stand.
func TestLongValues(t *testing.T) {
	for name, long := range map[string]string{"letters": strings.Repeat("x", 512), "wide": strings.Repeat("東", 256), "escapes": strings.Repeat("\x1b", 128)} {
		for _, flex := range []bool{true, false} {
			tab := &table{columns: []column{{head: "CLIENT", flex: flex, min: 20}, {head: "COUNT", right: true}, {head: "REASON"}}}
			for _, client := range []string{"argusctl", long, strings.Repeat("y", 60)} {
				tab.rows = append(tab.rows, []cell{txt(client), txt("7"), txt("ride-along")})
			}
			for _, c := range []struct {
				width int
				how   format
			}{{0, short}, {80, wide}, {80, short}, {120, short}, {30, short}} {
				lines := tab.lines(c.width, c.how, false)
				bound := 60 + 2 + 5 + 2 + 10
				cut := c.how == short && c.width > 0 && flex
				if cut {
					bound = max(c.width, 20+2+5+2+10) // the room there is, or as little as the column takes
				}
				for i, line := range lines {
					if w := displaywidth.String(line); (i != 2 || cut) && w > bound {
						t.Errorf("%s, flexible %t, width %d: row %d is %d wide: %q", name, flex, c.width, i, w, line)
					}
					if parts := regexp.MustCompile("  +").Split(line, -1); len(parts) != 3 {
						t.Errorf("%s, flexible %t, width %d: %q splits into %d", name, flex, c.width, line, len(parts))
					}
				}
				if strings.HasPrefix(lines[2], harmless(long)) == cut {
					t.Errorf("%s, flexible %t, width %d: %q", name, flex, c.width, lines[2])
				}
			}
		}
	}
}

// TestProgress draws one line over and over on a terminal, with how far into the window it has got.
func TestProgress(t *testing.T) {
	var said bytes.Buffer
	now := time.Date(2026, 1, 31, 12, 0, 0, 0, time.UTC)
	f := &factory{io: &streams{err: &said, errTerminal: true}, now: func() time.Time { return now }}
	j := &exportJob{Query: url.Values{"since": {"10h"}}}
	if err := j.window(f); err != nil {
		t.Fatal(err)
	}
	p := f.newProgress(j, &countingWriter{n: 2_000_000})
	now = now.Add(time.Second)
	p.show(2048, []byte(`{"occurred_at":"2026-01-31T04:30:00.000000Z"}`))
	p.show(4096, []byte(`{}`)) // too soon to be drawn
	p.clear()
	if want := "\r\x1b[K2048 rows, 2.0 MB, 2048 rows/s, at 2026-01-31 04:30Z (25%)\r\x1b[K"; said.String() != want {
		t.Errorf("%q, want %q", said.String(), want)
	}
	said.Reset()
	f.io.errTerminal = false
	p = f.newProgress(j, &countingWriter{})
	p.show(2048, nil)
	p.clear()
	if said.Len() > 0 {
		t.Errorf("in a pipe: %q", said.String())
	}
}

func TestFigures(t *testing.T) {
	for ms, want := range map[float64]string{0.004: "0.00ms", 0.42: "0.42ms", 9.994: "9.99ms", 9.996: "10.0ms", 99.96: "100ms", 999.4: "999ms", 999.6: "1.00s", 9996: "10.0s", 123456: "123s"} {
		if got := formatMS(ms); got != want {
			t.Errorf("%v ms is %s, want %s", ms, got, want)
		}
	}
	if got := sparkline([]float64{0, 1, 2, 4, 7}); got != "▁▂▃▅█" {
		t.Error(got)
	}
	if got := resample([]float64{1, 3, 5, 7, 9, 11}, 3); !reflect.DeepEqual(got, []float64{2, 6, 10}) {
		t.Error(got)
	}
	for got, want := range map[string]string{
		change("p99", 100, 112): "+12%", change("p99", 100, 100.1): "=", change("rpm", 0, 3): "new", change("error_rate", 0.01, 0.035): "+2.5pp", change("p50", 1, 20): "×20",
	} {
		if got != want {
			t.Errorf("%s, want %s", got, want)
		}
	}
	for s, want := range map[string]string{"": "", "x argus_pat_ABC y argus_bg_1": "x argus_pat_… y argus_bg_…", "argus_pat_Z9.argus_pat_": "argus_pat_….argus_pat_…"} {
		if got := (&factory{}).redact(s); got != want {
			t.Errorf("%q is redacted to %q, want %q", s, got, want)
		}
	}
}
