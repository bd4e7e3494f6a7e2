package credential

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"
	"unicode"

	"github.com/useargus/argus"
)

// IssuerKind says whom an OpenID Connect issuer names.
type IssuerKind string

const (
	People    IssuerKind = "people"
	Workloads IssuerKind = "workloads"
)

// maxIssuedToken bounds the time from iat to exp of an issuer's token: until its end nothing revokes it.
const maxIssuedToken = 24 * time.Hour

// DefaultMaxTokenAge is how long a person's token is believed after it was made. A group that the issuer took away, or a
// person who left, is believed no longer. Console and argusctl renew the token meanwhile.
const DefaultMaxTokenAge = time.Hour

// Issuer is an OpenID Connect issuer whose tokens are taken, as ARGUS_IDENTITY_FILE has it. ReadIssuers checks it.
type Issuer struct {
	Name     string // prefix of its actors' ids, unique
	Issuer   string // the exact iss, and where it is discovered
	Audience string // one of aud
	Kind     IssuerKind
	CAFile   string // the authorities of its certificate; "" means the system's

	// Of people.
	Claims ClaimNames
	Scopes map[string][]argus.Scope // by group; others give none
	Rights time.Duration            // how long a personal access token keeps its owner's rights after a sign-in showed them
	SignIn *SignIn                  // nil: console and argusctl offer no sign-in at it
	// MaxTokenAge is how long a token is believed after it was made, when it does not end before; 0 means DefaultMaxTokenAge.
	MaxTokenAge time.Duration
	// Parties are the clients (azp) whose tokens are taken besides SignIn's.
	Parties []string

	// Of workloads.
	Rules []Rule
	Keep  []string // claims that are kept with the call besides those that matched
}

// ClaimNames are where the claims of people stand: names, or JSON Pointers (RFC 6901) that begin with a slash.
type ClaimNames struct{ Subject, Name, Email, Groups string }

// SignIn is the public client as which the console and argusctl sign people in: by code with PKCE, without a secret.
type SignIn struct {
	ClientID string
	Scopes   []string
}

// Rule gives workloads whose claims match an actor and scopes.
type Rule struct {
	When   map[string]string // claim to pattern: it must equal; * stands for one path segment
	Actor  string
	Scopes []argus.Scope
}

// UsesIDToken reports whether the ID token is sent to the API: when its audience, the client, is the audience asked for.
// Otherwise the access token is.
func (i *Issuer) UsesIDToken() bool { return i.SignIn != nil && i.SignIn.ClientID == i.Audience }

// identity is one issuer with what is known of it.
type identity struct {
	Issuer
	keys      *keyring
	discovery *discovery
	people    *shownPeople
}

// verify checks a token of this issuer, says who its bearer is, and notes what it shows of a person.
func (i *identity) verify(ctx context.Context, t *signedToken) (*Credential, error) {
	cred, err := i.judge(ctx, t)
	if err == nil && i.Kind == People {
		if p, err := i.read(t); err == nil {
			i.people.saw(ctx, p)
		}
	}
	return cred, err
}

// judge checks a token of this issuer and says who its bearer is.
func (i *identity) judge(ctx context.Context, t *signedToken) (*Credential, error) {
	if err := i.keys.check(ctx, t); err != nil {
		return nil, err
	}
	if err := t.within(time.Now(), maxIssuedToken); err != nil {
		return nil, err
	}
	if err := i.addressed(t); err != nil {
		return nil, unauthenticated(reasonToken, err)
	}
	if i.Kind == Workloads {
		return i.workload(t)
	}
	if mark := t.workloadMark(); mark != "" {
		return nil, unauthenticated(reasonToken, fmt.Errorf("a workload's token (%s), and this issuer is for people", argus.Text(mark, 64)))
	}
	longest := cmp.Or(i.MaxTokenAge, DefaultMaxTokenAge)
	if end := t.issued.Add(longest); end.Before(t.expires) {
		if t.expires = end; !time.Now().Before(end.Add(leeway)) {
			return nil, unauthenticated(reasonExpired, fmt.Errorf("it was made longer than %s ago (max_token_age)", span(longest)))
		}
	}
	return i.person(t)
}

