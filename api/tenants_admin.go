package api

import (
	"context"
	"encoding/binary"
	"errors"
	"net/http"
	"regexp"
	"time"

	"github.com/google/uuid"

	"github.com/useargus/argus"
)

// tenantIDs is what the id of a new tenant looks like, as the table's CHECK has it.
var tenantIDs = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9_.-]{0,99}$`)

const (
	maxTenantName = 200
	maxAgents     = 1_000_000
)

// put adds a tenant, or changes the name and the number of agents of one that is there. The same request again changes
// nothing. A retired tenant comes back when the caller says so, and not by itself.
func (s *support) put(c *call) (answer, error) {
	var body struct {
		Name      string `json:"name"`
		Agents    *int   `json:"agents"`
		Reason    string `json:"reason"`
		Reinstate bool   `json:"reinstate"`
	}
	if err := c.Bind(&body); err != nil {
		return answer{}, err
	}
	reason, err := argus.Reason(body.Reason)
	if err != nil {
		return answer{}, err
	}
	name, err := argus.Given("name", body.Name, 1, maxTenantName)
	if err != nil {
		return answer{}, err
	}
	if body.Agents != nil && (*body.Agents < 0 || *body.Agents > maxAgents) {
		return answer{}, argus.Errorf(argus.CodeInvalidParameter, "A tenant has 0 to %d agents, not %d.", maxAgents, *body.Agents)
	}
	id := c.Param("id")
	if !tenantIDs.MatchString(id) {
		return answer{}, argus.Errorf(argus.CodeInvalidParameter,
			"A tenant's id has 1 to 100 characters of A-Z, a-z, 0-9, '_', '.' and '-', and begins with a letter or a digit.")
	}
	step := supportStep{Action: "change", TenantID: id, Reason: reason}
	return s.carryOut(c, &step, func(ctx context.Context, tx Tx) (answer, error) {
		added, err := insertTenant(ctx, tx, id, name)
		if err != nil {
			return answer{}, err
		}
		if added {
			step.Action = "add"
		}
		t, _, err := lockTenant(ctx, tx, id)
		if err != nil {
			return answer{}, err
		}
		if t.Retired && !body.Reinstate {
			return answer{}, deny(argus.CodeConflict, "Tenant %s is retired. To bring it back, give reinstate.", id)
		}
		agents := t.Agents
		if body.Agents != nil {
			agents = *body.Agents
		}
		if err := changeTenant(ctx, tx, id, name, agents); err != nil {
			return answer{}, err
		}
		if err := c.addSteps(ctx, tx, step); err != nil {
			return answer{}, err
		}
		status := http.StatusOK
		if added {
			status = http.StatusCreated
		}
		t, _, err = findTenant(ctx, tx, id)
		return answer{Status: status, Value: t}, err
	})
}

// retire takes a tenant out of use: it is listed on request only, and cannot be armed. Nothing about it is deleted.
// Retiring it again changes nothing.
func (s *support) retire(c *call) (answer, error) {
	reason, err := c.reasonOfDelete()
	if err != nil {
		return answer{}, err
	}
	id := c.Param("id")
	step := supportStep{Action: "retire", TenantID: id, Reason: reason}
	return s.carryOut(c, &step, func(ctx context.Context, tx Tx) (answer, error) {
		t, found, err := lockTenant(ctx, tx, id)
		if err != nil {
			return answer{}, err
		}
		switch {
		case !found:
			return answer{}, unknownTenant()
		case t.Armed:
			return answer{}, deny(argus.CodeConflict, "Tenant %s is armed. Disarm it first.", id)
		}
		if !t.Retired {
			if err := retireTenant(ctx, tx, id, c.Actor.ID, reason); err != nil {
				return answer{}, err
			}
		}
		if err := c.addSteps(ctx, tx, step); err != nil {
			return answer{}, err
		}
		t, _, err = findTenant(ctx, tx, id)
		return answer{Status: http.StatusOK, Value: t}, err
	})
}

// consent records a tenant's signed document, where this process has the login of argus_consent. argus_api itself
// cannot write a consent, so this is the one effect here that no transaction shares with the call's intent:
//
//	1  COMMIT  intent, step "requested"              as argus_api
//	2  COMMIT  the consent and the step "succeeded"  as argus_consent, by a trigger
//	3          the answer is kept for the key        as argus_api
//
// A call that dies between 1 and 2 leaves an interrupted row and no consent, and reconcileConsents ends it as failed.
// Between 2 and 3 its key answers 409 and names the call.
func (s *support) consent(c *call) (answer, error) {
	var body struct {
		DocumentID string `json:"document_id"`
		Reason     string `json:"reason"`
	}
	if err := c.Bind(&body); err != nil {
		return answer{}, err
	}
	reason, err := argus.Reason(body.Reason)
	if err != nil {
		return answer{}, err
	}
	document, err := argus.ConsentDocumentID(body.DocumentID)
	if err != nil {
		return answer{}, err
	}
	id, by := c.Param("id"), c.Actor.ID
	if c.Actor.ImpersonatorID != "" {
		by = c.Actor.ImpersonatorID // who will not arm on it
	}
	step := supportStep{Action: "consent", TenantID: id, Reason: reason}
	asked := false
	ans, err := s.carryOut(c, &step, func(ctx context.Context, tx Tx) (answer, error) {
		asked = false
		t, found, err := lockTenant(ctx, tx, id)
		if err != nil {
			return answer{}, err
		}
		switch {
		case !found:
			return answer{}, unknownTenant()
		case t.Retired:
			return answer{}, deny(argus.CodeConflict, "Tenant %s is retired. Bring it back first, with reinstate.", id)
		case s.consentURL == "":
			return answer{}, deny(argus.CodeConflict, "This installation records consents on the host alone: argusd tenant consent record.")
		case t.Consent.Given && *t.Consent.DocumentID == document:
			step.Consent = t.Consent
			return answer{Status: http.StatusOK, Value: t}, c.addSteps(ctx, tx, step)
		}
		asked = true
		step.Result = resultRequested
		return answer{}, c.addStep(ctx, tx, step) // no answer yet
	})
	if err != nil || !asked {
		return ans, err
	}
	if err := recordConsentOfCall(c.Context(), s.consentURL, id, document, by, c.Record.ID); err != nil {
		return answer{}, s.consentFailed(c, step, err)
	}
	t, _, err := findTenant(c.Context(), s.pool, id)
	if err != nil {
		return answer{}, doubtful(err)
	}
	return answer{Status: http.StatusOK, Value: t}, nil
}

// consentFailed ends a call whose consent was surely not recorded with its step. Where that is not known no step is
// written: the one that comes with the consent says whether it was recorded.
func (s *support) consentFailed(c *call, step supportStep, err error) error {
	var known *argus.Error
	step.Result = resultFailed
	if !errors.As(err, &known) {
		known = argus.Errorf(argus.CodeUnavailable, "The consent could not be recorded, so nothing changed. Try again later.").WithCause(err)
	}
	if known.Code == argus.CodeAuditUnconfirmed {
		return known
	}
	step.Error = known.Error()
	failed := c.InTx(func(ctx context.Context, tx Tx) error {
		if err := c.releaseKey(ctx, tx); err != nil {
			return err
		}
		return c.addStep(ctx, tx, step)
	})
	if failed != nil {
		return failed
	}
	return known
}

// consentsOverDays is how far back a consent without an end is looked for: longer than every API process is down.
const consentsOverDays = 3

// reconcileConsents gives the calls that died before their consent was recorded their end.
func (s *support) reconcileConsents(ctx context.Context) error {
	return inTx(ctx, s.pool, func(ctx context.Context, tx Tx) error {
		return endAbandonedConsents(ctx, tx, firstIDOf(time.Now().AddDate(0, 0, -consentsOverDays)))
	})
}

// firstIDOf is the least version 7 UUID of a moment.
func firstIDOf(at time.Time) (id uuid.UUID) {
	binary.BigEndian.PutUint64(id[:8], uint64(at.UnixMilli())<<16)
	id[6], id[8] = 0x70, 0x80
	return id
}

// reasonOfDelete is the reason of a DELETE: in its body, or in Argus-Reason, since many clients send no body with it.
func (c *call) reasonOfDelete() (string, error) {
	if len(c.Body) == 0 {
		return argus.Reason(c.Record.Reason)
	}
	var body struct {
		Reason string `json:"reason"`
	}
	if err := c.Bind(&body); err != nil {
		return "", err
	}
	return argus.Reason(body.Reason)
}
