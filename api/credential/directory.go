package credential

import (
	"context"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/clerk/clerk-sdk-go/v2"
	"github.com/clerk/clerk-sdk-go/v2/organizationmembership"
	"github.com/clerk/clerk-sdk-go/v2/user"
	"golang.org/x/sync/singleflight"

	"github.com/useargus/argus"
)

// Ages of what is known of a token's owner.
const (
	ownerRefresh = 30 * time.Second // from then on asked anew in the background
	ownerMaxAge  = 60 * time.Second // from then on a call waits for the answer
	ownerGrace   = time.Hour        // how long it is used while Clerk is away
	ownerPause   = 2 * time.Second  // after a failed question
	strangerAge  = 10 * time.Second // how long a person who may not sign in is remembered
	personMaxAge = 10 * time.Minute // of names, which are for display alone
	namesWait    = 300 * time.Millisecond
	maxPeople    = 10_000
)

// owner is what Clerk says of a user: member of the organization, and with which rights.
type owner struct {
	Person
	scopes []argus.Scope // as they are granted: argus.ExpandScopes says what they are now
	why    string        // why the user may not sign in; "" when it may
	at     time.Time     // when Clerk said so
	tried  time.Time     // when Clerk was asked since, in vain; zero when it was not
}

// Person is how a user is shown.
type Person struct{ Name, Email string }

// directory remembers what Clerk said of users.
type directory struct {
	flight singleflight.Group
	mu     sync.Mutex
	owners map[string]*owner
	people map[string]knownPerson
	failed time.Time // when a question for names failed last
}

type knownPerson struct {
	Person
	at time.Time
}

func (d *directory) init() {
	d.owners, d.people = map[string]*owner{}, map[string]knownPerson{}
}

// owner returns the live rights of a token's owner. A user who was deleted, banned, or is no member of the
// organization is unauthenticated.
func (c *clerkIdentity) owner(ctx context.Context, id string) (*owner, error) {
	if !validUserID(id) {
		return nil, unauthenticated(reasonOwner, nil)
	}
	c.mu.Lock()
	o := c.owners[id]
	c.mu.Unlock()
	if o != nil {
		age := c.now().Sub(o.at)
		limit := ownerMaxAge
		if o.why != "" {
			limit = strangerAge
		}
		// No caller waits for a Clerk that did not answer before.
		failed := !o.tried.IsZero()
		if age < limit || failed && age < ownerGrace {
			if age >= ownerRefresh && c.now().Sub(o.tried) >= ownerPause {
				c.run(func(ctx context.Context) { _, _ = c.askOwner(ctx, id) })
			}
			return o.check()
		}
	}
	fresh, err := c.askOwner(ctx, id)
	switch {
	case err == nil:
		return fresh.check()
	case o != nil && c.now().Sub(o.at) < ownerGrace:
		return o.check()
	}
	return nil, issuerAway("Clerk", err)
}

func (o *owner) check() (*owner, error) {
	if o.why != "" {
		return nil, argus.Errorf(argus.CodeUnauthenticated, "The token's owner may no longer sign in: %s.", o.why).
			WithCause(&Unauthenticated{Reason: reasonOwner})
	}
	return o, nil
}

// askOwner asks Clerk, once for all who wait, for issuerPatience at most; the question itself goes on.
func (c *clerkIdentity) askOwner(ctx context.Context, id string) (*owner, error) {
	ctx, cancel := context.WithTimeout(ctx, issuerPatience)
	defer cancel()
	done := c.flight.DoChan("owner "+id, func() (any, error) {
		asking, cancel := context.WithTimeout(c.base, issuerTimeout)
		defer cancel()
		o, err := c.fetchOwner(asking, id)
		if err != nil {
			c.triedInVain(id)
			return nil, err
		}
		c.mu.Lock()
		old := c.owners[id]
		makeRoom(c.owners, func(o *owner) bool { return c.now().Sub(o.at) > ownerGrace })
		c.owners[id] = o
		c.people[id] = knownPerson{o.Person, o.at}
		c.mu.Unlock()
		if old == nil || o.why != old.why || !slices.Equal(o.scopes, old.scopes) {
			c.heard(personKey(id))
		}
		// What an earlier process wrote down is not known here, so the first answer is written too.
		if old == nil || (old.why != "") != (o.why != "") {
			c.left(id, o.why, old != nil)
		}
		return o, nil
	})
	select {
	case r := <-done:
		if r.Err != nil {
			return nil, r.Err
		}
		return r.Val.(*owner), nil
	case <-ctx.Done():
		c.triedInVain(id)
		return nil, ctx.Err()
	}
}

// triedInVain notes that Clerk did not answer; what it said before stands, as long as ownerGrace.
func (c *clerkIdentity) triedInVain(id string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if old := c.owners[id]; old != nil {
		again := *old
		again.tried = c.now()
		c.owners[id] = &again
	}
}

