package main

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"golang.org/x/oauth2"
)

// signIn is how a profile was signed in: all that renews its token, and nothing secret.
type signIn struct {
	Name       string   `json:"name"`
	Issuer     string   `json:"issuer"`
	ClientID   string   `json:"client_id"`
	Scopes     []string `json:"scopes"`
	Token      string   `json:"token"` // which one the server takes: access_token or id_token
	Endpoint   string   `json:"token_endpoint"`
	Revocation string   `json:"revocation_endpoint,omitempty"`
}

// signedIn is the secret of such a profile, as the keyring or tokens.json keeps it.
type signedIn struct {
	Token   string `json:"token"`
	Refresh string `json:"refresh_token,omitempty"`
	Subject string `json:"subject,omitempty"` // of the ID token
}

// issuerClient talks to issuers: it follows no redirects, so what is secret goes to the issuer's own address alone.
func issuerClient(trusted *tls.Config) *http.Client {
	return &http.Client{Timeout: 15 * time.Second,
		Transport:     &http.Transport{Proxy: http.ProxyFromEnvironment, TLSClientConfig: trusted, DisableKeepAlives: true, TLSHandshakeTimeout: 10 * time.Second},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
}

// issuerAddress reads an address of an issuer: https, or http on this machine.
func issuerAddress(s string) (*url.URL, error) {
	u, err := url.Parse(s)
	switch {
	case err != nil || u.Hostname() == "" || u.User != nil || u.Fragment != "":
		return nil, errors.New("is no address")
	case u.Scheme == "https", u.Scheme == "http" && isLoopback(u.Hostname()):
		return u, nil
	}
	return nil, errors.New("is not https")
}

// askIssuer makes a request and decodes the answer, which is small.
func askIssuer(client *http.Client, request *http.Request, out any) error {
	response, err := client.Do(request)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	data, err := io.ReadAll(io.LimitReader(response.Body, 1<<20))
	if err != nil {
		return err
	}
	if response.StatusCode != http.StatusOK {
		return fmt.Errorf("%s answered %d", request.URL.Host, response.StatusCode)
	}
	return unmarshal(data, out)
}

// endpoints are what an issuer says of itself.
type endpoints struct {
	Issuer        string `json:"issuer"`
	Authorization string `json:"authorization_endpoint"`
	Token         string `json:"token_endpoint"`
	Device        string `json:"device_authorization_endpoint"`
	Revocation    string `json:"revocation_endpoint"`
}

// discover asks the issuer itself, so that what is secret goes where the issuer says and not where the server says.
func discover(ctx context.Context, client *http.Client, issuer string) (endpoints, error) {
	var e endpoints
	if _, err := issuerAddress(issuer); err != nil {
		return e, fmt.Errorf("the issuer %s %w", issuer, err)
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, strings.TrimSuffix(issuer, "/")+"/.well-known/openid-configuration", nil)
	if err != nil {
		return e, err
	}
	if err := askIssuer(client, request, &e); err != nil {
		return e, fmt.Errorf("the issuer %s does not describe itself: %w", issuer, err)
	}
	if e.Issuer != issuer {
		return e, fmt.Errorf("%s describes itself as another issuer, %s", issuer, e.Issuer)
	}
	for _, address := range []string{e.Authorization, e.Token, e.Device, e.Revocation} {
		if address == "" {
			continue
		}
		if _, err := issuerAddress(address); err != nil {
			return e, fmt.Errorf("the issuer %s names an address that %w", issuer, err)
		}
	}
	if e.Token == "" {
		return e, fmt.Errorf("the issuer %s names no token endpoint", issuer)
	}
	return e, nil
}

// oauth is the public client, of which the secret is none: PKCE stands for it.
func (s signIn) oauth(e endpoints) *oauth2.Config {
	return &oauth2.Config{ClientID: s.ClientID, Scopes: s.Scopes, Endpoint: oauth2.Endpoint{AuthURL: e.Authorization,
		TokenURL: e.Token, DeviceAuthURL: e.Device, AuthStyle: oauth2.AuthStyleInParams}}
}

// take picks the token that the server takes.
func (s signIn) take(token *oauth2.Token, nonce string) (signedIn, error) {
	id, _ := token.Extra("id_token").(string)
	subject := ""
	if nonce != "" || id != "" {
		claims, ok := claimsOf(id)
		switch {
		case !ok:
			return signedIn{}, fmt.Errorf("the issuer %s gave no ID token", s.Name)
		case claims.Issuer != s.Issuer || !slices.Contains(claims.audience, s.ClientID):
			return signedIn{}, fmt.Errorf("the issuer %s gave the ID token of another issuer or client", s.Name)
		case nonce != "" && claims.Nonce != nonce:
			return signedIn{}, fmt.Errorf("the issuer %s answered another sign-in (nonce)", s.Name)
		}
		subject = claims.Subject
	}
	got := signedIn{Token: token.AccessToken, Refresh: token.RefreshToken, Subject: subject}
	if s.Token == "id_token" {
		got.Token = id
	}
	if _, ok := claimsOf(got.Token); !ok {
		return got, fmt.Errorf("the issuer %s gave an %s that is no JWT, so the server cannot check it. Its administrator configures the audience at the issuer", s.Name, strings.ReplaceAll(s.Token, "_", " "))
	}
	return got, checkToken(got.Token)
}

// profileToken is the token of a profile that was signed in at an issuer. It renews itself.
type profileToken struct {
	f       *factory
	name    string
	current signedIn
}

func (t *profileToken) from() string { return "profile " + t.name }

func (t *profileToken) token(ctx context.Context, rejected string) (string, error) {
	end := expiryOf(t.current.Token)
	if t.current.Token != rejected && t.f.now().Before(end.Add(-renewBefore)) {
		return t.current.Token, nil
	}
	err := t.renew(ctx, rejected)
	if err != nil && t.current.Token != rejected && t.f.now().Before(end) {
		return t.current.Token, nil // still good, and the issuer may be back by the next call
	}
	return t.current.Token, err
}

// renew gets a new token by the refresh token. Many issuers take each refresh token once, and end the whole sign-in when
// one comes twice. So one argusctl at a time renews, and the others take what it got.
func (t *profileToken) renew(ctx context.Context, rejected string) error {
	unlock, err := t.f.lockProfiles(ctx)
	if err != nil {
		return err
	}
	defer unlock()
	store, err := t.f.profiles()
	if err != nil {
		return err
	}
	p, ok := store.Profiles[t.name]
	if !ok || p.SignIn == nil {
		return fmt.Errorf("profile %s was signed out meanwhile: %w", t.name, errNoToken)
	}
	stored, err := store.signedIn(t.name)
	if err != nil {
		return err
	}
	if stored.Token != t.current.Token && stored.Token != rejected && t.f.now().Before(expiryOf(stored.Token).Add(-renewBefore)) {
		t.current = stored // another argusctl was quicker
		return nil
	}
	if stored.Refresh == "" {
		return t.over(p, "it cannot be renewed")
	}
	trusted, err := p.trust()
	if err != nil {
		return err
	}
	asked := context.WithValue(ctx, oauth2.HTTPClient, issuerClient(trusted))
	fresh, err := p.SignIn.oauth(endpoints{Token: p.SignIn.Endpoint}).TokenSource(asked, &oauth2.Token{RefreshToken: stored.Refresh}).Token()
	var said *oauth2.RetrieveError
	switch {
	case errors.As(err, &said) && said.Response != nil && said.Response.StatusCode < 500:
		return t.over(p, p.SignIn.Name+" does not renew it")
	case err != nil:
		return &netError{Message: fmt.Sprintf("The token could not be renewed: %s does not answer.", p.SignIn.Name), Transient: true, cause: err}
	}
	got, err := p.SignIn.take(fresh, "")
	if err != nil {
		return err
	}
	if got.Subject == "" {
		got.Subject = stored.Subject
	}
	if !stored.samePerson(got) {
		return t.over(p, p.SignIn.Name+" gave another person's token for it")
	}
	if got.Refresh == "" {
		got.Refresh = stored.Refresh
	}
	if err := store.keep(t.name, got); err != nil {
		return err
	}
	t.current = got
	return nil
}

// samePerson: a renewal never makes a person another (OpenID Connect Core, 12.2). Some issuers give access token and ID token
// subjects of their own, so each is compared with its like. An ID token may be missing from a renewal.
func (was signedIn) samePerson(is signedIn) bool {
	before, _ := claimsOf(was.Token)
	after, _ := claimsOf(is.Token)
	return before.Subject == after.Subject && before.Issuer == after.Issuer && (was.Subject == "" || was.Subject == is.Subject)
}

func (t *profileToken) over(p profile, why string) error {
	return fmt.Errorf("the sign-in of profile %s has ended, and %s. Sign in again with `argusctl login --profile %s --issuer %s`: %w",
		t.name, why, t.name, p.SignIn.Name, errNoToken)
}

// trust is how the issuer's certificate is verified: as the server's.
func (p profile) trust() (*tls.Config, error) {
	if p.CAFile == "" {
		return nil, nil
	}
	return trust(p.CAFile)
}

// lockProfiles makes this the only argusctl that changes profiles and their tokens: one that renews a token writes down
// what it read before it asked.
func (f *factory) lockProfiles(ctx context.Context) (unlock func(), err error) {
	dir, err := f.configDir()
	if err != nil {
		return nil, err
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	return lockFile(ctx, filepath.Join(dir, "lock"))
}

// lockFile makes this the only one that holds the file. The lock ends with the process.
func lockFile(ctx context.Context, path string) (unlock func(), err error) {
	file, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, err
	}
	for {
		err := syscall.Flock(int(file.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
		if err == nil {
			return func() { file.Close() }, nil
		}
		if !errors.Is(err, syscall.EWOULDBLOCK) {
			file.Close()
			return nil, err
		}
		select {
		case <-ctx.Done():
			file.Close()
			return nil, ctx.Err()
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// revoke ends the sign-in at the issuer, where it offers that (RFC 7009).
func (s signIn) revoke(ctx context.Context, client *http.Client, secret signedIn) error {
	token, hint := secret.Refresh, "refresh_token"
	if token == "" {
		token, hint = secret.Token, "access_token"
	}
	form := url.Values{"token": {token}, "token_type_hint": {hint}, "client_id": {s.ClientID}}
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, s.Revocation, strings.NewReader(form.Encode()))
	if err != nil {
		return err
	}
	request.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	response, err := client.Do(request)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusOK {
		return fmt.Errorf("%s answered %d", request.URL.Host, response.StatusCode)
	}
	return nil
}

// loopbackListener receives the browser's way back: a port of this machine that no other process listens on (RFC 8252, 7.3).
func loopbackListener() (net.Listener, string, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, "", err
	}
	return l, fmt.Sprintf("http://%s/callback", l.Addr()), nil
}
