// Package connect reads the URLs of both stores and pins what the sessions of ARGUS lean on. A database, a role or a
// profile may set other defaults than the code was written for: another order of days in dates, a limit that cuts
// answers short, a dialect. Each session itself states what is pinned here, and so outranks them all.
//
// Every connection of every process comes from this package; a test of the root package holds that.
package connect

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/ClickHouse/clickhouse-go/v2"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"
)

// ErrPostgresURL and ErrClickHouseURL: the library's own message would repeat the URL, which may hold a password.
var (
	ErrPostgresURL   = errors.New("the Postgres URL cannot be read: want postgres://role:password@host:5432/database")
	ErrClickHouseURL = errors.New("the ClickHouse URL cannot be read: want clickhouse://user:password@host:9000/database")
)

// PostgresSession is what every session on Postgres states of itself, by name. A session may state more, or another
// value where it says why.
var PostgresSession = map[string]string{
	// How values are written and read.
	"client_encoding":             "UTF8",
	"datestyle":                   "ISO, MDY",
	"intervalstyle":               "postgres",
	"timezone":                    "UTC",
	"bytea_output":                "hex",
	"extra_float_digits":          "1",
	"standard_conforming_strings": "on",
	"array_nulls":                 "on",
	"quote_all_identifiers":       "off",
	"transform_null_equals":       "off",
	// Every name of ours is qualified. Nothing of another schema is to come before the system's.
	"search_path":  "pg_catalog, pg_temp",
	"row_security": "on",
	// Transactions are as short or as long as the code says: what must be bounded has a context.
	"default_transaction_isolation":       "read committed",
	"default_transaction_read_only":       "off",
	"default_transaction_deferrable":      "off",
	"synchronous_commit":                  "on",
	"statement_timeout":                   "0",
	"lock_timeout":                        "0",
	"idle_in_transaction_session_timeout": "0",
	"idle_session_timeout":                "0",
	"plan_cache_mode":                     "auto",
	"check_function_bodies":               "on",
	"default_table_access_method":         "heap",
}

// dialTimeout bounds an attempt to connect to a host, up to its first answer, where nothing else does.
const dialTimeout = 5 * time.Second

// sinceSeventeen is what Postgres knows since version 17: an older one would not let in a session that states it.
const sinceSeventeen = "SET transaction_timeout = 0; SET restrict_nonsystem_relation_kind = ''"

// Postgres reads the URL for a single connection, which calls itself by the name of the application. Open makes it.
func Postgres(url, application string) (*pgx.ConnConfig, error) {
	config, err := pgx.ParseConfig(url)
	if err != nil {
		return nil, ErrPostgresURL
	}
	pin(&config.Config, application)
	return config, nil
}

// PostgresPool is Postgres for a pool.
func PostgresPool(url, application string) (*pgxpool.Config, error) {
	config, err := pgxpool.ParseConfig(url)
	if err != nil {
		return nil, ErrPostgresURL
	}
	pin(&config.ConnConfig.Config, application)
	config.BeforeConnect = func(ctx context.Context, c *pgx.ConnConfig) error { return Lead(ctx, &c.Config) }
	return config, nil
}

// Replication is Postgres for a connection that takes replication commands.
func Replication(url, application string) (*pgconn.Config, error) {
	config, err := pgconn.ParseConfig(url)
	if err != nil {
		return nil, ErrPostgresURL
	}
	pin(config, application)
	config.RuntimeParams["replication"] = "database"
	return config, nil
}

func pin(config *pgconn.Config, application string) {
	for name, value := range PostgresSession {
		config.RuntimeParams[name] = value
	}
	config.RuntimeParams["application_name"] = application
	// A server that takes writes is the primary, with any default of its sessions: those of the questions are
	// read-only, and target_session_attrs=read-write would turn them away.
	if asks(config, pgconn.ValidateConnectTargetSessionAttrsReadWrite) {
		config.ValidateConnect = pgconn.ValidateConnectTargetSessionAttrsPrimary
	}
	if config.ConnectTimeout == 0 { // the URL says nothing
		config.ConnectTimeout = dialTimeout
	}
	config.AfterConnect = func(ctx context.Context, conn *pgconn.PgConn) error {
		version := conn.ParameterStatus("server_version") // 18.4, 15.13 (Debian 15.13-0), 19beta1
		end := strings.IndexFunc(version, func(c rune) bool { return c < '0' || c > '9' })
		if major, err := strconv.Atoi(version[:max(end, 0)]); err == nil && major < 17 {
			return nil
		}
		if err := conn.Exec(ctx, sinceSeventeen).Close(); err != nil {
			return fmt.Errorf("pinning the session: %w", err)
		}
		return nil
	}
}

// asks tells whether target_session_attrs of the URL is the one that the library checks so.
func asks(config *pgconn.Config, how pgconn.ValidateConnectFunc) bool {
	return config.ValidateConnect != nil && reflect.ValueOf(config.ValidateConnect).Pointer() == reflect.ValueOf(how).Pointer()
}

// ClickHouseSetting is a setting of ClickHouse and the value that every session of ours gives it.
type ClickHouseSetting struct{ Name, Value string }

