package check

import (
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/compose-spec/compose-go/v2/dotenv"
	"github.com/compose-spec/compose-go/v2/loader"
	"github.com/compose-spec/compose-go/v2/types"
)

// composeEnv runs compose-env.sh on a copy and fills in what it leaves open.
func composeEnv(t *testing.T) map[string]string {
	t.Helper()
	dir := t.TempDir()
	data, err := os.ReadFile(filepath.Join(root, "deploy/compose-env.sh"))
	if err != nil {
		t.Fatal(err)
	}
	script := filepath.Join(dir, "compose-env.sh")
	if err := os.WriteFile(script, data, 0o755); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command(script).CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	if out, err := exec.Command(script).CombinedOutput(); err == nil {
		t.Errorf("compose-env.sh overwrites .env:\n%s", out)
	}
	file := filepath.Join(dir, ".env")
	if info, err := os.Stat(file); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf(".env: %v, %v", info, err)
	}
	environ, err := dotenv.Read(file)
	if err != nil {
		t.Fatal(err)
	}
	seen := map[string]bool{}
	for name, value := range environ {
		switch {
		case value == "":
			environ[name] = map[string]string{"ARGUS_DOMAIN": "ops.example.com", "ARGUS_CLERK_ISSUER": "https://clerk.example.com",
				"ARGUS_CLERK_SECRET_KEY": "sk_live_0000", "ARGUS_CLERK_PUBLISHABLE_KEY": "pk_live_Y2xlcmsuZXhhbXBsZS5jb20k",
				"ARGUS_CLERK_ORGANIZATION": "org_2acme"}[name]
		case len(value) != 64 || seen[value]:
			t.Errorf("%s is no fresh secret: %q", name, value)
		}
		seen[value] = true
	}
	return environ
}

func loadCompose(t *testing.T, environ map[string]string, names ...string) (*types.Project, error) {
	t.Helper()
	var files []types.ConfigFile
	for _, name := range names {
		files = append(files, types.ConfigFile{Filename: filepath.Join(root, "deploy", name)})
	}
	return loader.LoadWithContext(t.Context(), types.ConfigDetails{
		WorkingDir:  filepath.Join(root, "deploy"),
		ConfigFiles: files,
		Environment: environ,
	}, func(o *loader.Options) { o.Profiles = []string{"*"} })
}

func TestCompose(t *testing.T) {
	composed(t, []string{"api", "break-glass", "hold", "ledger", "maintain", "migrate", "replicator", "ship", "tenant"}, "compose.yaml")
}

// TestComposeCopies: the second file adds a server and its replicator, and every process that asks ClickHouse knows both.
func TestComposeCopies(t *testing.T) {
	project := composed(t, []string{"api", "break-glass", "hold", "ledger", "maintain", "migrate", "replicator", "replicator-west", "ship", "tenant"},
		"compose.yaml", "compose-copies.yaml")
	kept := map[string]string{}
	for name, s := range project.Services {
		if url, ok := s.Environment["ARGUS_CLICKHOUSE_URL"]; ok {
			copies := strings.Fields(*url)
			if len(copies) != 2 || !strings.HasPrefix(copies[0], "east=") || !strings.Contains(copies[0], "@clickhouse:9000/") ||
				!strings.HasPrefix(copies[1], "west=") || !strings.Contains(copies[1], "@clickhouse-west:9000/") {
				t.Errorf("%s asks %q", name, *url)
			}
		}
		for _, v := range s.Volumes {
			if other, ok := kept[v.Source]; ok {
				t.Errorf("%s and %s keep their data in one volume", name, other)
			}
			kept[v.Source] = name
		}
	}
	for name, of := range map[string]string{"replicator": "east", "replicator-west": "west"} {
		if is := project.Services[name].Environment["ARGUS_COPY"]; is == nil || *is != of {
			t.Errorf("%s is not of the copy %s", name, of)
		}
	}
	if _, waits := project.Services["migrate"].DependsOn["clickhouse-west"]; !waits {
		t.Error("migrate does not wait for the second server")
	}
}

