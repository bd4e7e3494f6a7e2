//go:build !linux

package engines

import (
	"fmt"
	"io"
	"os"
	"os/exec"
	"strconv"
	"syscall"
)

func selfExecutable() (string, error) { return os.Executable() }

func setParentDeath(*syscall.SysProcAttr, syscall.Signal) {}

// bindLifetime ends the child with this process: a watchdog, this executable started once more, reads from
// a pipe that this process holds, and ends the child when it closes.
func bindLifetime(p *process) error {
	self, err := selfExecutable()
	if err != nil {
		return err
	}
	cmd := exec.Command(self)
	cmd.Env = childEnv(childVariable+"=watchdog", "ARGUS_ENGINE_PID="+strconv.Itoa(p.pid()))
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	pipe, err := cmd.StdinPipe()
	if err != nil {
		return err
	}
	if err := cmd.Start(); err != nil {
		return err
	}
	go func() {
		<-p.done
		cmd.Process.Kill() // before the pipe closes: the child's number may belong to another by now
		pipe.Close()
		cmd.Wait()
	}()
	return nil
}

func serveWatchdog() int {
	pid, err := strconv.Atoi(os.Getenv("ARGUS_ENGINE_PID"))
	if err != nil {
		return 2
	}
	io.Copy(io.Discard, os.Stdin)
	syscall.Kill(pid, syscall.SIGQUIT)
	return 0
}

// servesDir is cautious where there is no /proc: Postgres itself judges its postmaster.pid.
func servesDir(pid int, _ string) bool {
	return syscall.Kill(pid, 0) == nil
}

func workIn(string) bool { return false } // is not known

// account is never used: see engineAccount.
type account struct{}

func engineAccount(program, _ string, _ bool, _ ...string) (*account, error) {
	if os.Geteuid() == 0 {
		return nil, fmt.Errorf("%s does not run as root: start this as another user", program)
	}
	return nil, nil
}

func (a *account) attr() *syscall.SysProcAttr { return &syscall.SysProcAttr{} }

func (a *account) chown(path string) error {
	if a == nil {
		return nil
	}
	return fmt.Errorf("chown %s: not supported here", path)
}

func (a *account) own(path string, _ ...string) error { return a.chown(path) }

func canConfine() bool { return false }

// confine is for Linux alone.
func confine(string, string, []int, []string) error { return nil }
