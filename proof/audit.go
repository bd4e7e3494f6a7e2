package proof

import (
	"cmp"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"slices"
	"sort"
	"time"
)

// Fault is one way in which a source's rows are not what the tree holds.
type Fault struct {
	Leaf  int64 // NoLeaf for a row that has none
	Row   string
	What  string
	Tree  Hash // the digest that the tree holds
	Found Hash // the digest of the row as it stands; zero when there is no row
}

// MarshalJSON is what commands print of it: digests in hex, and a leaf where there is one.
func (f Fault) MarshalJSON() ([]byte, error) {
	var leaf *int64
	if f.Leaf != NoLeaf {
		leaf = &f.Leaf
	}
	return json.Marshal(struct {
		Leaf  *int64 `json:"leaf"`
		Row   string `json:"row"`
		What  string `json:"what"`
		Tree  string `json:"tree"`
		Found string `json:"found"`
	}{leaf, f.Row, f.What, hex.EncodeToString(f.Tree[:]), hex.EncodeToString(f.Found[:])})
}

func (f Fault) String() string {
	s := fmt.Sprintf("%s: %s", f.Row, f.What)
	if f.Leaf != NoLeaf {
		s = fmt.Sprintf("leaf %d, %s", f.Leaf, s)
	}
	if f.Tree != (Hash{}) {
		s += fmt.Sprintf(" (tree %x, row %x)", f.Tree[:], f.Found[:])
	}
	return s
}

const maxFaults = 20

// Scope says what of a tree is checked against a source.
type Scope struct {
	Month      Month // only calls, steps and audit_admin rows of this month; 0 is all of them
	AcceptLoss []LeafRange
	Source     string // "postgres", "clickhouse" or "export"; in messages
	HasAdmin   bool   // whether the source holds audit_admin; else those leaves are not in the scope
}

// LeafRange is the leaves From to To, both included.
type LeafRange struct{ From, To int64 }

// Audit compares the rows of one source with the leaves of one tree. It is fed piece by piece: the runs of consecutive
// leaves (Runs), then in any order the rows the source has of them, then EndPiece. It needs the memory of one piece.
type Audit struct {
	checkpoint Checkpoint
	scope      Scope
	tree       *Builder
	pruned     int64  // leaves before this one are known by their roots alone
	leaves     []byte // scratch

	piece   []Run
	from    int64 // first leaf of the piece
	found   []uint64
	writers map[int64][]int // runs of the piece by writer, ascending by FirstSeq
	keyed   map[string]int64

	first   map[int64]int64 // each writer's first number in the tree
	last    map[int64]int64 // and its last
	rowsOf  map[int64]int64 // each writer's rows that were found
	missing map[monthKind]*gone
	total   map[monthKind]int64
	lastOf  map[monthKind]int64 // the last leaf of it
	drops   []drop
	losses  []LeafRange
	known   map[[19]byte]struct{} // keys of the tree's other leaves

	prunings []pruning
	held     []held // ascending by size; the tree has not come to them yet
	forks    []fork // the first ones
	forked   int    // how many there are
	tooOld   int64  // size of a remembered checkpoint of leaves that were pruned

	faults   []Fault
	counts   Counts
	recorded int64 // newest recorded_at of a row with a leaf
}

type monthKind struct {
	month Month
	kind  Kind
}

// gone is what is missing of a month, as ranges of leaves.
type gone struct {
	leaves int64
	ranges []LeafRange
	first  Entry
}

type drop struct {
	leaf   int64
	month  Month
	counts [AdminRow]int64 // by kind
}

// Counts is what an audit saw.
type Counts struct {
	Leaves   int64 `json:"leaves"`          // of the tree
	InScope  int64 `json:"leaves_in_scope"` // of those that were to be checked
	Rows     int64 `json:"rows_checked"`    // rows hashed and found to be a leaf
	Deleted  int64 `json:"rows_deleted"`    // leaves whose rows were dropped, as the tree records
	Lost     int64 `json:"rows_lost"`       // leaves whose rows the tree declares lost
	Unsealed int64 `json:"rows_unsealed"`   // rows that no leaf is there for yet
	Faults   int64 `json:"faults"`
}

