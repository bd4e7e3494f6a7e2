package proof

import (
	"fmt"
	"slices"
)

// held is the root that the tree must have had at a size, as an older checkpoint says.
type held struct {
	size       int64
	root       Hash
	remembered bool // and not of the store itself
}

// fork is one that it did not have.
type fork struct {
	held
	tree Hash
}

func (f fork) String() string {
	if f.remembered {
		return fmt.Sprintf("a fork: at %d leaves the tree has the root %v, the remembered checkpoint has %v", f.size, f.tree, f.root)
	}
	return fmt.Sprintf("a fork: checkpoint %d has the root %v, and at so many leaves the tree has %v", f.size, f.root, f.tree)
}

const maxForks = 5

// Remember holds the checkpoint against one seen before, whose root the tree must have had. A remembered checkpoint that
// is larger than the tree disproves it at once.
func (a *Audit) Remember(msg []byte, open func([]byte) (Checkpoint, error)) error {
	if len(msg) == 0 {
		return nil
	}
	old, err := open(msg)
	if err != nil {
		return fmt.Errorf("the remembered checkpoint: %w", err)
	}
	if old.Size >= a.checkpoint.Size || old.Origin != a.checkpoint.Origin {
		return CheckConsistency(nil, old, a.checkpoint)
	}
	a.hold(held{old.Size, old.Root, true})
	return nil
}

// Hold holds the tree against another checkpoint of the same store: the tree must have had its root at its size. One that is
// larger than the tree, or of leaves that were pruned, is left aside. It must be held before the run in which the tree comes
// to it.
func (a *Audit) Hold(size int64, root Hash) {
	if size < a.checkpoint.Size || size == a.checkpoint.Size && root != a.checkpoint.Root {
		a.hold(held{size, root, false})
	}
}

func (a *Audit) hold(h held) {
	at := len(a.held)
	for at > 0 && a.held[at-1].size > h.size { // they come in order
		at--
	}
	a.held = slices.Insert(a.held, at, h)
}

// grow adds leaves to the tree, and looks at its root at each size that is held.
func (a *Audit) grow(leaves []byte) error {
	for len(a.held) > 0 && a.held[0].size <= a.tree.Size()+int64(len(leaves)/HashSize) {
		h := a.held[0]
		a.held = a.held[1:]
		before := (h.size - a.tree.Size()) * HashSize
		if before < 0 {
			if h.remembered {
				a.tooOld = h.size
			}
			continue
		}
		if err := a.tree.Add(leaves[:before]); err != nil {
			return err
		}
		leaves = leaves[before:]
		if root := a.tree.Root(); root != h.root {
			if a.forked++; len(a.forks) < maxForks || h.remembered {
				a.forks = append(a.forks, fork{h, root})
			}
		}
	}
	return a.tree.Add(leaves)
}
