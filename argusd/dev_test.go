package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/useargus/argus/internal/engines"
	"github.com/useargus/argus/internal/engines/enginetest"
)

// The tests of this package are users of the finished product. They build both binaries and run `argusd dev`. They know only
// its env files, the API, argusctl and the two stores.

var binaries struct {
	once sync.Once
	dir  string
	err  error
}

func TestMain(m *testing.M) {
	engines.ServeIfChild() // the walks start their own
	code := m.Run()
	if binaries.dir != "" {
		os.RemoveAll(binaries.dir)
	}
	os.Exit(code)
}

// binDir builds argusd and argusctl once.
func binDir(t testing.TB) string {
	t.Helper()
	binaries.once.Do(func() {
		binaries.dir, binaries.err = os.MkdirTemp("", "argus-bin-")
		if binaries.err != nil {
			return
		}
		os.Chmod(binaries.dir, 0o755)
		for _, name := range []string{"argusd", "argusctl"} {
			build := exec.Command("go", "build", "-o", filepath.Join(binaries.dir, name), "github.com/useargus/argus/"+name)
			build.Env = append(os.Environ(), "CGO_ENABLED=0")
			if out, err := build.CombinedOutput(); err != nil {
				binaries.err = fmt.Errorf("%w\n%s", err, out)
				return
			}
		}
	})
	if binaries.err != nil {
		t.Fatal(binaries.err)
	}
	return binaries.dir
}

// devServer is a running `argusd dev`.
type devServer struct {
	t    testing.TB
	dir  string
	addr string
	args []string
	bin  string

	environ []string
	cmd     *exec.Cmd
	done    chan struct{}
	out     bytes.Buffer
	mu      sync.Mutex
}

// startDev runs `argusd dev` on a folder of the test's own, and stops it at the end.
func startDev(t testing.TB, args ...string) *devServer {
	t.Helper()
	return startDevWith(t, nil, args...)
}

// startDevWith adds to its environment.
func startDevWith(t testing.TB, environ []string, args ...string) *devServer {
	t.Helper()
	dir, err := os.MkdirTemp("", "argus-dev-")
	if err != nil {
		t.Fatal(err)
	}
	os.Chmod(dir, 0o711)
	if !slices.Contains(args, "--history") {
		args = append(args, "--history", "0") // most tests look at their own calls alone
	}
	d := &devServer{t: t, dir: dir, addr: enginetest.FreeAddress(t), args: args, environ: environ, bin: binDir(t)}
	t.Cleanup(func() {
		d.stop()
		if t.Failed() {
			for _, name := range []string{"api.log", "replicator.log"} {
				t.Logf("%s ends with\n%s", name, tail(filepath.Join(dir, name), 4000))
			}
		}
		os.RemoveAll(dir)
	})
	d.start()
	return d
}

func (d *devServer) start() {
	d.t.Helper()
	d.cmd = exec.Command(filepath.Join(d.bin, "argusd"), append([]string{"dev"}, d.args...)...)
	d.cmd.Env = append(append(os.Environ(), "ARGUS_DEV_DIR="+d.dir, "ARGUS_DEV_ADDR="+d.addr), d.environ...)
	stdout, err := d.cmd.StdoutPipe()
	if err != nil {
		d.t.Fatal(err)
	}
	d.cmd.Stderr = &lockedWriter{d}
	if err := d.cmd.Start(); err != nil {
		d.t.Fatal(err)
	}
	ready := make(chan struct{})
	d.done = make(chan struct{})
	done := d.done
	go func() {
		lines := bufio.NewScanner(stdout)
		for lines.Scan() {
			(&lockedWriter{d}).Write(append(lines.Bytes(), '\n'))
			if strings.Contains(lines.Text(), "ARGUS is ready") {
				close(ready)
			}
		}
		d.cmd.Wait()
		close(done)
	}()
	select {
	case <-ready:
	case <-done:
		d.t.Fatalf("argusd dev ended:\n%s", d.output())
	case <-time.After(3 * time.Minute):
		d.t.Fatalf("argusd dev did not become ready:\n%s", d.output())
	}
}

