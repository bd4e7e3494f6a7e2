package analytics

import (
	"context"
	"errors"
	"strconv"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/useargus/argus"
	"github.com/useargus/argus/pgread"
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
var recordColumns = pgread.Columns

// scanRecords appends the rows to records and closes them.
func scanRecords(rows pgx.Rows, records []argus.Record) ([]argus.Record, error) {
	return pgread.Records(rows, records)
}

// orderBy is the order of the log, in both stores.
func orderBy(ascending bool) string {
	if ascending {
		return " ORDER BY occurred_at, writer_id, seq"
	}
	return " ORDER BY occurred_at DESC, writer_id DESC, seq DESC"
}

// seqRange is rows of one writer, seqRanges are the rows between two positions.
type (
	seqRange  = pgread.Range
	seqRanges = pgread.Ranges
)

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
