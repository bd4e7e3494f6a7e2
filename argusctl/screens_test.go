package main

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/clipperhouse/displaywidth"
	"github.com/creack/pty"
	"github.com/google/uuid"

	"github.com/useargus/argus"
)

// screens are the commands that print tables, each with what it is asked. A name is that of its golden file.
var screens = []struct{ name, line string }{
	{"logs-tail", "logs tail --since 2026-01-31T12:00:00Z"},
	{"logs-tail-newest", "logs tail --not-actor user_2nobody"},
	{"logs-tail-reason", "logs tail --since 2026-01-31T12:00:00Z --reason ride"},
	{"logs-show", "logs show 019c1000-0000-7000-8000-000000000004"},
	{"logs-show-interrupted", "logs show 019c1000-0000-7000-8000-000000000007"},
	{"logs-show-last", "logs show --last --actor user_2graceHopper"},
	{"logs-facets", "logs facets --since 2026-01-31T12:00:00Z --until 2026-01-31T13:00:00Z"},
	{"logs-facets-actor", "logs facets actor route --since 2026-01-31T12:00:00Z --until 2026-01-31T13:00:00Z"},
	{"logs-context", "logs context 019c1000-0000-7000-8000-000000000004"},
	{"logs-context-all", "logs context 019c1000-0000-7000-8000-000000000005 --all --within 2m"},
	{"perf", "perf --since 2026-01-31T12:00:00Z --until 2026-01-31T13:00:00Z"},
	{"perf-compare", "perf --since 2026-01-31T12:00:00Z --until 2026-01-31T13:00:00Z --sort regression"},
	{"perf-actor", "perf --since 2026-01-31T12:00:00Z --until 2026-01-31T13:00:00Z --group-by actor"},
	{"perf-slowest", "perf --since 2026-01-31T12:00:00Z --until 2026-01-31T13:00:00Z --slowest /v1/tenants*"},
	{"health", "health"},
	{"health-degraded", "/s/degraded health"},
	{"health-copies", "/s/copies health"},
	{"health-dark", "/s/dark503 health"},
	{"status", "status"},
	{"status-dark", "/s/dark503 status"},
	{"compute-list", "compute list"},
	{"tenant-ls", "tenant ls"},
	{"tenant-show", "tenant show UTD_KONBINI_001"},
	{"service-ls", "service ls"},
	{"service-show", "service show billing"},
	{"token-ls", "token ls"},
	{"token-ls-all", "token ls --all"},
	{"token-show", "token show 019c0000-0000-7000-8000-0000000000c1"},
	{"access-review", "access review"},
	{"view-ls", "view ls"},
	{"view-show", "view show REFUSED"},
	{"whoami", "whoami"},
}

// TestScreens holds what a person sees on terminals of 80, 120 and 200 columns. Each is a real terminal; the clock stands
// still at 14:00 in Berlin, also at the server. No line of a table is wider than the terminal.
func TestScreens(t *testing.T) {
	local := time.Local
	t.Cleanup(func() { time.Local = local })
	time.Local, _ = time.LoadLocation("Europe/Berlin")
	now := time.Date(2026, 1, 31, 13, 0, 0, 0, time.UTC)
	for _, screen := range screens {
		t.Run(screen.name, func(t *testing.T) {
			var golden bytes.Buffer
			for _, width := range []int{80, 120, 200} {
				server := newFake(t, filepath.Join(t.TempDir(), "requests"))
				server.now, server.still = func() time.Time { return now }, true
				furnish(server)
				base, args := server.URL, strings.Fields(screen.line)
				if strings.HasPrefix(args[0], "/") {
					base, args = base+args[0], args[1:]
				}
				fmt.Fprintf(&golden, "== %d columns: argusctl %s\n", width, strings.Join(args, " "))
				text, code := onTerminal(t, width, now, base, args)
				text = strings.ReplaceAll(text, strings.TrimPrefix(server.URL, "http://"), "ops.example.com")
				for line := range strings.Lines(text) {
					// Sentences may wrap, what stands in columns may not.
					if w := displaywidth.String(strings.TrimSuffix(line, "\n")); w > width && strings.Contains(line, "  ") && !strings.HasPrefix(line, " ") {
						t.Errorf("%d columns for a width of %d: %s", w, width, line)
					}
				}
				inColumns(t, width, text)
				fmt.Fprintf(&golden, "%s-- exit code %d\n\n", text, code)
			}
			goldenFile(t, filepath.Join("testdata/screens", screen.name+".txt"), golden.Bytes())
		})
	}
}

// inColumns holds the calls of a log to their columns: each route starts below its head.
func inColumns(t *testing.T, width int, text string) {
	t.Helper()
	at := -1
	for line := range strings.Lines(text) {
		line = strings.TrimSuffix(line, "\n")
		switch head := strings.Index(line, "  ROUTE"); {
		case strings.HasPrefix(line, "TIME (") && head >= 0:
			at = head + len(columnGap)
		case at >= 0 && line != "" && line[0] >= '0' && line[0] <= '9':
			before := displaywidth.TruncateString(line, at, "")
			if displaywidth.String(before) != at || !strings.HasSuffix(before, columnGap) || strings.HasPrefix(line[len(before):], " ") {
				t.Errorf("%d columns: the route does not start at %d: %s", width, at, line)
			}
		}
	}
}

