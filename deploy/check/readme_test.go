package check

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// TestReadme: what deploy/README.md tells to type exists. The test asks commands of ours for their help with the flags of the
// page, so that an unknown flag fails. Files that the page names are there. Its values render.
func TestReadme(t *testing.T) {
	data, err := os.ReadFile(filepath.Join(root, "deploy/README.md"))
	if err != nil {
		t.Fatal(err)
	}
	text := string(data)
	commands := 0
	for _, block := range regexp.MustCompile("(?s)```sh\n(.*?)```").FindAllStringSubmatch(text, -1) {
		for line := range strings.Lines(strings.ReplaceAll(block[1], "\\\n", " ")) {
			if _, ours, ok := strings.Cut(line, "argusd "); ok && !strings.Contains(line, "systemd/argusd") && !strings.HasPrefix(line, "install") {
				commands++
				out, err := exec.Command("sh", "-c", argusd(t)+" "+strings.TrimSpace(ours)+" --help").CombinedOutput()
				if err != nil || !strings.Contains(string(out), "Usage:") {
					t.Errorf("%s: %v\n%s", line, err, out)
				}
			}
			if out, err := exec.Command("sh", "-n", "-c", line).CombinedOutput(); err != nil {
				t.Errorf("%s: %v\n%s", line, err, out)
			}
		}
	}
	for _, inline := range regexp.MustCompile("`argusd ([^`]+)`").FindAllStringSubmatch(text, -1) {
		commands++
		out, err := exec.Command("sh", "-c", argusd(t)+" "+inline[1]+" --help").CombinedOutput()
		if err != nil || !strings.Contains(string(out), "Usage:") {
			t.Errorf("argusd %s: %v\n%s", inline[1], err, out)
		}
	}
	if commands < 15 {
		t.Errorf("%d commands of ours were found", commands)
	}
	for _, path := range regexp.MustCompile(`deploy/[A-Za-z0-9_./*-]*[A-Za-z0-9*]`).FindAllString(text, -1) {
		if found, err := filepath.Glob(filepath.Join(root, path)); (err != nil || len(found) == 0) && path != "deploy/.env" {
			t.Errorf("there is no %s", path)
		}
	}
	known := variables(t)
	for _, name := range regexp.MustCompile(`\bARGUS_[A-Z_]+[A-Z]\b`).FindAllString(text, -1) {
		found := name == "ARGUS_DOMAIN" // of compose.yaml
		for _, process := range known {
			_, ok := process[name]
			found = found || ok
		}
		if !found {
			t.Errorf("%s is no variable", name)
		}
	}
	// The secrets that are made have the keys that the chart asks for.
	all := objects(t, valuesOf(t, text))
	for id, o := range all {
		if o.pod == nil {
			continue
		}
		for _, e := range o.pod.Spec.Containers[0].Env {
			if e.ValueFrom == nil {
				continue
			}
			ref := e.ValueFrom.SecretKeyRef
			made := regexp.MustCompile(`(?s)create secret generic ` + ref.Name + ` (.*?)\nkubectl|create secret generic ` + ref.Name + ` (.*?)` + "```").FindString(text)
			if !strings.Contains(made, "--from-literal="+ref.Key+"=") {
				t.Errorf("%s needs %s of the secret %s, which is not made so", id, ref.Key, ref.Name)
			}
		}
	}
	if _, ok := all["Ingress/ops-argus-api"]; !ok {
		t.Error("the example has no ingress")
	}
}

// TestProjectPages: the targets of make that the project's pages name exist, their links lead somewhere, and the
// pattern for scanners is the code's.
func TestProjectPages(t *testing.T) {
	makefile, err := os.ReadFile(filepath.Join(root, "Makefile"))
	if err != nil {
		t.Fatal(err)
	}
	for _, page := range []string{"README.md", "CONTRIBUTING.md", "SECURITY.md", "CHANGELOG.md", "ARCHITECTURE.md", "deploy/README.md",
		"docs/tour.md", "docs/identity.md", "docs/configuration.md", "docs/decisions.md", "docs/api.md", "docs/control.md", "docs/writer.md",
		"docs/replicator.md", "docs/analytics.md", "docs/glossary.md", "docs/auditors.md", "docs/proof.md"} {
		data, err := os.ReadFile(filepath.Join(root, page))
		if err != nil {
			t.Fatal(err)
		}
		for _, found := range regexp.MustCompile("`make\\s+([a-z-]+)").FindAllSubmatch(data, -1) {
			if !regexp.MustCompile(`(?m)^` + string(found[1]) + `:`).Match(makefile) {
				t.Errorf("%s: there is no make %s", page, found[1])
			}
		}
		for _, found := range regexp.MustCompile(`\]\(([^):#]+)(#[^)]*)?\)`).FindAllSubmatch(data, -1) {
			if _, err := os.Stat(filepath.Join(root, filepath.Dir(page), string(found[1]))); err != nil {
				t.Errorf("%s: %v", page, err)
			}
		}
	}
	security, err := os.ReadFile(filepath.Join(root, "SECURITY.md"))
	if err != nil {
		t.Fatal(err)
	}
	secret, err := os.ReadFile(filepath.Join(root, "secret.go"))
	if err != nil {
		t.Fatal(err)
	}
	pattern := regexp.MustCompile("SecretPattern = `([^`]+)`").FindSubmatch(secret)
	if pattern == nil || !strings.Contains(string(security), "`"+string(pattern[1])+"`") {
		t.Error("SECURITY.md has another pattern of secrets than secret.go")
	}
}

func valuesOf(t *testing.T, text string) string {
	t.Helper()
	found := regexp.MustCompile("(?s)```yaml\n(.*?)```").FindStringSubmatch(text)
	if found == nil {
		t.Fatal("there are no example values")
	}
	return found[1]
}
