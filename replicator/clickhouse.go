package replicator

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/ClickHouse/ch-go"
	chproto "github.com/ClickHouse/ch-go/proto"
	clickhousego "github.com/ClickHouse/clickhouse-go/v2"

	"github.com/useargus/argus/connect"
)

// clickhouse is the ClickHouse database, on one server (see server). It is read through clickhouse-go. It is written
// through ch-go, the layer below it. Fenced inserts (see term) are INSERT … SELECT … FROM input(), which
// clickhouse-go's batches cannot express. Columns are sent from where they lie (see chcolumn.Column).
type clickhouse struct {
	options  *clickhousego.Options
	database string
	server   server
}

func openClickHouse(url string) (*clickhouse, error) {
	options, err := connect.ClickHouse(url)
	if err != nil {
		return nil, err
	}
	for _, s := range replicatorSettings {
		options.Settings[s.Key] = s.Value
	}
	if options.Protocol != clickhousego.Native {
		return nil, errors.New("the replicator speaks ClickHouse's native protocol: want clickhouse://…, port 9000 or 9440")
	}
	if len(options.Addr) > 1 {
		return nil, errors.New("the ClickHouse URL names several hosts: name one; every copy needs a replicator and a slot of its own")
	}
	if options.Auth.Database == "" {
		options.Auth.Database = "default"
	}
	if options.DialTimeout == 0 {
		options.DialTimeout = 5 * time.Second
	}
	return &clickhouse{options: options, database: options.Auth.Database}, nil
}

func (s *clickhouse) close() { s.server.forget() }

func namedString(name, value string) any { return clickhousego.Named(name, value) }

// strings reads one column of strings.
func (s *clickhouse) strings(ctx context.Context, query string, args ...any) ([]string, error) {
	var out []string
	err := s.each(ctx, func(scan func(...any) error) error {
		var v string
		err := scan(&v)
		out = append(out, v)
		return err
	}, query, args...)
	return out, err
}

// each calls f for every row of the answer.
func (s *clickhouse) each(ctx context.Context, f func(scan func(...any) error) error, query string, args ...any) error {
	rows, done, err := s.query(ctx, query, args...)
	if err != nil {
		return err
	}
	defer done()
	for rows.Next() {
		if err := f(rows.Scan); err != nil {
			return err
		}
	}
	return rows.Err()
}

func (s *clickhouse) number(ctx context.Context, query string, args ...any) (n uint64, err error) {
	err = s.each(ctx, func(scan func(...any) error) error { return scan(&n) }, query, args...)
	return n, err
}

// columns are those an insert into the table may name.
func (s *clickhouse) columns(ctx context.Context, table string) ([]chColumn, error) {
	var out []chColumn
	err := s.each(ctx, func(scan func(...any) error) error {
		var c chColumn
		err := scan(&c.name, &c.typ)
		out = append(out, c)
		return err
	}, `SELECT name, type FROM system.columns
	     WHERE database = currentDatabase() AND table = {table:String} AND default_kind IN ('', 'DEFAULT')
	     ORDER BY position`, clickhousego.Named("table", table))
	if err == nil && len(out) == 0 {
		err = fmt.Errorf("ClickHouse has no table %s.%s: run `argusd migrate`", s.database, table)
	}
	return out, err
}

// replicatorSettings are pinned on every statement, beside those of every session (package connect).
var replicatorSettings = []ch.Setting{
	{Key: "max_execution_time", Value: "0", Important: true}, // what must be bounded has a context
}

// writeSettings are pinned on every statement that writes, besides: nothing is left to the server's or the user's
// defaults, which have moved between versions.
var writeSettings = []ch.Setting{
	{Key: "async_insert", Value: "0", Important: true},
	// The source and its views in one insert, in any order; a failing view fails the insert. What is in doubt then
	// has its rollups rebuilt, whichever of them had come first.
	{Key: "parallel_view_processing", Value: "1", Important: true},
	{Key: "materialized_views_ignore_errors", Value: "0", Important: true},
	{Key: "max_insert_threads", Value: "1", Important: true},
	// A batch may touch any number of months, and of days of a rollup.
	{Key: "max_partitions_per_insert_block", Value: "0", Important: true},
	// No deduplication anywhere: a replay that ClickHouse thinks it has seen is what the doubt is about.
	{Key: "insert_deduplicate", Value: "0", Important: true},
	{Key: "deduplicate_blocks_in_dependent_materialized_views", Value: "0", Important: true},
	// Views have grouped what they insert: what is left to merge is merged in the background.
	{Key: "optimize_on_insert", Value: "0", Important: true},
	// A partition that is to be empty is replaced by an empty one; servers before 26 know no other way.
	{Key: "allow_replace_partition_from_empty_source", Value: "1"},
	// Repairs replace whole partitions and drop what they were rebuilt in, however large a month has grown.
	{Key: "max_partition_size_to_drop", Value: "0"},
	{Key: "max_table_size_to_drop", Value: "0"},
	// A client that was frozen in the middle of an insert must not hold up its successor, which waits for the
	// insert's end. KILL QUERY does not wake an insert that waits for data.
	{Key: "receive_timeout", Value: "2", Important: true},
	{Key: "poll_interval", Value: "1", Important: true},
}

