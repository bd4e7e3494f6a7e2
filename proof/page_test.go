package proof_test

import (
	"bytes"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/useargus/argus/proof"
)

// fromPage is the page's only block of that language.
func fromPage(t *testing.T, language string) []byte {
	t.Helper()
	page, err := os.ReadFile("../docs/proof.md")
	if err != nil {
		t.Fatal(err)
	}
	_, rest, ok := strings.Cut(string(page), "\n```"+language+"\n")
	program, _, closed := strings.Cut(rest, "\n```\n")
	if !ok || !closed || strings.Contains(rest, "\n```"+language+"\n") {
		t.Fatalf("docs/proof.md has not one program in %s", language)
	}
	return []byte(program + "\n")
}

// TestPrograms runs the programs of docs/proof.md, which have nothing of ours, on proof files: they agree with the package.
func TestPrograms(t *testing.T) {
	dir := t.TempDir()
	goProgram, python := filepath.Join(dir, "check.go"), filepath.Join(dir, "check.py")
	binary := filepath.Join(dir, "check")
	for name, data := range map[string][]byte{goProgram: fromPage(t, "go"), python: fromPage(t, "python")} {
		if err := os.WriteFile(name, data, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if out, err := exec.Command("go", "build", "-o", binary, goProgram).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	l := sample(300)
	leafAt := func(n int) int64 {
		for _, run := range l.runs {
			for i := range run.Leaves() {
				if e := run.Entry(i); e.Kind == proof.Call && e.WriterID == l.rows[n].WriterID && e.Seq == l.rows[n].Seq {
					return run.FirstLeaf + int64(i)
				}
			}
		}
		t.Fatal("no leaf")
		return 0
	}
	check := func(name string, file []byte, goProves, pythonProves bool) {
		t.Helper()
		path := filepath.Join(dir, "call.tlog-proof")
		if err := os.WriteFile(path, file, 0o644); err != nil {
			t.Fatal(err)
		}
		for _, p := range []struct {
			command *exec.Cmd
			proves  bool
		}{{exec.Command(binary, path, l.key.String()), goProves}, {exec.Command("python3", "-O", python, path, l.key.String()), pythonProves}} { // -O takes asserts out
			out, err := p.command.CombinedOutput()
			var exit *exec.ExitError
			if err != nil && !errors.As(err, &exit) {
				t.Fatal(err)
			}
			if p.proves != (err == nil) || p.proves != bytes.HasPrefix(out, []byte("proven:")) || !p.proves && exit.ExitCode() != 9 {
				t.Errorf("%s: %s: %v, %.300s", name, filepath.Base(p.command.Path), err, out)
			}
			// What a program shows is what it proves: a row only when it has hashed the row.
			if p.proves && !pythonProves && !bytes.HasSuffix(out, []byte(" has the row_hash "+hex.EncodeToString(l.rows[42].RowHash[:])+"\n")) {
				t.Errorf("%s: %s shows %.300s", name, filepath.Base(p.command.Path), out)
			}
		}
	}
	for _, n := range []int{0, 1, 7, 42, 128, 299} {
		check("proven", l.file(t, leafAt(n), l.rows[n]).Marshal(), true, true)
	}
	f := l.file(t, leafAt(42), l.rows[42])
	hashOnly := *f
	hashOnly.Row = nil
	check("a hash alone", hashOnly.Marshal(), true, true)
	other := *f
	other.Row = bytes.Replace(f.Row, []byte(`"method":"GET"`), []byte(`"method":"PUT"`), 1)
	check("a column changed", other.Marshal(), true, false)
	other = *f
	other.Entry.Digest[5] ^= 1
	check("an entry changed", other.Marshal(), false, false)
	other = *f
	other.Index ^= 1
	check("another leaf", other.Marshal(), false, false)
	other = *f
	other.Note = bytes.Replace(f.Note, []byte("\n— "), []byte("\n— "), 1)
	at := bytes.Index(other.Note, []byte("— ")) + len("— "+origin+" ") + 40
	if other.Note[at] ^= 1; other.Note[at] == '@' || other.Note[at] == '[' {
		other.Note[at] = 'A'
	}
	check("a signature changed", other.Marshal(), false, false)
	other = *f
	other.Row = append(bytes.TrimSuffix(f.Row[:len(f.Row):len(f.Row)], []byte("}")), `,"consent":"DOC-1"}`...)
	check("a field that no hash covers", other.Marshal(), true, false)
	for _, file := range []string{"", "c2sp.org/tlog-proof@v1\n", "c2sp.org/tlog-proof@v1\nextra AQ==\nindex 0\n\n" + string(f.Note)} {
		check(fmt.Sprintf("%d bytes that are no proof file", len(file)), []byte(file), false, false)
	}
}
