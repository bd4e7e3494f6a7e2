package interop

import (
	"context"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	f_note "github.com/transparency-dev/formats/note"
	"github.com/transparency-dev/merkle/rfc6962"
	"github.com/transparency-dev/tessera/api"
	"github.com/transparency-dev/tessera/client"
	"github.com/transparency-dev/tessera/fsck"
	"github.com/transparency-dev/witness/persistence/inmemory"
	"github.com/transparency-dev/witness/witness"
	"golang.org/x/mod/sumdb/note"

	"github.com/useargus/argus/internal/engines/enginetest"
	"github.com/useargus/argus/ledger"
	"github.com/useargus/argus/proof"
)

func TestMain(m *testing.M) { os.Exit(enginetest.Run(m)) }

const origin = "audit.test/argus"

// foreignWitness is transparency-dev's witness, in memory.
func foreignWitness(t *testing.T, log proof.Key) (url, vkey string) {
	t.Helper()
	skey, public, err := note.GenerateKey(nil, "witness.test/w1")
	if err != nil {
		t.Fatal(err)
	}
	signer, err := f_note.NewSignerForCosignatureV1(skey)
	if err != nil {
		t.Fatal(err)
	}
	if vkey, err = f_note.VKeyToCosignatureV1(public); err != nil {
		t.Fatal(err)
	}
	w, err := witness.New(t.Context(), witness.Opts{Persistence: inmemory.New(), Signers: []note.Signer{signer},
		VerifierForLog: func(_ context.Context, name string) (note.Verifier, bool, error) {
			return log.Verifier(), name == origin, nil
		}})
	if err != nil {
		t.Fatal(err)
	}
	mux := http.NewServeMux()
	mux.HandleFunc("POST /add-checkpoint", witness.NewHTTPHandler(w).AddCheckpoint)
	server := httptest.NewServer(mux)
	t.Cleanup(server.Close)
	return server.URL, vkey
}

// TestOutside: a foreign witness cosigns what the sealer signs, and the policy is met. Tessera's fsck finds the mirror whole.
// When Postgres is restored and a sealer without a memory adopts it, the witness rejects the second history, and that ends it.
func TestOutside(t *testing.T) {
	pg := enginetest.NewPostgres(t)
	key := filepath.Join(t.TempDir(), "key")
	public, err := ledger.NewKeyFile(key, origin)
	if err != nil {
		t.Fatal(err)
	}
	url, vkey := foreignWitness(t, public)
	policy := fmt.Appendf(nil, "log %s\nwitness w1 %s %s\nquorum w1\n", public, vkey, url)
	start := func(anchor string, adopt bool) (*ledger.Sealer, func()) {
		keys := &ledger.Keys{Origin: origin}
		if err := keys.Add(key); err != nil {
			t.Fatal(err)
		}
		s, err := ledger.New(ledger.Config{PostgresURL: pg.LedgerURL, Keys: keys, Anchor: filepath.Join(t.TempDir(), anchor), Adopt: adopt,
			Witnesses: policy, Witness: 100 * time.Millisecond, Interval: 20 * time.Millisecond, Logger: slog.New(slog.DiscardHandler),
			Client: &http.Client{Transport: &http.Transport{DisableKeepAlives: true}, Timeout: time.Minute}})
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(context.Background())
		done := make(chan struct{})
		go func() { defer close(done); s.Run(ctx) }()
		ended := false
		stop := func() {
			if !ended {
				ended = true
				cancel()
				<-done
				s.Close()
			}
		}
		t.Cleanup(stop)
		return s, stop
	}
	owner := pg.Pool(t, pg.OwnerURL)
	s, stop := start("a", false)
	write(t, owner, 700)
	var noted string
	await(t, "the witness's cosignature", func() bool {
		served, size, err := s.Served(t.Context())
		if noted = served; err != nil || size < 700 {
			return false
		}
		p, err := proof.ParsePolicy(policy)
		if err != nil {
			t.Fatal(err)
		}
		_, err = p.Open([]byte(noted))
		return err == nil
	})
	write(t, owner, 1300) // the next one needs a consistency proof
	await(t, "a second cosignature", func() bool {
		status := s.Status()
		return status.Witnesses["witness.test/w1"].Size >= 2000
	})

	dir := t.TempDir()
	size, files, err := ledger.Mirror(t.Context(), ledger.NewReader(owner), dir)
	if err != nil || size < 2000 || files < 10 {
		t.Fatalf("a mirror of %d leaves in %d files: %v", size, files, err)
	}
	if err := check(t, dir, public); err != nil {
		t.Errorf("Tessera's fsck: %v", err)
	}
	write(t, owner, 90)
	await(t, "more leaves", func() bool { return s.Status().Size >= 2090 })
	if _, _, err := ledger.Mirror(t.Context(), ledger.NewReader(owner), dir); err != nil {
		t.Fatal(err)
	}
	if err := check(t, dir, public); err != nil {
		t.Errorf("Tessera's fsck of the mirror's second state: %v", err)
	}
	stop()

	// The restore: half of the ledger goes, with the rows.
	super, err := pgx.Connect(t.Context(), pg.SuperuserURL)
	if err != nil {
		t.Fatal(err)
	}
	defer super.Close(context.Background())
	for _, sql := range []string{"SET session_replication_role = replica", "DELETE FROM argus.ledger_cosignatures", "DELETE FROM argus.ledger_checkpoints WHERE size > 1000",
		"DELETE FROM argus.ledger_runs WHERE first_leaf >= coalesce((SELECT max(size) FROM argus.ledger_checkpoints), 0)",
		"DELETE FROM argus.ledger_tiles", "DELETE FROM argus.argus_audit_log WHERE writer_id <> (SELECT min(writer_id) FROM argus.audit_writers)",
		"DELETE FROM argus.audit_writers WHERE writer_id <> (SELECT min(writer_id) FROM argus.audit_writers)"} {
		if _, err := super.Exec(t.Context(), sql); err != nil {
			t.Fatalf("%s: %v", sql, err)
		}
	}
	forked, _ := start("b", true)
	write(t, owner, 5000)
	await(t, "the witness to end the second history", func() bool {
		status := forked.Status()
		return status.State == "forked" && strings.Contains(status.Problem, "witness")
	})
}

