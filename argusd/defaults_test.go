package main

import (
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/useargus/argus/internal/engines"
	"github.com/useargus/argus/internal/engines/enginetest"
)

// strangeClickHouse are defaults of every user that make an answer another one, or none.
var strangeClickHouse = map[string]string{
	"session_timezone": "Asia/Kolkata", "join_use_nulls": "1", "any_join_distinct_right_table_keys": "1", "join_default_strictness": "ANY",
	"group_by_use_nulls": "1", "aggregate_functions_null_for_empty": "1", "empty_result_for_aggregation_by_empty_set": "1", "transform_null_in": "1",
	"prefer_column_name_to_alias": "1", "distributed_product_mode": "allow", "count_distinct_implementation": "uniqHLL12", "union_default_mode": "DISTINCT",
	"enable_positional_arguments": "0", "data_type_default_nullable": "1", "cast_keep_nullable": "1", "enable_extended_results_for_datetime_functions": "1",
	"date_time_output_format": "unix_timestamp", "date_time_overflow_behavior": "throw", "final": "1", "limit": "3", "offset": "1", "extremes": "1",
	"additional_result_filter": "0", "use_query_cache": "1", "low_cardinality_allow_in_native_format": "0", "output_format_native_encode_types_in_binary_format": "1",
	"max_rows_to_read": "5", "read_overflow_mode": "break", "max_result_rows": "2", "result_overflow_mode": "break", "max_rows_to_group_by": "1",
	"group_by_overflow_mode": "any", "max_rows_to_sort": "2", "sort_overflow_mode": "break", "max_rows_in_set": "1", "set_overflow_mode": "break",
	"max_rows_in_join": "1", "join_overflow_mode": "break", "max_rows_in_distinct": "1", "distinct_overflow_mode": "break", "timeout_overflow_mode": "break",
	"max_execution_time": "0.001", "min_execution_speed": "1000000000", "max_columns_to_read": "1", "max_query_size": "100", "max_ast_elements": "5",
	"async_insert": "1", "wait_for_async_insert": "0", "insert_deduplicate": "1", "max_partitions_per_insert_block": "1", "max_partition_size_to_drop": "1",
	"force_primary_key": "1", "force_index_by_date": "1", "apply_deleted_mask": "0", "implicit_transaction": "0", "output_format_json_quote_64bit_integers": "1",
	"max_temporary_columns": "1",
}

// strangePostgres are defaults of the database and of each role.
var strangePostgres = map[string]string{
	"datestyle": "SQL, DMY", "intervalstyle": "sql_standard", "timezone": "Asia/Kolkata", "bytea_output": "escape", "extra_float_digits": "-15",
	"standard_conforming_strings": "off", "backslash_quote": "on", "array_nulls": "off", "quote_all_identifiers": "on", "transform_null_equals": "on",
	"search_path": "pg_temp, strange, pg_catalog", "row_security": "off", "default_transaction_isolation": "serializable",
	"default_transaction_read_only": "on", "default_transaction_deferrable": "on", "synchronous_commit": "off", "plan_cache_mode": "force_generic_plan",
	"client_encoding": "LATIN1", "lc_time": "C", "xmloption": "document", "idle_in_transaction_session_timeout": "1ms", "idle_session_timeout": "50ms",
	"lock_timeout": "1ms", "default_table_access_method": "heap", "check_function_bodies": "off",
}

