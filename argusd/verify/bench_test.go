//go:build bench

package verify_test

import (
	"context"
	"fmt"
	"net/netip"
	"os"
	"strconv"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/useargus/argus"
	"github.com/useargus/argus/internal/traffic"
	"github.com/useargus/argus/proof"
)

// figure prints a line of make bench's table.
func figure(name, ours, target string, ok bool) {
	verdict := "ok"
	if !ok {
		verdict = "MISS"
	}
	fmt.Printf("FIGURE\t%s\t%s\t–\t–\t%s\t%s\n", name, ours, target, verdict)
}

// TestBenchVerify: each row of both stores is hashed and held against the tree. ARGUS_BENCH_VERIFY_ROWS says of how many.
func TestBenchVerify(t *testing.T) {
	rows := 2_000_000
	if n, err := strconv.Atoi(os.Getenv("ARGUS_BENCH_VERIFY_ROWS")); err == nil && n > 0 {
		rows = n
	}
	w := newWorld(t)
	w.load(rows)
	w.seal()
	w.copyAll()
	var stored uint64
	w.must(w.copied.QueryRow(context.Background(), `SELECT sum(bytes_on_disk) FROM system.parts WHERE active AND database = currentDatabase()
		AND table IN ('ledger_runs', 'ledger_checkpoints')`).Scan(&stored))
	each := float64(stored) / float64(rows)
	figure("ledger: bytes a row in ClickHouse", fmt.Sprintf("%.1f", each), "≤ 40", stored > 0 && each <= 40)
	for _, store := range []struct {
		name   string
		target float64
	}{{"Postgres", 400_000}, {"ClickHouse", 1_000_000}} {
		r := w.postgres(w.options())
		if store.name == "ClickHouse" {
			r = w.clickhouse(w.options())
		}
		if r.Outcome != proof.Proven {
			t.Fatal(store.name, explain(r))
		}
		rate := float64(r.Counts.Rows) / r.Elapsed.Seconds()
		figure(fmt.Sprintf("verify %.1f M rows straight at %s", float64(rows)/1e6, store.name), fmt.Sprintf("%.0f rows/s", rate),
			fmt.Sprintf("≥ %.1f M rows/s on two cores", store.target/1e6), rate >= store.target)
	}
}

// load copies made-up calls into Postgres, as rows of one writer, and the same into ClickHouse's own table by copyAll.
func (w *world) load(rows int) {
	w.t.Helper()
	ctx := context.Background()
	w.exec("ALTER TABLE argus.argus_audit_log DISABLE TRIGGER USER")
	now := argus.Micros(time.Now())
	g := traffic.New(traffic.Config{Seed: 1, Since: now.Add(-20 * 24 * time.Hour), Until: now, Rows: rows})
	n := int64(0)
	columns := argus.ColumnNames()
	var r argus.Record
	made, err := w.owner.CopyFrom(ctx, pgx.Identifier{"argus", "argus_audit_log"}, columns, pgx.CopyFromFunc(func() ([]any, error) {
		if !g.Next(&r) {
			return nil, nil
		}
		n++
		r.WriterID, r.Seq, r.RecordedAt = 1000, n, argus.Micros(r.OccurredAt.Add(time.Millisecond))
		r.MakeStorable()
		r.RowHash = r.ComputeHash()
		return values(&r), nil
	}))
	w.must(err)
	w.exec("INSERT INTO argus.audit_writers (writer_id, process_id, lane, seq) VALUES (1000, gen_random_uuid(), 0, $1)", made)
	w.exec("ALTER TABLE argus.argus_audit_log ENABLE TRIGGER USER")
	w.exec("ANALYZE argus.argus_audit_log")
}

// values are the row's columns as pgx takes them.
func values(r *argus.Record) []any {
	opt := func(s string) any {
		if s == "" {
			return nil
		}
		return s
	}
	id := func(u uuid.UUID) any {
		if u == uuid.Nil {
			return nil
		}
		return u
	}
	var status, latency, body, workload any
	if r.Outcome == argus.Completed {
		status, latency = r.Status, r.LatencyUS
	}
	if r.BodyHashed {
		body = r.BodySHA256[:]
	}
	if len(r.Workload) > 0 {
		workload = string(r.AppendWorkload(nil))
	}
	return []any{r.WriterID, r.Seq, r.ID, r.OccurredAt, r.RecordedAt, r.ActorID, opt(r.ImpersonatorID), string(r.ActorKind), id(r.PATID), id(r.BreakGlassID),
		r.Scope, r.Route, string(r.AppendPathParams(nil)), r.Method, status, string(r.Outcome), latency, netip.PrefixFrom(r.ClientIP, r.ClientIP.BitLen()), r.UserAgent,
		body, r.BodyBytes, opt(r.ClientRequestID), opt(r.TraceID), r.Service, opt(r.Release), opt(r.ErrorCode), opt(r.Reason), opt(r.Agent), workload, r.RowHash[:]}
}
