package ledger

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/ClickHouse/clickhouse-go/v2"
	"github.com/ClickHouse/clickhouse-go/v2/lib/driver"
	"github.com/jackc/pgx/v5"

	"github.com/useargus/argus/connect"
	"github.com/useargus/argus/proof"
)

// The sealer asks its memories outside Postgres before it asks Postgres. All that a memory holds had been committed before,
// so Postgres must have it too.

// remember reads the state anew and holds it against every memory.
func (s *Sealer) remember(ctx context.Context) error {
	copied, unasked := s.askCopies(ctx)
	if unasked != nil {
		s.log.Warn("a copy of the ledger could not be asked", "error", unasked)
	}
	if _, err := s.anchor.refresh(); err != nil {
		return fmt.Errorf("the anchor file %s: %w", s.config.Anchor, err)
	}
	return s.snapshot(ctx, func(tx pgx.Tx) error {
		state, err := load(ctx, tx)
		if err != nil {
			return err
		}
		r := NewReader(tx)
		hold := func(c proof.Checkpoint, who string) error {
			if c.Size > state.tree.size() {
				return fmt.Errorf("%w: Postgres has %d leaves, and %s knows a checkpoint of %d", errForked, state.tree.size(), who, c.Size)
			}
			then, err := resumeTree(c.Size, r.TileReader(ctx))
			if errors.Is(err, ErrNone) { // pruned, above it what is asked next
				return nil
			}
			if err != nil {
				return err
			}
			if root, err := then.root(); err != nil {
				return err
			} else if root != c.Root {
				return fmt.Errorf("%w: the first %d leaves have the root %s in Postgres, and %s in %s", errForked, c.Size, root, c.Root, who)
			}
			return nil
		}
		if s.anchor.last.Size == 0 && state.signed > 0 {
			if !s.config.Adopt {
				return fmt.Errorf("the anchor file %s is empty, and Postgres has checkpoints: this process cannot tell whether Postgres was "+
					"restored. Copy the file from another sealer, or start once with --adopt", s.config.Anchor)
			}
			if unasked != nil { // it is the only memory
				return fmt.Errorf("the anchor file %s is empty, and ClickHouse cannot be asked: nothing here remembers what was signed: %w", s.config.Anchor, unasked)
			}
			for _, c := range copied { // first, so that a fork is not adopted
				if err := hold(c.Checkpoint, c.who); err != nil {
					return err
				}
			}
			root, err := state.tree.root()
			if err == nil {
				err = s.anchor.add(state.tree.size(), root)
			}
			if err != nil {
				return err
			}
			s.log.Warn("Postgres's checkpoints are taken as they are", "size", state.tree.size(), "root", root.String())
		}
		some, err := s.anchor.sample(4)
		if err != nil {
			return err
		}
		for _, c := range append(some, s.anchor.last) {
			if c.Size > 0 {
				if err := hold(c, "the anchor file"); err != nil {
					return err
				}
			}
		}
		for _, c := range copied {
			if err := hold(c.Checkpoint, c.who); err != nil {
				return err
			}
		}
		if err := s.witnesses.forked(); err != nil {
			return err
		}
		greatest, writers, err := readWriters(ctx, tx, state.position)
		if err != nil {
			return err
		}
		if err := state.regressed(greatest, writers); err != nil {
			return err
		}
		s.state = state
		return nil
	})
}

// recall is remember's short form, for each round: whether Postgres still is what it was a moment ago.
func (s *Sealer) recall(ctx context.Context) error {
	if err := s.witnesses.forked(); err != nil {
		return err
	}
	every := 2 * time.Second
	if s.resting {
		every *= restRounds
	}
	if time.Since(s.askedCopy) > every {
		s.askedCopy = time.Now()
		copied, _ := s.askCopies(ctx)
		for _, c := range copied {
			if c.Size > s.state.tree.size() { // another sealer, or another history: look at everything again
				return fmt.Errorf("%s knows a checkpoint of %d leaves, and this sealer of %d", c.who, c.Size, s.state.tree.size())
			}
		}
	}
	size, err := s.reader.Size(ctx)
	if err != nil {
		return fmt.Errorf("reading the ledger's size: %w", err)
	}
	if size < s.state.tree.size() {
		return fmt.Errorf("%w: Postgres has %d leaves, and had %d", errForked, size, s.state.tree.size())
	}
	if size > s.state.tree.size() {
		return fmt.Errorf("another sealer has sealed: Postgres has %d leaves, and this sealer knows %d", size, s.state.tree.size())
	}
	if s.state.signed == 0 {
		return nil
	}
	newest, err := s.reader.Newest(ctx)
	if errors.Is(err, ErrNone) || err == nil && newest.Size < s.state.signed {
		return fmt.Errorf("%w: Postgres has lost the checkpoint of %d leaves", errForked, s.state.signed)
	}
	return err
}