// TestStrangeDefaults: under strange settings of a database, a role or a profile, calls are taken, copied and found, with
// right answers; and argusd check is content.
func TestStrangeDefaults(t *testing.T) {
	t.Parallel()
	for name, binDir := range map[string]string{"Postgres18": "", "Postgres15": enginetest.Postgres15()} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newSite(t, engines.PostgresConfig{BinDir: binDir}, func(c *engines.ClickHouseConfig) { c.Settings = maps.Clone(strangeClickHouse) })
			s.exec("argus", "CREATE SCHEMA strange", "GRANT USAGE ON SCHEMA strange TO PUBLIC",
				"CREATE FUNCTION strange.now() RETURNS timestamptz LANGUAGE sql AS $$ SELECT '2001-01-01'::timestamptz $$")
			settings := maps.Clone(strangePostgres)
			settings["statement_timeout"] = "1ms"
			if binDir == "" {
				settings["transaction_timeout"] = "1s" // a session states it in its first transaction, which may be slow
				settings["restrict_nonsystem_relation_kind"] = "view, foreign-table"
			}
			var statements []string
			for _, setting := range slices.Sorted(maps.Keys(settings)) {
				value := "'" + settings[setting] + "'"
				if setting == "search_path" || setting == "datestyle" {
					value = settings[setting] // a list
				}
				for _, role := range []string{"argus_api", "argus_replicator", "argus_maintenance", "argus_break_glass"} {
					statements = append(statements, fmt.Sprintf("ALTER ROLE %s IN DATABASE argus SET %s = %s", role, setting, value))
				}
				if !strings.HasSuffix(setting, "_timeout") { // which would end the test's own sessions
					statements = append(statements, fmt.Sprintf("ALTER DATABASE argus SET %s = %s", setting, value))
				}
			}
			s.exec("postgres", statements...)

			s.must(s.command("migrate")) // as the administrator, whose sessions have the database's
			s.must(s.command("break-glass", "list"))
			replicator := s.start("replicator")
			api := s.startAPI(enginetest.FreeAddress(t))
			begun := time.Now()
			c := s.callers(api.addr)
			c.make(3, 60)
			acknowledged := c.taken()
			s.compared()
			sum := oraclePostgres(t, plain(s), acknowledged)
			t.Logf("%d calls acknowledged, %d rows", len(acknowledged), sum.rows)

			// Search and performance count what Postgres has, from ClickHouse.
			until := time.Now()
			time.Sleep(20 * time.Millisecond)
			var perf struct {
				Source string
				Rows   []struct{ Count int }
			}
			window := url.Values{"since": {begun.Add(-time.Hour).UTC().Format(time.RFC3339Nano)}, "until": {until.UTC().Format(time.RFC3339Nano)}}
			s.wait("the copy answers", func() error {
				if s.get(api.addr, "/v1/perf?"+window.Encode(), &perf); !strings.HasPrefix(perf.Source, "clickhouse") {
					return fmt.Errorf("it comes from %s", perf.Source)
				}
				return nil
			})
			counted := 0
			for _, row := range perf.Rows {
				counted += row.Count
			}
			found := map[string]bool{}
			for cursor, pages := "", 0; pages < 50; pages++ {
				window.Set("limit", "50")
				window.Set("cursor", cursor)
				if cursor == "" {
					window.Del("cursor")
				}
				var page struct {
					Rows       []struct{ ID string }
					NextCursor string `json:"next_cursor"`
					Source     string
				}
				s.get(api.addr, "/v1/audit-log?"+window.Encode(), &page)
				for _, row := range page.Rows {
					found[row.ID] = true
				}
				if cursor = page.NextCursor; cursor == "" {
					break
				}
			}
			for id := range acknowledged {
				if !found[id] {
					t.Errorf("a search does not find %s", id)
				}
			}
			if counted != len(found) || counted < len(acknowledged) {
				t.Errorf("perf counts %d from %s, a search finds %d of %d", counted, perf.Source, len(found), len(acknowledged))
			}
			s.must(s.command("maintain"))
			for _, process := range []string{"api", "replicator", "maintain"} {
				command := s.command("check", process)
				for k, v := range s.env[process] {
					command.Env = append(command.Env, k+"="+v)
				}
				out, _ := command.CombinedOutput()
				for line := range strings.Lines(string(out)) {
					if strings.HasPrefix(line, "FAIL") && !strings.Contains(line, "Clerk") {
						t.Errorf("argusd check %s: %s", process, line)
					}
				}
				if !strings.Contains(string(out), "ok    Postgres: session") || !strings.Contains(string(out), "ok    ClickHouse: session") {
					t.Errorf("argusd check %s says nothing of its sessions:\n%s", process, out)
				}
			}
			if response, err := http.Get("http://" + api.addr + "/readyz"); err != nil || response.StatusCode != http.StatusOK {
				t.Error(response, err)
			}
			api.stop()
			replicator.stop()
		})
	}
}

// plain is the superuser's URL without what the database sets, for the test's own reading.
func plain(s *site) string {
	u, err := url.Parse(s.pg.SuperuserURL("argus"))
	if err != nil {
		s.t.Fatal(err)
	}
	q := u.Query()
	for name, value := range map[string]string{"datestyle": "ISO, MDY", "intervalstyle": "postgres", "client_encoding": "UTF8", "bytea_output": "hex", "standard_conforming_strings": "on", "timezone": "UTC"} {
		q.Set(name, value)
	}
	u.RawQuery = strings.ReplaceAll(q.Encode(), "+", "%20") // a parameter of a session keeps a plus
	return u.String()
}
