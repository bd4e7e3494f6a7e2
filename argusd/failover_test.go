package main

import (
	"context"
	"fmt"
	"maps"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/useargus/argus/internal/engines"
	"github.com/useargus/argus/internal/engines/enginetest"
)

// cluster is a site whose Postgres has standbys. Its processes reach it by a URL that names all of them. What an operator does
// are the blocks of docs/high-availability.md.
type cluster struct {
	*site
	*callers
	nodes           []*engines.Postgres // pg1, pg2, pg3
	api, replicator *server
	addr            string
	known           map[string]int // acknowledged so far
	stopCalling     func()
}

func nodeName(i int) string { return "pg" + strconv.Itoa(i+1) }

// newCluster makes a primary and two standbys, and starts an API and a replicator. The load goes on until the test stops it. Of
// Debian's Postgres there is a pg_basebackup, so the standbys are made by the page's own block. The way to the primary is what
// the URLs of the processes name.
func newCluster(t *testing.T, config engines.PostgresConfig, way func(*cluster) (hosts string)) *cluster {
	t.Helper()
	binDir := config.BinDir
	s := newSite(t, config)
	c := &cluster{site: s, nodes: []*engines.Postgres{s.pg}, known: map[string]int{}}
	t.Cleanup(func() {
		for _, node := range c.nodes {
			for _, pid := range postgresProcesses(t, node.PID()) {
				syscall.Kill(pid, syscall.SIGCONT)
			}
			node.StopImmediate()
		}
	})
	for i := 1; i < 3; i++ {
		dir := filepath.Join(s.dir, nodeName(i))
		var standby *engines.Postgres
		var err error
		if binDir == "" {
			standby, err = s.pg.Standby(t.Context(), dir, nodeName(i))
		} else {
			standby, err = c.baseBackup(dir, i)
		}
		if err != nil {
			t.Fatal(err)
		}
		c.nodes = append(c.nodes, standby)
	}
	for i := range c.nodes {
		c.page("settings", i)
	}
	c.settled()
	for i := range c.nodes {
		c.page("synchronous", i)
	}
	// The checkpointer's view of the names counts. It has it at a checkpoint after the postmaster has told everybody, as it has told
	// a session that sees them.
	c.wait("the primary waits for standbys", func() error {
		var names string
		if c.ask("SHOW synchronous_standby_names", &names); names == "" {
			return fmt.Errorf("it does not know them yet")
		}
		return nil
	})
	c.exec("postgres", "CHECKPOINT")
	hosts := way(c)
	s.env["check"] = map[string]string{"ARGUS_POSTGRES_URL": s.pg.SuperuserURL("argus")}
	for _, env := range s.env {
		if u, err := url.Parse(env["ARGUS_POSTGRES_URL"]); err == nil && u.Host != "" {
			u.Host, u.RawQuery = hosts, "sslmode=disable"
			env["ARGUS_POSTGRES_URL"] = u.String()
		}
	}
	c.addr = enginetest.FreeAddress(t)
	c.replicator, c.api = s.start("replicator"), s.startAPI(c.addr)
	c.callers = s.callers(c.addr)
	c.callers.outage = true
	c.stopCalling = c.startCalling(4)
	return c
}

// allHosts names every node, as the page has it.
func allHosts(c *cluster) string {
	var hosts []string
	for _, node := range c.nodes {
		hosts = append(hosts, "127.0.0.1:"+strconv.Itoa(node.Port()))
	}
	return strings.Join(hosts, ",")
}

// haproxy starts the balancer of the page before the nodes.
func haproxy(c *cluster) string {
	c.t.Helper()
	var servers []string
	for i, node := range c.nodes {
		servers = append(servers, fmt.Sprintf("server %s 127.0.0.1:%d check", nodeName(i), node.Port()))
	}
	u, err := url.Parse(c.pg.SuperuserURL("postgres"))
	if err != nil {
		c.t.Fatal(err)
	}
	password, _ := u.User.Password()
	bind := enginetest.FreeAddress(c.t)
	dir := c.t.TempDir()
	c.page("haproxy", 0, map[string]string{"HAPROXY": dir, "BIND": bind, "SERVERS": strings.Join(servers, "\n  "),
		"CHECK": "user=" + u.User.Username() + " password=" + password + " dbname=postgres"})
	program, err := exec.LookPath("haproxy")
	if err != nil {
		program = "/usr/sbin/haproxy" // where a user's PATH may not lead
	}
	command := exec.Command(program, "-db", "-f", filepath.Join(dir, "haproxy.cfg"))
	log, err := os.Create(filepath.Join(dir, "haproxy.log"))
	if err != nil {
		c.t.Fatal(err)
	}
	defer log.Close()
	command.Stdout, command.Stderr = log, log
	child, err := engines.StartChild(command, syscall.SIGKILL)
	if err != nil {
		c.t.Fatal(err)
	}
	c.t.Cleanup(func() { _ = child.Stop(context.Background(), time.Second) })
	c.wait("HAProxy has asked every node", func() error { // until then it takes each for a primary
		if said := tail(log.Name(), 1<<16); !strings.Contains(said, "pg2 is DOWN") || !strings.Contains(said, "pg3 is DOWN") {
			return fmt.Errorf("it said: %s", said)
		}
		return nil
	})
	return bind
}

