package proof_test

import (
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"slices"
	"testing"

	"github.com/transparency-dev/merkle/compact"
	merkle "github.com/transparency-dev/merkle/proof"
	"github.com/transparency-dev/merkle/rfc6962"
	"golang.org/x/mod/sumdb/tlog"

	"github.com/useargus/argus/proof"
)

// storage is a tree as x/mod stores it: the oracle.
type storage []tlog.Hash

func (s storage) ReadHashes(indexes []int64) ([]tlog.Hash, error) {
	hashes := make([]tlog.Hash, len(indexes))
	for i, at := range indexes {
		hashes[i] = s[at]
	}
	return hashes, nil
}

// leafOf is the hash of a made-up leaf.
func leafOf(i int64) proof.Hash {
	e := proof.Entry{Kind: proof.Call, Month: 682, WriterID: 1 << 40, Seq: i + 1}
	binary.BigEndian.PutUint64(e.Digest[:], uint64(i)*2654435761)
	return e.Leaf()
}

// tiles keeps what a builder emits and its edge, as a server of tiles has them.
type tiles map[string][]byte

func (ts tiles) keep(t proof.Tile, hashes []byte) error {
	ts[t.Path()] = slices.Clone(hashes)
	return nil
}

func (ts tiles) read(t proof.Tile) ([]byte, error) {
	if b, ok := ts[t.Path()]; ok {
		return b, nil
	}
	full := t
	full.Width = proof.TileWidth
	if b, ok := ts[full.Path()]; ok {
		return b[:t.Width*proof.HashSize], nil
	}
	return nil, fmt.Errorf("no tile %s", t.Path())
}

func (ts tiles) edge(b *proof.Builder) {
	for level := range 8 {
		if t, hashes := b.Edge(level); t.Width > 0 {
			ts[t.Path()] = slices.Clone(hashes)
		}
	}
}

// TestEverySize holds the builder, the tiles and the proofs against x/mod's tlog and transparency-dev's merkle, for each
// size of the tree to 3 000. The two share no code.
func TestEverySize(t *testing.T) {
	const sizes = 3000
	var stored storage
	rangeOf := (&compact.RangeFactory{Hash: rfc6962.DefaultHasher.HashChildren}).NewEmptyRange(0)
	kept := tiles{}
	b := &proof.Builder{Full: kept.keep}
	roots := []proof.Hash{b.Root()}
	if roots[0] != sha256.Sum256(nil) {
		t.Error("the empty tree's root is not the SHA-256 of nothing")
	}
	for size := int64(1); size <= sizes; size++ {
		leaf := leafOf(size - 1)
		if err := b.Add(leaf[:]); err != nil {
			t.Fatal(err)
		}
		hashes, err := tlog.StoredHashesForRecordHash(size-1, leaf, stored)
		if err != nil {
			t.Fatal(err)
		}
		stored = append(stored, hashes...)
		if err := rangeOf.Append(leaf[:], nil); err != nil {
			t.Fatal(err)
		}
		want, err := tlog.TreeHash(size, stored)
		if err != nil {
			t.Fatal(err)
		}
		second, err := rangeOf.GetRootHash(nil)
		if err != nil || [32]byte(second) != [32]byte(want) {
			t.Fatalf("size %d: the oracles differ: %v", size, err)
		}
		root := b.Root()
		if b.Size() != size || root != want {
			t.Fatalf("size %d: root %v, tlog says %v", size, root, want)
		}
		roots = append(roots, root)
		kept.edge(b)

		resumed, err := proof.Resume(size, kept.read)
		if err != nil || resumed.Root() != want {
			t.Fatalf("size %d: resumed from the tiles the root is another: %v", size, err)
		}

		index := size * 7919 % size
		if size%3 == 0 {
			index = size - 1
		} else if size%3 == 1 {
			index = size * 2654435761 % size
		}
		reader := proof.Reader(size, root, kept.read)
		path, err := tlog.ProveRecord(size, index, reader)
		if err != nil {
			t.Fatalf("size %d, leaf %d: %v", size, index, err)
		}
		if err := proof.CheckInclusion(path, index, size, leafOf(index), root); err != nil {
			t.Fatal(err)
		}
		if err := merkle.VerifyInclusion(rfc6962.DefaultHasher, uint64(index), uint64(size), hash(leafOf(index)), raw(path), root[:]); err != nil {
			t.Fatal(err)
		}
		if proof.CheckInclusion(path, index, size, leafOf(index+1), root) == nil {
			t.Fatalf("size %d: another leaf is included too", size)
		}
		old := size * 104729 % size
		if old == 0 {
			continue
		}
		consistency, err := tlog.ProveTree(size, old, reader)
		if err != nil {
			t.Fatal(err)
		}
		before := proof.Checkpoint{Origin: "x", Size: old, Root: roots[old]}
		now := proof.Checkpoint{Origin: "x", Size: size, Root: root}
		if err := proof.CheckConsistency(consistency, before, now); err != nil {
			t.Fatal(err)
		}
		if err := merkle.VerifyConsistency(rfc6962.DefaultHasher, uint64(old), uint64(size), raw(consistency), roots[old][:], root[:]); err != nil {
			t.Fatal(err)
		}
		before.Root[3] ^= 1
		if proof.CheckConsistency(consistency, before, now) == nil {
			t.Fatalf("sizes %d and %d: a tree with another root is consistent", old, size)
		}
	}
	for _, tile := range proof.Tiles(sizes) {
		if _, err := kept.read(tile); err != nil || !tile.In(sizes) {
			t.Errorf("%s is in the tree: %v, %v", tile.Path(), tile.In(sizes), err)
		}
	}
}

