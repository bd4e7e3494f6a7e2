package localissuer

import (
	"crypto"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
)

const (
	base    = "http://127.0.0.1:8421"
	console = "http://127.0.0.1:8420"
)

func newIssuer(t *testing.T, dir string) *Issuer {
	t.Helper()
	i, err := New(Config{URL: base, Dir: dir, SecretKey: "sk_test_1", Organization: "org_1", Consoles: []string{console},
		Operators: []Operator{{ID: "user_a", Name: "Ada <b>Okafor", Role: "org:admin"}, {ID: "user_b", Name: "B", Banned: true, Role: "org:admin"}}})
	if err != nil {
		t.Fatal(err)
	}
	return i
}

func do(i *Issuer, method, target, body string, header ...string) *http.Response {
	r := httptest.NewRequest(method, base+target, strings.NewReader(body))
	if body != "" {
		r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	}
	for n := 0; n+1 < len(header); n += 2 {
		if header[n] == "Host" {
			r.Host = header[n+1]
		}
		r.Header.Set(header[n], header[n+1])
	}
	w := httptest.NewRecorder()
	i.ServeHTTP(w, r)
	return w.Result()
}

// claimsOf verifies a token and reads it.
func claimsOf(t *testing.T, i *Issuer, token string) map[string]any {
	t.Helper()
	parts := strings.Split(token, ".")
	signature, _ := base64.RawURLEncoding.DecodeString(parts[2])
	sum := sha256.Sum256([]byte(parts[0] + "." + parts[1]))
	if err := rsa.VerifyPKCS1v15(i.PublicKey(), crypto.SHA256, sum[:], signature); err != nil {
		t.Fatal(err)
	}
	b, _ := base64.RawURLEncoding.DecodeString(parts[1])
	var c map[string]any
	if err := json.Unmarshal(b, &c); err != nil {
		t.Fatal(err)
	}
	return c
}

// TestSignIn goes the console's way: choose, come back, renew, sign out.
func TestSignIn(t *testing.T) {
	i := newIssuer(t, "")
	back := console + "/"
	page := do(i, "GET", "/sign-in?redirect_url="+url.QueryEscape(back)+"&state=%23/settings/audit", "")
	b, err := io.ReadAll(page.Body)
	html := string(b)
	if err != nil || page.StatusCode != 200 || !strings.Contains(html, "user_a") || strings.Contains(html, "user_b") || strings.Contains(html, "<b>Okafor") {
		t.Fatalf("%d %s", page.StatusCode, html)
	}
	form := url.Values{"operator": {"user_a"}, "redirect_url": {back}, "state": {"#/settings/audit"}}.Encode()
	resp := do(i, "POST", "/sign-in", form, "Origin", base)
	to, err := url.Parse(resp.Header.Get("Location"))
	if resp.StatusCode != 303 || err != nil || to.Scheme+"://"+to.Host+to.Path != back {
		t.Fatalf("%d %q", resp.StatusCode, resp.Header.Get("Location"))
	}
	_, fragment, _ := strings.Cut(resp.Header.Get("Location"), "#")
	q, err := url.ParseQuery(fragment)
	if err != nil || q.Get("state") != "#/settings/audit" {
		t.Fatalf("%q", fragment)
	}
	c := claimsOf(t, i, q.Get("session_token"))
	if c["iss"] != base || c["sub"] != "user_a" || c["azp"] != console || c["org_id"] != "org_1" || c["org_role"] != "org:admin" || c["exp"].(float64)-c["iat"].(float64) != 60 {
		t.Errorf("%v", c)
	}
	renew := func(method, path, token, origin string) *http.Response {
		return do(i, method, path, "", "Authorization", "Bearer "+token, "Origin", origin)
	}
	resp = renew("POST", "/token", q.Get("refresh_token"), console)
	var fresh struct {
		Token     string `json:"session_token"`
		ExpiresIn int    `json:"expires_in"`
	}
	if err := json.NewDecoder(resp.Body).Decode(&fresh); err != nil || resp.StatusCode != 200 || fresh.ExpiresIn != 60 || resp.Header.Get("Access-Control-Allow-Origin") != console {
		t.Fatalf("%d %v", resp.StatusCode, err)
	}
	if again := claimsOf(t, i, fresh.Token); again["sid"] != c["sid"] || again["sub"] != "user_a" {
		t.Errorf("%v", again)
	}
	if resp := renew("OPTIONS", "/token", "", console); resp.StatusCode != 204 || resp.Header.Get("Access-Control-Allow-Headers") == "" {
		t.Errorf("preflight %d", resp.StatusCode)
	}
	for name, resp := range map[string]*http.Response{
		"another origin":          renew("POST", "/token", q.Get("refresh_token"), "http://evil.example"),
		"another origin, asking":  renew("OPTIONS", "/token", "", "http://evil.example"),
		"a session token instead": renew("POST", "/token", q.Get("session_token"), console),
		"nothing":                 renew("POST", "/token", "", console),
		"a forged one":            renew("POST", "/token", sessionOf("user_a", "x")+"."+strings.Repeat("0", 64), console),
	} {
		if resp.StatusCode != 401 && resp.StatusCode != 403 {
			t.Errorf("%s: %d", name, resp.StatusCode)
		}
	}
	if resp := renew("POST", "/sign-out", q.Get("refresh_token"), console); resp.StatusCode != 204 {
		t.Errorf("signing out: %d", resp.StatusCode)
	}
	if resp := renew("POST", "/token", q.Get("refresh_token"), console); resp.StatusCode != 401 {
		t.Errorf("after signing out: %d", resp.StatusCode)
	}
}

