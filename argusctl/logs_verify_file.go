package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/mod/sumdb/tlog"

	"github.com/useargus/argus/proof"
)

// tileSource reads the files of a mirror, or of the ledger's own listener.
type tileSource struct {
	get  func(ctx context.Context, path string, most int64) ([]byte, error)
	root string
}

// errNoTile: the mirror has no such file.
var errNoTile = errors.New("there is no such file")

func newTileSource(where string, timeout time.Duration) *tileSource {
	if strings.HasPrefix(where, "https://") || strings.HasPrefix(where, "http://") {
		base := strings.TrimRight(where, "/")
		// No credential goes along, and what comes is proven or rejected: any transport is good enough.
		web := &http.Client{Timeout: timeout}
		return &tileSource{root: where, get: func(ctx context.Context, path string, most int64) ([]byte, error) {
			req, err := http.NewRequestWithContext(ctx, http.MethodGet, base+"/"+path, nil)
			if err != nil {
				return nil, err
			}
			resp, err := web.Do(req)
			if err != nil {
				return nil, &netError{Message: fmt.Sprintf("the tiles could not be read: %v.", err)}
			}
			defer resp.Body.Close()
			if resp.StatusCode == http.StatusNotFound {
				return nil, errNoTile
			}
			if resp.StatusCode != http.StatusOK {
				return nil, &netError{Message: fmt.Sprintf("%s/%s: %s.", base, path, resp.Status)}
			}
			return io.ReadAll(io.LimitReader(resp.Body, most+1))
		}}
	}
	return &tileSource{root: where, get: func(_ context.Context, path string, most int64) ([]byte, error) {
		file, err := os.Open(filepath.Join(where, filepath.FromSlash(path)))
		if errors.Is(err, fs.ErrNotExist) {
			return nil, errNoTile
		}
		if err != nil {
			return nil, err
		}
		defer file.Close()
		return io.ReadAll(io.LimitReader(file, most+1))
	}}
}

// tile reads a tile. A partial one that is gone is cut from the full one that took its place.
func (s *tileSource) tile(ctx context.Context, t proof.Tile) ([]byte, error) {
	most := int64(proof.TileSize)
	if t.Level == proof.Bundle {
		most = proof.TileWidth * (2 + proof.MaxEntrySize)
	}
	b, err := s.get(ctx, t.Path(), most)
	if errors.Is(err, errNoTile) && !t.Full() {
		full := t
		full.Width = proof.TileWidth
		if b, err = s.get(ctx, full.Path(), most); err == nil {
			b = firstOf(b, t)
		}
	}
	if errors.Is(err, errNoTile) {
		return nil, fmt.Errorf("%w: %s has no %s", proof.ErrUndecided, s.root, t.Path())
	}
	return b, err
}

// firstOf is the beginning of a full tile or bundle that stands for the partial one.
func firstOf(b []byte, t proof.Tile) []byte {
	if t.Level != proof.Bundle {
		return b[:min(len(b), t.Width*proof.HashSize)]
	}
	at := 0
	for range t.Width {
		if len(b) < at+2 {
			return b
		}
		at += 2 + int(b[at])<<8 + int(b[at+1])
	}
	return b[:min(at, len(b))]
}

// provenLeaves gives leaf hashes that the checkpoint's root proves, tile by tile.
type provenLeaves struct {
	ctx    context.Context
	source *tileSource
	c      proof.Checkpoint
	level1 map[int64][]proof.Hash // proven hashes of tiles of level 1
	leaves map[int64][]byte       // proven tiles of level 0, some of them
	order  []int64
}

const keptTiles = 2048 // 16 MiB: rows come by time, leaves by commit

// tile gives the proven hashes of the level-0 tile n.
func (p *provenLeaves) tile(n int64) ([]byte, error) {
	if b, ok := p.leaves[n]; ok {
		return b, nil
	}
	t := proof.TileOf(0, n*proof.TileWidth, p.c.Size)
	b, err := p.source.tile(p.ctx, t)
	if err != nil {
		return nil, err
	}
	if len(b) != t.Width*proof.HashSize {
		return nil, fmt.Errorf("%w: %s of %s has %d bytes", proof.ErrMalformed, t.Path(), p.source.root, len(b))
	}
	if t.Full() {
		parents, err := p.parents(n / proof.TileWidth)
		if err != nil {
			return nil, err
		}
		if root := proof.TileRoot(b); root != parents[n%proof.TileWidth] {
			return nil, fmt.Errorf("%w: %s of %s is not in the tree that was signed", proof.ErrDisproved, t.Path(), p.source.root)
		}
	} else if err := p.prove(0, n, t.Width, nil); err != nil {
		return nil, err
	}
	if len(p.order) == keptTiles {
		delete(p.leaves, p.order[0])
		p.order = p.order[1:]
	}
	p.leaves[n], p.order = b, append(p.order, n)
	return b, nil
}

