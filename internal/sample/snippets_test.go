package sample

import (
	"bufio"
	"bytes"
	"crypto/ed25519"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

var update = flag.Bool("update", false, "bring the code for Go into docs/services.md")

const page = "../../docs/services.md"

// snippet is the code of a block of the page.
func snippet(t *testing.T, name string) string {
	t.Helper()
	data, err := os.ReadFile(page)
	if err != nil {
		t.Fatal(err)
	}
	_, rest, ok := strings.Cut(string(data), "<!-- snippet: "+name)
	_, rest, ok2 := strings.Cut(rest, "\n```")
	_, rest, ok3 := strings.Cut(rest, "\n")
	code, _, ok4 := strings.Cut(rest, "```\n")
	if !ok || !ok2 || !ok3 || !ok4 {
		t.Fatalf("%s has no snippet %s", page, name)
	}
	return code
}

// TestPageShowsTheCode: the page's code for Go is the file that the sample runs.
func TestPageShowsTheCode(t *testing.T) {
	code, err := os.ReadFile("assertion.go")
	if err != nil {
		t.Fatal(err)
	}
	shown := snippet(t, "assertion.go")
	if shown == string(code) {
		return
	}
	if !*update {
		t.Fatal("the code for Go is not that of assertion.go: go test ./internal/sample -update")
	}
	data, _ := os.ReadFile(page)
	const mark = "<!-- snippet: assertion.go, which is internal/sample/assertion.go -->\n```go\n"
	before, after, _ := strings.Cut(string(data), mark)
	if err := os.WriteFile(page, []byte(before+mark+string(code)+strings.TrimPrefix(after, shown)), 0o644); err != nil {
		t.Fatal(err)
	}
}

// argus signs assertions as ARGUS does.
type argus struct {
	server *httptest.Server
	keys   []ed25519.PrivateKey
}

func newArgus(t *testing.T) *argus {
	a := &argus{}
	var set []map[string]string
	for i := range 2 { // while keys are rotated
		key := ed25519.NewKeyFromSeed(bytes.Repeat([]byte{byte(i + 1)}, 32))
		a.keys = append(a.keys, key)
		set = append(set, map[string]string{"kty": "OKP", "crv": "Ed25519", "kid": fmt.Sprint("key-", i), "use": "sig", "alg": "EdDSA",
			"x": base64.RawURLEncoding.EncodeToString(key.Public().(ed25519.PublicKey))})
	}
	set = append(set, map[string]string{"kty": "EC", "crv": "P-256", "kid": "another", "x": "AA", "y": "AA"})
	a.server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/.well-known/jwks.json" {
			w.WriteHeader(404)
			return
		}
		json.NewEncoder(w).Encode(map[string]any{"keys": set})
	}))
	t.Cleanup(a.server.Close)
	return a
}

type attempt struct {
	method, path, body string
	head               map[string]any
	claims             map[string]any
	key                ed25519.PrivateKey
}

func (a *attempt) token() string {
	part := func(v any) string {
		data, _ := json.Marshal(v)
		return base64.RawURLEncoding.EncodeToString(data)
	}
	signed := part(a.head) + "." + part(a.claims)
	if a.head["alg"] == "HS256" { // with the public key as the secret
		mac := hmac.New(sha256.New, a.key.Public().(ed25519.PublicKey))
		mac.Write([]byte(signed))
		return signed + "." + base64.RawURLEncoding.EncodeToString(mac.Sum(nil))
	}
	return signed + "." + base64.RawURLEncoding.EncodeToString(ed25519.Sign(a.key, []byte(signed)))
}