// TestLargeSteps: leaves added in pieces of any size give the tree that they give one by one, over three levels of tiles.
func TestLargeSteps(t *testing.T) {
	const size = 3*65536 + 777
	leaves := make([]byte, 0, size*proof.HashSize)
	want := (&compact.RangeFactory{Hash: rfc6962.DefaultHasher.HashChildren}).NewEmptyRange(0)
	for i := range int64(size) {
		leaf := leafOf(i)
		leaves = append(leaves, leaf[:]...)
		if err := want.Append(leaf[:], nil); err != nil {
			t.Fatal(err)
		}
	}
	root, err := want.GetRootHash(nil)
	if err != nil {
		t.Fatal(err)
	}
	kept := tiles{}
	b := &proof.Builder{Full: kept.keep}
	for step := 1; len(leaves) > 0; step = (step*3 + 1) % 9001 {
		n := min(len(leaves), (step+1)*proof.HashSize)
		if err := b.Add(leaves[:n]); err != nil {
			t.Fatal(err)
		}
		leaves = leaves[n:]
	}
	if b.Root() != proof.Hash(root) || b.Clone().Root() != proof.Hash(root) {
		t.Error("added in steps, the leaves give another root")
	}
	kept.edge(b)
	path, err := tlog.ProveRecord(size, 70000, proof.Reader(size, b.Root(), kept.read))
	if err != nil || proof.CheckInclusion(path, 70000, size, leafOf(70000), b.Root()) != nil {
		t.Errorf("a proof of leaf 70000: %v", err)
	}
	for path := range kept {
		kept[path][len(kept[path])/2] ^= 4
	}
	if _, err := tlog.ProveRecord(size, 70000, proof.Reader(size, b.Root(), kept.read)); err == nil {
		t.Error("tiles with a flipped bit each are believed")
	}
}

func hash(h proof.Hash) []byte { return h[:] }

func raw(path []proof.Hash) [][]byte {
	hashes := make([][]byte, len(path))
	for i := range path {
		hashes[i] = path[i][:]
	}
	return hashes
}

func BenchmarkBuilder(b *testing.B) {
	run := proof.Run{Kind: proof.Call, Month: 682, WriterID: 1, FirstSeq: 1, Digests: make([]byte, 8192*32)}
	var builder proof.Builder
	leaves := make([]byte, 0, 8192*32)
	for n := 0; n < b.N; n += 8192 {
		leaves = run.AppendLeaves(leaves[:0])
		_ = builder.Add(leaves)
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64((b.N+8191)/8192*8192), "ns/leaf")
}
