package analytics

import (
	"context"
	"slices"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/useargus/argus"
)

// Get returns one call and the domain rows it wrote, from the system of record: a lookup by key is as fast there,
// and never behind. Errors: CodeNotFound, CodeUnavailable.
func (a *Analytics) Get(ctx context.Context, id uuid.UUID) (detail argus.CallDetail, err error) {
	detail.Source = argus.SourcePostgres
	defer a.metrics.observe("get", time.Now(), &detail.Source, &err)
	// A version 7 id holds its time, which is the call's: only the month's partition need be asked. If that fails,
	// all of them are.
	windows := []window{a.clamp(window{})}
	if at := id.Time(); id.Version() == 7 {
		sec, nsec := at.UnixTime()
		arrived := time.Unix(sec, nsec).UTC()
		near := a.clamp(window{arrived.Add(-time.Minute), arrived.Add(time.Minute)})
		windows = append([]window{near}, windows...)
	}
	var found []argus.Record
	for _, w := range windows {
		var args postgresArgs
		conds := append(w.postgres(&args), "id = "+args.add([16]byte(id)))
		rows, err := a.pg.quick.Query(ctx, "SELECT "+recordColumns+" FROM argus.argus_audit_log WHERE "+and(conds)+
			orderBy(true)+" LIMIT 1", args.values...)
		if err == nil {
			found, err = scanRecords(rows, nil)
		}
		if err != nil {
			return detail, postgresFailure(ctx, err)
		}
		if len(found) > 0 {
			break
		}
	}
	if len(found) == 0 {
		return detail, argus.Errorf(argus.CodeNotFound, "There is no call %s in the log of the last 365 days.", id)
	}
	detail.Record = found[0]
	if detail.Steps, err = a.steps(ctx, id); err != nil {
		return detail, postgresFailure(ctx, err)
	}
	return detail, nil
}

// steps returns the rows of both domain tables that belong to the call, in the order they happened.
func (a *Analytics) steps(ctx context.Context, id uuid.UUID) ([]argus.Step, error) {
	rows, err := a.pg.quick.Query(ctx, `
		SELECT 'compute_control_audit', step, at, actor_id, impersonator_id, action, worker_id, provider, from_state, to_state,
		       NULL::text, NULL::uuid, NULL::text, NULL::text, NULL::timestamptz, reason, result, error
		  FROM argus.compute_control_audit WHERE audit_id = $1
		UNION ALL
		SELECT 'remote_support_audit', step, at, actor_id, impersonator_id, action, NULL, NULL, NULL, NULL,
		       tenant_id, session_id, consent_document_id, consent_recorded_by, consent_recorded_at, reason, result, error
		  FROM argus.remote_support_audit WHERE audit_id = $1`, [16]byte(id))
	if err != nil {
		return nil, err
	}
	steps, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (argus.Step, error) {
		s := argus.Step{AuditID: id}
		var at time.Time
		var recorded *time.Time
		err := row.Scan(&s.Table, &s.Step, &at, &s.ActorID, &s.ImpersonatorID, &s.Action, &s.WorkerID, &s.Provider, &s.FromState, &s.ToState,
			&s.TenantID, &s.SessionID, &s.ConsentDocumentID, &s.ConsentRecordedBy, &recorded, &s.Reason, &s.Result, &s.Error)
		s.At = argus.JSONTime(at.UTC())
		if recorded != nil {
			s.ConsentRecordedAt = argus.JSONTime(recorded.UTC())
		}
		return s, err
	})
	slices.SortStableFunc(steps, func(x, y argus.Step) int {
		if c := time.Time(x.At).Compare(time.Time(y.At)); c != 0 {
			return c
		}
		return int(x.Step) - int(y.Step)
	})
	return steps, err
}
