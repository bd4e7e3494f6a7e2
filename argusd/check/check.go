// Package check tests what a process of ARGUS depends on, with the process's own credentials, and says how to mend
// what it finds. Nothing is changed anywhere.
package check

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/useargus/argus/connect"
)

// maxSkew is how far clocks may lie apart.
const maxSkew = time.Minute

// Report is where the outcome of each check goes, one or two lines of text each.
type Report struct {
	Out           io.Writer
	Total, Failed int

	now func() time.Time // tests turn this machine's clock
}

// Line reports a check: a nil problem is well, and mend says what to do otherwise.
func (r *Report) Line(what string, problem error, mend string) {
	r.Total++
	if problem == nil {
		fmt.Fprintf(r.Out, "ok    %s\n", what)
		return
	}
	r.Failed++
	fmt.Fprintf(r.Out, "FAIL  %s: %s\n      %s\n", what, strings.ReplaceAll(problem.Error(), "\n", "\n      "), mend)
}

// Warn reports what is allowed and risky. It fails nothing.
func (r *Report) Warn(text string) { fmt.Fprintf(r.Out, "WARN  %s\n", text) }

// note reports what is no mistake and may surprise.
func (r *Report) note(text string) { fmt.Fprintf(r.Out, "note  %s\n", text) }

func (r *Report) clock() time.Time {
	if r.now != nil {
		return r.now()
	}
	return time.Now()
}

// skew compares a clock that was read between before and now with this machine's. What the reading took is in
// its favour.
func (r *Report) skew(what string, theirs, before time.Time, within time.Duration, mend string) {
	off := min(theirs.Sub(before).Abs(), theirs.Sub(r.clock()).Abs())
	var problem error
	if off > within && (theirs.Before(before) || theirs.After(r.clock())) {
		problem = fmt.Errorf("it differs from this machine's by %v", off.Round(time.Second))
	}
	r.Line(what+": clock", problem, mend)
}

// API is what argusd api depends on.
type API struct {
	PostgresURL, ClickHouseURL string
	Clerk                      Clerk // its zero value: there is none
	Issuers                    Issuers
}

// Check tests it.
func (c API) Check(ctx context.Context, r *Report) {
	checkPostgres(ctx, r, c.PostgresURL, "argus_api", func(p *postgres) {
		p.privileges(ctx, r, []privilege{
			{"argus.argus_audit_log", "SELECT"}, {"argus.argus_audit_log", "INSERT"},
			{"argus.compute_control_audit", "INSERT"}, {"argus.remote_support_audit", "INSERT"},
			{"argus.audit_intents", "INSERT"}, {"argus.personal_access_tokens", "SELECT"},
		})
		p.partitions(ctx, r)
		p.guarded(ctx, r)
		p.durable(ctx, r)
		p.connections(ctx, r)
	})
	checkCopies(ctx, r, c.ClickHouseURL, "argus_reader", func(s *clickHouse, _ string) {
		s.readonly(ctx, r)
		s.probe(ctx, r, "read the copy", "SELECT count() FROM audit_watermark")
	})
	if c.Clerk != (Clerk{}) {
		c.Clerk.check(ctx, r)
	}
	c.Issuers.check(ctx, r)
}

// Replicator is what argusd replicator depends on.
type Replicator struct {
	PostgresURL, Slot string
	Server            connect.Shard
}

// Check tests it.
func (c Replicator) Check(ctx context.Context, r *Report) {
	var slots []connect.Pairing
	var remembered error
	checkPostgres(ctx, r, c.PostgresURL, "argus_replicator", func(p *postgres) {
		p.privileges(ctx, r, []privilege{
			{"argus.argus_audit_log", "SELECT"}, {"argus.compute_control_audit", "SELECT"}, {"argus.remote_support_audit", "SELECT"},
			{"argus.audit_writers", "SELECT"}, {"argus.replicator_lease", "UPDATE"}, {"argus.replicator_status", "UPDATE"},
			{"argus.replicator_servers", "INSERT"},
		})
		p.replication(ctx, r, c.Slot, c.Server.Publication())
		slots, remembered = connect.Pairings(ctx, p.conn)
	})
	checkClickHouse(ctx, r, c.Server, "argus_replicator", func(s *clickHouse) {
		s.one(ctx, r, c.Server.URL)
		s.grants(ctx, r, "write the copy", "SELECT, INSERT, ALTER, CREATE TABLE, DROP TABLE, TRUNCATE")
		if remembered == nil {
			remembered = s.paired(ctx, slots, c.Slot, c.Server.Address())
		}
		r.Line(s.name+": the slot's own server", remembered, "mend ARGUS_CLICKHOUSE_URL, so that each name leads to its own server. "+
			"docs/high-availability.md says what to do when a server took another's place")
	})
}

