package api

import (
	"context"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/useargus/argus"
)

// Results of a step in a domain table.
const (
	resultRequested = "requested" // written with the change of the wanted state
	resultSucceeded = "succeeded" // the provider did it, or nothing but the change was to be done
	resultFailed    = "failed"    // the provider did not do it
	resultDenied    = "denied"    // a gate said no, nothing changed
)

// systemActor is the actor of steps that no operator takes: a session that ends by itself, a call whose
// process died and whose effect another process had to look up.
const systemActor = "system"

// stepBy is who takes a step: as in the call's row, the actor and who stood behind them.
type stepBy struct{ ActorID, ImpersonatorID string }

var bySystem = stepBy{ActorID: systemActor}

func (c *call) takes() stepBy { return stepBy{c.Actor.ID, c.Actor.ImpersonatorID} }

// computeStep is a row of argus.compute_control_audit; "" is null.
type computeStep struct {
	stepBy
	AuditID            uuid.UUID
	Action             string
	WorkerID, Provider string
	Reason             string
	From, To           WorkerState
	Result             string
	Error              string
}

// supportStep is a row of argus.remote_support_audit; "" and uuid.Nil are null.
type supportStep struct {
	stepBy
	AuditID   uuid.UUID
	Action    string
	TenantID  string
	SessionID uuid.UUID
	Reason    string
	Consent   consentJSON // the one that was effective
	Result    string
	Error     string
}

// Steps of one call are numbered 1, 2, 3 … in the order of their commits. More than one process may add to a call:
// its own, a timer's, or one that reconciles what it left. So each number is taken under a lock that is held to the
// end of the transaction.
const lockSteps = `SELECT argus.lock_key('steps ' || $1)`

func addComputeStep(ctx context.Context, tx Tx, s computeStep) error {
	return addStep(ctx, tx, s.AuditID, `
		INSERT INTO argus.compute_control_audit
		       (audit_id, step, at, actor_id, impersonator_id, action, worker_id, provider, reason, from_state, to_state, result, error)
		SELECT $1, coalesce(max(step), 0) + 1, clock_timestamp(), $2, nullif($3, ''), $4, nullif($5, ''), nullif($6, ''),
		       nullif($7, ''), nullif($8, ''), nullif($9, ''), $10, nullif($11, '')
		  FROM argus.compute_control_audit WHERE audit_id = $1`,
		s.ActorID, s.ImpersonatorID, s.Action, s.WorkerID, s.Provider, s.Reason, string(s.From), string(s.To), s.Result,
		argus.Text(s.Error, 1000))
}

func addSupportStep(ctx context.Context, tx Tx, s supportStep) error {
	return addStep(ctx, tx, s.AuditID, `
		INSERT INTO argus.remote_support_audit
		       (audit_id, step, at, actor_id, impersonator_id, action, tenant_id, session_id, reason,
		        consent_document_id, consent_recorded_by, consent_recorded_at, result, error)
		SELECT $1, coalesce(max(step), 0) + 1, clock_timestamp(), $2, nullif($3, ''), $4, $5,
		       nullif($6::uuid, '00000000-0000-0000-0000-000000000000'), nullif($7, ''), $8, $9, $10, $11, nullif($12, '')
		  FROM argus.remote_support_audit WHERE audit_id = $1`,
		s.ActorID, s.ImpersonatorID, s.Action, s.TenantID, s.SessionID, s.Reason,
		s.Consent.DocumentID, s.Consent.RecordedBy, argus.OrNull(time.Time(s.Consent.At)), s.Result, argus.Text(s.Error, 1000))
}

func addStep(ctx context.Context, tx Tx, id uuid.UUID, insert string, args ...any) error {
	var batch pgx.Batch
	batch.Queue(lockSteps, id.String())
	batch.Queue(insert, append([]any{id}, args...)...) // its snapshot is taken when the lock is held
	return tx.SendBatch(ctx, &batch).Close()
}
