// Package enginetest gives tests a real PostgreSQL and a real ClickHouse: one pair a test binary, started
// on first use, and a fresh, migrated database a test.
//
//	func TestMain(m *testing.M) { os.Exit(enginetest.Run(m)) }
//
//	func TestX(t *testing.T) {
//		pg := enginetest.NewPostgres(t)
//		ch := enginetest.NewClickHouse(t)
//		pool := pg.Pool(t, pg.APIURL)
//		…
//	}
//
// $ARGUS_TEST_POSTGRES_URL and $ARGUS_TEST_CLICKHOUSE_URL (a superuser's and an administrator's) name
// servers to use instead of the embedded ones; $ARGUS_TEST_POSTGRES_BIN is the folder of another
// PostgreSQL's programs (15 or later) to embed.
package enginetest

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/useargus/argus/internal/engines"
	"github.com/useargus/argus/internal/ports"
)

// Run is the body of TestMain: it runs the tests, stops the engines they started, and fails the binary when
// goroutines are left (unless the tests failed anyway). Its result is the exit code.
func Run(m *testing.M, leaks ...goleak.Option) int {
	engines.ServeIfChild()
	code := m.Run()
	if err := shared.stop(); err != nil {
		fmt.Fprintln(os.Stderr, "enginetest:", err)
		code = max(code, 1)
	}
	if code == 0 {
		if err := goleak.Find(leaks...); err != nil {
			fmt.Fprintln(os.Stderr, "enginetest:", err)
			code = 1
		}
	}
	return code
}

// startTimeout bounds the start of an engine, an installation included.
const startTimeout = 5 * time.Minute

const dirPattern = "argus-enginetest-"

// tempDir makes a folder that any user may pass through (PostgreSQL may run as another one). The lock it
// returns is held by this process; sweep knows by it which folders are in use.
func tempDir() (dir string, lock *os.File, err error) {
	sweep()
	if dir, err = os.MkdirTemp("", dirPattern); err != nil {
		return "", nil, err
	}
	if err := os.Chmod(dir, 0o711); err != nil {
		return "", nil, err
	}
	// Locked before it has the name that sweep looks for.
	if lock, err = os.Create(filepath.Join(dir, "in-use.new")); err != nil {
		return "", nil, err
	}
	err = syscall.Flock(int(lock.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
	if err == nil {
		err = os.Rename(lock.Name(), filepath.Join(dir, "in-use"))
	}
	if err != nil {
		lock.Close()
		return "", nil, err
	}
	return dir, lock, nil
}

// sweep removes what test binaries that were killed have left.
func sweep() {
	dirs, _ := filepath.Glob(filepath.Join(os.TempDir(), dirPattern+"*"))
	for _, dir := range dirs {
		f, err := os.Open(filepath.Join(dir, "in-use"))
		if err != nil {
			continue // being made at this moment, or another user's
		}
		if syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB) == nil {
			os.RemoveAll(dir)
		}
		f.Close()
	}
}

// randomName is a name for a database: lower-case, so that it needs no quotes.
func randomName(prefix string) string {
	b := make([]byte, 6)
	rand.Read(b)
	return prefix + hex.EncodeToString(b)
}

// derivedPassword is the same in every test binary that uses the same server, because roles belong to the
// whole server, and all binaries set their passwords.
func derivedPassword(adminURL, role string) string {
	sum := sha256.Sum256([]byte("argus test password\n" + adminURL + "\n" + role))
	return hex.EncodeToString(sum[:16])
}

// cleanup is a context for a test's end, when its own has ended already.
func cleanup() (context.Context, context.CancelFunc) {
	return context.WithTimeout(context.Background(), time.Minute)
}

func startContext() (context.Context, context.CancelFunc) {
	return context.WithTimeout(context.Background(), startTimeout)
}

func must(t testing.TB, what string, err error) {
	t.Helper()
	if err != nil {
		t.Fatalf("enginetest: %s: %v", what, err)
	}
}

// FreeAddress is an address of loopback without a listener, for a program that is told where to listen. No connection takes it, and
// no other test does (see ports.Free).
func FreeAddress(t testing.TB) string {
	t.Helper()
	address, err := ports.FreeAddress()
	must(t, "a free address", err)
	return address
}
