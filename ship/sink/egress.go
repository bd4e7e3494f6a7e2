package sink

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"os"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/useargus/argus"
)

// Egress is how a sink reaches its receiver: over TLS, and at a public address unless the file says private: true. The
// check is of the address that is dialed, after the name was resolved: a name that resolves anew cannot evade it.
type Egress struct {
	private bool
	tls     *tls.Config
}

// TLSConfig is what connections are made with. It has no server's name unless the file gives one.
func (e Egress) TLSConfig() *tls.Config {
	if e.tls == nil {
		return &tls.Config{MinVersion: tls.VersionTLS12}
	}
	return e.tls.Clone()
}

// errPrivate: see Egress.
var errPrivate = errors.New("it is a private address; say private: true in the sinks file if it is meant")

// Dialer dials allowed addresses alone.
func (e Egress) Dialer() *net.Dialer {
	return &net.Dialer{Timeout: 10 * time.Second, KeepAlive: 15 * time.Second, Control: func(_, address string, _ syscall.RawConn) error {
		host, _, err := net.SplitHostPort(address)
		if err != nil {
			return err
		}
		ip, err := netip.ParseAddr(host)
		if err != nil {
			return err
		}
		if !e.private && !public(argus.Address(ip)) {
			return fmt.Errorf("%s: %w", ip, errPrivate)
		}
		return nil
	}}
}

// Client is an HTTP client that follows no redirect, uses no proxy of the environment, and dials allowed addresses alone.
// timeout bounds a whole request.
func (e Egress) Client(timeout time.Duration) *http.Client {
	return &http.Client{
		Timeout:       timeout,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		Transport:     e.Transport(),
	}
}

// Transport is that of Client.
func (e Egress) Transport() *http.Transport {
	return &http.Transport{
		DialContext: e.Dialer().DialContext, TLSClientConfig: e.TLSConfig(), ForceAttemptHTTP2: true,
		MaxIdleConns: 4, MaxIdleConnsPerHost: 2, IdleConnTimeout: 90 * time.Second, TLSHandshakeTimeout: 10 * time.Second,
		MaxResponseHeaderBytes: 64 << 10, DisableCompression: true,
	}
}

// DialTLS connects to host:port over TLS.
func (e Egress) DialTLS(ctx context.Context, address string) (net.Conn, error) {
	config := e.TLSConfig()
	if host, _, err := net.SplitHostPort(address); err == nil && config.ServerName == "" {
		config.ServerName = host
	}
	return (&tls.Dialer{NetDialer: e.Dialer(), Config: config}).DialContext(ctx, "tcp", address)
}

// notPublic are networks that netip does not know by name: they lie inside a provider, or stand for other addresses.
var notPublic = []netip.Prefix{
	netip.MustParsePrefix("0.0.0.0/8"), netip.MustParsePrefix("100.64.0.0/10"), netip.MustParsePrefix("192.0.0.0/24"),
	netip.MustParsePrefix("192.88.99.0/24"), netip.MustParsePrefix("198.18.0.0/15"), netip.MustParsePrefix("240.0.0.0/4"),
	netip.MustParsePrefix("64:ff9b::/96"), netip.MustParsePrefix("64:ff9b:1::/48"), netip.MustParsePrefix("2002::/16"),
	netip.MustParsePrefix("2001::/23"), netip.MustParsePrefix("::/96"), netip.MustParsePrefix("fec0::/10"), netip.MustParsePrefix("100::/64"),
}

func public(a netip.Addr) bool {
	if !a.IsGlobalUnicast() || a.IsPrivate() {
		return false
	}
	for _, p := range notPublic {
		if p.Contains(a) {
			return false
		}
	}
	return true
}

