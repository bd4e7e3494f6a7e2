package check

import (
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/useargus/argus"
	"github.com/useargus/argus/connect"
)

// HA is a primary and its standbys: whether a call survives the loss of the primary, and the copy goes on from its slot. The
// role of the URL sees all of it as a member of pg_monitor.
type HA struct {
	PostgresURL string
	Slots       []string // of the copies
}

// node is a host of the URL.
type node struct {
	connect.Server
	conn     *pgx.Conn
	version  int
	settings map[string]string
	at       int64  // how much of the log it has, in bytes
	slots    []slot // that it holds
}

type slot struct {
	name                                        string
	logical, failover, synced, temporary, alive bool
	invalid                                     string
}

// nodeSettings are what each node has, primary or standby: after a failover the standby must do as the primary did.
var nodeSettings = []struct{ name, want, why string }{
	{"wal_level", "logical", "the copy reads the log of whichever node is the primary"},
	{"hot_standby_feedback", "on", "without it the primary removes what a standby's slot still needs"},
	{"sync_replication_slots", "on", "without it the replicator's slot is lost with the primary, and the copy is compared from the beginning"},
	{"wal_retrieve_retry_interval", "500ms", "a standby tries a new primary this often, and calls wait for it"},
}

// Check looks at every host of the URL. What it says to do is SQL, to be run on the node that it names, as a superuser.
func (c HA) Check(ctx context.Context, r *Report) {
	config, err := connect.Postgres(c.PostgresURL, "argus-check")
	if err != nil {
		r.Line("Postgres: ARGUS_POSTGRES_URL", errors.New("it cannot be read"), "it must look like postgres://role:password@pg1,pg2,pg3/argus")
		return
	}
	var nodes []*node
	hosts := connect.Hosts(config)
	for _, one := range hosts {
		n := &node{Server: connect.Server{Name: net.JoinHostPort(one.Host, strconv.Itoa(int(one.Port)))}}
		one.ConnectTimeout = 3 * time.Second
		if n.conn, err = connect.Open(ctx, one); err == nil {
			defer n.conn.Close(context.WithoutCancel(ctx))
			err = n.read(ctx)
		}
		if err != nil {
			err = without(err, config.Password)
		}
		r.Line(n.Name+": it answers", err, "start it, or take it out of ARGUS_POSTGRES_URL; "+mendLogin(err, config.User, config.Database))
		if err == nil {
			nodes = append(nodes, n)
		}
	}
	if len(hosts) < 2 {
		r.Line("a standby", errors.New("the URL names one node: its disk is the only one that has the rows"),
			"make a standby (docs/high-availability.md), and name all nodes in ARGUS_POSTGRES_URL")
	}
	primary := c.primary(r, nodes)
	if primary == nil {
		return
	}
	for _, n := range nodes {
		c.settings(r, n, primary)
	}
	c.standbys(ctx, r, primary, len(hosts)-1)
	for _, n := range nodes {
		if n != primary {
			c.standby(r, n, primary)
		}
	}
	c.logical(r, primary)
	c.synchronized(r, primary)
}

func (n *node) read(ctx context.Context) (err error) {
	name := n.Name
	if n.Server, err = connect.Identify(ctx, n.conn); err != nil {
		return err
	}
	n.Name = name
	n.settings = map[string]string{}
	rows, err := n.conn.Query(ctx, `SELECT name, current_setting(name) FROM pg_settings WHERE name = ANY ($1)`,
		[]string{"server_version_num", "wal_level", "hot_standby_feedback", "sync_replication_slots", "wal_retrieve_retry_interval",
			"synchronous_standby_names", "synchronized_standby_slots", "primary_slot_name", "fsync"})
	if err != nil {
		return err
	}
	var key, value string
	if _, err = pgx.ForEachRow(rows, []any{&key, &value}, func() error { n.settings[key] = value; return nil }); err != nil {
		return err
	}
	n.version, _ = strconv.Atoi(n.settings["server_version_num"])
	// A standby that was restarted has received nothing, and has replayed what it has.
	if err := n.conn.QueryRow(ctx, `SELECT (CASE WHEN pg_is_in_recovery() THEN greatest(pg_last_wal_receive_lsn(), pg_last_wal_replay_lsn())
		ELSE pg_current_wal_flush_lsn() END - '0/0'::pg_lsn)::bigint`).Scan(&n.at); err != nil {
		return err
	}
	rows, err = n.conn.Query(ctx, `SELECT slot_name, slot_type = 'logical', coalesce((to_jsonb(s) ->> 'failover')::bool, false),
		coalesce((to_jsonb(s) ->> 'synced')::bool, false), temporary, active,
		coalesce(to_jsonb(s) ->> 'invalidation_reason', CASE WHEN wal_status = 'lost' THEN 'lost' END, '') FROM pg_replication_slots s`)
	if err != nil {
		return err
	}
	n.slots, err = pgx.CollectRows(rows, func(row pgx.CollectableRow) (s slot, err error) {
		err = row.Scan(&s.name, &s.logical, &s.failover, &s.synced, &s.temporary, &s.alive, &s.invalid)
		return s, err
	})
	return err
}

