package argus

import (
	"fmt"
	"slices"
	"strings"

	"github.com/google/uuid"
)

// Scope names one right. A route asks for exactly one.
type Scope string

const (
	ScopeLogsRead         Scope = "logs:read"
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
)

// AllScopes lists every scope, in the order they are shown.
func AllScopes() []Scope {
	return []Scope{ScopeLogsRead, ScopeTenantsRead, ScopeTenantsWrite, ScopeComputeRead, ScopeComputeWrite, ScopeRemoteSupport,
		ScopeRemoteSupportArm, ScopeTokensWrite, ScopeTokensAdmin, ScopeEventsRead, ScopeEventsEmit}
}

// The presets: named sets of scopes, expanded when a token is created.
const (
	PresetSupportReadonly = "support-readonly"
	PresetAdminFull       = "admin-full"
)

// PresetScopes returns the scopes of the named preset; ok is false when there is none of that name.
func PresetScopes(preset string) (scopes []Scope, ok bool) {
	switch preset {
	case PresetSupportReadonly:
		return []Scope{ScopeLogsRead, ScopeTenantsRead, ScopeComputeRead}, true
	case PresetAdminFull:
		return AllScopes(), true
	}
	return nil, false
}

// PresetOf names the preset whose scopes are exactly these, "" when there is none.
func PresetOf(scopes []Scope) string {
	for _, name := range []string{PresetSupportReadonly, PresetAdminFull} {
		want, _ := PresetScopes(name)
		if len(want) == len(scopes) && Within(scopes, want) {
			return name
		}
	}
	return ""
}

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