// ClickHouseMeaning decides what a query of ours means, or what an answer looks like on the wire.
var ClickHouseMeaning = []ClickHouseSetting{
	{"dialect", "clickhouse"},
	{"compatibility", ""},
	{"session_timezone", ""},
	{"join_use_nulls", "0"},
	{"join_default_strictness", "ALL"},
	{"any_join_distinct_right_table_keys", "0"},
	{"group_by_use_nulls", "0"},
	{"aggregate_functions_null_for_empty", "0"},
	{"empty_result_for_aggregation_by_empty_set", "0"},
	{"transform_null_in", "0"},
	{"prefer_column_name_to_alias", "0"},
	{"distributed_product_mode", "deny"},
	{"count_distinct_implementation", "uniqExact"},
	{"union_default_mode", ""},
	{"enable_positional_arguments", "1"},
	{"data_type_default_nullable", "0"},
	{"cast_keep_nullable", "0"},
	{"enable_extended_results_for_datetime_functions", "0"},
	{"date_time_input_format", "basic"},
	{"date_time_output_format", "simple"},
	{"date_time_overflow_behavior", "ignore"},
	{"final", "0"},
	{"additional_result_filter", ""},
	{"additional_table_filters", "{}"},
	{"force_primary_key", "0"},
	{"force_index_by_date", "0"},
	{"limit", "0"},
	{"offset", "0"},
	{"extremes", "0"},
	{"apply_deleted_mask", "1"},
	{"skip_unavailable_shards", "0"},
	{"distributed_group_by_no_merge", "0"},
	{"optimize_skip_unused_shards", "0"},
	{"use_hedged_requests", "0"}, // each shard is one server
	{"allow_experimental_parallel_reading_from_replicas", "0"},
	{"low_cardinality_allow_in_native_format", "1"},
	{"output_format_native_encode_types_in_binary_format", "0"},
	{"implicit_transaction", "0"},
}

// ClickHouseWhole keeps answers whole: no limit beside those that a query states, and a limit that is reached is an
// error, never the end of the answer.
var ClickHouseWhole = []ClickHouseSetting{
	{"max_rows_to_read", "0"}, {"max_bytes_to_read", "0"}, {"read_overflow_mode", "throw"},
	{"max_rows_to_read_leaf", "0"}, {"max_bytes_to_read_leaf", "0"}, {"read_overflow_mode_leaf", "throw"},
	{"max_rows_to_group_by", "0"}, {"group_by_overflow_mode", "throw"},
	{"max_rows_to_sort", "0"}, {"max_bytes_to_sort", "0"}, {"sort_overflow_mode", "throw"},
	{"max_result_rows", "0"}, {"max_result_bytes", "0"}, {"result_overflow_mode", "throw"},
	{"max_rows_in_set", "0"}, {"max_bytes_in_set", "0"}, {"set_overflow_mode", "throw"},
	{"max_rows_in_join", "0"}, {"max_bytes_in_join", "0"}, {"join_overflow_mode", "throw"},
	{"max_rows_in_distinct", "0"}, {"max_bytes_in_distinct", "0"}, {"distinct_overflow_mode", "throw"},
	{"max_rows_to_transfer", "0"}, {"max_bytes_to_transfer", "0"}, {"transfer_overflow_mode", "throw"},
	{"timeout_overflow_mode", "throw"}, {"timeout_overflow_mode_leaf", "throw"}, {"max_execution_time_leaf", "0"},
	{"max_ast_depth", "1000"}, {"max_parser_depth", "1000"},
	{"max_columns_to_read", "0"}, {"max_temporary_columns", "0"}, {"max_temporary_non_const_columns", "0"},
	{"use_query_cache", "0"},
	{"min_execution_speed", "0"}, {"min_execution_speed_bytes", "0"}, {"max_estimated_execution_time", "0"},
}

// ClickHouseStatements let through what ARGUS asks: a filter may name thousands of values. A user whose bounds are
// stated (see migrations.ClickHouseUsers) has them as the greatest.
var ClickHouseStatements = []ClickHouseSetting{
	{"max_query_size", "4194304"}, {"max_ast_elements", "200000"}, {"max_expanded_ast_elements", "500000"},
}

// ClickHouseSession is what every session on ClickHouse states, in order.
func ClickHouseSession() []ClickHouseSetting {
	return slices.Concat(ClickHouseMeaning, ClickHouseWhole, ClickHouseStatements)
}

// ClickHouseSet is the statement by which a session on the native protocol states them all, once.
func ClickHouseSet() string {
	var b strings.Builder
	for i, s := range ClickHouseSession() {
		b.WriteString(map[bool]string{true: "SET ", false: ", "}[i == 0])
		fmt.Fprintf(&b, "%s = '%s'", s.Name, s.Value)
	}
	return b.String()
}

// ClickHouse reads the URL, of either protocol. Settings that the URL itself names come after those that are pinned.
func ClickHouse(url string) (*clickhouse.Options, error) {
	options, err := clickhouse.ParseDSN(url)
	if err != nil {
		return nil, ErrClickHouseURL
	}
	for _, s := range ClickHouseSession() {
		options.Settings[s.Name] = s.Value
	}
	return options, nil
}
