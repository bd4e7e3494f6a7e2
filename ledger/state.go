package ledger

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"math"
	"slices"

	"github.com/jackc/pgx/v5"
	"github.com/transparency-dev/merkle/compact"
	"github.com/transparency-dev/merkle/rfc6962"

	"github.com/useargus/argus"
	"github.com/useargus/argus/proof"
)

// tree is the ledger's tree twice: by our own builder, and by another's code that shares nothing with it. Their roots are
// compared before anything is signed, so that a flipped bit in memory stops the sealer.
type tree struct {
	builder *proof.Builder
	second  *compact.Range
}

var ranges = compact.RangeFactory{Hash: rfc6962.DefaultHasher.HashChildren}

func emptyTree() *tree { return &tree{&proof.Builder{}, ranges.NewEmptyRange(0)} }

// resumeTree is the tree of that size, from the tiles at its right edge.
func resumeTree(size int64, read proof.ReadTile) (*tree, error) {
	b, err := proof.Resume(size, read)
	if err != nil {
		return nil, fmt.Errorf("reading the tree's edge: %w", err)
	}
	t := &tree{builder: b}
	var hashes [][]byte
	for _, id := range compact.RangeNodes(0, uint64(size), nil) {
		// A perfect subtree at the right edge lies in the partial tile of its level.
		level, within := int(id.Level/8), id.Level%8
		_, edge := b.Edge(level)
		first := int64(id.Index)<<within - size>>(8*level)/proof.TileWidth*proof.TileWidth
		from, to := first*proof.HashSize, (first+1<<within)*proof.HashSize
		if from < 0 || to > int64(len(edge)) {
			return nil, fmt.Errorf("%w: the edge of a tree of %d leaves lacks level %d", proof.ErrMalformed, size, id.Level)
		}
		root := proof.TileRoot(edge[from:to])
		hashes = append(hashes, root[:])
	}
	if t.second, err = ranges.NewRange(0, uint64(size), hashes); err != nil {
		return nil, err
	}
	return t, nil
}

func (t *tree) size() int64 { return t.builder.Size() }

func (t *tree) clone() *tree {
	second, err := ranges.NewRange(0, t.second.End(), slices.Clone(t.second.Hashes()))
	if err != nil {
		panic("ledger: " + err.Error()) // its own hashes
	}
	return &tree{t.builder.Clone(), second}
}

// add adds a run's leaves.
func (t *tree) add(run *proof.Run) error {
	leaves := run.AppendLeaves(make([]byte, 0, run.Leaves()*proof.HashSize))
	if err := t.builder.Add(leaves); err != nil {
		return err
	}
	for leaf := range slices.Chunk(leaves, proof.HashSize) {
		if err := t.second.Append(leaf, nil); err != nil {
			return err
		}
	}
	return nil
}

// root is an error when the two do not agree.
func (t *tree) root() (proof.Hash, error) {
	root := t.builder.Root()
	if t.size() == 0 {
		return root, nil
	}
	second, err := t.second.GetRootHash(nil)
	if err != nil || !bytes.Equal(second, root[:]) || int64(t.second.End()) != t.size() {
		return root, fmt.Errorf("two computations of the root of %d leaves differ: %x and %x; memory or processor of this machine is damaged (%v)",
			t.size(), root, second, err)
	}
	return root, nil
}

// state is what a sealer or its standby knows of the ledger.
type state struct {
	tree     *tree
	position argus.Position // the calls that have leaves
	signed   int64          // size of the newest checkpoint, 0 for none
	first    bool           // there is neither leaf nor checkpoint: the ledger starts
	// lost are writers whose newest leaves were declared lost with a restore: Postgres may say less of them.
	lost map[int64]bool
}

func (s *state) clone() *state {
	c := *s
	c.tree, c.position = s.tree.clone(), s.position.Clone()
	if c.position.Writers == nil {
		c.position.Writers = map[int64]int64{}
	}
	return &c
}

// add takes note of a run.
func (s *state) add(run *proof.Run) error {
	if run.FirstLeaf != s.tree.size() {
		return fmt.Errorf("%w: the run at leaf %d does not follow %d leaves", proof.ErrDisproved, run.FirstLeaf, s.tree.size())
	}
	if run.Kind == proof.Call {
		through := s.position.Through(run.WriterID)
		if through == math.MaxInt64 || run.FirstSeq <= through {
			return fmt.Errorf("%w: leaf %d is call %d/%d, which has a leaf already", proof.ErrDisproved, run.FirstLeaf, run.WriterID, run.FirstSeq)
		}
		s.position.Writers[run.WriterID] = run.FirstSeq + int64(run.Leaves()) - 1
	}
	return s.tree.add(run)
}

// errForked: Postgres is not the database that the ledger's checkpoints were made over, or was changed below them.
var errForked = errors.New("the ledger is forked")

