package credential

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net/netip"
	"time"

	"github.com/google/uuid"
)

// Config is what a Verifier is made of. Now may be nil; Clerk or Issuers names one issuer at least; all else is required.
type Config struct {
	Pool    *Pool // as the role argus_api; the primary
	Clerk   ClerkConfig
	Issuers []Issuer // of OpenID Connect, as ReadIssuers gives them
	Log     *slog.Logger
	// Run runs f in the owner's background, which ends with New's context.
	Run func(f func(ctx context.Context))
	// Heard is told the key of a credential that may have ended or changed (Credential.Keys).
	Heard func(key string)
	// Listening is told when the channel of revocations comes up, again and again while it is, and when it is lost.
	Listening func(up bool)
	// MayLookUp returns nil, or the error to answer instead of looking a token up in Postgres for this address.
	MayLookUp func(ip netip.Addr) error
	// Now is the clock by which keys, people and rights age; nil means time.Now.
	Now func() time.Time
}

// Verifier verifies credentials. Make it with New. Its methods may be called from many goroutines.
type Verifier struct {
	config  Config
	pool    *Pool
	log     *slog.Logger
	clerk   *clerkIdentity       // nil: no Clerk
	issuers []*identity          // as configured
	byURL   map[string]*identity // iss
	byName  map[string]*identity
	people  *shownPeople
	secrets *secretCache
}

// New checks the configuration. base ends what Run runs, and the questions to issuers. Nothing runs before Work does.
func New(base context.Context, config Config) (*Verifier, error) {
	if config.Now == nil {
		config.Now = time.Now
	}
	v := &Verifier{config: config, pool: config.Pool, log: config.Log, secrets: newSecretCache(),
		byURL: map[string]*identity{}, byName: map[string]*identity{}, people: newShownPeople(&config)}
	if !config.Clerk.IsSet() && len(config.Issuers) == 0 {
		return nil, errors.New("api: Clerk or an OpenID Connect issuer is required")
	}
	if config.Clerk.IsSet() {
		var err error
		if v.clerk, err = newClerkIdentity(base, &config); err != nil {
			return nil, err
		}
		v.clerk.left = v.ownerLeft
	}
	for _, issuer := range config.Issuers {
		if issuer.Issuer == config.Clerk.Issuer || v.byURL[issuer.Issuer] != nil || v.byName[issuer.Name] != nil {
			return nil, fmt.Errorf("api: the issuer %s (%s) is there twice", issuer.Name, issuer.Issuer)
		}
		i, err := newIdentity(base, &config, issuer)
		if err != nil {
			return nil, fmt.Errorf("api: the issuer %s: %w", issuer.Name, err)
		}
		i.people = v.people
		v.issuers, v.byURL[issuer.Issuer], v.byName[issuer.Name] = append(v.issuers, i), i, i
	}
	return v, nil
}

func newIdentity(base context.Context, config *Config, issuer Issuer) (*identity, error) {
	d, err := newDiscovery(issuer.Issuer, issuer.CAFile)
	if err != nil {
		return nil, err
	}
	return &identity{Issuer: issuer, discovery: d, keys: &keyring{issuer: "The issuer " + issuer.Name, algorithms: algorithms,
		fetch: d.keySet, base: base, run: config.Run, now: config.Now}}, nil
}

// keyrings are those of all issuers, by name.
func (v *Verifier) keyrings() map[string]*keyring {
	all := map[string]*keyring{}
	if v.clerk != nil {
		all[ClerkName] = v.clerk.keys
	}
	for _, i := range v.issuers {
		all[i.Name] = i.keys
	}
	return all
}

// ClerkName is how Clerk is called among issuers. No other may have the name.
const ClerkName = "clerk"

// Work is what the owner runs in its background: each ends with its context.
func (v *Verifier) Work() []func(ctx context.Context) {
	work := []func(context.Context){v.listen, v.keepUses}
	if len(v.issuers) > 0 {
		work = append(work, v.people.keep)
	}
	for _, keys := range v.keyrings() {
		work = append(work, func(ctx context.Context) { _ = keys.refresh(ctx, time.Time{}) }) // so that the first call need not wait
	}
	return work
}

// CloseIdleConnections closes the connections to issuers that are not in use.
func (v *Verifier) CloseIdleConnections() {
	if v.clerk != nil {
		v.clerk.http.CloseIdleConnections()
	}
	for _, i := range v.issuers {
		i.discovery.http.CloseIdleConnections()
	}
}

// Keys is what is known of an issuer's signing keys.
type Keys struct {
	Age   time.Duration
	Known bool  // there are keys that may be used
	Err   error // of the last fetch
}

// Keys tells the state of each issuer's keys, by its name; Clerk's is ClerkName.
func (v *Verifier) Keys() map[string]Keys {
	all := map[string]Keys{}
	for name, keys := range v.keyrings() {
		age, known, err := keys.state()
		all[name] = Keys{age, known && age < KeysGrace, err}
	}
	return all
}

// SignInAt is an issuer at which people sign in, and where.
type SignInAt struct {
	Issuer
	Endpoints
}

// SignIns are the issuers at which people sign in by OpenID Connect, in the order of the configuration.
func (v *Verifier) SignIns() []SignInAt {
	var at []SignInAt
	for _, i := range v.issuers {
		if i.SignIn != nil {
			at = append(at, SignInAt{i.Issuer, i.discovery.known()})
		}
	}
	return at
}

// Channel reports whether revocations are heard at this moment, and how often their channel was lost.
func (v *Verifier) Channel() (listening bool, losses uint64) { return v.secrets.channel() }

// Forget drops what this process remembers of a token that was revoked.
func (v *Verifier) Forget(id uuid.UUID) { v.secrets.forget(id) }

// Persons gives how users are shown, those it can find within a third of a second. Unknown ones are missing.
func (v *Verifier) Persons(ctx context.Context, ids []string) map[string]Person {
	var users, people []string
	for _, id := range ids {
		switch i := v.byName[issuerOf(id)]; {
		case i != nil && i.Kind == People:
			people = append(people, id)
		case v.clerk != nil && validUserID(id):
			users = append(users, id)
		}
	}
	found := map[string]Person{}
	if len(users) > 0 {
		found = v.clerk.persons(ctx, users)
	}
	if len(people) > 0 {
		ctx, cancel := context.WithTimeout(ctx, namesWait)
		defer cancel()
		maps.Copy(found, v.people.persons(ctx, people))
	}
	return found
}