// NewAudit begins an audit of what the checkpoint signed.
func NewAudit(c Checkpoint, scope Scope) *Audit {
	return &Audit{checkpoint: c, scope: scope, tree: &Builder{}, first: map[int64]int64{}, last: map[int64]int64{},
		known: map[[19]byte]struct{}{}, rowsOf: map[int64]int64{},
		missing: map[monthKind]*gone{}, total: map[monthKind]int64{}, lastOf: map[monthKind]int64{}}
}

// StartAt says that the runs before this leaf were pruned. Their part of the tree is taken from full tiles, and a row of
// audit_admin must record the pruning.
func (a *Audit) StartAt(leaf int64, read ReadTile) error {
	if leaf%RunBoundary != 0 || leaf > a.checkpoint.Size {
		return fmt.Errorf("%w: the runs of %s begin at leaf %d", ErrDisproved, a.scope.Source, leaf)
	}
	tree, err := Resume(leaf, read)
	if err == nil {
		a.tree, a.pruned = tree, leaf
	}
	return err
}

// Full sets what is called with each full tile of level 1 and above, as Builder.Full is.
func (a *Audit) Full(f func(t Tile, hashes []byte) error) {
	a.tree.Full = func(t Tile, hashes []byte) error {
		if t.Level == 0 {
			return nil
		}
		return f(t, hashes)
	}
}

// Next is the next leaf that Runs expects.
func (a *Audit) Next() int64 { return a.tree.Size() }

// WantsRows reports whether leaves of that kind and month are in the scope.
func (a *Audit) WantsRows(k Kind, m Month) bool {
	if k == AdminRow {
		return a.scope.HasAdmin // always all of them: they record what was dropped
	}
	return a.scope.Month == 0 || a.scope.Month == m
}

// Runs adds the next leaves of the tree to the piece. Leaves past the checkpoint's size are cut off.
func (a *Audit) Runs(runs ...Run) error {
	for _, r := range runs {
		if err := r.Check(); err != nil {
			return fmt.Errorf("%w: %w", ErrDisproved, err)
		}
		if r.FirstLeaf >= a.checkpoint.Size {
			return nil
		}
		if left := a.checkpoint.Size - r.FirstLeaf; left < int64(r.Leaves()) {
			r = r.Slice(0, int(left))
		}
		if r.FirstLeaf != a.tree.Size() {
			return fmt.Errorf("%w: the runs of %s go on at leaf %d after leaf %d", ErrDisproved, a.scope.Source, r.FirstLeaf, a.tree.Size()-1)
		}
		if len(a.piece) == 0 {
			a.from = r.FirstLeaf
			a.writers, a.keyed = map[int64][]int{}, map[string]int64{}
		}
		a.leaves = r.AppendLeaves(a.leaves[:0])
		if err := a.grow(a.leaves); err != nil {
			return err
		}
		n := int64(r.Leaves())
		mk := monthKind{r.Month, r.Kind}
		a.total[mk] += n
		a.lastOf[mk] = r.FirstLeaf + n - 1
		if r.Kind == Call {
			if last := a.last[r.WriterID]; last != 0 && r.FirstSeq != last+1 {
				e := r.Entry(0)
				a.fault(Fault{Leaf: r.FirstLeaf, Row: e.String(), What: fmt.Sprintf("the tree goes on at this number after %d", last)})
			}
			if a.first[r.WriterID] == 0 {
				a.first[r.WriterID] = r.FirstSeq
			}
			a.last[r.WriterID] = r.FirstSeq + n - 1
			a.writers[r.WriterID] = append(a.writers[r.WriterID], len(a.piece))
		} else {
			for i := range int(n) {
				e := r.Entry(i)
				a.keyed[string(e.AppendKey([]byte{byte(r.Kind)}))] = r.FirstLeaf + int64(i)
				a.known[keyOf(&e)] = struct{}{}
			}
		}
		a.piece = append(a.piece, r)
	}
	if words := int(a.tree.Size()-a.from+63) / 64; words > len(a.found) {
		a.found = append(a.found, make([]uint64, words-len(a.found))...)
	}
	return nil
}

