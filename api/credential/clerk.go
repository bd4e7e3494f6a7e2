package credential

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/netip"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/clerk/clerk-sdk-go/v2"
	"github.com/clerk/clerk-sdk-go/v2/organizationmembership"
	"github.com/clerk/clerk-sdk-go/v2/session"
	"github.com/clerk/clerk-sdk-go/v2/user"
	"github.com/go-jose/go-jose/v4"
	exact "github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"github.com/useargus/argus"
)

// ClerkConfig says whose sessions are believed. The zero value is no Clerk at all. Otherwise all of it but
// PublishableKey, Local and LocalSignInURL is required.
type ClerkConfig struct {
	Issuer            string   // the exact issuer of session tokens
	SecretKey         string   // of the backend API
	PublishableKey    string   // what the console signs in with; empty without a console
	APIURL            string   // the backend API, with its version: https://api.clerk.com/v1
	AuthorizedParties []string // origins whose tokens are taken (azp)
	Organization      string   // org_…: any Clerk user may found an organization, only this one counts

	// RoleScopes maps roles and permissions of that organization to scopes and presets, expanded at each use
	// (argus.ExpandScopes). What is not in it gives none.
	RoleScopes map[string][]argus.Scope

	// Local takes an issuer on loopback over plain http: argusd dev's, never argusd api's.
	Local          bool
	LocalSignInURL string // the local issuer's page
}

// IsSet reports whether there is a Clerk.
func (c *ClerkConfig) IsSet() bool {
	return c.Issuer != "" || c.SecretKey != "" || c.PublishableKey != "" || c.Organization != "" || len(c.AuthorizedParties) > 0
}

func (c *ClerkConfig) check() error {
	if c.Issuer == "" || c.SecretKey == "" || c.APIURL == "" || c.Organization == "" || len(c.AuthorizedParties) == 0 {
		return errors.New("api: Clerk's Issuer, SecretKey, APIURL, AuthorizedParties and Organization are required")
	}
	for name, s := range map[string]string{"issuer": c.Issuer, "API URL": c.APIURL} {
		u, err := url.Parse(s)
		switch {
		case err != nil || u.Host == "" || u.User != nil || u.RawQuery != "" || u.Fragment != "":
			return fmt.Errorf("api: Clerk's %s %q is no URL", name, s)
		case c.Local:
			if addr, err := netip.ParseAddr(u.Hostname()); err != nil || !addr.IsLoopback() {
				return fmt.Errorf("api: a local issuer must be on loopback, not %q", s)
			}
		case u.Scheme != "https":
			return fmt.Errorf("api: Clerk's %s %q must be https", name, s)
		}
	}
	for _, s := range c.AuthorizedParties {
		if u, err := url.Parse(s); err != nil || u.Scheme == "" || u.Host == "" || u.Path != "" || s == "*" {
			return fmt.Errorf("api: the authorized party %q must be an origin like https://ops.example.com", s)
		}
	}
	return nil
}

// clerkIdentity knows Clerk's keys, and what Clerk knows of users: people and rights.
type clerkIdentity struct {
	config   ClerkConfig
	http     *http.Client
	backend  clerk.Backend
	members  *organizationmembership.Client
	users    *user.Client
	sessions *session.Client
	keys     *keyring
	base     context.Context                 // ends with the Verifier's owner
	run      func(func(ctx context.Context)) // runs in the owner's background
	heard    func(key string)                // told when a person's rights or a session turn out to have changed
	left     func(id, why string, was bool)  // told when a person may not sign in any more, and with "" when they may; was: they were known
	now      func() time.Time

	directory
}

