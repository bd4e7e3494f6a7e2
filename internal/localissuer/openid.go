package localissuer

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"maps"
	"net/http"
	"net/netip"
	"net/url"
	"slices"
	"strings"
	"sync"
	"time"
)

// OpenIDConfig is what an OpenID issuer is made of.
type OpenIDConfig struct {
	// URL is the issuer's address and name: http://127.0.0.1:port with a path or without.
	URL string
	// Key signs: *rsa.PrivateKey, *ecdsa.PrivateKey (P-256) or ed25519.PrivateKey. Nil: a new one of P-256.
	Key      crypto.Signer
	KeyFile  string        // keeps an RSA key from one start to the next; with it Key is nil
	Audience string        // of access tokens, and of tokens made by Token
	Lifetime time.Duration // of tokens; 0 means 5 minutes

	// Of an issuer of people. Without a client there is no sign-in.
	ClientID string
	// Redirects are where sign-ins may go back to. One without a port stands for every port (RFC 8252, 7.3).
	Redirects []string
	People    []Identity

	// Job are the claims of a CI job, of an issuer of workloads: GET /mint?audience=… gives {"value": token}, as GitHub
	// Actions does. Further claims come as claim=name=value.
	Job map[string]any
}

// Identity is who can sign in at an OpenID issuer.
type Identity struct {
	Subject, Name, Email string
	Groups               []string
}

// OpenID is an OpenID Connect issuer on loopback. It signs tokens, and lets every visitor sign in as any user, by code with
// PKCE or by the device grant (RFC 8628). A refresh token works once. Tokens can be revoked (RFC 7009).
// It is an http.Handler. Its knobs may be turned while it serves.
//
//	GET  /.well-known/openid-configuration   GET  /keys
//	GET  /authorize   POST /authorize        the sign-in page, and back to the redirect
//	POST /token       POST /revoke           POST /device
//	GET  /activate    POST /activate         where a device's code is entered
//	GET  /mint                               a CI job's token
type OpenID struct {
	config OpenIDConfig
	host   string
	prefix string
	mux    *http.ServeMux

	mu       sync.Mutex
	keys     []publishedKey // the last one signs
	people   map[string]Identity
	codes    map[string]grant  // by code
	devices  map[string]*grant // by device code
	refresh  map[string]grant  // by refresh token
	used     map[string]string // refresh token that was used, to its family
	requests map[string]int
	hook     http.HandlerFunc // answers instead, when it is not nil
}

type publishedKey struct {
	id  string
	key crypto.Signer
}

// grant is a sign-in on its way to tokens.
type grant struct {
	redirect, challenge, nonce, scope string
	userCode, family                  string
	person                            string // "" until a visitor chose one
	denied                            bool
	until                             time.Time
}

// NewOpenID makes an issuer.
func NewOpenID(config OpenIDConfig) (*OpenID, error) {
	u, err := url.Parse(config.URL)
	if err != nil || u.Scheme != "http" || u.RawQuery != "" || strings.HasSuffix(u.Path, "/") {
		return nil, fmt.Errorf("localissuer: URL %q must look like http://127.0.0.1:8421/people", config.URL)
	}
	if addr, err := netip.ParseAddr(u.Hostname()); err != nil || !addr.IsLoopback() {
		return nil, fmt.Errorf("localissuer: %q is not a loopback address", u.Hostname())
	}
	if config.Lifetime == 0 {
		config.Lifetime = 5 * time.Minute
	}
	o := &OpenID{config: config, host: u.Host, prefix: u.Path, people: map[string]Identity{}, codes: map[string]grant{},
		devices: map[string]*grant{}, refresh: map[string]grant{}, used: map[string]string{}, requests: map[string]int{}}
	if config.KeyFile != "" {
		key, err := loadKey(config.KeyFile)
		if err != nil {
			return nil, err
		}
		config.Key = key.key
	}
	if config.Key == nil {
		if config.Key, err = newP256(); err != nil {
			return nil, err
		}
	}
	o.keys = []publishedKey{{keyID(config.Key), config.Key}}
	for _, p := range config.People {
		o.people[p.Subject] = p
	}
	o.openIDRoutes()
	return o, nil
}

func keyID(key crypto.Signer) string {
	sum := sha256.Sum256(fmt.Append(nil, key.Public()))
	return hex.EncodeToString(sum[:8])
}

// Prefix is the path below which the issuer serves, "" for all.
func (o *OpenID) Prefix() string { return o.prefix }

