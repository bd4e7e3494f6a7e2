package credential

import (
	"context"
	"log/slog"
	"net/netip"
	"time"

	"github.com/google/uuid"
)

// Config is what a Verifier is made of. Now may be nil; all else is required.
type Config struct {
	Pool  *Pool // as the role argus_api; the primary
	Clerk ClerkConfig
	Log   *slog.Logger
	// Run runs f in the owner's background, which ends with New's context.
	Run func(f func(ctx context.Context))
	// Heard is told the key of a credential that may have ended or changed (Credential.Keys).
	Heard func(key string)
	// Listening is told when the channel of revocations comes up, again and again while it is, and when it is lost.
	Listening func(up bool)
	// MayLookUp returns nil, or the error to answer instead of looking a token up in Postgres for this address.
	MayLookUp func(ip netip.Addr) error
	// Now is the clock by which Clerk's keys, people and rights age; nil means time.Now.
	Now func() time.Time
}

// Verifier verifies credentials. Make it with New. Its methods may be called from many goroutines.
type Verifier struct {
	config  Config
	pool    *Pool
	log     *slog.Logger
	clerk   *clerkIdentity
	secrets *secretCache
}

// New checks the configuration. base ends what Run runs, and the questions to Clerk. Nothing runs before Work does.
func New(base context.Context, config Config) (*Verifier, error) {
	if config.Now == nil {
		config.Now = time.Now
	}
	clerk, err := newClerkIdentity(base, &config)
	if err != nil {
		return nil, err
	}
	return &Verifier{config: config, pool: config.Pool, log: config.Log, clerk: clerk, secrets: newSecretCache()}, nil
}

// Work is what the owner runs in its background: each ends with its context.
func (v *Verifier) Work() []func(ctx context.Context) {
	return []func(context.Context){
		v.listen, v.keepUses,
		func(ctx context.Context) { _ = v.clerk.keys.refresh(ctx, time.Time{}) }, // so that the first call need not wait
	}
}

// CloseIdleConnections closes the connections to Clerk that are not in use.
func (v *Verifier) CloseIdleConnections() { v.clerk.http.CloseIdleConnections() }

// ClerkKeys tells the age of Clerk's signing keys, whether there are any, and the error of the last fetch.
func (v *Verifier) ClerkKeys() (age time.Duration, known bool, err error) {
	return v.clerk.keys.state()
}

// Channel reports whether revocations are heard at this moment, and how often their channel was lost.
func (v *Verifier) Channel() (listening bool, losses uint64) { return v.secrets.channel() }

// Forget drops what this process remembers of a token that was revoked.
func (v *Verifier) Forget(id uuid.UUID) { v.secrets.forget(id) }

// Persons gives how users are shown, those it can find within a third of a second. Unknown ones are missing.
func (v *Verifier) Persons(ctx context.Context, ids []string) map[string]Person {
	return v.clerk.persons(ctx, ids)
}
