package api

import (
	"cmp"
	"context"
	"encoding/base64"
	"maps"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"

	"github.com/useargus/argus"
	"github.com/useargus/argus/api/credential"
)

func (a *API) accessRoutes() []route {
	return []route{
		// It names everybody's tokens and addresses, and its reader is to take rights away: so it takes the scope of
		// those who may, which no agent has.
		{Method: http.MethodGet, Path: "/v1/access-review", Scope: argus.ScopeTokensAdmin, Handle: a.reviewAccess},
	}
}

// Kinds of a subject of an access review, in the order they are shown.
const (
	accessPerson        = "person"
	accessImpersonation = "impersonation" // a session in which one person was another
	accessToken         = "token"
	accessWorkload      = "workload"
	accessBreakGlass    = "break_glass"
)

var accessKinds = []string{accessPerson, accessImpersonation, accessToken, accessWorkload, accessBreakGlass}

// reviewed is what one subject may do, and did. Lists of scopes are null where it is not known what was granted.
type reviewed struct {
	Kind           string            `json:"kind"`
	ID             string            `json:"id"` // a token's id, else the actor's
	ActorID        string            `json:"actor_id"`
	ImpersonatorID *string           `json:"impersonator_id"`
	Name           *string           `json:"name"`  // of a token, or of a person; the reason of a break-glass token
	State          string            `json:"state"` // live, revoked, expired, gone or unknown
	Agent          *string           `json:"agent"` // that the token was made for
	Granted        []argus.Scope     `json:"granted"`
	Used           []usedScope       `json:"used"`
	Unused         []argus.Scope     `json:"unused"` // granted to a live subject, and not used: what could be taken away
	Calls          int64             `json:"calls"`  // all, those that need no scope included
	Denied         int64             `json:"denied"` // for want of a scope
	LastUsedAt     argus.JSONTime    `json:"last_used_at"`
	CreatedAt      argus.JSONTime    `json:"created_at"`
	ExpiresAt      argus.JSONTime    `json:"expires_at"`
	Addresses      []argus.SeenValue `json:"addresses"` // the last ones first
	MoreAddresses  bool              `json:"more_addresses"`
	Agents         []argus.SeenValue `json:"agents"` // that its calls named
	MoreAgents     bool              `json:"more_agents"`
	subjects       []argus.AccessSubject
}

type usedScope struct {
	Scope      string         `json:"scope"`
	Calls      int64          `json:"calls"`
	Denied     int64          `json:"denied"`
	LastUsedAt argus.JSONTime `json:"last_used_at"`
}

// key orders the subjects, and a cursor holds one.
func (r *reviewed) key() string {
	return strings.Join([]string{string(rune('a' + slices.Index(accessKinds, r.Kind))), r.ActorID, deref(r.ImpersonatorID), r.ID}, "\x00")
}

func deref(s *string) string {
	if s == nil {
		return ""
	}
	return *s
}

// reviewAccess answers who has which rights and who used them: from the record itself, beside the tokens of Postgres,
// what people may do now, and the rules of workloads.
func (a *API) reviewAccess(c *call) (answer, error) {
	q := c.Query()
	for name := range q {
		if !slices.Contains([]string{"since", "owner", "kind", "limit", "cursor"}, name) {
			return answer{}, argus.Errorf(argus.CodeInvalidParameter, "There is no parameter %q here; there are since, owner, kind, limit and cursor.", argus.Text(name, 40))
		}
	}
	var since, owner, kind, cursor string
	var err error
	for name, v := range map[string]*string{"since": &since, "owner": &owner, "kind": &kind, "cursor": &cursor} {
		if *v, err = one(q, name); err != nil {
			return answer{}, err
		}
	}
	if kind != "" && !slices.Contains(accessKinds, kind) {
		return answer{}, argus.Errorf(argus.CodeInvalidParameter, "kind must be one of %s.", strings.Join(accessKinds, ", "))
	}
	limit, err := numberOf(q, "limit", argus.MaxLimit)
	if err != nil {
		return answer{}, err
	}
	place := accessPlace{Until: argus.Micros(c.arrival)}
	if place.Since, err = argus.ParseTime(cmp.Or(since, "90d"), c.arrival); err != nil {
		return answer{}, err
	}
	if cursor != "" {
		var ok bool
		if place, ok = parseAccessPlace(cursor); !ok {
			return answer{}, argus.Errorf(argus.CodeInvalidCursor, "This cursor is not one of this list. Start again without it.")
		}
	}
	if !place.Since.Before(place.Until) {
		return answer{}, argus.Errorf(argus.CodeInvalidParameter, "since must be in the past.")
	}
	request := argus.AccessRequest{Since: place.Since, Until: place.Until}
	used, err := a.auditLog.Access(c.Context(), request)
	if err != nil {
		return answer{}, err
	}
	all, err := a.accessSubjects(c.Context(), used.Uses, place.Since)
	if err != nil {
		return answer{}, err
	}
	list := slices.SortedFunc(maps.Values(all), func(x, y *reviewed) int { return cmp.Compare(x.key(), y.key()) })
	list = slices.DeleteFunc(list, func(r *reviewed) bool {
		return owner != "" && r.ActorID != owner || kind != "" && r.Kind != kind || place.After != "" && r.key() <= place.After
	})
	var next *string
	if limit = cmp.Or(limit, argus.DefaultLimit); len(list) > limit {
		list = list[:limit]
		place.After = list[limit-1].key()
		token := place.String()
		next = &token
	}
	actors, err := a.complete(c.Context(), request, list)
	if err != nil {
		return answer{}, err
	}
	if list == nil {
		list = []*reviewed{}
	}
	return reply(struct {
		Since             argus.JSONTime    `json:"since"`
		Until             argus.JSONTime    `json:"until"`
		Subjects          []*reviewed       `json:"subjects"`
		NextCursor        *string           `json:"next_cursor"`
		Actors            map[string]string `json:"actors"`
		Source            argus.Source      `json:"source"`
		ReplicatedThrough argus.JSONTime    `json:"replicated_through"`
	}{argus.JSONTime(place.Since), argus.JSONTime(place.Until), list, next, actors, used.Source, argus.JSONTime(used.ReplicatedThrough)})
}

