package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/useargus/argus"
)

// testIdentity: each kind of credential with each preset, got as a person gets it, does with argusctl what it may
// and nothing else.
func (d *devServer) testIdentity(t *testing.T) {
	d.t = t
	admin, _ := argus.PresetScopes(argus.PresetAdminFull)
	support, _ := argus.PresetScopes(argus.PresetSupportReadonly)
	tenants := []argus.Scope{argus.ScopeTenantsRead}
	// The sample service declares scopes, which the presets hold. On the host, where break-glass tokens are issued, no
	// services file is read, so these have ARGUS's own scopes and, for the API, no preset's.
	adminHere := append(slices.Clone(admin), "sample:read", "sample:write")
	supportHere := append(slices.Clone(support), "sample:read")
	is := func(secret string) func() string { return func() string { return secret } }
	for _, c := range []struct {
		name   string
		token  func() string // a session lasts a minute, so it is made anew for each command
		kind   argus.ActorKind
		actor  string
		preset string
		scopes []argus.Scope
		create int // argusctl's exit code
	}{
		{"session of an admin", func() string { return d.signIn("user_2ada") }, argus.KindClerkSession, "user_2ada", argus.PresetAdminFull, adminHere, 0},
		{"session of a member", func() string { return d.signIn("user_2grace") }, argus.KindClerkSession, "user_2grace", argus.PresetSupportReadonly, supportHere, 5},
		{"token, admin-full", is(d.env("env", "ARGUS_TOKEN")), argus.KindPAT, "user_2ada", argus.PresetAdminFull, adminHere, 0},
		{"token, support-readonly", is(d.env("env", "ARGUS_TOKEN_SUPPORT")), argus.KindPAT, "user_2grace", argus.PresetSupportReadonly, supportHere, 5},
		{"token, tenants", is(d.env("env", "ARGUS_TOKEN_TENANTS")), argus.KindPAT, "user_2linus", "", tenants, 5},
		{"break-glass, admin-full", is(d.breakGlass("user_2ada", "--scopes", "admin-full")), argus.KindBreakGlass, "user_2ada", "", admin, 5},
		{"break-glass", is(d.breakGlass("user_2grace")), argus.KindBreakGlass, "user_2grace", "", support, 5},
		{"break-glass, tenants", is(d.breakGlass("user_2linus", "--scopes", "tenants:read")), argus.KindBreakGlass, "user_2linus", "", tenants, 5},
	} {
		t.Run(c.name, func(t *testing.T) {
			d.t = t
			me := d.whoami(c.token())
			if me.ActorKind != c.kind || me.ActorID != c.actor || me.Preset != c.preset || me.Name == "" || !slices.Equal(me.Scopes, c.scopes) {
				t.Errorf("whoami says %+v", me)
			}
			if (me.PATID != "") != (c.kind == argus.KindPAT) || (me.BreakGlassID != "") != (c.kind == argus.KindBreakGlass) {
				t.Errorf("whoami says %+v", me)
			}
			d.argusctl(c.token(), 0, "whoami")
			d.argusctl(c.token(), 0, "token", "ls")
			d.argusctl(c.token(), 6, "token", "revoke", uuid.NewString())
			made := d.argusctl(c.token(), c.create, "token", "create", "--name", "identity", "--scope", "tenants:read", "--expires-in", "1d")
			if c.create != 0 {
				return
			}
			child := strings.TrimSpace(made)
			mine := d.whoami(child)
			if mine.ActorKind != argus.KindPAT || mine.ActorID != c.actor || !slices.Equal(mine.Scopes, tenants) {
				t.Errorf("the token made says %+v", mine)
			}
			if list := d.argusctl(c.token(), 0, "token", "ls", "--json"); !strings.Contains(list, mine.PATID) {
				t.Errorf("the token made is not listed: %s", list)
			}
			d.argusctl(child, 5, "token", "create", "--name", "grandchild", "--scope", "tenants:read")
			d.argusctl(c.token(), 0, "token", "revoke", mine.PATID)
			d.argusctl(child, 4, "whoami") // at once, where it was revoked
		})
	}

	t.Run("issuers", d.testIssuers)

	// What was issued on the host is revoked there, and shows in the log with its kind.
	d.t = t
	secret := d.breakGlass("user_2mira")
	id := d.whoami(secret).BreakGlassID
	row := d.argusctl(d.env("env", "ARGUS_TOKEN"), 0, "logs", "tail", "--since", "5m", "--actor-kind", "break_glass", "--actor", "user_2mira", "--json")
	if !strings.Contains(row, id) || !strings.Contains(row, `"route":"GET /v1/operators/me"`) {
		t.Errorf("the log of the break-glass token: %s", row)
	}
	d.onHost("revoke", id)
	if err := eventually(bound, func() error {
		if status, _ := d.call(t.Context(), secret, http.MethodGet, "/v1/operators/me", ""); status != http.StatusUnauthorized {
			return fmt.Errorf("a revoked break-glass token is answered %d", status)
		}
		return nil
	}); err != nil {
		t.Error(err)
	}
	d.argusctl(secret, 4, "whoami")
}

