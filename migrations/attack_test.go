package migrations_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/useargus/argus/internal/engines/enginetest"
	"github.com/useargus/argus/migrations"
)

// logins are the roles that a process or a person logs in as.
func logins(pg *enginetest.Postgres) map[string]string {
	return map[string]string{"argus_api": pg.APIURL, "argus_replicator": pg.ReplicatorURL, "argus_auditor": pg.AuditorURL,
		"argus_maintenance": pg.MaintenanceURL, "argus_hold": pg.HoldURL, "argus_break_glass": pg.BreakGlassURL,
		"argus_consent": pg.ConsentURL, "argus_ledger": pg.LedgerURL, "argus_ship": pg.ShipURL}
}

func connect(t *testing.T, url string) *pgx.Conn {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), url)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close(context.Background()) })
	return conn
}

func column[T any](t *testing.T, conn *pgx.Conn, sql string, args ...any) []T {
	t.Helper()
	rows, err := conn.Query(t.Context(), sql, args...)
	if err != nil {
		t.Fatal(err)
	}
	all, err := pgx.CollectRows(rows, pgx.RowTo[T])
	if err != nil {
		t.Fatalf("%s: %v", sql, err)
	}
	return all
}

func denied(err error) bool {
	var rejected *pgconn.PgError
	return errors.As(err, &rejected) && rejected.Code == "42501"
}

// TestFunctions walks the catalog. Each function looks its names up in pg_catalog and then in pg_temp, and none is PUBLIC's.
// No role may make anything that could stand in for what a function names. No role is more than it must be.
func TestFunctions(t *testing.T) {
	pg := enginetest.NewPostgres(t)
	super := connect(t, pg.SuperuserURL)
	for what, query := range map[string]string{
		"functions whose names are looked up elsewhere": `SELECT p.oid::regprocedure::text FROM pg_proc p WHERE p.pronamespace = 'argus'::regnamespace
			AND NOT coalesce(p.proconfig @> ARRAY['search_path=pg_catalog, pg_temp'], false)`,
		"functions that PUBLIC may run": `SELECT p.oid::regprocedure::text FROM pg_proc p, aclexplode(coalesce(p.proacl, acldefault('f', p.proowner))) a
			WHERE p.pronamespace = 'argus'::regnamespace AND a.grantee = 0`,
		"rights in the database that are not needed": `SELECT role || ' ' || p FROM unnest(ARRAY['TEMPORARY', 'CREATE']) p,
			(SELECT rolname::text FROM pg_roles WHERE rolname LIKE 'argus\_%') r (role)
			WHERE has_database_privilege(role, current_database(), p) AND NOT (role = 'argus_owner' AND p = 'CREATE')
			UNION ALL SELECT 'PUBLIC ' || a.privilege_type FROM pg_database d, aclexplode(coalesce(d.datacl, acldefault('d', d.datdba))) a
			WHERE d.datname = current_database() AND a.grantee = 0 AND a.privilege_type <> 'CONNECT'`,
		"roles that may create in a schema": `SELECT r.rolname || ' ' || n.nspname FROM pg_roles r, pg_namespace n
			WHERE r.rolname LIKE 'argus\_%' AND r.rolname <> 'argus_owner' AND has_schema_privilege(r.oid, n.oid, 'CREATE')`,
		"roles that are more than they must be": `SELECT rolname::text FROM pg_roles WHERE rolname LIKE 'argus\_%'
			AND (rolsuper OR rolcreaterole OR rolcreatedb OR rolbypassrls OR rolreplication <> (rolname = 'argus_replicator'))`,
		"memberships of our roles": `SELECT m.member::regrole || ' in ' || m.roleid::regrole FROM pg_auth_members m WHERE m.member::regrole::text LIKE 'argus\_%'`,
		"event triggers":           `SELECT evtname::text FROM pg_event_trigger`,
		"rules":                    `SELECT rulename::text FROM pg_rules WHERE schemaname = 'argus'`,
	} {
		if found := column[string](t, super, query); len(found) > 0 {
			t.Errorf("%s: %s", what, strings.Join(found, ", "))
		}
	}
	// And the functions of a later file: no role gets them by default.
	for _, sql := range []string{"SET ROLE argus_owner", "CREATE FUNCTION argus.later() RETURNS int LANGUAGE sql AS 'SELECT 1'", "RESET ROLE"} {
		if _, err := super.Exec(t.Context(), sql); err != nil {
			t.Fatal(err)
		}
	}
	for role, url := range logins(pg) {
		if _, err := connect(t, url).Exec(t.Context(), "SELECT argus.later()"); !denied(err) {
			t.Errorf("%s ran a function without a grant: %v", role, err)
		}
	}
}

