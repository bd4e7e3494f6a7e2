package analytics

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"os"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/ClickHouse/ch-go"
	"github.com/ClickHouse/ch-go/proto"
	"github.com/ClickHouse/clickhouse-go/v2"
	"github.com/google/uuid"

	"github.com/useargus/argus/connect"
)

// The columns of an answer are read as the server sends them, by ch-go, the block layer of clickhouse-go. In a
// row-wise Scan, an export of a million rows or a year's latency counts would spend most of their time.

// errStalled: the server sent nothing for longer than a live one does (a running query reports its progress
// ten times a second).
var errStalled = errors.New("ClickHouse sent nothing for too long")

// errBreakerOpen: an earlier call found ClickHouse away, and the probe has not seen it back yet.
var errBreakerOpen = errors.New("ClickHouse was found away and has not come back yet")

// clickhouseClient asks one server of ClickHouse. An answer is composed on one connection, or on several to the same
// server, so that its rows and its watermark are of one copy.
type clickhouseClient struct {
	address string
	options ch.Options // without address
	tls     *tls.Config

	dialTimeout time.Duration
	stall       time.Duration // see errStalled

	shards []*clickhouseClient // the servers that share the rows, when there are several: this one asks them all

	slots  chan struct{} // as many as questions may be composed at once
	spares chan struct{} // as many as connections may be in use beside theirs

	mu   sync.Mutex
	idle []*clickhouseConn // the most recently used last
	shut bool

	down    atomic.Bool   // the breaker: set by a failed call, reset by the probe
	since   atomic.Int64  // when it was set, in Unix nanoseconds
	tripped chan struct{} // capacity 1: wakes the probe
}

// clickhouseConn is one connection, used by one goroutine at a time.
type clickhouseConn struct {
	of       *clickhouseClient
	parts    []*clickhouseConn // one to each server that shares the rows, when there are several
	is       uuid.UUID         // a part's server, by what it calls itself
	client   *ch.Client
	raw      net.Conn
	opened   time.Time   // when each server of it had answered a first statement
	cut      bool        // a context ended during a query
	used     atomic.Bool // it, or one beside it, has answered before: a failure may mean that the server has closed it meanwhile
	lastUsed time.Time
}

// sameServer reports whether both are of one server: by where they lead, since a name may have several addresses, and,
// behind a balancer, by what the server calls itself.
func (c *clickhouseConn) sameServer(o *clickhouseConn) bool {
	return c.raw.RemoteAddr().String() == o.raw.RemoteAddr().String() &&
		c.client.ServerInfo().DisplayName == o.client.ServerInfo().DisplayName &&
		slices.EqualFunc(c.parts, o.parts, (*clickhouseConn).sameServer)
}

func (c *clickhouseConn) close() {
	c.client.Close()
	for _, part := range c.parts {
		part.close()
	}
}

// broken reports whether it, or one of its parts, can ask nothing any more.
func (c *clickhouseConn) broken() bool {
	return c.cut || c.client.IsClosed() || slices.ContainsFunc(c.parts, (*clickhouseConn).broken)
}

// watchedConn fails a read that waited for longer than stall. The library sets deadlines of its own, but only
// for the beginning of a packet, and waits on when they pass: they are left out.
type watchedConn struct {
	net.Conn
	stall time.Duration
}

func (c *watchedConn) Read(b []byte) (int, error) {
	c.Conn.SetReadDeadline(time.Now().Add(c.stall))
	n, err := c.Conn.Read(b)
	if errors.Is(err, os.ErrDeadlineExceeded) {
		err = errStalled
	}
	return n, err
}

// SetReadDeadline does nothing: see watchedConn.
func (c *watchedConn) SetReadDeadline(time.Time) error { return nil }

func newClickhouseClient(url string, conns int, dialTimeout, stall time.Duration) (*clickhouseClient, error) {
	o, err := connect.ClickHouse(url)
	if err != nil {
		return nil, err
	}
	if o.Protocol != clickhouse.Native {
		return nil, errors.New("the ClickHouse URL must be of the native protocol: clickhouse://user:password@host:9000/database")
	}
	if len(o.Addr) != 1 {
		return nil, errors.New("a URL of ClickHouse names one host: each copy, and each shard of one, has a URL of its own")
	}
	c := &clickhouseClient{
		address: o.Addr[0], tls: o.TLS, dialTimeout: dialTimeout, stall: stall,
		slots: make(chan struct{}, conns), spares: make(chan struct{}, conns/2), tripped: make(chan struct{}, 1),
		options: ch.Options{
			Database: o.Auth.Database, User: o.Auth.Username, Password: o.Auth.Password, ClientName: "argus-analytics",
			// How often a wait for a packet looks at its context; not an end of the wait.
			ReadTimeout:      200 * time.Millisecond,
			HandshakeTimeout: dialTimeout,
		},
	}
	if o.Compression != nil && o.Compression.Method == clickhouse.CompressionLZ4 {
		c.options.Compression = ch.CompressionLZ4
	}
	return c, nil
}

