//go:build bench && linux

package api

import (
	"context"
	"crypto/ed25519"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/netip"
	"os"
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/useargus/argus"
	"github.com/useargus/argus/proof"
)

// TestBenchProof: proof files over HTTP, of calls all over a tree of 20 M leaves. Each is checked with the pinned key. Most leaves
// are made-up hashes: a proof reads hashes alone. The first proof also reads the roots at the tree's right edge.
//
//	go test -tags bench -count 1 -run TestBenchProof ./api
//
// ARGUS_BENCH_PROOF_LEAVES says another number of leaves.
func TestBenchProof(t *testing.T) {
	leaves := int64(20_000_000)
	if n, err := strconv.ParseInt(os.Getenv("ARGUS_BENCH_PROOF_LEAVES"), 10, 64); err == nil && n > 0 {
		leaves = n
	}
	c := newContract(t)
	const calls, writer = 300, 1000
	made, filled := time.Now(), time.Now()
	key, ids := c.fillLedger(leaves, calls, writer)
	t.Logf("%d leaves filled in %s", leaves, time.Since(filled).Round(time.Millisecond))
	var first time.Duration
	var took []time.Duration
	largest := 0
	for i, id := range ids {
		began := time.Now()
		req, err := http.NewRequest(http.MethodGet, c.url+"/v1/audit-log/"+id.String()+"/proof", nil)
		c.must(err)
		req.Header.Set("Authorization", "Bearer "+c.tokens[ada])
		resp, err := http.DefaultClient.Do(req)
		c.must(err)
		b, err := io.ReadAll(resp.Body)
		resp.Body.Close()
		c.must(err)
		if d := time.Since(began); i == 0 {
			first = d
		} else {
			took = append(took, d)
		}
		f, err := proof.ParseFile(b)
		if err != nil {
			t.Fatalf("%d %s: %v", resp.StatusCode, b, err)
		}
		if at, row, err := f.Check(func(note []byte) (proof.Checkpoint, error) { return proof.OpenCheckpoint(note, key) }); err != nil || at.Size != leaves || row.ID != id {
			t.Fatalf("the proof of %s, of %d leaves: %v", id, at.Size, err)
		}
		largest = max(largest, len(b))
	}
	slices.Sort(took)
	p50, p99 := took[len(took)/2], took[len(took)*99/100]
	show := func(name, ours, target string, ok bool) {
		fmt.Printf("FIGURE\t%s\t%s\t–\t–\t%s\t%s\n", name, ours, target, map[bool]string{true: "ok", false: "MISS"}[ok])
	}
	ms := func(d time.Duration) string { return fmt.Sprintf("%.1f ms", d.Seconds()*1000) }
	show(fmt.Sprintf("a proof file over %.0f M leaves, over HTTP, p50", float64(leaves)/1e6), fmt.Sprintf("%s (p99 %s, the first %s)", ms(p50), ms(p99), ms(first)), "≤ 20 ms", p50 <= 20*time.Millisecond)
	show("a proof file's greatest length", fmt.Sprintf("%d bytes", largest), "≤ 4096 bytes", largest <= 4096)
	t.Logf("%d proofs, %s in all", len(ids), time.Since(made).Round(time.Millisecond))
}

