package api

import (
	"cmp"
	"context"
	"errors"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"

	"github.com/useargus/argus"
	"github.com/useargus/argus/api/credential"
)

// maxTokenName is the length of a token's name in characters, as argus.Given counts them.
const maxTokenName = 100

// maxLiveTokens bounds how many usable tokens one owner has.
const maxLiveTokens = 200

func (a *API) tokenRoutes() []route {
	return []route{
		{Method: http.MethodGet, Path: "/v1/tokens", Scope: scopeAny, Handle: a.listTokens},
		{Method: http.MethodPost, Path: "/v1/tokens", Scope: argus.ScopeTokensWrite, Effects: true, Secret: true, Handle: a.createToken},
		{Method: http.MethodGet, Path: "/v1/tokens/:id", Scope: scopeAny, Handle: a.showToken},
		{Method: http.MethodDelete, Path: "/v1/tokens/:id", Scope: scopeAny, Effects: true, Handle: a.deleteToken},
		{Method: http.MethodPost, Path: "/v1/tokens/revoke", Scope: argus.ScopeTokensAdmin, Effects: true, Handle: a.revokeTokens},
	}
}

// Which tokens a credential may list and end, on the routes with the scope any:
//
//   - a session: its user's;
//   - a token: itself and what descends from it; with tokens:write its owner's;
//   - with tokens:admin, everybody's.
//
// What goes beyond any is recorded as the call's scope.
const ownTokensOnly = "A token lists and ends itself and what was made with it. For your other tokens sign in, or use a token with the scope tokens:write."

// uses says that the call is allowed by a scope that depends on what it asks for, so that its row says so.
func (c *call) uses(s argus.Scope) bool {
	if !c.Actor.Can(s) {
		return false
	}
	c.Record.Scope = string(s)
	return true
}

// listTokens lists tokens, newest first: the caller's own, or with owner others'.
func (a *API) listTokens(c *call) (answer, error) {
	q := c.Query()
	for name := range q {
		if !slices.Contains([]string{"owner", "state", "unused_since", "limit", "cursor"}, name) {
			return answer{}, argus.Errorf(argus.CodeInvalidParameter, "There is no parameter %q here; there are owner, state, unused_since, limit and cursor.", argus.Text(name, 40))
		}
	}
	query := credential.TokenQuery{}
	var since string
	var err error
	for name, v := range map[string]*string{"owner": &query.Owner, "state": &query.State, "unused_since": &since, "cursor": &query.After} {
		if *v, err = one(q, name); err != nil {
			return answer{}, err
		}
	}
	if query.Limit, err = numberOf(q, "limit", argus.MaxLimit); err != nil {
		return answer{}, err
	}
	if query.Limit == 0 {
		query.Limit = argus.DefaultLimit
	}
	if query.State != "" && query.State != credential.TokenLive && query.State != credential.TokenEnded {
		return answer{}, argus.Errorf(argus.CodeInvalidParameter, "state must be %s or %s.", credential.TokenLive, credential.TokenEnded)
	}
	if since != "" {
		if query.UnusedSince, err = argus.ParseTime(since, c.arrival); err != nil {
			return answer{}, err
		}
	}
	switch own := query.Owner == "" || query.Owner == c.Actor.ID; {
	case own && c.signedIn(), own && c.uses(argus.ScopeTokensWrite):
		query.Owner = c.Actor.ID
	case own && query.Owner == "": // a break-glass token has made none
		query.Owner, query.Within = c.Actor.ID, cmp.Or(c.Actor.PATID, c.Actor.BreakGlassID)
	case !own && query.Owner == "all" && c.uses(argus.ScopeTokensAdmin):
		query.Owner = ""
	case c.uses(argus.ScopeTokensAdmin):
	case own:
		return answer{}, argus.Errorf(argus.CodeForbidden, "%s", ownTokensOnly)
	default:
		return answer{}, argus.Errorf(argus.CodeForbidden, "Listing the tokens of others needs the scope %s, which your credential does not have.", argus.ScopeTokensAdmin)
	}
	ctx, cancel := context.WithTimeout(c.Context(), lookupTimeout)
	defer cancel()
	page, err := credential.ListTokens(ctx, a.pool, query)
	if err != nil {
		return answer{}, nothingHappened(err)
	}
	var people []string
	for _, t := range page.Tokens {
		people = append(people, t.ActorID)
		if t.RevokedBy != nil {
			people = append(people, *t.RevokedBy)
		}
	}
	return reply(struct {
		Tokens     []credential.Token `json:"tokens"`
		NextCursor *string            `json:"next_cursor"`
		Actors     map[string]string  `json:"actors"`
	}{page.Tokens, argus.OrNull(page.Next), namesOf(c.Context(), a.credentials, nil, people...)})
}

