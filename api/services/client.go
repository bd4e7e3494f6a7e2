package services

import (
	"bytes"
	"crypto/tls"
	"io"
	"net"
	"net/http"
	"sync"
	"time"
)

// Bounds of connections to services.
const (
	dialTimeout      = 5 * time.Second
	handshakeTimeout = 5 * time.Second
	maxAnswerHeaders = 64 << 10
	// idleTimeout is shorter than servers keep idle connections (Node: 5 s). A connection that the service closes at the
	// moment it is used costs a call, since no call is repeated.
	idleTimeout = 4 * time.Second
)

// client sends requests to one service over connections of its own.
type client struct {
	transport *http.Transport
	mu        sync.Mutex
	calls     int
	retired   bool
}

// newClient makes the connections of a service: through no proxy, following no redirect, undoing no compression, and
// repeating no request.
func newClient(s *Service) *client {
	dialer := &net.Dialer{Timeout: dialTimeout, KeepAlive: 30 * time.Second}
	t := &http.Transport{
		DialContext:            dialer.DialContext,
		TLSClientConfig:        s.TLSConfig(),
		TLSHandshakeTimeout:    handshakeTimeout,
		DisableCompression:     true,
		MaxIdleConns:           s.Concurrency,
		MaxIdleConnsPerHost:    s.Concurrency,
		IdleConnTimeout:        idleTimeout,
		MaxResponseHeaderBytes: maxAnswerHeaders,
		ForceAttemptHTTP2:      true,
	}
	t.Clone() // has the transport set up HTTP/2, which happens once
	if upgrade := t.TLSNextProto["h2"]; upgrade != nil {
		t.TLSNextProto["h2"] = func(authority string, conn *tls.Conn) http.RoundTripper {
			return onceOverHTTP2{upgrade(authority, conn)}
		}
	}
	return &client{transport: t}
}

// RoundTrip implements http.RoundTripper. The caller closes the answer's body and then calls done.
func (c *client) RoundTrip(r *http.Request) (*http.Response, error) { return c.transport.RoundTrip(r) }

func (c *client) begin() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.calls++
}

func (c *client) done() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.calls--; c.retired {
		c.transport.CloseIdleConnections()
	}
}

// retire closes idle connections, and each other one when its call has ended.
func (c *client) retire() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.retired = true
	c.transport.CloseIdleConnections()
}

// once makes a request that net/http never sends twice. It repeats, on a connection that breaks, a request whose method
// or Idempotency-Key says that it may, unless its body cannot be had again. So once gives a request without a body an
// empty one that cannot. For methods that usually have no body, net/http still sends none. For the others it would send
// a chunked one, so their requests stay without. Instead once writes the key in lower case: HTTP takes it as the same,
// and net/http does not look for it.
func once(r *http.Request) {
	r.GetBody = nil
	for _, key := range []string{"Idempotency-Key", "X-Idempotency-Key"} {
		if values, ok := r.Header[key]; ok {
			delete(r.Header, key)
			lower := map[string]string{"Idempotency-Key": "idempotency-key", "X-Idempotency-Key": "x-idempotency-key"}[key]
			r.Header[lower] = values
		}
	}
	if r.Body == nil || r.Body == http.NoBody {
		switch r.Method {
		case http.MethodGet, http.MethodHead, http.MethodOptions, http.MethodDelete:
			// Identity spares net/http a look whether there is a body, by a goroutine of its own.
			r.Body, r.TransferEncoding = io.NopCloser(bytes.NewReader(nil)), []string{"identity"}
		default:
			r.Body = http.NoBody
		}
	}
}

// onceOverHTTP2 keeps HTTP/2 from repeating a request without a body after the service said that it had not looked at it.
type onceOverHTTP2 struct{ next http.RoundTripper }

func (o onceOverHTTP2) RoundTrip(r *http.Request) (*http.Response, error) {
	if r.Body == nil || r.Body == http.NoBody {
		r = r.Clone(r.Context())
		r.Body = emptyBody{}
	}
	return o.next.RoundTrip(r)
}

// emptyBody is a body of nothing that cannot be had again.
type emptyBody struct{}

func (emptyBody) Read([]byte) (int, error) { return 0, io.EOF }
func (emptyBody) Close() error             { return nil }
