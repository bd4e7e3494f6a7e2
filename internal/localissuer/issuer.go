// Package localissuer plays issuers on loopback, so that `argusd dev` and the tests run the very code that production
// runs. Every visitor can sign in as anybody.
//
// An OpenID plays an issuer of OpenID Connect, of people or of workloads. An Issuer plays Clerk: it signs the same
// session tokens and answers the few calls of Clerk's backend API that ARGUS makes. argusd api takes no Clerk that is
// not https.
//
//	backend API (bearer: the secret key)      browser
//	GET /v1/jwks                              GET  /sign-in?redirect_url=…&state=…   choose an operator
//	GET /v1/users?user_id=…                   POST /sign-in                          back to redirect_url
//	GET /v1/users/{id}                        POST /token      (bearer: the refresh token) a new session token
//	GET /v1/organizations/{org}/memberships   POST /sign-out   (bearer: the refresh token) ends the session
//	GET /v1/sessions/{id}
package localissuer

import (
	"crypto"
	"crypto/hmac"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"math/big"
	"net/http"
	"net/netip"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"
)

// Config is what an issuer is made of.
type Config struct {
	// URL is the issuer's address and name, http://127.0.0.1:port without a path.
	URL string
	// Dir keeps the signing key from one start to the next; empty: Key, or a new one every time.
	Dir string
	Key *rsa.PrivateKey
	// SecretKey is what the backend API is asked with.
	SecretKey    string
	Organization string   // org_…
	Consoles     []string // origins that may sign in here; the first is the azp of tokens made by Token
	Operators    []Operator
	Lifetime     time.Duration // of session tokens; 0 means 60 s, as at Clerk
}

// Operator is a user of the organization.
type Operator struct {
	ID          string // user_…
	Name        string // first name and last name
	Email       string
	Role        string // org:admin; "" is no member
	Permissions []string
	Banned      bool
}

// Issuer is an http.Handler. Its knobs may be turned while it serves.
type Issuer struct {
	config Config
	host   string
	mux    *http.ServeMux

	mu        sync.Mutex
	keys      []*signingKey // the last one signs, all are published
	operators map[string]Operator
	order     []string
	ended     map[string]bool // sessions that were signed out
	down      bool
	delay     time.Duration
	requests  map[string]int
}

type signingKey struct {
	id  string
	key *rsa.PrivateKey
}

// New makes an issuer, reading its key from Dir or writing a new one there.
func New(config Config) (*Issuer, error) {
	u, err := url.Parse(config.URL)
	if err != nil || u.Scheme != "http" || u.Path != "" || u.RawQuery != "" {
		return nil, fmt.Errorf("localissuer: URL %q must look like http://127.0.0.1:8421", config.URL)
	}
	if addr, err := netip.ParseAddr(u.Hostname()); err != nil || !addr.IsLoopback() {
		return nil, fmt.Errorf("localissuer: %q is not a loopback address", u.Hostname())
	}
	if config.SecretKey == "" || config.Organization == "" || len(config.Consoles) == 0 {
		return nil, errors.New("localissuer: SecretKey, Organization and Consoles are required")
	}
	if config.Lifetime == 0 {
		config.Lifetime = time.Minute
	}
	var key *signingKey
	switch {
	case config.Dir == "" && config.Key != nil:
		key = named(config.Key)
	case config.Dir == "":
		key, err = newKey()
	default:
		key, err = loadKey(filepath.Join(config.Dir, "issuer.pem"))
	}
	if err != nil {
		return nil, err
	}
	i := &Issuer{config: config, host: u.Host, keys: []*signingKey{key}, operators: map[string]Operator{},
		ended: map[string]bool{}, requests: map[string]int{}}
	for _, o := range config.Operators {
		i.SetOperator(o)
	}
	i.routes()
	return i, nil
}

// loadKey reads the key in a file, or writes a new one there.
func loadKey(path string) (*signingKey, error) {
	data, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		k, err := newKey()
		if err != nil {
			return nil, err
		}
		der, err := x509.MarshalPKCS8PrivateKey(k.key)
		if err != nil {
			return nil, err
		}
		return k, os.WriteFile(path, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}), 0o600)
	}
	if err != nil {
		return nil, err
	}
	block, _ := pem.Decode(data)
	if block == nil {
		return nil, fmt.Errorf("%s is damaged; remove it", path)
	}
	parsed, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	key, ok := parsed.(*rsa.PrivateKey)
	if err != nil || !ok {
		return nil, fmt.Errorf("%s is damaged; remove it", path)
	}
	return named(key), nil
}

func newKey() (*signingKey, error) {
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		return nil, err
	}
	return named(key), nil
}

func named(key *rsa.PrivateKey) *signingKey {
	sum := sha256.Sum256(key.N.Bytes())
	return &signingKey{"ins_" + hex.EncodeToString(sum[:12]), key}
}

// ── tokens ──────────────────────────────────────────────────────────────────────────────────────────

// Claims are those of a session token.
type Claims map[string]any

// Claims returns those of a good token of the operator, in a session of that id.
func (i *Issuer) Claims(operator, session string) Claims {
	i.mu.Lock()
	defer i.mu.Unlock()
	return i.claims(operator, session, i.config.Consoles[0])
}

