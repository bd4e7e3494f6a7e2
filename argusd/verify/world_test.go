package verify_test

import (
	"context"
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
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/useargus/argus"
	"github.com/useargus/argus/argusd/verify"
	"github.com/useargus/argus/connect"
	"github.com/useargus/argus/internal/engines/enginetest"
	"github.com/useargus/argus/ledger"
	"github.com/useargus/argus/proof"
	"github.com/useargus/argus/writer"
)

func TestMain(m *testing.M) { os.Exit(enginetest.Run(m)) }

const origin = "audit.test/argus"

// world is a log, its copy, and the sealer.
type world struct {
	t      testing.TB
	pg     *enginetest.Postgres
	ch     *enginetest.ClickHouse
	shards []*enginetest.ClickHouse // when several servers share the rows; ch is the first
	owner  *pgxpool.Pool
	copied clickhouse.Conn
	key    string
	vkey   proof.Key
}

func newWorld(t testing.TB) *world {
	w := &world{t: t, pg: enginetest.NewPostgres(t), ch: enginetest.NewClickHouse(t), key: filepath.Join(t.TempDir(), "key")}
	w.owner = w.pg.Pool(t, w.pg.OwnerURL)
	w.copied = w.ch.Conn(t, w.ch.MigrateURL)
	var err error
	if w.vkey, err = ledger.NewKeyFile(w.key, origin); err != nil {
		t.Fatal(err)
	}
	return w
}

func (w *world) must(err error) {
	w.t.Helper()
	if err != nil {
		w.t.Fatal(err)
	}
}

func (w *world) exec(sql string, args ...any) {
	w.t.Helper()
	if _, err := w.owner.Exec(context.Background(), sql, args...); err != nil {
		w.t.Fatalf("%s: %v", sql, err)
	}
}

// rows writes calls, with every column filled in every second of them.
func (w *world) rows(n int) {
	w.t.Helper()
	out, err := writer.New(writer.Config{URL: w.pg.APIURL, Lanes: 2, Logger: slog.New(slog.DiscardHandler)})
	w.must(err)
	ctx := context.Background()
	w.must(out.Start(ctx))
	for i := range n {
		now := time.Now()
		r := argus.Record{ID: uuid.Must(uuid.NewV7()), OccurredAt: argus.Micros(now), ActorID: "user_2ada", ActorKind: argus.KindPAT, Scope: "logs:read",
			Route: "GET /v1/tenants/:id", Method: "GET", Status: 200, Outcome: argus.Completed, LatencyUS: 1234, UserAgent: "argusctl/1.0",
			ClientIP: netip.MustParseAddr("192.0.2.7"), BodyBytes: 12, Service: argus.OwnService}
		if i%2 == 1 {
			r.ImpersonatorID, r.PATID, r.BreakGlassID = "user_2eve", uuid.New(), uuid.New()
			r.PathParams = []argus.PathParam{{Name: "id", Value: "UTD_7ELEVEN_001"}, {Name: "note", Value: "a \"quote\" — ☂"}}
			r.ClientIP, r.BodyHashed, r.BodySHA256 = netip.MustParseAddr("2001:db8::7"), true, [32]byte{1, 2, 3}
			r.ClientRequestID, r.TraceID, r.Release, r.ErrorCode = "req-1", strings.Repeat("ab", 16), "1.2", "conflict"
			r.Reason, r.Agent, r.Workload = "because", "robot/1", []argus.Claim{{Name: "repo", Value: "useargus/argus"}}
		}
		if i%5 == 4 {
			r.Outcome = argus.Interrupted
		}
		r.MakeStorable()
		w.must(out.Append(ctx, &r, false))
	}
	w.must(out.Close(ctx))
}

// steps writes a step of each domain table.
func (w *world) steps() {
	w.t.Helper()
	id := uuid.Must(uuid.NewV7())
	w.exec(`INSERT INTO argus.compute_control_audit (audit_id, step, at, actor_id, impersonator_id, action, worker_id, provider, reason, from_state, to_state, result, error)
		VALUES ($1, 1, clock_timestamp(), 'user_2ada', 'user_2eve', 'launch', 'w1', 'local', 'because', 'a', 'b', 'failed', 'boom')`, id)
	w.exec(`INSERT INTO argus.remote_support_audit (audit_id, step, at, actor_id, impersonator_id, action, tenant_id, session_id, reason, consent_document_id,
		consent_recorded_by, consent_recorded_at, result, error) VALUES ($1, 1, clock_timestamp(), 'user_2ada', 'user_2eve', 'arm', 'T1', gen_random_uuid(), 'because', 'DOC', 'maria',
		clock_timestamp(), 'requested', 'none')`, id)
}

