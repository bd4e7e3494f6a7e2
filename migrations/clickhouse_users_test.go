package migrations_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/ClickHouse/clickhouse-go/v2"

	pinned "github.com/useargus/argus/connect"
	"github.com/useargus/argus/internal/engines/enginetest"
	"github.com/useargus/argus/migrations"
)

// TestReaderKeepsItsBounds: argus_reader may move a bound within what it was given, and no other setting at all, so that
// what a later version brings is held as well.
func TestReaderKeepsItsBounds(t *testing.T) {
	ch := enginetest.NewClickHouse(t)
	reader := ch.Conn(t, ch.ReaderURL)
	user := migrations.ClickHouseUsers()[2]
	if user.Name != "argus_reader" {
		t.Fatal(user.Name)
	}
	stated := map[string]migrations.ClickHouseSetting{}
	for _, s := range user.Settings {
		stated[s.Name] = s
		if (s.Max != "") != (s.Min != "") || s.Min == "0" {
			t.Errorf("%s: a bound needs a least and a greatest value, and 0 means none: %+v", s.Name, s)
		}
	}
	var all []struct {
		Name  string `ch:"name"`
		Value string `ch:"value"`
		Type  string `ch:"type"`
	}
	if err := reader.Select(t.Context(), &all, "SELECT name, value, type FROM system.settings WHERE alias_for = ''"); err != nil || len(all) < 1000 {
		t.Fatal(len(all), err)
	}
	ask := func(name, value string) error {
		return reader.Exec(t.Context(), "SELECT 1 SETTINGS "+name+" = '"+strings.ReplaceAll(value, "'", `\'`)+"'")
	}
	tried := 0
	for _, s := range all {
		other := map[bool]string{true: "0", false: "1"}[s.Value == "1"]
		var problem error
		own, ok := stated[s.Name]
		switch {
		case ok && own.Free:
			continue
		case ok && own.Max != "":
			if problem = ask(s.Name, own.Max); problem == nil && s.Name != "max_ast_elements" { // which the question itself has more of
				problem = ask(s.Name, own.Min)
			}
			// A bound that the question itself has met is one that was taken: a busy machine needs longer than the least time.
			if met := (*clickhouse.Exception)(nil); errors.As(problem, &met) && met.Code == 159 {
				problem = nil
			}
			for _, beyond := range []string{"0", own.Max + "0"} {
				if ask(s.Name, beyond) == nil {
					t.Errorf("the reader may set %s = %s", s.Name, beyond)
				}
			}
			tried += 2
		default:
			// A value that the setting would take, so that only the constraint can reject it.
			for _, value := range []string{other, "break", "1000000", ""} {
				if value == s.Value {
					continue
				}
				if ask(s.Name, value) == nil && value != "" {
					t.Errorf("the reader may set %s (%s) from %q to %q", s.Name, s.Type, s.Value, value)
				}
				tried++
			}
		}
		if problem != nil {
			t.Errorf("%s: %v", s.Name, problem)
		}
	}
	t.Logf("%d changes of %d settings tried", tried, len(all))
	for _, sql := range []string{"SET readonly = 0", "SET readonly = 2", "SET max_execution_time = 0", "SET max_memory_usage = 0"} {
		if reader.Exec(t.Context(), sql) == nil {
			t.Errorf("the reader may %s", sql)
		}
	}
	// Another profile lifts nothing, neither of the session nor of a query.
	options, err := pinned.ClickHouse(ch.ReaderURL)
	if err != nil {
		t.Fatal(err)
	}
	options.MaxOpenConns, options.Settings = 1, nil
	session, err := clickhouse.Open(options)
	if err != nil {
		t.Fatal(err)
	}
	defer session.Close()
	session.Exec(t.Context(), "SET profile = 'default'")
	for _, sql := range []string{
		"SET max_execution_time = 0", "SET max_memory_usage = 0", "SET readonly = 0", "INSERT INTO audit_watermark (version) VALUES (7)",
		"SELECT 1 SETTINGS profile = 'default', max_execution_time = 0", "SELECT 1 SETTINGS profile = 'default', readonly = 0",
	} {
		if session.Exec(t.Context(), sql) == nil {
			t.Errorf("with another profile the reader may %s", sql)
		}
	}
	var bounds string
	if err := session.QueryRow(t.Context(), "SELECT toString((getSetting('readonly'), getSetting('max_execution_time'), getSetting('max_memory_usage')))").Scan(&bounds); err != nil || bounds != "(1,60,1073741824)" {
		t.Error(bounds, err)
	}
	// The other users' bounds have both ends as well.
	for _, u := range migrations.ClickHouseUsers()[:2] {
		for _, s := range u.Settings {
			if s.Min == "" || s.Min == "0" || s.Max == "" {
				t.Errorf("%s: %+v", u.Name, s)
			}
		}
	}
	maintenance := ch.Conn(t, ch.MaintenanceURL)
	for _, s := range []string{"max_execution_time = 0", "max_memory_usage = 0", "max_execution_time = 3601"} {
		if maintenance.Exec(t.Context(), "SELECT 1 SETTINGS "+s) == nil {
			t.Errorf("maintenance may set %s", s)
		}
	}
}