// operatorMe is what argusctl whoami --json prints.
type operatorMe struct {
	ActorID      string          `json:"actor_id"`
	ActorKind    argus.ActorKind `json:"actor_kind"`
	Name         string          `json:"name"`
	Preset       string          `json:"preset"`
	Scopes       []argus.Scope   `json:"scopes"`
	PATID        string          `json:"pat_id"`
	BreakGlassID string          `json:"break_glass_id"`
}

func (d *devServer) whoami(token string) operatorMe {
	d.t.Helper()
	var me operatorMe
	if out := d.argusctl(token, 0, "whoami", "--json"); json.Unmarshal([]byte(out), &me) != nil {
		d.t.Errorf("whoami --json prints %s", out)
	}
	return me
}

// argusctl runs the CLI with the credential, expects its exit code, and returns its standard output.
func (d *devServer) argusctl(token string, code int, args ...string) string {
	d.t.Helper()
	for try := 0; ; try++ {
		command := exec.Command(filepath.Join(d.bin, "argusctl"), args...)
		command.Env = append(os.Environ(), "ARGUS_URL=http://"+d.addr, "ARGUS_TOKEN="+token, "HOME="+d.dir)
		var errOut strings.Builder
		command.Stderr = &errOut
		out, err := command.Output()
		if command.ProcessState == nil {
			d.t.Fatal(err)
		}
		got := command.ProcessState.ExitCode()
		if got != code && strings.Contains(errOut.String(), "rate_limited") && try < 90 {
			time.Sleep(time.Second) // on a fast machine the arms of the tests before are within a minute
			continue
		}
		if got != code {
			d.t.Errorf("argusctl %s: exit %d, want %d\n%s", strings.Join(args, " "), got, code, errOut.String())
		}
		return string(out)
	}
}

