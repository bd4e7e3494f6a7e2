package provider

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	exact "github.com/go-json-experiment/json"
	"golang.org/x/sys/unix"
)

// localProvider runs workers as processes in sessions of their own, so that they outlive the API. It keeps no
// state: a worker carries its folder and its id in its arguments, and List reads them from /proc. Hence a
// worker whose launcher died before writing anything down is found again.
type localProvider struct {
	config LocalConfig
	boot   string

	mu       sync.Mutex
	children map[int]struct{} // started by this process and not reaped; a number in here cannot be reused
}

// localRef names one process for good: process numbers come again, the same number with the same start
// within the same boot does not.
type localRef struct {
	PID        int    `json:"pid"`
	StartTicks uint64 `json:"start_ticks"` // since boot, field 22 of /proc/<pid>/stat
	BootID     string `json:"boot_id"`
}

// errInstanceGone says that the process has ended; another may have its number by now.
var errInstanceGone = errors.New("the worker's process has ended")

// NewLocal returns the provider of argusd dev.
func NewLocal(config LocalConfig) (Provider, error) { return newLocal(config) }

func newLocal(config LocalConfig) (*localProvider, error) {
	config, err := config.absolute()
	if err != nil {
		return nil, fmt.Errorf("local provider: %w", err)
	}
	boot, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return nil, fmt.Errorf("local provider: %w", err)
	}
	return &localProvider{config: config, boot: strings.TrimSpace(string(boot)), children: map[int]struct{}{}}, nil
}

func (p *localProvider) Name() string { return LocalName }

func (p *localProvider) Launch(ctx context.Context, workerID string) (Instance, error) {
	if err := ctx.Err(); err != nil {
		return Instance{}, err
	}
	cmd := exec.Command(p.config.Program, localWorkerCommand, "--dir", p.config.Dir, workerID)
	cmd.Env = []string{} // nothing of the API's, least of all its credentials
	cmd.Dir = "/"
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if err := cmd.Start(); err != nil { // standard streams are /dev/null
		return Instance{}, err
	}
	pid := cmd.Process.Pid
	p.mu.Lock()
	p.children[pid] = struct{}{}
	p.mu.Unlock()
	if err := cmd.Process.Release(); err != nil { // reap waits for it instead, and only when it has ended
		return Instance{}, err
	}
	stat, err := readProcStat(pid)
	if err != nil {
		return Instance{}, err
	}
	if stat.gone() {
		p.reap()
		return Instance{}, errors.New("the worker's program ended at once")
	}
	return p.instance(stat, workerID), nil
}

func (p *localProvider) Stop(ctx context.Context, ref json.RawMessage) error {
	return p.signal(ctx, ref, unix.SIGSTOP, func(s procStat) bool { return s.state == 'T' })
}

func (p *localProvider) Resume(ctx context.Context, ref json.RawMessage) error {
	return p.signal(ctx, ref, unix.SIGCONT, func(s procStat) bool { return s.state != 'T' })
}

func (p *localProvider) Terminate(ctx context.Context, ref json.RawMessage) error {
	err := p.signal(ctx, ref, unix.SIGKILL, func(procStat) bool { return false })
	p.reap()
	if errors.Is(err, errInstanceGone) {
		return nil
	}
	return err
}

// signal sends sig to exactly the process of ref and waits until done or the process has ended
// (errInstanceGone).
func (p *localProvider) signal(ctx context.Context, raw json.RawMessage, sig unix.Signal, done func(procStat) bool) error {
	var ref localRef
	if err := exact.Unmarshal(raw, &ref); err != nil || ref.PID <= 1 {
		return fmt.Errorf("not a reference of the local provider: %s", raw)
	}
	if ref.BootID != p.boot {
		return errInstanceGone
	}
	// The descriptor pins the process. If the process is ours now, a signal through the descriptor reaches ours too, even
	// when the number goes to another in between.
	fd, err := unix.PidfdOpen(ref.PID, 0)
	if errors.Is(err, unix.ESRCH) {
		return errInstanceGone
	}
	if err != nil {
		return fmt.Errorf("pidfd_open: %w", err)
	}
	defer unix.Close(fd)
	if stat, err := readProcStat(ref.PID); err != nil || stat.start != ref.StartTicks || stat.gone() {
		return errInstanceGone
	}
	if err := unix.PidfdSendSignal(fd, sig, nil, 0); errors.Is(err, unix.ESRCH) {
		return errInstanceGone
	} else if err != nil {
		return fmt.Errorf("pidfd_send_signal: %w", err)
	}
	for {
		stat, err := readProcStat(ref.PID)
		if err != nil || stat.start != ref.StartTicks || stat.gone() {
			return errInstanceGone
		}
		if done(stat) {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("the process does not react to signal %d: %w", int(sig), ctx.Err())
		case <-time.After(2 * time.Millisecond):
		}
	}
}

