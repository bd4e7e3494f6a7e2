package ledger

import (
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"golang.org/x/crypto/ssh/agent"

	"github.com/useargus/argus/proof"
)

// TestRecover: Postgres is restored, and the leaves come back from a mirror's folder and from its URL. The tree goes on, no
// row gets a second leaf, and the loss is in the tree. A mirror of which one byte was changed brings nothing back.
func TestRecover(t *testing.T) {
	w := newWorld(t)
	ctx := context.Background()
	anchor := filepath.Join(t.TempDir(), "anchor")
	s, _ := w.run(w.config(anchor))
	a, b := w.open(), w.open()
	w.mustWrite(a, 1, 300)
	w.sealed()
	backup := w.number("SELECT max(size) FROM argus.ledger_checkpoints")
	w.mustWrite(a, 301, 700)
	w.mustWrite(b, 1, 50)
	if _, err := w.owner.Exec(ctx, "INSERT INTO argus.audit_admin (kind, detail) VALUES ('x', '{}')"); err != nil {
		t.Fatal(err)
	}
	w.sealed()
	signed, err := NewReader(w.owner).Newest(ctx)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	if _, _, err := Mirror(ctx, NewReader(w.owner), dir); err != nil {
		t.Fatal(err)
	}
	// The backup has the record that waited, and not its leaf.
	w.rewind(backup, map[int64]int64{a: 300, b: 0})
	w.asOwner("INSERT INTO argus.ledger_pending (kind, key, month, digest) SELECT 4, int8send(id), argus.month_number(at), sha256(argus.ledger_canonical_admin(s)) FROM argus.audit_admin s WHERE kind = 'x'",
		"DELETE FROM argus.ledger_tiles WHERE n > 0")
	await(t, "the fork", func() bool { return s.Status().State == "forked" })
	// The mirror is a memory of what was lost: it is not replaced.
	if _, _, err := Mirror(ctx, NewReader(w.owner), dir); !errors.Is(err, errForked) {
		t.Errorf("a mirror over what Postgres has lost: %v", err)
	}

	recover := func(source Source, how Recovery) (string, error) {
		conn, err := pgx.Connect(ctx, w.pg.LedgerURL)
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close(ctx)
		how.By, how.Anchor = "ada@ops1", anchor
		return Recover(ctx, conn, source, w.keys(), how)
	}
	bundle := filepath.Join(dir, "tile", "entries", "001")
	whole, err := os.ReadFile(bundle)
	if err != nil {
		t.Fatal(err)
	}
	for _, at := range []int{60, len(whole) - 1} { // the bundle's leaves from 256 on, of which Postgres lacks those from 301
		if at == 60 {
			at = 53*60 + 30
		}
		bad := append([]byte(nil), whole...)
		bad[at] ^= 4
		if err := os.WriteFile(bundle, bad, 0o644); err != nil {
			t.Fatal(err)
		}
		if said, err := recover(FromFolder(dir), Recovery{Reason: "a test"}); err == nil {
			t.Fatalf("a mirror with a flipped bit at %d: %s", at, said)
		}
	}
	if err := os.WriteFile(bundle, whole, 0o644); err != nil {
		t.Fatal(err)
	}
	if n := w.number("SELECT max(first_leaf + leaves) FROM argus.ledger_runs"); n != backup {
		t.Fatalf("%d leaves after recoveries that failed", n)
	}
	if said, err := recover(FromFolder(dir), Recovery{Check: true}); err != nil || !strings.Contains(said, "would be") {
		t.Errorf("--check: %s, %v", said, err)
	}
	if _, err := recover(FromFolder(dir), Recovery{}); err == nil {
		t.Error("no reason was asked for")
	}
	server := httptest.NewServer(http.FileServer(http.Dir(dir)))
	defer server.Close()
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	if _, err := recover(FromURL(server.URL, client), Recovery{Reason: "restored a backup"}); err != nil {
		t.Fatal(err)
	}
	if _, err := recover(FromFolder(dir), Recovery{Reason: "again"}); err == nil {
		t.Error("a second recovery")
	}
	await(t, "the sealer to go on", func() bool { return s.Status().State == "sealing" })
	c := w.open()
	w.mustWrite(c, 1, 40)
	await(t, "leaves of new rows", func() bool {
		_, err := NewReader(w.owner).CallLeaf(ctx, c, 40)
		return err == nil && w.number("SELECT count(*) FROM argus.ledger_pending") == 0 &&
			w.number("SELECT max(first_leaf + leaves) FROM argus.ledger_runs") == w.number("SELECT max(size) FROM argus.ledger_checkpoints")
	})
	newest, err := NewReader(w.owner).Newest(ctx)
	if err != nil {
		t.Fatal(err)
	}
	// The mirror goes on, too. A checkpoint that was cosigned just now is shown, and never an older one than before.
	if _, err := w.owner.Exec(ctx, "INSERT INTO argus.ledger_cosignatures (size, key, line) VALUES ($1, 'w', E'— w AAAAAAAA\n')", signed.Size); err != nil {
		t.Fatal(err)
	}
	if size, _, err := Mirror(ctx, NewReader(w.owner), dir); err != nil || size != signed.Size && size != newest.Size {
		t.Errorf("a mirror after the recovery: %d, %v", size, err)
	}
	if _, err := w.owner.Exec(ctx, "INSERT INTO argus.ledger_cosignatures (size, key, line) VALUES ($1, 'w', E'— w AAAAAAAA\n')", newest.Size); err != nil {
		t.Fatal(err)
	}
	for _, cosigned := range []int64{newest.Size, backup} {
		if _, err := w.owner.Exec(ctx, "INSERT INTO argus.ledger_cosignatures (size, key, line) VALUES ($1, 'v', E'— v AAAAAAAA\n')", cosigned); err != nil {
			t.Fatal(err)
		}
		if size, _, err := Mirror(ctx, NewReader(w.owner), dir); err != nil || size < newest.Size {
			t.Errorf("a mirror goes back to %d leaves: %v", size, err)
		}
	}
	// The old checkpoint is a prefix of the new tree, and each key has one leaf.
	then, err := resumeTree(signed.Size, NewReader(w.owner).TileReader(ctx))
	if err != nil {
		t.Fatal(err)
	}
	if root, err := then.root(); err != nil || root != signed.Root {
		t.Errorf("the tree has another beginning: %v", err)
	}
	leaves := map[string]int64{}
	if err := NewReader(w.owner).Runs(ctx, 0, newest.Size, func(run proof.Run) error {
		for i := range run.Leaves() {
			e := run.Entry(i)
			if other, ok := leaves[e.String()]; ok {
				t.Errorf("%s has the leaves %d and %d", e.String(), other, run.FirstLeaf+int64(i))
			}
			leaves[e.String()] = run.FirstLeaf + int64(i)
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	if n := w.number("SELECT count(*) FROM argus.ledger_losses WHERE from_leaf = $1 AND to_leaf = $2 AND claimed_by = 'ada@ops1'", backup, signed.Size); n != 1 {
		t.Error("the loss is not declared")
	}
	if _, ok := leaves["audit_admin row "+itoa(w.number("SELECT id FROM argus.audit_admin WHERE kind = 'ledger_recovered'"))]; !ok {
		t.Error("the recovery is no leaf")
	}
}

func itoa(n int64) string { return strconv.FormatInt(n, 10) }

// TestPostgresKilled: Postgres is killed under the sealer, some times.
func TestPostgresKilled(t *testing.T) {
	w := ownWorld(t)
	w.run(w.config(filepath.Join(t.TempDir(), "anchor")))
	for range rounds(t, 3) {
		stop := make(chan struct{})
		var load sync.WaitGroup
		for range 3 {
			load.Go(func() {
				var writer int64
				if w.api.QueryRow(context.Background(), "SELECT argus.open_audit_writer(gen_random_uuid(), 0)").Scan(&writer) != nil {
					return
				}
				for seq := int64(0); ; seq += 20 {
					select {
					case <-stop:
						return
					default:
					}
					if w.write(writer, seq+1, seq+20) != nil {
						return // another writer is opened in the next round
					}
				}
			})
		}
		time.Sleep(700 * time.Millisecond)
		if err := w.pg.Engine().StopImmediate(); err != nil {
			t.Fatal(err)
		}
		close(stop)
		load.Wait()
		w.pg.Restart(t)
	}
	w.owner, w.api = w.pg.Pool(t, w.pg.OwnerURL), w.pg.Pool(t, w.pg.APIURL)
	w.sealed()
	w.check()
}

// TestRetention: a month with rows that have no leaf does not leave. When it leaves, the record of it is a leaf, and its
// count is that of the month's leaves.
func TestRetention(t *testing.T) {
	w := newWorld(t)
	ctx := context.Background()
	config := w.config(filepath.Join(t.TempDir(), "anchor"))
	_, stop := w.run(config)
	a := w.open()
	w.mustWrite(a, 1, 10)
	w.sealed()
	stop()
	if _, err := w.owner.Exec(ctx, "SELECT argus.create_month(now() - interval '15 months')"); err != nil {
		t.Fatal(err)
	}
	b := w.open()
	if _, err := w.api.Exec(ctx, insertCalls, b, 1, 70, "15 months"); err != nil {
		t.Fatal(err)
	}
	drop := func() (n int64) {
		t.Helper()
		return w.number("SELECT count(*) FROM argus.drop_expired_months()")
	}
	if n := drop(); n != 0 {
		t.Fatalf("%d months left, and their rows had no leaf", n)
	}
	if n := w.number("SELECT count(*) FROM argus.expired_months() WHERE kept LIKE '%ledger%'"); n != 1 {
		t.Errorf("%d months are kept for the ledger", n)
	}
	_, stop = w.run(config)
	w.sealed()
	if n := drop(); n != 1 {
		t.Fatalf("%d months left", n)
	}
	w.mustWrite(a, 11, 20)
	await(t, "leaves of what came after", func() bool {
		_, err := NewReader(w.owner).CallLeaf(ctx, a, 20)
		return err == nil && w.number("SELECT count(*) FROM argus.ledger_pending") == 0
	})
	if n := w.number(`SELECT (SELECT sum(leaves) FROM argus.ledger_runs WHERE kind = 1 AND month = argus.month_number(now() - interval '15 months'))
		- (SELECT (detail->>'rows')::bigint FROM argus.audit_admin WHERE kind = 'month_dropped')`); n != 0 {
		t.Errorf("the record of the drop and the leaves differ by %d", n)
	}
	// A sealer that starts anew does not mind what has left.
	stop()
	s, _ := w.run(config)
	w.mustWrite(a, 21, 30)
	await(t, "leaves after a restart", func() bool {
		_, err := NewReader(w.owner).CallLeaf(ctx, a, 30)
		return err == nil
	})
	if status := s.Status(); status.State != "sealing" {
		t.Errorf("the sealer is %s: %s", status.State, status.Problem)
	}
}

// TestLateLedger: retention has dropped rows before the ledger starts. The tree begins with what is there.
func TestLateLedger(t *testing.T) {
	w := newWorld(t)
	a, b := w.open(), w.open()
	w.mustWrite(a, 1, 100)
	w.mustWrite(b, 1, 30)
	w.asOwner("DELETE FROM argus.argus_audit_log WHERE seq <= 40")
	s, _ := w.run(w.config(filepath.Join(t.TempDir(), "anchor")))
	await(t, "a checkpoint", func() bool {
		_, err := NewReader(w.owner).CallLeaf(context.Background(), a, 100)
		return err == nil && s.Status().State == "sealing"
	})
	if _, err := NewReader(w.owner).CallLeaf(context.Background(), a, 40); !errors.Is(err, ErrNone) {
		t.Errorf("a row that was gone has a leaf: %v", err)
	}
	w.mustWrite(a, 101, 110)
	await(t, "leaves of calls", func() bool {
		return w.number("SELECT coalesce(sum(leaves), 0) FROM argus.ledger_runs WHERE kind = 1") == 110-40
	})
	// A hole stops the sealer: it signs nothing over rows that are not there.
	w.asOwner(fmt.Sprintf("UPDATE argus.audit_writers SET seq = 120 WHERE writer_id = %d", a))
	await(t, "the hole to be noticed", func() bool {
		status := s.Status()
		return status.State == "failing" && strings.Contains(status.Problem, "hole")
	})
}

// TestKeys: a key in an ssh-agent signs what the public key opens. A key file that others can read is rejected. During a
// rotation both keys sign, and a reader with either key accepts the checkpoint.
func TestKeys(t *testing.T) {
	dir := t.TempDir()
	_, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	ring := agent.NewKeyring()
	if err := ring.Add(agent.AddedKey{PrivateKey: private, Comment: "ledger"}); err != nil {
		t.Fatal(err)
	}
	socket := filepath.Join(dir, "agent")
	listener, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	var serving sync.WaitGroup
	serving.Go(func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			serving.Go(func() {
				defer conn.Close()
				agent.ServeAgent(ring, conn)
			})
		}
	})
	defer serving.Wait()
	defer listener.Close()
	keys := &Keys{Origin: origin}
	if err := keys.Add("agent:" + socket + "#ledger"); err != nil {
		t.Fatal(err)
	}
	if err := (&Keys{Origin: origin}).Add("agent:" + socket + "#another"); err == nil {
		t.Error("a key that the agent does not hold")
	}
	file := filepath.Join(dir, "key")
	second, err := NewKeyFile(file, origin)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := NewKeyFile(file, origin); err == nil {
		t.Error("a key was overwritten")
	}
	if err := keys.Add(file); err != nil {
		t.Fatal(err)
	}
	if _, err := NewKeyFile(filepath.Join(dir, "clock"), origin+"/clock"); err != nil {
		t.Fatal(err)
	}
	if err := keys.AddClock(filepath.Join(dir, "clock")); err != nil {
		t.Fatal(err)
	}
	c := proof.Checkpoint{Origin: origin, Size: 3, Root: proof.Hash{1}}
	msg, err := (&Sealer{config: Config{Keys: keys}}).sign(c)
	if err != nil {
		t.Fatal(err)
	}
	for _, key := range []proof.Key{keys.Public()[0], second} {
		if got, err := proof.OpenCheckpoint([]byte(msg), key); err != nil || got != c {
			t.Errorf("opened by %s: %v, %v", key, got, err)
		}
	}
	timer, err := ClockKey(filepath.Join(dir, "clock"))
	if err != nil {
		t.Fatal(err)
	}
	if at, ok := proof.Cosigned([]byte(msg), timer.Verifier()); !ok || time.Since(at).Abs() > time.Hour {
		t.Errorf("the clock says %v, %v", at, ok)
	}
	if err := os.Chmod(file, 0o640); err != nil {
		t.Fatal(err)
	}
	if err := (&Keys{Origin: origin}).Add(file); err == nil || !strings.Contains(err.Error(), "chmod 600") {
		t.Errorf("a key that others can read: %v", err)
	}
	if err := os.Chmod(file, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := (&Keys{Origin: "another.test/log"}).Add(file); err == nil {
		t.Error("a key of another log")
	}
}

// TestAnchor: a line that a crash cut off goes, and other damage is an error. Old lines thin out, and the newest stays. Two
// processes never share a file.
func TestAnchor(t *testing.T) {
	path := filepath.Join(t.TempDir(), "anchor")
	a, err := openAnchor(path)
	if err != nil {
		t.Fatal(err)
	}
	for size := range int64(5) {
		if err := a.add(size+1, proof.Hash{byte(size)}); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := openAnchor(path); err == nil {
		t.Error("two have it open")
	}
	a.close()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for _, cut := range []int{1, 10, 40} {
		if err := os.WriteFile(path, data[:len(data)-cut], 0o600); err != nil {
			t.Fatal(err)
		}
		if a, err = openAnchor(path); err != nil || a.last.Size != 4 {
			t.Fatalf("cut by %d: %v, %v", cut, a, err)
		}
		a.close()
	}
	if err := os.WriteFile(path, append([]byte("7 no root 3\n"), data...), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := openAnchor(path); err == nil {
		t.Error("a damaged line was taken")
	}
	var old strings.Builder
	now := time.Now().Unix()
	for i := range int64(20000) { // a line a second, up to ninety days old
		age := int64(90*24*3600) - i*389
		old.WriteString(itoa(i+1) + " " + strings.Repeat("A", 43) + "= " + itoa(now-age) + "\n")
	}
	if err := os.WriteFile(path, []byte(old.String()), 0o600); err != nil {
		t.Fatal(err)
	}
	if a, err = openAnchor(path); err != nil {
		t.Fatal(err)
	}
	defer a.close()
	if err := a.compact(); err != nil {
		t.Fatal(err)
	}
	all, err := a.all()
	if err != nil || len(all) > 12000 || len(all) < 7000 || a.last.Size != 20000 {
		t.Errorf("%d lines, the newest of %d: %v", len(all), a.last.Size, err)
	}
	if err := a.add(20001, proof.Hash{1}); err != nil || a.last.Size != 20001 {
		t.Error(err)
	}
	// The disk fails once: the line is not there, and the next try writes it anew.
	synced := 0
	syncFile = func(f *os.File) error {
		if synced++; synced == 1 {
			return errors.New("no space left")
		}
		return f.Sync()
	}
	defer func() { syncFile = (*os.File).Sync }()
	if err := a.add(20002, proof.Hash{2}); err == nil {
		t.Error("a line that is not on disk was taken")
	}
	if lines, err := a.refresh(); err != nil || len(lines) > 0 || a.last.Size != 20001 {
		t.Errorf("after the failure: %d lines, the newest of %d: %v", len(lines), a.last.Size, err)
	}
	if err := a.add(20002, proof.Hash{2}); err != nil || a.last.Size != 20002 || synced != 2 {
		t.Errorf("after %d syncs the newest is of %d: %v", synced, a.last.Size, err)
	}
}

// TestFailover: Postgres goes on from a copy of its data folder that lags behind, as a standby that was promoted does, while
// calls come in. Nothing is signed over it. When the first folder is back, sealing goes on.
func TestFailover(t *testing.T) {
	w := ownWorld(t)
	s, _ := w.run(w.config(filepath.Join(t.TempDir(), "anchor")))
	a := w.open()
	w.mustWrite(a, 1, 100)
	w.sealed()
	dir := w.pg.Engine().Config().Dir
	move := func(from, to string) {
		t.Helper()
		if out, err := exec.Command("cp", "-a", from, to).CombinedOutput(); err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
	}
	stopped := func(f func()) {
		t.Helper()
		if err := w.pg.Engine().Stop(context.Background()); err != nil {
			t.Fatal(err)
		}
		f()
		w.pg.Restart(t)
		w.owner, w.api = w.pg.Pool(t, w.pg.OwnerURL), w.pg.Pool(t, w.pg.APIURL)
	}
	stopped(func() { move(dir, dir+".lags") })
	defer os.RemoveAll(dir + ".lags")
	defer os.RemoveAll(dir + ".first")
	w.mustWrite(a, 101, 250)
	w.sealed()
	signed := w.number("SELECT max(size) FROM argus.ledger_checkpoints")
	stopped(func() {
		if err := os.Rename(dir, dir+".first"); err != nil {
			t.Fatal(err)
		}
		move(dir+".lags", dir)
	})
	b := w.open() // the API's processes find their lanes fenced, and open others
	w.mustWrite(b, 1, 1000)
	await(t, "the fork", func() bool { return s.Status().State == "forked" })
	w.mustWrite(b, 1001, 1100)
	if n := w.number("SELECT count(*) FROM argus.ledger_runs WHERE writer_id = $1", b); n != 0 {
		t.Fatalf("%d runs were sealed behind the failover", n)
	}
	if n := w.number("SELECT max(size) FROM argus.ledger_checkpoints"); n >= signed {
		t.Fatalf("a checkpoint of %d leaves", n)
	}
	stopped(func() {
		if err := os.RemoveAll(dir); err != nil {
			t.Fatal(err)
		}
		if err := os.Rename(dir+".first", dir); err != nil {
			t.Fatal(err)
		}
	})
	await(t, "the sealer to go on", func() bool { return s.Status().State == "sealing" })
	w.mustWrite(a, 251, 260)
	w.sealed()
	w.check()
}
