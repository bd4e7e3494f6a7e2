package proof

import (
	"fmt"
	"sync"
)

// Store is where the ledger keeps what tiles are made of.
type Store interface {
	// Runs gives the leaves [from, to) as runs, in order. The first and the last are cut to that range (Run.Slice).
	Runs(from, to int64) ([]Run, error)
	// FullTile gives the stored full tile of level ≥ 1.
	FullTile(level int, n int64) ([]byte, error)
}

// Tiler derives any tile of the tree from a Store. It remembers the roots of full tiles at the right edge, of which each
// proof needs up to 255 a level. It may be used by several goroutines.
type Tiler struct {
	mu    sync.Mutex
	roots map[Tile]Hash // of full tiles
}

// maxRoots bounds what a Tiler remembers: 8192 roots are some 600 KB.
const maxRoots = 8192

// Tile gives the tile's bytes: hashes, or entries for a bundle.
func (d *Tiler) Tile(store Store, t Tile) ([]byte, error) {
	from := t.N * TileWidth
	switch {
	case t.Level <= 0:
		runs, err := store.Runs(from, from+int64(t.Width))
		if err != nil {
			return nil, err
		}
		b := make([]byte, 0, t.Width*HashSize)
		next := from
		for i := range runs {
			if runs[i].FirstLeaf != next {
				break
			}
			if err := runs[i].Check(); err != nil {
				return nil, err
			}
			if t.Level == Bundle {
				b = runs[i].AppendBundle(b)
			} else {
				b = runs[i].AppendLeaves(b)
			}
			next += int64(runs[i].Leaves())
		}
		if next != from+int64(t.Width) {
			return nil, fmt.Errorf("%w: the runs of leaves %d to %d do not follow each other", ErrDisproved, from, from+int64(t.Width)-1)
		}
		return b, nil
	case t.Full():
		b, err := store.FullTile(t.Level, t.N)
		if err == nil && len(b) != TileSize {
			err = fmt.Errorf("%w: %s has %d bytes", ErrMalformed, t.Path(), len(b))
		}
		return b, err
	}
	b := make([]byte, 0, t.Width*HashSize)
	for i := range int64(t.Width) {
		root, err := d.root(store, Tile{t.Level - 1, from + i, TileWidth})
		if err != nil {
			return nil, err
		}
		b = append(b, root[:]...)
	}
	return b, nil
}

// root is the root of a full tile. The roots of consecutive missing tiles are read one by one; a tile is 8 KiB.
func (d *Tiler) root(store Store, t Tile) (Hash, error) {
	d.mu.Lock()
	root, ok := d.roots[t]
	d.mu.Unlock()
	if ok {
		return root, nil
	}
	b, err := d.Tile(store, t)
	if err != nil {
		return Hash{}, err
	}
	root = TileRoot(b)
	d.mu.Lock()
	if d.roots == nil || len(d.roots) >= maxRoots {
		d.roots = map[Tile]Hash{}
	}
	d.roots[t] = root
	d.mu.Unlock()
	return root, nil
}