// addressed checks for whom the token was made. A workload's token is for this audience alone: another recipient could
// send it here. A person's may name others beside it when it says (azp) that one of our clients asked for it.
func (i *identity) addressed(t *signedToken) error {
	if t.issuer != i.Issuer.Issuer {
		return errors.New("another issuer's (iss)")
	}
	if !slices.Contains(t.audience, i.Audience) {
		return errors.New("for another audience (aud)")
	}
	if i.Kind == Workloads {
		if len(t.audience) > 1 {
			return errors.New("for other audiences too (aud)")
		}
		return nil
	}
	if _, tells := t.claims["events"].(map[string]any); tells { // RFC 8417: a logout at the issuer, among others
		return errors.New("news of the issuer (events), and no credential")
	}
	ours := func(client string) bool {
		return slices.Contains(i.Parties, client) || i.SignIn != nil && i.SignIn.ClientID == client
	}
	for _, claim := range clientClaims {
		value, named := t.claims[claim]
		if client, _ := value.(string); named && !ours(client) && (i.SignIn != nil || len(i.Parties) > 0) {
			return fmt.Errorf("asked for by another client (%s %q)", claim, argus.Text(client, 64))
		}
	}
	if _, named := t.claims["azp"]; len(t.audience) > 1 && !(named && ours(t.party)) {
		return errors.New("for other audiences too (aud), and not asked for by one of our clients (azp)")
	}
	return nil
}

// clientClaims name the client that asked for a token: in OpenID Connect, in access tokens of RFC 9068, and Okta's own.
var clientClaims = []string{"azp", "client_id", "cid"}

// plainSubject: a row keeps it as it is, and a reader sees it as it is.
func plainSubject(s string) bool {
	return s != "" && strings.TrimSpace(s) == s && !strings.ContainsFunc(s, func(r rune) bool {
		return unicode.IsControl(r) || unicode.In(r, unicode.Cf, unicode.Zl, unicode.Zp)
	})
}

// validPersonID: issuer:subject, of any issuer. Whether there is such an issuer is not known here.
func validPersonID(id string) bool {
	name, subject, ok := strings.Cut(id, ":")
	return ok && issuerName.MatchString(name) && plainSubject(subject) && argus.Text(id, argus.MaxActorID) == id
}

// actorID is name:rest. Names hold no colon, so no two issuers make the same, and none makes one of Clerk's.
func (i *identity) actorID(rest string) (string, error) {
	id := i.Name + ":" + rest
	hidden := func(r rune) bool {
		return unicode.IsControl(r) || unicode.Is(unicode.Cf, r) || unicode.Is(unicode.Zl, r) || unicode.Is(unicode.Zp, r)
	}
	if rest == "" || strings.TrimSpace(rest) != rest || strings.ContainsFunc(rest, hidden) || argus.Text(id, argus.MaxActorID) != id {
		return "", errors.New("its subject is empty, too long, or has characters that a row does not keep")
	}
	return id, nil
}

func (i *identity) person(t *signedToken) (*Credential, error) {
	p, err := i.read(t)
	if err != nil {
		return nil, unauthenticated(reasonToken, err)
	}
	actor := argus.Actor{ID: p.id, Kind: argus.KindOIDCSession, Name: p.Name, Email: p.Email, Scopes: i.scopesOf(p.groups)}
	actor.Preset = argus.PresetOf(actor.Scopes)
	return &Credential{Actor: actor, Principal: "session of " + actor.ID, Expires: t.expires.Add(leeway)}, nil
}

// read takes a person out of the claims. A name or e-mail address of another type is left out: both are for display.
// Groups of another type are no credential, so that a mistake at the issuer is seen.
func (i *identity) read(t *signedToken) (shownPerson, error) {
	var p shownPerson
	subject, _ := t.claim(i.Claims.Subject)
	text, ok := subject.(string)
	if !ok {
		return p, fmt.Errorf("%s is no text", i.Claims.Subject)
	}
	var err error
	if p.id, err = i.actorID(text); err != nil {
		return p, err
	}
	display := func(claim string) string {
		value, _ := t.claim(claim)
		text, _ := value.(string)
		return argus.Text(strings.TrimSpace(text), 200)
	}
	p.Name, p.Email, p.shown = display(i.Claims.Name), display(i.Claims.Email), t.issued
	value, there := t.claim(i.Claims.Groups)
	if !there || value == nil {
		return p, nil
	}
	groups, ok := texts(value)
	if !ok {
		return p, fmt.Errorf("%s is neither a text nor a list of texts", i.Claims.Groups)
	}
	for group := range i.Scopes { // the others give nothing and are not kept
		if slices.Contains(groups, group) {
			p.groups = append(p.groups, group)
		}
	}
	slices.Sort(p.groups)
	return p, nil
}

