package engines

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/user"
	"path/filepath"
	"slices"
	"strconv"
	"syscall"

	"golang.org/x/sys/unix"
)

// selfExecutable is this very program, also after a new build has replaced its file.
func selfExecutable() (string, error) { return "/proc/self/exe", nil }

// The signal is set after the child has taken its user, because taking it clears the setting.
func setParentDeath(attr *syscall.SysProcAttr, sig syscall.Signal) { attr.Pdeathsig = sig }

// bindLifetime has nothing to do: the kernel ends the child with its parent.
func bindLifetime(*process) error { return nil }

func serveWatchdog() int { return 2 }

// servesDir tells whether pid is a live process working in the directory. Postgres's own check takes any
// live process with the number in postmaster.pid for itself, and numbers come again soon in a container.
func servesDir(pid int, dir string) bool {
	cwd, err := os.Readlink(fmt.Sprintf("/proc/%d/cwd", pid))
	if err != nil {
		// Not ours to look into (another user's, who could not be a Postgres on this directory), or gone.
		return errors.Is(err, os.ErrPermission) && comm(pid) == "postgres"
	}
	real, err := filepath.EvalSymlinks(dir)
	return err == nil && cwd == real
}

// workIn tells whether any process works in the directory.
func workIn(dir string) bool {
	dir, err := filepath.EvalSymlinks(dir)
	if err != nil {
		return false
	}
	all, _ := filepath.Glob("/proc/[0-9]*/cwd")
	return slices.ContainsFunc(all, func(link string) bool {
		cwd, err := os.Readlink(link)
		return err == nil && cwd == dir
	})
}

func comm(pid int) string {
	b, _ := os.ReadFile(fmt.Sprintf("/proc/%d/comm", pid))
	if n := len(b); n > 0 {
		b = b[:n-1]
	}
	return string(b)
}

// account is the user an engine runs as; nil when it is this process's own.
type account struct {
	uid, gid int
	caps     []uintptr // kept to reach files below folders that are closed to others, such as /root
}

// engineAccount is the account that an engine runs as. It is never root: root runs it as the named user, or as a user
// that owns nothing. The paths are those it must reach. Below folders that are closed to that user it needs a capability
// that passes every closed folder. Only mayPass gives it that.
func engineAccount(program, name string, mayPass bool, paths ...string) (*account, error) {
	if os.Geteuid() != 0 {
		return nil, nil
	}
	u, err := user.Lookup(name)
	if err != nil {
		u, err = user.Lookup("nobody")
	}
	if err != nil {
		return nil, fmt.Errorf("%s does not run as root and there is no user %s or nobody: %w", program, name, err)
	}
	a := &account{}
	if a.uid, err = strconv.Atoi(u.Uid); err != nil {
		return nil, err
	}
	if a.gid, err = strconv.Atoi(u.Gid); err != nil {
		return nil, err
	}
	for _, path := range paths {
		closed := closedFolder(path)
		if closed == "" || len(a.caps) > 0 {
			continue
		}
		c, ok := searchCapability()
		if !ok || !mayPass {
			return nil, fmt.Errorf("%s does not run as root, and the user %s cannot reach %s: "+
				"move it, chmod o+x %s, or do not run as root", program, u.Username, path, closed)
		}
		a.caps = []uintptr{c}
	}
	return a, nil
}

func (a *account) attr() *syscall.SysProcAttr {
	if a == nil {
		return &syscall.SysProcAttr{}
	}
	return &syscall.SysProcAttr{
		Credential:  &syscall.Credential{Uid: uint32(a.uid), Gid: uint32(a.gid)},
		AmbientCaps: a.caps,
	}
}

func (a *account) chown(path string) error {
	if a == nil {
		return nil
	}
	return os.Chown(path, a.uid, a.gid)
}

// own gives the folder and all in it to the account, but for the names, which stay this process's. It does nothing when
// the folder, which changes hands last, is the account's already.
func (a *account) own(dir string, but ...string) error {
	if a == nil {
		return nil
	}
	if info, err := os.Stat(dir); err != nil || int(info.Sys().(*syscall.Stat_t).Uid) == a.uid {
		return err
	}
	err := filepath.WalkDir(dir, func(path string, _ fs.DirEntry, err error) error {
		if err != nil || path == dir || slices.Contains(but, filepath.Base(path)) {
			return err
		}
		return os.Lchown(path, a.uid, a.gid)
	})
	if err != nil {
		return err
	}
	return a.chown(dir)
}

// searchCapability is the least capability of this process that lets a child pass closed folders.
func searchCapability() (uintptr, bool) {
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var data [2]unix.CapUserData
	if err := unix.Capget(&header, &data[0]); err != nil {
		return 0, false
	}
	for _, c := range []uint{unix.CAP_DAC_READ_SEARCH, unix.CAP_DAC_OVERRIDE} {
		if data[0].Permitted&(1<<c) != 0 {
			return uintptr(c), true
		}
	}
	return 0, false
}
