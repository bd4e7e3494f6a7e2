package writer

import (
	"context"
	"flag"
	"log/slog"
	"math/rand/v2"
	"net/netip"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"go.uber.org/goleak"

	"github.com/useargus/argus"
	"github.com/useargus/argus/internal/audittest"
	"github.com/useargus/argus/internal/engines/enginetest"
)

// pgx gives a connection whose statement was given up up to 15 s to cancel it, in a goroutine of its own.
func TestMain(m *testing.M) {
	flag.Parse()
	flag.Set("test.parallel", "6") // most wait most of the time
	os.Exit(enginetest.Run(m, goleak.IgnoreAnyFunction("github.com/jackc/pgx/v5/pgconn.(*PgConn).asyncClose.func1")))
}

// exampleRecord is a call as the API records it.
func exampleRecord(n int) *argus.Record {
	id, err := uuid.NewV7()
	if err != nil {
		panic(err)
	}
	r := &argus.Record{
		ID: id, OccurredAt: time.Now(), ActorID: "user_2abcDEFghiJKLmnoPQRstu", ActorKind: argus.KindPAT, PATID: uuid.New(),
		Scope: "tenants:read", Route: "GET /v1/tenants/:id", PathParams: []argus.PathParam{{Name: "id", Value: "UTD_7ELEVEN_001"}},
		Method: "GET", Status: 200, Outcome: argus.Completed, LatencyUS: int64(n % 10000),
		ClientIP: netip.MustParseAddr("203.0.113.9"), UserAgent: "argusctl/1.4.2", BodyHashed: true,
		TraceID: "0af7651916cd43dd8448eb211c80319c", ClientRequestID: "req-0123456789",
		Service: "billing", Release: "2026.1", ErrorCode: "service_timeout", Reason: "INC-4711", Agent: "claude/4",
		Workload: []argus.Claim{{Name: "repository", Value: "acme/ops"}},
	}
	r.MakeStorable()
	return r
}

// logger writes to the test's log, until the test has ended.
func logger(t testing.TB) *slog.Logger {
	w := &testLog{t: t}
	t.Cleanup(func() {
		w.mu.Lock()
		defer w.mu.Unlock()
		w.t = nil
	})
	return slog.New(slog.NewTextHandler(w, &slog.HandlerOptions{Level: slog.LevelDebug}))
}

type testLog struct {
	mu sync.Mutex
	t  testing.TB
}

func (w *testLog) Write(p []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.t != nil {
		w.t.Log(strings.TrimSpace(string(p)))
	}
	return len(p), nil
}

// start starts a writer that is closed at the test's end.
func start(t testing.TB, config Config) *Writer {
	t.Helper()
	if config.Logger == nil {
		config.Logger = logger(t)
	}
	w, err := New(config)
	if err != nil {
		t.Fatal(err)
	}
	if err := w.Start(context.Background()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { stop(t, w) })
	return w
}

// stop closes a writer; what it could not do by then is no failure, since Postgres may be away.
func stop(t testing.TB, w *Writer) {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	if err := w.Close(ctx); err != nil {
		t.Logf("closing the writer: %v", err)
	}
}

// ledger is what callers were told, to be held against the log.
type ledger struct {
	mu           sync.Mutex
	acknowledged map[uuid.UUID]argus.Record
	failed       map[uuid.UUID]argus.Code
	intended     map[uuid.UUID]bool // the intent was committed
}

func newLedger() *ledger {
	return &ledger{acknowledged: map[uuid.UUID]argus.Record{}, failed: map[uuid.UUID]argus.Code{}, intended: map[uuid.UUID]bool{}}
}

func (l *ledger) note(r *argus.Record, intended bool, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if intended {
		l.intended[r.ID] = true
	}
	if err == nil {
		l.acknowledged[r.ID] = *r
	} else {
		l.failed[r.ID] = argus.CodeOf(err)
	}
}

