package main

import (
	"os"
	"regexp"
	"testing"
	"time"
)

// TestSimulation holds the simulation against what must come out of it, and what the writer is seen to do.
func TestSimulation(t *testing.T) {
	run := func(rate float64, lanes int, commit time.Duration) Result {
		return Simulate(Config{Rate: rate, Lanes: lanes, Commit: commit, Row: measuredRow, Rows: 100_000, Seed: 7})
	}
	// A lone caller pays one commit and no timer.
	lone := run(1, 2, time.Millisecond)
	if lone.Batch > 1.01 || lone.P50 < time.Millisecond || lone.P50 > 1100*time.Microsecond {
		t.Errorf("lone: %+v", lone)
	}
	// Commits are shared: far more rows than commits of one after the other would give.
	busy := run(20_000, 2, 5*time.Millisecond)
	if busy.Behind || busy.Throughput < 19_000 || busy.Commits > 2/0.005 || busy.Batch < 50 || busy.P99 > 50*time.Millisecond {
		t.Errorf("busy: %+v", busy)
	}
	// What a row costs is the bound in the end.
	if full := run(100_000, 4, time.Millisecond); !full.Behind || full.Throughput > 68_500 || full.Throughput < 60_000 {
		t.Errorf("full: %+v", full)
	}
	// A slower commit is paid by waiting, and by larger batches.
	if slow := run(20_000, 2, 20*time.Millisecond); slow.Batch <= busy.Batch || slow.P50 <= busy.P50 {
		t.Errorf("slow: %+v", slow)
	}
	if a, b := run(2000, 2, time.Millisecond), run(2000, 2, time.Millisecond); a != b {
		t.Error("the same seed gives something else")
	}
}

// TestSameRule: the constants are those of the writer.
func TestSameRule(t *testing.T) {
	for file, pattern := range map[string]string{
		"../../writer/queue.go":  `const patience = 25 \* time\.Millisecond`,
		"../../writer/config.go": `(?s)t\.rows = 1024.*`,
	} {
		data, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		if !regexp.MustCompile(pattern).Match(data) {
			t.Errorf("%s has no %s: the simulation is of another writer", file, pattern)
		}
	}
	data, err := os.ReadFile("../../writer/config.go")
	if err != nil || !regexp.MustCompile(`c\.Queue = 8192`).Match(data) {
		t.Error("the queue is of another size", err)
	}
}
