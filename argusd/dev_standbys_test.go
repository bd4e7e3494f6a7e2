package main

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// TestTried goes through "On this machine, to try it" of docs/high-availability.md: a primary, two standbys and two copies, of
// which the primary is lost under calls. Started again, argusd dev has the promoted node for its primary.
func TestTried(t *testing.T) {
	t.Parallel()
	d := startDevWith(t, []string{"ARGUS_DEV_STANDBYS=2", "ARGUS_DEV_COPIES=2"})
	home := t.TempDir() // the page's folder, with .argus in it
	if err := os.Symlink(d.dir, filepath.Join(home, ".argus")); err != nil {
		t.Fatal(err)
	}
	block := func(name string) *exec.Cmd {
		command := exec.CommandContext(t.Context(), "sh", "-euc", blockOf(t, "docs/high-availability.md", name))
		command.Dir = home
		return command
	}
	run := func(name string) string {
		t.Helper()
		out, err := block(name).CombinedOutput()
		if err != nil {
			t.Fatalf("the block %s: %v\n%s", name, err, out)
		}
		return strings.TrimSpace(string(out))
	}
	answered := func() int {
		ids, _ := os.ReadFile(filepath.Join(d.dir, "answered"))
		return bytes.Count(ids, []byte("\n"))
	}
	until := func(what string, try func() error) {
		t.Helper()
		if err := eventually(bound, try); err != nil {
			t.Fatalf("%s: %v", what, err)
		}
	}
	well := func() {
		t.Helper()
		until("both copies are well", func() error {
			out, errOut, code := d.shell("argusctl health --check")
			if code != 0 || !strings.Contains(out, "argus_east") || !strings.Contains(out, "argus_west") {
				return fmt.Errorf("exit %d: %s%s", code, out, errOut)
			}
			return nil
		})
	}
	hosts := func() (said string) {
		t.Helper()
		until("nothing is missing for the loss of the primary", func() error {
			out, errOut, code := d.shell(". " + d.dir + "/cluster.env; argusd check ha")
			if code != 0 {
				return fmt.Errorf("exit %d: %s%s", code, out, errOut)
			}
			said = out
			return nil
		})
		return said
	}
	well()
	hosts()
	calls := block("calls")
	if err := calls.Start(); err != nil {
		t.Fatal(err)
	}
	grown := func() {
		t.Helper()
		more := answered() + 20
		until("calls are answered", func() error {
			if n := answered(); n < more {
				return fmt.Errorf("%d of %d", n, more)
			}
			return nil
		})
	}
	grown()
	t.Log(run("lose"))
	grown()
	said := run("count")
	if err := calls.Wait(); err != nil {
		t.Error(err)
	}
	t.Log(said)
	if !strings.HasSuffix(said, " answered, 0 lost") {
		t.Error("not every answered call has its row")
	}
	well()
	d.stop()
	d.start()
	well()
	hosts()
	if again := run("count"); !strings.HasSuffix(again, " answered, 0 lost") {
		t.Errorf("after a start: %s", again)
	}
}
