package sample

import (
	"os/exec"
	"syscall"
)

// ownGroup starts a command in a process group of its own: `go run` starts another process.
func ownGroup(c *exec.Cmd) { c.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} }

func endGroup(c *exec.Cmd) { _ = syscall.Kill(-c.Process.Pid, syscall.SIGKILL) }