// parents are the proven hashes of the level-1 tile n.
func (p *provenLeaves) parents(n int64) ([]proof.Hash, error) {
	if h, ok := p.level1[n]; ok {
		return h, nil
	}
	t := proof.TileOf(1, n*proof.TileWidth, p.c.Size)
	var hashes []proof.Hash
	if err := p.prove(1, n, t.Width, &hashes); err != nil {
		return nil, err
	}
	p.level1[n] = hashes
	return hashes, nil
}

// prove reads all hashes of a tile through x/mod's reader, which checks each tile up to the root.
func (p *provenLeaves) prove(level int, n int64, width int, hashes *[]proof.Hash) error {
	reader := proof.Reader(p.c.Size, p.c.Root, func(t proof.Tile) ([]byte, error) { return p.source.tile(p.ctx, t) })
	at := make([]int64, width)
	for i := range at {
		at[i] = tlog.StoredHashIndex(8*level, n*proof.TileWidth+int64(i))
	}
	h, err := reader.ReadHashes(at)
	var net *netError
	if err != nil && !isVerdict(err) && !errors.As(err, &net) && p.ctx.Err() == nil {
		err = fmt.Errorf("%w: the tiles of %s: %w", proof.ErrDisproved, p.source.root, err)
	}
	if err == nil && hashes != nil {
		*hashes = h
	}
	return err
}

// verifyFile checks an export against tiles, without any server.
func (f *factory) verifyFile(ctx context.Context, o *verifyOptions, open *opener) (*result, error) {
	r := &result{source: "export", month: o.scope.Month, leaf: proof.NoLeaf}
	err := f.verifyExport(ctx, o, open, r)
	var net *netError
	switch {
	case err == nil:
	case errors.As(err, &net), !isVerdict(err):
		return nil, err
	default:
		r.Add(err)
	}
	return r, nil
}

func (f *factory) verifyExport(ctx context.Context, o *verifyOptions, open *opener, r *result) error {
	source := newTileSource(o.tiles, f.timeout)
	note, err := source.get(ctx, "checkpoint", proof.MaxNote)
	if errors.Is(err, errNoTile) {
		return fmt.Errorf("%w: %s has no checkpoint", proof.ErrUndecided, o.tiles)
	}
	if err != nil {
		return err
	}
	if len(note) == 0 {
		return fmt.Errorf("%w: the checkpoint of %s is empty", proof.ErrUndecided, o.tiles)
	}
	if r.Checkpoint, err = open.open(note); err != nil {
		return err
	}
	leaves := &provenLeaves{ctx: ctx, source: source, c: r.Checkpoint, level1: map[int64][]proof.Hash{}, leaves: map[int64][]byte{}}
	if err := leaves.continues(open, o.checkpoint); err != nil {
		return err
	}
	in, err := f.openInput(o.file)
	if err != nil {
		return err
	}
	defer in.Close()
	x := &export{leaves: leaves, r: r, month: o.scope.Month, seen: make([]uint64, (r.Checkpoint.Size+63)/64), late: map[[2]int64]proof.Row{}}
	lines := bufio.NewReaderSize(in, maxExportRow)
	r.Counts.Leaves = r.Checkpoint.Size
	for n := int64(1); ; n++ {
		line, err := lines.ReadSlice('\n')
		if err == io.EOF && len(line) == 0 {
			break
		}
		if n%4096 == 0 && ctx.Err() != nil {
			return context.Cause(ctx)
		}
		switch {
		case err == io.EOF:
			return fmt.Errorf("%w: %s is cut off within line %d", proof.ErrUndecided, o.file, n)
		case errors.Is(err, bufio.ErrBufferFull):
			return fmt.Errorf("%w: line %d is longer than any row", proof.ErrMalformed, n)
		case err != nil:
			return err
		}
		if err := x.line(bytes.TrimSuffix(line, []byte("\n"))); err != nil {
			return fmt.Errorf("line %d: %w", n, err)
		}
	}
	return x.finish()
}

// continues holds that the tree continues the one of a checkpoint seen before.
func (p *provenLeaves) continues(open *opener, file string) error {
	old, err := open.remembered(nil, file)
	if err != nil || len(old) == 0 {
		return err
	}
	if old[0].Size == 0 || old[0].Size >= p.c.Size {
		return proof.CheckConsistency(nil, old[0], p.c)
	}
	path, err := proof.ProveConsistency(old[0].Size, p.c, func(t proof.Tile) ([]byte, error) { return p.source.tile(p.ctx, t) })
	if err != nil {
		return err
	}
	return proof.CheckConsistency(path, old[0], p.c)
}

// export is an export on its way through the check.
type export struct {
	leaves  *provenLeaves
	r       *result
	month   proof.Month
	scanner proof.Scanner
	seen    []uint64 // leaves that have had their row
	last    int64    // the greatest of them
	late    map[[2]int64]proof.Row
}

// maxLate bounds the rows of an export that name no leaf: those of its last second.
const maxLate = 1 << 20

