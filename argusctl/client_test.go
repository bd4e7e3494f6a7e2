package main

import (
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/zalando/go-keyring"

	"github.com/useargus/argus"
)

// runArgusctl runs the program in this process with an environment of its own.
func runArgusctl(t *testing.T, env map[string]string, args ...string) (code int, stdout, stderr string) {
	t.Helper()
	open := func(name string) *os.File {
		file, err := os.OpenFile(filepath.Join(t.TempDir(), name), os.O_CREATE|os.O_RDWR, 0o600)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { file.Close() })
		return file
	}
	in, out, errOut := open("in"), open("out"), open("err")
	if env["STDIN"] != "" {
		fmt.Fprintln(in, env["STDIN"])
		in.Seek(0, io.SeekStart)
	}
	code = run(args, in, out, errOut, func(name string) string { return env[name] })
	read := func(f *os.File) string {
		data, err := os.ReadFile(f.Name())
		if err != nil {
			t.Fatal(err)
		}
		return string(data)
	}
	http.DefaultClient.CloseIdleConnections()
	return code, read(out), read(errOut)
}

// tlsServer answers whoami over TLS; its certificate is for example.com and 127.0.0.1, of an authority of its own.
func tlsServer(t *testing.T) (server *httptest.Server, caFile string) {
	server = httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Authorization") != "Bearer "+callers[0].token {
			fail(w, 401, "unauthenticated", "no", "")
			return
		}
		fmt.Fprintf(w, `{"actor_id":"user_tls","actor_kind":"pat","scopes":[],"name":%q}`, r.Host)
	}))
	t.Cleanup(server.Close)
	caFile = filepath.Join(t.TempDir(), "ca.pem")
	block := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw})
	if err := os.WriteFile(caFile, block, 0o600); err != nil {
		t.Fatal(err)
	}
	return server, caFile
}

func TestTLS(t *testing.T) {
	server, caFile := tlsServer(t)
	server.Config.ErrorLog = quiet()
	env := map[string]string{"ARGUS_URL": server.URL, "ARGUS_TOKEN": callers[0].token, "ARGUS_CONFIG_DIR": t.TempDir(), "ARGUS_KEYRING": "off"}
	if code, _, said := runArgusctl(t, env, "whoami"); code != exitUnreachable || !strings.Contains(said, "ARGUS_CA_FILE") {
		t.Errorf("an unknown authority: exit %d, %s", code, said)
	}
	env["ARGUS_CA_FILE"] = caFile
	if code, out, said := runArgusctl(t, env, "whoami"); code != 0 || !strings.Contains(out, "user_tls") {
		t.Errorf("a custom authority: exit %d, %s %s", code, out, said)
	}
	env["ARGUS_URL"] = strings.Replace(server.URL, "127.0.0.1", "localhost", 1)
	if code, _, said := runArgusctl(t, env, "whoami"); code != exitUnreachable || !strings.Contains(said, "is for another name") {
		t.Errorf("another's certificate: exit %d, %s", code, said)
	}
	env["ARGUS_CA_FILE"] = os.Args[0]
	if code, _, said := runArgusctl(t, env, "whoami"); code != exitUsage || !strings.Contains(said, "no certificate") {
		t.Errorf("a file that is no certificate: exit %d, %s", code, said)
	}
	// login keeps the authority with the profile.
	env["ARGUS_CA_FILE"], env["ARGUS_URL"], env["ARGUS_TOKEN"], env["STDIN"] = "", "", "", callers[0].token
	if code, _, said := runArgusctl(t, env, "login", "--url", server.URL, "--ca-file", caFile); code != 0 {
		t.Fatal(code, said)
	}
	if code, out, said := runArgusctl(t, env, "whoami"); code != 0 || !strings.Contains(out, "profile default") {
		t.Errorf("a profile with its authority: exit %d, %s %s", code, out, said)
	}
}

// TestProxy goes through a proxy, in a process of its own: net/http reads the variables once.
func TestProxy(t *testing.T) {
	server, caFile := tlsServer(t)
	asked := make(chan string, 10)
	proxy := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asked <- r.Method + " " + r.Host + " " + r.Header.Get("Authorization")
		to, err := net.Dial("tcp", server.Listener.Addr().String())
		if err != nil {
			t.Error(err)
			return
		}
		defer to.Close()
		from, _, err := http.NewResponseController(w).Hijack()
		if err != nil {
			t.Error(err)
			return
		}
		defer from.Close()
		io.WriteString(from, "HTTP/1.1 200 Connection established\r\n\r\n")
		go io.Copy(to, from)
		io.Copy(from, to)
	}))
	defer proxy.Close()
	cmd := exec.Command("argusctl", "whoami", "--json")
	cmd.Env = []string{"GORACE=atexit_sleep_ms=0", "HTTPS_PROXY=" + proxy.URL, "ARGUS_URL=https://example.com", "ARGUS_TOKEN=" + callers[0].token, "ARGUS_CA_FILE=" + caFile,
		"ARGUS_CONFIG_DIR=" + t.TempDir()}
	if out, err := cmd.CombinedOutput(); err != nil || !strings.Contains(string(out), `"name":"example.com"`) {
		t.Fatalf("%v: %s", err, out)
	}
	if got := <-asked; got != "CONNECT example.com:443 " {
		t.Errorf("the proxy was asked %q", got)
	}
}

