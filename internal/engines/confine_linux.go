package engines

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// A path's rights in a confinement.
const (
	readFile  = unix.LANDLOCK_ACCESS_FS_READ_FILE
	readTree  = readFile | unix.LANDLOCK_ACCESS_FS_READ_DIR
	useDevice = readFile | unix.LANDLOCK_ACCESS_FS_WRITE_FILE
	runTree   = readTree | unix.LANDLOCK_ACCESS_FS_EXECUTE
	// ownTree is everything that Landlock's second version knows, but running programs.
	ownTree = (unix.LANDLOCK_ACCESS_FS_REFER<<1 - 1) &^ unix.LANDLOCK_ACCESS_FS_EXECUTE
)

// landlockVersion is the version of Landlock that the kernel has switched on; 0 when it has none.
func landlockVersion() int {
	v, _, errno := unix.Syscall(unix.SYS_LANDLOCK_CREATE_RULESET, 0, 0, unix.LANDLOCK_CREATE_RULESET_VERSION)
	if errno != 0 {
		return 0
	}
	return int(v)
}

// canConfine tells whether confine works here: from Linux 5.19 on, unless Landlock is switched off. The first
// version, of 5.13, forbids to move files between folders.
func canConfine() bool { return landlockVersion() >= 2 }

// confine replaces this process by the same program, whose threads reach no other files than the engine's own: its
// folder, the library, and the little of the system that a program needs. They open no TCP connection but to the peers' ports (from
// Linux 6.7 on), and neither read nor signal processes outside. This holds for root as well, and cannot be undone.
//
// ClickHouse's command line lets every user of its server read every file: the SQL function file() asks for no
// privilege there.
func confine(dir, library string, peers []int, env []string) error {
	runtime.LockOSThread() // the confinement is this thread's, until it becomes the whole process
	version := landlockVersion()
	handled := unix.LandlockRulesetAttr{Handled_access_fs: ownTree | unix.LANDLOCK_ACCESS_FS_EXECUTE}
	if version >= 3 {
		handled.Handled_access_fs |= unix.LANDLOCK_ACCESS_FS_TRUNCATE
	}
	if version >= 4 {
		handled.Handled_access_net = unix.LANDLOCK_ACCESS_NET_CONNECT_TCP
	}
	if version >= 6 {
		handled.Scoped = unix.LANDLOCK_SCOPE_ABSTRACT_UNIX_SOCKET | unix.LANDLOCK_SCOPE_SIGNAL
	}
	rules, _, errno := unix.Syscall(unix.SYS_LANDLOCK_CREATE_RULESET, uintptr(unsafe.Pointer(&handled)), unsafe.Sizeof(handled), 0)
	if errno != 0 {
		return fmt.Errorf("landlock_create_ruleset: %w", errno)
	}
	own := uint64(ownTree) | handled.Handled_access_fs&unix.LANDLOCK_ACCESS_FS_TRUNCATE
	for _, rule := range []struct {
		path  string
		right uint64
	}{
		// It writes its log there, and reads neither that nor the administrator's password.
		{dir, own &^ readFile},
		{filepath.Join(dir, "config.xml"), readFile}, {filepath.Join(dir, "users.xml"), readFile},
		{filepath.Join(dir, "data"), own}, {filepath.Join(dir, "tmp"), own},
		{filepath.Join(dir, "user_files"), own}, {filepath.Join(dir, "format_schemas"), own},
		{library, readFile},
		{"/proc/self/exe", readFile | unix.LANDLOCK_ACCESS_FS_EXECUTE},
		{"/lib", runTree}, {"/lib64", runTree}, {"/usr/lib", runTree}, {"/usr/lib64", runTree}, {"/etc/ld.so.cache", readFile},
		{"/proc", readTree}, {"/sys", readTree}, {"/etc/localtime", readFile}, {"/usr/share/zoneinfo", readTree},
		{"/dev/null", useDevice}, {"/dev/urandom", readFile}, {"/dev/random", readFile}, {"/dev/tty", useDevice},
		{"/usr/share/terminfo", readTree}, {"/etc/terminfo", readTree},
	} {
		if err := allow(int(rules), rule.path, rule.right); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("allowing %s: %w", rule.path, err)
		}
	}
	if version >= 4 {
		for _, port := range peers {
			if err := allowPort(int(rules), port); err != nil {
				return fmt.Errorf("allowing port %d: %w", port, err)
			}
		}
	}
	if err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
		return fmt.Errorf("no_new_privs: %w", err)
	}
	if _, _, errno := unix.Syscall(unix.SYS_LANDLOCK_RESTRICT_SELF, rules, 0, 0); errno != 0 {
		return fmt.Errorf("landlock_restrict_self: %w", errno)
	}
	return syscall.Exec("/proc/self/exe", os.Args, env)
}

func allow(rules int, path string, right uint64) error {
	fd, err := unix.Open(path, unix.O_PATH|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	rule := unix.LandlockPathBeneathAttr{Allowed_access: right, Parent_fd: int32(fd)}
	_, _, errno := unix.Syscall6(unix.SYS_LANDLOCK_ADD_RULE, uintptr(rules), unix.LANDLOCK_RULE_PATH_BENEATH,
		uintptr(unsafe.Pointer(&rule)), 0, 0, 0)
	if errno != 0 {
		return errno
	}
	return nil
}

// allowPort allows connections to a port, of any host. Package unix does not know the rule.
func allowPort(rules, port int) error {
	const ruleNetPort = 2 // LANDLOCK_RULE_NET_PORT
	rule := struct{ access, port uint64 }{unix.LANDLOCK_ACCESS_NET_CONNECT_TCP, uint64(port)}
	_, _, errno := unix.Syscall6(unix.SYS_LANDLOCK_ADD_RULE, uintptr(rules), ruleNetPort,
		uintptr(unsafe.Pointer(&rule)), 0, 0, 0)
	if errno != 0 {
		return errno
	}
	return nil
}
