package api

import (
	"context"
	"errors"
	"net/http"
	"time"

	"github.com/google/uuid"

	"github.com/useargus/argus"
)

// maxTokenName is the length of a token's name in characters, as argus.Given counts them.
const maxTokenName = 100

// maxLiveTokens bounds how many usable tokens one owner has.
const maxLiveTokens = 200

func (a *API) tokenRoutes() []route {
	return []route{
		{Method: http.MethodGet, Path: "/v1/tokens", Scope: scopeAny, Handle: a.listTokens},
		{Method: http.MethodPost, Path: "/v1/tokens", Scope: argus.ScopeTokensWrite, Effects: true, Secret: true, Handle: a.createToken},
		{Method: http.MethodDelete, Path: "/v1/tokens/:id", Scope: scopeAny, Effects: true, Handle: a.deleteToken},
	}
}

// listTokens lists the caller's own tokens; nobody sees another's.
func (a *API) listTokens(c *call) (answer, error) {
	ctx, cancel := context.WithTimeout(c.Context(), lookupTimeout)
	defer cancel()
	tokens, err := a.tokensOf(ctx, c.Actor.ID)
	if err != nil {
		return answer{}, nothingHappened(err)
	}
	return reply(struct {
		Tokens []Token `json:"tokens"`
	}{tokens})
}

// createToken makes a token of the caller's that can do no more, and lives no longer, than the credential that
// asks for it.
func (a *API) createToken(c *call) (answer, error) {
	var body struct {
		Name      string   `json:"name"`
		Preset    *string  `json:"preset"`
		Scopes    []string `json:"scopes"`
		ExpiresIn string   `json:"expires_in"`
	}
	if err := c.Bind(&body); err != nil {
		return answer{}, err
	}
	n, err := newToken(body.Name, body.Preset, body.Scopes, body.ExpiresIn)
	if err != nil {
		return answer{}, err
	}
	switch {
	case c.Actor.ImpersonatorID != "":
		return answer{}, argus.Errorf(argus.CodeForbidden, "An impersonated session cannot create tokens: they would outlive it under the user's name.")
	case c.Actor.Kind == argus.KindBreakGlass:
		return answer{}, argus.Errorf(argus.CodeForbidden, "A break-glass token cannot create tokens: they would outlive the emergency.")
	case !argus.Within(n.Scopes, c.Actor.Scopes):
		var missing []argus.Scope
		for _, s := range n.Scopes {
			if !c.Actor.Can(s) {
				missing = append(missing, s)
			}
		}
		return answer{}, argus.Errorf(argus.CodeForbidden, "A token can do no more than the credential it is made with, which lacks %s.", argus.JoinScopes(missing))
	}
	if c.Actor.Kind == argus.KindPAT {
		n.parentID, n.notAfter = c.Actor.PATID, c.credential.expires
		if body.ExpiresIn != "" && time.Now().Add(n.ExpiresIn).After(n.notAfter.Add(time.Minute)) {
			return answer{}, argus.Errorf(argus.CodeUnprocessable, "A token lives no longer than the one it is made with, which ends at %s.",
				n.notAfter.UTC().Format(time.RFC3339))
		}
	}
	n.ActorID, n.auditID = c.Actor.ID, c.Record.ID

	var made struct {
		Token  Token  `json:"token"`
		Secret string `json:"secret"`
	}
	err = c.Begin(func(ctx context.Context, tx Tx) error {
		live, err := liveTokens(ctx, tx, c.Actor.ID)
		if err != nil {
			return err
		}
		if live >= maxLiveTokens {
			return argus.Errorf(argus.CodeUnprocessable, "You have %d tokens already; revoke some that are not used any more.", live)
		}
		made.Token, made.Secret, err = insertToken(ctx, tx, n)
		return err
	})
	if err != nil {
		return answer{}, err
	}
	return created(made)
}

// newToken checks what was asked for.
func newToken(name string, preset *string, scopes []string, expiresIn string) (NewToken, error) {
	var n NewToken
	var err error
	if n.Name, err = argus.Given("name", name, 1, maxTokenName); err != nil {
		return n, err
	}
	switch {
	case (preset != nil) == (scopes != nil):
		return n, argus.Errorf(argus.CodeInvalidParameter, "Give either preset or scopes.")
	case preset != nil:
		var ok bool
		if n.Scopes, ok = argus.PresetScopes(*preset); !ok {
			return n, argus.Errorf(argus.CodeInvalidParameter, "preset must be %s or %s.", argus.PresetSupportReadonly, argus.PresetAdminFull)
		}
	default:
		var err error
		if n.Scopes, err = argus.ParseScopes(scopes); err != nil {
			return n, err
		}
		if len(n.Scopes) == 0 {
			return n, argus.Errorf(argus.CodeInvalidParameter, "scopes must name at least one.")
		}
	}
	n.ExpiresIn = DefaultTokenLifetime
	if expiresIn != "" {
		d, err := argus.ParseSpan(expiresIn)
		if err != nil {
			return n, err
		}
		if d > MaxTokenLifetime {
			return n, argus.Errorf(argus.CodeInvalidParameter, "expires_in is 365d at most.")
		}
		n.ExpiresIn = d
	}
	return n, nil
}

// deleteToken revokes one of the caller's tokens, at once and everywhere within a second.
func (a *API) deleteToken(c *call) (answer, error) {
	absent := argus.Errorf(argus.CodeNotFound, "You have no token of this id.")
	id, err := uuid.Parse(c.Param("id"))
	if err != nil {
		return answer{}, absent
	}
	by := c.Actor.ID
	if c.Actor.ImpersonatorID != "" {
		by = c.Actor.ImpersonatorID
	}
	var t Token
	err = c.Begin(func(ctx context.Context, tx Tx) error {
		var err error
		t, err = revokeToken(ctx, tx, c.Actor.ID, id, by)
		if errors.Is(err, errNoRow) {
			return absent
		}
		return err
	})
	if err != nil {
		return answer{}, err
	}
	a.secrets.forget(id) // before anybody can be told that it is done
	return reply(t)
}
