package verify_test

import (
	"fmt"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/ClickHouse/clickhouse-go/v2"

	"github.com/useargus/argus/internal/engines/enginetest"
	"github.com/useargus/argus/proof"
)

// TestShards: servers that share the rows are verified as one copy. Rows of one server that are altered, gone, or of another
// server too are told. Rows that are on their way to one server are not, and no server is passed over.
func TestShards(t *testing.T) {
	w := newWorld(t)
	w.shards = enginetest.StartOwnShards(t, 3, map[string]string{"skip_unavailable_shards": "1"})
	w.ch = w.shards[0]
	var servers []clickhouse.Conn
	for _, ch := range w.shards {
		servers = append(servers, ch.Conn(t, ch.MigrateURL))
	}
	on := func(i int, sql string, args ...any) {
		t.Helper()
		w.must(servers[i].Exec(t.Context(), fmt.Sprintf(sql, args...)))
	}
	// share copies everything of now to these servers, each its own writers' rows. The first has what has no writer.
	share := func(to ...int) {
		t.Helper()
		var newest int64
		var ids []int64
		w.must(w.owner.QueryRow(t.Context(), "SELECT max(writer_id), array_agg(writer_id ORDER BY writer_id) FROM argus.audit_writers").Scan(&newest, &ids))
		for _, i := range to {
			w.copied = servers[i]
			tables := []string{"audit_log"}
			if i == 0 {
				tables = append(tables, "compute_control_audit", "remote_support_audit", "ledger_runs", "ledger_checkpoints")
			}
			for _, table := range tables {
				on(i, "TRUNCATE TABLE %s", table)
				w.copy(table)
			}
			on(i, "ALTER TABLE audit_log DELETE WHERE indexOf(%s, writer_id) %% 3 != %d SETTINGS mutations_sync = 2", strings.Join(strings.Fields(fmt.Sprint(ids)), ", "), i)
			w.claim(newest, nil)
		}
	}
	for range 3 {
		w.rows(10) // of two writers
	}
	w.steps()
	w.seal()
	share(0, 1)
	if r := w.clickhouse(w.options()); r.Outcome != proof.Undecided {
		t.Errorf("one of three has published nothing: %s", explain(r))
	}
	share(2)
	whole := w.clickhouse(w.options())
	if whole.Outcome != proof.Proven || whole.Counts.Rows != whole.Counts.Leaves || whole.Checkpoint.Root != w.postgres(w.options()).Checkpoint.Root {
		t.Fatal("untouched: ", explain(whole))
	}
	disproved := func(what string) {
		t.Helper()
		if r := w.clickhouse(w.options()); r.Outcome != proof.Disproved {
			t.Errorf("%s: %s", what, explain(r))
		}
	}
	for i := range servers {
		on(i, "ALTER TABLE audit_log UPDATE body_bytes = body_bytes + 1 WHERE seq = 2 SETTINGS mutations_sync = 2")
		disproved(fmt.Sprint("a row altered on server ", i+1))
		on(i, "ALTER TABLE audit_log DELETE WHERE seq = 2 SETTINGS mutations_sync = 2")
		disproved(fmt.Sprint("a row gone from server ", i+1))
		share(i)
	}
	w.copied = servers[2]
	w.copy("audit_log")
	on(2, "ALTER TABLE audit_log DELETE WHERE seq != 1 SETTINGS mutations_sync = 2")
	disproved("rows of the others on the third server")
	share(2)
	if r := w.clickhouse(w.options()); r.Outcome != proof.Proven {
		t.Fatal("put back: ", explain(r))
	}

	// The third server stands still, while the others have all and the tree goes on.
	for range 3 {
		w.rows(10)
	}
	w.seal()
	share(0, 1)
	r := w.clickhouse(w.options())
	if r.Outcome != proof.Proven || r.Checkpoint.Size != whole.Checkpoint.Size {
		t.Errorf("a server stands still: %s, of %d leaves", explain(r), r.Checkpoint.Size)
	}
	o := w.options()
	o.Now = func() time.Time { return time.Now().Add(time.Hour) }
	if r := w.clickhouse(o); r.Outcome != proof.Undecided {
		t.Errorf("a server has stood still for an hour: %s", explain(r))
	}
	share(2)
	if r := w.clickhouse(w.options()); r.Outcome != proof.Proven || r.Checkpoint.Size <= whole.Checkpoint.Size {
		t.Errorf("the server goes on: %s", explain(r))
	}

	if _, err := w.clickhouseOf(w.options(), w.copyOf(w.shards[:2])); err == nil || !strings.Contains(err.Error(), "run argusd migrate") {
		t.Errorf("two of three servers: %v", err)
	}
	w.must(w.shards[1].Engine().Kill(syscall.SIGKILL))
	if r, err := w.clickhouseOf(w.options(), w.copyOf(w.shards)); err == nil {
		t.Errorf("a server is away: %s", explain(r))
	}
}