func (p *localProvider) List(ctx context.Context) ([]Instance, error) {
	p.reap()
	found, err := findLocalWorkers(ctx, p.config.Dir)
	if err != nil {
		return nil, err
	}
	instances := make([]Instance, len(found))
	for i, w := range found {
		instances[i] = p.instance(w.stat, w.id)
	}
	return instances, nil
}

func (p *localProvider) instance(stat procStat, workerID string) Instance {
	state := Running
	if stat.state == 'T' || stat.state == 't' {
		state = Stopped
	}
	ref, _ := json.Marshal(localRef{stat.pid, stat.start, p.boot}) // cannot fail
	return Instance{
		Handle:    fmt.Sprintf("%s-%.8s-%d-%d", LocalName, p.boot, stat.pid, stat.start),
		WorkerID:  workerID,
		State:     state,
		StartedAt: stat.startedAt(),
		Ref:       ref,
	}
}

// reap collects those of our own children that have ended; others' are init's.
func (p *localProvider) reap() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for pid := range p.children {
		if got, err := unix.Wait4(pid, nil, unix.WNOHANG, nil); got == pid || errors.Is(err, unix.ECHILD) {
			delete(p.children, pid)
		}
	}
}

// stopTimeout bounds the ending of all local workers.
const stopTimeout = 20 * time.Second

// StopLocalWorkers ends every local worker of a data folder and returns how many there were. argusd dev calls
// it when it ends; their rows follow as soon as an API looks.
func StopLocalWorkers(dir string) (int, error) {
	p, err := newLocal(LocalConfig{Dir: dir})
	if err != nil {
		return 0, err
	}
	ctx, cancel := context.WithTimeout(context.Background(), stopTimeout)
	defer cancel()
	workers, err := p.List(ctx)
	if err != nil {
		return 0, err
	}
	for _, w := range workers {
		err = errors.Join(err, p.Terminate(ctx, w.Ref))
	}
	return len(workers), err
}

type localWorker struct {
	id   string
	stat procStat
}

// findLocalWorkers looks through /proc for processes of ours whose arguments end in "local-worker --dir DIR ID".
func findLocalWorkers(ctx context.Context, dir string) ([]localWorker, error) {
	names, err := filepath.Glob("/proc/[0-9]*")
	if err != nil {
		return nil, err
	}
	marker := []byte("\x00" + localWorkerCommand + "\x00--dir\x00" + dir + "\x00")
	var found []localWorker
	for _, name := range names {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		cmdline, err := os.ReadFile(name + "/cmdline")
		i := bytes.LastIndex(cmdline, marker)
		if err != nil || i < 0 { // another's, or ended meanwhile
			continue
		}
		id := string(bytes.TrimSuffix(cmdline[i+len(marker):], []byte{0}))
		pid, _ := strconv.Atoi(filepath.Base(name))
		var owner syscall.Stat_t
		stat, err := readProcStat(pid)
		if err != nil || stat.gone() || syscall.Stat(name, &owner) != nil || int(owner.Uid) != os.Geteuid() {
			continue
		}
		// The arguments again: the number may have changed hands between the two readings.
		if again, err := os.ReadFile(name + "/cmdline"); err != nil || !bytes.Equal(again, cmdline) {
			continue
		}
		if id == "" || strings.ContainsRune(id, 0) {
			continue
		}
		found = append(found, localWorker{id, stat})
	}
	return found, nil
}

// procStat is what /proc/<pid>/stat says of a process.
type procStat struct {
	pid   int
	state byte   // R, S, D, T (stopped), t (traced), Z and X (ended)
	start uint64 // clock ticks after boot
}

func (s procStat) gone() bool { return s.state == 'Z' || s.state == 'X' }

// startedAt is exact to about 10 ms; zero when the time since boot cannot be read.
func (s procStat) startedAt() time.Time {
	var now unix.Timespec
	if unix.ClockGettime(unix.CLOCK_BOOTTIME, &now) != nil {
		return time.Time{}
	}
	const ticksPerSecond = 100 // USER_HZ, the same on every architecture Go runs on
	age := time.Duration(now.Nano()) - time.Duration(s.start)*(time.Second/ticksPerSecond)
	return time.Now().Add(-age)
}

func readProcStat(pid int) (procStat, error) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return procStat{}, err
	}
	// The second field, the program's name in parentheses, may hold anything.
	fields := strings.Fields(string(text[bytes.LastIndexByte(text, ')')+1:]))
	if len(fields) < 20 {
		return procStat{}, fmt.Errorf("/proc/%d/stat: %d fields", pid, len(fields))
	}
	start, err := strconv.ParseUint(fields[19], 10, 64)
	if err != nil {
		return procStat{}, err
	}
	return procStat{pid: pid, state: fields[0][0], start: start}, nil
}
