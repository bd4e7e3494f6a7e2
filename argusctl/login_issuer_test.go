package main

import (
	"cmp"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/useargus/argus/internal/localissuer"
)

// signInServer is an ops API that takes the tokens of one issuer, and says where to sign in.
type signInServer struct {
	*httptest.Server
	issuer *localissuer.OpenID
	config localissuer.OpenIDConfig

	mu       sync.Mutex
	client   string          // that the server names; "" for the issuer's own
	took     []string        // the tokens that came
	rejected map[string]bool // tokens that are answered 401
}

func newSignInServer(t *testing.T, lifetime time.Duration) *signInServer {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := &signInServer{rejected: map[string]bool{}}
	s.config = localissuer.OpenIDConfig{URL: "http://" + listener.Addr().String() + "/people", Audience: "argus", Lifetime: lifetime,
		ClientID: "cli", Redirects: []string{"http://127.0.0.1/callback"}, Job: map[string]any{"repository": "acme/fleet"},
		People: []localissuer.Identity{{Subject: "00u1", Name: "Imani Osei", Groups: []string{"sre"}}}}
	if s.issuer, err = localissuer.NewOpenID(s.config); err != nil {
		t.Fatal(err)
	}
	issuer := &httptest.Server{Listener: listener, Config: &http.Server{Handler: s.issuer}}
	issuer.Start()
	t.Cleanup(issuer.Close)
	s.Server = httptest.NewServer(http.HandlerFunc(s.serve))
	t.Cleanup(s.Close)
	return s
}

func (s *signInServer) serve(w http.ResponseWriter, r *http.Request) {
	if r.URL.Path == "/console-config.json" {
		s.mu.Lock()
		client := cmp.Or(s.client, "cli")
		s.mu.Unlock()
		_ = json.NewEncoder(w).Encode(map[string]any{"issuers": []any{map[string]any{"name": "second", "issuer": s.config.URL, "client_id": client,
			"scopes": []string{"openid"}, "token": "access_token"}}})
		return
	}
	token, _ := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer ")
	s.mu.Lock()
	s.took = append(s.took, token)
	bad := s.rejected[token] || !time.Now().Before(expiryOf(token))
	n := len(s.took)
	s.mu.Unlock()
	if bad {
		fail(w, 401, "unauthenticated", "The credential has expired.", "")
		return
	}
	switch r.URL.Path {
	case "/v1/operators/me":
		fmt.Fprintf(w, `{"actor_id":"second:00u1","actor_kind":"oidc_session","name":"Imani Osei","expires_at":%q,"scopes":["logs:read"]}`,
			expiryOf(token).UTC().Format(time.RFC3339))
	case "/v1/audit-log":
		fmt.Fprint(w, `{"rows":[],"next_cursor":null,"snapshot":"place-0"}`)
	case "/v1/audit-log/stream":
		w.Header().Set("Content-Type", "text/event-stream")
		fmt.Fprintf(w, "id: place-%d\nevent: ping\ndata: {}\n\n", n)
		if n < 4 { // the token ends while it is followed
			s.reject(token)
			fmt.Fprint(w, "event: denied\ndata: {\"error\":{\"code\":\"unauthenticated\",\"message\":\"The credential has expired.\"}}\n\n")
			return
		}
		fmt.Fprintf(w, "event: denied\ndata: {\"error\":{\"code\":\"insufficient_scope\",\"message\":\"resumed at %s\"}}\n\n", r.Header.Get("Last-Event-ID"))
	}
}

func (s *signInServer) reject(token string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.rejected[token] = true
}

func (s *signInServer) tokens() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]string(nil), s.took...)
}

// started is an argusctl that runs while the test plays the browser.
type started struct {
	t       *testing.T
	errFile string
	done    chan int
}

