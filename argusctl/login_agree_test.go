package main

import (
	"bytes"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/creack/pty"
)

// TestLoginAsksWhere: the server names the issuer and gets the token, so a person agrees to both, once. Another issuer or
// client of that server is rejected until it is named by its address. A name proves nothing: the server chose it.
func TestLoginAsksWhere(t *testing.T) {
	s := newSignInServer(t, time.Hour)
	env := map[string]string{"ARGUS_CONFIG_DIR": t.TempDir(), "ARGUS_KEYRING": "off"}
	signIn := func(args ...string) {
		t.Helper()
		login := start(t, env, append([]string{"login", "--url", s.URL, "--device"}, args...)...)
		code := login.says(`Open (\S+/activate) and enter the code (\S+) to`)
		post(t, code[1], url.Values{"user_code": {code[2]}, "person": {"00u1"}})
		login.ends(0)
	}
	rejected := func(what, want string, args ...string) {
		t.Helper()
		before := s.issuer.Asked("/device") + s.issuer.Asked("/authorize")
		code, _, said := runArgusctl(t, env, append([]string{"login", "--url", s.URL}, args...)...)
		if code != 2 || !strings.Contains(said, want) || s.issuer.Asked("/device")+s.issuer.Asked("/authorize") != before {
			t.Errorf("%s: exit %d, %s", what, code, said)
		}
	}
	rejected("no person to ask", "receives the token", "--device")
	rejected("by its name", "--issuer "+s.config.URL, "--issuer", "second", "--device")
	rejected("another address", "knows no issuer", "--issuer", s.config.URL+"2", "--device")

	// A person says no, then yes.
	asked := func(answer string) (code int, said string) {
		master, slave, err := pty.Open()
		if err != nil {
			t.Fatal(err)
		}
		defer master.Close()
		done := make(chan int, 1)
		go func() {
			done <- run([]string{"login", "--url", s.URL, "--device"}, slave, slave, slave, func(name string) string { return env[name] })
			slave.Close()
		}()
		var heard bytes.Buffer
		part := make([]byte, 4096)
		for typed, played := false, false; ; {
			n, err := master.Read(part)
			heard.Write(part[:n])
			if !typed && strings.Contains(heard.String(), "Type yes: ") {
				typed = true
				_, _ = master.WriteString(answer + "\n")
			}
			if _, rest, ok := strings.Cut(heard.String(), "enter the code "); ok && !played && len(rest) > 12 {
				played = true
				post(t, s.config.URL+"/activate", url.Values{"user_code": {strings.Fields(rest)[0]}, "person": {"00u1"}})
			}
			if err != nil {
				break
			}
		}
		return <-done, heard.String()
	}
	if code, said := asked("no"); code != 1 || s.issuer.Asked("/device") != 0 || !strings.Contains(said, "client cli") || !strings.Contains(said, s.config.URL) {
		t.Errorf("a no: exit %d, %s", code, said)
	}
	if code, said := asked("yes"); code != 0 || !strings.Contains(said, "as Imani Osei") {
		t.Errorf("a yes: exit %d, %s", code, said)
	}
	signIn() // not asked again
	if code, _, said := runArgusctl(t, env, "logout"); code != 0 {
		t.Fatal(said)
	}
	signIn("--issuer", "second")

	// The server turns to another client, then to another issuer under the same name and even under the old address as a name.
	s.mu.Lock()
	s.client = "other"
	s.mu.Unlock()
	rejected("another client", "now sends you to "+s.config.URL+" (client other). You agreed to "+s.config.URL+" (client cli)", "--device")
	hostile := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/console-config.json" {
			t.Errorf("%s was asked", r.URL)
		}
		_ = json.NewEncoder(w).Encode(map[string]any{"issuers": []any{map[string]any{"name": s.config.URL, "issuer": "http://127.0.0.1:1", "client_id": "cli",
			"scopes": []string{"openid"}, "token": "access_token"}}})
	}))
	defer hostile.Close()
	for _, args := range [][]string{{"--device"}, {"--issuer", s.config.URL}} {
		if code, _, said := runArgusctl(t, env, append([]string{"login", "--url", hostile.URL}, args...)...); code != 2 {
			t.Errorf("%v at a hostile server: exit %d, %s", args, code, said)
		}
	}
}

// TestLoginWithClerk: argusctl says what a person whose people sign in with Clerk does instead.
func TestLoginWithClerk(t *testing.T) {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_ = json.NewEncoder(w).Encode(map[string]any{"auth": "clerk", "issuers": []any{}})
	}))
	defer server.Close()
	env := map[string]string{"ARGUS_CONFIG_DIR": t.TempDir(), "ARGUS_KEYRING": "off"}
	if code, _, said := runArgusctl(t, env, "login", "--url", server.URL, "--device"); code != 2 || !strings.Contains(said, "Make a token in its console") {
		t.Errorf("exit %d: %s", code, said)
	}
}

// TestRenewalOfAnotherPerson: a renewal that brings another person's token, or another issuer's, is not used and not kept.
func TestRenewalOfAnotherPerson(t *testing.T) {
	for name, subject := range map[string]string{"access token": "access_token", "ID token": "id_token"} {
		t.Run(name, func(t *testing.T) {
			s := newSignInServer(t, time.Hour)
			env := map[string]string{"ARGUS_CONFIG_DIR": t.TempDir(), "ARGUS_KEYRING": "off"}
			login := start(t, env, "login", "--url", s.URL, "--device", "--issuer", s.config.URL)
			code := login.says(`Open (\S+/activate) and enter the code (\S+) to`)
			post(t, code[1], url.Values{"user_code": {code[2]}, "person": {"00u1"}})
			login.ends(0)
			s.reject(s.tokens()[0])
			sent := len(s.tokens())
			s.issuer.Hook(func(w http.ResponseWriter, r *http.Request) {
				given := httptest.NewRecorder()
				s.issuer.Serve(given, r)
				var tokens map[string]any
				_ = json.Unmarshal(given.Body.Bytes(), &tokens)
				claims := s.issuer.Claims("00u2")
				claims["aud"] = "cli"
				tokens[subject] = s.issuer.Sign(nil, claims)
				w.Header().Set("Content-Type", "application/json")
				_ = json.NewEncoder(w).Encode(tokens)
			})
			kept, _ := os.ReadFile(env["ARGUS_CONFIG_DIR"] + "/tokens.json")
			exit, _, said := runArgusctl(t, env, "whoami")
			for _, token := range s.tokens()[sent:] {
				if token != s.tokens()[0] {
					t.Error("another token was sent")
				}
			}
			if after, _ := os.ReadFile(env["ARGUS_CONFIG_DIR"] + "/tokens.json"); exit != 4 || !strings.Contains(said, "another person's token") || !bytes.Equal(kept, after) {
				t.Errorf("exit %d: %s", exit, said)
			}
		})
	}
}
