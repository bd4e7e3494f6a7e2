package proof

import (
	"fmt"
	"time"

	"golang.org/x/mod/sumdb/tlog"
)

// Sealed is a checkpoint as a store keeps it.
type Sealed struct {
	Checkpoint
	Note     string    // as it was signed, without cosignatures
	SealedAt time.Time // by the store's clock, not signed
}

// ProveInclusion makes the proof of a leaf in the tree, out of tiles that are checked on the way.
func ProveInclusion(leaf int64, c Checkpoint, read ReadTile) ([]Hash, error) {
	if leaf < 0 || leaf >= c.Size {
		return nil, fmt.Errorf("%w: a tree of %d leaves has no leaf %d", ErrUndecided, c.Size, leaf)
	}
	path, err := tlog.ProveRecord(c.Size, leaf, Reader(c.Size, c.Root, read))
	if err != nil {
		return nil, fmt.Errorf("proving leaf %d: %w", leaf, err)
	}
	return path, nil
}

// ProveConsistency makes the proof that the tree of that size is a prefix of the checkpoint's.
func ProveConsistency(size int64, c Checkpoint, read ReadTile) ([]Hash, error) {
	if size < 0 || size > c.Size {
		return nil, fmt.Errorf("%w: a tree of %d leaves continues none of %d", ErrDisproved, c.Size, size)
	}
	if size == 0 || size == c.Size {
		return nil, nil
	}
	path, err := tlog.ProveTree(c.Size, size, Reader(c.Size, c.Root, read))
	if err != nil {
		return nil, fmt.Errorf("proving that %d leaves continue %d: %w", c.Size, size, err)
	}
	return path, nil
}