// Piece is the runs of the piece.
func (a *Audit) Piece() []Run { return a.piece }

// Row is a call's row of the source. A row that is no leaf of the piece is left aside, and false comes back.
func (a *Audit) Row(r *Row) bool {
	runs := a.writers[r.WriterID]
	i := sort.Search(len(runs), func(i int) bool { run := &a.piece[runs[i]]; return run.FirstSeq+int64(run.Leaves()) > r.Seq })
	if i == len(runs) || a.piece[runs[i]].FirstSeq > r.Seq {
		return false
	}
	run := &a.piece[runs[i]]
	at := r.Seq - run.FirstSeq
	tree := Hash(run.Digests[at*HashSize:])
	a.rowsOf[r.WriterID]++
	leaf := run.FirstLeaf + at
	what := ""
	switch {
	case a.seen(leaf):
		what = "is there twice"
	case r.Computed != tree && r.RowHash == r.Computed:
		what = "is another row than the one that was sealed: its columns and its row_hash were changed"
	case r.Computed != tree:
		what = "its columns were changed"
	case r.RowHash != tree:
		what = "its row_hash was changed"
	case r.Month() != run.Month:
		what = fmt.Sprintf("is of %s, sealed as of %s", r.Month(), run.Month)
	}
	if what != "" {
		found := r.Computed
		if found == tree {
			found = r.RowHash
		}
		e := run.Entry(int(at))
		a.fault(Fault{Leaf: leaf, Row: e.String(), What: what, Tree: tree, Found: found})
		return true
	}
	if a.inMonth(run.Month) {
		a.counts.Rows++
	}
	a.recorded = max(a.recorded, r.RecordedAt)
	return true
}

// Keyed is a row of the other kinds, as its entry.
func (a *Audit) Keyed(e Entry) bool {
	ok, _ := a.row(&e)
	return ok
}

// inMonth reports whether a leaf counts. Rows of audit_admin of other months are read for what they record.
func (a *Audit) inMonth(m Month) bool { return a.scope.Month == 0 || a.scope.Month == m }

func (a *Audit) row(e *Entry) (known, intact bool) {
	leaf, ok := a.keyed[string(e.AppendKey([]byte{byte(e.Kind)}))]
	if !ok {
		return false, false
	}
	run := &a.piece[sort.Search(len(a.piece), func(i int) bool { r := &a.piece[i]; return r.FirstLeaf+int64(r.Leaves()) > leaf })]
	want := run.Entry(int(leaf - run.FirstLeaf))
	what := ""
	switch {
	case a.seen(leaf):
		what = "is there twice"
	case want.Digest != e.Digest:
		what = "its columns were changed"
	case want.Month != e.Month:
		what = fmt.Sprintf("is of %s, sealed as of %s", e.Month, want.Month)
	default:
		if a.inMonth(want.Month) {
			a.counts.Rows++
		}
		return true, true
	}
	a.fault(Fault{Leaf: leaf, Row: want.String(), What: what, Tree: want.Digest, Found: e.Digest})
	return true, false
}

