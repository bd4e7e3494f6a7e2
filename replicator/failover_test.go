package replicator

import (
	"context"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/useargus/argus"
	"github.com/useargus/argus/internal/engines"
	"github.com/useargus/argus/internal/engines/enginetest"
)

// pair is a world whose Postgres has a standby. The replicator's URL names both.
type pair struct {
	*world
	old, standby *engines.Postgres
}

func newPair(t *testing.T, binDir string) *pair {
	w := newOwnWorld(t, engines.PostgresConfig{BinDir: binDir})
	p := &pair{world: w, old: w.pg.Engine()}
	var err error
	if p.standby, err = p.old.Standby(w.ctx(), t.TempDir(), "pg2"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { p.freeze(syscall.SIGCONT); p.old.StopImmediate(); p.standby.StopImmediate() })
	u, err := url.Parse(w.pg.ReplicatorURL)
	w.must(err)
	u.Host += ",127.0.0.1:" + strconv.Itoa(p.standby.Port())
	w.postgresURL = u.String()
	return p
}

// freeze stops the standby's processes, or has them go on.
func (p *pair) freeze(signal syscall.Signal) {
	children, err := filepath.Glob("/proc/[0-9]*/stat")
	p.must(err)
	for _, path := range children {
		data, _ := os.ReadFile(path)
		head, rest, _ := strings.Cut(string(data), ") ")
		var pid, parent int
		var state string
		fmt.Sscanf(head, "%d", &pid)
		fmt.Sscanf(rest, "%s %d", &state, &parent)
		if parent == p.standby.PID() || pid == p.standby.PID() {
			syscall.Kill(pid, signal)
		}
	}
}

// promote makes the standby the world's Postgres, after the old one's death. The standby was stopped before.
func (p *pair) promote() {
	p.t.Helper()
	p.must(p.old.Kill(syscall.SIGKILL))
	var err error
	p.standby, err = engines.StartPostgres(p.ctx(), p.standby.Config())
	p.must(err)
	p.must(p.standby.Promote(p.ctx()))
	p.pg.MoveTo(p.t, p.standby)
	p.api = p.pg.Pool(p.t, p.pg.LoaderURL(p.t))
}

func (p *pair) orphans() (n uint64) {
	p.t.Helper()
	p.must(p.copy.QueryRow(p.ctx(), `SELECT (SELECT count() FROM audit_orphans) + (SELECT count() FROM compute_control_orphans)
		+ (SELECT count() FROM remote_support_orphans)`).Scan(&n))
	return n
}

func (p *pair) said(text string) bool {
	log, _ := os.ReadFile(p.logs)
	return strings.Contains(string(log), text)
}

func (p *pair) until(what string, try func() bool) {
	p.t.Helper()
	for deadline := time.Now().Add(60 * time.Second); !try(); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(deadline) {
			p.t.Fatalf("never: %s", what)
		}
	}
}

func (p *pair) has(l *lane, seq int64) bool {
	p.t.Helper()
	var n uint64
	p.must(p.copy.QueryRow(p.ctx(), fmt.Sprintf("SELECT count() FROM audit_log WHERE writer_id = %d AND seq = %d", l.id, seq)).Scan(&n))
	return n == 1
}