func goldenFile(t *testing.T, file string, have []byte) {
	t.Helper()
	if *update {
		golden(t, file, have)
		return
	}
	if want, err := os.ReadFile(file); err != nil || !bytes.Equal(want, have) {
		t.Errorf("%s differs; with -update it is\n%s", file, have)
	}
}

// onTerminal runs a command on a terminal of its own, in this process.
func onTerminal(t *testing.T, width int, now time.Time, base string, args []string) (shown string, code int) {
	t.Helper()
	outside, inside, err := pty.Open()
	if err != nil {
		t.Fatal(err)
	}
	defer outside.Close()
	if err := pty.Setsize(inside, &pty.Winsize{Cols: uint16(width), Rows: 50}); err != nil {
		t.Fatal(err)
	}
	read := make(chan string)
	go func() {
		text, _ := io.ReadAll(outside) // it ends with an error when the inside is closed
		read <- string(text)
	}()
	who := callers[0]
	if args[0] == "whoami" {
		who = callers[1] // whose scopes do not grow with every new one
	}
	env := map[string]string{"ARGUS_URL": base, "ARGUS_TOKEN": who.token, "NO_COLOR": "1", "TERM": "xterm", "ARGUS_KEYRING": "off",
		"ARGUS_CONFIG_DIR": t.TempDir()}
	f := &factory{io: newStreams(inside, inside, inside, func(name string) string { return env[name] }), env: func(name string) string { return env[name] },
		now: func() time.Time { return now }}
	code = f.run(args)
	inside.Close()
	return strings.ReplaceAll(<-read, "\r\n", "\n"), code
}

// furnish gives the fake what tables of tokens, workers, tenants and sessions are made of.
func furnish(f *fake) {
	f.tokens[0]["last_four"] = "9f3c"
	add := func(id, owner, name, preset string, agent any, created, expires string, revoked any) {
		token := fakeToken(owner, name, optional(preset), []string{"logs:read", "tenants:read", "compute:read"}, "argus_pat_x")
		for key, v := range map[string]any{"id": id, "created_at": created, "expires_at": expires, "agent": agent, "revoked_at": revoked, "last_four": "0Zq7",
			"last_used_at": "2026-01-31T12:41:00.000000Z", "audit_id": "019c1000-0000-7000-8000-0000000000a1"} {
			token[key] = v
		}
		if revoked != nil {
			token["revoked_by"] = owner
		}
		f.tokens = append(f.tokens, token)
	}
	add("019c0000-0000-7000-8000-0000000000c1", adaID, "nightly report of all armed tenants, for the SRE board", "support-readonly", nil,
		"2026-01-02T00:00:00.000000Z", "2026-02-02T00:00:00.000000Z", nil)
	add("019c0000-0000-7000-8000-0000000000c2", graceID, "coding", "", "claude-code", "2026-01-20T00:00:00.000000Z", "2026-04-20T00:00:00.000000Z", nil)
	add("019c0000-0000-7000-8000-0000000000c3", adaID, "laptop", "admin-full", nil, "2025-11-01T00:00:00.000000Z", "2026-01-30T00:00:00.000000Z",
		"2026-01-15T09:30:00.000000Z")
	for i, v := range [][2]string{{"Refused", "since=24h&status=403"}, {"Arming and disarming of all tenants in the night, for the SRE board", "not_actor=me&param.tenant=UTD_7ELEVEN_001&route=POST+%2Fv1%2Ftenants%2F%3Aid%2Farm&since=7d"},
		{"Of an old release", "colour=red"}} {
		f.views = append(f.views, map[string]any{"id": fmt.Sprintf("019c0000-0000-7000-8000-0000000000d%d", i), "name": v[0], "filter": v[1], "saved_by": adaID,
			"saved_at": "2026-01-30T09:00:00.000000Z", "audit_id": "019c1000-0000-7000-8000-0000000000a2", "problem": nil})
	}
	f.views[2]["problem"] = "There is no parameter \"colour\" here."
	stopped := fakeWorker("019c1f00-0000-7000-8000-000000000077", "hetzner", "stopped", false)
	stopped["reason"], stopped["launched_by"] = "load test of the new scheduler before the release on Monday", graceID
	f.workers = append(f.workers, stopped)
	wide := &f.tenants[2]
	wide.Sessions = []session{{ID: "019c1e00-0000-7000-8000-000000000001", TenantID: wide.ID, State: "live", StartedBy: graceID,
		StartedAt: time.Date(2026, 1, 31, 12, 45, 0, 0, time.UTC), EndsAt: time.Date(2026, 1, 31, 13, 15, 0, 0, time.UTC)}}
	// A call of a support session, and one from far away: a long route, and a long address.
	end := f.rows[3]
	end.Seq, end.ID, end.OccurredAt = 11, uuid.MustParse("019c1000-0000-7000-8000-000000000011"), end.OccurredAt.Add(40*time.Second)
	end.RecordedAt = end.OccurredAt
	end.Route, end.PathParams = "POST /v1/tenants/:id/sessions/:session/end", []argus.PathParam{{Name: "id", Value: "UTD_7ELEVEN_001"},
		{Name: "session", Value: "019c1e00-0000-7000-8000-000000000001"}}
	end.Reason = "printer works again"
	f.rows = append(f.rows, end)
}