// with calls f with a connection. A connection on which anything failed but a query that the server rejected is
// not used again. While the breaker is open it fails at once.
func (c *clickhouseClient) with(ctx context.Context, f func(*clickhouseConn) error) error {
	if c.down.Load() {
		return errBreakerOpen
	}
	select {
	case c.slots <- struct{}{}:
	case <-ctx.Done():
		return ctx.Err()
	}
	defer func() { <-c.slots }()
	for {
		conn, err := c.get(ctx)
		if err != nil {
			return c.failed(ctx, err)
		}
		err = f(conn)
		if err == nil || isRejection(err) || errors.Is(err, errOutOfTime) {
			c.put(conn)
			return err
		}
		stale := conn.used.Load()
		conn.close()
		// A server that was restarted has closed its idle connections: that says nothing about now.
		if stale && ctx.Err() == nil && !errors.Is(err, errStalled) {
			c.closeIdle()
			continue
		}
		return c.failed(ctx, err)
	}
}

// beside calls f with a further connection to the server of conn, which with gave, when one is free. Otherwise f is not
// called. A failure is the whole question's: with sees to it.
func (c *clickhouseClient) beside(ctx context.Context, conn *clickhouseConn, f func(*clickhouseConn) error) error {
	select {
	case c.spares <- struct{}{}:
	default:
		return nil
	}
	defer func() { <-c.spares }()
	spare := c.idleBeside(conn)
	if spare == nil {
		var err error
		if spare, err = c.dial(ctx); err != nil {
			return nil // conn works, and does it all
		}
		if !spare.sameServer(conn) {
			c.put(spare)
			return nil
		}
	}
	if spare.used.Load() {
		conn.used.Store(true)
	}
	err := f(spare)
	if err == nil || isRejection(err) || errors.Is(err, errOutOfTime) {
		c.put(spare)
	} else {
		spare.close()
	}
	return err
}

// idleBeside takes an idle connection to the server of conn; nil when there is none.
func (c *clickhouseClient) idleBeside(conn *clickhouseConn) *clickhouseConn {
	c.mu.Lock()
	defer c.mu.Unlock()
	for i := len(c.idle) - 1; i >= 0; i-- {
		if spare := c.idle[i]; spare.fresh() && spare.sameServer(conn) {
			c.idle = slices.Delete(c.idle, i, i+1)
			return spare
		}
	}
	return nil
}

// fresh reports whether an idle connection may be used again.
func (c *clickhouseConn) fresh() bool {
	const maxIdle = 5 * time.Minute
	return time.Since(c.lastUsed) < maxIdle && !c.broken()
}

// failed opens the breaker when err means that ClickHouse is away. The end of the caller's context does not:
// that is his affair.
func (c *clickhouseClient) failed(ctx context.Context, err error) error {
	if ctx.Err() == nil {
		c.trip()
	}
	return err
}

// setDown sets or resets the breaker, and tells what it was. It keeps the moment of the first failure.
func (c *clickhouseClient) setDown(down bool) (was bool) {
	was = c.down.Swap(down)
	if down && !was {
		c.since.Store(time.Now().UnixNano())
	}
	return was
}

// downFor is how long ClickHouse has been away.
func (c *clickhouseClient) downFor() time.Duration {
	if !c.down.Load() {
		return 0
	}
	return time.Since(time.Unix(0, c.since.Load()))
}

func (c *clickhouseClient) trip() {
	c.setDown(true)
	c.closeIdle()
	select {
	case c.tripped <- struct{}{}:
	default:
	}
}

// isRejection tells whether err is the server's answer to the query itself, after which the connection is fine.
func isRejection(err error) bool {
	var rejected *ch.Exception
	return errors.As(err, &rejected)
}

