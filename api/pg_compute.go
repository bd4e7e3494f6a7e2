package api

import (
	"context"
	"encoding/json"
	"errors"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/useargus/argus/api/provider"
)

// worker is a row of argus.workers.
type worker struct {
	ID          string
	Provider    string
	State       WorkerState
	Orphan      bool
	Reason      *string // of the launch; nil for an orphan
	LaunchedBy  *string // nil for an orphan
	LaunchedAt  time.Time
	Uptime      float64 // seconds
	CostPerHour float64
	Handle      *string // nil until the provider has answered the launch
	Ref         *string // JSON
	Op          *operation

	version string // changes with every update of the row
}

// operation is what a call asked of a worker and what is not reconciled yet.
type operation struct {
	AuditID uuid.UUID
	Action  string
	From    *WorkerState // nil for a launch
	Reason  *string
}

// errReconciled says that the operation is not in progress any more: another process has written down its end.
var errReconciled = errors.New("the operation has been reconciled by another")

const workerColumns = ` id, provider, state, orphan, reason, launched_by, launched_at,
	extract(epoch FROM coalesce(ended_at, clock_timestamp()) - launched_at)::float8, cost_per_hour, handle, provider_ref::text,
	op_audit_id, op_action, op_from_state, op_reason, xmin::text `

func scanWorker(row pgx.CollectableRow) (worker, error) {
	var w worker
	var audit *uuid.UUID
	var action *string
	var op operation
	err := row.Scan(&w.ID, &w.Provider, &w.State, &w.Orphan, &w.Reason, &w.LaunchedBy, &w.LaunchedAt,
		&w.Uptime, &w.CostPerHour, &w.Handle, &w.Ref, &audit, &action, &op.From, &op.Reason, &w.version)
	if audit != nil && action != nil {
		op.AuditID, op.Action = *audit, *action
		w.Op = &op
	}
	w.LaunchedAt = w.LaunchedAt.UTC()
	return w, err
}

// querier is what a pool and a transaction have in common.
type querier interface {
	Query(ctx context.Context, sql string, args ...any) (pgx.Rows, error)
}

func queryWorkers(ctx context.Context, q querier, sql string, args ...any) ([]worker, error) {
	rows, err := q.Query(ctx, sql, args...)
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, scanWorker)
}

// queryWorker returns the one worker of the statement; ok is false when there is none.
func queryWorker(ctx context.Context, q querier, sql string, args ...any) (w worker, ok bool, err error) {
	all, err := queryWorkers(ctx, q, sql, args...)
	if err != nil || len(all) == 0 {
		return worker{}, false, err
	}
	return all[0], true, nil
}

// listWorkers returns the workers in order of their launch, terminated ones only when asked for.
func listWorkers(ctx context.Context, q querier, all bool) ([]worker, error) {
	return queryWorkers(ctx, q, `SELECT`+workerColumns+`FROM argus.workers
		WHERE $1 OR state <> 'terminated' ORDER BY launched_at, id`, all)
}

func findWorker(ctx context.Context, q querier, id string) (worker, bool, error) {
	return queryWorker(ctx, q, `SELECT`+workerColumns+`FROM argus.workers WHERE id = $1`, id)
}

func lockWorker(ctx context.Context, tx Tx, id string) (worker, bool, error) {
	return queryWorker(ctx, tx, `SELECT`+workerColumns+`FROM argus.workers WHERE id = $1 FOR UPDATE`, id)
}

// insertLaunching makes the row of a worker that is wanted and does not exist yet.
func insertLaunching(ctx context.Context, tx Tx, id, provider, actor, reason string, audit uuid.UUID) (worker, error) {
	w, _, err := queryWorker(ctx, tx, `
		INSERT INTO argus.workers (id, provider, state, reason, launched_by, op_audit_id, op_action, op_reason, op_at)
		VALUES ($1, $2, 'launching', $3, $4, $5, 'launch', $3, clock_timestamp())
		RETURNING`+workerColumns, id, provider, reason, actor, audit)
	return w, err
}

