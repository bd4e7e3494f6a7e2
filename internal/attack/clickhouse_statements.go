package attack

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"
)

// copyBounds lifts what bounds a reader's queries: each bounded setting to none and to much, each way a setting can
// be given.
func (g *group) copyBounds() {
	for _, who := range g.chThieves() {
		if who.anonymous() {
			// A setting that bounds no user is a constant of its profile.
			for _, name := range []string{"max_ast_elements", "max_ast_depth", "max_query_size", "max_memory_usage", "max_threads", "max_execution_time", "readonly", "allow_introspection_functions"} {
				for _, value := range []string{"0", map[bool]string{true: "1", false: "1000000"}[strings.HasPrefix(name, "allow_")]} {
					g.try(fmt.Sprintf("%s: %s = %s", who.name, name, value), func() error {
						_, err := g.ch(g.ctx, who, "SELECT 1", name, value)
						return chRejected(err, who.rejections()...)
					})
				}
			}
			continue
		}
		bounded := g.chSettings(who, "isNotNull(min) OR isNotNull(max)")
		if who.user == "argus_reader" {
			g.control("the reader has bounds", func() error {
				if len(bounded) < 2 {
					return fmt.Errorf("only %d settings are bounded", len(bounded))
				}
				return nil
			})
			for _, must := range []string{"max_execution_time", "max_memory_usage", "readonly"} {
				if !slices.ContainsFunc(bounded, func(s chSetting) bool { return s.name == must }) {
					bounded = append(bounded, chSetting{name: must})
				}
			}
		}
		for _, setting := range bounded {
			name := setting.name
			values := []string{"0", "18446744073709551615", "999999999999"}
			switch {
			case name == "readonly":
				values = []string{"0"}
			case strings.Contains(name, "time"): // of seconds
				values = []string{"0", "99999999", "0.0"}
			}
			for _, value := range values {
				for way, run := range map[string]func() error{
					"SETTINGS": func() error { _, err := g.ch(g.ctx, who, "SELECT 1 SETTINGS "+name+" = "+value); return err },
					"the URL":  func() error { _, err := g.ch(g.ctx, who, "SELECT 1", name, value); return err },
					"SET":      func() error { _, err := g.ch(g.ctx, who, "SET "+name+" = "+value); return err },
				} {
					g.try(fmt.Sprintf("%s: %s = %s by %s", who.name, name, value, way), func() error {
						err := run()
						if err != nil && strings.Contains(err.Error(), "has to be greater than 0") { // denied to everybody
							return nil
						}
						return chRejected(err, chConstraint, chReadonly)
					})
				}
			}
		}
		if who.user != "argus_reader" {
			continue
		}
		// What is not to be changed at all, with another value than it has.
		fixed := g.chSettings(who, "readonly AND alias_for = '' AND isNull(min) AND isNull(max) AND type IN ('Bool', 'UInt64', 'Int64')")
		if g.config.Short {
			fixed = fixed[:min(len(fixed), 60)]
		}
		for _, setting := range fixed {
			value := "1"
			if setting.value == "1" {
				value = "2"
				if setting.kind == "Bool" {
					value = "0"
				}
			}
			g.try(fmt.Sprintf("%s: %s = %s", who.name, setting.name, value), func() error {
				_, err := g.ch(g.ctx, who, "SELECT 1", setting.name, value)
				return chRejected(err, chConstraint, chReadonly)
			})
		}
		for _, name := range []string{"allow_ddl", "allow_introspection_functions"} {
			g.try(who.name+": "+name+" has its use", func() error {
				_, err := g.ch(g.ctx, who, map[string]string{"allow_ddl": "CREATE TABLE argus.squat (x Int8) ENGINE = Memory", "allow_introspection_functions": "SELECT addressToSymbol(1)"}[name], name, "1")
				return chRejected(err, who.rejections()...)
			})
		}
		g.control("a smaller bound may be asked for", func() error {
			_, err := g.ch(g.ctx, who, "SELECT 1 SETTINGS max_execution_time = 5")
			return err
		})
	}
}

// chSetting is a setting as a user has it.
type chSetting struct{ name, value, kind string }