func start(t *testing.T, env map[string]string, args ...string) *started {
	t.Helper()
	dir := t.TempDir()
	file := func(name string) *os.File {
		f, err := os.OpenFile(filepath.Join(dir, name), os.O_CREATE|os.O_RDWR, 0o600)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { f.Close() })
		return f
	}
	in, out, errOut := file("in"), file("out"), file("err")
	s := &started{t: t, errFile: errOut.Name(), done: make(chan int, 1)}
	go func() { s.done <- run(args, in, out, errOut, func(name string) string { return env[name] }) }()
	return s
}

// says waits until standard error matches.
func (s *started) says(pattern string) []string {
	s.t.Helper()
	for deadline := time.Now().Add(time.Minute); time.Now().Before(deadline); time.Sleep(5 * time.Millisecond) {
		data, _ := os.ReadFile(s.errFile)
		if m := regexp.MustCompile(pattern).FindStringSubmatch(string(data)); m != nil {
			return m
		}
	}
	data, _ := os.ReadFile(s.errFile)
	s.t.Fatalf("argusctl does not say %s but %q", pattern, data)
	return nil
}

func (s *started) ends(code int) {
	s.t.Helper()
	select {
	case got := <-s.done:
		if got != code {
			data, _ := os.ReadFile(s.errFile)
			s.t.Fatalf("exit %d, want %d: %s", got, code, data)
		}
	case <-time.After(time.Minute):
		s.t.Fatal("argusctl does not end")
	}
}

