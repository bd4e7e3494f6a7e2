// Package verify reads a store straight and holds its rows against the ledger. It hashes each row itself, in Go. It takes
// order and months from the tree that the pinned key signed. It believes nothing that the store says of itself.
package verify

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/useargus/argus"
	"github.com/useargus/argus/proof"
)

// Options says what is checked.
type Options struct {
	Open       func(note []byte) (proof.Checkpoint, error) // by pinned keys, and by the witnesses of a policy
	Signed     func(note []byte) (proof.Checkpoint, error) // as Open, without witnesses; nil: as Open
	Time       func(note []byte) (time.Time, bool)         // when a witness cosigned; nil: no witness is known
	Remembered []byte                                      // a checkpoint seen before; nil when there is none
	Month      proof.Month                                 // 0: all
	MaxAge     time.Duration
	AcceptLoss []proof.LeafRange
	Now        func() time.Time
	Progress   func(leaf, size int64)
}

// Result is the verdict, and the note that it is about.
type Result struct {
	proof.Verdict
	Note     []byte
	SealedAt time.Time
	SealedBy string // on whose word: ByWitness, ByRow or ByStore
	Elapsed  time.Duration
}

// On whose word a checkpoint has its age. A checkpoint holds no time that the log has signed.
const (
	ByWitness = "witness" // signed by a witness of the policy
	ByRow     = "row"     // of the newest row that has a leaf
	ByStore   = "store"   // as the store says
)

// Store is a store to verify. What it gives may be wrong in every way.
type Store interface {
	Name() string // "postgres" or "clickhouse"
	// Checkpoints calls f with each checkpoint, ascending by size.
	Checkpoints(ctx context.Context, f func(Checkpoint)) error
	// FirstLeaf is the first leaf that has its run; the runs before it were pruned.
	FirstLeaf(ctx context.Context) (int64, error)
	// Runs gives the runs that begin in [from, to), in order.
	Runs(ctx context.Context, from, to int64) ([]proof.Run, error)
	// Tile gives a stored full tile of level ≥ 1, and partial tiles of what was pruned.
	Tile(ctx context.Context, t proof.Tile) ([]byte, error)
	// Calls calls f with the rows of these ranges.
	Calls(ctx context.Context, ranges []Range, months []proof.Month, f func(*proof.Row)) error
	// Keyed calls f with rows of the kind that have these keys, and maybe others.
	Keyed(ctx context.Context, kind proof.Kind, entries []proof.Entry, f func(proof.Entry)) error
	// Admin calls f with rows of audit_admin of these ids. HasAdmin is false for a store that has none.
	Admin(ctx context.Context, ids []int64, f func(*proof.Admin)) error
	HasAdmin() bool
	// Writers counts the rows of each writer, of the month or all.
	Writers(ctx context.Context, month proof.Month, f func(Writer)) error
	// Beyond describes the rows of a writer that are outside [first, last].
	Beyond(ctx context.Context, writer, first, last int64, month proof.Month) (Beyond, error)
	// Keys calls f with the key and the time of each row of the kind.
	Keys(ctx context.Context, kind proof.Kind, month proof.Month, f func(proof.Entry, time.Time)) error
}

// kept is what Postgres alone has besides: stored tiles, and what waits to be sealed.
type kept interface {
	FullTile(ctx context.Context, level int, n int64) ([]byte, error)
	Pending(ctx context.Context, f func(kind proof.Kind, key, digest []byte)) error
}

// Checkpoint is a row of ledger_checkpoints.
type Checkpoint struct {
	Size     int64
	Root     []byte
	Note     string
	Lines    string // of witnesses, as far as the store has them
	SealedAt time.Time
}

// Range is a writer's rows From to To, both included.
type Range struct{ Writer, From, To int64 }

// Writer is what a store has of a writer.
type Writer struct {
	ID, Rows int64
	Unknown  bool // the store has no row of audit_writers for it
}

// Beyond is what a store has of a writer outside what was sealed.
type Beyond struct {
	Below, Above int64 // rows below the first sealed number, and above the last
	Seq          int64 // the least of those numbers
	Oldest       time.Time
}

const pieceLeaves = 1 << 20

// copied is a store that a replicator fills.
type copied interface {
	// Covered is the number of leaves, from the first on, whose calls the store's own position claims. It claims only what it
	// has, so a row that is missing below is not on its way.
	Covered(ctx context.Context) (leaves int64, err error)
}

// covered is a copy as it was when the tree had at most this many leaves. The ledger may be copied before the rows.
type covered struct {
	Store
	leaves  int64
	largest int64 // of the checkpoints that the store has
}

func (s *covered) Checkpoints(ctx context.Context, f func(Checkpoint)) error {
	return s.Store.Checkpoints(ctx, func(c Checkpoint) {
		s.largest = max(s.largest, c.Size)
		if c.Size <= s.leaves {
			f(c)
		}
	})
}