// TestChecks runs the page's code in each language as a server, and sends it good calls and others.
func TestChecks(t *testing.T) {
	a := newArgus(t)
	dir := t.TempDir()
	write := func(name, text string) string {
		file := filepath.Join(dir, name)
		if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
		return file
	}
	write("argus_assertion.py", snippet(t, "argus_assertion.py"))
	write("assertion.mjs", snippet(t, "assertion.mjs"))
	write("assertion.go", strings.Replace(snippet(t, "assertion.go"), "package sample", "package main", 1))
	write("go.mod", "module service\n\ngo 1.26\n")
	goMain := write("main.go", `package main

import ("encoding/json"; "fmt"; "io"; "net"; "net/http"; "os")

func main() {
	l, _ := net.Listen("tcp", "127.0.0.1:0")
	v := &Verifier{Issuer: os.Getenv("ISSUER"), Audience: "hello", Upstream: "http://" + l.Addr().String()}
	fmt.Println("hello on", l.Addr().(*net.TCPAddr).Port)
	http.Serve(l, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		c, err := v.Verify(r, body)
		if err != nil {
			http.Error(w, err.Error(), 401)
			return
		}
		json.NewEncoder(w).Encode(map[string]string{"you_are": c.Sub})
	}))
}
`)
	_ = goMain
	node := write("main.mjs", `import http from 'node:http';
import { Verifier } from './assertion.mjs';
const server = http.createServer(async (request, response) => {
  const parts = [];
  for await (const part of request) parts.push(part);
  try {
    const claims = await verifier.verify(request.headers['argus-assertion'], request.method, request.url, Buffer.concat(parts));
    response.end(JSON.stringify({ you_are: claims.sub }));
  } catch (no) {
    response.writeHead(401).end(String(no));
  }
});
let verifier;
server.listen(0, '127.0.0.1', () => {
  const { port } = server.address();
  verifier = new Verifier({ issuer: process.env.ISSUER, audience: 'hello', upstream: 'http://127.0.0.1:' + port });
  console.log('hello on', port);
});
`)
	python := write("hello.py", snippet(t, "hello.py"))
	for name, command := range map[string]*exec.Cmd{
		"go":     exec.Command("go", "run", "."),
		"node":   exec.Command("node", node),
		"python": exec.Command("python3", python),
	} {
		t.Run(name, func(t *testing.T) {
			port := "0"
			if name == "python" { // its page names the port
				probe := httptest.NewServer(nil)
				_, port, _ = strings.Cut(strings.TrimPrefix(probe.URL, "http://"), ":")
				probe.Close()
			}
			command.Dir = dir
			command.Env = append(os.Environ(), "ISSUER="+a.server.URL, "PORT="+port, "GOFLAGS=-mod=mod", "GOWORK=off", "PYTHONDONTWRITEBYTECODE=1")
			command.Stderr = io.Discard
			out, err := command.StdoutPipe()
			if err != nil {
				t.Fatal(err)
			}
			ownGroup(command)
			if err := command.Start(); err != nil {
				t.Fatalf("%v: this test needs %s", err, command.Path)
			}
			defer func() { endGroup(command); command.Wait() }()
			line, _ := bufio.NewReader(out).ReadString('\n')
			if _, err := fmt.Sscanf(line, "hello on %s", &port); err != nil {
				t.Fatalf("it said %q: %v", line, err)
			}
			check(t, a, "http://127.0.0.1:"+port)
		})
	}
}

