//go:build linux

package provider

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
	"time"
)

// The test binary is its own local worker program.
func init() {
	if len(os.Args) > 1 && os.Args[1] == localWorkerCommand {
		if err := RunLocalWorker(os.Args[2:]); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(2)
		}
		os.Exit(0)
	}
}

// newTestLocal returns a local provider of a folder of its own, whose workers end with the test.
func newTestLocal(t *testing.T) *localProvider {
	t.Helper()
	dir := t.TempDir()
	p, err := newLocal(LocalConfig{Dir: dir})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if _, err := StopLocalWorkers(dir); err != nil {
			t.Error(err)
		}
		p.reap()
	})
	return p
}

func pidOf(t *testing.T, ref json.RawMessage) int {
	t.Helper()
	var r localRef
	if err := json.Unmarshal(ref, &r); err != nil {
		t.Fatal(err)
	}
	return r.PID
}

// procState is the state letter of a process, 0 when it is gone.
func procState(pid int) byte {
	stat, err := readProcStat(pid)
	if err != nil || stat.gone() {
		return 0
	}
	return stat.state
}

func TestLocalLifecycle(t *testing.T) {
	p, ctx := newTestLocal(t), t.Context()
	in, err := p.Launch(ctx, "wk_life")
	if err != nil {
		t.Fatal(err)
	}
	pid := pidOf(t, in.Ref)
	if age := time.Since(in.StartedAt); age < -time.Second || age > time.Minute {
		t.Errorf("started %s ago", age)
	}
	if env, err := os.ReadFile(fmt.Sprintf("/proc/%d/environ", pid)); err != nil || len(env) > 0 {
		t.Errorf("the worker inherited %q, %v", env, err)
	}
	if text, _ := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid)); strings.Fields(string(text))[5] != fmt.Sprint(pid) {
		t.Errorf("the worker is not in a session of its own: %s", text)
	}

	// Another process's provider of the same folder sees and moves it; one of another folder does not see it.
	other, err := newLocal(LocalConfig{Dir: p.config.Dir})
	if err != nil {
		t.Fatal(err)
	}
	check := func(want State, states ...byte) {
		t.Helper()
		list, err := other.List(ctx)
		if err != nil || len(list) != 1 {
			t.Fatalf("listed %v, %v", list, err)
		}
		if list[0].WorkerID != "wk_life" || list[0].Handle != in.Handle || list[0].State != want || string(list[0].Ref) != string(in.Ref) {
			t.Errorf("listed %+v, launched %+v", list[0], in)
		}
		if s := procState(pid); !slices.Contains(states, s) {
			t.Errorf("the process is in state %c, want one of %q", s, states)
		}
	}
	check(Running, 'R', 'S')
	if err := other.Stop(ctx, in.Ref); err != nil {
		t.Fatal(err)
	}
	check(Stopped, 'T')
	if err := p.Resume(ctx, in.Ref); err != nil {
		t.Fatal(err)
	}
	check(Running, 'R', 'S')
	if list, err := newTestLocal(t).List(ctx); err != nil || len(list) > 0 {
		t.Errorf("another folder sees %v, %v", list, err)
	}
	if err := p.Stop(ctx, in.Ref); err != nil {
		t.Fatal(err)
	}
	if err := other.Terminate(ctx, in.Ref); err != nil { // a stopped one, and not by its parent
		t.Fatal(err)
	}
	if list, err := p.List(ctx); err != nil || len(list) > 0 || procState(pid) != 0 {
		t.Errorf("after its end: %v, %v, state %c", list, err, procState(pid))
	}
	eventually(t, "its parent takes the ended worker out of the process table", func() bool {
		p.reap()
		_, err := readProcStat(pid)
		return errors.Is(err, os.ErrNotExist)
	})
	if err := p.Terminate(ctx, in.Ref); err != nil {
		t.Errorf("terminating what is gone: %v", err)
	}
	if err := p.Stop(ctx, in.Ref); !errors.Is(err, errInstanceGone) {
		t.Errorf("stopping what is gone: %v", err)
	}
}

// A process that has the number of a worker, but is another one, is never signalled.
func TestLocalSparesReusedNumbers(t *testing.T) {
	p, ctx := newTestLocal(t), t.Context()
	in, err := p.Launch(ctx, "wk_bystander")
	if err != nil {
		t.Fatal(err)
	}
	var ref localRef
	if err := json.Unmarshal(in.Ref, &ref); err != nil {
		t.Fatal(err)
	}
	earlier, otherBoot := ref, ref
	earlier.StartTicks--
	otherBoot.BootID = "00000000-0000-0000-0000-000000000000"
	for name, r := range map[string]localRef{"an earlier process": earlier, "another boot": otherBoot} {
		raw, _ := json.Marshal(r)
		if err := p.Terminate(ctx, raw); err != nil {
			t.Errorf("%s: terminating what is gone: %v", name, err)
		}
		if err := p.Stop(ctx, raw); !errors.Is(err, errInstanceGone) {
			t.Errorf("%s: stop: %v", name, err)
		}
		// A signal on its way would show in one of these.
		if err := errors.Join(p.Resume(ctx, in.Ref), p.Stop(ctx, in.Ref), p.Resume(ctx, in.Ref)); err != nil {
			t.Fatalf("%s: the bystander was signalled: %v", name, err)
		}
	}
	for _, raw := range []string{`{"pid":1,"start_ticks":1,"boot_id":"` + p.boot + `"}`, `{"pid":-1}`, `null`, `[]`, ``} {
		if err := p.Terminate(ctx, json.RawMessage(raw)); err == nil {
			t.Errorf("reference %q was taken", raw)
		}
	}
}

func TestLocalWorkersEnd(t *testing.T) {
	p, ctx := newTestLocal(t), t.Context()
	var pids []int
	for i := range 3 {
		in, err := p.Launch(ctx, fmt.Sprintf("wk_%d", i))
		if err != nil {
			t.Fatal(err)
		}
		pids = append(pids, pidOf(t, in.Ref))
	}
	if n, err := StopLocalWorkers(p.config.Dir); n != 3 || err != nil {
		t.Errorf("stopped %d, %v", n, err)
	}
	for _, pid := range pids {
		if procState(pid) != 0 {
			t.Errorf("worker %d lives", pid)
		}
	}
	// A worker whose folder is gone ends by itself.
	q := newTestLocal(t)
	in, err := q.Launch(ctx, "wk_homeless")
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(q.config.Dir); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the worker ends", func() bool { return procState(pidOf(t, in.Ref)) == 0 })
	os.Mkdir(q.config.Dir, 0o700) // for the cleanup
}

// eventually waits for something that is about to be true.
func eventually(t *testing.T, what string, f func() bool) {
	t.Helper()
	for end := time.Now().Add(time.Minute); !f(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("not within 20 s: %s", what)
		}
	}
}