// post sends an issuer's form and returns the answer, a redirect not followed.
func post(t *testing.T, address string, form url.Values) (status int, location, body string) {
	t.Helper()
	client := http.Client{CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	resp, err := client.PostForm(address, form)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	data, _ := io.ReadAll(resp.Body)
	return resp.StatusCode, resp.Header.Get("Location"), string(data)
}

func get(t *testing.T, address string) (int, string) {
	t.Helper()
	resp, err := http.Get(address)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	data, _ := io.ReadAll(resp.Body)
	return resp.StatusCode, string(data)
}

// TestLoginByBrowser: code with PKCE over a loopback redirect. What does not carry the sign-in's state is not taken.
func TestLoginByBrowser(t *testing.T) {
	s := newSignInServer(t, time.Hour)
	env := map[string]string{"ARGUS_CONFIG_DIR": t.TempDir(), "ARGUS_KEYRING": "off"}
	login := start(t, env, "login", "--url", s.URL, "--issuer", s.config.URL, "--no-browser")
	address := login.says(`(?m)^(http://127\.0\.0\.1\S+/authorize\S+)$`)[1]
	u, _ := url.Parse(address)
	query := u.Query()
	if query.Get("code_challenge_method") != "S256" || len(query.Get("state")) < 26 || len(query.Get("nonce")) < 26 || query.Get("client_id") != "cli" {
		t.Errorf("the request is %v", query)
	}
	back := query.Get("redirect_uri")
	for name, bad := range map[string]string{"another state": "?code=x&state=y", "no state": "?code=x", "nothing": "?state=" + query.Get("state"),
		"another issuer": "?code=x&state=" + query.Get("state") + "&iss=https://evil.example.com"} {
		if status, _ := get(t, back+bad); status != 400 {
			t.Errorf("%s: %d", name, status)
		}
	}
	if req, _ := http.NewRequest("GET", back+"?code=x&state="+query.Get("state"), nil); req != nil {
		req.Host = "evil.example.com" // a name that was pointed at loopback
		if resp, err := http.DefaultClient.Do(req); err != nil || resp.StatusCode != 400 {
			t.Errorf("another host: %v %v", resp, err)
		} else {
			resp.Body.Close()
		}
	}
	query.Set("person", "00u1")
	status, location, _ := post(t, s.config.URL+"/authorize", query)
	if status != 303 {
		t.Fatalf("the issuer answers %d", status)
	}
	if status, text := get(t, location); status != 200 || !strings.Contains(text, "You are signed in") {
		t.Errorf("the browser sees %d %s", status, text)
	}
	login.ends(0)
	login.says(`Signed in to .* as Imani Osei \(second:00u1\)`)

	code, out, _ := runArgusctl(t, env, "whoami")
	if code != 0 || !strings.Contains(out, "oidc_session") || !strings.Contains(out, "expires") || !strings.Contains(out, "profile default") {
		t.Errorf("whoami: %d %s", code, out)
	}
	// The secret is in tokens.json alone.
	data, _ := os.ReadFile(filepath.Join(env["ARGUS_CONFIG_DIR"], "profiles.json"))
	if strings.Contains(string(data), "eyJ") || !strings.Contains(string(data), s.config.URL) {
		t.Errorf("profiles.json holds %s", data)
	}
	if code, _, said := runArgusctl(t, env, "logout"); code != 0 || !strings.Contains(said, "ended its sign-in at second") || s.issuer.Asked("/revoke") != 1 {
		t.Errorf("logout: %d %s", code, said)
	}
	if code, _, _ := runArgusctl(t, env, "whoami"); code != 4 {
		t.Errorf("whoami after logout: %d", code)
	}

	// A person who says no.
	login = start(t, env, "login", "--url", s.URL, "--issuer", s.config.URL, "--no-browser")
	u, _ = url.Parse(login.says(`(?m)^(http://127\.0\.0\.1\S+/authorize\S+)$`)[1])
	if status, _ := get(t, u.Query().Get("redirect_uri")+"?error=access_denied&state="+u.Query().Get("state")); status != 200 {
		t.Errorf("a no is answered %d", status)
	}
	login.ends(1)
	login.says("issuer second did not sign you in: access_denied")
	for _, args := range [][]string{{"--issuer", "third"}, {"--issuer", "second", "--token-file", "x"}} {
		if code, _, _ := runArgusctl(t, env, append([]string{"login", "--url", s.URL}, args...)...); code != 2 {
			t.Errorf("%v: %d", args, code)
		}
	}
}

// TestLoginByDevice: the code is entered elsewhere. The token is renewed by itself, by one argusctl at a time, since a
// refresh token that comes twice ends the sign-in.
func TestLoginByDevice(t *testing.T) {
	s := newSignInServer(t, time.Hour)
	env := map[string]string{"ARGUS_CONFIG_DIR": t.TempDir(), "ARGUS_KEYRING": "off"}
	login := start(t, env, "login", "--profile", "p", "--url", s.URL, "--device", "--issuer", s.config.URL)
	code := login.says(`Open (\S+/activate) and enter the code (\S+) to`)
	if status, _, body := post(t, code[1], url.Values{"user_code": {"AAAA-AAAA"}, "person": {"00u1"}}); status != 400 {
		t.Errorf("another code: %d %s", status, body)
	}
	if status, _, body := post(t, code[1], url.Values{"user_code": {code[2]}, "person": {"00u1"}}); status != 200 {
		t.Fatalf("the code: %d %s", status, body)
	}
	login.ends(0)
	first := s.tokens()[0]

	// The token ends: many argusctl at once, each works, and the issuer was asked once.
	s.reject(first)
	before := s.issuer.Asked("/token")
	var all sync.WaitGroup
	for range 8 {
		all.Go(func() {
			if code, _, said := runArgusctl(t, env, "whoami"); code != 0 {
				t.Errorf("whoami: %d %s", code, said)
			}
		})
	}
	all.Wait()
	if n := s.issuer.Asked("/token") - before; n != 1 {
		t.Errorf("the issuer was asked %d times for a new token", n)
	}
	// Followed beyond the token's end, twice, from the place it got to.
	s.mu.Lock()
	s.took = nil
	s.mu.Unlock()
	if code, _, said := runArgusctl(t, env, "logs", "tail", "--follow"); code != 5 || !strings.Contains(said, "resumed at place-3") {
		t.Errorf("follow: %d %s", code, said)
	}
	tokens := s.tokens()
	if len(tokens) != 4 || tokens[1] == tokens[2] || tokens[2] == tokens[3] {
		t.Errorf("%d tokens were sent, want new ones", len(tokens))
	}
	// It gives a token that is near its end, and is away for a moment: a token that is still good goes on.
	s.reject(tokens[3])
	s.issuer.Hook(func(w http.ResponseWriter, r *http.Request) {
		given := httptest.NewRecorder()
		s.issuer.Serve(given, r)
		var tokens map[string]any
		_ = json.Unmarshal(given.Body.Bytes(), &tokens)
		claims := s.issuer.Claims("00u1")
		claims["exp"] = time.Now().Add(renewBefore - time.Second).Unix()
		tokens["access_token"] = s.issuer.Sign(nil, claims)
		w.Header().Set("Content-Type", "application/json")
		_ = json.NewEncoder(w).Encode(tokens)
	})
	if code, _, said := runArgusctl(t, env, "whoami"); code != 0 {
		t.Errorf("near its end: %d %s", code, said)
	}
	var away atomic.Int64
	s.issuer.Hook(func(w http.ResponseWriter, _ *http.Request) { away.Add(1); w.WriteHeader(503) })
	if code, _, said := runArgusctl(t, env, "whoami"); code != 0 || away.Load() == 0 {
		t.Errorf("away, and asked %d times: %d %s", away.Load(), code, said)
	}
	// The issuer ends the sign-in: argusctl says so, and how to go on.
	for _, token := range s.tokens() {
		s.reject(token)
	}
	s.issuer.Hook(func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(400)
		fmt.Fprint(w, `{"error":"invalid_grant"}`)
	})
	if code, _, said := runArgusctl(t, env, "whoami"); code != 4 || !strings.Contains(said, "argusctl login") {
		t.Errorf("ended: %d %s", code, said)
	}
}

