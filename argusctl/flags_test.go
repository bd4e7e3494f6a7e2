package main

import (
	"net/url"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/useargus/argus"
)

// TestErrorsNameFlags: what a command line says of a bad value names the flag that holds it, negated or not, and no field
// of the API. It holds for every filter of every command, and for the times.
func TestErrorsNameFlags(t *testing.T) {
	bad := map[argus.FilterName]string{argus.FilterActorKind: "robot", argus.FilterPAT: "1", argus.FilterBreakGlass: "1", argus.FilterRoute: "FETCH /x",
		argus.FilterMethod: "FETCH", argus.FilterStatus: "9", argus.FilterOutcome: "done", argus.FilterClient: "a/b", argus.FilterUserAgent: "\xff",
		argus.FilterClientIP: "here", argus.FilterParam: "id", argus.FilterID: "42", argus.FilterRequestID: " ", argus.FilterLatencyMin: "soon",
		argus.FilterReason: "\xff", argus.FilterTraceID: "1"}
	now := time.Date(2026, 1, 31, 13, 0, 0, 0, time.UTC)
	fields := regexp.MustCompile(`(^|[^-a-z])(` + strings.Join(slices.DeleteFunc(slices.Clone(apiFields), func(name string) bool {
		return !strings.Contains(name, "_") || name == "break_glass" // a kind of actor, too
	}), "|") + `)\b`)
	check := func(line ...string) {
		text, code := onTerminal(t, 200, now, "http://127.0.0.1:1", line)
		flag := line[slices.IndexFunc(line, func(s string) bool { return strings.HasPrefix(s, "--") })]
		said, _, _ := strings.Cut(text, "\n")
		if code != exitUsage || !strings.HasPrefix(said, "error: "+flag) || fields.MatchString(said) || strings.Contains(said, `="`) {
			t.Errorf("%q: exit code %d: %s", line, code, said)
		}
	}
	for _, command := range []string{"logs tail", "logs export x.ndjson", "logs facets", "logs show --last", "perf"} {
		args := strings.Fields(command)
		for _, name := range argus.FilterNames() {
			for _, not := range []string{"", "not-"} {
				check(append([]string{args[0]}, append([]string{"--" + not + flagOf(name), bad[name]}, args[1:]...)...)...)
				if command != "logs tail" {
					break // one parser for all of them
				}
			}
		}
		for _, flag := range []string{"--since", "--until"} {
			check(append([]string{args[0]}, append([]string{flag, "someday"}, args[1:]...)...)...)
		}
	}
	check("logs", "tail", "--until", "2h", "--since", "1h")

	// What the server says of fields that flags stand for is told in flags as well. Nothing else is changed.
	for said, want := range map[string]string{
		"limit must be a whole number from 1 to 1000.":             "--limit must be a whole number from 1 to 1000.",
		"confirm_tenant_id must repeat the tenant's id.":           "--confirm must repeat the tenant's id.",
		"Say agent_actions to allow it.":                           "Say --allow-actions to allow it.",
		"expires_in is 365d at most.":                              "--expires-in is 365d at most.",
		"write clerk_session, oidc_session, pat, break_glass or x": "write clerk_session, oidc_session, pat, break_glass or x",
		"No actor 'gra'. Did you mean Grace Lindqvist?":            "No actor 'gra'. Did you mean Grace Lindqvist?",
		"The tenant has no consent on record.":                     "The tenant has no consent on record.",
		"until lies before since.":                                 "--until lies before --since.",
	} {
		if got := inFlags(said); got != want {
			t.Errorf("%q became %q, want %q", said, got, want)
		}
	}
	// Each field that is told as a flag is a flag somewhere.
	flags := map[string]bool{}
	walk(docRoot(t), func(c *cobra.Command) { c.Flags().VisitAll(func(f *pflag.Flag) { flags[f.Name] = true }) })
	for _, name := range append(slices.Clone(apiFields), "not_actor") {
		if !flags[strings.ReplaceAll(name, "_", "-")] {
			t.Errorf("no command has --%s", strings.ReplaceAll(name, "_", "-"))
		}
	}
	for field, name := range renamed {
		if !flags[name] {
			t.Errorf("no command has --%s, for %s", name, field)
		}
	}
	if _, err := argus.ParseFilter(url.Values{"not_actor_kind": {"x"}}, now); badParameter("--not-actor-kind", err).message !=
		`--not-actor-kind "x": write clerk_session, oidc_session, pat, break_glass or workload.` {
		t.Error(badParameter("--not-actor-kind", err).message)
	}
}