// reachable finds the token that the path names, if the caller may list and end it. Of others' tokens it tells nothing,
// not even whether there are any.
func (a *API) reachable(c *call) (credential.Token, error) {
	absent := argus.Errorf(argus.CodeNotFound, "You have no token of this id. List your tokens for their ids.")
	id, err := uuid.Parse(c.Param("id"))
	if err != nil {
		return credential.Token{}, absent
	}
	ctx, cancel := context.WithTimeout(c.Context(), lookupTimeout)
	defer cancel()
	t, descends, err := credential.FindToken(ctx, a.pool, id, c.Actor.PATID)
	switch {
	case errors.Is(err, errNoRow):
		return credential.Token{}, absent
	case err != nil:
		return credential.Token{}, nothingHappened(err)
	}
	own := t.ActorID == c.Actor.ID
	switch {
	case own && (c.signedIn() || descends):
		return t, nil
	case own && c.uses(argus.ScopeTokensWrite), c.uses(argus.ScopeTokensAdmin):
		return t, nil
	case own:
		return credential.Token{}, argus.Errorf(argus.CodeForbidden, "%s", ownTokensOnly)
	}
	return credential.Token{}, absent
}

// tokenFamily is a token, and those that end with it or did.
type tokenFamily struct {
	credential.Token
	Descendants []credential.Token `json:"descendants"`
}

// showToken shows a token, and what its revocation would end besides.
func (a *API) showToken(c *call) (answer, error) {
	t, err := a.reachable(c)
	if err != nil {
		return answer{}, err
	}
	ctx, cancel := context.WithTimeout(c.Context(), lookupTimeout)
	defer cancel()
	below, err := credential.DescendantsOf(ctx, a.pool, t.ID)
	if err != nil {
		return answer{}, nothingHappened(err)
	}
	return reply(tokenFamily{t, below})
}

