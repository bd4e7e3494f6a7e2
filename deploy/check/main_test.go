// Package check holds the checks of the files in deploy/: rendered, decoded strictly, linted, and run as far as it
// goes without a container engine. See deploy/README.md for what each is checked by.
package check

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

const root = "../.." // of the repository

var binary struct {
	once sync.Once
	dir  string
	err  error
}

func TestMain(m *testing.M) {
	code := m.Run()
	os.RemoveAll(binary.dir)
	os.Exit(code)
}

// argusd is the binary of the image, built by the very line of the Dockerfile.
func argusd(t *testing.T) string {
	t.Helper()
	binary.once.Do(func() {
		if binary.dir, binary.err = os.MkdirTemp("", "argus-deploy-"); binary.err != nil {
			return
		}
		line, err := buildLine()
		if err != nil {
			binary.err = err
			return
		}
		build := exec.Command("sh", "-c", strings.ReplaceAll(line, "/out/", binary.dir+"/"))
		build.Dir = root
		build.Env = append(os.Environ(), "TARGETOS=linux", "TARGETARCH="+goarch(), "VERSION=1.2.3-test")
		if out, err := build.CombinedOutput(); err != nil {
			binary.err = fmt.Errorf("%s: %w\n%s", line, err, out)
		}
	})
	if binary.err != nil {
		t.Fatal(binary.err)
	}
	return filepath.Join(binary.dir, "argusd")
}

func goarch() string {
	out, err := exec.Command("go", "env", "GOHOSTARCH").Output()
	if err != nil {
		return "amd64"
	}
	return strings.TrimSpace(string(out))
}

// variables are those that each process reads, from the table of settings, which a test of argusd makes from the
// code: process → variable → whether it is required.
func variables(t *testing.T) map[string]map[string]bool {
	t.Helper()
	data, err := os.ReadFile(filepath.Join(root, "docs/configuration.md"))
	if err != nil {
		t.Fatal(err)
	}
	all := map[string]map[string]bool{}
	for line := range strings.Lines(string(data)) {
		cells := strings.Split(line, "|")
		if len(cells) < 5 || !strings.HasPrefix(strings.TrimSpace(cells[2]), "`ARGUS_") {
			continue
		}
		for process := range strings.SplitSeq(cells[1], ",") { // commands that share their settings share a line
			process = strings.TrimSpace(process)
			if all[process] == nil {
				all[process] = map[string]bool{}
			}
			all[process][strings.Trim(strings.TrimSpace(cells[2]), "`")] = strings.TrimSpace(cells[3]) == "required"
		}
	}
	for process := range all {
		if process != "every" {
			maps.Copy(all[process], all["every"])
		}
	}
	if len(all["api"]) < 10 || len(all["replicator"]) < 4 {
		t.Fatalf("docs/configuration.md has no table of configuration: %v", all)
	}
	return all
}

// secrets by variable, for what the files leave to the operator.
func secrets() map[string]string {
	all := map[string]string{"ARGUS_CURSOR_KEY": "5c1f0e9a7d42b83690e7c45af21d68b3704be9d15a2f8c6613d09e47ab85f2c1", "ARGUS_CLERK_SECRET_KEY": "sk_live_0000",
		"ARGUS_POSTGRES_URL": "postgres://role:password@db/argus", "ARGUS_CLICKHOUSE_URL": "clickhouse://user:password@ch:9000/argus"}
	for _, name := range []string{"POSTGRES_API", "POSTGRES_REPLICATOR", "POSTGRES_MAINTENANCE", "POSTGRES_HOLD", "POSTGRES_BREAK_GLASS", "POSTGRES_CONSENT", "POSTGRES_LEDGER", "POSTGRES_SHIP", "POSTGRES_AUDITOR",
		"CLICKHOUSE_REPLICATOR", "CLICKHOUSE_MAINTENANCE", "CLICKHOUSE_READER"} {
		all["ARGUS_"+name+"_PASSWORD"] = "0123456789abcdef-" + strings.ToLower(name)
	}
	return all
}

// hosts are those of a URL, or of several.
var hosts = regexp.MustCompile(`@[^/@|]+/`)