// seal runs the sealer until everything there has its leaf below a checkpoint.
func (w *world) seal() {
	w.t.Helper()
	keys := &ledger.Keys{Origin: origin}
	w.must(keys.Add(w.key))
	s, err := ledger.New(ledger.Config{PostgresURL: w.pg.LedgerURL, Keys: keys, Anchor: w.key + ".anchor", Logger: slog.New(slog.DiscardHandler),
		Interval: 20 * time.Millisecond, LeaseTTL: time.Second})
	w.must(err)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = s.Run(ctx)
	}()
	defer func() {
		cancel()
		<-done
		s.Close()
	}()
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(20 * time.Millisecond) {
		var left int64
		w.must(w.owner.QueryRow(ctx, `SELECT (SELECT count(*) FROM argus.ledger_pending) + (SELECT coalesce(sum(seq), 0) FROM argus.audit_writers)
			- (SELECT coalesce(sum(leaves), 0) FROM argus.ledger_runs WHERE kind = 1)
			+ (SELECT coalesce(max(first_leaf + leaves), 0) FROM argus.ledger_runs) - (SELECT coalesce(max(size), 0) FROM argus.ledger_checkpoints)`).Scan(&left))
		if left == 0 {
			return
		}
		if time.Now().After(deadline) {
			w.t.Fatal("not everything was sealed")
		}
	}
}

// copyAll copies Postgres into ClickHouse, by ClickHouse's own types.
func (w *world) copyAll() {
	w.t.Helper()
	w.copy("audit_log", "compute_control_audit", "remote_support_audit", "ledger_runs", "ledger_checkpoints")
	w.claimAll()
}

// claimAll publishes the position of a copy that has every row of now.
func (w *world) claimAll() {
	w.t.Helper()
	var newest int64
	w.must(w.owner.QueryRow(context.Background(), "SELECT coalesce(max(writer_id), 0) FROM argus.audit_writers").Scan(&newest))
	w.claim(newest, nil)
}

func (w *world) claim(closedThrough int64, writers map[int64]int64) {
	w.t.Helper()
	ids, seqs := []int64{}, []int64{}
	for id, seq := range writers {
		ids, seqs = append(ids, id), append(seqs, seq)
	}
	w.must(w.copied.Exec(context.Background(), `INSERT INTO audit_watermark (version, closed_through, writers, seqs)
		SELECT max(version) + 1, ?, ?, ? FROM audit_watermark`, closedThrough, ids, seqs))
}

func (w *world) copy(tables ...string) {
	w.t.Helper()
	ctx := context.Background()
	for _, table := range tables {
		source := table
		if table == "audit_log" {
			source = "argus_audit_log"
		}
		rows, err := w.owner.Query(ctx, "SELECT * FROM argus."+source)
		w.must(err)
		var names []string
		for _, f := range rows.FieldDescriptions() {
			names = append(names, f.Name)
		}
		batch, err := w.copied.PrepareBatch(ctx, "INSERT INTO "+table+" ("+strings.Join(names, ", ")+")")
		w.must(err)
		for rows.Next() {
			values, err := rows.Values()
			w.must(err)
			for i, v := range values {
				switch v := v.(type) {
				case [16]byte:
					values[i] = uuid.UUID(v)
				case netip.Prefix:
					a := v.Addr().As16()
					values[i] = netip.AddrFrom16(a).Unmap()
				case []byte:
					values[i] = string(v)
				case map[string]any:
					m := map[string]string{}
					for name, value := range v {
						m[name] = value.(string)
					}
					values[i] = m
				case nil:
					if names[i] == "workload" {
						values[i] = map[string]string{}
					}
				}
			}
			w.must(batch.Append(values...))
		}
		w.must(rows.Err())
		w.must(batch.Send())
	}
}

func (w *world) options() verify.Options {
	return verify.Options{MaxAge: 10 * time.Minute, Open: func(note []byte) (proof.Checkpoint, error) { return proof.OpenCheckpoint(note, w.vkey) }}
}

// postgres and clickhouse verify a store.
func (w *world) postgres(o verify.Options) verify.Result {
	w.t.Helper()
	ctx := context.Background()
	s, err := verify.OpenPostgres(ctx, w.pg.AuditorURL)
	w.must(err)
	defer s.Close()
	r, err := verify.Run(ctx, s, o)
	w.must(err)
	return r
}

func (w *world) clickhouse(o verify.Options) verify.Result {
	w.t.Helper()
	r, err := w.clickhouseOf(o, w.copyOf(w.shards))
	w.must(err)
	return r
}

// copyOf is the copy whose rows these servers share.
func (w *world) copyOf(shards []*enginetest.ClickHouse) connect.Copy {
	if len(shards) == 0 {
		return connect.Copy{Shards: []string{w.ch.ReaderURL}}
	}
	c := connect.Copy{Name: "east"}
	for _, ch := range shards {
		c.Shards = append(c.Shards, ch.ReaderURL)
	}
	return c
}

func (w *world) clickhouseOf(o verify.Options, copied connect.Copy) (verify.Result, error) {
	w.t.Helper()
	ctx := context.Background()
	p, err := verify.OpenPostgres(ctx, w.pg.AuditorURL)
	w.must(err)
	defer p.Close()
	s, err := verify.OpenClickHouse(ctx, copied, p)
	if err != nil {
		return verify.Result{}, err
	}
	defer s.Close()
	return verify.Run(ctx, s, o)
}

func explain(r verify.Result) string {
	return fmt.Sprintf("%s %v, faults %v, counts %+v", r.Outcome, r.Reasons, r.Faults, r.Counts)
}