func (n *node) slot(name string) (slot, bool) {
	i := slices.IndexFunc(n.slots, func(s slot) bool { return s.name == name })
	if i < 0 {
		return slot{}, false
	}
	return n.slots[i], true
}

// primary finds the one that takes writes, of the highest timeline.
func (c HA) primary(r *Report, nodes []*node) (primary *node) {
	var names []string
	var err error
	for _, n := range nodes {
		if n.System != nodes[0].System {
			err = fmt.Errorf("%s and %s are two database systems", nodes[0].Name, n.Name)
		}
		if !n.Primary {
			continue
		}
		names = append(names, n.Server.String())
		if primary == nil || n.Timeline > primary.Timeline {
			primary = n
		}
	}
	r.Line("one database system", err, "take the one that is no copy of the other out of ARGUS_POSTGRES_URL")
	err, mend := error(nil), ""
	switch {
	case len(names) == 0:
		err, mend = errors.New("no host takes writes"), "on the standby that has the most of the log: SELECT pg_promote();"
		for _, n := range nodes {
			mend += fmt.Sprintf("\n      %s has %s of timeline %d", n.Name, argus.Counted(n.at, "byte"), n.Timeline)
		}
	case len(names) > 1:
		err = fmt.Errorf("two hosts take writes: %s", strings.Join(names, "; "))
		mend = "stop the one of the lower timeline at once, and make it a standby anew"
	}
	r.Line("one primary", err, mend)
	return primary
}

func alterSystem(name, value string) string {
	return fmt.Sprintf("ALTER SYSTEM SET %s = '%s'; SELECT pg_reload_conf();", name, value)
}

func (c HA) settings(r *Report, n, primary *node) {
	var wrong, mend []string
	for _, s := range nodeSettings {
		is, known := n.settings[s.name]
		ok := is == s.want
		if s.name == "wal_retrieve_retry_interval" {
			d, err := time.ParseDuration(is)
			ok = err == nil && d <= time.Second
		}
		if !known || ok { // a version that does not know the setting: see version
			continue
		}
		wrong = append(wrong, fmt.Sprintf("%s is %s: %s", s.name, is, s.why))
		mend = append(mend, alterSystem(s.name, s.want))
		if s.name == "wal_level" {
			mend = append(mend, "-- and restart it")
		}
	}
	if is, want := n.settings["synchronous_standby_names"], primary.settings["synchronous_standby_names"]; is != want {
		wrong = append(wrong, fmt.Sprintf("synchronous_standby_names is %q, and %q on the primary: when this node is promoted, it does otherwise", is, want))
		mend = append(mend, alterSystem("synchronous_standby_names", want))
	}
	var err error
	if len(wrong) > 0 {
		err = errors.New(strings.Join(wrong, "\n"))
	}
	r.Line(n.Name+": settings", err, strings.Join(mend, "\n      "))
	if n.version < 170000 {
		r.Warn(n.Name + " is older than Postgres 17: its standbys keep no slot of the replicator, and after a failover the copy is compared from the beginning")
	}
}

// standbys: an answered call must be on two machines.
func (c HA) standbys(ctx context.Context, r *Report, primary *node, standbys int) {
	rows, err := primary.conn.Query(ctx, `SELECT application_name, coalesce(state, ''), coalesce(sync_state, ''),
		coalesce(pg_wal_lsn_diff(pg_current_wal_flush_lsn(), flush_lsn), 0)::bigint FROM pg_stat_replication
		WHERE pid NOT IN (SELECT active_pid FROM pg_replication_slots WHERE slot_type = 'logical' AND active_pid IS NOT NULL) ORDER BY 1`)
	var streaming, synchronous []string
	hidden := false
	if err == nil {
		var name, state, sync string
		var behind int64
		_, err = pgx.ForEachRow(rows, []any{&name, &state, &sync, &behind}, func() error {
			hidden = hidden || state == ""
			if state != "streaming" {
				return nil
			}
			streaming = append(streaming, name)
			if sync == "sync" || sync == "quorum" {
				synchronous = append(synchronous, name)
			}
			if behind > 16<<20 {
				r.Warn(fmt.Sprintf("%s lags by %s: it is not the one to promote", name, argus.Counted(behind, "byte")))
			}
			return nil
		})
	}
	if hidden {
		r.Warn("this role does not see pg_stat_replication: run the check as a member of pg_monitor")
		return
	}
	if err == nil && len(streaming) < standbys {
		err = fmt.Errorf("of %s %d stream: %q", argus.Counted(standbys, "standby"), len(streaming), streaming)
	}
	r.Line("the standbys stream", err, "see primary_conninfo of the others, and their logs. SELECT application_name, state FROM pg_stat_replication; on "+primary.Name)

	names := primary.settings["synchronous_standby_names"]
	list := "pg1, pg2, pg3"
	if len(streaming) > 0 {
		list = strings.Join(streaming, ", ")
	}
	err = nil
	switch {
	case names == "":
		err = errors.New("synchronous_standby_names is empty: calls are answered that one machine alone has")
	case len(synchronous) == 0:
		err = fmt.Errorf("no standby is synchronous, so no call is answered: synchronous_standby_names is %q, application names are %q", names, streaming)
	}
	r.Line("an answered call is on two machines", err, "on every node, with the names of all: "+alterSystem("synchronous_standby_names", "ANY 1 ("+list+")"))
	if err == nil && len(synchronous) == 1 {
		r.Warn("one standby alone is synchronous: while it is away, no call is answered. A second one, with ANY 1, changes that")
	}
}

