package replicator

import (
	"fmt"
	"net"
	"net/netip"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/useargus/argus"
	"github.com/useargus/argus/replicator/wal"
)

// caughtUp waits until the watermark holds everything that Postgres has, and returns it.
func (w *world) caughtUp() argus.Position {
	w.t.Helper()
	s, err := openClickHouse(w.ch.MigrateURL)
	w.must(err)
	defer s.close()
	var end string
	w.must(w.api.QueryRow(w.ctx(), "SELECT pg_current_wal_lsn()::text").Scan(&end))
	target, err := wal.ParseLSN(end)
	w.must(err)
	deadline := time.Now().Add(90 * time.Second)
	for {
		mark, ok, err := s.watermark(w.ctx())
		if err == nil && ok && !mark.healing && mark.lsn >= target {
			return mark.position
		}
		if time.Now().After(deadline) {
			w.t.Fatalf("the watermark does not reach %s: %+v %v", target, mark, err)
		}
		time.Sleep(40 * time.Millisecond)
	}
}

// verify waits until everything is copied and holds all of it to Postgres: rows by content, none twice,
// rollups by recomputation, the watermark by the writers.
func (w *world) verify() {
	w.t.Helper()
	position := w.caughtUp()
	w.verifyRows()
	w.verifySteps()
	w.verifyRollups()
	w.verifyPosition(position, true)
}

// postgresRows reads the log as the API would.
func (w *world) postgresRows() map[string]argus.Record {
	w.t.Helper()
	rows, err := w.api.Query(w.ctx(), "SELECT "+strings.Join(auditColumns, ", ")+" FROM argus.argus_audit_log")
	w.must(err)
	all := map[string]argus.Record{}
	_, err = pgx.CollectRows(rows, func(row pgx.CollectableRow) (int, error) {
		var r argus.Record
		var impersonator, request, trace *string
		var late laterColumns
		var pat, glass *uuid.UUID
		var params map[string]string
		var status *int16
		var latency *int64
		var digest, hash []byte
		var ip netip.Prefix
		err := row.Scan(&r.WriterID, &r.Seq, &r.ID, &r.OccurredAt, &r.RecordedAt, &r.ActorID, &impersonator, &r.ActorKind, &pat,
			&glass, &r.Scope, &r.Route, &params, &r.Method, &status, &r.Outcome, &latency, &ip, &r.UserAgent, &digest, &r.BodyBytes,
			&request, &trace, &r.Service, &late.release, &late.code, &late.reason, &late.agent, &late.workload, &hash)
		late.fill(&r)
		fill(&r, impersonator, request, trace, pat, glass, params, status, latency, digest, hash)
		r.ClientIP = ip.Addr()
		r.OccurredAt, r.RecordedAt = r.OccurredAt.UTC(), r.RecordedAt.UTC()
		all[fmt.Sprintf("%d/%d", r.WriterID, r.Seq)] = r
		return 0, err
	})
	w.must(err)
	return all
}

// laterColumns are those of the columns behind trace_id that may be null.
type laterColumns struct {
	release, code, reason, agent *string
	workload                     map[string]string
}

func (l *laterColumns) fill(r *argus.Record) {
	for dst, src := range map[*string]*string{&r.Release: l.release, &r.ErrorCode: l.code, &r.Reason: l.reason, &r.Agent: l.agent} {
		if src != nil {
			*dst = *src
		}
	}
	for k, v := range l.workload {
		r.Workload = append(r.Workload, argus.Claim{Name: k, Value: v})
	}
	r.SortWorkload()
}