func (g *group) chSettings(who chUser, condition string) (all []chSetting) {
	out, err := g.ch(g.ctx, who, "SELECT name, value, type FROM system.settings WHERE "+condition+" ORDER BY name")
	g.need(err)
	for line := range strings.Lines(out) {
		if f := strings.Split(strings.TrimRight(line, "\n"), "\t"); len(f) == 3 {
			all = append(all, chSetting{f[0], f[1], f[2]})
		}
	}
	return all
}

// chMay says what of the statements is a user's own work. Maintenance drops partitions, for which ClickHouse has no
// narrower grant than this.
func chMay(who chUser, sql string) bool {
	may := map[string][]string{
		"argus_replicator":  {"system.mutations ", "system.parts ", "system.processes "},
		"argus_maintenance": {"system.parts ", " DROP PARTITION ID ", " DELETE WHERE 0", "DELETE FROM "},
	}[who.user]
	return slices.ContainsFunc(may, func(part string) bool { return strings.Contains(sql, part) && !strings.Contains(sql, "orphans") })
}

// copyStatements runs, as each user, what changes or tells more than its work needs.
func (g *group) copyStatements() {
	tables := g.chColumn("SELECT name FROM system.tables WHERE database = 'argus' AND engine LIKE '%MergeTree' ORDER BY name")
	reading := []string{}
	for _, t := range tables {
		for _, form := range []string{"INSERT INTO argus.%s SELECT * FROM argus.%s LIMIT 0", "TRUNCATE TABLE argus.%s", "DROP TABLE argus.%s", "ALTER TABLE argus.%s DROP PARTITION ID 'x'", "ALTER TABLE argus.%s DELETE WHERE 0", "DELETE FROM argus.%s WHERE 0",
			"ALTER TABLE argus.%s ADD COLUMN squat Int8", "OPTIMIZE TABLE argus.%s", "RENAME TABLE argus.%s TO argus.squat", "DETACH TABLE argus.%s", "ALTER TABLE argus.%s MODIFY TTL now() + 1"} {
			reading = append(reading, strings.ReplaceAll(form, "%s", t))
		}
		if g.config.Short {
			break
		}
	}
	reading = append(reading, "CREATE TABLE argus.squat (x Int8) ENGINE = Memory", "CREATE TABLE argus.squat ENGINE = Memory AS SELECT 1 AS x", "CREATE VIEW argus.squat AS SELECT 1", "CREATE MATERIALIZED VIEW argus.squat ENGINE = Memory AS SELECT 1 AS x", "CREATE TEMPORARY TABLE squat (x Int8)",
		"ALTER TABLE argus.audit_log UPDATE status = 200 WHERE 0", "ALTER TABLE argus.audit_log FREEZE", "ALTER TABLE argus.audit_log FETCH PARTITION ID 'x' FROM '/x'", "DROP VIEW argus.audit_rollup_hours_view", "EXCHANGE TABLES argus.audit_log AND argus.audit_orphans", "KILL QUERY WHERE 1")
	server := []string{"CREATE DATABASE squat", "DROP DATABASE argus", "CREATE DATABASE squat ENGINE = PostgreSQL('127.0.0.1:1', 'd', 'u', 'p')", "CREATE DATABASE squat ENGINE = MySQL('127.0.0.1:1', 'd', 'u', 'p')", "CREATE DATABASE squat ENGINE = Filesystem('/')",
		"CREATE TABLE argus.squat (x String) ENGINE = File(CSV, '/etc/passwd')", "CREATE TABLE argus.squat (x String) ENGINE = URL('http://127.0.0.1:1', CSV)", "CREATE TABLE argus.squat (x String) ENGINE = S3('http://127.0.0.1:1/b/k', 'CSV')",
		"CREATE TABLE argus.squat (x String) ENGINE = PostgreSQL('127.0.0.1:1', 'd', 't', 'u', 'p')", "CREATE TABLE argus.squat (x String) ENGINE = Kafka('127.0.0.1:1', 't', 'g', 'CSV')", "CREATE TABLE argus.squat (x String) ENGINE = Executable('id', CSV)",
		"CREATE USER squat", "CREATE ROLE squat", "GRANT ALL ON *.* TO CURRENT_USER", "GRANT SELECT ON system.* TO argus_reader", "ALTER USER argus_reader SETTINGS readonly = 0", "DROP USER argus_reader", "CREATE QUOTA squat", "CREATE ROW POLICY squat ON argus.audit_log USING 0 TO ALL",
		"CREATE SETTINGS PROFILE squat", "SHOW CREATE USER argus_migrate", "SHOW USERS", "SHOW ACCESS", "CREATE FUNCTION squat AS x -> x", "CREATE NAMED COLLECTION squat AS a = 'b'", "CREATE DICTIONARY argus.squat (x UInt64) PRIMARY KEY x SOURCE(FILE(PATH '/etc/passwd' FORMAT 'CSV')) LIFETIME(1) LAYOUT(FLAT())",
		"BACKUP DATABASE argus TO File('/tmp/squat')", "RESTORE DATABASE argus FROM File('/tmp/squat')", "SYSTEM SHUTDOWN", "SYSTEM KILL", "SYSTEM STOP MERGES argus.audit_log", "SYSTEM STOP TTL MERGES argus.audit_log", "SYSTEM DROP MARK CACHE", "SYSTEM RELOAD CONFIG", "SYSTEM FLUSH LOGS", "SYSTEM STOP LISTEN HTTP", "SYSTEM STOP LISTEN TCP",
		"SYSTEM RELOAD USERS", "SYSTEM SYNC FILE CACHE", "SYSTEM UNFREEZE WITH NAME 'x'", "SYSTEM ENABLE FAILPOINT x", "SYSTEM JEMALLOC PURGE", "DROP TABLE system.one", "INSERT INTO system.one VALUES (1)", "ATTACH TABLE argus.squat FROM '/tmp' (x Int8) ENGINE = Memory",
		"SELECT 1 INTO OUTFILE '/tmp/squat'", "EXECUTE AS argus_migrate SELECT 1", "UNDROP TABLE argus.squat"}
	for _, table := range []string{"users", "roles", "grants", "quotas", "row_policies", "settings_profiles", "settings_profile_elements", "server_settings", "named_collections", "user_directories", "query_log", "text_log", "session_log", "crash_log", "trace_log", "part_log", "query_cache", "errors", "warnings",
		"disks", "storage_policies", "clusters", "replicas", "zookeeper", "backups", "stack_trace", "user_processes", "metrics", "events", "asynchronous_metrics", "merges", "dropped_tables", "detached_parts", "remote_data_paths", "certificates", "filesystem_cache", "kafka_consumers", "mutations", "parts", "processes"} {
		if strings.TrimSpace(strings.Join(g.chColumn("SELECT count() FROM system.tables WHERE database = 'system' AND name = '"+table+"'"), "")) == "1" {
			server = append(server, "SELECT * FROM system."+table+" LIMIT 1")
		}
	}
	for _, who := range g.chThieves() {
		all := server
		if who.user != "argus_replicator" {
			all = append(slices.Clone(server), reading...)
		}
		for _, sql := range all {
			if chMay(who, sql) {
				continue
			}
			if strings.HasPrefix(sql, "SYSTEM STOP LISTEN") && who.anonymous() && !g.chLocked(who) {
				g.record(who.name+": "+sql, errors.New("not tried, for it would end the server: a query of this user is taken")) // its start grants this
				continue
			}
			if g.chMissing(sql) {
				continue
			}
			g.try(who.name+": "+sql, func() error {
				out, err := g.ch(g.ctx, who, sql)
				if err == nil && strings.HasPrefix(sql, "SELECT * FROM system.") && strings.TrimSpace(out) == "" {
					return errors.New("it may read it, though nothing is in it")
				}
				rejections := append(who.rejections(), chEverybody...)
				if who.anonymous() {
					rejections = append(rejections, chOversized)
				}
				return chRejected(err, rejections...)
			})
		}
	}
	g.control("the reader reads the log", func() error {
		for _, who := range g.chThieves() {
			if who.user == "argus_reader" {
				_, err := g.ch(g.ctx, who, "SELECT count() FROM argus.audit_log")
				return err
			}
		}
		return errors.New("there is no argus_reader")
	})
	// Passwords.
	for _, user := range []string{"argus_migrate", "argus_reader", "argus_replicator", "default", "admin", "root"} {
		for _, password := range []string{"", "argus", "password", user, "clickhouse", "' OR 1=1", strings.Repeat("a", 1000)} {
			if user == "default" && password == "" {
				continue
			}
			g.try("log in as "+user+" with "+fmt.Sprintf("%.20q", password), func() error {
				_, err := g.ch(g.ctx, chUser{"", user, password}, "SELECT 1")
				return chRejected(err, chAuth, chUnknownUser, chWrongUser, chRequired, chTooBigAST)
			})
		}
	}
}