// TestMaintenanceOfTheCopy: argus_maintenance drops partitions of the tables that leave by months, and reads and writes
// nothing. What ClickHouse cannot deny it is stated in SECURITY.md, and here.
func TestMaintenanceOfTheCopy(t *testing.T) {
	ch := enginetest.NewClickHouse(t)
	admin, maintenance := ch.Conn(t, ch.MigrateURL), ch.Conn(t, ch.MaintenanceURL)
	var tables []string
	err := admin.QueryRow(t.Context(), `SELECT groupArray(name) FROM (SELECT name FROM system.tables
		WHERE database = currentDatabase() AND endsWith(engine, 'MergeTree') ORDER BY name)`).Scan(&tables)
	if err != nil || len(tables) < 10 {
		t.Fatal(tables, err)
	}
	for _, table := range tables {
		var key string
		if err := admin.QueryRow(t.Context(), "SELECT partition_key FROM system.tables WHERE database = currentDatabase() AND name = ?", table).Scan(&key); err != nil {
			t.Fatal(err)
		}
		// It knows the schema's version and, to tell a balancer, which server answers.
		readable := strings.HasPrefix(table, "argus_schema_") || table == "replicator_identity"
		expires := strings.HasPrefix(key, "toYYYYMM") && !strings.HasSuffix(table, "_orphans")
		may := func(sql string) bool {
			err := maintenance.Exec(t.Context(), sql)
			var denied *clickhouse.Exception
			return !(errors.As(err, &denied) && denied.Code == 497)
		}
		for _, sql := range []string{
			// Of these it needs the first. The others come with it: ClickHouse has one privilege for all.
			"ALTER TABLE %s DROP PARTITION ID '202001'", "ALTER TABLE %s DETACH PARTITION ID '202001'",
			"ALTER TABLE %s DELETE WHERE 0", "DELETE FROM %s WHERE 0",
		} {
			if sql = fmt.Sprintf(sql, table); may(sql) != expires {
				t.Errorf("may %v: %s", !expires, sql)
			}
		}
		for _, sql := range []string{
			"SELECT count() FROM %s", "INSERT INTO %s SELECT * FROM %[1]s", "TRUNCATE TABLE %s", "DROP TABLE %s", "DETACH TABLE %s", "OPTIMIZE TABLE %s",
			"ALTER TABLE %s ATTACH PARTITION ID '202001'", "ALTER TABLE %s REPLACE PARTITION ID '202001' FROM %[1]s",
			"ALTER TABLE %s FREEZE", "ALTER TABLE %s ADD COLUMN evil Int8", "ALTER TABLE %s MODIFY TTL now()", "ALTER TABLE %s MODIFY SETTING merge_with_ttl_timeout = 1",
			"RENAME TABLE %s TO evil", "CREATE TABLE evil AS %s", "SHOW CREATE TABLE %s", "BACKUP TABLE %s TO Null",
		} {
			if sql = fmt.Sprintf(sql, table); may(sql) && !(readable && (strings.HasPrefix(sql, "SELECT") || strings.HasPrefix(sql, "SHOW"))) && !(expires && strings.HasPrefix(sql, "SHOW")) {
				t.Errorf("maintenance may %s", sql)
			}
		}
	}
}

