package main

import (
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

	"github.com/useargus/argus"
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
			if strings.HasPrefix(resp.Header.Get("Content-Type"), "text/html") { // of a console or a proxy: it says nothing of the log
				return nil, &netError{Message: fmt.Sprintf("%s/%s is a web page, and no file of the ledger's tiles.", base, path)}
			}
			b, err := io.ReadAll(io.LimitReader(resp.Body, most+1))
			if err != nil {
				return nil, &netError{Message: fmt.Sprintf("%s/%s could not be read: %v.", base, path, err)}
			}
			return b, nil
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
	at := make([]int64, width)
	for i := range at {
		at[i] = tlog.StoredHashIndex(8*level, n*proof.TileWidth+int64(i))
	}
	return p.read(func(read proof.ReadTile) error {
		h, err := proof.Reader(p.c.Size, p.c.Root, read).ReadHashes(at)
		if err == nil && hashes != nil {
			*hashes = h
		}
		return err
	})
}

// read runs what reads tiles and checks them. A tile that could not be read says nothing of the log.
func (p *provenLeaves) read(f func(proof.ReadTile) error) error {
	var unread error
	err := f(func(t proof.Tile) ([]byte, error) {
		b, err := p.source.tile(p.ctx, t)
		if err != nil && unread == nil {
			unread = err
		}
		return b, err
	})
	switch {
	case unread != nil:
		return unread
	case err != nil && !isVerdict(err):
		return fmt.Errorf("%w: the tiles of %s: %w", proof.ErrDisproved, p.source.root, err)
	}
	return err
}

// tilesOf opens the tiles that o names, at their checkpoint. It must continue those that were seen before: the one of
// --checkpoint, and the one that the export's manifest has.
func (f *factory) tilesOf(ctx context.Context, o *verifyOptions, open *opener, r *result, m *argus.ExportManifest) (*provenLeaves, error) {
	source := newTileSource(o.tiles, f.timeout)
	note, err := source.get(ctx, "checkpoint", proof.MaxNote)
	if errors.Is(err, errNoTile) {
		return nil, fmt.Errorf("%w: %s has no checkpoint", proof.ErrUndecided, o.tiles)
	}
	if err != nil {
		return nil, err
	}
	if len(note) == 0 {
		return nil, fmt.Errorf("%w: the checkpoint of %s is empty", proof.ErrUndecided, o.tiles)
	}
	if r.Checkpoint, err = open.open(note); err != nil {
		return nil, err
	}
	leaves := &provenLeaves{ctx: ctx, source: source, c: r.Checkpoint, level1: map[int64][]proof.Hash{}, leaves: map[int64][]byte{}}
	old, err := open.remembered(nil, o.checkpoint)
	if err != nil {
		return nil, err
	}
	if m != nil && m.Checkpoint != "" {
		c, err := open.signed([]byte(m.Checkpoint))
		if err != nil {
			return nil, fmt.Errorf("the manifest's checkpoint: %w", err)
		}
		if c.Size > r.Checkpoint.Size {
			return nil, fmt.Errorf("%w: the tiles are older than the export: get newer ones", proof.ErrUndecided)
		}
		old = append(old, c)
	}
	for _, c := range old {
		if err := leaves.continues(c); err != nil {
			return nil, err
		}
	}
	return leaves, nil
}

// continues holds that the tree continues the one of a checkpoint seen before.
func (p *provenLeaves) continues(old proof.Checkpoint) error {
	if old.Size == 0 || old.Size >= p.c.Size {
		return proof.CheckConsistency(nil, old, p.c)
	}
	return p.read(func(read proof.ReadTile) error {
		path, err := proof.ProveConsistency(old.Size, p.c, read)
		if err != nil {
			return err
		}
		return proof.CheckConsistency(path, old, p.c)
	})
}