// attempts runs every function that some role may run, and every statement that fires a trigger of ours. A function that
// is not here fails the test.
var attempts = map[string][]string{
	"partitions_of":     {"SELECT argus.partitions_of('argus.argus_audit_log'), argus.partitions_of('argus.compute_control_audit')"},
	"months_of":         {"SELECT argus.months_of('argus.argus_audit_log')", "SELECT count(*) FROM argus.audit_months"},
	"open_audit_writer": {"SELECT argus.open_audit_writer(gen_random_uuid(), 0)"},
	"shard_of":          {"SELECT argus.shard_of('east', writer_id) FROM argus.audit_writers"},
	"publication_print": {"SELECT argus.publication_print('argus')"},
	"advance_audit_writer": {"SELECT argus.advance_audit_writer(1, 0, 0, NULL)",
		"SELECT argus.advance_audit_writer((SELECT max(writer_id) FROM argus.audit_writers), 0, 0, ARRAY[gen_random_uuid()])"},
	"delete_recorded_intents": {"SELECT argus.delete_recorded_intents('0')", "SELECT argus.delete_recorded_intents('0', ARRAY[gen_random_uuid()])"},
	"lock_key":                {"SELECT argus.lock_key('x')"},
	"revoke_credentials": {"SELECT argus.revoke_credentials(ARRAY(SELECT id FROM argus.personal_access_tokens), 'x', gen_random_uuid())",
		"SELECT argus.revoke_credentials(ARRAY(SELECT id FROM argus.break_glass_tokens), 'x', NULL)"},
	"identify_credential":      {"SELECT argus.identify_credential('x')"},
	"record_reading":           {"SELECT argus.record_reading(gen_random_uuid(), true, true, '{}')"},
	"record_owner":             {"SELECT argus.record_owner('user_2x', 'gone')"},
	"record_healing":           {"SELECT argus.record_healing('heal', '{}')"},
	"create_months_ahead":      {"SELECT argus.create_months_ahead(25)"},
	"drop_expired_months":      {"SELECT argus.drop_expired_months()"},
	"expired_months":           {"SELECT argus.expired_months()"},
	"look_at_clock":            {"SELECT argus.look_at_clock()"},
	"lock_maintenance":         {"SELECT argus.lock_maintenance()"},
	"record_copy_dropped":      {"SELECT argus.record_copy_dropped('2024-01-01', '{}', '')"},
	"add_retention_hold":       {"SELECT argus.add_retention_hold('2024-01-01', 'infinity', 'a reason', 'me')"},
	"create_ledger_partitions": {"SELECT argus.create_ledger_partitions()"},
	"thin_ledger_checkpoints":  {"SELECT argus.thin_ledger_checkpoints()"},
	"month_of_call":            {"SELECT argus.month_of_call(gen_random_uuid())"},
	"month_number":             {"SELECT argus.month_number(now())"},
	"take_ledger_pending":      {"SELECT argus.take_ledger_pending(10)"},
	"record_ledger":            {"SELECT argus.record_ledger('ledger_started', '{}')"},
	"declare_ledger_loss":      {"SELECT argus.declare_ledger_loss(1, 2, 'a reason', 'me')"},
	"prune_ledger":             {"SELECT argus.prune_ledger(13)"},
	"uuid_floor":               {"SELECT argus.uuid_floor(now())"},
	"around_call":              {"SELECT argus.around_call(id) FROM argus.argus_audit_log", "SELECT argus.around_call(gen_random_uuid(), '1 day')"},
	"release_retention_hold":   {"SELECT argus.release_retention_hold(1, 'a reason', 'me')"},
}

