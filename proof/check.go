package proof

import (
	"fmt"

	merkle "github.com/transparency-dev/merkle/proof"
	"github.com/transparency-dev/merkle/rfc6962"
	"golang.org/x/mod/sumdb/tlog"
)

// CheckInclusion holds that the leaf is the tree's leaf at index, by two implementations that share no code.
func CheckInclusion(path []Hash, index, size int64, leaf, root Hash) error {
	if index < 0 || index >= size {
		return fmt.Errorf("%w: a tree of %d leaves has no leaf %d", ErrDisproved, size, index)
	}
	hashes := make([][]byte, len(path))
	for i := range path {
		hashes[i] = path[i][:]
	}
	if tlog.CheckRecord(path, size, root, index, leaf) != nil ||
		merkle.VerifyInclusion(rfc6962.DefaultHasher, uint64(index), uint64(size), leaf[:], hashes, root[:]) != nil {
		return fmt.Errorf("%w: leaf %d with hash %v is not in the tree of %d leaves with root %v", ErrDisproved, index, leaf, size, root)
	}
	return nil
}

// CheckConsistency holds that the tree of the older checkpoint is a prefix of the newer one's.
func CheckConsistency(path []Hash, older, newer Checkpoint) error {
	switch {
	case older.Origin != newer.Origin:
		return fmt.Errorf("%w: checkpoints of two logs, %s and %s", ErrDisproved, older.Origin, newer.Origin)
	case older.Size > newer.Size:
		return fmt.Errorf("%w: the log had %d leaves and has %d now", ErrDisproved, older.Size, newer.Size)
	case older.Size == newer.Size && older.Root != newer.Root:
		return fmt.Errorf("%w: a fork: at %d leaves the log has two roots, %v and %v", ErrDisproved, older.Size, older.Root, newer.Root)
	case older.Size == newer.Size || older.Size == 0:
		return nil
	}
	hashes := make([][]byte, len(path))
	for i := range path {
		hashes[i] = path[i][:]
	}
	if tlog.CheckTree(path, newer.Size, newer.Root, older.Size, older.Root) != nil ||
		merkle.VerifyConsistency(rfc6962.DefaultHasher, uint64(older.Size), uint64(newer.Size), hashes, older.Root[:], newer.Root[:]) != nil {
		return fmt.Errorf("%w: a fork: the tree of %d leaves with root %v does not continue that of %d leaves with root %v",
			ErrDisproved, newer.Size, newer.Root, older.Size, older.Root)
	}
	return nil
}