// standby: each holds its place on the primary, and the replicator's slot.
func (c HA) standby(r *Report, n, primary *node) {
	own := n.settings["primary_slot_name"]
	var err error
	mend := ""
	place, there := primary.slot(own)
	switch {
	case own == "":
		err = errors.New("primary_slot_name is empty: the primary removes log that this standby needs, and failover slots are not kept")
		mend = fmt.Sprintf("on %s: SELECT pg_create_physical_replication_slot('pgN', true); here: %s", primary.Name, alterSystem("primary_slot_name", "pgN"))
	case !there || place.logical:
		err = fmt.Errorf("the primary has no slot %q", own)
		mend = fmt.Sprintf("on %s: SELECT pg_create_physical_replication_slot('%s', true);", primary.Name, own)
	case !place.alive:
		err = fmt.Errorf("its slot %q on the primary is not in use, and keeps log there", own)
		mend = "see primary_conninfo and the log of this node"
	}
	r.Line(n.Name+": its slot on the primary", err, mend)
	if n.version < 170000 {
		return
	}
	var missing []string
	for _, s := range primary.slots {
		if !s.logical || !s.failover {
			continue
		}
		switch here, ok := n.slot(s.name); {
		case !ok:
			missing = append(missing, s.name+" is not here")
		case !here.synced:
			missing = append(missing, s.name+" is this node's own, of before it was a standby: SELECT pg_drop_replication_slot('"+s.name+"');")
		case here.invalid != "":
			missing = append(missing, s.name+" is invalid: "+here.invalid)
		case here.temporary:
			missing = append(missing, s.name+" is not kept yet: the primary's slot is behind this standby's log")
		}
	}
	err = nil
	if len(missing) > 0 {
		err = errors.New(strings.Join(missing, "\n"))
	}
	r.Line(n.Name+": it keeps the slots of the copy", err,
		"primary_conninfo must name a database (dbname=postgres), primary_slot_name a slot, and these must be on: hot_standby_feedback, sync_replication_slots. A standby looks for new slots every half a minute")
}

// logical: the replicator's slot must outlive the primary.
func (c HA) logical(r *Report, primary *node) {
	if primary.version < 170000 {
		return
	}
	for _, name := range c.Slots {
		s, ok := primary.slot(name)
		var err error
		mend := "start argusd replicator: it makes the slot"
		switch {
		case !ok:
			err = fmt.Errorf("the primary has no slot %q", name)
		case !s.failover:
			err = fmt.Errorf("the slot %q is not made for failover", name)
			mend = "while no replicator runs, on a replication connection (psql 'dbname=argus replication=database'): ALTER_REPLICATION_SLOT " + name + " (FAILOVER true);"
		}
		what := "the slot of the copy"
		if len(c.Slots) > 1 {
			what = "the slot " + name
		}
		r.Line(what, err, mend)
	}
}

// synchronized: the copy needs no such list. One that names a node that is away stops it.
func (c HA) synchronized(r *Report, primary *node) {
	var stopping []string
	for _, name := range strings.FieldsFunc(primary.settings["synchronized_standby_slots"], func(c rune) bool { return c == ',' || c == ' ' || c == '"' }) {
		if s, ok := primary.slot(name); !ok || !s.alive {
			stopping = append(stopping, name)
		}
	}
	var err error
	if len(stopping) > 0 {
		err = fmt.Errorf("synchronized_standby_slots names %q, which is away: the copy waits for it", stopping)
	}
	r.Line("the copy waits for no standby", err, "ALTER SYSTEM RESET synchronized_standby_slots; SELECT pg_reload_conf(); "+
		"The replicator itself waits for the synchronous standbys, and needs no list")
}