// Ledger is what argusd ledger seal depends on. Key is why the key cannot sign, or nil.
type Ledger struct {
	PostgresURL, ClickHouseURL string
	Key                        error
}

// Check tests it.
func (c Ledger) Check(ctx context.Context, r *Report) {
	r.Line("the key", c.Key, "make one by argusd ledger init, in a file of mode 0600 that this user owns, or name an ssh-agent that holds it")
	checkPostgres(ctx, r, c.PostgresURL, "argus_ledger", func(p *postgres) {
		p.privileges(ctx, r, []privilege{{"argus.audit_writers", "SELECT"}, {"argus.ledger_runs", "INSERT"}, {"argus.ledger_tiles", "INSERT"},
			{"argus.ledger_lease", "UPDATE"}, {"argus.ledger_status", "UPDATE"}})
		p.functions(ctx, r, "argus.take_ledger_pending(int)", "argus.create_ledger_partitions()", "argus.record_ledger(text, jsonb)")
	})
	if c.ClickHouseURL == "" {
		r.note("ARGUS_CLICKHOUSE_URL is empty: the copy is not asked whether Postgres was restored")
		return
	}
	checkCopies(ctx, r, c.ClickHouseURL, "argus_reader", func(s *clickHouse, _ string) {
		s.probe(ctx, r, "read the copy of the ledger", "SELECT count() FROM ledger_checkpoints")
	})
}

// Ship is what argusd ship depends on. ReadURL is empty when rows are read from the primary.
type Ship struct {
	PostgresURL, ReadURL string
	Sinks                []Sink
}

// Sink asks a receiver whether it would take batches.
type Sink struct {
	Name string
	Test func(context.Context) error
}

// Check tests it.
func (c Ship) Check(ctx context.Context, r *Report) {
	checkPostgres(ctx, r, c.PostgresURL, "argus_ship", func(p *postgres) {
		p.privileges(ctx, r, []privilege{{"argus.argus_audit_log", "SELECT"}, {"argus.audit_writers", "SELECT"}, {"argus.sinks", "SELECT"},
			{"argus.sink_positions", "UPDATE"}, {"argus.sink_rejects", "SELECT"}, {"argus.sink_leases", "UPDATE"}, {"argus.sink_orders", "SELECT"}})
	})
	if c.ReadURL != "" {
		r.Line("ARGUS_POSTGRES_READ_URL: read the log", readable(ctx, c.ReadURL), "it must lead to a standby of the same database, as argus_ship")
	}
	if len(c.Sinks) == 0 {
		r.Warn("ARGUS_SINKS_FILE declares no sink: nothing is shipped")
	}
	for _, s := range c.Sinks {
		ctx, cancel := context.WithTimeout(ctx, 20*time.Second)
		r.Line("the sink "+s.Name, s.Test(ctx), "see its part of ARGUS_SINKS_FILE, and docs/ship.md")
		cancel()
	}
}

// Hold is what argusd maintain hold depends on.
type Hold struct{ PostgresURL string }

// Check tests it.
func (c Hold) Check(ctx context.Context, r *Report) {
	checkPostgres(ctx, r, c.PostgresURL, "argus_hold", func(p *postgres) {
		p.functions(ctx, r, "argus.add_retention_hold(timestamptz, timestamptz, text, text)", "argus.release_retention_hold(bigint, text, text)")
	})
}

// Maintain is what argusd maintain depends on.
type Maintain struct{ PostgresURL, ClickHouseURL string }

// Check tests it.
func (c Maintain) Check(ctx context.Context, r *Report) {
	checkPostgres(ctx, r, c.PostgresURL, "argus_maintenance", func(p *postgres) {
		p.functions(ctx, r, "argus.create_months_ahead(int)", "argus.drop_expired_months(int)", "argus.expired_months(int)",
			"argus.lock_maintenance()")
	})
	if c.ClickHouseURL == "" {
		r.note("ARGUS_CLICKHOUSE_URL is empty: months are dropped from Postgres alone")
		return
	}
	checkCopies(ctx, r, c.ClickHouseURL, "argus_maintenance", func(s *clickHouse, url string) {
		s.one(ctx, r, url)
		s.grants(ctx, r, "drop months of the copy", "ALTER DELETE")
		s.lacks(ctx, r, "INSERT", "SELECT", "ALTER UPDATE", "DROP TABLE")
	})
}

// without is err with the secret, which some errors repeat, cut out.
func without(err error, secret string) error {
	if secret == "" {
		return err
	}
	return errors.New(strings.ReplaceAll(err.Error(), secret, "…"))
}
