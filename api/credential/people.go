package credential

import (
	"context"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/useargus/argus"
)

// shownPerson is what a person's token showed when it was made.
type shownPerson struct {
	Person
	id     string
	groups []string  // those that the issuer's configuration maps, sorted
	shown  time.Time // iat
}

// shownPeople keeps in Postgres what sign-ins showed of people of OpenID Connect issuers. Their issuers are not asked
// between sign-ins, so this is what their personal access tokens go by. Groups are kept, not scopes: a changed
// configuration counts at once.
type shownPeople struct {
	pool *Pool
	log  *slog.Logger
	now  func() time.Time
	// heard is told when a person's rights turn out to have changed.
	heard func(key string)

	mu      sync.Mutex
	written map[string]shownPerson // what this process wrote last
	read    map[string]readPerson
}

type readPerson struct {
	*shownPerson // nil: there is none
	at           time.Time
}

const (
	// shownStep is how much later a token must have been made to be written down when it shows nothing new.
	shownStep = time.Minute
	// MaxRights bounds Issuer.Rights; what sign-ins showed is forgotten after it.
	MaxRights = 30 * 24 * time.Hour
)

func newShownPeople(c *Config) *shownPeople {
	return &shownPeople{pool: c.Pool, log: c.Log, now: c.Now, heard: c.Heard, written: map[string]shownPerson{}, read: map[string]readPerson{}}
}

// saw notes what a token showed. One made earlier than what is noted changes nothing, so an old token brings back no
// right. The call goes on when Postgres cannot note it: the person's token was good.
func (s *shownPeople) saw(ctx context.Context, p shownPerson) {
	s.mu.Lock()
	last, ok := s.written[p.id]
	was, read := s.read[p.id]
	s.mu.Unlock()
	same := last.Person == p.Person && slices.Equal(last.groups, p.groups)
	if ok && (!p.shown.After(last.shown) || same && p.shown.Sub(last.shown) < shownStep) {
		return
	}
	if err := s.write(ctx, p); err != nil {
		s.log.Warn("what a sign-in showed is not written; the person's tokens go by an earlier one", "actor", p.id, "cause", err)
		return
	}
	if ok && !slices.Equal(last.groups, p.groups) || read && was.shownPerson != nil && !slices.Equal(was.groups, p.groups) {
		defer s.heard(personKey(p.id)) // its streams look at their rights again
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	makeRoom(s.written, func(p shownPerson) bool { return s.now().Sub(p.shown) > 24*time.Hour })
	s.written[p.id] = p
	delete(s.read, p.id)
}

// owner gives the rights that a personal access token's owner has, as the last sign-in showed them.
func (s *shownPeople) owner(ctx context.Context, i *identity, id string) (*owner, error) {
	s.mu.Lock()
	known, ok := s.read[id]
	s.mu.Unlock()
	if !ok || s.now().Sub(known.at) >= ownerRefresh {
		found, err := s.find(ctx, []string{id})
		if err != nil {
			return nil, argus.Errorf(argus.CodeAuditUnavailable, "Your token's owner cannot be looked up at the moment. Try again.").
				WithCause(err).WithRetryAfter(time.Second)
		}
		known = readPerson{at: s.now()}
		if len(found) > 0 {
			known.shownPerson = &found[0]
		}
		s.mu.Lock()
		makeRoom(s.read, func(p readPerson) bool { return s.now().Sub(p.at) > ownerRefresh })
		s.read[id] = known
		s.mu.Unlock()
	}
	if known.shownPerson == nil || s.now().Sub(known.shown) > i.Rights {
		return nil, argus.Errorf(argus.CodeUnauthenticated, "The token's owner has not signed in at %s for %s. "+
			"Sign in again in the console or by argusctl login, then the token works.", i.Name, span(i.Rights)).
			WithCause(&Unauthenticated{Reason: reasonOwner})
	}
	return &owner{Person: known.Person, scopes: i.scopesOf(known.groups)}, nil
}

// persons gives how people are shown. Unknown ones are missing, and so are all while Postgres does not answer.
func (s *shownPeople) persons(ctx context.Context, ids []string) map[string]Person {
	found := map[string]Person{}
	var ask []string
	s.mu.Lock()
	for _, id := range ids {
		if p, ok := s.read[id]; !ok || s.now().Sub(p.at) > personMaxAge {
			ask = append(ask, id)
		} else if p.shownPerson != nil {
			found[id] = p.Person
		}
	}
	s.mu.Unlock()
	if len(ask) == 0 {
		return found
	}
	people, err := s.find(ctx, ask)
	if err != nil {
		return found
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	makeRoom(s.read, func(p readPerson) bool { return s.now().Sub(p.at) > ownerRefresh })
	for _, id := range ask {
		s.read[id] = readPerson{at: s.now()}
	}
	for _, p := range people {
		s.read[p.id] = readPerson{&p, s.now()}
		found[p.id] = p.Person
	}
	return found
}

// issuerOf is the issuer's name in an actor's id; "" for a Clerk user's.
func issuerOf(actorID string) string {
	name, _, ok := strings.Cut(actorID, ":")
	if !ok {
		return ""
	}
	return name
}

// span writes a length of time as the configuration has it: 24h, not 24h0m0s.
func span(d time.Duration) string {
	text := d.String()
	if strings.HasSuffix(text, "m0s") {
		text = strings.TrimSuffix(text, "0s")
	}
	if strings.HasSuffix(text, "h0m") {
		text = strings.TrimSuffix(text, "0m")
	}
	return text
}
