package ledger

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/useargus/argus/connect"
	"github.com/useargus/argus/proof"
)

// failpoint names a place at which tests kill the process.
var failpoint = func(string) {}

// seal runs rounds until the first failure.
func (s *Sealer) seal(ctx context.Context) error {
	reported, said := time.Time{}, int64(-1)
	rest := time.Duration(0)
	s.published = time.Now()
	for {
		began, before := time.Now(), s.state.tree.size()
		more, err := s.round(ctx)
		if err != nil {
			return err
		}
		s.metrics.forked.Set(0)
		size := s.state.tree.size()
		if age := time.Since(reported); age > restReport || age > time.Second && size != said {
			reported, said = time.Now(), size
			s.writeStatus(ctx)
		}
		if time.Since(s.thinned) > time.Hour {
			s.thinned = time.Now()
			if _, err := s.pool.Exec(ctx, "SELECT argus.thin_ledger_checkpoints(), argus.create_ledger_partitions()"); err != nil {
				return fmt.Errorf("thinning out checkpoints: %w", err)
			}
		}
		if more {
			continue
		}
		rest = min(rest+s.config.Interval, restRounds*s.config.Interval)
		if size != before {
			rest = s.config.Interval
		}
		s.resting = rest == restRounds*s.config.Interval
		if s.await(ctx, max(rest-time.Since(began), time.Millisecond)) {
			rest = 0
		} else if ctx.Err() != nil {
			return ctx.Err()
		}
	}
}

// A log that rests is looked at less often. Each round that finds nothing makes the next one later. Writers announce rows, once
// in half a second: within that time after a row the rounds are not much farther apart than usual.
const (
	restRounds = 5
	restReport = 3 * time.Second // between two reports that say the same; less than a standby takes for silence
)

// rouse has the next round begin at once.
func (s *Sealer) rouse() {
	select {
	case s.news <- struct{}{}:
	default:
	}
}

// await waits that long, or until rows are announced, which it tells.
func (s *Sealer) await(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-s.news:
		return true
	case <-t.C:
	case <-ctx.Done():
	}
	return false
}

// round gives rows their leaves, if there are any, and signs. more: rows wait, and the next round is due at once.
func (s *Sealer) round(ctx context.Context) (more bool, err error) {
	began := time.Now()
	if err := s.recall(ctx); err != nil {
		return false, err
	}
	if s.state.first {
		if err := s.begin(ctx); err != nil {
			return false, err
		}
	}
	next := s.state.clone()
	sealed, more, err := s.runs(ctx, next)
	if err != nil {
		return false, err
	}
	if sealed > 0 || next.tree.size() > s.state.tree.size() {
		s.metrics.roundSeconds.Observe(time.Since(began).Seconds())
		s.metrics.leaves.Add(float64(sealed))
	}
	s.state = next
	if s.state.tree.size() > s.state.signed {
		return more, s.publish(ctx)
	}
	return more, s.renew(ctx)
}

// renew records that the ledger is alive when nothing came for a while, so that the next round makes a new checkpoint. A
// verifier can then tell a quiet log from one that was cut at its end: only the second has an old checkpoint.
func (s *Sealer) renew(ctx context.Context) error {
	if time.Since(s.published) < s.config.Idle {
		return nil
	}
	s.published = time.Now()
	if _, err := s.pool.Exec(ctx, "SELECT argus.record_ledger('ledger_idle', jsonb_build_object('size', $1::bigint))", s.state.signed); err != nil {
		return fmt.Errorf("recording that the log is quiet: %w", err)
	}
	return nil
}

// begin is done once in a ledger's life: it says in the log, and so in the tree, that the ledger starts here.
func (s *Sealer) begin(ctx context.Context) error {
	keys := make([]string, 0, 2)
	for _, k := range s.config.Keys.public {
		keys = append(keys, k.String())
	}
	if _, err := s.pool.Exec(ctx, "SELECT argus.record_ledger('ledger_started', jsonb_build_object('origin', $1::text, 'vkeys', $2::text[], 'before', $3::text))",
		s.config.Keys.Origin, keys, s.state.position.String()); err != nil {
		return fmt.Errorf("recording the ledger's start: %w", err)
	}
	s.log.Info("the ledger starts", "origin", s.config.Keys.Origin, "vkeys", keys, "before", s.state.position.String())
	s.state.first = false
	return nil
}