func (l *ledger) count() (acknowledged, failed int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.acknowledged), len(l.failed)
}

// check is the oracle. Each acknowledged call has its row as it was acknowledged, and each id has one row. Each writer's
// seq runs 1…n without holes. Every row hash is right. Every effect has a row. No row is of a call that was never made.
func (l *ledger) check(t testing.TB, pool *pgxpool.Pool) []argus.Record {
	t.Helper()
	l.mu.Lock()
	defer l.mu.Unlock()
	rows := audittest.Postgres(t, pool)
	byID := make(map[uuid.UUID]*argus.Record, len(rows))
	audittest.Intact(t, rows)
	for i := range rows {
		r := &rows[i]
		byID[r.ID] = r
		_, known := l.failed[r.ID]
		if _, ok := l.acknowledged[r.ID]; !ok && !known && !l.intended[r.ID] {
			t.Errorf("row %d/%d is of a call that was never made: %s", r.WriterID, r.Seq, r.ID)
		}
	}
	lost := 0
	for id, told := range l.acknowledged {
		r := byID[id]
		if r == nil {
			lost++
			continue
		}
		if r.WriterID != told.WriterID || r.Seq != told.Seq || r.RowHash != told.RowHash || !r.RecordedAt.Equal(told.RecordedAt) {
			t.Errorf("row of %s is %d/%d, its caller was told %d/%d", id, r.WriterID, r.Seq, told.WriterID, told.Seq)
		}
	}
	if lost > 0 {
		t.Errorf("%d of %d acknowledged calls have no row", lost, len(l.acknowledged))
	}
	unwritten := 0
	for id := range l.intended {
		if byID[id] == nil {
			unwritten++
		}
	}
	if unwritten > 0 {
		t.Errorf("%d of %d calls with effects have no row", unwritten, len(l.intended))
	}
	if rows := scalar[int64](t, pool, `SELECT count(*) FROM (SELECT w.writer_id FROM argus.audit_writers w
		LEFT JOIN argus.argus_audit_log l USING (writer_id) GROUP BY w.writer_id, w.seq HAVING w.seq <> count(l.seq)) x`); rows != 0 {
		t.Errorf("%d writers stand elsewhere than their rows", rows)
	}
	return rows
}

func scalar[T any](t testing.TB, pool *pgxpool.Pool, sql string, args ...any) (v T) {
	t.Helper()
	if err := pool.QueryRow(context.Background(), sql, args...).Scan(&v); err != nil {
		t.Fatalf("%s: %v", sql, err)
	}
	return v
}

// intend commits the intents of calls in a transaction of their own.
func intend(w *Writer, pool *pgxpool.Pool, all ...*argus.Record) error {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	return pgx.BeginFunc(ctx, pool, func(tx pgx.Tx) error { return w.Intend(ctx, tx, all...) })
}

// call makes a call, every third with an intent when a pool is given, and notes the outcome.
func (l *ledger) call(w *Writer, pool *pgxpool.Pool, n int) error {
	r := exampleRecord(n)
	intended := pool != nil && n%3 == 0
	if intended {
		if err := intend(w, pool, r); err != nil {
			// The intent may be there or not. The API says "intended" then.
			l.mu.Lock()
			l.failed[r.ID] = argus.CodeInternal
			l.mu.Unlock()
			err = w.Append(context.Background(), r, true)
			l.note(r, false, err)
			return err
		}
	}
	err := w.Append(context.Background(), r, intended)
	l.note(r, intended, err)
	return err
}

// eventually waits until ok, or fails the test after a long time.
func eventually(t testing.TB, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(90 * time.Second); ; {
		if ok() {
			return
		}
		if time.Now().After(end) {
			t.Fatalf("did not happen: %s", what)
		}
		time.Sleep(20 * time.Millisecond)
	}
}

func seeded(t testing.TB) *rand.Rand {
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	return rand.New(rand.NewPCG(seed, 1))
}