var firing = map[string][]string{
	"argus_api": {
		rowOf("(SELECT max(writer_id) FROM argus.audit_writers)", "1", "clock_timestamp()", "clock_timestamp()"),
		"UPDATE argus.audit_writers SET closed_at = NULL",
		"INSERT INTO argus.audit_processes (process_id, host) VALUES (gen_random_uuid(), 'x')",
		"UPDATE argus.audit_processes SET heartbeat_at = 'infinity'",
		`INSERT INTO argus.personal_access_tokens (id, actor_id, name, digest, last_four, scopes, expires_at)
		 VALUES (gen_random_uuid(), 'user_x', 'x', pg_catalog.sha256('x'), 'abcd', '{logs:read}', pg_catalog.now() + '1 hour')`,
		`INSERT INTO argus.personal_access_tokens (id, actor_id, name, digest, last_four, scopes, parent_id, expires_at)
		 SELECT gen_random_uuid(), actor_id, 'child', pg_catalog.sha256('z'), 'abcd', scopes, id, expires_at FROM argus.personal_access_tokens`,
		"UPDATE argus.personal_access_tokens SET last_used_at = pg_catalog.now()",
		"SELECT argus.revoke_credentials(ARRAY(SELECT id FROM argus.personal_access_tokens WHERE parent_id IS NULL), 'x', gen_random_uuid())",
		`INSERT INTO argus.compute_control_audit (audit_id, step, at, actor_id, action, result)
		 VALUES ('019b76da-a800-7000-8000-000000000001', 1, pg_catalog.now() - '1 day'::pg_catalog.interval, 'x', 'launch', 'requested')`,
		`INSERT INTO argus.workers (id, provider, state, launched_by, ended_at) VALUES ('w', 'x', 'terminated', 'x', pg_catalog.now())`,
		"UPDATE argus.workers SET cost_per_hour = 1",
		"INSERT INTO argus.tenants (id, name, agents) VALUES ('UTD_Y', 'y', 1)",
		"UPDATE argus.tenants SET retired = true, retired_at = pg_catalog.now(), retired_by = 'x', retired_reason = 'x'",
		"UPDATE argus.tenants SET armed = false, armed_at = NULL, armed_by = NULL, armed_reason = NULL",
		`INSERT INTO argus.support_sessions (id, tenant_id, started_by, started_at, ends_at, audit_id)
		 VALUES (gen_random_uuid(), 'UTD_X', 'x', pg_catalog.now(), pg_catalog.now() + '1 minute', gen_random_uuid())`,
	},
	"argus_break_glass": {
		`INSERT INTO argus.break_glass_tokens (id, actor_id, reason, digest, last_four, scopes, claimed_by, expires_at)
		 VALUES ('019b76da-a800-7000-8000-000000000002', 'user_x', 'because', pg_catalog.sha256('y'), 'abcd', '{logs:read}', 'me', pg_catalog.now() + '1 hour')`,
		"INSERT INTO argus.break_glass_revocations (id, claimed_by) VALUES ('019b76da-a800-7000-8000-000000000002', 'me')",
	},
	"argus_ledger": {
		`INSERT INTO argus.ledger_runs (first_leaf, leaves, kind, month, writer_id, first_seq, digests) VALUES (0, 1, 1, 0, 1, 1, pg_catalog.sha256('x'))`,
		`INSERT INTO argus.ledger_runs (first_leaf, leaves, kind, month, writer_id, first_seq, digests) VALUES (9, 1, 1, 0, 1, 1, pg_catalog.sha256('x'))`,
		`INSERT INTO argus.ledger_checkpoints (size, root, note, position) VALUES (1, pg_catalog.sha256('x'), 'x', 'c0')`,
	},
	"argus_ship": {
		"INSERT INTO argus.sinks (sink, kind, target, format, filter) VALUES ('x', 'https', 'x', 'argus', '')",
		"INSERT INTO argus.sink_positions (sink, stream, position) VALUES ('x', '', '')",
		"UPDATE argus.sink_positions SET version = version + 1",
	},
	"argus_consent": {
		"INSERT INTO argus.tenant_consents (tenant_id, document_id, recorded_by) VALUES ('UTD_X', 'DOC-1', 'me')",
		"INSERT INTO argus.tenant_consent_withdrawals (tenant_id, document_id, withdrawn_by) VALUES ('UTD_X', 'DOC-1', 'me')",
	},
}