// runs seals what a snapshot of Postgres shows, in one transaction, and takes it into next. After an error the transaction
// may have been committed or not: the state is read again.
func (s *Sealer) runs(ctx context.Context, next *state) (sealed int64, more bool, err error) {
	var calls int64
	err = pgx.BeginTxFunc(ctx, s.pool, pgx.TxOptions{IsoLevel: pgx.RepeatableRead}, func(tx pgx.Tx) error {
		greatest, writers, err := readWriters(ctx, tx, next.position)
		if err != nil {
			return fmt.Errorf("reading the writers: %w", err)
		}
		if err := next.regressed(greatest, writers); err != nil {
			return err
		}
		limit := s.pace.limit(next.waiting(writers), time.Now(), s.config.Interval)
		spans, backlog := next.due(writers, limit)
		first := next.tree.size()
		runs, err := readRuns(ctx, tx, spans, first, time.Now())
		if err != nil {
			return err
		}
		leaf := first
		if n := len(runs); n > 0 {
			leaf = runs[n-1].FirstLeaf + int64(runs[n-1].Leaves())
		}
		calls = leaf - first
		pending, n, err := takePending(ctx, tx, maxRound, leaf)
		if err != nil {
			return err
		}
		runs = append(runs, pending...)
		s.metrics.backlog.Set(float64(backlog - calls))
		s.metrics.backlogSeconds.Set(s.pace.age.Seconds())
		s.health.behind(backlog-calls, s.pace.age)
		more = backlog > calls && limit == maxRound || n == maxRound
		var tiles []tileRow
		next.tree.builder.Full = func(t proof.Tile, hashes []byte) error {
			if t.Level > 0 {
				tiles = append(tiles, tileRow{t, append([]byte(nil), hashes...)})
			}
			return nil
		}
		for i := range runs {
			if err := next.add(&runs[i]); err != nil {
				return err
			}
		}
		next.tree.builder.Full = nil
		next.settle(greatest, writers)
		sealed = next.tree.size() - first
		if sealed == 0 {
			return nil
		}
		failpoint("read")
		if err := insertRuns(ctx, tx, runs); err != nil {
			return err
		}
		if err := insertTiles(ctx, tx, tiles); err != nil {
			return err
		}
		if first>>23 != next.tree.size()>>23 {
			if _, err := tx.Exec(ctx, "SELECT argus.create_ledger_partitions()"); err != nil {
				return fmt.Errorf("making room for leaves: %w", err)
			}
		}
		failpoint("inserted")
		return nil
	})
	if err != nil {
		return 0, false, err
	}
	failpoint("committed")
	s.pace.sealed(calls)
	return sealed, more, nil
}

type tileRow struct {
	tile   proof.Tile
	hashes []byte
}

func insertRuns(ctx context.Context, tx pgx.Tx, runs []proof.Run) error {
	n := len(runs)
	first, kinds, months, leaves := make([]int64, n), make([]int16, n), make([]int16, n), make([]int32, n)
	writers, seqs := make([]*int64, n), make([]*int64, n)
	keys, digests := make([][]byte, n), make([][]byte, n)
	for i := range runs {
		r := &runs[i]
		if err := r.Check(); err != nil {
			return err
		}
		first[i], kinds[i], months[i], leaves[i], digests[i] = r.FirstLeaf, int16(r.Kind), int16(r.Month), int32(r.Leaves()), r.Digests
		if r.Kind == proof.Call {
			writers[i], seqs[i] = &r.WriterID, &r.FirstSeq
		} else {
			keys[i] = r.Keys
		}
	}
	if _, err := tx.Exec(ctx, `INSERT INTO argus.ledger_runs (first_leaf, leaves, kind, month, writer_id, first_seq, keys, digests)
		SELECT * FROM unnest($1::bigint[], $2::int[], $3::smallint[], $4::smallint[], $5::bigint[], $6::bigint[], $7::bytea[], $8::bytea[])`,
		first, leaves, kinds, months, writers, seqs, keys, digests); err != nil {
		return fmt.Errorf("inserting runs: %w", err)
	}
	return nil
}

func insertTiles(ctx context.Context, tx pgx.Tx, tiles []tileRow) error {
	for _, t := range tiles {
		if _, err := tx.Exec(ctx, "INSERT INTO argus.ledger_tiles (level, n, hashes) VALUES ($1, $2, $3)", t.tile.Level, t.tile.N, t.hashes); err != nil {
			return fmt.Errorf("inserting tiles: %w", err)
		}
	}
	return nil
}

// publish signs the tree as Postgres has it committed: root twice, signature, anchor, checkpoint. The anchor comes before
// the checkpoint, so that no one sees what this process could forget. A tree that a failover could take back is not signed:
// its successor would be a fork.
func (s *Sealer) publish(ctx context.Context) error {
	if err := connect.Barrier(ctx, s.pool); err != nil {
		return fmt.Errorf("waiting for the synchronous standbys: %w", err)
	}
	size := s.state.tree.size()
	root, err := s.state.tree.root()
	if err != nil {
		return err
	}
	msg, err := s.sign(proof.Checkpoint{Origin: s.config.Keys.Origin, Size: size, Root: root})
	if err != nil {
		return err
	}
	failpoint("signed")
	if err := s.anchor.add(size, root); err != nil {
		return err
	}
	failpoint("anchored")
	tag, err := s.pool.Exec(ctx, `INSERT INTO argus.ledger_checkpoints (size, root, note, position) VALUES ($1, $2, $3, $4)
		ON CONFLICT (size) DO NOTHING`, size, root[:], msg, s.state.position.String())
	if err != nil {
		return fmt.Errorf("inserting the checkpoint: %w", err)
	}
	if tag.RowsAffected() == 0 { // another sealer was first; the same tree must have the same root
		c, err := s.reader.At(ctx, size)
		if err != nil {
			return err
		}
		if c.Root != root {
			return fmt.Errorf("%w: two checkpoints of %d leaves have the roots %x and %x", errForked, size, root, c.Root)
		}
		msg = c.Note
	}
	failpoint("published")
	s.state.signed = size
	now := time.Now()
	s.published = now
	s.metrics.checkpoints.Inc()
	s.metrics.size.Set(float64(size))
	s.metrics.checkpointTime.SetToCurrentTime()
	s.health.signed(size, root, now)
	if now.Sub(s.logged) >= time.Minute {
		s.logged = now
		s.log.Info("checkpoint", "origin", s.config.Keys.Origin, "size", size, "root", root.String(), "note", msg)
	}
	return nil
}