// fillLedger seals made-up calls of one writer, and some real ones among them, whose ids it returns. It writes runs and tiles as
// the sealer does.
func (c *contract) fillLedger(leaves int64, calls int, writer int64) (proof.Key, []uuid.UUID) {
	ctx := context.Background()
	exec := func(sql string) {
		c.t.Helper()
		_, err := c.owner.Exec(ctx, sql)
		c.must(err)
	}
	random := rand.New(rand.NewPCG(1, 2))
	places := map[int64]*argus.Record{}
	var ids []uuid.UUID
	var rows [][]any
	now := argus.Micros(time.Now())
	for len(places) < calls {
		leaf := random.Int64N(leaves)
		if places[leaf] != nil {
			continue
		}
		r := &argus.Record{WriterID: writer, Seq: leaf + 1, ID: uuid.Must(uuid.NewV7()), OccurredAt: now, RecordedAt: now, ActorID: "user_2abcdefghijklmnop", ActorKind: argus.KindPAT,
			Scope: "tenants:read", Route: "GET /v1/tenants/:id", PathParams: []argus.PathParam{{Name: "id", Value: "UTD_7ELEVEN_001"}}, Method: "GET", Status: 200, Outcome: argus.Completed,
			LatencyUS: 1234, ClientIP: netip.MustParseAddr("192.0.2.7"), UserAgent: "argusctl/1.2 (linux; amd64)", Service: argus.OwnService, Reason: "looking after the ticket"}
		r.MakeStorable()
		r.RowHash = r.ComputeHash()
		places[leaf] = r
		ids = append(ids, r.ID)
		rows = append(rows, []any{r.WriterID, r.Seq, r.ID, r.OccurredAt, r.RecordedAt, r.ActorID, string(r.ActorKind), r.Scope, r.Route, string(r.AppendPathParams(nil)), r.Method, r.Status,
			string(r.Outcome), r.LatencyUS, r.ClientIP, r.UserAgent, r.BodyBytes, r.Service, r.Reason, r.RowHash[:]})
	}
	exec("ALTER TABLE argus.argus_audit_log DISABLE TRIGGER USER")
	_, err := c.owner.CopyFrom(ctx, pgx.Identifier{"argus", "argus_audit_log"}, []string{"writer_id", "seq", "id", "occurred_at", "recorded_at", "actor_id", "actor_kind", "scope", "route",
		"path_params", "method", "status", "outcome", "latency_us", "client_ip", "user_agent", "body_bytes", "service", "reason", "row_hash"}, pgx.CopyFromRows(rows))
	c.must(err)
	exec("ALTER TABLE argus.argus_audit_log ENABLE TRIGGER USER")

	exec("ALTER TABLE argus.ledger_runs DISABLE TRIGGER USER") // it looks for the run before
	var tiles [][]any
	tree := proof.Builder{Full: func(t proof.Tile, hashes []byte) error {
		if t.Level > 0 {
			tiles = append(tiles, []any{int16(t.Level), t.N, slices.Clone(hashes)})
		}
		return nil
	}}
	digests := rand.NewChaCha8([32]byte{1})
	next := int64(0)
	for next < leaves {
		exec("SELECT argus.create_ledger_partitions()")
		upto := min(leaves, next+1<<22)
		_, err := c.owner.CopyFrom(ctx, pgx.Identifier{"argus", "ledger_runs"}, []string{"first_leaf", "leaves", "kind", "month", "writer_id", "first_seq", "digests"}, pgx.CopyFromFunc(func() ([]any, error) {
			if next == upto {
				return nil, nil
			}
			run := proof.Run{FirstLeaf: next, Kind: proof.Call, Month: proof.MonthOf(now), WriterID: writer, FirstSeq: next + 1, Digests: make([]byte, min(proof.MaxRunLeaves, upto-next)*proof.HashSize)}
			digests.Read(run.Digests)
			for i := range int64(run.Leaves()) {
				if r := places[next+i]; r != nil {
					copy(run.Digests[i*proof.HashSize:], r.RowHash[:])
				}
			}
			next += int64(run.Leaves())
			return []any{run.FirstLeaf, int32(run.Leaves()), int16(run.Kind), int16(run.Month), run.WriterID, run.FirstSeq, run.Digests}, tree.Add(run.AppendLeaves(nil))
		}))
		c.must(err)
	}
	exec("ALTER TABLE argus.ledger_runs ENABLE TRIGGER USER")
	_, err = c.owner.CopyFrom(ctx, pgx.Identifier{"argus", "ledger_tiles"}, []string{"level", "n", "hashes"}, pgx.CopyFromRows(tiles))
	c.must(err)
	exec("ANALYZE argus.ledger_runs")
	private := ed25519.NewKeyFromSeed(make([]byte, ed25519.SeedSize))
	key := proof.NewKey("audit.test/argus", private.Public().(ed25519.PublicKey))
	at := proof.Checkpoint{Origin: key.Name(), Size: leaves, Root: tree.Root()}
	note, err := at.Sign(proof.NewSigner(key, func(m []byte) ([]byte, error) { return ed25519.Sign(private, m), nil }))
	c.must(err)
	_, err = c.owner.Exec(ctx, "INSERT INTO argus.ledger_checkpoints (size, root, note, position) VALUES ($1, $2, $3, 'c0')", leaves, at.Root[:], string(note))
	c.must(err)
	return key, ids
}
