package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/ClickHouse/clickhouse-go/v2"
	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/useargus/argus"
	"github.com/useargus/argus/internal/engines/enginetest"
	"github.com/useargus/argus/ledger"
	"github.com/useargus/argus/writer"
)

// sealedLog is a log that argusd ledger seals, with a copy of its ledger in ClickHouse.
type sealedLog struct {
	*testing.T
	pg     *enginetest.Postgres
	owner  *pgxpool.Pool
	copied clickhouse.Conn
}

func (l *sealedLog) must(err error) {
	l.Helper()
	if err != nil {
		l.Fatal(err)
	}
}

// argusd runs argusd ledger in this process and gives what it says, and how it ends.
func (l *sealedLog) argusd(ctx context.Context, args ...string) (string, error) {
	command := newLedgerCommand()
	var out bytes.Buffer
	command.SetArgs(args)
	command.SetOut(&out)
	command.SetErr(&out)
	command.SilenceUsage, command.SilenceErrors = true, true
	err := command.ExecuteContext(ctx)
	return out.String(), err
}

// seal runs argusd ledger seal until stopped.
func (l *sealedLog) seal(args ...string) (stop func()) {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() {
		_, err := l.argusd(ctx, append([]string{"seal"}, args...)...)
		done <- err
	}()
	ended := false
	stop = func() {
		if !ended {
			ended = true
			cancel()
			if err := <-done; err != nil {
				l.Errorf("argusd ledger seal: %v", err)
			}
		}
	}
	l.Cleanup(stop)
	return stop
}

func (l *sealedLog) number(sql string, args ...any) (n int64) {
	l.Helper()
	l.must(l.owner.QueryRow(context.Background(), sql, args...).Scan(&n))
	return n
}

func (l *sealedLog) await(what string, done func() bool) {
	l.Helper()
	l.must(eventually(bound, func() error {
		if !done() {
			return fmt.Errorf("waited in vain for %s; the ledger says %s", what, l.status())
		}
		return nil
	}))
}

func (l *sealedLog) status() (s string) {
	l.Helper()
	l.must(l.owner.QueryRow(context.Background(), "SELECT coalesce((SELECT status::text FROM argus.ledger_status), '')").Scan(&s))
	return s
}

// sealed waits until all rows have their leaf below a checkpoint, and gives its size.
func (l *sealedLog) sealed() int64 {
	l.Helper()
	l.await("all leaves", func() bool {
		return l.number(`SELECT (SELECT count(*) FROM argus.ledger_pending)
			+ (SELECT count(*) FROM argus.argus_audit_log a WHERE NOT EXISTS (SELECT FROM argus.ledger_runs r
			   WHERE r.kind = 1 AND r.writer_id = a.writer_id AND a.seq BETWEEN r.first_seq AND r.first_seq + r.leaves - 1))
			+ (SELECT coalesce(max(first_leaf + leaves), 0) FROM argus.ledger_runs) - (SELECT coalesce(max(size), 0) FROM argus.ledger_checkpoints)`) == 0
	})
	return l.number("SELECT max(size) FROM argus.ledger_checkpoints")
}

// rows writes calls.
func (l *sealedLog) rows(n int) {
	l.Helper()
	w, err := writer.New(writer.Config{URL: l.pg.APIURL, Lanes: 1, Logger: slog.New(slog.DiscardHandler)})
	l.must(err)
	ctx := context.Background()
	l.must(w.Start(ctx))
	for range n {
		r := argus.Record{ID: uuid.Must(uuid.NewV7()), OccurredAt: argus.Micros(time.Now()), ActorID: "user_2ada", ActorKind: argus.KindPAT, Scope: "logs:read",
			Route: "GET /v1/health", Method: "GET", Status: 200, Outcome: argus.Completed, ClientIP: netip.MustParseAddr("192.0.2.7"), Service: argus.OwnService}
		r.MakeStorable()
		l.must(w.Append(ctx, &r, false))
	}
	l.must(w.Close(ctx))
}