// insertOrphan makes the row of an instance that no row knows, already wanted terminated. ok is false when
// another process's row has it by now.
func insertOrphan(ctx context.Context, tx Tx, at string, in provider.Instance, reason string, audit uuid.UUID) (worker, bool, error) {
	return queryWorker(ctx, tx, `
		INSERT INTO argus.workers (id, provider, state, orphan, launched_at, cost_per_hour, handle, provider_ref,
		                           op_audit_id, op_action, op_from_state, op_reason, op_at)
		VALUES ($1, $2, 'terminating', true, $3, $4, $1, $5::text::jsonb, $6, 'terminate', $7, $8, clock_timestamp())
		ON CONFLICT DO NOTHING
		RETURNING`+workerColumns, in.Handle, at, in.StartedAt, in.CostPerHour, string(in.Ref), audit, string(in.State), reason)
}

// wantWorker records what is wanted of a locked worker.
func wantWorker(ctx context.Context, tx Tx, id string, wanted WorkerState, action, reason string, audit uuid.UUID) (worker, error) {
	w, ok, err := queryWorker(ctx, tx, `
		UPDATE argus.workers
		   SET op_from_state = state, state = $2, ended_at = NULL, op_audit_id = $3, op_action = $4, op_reason = $5,
		       op_at = clock_timestamp()
		 WHERE id = $1 AND op_audit_id IS NULL
		RETURNING`+workerColumns, id, wanted, audit, action, reason)
	if err == nil && !ok {
		err = errReconciled
	}
	return w, err
}

// reconcileWorker ends the operation of the given call: the worker is in the given state now. seen is what the
// provider shows, nil when there is nothing. errReconciled when the operation has ended already.
func reconcileWorker(ctx context.Context, tx Tx, id string, audit uuid.UUID, state WorkerState, seen *provider.Instance) (worker, error) {
	var handle, ref *string
	var cost *float64
	if seen != nil {
		text := string(seen.Ref)
		handle, ref, cost = &seen.Handle, &text, &seen.CostPerHour
	}
	w, ok, err := queryWorker(ctx, tx, `
		UPDATE argus.workers
		   SET state = $3, ended_at = CASE WHEN $3 IN ('terminated', 'failed') THEN clock_timestamp() END,
		       handle = coalesce($4, handle), provider_ref = coalesce($5::text::jsonb, provider_ref),
		       cost_per_hour = coalesce($6, cost_per_hour),
		       op_audit_id = NULL, op_action = NULL, op_from_state = NULL, op_reason = NULL, op_at = NULL
		 WHERE id = $1 AND op_audit_id = $2
		RETURNING`+workerColumns, id, audit, state, handle, ref, cost)
	if err == nil && !ok {
		err = errReconciled
	}
	return w, err
}

// abandonedWorkers returns those whose operation belongs to a call that is over: its intent is gone, so it was
// answered, or swept because its process died.
func abandonedWorkers(ctx context.Context, q querier) ([]worker, error) {
	return queryWorkers(ctx, q, `SELECT`+workerColumns+`FROM argus.workers w
		WHERE op_audit_id IS NOT NULL
		  AND NOT EXISTS (SELECT FROM argus.audit_intents i WHERE i.id = w.op_audit_id)
		ORDER BY op_at LIMIT 100`)
}

// standingWorkers returns those that should stand at the provider as their rows say.
func standingWorkers(ctx context.Context, q querier) ([]worker, error) {
	return queryWorkers(ctx, q, `SELECT`+workerColumns+`FROM argus.workers WHERE state IN ('running', 'stopped')`)
}

// observeWorker corrects the state of a worker that changed without a call, unless its row has changed since it
// was read.
func (o *compute) observeWorker(ctx context.Context, w worker, state WorkerState) (changed bool, err error) {
	tag, err := o.pool.Exec(ctx, `
		UPDATE argus.workers SET state = $3, ended_at = CASE WHEN $3 = 'terminated' THEN clock_timestamp() END
		 WHERE id = $1 AND xmin::text = $2 AND op_audit_id IS NULL`, w.ID, w.version, string(state))
	return tag.RowsAffected() == 1, err
}

func (w *worker) ref() json.RawMessage {
	if w.Ref == nil {
		return nil
	}
	return json.RawMessage(*w.Ref)
}
