package replicator

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
)

// ledgerOf writes runs and checkpoints into Postgres as a sealer does, but of made-up digests.
type ledgerOf struct {
	w      *world
	pool   *pgxpool.Pool
	random *rand.Rand
	size   int64
	salt   string
}

func (w *world) ledger() *ledgerOf {
	return &ledgerOf{w: w, pool: w.pg.Pool(w.t, w.pg.LedgerURL), random: rand.New(rand.NewPCG(3, 9))}
}

// digest of a leaf.
func (l *ledgerOf) digest(leaf int64) []byte {
	h := sha256.Sum256(binary.BigEndian.AppendUint64([]byte(l.salt), uint64(leaf)))
	return h[:]
}

// grow adds runs of random lengths and kinds, and a checkpoint.
func (l *ledgerOf) grow(runs int) {
	l.w.t.Helper()
	for range runs {
		n := min(1+l.random.Int64N(300), 65536-l.size%65536)
		var digests, keys []byte
		for i := range n {
			digests = append(digests, l.digest(l.size+i)...)
			keys = binary.BigEndian.AppendUint64(keys, uint64(l.size+i))
		}
		var err error
		if l.random.IntN(3) > 0 {
			_, err = l.pool.Exec(l.w.ctx(), `INSERT INTO argus.ledger_runs (first_leaf, leaves, kind, month, writer_id, first_seq, digests)
				VALUES ($1::bigint, $2, 1, 682, 7, $1::bigint + 1, $3)`, l.size, n, digests)
		} else {
			_, err = l.pool.Exec(l.w.ctx(), `INSERT INTO argus.ledger_runs (first_leaf, leaves, kind, month, keys, digests)
				VALUES ($1, $2, 4, 682, $4, $3)`, l.size, n, digests, keys)
		}
		l.w.must(err)
		l.size += n
	}
	_, err := l.pool.Exec(l.w.ctx(), "INSERT INTO argus.ledger_checkpoints (size, root, note, position) VALUES ($1, $2, $3, 'c0')",
		l.size, l.digest(-l.size), fmt.Sprint("note of ", l.size))
	l.w.must(err)
}

func (l *ledgerOf) number(query string) (n int64) {
	l.w.t.Helper()
	l.w.must(l.w.copy.QueryRow(l.w.ctx(), "SELECT toInt64(("+query+"))").Scan(&n))
	return n
}

// copied waits until ClickHouse has the newest checkpoint, and compares both stores row by row, each run exactly once.
func (l *ledgerOf) copied() {
	t := l.w.t
	t.Helper()
	for try := 0; ; try++ {
		var size int64
		l.w.must(l.w.copy.QueryRow(l.w.ctx(), "SELECT max(size) FROM ledger_checkpoints").Scan(&size))
		if size == l.size {
			break
		}
		if try == 600 {
			t.Fatalf("ClickHouse has a checkpoint of %d leaves, not %d", size, l.size)
		}
		time.Sleep(50 * time.Millisecond)
	}
	list := func(query string) string {
		rows, err := l.w.copy.Query(l.w.ctx(), query)
		l.w.must(err)
		defer rows.Close()
		var all bytes.Buffer
		for rows.Next() {
			var line string
			l.w.must(rows.Scan(&line))
			all.WriteString(line + "\n")
		}
		return all.String()
	}
	from := func(query string) string {
		var all string
		l.w.must(l.pool.QueryRow(l.w.ctx(), "SELECT coalesce(string_agg(line, E'\\n'), '') || E'\\n' FROM ("+query+") x (line)").Scan(&all))
		return all
	}
	if here, there := list(`SELECT concatWithSeparator(' ', toString(first_leaf), toString(leaves), toString(kind), toString(month), ifNull(toString(writer_id), '-'),
			ifNull(toString(first_seq), '-'), ifNull(lower(hex(keys)), '-'), lower(hex(digests))) FROM ledger_runs ORDER BY first_leaf`),
		from(`SELECT concat_ws(' ', first_leaf, leaves, kind, month, coalesce(writer_id::text, '-'), coalesce(first_seq::text, '-'),
			coalesce(encode(keys, 'hex'), '-'), encode(digests, 'hex')) FROM argus.ledger_runs ORDER BY first_leaf`); here != there {
		t.Fatalf("the copies of runs differ: %d and %d bytes", len(here), len(there))
	}
	if here, there := list("SELECT concatWithSeparator(' ', toString(size), lower(hex(root)), note, position, toString(toUnixTimestamp64Micro(sealed_at))) FROM ledger_checkpoints ORDER BY size"),
		from("SELECT concat_ws(' ', size, encode(root, 'hex'), note, position, (extract(epoch FROM sealed_at) * 1000000)::bigint) FROM argus.ledger_checkpoints ORDER BY size"); here != there {
		t.Fatalf("the copies of checkpoints differ:\n%s\n%s", here, there)
	}
}

