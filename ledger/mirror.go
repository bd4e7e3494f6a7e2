package ledger

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/user"
	"path/filepath"
	"strings"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/useargus/argus/proof"
)

// Mirror writes the log into a folder by C2SP's tlog-tiles and returns its size and how many files are new. The checkpoint
// comes last, so a reader never sees one whose tiles are missing. Full tiles that are there are kept. A checkpoint that
// witnesses have just cosigned is taken before a newer one, but not before one that the folder has shown. A folder is a
// memory of the log: when Postgres was restored or shows another history, nothing in it is replaced.
func Mirror(ctx context.Context, r *Reader, dir string) (size int64, files int, err error) {
	newest, err := r.Newest(ctx)
	if err != nil {
		return 0, 0, err
	}
	shown, err := os.ReadFile(filepath.Join(dir, "checkpoint"))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return 0, 0, err
	}
	before, _ := proof.CheckpointOf(shown) // a damaged one is replaced
	switch cosigned, err := r.Cosigned(ctx, witnessEvery+2*time.Second); {
	case err == nil && cosigned.Size >= before.Size:
		newest = cosigned
	case err != nil && !errors.Is(err, ErrNone):
		return 0, 0, err
	}
	if before.Size > 0 {
		path, err := proof.ProveConsistency(before.Size, newest.Checkpoint, r.TileReader(ctx))
		if err == nil {
			err = proof.CheckConsistency(path, before, newest.Checkpoint)
		}
		if err != nil && !errors.Is(err, ErrNone) { // pruned
			return 0, 0, fmt.Errorf("%w: %s has a checkpoint of %d leaves that Postgres does not continue, and is left as it is: %w", errForked, dir, before.Size, err)
		}
	}
	tiles := proof.Tiles(newest.Size)
	for n := int64(0); n*proof.TileWidth < newest.Size; n++ {
		tiles = append(tiles, proof.TileOf(proof.Bundle, n*proof.TileWidth, newest.Size))
	}
	for _, t := range tiles {
		path := filepath.Join(dir, filepath.FromSlash(t.Path()))
		if _, err := os.Stat(path); err == nil {
			continue
		} else if !errors.Is(err, fs.ErrNotExist) {
			return 0, files, err
		}
		data, err := r.Tile(ctx, t)
		if errors.Is(err, ErrNone) && t.Level <= 0 {
			continue // pruned
		}
		if err != nil {
			return 0, files, fmt.Errorf("%s: %w", t.Path(), err)
		}
		if err := replace(path, data); err != nil {
			return 0, files, err
		}
		files++
		if t.Full() { // its partial forms are prefixes of it
			if err := os.RemoveAll(path + ".p"); err != nil {
				return 0, files, err
			}
		}
	}
	lines, err := r.Cosignatures(ctx, newest.Size)
	if err != nil {
		return 0, files, err
	}
	return newest.Size, files + 1, replace(filepath.Join(dir, "checkpoint"), []byte(newest.Note+strings.Join(lines, "")))
}

// replace writes a file whole, or leaves the old one.
func replace(path string, data []byte) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	f, err := os.CreateTemp(filepath.Dir(path), ".new-*")
	if err != nil {
		return err
	}
	defer os.Remove(f.Name())
	if _, err = f.Write(data); err == nil {
		err = f.Chmod(0o644)
	}
	if err == nil {
		err = f.Sync()
	}
	if closing := f.Close(); err == nil {
		err = closing
	}
	if err == nil {
		err = os.Rename(f.Name(), path)
	}
	return err
}

// AddKey makes a second key of the log in a new file and records it, so that the keys that sign now vouch for it.
func AddKey(ctx context.Context, pool *pgxpool.Pool, keys *Keys, path string) (proof.Key, error) {
	public, err := NewKeyFile(path, keys.Origin)
	if err != nil {
		return public, err
	}
	if err := record(ctx, pool, "ledger_key_added", public.String(), 0); err != nil {
		return public, errors.Join(err, os.Remove(path))
	}
	return public, nil
}

// RetireKey records that one of the keys signs no more, and returns the size that it is trusted up to.
func RetireKey(ctx context.Context, pool *pgxpool.Pool, keys *Keys, vkey string) (size int64, err error) {
	for _, k := range keys.public {
		if k.String() != vkey {
			continue
		}
		if len(keys.public) == 1 {
			return 0, errors.New("it is the only key: add another first")
		}
		newest, err := NewReader(pool).Newest(ctx)
		if err != nil {
			return 0, err
		}
		return newest.Size, record(ctx, pool, "ledger_key_retired", vkey, newest.Size)
	}
	return 0, fmt.Errorf("%.200s is none of the keys in ARGUS_LEDGER_KEY", vkey)
}

func record(ctx context.Context, pool *pgxpool.Pool, kind, vkey string, size int64) error {
	who := "unknown"
	if u, err := user.Current(); err == nil {
		who = u.Username
	}
	host, _ := os.Hostname()
	_, err := pool.Exec(ctx, `SELECT argus.record_ledger($1, jsonb_strip_nulls(jsonb_build_object('vkey', $2::text, 'size', nullif($3::bigint, 0), 'claimed_by', $4::text)))`,
		kind, vkey, size, who+"@"+host)
	if err != nil {
		return fmt.Errorf("recording it: %w", err)
	}
	return nil
}