func TestRejections(t *testing.T) {
	i := newIssuer(t, "")
	form := func(operator, back string) string {
		return url.Values{"operator": {operator}, "redirect_url": {back}}.Encode()
	}
	for name, resp := range map[string]*http.Response{
		"another name for loopback":  do(i, "GET", "/sign-in?redirect_url="+console, "", "Host", "evil.example"),
		"localhost is another name":  do(i, "GET", "/v1/jwks", "", "Host", "localhost:8421", "Authorization", "Bearer sk_test_1"),
		"a redirect elsewhere":       do(i, "GET", "/sign-in?redirect_url=https://evil.example/", ""),
		"a redirect with a user":     do(i, "GET", "/sign-in?redirect_url=http://a@127.0.0.1:8420/", ""),
		"a redirect to a prefix":     do(i, "GET", "/sign-in?redirect_url=http://127.0.0.1:84201/", ""),
		"no redirect":                do(i, "GET", "/sign-in", ""),
		"posted elsewhere":           do(i, "POST", "/sign-in", form("user_a", "https://evil.example/")),
		"posted from another origin": do(i, "POST", "/sign-in", form("user_a", console+"/"), "Origin", "http://evil.example"),
		"unknown":                    do(i, "POST", "/sign-in", form("user_z", console+"/")),
		"banned":                     do(i, "POST", "/sign-in", form("user_b", console+"/")),
		"keys without the key":       do(i, "GET", "/v1/jwks", ""),
		"users with another key":     do(i, "GET", "/v1/users/user_a", "", "Authorization", "Bearer sk_test_2"),
		"another organization":       do(i, "GET", "/v1/organizations/org_2/memberships?user_id=user_a", "", "Authorization", "Bearer sk_test_1"),
		"nothing":                    do(i, "GET", "/", ""),
	} {
		if resp.StatusCode < 400 {
			t.Errorf("%s: %d", name, resp.StatusCode)
		}
	}
	for _, u := range []string{"http://0.0.0.0:1", "http://10.0.0.1:1", "https://127.0.0.1:1", "http://localhost:1", "http://127.0.0.1:1/x", ""} {
		if _, err := New(Config{URL: u, SecretKey: "x", Organization: "o", Consoles: []string{console}}); err == nil {
			t.Errorf("%q: taken", u)
		}
	}
}

// TestKeyStays: the key of a folder outlives the process, and no other folder has it.
func TestKeyStays(t *testing.T) {
	dir := t.TempDir()
	first, again, other := newIssuer(t, dir), newIssuer(t, dir), newIssuer(t, t.TempDir())
	if !first.PublicKey().Equal(again.PublicKey()) || first.PublicKey().Equal(other.PublicKey()) {
		t.Error("keys")
	}
	if s := first.refreshToken("sess_x"); func() bool { _, ok := again.openRefreshToken(s); return !ok }() {
		t.Error("a session does not outlive a restart")
	}
}
