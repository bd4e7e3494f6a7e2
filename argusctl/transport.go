package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"strings"
	"syscall"
	"time"
)

// client returns the connection to the server that the settings name.
func (f *factory) client() (*client, error) {
	if f.connected != nil {
		return f.connected, nil
	}
	s, err := f.settings()
	if err != nil {
		return nil, err
	}
	if s.source == nil {
		return nil, errNoToken
	}
	f.connected, err = newClient(s, f.timeout)
	return f.connected, err
}

func newClient(s settings, timeout time.Duration) (*client, error) {
	base, err := parseServer(s.url)
	if err != nil {
		return nil, err
	}
	if fixed, ok := s.source.(fixedToken); ok {
		if err := checkToken(fixed.text); err != nil {
			return nil, err
		}
	}
	if base.Scheme == "http" && !isLoopback(base.Hostname()) {
		return nil, usageErrorf("A token is not sent over plain http to %s: use https. (Plain http is for this machine alone.)", base.Host)
	}
	transport := &http.Transport{
		Proxy:                 http.ProxyFromEnvironment,
		DialContext:           (&net.Dialer{Timeout: 5 * time.Second, KeepAlive: 15 * time.Second}).DialContext,
		ForceAttemptHTTP2:     true,
		TLSHandshakeTimeout:   10 * time.Second,
		ResponseHeaderTimeout: timeout + time.Second, // for streams; a call has its own, just before
		ReadBufferSize:        64 << 10,
		MaxIdleConnsPerHost:   8,
	}
	if s.caFile != "" {
		if transport.TLSClientConfig, err = trust(s.caFile); err != nil {
			return nil, err
		}
	}
	return &client{base: base, source: s.source, timeout: timeout, tries: maxTries,
		http: &http.Client{Transport: transport, CheckRedirect: checkRedirect}}, nil
}

// trust adds the certificates of a PEM file to the system's.
func trust(file string) (*tls.Config, error) {
	pem, err := os.ReadFile(file)
	if err != nil {
		return nil, usageErrorf("ARGUS_CA_FILE: %v", err)
	}
	pool, err := x509.SystemCertPool()
	if err != nil {
		pool = x509.NewCertPool()
	}
	if !pool.AppendCertsFromPEM(pem) {
		return nil, usageErrorf("ARGUS_CA_FILE: %s holds no certificate in PEM form.", file)
	}
	return &tls.Config{RootCAs: pool}, nil
}

// parseServer reads a server's address. Nothing secret has a place in it.
func parseServer(s string) (*url.URL, error) {
	u, err := url.Parse(s)
	switch {
	case err != nil || u.Host == "" || u.Hostname() == "" || u.Scheme != "http" && u.Scheme != "https":
		return nil, usageErrorf("The server's address is not understood; write it like https://argus.example.com.")
	case u.User != nil:
		return nil, usageErrorf("The server's address must hold no user or password.")
	case u.RawQuery != "" || u.Fragment != "" || u.ForceQuery:
		return nil, usageErrorf("The server's address must end with its host or path, without ? or #.")
	}
	u.Path = strings.TrimRight(u.Path, "/")
	u.RawPath = strings.TrimRight(u.RawPath, "/")
	return u, nil
}

func checkToken(token string) error {
	for i := 0; i < len(token); i++ {
		if token[i] <= ' ' || token[i] >= 0x7f {
			return usageErrorf("The token holds blanks or characters that no token has.")
		}
	}
	return nil
}

func isLoopback(host string) bool {
	if strings.EqualFold(host, "localhost") {
		return true
	}
	ip := net.ParseIP(host)
	return ip != nil && ip.IsLoopback()
}

// checkRedirect follows a redirect only to the same scheme, host and port. Elsewhere another server would get the
// token. (net/http itself would send it on to subdomains.) A change must not become a
// GET on the way.
func checkRedirect(req *http.Request, via []*http.Request) error {
	first := via[0]
	to := harmless(req.URL.Scheme + "://" + req.URL.Host)
	if req.URL.Scheme != first.URL.Scheme || !strings.EqualFold(hostPort(req.URL), hostPort(first.URL)) {
		return &redirectError{fmt.Sprintf("%s redirects to %s, where the token is not sent.", first.URL.Host, to),
			"If that is the server you mean, set ARGUS_URL to it."}
	}
	if req.Method != first.Method {
		return &redirectError{fmt.Sprintf("%s redirects a %s to a %s; nothing was changed by that.", first.URL.Host, first.Method, req.Method),
			"Is the server's address right?"}
	}
	if len(via) >= 5 {
		return &redirectError{first.URL.Host + " redirects in circles.", "Is the server's address right?"}
	}
	return nil
}