func newClerkIdentity(base context.Context, owner *Config) (*clerkIdentity, error) {
	config := owner.Clerk
	if err := config.check(); err != nil {
		return nil, err
	}
	transport := http.DefaultTransport.(*http.Transport).Clone()
	transport.MaxIdleConnsPerHost = 8
	client := &http.Client{
		Transport: boundedBodies{transport},
		Timeout:   issuerTimeout,
		// The secret key goes to no other place.
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	sdk := clerk.BackendConfig{URL: &config.APIURL, Key: &config.SecretKey, HTTPClient: client}
	backend := clerk.NewBackend(&sdk)
	c := &clerkIdentity{
		config: config, http: client, backend: backend, base: base, run: owner.Run, heard: owner.Heard, now: owner.Now,
		members: &organizationmembership.Client{Backend: backend}, users: &user.Client{Backend: backend},
		sessions: &session.Client{Backend: backend},
	}
	c.keys = &keyring{issuer: "Clerk", algorithms: []jose.SignatureAlgorithm{jose.RS256}, base: base, run: owner.Run, now: owner.Now,
		fetch: c.keySet}
	c.directory.init()
	return c, nil
}

// keySet fetches the instance's keys.
func (c *clerkIdentity) keySet(ctx context.Context) ([]byte, error) {
	var set rawAnswer
	if err := c.backend.Call(ctx, clerk.NewAPIRequest(http.MethodGet, "/jwks"), &set); err != nil {
		return nil, err
	}
	if len(set.body) > maxKeySet {
		return nil, fmt.Errorf("the key set holds more than %d bytes", maxKeySet)
	}
	return set.body, nil
}

// rawAnswer is an answer of Clerk's as it came.
type rawAnswer struct{ body []byte }

func (a *rawAnswer) Read(r *clerk.APIResponse)       {}
func (a *rawAnswer) UnmarshalJSON(data []byte) error { a.body = slices.Clone(data); return nil }

// boundedBodies cuts answers off at 2 MiB: the SDK reads them whole.
type boundedBodies struct{ next http.RoundTripper }

func (b boundedBodies) RoundTrip(r *http.Request) (*http.Response, error) {
	resp, err := b.next.RoundTrip(r)
	if err == nil {
		resp.Body = struct {
			io.Reader
			io.Closer
		}{io.LimitReader(resp.Body, 2<<20), resp.Body}
	}
	return resp, err
}

func (b boundedBodies) CloseIdleConnections() { b.next.(*http.Transport).CloseIdleConnections() }

// sessionClaims are a session token's own claims, each under exactly its name.
type sessionClaims struct {
	Version      int            `json:"v"`
	SessionID    string         `json:"sid"`
	Status       string         `json:"sts"`
	Organization string         `json:"org_id"`
	Role         string         `json:"org_role"`
	Permissions  []string       `json:"org_permissions"`
	Actor        jsontext.Value `json:"act"`

	// Version 2 has the organization's in o, and its permissions as bits.
	Features string `json:"fea"`
	Compact  struct {
		ID          string `json:"id"`
		Role        string `json:"rol"`
		Permissions string `json:"per"`
		Mappings    string `json:"fpm"`
	} `json:"o"`
}

// maxSessionToken bounds the time from iat to exp of a session token. Clerk issues them for a minute. Only its JWT
// templates, which an administrator may set to ten years, make longer ones, and such a token outlives every revocation.
const maxSessionToken = time.Hour

// verify checks a Clerk session token. A key of this instance signed it with RS256, and the issuer is exactly ours. It is
// for one of our consoles and within its time. Its session is fully signed in, in the one organization.
func (c *clerkIdentity) verify(ctx context.Context, t *signedToken) (*Credential, error) {
	if t.kind != "" && t.kind != "jwt" {
		// An OAuth access token or a machine's is signed with the same keys.
		return nil, unauthenticated(reasonToken, fmt.Errorf("a token of type %q", argus.Text(t.kind, 32)))
	}
	if err := c.keys.check(ctx, t); err != nil {
		return nil, err
	}
	if err := t.within(time.Now(), maxSessionToken); err != nil {
		return nil, err
	}
	var claims sessionClaims
	if err := exact.Unmarshal(t.payload, &claims); err != nil {
		return nil, unauthenticated(reasonToken, errors.New("a claim of the session is of another type"))
	}
	if claims.Version == 2 && claims.Compact.ID != "" {
		claims.Organization, claims.Role = claims.Compact.ID, "org:"+claims.Compact.Role
		claims.Permissions = claims.compactPermissions()
	}
	switch {
	case t.issuer != c.config.Issuer:
		return nil, unauthenticated(reasonToken, errors.New("another issuer's (iss)"))
	case !c.ours(t.party):
		return nil, unauthenticated(reasonToken, errors.New("azp is not ours"))
	case claims.Status == "pending":
		return nil, unauthenticated(reasonPending, nil)
	case claims.Status != "" && claims.Status != "active":
		return nil, unauthenticated(reasonToken, errors.New("the session's status is not active"))
	case claims.SessionID == "":
		return nil, unauthenticated(reasonToken, errors.New("no sid: not a session's token"))
	case !validUserID(t.subject):
		return nil, unauthenticated(reasonToken, errors.New("sub is not a user"))
	case claims.Organization != c.config.Organization:
		return nil, unauthenticated(reasonOrganiz, fmt.Errorf("org_id is %q", argus.Text(claims.Organization, 64)))
	}
	impersonator, err := actorClaim(claims.Actor)
	if err != nil {
		return nil, unauthenticated(reasonToken, err)
	}
	actor := argus.Actor{
		ID: t.subject, ImpersonatorID: impersonator, Kind: argus.KindClerkSession,
		Scopes: c.scopes(claims.Role, claims.Permissions),
	}
	actor.Preset = argus.PresetOf(actor.Scopes)
	return &Credential{Actor: actor, Principal: "session of " + actor.ID, Expires: t.expires.Add(leeway),
		SessionID: claims.SessionID}, nil
}

// compactPermissions spells out the permissions that version 2 packs. For each of the organization's features ("o:logs"),
// the number in fpm has one bit for each name in per.
func (c *sessionClaims) compactPermissions() []string {
	names, mappings := strings.Split(c.Compact.Permissions, ","), strings.Split(c.Compact.Mappings, ",")
	var permissions []string
	for i, feature := range strings.Split(c.Features, ",") {
		of, feature, ok := strings.Cut(feature, ":")
		if !ok || !strings.Contains(of, "o") || i >= len(mappings) {
			continue
		}
		bits, err := strconv.ParseUint(mappings[i], 10, 62)
		if err != nil || bits>>len(names) != 0 {
			continue
		}
		for j, name := range names {
			if bits>>j&1 == 1 {
				permissions = append(permissions, "org:"+feature+":"+name)
			}
		}
	}
	return permissions
}

// ours reports whether tokens of this party are taken.
func (c *clerkIdentity) ours(azp string) bool {
	return azp != "" && slices.Contains(c.config.AuthorizedParties, azp)
}

// actorClaim reads act, which names who impersonates the session's user. One that cannot be read is rejected:
// otherwise the impersonator's deed would be put down to the user.
func actorClaim(raw jsontext.Value) (string, error) {
	if len(raw) == 0 || string(raw) == "null" {
		return "", nil
	}
	var act struct {
		Subject string `json:"sub"`
	}
	if err := exact.Unmarshal(raw, &act); err != nil || act.Subject == "" {
		return "", errors.New("act has no subject")
	}
	return act.Subject, nil
}

// renew answers for a session whose token has expired: Clerk is asked whether the session is still active, and
// what its user may do now.
func (c *clerkIdentity) renew(ctx context.Context, old *Credential) (*Credential, error) {
	ctx, cancel := context.WithTimeout(ctx, issuerTimeout)
	defer cancel()
	s, err := c.sessions.Get(ctx, url.PathEscape(old.SessionID))
	switch {
	case isNotFound(err):
		c.heard(sessionKey(old.SessionID))
		return nil, unauthenticated(reasonRevoked, nil)
	case err != nil:
		return nil, issuerAway("Clerk", err)
	case s.ID != old.SessionID || s.UserID != old.Actor.ID || s.Status != "active":
		c.heard(sessionKey(old.SessionID))
		return nil, unauthenticated(reasonRevoked, fmt.Errorf("the session is %q", argus.Text(s.Status, 32)))
	}
	owner, err := c.owner(ctx, old.Actor.ID)
	if err != nil {
		return nil, err
	}
	renewed := *old
	renewed.Actor.Scopes = argus.ExpandScopes(owner.scopes)
	renewed.Actor.Preset = argus.PresetOf(renewed.Actor.Scopes)
	return &renewed, nil
}

// scopes gives what a role and permissions are mapped to now, in the order of argus.AllScopes.
func (c *clerkIdentity) scopes(role string, permissions []string) []argus.Scope {
	return argus.ExpandScopes(c.granted(role, permissions))
}

// granted gives what a role and permissions are mapped to, presets by name.
func (c *clerkIdentity) granted(role string, permissions []string) []argus.Scope {
	var granted []argus.Scope
	for _, name := range append([]string{role}, permissions...) {
		granted = append(granted, c.config.RoleScopes[name]...)
	}
	return granted
}

// validUserID: a Clerk user's id, which also goes into a path of Clerk's API.
func validUserID(id string) bool {
	rest, ok := strings.CutPrefix(id, "user_")
	if !ok || rest == "" || len(id) > 100 {
		return false
	}
	for _, r := range rest {
		if (r < 'a' || r > 'z') && (r < 'A' || r > 'Z') && (r < '0' || r > '9') && r != '_' && r != '-' {
			return false
		}
	}
	return true
}

func isNotFound(err error) bool {
	var e *clerk.APIErrorResponse
	return errors.As(err, &e) && e.HTTPStatusCode == http.StatusNotFound
}