func (x *export) line(line []byte) error {
	row, err := x.scanner.Scan(line)
	if err != nil {
		return err
	}
	if x.month != 0 && row.Month() != x.month {
		return nil
	}
	if row.Computed != row.RowHash {
		x.fault(&row, "its columns or its row_hash were changed", row.RowHash)
		return nil
	}
	if row.Leaf == proof.NoLeaf || row.Leaf >= x.leaves.c.Size {
		if len(x.late) == maxLate {
			return fmt.Errorf("%w: more than %d rows name no leaf: export again, when the ledger has sealed them", proof.ErrUndecided, maxLate)
		}
		x.late[[2]int64{row.WriterID, row.Seq}] = row
		return nil
	}
	return x.leaf(&row)
}

// leaf holds a row against its leaf.
func (x *export) leaf(row *proof.Row) error {
	tile, err := x.leaves.tile(row.Leaf / proof.TileWidth)
	if err != nil {
		return err
	}
	entry := row.Entry()
	at := row.Leaf % proof.TileWidth * proof.HashSize
	if proof.Hash(tile[at:]) != entry.Leaf() {
		x.fault(row, "is not the row of this leaf", proof.Hash{})
		return nil
	}
	if bit := uint64(1) << (row.Leaf & 63); x.seen[row.Leaf>>6]&bit != 0 {
		x.fault(row, "is there twice", row.RowHash)
	} else {
		x.seen[row.Leaf>>6] |= bit
		x.r.Counts.Rows++
	}
	x.last = max(x.last, row.Leaf)
	return nil
}

func (x *export) fault(row *proof.Row, what string, tree proof.Hash) {
	entry := row.Entry()
	x.r.Counts.Faults++
	if len(x.r.Faults) < 20 {
		x.r.Faults = append(x.r.Faults, proof.Fault{Leaf: row.Leaf, Row: entry.String(), What: what, Tree: tree, Found: row.Computed})
	}
}

// finish looks for what is left: rows that named no leaf, and for a month its leaves that had no row.
func (x *export) finish() error {
	size := x.leaves.c.Size
	from := size
	if len(x.late) > 0 {
		from = x.last // they were sealed after the rows that name theirs
	}
	if x.month != 0 {
		from = 0
	}
	var missing, later int64 // later: sealed after everything that the export has
	first := ""
	exported := x.last
	for n := from / proof.TileWidth; n*proof.TileWidth < size; n++ {
		entries, err := x.bundle(n)
		if err != nil {
			return err
		}
		for i := range entries {
			leaf := n*proof.TileWidth + int64(i)
			e := &entries[i]
			if e.Kind != proof.Call {
				continue
			}
			if row, ok := x.late[[2]int64{e.WriterID, e.Seq}]; ok {
				delete(x.late, [2]int64{e.WriterID, e.Seq})
				row.Leaf = leaf
				if err := x.leaf(&row); err != nil {
					return err
				}
			}
			if x.month == 0 || e.Month != x.month {
				continue
			}
			x.r.Counts.InScope++
			if x.seen[leaf>>6]&(1<<(leaf&63)) != 0 {
				continue
			}
			if leaf > exported && x.r.Counts.Rows > 0 {
				later++
			} else if missing++; missing == 1 {
				first = fmt.Sprintf("leaf %d, %s", leaf, e)
			}
		}
	}
	r := x.r
	if x.month == 0 {
		r.Counts.InScope = r.Counts.Rows
	}
	r.Counts.Unsealed = int64(len(x.late))
	switch {
	case len(r.Faults) > 0:
		return fmt.Errorf("%w: %s", proof.ErrDisproved, r.Faults[0])
	case missing > 0:
		r.Counts.Faults += missing
		return fmt.Errorf("%w: the export lacks %d calls of %s that the tree has, the first is %s", proof.ErrDisproved, missing, x.month, first)
	case later > 0:
		return fmt.Errorf("%w: the tree has %d calls of %s later than any of the export: the export was made before them, or is cut off", proof.ErrUndecided, later, x.month)
	case len(x.late) > 0:
		return fmt.Errorf("%w: the tree has no leaf of %d rows of the export: get newer tiles, or export again", proof.ErrUndecided, len(x.late))
	case r.Counts.Rows == 0:
		return fmt.Errorf("%w: the export has no row to check", proof.ErrUndecided)
	}
	return nil
}

// bundle reads the proven entries of a tile.
func (x *export) bundle(n int64) ([]proof.Entry, error) {
	t := proof.TileOf(proof.Bundle, n*proof.TileWidth, x.leaves.c.Size)
	b, err := x.leaves.source.tile(x.leaves.ctx, t)
	if err != nil {
		return nil, err
	}
	entries, err := proof.ParseBundle(b, t.Width)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", t.Path(), err)
	}
	tile, err := x.leaves.tile(n)
	if err != nil {
		return nil, err
	}
	for i := range entries {
		if entries[i].Leaf() != proof.Hash(tile[i*proof.HashSize:]) {
			return nil, fmt.Errorf("%w: entry %d of %s is not in the tree that was signed", proof.ErrDisproved, i, t.Path())
		}
	}
	return entries, nil
}