// Admin is a row of audit_admin. What the tree records of dropped months and of losses is taken from it.
func (a *Audit) Admin(r *Admin) bool {
	e := r.Entry()
	known, intact := a.row(&e)
	if !intact { // believe nothing of it
		return known
	}
	leaf := a.keyed[string(e.AppendKey([]byte{byte(e.Kind)}))]
	a.recorded = max(a.recorded, r.At.UnixMicro())
	switch r.Kind {
	case "month_dropped":
		if d, ok := parseDrop(r.Detail); ok {
			d.leaf = leaf
			a.drops = append(a.drops, d)
		}
	case "ledger_recovered":
		if l, ok := parseRange(r.Detail); ok && l.To < leaf {
			a.losses = append(a.losses, l)
		}
	case "ledger_pruned":
		if p, ok := parsePruning(r.Detail); ok {
			a.prunings = append(a.prunings, p)
		}
	}
	return true
}

// seen marks the leaf of the piece, and reports whether it was marked before.
func (a *Audit) seen(leaf int64) bool {
	i := leaf - a.from
	bit := uint64(1) << (i & 63)
	was := a.found[i>>6]&bit != 0
	a.found[i>>6] |= bit
	return was
}

// EndPiece says that the source has no more rows of the piece.
func (a *Audit) EndPiece() {
	for i := range a.piece {
		r := &a.piece[i]
		if !a.WantsRows(r.Kind, r.Month) {
			continue
		}
		n := int64(r.Leaves())
		if a.inMonth(r.Month) {
			a.counts.InScope += n
		}
		for at := range n {
			leaf := r.FirstLeaf + at
			if j := leaf - a.from; a.found[j>>6]&(1<<(j&63)) != 0 {
				continue
			}
			mk := monthKind{r.Month, r.Kind}
			g := a.missing[mk]
			if g == nil {
				g = &gone{first: r.Entry(int(at))}
				a.missing[mk] = g
			}
			g.leaves++
			if last := len(g.ranges) - 1; last >= 0 && g.ranges[last].To == leaf-1 {
				g.ranges[last].To = leaf
			} else {
				g.ranges = append(g.ranges, LeafRange{leaf, leaf})
			}
		}
	}
	a.piece = a.piece[:0]
	clear(a.found)
}

// Extra is a row that no leaf is there for, and that should have one.
func (a *Audit) Extra(row, what string, found Hash) {
	a.fault(Fault{Leaf: NoLeaf, Row: row, What: what, Found: found})
}

// Unsealed counts rows that are too young to be sealed.
func (a *Audit) Unsealed(rows int64) { a.counts.Unsealed += rows }

// Through gives the first and the last number of the writer in the tree, both 0 when it has none. It also gives the count
// of the writer's rows that were found.
func (a *Audit) Through(writer int64) (first, last, rows int64) {
	return a.first[writer], a.last[writer], a.rowsOf[writer]
}

// Has reports whether the tree has a leaf of the entry's key, which is no call's.
func (a *Audit) Has(e *Entry) bool {
	_, ok := a.known[keyOf(e)]
	return ok
}

func keyOf(e *Entry) (k [19]byte) {
	copy(k[:], e.AppendKey([]byte{byte(e.Kind)}))
	return k
}

// Writers calls f for each writer in the tree, with its last number.
func (a *Audit) Writers(f func(writer, seq int64)) {
	for w, seq := range a.last {
		f(w, seq)
	}
}

// Newest is when the newest row that has a leaf was recorded.
func (a *Audit) Newest() time.Time { return time.UnixMicro(a.recorded) }

func (a *Audit) fault(f Fault) {
	a.counts.Faults++
	if len(a.faults) < maxFaults {
		a.faults = append(a.faults, f)
	}
}

