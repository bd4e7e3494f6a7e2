package argus

import (
	"fmt"
	"regexp"
	"slices"
	"strings"
	"sync/atomic"

	"github.com/google/uuid"
)

// Scope names one right. A route asks for exactly one.
type Scope string

const (
	ScopeLogsRead         Scope = "logs:read"
	ScopeViewsWrite       Scope = "views:write"
	ScopeTenantsRead      Scope = "tenants:read"
	ScopeTenantsWrite     Scope = "tenants:write"
	ScopeComputeRead      Scope = "compute:read"
	ScopeComputeWrite     Scope = "compute:write"
	ScopeRemoteSupport    Scope = "remote_support"
	ScopeRemoteSupportArm Scope = "remote_support:arm"
	ScopeTokensWrite      Scope = "tokens:write"
	ScopeTokensAdmin      Scope = "tokens:admin"
	ScopeEventsRead       Scope = "events:read"
	ScopeEventsEmit       Scope = "events:emit"
	ScopeSinksWrite       Scope = "sinks:write"
)

// ownScopes are those of ARGUS's own routes.
var ownScopes = []Scope{ScopeLogsRead, ScopeViewsWrite, ScopeTenantsRead, ScopeTenantsWrite, ScopeComputeRead, ScopeComputeWrite, ScopeRemoteSupport,
	ScopeRemoteSupportArm, ScopeTokensWrite, ScopeTokensAdmin, ScopeEventsRead, ScopeEventsEmit, ScopeSinksWrite}

// ReadOnly reports whether a scope lets its holder see things and change none. The name tells it, of ARGUS's own scopes
// and of those that services declare: what stands behind the last colon is "read". argus.personal_access_tokens holds an
// agent's token to the same rule.
func (s Scope) ReadOnly() bool { return strings.HasSuffix(string(s), ":read") && s != ":read" }

// ForAgents gives those of scopes that an agent's token may have: the read-only ones, and with actions the others too.
// A say over tokens is never among them, since a program could then make itself another token.
func ForAgents(scopes []Scope, actions bool) []Scope {
	out := make([]Scope, 0, len(scopes))
	for _, s := range scopes {
		if s.ReadOnly() || actions && s != ScopeTokensWrite && s != ScopeTokensAdmin {
			out = append(out, s)
		}
	}
	return out
}

// The presets: named sets of scopes, expanded when a token is created.
const (
	PresetSupportReadonly = "support-readonly"
	PresetAdminFull       = "admin-full"
)

// Presets names the presets, in the order they are shown.
func Presets() []string { return []string{PresetSupportReadonly, PresetAdminFull} }

// DeclaredScope is a scope of a service behind the door: the services file declares it.
type DeclaredScope struct {
	Scope   Scope
	About   string   // one line for people
	Presets []string // the presets that hold it besides their own scopes
}

// known is what a process knows of scopes. It is replaced whole, so a reader sees either all of a reload or nothing of it.
var known atomic.Pointer[scopeSet]

type scopeSet struct {
	all      []Scope
	presets  map[string][]Scope
	declared []DeclaredScope
}

func init() { DeclareScopes(nil) }

// DeclareScopes sets the scopes that this process knows besides its own, in the place of those declared before. A scope
// that is no longer declared is no scope any more: tokens and roles that name it keep the name, and it gives them nothing.
func DeclareScopes(declared []DeclaredScope) {
	set := &scopeSet{all: slices.Clone(ownScopes), declared: slices.Clone(declared), presets: map[string][]Scope{
		PresetSupportReadonly: {ScopeLogsRead, ScopeTenantsRead, ScopeComputeRead},
		PresetAdminFull:       slices.Clone(ownScopes),
	}}
	for _, d := range declared {
		if slices.Contains(set.all, d.Scope) {
			continue
		}
		set.all = append(set.all, d.Scope)
		for _, preset := range d.Presets {
			set.presets[preset] = append(set.presets[preset], d.Scope)
		}
	}
	known.Store(set)
}

// DeclaredScopes are the scopes of services, in the order they are shown.
func DeclaredScopes() []DeclaredScope { return slices.Clone(known.Load().declared) }

