package replicator

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	clickhousego "github.com/ClickHouse/clickhouse-go/v2"
	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/useargus/argus"
	"github.com/useargus/argus/internal/audittest"
	"github.com/useargus/argus/internal/engines"
	"github.com/useargus/argus/internal/engines/enginetest"
)

// world is both stores, with a log written to Postgres as the API writes it.
type world struct {
	t    testing.TB
	pg   *enginetest.Postgres
	ch   *enginetest.ClickHouse
	api  *pgxpool.Pool
	copy clickhousego.Conn // as the administrator
	logs string

	super *pgxpool.Pool // nil until it is used

	postgresURL, clickhouseURL string // as the replicator sees them; a proxy's maybe
	change                     func(*Config)
	shard                      int // of the copy "three"; 0 for all of the log
}

func newWorld(t testing.TB) *world {
	return prepare(&world{t: t, pg: enginetest.NewPostgres(t), ch: enginetest.NewClickHouse(t)})
}

// newOwnWorld has engines of its own, to be killed.
func newOwnWorld(t testing.TB, pg engines.PostgresConfig) *world {
	return prepare(&world{
		t: t, pg: enginetest.StartOwnPostgres(t, pg), ch: enginetest.StartOwnClickHouse(t, engines.ClickHouseConfig{}),
	})
}

// testRollups are fed beside those of the migrations: by day and by month, sums and states.
var testRollups = []string{
	`CREATE TABLE test_by_minute (
	   minute DateTime('UTC'), route LowCardinality(String), client LowCardinality(String), n UInt64, latency Int64
	 ) ENGINE = SummingMergeTree PARTITION BY toYYYYMMDD(minute) ORDER BY (minute, route, client)`,
	`CREATE MATERIALIZED VIEW test_by_minute_view TO test_by_minute AS
	 SELECT toStartOfMinute(occurred_at) AS minute, route, client, count() AS n, sum(latency_us) AS latency
	   FROM audit_log WHERE outcome = 'completed' GROUP BY minute, route, client`,
	`CREATE TABLE test_by_day (
	   day DateTime('UTC'), actor_id LowCardinality(String), n SimpleAggregateFunction(sum, UInt64),
	   worst SimpleAggregateFunction(max, Int64), actors AggregateFunction(uniqExact, String)
	 ) ENGINE = AggregatingMergeTree PARTITION BY toYYYYMM(day) ORDER BY (day, actor_id)`,
	`CREATE MATERIALIZED VIEW test_by_day_view TO test_by_day AS
	 SELECT toStartOfDay(occurred_at) AS day, actor_id, count() AS n, max(coalesce(latency_us, 0)) AS worst,
	        uniqExactState(CAST(route, 'String')) AS actors
	   FROM audit_log GROUP BY day, actor_id`,
}

func prepare(w *world) *world {
	w.t.Helper()
	w.api = w.pg.Pool(w.t, w.pg.LoaderURL(w.t)) // its rows are of any time
	w.copy = w.ch.Conn(w.t, w.ch.MigrateURL)
	w.postgresURL, w.clickhouseURL = w.pg.ReplicatorURL, w.ch.ReplicatorURL
	w.logs = filepath.Join(w.t.TempDir(), "replicator.log")
	w.makeRollups()
	w.t.Cleanup(func() {
		if w.t.Failed() {
			data, _ := os.ReadFile(w.logs)
			w.t.Logf("replicators' log:\n%s", data[max(0, len(data)-20000):])
		}
	})
	// The slot must go before the database can.
	w.t.Cleanup(func() {
		if w.pg.Engine() == nil {
			w.dropSlot()
		}
	})
	return w
}

func (w *world) makeRollups() {
	w.t.Helper()
	for _, q := range testRollups {
		w.must(w.copy.Exec(w.ctx(), q))
	}
}

func (w *world) dropSlot() {
	w.t.Helper()
	super, err := pgx.Connect(w.ctx(), w.pg.SuperuserURL)
	w.must(err)
	defer super.Close(w.ctx())
	for range 200 {
		var left int
		w.must(super.QueryRow(w.ctx(), `SELECT count(pg_terminate_backend(active_pid)) FROM pg_replication_slots
			WHERE (slot_name = $1 OR starts_with(slot_name, $1 || '_')) AND active_pid IS NOT NULL`, w.slot()).Scan(&left))
		if left == 0 {
			break
		}
		time.Sleep(10 * time.Millisecond)
	}
	_, err = super.Exec(w.ctx(), "SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots WHERE slot_name = $1 OR starts_with(slot_name, $1 || '_')", w.slot())
	w.must(err)
}

func (w *world) slot() string {
	if w.shard > 0 {
		return fmt.Sprint(w.pg.Database, "_three_", w.shard)
	}
	return w.pg.Database
}

func (w *world) config() Config {
	c := Config{PostgresURL: w.postgresURL, ClickHouseURL: w.clickhouseURL, Slot: w.slot(), CheckEvery: -1}
	if w.shard > 0 {
		c.Copy, c.Shard, c.Shards, c.Publication = "three", w.shard, 3, fmt.Sprint("argus_three_", w.shard)
	}
	if w.change != nil {
		w.change(&c)
	}
	return c
}