// accessSubjects joins what was used with what was granted: the tokens that had not ended before, their owners, and the
// workloads that rules let in.
func (a *API) accessSubjects(ctx context.Context, uses []argus.AccessUse, since time.Time) (map[string]*reviewed, error) {
	ctx, cancel := context.WithTimeout(ctx, accessTimeout)
	defer cancel()
	all := map[string]*reviewed{}
	add := func(r reviewed) *reviewed {
		key := r.key()
		if all[key] == nil {
			r.Used, r.Addresses, r.Agents = []usedScope{}, []argus.SeenValue{}, []argus.SeenValue{}
			all[key] = &r
		}
		return all[key]
	}
	tokens, err := credential.AccessTokens(ctx, a.pool, since)
	if err != nil {
		return nil, nothingHappened(err)
	}
	known := map[uuid.UUID]bool{}
	for _, t := range tokens {
		known[t.ID] = true
	}
	// One that was used and had ended before, by another clock, or was deleted.
	var others []uuid.UUID
	for i := range uses {
		if id := uses[i].Subject.TokenID; id != uuid.Nil && !known[id] {
			known[id] = true
			others = append(others, id)
		}
	}
	if more, err := credential.TokensByID(ctx, a.pool, others); err != nil {
		return nil, nothingHappened(err)
	} else {
		tokens = append(tokens, more...)
	}
	now := time.Now()
	for i := range tokens {
		t := &tokens[i]
		r := reviewed{Kind: accessToken, ID: t.ID.String(), ActorID: t.ActorID, Name: &t.Name, Agent: t.Agent, State: credential.TokenLive,
			Granted: t.Scopes, CreatedAt: t.CreatedAt, ExpiresAt: t.ExpiresAt}
		if t.Kind == argus.KindBreakGlass {
			r.Kind = accessBreakGlass
		}
		switch {
		case !time.Time(t.RevokedAt).IsZero():
			r.State = "revoked"
		case !now.Before(time.Time(t.ExpiresAt)):
			r.State = "expired"
		case t.Kind == argus.KindPAT: // its owner has access, used or not
			add(reviewed{Kind: accessPerson, ID: t.ActorID, ActorID: t.ActorID, State: "unknown"})
		}
		add(r)
	}
	for _, w := range a.credentials.Workloads() {
		add(reviewed{Kind: accessWorkload, ID: w.ActorID, ActorID: w.ActorID, State: credential.TokenLive, Granted: w.Scopes})
	}
	for i := range uses {
		u := &uses[i]
		r := reviewed{Kind: accessPerson, ID: u.Subject.ActorID, ActorID: u.Subject.ActorID, State: "unknown"}
		switch {
		case u.Subject.ActorKind == argus.KindPAT:
			r.Kind, r.ID = accessToken, u.Subject.TokenID.String()
		case u.Subject.ActorKind == argus.KindBreakGlass:
			r.Kind, r.ID = accessBreakGlass, u.Subject.TokenID.String()
		case u.Subject.ActorKind == argus.KindWorkload:
			r.Kind = accessWorkload
		case u.Subject.ImpersonatorID != "":
			r.Kind, r.ImpersonatorID = accessImpersonation, &u.Subject.ImpersonatorID
		}
		add(r).count(u)
	}
	return all, nil
}

// accessTimeout bounds the reading of all tokens.
const accessTimeout = 5 * time.Second

