package ledger

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"golang.org/x/mod/sumdb/tlog"

	"github.com/useargus/argus/internal/engines"
	"github.com/useargus/argus/internal/engines/enginetest"
	"github.com/useargus/argus/proof"
)

const childVariable = "ARGUS_LEDGER_TEST_CHILD"

func TestMain(m *testing.M) {
	if call := os.Getenv(childVariable); call != "" {
		os.Exit(runChild(call))
	}
	os.Exit(enginetest.Run(m))
}

// childCall is a sealer as a process of its own, to be killed. It asks for no lease, so that two of them seal at once.
type childCall struct{ PostgresURL, Key, Anchor string }

func runChild(call string) int {
	var c childCall
	if err := json.Unmarshal([]byte(call), &c); err != nil {
		return 2
	}
	keys := &Keys{Origin: origin}
	if err := keys.Add(c.Key); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 2
	}
	s, err := New(Config{PostgresURL: c.PostgresURL, Keys: keys, Anchor: c.Anchor, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 2
	}
	ctx := context.Background()
	for {
		err := s.remember(ctx)
		for err == nil {
			if _, err = s.round(ctx); err == nil {
				err = sleep(ctx, time.Millisecond)
			}
		}
		if errors.Is(err, errForked) || strings.Contains(err.Error(), "differ") {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
	}
}

const origin = "audit.test/argus"

// world is a log with its ledger.
type world struct {
	t     testing.TB
	pg    *enginetest.Postgres
	owner *pgxpool.Pool
	api   *pgxpool.Pool
	key   string // path
}

func newWorld(t testing.TB) *world { return worldOf(t, enginetest.NewPostgres(t)) }

func ownWorld(t testing.TB) *world {
	return worldOf(t, enginetest.StartOwnPostgres(t, engines.PostgresConfig{}))
}

func worldOf(t testing.TB, pg *enginetest.Postgres) *world {
	w := &world{t: t, pg: pg, owner: pg.Pool(t, pg.OwnerURL), api: pg.Pool(t, pg.APIURL), key: filepath.Join(t.TempDir(), "key")}
	if _, err := NewKeyFile(w.key, origin); err != nil {
		t.Fatal(err)
	}
	return w
}

func (w *world) keys() *Keys {
	k := &Keys{Origin: origin}
	if err := k.Add(w.key); err != nil {
		w.t.Fatal(err)
	}
	return k
}

// config of a sealer with an anchor file of that name.
func (w *world) config(anchor string) Config {
	return Config{PostgresURL: w.pg.LedgerURL, Keys: w.keys(), Anchor: anchor, Logger: slog.New(slog.DiscardHandler),
		Interval: 20 * time.Millisecond, LeaseTTL: time.Second}
}

func (w *world) sealer(config Config) *Sealer {
	w.t.Helper()
	s, err := New(config)
	if err != nil {
		w.t.Fatal(err)
	}
	return s
}

// run starts a sealer and gives what ends it.
func (w *world) run(config Config) (s *Sealer, stop func()) {
	s = w.sealer(config)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		s.Run(ctx)
	}()
	ended := false
	stop = func() {
		if !ended {
			ended = true
			cancel()
			<-done
			s.Close()
		}
	}
	w.t.Cleanup(stop)
	return s, stop
}

func (w *world) open() (writer int64) {
	w.t.Helper()
	if err := w.api.QueryRow(context.Background(), "SELECT argus.open_audit_writer(gen_random_uuid(), 0)").Scan(&writer); err != nil {
		w.t.Fatal(err)
	}
	return writer
}

const insertCalls = `INSERT INTO argus.argus_audit_log (writer_id, seq, id, occurred_at, recorded_at, actor_id, actor_kind, scope, route,
	path_params, method, status, outcome, latency_us, client_ip, user_agent, body_bytes, service, row_hash)
	SELECT $1::bigint, i, gen_random_uuid(), clock_timestamp() - $4::interval, clock_timestamp(), 'user_2ada', 'pat', 'any', 'GET /v1/health', '{}'::jsonb, 'GET', 200, 'completed', 900,
	       '192.0.2.7', 'x', 0, 'argus', sha256(convert_to($1::bigint || '/' || i, 'UTF8')) FROM generate_series($2::bigint, $3::bigint) i`

// write appends rows from to through of the writer.
func (w *world) write(writer, from, through int64) error {
	_, err := w.api.Exec(context.Background(), insertCalls, writer, from, through, "0")
	return err
}

func (w *world) mustWrite(writer, from, through int64) {
	w.t.Helper()
	if err := w.write(writer, from, through); err != nil {
		w.t.Fatal(err)
	}
}

func (w *world) number(sql string, args ...any) (n int64) {
	w.t.Helper()
	if err := w.owner.QueryRow(context.Background(), sql, args...).Scan(&n); err != nil {
		w.t.Fatal(err)
	}
	return n
}

