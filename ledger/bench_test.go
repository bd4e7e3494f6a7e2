//go:build bench

package ledger

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/useargus/argus/internal/engines"
	"github.com/useargus/argus/internal/engines/enginetest"
)

// figure prints a line of make bench's table.
func figure(name, ours, reference, ratio, target string, ok bool) {
	verdict := "ok"
	if !ok {
		verdict = "MISS"
	}
	fmt.Printf("FIGURE\t%s\t%s\t%s\t%s\t%s\t%s\n", name, ours, reference, ratio, target, verdict)
}

// benchRows is how many rows wait, 5 M unless ARGUS_BENCH_LEDGER_ROWS says another number.
func benchRows() int64 {
	if n, err := strconv.ParseInt(os.Getenv("ARGUS_BENCH_LEDGER_ROWS"), 10, 64); err == nil && n > 0 {
		return n
	}
	return 5_000_000
}

// TestBenchDrain: so many rows wait when the sealer starts. Postgres and the sealer share the machine.
func TestBenchDrain(t *testing.T) {
	w := benchWorld(t)
	rows := benchRows()
	const writers = 50
	for range writers {
		writer := w.open()
		for seq, each := int64(0), rows/writers; seq < each; seq += 20_000 {
			w.mustWrite(writer, seq+1, min(seq+20_000, each))
		}
	}
	w.asOwner("CHECKPOINT", "ANALYZE argus.argus_audit_log")
	used := cpu(t, syscall.RUSAGE_SELF)
	began := time.Now()
	_, stop := w.run(w.benchConfig())
	deadline := began.Add(20 * time.Minute)
	for w.number("SELECT coalesce((SELECT size FROM argus.ledger_checkpoints ORDER BY size DESC LIMIT 1), 0)") < rows/writers*writers {
		if time.Now().After(deadline) {
			t.Fatal("the drain takes too long")
		}
		time.Sleep(50 * time.Millisecond)
	}
	took := time.Since(began)
	stop()
	rate := float64(rows) / took.Seconds()
	figure("ledger: processor time of the sealer a row", fmt.Sprintf("%.2f µs", (cpu(t, syscall.RUSAGE_SELF)-used).Seconds()/float64(rows)*1e6), "", "", "≤ 1 µs",
		(cpu(t, syscall.RUSAGE_SELF)-used).Seconds()/float64(rows) <= 1e-6)
	figure(fmt.Sprintf("ledger: drain of %d waiting rows", rows), fmt.Sprintf("%.0f rows/s", rate), "", "", "≥ 300000 rows/s", rate >= 300_000)
	bytes := float64(w.number(`SELECT sum(pg_total_relation_size(c.oid)) FROM pg_class c WHERE c.relnamespace = 'argus'::regnamespace
		AND c.relkind = 'r' AND (c.relname LIKE 'ledger\_runs%' OR c.relname IN ('ledger_tiles', 'ledger_checkpoints'))`)) / float64(rows)
	figure("ledger: bytes a row in Postgres", fmt.Sprintf("%.1f", bytes), "", "", "≤ 40", bytes <= 40)
}

// TestBenchLatency: calls are committed one by one, 2,000 a second of eight writers. From its commit each waits for a signed
// checkpoint that holds it.
func TestBenchLatency(t *testing.T) {
	w := benchWorld(t)
	w.run(w.benchConfig())
	const writers, rate, seconds = 8, 2000, 20
	type commit struct {
		writer, seq int64
		at          time.Time
	}
	commits := make([][]commit, writers)
	var writing sync.WaitGroup
	for n := range writers {
		writer := w.open()
		writing.Go(func() {
			began := time.Now()
			for seq := int64(1); seq <= rate*seconds/writers; seq++ {
				time.Sleep(time.Until(began.Add(time.Duration(seq) * time.Second * writers / rate)))
				if err := w.write(writer, seq, seq); err != nil {
					t.Error(err)
					return
				}
				commits[n] = append(commits[n], commit{writer, seq, time.Now()})
			}
		})
	}
	writing.Wait()
	w.sealed()
	// Postgres's clock dates checkpoints, and is this machine's.
	var late []float64
	for _, all := range commits {
		for i := 0; i < len(all); i += 7 {
			c := all[i]
			var at time.Time
			if err := w.owner.QueryRow(context.Background(), `SELECT sealed_at FROM argus.ledger_checkpoints WHERE size > (SELECT first_leaf + $2 - first_seq FROM argus.ledger_runs
				WHERE kind = 1 AND writer_id = $1 AND first_seq <= $2 ORDER BY first_seq DESC LIMIT 1) ORDER BY size LIMIT 1`, c.writer, c.seq).Scan(&at); err != nil {
				t.Fatal(err)
			}
			late = append(late, at.Sub(c.at).Seconds())
		}
	}
	slices.Sort(late)
	p99 := late[len(late)*99/100]
	figure("ledger: commit to signed checkpoint, p99 at 2000 rows/s", fmt.Sprintf("%.0f ms", p99*1000), "", "", "≤ 1 s", p99 <= 1)
}

// TestBenchBeside: batches of rows as fast as four writers can, with the sealer beside them and without, in turns.
func TestBenchBeside(t *testing.T) {
	w := benchWorld(t)
	const turns, length = 7, 3 * time.Second
	config := w.benchConfig()
	measure := func() float64 {
		var rows [4]int64
		var writing sync.WaitGroup
		began := time.Now()
		for n := range rows {
			writer := w.open()
			writing.Go(func() {
				for seq := int64(0); time.Since(began) < length; seq += 50 {
					if err := w.write(writer, seq+1, seq+50); err != nil {
						t.Error(err)
						return
					}
					rows[n] += 50
				}
			})
		}
		writing.Wait()
		return float64(rows[0]+rows[1]+rows[2]+rows[3]) / time.Since(began).Seconds()
	}
	measure()
	// Each turn gives a ratio of its own, since the machine's other load changes from turn to turn.
	var alone, beside, ratios []float64
	for range turns {
		a := measure()
		_, stop := w.run(config)
		w.sealed() // what came without it
		b := measure()
		stop()
		alone, beside, ratios = append(alone, a), append(beside, b), append(ratios, b/a)
	}
	for _, figures := range [][]float64{alone, beside, ratios} {
		slices.Sort(figures)
	}
	ratio := ratios[turns/2]
	figure("ledger: rows/s of writers with the sealer beside them", fmt.Sprintf("%.0f", beside[turns/2]), fmt.Sprintf("%.0f without", alone[turns/2]), fmt.Sprintf("%.3f", ratio), "≥ 0.98", ratio >= 0.98)
}

// cpu is the processor time that was used so far.
func cpu(t *testing.T, who int) time.Duration {
	var usage syscall.Rusage
	if err := syscall.Getrusage(who, &usage); err != nil {
		t.Fatal(err)
	}
	return time.Duration(usage.Utime.Nano() + usage.Stime.Nano())
}

func benchWorld(t *testing.T) *world {
	return worldOf(t, enginetest.StartOwnPostgres(t, engines.PostgresConfig{}))
}

func (w *world) benchConfig() Config {
	c := w.config(filepath.Join(w.t.TempDir(), "anchor"))
	c.Interval, c.LeaseTTL, c.Adopt = 0, 0, true
	return c
}