// rowOf is a statement that inserts one row of the log.
func rowOf(writer, seq, occurred, recorded string) string {
	return fmt.Sprintf(`INSERT INTO argus.argus_audit_log (writer_id, seq, id, occurred_at, recorded_at, actor_id, actor_kind, scope, route,
		path_params, method, status, outcome, latency_us, client_ip, user_agent, body_bytes, service, row_hash)
		SELECT %s, %s, gen_random_uuid(), %s, %s, 'user_2ada', 'pat', 'any', 'GET /v1/health', '{}'::pg_catalog.jsonb, 'GET', 200, 'completed', 900,
		'192.0.2.7'::pg_catalog.inet, 'x', 0, 'argus',
		pg_catalog.sha256('x')`, writer, seq, occurred, recorded)
}

// TestShadowing plants what stands in for the types, tables, functions and operators that our functions name, as every
// role that logs in. The roles may not plant anything. Given that right, they gain nothing by it. A function that is
// written as ours were shows that the attack itself works.
func TestShadowing(t *testing.T) {
	pg := enginetest.NewPostgres(t)
	super := connect(t, pg.SuperuserURL)
	exec := func(conn *pgx.Conn, sql string) {
		t.Helper()
		if _, err := conn.Exec(t.Context(), sql); err != nil {
			t.Fatalf("%s: %v", sql, err)
		}
	}
	tables := column[string](t, super, `SELECT relname::text FROM pg_class WHERE relnamespace = 'argus'::regnamespace
		AND relkind IN ('r', 'p', 'v') AND NOT relispartition ORDER BY 1`)
	types := []string{"timestamptz", "uuid", "text", "date", "bytea", "jsonb", "interval", "int8", "record", "regclass"}
	plants := []string{
		`CREATE FUNCTION pg_temp.evil() RETURNS boolean LANGUAGE plpgsql AS $$ BEGIN
			IF current_user = 'argus_owner' THEN RAISE EXCEPTION 'SHADOWED' USING ERRCODE = 'ZZ666'; END IF; RETURN true; END $$`,
	}
	for _, name := range types {
		if name != "record" {
			plants = append(plants, fmt.Sprintf("CREATE DOMAIN pg_temp.%s AS pg_catalog.%s CHECK (pg_temp.evil())", name, name))
		}
	}
	for _, f := range [][2]string{{"clock_timestamp()", "timestamptz"}, {"now()", "timestamptz"}, {"gen_random_uuid()", "uuid"}, {"sha256(pg_catalog.bytea)", "bytea"}} {
		plants = append(plants, fmt.Sprintf("CREATE FUNCTION pg_temp.%s RETURNS pg_catalog.%s LANGUAGE sql AS $$ SELECT NULL::pg_catalog.%[2]s FROM pg_temp.evil() $$", f[0], f[1]))
	}
	plants = append(plants, `CREATE FUNCTION pg_temp.same(pg_catalog.timestamptz, pg_catalog.timestamptz) RETURNS boolean LANGUAGE sql AS 'SELECT pg_temp.evil()'`,
		`CREATE OPERATOR pg_temp.< (LEFTARG = pg_catalog.timestamptz, RIGHTARG = pg_catalog.timestamptz, FUNCTION = pg_temp.same)`)
	for _, name := range append(tables, "pg_class", "pg_inherits") {
		plants = append(plants, fmt.Sprintf("CREATE TEMP TABLE %s (x int CHECK (pg_temp.evil()))", name), "GRANT ALL ON pg_temp."+name+" TO PUBLIC")
	}
	exec(super, `SET ROLE argus_owner`)
	exec(super, `CREATE FUNCTION argus.control_type() RETURNS void LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, argus AS $$
		DECLARE t timestamptz := clock_timestamp(); BEGIN END $$`)
	exec(super, `CREATE FUNCTION argus.control_table() RETURNS void LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, argus AS $$
		BEGIN INSERT INTO audit_admin VALUES (1); END $$`)
	exec(super, "GRANT EXECUTE ON FUNCTION argus.control_type(), argus.control_table() TO PUBLIC")
	exec(super, `RESET ROLE`)
	exec(super, "INSERT INTO argus.tenants (id, name) VALUES ('UTD_X', 'x')")

	tried := map[string]bool{}
	for role, url := range logins(pg) {
		conn := connect(t, url)
		for _, sql := range append(plants[:len(plants):len(plants)], "CREATE TABLE public.x (x int)", "CREATE TABLE argus.x (x int)",
			"CREATE SCHEMA evil", "CREATE FUNCTION argus.x() RETURNS int LANGUAGE sql AS 'SELECT 1'", "CREATE EXTENSION dblink",
			"COPY (SELECT 1) TO PROGRAM 'true'", "SET ROLE argus_owner", "SET session_replication_role = replica",
			"ALTER TABLE argus.argus_audit_log DISABLE TRIGGER ALL", "CREATE EVENT TRIGGER x ON ddl_command_end EXECUTE FUNCTION argus.reject_change()") {
			if strings.HasPrefix(sql, "GRANT ALL ON pg_temp.") {
				continue
			}
			if _, err := conn.Exec(t.Context(), sql); !denied(err) && (err == nil || !strings.Contains(err.Error(), "dblink")) {
				t.Errorf("%s: %s: %v", role, sql, err)
			}
		}
		// With the right to plant.
		exec(super, fmt.Sprintf("GRANT TEMPORARY ON DATABASE %s TO %s", pgx.Identifier{pg.Database}.Sanitize(), role))
		conn = connect(t, url)
		for _, sql := range plants {
			exec(conn, sql)
		}
		exec(conn, "SET search_path = pg_temp, argus, pg_catalog, public")
		for _, control := range []string{"SELECT argus.control_type()", "SELECT argus.control_table()"} {
			if _, err := conn.Exec(t.Context(), control); err == nil || !strings.Contains(err.Error(), "SHADOWED") {
				t.Errorf("%s: the attack does not work: %s: %v", role, control, err)
			}
		}
		statements := slices.Clone(firing[role])
		for _, name := range column[string](t, super, `SELECT proname::text FROM pg_proc WHERE pronamespace = 'argus'::regnamespace
			AND has_function_privilege($1, oid, 'EXECUTE') AND proname NOT LIKE 'control\_%' ORDER BY proname DESC`, role) {
			if attempts[name] == nil {
				t.Errorf("%s may run argus.%s, which is not tried here", role, name)
			}
			tried[name] = true
			statements = append(attempts[name], statements...)
		}
		for _, sql := range statements {
			var rejected *pgconn.PgError
			_, err := conn.Exec(t.Context(), sql)
			if err == nil {
				continue
			}
			if !errors.As(err, &rejected) || rejected.Code == "ZZ666" || rejected.Code == "42501" || rejected.Code[:2] == "42" {
				t.Errorf("%s: %s: %v", role, sql, err)
			}
		}
		exec(super, fmt.Sprintf("REVOKE TEMPORARY ON DATABASE %s FROM %s", pgx.Identifier{pg.Database}.Sanitize(), role))
	}
	for name := range attempts {
		if !tried[name] {
			t.Errorf("no role may run argus.%s", name)
		}
	}
}