// Finish gives the verdict. The root over all leaves must be the signed one. Each leaf that is audited must have had its
// row, or be of a month whose drop the tree records.
func (a *Audit) Finish() Verdict {
	if len(a.piece) > 0 { // a source that never says so does not get around the question of what is missing
		a.EndPiece()
	}
	v := Verdict{Checkpoint: a.checkpoint}
	a.counts.Leaves = a.tree.Size()
	switch root := a.tree.Root(); {
	case a.tree.Size() < a.checkpoint.Size:
		v.disprove(fmt.Sprintf("the runs end at leaf %d, the checkpoint has %d leaves", a.tree.Size(), a.checkpoint.Size))
	case root != a.checkpoint.Root:
		v.disprove(fmt.Sprintf("the runs of %d leaves have the root %v, the checkpoint signed is %v", a.tree.Size(), root, a.checkpoint.Root))
	}
	for _, f := range a.forks {
		v.disprove(f.String())
	}
	if more := a.forked - len(a.forks); more > 0 {
		v.disprove(fmt.Sprintf("%d more checkpoints have other roots than the tree", more))
	}
	if a.tooOld > 0 {
		v.undecide(fmt.Sprintf("the remembered checkpoint of %d leaves is older than the entries, which begin at leaf %d: the tree cannot be held against it",
			a.tooOld, a.pruned))
	}
	if a.pruned > 0 && !slices.ContainsFunc(a.prunings, func(p pruning) bool { return p.leaves.To == a.pruned-1 }) {
		v.disprove(fmt.Sprintf("the runs begin at leaf %d, and no audit_admin row records that those before were pruned", a.pruned))
	}
	for mk, g := range a.missing {
		a.account(mk, g)
	}
	slices.SortStableFunc(a.faults, func(x, y Fault) int { return cmp.Compare(uint64(x.Leaf), uint64(y.Leaf)) }) // NoLeaf last
	v.Faults, v.Counts = a.faults, a.counts
	if len(a.faults) > 0 {
		v.disprove(a.faults[0].String())
	}
	switch {
	case v.Outcome == Disproved:
	case a.checkpoint.Size == 0:
		v.undecide("the log is empty")
	case a.counts.InScope == 0 && a.scope.Month != 0:
		v.undecide(fmt.Sprintf("the tree has no leaf of %s", a.scope.Month))
	case a.counts.InScope == 0:
		v.undecide("no leaf of the tree was in the scope")
	case a.counts.Rows == 0:
		v.undecide("there was no row to check")
	}
	return v
}

// account explains what is missing of a month: by its drop, by a declared loss that the caller accepts, or not at all.
func (a *Audit) account(mk monthKind, g *gone) {
	for _, d := range a.drops {
		// All of the month must be gone, as many as the drop counted, and the drop must come later in the tree. Of a month that
		// lies on both sides of where the entries begin, the drop counted those before, too.
		if d.month != mk.month || mk.kind >= AdminRow || g.leaves != a.total[mk] || d.leaf < a.lastOf[mk] {
			continue
		}
		if before := d.counts[mk.kind] - g.leaves; before >= 0 && before <= a.pruned {
			a.counts.Deleted += g.leaves
			return
		}
	}
	unexplained, declared := int64(0), false
	for _, r := range g.ranges {
		for leaf := r.From; leaf <= r.To; leaf++ {
			lost := slices.ContainsFunc(a.losses, func(l LeafRange) bool { return leaf >= l.From && leaf <= l.To })
			if lost {
				a.counts.Lost++
				declared = true
			}
			if !lost || !slices.ContainsFunc(a.scope.AcceptLoss, func(l LeafRange) bool { return leaf >= l.From && leaf <= l.To }) {
				unexplained++
			}
		}
	}
	if unexplained == 0 {
		return
	}
	what := fmt.Sprintf("has no row in %s, and no recorded drop of %s explains it", a.scope.Source, mk.month)
	if declared {
		what = "has no row: the tree declares it lost. Accept it with --accept-loss"
	}
	if unexplained > 1 {
		what += fmt.Sprintf("; so %d leaves of %s", unexplained, mk.month)
	}
	a.fault(Fault{Leaf: g.ranges[0].From, Row: g.first.String(), What: what, Tree: g.first.Digest})
	a.counts.Faults += unexplained - 1
}
