package replicator

import (
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/useargus/argus/internal/engines"
	"github.com/useargus/argus/internal/engines/enginetest"
)

// TestFaults breaks one thing after another under load and holds both stores to each other after each. A
// round is one break; ARGUS_CRASH_ROUNDS says how many.
func TestFaults(t *testing.T) {
	w := newOwnWorld(t, engines.PostgresConfig{})
	var pgProxy, chProxy *enginetest.Proxy
	pgProxy, w.postgresURL = enginetest.ProxyURL(t, w.pg.ReplicatorURL)
	chProxy, w.clickhouseURL = enginetest.ProxyURL(t, w.ch.ReplicatorURL)
	w.change = func(c *Config) {
		c.LeaseTTL = 2 * time.Second
		c.InsertTimeout = 3 * time.Second
	}
	random := rand.New(rand.NewPCG(1, uint64(rounds())))
	short := func(most int) { time.Sleep(time.Duration(random.IntN(most)) * time.Millisecond) }

	running := w.startChild("", 0)
	w.caughtUp()
	type fault struct {
		name string
		do   func()
	}
	faults := []fault{
		{"replicator killed", func() {
			running.kill()
			running = w.startChild("", 0)
		}},
		{"ClickHouse killed", func() {
			w.must(w.ch.Engine().Kill(syscall.SIGKILL))
			short(500)
			w.ch.Restart(t)
		}},
		{"ClickHouse killed at a rename", func() {
			w.killAtRename(1 + random.IntN(24))
			w.ch.Restart(t)
		}},
		{"Postgres stopped at once", func() {
			w.must(w.pg.Engine().StopImmediate())
			short(300)
			w.pg.Restart(t)
			w.api.Reset()
		}},
		{"connections cut", func() {
			for _, p := range []*enginetest.Proxy{pgProxy, chProxy} {
				p.CloseAll()
				short(50)
			}
			chProxy.Cut()
			short(500)
			chProxy.Heal()
		}},
		{"replicator and ClickHouse killed", func() {
			running.kill()
			w.must(w.ch.Engine().Kill(syscall.SIGKILL))
			w.ch.Restart(t)
			running = w.startChild("", 0)
		}},
		{"connections frozen", func() {
			frozen := []*enginetest.Proxy{pgProxy, chProxy}[random.IntN(2)]
			frozen.Freeze()
			time.Sleep(time.Duration(1000+random.IntN(3000)) * time.Millisecond)
			frozen.Heal()
		}},
		{"network slow", func() {
			chProxy.Delay(50 * time.Millisecond)
			pgProxy.Delay(20 * time.Millisecond)
			short(1500)
			chProxy.Heal()
			pgProxy.Heal()
		}},
		{"answers of ClickHouse lost", func() {
			chProxy.DropReplies()
			short(1000)
			chProxy.Heal()
		}},
		{"Postgres stopped at once, replicator killed", func() {
			running.kill()
			w.must(w.pg.Engine().StopImmediate())
			w.pg.Restart(t)
			w.api.Reset()
			running = w.startChild("", 0)
		}},
	}
	if only := os.Getenv("ARGUS_CRASH_ONLY"); only != "" { // a part of the names, to look into one kind
		faults = slices.DeleteFunc(faults, func(f fault) bool { return !strings.Contains(f.name, only) })
	}
	for i := range rounds() {
		fault := faults[i%len(faults)]
		t.Logf("round %d: %s", i, fault.name)
		stop := w.load(2, time.Now)
		short(600)
		fault.do()
		short(400)
		stop()
		w.copy = w.ch.Conn(t, w.ch.MigrateURL)
		w.verify()
	}
	running.stop()
}

// killAtRename kills ClickHouse as it renames the nth file from now on: at that moment parts are written and
// not in place. Without strace it is killed at some moment.
func (w *world) killAtRename(n int) {
	w.t.Helper()
	engine := w.ch.Engine()
	if strace, err := exec.LookPath("strace"); err != nil {
		w.t.Log("strace is not installed: killing at a random moment instead")
	} else {
		var out strings.Builder
		cmd := exec.Command(strace, "-f", "-qq", "-o", "/dev/null", "-p", fmt.Sprint(engine.PID()),
			"-e", "trace=rename,renameat,renameat2", "-e", fmt.Sprintf("inject=rename,renameat,renameat2:signal=KILL:when=%d", n))
		cmd.Stderr = &out
		w.must(cmd.Start())
		select {
		case <-engine.Done():
			cmd.Wait()
			return
		case <-time.After(15 * time.Second):
			cmd.Process.Kill()
			cmd.Wait()
			w.t.Logf("strace killed nothing (%s): killing at a random moment instead", out.String())
		}
	}
	w.must(engine.Kill(syscall.SIGKILL))
}
