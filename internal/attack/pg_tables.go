package attack

import (
	"fmt"
	"slices"
	"strings"
)

// granted follows a GRANT, which only warns who may grant nothing: it fails then, as it found that nothing was granted.
const granted = `; DO $$ BEGIN IF NOT EXISTS (SELECT FROM pg_class c, aclexplode(c.relacl) a
	WHERE c.oid = '%[1]s'::regclass AND a.grantor = (SELECT oid FROM pg_roles WHERE rolname = current_user)) THEN
	RAISE insufficient_privilege; END IF; END $$`

// appendOnly tries to change, remove or disarm what may only be added: each audit table and each of its partitions.
func (g *group) appendOnly() {
	statements := []struct{ what, sql string }{
		{"UPDATE", "UPDATE %[1]s SET %[2]s = %[2]s"},
		{"DELETE", "DELETE FROM %[1]s"},
		{"TRUNCATE", "TRUNCATE %[1]s"},
		{"disable its triggers", "ALTER TABLE %[1]s DISABLE TRIGGER ALL"},
		{"disable its append_only", "ALTER TABLE %[1]s DISABLE TRIGGER append_only"},
		{"drop its trigger", "DROP TRIGGER append_only ON %[1]s"},
		{"DROP", "DROP TABLE %[1]s CASCADE"},
		{"lock", "LOCK TABLE %[1]s IN ACCESS EXCLUSIVE MODE NOWAIT"},
		{"lock in share mode", "LOCK TABLE %[1]s IN SHARE MODE NOWAIT"},
		{"lock rows", "SELECT 1 FROM %[1]s FOR UPDATE"},
		{"rename", "ALTER TABLE %[1]s RENAME TO gone"},
		{"drop a column", "ALTER TABLE %[1]s DROP COLUMN %[2]s CASCADE"},
		{"add a rule", "CREATE RULE swallow AS ON INSERT TO %[1]s DO INSTEAD NOTHING"},
		{"add a trigger", "CREATE TRIGGER swallow BEFORE INSERT ON %[1]s FOR EACH ROW EXECUTE FUNCTION suppress_redundant_updates_trigger()"},
		{"hide rows by a policy", "ALTER TABLE %[1]s ENABLE ROW LEVEL SECURITY"},
		{"take ownership", "ALTER TABLE %[1]s OWNER TO CURRENT_USER"},
		{"grant itself more", "GRANT ALL ON %[1]s TO CURRENT_USER" + granted},
		{"index it", "CREATE INDEX ON %[1]s (%[2]s)"},
		{"comment on it", "COMMENT ON TABLE %[1]s IS 'nothing to see'"},
		{"move its storage", "ALTER TABLE %[1]s SET (autovacuum_enabled = false)"},
	}
	few := []string{"UPDATE", "DELETE", "TRUNCATE", "disable its triggers", "DROP", "lock", "take ownership"} // of partitions
	for _, r := range g.relations() {
		if !r.isAudit() {
			continue
		}
		for _, s := range statements {
			if r.partition && !slices.Contains(few, s.what) {
				continue
			}
			sql := fmt.Sprintf(s.sql, r.name, r.column)
			if r.name == "argus.audit_admin" && s.what != "grant itself more" && s.what != "UPDATE" && s.what != "DELETE" && s.what != "TRUNCATE" && s.what != "drop its trigger" && s.what != "add a trigger" && s.what != "DROP" {
				g.allowed("postgres", s.what+" "+r.name, sql) // the statement itself is right
			}
			for _, role := range g.thieves() {
				g.deny(role, s.what+" "+r.name, sql)
			}
		}
		if r.partition {
			root := r.name[:strings.LastIndex(r.name, "_y")]
			for _, role := range g.thieves() {
				g.deny(role, "detach "+r.name, fmt.Sprintf("ALTER TABLE %s DETACH PARTITION %s", root, r.name))
				if sql := fmt.Sprintf("INSERT INTO %[1]s SELECT * FROM %[1]s LIMIT 0", r.name); role == "argus_api" && root == "argus.argus_audit_log" {
					g.allowed(role, "add to "+r.name, sql)
				} else {
					g.deny(role, "add to "+r.name, sql)
				}
			}
		}
	}
	for _, root := range auditRoots {
		for _, role := range g.thieves("argus_api") {
			g.deny(role, "add to "+root, fmt.Sprintf("INSERT INTO %[1]s OVERRIDING SYSTEM VALUE SELECT * FROM %[1]s LIMIT 0", root))
		}
	}
	g.deny("argus_api", "add to argus.audit_admin", "INSERT INTO argus.audit_admin (kind, detail) VALUES ('month_dropped', '{}')")
	g.allowed("argus_api", "add to argus.argus_audit_log", "INSERT INTO argus.argus_audit_log SELECT * FROM argus.argus_audit_log LIMIT 0")
	g.allowed("argus_auditor", "read argus.argus_audit_log", "SELECT count(*) FROM argus.argus_audit_log")
	for _, root := range auditRoots { // the owner's slip of the hand
		for _, verb := range []string{"DELETE FROM %s", "TRUNCATE %s"} {
			sql := fmt.Sprintf(verb, root)
			g.try("argus_owner: "+sql, func() error {
				return rejected(inTx(g.ctx, g.super, "SET LOCAL ROLE argus_owner", sql), denied)
			})
		}
	}
	for _, role := range g.thieves() {
		g.deny(role, "replace reject_change", "CREATE OR REPLACE FUNCTION argus.reject_change() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END'")
		g.deny(role, "drop reject_change", "DROP FUNCTION argus.reject_change() CASCADE")
		g.deny(role, "switch triggers off by replication role", "SET LOCAL session_replication_role = replica")
		g.deny(role, "alter the publication", "ALTER PUBLICATION argus DROP TABLE argus.argus_audit_log")
		g.deny(role, "drop the publication", "DROP PUBLICATION argus")
	}
}

