package main

import (
	"bytes"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
	_ "time/tzdata"

	"github.com/creack/pty"
	"github.com/rogpeppe/go-internal/testscript"
	"go.uber.org/goleak"
)

var update = flag.Bool("update", false, "rewrite golden outputs and the reference")

// TestMain lets the test binary be argusctl in scripts.
func TestMain(m *testing.M) {
	testscript.Main(leakChecked{m}, map[string]func(){"argusctl": main})
}

type leakChecked struct{ m *testing.M }

func (l leakChecked) Run() int {
	code := l.m.Run()
	if err := goleak.Find(); code == 0 && err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return code
}

// TestScripts runs what must hold of the CLI with any server; the same scripts run against the real one in
// argusd. They use nothing but a shell and the environment: argusctl in PATH, ARGUS_URL, ARGUS_TOKEN (admin-full),
// ARGUS_TOKEN_SUPPORT (support-readonly), ARGUS_TOKEN_TENANTS (tenants:read), ARGUS_KEYRING=off. HOME and
// ARGUS_CONFIG_DIR are in $WORK. The server has the tenants UTD_7ELEVEN_001 with consent on record and UTD_HARBOR_021
// without, and the provider local. Those that count calls make a token of their own first and look at its calls alone, so
// they may run beside others.
func TestScripts(t *testing.T) { runScripts(t, "testdata/script") }

// TestFakeScripts runs what takes canned rows or a server that misbehaves.
func TestFakeScripts(t *testing.T) { runScripts(t, "testdata/fake") }

func runScripts(t *testing.T, dir string) {
	testscript.Run(t, testscript.Params{
		Dir:                 dir,
		UpdateScripts:       *update,
		RequireExplicitExec: true,
		RequireUniqueNames:  true,
		Setup: func(e *testscript.Env) error {
			f := newFake(e.T().(testing.TB), filepath.Join(e.WorkDir, "requests"))
			e.Vars = append(e.Vars,
				"ARGUS_URL="+f.URL, "FAKE="+f.URL, "AWAY="+f.away.URL,
				"ARGUS_TOKEN="+callers[0].token, "ARGUS_TOKEN_SUPPORT="+callers[1].token, "ARGUS_TOKEN_TENANTS="+callers[2].token,
				"HOME="+e.WorkDir, "ARGUS_CONFIG_DIR="+filepath.Join(e.WorkDir, "config"), "ARGUS_KEYRING=off",
				"GORACE=atexit_sleep_ms=0", // the race detector sleeps a second at each exit otherwise
				"TZ=Europe/Berlin", "TERM=xterm-256color", "COLUMNS=")
			return nil
		},
		Cmds: map[string]func(ts *testscript.TestScript, neg bool, args []string){
			"code":    codeCmd,
			"term":    termCmd,
			"waitfor": waitforCmd,
		},
	})
}

// codeCmd runs a program and asks for an exit code: code 5 argusctl logs tail
func codeCmd(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: code N program [args...]")
	}
	want, _ := strconv.Atoi(args[0])
	err := ts.Exec(args[1], args[2:]...)
	got := 0
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		got = exit.ExitCode()
	} else if err != nil {
		ts.Fatalf("%v", err)
	}
	if got != want {
		ts.Fatalf("exit code %d, want %d", got, want)
	}
}

// waitforCmd waits until a file contains a text, as a background command is writing it.
func waitforCmd(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: waitfor file text")
	}
	for range 3600 {
		data, _ := os.ReadFile(ts.MkAbs(args[0]))
		if bytes.Contains(data, []byte(args[1])) {
			return
		}
		time.Sleep(25 * time.Millisecond)
	}
	data, _ := os.ReadFile(ts.MkAbs(args[0]))
	ts.Fatalf("%s never held %q, but:\n%s", args[0], args[1], data)
}

// termCmd runs a program on a terminal of its own:
//
//	term [-width N] [-exit N] [-type TEXT [-after TEXT]] program [args...]
//
// TEXT is typed once the output holds the other text; \r, \t and \x03 are understood. What the terminal got is the
// standard output for the script, line ends as \n and escape characters as ^[.
func termCmd(ts *testscript.TestScript, neg bool, args []string) {
	fs := flag.NewFlagSet("term", flag.ContinueOnError)
	width := fs.Int("width", 80, "")
	want := fs.Int("exit", 0, "")
	typed := fs.String("type", "", "")
	after := fs.String("after", "", "")
	ts.Check(fs.Parse(args))
	args = fs.Args()
	cmd := exec.Command(lookPath(ts, args[0]), args[1:]...)
	cmd.Dir = ts.MkAbs(".")
	cmd.Env = environ(ts)
	tty, err := pty.StartWithSize(cmd, &pty.Winsize{Cols: uint16(*width), Rows: 40})
	ts.Check(err)
	defer tty.Close()
	var mu sync.Mutex
	var out bytes.Buffer
	read := make(chan struct{})
	go func() {
		defer close(read)
		toType := strings.NewReplacer(`\r`, "\r", `\t`, "\t", `\x03`, "\x03").Replace(*typed)
		buf := make([]byte, 4096)
		for {
			n, err := tty.Read(buf)
			mu.Lock()
			out.Write(buf[:n])
			ready := toType != "" && strings.Contains(out.String(), *after)
			mu.Unlock()
			if ready {
				io.WriteString(tty, toType)
				toType = ""
			}
			if err != nil { // the other end is gone
				return
			}
		}
	}()
	timer := time.AfterFunc(time.Minute, func() { cmd.Process.Kill() })
	err = cmd.Wait()
	timer.Stop()
	<-read
	text := strings.NewReplacer("\r\n", "\n", "\x1b", "^[").Replace(out.String())
	io.WriteString(ts.Stdout(), text)
	got := 0
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		got = exit.ExitCode()
	}
	if (got == *want) == neg {
		ts.Fatalf("exit code %d, want %d; the terminal got:\n%s", got, *want, text)
	}
}

func environ(ts *testscript.TestScript) []string {
	var env []string
	for _, name := range []string{"ARGUS_URL", "ARGUS_TOKEN", "ARGUS_CONFIG_DIR", "ARGUS_KEYRING", "ARGUS_PROFILE", "HOME", "TZ", "TERM",
		"NO_COLOR", "PATH", "TMPDIR", "GOCOVERDIR", "GORACE"} {
		if v := ts.Getenv(name); v != "" {
			env = append(env, name+"="+v)
		}
	}
	return env
}

func lookPath(ts *testscript.TestScript, name string) string {
	for _, dir := range filepath.SplitList(ts.Getenv("PATH")) {
		{
			file := filepath.Join(dir, name)
			if _, err := os.Stat(file); err == nil {
				return file
			}
		}
	}
	ts.Fatalf("no %s in PATH", name)
	return ""
}