// behind tells of a position that claims less than is needed. The replicator is behind, or stands still, or the position was
// put back: nothing is decided.
func (s *covered) behind(c proof.Checkpoint, o Options) error {
	if s.largest > 0 && c.Size == 0 {
		return fmt.Errorf("%w: the copy's position claims %s, and no checkpoint is as small; see whether the replicator runs", proof.ErrUndecided, argus.Counted(s.leaves, "leaf"))
	}
	if len(o.Remembered) == 0 {
		return nil
	}
	old, err := o.Signed(o.Remembered)
	if err == nil && old.Size > c.Size && old.Size <= s.largest {
		return fmt.Errorf("%w: the copy's position claims %s, and %d were verified before; see whether the replicator runs", proof.ErrUndecided, argus.Counted(s.leaves, "leaf"), old.Size)
	}
	return nil
}

// Run verifies the store. The error is of the store or of ctx, not a verdict.
func Run(ctx context.Context, s Store, o Options) (Result, error) {
	began := time.Now()
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Signed == nil {
		o.Signed = o.Open
	}
	if o.Time == nil {
		o.Time = func([]byte) (time.Time, bool) { return time.Time{}, false }
	}
	if c, ok := s.(copied); ok {
		leaves, err := c.Covered(ctx)
		if err != nil {
			return Result{}, err
		}
		s = &covered{Store: s, leaves: leaves}
	}
	r, err := run(ctx, s, o)
	r.Elapsed = time.Since(began)
	return r, err
}

func run(ctx context.Context, s Store, o Options) (Result, error) {
	var r Result
	c, older, err := checkpoints(ctx, s, o, &r)
	if cut, ok := s.(*covered); ok && err == nil {
		if behind := cut.behind(c, o); behind != nil && r.Outcome != proof.Disproved {
			return Result{Verdict: proof.Of(behind)}, nil
		}
	}
	if err != nil || r.Outcome != proof.Proven {
		return r, err
	}
	first, err := s.FirstLeaf(ctx)
	if err != nil {
		return r, err
	}
	a := proof.NewAudit(c, proof.Scope{Month: o.Month, AcceptLoss: o.AcceptLoss, Source: s.Name(), HasAdmin: s.HasAdmin()})
	fail := func(err error) (Result, error) {
		if errors.Is(err, proof.ErrDisproved) || errors.Is(err, proof.ErrMalformed) {
			r.Verdict = proof.Of(err)
			r.Checkpoint = c
			return r, nil
		}
		return r, err
	}
	if err := a.Remember(o.Remembered, o.Signed); err != nil {
		return fail(err)
	}
	for _, k := range older {
		a.Hold(k.size, k.root)
	}
	if first > 0 {
		if err := a.StartAt(first, func(t proof.Tile) ([]byte, error) { return s.Tile(ctx, t) }); err != nil {
			return fail(err)
		}
	}
	k, _ := s.(kept)
	if k != nil {
		a.Full(func(t proof.Tile, hashes []byte) error {
			stored, err := k.FullTile(ctx, t.Level, t.N)
			if err == nil && !bytes.Equal(stored, hashes) {
				err = fmt.Errorf("%w: the stored %s is not what the runs give", proof.ErrDisproved, t.Path())
			}
			return err
		})
	}
	for a.Next() < c.Size {
		if err := piece(ctx, s, a, c.Size); err != nil {
			return fail(err)
		}
		if o.Progress != nil {
			o.Progress(a.Next(), c.Size)
		}
	}
	if k != nil {
		if err := pending(ctx, s, k, a); err != nil {
			return fail(err)
		}
	}
	unsealedOld, err := unsealed(ctx, s, a, o, r.SealedAt)
	if err != nil {
		return fail(err)
	}
	r.Verdict = a.Finish()
	if unsealedOld != "" {
		r.Add(fmt.Errorf("%w: %s", proof.ErrUndecided, unsealedOld))
	}
	// A store that was cut at its tail claims to be whole. Its checkpoint is old, for a sealer records in the log that it is
	// alive when nothing else comes. sealed_at is not signed. The times in rows are, so the newest row that has a leaf counts.
	// A month's rows do not say it.
	if newest := a.Newest(); o.Month == 0 && newest.Before(r.SealedAt) {
		r.SealedAt, r.SealedBy = newest, ByRow
	}
	r.Aged(r.SealedAt, o.Now(), o.MaxAge)
	return r, nil
}

// root is a checkpoint of which no more is kept: a store has one for each minute of its life, and some each second of two days.
type root struct {
	size int64
	root proof.Hash
}