// copy brings the ledger to ClickHouse, as the replicator does.
func (l *sealedLog) copy() {
	l.Helper()
	ctx := context.Background()
	rows, err := l.owner.Query(ctx, "SELECT first_leaf, leaves, kind, month, writer_id, first_seq, keys, digests FROM argus.ledger_runs ORDER BY 1")
	l.must(err)
	batch, err := l.copied.PrepareBatch(ctx, "INSERT INTO ledger_runs (first_leaf, leaves, kind, month, writer_id, first_seq, keys, digests)")
	l.must(err)
	var first int64
	var leaves int32
	var kind, month int16
	var writer, seq *int64
	var keys *[]byte
	var digests []byte
	_, err = pgx.ForEachRow(rows, []any{&first, &leaves, &kind, &month, &writer, &seq, &keys, &digests}, func() error {
		var key *string
		if keys != nil {
			text := string(*keys)
			key = &text
		}
		return batch.Append(first, leaves, kind, month, writer, seq, key, string(digests))
	})
	l.must(err)
	l.must(batch.Send())
	rows, err = l.owner.Query(ctx, "SELECT size, root, note, position, sealed_at FROM argus.ledger_checkpoints ORDER BY 1")
	l.must(err)
	batch, err = l.copied.PrepareBatch(ctx, "INSERT INTO ledger_checkpoints (size, root, note, position, sealed_at)")
	l.must(err)
	var root []byte
	var note, position string
	var at time.Time
	_, err = pgx.ForEachRow(rows, []any{&first, &root, &note, &position, &at}, func() error { return batch.Append(first, string(root), note, position, at) })
	l.must(err)
	l.must(batch.Send())
}

// restore makes Postgres what it was at a checkpoint.
func (l *sealedLog) restore(size int64, seqs map[int64]int64) {
	l.Helper()
	ctx := context.Background()
	conn, err := pgx.Connect(ctx, l.pg.SuperuserURL)
	l.must(err)
	defer conn.Close(ctx)
	exec := func(sql string, args ...any) {
		l.Helper()
		_, err := conn.Exec(ctx, sql, args...)
		l.must(err)
	}
	exec("SET session_replication_role = replica")
	exec("DELETE FROM argus.ledger_checkpoints WHERE size > $1", size)
	exec("DELETE FROM argus.ledger_runs WHERE first_leaf >= $1", size)
	exec("DELETE FROM argus.ledger_status")
	for writer, seq := range seqs {
		exec("DELETE FROM argus.argus_audit_log WHERE writer_id = $1 AND seq > $2", writer, seq)
	}
	exec("DELETE FROM argus.argus_audit_log WHERE NOT writer_id = ANY ($1)", keysOf(seqs))
	exec("DELETE FROM argus.audit_writers WHERE NOT writer_id = ANY ($1)", keysOf(seqs))
}

func keysOf(m map[int64]int64) (keys []int64) {
	for k := range m {
		keys = append(keys, k)
	}
	return keys
}

