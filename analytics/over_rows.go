package analytics

import (
	"context"
	"time"

	"github.com/useargus/argus"
)

// rowQuestion is a question that is answered by looking at every row it is about, in each store with statements of its own.
type rowQuestion struct {
	columns string // of the rows, for the statements at the tail
	begin   func() // before rows are counted, and again if they have to be counted anew
	// postgres counts the rows that from gives, a FROM clause with the conditions.
	postgres func(ctx context.Context, from func(args *postgresArgs, conds []string) string) error
	// clickhouse counts those up to the watermark.
	clickhouse func(ctx context.Context, conn *clickhouseConn, wm argus.Position, left time.Duration) error
}

// overRows answers the questions in an attempt, all of one snapshot. ClickHouse looks at the rows up to the watermark and Postgres at
// those beyond it, so the answers are exact.
func (a *Analytics) overRows(ctx context.Context, on *attempt, questions ...rowQuestion) (source argus.Source, replicated time.Time, err error) {
	release, err := on.acquire(ctx, a.heavy)
	if err != nil {
		return source, replicated, err
	}
	defer release()

	if on.copy == nil {
		return a.overPostgresRows(ctx, questions)
	}
	var pgErr error
	err = on.with(ctx, func(conn *clickhouseConn) error {
		wm, err := a.watermark(ctx, on.copy, conn)
		if err != nil {
			return err
		}
		a.step("watermark")
		var c cut
		if c, pgErr = on.readCut(ctx, wm.Position, nil); pgErr != nil {
			return nil
		}
		a.step("cut")
		source = argus.SourceClickHouse
		if len(c.Tail) > 0 {
			source = argus.SourceBoth
		}
		if replicated, pgErr = a.replicatedThrough(ctx, c); pgErr != nil {
			return nil
		}
		deadline := time.Now().Add(scanTime)
		for _, q := range questions {
			q.begin()
			if len(c.Tail) > 0 {
				if pgErr = q.postgres(ctx, func(args *postgresArgs, conds []string) string {
					return c.Tail.From(args.add, q.columns, conds)
				}); pgErr != nil {
					return nil
				}
			}
			a.step("tail")
			left := time.Until(deadline)
			if left <= 0 {
				return errOutOfTime
			}
			if err := q.clickhouse(ctx, conn, wm.Position, left); err != nil {
				return err
			}
		}
		return nil
	})
	if pgErr != nil {
		err = postgresFailure(ctx, pgErr)
	}
	return source, replicated, err
}

// overPostgresRows answers the questions when no copy did.
func (a *Analytics) overPostgresRows(ctx context.Context, questions []rowQuestion) (source argus.Source, replicated time.Time, err error) {
	source, replicated = argus.SourcePostgres, a.copies.replicated()
	c, err := a.readCut(ctx, everything, nil)
	if err != nil {
		return source, replicated, postgresFailure(ctx, err)
	}
	for _, q := range questions {
		q.begin()
		if err := q.postgres(ctx, func(args *postgresArgs, conds []string) string {
			return " FROM argus.argus_audit_log WHERE " + and(append(conds, postgresIn(args, c.Snapshot)))
		}); err != nil {
			return source, replicated, postgresFailure(ctx, err)
		}
	}
	return source, replicated, nil
}