// follow is what a standby does: it computes the tree by itself from the runs, holds it against every checkpoint, and
// anchors it. So it knows after a take-over what was released.
func (s *Sealer) follow(ctx context.Context) error {
	return s.snapshot(ctx, func(tx pgx.Tx) error {
		r := NewReader(tx)
		size, err := r.Size(ctx)
		if err != nil {
			return err
		}
		if size < s.state.tree.size() {
			return fmt.Errorf("%w: Postgres has %d leaves, and had %d", errForked, size, s.state.tree.size())
		}
		rows, err := tx.Query(ctx, "SELECT size FROM argus.ledger_checkpoints WHERE size > $1 ORDER BY size", s.state.signed)
		if err != nil {
			return err
		}
		sizes, err := pgx.CollectRows(rows, pgx.RowTo[int64])
		if err != nil {
			return err
		}
		for _, at := range sizes {
			c, err := r.At(ctx, at)
			if err != nil {
				return err
			}
			if c.Size > s.state.tree.size() {
				if err := r.Runs(ctx, s.state.tree.size(), c.Size, func(run proof.Run) error { return s.state.add(&run) }); err != nil {
					return err
				}
			}
			root, err := s.state.tree.root()
			if err != nil {
				return err
			}
			if c.Size == s.state.tree.size() && root != c.Root {
				return fmt.Errorf("%w: a checkpoint of %d leaves has the root %s, and the leaves make %s", errForked, c.Size, c.Root, root)
			}
			if _, err := proof.OpenCheckpoint([]byte(c.Note), s.config.Keys.public...); err != nil {
				return fmt.Errorf("%w: checkpoint %d: %w", errForked, c.Size, err)
			}
			if c.Size == s.state.tree.size() {
				if err := s.anchor.add(c.Size, c.Root); err != nil {
					return err
				}
			}
			s.state.signed = c.Size
			s.metrics.size.Set(float64(c.Size))
		}
		return nil
	})
}

// snapshot runs f in a read-only transaction that sees one moment.
func (s *Sealer) snapshot(ctx context.Context, f func(tx pgx.Tx) error) error {
	return pgx.BeginTxFunc(ctx, s.pool, pgx.TxOptions{IsoLevel: pgx.RepeatableRead, AccessMode: pgx.ReadOnly}, f)
}

// remembered is the newest checkpoint that a copy has.
type remembered struct {
	proof.Checkpoint
	who string
}

// askCopies asks all copies at once, and gives what those that answer remember. Each copy is a memory of its own: one that lags, or
// was emptied, takes nothing from what another knows.
func (s *Sealer) askCopies(ctx context.Context) (known []remembered, unasked error) {
	answers := make([]proof.Checkpoint, len(s.copies))
	errs := make([]error, len(s.copies))
	var asking sync.WaitGroup
	for i, c := range s.copies {
		asking.Go(func() { answers[i], errs[i] = c.newest(ctx) })
	}
	asking.Wait()
	for i, c := range s.copies {
		if errs[i] != nil {
			s.metrics.copyAsked.WithLabelValues("failed").Inc()
			unasked = errors.Join(unasked, fmt.Errorf("%s: %w", c.name, errs[i]))
			continue
		}
		s.metrics.copyAsked.WithLabelValues("answered").Inc()
		if answers[i].Size > 0 {
			known = append(known, remembered{answers[i], c.name})
		}
	}
	return known, unasked
}

// copied is a copy of the ledger in ClickHouse, as a memory.
type copied struct {
	name string
	conn driver.Conn
}

func openCopies(setting string) (all []*copied, err error) {
	servers, err := connect.Servers(setting)
	if err != nil {
		return nil, err
	}
	for _, server := range servers {
		options, err := connect.ClickHouse(server.URL)
		if err != nil {
			return nil, err
		}
		options.DialTimeout, options.MaxOpenConns = 2*time.Second, 2
		conn, err := clickhouse.Open(options)
		if err != nil {
			return nil, err
		}
		all = append(all, &copied{server.String(), conn})
	}
	return all, nil
}

func (c *copied) close() { c.conn.Close() }

// newest is the greatest checkpoint that the copy has; Size 0: none.
func (c *copied) newest(ctx context.Context) (p proof.Checkpoint, err error) {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	var root string
	if err := c.conn.QueryRow(ctx, "SELECT max(size), argMax(root, size) FROM ledger_checkpoints").Scan(&p.Size, &root); err != nil {
		return p, err
	}
	copy(p.Root[:], root)
	return p, nil
}