// outside is what no user of ours may reach: a file that everybody may read, and a server that listens.
type outside struct {
	file, address string
	called        atomic.Int64
}

func newOutside(t *testing.T) *outside {
	dir, err := os.MkdirTemp("", "argus-canary-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	o := &outside{file: filepath.Join(dir, "canary")}
	if err := errors.Join(os.Chmod(dir, 0o777), os.WriteFile(o.file, []byte(canary+"\n"), 0o666), os.Chmod(o.file, 0o666)); err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	o.address = l.Addr().String()
	server := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, canary) }),
		ConnState: func(_ net.Conn, state http.ConnState) {
			if state == http.StateNew {
				o.called.Add(1)
			}
		}}
	go server.Serve(l)
	t.Cleanup(func() { server.Close() })
	return o
}

const canary = "canary-9f31c0"

// TestClickHouseUsersStayInside tries, as each user, every function and table function that the engine has, with files
// and addresses for arguments, and the statements that read files, open connections or show what is others'. The lists
// are the engine's own: what a later version brings is tried too.
func TestClickHouseUsersStayInside(t *testing.T) {
	ch := enginetest.NewClickHouse(t)
	o := newOutside(t)
	admin := ch.Conn(t, ch.MigrateURL)
	var functions, tableFunctions []string
	if err := admin.QueryRow(t.Context(), "SELECT groupArray(name) FROM system.functions WHERE NOT is_aggregate AND alias_to = '' AND name NOT LIKE 'sleep%'").Scan(&functions); err != nil {
		t.Fatal(err)
	}
	if err := admin.QueryRow(t.Context(), "SELECT groupArray(name) FROM system.table_functions").Scan(&tableFunctions); err != nil {
		t.Fatal(err)
	}
	if !slices.Contains(functions, "file") || !slices.Contains(tableFunctions, "url") {
		t.Fatal("these are not the engine's functions")
	}
	file, url, host := "'"+o.file+"'", "'http://"+o.address+"/'", "'"+o.address+"'"
	var queries []string
	for _, f := range functions {
		for _, args := range []string{file, url, file + ", 'a'", url + ", 'a'", "'a', " + file, file + ", 'a', 'b'"} {
			queries = append(queries, "SELECT toString("+f+"("+args+"))")
		}
	}
	for _, f := range tableFunctions {
		for _, args := range []string{
			file, url, host, file + ", LineAsString", url + ", LineAsString", host + ", system.one", host + ", 'system', 'one'", host + ", 'a', 'b', 'c', 'd'",
			file + ", 'a'", "'default', " + file + ", LineAsString", "'default', " + url + ", LineAsString", url + ", 'a', 'b', 'c'", "'" + o.file + "', LineAsString, 's String'",
			"'id', LineAsString, 's String'", "'DSN=" + o.address + "', 'a', 'b'", "default, " + url, host + ", 'k', 's String'",
		} {
			queries = append(queries, "SELECT * FROM "+f+"("+args+") LIMIT 1", "INSERT INTO FUNCTION "+f+"("+args+") SELECT '"+canary+"'")
		}
	}
	for _, engine := range []string{
		"File(LineAsString, " + file + ")", "URL(" + url + ", LineAsString)", "S3(" + url + ", NOSIGN, LineAsString)", "MySQL(" + host + ", 'a', 'b', 'c', 'd')",
		"PostgreSQL(" + host + ", 'a', 'b', 'c', 'd')", "MongoDB(" + host + ", 'a', 'b', 'c', 'd')", "Redis(" + host + ")", "SQLite(" + file + ", 'a')",
		"Executable('id', LineAsString)", "ODBC('DSN=a', 'a', 'b')", "JDBC('a', 'b', 'c')", "Kafka SETTINGS kafka_broker_list = " + host + ", kafka_topic_list = 'a', kafka_group_name = 'a', kafka_format = 'LineAsString'",
		"RabbitMQ SETTINGS rabbitmq_host_port = " + host + ", rabbitmq_exchange_name = 'a', rabbitmq_format = 'LineAsString'", "NATS SETTINGS nats_url = " + host + ", nats_subjects = 'a', nats_format = 'LineAsString'",
		"HDFS('hdfs://" + o.address + "/a', LineAsString)", "AzureBlobStorage(" + url + ", 'a', 'b', 'c', 'd', LineAsString)", "Distributed('default', 'system', 'one')",
		"Iceberg(" + url + ")", "DeltaLake(" + url + ")", "Hudi(" + url + ")", "EmbeddedRocksDB() PRIMARY KEY s", "Log", "Memory", "Join(ANY, LEFT, s)", "Set", "Buffer('system', 'one', 1, 1, 1, 1, 1, 1, 1)", "Merge('system', '.*')",
	} {
		queries = append(queries, "CREATE TABLE outside_{n} (s String) ENGINE = "+engine, "CREATE TEMPORARY TABLE outside_{n} (s String) ENGINE = "+engine)
	}
	queries = append(queries,
		"SELECT * FROM system.zookeeper WHERE path = '/'", "SELECT s FROM (SELECT 1 AS s) INTO OUTFILE "+file,
		"BACKUP DATABASE system TO File("+file+")", "BACKUP TABLE audit_log TO Disk('default', 'x')", "BACKUP TABLE audit_log TO S3("+url+")", "RESTORE TABLE audit_log FROM File("+file+")",
		"CREATE DICTIONARY outside_{n} (k UInt64, v String) PRIMARY KEY k SOURCE(FILE(path "+file+" format 'LineAsString')) LAYOUT(FLAT()) LIFETIME(0)",
		"CREATE DICTIONARY outside_{n} (k UInt64, v String) PRIMARY KEY k SOURCE(HTTP(url "+url+" format 'LineAsString')) LAYOUT(FLAT()) LIFETIME(0)",
		"CREATE FUNCTION outside_{n} AS (x) -> file(x)", "CREATE NAMED COLLECTION outside_{n} AS url = "+url, "CREATE DATABASE outside_{n} ENGINE = PostgreSQL("+host+", 'a', 'b', 'c')",
		"CREATE DATABASE outside_{n}", "ATTACH TABLE outside_{n} FROM "+file+" (s String) ENGINE = File(LineAsString)", "CREATE USER outside_{n}", "GRANT SELECT ON *.* TO argus_reader",
		"SYSTEM SHUTDOWN", "SYSTEM STOP MERGES audit_log", "SYSTEM STOP TTL MERGES audit_log", "SYSTEM UNFREEZE WITH NAME 'x'", "SYSTEM UNLOAD PRIMARY KEY audit_log", "SYSTEM FLUSH LOGS", "SYSTEM RELOAD CONFIG", "SYSTEM DROP MARK CACHE", "SYSTEM STOP LISTEN TCP", "EXECUTE AS argus_migrate SELECT 1",
		"CREATE WORKLOAD outside_{n}", "CREATE RESOURCE outside_{n} (READ ANY DISK)", "DESCRIBE TABLE file("+file+", LineAsString)", "DESCRIBE TABLE url("+url+", LineAsString)",
	)
	users := map[string]string{"argus_reader": ch.ReaderURL, "argus_maintenance": ch.MaintenanceURL, "argus_replicator": ch.ReplicatorURL}
	for name, address := range users {
		t.Run(name, func(t *testing.T) { stayInside(t, o, name, address, queries) })
		if n := o.called.Load(); n > 0 {
			t.Fatalf("%s opened %d connections", name, n)
		}
	}
	if b, err := os.ReadFile(o.file); err != nil || string(b) != canary+"\n" {
		t.Errorf("the file was changed: %q, %v", b, err)
	}
	if left, err := filepath.Glob(filepath.Join(filepath.Dir(o.file), "*")); err != nil || len(left) != 1 {
		t.Errorf("files were made: %v, %v", left, err)
	}
}

