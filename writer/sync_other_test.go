//go:build bench && !linux

package writer

import "os"

func datasync(f *os.File) error { return f.Sync() }