// TestLedger: runs and checkpoints come over exactly once, across kills at every passing of the failpoint. The copy keeps
// what Postgres loses in a restore. It tells of another history and keeps it beside. Neither healing nor --resync takes
// anything out.
func TestLedger(t *testing.T) {
	w := newWorld(t)
	l := w.ledger()
	l.grow(20)
	for i := range 6 {
		c := w.startChild("ledger", i%3)
		for dead := false; !dead; {
			l.grow(8)
			select {
			case <-c.done:
				dead = true
			case <-time.After(50 * time.Millisecond):
			}
		}
	}
	stop := w.start()
	w.openLane().write(10, time.Now())
	l.grow(300) // some pieces
	l.copied()
	if n := l.number("SELECT count() FROM ledger_conflicts"); n != 0 {
		t.Errorf("%d conflicts", n)
	}
	stop()

	// The copy lacks what Postgres has had for some time: first runs and checkpoints, then a checkpoint alone.
	lacks := func(want string) {
		t.Helper()
		r, err := New(w.config())
		w.must(err)
		defer r.Close()
		result, err := r.Check(w.ctx(), time.Time{})
		if err != nil || result.Equal() != (want == "") || !strings.Contains(fmt.Sprint(result.Differences), want) {
			t.Errorf("--check does not say %q: %v, %v", want, result, err)
		}
	}
	l.grow(3)
	lacks("") // a replicator may be about to bring them
	admin := w.pg.Pool(t, w.pg.SuperuserURL)
	for _, sql := range []string{"ALTER TABLE argus.ledger_checkpoints DISABLE TRIGGER USER", fmt.Sprintf("UPDATE argus.ledger_checkpoints SET sealed_at = sealed_at - interval '2 minutes' WHERE size = %d", l.size),
		"ALTER TABLE argus.ledger_checkpoints ENABLE TRIGGER USER"} {
		_, err := admin.Exec(w.ctx(), sql)
		w.must(err)
	}
	lacks("leaves of the ledger, and Postgres has had")
	stop = w.start()
	l.copied()
	stop()
	lacks("")
	w.must(w.copy.Exec(w.ctx(), fmt.Sprintf("ALTER TABLE ledger_checkpoints DELETE WHERE size = %d SETTINGS mutations_sync = 2", l.size)))
	lacks("newest checkpoint of the ledger")
	stop = w.start()
	l.copied() // it is put back
	stop()

	// Postgres is restored, and the same leaves are put back in other runs.
	size := l.size
	super := w.pg.Pool(t, w.pg.SuperuserURL)
	for _, sql := range []string{"ALTER TABLE argus.ledger_runs DISABLE TRIGGER USER", "ALTER TABLE argus.ledger_checkpoints DISABLE TRIGGER USER",
		fmt.Sprintf("DELETE FROM argus.ledger_checkpoints WHERE size > %d", size/2), fmt.Sprintf("DELETE FROM argus.ledger_runs WHERE first_leaf + leaves > %d", size/2),
		"ALTER TABLE argus.ledger_runs ENABLE TRIGGER USER", "ALTER TABLE argus.ledger_checkpoints ENABLE TRIGGER USER"} {
		_, err := super.Exec(w.ctx(), sql)
		w.must(err)
	}
	r, err := New(w.config())
	w.must(err)
	w.must(r.Resync(w.ctx()))
	r.Close()
	runs := l.number("SELECT count() FROM ledger_runs")
	if n := l.number("SELECT max(first_leaf + leaves) FROM ledger_runs"); n != size {
		t.Fatalf("after the restore and a resync ClickHouse has %d leaves, not %d", n, size)
	}
	w.must(super.QueryRow(w.ctx(), "SELECT max(first_leaf + leaves) FROM argus.ledger_runs").Scan(&l.size))
	check, err := New(w.config())
	w.must(err)
	result, err := check.Check(w.ctx(), time.Time{})
	check.Close()
	if err != nil || result.Equal() || result.Leaves != l.size {
		t.Errorf("--check after the restore: %v, %v", result, err)
	}
	// One run of Postgres is missing in the middle.
	for _, sql := range []string{"ALTER TABLE argus.ledger_runs DISABLE TRIGGER USER",
		"CREATE TABLE argus.held AS SELECT * FROM argus.ledger_runs WHERE first_leaf = (SELECT max(first_leaf) FROM argus.ledger_runs WHERE first_leaf < (SELECT max(first_leaf) FROM argus.ledger_runs))",
		"DELETE FROM argus.ledger_runs WHERE first_leaf = (SELECT first_leaf FROM argus.held)"} {
		_, err := super.Exec(w.ctx(), sql)
		w.must(err)
	}
	check, err = New(w.config())
	w.must(err)
	result, err = check.Check(w.ctx(), time.Time{})
	check.Close()
	if err != nil || result.Equal() || !strings.Contains(fmt.Sprint(result.Differences), "Postgres lacks leaf") {
		t.Errorf("--check with a hole in Postgres: %v, %v", result, err)
	}
	for _, sql := range []string{"INSERT INTO argus.ledger_runs SELECT * FROM argus.held", "DROP TABLE argus.held", "ALTER TABLE argus.ledger_runs ENABLE TRIGGER USER"} {
		_, err := super.Exec(w.ctx(), sql)
		w.must(err)
	}
	// Another history grows there.
	l.salt = "another"
	l.grow(5)
	stop = w.start()
	defer stop()
	for try := 0; l.number("SELECT count() FROM ledger_conflicts") == 0; try++ {
		if try == 600 {
			t.Fatal("the conflict was not noticed")
		}
		time.Sleep(50 * time.Millisecond)
	}
	if n := l.number("SELECT count() FROM ledger_runs"); n != runs {
		t.Errorf("ClickHouse has %d runs, not %d", n, runs)
	}
	for try := 0; len(w.status().Findings) == 0; try++ { // it is told once a second
		if try == 600 {
			t.Fatal("the conflict is no finding")
		}
		time.Sleep(50 * time.Millisecond)
	}
}

// TestLedgerFollowsRows: a checkpoint is copied when all rows are that had committed before it, however long they take.
func TestLedgerFollowsRows(t *testing.T) {
	w := newWorld(t)
	l := w.ledger()
	var held atomic.Bool
	release := make(chan struct{})
	failpoint = func(point string) {
		if point == "taken" && held.Load() {
			<-release
		}
	}
	defer func() { failpoint = func(string) {} }()
	lane := w.openLane()
	lane.write(1, time.Now())
	defer w.start()()
	w.caughtUp()
	held.Store(true)
	lane.write(10, time.Now())
	before := l.size
	l.grow(3)
	w.eventually("the runs are copied", func() bool { return l.number("SELECT max(first_leaf + leaves) FROM ledger_runs") == l.size })
	time.Sleep(time.Second) // a checkpoint comes right after its runs, when it does not wait
	if n := l.number("SELECT max(size) FROM ledger_checkpoints"); n > before {
		t.Errorf("a checkpoint of %d leaves is here before the rows that had committed", n)
	}
	held.Store(false)
	close(release)
	l.copied()
	w.verify()
}