// checkpoints looks at every checkpoint: its columns are its note's, and its signature holds. It returns the newest that is
// cosigned as the policy wants, and the roots of all. One that another key signed is older than a rotation, unless it is the
// newest. It is of the same tree, so its root counts too.
func checkpoints(ctx context.Context, s Store, o Options, r *Result) (proof.Checkpoint, []root, error) {
	var newest, open proof.Checkpoint
	var roots []root
	var failed error // of the newest
	none := true
	err := s.Checkpoints(ctx, func(row Checkpoint) {
		none = false
		c, err := o.Signed([]byte(row.Note))
		unsigned, malformed := proof.CheckpointOf([]byte(row.Note))
		if malformed == nil && (unsigned.Size != row.Size || string(unsigned.Root[:]) != string(row.Root)) {
			err = fmt.Errorf("%w: the columns of checkpoint %d are not its note's", proof.ErrDisproved, row.Size)
		}
		if malformed == nil {
			roots = append(roots, root{unsigned.Size, unsigned.Root})
		}
		note := []byte(row.Note + row.Lines)
		var unmet error
		if err == nil {
			_, unmet = o.Open(note)
		}
		for _, err := range []error{err, unmet} {
			if proof.Of(err).Outcome == proof.Disproved {
				r.Add(fmt.Errorf("checkpoint %d: %w", row.Size, err))
			}
		}
		if newest, failed = c, err; err == nil && unmet == nil {
			open, r.Note, r.SealedAt, r.SealedBy = c, note, row.SealedAt, ByStore
			if at, ok := o.Time(note); ok {
				r.SealedAt, r.SealedBy = at, ByWitness
			}
		}
	})
	switch {
	case err != nil:
		return open, nil, err
	case none:
		r.Add(fmt.Errorf("%w: %s has no checkpoint", proof.ErrUndecided, s.Name()))
	case r.Outcome != proof.Proven:
	case failed != nil:
		r.Add(failed)
	case open.Size == 0 && newest.Size > 0:
		r.Add(proof.ErrUnwitnessed)
	}
	return open, roots, nil
}

// pending holds the digests that wait for their leaf against the rows.
func pending(ctx context.Context, s Store, k kept, a *proof.Audit) error {
	waiting := map[string][]byte{}
	if err := k.Pending(ctx, func(kind proof.Kind, key, digest []byte) { waiting[string(byte(kind))+string(key)] = digest }); err != nil {
		return err
	}
	if len(waiting) == 0 {
		return nil
	}
	for _, kind := range []proof.Kind{proof.ComputeStep, proof.SupportStep, proof.AdminRow} {
		if err := s.Keys(ctx, kind, 0, func(e proof.Entry, _ time.Time) {
			key := string(e.AppendKey([]byte{byte(kind)}))
			if digest, ok := waiting[key]; ok && string(digest) != string(e.Digest[:]) {
				a.Extra(e.String(), "waits to be sealed with another digest than its columns have", e.Digest)
			}
			delete(waiting, key)
		}); err != nil {
			return err
		}
	}
	for key := range waiting {
		a.Extra(fmt.Sprintf("%s with key %x", proof.Kind(key[0]), key[1:]), "waits to be sealed, and is not there", proof.Hash{})
	}
	return nil
}

// piece reads the next leaves and their rows.
func piece(ctx context.Context, s Store, a *proof.Audit, size int64) error {
	from := a.Next()
	runs, err := s.Runs(ctx, from, min(from+pieceLeaves, size))
	if err != nil {
		return err
	}
	if len(runs) == 0 {
		return fmt.Errorf("%w: %s has no run at leaf %d of %d", proof.ErrDisproved, s.Name(), from, size)
	}
	if err := a.Runs(runs...); err != nil {
		return err
	}
	spans := map[int64]*Range{}
	months := map[proof.Month]bool{}
	keyed := map[proof.Kind][]proof.Entry{}
	for _, r := range a.Piece() {
		if !a.WantsRows(r.Kind, r.Month) {
			continue
		}
		n := int64(r.Leaves())
		if r.Kind != proof.Call {
			for i := range r.Leaves() {
				keyed[r.Kind] = append(keyed[r.Kind], r.Entry(i))
			}
			continue
		}
		months[r.Month] = true
		if g := spans[r.WriterID]; g == nil {
			spans[r.WriterID] = &Range{r.WriterID, r.FirstSeq, r.FirstSeq + n - 1}
		} else {
			g.From, g.To = min(g.From, r.FirstSeq), max(g.To, r.FirstSeq+n-1)
		}
	}
	if len(spans) > 0 {
		ranges := make([]Range, 0, len(spans))
		for _, g := range spans {
			ranges = append(ranges, *g)
		}
		slices.SortFunc(ranges, func(x, y Range) int { return int(min(max(x.Writer-y.Writer, -1), 1)) })
		ms := make([]proof.Month, 0, len(months))
		for m := range months {
			ms = append(ms, m)
		}
		slices.Sort(ms)
		if err := s.Calls(ctx, ranges, ms, func(row *proof.Row) {
			if a.WantsRows(proof.Call, row.Month()) {
				a.Row(row)
			}
		}); err != nil {
			return err
		}
	}
	for _, kind := range []proof.Kind{proof.ComputeStep, proof.SupportStep} {
		if len(keyed[kind]) > 0 {
			if err := s.Keyed(ctx, kind, keyed[kind], func(e proof.Entry) { a.Keyed(e) }); err != nil {
				return err
			}
		}
	}
	if admin := keyed[proof.AdminRow]; len(admin) > 0 {
		ids := make([]int64, len(admin))
		for i := range admin {
			ids[i] = admin[i].ID
		}
		if err := s.Admin(ctx, ids, func(r *proof.Admin) { a.Admin(r) }); err != nil {
			return err
		}
	}
	a.EndPiece()
	return nil
}

