package main

import (
	"bytes"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/cobra/doc"
	"github.com/spf13/pflag"
)

func docRoot(t *testing.T) *cobra.Command {
	null, err := os.Open(os.DevNull)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { null.Close() })
	f := &factory{io: newStreams(null, null, null, func(string) string { return "" }), env: func(string) string { return "" }, now: time.Now}
	root := newCmdRoot(f)
	root.InitDefaultVersionFlag()
	return root
}

func walk(cmd *cobra.Command, visit func(*cobra.Command)) {
	visit(cmd)
	for _, c := range cmd.Commands() {
		walk(c, visit)
	}
}

// TestReference holds reference.md and the man pages to what the commands say. `go generate` rewrites them.
func TestReference(t *testing.T) {
	root := docRoot(t)
	walk(root, func(c *cobra.Command) { c.DisableAutoGenTag = true })
	var reference bytes.Buffer
	reference.WriteString("<!-- Made from the commands by `go generate ./argusctl`; do not edit. -->\n\n# argusctl\n\n")
	walk(root, func(c *cobra.Command) {
		if c.IsAvailableCommand() || c == root {
			link := func(file string) string {
				return "#" + strings.ReplaceAll(strings.TrimSuffix(file, ".md"), "_", "-")
			}
			if err := doc.GenMarkdownCustom(c, &reference, link); err != nil {
				t.Fatal(err)
			}
		}
	})
	golden(t, "reference.md", reference.Bytes())

	pages := t.TempDir()
	date := time.Date(2026, 11, 1, 0, 0, 0, 0, time.UTC)
	if err := doc.GenManTree(root, &doc.GenManHeader{Source: "ARGUS", Manual: "ARGUS operators' manual", Date: &date}, pages); err != nil {
		t.Fatal(err)
	}
	made, _ := filepath.Glob(filepath.Join(pages, "*.1"))
	have, _ := filepath.Glob("man/*.1")
	for _, page := range made {
		data, err := os.ReadFile(page)
		if err != nil {
			t.Fatal(err)
		}
		golden(t, filepath.Join("man", filepath.Base(page)), data)
	}
	for _, page := range have {
		if !slices.ContainsFunc(made, func(m string) bool { return filepath.Base(m) == filepath.Base(page) }) {
			if !*update {
				t.Errorf("%s is of no command any more; run go generate ./argusctl", page)
			} else if err := os.Remove(page); err != nil {
				t.Error(err)
			}
		}
	}
}

func golden(t *testing.T, file string, want []byte) {
	t.Helper()
	if *update {
		if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, want, 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	if have, err := os.ReadFile(file); err != nil || !bytes.Equal(have, want) {
		t.Errorf("%s is not what the commands say; run go generate ./argusctl", file)
	}
}

// TestCommandsExplainThemselves asks of every command a line, an example that is a command of it, and a sentence for each of
// its flags. Of every change it also asks --dry-run and an idempotency key.
func TestCommandsExplainThemselves(t *testing.T) {
	changes := []string{"tenant arm", "tenant disarm", "support arm", "support disarm", "support start", "support end", "compute launch",
		"compute stop", "compute resume", "compute terminate", "token create", "token revoke", "api",
		"tenant add", "tenant consent", "tenant retire", "sink test", "sink pause", "sink resume", "sink backfill", "view save", "view rename", "view rm"}
	surface := []string{"health", "whoami", "status", "tenant ls", "tenant show", "compute list", "logs tail", "logs show", "logs match",
		"logs export", "logs facets", "logs context", "perf", "token ls", "service ls", "service show", "view ls", "view show", "tenant import", "login", "logout", "completion", "version"}
	const ofMany = "tenant import" // many calls, each under a key of its own
	seen := map[string]bool{}
	walk(docRoot(t), func(c *cobra.Command) {
		if !c.IsAvailableCommand() {
			return
		}
		path := strings.TrimPrefix(c.CommandPath(), "argusctl ")
		seen[path] = true
		if c.Short == "" || c.HasParent() && !strings.Contains(c.Example, "argusctl "+path) {
			t.Errorf("%s: no short text, or no example of it", path)
		}
		c.LocalFlags().VisitAll(func(flag *pflag.Flag) {
			if flag.Usage == "" {
				t.Errorf("%s --%s: what for?", path, flag.Name)
			}
			switch value, _ := pflag.UnquoteUsage(flag); value {
			case "string", "strings", "stringArray", "int", "duration", "many", "characters":
				t.Errorf("%s --%s: its value is called %q, which does not say what it is", path, flag.Name, value)
			}
		})
		if path != ofMany && (slices.Contains(changes, path) != (c.Flags().Lookup("dry-run") != nil) || slices.Contains(changes, path) != (c.Flags().Lookup("idempotency-key") != nil)) {
			t.Errorf("%s: --dry-run and --idempotency-key are for what changes something, and for all of it", path)
		}
		if c.Flags().Lookup("token") != nil {
			t.Errorf("%s: a token has no place on the command line", path)
		}
	})
	for _, path := range append(surface, changes...) {
		if !seen[path] {
			t.Errorf("there is no argusctl %s", path)
		}
	}
}
