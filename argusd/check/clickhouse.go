package check

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"net"
	"strings"
	"time"

	"github.com/ClickHouse/clickhouse-go/v2"

	"github.com/useargus/argus/connect"
	"github.com/useargus/argus/migrations"
)

// clickHouse is a connection as the user a process has.
type clickHouse struct {
	conn clickhouse.Conn
	user string // the one it should be
	name string // "ClickHouse", or "ClickHouse east/2"
}

// checkCopies tests every server that the setting names.
func checkCopies(ctx context.Context, r *Report, setting, user string, more func(*clickHouse, string)) {
	servers, err := connect.Servers(setting)
	if err != nil {
		r.Line("ClickHouse: ARGUS_CLICKHOUSE_URL", err, "see docs/configuration.md")
	}
	for _, server := range servers {
		checkClickHouse(ctx, r, server, user, func(s *clickHouse) { more(s, server.URL) })
	}
}

// checkClickHouse tests what every process needs, then what else asks for; else is not asked when the user cannot
// log in, or there is no schema of ours.
func checkClickHouse(ctx context.Context, r *Report, server connect.Shard, user string, more func(*clickHouse)) {
	url, name := server.URL, server.String()
	options, err := connect.ClickHouse(url)
	if err != nil {
		r.Line(name+": ARGUS_CLICKHOUSE_URL", errors.New("it cannot be read"), "it must look like clickhouse://"+user+":password@host:9000/argus")
		return
	}
	options.DialTimeout = 5 * time.Second
	conn, err := clickhouse.Open(options)
	if err == nil {
		defer conn.Close()
		err = conn.Ping(ctx)
	}
	if err != nil {
		r.Line(name+": log in", without(err, options.Auth.Password), mendClickHouse(err, user))
		return
	}
	r.Line(name+": log in", nil, "")
	if host, _, err := net.SplitHostPort(options.Addr[0]); options.TLS == nil && err == nil && !loopback(host) {
		r.note(name + " is reached without TLS: ?secure=true and its TLS port (9440) in ARGUS_CLICKHOUSE_URL ask for it")
	}

	s := &clickHouse{conn, user, name}
	var version string
	var recent bool
	var theirs time.Time
	before := r.clock()
	err = conn.QueryRow(ctx, `
		SELECT now64(6, 'UTC'), version(), (toUInt32OrZero(splitByChar('.', version())[1]), toUInt32OrZero(splitByChar('.', version())[2])) >= (25, 8)`).
		Scan(&theirs, &version, &recent)
	if err == nil {
		r.skew(name, theirs, before, maxSkew, "run NTP on both machines: see timedatectl, chronyc tracking")
		if !recent {
			err = fmt.Errorf("the server is version %s", version)
		}
	}
	r.Line(name+": version", err, "ARGUS needs ClickHouse 25.8 or newer")

	s.session(ctx, r)

	err = migrations.CheckClickHouse(ctx, url)
	r.Line(name+": schema", err, "run argusd migrate with this binary, with the database of ARGUS_CLICKHOUSE_URL; it also grants "+user+" what it needs")
	if err == nil {
		more(s)
	}
}

func mendClickHouse(err error, user string) string {
	var dns *net.DNSError
	var rejected *clickhouse.Exception
	switch {
	case errors.As(err, &dns):
		return "the host in ARGUS_CLICKHOUSE_URL has no address: see its spelling, and this machine's DNS"
	case errors.As(err, &rejected) && rejected.Code == 516, errors.As(err, &rejected) && rejected.Code == 194:
		return fmt.Sprintf("the password is wrong, the user is missing, or may not come from this machine: run argusd migrate, "+
			"then ALTER USER %s IDENTIFIED BY '…' HOST ANY, or mend ARGUS_CLICKHOUSE_URL", user)
	case errors.As(err, &rejected) && rejected.Code == 81:
		return "the database is missing: run argusd migrate, or mend ARGUS_CLICKHOUSE_URL"
	case strings.Contains(err.Error(), "unexpected packet [72]"): // the H of HTTP
		return "this is the HTTP port: ARGUS_CLICKHOUSE_URL needs the native one, 9000, or 9440 with ?secure=true"
	}
	return "see the host and port of ARGUS_CLICKHOUSE_URL (9000; 9440 with ?secure=true), listen_host of ClickHouse, firewalls and network policies"
}

// unpinnedClickHouse are settings that change answers and cannot be stated to be empty.
var unpinnedClickHouse = []string{"force_data_skipping_indices", "ignore_data_skipping_indices"}

