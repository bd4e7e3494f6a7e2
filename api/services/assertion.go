package services

import (
	"crypto/ed25519"
	"crypto/hkdf"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/useargus/argus"
)

// What ARGUS adds to a call that it sends on, besides argus.AuditIDHeader.
const (
	AssertionHeader = "Argus-Assertion"
	// BodyAssertionTrailer is a trailer of a request whose body was streamed: a second assertion, with the digest.
	BodyAssertionTrailer = "Argus-Body-Assertion"
)

// AssertionLifetime is how long a service may believe an assertion.
const AssertionLifetime = time.Minute

// Claims are an assertion's. A service believes a call only when the signature is good and the time is right. The issuer
// must be its ARGUS and the audience its own name. Method, URL and digest must be those of the request it got.
type Claims struct {
	Issuer    string          `json:"iss"` // ARGUS_PUBLIC_URL
	Audience  string          `json:"aud"` // the service's name
	Subject   string          `json:"sub"` // the actor, as in the row
	ActorKind argus.ActorKind `json:"actor_kind"`
	Act       *Act            `json:"act,omitempty"` // who acts for the subject
	Scope     argus.Scope     `json:"scope"`         // the one that the route asked for
	ID        string          `json:"jti"`           // the audit id
	IssuedAt  int64           `json:"iat"`
	Expires   int64           `json:"exp"` // iat + 60

	Method string `json:"htm"`
	// URL is the request's, as ARGUS sends it to the service: upstream, path and query. A service that is called by
	// another name behind a proxy of its own compares path and query.
	URL string `json:"htu"`
	// BodySHA256 is the digest of the body in lower-case hex; of an empty body that of nothing. ARGUS streams a body longer
	// than 1 MiB, so there the claim is absent. The trailer Argus-Body-Assertion then holds another assertion that has it
	// and is equal in all else. A service that compares the claim with a body's digest so rejects what it cannot know.
	BodySHA256 string `json:"body_sha256,omitempty"`
}

// Act says who acts for the subject (RFC 8693).
type Act struct {
	Subject string `json:"sub,omitempty"`   // the impersonator
	Agent   string `json:"agent,omitempty"` // the program, as in the row
}

// Keys sign assertions. The first signs; all are published, so that a service knows the next one before it signs.
type Keys struct {
	keys []signingKey
	jwks []byte
}

type signingKey struct {
	id     string // RFC 7638's thumbprint
	key    ed25519.PrivateKey
	header string // of a token, encoded
}

// minSecret is the length of a key's secret in bytes.
const minSecret = 32

// ParseKeys reads ARGUS_ASSERTION_KEYS: one secret or several of 64 hex digits, separated by commas. Every API process has
// the same ones, so each publishes every key that any of them signs with. Each secret gives an Ed25519 key by HKDF. An
// empty text gives a random key, which only this process knows: for a single process, and for tests.
func ParseKeys(text string) (*Keys, error) {
	var secrets [][]byte
	for part := range strings.SplitSeq(text, ",") {
		part = strings.TrimSpace(part)
		if part == "" {
			continue
		}
		secret, err := hex.DecodeString(part)
		if err != nil || len(secret) != minSecret {
			return nil, errors.New("each key must be 64 hex digits: openssl rand -hex 32 makes one")
		}
		secrets = append(secrets, secret)
	}
	if len(secrets) == 0 {
		secret := make([]byte, minSecret)
		if _, err := rand.Read(secret); err != nil {
			return nil, err
		}
		secrets = append(secrets, secret)
	}
	type public struct {
		Type  string `json:"kty"`
		Curve string `json:"crv"`
		X     string `json:"x"`
		ID    string `json:"kid"`
		Use   string `json:"use"`
		Alg   string `json:"alg"`
	}
	k := &Keys{}
	var set struct {
		Keys []public `json:"keys"`
	}
	for _, secret := range secrets {
		seed, err := hkdf.Key(sha256.New, secret, nil, "argus assertion key 1", ed25519.SeedSize)
		if err != nil {
			return nil, err
		}
		key := ed25519.NewKeyFromSeed(seed)
		x := base64.RawURLEncoding.EncodeToString(key.Public().(ed25519.PublicKey))
		thumbprint := sha256.Sum256([]byte(`{"crv":"Ed25519","kty":"OKP","x":"` + x + `"}`))
		id := base64.RawURLEncoding.EncodeToString(thumbprint[:])
		for _, other := range k.keys {
			if other.id == id {
				return nil, errors.New("one key stands twice")
			}
		}
		header := fmt.Sprintf(`{"alg":"EdDSA","typ":"JWT","kid":%q}`, id)
		k.keys = append(k.keys, signingKey{id, key, base64.RawURLEncoding.EncodeToString([]byte(header))})
		set.Keys = append(set.Keys, public{"OKP", "Ed25519", x, id, "sig", "EdDSA"})
	}
	var err error
	k.jwks, err = json.Marshal(set)
	return k, err
}

// JWKS is the key set as it is published.
func (k *Keys) JWKS() []byte { return k.jwks }

// Sign makes the token of claims, valid from now.
func (k *Keys) Sign(c Claims, now time.Time) (string, error) {
	c.IssuedAt, c.Expires = now.Unix(), now.Add(AssertionLifetime).Unix()
	body, err := json.Marshal(c)
	if err != nil {
		return "", err
	}
	key := &k.keys[0]
	signed := key.header + "." + base64.RawURLEncoding.EncodeToString(body)
	return signed + "." + base64.RawURLEncoding.EncodeToString(ed25519.Sign(key.key, []byte(signed))), nil
}