// runs starts a process as a file in deploy/ does, with its arguments and environment, but for the stores'
// addresses, where nothing listens. It must take all of it and go on to ask for its store: so every flag and every
// setting is one that this binary knows.
//
// The secrets of files are in a directory of credentials, as systemd and a mounted Secret have them.
func runs(t *testing.T, where string, command []string, environ, files map[string]string) {
	t.Helper()
	if len(command) < 2 || command[0] != "/usr/local/bin/argusd" {
		t.Errorf("%s: runs %q", where, command)
		return
	}
	process := command[1]
	if process == "ledger" && len(command) > 2 {
		process += " " + command[2]
	}
	if process == "check" {
		process = command[2]
	}
	known, ok := variables(t)[process]
	if !ok {
		t.Errorf("%s: the table of settings knows no process %q", where, process)
	}
	for _, name := range append(slices.Collect(maps.Keys(environ)), slices.Collect(maps.Keys(files))...) {
		if _, ok := known[name]; !ok {
			t.Errorf("%s: sets %s, which argusd %s does not read", where, name, process)
		}
	}
	for name, required := range known {
		if required && environ[name] == "" && files[name] == "" {
			t.Errorf("%s: does not set %s, which argusd %s requires", where, name, process)
		}
	}

	binary := argusd(t) // built once, which takes its time
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, binary, command[1:]...)
	credentials := t.TempDir()
	set := func(name, value string) {
		if _, ok := files[name]; !ok {
			cmd.Env = append(cmd.Env, name+"="+value)
		} else if err := os.WriteFile(filepath.Join(credentials, name), []byte(value+"\n"), 0o400); err != nil {
			t.Fatal(err)
		}
	}
	if len(files) > 0 {
		set("CREDENTIALS_DIRECTORY", credentials)
	}
	all := maps.Clone(files)
	if all == nil {
		all = map[string]string{}
	}
	maps.Copy(all, environ)
	for name, value := range all {
		if strings.HasPrefix(name, "ARGUS_") && strings.HasSuffix(name, "_URL") && strings.Contains(name, "POSTGRES") || name == "ARGUS_CLICKHOUSE_URL" {
			if !hosts.MatchString(value) {
				t.Errorf("%s: %s is no URL", where, name)
				continue
			}
			port := 0 // several servers have several addresses
			value = hosts.ReplaceAllStringFunc(value, func(string) string {
				port++
				return fmt.Sprintf("@127.0.0.1:%d/", port)
			})
		}
		if name == "ARGUS_CLERK_API_URL" && value != "" || name == "ARGUS_CLERK_ISSUER" {
			value = "https://127.0.0.1:1"
		}
		if name == "ARGUS_CLERK_PUBLISHABLE_KEY" || strings.HasSuffix(name, "LISTEN") {
			continue // of another issuer; taken by another test
		}
		set(name, value)
	}
	out := &output{asked: make(chan struct{})}
	cmd.Stdout, cmd.Stderr = out, out
	if process == "api" {
		cmd.Env = append(cmd.Env, "ARGUS_LISTEN=127.0.0.1:0", "ARGUS_METRICS_LISTEN=")
	} else if process == "ledger seal" {
		dir := t.TempDir()
		key := filepath.Join(dir, "key")
		if out, err := exec.Command(argusd(t), "ledger", "init", "--origin", environ["ARGUS_LEDGER_ORIGIN"], "--key", key).CombinedOutput(); err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
		cmd.Env = append(cmd.Env, "ARGUS_METRICS_LISTEN=", "ARGUS_LEDGER_LISTEN=", "ARGUS_LEDGER_KEY="+key, "ARGUS_LEDGER_ANCHOR="+filepath.Join(dir, "anchor"))
	} else if process == "replicator" {
		cmd.Env = append(cmd.Env, "ARGUS_METRICS_LISTEN=")
	} else if process == "ship" {
		sinks := "deploy/systemd/credentials/ship/sinks.yaml"
		if strings.HasPrefix(where, "compose.yaml") {
			sinks = "deploy/sinks.yaml"
		}
		cmd.Env = append(cmd.Env, "ARGUS_METRICS_LISTEN=", "ARGUS_SINKS_FILE="+filepath.Join(root, sinks))
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	select {
	case <-ended:
	case <-out.asked:
		cmd.Process.Signal(syscall.SIGTERM)
		<-ended
	}
	select {
	case <-out.asked:
	default:
		t.Errorf("%s: argusd %q did not come to ask for its store:\n%s", where, command[1:], out.text())
	}
}

// output tells when the store was asked for in vain.
type output struct {
	mu    sync.Mutex
	buf   bytes.Buffer
	asked chan struct{}
	once  sync.Once
}

func (o *output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	n, err := o.buf.Write(p)
	if bytes.Contains(o.buf.Bytes(), []byte("connection refused")) {
		o.once.Do(func() { close(o.asked) })
	}
	return n, err
}

func (o *output) text() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.buf.String()
}

// TestEveryFileIsChecked: what is added to deploy/ needs a check, and its line here.
func TestEveryFileIsChecked(t *testing.T) {
	others := []string{"check", ".env", "bench.sh", "tour.sh", "OPERATIONS.md"} // have tests of their own
	checked := []string{
		"Dockerfile", "Dockerfile.dockerignore", "base-images.sh", // dockerfile_test.go
		"compose.yaml", "compose-copies.yaml", "compose-env.sh", "sinks.yaml", // compose_test.go
		"systemd", "helm", // all in them: systemd_test.go, helm_test.go
		"README.md",     // readme_test.go
		"observability", // observability_test.go
	}
	entries, err := os.ReadDir(filepath.Join(root, "deploy"))
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		if !slices.Contains(checked, e.Name()) && !slices.Contains(others, e.Name()) {
			t.Errorf("deploy/%s is checked by nothing", e.Name())
		}
	}
	for _, name := range checked {
		if _, err := os.Stat(filepath.Join(root, "deploy", name)); errors.Is(err, fs.ErrNotExist) {
			t.Errorf("deploy/%s is missing", name)
		}
	}
}