// writable says what of the statements of foreignTables is a role's own work: I inserts, U updates the first column,
// D deletes. All else must be rejected.
var writable = map[string]map[string]string{
	"argus_api": {
		"argus.audit_processes": "ID", "argus.audit_intents": "I", "argus.personal_access_tokens": "I", "argus.workers": "I",
		"argus.support_sessions": "I", "argus.rate_limits": "I", "argus.idempotency_keys": "ID",
		"argus.openid_people": "ID", "argus.tenants": "I", "argus.saved_views": "ID", "argus.sink_orders": "I",
	},
	"argus_replicator":  {"argus.replicator_lease": "IUD", "argus.replicator_status": "IUD", "argus.replicator_servers": "IUD"},
	"argus_ledger":      {"argus.ledger_runs": "I", "argus.ledger_tiles": "I", "argus.ledger_checkpoints": "I", "argus.ledger_cosignatures": "I", "argus.ledger_lease": "IU", "argus.ledger_status": "IU"},
	"argus_ship":        {"argus.sinks": "I", "argus.sink_positions": "IU", "argus.sink_leases": "IU"},
	"argus_break_glass": {"argus.break_glass_tokens": "I", "argus.break_glass_revocations": "I"},
	"argus_consent":     {"argus.tenant_consents": "I", "argus.tenant_consent_withdrawals": "I"},
}

// foreignTables tries to write, lock, empty and reshape every table that is not the role's own business, and to call
// every function that is not for it.
func (g *group) foreignTables() {
	for _, r := range g.relations() {
		if r.isAudit() {
			continue
		}
		statements := map[string]string{
			"I": "INSERT INTO %[1]s (%[2]s) SELECT %[2]s FROM %[1]s LIMIT 0",
			"U": "UPDATE %[1]s SET %[2]s = %[2]s WHERE false",
			"D": "DELETE FROM %[1]s WHERE false",
			"T": "TRUNCATE %[1]s CASCADE",
			"A": "ALTER TABLE %[1]s DISABLE TRIGGER ALL",
			"X": "DROP TABLE %[1]s CASCADE",
			"O": "ALTER TABLE %[1]s OWNER TO CURRENT_USER",
			"G": "GRANT ALL ON %[1]s TO PUBLIC" + granted,
		}
		switch r.kind {
		case "S":
			statements = map[string]string{"A": "ALTER SEQUENCE %[1]s RESTART", "N": "SELECT nextval('%[1]s')", "V": "SELECT setval('%[1]s', 1)",
				"X": "DROP SEQUENCE %[1]s CASCADE", "G": "GRANT ALL ON SEQUENCE %[1]s TO PUBLIC" + granted}
		case "v":
			statements = map[string]string{"I": statements["I"], "U": statements["U"], "D": statements["D"], "X": "DROP VIEW %[1]s CASCADE",
				"R": "CREATE OR REPLACE VIEW %[1]s AS SELECT 1", "G": statements["G"]}
		}
		for verb, sql := range statements {
			for _, role := range g.thieves() {
				if own := writable[role][r.name]; strings.Contains(own, verb) {
					continue
				}
				if r.kind == "v" && strings.Contains("IUD", verb) {
					g.try(role+": "+fmt.Sprintf(sql, r.name, r.column), func() error { // a view of a join takes nothing from anybody
						return rejected(inTx(g.ctx, g.conns[role], fmt.Sprintf(sql, r.name, r.column)), denied, "55000", "0A000")
					})
					continue
				}
				g.deny(role, fmt.Sprintf(sql, r.name, r.column), fmt.Sprintf(sql, r.name, r.column))
			}
		}
	}
	for _, f := range g.functions() {
		for _, role := range g.thieves() {
			args := "(" + strings.Join(f.args, ", ") + ")"
			if !slices.Contains(f.roles, role) && !f.isTrigger(g) {
				g.deny(role, "call "+f.name+args, f.call())
			}
			g.deny(role, "drop "+f.name+args, "DROP FUNCTION "+f.name+args+" CASCADE")
			g.deny(role, "unpin "+f.name+args, "ALTER FUNCTION "+f.name+args+" RESET search_path")
		}
	}
}

