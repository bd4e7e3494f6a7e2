package ledger

import (
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/useargus/argus/proof"
)

// TestSeal: calls of many writers and of two months, steps and records get exactly one leaf each. Runs keep their bounds.
// A second sealer beside the first recomputes each checkpoint, and goes on when the first ends.
func TestSeal(t *testing.T) {
	w := newWorld(t)
	ctx := context.Background()
	dir := t.TempDir()
	// What is there before the ledger starts has leaves too.
	old := w.open()
	w.mustWrite(old, 1, 9000) // more than a run
	// Of another month, which has its partition on every day of this one.
	now := time.Now().UTC()
	before := now.Sub(time.Date(now.Year(), now.Month(), 1, 0, 0, 0, 0, time.UTC)) + 24*time.Hour
	if _, err := w.api.Exec(ctx, insertCalls, old, 9001, 9010, fmt.Sprint(before.Microseconds(), " microseconds")); err != nil {
		t.Fatal(err)
	}
	w.mustWrite(old, 9011, 9020)
	_, stop := w.run(w.config(filepath.Join(dir, "a", "anchor")))
	w.sealed()
	standby := w.config(filepath.Join(dir, "b", "anchor"))
	standby.Adopt = true
	second, _ := w.run(standby)
	var writing sync.WaitGroup
	for n := range 8 {
		writing.Go(func() {
			writer := w.open()
			random := rand.New(rand.NewPCG(1, uint64(n)))
			seq := int64(0)
			for range 40 {
				rows := 1 + random.Int64N(30)
				if err := w.write(writer, seq+1, seq+rows); err != nil {
					t.Error(err)
				}
				seq += rows
			}
			if n%2 == 0 {
				if _, err := w.api.Exec(ctx, "UPDATE argus.audit_writers SET closed_at = now() WHERE writer_id = $1", writer); err != nil {
					t.Error(err)
				}
			}
		})
	}
	for n := range 30 {
		if _, err := w.api.Exec(ctx, `INSERT INTO argus.compute_control_audit (audit_id, step, at, actor_id, action, result)
			VALUES ($1, 1, now(), 'x', 'launch', 'requested')`, uuidNow(n)); err != nil {
			t.Fatal(err)
		}
	}
	writing.Wait()
	w.sealed()
	w.check()
	stop()
	w.mustWrite(old, 9021, 9100)
	w.sealed()
	w.check()
	await(t, "the second to seal", func() bool { return second.Status().State == "sealing" })
	// Both have anchored the newest checkpoint that they saw.
	for _, name := range []string{"a", "b"} {
		await(t, "lines in the anchor file of "+name, func() bool {
			data, err := os.ReadFile(filepath.Join(dir, name, "anchor"))
			return err == nil && strings.Count(string(data), "\n") >= 2
		})
	}
	if n := w.number("SELECT count(*) FROM argus.ledger_runs WHERE month <> argus.month_number(now())"); n != 1 {
		t.Errorf("%d runs of the month before, not 1", n)
	}
	if n := w.number("SELECT count(*) FROM argus.audit_admin WHERE kind = 'ledger_started'"); n != 1 {
		t.Errorf("the ledger has started %d times", n)
	}
	// A leaf is found by its row.
	r := NewReader(w.owner)
	leaf, err := r.CallLeaf(ctx, old, 9005)
	if err != nil {
		t.Fatal(err)
	}
	found := false
	if err := r.Runs(ctx, leaf, leaf+1, func(run proof.Run) error {
		found = run.Entry(0).WriterID == old && run.Entry(0).Seq == 9005
		return nil
	}); err != nil || !found {
		t.Errorf("leaf %d is not call %d/9005 (%v)", leaf, old, err)
	}
	if _, err := r.CallLeaf(ctx, old, 99999); err != ErrNone {
		t.Errorf("a row that is not there: %v", err)
	}
}

// TestPlans: from its sixth use on, Postgres may plan a statement without its values. With many writers it takes such a
// plan for the cheaper one: it guesses few spans, and reads a month by time for each. The sealer never gets one.
func TestPlans(t *testing.T) {
	w := newWorld(t)
	ctx := context.Background()
	const rows, turns = 500, 10
	writers := make([]int64, 80)
	for i := range writers {
		writers[i] = w.open()
		w.mustWrite(writers[i], 1, rows)
	}
	w.asOwner("ANALYZE argus.argus_audit_log")
	s := w.sealer(w.config(filepath.Join(t.TempDir(), "anchor")))
	defer s.Close()
	if err := s.remember(ctx); err != nil {
		t.Fatal(err)
	}
	for n := range int64(turns) {
		for _, writer := range writers {
			w.mustWrite(writer, rows+1+n, rows+1+n)
		}
		if _, err := s.round(ctx); err != nil {
			t.Fatal(err)
		}
	}
	var custom, generic int64
	for _, conn := range s.pool.AcquireAllIdle(ctx) {
		var c, g int64
		if err := conn.QueryRow(ctx, `SELECT coalesce(sum(custom_plans), 0), coalesce(sum(generic_plans), 0) FROM pg_prepared_statements
			WHERE statement LIKE '%argus_audit_log%' AND statement LIKE '%$1%' AND statement NOT LIKE '%pg_prepared_statements%'`).Scan(&c, &g); err != nil {
			t.Fatal(err)
		}
		custom, generic = custom+c, generic+g
		conn.Release()
	}
	if custom < turns || generic > 0 {
		t.Errorf("of %d rounds, %d statements over the log were planned with their values, and %d without", turns, custom, generic)
	}
}