// count adds what was used. Scopes that are never granted count as calls alone.
func (r *reviewed) count(u *argus.AccessUse) {
	r.Calls += u.Calls
	r.Denied += u.Denied
	if u.LastAt.After(time.Time(r.LastUsedAt)) {
		r.LastUsedAt = argus.JSONTime(u.LastAt)
	}
	if !slices.Contains(r.subjects, u.Subject) {
		r.subjects = append(r.subjects, u.Subject)
	}
	if u.Scope == argus.ScopeAny || u.Scope == argus.ScopeNone {
		return
	}
	i := slices.IndexFunc(r.Used, func(s usedScope) bool { return s.Scope == u.Scope })
	if i < 0 {
		i, r.Used = len(r.Used), append(r.Used, usedScope{Scope: u.Scope})
	}
	s := &r.Used[i]
	s.Calls, s.Denied = s.Calls+u.Calls, s.Denied+u.Denied
	if u.LastAt.After(time.Time(s.LastUsedAt)) {
		s.LastUsedAt = argus.JSONTime(u.LastAt)
	}
}

// complete finds for a page what takes a question each: from where they called, what people may do now, and names.
func (a *API) complete(ctx context.Context, request argus.AccessRequest, list []*reviewed) (map[string]string, error) {
	var subjects []argus.AccessSubject
	var people, names []string
	for _, r := range list {
		subjects = append(subjects, r.subjects...)
		names = append(names, r.ActorID)
		if r.ImpersonatorID != nil {
			names = append(names, *r.ImpersonatorID)
		}
		if r.Kind == accessPerson || r.Kind == accessToken {
			people = append(people, r.ActorID)
		}
	}
	seen := map[argus.AccessSubject]argus.AccessSeen{}
	if len(subjects) > 0 {
		var err error
		if seen, err = a.auditLog.AccessSeen(ctx, request, subjects); err != nil {
			return nil, err
		}
	}
	rights := a.credentials.Rights(ctx, people)
	actors := namesOf(ctx, a.credentials, nil, names...)
	for _, r := range list {
		for _, s := range r.subjects {
			r.Addresses, r.MoreAddresses = mergeSeen(r.Addresses, seen[s].Addresses, r.MoreAddresses || seen[s].MoreAddresses)
			r.Agents, r.MoreAgents = mergeSeen(r.Agents, seen[s].Agents, r.MoreAgents || seen[s].MoreAgents)
		}
		owner, known := rights[r.ActorID]
		switch gone := known && owner.Why != ""; {
		case r.Kind == accessPerson && known:
			r.State, r.Granted = credential.TokenLive, append([]argus.Scope{}, owner.Scopes...)
			if gone {
				r.State = accessGone
			}
		case r.Kind == accessToken && gone && r.State == credential.TokenLive:
			r.State = accessGone
		}
		if r.Kind == accessPerson {
			r.Name = argus.OrNull(actors[r.ID])
		}
		r.findUnused()
	}
	return actors, nil
}

// accessGone is the state of a person who may not sign in, and of their tokens.
const accessGone = "gone"

// findUnused is what could be taken away: nothing of what has ended.
func (r *reviewed) findUnused() {
	if r.Granted == nil {
		return
	}
	r.Unused = []argus.Scope{}
	for _, s := range r.Granted {
		used := slices.ContainsFunc(r.Used, func(u usedScope) bool { return u.Scope == string(s) && u.Calls > u.Denied })
		if !used && r.State == credential.TokenLive {
			r.Unused = append(r.Unused, s)
		}
	}
}

// mergeSeen joins what was seen of a person's sessions of two kinds.
func mergeSeen(a, b []argus.SeenValue, more bool) ([]argus.SeenValue, bool) {
	last := map[string]time.Time{}
	for _, v := range slices.Concat(a, b) {
		if v.LastAt.After(last[v.Value]) {
			last[v.Value] = v.LastAt
		}
	}
	all := make([]argus.SeenValue, 0, len(last))
	for value, at := range last {
		all = append(all, argus.SeenValue{Value: value, LastAt: at})
	}
	slices.SortFunc(all, func(x, y argus.SeenValue) int {
		return cmp.Or(y.LastAt.Compare(x.LastAt), cmp.Compare(x.Value, y.Value))
	})
	if len(all) > argus.MaxAccessSeen {
		all, more = all[:argus.MaxAccessSeen], true
	}
	return all, more
}

// accessPlace is where a page ends, and of which time all pages are. Each page is asked for with its caller's rights,
// so a cursor opens nothing.
type accessPlace struct {
	Since, Until time.Time
	After        string // key of the last subject
}

func (p accessPlace) String() string {
	return base64.RawURLEncoding.EncodeToString([]byte(p.Since.Format(argus.TimeFormat) + p.Until.Format(argus.TimeFormat) + p.After))
}

func parseAccessPlace(s string) (p accessPlace, ok bool) {
	const size = len(argus.TimeFormat)
	b, err := base64.RawURLEncoding.Strict().DecodeString(s)
	if err != nil || len(b) <= 2*size || len(b) > 4096 {
		return p, false
	}
	since, err1 := time.Parse(argus.TimeFormat, string(b[:size]))
	until, err2 := time.Parse(argus.TimeFormat, string(b[size:2*size]))
	return accessPlace{since, until, string(b[2*size:])}, err1 == nil && err2 == nil
}
