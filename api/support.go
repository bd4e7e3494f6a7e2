package api

import (
	"context"
	"errors"
	"net/http"

	"github.com/google/uuid"

	"github.com/useargus/argus"
	"github.com/useargus/argus/api/credential"
)

// Lengths of a support session, in minutes.
const (
	defaultSessionMinutes = 30
	maxSessionMinutes     = 120
)

// Why a session ended.
const (
	endedByOperator = "ended"
	endedByDisarm   = "disarmed"
	endedByTimer    = "expired"
)

// support keeps the tenants, arms them for remote support, and starts and ends its sessions. It has the database alone.
type support struct {
	pool        *Pool
	credentials *credential.Verifier // knows names
	consentURL  string               // as argus_consent; empty leaves the recording of consents to the host
}

// sessionJSON is a support session as the API shows it.
type sessionJSON struct {
	ID        uuid.UUID      `json:"id"`
	TenantID  string         `json:"tenant_id"`
	State     string         `json:"state"` // live or ended
	StartedBy string         `json:"started_by"`
	StartedAt argus.JSONTime `json:"started_at"`
	EndsAt    argus.JSONTime `json:"ends_at"`
	EndedAt   argus.JSONTime `json:"ended_at"`
	EndReason *string        `json:"end_reason"`
}

// gateError is a gate's no: nothing changes, and the step says so.
type gateError struct{ reason *argus.Error }

func (r *gateError) Error() string { return r.reason.Error() }

func deny(code argus.Code, format string, args ...any) *gateError {
	return &gateError{argus.Errorf(code, format, args...)}
}

// carryOut carries out one remote-support action. Its effect is its change of the database alone, so one
// transaction holds everything: the change, its steps, the call's intent and the answer for repetitions. f fills in
// the step, and returns a *gateError before it has changed anything; then the step "denied" is committed.
func (s *support) carryOut(c *call, step *supportStep, f func(ctx context.Context, tx Tx) (answer, error)) (answer, error) {
	step.AuditID, step.stepBy = c.Record.ID, c.takes()
	var ans answer
	var denied *gateError
	err := c.InTx(func(ctx context.Context, tx Tx) (err error) {
		if ans, err = f(ctx, tx); err == nil {
			if ans.Status == 0 {
				return nil // the answer is still to come
			}
			return c.keepAnswer(ctx, tx, ans)
		}
		if !errors.As(err, &denied) {
			return err
		}
		if err := c.releaseKey(ctx, tx); err != nil {
			return err
		}
		step.Result, step.Error = resultDenied, denied.Error()
		return addSupportStep(ctx, tx, *step)
	})
	switch {
	case err != nil:
		return answer{}, err
	case denied != nil:
		return answer{}, denied.reason
	}
	return ans, nil
}

// addSteps adds the operator's two steps of an action that is its change of the database: asked for, and done.
func (c *call) addSteps(ctx context.Context, tx Tx, step supportStep) error {
	for _, step.Result = range []string{resultRequested, resultSucceeded} {
		if err := c.addStep(ctx, tx, step); err != nil {
			return err
		}
	}
	return nil
}

func (c *call) addStep(ctx context.Context, tx Tx, step supportStep) error {
	step.AuditID, step.stepBy = c.Record.ID, c.takes()
	return addSupportStep(ctx, tx, step)
}

// startSession starts a support session on an armed tenant.
func (s *support) startSession(c *call) (answer, error) {
	var body struct {
		Reason  string `json:"reason"`
		Minutes *int   `json:"minutes"`
	}
	if err := c.Bind(&body); err != nil {
		return answer{}, err
	}
	reason, err := argus.Reason(body.Reason)
	if err != nil {
		return answer{}, err
	}
	minutes := defaultSessionMinutes
	if body.Minutes != nil {
		minutes = *body.Minutes
	}
	if minutes < 1 || minutes > maxSessionMinutes {
		return answer{}, argus.Errorf(argus.CodeInvalidParameter, "A session lasts 1 to %d minutes, not %d.", maxSessionMinutes, minutes)
	}
	session, err := uuid.NewV7()
	if err != nil {
		return answer{}, err
	}
	id := c.Param("id")
	step := supportStep{Action: "start", TenantID: id, Reason: reason}
	return s.carryOut(c, &step, func(ctx context.Context, tx Tx) (answer, error) {
		armed, found, err := tenantArmed(ctx, tx, id)
		if err != nil {
			return answer{}, err
		}
		if !found {
			return answer{}, unknownTenant()
		}
		if !armed {
			return answer{}, deny(argus.CodeConflict, "Tenant %s is not armed. Arm it first.", id)
		}
		started, err := insertSession(ctx, tx, session, id, c.Actor.ID, minutes, c.Record.ID)
		if err != nil {
			return answer{}, err
		}
		step.SessionID = session
		return answer{Status: http.StatusCreated, Value: started}, c.addSteps(ctx, tx, step)
	})
}

// endSession ends a live session.
func (s *support) endSession(c *call) (answer, error) {
	var body struct {
		Reason string `json:"reason"`
	}
	if err := c.Bind(&body); err != nil {
		return answer{}, err
	}
	reason := ""
	if body.Reason != "" {
		var err error
		if reason, err = argus.Reason(body.Reason); err != nil {
			return answer{}, err
		}
	}
	unknown := argus.Errorf(argus.CodeNotFound, "This tenant has no session of this id. Ask for the tenant: it lists its sessions.")
	session, err := uuid.Parse(c.Param("session"))
	if err != nil {
		return answer{}, unknown
	}
	id := c.Param("id")
	step := supportStep{Action: "end", TenantID: id, SessionID: session, Reason: reason}
	return s.carryOut(c, &step, func(ctx context.Context, tx Tx) (answer, error) {
		live, found, err := lockSession(ctx, tx, id, session)
		if err != nil {
			return answer{}, err
		}
		if !found {
			return answer{}, unknown
		}
		if !live {
			return answer{}, deny(argus.CodeConflict, "The session has ended already.")
		}
		ended, err := endSession(ctx, tx, session)
		if err != nil {
			return answer{}, err
		}
		return answer{Status: http.StatusOK, Value: ended}, c.addSteps(ctx, tx, step)
	})
}

// expireAll ends the sessions whose time is up, by Postgres's clock. Every API process does: a session's end
// depends on none.
func (s *support) expireAll(ctx context.Context) error {
	if due, err := sessionsDue(ctx, s.pool); err != nil || !due {
		return err
	}
	for {
		if n, err := s.expireOnce(ctx); err != nil || n < expireBatch {
			return err
		}
	}
}

// expireBatch is how many sessions one transaction ends.
const expireBatch = 50

// expireOnce ends a batch of sessions, each with its step under the call that started it.
func (s *support) expireOnce(ctx context.Context) (ended int, err error) {
	err = inTx(ctx, s.pool, func(ctx context.Context, tx Tx) error {
		due, err := endDueSessions(ctx, tx, expireBatch)
		if err != nil {
			return err
		}
		for _, session := range due {
			err := addSupportStep(ctx, tx, supportStep{stepBy: bySystem, AuditID: session.AuditID, Action: "end", TenantID: session.TenantID,
				SessionID: session.ID, Reason: "its time was up", Result: resultSucceeded})
			if err != nil {
				return err
			}
		}
		ended = len(due)
		return nil
	})
	return ended, err
}