func fill(r *argus.Record, impersonator, request, trace *string, pat, glass *uuid.UUID, params map[string]string,
	status *int16, latency *int64, digest, hash []byte) {
	text := func(p *string) string {
		if p == nil {
			return ""
		}
		return *p
	}
	r.ImpersonatorID, r.ClientRequestID, r.TraceID = text(impersonator), text(request), text(trace)
	if pat != nil {
		r.PATID = *pat
	}
	if glass != nil {
		r.BreakGlassID = *glass
	}
	for k, v := range params {
		r.PathParams = append(r.PathParams, argus.PathParam{Name: k, Value: v})
	}
	r.SortPathParams()
	if status != nil {
		r.Status, r.LatencyUS = *status, *latency
	}
	r.BodyHashed = digest != nil
	copy(r.BodySHA256[:], digest)
	copy(r.RowHash[:], hash)
}

func (w *world) verifyRows() {
	w.t.Helper()
	want := w.postgresRows()
	rows, err := w.copy.Query(w.ctx(), "SELECT "+strings.Join(auditColumns, ", ")+" FROM audit_log")
	w.must(err)
	defer rows.Close()
	seen, wrong := 0, 0
	for rows.Next() {
		var r argus.Record
		var kind, outcome string
		var impersonator, request, trace, digest *string
		var late laterColumns
		var hash string
		var pat, glass *uuid.UUID
		var params map[string]string
		var status *int16
		var latency *int64
		var ip net.IP
		w.must(rows.Scan(&r.WriterID, &r.Seq, &r.ID, &r.OccurredAt, &r.RecordedAt, &r.ActorID, &impersonator, &kind, &pat,
			&glass, &r.Scope, &r.Route, &params, &r.Method, &status, &outcome, &latency, &ip, &r.UserAgent, &digest, &r.BodyBytes,
			&request, &trace, &r.Service, &late.release, &late.code, &late.reason, &late.agent, &late.workload, &hash))
		late.fill(&r)
		r.ActorKind, r.Outcome = argus.ActorKind(kind), argus.Outcome(outcome)
		var d []byte
		if digest != nil {
			d = []byte(*digest)
		}
		fill(&r, impersonator, request, trace, pat, glass, params, status, latency, d, []byte(hash))
		a, _ := netip.AddrFromSlice(ip)
		r.ClientIP = a.Unmap()
		r.OccurredAt, r.RecordedAt = r.OccurredAt.UTC(), r.RecordedAt.UTC()
		key := fmt.Sprintf("%d/%d", r.WriterID, r.Seq)
		p, ok := want[key]
		seen++
		switch {
		case !ok:
			wrong++
			if wrong < 5 {
				w.t.Errorf("ClickHouse has the row %s twice, or Postgres does not have it", key)
			}
		case string(p.AppendJSON(nil)) != string(r.AppendJSON(nil)):
			wrong++
			if wrong < 5 {
				w.t.Errorf("the row %s differs\nPostgres:   %s\nClickHouse: %s", key, p.AppendJSON(nil), r.AppendJSON(nil))
			}
		case r.ComputeHash() != r.RowHash:
			wrong++
			w.t.Errorf("the row %s does not match its hash", key)
		}
		delete(want, key)
	}
	w.must(rows.Err())
	for key := range want {
		wrong++
		if wrong < 10 {
			w.t.Errorf("ClickHouse lacks the row %s", key)
		}
	}
	if wrong > 0 {
		w.t.Fatalf("%d rows are wrong, %d seen, %d missing", wrong, seen, len(want))
	}
}