// baseBackup makes a standby as the page has it, and starts it.
func (c *cluster) baseBackup(dir string, i int) (*engines.Postgres, error) {
	config := c.pg.Config()
	config.Dir, config.Port, config.LogPath = dir, 0, ""
	data := filepath.Join(dir, "data")
	if err := os.MkdirAll(dir, 0o711); err != nil {
		return nil, err
	}
	c.page("standby", i, map[string]string{"PGDATA": data})
	c.must(exec.Command("chown", "-R", "--reference="+c.dataDir(), data))
	password, err := os.ReadFile(filepath.Join(c.pg.Config().Dir, "superuser.password"))
	if err != nil {
		return nil, err
	}
	if err := os.WriteFile(filepath.Join(dir, "superuser.password"), password, 0o600); err != nil {
		return nil, err
	}
	return engines.StartPostgres(c.t.Context(), config)
}

// page runs a block of docs/high-availability.md for a node.
func (c *cluster) page(block string, i int, more ...map[string]string) string {
	c.t.Helper()
	variables := map[string]string{"PRIMARY": c.pg.SuperuserURL("postgres"), "NAME": nodeName(i), "PRIMARY_CONNINFO": c.pg.Conninfo(nodeName(i))}
	if i < len(c.nodes) {
		variables["NODE"] = c.nodes[i].SuperuserURL("postgres")
	}
	for _, m := range more {
		maps.Copy(variables, m)
	}
	return c.step("docs/high-availability.md", block, "check", variables)
}

// primary is the index of the node that the site takes for it.
func (c *cluster) primary() int {
	for i, node := range c.nodes {
		if node == c.pg {
			return i
		}
	}
	panic("the site has no primary")
}

// settled waits until the standbys stream, and those that can hold the replicator's slot.
func (c *cluster) settled(slots ...string) {
	c.t.Helper()
	ctx, cancel := context.WithTimeout(c.t.Context(), 2*bound)
	defer cancel()
	for i, node := range c.nodes {
		if node == c.pg {
			continue
		}
		if err := c.pg.Streams(ctx, node, nodeName(i), slots...); err != nil {
			c.t.Fatal(err)
		}
	}
}

// furthest is the standby with the most of the log.
func (c *cluster) furthest(standbys ...int) int {
	c.t.Helper()
	var urls []string
	for _, i := range standbys {
		urls = append(urls, c.nodes[i].SuperuserURL("postgres"))
	}
	found := strings.TrimSpace(c.page("furthest", 0, map[string]string{"STANDBYS": strings.Join(urls, " ")}))
	for _, i := range standbys {
		if c.nodes[i].SuperuserURL("postgres") == found {
			return i
		}
	}
	c.t.Fatalf("%q is none of %q", found, urls)
	return 0
}

// failOver promotes the furthest standby, and has the other one follow it. The primary is lost.
func (c *cluster) failOver() (next int, promoted time.Time) {
	c.t.Helper()
	lost := c.primary()
	one, two := (lost+1)%3, (lost+2)%3
	next = c.furthest(one, two)
	c.page("promote", next)
	promoted = time.Now()
	c.pg = c.nodes[next]
	c.env[""]["ADMIN"] = c.pg.SuperuserURL("argus")
	c.page("follow", one+two-next)
	return next, promoted
}

// answers waits until calls are answered again, and returns how long it took.
func (c *cluster) answers(since time.Time) time.Duration {
	c.t.Helper()
	c.wait("calls are answered again", func() error {
		c.callers.mu.Lock()
		defer c.callers.mu.Unlock()
		if c.answered.Before(since) {
			return fmt.Errorf("%d were not", c.unanswered)
		}
		return nil
	})
	return time.Since(since)
}

// holds stops the load, and holds what was acknowledged to all stores.
func (c *cluster) holds() {
	c.t.Helper()
	c.stopCalling()
	for id, status := range c.taken() {
		c.known[id] = status
	}
	oraclePostgres(c.t, c.pg.SuperuserURL("argus"), c.known)
	c.compared()
	if n := c.orphanRows(); n > 0 {
		c.t.Errorf("%d orphans", n)
	}
}