// OwnScopes are those of ARGUS's own routes.
func OwnScopes() []Scope { return slices.Clone(ownScopes) }

// AllScopes lists every scope, in the order they are shown: ARGUS's own, then those of services.
func AllScopes() []Scope { return slices.Clone(known.Load().all) }

// PresetScopes returns the scopes of the named preset; ok is false when there is none of that name.
func PresetScopes(preset string) (of []Scope, ok bool) {
	of, ok = known.Load().presets[preset]
	return slices.Clone(of), ok
}

// ExpandScopes returns the scopes that names stand for now, in the order of AllScopes. A preset's name stands for its
// scopes, and a name of no scope for nothing. Rules that outlive a reload hold names and are expanded at each use.
func ExpandScopes(names []Scope) []Scope {
	set := known.Load()
	var granted []Scope
	for _, name := range names {
		if of, ok := set.presets[string(name)]; ok {
			granted = append(granted, of...)
		} else {
			granted = append(granted, name)
		}
	}
	return Intersect(set.all, granted)
}

// PresetOf names the preset whose scopes are exactly these, "" when there is none.
func PresetOf(scopes []Scope) string {
	for _, name := range Presets() {
		want, _ := PresetScopes(name)
		if len(want) == len(scopes) && Within(scopes, want) {
			return name
		}
	}
	return ""
}

// ValidScopeName reports whether a services file may declare a scope of this name: lower-case words, a colon, more of them.
func ValidScopeName(name string) bool { return len(name) <= 64 && scopeName.MatchString(name) }

var scopeName = regexp.MustCompile(`^[a-z][a-z0-9_-]*(:[a-z][a-z0-9_-]*)+$`)

// ParseScopes checks each name, drops repetitions and returns them in the order of AllScopes.
func ParseScopes(names []string) ([]Scope, error) {
	all := AllScopes()
	var scopes []Scope
	for _, name := range names {
		if !slices.Contains(all, Scope(name)) {
			return nil, Errorf(CodeInvalidParameter, "There is no scope %q; the scopes are %s.", Text(name, 64), JoinScopes(all))
		}
	}
	for _, s := range all {
		if slices.Contains(names, string(s)) {
			scopes = append(scopes, s)
		}
	}
	return scopes, nil
}

// Within reports whether each of scopes is one of bounds.
func Within(scopes, bounds []Scope) bool {
	for _, s := range scopes {
		if !slices.Contains(bounds, s) {
			return false
		}
	}
	return true
}

// Intersect returns those of scopes that are also in bounds.
func Intersect(scopes, bounds []Scope) []Scope {
	out := make([]Scope, 0, len(scopes))
	for _, s := range scopes {
		if slices.Contains(bounds, s) {
			out = append(out, s)
		}
	}
	return out
}

// JoinScopes lists scopes separated by commas.
func JoinScopes(scopes []Scope) string {
	names := make([]string, len(scopes))
	for i, s := range scopes {
		names[i] = string(s)
	}
	return strings.Join(names, ", ")
}

// Actor is who a credential belongs to and what it may do: the answer to "who is calling?".
type Actor struct {
	ID             string // the Clerk user (user_…), the workload's name
	ImpersonatorID string // Clerk's act.sub, "" without impersonation
	Kind           ActorKind
	PATID          uuid.UUID // uuid.Nil unless Kind is KindPAT
	BreakGlassID   uuid.UUID // uuid.Nil unless Kind is KindBreakGlass
	Name           string    // for display, "" when unknown
	Email          string    // for display, "" when unknown
	Preset         string    // "" when the scopes are no preset's
	Scopes         []Scope
	Agent          string  // the program that acts for the actor, "" when it acts itself
	Workload       []Claim // what the rule that admitted a workload asks for; nil of any other kind
}

// Can reports whether the actor has the scope.
func (a *Actor) Can(s Scope) bool { return slices.Contains(a.Scopes, s) }

// String names the actor for logs; it holds no secret.
func (a *Actor) String() string { return fmt.Sprintf("%s (%s)", a.ID, a.Kind) }
