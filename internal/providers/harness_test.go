// Package providers tries sign-in against OpenID providers that are not ours: the certified one of zitadel/oidc, and one
// of ory/fosite, which Ory Hydra is made of. It is a module of its own, so that ARGUS depends on neither.
package providers

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/useargus/argus"
	"github.com/useargus/argus/api/credential"
)

const clientID = "argus"

// serve starts a provider at an address that it must know beforehand, its issuer.
func serve(t *testing.T, provider func(issuer string) http.Handler) (issuer string) {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	issuer = "http://" + listener.Addr().String()
	server := &httptest.Server{Listener: listener, Config: &http.Server{Handler: provider(issuer)}}
	server.Start()
	t.Cleanup(server.Close)
	return issuer
}

// desk is argusctl in front of a server that judges tokens as the API does, by one issuer of an identity file. The server
// takes each token once, so that argusctl must renew it for a second call.
type desk struct {
	t        *testing.T
	argusctl string
	environ  []string
	url      string
	issuer   credential.Issuer
	probe    credential.Probe

	mu       sync.Mutex
	tokens   []string // that were taken
	actor    argus.Actor
	rejected error // why the last token was not taken
}

func newDesk(t *testing.T, identityFile string) *desk {
	t.Helper()
	issuers, err := credential.ReadIssuers("identity.yaml", []byte(identityFile))
	if err != nil {
		t.Fatal(err)
	}
	d := &desk{t: t, argusctl: filepath.Join(t.TempDir(), "argusctl"), issuer: issuers[0],
		environ: append(os.Environ(), "ARGUS_CONFIG_DIR="+t.TempDir(), "ARGUS_KEYRING=off", "ARGUS_TOKEN=", "ARGUS_URL=")}
	if d.probe, _, err = credential.Ask(t.Context(), d.issuer); err != nil || d.probe.Keys == 0 {
		t.Fatalf("%+v %v", d.probe, err)
	}
	build := exec.Command("go", "build", "-o", d.argusctl, "./argusctl")
	build.Dir = "../.."
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	api := httptest.NewServer(http.HandlerFunc(d.answer))
	t.Cleanup(api.Close)
	d.url = api.URL
	return d
}

func (d *desk) answer(w http.ResponseWriter, r *http.Request) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if r.URL.Path == "/console-config.json" {
		kind := "access_token"
		if d.issuer.UsesIDToken() {
			kind = "id_token"
		}
		_ = json.NewEncoder(w).Encode(map[string]any{"issuers": []any{map[string]any{"name": d.issuer.Name, "issuer": d.issuer.Issuer,
			"client_id": d.issuer.SignIn.ClientID, "scopes": d.issuer.SignIn.Scopes, "token": kind}}})
		return
	}
	token, _ := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer ")
	e, err := credential.Explain(r.Context(), credential.ClerkConfig{}, []credential.Issuer{d.issuer}, token)
	if err != nil || len(d.tokens) > 0 && d.tokens[len(d.tokens)-1] == token {
		d.rejected = err
		w.WriteHeader(http.StatusUnauthorized)
		fmt.Fprintf(w, `{"error":{"code":"unauthenticated","message":%q}}`, fmt.Sprint(err))
		return
	}
	d.tokens, d.actor, d.rejected = append(d.tokens, token), e.Actor, nil
	_ = json.NewEncoder(w).Encode(map[string]any{"actor_id": e.Actor.ID, "actor_kind": e.Actor.Kind, "name": e.Actor.Name, "scopes": e.Actor.Scopes,
		"expires_at": time.Now().Add(time.Minute).UTC().Format(time.RFC3339)})
}

// taken are the tokens that the server has taken, whose the last one is, and why the last call was rejected.
func (d *desk) taken() ([]string, argus.Actor, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.tokens, d.actor, d.rejected
}

// try runs argusctl. play gets each line of its standard error until it says that it did its part.
func (d *desk) try(play func(line string) bool, args ...string) (string, error) {
	d.t.Helper()
	command := exec.CommandContext(d.t.Context(), d.argusctl, args...)
	command.Env = d.environ
	var out strings.Builder
	command.Stdout = &out
	errOut, err := command.StderrPipe()
	if err == nil {
		err = command.Start()
	}
	if err != nil {
		d.t.Fatal(err)
	}
	var said strings.Builder // out is written by another goroutine until the command has ended
	played := play == nil
	for lines := bufio.NewScanner(errOut); lines.Scan(); {
		fmt.Fprintln(&said, lines.Text())
		played = played || play(lines.Text())
	}
	err = command.Wait()
	if !played {
		d.t.Fatalf("argusctl %v never asked: %v\n%s%s", args, err, out.String(), said.String())
	}
	return out.String() + said.String(), err
}

// run runs argusctl, which must succeed.
func (d *desk) run(play func(line string) bool, args ...string) string {
	d.t.Helper()
	said, err := d.try(play, args...)
	if err != nil {
		d.t.Fatalf("argusctl %v: %v\n%s", args, err, said)
	}
	return said
}

// signInOnce signs in by browser, calls once more with a renewed token, and returns the actor of that call.
func (d *desk) signInOnce(byBrowser func(line string) bool) argus.Actor {
	d.t.Helper()
	before, _, _ := d.taken()
	whose := "as Test User (" + d.issuer.Name + ":"
	if said := d.run(byBrowser, "login", "--url", d.url, "--issuer", d.issuer.Issuer, "--no-browser"); !strings.Contains(said, whose) {
		d.t.Errorf("login says %s", said)
	}
	// The server has seen that token and wants another: it is renewed.
	said := d.run(nil, "whoami")
	tokens, actor, _ := d.taken()
	n := len(before)
	if !strings.Contains(said, d.issuer.Name+":") || len(tokens) != n+2 || tokens[n] == tokens[n+1] {
		d.t.Errorf("whoami says %s, after %d tokens", said, len(tokens)-n)
	}
	return actor
}

// signOut ends the sign-in, at the issuer too.
func (d *desk) signOut() {
	d.t.Helper()
	if said := d.run(nil, "logout"); !strings.Contains(said, "ended its sign-in at "+d.issuer.Name) {
		d.t.Errorf("logout says %s", said)
	}
}

// read is what a browser shows.
func read(t *testing.T, resp *http.Response, err error) (string, *url.URL) {
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