// TestKeyring keeps tokens in a keyring when there is one, and out of every file.
func TestKeyring(t *testing.T) {
	keyring.MockInit()
	f := newFake(t, filepath.Join(t.TempDir(), "requests"))
	dir := t.TempDir()
	env := map[string]string{"ARGUS_CONFIG_DIR": dir, "STDIN": callers[1].token, "DBUS_SESSION_BUS_ADDRESS": "unix:abstract=none"}
	if code, _, said := runArgusctl(t, env, "login", "--url", f.URL, "--profile", "p"); code != 0 || !strings.Contains(said, "the system keyring") {
		t.Fatal(code, said)
	}
	for _, name := range []string{"profiles.json", "tokens.json"} {
		if data, err := os.ReadFile(filepath.Join(dir, name)); err == nil && strings.Contains(string(data), "argus_pat_") {
			t.Errorf("%s holds a token", name)
		}
	}
	if token, err := keyring.Get(keyringService, "p"); err != nil || token != callers[1].token {
		t.Error("the keyring holds", token, err)
	}
	if code, out, said := runArgusctl(t, env, "whoami"); code != 0 || !strings.Contains(out, "Grace Hopper") {
		t.Error(code, out, said)
	}
	if code, _, said := runArgusctl(t, env, "logout"); code != 0 {
		t.Error(code, said)
	}
	if _, err := keyring.Get(keyringService, "p"); !errors.Is(err, keyring.ErrNotFound) {
		t.Error("after logout the keyring says", err)
	}
	// A keyring that fails: the file is the second choice, for writing alone.
	keyring.MockInitWithError(errors.New("locked"))
	if code, _, said := runArgusctl(t, env, "login", "--url", f.URL); code != 0 || !strings.Contains(said, "tokens.json") {
		t.Fatal(code, said)
	}
	if code, out, said := runArgusctl(t, env, "whoami"); code != 0 || !strings.Contains(out, "Grace Hopper") {
		t.Error(code, out, said)
	}
}

// TestTokensStayOut types a secret where none belongs: no error repeats it.
func TestTokensStayOut(t *testing.T) {
	secret := callers[0].token
	random := secret[len(argus.PATPrefix):]
	for _, args := range [][]string{{secret}, {"login", secret}, {"logs", "tail", "--" + secret}, {"logs", "tail", "--since", secret},
		{"logs", "show", secret}, {"logs", "tail", "--pat", secret}, {"tenant", "show", secret}, {"token", "revoke", secret}, {"--output", secret, "health"},
		{"completion", secret}, {"health", "--timeout", secret}, {"perf", "--sort", secret}, {"whoami", "--profile", secret}, {"logs", "export", secret, "--format", secret}} {
		env := map[string]string{"ARGUS_URL": "http://127.0.0.1:1", "ARGUS_TOKEN": secret, "ARGUS_CONFIG_DIR": t.TempDir()}
		code, out, said := runArgusctl(t, env, args...)
		if code == 0 || strings.Contains(out+said, random) || said == "" {
			t.Errorf("%q: exit %d, %s%s", args[:len(args)-1], code, out, said)
		}
	}
}