func (c *clickhouseClient) get(ctx context.Context) (*clickhouseConn, error) {
	c.mu.Lock()
	for len(c.idle) > 0 {
		conn := c.idle[len(c.idle)-1]
		c.idle = c.idle[:len(c.idle)-1]
		if conn.fresh() {
			c.mu.Unlock()
			return conn, nil
		}
		conn.close()
	}
	c.mu.Unlock()
	return c.dial(ctx)
}

func (c *clickhouseClient) put(conn *clickhouseConn) {
	conn.used.Store(true)
	conn.lastUsed = time.Now()
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.shut || conn.broken() {
		conn.close()
		return
	}
	c.idle = append(c.idle, conn)
}

func (c *clickhouseClient) dial(ctx context.Context) (*clickhouseConn, error) {
	conn, err := c.dialOne(ctx)
	if err == nil && len(c.shards) > 0 {
		err = conn.dialParts(ctx)
	}
	if err != nil {
		if conn != nil {
			conn.close()
		}
		return nil, err
	}
	conn.opened = time.Now()
	return conn, nil
}

// dialOne dials the client's own server.
func (c *clickhouseClient) dialOne(ctx context.Context) (*clickhouseConn, error) {
	ctx, cancel := context.WithTimeout(ctx, c.dialTimeout)
	defer cancel()
	raw, err := (&net.Dialer{}).DialContext(ctx, "tcp", c.address)
	if err != nil {
		return nil, err
	}
	if c.tls != nil {
		config := c.tls.Clone()
		if config.ServerName == "" {
			config.ServerName, _, _ = net.SplitHostPort(c.address)
		}
		secure := tls.Client(raw, config)
		if err := secure.HandshakeContext(ctx); err != nil {
			raw.Close()
			return nil, err
		}
		raw = secure
	}
	watched := &watchedConn{Conn: raw, stall: c.stall}
	// The library looks at the context only between packets; closing is what ends a read.
	stop := context.AfterFunc(ctx, func() { raw.Close() })
	defer stop()
	client, err := ch.Connect(ctx, watched, c.options)
	if err != nil {
		raw.Close()
		return nil, err
	}
	// Stated once for the whole session, so that queries need not.
	if err := client.Do(ctx, ch.Query{Body: connect.ClickHouseSet()}); err != nil {
		client.Close()
		return nil, fmt.Errorf("pinning the session's settings: %w", err)
	}
	return &clickhouseConn{of: c, client: client, raw: raw}, nil
}

func (c *clickhouseClient) closeIdle() {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, conn := range c.idle {
		conn.close()
	}
	c.idle = nil
}

func (c *clickhouseClient) close() {
	c.mu.Lock()
	c.shut = true
	c.mu.Unlock()
	c.closeIdle()
}

// bounds of one query, kept by the server.
type bounds struct {
	time   time.Duration
	memory int64 // bytes
	few    bool  // few rows are wanted of many: read no further ahead than needed
	all    bool  // all rows will have to be looked at: in no order, by all cores
}

func (b bounds) settings() []ch.Setting {
	s := []ch.Setting{
		{Key: "max_execution_time", Value: strconv.FormatFloat(b.time.Seconds(), 'f', 3, 64), Important: true},
		{Key: "max_memory_usage", Value: strconv.FormatInt(b.memory, 10), Important: true},
	}
	switch {
	case b.all:
		s = append(s, ch.Setting{Key: "optimize_read_in_order", Value: "0"})
	case b.few:
		s = append(s, ch.Setting{Key: "read_in_order_use_buffering", Value: "0"}, ch.Setting{Key: "max_block_size", Value: "8192"})
	}
	return s
}

// query runs a SELECT and calls block when the columns of result hold the next rows. It ends when ctx does, when
// the server has sent nothing for its client's stall, or past its bounds. The server stops working then too: it sees
// that the connection is closed.
func (c *clickhouseConn) query(ctx context.Context, q statement, b bounds, result proto.Result, block func(rows int) error) error {
	stop := context.AfterFunc(ctx, func() { c.raw.Close() })
	defer func() {
		if !stop() {
			c.cut = true
		}
	}()
	err := c.client.Do(ctx, ch.Query{
		Body: q.text, Parameters: q.params, Settings: b.settings(), Result: result,
		OnResult: func(_ context.Context, blk proto.Block) error {
			if blk.Rows == 0 {
				return nil
			}
			return block(blk.Rows)
		},
	})
	if err != nil && ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return err
}
