package check

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net"
	"slices"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/useargus/argus"
	"github.com/useargus/argus/connect"
	"github.com/useargus/argus/migrations"
	"github.com/useargus/argus/replicator"
)

// apiConnections is about what one API process may have open at once: for calls, questions, lanes and listening.
const apiConnections = 50

// postgres is a connection as the role a process has.
type postgres struct {
	conn   *pgx.Conn
	config *pgx.ConnConfig
	role   string // the one it should be
}

// readable reads a row of the log, on the server that the URL leads to.
func readable(ctx context.Context, url string) error {
	config, err := connect.Postgres(url, "argus-check")
	if err != nil {
		return errors.New("it cannot be read: it must look like postgres://argus_ship:password@host:5432/argus")
	}
	config.ConnectTimeout = 5 * time.Second
	conn, err := connect.Open(ctx, config)
	if err != nil {
		return without(err, config.Password)
	}
	defer conn.Close(context.WithoutCancel(ctx))
	_, err = conn.Exec(ctx, "SELECT FROM argus.argus_audit_log LIMIT 1")
	return err
}

type privilege struct{ table, privilege string }

// checkPostgres tests what every process needs, then what else asks for; else is not asked when the role cannot
// log in, or there is no schema of ours.
func checkPostgres(ctx context.Context, r *Report, url, role string, more func(*postgres)) {
	config, err := connect.Postgres(url, "argus-check")
	if err != nil {
		r.Line("Postgres: ARGUS_POSTGRES_URL", errors.New("it cannot be read"), "it must look like postgres://"+role+":password@host:5432/argus")
		return
	}
	config.ConnectTimeout = 5 * time.Second
	conn, err := connect.Open(ctx, config)
	if err != nil {
		r.Line("Postgres: log in", without(err, config.Password), mendLogin(err, role, config.Database))
		return
	}
	defer conn.Close(context.WithoutCancel(ctx))
	r.Line("Postgres: log in", nil, "")
	if config.TLSConfig == nil && !loopback(config.Host) {
		r.note("Postgres is reached without TLS: sslmode=verify-full in ARGUS_POSTGRES_URL asks for it")
	}

	p := &postgres{conn, config, role}
	var version int
	err = conn.QueryRow(ctx, "SELECT current_setting('server_version_num')::int").Scan(&version)
	if err == nil && version < 150000 {
		err = fmt.Errorf("the server is version %d", version/10000)
	}
	r.Line("Postgres: version", err, "ARGUS needs Postgres 15 or newer")
	p.session(ctx, r)

	var standby bool
	var theirs time.Time
	before := r.clock()
	err = conn.QueryRow(ctx, "SELECT pg_is_in_recovery(), clock_timestamp()").Scan(&standby, &theirs)
	if err == nil {
		r.skew("Postgres", theirs, before, maxSkew, "run NTP on both machines: see timedatectl, chronyc tracking")
		if standby {
			err = errors.New("this server is a standby")
		}
	}
	r.Line("Postgres: the primary", err, "let ARGUS_POSTGRES_URL lead to the primary: name all hosts, or its own address")

	err = migrations.CheckPostgres(ctx, url)
	r.Line("Postgres: schema", err, "run argusd migrate with this binary, on this database")
	if err != nil {
		return
	}
	p.leastPrivilege(ctx, r)
	more(p)
}

// mendLogin says what to do about an error of connecting.
func mendLogin(err error, role, database string) string {
	var dns *net.DNSError
	var rejected *pgconn.PgError
	switch {
	case errors.As(err, &dns):
		return "the host in ARGUS_POSTGRES_URL has no address: see its spelling, and this machine's DNS"
	case errors.As(err, &rejected):
		switch rejected.Code {
		case "28P01":
			return fmt.Sprintf("the password is wrong: set it with ALTER ROLE %s LOGIN PASSWORD '…', or mend ARGUS_POSTGRES_URL", role)
		case "28000":
			return fmt.Sprintf("let the role log in (ALTER ROLE %s LOGIN PASSWORD '…') and let this machine in by pg_hba.conf (hostssl %s %s <network> scram-sha-256)", role, database, role)
		case "3D000":
			return fmt.Sprintf("make the database (CREATE DATABASE %s) and run argusd migrate, or mend ARGUS_POSTGRES_URL", database)
		case "53300":
			return "all connections are taken: raise max_connections"
		case "57P03":
			return "Postgres is starting or stopping: try again"
		}
		return "see Postgres's log"
	}
	return "see the host and port of ARGUS_POSTGRES_URL, listen_addresses of Postgres, firewalls and network policies"
}

// unpinned are settings that a session of an ordinary role cannot state, and what they must be.
var unpinned = map[string]string{
	"session_replication_role": "origin", "zero_damaged_pages": "off", "ignore_system_indexes": "off",
	"transaction_timeout": "0", "restrict_nonsystem_relation_kind": "", // stated from version 17 on
}

