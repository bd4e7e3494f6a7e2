//go:build bench

package analytics

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/ClickHouse/ch-go"
	"github.com/ClickHouse/ch-go/proto"
	"github.com/ClickHouse/clickhouse-go/v2"
	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/useargus/argus"
	"github.com/useargus/argus/internal/audittest"
	"github.com/useargus/argus/internal/engines"
	"github.com/useargus/argus/internal/traffic"
	"github.com/useargus/argus/migrations"
)

// bench is both stores with the same rows, all copied. Only ClickHouse has them where copyOnly is set.
type bench struct {
	rows     int
	copyOnly bool
	until    time.Time
	a        *Analytics
	pg       *pgxpool.Pool // superuser
	admin    clickhouse.Conn
	snapshot argus.Position

	server *engines.ClickHouse
	url    string // of ClickHouse, as argus_reader
	api    *pgxpool.Pool
}

const benchPassword = "bench"

func loadBench(t *testing.T, copyOnly bool) *bench {
	ctx := context.Background()
	dir, _ := benchDir(t)
	b := &bench{rows: benchRows(), copyOnly: copyOnly}
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	must(engines.Install(ctx))
	must(os.MkdirAll(dir, 0o711))
	must(os.Chmod(dir, 0o711))
	var users []engines.ClickHouseLogin
	for _, u := range migrations.ClickHouseUsers() {
		users = append(users, engines.ClickHouseLogin{ClickHouseUser: u, Password: benchPassword})
	}
	columnar, err := engines.StartClickHouse(ctx, engines.ClickHouseConfig{Dir: filepath.Join(dir, "clickhouse"), Users: users, MaxMemory: 6 << 30})
	must(err)
	t.Cleanup(func() { columnar.Stop(context.Background()) })
	b.server = columnar
	record, err := engines.StartPostgres(ctx, engines.PostgresConfig{Dir: filepath.Join(dir, "postgres"), Settings: map[string]string{
		"fsync": "off", "synchronous_commit": "off", "full_page_writes": "off", "shared_buffers": "1GB", "work_mem": "128MB",
		"maintenance_work_mem": "1GB", "effective_cache_size": "8GB", "max_wal_size": "8GB", "checkpoint_timeout": "30min",
	}})
	must(err)
	t.Cleanup(func() { record.Stop(context.Background()) })

	_, err = migrations.ClickHouse(ctx, columnar.AdminURL("argus"), "")
	must(err)
	o, err := clickhouse.ParseDSN(columnar.AdminURL("argus"))
	must(err)
	b.admin, err = clickhouse.Open(o)
	must(err)
	t.Cleanup(func() { b.admin.Close() })

	marker := filepath.Join(dir, fmt.Sprintf("loaded-%d", b.rows))
	text, err := os.ReadFile(marker)
	loaded := err == nil
	if !loaded {
		postgres, err := pgx.Connect(ctx, record.SuperuserURL("postgres"))
		must(err)
		_, err = postgres.Exec(ctx, "CREATE DATABASE argus")
		must(err)
		postgres.Close(ctx)
	}
	_, err = migrations.Postgres(ctx, record.SuperuserURL("argus"))
	must(err)
	must(engines.SetPostgresPassword(ctx, record.SuperuserURL("argus"), "argus_api", benchPassword))
	b.pg, err = pgxpool.New(ctx, record.SuperuserURL("argus"))
	must(err)
	t.Cleanup(b.pg.Close)
	if loaded {
		b.until, err = time.Parse(time.RFC3339Nano, string(text))
		must(err)
	} else {
		b.until = argus.Micros(time.Now()).Truncate(time.Second).Add(-123456 * time.Microsecond)
		b.load(t, columnar.AdminURL("argus"))
		must(os.WriteFile(marker, []byte(b.until.Format(time.RFC3339Nano)), 0o644))
	}
	api, err := pgxpool.New(ctx, record.URL("argus_api", benchPassword, "argus"))
	must(err)
	t.Cleanup(api.Close)
	b.start(t, columnar.NativeURL("argus_reader", benchPassword, "argus"), api)
	c, err := b.a.readCut(ctx, everything, nil)
	must(err)
	b.snapshot = c.Snapshot
	return b
}

