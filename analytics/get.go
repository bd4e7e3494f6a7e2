package analytics

import (
	"bytes"
	"cmp"
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
	steps, err := a.Steps(ctx, []uuid.UUID{id})
	if err != nil {
		return detail, err
	}
	detail.Steps = steps[id]
	return detail, nil
}

// stepsPart is how many calls' steps one statement reads.
const stepsPart = 1000

// Steps returns the rows of both domain tables that belong to the calls, each call's in the order they happened. They are
// those of now: a timer may add one to a call of any snapshot. Errors: CodeUnavailable.
func (a *Analytics) Steps(ctx context.Context, ids []uuid.UUID) (map[uuid.UUID][]argus.Step, error) {
	steps := map[uuid.UUID][]argus.Step{}
	for part := range slices.Chunk(ids, stepsPart) {
		if err := a.steps(ctx, part, steps); err != nil {
			return nil, postgresFailure(ctx, err)
		}
	}
	for _, list := range steps {
		slices.SortStableFunc(list, func(x, y argus.Step) int {
			return cmp.Or(time.Time(x.At).Compare(time.Time(y.At)), cmp.Compare(x.Step, y.Step))
		})
	}
	return steps, nil
}

func (a *Analytics) steps(ctx context.Context, ids []uuid.UUID, into map[uuid.UUID][]argus.Step) error {
	// Ids of one part are near in time: their bounds leave all but one or two partitions out.
	order := func(x, y uuid.UUID) int { return bytes.Compare(x[:], y[:]) }
	rows, err := a.pg.quick.Query(ctx, `
		SELECT 'compute_control_audit', audit_id, step, at, actor_id, impersonator_id, action, worker_id, provider, from_state, to_state,
		       NULL::text, NULL::uuid, NULL::text, NULL::text, NULL::timestamptz, reason, result, error
		  FROM argus.compute_control_audit WHERE audit_id = ANY($1) AND audit_id BETWEEN $2 AND $3
		UNION ALL
		SELECT 'remote_support_audit', audit_id, step, at, actor_id, impersonator_id, action, NULL, NULL, NULL, NULL,
		       tenant_id, session_id, consent_document_id, consent_recorded_by, consent_recorded_at, reason, result, error
		  FROM argus.remote_support_audit WHERE audit_id = ANY($1) AND audit_id BETWEEN $2 AND $3`,
		ids, slices.MinFunc(ids, order), slices.MaxFunc(ids, order))
	if err != nil {
		return err
	}
	var s argus.Step
	var at time.Time
	var recorded *time.Time
	_, err = pgx.ForEachRow(rows, []any{&s.Table, &s.AuditID, &s.Step, &at, &s.ActorID, &s.ImpersonatorID, &s.Action, &s.WorkerID, &s.Provider,
		&s.FromState, &s.ToState, &s.TenantID, &s.SessionID, &s.ConsentDocumentID, &s.ConsentRecordedBy, &recorded, &s.Reason, &s.Result, &s.Error},
		func() error {
			s.At, s.ConsentRecordedAt = argus.JSONTime(at.UTC()), argus.JSONTime{}
			if recorded != nil {
				s.ConsentRecordedAt = argus.JSONTime(recorded.UTC())
			}
			into[s.AuditID] = append(into[s.AuditID], s)
			s = argus.Step{}
			return nil
		})
	return err
}
