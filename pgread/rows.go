// Package pgread reads the log from Postgres by writer and seq. Followers of a stream, answers that reach past the copy,
// and argusd ship read it so. The questions are two: which rows are there beyond a position, and which are they.
//
// The replicator's healing reads seq ranges too, and not by this package. It copies columns that it does not know,
// binary, straight into ClickHouse's. A row as argus.Record would be decoded twice.
package pgread

import (
	"encoding/json"
	"net/netip"
	"strings"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgtype"

	"github.com/useargus/argus"
)

// Columns are the columns of argus.argus_audit_log as a Scanner reads them.
var Columns = strings.Join(argus.ColumnNames(), ", ")

// Scanner reads rows one by one. Its zero value is ready.
type Scanner struct {
	id, pat, glass               pgtype.UUID
	impersonator, request, trace pgtype.Text
	release, code, reason, agent pgtype.Text
	workload                     []byte
	actorKind, outcome           string
	params, bodyHash, rowHash    []byte
	status                       pgtype.Int2
	latency                      pgtype.Int8
	address                      netip.Prefix
}

// Scan reads the current row, of Columns, into r.
func (s *Scanner) Scan(rows pgx.Rows, r *argus.Record) error {
	*r = argus.Record{}
	if err := rows.Scan(&r.WriterID, &r.Seq, &s.id, &r.OccurredAt, &r.RecordedAt, &r.ActorID, &s.impersonator, &s.actorKind,
		&s.pat, &s.glass, &r.Scope, &r.Route, &s.params, &r.Method, &s.status, &s.outcome, &s.latency, &s.address, &r.UserAgent,
		&s.bodyHash, &r.BodyBytes, &s.request, &s.trace, &r.Service, &s.release, &s.code, &s.reason, &s.agent, &s.workload, &s.rowHash); err != nil {
		return err
	}
	r.OccurredAt, r.RecordedAt = r.OccurredAt.UTC(), r.RecordedAt.UTC()
	r.ID, r.PATID, r.BreakGlassID = s.id.Bytes, s.pat.Bytes, s.glass.Bytes
	r.ImpersonatorID, r.ClientRequestID, r.TraceID = s.impersonator.String, s.request.String, s.trace.String
	r.Release, r.ErrorCode, r.Reason, r.Agent = s.release.String, s.code.String, s.reason.String, s.agent.String
	r.ActorKind, r.Outcome = argus.ActorKind(s.actorKind), argus.Outcome(s.outcome)
	r.Status, r.LatencyUS = s.status.Int16, s.latency.Int64
	r.ClientIP = s.address.Addr()
	if s.bodyHash != nil {
		r.BodyHashed = true
		copy(r.BodySHA256[:], s.bodyHash)
	}
	copy(r.RowHash[:], s.rowHash)
	var err error
	if r.PathParams, err = parsePairs(s.params); err == nil && s.workload != nil {
		r.Workload, err = parsePairs(s.workload)
	}
	return err
}

// Records appends the rows to records and closes them.
func Records(rows pgx.Rows, records []argus.Record) ([]argus.Record, error) {
	defer rows.Close()
	var s Scanner
	for rows.Next() {
		records = append(records, argus.Record{})
		if err := s.Scan(rows, &records[len(records)-1]); err != nil {
			return records[:len(records)-1], err
		}
	}
	return records, rows.Err()
}

// parsePairs reads the column path_params or workload.
func parsePairs(text []byte) ([]argus.PathParam, error) {
	if string(text) == "{}" {
		return nil, nil
	}
	var m map[string]string
	if err := json.Unmarshal(text, &m); err != nil {
		return nil, err
	}
	r := argus.Record{PathParams: make([]argus.PathParam, 0, len(m))}
	for name, value := range m {
		r.PathParams = append(r.PathParams, argus.PathParam{Name: name, Value: value})
	}
	r.SortPathParams()
	return r.PathParams, nil
}

// Range is rows of one writer: those with a seq greater than Lo, up to Hi.
type Range struct{ Writer, Lo, Hi int64 }

// Ranges are the rows between two positions.
type Ranges []Range

// Rows counts them.
func (s Ranges) Rows() (n int64) {
	for _, r := range s {
		n += r.Hi - r.Lo
	}
	return n
}

// From is the FROM clause of a statement that reads the columns of the ranges' rows that meet the conditions. add gives a
// value's placeholder. The statement reads each range by the primary key's index: OFFSET 0 keeps the planner from choosing
// anything else.
func (s Ranges) From(add func(any) string, columns string, conds []string) string {
	return s.from(add, columns, conds, "")
}

// InOrder is From, and gives the rows of each range by seq, one range after the other. Nothing is sorted: the index has
// that order. SQL does not promise it, so a reader checks it.
func (s Ranges) InOrder(add func(any) string, columns string) string {
	return s.from(add, columns, nil, " ORDER BY seq")
}

func (s Ranges) from(add func(any) string, columns string, conds []string, order string) string {
	writers, los, his := make([]int64, len(s)), make([]int64, len(s)), make([]int64, len(s))
	for i, r := range s {
		writers[i], los[i], his[i] = r.Writer, r.Lo, r.Hi
	}
	var b strings.Builder
	b.WriteString(" FROM unnest(" + add(writers) + "::bigint[], " + add(los) + "::bigint[], " + add(his) +
		"::bigint[]) AS seq_range (range_writer, range_lo, range_hi) CROSS JOIN LATERAL (SELECT " + columns +
		" FROM argus.argus_audit_log WHERE writer_id = range_writer AND seq > range_lo AND seq <= range_hi")
	for _, c := range conds {
		b.WriteString(" AND ")
		b.WriteString(c)
	}
	b.WriteString(order + " OFFSET 0) AS r")
	return b.String()
}
