// Package folder writes batches as files: for archives, and for argusd dev.
package folder

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"

	"github.com/useargus/argus/ship/format"
	"github.com/useargus/argus/ship/sink"
)

// Folder is a sink. Each batch is a file with the manifest as its first line, in a folder of the day on which its first row
// was recorded: dt=2026-11-30/000000000012-5f1e….ndjson. A batch that comes again replaces its own file.
//
// A file appears whole or not at all: it is written under another name, synced and renamed. head.json, replaced after it, is
// the newest batch's manifest. So argusctl ship verify misses the last file too.
type Folder struct {
	path string

	mu         sync.Mutex // of Send and Test
	compressor *format.Compressor
	swept      bool
}

// New makes the sink. It touches nothing yet.
func New(d *sink.Folder) *Folder {
	return &Folder{path: d.Path, compressor: format.NewCompressor(d.Compression)}
}

// Send implements sink.Sink.
func (f *Folder) Send(ctx context.Context, b *sink.Batch) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if err := f.sweep(); err != nil {
		return err
	}
	day := filepath.Join(f.path, "dt="+b.First.UTC().Format("2006-01-02"))
	if err := f.mkdir(day); err != nil {
		return err
	}
	manifest := b.AppendManifest(nil)
	name := b.Batch + ".ndjson" + f.compressor.Suffix()
	if err := write(day, name, f.compressor.Compress(manifest, b.Lines)); err != nil {
		return fmt.Errorf("writing %s: %w", name, err)
	}
	return write(f.path, b.Head(), manifest)
}

// sweep removes what another life left half written.
func (f *Folder) sweep() error {
	if f.swept {
		return nil
	}
	for _, pattern := range []string{".part-*", "dt=*/.part-*"} {
		stale, err := filepath.Glob(filepath.Join(f.path, pattern))
		if err != nil {
			return err
		}
		for _, name := range stale {
			if err := os.Remove(name); err != nil && !errors.Is(err, os.ErrNotExist) {
				return err
			}
		}
	}
	f.swept = true
	return nil
}

// mkdir makes the folder, and its entry in the folder above durable.
func (f *Folder) mkdir(day string) error {
	if _, err := os.Stat(day); err == nil {
		return nil
	}
	if err := os.MkdirAll(day, 0o700); err != nil {
		return err
	}
	return errors.Join(syncDir(f.path), syncDir(filepath.Dir(f.path)))
}

func write(dir, name string, data []byte) error {
	file, err := os.CreateTemp(dir, ".part-")
	if err != nil {
		return err
	}
	_, err = file.Write(data)
	err = errors.Join(err, file.Sync(), file.Close())
	if err == nil {
		err = os.Rename(file.Name(), filepath.Join(dir, name))
	}
	if err != nil {
		os.Remove(file.Name())
		return err
	}
	return syncDir(dir)
}

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// Test implements sink.Sink: it writes a file and removes it.
func (f *Folder) Test(context.Context) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if err := os.MkdirAll(f.path, 0o700); err != nil {
		return fmt.Errorf("the folder cannot be made: %w", err)
	}
	file, err := os.CreateTemp(f.path, ".part-")
	if err != nil {
		return fmt.Errorf("the folder takes no file: %w", err)
	}
	_, err = file.WriteString("a test\n")
	if err = errors.Join(err, file.Sync(), file.Close(), os.Remove(file.Name())); err != nil {
		return fmt.Errorf("the folder takes no file: %w", err)
	}
	return nil
}

// Close implements sink.Sink.
func (f *Folder) Close() error { return nil }