// TestLedgerRecovers plays the restore of an old backup by the commands of argusd. The anchor file and the mirror are lost,
// so ClickHouse's copy alone remembers. The sealer signs nothing, says fork, and goes on when the leaves are back.
func TestLedgerRecovers(t *testing.T) {
	pg, ch := enginetest.NewPostgres(t), enginetest.NewClickHouse(t)
	l := &sealedLog{T: t, pg: pg, owner: pg.Pool(t, pg.OwnerURL), copied: ch.Conn(t, ch.MigrateURL)}
	dir := t.TempDir()
	anchor, key := filepath.Join(dir, "anchor"), filepath.Join(dir, "key")
	public, err := ledger.NewKeyFile(key, "audit.test/argus")
	l.must(err)
	for name, value := range map[string]string{"ARGUS_POSTGRES_URL": pg.LedgerURL, "ARGUS_CLICKHOUSE_URL": ch.ReaderURL, "ARGUS_LEDGER_ORIGIN": "audit.test/argus",
		"ARGUS_LEDGER_KEY": key, "ARGUS_LEDGER_ANCHOR": anchor, "ARGUS_LEDGER_LISTEN": "", "ARGUS_METRICS_LISTEN": "", "ARGUS_LOG_LEVEL": "error"} {
		t.Setenv(name, value)
	}
	l.rows(40)
	stop := l.seal()
	backup := l.sealed()
	seqs := map[int64]int64{}
	rows, err := l.owner.Query(t.Context(), "SELECT writer_id, seq FROM argus.audit_writers")
	l.must(err)
	var writer, seq int64
	_, err = pgx.ForEachRow(rows, []any{&writer, &seq}, func() error { seqs[writer] = seq; return nil })
	l.must(err)
	l.rows(25)
	signed := l.sealed()
	stop()
	l.copy()

	l.restore(backup, seqs)
	l.must(os.Remove(anchor))
	nothing := func(when string) {
		t.Helper()
		if n := l.number("SELECT max(size) FROM argus.ledger_checkpoints"); n != backup {
			t.Fatalf("%s: a checkpoint of %d leaves was signed after the restore to %d", when, n, backup)
		}
		if n := l.number("SELECT max(first_leaf + leaves) FROM argus.ledger_runs"); n != backup {
			t.Fatalf("%s: there are %d leaves after the restore to %d", when, n, backup)
		}
	}
	stop = l.seal()
	l.await("a sealer without a memory to stop", func() bool { return strings.Contains(l.status(), "--adopt") })
	stop()
	t.Setenv("ARGUS_CLICKHOUSE_URL", "clickhouse://argus_reader:x@127.0.0.1:1/argus")
	stop = l.seal("--adopt")
	l.await("a sealer whose only memory is away to stop", func() bool { return strings.Contains(l.status(), "ClickHouse cannot be asked") })
	stop()
	t.Setenv("ARGUS_CLICKHOUSE_URL", ch.ReaderURL)
	nothing("with no memory")
	l.seal("--adopt")
	l.await("the fork", func() bool {
		s := l.status()
		return strings.Contains(s, `"forked"`) && strings.Contains(s, fmt.Sprintf("ClickHouse knows a checkpoint of %d", signed))
	})
	l.rows(10) // calls go on
	time.Sleep(300 * time.Millisecond)
	nothing("forked")

	recover := func(want string, args ...string) {
		t.Helper()
		said, err := l.argusd(t.Context(), append([]string{"recover"}, args...)...)
		if err != nil {
			said = err.Error()
		}
		if !strings.Contains(said, want) {
			t.Errorf("argusd ledger recover %q: %s, %v", args, said, err)
		}
	}
	recover("from", "--reason", "x")
	recover("reason", "--from", "clickhouse")
	recover("would be put back", "--from", "clickhouse", "--check")
	damage := fmt.Sprintf("ALTER TABLE ledger_runs UPDATE digests = concat(char(bitXor(reinterpretAsUInt8(substring(digests, 1, 1)), 4)), substring(digests, 2)) WHERE first_leaf >= %d AND kind = 1 SETTINGS mutations_sync = 2", backup)
	l.must(l.copied.Exec(t.Context(), damage))
	recover("root", "--from", "clickhouse", "--reason", "of a damaged copy")
	nothing("recovered from a damaged copy")
	l.must(l.copied.Exec(t.Context(), damage)) // and back
	t.Setenv("ARGUS_LEDGER_KEY", filepath.Join(dir, "another"))
	_, err = ledger.NewKeyFile(filepath.Join(dir, "another"), "audit.test/argus")
	l.must(err)
	recover("no key", "--from", "clickhouse", "--reason", "with another key")
	t.Setenv("ARGUS_LEDGER_KEY", key)
	nothing("recovered with another key")
	recover("are put back", "--from", "clickhouse", "--reason", "restored the backup of 02:00")
	l.await("the sealer to go on", func() bool { return strings.Contains(l.status(), `"sealing"`) })
	if size := l.sealed(); size <= signed {
		t.Errorf("the ledger goes on at %d leaves after %d", size, signed)
	}
	recover("has more", "--from", "clickhouse", "--reason", "again")

	t.Setenv("ARGUS_POSTGRES_URL", pg.AuditorURL)
	_, err = l.argusd(t.Context(), "verify", "--store", "postgres", "--key", public.String())
	var exit *exitError
	if !errors.As(err, &exit) || exit.code != 9 || !strings.Contains(err.Error(), "declares it lost") {
		t.Errorf("verified after the recovery: %v", err)
	}
	if _, err = l.argusd(t.Context(), "verify", "--store", "postgres", "--key", public.String(), "--accept-loss", fmt.Sprintf("%d..%d", backup, signed-1)); err != nil {
		t.Errorf("verified, with the loss accepted: %v", err)
	}
}