const benchWriters = 8

// load makes the rows once and gives them to the stores at the same time.
func (b *bench) load(t *testing.T, clickhouseURL string) {
	ctx := context.Background()
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	for i := range 14 {
		_, err := b.pg.Exec(ctx, "SELECT argus.create_month($1::timestamptz - make_interval(months => $2))", b.until, i)
		must(err)
	}
	// Bulk loading goes without the secondary indexes; they are made again below, and those of the reference.
	_, err := b.pg.Exec(ctx, "DROP INDEX argus.argus_audit_log_order, argus.argus_audit_log_id")
	must(err)
	var writers [benchWriters]int64
	for i := range writers {
		must(b.pg.QueryRow(ctx, "SELECT argus.open_audit_writer($1, 0)", uuid.NewString()).Scan(&writers[i]))
	}
	batches := []chan []argus.Record{make(chan []argus.Record, 2)}
	if !b.copyOnly {
		batches = append(batches, make(chan []argus.Record, 2))
	}
	start := time.Now()
	var seqs [benchWriters]int64
	go func() {
		seqs = b.generate(writers, func(batch []argus.Record) {
			for _, c := range batches {
				c <- batch
			}
		})
		for _, c := range batches {
			close(c)
		}
	}()
	var g2 sync.WaitGroup
	errs := make([]error, 2)
	g2.Go(func() { errs[0] = copyToClickHouse(ctx, clickhouseURL, batches[0]) })
	if !b.copyOnly {
		g2.Go(func() { errs[1] = b.copyToPostgres(ctx, batches[1]) })
	}
	g2.Wait()
	must(errors.Join(errs...))
	t.Logf("%d rows loaded after %s", b.rows, time.Since(start).Round(time.Second))
	for i, id := range writers {
		_, err := b.pg.Exec(ctx, "UPDATE argus.audit_writers SET seq = $2 WHERE writer_id = $1", id, seqs[i])
		must(err)
	}
	batch, err := b.admin.PrepareBatch(ctx, "INSERT INTO audit_watermark (version, epoch, published_at, lsn, closed_through, writers, seqs)")
	must(err)
	must(batch.Append(uint64(1), uint64(1), time.Now(), uint64(0), writers[benchWriters-1], writers[:], seqs[:]))
	must(batch.Send())
	for _, q := range []string{
		"CREATE INDEX argus_audit_log_order ON argus.argus_audit_log (occurred_at, writer_id, seq)",
		"CREATE INDEX argus_audit_log_id ON argus.argus_audit_log (id)",
		"CREATE INDEX ON argus.argus_audit_log (actor_id, occurred_at)",
		"CREATE INDEX ON argus.argus_audit_log (route, occurred_at)",
		"CREATE INDEX ON argus.argus_audit_log (status, occurred_at)",
		"VACUUM ANALYZE argus.argus_audit_log",
	} {
		if b.copyOnly {
			break
		}
		_, err := b.pg.Exec(ctx, q)
		must(err)
	}
	b.merge(t, b.admin)
	t.Logf("indexed and merged after %s", time.Since(start).Round(time.Second))
}

// merge leaves days and months that are over as the tables' settings do, some hours later.
func (b *bench) merge(t *testing.T, admin clickhouse.Conn) {
	ctx := context.Background()
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	rows, err := admin.Query(ctx, `SELECT DISTINCT table, partition FROM system.parts WHERE active AND database = currentDatabase()
		AND match(table, '^audit_.*_(hours|days)$') AND max_time < ?`, b.until.Add(-24*time.Hour))
	must(err)
	var merges []string
	for rows.Next() {
		var table, partition string
		must(rows.Scan(&table, &partition))
		merges = append(merges, "OPTIMIZE TABLE "+table+" PARTITION "+partition+" FINAL")
	}
	must(rows.Err())
	for _, q := range merges {
		must(admin.Exec(ctx, q))
	}
}