func uuidNow(n int) string {
	at := fmt.Sprintf("%012x", time.Now().UnixMilli())
	return fmt.Sprintf("%s-%s-7000-8000-%012x", at[:8], at[8:], n)
}

// TestTwoSealers: two that seal at once, each believing that it is the one, are cut off at every place. There is never a
// fork, nor a checkpoint without its tree.
func TestTwoSealers(t *testing.T) { twoSealers(t, rounds(t, 12)) }

// rounds is the short form of a crash test, or the long one of make crash.
func rounds(t *testing.T, short int) int {
	if os.Getenv("ARGUS_CRASH_ROUNDS") != "" {
		return 100
	}
	return short
}

func twoSealers(t *testing.T, rounds int) {
	w := newWorld(t)
	dir := t.TempDir()
	random := rand.New(rand.NewPCG(7, 7))
	writers := []int64{w.open(), w.open(), w.open()}
	seqs := make([]int64, len(writers))
	for i, name := range []string{"a", "b"} { // each has a memory of its own before the first is cut off
		w.mustWrite(writers[i], 1, 10)
		seqs[i] = 10
		config := w.config(filepath.Join(dir, name))
		config.Adopt = i > 0
		_, stop := w.run(config)
		w.sealed()
		stop()
	}
	for round := range rounds {
		var both sync.WaitGroup
		for _, name := range []string{"a", "b"} {
			call, err := json.Marshal(childCall{w.pg.LedgerURL, w.key, filepath.Join(dir, name)})
			if err != nil {
				t.Fatal(err)
			}
			child := exec.Command(os.Args[0])
			child.Env = append(os.Environ(), childVariable+"="+string(call))
			var said strings.Builder
			child.Stderr = &said
			if err := child.Start(); err != nil {
				t.Fatal(err)
			}
			life := time.Duration(150+random.IntN(500)) * time.Millisecond
			both.Go(func() {
				kill := time.AfterFunc(life, func() { child.Process.Kill() })
				defer kill.Stop()
				if err := child.Wait(); err == nil || said.Len() > 0 {
					t.Errorf("round %d, %s ended by itself: %v %s", round, name, err, said.String())
				}
			})
		}
		for range 12 {
			i := random.IntN(len(writers))
			n := 1 + random.Int64N(300)
			w.mustWrite(writers[i], seqs[i]+1, seqs[i]+n)
			seqs[i] += n
			time.Sleep(time.Duration(random.IntN(30)) * time.Millisecond)
		}
		both.Wait()
	}
	_, _ = w.run(w.config(filepath.Join(dir, "a")))
	w.sealed()
	w.check()
	t.Logf("%d checkpoints of %d leaves", w.number("SELECT count(*) FROM argus.ledger_checkpoints"), w.number("SELECT max(size) FROM argus.ledger_checkpoints"))
}

// TestRestored: Postgres comes back from a backup that is older than what was signed, under load. Nothing is signed any
// more, by the sealer that ran, by one that starts, and all rows written since.
func TestRestored(t *testing.T) {
	w := newWorld(t)
	ctx := context.Background()
	dir := t.TempDir()
	anchor := filepath.Join(dir, "anchor")
	s, stop := w.run(w.config(anchor))
	a, b := w.open(), w.open()
	w.mustWrite(a, 1, 100)
	w.sealed()
	backup := w.number("SELECT max(size) FROM argus.ledger_checkpoints")
	w.mustWrite(a, 101, 150)
	w.mustWrite(b, 1, 20)
	w.sealed()
	signed := w.number("SELECT max(size) FROM argus.ledger_checkpoints")
	// The owner plays the backup.
	w.rewind(backup, map[int64]int64{a: 100, b: 0})
	await(t, "the running sealer to see the fork", func() bool { return s.Status().State == "forked" })
	// New calls are written meanwhile.
	c := w.open()
	w.mustWrite(c, 1, 500)
	stop()
	for _, restart := range []string{"with its anchor file", "again"} {
		again, end := w.run(w.config(anchor))
		await(t, "a sealer "+restart+" to see the fork", func() bool { return again.Status().State == "forked" })
		end()
	}
	if n := w.number("SELECT max(size) FROM argus.ledger_checkpoints"); n != backup {
		t.Fatalf("a checkpoint of %d leaves was signed after the restore to %d", n, backup)
	}
	if n := w.number("SELECT max(first_leaf + leaves) FROM argus.ledger_runs"); n != backup {
		t.Fatalf("leaves were added after the restore: %d", n)
	}
	// One without a memory does not take Postgres at its word.
	other, end := w.run(w.config(filepath.Join(dir, "other")))
	await(t, "a sealer without a memory to stop", func() bool { return strings.Contains(other.Status().Problem, "--adopt") })
	end()
	if n := w.number("SELECT max(size) FROM argus.ledger_checkpoints"); n != backup || signed <= backup {
		t.Fatalf("it signed %d", n)
	}
	// Rows that go missing without their leaves show too: audit_writers says less than is sealed.
	if _, err := w.owner.Exec(ctx, "ALTER TABLE argus.argus_audit_log DISABLE TRIGGER ALL"); err != nil {
		t.Fatal(err)
	}
}

