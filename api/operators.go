package api

import (
	"net/http"

	"github.com/google/uuid"

	"github.com/useargus/argus"
)

func (a *API) operatorRoutes() []route {
	return []route{
		{Method: http.MethodGet, Path: "/v1/operators/me", Scope: scopeAny, Handle: a.operatorMe},
	}
}

// operatorMe answers who the credential belongs to and what it may do.
func (a *API) operatorMe(c *call) (answer, error) {
	if p, ok := a.credentials.Persons(c.Context(), []string{c.Actor.ID})[c.Actor.ID]; ok {
		c.Actor.Name, c.Actor.Email = p.Name, p.Email
	}
	me := struct {
		ActorID        string          `json:"actor_id"`
		ActorKind      argus.ActorKind `json:"actor_kind"`
		ImpersonatorID *string         `json:"impersonator_id"`
		Name           *string         `json:"name"`
		Email          *string         `json:"email"`
		PATID          *uuid.UUID      `json:"pat_id"`
		BreakGlassID   *uuid.UUID      `json:"break_glass_id"`
		Agent          *string         `json:"agent"`
		ExpiresAt      argus.JSONTime  `json:"expires_at"` // of the credential
		Preset         *string         `json:"preset"`
		Scopes         []argus.Scope   `json:"scopes"`
	}{
		ActorID: c.Actor.ID, ActorKind: c.Actor.Kind, ImpersonatorID: argus.OrNull(c.Actor.ImpersonatorID),
		Name: argus.OrNull(c.Actor.Name), Email: argus.OrNull(c.Actor.Email), PATID: argus.OrNull(c.Actor.PATID),
		BreakGlassID: argus.OrNull(c.Actor.BreakGlassID), Agent: argus.OrNull(c.Actor.Agent), ExpiresAt: argus.JSONTime(c.credential.Expires), Preset: argus.OrNull(c.Actor.Preset), Scopes: c.Actor.Scopes,
	}
	if me.Scopes == nil {
		me.Scopes = []argus.Scope{}
	}
	return reply(me)
}
