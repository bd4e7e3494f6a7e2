// Package providers tries sign-in against an OpenID provider that is not ours: the certified one of zitadel/oidc, with the
// storage of its example. It is a module of its own, so that ARGUS does not depend on it.
package providers

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/cookiejar"
	"net/http/httptest"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/zitadel/oidc/v3/example/server/exampleop"
	"github.com/zitadel/oidc/v3/example/server/storage"
	"github.com/zitadel/oidc/v3/pkg/oidc"
	"github.com/zitadel/oidc/v3/pkg/op"

	"github.com/useargus/argus"
	"github.com/useargus/argus/api/credential"
)

const clientID = "argus"

// publicClient is a client without a secret that may use the device grant too.
type publicClient struct{ op.Client }

func (publicClient) GrantTypes() []oidc.GrantType {
	return []oidc.GrantType{oidc.GrantTypeCode, oidc.GrantTypeRefreshToken, oidc.GrantTypeDeviceCode}
}
func (publicClient) IDTokenUserinfoClaimsAssertion() bool { return true }

// groups is the example's storage, whose people have a group.
type groups struct{ *storage.Storage }

func (g groups) GetClientByClientID(ctx context.Context, id string) (op.Client, error) {
	c, err := g.Storage.GetClientByClientID(ctx, id)
	return publicClient{c}, err
}

func (g groups) SetUserinfoFromRequest(_ context.Context, info *oidc.UserInfo, token op.IDTokenRequest, _ []string) error {
	return fill(info, token.GetSubject())
}

func (g groups) SetUserinfoFromScopes(_ context.Context, info *oidc.UserInfo, subject, _ string, _ []string) error {
	return fill(info, subject)
}

func fill(info *oidc.UserInfo, subject string) error {
	info.Subject, info.Name, info.Email = subject, "Test User", "test-user@localhost"
	info.AppendClaims("groups", []string{"sre"})
	return nil
}