func hostPort(u *url.URL) string {
	port := u.Port()
	if port == "" {
		port = map[string]string{"http": "80", "https": "443"}[u.Scheme]
	}
	return net.JoinHostPort(u.Hostname(), port)
}

type redirectError struct{ message, hint string }

func (e *redirectError) Error() string { return e.message + " " + e.hint }

// netError is a server that could not be reached or did not finish answering.
type netError struct {
	Message   string
	Hint      string
	Transient bool // may go away by itself within a second
	Sent      bool // the request may have arrived
	cause     error
}

func (e *netError) Error() string { return e.Message }
func (e *netError) Unwrap() error { return e.cause }

// netError puts the ways of not reaching a server into words.
func (c *client) netError(ctx context.Context, err error) error {
	var redirect *redirectError
	if errors.As(err, &redirect) {
		return redirect
	}
	if cause := context.Cause(ctx); cause != nil {
		var timedOut *netError
		if errors.As(cause, &timedOut) {
			return &netError{Message: timedOut.Message, Hint: timedOut.Hint, Sent: true, cause: err}
		}
		return cause
	}
	host := c.base.Host
	var (
		dns       *net.DNSError
		unknownCA x509.UnknownAuthorityError
		wrongHost x509.HostnameError
		badCert   x509.CertificateInvalidError
		record    tls.RecordHeaderError
		alert     tls.AlertError
		op        *net.OpError
		timeout   interface{ Timeout() bool }
	)
	e := &netError{cause: err}
	viaProxy := errors.As(err, &op) && op.Op == "proxyconnect"
	switch {
	case errors.As(err, &dns):
		e.Message = fmt.Sprintf("The name %s is not known (DNS).", dns.Name)
		e.Hint = "Is the server's address right, and is this machine on the network?"
		if dns.IsTimeout || dns.IsTemporary && !dns.IsNotFound {
			e.Message = fmt.Sprintf("The name %s could not be looked up: the name server does not answer (DNS).", dns.Name)
			e.Transient = true
		}
	case errors.As(err, &unknownCA):
		e.Message = fmt.Sprintf("The certificate of %s is signed by an authority this machine does not know (TLS).", host)
		e.Hint = "If that is your own authority, name its certificate in ARGUS_CA_FILE."
	case errors.As(err, &wrongHost):
		e.Message = fmt.Sprintf("The certificate of %s is for another name (TLS).", host)
		e.Hint = "Is the server's address right?"
	case errors.As(err, &badCert):
		e.Message = fmt.Sprintf("The certificate of %s is not valid: %s.", host, badCert.Error())
		if badCert.Reason == x509.Expired {
			e.Hint = "It has expired, or is not valid yet; or this machine's clock is wrong."
		}
	case errors.As(err, &record), strings.Contains(err.Error(), "server gave HTTP response to HTTPS client"):
		e.Message = fmt.Sprintf("%s does not speak TLS.", host)
		e.Hint = "Is it meant to be http://? That is for this machine alone."
	case errors.As(err, &alert):
		e.Message = fmt.Sprintf("%s refused the TLS connection: %s.", host, alert.Error())
	case errors.Is(err, syscall.ECONNREFUSED):
		e.Message = fmt.Sprintf("%s refuses the connection: no server is listening there.", host)
		e.Transient = true
	case errors.Is(err, syscall.EHOSTUNREACH), errors.Is(err, syscall.ENETUNREACH):
		e.Message = fmt.Sprintf("There is no way to %s from this machine.", host)
	case errors.As(err, &timeout) && timeout.Timeout():
		e.Message = fmt.Sprintf("%s did not answer in time.", host)
		e.Sent = !(errors.As(err, &op) && op.Op == "dial")
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF), errors.Is(err, syscall.ECONNRESET),
		errors.Is(err, syscall.EPIPE), strings.Contains(err.Error(), "transport connection broken"):
		e.Message = fmt.Sprintf("%s cut the connection before it had answered.", host)
		e.Transient, e.Sent = true, true
	default:
		cause := err
		var wrapped *url.Error
		if errors.As(err, &wrapped) {
			cause = wrapped.Err
		}
		e.Message = fmt.Sprintf("%s could not be asked: %v.", host, cause)
		e.Sent = true
	}
	if viaProxy {
		e.Message = fmt.Sprintf("The proxy could not be used: %v.", op.Err)
		e.Hint = "It is named by HTTPS_PROXY; NO_PROXY lists the hosts that need none."
	}
	return e
}
