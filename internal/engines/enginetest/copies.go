package enginetest

import (
	"strings"
	"sync"
	"testing"

	"github.com/useargus/argus/internal/engines"
)

// Copies are ClickHouse servers of this test alone, by the names they have in ARGUS_CLICKHOUSE_URL.
type Copies struct {
	Names   []string
	Servers map[string]*ClickHouse
}

// StartCopies starts a ClickHouse for each name, at once, each with a migrated database.
func StartCopies(t testing.TB, names ...string) Copies {
	t.Helper()
	c := Copies{Names: names, Servers: map[string]*ClickHouse{}}
	ready := make([]func() *ClickHouse, len(names))
	var starting sync.WaitGroup
	for i := range names {
		dir, err := shared.subfolder("clickhouse-")
		must(t, "making a folder", err)
		starting.Go(func() { ready[i] = startOwn(t, engines.ClickHouseConfig{Dir: dir, MaxMemory: 1 << 30}) })
	}
	starting.Wait()
	for i, name := range names {
		c.Servers[name] = ready[i]()
	}
	return c
}

// URL is ARGUS_CLICKHOUSE_URL with the URL of each server that of gives: Copies.URL((*ClickHouse).Reader).
func (c Copies) URL(of func(*ClickHouse) string) string {
	parts := make([]string, len(c.Names))
	for i, name := range c.Names {
		parts[i] = name + "=" + of(c.Servers[name])
	}
	return strings.Join(parts, " ")
}

// Reader, Replicator, Maintenance and Migrate are for Copies.URL.
func (ch *ClickHouse) Reader() string      { return ch.ReaderURL }
func (ch *ClickHouse) Replicator() string  { return ch.ReplicatorURL }
func (ch *ClickHouse) Maintenance() string { return ch.MaintenanceURL }
func (ch *ClickHouse) Migrate() string     { return ch.MigrateURL }