// generate makes the rows of these writers, the same ones each time. It sets how many there are.
func (b *bench) generate(writers [benchWriters]int64, emit func([]argus.Record)) (seqs [benchWriters]int64) {
	g := traffic.New(traffic.Config{Seed: 1, Since: b.until.Add(-argus.Retention), Until: b.until, Rows: benchRows()})
	b.rows = 0
	for more := true; more; {
		batch := make([]argus.Record, 0, 100_000)
		for len(batch) < cap(batch) {
			batch = append(batch, argus.Record{})
			r := &batch[len(batch)-1]
			if more = g.Next(r); !more {
				batch = batch[:len(batch)-1]
				break
			}
			w := b.rows % benchWriters
			b.rows++
			seqs[w]++
			r.WriterID, r.Seq = writers[w], seqs[w]
			r.RecordedAt = argus.Micros(r.OccurredAt.Add(time.Duration(r.LatencyUS) * time.Microsecond))
			r.RowHash = r.ComputeHash()
		}
		emit(batch)
	}
	return seqs
}

func (b *bench) copyToPostgres(ctx context.Context, batches <-chan []argus.Record) error {
	for batch := range batches {
		_, err := b.pg.CopyFrom(ctx, pgx.Identifier{"argus", "argus_audit_log"}, argus.ColumnNames(),
			pgx.CopyFromSlice(len(batch), func(i int) ([]any, error) { return audittest.Values(&batch[i]), nil }))
		if err != nil {
			for range batches { // let the other store get what is left
			}
			return err
		}
	}
	return nil
}

// copyToClickHouse inserts block by block, as the replicator does.
func copyToClickHouse(ctx context.Context, url string, batches <-chan []argus.Record) error {
	o, err := clickhouse.ParseDSN(url)
	if err != nil {
		return err
	}
	c, err := ch.Dial(ctx, ch.Options{Address: o.Addr[0], User: o.Auth.Username, Password: o.Auth.Password, Database: o.Auth.Database, ReadTimeout: time.Minute})
	if err != nil {
		return err
	}
	defer c.Close()
	in := newInsertBlock()
	err = c.Do(ctx, ch.Query{
		Body: in.input.Into("audit_log"), Input: in.input,
		Settings: []ch.Setting{{Key: "max_partitions_per_insert_block", Value: "0"}, {Key: "async_insert", Value: "0"}},
		OnInput: func(context.Context) error {
			in.input.Reset()
			batch, more := <-batches
			if !more {
				return io.EOF
			}
			for i := range batch {
				in.append(&batch[i])
			}
			return nil
		},
	})
	for range batches {
	}
	return err
}

type insertBlock struct {
	input                                             proto.Input
	writer, seq, body                                 proto.ColInt64
	occurred, recorded                                *proto.ColDateTime64
	id                                                proto.ColUUID
	actor, kind, scope, route, method, outcome, agent *proto.ColLowCardinality[string]
	pat, glass                                        *proto.ColNullable[uuid.UUID]
	params                                            *proto.ColMap[string, string]
	status                                            *proto.ColNullable[int16]
	latency                                           *proto.ColNullable[int64]
	address                                           proto.ColIPv6
	digest, hash                                      *proto.ColFixedStr
	impersonator                                      *proto.ColNullable[string]
	request, trace, release, code, reason, program    *proto.ColNullable[string]
	service                                           *proto.ColLowCardinality[string]
	workload                                          *proto.ColMap[string, string]
}

