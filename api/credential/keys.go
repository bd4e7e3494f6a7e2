package credential

import (
	"context"
	"crypto/rsa"
	"errors"
	"sync"
	"time"

	"github.com/clerk/clerk-sdk-go/v2"
	"github.com/clerk/clerk-sdk-go/v2/jwks"
	"golang.org/x/sync/singleflight"
)

// Ages of the key set. They count from the fetch and never slide, so a key that Clerk withdrew is gone after
// keysMaxAge while Clerk answers, and after KeysGrace if it does not.
const (
	keysRefresh = 5 * time.Minute  // from then on fetched anew in the background
	keysMaxAge  = 10 * time.Minute // from then on a call waits for the new set
	KeysGrace   = time.Hour        // how long the old set is used while Clerk is away
	keysPause   = 10 * time.Second // between fetches on account of unknown key ids, and after a failed one
)

// keyring holds Clerk's signing keys.
type keyring struct {
	fetch func(context.Context, *jwks.GetParams) (*clerk.JSONWebKeySet, error)
	base  context.Context // ends with the Verifier's owner
	run   func(func(ctx context.Context))
	now   func() time.Time

	flight singleflight.Group
	mu     sync.Mutex
	keys   map[string]*clerk.JSONWebKey
	got    time.Time // when keys were fetched
	tried  time.Time // when a fetch ended last, well or not
	err    error     // of that fetch
}

// get returns the key of an id; nil without an error when Clerk has none of that id. Unknown ids cost
// one fetch every keysPause, however many come.
func (k *keyring) get(ctx context.Context, id string) (*clerk.JSONWebKey, error) {
	k.mu.Lock()
	key, age, seen := k.keys[id], k.now().Sub(k.got), k.tried
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
		// No caller waits for a Clerk that did not answer before.
		if age >= keysRefresh && rested {
			k.run(func(ctx context.Context) { _ = k.refresh(ctx, seen) })
		}
		return key, nil
	case !rested && known: // the set was looked at just now, or Clerk is away
		return key, nil
	case !rested:
		return nil, clerkAway(failed)
	}
	err := k.refresh(ctx, seen)
	k.mu.Lock()
	defer k.mu.Unlock()
	if err != nil && (k.keys == nil || k.now().Sub(k.got) >= KeysGrace) {
		return nil, clerkAway(err)
	}
	return k.keys[id], nil
}

// refresh fetches the set, once for all who wait, for clerkPatience at most; the fetch itself goes on. A fetch that
// ended after the caller looked (seen) will do.
func (k *keyring) refresh(ctx context.Context, seen time.Time) error {
	ctx, cancel := context.WithTimeout(ctx, clerkPatience)
	defer cancel()
	done := k.flight.DoChan("", func() (any, error) {
		k.mu.Lock()
		late, failed := !k.tried.Equal(seen), k.err
		k.mu.Unlock()
		if late {
			return nil, failed
		}
		fetching, cancel := context.WithTimeout(k.base, clerkTimeout)
		defer cancel()
		set, err := k.fetch(fetching, &jwks.GetParams{})
		var keys map[string]*clerk.JSONWebKey
		if err == nil {
			keys, err = usable(set)
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

// usable keeps the keys that may sign session tokens: RSA of 2048 bits or more, for RS256 signatures.
func usable(set *clerk.JSONWebKeySet) (map[string]*clerk.JSONWebKey, error) {
	keys := map[string]*clerk.JSONWebKey{}
	for _, k := range set.Keys {
		if k == nil || k.KeyID == "" || k.Algorithm != "RS256" || (k.Use != "" && k.Use != "sig") {
			continue
		}
		if public, ok := k.Key.(*rsa.PublicKey); ok && public.N.BitLen() >= 2048 {
			keys[k.KeyID] = k
		}
	}
	if len(keys) == 0 {
		return nil, errors.New("the key set of Clerk holds no usable key")
	}
	return keys, nil
}

// state tells the age of the set and the error of the last fetch.
func (k *keyring) state() (age time.Duration, known bool, err error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.now().Sub(k.got), k.keys != nil, k.err
}
