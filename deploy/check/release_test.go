package check

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// TestReleaseIsReproducible builds a release of this machine's platform here. It builds it again from a copy of the sources
// elsewhere, without its history. Both are the same to the byte, named and stamped with the version.
func TestReleaseIsReproducible(t *testing.T) {
	platform := "linux/" + goarch()
	elsewhere := t.TempDir()
	list := exec.Command("git", "ls-files", "-z", "--cached", "--others", "--exclude-standard")
	list.Dir = root
	files, err := list.Output()
	if err != nil {
		t.Fatal(err)
	}
	for path := range strings.SplitSeq(strings.TrimSuffix(string(files), "\x00"), "\x00") {
		if strings.HasPrefix(path, "api/console/") && !strings.HasSuffix(path, ".go") && !strings.HasPrefix(path, "api/console/missing/") {
			continue // the console is built already, or is not part of this
		}
		copyFile(t, filepath.Join(root, path), filepath.Join(elsewhere, path))
	}
	if err := os.CopyFS(filepath.Join(elsewhere, "api/console/dist"), os.DirFS(filepath.Join(root, "api/console/dist"))); err != nil {
		t.Fatal(err)
	}
	sums := make([]string, 2)
	for i, dir := range []string{root, elsewhere} {
		out := t.TempDir()
		release := exec.Command("make", "--silent", "--old-file=console", "release", "VERSION=1.2.3-test", "PLATFORMS="+platform, "RELEASE="+out+"/release")
		release.Dir = dir
		if text, err := release.CombinedOutput(); err != nil {
			t.Fatalf("%v\n%s", err, text)
		}
		data, err := os.ReadFile(filepath.Join(out, "release/SHA256SUMS"))
		if err != nil {
			t.Fatal(err)
		}
		sums[i] = string(data)
		for line := range strings.Lines(sums[i]) {
			sum, name, _ := strings.Cut(strings.TrimSpace(line), "  ")
			program, err := os.ReadFile(filepath.Join(out, "release", name))
			if err != nil {
				t.Fatal(err)
			}
			if digest := sha256.Sum256(program); hex.EncodeToString(digest[:]) != sum || !strings.HasSuffix(name, "-1.2.3-test-"+strings.ReplaceAll(platform, "/", "-")) {
				t.Errorf("SHA256SUMS: %s", line)
			}
			if bytes.Contains(program, []byte(elsewhere)) || !bytes.Contains(program, []byte("1.2.3-test")) {
				t.Errorf("%s names the folder it was built in, or not its version", name)
			}
		}
	}
	if sums[0] != sums[1] || strings.Count(sums[0], "\n") != 2 {
		t.Error(fmt.Errorf("not the same:\n%s\n%s", sums[0], sums[1]))
	}
}

func copyFile(t *testing.T, from, to string) {
	t.Helper()
	data, err := os.ReadFile(from)
	if os.IsNotExist(err) {
		return // deleted, and not committed yet
	}
	if err != nil {
		t.Fatal(err)
	}
	if err := os.MkdirAll(filepath.Dir(to), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(to, data, 0o644); err != nil {
		t.Fatal(err)
	}
}
