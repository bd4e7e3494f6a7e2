package providers

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"encoding/base64"
	"encoding/json"
	"net/http"
	"net/url"
	"reflect"
	"strings"
	"sync"
	"testing"

	"github.com/go-jose/go-jose/v3"
	"github.com/ory/fosite"
	"github.com/ory/fosite/compose"
	"github.com/ory/fosite/handler/openid"
	"github.com/ory/fosite/storage"
	"github.com/ory/fosite/token/jwt"

	"github.com/useargus/argus"
)

// person is a session as Ory Hydra makes it: what a token says beyond the standard stands under ext, and client_id beside it.
type person struct {
	*openid.DefaultSession
	party string // azp, which fosite leaves out
}

func (p *person) Clone() fosite.Session {
	return &person{p.DefaultSession.Clone().(*openid.DefaultSession), p.party}
}

func (p *person) GetJWTHeader() *jwt.Headers { return &jwt.Headers{} }

// GetJWTClaims are new ones each time: fosite keeps an iat that is set, also when it renews.
func (p *person) GetJWTClaims() jwt.JWTClaimsContainer {
	extra := map[string]any{"client_id": clientID, "ext": map[string]any{"name": "Test User", "groups": []string{"sre"}}}
	if p.party != "" {
		extra["azp"] = p.party
	}
	return &jwt.JWTClaims{Subject: p.Subject, Extra: extra}
}

// fositeServer is what a provider adds to fosite: a description of itself, its keys, and a page to sign in on.
type fositeServer struct {
	*http.ServeMux
	store *storage.MemoryStore

	mu       sync.Mutex
	audience []string // that access tokens are granted
	party    string
	renewals []string // refresh tokens that were sent
}

func (s *fositeServer) grant(party string, audience ...string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.party, s.audience = party, audience
}

func (s *fositeServer) renewed() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.renewals
}

func newFosite(issuer string) *fositeServer {
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		panic(err)
	}
	key := &jose.JSONWebKey{Key: private, KeyID: "fosite", Algorithm: "ES256", Use: "sig"}
	s := &fositeServer{ServeMux: http.NewServeMux(), store: storage.NewMemoryStore()}
	s.store.Users["ada"] = storage.MemoryUserRelation{Username: "ada", Password: "verysecure"}
	s.store.Clients[clientID] = &fosite.DefaultClient{ID: clientID, Public: true, RedirectURIs: []string{"http://127.0.0.1/callback"},
		GrantTypes: []string{"authorization_code", "refresh_token"}, ResponseTypes: []string{"code"},
		Scopes: []string{"openid", "profile", "offline_access"}, Audience: []string{"https://argus.example", "https://other.example"}}
	config := &fosite.Config{IDTokenIssuer: issuer, AccessTokenIssuer: issuer, EnforcePKCE: true, GlobalSecret: []byte(rand.Text() + rand.Text())[:32]}
	signer := func(context.Context) (any, error) { return key, nil }
	provider := compose.Compose(config, s.store, &compose.CommonStrategy{
		CoreStrategy:               compose.NewOAuth2JWTStrategy(signer, compose.NewOAuth2HMACStrategy(config), config),
		OpenIDConnectTokenStrategy: compose.NewOpenIDConnectStrategy(signer, config),
	}, compose.OAuth2AuthorizeExplicitFactory, compose.OAuth2RefreshTokenGrantFactory, compose.OpenIDConnectExplicitFactory,
		compose.OpenIDConnectRefreshFactory, compose.OAuth2TokenRevocationFactory, compose.OAuth2PKCEFactory)

	document := func(path string, content any) {
		s.HandleFunc("GET "+path, func(w http.ResponseWriter, _ *http.Request) { _ = json.NewEncoder(w).Encode(content) })
	}
	document("/.well-known/openid-configuration", map[string]any{"issuer": issuer, "jwks_uri": issuer + "/keys",
		"authorization_endpoint": issuer + "/auth", "token_endpoint": issuer + "/token", "revocation_endpoint": issuer + "/revoke"})
	document("/keys", jose.JSONWebKeySet{Keys: []jose.JSONWebKey{key.Public()}})
	s.HandleFunc("POST /auth", func(w http.ResponseWriter, r *http.Request) {
		request, err := provider.NewAuthorizeRequest(r.Context(), r)
		if err == nil {
			_, err = s.store.Authenticate(r.Context(), r.PostFormValue("username"), r.PostFormValue("password"))
		}
		if err != nil {
			provider.WriteAuthorizeError(r.Context(), w, request, err)
			return
		}
		for _, scope := range request.GetRequestedScopes() {
			request.GrantScope(scope)
		}
		s.mu.Lock()
		for _, audience := range s.audience {
			request.GrantAudience(audience)
		}
		session := &person{openid.NewDefaultSession(), s.party}
		s.mu.Unlock()
		session.Subject, session.Claims.Subject = "ada", "ada"
		session.Claims.Extra = map[string]any{"name": "Test User", "groups": []string{"sre"}}
		response, err := provider.NewAuthorizeResponse(r.Context(), request, session)
		if err != nil {
			provider.WriteAuthorizeError(r.Context(), w, request, err)
			return
		}
		provider.WriteAuthorizeResponse(r.Context(), w, request, response)
	})
	s.HandleFunc("POST /token", func(w http.ResponseWriter, r *http.Request) {
		if sent := r.PostFormValue("refresh_token"); sent != "" {
			s.mu.Lock()
			s.renewals = append(s.renewals, sent)
			s.mu.Unlock()
		}
		request, err := provider.NewAccessRequest(r.Context(), r, &person{DefaultSession: openid.NewDefaultSession()})
		if err != nil {
			provider.WriteAccessError(r.Context(), w, request, err)
			return
		}
		response, err := provider.NewAccessResponse(r.Context(), request)
		if err != nil {
			provider.WriteAccessError(r.Context(), w, request, err)
			return
		}
		provider.WriteAccessResponse(r.Context(), w, request, response)
	})
	s.HandleFunc("POST /revoke", func(w http.ResponseWriter, r *http.Request) {
		provider.WriteRevocationResponse(r.Context(), w, provider.NewRevocationRequest(r.Context(), r))
	})
	return s
}

