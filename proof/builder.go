package proof

import (
	"crypto/sha256"
	"fmt"
)

// Builder computes a tree's root and full tiles from its leaves, in order. The zero value is the empty tree.
type Builder struct {
	// Full is called with each full tile when its last hash is there. The bytes are the builder's: copy them to keep them.
	Full func(t Tile, hashes []byte) error

	size   int64
	levels [maxLevel + 1]struct {
		hashes []byte // of the partial tile at the right edge
		n      int64  // its number
	}
}

// Resume is a builder of a tree of that size. It reads the partial tiles at the tree's right edge, at most one a level.
func Resume(size int64, read ReadTile) (*Builder, error) {
	b := &Builder{size: size}
	for level := range b.levels {
		hashes := size >> (tileHeight * level)
		b.levels[level].n = hashes / TileWidth
		width := int(hashes % TileWidth)
		if width == 0 {
			continue
		}
		t := Tile{level, hashes / TileWidth, width}
		data, err := read(t)
		if err != nil {
			return nil, err
		}
		if len(data) != width*HashSize {
			return nil, fmt.Errorf("%w: %s has %d bytes", ErrMalformed, t.Path(), len(data))
		}
		b.levels[level].hashes = append(make([]byte, 0, TileSize), data...)
	}
	return b, nil
}

// Clone returns a builder that shares nothing with b.
func (b *Builder) Clone() *Builder {
	c := *b
	for level := range c.levels {
		if h := c.levels[level].hashes; h != nil {
			c.levels[level].hashes = append(make([]byte, 0, TileSize), h...)
		}
	}
	return &c
}

// Size is the number of leaves added.
func (b *Builder) Size() int64 { return b.size }

// Add appends leaves, 32 bytes each. The only errors are those of Full, and the builder is of no use after one.
func (b *Builder) Add(leaves []byte) error {
	b.size += int64(len(leaves) / HashSize)
	return b.add(0, leaves)
}

func (b *Builder) add(level int, hashes []byte) error {
	l := &b.levels[level]
	for len(hashes) > 0 {
		if l.hashes == nil {
			l.hashes = make([]byte, 0, TileSize)
		}
		n := min(len(hashes), TileSize-len(l.hashes))
		l.hashes, hashes = append(l.hashes, hashes[:n]...), hashes[n:]
		if len(l.hashes) < TileSize {
			return nil
		}
		root := TileRoot(l.hashes)
		if b.Full != nil {
			if err := b.Full(Tile{level, l.n, TileWidth}, l.hashes); err != nil {
				return err
			}
		}
		l.hashes, l.n = l.hashes[:0], l.n+1
		if err := b.add(level+1, root[:]); err != nil {
			return err
		}
	}
	return nil
}

// Edge is the partial tile at the right edge of a level, nil when the level ends with a full one. The bytes are the
// builder's.
func (b *Builder) Edge(level int) (Tile, []byte) {
	l := &b.levels[level]
	return Tile{level, l.n, len(l.hashes) / HashSize}, l.hashes
}

// Root is the root of the tree so far. That of the empty tree is the SHA-256 of nothing.
func (b *Builder) Root() Hash {
	if b.size == 0 {
		return sha256.Sum256(nil)
	}
	var root Hash
	empty := true
	for level := range b.levels {
		// The perfect subtrees of a partial tile, from the smallest, which stands last.
		hashes := b.levels[level].hashes
		for size := 1; len(hashes) > 0; size *= 2 {
			if len(hashes)/HashSize&size == 0 {
				continue
			}
			at := len(hashes) - size*HashSize
			left := TileRoot(hashes[at:])
			hashes = hashes[:at]
			if empty {
				root, empty = left, false
			} else {
				root = node(left, root)
			}
		}
	}
	return root
}

func node(left, right Hash) Hash {
	var pair [1 + 2*HashSize]byte
	pair[0] = 1
	copy(pair[1:], left[:])
	copy(pair[1+HashSize:], right[:])
	return sha256.Sum256(pair[:])
}

func putSum(dst []byte, pair *[1 + 2*HashSize]byte) {
	h := sha256.Sum256(pair[:])
	copy(dst, h[:])
}