func check(t *testing.T, a *argus, upstream string) {
	n := 0
	fresh := func() *attempt {
		n++
		body := `{"text":"hi"}`
		digest := sha256.Sum256([]byte(body))
		return &attempt{method: "POST", path: "/v1/greetings?lang=en%20gb", body: body, key: a.keys[n%2],
			head: map[string]any{"alg": "EdDSA", "typ": "JWT", "kid": fmt.Sprint("key-", n%2)},
			claims: map[string]any{"iss": a.server.URL, "aud": "hello", "sub": "user_2ada", "actor_kind": "pat", "scope": "hello:write", "jti": fmt.Sprint("id-", n),
				"iat": time.Now().Unix(), "exp": time.Now().Unix() + 60, "htm": "POST", "htu": upstream + "/v1/greetings?lang=en%20gb", "body_sha256": hex.EncodeToString(digest[:])}}
	}
	send := func(at *attempt, token string) (int, string) {
		t.Helper()
		var body io.Reader
		if at.body != "" {
			body = strings.NewReader(at.body)
		}
		request, err := http.NewRequest(at.method, upstream+at.path, body)
		if err != nil {
			t.Fatal(err)
		}
		if token != "" {
			request.Header.Set("Argus-Assertion", token)
		}
		resp, err := http.DefaultClient.Do(request)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		said, _ := io.ReadAll(resp.Body)
		return resp.StatusCode, string(said)
	}
	for range 3 { // both keys
		at := fresh()
		token := at.token()
		if status, said := send(at, token); status != 200 || !strings.Contains(said, "user_2ada") {
			t.Fatalf("a good call was answered %d %s", status, said)
		}
		if status, _ := send(at, token); status != 401 {
			t.Errorf("a replayed assertion was answered %d", status)
		}
	}
	empty := fresh()
	nothing := sha256.Sum256(nil)
	empty.method, empty.body, empty.claims["htm"], empty.claims["body_sha256"] = "GET", "", "GET", hex.EncodeToString(nothing[:])
	if status, said := send(empty, empty.token()); status != 200 {
		t.Errorf("a good GET was answered %d %s", status, said)
	}
	for what, spoil := range map[string]func(*attempt){
		"another signature": func(at *attempt) { at.key = ed25519.NewKeyFromSeed(bytes.Repeat([]byte{9}, 32)) },
		"the other key":     func(at *attempt) { at.key = a.keys[(n+1)%2] },
		"an unknown key":    func(at *attempt) { at.head["kid"] = "key-9" },
		"a key of another kind": func(at *attempt) {
			at.head["kid"] = "another"
		},
		"no key":            func(at *attempt) { delete(at.head, "kid") },
		"no algorithm":      func(at *attempt) { at.head["alg"] = "none" },
		"a symmetric one":   func(at *attempt) { at.head["alg"] = "HS256" },
		"another issuer":    func(at *attempt) { at.claims["iss"] = "https://elsewhere.example" },
		"another service":   func(at *attempt) { at.claims["aud"] = "billing" },
		"two services":      func(at *attempt) { at.claims["aud"] = []string{"hello", "billing"} },
		"expired":           func(at *attempt) { at.claims["exp"] = time.Now().Unix() - 1 },
		"not yet":           func(at *attempt) { at.claims["iat"] = time.Now().Unix() + 60 },
		"without an end":    func(at *attempt) { delete(at.claims, "exp") },
		"another method":    func(at *attempt) { at.method = "GET" },
		"another path":      func(at *attempt) { at.path = "/v1/greeting?lang=en%20gb" },
		"another query":     func(at *attempt) { at.path = "/v1/greetings?lang=de" },
		"an escaped path":   func(at *attempt) { at.path = "/v1/%67reetings?lang=en%20gb" },
		"another body":      func(at *attempt) { at.body = `{"text":"ho"}` },
		"no body":           func(at *attempt) { at.body = "" },
		"no digest":         func(at *attempt) { delete(at.claims, "body_sha256") },
		"a digest of nil":   func(at *attempt) { at.claims["body_sha256"] = nil },
		"claims of a text":  func(at *attempt) { at.claims["iat"] = "now" },
		"an upper-case hex": func(at *attempt) { at.claims["body_sha256"] = strings.ToUpper(at.claims["body_sha256"].(string)) },
	} {
		at := fresh()
		spoil(at)
		if status, said := send(at, at.token()); status != 401 {
			t.Errorf("%s: answered %d %s", what, status, said)
		} else if mend := map[string]string{"another issuer": "ARGUS_PUBLIC_URL", "another service": "compare audience", "expired": "compare the clocks", "another path": "compare upstream"}[what]; !strings.Contains(strings.ToLower(said), strings.ToLower(mend)) {
			t.Errorf("%s: %q does not say %s", what, said, mend)
		}
	}
	good := fresh().token()
	parts := strings.Split(good, ".")
	for what, token := range map[string]string{"none": "", "a word": "x", "two parts": parts[0] + "." + parts[1], "four parts": good + ".x", "no signature": parts[0] + "." + parts[1] + ".",
		"a cut signature": good[:len(good)-3], "no JSON": "e30." + "eHh4" + "." + parts[2], "no base64": "%%." + parts[1] + "." + parts[2], "an array": "W10." + parts[1] + "." + parts[2]} {
		if status, said := send(fresh(), token); status != 401 {
			t.Errorf("%s: answered %d %s", what, status, said)
		}
	}
	// What was rejected took no id away.
	at := fresh()
	token := at.token()
	wrong := *at
	wrong.body = "x"
	send(&wrong, token)
	if status, _ := send(at, token); status != 200 {
		t.Errorf("after a forged body the call itself was answered %d", status)
	}
}