// ServeHTTP answers only under the issuer's own name.
func (o *OpenID) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.Host != o.host {
		http.Error(w, "this is "+o.config.URL, http.StatusMisdirectedRequest)
		return
	}
	path := strings.TrimPrefix(r.URL.Path, o.prefix)
	o.mu.Lock()
	o.requests[path]++
	hook := o.hook
	o.mu.Unlock()
	if hook != nil {
		hook(w, r)
		return
	}
	secure(w.Header())
	o.mux.ServeHTTP(w, r)
}

// secure are the headers of every answer.
func secure(h http.Header) {
	h.Set("Cache-Control", "no-store")
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Referrer-Policy", "same-origin") // no-referrer would make the Origin of the form "null"
	h.Set("Content-Security-Policy", "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; frame-ancestors 'none'")
}

// Serve runs the issuer itself while another handler is hooked before it.
func (o *OpenID) Serve(w http.ResponseWriter, r *http.Request) { o.mux.ServeHTTP(w, r) }

// ── tokens ──────────────────────────────────────────────────────────────────────────────────────────

// Claims returns those of a good token for the audience; edit changes them.
func (o *OpenID) Claims(subject string, edit ...func(Claims)) Claims {
	now := time.Now()
	c := Claims{"iss": o.config.URL, "sub": subject, "aud": o.config.Audience, "iat": now.Unix(), "nbf": now.Unix(),
		"exp": now.Add(o.config.Lifetime).Unix(), "jti": rand.Text()}
	o.mu.Lock()
	p, known := o.people[subject]
	o.mu.Unlock()
	if known {
		c["name"], c["email"], c["groups"] = p.Name, p.Email, p.Groups
		if o.config.ClientID != "" {
			c["azp"] = o.config.ClientID
		}
	}
	for _, f := range edit {
		f(c)
	}
	return c
}

// Token signs a good token of the subject.
func (o *OpenID) Token(subject string, edit ...func(Claims)) string {
	return o.Sign(nil, o.Claims(subject, edit...))
}

// Sign signs claims with the newest key; header replaces the usual one's fields, and removes those that are nil.
func (o *OpenID) Sign(header map[string]any, claims any) string {
	o.mu.Lock()
	k := o.keys[len(o.keys)-1]
	o.mu.Unlock()
	return k.sign(header, segment(claims))
}

// SignRaw signs a payload as it is.
func (o *OpenID) SignRaw(header map[string]any, payload []byte) string {
	o.mu.Lock()
	k := o.keys[len(o.keys)-1]
	o.mu.Unlock()
	return k.sign(header, base64.RawURLEncoding.EncodeToString(payload))
}

func (k publishedKey) sign(header map[string]any, payload string) string {
	h := map[string]any{"alg": k.algorithm(), "typ": "JWT", "kid": k.id}
	maps.Copy(h, header)
	maps.DeleteFunc(h, func(_ string, v any) bool { return v == nil })
	text := segment(h) + "." + payload
	sum := sha256.Sum256([]byte(text))
	var signature []byte
	var err error
	switch key := k.key.(type) {
	case *rsa.PrivateKey:
		signature, err = rsa.SignPKCS1v15(nil, key, crypto.SHA256, sum[:])
	case *ecdsa.PrivateKey:
		r, s, signErr := ecdsa.Sign(rand.Reader, key, sum[:])
		if err = signErr; err == nil {
			signature = append(r.FillBytes(make([]byte, 32)), s.FillBytes(make([]byte, 32))...)
		}
	case ed25519.PrivateKey:
		signature = ed25519.Sign(key, []byte(text))
	}
	if err != nil {
		panic(err) // the keys are whole
	}
	return text + "." + base64.RawURLEncoding.EncodeToString(signature)
}

func (k publishedKey) algorithm() string {
	switch k.key.(type) {
	case *rsa.PrivateKey:
		return "RS256"
	case *ecdsa.PrivateKey:
		return "ES256"
	}
	return "EdDSA"
}

func (k publishedKey) public() map[string]any {
	jwk := map[string]any{"use": "sig", "alg": k.algorithm(), "kid": k.id}
	b64 := base64.RawURLEncoding.EncodeToString
	switch key := k.key.(type) {
	case *rsa.PrivateKey:
		return (&signingKey{k.id, key}).jwk()
	case *ecdsa.PrivateKey:
		point, err := key.PublicKey.Bytes()
		if err != nil {
			panic(err) // the key is whole
		}
		jwk["kty"], jwk["crv"], jwk["x"], jwk["y"] = "EC", "P-256", b64(point[1:33]), b64(point[33:])
	case ed25519.PrivateKey:
		jwk["kty"], jwk["crv"], jwk["x"] = "OKP", "Ed25519", b64(key.Public().(ed25519.PublicKey))
	}
	return jwk
}

