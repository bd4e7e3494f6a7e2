// Command scaling simulates the writer's group commit where measuring is out of reach. It tells how many rows a
// second one API process commits, and how long a call waits. Both depend on how many calls come, and on how long a
// commit of Postgres takes (a disk, a synchronous standby in the next zone). docs/scaling.md has its table.
//
//	go run ./internal/scaling
package main

import (
	"fmt"
	"time"
)

func main() {
	fmt.Println("| a commit takes | calls/s | lanes | rows a batch | commits/s | wait p50 | wait p99 |")
	fmt.Println("| ---: | ---: | ---: | ---: | ---: | ---: | ---: |")
	for _, commit := range []time.Duration{300 * time.Microsecond, time.Millisecond, 5 * time.Millisecond, 20 * time.Millisecond} {
		for _, rate := range []float64{100, 2_000, 20_000, 60_000} {
			for _, lanes := range []int{2, 4} {
				r := Simulate(Config{Rate: rate, Lanes: lanes, Commit: commit, Row: measuredRow, Rows: 200_000, Seed: 1})
				wait := fmt.Sprintf("%s | %s", round(r.P50), round(r.P99))
				if r.Behind {
					wait = "more than it commits: 503 | –"
				}
				fmt.Printf("| %s | %.0f | %d | %.1f | %.0f | %s |\n", round(commit), rate, lanes, r.Batch, r.Commits, wait)
			}
		}
	}
}

func round(d time.Duration) string { return fmt.Sprintf("%.1f ms", float64(d.Microseconds())/1000) }
