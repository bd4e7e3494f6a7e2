package analytics

import (
	"context"
	"encoding/json"
	"errors"
	"net/netip"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgtype"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/useargus/argus"
)

// postgresClient reads the system of record by two pools. Their sessions can only read, end a statement past its
// time, and notice within a second that the caller has gone.
type postgresClient struct {
	quick *pgxpool.Pool // lookups by key: planned once, since the plan does not depend on the values
	slow  *pgxpool.Pool // scans in ClickHouse's stead: planned for their values, few at a time
}

func newPostgresClient(config *pgxpool.Config) (*postgresClient, error) {
	open := func(conns int32, timeout time.Duration, plan string) (*pgxpool.Pool, error) {
		c := config.Copy()
		c.MaxConns, c.MinConns, c.MinIdleConns = conns, 0, 0
		c.MaxConnIdleTime = 5 * time.Minute
		set := c.ConnConfig.RuntimeParams
		set["application_name"] = "argus-analytics"
		set["default_transaction_read_only"] = "on"
		set["statement_timeout"] = strconv.FormatInt(timeout.Milliseconds(), 10)
		set["client_connection_check_interval"] = "1s"
		set["plan_cache_mode"] = plan
		return pgxpool.NewWithConfig(context.Background(), c)
	}
	quick, err := open(12, quickTime, "force_generic_plan")
	if err != nil {
		return nil, err
	}
	slow, err := open(4, fallbackTime, "force_custom_plan")
	if err != nil {
		quick.Close()
		return nil, err
	}
	return &postgresClient{quick, slow}, nil
}

func (p *postgresClient) close() {
	p.quick.Close()
	p.slow.Close()
}

// recordColumns are the columns of argus.argus_audit_log as scanRecords reads them.
var recordColumns = strings.Join(argus.ColumnNames(), ", ")

// scanRecords appends the rows to records and closes them.
func scanRecords(rows pgx.Rows, records []argus.Record) ([]argus.Record, error) {
	defer rows.Close()
	var (
		id, pat, glass               pgtype.UUID
		impersonator, request, trace pgtype.Text
		release, code, reason, agent pgtype.Text
		workload                     []byte
		actorKind, outcome           string
		params, bodyHash, rowHash    []byte
		status                       pgtype.Int2
		latency                      pgtype.Int8
		address                      netip.Prefix
	)
	for rows.Next() {
		records = append(records, argus.Record{})
		r := &records[len(records)-1]
		if err := rows.Scan(&r.WriterID, &r.Seq, &id, &r.OccurredAt, &r.RecordedAt, &r.ActorID, &impersonator, &actorKind,
			&pat, &glass, &r.Scope, &r.Route, &params, &r.Method, &status, &outcome, &latency, &address, &r.UserAgent,
			&bodyHash, &r.BodyBytes, &request, &trace, &r.Service, &release, &code, &reason, &agent, &workload, &rowHash); err != nil {
			return records[:len(records)-1], err
		}
		r.OccurredAt, r.RecordedAt = r.OccurredAt.UTC(), r.RecordedAt.UTC()
		r.ID, r.PATID, r.BreakGlassID = id.Bytes, pat.Bytes, glass.Bytes
		r.ImpersonatorID, r.ClientRequestID, r.TraceID = impersonator.String, request.String, trace.String
		r.Release, r.ErrorCode, r.Reason, r.Agent = release.String, code.String, reason.String, agent.String
		r.ActorKind, r.Outcome = argus.ActorKind(actorKind), argus.Outcome(outcome)
		r.Status, r.LatencyUS = status.Int16, latency.Int64
		r.ClientIP = address.Addr()
		if bodyHash != nil {
			r.BodyHashed = true
			copy(r.BodySHA256[:], bodyHash)
		}
		copy(r.RowHash[:], rowHash)
		var err error
		if r.PathParams, err = parsePairs(params); err == nil && workload != nil {
			r.Workload, err = parsePairs(workload)
		}
		if err != nil {
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

// orderBy is the order of the log, in both stores.
func orderBy(ascending bool) string {
	if ascending {
		return " ORDER BY occurred_at, writer_id, seq"
	}
	return " ORDER BY occurred_at DESC, writer_id DESC, seq DESC"
}

// seqRange is rows of one writer: those with a seq greater than lo, up to hi.
type seqRange struct{ writer, lo, hi int64 }

// seqRanges are the rows between two positions.
type seqRanges []seqRange

func (s seqRanges) rows() (n int64) {
	for _, sp := range s {
		n += sp.hi - sp.lo
	}
	return n
}

// from is the FROM clause of a statement that reads the rows of the ranges that meet the conditions. It reads each
// range by the primary key's index: OFFSET 0 keeps the planner from choosing anything else.
func (s seqRanges) from(a *postgresArgs, columns string, conds []string) string {
	writers, los, his := make([]int64, len(s)), make([]int64, len(s)), make([]int64, len(s))
	for i, sp := range s {
		writers[i], los[i], his[i] = sp.writer, sp.lo, sp.hi
	}
	var b strings.Builder
	b.WriteString(" FROM unnest(" + a.add(writers) + "::bigint[], " + a.add(los) + "::bigint[], " + a.add(his) +
		"::bigint[]) AS seq_range (range_writer, range_lo, range_hi) CROSS JOIN LATERAL (SELECT " + columns +
		" FROM argus.argus_audit_log WHERE writer_id = range_writer AND seq > range_lo AND seq <= range_hi")
	for _, c := range conds {
		b.WriteString(" AND ")
		b.WriteString(c)
	}
	b.WriteString(" OFFSET 0) AS r")
	return b.String()
}

// postgresFailure turns a failure of Postgres into what the caller may see.
func postgresFailure(ctx context.Context, err error) error {
	var known *argus.Error
	if errors.As(err, &known) || ctx.Err() != nil {
		return err
	}
	if isStatementTimeout(err) {
		return argus.Errorf(argus.CodeQueryTooLarge,
			"The question takes too long to answer from the system of record while the copy is not at hand; narrow its window.").WithCause(err)
	}
	return argus.Errorf(argus.CodeUnavailable, "The audit log cannot be read at the moment; try again shortly.").
		WithCause(err).WithRetryAfter(2 * time.Second)
}

// isStatementTimeout tells whether Postgres ended the statement because its time was up.
func isStatementTimeout(err error) bool {
	var rejected *pgconn.PgError
	return errors.As(err, &rejected) && rejected.Code == "57014"
}
