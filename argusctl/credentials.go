package main

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"slices"
	"strings"
	"time"
)

// source gives the token of each call. Where the token comes from decides whether there is another one.
type source interface {
	// token is what to send now. rejected is "", or the token that the server answered 401: another one is returned if
	// there is one, else the same.
	token(ctx context.Context, rejected string) (string, error)
	// from says where it comes from, for whoami.
	from() string
}

// fixedToken is a token that stays what it is.
type fixedToken struct{ text, where string }

func (t fixedToken) token(context.Context, string) (string, error) { return t.text, nil }
func (t fixedToken) from() string                                  { return t.where }

// maxTokenFile bounds a token's file in bytes.
const maxTokenFile = 16 << 10

// tokenFile is read anew for each call: what rotates it replaces the file.
type tokenFile struct {
	path, where string
	audience    string // what the token must be for; "" does not ask
}

func (t tokenFile) from() string { return t.where }

func (t tokenFile) token(context.Context, string) (string, error) {
	file, err := os.Open(t.path)
	if err != nil {
		return "", fmt.Errorf("%s: %w", t.where, err)
	}
	defer file.Close()
	data, err := io.ReadAll(io.LimitReader(file, maxTokenFile))
	if err != nil {
		return "", fmt.Errorf("%s: %w", t.where, err)
	}
	token := strings.TrimSpace(string(data))
	if token == "" {
		return "", fmt.Errorf("%s: the file is empty: %w", t.where, errNoToken)
	}
	if err := checkToken(token); err != nil {
		return "", err
	}
	return token, checkAudience(token, t.audience, t.where)
}

// jobToken is a GitHub Actions job's: the runner gives a new one whenever it is asked.
type jobToken struct {
	request  *url.URL // ACTIONS_ID_TOKEN_REQUEST_URL, with the audience
	bearer   string   // ACTIONS_ID_TOKEN_REQUEST_TOKEN
	audience string
	now      func() time.Time
	last     string
}

func (t *jobToken) from() string { return "the GitHub Actions job" }

func (t *jobToken) token(ctx context.Context, rejected string) (string, error) {
	if t.last != "" && t.last != rejected && t.now().Before(expiryOf(t.last).Add(-renewBefore)) {
		return t.last, nil
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, t.request.String(), nil)
	if err != nil {
		return "", err
	}
	request.Header.Set("Authorization", "Bearer "+t.bearer)
	request.Header.Set("Accept", "application/json; api-version=2.0")
	var given struct {
		Value string `json:"value"`
	}
	if err := askIssuer(issuerClient(nil), request, &given); err != nil {
		return "", fmt.Errorf("the job's token could not be had from GitHub Actions: %w", err)
	}
	if err := checkToken(given.Value); err != nil || given.Value == "" {
		return "", errors.New("GitHub Actions gave no token: does the job have `permissions: id-token: write`?")
	}
	t.last = given.Value
	return t.last, checkAudience(t.last, t.audience, t.from())
}

// renewBefore is how long before its end a token is replaced: what it begins must not be cut short at once.
const renewBefore = 20 * time.Second

// kubernetesToken is where a projected service-account token is looked for.
const kubernetesToken = "/var/run/secrets/argus/token"

// job finds the token of the CI job or pod that argusctl runs in; nil when there is none. Such a token is made for one
// server, whose address ARGUS_URL gives.
func (f *factory) job(server string) (source, error) {
	base, err := parseServer(server)
	if err != nil {
		return nil, err
	}
	audience := f.env("ARGUS_AUDIENCE")
	if audience == "" {
		audience = base.Scheme + "://" + base.Host
	}
	switch request, bearer := f.env("ACTIONS_ID_TOKEN_REQUEST_URL"), f.env("ACTIONS_ID_TOKEN_REQUEST_TOKEN"); {
	case request != "" && bearer != "":
		u, err := issuerAddress(request)
		if err != nil {
			return nil, usageErrorf("ACTIONS_ID_TOKEN_REQUEST_URL %v.", err)
		}
		query := u.Query()
		query.Set("audience", audience)
		u.RawQuery = query.Encode()
		return &jobToken{request: u, bearer: bearer, audience: audience, now: f.now}, nil
	case strings.TrimSpace(f.env("ARGUS_ID_TOKEN")) != "":
		token := strings.TrimSpace(f.env("ARGUS_ID_TOKEN"))
		return fixedToken{token, "ARGUS_ID_TOKEN"}, checkAudience(token, audience, "ARGUS_ID_TOKEN")
	}
	if _, err := os.Stat(kubernetesToken); err == nil {
		return tokenFile{kubernetesToken, kubernetesToken, audience}, nil
	}
	return nil, nil
}

// checkAudience holds a token back from a server that it was not made for. Only a JWT says for whom it is.
func checkAudience(token, audience, where string) error {
	claims, ok := claimsOf(token)
	if !ok {
		if audience == "" || strings.HasPrefix(token, "argus_") {
			return nil
		}
		return usageErrorf("%s holds a token that does not say which server it is for, so it is not sent.", where)
	}
	for _, a := range claims.audience {
		if a == claims.Issuer {
			return usageErrorf("The token of %s is for its own issuer (%s), so it is not sent to another server. Ask for one with the audience of your ARGUS.", where, harmless(a))
		}
	}
	if audience != "" && !slices.Contains(claims.audience, audience) {
		return usageErrorf("The token of %s is for %s, not for %s, so it is not sent. Ask for one with that audience, or set ARGUS_AUDIENCE.",
			where, harmless(strings.Join(claims.audience, ", ")), audience)
	}
	return nil
}

// jwtClaims are what argusctl reads of a token. It believes none of it: the server checks.
type jwtClaims struct {
	Issuer   string  `json:"iss"`
	Subject  string  `json:"sub"`
	Audience any     `json:"aud"`
	Expires  float64 `json:"exp"`
	Nonce    string  `json:"nonce"`
	audience []string
}

func claimsOf(token string) (jwtClaims, bool) {
	var c jwtClaims
	parts := strings.Split(token, ".")
	if len(parts) != 3 {
		return c, false
	}
	data, err := base64.RawURLEncoding.DecodeString(parts[1])
	if err != nil || unmarshal(data, &c) != nil {
		return c, false
	}
	switch aud := c.Audience.(type) {
	case string:
		c.audience = []string{aud}
	case []any:
		for _, a := range aud {
			if text, ok := a.(string); ok {
				c.audience = append(c.audience, text)
			}
		}
	}
	return c, true
}

// expiryOf is when a JWT ends; the zero time for any other token.
func expiryOf(token string) time.Time {
	if c, ok := claimsOf(token); ok && c.Expires > 0 && c.Expires < 1<<40 {
		return time.Unix(int64(c.Expires), 0)
	}
	return time.Time{}
}
