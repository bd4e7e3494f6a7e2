package credential

import (
	"context"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rsa"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/go-jose/go-jose/v4"
	exact "github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
	"golang.org/x/sync/singleflight"

	"github.com/useargus/argus"
)

// Ages of the key set. They count from the fetch and never slide. So a key that its issuer withdrew is gone after
// keysMaxAge while the issuer answers, and after KeysGrace if it does not.
const (
	keysRefresh = 5 * time.Minute  // from then on fetched anew in the background
	keysMaxAge  = 10 * time.Minute // from then on a call waits for the new set
	KeysGrace   = time.Hour        // how long the old set is used while the issuer is away
	keysPause   = 10 * time.Second // between fetches on account of unknown key ids, and after a failed one
)

// Bounds of one request to an issuer, and of what it answers.
const (
	issuerTimeout  = 3 * time.Second         // of the request itself
	issuerPatience = 1200 * time.Millisecond // how long a call waits for it
	maxKeySet      = 512 << 10               // bytes
	maxKeys        = 100
)

// keyring holds the signing keys of one issuer. Each issuer has its own, so a slow one holds up no other's callers.
type keyring struct {
	issuer     string // as people know it
	algorithms []jose.SignatureAlgorithm
	fetch      func(context.Context) ([]byte, error)
	base       context.Context // ends with the Verifier's owner
	run        func(func(ctx context.Context))
	now        func() time.Time

	flight singleflight.Group
	mu     sync.Mutex
	keys   map[keyName]*jose.JSONWebKey
	got    time.Time // when keys were fetched
	tried  time.Time // when a fetch ended last, well or not
	err    error     // of that fetch
}

// keyName is what a token names its key by. A key signs by one algorithm alone.
type keyName struct{ id, algorithm string }

// check verifies a token's signature by a key of this issuer.
func (k *keyring) check(ctx context.Context, t *signedToken) error {
	if !allowed(k.algorithms, t.algorithm) {
		return unauthenticated(reasonToken, fmt.Errorf("signed by %q", argus.Text(t.algorithm, 32)))
	}
	key, err := k.get(ctx, keyName{t.keyID, t.algorithm})
	if err != nil {
		return err
	}
	if key == nil {
		return unauthenticated(reasonKey, fmt.Errorf("signed with the unknown key %q", argus.Text(t.keyID, 64)))
	}
	return t.signedBy(key)
}

// get returns the key of a name; nil without an error when the issuer has none of that name. Unknown names cost
// one fetch every keysPause, however many come.
func (k *keyring) get(ctx context.Context, name keyName) (*jose.JSONWebKey, error) {
	k.mu.Lock()
	key, age, seen := k.keys[name], k.now().Sub(k.got), k.tried
	pause := keysPause
	if k.keys == nil {
		pause = time.Second // no session gets in before
	}
	rested := k.now().Sub(seen) >= pause
	known := k.keys != nil && age < KeysGrace
	failed := k.err
	k.mu.Unlock()

	switch {
	case known && key != nil && (age < keysMaxAge || failed != nil):
		// No caller waits for an issuer that did not answer before.
		if age >= keysRefresh && rested {
			k.run(func(ctx context.Context) { _ = k.refresh(ctx, seen) })
		}
		return key, nil
	case !rested && known: // the set was looked at just now, or the issuer is away
		return key, nil
	case !rested:
		return nil, issuerAway(k.issuer, failed)
	}
	err := k.refresh(ctx, seen)
	k.mu.Lock()
	defer k.mu.Unlock()
	if err != nil && (k.keys == nil || k.now().Sub(k.got) >= KeysGrace) {
		return nil, issuerAway(k.issuer, err)
	}
	return k.keys[name], nil
}

// refresh fetches the set, once for all who wait, for issuerPatience at most; the fetch itself goes on. A fetch that
// ended after the caller looked (seen) will do.
func (k *keyring) refresh(ctx context.Context, seen time.Time) error {
	ctx, cancel := context.WithTimeout(ctx, issuerPatience)
	defer cancel()
	done := k.flight.DoChan("", func() (any, error) {
		k.mu.Lock()
		late, failed := !k.tried.Equal(seen), k.err
		k.mu.Unlock()
		if late {
			return nil, failed
		}
		fetching, cancel := context.WithTimeout(k.base, issuerTimeout)
		defer cancel()
		data, err := k.fetch(fetching)
		var keys map[keyName]*jose.JSONWebKey
		if err == nil {
			keys, err = usable(data, k.algorithms)
		}
		k.mu.Lock()
		defer k.mu.Unlock()
		k.tried, k.err = k.now(), err
		if err == nil {
			k.keys, k.got = keys, k.tried
		}
		return nil, err
	})
	select {
	case r := <-done:
		return r.Err
	case <-ctx.Done():
		k.mu.Lock()
		defer k.mu.Unlock()
		k.tried, k.err = k.now(), ctx.Err()
		return ctx.Err()
	}
}

// usable reads a key set (RFC 7517) and keeps the keys that may sign tokens. RS256 needs RSA of 2048 to 8192 bits, ES256
// needs P-256, EdDSA needs Ed25519. A key that cannot be read is passed over, and a name that stands twice names no key.
func usable(data []byte, by []jose.SignatureAlgorithm) (map[keyName]*jose.JSONWebKey, error) {
	var set struct {
		Keys []jsontext.Value `json:"keys"`
	}
	if err := exact.Unmarshal(data, &set); err != nil {
		return nil, errors.New("the key set cannot be read")
	}
	if len(set.Keys) > maxKeys {
		return nil, fmt.Errorf("the key set has %d keys, %d at most are read", len(set.Keys), maxKeys)
	}
	keys := map[keyName]*jose.JSONWebKey{}
	twice := map[keyName]bool{}
	for _, raw := range set.Keys {
		k := new(jose.JSONWebKey)
		if k.UnmarshalJSON(raw) != nil || k.KeyID == "" || k.Use != "" && k.Use != "sig" {
			continue
		}
		signs := ""
		switch public := k.Key.(type) {
		case *rsa.PublicKey:
			if n := public.N.BitLen(); n >= 2048 && n <= 8192 {
				signs = string(jose.RS256)
			}
		case *ecdsa.PublicKey:
			if public.Curve == elliptic.P256() {
				signs = string(jose.ES256)
			}
		case ed25519.PublicKey:
			if len(public) == ed25519.PublicKeySize {
				signs = string(jose.EdDSA)
			}
		}
		if signs == "" || !allowed(by, signs) || k.Algorithm != "" && k.Algorithm != signs {
			continue
		}
		name := keyName{k.KeyID, signs}
		twice[name] = keys[name] != nil || twice[name]
		keys[name] = k
	}
	for name, is := range twice {
		if is {
			delete(keys, name)
		}
	}
	if len(keys) == 0 {
		return nil, errors.New("the key set holds no usable key")
	}
	return keys, nil
}

func allowed(by []jose.SignatureAlgorithm, algorithm string) bool {
	for _, a := range by {
		if string(a) == algorithm {
			return true
		}
	}
	return false
}

// state tells the age of the set and the error of the last fetch.
func (k *keyring) state() (age time.Duration, known bool, err error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.now().Sub(k.got), k.keys != nil, k.err
}

// issuerAway is the 503 for a credential that cannot be verified without its issuer.
func issuerAway(issuer string, cause error) error {
	return argus.Errorf(argus.CodeUnavailable,
		"%s does not answer, so your credential cannot be checked. Try again; if it lasts, use a break-glass token.", issuer).
		WithCause(cause).WithRetryAfter(2 * time.Second)
}
