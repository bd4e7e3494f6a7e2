package api

import (
	"context"
	"crypto/ed25519"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/useargus/argus"
	"github.com/useargus/argus/api/services"
)

// upstream is a service behind the door, which answers as a test has it and remembers what it heard.
type upstream struct {
	t      testing.TB
	server *httptest.Server
	mu     sync.Mutex
	heard  []heard
	answer http.HandlerFunc
}

type heard struct {
	method, uri string
	header      http.Header
	body        string
	trailer     http.Header
}

func newUpstream(t testing.TB) *upstream {
	u := &upstream{t: t}
	u.server = httptest.NewServer(http.HandlerFunc(u.serve))
	t.Cleanup(u.server.Close)
	return u
}

func (u *upstream) serve(w http.ResponseWriter, r *http.Request) {
	u.mu.Lock()
	answer := u.answer
	u.mu.Unlock()
	if r.Header.Get("Expect") == "" && r.Header.Get("Upgrade") == "" {
		body, _ := io.ReadAll(r.Body)
		u.mu.Lock()
		u.heard = append(u.heard, heard{r.Method, r.RequestURI, r.Header.Clone(), string(body), r.Trailer.Clone()})
		u.mu.Unlock()
	}
	if answer == nil {
		w.Header().Set("Content-Type", "application/json")
		io.WriteString(w, `{"ok":true}`)
		return
	}
	answer(w, r)
}

func (u *upstream) set(answer http.HandlerFunc) {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.answer = answer
}

// taken returns what was heard since it was asked last.
func (u *upstream) taken() []heard {
	u.mu.Lock()
	defer u.mu.Unlock()
	h := u.heard
	u.heard = nil
	return h
}

// one expects that exactly one request was heard.
func (u *upstream) one() heard {
	u.t.Helper()
	all := u.taken()
	if len(all) != 1 {
		u.t.Fatalf("the service heard %d requests: %+v", len(all), all)
	}
	return all[0]
}

// doorFile is a services file with one service; %s are its upstream, more of its keys, and more services.
const doorFile = `services:
  - name: billing
    upstream: %s
    release_header: X-Release
%s
    scopes: {billing:read: See invoices, billing:write: Change invoices}
    presets: {support-readonly: [billing:read], admin-full: [billing:read, billing:write]}
    routes:
      - {route: "GET /v1/invoices", scope: billing:read}
      - {route: "GET /v1/invoices/:id", scope: billing:read}
      - {route: "GET /v1/invoices/:id/lines/:line", scope: billing:read}
      - {route: "POST /v1/invoices", scope: billing:write}
      - {route: "PUT /v1/invoices/:id", scope: billing:write}
      - {route: "DELETE /v1/invoices/:id", scope: billing:write}
      - {route: "POST /v1/invoices/:id/void", scope: billing:write, reason: required, confirm: id}
      - {route: "GET /v1/events", scope: billing:read, stream: true}
      - {route: "POST /v1/export", scope: billing:write, stream: true}
      - {route: "OPTIONS /v1/invoices", scope: billing:read}
%s`

// doorHarness is an API with a service behind it.
type doorHarness struct {
	*harness
	up   *upstream
	file string
	keys *services.Keys
}

const doorURL = "https://argus.example.com"

// newDoor starts an API with an upstream behind it; keys are further keys of the service, four blanks in.
func newDoor(t testing.TB, keys string, edit ...func(*Config)) *doorHarness {
	t.Helper()
	up := newUpstream(t)
	return newDoorTo(t, up.server.URL, keys, up, edit...)
}