// ── knobs ───────────────────────────────────────────────────────────────────────────────────────────

// Hook makes f answer every request, until it is nil again.
func (o *OpenID) Hook(f http.HandlerFunc) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.hook = f
}

// UseKey signs with a key from now on, under an id ("" for its own); the old ones stay published if keep is set.
func (o *OpenID) UseKey(id string, key crypto.Signer, keep bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if id == "" {
		id = keyID(key)
	}
	if !keep {
		o.keys = nil
	}
	o.keys = append(o.keys, publishedKey{id, key})
}

// KeyID is the id of the key that signs.
func (o *OpenID) KeyID() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.keys[len(o.keys)-1].id
}

// SetPerson adds a person or replaces the one of that subject.
func (o *OpenID) SetPerson(p Identity) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.people[p.Subject] = p
}

// Asked counts the requests of a path below the issuer's.
func (o *OpenID) Asked(path string) int {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.requests[path]
}

// ── discovery, tokens, revocation ───────────────────────────────────────────────────────────────────

func (o *OpenID) openIDRoutes() {
	o.mux = http.NewServeMux()
	handle := func(pattern string, f http.HandlerFunc) {
		method, path, _ := strings.Cut(pattern, " ")
		o.mux.HandleFunc(method+" "+o.prefix+path, f)
	}
	cross := func(path string, f http.HandlerFunc) { // a page of the console may read the answer
		handle("POST "+path, func(w http.ResponseWriter, r *http.Request) {
			if o.crossOrigin(w, r) {
				r.Body = http.MaxBytesReader(w, r.Body, 1<<16)
				f(w, r)
			}
		})
		handle("OPTIONS "+path, func(w http.ResponseWriter, r *http.Request) {
			if o.crossOrigin(w, r) {
				w.Header().Set("Access-Control-Allow-Headers", "Content-Type")
				w.WriteHeader(http.StatusNoContent)
			}
		})
	}
	handle("GET /.well-known/openid-configuration", o.describe)
	handle("GET /keys", o.getOpenIDKeys)
	if o.config.Job != nil {
		handle("GET /mint", o.mint)
	}
	if o.config.ClientID == "" {
		return
	}
	handle("GET /authorize", o.authorizePage)
	handle("POST /authorize", o.authorize)
	cross("/token", o.token)
	cross("/revoke", o.revoke)
	handle("POST /device", o.device)
	handle("GET /activate", o.activatePage)
	handle("POST /activate", o.activate)
}

func (o *OpenID) crossOrigin(w http.ResponseWriter, r *http.Request) bool {
	origin := r.Header.Get("Origin")
	if origin == "" {
		return true
	}
	w.Header().Set("Vary", "Origin")
	if !slices.ContainsFunc(o.config.Redirects, func(redirect string) bool {
		u, err := url.Parse(redirect)
		return err == nil && originOf(u) == origin
	}) {
		oauthError(w, http.StatusForbidden, "invalid_request")
		return false
	}
	w.Header().Set("Access-Control-Allow-Origin", origin)
	return true
}

func (o *OpenID) describe(w http.ResponseWriter, _ *http.Request) {
	d := map[string]any{"issuer": o.config.URL, "jwks_uri": o.config.URL + "/keys", "response_types_supported": []string{"code"},
		"subject_types_supported": []string{"public"}, "id_token_signing_alg_values_supported": []string{"RS256", "ES256", "EdDSA"}}
	if o.config.ClientID != "" {
		for name, path := range map[string]string{"authorization_endpoint": "/authorize", "token_endpoint": "/token",
			"device_authorization_endpoint": "/device", "revocation_endpoint": "/revoke"} {
			d[name] = o.config.URL + path
		}
		d["code_challenge_methods_supported"] = []string{"S256"}
		d["authorization_response_iss_parameter_supported"] = true
	}
	answer(w, http.StatusOK, d)
}

func (o *OpenID) getOpenIDKeys(w http.ResponseWriter, _ *http.Request) {
	o.mu.Lock()
	keys := []any{}
	for _, k := range o.keys {
		keys = append(keys, k.public())
	}
	o.mu.Unlock()
	answer(w, http.StatusOK, map[string]any{"keys": keys})
}

