package replicator

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"strings"

	"github.com/jackc/pgx/v5"

	"github.com/useargus/argus"
)

// A server of a copy that is shared out has the rows of some writers, and a replicator like any other. All that differs is
// its publication, whose row filter argusd migrate arranged (argus.arrange_shards). The same filter restricts what this
// process asks Postgres about rows and writers. Of ClickHouse nothing is restricted: what is there and is another shard's
// is an orphan, as a row would be that Postgres lacks.
//
// The filter grows with each server that is added. It never says another thing of a writer that is there. So it must be read
// in the snapshot that it restricts, or later.

// share is what a publication carries: all, or the rows of a shard's writers.
type share struct {
	shard  int    // from 1; 0 when the publication is not of a shard
	filter string // a condition on writer_id; "" for all rows
}

// ofShard are the names of publications of shards. No copy's name ends so.
var ofShard = regexp.MustCompile(`_[0-9]+$`)

// first tells whether what has no writer, as steps and the ledger, belongs here.
func (s share) first() bool { return s.shard <= 1 }

// writers is the condition that a writer, given by an expression, is of the share.
func (s share) writers(expression string) string {
	if s.filter == "" {
		return "true"
	}
	return "(" + strings.ReplaceAll(s.filter, "writer_id", expression) + ")"
}

// steps is the condition that a row of a domain table is of the share.
func (s share) steps() string { return fmt.Sprint(s.first()) }

// readShare reads what the publication carries, as of q's snapshot.
func (r *Replicator) readShare(ctx context.Context, q querier) (s share, err error) {
	err = q.QueryRow(ctx, "SELECT shard, filter FROM argus.shard_publications WHERE publication = $1 ORDER BY number DESC LIMIT 1",
		r.config.Publication).Scan(&s.shard, &s.filter)
	if errors.Is(err, pgx.ErrNoRows) {
		return s, nil
	}
	if err != nil {
		return s, fmt.Errorf("reading what the publication carries: %w", err)
	}
	return s, nil
}

// writersNow reads the writers of the share as of now.
func (r *Replicator) writersNow(ctx context.Context, p argus.Position) (reading writersReading, err error) {
	err = pgx.BeginTxFunc(ctx, r.pool, pgx.TxOptions{IsoLevel: pgx.RepeatableRead, AccessMode: pgx.ReadOnly}, func(tx pgx.Tx) error {
		of, err := r.readShare(ctx, tx)
		if err == nil {
			reading, err = readWriters(ctx, tx, of, p)
		}
		return err
	})
	return reading, err
}

// unchanged tells whether the publication now is the one that is known by that print, or became so by nothing but argusd
// migrate, which took no row away.
func (r *Replicator) unchanged(ctx context.Context, known, now uint64) (ok bool, err error) {
	if known == now {
		return true, nil
	}
	err = r.pool.QueryRow(ctx, `
		WITH RECURSIVE led (print) AS (
		  SELECT $2::bigint UNION SELECT p.after FROM led JOIN argus.shard_publications p ON p.publication = $1 AND p.before = led.print)
		SELECT EXISTS (SELECT FROM led WHERE print = $3)`, r.config.Publication, int64(known), int64(now)).Scan(&ok)
	if err != nil {
		return false, fmt.Errorf("asking how the publication was changed: %w", err)
	}
	return ok, nil
}

// errForeign ends a lease term: the stream brought rows of another shard.
var errForeign = errors.New("the stream brought rows that the publication does not carry")

// own proves that writers seen for the first time are of the share. Postgres before 15.13, 16.9 and 17.5 may decode by a
// filter of before, when a transaction was open while it was changed. A row on two shards would count twice.
func (s *session) own(ctx context.Context, runs []seqRun) error {
	if s.share.filter == "" {
		return nil
	}
	var fresh []int64
	for _, run := range runs {
		if _, known := s.tracker.position.Writers[run.writer]; !known {
			fresh = append(fresh, run.writer)
		}
	}
	if len(fresh) == 0 {
		return nil
	}
	of, err := s.r.readShare(ctx, s.r.pool)
	if err != nil {
		return err
	}
	var foreign *int64
	if err := s.r.pool.QueryRow(ctx, "SELECT min(w) FROM unnest($1::bigint[]) AS u (w) WHERE NOT "+of.writers("w"), fresh).Scan(&foreign); err != nil {
		return fmt.Errorf("asking whose writers came: %w", err)
	}
	if foreign == nil {
		return nil
	}
	err = fmt.Errorf("%w: writer %d", errForeign, *foreign)
	s.r.mu.Lock()
	defer s.r.mu.Unlock()
	s.r.distrusted = err.Error() // what the slot holds would come so again
	return err
}