func (i *Issuer) claims(operator, session, party string) Claims {
	now := time.Now()
	o := i.operators[operator]
	c := Claims{
		"iss": i.config.URL, "sub": operator, "sid": session, "azp": party, "sts": "active",
		"iat": now.Unix(), "nbf": now.Add(-10 * time.Second).Unix(), "exp": now.Add(i.config.Lifetime).Unix(),
	}
	if o.Role != "" {
		permissions := o.Permissions
		if permissions == nil {
			permissions = []string{}
		}
		c["org_id"], c["org_role"], c["org_permissions"] = i.config.Organization, o.Role, permissions
	}
	return c
}

// Token returns a session token of the operator; edit changes its claims before they are signed.
func (i *Issuer) Token(operator string, edit ...func(Claims)) string {
	c := i.Claims(operator, sessionOf(operator, "token"))
	for _, f := range edit {
		f(c)
	}
	return i.Sign(nil, c)
}

// Sign signs claims with the newest key; header replaces the usual one's fields.
func (i *Issuer) Sign(header map[string]any, claims Claims) string {
	i.mu.Lock()
	k := i.keys[len(i.keys)-1]
	i.mu.Unlock()
	h := map[string]any{"alg": "RS256", "typ": "JWT", "kid": k.id}
	for name, v := range header {
		h[name] = v
	}
	text := segment(h) + "." + segment(claims)
	sum := sha256.Sum256([]byte(text))
	signature, err := rsa.SignPKCS1v15(nil, k.key, crypto.SHA256, sum[:])
	if err != nil {
		panic(err) // a 2048-bit key always fits a SHA-256
	}
	return text + "." + base64.RawURLEncoding.EncodeToString(signature)
}

func segment(v any) string {
	b, err := json.Marshal(v)
	if err != nil {
		panic(err) // maps of plain values
	}
	return base64.RawURLEncoding.EncodeToString(b)
}

// PublicKey is the newest key's public half.
func (i *Issuer) PublicKey() *rsa.PublicKey {
	i.mu.Lock()
	defer i.mu.Unlock()
	return &i.keys[len(i.keys)-1].key.PublicKey
}

func (k *signingKey) jwk() map[string]any {
	return map[string]any{"kty": "RSA", "use": "sig", "alg": "RS256", "kid": k.id,
		"n": base64.RawURLEncoding.EncodeToString(k.key.N.Bytes()),
		"e": base64.RawURLEncoding.EncodeToString(big.NewInt(int64(k.key.E)).Bytes())}
}

// sessionOf names a session so that it can be known again without being stored.
func sessionOf(operator, nonce string) string {
	return "sess_" + base64.RawURLEncoding.EncodeToString([]byte(operator+"\x00"+nonce))
}

func operatorOf(session string) (string, bool) {
	text, ok := strings.CutPrefix(session, "sess_")
	b, err := base64.RawURLEncoding.DecodeString(text)
	operator, _, cut := strings.Cut(string(b), "\x00")
	return operator, ok && err == nil && cut
}

// refreshToken is the session's name under a key that only this issuer has.
func (i *Issuer) refreshToken(session string) string {
	return session + "." + hex.EncodeToString(i.seal(session))
}

func (i *Issuer) seal(session string) []byte {
	i.mu.Lock()
	secret := sha256.Sum256(i.keys[0].key.D.Bytes())
	i.mu.Unlock()
	m := hmac.New(sha256.New, secret[:])
	m.Write([]byte("refresh\n" + session))
	return m.Sum(nil)
}

func (i *Issuer) openRefreshToken(token string) (session string, ok bool) {
	session, mark, ok := strings.Cut(token, ".")
	got, err := hex.DecodeString(mark)
	return session, ok && err == nil && hmac.Equal(got, i.seal(session))
}

// ── knobs ───────────────────────────────────────────────────────────────────────────────────────────

// SetOperator adds an operator or replaces the one of that id.
func (i *Issuer) SetOperator(o Operator) {
	i.mu.Lock()
	defer i.mu.Unlock()
	if _, ok := i.operators[o.ID]; !ok {
		i.order = append(i.order, o.ID)
	}
	i.operators[o.ID] = o
}

// RemoveOperator deletes a user altogether.
func (i *Issuer) RemoveOperator(id string) {
	i.mu.Lock()
	defer i.mu.Unlock()
	delete(i.operators, id)
}

// EndSession signs a session out.
func (i *Issuer) EndSession(id string) {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.ended[id] = true
}

// SetDown makes the backend API answer 503 to everything.
func (i *Issuer) SetDown(down bool) {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.down = down
}

// SetDelay makes the backend API wait before each answer.
func (i *Issuer) SetDelay(d time.Duration) {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.delay = d
}

// Rotate signs with a new key from now on; the old ones stay published if keep is set.
func (i *Issuer) Rotate(keep bool) error {
	k, err := newKey()
	if err != nil {
		return err
	}
	i.mu.Lock()
	defer i.mu.Unlock()
	if !keep {
		i.keys = nil
	}
	i.keys = append(i.keys, k)
	return nil
}

// Requests counts the calls of the backend API whose path begins with prefix.
func (i *Issuer) Requests(prefix string) int {
	i.mu.Lock()
	defer i.mu.Unlock()
	n := 0
	for path, count := range i.requests {
		if strings.HasPrefix(path, prefix) {
			n += count
		}
	}
	return n
}