func (w *world) ctx() context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Minute)
	w.t.Cleanup(cancel)
	return ctx
}

func (w *world) must(err error) {
	w.t.Helper()
	if err != nil {
		w.t.Fatal(err)
	}
}

func (w *world) logFile() *os.File {
	f, err := os.OpenFile(w.logs, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	w.must(err)
	return f
}

func (w *world) logger() *slog.Logger {
	f := w.logFile()
	w.t.Cleanup(func() { f.Close() })
	return slog.New(slog.NewTextHandler(f, nil))
}

// lane is one writer of the API: it numbers its rows and commits them in batches.
type lane struct {
	w      *world
	id     int64
	seq    int64
	random *rand.Rand
}

func (w *world) openLane() *lane {
	w.t.Helper()
	l := &lane{w: w}
	w.must(w.api.QueryRow(w.ctx(), "SELECT argus.open_audit_writer($1, 0)", uuid.New()).Scan(&l.id))
	l.random = rand.New(rand.NewPCG(uint64(l.id), 1))
	return l
}

func (l *lane) close() {
	l.w.t.Helper()
	_, err := l.w.api.Exec(l.w.ctx(), "UPDATE argus.audit_writers SET closed_at = now() WHERE writer_id = $1", l.id)
	l.w.must(err)
}

// write commits n rows that occurred at about the time.
func (l *lane) write(n int, at time.Time) {
	l.w.t.Helper()
	l.w.must(l.commit(n, at, nil))
}

func (l *lane) commit(n int, at time.Time, more func(pgx.Tx, []argus.Record) error) error {
	records := make([]argus.Record, n)
	for i := range records {
		records[i] = l.record(at.Add(time.Duration(i) * 37 * time.Microsecond))
	}
	ctx := l.w.ctx()
	err := pgx.BeginFunc(ctx, l.w.api, func(tx pgx.Tx) error {
		tag, err := tx.Exec(ctx, `UPDATE argus.audit_writers SET seq = seq + $3
			WHERE writer_id = $1 AND seq = $2 AND closed_at IS NULL`, l.id, l.seq, n)
		if err == nil && tag.RowsAffected() != 1 {
			err = fmt.Errorf("the lane %d is fenced", l.id)
		}
		if err != nil {
			return err
		}
		for i := range records {
			records[i].Seq = l.seq + int64(i) + 1
			records[i].RowHash = records[i].ComputeHash()
		}
		_, err = tx.CopyFrom(ctx, pgx.Identifier{"argus", "argus_audit_log"}, argus.ColumnNames(),
			pgx.CopyFromSlice(n, func(i int) ([]any, error) { return audittest.Values(&records[i]), nil }))
		if err == nil && more != nil {
			err = more(tx, records)
		}
		return err
	})
	if err == nil {
		l.seq += int64(n)
	}
	return err
}

var routes = []string{"GET /v1/tenants/:id", "GET /v1/health", "POST /compute/ops/launch", "GET (unmatched)", "GET /v1/audit-log"}

func (l *lane) record(at time.Time) argus.Record {
	r := l.random
	actor := r.IntN(20)
	rec := argus.Record{
		WriterID: l.id, ID: uuidAt(at, r), OccurredAt: argus.Micros(at), RecordedAt: argus.Micros(at.Add(time.Millisecond)),
		ActorID: fmt.Sprintf("user_%d", actor), ActorKind: argus.KindPAT, PATID: uuid.UUID{15: byte(actor) + 1},
		Scope: "tenants:read", Route: routes[r.IntN(len(routes))], Method: "GET",
		Status: int16(200 + r.IntN(4)*100), Outcome: argus.Completed, LatencyUS: int64(r.IntN(1e6)),
		ClientIP:  netip.AddrFrom4([4]byte{10, 0, byte(r.IntN(256)), byte(r.IntN(256))}),
		UserAgent: fmt.Sprintf("argusctl/1.%d (linux)", r.IntN(9)), BodyHashed: true, BodySHA256: sha256.Sum256(nil),
		PathParams: []argus.PathParam{{Name: "id", Value: fmt.Sprintf("UTD_%d", r.IntN(100))}},
	}
	switch r.IntN(10) {
	case 0:
		rec.Outcome, rec.Status, rec.LatencyUS = argus.Interrupted, 0, 0
	case 1:
		rec.ActorKind, rec.PATID, rec.ImpersonatorID = argus.KindClerkSession, uuid.Nil, "user_boss"
		rec.ClientIP = netip.MustParseAddr("2001:db8::17")
		rec.PathParams = []argus.PathParam{{Name: "worker", Value: `a "quoted" \ value` + "\t☃"}, {Name: "id", Value: "ö"}, {Name: "z", Value: ""}}
	case 2:
		rec.BodyHashed, rec.BodyBytes, rec.PathParams = false, argus.MaxBody+1, nil
		rec.ClientRequestID, rec.TraceID = "req-"+rec.ID.String(), strings.Repeat("ab", 16)
		rec.ActorKind, rec.PATID, rec.BreakGlassID = argus.KindBreakGlass, uuid.Nil, uuid.UUID{14: 1, 15: byte(actor)}
	}
	switch r.IntN(6) {
	case 0:
		rec.Service, rec.Release, rec.ErrorCode = "billing", fmt.Sprintf("2026.%d", r.IntN(4)), "service_timeout"
	case 1:
		rec.Service, rec.Reason, rec.Agent = "deploys", "=cmd() ☃ \"why\"", "claude/4"
	case 2:
		rec.ActorKind, rec.PATID, rec.BreakGlassID = argus.KindWorkload, uuid.Nil, uuid.Nil
		rec.Release, rec.Workload = argus.Version, []argus.Claim{{Name: "repository", Value: "acme/ops"}, {Name: "ref", Value: `refs/"heads"`}, {Name: "é", Value: ""}}
	}
	if r.IntN(5) == 0 {
		rec.BodySHA256 = [32]byte{1, 0, 3} // ends with zeros
	}
	rec.MakeStorable()
	return rec
}

func uuidAt(at time.Time, r *rand.Rand) uuid.UUID {
	var u uuid.UUID
	ms := uint64(at.UnixMilli())
	for i := range 6 {
		u[i] = byte(ms >> (40 - 8*i))
	}
	for i := 6; i < 16; i++ {
		u[i] = byte(r.Uint32())
	}
	u[6], u[8] = u[6]&0x0f|0x70, u[8]&0x3f|0x80
	return u
}

// load writes with several lanes until stopped, now and then with steps in the domain tables, a transaction
// rolled back, a lane closed and another opened. Errors are of engines being killed: the lane is given up.
func (w *world) load(lanes int, at func() time.Time) (stop func() (rows int64)) {
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	var mu sync.Mutex
	var total int64
	for i := range lanes {
		running.Go(func() {
			r := rand.New(rand.NewPCG(uint64(i), 7))
			var l *lane
			for ctx.Err() == nil {
				if l == nil {
					next := &lane{w: w, random: r}
					if err := w.api.QueryRow(ctx, "SELECT argus.open_audit_writer($1, 0)", uuid.New()).Scan(&next.id); err != nil {
						sleep(ctx, 20*time.Millisecond)
						continue
					}
					l = next
				}
				n := 1 + r.IntN(20)
				if r.IntN(100) == 0 {
					n = 1000
				}
				if err := l.commit(n, at(), w.steps(r)); err != nil {
					l = nil
					sleep(ctx, 20*time.Millisecond)
					continue
				}
				mu.Lock()
				total += int64(n)
				mu.Unlock()
				if r.IntN(40) == 0 {
					w.api.Exec(ctx, "UPDATE argus.audit_writers SET closed_at = now() WHERE writer_id = $1", l.id)
					l = nil
				}
				sleep(ctx, time.Duration(10+r.IntN(30))*time.Millisecond)
			}
		})
	}
	return func() int64 {
		cancel()
		running.Wait()
		return total
	}
}

// steps adds domain rows for some calls, in their transaction.
func (w *world) steps(r *rand.Rand) func(pgx.Tx, []argus.Record) error {
	return func(tx pgx.Tx, records []argus.Record) error {
		if r.IntN(20) == 0 {
			return errRollback
		}
		for i := range records {
			if r.IntN(30) > 0 {
				continue
			}
			if err := insertSteps(tx, &records[i]); err != nil {
				return err
			}
		}
		return nil
	}
}

var errRollback = fmt.Errorf("rolled back on purpose")

func insertSteps(tx pgx.Tx, r *argus.Record) error {
	for step, result := range []string{"requested", "succeeded"} {
		if _, err := tx.Exec(context.Background(), `INSERT INTO argus.compute_control_audit
			(audit_id, step, at, actor_id, impersonator_id, action, worker_id, provider, reason, from_state, to_state, result, error)
			VALUES ($1, $2, $3, $4::text, nullif($4::text, ''), 'launch', $5, $7, 'a test', NULL, 'running', $6, NULL)`,
			r.ID, step+1, r.OccurredAt, r.ActorID, "w-"+hex.EncodeToString(r.ID[12:]), result,
			[]any{"local", "", nil}[(int(r.ID[15])+step)%3]); err != nil { // empty and null are two values
			return err
		}
	}
	_, err := tx.Exec(context.Background(), `INSERT INTO argus.remote_support_audit
		(audit_id, step, at, actor_id, action, tenant_id, session_id, reason, consent_document_id, consent_recorded_by,
		 consent_recorded_at, result, error)
		VALUES ($1, 1, $2::timestamptz, $3, 'arm', 'UTD_1', $4, 'a | test', 'DOC-1', 'maria', $2::timestamptz - interval '90 days', 'failed', 'oh – no')`, r.ID, r.OccurredAt, r.ActorID, uuid.New())
	return err
}
