package engines

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"

	"golang.org/x/sys/unix"
)

// closedFolder is the first folder on the way to path that others may not pass through, or "".
func closedFolder(path string) string {
	path, err := filepath.EvalSymlinks(path)
	if err != nil {
		return ""
	}
	for dir := filepath.Dir(path); ; dir = filepath.Dir(dir) {
		info, err := os.Stat(dir)
		if err != nil || info.Mode()&0o001 == 0 {
			return dir
		}
		if dir == filepath.Dir(dir) {
			return ""
		}
	}
}

// outOfReach tells whether the user that Postgres is going to run as may not run a program that is there.
func outOfReach(program string) bool {
	if os.Geteuid() == 0 { // it will be another
		return closedFolder(program) != ""
	}
	return errors.Is(unix.Access(program, unix.X_OK), fs.ErrPermission)
}

// mirror makes the installation that holds binDir (its bin, lib and share) reachable for every user, below
// os.TempDir, and returns its bin there. Postgres asks the kernel whether its real user may run its programs, so
// no capability helps below a folder that is closed to that user, such as /root.
//
// Equal installations share one mirror, by hard links where they can, and it stays for the next start. What
// is missing is added, so an interrupted one is completed, and several processes may do this at once.
func mirror(binDir string) (string, error) {
	source := filepath.Dir(binDir)
	names := sha256.New()
	err := filepath.WalkDir(source, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(source, path)
		if err == nil && !d.IsDir() {
			fmt.Fprintf(names, "%s\x00%d\x00", rel, info.Size())
		}
		return err
	})
	if err != nil {
		return "", err
	}
	target := filepath.Join(os.TempDir(), fmt.Sprintf("argus-postgres-%d-%x", os.Geteuid(), names.Sum(nil)[:8]))
	if err := os.Mkdir(target, 0o755); err != nil && !errors.Is(err, os.ErrExist) {
		return "", err
	}
	// Anybody may make a folder of that name: we run nothing out of one that is not ours alone.
	info, err := os.Lstat(target)
	if err != nil {
		return "", err
	}
	if owner, ok := info.Sys().(*syscall.Stat_t); !info.IsDir() || !ok || int(owner.Uid) != os.Geteuid() || info.Mode()&0o022 != 0 {
		return "", fmt.Errorf("%s is not ours: remove it", target)
	}
	if closed := closedFolder(filepath.Join(target, "bin")); closed != "" {
		return "", fmt.Errorf("PostgreSQL does not run as root, and its user cannot reach %s nor %s: "+
			"chmod o+x %s, or do not run as root", source, target, closed)
	}
	err = filepath.WalkDir(source, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(source, path)
		if err != nil {
			return err
		}
		return mirrorOne(path, filepath.Join(target, rel), d)
	})
	return filepath.Join(target, filepath.Base(binDir)), err
}

func mirrorOne(from, to string, d fs.DirEntry) error {
	info, err := d.Info()
	if err != nil {
		return err
	}
	have, err := os.Lstat(to)
	if err == nil && have.Mode().Type() == info.Mode().Type() && (!info.Mode().IsRegular() || have.Size() == info.Size()) {
		return nil
	}
	switch {
	case info.IsDir():
		err = os.Mkdir(to, 0o755)
	case info.Mode().Type() == fs.ModeSymlink:
		var link string
		if link, err = os.Readlink(from); err == nil {
			err = os.Symlink(link, to)
		}
	default:
		if err = os.Link(from, to); err != nil && !errors.Is(err, os.ErrExist) {
			err = copyFile(from, to, info.Mode().Perm())
		}
	}
	if errors.Is(err, os.ErrExist) {
		return nil
	}
	return err
}

// copyFile makes a whole copy or none.
func copyFile(from, to string, mode os.FileMode) error {
	in, err := os.Open(from)
	if err != nil {
		return err
	}
	defer in.Close()
	out, err := os.CreateTemp(filepath.Dir(to), ".new-")
	if err != nil {
		return err
	}
	defer os.Remove(out.Name())
	_, err = io.Copy(out, in)
	if err := errors.Join(err, out.Chmod(mode), out.Close()); err != nil {
		return err
	}
	return os.Rename(out.Name(), to)
}