// scopesOf gives what groups are mapped to, in the order of argus.AllScopes.
func (i *identity) scopesOf(groups []string) []argus.Scope {
	var granted []argus.Scope
	for _, group := range groups {
		granted = append(granted, i.Scopes[group]...)
	}
	return argus.ExpandScopes(granted)
}

func (i *identity) workload(t *signedToken) (*Credential, error) {
	var failed []string
	for _, rule := range i.Rules {
		if claim, ok := rule.match(t); !ok {
			if claim = argus.Text(claim, 64); len(failed) < 8 && !slices.Contains(failed, claim) {
				failed = append(failed, claim)
			}
			continue
		}
		id, err := i.actorID(rule.Actor)
		if err != nil {
			return nil, unauthenticated(reasonToken, err)
		}
		actor := argus.Actor{ID: id, Kind: argus.KindWorkload, Scopes: argus.ExpandScopes(rule.Scopes), Workload: i.kept(t, rule)}
		actor.Preset = argus.PresetOf(actor.Scopes)
		return &Credential{Actor: actor, Principal: "workload " + id, Expires: t.expires.Add(leeway)}, nil
	}
	return nil, unauthenticated(reasonRule, fmt.Errorf("claims that no rule has so: %s", strings.Join(failed, ", ")))
}

// match reports whether each claim of the rule equals its pattern; failed names one that does not.
func (r Rule) match(t *signedToken) (failed string, ok bool) {
	names := make([]string, 0, len(r.When))
	for name := range r.When {
		names = append(names, name)
	}
	slices.Sort(names)
	for _, name := range names {
		value, there := t.claim(name)
		text, is := plain(value)
		if !there || !is || !matches(r.When[name], text) {
			return name, false
		}
	}
	return "", true
}

// matches compares segment by segment between slashes; * matches any one that is not empty.
func matches(pattern, text string) bool {
	if !strings.Contains(pattern, "*") {
		return pattern == text
	}
	want, have := strings.Split(pattern, "/"), strings.Split(text, "/")
	if len(want) != len(have) {
		return false
	}
	for i := range want {
		if want[i] != have[i] && (want[i] != "*" || have[i] == "") {
			return false
		}
	}
	return true
}

// maxKeptClaims bounds how many claims a row keeps of a workload.
const maxKeptClaims = 24

// kept are the claims that matched, and those of Keep that the token has.
func (i *identity) kept(t *signedToken, r Rule) []argus.Claim {
	var kept []argus.Claim
	add := func(name string) {
		value, there := t.claim(name)
		text, ok := plain(value)
		if there && ok && len(kept) < maxKeptClaims && !slices.ContainsFunc(kept, func(p argus.Claim) bool { return p.Name == name }) {
			kept = append(kept, argus.Claim{Name: argus.Text(name, argus.MaxClaim), Value: argus.Text(text, argus.MaxClaim)})
		}
	}
	for name := range r.When {
		add(name)
	}
	for _, name := range i.Keep {
		add(name)
	}
	slices.SortFunc(kept, func(a, b argus.Claim) int { return strings.Compare(a.Name, b.Name) })
	return kept
}

// DefaultKeep are the claims that say which run of which pipeline it was, at the issuers that are known for it.
func DefaultKeep() []string {
	return []string{"sub", "run_id", "run_attempt", "workflow_ref", "actor", "sha", // GitHub Actions
		"pipeline_id", "job_id", "user_login", // GitLab CI
		"build_number", "step_key", // Buildkite
		"/kubernetes.io/namespace", "/kubernetes.io/pod/name", "/kubernetes.io/serviceaccount/name"}
}