// isTrigger reports whether the function can be called by a trigger alone.
func (f function) isTrigger(g *group) bool {
	var yes bool
	g.need(g.super.QueryRow(g.ctx, `SELECT prorettype = 'trigger'::regtype OR prorettype = 'event_trigger'::regtype FROM pg_proc WHERE oid = to_regprocedure($1)`,
		f.name+"("+strings.Join(f.args, ", ")+")").Scan(&yes))
	return yes
}

// superuserPaths tries the ways from a role to more: other roles, the server's files and programs, its settings, its
// replication, others' sessions.
func (g *group) superuserPaths() {
	var other int
	g.need(g.super.QueryRow(g.ctx, "SELECT pg_backend_pid()").Scan(&other))
	slot := "argus"
	paths := []struct{ what, sql string }{
		{"SET ROLE argus_owner", "SET LOCAL ROLE argus_owner"},
		{"SET ROLE postgres", "SET LOCAL ROLE postgres"},
		{"SET SESSION AUTHORIZATION", "SET LOCAL SESSION AUTHORIZATION argus_owner"},
		{"become superuser", "ALTER ROLE CURRENT_USER SUPERUSER"},
		{"make roles", "ALTER ROLE CURRENT_USER CREATEROLE"},
		{"bypass policies", "ALTER ROLE CURRENT_USER BYPASSRLS"},
		{"give the owner a password", "ALTER ROLE argus_owner PASSWORD 'x'"},
		{"let the owner log in", "ALTER ROLE argus_owner LOGIN"},
		{"make a role", "CREATE ROLE squat"},
		{"join the owner", "GRANT argus_owner TO CURRENT_USER"},
		{"join pg_read_server_files", "GRANT pg_read_server_files TO CURRENT_USER"},
		{"join pg_execute_server_program", "GRANT pg_execute_server_program TO CURRENT_USER"},
		{"join pg_write_all_data", "GRANT pg_write_all_data TO CURRENT_USER"},
		{"join pg_maintain or pg_signal_backend", "GRANT pg_signal_backend TO CURRENT_USER"},
		{"change the owner's search path", "ALTER ROLE argus_owner SET search_path = public"},
		{"read a file", "SELECT pg_read_file('/etc/passwd')"},
		{"read a binary file", "SELECT pg_read_binary_file('/etc/passwd')"},
		{"list a folder", "SELECT pg_ls_dir('.')"},
		{"list the log folder", "SELECT pg_ls_logdir()"},
		{"list the WAL folder", "SELECT pg_ls_waldir()"},
		{"stat a file", "SELECT pg_stat_file('/etc/passwd')"},
		{"run a program", "COPY (SELECT 1) TO PROGRAM 'cat'"},
		{"read from a program", "CREATE TEMP TABLE squat (x text); COPY squat FROM PROGRAM 'id'"},
		{"write a file", "COPY (SELECT 1) TO '/tmp/squat'"},
		{"copy from a file", "COPY argus.rate_limits FROM '/etc/passwd'"},
		{"import a large object", "SELECT lo_import('/etc/passwd')"},
		{"export a large object", "SELECT lo_export(1, '/tmp/squat')"},
		{"load a library", "LOAD '/tmp/squat.so'"},
		{"make an untrusted function", "CREATE FUNCTION argus.squat() RETURNS int LANGUAGE internal AS 'int4in'"},
		{"make a C function", "CREATE FUNCTION pg_temp.squat() RETURNS int LANGUAGE c AS '/tmp/squat.so', 'x'"},
		{"drop an extension", "DROP EXTENSION plpgsql CASCADE"},
		{"update an extension", "ALTER EXTENSION plpgsql UPDATE"},
		{"make a language", "CREATE LANGUAGE squat HANDLER plpgsql_call_handler"},
		{"make an event trigger", "CREATE EVENT TRIGGER squat ON ddl_command_start EXECUTE FUNCTION argus.reject_change()"},
		{"make a foreign data wrapper", "CREATE FOREIGN DATA WRAPPER squat"},
		{"make a publication", "CREATE PUBLICATION squat FOR ALL TABLES"},
		{"make a publication of the log", "CREATE PUBLICATION squat FOR TABLE argus.argus_audit_log"},
		{"make a subscription", "CREATE SUBSCRIPTION squat CONNECTION 'host=127.0.0.1' PUBLICATION argus WITH (connect = false, slot_name = NONE)"},
		{"end a superuser's session", fmt.Sprintf("SELECT pg_terminate_backend(%d)", other)},
		{"cancel a superuser's statement", fmt.Sprintf("SELECT pg_cancel_backend(%d)", other)},
		{"reload the configuration", "SELECT pg_reload_conf()"},
		{"rotate the log", "SELECT pg_rotate_logfile()"},
		{"switch the WAL", "SELECT pg_switch_wal()"},
		{"make a restore point", "SELECT pg_create_restore_point('squat')"},
		{"promote", "SELECT pg_promote()"},
		{"read password digests", "SELECT rolpassword FROM pg_authid"},
		{"read password digests of pg_shadow", "SELECT passwd FROM pg_shadow"},
		{"read who may log in from where", "SELECT * FROM pg_hba_file_rules"},
		{"read the file settings", "SELECT * FROM pg_file_settings"},
		{"read raw statistics of columns", "SELECT stavalues1 FROM pg_statistic"},
		{"read subscriptions' passwords", "SELECT subconninfo FROM pg_subscription"},
		{"read user mappings", "SELECT umoptions FROM pg_user_mapping"},
		{"change a parameter of superusers", "SET LOCAL log_statement = 'none'"},
		{"keep others' deadlocks", "SET LOCAL deadlock_timeout = '1h'"},
		{"lift zero_damaged_pages", "SET LOCAL zero_damaged_pages = on"},
		{"preload a library", "SET LOCAL session_preload_libraries = 'squat'"},
		{"load a library by dynamic_library_path", "SET LOCAL dynamic_library_path = '/tmp'"},
		{"allow system table changes", "SET LOCAL allow_system_table_mods = on"},
		{"write the catalog", "UPDATE pg_class SET relowner = relowner WHERE false"},
		{"write the catalog of privileges", "UPDATE pg_proc SET proacl = NULL WHERE false"},
		{"make a tablespace's default", "ALTER DEFAULT PRIVILEGES FOR ROLE argus_owner GRANT ALL ON TABLES TO PUBLIC"},
		{"reassign the owner's objects", "REASSIGN OWNED BY argus_owner TO CURRENT_USER"},
		{"drop the owner's objects", "DROP OWNED BY argus_owner"},
		{"make a large object", "SELECT lo_create(0)"},
		{"make a large object of bytes", `SELECT lo_from_bytea(0, '\x00')`},
		{"make an old large object", "SELECT lo_creat(-1)"},
		{"reset statistics", "SELECT pg_stat_reset()"},
		{"log another's memory", fmt.Sprintf("SELECT pg_log_backend_memory_contexts(%d)", other)},
		{"rename the database", "DO $$ BEGIN EXECUTE format('ALTER DATABASE %I CONNECTION LIMIT 0', current_database()); END $$"},
		{"export another's settings", "DO $$ BEGIN EXECUTE format('ALTER DATABASE %I SET session_replication_role = replica', current_database()); END $$"},
	}
	replication := []struct{ what, sql string }{
		{"drop the slot", fmt.Sprintf("SELECT pg_drop_replication_slot('%s')", slot)},
		{"read the slot", fmt.Sprintf("SELECT * FROM pg_logical_slot_get_binary_changes('%s', NULL, 1)", slot)},
		{"advance the slot", fmt.Sprintf("SELECT pg_replication_slot_advance('%s', '0/1')", slot)},
		{"make a physical slot", "SELECT pg_create_physical_replication_slot('squat', false, true)"},
		{"make a logical slot", "SELECT pg_create_logical_replication_slot('squat', 'test_decoding', true)"},
		{"begin a backup", "SELECT pg_backup_start('squat')"},
	}
	for _, role := range g.thieves() {
		for _, p := range paths {
			g.deny(role, p.what, p.sql)
		}
		for _, other := range g.thieves(role) {
			g.deny(role, "SET ROLE "+other, "SET LOCAL ROLE "+other)
			g.deny(role, "give "+other+" a password", "ALTER ROLE "+other+" PASSWORD 'x'")
		}
		for _, p := range replication {
			if role != "argus_replicator" { // a replication role may: SECURITY.md says so
				g.deny(role, p.what, p.sql)
			}
		}
		for _, p := range []struct{ what, sql string }{ // these run in no transaction
			{"ALTER SYSTEM", "ALTER SYSTEM SET archive_command = 'true'"},
			{"CREATE DATABASE", "CREATE DATABASE squat"},
			{"DROP DATABASE", "DROP DATABASE " + g.super.Config().Database},
			{"CREATE TABLESPACE", "CREATE TABLESPACE squat LOCATION '/tmp'"},
		} {
			g.try(role+": "+p.what, func() error {
				_, err := g.conns[role].Exec(g.ctx, p.sql)
				return rejected(err, denied)
			})
		}
	}
	for _, p := range []string{"read a file", "list a folder", "make a large object", "SET ROLE argus_owner", "make a publication", "change a parameter of superusers"} {
		i := slices.IndexFunc(paths, func(x struct{ what, sql string }) bool { return x.what == p })
		g.allowed("postgres", p, paths[i].sql)
	}
	for _, role := range g.thieves("argus_replicator") {
		g.try(role+": logs in for replication", func() error { return g.replicationDenied(role) })
	}
}

