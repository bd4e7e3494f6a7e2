package ship

import (
	"bufio"
	"compress/gzip"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"runtime/debug"
	"slices"
	"sort"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/useargus/argus"
	"github.com/useargus/argus/internal/audittest"
	"github.com/useargus/argus/internal/engines/enginetest"
	"github.com/useargus/argus/ship/sink"
)

const childVariable = "ARGUS_SHIP_TEST_CHILD"

func TestMain(m *testing.M) {
	if call := os.Getenv(childVariable); call != "" {
		os.Exit(runChild(call))
	}
	os.Exit(enginetest.Run(m))
}

// childCall is a shipper as a process of its own, to be killed at a failpoint that it has passed that often.
type childCall struct {
	PostgresURL, File, Point string
	Passes                   int
}

func runChild(call string) int {
	var c childCall
	if err := json.Unmarshal([]byte(call), &c); err != nil {
		return 2
	}
	file, err := sink.Load(c.File)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 2
	}
	var mu sync.Mutex
	failpoint = func(point string) {
		mu.Lock()
		defer mu.Unlock()
		if point == c.Point {
			if c.Passes--; c.Passes < 0 {
				p, _ := os.FindProcess(os.Getpid())
				p.Kill()
				select {}
			}
		}
	}
	debug.SetMemoryLimit(112 << 20) // as argusd ship has it
	s, err := New(Config{PostgresURL: c.PostgresURL, Sinks: file, Logger: slog.New(slog.DiscardHandler), Poll: 5 * time.Millisecond, LeaseTTL: time.Second,
		Backoff: 10 * time.Millisecond})
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 2
	}
	s.Run(context.Background())
	return 0
}

// world is a log, and what ships it.
type world struct {
	t     testing.TB
	pg    *enginetest.Postgres
	owner *pgxpool.Pool
	api   *pgxpool.Pool
	dir   string

	mu      sync.Mutex
	seqs    map[int64]int64
	written int
}

func newWorld(t testing.TB) *world { return worldOn(t, enginetest.NewPostgres(t)) }

func worldOn(t testing.TB, pg *enginetest.Postgres) *world {
	return &world{t: t, pg: pg, owner: pg.Pool(t, pg.OwnerURL), api: pg.Pool(t, pg.APIURL), dir: t.TempDir(), seqs: map[int64]int64{}}
}

// file writes the sinks file and gives its path.
func (w *world) file(text string) string {
	w.t.Helper()
	path := filepath.Join(w.dir, "sinks.yaml")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		w.t.Fatal(err)
	}
	return path
}

const folderSink = `sinks:
  - name: archive
    linger: 0s
    batch_rows: 50
    folder: {path: shipped}
`

func (w *world) shipped() string { return filepath.Join(w.dir, "shipped") }

// run starts a shipper in this process and gives what ends it.
func (w *world) run(text string, change ...func(*Config)) (s *Ship, stop func()) {
	w.t.Helper()
	file, err := sink.Load(w.file(text))
	if err != nil {
		w.t.Fatal(err)
	}
	c := Config{PostgresURL: w.pg.ShipURL, Sinks: file, Logger: slog.New(slog.DiscardHandler), Poll: 5 * time.Millisecond, LeaseTTL: time.Second,
		Status: 50 * time.Millisecond, Backoff: 10 * time.Millisecond}
	for _, f := range change {
		f(&c)
	}
	if s, err = New(c); err != nil {
		w.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		s.Run(ctx)
	}()
	stop = sync.OnceFunc(func() {
		cancel()
		<-done
		s.Close()
	})
	w.t.Cleanup(stop)
	return s, stop
}

// child starts a shipper as a process that is killed at the point; "" is none.
func (w *world) child(path, point string, passes int) *exec.Cmd {
	w.t.Helper()
	call, _ := json.Marshal(childCall{w.pg.ShipURL, path, point, passes})
	c := exec.Command(os.Args[0])
	c.Env = append(os.Environ(), childVariable+"="+string(call))
	c.Stderr = os.Stderr
	if err := c.Start(); err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(func() { c.Process.Kill(); c.Wait() }) // of a test that failed
	return c
}

func (w *world) open() (writer int64) {
	w.t.Helper()
	if err := w.api.QueryRow(context.Background(), "SELECT argus.open_audit_writer(gen_random_uuid(), 0)").Scan(&writer); err != nil {
		w.t.Fatal(err)
	}
	return writer
}

// write appends n rows of the writer, as a batch. change may change each.
func (w *world) write(writer int64, n int, change ...func(*argus.Record)) {
	w.t.Helper()
	if err := w.tryWrite(context.Background(), writer, n, change...); err != nil {
		w.t.Fatal(err)
	}
}

func (w *world) tryWrite(ctx context.Context, writer int64, n int, change ...func(*argus.Record)) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	rows := make([][]any, n)
	now := time.Now().UTC().Truncate(time.Microsecond)
	for i := range rows {
		w.seqs[writer]++
		r := argus.Record{WriterID: writer, Seq: w.seqs[writer], ID: uuid.Must(uuid.NewV7()), OccurredAt: now, RecordedAt: now, ActorID: "user_2ada",
			ActorKind: argus.KindClerkSession, Scope: "tenants:read", Route: "GET /v1/tenants/:id", Method: "GET", Status: 200, Outcome: argus.Completed, LatencyUS: 900,
			ClientIP: netip.MustParseAddr("192.0.2.7"), UserAgent: fmt.Sprintf("argusctl/1.0 %d", i), Service: argus.OwnService,
			PathParams: []argus.PathParam{{Name: "id", Value: "UTD_7ELEVEN_001"}}}
		if i%5 == 1 {
			r.Method, r.Route, r.Status = "POST", "POST /v1/tokens", 201
		}
		if i%7 == 3 {
			r.Outcome, r.Status, r.LatencyUS = argus.Interrupted, 0, 0
		}
		for _, f := range change {
			f(&r)
		}
		r.MakeStorable()
		r.RowHash = r.ComputeHash()
		rows[i] = audittest.Values(&r)
	}
	w.written += n
	_, err := w.api.CopyFrom(ctx, pgx.Identifier{"argus", "argus_audit_log"}, argus.ColumnNames(), pgx.CopyFromRows(rows))
	return err
}

