package https

import (
	"bytes"
	"compress/gzip"
	"crypto/tls"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"

	"github.com/useargus/argus/ship/sink"
	"github.com/useargus/argus/ship/sinktest"
)

// open makes a sink whose receiver is serve.
func open(t *testing.T, serve http.HandlerFunc) *HTTPS {
	t.Helper()
	folder := t.TempDir()
	server := httptest.NewUnstartedServer(serve)
	server.TLS = &tls.Config{Certificates: []tls.Certificate{sinktest.Authority(t, folder)}}
	server.StartTLS()
	t.Cleanup(server.Close)
	sinktest.Write(t, folder, "secret", "key-that-signs old-key-that-signs\n")
	sinktest.Write(t, folder, "token", "token-of-the-siem\n")
	d := sinktest.Declared(t, folder, fmt.Sprintf(`sinks:
- name: siem
  https:
    url: %s
    secret: {file: secret}
    headers:
    - {name: Authorization, value: {file: token}}
    private: true
    tls: {ca: ca.pem}
    compression: gzip
`, server.URL))
	h := New(d.Name, d.HTTPS)
	t.Cleanup(func() { h.Close() })
	return h
}

// A receiver that gives back what it was sent, secrets included, puts none of them into argusd's log.
func TestErrorHasNoSecret(t *testing.T) {
	h := open(t, func(w http.ResponseWriter, r *http.Request) {
		w.WriteHeader(http.StatusBadRequest)
		fmt.Fprintf(w, "bad request of %s, signed with key-that-signs or old-key-that-signs", r.Header.Get("Authorization"))
	})
	err := h.Send(t.Context(), sinktest.Batch(t, 1, 3, nil))
	if kind, _ := sink.KindOf(err); err == nil || kind != sink.KindRejected {
		t.Fatalf("400 is %v", err)
	}
	for _, secret := range []string{"token-of-the-siem", "key-that-signs"} {
		if strings.Contains(err.Error(), secret) {
			t.Errorf("%q has the secret %s", err, secret)
		}
	}
	if !strings.Contains(err.Error(), "bad request of") {
		t.Errorf("%q does not say what the receiver said", err)
	}
}

// An operator may test a sink while it ships: each request has its own body.
func TestTestBesideSend(t *testing.T) {
	b := sinktest.Batch(t, 1, 500, nil)
	whole := append(b.AppendManifest(nil), b.Lines...)
	h := open(t, func(w http.ResponseWriter, r *http.Request) {
		unpacked, err := gzip.NewReader(r.Body)
		if err != nil {
			t.Error(err)
			return
		}
		body, err := io.ReadAll(unpacked)
		if err != nil || !bytes.Equal(body, whole) && bytes.Count(body, []byte("\n")) != 1 {
			t.Errorf("a body of %d bytes came, and %v", len(body), err)
		}
	})
	var all sync.WaitGroup
	for range 2 {
		all.Go(func() {
			for range 20 {
				if err := h.Send(t.Context(), b); err != nil {
					t.Error(err)
				}
			}
		})
		all.Go(func() {
			for range 20 {
				if err := h.Test(t.Context()); err != nil {
					t.Error(err)
				}
			}
		})
	}
	all.Wait()
}
