package argus

import (
	"encoding/json"
	"errors"
	"net/url"
	"os"
	"strings"
	"testing"
	"time"
)

// TestGrammar holds the server to the table that the console's test reads too. The table has times, durations and queries,
// and for each bad one the sentence about it.
func TestGrammar(t *testing.T) {
	var table struct {
		Now   time.Time
		Typed []struct {
			Text, Hint         string
			At                 time.Time
			End, Local, Server bool
		}
		Times []struct {
			Text, Error string
			At          time.Time
		}
		Durations []struct {
			Text, Error string
			US          int64
		}
		Queries []struct{ Query, Error string }
	}
	b, err := os.ReadFile("testdata/grammar.json")
	if err == nil {
		err = json.Unmarshal(b, &table)
	}
	if err != nil || len(table.Times) < 50 || len(table.Durations) < 20 || len(table.Queries) < 50 {
		t.Fatalf("%v; %d times, %d durations, %d queries", err, len(table.Times), len(table.Durations), len(table.Queries))
	}
	said := func(err error) string {
		var e *Error
		if err == nil {
			return ""
		}
		if !errors.As(err, &e) || e.Code != CodeInvalidParameter {
			t.Fatalf("%v", err)
		}
		return e.Message
	}
	berlin, err := time.LoadLocation("Europe/Berlin")
	if err != nil || len(table.Typed) < 50 {
		t.Fatal(err, len(table.Typed))
	}
	for _, c := range table.Typed {
		zone := time.UTC
		if c.Local {
			zone = berlin
		}
		text, err := TypedTime(c.Text, table.Now, zone, c.End)
		if s := said(err); (s != "") != c.At.IsZero() || c.Hint != "" && !strings.HasSuffix(s, " Did you mean "+c.Hint+"?") {
			t.Errorf("typed %q: %q, %q", c.Text, text, s)
		}
		if got, err := ParseTime(text, table.Now); !c.At.IsZero() && (err != nil || !got.Equal(c.At)) {
			t.Errorf("typed %q: %v, %v, want %v", c.Text, got, err, c.At)
		}
	}
	for _, text := range []string{"tomorrow", "today 22:00", "2026-12-24"} {
		_, err := TypedTime(text, table.Now, time.UTC, false)
		if s := said(err); !strings.Contains(s, "lies ahead") {
			t.Errorf("typed %q: %q", text, s)
		}
	}
	for _, c := range table.Times {
		got, err := ParseTime(c.Text, table.Now)
		if s := said(err); s != c.Error || err == nil && !got.Truncate(time.Millisecond).Equal(c.At) {
			t.Errorf("time %q: %v, %q", c.Text, got, s)
		}
	}
	for _, c := range table.Durations {
		got, err := ParseDuration(c.Text)
		if s := said(err); s != c.Error || got.Microseconds() != c.US {
			t.Errorf("duration %q: %v, %q", c.Text, got, s)
		}
	}
	for _, c := range table.Queries {
		q, err := url.ParseQuery(c.Query)
		if err != nil { // as the API answers before it reads any parameter
			err = Errorf(CodeInvalidParameter, "The query cannot be read; escape %% as %%25.")
		} else {
			_, err = ParseFilter(q, table.Now)
		}
		if s := said(err); s != c.Error {
			t.Errorf("query %q: %q", c.Query, s)
		}
	}
}