// secretDigests tries to read digests of tokens, by each way that leads to a column.
func (g *group) secretDigests() {
	for _, table := range []string{"argus.personal_access_tokens", "argus.break_glass_tokens"} {
		ways := map[string]string{
			"column":       "SELECT digest FROM %s",
			"whole row":    "SELECT * FROM %s",
			"row as value": "SELECT t FROM %s t",
			"as JSON":      "SELECT to_jsonb(t) FROM %s t",
			"as text":      "SELECT t::text FROM %s t",
			"COPY":         "COPY %s TO STDOUT",
			"COPY column":  "COPY %s (digest) TO STDOUT",
			"condition":    `SELECT 1 FROM %s WHERE digest = '\x00'`,
			"order":        "SELECT 1 FROM %s ORDER BY digest",
			"count":        "SELECT count(DISTINCT digest) FROM %s",
			"natural join": "SELECT 1 FROM %[1]s a NATURAL JOIN %[1]s b",
			"TABLE":        "TABLE %s",
			"as XML":       "SELECT table_to_xml('%s', true, false, '')",
			"cursor":       "DECLARE c CURSOR FOR SELECT digest FROM %s",
			"prepared":     "PREPARE " + strings.ReplaceAll(table, ".", "_") + " AS SELECT digest FROM %s; EXECUTE " + strings.ReplaceAll(table, ".", "_"),
		}
		for way, sql := range ways {
			sql = fmt.Sprintf(sql, table)
			g.allowed("postgres", way+" of "+table, sql)
			for _, role := range g.thieves("argus_api") {
				g.deny(role, way+" of "+table, sql)
			}
		}
		for _, role := range g.thieves("argus_api") {
			g.try(role+": statistics of "+table, func() error {
				var n int
				err := g.conns[role].QueryRow(g.ctx, "SELECT count(*) FROM pg_stats WHERE schemaname = 'argus' AND tablename = $1 AND attname = 'digest'",
					strings.TrimPrefix(table, "argus.")).Scan(&n)
				if err == nil && n > 0 {
					err = fmt.Errorf("%d rows of pg_stats hold values of digest", n)
				}
				return err
			})
		}
	}
}
