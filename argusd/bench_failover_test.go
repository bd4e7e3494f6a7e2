//go:build bench && linux

package main

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/useargus/argus/internal/engines"
)

// TestBenchFailover loses the primary of a cluster under load a few times, and counts what callers noticed.
func TestBenchFailover(t *testing.T) {
	c := newCluster(t, engines.PostgresConfig{}, allHosts)
	c.settled("argus")
	var took []time.Duration
	for round := range 4 {
		lost := c.primary()
		time.Sleep(2 * time.Second) // calls between two losses
		end := c.pg.Stop
		how := "stop"
		if round%2 == 0 {
			how, end = "kill -9", func(context.Context) error { return c.pg.Kill(syscall.SIGKILL) }
		}
		c.succeeds(end(t.Context()))
		_, promoted := c.failOver()
		took = append(took, c.answers(promoted))
		fmt.Printf("%s: answered again %v after the promotion\n", how, took[round])
		node, err := c.nodes[lost].Rejoin(t.Context(), c.pg, nodeName(lost))
		c.succeeds(err)
		c.nodes[lost] = node
		c.settled("argus")
	}
	c.holds()
	most := slices.Max(took)
	fmt.Printf("FIGURE\tfailover: calls answered again after the promotion, the slowest of %d\t%.1f s\t\t\t≤ 10 s\t%s\n",
		len(took), most.Seconds(), verdictOf(most <= 10*time.Second))
	lost := c.lost()
	fmt.Printf("FIGURE\tfailover: answered calls lost\t%d of %d\t\t\t0\t%s\n", lost, len(c.known), verdictOf(lost == 0))
	fmt.Printf("FIGURE\tfailover: the longest time without an answered call, with the steps of the page\t%.1f s\t\t\t\t\n", c.silence.Seconds())
	c.api.stop()
	c.replicator.stop()
}

// lost counts the acknowledged calls that the primary does not have.
func (c *cluster) lost() (n int) {
	c.t.Helper()
	conn, err := pgx.Connect(c.t.Context(), c.pg.SuperuserURL("argus"))
	c.succeeds(err)
	defer conn.Close(context.Background())
	err = conn.QueryRow(c.t.Context(), `SELECT count(*) FROM unnest($1::uuid[]) answered (id)
		WHERE NOT EXISTS (SELECT FROM argus.argus_audit_log l WHERE l.id = answered.id)`, slices.Collect(maps.Keys(c.known))).Scan(&n)
	c.succeeds(err)
	return n
}
