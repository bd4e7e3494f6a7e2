package check

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"io"
	"log"
	"math/big"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/useargus/argus"
	"github.com/useargus/argus/api"
	"github.com/useargus/argus/api/services"
	"github.com/useargus/argus/internal/engines/enginetest"
	"github.com/useargus/argus/internal/sample"
	"github.com/useargus/argus/writer"
)

// crooked is a made-up fleet with one mistake.
type crooked struct {
	*sample.MadeUp
	launch    func(worker string) (sample.Instance, error)
	set       func(handle, state string) (sample.Instance, error)
	terminate func(handle string) error
	list      func() ([]sample.Instance, error)
}

func (c *crooked) Launch(ctx context.Context, worker string) (sample.Instance, error) {
	if c.launch != nil {
		return c.launch(worker)
	}
	return c.MadeUp.Launch(ctx, worker)
}

func (c *crooked) SetState(ctx context.Context, handle, state string) (sample.Instance, error) {
	if c.set != nil {
		return c.set(handle, state)
	}
	return c.MadeUp.SetState(ctx, handle, state)
}

func (c *crooked) Terminate(ctx context.Context, handle string) error {
	if c.terminate != nil {
		return c.terminate(handle)
	}
	return c.MadeUp.Terminate(ctx, handle)
}

func (c *crooked) List(ctx context.Context) ([]sample.Instance, error) {
	if c.list != nil {
		return c.list()
	}
	return c.MadeUp.List(ctx)
}

// TestProviderTrial: a good controller passes; each mistake is named by the check that is for it. Nothing is left behind.
func TestProviderTrial(t *testing.T) {
	keys, err := services.ParseKeys("")
	if err != nil {
		t.Fatal(err)
	}
	issuer := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.Write(keys.JWKS()) }))
	defer issuer.Close()
	public, _ := url.Parse(issuer.URL)
	assert := api.ProviderAssertions(keys, public)
	for _, test := range []struct {
		name   string
		spoil  func(*crooked)
		around func(http.Handler) http.Handler
		fails  string // a part of the one line that fails, "" for none
	}{
		{name: "good"},
		{name: "a new instance each time", fails: "launch is idempotent", spoil: func(c *crooked) {
			var n atomic.Int64
			c.launch = func(worker string) (sample.Instance, error) {
				in, err := c.MadeUp.Launch(t.Context(), fmt.Sprintf("%s/%d", worker, n.Add(1)))
				in.WorkerID = worker
				return in, err
			}
			c.list = func() ([]sample.Instance, error) {
				all, err := c.MadeUp.List(t.Context())
				for i := range all {
					all[i].WorkerID, _, _ = strings.Cut(all[i].WorkerID, "/")
				}
				return all[:min(len(all), 1)], err
			}
		}},
		{name: "a list without workers", fails: "the list has it", spoil: func(c *crooked) {
			c.list = func() ([]sample.Instance, error) { return nil, nil }
		}},
		{name: "every handle is known", fails: "an unknown handle", spoil: func(c *crooked) {
			c.set = func(handle, state string) (sample.Instance, error) {
				if in, err := c.MadeUp.SetState(t.Context(), handle, state); err == nil {
					return in, nil
				}
				return sample.Instance{Handle: handle, State: state, StartedAt: time.Now()}, nil
			}
		}},
		{name: "stopping does nothing", fails: "stop, twice", spoil: func(c *crooked) {
			c.set = func(handle, state string) (sample.Instance, error) {
				return c.MadeUp.SetState(t.Context(), handle, "running")
			}
		}},
		{name: "what is gone is an error", fails: "destroy", spoil: func(c *crooked) {
			gone := map[string]bool{}
			c.terminate = func(handle string) error {
				if gone[handle] {
					return fmt.Errorf("gone")
				}
				gone[handle] = c.MadeUp.Terminate(t.Context(), handle) == nil
				return nil
			}
		}},
		{name: "no assertion is looked at", fails: "assertions", around: func(http.Handler) http.Handler {
			fleet, _ := sample.OpenMadeUp(t.TempDir())
			return unchecked(fleet)
		}},
		{name: "not a controller", fails: "list the instances", around: func(http.Handler) http.Handler {
			return http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, "<html>") })
		}},
	} {
		t.Run(test.name, func(t *testing.T) {
			madeUp, err := sample.OpenMadeUp(t.TempDir())
			if err != nil {
				t.Fatal(err)
			}
			fleet := &crooked{MadeUp: madeUp}
			if test.spoil != nil {
				test.spoil(fleet)
			}
			verifier := &sample.Verifier{Issuer: issuer.URL, Audience: "fleet"}
			handler := (&sample.Controller{Verifier: verifier, Fleet: fleet}).Handler("")
			if test.around != nil {
				handler = test.around(handler)
			}
			server := httptest.NewServer(handler)
			defer server.Close()
			verifier.Upstream = server.URL
			file := writeFile(t, "services.yaml", "providers: [{name: fleet, url: "+server.URL+", timeout: 2m}]")
			declared, err := services.Load(file)
			if err != nil {
				t.Fatal(err)
			}
			var out bytes.Buffer
			r := &Report{Out: &out}
			p := api.HTTPProvider(declared.Providers[0], assert)
			Provider{Declared: declared.Providers[0], Provider: p, Assert: assert, settling: time.Second}.Check(t.Context(), r)
			p.(interface{ CloseIdleConnections() }).CloseIdleConnections()
			var failed []string
			for line := range strings.SplitSeq(out.String(), "\n") {
				if strings.HasPrefix(line, "FAIL") {
					failed = append(failed, line)
				}
			}
			if len(failed) != btoi(test.fails != "") || test.fails != "" && !strings.Contains(failed[0], test.fails) {
				t.Errorf("want %q to fail:\n%s", test.fails, out.String())
			}
			if left, _ := madeUp.List(t.Context()); len(left) > btoi(test.fails != "")*3 || test.fails == "" && len(left) > 0 {
				t.Errorf("left behind: %+v", left)
			}
		})
	}
}

