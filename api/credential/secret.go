package credential

import (
	"context"
	"net/netip"
	"sync"
	"time"

	"github.com/google/uuid"

	"github.com/useargus/argus"
)

// secretRow is what the database knows of a personal access token or a break-glass token.
type secretRow struct {
	id       uuid.UUID
	kind     argus.ActorKind
	actorID  string
	scopes   []argus.Scope // as they are stored: some may be no scope at the moment
	agent    string
	expires  time.Time
	revoked  bool
	lastUsed time.Time // zero: never
}

// verifySecret finds the token of a digest and what it may do at this moment.
func (v *Verifier) verifySecret(ctx context.Context, kind argus.ActorKind, digest [32]byte, ip netip.Addr) (*Credential, error) {
	row, remembered := v.secrets.get(digest)
	if !remembered {
		// Anybody can make a text with a right checksum: an address that sent too many bad ones may not make us
		// ask the database.
		if err := v.config.MayLookUp(ip); err != nil {
			return nil, err
		}
		epoch := v.secrets.epoch()
		var err error
		if row, err = v.findSecret(ctx, kind, digest); err != nil {
			return nil, err
		}
		if row == nil {
			return nil, unauthenticated(reasonUnknown, nil)
		}
		v.secrets.put(digest, row, epoch)
	}
	switch now := time.Now(); {
	case row.revoked:
		return nil, unauthenticated(reasonRevoked, nil)
	case !now.Before(row.expires):
		return nil, unauthenticated(reasonExpired, nil)
	}
	actor := argus.Actor{ID: row.actorID, Kind: row.kind, Scopes: argus.Intersect(argus.AllScopes(), row.scopes), Agent: row.agent}
	if row.kind == argus.KindPAT {
		owner, err := v.ownerOf(ctx, row.actorID)
		if err != nil {
			return nil, err
		}
		actor.PATID, actor.Scopes = row.id, argus.Intersect(actor.Scopes, argus.ExpandScopes(owner.scopes))
		actor.Name, actor.Email = owner.Name, owner.Email
		v.secrets.used(row)
	} else {
		// Clerk is not asked: break-glass is for when it is down.
		actor.BreakGlassID = row.id
	}
	actor.Preset = argus.PresetOf(actor.Scopes)
	return &Credential{Actor: actor, Principal: row.id.String(), Expires: row.expires}, nil
}

// ownerOf gives the rights that a token's owner has at this moment. An owner whose issuer is not configured any more has
// none, and is unauthenticated.
func (v *Verifier) ownerOf(ctx context.Context, id string) (*owner, error) {
	if name := issuerOf(id); name != "" {
		if i := v.byName[name]; i != nil && i.Kind == People {
			return v.people.owner(ctx, i, id)
		}
	} else if v.clerk != nil {
		return v.clerk.owner(ctx, id)
	}
	return nil, unauthenticated(reasonOwner, nil)
}

// secretCache remembers tokens, but only as long as it is sure to hear of revocations. It gives readers a row only while
// the listener (pg_listen.go) has had the channel's echo within the last freshFor.
type secretCache struct {
	mu      sync.Mutex
	rows    map[[32]byte]*secretRow
	ids     map[uuid.UUID][32]byte
	fresh   time.Time // rows may be used before this moment
	changes uint64    // counts revocations heard and losses of the channel
	losses  uint64    // counts losses of the channel
	uses    map[uuid.UUID]time.Time
}

const (
	// freshFor is how long after an echo of the channel was asked for remembered tokens are believed. With it a
	// revocation holds everywhere within a second, even where the channel has just died without a word.
	freshFor = 900 * time.Millisecond
	// maxSecrets bounds how many tokens are remembered.
	maxSecrets = 20_000
	// lastUsedStep is how stale last_used_at may become.
	lastUsedStep = 10 * time.Minute
)

func newSecretCache() *secretCache {
	return &secretCache{rows: map[[32]byte]*secretRow{}, ids: map[uuid.UUID][32]byte{}, uses: map[uuid.UUID]time.Time{}}
}

func (s *secretCache) get(digest [32]byte) (*secretRow, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !time.Now().Before(s.fresh) {
		return nil, false
	}
	row, ok := s.rows[digest]
	return row, ok
}

// epoch is for put. A reader takes it before it asks the database. So put does not remember a row that was read before a
// revocation and arrives after its notice.
func (s *secretCache) epoch() uint64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.changes
}

func (s *secretCache) put(digest [32]byte, row *secretRow, epoch uint64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.changes != epoch || row.revoked || !time.Now().Before(s.fresh) {
		return
	}
	if len(s.rows) >= maxSecrets {
		clear(s.rows)
		clear(s.ids)
	}
	s.rows[digest], s.ids[row.id] = row, digest
}

// forget drops a token that was revoked.
func (s *secretCache) forget(id uuid.UUID) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.changes++
	if digest, ok := s.ids[id]; ok {
		delete(s.rows, digest)
		delete(s.ids, id)
	}
}

// heard says that the channel echoed what was sent at that moment.
func (s *secretCache) heard(sent time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.fresh = sent.Add(freshFor)
}

// lost says that the channel is gone, and with it all certainty.
func (s *secretCache) lost() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.changes++
	s.losses++
	s.fresh = time.Time{}
	clear(s.rows)
	clear(s.ids)
}

// used notes the use of a token, once every lastUsedStep.
func (s *secretCache) used(row *secretRow) {
	now := time.Now()
	s.mu.Lock()
	defer s.mu.Unlock()
	if now.Sub(row.lastUsed) >= lastUsedStep {
		row.lastUsed = now
		s.uses[row.id] = now
	}
}

// channel reports whether revocations are heard at this moment, and how often the channel was lost.
func (s *secretCache) channel() (listening bool, losses uint64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return time.Now().Before(s.fresh), s.losses
}

// takeUses returns the uses noted since it was asked last.
func (s *secretCache) takeUses() map[uuid.UUID]time.Time {
	s.mu.Lock()
	defer s.mu.Unlock()
	uses := s.uses
	s.uses = map[uuid.UUID]time.Time{}
	return uses
}