// TestRetryRules is the table of what may be asked again.
func TestRetryRules(t *testing.T) {
	read, change, bare := request{method: "GET"}, request{method: "POST", key: "k"}, request{method: "POST"}
	var cut error = &netError{Transient: true, Sent: true}
	for _, c := range []struct {
		what string
		r    request
		err  error
		try  int
		want bool
	}{
		{"busy, once more", read, &apiError{Status: 503, Code: argus.CodeUnavailable, RetryAfter: time.Second}, 1, true},
		{"busy still", read, &apiError{Status: 503, Code: argus.CodeUnavailable, RetryAfter: time.Second}, 2, false},
		{"a server that names no time", read, &apiError{Status: 503, Code: argus.CodeUnavailable}, 1, false},
		{"a proxy without a server", read, &apiError{Status: 503}, 2, true},
		{"a read that was cut off", read, cut, 1, true},
		{"a change that was cut off, under its key", change, cut, 1, true},
		{"a change without a key", bare, cut, 1, false},
		{"a name that is not known", read, &netError{}, 1, false},
		{"nothing happened", change, &apiError{Status: 503, Code: argus.CodeAuditUnavailable, RetryAfter: time.Second}, 1, true},
		{"nothing happened, and patience is asked for", change, &apiError{Status: 503, RetryAfter: time.Minute}, 1, false},
		{"perhaps it happened", change, &apiError{Status: 500, Code: argus.CodeAuditUnconfirmed}, 1, false},
		{"the provider said no", change, &apiError{Status: 502, Code: argus.CodeProviderFailed}, 1, false},
		{"a proxy said no", change, &apiError{Status: 502}, 1, true},
		{"a conflict", change, &apiError{Status: 409, Code: argus.CodeConflict}, 1, false},
		{"a conflict with one's own first try", change, &apiError{Status: 409, Code: argus.CodeConflict}, 2, true},
		{"too many", read, &apiError{Status: 429, RetryAfter: time.Second}, 1, false},
		{"not allowed", read, &apiError{Status: 403}, 1, false},
		{"a redirect elsewhere", read, &redirectError{}, 1, false},
	} {
		if _, again := c.r.again(c.err, c.try, atOnce); again != c.want {
			t.Errorf("%s: again is %t", c.what, again)
		}
		// A server that took longer to say no has waited already.
		if _, again := c.r.again(c.err, c.try, atOnce+1); again != (c.want && c.err == cut) {
			t.Errorf("%s, slowly: again is %t", c.what, again)
		}
	}
}

// TestEventReader reads a stream as the standard has it, in pieces of every size.
func TestEventReader(t *testing.T) {
	const stream = ": hello\n\nevent: row\nid: c1\ndata: {\"a\":1}\n\nevent: nothing\n\r\ndata:one\r\ndata: two\r\n\r\nid\ndata\n\ndata: half"
	for _, piece := range []int{1, 2, 7, 1000} {
		r := newEventReader(&inPieces{stream, piece})
		var got []string
		for {
			e, err := r.next()
			if err != nil {
				if err != io.EOF {
					t.Error(err)
				}
				break
			}
			got = append(got, fmt.Sprintf("%s|%s|%s", e.name, e.id, e.data))
		}
		if want := []string{`row|c1|{"a":1}`, "|c1|one\ntwo", "||"}; !slices.Equal(got, want) {
			t.Errorf("in pieces of %d: %q, want %q", piece, got, want)
		}
	}
	if _, err := newEventReader(strings.NewReader("data: " + strings.Repeat("x", 2*maxEventLine))).next(); err == nil || err == io.EOF {
		t.Error("a line without end:", err)
	}
}

type inPieces struct {
	rest string
	size int
}

func (p *inPieces) Read(b []byte) (int, error) {
	if p.rest == "" {
		return 0, io.EOF
	}
	n := copy(b[:min(len(b), p.size)], p.rest)
	p.rest = p.rest[n:]
	return n, nil
}

// TestRedirects is the table of where a token may follow.
func TestRedirects(t *testing.T) {
	for _, c := range []struct {
		from, to string
		method   string
		hops     int
		want     bool
	}{
		{"https://argus.example.com/v1/health", "https://argus.example.com/v1/health/", "GET", 1, true},
		{"https://argus.example.com/v1/health", "https://argus.example.com:443/v1/health", "GET", 1, true},
		{"https://argus.example.com/v1/health", "https://ARGUS.example.com/elsewhere", "GET", 4, true},
		{"https://argus.example.com/v1/health", "https://argus.example.com/", "GET", 5, false},
		{"https://argus.example.com/v1/health", "https://eu.argus.example.com/v1/health", "GET", 1, false}, // net/http would
		{"https://argus.example.com/v1/health", "https://argus.example.com:8443/v1/health", "GET", 1, false},
		{"https://argus.example.com:80/v1/health", "http://argus.example.com:80/v1/health", "GET", 1, false},
		{"http://127.0.0.1:8420/v1/health", "http://127.0.0.1:8421/v1/health", "GET", 1, false},
		{"https://argus.example.com/compute/ops/launch", "https://argus.example.com/compute", "POST", 1, false}, // became a GET
	} {
		first := httptest.NewRequest(c.method, c.from, nil)
		via := slices.Repeat([]*http.Request{first}, c.hops)
		if err := checkRedirect(httptest.NewRequest("GET", c.to, nil), via); (err == nil) != c.want {
			t.Errorf("%s to %s: %v", c.from, c.to, err)
		}
	}
}