// verifySteps holds the domain tables to Postgres as text.
func (w *world) verifySteps() {
	w.t.Helper()
	for table, columns := range map[string]string{
		"compute_control_audit": "audit_id step at actor_id impersonator_id action worker_id provider reason from_state to_state result error",
		"remote_support_audit":  "audit_id step at actor_id impersonator_id action tenant_id session_id reason consent_document_id consent_recorded_by consent_recorded_at result error",
	} {
		var pg, ch []string
		for _, c := range strings.Fields(columns) {
			p, k := c+"::text", "toString("+c+")"
			if c == "at" || strings.HasSuffix(c, "_at") {
				p, k = "(extract(epoch FROM "+c+") * 1000000)::bigint::text", "toString(toUnixTimestamp64Micro("+c+"))"
			}
			pg, ch = append(pg, "coalesce("+p+", '~')"), append(ch, "coalesce("+k+", '~')")
		}
		rows, err := w.api.Query(w.ctx(), fmt.Sprintf("SELECT concat_ws('#', %s) FROM argus.%s ORDER BY audit_id::text, step", strings.Join(pg, ","), table))
		w.must(err)
		want, err := pgx.CollectRows(rows, pgx.RowTo[string])
		w.must(err)
		s, err := openClickHouse(w.ch.MigrateURL)
		w.must(err)
		got, err := s.strings(w.ctx(), fmt.Sprintf("SELECT concatWithSeparator('#', %s) FROM %s ORDER BY toString(audit_id), step", strings.Join(ch, ","), table))
		s.close()
		w.must(err)
		if len(want) != len(got) {
			w.t.Fatalf("%s: %d rows in Postgres, %d in ClickHouse", table, len(want), len(got))
		}
		for i := range want {
			if want[i] != got[i] {
				w.t.Fatalf("%s differs\nPostgres:   %s\nClickHouse: %s", table, want[i], got[i])
			}
		}
	}
}

// verifyRollups compares the test's own rollups by hand, and every one by recomputation.
func (w *world) verifyRollups() {
	w.t.Helper()
	for _, q := range []string{
		`SELECT (SELECT sum(n) FROM test_by_minute) = (SELECT countIf(outcome = 'completed') FROM audit_log)
		    AND (SELECT sum(latency) FROM test_by_minute) = (SELECT sum(latency_us) FROM audit_log)
		    AND (SELECT sum(n) FROM test_by_day) = (SELECT count() FROM audit_log)`,
		`SELECT count() = 0 FROM (
		   SELECT day, actor_id, sum(n) AS n, max(worst) AS worst, uniqExactMerge(actors) AS a FROM test_by_day GROUP BY day, actor_id
		   EXCEPT
		   SELECT toStartOfDay(occurred_at) AS day, actor_id, count() AS n, max(coalesce(latency_us, 0)), uniqExact(CAST(route, 'String'))
		     FROM audit_log GROUP BY day, actor_id)`,
	} {
		var equal uint8
		w.must(w.copy.QueryRow(w.ctx(), q).Scan(&equal))
		if equal != 1 {
			w.t.Fatalf("a rollup is not what its rows make: %s", q)
		}
	}
	s, err := openClickHouse(w.ch.MigrateURL)
	w.must(err)
	defer s.close()
	all, err := s.rollups(w.ctx())
	w.must(err)
	if len(all) < 2 {
		w.t.Fatalf("found %d rollups", len(all))
	}
	for _, r := range all {
		difference, err := s.rollupDifference(w.ctx(), r, "")
		w.must(err)
		if difference != "" {
			w.t.Errorf("the rollup %s is not what its rows make: %s", r.target, difference)
		}
	}
}

// verifyPosition holds the position to what both stores have: nothing in it may be missing. When complete, all
// of Postgres must be in it.
func (w *world) verifyPosition(p argus.Position, complete bool) {
	w.t.Helper()
	rows, err := w.api.Query(w.ctx(), "SELECT writer_id, seq, closed_at IS NOT NULL FROM argus.audit_writers")
	w.must(err)
	states, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (s writerState, err error) {
		return s, row.Scan(&s.id, &s.seq, &s.closed)
	})
	w.must(err)
	for _, s := range states {
		if _, listed := p.Writers[s.id]; !listed && s.id <= p.ClosedThrough && !s.closed {
			w.t.Errorf("the position calls the open writer %d closed", s.id)
		}
		if complete && s.seq > 0 && !p.Contains(s.id, s.seq) {
			w.t.Errorf("the position leaves out row %d of writer %d: %s", s.seq, s.id, p)
		}
	}
}
