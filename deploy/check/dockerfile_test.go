package check

import (
	"bytes"
	"debug/elf"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/moby/buildkit/frontend/dockerfile/instructions"
	"github.com/moby/buildkit/frontend/dockerfile/linter"
	"github.com/moby/buildkit/frontend/dockerfile/parser"
	"github.com/moby/patternmatcher"
	"github.com/moby/patternmatcher/ignorefile"
)

// stages parses the Dockerfile as BuildKit does, and collects what its linter finds.
func stages() (all []instructions.Stage, warnings []string, err error) {
	data, err := os.ReadFile(filepath.Join(root, "deploy/Dockerfile"))
	if err != nil {
		return nil, nil, err
	}
	result, err := parser.Parse(bytes.NewReader(data))
	if err != nil {
		return nil, nil, err
	}
	for _, w := range result.Warnings {
		warnings = append(warnings, w.Short)
	}
	lint := linter.New(&linter.Config{Warn: func(rule, _, _, message string, _ []parser.Range) {
		warnings = append(warnings, rule+": "+message)
	}})
	all, _, err = instructions.Parse(result.AST, lint)
	return all, warnings, err
}

// buildLine is the Dockerfile's line that builds the binaries.
func buildLine() (string, error) {
	all, _, err := stages()
	if err != nil {
		return "", err
	}
	for _, s := range all {
		for _, c := range s.Commands {
			if run, ok := c.(*instructions.RunCommand); ok && run.PrependShell && strings.Contains(run.CmdLine[0], "go build") {
				return run.CmdLine[0], nil
			}
		}
	}
	return "", errors.New("the Dockerfile has no RUN … go build")
}

func TestDockerfile(t *testing.T) {
	all, warnings, err := stages()
	if err != nil {
		t.Fatal(err)
	}
	for _, w := range warnings {
		t.Error(w)
	}
	ignored := dockerignore(t)
	names := []string{}
	for _, s := range all {
		for _, c := range s.Commands {
			sources, ok := c.(*instructions.CopyCommand)
			if !ok {
				continue
			}
			for _, source := range sources.SourcePaths {
				if sources.From != "" {
					if !slices.Contains(names, sources.From) {
						t.Errorf("COPY from a stage %q that is not there yet", sources.From)
					}
					continue
				}
				if _, err := os.Stat(filepath.Join(root, source)); err != nil {
					t.Errorf("COPY %s: %v", source, err)
				}
				if match, err := ignored.MatchesOrParentMatches(source); err != nil || match {
					t.Errorf("COPY %s, which .dockerignore leaves out: %v", source, err)
				}
			}
		}
		names = append(names, s.Name)
	}

	// A base is given by digest or not at all, and its stage rejects a tag.
	for _, s := range all[:len(all)-1] {
		variable, required := strings.CutPrefix(s.BaseName, "${")
		variable, _, ok := strings.Cut(variable, ":?")
		if !required || !ok {
			t.Errorf("FROM %s: the base is not pinned", s.BaseName)
		}
		rejects := false
		for _, c := range s.Commands {
			if run, ok := c.(*instructions.RunCommand); ok && strings.HasPrefix(run.CmdLine[0], "case") {
				for value, want := range map[string]bool{"node:24": false, "": false, "node:24@sha256:" + strings.Repeat("0", 64): true} {
					check := exec.Command("sh", "-c", run.CmdLine[0])
					check.Env = []string{variable + "=" + value}
					if got := check.Run() == nil; got != want {
						t.Errorf("%s=%q is taken: %v", variable, value, got)
					}
				}
				rejects = true
			}
		}
		if !rejects {
			t.Errorf("FROM %s: a tag is not rejected", s.BaseName)
		}
	}

	image := all[len(all)-1]
	if image.BaseName != "scratch" {
		t.Errorf("the image is made from %s", image.BaseName)
	}
	var user string
	var entry, copied []string
	for _, c := range image.Commands {
		switch c := c.(type) {
		case *instructions.UserCommand:
			user = c.User
		case *instructions.EntrypointCommand:
			entry = c.CmdLine
			if c.PrependShell {
				t.Error("the entry point needs a shell, and there is none")
			}
		case *instructions.CopyCommand:
			for _, source := range c.SourcePaths {
				copied = append(copied, c.DestPath+filepath.Base(source))
			}
		case *instructions.RunCommand:
			t.Error("RUN in an image without a shell")
		}
	}
	if user != "65532:65532" { // a number, so that Kubernetes can tell it is not root
		t.Errorf("the image runs as %q", user)
	}
	if len(entry) != 1 || !slices.Contains(copied, entry[0]) || !slices.Contains(copied, "/usr/local/bin/argusctl") {
		t.Errorf("the entry point is %q, and the image has %q", entry, copied)
	}
}

