package credential

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/netip"
	"net/url"
	"os"
	"strings"
	"sync"

	exact "github.com/go-json-experiment/json"
)

// maxDiscovery bounds an issuer's description of itself, in bytes.
const maxDiscovery = 128 << 10

// Endpoints are where people sign in at an issuer, as its discovery document says (OpenID Connect Discovery 1.0, RFC
// 8414). An empty one is not offered.
type Endpoints struct {
	Authorization string `json:"authorization_endpoint"`
	Token         string `json:"token_endpoint"`
	Device        string `json:"device_authorization_endpoint"`
	Revocation    string `json:"revocation_endpoint"`
}

type discovered struct {
	Issuer string `json:"issuer"`
	Keys   string `json:"jwks_uri"`
	Endpoints
}

// discovery reads an issuer's description of itself and its key set.
type discovery struct {
	issuer string
	http   *http.Client

	mu        sync.Mutex
	endpoints Endpoints // of the last description that was good
}

// newDiscovery makes the client of one issuer. It follows no redirects: what is at the issuer's own address counts.
func newDiscovery(issuer, caFile string) (*discovery, error) {
	transport := http.DefaultTransport.(*http.Transport).Clone()
	transport.MaxIdleConnsPerHost = 2
	transport.MaxResponseHeaderBytes = 64 << 10
	if caFile != "" {
		pem, err := os.ReadFile(caFile)
		if err != nil {
			return nil, err
		}
		pool := x509.NewCertPool()
		if !pool.AppendCertsFromPEM(pem) {
			return nil, fmt.Errorf("%s holds no certificate in PEM form", caFile)
		}
		transport.TLSClientConfig = &tls.Config{RootCAs: pool}
	}
	return &discovery{issuer: issuer, http: &http.Client{Transport: transport, Timeout: issuerTimeout,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}}, nil
}

// keySet fetches the description and then the keys that it names.
func (d *discovery) keySet(ctx context.Context) ([]byte, error) {
	found, err := d.describe(ctx)
	if err != nil {
		return nil, err
	}
	return d.get(ctx, found.Keys, maxKeySet)
}

func (d *discovery) describe(ctx context.Context) (found discovered, err error) {
	data, err := d.get(ctx, strings.TrimSuffix(d.issuer, "/")+"/.well-known/openid-configuration", maxDiscovery)
	if err != nil {
		return found, err
	}
	if err := exact.Unmarshal(data, &found); err != nil {
		return found, errors.New("its description (openid-configuration) cannot be read")
	}
	if found.Issuer != d.issuer {
		return found, fmt.Errorf("it describes itself as the issuer %q, and %q is configured: they must be equal", found.Issuer, d.issuer)
	}
	for name, address := range map[string]string{"jwks_uri": found.Keys, "authorization_endpoint": found.Authorization,
		"token_endpoint": found.Token, "device_authorization_endpoint": found.Device, "revocation_endpoint": found.Revocation} {
		if address == "" && name != "jwks_uri" {
			continue
		}
		u, err := issuerURL(address)
		if err != nil || u.Scheme == "http" && !strings.HasPrefix(d.issuer, "http:") {
			return found, fmt.Errorf("its %s is no https address", name)
		}
	}
	d.mu.Lock()
	d.endpoints = found.Endpoints
	d.mu.Unlock()
	return found, nil
}

// get fetches a document of most bytes at most.
func (d *discovery) get(ctx context.Context, address string, most int64) ([]byte, error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, address, nil)
	if err != nil {
		return nil, err
	}
	request.Header.Set("Accept", "application/json, application/jwk-set+json")
	response, err := d.http.Do(request)
	if err != nil {
		return nil, err
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("%s is answered %d", address, response.StatusCode)
	}
	data, err := io.ReadAll(io.LimitReader(response.Body, most+1))
	if err != nil {
		return nil, err
	}
	if int64(len(data)) > most {
		return nil, fmt.Errorf("%s holds more than %d bytes", address, most)
	}
	return data, nil
}

// known gives the endpoints, empty ones as long as the issuer has not been reached.
func (d *discovery) known() Endpoints {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.endpoints
}

// issuerURL reads an address of an issuer: https, or http on loopback.
func issuerURL(s string) (*url.URL, error) {
	u, err := url.Parse(s)
	switch {
	case err != nil || u.Hostname() == "" || u.User != nil || u.Opaque != "" || u.Fragment != "" || strings.HasSuffix(s, "#"):
		return nil, errors.New("is no URL like https://id.example.com")
	case u.Scheme == "https":
		return u, nil
	case u.Scheme == "http":
		if addr, err := netip.ParseAddr(u.Hostname()); err == nil && addr.IsLoopback() || u.Hostname() == "localhost" {
			return u, nil
		}
	}
	return nil, errors.New("must be https (plain http is for loopback alone)")
}
