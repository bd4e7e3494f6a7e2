package api

import (
	"context"
	"net/http"

	"github.com/useargus/argus"
)

func (s *support) routes() []route {
	return []route{
		{Method: http.MethodGet, Path: "/v1/tenants", Scope: argus.ScopeTenantsRead, Handle: s.list},
		{Method: http.MethodGet, Path: "/v1/tenants/:id", Scope: argus.ScopeTenantsRead, Handle: s.show},
		{Method: http.MethodPut, Path: "/v1/tenants/:id", Scope: argus.ScopeTenantsWrite, Effects: true, Handle: s.put},
		{Method: http.MethodPut, Path: "/v1/tenants/:id/consent", Scope: argus.ScopeTenantsWrite, Effects: true, Handle: s.consent},
		{Method: http.MethodDelete, Path: "/v1/tenants/:id", Scope: argus.ScopeTenantsWrite, Effects: true, Handle: s.retire},
		{Method: http.MethodPost, Path: "/v1/tenants/:id/arm", Scope: argus.ScopeRemoteSupportArm, Effects: true, Handle: s.arm},
		{Method: http.MethodPost, Path: "/v1/tenants/:id/disarm", Scope: argus.ScopeRemoteSupportArm, Effects: true, Handle: s.disarm},
		{Method: http.MethodPost, Path: "/v1/tenants/:id/sessions", Scope: argus.ScopeRemoteSupport, Effects: true, Handle: s.startSession},
		{Method: http.MethodPost, Path: "/v1/tenants/:id/sessions/:session/end", Scope: argus.ScopeRemoteSupport, Effects: true, Handle: s.endSession},
	}
}

// tenantJSON is a tenant as the API shows it; sessions are the live ones.
type tenantJSON struct {
	ID           string         `json:"id"`
	Name         string         `json:"name"`
	Armed        bool           `json:"armed"`
	ArmedAt      argus.JSONTime `json:"armed_at"`
	ArmedBy      *string        `json:"armed_by"`
	ArmedReason  *string        `json:"armed_reason"`
	Consent      consentJSON    `json:"consent"`
	Agents       int            `json:"agents"`
	LastActivity argus.JSONTime `json:"last_activity"`
	Sessions     []sessionJSON  `json:"sessions"`

	Retired       bool           `json:"retired"`
	RetiredAt     argus.JSONTime `json:"retired_at"`
	RetiredBy     *string        `json:"retired_by"`
	RetiredReason *string        `json:"retired_reason"`
}

type consentJSON struct {
	Given      bool           `json:"given"`
	At         argus.JSONTime `json:"at"` // when it was recorded
	DocumentID *string        `json:"document_id"`
	RecordedBy *string        `json:"recorded_by"`
}

// list shows all tenants, the retired ones on request.
func (s *support) list(c *call) (answer, error) {
	retired := false
	if v := c.Query()["retired"]; len(v) > 0 {
		if retired = v[0] == "true"; len(v) > 1 || !retired && v[0] != "false" {
			return answer{}, argus.Errorf(argus.CodeInvalidParameter, "retired is true or false, once.")
		}
	}
	ctx, cancel := context.WithTimeout(c.Context(), lookupTimeout)
	defer cancel()
	tenants, err := listTenants(ctx, s.pool, "", retired)
	if err != nil {
		return answer{}, nothingHappened(err)
	}
	return reply(struct {
		Tenants []tenantJSON      `json:"tenants"`
		Actors  map[string]string `json:"actors"`
	}{tenants, s.namesIn(c.Context(), tenants...)})
}

// show shows one tenant.
func (s *support) show(c *call) (answer, error) {
	ctx, cancel := context.WithTimeout(c.Context(), lookupTimeout)
	defer cancel()
	t, found, err := findTenant(ctx, s.pool, c.Param("id"))
	if err != nil {
		return answer{}, nothingHappened(err)
	}
	if !found {
		return answer{}, unknownTenant()
	}
	return reply(struct {
		tenantJSON
		Actors map[string]string `json:"actors"`
	}{t, s.namesIn(c.Context(), t)})
}

// namesIn are the names of those who armed and retired the tenants, recorded their consents and started their sessions.
func (s *support) namesIn(ctx context.Context, tenants ...tenantJSON) map[string]string {
	var people []string
	for i := range tenants {
		t := &tenants[i]
		for _, id := range []*string{t.ArmedBy, t.RetiredBy, t.Consent.RecordedBy} {
			if id != nil {
				people = append(people, *id)
			}
		}
		for _, session := range t.Sessions {
			people = append(people, session.StartedBy)
		}
	}
	return namesOf(ctx, s.credentials, nil, people...)
}

func unknownTenant() *argus.Error {
	return argus.Errorf(argus.CodeNotFound, "There is no tenant of this id. List the tenants for their ids.")
}