// chLocked reports that not even the smallest query of the user is taken.
func (g *group) chLocked(who chUser) bool {
	_, err := g.ch(g.ctx, who, "SELECT 1")
	return chRejected(err, chSessions, chAuth) == nil
}

// chMissing reports that the server does not know the statement: then even its administrator is told so.
func (g *group) chMissing(sql string) bool {
	first, _, _ := strings.Cut(sql, " ")
	if first != "SYSTEM" && first != "EXECUTE" && first != "UNDROP" {
		return false
	}
	_, err := g.ch(g.ctx, g.chAdmin(), "EXPLAIN AST "+sql)
	return err != nil
}

// copyHTTP asks ClickHouse's HTTP port what a page of a browser could: by foreign names, without a password.
func (g *group) copyHTTP() {
	base, err := g.chHTTP()
	g.need(err)
	client := &http.Client{Timeout: 5 * time.Second}
	ask := func(method, path, host string, header ...string) (int, string, http.Header, error) {
		req, err := http.NewRequestWithContext(g.ctx, method, "http://"+base.Host+path, nil)
		if err != nil {
			return 0, "", nil, err
		}
		if host != "" {
			req.Host = host
		}
		for i := 0; i+1 < len(header); i += 2 {
			req.Header.Set(header[i], header[i+1])
		}
		resp, err := client.Do(req)
		if err != nil {
			return 0, "", nil, err
		}
		defer resp.Body.Close()
		body, err := io.ReadAll(io.LimitReader(resp.Body, 1<<16))
		return resp.StatusCode, string(body), resp.Header, err
	}
	g.control("who has a password is answered", func() error {
		_, err := g.ch(g.ctx, g.chAdmin(), "SELECT 1")
		return err
	})
	result := func(path string) error {
		status, body, _, err := ask("GET", path, "")
		switch {
		case err != nil:
			return err
		case status == http.StatusOK:
			return fmt.Errorf("answered 200 %.80s", body)
		}
		return nil
	}
	for _, query := range []string{"SELECT 1", "SELECT file('/etc/hostname')", "SELECT * FROM url('http://127.0.0.1:1', CSV, 'a String')", "SELECT * FROM argus.audit_log", "SHOW TABLES", "SELECT hostName()"} {
		for _, path := range []string{"/?query=", "/?user=default&query=", "/?user=default&password=&query=", "/replicas_status?query="} {
			if strings.HasPrefix(path, "/replicas") {
				continue
			}
			g.try("GET "+path+query, func() error { return result(path + url.QueryEscape(query)) })
		}
	}
	for _, host := range []string{"evil.example", "evil.example:8123", "127.0.0.1.evil.example", "169.254.169.254", "10.0.0.1", "localhost.evil.example", "[::ffff:10.0.0.1]"} {
		g.try("as "+host, func() error {
			status, body, _, err := ask("GET", "/?query="+url.QueryEscape("SELECT 1"), host)
			if err == nil && status == http.StatusOK {
				err = fmt.Errorf("a page whose name was pointed at loopback is answered 200 %.80s", body)
			}
			return err
		})
	}
	for _, origin := range []string{"https://evil.example", "null", "http://127.0.0.1"} {
		for _, method := range []string{"GET", "OPTIONS", "POST"} {
			g.try(method+" from "+origin, func() error {
				status, _, header, err := ask(method, "/?query="+url.QueryEscape("SELECT 1")+"&add_http_cors_header=1", "", "Origin", origin, "Access-Control-Request-Method", "POST")
				if err == nil && status == http.StatusOK && method != "OPTIONS" && header.Get("Access-Control-Allow-Origin") != "" {
					err = fmt.Errorf("a page of another origin may read the answer: %s", header.Get("Access-Control-Allow-Origin"))
				}
				return err
			})
		}
	}
}