// TestLostTail fails over to an asynchronous standby that lagged. What only the old primary had becomes orphans: rows of a
// writer that goes on before, of one that was opened and closed in the tail, and steps. The rest of the copy is not looked
// at, and the position never claims them. Then the old primary comes back alone, and is not followed.
func TestLostTail(t *testing.T) {
	p := newPair(t, "")
	super := p.pg.Pool(t, p.pg.SuperuserURL)
	old := ago(90)
	_, err := super.Exec(p.ctx(), "SELECT argus.create_month($1)", old)
	p.must(err)
	before := p.openLane()
	before.write(500, old)
	stop := p.start()
	stopLoad := p.load(2, time.Now)
	p.caughtUp()
	p.must(p.old.Streams(p.ctx(), p.standby, "pg2", p.slot()))
	time.Sleep(300 * time.Millisecond)
	stopLoad()
	p.caughtUp()
	p.until("the standby has it all", func() bool { return p.lag() == 0 })

	p.must(p.standby.StopImmediate()) // frozen, it would find what its socket holds
	before.write(3, time.Now())
	closed := p.openLane()
	p.must(closed.commit(7, time.Now(), func(tx pgx.Tx, r []argus.Record) error { return insertSteps(tx, &r[2]) }))
	closed.close()
	stopLoad = p.load(2, time.Now)
	time.Sleep(300 * time.Millisecond)
	stopLoad()
	p.caughtUp()
	var had uint64
	p.must(p.copy.QueryRow(p.ctx(), "SELECT count() FROM audit_log").Scan(&had))
	p.promote()

	after := p.openLane()
	after.write(5, time.Now())
	p.until("the new primary's rows are copied", func() bool { return p.has(after, 5) })
	p.verify()
	var has uint64
	p.must(p.copy.QueryRow(p.ctx(), "SELECT count() FROM audit_log").Scan(&has))
	if n := p.orphans(); n < had-has+5+3 || has >= had {
		t.Errorf("%d rows were there, %d are: %d orphans", had, has, n)
	}
	var reasons []string
	var months int
	p.must(p.api.QueryRow(p.ctx(), `SELECT coalesce(array_agg(detail ->> 'reason'), '{}'), coalesce(max((SELECT count(*) FROM jsonb_object_keys(detail -> 'months'))), 0)
		FROM argus.audit_admin WHERE kind = 'heal' AND detail ->> 'reason' <> 'first_copy'`).Scan(&reasons, &months))
	if len(reasons) != 1 || reasons[0] != healFailover || months == 0 || months > 3 || !p.said("the copy goes on from its slot") {
		t.Errorf("the stores were compared for %v, of %d months", reasons, months)
	}
	stop()

	// The old primary alone: neither the copy nor its epoch changes.
	p.old, err = engines.StartPostgres(p.ctx(), p.old.Config())
	p.must(err)
	epoch := func() (n uint64) {
		p.must(p.copy.QueryRow(p.ctx(), "SELECT max(epoch) FROM replicator_epoch").Scan(&n))
		return n
	}
	was := epoch()
	new := p.postgresURL
	p.postgresURL = p.old.URL("argus_replicator", password(t, p.pg.ReplicatorURL), p.pg.Database)
	stop = p.start()
	p.until("the old primary is turned away", func() bool { return p.said("It is an old primary that came back") })
	stop()
	if now := epoch(); now != was {
		t.Errorf("its replicator took over: epoch %d, before %d", now, was)
	}
	p.must(p.old.Kill(syscall.SIGKILL))
	p.postgresURL = new
	stop = p.start()
	p.verify()
	stop()
}

func password(t *testing.T, of string) string {
	u, err := url.Parse(of)
	if err != nil {
		t.Fatal(err)
	}
	password, _ := u.User.Password()
	return password
}

// lag is what the standby has not received, in bytes.
func (p *pair) lag() (bytes int64) {
	p.t.Helper()
	super := p.pg.Pool(p.t, p.old.SuperuserURL(p.pg.Database))
	defer super.Close()
	if err := super.QueryRow(p.ctx(), `SELECT coalesce(max(pg_wal_lsn_diff(pg_current_wal_flush_lsn(), flush_lsn)), -1)::bigint
		FROM pg_stat_replication WHERE application_name = 'pg2'`).Scan(&bytes); err != nil {
		p.t.Fatal(err)
	}
	return bytes
}

// TestUnconfirmedRows: the log that Postgres decodes is ahead of the synchronous standby. A row in it is not given to ClickHouse
// before the standby has it, with the slot of 18 and without of 15. A failover takes it back, and no reader has seen it.
func TestUnconfirmedRows(t *testing.T) {
	for name, bin := range map[string]string{"18": "", "15": enginetest.Postgres15()} {
		t.Run(name, func(t *testing.T) {
			p := newPair(t, bin)
			stop := p.start()
			l := p.openLane()
			l.write(10, time.Now())
			p.caughtUp()
			slots := []string{p.slot()}
			if bin != "" {
				slots = nil
			}
			p.must(p.old.Streams(p.ctx(), p.standby, "pg2", slots...))
			p.must(p.old.Set(p.ctx(), "synchronous_standby_names", "pg2"))
			l.write(1, time.Now())
			p.caughtUp()

			commit := func() chan error {
				done := make(chan error, 1)
				go func() { done <- l.commit(1, time.Now(), nil) }()
				return done
			}
			p.freeze(syscall.SIGSTOP)
			done := commit()
			p.until("the replicator waits", func() bool { return p.said("rows wait for the synchronous standbys") })
			if p.has(l, 12) {
				t.Error("a row that no standby has is in ClickHouse")
			}
			p.freeze(syscall.SIGCONT)
			p.must(<-done)
			p.until("it is copied when the standby has it", func() bool { return p.has(l, 12) })

			p.must(p.standby.StopImmediate()) // frozen, it would find what its socket holds
			done = commit()
			time.Sleep(time.Second) // it is decoded meanwhile
			p.promote()
			if err := <-done; err == nil {
				t.Error("a commit that no standby had was answered")
			}
			p.must(p.standby.Set(context.Background(), "synchronous_standby_names", ""))
			after := p.openLane()
			after.write(5, time.Now())
			p.until("the copy goes on", func() bool { return p.has(after, 5) })
			p.verify()
			if n := p.orphans(); n != 0 || p.has(l, 13) {
				t.Errorf("%d orphans", n)
			}
			stop()
		})
	}
}
