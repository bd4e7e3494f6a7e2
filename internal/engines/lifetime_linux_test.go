package engines_test

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"golang.org/x/sys/unix"

	"github.com/useargus/argus/internal/engines"
)

// startParent starts such a process, as the user uid.
func startParent(t *testing.T, dir string, uid int) (*exec.Cmd, parentReport) {
	t.Helper()
	if err := engines.Install(testContext(t)); err != nil {
		t.Fatal(err)
	}
	installed, err := engines.Dir()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("/proc/self/exe")
	cmd.Env = append(os.Environ(), parentVariable+"="+dir, "ARGUS_ENGINES_DIR="+installed)
	cmd.Dir = "/"
	cmd.Stderr = os.Stderr
	if uid != os.Getuid() {
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uint32(uid), Gid: uint32(uid)}}
		for folder := installed; folder != "/"; folder = filepath.Dir(folder) {
			// The repository may be closed to that user; its own folder is what this is about.
			if info, err := os.Stat(folder); err == nil && info.Mode()&0o001 == 0 {
				cmd.SysProcAttr.AmbientCaps = []uintptr{unix.CAP_DAC_READ_SEARCH}
			}
		}
	}
	stdin, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		stdin.Close()
		cmd.Process.Kill()
		cmd.Wait()
	})
	var report parentReport
	if err := json.NewDecoder(stdout).Decode(&report); err != nil {
		t.Fatal(err)
	}
	if report.Error != "" {
		t.Fatal(report.Error)
	}
	return cmd, report
}

// running tells whether the process lives; a zombie that its parent has not waited for does not.
func running(pid int) bool {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return false
	}
	_, state, _ := strings.Cut(string(b), ") ")
	return !strings.HasPrefix(state, "Z") && !strings.HasPrefix(state, "X")
}

// A parent killed with -9 takes both engines with it at once, and their data stays. The next start on the same folders and
// ports waits for what is still ending.
func TestEnginesDieWithTheirParent(t *testing.T) {
	dir := tempDir(t)
	parent, report := startParent(t, dir, os.Getuid())
	execPostgres(t, report.PostgresURL, "CREATE TABLE kept (n int); INSERT INTO kept VALUES (1)")
	execClickHouse(t, report.URL, "CREATE DATABASE kept")
	execClickHouse(t, report.URL, "CREATE TABLE kept.t (n Int32) ENGINE = MergeTree ORDER BY n")
	execClickHouse(t, report.URL, "INSERT INTO kept.t VALUES (1)")
	if err := parent.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	parent.Wait()

	pg, err := engines.StartPostgres(testContext(t), report.Postgres)
	if err != nil {
		t.Fatal(err)
	}
	defer pg.StopImmediate()
	ch, err := engines.StartClickHouse(testContext(t), report.ClickHouse)
	if err != nil {
		t.Fatal(err)
	}
	defer ch.Kill(syscall.SIGKILL)
	for _, pid := range report.PIDs {
		if running(pid) {
			t.Errorf("process %d outlived its parent", pid)
		}
	}
	if n := countPostgres(t, report.PostgresURL, "SELECT count(*) FROM kept"); n != 1 {
		t.Errorf("%d rows in PostgreSQL", n)
	}
	if n := countClickHouse(t, report.URL, "SELECT count() FROM kept.t"); n != 1 {
		t.Errorf("%d rows in ClickHouse", n)
	}
}

// Neither root nor any other user is needed or rejected. (Where the tests do not run as root, this is the
// plain case again.)
func TestEnginesAsAnotherUser(t *testing.T) {
	dir, uid := tempDir(t), os.Getuid()
	if uid == 0 {
		uid = 65534
		if err := os.Chown(dir, uid, uid); err != nil {
			t.Fatal(err)
		}
	}
	_, report := startParent(t, dir, uid)
	if report.UID != uid {
		t.Errorf("it ran as %d, not %d", report.UID, uid)
	}
	execPostgres(t, report.PostgresURL, "CREATE TABLE t (n int)")
	execClickHouse(t, report.URL, "CREATE DATABASE d")
}

// A process that is asked to be a child of a kind it does not know, or is called wrongly, ends.
func TestUnknownChild(t *testing.T) {
	for _, env := range []string{"ARGUS_ENGINE_CHILD=other", "ARGUS_ENGINE_CHILD=clickhouse"} {
		cmd := exec.Command("/proc/self/exe")
		cmd.Env = []string{env}
		if err := cmd.Run(); err == nil {
			t.Errorf("%s: it ended well", env)
		}
	}
}

// TestPostgresKilledIsGone: when Kill returns no backend is left that writes into the folder.
func TestPostgresKilledIsGone(t *testing.T) {
	ctx := testContext(t)
	pg, err := engines.StartPostgres(ctx, engines.PostgresConfig{Dir: tempDir(t) + "/pg"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { pg.StopImmediate() })
	conn, err := pgx.Connect(ctx, pg.SuperuserURL("postgres"))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(ctx)
	backend := int(conn.PgConn().PID())
	if err := syscall.Kill(backend, syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	defer time.AfterFunc(300*time.Millisecond, func() { syscall.Kill(backend, syscall.SIGCONT) }).Stop() // a slow one
	if err := pg.Kill(syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	// One whose files are closed may still be there for a moment.
	if cwd, err := os.Readlink(fmt.Sprintf("/proc/%d/cwd", backend)); err == nil && running(backend) {
		t.Errorf("a backend outlives Kill, in %s", cwd)
	}
}