// TestLogoutWhileRenewing: a renewal that is under way brings back no profile that was signed out of, and what it got is
// revoked.
func TestLogoutWhileRenewing(t *testing.T) {
	s := newSignInServer(t, time.Hour)
	env := map[string]string{"ARGUS_CONFIG_DIR": t.TempDir(), "ARGUS_KEYRING": "off"}
	login := start(t, env, "login", "--url", s.URL, "--device", "--issuer", s.config.URL)
	code := login.says(`Open (\S+/activate) and enter the code (\S+) to`)
	post(t, code[1], url.Values{"user_code": {code[2]}, "person": {"00u1"}})
	login.ends(0)
	s.reject(s.tokens()[0])

	asked, release := make(chan struct{}), make(chan struct{})
	s.issuer.Hook(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/people/token" {
			s.issuer.Serve(w, r)
			return
		}
		given := httptest.NewRecorder()
		s.issuer.Serve(given, r)
		close(asked)
		<-release
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(given.Code)
		_, _ = w.Write(given.Body.Bytes())
	})
	renewing := start(t, env, "whoami")
	<-asked
	logout := start(t, env, "logout")
	select {
	case <-logout.done: // without waiting for the renewal: what that brings must not stay
		logout.done <- 0
	case <-time.After(500 * time.Millisecond):
	}
	close(release)
	<-renewing.done
	logout.ends(0)
	s.issuer.Hook(nil)
	for _, name := range []string{"profiles.json", "tokens.json"} {
		if data, _ := os.ReadFile(filepath.Join(env["ARGUS_CONFIG_DIR"], name)); strings.Contains(string(data), "default") {
			t.Errorf("after logout %s holds %s", name, data)
		}
	}
}