func newInsertBlock() *insertBlock {
	text := func() *proto.ColLowCardinality[string] { return new(proto.ColStr).LowCardinality() }
	b := &insertBlock{
		occurred: new(proto.ColDateTime64).WithPrecision(6), recorded: new(proto.ColDateTime64).WithPrecision(6),
		actor: text(), kind: text(), scope: text(), route: text(), method: text(), outcome: text(), agent: text(),
		pat: new(proto.ColUUID).Nullable(), glass: new(proto.ColUUID).Nullable(),
		params: proto.NewMap[string, string](text(), new(proto.ColStr)),
		status: new(proto.ColInt16).Nullable(), latency: new(proto.ColInt64).Nullable(),
		digest: &proto.ColFixedStr{Size: 32}, hash: &proto.ColFixedStr{Size: 32},
		impersonator: new(proto.ColStr).Nullable(),
		request:      new(proto.ColStr).Nullable(), trace: new(proto.ColStr).Nullable(), service: text(),
		release: new(proto.ColStr).Nullable(), code: new(proto.ColStr).Nullable(), reason: new(proto.ColStr).Nullable(), program: new(proto.ColStr).Nullable(),
		workload: proto.NewMap[string, string](text(), new(proto.ColStr)),
	}
	b.input = proto.Input{{Name: "writer_id", Data: &b.writer}, {Name: "seq", Data: &b.seq}, {Name: "id", Data: &b.id},
		{Name: "occurred_at", Data: b.occurred}, {Name: "recorded_at", Data: b.recorded}, {Name: "actor_id", Data: b.actor},
		{Name: "impersonator_id", Data: b.impersonator}, {Name: "actor_kind", Data: b.kind}, {Name: "pat_id", Data: b.pat}, {Name: "break_glass_id", Data: b.glass},
		{Name: "scope", Data: b.scope}, {Name: "route", Data: b.route}, {Name: "path_params", Data: b.params},
		{Name: "method", Data: b.method}, {Name: "status", Data: b.status}, {Name: "outcome", Data: b.outcome},
		{Name: "latency_us", Data: b.latency}, {Name: "client_ip", Data: &b.address}, {Name: "user_agent", Data: b.agent},
		{Name: "body_sha256", Data: b.digest}, {Name: "body_bytes", Data: &b.body},
		{Name: "client_request_id", Data: b.request}, {Name: "trace_id", Data: b.trace},
		{Name: "service", Data: b.service}, {Name: "release", Data: b.release}, {Name: "error_code", Data: b.code}, {Name: "reason", Data: b.reason},
		{Name: "agent", Data: b.program}, {Name: "workload", Data: b.workload},
		{Name: "row_hash", Data: b.hash}}
	return b
}

func (b *insertBlock) append(r *argus.Record) {
	id := func(u uuid.UUID) proto.Nullable[uuid.UUID] {
		return proto.Nullable[uuid.UUID]{Set: u != uuid.Nil, Value: u}
	}
	text := func(s string) proto.Nullable[string] { return proto.Nullable[string]{Set: s != "", Value: s} }
	b.writer.Append(r.WriterID)
	b.seq.Append(r.Seq)
	b.id.Append(r.ID)
	b.occurred.Append(r.OccurredAt)
	b.recorded.Append(r.RecordedAt)
	b.actor.Append(r.ActorID)
	b.impersonator.Append(text(r.ImpersonatorID))
	b.kind.Append(string(r.ActorKind))
	b.pat.Append(id(r.PATID))
	b.glass.Append(id(r.BreakGlassID))
	b.scope.Append(r.Scope)
	b.route.Append(r.Route)
	params := make([]proto.KV[string, string], len(r.PathParams))
	for i, p := range r.PathParams {
		params[i] = proto.KV[string, string]{Key: p.Name, Value: p.Value}
	}
	b.params.AppendKV(params)
	b.method.Append(r.Method)
	completed := r.Outcome == argus.Completed
	b.status.Append(proto.Nullable[int16]{Set: completed, Value: r.Status})
	b.outcome.Append(string(r.Outcome))
	b.latency.Append(proto.Nullable[int64]{Set: completed, Value: r.LatencyUS})
	b.address.Append(proto.IPv6(r.ClientIP.As16()))
	b.agent.Append(r.UserAgent)
	b.digest.Append(r.BodySHA256[:])
	b.body.Append(r.BodyBytes)
	b.request.Append(text(r.ClientRequestID))
	b.trace.Append(text(r.TraceID))
	b.service.Append(r.Service)
	b.release.Append(text(r.Release))
	b.code.Append(text(r.ErrorCode))
	b.reason.Append(text(r.Reason))
	b.program.Append(text(r.Agent))
	claims := make([]proto.KV[string, string], len(r.Workload))
	for i, c := range r.Workload {
		claims[i] = proto.KV[string, string]{Key: c.Name, Value: c.Value}
	}
	b.workload.AppendKV(claims)
	b.hash.Append(r.RowHash[:])
}
