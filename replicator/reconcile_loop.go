package replicator

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/useargus/argus/replicator/wal"
)

// errDifference ends a lease term, so that the next one heals.
var errDifference = errors.New("ClickHouse lacks what the watermark promises")

// inspect compares counts now and then while the stream goes on: what was dropped, truncated or restored from a
// backup in ClickHouse shows within CheckEvery.
func (s *session) inspect(ctx context.Context) error {
	if s.r.config.CheckEvery < 0 {
		return nil
	}
	var complete time.Time // when all months were looked at
	for pause := min(s.r.config.CheckEvery, 5*time.Second); s.rest(ctx, pause) == nil; pause = s.r.config.CheckEvery {
		all := time.Since(complete) > 24*time.Hour
		if all || s.suspicious {
			s.suspicious, s.reconciled = false, time.Now()
			if err := s.r.reconcileNow(ctx); err != nil && ctx.Err() == nil {
				s.r.log.Warn("reconciling the writers failed", "error", err)
			}
		}
		difference := ""
		for range 3 { // it counts when it stays
			var err error
			if difference, err = s.countDifference(ctx, all); err != nil {
				if ctx.Err() == nil {
					s.r.log.Warn("comparing counts failed", "error", err)
				}
				difference, all = "", false
			}
			if difference == "" {
				break
			}
			if sleep(ctx, time.Second) != nil {
				return nil
			}
		}
		if difference != "" {
			s.r.want(healDifference)
			return fmt.Errorf("%w: %s", errDifference, difference)
		}
		if all {
			complete = time.Now()
		}
	}
	return nil
}

// rest waits for the next comparison, or until damage of the writers was seen.
func (s *session) rest(ctx context.Context, pause time.Duration) error {
	timer := time.NewTimer(pause)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-s.reconcile:
		s.suspicious = true
		// All rows are read for it: not more than once a minute.
		return sleep(ctx, min(s.r.config.CheckEvery, time.Minute)-time.Since(s.reconciled))
	case <-ctx.Done():
		return ctx.Err()
	}
}

// reconcileNow holds all rows of all writers to each other, as of now.
func (r *Replicator) reconcileNow(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, 30*time.Minute)
	defer cancel()
	return pgx.BeginTxFunc(ctx, r.pool, pgx.TxOptions{IsoLevel: pgx.RepeatableRead, AccessMode: pgx.ReadOnly}, func(tx pgx.Tx) error {
		all, err := readRows(ctx, tx, share{})
		if err != nil {
			return err
		}
		return r.judgeRows(ctx, tx, all)
	})
}

// judgeRows makes what the rows say now the findings of the last reconciliation.
func (r *Replicator) judgeRows(ctx context.Context, q querier, all []writerRows) error {
	found, err := reconcile(ctx, q, all)
	if err != nil {
		return err
	}
	r.findings.reconciled(found)
	r.tellFindings()
	return nil
}

// stepsWindow is how far back the steps are counted each stepsEvery. The slot holds them in no numbering of its own.
const stepsWindow = time.Hour

var stepsEvery = 10 * time.Second // tests shorten it

// watchSteps counts the steps of recent calls in both stores.
func (s *session) watchSteps(ctx context.Context) error {
	if s.r.config.CheckEvery < 0 {
		return nil
	}
	for sleep(ctx, stepsEvery) == nil {
		difference, err := s.stepsDifference(ctx, time.Now().Add(-stepsWindow))
		if err == nil && difference != "" { // it counts when it stays
			difference, err = s.stepsDifference(ctx, time.Now().Add(-stepsWindow))
		}
		switch {
		case err != nil && ctx.Err() == nil:
			s.r.log.Warn("counting the steps failed", "error", err)
		case err == nil && difference != "":
			s.r.want(healGap)
			return fmt.Errorf("%w: %s", errGap, difference)
		}
	}
	return nil
}