// TestJobTokens: argusctl finds the token of the job it runs in, in the order that docs/identity.md tells. It sends the token
// only to the server that it is for.
func TestJobTokens(t *testing.T) {
	s := newSignInServer(t, time.Hour)
	dir := t.TempDir()
	mint := s.config.URL + "/mint?x=1"
	audience := func(aud any) func(localissuer.Claims) {
		return func(c localissuer.Claims) { c["aud"] = aud }
	}
	gitlab := s.issuer.Token("job", audience(s.URL))
	file := filepath.Join(dir, "token")
	write := func(token string) {
		if err := os.WriteFile(file, []byte(token+"\n"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	inFile := s.issuer.Token("file", audience("argus"))
	write(inFile)
	env := func(pairs ...string) map[string]string {
		e := map[string]string{"ARGUS_CONFIG_DIR": filepath.Join(dir, "none"), "ARGUS_KEYRING": "off", "ARGUS_URL": s.URL}
		for i := 0; i < len(pairs); i += 2 {
			e[pairs[i]] = pairs[i+1]
		}
		return e
	}
	whoami := func(what string, want int, e map[string]string) string {
		t.Helper()
		s.mu.Lock()
		s.took = nil
		s.mu.Unlock()
		code, out, said := runArgusctl(t, e, "whoami")
		sent := s.tokens()
		if code != want || (len(sent) > 0) != (want == 0) {
			t.Errorf("%s: exit %d, %d tokens sent\n%s%s", what, code, len(sent), out, said)
			return ""
		}
		if want != 0 {
			return said
		}
		return sent[len(sent)-1]
	}
	github := []string{"ACTIONS_ID_TOKEN_REQUEST_URL", mint, "ACTIONS_ID_TOKEN_REQUEST_TOKEN", "x"}
	if c, _ := claimsOf(whoami("GitHub Actions", 0, env(github...))); len(c.audience) != 1 || c.audience[0] != s.URL {
		t.Errorf("the job asked for a token for %v", c.audience)
	}
	if c, _ := claimsOf(whoami("another audience", 0, env(append(github, "ARGUS_AUDIENCE", "argus")...))); len(c.audience) != 1 || c.audience[0] != "argus" {
		t.Errorf("the job asked for a token for %v", c.audience)
	}
	if got := whoami("GitLab CI", 0, env("ARGUS_ID_TOKEN", gitlab)); got != gitlab {
		t.Error("GitLab's token was not sent")
	}
	if got := whoami("GitHub before GitLab", 0, env(append(github, "ARGUS_ID_TOKEN", gitlab)...)); got == gitlab {
		t.Error("GitLab's token was sent")
	}
	if got := whoami("a file", 0, env(append(github, "ARGUS_TOKEN_FILE", file)...)); got != inFile {
		t.Error("the file's token was not sent")
	}
	if got := whoami("ARGUS_TOKEN", 0, env(append(github, "ARGUS_TOKEN_FILE", file, "ARGUS_TOKEN", gitlab)...)); got != gitlab {
		t.Error("ARGUS_TOKEN was not sent")
	}
	for what, e := range map[string]map[string]string{
		"GitLab's token for another server":   env("ARGUS_ID_TOKEN", s.issuer.Token("job", audience("https://other.example.com"))),
		"a job's token that is no JWT":        env("ARGUS_ID_TOKEN", "secret"),
		"a file's token for another audience": env("ARGUS_TOKEN_FILE", file, "ARGUS_AUDIENCE", "https://other.example.com"),
		"GitHub's address over plain http":    env("ACTIONS_ID_TOKEN_REQUEST_URL", "http://example.com/", "ACTIONS_ID_TOKEN_REQUEST_TOKEN", "x"),
	} {
		if said := whoami(what, 2, e); strings.Contains(said, "eyJ") {
			t.Errorf("%s: a token is told: %s", what, said)
		}
	}
	write(s.issuer.Token("pod", audience(s.config.URL))) // Kubernetes's own: for its API server
	whoami("a token for its own issuer", 2, env("ARGUS_TOKEN_FILE", file))
	write("")
	whoami("an empty file", 4, env("ARGUS_TOKEN_FILE", file))
	whoami("no file", 1, env("ARGUS_TOKEN_FILE", filepath.Join(dir, "absent")))
	whoami("nothing", 4, env())

	// A token that was replaced is taken while argusctl runs.
	ended := s.issuer.Token("old", audience("argus"))
	s.reject(ended)
	write(ended)
	source := tokenFile{file, "ARGUS_TOKEN_FILE", ""}
	if got, err := source.token(t.Context(), ""); err != nil || got != ended {
		t.Errorf("%v", err)
	}
	write(inFile)
	if got, err := source.token(t.Context(), ended); err != nil || got != inFile {
		t.Errorf("the file is not read anew: %v", err)
	}
}
