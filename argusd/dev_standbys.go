package main

import (
	"context"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/useargus/argus/internal/engines"
)

// With ARGUS_DEV_STANDBYS the Postgres of argusd dev has standbys, and a call waits for one of them. The nodes are pg1, pg2 and pg3.
// The one that took writes last is the primary at the next start, and the others are made anew from it. What ends meanwhile is not
// started again: it would come back as an old primary.

const mostStandbys = 2

// standbys reads ARGUS_DEV_STANDBYS. Unlike servers of ClickHouse they come and go with each start.
func standbys(text string) (int, error) {
	if text == "" {
		return 0, nil
	}
	n, err := strconv.Atoi(text)
	if err != nil || n < 0 || n > mostStandbys {
		return 0, fmt.Errorf("ARGUS_DEV_STANDBYS=%q must be 0 to %d", text, mostStandbys)
	}
	return n, nil
}

func (d *dev) nodeDir(i int) string {
	if i == 0 {
		return filepath.Join(d.dir, "postgres")
	}
	return filepath.Join(d.dir, "postgres-"+nodeOf(i))
}

func nodeOf(i int) string { return "pg" + strconv.Itoa(i+1) }

// lastPrimary is the node that is no standby, of the highest timeline where an old primary is left beside a promoted one.
func (d *dev) lastPrimary() (primary int) {
	highest := ""
	for i := range mostStandbys + 1 {
		data := filepath.Join(d.nodeDir(i), "data")
		if _, err := os.Stat(filepath.Join(data, "PG_VERSION")); err != nil {
			continue
		}
		if _, err := os.Stat(filepath.Join(data, "standby.signal")); err == nil {
			continue
		}
		histories, _ := filepath.Glob(filepath.Join(data, "pg_wal", "*.history"))
		timeline := "0" // the first one has no history
		for _, h := range histories {
			timeline = max(timeline, filepath.Base(h))
		}
		if timeline > highest {
			primary, highest = i, timeline
		}
	}
	return primary
}

// planNodes makes a unit for each node. d.postgres is the one that is the primary at the start.
func (d *dev) planNodes(standbys int) {
	primary := d.lastPrimary()
	for i := range max(standbys, primary) + 1 {
		u := d.unit("postgres", d.startPostgres)
		if i != primary {
			u = d.unit("postgres "+nodeOf(i), nil)
		} else {
			d.postgres, d.primaryDir = u, d.nodeDir(i)
		}
		d.nodes = append(d.nodes, u)
	}
	if standbys == 0 {
		d.nodes = []*unit{d.postgres}
	}
}

// startStandbys makes them anew, and has calls wait for one.
func (d *dev) startStandbys(ctx context.Context) error {
	if len(d.nodes) == 1 {
		return nil
	}
	var names []string
	for i, u := range d.nodes {
		names = append(names, nodeOf(i))
		if u == d.postgres {
			continue
		}
		if err := os.RemoveAll(d.nodeDir(i)); err != nil {
			return err
		}
		standby, err := d.pg().Standby(ctx, d.nodeDir(i), nodeOf(i))
		if err != nil {
			return err
		}
		u.adopt(standby)
	}
	for _, u := range d.nodes {
		if err := u.process().(*engines.Postgres).Set(ctx, "synchronous_standby_names", "ANY 1 ("+strings.Join(names, ", ")+")"); err != nil {
			return err
		}
	}
	return nil
}

// awaitSlots returns when the standbys hold the slots of the copies, or after a minute: argusd check ha says then what is missing.
func (d *dev) awaitSlots(ctx context.Context) error {
	bounded, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	for i, u := range d.nodes {
		if u == d.postgres {
			continue
		}
		if err := d.pg().Streams(bounded, u.process().(*engines.Postgres), nodeOf(i), slotsOf(d.userURL("argus_replicator"), "argus")...); err != nil {
			if ctx.Err() != nil {
				return ctx.Err()
			}
			d.log.Warn("a standby does not hold the slots of the copies yet", "standby", nodeOf(i), "error", err)
		}
	}
	return nil
}

// overNodes is the URL with every node in it.
func (d *dev) overNodes(of string) string {
	if len(d.nodes) == 1 {
		return of
	}
	u, err := url.Parse(of)
	if err != nil {
		return of
	}
	var hosts []string
	for _, node := range d.nodes {
		if pg, ok := node.process().(*engines.Postgres); ok {
			hosts = append(hosts, "127.0.0.1:"+strconv.Itoa(pg.Port()))
		}
	}
	u.Host, u.RawQuery = strings.Join(hosts, ","), u.RawQuery+"&target_session_attrs=primary"
	return u.String()
}

// writeClusterFile writes the variables of docs/high-availability.md.
func (d *dev) writeClusterFile() error {
	if len(d.nodes) == 1 {
		return nil
	}
	all := []variable{{"ARGUS_POSTGRES_URL", d.overNodes(d.pg().SuperuserURL(devDatabase))}}
	for i, u := range d.nodes {
		pg := u.process().(*engines.Postgres)
		conninfo, _, _ := strings.Cut(pg.Conninfo(""), " application_name=")
		name := strings.ToUpper(nodeOf(i))
		all = append(all, variable{name, pg.SuperuserURL("postgres")}, variable{name + "_CONNINFO", conninfo}, variable{name + "_PID", fmt.Sprint(u.pid())})
	}
	return writeEnvFile(filepath.Join(d.dir, "cluster.env"), "", all)
}

// mourn tells that a node has ended.
func (u *unit) mourn(ctx context.Context) {
	select {
	case <-ctx.Done():
	case <-u.process().Done():
		if ctx.Err() == nil {
			u.log.Warn("it ended, and is not started again: a standby can take its place (docs/high-availability.md)", "process", u.name)
		}
	}
}
