package main

import (
	"bytes"
	"os"
	"os/exec"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/clipperhouse/displaywidth"
	"github.com/spf13/cobra"
)

// TestHelpFits: help starts with the usage, and no line of it is wider than the terminal. An example that was broken is
// the same command line to a shell.
func TestHelpFits(t *testing.T) {
	now := time.Date(2026, 1, 31, 13, 0, 0, 0, time.UTC)
	var commands []*cobra.Command
	walk(docRoot(t), func(c *cobra.Command) {
		if c.IsAvailableCommand() || !c.HasParent() {
			commands = append(commands, c)
		}
	})
	for _, c := range commands {
		args := append(strings.Fields(c.CommandPath())[1:], "--help")
		for _, width := range []int{80, 120} {
			text, code := onTerminal(t, width, now, "http://127.0.0.1:1", args)
			if code != 0 || !strings.HasPrefix(text, "Usage\n  "+c.CommandPath()) {
				t.Errorf("%s at %d: exit code %d, %.40q", c.CommandPath(), width, code, text)
			}
			for line := range strings.Lines(text) {
				if w := displaywidth.String(strings.TrimSuffix(line, "\n")); w > width {
					t.Errorf("%s at %d: %d columns: %s", c.CommandPath(), width, w, line)
				}
			}
		}
	}
	words := func(line string) string {
		out, err := exec.Command("bash", "-c", "argusctl() { printf '<%s>' \"$@\"; }; "+line).CombinedOutput()
		if err != nil {
			t.Fatalf("%s: %v: %s", line, err, out)
		}
		return string(out)
	}
	for _, line := range []string{`argusctl api POST /svc/items -F n=1 -F 'tags[]=new and of a great many kinds' --reason "x"`, `argusctl support end X $(argusctl tenant show Y --jq '.a[0] | .id') --reason "it works  again" -o name`,
		`argusctl logs tail --route 'GET /v1/tenants/:id' --status '>=500' --since 24h | cat -A`} {
		var b strings.Builder
		example(&b, line, 40)
		if broken := b.String(); words(broken) != words(line) || strings.Count(broken, "\n") < 2 || regexp.MustCompile(`-\S+ \\\n +['"$]`).MatchString(broken) {
			t.Errorf("%s became\n%s%s, which is no longer\n%s", line, broken, words(broken), words(line))
		}
	}
}

// TestBashCompletion types Tab in a shell that has no bash-completion: commands, flags, values of the server, and words
// that bash splits at = and :.
func TestBashCompletion(t *testing.T) {
	server := newFake(t, t.TempDir()+"/requests")
	for _, c := range []struct{ line, want string }{
		{"argusctl logs ta", "tail"},
		{"argusctl logs tail --not-act", "--not-actor --not-actor-kind"},
		{"argusctl logs tail --actor user_2g", "user_2graceHopper"},
		{"argusctl logs tail --actor=user_2g", "user_2graceHopper"},
		{"argusctl logs tail --actor-kind ", "clerk_session oidc_session pat break_glass workload"},
		{`argusctl logs tail --route GET\ /v1/tenants/:`, "id"},
		{"argusctl tenant arm UTD_H", "UTD_HARBOR_021"},
		{"argusctl logs facets error", "error-code"},
		{"argusctl logs tail --actor me --tenant UTD_7", "UTD_7ELEVEN_001"},
	} {
		shell := exec.Command("bash", "--norc", "--noprofile", "-c", `
			source <(argusctl completion bash)
			declare -F _init_completion && exit 9
			COMP_LINE=$1 COMP_POINT=${#1} COMP_TYPE=9 COMP_KEY=9 COLUMNS=0
			shopt -s extglob
			COMP_WORDS=()
			rest=$1
			while [[ $rest ]]; do # as readline splits: at blanks, unless escaped, and at = and :
				rest=${rest##+( )}
				word=; while [[ $rest ]]; do
					case $rest in
					'\'*) word+=${rest:0:2} rest=${rest:2};;
					' '*) break;;
					[=:]*) [[ $word ]] && break; word=${rest:0:1} rest=${rest:1}; break;;
					*) word+=${rest:0:1} rest=${rest:1};;
					esac
				done
				COMP_WORDS+=("$word")
				[[ $rest == ' ' ]] && COMP_WORDS+=("") && break
			done
			COMP_CWORD=$((${#COMP_WORDS[@]} - 1))
			__start_argusctl 2>/dev/null
			for reply in "${COMPREPLY[@]}"; do printf '%s\n' "${reply%%  (*}"; done`, "bash", c.line)
		shell.Env = append(os.Environ(), "PATH="+os.Getenv("PATH"), "ARGUS_URL="+server.URL, "ARGUS_TOKEN="+callers[0].token)
		var errOut bytes.Buffer
		shell.Stderr = &errOut
		out, err := shell.Output()
		if got := strings.Join(strings.Fields(string(out)), " "); err != nil || got != c.want {
			t.Errorf("%s: %q, want %q; %v %s", c.line, got, c.want, err, errOut.String())
		}
	}
}