// unchecked serves the contract and looks at no assertion.
func unchecked(fleet sample.Fleet) http.Handler {
	return (&sample.Controller{Fleet: fleet}).Handler("")
}

func btoi(b bool) int {
	if b {
		return 1
	}
	return 0
}

func writeFile(t *testing.T, name, text string) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

// certificate makes a self-signed one.
func certificate(t *testing.T, host string, ends time.Time) (tls.Certificate, string) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotBefore: time.Now().Add(-48 * time.Hour), NotAfter: ends, DNSNames: []string{host},
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageDigitalSignature}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}))
}

// TestServicesAreLookedAt: what keeps a service from being reached is named, and routes are compared with its document
// and with the log.
func TestServicesAreLookedAt(t *testing.T) {
	pg, ch := enginetest.NewPostgres(t), enginetest.NewClickHouse(t)
	lax := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/healthz" {
			w.WriteHeader(503)
		}
	}))
	defer lax.Close()
	const closed = "127.0.0.1:1" // where nothing listens
	dir := t.TempDir()
	secure := func(name, host string, ends time.Time) string {
		pair, ca := certificate(t, host, ends)
		server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(401) }))
		server.TLS = &tls.Config{Certificates: []tls.Certificate{pair}}
		server.Config.ErrorLog = log.New(io.Discard, "", 0)
		server.StartTLS()
		t.Cleanup(server.Close)
		if err := os.WriteFile(filepath.Join(dir, name+".pem"), []byte(ca), 0o600); err != nil {
			t.Fatal(err)
		}
		return strings.Replace(server.URL, "127.0.0.1", "localhost", 1)
	}
	later := time.Now().Add(90 * 24 * time.Hour)
	service := func(name, upstream, more string) string {
		return fmt.Sprintf("  - {name: %s, upstream: %s, scopes: {'%[1]s:read': x}, routes: [{route: 'GET /v1/things', scope: '%[1]s:read'}, {route: 'GET /v1/things/:id', scope: '%[1]s:read'}]%[3]s}\n", name, upstream, more)
	}
	document := `{"openapi":"3.0.3","info":{"title":"x","version":"1"},"paths":{"/v1/things":{"get":{"responses":{"200":{"description":"x"}}}},"/v1/other":{"get":{"responses":{"200":{"description":"x"}}}}}}`
	if err := os.WriteFile(filepath.Join(dir, "doc.json"), []byte(document), 0o600); err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(dir, "services.yaml")
	text := "services:\n" + service("lax", lax.URL, ", health: /healthz, openapi: doc.json, default_scopes: {read: 'lax:read'}") + service("away", "http://"+closed, "") +
		service("good", secure("good", "localhost", later), ", tls: {ca: good.pem}") +
		service("unknown", secure("other", "localhost", later), "") +
		service("named", secure("named", "elsewhere.example", later), ", tls: {ca: named.pem}") +
		service("over", secure("over", "localhost", time.Now().Add(-time.Hour)), ", tls: {ca: over.pem}") +
		service("soon", secure("soon", "localhost", time.Now().Add(5*24*time.Hour)), ", tls: {ca: soon.pem}") +
		strings.ReplaceAll(service("strict", secure("strict", "localhost", later), ", tls: {ca: strict.pem}, health: /healthz"), "GET /v1", "GET /svc/strict/v1") +
		service("plain", strings.Replace(lax.URL, "http:", "https:", 1), "")
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	declared, err := services.Load(file)
	if err != nil {
		t.Fatal(err)
	}
	// One call that the copy does not have, as the door records it.
	w, err := writer.New(writer.Config{URL: pg.APIURL})
	if err != nil {
		t.Fatal(err)
	}
	if err := w.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	for _, route := range []string{"GET /svc/lax/v1/things", "GET /svc/lax/v1/gone"} {
		rec := &argus.Record{ID: uuid.Must(uuid.NewV7()), OccurredAt: argus.Micros(time.Now()), ActorID: "user_2ada", ActorKind: argus.KindPAT, Scope: "lax:read", Route: route,
			Method: "GET", Status: 200, Outcome: argus.Completed, LatencyUS: 5, Service: "lax"}
		rec.MakeStorable()
		if err := w.Append(t.Context(), rec, false); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	Services{File: declared, PostgresURL: pg.APIURL, ClickHouseURL: ch.ReaderURL}.Check(t.Context(), &Report{Out: &out})
	for _, want := range []string{
		"FAIL  lax: health: GET " + lax.URL + "/healthz answers 503", "WARN  lax answers GET /v1/things with 200 without an Argus-Assertion",
		"WARN  lax: the document doc.json does not have GET /v1/things/:id\n", "note  lax: in 30 days no call of GET /v1/things/:id, GET /v1/other\n",
		"note  lax: in 30 days calls came to what is not declared: GET /svc/lax/v1/gone\n",
		"FAIL  away: reach " + closed, "ok    good: certificate", "name the authority that signed it", "FAIL  named: certificate", "tls: {server_name: NAME}",
		"FAIL  over: certificate", "renew it at the service", "WARN  soon: its certificate ends in 4 days", "FAIL  plain: certificate", "it does not speak TLS",
		"note  good has no health path", "health is asked without an assertion",
		"WARN  strict: the route GET /svc/strict/v1/things repeats the mount: write the path as the service has it, /v1/things\n",
	} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("%q is not said:\n%s", want, out.String())
		}
	}
	if strings.Contains(out.String(), "WARN  good answers") {
		t.Error("a service that rejects is warned of")
	}
}
