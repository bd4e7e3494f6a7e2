package check

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// unit reads what systemd would: sections, and the values of each name in order.
func unit(t *testing.T, path string) map[string][]string {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	values := map[string][]string{}
	section := ""
	for line := range strings.Lines(string(data)) {
		line = strings.TrimSpace(line)
		name, value, ok := strings.Cut(line, "=")
		switch {
		case line == "" || line[0] == '#':
		case line[0] == '[':
			section = strings.Trim(line, "[]")
		case !ok || section == "":
			t.Errorf("%s: %q is no setting", path, line)
		default:
			values[section+"."+name] = append(values[section+"."+name], value)
		}
	}
	return values
}

// TestUnits: each unit runs the binary with settings it knows, from the example beside it.
func TestUnits(t *testing.T) {
	files, err := filepath.Glob(filepath.Join(root, "deploy/systemd/*"))
	if err != nil {
		t.Fatal(err)
	}
	used := []string{"argusd-.service.d", "credentials"}
	for _, file := range files {
		if filepath.Ext(file) != ".service" {
			continue
		}
		u := unit(t, file)
		environFile := u["Service.EnvironmentFile"][0]
		example := filepath.Join(root, "deploy/systemd", filepath.Base(environFile))
		if !strings.HasPrefix(environFile, "/etc/argus/") {
			t.Errorf("%s reads %s", file, environFile)
		}
		used = append(used, filepath.Base(file), filepath.Base(example))
		data, err := os.ReadFile(example)
		if err != nil {
			t.Fatal(err)
		}
		environ := map[string]string{}
		for line := range strings.Lines(string(data)) {
			name, value, ok := strings.Cut(strings.TrimSpace(line), "=")
			if ok && !strings.HasPrefix(line, "#") {
				environ[name] = strings.ReplaceAll(value, "CHANGEME", "2acme")
			}
		}
		files, others := map[string]string{}, 0
		process := strings.Fields(u["Service.ExecStart"][0])[1]
		for _, set := range u["Service.Environment"] {
			name, value, _ := strings.Cut(set, "=")
			environ[name] = value
		}
		for _, load := range u["Service.LoadCredential"] {
			name, from, _ := strings.Cut(load, ":")
			if from != "/etc/argus/credentials/"+process+"/"+name {
				t.Errorf("%s: %s comes from %s", file, name, from)
			}
			example, err := os.ReadFile(filepath.Join(root, "deploy/systemd/credentials", process, name))
			if err != nil || !strings.Contains(string(example), "CHANGEME") {
				t.Errorf("%s: the example of %s is %q, %v", file, name, example, err)
			}
			if strings.HasPrefix(name, "ARGUS_") {
				files[name] = secrets()[name]
			} else {
				others++ // a file that a setting names
			}
		}
		// No secret stands in the environment, which every child and every dump has.
		for name := range secrets() {
			if _, ok := environ[name]; ok {
				t.Errorf("%s sets the secret %s", environFile, name)
			}
		}
		examples, err := os.ReadDir(filepath.Join(root, "deploy/systemd/credentials", process))
		if err != nil || len(examples) != len(files)+others {
			t.Errorf("%s: %d credentials, %d examples, %v", file, len(files), len(examples), err)
		}
		// A login whose password migrate is not given can be used by no process.
		for name := range variables(t)[process] {
			if strings.HasSuffix(name, "_PASSWORD") && files[name] == "" {
				t.Errorf("%s does not load %s", file, name)
			}
		}
		if len(u["Service.MemoryMax"]) != 1 {
			t.Errorf("%s does not set MemoryMax", file)
		}
		command := u["Service.ExecStart"][0]
		if strings.HasSuffix(file, "@.service") { // an instance: east-2 is unescaped to east/2
			command = strings.ReplaceAll(command, "%I", "east/2")
			if of := u["Service.EnvironmentFile"]; len(of) != 2 || of[1] != strings.Replace("-"+environFile, ".env", "-%i.env", 1) {
				t.Errorf("%s reads the settings %q", file, of)
			}
			one := files["ARGUS_CLICKHOUSE_URL"]
			files["ARGUS_CLICKHOUSE_URL"] = "east=" + one + "|" + one
		}
		runs(t, filepath.Base(file), strings.Fields(command), environ, files)
	}
	timer := unit(t, filepath.Join(root, "deploy/systemd/argusd-maintain.timer"))
	if !slices.Equal(timer["Timer.OnCalendar"], []string{"daily"}) || !slices.Equal(timer["Timer.Persistent"], []string{"yes"}) {
		t.Errorf("the timer: %v", timer) // three days without maintenance look like a clock that jumped
	}
	used = append(used, "argusd-maintain.timer")
	for _, file := range files {
		if !slices.Contains(used, filepath.Base(file)) {
			t.Errorf("deploy/systemd/%s is used by nothing", filepath.Base(file))
		}
	}
	hardening := unit(t, filepath.Join(root, "deploy/systemd/argusd-.service.d/hardening.conf"))
	if core := hardening["Service.LimitCORE"]; !slices.Equal(core, []string{"0"}) {
		t.Errorf("LimitCORE is %q: a core dump holds secrets", core)
	}
	for _, name := range []string{"DynamicUser", "NoNewPrivileges", "PrivateDevices", "ProtectSystem", "MemoryDenyWriteExecute", "CapabilityBoundingSet"} {
		if len(hardening["Service."+name]) != 1 {
			t.Errorf("hardening.conf does not set %s once", name)
		}
	}
}

// TestSystemdAnalyze asks systemd itself, where it is installed. Where it is not, the units are as well checked as
// TestUnits does, and the log says so.
func TestSystemdAnalyze(t *testing.T) {
	tool, err := exec.LookPath("systemd-analyze")
	if err != nil {
		t.Log("systemd-analyze is not installed here (Debian: apt-get install systemd): units were checked by TestUnits alone")
		return
	}
	host := t.TempDir()
	system := filepath.Join(host, "etc/systemd/system")
	for _, dir := range []string{system, filepath.Join(host, "usr/local/bin"), filepath.Join(host, "etc/argus")} {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.CopyFS(system, os.DirFS(filepath.Join(root, "deploy/systemd"))); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(host, "usr/local/bin/argusd"), nil, 0o755); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"sysinit", "basic", "shutdown", "network-online", "multi-user", "timers", "time-set", "time-sync"} {
		if err := os.WriteFile(filepath.Join(system, name+".target"), fmt.Appendf(nil, "[Unit]\nDescription=%s\n", name), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	units, err := filepath.Glob(filepath.Join(system, "argusd-*.*"))
	if err != nil {
		t.Fatal(err)
	}
	level := regexp.MustCompile(`Overall exposure level for \S+: ([0-9.]+)`)
	for _, path := range units {
		name := strings.Replace(filepath.Base(path), "@.", "@east-2.", 1)
		if filepath.Ext(name) != ".service" && filepath.Ext(name) != ".timer" {
			continue
		}
		out, err := exec.Command(tool, "verify", "--man=no", "--root="+host, name).CombinedOutput()
		if err != nil || len(strings.TrimSpace(string(out))) > 0 {
			t.Errorf("systemd-analyze verify %s: %v\n%s", name, err, out)
		}
		if filepath.Ext(name) != ".service" {
			continue
		}
		// Threshold 15 is an exposure of 1.5 out of 10.
		out, err = exec.Command(tool, "security", "--no-pager", "--offline=true", "--threshold=15", "--root="+host, name).CombinedOutput()
		if err != nil || !level.Match(out) {
			t.Errorf("systemd-analyze security %s: %v\n%s", name, err, out)
		}
	}
}