// egress checks a receiver's certificates, and makes the way to it. address is host:port, or a URL's host.
func (l *loading) egress(at, host string, private bool, files *TLS) Egress {
	e := Egress{private: private, tls: &tls.Config{MinVersion: tls.VersionTLS12}}
	if ip, err := argus.ParseAddress(host); err == nil && !private && !public(ip) {
		l.Wrong(at, "%s: %s", host, errPrivate)
	}
	if files == nil {
		return e
	}
	e.tls.ServerName = files.ServerName
	if files.CA != "" {
		e.tls.RootCAs = x509.NewCertPool()
		data, err := os.ReadFile(l.file(files.CA))
		switch {
		case err != nil:
			l.Wrong(at+".tls.ca", "%s", err)
		case !e.tls.RootCAs.AppendCertsFromPEM(data):
			l.Wrong(at+".tls.ca", "%s holds no certificate", files.CA)
		}
	}
	switch {
	case (files.Cert == "") != (files.Key == ""):
		l.Wrong(at+".tls", "cert and key belong together")
	case files.Cert != "":
		pair, err := tls.LoadX509KeyPair(l.file(files.Cert), l.file(files.Key))
		if err != nil {
			l.Wrong(at+".tls.cert", "%s and %s are no certificate and its key: %s", files.Cert, files.Key, strings.TrimPrefix(err.Error(), "tls: "))
			break
		}
		e.tls.Certificates = []tls.Certificate{pair}
	}
	return e
}

// httpsURL checks the URL of a receiver: https only, and no secret in it.
func (l *loading) httpsURL(at, key, address string) *url.URL {
	u, err := url.Parse(address)
	switch {
	case address == "":
		l.Wrong(at+"."+key, "%s is missing: where does the receiver answer?", key)
	case err != nil || u.Hostname() == "" || u.Opaque != "":
		l.Wrong(at+"."+key, "%s must be a URL, as https://siem.example.com/ingest", key)
	case u.Scheme != "https":
		l.Wrong(at+"."+key, "%s must be https: the log is not for those on the way", key)
	case u.User != nil || u.Fragment != "":
		l.Wrong(at+"."+key, "%s has neither a user nor a fragment: name secrets with headers", key)
	default:
		return u
	}
	return &url.URL{}
}

// hostPort checks an address host:port.
func (l *loading) hostPort(at, key, address string) (host string) {
	host, port, err := net.SplitHostPort(address)
	if n, err2 := strconv.Atoi(port); err != nil || host == "" || err2 != nil || n < 1 || n > 65535 {
		l.Wrong(at+"."+key, "%s must be a host and a port, as logs.example.com:6514", key)
	}
	return host
}

// timeout checks a timeout, and fills it.
func (l *loading) timeout(at string, d *Duration) {
	if *d == 0 && !l.Has(at+".timeout") {
		*d = Duration(30 * time.Second)
	}
	if *d < Duration(time.Second) || *d > Duration(5*time.Minute) {
		l.Wrong(at+".timeout", "timeout is from 1s to 5m")
	}
}

// RetryAfterOf reads the header Retry-After, in seconds or as a date; 0 when there is none. It is bounded to an hour.
func RetryAfterOf(h http.Header, now time.Time) time.Duration {
	text := h.Get("Retry-After")
	var d time.Duration
	if n, err := strconv.Atoi(text); err == nil {
		d = time.Duration(min(max(n, 0), 3600)) * time.Second
	} else if at, err := http.ParseTime(text); err == nil {
		d = at.Sub(now)
	}
	return min(max(d, 0), time.Hour)
}

// Said is a part of a receiver's answer for an error: short, printable, and without a secret that the receiver gives back.
func Said(text string, secrets []string) string {
	for _, secret := range secrets {
		if secret != "" {
			text = strings.ReplaceAll(text, secret, "…")
		}
	}
	return argus.Shown(argus.Text(text, 200))
}

// Answered turns the status of an HTTP receiver into an error of Send; nil for 2xx. said is the beginning of its answer.
func Answered(status int, h http.Header, said string) error {
	err := fmt.Errorf("the receiver answered %d", status)
	if said = strings.TrimSpace(argus.Text(said, 200)); said != "" {
		err = fmt.Errorf("%w: %s", err, said)
	}
	switch {
	case status >= 200 && status < 300:
		return nil
	case status == http.StatusBadRequest, status == http.StatusUnprocessableEntity:
		return Rejected(err)
	case status == http.StatusRequestEntityTooLarge:
		return TooLarge(err)
	case status >= 300 && status < 400:
		return fmt.Errorf("%w: redirects are not followed, so write the URL that it leads to", err)
	}
	return RetryAfter(err, RetryAfterOf(h, time.Now()))
}