func (c *clerkIdentity) fetchOwner(ctx context.Context, id string) (*owner, error) {
	at := c.now() // an answer is as old as its question
	u, err := c.users.Get(ctx, url.PathEscape(id))
	switch {
	case isNotFound(err):
		return &owner{why: "the user was deleted", at: at}, nil
	case err != nil:
		return nil, err
	}
	o := &owner{Person: personOf(u), at: at}
	if u.ID != id || u.Banned {
		o.why = "the user is banned"
		return o, nil
	}
	limit := int64(1)
	list, err := c.members.List(ctx, &organizationmembership.ListParams{
		OrganizationID: url.PathEscape(c.config.Organization), UserIDs: []string{id}, ListParams: clerk.ListParams{Limit: &limit}})
	if err != nil {
		return nil, err
	}
	for _, m := range list.OrganizationMemberships {
		// Both are checked: an API that did not know the filter would answer with another person's rights.
		if m.PublicUserData != nil && m.PublicUserData.UserID == id &&
			m.Organization != nil && m.Organization.ID == c.config.Organization {
			o.scopes = c.granted(m.Role, m.Permissions)
			return o, nil
		}
	}
	o.why = "the user is not in the organization"
	return o, nil
}

func personOf(u *clerk.User) Person {
	var p Person
	for _, part := range []*string{u.FirstName, u.LastName} {
		if part != nil {
			p.Name = strings.TrimSpace(p.Name + " " + *part)
		}
	}
	if p.Name == "" && u.Username != nil {
		p.Name = *u.Username
	}
	for _, e := range u.EmailAddresses {
		if e != nil && (p.Email == "" || u.PrimaryEmailAddressID != nil && e.ID == *u.PrimaryEmailAddressID) {
			p.Email = e.EmailAddress
		}
	}
	return Person{argus.Text(p.Name, 200), argus.Text(p.Email, 200)}
}

// persons gives how users are shown, those it can find within namesWait. Unknown ones are missing.
func (c *clerkIdentity) persons(ctx context.Context, ids []string) map[string]Person {
	found := map[string]Person{}
	var ask []string
	c.mu.Lock()
	for _, id := range ids {
		p, ok := c.people[id]
		if ok && p.Person != (Person{}) {
			found[id] = p.Person
		}
		if (!ok || c.now().Sub(p.at) > personMaxAge) && validUserID(id) && !slices.Contains(ask, id) {
			ask = append(ask, id)
		}
	}
	resting := c.now().Sub(c.failed) < 10*time.Second
	c.mu.Unlock()
	if len(ask) == 0 || resting {
		return found
	}
	slices.Sort(ask)
	ask = ask[:min(len(ask), 100)] // what one question may hold; the others are asked for next time
	ctx, cancel := context.WithTimeout(ctx, namesWait)
	defer cancel()
	done := c.flight.DoChan("people "+strings.Join(ask, " "), func() (any, error) { return nil, c.fetchPersons(ask) })
	select {
	case <-done:
	case <-ctx.Done(): // they will be there next time
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, id := range ask {
		if p := c.people[id]; p.Person != (Person{}) {
			found[id] = p.Person
		}
	}
	return found
}

// users is the answer to GET /users. The SDK's own List asks a second question, for a count.
type users []*clerk.User

func (*users) Read(*clerk.APIResponse) {}

func (c *clerkIdentity) fetchPersons(ids []string) error {
	ctx, cancel := context.WithTimeout(c.base, issuerTimeout)
	defer cancel()
	limit := int64(len(ids))
	req := clerk.NewAPIRequest(http.MethodGet, "/users")
	req.SetParams(&user.ListParams{UserIDs: ids, ListParams: clerk.ListParams{Limit: &limit}})
	var list users
	err := c.backend.Call(ctx, req, &list)
	c.mu.Lock()
	defer c.mu.Unlock()
	if err != nil {
		c.failed = c.now()
		return err
	}
	makeRoom(c.people, func(p knownPerson) bool { return c.now().Sub(p.at) > personMaxAge })
	for _, id := range ids { // one that Clerk does not know is remembered as such
		c.people[id] = knownPerson{at: c.now()}
	}
	for _, u := range list {
		if u != nil && slices.Contains(ids, u.ID) {
			c.people[u.ID] = knownPerson{personOf(u), c.now()}
		}
	}
	return nil
}

// makeRoom keeps a map bounded: past maxPeople what is stale goes, or everything when nothing is.
func makeRoom[V any](m map[string]V, stale func(V) bool) {
	if len(m) < maxPeople {
		return
	}
	for id, v := range m {
		if stale(v) {
			delete(m, id)
		}
	}
	if len(m) >= maxPeople {
		clear(m)
	}
}
