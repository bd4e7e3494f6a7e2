package main

import (
	"context"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/ClickHouse/clickhouse-go/v2"
	"github.com/jackc/pgx/v5"

	"github.com/useargus/argus/internal/engines"
	"github.com/useargus/argus/internal/engines/enginetest"
)

// TestRestore takes Postgres back to a point in time, while ClickHouse knows what came after it; then loses
// ClickHouse. The base backup is pg_basebackup's where the server's version has one here, and otherwise a copy of the
// files between pg_backup_start and pg_backup_stop, which is what pg_basebackup does.
func TestRestore(t *testing.T) {
	t.Parallel()
	t.Run("Postgres18", func(t *testing.T) {
		t.Parallel()
		s, archive := newArchivingSite(t, "")
		s.restore(archive, s.copyFiles)
		s.rebuild()
	})
	t.Run("Postgres15", func(t *testing.T) {
		t.Parallel()
		s, archive := newArchivingSite(t, enginetest.Postgres15())
		s.restore(archive, func(backup string) { s.operations("base-backup", "", map[string]string{"BACKUP": backup}) })
	})
}

func newArchivingSite(t *testing.T, binDir string) (s *site, archive string) {
	t.Helper()
	dir, err := os.MkdirTemp("", "argus-archive-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	os.Chmod(dir, 0o711)
	archive = filepath.Join(dir, "archive")
	if err := os.Mkdir(archive, 0o700); err != nil {
		t.Fatal(err)
	}
	// As on the page, with another folder.
	s = newSite(t, engines.PostgresConfig{BinDir: binDir, Settings: map[string]string{"archive_mode": "on",
		"archive_command": fmt.Sprintf("test ! -f %s/%%f && cp %%p %s/%%f", archive, archive), "archive_timeout": "60"}})
	s.must(exec.Command("chown", "-R", "--reference="+s.dataDir(), archive))
	return s, archive
}

func (s *site) dataDir() string { return filepath.Join(s.pg.Config().Dir, "data") }

func (s *site) copyFiles(backup string) {
	ctx := s.t.Context()
	conn, err := pgx.Connect(ctx, s.pg.SuperuserURL("argus"))
	if err != nil {
		s.t.Fatal(err)
	}
	defer conn.Close(context.Background())
	if _, err := conn.Exec(ctx, "SELECT pg_backup_start('argus', fast => true)"); err != nil {
		s.t.Fatal(err)
	}
	// Files may vanish while they are copied: cp says so, and WAL has what was in them.
	exec.Command("cp", "-a", s.dataDir(), backup).Run()
	var label string
	if err := conn.QueryRow(ctx, "SELECT labelfile FROM pg_backup_stop()").Scan(&label); err != nil {
		s.t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(backup, "backup_label"), []byte(label), 0o600); err != nil {
		s.t.Fatal(err)
	}
	for _, transient := range []string{"postmaster.pid", "pg_wal", "pg_replslot"} {
		os.RemoveAll(filepath.Join(backup, transient))
	}
	for _, folder := range []string{"pg_wal", "pg_replslot"} {
		os.Mkdir(filepath.Join(backup, folder), 0o700)
	}
}

// restore goes the way of "Postgres lost".
func (s *site) restore(archive string, backUp func(backup string)) {
	t := s.t
	addr := enginetest.FreeAddress(t)
	replicator, front := s.start("replicator"), s.startAPI(addr)
	c := s.callers(addr)
	c.make(4, 20)

	stop := c.startCalling(3)
	backup := filepath.Join(filepath.Dir(archive), "backup")
	backUp(backup)
	stop()
	c.make(4, 30)
	kept := c.taken()
	var point, lastWAL string
	s.ask("SELECT clock_timestamp()::text", &point)
	c.make(4, 30)
	lost := c.taken()
	s.compared() // ClickHouse has what Postgres is about to lose
	var greatest int64
	s.ask("SELECT max(writer_id) FROM argus.audit_writers", &greatest)
	s.ask("SELECT pg_walfile_name(pg_switch_wal())", &lastWAL)
	s.wait("the WAL is archived", func() error {
		_, err := os.Stat(filepath.Join(archive, lastWAL))
		return err
	})

	if err := s.pg.Kill(syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	for _, v := range []*server{front, replicator} { // not in order: no process can sign off any more
		v.kill()
	}
	began := time.Now()
	s.operations("restore", "", map[string]string{"PGDATA": s.dataDir(), "BACKUP": backup, "ARCHIVE": archive, "POINT": point})
	var err error
	if s.pg, err = engines.StartPostgres(t.Context(), s.pg.Config()); err != nil {
		t.Fatal(err)
	}
	s.operations("recovered", "", nil)
	restored := time.Since(began)
	rows := s.audited()
	for id := range kept {
		if !rows[id] {
			t.Fatalf("call %s was answered before %s and is not in the restored Postgres", id, point)
		}
	}
	for id := range lost {
		if rows[id] {
			t.Fatalf("call %s was answered after %s and is in the restored Postgres", id, point)
		}
	}

	replicator, front = s.start("replicator"), s.startAPI(addr)
	c.make(4, 20) // while the replicator heals
	began = time.Now()
	s.operations("check", "replicator", nil)
	healed := time.Since(began)
	c.make(4, 20)
	after := c.taken()

	// Orphans are what was lost, and nothing else; no number of a writer was given twice.
	orphans := s.orphans()
	if !maps.Equal(orphans, only(lost)) {
		t.Errorf("%d calls are orphans, %d were lost", len(orphans), len(lost))
	}
	var reused, opened int
	s.ask(fmt.Sprintf("SELECT count(*) FILTER (WHERE l.n > w.seq), count(*) FILTER (WHERE w.writer_id > %d) FROM argus.audit_writers w LEFT JOIN LATERAL "+
		"(SELECT max(seq) AS n FROM argus.argus_audit_log l WHERE l.writer_id = w.writer_id) l ON true", greatest), &reused, &opened)
	if reused != 0 || opened == 0 {
		t.Errorf("%d writers have rows beyond their seq, %d were opened since", reused, opened)
	}
	var among int
	s.ask(fmt.Sprintf("SELECT count(*) FROM argus.argus_audit_log WHERE writer_id <= %d AND recorded_at > '%s'", greatest, point), &among)
	if among != 0 {
		t.Errorf("%d rows were written after the restore under numbers of before", among)
	}
	said := s.operations("healed", "", nil)
	// A restore to a moment begins a timeline before the old one's end, as a failover to a standby that lagged does.
	if !strings.Contains(said, `"reason": "failover"`) || !strings.Contains(said, fmt.Sprintf(`"orphans": %d`, s.orphanRows())) {
		t.Errorf("argus.audit_admin says %s; %d rows are orphans", said, s.orphanRows())
	}
	if !strings.Contains(replicator.log(), fmt.Sprintf(`"orphans":%d,"duplicates_removed":0`, s.orphanRows())) {
		t.Errorf("the replicator has not told of orphans")
	}
	maps.Copy(kept, after)
	sum := oraclePostgres(t, s.pg.SuperuserURL("argus"), kept)
	s.compared()
	t.Logf("restored to %s in %.1f s: %d calls acknowledged before it, %d after it; healed and equal %.1f s after the start; %d orphans: %s",
		point, restored.Seconds(), len(kept)-len(after), len(lost), healed.Seconds(), s.orphanRows(), strings.TrimSpace(said))
	t.Logf("%d rows in both stores now, %d calls made since", sum.rows, len(after))
	front.stop()
	replicator.stop()
}

// rebuild goes the way of "ClickHouse lost".
func (s *site) rebuild() {
	t := s.t
	addr := enginetest.FreeAddress(t)
	replicator, front := s.start("replicator"), s.startAPI(addr)
	c := s.callers(addr)
	c.make(2, 10)
	s.compared()

	config := s.ch.Config()
	if err := s.ch.Kill(syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	if err := os.RemoveAll(config.Dir); err != nil {
		t.Fatal(err)
	}
	sources := map[string]int{}
	s.readRight(addr, sources)
	var err error
	if s.ch, err = engines.StartClickHouse(t.Context(), config); err != nil { // empty, at the same address
		t.Fatal(err)
	}
	s.env["migrate"]["ARGUS_CLICKHOUSE_URL"] = s.ch.AdminURL("argus")
	for range 5 {
		s.readRight(addr, sources) // from a server without tables
	}
	if len(sources) != 1 || sources["postgres"] == 0 {
		t.Errorf("without a copy, answers came from %v", sources)
	}
	s.doesNotStart("replicator", "the schema in ClickHouse is at version 0", "argusd migrate")
	began := time.Now()
	s.operations("rebuild", "migrate", nil)
	stopped := make(chan struct{})
	go func() {
		defer close(stopped)
		s.wait("the copy streams", func() error { return s.streams("argus") })
	}()
	for open := true; open; {
		s.readRight(addr, sources)
		select {
		case <-stopped:
			open = false
		case <-time.After(50 * time.Millisecond):
		}
	}
	took := time.Since(began)
	s.wait("answers come from the copy again", func() error {
		if source := s.readRight(addr, sources); source == "postgres" {
			return fmt.Errorf("they still come from Postgres")
		}
		return nil
	})
	c.make(2, 10)
	sum := oraclePostgres(t, s.pg.SuperuserURL("argus"), c.taken())
	s.compared()
	if log := replicator.log(); !strings.Contains(log, "copied ") || !strings.Contains(log, " rows/s") || !strings.Contains(log, `"reason":"copy_lost"`) {
		t.Error("the replicator's log has no progress of the rebuilding")
	}
	t.Logf("rebuilt %d rows and equal %.1f s after the migration; answers meanwhile, all right, from %v", sum.rows, took.Seconds(), sources)
	front.stop()
	replicator.stop()
}

// readRight counts the calls by /v1/perf, which must be what Postgres has at that moment, and returns where the answer came from.
func (s *site) readRight(addr string, sources map[string]int) string {
	s.t.Helper()
	var want int
	s.ask("SELECT count(*) FROM argus.argus_audit_log", &want)
	var perf struct {
		Source string
		Rows   []struct{ Count int }
	}
	s.get(addr, "/v1/perf?since=1h", &perf)
	got := 0
	for _, route := range perf.Rows {
		got += route.Count
	}
	if got != want {
		s.t.Errorf("from %s: %d calls, Postgres has %d", perf.Source, got, want)
	}
	sources[perf.Source]++
	return perf.Source
}

// audited are the calls in Postgres.
func (s *site) audited() map[string]bool {
	s.t.Helper()
	var ids []string
	s.ask("SELECT coalesce(array_agg(id::text), '{}') FROM argus.argus_audit_log", &ids)
	return setOf(ids)
}

func (s *site) clickhouse() clickhouse.Conn {
	s.t.Helper()
	options, err := clickhouse.ParseDSN(s.ch.AdminURL("argus"))
	if err != nil {
		s.t.Fatal(err)
	}
	conn, err := clickhouse.Open(options)
	if err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(func() { conn.Close() })
	return conn
}

// orphans are the calls that the replicator moved to audit_orphans.
func (s *site) orphans() map[string]bool {
	s.t.Helper()
	var ids []string
	if err := s.clickhouse().QueryRow(s.t.Context(), "SELECT groupArray(toString(id)) FROM audit_orphans").Scan(&ids); err != nil {
		s.t.Fatal(err)
	}
	if slices.Sort(ids); len(slices.Compact(slices.Clone(ids))) != len(ids) {
		s.t.Error("a call is an orphan twice")
	}
	return setOf(ids)
}

// orphanRows counts the orphans of all tables.
func (s *site) orphanRows() (n uint64) {
	s.t.Helper()
	if err := s.clickhouse().QueryRow(s.t.Context(), `SELECT (SELECT count() FROM audit_orphans) +
		(SELECT count() FROM compute_control_orphans) + (SELECT count() FROM remote_support_orphans)`).Scan(&n); err != nil {
		s.t.Fatal(err)
	}
	return n
}

func setOf(ids []string) map[string]bool {
	set := map[string]bool{}
	for _, id := range ids {
		set[id] = true
	}
	return set
}

func only(calls map[string]int) map[string]bool {
	return setOf(slices.Collect(maps.Keys(calls)))
}