// composed loads the files together and holds every service to what it may do.
func composed(t *testing.T, want []string, files ...string) *types.Project {
	t.Helper()
	environ := composeEnv(t)
	project, err := loadCompose(t, environ, files...)
	if err != nil {
		t.Fatal(err)
	}
	var ours []string
	for name, s := range project.Services {
		if s.Image != "argus" {
			if !slices.Contains([]string{"postgres:18-bookworm", "clickhouse/clickhouse-server:26.7", "caddy:2"}, s.Image) {
				t.Errorf("%s: the image %s is not an official one", name, s.Image)
			}
		} else {
			ours = append(ours, name)
			if !s.ReadOnly || !slices.Equal(s.CapDrop, []string{"ALL"}) || !slices.Contains(s.SecurityOpt, "no-new-privileges:true") || s.User != "" || s.Privileged {
				t.Errorf("%s may do more than it must", name)
			}
			entry := s.Entrypoint
			if len(entry) == 0 {
				entry = []string{"/usr/local/bin/argusd"}
			}
			set := map[string]string{}
			for variable, value := range s.Environment {
				if value == nil {
					t.Errorf("%s: %s has no value", name, variable)
					continue
				}
				set[variable] = *value
			}
			runs(t, "compose.yaml: "+name, append(slices.Clone([]string(entry)), s.Command...), set, nil)
			// Whose password in a URL is the one that migrate gives to that very role.
			for variable, value := range set {
				checkRole(t, name+" "+variable, value, environ)
			}
		}
		for _, port := range s.Ports {
			if name != "proxy" && port.HostIP != "127.0.0.1" {
				t.Errorf("%s is open to the world at %s", name, port.Published)
			}
		}
		if _, outside := s.Networks["outside"]; outside && name != "api" && name != "proxy" {
			t.Errorf("%s is in the network outside", name)
		}
		for dependency := range s.DependsOn {
			if _, ok := project.Services[dependency]; !ok {
				t.Errorf("%s waits for %s, which is not there", name, dependency)
			}
		}
		for _, v := range s.Volumes {
			if v.Type != types.VolumeTypeVolume || v.Source == "" {
				t.Errorf("%s keeps %s nowhere that lasts", name, v.Target)
			}
		}
	}
	slices.Sort(ours)
	if !slices.Equal(ours, want) {
		t.Errorf("services of ours: %v", ours)
	}
	if !project.Networks["stores"].Internal {
		t.Error("the stores' network leads outside")
	}
	trusted := project.Services["api"].Environment["ARGUS_TRUSTED_PROXIES"]
	if trusted == nil || *trusted != project.Services["proxy"].Networks["outside"].Ipv4Address {
		t.Error("the API believes another address than the proxy's")
	}

	// Every variable that is missing in .env is reported before anything starts.
	for name := range composeEnv(t) {
		fewer := map[string]string{}
		for n, v := range environ {
			if n != name {
				fewer[n] = v
			}
		}
		if _, err := loadCompose(t, fewer, files...); err == nil || !strings.Contains(err.Error(), name) {
			t.Errorf("without %s: %v", name, err)
		}
	}
	return project
}

// checkRole compares the password of a URL with the one of its role in .env.
func checkRole(t *testing.T, where, value string, environ map[string]string) {
	t.Helper()
	if copies := strings.Fields(value); len(copies) > 1 { // of ClickHouse
		for _, c := range copies {
			name, url, _ := strings.Cut(c, "=")
			checkRole(t, where+" "+name, url, environ)
		}
		return
	}
	for role, variable := range map[string]string{
		"postgres://postgres:": "POSTGRES_PASSWORD", "postgres://argus_api:": "POSTGRES_API_PASSWORD",
		"postgres://argus_replicator:": "POSTGRES_REPLICATOR_PASSWORD", "postgres://argus_maintenance:": "POSTGRES_MAINTENANCE_PASSWORD",
		"postgres://argus_break_glass:": "POSTGRES_BREAK_GLASS_PASSWORD", "postgres://argus_hold:": "POSTGRES_HOLD_PASSWORD", "postgres://argus_consent:": "POSTGRES_CONSENT_PASSWORD", "postgres://argus_ledger:": "POSTGRES_LEDGER_PASSWORD", "postgres://argus_ship:": "POSTGRES_SHIP_PASSWORD", "clickhouse://argus_migrate:": "CLICKHOUSE_PASSWORD",
		"clickhouse://argus_replicator:": "CLICKHOUSE_REPLICATOR_PASSWORD", "clickhouse://argus_reader:": "CLICKHOUSE_READER_PASSWORD",
		"clickhouse://argus_maintenance:": "CLICKHOUSE_MAINTENANCE_PASSWORD",
	} {
		if rest, ok := strings.CutPrefix(value, role); ok {
			if !strings.HasPrefix(rest, environ[variable]+"@") {
				t.Errorf("%s does not have the password %s", where, variable)
			}
			return
		}
	}
	if strings.Contains(value, "://") && !strings.HasPrefix(value, "https://") {
		t.Errorf("%s is of an unknown role", where)
	}
}