// maxBacklog: a sealer's round takes so many rows. With more of them unsealed it is surely behind, and rows that wait say
// nothing against the store.
const maxBacklog = 65536

// unsealed looks for rows without a leaf. Young ones wait for the sealer; a row that it passed over was not there when the
// rows around it were sealed.
func unsealed(ctx context.Context, s Store, a *proof.Audit, o Options, sealedAt time.Time) (string, error) {
	type late struct {
		row string
		at  time.Time
		n   int64
	}
	var waiting []late
	total := int64(0)
	wait := func(row string, at time.Time, n int64) {
		total += n
		if len(waiting) < 1000 {
			waiting = append(waiting, late{row, at, n})
		}
	}
	var writers []Writer
	if err := s.Writers(ctx, o.Month, func(w Writer) { writers = append(writers, w) }); err != nil {
		return "", err
	}
	for _, w := range writers {
		first, last, rows := a.Through(w.ID)
		if w.Unknown {
			a.Extra(fmt.Sprintf("writer %d", w.ID), fmt.Sprintf("has %s, and none in audit_writers", argus.Counted(w.Rows, "row")), proof.Hash{})
		}
		if rows == w.Rows {
			continue
		}
		b, err := s.Beyond(ctx, w.ID, first, last, o.Month)
		if err != nil {
			return "", err
		}
		if b.Below > 0 {
			a.Extra(fmt.Sprintf("call %d/%d", w.ID, b.Seq), fmt.Sprintf("has no leaf: the tree has this writer from %d on", first), proof.Hash{})
		}
		if b.Above > 0 {
			wait(fmt.Sprintf("call %d/%d", w.ID, max(b.Seq, last+1)), b.Oldest, b.Above)
		}
		// The key of a row holds its time, so a number may be there twice, in another month than that of its leaf.
		if more := w.Rows - rows - b.Below - b.Above; more > 0 {
			a.Extra(fmt.Sprintf("writer %d", w.ID), fmt.Sprintf("has %s more than leaves between %d and %d: numbers are there twice", argus.Counted(more, "row"), first, last), proof.Hash{})
		}
	}
	for _, kind := range []proof.Kind{proof.ComputeStep, proof.SupportStep, proof.AdminRow} {
		if kind == proof.AdminRow && !s.HasAdmin() {
			continue
		}
		month := o.Month
		if kind == proof.AdminRow {
			month = 0
		}
		var leafless []int64
		if err := s.Keys(ctx, kind, month, func(e proof.Entry, at time.Time) {
			switch {
			case a.Has(&e):
			case kind == proof.AdminRow && a.HasPruned():
				leafless = append(leafless, e.ID)
			default:
				wait(e.String(), at, 1)
			}
		}); err != nil {
			return "", err
		}
		if len(leafless) == 0 {
			continue
		}
		var rows []proof.Admin
		if err := s.Admin(ctx, leafless, func(r *proof.Admin) { rows = append(rows, *r) }); err != nil {
			return "", err
		}
		slices.SortFunc(rows, func(x, y proof.Admin) int { return cmp.Compare(x.ID, y.ID) })
		for _, r := range a.PrunedAdmin(rows) {
			e := r.Entry()
			wait(e.String(), r.At, 1)
		}
	}
	a.Unsealed(total)
	old := ""
	for _, l := range waiting {
		switch {
		case total <= maxBacklog && l.at.Before(sealedAt.Add(-o.MaxAge)):
			a.Extra(l.row, fmt.Sprintf("has no leaf, recorded %s, while the ledger was sealed until %s", l.at.UTC().Format(time.RFC3339), sealedAt.UTC().Format(time.RFC3339)), proof.Hash{})
		case l.at.Before(o.Now().Add(-o.MaxAge)):
			old = fmt.Sprintf("the sealer is behind by %s, the oldest since more than %s: it stands still", argus.Counted(total, "row"), o.MaxAge)
		}
	}
	return old, nil
}