func newDoorTo(t testing.TB, address, keys string, up *upstream, edit ...func(*Config)) *doorHarness {
	t.Helper()
	d := &doorHarness{up: up, file: filepath.Join(t.TempDir(), "services.yaml")}
	d.write(t, fmt.Sprintf(doorFile, address, keys, ""))
	var err error
	d.keys, err = services.ParseKeys("")
	if err != nil {
		t.Fatal(err)
	}
	registry, err := services.New(services.Config{Path: d.file, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { argus.DeclareScopes(nil) })
	public, _ := url.Parse(doorURL)
	d.harness = newHarness(t, append([]func(*Config){func(c *Config) {
		c.Services, c.AssertionKeys, c.PublicURL = registry, d.keys, public
	}}, edit...)...)
	d.client.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	return d
}

func (d *doorHarness) write(t testing.TB, text string) {
	t.Helper()
	if err := os.WriteFile(d.file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

// admin is a token with every scope, those of the service included.
func (d *doorHarness) admin() string {
	d.t.Helper()
	d.clerkScopes()
	return d.token("user_2ada")
}

func (d *doorHarness) clerkScopes() {
	d.clerk.RoleScopes["org:admin"] = []argus.Scope{argus.PresetAdminFull}
	d.clerk.RoleScopes["org:member"] = []argus.Scope{argus.PresetSupportReadonly}
}

// claimsOf verifies an assertion as a service does, by the published keys, and returns its claims.
func (d *doorHarness) claimsOf(token string) services.Claims {
	d.t.Helper()
	var set struct {
		Keys []struct{ Kid, X, Kty, Crv, Alg string }
	}
	d.do("", http.MethodGet, "/.well-known/jwks.json", nil).json(d.t, &set)
	parts := strings.Split(token, ".")
	if len(parts) != 3 {
		d.t.Fatalf("the assertion %q is no JWT", token)
	}
	decode := func(s string) []byte {
		b, err := base64.RawURLEncoding.DecodeString(s)
		d.must(err)
		return b
	}
	var header struct{ Alg, Kid, Typ string }
	d.must(json.Unmarshal(decode(parts[0]), &header))
	for _, k := range set.Keys {
		if k.Kid == header.Kid && header.Alg == "EdDSA" && ed25519.Verify(decode(k.X), []byte(parts[0]+"."+parts[1]), decode(parts[2])) {
			var claims services.Claims
			d.must(json.Unmarshal(decode(parts[1]), &claims))
			return claims
		}
	}
	d.t.Fatalf("no published key signed %q", token)
	return services.Claims{}
}

// rawService answers each connection by a function of its own, which may break every rule.
func rawService(t testing.TB, serve func(n int, conn net.Conn)) string {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	var all sync.WaitGroup
	all.Go(func() {
		for n := 0; ; n++ {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			stop := context.AfterFunc(ctx, func() { conn.Close() })
			all.Go(func() {
				defer stop()
				defer conn.Close()
				serve(n, conn)
			})
		}
	})
	t.Cleanup(func() {
		listener.Close()
		cancel()
		all.Wait()
	})
	return "http://" + listener.Addr().String()
}

// readHead reads a request, and returns it up to the end of its headers.
func readHead(conn net.Conn) string {
	_ = conn.SetReadDeadline(time.Now().Add(time.Minute))
	var text strings.Builder
	one := make([]byte, 1)
	for !strings.HasSuffix(text.String(), "\r\n\r\n") {
		if _, err := conn.Read(one); err != nil {
			return ""
		}
		text.Write(one)
	}
	if _, length, ok := strings.Cut(text.String(), "Content-Length: "); ok {
		length, _, _ = strings.Cut(length, "\r\n")
		n, _ := strconv.ParseInt(length, 10, 64)
		_, _ = io.CopyN(io.Discard, conn, n)
	}
	return text.String()
}

// revoke ends a token as another process would: in the database.
func (d *doorHarness) revoke(token string) {
	d.t.Helper()
	var me struct {
		ID string `json:"pat_id"`
	}
	d.do(token, http.MethodGet, "/v1/operators/me", nil).json(d.t, &me)
	if resp := d.do(token, http.MethodDelete, "/v1/tokens/"+me.ID, nil); resp.status != 200 {
		d.t.Fatalf("revoking: %d %s", resp.status, resp.body)
	}
	d.audit.taken()
}

// writePEM writes a certificate and returns its path.
func writePEM(t testing.TB, dir string, der []byte) string {
	t.Helper()
	path := filepath.Join(dir, "ca.pem")
	if err := os.WriteFile(path, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}