// session finds settings of the user or a profile that reach this process's sessions although they state others.
func (s *clickHouse) session(ctx context.Context, r *Report) {
	wanted := map[string]string{}
	for _, pinned := range connect.ClickHouseSession() {
		wanted[pinned.Name] = pinned.Value
	}
	for _, name := range unpinnedClickHouse {
		wanted[name] = ""
	}
	var wrong []string
	var set []struct {
		Name  string `ch:"name"`
		Value string `ch:"value"`
	}
	err := s.conn.Select(ctx, &set, "SELECT name, value FROM system.settings")
	for _, is := range set {
		if value, ok := wanted[is.Name]; ok && is.Value != value {
			wrong = append(wrong, fmt.Sprintf("%s is %q, not %q", is.Name, is.Value, value))
		}
	}
	if len(wrong) > 0 {
		err = errors.New(strings.Join(wrong, "\n"))
	}
	r.Line(s.name+": session", err, "take them out of the profiles of "+s.user+", and out of what constrains it; argusd migrate states the rest")
}

// lacks: a user who may do more than the process needs is another's.
func (s *clickHouse) lacks(ctx context.Context, r *Report, privileges ...string) {
	var problem error
	for _, p := range privileges {
		var has uint8
		err := s.conn.QueryRow(ctx, "CHECK GRANT "+p+" ON audit_log").Scan(&has)
		if err == nil && has == 1 {
			err = fmt.Errorf("the user may %s on audit_log", p)
		}
		problem = errors.Join(problem, err)
	}
	r.Line(s.name+": least privilege", problem, "log in as "+s.user+", as made by argusd migrate")
}

// readonly: the API asks, and sets the bounds of what it asks; it writes nothing.
func (s *clickHouse) readonly(ctx context.Context, r *Report) {
	var readonly string
	err := s.conn.QueryRow(ctx, "SELECT toString(getSetting('readonly'))").Scan(&readonly)
	switch {
	case err != nil:
	case readonly == "0":
		err = errors.New("the user may write: its setting readonly is 0")
	case readonly != "1":
		err = fmt.Errorf("the user may lift its own bounds: its setting readonly is %s", readonly)
	}
	r.Line(s.name+": least privilege", err, "log in as "+s.user+", as made by argusd migrate: readonly = 1")
}

func (s *clickHouse) probe(ctx context.Context, r *Report, what, query string) {
	var n uint64
	r.Line(s.name+": "+what, s.conn.QueryRow(ctx, query).Scan(&n), "log in as "+s.user+", and run argusd migrate, which grants it what it needs")
}

// one: what is read from one server is nothing to go by for what is written to another. A balancer shows when several
// connections are asked.
func (s *clickHouse) one(ctx context.Context, r *Report, url string) {
	options, err := connect.ClickHouse(url)
	if err == nil {
		err = errors.Join(connect.OneServer(ctx, options), connect.NotOne(ctx, s.conn, options.Auth.Database))
	}
	r.Line(s.name+": one server", err, "let each URL of ARGUS_CLICKHOUSE_URL lead to one server with plain tables; each copy has a replicator and a slot of its own")
}

// paired holds the server's identity to what Postgres remembers of all slots.
func (s *clickHouse) paired(ctx context.Context, slots []connect.Pairing, slot, address string) error {
	var identity string
	if err := s.conn.QueryRow(ctx, "SELECT toString(argMin(server, (made_at, server))) FROM replicator_identity HAVING count() > 0").Scan(&identity); err != nil {
		if errors.Is(err, sql.ErrNoRows) {
			return errors.New("the server has no identity: run argusd migrate")
		}
		return err
	}
	_, err := connect.Paired(slots, slot, identity, address, func() (bool, error) {
		var rows uint64
		err := s.conn.QueryRow(ctx, `SELECT (SELECT count() FROM audit_watermark) + (SELECT count() FROM audit_log)
			+ (SELECT count() FROM compute_control_audit) + (SELECT count() FROM remote_support_audit)`).Scan(&rows)
		return rows == 0, err
	})
	return err
}

func (s *clickHouse) grants(ctx context.Context, r *Report, what, wanted string) {
	var has uint8
	err := s.conn.QueryRow(ctx, "CHECK GRANT "+wanted+" ON audit_log").Scan(&has)
	if err == nil && has == 0 {
		err = fmt.Errorf("the user lacks one of %s on audit_log", wanted)
	}
	r.Line(s.name+": "+what, err, "log in as "+s.user+", and run argusd migrate, which grants it what it needs")
}