// TestLocks takes, as every role in turn, each lock that the role can get, and holds it. Meanwhile writers can open, rows can
// be written, months can be made, tokens can be minted, and a release can be installed.
func TestLocks(t *testing.T) {
	pg := enginetest.NewPostgres(t)
	super := connect(t, pg.SuperuserURL)
	tables := column[string](t, super, `SELECT format('%I.%I', n.nspname, c.relname) FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
		WHERE n.nspname IN ('argus', 'public') AND c.relkind IN ('r', 'p') ORDER BY 1`)
	for role, url := range logins(pg) {
		if role == "argus_api" || role == "argus_maintenance" { // they do these things themselves
			continue
		}
		conn := connect(t, url)
		for _, key := range []string{"argus.open_audit_writer", "argus.create_month", "argus.logins", "argus.maintain"} {
			if _, err := conn.Exec(t.Context(), "SELECT pg_advisory_lock(hashtext($1))", key); err != nil {
				t.Fatal(err)
			}
		}
		if _, err := conn.Exec(t.Context(), "SELECT pg_advisory_lock(5887940537704921958), pg_advisory_lock(hashtextextended('argus.tokens user_2ada', 0))"); err != nil {
			t.Fatal(err)
		}
		tx, err := conn.Begin(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		held := 0
		for _, table := range tables {
			for _, sql := range []string{"LOCK TABLE %s IN ACCESS EXCLUSIVE MODE", "LOCK TABLE %s IN EXCLUSIVE MODE", "LOCK TABLE %s IN SHARE MODE",
				"LOCK TABLE %s IN ROW EXCLUSIVE MODE", "LOCK TABLE %s IN ROW SHARE MODE", "LOCK TABLE %s IN ACCESS SHARE MODE",
				"SELECT FROM %s FOR UPDATE", "SELECT FROM %s FOR KEY SHARE"} {
				inner, err := tx.Begin(t.Context())
				if err != nil {
					t.Fatal(err)
				}
				if _, err := inner.Exec(t.Context(), fmt.Sprintf(sql, table)); err == nil {
					held++
					if err := inner.Commit(t.Context()); err != nil {
						t.Fatal(err)
					}
				} else if err = inner.Rollback(t.Context()); err != nil {
					t.Fatal(err)
				}
			}
		}
		for what, do := range map[string]struct{ url, sql string }{
			"open a writer":        {pg.APIURL, "SELECT argus.open_audit_writer(gen_random_uuid(), 0)"},
			"write a row":          {pg.APIURL, rowOf("argus.open_audit_writer(gen_random_uuid(), 0)", "1", "now()", "now()")},
			"count a call's steps": {pg.APIURL, "SELECT argus.lock_key('x')"},
			"register":             {pg.APIURL, "INSERT INTO argus.audit_processes (process_id, host) VALUES (gen_random_uuid(), 'x')"},
			"make months":          {pg.MaintenanceURL, "SELECT argus.create_months_ahead(27)"},
			"maintain":             {pg.MaintenanceURL, "SELECT argus.lock_maintenance()"},
			"add a hold":           {pg.HoldURL, "SELECT argus.add_retention_hold(now(), 'infinity', 'a reason', 'me')"},
			"set a password":       {pg.SuperuserURL, "SELECT FROM argus.locks WHERE name = 'logins' FOR UPDATE"},
		} {
			other := connect(t, do.url)
			if _, err := other.Exec(t.Context(), "SET lock_timeout = '3s'"); err != nil {
				t.Fatal(err)
			}
			if err := pgx.BeginFunc(t.Context(), other, func(tx pgx.Tx) error {
				_, err := tx.Exec(t.Context(), do.sql)
				return errors.Join(err, pgx.ErrTxCommitRollback)
			}); err == nil || !errors.Is(err, pgx.ErrTxCommitRollback) || strings.Contains(err.Error(), "SQLSTATE") {
				t.Errorf("while %s holds what it can, the others cannot %s: %v", role, what, err)
			}
		}
		if _, err := migrations.Postgres(t.Context(), pg.SuperuserURL); err != nil {
			t.Errorf("while %s holds what it can, the owner cannot migrate: %v", role, err)
		}
		if role == "argus_auditor" && held == 0 {
			t.Error("the auditor got no lock at all")
		}
		conn.Close(t.Context())
	}
}

// TestNoAdvisoryLocks: any role that logs in may take any advisory lock.
func TestNoAdvisoryLocks(t *testing.T) {
	word := "pg_" + "advisory"
	err := filepath.WalkDir("..", func(path string, d os.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() && (d.Name() == "node_modules" || strings.HasPrefix(d.Name(), ".") && path != "..") {
			return filepath.SkipDir
		}
		if ext := filepath.Ext(path); ext != ".go" && ext != ".sql" || filepath.Base(path) == "attack_test.go" ||
			strings.HasPrefix(path, "../internal/attack/") { // its tests take them to see that no writer waits
			return nil
		}
		text, err := os.ReadFile(path)
		if strings.Contains(string(text), word) {
			t.Errorf("%s takes an advisory lock; see argus.locks", path)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}