// createToken makes a token of the caller's that can do no more, and lives no longer, than the credential that
// asks for it.
func (a *API) createToken(c *call) (answer, error) {
	var body struct {
		Name         string   `json:"name"`
		Preset       *string  `json:"preset"`
		Scopes       []string `json:"scopes"`
		ExpiresIn    string   `json:"expires_in"`
		Agent        *string  `json:"agent"`
		AgentActions bool     `json:"agent_actions"`
	}
	if err := c.Bind(&body); err != nil {
		return answer{}, err
	}
	var n credential.NewToken
	var err error
	if body.Agent != nil {
		if n.Agent, err = agentName(*body.Agent); err != nil {
			return answer{}, err
		}
		n.Actions = body.AgentActions
		body.Name = cmp.Or(body.Name, n.Agent)
	} else if body.AgentActions {
		return answer{}, argus.Errorf(argus.CodeInvalidParameter, "agent_actions goes with agent. Give both, or neither.")
	}
	err = fill(&n, body.Name, body.Preset, body.Scopes, body.ExpiresIn)
	if err != nil {
		return answer{}, err
	}
	switch {
	case c.Actor.ImpersonatorID != "":
		return answer{}, argus.Errorf(argus.CodeForbidden, "An impersonated session cannot create tokens: they would outlive it under the user's name.")
	case c.Actor.Kind == argus.KindBreakGlass:
		return answer{}, argus.Errorf(argus.CodeForbidden, "A break-glass token cannot create tokens: they would outlive the emergency.")
	case c.Actor.Kind == argus.KindWorkload:
		return answer{}, argus.Errorf(argus.CodeForbidden, "A workload cannot create tokens: its issuer gives it a new one for each run, and tokens of its own would outlive that run.")
	case !argus.Within(n.Scopes, c.Actor.Scopes):
		var missing []argus.Scope
		for _, s := range n.Scopes {
			if !c.Actor.Can(s) {
				missing = append(missing, s)
			}
		}
		return answer{}, argus.Errorf(argus.CodeForbidden, "A token can do no more than the credential it is made with. Leave out %s.", argus.JoinScopes(missing))
	}
	if c.Actor.Kind == argus.KindPAT {
		n.ParentID, n.NotAfter = c.Actor.PATID, c.credential.Expires
		if body.ExpiresIn != "" && time.Now().Add(n.ExpiresIn).After(n.NotAfter.Add(time.Minute)) {
			return answer{}, argus.Errorf(argus.CodeUnprocessable, "A token lives no longer than the one it is made with, which ends at %s. Choose an earlier end.",
				n.NotAfter.UTC().Format(time.RFC3339))
		}
	}
	n.ActorID, n.AuditID = c.Actor.ID, c.Record.ID

	var made struct {
		Token  credential.Token `json:"token"`
		Secret string           `json:"secret"`
	}
	err = c.InTx(func(ctx context.Context, tx Tx) error {
		live, err := credential.LiveTokens(ctx, tx, c.Actor.ID)
		if err != nil {
			return err
		}
		if live >= maxLiveTokens {
			return argus.Errorf(argus.CodeUnprocessable, "You have %d tokens already; revoke some that are not used any more.", live)
		}
		made.Token, made.Secret, err = credential.InsertToken(ctx, tx, n)
		return err
	})
	if err != nil {
		return answer{}, err
	}
	return created(made)
}

// agentName checks the name of a program, which stands in the record's column agent as it is.
func agentName(s string) (string, error) {
	name, err := argus.Given("agent", s, 1, maxTokenName)
	if err == nil && len(name) > argus.MaxAgent {
		err = argus.Errorf(argus.CodeInvalidParameter, "The agent has %d bytes in UTF-8. It may have %d.", len(name), argus.MaxAgent)
	}
	return name, err
}

// fill checks what was asked for. Of a preset an agent's token gets what an agent may have; a scope that was named and
// that it may not have is an error.
func fill(n *credential.NewToken, name string, preset *string, scopes []string, expiresIn string) error {
	var err error
	if n.Name, err = argus.Given("name", name, 1, maxTokenName); err != nil {
		return err
	}
	switch {
	case (preset != nil) == (scopes != nil):
		return argus.Errorf(argus.CodeInvalidParameter, "Give either preset or scopes.")
	case preset != nil:
		var ok bool
		if n.Scopes, ok = argus.PresetScopes(*preset); !ok {
			return argus.Errorf(argus.CodeInvalidParameter, "preset must be %s or %s.", argus.PresetSupportReadonly, argus.PresetAdminFull)
		}
		if n.Agent != "" {
			n.Scopes = argus.ForAgents(n.Scopes, n.Actions)
		}
	default:
		var err error
		if n.Scopes, err = argus.ParseScopes(scopes); err != nil {
			return err
		}
		if len(n.Scopes) == 0 {
			return argus.Errorf(argus.CodeInvalidParameter, "scopes must name at least one.")
		}
		if n.Agent != "" {
			for _, s := range n.Scopes {
				switch {
				case len(argus.ForAgents([]argus.Scope{s}, true)) == 0:
					return argus.Errorf(argus.CodeUnprocessable, "An agent's token never has the scope %s. Leave it out.", s)
				case len(argus.ForAgents([]argus.Scope{s}, n.Actions)) == 0:
					return argus.Errorf(argus.CodeUnprocessable, "An agent's token only reads, and %s changes things. Say agent_actions to allow it.", s)
				}
			}
		}
	}
	n.ExpiresIn = credential.DefaultTokenLifetime
	if expiresIn != "" {
		d, err := argus.ParseDuration(expiresIn)
		if err != nil {
			return err
		}
		if d > credential.MaxTokenLifetime {
			return argus.Errorf(argus.CodeInvalidParameter, "expires_in is 365d at most.")
		}
		n.ExpiresIn = d
	}
	return nil
}