func (w *world) number(sql string, args ...any) (n int64) {
	w.t.Helper()
	if err := w.owner.QueryRow(context.Background(), sql, args...).Scan(&n); err != nil {
		w.t.Fatalf("%s: %v", sql, err)
	}
	return n
}

func (w *world) exec(sql string, args ...any) {
	w.t.Helper()
	if _, err := w.owner.Exec(context.Background(), sql, args...); err != nil {
		w.t.Fatal(err)
	}
}

// until waits for the condition.
func (w *world) until(what string, f func() bool) {
	w.t.Helper()
	for deadline := time.Now().Add(time.Minute); !f(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			var status string
			w.owner.QueryRow(context.Background(), "SELECT string_agg(sink || ' ' || status, ' ') FROM argus.sinks").Scan(&status)
			w.t.Fatalf("it never came to this: %s; %s", what, status)
		}
	}
}

// acknowledged waits until the sink's live stream has that many rows.
func (w *world) acknowledged(name string, rows int) {
	w.t.Helper()
	w.until(fmt.Sprintf("%s has %d rows", name, rows), func() bool {
		return w.number("SELECT coalesce((SELECT rows FROM argus.sink_positions WHERE sink = $1 AND stream = ''), 0)", name) >= int64(rows)
	})
}

// received is a batch as a receiver got it.
type received struct {
	argus.Manifest
	lines []string
}

func parseBatch(t testing.TB, body []byte) (r received) {
	t.Helper()
	lines := strings.Split(strings.TrimSuffix(string(body), "\n"), "\n")
	if err := json.Unmarshal([]byte(lines[0]), &r.Manifest); err != nil {
		t.Fatalf("%v: %.200s", err, lines[0])
	}
	r.lines = lines[1:]
	return r
}

// files reads the folder sink's files, by name.
func (w *world) files() (all []received) {
	w.t.Helper()
	names, err := filepath.Glob(filepath.Join(w.shipped(), "dt=*/*.ndjson*"))
	if err != nil {
		w.t.Fatal(err)
	}
	sort.Slice(names, func(i, j int) bool { return filepath.Base(names[i]) < filepath.Base(names[j]) })
	for _, name := range names {
		f, err := os.Open(name)
		if err != nil {
			w.t.Fatal(err)
		}
		var reader io.Reader = bufio.NewReader(f)
		if strings.HasSuffix(name, ".gz") {
			if reader, err = gzip.NewReader(reader); err != nil {
				w.t.Fatal(err)
			}
		}
		body, err := io.ReadAll(reader)
		f.Close()
		if err != nil {
			w.t.Fatal(err)
		}
		b := parseBatch(w.t, body)
		if !strings.HasPrefix(filepath.Base(name), b.Batch+".ndjson") {
			w.t.Errorf("the file %s holds the batch %s", name, b.Batch)
		}
		all = append(all, b)
	}
	return all
}

// check is the oracle. In the order they were received, the batches hold each row of the log that pass lets through, in the
// order of each writer. A batch may be there twice only as a whole, with the same bytes.
func (w *world) check(batches []received, pass func(*argus.Record) bool) {
	w.t.Helper()
	want := map[int64][]string{}
	log := audittest.Postgres(w.t, w.owner)
	audittest.Intact(w.t, log)
	for i := range log {
		if pass == nil || pass(&log[i]) {
			want[log[i].WriterID] = append(want[log[i].WriterID], string(log[i].AppendJSON(nil)))
		}
	}
	seen := map[string]string{}
	got := map[int64][]string{}
	for _, b := range batches {
		text := strings.Join(b.lines, "\n")
		if before, again := seen[b.Batch]; again {
			if before != text {
				w.t.Fatalf("the batch %s came twice with other rows", b.Batch)
			}
			continue
		}
		seen[b.Batch] = text
		for _, line := range b.lines {
			var r argus.Record
			if err := json.Unmarshal([]byte(line), &r); err != nil {
				w.t.Fatal(err)
			}
			got[r.WriterID] = append(got[r.WriterID], string(r.AppendJSON(nil)))
		}
	}
	for writer, rows := range want {
		if !slices.Equal(got[writer], rows) {
			for i := range min(len(rows), len(got[writer])) {
				if rows[i] != got[writer][i] {
					w.t.Fatalf("writer %d: %d rows came, the log has %d; row %d came as\n%s\nthe log has\n%s", writer, len(got[writer]), len(rows), i, got[writer][i], rows[i])
				}
			}
			w.t.Fatalf("writer %d: %d rows came, the log has %d", writer, len(got[writer]), len(rows))
		}
	}
	for writer := range got {
		if want[writer] == nil {
			w.t.Fatalf("rows of writer %d came, and the log has none", writer)
		}
	}
}

func manifestLine(m argus.Manifest) []byte { return (&sink.Batch{Manifest: m}).AppendManifest(nil) }

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
