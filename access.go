package argus

import (
	"cmp"
	"encoding/json"
	"time"

	"github.com/google/uuid"
)

// AccessRequest asks who used which scopes from Since until Until, which must be set.
type AccessRequest struct{ Since, Until time.Time }

// AccessResult answers it from the record. Uses are sorted by Compare of their subjects, then by scope.
type AccessResult struct {
	Uses              []AccessUse
	Source            Source
	ReplicatedThrough time.Time
}

// AccessSubject is what calls are made with: a token, or a person's or a workload's own credential. A session that
// another person impersonates is a subject of its own.
type AccessSubject struct {
	ActorKind      ActorKind
	ActorID        string
	ImpersonatorID string    // "" without impersonation
	TokenID        uuid.UUID // a personal access token or a break-glass token; uuid.Nil for neither
}

// Compare orders subjects.
func (s AccessSubject) Compare(o AccessSubject) int {
	return cmp.Or(cmp.Compare(s.ActorKind, o.ActorKind), cmp.Compare(s.ActorID, o.ActorID),
		cmp.Compare(s.ImpersonatorID, o.ImpersonatorID), cmp.Compare(s.TokenID.String(), o.TokenID.String()))
}

// AccessUse is how often a subject asked for a scope. Scope may be ScopeAny and ScopeNone, which are never granted.
type AccessUse struct {
	Subject AccessSubject
	Scope   string
	Calls   int64 // all of them
	Denied  int64 // those that the subject lacked the scope for
	LastAt  time.Time
}

// AccessSeen is from where a subject called, and for which programs: the last ones first, at most MaxAccessSeen.
type AccessSeen struct {
	Addresses, Agents []SeenValue
	MoreAddresses     bool // there were others before
	MoreAgents        bool
}

// SeenValue is a value, and the last call that had it.
type SeenValue struct {
	Value  string
	LastAt time.Time
}

// MarshalJSON writes {"value": …, "last_at": …}.
func (v SeenValue) MarshalJSON() ([]byte, error) {
	return json.Marshal(struct {
		Value  string   `json:"value"`
		LastAt JSONTime `json:"last_at"`
	}{v.Value, JSONTime(v.LastAt)})
}

// MaxAccessSeen bounds the addresses and agents of a subject.
const MaxAccessSeen = 8