// countDifference describes the first difference of counts, of the two newest months or of all; "" for none.
func (s *session) countDifference(ctx context.Context, all bool) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Minute)
	defer cancel()
	r := s.r
	position := s.published.Load().position
	months, _, err := r.monthsOf(ctx, r.pool, auditTable)
	if err != nil {
		return "", err
	}
	of, err := r.readShare(ctx, r.pool)
	if err != nil {
		return "", err
	}
	now := monthOf(time.Now().Add(24 * time.Hour))
	newest := slices.DeleteFunc(slices.Clone(months), func(m month) bool { return m > now })
	newest = newest[max(0, len(newest)-2):]
	if !all {
		months = newest
	}
	for _, m := range months {
		rg := rowRange{table: auditTable, month: m, share: of, held: &position}
		here, err := r.clickhouse.number(ctx, "SELECT count() FROM audit_log WHERE "+rg.clickhouseWhere())
		if err != nil {
			return "", err
		}
		var there int64
		if err := r.pool.QueryRow(ctx, "SELECT count(*) FROM argus.argus_audit_log l WHERE "+rg.postgresWhere()).Scan(&there); err != nil {
			return "", err
		}
		if int64(here) != there {
			return fmt.Sprintf("%s of the audit log has %d rows in Postgres and %d in ClickHouse", m, there, here), nil
		}
	}
	if difference, err := s.lostPartition(ctx, newest); err != nil || difference != "" {
		return difference, err
	}
	return s.stepsDifference(ctx, time.Time{})
}

// lostPartition looks for partitions that rollups should have.
func (s *session) lostPartition(ctx context.Context, months []month) (string, error) {
	rollups, err := s.r.clickhouse.rollups(ctx)
	if err != nil {
		return "", err
	}
	for _, roll := range rollups {
		stored, err := s.r.clickhouse.strings(ctx, `SELECT DISTINCT partition_id FROM system.parts
			WHERE active AND database = currentDatabase() AND table = {table:String}`, namedString("table", roll.target))
		if err != nil {
			return "", err
		}
		for _, m := range months {
			made, err := s.r.clickhouse.partitionsOf(ctx, roll, timeRange{m.from(), m.to()})
			if err != nil {
				return "", err
			}
			for _, v := range made {
				if !slices.Contains(stored, v) {
					return fmt.Sprintf("the rollup %s has lost its partition %s", roll.target, v), nil
				}
			}
		}
	}
	return "", nil
}

// stepsDifference compares how many rows the domain tables have of calls since then; zero for all. What ClickHouse has,
// Postgres has; and what Postgres had, ClickHouse has once the watermark has passed.
func (s *session) stepsDifference(ctx context.Context, since time.Time) (string, error) {
	for t, info := range tables {
		if t == auditTable {
			continue
		}
		here, there := "SELECT count() FROM "+info.clickhouse, "SELECT count(*) FROM "+info.postgres+" WHERE "+s.share.steps()
		if since.IsZero() {
			// Of months that retention has dropped there, and not yet here, nothing is compared.
			months, _, err := s.r.monthsOf(ctx, s.r.pool, t)
			if err != nil {
				return "", err
			}
			if len(months) == 0 {
				continue
			}
			here += " WHERE " + callMonth + " IN (" + joinInts(months) + ")"
		} else {
			here += fmt.Sprintf(" WHERE bitShiftRight(toUInt128(audit_id), 80) >= %d", since.UnixMilli())
			there += " AND audit_id >= " + uuidFloor(since)
		}
		before, err := s.r.clickhouse.number(ctx, here)
		if err != nil {
			return "", err
		}
		var rows uint64
		if err := s.r.pool.QueryRow(ctx, there).Scan(&rows); err != nil {
			return "", err
		}
		at, err := insertLSN(ctx, s.r.pool)
		if err != nil {
			return "", err
		}
		if err := s.passed(ctx, at); err != nil {
			return "", err
		}
		after, err := s.r.clickhouse.number(ctx, here)
		if err != nil {
			return "", err
		}
		if before > rows || after < rows {
			return fmt.Sprintf("%s has %d rows in Postgres and %d in ClickHouse", info.postgres, rows, after), nil
		}
	}
	return "", nil
}

// passed waits until the watermark says that all that committed before at is in ClickHouse.
func (s *session) passed(ctx context.Context, at wal.LSN) error {
	for s.published.Load().lsn < at {
		if err := sleep(ctx, 100*time.Millisecond); err != nil {
			return err
		}
	}
	return nil
}