// session finds settings of the database or the role that reach this process's sessions although they state others.
func (p *postgres) session(ctx context.Context, r *Report) {
	wanted := maps.Clone(connect.PostgresSession)
	maps.Copy(wanted, unpinned)
	rows, err := p.conn.Query(ctx, "SELECT lower(name), setting FROM pg_settings WHERE lower(name) = ANY($1)", slices.Collect(maps.Keys(wanted)))
	var wrong []string
	if err == nil {
		var name, value string
		_, err = pgx.ForEachRow(rows, []any{&name, &value}, func() error {
			if value != wanted[name] {
				wrong = append(wrong, fmt.Sprintf("%s is %q, not %q", name, value, wanted[name]))
			}
			return nil
		})
	}
	if len(wrong) > 0 {
		slices.Sort(wrong)
		err = errors.New(strings.Join(wrong, "\n"))
	}
	r.Line("Postgres: session", err, "ALTER DATABASE … RESET or ALTER ROLE … RESET them (\\drds in psql lists what is set); "+
		"a pooler in between must pass a session's settings on")
}

// leastPrivilege: a role that could change the log would make its promise worthless.
func (p *postgres) leastPrivilege(ctx context.Context, r *Report) {
	var name string
	var super, owner, change bool
	err := p.conn.QueryRow(ctx, `
		SELECT current_user, rolsuper, pg_has_role(current_user, 'argus_owner', 'MEMBER'),
		       has_table_privilege('argus.argus_audit_log', 'UPDATE, DELETE, TRUNCATE')
		  FROM pg_roles WHERE rolname = current_user`).Scan(&name, &super, &owner, &change)
	switch {
	case err != nil:
	case super:
		err = fmt.Errorf("%s is a superuser, who could change the audit log", name)
	case owner:
		err = fmt.Errorf("%s is, or may become, argus_owner, who could change the audit log", name)
	case change:
		err = fmt.Errorf("%s may change or remove audit rows", name)
	}
	r.Line("Postgres: least privilege", err, "log in as "+p.role+", as made by argusd migrate")
}

func (p *postgres) privileges(ctx context.Context, r *Report, wanted []privilege) {
	var err error
	for _, w := range wanted {
		var has bool
		if err = p.conn.QueryRow(ctx, "SELECT has_any_column_privilege($1, $2)", w.table, w.privilege).Scan(&has); err != nil {
			break
		}
		if !has {
			err = fmt.Errorf("%s may not %s on %s", p.config.User, w.privilege, w.table)
			break
		}
	}
	r.Line("Postgres: role", err, "log in as "+p.role+", as made by argusd migrate")
}

func (p *postgres) functions(ctx context.Context, r *Report, wanted ...string) {
	var err error
	for _, f := range wanted {
		var has bool
		if err = p.conn.QueryRow(ctx, "SELECT has_function_privilege($1, 'EXECUTE')", f).Scan(&has); err != nil {
			break
		}
		if !has {
			err = fmt.Errorf("%s may not run %s", p.config.User, f)
			break
		}
	}
	r.Line("Postgres: role", err, "log in as "+p.role+", as made by argusd migrate")
}

func (p *postgres) partitions(ctx context.Context, r *Report) {
	var ahead int
	err := p.conn.QueryRow(ctx, "SELECT count(*) FROM argus.audit_months WHERE month > date_trunc('month', now() AT TIME ZONE 'UTC')").Scan(&ahead)
	if err == nil && ahead < 2 {
		err = fmt.Errorf("partitions are there for %s ahead", argus.Counted(ahead, "month"))
	}
	r.Line("Postgres: partitions ahead", err, "run argusd maintain, and see that it runs daily")
}

// guarded: a row moves its writer's seq by a trigger, on the log and on each month of it that the API may insert into.
func (p *postgres) guarded(ctx context.Context, r *Report) {
	rows, err := p.conn.Query(ctx, `SELECT part::text FROM (SELECT 'argus.argus_audit_log'::regclass AS part
			UNION SELECT o.part FROM argus.partitions_of('argus.argus_audit_log'::regclass) o) l
		 WHERE has_any_column_privilege(part, 'INSERT') AND NOT EXISTS (SELECT FROM pg_trigger t
		       WHERE t.tgrelid = part AND t.tgfoid = 'argus.rows_follow_writer'::regproc AND t.tgenabled IN ('O', 'A'))
		 ORDER BY part::text`)
	if err == nil {
		var open []string
		if open, err = pgx.CollectRows(rows, pgx.RowTo[string]); err == nil && len(open) > 0 {
			err = fmt.Errorf("%s may insert into %v without the trigger rows_follow_writer: its password could leave holes there", p.config.User, open)
		}
	}
	r.Line("Postgres: guard of the log", err, "as argus_owner, give the table the trigger rows_follow_writer that the other months have, or revoke the INSERT")
}

