package proof

import (
	"fmt"
	"strconv"
	"strings"

	"golang.org/x/mod/sumdb/tlog"
)

// TileWidth is the number of hashes in a full tile, and TileSize its bytes.
const (
	TileWidth = 1 << tileHeight
	TileSize  = TileWidth * HashSize

	tileHeight = 8
	maxLevel   = 7 // 8 levels of 8 bits are more leaves than an int64 counts
)

// Bundle is the level of entry bundles, which hold entries in the place of hashes.
const Bundle = -1

// Tile names a tile: the hashes [N*256, N*256+Width) of the tree's level 8*Level. A tile of fewer than 256 hashes is
// partial; it is a prefix of the full one.
type Tile struct {
	Level int // 0 to 7, or Bundle
	N     int64
	Width int // 1 to 256
}

// Full reports whether the tile has all of its hashes.
func (t Tile) Full() bool { return t.Width == TileWidth }

// Path is the tile's path by C2SP's tlog-tiles, such as tile/0/x001/x234/067.p/8 or tile/entries/000.
func (t Tile) Path() string {
	b := append(make([]byte, 0, 40), "tile/"...)
	if t.Level == Bundle {
		b = append(b, "entries"...)
	} else {
		b = strconv.AppendInt(b, int64(t.Level), 10)
	}
	groups := 1
	for n := t.N; n >= 1000; n /= 1000 {
		groups++
	}
	for ; groups > 0; groups-- {
		n := t.N
		for range groups - 1 {
			n /= 1000
		}
		b = append(b, '/')
		if groups > 1 {
			b = append(b, 'x')
		}
		b = append(b, byte('0'+n/100%10), byte('0'+n/10%10), byte('0'+n%10))
	}
	if !t.Full() {
		b = strconv.AppendInt(append(b, ".p/"...), int64(t.Width), 10)
	}
	return string(b)
}

// ParseTilePath reads a tile's path: exactly what Path writes.
func ParseTilePath(path string) (Tile, error) {
	bad := fmt.Errorf("%w: no path of a tile: %.60q", ErrMalformed, path)
	rest, ok := strings.CutPrefix(path, "tile/")
	if !ok || len(path) > 60 {
		return Tile{}, bad
	}
	t := Tile{Width: TileWidth}
	level, rest, _ := strings.Cut(rest, "/")
	if level == "entries" {
		t.Level = Bundle
	} else if t.Level, ok = number(level, maxLevel); !ok {
		return Tile{}, bad
	}
	n, width, partial := strings.Cut(rest, ".p/")
	if partial {
		if t.Width, ok = number(width, TileWidth-1); !ok || t.Width == 0 {
			return Tile{}, bad
		}
	}
	for group := range strings.SplitSeq(n, "/") {
		digits := strings.TrimPrefix(group, "x")
		if len(digits) != 3 || t.N > (1<<62)/1000 {
			return Tile{}, bad
		}
		for _, c := range []byte(digits) {
			if c < '0' || c > '9' {
				return Tile{}, bad
			}
			t.N = t.N*10 + int64(c-'0')
		}
	}
	if t.Path() != path {
		return Tile{}, bad
	}
	return t, nil
}

// number reads a decimal number of at most three digits, without sign or leading zeros.
func number(s string, highest int) (int, bool) {
	if s == "" || len(s) > 3 || s[0] == '0' && s != "0" {
		return 0, false
	}
	n := 0
	for _, c := range []byte(s) {
		if c < '0' || c > '9' {
			return 0, false
		}
		n = n*10 + int(c-'0')
	}
	return n, n <= highest
}

// In reports whether a tree of that size has the tile: all of its hashes, and for a partial tile no more.
func (t Tile) In(size int64) bool {
	level := max(t.Level, 0)
	if t.N < 0 || level > maxLevel || t.Width < 1 || t.Width > TileWidth {
		return false
	}
	hashes := size >> (tileHeight * level)
	return t.N <= hashes/TileWidth && t.N*TileWidth+int64(t.Width) <= hashes
}

// TileOf is the tile with the hash n of the tree's level 8*level, as wide as a tree of that size has it.
func TileOf(level int, n, size int64) Tile {
	hashes := size >> (tileHeight * max(level, 0))
	t := Tile{Level: level, N: n / TileWidth, Width: TileWidth}
	if t.N == hashes/TileWidth {
		t.Width = int(hashes % TileWidth)
	}
	return t
}

// Tiles are all tiles of a tree of that size, as wide as it has them, level by level, without entry bundles.
func Tiles(size int64) []Tile {
	var tiles []Tile
	for level := 0; level <= maxLevel && size>>(tileHeight*level) > 0; level++ {
		hashes := size >> (tileHeight * level)
		for n := int64(0); n*TileWidth < hashes; n++ {
			tiles = append(tiles, TileOf(level, n*TileWidth, size))
		}
	}
	return tiles
}

// TileRoot is the root over a tile's hashes, whose number is a power of two.
func TileRoot(hashes []byte) Hash {
	var level [TileSize / 2]byte
	var pair [1 + 2*HashSize]byte
	pair[0] = 1
	from := hashes
	for n := len(hashes) / HashSize; n > 1; n /= 2 {
		for i := 0; i < n/2; i++ { // in place: node i is written where only nodes already read stand
			copy(pair[1:], from[2*i*HashSize:(2*i+2)*HashSize])
			putSum(level[i*HashSize:], &pair)
		}
		from = level[:]
	}
	return Hash(from[:HashSize])
}

// ReadTile gives the bytes of a tile: Width hashes, or for an entry bundle Width entries.
type ReadTile func(Tile) ([]byte, error)

// Reader reads hashes of the tree with that size and root out of tiles, each proven by the root before it is believed.
func Reader(size int64, root Hash, read ReadTile) tlog.HashReader {
	return tlog.TileHashReader(tlog.Tree{N: size, Hash: root}, tileReader{read})
}

type tileReader struct{ read ReadTile }

func (tileReader) Height() int                         { return tileHeight }
func (tileReader) SaveTiles(_ []tlog.Tile, _ [][]byte) {}

func (r tileReader) ReadTiles(tiles []tlog.Tile) ([][]byte, error) {
	data := make([][]byte, len(tiles))
	for i, t := range tiles {
		var err error
		if data[i], err = r.read(Tile{t.L, t.N, t.W}); err != nil {
			return nil, err
		}
		if len(data[i]) != t.W*HashSize {
			return nil, fmt.Errorf("%w: %s has %d bytes", ErrMalformed, Tile{t.L, t.N, t.W}.Path(), len(data[i]))
		}
	}
	return data, nil
}