// check runs Tessera's fsck over a folder, with one worker, as its command does by default. It is asked about whole logs only:
// of one with a flipped byte v1.0.4 finds nothing with four workers, and waits for ever with one.
func check(t *testing.T, dir string, key proof.Key) error {
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	return fsck.New(origin, key.Verifier(), client.FileFetcher{Root: dir}, func(bundle []byte) (leaves [][]byte, err error) {
		var b api.EntryBundle
		if err := b.UnmarshalText(bundle); err != nil {
			return nil, err
		}
		for _, e := range b.Entries {
			leaves = append(leaves, rfc6962.DefaultHasher.HashLeaf(e))
		}
		return leaves, nil
	}, fsck.Opts{N: 1}).Check(ctx)
}

// write appends rows of a new writer.
func write(t *testing.T, pool *pgxpool.Pool, rows int) {
	t.Helper()
	if _, err := pool.Exec(t.Context(), fmt.Sprintf(`WITH w AS MATERIALIZED (SELECT argus.open_audit_writer(gen_random_uuid(), 0) AS id) SELECT id FROM w`)); err != nil {
		t.Fatal(err)
	}
	if _, err := pool.Exec(t.Context(), `INSERT INTO argus.argus_audit_log (writer_id, seq, id, occurred_at, recorded_at, actor_id, actor_kind, scope, route,
		path_params, method, status, outcome, latency_us, client_ip, user_agent, body_bytes, service, row_hash)
		SELECT w, i, gen_random_uuid(), clock_timestamp(), clock_timestamp(), 'user_2ada', 'pat', 'any', 'GET /v1/health', '{}'::jsonb, 'GET', 200, 'completed', 900,
		       '192.0.2.7', 'x', 0, 'argus', sha256(convert_to(w || '/' || i, 'UTF8')) FROM (SELECT max(writer_id) FROM argus.audit_writers) m (w), generate_series(1, $1::bigint) i`, rows); err != nil {
		t.Fatal(err)
	}
}

func await(t *testing.T, what string, done func() bool) {
	t.Helper()
	deadline := time.Now().Add(time.Minute)
	for !done() {
		if time.Now().After(deadline) {
			t.Fatalf("waited in vain for %s", what)
		}
		time.Sleep(20 * time.Millisecond)
	}
}