// TestZitadel signs in by browser and by device with argusctl, renews, and signs out. Each ID token is judged as the API
// judges it.
func TestZitadel(t *testing.T) {
	argusctl := filepath.Join(t.TempDir(), "argusctl")
	build := exec.Command("go", "build", "-o", argusctl, "./argusctl")
	build.Dir = "../.."
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	issuer := "http://" + listener.Addr().String()
	storage.RegisterClients(storage.NativeClient(clientID, "http://127.0.0.1/callback"))
	provider := exampleop.SetupServer(issuer, groups{storage.NewStorage(storage.NewUserStore(issuer))}, slog.New(slog.DiscardHandler), false)
	server := &httptest.Server{Listener: listener, Config: &http.Server{Handler: provider}}
	server.Start()
	t.Cleanup(server.Close)

	admin, _ := argus.PresetScopes(argus.PresetAdminFull)
	config := credential.Issuer{Name: "zitadel", Issuer: issuer, Audience: clientID, Kind: credential.People,
		Claims: credential.ClaimNames{Subject: "sub", Name: "name", Email: "email", Groups: "groups"}, Scopes: map[string][]argus.Scope{"sre": admin},
		SignIn: &credential.SignIn{ClientID: clientID}}
	probe, _, err := credential.Ask(t.Context(), config)
	if err != nil || probe.Keys == 0 || probe.Device == "" || !config.UsesIDToken() {
		t.Fatalf("%+v %v", probe, err)
	}
	var tokens []string
	api := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/console-config.json" {
			_ = json.NewEncoder(w).Encode(map[string]any{"issuers": []any{map[string]any{"name": "zitadel", "issuer": issuer, "client_id": clientID,
				"scopes": []string{"openid", "profile", "email", "offline_access"}, "token": "id_token"}}})
			return
		}
		token, _ := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer ")
		e, err := credential.Explain(r.Context(), credential.ClerkConfig{}, []credential.Issuer{config}, token)
		if err != nil || len(tokens) > 0 && tokens[len(tokens)-1] == token {
			w.WriteHeader(http.StatusUnauthorized)
			fmt.Fprintf(w, `{"error":{"code":"unauthenticated","message":%q}}`, fmt.Sprint(err))
			return
		}
		tokens = append(tokens, token)
		_ = json.NewEncoder(w).Encode(map[string]any{"actor_id": e.Actor.ID, "actor_kind": e.Actor.Kind, "name": e.Actor.Name, "scopes": e.Actor.Scopes,
			"expires_at": time.Now().Add(time.Minute).UTC().Format(time.RFC3339)})
	}))
	defer api.Close()

	environ := append(os.Environ(), "ARGUS_CONFIG_DIR="+t.TempDir(), "ARGUS_KEYRING=off", "ARGUS_TOKEN=", "ARGUS_URL=")
	run := func(play func(line string) bool, args ...string) string {
		t.Helper()
		command := exec.CommandContext(t.Context(), argusctl, args...)
		command.Env = environ
		var out strings.Builder
		command.Stdout = &out
		errOut, err := command.StderrPipe()
		if err == nil {
			err = command.Start()
		}
		if err != nil {
			t.Fatal(err)
		}
		played := play == nil
		for lines := bufio.NewScanner(errOut); lines.Scan(); {

			fmt.Fprintln(&out, lines.Text())

			played = played || play(lines.Text())
		}
		if err := command.Wait(); err != nil || !played {
			t.Fatalf("argusctl %v: %v\n%s", args, err, out.String())
		}
		return out.String()
	}
	jar, _ := cookiejar.New(nil)
	browser := &http.Client{Jar: jar}
	read := func(resp *http.Response, err error) (string, *url.URL) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		data, _ := io.ReadAll(resp.Body)
		if resp.StatusCode >= 400 {
			t.Fatalf("%s answers %d: %s", resp.Request.URL, resp.StatusCode, data)
		}
		return string(data), resp.Request.URL
	}
	byBrowser := func(line string) bool {
		if !strings.HasPrefix(line, issuer+"/auth?") {
			return false
		}
		page, at := read(browser.Get(line))
		id := at.Query().Get("authRequestID")
		if m := regexp.MustCompile(`name="id" value="([^"]+)"`).FindStringSubmatch(page); m != nil {
			id = m[1]
		}
		said, _ := read(browser.PostForm(issuer+"/login/username", url.Values{"id": {id}, "username": {"test-user@127.0.0.1"}, "password": {"verysecure"}}))
		if !strings.Contains(said, "You are signed in") {
			t.Fatalf("the browser sees %s", said)
		}
		return true
	}
	if said := run(byBrowser, "login", "--url", api.URL, "--issuer", issuer, "--no-browser"); !strings.Contains(said, "as Test User (zitadel:") {
		t.Errorf("login says %s", said)
	}
	// The server has seen that token and wants another: it is renewed.
	if said := run(nil, "whoami"); !strings.Contains(said, "zitadel:") || len(tokens) != 2 || tokens[0] == tokens[1] {
		t.Errorf("whoami says %s, after %d tokens", said, len(tokens))
	}
	if said := run(nil, "logout"); !strings.Contains(said, "ended its sign-in at zitadel") {
		t.Errorf("logout says %s", said)
	}
	byDevice := func(line string) bool {
		m := regexp.MustCompile(`^Open (\S+) and enter the code (\S+) `).FindStringSubmatch(line)
		if m == nil {
			return false
		}
		read(browser.PostForm(issuer+"/device/login", url.Values{"user_code": {m[2]}, "username": {"test-user@127.0.0.1"}, "password": {"verysecure"}}))
		said, _ := read(browser.Get(issuer + "/device/confirm?action=allowed"))
		return strings.Contains(said, "allowed")
	}
	if said := run(byDevice, "login", "--url", api.URL, "--device"); !strings.Contains(said, "as Test User (zitadel:") {
		t.Errorf("login says %s", said)
	}
}