func oauthError(w http.ResponseWriter, status int, code string) {
	answer(w, status, map[string]any{"error": code})
}

// token is the token endpoint of a public client.
func (o *OpenID) token(w http.ResponseWriter, r *http.Request) {
	if r.PostFormValue("client_id") != o.config.ClientID {
		oauthError(w, http.StatusUnauthorized, "invalid_client")
		return
	}
	now := time.Now()
	o.mu.Lock()
	defer o.mu.Unlock()
	var g grant
	problem := "invalid_grant"
	switch r.PostFormValue("grant_type") {
	case "authorization_code":
		code := r.PostFormValue("code")
		found, ok := o.codes[code]
		delete(o.codes, code) // used once, well or not
		sum := sha256.Sum256([]byte(r.PostFormValue("code_verifier")))
		if ok && now.Before(found.until) && found.redirect == r.PostFormValue("redirect_uri") &&
			subtle.ConstantTimeCompare([]byte(found.challenge), []byte(base64.RawURLEncoding.EncodeToString(sum[:]))) == 1 {
			g, problem = found, ""
		}
	case "urn:ietf:params:oauth:grant-type:device_code":
		switch found, ok := o.devices[r.PostFormValue("device_code")]; {
		case !ok:
		case now.After(found.until):
			problem = "expired_token"
		case found.denied:
			problem = "access_denied"
		case found.person == "":
			problem = "authorization_pending"
		default:
			g, problem = *found, ""
			delete(o.devices, r.PostFormValue("device_code"))
		}
	case "refresh_token":
		token := r.PostFormValue("refresh_token")
		if family := o.used[token]; family != "" { // used twice: a thief has it, or had it
			maps.DeleteFunc(o.refresh, func(_ string, g grant) bool { return g.family == family })
		} else if found, ok := o.refresh[token]; ok {
			g, problem = found, ""
			g.nonce = ""
			delete(o.refresh, token)
			o.used[token] = found.family
		}
	default:
		problem = "unsupported_grant_type"
	}
	person, known := o.people[g.person]
	if problem == "" && !known {
		problem = "invalid_grant"
	}
	if problem != "" {
		oauthError(w, http.StatusBadRequest, problem)
		return
	}
	if g.family == "" {
		g.family = rand.Text()
	}
	answerTokens(w, o, g, person)
}

// answerTokens is called with the lock.
func answerTokens(w http.ResponseWriter, o *OpenID, g grant, person Identity) {
	now := time.Now()
	claims := Claims{"iss": o.config.URL, "sub": person.Subject, "aud": o.config.Audience, "azp": o.config.ClientID, "iat": now.Unix(),
		"exp": now.Add(o.config.Lifetime).Unix(), "jti": rand.Text(), "name": person.Name, "email": person.Email, "groups": person.Groups}
	k := o.keys[len(o.keys)-1]
	access := k.sign(map[string]any{"typ": "at+jwt"}, segment(claims))
	claims["aud"] = o.config.ClientID
	if g.nonce != "" {
		claims["nonce"] = g.nonce
	}
	g.nonce = ""
	refresh := rand.Text() + rand.Text()
	o.refresh[refresh] = g
	answer(w, http.StatusOK, map[string]any{"access_token": access, "token_type": "Bearer", "expires_in": int(o.config.Lifetime.Seconds()),
		"id_token": k.sign(nil, segment(claims)), "refresh_token": refresh, "scope": g.scope})
}

// mint answers a CI job with its token.
func (o *OpenID) mint(w http.ResponseWriter, r *http.Request) {
	claims := o.Claims("repo:acme/fleet")
	maps.Copy(claims, o.config.Job)
	if audience := r.URL.Query().Get("audience"); audience != "" {
		claims["aud"] = audience
	}
	for _, pair := range r.URL.Query()["claim"] {
		name, value, _ := strings.Cut(pair, "=")
		claims[name] = value
	}
	answer(w, http.StatusOK, map[string]any{"value": o.Sign(nil, claims)})
}

// revoke ends a refresh token and its family (RFC 7009): what is unknown is answered as well.
func (o *OpenID) revoke(w http.ResponseWriter, r *http.Request) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if g, ok := o.refresh[r.PostFormValue("token")]; ok {
		maps.DeleteFunc(o.refresh, func(_ string, other grant) bool { return other.family == g.family })
	}
	w.WriteHeader(http.StatusOK)
}