// TestFosite signs in by browser with argusctl, renews, signs out, and is signed out by fosite when a refresh token comes
// twice. It does so with ID tokens, and with access tokens in the shape of Ory Hydra.
func TestFosite(t *testing.T) {
	for _, c := range []struct{ kind, audience, claims string }{
		{"id_token", clientID, "{}"},
		{"access_token", "https://argus.example", "{name: /ext/name, groups: /ext/groups}"},
	} {
		t.Run(c.kind, func(t *testing.T) {
			var provider *fositeServer
			issuer := serve(t, func(issuer string) http.Handler {
				provider = newFosite(issuer)
				return provider
			})
			provider.grant("", "https://argus.example")
			d := newDesk(t, `issuers:
  - name: fosite
    issuer: `+issuer+`
    audience: `+c.audience+`
    kind: people
    claims: `+c.claims+`
    scopes: {sre: support-readonly, others: admin-full}
    sign_in: {client_id: argus, scopes: [openid, profile, offline_access]}
`)
			if d.probe.Device != "" || d.issuer.UsesIDToken() != (c.kind == "id_token") {
				t.Fatalf("%+v", d.probe)
			}
			byBrowser := func(line string) bool {
				if !strings.HasPrefix(line, issuer+"/auth?") {
					return false
				}
				resp, err := http.PostForm(line, url.Values{"username": {"ada"}, "password": {"verysecure"}})
				if said, _ := read(t, resp, err); !strings.Contains(said, "You are signed in") {
					t.Fatalf("the browser sees %s", said)
				}
				return true
			}
			// renew asks fosite itself, as a thief of the refresh token would.
			renew := func(refresh string) int {
				resp, err := http.PostForm(issuer+"/token", url.Values{"grant_type": {"refresh_token"}, "refresh_token": {refresh}, "client_id": {clientID}})
				if err != nil {
					t.Fatal(err)
				}
				resp.Body.Close()
				return resp.StatusCode
			}

			actor := d.signInOnce(byBrowser)
			if actor.ID != "fosite:ada" || actor.Kind != argus.KindOIDCSession || actor.Preset != argus.PresetSupportReadonly {
				t.Errorf("the person is %+v", actor)
			}
			// fosite takes a refresh token once. argusctl must have kept the second, and send it for the third call.
			d.run(nil, "whoami")
			sent := provider.renewed()
			if len(sent) != 2 || sent[0] == sent[1] {
				t.Errorf("%d refresh tokens were sent: %v", len(sent), sent)
			}
			// One that comes twice ends the whole sign-in, and argusctl says what to do.
			if status := renew(sent[0]); status != http.StatusBadRequest {
				t.Errorf("a used refresh token is answered %d", status)
			}
			if said, err := d.try(nil, "whoami"); err == nil || !strings.Contains(said, "fosite does not renew it. Sign in again") {
				t.Errorf("whoami says %s %v", said, err)
			}

			d.signInOnce(byBrowser)
			d.signOut()
			for _, refresh := range provider.store.RefreshTokenRequestIDs {
				if stored, err := provider.store.GetRefreshTokenSession(t.Context(), refresh, nil); err == nil {
					t.Errorf("after logout fosite still renews %v", stored.GetID())
				}
			}
			if c.kind == "id_token" {
				return
			}

			tokens, _, _ := d.taken()
			var claims map[string]any
			if payload, err := base64.RawURLEncoding.DecodeString(strings.Split(tokens[0], ".")[1]); err != nil || json.Unmarshal(payload, &claims) != nil {
				t.Fatal(err)
			}
			shape := map[string]any{"aud": []any{"https://argus.example"}, "scp": []any{"openid", "profile", "offline_access"},
				"ext": map[string]any{"name": "Test User", "groups": []any{"sre"}}}
			for name, want := range shape {
				if !reflect.DeepEqual(claims[name], want) {
					t.Errorf("%s is %v: fosite has another shape now", name, claims[name])
				}
			}
			for _, a := range []struct {
				party    string
				audience []string
				why      string
			}{
				{"", []string{"https://other.example"}, "for another audience (aud)"},
				{"", nil, "aud is an empty list"},
				{"", []string{"https://argus.example", "https://other.example"}, "for other audiences too (aud)"},
				{"other", []string{"https://argus.example"}, "asked for by another client (azp"},
				{clientID, []string{"https://other.example", "https://argus.example"}, ""},
			} {
				provider.grant(a.party, a.audience...)
				said, err := d.try(byBrowser, "login", "--url", d.url, "--issuer", issuer, "--no-browser")
				_, _, rejected := d.taken()
				if a.why == "" && (err != nil || rejected != nil) || a.why != "" && (err == nil || rejected == nil || !strings.Contains(rejected.Error(), a.why)) {
					t.Errorf("azp %q, aud %v: %v, and login says %s %v", a.party, a.audience, rejected, said, err)
				}
			}
		})
	}
}