// deleteToken revokes a token and what descends from it, at once and everywhere within a second.
func (a *API) deleteToken(c *call) (answer, error) {
	t, err := a.reachable(c)
	if err != nil {
		return answer{}, err
	}
	var ended []uuid.UUID
	var told tokenFamily
	err = c.InTx(func(ctx context.Context, tx Tx) (err error) {
		if ended, err = credential.RevokeTokens(ctx, tx, []uuid.UUID{t.ID}, c.by(), c.Record.ID); err != nil {
			return err
		}
		if told.Token, _, err = credential.FindToken(ctx, tx, t.ID, uuid.Nil); err != nil {
			return err
		}
		told.Descendants, err = credential.DescendantsOf(ctx, tx, t.ID)
		return err
	})
	if err != nil {
		return answer{}, err
	}
	a.forget(ended)
	return reply(told)
}

// revokeTokens ends all tokens of an owner, or the one that a secret belongs to: what a scanner found, nothing else
// known. The secret comes in the body and stays there: it is in no URL, log or row.
func (a *API) revokeTokens(c *call) (answer, error) {
	var body struct {
		Owner  string `json:"owner"`
		Secret string `json:"secret"`
	}
	if err := c.Bind(&body); err != nil {
		return answer{}, err
	}
	if (body.Owner == "") == (body.Secret == "") {
		return answer{}, argus.Errorf(argus.CodeInvalidParameter, "Give either owner, the id of a user, or secret.")
	}
	var ids, ended []uuid.UUID
	if body.Secret != "" {
		ctx, cancel := context.WithTimeout(c.Context(), lookupTimeout)
		defer cancel()
		t, err := credential.IdentifyToken(ctx, a.pool, strings.TrimSpace(body.Secret))
		var known *argus.Error
		if err != nil && !errors.As(err, &known) {
			err = nothingHappened(err)
		}
		if err != nil {
			return answer{}, err
		}
		ids = []uuid.UUID{t.ID}
	}
	var told struct {
		Token   *credential.Token  `json:"token"` // the secret's; null for an owner
		Revoked []credential.Token `json:"revoked"`
	}
	err := c.InTx(func(ctx context.Context, tx Tx) (err error) {
		if body.Owner != "" {
			if ids, err = credential.OwnersTokens(ctx, tx, body.Owner); err != nil {
				return err
			}
		}
		if ended, err = credential.RevokeTokens(ctx, tx, ids, c.by(), c.Record.ID); err != nil {
			return err
		}
		if body.Secret != "" {
			found, err := credential.TokensByID(ctx, tx, ids)
			if err != nil || len(found) == 0 {
				return errors.Join(err, errNoRow)
			}
			told.Token = &found[0]
		}
		told.Revoked, err = credential.TokensByID(ctx, tx, ended)
		return err
	})
	if err != nil {
		return answer{}, err
	}
	a.forget(ended)
	return reply(told)
}

// signedIn reports whether a person called with a session, not with a token.
func (c *call) signedIn() bool {
	return c.Actor.Kind == argus.KindClerkSession || c.Actor.Kind == argus.KindOIDCSession
}

// by is who is answerable for the call.
func (c *call) by() string {
	if c.Actor.ImpersonatorID != "" {
		return c.Actor.ImpersonatorID
	}
	return c.Actor.ID
}

// forget drops what this process remembers of tokens, before their caller can be told that they ended.
func (a *API) forget(ids []uuid.UUID) {
	for _, id := range ids {
		a.credentials.Forget(id)
	}
}