// TestWriterBehind: only the rows of a writer went back, the ledger's own tables did not.
func TestWriterBehind(t *testing.T) {
	w := newWorld(t)
	s, _ := w.run(w.config(filepath.Join(t.TempDir(), "anchor")))
	a := w.open()
	w.mustWrite(a, 1, 100)
	w.sealed()
	if _, err := w.owner.Exec(context.Background(), "UPDATE argus.audit_writers SET seq = 90 WHERE writer_id = $1", a); err != nil {
		t.Fatal(err)
	}
	await(t, "the fork", func() bool { return s.Status().State == "forked" })
	if _, err := w.owner.Exec(context.Background(), "UPDATE argus.audit_writers SET seq = 100 WHERE writer_id = $1", a); err != nil {
		t.Fatal(err)
	}
	await(t, "the sealer to go on when Postgres is what it was", func() bool { return s.Status().State == "sealing" })
}

// TestRootChanged: the owner rewrites a digest below the newest checkpoint. A sealer that starts finds another root.
func TestRootChanged(t *testing.T) {
	w := newWorld(t)
	anchor := filepath.Join(t.TempDir(), "anchor")
	_, stop := w.run(w.config(anchor))
	a := w.open()
	w.mustWrite(a, 1, 700)
	w.sealed()
	stop()
	before := w.number("SELECT count(*) FROM argus.ledger_checkpoints")
	w.asOwner("UPDATE argus.ledger_runs SET digests = set_byte(digests, 5, 255 - get_byte(digests, 5)) WHERE kind = 1")
	s, _ := w.run(w.config(anchor))
	await(t, "the fork", func() bool { return s.Status().State == "forked" })
	if w.number("SELECT count(*) FROM argus.ledger_checkpoints") != before {
		t.Error("it signed")
	}
}

// asOwner runs statements with all triggers off.
func (w *world) asOwner(statements ...string) {
	w.t.Helper()
	conn, err := pgx.Connect(context.Background(), w.pg.SuperuserURL)
	if err != nil {
		w.t.Fatal(err)
	}
	defer conn.Close(context.Background())
	for _, sql := range append([]string{"SET session_replication_role = replica"}, statements...) {
		if _, err := conn.Exec(context.Background(), sql); err != nil {
			w.t.Fatalf("%s: %v", sql, err)
		}
	}
}

// rewind makes Postgres what it was at a checkpoint, as a restore does.
func (w *world) rewind(size int64, seqs map[int64]int64) {
	w.t.Helper()
	statements := []string{"BEGIN",
		fmt.Sprintf("DELETE FROM argus.ledger_checkpoints WHERE size > %d", size),
		fmt.Sprintf("DELETE FROM argus.ledger_runs WHERE first_leaf >= %d", size)}
	for writer, seq := range seqs {
		statements = append(statements, fmt.Sprintf("DELETE FROM argus.argus_audit_log WHERE writer_id = %d AND seq > %d", writer, seq),
			fmt.Sprintf("UPDATE argus.audit_writers SET seq = %d WHERE writer_id = %d", seq, writer))
	}
	w.asOwner(append(statements, "COMMIT")...)
}

func await(t testing.TB, what string, done func() bool) {
	t.Helper()
	deadline := time.Now().Add(time.Minute)
	for !done() {
		if time.Now().After(deadline) {
			t.Fatalf("waited in vain for %s", what)
		}
		time.Sleep(10 * time.Millisecond)
	}
}

// TestQuiet: nothing comes, and the checkpoint stays young, by a record that is a leaf itself.
func TestQuiet(t *testing.T) {
	w := newWorld(t)
	config := w.config(filepath.Join(t.TempDir(), "anchor"))
	config.Idle = 50 * time.Millisecond
	_, stop := w.run(config)
	defer stop()
	await(t, "checkpoints over records of quiet", func() bool {
		return w.number("SELECT count(*) FROM argus.audit_admin WHERE kind = 'ledger_idle'") > 3 && w.number("SELECT count(*) FROM argus.ledger_checkpoints") > 3
	})
}
