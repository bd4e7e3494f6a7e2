package replicator

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"os/signal"
	"runtime/pprof"
	"strconv"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/useargus/argus/internal/engines/enginetest"
)

const childVariable = "ARGUS_REPLICATOR_TEST_CHILD"

func TestMain(m *testing.M) {
	idlePublish, lookEvery = 200*time.Millisecond, 200*time.Millisecond
	if call := os.Getenv(childVariable); call != "" {
		os.Exit(runChild(call))
	}
	os.Exit(enginetest.Run(m))
}

// childCall is a replicator as a process of its own, to be killed.
type childCall struct {
	Config    Config
	KillAt    string // name of a failpoint; "" for none
	KillAfter int    // passes of it
	Freeze    bool   // stop there instead, and go on when continued
}

func runChild(call string) int {
	var c childCall
	if err := json.Unmarshal([]byte(call), &c); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 2
	}
	var passes atomic.Int64
	var frozen atomic.Bool
	failpoint = func(point string) {
		if point != c.KillAt || passes.Add(1) <= int64(c.KillAfter) {
			return
		}
		if c.Freeze {
			if frozen.CompareAndSwap(false, true) {
				syscall.Kill(os.Getpid(), syscall.SIGSTOP)
			}
			return
		}
		syscall.Kill(os.Getpid(), syscall.SIGKILL)
		select {}
	}
	if path := os.Getenv("ARGUS_CPUPROFILE"); path != "" {
		if f, err := os.Create(path); err == nil {
			pprof.StartCPUProfile(f)
			defer pprof.StopCPUProfile()
		}
	}
	c.Config.Logger = slog.New(slog.NewTextHandler(os.Stderr, nil))
	r, err := New(c.Config)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 2
	}
	defer r.Close()
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	if err := r.Run(ctx); err != nil {
		return 1
	}
	return 0
}

// child is a running replicator process.
type child struct {
	t    testing.TB
	cmd  *exec.Cmd
	done chan struct{}
}

func (w *world) startChild(killAt string, killAfter int) *child {
	w.t.Helper()
	return w.startCall(childCall{w.config(), killAt, killAfter, false})
}

// startFrozen starts one that freezes when it passes the failpoint for the third time; a rebuilding for the first.
func (w *world) startFrozen(at string) *child {
	w.t.Helper()
	after := 2
	if at == "rebuilding" {
		after = 0
	}
	return w.startCall(childCall{w.config(), at, after, true})
}

// frozen waits until it is.
func (c *child) frozen() {
	c.t.Helper()
	for deadline := time.Now().Add(90 * time.Second); ; time.Sleep(10 * time.Millisecond) {
		stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", c.cmd.Process.Pid))
		if err == nil && bytes.Contains(stat, []byte(") T ")) {
			return
		}
		if err != nil || time.Now().After(deadline) {
			c.t.Fatalf("the replicator did not come to where it was to freeze: %v", err)
		}
	}
}

func (w *world) startCall(c childCall) *child {
	w.t.Helper()
	call, err := json.Marshal(c)
	if err != nil {
		w.t.Fatal(err)
	}
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), childVariable+"="+string(call))
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	log := w.logFile()
	defer log.Close()
	cmd.Stdout, cmd.Stderr = log, log
	if err := cmd.Start(); err != nil {
		w.t.Fatal(err)
	}
	running := &child{t: w.t, cmd: cmd, done: make(chan struct{})}
	go func() {
		cmd.Wait()
		close(running.done)
	}()
	w.t.Cleanup(running.kill)
	return running
}

func (c *child) signal(s syscall.Signal) { c.cmd.Process.Signal(s) }

func (c *child) kill() {
	c.signal(syscall.SIGKILL)
	<-c.done
}

// stop ends it in order.
func (c *child) stop() {
	c.t.Helper()
	c.signal(syscall.SIGTERM)
	select {
	case <-c.done:
	case <-time.After(90 * time.Second):
		c.kill()
		c.t.Error("the replicator did not stop")
	}
}

// start runs a replicator in this process until the test's end or the returned function.
func (w *world) start() (stop func()) {
	w.t.Helper()
	config := w.config()
	config.Logger = w.logger()
	return w.startWith(config)
}

func (w *world) startWith(config Config) (stop func()) {
	w.t.Helper()
	r, err := New(config)
	if err != nil {
		w.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() { r.Run(ctx) })
	stop = sync.OnceFunc(func() {
		cancel()
		running.Wait()
		r.Close()
	})
	w.t.Cleanup(stop)
	return stop
}

// status is what the replicator says of itself.
func (w *world) status() (s Status) { return w.statusOf(w.slot()) }

func (w *world) statusOf(slot string) (s Status) {
	w.t.Helper()
	var data []byte
	if err := w.api.QueryRow(w.ctx(), "SELECT status FROM argus.replicator_status WHERE slot = $1", slot).Scan(&data); err == nil {
		w.must(json.Unmarshal(data, &s))
	}
	return s
}

// rounds is how many kills the tests of kills make in total.
func rounds() int {
	if n, err := strconv.Atoi(os.Getenv("ARGUS_CRASH_ROUNDS")); err == nil && n > 0 {
		return n
	}
	return 10
}