// writer is a connection that writes, for one goroutine.
type writer struct {
	client *ch.Client
	prefix string // of its queries' ids
}

var queryNumber atomic.Uint64

// dialWriter opens a connection whose queries carry the prefix in their ids, to the server that is read from.
func (s *clickhouse) dialWriter(ctx context.Context, prefix string) (*writer, error) {
	settings := append(slices.Clone(replicatorSettings), writeSettings...)
	for _, pinned := range connect.ClickHouseSession() {
		settings = append(settings, ch.Setting{Key: pinned.Name, Value: pinned.Value, Important: true})
	}
	if len(s.options.Addr) == 0 {
		return nil, errors.New("the ClickHouse URL names no host")
	}
	address := s.options.Addr[0]
	o := ch.Options{
		Address: address, Database: s.database, User: s.options.Auth.Username, Password: s.options.Auth.Password,
		ClientName: "argus-replicator", Settings: settings,
		DialTimeout: s.options.DialTimeout, HandshakeTimeout: 10 * time.Second, ReadTimeout: time.Second,
		Compression: ch.CompressionLZ4,
	}
	if isLoopback(address) {
		o.Compression = ch.CompressionDisabled // it would only cost time
	}
	o.Dialer = dialer{&net.Dialer{Timeout: s.options.DialTimeout, KeepAlive: 15 * time.Second}, s.options.TLS}
	client, err := ch.Dial(ctx, o)
	if err != nil {
		return nil, fmt.Errorf("connecting to ClickHouse: %w", err)
	}
	var disk, identity chproto.ColStr
	err = client.Do(ctx, ch.Query{Body: "SELECT " + askServer + " AS identity", Result: chproto.Results{{Name: "toString(serverUUID())", Data: &disk}, {Name: "identity", Data: &identity}}})
	if err == nil && identity.Rows() != 1 {
		err = errors.New("ClickHouse does not say which server it is")
	}
	if err == nil {
		err = s.server.is(serverID{disk.Row(0), identity.Row(0)})
	}
	if err != nil {
		client.Close()
		return nil, fmt.Errorf("connecting to ClickHouse: %w", err)
	}
	return &writer{client: client, prefix: prefix}, nil
}

// dialer adds TLS by itself: ch-go's own way drops the dialer's keep-alives.
type dialer struct {
	net *net.Dialer
	tls *tls.Config
}

func (d dialer) DialContext(ctx context.Context, network, address string) (net.Conn, error) {
	if d.tls == nil {
		return d.net.DialContext(ctx, network, address)
	}
	config := d.tls
	if config.ServerName == "" {
		config = config.Clone()
		config.ServerName, _, _ = net.SplitHostPort(address)
	}
	return (&tls.Dialer{NetDialer: d.net, Config: config}).DialContext(ctx, network, address)
}

func isLoopback(address string) bool {
	host, _, err := net.SplitHostPort(address)
	ip := net.ParseIP(host)
	return err == nil && (host == "localhost" || (ip != nil && ip.IsLoopback()))
}

func (w *writer) close() { w.client.Close() }

// do runs a statement, sending input if there is any, and returns when the server has answered. An error
// leaves open whether the statement took effect, unless rejected says otherwise; the connection is of no use
// afterwards.
func (w *writer) do(ctx context.Context, timeout time.Duration, sql string, input chproto.Input, more ...ch.Setting) error {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	// ch-go looks at ctx between packets only.
	defer context.AfterFunc(ctx, func() { w.client.Close() })()
	return w.client.Do(ctx, ch.Query{
		Body: sql, QueryID: w.prefix + strconv.FormatUint(queryNumber.Add(1), 10), Input: input, Settings: more,
	})
}

// errFenced: another replicator has taken over since.
var errFenced = errors.New("another replicator has taken over")

const fencedText = "argus: fenced"

func asFenced(err error) error {
	if err != nil && strings.Contains(err.Error(), fencedText) {
		return fmt.Errorf("%w (%w)", errFenced, err)
	}
	return err
}

// literal quotes a string of ClickHouse.
func literal(s string) string {
	return "'" + strings.NewReplacer(`\`, `\\`, `'`, `\'`).Replace(s) + "'"
}

// identifier quotes a name of ClickHouse.
func identifier(s string) string {
	return "`" + strings.NewReplacer(`\`, `\\`, "`", "\\`").Replace(s) + "`"
}

// micros is the literal of a moment in microseconds since 1970.
func micros(us int64) string { return fmt.Sprintf("fromUnixTimestamp64Micro(toInt64(%d), 'UTC')", us) }