type lockedWriter struct{ d *devServer }

func (w *lockedWriter) Write(p []byte) (int, error) {
	w.d.mu.Lock()
	defer w.d.mu.Unlock()
	return w.d.out.Write(p)
}

func (d *devServer) output() string {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.out.String()
}

// stop is Ctrl-C.
func (d *devServer) stop() {
	if d.cmd == nil || d.cmd.Process == nil {
		return
	}
	d.cmd.Process.Signal(syscall.SIGINT)
	select {
	case <-d.done:
	case <-time.After(time.Minute):
		d.cmd.Process.Kill()
		<-d.done
		d.t.Errorf("argusd dev did not stop within a minute:\n%s", d.output())
	}
}

// env reads one of the env files the way a shell does.
func (d *devServer) env(file, name string) string {
	d.t.Helper()
	out, err := exec.Command("sh", "-c", `. "$1"; eval "printf %s \"\$$2\""`, "sh", filepath.Join(d.dir, file), name).Output()
	if err != nil || len(out) == 0 {
		d.t.Fatalf("%s has no %s: %v", file, name, err)
	}
	return string(out)
}

func (d *devServer) pid(name string) int {
	pid, err := strconv.Atoi(d.env("admin.env", "ARGUS_PID_"+name))
	if err != nil {
		d.t.Fatal(err)
	}
	return pid
}

// shell runs a script after sourcing the env file and returns stdout, stderr and the exit code.
func (d *devServer) shell(script string) (stdout, stderr string, code int) {
	d.t.Helper()
	var out, errOut bytes.Buffer
	command := exec.Command("sh", "-c", `. "$ENV_FILE"; `+script)
	command.Env = append(os.Environ(), "ENV_FILE="+filepath.Join(d.dir, "env"), "HOME="+d.dir)
	command.Stdout, command.Stderr = &out, &errOut
	err := command.Run()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		d.t.Fatal(err)
	}
	return out.String(), errOut.String(), command.ProcessState.ExitCode()
}

// newToken makes a token of the preset for the owner of ARGUS_TOKEN and returns its secret.
func (d *devServer) newToken(name, preset string) string {
	d.t.Helper()
	out, errOut, code := d.shell("argusctl token create --json --name " + name + " --preset " + preset)
	var created struct{ Secret string }
	if code != 0 || json.Unmarshal([]byte(out), &created) != nil || created.Secret == "" {
		d.t.Fatal(code, out, errOut)
	}
	return created.Secret
}

// call makes one API call and returns its status and audit id; status 0 when there was no answer.
func (d *devServer) call(ctx context.Context, token, method, path, body string, header ...string) (status int, auditID string) {
	request, err := http.NewRequestWithContext(ctx, method, "http://"+d.addr+path, strings.NewReader(body))
	if err != nil {
		d.t.Fatal(err)
	}
	request.Header.Set("Authorization", "Bearer "+token)
	for i := 0; i+1 < len(header); i += 2 {
		request.Header.Set(header[i], header[i+1])
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return 0, ""
	}
	defer response.Body.Close()
	var sink bytes.Buffer
	if _, err := sink.ReadFrom(response.Body); err != nil {
		return 0, ""
	}
	return response.StatusCode, response.Header.Get("Argus-Audit-Id")
}

func tail(path string, n int) string {
	data, err := os.ReadFile(path)
	if err != nil {
		return err.Error()
	}
	return string(data[max(0, len(data)-n):])
}

// bound is how long a test waits for what takes a moment on a quiet machine.
const bound = 90 * time.Second

// eventually tries until it holds or the bound is over, and returns how the last try failed.
func eventually(bound time.Duration, try func() error) error {
	deadline := time.Now().Add(bound)
	for {
		err := try()
		if err == nil || time.Now().After(deadline) {
			return err
		}
		time.Sleep(20 * time.Millisecond)
	}
}