// TestIgnored: no secret, nothing built here and no history gets into a build, and everything compiled does.
func TestIgnored(t *testing.T) {
	ignored := dockerignore(t)
	for path, want := range map[string]bool{
		".git/config": true, "deploy/.env": true, ".argus/env": true, "api/console/node_modules/vite/index.js": true,
		"internal/engines/node_modules/x": true, "api/console/dist/index.html": true,
		"go.mod": false, "argusd/main.go": false, "api/openapi.json": false, "internal/engines/child.go": false,
		"migrations/postgres/0001_audit.sql": false, "api/console/missing/index.html": false, "api/console/src/main.tsx": false,
	} {
		if got, err := ignored.MatchesOrParentMatches(path); err != nil || got != want {
			t.Errorf("%s: left out %v, %v", path, got, err)
		}
	}
}

func dockerignore(t *testing.T) *patternmatcher.PatternMatcher {
	t.Helper()
	f, err := os.Open(filepath.Join(root, "deploy/Dockerfile.dockerignore"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	patterns, err := ignorefile.ReadAll(f)
	if err != nil {
		t.Fatal(err)
	}
	matcher, err := patternmatcher.New(patterns)
	if err != nil {
		t.Fatal(err)
	}
	return matcher
}

// TestBinaries: static, so that they run in an image with nothing else; the version is stamped; dev is not in them.
func TestBinaries(t *testing.T) {
	dir := filepath.Dir(argusd(t))
	for _, name := range []string{"argusd", "argusctl"} {
		f, err := elf.Open(filepath.Join(dir, name))
		if err != nil {
			t.Fatal(err)
		}
		for _, p := range f.Progs {
			if p.Type == elf.PT_INTERP {
				t.Errorf("%s is dynamically linked", name)
			}
		}
		f.Close()
	}
	for _, how := range []string{"--version", "version"} {
		out, err := exec.Command(argusd(t), how).CombinedOutput()
		if err != nil || !strings.HasPrefix(string(out), "argusd 1.2.3-test") {
			t.Errorf("argusd %s: %s, %v", how, out, err)
		}
	}
	out, err := exec.Command(argusd(t), "dev").CombinedOutput()
	if err == nil || !strings.Contains(string(out), "not in this build") {
		t.Errorf("argusd dev: %s, %v", out, err)
	}
	// What serves in production links none of what only tests and checks need.
	list := exec.Command("go", "list", "-tags", "noengines", "-deps", "./argusd", "./argusctl")
	list.Dir = root
	deps, err := list.Output()
	if err != nil {
		t.Fatal(err)
	}
	for path := range strings.FieldsSeq(string(deps)) {
		for _, bad := range []string{"helm.sh/", "k8s.io/", "github.com/moby/", "github.com/compose-spec/", "github.com/ebitengine/purego"} {
			if strings.HasPrefix(path, bad) {
				t.Error(fmt.Errorf("argusd or argusctl links %s", path))
			}
		}
	}
}

// TestBaseImages: the script records digests, and nothing that is none; the build's Node is a supported one.
func TestBaseImages(t *testing.T) {
	dir := t.TempDir()
	data, err := os.ReadFile(filepath.Join(root, "deploy/base-images.sh"))
	if err != nil {
		t.Fatal(err)
	}
	script, lock := filepath.Join(dir, "base-images.sh"), filepath.Join(dir, "base-images.lock")
	write := func(path, text string) {
		t.Helper()
		if err := os.WriteFile(path, []byte(text), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	write(script, string(data))
	digest := "sha256:" + strings.Repeat("1d", 32)
	run := func(answer string, args ...string) (string, error) {
		write(filepath.Join(dir, "docker"), "#!/bin/sh\necho "+answer+"\n")
		cmd := exec.Command(script, args...)
		cmd.Env = append(os.Environ(), "PATH="+dir+":"+os.Getenv("PATH"))
		out, err := cmd.Output()
		return string(out), err
	}
	if out, err := run("latest"); err == nil || out != "" {
		t.Errorf("no digest is taken: %q", out)
	}
	if _, err := os.Stat(lock); err == nil {
		t.Error("no digest is recorded")
	}
	want := " --build-arg NODE_IMAGE=docker.io/library/node:24-bookworm-slim@" + digest + " --build-arg GO_IMAGE=docker.io/library/golang:1.26-bookworm@" + digest + "\n"
	for _, answer := range []string{digest, "not asked again"} {
		if out, err := run(answer); err != nil || out != want {
			t.Errorf("%q, %v", out, err)
		}
	}
	other := strings.ReplaceAll(digest, "1d", "2e")
	if out, err := run(other, "--update"); err != nil || out != strings.ReplaceAll(want, digest, other) {
		t.Errorf("%q, %v", out, err)
	}
	write(lock, "NODE_IMAGE=node:24\nGO_IMAGE=golang:1.26\n")
	if out, err := run(digest); err == nil {
		t.Errorf("a tag is passed on: %q", out)
	}
	if _, err := os.Stat(filepath.Join(root, "deploy/base-images.lock")); err != nil {
		t.Log("deploy/base-images.lock is not there yet: the first release makes it, where a registry can be asked")
	}
}