// signIn signs in at the local issuer as the console does, and returns the session's token.
func (d *devServer) signIn(operator string) string {
	d.t.Helper()
	var config struct {
		LocalSignInURL string `json:"local_sign_in_url"`
	}
	resp, err := http.Get("http://" + d.addr + "/console-config.json")
	if err != nil {
		d.t.Fatal(err)
	}
	data, err := io.ReadAll(resp.Body)
	resp.Body.Close()
	if err != nil || json.Unmarshal(data, &config) != nil || config.LocalSignInURL == "" {
		d.t.Fatalf("the console is not told where to sign in: %v %s", err, data)
	}
	client := http.Client{CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	resp, err = client.PostForm(config.LocalSignInURL, url.Values{"operator": {operator}, "redirect_url": {"http://" + d.addr + "/"}})
	if err != nil {
		d.t.Fatal(err)
	}
	resp.Body.Close()
	_, fragment, _ := strings.Cut(resp.Header.Get("Location"), "#")
	values, _ := url.ParseQuery(fragment)
	token := values.Get("session_token")
	if token == "" {
		d.t.Fatalf("signing in answers %d, Location %q", resp.StatusCode, resp.Header.Get("Location"))
	}
	return token
}

// breakGlass issues a break-glass token on the host and returns its secret.
func (d *devServer) breakGlass(user string, args ...string) string {
	d.t.Helper()
	return strings.TrimSpace(d.onHost(append([]string{"issue", "--for", user, "--reason", "the issuer is down"}, args...)...))
}

// onHost runs argusd break-glass with the role that may do nothing else.
func (d *devServer) onHost(args ...string) string {
	d.t.Helper()
	command := exec.Command(filepath.Join(d.bin, "argusd"), append([]string{"break-glass"}, args...)...)
	command.Env = append(os.Environ(), "ARGUS_POSTGRES_URL="+d.env("admin.env", "ARGUS_POSTGRES_BREAK_GLASS_URL"))
	var errOut strings.Builder
	command.Stderr = &errOut
	out, err := command.Output()
	if err != nil {
		d.t.Fatalf("argusd break-glass %s: %v\n%s", strings.Join(args, " "), err, errOut.String())
	}
	return string(out)
}

// openID is the address of the second issuer, as the API tells it.
func (d *devServer) openID(t *testing.T) string {
	t.Helper()
	var told struct {
		Issuers []struct{ Issuer string } `json:"issuers"`
	}
	resp, err := http.Get("http://" + d.addr + "/console-config.json")
	if err == nil {
		defer resp.Body.Close()
		err = json.NewDecoder(resp.Body).Decode(&told)
	}
	if err != nil || len(told.Issuers) != 1 {
		t.Fatalf("the issuers are %+v, %v", told, err)
	}
	return told.Issuers[0].Issuer
}

// testIssuers signs in by argusctl at the second local issuer, by browser and by device, and calls as a CI job.
func (d *devServer) testIssuers(t *testing.T) {
	d.t = t
	config := t.TempDir()
	environ := append(os.Environ(), "ARGUS_TOKEN=", "ARGUS_URL=", "HOME="+d.dir, "ARGUS_CONFIG_DIR="+config, "ARGUS_KEYRING=off")
	ctl := func(extra []string, code int, args ...string) string {
		t.Helper()
		command := exec.CommandContext(t.Context(), filepath.Join(d.bin, "argusctl"), args...)
		command.Env = append(environ, extra...)
		var errOut strings.Builder
		command.Stderr = &errOut
		out, _ := command.Output()
		if got := command.ProcessState.ExitCode(); got != code {
			t.Errorf("argusctl %s: exit %d, want %d\n%s", strings.Join(args, " "), got, code, errOut.String())
		}
		return string(out)
	}
	login := func(play func(said string) bool, args ...string) {
		t.Helper()
		command := exec.CommandContext(t.Context(), filepath.Join(d.bin, "argusctl"), append([]string{"login", "--url", "http://" + d.addr, "--issuer", d.openID(t)}, args...)...)
		command.Env = environ
		errOut, err := command.StderrPipe()
		if err == nil {
			err = command.Start()
		}
		if err != nil {
			t.Fatal(err)
		}
		said, played := "", false
		for lines := bufio.NewScanner(errOut); lines.Scan(); {
			said += lines.Text() + "\n"
			played = played || play(lines.Text())
		}
		if err := command.Wait(); err != nil || !played {
			t.Fatalf("argusctl login: %v\n%s", err, said)
		}
	}
	browser := http.Client{CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	submit := func(address string, form url.Values) string {
		t.Helper()
		resp, err := browser.PostForm(address, form)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		return resp.Header.Get("Location")
	}
	login(func(line string) bool {
		u, err := url.Parse(line)
		if err != nil || !strings.HasSuffix(u.Path, "/authorize") {
			return false
		}
		form := u.Query()
		form.Set("person", "00u1imani")
		u.RawQuery = ""
		resp, err := browser.Get(submit(u.String(), form))
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		return resp.StatusCode == 200
	}, "--no-browser", "--profile", "browser")
	login(func(line string) bool {
		fields := strings.Fields(line)
		if len(fields) < 7 || fields[0] != "Open" {
			return false
		}
		submit(fields[1], url.Values{"user_code": {fields[6]}, "person": {"00u2jonas"}})
		return true
	}, "--device", "--profile", "device")

	made := ""
	for profile, want := range map[string]operatorMe{
		"browser": {ActorID: "second:00u1imani", Name: "Imani Osei", Preset: argus.PresetAdminFull},
		"device":  {ActorID: "second:00u2jonas", Name: "Jonas Weber", Preset: argus.PresetSupportReadonly},
	} {
		var me operatorMe
		out := ctl(nil, 0, "whoami", "--profile", profile, "--json")
		if json.Unmarshal([]byte(out), &me) != nil || me.ActorID != want.ActorID || me.Name != want.Name || me.Preset != want.Preset || me.ActorKind != argus.KindOIDCSession {
			t.Errorf("%s: %s", profile, out)
		}
		if profile == "browser" {
			made = strings.TrimSpace(ctl(nil, 0, "token", "create", "--profile", profile, "--name", "laptop", "--scope", "tenants:read", "--expires-in", "1d"))
		}
	}
	// A token that such a person made is theirs, by name, and goes on when they sign out.
	ctl(nil, 0, "logout", "--profile", "browser")
	if me := d.whoami(made); me.ActorID != "second:00u1imani" || me.ActorKind != argus.KindPAT || me.Name != "Imani Osei" || !slices.Equal(me.Scopes, []argus.Scope{argus.ScopeTenantsRead}) {
		t.Errorf("the token made: %+v", me)
	}
	if list := d.argusctl(d.env("env", "ARGUS_TOKEN"), 0, "token", "ls", "--owner", "second:00u1imani"); !strings.Contains(list, "laptop") {
		t.Errorf("the administrator's list: %s", list)
	}
	d.argusctl(d.env("env", "ARGUS_TOKEN"), 0, "token", "revoke", "--owner", "second:00u1imani", "--yes")
	d.argusctl(made, 4, "whoami")
	d.argusctl(d.breakGlass("second:00u1imani"), 0, "whoami")

	// A CI job, by the token that its runner gives it. With one claim changed it is unauthenticated.
	var job []string
	job = append(job, "ARGUS_CONFIG_DIR="+t.TempDir()) // a profile of this server goes before the job's token
	for _, name := range []string{"ARGUS_URL", "ACTIONS_ID_TOKEN_REQUEST_URL", "ACTIONS_ID_TOKEN_REQUEST_TOKEN"} {
		job = append(job, name+"="+d.env("ci.env", name))
	}
	ctl(job, 0, "compute", "list")
	row := d.argusctl(d.env("env", "ARGUS_TOKEN"), 0, "logs", "tail", "--since", "5m", "--actor", "ci:deploy-bot", "--json")
	for _, part := range []string{`"actor_kind":"workload"`, `"route":"GET /compute/ops/workers"`, `"run_id":"8123450123"`, `"repository":"acme/fleet"`} {
		if !strings.Contains(row, part) {
			t.Errorf("the job's row lacks %s: %s", part, row)
		}
	}
	for claim, code := range map[string]int{"run_id=42": 0, "repository=evil/fleet": 4, "ref=refs/heads/main/x": 0, "aud=https://other.example.com": 4, "iss=https://other.example.com": 4, "repository=acme/a/b": 4} {
		command := exec.Command(filepath.Join(d.bin, "argusd"), "dev", "ci-token", "--claim", claim)
		command.Env = append(os.Environ(), "ARGUS_DEV_DIR="+d.dir)
		token, err := command.Output()
		if err != nil {
			t.Fatal(err)
		}
		d.argusctl(strings.TrimSpace(string(token)), code, "whoami")
	}
}