// sealed waits until all that Postgres has is below a checkpoint.
func (w *world) sealed() {
	w.t.Helper()
	deadline := time.Now().Add(time.Minute)
	for {
		if w.number(`SELECT (SELECT count(*) FROM argus.ledger_pending) + (SELECT coalesce(sum(seq), 0) FROM argus.audit_writers)
			- (SELECT coalesce(sum(leaves), 0) FROM argus.ledger_runs WHERE kind = 1)
			+ (SELECT coalesce(max(first_leaf + leaves), 0) FROM argus.ledger_runs) - (SELECT coalesce(max(size), 0) FROM argus.ledger_checkpoints)`) == 0 {
			return
		}
		if time.Now().After(deadline) {
			var status string
			w.owner.QueryRow(context.Background(), "SELECT status::text FROM argus.ledger_status").Scan(&status)
			w.t.Fatalf("not all rows were sealed: %s", status)
		}
		time.Sleep(20 * time.Millisecond)
	}
}

// check is the oracle. It builds the tree from the rows themselves, in the order of the runs, by code that shares nothing
// with the sealer's. It holds every checkpoint against that tree. Each row has exactly one leaf.
func (w *world) check() {
	w.t.Helper()
	ctx := context.Background()
	rows, err := w.owner.Query(ctx, "SELECT writer_id, seq, occurred_at, row_hash FROM argus.argus_audit_log")
	if err != nil {
		w.t.Fatal(err)
	}
	type id struct{ writer, seq int64 }
	calls := map[id]proof.Entry{}
	var e proof.Entry
	var at time.Time
	var hash []byte
	if _, err := pgx.ForEachRow(rows, []any{&e.WriterID, &e.Seq, &at, &hash}, func() error {
		e.Kind, e.Month, e.Digest = proof.Call, proof.MonthOf(at), proof.Hash(hash)
		calls[id{e.WriterID, e.Seq}] = e
		return nil
	}); err != nil {
		w.t.Fatal(err)
	}
	admin := map[int64]proof.Entry{}
	if rows, err = w.owner.Query(ctx, "SELECT id, at, actor, kind, detail::text FROM argus.audit_admin"); err != nil {
		w.t.Fatal(err)
	}
	var a proof.Admin
	if _, err := pgx.ForEachRow(rows, []any{&a.ID, &a.At, &a.Actor, &a.Kind, &a.Detail}, func() error {
		admin[a.ID] = a.Entry()
		return nil
	}); err != nil {
		w.t.Fatal(err)
	}
	r := NewReader(w.owner)
	newest, err := r.Newest(ctx)
	if err != nil {
		w.t.Fatal(err)
	}
	var hashes storage
	leaf := int64(0)
	roots := map[int64]proof.Hash{}
	if rows, err = w.owner.Query(ctx, "SELECT size, root FROM argus.ledger_checkpoints"); err != nil {
		w.t.Fatal(err)
	}
	var size int64
	if _, err := pgx.ForEachRow(rows, []any{&size, &hash}, func() error { roots[size] = proof.Hash(hash); return nil }); err != nil {
		w.t.Fatal(err)
	}
	if err := r.Runs(ctx, 0, newest.Size, func(run proof.Run) error {
		for i := range run.Leaves() {
			got := run.Entry(i)
			switch got.Kind {
			case proof.Call:
				if want, ok := calls[id{got.WriterID, got.Seq}]; !ok || want != got {
					return fmt.Errorf("leaf %d is %v, the row %v", leaf, got, want)
				}
				delete(calls, id{got.WriterID, got.Seq})
			case proof.AdminRow:
				if want, ok := admin[got.ID]; !ok || want != got {
					return fmt.Errorf("leaf %d is %v, the row %v", leaf, got, want)
				}
				delete(admin, got.ID)
			}
			stored, err := tlog.StoredHashesForRecordHash(leaf, got.Leaf(), hashes)
			if err != nil {
				return err
			}
			hashes = append(hashes, stored...)
			leaf++
			if want, ok := roots[leaf]; ok {
				root, err := tlog.TreeHash(leaf, hashes)
				if err != nil || root != want {
					return fmt.Errorf("checkpoint %d has root %s, its leaves make %s (%v)", leaf, want, root, err)
				}
				delete(roots, leaf)
			}
		}
		return nil
	}); err != nil {
		w.t.Fatal(err)
	}
	if len(calls)+len(admin) > 0 || len(roots) > 0 {
		w.t.Fatalf("%d calls, %d records and %d checkpoints are not in the tree", len(calls), len(admin), len(roots))
	}
	if c, err := proof.OpenCheckpoint([]byte(newest.Note), w.keys().Public()...); err != nil || c.Size != newest.Size || c.Root != newest.Root {
		w.t.Fatalf("the newest checkpoint: %v", err)
	}
	// Every tile that is stored, and every one that is derived, is the tree's.
	for _, t := range proof.Tiles(newest.Size) {
		got, err := r.Tile(ctx, t)
		if err != nil {
			w.t.Fatalf("%s: %v", t.Path(), err)
		}
		want, err := tlog.ReadTileData(tlog.Tile{H: 8, L: t.Level, N: t.N, W: t.Width}, hashes)
		if err != nil || !bytes.Equal(got, want) {
			w.t.Fatalf("%s is not the tree's (%v)", t.Path(), err)
		}
	}
}

type storage []tlog.Hash

func (s storage) ReadHashes(indexes []int64) ([]tlog.Hash, error) {
	all := make([]tlog.Hash, len(indexes))
	for i, at := range indexes {
		if at >= int64(len(s)) {
			return nil, errors.New("beyond the tree")
		}
		all[i] = s[at]
	}
	return all, nil
}