// TestClickHouseSystemTables: of the engine's own tables our users read those that describe the engine and what is
// theirs. None shows another's queries, users, settings of the server or passwords.
func TestClickHouseSystemTables(t *testing.T) {
	ch := enginetest.NewClickHouse(t)
	described := strings.Fields(`aggregate_function_combinators collations columns completions contributors current_roles data_type_families
		database_engines databases dictionary_layouts disk_types enabled_roles formats functions licenses one privileges quota_usage settings
		table_engines table_functions tables time_zones`)
	var tables []string
	if err := ch.Conn(t, ch.MigrateURL).QueryRow(t.Context(), "SELECT groupArray(name) FROM system.tables WHERE database = 'system'").Scan(&tables); err != nil {
		t.Fatal(err)
	}
	for name, more := range map[string]struct {
		url  string
		more []string
	}{
		"argus_reader":      {ch.ReaderURL, nil},
		"argus_maintenance": {ch.MaintenanceURL, []string{"parts"}},
		"argus_replicator":  {ch.ReplicatorURL, []string{"parts", "processes", "mutations"}},
	} {
		conn := ch.Conn(t, more.url)
		for _, table := range tables {
			if _, err := ask(conn, "SELECT toString(count()) FROM system."+table); err == nil && !slices.Contains(described, table) && !slices.Contains(more.more, table) {
				t.Errorf("%s reads system.%s", name, table)
			}
		}
		for _, sql := range []string{"SHOW PROCESSLIST", "SHOW USERS", "SHOW CREATE USER argus_migrate", "SHOW CREATE USER argus_replicator", "SHOW ACCESS", "KILL QUERY WHERE user = 'argus_migrate' SYNC"} {
			if err := conn.Exec(t.Context(), sql); err == nil && name != "argus_replicator" {
				t.Errorf("%s may %s", name, sql)
			}
		}
	}
}