// load reads the state from Postgres: the newest checkpoint, and the runs behind it. The checkpoint's root is held against
// the tree.
func load(ctx context.Context, db Querier) (*state, error) {
	r := NewReader(db)
	s := &state{tree: emptyTree(), position: argus.Position{Writers: map[int64]int64{}}, lost: map[int64]bool{}}
	newest, err := r.Newest(ctx)
	switch {
	case errors.Is(err, ErrNone):
	case err != nil:
		return nil, err
	default:
		size, err := r.Size(ctx)
		if err != nil {
			return nil, err
		}
		if size < newest.Size {
			return nil, fmt.Errorf("%w: Postgres has %d leaves and a checkpoint of %d", errForked, size, newest.Size)
		}
		if s.tree, err = resumeTree(newest.Size, r.TileReader(ctx)); err != nil {
			return nil, err
		}
		if root, err := s.tree.root(); err != nil {
			return nil, err
		} else if root != newest.Root {
			return nil, fmt.Errorf("%w: the leaves below checkpoint %d make another root", errForked, newest.Size)
		}
		if s.position, err = argus.ParsePosition(newest.Position); err != nil {
			return nil, fmt.Errorf("%w: %w", proof.ErrMalformed, err)
		}
		s.signed = newest.Size
	}
	size, err := r.Size(ctx)
	if err != nil {
		return nil, err
	}
	if s.first = s.signed == 0 && size == 0; s.signed == 0 {
		if s.position, err = before(ctx, db); err != nil {
			return nil, err
		}
	}
	if size > s.tree.size() {
		if err := r.Runs(ctx, s.tree.size(), size, func(run proof.Run) error { return s.add(&run) }); err != nil {
			return nil, err
		}
	}
	return s, s.readLosses(ctx, db)
}

// before is what the log had lost to retention before the ledger started: rows below each writer's first.
func before(ctx context.Context, db Querier) (argus.Position, error) {
	p := argus.Position{Writers: map[int64]int64{}}
	// One look into each month's index for a writer, since a first start may find years of rows.
	rows, err := db.Query(ctx, `SELECT w.writer_id, coalesce(l.first - 1, w.seq) FROM argus.audit_writers w
		LEFT JOIN LATERAL (SELECT seq AS first FROM argus.argus_audit_log WHERE writer_id = w.writer_id ORDER BY seq LIMIT 1) l ON true
		WHERE w.seq > 0 AND l.first IS DISTINCT FROM 1`)
	if err != nil {
		return p, err
	}
	var writer, seq int64
	_, err = pgx.ForEachRow(rows, []any{&writer, &seq}, func() error {
		p.Writers[writer] = seq
		return nil
	})
	return p, err
}

func (s *state) readLosses(ctx context.Context, db Querier) error {
	rows, err := db.Query(ctx, `SELECT DISTINCT r.writer_id FROM argus.ledger_losses l JOIN argus.ledger_runs r
		ON r.kind = 1 AND r.first_leaf < l.to_leaf AND r.first_leaf + r.leaves > l.from_leaf`)
	if err != nil {
		return err
	}
	ids, err := pgx.CollectRows(rows, pgx.RowTo[int64])
	for _, id := range ids {
		s.lost[id] = true
	}
	return err
}

// writerState is a row of argus.audit_writers.
type writerState struct {
	id, seq int64
	closed  bool
}

// readWriters gives the writers that the position does not hold as closed and complete, and the greatest there is.
func readWriters(ctx context.Context, db Querier, p argus.Position) (greatest int64, all []writerState, err error) {
	rows, err := db.Query(ctx, `SELECT (SELECT coalesce(max(writer_id), 0) FROM argus.audit_writers), w.writer_id, w.seq, w.closed_at IS NOT NULL
		FROM (SELECT 1) one LEFT JOIN argus.audit_writers w ON w.closed_at IS NULL OR w.writer_id > $1 OR w.writer_id = ANY($2)
		ORDER BY w.writer_id`, p.ClosedThrough, slices.Sorted(maps.Keys(p.Writers)))
	if err != nil {
		return 0, nil, err
	}
	var id, seq *int64
	var closed *bool
	_, err = pgx.ForEachRow(rows, []any{&greatest, &id, &seq, &closed}, func() error {
		if id != nil {
			all = append(all, writerState{*id, *seq, *closed})
		}
		return nil
	})
	return greatest, all, err
}

// regressed is an error when Postgres has fewer rows than have leaves: it was restored to an earlier moment.
func (s *state) regressed(greatest int64, writers []writerState) error {
	seen := map[int64]bool{}
	for _, w := range writers {
		seen[w.id] = true
		sealed, listed := s.position.Writers[w.id]
		switch {
		case s.lost[w.id]:
		case listed && w.seq < sealed:
			return fmt.Errorf("%w: writer %d has %d rows in Postgres, and %d have leaves", errForked, w.id, w.seq, sealed)
		case !listed && w.id <= s.position.ClosedThrough && !w.closed:
			return fmt.Errorf("%w: writer %d was closed and sealed, and is open again", errForked, w.id)
		}
	}
	for id, sealed := range s.position.Writers {
		if !seen[id] && !s.lost[id] && sealed > 0 {
			return fmt.Errorf("%w: writer %d has leaves and is not in Postgres", errForked, id)
		}
	}
	if greatest < s.position.ClosedThrough && len(s.lost) == 0 {
		return fmt.Errorf("%w: the newest writer in Postgres is %d, and %d was sealed", errForked, greatest, s.position.ClosedThrough)
	}
	return nil
}

// settle takes the writers into the position: a closed one that is sealed completely is left out, every other is listed.
func (s *state) settle(greatest int64, writers []writerState) {
	for _, w := range writers {
		sealed, listed := s.position.Writers[w.id]
		switch {
		case !listed && w.id <= s.position.ClosedThrough:
		case w.closed && sealed >= w.seq && !s.lost[w.id]:
			delete(s.position.Writers, w.id)
		default:
			s.position.Writers[w.id] = sealed
		}
	}
	s.position.ClosedThrough = max(s.position.ClosedThrough, greatest)
}