// durable: an answered call's row must survive a crash of the server. Every session states synchronous_commit itself.
func (p *postgres) durable(ctx context.Context, r *Report) {
	rows, err := p.conn.Query(ctx, `SELECT name || ' is ' || setting FROM pg_settings
		WHERE name IN ('fsync', 'full_page_writes') AND setting = 'off' ORDER BY name`)
	if err == nil {
		var off []string
		if off, err = pgx.CollectRows(rows, pgx.RowTo[string]); err == nil && len(off) > 0 {
			err = fmt.Errorf("a row could be lost after its call was answered: %v", off)
		}
	}
	r.Line("Postgres: durability", err, "set fsync and full_page_writes = on")
}

func (p *postgres) connections(ctx context.Context, r *Report) {
	var free int
	err := p.conn.QueryRow(ctx, `
		SELECT current_setting('max_connections')::int - current_setting('superuser_reserved_connections')::int
		       - (SELECT count(*) FROM pg_stat_activity
		           WHERE backend_type = 'client backend' AND usename IS DISTINCT FROM current_user)`).Scan(&free)
	if err == nil && free < apiConnections {
		err = fmt.Errorf("this role has %s left", argus.Counted(free, "connection"))
	}
	r.Line("Postgres: connections", err, fmt.Sprintf("set max_connections to 50 and %d for each API process, or more", apiConnections))
}

// replication tests all that logical replication needs.
func (p *postgres) replication(ctx context.Context, r *Report, slot, name string) {
	var level string
	err := p.conn.QueryRow(ctx, "SELECT current_setting('wal_level')").Scan(&level)
	logical := level == "logical"
	if err == nil && !logical {
		err = fmt.Errorf("wal_level is %s", level)
	}
	r.Line("Postgres: wal_level", err, "set wal_level = logical and restart Postgres")

	r.Line("Postgres: a replication connection", p.replicationConnection(ctx),
		"ALTER ROLE argus_replicator REPLICATION (of a managed Postgres: what its provider has instead), raise max_wal_senders, "+
			"and let it in by pg_hba.conf: hostssl "+p.config.Database+" argus_replicator <network> scram-sha-256")

	publication, err := replicator.InspectPublication(ctx, p.conn, name)
	if err == nil && len(publication.Thins) > 0 {
		err = errors.New(strings.Join(publication.Thins, "\n"))
	}
	r.Line("Postgres: publication", err, "as argus_owner: "+replicator.PublicationSQL(name)+" The replicator then makes a new slot and copies what is missing")
	for _, note := range publication.Notes {
		r.note("the publication " + name + " is not as argusd migrate made it: " + note)
	}

	p.slot(ctx, r, slot)
	var keep string
	if err := p.conn.QueryRow(ctx, "SELECT current_setting('max_slot_wal_keep_size')").Scan(&keep); err == nil && keep == "-1" {
		r.note("max_slot_wal_keep_size is -1: while no replicator runs, WAL piles up until Postgres's disk is full. " +
			"With a bound the slot is lost instead, and the replicator copies what is missing when it is back")
	}
}

// replicationConnection finds what lets the role in, but not to replicate.
func (p *postgres) replicationConnection(ctx context.Context) error {
	config := p.config.Copy()
	config.RuntimeParams["replication"] = "database"
	config.DefaultQueryExecMode = pgx.QueryExecModeSimpleProtocol
	conn, err := connect.Open(ctx, config)
	if err != nil {
		return without(err, config.Password)
	}
	defer conn.Close(context.WithoutCancel(ctx))
	return conn.PgConn().Exec(ctx, "IDENTIFY_SYSTEM").Close()
}

func (p *postgres) slot(ctx context.Context, r *Report, slot string) {
	var limit, used int
	var here bool
	var plugin, database, status string
	err := p.conn.QueryRow(ctx, `
		SELECT current_setting('max_replication_slots')::int, (SELECT count(*) FROM pg_replication_slots),
		       s.slot_name IS NOT NULL, coalesce(s.plugin, ''), coalesce(s.database, ''), coalesce(s.wal_status, '')
		  FROM (SELECT 1) one LEFT JOIN pg_replication_slots s ON s.slot_name = $1`, slot).
		Scan(&limit, &used, &here, &plugin, &database, &status)
	mend := ""
	switch {
	case err != nil:
	case !here && used >= limit:
		err = fmt.Errorf("all %d replication slots are taken", limit)
		mend = "raise max_replication_slots and restart Postgres, or drop a slot without a reader (pg_drop_replication_slot)"
	case here && (plugin != "pgoutput" || database != p.config.Database):
		err = fmt.Errorf("the slot %q belongs to something else: plugin %q, database %q", slot, plugin, database)
		mend = "name another with ARGUS_REPLICATION_SLOT: slots are the server's, two databases need two names"
	case status == "lost":
		err = fmt.Errorf("the slot %q is lost: Postgres has removed WAL that it needed", slot)
		mend = "start argusd replicator: it makes a new slot and copies what is missing; then raise max_slot_wal_keep_size"
	}
	r.Line("Postgres: replication slot", err, mend)
}

func loopback(host string) bool {
	ip := net.ParseIP(host)
	return host == "localhost" || len(host) > 0 && host[0] == '/' || ip != nil && ip.IsLoopback()
}
