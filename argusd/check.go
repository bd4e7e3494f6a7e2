package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"time"

	"github.com/ClickHouse/clickhouse-go/v2"
	"github.com/jackc/pgx/v5"
	"github.com/spf13/cobra"

	"github.com/useargus/argus/migrations"
)

func newCheckCommand() *cobra.Command {
	return &cobra.Command{
		Use:       "check {api|replicator}",
		Short:     "Test each dependency of a process and say how to mend what is wrong",
		Long:      "Test each dependency of a process, with the process's own environment, and say how to mend what is wrong.\nEnds with 0 when all is well and 9 when something is not.",
		Example:   "  argusd check api\n  argusd check replicator",
		Args:      cobra.MatchAll(cobra.ExactArgs(1), cobra.OnlyValidArgs),
		ValidArgs: []string{"api", "replicator"},
		RunE: func(command *cobra.Command, args []string) error {
			ctx, cancel := context.WithTimeout(command.Context(), time.Minute)
			defer cancel()
			r := &report{out: os.Stdout}
			if args[0] == "api" {
				checkAPI(ctx, r)
			} else {
				checkReplicator(ctx, r)
			}
			if r.failed > 0 {
				return &exitError{9, fmt.Errorf("%d of %d checks failed", r.failed, r.total)}
			}
			return nil
		},
	}
}

// report prints one line a check.
type report struct {
	out           io.Writer
	total, failed int
}

// line reports a check: problem nil is well; mend says what to do otherwise.
func (r *report) line(what string, problem error, mend string) bool {
	r.total++
	if problem == nil {
		fmt.Fprintf(r.out, "ok    %s\n", what)
		return true
	}
	r.failed++
	fmt.Fprintf(r.out, "FAIL  %s: %s\n      %s\n", what, firstLine(problem), mend)
	return false
}

func firstLine(err error) string {
	line, _, _ := strings.Cut(err.Error(), "\n")
	return line
}

func checkAPI(ctx context.Context, r *report) {
	config, err := load[apiConfig](nil)
	if err != nil {
		r.total, r.failed = r.total+1, r.failed+1
		fmt.Fprintf(r.out, "FAIL  configuration: %v\n", err)
		return
	}
	r.line("configuration", nil, "")
	checkPostgres(ctx, r, config.PostgresURL, "argus_api", func(conn *pgx.Conn) {
		var insert, change bool
		err := conn.QueryRow(ctx, `SELECT has_table_privilege('argus.argus_audit_log', 'INSERT'),
			has_table_privilege('argus.argus_audit_log', 'UPDATE, DELETE, TRUNCATE')`).Scan(&insert, &change)
		if err == nil && !insert {
			err = errors.New("the role may not insert into argus.argus_audit_log")
		}
		if err == nil && change {
			err = errors.New("the role may change or remove audit rows")
		}
		r.line("Postgres: the role may append to the audit log and no more", err, "log in as argus_api, as made by argusd migrate")
		var ahead int
		err = conn.QueryRow(ctx, `SELECT count(*) FROM argus.audit_months WHERE month > date_trunc('month', now())`).Scan(&ahead)
		if err == nil && ahead < 2 {
			err = fmt.Errorf("%d months of partitions ahead", ahead)
		}
		r.line("Postgres: partitions ahead", err, "run argusd maintain, and see that it runs daily")
	})
	checkClickHouse(ctx, r, config.ClickHouseURL, "SELECT count() FROM audit_watermark", "log in as argus_reader; run argusd migrate if tables are missing")
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, strings.TrimSuffix(config.APIURL, "/")+"/jwks", nil)
	if err == nil {
		request.Header.Set("Authorization", "Bearer "+config.SecretKey)
		var response *http.Response
		if response, err = (&http.Client{Timeout: 5 * time.Second}).Do(request); err == nil {
			response.Body.Close()
			if response.StatusCode != http.StatusOK {
				err = fmt.Errorf("Clerk answered %d", response.StatusCode)
			}
		}
	}
	r.line("Clerk: session keys", err, "see ARGUS_CLERK_SECRET_KEY and ARGUS_CLERK_API_URL, and that this host reaches Clerk")
}

func checkReplicator(ctx context.Context, r *report) {
	config, err := load[replicatorConfig](nil)
	if err != nil {
		r.total, r.failed = r.total+1, r.failed+1
		fmt.Fprintf(r.out, "FAIL  configuration: %v\n", err)
		return
	}
	r.line("configuration", nil, "")
	checkPostgres(ctx, r, config.PostgresURL, "argus_replicator", func(conn *pgx.Conn) {
		var level string
		err := conn.QueryRow(ctx, "SELECT setting FROM pg_settings WHERE name = 'wal_level'").Scan(&level)
		if err == nil && level != "logical" {
			err = fmt.Errorf("wal_level is %s", level)
		}
		r.line("Postgres: wal_level", err, "set wal_level = logical and restart Postgres")
		var replication bool
		err = conn.QueryRow(ctx, "SELECT rolreplication FROM pg_roles WHERE rolname = current_user").Scan(&replication)
		if err == nil && !replication {
			err = errors.New("the role may not replicate")
		}
		r.line("Postgres: the role may replicate", err, "ALTER ROLE argus_replicator REPLICATION")
		var published int
		err = conn.QueryRow(ctx, "SELECT count(*) FROM pg_publication_tables WHERE pubname = 'argus'").Scan(&published)
		if err == nil && published != 3 {
			err = fmt.Errorf("the publication argus has %d tables, not 3", published)
		}
		r.line("Postgres: publication", err, "run argusd migrate")
		var slots, used int
		err = conn.QueryRow(ctx, `SELECT (SELECT setting::int FROM pg_settings WHERE name = 'max_replication_slots'),
			(SELECT count(*) FROM pg_replication_slots WHERE slot_name <> $1)`, config.Slot).Scan(&slots, &used)
		if err == nil && used >= slots {
			err = fmt.Errorf("all %d replication slots are taken", slots)
		}
		r.line("Postgres: room for the replication slot", err, "raise max_replication_slots, or drop slots nobody uses")
		var status *string
		err = conn.QueryRow(ctx, `SELECT (SELECT wal_status FROM pg_replication_slots WHERE slot_name = $1)`, config.Slot).Scan(&status)
		if err == nil && status != nil && *status == "lost" {
			err = errors.New("the slot's WAL is gone")
		}
		r.line("Postgres: state of the slot", err, "start argusd replicator: it makes a new slot and copies what is missing; then raise max_slot_wal_keep_size")
		checkReplicationConnection(ctx, r, config.PostgresURL)
	})
	checkClickHouse(ctx, r, config.ClickHouseURL, "SELECT count() FROM audit_log WHERE 0", "log in as argus_replicator; run argusd migrate if tables are missing")
}

