package sample

import (
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"time"
)

// Verifier checks that a request came through ARGUS, for this service, just now, and as it is.
type Verifier struct {
	Issuer   string // ARGUS_PUBLIC_URL: https://argus.example.com
	Audience string // this service's name in the services file
	Upstream string // its upstream there: https://billing.internal:8443

	mu      sync.Mutex
	keys    map[string]ed25519.PublicKey
	fetched time.Time
	seen    map[string]int64 // jti of each assertion that was taken, and its exp
}

// Claims are what ARGUS asserts of a call.
type Claims struct {
	Iss, Aud, Sub, Jti, Scope, Htm, Htu string
	Iat, Exp                            int64
	ActorKind                           string                       `json:"actor_kind"`
	BodySHA256                          string                       `json:"body_sha256"`
	Act                                 *struct{ Sub, Agent string } `json:"act"`
}

// Verify returns the claims of a request whose body was read to its end, or why it is not to be served.
func (v *Verifier) Verify(r *http.Request, body []byte) (*Claims, error) {
	c, err := v.claims(r.Header.Get("Argus-Assertion"))
	if err != nil {
		return nil, err
	}
	if c.BodySHA256 == "" { // a long body, which ARGUS streams: its digest comes behind it
		if late, err := v.claims(r.Trailer.Get("Argus-Body-Assertion")); err == nil && late.Jti == c.Jti {
			c.BodySHA256 = late.BodySHA256
		}
	}
	digest, now := sha256.Sum256(body), time.Now().Unix()
	switch {
	case c.Iss != v.Issuer:
		return nil, errors.New("the assertion is from another issuer: compare Issuer with ARGUS_PUBLIC_URL")
	case c.Aud != v.Audience:
		return nil, errors.New("the assertion is for another service: compare Audience with the services file")
	case c.Exp <= now || c.Iat > now+5:
		return nil, errors.New("the assertion is not valid now: compare the clocks")
	case c.Htm != r.Method || c.Htu != v.Upstream+r.RequestURI:
		return nil, errors.New("the assertion is for another route: compare Upstream with the services file")
	case c.BodySHA256 != hex.EncodeToString(digest[:]):
		return nil, errors.New("the assertion is for another body")
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	for jti, exp := range v.seen {
		if exp <= now {
			delete(v.seen, jti)
		}
	}
	if v.seen[c.Jti] != 0 {
		return nil, errors.New("the assertion was used before")
	}
	if v.seen == nil {
		v.seen = map[string]int64{}
	}
	v.seen[c.Jti] = c.Exp
	return c, nil
}

// claims checks the signature of a token and reads what it claims.
func (v *Verifier) claims(token string) (*Claims, error) {
	parts := strings.Split(token, ".")
	if len(parts) != 3 {
		return nil, errors.New("there is no assertion: call through ARGUS")
	}
	var header struct{ Alg, Kid string }
	var c Claims
	signature, err := base64.RawURLEncoding.DecodeString(parts[2])
	if err = errors.Join(err, decode(parts[0], &header), decode(parts[1], &c)); err != nil {
		return nil, fmt.Errorf("the assertion cannot be read: %w", err)
	}
	key, err := v.key(header.Kid)
	if err != nil {
		return nil, err
	}
	if header.Alg != "EdDSA" || key == nil || !ed25519.Verify(key, []byte(parts[0]+"."+parts[1]), signature) {
		return nil, errors.New("the assertion is not signed by ARGUS")
	}
	return &c, nil
}

func decode(part string, into any) error {
	data, err := base64.RawURLEncoding.DecodeString(part)
	if err != nil {
		return err
	}
	return json.Unmarshal(data, into)
}

// key returns ARGUS's key of the id, nil when there is none. An unknown id may be a new key: then the set is read again,
// every five seconds at most.
func (v *Verifier) key(id string) (ed25519.PublicKey, error) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if key := v.keys[id]; key != nil || time.Since(v.fetched) < 5*time.Second {
		return key, nil
	}
	v.fetched = time.Now()
	client := http.Client{Timeout: 3 * time.Second}
	resp, err := client.Get(v.Issuer + "/.well-known/jwks.json")
	if err != nil {
		return nil, fmt.Errorf("there are no keys at Issuer: %w", err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK { // it says nothing of the keys, so those that are known stay
		return nil, fmt.Errorf("there are no keys at Issuer: it answers %d", resp.StatusCode)
	}
	var set struct {
		Keys []struct{ Kty, Crv, Kid, X string }
	}
	if err := json.NewDecoder(http.MaxBytesReader(nil, resp.Body, 1<<20)).Decode(&set); err != nil {
		return nil, fmt.Errorf("there are no keys at Issuer: %w", err)
	}
	v.keys = map[string]ed25519.PublicKey{}
	for _, k := range set.Keys {
		if x, err := base64.RawURLEncoding.DecodeString(k.X); err == nil && k.Kty == "OKP" && k.Crv == "Ed25519" && len(x) == ed25519.PublicKeySize {
			v.keys[k.Kid] = x
		}
	}
	return v.keys[id], nil
}
