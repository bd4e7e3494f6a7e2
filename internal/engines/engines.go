// Package engines starts a real PostgreSQL and a real ClickHouse as child processes, for development and
// for tests. The binaries come from npm packages pinned in this folder (see Install).
//
//	func main() {
//		engines.ServeIfChild() // first: the ClickHouse child is this same executable, started again
//		…
//		pg, err := engines.StartPostgres(ctx, engines.PostgresConfig{Dir: dir + "/postgres"})
//		ch, err := engines.StartClickHouse(ctx, engines.ClickHouseConfig{Dir: dir + "/clickhouse"})
//		…
//		ch.Stop(ctx)
//		pg.Stop(ctx)
//	}
//
// Both listen on 127.0.0.1 only, keep their data in Dir over restarts and kill -9 of either side, and never
// outlive the process that started them. The rest of the code reaches them by URL and cannot tell them
// from servers installed in production.
package engines

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"syscall"
	"time"
)

// childVariable, set in the environment, makes ServeIfChild serve instead of return.
const childVariable = "ARGUS_ENGINE_CHILD"

// ServeIfChild must be the first call of main and of TestMain in every executable that starts engines.
// In a child process of this package it serves and never returns; in any other it returns at once.
func ServeIfChild() {
	switch kind := os.Getenv(childVariable); kind {
	case "":
	case "clickhouse":
		os.Exit(serveClickHouse())
	case "watchdog":
		os.Exit(serveWatchdog())
	default:
		fmt.Fprintf(os.Stderr, "engines: unknown %s %q\n", childVariable, kind)
		os.Exit(2)
	}
}

// errPortTaken is a failed start that is worth another try on another port.
var errPortTaken = errors.New("the port is taken")

// errStillHeld is a failed start that is worth another try a moment later. An engine killed just now does not let go of its
// shared memory, its port and its lock at that instant.
var errStillHeld = errors.New("the data directory is still held by an engine that is ending")

func loopback(port int) string { return net.JoinHostPort("127.0.0.1", strconv.Itoa(port)) }

// randomPassword has 128 random bits and needs no quoting anywhere.
func randomPassword() string {
	b := make([]byte, 16)
	rand.Read(b) // never fails
	return hex.EncodeToString(b)
}

// lockDir takes the directory for this process until the returned function is called or the process ends.
// Of two that want it the second waits a little, for a first one that is ending.
func lockDir(ctx context.Context, dir string) (unlock func(), err error) {
	f, err := os.OpenFile(filepath.Join(dir, "lock"), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, err
	}
	deadline := time.Now().Add(10 * time.Second)
	for {
		err = syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
		if err == nil {
			return func() { f.Close() }, nil
		}
		if !errors.Is(err, syscall.EWOULDBLOCK) || time.Now().After(deadline) {
			f.Close()
			return nil, fmt.Errorf("%s is in use by another process (%w)", dir, err)
		}
		if err := pause(ctx, 50*time.Millisecond); err != nil {
			f.Close()
			return nil, err
		}
	}
}

// untilFree launches an engine, and tries again while the data directory is still held or a port was taken meanwhile.
func untilFree(ctx context.Context, launch func() error) error {
	for deadline := time.Now().Add(30 * time.Second); ; {
		err := launch()
		again := errors.Is(err, errStillHeld) || errors.Is(err, errPortTaken)
		if !again || time.Now().After(deadline) {
			return err
		}
		if ended := pause(ctx, 100*time.Millisecond); ended != nil {
			return fmt.Errorf("%w; before that: %w", ended, err)
		}
	}
}

// pause waits d, or less when ctx ends first; then its error is returned.
func pause(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// logTail is what was appended to the file since offset, at most the last 2 KB: for error messages.
func logTail(path string, offset int64) string {
	f, err := os.Open(path)
	if err != nil {
		return ""
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return ""
	}
	offset = max(offset, info.Size()-2048)
	b := make([]byte, max(0, info.Size()-offset))
	n, _ := f.ReadAt(b, offset)
	return string(b[:n])
}

func openLog(path string) (f *os.File, offset int64, err error) {
	f, err = os.OpenFile(path, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, 0, err
	}
	info, err := f.Stat()
	if err != nil {
		f.Close()
		return nil, 0, err
	}
	return f, info.Size(), nil
}

// writeFile replaces the file at once: a reader, or a start after a crash, sees the old or the new one whole.
func writeFile(path string, data []byte, mode os.FileMode) error {
	tmp := path + ".new"
	if err := os.WriteFile(tmp, data, mode); err != nil {
		return err
	}
	if err := os.Chmod(tmp, mode); err != nil { // WriteFile leaves the mode of a file that was there
		return err
	}
	return os.Rename(tmp, path)
}