// arm allows remote support of a tenant. Its gates, in order: the operator's rate, the step-up, the state,
// and the consent, which is the database's CHECK. The caller may name the document it expects; it cannot bring one.
func (s *support) arm(c *call) (answer, error) {
	var body struct {
		Reason            string  `json:"reason"`
		ConsentDocumentID *string `json:"consent_document_id"`
		ConfirmTenantID   *string `json:"confirm_tenant_id"`
	}
	if err := c.Bind(&body); err != nil {
		return answer{}, err
	}
	reason, err := argus.Reason(body.Reason)
	if err != nil {
		return answer{}, err
	}
	expected := ""
	if body.ConsentDocumentID != nil {
		if expected, err = argus.ConsentDocumentID(*body.ConsentDocumentID); err != nil {
			return answer{}, err
		}
	}
	id := c.Param("id")
	step := supportStep{Action: "arm", TenantID: id, Reason: reason}
	return s.carryOut(c, &step, func(ctx context.Context, tx Tx) (answer, error) {
		wait, err := takeFromBucket(ctx, tx, c.Actor.ID, armAction, armBurst, armPerMinute)
		if err != nil {
			return answer{}, err
		}
		t, found, err := lockTenant(ctx, tx, id)
		if err != nil {
			return answer{}, err
		}
		switch {
		case !found:
			return answer{}, unknownTenant()
		case wait > 0:
			return answer{}, &gateError{argus.Errorf(argus.CodeRateLimited,
				"You may arm %d times at once, and %d times a minute in the long run. Wait before the next.", armBurst, armPerMinute).
				WithRetryAfter(wait)}
		case body.ConfirmTenantID == nil || *body.ConfirmTenantID != id:
			return answer{}, deny(argus.CodeStepUpRequired, "To confirm, confirm_tenant_id must repeat the tenant's id exactly.")
		case t.Retired:
			return answer{}, deny(argus.CodeConflict, "Tenant %s is retired. Bring it back first, with reinstate.", id)
		case t.Armed:
			return answer{}, deny(argus.CodeConflict, "Tenant %s is armed already.", id)
		}
		step.Consent = t.Consent
		if by := t.Consent.RecordedBy; by != nil && (*by == c.Actor.ID || *by == c.Actor.ImpersonatorID) {
			return answer{}, deny(argus.CodeConsentRequired, "You recorded the consent of tenant %s. Another person arms on it.", id)
		}
		if t.Consent.Given && expected != "" && expected != *t.Consent.DocumentID {
			return answer{}, deny(argus.CodeConsentRequired,
				"The consent of tenant %s is document %s, not %s. Look at it again before arming.", id, *t.Consent.DocumentID, expected)
		}
		consented, err := armTenant(ctx, tx, id, c.Actor.ID, reason, c.Record.ID)
		if err != nil {
			return answer{}, err
		}
		if !consented {
			return answer{}, deny(argus.CodeConsentRequired,
				"Tenant %s has no consent to remote support on record. Record its signed document first: argusctl tenant consent, or argusd tenant consent record on the host.", id)
		}
		if err := c.addSteps(ctx, tx, step); err != nil {
			return answer{}, err
		}
		t, _, err = findTenant(ctx, tx, id)
		return answer{Status: http.StatusOK, Value: t}, err
	})
}

// disarm ends remote support of a tenant and its live sessions.
func (s *support) disarm(c *call) (answer, error) {
	var body struct {
		Reason string `json:"reason"`
	}
	if err := c.Bind(&body); err != nil {
		return answer{}, err
	}
	reason, err := argus.Reason(body.Reason)
	if err != nil {
		return answer{}, err
	}
	id := c.Param("id")
	step := supportStep{Action: "disarm", TenantID: id, Reason: reason}
	return s.carryOut(c, &step, func(ctx context.Context, tx Tx) (answer, error) {
		t, found, err := lockTenant(ctx, tx, id)
		if err != nil {
			return answer{}, err
		}
		if !found {
			return answer{}, unknownTenant()
		}
		if !t.Armed {
			return answer{}, deny(argus.CodeConflict, "Tenant %s is not armed.", id)
		}
		step.Result = resultRequested
		if err := c.addStep(ctx, tx, step); err != nil {
			return answer{}, err
		}
		ended, err := endSessions(ctx, tx, id)
		if err != nil {
			return answer{}, err
		}
		for _, session := range ended {
			err := c.addStep(ctx, tx, supportStep{Action: "end", TenantID: id, SessionID: session, Reason: reason, Result: resultSucceeded})
			if err != nil {
				return answer{}, err
			}
		}
		if err := disarmTenant(ctx, tx, id); err != nil {
			return answer{}, err
		}
		step.Result = resultSucceeded
		if err := c.addStep(ctx, tx, step); err != nil {
			return answer{}, err
		}
		t, _, err = findTenant(ctx, tx, id)
		return answer{Status: http.StatusOK, Value: t}, err
	})
}

// How often one operator may arm, over all API processes: so many at once, then so many a minute.
const (
	armAction    = "remote_support.arm"
	armBurst     = 5
	armPerMinute = 5
)