func (c *cluster) freeze(i int, signal syscall.Signal) {
	if signal == syscall.SIGSTOP {
		stopPostgres(c.t, c.nodes[i].PID())
		return
	}
	for _, pid := range postgresProcesses(c.t, c.nodes[i].PID()) {
		syscall.Kill(pid, signal)
	}
}

// healings are the reasons for which the stores were compared. The first copy is one when calls are older than the slot.
func (c *cluster) healings() (reasons []string) {
	c.t.Helper()
	c.ask("SELECT coalesce(array_agg(detail ->> 'reason' ORDER BY id), '{}') FROM argus.audit_admin WHERE kind = 'heal'", &reasons)
	return reasons
}

// TestFailover loses the primary under load: by kill -9, in order, and by a freeze beside a promoted standby, with the frozen one
// back as a second primary. No acknowledged call is lost, none is there twice, and no process of ARGUS is told.
func TestFailover(t *testing.T) {
	t.Parallel()
	c := newCluster(t, engines.PostgresConfig{}, allHosts)
	c.settled("argus")
	if out := c.page("check", 0); strings.Contains(out, "FAIL") || strings.Contains(out, "WARN") {
		t.Errorf("with all done as the page says, argusd check ha says:\n%s", out)
	}
	c.wait("the copy streams", func() error { return c.streams("argus") })
	first := len(c.healings()) // a call may be older than the slot
	rounds, _ := strconv.Atoi(os.Getenv("ARGUS_CRASH_ROUNDS"))
	for round := range max(2, rounds/5) {
		lost := c.primary()
		time.Sleep(time.Second)
		end := func() error { return c.pg.Kill(syscall.SIGKILL) }
		if round%2 == 1 {
			end = func() error { return c.pg.Stop(t.Context()) }
		}
		if err := end(); err != nil {
			t.Fatal(err)
		}
		began := time.Now()
		next, promoted := c.failOver()
		c.answers(promoted)
		t.Logf("%s ended, and %s was promoted after %v; answered again %v later", nodeName(lost), nodeName(next), promoted.Sub(began), time.Since(promoted))
		if round == 0 {
			c.complains("of 2 standbys 1 stream")
		}
		node, err := c.nodes[lost].Rejoin(t.Context(), c.pg, nodeName(lost))
		if err != nil {
			t.Fatal(err)
		}
		c.nodes[lost] = node
		c.settled("argus")
	}
	if reasons := c.healings()[first:]; len(reasons) > 0 {
		t.Errorf("the copy did not go on from its slot, but was compared: %v", reasons)
	}
	if !strings.Contains(c.replicator.log(), "the copy goes on from its slot") {
		t.Error("the replicator has not told of the failover")
	}
	c.holds()

	// It hangs, and a standby is promoted. Then it goes on, and takes writes from those who come to it: an old primary with
	// synchronous standbys would wait for them for ever.
	old := c.primary()
	for _, node := range c.nodes {
		if err := node.Set(t.Context(), "synchronous_standby_names", ""); err != nil {
			t.Fatal(err)
		}
	}
	c.settled("argus")
	c.freeze(old, syscall.SIGSTOP)
	began := time.Now()
	c.stopCalling = c.startCalling(4)
	next, promoted := c.failOver()
	c.answers(promoted)
	t.Logf("%s froze and %s was promoted: answered again %v later, %v after the freeze", nodeName(old), nodeName(next), time.Since(promoted), time.Since(began))
	// The replicator has left it before it goes on. What it writes then without standbys is nowhere else, and would be an orphan.
	var now string
	c.ask("SELECT clock_timestamp()::text", &now)
	c.wait("the copy streams from the new primary", func() error {
		var streams bool
		c.ask("SELECT EXISTS (SELECT FROM argus.replicator_status WHERE updated_at > '"+now+"' AND status->>'state' = 'streaming')", &streams)
		if !streams {
			return fmt.Errorf("its status is older")
		}
		return nil
	})
	c.freeze(old, syscall.SIGCONT)
	// What its sockets held at the freeze it may write now.
	before := -1
	c.wait("the old primary is at rest", func() error {
		rows, active := c.rowsOf(old)
		if was := before; active > 0 || rows != was {
			before = rows
			time.Sleep(time.Second)
			return fmt.Errorf("it has %d rows after %d, and %d sessions at work", rows, was, active)
		}
		return nil
	})
	c.wait("the API tells of two primaries", func() error {
		if !strings.Contains(c.api.log(), "two hosts of the Postgres URL take writes") {
			return fmt.Errorf("not yet")
		}
		return nil
	})
	c.complains("two hosts take writes")
	c.stopCalling()
	c.api.stop()
	c.replicator.stop()
	c.replicator, c.api = c.start("replicator"), c.startAPI(c.addr)
	c.make(4, 20)
	if after, _ := c.rowsOf(old); after != before {
		t.Errorf("the old primary got %d rows", after-before)
	}
	var carried bool
	c.ask(`SELECT coalesce((SELECT timeline = ('x' || left(pg_walfile_name(pg_current_wal_lsn()), 8))::bit(32)::int
		FROM argus.audit_processes ORDER BY started_at DESC LIMIT 1), false)`, &carried)
	if !carried {
		t.Error("argus.audit_processes does not have the new primary's timeline for the API")
	}
	if err := c.nodes[old].Kill(syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	c.holds()
	t.Logf("%d calls were acknowledged, %d were not; the longest silence was %v", len(c.known), c.unanswered, c.silence)
	c.api.stop()
	c.replicator.stop()
}

// complains: argusd check ha fails, and says so.
func (c *cluster) complains(words string) {
	c.t.Helper()
	c.wait("argusd check ha complains", func() error {
		out, err := c.command("check", "ha").CombinedOutput()
		if err == nil || !strings.Contains(string(out), words) {
			return fmt.Errorf("it ended with %w and said, without %q:\n%s", err, words, out)
		}
		return nil
	})
}

// TestFailover15 makes the standbys by the page alone, of a version that keeps no slots on them. The copy is compared, and whole.
func TestFailover15(t *testing.T) {
	t.Parallel()
	c := newCluster(t, engines.PostgresConfig{BinDir: enginetest.Postgres15()}, allHosts)
	c.wait("the copy streams", func() error { return c.streams("argus") })
	if err := c.pg.Kill(syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	_, promoted := c.failOver()
	c.answers(promoted)
	c.holds()
	if reasons := c.healings(); len(reasons) == 0 || reasons[len(reasons)-1] != "failover" {
		t.Errorf("the copy was compared for %v", reasons)
	}
	c.api.stop()
	c.replicator.stop()
}

// TestFailoverProxy reaches the primary through HAProxy, which asks each node whether it is one. The primary is killed. Then both
// standbys stall, so that no call is confirmed, and the new primary is killed meanwhile: what no standby had was not answered,
// is on no node that is left, and was shown by no store.
func TestFailoverProxy(t *testing.T) {
	t.Parallel()
	c := newCluster(t, engines.PostgresConfig{}, haproxy)
	c.settled("argus")
	lost := c.primary()
	c.answers(time.Now())
	c.succeeds(c.pg.Kill(syscall.SIGKILL))
	_, promoted := c.failOver()
	c.answers(promoted)
	t.Logf("killed: answered again %v after the promotion", time.Since(promoted))
	node, err := c.nodes[lost].Rejoin(t.Context(), c.pg, nodeName(lost))
	c.succeeds(err)
	c.nodes[lost] = node
	c.settled("argus")

	was := c.primary()
	standbys := []int{(was + 1) % 3, (was + 2) % 3}
	for _, i := range standbys {
		c.freeze(i, syscall.SIGSTOP)
	}
	c.callers.mu.Lock()
	stalled := c.unanswered
	c.callers.mu.Unlock()
	c.wait("calls are not answered", func() error {
		c.callers.mu.Lock()
		defer c.callers.mu.Unlock()
		if c.unanswered < stalled+20 {
			return fmt.Errorf("%d were not", c.unanswered-stalled)
		}
		return nil
	})
	for _, i := range standbys { // frozen, they would find what their sockets hold
		c.succeeds(c.nodes[i].StopImmediate())
	}
	c.succeeds(c.pg.Kill(syscall.SIGKILL))
	for _, i := range standbys {
		node, err := engines.StartPostgres(t.Context(), c.nodes[i].Config())
		c.succeeds(err)
		c.nodes[i] = node
	}
	_, promoted = c.failOver()
	took := c.answers(promoted)
	c.holds() // and the callers have ended
	t.Logf("stalled and killed: answered again %v after the promotion, %d calls were not answered", took, c.unanswered)
	c.api.stop()
	c.replicator.stop()
}

func (c *cluster) succeeds(err error) {
	c.t.Helper()
	if err != nil {
		c.t.Fatal(err)
	}
}

// rowsOf counts the calls in a node's own log, and the sessions of argusd that are at work there.
func (c *cluster) rowsOf(i int) (n, active int) {
	c.t.Helper()
	conn, err := pgx.Connect(c.t.Context(), c.nodes[i].SuperuserURL("argus"))
	if err != nil {
		c.t.Fatal(err)
	}
	defer conn.Close(context.Background())
	if err := conn.QueryRow(c.t.Context(), "SELECT (SELECT count(*) FROM argus.argus_audit_log), (SELECT count(*) FROM pg_stat_activity WHERE usename = 'argus_api' AND state <> 'idle')").Scan(&n, &active); err != nil {
		c.t.Fatal(err)
	}
	return n, active
}