// harmless are statements that a user may run: they stay inside.
var harmless = map[string][]string{
	"argus_replicator": {"CREATE TABLE", "CREATE TEMPORARY TABLE"}, // of engines that it may name; see below
}

func stayInside(t *testing.T, o *outside, name, address string, queries []string) {
	options, err := pinned.ClickHouse(address)
	if err != nil {
		t.Fatal(err)
	}
	options.MaxOpenConns, options.MaxIdleConns = 8, 8
	conn, err := clickhouse.Open(options)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	work := make(chan string)
	var workers sync.WaitGroup
	var done atomic.Int64
	for range 8 {
		workers.Go(func() {
			for sql := range work {
				n := done.Add(1)
				sql = strings.ReplaceAll(sql, "{n}", fmt.Sprint(n))
				answer, err := ask(conn, sql)
				if strings.Contains(answer, canary) && !strings.HasPrefix(sql, "INSERT") {
					t.Errorf("%s reads: %s", name, sql)
				}
				if err != nil || strings.HasPrefix(sql, "SELECT") {
					continue
				}
				if strings.HasPrefix(sql, "INSERT INTO FUNCTION null(") {
					continue
				}
				outward := strings.Contains(sql, o.file) || strings.Contains(sql, o.address)
				allowed := slices.ContainsFunc(harmless[name], func(prefix string) bool { return strings.HasPrefix(sql, prefix) })
				if !allowed || outward {
					t.Errorf("%s may: %s", name, sql)
				}
			}
		})
	}
	for _, sql := range queries {
		work <- sql
	}
	close(work)
	workers.Wait()
	t.Logf("%d statements", done.Load())
}

// ask returns the first values of the answer, and its error.
func ask(conn clickhouse.Conn, sql string) (string, error) {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	if !strings.HasPrefix(sql, "SELECT") {
		return "", conn.Exec(ctx, sql)
	}
	rows, err := conn.Query(ctx, sql)
	if err != nil {
		return err.Error()[:0], err
	}
	defer rows.Close()
	var b strings.Builder
	for n := 0; rows.Next() && n < 3; n++ {
		var text string
		if err := rows.Scan(&text); err != nil {
			continue
		}
		b.WriteString(text)
	}
	return b.String(), rows.Err()
}