// checkReplicationConnection finds a pg_hba.conf that lets the role in, but not to replicate.
func checkReplicationConnection(ctx context.Context, r *report, url string) {
	config, err := pgx.ParseConfig(url)
	if err == nil {
		config.RuntimeParams["replication"] = "database"
		config.DefaultQueryExecMode = pgx.QueryExecModeSimpleProtocol
		var conn *pgx.Conn
		if conn, err = pgx.ConnectConfig(ctx, config); err == nil {
			err = conn.PgConn().Exec(ctx, "IDENTIFY_SYSTEM").Close()
			conn.Close(context.WithoutCancel(ctx))
		}
	}
	r.line("Postgres: a replication connection", err, "let argus_replicator in by pg_hba.conf: host <database> argus_replicator <network> scram-sha-256")
}

// checkPostgres tests what every process needs of Postgres, then what else asks for.
func checkPostgres(ctx context.Context, r *report, url, role string, more func(*pgx.Conn)) {
	conn, err := pgx.Connect(ctx, url)
	if err != nil {
		var dns *net.DNSError
		mend := "see the host, port, role and password of ARGUS_POSTGRES_URL, and pg_hba.conf"
		if errors.As(err, &dns) {
			mend = "the host of ARGUS_POSTGRES_URL has no address"
		}
		r.line("Postgres: log in", scrubbed(err, url), mend)
		return
	}
	defer conn.Close(context.WithoutCancel(ctx))
	r.line("Postgres: log in", nil, "")

	var version int
	err = conn.QueryRow(ctx, "SELECT current_setting('server_version_num')::int").Scan(&version)
	if err == nil && version < 150000 {
		err = fmt.Errorf("the server is version %d", version/10000)
	}
	r.line("Postgres: version", err, "ARGUS needs Postgres 15 or newer")

	var super, owner bool
	err = conn.QueryRow(ctx, `SELECT rolsuper, pg_has_role(current_user, 'argus_owner', 'MEMBER') FROM pg_roles
		WHERE rolname = current_user`).Scan(&super, &owner)
	if err == nil && (super || owner) {
		err = errors.New("the role could change the audit log")
	}
	r.line("Postgres: least privilege", err, "log in as "+role)

	var standby bool
	var skew float64
	before := time.Now()
	err = conn.QueryRow(ctx, "SELECT pg_is_in_recovery(), extract(epoch FROM clock_timestamp())").Scan(&standby, &skew)
	middle := before.Add(time.Since(before) / 2)
	if err == nil && standby {
		err = errors.New("this server is a standby")
	}
	r.line("Postgres: the primary", err, "let ARGUS_POSTGRES_URL lead to the primary (target_session_attrs=read-write)")
	off := time.Duration((skew - float64(middle.UnixMicro())/1e6) * float64(time.Second)).Abs()
	err = nil
	if off > time.Minute {
		err = fmt.Errorf("this host and Postgres differ by %s", off.Round(time.Second))
	}
	r.line("clock", err, "run a time service on both hosts")

	if !r.line("Postgres: schema", migrations.CheckPostgres(ctx, url), "run argusd migrate") {
		return
	}
	more(conn)
}

func checkClickHouse(ctx context.Context, r *report, url, probe, mend string) {
	options, err := clickhouse.ParseDSN(url)
	if err != nil {
		r.line("ClickHouse: URL", errors.New("it cannot be read"), "write clickhouse://user:password@host:9000/argus")
		return
	}
	options.DialTimeout = 5 * time.Second
	conn, err := clickhouse.Open(options)
	if err == nil {
		defer conn.Close()
		err = conn.Ping(ctx)
	}
	if !r.line("ClickHouse: log in", err, "see the host, port (native protocol, 9000), user and password of ARGUS_CLICKHOUSE_URL") {
		return
	}
	var version string
	var recent bool
	err = conn.QueryRow(ctx, `SELECT version(), (toUInt32OrZero(splitByChar('.', version())[1]),
		toUInt32OrZero(splitByChar('.', version())[2])) >= (25, 8)`).Scan(&version, &recent)
	if err == nil && !recent {
		err = fmt.Errorf("the server is %s", version)
	}
	r.line("ClickHouse: version", err, "ARGUS needs ClickHouse 25.8 or newer")
	var rows uint64
	r.line("ClickHouse: tables", conn.QueryRow(ctx, probe).Scan(&rows), mend)
}

// scrubbed is err without the URL's password, which some errors repeat.
func scrubbed(err error, url string) error {
	config, parseErr := pgx.ParseConfig(url)
	if parseErr != nil || config.Password == "" {
		return errors.New("the URL cannot be read")
	}
	return errors.New(strings.ReplaceAll(err.Error(), config.Password, "…"))
}
